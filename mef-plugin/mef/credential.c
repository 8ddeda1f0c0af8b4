/* Credentials: what a peer proves in the handshake, and whom it then is. A KpmID names one pre-shared key (Kpm); the
 * key itself is in the vault. A subjectAltName (SAN) is proved by a certificate; whose word is good for that, says the
 * host's configuration. */
#include "cse-shim/base/log.h"
#include "mef-plugin/mef/resource.h"
#include "mef-plugin/mef/when.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

/* Version and kind of a record in one; a node's has the ids it acts for behind the rest. */
enum { RECORD_PSK = 1, RECORD_CERTIFICATE = 2, RECORD_ACTS_FOR = 0x80 };
#define HAS_RAW_KEYS (OPENSSL_VERSION_NUMBER >= 0x30200000L) /* RFC 7250 */
#define RAW_KEY "ni:///sha-256;" /* RFC 6920: behind it, in base64url, the hash of the SubjectPublicKeyInfo */
#define RAW_KEY_HASH 43
#define KPM_BYTES 32
#define KPM_MIN 16
#define KPM_MAX 64

struct credential {
    char *name;  /* of the credential; of a PSK its KpmID */
    char *san;   /* of a certificate; NULL: it is a PSK */
    char *admin; /* adminFQDN */
    char *id;    /* whom it authenticates, in stored spelling */
    bool gateway;            /* or node */
    struct strings acts_for; /* absolute ids of the AEs and the CSE on a node */
    vault_id key;             /* of a PSK */
    int64_t created, expires; /* expires 0: never */
    struct credential *next;  /* of the same SAN */
    UT_hash_handle hh;
};

/* What stakeholders say of one name that certificates prove: each its own, the oldest word first. */
struct proof {
    char *san;
    struct credential *first;
    UT_hash_handle hh;
};

static void credential_free(struct credential *c)
{
    if (c == NULL)
        return;
    strings_free(&c->acts_for);
    free(c->id);
    free(c->admin);
    free(c->san);
    free(c->name);
    free(c);
}

static void encode(struct wr *w, const struct credential *c)
{
    int kind = c->san != NULL ? RECORD_CERTIFICATE : RECORD_PSK;
    wr_u8(w, (uint8_t)(c->acts_for.n > 0 ? kind | RECORD_ACTS_FOR : kind));
    rec_text(w, c->admin);
    rec_text(w, c->id);
    wr_u8(w, c->gateway);
    if (c->san != NULL)
        rec_text(w, c->san);
    else
        wr_be64(w, c->key);
    wr_be64(w, (uint64_t)c->created);
    wr_be64(w, (uint64_t)c->expires);
    if (c->acts_for.n > 0)
        rec_strings(w, &c->acts_for);
}

static bool decode_proof(struct rd *r, uint8_t kind, struct credential *c)
{
    if ((kind & ~RECORD_ACTS_FOR) == RECORD_CERTIFICATE)
        return rec_rd_text(r, &c->san);
    return (kind & ~RECORD_ACTS_FOR) == RECORD_PSK && rd_be64(r, &c->key);
}

static bool decode_acts_for(struct rd *r, uint8_t kind, struct credential *c)
{
    return (kind & RECORD_ACTS_FOR) == 0 || (rec_rd_strings(r, &c->acts_for) && c->acts_for.n > 0);
}

static struct credential *decode(struct span key, struct span val)
{
    struct credential *c = calloc(1, sizeof *c);
    struct rd r = rd_of(val);
    uint8_t kind, gateway;
    uint64_t created, expires;
    if (c == NULL || key.n == 0 || key.n > MEF_MAX_ID || (c->name = strndup((const char *)key.p, key.n)) == NULL ||
        !rd_u8(&r, &kind) || !rec_rd_text(&r, &c->admin) || !rec_rd_text(&r, &c->id) || !rd_u8(&r, &gateway) ||
        gateway > 1 || !decode_proof(&r, kind, c) || !rd_be64(&r, &created) || !rd_be64(&r, &expires) ||
        created > INT64_MAX || expires > INT64_MAX || !decode_acts_for(&r, kind, c) || !rd_end(&r)) {
        credential_free(c);
        return NULL;
    }
    c->gateway = gateway == 1;
    c->created = (int64_t)created;
    c->expires = (int64_t)expires;
    return c;
}

bool credential_decode(struct span key, struct span val)
{
    struct credential *c = decode(key, val);
    credential_free(c);
    return c != NULL;
}

static struct proof *find_proof(const struct mef *m, const char *san)
{
    struct proof *p = NULL;
    HASH_FIND_STR(m->proofs, san, p);
    return p;
}

static struct proof *get_proof(struct mef *m, const char *san)
{
    struct proof *p = find_proof(m, san);
    if (p != NULL || (p = calloc(1, sizeof *p)) == NULL)
        return p;
    if ((p->san = strdup(san)) != NULL) {
        HASH_ADD_KEYPTR(hh, m->proofs, p->san, strlen(p->san), p);
        if (HASH_ADDED(hh, p))
            return p;
    }
    free(p->san);
    free(p);
    return NULL;
}

static bool older(const struct credential *a, const struct credential *b)
{
    return a->created != b->created ? a->created < b->created : strcmp(a->name, b->name) < 0;
}

static bool bind_san(struct mef *m, struct credential *c)
{
    struct proof *p = get_proof(m, c->san);
    if (p == NULL)
        return false;
    struct credential **at = &p->first;
    while (*at != NULL && older(*at, c))
        at = &(*at)->next;
    c->next = *at;
    *at = c;
    return true;
}

static void unbind_san(struct mef *m, struct credential *c)
{
    struct proof *p = find_proof(m, c->san);
    LL_DELETE(p->first, c);
    if (p->first != NULL)
        return;
    HASH_DEL(m->proofs, p); /* NOLINT(clang-analyzer-*): uthash's macros */
    free(p->san);
    free(p);
}

/* By its names into memory; false: there is none left. */
static bool add(struct mef *m, struct credential *c)
{
    HASH_ADD_KEYPTR(hh, m->credentials, c->name, strlen(c->name), c);
    if (!HASH_ADDED(hh, c) || c->san == NULL || bind_san(m, c))
        return HASH_ADDED(hh, c);
    HASH_DEL(m->credentials, c);
    return false;
}

static bool load_row(void *user, struct span key, struct span val)
{
    struct mef *m = user;
    struct credential *c = decode(key, val);
    if (c != NULL && add(m, c))
        return true;
    credential_free(c);
    return false;
}

/* Keys from before a stakeholder's MEF-FQDN was changed: their holders need new ones. */
static void warn(const struct mef *m)
{
    size_t n = 0;
    for (const struct credential *c = m->credentials; c != NULL; c = c->hh.next)
        n += c->san == NULL && !authority_admits(m->authorities, NULL, c->admin, c->name);
    if (n > 0)
        log_event(LOG_WARN, "credential.other-fqdn",
                  "count=%zu reason=\"the KpmID does not end in the MEF-FQDN of its stakeholder: refused\"", n);
}

bool credentials_load(struct mef *m)
{
    if (!mef_load(m, STORE_CREDENTIAL, load_row))
        return false;
    warn(m);
    return true;
}

void credentials_free(struct mef *m)
{
    struct credential *c, *next;
    HASH_ITER(hh, m->credentials, c, next)
    {
        if (c->san != NULL)
            unbind_san(m, c);
        HASH_DEL(m->credentials, c); /* NOLINT(clang-analyzer-*) */
        credential_free(c);
    }
}

/* --- who is this? ------------------------------------------------------------------------------------------------- */

static struct credential *find(const struct mef *m, const char *name)
{
    struct credential *c = NULL;
    HASH_FIND_STR(m->credentials, name, c);
    return c;
}

/* The stakeholder's word on a name. */
static struct credential *find_certificate(const struct mef *m, const char *admin, const char *san)
{
    const struct proof *p = find_proof(m, san);
    struct credential *c = p != NULL ? p->first : NULL;
    while (c != NULL && strcmp(c->admin, admin) != 0)
        c = c->next;
    return c;
}

static struct credential *find_of(const struct mef *m, const char *admin, const char *name)
{
    struct credential *c = find(m, name);
    return c != NULL && strcmp(c->admin, admin) == 0 ? c : NULL;
}

static struct credential *find_psk(const struct mef *m, const char *kpm_id)
{
    struct credential *c = find(m, kpm_id);
    return c != NULL && c->san == NULL ? c : NULL;
}

/* What its holder is known by in a handshake. */
static const char *identity_of(const struct credential *c)
{
    return c->san != NULL ? c->san : c->name;
}

static bool expired(const struct mef *m, const struct credential *c)
{
    return c->expires != 0 && c->expires <= mef_now(m);
}

/* Does it count for a client that asked for this name (NULL, "": for none)? */
static bool counts(const struct mef *m, const struct credential *c, const char *server_name)
{
    return !expired(m, c) && authority_admits(m->authorities, server_name, c->admin, c->san == NULL ? c->name : NULL);
}

static bool is_raw_key(const char *name)
{
    return strncmp(name, RAW_KEY, sizeof RAW_KEY - 1) == 0;
}

/* All that this peer is: linked by `next`. The name of a raw public key is proved by the key alone, and no other. */
static const struct credential *proved_by(const struct mef *m, const struct cse_peer *peer)
{
    if (peer->identity != NULL && peer->cred == CSE_CRED_PSK)
        return find_psk(m, peer->identity);
    if (peer->identity == NULL || peer->cred != (is_raw_key(peer->identity) ? CSE_CRED_RPK : CSE_CRED_CERT))
        return NULL;
    const struct proof *p = find_proof(m, peer->identity);
    return p != NULL ? p->first : NULL;
}

static bool fits(const char *wanted, const char *is)
{
    return wanted == NULL || strcmp(wanted, is) == 0;
}

static bool speaks_for(const struct credential *c, const char *id)
{
    return fits(id, c->id) || strings_has(&c->acts_for, id);
}

static enum mef_role role_of(const struct credential *c)
{
    return c->acts_for.n > 0 ? MEF_ROLE_NODE : c->gateway ? MEF_ROLE_GATEWAY : MEF_ROLE_CLIENT;
}

/* Conformance: H-7 | TS-0003 8.3.9.4 | shown by: test_nodes.py:test_a_node_acts_for_its_aes */
/* Conformance: H-7 | TS-0003 8.3.9.4 | shown by: test_nodes.py:test_nobody_elses_name */
/* Conformance: H-7 | TS-0003 8.3.9.4 | ours: the operator lists whom a node acts for; the originator says for whom it asks */
struct mef_principal mef_principal_of(struct mef *m, const struct cse_peer *peer, const char *admin, const char *id)
{
    const struct credential *c = proved_by(m, peer);
    while (c != NULL && (!counts(m, c, peer->server_name) || !fits(admin, c->admin) || !speaks_for(c, id)))
        c = c->next;
    if (c == NULL)
        return (struct mef_principal){.role = MEF_ROLE_NONE};
    struct mef_principal p = {.role = role_of(c),
                              .id = c->id,
                              .credential = identity_of(c),
                              .admin = c->admin,
                              .expires = c->expires};
    if (!fits(id, c->id)) {
        p.role = MEF_ROLE_CLIENT;
        p.id = strings_find(&c->acts_for, id);
        p.node = c->id;
    }
    return p;
}

struct mef_principal mef_principal(struct mef *m, const struct cse_peer *peer)
{
    return mef_principal_of(m, peer, NULL, NULL);
}

bool mef_has_several(struct mef *m, const struct cse_peer *peer, const char *id)
{
    unsigned n = 0;
    for (const struct credential *c = proved_by(m, peer); c != NULL; c = c->next)
        n += counts(m, c, peer->server_name) && speaks_for(c, id);
    return n > 1;
}

/* Conformance: H-1 | TS-0003 8.3.5.2.2 | shown by: test_procedures.py:test_wrong_keys */
/* Conformance: H-1 | TS-0003 8.3.5.2.2 | ours: a KpmID is 24 random hex digits, @ and the MEF's FQDN */
size_t mef_psk(struct mef *m, const char *identity, const char *server_name, uint8_t *key, size_t cap)
{
    const struct credential *c = find_psk(m, identity);
    return c == NULL || !counts(m, c, server_name) ? 0 : vault_release(m->d.vault, c->key, key, cap);
}

enum mef_role mef_credential_role(struct mef *m, const char *admin, const char *identity)
{
    const struct credential *c = find_psk(m, identity);
    if (c == NULL || strcmp(c->admin, admin) != 0)
        c = find_certificate(m, admin, identity);
    if (c == NULL || !counts(m, c, authority_of(m->authorities, admin)))
        return MEF_ROLE_NONE;
    return role_of(c);
}

/* --- operator REST ------------------------------------------------------------------------------------------------ */

static cJSON *to_json(const struct credential *c)
{
    char when[WHEN_TEXT];
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "id", c->name);
    cJSON_AddStringToObject(o, c->san != NULL ? "san" : "kpmId", identity_of(c));
    cJSON_AddStringToObject(o, "for", c->id);
    cJSON_AddStringToObject(o, "kind", c->san == NULL ? "psk" : is_raw_key(c->san) ? "rpk" : "certificate");
    static const char *const roles[] = {
        [MEF_ROLE_CLIENT] = "client", [MEF_ROLE_GATEWAY] = "gateway", [MEF_ROLE_NODE] = "node"};
    cJSON_AddStringToObject(o, "role", roles[role_of(c)]);
    if (c->acts_for.n > 0)
        cJSON_AddItemToObject(o, "actsFor", strings_json(&c->acts_for));
    when_print_rfc3339(c->created, when);
    cJSON_AddStringToObject(o, "createdAt", when);
    when_print_rfc3339(c->expires, when);
    if (c->expires != 0)
        cJSON_AddStringToObject(o, "expiresAt", when);
    return o;
}

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
    return is_raw_key(name) && strlen(hash) == RAW_KEY_HASH &&
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
static bool check(struct mef *m, const cJSON *in, struct attr_value v[MEMBERS], char id[MEF_ID], enum id_kind *kind,
                  bool *certificate, struct mef_result *r)
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
    return HASH_COUNT(m->credentials) < m->max_credentials ||
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
    encode(&w, c);
    store_put(t, STORE_CREDENTIAL, span_str(c->name), wr_span(&w));
    mef_audit(m, t, c->admin, actor, "credential.create", c->name);
    r->st = ST_CREATED;
    r->body = to_json(c);
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
           ((find_certificate(m, admin, san) == NULL && find_of(m, admin, san) == NULL) ||
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
    if (!check(m, in, v, id, &kind, &certificate, r) || !read_acts_for(m, &v[ACTS_FOR], &acts_for, r))
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
    if (!add(m, c)) {
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

/* The commands of a client that no credential of this stakeholder's speaks for any more are told to nobody. */
static bool withdraw(struct mef *m, struct store_txn *t, const char *admin, const char *id)
{
    for (const struct credential *c = m->credentials; c != NULL; c = c->hh.next)
        if (speaks_for(c, id) && strcmp(c->admin, admin) == 0)
            return true;
    return commands_withdraw(m, t, admin, id);
}

void mef_credential_delete(struct mef *m, struct store_txn *t, const char *admin, const char *actor, const char *name,
                           struct mef_result *r)
{
    struct credential *c = find_of(m, admin, name);
    if (c == NULL) {
        mef_refuse(r, ST_NOT_FOUND, "not-found", NULL, "there is no such credential");
        return;
    }
    mef_audit(m, t, admin, actor, "credential.delete", c->name);
    store_del(t, STORE_CREDENTIAL, span_str(c->name));
    if (c->san != NULL)
        unbind_san(m, c);
    else
        vault_delete(m->d.vault, t, c->key);
    HASH_DEL(m->credentials, c);
    bool withdrawn = withdraw(m, t, c->admin, c->id);
    for (size_t i = 0; withdrawn && i < c->acts_for.n; i++)
        withdrawn = withdraw(m, t, c->admin, c->acts_for.v[i]);
    credential_free(c);
    r->st = withdrawn ? ST_DELETED : ST_INTERNAL;
}

cJSON *mef_credential_get(struct mef *m, const char *admin, const char *name)
{
    const struct credential *c = find_of(m, admin, name);
    return c == NULL ? NULL : to_json(c);
}

cJSON *mef_credential_list(struct mef *m, const char *admin, const char *after, unsigned limit)
{
    struct page page;
    cJSON *list = page_open(&page, after, limit) ? cJSON_CreateArray() : NULL;
    for (const struct credential *c = m->credentials; list != NULL && c != NULL; c = c->hh.next)
        if (strcmp(c->admin, admin) == 0)
            page_offer(&page, c->name);
    for (size_t i = 0; i < page.n; i++)
        cJSON_AddItemToArray(list, to_json(find(m, page.v[i])));
    page_close(&page);
    return list;
}
