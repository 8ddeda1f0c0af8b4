#include "cse-shim/coap/pdu.h"

#include <coap3/coap.h>
#include <openssl/crypto.h>
#include <stdlib.h>

#define PAYLOAD_MARKER 0xff

static void silent(coap_log_t level, const char *message)
{
    (void)level;
    (void)message;
}

void pdu_library_init(void)
{
    coap_set_log_handler(silent);
    coap_set_log_level((coap_log_t)0);
}

/* Version, type, token length, code, message id, token: RFC 7252 3. */
static enum pdu_verdict parse_header(struct pdu *p, struct rd *r)
{
    uint8_t first;
    if (!rd_u8(r, &first) || first >> 6 != 1 || !rd_u8(r, &p->msg.code) || !rd_be16(r, &p->mid))
        return PDU_IGNORE;
    p->type = (enum pdu_type)(first >> 4 & 3);
    p->token.len = first & 15;
    if (p->token.len > sizeof p->token.b || !rd_bytes(r, p->token.b, p->token.len))
        return PDU_BAD;
    /* 4.1: an empty message is four bytes, nothing more. */
    if (p->msg.code == 0 && (p->token.len != 0 || !rd_end(r)))
        return PDU_BAD;
    return PDU_OK;
}

/* --- what options may look like --- */

/* The lengths in bytes of the options that the endpoint and its users understand: RFC 7252 Table 4, RFC 7641 2, RFC
 * 7959 2.1 and 4, RFC 9175 2.2.1 and 3.2.1, RFC 7967 2. oneM2M's, all above 255, are the user's to judge. */
static const struct rule {
    uint16_t num, min, max;
} rules[] = {{OPT_IF_MATCH, 0, 8},
             {OPT_URI_HOST, 1, 255},
             {OPT_ETAG, 1, 8},
             {OPT_IF_NONE_MATCH, 0, 0},
             {OPT_OBSERVE, 0, 3},
             {OPT_URI_PORT, 0, 2},
             {OPT_LOCATION_PATH, 0, 255},
             {OPT_URI_PATH, 0, 255},
             {OPT_CONTENT_FORMAT, 0, 2},
             {OPT_MAX_AGE, 0, 4},
             {OPT_URI_QUERY, 0, 255},
             {OPT_ACCEPT, 0, 2},
             {OPT_LOCATION_QUERY, 0, 255},
             {OPT_BLOCK2, 0, 3},
             {OPT_BLOCK1, 0, 3},
             {OPT_SIZE2, 0, 4},
             {OPT_PROXY_URI, 1, 1034},
             {OPT_PROXY_SCHEME, 1, 255},
             {OPT_SIZE1, 0, 4},
             {OPT_ECHO, 1, 40},
             {OPT_NO_RESPONSE, 0, 1},
             {OPT_REQUEST_TAG, 0, 8}};

static const struct rule *rule_of(uint16_t num)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (rules[i].num == num)
            return &rules[i];
    return NULL;
}

static bool is_critical(uint16_t num)
{
    return (num & 1) != 0; /* RFC 7252 5.4.6 */
}

/* Known, and of a length that the definition does not have: treated as if not known (5.4.3). */
static bool is_ill_sized(const struct cep_option *o)
{
    const struct rule *r = rule_of(o->num);
    return r != NULL && (o->val.n < r->min || o->val.n > r->max);
}

/* libcoap reads one option, without an opinion on its length; where that may end is watched here. An option has one
 * encoding only: one that takes another number of bytes had a delta above 65535, which libcoap lets wrap around. */
static bool parse_option(struct rd *r, uint32_t *num, struct cep_option *out)
{
    coap_option_t o;
    struct span whole;
    size_t n = coap_opt_parse(r->p, r->n, &o);
    if (n == 0 || n != coap_opt_encode_size(o.delta, o.length) || !rd_span(r, n, &whole))
        return false;
    *num += o.delta;
    *out = (struct cep_option){(uint16_t)*num, span_of(whole.p + (n - o.length), o.length)};
    return *num <= UINT16_MAX;
}

static bool parse_options(struct pdu *p, struct rd *r)
{
    uint32_t num = 0;
    struct cep_option o;
    uint8_t marker;
    p->msg.opts = p->opts;
    while (!rd_end(r) && r->p[0] != PAYLOAD_MARKER) {
        if (!parse_option(r, &num, &o))
            return false;
        if (!is_critical(o.num) && is_ill_sized(&o))
            continue; /* 5.4.1: silently ignored */
        if (p->msg.nopts == PDU_MAX_OPTIONS)
            return false;
        p->opts[p->msg.nopts++] = o;
    }
    if (!rd_u8(r, &marker))
        return true;
    p->msg.payload = rd_rest(r);
    return p->msg.payload.n != 0; /* 3: a marker without payload is a format error */
}

enum pdu_verdict pdu_parse(struct pdu *p, struct span datagram)
{
    p->msg = (struct cep_message){0};
    p->size = datagram.n;
    struct rd r = rd_of(datagram);
    enum pdu_verdict v = parse_header(p, &r);
    if (v == PDU_OK && (datagram.n > PDU_MAX || !parse_options(p, &r)))
        v = PDU_BAD;
    return v;
}

/* --- building --- */

void pdu_begin(struct wr *w, enum pdu_type type, uint8_t code, uint16_t mid, const struct token *token)
{
    uint8_t len = token != NULL ? token->len : 0;
    wr_u8(w, (uint8_t)(1 << 6 | (unsigned)type << 4 | len));
    wr_u8(w, code);
    wr_be16(w, mid);
    if (len != 0)
        wr_bytes(w, token->b, len);
}

static void put_option(struct wr *w, uint16_t *last, const struct cep_option *o)
{
    size_t need = coap_opt_encode_size((uint16_t)(o->num - *last), o->val.n);
    uint8_t *at = wr_reserve(w, need);
    /* libcoap's encoder wants one byte more room than it fills in some versions; it never writes past `need`. */
    if (at != NULL && coap_opt_encode(at, need, (uint16_t)(o->num - *last), o->val.p, o->val.n) != need)
        w->overflow = true;
    *last = o->num;
}

void pdu_options(struct wr *w, const struct cep_message *m, const struct cep_option *extra, size_t nextra)
{
    uint16_t last = 0;
    size_t i = 0, j = 0;
    while (i < m->nopts || j < nextra) {
        if (j < nextra && (i == m->nopts || extra[j].num <= m->opts[i].num))
            put_option(w, &last, &extra[j++]);
        else if (option_is_ours(m->opts[i].num))
            i++;
        else
            put_option(w, &last, &m->opts[i++]);
    }
}

void pdu_payload(struct wr *w, struct span payload)
{
    if (payload.n == 0)
        return;
    wr_u8(w, PAYLOAD_MARKER);
    wr_spanb(w, payload);
}

/* --- options --- */

bool option_is_ours(uint16_t num)
{
    return num == OPT_OBSERVE || num == OPT_BLOCK1 || num == OPT_BLOCK2 || num == OPT_SIZE1 || num == OPT_SIZE2 ||
           num == OPT_ECHO;
}

uint16_t option_unknown_critical(const struct cep_message *m)
{
    for (size_t i = 0; i < m->nopts; i++) {
        const struct cep_option *o = &m->opts[i];
        /* oneM2M's are 259..351 (TS-0008 6.2.2.4), before 2022 256..275: which of them it knows is the user's to say.
         */
        bool known = rule_of(o->num) != NULL || (o->num >= 256 && o->num <= 351);
        /* 5.4.5: one too many is as if not understood; of the rest it is the user's to say which may come again. */
        bool twice = i > 0 && m->opts[i - 1].num == o->num && (o->num == OPT_BLOCK1 || o->num == OPT_BLOCK2);
        if (twice || (is_critical(o->num) && (!known || is_ill_sized(o))))
            return o->num;
    }
    return 0;
}

const struct cep_option *cep_option_find(const struct cep_message *m, uint16_t num)
{
    for (size_t i = 0; i < m->nopts; i++)
        if (m->opts[i].num == num)
            return &m->opts[i];
    return NULL;
}

bool cep_option_uint(const struct cep_message *m, uint16_t num, uint32_t *out)
{
    const struct cep_option *o = cep_option_find(m, num);
    if (o == NULL || o->val.n > 4)
        return false;
    struct rd r = rd_of(o->val);
    uint64_t v;
    if (!rd_be(&r, o->val.n, &v))
        return false;
    *out = (uint32_t)v;
    return true;
}

struct cep_option cep_option_make_uint(uint16_t num, uint32_t v, uint8_t buf[4])
{
    size_t n = v == 0 ? 0 : v < 1u << 8 ? 1 : v < 1u << 16 ? 2 : v < 1u << 24 ? 3 : 4;
    struct wr w = wr_of(buf, 4);
    wr_be(&w, n, v);
    return (struct cep_option){num, wr_span(&w)};
}

/* --- copies --- */

struct message *message_copy_with(const struct cep_message *m, uint8_t code, struct span payload)
{
    size_t nopts = 0, bytes = payload.n;
    for (size_t i = 0; i < m->nopts; i++) {
        if (option_is_ours(m->opts[i].num))
            continue;
        nopts++;
        bytes += m->opts[i].val.n;
    }
    size_t size = sizeof(struct message) + nopts * sizeof(struct cep_option) + bytes;
    struct message *c = malloc(size);
    if (c == NULL)
        return NULL;
    struct cep_option *opts = (struct cep_option *)(c + 1);
    struct wr w = wr_of(opts + nopts, bytes);
    size_t k = 0;
    for (size_t i = 0; i < m->nopts; i++) {
        if (option_is_ours(m->opts[i].num))
            continue;
        opts[k++] = (struct cep_option){m->opts[i].num, span_of(w.p + w.n, m->opts[i].val.n)};
        wr_spanb(&w, m->opts[i].val);
    }
    *c = (struct message){{code, opts, nopts, span_of(w.p + w.n, payload.n)}, size};
    wr_spanb(&w, payload);
    return c;
}

struct message *message_copy(const struct cep_message *m)
{
    return message_copy_with(m, m->code, m->payload);
}

void message_free(struct message *m)
{
    if (m == NULL)
        return;
    OPENSSL_cleanse(m, m->size);
    free(m);
}

/* The next option that counts for what is asked for, from *i on. */
static const struct cep_option *next_foreign(const struct cep_message *m, size_t *i)
{
    while (*i < m->nopts && option_is_ours(m->opts[*i].num))
        (*i)++;
    return *i < m->nopts ? &m->opts[(*i)++] : NULL;
}

bool message_same_target(const struct cep_message *a, const struct cep_message *b)
{
    if (a->code != b->code)
        return false;
    size_t i = 0, j = 0;
    for (;;) {
        const struct cep_option *x = next_foreign(a, &i), *y = next_foreign(b, &j);
        if (x == NULL || y == NULL)
            return x == y;
        if (x->num != y->num || !span_eq(x->val, y->val))
            return false;
    }
}
