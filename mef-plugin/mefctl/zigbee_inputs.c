#include "mef-plugin/mefctl/zigbee_inputs.h"
#include <stdio.h>

enum type { T_NUMBER, T_BOOL, T_EUI64, T_KEY, T_CODE, T_HEX, T_DIRECTION, T_OBJECT };

enum { NAMES = 3 };

/* Every input: its name and others it is known by, the object it stands in, its type and, for a number, its range.
 * A frame counter of all ones is never valid (Zig 4.3.1.2). */
static const struct spec {
    const char *names[NAMES], *group;
    enum type type;
    uint64_t min, max;
} specs[IN_COUNT] = {
    [IN_LINK_KEY] = {{"link_key"}, NULL, T_KEY, 0, 0},
    [IN_INSTALL_CODE] = {{"install_code"}, NULL, T_CODE, 0, 0},
    [IN_NETWORK_KEY] = {{"network_key"}, NULL, T_KEY, 0, 0},
    [IN_GATEWAY_EUI64] = {{"gateway_eui64_text", "gateway_eui64"}, NULL, T_EUI64, 0, 0},
    [IN_GATEWAY_SHORT] = {{"gateway_short"}, NULL, T_NUMBER, 0, 0xffff},
    [IN_DEVICE_EUI64] = {{"device_eui64_text", "device_eui64"}, NULL, T_EUI64, 0, 0},
    [IN_DEVICE_SHORT] = {{"device_short"}, NULL, T_NUMBER, 0, 0xffff},
    [IN_PAN_ID] = {{"pan_id"}, NULL, T_NUMBER, 0, 0xffff},
    [IN_MAC_SEQ] = {{"mac_seq"}, NULL, T_NUMBER, 0, 0xff},
    [IN_NWK_SEQ] = {{"nwk_seq"}, NULL, T_NUMBER, 0, 0xff},
    [IN_NWK_RADIUS] = {{"nwk_radius"}, NULL, T_NUMBER, 1, 0xff},
    [IN_NWK_DST64] = {{"nwk_dst64"}, NULL, T_BOOL, 0, 0},
    [IN_NWK_SRC64] = {{"nwk_src64"}, NULL, T_BOOL, 0, 0},
    [IN_NWK_DISCOVER_ROUTE] = {{"nwk_discover_route"}, NULL, T_NUMBER, 0, 3},
    [IN_NWK_END_DEVICE_INITIATOR] = {{"nwk_end_device_initiator"}, NULL, T_BOOL, 0, 0},
    [IN_NWK_DST] = {{"nwk_dst", "nwk_dst_short", "dst_short"}, NULL, T_NUMBER, 0, 0xffff},
    [IN_BROADCAST] = {{"broadcast", "nwk_broadcast"}, NULL, T_BOOL, 0, 0},
    [IN_NWK_FRAME_COUNTER] = {{"nwk_frame_counter"}, NULL, T_NUMBER, 0, 0xfffffffe},
    [IN_NWK_KEY_SEQ] = {{"nwk_key_seq"}, NULL, T_NUMBER, 0, 0xff},
    [IN_APS_COUNTER] = {{"aps_counter"}, NULL, T_NUMBER, 0, 0xff},
    [IN_APS_KEY_ID] = {{"aps_key_id"}, NULL, T_NUMBER, 0, 3},
    [IN_APS_FRAME_COUNTER] = {{"aps_frame_counter"}, NULL, T_NUMBER, 0, 0xfffffffe},
    [IN_APS_ACK_REQUEST] = {{"aps_ack_request"}, NULL, T_BOOL, 0, 0},
    [IN_KEY_TYPE] = {{"key_type"}, NULL, T_NUMBER, 0, 0xff},
    [IN_TRANSPORTED_KEY] = {{"transported_key"}, NULL, T_KEY, 0, 0},
    [IN_KEY_SEQ] = {{"key_seq", "key_sequence"}, NULL, T_NUMBER, 0, 0xff},
    [IN_PARTNER_EUI64] = {{"partner_eui64_text", "partner_eui64"}, NULL, T_EUI64, 0, 0},
    [IN_INITIATOR] = {{"initiator"}, NULL, T_NUMBER, 0, 1},
    [IN_TUNNEL] = {{"tunnel"}, NULL, T_OBJECT, 0, 0},
    [IN_TUNNEL_PARENT_SHORT] = {{"parent_short"}, "tunnel", T_NUMBER, 0, 0xffff},
    [IN_TUNNEL_PARENT_EUI64] = {{"parent_eui64_text", "parent_eui64"}, "tunnel", T_EUI64, 0, 0},
    [IN_TUNNEL_APS_COUNTER] = {{"aps_counter"}, "tunnel", T_NUMBER, 0, 0xff},
    [IN_REQUEST_TYPE] = {{"request_type", "request_key_type", "requested_key_type"}, NULL, T_NUMBER, 0, 0xff},
    [IN_STATUS] = {{"status", "update_status", "confirm_status"}, NULL, T_NUMBER, 0, 0xff},
    [IN_PARENT_EUI64] = {{"parent_eui64_text", "parent_eui64", "router_eui64_text"}, NULL, T_EUI64, 0, 0},
    [IN_PARENT_SHORT] = {{"parent_short", "router_short"}, NULL, T_NUMBER, 0, 0xffff},
    [IN_UPDATED_EUI64] = {{"updated_eui64_text", "updated_device_eui64_text", "joiner_eui64_text"}, NULL, T_EUI64, 0, 0},
    [IN_UPDATED_SHORT] = {{"updated_short", "updated_device_short", "joiner_short"}, NULL, T_NUMBER, 0, 0xffff},
    [IN_TARGET_EUI64] = {{"target_eui64_text", "target_device_eui64_text", "target_eui64"}, NULL, T_EUI64, 0, 0},
    [IN_VERIFY_KEY_HASH] = {{"verify_key_hash"}, NULL, T_KEY, 0, 0},
    [IN_DIRECTION] = {{"direction"}, NULL, T_DIRECTION, 0, 0},
    [IN_DST_ENDPOINT] = {{"dst_endpoint", "aps_dst_endpoint", "dst_ep"}, NULL, T_NUMBER, 0, 0xff},
    [IN_SRC_ENDPOINT] = {{"src_endpoint", "aps_src_endpoint", "src_ep"}, NULL, T_NUMBER, 0, 0xff},
    [IN_GROUP] = {{"group", "aps_group"}, NULL, T_NUMBER, 0, 0xffff},
    [IN_CLUSTER] = {{"cluster", "cluster_id", "aps_cluster"}, NULL, T_NUMBER, 0, 0xffff},
    [IN_PROFILE] = {{"profile", "profile_id", "aps_profile"}, NULL, T_NUMBER, 0, 0xffff},
    [IN_APS_PAYLOAD] = {{"aps_payload", "payload", "asdu"}, NULL, T_HEX, 0, 0},
    [IN_NWK_FRAME] = {{"nwk_frame"}, NULL, T_HEX, 0, 0},
};

const char *input_name(enum input id)
{
    return specs[id].names[0];
}

void inputs_fail(struct inputs *in, const char *what, enum input id)
{
    const struct spec *s = &specs[id];
    if (in->error[0] == '\0')
        snprintf(in->error, sizeof in->error, "%s:%s%s%s", what, s->group != NULL ? s->group : "",
                 s->group != NULL ? "." : "", s->names[0]);
}

static bool read_number(const cJSON *item, const struct spec *s, uint64_t *out)
{
    double d = item->valuedouble;
    if (!cJSON_IsNumber(item) || !(d >= (double)s->min && d <= (double)s->max))
        return false;
    *out = (uint64_t)d;
    return (double)*out == d;
}

static bool read_hex(const char *text, size_t min, size_t max, struct value *v)
{
    size_t digits = strlen(text);
    v->n = digits / 2;
    return v->n >= min && v->n <= max && hex_decode(text, digits, v->bytes, v->n);
}

static bool read_direction(const char *text, uint64_t *uplink)
{
    static const char *const names[][2] = {{"downlink", "uplink"}, {"down", "up"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        for (*uplink = 0; *uplink <= 1; ++*uplink)
            if (strcmp(text, names[i][*uplink]) == 0)
                return true;
    return false;
}

static bool read_value(const cJSON *item, const struct spec *s, struct value *v)
{
    if (s->type == T_NUMBER)
        return read_number(item, s, &v->number);
    if (s->type == T_BOOL) {
        v->number = cJSON_IsTrue(item);
        return cJSON_IsBool(item);
    }
    if (s->type == T_OBJECT)
        return cJSON_IsObject(item);
    const char *text = cJSON_GetStringValue(item);
    if (text == NULL)
        return false;
    switch (s->type) {
    case T_EUI64:
        return eui64_parse(text, &v->number);
    case T_KEY:
        return read_hex(text, ZB_KEY, ZB_KEY, v);
    case T_CODE:
        return zb_install_code_parse(text, v->bytes, &v->n) == ZB_OK;
    case T_HEX:
        return read_hex(text, 0, sizeof v->bytes, v);
    case T_DIRECTION:
        return read_direction(text, &v->number);
    default:
        return false;
    }
}

static bool goes_by(const struct spec *s, const char *name)
{
    for (size_t i = 0; i < NAMES && s->names[i] != NULL; i++)
        if (strcmp(s->names[i], name) == 0)
            return true;
    return false;
}

static void read_member(struct inputs *in, const char *group, const cJSON *item)
{
    const char *name = item->string;
    for (size_t i = 0; i < IN_COUNT; i++) {
        const struct spec *s = &specs[i];
        if ((s->group == NULL) != (group == NULL) || !goes_by(s, name))
            continue;
        struct value *v = &in->v[i];
        v->is_null = cJSON_IsNull(item);
        v->present = !v->is_null && read_value(item, s, v);
        if (!v->is_null && !v->present)
            inputs_fail(in, "range", (enum input)i);
        return;
    }
}

void inputs_read(struct inputs *in, const cJSON *object)
{
    const cJSON *item, *inner;
    cJSON_ArrayForEach(item, object)
    {
        read_member(in, NULL, item);
        if (cJSON_IsObject(item) && strcmp(item->string, input_name(IN_TUNNEL)) == 0)
            cJSON_ArrayForEach(inner, item) read_member(in, input_name(IN_TUNNEL), inner);
    }
}

const struct value *inputs_need(struct inputs *in, enum input id)
{
    if (!in->v[id].present)
        inputs_fail(in, "missing", id);
    return &in->v[id];
}

uint64_t inputs_or(const struct inputs *in, enum input id, uint64_t fallback)
{
    return in->v[id].present ? in->v[id].number : fallback;
}

const uint8_t *inputs_link_key(struct inputs *in, struct zb_crypto *c)
{
    struct value *key = &in->v[IN_LINK_KEY], *code = &in->v[IN_INSTALL_CODE];
    if (key->present)
        return key->bytes;
    if (!code->present)
        return NULL;
    if (zb_install_code_key(c, span_of(code->bytes, code->n), key->bytes) != ZB_OK) {
        inputs_fail(in, "range", IN_INSTALL_CODE);
        return NULL;
    }
    key->present = true;
    key->n = ZB_KEY;
    return key->bytes;
}

/* --- answers --- */
struct answer answer_begin(struct wr *w)
{
    wr_u8(w, '{');
    return (struct answer){w, false};
}

void answer_end(struct answer *a)
{
    wr_u8(a->w, '}');
}

static void member(struct answer *a, const char *name)
{
    if (a->any)
        wr_u8(a->w, ',');
    a->any = true;
    wr_u8(a->w, '"');
    wr_spanb(a->w, span_str(name));
    wr_bytes(a->w, "\":", 2);
}

void answer_text(struct answer *a, const char *name, const char *token)
{
    member(a, name);
    wr_u8(a->w, '"');
    wr_spanb(a->w, span_str(token));
    wr_u8(a->w, '"');
}

void answer_hex(struct answer *a, const char *name, struct span bytes)
{
    static const char digits[] = "0123456789abcdef";
    member(a, name);
    wr_u8(a->w, '"');
    for (size_t i = 0; i < bytes.n; i++) {
        wr_u8(a->w, (uint8_t)digits[bytes.p[i] >> 4]);
        wr_u8(a->w, (uint8_t)digits[bytes.p[i] & 15]);
    }
    wr_u8(a->w, '"');
}

void answer_number(struct answer *a, const char *name, uint64_t n)
{
    char text[24];
    member(a, name);
    wr_bytes(a->w, text, (size_t)snprintf(text, sizeof text, "%llu", (unsigned long long)n));
}

void answer_bool(struct answer *a, const char *name, bool b)
{
    member(a, name);
    wr_spanb(a->w, span_str(b ? "true" : "false"));
}

void answer_null(struct answer *a, const char *name)
{
    member(a, name);
    wr_bytes(a->w, "null", 4);
}

void answer_eui64(struct answer *a, const char *name, eui64_t eui)
{
    char text[17];
    eui64_print(eui, text);
    answer_text(a, name, text);
}
