#include "cse-shim/coap/pdu.h"

#include <coap3/coap.h>
#include <openssl/crypto.h>
#include <stdlib.h>

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

static bool parse_options(struct pdu *p, coap_pdu_t *codec)
{
    coap_opt_iterator_t it;
    coap_option_iterator_init(codec, &it, COAP_OPT_ALL);
    for (coap_opt_t *o; (o = coap_option_next(&it)) != NULL;) {
        if (p->msg.nopts == PDU_MAX_OPTIONS)
            return false;
        p->opts[p->msg.nopts++] = (struct cep_option){it.number, span_of(coap_opt_value(o), coap_opt_length(o))};
    }
    p->msg.opts = p->opts;
    size_t n;
    const uint8_t *data;
    if (coap_get_data(codec, &n, &data))
        p->msg.payload = span_of(data, n);
    return true;
}

enum pdu_verdict pdu_parse(struct pdu *p, struct span datagram)
{
    p->msg = (struct cep_message){0};
    p->codec = NULL;
    p->size = datagram.n;
    struct rd r = rd_of(datagram);
    enum pdu_verdict v = parse_header(p, &r);
    if (v != PDU_OK || p->msg.code == 0)
        return v;
    coap_pdu_t *codec = coap_pdu_init(COAP_MESSAGE_CON, 0, 0, PDU_MAX);
    if (codec == NULL)
        return PDU_IGNORE;
    p->codec = codec;
    if (coap_pdu_parse(COAP_PROTO_UDP, datagram.p, datagram.n, codec) && parse_options(p, codec))
        return PDU_OK;
    pdu_wipe(p);
    return PDU_BAD;
}

void pdu_wipe(struct pdu *p)
{
    /* The payload is in libcoap's buffer, which it frees as it is; it may have held a key. */
    if (p->msg.payload.n != 0)
        OPENSSL_cleanse((void *)(uintptr_t)p->msg.payload.p, p->msg.payload.n);
    if (p->codec != NULL)
        coap_delete_pdu(p->codec);
    p->codec = NULL;
    p->msg = (struct cep_message){0};
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
    wr_u8(w, 0xff);
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
    /* Critical options (odd numbers) of RFC 7252, 7959 that are understood; oneM2M's are 259..351 (TS-0008 6.2.2.4), before 2022
     * 256..275: which of them it knows is the user's to say.
     */
    static const uint16_t known[] = {1, 3, 5, 7, 11, 15, 17, 23, 27, 35, 39};
    for (size_t i = 0; i < m->nopts; i++) {
        uint16_t num = m->opts[i].num;
        if (i > 0 && m->opts[i - 1].num == num && (num == OPT_BLOCK1 || num == OPT_BLOCK2))
            return num; /* RFC 7252 5.4.5: one too many is as if not understood */
        bool ok = (num & 1) == 0 || (num >= 257 && num <= 351);
        for (size_t k = 0; !ok && k < sizeof known / sizeof *known; k++)
            ok = num == known[k];
        if (!ok)
            return num;
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
