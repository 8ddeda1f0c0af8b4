/* A certification authority for tests: keys and certificates as PEM files in a folder of their own. */
#pragma once
#include <openssl/x509.h>
#include <stdbool.h>

struct pki {
    char dir[64];
    X509 *ca;
    EVP_PKEY *ca_key;
    long serial;
};

struct pki_names {
    char cert[128], key[128];
};

void pki_open(struct pki *p);
void pki_close(struct pki *p); /* removes the files */
/* Make `name`.crt and `name`.key; san as in openssl.cnf ("URI:..., DNS:..."), NULL: none; group: "P-256", "P-384".
 * `valid`: not long expired. */
struct pki_names pki_issue(struct pki *p, const char *name, const char *san, const char *group, bool valid);
/* The same with an extendedKeyUsage ("serverAuth") and a digest for the signature ("SHA1"). */
struct pki_names pki_issue_as(struct pki *p, const char *name, const char *san, const char *usage, const char *digest);
/* The authority's list of revoked certificates (`revoked` NULL: of none) in `file`, current for so many seconds from now,
 * or if negative until so many seconds ago; 0: it does not say until when. Replaces the file. */
const char *pki_list(const struct pki *p, const char *file, const struct pki_names *revoked, long seconds, char path[128]);
/* The authority's certificate. */
const char *pki_anchor(const struct pki *p, char path[128]);
