#include "cse-shim/http/http_binding.h"

#include "cse-shim/base/map64.h"
#include "cse-shim/host/listen.h"
#include "cse-shim/host/request.h"
#include "cse-shim/http/http_events.h"
#include "cse-shim/http/http_gate.h"
#include "cse-shim/http/http_text.h"
#include "cse-shim/http/mhd_loop.h"

#include <malloc.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_HEARTBEAT 15  /* seconds */
#define DISCARD_FACTOR 64 /* a body up to so many times the limit is read away, so that its sender sees the 413 */

/* Buffers above this size libmicrohttpd maps, and unmaps at the connection's end, so that no heap keeps what was received
 * (a token in front of a request that was cut off). Pages that are not touched cost nothing. */
#define MHD_MAPS_ABOVE 32768

struct stream { /* one connection, as the TLS listener handed it over */
    uint64_t serial;
    enum cse_credential cred;
    char identity[256], server_name[256];
    char address[ADDRESS_TEXT];
};

struct exchange { /* one HTTP request; lives from its request line until MHD reports it completed */
    struct http_binding *binding;
    struct MHD_Connection *conn;
    char *target;  /* as received, not decoded */
    uint8_t *body;
    size_t n, discarded;
    bool begun, too_large, dispatched;
    bool suspended; /* waits for its answer, in the binding's list */
    struct exchange *next, **link;
    struct events *events;         /* of an observation */
    struct MHD_Response *response; /* once answered */
    unsigned http_status;
};

struct http_binding {
    struct cse_host *host;
    struct tls_listener *tls;
    struct mhd_loop *mhd;
    struct map64 *streams; /* by descriptor, until MHD has taken it */
    struct exchange *suspended;
    struct event_room *events;
    size_t max_body, max_header;
};

/* MHD does nothing with a connection between these two; it must not be stopped meanwhile either. */
static void suspend(struct exchange *x)
{
    struct http_binding *b = x->binding;
    x->suspended = true;
    x->next = b->suspended;
    x->link = &b->suspended;
    if (x->next != NULL)
        x->next->link = &x->next;
    b->suspended = x;
    MHD_suspend_connection(x->conn);
}

static void resume(struct exchange *x)
{
    *x->link = x->next;
    if (x->next != NULL)
        x->next->link = x->link;
    x->suspended = false;
    MHD_resume_connection(x->conn);
    mhd_loop_kick(x->binding->mhd);
}

/* --- answers ---------------------------------------------------------------------------------------------------------------- */

static void wiping_free(void *p)
{
    OPENSSL_cleanse(p, malloc_usable_size(p));
    free(p);
}

static struct MHD_Response *response_new(struct span body)
{
    uint8_t *copy = malloc(body.n + 1);
    if (copy == NULL)
        return NULL;
    if (body.n != 0)
        memcpy(copy, body.p, body.n);
    struct MHD_Response *r = MHD_create_response_from_buffer_with_free_callback(body.n, copy, wiping_free);
    if (r == NULL)
        wiping_free(copy);
    return r;
}

static void header(struct MHD_Response *r, const char *name, const char *value)
{
    if (value != NULL)
        (void)MHD_add_response_header(r, name, value);
}

/* Conformance: B-2 | TS-0009 6.4 | shown by: test_procedures.py:test_what_is_repeated */
/* Conformance: B-2 | TS-0009 6.4 | shown by: test_host_https.c:https_primitives */
static void add_headers(struct MHD_Response *r, const struct answer *a, bool stream)
{
    char rsc[8], location[REQUEST_MAX_PATH + 1];
    if (stream)
        header(r, MHD_HTTP_HEADER_CONTENT_TYPE, http_media_type(FORMAT_EVENTS));
    else if (a->content_format != CSE_NO_FORMAT)
        header(r, MHD_HTTP_HEADER_CONTENT_TYPE,
               a->problem ? "application/problem+json" : http_media_type(a->content_format));
    if (a->location != NULL) {
        snprintf(location, sizeof location, "/%s", a->location);
        header(r, a->primitive ? MHD_HTTP_HEADER_CONTENT_LOCATION : MHD_HTTP_HEADER_LOCATION, location);
    }
    if (a->status == ST_UNAUTHORIZED)
        header(r, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    if (a->status == ST_NOT_ALLOWED)
        header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD, POST, PUT, DELETE");
    header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (!a->primitive)
        return;
    snprintf(rsc, sizeof rsc, "%u", st_map(a->status)->rsc);
    header(r, "X-M2M-RSC", rsc);
    header(r, "X-M2M-RI", a->rqi);
    header(r, "X-M2M-RVI", a->rvi);
    header(r, "X-M2M-OT", a->originated);
}

/* A REST delete says 204; a primitive keeps the mapped status (TS-0009 Table 6.3.2-1). */
static unsigned http_status(const struct answer *a)
{
    bool empty = !a->primitive && a->status == ST_DELETED && a->body.n == 0;
    return empty ? MHD_HTTP_NO_CONTENT : st_map(a->status)->http;
}

static void answer(void *exchange, const struct answer *a)
{
    struct exchange *x = exchange;
    bool stream = x->events != NULL && st_map(a->status)->http < 300;
    x->response = stream ? events_start(x->events, a) : response_new(a->body);
    x->http_status = http_status(a);
    if (x->response != NULL)
        add_headers(x->response, a, stream);
    if (x->response != NULL && (stream || host_draining(x->binding->host)))
        header(x->response, MHD_HTTP_HEADER_CONNECTION, "close");
    if (x->suspended)
        resume(x);
}

static const struct stream *stream_of(const struct exchange *x)
{
    return MHD_get_connection_info(x->conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

static uint64_t observe(void *exchange)
{
    struct exchange *x = exchange;
    if (x->events == NULL)
        x->events = events_open(x->binding->events, x->conn, stream_of(x)->serial);
    return x->events == NULL ? 0 : observation_of_http(events_id(x->events));
}

static const struct binding_ops http_ops = {CSE_HTTP, answer, observe};

/* --- requests --------------------------------------------------------------------------------------------------------------- */

static struct span header_of(const struct exchange *x, const char *name)
{
    const char *v = MHD_lookup_connection_value(x->conn, MHD_HEADER_KIND, name);
    return v == NULL ? span_of(NULL, 0) : span_str(v);
}

/* MHD keeps what it received until its buffer is used again, long after the connection's end, and has no hook to wipe
 * it. The bytes lie in its own buffer: they may be overwritten where they are read. */
static void wipe_received(struct span s)
{
    if (s.p != NULL)
        OPENSSL_cleanse((void *)(uintptr_t)s.p, s.n);
}

static const char *text_header(struct request *r, const struct exchange *x, const char *name)
{
    struct span v = header_of(x, name);
    return v.p == NULL ? NULL : request_text(r, v);
}

static void read_method(struct request *r, const char *method)
{
    static const char *const names[] = {[METHOD_GET] = "GET", [METHOD_POST] = "POST", [METHOD_PUT] = "PUT",
                                        [METHOD_DELETE] = "DELETE"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i], method) == 0) {
            r->method = (enum method)i;
            return;
        }
    if (strcmp(method, "HEAD") != 0) /* a GET whose body MHD leaves out */
        request_refuse(r, ST_NOT_ALLOWED, "the method is not supported");
}

/* A browser shows its user's certificate also for what another site has it ask; that it then names in Origin. */
static bool authenticated(const struct stream *s, const struct exchange *x)
{
    return s->cred == CSE_CRED_PSK || s->cred == CSE_CRED_RPK || (s->cred == CSE_CRED_CERT && header_of(x, MHD_HTTP_HEADER_ORIGIN).p == NULL);
}

static void read_peer(struct request *r, const struct exchange *x)
{
    const struct stream *s = stream_of(x);
    bool known = authenticated(s, x);
    r->pub.peer = (struct cse_peer){.session = session_of_tls(s->serial),
                                    .cred = known ? s->cred : CSE_CRED_NONE,
                                    .identity = known ? request_text(r, span_str(s->identity)) : "",
                                    .address = request_text(r, span_str(s->address)),
                                    .server_name = request_text(r, span_str(s->server_name))};
}

static void read_headers(struct request *r, const struct exchange *x)
{
    struct span type = header_of(x, MHD_HTTP_HEADER_CONTENT_TYPE);
    if (type.p != NULL && !http_read_content_type(type, &r->pub.content_format, &r->pub.ty))
        request_refuse(r, ST_BAD_REQUEST, "the resource type in Content-Type is not a number");
    http_read_accept(r, header_of(x, MHD_HTTP_HEADER_ACCEPT));
    for (size_t i = 0; i < r->naccepts; i++)
        r->pub.observe |= r->accepts[i] == FORMAT_EVENTS && r->method == METHOD_GET;
    r->pub.last_event_id = text_header(r, x, "Last-Event-ID");
    r->pub.from = text_header(r, x, "X-M2M-Origin");
    r->rqi = text_header(r, x, "X-M2M-RI");
    r->rvi = text_header(r, x, "X-M2M-RVI");
    r->expires = text_header(r, x, "X-M2M-RET");
    r->originated = text_header(r, x, "X-M2M-OT");
    r->pub.authorization = text_header(r, x, MHD_HTTP_HEADER_AUTHORIZATION);
    wipe_received(header_of(x, MHD_HTTP_HEADER_AUTHORIZATION));
}

static enum MHD_Result dispatch(struct exchange *x, const char *method)
{
    struct request *r = request_new(x->binding->host, &http_ops, x);
    if (r == NULL)
        return MHD_NO;
    metrics_count(host_metrics(x->binding->host), "host_https_requests_total", 1);
    x->dispatched = true;
    read_peer(r, x);
    read_method(r, method);
    http_read_target(r, span_str(x->target));
    read_headers(r, x);
    r->pub.body = span_of(x->body, x->n);
    if (x->too_large)
        request_refuse(r, ST_TOO_LARGE, "the body is larger than this service takes");
    request_dispatch(r);
    if (x->response == NULL)
        suspend(x);
    return MHD_YES;
}

static bool take_body(struct exchange *x, const char *data, size_t n)
{
    size_t max = x->binding->max_body;
    x->too_large |= n > max - x->n;
    if (x->too_large) {
        x->discarded += n;
        return x->discarded <= max * DISCARD_FACTOR;
    }
    if (x->body == NULL && (x->body = malloc(max)) == NULL)
        return false;
    memcpy(x->body + x->n, data, n);
    x->n += n;
    return true;
}

/* Refuse a body by its announced length when the client waits for our leave to send it (RFC 9110 10.1.1). */
static bool announces_too_much(const struct exchange *x)
{
    struct span length = header_of(x, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return header_of(x, MHD_HTTP_HEADER_EXPECT).p != NULL && length.p != NULL &&
           strtoull((const char *)length.p, NULL, 10) > x->binding->max_body;
}

static enum MHD_Result on_access(void *user, struct MHD_Connection *conn, const char *url, const char *method,
                                 const char *version, const char *data, size_t *size, void **state)
{
    (void)user;
    (void)url;
    (void)version;
    struct exchange *x = *state;
    if (x == NULL)
        return MHD_NO;
    x->conn = conn;
    if (!x->begun) {
        x->begun = true;
        x->too_large = announces_too_much(x);
        if (!x->too_large)
            return MHD_YES;
    } else if (*size != 0) {
        bool go_on = take_body(x, data, *size);
        wipe_received(span_of((const uint8_t *)data, *size));
        *size = 0;
        return go_on ? MHD_YES : MHD_NO;
    }
    if (!x->dispatched && (dispatch(x, method) == MHD_NO || x->suspended))
        return x->suspended ? MHD_YES : MHD_NO;
    return x->response == NULL ? MHD_NO : MHD_queue_response(conn, x->http_status, x->response);
}

/* The request line arrived: the one place where the target is still as it was sent. */
static void *on_target(void *user, const char *target, struct MHD_Connection *conn)
{
    struct exchange *x = calloc(1, sizeof *x);
    if (x == NULL || (x->target = strdup(target)) == NULL) {
        free(x);
        return NULL;
    }
    x->binding = user;
    x->conn = conn;
    return x;
}

static void on_completed(void *user, struct MHD_Connection *conn, void **state, enum MHD_RequestTerminationCode why)
{
    (void)user;
    (void)conn;
    (void)why;
    struct exchange *x = *state;
    if (x == NULL)
        return;
    if (x->response != NULL)
        MHD_destroy_response(x->response);
    if (x->events != NULL)
        events_close(x->events);
    if (x->body != NULL)
        OPENSSL_cleanse(x->body, x->n);
    free(x->body);
    free(x->target);
    free(x);
    *state = NULL;
}

/* --- connections ------------------------------------------------------------------------------------------------------------ */

static void on_connection(void *user, struct MHD_Connection *conn, void **context, enum MHD_ConnectionNotificationCode code)
{
    struct http_binding *b = user;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
        *context = map64_del(b->streams, (uint64_t)info->connect_fd);
    } else {
        free(*context);
        *context = NULL;
    }
}

static void on_opened(void *user, int fd, const struct tls_peer *peer)
{
    struct http_binding *b = user;
    struct stream *s = calloc(1, sizeof *s);
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    if (s == NULL || !map64_put(b->streams, (uint64_t)fd, s)) {
        free(s);
        close(fd);
        return;
    }
    s->serial = peer->serial;
    s->cred = (enum cse_credential)peer->cred;
    snprintf(s->identity, sizeof s->identity, "%s", peer->identity);
    snprintf(s->server_name, sizeof s->server_name, "%s", peer->server_name);
    snprintf(s->address, sizeof s->address, "%s", peer->address);
    if (MHD_add_connection(mhd_loop_daemon(b->mhd), fd, (struct sockaddr *)&local, sizeof local.sun_family) != MHD_YES)
        free(map64_del(b->streams, (uint64_t)fd));
    mhd_loop_kick(b->mhd);
}

static void on_closed(void *user, uint64_t serial)
{
    struct http_binding *b = user;
    events_peer_gone(b->events, serial);
    host_session_end(b->host, session_of_tls(serial));
}

static size_t on_psk(void *user, const char *identity, const char *server_name, uint8_t *key, size_t cap)
{
    return host_psk(((struct http_binding *)user)->host, identity, server_name, key, cap);
}

static void *gate_open(void *user)
{
    return http_gate_new(&(struct http_gate_limits){((struct http_binding *)user)->max_header});
}

static void gate_close(void *gate)
{
    http_gate_free(gate);
}

static size_t gate_pass(void *gate, struct span in, struct span *refusal)
{
    return http_gate_pass(gate, in, refusal);
}

/* --- life ----------------------------------------------------------------------------------------------------------------------- */

static struct MHD_Daemon *start_daemon(struct http_binding *b, const struct http_config *cfg)
{
    unsigned flags = MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    return MHD_start_daemon(flags, 0, NULL, NULL, on_access, b, MHD_OPTION_EXTERNAL_LOGGER, mhd_log, NULL,
                            MHD_OPTION_URI_LOG_CALLBACK, on_target, b, MHD_OPTION_NOTIFY_COMPLETED, on_completed, b,
                            MHD_OPTION_NOTIFY_CONNECTION, on_connection, b, MHD_OPTION_CONNECTION_LIMIT,
                            (unsigned)cfg->tls.max_connections + 1, MHD_OPTION_CONNECTION_TIMEOUT,
                            cfg->tls.idle_seconds, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                            MHD_MAPS_ABOVE + (size_t)2 * cfg->max_header, MHD_OPTION_STRICT_FOR_CLIENT, 1,
                            MHD_OPTION_END);
}

struct http_binding *http_binding_new(struct cse_host *h, sd_event *loop, const struct http_config *cfg, char *err,
                                      size_t errlen)
{
    struct http_binding *b = calloc(1, sizeof *b);
    snprintf(err, errlen, "https: the HTTP library cannot be started");
    if (b == NULL)
        return NULL;
    b->host = h;
    b->max_body = cfg->max_body;
    b->max_header = cfg->max_header;
    b->streams = map64_new();
    /* A stream is silent for two beats at most, and that must be well within the idle time. */
    unsigned beat = cfg->tls.idle_seconds / 4 < MAX_HEARTBEAT ? cfg->tls.idle_seconds / 4 : MAX_HEARTBEAT;
    b->events = event_room_new(h, loop, beat > 0 ? beat : 1);
    struct MHD_Daemon *d = b->streams == NULL || b->events == NULL ? NULL : start_daemon(b, cfg);
    b->mhd = d == NULL ? NULL : mhd_loop_new(loop, d);
    if (b->mhd != NULL)
        event_room_start(b->events, b->mhd);
    struct tls_callbacks cb = {b, on_opened, on_closed, on_psk, {gate_open, gate_close, gate_pass}};
    b->tls = b->mhd == NULL ? NULL : tls_listener_new(loop, &cfg->tls, &cb, err, errlen);
    if (b->tls != NULL)
        return b;
    http_binding_free(b);
    return NULL;
}

bool http_binding_listen(struct http_binding *b, const char *addresses, char *err, size_t errlen)
{
    return tls_listen(b->tls, addresses, err, errlen);
}

void http_binding_quiesce(struct http_binding *b)
{
    tls_listener_quiesce(b->tls);
}

void http_binding_reload(struct http_binding *b, const struct http_config *cfg)
{
    tls_listener_reload(b->tls, &cfg->tls);
}

static bool free_stream(void *user, uint64_t fd, void *stream)
{
    (void)user;
    (void)fd;
    free(stream);
    return true;
}

void http_binding_free(struct http_binding *b)
{
    if (b == NULL)
        return;
    while (b->suspended != NULL)
        resume(b->suspended);
    if (b->events != NULL)
        event_room_end(b->events);
    mhd_loop_free(b->mhd);
    tls_listener_free(b->tls);
    event_room_free(b->events);
    if (b->streams != NULL)
        map64_each(b->streams, free_stream, NULL);
    map64_free(b->streams);
    free(b);
}

bool http_binding_export(struct http_binding *b, uint64_t serial, const char *label, uint8_t *out, size_t n)
{
    return tls_export(b->tls, serial, label, out, n);
}

void http_binding_stats(const struct http_binding *b, struct tls_stats *out)
{
    tls_stats_get(b->tls, out);
}

void http_binding_notify(struct http_binding *b, uint64_t id, const struct cse_response *rsp)
{
    events_notify(b->events, id, rsp);
}

void http_binding_observe_cancel(struct http_binding *b, uint64_t id)
{
    events_cancel(b->events, id);
}
