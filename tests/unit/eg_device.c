/* What gateways, devices and AEs say to the EG of eg_fixture.h, and the keys that they find in what it says. */
#include "tests/unit/eg_fixture.h"

/* --- requests ----------------------------------------------------------------------------------------------------- */

static void hand(struct world *w, struct call *c, enum cse_op op, const char *path, struct span body, const cJSON *tree,
                 uint64_t session, const char *identity)
{
    *c = (struct call){.req = {.mount = tree == NULL ? CSE_RAW : CSE_SERVICE, .binding = CSE_COAP, .op = op, .path = path, .ty = -1,
                               .body = body, .pc = tree,
                               .content_format = strcmp(path, "mef/eg") == 0 ? 60 : CSE_NO_FORMAT, .accept = CSE_NO_FORMAT,
                               .peer = {session, CSE_CRED_PSK, identity, "192.0.2.1:5684", ""}}};
    eg_handle(w->eg, &c->req);
}

void begin(struct world *w, struct call *c, enum cse_op op, const char *path, struct span body, uint64_t session,
           const char *identity)
{
    hand(w, c, op, path, body, NULL, session, identity);
}

void end(struct world *w, struct call *c)
{
    settle(w);
    assert_int_equal(c->answers, 1);
}

static const char *kpm_of(struct world *w, eui64_t gateway) { return gateway == GW ? w->gw : w->gw2; }
static uint64_t session_of(eui64_t gateway) { return gateway == GW ? S_GW : S_GW2; }

struct egp_message request_message(eui64_t gateway, eui64_t device, uint64_t transaction)
{
    struct egp_message m = {.env = {EGP_VERSION, EGP_REQUEST, transaction, gateway, device, EGP_TO_EG, 15, -50}};
    m.u.request = (struct egp_request){0, SHORT, PAN, 0, 0x80, EGP_ASSOCIATION, {0}};
    return m;
}

void send_as(struct world *w, const struct egp_message *m, uint64_t session, const char *identity, struct call *c)
{
    uint8_t buf[EGP_MAX_MESSAGE];
    struct wr out = wr_of(buf, sizeof buf);
    assert_true(egp_encode(m, &out));
    begin(w, c, CSE_CREATE, "mef/eg", wr_span(&out), session, identity);
    end(w, c);
}

void send_message(struct world *w, const struct egp_message *m, struct call *c)
{
    send_as(w, m, session_of(m->env.gateway), kpm_of(w, m->env.gateway), c);
}

enum egp_reason reason_of(const struct call *c)
{
    struct egp_message m;
    assert_null(egp_decode(span_of(c->body, c->n), &m));
    assert_int_equal(m.env.type, EGP_RESPONSE);
    return (enum egp_reason)m.u.response.reason;
}

enum egp_reason ask(struct world *w, eui64_t gateway, eui64_t device, uint64_t transaction, struct call *c)
{
    struct egp_message m = request_message(gateway, device, transaction);
    send_message(w, &m, c);
    return reason_of(c);
}

struct first_key learn_from(struct world *w, struct span frame, const uint8_t link_key[ZB_KEY])
{
    struct zb_nwk nwk;
    struct zb_aps aps;
    struct zb_aux aux;
    struct zb_cmd cmd;
    uint8_t buf[ZB_NWK_MAX];
    struct wr plain = wr_of(buf, sizeof buf);
    struct first_key k = {0};
    assert_int_equal(zb_nwk_parse(frame, &nwk), ZB_OK);
    assert_int_equal(nwk.fcf & ZB_FCF_SECURITY, 0);
    assert_int_equal(zb_aps_open(w->crypto, link_key, nwk.payload, 0, &aps, &aux, &plain), ZB_OK);
    assert_int_equal(zb_cmd_parse(wr_span(&plain), &cmd), ZB_OK);
    assert_int_equal(cmd.id, ZB_TRANSPORT_KEY);
    assert_int_equal(cmd.key_type, ZB_KEYTYPE_NWK);
    assert_int_equal(aux.src64, cmd.src);
    memcpy(k.key, cmd.key, ZB_KEY);
    k.counter = aux.counter;
    k.key_seq = cmd.key_seq;
    k.frame_len = frame.n;
    k.dst = cmd.dst;
    k.src = cmd.src;
    k.extended = nwk.has_src64 && nwk.has_dst64;
    return k;
}

struct first_key learn(struct world *w, const struct call *c, const char *link_key_hex)
{
    struct egp_message m;
    uint8_t link_key[ZB_KEY];
    assert_int_equal(c->st, ST_UPDATED);
    assert_int_equal(c->format, 60);
    assert_null(egp_decode(span_of(c->body, c->n), &m));
    assert_int_equal(m.u.response.reason, EGP_OK);
    assert_true(hex_decode(link_key_hex, strlen(link_key_hex), link_key, ZB_KEY));
    return learn_from(w, m.u.response.nwk_frame, link_key);
}

struct frame_bytes seal_aps(struct world *w, const uint8_t key[ZB_KEY], eui64_t source, uint16_t src, uint16_t dst,
                            uint32_t counter, const struct zb_aps *a, struct span payload)
{
    uint8_t buf[ZB_NWK_MAX];
    struct wr aps = wr_of(buf, sizeof buf);
    zb_aps_build(&aps, a);
    wr_spanb(&aps, payload);
    struct zb_nwk h = {.fcf = 0x0208, .dst = dst, .src = src, .radius = 30, .seq = (uint8_t)counter};
    struct frame_bytes f = {.n = 0};
    struct wr out = wr_of(f.p, sizeof f.p);
    assert_int_equal(zb_nwk_seal(w->crypto, key, &h, counter, source, 0, wr_span(&aps), &out), ZB_OK);
    f.n = out.n;
    return f;
}

struct frame_bytes seal(struct world *w, const uint8_t key[ZB_KEY], eui64_t source, uint16_t src, uint16_t dst,
                        uint32_t counter, uint8_t endpoint, struct span payload)
{
    struct zb_aps a = {.fcf = ZB_APS_DATA, .dst_endpoint = endpoint, .src_endpoint = endpoint, .counter = (uint8_t)counter,
                       .cluster = endpoint == 0 ? 0x0013 : 0x0402, .profile = endpoint == 0 ? 0 : 0x0104};
    return seal_aps(w, key, source, src, dst, counter, &a, payload);
}

struct frame_bytes reading(struct world *w, const uint8_t key[ZB_KEY], eui64_t device, uint32_t counter)
{
    return seal(w, key, device, SHORT, 0, counter, 1, span_of("\x18\x01\x0a\x00\x00\x29\x34\x08", 8));
}

void uplink(struct world *w, eui64_t gateway, const struct frame_bytes *f)
{
    struct egp_message m = {.env = {EGP_VERSION, EGP_UPLINK, 77, gateway, 0, EGP_TO_EG, 15, -50}};
    struct call c;
    m.u.frame = (struct egp_frame){.hop = SHORT, .lqi = 200, .nwk_frame = span_of(f->p, f->n)};
    send_message(w, &m, &c);
    assert_int_equal(c.st, ST_UPDATED);
}

/* --- the second exchange, as the device does it ------------------------------------------------------------------- */

bool newest_downlink(struct world *w, size_t from, const uint8_t key[ZB_KEY], struct zb_nwk *nwk, struct wr *plain)
{
    struct egp_message m;
    struct zb_aux aux;
    for (size_t i = w->h.nsent; i > from; i--) {
        assert_null(egp_decode(span_of(w->h.sent[i - 1].body, w->h.sent[i - 1].n), &m));
        if (m.env.type != EGP_DOWNLINK)
            continue;
        assert_int_equal(zb_nwk_open(w->crypto, key, m.u.frame.nwk_frame, nwk, &aux, plain), ZB_OK);
        assert_int_equal(aux.src64, m.env.gateway);
        return true;
    }
    return false;
}

struct frame_bytes command_to(struct world *w, const struct first_key *k, eui64_t device, uint32_t counter, uint16_t dst,
                              uint8_t fcf, const uint8_t *link_key, const struct zb_cmd *cmd)
{
    uint8_t buf[ZB_NWK_MAX], aps_buf[ZB_NWK_MAX];
    struct wr payload = wr_of(buf, sizeof buf), aps = wr_of(aps_buf, sizeof aps_buf);
    struct zb_aps a = {.fcf = fcf, .counter = (uint8_t)counter};
    assert_int_equal(zb_cmd_build(&payload, cmd), ZB_OK);
    if (link_key != NULL) {
        assert_int_equal(zb_aps_seal(w->crypto, link_key, &a, ZB_KEY_ID_DATA, counter, device, wr_span(&payload), &aps),
                         ZB_OK);
    } else {
        zb_aps_build(&aps, &a);
        wr_spanb(&aps, wr_span(&payload));
    }
    struct zb_nwk h = {.fcf = 0x0208, .src = SHORT, .dst = dst, .radius = 30, .seq = (uint8_t)counter};
    struct frame_bytes f = {.n = 0};
    struct wr out = wr_of(f.p, sizeof f.p);
    assert_int_equal(zb_nwk_seal(w->crypto, k->key, &h, counter, device, k->key_seq, wr_span(&aps), &out), ZB_OK);
    f.n = out.n;
    return f;
}

struct frame_bytes command_frame(struct world *w, const struct first_key *k, eui64_t device, uint32_t counter,
                                 const uint8_t *link_key, const struct zb_cmd *cmd)
{
    return command_to(w, k, device, counter, 0, ZB_APS_COMMAND, link_key, cmd);
}

bool newest_command(struct world *w, size_t from, const struct first_key *k, const uint8_t *link_key,
                    struct zb_cmd *cmd, struct zb_aux *aux)
{
    uint8_t buf[ZB_NWK_MAX], plain_buf[ZB_NWK_MAX];
    struct wr nwk_plain = wr_of(buf, sizeof buf), plain = wr_of(plain_buf, sizeof plain_buf);
    struct zb_nwk nwk;
    struct zb_aps aps;
    *aux = (struct zb_aux){0};
    if (!newest_downlink(w, from, k->key, &nwk, &nwk_plain) || zb_aps_parse(wr_span(&nwk_plain), &aps) != ZB_OK)
        return false;
    if (link_key == NULL)
        wr_spanb(&plain, aps.payload);
    else if (zb_aps_open(w->crypto, link_key, wr_span(&nwk_plain), 0, &aps, aux, &plain) != ZB_OK)
        return false;
    return zb_cmd_parse(wr_span(&plain), cmd) == ZB_OK;
}

bool request_key(struct world *w, const struct first_key *k, eui64_t device, uint32_t counter,
                 const uint8_t link_key[ZB_KEY], uint8_t tclk[ZB_KEY])
{
    struct zb_cmd request = {.id = ZB_REQUEST_KEY, .key_type = ZB_KEYTYPE_TCLK}, got;
    struct frame_bytes f = command_frame(w, k, device, counter, link_key, &request);
    struct zb_aux aux;
    size_t from = w->h.nsent;
    uplink(w, GW, &f);
    if (!newest_command(w, from, k, link_key, &got, &aux))
        return false;
    assert_int_equal(aux.key_id, ZB_KEY_ID_LOAD);
    assert_true(got.id == ZB_TRANSPORT_KEY && got.key_type == ZB_KEYTYPE_TCLK && got.dst == device && got.src == GW);
    memcpy(tclk, got.key, ZB_KEY);
    return true;
}

bool verify_key(struct world *w, const struct first_key *k, eui64_t device, uint32_t counter,
                const uint8_t tclk[ZB_KEY])
{
    struct zb_cmd verify = {.id = ZB_VERIFY_KEY, .key_type = ZB_KEYTYPE_TCLK, .src = device}, got;
    assert_int_equal(zb_derive(w->crypto, tclk, ZB_KEY_VERIFY, verify.key), ZB_OK);
    struct frame_bytes f = command_frame(w, k, device, counter, NULL, &verify);
    struct zb_aux aux;
    size_t from = w->h.nsent;
    uplink(w, GW, &f);
    if (!newest_command(w, from, k, tclk, &got, &aux))
        return false;
    assert_true(got.id == ZB_CONFIRM_KEY && got.key_type == ZB_KEYTYPE_TCLK && got.dst == device && got.status == 0);
    assert_int_equal(aux.key_id, ZB_KEY_ID_DATA);
    return true;
}

struct first_key enrol_with(struct world *w, eui64_t device, uint64_t transaction, uint8_t tclk[ZB_KEY])
{
    struct call c;
    uint8_t link_key[ZB_KEY];
    assert_true(hex_decode(CODE_KEY, 2 * ZB_KEY, link_key, ZB_KEY));
    enum st st = put_code(w, device, A_CODE);
    assert_true(st == ST_CREATED || st == ST_OK);
    assert_int_equal(ask(w, GW, device, transaction, &c), EGP_OK);
    struct first_key k = learn(w, &c, CODE_KEY);
    struct frame_bytes f = reading(w, k.key, device, 3);
    uplink(w, GW, &f);
    expect_device(w, device, "joining", NULL);
    assert_true(request_key(w, &k, device, 4, link_key, tclk));
    assert_true(verify_key(w, &k, device, 5, tclk));
    expect_device(w, device, "enrolled", NULL);
    return k;
}

struct first_key enrol(struct world *w, eui64_t device, uint64_t transaction)
{
    uint8_t tclk[ZB_KEY];
    return enrol_with(w, device, transaction, tclk);
}

/* --- what a device says to its coordinator ------------------------------------------------------------------------ */

struct frame_bytes zdp(struct world *w, const struct first_key *k, uint32_t counter, uint16_t dst, uint8_t fcf,
                       uint16_t cluster, struct span payload)
{
    struct zb_aps a = {.fcf = fcf, .cluster = cluster, .counter = (uint8_t)counter};
    return seal_aps(w, k->key, DEV, SHORT, dst, counter, &a, payload);
}

struct frame_bytes node_descriptor(struct world *w, const struct first_key *k, uint32_t counter, uint16_t about,
                                   uint8_t revision)
{
    uint8_t buf[32];
    struct wr p = wr_of(buf, sizeof buf);
    wr_u8(&p, 0);
    wr_u8(&p, 0);
    wr_le16(&p, about);
    wr_bytes(&p, "\x02\x40\x80\x5f\x11\x52\x52\x00", 8);
    wr_le16(&p, (uint16_t)(revision << 9));
    wr_bytes(&p, "\x52\x00\x00", 3);
    return zdp(w, k, counter, 0, ZB_APS_DATA, ZB_ZDP_NODE_DESC_RSP, wr_span(&p));
}

void nwk_command(struct world *w, const struct first_key *k, uint32_t counter, struct span command)
{
    struct zb_nwk h = {.fcf = 0x0209 | ZB_FCF_SRC64, .src = SHORT, .radius = 1, .seq = (uint8_t)counter, .has_src64 = true,
                       .src64 = DEV};
    struct frame_bytes f = {.n = 0};
    struct wr out = wr_of(f.p, sizeof f.p);
    assert_int_equal(zb_nwk_seal(w->crypto, k->key, &h, counter, DEV, 0, command, &out), ZB_OK);
    f.n = out.n;
    uplink(w, GW, &f);
}

/* A bare Rejoin Request (Zig 3.4.6) that anybody can send. */
static struct frame_bytes rejoin_frame(eui64_t device, uint8_t capability)
{
    struct frame_bytes f = {.n = 0};
    struct wr w = wr_of(f.p, sizeof f.p);
    zb_nwk_build(&w, &(struct zb_nwk){.fcf = 0x1009, .src = SHORT, .radius = 1, .has_src64 = true, .src64 = device});
    wr_u8(&w, 0x06);
    wr_u8(&w, capability);
    f.n = w.n;
    return f;
}

struct egp_message rejoin_message(eui64_t gateway, eui64_t device, uint64_t transaction, struct frame_bytes *f)
{
    struct egp_message m = request_message(gateway, device, transaction);
    *f = rejoin_frame(device, 0x80);
    m.u.request.join = EGP_REJOIN_TRUST_CENTRE;
    m.u.request.nwk_frame = span_of(f->p, f->n);
    return m;
}

enum egp_reason rejoin(struct world *w, eui64_t gateway, eui64_t device, uint64_t transaction, struct call *c)
{
    struct frame_bytes f;
    struct egp_message m = rejoin_message(gateway, device, transaction, &f);
    send_message(w, &m, c);
    return reason_of(c);
}

/* --- tickets ------------------------------------------------------------------------------------------------------ */

void post(struct world *w, const char *path, const char *identity, struct span body, struct call *c)
{
    begin(w, c, CSE_CREATE, path, body, S_AE, identity);
    settle(w);
}

uint32_t take_ticket(struct world *w, const char *identity, const char *body, enum st expected)
{
    struct call c;
    cJSON *in = cJSON_Parse(body);
    assert_true(in != NULL || *body == '\0');
    hand(w, &c, CSE_CREATE, TICKET, (struct span){0}, in, S_AE, identity);
    end(w, &c);
    cJSON_Delete(in);
    assert_int_equal(c.st, expected);
    if (c.pc == NULL)
        return 0;
    assert_string_equal(cJSON_GetObjectItem(c.pc, "source")->valuestring, "00124b001ca1b2c3");
    assert_int_equal(cJSON_GetObjectItem(c.pc, "keySeq")->valueint, 0);
    uint32_t first = (uint32_t)cJSON_GetObjectItem(c.pc, "first")->valuedouble;
    cJSON_Delete(c.pc);
    return first;
}

struct frame_bytes command(struct world *w, const uint8_t key[ZB_KEY], uint32_t counter)
{
    return seal(w, key, GW, 0, SHORT, counter, 1, span_of("\x01\x02\x01", 3));
}
