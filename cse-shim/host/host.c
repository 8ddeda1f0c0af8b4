#include "cse-shim/host/host.h"

#include "cse-shim/base/map64.h"
#include "cse-shim/host/certificates.h"
#include "cse-shim/host/coap_binding.h"
#include "cse-shim/host/loop.h"
#include "cse-shim/host/request.h"
#include "cse-shim/http/http_binding.h"
#include "cse-shim/http/status_server.h"

#include <openssl/rand.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define MAX_MOUNTS 16
#define LINGER_MS 200 /* after the last answer, for its bytes to leave */

const struct conf_option host_options[] = {
    {"daemon", "plugin", CONF_PATH, NULL, 0, 0, "Plugin to load; absent: the one installed with mefd"},
    {"daemon", "log-level", CONF_STRING, "info", 0, 0, "error, warning, notice, info or debug"},
    {"daemon", "drain-seconds", CONF_INT, "10", 0, 600, "Longest wait for requests in flight at shutdown, seconds"},
    {"coap", "listen", CONF_STRING, "[::]:5684, 0.0.0.0:5684", 0, 0, "CoAP over DTLS addresses; empty: none"},
    {"coap", "workers", CONF_INT, "1", 1, CEP_MAX_MEMBERS,
     "Threads for CoAP and DTLS, among which the limits below are divided; 1: none, the daemon's own thread does it"},
    {"coap", "max-sessions", CONF_INT, "10000", 1, 1000000, "Live DTLS sessions; the least recently used one goes"},
    {"coap", "max-handshakes", CONF_INT, "1000", 1, 100000, "DTLS handshakes in progress"},
    {"coap", "max-body", CONF_INT, "65536", 1024, 16777216, "Largest body, bytes"},
    {"coap", "idle-seconds", CONF_INT, "86400", 10, 31536000, "A session idle longer is closed, seconds"},
    {"coap", "certificate", CONF_PATH, NULL, 0, 0, "Certificate chain for CoAP clients without PSK, PEM, on P-256; absent: PSK only"},
    {"coap", "private-key", CONF_PATH, NULL, 0, 0, "Its private key, PEM"},
    {"coap", "trust-anchors", CONF_PATH, NULL, 0, 0, "Certificates that clients' certificates must lead to, PEM (needed beside certificate)"},
    {"coap", "revocation-lists", CONF_PATH, NULL, 0, 0, "Current CRLs of all their issuers, PEM; absent: revocation is not checked"},
    {"coap", "raw-public-keys", CONF_PATH, NULL, 0, 0, "Clients' public keys, trusted as they are (RFC 7250), PEM, on P-256; beside trust-anchors. Needs OpenSSL 3.2"},
    {"https", "listen", CONF_STRING, "[::]:8443, 0.0.0.0:8443", 0, 0, "HTTPS addresses; empty: none"},
    {"https", "certificate", CONF_PATH, NULL, 0, 0, "Server certificate chain, PEM (needed to listen)"},
    {"https", "private-key", CONF_PATH, NULL, 0, 0, "Its private key, PEM (needed to listen)"},
    {"https", "trust-anchors", CONF_PATH, NULL, 0, 0, "Certificates that clients' certificates must lead to, PEM; absent: clients are not asked for one"},
    {"https", "revocation-lists", CONF_PATH, NULL, 0, 0, "Current CRLs of all their issuers, PEM; absent: revocation is not checked"},
    {"https", "raw-public-keys", CONF_PATH, NULL, 0, 0, "Clients' public keys, trusted as they are (RFC 7250), PEM, on P-256; beside trust-anchors. Needs OpenSSL 3.2"},
    {"https", "max-connections", CONF_INT, "1000", 1, 100000, "Connections; further ones wait"},
    {"https", "max-connections-per-address", CONF_INT, "250", 1, 100000,
     "Connections of one IPv4 address or IPv6 /64; further ones are closed"},
    {"https", "max-header", CONF_INT, "16384", 1024, 1048576, "Largest request line and headers, bytes"},
    {"https", "max-body", CONF_INT, "65536", 1024, 16777216, "Largest body, bytes"},
    {"https", "handshake-seconds", CONF_INT, "10", 1, 600, "A slower TLS handshake is cut off, seconds"},
    {"https", "idle-seconds", CONF_INT, "60", 1, 86400, "Longest time without a request, and from its first byte to its answer, seconds"},
    {"certificate.*", "server-name", CONF_STRING, "!", 0, 0, "Name (SNI) that a client of CoAP or HTTPS must ask for to be shown this certificate"},
    {"certificate.*", "certificate", CONF_PATH, "!", 0, 0, "Certificate chain for that name, PEM, on P-256"},
    {"certificate.*", "private-key", CONF_PATH, "!", 0, 0, "Its private key, PEM"},
    {"status", "listen", CONF_STRING, "127.0.0.1:9464", 0, 0, "/healthz, /readyz, /metrics, plain HTTP; empty: none"},
    {"status", "allow-remote", CONF_BOOL, "no", 0, 0, "Let [status] listen name other than loopback addresses"},
    {NULL, NULL, CONF_STRING, NULL, 0, 0, NULL}};

struct mount {
    const char *prefix;
    enum cse_mount how;
};

struct cse_host {
    sd_event *loop;
    const struct conf *conf;
    const struct cse_plugin *plugin;
    void *instance; /* the plugin's */
    struct mount mounts[MAX_MOUNTS];
    size_t nmounts;
    char links[512]; /* "</mef>,</v1>" */
    struct loop_work *work;
    struct metrics *metrics;
    struct certificates certificates;
    struct coap_binding *coap;
    struct http_binding *http;
    struct status_server *status;
    struct request_list requests;
    struct map64 *in_cbor; /* observations whose notifications are CBOR instead of JSON */
    bool starting, draining;
};

/* --- what plugins call -------------------------------------------------------------------------------------------------- */

static bool op_mount(struct cse_host *h, const char *prefix, enum cse_mount how)
{
    if (!h->starting || h->nmounts == MAX_MOUNTS || prefix[0] == '\0' || prefix[0] == '/')
        return false;
    char *copy = strdup(prefix);
    if (copy == NULL)
        return false;
    h->mounts[h->nmounts++] = (struct mount){copy, how};
    size_t n = strlen(h->links);
    if (n + strlen(prefix) + sizeof ",</>" <= sizeof h->links)
        snprintf(h->links + n, sizeof h->links - n, "%s</%s>", n != 0 ? "," : "", prefix);
    return true;
}

static void cancel(struct cse_host *h, uint64_t observation)
{
    if ((observation & 1) != 0 && h->http != NULL)
        http_binding_observe_cancel(h->http, observation >> 1);
    else if ((observation & 1) == 0 && h->coap != NULL)
        coap_binding_observe_cancel(h->coap, observation >> 1);
}

/* Notifications come in the format of the first answer (RFC 7641 4.2). */
static uint64_t op_observe(struct cse_host *h, struct cse_request *req)
{
    struct request *r = (struct request *)req;
    uint64_t id = req->observe && r->binding->observe != NULL ? r->binding->observe(r->exchange) : 0;
    if (id == 0 || r->binding->kind != CSE_COAP || !format_is_cbor(request_answer_format(r)) ||
        map64_put(h->in_cbor, id, h))
        return id;
    cancel(h, id);
    return 0;
}

static void op_notify(struct cse_host *h, uint64_t observation, const struct cse_response *rsp, bool queue)
{
    if ((observation & 1) != 0 && h->http != NULL)
        http_binding_notify(h->http, observation >> 1, rsp);
    else if ((observation & 1) == 0 && h->coap != NULL)
        coap_binding_notify(h->coap, observation >> 1,
                            map64_get(h->in_cbor, observation) != NULL ? FORMAT_CBOR : FORMAT_JSON, rsp, queue);
    cJSON_Delete(rsp->pc);
}

static void op_observe_cancel(struct cse_host *h, uint64_t observation)
{
    map64_del(h->in_cbor, observation);
    cancel(h, observation);
}

static bool op_send(struct cse_host *h, uint64_t session, const char *path, unsigned content_format, struct span body,
                    void (*done)(void *user, enum st st, struct span body), void *user)
{
    return !session_is_tls(session) && h->coap != NULL &&
           coap_binding_send(h->coap, session_serial(session), path, content_format, body, done, user);
}

static bool op_export_key(struct cse_host *h, uint64_t session, const char *label, uint8_t *out, size_t n)
{
    if (session_is_tls(session))
        return h->http != NULL && http_binding_export(h->http, session_serial(session), label, out, n);
    return h->coap != NULL && coap_binding_export(h->coap, session_serial(session), label, out, n);
}

static uint64_t op_timer(struct cse_host *h, uint64_t ms, void (*fn)(void *user), void *user)
{
    return loop_timer(h->work, ms, fn, user);
}

static void op_timer_cancel(struct cse_host *h, uint64_t id)
{
    loop_timer_cancel(h->work, id);
}

/* No further answer leaves: buffers of answers already given are the kernel's, nothing of ours runs after this. */
static void op_fatal(struct cse_host *h, const char *why)
{
    (void)h;
    log_event(LOG_ERROR, "host.fatal", "reason=\"%s\"", why);
    _exit(EXIT_FAILURE);
}

static void op_post(struct cse_host *h, void (*fn)(void *user), void *user)
{
    if (!loop_post(h->work, fn, user))
        op_fatal(h, "out of memory"); /* a completion that is lost would leave its requester waiting for ever */
}

static uint64_t op_now(struct cse_host *h)
{
    (void)h;
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

int64_t host_time(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int64_t op_time(struct cse_host *h)
{
    (void)h;
    return host_time();
}

static bool op_random(struct cse_host *h, void *out, size_t n)
{
    (void)h;
    return n <= INT32_MAX && RAND_priv_bytes(out, (int)n) == 1;
}

static void op_count(struct cse_host *h, const char *name, uint64_t add)
{
    metrics_count(h->metrics, name, add);
}

static void op_gauge(struct cse_host *h, const char *name, int64_t value)
{
    metrics_gauge(h->metrics, name, value);
}

static const struct cse_host_ops ops = {.abi = CSE_PLUGIN_ABI,
                                        .mount = op_mount,
                                        .respond = request_respond,
                                        .observe = op_observe,
                                        .notify = op_notify,
                                        .observe_cancel = op_observe_cancel,
                                        .send = op_send,
                                        .export_key = op_export_key,
                                        .timer = op_timer,
                                        .timer_cancel = op_timer_cancel,
                                        .post = op_post,
                                        .now = op_now,
                                        .time = op_time,
                                        .random = op_random,
                                        .count = op_count,
                                        .gauge = op_gauge,
                                        .fatal = op_fatal};

/* --- what bindings call ------------------------------------------------------------------------------------------------- */

bool host_mount_find(const struct cse_host *h, const char *path, enum cse_mount *how)
{
    size_t best = 0;
    *how = CSE_SERVICE;
    for (size_t i = 0; i < h->nmounts; i++) {
        size_t n = strlen(h->mounts[i].prefix);
        bool below = strncmp(path, h->mounts[i].prefix, n) == 0 && (path[n] == '\0' || path[n] == '/');
        if (below && n > best) {
            best = n;
            *how = h->mounts[i].how;
        }
    }
    return best != 0;
}

const char *host_links(const struct cse_host *h)
{
    return h->links;
}

void host_handle(struct cse_host *h, struct cse_request *req)
{
    h->plugin->handle(h->instance, req);
}

bool host_draining(const struct cse_host *h)
{
    return h->draining;
}

bool host_ready(struct cse_host *h)
{
    return h->plugin->ready == NULL || h->plugin->ready(h->instance);
}

size_t host_psk(struct cse_host *h, const char *identity, const char *server_name, uint8_t *key, size_t cap)
{
    return h->plugin->psk == NULL ? 0 : h->plugin->psk(h->instance, identity, server_name, key, cap);
}

void host_session_end(struct cse_host *h, uint64_t session)
{
    if (h->plugin->session_end != NULL)
        h->plugin->session_end(h->instance, session);
}

void host_observe_end(struct cse_host *h, uint64_t observation)
{
    map64_del(h->in_cbor, observation);
    if (h->instance != NULL && h->plugin->observe_end != NULL)
        h->plugin->observe_end(h->instance, observation);
}

struct metrics *host_metrics(struct cse_host *h)
{
    return h->metrics;
}

void host_metrics_refresh(struct cse_host *h)
{
    struct cep_stats c = {0};
    struct tls_stats t = {0};
    if (h->coap != NULL)
        coap_binding_stats(h->coap, &c);
    if (h->http != NULL)
        http_binding_stats(h->http, &t);
    const struct {
        const char *name;
        uint64_t value;
    } all[] = {{"coap_datagrams_in_total", c.datagrams_in},
               {"coap_datagrams_out_total", c.datagrams_out},
               {"coap_sessions", c.sessions},
               {"coap_handshakes", c.handshakes},
               {"coap_sessions_total", c.sessions_total},
               {"coap_handshakes_failed_total", c.handshakes_failed},
               {"coap_cookies_sent_total", c.cookies_sent},
               {"coap_requests_total", c.requests},
               {"coap_duplicates_total", c.duplicates},
               {"coap_retransmissions_total", c.retransmissions},
               {"coap_dropped_total", c.dropped},
               {"coap_sessions_evicted_total", c.evicted},
               {"coap_malformed_total", c.malformed},
               {"coap_passed_on_total", c.passed_on},
               {"https_connections", t.connections},
               {"https_handshakes", t.handshakes},
               {"https_connections_total", t.accepted},
               {"https_handshakes_failed_total", t.handshakes_failed},
               {"https_timeouts_total", t.timeouts},
               {"https_full_total", t.full},
               {"https_address_full_total", t.crowded},
               {"https_not_http_total", t.filtered}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        metrics_set(h->metrics, all[i].name, (int64_t)all[i].value);
    certificates_measure(&h->certificates, h->metrics);
}

struct request_list *host_requests(struct cse_host *h)
{
    return &h->requests;
}

static void leave(void *user)
{
    struct cse_host *h = user;
    sd_event_exit(h->loop, EXIT_SUCCESS);
}

void host_request_ended(struct cse_host *h)
{
    if (h->draining && h->requests.busy == NULL && h->work != NULL)
        loop_timer(h->work, LINGER_MS, leave, h);
}

/* --- life --------------------------------------------------------------------------------------------------------------------- */

struct cse_host *host_new(sd_event *loop, const struct host_setup *s, char *err, size_t errlen)
{
    struct cse_host *h = calloc(1, sizeof *h);
    snprintf(err, errlen, "out of memory");
    if (h == NULL)
        return NULL;
    h->loop = sd_event_ref(loop);
    h->conf = s->conf;
    h->plugin = s->plugin;
    h->metrics = metrics_new();
    h->work = loop_work_new(loop);
    h->in_cbor = map64_new();
    if (h->metrics == NULL || h->work == NULL || h->in_cbor == NULL) {
        host_free(h);
        return NULL;
    }
    h->starting = true;
    h->instance = h->plugin->init(h, &ops, h->conf, err, errlen);
    h->starting = false;
    if (h->instance == NULL) {
        host_free(h);
        return NULL;
    }
    return h;
}

static unsigned setting(const struct conf *c, const char *section, const char *key)
{
    return (unsigned)conf_int(c, section, key);
}

static bool listen_coap(struct cse_host *h, char *err, size_t errlen)
{
    const struct conf *c = h->conf;
    struct cep_config cfg = {.max_sessions = setting(c, "coap", "max-sessions"),
                             .max_handshakes = setting(c, "coap", "max-handshakes"),
                             .max_body = setting(c, "coap", "max-body"),
                             .idle_seconds = setting(c, "coap", "idle-seconds")};
    const char *addresses = conf_str(c, "coap", "listen");
    if (addresses[0] == '\0')
        return true;
    h->coap = coap_binding_new(h, h->loop, setting(c, "coap", "workers"), &cfg);
    if (h->coap == NULL) {
        snprintf(err, errlen, "coap: out of memory, or OpenSSL lacks a needed algorithm");
        return false;
    }
    coap_binding_certificates(h->coap, h->certificates.coap);
    return coap_binding_listen(h->coap, addresses, err, errlen);
}

static struct http_config http_settings(const struct conf *c, const struct certificates *certs)
{
    return (struct http_config){.tls = {.certs = certs->https,
                                        .max_connections = setting(c, "https", "max-connections"),
                                        .max_per_address = setting(c, "https", "max-connections-per-address"),
                                        .handshake_seconds = setting(c, "https", "handshake-seconds"),
                                        .idle_seconds = setting(c, "https", "idle-seconds")},
                                .max_body = setting(c, "https", "max-body"),
                                .max_header = setting(c, "https", "max-header")};
}

bool host_check(const struct conf *conf, char *err, size_t errlen)
{
    struct certificates c;
    if (!certificates_load(conf, &c, err, errlen))
        return false;
    certificates_free(&c);
    return true;
}

static bool listen_https(struct cse_host *h, char *err, size_t errlen)
{
    struct http_config cfg = http_settings(h->conf, &h->certificates);
    const char *addresses = conf_str(h->conf, "https", "listen");
    if (addresses[0] == '\0')
        return true;
    h->http = http_binding_new(h, h->loop, &cfg, err, errlen);
    return h->http != NULL && http_binding_listen(h->http, addresses, err, errlen);
}

bool host_listen(struct cse_host *h, char *err, size_t errlen)
{
    if (!certificates_load(h->conf, &h->certificates, err, errlen))
        return false;
    certificates_log(&h->certificates);
    h->status = status_server_new(h, h->loop, conf_str(h->conf, "status", "listen"),
                                  conf_bool(h->conf, "status", "allow-remote"), err, errlen);
    return h->status != NULL && listen_coap(h, err, errlen) && listen_https(h, err, errlen);
}

void host_drain(struct cse_host *h)
{
    if (h->draining)
        return;
    h->draining = true;
    if (h->http != NULL)
        http_binding_quiesce(h->http);
    uint64_t ms = (uint64_t)conf_int(h->conf, "daemon", "drain-seconds") * 1000;
    loop_timer(h->work, h->requests.busy == NULL ? LINGER_MS : ms, leave, h);
}

bool host_reload(struct cse_host *h, const struct conf *conf, char *err, size_t errlen)
{
    struct certificates fresh;
    if (!certificates_load(conf, &fresh, err, errlen))
        return false;
    if (h->http != NULL && fresh.https == NULL)
        snprintf(err, errlen, "[https] listen: the listener can only be closed by a restart");
    else if (h->plugin->reload == NULL || h->plugin->reload(h->instance, conf, err, errlen))
        h->conf = conf;
    if (h->conf != conf) {
        certificates_free(&fresh);
        return false;
    }
    certificates_log(&fresh);
    struct http_config cfg = http_settings(conf, &fresh);
    if (h->http != NULL)
        http_binding_reload(h->http, &cfg);
    if (h->coap != NULL)
        coap_binding_certificates(h->coap, fresh.coap);
    certificates_free(&h->certificates);
    h->certificates = fresh;
    return true;
}

void host_free(struct cse_host *h)
{
    if (h == NULL)
        return;
    h->draining = true; /* what still comes in while the listeners close is refused */
    if (h->instance != NULL)
        h->plugin->free(h->instance);
    h->instance = NULL;
    status_server_free(h->status);
    http_binding_free(h->http);
    coap_binding_free(h->coap);
    certificates_free(&h->certificates);
    struct loop_work *work = h->work;
    h->work = NULL;
    loop_work_free(work);
    requests_free(&h->requests);
    metrics_free(h->metrics);
    map64_free(h->in_cbor);
    for (size_t i = 0; i < h->nmounts; i++)
        free((char *)h->mounts[i].prefix);
    sd_event_unref(h->loop);
    free(h);
}
