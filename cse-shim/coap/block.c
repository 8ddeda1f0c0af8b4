#include "cse-shim/coap/internal.h"

#include <openssl/crypto.h>
#include <stdlib.h>

#define TRANSFER_LIFE (60 * SEC) /* between two pieces */
#define DTLS_OVERHEAD 40u        /* record header 13, explicit nonce 8, tag 16 */
#define HEADER 12u               /* CoAP header and a full token */
#define OWN_OPTIONS 32u /* Observe, Block1, Block2, Size, Request-Tag and the payload marker at their longest */

bool block_option(const struct cep_message *m, uint16_t num, struct block *out, bool *bad)
{
    uint32_t v;
    if (cep_option_find(m, num) == NULL)
        return false;
    if (!cep_option_uint(m, num, &v) || v >> 24 != 0 || (v & 7) > SZX_MAX) {
        *bad = true; /* RFC 7959 2.2: 7 is reserved */
        return false;
    }
    *out = (struct block){v >> 4, (v & 8) != 0, (uint8_t)(v & 7)};
    return true;
}

size_t block_overhead(const struct cep_message *m)
{
    size_t n = HEADER + OWN_OPTIONS;
    for (size_t i = 0; i < m->nopts; i++)
        n += 5 + m->opts[i].val.n; /* an option's header is at most five bytes */
    return n;
}

uint8_t block_fit(const struct cep_session *s, size_t overhead, uint8_t want)
{
    size_t room = s->dtls != NULL ? dtls_mtu(s->dtls) - DTLS_OVERHEAD : s->ep->cfg.mtu;
    uint8_t szx = want < SZX_MAX ? want : SZX_MAX;
    while (szx > 0 && overhead + block_size(szx) > room)
        szx--;
    return szx;
}

/* --- growing a body --- */

enum assembly body_append(struct cep_endpoint *ep, struct body *b, struct span piece)
{
    if (piece.n > ep->cfg.max_body - b->len)
        return ASSEMBLY_TOO_LARGE;
    if (b->len + piece.n > b->cap) {
        size_t cap = b->cap != 0 ? b->cap * 2 : 4096;
        while (cap < b->len + piece.n)
            cap *= 2;
        uint8_t *p = ep->assembly + cap - b->cap <= MAX_ASSEMBLY ? malloc(cap) : NULL;
        if (p == NULL)
            return ASSEMBLY_NO_ROOM;
        if (b->len != 0)
            memcpy(p, b->p, b->len);
        struct body old = *b;
        ep->assembly += cap;
        *b = (struct body){p, old.len, cap};
        body_wipe(ep, &old);
    }
    if (piece.n != 0)
        memcpy(b->p + b->len, piece.p, piece.n);
    b->len += piece.n;
    return ASSEMBLY_MORE;
}

void body_wipe(struct cep_endpoint *ep, struct body *b)
{
    if (b->p != NULL)
        OPENSSL_cleanse(b->p, b->len);
    free(b->p);
    ep->assembly -= b->cap;
    *b = (struct body){0};
}

/* --- transfers of a session --- */

static void on_stale(void *user)
{
    transfer_free(user);
}

void transfer_free(struct transfer *t)
{
    struct cep_session *s = t->session;
    TAILQ_REMOVE(&s->transfers, t, link);
    timer_disarm(&s->ep->timers, &t->life);
    if (t->whole != NULL)
        s->ep->assembly -= t->whole->size;
    message_free(t->whole);
    message_free(t->target);
    body_wipe(s->ep, &t->body);
    free(t);
}

void block_drop_all(struct cep_session *s)
{
    struct transfer *t;
    while ((t = TAILQ_FIRST(&s->transfers)) != NULL)
        transfer_free(t);
}

static struct transfer *find(struct cep_session *s, const struct cep_message *req, bool out)
{
    struct transfer *t;
    TAILQ_FOREACH(t, &s->transfers, link)
    if ((t->whole != NULL) == out && message_same_target(&t->target->m, req))
        return t;
    return NULL;
}

static struct transfer *begin(struct cep_session *s, const struct cep_message *req, bool out)
{
    unsigned n = 0;
    struct transfer *t, *oldest = NULL;
    TAILQ_FOREACH(t, &s->transfers, link)
    if ((t->whole != NULL) == out && n++ == 0)
        oldest = t;
    if (n >= MAX_TRANSFERS)
        transfer_free(oldest);
    t = calloc(1, sizeof *t);
    if (t == NULL || (t->target = message_copy_with(req, req->code, span_of(NULL, 0))) == NULL) {
        free(t);
        return NULL;
    }
    t->session = s;
    t->life = (struct timer){.fire = on_stale, .user = t};
    TAILQ_INSERT_TAIL(&s->transfers, t, link);
    timer_arm(&s->ep->timers, &t->life, TRANSFER_LIFE);
    return t;
}

/* Conformance: B-4 | RFC 7959 | shown by: test_procedures.py:test_large_contents */
/* Conformance: B-4 | RFC 7959 | shown by: coap_rows.py:a body in pieces is one body */
enum assembly block_collect(struct cep_session *s, const struct cep_message *req, struct block b, struct transfer **out)
{
    struct transfer *t = find(s, req, false);
    if (b.num == 0) { /* the body begins, or begins anew */
        if (t != NULL)
            transfer_free(t);
        t = begin(s, req, false);
        if (t == NULL)
            return ASSEMBLY_NO_ROOM;
    }
    if (t == NULL || (size_t)b.num * block_size(b.szx) != t->body.len)
        return ASSEMBLY_GAP;
    if (b.more && req->payload.n != block_size(b.szx)) {
        transfer_free(t);
        return ASSEMBLY_GAP;
    }
    enum assembly a = body_append(s->ep, &t->body, req->payload);
    if (a != ASSEMBLY_MORE) {
        transfer_free(t);
        return a;
    }
    timer_arm(&s->ep->timers, &t->life, TRANSFER_LIFE);
    *out = t;
    return b.more ? ASSEMBLY_MORE : ASSEMBLY_DONE;
}

void block_keep(struct cep_session *s, const struct cep_message *req, const struct cep_message *rsp)
{
    struct transfer *t = find(s, req, true);
    if (t != NULL)
        transfer_free(t);
    struct message *whole = message_copy(rsp);
    if (whole == NULL || s->ep->assembly + whole->size > MAX_ASSEMBLY || (t = begin(s, req, true)) == NULL) {
        message_free(whole); /* the request callback will be asked again */
        return;
    }
    t->whole = whole;
    s->ep->assembly += whole->size;
}

const struct cep_message *block_kept(struct cep_session *s, const struct cep_message *req)
{
    struct transfer *t = find(s, req, true);
    if (t == NULL)
        return NULL;
    timer_arm(&s->ep->timers, &t->life, TRANSFER_LIFE);
    return &t->whole->m;
}
