/* HTTPS (TS-0009 for primitives, plain REST for services): libmicrohttpd on the plain streams of the TLS listener. */
#pragma once
#include "cse-shim/host/host.h"
#include "cse-shim/tls/tls_listener.h"

struct http_config {
    struct tls_config tls;
    size_t max_body;    /* bytes; a larger one is answered 413 */
    size_t max_header;  /* bytes of request line and headers; larger ones are answered 431 */
};

struct http_binding;
MUST_USE struct http_binding *http_binding_new(struct cse_host *h, sd_event *loop, const struct http_config *cfg,
                                               char *err, size_t errlen);
MUST_USE bool http_binding_listen(struct http_binding *b, const char *addresses, char *err, size_t errlen);
void http_binding_quiesce(struct http_binding *b); /* accept no further connection */
void http_binding_reload(struct http_binding *b, const struct http_config *cfg); /* as tls_listener_reload() */
void http_binding_free(struct http_binding *b); /* NULL is fine */
bool http_binding_export(struct http_binding *b, uint64_t serial, const char *label, uint8_t *out, size_t n);
/* cse_host_ops of the same names, for event streams; ids are this binding's. */
void http_binding_notify(struct http_binding *b, uint64_t id, const struct cse_response *rsp);
void http_binding_observe_cancel(struct http_binding *b, uint64_t id);
void http_binding_stats(const struct http_binding *b, struct tls_stats *out);
