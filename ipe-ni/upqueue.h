/* Messages on their way to the MEF: urgent ones (EgRequest, Hello) before the rest, each kept until it is answered, so
 * that a session's end loses nothing. Bounded: the oldest UplinkFrame makes room. Pure. */
#pragma once
#include "mef-plugin/egp/egp.h"

struct upqueue;

struct upmsg {
    struct egp_envelope env;
    uint64_t at;             /* when it came, us */
    bool in_flight;
    void *user;              /* the sender's own, while in flight.. */
    uint64_t sent;           /* ..and when it was sent last, us */
    size_t n;
    uint8_t bytes[EGP_MAX_MESSAGE];
};

struct upqueue *upqueue_new(size_t max, size_t in_flight); /* NULL: out of memory */
void upqueue_free(struct upqueue *q);                      /* NULL is fine */

/* Copy a message into the queue. An EgRequest that repeats a waiting one replaces it. False: full of what may not be
 * dropped, or out of memory. *dropped counts uplinks that made room. */
MUST_USE bool upqueue_add(struct upqueue *q, const struct egp_envelope *env, struct span bytes, uint64_t now,
                          uint64_t *dropped);
/* The next message that may be sent now, marked in flight; NULL: none. Two places in flight are kept for urgent ones;
 * of one device only one UplinkFrame is in flight. EgRequests that waited longer than max_age us are dropped here. */
struct upmsg *upqueue_next(struct upqueue *q, uint64_t now, uint64_t max_age);
void upqueue_done(struct upqueue *q, struct upmsg *m);  /* answered: forget it */
void upqueue_retry(struct upqueue *q, struct upmsg *m); /* not answered: it waits again, in its place */
size_t upqueue_count(const struct upqueue *q);
