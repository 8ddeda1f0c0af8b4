#include "tests/unit/eg_routers_fixture.h"

void applications(struct world *w)
{
    put_application(w, "hall", "{\"keyScope\":\"application\",\"members\":[\"" AE "\"]}");
    put_application(w, "cellar", "{\"keyScope\":\"application\",\"members\":[\"" AE "\"]}");
}

void send_through(struct world *w, struct node *hop, const struct node *from, uint16_t dst, struct span aps)
{
    struct zb_nwk h = {.fcf = 0x0208, .dst = dst, .src = from->address, .radius = 29, .seq = from->seq};
    struct frame_bytes f = {.n = 0};
    struct wr out = wr_of(f.p, sizeof f.p);
    hop->counter++;
    assert_int_equal(zb_nwk_seal(w->crypto, hop->k.key, &h, hop->counter, hop->eui, hop->k.key_seq, aps, &out), ZB_OK);
    f.n = out.n;
    uplink(w, GW, &f);
}

void announce(struct world *w, struct node *hop, struct node *n, uint8_t capability)
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

void send_command(struct world *w, struct node *hop, struct node *n, const uint8_t *link_key, const struct zb_cmd *cmd)
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

void update_device(struct world *w, struct node *router, const struct node *child, uint8_t status)
{
    struct zb_cmd cmd = {.id = ZB_UPDATE_DEVICE, .device = child->eui, .short_addr = child->address, .status = status};
    send_command(w, router, router, router->link_key, &cmd);
}

void exchange(struct world *w, struct node *hop, struct node *n)
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

struct node fresh(eui64_t eui, uint16_t address)
{
    struct node n = {.eui = eui, .address = address};
    assert_true(hex_decode(CODE_KEY, 2 * ZB_KEY, n.link_key, ZB_KEY));
    return n;
}

struct node enrol_direct(struct world *w, eui64_t eui, uint16_t address, const char *registration, uint64_t transaction)
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

bool tunnelled(struct world *w, size_t from, const struct node *router, struct node *child)
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

struct node enrol_below(struct world *w, struct node *router, struct node *last, eui64_t eui, uint16_t address)
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

uint16_t hop_of(struct world *w, size_t i, bool *indirect)
{
    struct egp_message m;
    assert_null(egp_decode(span_of(w->h.sent[i].body, w->h.sent[i].n), &m));
    assert_int_equal(m.env.type, EGP_DOWNLINK);
    *indirect = m.u.frame.indirect;
    return m.u.frame.hop;
}

void expect_parent(struct world *w, eui64_t eui, const char *parent)
{
    cJSON *o = eg_device_get(w->eg, ADMIN, eui);
    const cJSON *p = cJSON_GetObjectItem(o, "parent");
    if (parent == NULL)
        assert_null(p);
    else
        assert_string_equal(p->valuestring, parent);
    cJSON_Delete(o);
}

void key_id(struct world *w, eui64_t eui, char id[MEF_RELKEYID])
{
    cJSON *o = eg_device_get(w->eg, ADMIN, eui);
    snprintf(id, MEF_RELKEYID, "%s", cJSON_GetObjectItem(o, "keyId")->valuestring);
    cJSON_Delete(o);
}
