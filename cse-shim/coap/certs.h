/* Certificates as loaded: keys and chains a peer may be shown, and whom to trust. See cep_certs_load(). */
#pragma once
#include "cse-shim/coap/coap.h"

#include <openssl/ssl.h>

/* The curve, the signatures and the chain strength we accept; for both roles. */
MUST_USE bool certs_policy(SSL_CTX *ctx);
struct cep_certs *certs_ref(struct cep_certs *c);
/* Is there anybody who could prove itself to us? */
bool certs_can_verify(const struct cep_certs *c);
/* Give `ssl` the certificate for `server_name` (NULL: none named); 1, or 0: out of memory. Having none is fine. */
int certs_use(const struct cep_certs *c, SSL *ssl, const char *server_name);
/* Let `ssl` check its peer's certificate against the anchors. */
MUST_USE bool certs_verify(const struct cep_certs *c, SSL *ssl, int mode, SSL_verify_cb fn);
/* The name a certificate stands for: its first URI, else its first dNSName (subjectAltName). False: none that is
 * exact (no wildcard, no NUL, at most cap - 1 bytes). */
MUST_USE bool certs_name(X509 *cert, char *out, size_t cap);
