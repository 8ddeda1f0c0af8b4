/* Credentials: what a peer proves in the handshake, and whom it then is. A KpmID names one pre-shared key (Kpm); the
 * key itself is in the vault. */
#include "mef-plugin/mef/internal.h"
#include "mef-plugin/mef/when.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

#define RECORD_VERSION 1
#define KPM_BYTES 32
#define KPM_MIN 16
#define KPM_MAX 64

struct credential {
    char *kpm_id;
    char *admin; /* adminFQDN */
    char *id;    /* whom it authenticates, in stored spelling */
    bool gateway;
    vault_id key;
    int64_t created, expires; /* expires 0: never */
    UT_hash_handle hh;
};

static void credential_free(struct credential *c)
{
    if (c == NULL)
        return;
    free(c->id);
    free(c->admin);
    free(c->kpm_id);
    free(c);
}

static void encode(struct wr *w, const struct credential *c)
{
    wr_u8(w, RECORD_VERSION);
    rec_text(w, c->admin);
    rec_text(w, c->id);
    wr_u8(w, c->gateway);
    wr_be64(w, c->key);
    wr_be64(w, (uint64_t)c->created);
    wr_be64(w, (uint64_t)c->expires);
}

static struct credential *decode(struct span key, struct span val)
{
    struct credential *c = calloc(1, sizeof *c);
    struct rd r = rd_of(val);
    uint8_t version, gateway;
    uint64_t created, expires;
    if (c == NULL || key.n == 0 || key.n > MEF_MAX_ID || (c->kpm_id = strndup((const char *)key.p, key.n)) == NULL ||
        !rd_u8(&r, &version) || version != RECORD_VERSION || !rec_rd_text(&r, &c->admin) || !rec_rd_text(&r, &c->id) ||
        !rd_u8(&r, &gateway) || gateway > 1 || !rd_be64(&r, &c->key) || !rd_be64(&r, &created) ||
        !rd_be64(&r, &expires) || created > INT64_MAX || expires > INT64_MAX || !rd_end(&r)) {
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

static bool load_row(void *user, struct span key, struct span val)
{
    struct mef *m = user;
    struct credential *c = decode(key, val);
    if (c == NULL)
        return false;
    HASH_ADD_KEYPTR(hh, m->credentials, c->kpm_id, strlen(c->kpm_id), c);
    if (!HASH_ADDED(hh, c)) {
        credential_free(c);
        return false;
    }
    return true;
}

bool credentials_load(struct mef *m)
{
    return mef_load(m, STORE_CREDENTIAL, load_row);
}

void credentials_free(struct mef *m)
{
    struct credential *c = m->credentials, *next;
    HASH_CLEAR(hh, m->credentials);
    for (; c != NULL; c = next) {
        next = c->hh.next;
        credential_free(c);
    }
}

/* --- who is this? ------------------------------------------------------------------------------------------------- */

static struct credential *find(const struct mef *m, const char *kpm_id)
{
    struct credential *c = NULL;
    HASH_FIND_STR(m->credentials, kpm_id, c);
    return c;
}

static bool expired(const struct mef *m, const struct credential *c)
{
    return c->expires != 0 && c->expires <= mef_now(m);
}

struct mef_principal mef_principal(struct mef *m, const struct cse_peer *peer)
{
    if (peer->cred != CSE_CRED_PSK || peer->identity == NULL)
        return (struct mef_principal){.role = MEF_ROLE_NONE};
    const struct credential *c = find(m, peer->identity);
    if (c == NULL || expired(m, c))
        return (struct mef_principal){.role = MEF_ROLE_NONE};
    return (struct mef_principal){.role = c->gateway ? MEF_ROLE_GATEWAY : MEF_ROLE_CLIENT,
                                  .id = c->id,
                                  .credential = c->kpm_id,
                                  .admin = c->admin};
}

size_t mef_psk(struct mef *m, const char *identity, uint8_t *key, size_t cap)
{
    const struct credential *c = find(m, identity);
    return c == NULL || expired(m, c) ? 0 : vault_release(m->d.vault, c->key, key, cap);
}

enum mef_role mef_credential_role(struct mef *m, const char *admin, const char *kpm_id)
{
    const struct credential *c = find(m, kpm_id);
    if (c == NULL || strcmp(c->admin, admin) != 0 || expired(m, c))
        return MEF_ROLE_NONE;
    return c->gateway ? MEF_ROLE_GATEWAY : MEF_ROLE_CLIENT;
}

/* --- operator REST ------------------------------------------------------------------------------------------------ */

static cJSON *to_json(const struct credential *c)
{
    char when[WHEN_TEXT];
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "kpmId", c->kpm_id);
    cJSON_AddStringToObject(o, "for", c->id);
    cJSON_AddStringToObject(o, "kind", "psk");
    cJSON_AddStringToObject(o, "role", c->gateway ? "gateway" : "client");
    when_print_rfc3339(c->created, when);
    cJSON_AddStringToObject(o, "createdAt", when);
    when_print_rfc3339(c->expires, when);
    if (c->expires != 0)
        cJSON_AddStringToObject(o, "expiresAt", when);
    return o;
}

enum { FOR, KIND, KPM, EXPIRES, MEMBERS };
static const struct attr members[MEMBERS] = {
    [FOR] = {"for", ATTR_TEXT, ATTR_MAN, ATTR_NP, MEF_MAX_ID},
    [KIND] = {"kind", ATTR_TEXT, ATTR_MAN, ATTR_NP, 16},
    [KPM] = {"kpm", ATTR_TEXT, ATTR_OPT, ATTR_NP, 2 * KPM_MAX},
    [EXPIRES] = {"expiresAt", ATTR_DATE, ATTR_OPT, ATTR_NP, 0},
};

/* Check everything but the key. */
static bool check(struct mef *m, const cJSON *in, struct attr_value v[MEMBERS], char id[MEF_ID], enum id_kind *kind,
                  struct mef_result *r)
{
    if (!attrs_read(members, MEMBERS, in, true, v, r))
        return false;
    if (strcmp(v[KIND].text, "certificate") == 0 || strcmp(v[KIND].text, "rpk") == 0)
        return mef_refuse(r, ST_NOT_IMPLEMENTED, "not-implemented", "kind", "only credentials of kind psk are served");
    if (strcmp(v[KIND].text, "psk") != 0)
        return mef_refuse(r, ST_BAD_REQUEST, "bad-value", "kind", "psk, certificate or rpk");
    *kind = mef_id(m, v[FOR].text, id);
    /* The MEF's own FQDN is the source of the keys it publishes: nobody else may be it. */
    if (*kind == ID_NONE || strcmp(id, m->fqdn) == 0)
        return mef_refuse(r, ST_BAD_REQUEST, "bad-value", "for",
                          "an AE-ID, a CSE-ID, a MAF's FQDN, gateway:NAME, node:ID or an EUI-64");
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

static struct credential *credential_new(struct mef *m, const char *admin, const char *id, bool gateway,
                                         int64_t expires)
{
    char hex[25];
    struct credential *c = calloc(1, sizeof *c);
    if (c == NULL || !mef_random_hex(m, 12, hex) || asprintf(&c->kpm_id, "%s@%s", hex, m->fqdn) < 0 ||
        (c->admin = strdup(admin)) == NULL || (c->id = strdup(id)) == NULL) {
        credential_free(c);
        return NULL;
    }
    c->gateway = gateway;
    c->created = mef_now(m);
    c->expires = expires;
    return c;
}

void mef_credential_create(struct mef *m, struct store_txn *t, const char *admin, const char *actor, const cJSON *in,
                           struct mef_result *r)
{
    struct attr_value v[MEMBERS];
    char id[MEF_ID] = "", kpm[2 * KPM_MAX + 1];
    enum id_kind kind = ID_NONE;
    vault_id key = 0;
    if (!check(m, in, v, id, &kind, r) || !make_key(m, t, &v[KPM], &key, r))
        return;
    struct credential *c = credential_new(m, admin, id, kind == ID_GATEWAY, v[EXPIRES].number);
    if (c != NULL && vault_release_hex(m->d.vault, key, kpm, sizeof kpm))
        HASH_ADD_KEYPTR(hh, m->credentials, c->kpm_id, strlen(c->kpm_id), c);
    if (c == NULL || !HASH_ADDED(hh, c)) {
        OPENSSL_cleanse(kpm, sizeof kpm);
        vault_delete(m->d.vault, t, key);
        credential_free(c);
        mef_refuse(r, ST_UNAVAILABLE, "no-memory", NULL, NULL);
        return;
    }
    c->key = key;
    struct wr w = wr_of(m->record, sizeof m->record);
    encode(&w, c);
    store_put(t, STORE_CREDENTIAL, span_str(c->kpm_id), wr_span(&w));
    mef_audit(m, t, admin, actor, "credential.create", c->kpm_id);
    r->st = ST_CREATED;
    r->body = to_json(c);
    cJSON_AddStringToObject(r->body, "kpm", kpm);
    OPENSSL_cleanse(kpm, sizeof kpm);
    r->sensitive = true;
}

static struct credential *find_of(const struct mef *m, const char *admin, const char *kpm_id)
{
    struct credential *c = find(m, kpm_id);
    return c != NULL && strcmp(c->admin, admin) == 0 ? c : NULL;
}

void mef_credential_delete(struct mef *m, struct store_txn *t, const char *admin, const char *actor, const char *kpm_id,
                           struct mef_result *r)
{
    struct credential *c = find_of(m, admin, kpm_id);
    if (c == NULL) {
        mef_refuse(r, ST_NOT_FOUND, "not-found", NULL, "there is no such credential");
        return;
    }
    mef_audit(m, t, admin, actor, "credential.delete", c->kpm_id);
    vault_delete(m->d.vault, t, c->key);
    store_del(t, STORE_CREDENTIAL, span_str(c->kpm_id));
    HASH_DEL(m->credentials, c);
    credential_free(c);
    r->st = ST_DELETED;
}

cJSON *mef_credential_get(struct mef *m, const char *admin, const char *kpm_id)
{
    const struct credential *c = find_of(m, admin, kpm_id);
    return c == NULL ? NULL : to_json(c);
}

cJSON *mef_credential_list(struct mef *m, const char *admin, const char *after, unsigned limit)
{
    struct page page;
    cJSON *list = page_open(&page, after, limit) ? cJSON_CreateArray() : NULL;
    for (const struct credential *c = m->credentials; list != NULL && c != NULL; c = c->hh.next)
        if (strcmp(c->admin, admin) == 0)
            page_offer(&page, c->kpm_id);
    for (size_t i = 0; i < page.n; i++)
        cJSON_AddItemToArray(list, to_json(find(m, page.v[i])));
    page_close(&page);
    return list;
}
