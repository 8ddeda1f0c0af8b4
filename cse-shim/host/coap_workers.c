#include "cse-shim/host/coap_worker.h"

#include "cse-shim/base/log.h"
#include "cse-shim/host/loop.h"

#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* --- messages --- */

void *worker_need(void *p)
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
        worker_need(NULL);
}

void worker_to_host(struct worker *w, void (*fn)(void *arg), void *arg)
{
    post(w, w->all->host, fn, arg);
}

void worker_from_host(struct worker *w, void (*fn)(void *arg), void *arg)
{
    post(w, w->work, fn, arg);
}

struct worker *worker_of(struct coap_workers *ws, uint64_t id)
{
    return &ws->workers[cep_member(id) < ws->n ? cep_member(id) : 0];
}

/* --- questions, which the host's loop waits for --- */

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
        worker_from_host(first + i, answer_question, &questions[i]);
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

/* --- life --- */

static bool make_worker(struct coap_workers *ws, unsigned i, sd_event *host_loop, struct cep_config cfg)
{
    struct worker *w = &ws->workers[i];
    struct cep_callbacks cb = worker_callbacks(w);
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
        worker_from_host(w, stop, w);
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
        worker_drop_outgoing(w);
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
