/* The host: one loop, one plugin, and what both need. struct cse_host is what plugins see as opaque.
 *
 * Everything here belongs to the loop's thread unless said otherwise. */
#pragma once
#include "cse-shim/cse_plugin.h"
#include "cse-shim/host/metrics.h"

#include <systemd/sd-event.h>

extern const struct conf_option host_options[]; /* sections [daemon], [coap], [https], [certificate.*], [status] */

/* --- the plugin's file ------------------------------------------------------------------------------------------------ */
struct plugin_file {
    void *handle;
    const struct cse_plugin *plugin;
};
/* Load and check the ABI; on failure NULL handle and one line in err. */
MUST_USE struct plugin_file plugin_load(const char *path, char *err, size_t errlen);
void plugin_unload(struct plugin_file *f);

/* --- life ------------------------------------------------------------------------------------------------------------- */
struct host_setup {
    const char *config_path;
    const struct conf *conf;
    const struct cse_plugin *plugin;
};
/* What can be said of a configuration beyond its tables, without starting anything: the certificates. */
MUST_USE bool host_check(const struct conf *conf, char *err, size_t errlen);
/* Make the host on a loop and start the plugin; no socket is open yet. */
MUST_USE struct cse_host *host_new(sd_event *loop, const struct host_setup *s, char *err, size_t errlen);
/* Open the CoAP, HTTPS and status listeners that the configuration names. */
MUST_USE bool host_listen(struct cse_host *h, char *err, size_t errlen);
/* Stop taking requests; the loop exits with 0 when the ones in flight are answered, or after [daemon] drain-seconds. */
void host_drain(struct cse_host *h);
/* Hand a new configuration to the plugin and the listeners. When true is returned it must stay until the
 * next one is taken. */
MUST_USE bool host_reload(struct cse_host *h, const struct conf *conf, char *err, size_t errlen);
void host_free(struct cse_host *h); /* stops the plugin, then closes the endpoints; NULL is fine */

/* --- for the bindings -------------------------------------------------------------------------------------------------- */
/* The longest mounted prefix of a path; false: none (then *how is CSE_SERVICE). */
bool host_mount_find(const struct cse_host *h, const char *path, enum cse_mount *how);
/* What is mounted, in RFC 6690 link format. */
const char *host_links(const struct cse_host *h);
void host_handle(struct cse_host *h, struct cse_request *req);
bool host_draining(const struct cse_host *h);
bool host_ready(struct cse_host *h);
struct request_list { /* of a host */
    struct request *busy;  /* in flight */
    struct request *spare; /* wiped, for the next ones: a request is too large for malloc() to be quick */
    size_t nspare;
};
struct request_list *host_requests(struct cse_host *h);
void host_request_ended(struct cse_host *h);
size_t host_psk(struct cse_host *h, const char *identity, const char *server_name, uint8_t *key, size_t cap);
void host_session_end(struct cse_host *h, uint64_t session);
void host_observe_end(struct cse_host *h, uint64_t observation);
int64_t host_time(void); /* ms since 1970 UTC */
struct metrics *host_metrics(struct cse_host *h);
/* Bring what is only known by asking (endpoint statistics) into the metrics. */
void host_metrics_refresh(struct cse_host *h);

/* Session and observation numbers as plugins see them: the endpoints count for themselves, the low bit tells them apart. */
static inline uint64_t session_of_coap(uint64_t serial) { return serial << 1; }
static inline uint64_t session_of_tls(uint64_t serial) { return serial << 1 | 1; }
static inline uint64_t observation_of_coap(uint64_t id) { return id << 1; }
static inline uint64_t observation_of_http(uint64_t id) { return id << 1 | 1; }
static inline bool session_is_tls(uint64_t session) { return (session & 1) != 0; }
static inline uint64_t session_serial(uint64_t session) { return session >> 1; }
