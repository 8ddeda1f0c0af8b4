/* The least host around a plugin: no network, no TLS, no timers; requests are made by hand and answered into a function. */
#pragma once
#include "cse-shim/cse_plugin.h"

struct cse_host {
    int pipe[2];          /* posted calls travel whole: fewer bytes than PIPE_BUF are written at once */
    uint8_t exported[48]; /* what "TLS" of session 1 exports */
    struct { char prefix[32]; enum cse_mount how; } mounts[8];
    size_t nmounts;
    /* An answer; rsp->pc is the function's from now on. */
    void (*answered)(struct cse_host *h, struct cse_request *req, const struct cse_response *rsp);
    void *user;
};

/* Load the plugin at `path`, make its instance with the configuration at `conf_path` (its own sections only), and fill in
 * *h but for `answered` and `user`. Ends the program with a message when that cannot be. */
struct tiny_plugin { void *so, *self; const struct cse_plugin *p; struct conf *conf; };
struct tiny_plugin tiny_load(struct cse_host *h, const char *path, const char *conf_path);
void tiny_unload(struct cse_host *h, struct tiny_plugin *t);

/* Hand over a request whose path, op, peer, .. are set, with this JSON body (NULL: none; it stays the caller's). */
void tiny_handle(struct cse_host *h, const struct tiny_plugin *t, struct cse_request *req, const cJSON *pc);
/* Run one call that a plugin's thread posted; false: none came in that time. */
bool tiny_turn(struct cse_host *h, int ms);
_Noreturn void tiny_fatal(struct cse_host *h, const char *why);
