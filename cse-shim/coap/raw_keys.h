/* Raw public keys of clients (RFC 7250): which are trusted, and what they are called (RFC 6920). OpenSSL has them since 3.2;
 * with an older one none can be loaded, and no client is offered to show one. */
#pragma once
#include "cse-shim/base/bytes.h"

#include <openssl/ssl.h>

#define RAW_KEY_NAME 64 /* holds "ni:///sha-256;", 43 characters and NUL */

struct raw_keys;
/* PEM file of public keys on P-256. NULL: one line in err. */
MUST_USE struct raw_keys *raw_keys_load(const char *file, char *err, size_t errlen);
void raw_keys_free(struct raw_keys *k);

/* Server, before the handshake: let the client show a raw key instead of a certificate. */
MUST_USE bool raw_keys_offer(SSL *ssl);
/* The key that is being verified, or that the peer was verified by; NULL: none, it is a certificate. */
EVP_PKEY *raw_key_of_chain(X509_STORE_CTX *chain);
EVP_PKEY *raw_key_of_peer(const SSL *ssl);
/* Is it trusted? Then its name is written. `k` may be NULL. */
MUST_USE bool raw_keys_name(const struct raw_keys *k, EVP_PKEY *key, char out[RAW_KEY_NAME]);
