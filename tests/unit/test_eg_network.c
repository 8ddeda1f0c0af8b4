/* NWK commands: link status, routes, address conflicts, and what is only taken in; and the one allocator of counters. The
 * devices are played with zigbee.h. */
#include "mef-plugin/eg/records.h"
#include "tests/unit/eg_fixture.h"

enum { OTHER = 0x2222, SLEEPY = 0x80, ROUTER = 0x8e };

/* A NWK frame of a device, as the gateway heard it from this neighbour. */
static void heard_by(struct world *w, const struct first_key *k, eui64_t device, uint16_t src, uint16_t dst, uint32_t counter,
                     uint16_t hop, uint8_t lqi, bool command, struct span payload)
{
    struct zb_nwk h = {.fcf = (uint16_t)((command ? 0x0209 : 0x0208) | ZB_FCF_SRC64), .dst = dst, .src = src, .radius = 1,
                       .seq = (uint8_t)counter, .has_src64 = true, .src64 = device};
    uint8_t buf[ZB_NWK_MAX];
    struct wr out = wr_of(buf, sizeof buf);
    assert_int_equal(zb_nwk_seal(w->crypto, k->key, &h, counter, device, 0, payload, &out), ZB_OK);
    struct egp_message m = {.env = {EGP_VERSION, EGP_UPLINK, 77, GW, 0, EGP_TO_EG, 15, -50}};
    struct call c;
    m.u.frame = (struct egp_frame){.hop = hop, .lqi = lqi, .nwk_frame = wr_span(&out)};
    send_message(w, &m, &c);
}

static void announce(struct world *w, const struct first_key *k, eui64_t device, uint32_t counter, uint16_t address,
                     uint8_t capability)
{
    uint8_t buf[32];
    struct wr a = wr_of(buf, sizeof buf);
    zb_aps_build(&a, &(struct zb_aps){.fcf = 2 << 2, .cluster = ZB_ZDP_DEVICE_ANNCE, .counter = (uint8_t)counter});
    wr_u8(&a, 1);
    wr_le16(&a, address);
    wr_le64(&a, device);
    wr_u8(&a, capability);
    heard_by(w, k, device, address, 0xfffd, counter, address, 200, false, wr_span(&a));
}

static void greet(struct world *w)
{
    struct egp_message hello = {.env = {EGP_VERSION, EGP_HELLO, 1, GW, 0, EGP_TO_EG, 0, 0}};
    struct call c;
    hello.u.hello = (struct egp_hello){PAN, 15, 1, 0};
    send_message(w, &hello, &c);
}

static uint16_t address_of(struct world *w, eui64_t device)
{
    cJSON *o = eg_device_get(w->eg, ADMIN, device);
    uint16_t address = (uint16_t)cJSON_GetObjectItem(o, "nwkAddress")->valueint;
    cJSON_Delete(o);
    return address;
}

/* The commands that the EG sent since `from`, of those that open under the key. */
struct sent_command {
    struct zb_nwk nwk;
    struct zb_nwk_cmd cmd;
    uint16_t hop;
    bool indirect;
    uint8_t plain[ZB_NWK_MAX];
    size_t n;
};

static size_t commands_since(struct world *w, size_t from, const struct first_key *k, struct sent_command *out, size_t max)
{
    size_t n = 0;
    for (size_t i = from; i < w->h.nsent && n < max; i++) {
        struct egp_message m;
        struct zb_aux aux;
        struct wr plain = wr_of(out[n].plain, ZB_NWK_MAX);
        assert_null(egp_decode(span_of(w->h.sent[i].body, w->h.sent[i].n), &m));
        if (m.env.type != EGP_DOWNLINK ||
            zb_nwk_open(w->crypto, k->key, m.u.frame.nwk_frame, &out[n].nwk, &aux, &plain) != ZB_OK ||
            (out[n].nwk.fcf & ZB_FCF_TYPE) != ZB_NWK_COMMAND)
            continue;
        assert_int_equal(aux.src64, GW);
        assert_int_equal(zb_nwk_cmd_parse(wr_span(&plain), &out[n].cmd), ZB_OK);
        out[n].hop = m.u.frame.hop;
        out[n].indirect = m.u.frame.indirect;
        out[n++].n = plain.n;
    }
    return n;
}

/* --- link status -------------------------------------------------------------------------------------------------- */

static void link_status(struct world *w, const struct first_key *k, eui64_t device, uint16_t src, uint32_t counter, uint16_t hop,
                        uint8_t lqi)
{
    static const uint8_t command[] = {0x08, 0x62, 0x00, 0x00, 0x13, 0x77, 0x77, 0x11}; /* it hears us at cost 3 */
    heard_by(w, k, device, src, 0xfffc, counter, hop, lqi, true, span_of(command, sizeof command));
}

static void routers_are_told_how_they_are_heard(void **state)
{
    struct world *w = *state;
    struct sent_command s[4];
    struct first_key k = enrol(w, DEV, 1), k2 = enrol(w, DEV2, 2);
    announce(w, &k, DEV, 6, SHORT, ROUTER);
    announce(w, &k2, DEV2, 6, OTHER, ROUTER);
    pass(w, 20000);
    size_t from = w->h.nsent;
    link_status(w, &k, DEV, SHORT, 7, SHORT, 255);
    link_status(w, &k2, DEV2, OTHER, 7, OTHER, 90);
    assert_int_equal(w->h.nsent, from);
    pass(w, 1000);
    static const uint8_t first[] = {0x08, 0x61, 0x2e, 0x1f, 0x31}, second[] = {0x08, 0x61, 0x22, 0x22, 0x35};
    assert_int_equal(commands_since(w, from, &k, s, 4), 1);
    assert_true(span_eq(span_of(s[0].plain, s[0].n), span_of(first, sizeof first)));
    assert_true(s[0].nwk.dst == 0xfffc && s[0].nwk.src == 0 && s[0].nwk.radius == 1 && !s[0].nwk.has_dst64 &&
                s[0].nwk.src64 == GW && s[0].hop == SHORT && !s[0].indirect);
    assert_int_equal(commands_since(w, from, &k2, s, 4), 1); /* each learns of its own key's routers only */
    assert_true(span_eq(span_of(s[0].plain, s[0].n), span_of(second, sizeof second)));
    w->h.nsent = from = 0;
    pass(w, 15000);
    assert_int_equal(commands_since(w, from, &k, s, 4), 1);
    link_status(w, &k, DEV, SHORT, 8, SHORT, 255);
    pass(w, 30000);
    assert_int_equal(commands_since(w, from, &k, s, 4), 3);
    assert_int_equal(commands_since(w, from, &k2, s, 4), 2); /* silent for three periods */
    w->h.nsent = 0;
    pass(w, 120000);
    assert_int_equal(commands_since(w, 0, &k, s, 4), 1);
    link_status(w, &k, DEV, SHORT, 9, SHORT, 255); /* and back */
    w->h.nsent = 0;
    pass(w, 1000);
    assert_int_equal(commands_since(w, 0, &k, s, 4), 1);
    assert_int_equal(act(w, DEV, "revoke"), ST_OK);
    w->h.nsent = 0;
    pass(w, 60000);
    assert_int_equal(commands_since(w, 0, &k, s, 4), 0);
}

static void only_neighbours_that_are_routers_are_told(void **state)
{
    struct world *w = *state;
    struct first_key k = enrol(w, DEV, 1);
    size_t from = w->h.nsent;
    link_status(w, &k, DEV, SHORT, 6, SHORT, 255); /* an end device */
    announce(w, &k, DEV, 7, SHORT, ROUTER);
    link_status(w, &k, DEV, SHORT, 8, OTHER, 255); /* somebody passed it on */
    heard_by(w, &k, DEV, SHORT, 0xfffc, 9, SHORT, 255, true, span_of("\x08\x62\x00\x00\x13", 5)); /* cut short */
    pass(w, 60000);
    struct sent_command s[1];
    assert_int_equal(commands_since(w, from, &k, s, 1), 0);
}

/* --- routes ------------------------------------------------------------------------------------------------------- */

static void a_route_to_the_coordinator_ends_there(void **state)
{
    struct world *w = *state;
    struct first_key k = enrol(w, DEV, 1);
    struct sent_command s[2];
    static const struct {
        uint8_t n, request[16];
        bool answered;
    } cases[] = {
        {6, {0x01, 0x00, 0x42, 0x00, 0x00, 0x02}, true},
        {14, {0x01, 0x20, 0x42, 0x00, 0x00, 0x02, 0xc3, 0xb2, 0xa1, 0x1c, 0x00, 0x4b, 0x12, 0x00}, true},
        {6, {0x01, 0x00, 0x42, 0x2e, 0x1f, 0x02}, true}, /* our child; it is the only one that has this key */
        {6, {0x01, 0x08, 0x42, 0x00, 0x00, 0x02}, false}, /* many to one: routes to the asker */
        {6, {0x01, 0x18, 0x42, 0xfc, 0xff, 0x02}, false},
        {6, {0x01, 0x00, 0x42, 0x22, 0x22, 0x02}, false}, /* of another key */
        {5, {0x01, 0x00, 0x42, 0x00, 0x00}, false},
        {6, {0x01, 0x20, 0x42, 0x00, 0x00, 0x02}, false},
    };
    struct first_key k2 = enrol(w, DEV2, 2);
    announce(w, &k2, DEV2, 6, OTHER, SLEEPY);
    pass(w, 10000);
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t from = w->h.nsent;
        heard_by(w, &k, DEV, SHORT, 0xfffc, 6 + i, SHORT, 255, true, span_of(cases[i].request, cases[i].n));
        assert_int_equal(commands_since(w, from, &k, s, 2), cases[i].answered);
        w->h.nsent = from;
        if (!cases[i].answered)
            continue;
        const struct zb_nwk_cmd *c = &s[0].cmd;
        assert_true(c->id == ZB_NWK_ROUTE_REPLY && c->options == 0x30 && c->route_id == 0x42 && c->originator == SHORT &&
                    c->originator64 == DEV && c->responder == (i == 2 ? SHORT : 0) && c->responder64 == (i == 2 ? DEV : GW));
        assert_true(s[0].nwk.dst == SHORT && s[0].nwk.dst64 == DEV && s[0].nwk.radius == 30 && s[0].hop == SHORT);
    }
    /* it came by a neighbour: the reply goes back there, at once */
    size_t from = w->h.nsent;
    heard_by(w, &k, DEV, SHORT, 0xfffc, 30, 0x3333, 255, true, span_of(cases[0].request, 6));
    assert_int_equal(commands_since(w, from, &k, s, 2), 1);
    assert_true(s[0].nwk.dst == 0x3333 && !s[0].nwk.has_dst64 && s[0].hop == 0x3333 && !s[0].indirect);
}

/* None of it is an error, and none of it changes anything. */
static void other_commands_are_taken_in(void **state)
{
    struct world *w = *state;
    struct first_key k = enrol(w, DEV, 1);
    static const struct {
        uint16_t dst;
        uint8_t n, command[16];
    } cases[] = {
        {0, 8, {0x02, 0x00, 1, 0x2e, 0x1f, 0, 0, 1}},             /* route reply */
        {0, 4, {0x03, 0x00, 0x22, 0x22}},                         /* network status: no route */
        {0xfffd, 4, {0x03, 0x0d, 0x2e, 0x1f}},                    /* address conflict, says somebody */
        {0, 2, {0x03, 0x0b}},
        {0, 6, {0x05, 2, 0x11, 0x11, 0x22, 0x22}},                /* route record */
        {0, 3, {0x05, 9, 0x11}},
        {0, 4, {0x07, 0x22, 0x22, 0}},                            /* a rejoin response to us */
        {0, 12, {0x09, 0x01, 1, 2, 3, 4, 5, 6, 7, 8, 0xff, 0xff}},/* network report: PAN id conflict */
        {0xffff, 12, {0x0a, 0x01, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0}}, /* network update: another PAN id */
        {0, 3, {0x0c, 0, 1}},
        {0xfffc, 5, {0x0d, 1, 0x22, 0x22, 0}},                    /* link power delta */
        {0, 3, {0x0e, 0, 0x8e}},                                  /* commissioning request */
        {0, 1, {0xee}},
        {0, 0, {0}},
        {0x2222, 2, {0x04, 0x00}},                                /* a leave, but to another device */
    };
    size_t from = w->h.nsent;
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        heard_by(w, &k, DEV, SHORT, cases[i].dst, 6 + i, SHORT, 255, true, span_of(cases[i].command, cases[i].n));
    pass(w, 60000);
    assert_int_equal(w->h.nsent, from);
    expect_device(w, DEV, "enrolled", NULL);
    assert_int_equal(address_of(w, DEV), SHORT);
}

/* --- address conflicts -------------------------------------------------------------------------------------------- */

static void a_second_owner_of_an_address_gets_another(void **state)
{
    struct world *w = *state;
    struct sent_command s[4];
    struct first_key k = enrol(w, DEV, 1);
    struct call c;
    /* a claim conflicts with nothing */
    size_t from = w->h.nsent;
    assert_int_equal(put_code(w, DEV2, A_CODE), ST_CREATED);
    assert_int_equal(ask(w, GW, DEV2, 2, &c), EGP_OK);
    struct first_key k2 = learn(w, &c, CODE_KEY);
    pass(w, 1000);
    assert_int_equal(metric(w, "eg_address_conflicts_total"), 0);
    /* proved: it is told, under its own key, and DEV is not */
    announce(w, &k2, DEV2, 3, SHORT, SLEEPY);
    assert_int_equal(metric(w, "eg_address_conflicts_total"), 1);
    assert_int_equal(commands_since(w, from, &k2, s, 4), 1);
    uint16_t given = s[0].cmd.address;
    assert_true(s[0].cmd.id == ZB_NWK_REJOIN_RESPONSE && s[0].cmd.status == 0 && s[0].nwk.dst == SHORT &&
                s[0].nwk.dst64 == DEV2 && s[0].indirect);
    assert_true(given != SHORT && given != 0 && given < 0xfff8);
    assert_int_equal(commands_since(w, from, &k, s, 4), 0);
    announce(w, &k2, DEV2, 4, given, SLEEPY);
    assert_int_equal(address_of(w, DEV2), given);
    assert_int_equal(address_of(w, DEV), SHORT);
    assert_int_equal(metric(w, "eg_address_conflicts_total"), 1);
    /* also after a restart, and a router finds one itself */
    reopen(w);
    greet(w);
    from = w->h.nsent;
    announce(w, &k2, DEV2, 40, SHORT, ROUTER);
    assert_int_equal(commands_since(w, from, &k2, s, 4), 1);
    assert_true(s[0].cmd.id == ZB_NWK_STATUS && s[0].cmd.status == 0x0d && s[0].cmd.address == SHORT &&
                s[0].nwk.dst == 0xfffd && s[0].nwk.radius == 30 && s[0].hop == SHORT);
    /* what leaves makes room */
    heard_by(w, &k, DEV, SHORT, 0, 40, SHORT, 255, true, span_of("\x04\x00", 2));
    expect_device(w, DEV, "registered", "left");
    from = w->h.nsent;
    announce(w, &k2, DEV2, 41, SHORT, SLEEPY);
    assert_int_equal(commands_since(w, from, &k2, s, 4), 0);
}

/* An address says nothing at another gateway; the coordinator's own is nobody's. */
static void what_is_no_conflict(void **state)
{
    struct world *w = *state;
    struct first_key k = enrol(w, DEV, 1);
    uint64_t before = metric(w, "eg_address_conflicts_total");
    struct call c;
    assert_int_equal(put_code(w, DEV2, A_CODE), ST_CREATED);
    assert_int_equal(ask(w, GW2, DEV2, 2, &c), EGP_OK);
    struct first_key k2 = learn(w, &c, CODE_KEY);
    struct frame_bytes f = reading(w, k2.key, DEV2, 3);
    uplink(w, GW2, &f);
    expect_device(w, DEV2, "joining", NULL);
    announce(w, &k, DEV, 6, SHORT, SLEEPY);
    announce(w, &k, DEV, 7, 0x0000, SLEEPY);
    announce(w, &k, DEV, 8, 0xfffe, SLEEPY);
    assert_int_equal(address_of(w, DEV), SHORT);
    assert_int_equal(metric(w, "eg_address_conflicts_total"), before);
}

/* --- a key domain of several devices ------------------------------------------------------------------------------ */

struct rows {
    struct device_row row[2]; /* of DEV and DEV2 */
};

static bool find_rows(void *user, struct span key, struct span val)
{
    struct rows *x = user;
    struct rd r = rd_of(key);
    eui64_t eui = 0;
    assert_true(rd_be64(&r, &eui) && (eui == DEV || eui == DEV2));
    assert_true(device_decode(val, &x->row[eui == DEV2]));
    return true;
}

/* Two enrolled devices, DEV2 at address OTHER; from now on it has DEV's key. */
static struct first_key share(struct world *w, uint8_t capability, uint8_t capability2)
{
    uint8_t kb[8], vb[8192];
    struct first_key k = enrol(w, DEV, 1), k2 = enrol(w, DEV2, 2);
    struct rows x = {0};
    announce(w, &k, DEV, 6, SHORT, capability);
    announce(w, &k2, DEV2, 6, OTHER, capability2);
    settle(w);
    world_close(w);
    w->store = must_open(w->f);
    assert_int_equal(store_each(w->store, STORE_DEVICE, find_rows, &x), ST_OK);
    x.row[1].current.network_key = x.row[0].current.network_key;
    struct wr key = wr_of(kb, sizeof kb), val = wr_of(vb, sizeof vb);
    wr_be64(&key, DEV2);
    device_encode(&x.row[1], &val);
    struct store_txn *t = store_begin(w->store);
    store_put(t, STORE_DEVICE, wr_span(&key), wr_span(&val));
    store_commit(t, NULL, NULL);
    store_flush(w->store);
    store_close(w->store);
    loop_drain(&w->f->loop);
    device_row_free(&x.row[0]);
    device_row_free(&x.row[1]);
    memset(w->h.timers, 0, sizeof w->h.timers);
    w->h.nsent = 0;
    world_open(w);
    greet(w);
    return k;
}

static void routers_of_one_key_learn_of_each_other(void **state)
{
    struct world *w = *state;
    struct sent_command s[4];
    struct first_key k = share(w, ROUTER, ROUTER);
    w->h.nsent = 0;
    link_status(w, &k, DEV2, OTHER, 100, OTHER, 90);
    link_status(w, &k, DEV, SHORT, 100, SHORT, 255);
    pass(w, 1000);
    static const uint8_t both[] = {0x08, 0x62, 0x2e, 0x1f, 0x31, 0x22, 0x22, 0x35}; /* in the order of their addresses */
    assert_int_equal(commands_since(w, 0, &k, s, 4), 1);
    assert_true(span_eq(span_of(s[0].plain, s[0].n), span_of(both, sizeof both)));
    /* Mgmt_Lqi: the asker and the other */
    struct frame_bytes f = zdp(w, &k, 101, 0, 0, 0x0031, span_of("\1\0", 2));
    uint8_t buf[ZB_NWK_MAX];
    struct wr plain = wr_of(buf, sizeof buf);
    struct zb_nwk nwk;
    struct zb_aps aps;
    uplink(w, GW, &f);
    assert_true(newest_downlink(w, 0, k.key, &nwk, &plain) && zb_aps_parse(wr_span(&plain), &aps) == ZB_OK);
    assert_true(aps.cluster == 0x8031 && aps.payload.n == 5 + 2 * 22 && aps.payload.p[2] == 2 && aps.payload.p[5 + 22 + 21] == 90);
}

static void what_goes_from_device_to_device_is_passed_on(void **state)
{
    struct world *w = *state;
    struct sent_command s[2];
    struct first_key k = share(w, ROUTER, SLEEPY);
    /* a route to a child of ours, and a frame on it */
    w->h.nsent = 0;
    heard_by(w, &k, DEV, SHORT, 0xfffc, 100, SHORT, 255, true, span_of("\x01\x00\x42\x22\x22\x00", 6));
    assert_int_equal(commands_since(w, 0, &k, s, 2), 1);
    assert_true(s[0].cmd.id == ZB_NWK_ROUTE_REPLY && s[0].cmd.responder == OTHER && s[0].cmd.responder64 == DEV2);
    static const struct {
        uint16_t dst;
        uint8_t radius;
        uint16_t fcf;
        bool passed;
    } cases[] = {{OTHER, 5, 0x0208, true}, {OTHER, 1, 0x0208, false}, {0x3333, 5, 0x0208, false}, {SHORT, 5, 0x0208, false},
                 {OTHER, 5, 0x0608, false}, {OTHER, 5, 0x1248, true}};
    uint32_t last = 0;
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct zb_nwk h = {.fcf = cases[i].fcf, .dst = cases[i].dst, .src = SHORT, .radius = cases[i].radius, .seq = 0x99, .src64 = DEV,
                           .has_src64 = (cases[i].fcf & ZB_FCF_SRC64) != 0, .nrelays = 0}, got;
        struct frame_bytes f = {.n = 0};
        struct wr out = wr_of(f.p, sizeof f.p), plain;
        uint8_t buf[ZB_NWK_MAX];
        static const uint8_t on[] = {0x00, 1, 6, 0, 4, 1, 1, 42, 1, 7, 1};
        assert_int_equal(zb_nwk_seal(w->crypto, k.key, &h, 101 + i, DEV, 0, span_of(on, sizeof on), &out), ZB_OK);
        f.n = out.n;
        w->h.nsent = 0;
        uplink(w, GW, &f);
        plain = wr_of(buf, sizeof buf);
        assert_int_equal(newest_downlink(w, 0, k.key, &got, &plain), cases[i].passed);
        if (!cases[i].passed)
            continue;
        struct egp_message m;
        struct zb_aux aux;
        assert_null(egp_decode(span_of(w->h.sent[0].body, w->h.sent[0].n), &m));
        struct rd r = rd_of(got.payload);
        assert_int_equal(zb_aux_parse(&r, &aux), ZB_OK);
        assert_true(m.u.frame.hop == OTHER && m.u.frame.indirect);
        assert_true(got.src == SHORT && got.dst == OTHER && got.radius == 4 && got.seq == 0x99 && got.fcf == cases[i].fcf);
        assert_true(span_eq(wr_span(&plain), span_of(on, sizeof on)) && aux.src64 == GW && aux.counter > last);
        last = aux.counter;
        /* sealed anew, it is still that frame */
        struct egp_message stale = {.env = {EGP_VERSION, EGP_STALE, m.env.transaction, GW, DEV2, EGP_TO_EG, 15, 0}};
        struct call c;
        w->h.nsent = 0;
        send_message(w, &stale, &c);
        plain = wr_of(buf, sizeof buf);
        assert_true(newest_downlink(w, 0, k.key, &got, &plain));
        assert_true(got.src == SHORT && got.seq == 0x99 && span_eq(wr_span(&plain), span_of(on, sizeof on)));
        last++;
    }
    assert_int_equal(metric(w, "eg_device_frames_passed_on_total"), 2);
}

static void nothing_passes_between_keys(void **state)
{
    struct world *w = *state;
    struct first_key k = enrol(w, DEV, 1), k2 = enrol(w, DEV2, 2);
    announce(w, &k2, DEV2, 6, OTHER, SLEEPY);
    struct zb_aps a = {.dst_endpoint = 1, .profile = 0x0104, .cluster = 6, .src_endpoint = 1};
    struct frame_bytes f = seal_aps(w, k.key, DEV, SHORT, OTHER, 6, &a, span_of("\1\7\1", 3));
    size_t from = w->h.nsent;
    uplink(w, GW, &f);
    assert_int_equal(w->h.nsent, from);
    assert_int_equal(metric(w, "eg_device_frames_passed_on_total"), 0);
}

/* --- counters ----------------------------------------------------------------------------------------------------- */

/* The counters of all secured frames that the EG has sent under the key: each later than the one before, and the numbers of
 * NWK frame and APS frame of the EG's own follow from it (design 5.5). */
static uint32_t check_counters(struct world *w, const struct first_key *k, uint32_t last, size_t *frames)
{
    for (size_t i = 0; i < w->h.nsent; i++) {
        struct egp_message m;
        struct zb_nwk nwk;
        struct zb_aux aux;
        struct zb_aps aps;
        uint8_t buf[ZB_NWK_MAX];
        struct wr plain = wr_of(buf, sizeof buf);
        assert_null(egp_decode(span_of(w->h.sent[i].body, w->h.sent[i].n), &m));
        if (m.env.type != EGP_DOWNLINK ||
            zb_nwk_open(w->crypto, k->key, m.u.frame.nwk_frame, &nwk, &aux, &plain) != ZB_OK)
            continue;
        assert_true(aux.counter > last && aux.src64 == GW);
        assert_int_equal(nwk.seq, (uint8_t)aux.counter);
        if ((nwk.fcf & ZB_FCF_TYPE) == ZB_NWK_DATA && zb_aps_parse(wr_span(&plain), &aps) == ZB_OK &&
            (aps.fcf & 3) != ZB_APS_ACK)
            assert_int_equal(aps.counter, (uint8_t)aux.counter);
        last = aux.counter;
        (*frames)++;
    }
    w->h.nsent = 0;
    return last;
}

static void all_that_is_sent_has_one_allocator(void **state)
{
    struct world *w = *state;
    size_t frames = 0;
    struct first_key k = enrol(w, DEV, 1);
    uint32_t last = check_counters(w, &k, 0, &frames);
    announce(w, &k, DEV, 6, SHORT, ROUTER);
    for (uint32_t round = 0; round < 4; round++) {
        uint32_t n = 10 * round + 10;
        struct frame_bytes f = zdp(w, &k, n, 0, ZB_APS_ACK_REQUEST, 0x0002, span_of("\1\0\0", 3));
        uplink(w, GW, &f);
        link_status(w, &k, DEV, SHORT, n + 1, SHORT, 200);
        heard_by(w, &k, DEV, SHORT, 0xfffc, n + 2, SHORT, 200, true, span_of("\x01\x00\x42\x00\x00\x01", 6));
        heard_by(w, &k, DEV, SHORT, 0, n + 3, SHORT, 200, true, span_of("\x0b\x02\x00", 3));
        heard_by(w, &k, DEV, SHORT, 0, n + 4, SHORT, 200, true, span_of("\x06\x8e", 2));
        pass(w, 20000);
        last = check_counters(w, &k, last, &frames);
        uint32_t first = take_ticket(w, w->ae, "{\"count\":4}", ST_OK);
        assert_true(first > last);
        last = first + 3;
        if (round == 1)
            crash(w);
        else if (round == 2)
            reopen(w);
        greet(w);
    }
    assert_true(frames >= 4 * 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, world_new, world_free)
        T(routers_are_told_how_they_are_heard),
        T(only_neighbours_that_are_routers_are_told),
        T(a_route_to_the_coordinator_ends_there),
        T(other_commands_are_taken_in),
        T(a_second_owner_of_an_address_gets_another),
        T(what_is_no_conflict),
        T(routers_of_one_key_learn_of_each_other),
        T(what_goes_from_device_to_device_is_passed_on),
        T(nothing_passes_between_keys),
        T(all_that_is_sent_has_one_allocator),
#undef T
    };
    return cmocka_run_group_tests_name("eg network", tests, NULL, NULL);
}
