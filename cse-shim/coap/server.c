#include "cse-shim/coap/internal.h"

#include <openssl/crypto.h>
#include <stdlib.h>

#define CODE_CONTINUE CEP_CODE(2, 31)
#define CODE_BAD_REQUEST CEP_CODE(4, 0)
#define CODE_UNAUTHORIZED CEP_CODE(4, 1)
#define CODE_NOT_ALLOWED CEP_CODE(4, 5)
#define CODE_BAD_OPTION CEP_CODE(4, 2)
#define CODE_NOT_FOUND CEP_CODE(4, 4)
#define CODE_INCOMPLETE CEP_CODE(4, 8)
#define CODE_TOO_LARGE CEP_CODE(4, 13)
#define CODE_UNAVAILABLE CEP_CODE(5, 3)
#define CODE_NO_PROXY CEP_CODE(5, 5)

/* --- responses --- */

/* The piece of the body to be sent, and in *b what to say of it; false: the body goes whole. */
static bool piece(const struct cep_session *s, const struct reply *r, struct block *b, struct span *out)
{
    struct span body = r->rsp->payload;
    *b = (struct block){.num = r->num, .szx = block_fit(s, block_overhead(r->rsp), r->szx)};
    if (r->num != 0)
        b->szx = r->szx; /* the peer counts in its own size */
    size_t size = block_size(b->szx), at = (size_t)b->num * size;
    *out = body;
    if (b->num == 0 && body.n <= size)
        return false;
    size_t n = body.n - at < size ? body.n - at : size;
    b->more = at + n < body.n;
    *out = span_of(body.p + at, n);
    return true;
}

/* The message in the endpoint's buffer. Returns true when the body has further pieces. */
static bool build(struct cep_session *s, const struct reply *r, struct wr *w)
{
    struct cep_option extra[4];
    uint8_t val[2][4];
    size_t n = 0;
    struct block b;
    struct span part;
    bool pieces = piece(s, r, &b, &part);
    if (r->observe != NULL)
        extra[n++] = *r->observe;
    if (pieces)
        extra[n++] = cep_option_make_uint(OPT_BLOCK2, block_value(b), val[0]);
    if (r->last != NULL)
        extra[n++] = *r->last;
    if (pieces && b.num == 0)
        extra[n++] = cep_option_make_uint(OPT_SIZE2, (uint32_t)r->rsp->payload.n, val[1]);
    *w = wr_of(s->ep->out, sizeof s->ep->out);
    pdu_begin(w, r->type, r->rsp->code, r->mid, &r->token);
    pdu_options(w, r->rsp, extra, n);
    pdu_payload(w, part);
    return pieces && b.more;
}

bool reply_send(struct cep_session *s, const struct reply *r, tx_fn fn, void *user, struct tx **tx)
{
    struct wr w;
    bool more = build(s, r, &w);
    if (!wr_ok(&w)) {
        s->ep->stats.dropped++;
    } else if (r->type == PDU_CON) {
        *tx = tx_send(s, r->mid, wr_span(&w), fn, user);
    } else {
        session_send(s, wr_span(&w));
    }
    /* The caller may keep it for duplicates: see keep_answer(). */
    s->ep->out_len = wr_ok(&w) ? w.n : 0;
    return more;
}

/* What was just sent, for a duplicate of the request; the build buffer is then wiped. */
static void settle_answer(struct cep_session *s, uint16_t mid, bool keep)
{
    struct cep_endpoint *ep = s->ep;
    if (keep && ep->out_len != 0)
        seen_answer(s, mid, span_of(ep->out, ep->out_len));
    OPENSSL_cleanse(ep->out, ep->out_len);
    ep->out_len = 0;
}

/* Answer a request at once, without the user. */
static void reply_now(struct cep_session *s, const struct pdu *p, uint8_t code, const struct cep_option *last)
{
    uint8_t val[4];
    struct cep_option size1 = cep_option_make_uint(OPT_SIZE1, (uint32_t)s->ep->cfg.max_body, val);
    struct cep_message rsp = {.code = code};
    if (code == CODE_TOO_LARGE) /* RFC 7959 2.9.3: what would be acceptable; goes where Block1 would */
        last = &size1;
    struct reply r = {.type = p->type == PDU_CON ? PDU_ACK : PDU_NON,
                      .mid = p->type == PDU_CON ? p->mid : message_mid(s),
                      .token = p->token,
                      .rsp = &rsp,
                      .last = last,
                      .szx = SZX_MAX};
    reply_send(s, &r, NULL, NULL, NULL);
    settle_answer(s, p->mid, p->type == PDU_CON);
}

/* --- proof of address and freshness (RFC 9175) --- */

static bool proven(const struct cep_session *s)
{
    return s->dtls != NULL || s->client || s->ep->cfg.echo_seconds == 0 || timers_now(&s->ep->timers) < s->proof.until;
}

static void take_proof(struct cep_session *s, const struct cep_message *m)
{
    const struct cep_option *echo = cep_option_find(m, OPT_ECHO);
    if (s->proof.asked != 0 && echo != NULL && echo->val.n == ECHO_LEN &&
        CRYPTO_memcmp(echo->val.p, s->proof.challenge, ECHO_LEN) == 0)
        s->proof.until = s->proof.asked + s->ep->cfg.echo_seconds * SEC;
}

/* What to ask for. One challenge serves all requests that come while it is young. */
static struct cep_option challenge(struct cep_session *s)
{
    uint64_t now = timers_now(&s->ep->timers), fresh = random64();
    if (s->proof.asked == 0 || now - s->proof.asked > s->ep->cfg.echo_seconds * SEC / 2) {
        memcpy(s->proof.challenge, &fresh, ECHO_LEN);
        s->proof.asked = now;
    }
    return (struct cep_option){OPT_ECHO, span_of(s->proof.challenge, ECHO_LEN)};
}

static bool unsafe(uint8_t code)
{
    return code != CEP_GET && code != CEP_FETCH;
}

/* --- exchanges --- */

static void exchange_free(struct cep_exchange *ex)
{
    struct cep_session *s = ex->session;
    LIST_REMOVE(ex, link);
    if (s->state != SESSION_CLOSED)
        s->nexchanges--;
    timer_disarm(&s->ep->timers, &ex->ack);
    message_free(ex->req);
    session_unref(s);
    free(ex);
}

/* The answer takes its time: acknowledge now, answer in a message of its own (RFC 7252 5.2.2). */
static void on_ack_due(void *user)
{
    struct cep_exchange *ex = user;
    struct seen *e = seen_find(ex->session, ex->mid);
    if (e != NULL)
        e->acked = true;
    ex->acked = true;
    send_empty(ex->session, PDU_ACK, ex->mid);
}

static struct cep_exchange *exchange_new(struct cep_session *s, const struct pdu *p, struct span body, struct block b2)
{
    struct cep_exchange *ex = calloc(1, sizeof *ex);
    if (ex == NULL || (ex->req = message_copy_with(&p->msg, p->msg.code, body)) == NULL) {
        free(ex);
        return NULL;
    }
    uint32_t observe;
    ex->session = session_ref(s);
    ex->mid = p->mid;
    ex->confirmable = p->type == PDU_CON;
    ex->token = p->token;
    ex->block2 = b2;
    ex->size = p->size;
    if ((p->msg.code == CEP_GET || p->msg.code == CEP_FETCH) && b2.num == 0 &&
        cep_option_uint(&p->msg, OPT_OBSERVE, &observe) && observe == 0)
        ex->observe = cep_id(s->ep, ++s->ep->next_observation);
    ex->ack = (struct timer){.fire = on_ack_due, .user = ex};
    LIST_INSERT_HEAD(&s->exchanges, ex, link);
    s->nexchanges++;
    if (ex->confirmable)
        timer_arm(&s->ep->timers, &ex->ack, EMPTY_ACK_DELAY);
    return ex;
}

/* The session is gone; the user still answers, into the void. */
void server_end_all(struct cep_session *s)
{
    struct cep_exchange *ex;
    while ((ex = LIST_FIRST(&s->exchanges)) != NULL) {
        LIST_REMOVE(ex, link);
        LIST_INSERT_HEAD(&s->ep->orphans, ex, link);
        timer_disarm(&s->ep->timers, &ex->ack);
    }
}

void server_drop_orphans(struct cep_endpoint *ep)
{
    while (!LIST_EMPTY(&ep->orphans))
        exchange_free(LIST_FIRST(&ep->orphans));
}

static bool wants_links(const struct cep_endpoint *ep, const struct cep_message *m)
{
    static const char *const path[] = {".well-known", "core"};
    size_t n = 0;
    for (size_t i = 0; ep->cb.links != NULL && i < m->nopts; i++)
        if (m->opts[i].num == OPT_URI_PATH && (n == 2 || !span_eq(m->opts[i].val, span_str(path[n++]))))
            return false;
    return n == 2;
}

/* RFC 6690 4 */
static void answer_links(struct cep_exchange *ex)
{
    static const uint8_t link_format = 40;
    struct cep_option format = {OPT_CONTENT_FORMAT, span_of(&link_format, 1)};
    struct cep_message rsp = {CEP_CODE(2, 5), &format, 1, span_of(NULL, 0)}, no = {.code = CODE_NOT_ALLOWED};
    struct cep_endpoint *ep = ex->session->ep;
    rsp.payload = span_str(ep->cb.links(ep->cb.user));
    cep_respond(ex, ex->req->m.code == CEP_GET ? &rsp : &no, false);
}

static void deliver(struct cep_session *s, const struct pdu *p, struct span body, struct block b2,
                    const struct block *b1)
{
    struct cep_endpoint *ep = s->ep;
    uint32_t observe;
    struct cep_exchange *ex = exchange_new(s, p, body, b2);
    if (ex == NULL) {
        reply_now(s, p, CODE_UNAVAILABLE, NULL);
        return;
    }
    ex->block1 = b1 != NULL;
    if (b1 != NULL)
        ex->block1_value = block_value(*b1);
    if (cep_option_uint(&p->msg, OPT_OBSERVE, &observe) && observe == 1)
        observe_deregister(s, &p->token);
    if (wants_links(ep, &ex->req->m))
        answer_links(ex);
    else if (ep->cb.request != NULL)
        ep->cb.request(ep->cb.user, ex, &ex->req->m);
    else
        cep_respond(ex, &(struct cep_message){.code = CODE_NOT_FOUND}, false);
}

/* One piece of a request's body (RFC 7959 2.5). */
static void piece_in(struct cep_session *s, const struct pdu *p, struct block b1, struct block b2)
{
    uint8_t val[4];
    struct cep_option echo = cep_option_make_uint(OPT_BLOCK1, block_value(b1), val);
    struct transfer *t = NULL;
    switch (block_collect(s, &p->msg, b1, &t)) {
    case ASSEMBLY_MORE:
        reply_now(s, p, CODE_CONTINUE, &echo);
        break;
    case ASSEMBLY_DONE:
        deliver(s, p, span_of(t->body.p, t->body.len), b2, &b1);
        transfer_free(t);
        break;
    case ASSEMBLY_GAP:
        reply_now(s, p, CODE_INCOMPLETE, &echo);
        break;
    case ASSEMBLY_TOO_LARGE:
        reply_now(s, p, CODE_TOO_LARGE, NULL);
        break;
    case ASSEMBLY_NO_ROOM:
        reply_now(s, p, CODE_UNAVAILABLE, &echo);
        break;
    }
}

/* A later piece of a response that is still kept (RFC 7959 2.4)? */
static bool piece_out(struct cep_session *s, const struct pdu *p, struct block b2)
{
    if (b2.num == 0)
        return false;
    const struct cep_message *whole = block_kept(s, &p->msg);
    bool safe = p->msg.code == CEP_GET || p->msg.code == CEP_FETCH;
    if (whole == NULL && safe)
        return false; /* made again, and cut at that place */
    if (whole == NULL) {
        reply_now(s, p, CODE_INCOMPLETE, NULL);
        return true;
    }
    if ((size_t)b2.num * block_size(b2.szx) >= whole->payload.n) {
        reply_now(s, p, CODE_BAD_REQUEST, NULL);
        return true;
    }
    struct reply r = {.type = p->type == PDU_CON ? PDU_ACK : PDU_NON,
                      .mid = p->type == PDU_CON ? p->mid : message_mid(s),
                      .token = p->token,
                      .rsp = whole,
                      .num = b2.num,
                      .szx = b2.szx};
    reply_send(s, &r, NULL, NULL, NULL);
    settle_answer(s, p->mid, false); /* a duplicate finds the piece here again */
    seen_again(s, p->mid);
    return true;
}

void server_request(struct cep_session *s, const struct pdu *p)
{
    struct cep_endpoint *ep = s->ep;
    if (message_duplicate(s, p))
        return;
    ep->stats.requests++;
    if (seen_find(s, p->mid) == NULL && seen_add(s, p->mid) == NULL) {
        ep->stats.dropped++; /* without memory of it, it must not run: a duplicate would run it again */
        return;
    }
    uint32_t observe = 1;
    take_proof(s, &p->msg);
    cep_option_uint(&p->msg, OPT_OBSERVE, &observe);
    struct block b1 = {0}, b2 = {.szx = SZX_MAX};
    bool bad = false, has_b1 = block_option(&p->msg, OPT_BLOCK1, &b1, &bad);
    block_option(&p->msg, OPT_BLOCK2, &b2, &bad);
    if (option_unknown_critical(&p->msg) != 0) {
        if (p->type == PDU_CON) /* RFC 7252 5.4.1 */
            reply_now(s, p, CODE_BAD_OPTION, NULL);
    } else if (cep_option_find(&p->msg, OPT_PROXY_URI) != NULL || cep_option_find(&p->msg, OPT_PROXY_SCHEME) != NULL) {
        reply_now(s, p, CODE_NO_PROXY, NULL);
    } else if (bad) {
        reply_now(s, p, CODE_BAD_REQUEST, NULL);
    } else if (!proven(s) && (unsafe(p->msg.code) || observe == 0 || b2.num != 0)) {
        struct cep_option echo = challenge(s);
        reply_now(s, p, CODE_UNAUTHORIZED, &echo);
    } else if (s->nexchanges >= MAX_PENDING) {
        reply_now(s, p, CODE_UNAVAILABLE, NULL);
    } else if (piece_out(s, p, b2)) {
        return;
    } else if (has_b1) {
        piece_in(s, p, b1, b2);
    } else if (p->msg.payload.n > ep->cfg.max_body) {
        reply_now(s, p, CODE_TOO_LARGE, NULL);
    } else {
        deliver(s, p, p->msg.payload, b2, NULL);
    }
}

/* --- public --- */

const struct cep_peer *cep_exchange_peer(const struct cep_exchange *ex)
{
    return &ex->session->peer;
}
uint64_t cep_exchange_observe(const struct cep_exchange *ex)
{
    return ex->observe;
}

/* The body does not reach as far as the piece that was asked for. */
static bool out_of_range(const struct cep_exchange *ex, const struct cep_message *rsp)
{
    return ex->block2.num != 0 && (size_t)ex->block2.num * block_size(ex->block2.szx) >= rsp->payload.n;
}

/* Would the response be a weapon against whoever the request says it comes from? */
static bool amplifies(const struct cep_exchange *ex, const struct reply *r)
{
    struct wr w;
    if (proven(ex->session))
        return false;
    build(ex->session, r, &w);
    OPENSSL_cleanse(w.p, w.n);
    return w.n > 3 * ex->size;
}

static void respond(struct cep_exchange *ex, const struct cep_message *rsp, bool sensitive)
{
    struct cep_session *s = ex->session;
    uint8_t val[2][4];
    uint32_t seq;
    struct cep_option observe, last;
    struct cep_message unproven = {.code = CODE_UNAUTHORIZED}, bad = {.code = CODE_BAD_REQUEST};
    bool separate = ex->acked || !ex->confirmable;
    struct reply r = {.mid = separate ? message_mid(s) : ex->mid,
                      .token = ex->token,
                      .rsp = rsp,
                      .num = ex->block2.num,
                      .szx = ex->block2.szx};
    r.type = !ex->confirmable ? PDU_NON : ex->acked ? PDU_CON : PDU_ACK;
    if (ex->block1) {
        last = cep_option_make_uint(OPT_BLOCK1, ex->block1_value, val[1]);
        r.last = &last;
    }
    if (amplifies(ex, &r)) {
        last = challenge(s);
        r.last = &last;
        rsp = r.rsp = &unproven;
    }
    if (ex->observation != 0 && observe_begin(s->ep, ex->observation, rsp->code, &seq)) {
        observe = cep_option_make_uint(OPT_OBSERVE, seq, val[0]);
        r.observe = &observe;
    }
    if (out_of_range(ex, rsp)) {
        if (rsp->code >> 5 == 2)
            r.rsp = &bad;
        r.num = 0;
    }
    struct tx *tx;
    bool more = reply_send(s, &r, NULL, NULL, &tx);
    settle_answer(s, ex->mid, ex->confirmable && !ex->acked && !sensitive);
    if (sensitive && (ex->req->m.code == CEP_GET || ex->req->m.code == CEP_FETCH))
        seen_again(s, ex->mid); /* made again for the next block, too */
    else if (more)
        block_keep(s, &ex->req->m, rsp);
    observe_flush(s->ep, ex->observation);
}

void cep_respond(struct cep_exchange *ex, const struct cep_message *rsp, bool sensitive)
{
    if (ex->session->state == SESSION_OPEN)
        respond(ex, rsp, sensitive);
    exchange_free(ex);
}
