#include "cse-shim/host/coap_worker.h"

#include <stdlib.h>

#define NOTIFY_LIMIT 4096u /* commands waiting for a worker, from which on notifications are dropped */

/* --- commands --- */

struct outgoing { /* a request of ours to a peer, until its response was delivered */
    struct worker *worker;
    void (*done)(void *user, enum st st, struct span body);
    void *user;
    struct outgoing *next, **link;
    enum st st;
    struct cep_message *rsp; /* a copy */
};

struct command {
    struct worker *worker;
    /* Do it, with the message given; false: it cannot be done, and when that is known too late to say so, `failed`
     * follows on the worker's thread. */
    bool (*run)(struct command *c, const struct cep_message *m);
    void (*failed)(struct command *c);
    struct cep_exchange *exchange;
    uint64_t id; /* of a session or observation */
    bool sensitive, confirmable, queue;
    struct outgoing *outgoing;
    struct cep_message *message; /* a copy, while it waits */
};

static void run_command(void *arg)
{
    struct command *c = arg;
    atomic_fetch_sub_explicit(&c->worker->commands, 1, memory_order_relaxed);
    if (!c->run(c, c->message) && c->failed != NULL)
        c->failed(c);
    cep_message_free(c->message);
    free(c);
}

/* Without a thread it is done at once, and the result is the result; else true. */
static bool command(struct command c, const struct cep_message *m)
{
    if (!c.worker->threaded)
        return c.run(&c, m);
    struct command *copy = worker_need(malloc(sizeof *copy));
    *copy = c;
    copy->message = m != NULL ? worker_need(cep_message_copy(m)) : NULL;
    atomic_fetch_add_explicit(&c.worker->commands, 1, memory_order_relaxed);
    worker_from_host(c.worker, run_command, copy);
    return true;
}

static bool run_respond(struct command *c, const struct cep_message *m)
{
    cep_respond(c->exchange, m, c->sensitive);
    return true;
}

void coap_workers_respond(struct coap_exchange *x, const struct cep_message *rsp, bool sensitive)
{
    (void)command((struct command){.worker = x->worker, .run = run_respond, .exchange = x->ex, .sensitive = sensitive}, rsp);
    LIST_REMOVE(x, link);
    free(x);
}

static bool run_observe(struct command *c, const struct cep_message *m)
{
    (void)m;
    return cep_observe(c->exchange) != 0;
}

static void observe_failed(struct command *c)
{
    worker_observe_end(c->worker, c->id);
}

uint64_t coap_workers_observe(struct coap_exchange *x)
{
    uint64_t id = cep_exchange_observe(x->ex);
    struct command c = {.worker = x->worker, .run = run_observe, .failed = observe_failed, .exchange = x->ex, .id = id};
    return id != 0 && command(c, NULL) ? id : 0;
}

static bool run_notify(struct command *c, const struct cep_message *m)
{
    cep_notify(c->worker->endpoint, c->id, m, c->confirmable, c->queue);
    return true;
}

void coap_workers_notify(struct coap_workers *ws, uint64_t observation, const struct cep_message *n, bool confirmable,
                         bool queue)
{
    struct command c = {.worker = worker_of(ws, observation),
                        .run = run_notify,
                        .id = observation,
                        .confirmable = confirmable,
                        .queue = queue};
    if (atomic_load_explicit(&c.worker->commands, memory_order_relaxed) < NOTIFY_LIMIT)
        (void)command(c, n);
    else
        ws->dropped++;
}

static bool run_observe_cancel(struct command *c, const struct cep_message *m)
{
    (void)m;
    cep_observe_cancel(c->worker->endpoint, c->id);
    return true;
}

void coap_workers_observe_cancel(struct coap_workers *ws, uint64_t observation)
{
    (void)command((struct command){.worker = worker_of(ws, observation), .run = run_observe_cancel, .id = observation}, NULL);
}

/* --- requests of ours --- */

static enum st status_of_code(uint8_t code)
{
    if (code >> 5 == 2)
        return ST_OK;
    for (unsigned i = 0; i < ST_COUNT; i++)
        if (st_map((enum st)i)->coap == code)
            return (enum st)i;
    return ST_INTERNAL;
}

static void deliver(struct outgoing *o, const struct cep_message *rsp)
{
    if (!o->worker->all->closing)
        o->done(o->user, rsp != NULL ? status_of_code(rsp->code) : o->st, rsp != NULL ? rsp->payload : span_of(NULL, 0));
    cep_message_free(o->rsp);
    free(o);
}

static void deliver_copy(void *arg)
{
    struct outgoing *o = arg;
    deliver(o, o->rsp);
}

static void unlink_outgoing(struct outgoing *o)
{
    *o->link = o->next;
    if (o->next != NULL)
        o->next->link = o->link;
}

static void on_response(void *user, enum st st, const struct cep_message *rsp)
{
    struct outgoing *o = user;
    unlink_outgoing(o);
    o->st = st;
    if (!o->worker->threaded) {
        deliver(o, rsp);
        return;
    }
    o->rsp = rsp != NULL ? worker_need(cep_message_copy(rsp)) : NULL;
    worker_to_host(o->worker, deliver_copy, o);
}

static bool run_send(struct command *c, const struct cep_message *m)
{
    struct worker *w = c->worker;
    struct outgoing *o = c->outgoing;
    struct cep_session *s = cep_session_find(w->endpoint, c->id);
    o->next = w->outgoing;
    o->link = &w->outgoing;
    if (o->next != NULL)
        o->next->link = &o->next;
    w->outgoing = o;
    if (s != NULL && cep_request(s, m, false, true, on_response, o) != 0)
        return true;
    unlink_outgoing(o);
    return false;
}

static void send_failed(struct command *c)
{
    c->outgoing->st = ST_UNREACHABLE;
    worker_to_host(c->worker, deliver_copy, c->outgoing);
}

bool coap_workers_send(struct coap_workers *ws, uint64_t serial, const struct cep_message *req,
                       void (*done)(void *user, enum st st, struct span body), void *user)
{
    struct worker *w = worker_of(ws, serial);
    struct outgoing *o = malloc(sizeof *o);
    if (o == NULL)
        return false;
    *o = (struct outgoing){.worker = w, .done = done, .user = user};
    struct command c = {.worker = w, .run = run_send, .failed = send_failed, .id = serial, .outgoing = o};
    if (command(c, req))
        return true;
    free(o);
    return false;
}

void worker_drop_outgoing(struct worker *w)
{
    for (struct outgoing *o = w->outgoing, *next = NULL; o != NULL; o = next) {
        next = o->next;
        free(o);
    }
    w->outgoing = NULL;
}
