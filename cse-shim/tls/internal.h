/* What tls_listener.c (sockets, life) and tls_pump.c (bytes) share. */
#pragma once
#include "cse-shim/host/listen.h"
#include "cse-shim/tls/tls_listener.h"

#include <openssl/ssl.h>

#define TLS_BUFFER 16384 /* one direction of one connection; a full one stops reading at the other side */
#define TLS_IDENTITY 256

struct tls_buffer {
    size_t from, to; /* bytes waiting */
    uint8_t bytes[TLS_BUFFER];
};

struct tls_conn {
    struct tls_listener *listener;
    struct tls_conn *next, **link;
    uint64_t serial;
    SSL *ssl;
    int tcp, plain; /* `plain`: our end of the pair, -1 before the handshake is done */
    sd_event_source *tcp_source, *plain_source, *deadline;
    sd_event_source *resume; /* for what no descriptor announces: bytes that OpenSSL holds, a reader that caught up */
    bool tls_wants_write, tls_ended, plain_ended, half_closed;
    bool received, sent; /* in the last tls_pump() */
    void *filter;              /* of the listener's tls_filter, once open */
    bool refused, said;        /* the filter stopped the client; it was told so */
    struct span refusal;       /* what to say, when what was asked before is answered */
    size_t discarded;          /* read after that */
    uint64_t origin;           /* names the address for its limit */
    bool asking;         /* something came in since something last went out */
    char identity[TLS_IDENTITY]; /* of the PSK, once asked for; or of the certificate, once it was checked */
    char address[ADDRESS_TEXT];
    struct tls_buffer in, out; /* from TLS to plain, from plain to TLS */
};

/* How many of the bytes may go on; fewer: c is refused from here on. */
MUST_USE size_t tls_filter(struct tls_conn *c, struct span in);
/* Move what can be moved; false: the connection is over. */
MUST_USE bool tls_pump(struct tls_conn *c);
/* Watch for exactly what lets tls_pump() go on. */
void tls_pump_watch(struct tls_conn *c);

/* A context with our versions and suites; certificates are chosen for each connection. NULL: OpenSSL lacks something. */
MUST_USE SSL_CTX *tls_context_new(void);
