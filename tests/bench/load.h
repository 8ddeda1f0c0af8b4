/* A load generator on the CoAP endpoint: one process, many sessions, so many requests in flight; and what the kernel knows
 * of the server under it, read from outside: processor time and memory of one process id. */
#pragma once
#include "cse-shim/coap/coap.h"

#include <sys/types.h>

struct load_credential { /* a line of standard input: IDENTITY HEXKEY [GATEWAY], or "certificate" and three PEM files */
    char identity[160], gateway[17];
    uint8_t key[64];
    size_t keylen;
    struct cep_certs *certs; /* of the client, its key, and whom it trusts; NULL: PSK */
};

struct load_options { /* room for the options of one request */
    struct cep_option opts[16];
    size_t n;
    uint8_t number[3][4];
};

struct load {
    sd_event *loop;
    struct cep_endpoint *ep;
    struct load_credential *creds;
    struct cep_session **sessions; /* session i uses credential i % ncreds */
    size_t ncreds, want, made, opened, closed, next, flying, at_once;
    uint64_t asked, answers, failures, limit; /* limit: requests in all; 0: until load_pause() */
    const char *host; /* numeric; NULL: 127.0.0.1 */
    uint16_t port;
    pid_t pid;
    bool loading;
    /* Make request number `n` (from 0) for session `i`; what it points to stays valid until the next call. */
    void (*make)(struct load *l, uint64_t n, size_t i, struct cep_message *req);
    bool (*good)(const struct cep_message *rsp);
    void (*on_opened)(void *user, const struct cep_peer *peer); /* beside the count; NULL: nobody asks */
    void *user;
};

double load_now(void);            /* seconds, monotonic */
double load_cpu(pid_t pid);       /* seconds of processor time, all threads of the process */
double load_resident(pid_t pid);  /* KiB */

/* Read credentials from standard input; false: none, or a line that is not one. */
bool load_credentials(struct load *l);
/* GET of `path`: with `from`, a oneM2M primitive as an AE sends it. */
void load_get(struct load_options *o, const char *path, const char *from, struct cep_message *req);
/* A primitive by any method. body: JSON, NULL: none; ty: of what a POST creates. */
void load_primitive(struct load_options *o, uint8_t method, const char *path, const char *from, const char *body,
                    uint32_t ty, struct cep_message *req);

/* Make the endpoint and open `sessions` of them. l: zeroed but for credentials, host, port, pid and functions. */
bool load_open(struct load *l, size_t sessions);
struct cep_session *load_dial(struct load *l, size_t i);
void load_run(struct load *l, double until);
void load_start(struct load *l);
void load_pause(struct load *l); /* until nothing is in flight */
void load_close(struct load *l);
