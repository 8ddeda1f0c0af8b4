/* The credentials there are: kept, found, and asked who a peer is. */
#include "mef-plugin/mef/credential.h"
#include "cse-shim/base/log.h"
#include "mef-plugin/mef/resource.h"
#include "mef-plugin/mef/stakeholder.h"
#include "mef-plugin/mef/when.h"

#include <stdlib.h>
#include <utlist.h>

/* Version and kind of a record in one; a node's has the ids it acts for behind the rest. */
enum { RECORD_PSK = 1, RECORD_CERTIFICATE = 2, RECORD_ACTS_FOR = 0x80 };

/* What stakeholders say of one name that certificates prove: each its own, the oldest word first. */
struct proof {
    char *san;
    struct credential *first;
    UT_hash_handle hh;
};

void credential_free(struct credential *c)
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

void credential_encode(struct wr *w, const struct credential *c)
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

/* The one that expires last is the last. */
static int by_end(const void *a, const void *b)
{
    const struct credential *x = a, *y = b;
    int64_t ends[] = {x->expires != 0 ? x->expires : INT64_MAX, y->expires != 0 ? y->expires : INT64_MAX};
    return ends[0] < ends[1] ? -1 : ends[0] > ends[1];
}

static bool index_holders(struct stakeholder *s, struct credential *c)
{
    bool ok = uses_open(&c->uses, c->acts_for.n + 1) && uses_put(&c->uses, &s->by[BY_HOLDER], c->id, c, by_end);
    for (size_t i = 0; ok && i < c->acts_for.n; i++)
        ok = uses_put(&c->uses, &s->by[BY_HOLDER], c->acts_for.v[i], c, by_end);
    return ok;
}

bool credential_add(struct mef *m, struct credential *c)
{
    struct stakeholder *s = stakeholder_get(m, c->admin);
    bool ok = s != NULL && index_holders(s, c);
    if (ok)
        HASH_ADD_KEYPTR(hh, m->credentials, c->name, strlen(c->name), c);
    if (ok && HASH_ADDED(hh, c) && c->san != NULL && !bind_san(m, c)) {
        HASH_DEL(m->credentials, c);
        ok = false;
    }
    if (!ok || !HASH_ADDED(hh, c)) {
        uses_close(&c->uses);
        return false;
    }
    sorted_add(&s->names[SHARE_CREDENTIALS], &c->listed, c->name);
    s->has[SHARE_CREDENTIALS]++;
    return true;
}

/* Out of memory's indexes: it is the caller's again. */
static void take_out(struct mef *m, struct credential *c)
{
    struct stakeholder *s = stakeholder_find(m, c->admin);
    s->has[SHARE_CREDENTIALS]--;
    sorted_remove(&s->names[SHARE_CREDENTIALS], &c->listed);
    uses_close(&c->uses);
    if (c->san != NULL)
        unbind_san(m, c);
    HASH_DEL(m->credentials, c); /* NOLINT(clang-analyzer-*) */
}

static bool load_row(void *user, struct span key, struct span val)
{
    struct mef *m = user;
    struct credential *c = decode(key, val);
    if (c != NULL && credential_add(m, c))
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
        take_out(m, c);
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

struct credential *credential_certificate(const struct mef *m, const char *admin, const char *san)
{
    const struct proof *p = find_proof(m, san);
    struct credential *c = p != NULL ? p->first : NULL;
    while (c != NULL && strcmp(c->admin, admin) != 0)
        c = c->next;
    return c;
}

struct credential *credential_find(const struct mef *m, const char *admin, const char *name)
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

bool credential_is_raw_key(const char *name)
{
    return strncmp(name, RAW_KEY, sizeof RAW_KEY - 1) == 0;
}

/* All that this peer is: linked by `next`. The name of a raw public key is proved by the key alone, and no other. */
static const struct credential *proved_by(const struct mef *m, const struct cse_peer *peer)
{
    if (peer->identity != NULL && peer->cred == CSE_CRED_PSK)
        return find_psk(m, peer->identity);
    if (peer->identity == NULL || peer->cred != (credential_is_raw_key(peer->identity) ? CSE_CRED_RPK : CSE_CRED_CERT))
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

/* What the holder of a credential is by this id (NULL: by its own), for which it speaks. */
static struct mef_principal principal(const struct credential *c, const char *id)
{
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

/* Conformance: H-7 | TS-0003 8.3.9.4 | shown by: test_nodes.py:test_a_node_acts_for_its_aes */
/* Conformance: H-7 | TS-0003 8.3.9.4 | shown by: test_nodes.py:test_nobody_elses_name */
/* Conformance: H-7 | TS-0003 8.3.9.4 | ours: the operator lists whom a node acts for; the originator says for whom it asks */
struct mef_principal mef_principal_of(struct mef *m, const struct cse_peer *peer, const char *admin, const char *id)
{
    const struct credential *c = proved_by(m, peer);
    while (c != NULL && (!counts(m, c, peer->server_name) || !fits(admin, c->admin) || !speaks_for(c, id)))
        c = c->next;
    return c != NULL ? principal(c, id) : (struct mef_principal){.role = MEF_ROLE_NONE};
}

void credential_each_principal(struct mef *m, const struct cse_peer *peer, const char *id,
                               void (*fn)(void *user, const struct mef_principal *p), void *user)
{
    for (const struct credential *c = proved_by(m, peer); c != NULL; c = c->next)
        if (counts(m, c, peer->server_name) && speaks_for(c, id)) {
            struct mef_principal p = principal(c, id);
            fn(user, &p);
        }
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
        c = credential_certificate(m, admin, identity);
    if (c == NULL || !counts(m, c, authority_of(m->authorities, admin)))
        return MEF_ROLE_NONE;
    return role_of(c);
}

/* --- operator REST ------------------------------------------------------------------------------------------------ */

cJSON *credential_json(const struct credential *c)
{
    char when[WHEN_TEXT];
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "id", c->name);
    cJSON_AddStringToObject(o, c->san != NULL ? "san" : "kpmId", identity_of(c));
    cJSON_AddStringToObject(o, "for", c->id);
    cJSON_AddStringToObject(o, "kind", c->san == NULL ? "psk" : credential_is_raw_key(c->san) ? "rpk" : "certificate");
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

/* A client that no credential of this stakeholder's speaks for any more is registered no more, and its commands are told to
 * nobody: a credential made for the same id later may be another device's. */
static void withdraw(struct mef *m, struct store_txn *t, const char *admin, const char *actor, const char *id)
{
    struct res *r = res_registration(m, admin, id);
    const struct shelf *held = stakeholder_shelf(m, admin, BY_HOLDER, id);
    if (r == NULL || (held != NULL && !expired(m, sorted_last(&held->all))))
        return;
    mef_audit(m, t, admin, actor, "registration.delete", r->ri);
    res_drop(m, t, r);
}

void mef_credential_delete(struct mef *m, struct store_txn *t, const char *admin, const char *actor, const char *name,
                           struct mef_result *r)
{
    struct credential *c = credential_find(m, admin, name);
    if (c == NULL) {
        mef_refuse(r, ST_NOT_FOUND, "not-found", NULL, "there is no such credential");
        return;
    }
    mef_audit(m, t, admin, actor, "credential.delete", c->name);
    store_del(t, STORE_CREDENTIAL, span_str(c->name));
    m->known_seq = 0;
    if (c->san == NULL)
        vault_delete(m->d.vault, t, c->key);
    take_out(m, c);
    withdraw(m, t, c->admin, actor, c->id);
    for (size_t i = 0; i < c->acts_for.n; i++)
        withdraw(m, t, c->admin, actor, c->acts_for.v[i]);
    credential_free(c);
    r->st = ST_DELETED;
}

cJSON *mef_credential_get(struct mef *m, const char *admin, const char *name)
{
    const struct credential *c = credential_find(m, admin, name);
    return c == NULL ? NULL : credential_json(c);
}

cJSON *mef_credential_list(struct mef *m, const char *admin, const char *after, unsigned limit)
{
    cJSON *list = cJSON_CreateArray();
    while (list != NULL && limit-- > 0 && (after = stakeholder_next(m, admin, SHARE_CREDENTIALS, after)) != NULL)
        cJSON_AddItemToArray(list, credential_json(find(m, after)));
    return list;
}
