#include "mef-plugin/store/backend.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define GROUP_MAX 256 /* transactions in one disk commit */
#define ERR_MAX 256

struct list {
    struct store_txn *first, **end;
};

/* A caller of store_after that is still waiting. */
struct waiter {
    struct waiter *next;
    uint64_t seq;
    store_done fn;
    void *user;
};

/* What a posted call refers to: it may run after the store is closed, so it outlives the store if need be. */
struct mailbox {
    struct store *store; /* NULL: closed. Loop thread only */
};

struct store {
    struct store_host host;
    const struct store_backend *backend;
    void *engine;
    pthread_t committer;

    /* Loop thread only. */
    uint64_t last;     /* sequence number of the newest transaction */
    uint64_t durable;  /* of the newest whose completion was delivered */
    struct waiter *waiting, **waiting_end;
    struct mailbox *mail;
    bool reported;     /* fatal() was called */

    pthread_mutex_t engine_lock; /* around each use of `engine`; taken before `lock` */
    pthread_mutex_t lock;        /* guards all below */
    pthread_cond_t work;         /* there is something in the queue, and no more to wait for; or stop */
    pthread_cond_t idle;         /* nothing queued or running, or failed */
    struct list queue;           /* committed, not yet run */
    struct list done;            /* durable, completion not yet delivered */
    size_t pending;              /* transactions queued or running */
    bool posted;                 /* a call of posted() is on its way */
    bool stop, failed;
    char why[ERR_MAX];
    struct store_stats stats;
};

static void list_init(struct list *l)
{
    l->first = NULL;
    l->end = &l->first;
}

static void list_push(struct list *l, struct store_txn *t)
{
    t->next = NULL;
    *l->end = t;
    l->end = &t->next;
}

static void list_append(struct list *l, struct list *tail)
{
    if (tail->first == NULL)
        return;
    *l->end = tail->first;
    l->end = tail->end;
    list_init(tail);
}

/* Cut up to max transactions off the front of `from`. */
static size_t list_take(struct list *from, size_t max, struct list *out)
{
    size_t n = 0;
    list_init(out);
    while (n < max && from->first != NULL) {
        struct store_txn *t = from->first;
        from->first = t->next;
        list_push(out, t);
        n++;
    }
    if (from->first == NULL)
        list_init(from);
    return n;
}

/* How many of the queue are done at once: a reading alone, other transactions in one disk commit. */
static size_t group_size(const struct list *queue)
{
    size_t n = 0;
    const struct store_txn *t = queue->first;
    if (t != NULL && t->scan != NULL)
        return 1;
    for (; t != NULL && t->scan == NULL && n < GROUP_MAX; t = t->next)
        n++;
    return n;
}

static void list_free(struct list *l)
{
    for (struct store_txn *t = l->first, *next; t != NULL; t = next) {
        next = t->next;
        store_abort(t);
    }
    list_init(l);
}

/* --- committer thread ----------------------------------------------------------------------------------------------- */

static uint64_t rows_of(const struct list *group)
{
    uint64_t rows = 0;
    for (const struct store_txn *t = group->first; t != NULL; t = t->next) {
        struct rd r = rd_of(span_of(t->ops, t->n));
        struct store_op op;
        while (store_op_next(&r, &op))
            rows++;
    }
    return rows;
}

static void posted(void *arg);

/* A reading that fails is a matter of whoever reads. */
static bool run_group(struct store *s, struct store_txn *first, char *why, size_t whylen)
{
    pthread_mutex_lock(&s->engine_lock);
    bool ok = first->scan == NULL ? s->backend->run(s->engine, first, why, whylen)
                                  : s->backend->scan(s->engine, first->scan, why, whylen);
    pthread_mutex_unlock(&s->engine_lock);
    if (first->scan != NULL && !ok)
        first->result = ST_INTERNAL;
    return ok || first->scan != NULL;
}

static void commit_group(struct store *s, struct list *group, size_t n)
{
    char why[ERR_MAX] = "";
    bool ok = run_group(s, group->first, why, sizeof why), reading = group->first->scan != NULL;
    uint64_t rows = rows_of(group);
    pthread_mutex_lock(&s->lock);
    if (ok) {
        s->stats.transactions += reading ? 0 : n;
        s->stats.commits += !reading;
        s->stats.rows += rows;
        s->pending -= n;
        list_append(&s->done, group);
    } else {
        s->failed = true;
        memcpy(s->why, why, sizeof s->why);
    }
    bool post = !s->posted;
    s->posted = true;
    if (s->pending == 0 || s->failed)
        pthread_cond_broadcast(&s->idle);
    pthread_mutex_unlock(&s->lock);
    if (post)
        s->host.post(s->host.user, posted, s->mail);
}

/* Ends when told to and nothing is queued, or after a failure: what was not acknowledged then never will be. */
static void *committer_main(void *arg)
{
    struct store *s = arg;
    bool go_on = true;
    while (go_on) {
        struct list group;
        pthread_mutex_lock(&s->lock);
        while (s->queue.first == NULL && !s->stop)
            pthread_cond_wait(&s->work, &s->lock);
        size_t n = list_take(&s->queue, group_size(&s->queue), &group);
        pthread_mutex_unlock(&s->lock);
        if (n > 0)
            commit_group(s, &group, n);
        go_on = n > 0 && group.first == NULL;
        list_free(&group);
    }
    return NULL;
}

/* --- loop thread: completion ---------------------------------------------------------------------------------------- */

static void wake_waiters(struct store *s)
{
    struct waiter *ready = NULL, **ready_end = &ready, **at = &s->waiting;
    while (*at != NULL) {
        struct waiter *w = *at;
        if (w->seq > s->durable) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        *ready_end = w;
        ready_end = &w->next;
    }
    *ready_end = NULL;
    s->waiting_end = at;
    while (ready != NULL) { /* a callback may add new waiters */
        struct waiter *w = ready;
        ready = w->next;
        w->fn(w->user, ST_OK);
        free(w);
    }
}

static void deliver(struct store *s)
{
    struct list done;
    pthread_mutex_lock(&s->lock);
    (void)list_take(&s->done, SIZE_MAX, &done);
    bool failed = s->failed;
    pthread_mutex_unlock(&s->lock);

    for (struct store_txn *t = done.first, *next; t != NULL; t = next) {
        next = t->next;
        s->durable = t->seq;
        if (t->done != NULL)
            t->done(t->user, t->result);
        store_abort(t);
    }
    wake_waiters(s);
    if (failed && !s->reported) {
        s->reported = true;
        s->host.fatal(s->host.user, s->why);
    }
}

/* Posted by the committer when something is durable, and by store_commit: the committer is woken only here, when the loop
 * has taken up all that had come in this turn, so that one sync serves it all, not the first of it and then the rest. */
static void posted(void *arg)
{
    struct mailbox *m = arg;
    struct store *s = m->store;
    if (s == NULL) {
        free(m);
        return;
    }
    pthread_mutex_lock(&s->lock);
    s->posted = false;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
    deliver(s);
}

uint64_t store_commit(struct store_txn *t, store_done done, void *user)
{
    struct store *s = t->store;
    uint64_t seq = ++s->last;
    t->seq = seq;
    t->done = done;
    t->user = user;
    pthread_mutex_lock(&s->lock);
    bool post = !s->posted && s->queue.first == NULL;
    list_push(&s->queue, t);
    s->pending++;
    s->posted |= post;
    pthread_mutex_unlock(&s->lock);
    if (post)
        s->host.post(s->host.user, posted, s->mail);
    return seq;
}

void store_after(struct store *s, uint64_t seq, store_done fn, void *user)
{
    if (seq <= s->durable) {
        fn(user, ST_OK);
        return;
    }
    struct waiter *w = malloc(sizeof *w);
    if (w == NULL) {
        fn(user, ST_INTERNAL);
        return;
    }
    *w = (struct waiter){.seq = seq, .fn = fn, .user = user};
    *s->waiting_end = w;
    s->waiting_end = &w->next;
}

/* A transaction that reads. */
struct reading {
    struct store_txn txn;
    struct store_scan scan;
    uint8_t after[];
};

void store_read(struct store *s, enum store_table table, struct span after, bool descending, size_t limit,
                bool (*fn)(void *, struct span, struct span), store_done done, void *user)
{
    struct reading *r = calloc(1, sizeof *r + after.n);
    if (r == NULL) {
        done(user, ST_INTERNAL);
        return;
    }
    *r = (struct reading){.txn = {.store = s, .result = ST_OK, .scan = &r->scan, .ops = r->txn.first},
                          .scan = {table, span_of(r->after, after.n), descending, limit, fn, user}};
    if (after.n > 0)
        memcpy(r->after, after.p, after.n);
    store_commit(&r->txn, done, user);
}

uint64_t store_last(const struct store *s) { return s->last; }

uint64_t store_durable(const struct store *s) { return s->durable; }

void store_stats_get(struct store *s, struct store_stats *out)
{
    pthread_mutex_lock(&s->lock);
    *out = s->stats;
    out->queued = s->pending;
    pthread_mutex_unlock(&s->lock);
}

/* Wait until all that was committed is durable; nothing more is to be waited for before that. False: it never will be. */
static bool settle(struct store *s)
{
    pthread_mutex_lock(&s->lock);
    pthread_cond_signal(&s->work);
    while (s->pending > 0 && !s->failed)
        pthread_cond_wait(&s->idle, &s->lock);
    bool ok = !s->failed;
    pthread_mutex_unlock(&s->lock);
    return ok;
}

void store_flush(struct store *s)
{
    while (s->durable < s->last && settle(s)) /* a callback may commit again */
        deliver(s);
    deliver(s);
}

/* --- loop thread: reading ------------------------------------------------------------------------------------------- */

static enum st scan(struct store *s, const struct store_scan *what)
{
    char why[ERR_MAX];
    if (!settle(s))
        return ST_INTERNAL;
    pthread_mutex_lock(&s->engine_lock);
    bool ok = s->backend->scan(s->engine, what, why, sizeof why);
    pthread_mutex_unlock(&s->engine_lock);
    return ok ? ST_OK : ST_INTERNAL;
}

enum st store_each(struct store *s, enum store_table table, bool (*fn)(void *, struct span, struct span), void *user)
{
    return scan(s, &(struct store_scan){.table = table, .limit = INT64_MAX, .fn = fn, .user = user});
}

enum st store_page(struct store *s, enum store_table table, struct span after, bool descending, size_t limit,
                   bool (*fn)(void *, struct span, struct span), void *user)
{
    return scan(s, &(struct store_scan){table, after, descending, limit, fn, user});
}

/* --- opening and closing -------------------------------------------------------------------------------------------- */

static const struct store_backend *const backends[] = {&store_sqlite};

/* The back end for the URL; *where is what follows the scheme. */
static const struct store_backend *backend_for(const char *url, const char **where)
{
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) {
        size_t n = strlen(backends[i]->scheme);
        if (strncmp(url, backends[i]->scheme, n) == 0) {
            *where = url + n;
            return backends[i];
        }
    }
    return NULL;
}

/* The committer takes no signal: they belong to the loop. */
static bool start_committer(struct store *s)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool ok = pthread_create(&s->committer, NULL, committer_main, s) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (ok)
        pthread_setname_np(s->committer, "store");
    return ok;
}

static struct store *make(const struct store_backend *backend, void *engine, const struct store_host *host)
{
    struct store *s = calloc(1, sizeof *s);
    struct mailbox *m = malloc(sizeof *m);
    if (s == NULL || m == NULL) {
        free(s);
        free(m);
        return NULL;
    }
    s->host = *host;
    s->backend = backend;
    s->engine = engine;
    s->waiting_end = &s->waiting;
    s->mail = m;
    m->store = s;
    list_init(&s->queue);
    list_init(&s->done);
    pthread_mutex_init(&s->engine_lock, NULL);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);
    pthread_cond_init(&s->idle, NULL);
    return s;
}

/* Everything but the engine. */
static void unmake(struct store *s)
{
    list_free(&s->queue);
    list_free(&s->done);
    while (s->waiting != NULL) {
        struct waiter *w = s->waiting;
        s->waiting = w->next;
        free(w);
    }
    if (s->posted)
        s->mail->store = NULL; /* posted() frees it */
    else
        free(s->mail);
    pthread_cond_destroy(&s->idle);
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->engine_lock);
    free(s);
}

struct store *store_open(const char *url, const struct store_host *host, char *err, size_t errlen)
{
    const char *where = NULL;
    const struct store_backend *backend = backend_for(url, &where);
    if (backend == NULL) {
        snprintf(err, errlen, "store: unknown kind of database: %s (known: sqlite:PATH)", url);
        return NULL;
    }
    void *engine = backend->open(where, err, errlen);
    if (engine == NULL)
        return NULL;
    struct store *s = make(backend, engine, host);
    if (s != NULL && start_committer(s))
        return s;
    snprintf(err, errlen, "store: out of memory or threads");
    if (s != NULL)
        unmake(s);
    backend->close(engine);
    return NULL;
}

void store_close(struct store *s)
{
    if (s == NULL)
        return;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->committer, NULL);
    s->backend->close(s->engine);
    unmake(s);
}
