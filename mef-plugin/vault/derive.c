/* Keys made of keys: the derivations of oneM2M (TS-0003 10.3). What its text leaves open is decided in
 * docs/decisions.md; tests/vectors/onem2m.json has an example of each. */
#include "mef-plugin/vault/internal.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <stdio.h>
#include <stdlib.h>

#define DERIVED 32 /* bytes: HMAC-SHA-256 */

struct deriver {
    EVP_MAC_CTX *unkeyed; /* copied for each use, so that no key stays in it */
};

struct deriver *deriver_new(void)
{
    struct deriver *d = calloc(1, sizeof *d);
    char sha256[] = "SHA256";
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string("digest", sha256, 0), OSSL_PARAM_construct_end()};
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    bool ok = d != NULL && hmac != NULL && (d->unkeyed = EVP_MAC_CTX_new(hmac)) != NULL &&
              EVP_MAC_CTX_set_params(d->unkeyed, params) == 1;
    EVP_MAC_free(hmac);
    if (ok)
        return d;
    deriver_free(d);
    return NULL;
}

void deriver_free(struct deriver *d)
{
    if (d == NULL)
        return;
    EVP_MAC_CTX_free(d->unkeyed);
    free(d);
}

/* What is authenticated under the key: at most four parts, one behind the other, nothing between them. */
struct message {
    struct span parts[4];
    size_t n;
    char suid[12];
};

static void part(struct message *m, struct span s)
{
    m->parts[m->n++] = s;
}

/* label || id; of a usage-constrained key label || SUID || id; of a session key both random values || label. False: a
 * part is missing. */
static bool compose(const struct vault_derivation *in, struct message *m)
{
    static const char *const labels[] = {
        [VAULT_KM] = "oneM2M Enrolment Key to Master Credential derivation",
        [VAULT_KPSA] = "oneM2M Enrolment Key to Provisioned Secure Connection Key derivation",
        [VAULT_KUC] = "oneM2M Enrolment Key to Usage-Constrained Symmetric Key derivation",
        [VAULT_SESSION_ESPRIM] = "oneM2M HMAC-SHA256 sessionESPrimKey derivation algorithm",
    };
    if ((size_t)in->what >= sizeof labels / sizeof *labels)
        return false;
    if (in->what == VAULT_SESSION_ESPRIM) {
        part(m, in->receiver_rand);
        part(m, in->originator_rand);
    }
    part(m, span_str(labels[in->what]));
    if (in->what == VAULT_KUC) {
        snprintf(m->suid, sizeof m->suid, "%u", in->suid);
        part(m, span_str(m->suid));
    }
    if (in->what == VAULT_SESSION_ESPRIM)
        return in->receiver_rand.n == VAULT_ESPRIM_RAND && in->originator_rand.n == VAULT_ESPRIM_RAND;
    if (in->id == NULL || in->id[0] == '\0')
        return false;
    part(m, span_str(in->id));
    return true;
}

static bool hmac(const struct deriver *d, const struct key *key, const struct message *m, uint8_t out[DERIVED])
{
    size_t n = 0;
    EVP_MAC_CTX *c = EVP_MAC_CTX_dup(d->unkeyed);
    bool ok = c != NULL && EVP_MAC_init(c, key->bytes, key->n, NULL) == 1;
    for (size_t i = 0; ok && i < m->n; i++)
        ok = EVP_MAC_update(c, m->parts[i].p, m->parts[i].n) == 1;
    ok = ok && EVP_MAC_final(c, out, &n, DERIVED) == 1 && n == DERIVED;
    EVP_MAC_CTX_free(c); /* wipes */
    return ok;
}

/* Conformance: D-1 | TS-0003 10.3.2 to 10.3.8 | ours: no exporter context, the SUID in decimal, the random values alone */
enum st vault_derive(struct vault *v, struct store_txn *t, const struct vault_derivation *in, vault_id *id)
{
    struct message m = {.n = 0};
    struct key from;
    uint8_t out[DERIVED];
    if (!compose(in, &m))
        return ST_BAD_REQUEST;
    key_open(v, in->from, &from);
    /* A Kpm proves an identity and a Zigbee key is used whole: neither is one that others may be made of. */
    enum st st = from.n > 0 && from.kind == VAULT_SYMM_KEY ? ST_INTERNAL : ST_NOT_FOUND;
    if (st != ST_NOT_FOUND && hmac(v->deriver, &from, &m, out))
        st = key_add(v, t, VAULT_SYMM_KEY, span_of(out, sizeof out), id);
    key_wipe(&from);
    OPENSSL_cleanse(out, sizeof out);
    return st;
}
