#include "tests/unit/coap_pki.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void extend(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    assert_non_null(e);
    assert_int_equal(X509_add_ext(cert, e, -1), 1);
    X509_EXTENSION_free(e);
}

static X509 *certificate(struct pki *p, EVP_PKEY *key, const char *cn, bool valid)
{
    X509 *c = X509_new();
    X509_NAME *name = X509_NAME_new();
    assert_int_equal(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)cn, -1, -1, 0), 1);
    X509_set_version(c, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(c), ++p->serial);
    X509_set_subject_name(c, name);
    X509_set_issuer_name(c, p->ca != NULL ? X509_get_subject_name(p->ca) : name);
    X509_gmtime_adj(X509_getm_notBefore(c), -7200);
    X509_gmtime_adj(X509_getm_notAfter(c), valid ? 7200 : -3600);
    X509_set_pubkey(c, key);
    X509_NAME_free(name);
    return c;
}

static void write_pem(const struct pki_names *n, X509 *cert, EVP_PKEY *key)
{
    FILE *f = fopen(n->cert, "w");
    assert_non_null(f);
    assert_int_equal(PEM_write_X509(f, cert), 1);
    fclose(f);
    f = fopen(n->key, "w");
    assert_non_null(f);
    assert_int_equal(fchmod(fileno(f), 0600), 0);
    assert_int_equal(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(f);
}

static struct pki_names names(const struct pki *p, const char *name)
{
    struct pki_names n;
    snprintf(n.cert, sizeof n.cert, "%s/%s.crt", p->dir, name);
    snprintf(n.key, sizeof n.key, "%s/%s.key", p->dir, name);
    return n;
}

void pki_open(struct pki *p)
{
    *p = (struct pki){.dir = "/tmp/coap-pki-XXXXXX"};
    assert_non_null(mkdtemp(p->dir));
    p->ca_key = EVP_EC_gen("P-256");
    assert_non_null(p->ca_key);
    p->ca = certificate(p, p->ca_key, "Test CA", true);
    extend(p->ca, NID_basic_constraints, "critical,CA:TRUE");
    assert_true(X509_sign(p->ca, p->ca_key, EVP_sha256()) > 0);
    struct pki_names n = names(p, "ca");
    write_pem(&n, p->ca, p->ca_key);
}

struct pki_names pki_issue(struct pki *p, const char *name, const char *san, const char *group, bool valid)
{
    EVP_PKEY *key = EVP_EC_gen(group);
    assert_non_null(key);
    X509 *cert = certificate(p, key, name, valid);
    if (san != NULL)
        extend(cert, NID_subject_alt_name, san);
    assert_true(X509_sign(cert, p->ca_key, EVP_sha256()) > 0);
    struct pki_names n = names(p, name);
    write_pem(&n, cert, key);
    X509_free(cert);
    EVP_PKEY_free(key);
    return n;
}

struct pki_names pki_issue_as(struct pki *p, const char *name, const char *san, const char *usage, const char *digest)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    assert_non_null(key);
    X509 *cert = certificate(p, key, name, true);
    extend(cert, NID_subject_alt_name, san);
    extend(cert, NID_ext_key_usage, usage);
    assert_true(X509_sign(cert, p->ca_key, EVP_get_digestbyname(digest)) > 0);
    struct pki_names n = names(p, name);
    write_pem(&n, cert, key);
    X509_free(cert);
    EVP_PKEY_free(key);
    return n;
}

static void add_revoked(X509_CRL *list, const struct pki_names *revoked)
{
    FILE *f = fopen(revoked->cert, "r");
    assert_non_null(f);
    X509 *cert = PEM_read_X509(f, NULL, NULL, NULL);
    fclose(f);
    X509_REVOKED *r = X509_REVOKED_new();
    ASN1_TIME *now = X509_gmtime_adj(NULL, -60);
    assert_int_equal(X509_REVOKED_set_serialNumber(r, X509_get_serialNumber(cert)), 1);
    assert_int_equal(X509_REVOKED_set_revocationDate(r, now), 1);
    assert_int_equal(X509_CRL_add0_revoked(list, r), 1);
    ASN1_TIME_free(now);
    X509_free(cert);
}

const char *pki_list(const struct pki *p, const char *file, const struct pki_names *revoked, long seconds, char path[128])
{
    X509_CRL *list = X509_CRL_new();
    ASN1_TIME *from = X509_gmtime_adj(NULL, -7200), *until = X509_gmtime_adj(NULL, seconds);
    X509_CRL_set_version(list, 1);
    X509_CRL_set_issuer_name(list, X509_get_subject_name(p->ca));
    X509_CRL_set1_lastUpdate(list, from);
    if (seconds != 0)
        X509_CRL_set1_nextUpdate(list, until);
    if (revoked != NULL)
        add_revoked(list, revoked);
    assert_true(X509_CRL_sign(list, p->ca_key, EVP_sha256()) > 0);
    snprintf(path, 128, "%s/%s", p->dir, file);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(PEM_write_X509_CRL(f, list), 1);
    fclose(f);
    ASN1_TIME_free(from);
    ASN1_TIME_free(until);
    X509_CRL_free(list);
    return path;
}

const char *pki_anchor(const struct pki *p, char path[128])
{
    snprintf(path, 128, "%s/ca.crt", p->dir);
    return path;
}

void pki_close(struct pki *p)
{
    char command[96];
    X509_free(p->ca);
    EVP_PKEY_free(p->ca_key);
    snprintf(command, sizeof command, "rm -r '%s'", p->dir);
    assert_int_equal(system(command), 0);
}
