/* symmKeyReg: a key that its source deposits and its targets retrieve (TS-0003 8.3.5.2.7 to 8.3.5.2.10). */
#include "config/names.h"
#include "cse-shim/base/map64.h"
#include "mef-plugin/mef/rules.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>

enum { ET, LBL, ADFQ, SUID, TGIS, KV };
#define MAX_KEY 64
#define MIN_KEY 16
#define MAX_KEY_TEXT 88 /* base64 of 64 bytes */
static const struct attr attrs[] = {
    [ET] = {M2M_SN_EXPIRATION, ATTR_TIMESTAMP, ATTR_MAN, ATTR_OPT, 0},
    [LBL] = {M2M_SN_LABELS, ATTR_TEXTS, ATTR_OPT, ATTR_CLEAR, MEF_MAX_LABELS},
    [ADFQ] = {MEF_SN_ADMIN_FQDN, ATTR_TEXT, ATTR_MAN, ATTR_NP, MEF_MAX_ID},
    [SUID] = {MEF_SN_SUID, ATTR_NUMBER, ATTR_MAN, ATTR_NP, 99},
    [TGIS] = {MEF_SN_TARGET_IDS, ATTR_TEXTS, ATTR_OPT, ATTR_OPT, MEF_MAX_TARGETS},
    [KV] = {MEF_SN_KEY_VALUE, ATTR_TEXT, ATTR_OPT, ATTR_NP, MAX_KEY_TEXT},
    {MEF_SN_ASSIGNED_SYMM_KEY_ID, ATTR_TEXT, ATTR_NP, ATTR_NP, 0},
    {M2M_SN_RESOURCE_TYPE, ATTR_NUMBER, ATTR_NP, ATTR_NP, 0},
    {M2M_SN_RESOURCE_ID, ATTR_TEXT, ATTR_NP, ATTR_NP, 0},
    {M2M_SN_RESOURCE_NAME, ATTR_TEXT, ATTR_NP, ATTR_NP, 0},
    {M2M_SN_PARENT_ID, ATTR_TEXT, ATTR_NP, ATTR_NP, 0},
    {M2M_SN_CREATION_TIME, ATTR_TIMESTAMP, ATTR_NP, ATTR_NP, 0},
    {M2M_SN_LAST_MODIFIED, ATTR_TIMESTAMP, ATTR_NP, ATTR_NP, 0},
    {MEF_SN_SOURCE_ID, ATTR_TEXT, ATTR_NP, ATTR_NP, 0},
};

/* Conformance: K-7 | TS-0003 Table 8.3.5.1-1 | shown by: test_procedures.py:test_usages */
/* Conformance: K-7 | TS-0003 8.3.5.2.7 | shown by: test_policies.py:test_targets_of_the_stakeholder */
/* Security usages whose key this MEF provisions, and how many targets each has (TS-0003 Table 8.3.5.1-1; TS-0004
 * Table 6.3.4.2.39-1). A MAF is named by its FQDN, AEs and CSEs by their absolute ids. */
static const struct usage {
    unsigned suid;
    enum id_kind target;
    bool several;
} usages[] = {
    {21, ID_FQDN, false}, {22, ID_ENTITY, false}, {23, ID_ENTITY, false}, {24, ID_ENTITY, true}, {25, ID_ENTITY, true},
};

static const struct usage *usage_of(int64_t suid)
{
    for (size_t i = 0; i < sizeof usages / sizeof *usages; i++)
        if (usages[i].suid == suid)
            return &usages[i];
    return NULL;
}

/* One of those that the request names. A rule may say who a key can be for: whoever is left out makes the request fail,
 * rather than be dropped (TS-0003 8.3.9.9.4: a client that deposits by command gives up when its targets changed). */
static bool take_target(struct call *c, const char *text, const struct usage *u, const struct policy_verdict *rule,
                        struct strings *out)
{
    char id[MEF_ID];
    if (mef_id(c->m, text, id) != u->target || !strings_add(out, id))
        return call_fail(c, ST_BAD_REQUEST, "bad-value", MEF_SN_TARGET_IDS, "a target is no id of the right kind");
    if (rule->targets == NULL || strings_has(rule->targets, id))
        return true;
    call_refused(c, "key.targets", id, "policy");
    return call_fail(c, ST_NO_PRIVILEGE, "policy", MEF_SN_TARGET_IDS,
                     "a rule of the administrating stakeholder leaves out a target");
}

/* A request that names none leaves it to the stakeholder (TS-0003 Tables 8.3.5.2.7-1, -2: 0..1, 1 in the answer). */
static bool rule_targets(struct call *c, const struct usage *u, const struct policy_verdict *rule, struct strings *out)
{
    char id[MEF_ID];
    for (size_t i = 0; rule->targets != NULL && i < rule->targets->n; i++)
        if (mef_id(c->m, rule->targets->v[i], id) == u->target && !strings_add(out, id))
            return call_fail(c, ST_UNAVAILABLE, "no-memory", NULL, NULL);
    return out->n > 0 || call_fail(c, ST_BAD_REQUEST, "missing", MEF_SN_TARGET_IDS,
                                   "a key is for somebody, and no rule of the stakeholder says for whom");
}

/* The targets in stored spelling, as a list that the caller owns. */
static bool read_targets(struct call *c, const struct attr_value *v, const struct usage *u,
                         const struct policy_verdict *rule, struct strings *out)
{
    const cJSON *e;
    bool ok = v->present || rule_targets(c, u, rule, out);
    cJSON_ArrayForEach(e, v->array) ok = ok && take_target(c, e->valuestring, u, rule, out);
    if (ok && (out->n == 0 || (out->n > 1 && !u->several)))
        ok = call_fail(c, ST_BAD_REQUEST, "bad-value", MEF_SN_TARGET_IDS,
                       "this security usage takes another number of targets");
    if (!ok)
        strings_free(out);
    return ok;
}

/* --- the key ------------------------------------------------------------------------------------------------------ */

struct key {
    uint8_t bytes[MAX_KEY + 2]; /* the decoder writes whole groups of three */
    size_t n;
    char id[MEF_RELKEYID];
    bool exported;
};

/* Padded base64 (RFC 4648 4) in its one spelling. */
static bool decode_base64(const char *text, struct key *k)
{
    char again[MAX_KEY_TEXT + 1];
    size_t n = strlen(text);
    if (n == 0 || n % 4 != 0 || n > MAX_KEY_TEXT ||
        strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") != n)
        return false;
    int got = EVP_DecodeBlock(k->bytes, (const unsigned char *)text, (int)n);
    if (got <= 0)
        return false;
    k->n = (size_t)got - (text[n - 1] == '=') - (text[n - 2] == '=');
    EVP_EncodeBlock((unsigned char *)again, k->bytes, (int)k->n);
    bool same = strcmp(again, text) == 0;
    OPENSSL_cleanse(again, sizeof again);
    return same && k->n >= MIN_KEY && k->n <= MAX_KEY;
}

/* Conformance: K-1 | TS-0003 10.3.1, 10.3.5 | shown by: test_mmef.py:test_exported_key_is_the_clients */
/* Conformance: K-1 | TS-0003 10.3.1, 10.3.5 | shown by: test_procedures.py:test_exported_key */
/* Conformance: K-1 | TS-0003 10.3.1, 10.3.5 | shown by: test_derived.py:test_exported_key_over_dtls */
/* Conformance: K-1 | TS-0003 10.3.1, 10.3.5 | ours: the Bootstrap label, no context, the RelativeKeyID as exported */
/* Conformance: K-9 | TS-0003 8.3.5.2.7 | shown by: test_procedures.py:test_a_key_id_is_never_used_again */
/* Conformance: K-9 | TS-0003 8.3.5.2.7 | ours: a session exports once, then 4105 */
/* RelativeKeyID || key from this session's exporter (TS-0003 10.3.1, 10.3.5), which gives the same bytes every time. */
static bool export_key(struct call *c, struct key *k)
{
    struct mef *m = c->m;
    uint64_t session = c->req->peer.session;
    uint8_t out[48];
    if (session != 0 && map64_get(m->exported, session) != NULL)
        return call_fail(c, ST_CONFLICT, "exported-already", MEF_SN_KEY_VALUE,
                         "this session's key is registered; give a key value, or begin a new session");
    if (session == 0 || !m->d.ops->export_key(m->d.host, session, MEF_EXPORTER_LABEL, out, sizeof out))
        return call_fail(c, ST_ASSOCIATION_REQUIRED, "no-export", MEF_SN_KEY_VALUE,
                         "this session can not export a key; give a key value");
    hex_encode(out, 16, k->id);
    memcpy(k->bytes, out + 16, 32);
    OPENSSL_cleanse(out, sizeof out);
    k->n = 32;
    k->exported = true;
    return res_find(m, k->id) == NULL || call_fail(c, ST_CONFLICT, "key-id-used", NULL, "the key id is in use");
}

/* Conformance: K-2 | TS-0003 8.3.5.2.7 | shown by: test_procedures.py:test_key_by_value */
/* Conformance: K-2 | TS-0003 8.3.5.2.7 | ours: 16 to 64 bytes, in padded base64 */
static bool read_key(struct call *c, const struct attr_value *kv, struct key *k)
{
    if (!kv->present)
        return export_key(c, k);
    if (!decode_base64(kv->text, k))
        return call_fail(c, ST_BAD_REQUEST, "bad-value", MEF_SN_KEY_VALUE, "not padded base64 of 16 to 64 bytes");
    return mef_random_hex(c->m, 16, k->id);
}

/* --- operations of the source ------------------------------------------------------------------------------------- */

/* What both the source sees and a target gets. */
static cJSON *key_json(const struct mef *m, const struct res *r)
{
    cJSON *o = res_json(m, r);
    cJSON_AddNumberToObject(o, MEF_SN_SUID, r->suid);
    return o;
}

/* Conformance: K-10 | TS-0003 8.3.5.2.7, 8.3.5.2.8 | shown by: test_procedures.py:test_key_by_value */
static cJSON *source_json(const struct mef *m, const struct res *r)
{
    cJSON *o = key_json(m, r);
    cJSON_AddItemToObject(o, MEF_SN_TARGET_IDS, strings_json(&r->targets));
    return o;
}

/* Store the checked registration; takes `r` and its lists over. */
static void add(struct call *c, struct res *r, const struct key *k)
{
    struct mef *m = c->m;
    struct store_txn *t = call_begin(c);
    if (t == NULL) {
        res_free(r);
        return;
    }
    enum st st = vault_import(m->d.vault, t, VAULT_SYMM_KEY, span_of(k->bytes, k->n), &r->key);
    if (st != ST_OK) {
        res_free(r);
        store_abort(t);
        call_fail(c, st, "bad-value", MEF_SN_KEY_VALUE, "the vault does not take this key");
        return;
    }
    if ((k->exported && !map64_put(m->exported, c->req->peer.session, m)) || !res_add(m, t, r)) {
        call_broken(c, t);
        return;
    }
    call_commit(c, t, "key.create", k->id);
    if (call_answer(c, ST_CREATED, MEF_SN_KEY_REG, source_json(m, r)))
        call_location(c, k->id);
}

/* Conformance: K-8 | TS-0003 8.3.5.2.7 | shown by: test_procedures.py:test_source_must_be_registered */
/* Conformance: K-8 | TS-0003 8.3.5.2.7 | shown by: mmef_rows.py:skr: not registered */
static bool check_source(struct call *c)
{
    const struct res *reg = res_registration(c->m, c->who.admin, c->who.id);
    if (reg == NULL || reg->expires <= mef_now(c->m)) {
        call_refused(c, "key.create", c->who.id, "not-registered");
        return call_fail(c, ST_NO_PRIVILEGE, "not-registered", NULL, "the source has no client registration");
    }
    if (res_keys_of(c->m, c->who.admin, c->who.id) >= c->m->max_client_keys)
        return call_fail(c, ST_TOO_MANY, "max-keys-per-client", NULL, "the source holds as many keys as it may");
    return res_room(c->m, c->who.admin) ||
           call_fail(c, ST_TOO_MANY, "max-registrations", NULL, "the MEF holds as many registrations as it may");
}

static void create(struct call *c, const struct attr_value *v)
{
    struct mef *m = c->m;
    const struct usage *u = usage_of(v[SUID].number);
    struct strings labels = {0}, targets = {0};
    struct policy_verdict rule;
    struct key k = {.n = 0};
    int64_t expires;
    if (u == NULL) {
        call_fail(c, ST_BAD_REQUEST, "bad-value", MEF_SN_SUID, "a security usage of 21 to 25 is served");
        return;
    }
    if (!call_stakeholder(c, v[ADFQ].text, "key.create") || !check_source(c) ||
        !call_policy(c, POLICY_DEPOSIT, NULL, 0, "key.create", &rule) ||
        !call_expiry(c, v[ET].number, policy_longest(&rule, m->max_key_ms), &expires) ||
        !read_targets(c, &v[TGIS], u, &rule, &targets))
        return;
    struct res *r = NULL;
    if (call_labels(c, &v[LBL], &labels) && read_key(c, &v[KV], &k))
        r = res_new(m, MEF_TY_KEY_REG, k.id, c->who.admin, c->who.id);
    if (r == NULL) {
        strings_free(&labels);
        strings_free(&targets);
    } else {
        r->labels = labels;
        r->targets = targets;
        r->suid = u->suid;
        if (k.exported)
            r->ke_expires = c->who.expires != 0 ? c->who.expires : INT64_MAX;
        r->expires = k.exported && r->ke_expires < expires ? r->ke_expires : expires;
        add(c, r, &k);
    }
    OPENSSL_cleanse(&k, sizeof k);
}

static bool is_source(struct call *c, const struct res *r, const char *action)
{
    if (strcmp(r->owner, c->who.id) == 0)
        return true;
    call_refused(c, action, r->ri, "not-source");
    return call_fail(c, ST_NO_PRIVILEGE, "not-source", NULL, "only the source of a key may do this");
}

/* Conformance: K-4 | TS-0003 8.3.5.2.9 | shown by: test_procedures.py:test_update_of_targets */
static void update(struct call *c, struct res *r, const struct attr_value *v)
{
    struct strings targets = {0};
    struct policy_verdict rule;
    if (!is_source(c, r, "key.update") || !call_policy(c, POLICY_DEPOSIT, NULL, 0, "key.update", &rule) ||
        (v[TGIS].present && !read_targets(c, &v[TGIS], usage_of(r->suid), &rule, &targets)))
        return;
    call_update(c, r,
                &(struct update){.name = MEF_SN_KEY_REG,
                                 .action = "key.update",
                                 .et = &v[ET],
                                 .lbl = &v[LBL],
                                 .targets = v[TGIS].present ? &targets : NULL,
                                 .max_ms = policy_longest(&rule, c->m->max_key_ms)});
    strings_free(&targets);
}

/* Conformance: K-5 | TS-0003 8.3.5.2.10 | shown by: test_procedures.py:test_delete_of_a_key */
static void remove_it(struct call *c, struct res *r)
{
    if (is_source(c, r, "key.delete"))
        call_delete(c, r, "key.delete");
}

/* --- retrieving --------------------------------------------------------------------------------------------------- */

/* The policy of retrieval: targets and the members of the application, of one stakeholder. */
static bool is_target(struct mef *m, const struct res *r, const struct mef_principal *p)
{
    return p->role == MEF_ROLE_CLIENT && strcmp(r->admin, p->admin) == 0 &&
           (strings_has(&r->targets, p->id) ||
            (r->application[0] != '\0' && mef_application_member(m, r->admin, r->application, p->id)));
}

bool res_visible(struct mef *m, const struct res *r, const struct mef_principal *who)
{
    if (who->role != MEF_ROLE_CLIENT || strcmp(r->admin, who->admin) != 0)
        return false;
    return strcmp(r->owner, who->id) == 0 || (r->ty == MEF_TY_KEY_REG && is_target(m, r, who));
}

/* The key leaves; that it did is on record before it does. */
static void release(struct call *c, struct res *r)
{
    struct mef *m = c->m;
    char text[MAX_KEY_TEXT + 1];
    if (!vault_release_base64(m->d.vault, r->key, text, sizeof text)) {
        call_fail(c, ST_NOT_FOUND, "not-found", NULL, "the key is gone");
        return;
    }
    cJSON *o = key_json(m, r);
    cJSON_AddStringToObject(o, MEF_SN_KEY_VALUE, text);
    OPENSSL_cleanse(text, sizeof text);
    struct store_txn *t = call_begin(c);
    if (t == NULL) {
        json_wipe(o);
        return;
    }
    call_commit(c, t, "key.retrieved", r->ri);
    if (call_answer(c, ST_OK, MEF_SN_KEY_REG, o))
        m->d.ops->count(m->d.host, "mef_keys_retrieved_total", 1);
    c->rsp.sensitive = true;
}

/* Where the device is that a key published by the MEF belongs to; 0: it belongs to none. */
static eui64_t gateway_of(const struct res *r)
{
    size_t n = strlen(MEF_LABEL_GATEWAY);
    eui64_t eui;
    for (size_t i = 0; r->published && i < r->labels.n; i++)
        if (strncmp(r->labels.v[i], MEF_LABEL_GATEWAY, n) == 0 && eui64_parse(r->labels.v[i] + n, &eui))
            return eui;
    return 0;
}

/* Conformance: K-3 | TS-0003 8.3.5.2.8 | shown by: test_procedures.py:test_key_by_value */
/* Conformance: K-3 | TS-0003 8.3.5.2.8 | shown by: test_procedures.py:test_without_a_credential */
/* Conformance: K-3 | TS-0003 8.3.5.2.8 | shown by: test_mmef.py:test_three_calls_also_after_a_crash */
/* Conformance: K-3 | TS-0003 8.3.5.2.8 | ours: 4103 to who is no target, 4004 to another stakeholder's client */
static void retrieve(struct call *c, struct res *r)
{
    struct policy_verdict rule;
    if (is_target(c->m, r, &c->who)) {
        if (call_policy(c, POLICY_RETRIEVE, NULL, gateway_of(r), "key.retrieve", &rule))
            release(c, r);
    } else if (strcmp(r->owner, c->who.id) == 0) {
        call_answer(c, ST_OK, MEF_SN_KEY_REG, source_json(c->m, r));
    } else {
        call_refused(c, "key.retrieve", r->ri, "not-a-target");
        call_fail(c, ST_NO_PRIVILEGE, "not-a-target", NULL, "this client is no target of the key");
    }
}

_Static_assert(sizeof attrs / sizeof *attrs <= MAX_ATTRS, "room for the values");

const struct res_type keyreg_type = {
    .ty = MEF_TY_KEY_REG,
    .name = MEF_SN_KEY_REG,
    .attrs = attrs,
    .nattrs = sizeof attrs / sizeof *attrs,
    .create = create,
    .retrieve = retrieve,
    .update = update,
    .remove = remove_it,
};

/* --- keys that the Enrolment Gateway publishes -------------------------------------------------------------------- */

static bool copy(struct strings *to, const char *const *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strings_add(to, from[i]))
            return false;
    return true;
}

enum st mef_keyreg_add(struct mef *m, struct store_txn *t, const struct mef_keyreg_new *in, char relkeyid[MEF_RELKEYID])
{
    if (!mef_random_hex(m, 16, relkeyid))
        return ST_INTERNAL;
    if (in->nlabels > MEF_MAX_LABELS || in->ntargets > MEF_MAX_TARGETS)
        return ST_BAD_REQUEST;
    if (!res_room(m, in->admin))
        return ST_TOO_MANY;
    struct res *r = res_new(m, MEF_TY_KEY_REG, relkeyid, in->admin, authority_of(m->authorities, in->admin));
    if (r == NULL)
        return ST_UNAVAILABLE;
    char *application = strdup(in->application == NULL ? "" : in->application);
    if (application != NULL) {
        free(r->application);
        r->application = application;
    }
    if (application == NULL || !copy(&r->targets, in->targets, in->ntargets) ||
        !copy(&r->labels, in->labels, in->nlabels)) {
        res_free(r);
        return ST_UNAVAILABLE;
    }
    r->suid = in->suid;
    r->key = in->key;
    r->expires = in->expires;
    return res_add(m, t, r) ? ST_OK : ST_UNAVAILABLE;
}

void mef_keyreg_remove(struct mef *m, struct store_txn *t, const char *relkeyid)
{
    struct res *r = res_find(m, relkeyid);
    if (r != NULL && r->ty == MEF_TY_KEY_REG)
        res_drop(m, t, r);
}

bool mef_keyreg_allows(struct mef *m, const char *relkeyid, const struct mef_principal *p)
{
    const struct res *r = res_find(m, relkeyid);
    return r != NULL && r->ty == MEF_TY_KEY_REG && is_target(m, r, p);
}
