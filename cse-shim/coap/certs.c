#include "cse-shim/coap/certs.h"

#include "cse-shim/base/hex.h"
#include "cse-shim/base/log.h"
#include "cse-shim/coap/raw_keys.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>

#define MAX_CERTIFICATES 64
#define MAX_NAME 256
#define MAX_SERIAL 64 /* bytes of a hardware serial number */
#define HARDWARE_MODULE_NAME "1.3.6.1.5.5.7.8.4"
#define CHAIN_LEVEL 2 /* OpenSSL's: 112 bits, no SHA-1. The suites need level 0, the chain does not */
#define EXACT_HOST (X509_CHECK_FLAG_NO_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT)

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
    X509_STORE *anchors; /* with the CRLs; NULL: nobody is trusted */
    struct raw_keys *raw; /* NULL: none */
    struct cep_certs_expiry expiry;
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

bool certs_on_p256(const EVP_PKEY *key)
{
    char group[32];
    size_t n;
    return EVP_PKEY_is_a(key, "EC") && EVP_PKEY_get_group_name(key, group, sizeof group, &n) == 1 &&
           OBJ_txt2nid(group) == NID_X9_62_prime256v1;
}

static EVP_PKEY *load_key(const char *file)
{
    struct stat st;
    BIO *in = BIO_new_file(file, "r");
    EVP_PKEY *key = in != NULL ? PEM_read_bio_PrivateKey(in, NULL, NULL, (char[]){""}) : NULL;
    BIO_free(in);
    if (key != NULL && stat(file, &st) == 0 && (st.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        log_event(LOG_WARN, "certificate.key-readable", "file=%s mode=%04o effect=\"others may read the private key\"",
                  file, st.st_mode & 07777u);
    return key;
}

/* A server name that its certificate does not bear, or that another certificate has, helps no client. */
static const char *name_wrong(const struct cep_certs *c, const struct entry *e)
{
    if (e->server_name == NULL)
        return NULL;
    if (X509_check_host(e->cert, e->server_name, 0, EXACT_HOST, NULL) != 1)
        return "is not in the certificate";
    for (size_t i = 0; i < c->n; i++)
        if (c->entries[i].server_name != NULL && strcasecmp(c->entries[i].server_name, e->server_name) == 0)
            return "has another certificate already";
    return NULL;
}

static bool load_entry(struct cep_certs *c, const struct cep_certificate *from, bool any_key, char *err, size_t errlen)
{
    struct entry *e = &c->entries[c->n];
    ERR_clear_error();
    if (from->server_name != NULL && (e->server_name = strdup(from->server_name)) == NULL)
        return failed(err, errlen, "certificate", from->certificate);
    if (!load_chain(e, from->certificate))
        return failed(err, errlen, "certificate", from->certificate);
    if ((e->key = load_key(from->private_key)) == NULL || X509_check_private_key(e->cert, e->key) != 1)
        return failed(err, errlen, "private key", from->private_key);
    if (!any_key && !certs_on_p256(e->key)) {
        snprintf(err, errlen, "private key %s: not on curve P-256", from->private_key);
        return false;
    }
    const char *wrong = name_wrong(c, e);
    if (wrong == NULL)
        return true;
    snprintf(err, errlen, "certificate %s: server-name %s %s", from->certificate, e->server_name, wrong);
    return false;
}

static bool load_anchors(struct cep_certs *c, const char *file, char *err, size_t errlen)
{
    ERR_clear_error();
    c->anchors = X509_STORE_new();
    return (c->anchors != NULL && X509_STORE_load_file(c->anchors, file) == 1) ||
           failed(err, errlen, "trust anchors", file);
}

/* Seconds since 1970; a time that cannot be read has passed. */
static int64_t seconds(const ASN1_TIME *t)
{
    struct tm tm;
    return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

/* A list that does not say when the next one comes (RFC 5280 5.1.2.5 wants it to) would never be out of date. */
static bool take_list(struct cep_certs *c, X509_CRL *list)
{
    const ASN1_TIME *next = X509_CRL_get0_nextUpdate(list);
    int64_t end = next != NULL ? seconds(next) : 0;
    if (end < c->expiry.revocation_list)
        c->expiry.revocation_list = end;
    return next != NULL && X509_STORE_add_crl(c->anchors, list) == 1;
}

/* CRL_CHECK_ALL: also those above the client's certificate, or a stolen CA could not be revoked. */
static bool load_lists(struct cep_certs *c, const char *file, char *err, size_t errlen)
{
    if (c->anchors == NULL) {
        snprintf(err, errlen, "revocation lists %s: of no use without trust anchors", file);
        return false;
    }
    ERR_clear_error();
    BIO *in = BIO_new_file(file, "r");
    bool ok = in != NULL;
    size_t n = 0;
    for (X509_CRL *list; ok && (list = PEM_read_bio_X509_CRL(in, NULL, NULL, NULL)) != NULL; n++) {
        ok = take_list(c, list);
        X509_CRL_free(list);
    }
    BIO_free(in);
    if (ok && n > 0 && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE)
        ERR_clear_error(); /* the file's end */
    return (ok && ERR_peek_error() == 0 &&
            X509_STORE_set_flags(c->anchors, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL) == 1) ||
           failed(err, errlen, "revocation lists", file);
}

static bool load_all(struct cep_certs *c, const struct cep_certs_files *f, char *err, size_t errlen)
{
    if ((f->trust_anchors != NULL && !load_anchors(c, f->trust_anchors, err, errlen)) ||
        (f->revocation_lists != NULL && !load_lists(c, f->revocation_lists, err, errlen)) ||
        (f->raw_keys != NULL && (c->raw = raw_keys_load(f->raw_keys, err, errlen)) == NULL))
        return false;
    for (size_t i = 0; i < f->n; i++) {
        bool ok = load_entry(c, &f->list[i], f->any_key, err, errlen);
        c->n++; /* also a broken one: it is freed with the others */
        if (!ok)
            return false;
        int64_t end = seconds(X509_get0_notAfter(c->entries[i].cert));
        if (end < c->expiry.certificate)
            c->expiry.certificate = end;
    }
    return true;
}

struct cep_certs *cep_certs_load(const struct cep_certs_files *files, char *err, size_t errlen)
{
    snprintf(err, errlen, "out of memory, or more than %d certificates", MAX_CERTIFICATES);
    struct cep_certs *c = files->n <= MAX_CERTIFICATES ? calloc(1, sizeof *c) : NULL;
    if (c == NULL)
        return NULL;
    atomic_init(&c->refs, 1);
    c->expiry = (struct cep_certs_expiry){INT64_MAX, INT64_MAX};
    if (load_all(c, files, err, errlen))
        return c;
    cep_certs_unref(c);
    return NULL;
}

struct cep_certs_expiry cep_certs_expiry(const struct cep_certs *c)
{
    return c->expiry;
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
    raw_keys_free(c->raw);
    free(c);
}

/* --- in a handshake --- */

bool certs_offer(const struct cep_certs *c, SSL *ssl)
{
    return c == NULL || c->raw == NULL || raw_keys_offer(ssl);
}

enum cep_credential certs_credential(const SSL *ssl)
{
    if (raw_key_of_peer(ssl) != NULL)
        return CEP_CRED_RPK;
    return SSL_get0_peer_certificate(ssl) != NULL ? CEP_CRED_CERT : CEP_CRED_NONE;
}

const char *certs_server_name(const SSL *ssl)
{
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    return name != NULL ? name : "";
}

bool certs_can_verify(const struct cep_certs *c)
{
    return c->anchors != NULL;
}

/* Conformance: H-3 | TS-0003 10.2.1 | shown by: test_certificates.py:test_server_names */
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

/* That we have no good list is for the operator to mend; what else is wrong with a certificate, for its holder. */
static bool list_missing(int error)
{
    static const int errors[] = {X509_V_ERR_UNABLE_TO_GET_CRL, X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER,
                                 X509_V_ERR_CRL_HAS_EXPIRED, X509_V_ERR_CRL_NOT_YET_VALID,
                                 X509_V_ERR_CRL_SIGNATURE_FAILURE};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i] == error)
            return true;
    return false;
}

static void log_refused(X509_STORE_CTX *chain)
{
    char name[MAX_NAME] = "", what[MAX_NAME + 160];
    int error = X509_STORE_CTX_get_error(chain);
    X509 *cert = X509_STORE_CTX_get0_cert(chain);
    bool named = cert != NULL && certs_name(cert, name, sizeof name);
    snprintf(what, sizeof what, "name=%s depth=%d reason=\"%s\"", named ? name : "-",
             X509_STORE_CTX_get_error_depth(chain),
             error == X509_V_ERR_APPLICATION_VERIFICATION ? "no exact name (URI, dNSName or hardwareModuleName) in subjectAltName"
                                                          : X509_verify_cert_error_string(error));
    if (list_missing(error))
        log_event(LOG_WARN, "certificate.unchecked", "%s effect=refused", what);
    else
        log_event(LOG_INFO, "certificate.refused", "%s", what);
}

int certs_server(int ok, X509_STORE_CTX *chain)
{
    if (!ok)
        log_refused(chain);
    return ok;
}

/* OpenSSL trusts no raw key, and so comes with `ok` 0 and an error to be overruled. */
static int raw_client(const struct cep_certs *c, X509_STORE_CTX *chain, char *name, size_t cap)
{
    char id[RAW_KEY_NAME];
    bool trusted = c != NULL && raw_keys_name(c->raw, raw_key_of_chain(chain), id) && strlen(id) < cap;
    if (!trusted)
        return certs_server(0, chain);
    memcpy(name, id, strlen(id) + 1);
    X509_STORE_CTX_set_error(chain, X509_V_OK);
    return 1;
}

/* A client signs the handshake: a keyUsage has to allow it where there is one (TS-0003 8.1.2; RFC 5280 4.2.1.3). For
 * OpenSSL keyAgreement would do, too. */
static bool may_sign(X509 *cert)
{
    return (X509_get_key_usage(cert) & KU_DIGITAL_SIGNATURE) != 0;
}

/* Asked for each certificate of a client's chain, from the top. One without a name that says who it is proves nothing. */
/* Conformance: H-2 | TS-0003 8.1.2 | shown by: test_certificates.py:test_key_usage */
/* Conformance: H-2 | TS-0003 8.1.2 | ours: a certificate without keyUsage is taken, one whose keyUsage lacks digitalSignature is not */
int certs_client(const struct cep_certs *c, int ok, X509_STORE_CTX *chain, char *name, size_t cap)
{
    if (raw_key_of_chain(chain) != NULL)
        return raw_client(c, chain, name, cap);
    if (!ok || X509_STORE_CTX_get_error_depth(chain) != 0)
        return certs_server(ok, chain);
    X509 *cert = X509_STORE_CTX_get_current_cert(chain);
    if (may_sign(cert) && certs_name(cert, name, cap))
        return 1;
    X509_STORE_CTX_set_error(chain, may_sign(cert) ? X509_V_ERR_APPLICATION_VERIFICATION : X509_V_ERR_INVALID_PURPOSE);
    return certs_server(0, chain);
}

bool certs_recheck(const struct cep_certs *c, SSL *ssl)
{
    X509_STORE *anchors = c != NULL ? c->anchors : NULL;
    X509 *peer = SSL_get0_peer_certificate(ssl);
    EVP_PKEY *raw = raw_key_of_peer(ssl);
    if (raw != NULL)
        return c != NULL && raw_keys_name(c->raw, raw, (char[RAW_KEY_NAME]){""});
    if (peer == NULL)
        return SSL_set1_verify_cert_store(ssl, anchors) == 1;
    X509_STORE_CTX *chain = anchors != NULL ? X509_STORE_CTX_new() : NULL;
    bool ok = chain != NULL && X509_STORE_CTX_init(chain, anchors, peer, SSL_get_peer_cert_chain(ssl)) == 1 &&
              X509_STORE_CTX_set_default(chain, "ssl_client") == 1;
    if (ok) {
        X509_VERIFY_PARAM_set_auth_level(X509_STORE_CTX_get0_param(chain), CHAIN_LEVEL);
        X509_STORE_CTX_set_verify_cb(chain, certs_server);
        ok = X509_verify_cert(chain) == 1;
    }
    X509_STORE_CTX_free(chain);
    ERR_clear_error();
    return ok;
}

/* --- names --- */

static bool exact(const ASN1_IA5STRING *s, char *out, size_t cap)
{
    int n = ASN1_STRING_length(s);
    const uint8_t *p = ASN1_STRING_get0_data(s);
    if (n <= 0 || (size_t)n >= cap)
        return false;
    for (int i = 0; i < n; i++)
        if (p[i] <= ' ' || p[i] > '~' || p[i] == '*' || p[i] == '"')
            return false;
    memcpy(out, p, (size_t)n);
    out[n] = '\0';
    return true;
}

/* The two members of a hardwareModuleName. */
static bool hardware_members(const ASN1_SEQUENCE_ANY *members, char *out, size_t cap)
{
    char oid[64], serial[2 * MAX_SERIAL + 1];
    if (sk_ASN1_TYPE_num(members) != 2)
        return false;
    const ASN1_TYPE *type = sk_ASN1_TYPE_value(members, 0), *number = sk_ASN1_TYPE_value(members, 1);
    if (type->type != V_ASN1_OBJECT || number->type != V_ASN1_OCTET_STRING)
        return false;
    int n = ASN1_STRING_length(number->value.octet_string);
    int length = OBJ_obj2txt(oid, sizeof oid, type->value.object, 1);
    if (n <= 0 || n > MAX_SERIAL || length <= 0 || (size_t)length >= sizeof oid)
        return false;
    hex_encode(ASN1_STRING_get0_data(number->value.octet_string), (size_t)n, serial);
    int written = snprintf(out, cap, "hwm:%s:%s", oid, serial);
    return written > 0 && (size_t)written < cap;
}

/* A device that bears no name but its maker's number (RFC 4108 5: hardwareModuleName) is "hwm:OID:SERIAL", the serial
 * number in hex. */
static bool hardware_name(const OTHERNAME *name, char *out, size_t cap)
{
    if (name->value->type != V_ASN1_SEQUENCE)
        return false;
    const ASN1_STRING *der = name->value->value.sequence;
    const unsigned char *p = ASN1_STRING_get0_data(der), *end = p + ASN1_STRING_length(der);
    ASN1_SEQUENCE_ANY *members = d2i_ASN1_SEQUENCE_ANY(NULL, &p, ASN1_STRING_length(der));
    bool ok = members != NULL && p == end && hardware_members(members, out, cap);
    sk_ASN1_TYPE_pop_free(members, ASN1_TYPE_free);
    return ok;
}

/* Is it of this kind; an otherName only as a hardwareModuleName. */
static bool is_kind(const GENERAL_NAME *name, int kind)
{
    char id[64];
    return name->type == kind &&
           (kind != GEN_OTHERNAME || (OBJ_obj2txt(id, sizeof id, name->d.otherName->type_id, 1) > 0 &&
                                      strcmp(id, HARDWARE_MODULE_NAME) == 0));
}

/* Conformance: H-2 | TS-0003 8.1.2.5 | shown by: test_procedures.py:test_wrong_certificates */
/* Conformance: H-2 | TS-0003 8.1.2.5 | shown by: test_certificates.py:test_revoked */
bool certs_name(X509 *cert, char *out, size_t cap)
{
    static const int kinds[] = {GEN_URI, GEN_DNS, GEN_OTHERNAME};
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    const GENERAL_NAME *found = NULL;
    for (size_t k = 0; found == NULL && k < sizeof kinds / sizeof *kinds; k++)
        for (int i = 0; found == NULL && i < sk_GENERAL_NAME_num(names); i++)
            if (is_kind(sk_GENERAL_NAME_value(names, i), kinds[k]))
                found = sk_GENERAL_NAME_value(names, i);
    bool ok = found != NULL && (found->type == GEN_OTHERNAME ? hardware_name(found->d.otherName, out, cap)
                                                             : exact(found->d.ia5, out, cap));
    GENERAL_NAMES_free(names);
    return ok;
}
