#include "cse-shim/coap/certs.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define MAX_CERTIFICATES 64
#define CHAIN_LEVEL 2 /* OpenSSL's: 112 bits, no SHA-1. The suites need level 0, the chain does not */

struct entry {
    char *server_name; /* NULL: for any name that no other entry has */
    X509 *cert;
    EVP_PKEY *key;
    STACK_OF(X509) * chain; /* above the certificate */
};

struct cep_certs {
    atomic_uint refs;
    struct entry entries[MAX_CERTIFICATES];
    size_t n;
    X509_STORE *anchors; /* NULL: nobody is trusted */
};

bool certs_policy(SSL_CTX *ctx)
{
    /* TS-0003 10.2.3 and RFC 7925 4.4: P-256 with SHA-256. */
    if (SSL_CTX_set1_groups_list(ctx, "P-256") != 1 || SSL_CTX_set1_sigalgs_list(ctx, "ECDSA+SHA256") != 1 ||
        SSL_CTX_set1_client_sigalgs_list(ctx, "ECDSA+SHA256") != 1)
        return false;
    X509_VERIFY_PARAM_set_auth_level(SSL_CTX_get0_param(ctx), CHAIN_LEVEL);
    return true;
}

/* --- loading --- */

static bool failed(char *err, size_t errlen, const char *what, const char *file)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    snprintf(err, errlen, "%s %s: %s", what, file, reason != NULL ? reason : "cannot be used");
    ERR_clear_error();
    return false;
}

static bool load_chain(struct entry *e, const char *file)
{
    BIO *in = BIO_new_file(file, "r");
    e->cert = in != NULL ? PEM_read_bio_X509(in, NULL, NULL, NULL) : NULL;
    e->chain = sk_X509_new_null();
    bool ok = e->cert != NULL && e->chain != NULL;
    X509 *above;
    while (ok && (above = PEM_read_bio_X509(in, NULL, NULL, NULL)) != NULL)
        if (sk_X509_push(e->chain, above) == 0) {
            X509_free(above);
            ok = false;
        }
    BIO_free(in);
    if (ok && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE)
        ERR_clear_error(); /* the file's end */
    return ok && ERR_peek_error() == 0;
}

static bool on_p256(const EVP_PKEY *key)
{
    char group[32];
    size_t n;
    return EVP_PKEY_is_a(key, "EC") && EVP_PKEY_get_group_name(key, group, sizeof group, &n) == 1 &&
           OBJ_txt2nid(group) == NID_X9_62_prime256v1;
}

static EVP_PKEY *load_key(const char *file)
{
    BIO *in = BIO_new_file(file, "r");
    EVP_PKEY *key = in != NULL ? PEM_read_bio_PrivateKey(in, NULL, NULL, (char[]){""}) : NULL;
    BIO_free(in);
    return key;
}

static bool load_entry(struct entry *e, const struct cep_certificate *c, char *err, size_t errlen)
{
    ERR_clear_error();
    if (c->server_name != NULL && (e->server_name = strdup(c->server_name)) == NULL)
        return failed(err, errlen, "certificate", c->certificate);
    if (!load_chain(e, c->certificate))
        return failed(err, errlen, "certificate", c->certificate);
    if ((e->key = load_key(c->private_key)) == NULL || X509_check_private_key(e->cert, e->key) != 1)
        return failed(err, errlen, "private key", c->private_key);
    if (on_p256(e->key))
        return true;
    snprintf(err, errlen, "private key %s: not on curve P-256", c->private_key);
    return false;
}

static bool load_anchors(struct cep_certs *c, const char *file, char *err, size_t errlen)
{
    ERR_clear_error();
    c->anchors = X509_STORE_new();
    return (c->anchors != NULL && X509_STORE_load_file(c->anchors, file) == 1) ||
           failed(err, errlen, "trust anchors", file);
}

struct cep_certs *cep_certs_load(const struct cep_certificate *list, size_t n, const char *trust_anchors, char *err,
                                 size_t errlen)
{
    snprintf(err, errlen, "out of memory, or more than %d certificates", MAX_CERTIFICATES);
    struct cep_certs *c = n <= MAX_CERTIFICATES ? calloc(1, sizeof *c) : NULL;
    if (c == NULL)
        return NULL;
    atomic_init(&c->refs, 1);
    bool ok = trust_anchors == NULL || load_anchors(c, trust_anchors, err, errlen);
    for (; ok && c->n < n; c->n++)
        ok = load_entry(&c->entries[c->n], &list[c->n], err, errlen);
    if (ok)
        return c;
    cep_certs_unref(c);
    return NULL;
}

struct cep_certs *certs_ref(struct cep_certs *c)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

void cep_certs_unref(struct cep_certs *c)
{
    if (c == NULL || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) > 1)
        return;
    for (size_t i = 0; i < c->n; i++) {
        free(c->entries[i].server_name);
        X509_free(c->entries[i].cert);
        EVP_PKEY_free(c->entries[i].key); /* wipes it */
        sk_X509_pop_free(c->entries[i].chain, X509_free);
    }
    X509_STORE_free(c->anchors);
    free(c);
}

/* --- in a handshake --- */

bool certs_can_verify(const struct cep_certs *c)
{
    return c->anchors != NULL;
}

static const struct entry *choose(const struct cep_certs *c, const char *server_name)
{
    const struct entry *any = NULL;
    for (size_t i = 0; i < c->n; i++) {
        const struct entry *e = &c->entries[i];
        if (e->server_name == NULL)
            any = any == NULL ? e : any;
        else if (server_name != NULL && strcasecmp(e->server_name, server_name) == 0) /* RFC 6066 3 */
            return e;
    }
    return any;
}

int certs_use(const struct cep_certs *c, SSL *ssl, const char *server_name)
{
    const struct entry *e = choose(c, server_name);
    return e == NULL || (SSL_use_cert_and_key(ssl, e->cert, e->key, e->chain, 1) == 1);
}

bool certs_verify(const struct cep_certs *c, SSL *ssl, int mode, SSL_verify_cb fn)
{
    SSL_set_verify(ssl, mode, fn);
    return SSL_set1_verify_cert_store(ssl, c->anchors) == 1;
}

/* --- names --- */

static bool exact(const ASN1_IA5STRING *s, char *out, size_t cap)
{
    int n = ASN1_STRING_length(s);
    const uint8_t *p = ASN1_STRING_get0_data(s);
    if (n <= 0 || (size_t)n >= cap || memchr(p, 0, (size_t)n) != NULL || memchr(p, '*', (size_t)n) != NULL)
        return false;
    memcpy(out, p, (size_t)n);
    out[n] = '\0';
    return true;
}

bool certs_name(X509 *cert, char *out, size_t cap)
{
    static const int kinds[] = {GEN_URI, GEN_DNS};
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    const GENERAL_NAME *found = NULL;
    for (size_t k = 0; found == NULL && k < 2; k++)
        for (int i = 0; found == NULL && i < sk_GENERAL_NAME_num(names); i++)
            if (sk_GENERAL_NAME_value(names, i)->type == kinds[k])
                found = sk_GENERAL_NAME_value(names, i);
    bool ok = found != NULL && exact(found->d.ia5, out, cap);
    GENERAL_NAMES_free(names);
    return ok;
}
