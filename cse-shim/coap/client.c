#include "cse-shim/coap/internal.h"

#include <openssl/crypto.h>
#include <stdlib.h>

#define CODE_CONTINUE CEP_CODE(2, 31)
#define CODE_UNAUTHORIZED CEP_CODE(4, 1)
#define CODE_TOO_LARGE CEP_CODE(4, 13)
#define MAX_RESTARTS 3
#define MAX_ECHO 40 /* bytes, RFC 9175 2.2.1 */
#define MAX_ECHOES 3
#define FRESH_FOR (128 * SEC) /* RFC 7641 3.4 */
#define DEFAULT_MAX_AGE 60u   /* seconds, RFC 7252 5.10.5 */

/* A request, until its response is whole; with observe, until the observation is over. */
struct request {
    struct cep_session *session;
    struct message *msg;
    cep_response_fn fn; /* NULL: nobody cares any more */
    void *user;
    uint64_t token; /* also the handle */
    uint64_t fetch; /* token for the later pieces of a notification (RFC 7959 2.6); 0: none */
    bool observe, ordered;
    bool begun;       /* in `active`, not in `waiting` */
    bool outstanding; /* counts against NSTART */
    bool observing;   /* the server accepted */
    bool deregister;  /* the request is Observe: 1 */
    bool delivering, dead;
    struct tx *tx;
    struct timer timer;   /* separate response overdue, or Max-Age over */
    size_t sent;          /* bytes of our body that the server has */
    uint8_t szx;          /* of our pieces */
    uint8_t fetch_szx;    /* of the server's, as asked for last */
    struct message *head; /* first piece of the response: code and options */
    struct body body;     /* of the response, so far */
    unsigned restarts, echoes;
    uint8_t echo[MAX_ECHO]; /* what the server asked us to repeat */
    size_t echo_len;
    uint32_t tag; /* Request-Tag of a body in pieces; 0: none */
    uint32_t seq; /* last notification */
    uint64_t seq_time;
    TAILQ_ENTRY(request) link;
};

static void send_piece(struct request *r);
static void on_timer(void *user);

static struct token token_of(uint64_t v)
{
    struct token t = {.len = 8};
    memcpy(t.b, &v, 8);
    return t;
}

static struct request *find(const struct cep_session *s, const struct token *t)
{
    uint64_t v;
    if (t->len != 8)
        return NULL;
    memcpy(&v, t->b, 8);
    struct request *r = map64_get(s->ep->requests, v);
    return r != NULL && r->session == s && r->begun ? r : NULL;
}

static uint64_t new_token(struct cep_endpoint *ep)
{
    uint64_t v;
    do
        v = random64();
    while (v == 0 || map64_get(ep->requests, v) != NULL);
    return v;
}

static void drop_answer(struct request *r)
{
    message_free(r->head);
    r->head = NULL;
    body_wipe(r->session->ep, &r->body);
    if (r->fetch != 0)
        map64_del(r->session->ep->requests, r->fetch);
    r->fetch = 0;
}

static void settle(struct request *r)
{
    if (!r->outstanding)
        return;
    r->outstanding = false;
    r->session->nactive--;
    if (r->ordered)
        r->session->ordered = false;
}

static void request_free(struct request *r)
{
    message_free(r->msg);
    free(r);
}

/* Take it out of everything. */
static void unlink_request(struct request *r)
{
    struct cep_session *s = r->session;
    drop_answer(r);
    map64_del(s->ep->requests, r->token);
    tx_forget(r->tx);
    r->tx = NULL;
    timer_disarm(&s->ep->timers, &r->timer);
    if (r->begun)
        TAILQ_REMOVE(&s->active, r, link);
    else
        TAILQ_REMOVE(&s->waiting, r, link);
    settle(r);
}

static void release(struct request *r)
{
    if (r->delivering)
        r->dead = true; /* freed by deliver() */
    else
        request_free(r);
}

static void request_end(struct request *r, enum st st)
{
    struct cep_session *s = session_ref(r->session);
    cep_response_fn fn = r->fn;
    void *user = r->user;
    unlink_request(r);
    release(r);
    if (fn != NULL && !s->ep->closing)
        fn(user, st, NULL);
    client_pump(s);
    session_unref(s);
}

/* Hand the whole response over. What goes on with the request is decided before, as the user may do anything. */
static void deliver(struct request *r, bool over)
{
    struct cep_session *s = session_ref(r->session);
    struct message *head = r->head;
    struct body body = r->body;
    r->head = NULL;
    r->body = (struct body){0};
    drop_answer(r);
    cep_response_fn fn = r->fn;
    void *user = r->user;
    bool observe = r->observe;
    if (over)
        unlink_request(r);
    r->delivering = true;
    if (fn != NULL) {
        head->m.payload = span_of(body.p, body.len);
        fn(user, ST_OK, &head->m);
        if (over && observe) /* the server did not accept, or ended it */
            fn(user, ST_UNREACHABLE, NULL);
    }
    r->delivering = false;
    if (over || r->dead)
        request_free(r);
    message_free(head);
    body_wipe(s->ep, &body);
    client_pump(s);
    session_unref(s);
}

/* --- out --- */

static void on_tx(void *user, enum tx_end end, const struct pdu *rsp)
{
    struct request *r = user;
    struct cep_session *s = r->session;
    r->tx = NULL;
    struct token mine = token_of(r->fetch != 0 ? r->fetch : r->token);
    if (end == TX_TIMEOUT)
        request_end(r, ST_TIMEOUT);
    else if (end == TX_RESET)
        request_end(r, ST_UNREACHABLE);
    else if (end == TX_ACKED && rsp != NULL && token_eq(&rsp->token, &mine))
        client_response(s, rsp);
    else if (end == TX_ACKED) /* the response will come by itself: MAX_TRANSMIT_WAIT, scaled (RFC 7252 4.8.2) */
        timer_arm(&s->ep->timers, &r->timer, s->ep->cfg.ack_timeout_ms * MS * 93 / 2);
}

#define OWN_MAX 6 /* options of ours in one request */

/* What goes with every message of a request: RFC 9175. */
static size_t add_own(const struct request *r, struct cep_option extra[OWN_MAX], size_t n, uint8_t tag[4])
{
    if (r->echo_len != 0)
        extra[n++] = (struct cep_option){OPT_ECHO, span_of(r->echo, r->echo_len)};
    if (r->tag != 0)
        extra[n++] = cep_option_make_uint(OPT_REQUEST_TAG, r->tag, tag);
    return n;
}

static void send_message(struct request *r, struct span payload, struct cep_option extra[OWN_MAX], size_t n,
                         uint64_t token)
{
    uint8_t tag[4];
    struct cep_session *s = r->session;
    struct token t = token_of(token);
    struct wr w = wr_of(s->ep->out, sizeof s->ep->out);
    uint16_t mid = message_mid(s);
    pdu_begin(&w, PDU_CON, r->msg->m.code, mid, &t);
    pdu_options(&w, &r->msg->m, extra, add_own(r, extra, n, tag));
    pdu_payload(&w, payload);
    tx_forget(r->tx);
    r->tx = NULL;
    timer_disarm(&s->ep->timers, &r->timer);
    if (wr_ok(&w)) /* cep_request() has seen to it */
        r->tx = tx_send(s, mid, wr_span(&w), on_tx, r);
    OPENSSL_cleanse(w.p, w.n);
    if (r->tx == NULL) /* out of memory: no retransmission, but an end all the same */
        timer_arm(&s->ep->timers, &r->timer, s->ep->cfg.ack_timeout_ms * MS * 93 / 2);
}

/* The next piece of our body, or all of it. */
static void send_piece(struct request *r)
{
    struct span body = r->msg->m.payload;
    size_t size = block_size(r->szx), left = body.n - r->sent;
    bool whole = body.n <= size;
    struct block b = {(uint32_t)(r->sent / size), left > size, r->szx};
    struct cep_option extra[OWN_MAX];
    uint8_t val[4][4];
    size_t n = 0;
    if (r->observe || r->deregister)
        extra[n++] = cep_option_make_uint(OPT_OBSERVE, r->deregister ? 1 : 0, val[0]);
    const struct cep_session *s = r->session;
    if (s->dtls != NULL && dtls_mtu(s->dtls) < s->ep->cfg.mtu) /* a narrow path is so both ways (RFC 7959 2.4) */
        extra[n++] = cep_option_make_uint(OPT_BLOCK2, block_value((struct block){.szx = r->szx}), val[3]);
    if (!whole)
        extra[n++] = cep_option_make_uint(OPT_BLOCK1, block_value(b), val[1]);
    if (!whole && r->sent == 0)
        extra[n++] = cep_option_make_uint(OPT_SIZE1, (uint32_t)body.n, val[2]);
    send_message(r, span_of(body.p + r->sent, left < size ? left : size), extra, n, r->token);
}

/* Ask for the piece of the response that follows what we have. */
static void send_fetch(struct request *r, uint8_t szx)
{
    struct cep_endpoint *ep = r->session->ep;
    if (r->observing && r->fetch == 0) {
        r->fetch = new_token(ep);
        if (!map64_put(ep->requests, r->fetch, r)) {
            r->fetch = 0;
            request_end(r, ST_INTERNAL);
            return;
        }
    }
    r->fetch_szx = szx;
    uint8_t val[4];
    struct block b = {(uint32_t)(r->body.len / block_size(szx)), false, szx};
    struct cep_option extra[OWN_MAX] = {cep_option_make_uint(OPT_BLOCK2, block_value(b), val)};
    send_message(r, span_of(NULL, 0), extra, 1, r->fetch != 0 ? r->fetch : r->token);
}

static void begin(struct request *r)
{
    struct cep_session *s = r->session;
    TAILQ_REMOVE(&s->waiting, r, link);
    TAILQ_INSERT_TAIL(&s->active, r, link);
    r->begun = r->outstanding = true;
    s->nactive++;
    s->ordered = r->ordered;
    r->szx = block_fit(s, block_overhead(&r->msg->m), SZX_MAX);
    if (r->msg->m.payload.n > block_size(r->szx)) /* bodies on their way at once are told apart (RFC 9175 3) */
        r->tag = ++s->next_tag;
    send_piece(r);
}

void client_pump(struct cep_session *s)
{
    struct request *r;
    while (s->state == SESSION_OPEN && (r = TAILQ_FIRST(&s->waiting)) != NULL && !s->ordered &&
           s->nactive < (r->ordered ? 1 : NSTART))
        begin(r);
}

void client_end_all(struct cep_session *s)
{
    struct request *r;
    while ((r = TAILQ_FIRST(&s->active)) != NULL || (r = TAILQ_FIRST(&s->waiting)) != NULL)
        request_end(r, ST_UNREACHABLE);
}

static void on_timer(void *user)
{
    struct request *r = user;
    if (!r->observing || r->outstanding || r->fetch != 0) {
        request_end(r, ST_TIMEOUT);
        return;
    }
    r->seq_time = 0; /* whatever comes is news */
    r->sent = 0;     /* Max-Age is over: register again (RFC 7641 3.3.1) */
    send_piece(r);
}

/* --- in --- */

/* An answer to a piece of our body: go on with the next one? */
static bool next_piece(struct request *r, const struct cep_message *m)
{
    struct block b;
    bool bad = false, has = block_option(m, OPT_BLOCK1, &b, &bad);
    size_t size = block_size(r->szx);
    if (m->code == CODE_TOO_LARGE && has && r->sent == 0 && b.szx < r->szx && r->msg->m.payload.n > block_size(b.szx)) {
        r->szx = b.szx; /* RFC 7959 2.9.3: in smaller pieces, please */
        send_piece(r);
        return true;
    }
    if (m->code != CODE_CONTINUE)
        return false;
    if (!has || r->msg->m.payload.n - r->sent <= size) {
        request_end(r, ST_UNREACHABLE); /* it wants more than there is */
        return true;
    }
    r->sent += size;
    if (b.szx < r->szx)
        r->szx = b.szx;
    send_piece(r);
    return true;
}

/* The server wants to know whether we are there, and now (RFC 9175 2.3): the same again, with what it sent. */
static bool repeat_echo(struct request *r, const struct cep_message *m)
{
    const struct cep_option *o = cep_option_find(m, OPT_ECHO);
    if (m->code != CODE_UNAUTHORIZED || o == NULL || o->val.n == 0 || o->val.n > MAX_ECHO || r->echoes++ >= MAX_ECHOES)
        return false;
    memcpy(r->echo, o->val.p, o->val.n);
    r->echo_len = o->val.n;
    if (r->body.len != 0)
        send_fetch(r, r->fetch_szx);
    else
        send_piece(r);
    return true;
}

/* Newer than the last notification (RFC 7641 3.4)? */
static bool fresh(struct request *r, uint32_t seq)
{
    uint64_t now = timers_now(&r->session->ep->timers);
    uint32_t ahead = (seq - r->seq) & 0xffffff;
    if (r->observing && (ahead == 0 || ahead >= 1u << 23) && now - r->seq_time <= FRESH_FOR)
        return false;
    r->seq = seq & 0xffffff;
    r->seq_time = now;
    return true;
}

static bool same_etag(const struct cep_message *a, const struct cep_message *b)
{
    const struct cep_option *x = cep_option_find(a, OPT_ETAG), *y = cep_option_find(b, OPT_ETAG);
    return (x == NULL && y == NULL) || (x != NULL && y != NULL && span_eq(x->val, y->val));
}

/* The response is whole. */
static void complete(struct request *r)
{
    struct cep_endpoint *ep = r->session->ep;
    bool on = r->observing && r->head->m.code >> 5 == 2;
    if (on) {
        uint32_t age = DEFAULT_MAX_AGE;
        cep_option_uint(&r->head->m, OPT_MAX_AGE, &age);
        settle(r);
        timer_arm(&ep->timers, &r->timer, age * SEC + 5 * SEC + random64() % (10 * SEC));
    }
    deliver(r, !on);
}

/* One piece of the response, or all of it. */
static void take_piece(struct request *r, const struct cep_message *m)
{
    struct cep_endpoint *ep = r->session->ep;
    struct block b = {.szx = SZX_MAX};
    bool bad = false, has = block_option(m, OPT_BLOCK2, &b, &bad);
    size_t at = (size_t)b.num * block_size(b.szx);
    if (b.num == 0)
        drop_answer(r);
    if (bad || (b.more && m->payload.n != block_size(b.szx))) {
        request_end(r, ST_UNREACHABLE);
        return;
    }
    if (at != r->body.len || (at != 0 && !same_etag(&r->head->m, m))) {
        /* It changed meanwhile: once more from the start. */
        drop_answer(r);
        if (r->restarts++ < MAX_RESTARTS && r->msg->m.code == CEP_GET)
            send_fetch(r, b.szx);
        else
            request_end(r, ST_UNREACHABLE);
        return;
    }
    if (r->head == NULL && (r->head = message_copy_with(m, m->code, span_of(NULL, 0))) == NULL) {
        request_end(r, ST_INTERNAL);
        return;
    }
    enum assembly a = body_append(ep, &r->body, m->payload);
    if (a != ASSEMBLY_MORE)
        request_end(r, a == ASSEMBLY_TOO_LARGE ? ST_TOO_LARGE : ST_INTERNAL);
    else if (has && b.more)
        send_fetch(r, b.szx);
    else
        complete(r);
}

bool client_knows(const struct cep_session *s, const struct token *token)
{
    return find(s, token) != NULL;
}

void client_response(struct cep_session *s, const struct pdu *p)
{
    struct request *r = find(s, &p->token);
    if (r == NULL)
        return;
    struct token main = token_of(r->token);
    bool for_main = token_eq(&p->token, &main);
    uint32_t seq;
    bool notification = cep_option_uint(&p->msg, OPT_OBSERVE, &seq);
    if (for_main && notification && !fresh(r, seq))
        return;
    /* The answer to what is on its way counts as its acknowledgement; a notification need not be that answer. */
    if (!r->observing || !notification) {
        tx_forget(r->tx);
        r->tx = NULL;
    }
    timer_disarm(&s->ep->timers, &r->timer);
    if (option_unknown_critical(&p->msg) != 0) {
        request_end(r, ST_UNREACHABLE);
        return;
    }
    if (r->deregister) {
        request_end(r, ST_OK); /* fn is NULL */
        return;
    }
    if (repeat_echo(r, &p->msg) || (for_main && next_piece(r, &p->msg)))
        return;
    if (for_main)
        r->observing = r->observe && notification;
    if (for_main && notification)
        r->restarts = 0;
    take_piece(r, &p->msg);
}

void client_token(const struct cep_session *s, unsigned nth, uint8_t token[8])
{
    const struct request *r;
    TAILQ_FOREACH(r, &s->active, link)
    if (nth-- == 0)
        break;
    if (r == NULL)
        return;
    struct token t = token_of(r->fetch != 0 ? r->fetch : r->token);
    memcpy(token, t.b, sizeof t.b);
}

/* --- public --- */

uint64_t cep_request(struct cep_session *s, const struct cep_message *req, bool observe, bool ordered,
                     cep_response_fn fn, void *user)
{
    struct cep_endpoint *ep = s->ep;
    size_t overhead = block_overhead(req);
    if (s->state == SESSION_CLOSED || overhead + block_size(SZX_MAX) > sizeof ep->out || req->payload.n >= 1u << 24)
        return 0;
    struct request *r = calloc(1, sizeof *r);
    if (r == NULL || (r->msg = message_copy(req)) == NULL) {
        free(r);
        return 0;
    }
    r->session = s;
    r->fn = fn;
    r->user = user;
    r->observe = observe;
    r->ordered = ordered;
    r->timer = (struct timer){.fire = on_timer, .user = r};
    r->token = new_token(ep);
    if (!map64_put(ep->requests, r->token, r)) {
        request_free(r);
        return 0;
    }
    TAILQ_INSERT_TAIL(&s->waiting, r, link);
    client_pump(s);
    return r->token;
}

void cep_cancel(struct cep_session *s, uint64_t handle)
{
    struct request *r = map64_get(s->ep->requests, handle);
    if (r == NULL || r->session != s || r->token != handle || r->deregister)
        return;
    if (r->begun && r->observe && s->state == SESSION_OPEN) {
        drop_answer(r);
        r->fn = NULL;
        r->observe = r->observing = false;
        r->deregister = true;
        r->sent = 0;
        send_piece(r);
        return;
    }
    unlink_request(r);
    release(r);
    client_pump(s);
}
