/* Certificates as loaded: keys and chains a peer may be shown, whom to trust, and who was revoked. See cep_certs_load().
 * For DTLS here and for TLS in cse-shim/tls. */
#pragma once
#include "cse-shim/coap/coap.h"

#include <openssl/ssl.h>

/* The curve, the signatures and the chain strength we accept; for both roles. */
MUST_USE bool certs_policy(SSL_CTX *ctx);
bool certs_on_p256(const EVP_PKEY *key); /* asked of CoAP's own keys, and of every raw public key */
struct cep_certs *certs_ref(struct cep_certs *c);
/* Server, for a new `ssl`: say that raw public keys are taken, too, where some are trusted. */
MUST_USE bool certs_offer(const struct cep_certs *c, SSL *ssl);
/* What the peer, through with its handshake, has proved itself by, if by no PSK. */
enum cep_credential certs_credential(const SSL *ssl);
/* Server: the name that the client asked for (SNI); "": none. It lives as long as `ssl`. */
const char *certs_server_name(const SSL *ssl);
/* Is there anybody who could prove itself to us? */
bool certs_can_verify(const struct cep_certs *c);
/* Give `ssl` the certificate for `server_name` (NULL: none named); 1, or 0: out of memory. Having none is fine. */
int certs_use(const struct cep_certs *c, SSL *ssl, const char *server_name);
/* Let `ssl` check its peer's certificate against anchors and CRLs; fn: certs_server(), or one that calls certs_client(). */
MUST_USE bool certs_verify(const struct cep_certs *c, SSL *ssl, int mode, SSL_verify_cb fn);
/* What a verify call-back says: the chain's own checks, and of a client a name that says who it is, which is copied; of a
 * raw public key, whether it is among the trusted ones. A refusal is logged with its reason. */
int certs_client(const struct cep_certs *c, int ok, X509_STORE_CTX *chain, char *name, size_t cap);
int certs_server(int ok, X509_STORE_CTX *chain);
/* Server, after a reload: would this peer be let in now (or has it shown no certificate)? A handshake that has not come
 * so far is checked against `c` (NULL: nobody is trusted) when it does. */
MUST_USE bool certs_recheck(const struct cep_certs *c, SSL *ssl);
/* The name a certificate stands for: its first URI, else its first dNSName, else its hardwareModuleName as "hwm:OID:HEX"
 * (subjectAltName). False: none that is exact (printable, no wildcard, at most cap - 1 bytes). */
MUST_USE bool certs_name(X509 *cert, char *out, size_t cap);
