/* Two endpoints on one loop, a small server behind one of them, and helpers to ask it. */
#pragma once
#include "cse-shim/coap/coap.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct pair {
    sd_event *loop;
    struct cep_endpoint *server, *client;
    struct cep_session *session; /* the client's */
    uint16_t port;
    unsigned served, server_opened, server_closed, client_opened, client_closed, observe_ended, psk_asked;
    enum cep_credential last_cred; /* of the session opened last */
    uint64_t last_serial, closed_serial, observation;
    uint64_t late; /* the session whose identity begins with "late": the test gives the key */
    struct cep_exchange *held; /* of "hold" */
    uint8_t order[64];
    uint8_t state; /* what "state" returns */
};

/* What came back. */
struct answer {
    unsigned calls;
    enum st st;
    uint8_t code;
    uint8_t *body;
    size_t len;
    enum st last_st; /* of the call after an observation's end */
};

/* Resources: echo (POST), whoami, slow (answers after 300 ms), order, state (observable), secret, secrets (sensitive),
 * big, hold. */
struct pair *pair_new(bool secure, const char *host, const struct cep_config *cfg); /* as alice */
struct pair *pair_new_as(bool secure, const char *host, const struct cep_config *cfg, const char *identity,
                         const char *key);
void pair_free(struct pair *f);
/* Connect (again) to host:port; the session goes to f->session. */
void pair_connect(struct pair *f, const char *host, uint16_t port, const char *identity, const char *key);
/* Turn the loop until *counter >= want; fails the test after twenty seconds. */
void pair_run(struct pair *f, const unsigned *counter, unsigned want);
/* Turn the loop for that long. */
void pair_sleep(struct pair *f, unsigned ms);

uint64_t ask(struct pair *f, uint8_t code, const char *path, struct span body, struct answer *a);
uint64_t ask_on(struct cep_session *s, uint8_t code, const char *path, struct span body, struct answer *a);
uint64_t ask_full(struct cep_session *s, uint8_t code, const char *path, struct span body, bool observe, bool ordered,
                  struct answer *a);
void ask_who(struct pair *f, struct cep_session *s); /* whoami, and it is answered */
void answer_wipe(struct answer *a);
void fill(uint8_t *p, size_t n, unsigned seed);
