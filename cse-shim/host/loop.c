#include "cse-shim/host/loop.h"

#include "cse-shim/base/map64.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct posted {
    void (*fn)(void *user);
    void *user;
    struct posted *next;
};

struct timer {
    struct loop_work *work;
    uint64_t id;
    sd_event_source *source;
    void (*fn)(void *user);
    void *user;
};

struct loop_work {
    sd_event *loop;
    struct map64 *timers;
    uint64_t last_id;
    int wake; /* eventfd */
    sd_event_source *wake_source;
    pthread_mutex_t lock; /* guards first and last */
    struct posted *first, **last;
};

static struct posted *take_posted(struct loop_work *w)
{
    pthread_mutex_lock(&w->lock);
    struct posted *p = w->first;
    w->first = NULL;
    w->last = &w->first;
    pthread_mutex_unlock(&w->lock);
    return p;
}

static void run_posted(struct loop_work *w)
{
    struct posted *p = take_posted(w);
    while (p != NULL) {
        struct posted *next = p->next;
        p->fn(p->user);
        free(p);
        p = next;
    }
}

static int on_wake(sd_event_source *s, int fd, uint32_t revents, void *user)
{
    (void)s;
    (void)revents;
    eventfd_t n;
    (void)eventfd_read(fd, &n);
    run_posted(user);
    return 0;
}

struct loop_work *loop_work_new(sd_event *loop)
{
    struct loop_work *w = calloc(1, sizeof *w);
    if (w == NULL)
        return NULL;
    w->loop = sd_event_ref(loop);
    w->last = &w->first;
    pthread_mutex_init(&w->lock, NULL);
    w->timers = map64_new();
    w->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (w->timers == NULL || w->wake < 0 ||
        sd_event_add_io(loop, &w->wake_source, w->wake, EPOLLIN, on_wake, w) < 0) {
        loop_work_free(w);
        return NULL;
    }
    return w;
}

static bool free_timer(void *user, uint64_t id, void *value)
{
    (void)user;
    (void)id;
    struct timer *t = value;
    sd_event_source_disable_unref(t->source);
    free(t);
    return true;
}

void loop_work_free(struct loop_work *w)
{
    if (w == NULL)
        return;
    if (w->timers != NULL)
        map64_each(w->timers, free_timer, NULL);
    map64_free(w->timers);
    sd_event_source_disable_unref(w->wake_source);
    if (w->wake >= 0)
        close(w->wake);
    run_posted(w);
    pthread_mutex_destroy(&w->lock);
    sd_event_unref(w->loop);
    free(w);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *user)
{
    (void)s;
    (void)usec;
    struct timer t = *(struct timer *)user;
    loop_timer_cancel(t.work, t.id);
    t.fn(t.user);
    return 0;
}

uint64_t loop_timer(struct loop_work *w, uint64_t ms, void (*fn)(void *user), void *user)
{
    struct timer *t = calloc(1, sizeof *t);
    if (t == NULL)
        return 0;
    *t = (struct timer){.work = w, .id = ++w->last_id, .fn = fn, .user = user};
    if (sd_event_add_time_relative(w->loop, &t->source, CLOCK_MONOTONIC, ms * 1000, 1000, on_timer, t) < 0 ||
        !map64_put(w->timers, t->id, t)) {
        free_timer(NULL, 0, t);
        return 0;
    }
    return t->id;
}

void loop_timer_cancel(struct loop_work *w, uint64_t id)
{
    struct timer *t = map64_del(w->timers, id);
    if (t != NULL)
        free_timer(NULL, id, t);
}

bool loop_post(struct loop_work *w, void (*fn)(void *user), void *user)
{
    struct posted *p = malloc(sizeof *p);
    if (p == NULL)
        return false;
    *p = (struct posted){fn, user, NULL};
    pthread_mutex_lock(&w->lock);
    bool first = w->first == NULL; /* whoever comes later is taken along */
    *w->last = p;
    w->last = &p->next;
    pthread_mutex_unlock(&w->lock);
    return !first || eventfd_write(w->wake, 1) == 0;
}
