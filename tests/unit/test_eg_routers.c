/* Key domains, and devices behind routers: joins and rejoins through a parent, what a router may say, and who is told to
 * go. Routers and devices are played with zigbee.h; security is hop by hop, so what a router passes on is sealed as its own. */
#include "tests/unit/eg_fixture.h"

static const eui64_t ROUTER = 0x00158d0000000a01u, ROUTER2 = 0x00158d0000000a02u, CHILD = 0x00158d0000000c01u;
enum { R_SHORT = 0x0a01, R2_SHORT = 0x0a02, C_SHORT = 0x0c01 };
enum { UPDATE_REJOIN = 0, UPDATE_JOIN = 1, UPDATE_LEFT = 2, UPDATE_TC_REJOIN = 3 };

#define HALL "{\"installCode\":\"" CODE "\",\"application\":\"hall\"}"
#define CELLAR "{\"installCode\":\"" CODE "\",\"application\":\"cellar\"}"

struct node { /* a device as it sees itself */
    eui64_t eui;
    uint16_t address;
    struct first_key k;
    uint8_t link_key[ZB_KEY]; /* the code's, then its own */
    uint32_t counter, aps;
    uint8_t seq; /* NWK sequence number, which routers keep */
};

static void applications(struct world *w)
{
    put_application(w, "hall", "{\"keyScope\":\"application\",\"members\":[\"" AE "\"]}");
    put_application(w, "cellar", "{\"keyScope\":\"application\",\"members\":[\"" AE "\"]}");
}

/* A frame of `from` as `hop` seals it: from itself, or one that it passes on. */
static void send_through(struct world *w, struct node *hop, const struct node *from, uint16_t dst, struct span aps)
{
    struct zb_nwk h = {.fcf = 0x0208, .dst = dst, .src = from->address, .radius = 29, .seq = from->seq};
    struct frame_bytes f = {.n = 0};
    struct wr out = wr_of(f.p, sizeof f.p);
    hop->counter++;
    assert_int_equal(zb_nwk_seal(w->crypto, hop->k.key, &h, hop->counter, hop->eui, hop->k.key_seq, aps, &out), ZB_OK);
    f.n = out.n;
    uplink(w, GW, &f);
}

static void announce(struct world *w, struct node *hop, struct node *n, uint8_t capability)
{
    n->seq++;
    uint8_t buf[32];
    struct wr aps = wr_of(buf, sizeof buf);
    zb_aps_build(&aps, &(struct zb_aps){.fcf = 0x08, .cluster = ZB_ZDP_DEVICE_ANNCE, .counter = (uint8_t)hop->counter});
    wr_u8(&aps, 1);
    wr_le16(&aps, n->address);
    wr_le64(&aps, n->eui);
    wr_u8(&aps, capability);
    send_through(w, hop, n, 0xfffd, wr_span(&aps));
}

static void send_command(struct world *w, struct node *hop, struct node *n, const uint8_t *link_key, const struct zb_cmd *cmd)
{
    uint8_t buf[ZB_NWK_MAX], aps_buf[ZB_NWK_MAX];
    struct wr payload = wr_of(buf, sizeof buf), aps = wr_of(aps_buf, sizeof aps_buf);
    struct zb_aps a = {.fcf = ZB_APS_COMMAND, .counter = (uint8_t)++n->aps};
    n->seq++;
    assert_int_equal(zb_cmd_build(&payload, cmd), ZB_OK);
    if (link_key != NULL) {
        assert_int_equal(zb_aps_seal(w->crypto, link_key, &a, ZB_KEY_ID_DATA, n->aps, n->eui, wr_span(&payload), &aps), ZB_OK);
    } else {
        zb_aps_build(&aps, &a);
        wr_spanb(&aps, wr_span(&payload));
    }
    send_through(w, hop, n, 0, wr_span(&aps));
}

static void update_device(struct world *w, struct node *router, const struct node *child, uint8_t status)
{
    struct zb_cmd cmd = {.id = ZB_UPDATE_DEVICE, .device = child->eui, .short_addr = child->address, .status = status};
    send_command(w, router, router, router->link_key, &cmd);
}

static void exchange(struct world *w, struct node *hop, struct node *n)
{
    struct zb_cmd request = {.id = ZB_REQUEST_KEY, .key_type = ZB_KEYTYPE_TCLK}, got,
                  verify = {.id = ZB_VERIFY_KEY, .key_type = ZB_KEYTYPE_TCLK, .src = n->eui};
    struct zb_aux aux;
    size_t from = w->h.nsent;
    send_command(w, hop, n, n->link_key, &request);
    assert_true(newest_command(w, from, &n->k, n->link_key, &got, &aux));
    assert_true(got.id == ZB_TRANSPORT_KEY && got.dst == n->eui);
    memcpy(n->link_key, got.key, ZB_KEY);
    n->aps = 0;
    assert_int_equal(zb_derive(w->crypto, n->link_key, ZB_KEY_VERIFY, verify.key), ZB_OK);
    from = w->h.nsent;
    send_command(w, hop, n, NULL, &verify);
    assert_true(newest_command(w, from, &n->k, n->link_key, &got, &aux));
    assert_true(got.id == ZB_CONFIRM_KEY && got.status == 0);
    expect_device(w, n->eui, "enrolled", NULL);
}

static struct node fresh(eui64_t eui, uint16_t address)
{
    struct node n = {.eui = eui, .address = address};
    assert_true(hex_decode(CODE_KEY, 2 * ZB_KEY, n.link_key, ZB_KEY));
    return n;
}

/* Registered, joined at the gateway itself, enrolled. */
static struct node enrol_direct(struct world *w, eui64_t eui, uint16_t address, const char *registration, uint64_t transaction)
{
    struct node n = fresh(eui, address);
    struct call c;
    assert_int_equal(put_code(w, eui, registration), ST_CREATED);
    struct egp_message m = request_message(GW, eui, transaction);
    m.u.request.device_short = address;
    m.u.request.capability = 0x8e;
    send_message(w, &m, &c);
    assert_int_equal(reason_of(&c), EGP_OK);
    n.k = learn(w, &c, CODE_KEY);
    announce(w, &n, &n, 0x8e);
    expect_device(w, eui, "joining", NULL);
    exchange(w, &n, &n);
    return n;
}

/* The Tunnel that came last: to this router, with this child's key in it. False: none since `from`. */
static bool tunnelled(struct world *w, size_t from, const struct node *router, struct node *child)
{
    uint8_t buf[ZB_NWK_MAX], plain_buf[ZB_NWK_MAX];
    struct wr plain = wr_of(buf, sizeof buf), inner = wr_of(plain_buf, sizeof plain_buf);
    struct zb_nwk nwk;
    struct zb_aps aps;
    struct zb_aux aux;
    struct zb_cmd tunnel, key;
    if (!newest_downlink(w, from, router->k.key, &nwk, &plain))
        return false;
    assert_int_equal(nwk.dst, router->address);
    assert_int_equal(zb_aps_parse(wr_span(&plain), &aps), ZB_OK);
    assert_int_equal(aps.fcf, ZB_APS_COMMAND); /* no APS security, no acknowledgement */
    assert_int_equal(zb_cmd_parse(aps.payload, &tunnel), ZB_OK);
    assert_true(tunnel.id == ZB_TUNNEL && tunnel.dst == child->eui && tunnel.tunnelled.n == 54);
    assert_int_equal(zb_aps_open(w->crypto, child->link_key, tunnel.tunnelled, 0, &aps, &aux, &inner), ZB_OK);
    assert_int_equal(zb_cmd_parse(wr_span(&inner), &key), ZB_OK);
    assert_true(key.id == ZB_TRANSPORT_KEY && key.key_type == ZB_KEYTYPE_NWK && key.dst == child->eui && key.src == GW);
    assert_true(aux.key_id == ZB_KEY_ID_TRANSPORT && aux.src64 == GW);
    memcpy(child->k.key, key.key, ZB_KEY);
    child->k.key_seq = key.key_seq;
    return true;
}

/* Registered, joined below `router`, its frames passed on by `last`, enrolled. */
static struct node enrol_below(struct world *w, struct node *router, struct node *last, eui64_t eui, uint16_t address)
{
    struct node n = fresh(eui, address);
    assert_int_equal(put_code(w, eui, HALL), ST_CREATED);
    size_t from = w->h.nsent;
    update_device(w, router, &n, UPDATE_JOIN);
    assert_true(tunnelled(w, from, router, &n));
    expect_device(w, eui, "key-sent", NULL);
    announce(w, last, &n, 0x80);
    expect_device(w, eui, "joining", NULL);
    exchange(w, last, &n);
    return n;
}

static uint16_t hop_of(struct world *w, size_t i, bool *indirect)
{
    struct egp_message m;
    assert_null(egp_decode(span_of(w->h.sent[i].body, w->h.sent[i].n), &m));
    assert_int_equal(m.env.type, EGP_DOWNLINK);
    *indirect = m.u.frame.indirect;
    return m.u.frame.hop;
}

static void expect_parent(struct world *w, eui64_t eui, const char *parent)
{
    cJSON *o = eg_device_get(w->eg, ADMIN, eui);
    const cJSON *p = cJSON_GetObjectItem(o, "parent");
    if (parent == NULL)
        assert_null(p);
    else
        assert_string_equal(p->valuestring, parent);
    cJSON_Delete(o);
}

static void key_id(struct world *w, eui64_t eui, char id[MEF_RELKEYID])
{
    cJSON *o = eg_device_get(w->eg, ADMIN, eui);
    snprintf(id, MEF_RELKEYID, "%s", cJSON_GetObjectItem(o, "keyId")->valuestring);
    cJSON_Delete(o);
}

/* --- domains ------------------------------------------------------------------------------------------------------ */

static void scopes_decide_who_shares_a_key(void **state)
{
    struct world *w = *state;
    applications(w);
    put_application(w, "attic", "{\"keyScope\":\"network\",\"members\":[]}");
    put_application(w, "yard", "{\"keyScope\":\"network\",\"members\":[]}");
    put_application(w, "desk", "{\"members\":[]}");
    static const char *const names[] = {"hall", "hall", "cellar", "attic", "yard", "desk", "desk", "nobody"};
    struct node n[8];
    for (size_t i = 0; i < 8; i++) {
        char json[128];
        snprintf(json, sizeof json, "{\"installCode\":\"" CODE "\",\"application\":\"%s\"}", names[i]);
        n[i] = enrol_direct(w, 0x100 + i, (uint16_t)(0x100 + i), json, 1 + i);
    }
    for (size_t i = 0; i < 8; i++)
        for (size_t j = i + 1; j < 8; j++) {
            bool shared = (i == 0 && j == 1) || (i == 3 && j == 4);
            assert_int_equal(memcmp(n[i].k.key, n[j].k.key, ZB_KEY) == 0, shared);
            assert_memory_not_equal(n[i].link_key, n[j].link_key, ZB_KEY);
        }
}

static void each_has_a_registration_of_its_own(void **state)
{
    struct world *w = *state;
    applications(w);
    enrol_direct(w, ROUTER, R_SHORT, HALL, 1);
    enrol_direct(w, ROUTER2, R2_SHORT, HALL, 2);
    char a[MEF_RELKEYID], b[MEF_RELKEYID];
    key_id(w, ROUTER, a);
    key_id(w, ROUTER2, b);
    assert_string_not_equal(a, b);
    struct mef_principal member = {.role = MEF_ROLE_CLIENT, .id = AE, .admin = ADMIN},
                         other = {.role = MEF_ROLE_CLIENT, .id = "//example.org/in-cse/Cae2", .admin = ADMIN};
    assert_true(mef_keyreg_allows(w->mef, a, &member) && mef_keyreg_allows(w->mef, b, &member));
    assert_false(mef_keyreg_allows(w->mef, a, &other));
    /* Another application's members do not get the key of this one by a changed registration. */
    put_application(w, "cellar", "{\"keyScope\":\"application\",\"members\":[\"//example.org/in-cse/Cae2\"]}");
    assert_int_equal(put_code_as(w, ADMIN, ROUTER, CELLAR, true, NULL), ST_OK);
    key_id(w, ROUTER, a);
    assert_false(mef_keyreg_allows(w->mef, a, &other));
    assert_true(mef_keyreg_allows(w->mef, a, &member));
}

/* The key stays while anybody has it, over restarts, and a domain begun anew has another. */
static void a_domain_ends_with_its_last_device(void **state)
{
    struct world *w = *state;
    applications(w);
    struct node a = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), b = enrol_direct(w, ROUTER2, R2_SHORT, HALL, 2);
    crash(w);
    assert_int_equal(act(w, ROUTER, "revoke"), ST_OK);
    reopen(w);
    struct node c = enrol_direct(w, CHILD, C_SHORT, HALL, 3);
    assert_memory_equal(a.k.key, c.k.key, ZB_KEY);
    assert_int_equal(act(w, ROUTER2, "revoke"), ST_OK);
    assert_int_equal(act(w, CHILD, "revoke"), ST_OK);
    crash(w);
    struct node d = enrol_direct(w, DEV, SHORT, HALL, 4);
    assert_memory_not_equal(d.k.key, b.k.key, ZB_KEY);
}

/* One allocator for the whole domain: no counter comes twice. */
static void counters_are_the_domains(void **state)
{
    struct world *w = *state;
    static uint32_t used[64];
    size_t n = 0;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), r2 = enrol_direct(w, ROUTER2, R2_SHORT, HALL, 2);
    enrol_below(w, &r, &r, CHILD, C_SHORT);
    enrol_below(w, &r2, &r2, DEV, SHORT);
    for (size_t i = 0; i < w->h.nsent; i++) {
        struct egp_message m;
        struct zb_nwk nwk;
        struct zb_aux aux;
        uint8_t buf[ZB_NWK_MAX];
        struct wr plain = wr_of(buf, sizeof buf);
        assert_null(egp_decode(span_of(w->h.sent[i].body, w->h.sent[i].n), &m));
        if (m.env.type != EGP_DOWNLINK)
            continue;
        assert_int_equal(zb_nwk_open(w->crypto, r.k.key, m.u.frame.nwk_frame, &nwk, &aux, &plain), ZB_OK);
        for (size_t j = 0; j < n; j++)
            assert_int_not_equal(used[j], aux.counter);
        used[n++] = aux.counter;
    }
    assert_int_equal(n, 4 * 2 + 2); /* two answers each, and the Tunnels */
}

/* --- joins -------------------------------------------------------------------------------------------------------- */

static void a_child_joins_through_a_router(void **state)
{
    struct world *w = *state;
    bool indirect;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1);
    struct node c = enrol_below(w, &r, &r, CHILD, C_SHORT);
    assert_memory_equal(c.k.key, r.k.key, ZB_KEY);
    expect_parent(w, CHILD, "00158d0000000a01");
    expect_parent(w, ROUTER, NULL);
    assert_int_equal(hop_of(w, w->h.nsent - 2, &indirect), R_SHORT); /* its Confirm-Key, before its DeviceState */
    assert_false(indirect);                                           /* that it sleeps is its parent's business */
    crash(w);
    expect_device(w, CHILD, "enrolled", NULL);
    expect_parent(w, CHILD, "00158d0000000a01");
}

static void any_depth(void **state)
{
    struct world *w = *state;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1);
    struct node r2 = enrol_below(w, &r, &r, ROUTER2, R2_SHORT);
    struct node c = fresh(CHILD, C_SHORT);
    assert_int_equal(put_code(w, CHILD, HALL), ST_CREATED);
    struct zb_cmd cmd = {.id = ZB_UPDATE_DEVICE, .device = CHILD, .short_addr = C_SHORT, .status = UPDATE_JOIN};
    size_t from = w->h.nsent;
    bool indirect;
    send_command(w, &r, &r2, r2.link_key, &cmd); /* passed on by the upper router */
    assert_true(tunnelled(w, from, &r2, &c));
    assert_int_equal(hop_of(w, from, &indirect), R_SHORT);
    announce(w, &r, &c, 0x80);
    exchange(w, &r, &c);
    expect_parent(w, CHILD, "00158d0000000a02");
}

/* The gateway goes by clear headers, which anybody can write; the EG by what came under the key. */
static void frames_go_back_the_way_that_proved_ones_came(void **state)
{
    struct world *w = *state;
    const struct zb_cmd request = {.id = ZB_REQUEST_KEY, .key_type = ZB_KEYTYPE_TCLK};
    bool indirect;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), r2 = enrol_below(w, &r, &r, ROUTER2, R2_SHORT);
    announce(w, &r, &r2, 0x8e);
    struct node c = enrol_below(w, &r2, &r, CHILD, C_SHORT);
    size_t from = w->h.nsent;
    send_command(w, &r2, &c, c.link_key, &request); /* the upper router is gone, the other is heard at the gateway */
    assert_int_equal(hop_of(w, from, &indirect), R2_SHORT);
    from = w->h.nsent;
    send_command(w, &r, &r2, r2.link_key, &request);
    assert_int_equal(hop_of(w, from, &indirect), R_SHORT);
    announce(w, &r2, &r2, 0x8e); /* whose copy of a broadcast comes first tells nothing */
    from = w->h.nsent;
    assert_int_equal(act(w, CHILD, "revoke"), ST_OK);
    assert_int_equal(hop_of(w, from, &indirect), R_SHORT); /* Remove-Device to its parent */
}

static void after_a_restart_the_parents_are_the_way(void **state)
{
    struct world *w = *state;
    bool indirect;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), r2 = enrol_below(w, &r, &r, ROUTER2, R2_SHORT);
    announce(w, &r, &r2, 0x8e);
    (void)enrol_below(w, &r2, &r, CHILD, C_SHORT);
    crash(w);
    announce(w, &r, &r, 0x8e); /* the gateway is there again */
    size_t from = w->h.nsent;
    assert_int_equal(act(w, CHILD, "revoke"), ST_OK);
    assert_int_equal(hop_of(w, from, &indirect), R_SHORT);
}

/* The first frame names nobody: the announcement got lost. */
static void a_short_address_is_enough(void **state)
{
    struct world *w = *state;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), c = fresh(CHILD, C_SHORT);
    assert_int_equal(put_code(w, CHILD, HALL), ST_CREATED);
    size_t from = w->h.nsent;
    update_device(w, &r, &c, UPDATE_JOIN);
    assert_true(tunnelled(w, from, &r, &c));
    exchange(w, &r, &c);
    expect_parent(w, CHILD, "00158d0000000a01");
}

/* Somebody asks at the gateway in the child's name, before and after its router does. */
static void a_spoofed_association_does_not_undo_a_routers_word(void **state)
{
    struct world *w = *state;
    struct call answer;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), c = fresh(CHILD, C_SHORT);
    assert_int_equal(put_code(w, CHILD, HALL), ST_CREATED);
    for (uint64_t transaction = 2; transaction < 4; transaction++) {
        struct egp_message m = request_message(GW, CHILD, transaction);
        m.u.request.device_short = SHORT;
        send_message(w, &m, &answer);
        assert_int_equal(reason_of(&answer), EGP_OK);
        size_t from = w->h.nsent;
        if (transaction == 2) {
            update_device(w, &r, &c, UPDATE_JOIN);
            assert_true(tunnelled(w, from, &r, &c));
        }
    }
    exchange(w, &r, &c); /* its announcement got lost, too */
    expect_parent(w, CHILD, "00158d0000000a01");
}

/* The router lost it, and it joined the gateway. */
static void the_devices_own_frame_says_where_it_is(void **state)
{
    struct world *w = *state;
    struct call answer;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), c = fresh(CHILD, C_SHORT);
    assert_int_equal(put_code(w, CHILD, HALL), ST_CREATED);
    size_t from = w->h.nsent;
    update_device(w, &r, &c, UPDATE_JOIN);
    assert_true(tunnelled(w, from, &r, &c));
    struct egp_message m = request_message(GW, CHILD, 2);
    m.u.request.device_short = SHORT;
    send_message(w, &m, &answer);
    c.k = learn(w, &answer, CODE_KEY);
    c.address = SHORT;
    announce(w, &c, &c, 0x80);
    exchange(w, &c, &c);
    expect_parent(w, CHILD, NULL);
}

static void a_lost_tunnel_is_sent_again(void **state)
{
    struct world *w = *state;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), c = fresh(CHILD, C_SHORT), again = c;
    assert_int_equal(put_code(w, CHILD, HALL), ST_CREATED);
    size_t from = w->h.nsent;
    update_device(w, &r, &c, UPDATE_JOIN);
    assert_true(tunnelled(w, from, &r, &c));
    crash(w);
    from = w->h.nsent;
    update_device(w, &r, &again, UPDATE_JOIN);
    assert_true(tunnelled(w, from, &r, &again));
    assert_memory_equal(again.k.key, c.k.key, ZB_KEY);
    announce(w, &r, &c, 0x80);
    expect_device(w, CHILD, "joining", NULL);
}

static void expect_refused(struct world *w, struct node *router, const struct node *child, const char *counted)
{
    uint64_t before = metric(w, counted);
    size_t from = w->h.nsent;
    update_device(w, router, child, UPDATE_JOIN);
    assert_int_equal(metric(w, counted), before + 1);
    assert_int_equal(w->h.nsent, from); /* no packet */
}

static void who_may_not_join_through_a_router(void **state)
{
    struct world *w = *state;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), c = fresh(CHILD, C_SHORT);
    struct node lone = enrol_direct(w, ROUTER2, R2_SHORT, A_CODE, 2);
    expect_refused(w, &r, &c, "eg_refused_unknown_device_total");
    assert_int_equal(put_code(w, CHILD, A_CODE), ST_CREATED); /* scope device */
    expect_refused(w, &r, &c, "eg_refused_parent_key_domain_total");
    assert_int_equal(put_code(w, CHILD, CELLAR), ST_OK); /* another application */
    expect_refused(w, &r, &c, "eg_refused_parent_key_domain_total");
    assert_int_equal(put_code(w, CHILD, HALL), ST_OK);
    expect_refused(w, &lone, &c, "eg_refused_parent_key_domain_total"); /* a router with a key of its own */
    expect_device(w, CHILD, "registered", "parent-key-domain");
    c.address = 0;
    expect_refused(w, &r, &c, "eg_refused_bad_request_total");
    c.address = C_SHORT;
    enrol_below(w, &r, &r, DEV, SHORT);
    struct node enrolled = {.eui = DEV, .address = SHORT};
    expect_refused(w, &r, &enrolled, "eg_refused_code_spent_total");
    assert_int_equal(act(w, DEV, "revoke"), ST_OK);
    expect_refused(w, &r, &enrolled, "eg_refused_device_revoked_total");
    assert_int_equal(act(w, DEV, "rearm"), ST_OK);
    size_t from = w->h.nsent;
    struct node back = fresh(DEV, SHORT);
    update_device(w, &r, &back, UPDATE_JOIN);
    assert_true(tunnelled(w, from, &r, &back));
    announce(w, &r, &back, 0x80);
    exchange(w, &r, &back);
}

/* What counts needs the router's own link key, and what ends something always does. */
static void a_word_that_is_not_the_routers(void **state)
{
    struct world *w = *state;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1);
    assert_int_equal(put_code(w, CHILD, HALL), ST_CREATED);
    struct zb_cmd cmd = {.id = ZB_UPDATE_DEVICE, .device = CHILD, .short_addr = C_SHORT, .status = UPDATE_JOIN};
    uint8_t wrong[ZB_KEY] = {9};
    size_t from = w->h.nsent;
    send_command(w, &r, &r, NULL, &cmd);
    send_command(w, &r, &r, wrong, &cmd);
    cmd.status = 4;
    send_command(w, &r, &r, r.link_key, &cmd);
    assert_int_equal(w->h.nsent, from);
    assert_int_equal(metric(w, "eg_aps_commands_refused_total"), 3);
    expect_device(w, CHILD, "registered", NULL);
    r.k.key[0] ^= 1; /* not under the domain's key */
    cmd.status = UPDATE_JOIN;
    send_command(w, &r, &r, r.link_key, &cmd);
    assert_int_equal(w->h.nsent, from);
}

/* Neither the router nor anybody else proves a child's key but by a frame from the child. */
static void only_the_childs_frame_proves(void **state)
{
    struct world *w = *state;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), c = fresh(CHILD, C_SHORT);
    assert_int_equal(put_code(w, CHILD, HALL), ST_CREATED);
    update_device(w, &r, &c, UPDATE_JOIN);
    announce(w, &r, &r, 0x8e);
    struct node stranger = {.eui = 0x77, .address = 0x7777};
    announce(w, &r, &stranger, 0x80);
    expect_device(w, CHILD, "key-sent", NULL);
    pass(w, 61000);
    expect_device(w, CHILD, "failed", "no-secured-frame-seen");
    announce(w, &r, &c, 0x80); /* too late */
    expect_device(w, CHILD, "failed", "no-secured-frame-seen");
}

/* --- rejoins ------------------------------------------------------------------------------------------------------ */

static void a_child_that_lost_its_key(void **state)
{
    struct world *w = *state;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), c = enrol_below(w, &r, &r, CHILD, C_SHORT);
    uint8_t key[ZB_KEY];
    memcpy(key, c.k.key, ZB_KEY);
    memset(c.k.key, 0, ZB_KEY);
    size_t from = w->h.nsent;
    update_device(w, &r, &c, UPDATE_TC_REJOIN);
    assert_true(tunnelled(w, from, &r, &c)); /* under its own link key */
    assert_memory_equal(c.k.key, key, ZB_KEY);
    announce(w, &r, &c, 0x80);
    expect_device(w, CHILD, "enrolled", NULL);
    pass(w, 61000);
    expect_device(w, CHILD, "enrolled", NULL);
    struct node unknown = fresh(DEV, SHORT);
    assert_int_equal(put_code(w, DEV, HALL), ST_CREATED);
    from = w->h.nsent;
    update_device(w, &r, &unknown, UPDATE_TC_REJOIN);
    assert_int_equal(w->h.nsent, from);
    assert_int_equal(metric(w, "eg_refused_no_link_key_total"), 1);
}

/* A secured rejoin is the new router's word until the device is heard through it. */
static void a_child_changes_its_parent(void **state)
{
    struct world *w = *state;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), r2 = enrol_direct(w, ROUTER2, R2_SHORT, HALL, 2);
    struct node c = enrol_below(w, &r, &r, CHILD, C_SHORT);
    size_t from = w->h.nsent;
    update_device(w, &r2, &c, UPDATE_REJOIN);
    assert_int_equal(w->h.nsent, from);
    expect_parent(w, CHILD, "00158d0000000a01");
    update_device(w, &r, &c, UPDATE_LEFT); /* its old parent's late word */
    expect_device(w, CHILD, "enrolled", NULL);
    announce(w, &r2, &c, 0x80);
    expect_parent(w, CHILD, "00158d0000000a02");
    update_device(w, &r, &c, UPDATE_LEFT);
    expect_device(w, CHILD, "enrolled", NULL);
    update_device(w, &r2, &c, UPDATE_LEFT);
    expect_device(w, CHILD, "registered", "left");
}

/* Who holds the domain's key without right is sent away by the router that took it in. */
static void a_revoked_device_comes_back_by_the_domains_key(void **state)
{
    struct world *w = *state;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), c = enrol_below(w, &r, &r, CHILD, C_SHORT);
    struct zb_cmd got;
    struct zb_aux aux;
    size_t from = w->h.nsent;
    assert_int_equal(act(w, CHILD, "revoke"), ST_OK);
    assert_true(newest_command(w, from, &r.k, r.link_key, &got, &aux));
    assert_true(got.id == ZB_REMOVE_DEVICE && got.device == CHILD && aux.key_id == ZB_KEY_ID_DATA);
    from = w->h.nsent;
    update_device(w, &r, &c, UPDATE_REJOIN);
    assert_true(newest_command(w, from, &r.k, r.link_key, &got, &aux));
    assert_true(got.id == ZB_REMOVE_DEVICE && got.device == CHILD);
    uint64_t dropped = metric(w, "eg_uplink_dropped_total");
    announce(w, &r, &c, 0x80);
    assert_int_equal(metric(w, "eg_uplink_dropped_total"), dropped + 1);
    expect_device(w, CHILD, "revoked", "revoked");
}

/* A router is sent its domain's key again. What it does anyway is no proof of that, least of all while a stranger asks in
 * its name. */
static void a_key_that_the_device_has_already(void **state)
{
    struct world *w = *state;
    struct call call;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), c = enrol_below(w, &r, &r, CHILD, C_SHORT);
    assert_int_equal(act(w, ROUTER, "rearm"), ST_OK);
    struct egp_message m = request_message(GW, ROUTER, 9);
    m.u.request.device_short = 0x6666;
    send_message(w, &m, &call);
    assert_int_equal(reason_of(&call), EGP_OK);
    announce(w, &r, &r, 0x8e);
    announce(w, &r, &c, 0x80);
    expect_device(w, ROUTER, "enrolled", NULL);
    struct node reset = fresh(ROUTER, 0x6666); /* it was the router itself, after all */
    reset.k = r.k;
    reset.counter = r.counter; /* kept over a reset (BDB 9.5) */
    announce(w, &reset, &reset, 0x8e);
    expect_device(w, ROUTER, "enrolled", NULL);
    exchange(w, &reset, &reset);
}

/* What it said before proves nothing under a key that is the domain's still. */
static void a_replay_is_no_proof(void **state)
{
    struct world *w = *state;
    struct call call;
    applications(w);
    enrol_direct(w, ROUTER2, R2_SHORT, HALL, 2);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), old = r;
    announce(w, &r, &r, 0x8e);
    assert_int_equal(act(w, ROUTER, "revoke"), ST_OK);
    announce(w, &r, &r, 0x8e); /* it did not hear of it */
    assert_int_equal(act(w, ROUTER, "rearm"), ST_OK);
    struct egp_message m = request_message(GW, ROUTER, 9);
    m.u.request.device_short = R_SHORT;
    send_message(w, &m, &call);
    assert_memory_equal(learn(w, &call, CODE_KEY).key, r.k.key, ZB_KEY);
    crash(w);
    announce(w, &old, &old, 0x8e);
    announce(w, &old, &old, 0x8e); /* its late one */
    expect_device(w, ROUTER, "key-sent", NULL);
    struct node reset = fresh(ROUTER, R_SHORT);
    reset.k = r.k;
    reset.counter = r.counter;
    announce(w, &reset, &reset, 0x8e);
    exchange(w, &reset, &reset);
}

/* --- frames ------------------------------------------------------------------------------------------------------- */

static void frames_are_their_originators(void **state)
{
    struct world *w = *state;
    struct call observing;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), c = enrol_below(w, &r, &r, CHILD, C_SHORT);
    begin(w, &observing, CSE_RETRIEVE, "mef/eg/frames/00158d0000000c01", (struct span){0}, S_AE, w->ae);
    end(w, &observing);
    uint8_t buf[32];
    struct wr aps = wr_of(buf, sizeof buf);
    zb_aps_build(&aps, &(struct zb_aps){.dst_endpoint = 1, .src_endpoint = 1, .cluster = 0x0402, .profile = 0x0104});
    wr_spanb(&aps, span_of("\x18\x01\x0a\x00\x00\x29\x34\x08", 8));
    uint64_t relayed = metric(w, "eg_uplink_relayed_total");
    send_through(w, &r, &c, 0, wr_span(&aps));
    assert_int_equal(metric(w, "eg_uplink_relayed_total"), relayed + 1);
    begin(w, &observing, CSE_RETRIEVE, "mef/eg/frames/00158d0000000c01", (struct span){0}, S_AE, w->ae);
    end(w, &observing);
    assert_true(observing.n > 30);
    begin(w, &observing, CSE_RETRIEVE, "mef/eg/frames/00158d0000000a01", (struct span){0}, S_AE, w->ae);
    end(w, &observing);
    assert_int_equal(observing.n, 0);
    struct node stranger = {.eui = 0x77, .address = 0x7777};
    send_through(w, &r, &stranger, 0, wr_span(&aps)); /* an address that nobody has */
    assert_int_equal(metric(w, "eg_uplink_relayed_total"), relayed + 1);
    r.counter -= 2;
    send_through(w, &r, &c, 0, wr_span(&aps)); /* a counter that the router used already */
    assert_int_equal(metric(w, "eg_uplink_relayed_total"), relayed + 1);
}

/* A stranger asks to rejoin in a router's name, with the address of a device behind it: the router stays where it is. */
static void a_strangers_word_moves_nobody(void **state)
{
    struct world *w = *state;
    struct call call;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), c = enrol_below(w, &r, &r, CHILD, C_SHORT);
    assert_int_equal(act(w, CHILD, "revoke"), ST_OK);
    uint8_t buf[32], aps_buf[32];
    struct wr bare = wr_of(buf, sizeof buf), aps = wr_of(aps_buf, sizeof aps_buf);
    zb_nwk_build(&bare, &(struct zb_nwk){.fcf = 0x1009, .src = C_SHORT, .radius = 1, .has_src64 = true, .src64 = ROUTER});
    wr_u8(&bare, 0x06);
    wr_u8(&bare, 0x8e);
    struct egp_message m = request_message(GW, ROUTER, 9);
    m.u.request.device_short = C_SHORT;
    m.u.request.capability = 0x8e;
    m.u.request.join = EGP_REJOIN_TRUST_CENTRE;
    m.u.request.nwk_frame = wr_span(&bare);
    send_message(w, &m, &call);
    assert_int_equal(reason_of(&call), EGP_OK);
    zb_aps_build(&aps, &(struct zb_aps){.dst_endpoint = 1, .src_endpoint = 1, .cluster = 0x0402, .profile = 0x0104});
    wr_spanb(&aps, span_of("\x18\x01\x0a\x00\x00\x29\x34\x08", 8));
    uint64_t relayed = metric(w, "eg_uplink_relayed_total");
    send_through(w, &r, &c, 0, wr_span(&aps));
    assert_int_equal(metric(w, "eg_uplink_relayed_total"), relayed);
    cJSON *o = eg_device_get(w->eg, ADMIN, ROUTER);
    assert_int_equal(cJSON_GetObjectItem(o, "nwkAddress")->valueint, R_SHORT);
    cJSON_Delete(o);
}

/* Each neighbour repeats a broadcast; it counts once. */
static void a_broadcast_is_heard_many_times(void **state)
{
    struct world *w = *state;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), r2 = enrol_direct(w, ROUTER2, R2_SHORT, HALL, 2);
    struct node c = enrol_below(w, &r, &r, CHILD, C_SHORT);
    uint8_t buf[32];
    struct wr aps = wr_of(buf, sizeof buf);
    zb_aps_build(&aps, &(struct zb_aps){.fcf = 0x08, .dst_endpoint = 255, .src_endpoint = 1, .cluster = 6, .profile = 0x0104});
    wr_spanb(&aps, span_of("\x01\x01\x02", 3));
    uint64_t relayed = metric(w, "eg_uplink_relayed_total");
    c.seq++;
    send_through(w, &r, &c, 0xffff, wr_span(&aps));
    send_through(w, &r2, &c, 0xffff, wr_span(&aps));
    assert_int_equal(metric(w, "eg_uplink_relayed_total"), relayed + 1);
}

static void two_with_one_address(void **state)
{
    struct world *w = *state;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), c = enrol_below(w, &r, &r, CHILD, C_SHORT);
    struct node other = fresh(DEV, C_SHORT);
    assert_int_equal(put_code(w, DEV, HALL), ST_CREATED);
    update_device(w, &r, &other, UPDATE_JOIN);
    assert_int_equal(metric(w, "eg_address_conflicts_total"), 0); /* a claim conflicts with nothing */
    exchange(w, &r, &c); /* whose frames they were, they still are */
    expect_device(w, DEV, "key-sent", NULL);
    announce(w, &r, &other, 0x80);
    expect_device(w, DEV, "joining", NULL);
    assert_int_equal(metric(w, "eg_address_conflicts_total"), 1);
}

/* A router says that it leaves, or is revoked: nothing more comes by it. */
static void a_router_that_is_revoked(void **state)
{
    struct world *w = *state;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), r2 = enrol_direct(w, ROUTER2, R2_SHORT, HALL, 2);
    struct node c = enrol_below(w, &r, &r, CHILD, C_SHORT), late = fresh(DEV, SHORT);
    assert_int_equal(put_code(w, DEV, HALL), ST_CREATED);
    assert_int_equal(act(w, ROUTER, "revoke"), ST_OK);
    size_t from = w->h.nsent;
    update_device(w, &r, &late, UPDATE_JOIN);
    update_device(w, &r, &c, UPDATE_LEFT);
    assert_int_equal(w->h.nsent, from);
    expect_device(w, DEV, "registered", NULL);
    expect_device(w, CHILD, "enrolled", NULL);
    update_device(w, &r2, &c, UPDATE_REJOIN);
    announce(w, &r2, &c, 0x80);
    expect_parent(w, CHILD, "00158d0000000a02");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, world_new, world_free)
        T(scopes_decide_who_shares_a_key),
        T(each_has_a_registration_of_its_own),
        T(a_domain_ends_with_its_last_device),
        T(counters_are_the_domains),
        T(a_child_joins_through_a_router),
        T(any_depth),
        T(frames_go_back_the_way_that_proved_ones_came),
        T(after_a_restart_the_parents_are_the_way),
        T(a_short_address_is_enough),
        T(a_spoofed_association_does_not_undo_a_routers_word),
        T(the_devices_own_frame_says_where_it_is),
        T(a_lost_tunnel_is_sent_again),
        T(who_may_not_join_through_a_router),
        T(a_word_that_is_not_the_routers),
        T(only_the_childs_frame_proves),
        T(a_child_that_lost_its_key),
        T(a_child_changes_its_parent),
        T(a_revoked_device_comes_back_by_the_domains_key),
        T(a_key_that_the_device_has_already),
        T(a_replay_is_no_proof),
        T(frames_are_their_originators),
        T(a_strangers_word_moves_nobody),
        T(a_broadcast_is_heard_many_times),
        T(two_with_one_address),
        T(a_router_that_is_revoked),
#undef T
    };
    return cmocka_run_group_tests_name("eg routers", tests, NULL, NULL);
}
