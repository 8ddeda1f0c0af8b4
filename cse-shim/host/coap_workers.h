/* The daemon's CoAP endpoint, in one thread or in several.
 *
 * With one worker it lives on the host's loop, and all below are plain calls. With more, each worker is a thread with a
 * loop and an endpoint of its own, members of one group (coap.h), and messages go to and fro. Either way everything here
 * is called on the host's loop, and so are the call-backs. A worker never waits for the host's loop. */
#pragma once
#include "cse-shim/coap/coap.h"

struct coap_workers;
struct coap_exchange; /* a request not yet answered */

struct coap_workers_calls { /* as in cep_callbacks */
    void *user;
    /* `ex` is to be read only; the answer goes to `x`. All stay valid until then. */
    void (*request)(void *user, struct coap_exchange *x, const struct cep_exchange *ex, const struct cep_message *req);
    /* the key's length, 0: refuse */
    size_t (*psk)(void *user, const char *identity, const char *server_name, uint8_t *key, size_t cap);
    void (*closed)(void *user, uint64_t serial);
    void (*observe_end)(void *user, uint64_t observation);
    const char *links; /* /.well-known/core; kept */
};

/* n: 1 to CEP_MAX_MEMBERS workers, which share the limits of sessions and handshakes. No thread runs yet. NULL: out of
 * memory, or OpenSSL lacks a needed algorithm. */
MUST_USE struct coap_workers *coap_workers_new(sd_event *loop, unsigned n, const struct cep_config *cfg,
                                               const struct coap_workers_calls *calls);
/* As cep_listen() with DTLS, for all. Before the start. */
MUST_USE int coap_workers_listen(struct coap_workers *ws, const char *host, uint16_t port, uint16_t *bound);
MUST_USE bool coap_workers_start(struct coap_workers *ws); /* false: no thread could be made */
/* Ends the threads, then closes every session (close_notify). No call-back is called from here on. NULL is fine. */
void coap_workers_free(struct coap_workers *ws);

/* As the functions of coap.h. What ends in a worker that has no more room is dropped and counted (notifications), or
 * refused with 5.03 (requests). */
void coap_workers_respond(struct coap_exchange *x, const struct cep_message *rsp, bool sensitive);
/* 0: not asked for, or known to have failed; what fails later ends the observation. */
uint64_t coap_workers_observe(struct coap_exchange *x);
void coap_workers_notify(struct coap_workers *ws, uint64_t observation, const struct cep_message *n, bool confirmable,
                         bool queue);
void coap_workers_observe_cancel(struct coap_workers *ws, uint64_t observation);
/* A request to the peer of a session, in order. `done` gets the status that the response's code stands for and its
 * body, or the failure. False: it is known that there is no such session, and done is not called. */
MUST_USE bool coap_workers_send(struct coap_workers *ws, uint64_t serial, const struct cep_message *req,
                                void (*done)(void *user, enum st st, struct span body), void *user);

/* These wait for the workers, which take as long as one turn of their loops. */
MUST_USE bool coap_workers_export(struct coap_workers *ws, uint64_t serial, const char *label, uint8_t *out, size_t n);
void coap_workers_certificates(struct coap_workers *ws, struct cep_certs *certs, bool optional);
void coap_workers_stats(struct coap_workers *ws, struct cep_stats *sum);
