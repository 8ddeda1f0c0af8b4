/* Within coap_workers.c (messages, questions, life), coap_worker_calls.c (worker to host) and coap_worker_commands.c (host
 * to worker) only. */
#pragma once
#include "cse-shim/host/coap_workers.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

struct worker {
    struct coap_workers *all;
    bool threaded; /* set before its thread begins, cleared after it has ended */
    pthread_t thread;
    sd_event *loop;
    struct loop_work *work; /* what the host wants of it; NULL: it lives on the host's loop */
    struct cep_endpoint *endpoint;
    atomic_uint requests;      /* waiting for the host's loop */
    atomic_uint commands;      /* waiting for the worker */
    struct outgoing *outgoing; /* the worker's own list */
};

struct coap_exchange {
    struct worker *worker;
    struct cep_exchange *ex;           /* the worker's; what we read of it does not change before the answer */
    const struct cep_message *message; /* the same */
    LIST_ENTRY(coap_exchange) link;
};

struct coap_workers {
    struct coap_workers_calls calls;
    struct loop_work *host; /* what workers want of the host; NULL: there is one, which calls */
    struct cep_group *group;
    LIST_HEAD(, coap_exchange) unanswered; /* this, the counter and the flag are the host's loop's */
    uint64_t dropped;                      /* notifications */
    bool closing;                          /* the threads have ended: nothing is called any more */
    unsigned n;
    struct worker workers[CEP_MAX_MEMBERS];
};

/* --- messages (coap_workers.c) --- */

/* `p`; NULL ends the process: a message that is lost would leave somebody waiting for ever. */
void *worker_need(void *p);
/* Run fn(arg) on the host's loop, or the worker's; at once where that is the same. In the order given. */
void worker_to_host(struct worker *w, void (*fn)(void *arg), void *arg);
void worker_from_host(struct worker *w, void (*fn)(void *arg), void *arg);
struct worker *worker_of(struct coap_workers *ws, uint64_t id); /* by session or observation */

/* --- worker to host (coap_worker_calls.c) --- */

struct cep_callbacks worker_callbacks(struct worker *w);
/* On the worker's thread: have the host told that an observation is over. */
void worker_observe_end(struct worker *w, uint64_t observation);

/* --- host to worker (coap_worker_commands.c) --- */

void worker_drop_outgoing(struct worker *w); /* requests of ours that its endpoint, now gone, had under way */
