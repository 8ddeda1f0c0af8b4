/* A new credential, as an operator asks for one. */
#include "mef-plugin/mef/credential.h"
#include "mef-plugin/mef/stakeholder.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

#define HAS_RAW_KEYS (OPENSSL_VERSION_NUMBER >= 0x30200000L) /* RFC 7250 */
#define RAW_KEY_HASH 43
#define KPM_BYTES 32
#define KPM_MIN 16
#define KPM_MAX 64

enum { FOR, KIND, KPM, SAN, EXPIRES, ACTS_FOR, MEMBERS };
static const struct attr members[MEMBERS] = {
    [FOR] = {"for", ATTR_TEXT, ATTR_MAN, ATTR_NP, MEF_MAX_ID},
    [KIND] = {"kind", ATTR_TEXT, ATTR_MAN, ATTR_NP, 16},
    [KPM] = {"kpm", ATTR_TEXT, ATTR_OPT, ATTR_NP, 2 * KPM_MAX},
    [SAN] = {"san", ATTR_TEXT, ATTR_OPT, ATTR_NP, MEF_MAX_ID},
    [EXPIRES] = {"expiresAt", ATTR_DATE, ATTR_OPT, ATTR_NP, 0},
    [ACTS_FOR] = {"actsFor", ATTR_TEXTS, ATTR_OPT, ATTR_NP, MEF_MAX_TARGETS},
};

static bool names_raw_key(const char *name)
{
    const char *hash = name + sizeof RAW_KEY - 1;
    return credential_is_raw_key(name) && strlen(hash) == RAW_KEY_HASH &&
           strspn(hash, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == RAW_KEY_HASH;
}

static bool check_kind(const struct attr_value v[MEMBERS], bool *certificate, struct mef_result *r)
{
    /* Conformance: H-5 | TS-0003 10.1.2 | shown by: test_raw_keys.py:test_raw_keys */
    /* Conformance: H-5 | TS-0003 10.1.2 | ours: with OpenSSL 3.2 or later; an older one has no RFC 7250, and 501 says so */
    bool raw = strcmp(v[KIND].text, "rpk") == 0;
    if (raw && !HAS_RAW_KEYS)
        return mef_refuse(r, ST_NOT_IMPLEMENTED, "not-implemented", "kind",
                          "raw public keys are not served: OpenSSL has RFC 7250 from 3.2 on");
    if (raw && (!v[SAN].present || !names_raw_key(v[SAN].text)))
        return mef_refuse(r, ST_BAD_REQUEST, "bad-value", "san", "ni:///sha-256; and the key's hash in base64url (RFC 6920)");
    *certificate = raw || strcmp(v[KIND].text, "certificate") == 0;
    if (!*certificate && strcmp(v[KIND].text, "psk") != 0)
        return mef_refuse(r, ST_BAD_REQUEST, "bad-value", "kind", "psk, certificate or rpk");
    if (!raw && v[SAN].present && strncmp(v[SAN].text, "ni:", 3) == 0)
        return mef_refuse(r, ST_BAD_REQUEST, "bad-value", "san", "this is the name of a raw public key");
    if (*certificate && v[KPM].present)
        return mef_refuse(r, ST_BAD_REQUEST, "bad-value", "kpm", "a certificate has no pre-shared key");
    return *certificate || !v[SAN].present ||
           mef_refuse(r, ST_BAD_REQUEST, "bad-value", "san", "a pre-shared key has no subjectAltName");
}

/* Check everything but what proves the identity. */
static bool check(struct mef *m, const char *admin, const cJSON *in, struct attr_value v[MEMBERS], char id[MEF_ID],
                  enum id_kind *kind, bool *certificate, struct mef_result *r)
{
    if (!attrs_read(members, MEMBERS, in, true, v, r) || !check_kind(v, certificate, r))
        return false;
    *kind = mef_id(m, v[FOR].text, id);
    /* A MEF-FQDN of ours is the source of the keys it publishes: nobody else may be it. */
    if (*kind == ID_NONE || authority_is(m->authorities, id))
        return mef_refuse(r, ST_BAD_REQUEST, "bad-value", "for",
                          "an AE-ID, a CSE-ID, a MAF's FQDN, gateway:NAME, node:ID or an EUI-64");
    /* A gateway gets no key, in nobody's name: one credential is either a gateway's or that of a node with AEs. */
    if (v[ACTS_FOR].present && strncmp(id, "node:", 5) != 0)
        return mef_refuse(r, ST_BAD_REQUEST, "bad-value", "actsFor", "only a node acts for others: node:ID");
    if (v[EXPIRES].present && v[EXPIRES].number <= mef_now(m))
        return mef_refuse(r, ST_BAD_REQUEST, "past", "expiresAt", "the time has passed");
    return stakeholder_has_room(m, admin, SHARE_CREDENTIALS, HASH_COUNT(m->credentials), m->max_credentials) ||
           mef_refuse(r, ST_TOO_MANY, "max-credentials", NULL, "there are as many credentials as the MEF may hold");
}

/* The Kpm, given in hex or made here. */
static bool make_key(struct mef *m, struct store_txn *t, const struct attr_value *kpm, vault_id *key,
                     struct mef_result *r)
{
    uint8_t bytes[KPM_MAX];
    enum st st;
    if (kpm->present) {
        size_t n = strlen(kpm->text) / 2;
        bool good = n >= KPM_MIN && n <= KPM_MAX && hex_decode(kpm->text, strlen(kpm->text), bytes, n);
        st = good ? vault_import(m->d.vault, t, VAULT_PSK, span_of(bytes, n), key) : ST_BAD_REQUEST;
        OPENSSL_cleanse(bytes, sizeof bytes);
        if (!good)
            return mef_refuse(r, st, "bad-value", "kpm", "16 to 64 bytes in hex");
    } else {
        st = vault_generate(m->d.vault, t, VAULT_PSK, KPM_BYTES, key);
    }
    return st == ST_OK || mef_refuse(r, st, "bad-value", "kpm", "the vault does not take this key");
}

/* The AEs and the CSE on a node, in stored spelling, as a list that the caller owns. */
static bool read_acts_for(struct mef *m, const struct attr_value *v, struct strings *out, struct mef_result *r)
{
    char id[MEF_ID];
    const cJSON *e;
    cJSON_ArrayForEach(e, v->array)
    {
        if (mef_id(m, e->valuestring, id) != ID_ENTITY || !strings_add(out, id)) {
            strings_free(out);
            return mef_refuse(r, ST_BAD_REQUEST, "bad-value", "actsFor", "AE-IDs, or the CSE-ID, of what is on the node");
        }
    }
    return !v->present || out->n > 0 ||
           mef_refuse(r, ST_BAD_REQUEST, "bad-value", "actsFor", "a node that acts for nobody needs no list");
}

static struct credential *credential_new(struct mef *m, const char *admin, const char *id, const char *san)
{
    char hex[25];
    struct credential *c = calloc(1, sizeof *c);
    if (c == NULL || !mef_random_hex(m, 12, hex) ||
        asprintf(&c->name, "%s@%s", hex, authority_of(m->authorities, admin)) < 0 ||
        (c->admin = strdup(admin)) == NULL || (c->id = strdup(id)) == NULL ||
        (san != NULL && (c->san = strdup(san)) == NULL)) {
        credential_free(c);
        return NULL;
    }
    return c;
}

/* Into store, trail and answer. */
static void keep(struct mef *m, struct store_txn *t, const char *actor, struct credential *c, struct mef_result *r)
{
    struct wr w = wr_of(m->record, sizeof m->record);
    credential_encode(&w, c);
    store_put(t, STORE_CREDENTIAL, span_str(c->name), wr_span(&w));
    m->known_seq = 0;
    mef_audit(m, t, c->admin, actor, "credential.create", c->name);
    r->st = ST_CREATED;
    r->body = credential_json(c);
}

/* Conformance: R-2 | TS-0003 8.3.5.1 | shown by: test_stakeholders.py:test_a_client_of_both */
/* One name is one holder for each stakeholder. What others say of it is their affair (TS-0003 8.3.5.1: a client registers
 * for each) and not told. */
static bool check_san(const struct mef *m, const char *admin, const struct attr_value *given, enum id_kind kind,
                      const char *id, char san[MEF_ID], struct mef_result *r)
{
    if (given->present)
        snprintf(san, MEF_ID, "%s", given->text);
    else if (!mef_id_certified(kind, id, san))
        return mef_refuse(r, ST_BAD_REQUEST, "bad-value", "san", "a gateway has no name of its own: give the certificate's");
    for (const char *p = san; *p != '\0'; p++)
        if (*p <= ' ' || *p > '~' || *p == '*' || *p == '"')
            return mef_refuse(r, ST_BAD_REQUEST, "bad-value", "san", "an exact URI or DNS name, without wildcard");
    return (*san != '\0' || mef_refuse(r, ST_BAD_REQUEST, "bad-value", "san", "an exact URI or DNS name")) &&
           ((credential_certificate(m, admin, san) == NULL && credential_find(m, admin, san) == NULL) ||
            mef_refuse(r, ST_EXISTS, "exists", "san", "this name is bound already"));
}

static struct credential *make_psk(struct mef *m, struct store_txn *t, const char *admin, const char *id,
                                   const struct attr_value *given, char kpm[2 * KPM_MAX + 1], struct mef_result *r)
{
    vault_id key = 0;
    if (!make_key(m, t, given, &key, r))
        return NULL;
    struct credential *c = credential_new(m, admin, id, NULL);
    if (c == NULL || !vault_release_hex(m->d.vault, key, kpm, 2 * KPM_MAX + 1)) {
        vault_delete(m->d.vault, t, key);
        credential_free(c);
        mef_refuse(r, ST_UNAVAILABLE, "no-memory", NULL, NULL);
        return NULL;
    }
    c->key = key;
    return c;
}

static struct credential *make_certificate(struct mef *m, const char *admin, const char *id, enum id_kind kind,
                                           const struct attr_value *given, struct mef_result *r)
{
    char san[MEF_ID];
    if (!check_san(m, admin, given, kind, id, san, r))
        return NULL;
    struct credential *c = credential_new(m, admin, id, san);
    if (c == NULL)
        mef_refuse(r, ST_UNAVAILABLE, "no-memory", NULL, NULL);
    return c;
}

void mef_credential_create(struct mef *m, struct store_txn *t, const char *admin, const char *actor, const cJSON *in,
                           struct mef_result *r)
{
    struct attr_value v[MEMBERS];
    char id[MEF_ID] = "", kpm[2 * KPM_MAX + 1] = "";
    enum id_kind kind = ID_NONE;
    bool certificate = false;
    struct strings acts_for = {0};
    if (!check(m, admin, in, v, id, &kind, &certificate, r) || !read_acts_for(m, &v[ACTS_FOR], &acts_for, r))
        return;
    struct credential *c = certificate ? make_certificate(m, admin, id, kind, &v[SAN], r)
                                       : make_psk(m, t, admin, id, &v[KPM], kpm, r);
    if (c == NULL) {
        strings_free(&acts_for);
        return;
    }
    c->acts_for = acts_for;
    c->gateway = kind == ID_GATEWAY;
    c->created = mef_now(m);
    c->expires = v[EXPIRES].number;
    if (!credential_add(m, c)) {
        OPENSSL_cleanse(kpm, sizeof kpm);
        if (!certificate)
            vault_delete(m->d.vault, t, c->key);
        credential_free(c);
        mef_refuse(r, ST_UNAVAILABLE, "no-memory", NULL, NULL);
        return;
    }
    keep(m, t, actor, c, r);
    if (!certificate)
        cJSON_AddStringToObject(r->body, "kpm", kpm);
    r->sensitive = !certificate;
    OPENSSL_cleanse(kpm, sizeof kpm);
}
