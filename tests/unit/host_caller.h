/* A CoAP client of the mefd of host_fixture.h, by our own endpoint; it answers requests itself, too. */
#pragma once
#include "cse-shim/coap/coap.h"
#include "tests/unit/host_fixture.h"

#define OPT(num, text) {num, {(const uint8_t *)(text), sizeof(text) - 1}}

struct caller {
    sd_event *loop;
    struct cep_endpoint *ep;
    struct cep_session *session;
    unsigned answers, ended;
    uint8_t code;
    char body[1000];
    struct span last; /* body of the last answer, bytes as they came; in `bytes` */
    uint8_t bytes[1000];
    char options[400]; /* "num=value " of the last answer, value as hex */
};

struct caller *caller_new(const struct world *w, const char *host); /* with a session as tiny@test */
void caller_free(struct caller *c);
/* Ask and wait until `want` answers more are there. */
void call(struct caller *c, uint8_t code, const struct cep_option *opts, size_t n, const char *body, bool observe,
          unsigned want);

void on_coap(void *user, enum st st, const struct cep_message *rsp); /* an answer; user: the caller */
void on_back(void *user, struct cep_exchange *ex, const struct cep_message *req); /* "back:" and what was asked */
struct cep_certs *certificate_of_ae(struct world *w);                 /* issued anew; the caller unrefs */
struct cep_session *by_certificate(struct world *w, struct cep_endpoint *ep, const char *host);
