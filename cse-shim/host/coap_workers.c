#include "cse-shim/host/coap_workers.h"

#include "cse-shim/base/log.h"
#include "cse-shim/host/loop.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <unistd.h>

#define REQUEST_LIMIT 1024u /* of a worker, waiting for the host's loop */
#define NOTIFY_LIMIT 4096u  /* commands of the host waiting for a worker, from which on notifications are dropped */

struct worker {
    struct coap_workers *all;
    bool threaded; /* set before its thread begins, cleared after it has ended */
    pthread_t thread;
    sd_event *loop;
    struct loop_work *work; /* what the host wants of it; NULL: it lives on the host's loop */
    struct cep_endpoint *endpoint;
    atomic_uint requests;      /* of REQUEST_LIMIT */
    atomic_uint commands;      /* of NOTIFY_LIMIT */
    struct outgoing *outgoing; /* the worker's own list */
};

struct coap_workers {
    struct coap_workers_calls calls;
    struct loop_work *host; /* what workers want of the host; NULL: there is one, which calls */
    struct cep_group *group;
    LIST_HEAD(, coap_exchange) unanswered; /* and the counter, of the host's loop */
    uint64_t dropped;                      /* notifications */
    bool closing;
    unsigned n;
    struct worker workers[CEP_MAX_MEMBERS];
};

/* --- messages ----------------------------------------------------------------------------------------------------------- */

/* A message that is lost would leave somebody waiting for ever. */
static void *need(void *p)
{
    if (p != NULL)
        return p;
    log_event(LOG_ERROR, "host.fatal", "reason=\"out of memory\"");
    _exit(EXIT_FAILURE);
}

static void post(struct worker *w, struct loop_work *to, void (*fn)(void *arg), void *arg)
{
    if (!w->threaded)
        fn(arg);
    else if (!loop_post(to, fn, arg))
        need(NULL);
}

static void to_host(struct worker *w, void (*fn)(void *arg), void *arg)
{
    post(w, w->all->host, fn, arg);
}

static void to_worker(struct worker *w, void (*fn)(void *arg), void *arg)
{
    post(w, w->work, fn, arg);
}

static struct worker *worker_of(struct coap_workers *ws, uint64_t id)
{
    return &ws->workers[cep_member(id) < ws->n ? cep_member(id) : 0];
}

/* --- from worker to host: requests ---------------------------------------------------------------------------------- */

struct coap_exchange {
    struct worker *worker;
    struct cep_exchange *ex;           /* the worker's; what we read of it does not change before the answer */
    const struct cep_message *message; /* the same */
    LIST_ENTRY(coap_exchange) link;
};

static void unavailable(struct cep_exchange *ex)
{
    cep_respond(ex, &(struct cep_message){.code = CEP_CODE(5, 3)}, false);
}

static void take_request(void *arg)
{
    struct coap_exchange *x = arg;
    struct coap_workers *ws = x->worker->all;
    atomic_fetch_sub_explicit(&x->worker->requests, 1, memory_order_relaxed);
    if (!ws->closing) {
        LIST_INSERT_HEAD(&ws->unanswered, x, link);
        ws->calls.request(ws->calls.user, x, x->ex, x->message);
        return;
    }
    unavailable(x->ex); /* its thread has ended */
    free(x);
}

static void on_request(void *user, struct cep_exchange *ex, const struct cep_message *req)
{
    struct worker *w = user;
    bool full = atomic_load_explicit(&w->requests, memory_order_relaxed) >= REQUEST_LIMIT;
    struct coap_exchange *x = full ? NULL : malloc(sizeof *x);
    if (x == NULL) {
        unavailable(ex);
        return;
    }
    *x = (struct coap_exchange){.worker = w, .ex = ex, .message = req};
    atomic_fetch_add_explicit(&w->requests, 1, memory_order_relaxed);
    to_host(w, take_request, x);
}

/* --- keys: asked of the host, answered to the worker ----------------------------------------------------------------- */

struct lookup {
    struct worker *worker;
    uint64_t session;
    size_t n;
    uint8_t key[64];
    char identity[256];
};

static void give_key(void *arg)
{
    struct lookup *l = arg;
    cep_psk(l->worker->endpoint, l->session, l->key, l->n);
    OPENSSL_cleanse(l, sizeof *l);
    free(l);
}

static void look_up(void *arg)
{
    struct lookup *l = arg;
    struct coap_workers *ws = l->worker->all;
    size_t n = ws->closing ? 0 : ws->calls.psk(ws->calls.user, l->identity, l->key, sizeof l->key);
    l->n = n <= sizeof l->key ? n : 0;
    to_worker(l->worker, give_key, l);
}

static void on_psk(void *user, uint64_t session, const char *identity)
{
    struct lookup *l = need(malloc(sizeof *l));
    *l = (struct lookup){.worker = user, .session = session};
    snprintf(l->identity, sizeof l->identity, "%s", identity);
    to_host(user, look_up, l);
}

/* --- ends of sessions and observations -------------------------------------------------------------------------------- */

struct ended {
    struct worker *worker;
    void (*fn)(void *user, uint64_t id);
    uint64_t id;
};

static void take_end(void *arg)
{
    struct ended e = *(struct ended *)arg;
    struct coap_workers *ws = e.worker->all;
    free(arg);
    if (!ws->closing)
        e.fn(ws->calls.user, e.id);
}

static void tell_end(struct worker *w, void (*fn)(void *user, uint64_t id), uint64_t id)
{
    struct ended *e = need(malloc(sizeof *e));
    *e = (struct ended){w, fn, id};
    to_host(w, take_end, e);
}

static void on_closed(void *user, uint64_t serial)
{
    struct worker *w = user;
    tell_end(w, w->all->calls.closed, serial);
}

static void on_observe_end(void *user, uint64_t observation)
{
    struct worker *w = user;
    tell_end(w, w->all->calls.observe_end, observation);
}

static const char *on_links(void *user)
{
    return ((struct worker *)user)->all->calls.links;
}

/* --- from host to worker: commands ------------------------------------------------------------------------------------- */

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
    struct command *copy = need(malloc(sizeof *copy));
    *copy = c;
    copy->message = m != NULL ? need(cep_message_copy(m)) : NULL;
    atomic_fetch_add_explicit(&c.worker->commands, 1, memory_order_relaxed);
    to_worker(c.worker, run_command, copy);
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
    on_observe_end(c->worker, c->id);
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

/* --- requests of ours ---------------------------------------------------------------------------------------------------- */

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
    o->rsp = rsp != NULL ? need(cep_message_copy(rsp)) : NULL;
    to_host(o->worker, deliver_copy, o);
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
    to_host(c->worker, deliver_copy, c->outgoing);
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

/* --- questions, which the host's loop waits for ------------------------------------------------------------------------ */

struct question {
    struct worker *worker;
    void (*fn)(struct worker *w, void *arg);
    void *arg;
    sem_t *done;
};

static void answer_question(void *arg)
{
    struct question *q = arg;
    sem_t *done = q->done; /* the question is gone once this is posted */
    q->fn(q->worker, q->arg);
    sem_post(done);
}

/* Ask `n` workers from `first` on, all at the same time. */
static void ask(struct worker *first, unsigned n, void (*fn)(struct worker *w, void *arg), void *arg)
{
    struct question questions[CEP_MAX_MEMBERS];
    sem_t done;
    sem_init(&done, 0, 0);
    for (unsigned i = 0; i < n; i++) {
        questions[i] = (struct question){first + i, fn, arg, &done};
        to_worker(first + i, answer_question, &questions[i]);
    }
    for (unsigned i = 0; i < n; i++)
        while (sem_wait(&done) != 0)
            ; /* interrupted */
    sem_destroy(&done);
}

struct export {
    uint64_t serial;
    const char *label;
    uint8_t *out;
    size_t n;
    bool ok;
};

static void run_export(struct worker *w, void *arg)
{
    struct export *e = arg;
    e->ok = cep_export(w->endpoint, e->serial, e->label, e->out, e->n);
}

bool coap_workers_export(struct coap_workers *ws, uint64_t serial, const char *label, uint8_t *out, size_t n)
{
    struct export e = {serial, label, out, n, false};
    ask(worker_of(ws, serial), 1, run_export, &e);
    return e.ok;
}

struct showing {
    struct cep_certs *certs;
    bool optional;
};

static void run_certificates(struct worker *w, void *arg)
{
    const struct showing *s = arg;
    cep_endpoint_certificates(w->endpoint, s->certs, s->optional);
}

void coap_workers_certificates(struct coap_workers *ws, struct cep_certs *certs, bool optional)
{
    struct showing s = {certs, optional};
    ask(ws->workers, ws->n, run_certificates, &s);
}

#define NSTATS (sizeof(struct cep_stats) / sizeof(uint64_t))
union counters {
    struct cep_stats stats;
    uint64_t all[NSTATS];
};

static void run_stats(struct worker *w, void *arg)
{
    cep_stats_get(w->endpoint, &((union counters *)arg)[w - w->all->workers].stats);
}

void coap_workers_stats(struct coap_workers *ws, struct cep_stats *sum)
{
    union counters each[CEP_MAX_MEMBERS] = {0}, total = {.stats.dropped = ws->dropped};
    ask(ws->workers, ws->n, run_stats, each);
    for (unsigned w = 0; w < ws->n; w++)
        for (size_t i = 0; i < NSTATS; i++)
            total.all[i] += each[w].all[i];
    *sum = total.stats;
}

/* --- life ------------------------------------------------------------------------------------------------------------------ */

static bool make_worker(struct coap_workers *ws, unsigned i, sd_event *host_loop, struct cep_config cfg)
{
    struct worker *w = &ws->workers[i];
    struct cep_callbacks cb = {.user = w,
                               .request = on_request,
                               .psk = on_psk,
                               .closed = on_closed,
                               .observe_end = on_observe_end,
                               .links = on_links};
    w->all = ws;
    cfg.group = ws->group;
    cfg.member = i;
    cfg.max_sessions = (cfg.max_sessions + ws->n - 1) / ws->n;
    cfg.max_handshakes = (cfg.max_handshakes + ws->n - 1) / ws->n;
    if (ws->n == 1)
        w->loop = sd_event_ref(host_loop);
    else if (sd_event_new(&w->loop) < 0 || (w->work = loop_work_new(w->loop)) == NULL)
        return false;
    w->endpoint = cep_endpoint_new(w->loop, &cfg, &cb);
    return w->endpoint != NULL;
}

struct coap_workers *coap_workers_new(sd_event *loop, unsigned n, const struct cep_config *cfg,
                                      const struct coap_workers_calls *calls)
{
    struct coap_workers *ws = calloc(1, sizeof *ws);
    if (ws == NULL)
        return NULL;
    ws->calls = *calls;
    ws->n = n;
    bool ok = n == 1 || ((ws->group = cep_group_new(n)) != NULL && (ws->host = loop_work_new(loop)) != NULL);
    for (unsigned i = 0; ok && i < n; i++)
        ok = make_worker(ws, i, loop, *cfg);
    if (ok)
        return ws;
    coap_workers_free(ws);
    return NULL;
}

int coap_workers_listen(struct coap_workers *ws, const char *host, uint16_t port, uint16_t *bound)
{
    int err = 0;
    for (unsigned i = 0; err == 0 && i < ws->n; i++)
        err = cep_listen(ws->workers[i].endpoint, host, port, true, bound);
    return err;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    if (sd_event_loop(w->loop) < 0) {
        log_event(LOG_ERROR, "host.fatal", "reason=\"the loop of a worker failed\"");
        _exit(EXIT_FAILURE);
    }
    return NULL;
}

bool coap_workers_start(struct coap_workers *ws)
{
    sigset_t all, before;
    char name[16];
    bool ok = true;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the host's */
    for (unsigned i = 0; ok && ws->n > 1 && i < ws->n; i++) {
        struct worker *w = &ws->workers[i];
        w->threaded = true;
        ok = w->threaded = pthread_create(&w->thread, NULL, work, w) == 0;
        snprintf(name, sizeof name, "coap-%u", i);
        if (ok)
            (void)pthread_setname_np(w->thread, name); /* for whoever looks at threads */
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return ok;
}

static void stop(void *arg)
{
    sd_event_exit(((struct worker *)arg)->loop, 0);
}

static void stop_threads(struct coap_workers *ws)
{
    for (unsigned i = 0; i < ws->n; i++) {
        struct worker *w = &ws->workers[i];
        if (!w->threaded)
            continue;
        to_worker(w, stop, w);
        pthread_join(w->thread, NULL);
        w->threaded = false;
    }
}

void coap_workers_free(struct coap_workers *ws)
{
    if (ws == NULL)
        return;
    stop_threads(ws);
    ws->closing = true;
    loop_work_free(ws->host); /* what was on its way meets the ended threads: see take_request() and the others */
    for (unsigned i = 0; i < ws->n; i++) {
        struct worker *w = &ws->workers[i];
        loop_work_free(w->work);
        cep_endpoint_free(w->endpoint);
        for (struct outgoing *o = w->outgoing, *next = NULL; o != NULL; o = next) {
            next = o->next;
            free(o);
        }
        sd_event_unref(w->loop);
    }
    cep_group_free(ws->group);
    while (!LIST_EMPTY(&ws->unanswered)) {
        struct coap_exchange *x = LIST_FIRST(&ws->unanswered);
        LIST_REMOVE(x, link);
        free(x);
    }
    free(ws);
}
