/* mefd as a process with the plugin of host_plugin.c: its files, its ports, its life; HTTPS by libcurl. Certificate and
 * keys are by `mefctl init`. */
#pragma once
#include "cse-shim/base/bytes.h"
#include "tests/unit/coap_pki.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <sys/socket.h>
#include <sys/types.h>

#define SECRET "\x5a\x5a\x5a\x5a\x5a\x5a\x5a\x5a\x5a\x5a\x5a\x5a\x5a\x5a\x5a\x5a" /* host_plugin.c's, of tiny@test */

struct world {
    char dir[64], conf[96], ca[96];
    uint16_t coaps, https, status;
    unsigned drain; /* drain-seconds */
    pid_t mefd;
    struct pki pki; /* of CoAP clients */
    char anchor[128];
};

int set_up(void **state); /* of a group: one world, mefd running */
int tear_down(void **state);

uint16_t free_port(int kind); /* kind: SOCK_STREAM, SOCK_DGRAM */
unsigned workers(void);       /* the whole is run with several numbers of CoAP workers */
/* Run a program to its end; its exit code, or -1. What it prints goes to `log`; NULL: where ours goes. */
int run(const char *program, char *const argv[], const char *log);
/* `more`: lines behind those that every mefd here has. */
void write_conf(const struct world *w, const char *greeting, const char *more);
void start(struct world *w);         /* until it is ready */
int stop(struct world *w, int sig);  /* its exit code */

struct reply { /* valid until the next request */
    long status; /* negative: a CURLcode */
    char *body, headers[2000];
    size_t n, nheaders;
};

/* headers: lines separated by '|'. */
struct reply https_n(const struct world *w, const char *host, const char *method, const char *path, const char *headers,
                     struct span body);
struct reply https(const struct world *w, const char *method, const char *path, const char *headers, const char *body);
bool has(const struct reply *r, const char *text);
/* A page of [status], its text in body; the HTTP status, 0: no answer. */
long status_page(const struct world *w, const char *path, char *body, size_t cap);
