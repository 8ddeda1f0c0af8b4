#include "cse-shim/coap/internal.h"

#include <stdlib.h>

#define MAX_OBSERVATIONS 4096 /* of one session */
#define MAX_QUEUE 64          /* notifications waiting in one observation */

struct note {
    struct message *msg;
    bool confirmable;
    bool keep; /* to be delivered, also when a newer one is there */
    STAILQ_ENTRY(note) link;
};
STAILQ_HEAD(note_list, note);

struct observation {
    uint64_t id;
    struct cep_session *session;
    struct token token;
    struct message *target;
    uint32_t seq;
    bool begun;        /* the first response is out */
    uint16_t last_non; /* message id of the last non-confirmable notification */
    uint64_t last_con;
    struct tx *tx; /* the confirmable notification on its way */
    bool tx_keep;
    uint16_t tx_mid;
    struct note_list queue;
    size_t nqueue;
    LIST_ENTRY(observation) link;
};

static void pop(struct observation *o)
{
    struct note *n = STAILQ_FIRST(&o->queue);
    STAILQ_REMOVE_HEAD(&o->queue, link);
    o->nqueue--;
    message_free(n->msg);
    free(n);
}

static void observation_free(struct observation *o)
{
    struct cep_session *s = o->session;
    while (o->nqueue != 0)
        pop(o);
    tx_forget(o->tx);
    map64_del(s->ep->observations, o->id);
    LIST_REMOVE(o, link);
    s->nobservations--;
    message_free(o->target);
    free(o);
}

static void observation_end(struct observation *o)
{
    struct cep_endpoint *ep = o->session->ep;
    uint64_t id = o->id;
    observation_free(o);
    if (ep->cb.observe_end != NULL && !ep->closing)
        ep->cb.observe_end(ep->cb.user, id);
}

void observe_end_all(struct cep_session *s)
{
    struct observation *o;
    while ((o = LIST_FIRST(&s->observations)) != NULL)
        observation_end(o);
}

static struct observation *find(struct cep_session *s, const struct token *token)
{
    struct observation *o;
    LIST_FOREACH(o, &s->observations, link)
    if (token_eq(&o->token, token))
        return o;
    return NULL;
}

void observe_deregister(struct cep_session *s, const struct token *token)
{
    struct observation *o = find(s, token);
    if (o != NULL)
        observation_end(o);
}

void observe_reset(struct cep_session *s, uint16_t mid)
{
    struct observation *o;
    LIST_FOREACH(o, &s->observations, link)
    if (o->last_non == mid)
        break;
    if (o != NULL)
        observation_end(o);
}

/* --- sending --- */

static void pump(struct observation *o);

static void on_tx(void *user, enum tx_end end, const struct pdu *rsp)
{
    (void)rsp;
    struct observation *o = user;
    o->tx = NULL;
    if (end == TX_ACKED)
        pump(o);
    else if (end != TX_GONE) /* the session's end takes care of that */
        observation_end(o);
}

static struct tx *renew(void *user);

/* Returns false when the observation ended with it (RFC 7641 4.2: an error is the last one). */
static bool send_note(struct observation *o, const struct note *n)
{
    struct cep_session *s = o->session;
    uint64_t now = timers_now(&s->ep->timers);
    bool success = n->msg->m.code >> 5 == 2,
         con = n->confirmable || now - o->last_con > s->ep->cfg.confirm_seconds * SEC;
    uint8_t val[4];
    o->seq = (o->seq + 1) & 0xffffff;
    struct cep_option observe = cep_option_make_uint(OPT_OBSERVE, o->seq, val);
    struct reply r = {.type = con ? PDU_CON : PDU_NON,
                      .mid = message_mid(s),
                      .token = o->token,
                      .rsp = &n->msg->m,
                      .observe = success ? &observe : NULL,
                      .szx = SZX_MAX};
    if (con)
        o->last_con = now;
    else
        o->last_non = r.mid;
    struct tx *tx = NULL;
    bool more = reply_send(s, &r, success ? on_tx : NULL, o, &tx);
    if (more)
        block_keep(s, &o->target->m, &n->msg->m);
    o->tx = success ? tx : NULL;
    o->tx_keep = n->keep;
    o->tx_mid = r.mid;
    if (o->tx != NULL)
        tx_renewable(o->tx, renew);
    return success;
}

/* A notification has to be repeated while a newer one waits: that one goes in its place (RFC 7641 4.5.2). */
static struct tx *renew(void *user)
{
    struct observation *o = user;
    struct note *n = STAILQ_FIRST(&o->queue);
    if (n == NULL || o->tx_keep || n->msg->m.code >> 5 != 2)
        return NULL;
    struct tx *old = o->tx;
    o->last_non = o->tx_mid; /* a late reset of the old one still counts */
    n->confirmable = true;
    send_note(o, n);
    pop(o);
    struct tx *next = o->tx;
    if (next == NULL) /* out of memory: the new one was sent once, the old one goes on */
        o->tx = old;
    return next;
}

static void pump(struct observation *o)
{
    while (o->begun && o->tx == NULL && o->nqueue != 0) {
        bool on = send_note(o, STAILQ_FIRST(&o->queue));
        pop(o);
        if (!on) {
            observation_end(o);
            return;
        }
    }
}

/* --- public --- */

uint64_t cep_observe(struct cep_exchange *ex)
{
    struct cep_session *s = ex->session;
    struct cep_endpoint *ep = s->ep;
    if (!ex->observe || s->state != SESSION_OPEN || ex->observation != 0)
        return ex->observation;
    struct observation *old = find(s, &ex->token);
    if (old == NULL && s->nobservations >= MAX_OBSERVATIONS)
        return 0;
    struct observation *o = calloc(1, sizeof *o);
    if (o == NULL || (o->target = message_copy_with(&ex->req->m, ex->req->m.code, span_of(NULL, 0))) == NULL) {
        free(o);
        return 0;
    }
    STAILQ_INIT(&o->queue);
    o->id = ex->observe;
    o->session = s;
    o->token = ex->token;
    o->last_con = timers_now(&ep->timers);
    if (!map64_put(ep->observations, o->id, o)) {
        message_free(o->target);
        free(o);
        return 0;
    }
    LIST_INSERT_HEAD(&s->observations, o, link);
    s->nobservations++;
    ex->observation = o->id;
    if (old != NULL) { /* registered again: what waits, and the sequence, go on */
        o->seq = old->seq;
        STAILQ_CONCAT(&o->queue, &old->queue);
        o->nqueue = old->nqueue;
        old->nqueue = 0;
        observation_end(old);
    }
    return ex->observation;
}

bool observe_begin(struct cep_endpoint *ep, uint64_t observation, uint8_t code, uint32_t *seq)
{
    struct observation *o = map64_get(ep->observations, observation);
    if (o == NULL)
        return false;
    if (code >> 5 != 2) {
        observation_end(o);
        return false;
    }
    *seq = o->seq = (o->seq + 1) & 0xffffff;
    o->begun = true;
    return true;
}

void observe_flush(struct cep_endpoint *ep, uint64_t observation)
{
    struct observation *o = map64_get(ep->observations, observation);
    if (o != NULL)
        pump(o);
}

void cep_notify(struct cep_endpoint *ep, uint64_t observation, const struct cep_message *m, bool confirmable,
                bool queue)
{
    struct observation *o = map64_get(ep->observations, observation);
    struct note *n = o != NULL ? calloc(1, sizeof *n) : NULL;
    if (n == NULL || (n->msg = message_copy(m)) == NULL) {
        free(n);
        ep->stats.dropped++;
        return;
    }
    n->confirmable = confirmable;
    n->keep = queue;
    while (o->nqueue >= (queue ? MAX_QUEUE : 1)) {
        ep->stats.dropped++;
        pop(o);
    }
    STAILQ_INSERT_TAIL(&o->queue, n, link);
    o->nqueue++;
    pump(o);
}

void cep_observe_cancel(struct cep_endpoint *ep, uint64_t observation)
{
    struct observation *o = map64_get(ep->observations, observation);
    if (o != NULL)
        observation_free(o);
}
