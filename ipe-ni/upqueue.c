#include "ipe-ni/upqueue.h"

#include <stdlib.h>
#include <sys/queue.h>

enum { URGENT_PLACES = 2 };

struct entry {
    struct upmsg m; /* first: upqueue_done gets the entry by it */
    TAILQ_ENTRY(entry) link;
};

TAILQ_HEAD(list, entry);

struct upqueue {
    struct list urgent, rest;
    size_t max, places; /* limits */
    size_t n, flying;   /* messages; of them in flight */
};

static bool is_urgent(const struct egp_envelope *e) { return e->type == EGP_REQUEST || e->type == EGP_HELLO; }

static struct list *list_of(struct upqueue *q, const struct egp_envelope *e)
{
    return is_urgent(e) ? &q->urgent : &q->rest;
}

struct upqueue *upqueue_new(size_t max, size_t in_flight)
{
    struct upqueue *q = calloc(1, sizeof *q);
    if (q == NULL)
        return NULL;
    q->max = max;
    q->places = in_flight > URGENT_PLACES ? in_flight : URGENT_PLACES + 1;
    TAILQ_INIT(&q->urgent);
    TAILQ_INIT(&q->rest);
    return q;
}

static void forget(struct upqueue *q, struct entry *e)
{
    TAILQ_REMOVE(list_of(q, &e->m.env), e, link);
    q->n--;
    q->flying -= e->m.in_flight;
    free(e);
}

void upqueue_free(struct upqueue *q)
{
    struct entry *e;
    if (q == NULL)
        return;
    while ((e = TAILQ_FIRST(&q->urgent)) != NULL || (e = TAILQ_FIRST(&q->rest)) != NULL)
        forget(q, e);
    free(q);
}

static bool make_room(struct upqueue *q, uint64_t *dropped)
{
    struct entry *e;
    if (q->n < q->max)
        return true;
    TAILQ_FOREACH(e, &q->rest, link)
        if (!e->m.in_flight && e->m.env.type == EGP_UPLINK) {
            forget(q, e);
            ++*dropped;
            return true;
        }
    return false;
}

bool upqueue_add(struct upqueue *q, const struct egp_envelope *env, struct span bytes, uint64_t now, uint64_t *dropped)
{
    struct entry *e, *next;
    if (bytes.n > sizeof e->m.bytes)
        return false;
    for (e = TAILQ_FIRST(&q->urgent); e != NULL && is_urgent(env); e = next) {
        next = TAILQ_NEXT(e, link);
        if (!e->m.in_flight && e->m.env.type == env->type && e->m.env.gateway == env->gateway &&
            (env->type == EGP_HELLO || e->m.env.transaction == env->transaction))
            forget(q, e);
    }
    if (!make_room(q, dropped) || (e = calloc(1, sizeof *e)) == NULL)
        return false;
    e->m = (struct upmsg){.env = *env, .at = now, .n = bytes.n};
    memcpy(e->m.bytes, bytes.p, bytes.n);
    if (env->type == EGP_HELLO) /* it says where answers go */
        TAILQ_INSERT_HEAD(&q->urgent, e, link);
    else
        TAILQ_INSERT_TAIL(list_of(q, env), e, link);
    q->n++;
    return true;
}

static bool same_order(const struct egp_envelope *a, const struct egp_envelope *b)
{
    return a->type == EGP_UPLINK && b->type == EGP_UPLINK && a->device == b->device;
}

/* An earlier UplinkFrame of this device is still in flight (or, not in flight, comes first by its place). */
static bool must_wait(const struct upqueue *q, const struct entry *e)
{
    const struct entry *earlier;
    TAILQ_FOREACH(earlier, &q->rest, link) {
        if (earlier == e)
            return false;
        if (same_order(&earlier->m.env, &e->m.env))
            return true;
    }
    return false;
}

static struct upmsg *launch(struct upqueue *q, struct entry *e)
{
    e->m.in_flight = true;
    q->flying++;
    return &e->m;
}

struct upmsg *upqueue_next(struct upqueue *q, uint64_t now, uint64_t max_age)
{
    struct entry *e, *next;
    for (e = TAILQ_FIRST(&q->urgent); e != NULL && q->flying < q->places; e = next) {
        next = TAILQ_NEXT(e, link);
        if (e->m.in_flight)
            continue;
        if (e->m.env.type != EGP_REQUEST || now - e->m.at <= max_age)
            return launch(q, e);
        forget(q, e);
    }
    if (q->flying + URGENT_PLACES >= q->places)
        return NULL;
    TAILQ_FOREACH(e, &q->rest, link)
        if (!e->m.in_flight && !must_wait(q, e))
            return launch(q, e);
    return NULL;
}

void upqueue_done(struct upqueue *q, struct upmsg *m) { forget(q, (struct entry *)(void *)m); }

void upqueue_retry(struct upqueue *q, struct upmsg *m)
{
    m->in_flight = false;
    q->flying--;
}

size_t upqueue_count(const struct upqueue *q) { return q->n; }
