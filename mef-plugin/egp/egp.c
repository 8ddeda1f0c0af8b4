/* One table of fields describes each message part; the encoder, the decoder and the range checks all read it, so they
 * cannot disagree. Heads are written by libcbor; they are read here because libcbor's decoder takes any length form
 * and this protocol takes the shortest only (RFC 8949 4.2.1). */
#include "mef-plugin/egp/egp.h"

#include <cbor.h>

enum kind { F_UINT, F_INT8, F_BOOL, F_EUI64, F_FRAME };

struct field {
    size_t at, size;   /* member of struct egp_message */
    enum kind kind;
    uint64_t min, max; /* F_UINT: value; F_FRAME: length in bytes */
};

#define MEMBER(m) offsetof(struct egp_message, m), sizeof ((struct egp_message *)NULL)->m

enum major { CBOR_UINT = 0, CBOR_NEGINT = 1, CBOR_BYTES = 2, CBOR_ARRAY = 4, CBOR_SIMPLE = 7 };
enum { SIMPLE_FALSE = 20, SIMPLE_TRUE = 21 };

static const struct field envelope_fields[] = {
    {MEMBER(env.version), F_UINT, EGP_VERSION, EGP_VERSION},
    {MEMBER(env.type), F_UINT, 0, EGP_TYPES - 1},
    {MEMBER(env.transaction), F_UINT, 0, UINT64_MAX},
    {MEMBER(env.gateway), F_EUI64, 0, 0},
    {MEMBER(env.device), F_EUI64, 0, 0},
    {MEMBER(env.direction), F_UINT, 0, EGP_TO_GATEWAY},
    {MEMBER(env.channel), F_UINT, 0, 26},
    {MEMBER(env.rssi), F_INT8, 0, 0},
};
static const struct field hello_fields[] = {
    {MEMBER(u.hello.pan_id), F_UINT, 0, 0xfffe},
    {MEMBER(u.hello.channel), F_UINT, 11, 26},
    {MEMBER(u.hello.ext_pan_id), F_EUI64, 0, 0},
    {MEMBER(u.hello.gateway_short), F_UINT, 0, 0xfff7},
};
static const struct field request_fields[] = {
    {MEMBER(u.request.gateway_short), F_UINT, 0, 0xfff7},
    {MEMBER(u.request.device_short), F_UINT, 0, 0xfff7},
    {MEMBER(u.request.pan_id), F_UINT, 0, 0xfffe},
    {MEMBER(u.request.parent_short), F_UINT, 0, 0xfff7},
    {MEMBER(u.request.capability), F_UINT, 0, 0xff},
    {MEMBER(u.request.join), F_UINT, 0, EGP_REJOIN_TRUST_CENTRE},
    {MEMBER(u.request.nwk_frame), F_FRAME, 0, EGP_MAX_NWK},
};
static const struct field response_fields[] = {
    {MEMBER(u.response.reason), F_UINT, 0, EGP_REASONS - 1},
    {MEMBER(u.response.next_hop), F_UINT, 0, 0xffff},
    {MEMBER(u.response.indirect), F_BOOL, 0, 0},
    {MEMBER(u.response.nwk_frame), F_FRAME, 0, EGP_MAX_NWK},
};
static const struct field uplink_fields[] = {
    {MEMBER(u.frame.hop), F_UINT, 0, 0xffff},
    {MEMBER(u.frame.lqi), F_UINT, 0, 0xff},
    {MEMBER(u.frame.nwk_frame), F_FRAME, 1, EGP_MAX_NWK},
};
static const struct field downlink_fields[] = {
    {MEMBER(u.frame.hop), F_UINT, 0, 0xffff},
    {MEMBER(u.frame.indirect), F_BOOL, 0, 0},
    {MEMBER(u.frame.nwk_frame), F_FRAME, 1, EGP_MAX_NWK},
};
static const struct field tx_result_fields[] = {
    {MEMBER(u.tx_result.result), F_UINT, 0, EGP_TX_CHANNEL_BUSY},
    {MEMBER(u.tx_result.tries), F_UINT, 0, 0xff},
};
static const struct field stale_fields[] = {
    {MEMBER(u.stale.counter), F_UINT, 0, UINT32_MAX},
    {MEMBER(u.stale.last), F_UINT, 0, UINT32_MAX},
};
static const struct field state_fields[] = {
    {MEMBER(u.state.state), F_UINT, 0, EGP_STATES - 1},
    {MEMBER(u.state.reason), F_UINT, 0, EGP_REASONS - 1},
    {MEMBER(u.state.device_short), F_UINT, 0, 0xffff},
};

#define COUNT(a) (sizeof(a) / sizeof *(a))

static const struct type {
    const char *name;
    enum egp_direction direction;
    const struct field *fields;
    size_t nfields;
} types[EGP_TYPES] = {
    [EGP_HELLO] = {"Hello", EGP_TO_EG, hello_fields, COUNT(hello_fields)},
    [EGP_REQUEST] = {"EgRequest", EGP_TO_EG, request_fields, COUNT(request_fields)},
    [EGP_RESPONSE] = {"EgResponse", EGP_TO_GATEWAY, response_fields, COUNT(response_fields)},
    [EGP_UPLINK] = {"UplinkFrame", EGP_TO_EG, uplink_fields, COUNT(uplink_fields)},
    [EGP_DOWNLINK] = {"DownlinkFrame", EGP_TO_GATEWAY, downlink_fields, COUNT(downlink_fields)},
    [EGP_TX_RESULT] = {"TxResult", EGP_TO_EG, tx_result_fields, COUNT(tx_result_fields)},
    [EGP_STALE] = {"Stale", EGP_TO_EG, stale_fields, COUNT(stale_fields)},
    [EGP_DEVICE_STATE] = {"DeviceState", EGP_TO_GATEWAY, state_fields, COUNT(state_fields)},
};

static const char *const reason_names[EGP_REASONS] = {
    [EGP_OK] = "ok",
    [EGP_UNKNOWN_DEVICE] = "unknown-device",
    [EGP_CODE_EXPIRED] = "code-expired",
    [EGP_GATEWAY_NOT_ALLOWED] = "gateway-not-allowed",
    [EGP_PARENT_KEY_DOMAIN] = "parent-key-domain",
    [EGP_DEVICE_REVOKED] = "device-revoked",
    [EGP_CODE_SPENT] = "code-spent",
    [EGP_RATE_LIMITED] = "rate-limited",
    [EGP_NOT_SUPPORTED] = "not-supported",
    [EGP_BAD_REQUEST] = "bad-request",
    [EGP_UNAVAILABLE] = "unavailable",
    [EGP_NOT_BOUND] = "not-bound",
    [EGP_CONFLICT] = "conflict",
    [EGP_NO_LINK_KEY] = "no-link-key",
};
static const char *const state_names[EGP_STATES] = {
    [EGP_ST_REGISTERED] = "registered", [EGP_ST_JOINING] = "joining", [EGP_ST_KEY_SENT] = "key-sent",
    [EGP_ST_ENROLLED] = "enrolled",     [EGP_ST_FAILED] = "failed",   [EGP_ST_REVOKED] = "revoked",
    [EGP_ST_EXPIRED] = "expired",       [EGP_ST_UNKNOWN] = "unknown",
};

const char *egp_type_name(enum egp_type t) { return (unsigned)t < EGP_TYPES ? types[t].name : "?"; }
const char *egp_reason_name(enum egp_reason r) { return (unsigned)r < EGP_REASONS ? reason_names[r] : "?"; }
const char *egp_state_name(enum egp_device_state s) { return (unsigned)s < EGP_STATES ? state_names[s] : "?"; }

/* --- members of struct egp_message by table ----------------------------------------------------------------------- */
static uint64_t member_get(const struct egp_message *m, const struct field *f)
{
    const uint8_t *p = (const uint8_t *)m + f->at;
    switch (f->size) {
    case 1:
        return *p;
    case 2:
        return *(const uint16_t *)(const void *)p;
    case 4:
        return *(const uint32_t *)(const void *)p;
    default:
        return *(const uint64_t *)(const void *)p;
    }
}

static void member_set(struct egp_message *m, const struct field *f, uint64_t v)
{
    uint8_t *p = (uint8_t *)m + f->at;
    switch (f->size) {
    case 1:
        *p = (uint8_t)v;
        break;
    case 2:
        *(uint16_t *)(void *)p = (uint16_t)v;
        break;
    case 4:
        *(uint32_t *)(void *)p = (uint32_t)v;
        break;
    default:
        *(uint64_t *)(void *)p = v;
    }
}

static struct span *member_frame(struct egp_message *m, const struct field *f)
{
    return (struct span *)(void *)((uint8_t *)m + f->at);
}

/* Rules between members that no single range can say. */
static const char *envelope_consistent(const struct egp_envelope *e)
{
    if (e->direction != types[e->type].direction)
        return "bad-direction";
    if (e->gateway == 0 || (e->device == 0 && (e->type == EGP_REQUEST || e->type == EGP_RESPONSE)))
        return "no-address";
    return e->channel != 0 && e->channel < 11 ? "out-of-range" : NULL;
}

static const char *body_consistent(const struct egp_message *m)
{
    if (m->env.type == EGP_REQUEST && (m->u.request.join == EGP_ASSOCIATION) != (m->u.request.nwk_frame.n == 0))
        return "frame-mismatch";
    if (m->env.type == EGP_RESPONSE && (m->u.response.reason == EGP_OK) != (m->u.response.nwk_frame.n != 0))
        return "frame-mismatch";
    return NULL;
}

/* --- encode ------------------------------------------------------------------------------------------------------- */
static void put_head(struct wr *w, enum major major, uint64_t v)
{
    uint8_t head[9];
    size_t n = major == CBOR_UINT     ? cbor_encode_uint(v, head, sizeof head)
               : major == CBOR_NEGINT ? cbor_encode_negint(v, head, sizeof head)
               : major == CBOR_BYTES  ? cbor_encode_bytestring_start((size_t)v, head, sizeof head)
               : major == CBOR_ARRAY  ? cbor_encode_array_start((size_t)v, head, sizeof head)
                                      : cbor_encode_bool(v == SIMPLE_TRUE, head, sizeof head);
    wr_bytes(w, head, n);
}

static bool put_field(struct wr *w, const struct egp_message *m, const struct field *f)
{
    if (f->kind == F_FRAME) {
        const struct span *s = (const struct span *)(const void *)((const uint8_t *)m + f->at);
        put_head(w, CBOR_BYTES, s->n);
        wr_spanb(w, *s);
        return s->n >= f->min && s->n <= f->max;
    }
    uint64_t v = member_get(m, f);
    int8_t sv = (int8_t)(uint8_t)v;
    switch (f->kind) {
    case F_INT8:
        put_head(w, sv < 0 ? CBOR_NEGINT : CBOR_UINT, (uint64_t)(sv < 0 ? -1 - sv : sv));
        return true;
    case F_BOOL:
        put_head(w, CBOR_SIMPLE, v != 0 ? SIMPLE_TRUE : SIMPLE_FALSE);
        return true;
    case F_EUI64:
        put_head(w, CBOR_BYTES, 8);
        wr_be64(w, v);
        return true;
    default:
        put_head(w, CBOR_UINT, v);
        return v >= f->min && v <= f->max;
    }
}

static bool put_fields(struct wr *w, const struct egp_message *m, const struct field *f, size_t n)
{
    bool ok = true;
    put_head(w, CBOR_ARRAY, n);
    for (size_t i = 0; i < n; i++)
        ok = put_field(w, m, &f[i]) && ok;
    return ok;
}

bool egp_encode(const struct egp_message *m, struct wr *out)
{
    uint8_t buf[EGP_MAX_MESSAGE];
    struct wr body = wr_of(buf, sizeof buf);
    if (m->env.type >= EGP_TYPES || envelope_consistent(&m->env) != NULL || body_consistent(m) != NULL)
        return false;
    const struct type *t = &types[m->env.type];
    if (!put_fields(&body, m, t->fields, t->nfields) || !wr_ok(&body))
        return false;
    put_head(out, CBOR_ARRAY, 2);
    bool ok = put_fields(out, m, envelope_fields, COUNT(envelope_fields));
    put_head(out, CBOR_BYTES, body.n);
    wr_spanb(out, wr_span(&body));
    return ok && wr_ok(out);
}

/* --- decode ------------------------------------------------------------------------------------------------------- */
/* A CBOR head of the given major type, in its shortest form; indefinite lengths are refused with the reserved ones. */
static const char *get_head(struct rd *r, unsigned *major, uint64_t *arg)
{
    static const uint64_t least[] = {24, 0x100, 0x10000, 0x100000000};
    uint8_t b;
    if (!rd_u8(r, &b))
        return "truncated";
    unsigned info = b & 0x1f;
    *major = b >> 5;
    *arg = info;
    if (info < 24)
        return NULL;
    if (info > 27)
        return "not-canonical";
    if (!rd_be(r, (size_t)1 << (info - 24), arg))
        return "truncated";
    return *arg < least[info - 24] ? "not-canonical" : NULL;
}

static const char *get_typed(struct rd *r, unsigned want, uint64_t *arg)
{
    unsigned major;
    const char *bad = get_head(r, &major, arg);
    return bad != NULL ? bad : major != want ? "wrong-type" : NULL;
}

static const char *get_bytes(struct rd *r, size_t min, size_t max, struct span *out)
{
    uint64_t n;
    const char *bad = get_typed(r, CBOR_BYTES, &n);
    if (bad != NULL)
        return bad;
    if (n < min || n > max)
        return "out-of-range";
    return rd_span(r, (size_t)n, out) ? NULL : "truncated";
}

static const char *get_int8(struct rd *r, uint64_t *v)
{
    unsigned major;
    const char *bad = get_head(r, &major, v);
    if (bad != NULL)
        return bad;
    if (major != CBOR_UINT && major != CBOR_NEGINT)
        return "wrong-type";
    if (*v > INT8_MAX)
        return "out-of-range";
    if (major == CBOR_NEGINT)
        *v = (uint8_t)(-1 - (int)*v);
    return NULL;
}

static const char *get_field(struct rd *r, struct egp_message *m, const struct field *f)
{
    const char *bad;
    struct span s;
    uint64_t v = 0;
    switch (f->kind) {
    case F_FRAME:
        return get_bytes(r, (size_t)f->min, (size_t)f->max, member_frame(m, f));
    case F_EUI64:
        bad = get_bytes(r, 8, 8, &s);
        for (size_t i = 0; bad == NULL && i < 8; i++)
            v = v << 8 | s.p[i];
        break;
    case F_BOOL:
        bad = get_typed(r, CBOR_SIMPLE, &v);
        if (bad == NULL && v != SIMPLE_FALSE && v != SIMPLE_TRUE)
            bad = "wrong-type";
        v = v == SIMPLE_TRUE;
        break;
    case F_INT8:
        bad = get_int8(r, &v);
        break;
    default:
        bad = get_typed(r, CBOR_UINT, &v);
        if (bad == NULL && (v < f->min || v > f->max))
            bad = f == &envelope_fields[0] ? "bad-version" : f == &envelope_fields[1] ? "bad-type" : "out-of-range";
    }
    if (bad == NULL)
        member_set(m, f, v);
    return bad;
}

static const char *get_fields(struct rd *r, struct egp_message *m, const struct field *f, size_t n)
{
    uint64_t have;
    const char *bad = get_typed(r, CBOR_ARRAY, &have);
    if (bad == NULL && have != n)
        bad = "wrong-members";
    for (size_t i = 0; bad == NULL && i < n; i++)
        bad = get_field(r, m, &f[i]);
    return bad;
}

static const char *decode_outer(struct span in, struct egp_message *m, struct span *body)
{
    struct rd r = rd_of(in);
    uint64_t n;
    const char *bad = in.n > EGP_MAX_MESSAGE ? "too-long" : get_typed(&r, CBOR_ARRAY, &n);
    if (bad == NULL && n != 2)
        bad = "wrong-members";
    if (bad == NULL)
        bad = get_fields(&r, m, envelope_fields, COUNT(envelope_fields));
    if (bad == NULL)
        bad = envelope_consistent(&m->env);
    if (bad == NULL)
        bad = get_bytes(&r, 0, EGP_MAX_MESSAGE, body);
    return bad != NULL ? bad : rd_end(&r) ? NULL : "trailing-bytes";
}

const char *egp_decode_envelope(struct span in, struct egp_envelope *out)
{
    struct egp_message m = {0};
    struct span body;
    const char *bad = decode_outer(in, &m, &body);
    if (bad == NULL)
        *out = m.env;
    return bad;
}

const char *egp_decode(struct span in, struct egp_message *out)
{
    struct egp_message m = {0};
    struct span body;
    const char *bad = decode_outer(in, &m, &body);
    if (bad != NULL)
        return bad;
    struct rd r = rd_of(body);
    const struct type *t = &types[m.env.type];
    bad = get_fields(&r, &m, t->fields, t->nfields);
    if (bad == NULL && !rd_end(&r))
        bad = "trailing-bytes";
    if (bad == NULL)
        bad = body_consistent(&m);
    if (bad == NULL)
        *out = m;
    return bad;
}
