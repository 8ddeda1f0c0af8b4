/* DTLS 1.2 (RFC 6347) with PSK or certificates, without sockets: datagrams in, datagrams out through a hook.
 *
 * A server keeps nothing for a peer before its ClientHello carries a cookie (cookie.h). The key of a PSK identity is
 * asked for by a state, and may come later. OpenSSL does the protocol. */
#pragma once
#include "cse-shim/coap/coap.h"
#include "cse-shim/coap/cookie.h"

struct dtls_ctx;
struct dtls; /* one association, either role */

struct dtls_hooks {
    void *user;
    /* Send one datagram to `peer`, the pointer given to dtls_listen(), dtls_connect() or dtls_set_peer(). */
    void (*send)(void *user, void *peer, struct span datagram);
};

/* NULL: out of memory, or OpenSSL lacks the suites. mtu: bytes of UDP payload. master: of cookies_new(). */
MUST_USE struct dtls_ctx *dtls_ctx_new(const struct dtls_hooks *hooks, unsigned mtu,
                                       const uint8_t master[COOKIE_MASTER_LEN]);
void dtls_ctx_free(struct dtls_ctx *ctx);
/* Handshakes of servers show and check certificates from here on (referenced); see cep_endpoint_certificates(). */
void dtls_ctx_certificates(struct dtls_ctx *ctx, struct cep_certs *certs, bool optional);
/* Is the peer a client that showed a certificate? */
bool dtls_certified(const struct dtls *d);
/* After dtls_ctx_certificates(): would it be let in now? (A verification; for others true at once.) */
MUST_USE bool dtls_recheck(struct dtls *d);

#define DTLS_RANDOM_LEN 32
/* Is this datagram's first record the start of an initial ClientHello? Copies its random, which names the attempt. */
MUST_USE bool dtls_client_hello(struct span datagram, uint8_t random[DTLS_RANDOM_LEN]);
/* Does a datagram belong to a handshake (rather than to an association that is open)? */
bool dtls_is_handshake(struct span datagram);

/* Server: a ClientHello from a peer without (or beside its) association. Without a valid cookie one is sent
 * (*cookie_sent = true), nothing is kept and NULL is returned. With one, the handshake begins. `address` is what the
 * cookie is bound to, now_us as for cookie_make(). */
MUST_USE struct dtls *dtls_listen(struct dtls_ctx *ctx, void *peer, struct span address, struct span datagram,
                                  uint64_t now_us, bool *cookie_sent);
#define DTLS_MAX_KEY 64u       /* bytes */
#define DTLS_MAX_IDENTITY 255u /* bytes */
/* Client: begin a handshake. The key is copied, and wiped with the association. */
MUST_USE struct dtls *dtls_connect(struct dtls_ctx *ctx, void *peer, const char *identity, struct span key);
/* Client: by certificates (referenced). The server must prove `server_name`, a DNS name or numeric address. */
MUST_USE struct dtls *dtls_connect_certs(struct dtls_ctx *ctx, void *peer, struct cep_certs *certs,
                                         const char *server_name);
void dtls_set_peer(struct dtls *d, void *peer);
void dtls_free(struct dtls *d); /* sends nothing; NULL is fine */

/* DTLS_KEY: a client named its PSK identity (dtls_identity()); what it sends waits for dtls_key(). Once in a handshake. */
enum dtls_state { DTLS_HANDSHAKE, DTLS_KEY, DTLS_OPEN, DTLS_ENDED };
/* Take in a datagram (an empty span only goes on with what is there), then call dtls_read() until it returns 0. */
enum dtls_state dtls_input(struct dtls *d, struct span datagram);
bool dtls_wants_key(const struct dtls *d); /* DTLS_KEY was returned, and dtls_key() not called yet */
/* Go on with the key (copied, wiped after use); an empty one refuses the identity. Only when it is wanted. */
enum dtls_state dtls_key(struct dtls *d, struct span key);
/* The next record's bytes: > 0; 0: none left; < 0: the association has ended. */
int dtls_read(struct dtls *d, uint8_t *buf, size_t cap);
MUST_USE bool dtls_write(struct dtls *d, struct span data);
void dtls_shutdown(struct dtls *d); /* send close_notify */

/* Microseconds until dtls_timeout() wants to be called; UINT64_MAX: never. */
uint64_t dtls_wait_us(struct dtls *d);
enum dtls_state dtls_timeout(struct dtls *d);

/* Authenticated once DTLS_OPEN: how, and the PSK identity or the name in the peer's certificate; "" if none. */
enum cep_credential dtls_credential(const struct dtls *d);
const char *dtls_identity(const struct dtls *d);
/* The server name that the client asked for (SNI); "": none, or we are the client. Lives as long as the association. */
const char *dtls_server_name(const struct dtls *d);
/* Bytes of UDP payload that get through, as far as is known. */
unsigned dtls_mtu(const struct dtls *d);
const uint8_t *dtls_random(const struct dtls *d);
MUST_USE bool dtls_export(struct dtls *d, const char *label, uint8_t *out, size_t n);
