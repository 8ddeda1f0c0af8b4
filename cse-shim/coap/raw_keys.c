#include "cse-shim/coap/raw_keys.h"

#include "cse-shim/coap/certs.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>

#define HASH 32
#define MAX_KEYS 65536
#define HAS_RAW_KEYS (OPENSSL_VERSION_NUMBER >= 0x30200000L)

struct raw_keys {
    size_t n;
    uint8_t (*hashes)[HASH]; /* of their SubjectPublicKeyInfo, sorted */
};

static int by_bytes(const void *a, const void *b)
{
    return memcmp(a, b, HASH);
}

static bool hash_of(EVP_PKEY *key, uint8_t out[HASH])
{
    uint8_t *der = NULL;
    unsigned n = 0;
    int len = i2d_PUBKEY(key, &der);
    bool ok = len > 0 && EVP_Digest(der, (size_t)len, out, &n, EVP_sha256(), NULL) == 1 && n == HASH;
    OPENSSL_free(der);
    return ok;
}

static bool add(struct raw_keys *k, const char *what, const uint8_t *der, long n)
{
    void *grown = k->n < MAX_KEYS && strcmp(what, PEM_STRING_PUBLIC) == 0
                      ? reallocarray(k->hashes, k->n + 1, HASH) : NULL;
    if (grown == NULL)
        return false;
    k->hashes = grown;
    const uint8_t *end = der;
    EVP_PKEY *key = d2i_PUBKEY(NULL, &end, n);
    bool ok = key != NULL && end == der + n && certs_on_p256(key) && hash_of(key, k->hashes[k->n]);
    EVP_PKEY_free(key);
    k->n += ok;
    return ok;
}

static bool read_all(struct raw_keys *k, BIO *in)
{
    char *what, *header;
    uint8_t *der;
    long n;
    bool ok = true;
    while (ok && PEM_read_bio(in, &what, &header, &der, &n) == 1) {
        ok = add(k, what, der, n);
        OPENSSL_free(what);
        OPENSSL_free(header);
        OPENSSL_free(der);
    }
    return ok && k->n > 0 && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE; /* the file's end */
}

struct raw_keys *raw_keys_load(const char *file, char *err, size_t errlen)
{
    if (!HAS_RAW_KEYS) {
        snprintf(err, errlen, "raw public keys %s: OpenSSL has them from 3.2 on, this one does not", file);
        return NULL;
    }
    ERR_clear_error();
    struct raw_keys *k = calloc(1, sizeof *k);
    BIO *in = BIO_new_file(file, "r");
    bool ok = k != NULL && in != NULL && read_all(k, in);
    BIO_free(in);
    ERR_clear_error();
    if (ok) {
        qsort(k->hashes, k->n, HASH, by_bytes);
        return k;
    }
    snprintf(err, errlen, "raw public keys %s: not a file of 1 to %d public keys on P-256", file, MAX_KEYS);
    raw_keys_free(k);
    return NULL;
}

void raw_keys_free(struct raw_keys *k)
{
    if (k == NULL)
        return;
    free(k->hashes);
    free(k);
}

bool raw_keys_name(const struct raw_keys *k, EVP_PKEY *key, char out[RAW_KEY_NAME])
{
    uint8_t hash[HASH];
    char text[4 * ((HASH + 2) / 3) + 1];
    if (k == NULL || !hash_of(key, hash) || bsearch(hash, k->hashes, k->n, HASH, by_bytes) == NULL)
        return false;
    EVP_EncodeBlock((unsigned char *)text, hash, HASH);
    for (char *p = text; *p != '\0'; p++)
        *p = *p == '+' ? '-' : *p == '/' ? '_' : *p == '=' ? '\0' : *p; /* RFC 4648 5, without padding */
    snprintf(out, RAW_KEY_NAME, "ni:///sha-256;%s", text);
    return true;
}

#if HAS_RAW_KEYS
bool raw_keys_offer(SSL *ssl)
{
    static const unsigned char kinds[] = {TLSEXT_cert_type_x509, TLSEXT_cert_type_rpk};
    return SSL_set1_client_cert_type(ssl, kinds, sizeof kinds) == 1;
}

EVP_PKEY *raw_key_of_chain(X509_STORE_CTX *chain)
{
    return X509_STORE_CTX_get0_rpk(chain);
}

EVP_PKEY *raw_key_of_peer(const SSL *ssl)
{
    return SSL_get0_peer_rpk(ssl);
}
#else
bool raw_keys_offer(SSL *ssl)
{
    (void)ssl;
    return false;
}

EVP_PKEY *raw_key_of_chain(X509_STORE_CTX *chain)
{
    (void)chain;
    return NULL;
}

EVP_PKEY *raw_key_of_peer(const SSL *ssl)
{
    (void)ssl;
    return NULL;
}
#endif
