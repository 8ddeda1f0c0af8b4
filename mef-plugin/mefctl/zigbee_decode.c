/* `mefctl zigbee decode`: a NWK frame and keys to the inputs that it was forged from, as far as it tells. */
#include "mef-plugin/mefctl/zigbee_inputs.h"
#include <openssl/crypto.h>

enum { BROADCASTS = 0xfff8, REQUEST_APP_KEY = 2 };

/* A frame, opened layer by layer. For a tunnel, `aps` is the tunnelled frame and `outer` the one that carries it. */
struct frame {
    struct zb_crypto *c;
    const uint8_t *network_key, *link_key; /* NULL: not given */
    struct zb_nwk nwk;
    struct zb_aux nwk_aux, aps_aux;
    struct zb_aps outer, aps;
    bool nwk_secured, aps_secured, is_tunnel, is_command;
    struct zb_cmd cmd;
    eui64_t tunnel_dst;
    struct span payload; /* NWK command, APS data */
    uint8_t nwk_plain[ZB_NWK_MAX], aps_plain[ZB_NWK_MAX];
};

/* Without the key a frame is still checked as far as it can be read. */
static enum zb_err no_key(struct span secured)
{
    struct rd r = rd_of(secured);
    struct zb_aux aux;
    enum zb_err e = zb_aux_parse(&r, &aux);
    if (e != ZB_OK)
        return e;
    return r.n < ZB_MIC ? ZB_TRUNCATED : ZB_NO_KEY;
}

static enum zb_err open_nwk(struct frame *f, struct span frame, struct span *payload)
{
    enum zb_err e = zb_nwk_parse(frame, &f->nwk);
    if (e != ZB_OK)
        return e;
    f->nwk_secured = (f->nwk.fcf & ZB_FCF_SECURITY) != 0;
    *payload = f->nwk.payload;
    if (!f->nwk_secured)
        return ZB_OK;
    if (f->network_key == NULL)
        return no_key(f->nwk.payload);
    struct wr w = wr_of(f->nwk_plain, sizeof f->nwk_plain);
    e = zb_nwk_open(f->c, f->network_key, frame, &f->nwk, &f->nwk_aux, &w);
    *payload = wr_span(&w);
    return e;
}

static enum zb_err open_aps(struct frame *f, struct span frame, struct span *payload)
{
    enum zb_err e = zb_aps_parse(frame, &f->aps);
    if (e != ZB_OK)
        return e;
    f->aps_secured = (f->aps.fcf & ZB_APS_SECURITY) != 0;
    *payload = f->aps.payload;
    if (!f->aps_secured)
        return ZB_OK;
    if (f->link_key == NULL)
        return no_key(f->aps.payload);
    eui64_t source = f->nwk.has_src64 ? f->nwk.src64 : f->nwk_aux.src64;
    struct wr w = wr_of(f->aps_plain, sizeof f->aps_plain);
    e = zb_aps_open(f->c, f->link_key, frame, source, &f->aps, &f->aps_aux, &w);
    *payload = wr_span(&w);
    return e;
}

static uint8_t aps_type(const struct frame *f)
{
    return f->aps.fcf & 3;
}

/* A tunnel holds one more APS frame, and that one no further tunnel. */
static enum zb_err open_command(struct frame *f, struct span payload)
{
    enum zb_err e = zb_cmd_parse(payload, &f->cmd);
    if (e != ZB_OK || f->cmd.id != ZB_TUNNEL)
        return e;
    f->is_tunnel = true;
    f->tunnel_dst = f->cmd.dst;
    f->outer = f->aps;
    struct span tunnelled = f->cmd.tunnelled;
    e = open_aps(f, tunnelled, &payload);
    if (e != ZB_OK)
        return e;
    if (aps_type(f) != ZB_APS_COMMAND)
        return ZB_MALFORMED;
    e = zb_cmd_parse(payload, &f->cmd);
    return e == ZB_OK && f->cmd.id == ZB_TUNNEL ? ZB_MALFORMED : e;
}

static enum zb_err open_all(struct frame *f, struct span frame)
{
    enum zb_err e = open_nwk(f, frame, &f->payload);
    if (e != ZB_OK)
        return e;
    if ((f->nwk.fcf & ZB_FCF_TYPE) == ZB_NWK_COMMAND)
        return f->payload.n != 0 ? ZB_OK : ZB_TRUNCATED;
    e = open_aps(f, f->payload, &f->payload);
    f->is_command = aps_type(f) == ZB_APS_COMMAND;
    return e == ZB_OK && f->is_command ? open_command(f, f->payload) : e;
}

static const char *transport_kind(const struct frame *f)
{
    if (f->cmd.key_type == ZB_KEYTYPE_TCLK)
        return "transport-key-tclk";
    if (f->cmd.key_type == ZB_KEYTYPE_APP)
        return "transport-key-app";
    if (!f->nwk_secured)
        return "transport-key-nwk";
    return f->nwk.dst >= BROADCASTS ? "transport-key-nwk-broadcast" : "transport-key-nwk-update";
}

static const char *kind_of(const struct frame *f)
{
    if ((f->nwk.fcf & ZB_FCF_TYPE) == ZB_NWK_COMMAND)
        return "nwk-command";
    if (f->is_tunnel)
        return "tunnel";
    if (!f->is_command)
        return aps_type(f) == ZB_APS_ACK ? "aps-ack" : "data";
    if (f->cmd.id == ZB_TRANSPORT_KEY)
        return transport_kind(f);
    const struct kind *k = kind_of_command(f->cmd.id);
    return k != NULL ? k->name : "aps-command";
}

/* Sent by a device: what only devices send, and else what does not come from the coordinator's address. */
static bool is_uplink(const struct frame *f)
{
    const struct kind *k = f->is_command && !f->is_tunnel ? kind_of_command(f->cmd.id) : NULL;
    return k != NULL ? k->uplink : f->nwk.src != 0;
}

/* An EUI-64 that may be unknown. */
struct known {
    bool yes;
    eui64_t eui;
};

/* The end-to-end sources first: NWK's auxiliary header names the last hop. */
static struct known sender_eui64(const struct frame *f)
{
    if (f->is_command &&
        (f->cmd.id == ZB_VERIFY_KEY || (f->cmd.id == ZB_TRANSPORT_KEY && f->cmd.key_type != ZB_KEYTYPE_APP)))
        return (struct known){true, f->cmd.src};
    if (f->aps_secured && f->aps_aux.has_src64)
        return (struct known){true, f->aps_aux.src64};
    if (f->nwk.has_src64)
        return (struct known){true, f->nwk.src64};
    return (struct known){f->nwk_secured, f->nwk_aux.src64};
}

static struct known receiver_eui64(const struct frame *f)
{
    if (f->is_tunnel)
        return (struct known){true, f->tunnel_dst};
    if (f->is_command && f->nwk.dst < BROADCASTS &&
        (f->cmd.id == ZB_CONFIRM_KEY || (f->cmd.id == ZB_TRANSPORT_KEY && f->cmd.key_type != ZB_KEYTYPE_APP)))
        return (struct known){true, f->cmd.dst};
    return (struct known){f->nwk.has_dst64, f->nwk.dst64};
}

static void tell_eui64(struct answer *a, enum input id, struct known k)
{
    if (k.yes)
        answer_eui64(a, input_name(id), k.eui);
}

static void tell_parties(struct answer *a, const struct frame *f)
{
    bool uplink = is_uplink(f);
    bool update = f->is_command && f->cmd.id == ZB_UPDATE_DEVICE;
    struct known from = sender_eui64(f), to = receiver_eui64(f);
    tell_eui64(a, IN_GATEWAY_EUI64, uplink ? to : from);
    answer_number(a, input_name(IN_GATEWAY_SHORT), uplink ? f->nwk.dst : f->nwk.src);
    if (update) {
        tell_eui64(a, IN_PARENT_EUI64, from);
        answer_number(a, input_name(IN_PARENT_SHORT), f->nwk.src);
        answer_eui64(a, input_name(IN_DEVICE_EUI64), f->cmd.device);
        answer_number(a, input_name(IN_DEVICE_SHORT), f->cmd.short_addr);
        answer_number(a, input_name(IN_STATUS), f->cmd.status);
        return;
    }
    tell_eui64(a, IN_DEVICE_EUI64, uplink ? from : to);
    if (!f->is_tunnel)
        answer_number(a, input_name(IN_DEVICE_SHORT), uplink ? f->nwk.src : f->nwk.dst);
    if (f->nwk.dst >= BROADCASTS || (f->is_command && f->cmd.id == ZB_SWITCH_KEY))
        answer_bool(a, input_name(IN_BROADCAST), f->nwk.dst >= BROADCASTS);
}

static void tell_nwk(struct answer *a, const struct frame *f)
{
    answer_number(a, input_name(IN_NWK_SEQ), f->nwk.seq);
    answer_number(a, input_name(IN_NWK_RADIUS), f->nwk.radius);
    answer_bool(a, input_name(IN_NWK_DST64), f->nwk.has_dst64);
    answer_bool(a, input_name(IN_NWK_SRC64), f->nwk.has_src64);
    answer_number(a, input_name(IN_NWK_DISCOVER_ROUTE), (f->nwk.fcf & ZB_FCF_DISCOVER) >> 6);
    if ((f->nwk.fcf & ZB_FCF_END_DEVICE) != 0)
        answer_bool(a, input_name(IN_NWK_END_DEVICE_INITIATOR), true);
    if (!f->nwk_secured)
        return;
    answer_number(a, input_name(IN_NWK_FRAME_COUNTER), f->nwk_aux.counter);
    answer_number(a, input_name(IN_NWK_KEY_SEQ), f->nwk_aux.key_seq);
}

static void tell_aps(struct answer *a, const struct frame *f)
{
    answer_number(a, input_name(IN_APS_COUNTER), f->aps.counter);
    answer_bool(a, input_name(IN_APS_ACK_REQUEST), (f->aps.fcf & ZB_APS_ACK_REQUEST) != 0);
    if (f->aps_secured) {
        answer_number(a, input_name(IN_APS_KEY_ID), f->aps_aux.key_id);
        answer_number(a, input_name(IN_APS_FRAME_COUNTER), f->aps_aux.counter);
    } else {
        answer_null(a, input_name(IN_APS_KEY_ID));
        answer_null(a, input_name(IN_APS_FRAME_COUNTER));
    }
    if (f->is_tunnel) {
        wr_spanb(a->w, span_str(",\"tunnel\":"));
        struct answer tunnel = answer_begin(a->w);
        answer_number(&tunnel, input_name(IN_TUNNEL_PARENT_SHORT), f->nwk.dst);
        if (f->nwk.has_dst64)
            answer_eui64(&tunnel, input_name(IN_TUNNEL_PARENT_EUI64), f->nwk.dst64);
        answer_number(&tunnel, input_name(IN_TUNNEL_APS_COUNTER), f->outer.counter);
        answer_end(&tunnel);
    }
}

static void tell_command(struct answer *a, const struct frame *f)
{
    const struct zb_cmd *c = &f->cmd;
    switch (c->id) {
    case ZB_TRANSPORT_KEY:
        answer_number(a, input_name(IN_KEY_TYPE), c->key_type);
        answer_hex(a, input_name(IN_TRANSPORTED_KEY), span_of(c->key, ZB_KEY));
        if (c->key_type == ZB_KEYTYPE_NWK)
            answer_number(a, input_name(IN_KEY_SEQ), c->key_seq);
        if (c->key_type == ZB_KEYTYPE_APP) {
            answer_eui64(a, input_name(IN_PARTNER_EUI64), c->partner);
            answer_number(a, input_name(IN_INITIATOR), c->initiator);
        }
        break;
    case ZB_REQUEST_KEY:
        answer_number(a, input_name(IN_REQUEST_TYPE), c->key_type);
        if (c->key_type == REQUEST_APP_KEY)
            answer_eui64(a, input_name(IN_PARTNER_EUI64), c->partner);
        break;
    case ZB_SWITCH_KEY:
        answer_number(a, input_name(IN_KEY_SEQ), c->key_seq);
        break;
    case ZB_REMOVE_DEVICE:
        answer_eui64(a, input_name(IN_TARGET_EUI64), c->device);
        break;
    case ZB_VERIFY_KEY:
        answer_number(a, input_name(IN_KEY_TYPE), c->key_type);
        answer_hex(a, input_name(IN_VERIFY_KEY_HASH), span_of(c->key, ZB_KEY));
        break;
    case ZB_CONFIRM_KEY:
        answer_number(a, input_name(IN_KEY_TYPE), c->key_type);
        answer_number(a, input_name(IN_STATUS), c->status);
        break;
    default:
        break;
    }
}

static void tell_data(struct answer *a, const struct frame *f)
{
    answer_text(a, input_name(IN_DIRECTION), is_uplink(f) ? "uplink" : "downlink");
    if ((f->aps.fcf & 0x0c) == 0x0c)
        answer_number(a, input_name(IN_GROUP), f->aps.group);
    else
        answer_number(a, input_name(IN_DST_ENDPOINT), f->aps.dst_endpoint);
    answer_number(a, input_name(IN_SRC_ENDPOINT), f->aps.src_endpoint);
    answer_number(a, input_name(IN_CLUSTER), f->aps.cluster);
    answer_number(a, input_name(IN_PROFILE), f->aps.profile);
    answer_hex(a, input_name(IN_APS_PAYLOAD), f->payload);
}

static void tell(struct answer *a, const struct frame *f)
{
    answer_bool(a, "ok", true);
    answer_text(a, "kind", kind_of(f));
    tell_parties(a, f);
    tell_nwk(a, f);
    if ((f->nwk.fcf & ZB_FCF_TYPE) == ZB_NWK_COMMAND) {
        answer_hex(a, "nwk_payload", f->payload);
        return;
    }
    tell_aps(a, f);
    if (f->is_command)
        tell_command(a, f);
    else
        tell_data(a, f);
}

static const uint8_t *key_or_null(const struct value *v)
{
    return v->present ? v->bytes : NULL;
}

void zb_decode(struct zb_crypto *c, const cJSON *line, struct wr *out)
{
    struct inputs in = {0};
    struct frame f = {.c = c};
    const char *error = NULL;
    inputs_read(&in, line);
    const struct value *v = inputs_need(&in, IN_NWK_FRAME);
    f.network_key = key_or_null(&in.v[IN_NETWORK_KEY]);
    f.link_key = inputs_link_key(&in, c);
    if (in.error[0] != '\0') {
        error = strcmp(in.error, "range:nwk_frame") == 0 ? zb_err_name(ZB_MALFORMED) : in.error;
    } else {
        enum zb_err e = open_all(&f, span_of(v->bytes, v->n));
        error = e != ZB_OK ? zb_err_name(e) : NULL;
    }

    struct answer a = answer_begin(out);
    if (error != NULL) {
        answer_bool(&a, "ok", false);
        answer_text(&a, "error", error);
    } else {
        tell(&a, &f);
    }
    answer_end(&a);
    OPENSSL_cleanse(&in, sizeof in);
    OPENSSL_cleanse(&f, sizeof f);
}
