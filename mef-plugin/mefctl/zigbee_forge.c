/* `mefctl zigbee forge`: kind and inputs to a NWK frame. */
#include "mef-plugin/mefctl/zigbee_inputs.h"
#include <openssl/crypto.h>

enum { BROADCAST_RX_ON = 0xfffd, BROADCASTS = 0xfff8 };
enum { APS_BROADCAST = 0x08, APS_GROUP = 0x0c, NWK_VERSION = 2 << 2 };
enum { REQUEST_APP_KEY = 2 };

/* What the frame is made of while it grows; `in` keeps the first error. */
struct forge {
    struct zb_crypto *c;
    struct inputs *in;
    const struct kind *kind;
    enum input from_eui64, from_short, to_eui64, to_short; /* sender and NWK receiver */
    uint16_t dst;
    uint8_t plain[ZB_NWK_MAX], inner[ZB_NWK_MAX], aps[ZB_NWK_MAX], nwk[ZB_NWK_MAX];
    struct wr aps_w; /* the APS frame of the kind, the tunnelled one of a tunnel */
    struct wr nwk_w;
};

static bool is_tunnel(const struct forge *f)
{
    return strcmp(f->kind->name, "tunnel") == 0;
}

static uint64_t need(struct forge *f, enum input id)
{
    return inputs_need(f->in, id)->number;
}

static const uint8_t *need_link_key(struct forge *f)
{
    const uint8_t *key = inputs_link_key(f->in, f->c);
    return key != NULL ? key : inputs_need(f->in, IN_LINK_KEY)->bytes;
}

/* Sender and receiver. An Update-Device comes from the parent and tells of the device; a Remove-Device goes to the
 * parent and names the device: either side may be given alone. */
static void choose_parties(struct forge *f)
{
    const struct value *v = f->in->v;
    bool uplink = f->kind->cmd != 0 ? f->kind->uplink : inputs_or(f->in, IN_DIRECTION, 1) != 0;
    bool parent = (f->kind->cmd == ZB_UPDATE_DEVICE || f->kind->cmd == ZB_REMOVE_DEVICE) &&
                  (v[IN_PARENT_EUI64].present || v[IN_PARENT_SHORT].present);
    enum input peer_eui64 = parent ? IN_PARENT_EUI64 : IN_DEVICE_EUI64;
    enum input peer_short = parent ? IN_PARENT_SHORT : IN_DEVICE_SHORT;
    if (is_tunnel(f)) {
        inputs_need(f->in, IN_TUNNEL);
        peer_eui64 = IN_TUNNEL_PARENT_EUI64;
        peer_short = IN_TUNNEL_PARENT_SHORT;
    }
    f->from_eui64 = uplink ? peer_eui64 : IN_GATEWAY_EUI64;
    f->from_short = uplink ? peer_short : IN_GATEWAY_SHORT;
    f->to_eui64 = uplink ? IN_GATEWAY_EUI64 : peer_eui64;
    f->to_short = uplink ? IN_GATEWAY_SHORT : peer_short;
}

static void choose_destination(struct forge *f)
{
    const struct value *v = f->in->v;
    uint16_t to = (uint16_t)v[f->to_short].number;
    if (v[IN_NWK_DST].present)
        f->dst = (uint16_t)v[IN_NWK_DST].number;
    else if (inputs_or(f->in, IN_BROADCAST, f->kind->broadcast || v[IN_GROUP].present) != 0)
        f->dst = v[f->to_short].present && to >= BROADCASTS ? to : BROADCAST_RX_ON;
    else
        f->dst = (uint16_t)need(f, f->to_short);
}

static bool is_broadcast(const struct forge *f)
{
    return f->dst >= BROADCASTS;
}

static void transport_key(struct forge *f, struct zb_cmd *cmd)
{
    memcpy(cmd->key, inputs_need(f->in, IN_TRANSPORTED_KEY)->bytes, ZB_KEY);
    if (cmd->key_type == ZB_KEYTYPE_APP) {
        cmd->partner = need(f, IN_PARTNER_EUI64);
        cmd->initiator = (uint8_t)need(f, IN_INITIATOR);
        return;
    }
    if (cmd->key_type == ZB_KEYTYPE_NWK)
        cmd->key_seq = (uint8_t)need(f, IN_KEY_SEQ);
    cmd->dst = is_broadcast(f) ? 0 : need(f, IN_DEVICE_EUI64); /* one key for all names nobody (Zig 4.4.3.1) */
    cmd->src = need(f, IN_GATEWAY_EUI64);
}

static void request_key(struct forge *f, struct zb_cmd *cmd)
{
    cmd->key_type = (uint8_t)inputs_or(f->in, IN_REQUEST_TYPE, cmd->key_type);
    if (cmd->key_type == REQUEST_APP_KEY)
        cmd->partner = need(f, IN_PARTNER_EUI64);
    else if (cmd->key_type != ZB_KEYTYPE_TCLK)
        inputs_fail(f->in, "range", f->in->v[IN_REQUEST_TYPE].present ? IN_REQUEST_TYPE : IN_KEY_TYPE);
}

static void update_device(struct forge *f, struct zb_cmd *cmd)
{
    const struct value *v = f->in->v;
    cmd->device = need(f, v[IN_UPDATED_EUI64].present ? IN_UPDATED_EUI64 : IN_DEVICE_EUI64);
    cmd->short_addr = (uint16_t)need(f, v[IN_UPDATED_SHORT].present ? IN_UPDATED_SHORT : IN_DEVICE_SHORT);
    cmd->status = (uint8_t)need(f, IN_STATUS);
}

static void remove_device(struct forge *f, struct zb_cmd *cmd)
{
    bool parent = f->to_short == IN_PARENT_SHORT && !f->in->v[IN_TARGET_EUI64].present;
    cmd->device = need(f, parent ? IN_DEVICE_EUI64 : IN_TARGET_EUI64);
}

static void switch_key(struct forge *f, struct zb_cmd *cmd)
{
    cmd->key_seq = (uint8_t)need(f, IN_KEY_SEQ);
}

static void verify_key(struct forge *f, struct zb_cmd *cmd)
{
    const struct value *hash = &f->in->v[IN_VERIFY_KEY_HASH];
    cmd->src = need(f, IN_DEVICE_EUI64);
    if (hash->present)
        memcpy(cmd->key, hash->bytes, ZB_KEY);
    else if (zb_derive(f->c, need_link_key(f), ZB_KEY_VERIFY, cmd->key) != ZB_OK)
        inputs_fail(f->in, "range", IN_LINK_KEY);
}

static void confirm_key(struct forge *f, struct zb_cmd *cmd)
{
    cmd->status = (uint8_t)inputs_or(f->in, IN_STATUS, 0);
    cmd->dst = need(f, IN_DEVICE_EUI64);
}

static const struct {
    uint8_t cmd;
    void (*fill)(struct forge *f, struct zb_cmd *cmd);
} fillers[] = {
    {ZB_TRANSPORT_KEY, transport_key}, {ZB_REQUEST_KEY, request_key},     {ZB_SWITCH_KEY, switch_key},
    {ZB_UPDATE_DEVICE, update_device}, {ZB_REMOVE_DEVICE, remove_device}, {ZB_VERIFY_KEY, verify_key},
    {ZB_CONFIRM_KEY, confirm_key},
};

static struct span command(struct forge *f)
{
    struct zb_cmd cmd = {.id = f->kind->cmd};
    cmd.key_type = (uint8_t)inputs_or(f->in, IN_KEY_TYPE, f->kind->key_type);
    if (cmd.id == ZB_TRANSPORT_KEY && cmd.key_type != f->kind->key_type)
        inputs_fail(f->in, "range", IN_KEY_TYPE);
    for (size_t i = 0; i < sizeof fillers / sizeof fillers[0]; i++)
        if (fillers[i].cmd == cmd.id)
            fillers[i].fill(f, &cmd);
    struct wr w = wr_of(f->plain, sizeof f->plain);
    if (zb_cmd_build(&w, &cmd) != ZB_OK)
        inputs_fail(f->in, "range", IN_KEY_TYPE);
    OPENSSL_cleanse(&cmd, sizeof cmd);
    return wr_span(&w);
}

static struct zb_aps aps_header(struct forge *f)
{
    const struct value *v = f->in->v;
    struct zb_aps h = {.fcf = f->kind->cmd != 0 ? ZB_APS_COMMAND : ZB_APS_DATA,
                       .counter = (uint8_t)need(f, IN_APS_COUNTER)};
    if (v[IN_APS_ACK_REQUEST].number != 0)
        h.fcf |= ZB_APS_ACK_REQUEST;
    if (is_broadcast(f)) {
        h.fcf |= v[IN_GROUP].present && f->kind->cmd == 0 ? APS_GROUP : APS_BROADCAST;
        if (v[IN_APS_ACK_REQUEST].number != 0)
            inputs_fail(f->in, "range", IN_APS_ACK_REQUEST); /* nobody acknowledges a broadcast */
    }
    if (f->kind->cmd != 0)
        return h;
    h.group = (uint16_t)v[IN_GROUP].number;
    h.dst_endpoint = (uint8_t)(v[IN_GROUP].present ? 0 : need(f, IN_DST_ENDPOINT));
    h.src_endpoint = (uint8_t)need(f, IN_SRC_ENDPOINT);
    h.cluster = (uint16_t)need(f, IN_CLUSTER);
    h.profile = (uint16_t)need(f, IN_PROFILE);
    return h;
}

/* Only data can be too long by itself, a command by its NWK addresses. */
static void too_long(struct forge *f)
{
    inputs_fail(f->in, "range", f->kind->cmd == 0 ? IN_APS_PAYLOAD : IN_NWK_DST64);
}

/* The APS frame of the kind. */
static void build_aps(struct forge *f)
{
    const struct value *v = f->in->v, *data = &v[IN_APS_PAYLOAD];
    struct span payload = span_of(data->bytes, data->n);
    if (f->kind->cmd != 0)
        payload = command(f);
    else
        inputs_need(f->in, IN_APS_PAYLOAD);
    struct zb_aps h = aps_header(f);

    uint8_t fallback = v[IN_APS_KEY_ID].is_null ? NO_APS_KEY : f->kind->aps_key_id;
    uint8_t key_id = (uint8_t)inputs_or(f->in, IN_APS_KEY_ID, fallback);
    if (key_id == NO_APS_KEY) {
        zb_aps_build(&f->aps_w, &h);
        wr_spanb(&f->aps_w, payload);
        if (!wr_ok(&f->aps_w))
            too_long(f);
        return;
    }
    enum input sender = is_tunnel(f) ? IN_GATEWAY_EUI64 : f->from_eui64;
    enum zb_err e = zb_aps_seal(f->c, need_link_key(f), &h, key_id, (uint32_t)need(f, IN_APS_FRAME_COUNTER),
                                need(f, sender), payload, &f->aps_w);
    if (e == ZB_NO_KEY)
        inputs_fail(f->in, "range", IN_APS_KEY_ID);
    else if (e != ZB_OK)
        too_long(f);
}

/* What NWK carries: the APS frame, or the Tunnel command to the parent around it, itself without APS security. */
static struct span nwk_payload(struct forge *f, struct wr *w)
{
    struct span aps = span_of(f->aps, f->aps_w.n);
    if (!is_tunnel(f))
        return aps;
    struct zb_aps h = {.fcf = ZB_APS_COMMAND, .counter = (uint8_t)need(f, IN_TUNNEL_APS_COUNTER)};
    struct zb_cmd cmd = {.id = ZB_TUNNEL, .dst = need(f, IN_DEVICE_EUI64), .tunnelled = aps};
    zb_aps_build(w, &h);
    if (zb_cmd_build(w, &cmd) != ZB_OK)
        inputs_fail(f->in, "range", IN_TRANSPORTED_KEY);
    return wr_span(w);
}

static struct zb_nwk nwk_header(struct forge *f)
{
    const struct value *v = f->in->v;
    struct zb_nwk h = {.fcf = ZB_NWK_DATA | NWK_VERSION,
                       .dst = f->dst,
                       .src = (uint16_t)need(f, f->from_short),
                       .radius = (uint8_t)need(f, IN_NWK_RADIUS),
                       .seq = (uint8_t)need(f, IN_NWK_SEQ),
                       .has_dst64 = v[IN_NWK_DST64].number != 0,
                       .has_src64 = v[IN_NWK_SRC64].number != 0};
    h.fcf |= (uint16_t)(v[IN_NWK_DISCOVER_ROUTE].number << 6);
    if (v[IN_NWK_END_DEVICE_INITIATOR].number != 0)
        h.fcf |= ZB_FCF_END_DEVICE;
    if (h.has_dst64 && is_broadcast(f))
        inputs_fail(f->in, "range", IN_NWK_DST64); /* a broadcast has no one IEEE address (Zig 3.3.1.1.7) */
    else if (h.has_dst64)
        h.dst64 = need(f, f->to_eui64);
    if (h.has_src64)
        h.src64 = need(f, f->from_eui64);
    return h;
}

static void build_nwk(struct forge *f)
{
    struct wr tunnel = wr_of(f->inner, sizeof f->inner);
    struct span payload = nwk_payload(f, &tunnel);
    struct zb_nwk h = nwk_header(f);
    const struct value *key = &f->in->v[IN_NETWORK_KEY];
    if (!key->present && f->kind->nwk_clear) {
        zb_nwk_build(&f->nwk_w, &h);
        wr_spanb(&f->nwk_w, payload);
        if (!wr_ok(&f->nwk_w))
            too_long(f);
    } else if (zb_nwk_seal(f->c, inputs_need(f->in, IN_NETWORK_KEY)->bytes, &h, (uint32_t)need(f, IN_NWK_FRAME_COUNTER),
                           need(f, f->from_eui64), (uint8_t)need(f, IN_NWK_KEY_SEQ), payload, &f->nwk_w) != ZB_OK) {
        too_long(f);
    }
}

static void forge(struct forge *f)
{
    f->aps_w = wr_of(f->aps, sizeof f->aps);
    f->nwk_w = wr_of(f->nwk, sizeof f->nwk);
    choose_parties(f);
    choose_destination(f);
    build_aps(f);
    build_nwk(f);
}

void zb_forge(struct zb_crypto *c, const cJSON *line, struct wr *out)
{
    const cJSON *object = cJSON_GetObjectItemCaseSensitive(line, "inputs");
    struct inputs in = {0};
    struct forge f = {.c = c, .in = &in};
    const char *error = NULL;
    f.kind = kind_find(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(line, "kind")));
    if (f.kind == NULL)
        error = "bad-kind";
    else if (object == NULL)
        error = "missing:inputs";
    else if (!cJSON_IsObject(object))
        error = "range:inputs";
    if (error == NULL) {
        inputs_read(&in, object);
        forge(&f);
        error = in.error[0] != '\0' ? in.error : NULL;
    }

    struct answer a = answer_begin(out);
    if (error != NULL) {
        answer_text(&a, "error", error);
    } else {
        answer_hex(&a, "nwk_frame", wr_span(&f.nwk_w));
        answer_hex(&a, "aps_frame", wr_span(&f.aps_w));
    }
    answer_end(&a);
    OPENSSL_cleanse(&in, sizeof in);
    OPENSSL_cleanse(&f, sizeof f);
}
