/* The older way to a provisioned key (TS-0003 8.3.2.1), behind a switch: /fetchCredentials/<KeID>/<security usage>. A target
 * of the key Ke that an enrolee's session exported gets what is derived from Ke for that usage and for itself (10.3.7). */
#include "mef-plugin/mef/call.h"
#include "mef-plugin/mef/rules.h"

#include <openssl/crypto.h>
#include <strings.h>

#define KUC_TEXT 45 /* base64 of 32 bytes, and NUL */

/* "<32 hex digits>@<FQDN that this MEF has for the client>/<21..25>" */
static bool read_path(struct call *c, const char *path, char ri[MEF_RELKEYID], unsigned *suid)
{
    const char *at = strchr(path, '@'), *slash = strrchr(path, '/');
    const char *fqdn = authority_of(c->m->authorities, c->who.admin);
    size_t n = strlen(fqdn);
    if (at == NULL || at - path != MEF_RELKEYID - 1 || slash == NULL || slash < at || (size_t)(slash - at) != n + 1 ||
        strncasecmp(at + 1, fqdn, n) != 0)
        return call_fail(c, ST_NOT_FOUND, "not-found", NULL, "there is no such enrolment key");
    for (size_t i = 0; i < MEF_RELKEYID - 1; i++)
        ri[i] = path[i] >= 'A' && path[i] <= 'F' ? (char)(path[i] - 'A' + 'a') : path[i];
    ri[MEF_RELKEYID - 1] = '\0';
    if (slash[1] != '2' || slash[2] < '1' || slash[2] > '5' || slash[3] != '\0')
        return call_fail(c, ST_BAD_REQUEST, "bad-value", MEF_SN_SUID, "a security usage of 21 to 25 is served");
    *suid = 20u + (unsigned)(slash[2] - '0');
    return true;
}

/* The registration of the exported key, if this client may have it for this usage. */
static struct res *find(struct call *c, const char *ri, unsigned suid)
{
    struct mef *m = c->m;
    struct res *r = res_find(m, ri);
    struct mef_principal who = {.role = MEF_ROLE_NONE};
    if (r != NULL)
        who = mef_principal_of(m, &c->req->peer, r->admin, c->who.id);
    if (who.role == MEF_ROLE_NONE || r->ty != MEF_TY_KEY_REG || r->ke_expires == 0) {
        call_fail(c, ST_NOT_FOUND, "not-found", NULL, "there is no such enrolment key");
        return NULL;
    }
    c->who = who;
    struct policy_verdict rule;
    if (r->suid == suid && mef_keyreg_allows(m, ri, &c->who))
        return call_policy(c, POLICY_RETRIEVE, NULL, 0, "key.fetch", &rule) ? r : NULL;
    call_refused(c, "key.fetch", r->ri, "not-a-target");
    call_fail(c, ST_NO_PRIVILEGE, "not-a-target", NULL, "this client is no target of the key for this usage");
    return NULL;
}

/* The derived key stays in the vault no longer than it takes to hand it out: the same is made again when asked for. */
static bool derive(struct call *c, struct store_txn *t, const struct res *r, char out[KUC_TEXT])
{
    struct vault *v = c->m->d.vault;
    char target[MEF_ID];
    vault_id kuc = 0;
    if (!mef_id_domain(c->who.id, target))
        return false;
    const struct vault_derivation d = {.what = VAULT_KUC, .from = r->key, .suid = r->suid, .id = target};
    if (vault_derive(v, t, &d, &kuc) != ST_OK)
        return false;
    bool ok = vault_release_base64(v, kuc, out, KUC_TEXT);
    vault_delete(v, t, kuc);
    return ok;
}

static bool answer(struct call *c, const struct res *r)
{
    char text[KUC_TEXT] = "";
    struct store_txn *t = call_begin(c);
    if (t == NULL)
        return false;
    if (!derive(c, t, r, text)) {
        store_abort(t);
        OPENSSL_cleanse(text, sizeof text);
        return call_fail(c, ST_INTERNAL, NULL, NULL, "the key can not be derived");
    }
    int64_t seconds = (r->expires - mef_now(c->m)) / 1000;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddTrueToObject(o, MEF_FETCH_STATUS);
    cJSON_AddStringToObject(o, MEF_FETCH_CREDENTIAL, text);
    cJSON_AddStringToObject(o, MEF_FETCH_ENROLEE, r->owner);
    cJSON_AddNumberToObject(o, MEF_FETCH_LIFETIME, (double)seconds);
    OPENSSL_cleanse(text, sizeof text);
    call_commit(c, t, "key.fetched", r->ri);
    c->m->d.ops->count(c->m->d.host, "mef_keys_retrieved_total", 1);
    c->rsp = (struct cse_response){.status = ST_OK, .pc = o, .sensitive = true};
    return true;
}

static bool fetch(struct call *c, const char *path)
{
    char ri[MEF_RELKEYID];
    unsigned suid = 0;
    if (c->req->op != CSE_RETRIEVE)
        return call_fail(c, ST_NOT_ALLOWED, "not-allowed", NULL, "credentials are retrieved only");
    if (c->req->nparams > 0)
        return call_fail(c, ST_BAD_REQUEST, "unknown-parameter", c->req->params[0].name, "there are no parameters here");
    if (!read_path(c, path, ri, &suid))
        return false;
    const struct res *r = find(c, ri, suid);
    return r != NULL && answer(c, r);
}

/* Conformance: K-12 | TS-0003 8.3.2.1 | shown by: test_derived.py:test_fetched_credentials */
/* Conformance: K-12 | TS-0003 8.3.2.1 | ours: Ke is what a session exported; its registration names usage and targets */
/* Conformance: D-1 | TS-0003 10.3.7 | shown by: test_derived.py:test_fetched_credentials */
void call_fetch(struct call *c, const char *path)
{
    if (fetch(c, path) || (c->rsp.pc = cJSON_CreateObject()) == NULL)
        return;
    cJSON_AddFalseToObject(c->rsp.pc, MEF_FETCH_STATUS);
    if (c->rsp.detail != NULL)
        cJSON_AddStringToObject(c->rsp.pc, MEF_FETCH_ERROR, c->rsp.detail);
}
