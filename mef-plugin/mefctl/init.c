/* mefctl init: a folder from which mefd runs at once: configuration, KEK, certificate, operator token. */
#include "mef-plugin/mefctl/mefctl.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECRET_BYTES 32
#define TOKEN_TEXT 44 /* base64 of as many bytes, with padding */
#define CERTIFICATE_DAYS 3650
#define MAX_DIR 150 /* so that every line of the configuration stays below the parser's limit */

static const char usage[] =
    "Usage: mefctl init --fqdn FQDN --dir DIR [--force]\n"
    "\n"
    "Make DIR (mode 0700) with all that mefd needs to run: mefd.conf, kek (key-encryption key), server.pem and\n"
    "server.key (self-signed certificate for FQDN and localhost), admin.token (operator token).\n"
    "  --fqdn FQDN  name of this MEF; also the first adminFQDN\n"
    "  --force      replace files that exist. A replaced kek makes an existing database unreadable for ever\n"
    "Exit status: 0 done, 1 failed, 2 usage.\n";

/* The sample with every option comes from `mefd --print-config`; here stands what must be decided. */
static const char conf_template[] =
    "# mefd, made by `mefctl init`. `mefd --print-config` prints every option with its default.\n"
    "\n"
    "[daemon]\n"
    "# Where mef-plugin.so is, when it is not where it was installed\n"
    "#plugin = mef-plugin.so\n"
    "#log-level = info\n"
    "\n"
    "[coap]\n"
    "# CoAP over DTLS: gateways and AEs\n"
    "listen = [::]:5684, 0.0.0.0:5684\n"
    "# For gateways and AEs with a certificate instead of a PSK: ours, whose authorities are trusted, and their CRLs\n"
    "#certificate = server.pem\n"
    "#private-key = server.key\n"
    "#trust-anchors = clients-ca.pem\n"
    "#revocation-lists = clients-crl.pem\n"
    "\n"
    "[https]\n"
    "# Operators, and AEs that prefer HTTPS\n"
    "listen = [::]:8443, 0.0.0.0:8443\n"
    "# Self-signed; put your own chain and key here\n"
    "certificate = server.pem\n"
    "private-key = server.key\n"
    "# For AEs that prove themselves by certificate here\n"
    "#trust-anchors = clients-ca.pem\n"
    "#revocation-lists = clients-crl.pem\n"
    "\n"
    "[status]\n"
    "# /healthz, /readyz and /metrics, plain HTTP\n"
    "listen = 127.0.0.1:9464\n"
    "\n"
    "[mef]\n"
    "# Key identifiers end in @fqdn\n"
    "fqdn = %1$s\n"
    "base = mef\n"
    "# Complete short AE-IDs: sp-id //FQDN of your service provider, cse-id of your CSE\n"
    "#sp-id = //example.org\n"
    "#cse-id = /in-cse\n"
    "\n"
    "[store]\n"
    "url = sqlite:%2$s/mef.db\n"
    "\n"
    "[vault]\n"
    "# Seals every key in the database. Keep a copy elsewhere: without it the database is worthless\n"
    "kek = kek\n"
    "\n"
    "[eg]\n"
    "# Codes of 6, 8 and 12 bytes hold too little entropy for anything but tests\n"
    "allow-short-install-codes = no\n"
    "\n"
    "# One section an operator token\n"
    "[token.admin]\n"
    "file = admin.token\n"
    "admin-fqdn = %1$s\n"
    "role = admin\n";

static const char next_steps[] =
    "Made %1$s. Next:\n"
    "  mefd --config %1$s/mefd.conf --check-config\n"
    "  mefd --config %1$s/mefd.conf\n"
    "  printf 'Authorization: Bearer %%s' \"$(cat %1$s/admin.token)\" | "
    "curl --cacert %1$s/server.pem -H @- https://localhost:8443/v1/devices\n";

struct init {
    const char *fqdn, *dir;
    bool force;
    char path[PATH_MAX]; /* DIR, absolute */
};

static bool fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static bool fail(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("mefctl init: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    return false;
}

/* Letters, digits and hyphens between dots (RFC 1123 2.1): the name goes into a configuration and a certificate. */
static bool fqdn_valid(const char *name)
{
    size_t label = 0;
    for (const char *c = name; *c != '\0'; c++) {
        bool dot = *c == '.';
        if ((dot && (label == 0 || c[-1] == '-')) || (!dot && !isalnum((unsigned char)*c) && (*c != '-' || label == 0)))
            return false;
        label = dot ? 0 : label + 1;
        if (label > 63)
            return false;
    }
    return label > 0 && strlen(name) <= 253 && name[strlen(name) - 1] != '-';
}

static bool write_file(const struct init *in, const char *name, const void *bytes, size_t n)
{
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/%s", in->path, name);
    if (in->force && unlink(path) < 0 && errno != ENOENT)
        return fail("%s: %s", path, strerror(errno));
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write(fd, bytes, n) == (ssize_t)n && fsync(fd) == 0;
    int saved = errno;
    if (fd >= 0)
        close(fd);
    return ok || fail("%s: %s", path, strerror(saved));
}

static bool make_dir(struct init *in)
{
    static const char *const names[] = {"mefd.conf", "kek", "server.pem", "server.key", "admin.token"};
    if (mkdir(in->dir, 0700) < 0 && errno != EEXIST)
        return fail("%s: %s", in->dir, strerror(errno));
    if (realpath(in->dir, in->path) == NULL || chmod(in->path, 0700) < 0)
        return fail("%s: %s", in->dir, strerror(errno));
    if (strlen(in->path) > MAX_DIR || strpbrk(in->path, " ;#'\"\n") != NULL)
        return fail("the folder's path is longer than %d characters or has a blank, quote, # or ; in it", MAX_DIR);
    for (size_t i = 0; !in->force && i < sizeof names / sizeof names[0]; i++) {
        char path[PATH_MAX + 32];
        snprintf(path, sizeof path, "%s/%s", in->path, names[i]);
        if (access(path, F_OK) == 0)
            return fail("%s exists; --force replaces it", path);
    }
    return true;
}

static bool write_conf(const struct init *in)
{
    char text[sizeof conf_template + 2UL * 256 + PATH_MAX];
    int n = snprintf(text, sizeof text, conf_template, in->fqdn, in->path);
    return n > 0 && (size_t)n < sizeof text && write_file(in, "mefd.conf", text, (size_t)n);
}

static bool write_secrets(const struct init *in)
{
    unsigned char kek[SECRET_BYTES], token[SECRET_BYTES], text[TOKEN_TEXT + 1];
    bool ok = RAND_priv_bytes(kek, sizeof kek) == 1 && RAND_priv_bytes(token, sizeof token) == 1;
    size_t n = ok ? (size_t)EVP_EncodeBlock(text, token, sizeof token) : 0;
    while (n > 0 && text[n - 1] == '=')
        n--;
    for (size_t i = 0; i < n; i++) /* base64url, RFC 4648 5 */
        text[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i];
    text[n++] = '\n';
    ok = ok ? write_file(in, "kek", kek, sizeof kek) && write_file(in, "admin.token", text, n)
            : fail("no random numbers from OpenSSL");
    OPENSSL_cleanse(kek, sizeof kek);
    OPENSSL_cleanse(token, sizeof token);
    OPENSSL_cleanse(text, sizeof text);
    return ok;
}

/* --- certificate ----------------------------------------------------------------------------------------------------- */

static bool add_extension(X509 *x, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool ok = e != NULL && X509_add_ext(x, e, -1) == 1;
    X509_EXTENSION_free(e);
    return ok;
}

static bool set_serial(X509 *x)
{
    unsigned char bytes[16];
    if (RAND_bytes(bytes, sizeof bytes) != 1)
        return false;
    bytes[0] &= 0x7f;
    BIGNUM *bn = BN_bin2bn(bytes, sizeof bytes, NULL);
    bool ok = bn != NULL && BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(x)) != NULL;
    BN_free(bn);
    return ok;
}

static bool fill_certificate(X509 *x, EVP_PKEY *key, const char *fqdn)
{
    char names[256 + 64];
    X509_NAME *subject = X509_get_subject_name(x);
    snprintf(names, sizeof names, "DNS:%s,DNS:localhost,IP:127.0.0.1,IP:::1", fqdn);
    /* A commonName holds 64 characters at most; verifiers look at the subjectAltName alone (RFC 6125). */
    const char *cn = strlen(fqdn) <= 64 ? fqdn : "mefd";
    return X509_set_version(x, X509_VERSION_3) == 1 && set_serial(x) &&
           X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0) == 1 &&
           X509_set_issuer_name(x, subject) == 1 && X509_gmtime_adj(X509_getm_notBefore(x), -300) != NULL &&
           X509_time_adj_ex(X509_getm_notAfter(x), CERTIFICATE_DAYS, 0, NULL) != NULL && X509_set_pubkey(x, key) == 1 &&
           add_extension(x, NID_basic_constraints, "critical,CA:FALSE") &&
           add_extension(x, NID_key_usage, "critical,digitalSignature") &&
           add_extension(x, NID_ext_key_usage, "serverAuth") && add_extension(x, NID_subject_alt_name, names) &&
           add_extension(x, NID_subject_key_identifier, "hash") &&
           add_extension(x, NID_authority_key_identifier, "keyid:always") && X509_sign(x, key, EVP_sha256()) > 0;
}

static bool write_bio(const struct init *in, const char *name, BIO *b)
{
    char *text = NULL;
    long n = BIO_get_mem_data(b, &text);
    return n > 0 && write_file(in, name, text, (size_t)n);
}

static bool write_certificate(const struct init *in)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    BIO *cert = BIO_new(BIO_s_mem()), *secret = BIO_new(BIO_s_secmem());
    bool ok = key != NULL && x != NULL && cert != NULL && secret != NULL && fill_certificate(x, key, in->fqdn) &&
              PEM_write_bio_X509(cert, x) == 1 && PEM_write_bio_PrivateKey(secret, key, NULL, NULL, 0, NULL, NULL) == 1;
    ok = ok ? write_bio(in, "server.pem", cert) && write_bio(in, "server.key", secret)
            : fail("the certificate cannot be made");
    BIO_free(cert);
    BIO_free(secret);
    X509_free(x);
    EVP_PKEY_free(key);
    return ok;
}

/* --- command --------------------------------------------------------------------------------------------------------- */

static int parse(int argc, char **argv, struct init *in)
{
    static const struct option longs[] = {{"fqdn", required_argument, NULL, 'f'}, {"dir", required_argument, NULL, 'd'},
                                          {"force", no_argument, NULL, 'F'},      {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    int o;
    while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (o == 'h') {
            fputs(usage, stdout);
            return MEFCTL_OK;
        }
        in->fqdn = o == 'f' ? optarg : in->fqdn;
        in->dir = o == 'd' ? optarg : in->dir;
        in->force |= o == 'F';
        if (o == '?')
            break;
    }
    if (o == -1 && optind == argc && in->fqdn != NULL && in->dir != NULL && fqdn_valid(in->fqdn))
        return -1;
    if (in->fqdn != NULL && !fqdn_valid(in->fqdn))
        (void)fail("%s is not a domain name", in->fqdn);
    fputs(usage, stderr);
    return MEFCTL_USAGE;
}

int mefctl_init(int argc, char **argv)
{
    struct init in = {0};
    int done = parse(argc, argv, &in);
    if (done >= 0)
        return done;
    umask(077);
    if (!make_dir(&in) || !write_conf(&in) || !write_secrets(&in) || !write_certificate(&in))
        return MEFCTL_FAILED;
    printf(next_steps, in.path);
    return MEFCTL_OK;
}
