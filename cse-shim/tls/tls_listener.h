/* TLS 1.2 and 1.3 server on OpenSSL, non-blocking on one sd-event loop. Each connection, once its handshake is done,
 * becomes a plain stream on a socket pair with bounded buffers; whoever takes that descriptor speaks HTTP on it and
 * knows the authenticated peer. (docs/decisions.md: why not the HTTP library's own TLS.)
 *
 * Clients authenticate by PSK or certificate (TS-0003 10.2.2, 10.2.3) or not at all: then the bearer token of the request
 * must do. */
#pragma once
#include "cse-shim/coap/coap.h"

#include <systemd/sd-event.h>

struct tls_listener;

struct tls_peer {
    uint64_t serial;      /* never reused in this process */
    enum cep_credential cred;
    const char *identity; /* as cep_peer.identity */
    const char *address;  /* numeric address and port */
    const char *server_name; /* as cep_peer.server_name */
};

/* Watches what a client sends before it reaches the plain stream. */
struct tls_filter {
    void *(*open)(void *user); /* for one connection; NULL: out of memory */
    void (*close)(void *filter);
    /* How many of the bytes may go on. Fewer than given: no more will, and *refusal (static) is sent when what was asked
     * before is answered; then the connection is closed. */
    size_t (*pass)(void *filter, struct span in, struct span *refusal);
};

struct tls_callbacks {
    void *user;
    /* A handshake completed: take the plain stream `fd` (owned by the callee from here on, also on failure). The
     * connection ends when the callee closes fd. `peer` is valid during the call. */
    void (*opened)(void *user, int fd, const struct tls_peer *peer);
    void (*closed)(void *user, uint64_t serial);
    /* As cep_callbacks.psk. */
    size_t (*psk)(void *user, const char *identity, const char *server_name, uint8_t *key, size_t cap);
    struct tls_filter filter;
};

struct tls_config {
    struct cep_certs *certs;     /* to show, by SNI; with anchors, a client that has a certificate may show it */
    size_t max_connections;      /* further ones wait in the backlog */
    size_t max_per_address;      /* of them from one IPv4 address or IPv6 /64; further ones are closed at once */
    unsigned handshake_seconds;  /* a slower handshake is cut off */
    unsigned idle_seconds;       /* longest time without a question, and from its first byte to its answer */
};

struct tls_stats { /* monotonic but `connections` and `handshakes` (gauges) */
    uint64_t connections, handshakes, accepted, handshakes_failed, timeouts, full, crowded, filtered;
};

/* On failure NULL and one line in err. */
MUST_USE struct tls_listener *tls_listener_new(sd_event *loop, const struct tls_config *cfg,
                                               const struct tls_callbacks *cb, char *err, size_t errlen);
void tls_listener_free(struct tls_listener *l); /* calls no callback; NULL is fine */
MUST_USE bool tls_listen(struct tls_listener *l, const char *addresses, char *err, size_t errlen);
/* Close the listening sockets; connections go on. */
void tls_listener_quiesce(struct tls_listener *l);
/* Take over other certificates (referenced) and limits. Connections go on, but for those of clients whose certificate
 * would be refused now. */
void tls_listener_reload(struct tls_listener *l, const struct tls_config *cfg);
/* RFC 5705 exporter without context; false: no such connection. */
MUST_USE bool tls_export(struct tls_listener *l, uint64_t serial, const char *label, uint8_t *out, size_t n);
void tls_stats_get(const struct tls_listener *l, struct tls_stats *out);
