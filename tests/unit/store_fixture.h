/* What tests on a store share: a folder of its own for each test, and a loop's queue: post() from any thread,
 * loop_step() on the test's own. */
#pragma once
#include "mef-plugin/store/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct loop_call {
    void (*fn)(void *);
    void *arg;
};
struct loop {
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct loop_call calls[4096];
    size_t head, tail;
    unsigned fatal; /* how often the store gave up */
    char why[256];
};

static void loop_post(void *user, void (*fn)(void *), void *arg)
{
    struct loop *l = user;
    pthread_mutex_lock(&l->lock);
    if (l->tail - l->head == 4096)
        abort();
    l->calls[l->tail++ % 4096] = (struct loop_call){fn, arg};
    pthread_cond_signal(&l->more);
    pthread_mutex_unlock(&l->lock);
}

static void loop_fatal(void *user, const char *why)
{
    struct loop *l = user;
    l->fatal++;
    snprintf(l->why, sizeof l->why, "%s", why);
}

static inline struct store_host loop_init(struct loop *l)
{
    *l = (struct loop){.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER};
    return (struct store_host){l, loop_post, loop_fatal};
}

/* Run one posted call, waiting for it. */
static inline void loop_step(struct loop *l)
{
    pthread_mutex_lock(&l->lock);
    while (l->head == l->tail)
        pthread_cond_wait(&l->more, &l->lock);
    struct loop_call c = l->calls[l->head++ % 4096];
    pthread_mutex_unlock(&l->lock);
    c.fn(c.arg);
}

/* Run what is posted now, without waiting. */
static inline void loop_drain(struct loop *l)
{
    for (;;) {
        pthread_mutex_lock(&l->lock);
        bool any = l->head != l->tail;
        pthread_mutex_unlock(&l->lock);
        if (!any)
            return;
        loop_step(l);
    }
}

/* --- a folder of its own for each test ------------------------------------------------------------------------------ */

struct fixture {
    char dir[64], url[96], path[80];
    struct loop loop;
    struct store_host host;
    char err[256];
};

static inline int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    const char *tmp = getenv("TMPDIR");
    snprintf(f->dir, sizeof f->dir, "%.40s/store-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(f->dir) == NULL)
        return -1;
    snprintf(f->path, sizeof f->path, "%s/db", f->dir);
    snprintf(f->url, sizeof f->url, "sqlite:%s", f->path);
    f->host = loop_init(&f->loop);
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;
    loop_drain(&f->loop);
    DIR *d = opendir(f->dir);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;)
        unlinkat(dirfd(d), e->d_name, 0);
    if (d != NULL)
        closedir(d);
    rmdir(f->dir);
    free(f);
    return 0;
}

static inline struct store *must_open(struct fixture *f)
{
    struct store *s = store_open(f->url, &f->host, f->err, sizeof f->err);
    if (s == NULL)
        fail_msg("%s", f->err);
    return s;
}

/* --- rows of numbers ------------------------------------------------------------------------------------------------ */

static inline struct span num(uint8_t b[8], uint64_t v)
{
    struct wr w = wr_of(b, 8);
    wr_be64(&w, v);
    return wr_span(&w);
}

static inline uint64_t put_num(struct store *s, enum store_table table, uint64_t k, uint64_t v, store_done done, void *user)
{
    uint8_t kb[8], vb[8];
    struct store_txn *t = store_begin(s);
    store_put(t, table, num(kb, k), num(vb, v));
    return store_commit(t, done, user);
}

struct numbers {
    size_t n, stop_at;
    uint64_t k[64], v[64];
};

static inline bool collect(void *user, struct span key, struct span val)
{
    struct numbers *r = user;
    struct rd kr = rd_of(key), vr = rd_of(val);
    assert_true(r->n < 64 && rd_be64(&kr, &r->k[r->n]) && rd_be64(&vr, &r->v[r->n]));
    r->n++;
    return r->n != r->stop_at;
}

static inline struct numbers all(struct store *s, enum store_table table)
{
    struct numbers r = {0};
    assert_int_equal(store_each(s, table, collect, &r), ST_OK);
    return r;
}

static inline bool count_row(void *user, struct span key, struct span val)
{
    (void)key, (void)val;
    ++*(unsigned *)user;
    return true;
}

static inline unsigned rows_of(struct store *s, enum store_table table)
{
    unsigned n = 0;
    assert_int_equal(store_each(s, table, count_row, &n), ST_OK);
    return n;
}

/* Kill a child that reports through fd at a random moment: in odd rounds while it may still be opening its database, in
 * even ones (and so on however slow a machine) after it has acknowledged something. */
static inline void kill_at_random(pid_t child, int fd, int round, unsigned *seed)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (round % 2 == 0)
        assert_int_equal(poll(&p, 1, 30000), 1);
    usleep((useconds_t)(rand_r(seed) % 40000));
    kill(child, SIGKILL);
}
