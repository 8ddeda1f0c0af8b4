#include "cse-shim/coap/timer.h"

#include <stddef.h>
#include <time.h>

/* Merge two heaps whose roots have no siblings; the earlier one becomes the root. */
static struct timer *merge(struct timer *a, struct timer *b)
{
    if (a == NULL || b == NULL)
        return a != NULL ? a : b;
    if (b->due < a->due) {
        struct timer *t = a;
        a = b;
        b = t;
    }
    b->prev = a;
    b->next = a->child;
    if (b->next != NULL)
        b->next->prev = b;
    a->child = b;
    return a;
}

/* Make one heap of a list of siblings: pairs from left to right, then all from right to left. */
static struct timer *merge_siblings(struct timer *list)
{
    struct timer *pairs = NULL;
    while (list != NULL) {
        struct timer *a = list, *b = a->next;
        list = b != NULL ? b->next : NULL;
        a->next = a->prev = NULL;
        if (b != NULL)
            b->next = b->prev = NULL;
        a = merge(a, b);
        a->next = pairs;
        pairs = a;
    }
    struct timer *root = NULL;
    while (pairs != NULL) {
        struct timer *next = pairs->next;
        pairs->next = NULL;
        root = merge(root, pairs);
        pairs = next;
    }
    return root;
}

static void detach(struct timers *ts, struct timer *t)
{
    struct timer *below = merge_siblings(t->child);
    if (t == ts->root) {
        ts->root = below;
    } else {
        if (t->prev->child == t)
            t->prev->child = t->next;
        else
            t->prev->next = t->next;
        if (t->next != NULL)
            t->next->prev = t->prev;
        ts->root = merge(ts->root, below);
    }
    t->child = t->next = t->prev = NULL;
    t->armed = false;
}

/* The source is only ever moved forward here; a wake-up that finds nothing due puts it back. */
static void wake_at(struct timers *ts, uint64_t due)
{
    if (due >= ts->wake)
        return;
    ts->wake = due;
    sd_event_source_set_time(ts->source, due);
    sd_event_source_set_enabled(ts->source, SD_EVENT_ONESHOT);
}

static int on_wake(sd_event_source *source, uint64_t usec, void *user)
{
    (void)source;
    (void)usec;
    struct timers *ts = user;
    uint64_t now = timers_now(ts);
    ts->wake = UINT64_MAX;
    while (ts->root != NULL && ts->root->due <= now) {
        struct timer *t = ts->root;
        detach(ts, t);
        t->fire(t->user);
    }
    if (ts->root != NULL)
        wake_at(ts, ts->root->due);
    return 0;
}

bool timers_init(struct timers *ts, sd_event *loop)
{
    *ts = (struct timers){.loop = loop, .wake = UINT64_MAX};
    if (sd_event_add_time(loop, &ts->source, CLOCK_MONOTONIC, UINT64_MAX, 1, on_wake, ts) < 0)
        return false;
    return sd_event_source_set_enabled(ts->source, SD_EVENT_OFF) >= 0;
}

void timers_wipe(struct timers *ts)
{
    ts->source = sd_event_source_disable_unref(ts->source);
}

uint64_t timers_now(const struct timers *ts)
{
    uint64_t now = 0;
    sd_event_now(ts->loop, CLOCK_MONOTONIC, &now);
    return now;
}

void timer_arm(struct timers *ts, struct timer *t, uint64_t us)
{
    timer_disarm(ts, t);
    t->due = timers_now(ts) + us;
    t->armed = true;
    ts->root = merge(ts->root, t);
    wake_at(ts, ts->root->due);
}

void timer_disarm(struct timers *ts, struct timer *t)
{
    if (t->armed)
        detach(ts, t);
}
