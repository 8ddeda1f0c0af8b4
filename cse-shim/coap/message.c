#include "cse-shim/coap/internal.h"

#include <openssl/crypto.h>
#include <stdlib.h>

/* Names a message of a session, one direction. */
static uint64_t mid_key(const struct cep_session *s, uint16_t mid)
{
    return s->peer.serial << 16 | mid;
}

uint16_t message_mid(struct cep_session *s)
{
    return s->next_mid++;
}

void send_empty(struct cep_session *s, enum pdu_type type, uint16_t mid)
{
    uint8_t buf[4];
    struct wr w = wr_of(buf, sizeof buf);
    pdu_begin(&w, type, 0, mid, NULL);
    session_send(s, wr_span(&w));
}

/* --- confirmable messages on their way (RFC 7252 4.2) --- */

struct tx {
    struct cep_session *session;
    uint16_t mid;
    unsigned tries;
    uint64_t wait; /* microseconds until the next try */
    struct timer timer;
    tx_fn fn;
    struct tx *(*renew)(void *user);
    void *user;
    size_t len;
    TAILQ_ENTRY(tx) link;
    uint8_t bytes[];
};

static void tx_free(struct tx *tx)
{
    struct cep_session *s = tx->session;
    TAILQ_REMOVE(&s->txs, tx, link);
    map64_del(s->ep->txs, mid_key(s, tx->mid));
    timer_disarm(&s->ep->timers, &tx->timer);
    OPENSSL_cleanse(tx->bytes, tx->len);
    free(tx);
}

static void tx_finish(struct tx *tx, enum tx_end end, const struct pdu *rsp)
{
    tx_fn fn = tx->fn;
    void *user = tx->user;
    tx_free(tx);
    if (fn != NULL)
        fn(user, end, rsp);
}

static void on_retransmit(void *user)
{
    struct tx *tx = user;
    struct cep_session *s = tx->session;
    if (tx->tries++ >= s->ep->cfg.max_retransmit) {
        tx_finish(tx, TX_TIMEOUT, NULL);
        return;
    }
    s->ep->stats.retransmissions++;
    tx->wait *= 2;
    struct tx *next = tx->renew != NULL ? tx->renew(tx->user) : NULL;
    if (next != NULL) {
        next->tries = tx->tries;
        next->wait = tx->wait;
        timer_arm(&s->ep->timers, &next->timer, next->wait);
        tx_free(tx);
        return;
    }
    timer_arm(&s->ep->timers, &tx->timer, tx->wait);
    session_send(s, span_of(tx->bytes, tx->len));
}

struct tx *tx_send(struct cep_session *s, uint16_t mid, struct span bytes, tx_fn fn, void *user)
{
    struct cep_endpoint *ep = s->ep;
    session_send(s, bytes);
    struct tx *tx = malloc(sizeof *tx + bytes.n);
    if (tx == NULL || !map64_put(ep->txs, mid_key(s, mid), tx)) {
        free(tx);
        return NULL;
    }
    /* ACK_TIMEOUT times a random factor between 1 and 1.5 */
    uint64_t base = ep->cfg.ack_timeout_ms * MS;
    *tx = (struct tx){.session = s, .mid = mid, .wait = base + random64() % (base / 2 + 1), .fn = fn, .user = user};
    tx->timer = (struct timer){.fire = on_retransmit, .user = tx};
    tx->len = bytes.n;
    memcpy(tx->bytes, bytes.p, bytes.n);
    TAILQ_INSERT_TAIL(&s->txs, tx, link);
    timer_arm(&ep->timers, &tx->timer, tx->wait);
    return tx;
}

void tx_forget(struct tx *tx)
{
    if (tx != NULL)
        tx_free(tx);
}

void tx_renewable(struct tx *tx, struct tx *(*renew)(void *user))
{
    tx->renew = renew;
}

void tx_gone_all(struct cep_session *s)
{
    struct tx *tx;
    while ((tx = TAILQ_FIRST(&s->txs)) != NULL)
        tx_finish(tx, TX_GONE, NULL);
}

static void tx_settle(struct cep_session *s, uint16_t mid, enum tx_end end, const struct pdu *rsp)
{
    struct tx *tx = map64_get(s->ep->txs, mid_key(s, mid));
    if (tx != NULL)
        tx_finish(tx, end, rsp);
    else if (end == TX_RESET)
        observe_reset(s, mid);
}

/* --- what was received before (RFC 7252 4.5) --- */

static void seen_free(struct cep_endpoint *ep, struct seen *e)
{
    LIST_REMOVE(e, of_session);
    TAILQ_REMOVE(&ep->seen_age, e, by_age);
    map64_del(ep->seen, e->key);
    ep->seen_bytes -= e->len;
    free(e->answer);
    free(e);
}

struct seen *seen_find(struct cep_session *s, uint16_t mid)
{
    return map64_get(s->ep->seen, mid_key(s, mid));
}

struct seen *seen_add(struct cep_session *s, uint16_t mid)
{
    struct cep_endpoint *ep = s->ep;
    while (map64_count(ep->seen) >= MAX_SEEN || ep->seen_bytes > MAX_SEEN_BYTES)
        seen_free(ep, TAILQ_FIRST(&ep->seen_age));
    struct seen *e = calloc(1, sizeof *e);
    if (e == NULL || !map64_put(ep->seen, mid_key(s, mid), e)) {
        free(e);
        return NULL;
    }
    e->session = s;
    e->key = mid_key(s, mid);
    e->expires = timers_now(&ep->timers) + EXCHANGE_LIFETIME;
    LIST_INSERT_HEAD(&s->seen, e, of_session);
    TAILQ_INSERT_TAIL(&ep->seen_age, e, by_age);
    if (!ep->seen_timer.armed)
        timer_arm(&ep->timers, &ep->seen_timer, EXCHANGE_LIFETIME);
    return e;
}

void seen_answer(struct cep_session *s, uint16_t mid, struct span bytes)
{
    struct seen *e = seen_find(s, mid);
    uint8_t *copy = e != NULL && e->answer == NULL ? malloc(bytes.n) : NULL;
    if (copy == NULL)
        return;
    memcpy(copy, bytes.p, bytes.n);
    e->answer = copy;
    e->len = bytes.n;
    s->ep->seen_bytes += bytes.n;
}

void seen_again(struct cep_session *s, uint16_t mid)
{
    struct seen *e = seen_find(s, mid);
    if (e != NULL)
        e->again = true;
}

void seen_drop_all(struct cep_session *s)
{
    struct seen *e;
    while ((e = LIST_FIRST(&s->seen)) != NULL)
        seen_free(s->ep, e);
}

void seen_expire(void *user)
{
    struct cep_endpoint *ep = user;
    uint64_t now = timers_now(&ep->timers);
    struct seen *e;
    while ((e = TAILQ_FIRST(&ep->seen_age)) != NULL && e->expires <= now)
        seen_free(ep, e);
    if (e != NULL)
        timer_arm(&ep->timers, &ep->seen_timer, e->expires - now);
}

bool message_duplicate(struct cep_session *s, const struct pdu *p)
{
    struct seen *e = seen_find(s, p->mid);
    if (e == NULL)
        return false;
    if (e->again) {
        e->again = e->acked = false; /* hand it on once more */
        s->ep->stats.duplicates++;
        return false;
    }
    s->ep->stats.duplicates++;
    if (p->type == PDU_CON && e->answer != NULL)
        session_send(s, span_of(e->answer, e->len));
    else if (p->type == PDU_CON && e->acked)
        send_empty(s, PDU_ACK, p->mid);
    return true;
}

/* --- one message in --- */

static void separate_response(struct cep_session *s, const struct pdu *p)
{
    if (p->type == PDU_CON && message_duplicate(s, p))
        return;
    if (option_unknown_critical(&p->msg) != 0 || !client_knows(s, &p->token)) {
        send_empty(s, PDU_RST, p->mid); /* 4.2, and RFC 7641 3.6 for a notification not wanted any more */
        return;
    }
    if (p->type == PDU_CON) {
        struct seen *e = seen_add(s, p->mid);
        if (e != NULL)
            e->acked = true;
        send_empty(s, PDU_ACK, p->mid);
    }
    client_response(s, p);
}

static void dispatch(struct cep_session *s, const struct pdu *p)
{
    unsigned class = p->msg.code >> 5;
    bool response = class == 2 || class == 4 || class == 5;
    if (p->type == PDU_RST)
        tx_settle(s, p->mid, TX_RESET, NULL);
    else if (p->type == PDU_ACK && (response || p->msg.code == 0))
        tx_settle(s, p->mid, TX_ACKED, response ? p : NULL);
    else if (p->type == PDU_ACK)
        s->ep->stats.malformed++;
    else if (class == 0 && p->msg.code != 0)
        server_request(s, p);
    else if (response)
        separate_response(s, p);
    else if (p->type == PDU_CON)
        send_empty(s, PDU_RST, p->mid); /* a ping, or a class reserved (4.2, 4.3) */
}

void message_input(struct cep_session *s, struct span datagram)
{
    struct pdu p;
    switch (pdu_parse(&p, datagram)) {
    case PDU_OK:
        dispatch(s, &p);
        break;
    case PDU_BAD:
        s->ep->stats.malformed++;
        if (p.type == PDU_CON)
            send_empty(s, PDU_RST, p.mid);
        break;
    case PDU_IGNORE:
        s->ep->stats.malformed++;
        break;
    }
}
