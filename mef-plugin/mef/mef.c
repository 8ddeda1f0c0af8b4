/* The Mmef reference point: who asks, for what, and the answer once it is durable (TS-0003 8.3). */
#include "cse-shim/base/map64.h"
#include "mef-plugin/mef/rules.h"
#include "mef-plugin/mef/stakeholder.h"
#include "mef-plugin/mef/when.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

const struct conf_option mef_options[] = {
    {"mef", "base", CONF_STRING, "mef", 0, 0, "path segment of the MEFBase resource"},
    {"mef", "fqdn", CONF_STRING, "!", 0, 0, "this MEF's (first) FQDN, its MEF-ID; key identifiers end in @FQDN"},
    {"mef", "sp-id", CONF_STRING, NULL, 0, 0,
     "M2M-SP-ID //FQDN that completes short ids; absent: // and the parent domain of fqdn"},
    {"mef", "cse-id", CONF_STRING, "/in-cse", 0, 0, "SP-relative CSE-ID that completes AE-IDs beginning with C"},
    {"mef", "max-key-lifetime", CONF_INT, "31536000", 60, 3153600000, "longest life of a key registration, seconds"},
    {"mef", "max-registration-lifetime", CONF_INT, "31536000", 60, 3153600000,
     "longest life of a client registration, seconds"},
    {"mef", "max-registrations", CONF_INT, "1000000", 1, 100000000, "client and key registrations together"},
    {"mef", "max-keys-per-client", CONF_INT, "10000", 1, 100000000, "key registrations of one client"},
    {"mef", "max-commands-per-client", CONF_INT, "16", 1, 32, "commands that wait for one client"},
    {"mef", "retry-duration", CONF_INT, "3600", 1, 31536000,
     "a client for which there is no command asks again after so many seconds"},
    {"mef", "max-credentials", CONF_INT, "1000000", 1, 100000000, "credentials of clients and gateways"},
    {"mef", "max-applications", CONF_INT, "100000", 1, 10000000, "applications"},
    {"mef", "stakeholder-share", CONF_INT, "100", 1, 100,
     "percent of max-registrations, max-credentials and max-applications that one stakeholder may have"},
    {"mef", "fetch-credentials", CONF_BOOL, "false", 0, 0,
     "serve /fetchCredentials/<KeID>/<usage>, too: keys derived from exported ones (TS-0003 8.3.2.1)"},
    {"mef", "max-policies", CONF_INT, "200", 1, 10000, "policy rules of one stakeholder"},
    {"stakeholder.*", "admin-fqdn", CONF_STRING, "!", 0, 0, "adminFQDN of a stakeholder with a MEF-FQDN of its own"},
    {"stakeholder.*", "mef-fqdn", CONF_STRING, "!", 0, 0,
     "that FQDN, in place of [mef] fqdn; clients ask for it by server name (SNI)"},
    {NULL, NULL, CONF_STRING, NULL, 0, 0, NULL},
};

static const struct res_type *const types[] = {&clientreg_type, &clientcmd_type, &clientcfg_type, &keyreg_type, NULL};

/* --- opening ------------------------------------------------------------------------------------------------------ */

/* "//example.com" as configured, or from "mef.example.com"; a parent that is no FQDN itself leaves the whole name. */
static char *sp_id(const struct mef *m, const char *configured)
{
    char host[MEF_ID], *out = NULL;
    const char *name = configured, *fqdn = authority_first(m->authorities);
    if (name == NULL)
        name = strchr(fqdn, '.') + 1;
    else if (strncmp(name, "//", 2) == 0)
        name += 2;
    else
        return NULL;
    if (!mef_fqdn_parse(name, host)) {
        if (configured != NULL)
            return NULL;
        memcpy(host, fqdn, strlen(fqdn) + 1);
    }
    return asprintf(&out, "//%s", host) < 0 ? NULL : out;
}

/* The first option whose value is no good; NULL: none. */
static const char *bad_option(struct mef *m)
{
    char id[MEF_ID];
    if (m->sp_id == NULL)
        return "sp-id";
    if (m->base == NULL || m->base[0] == '\0' || strpbrk(m->base, "/%?#") != NULL)
        return "base";
    if (m->cse_id == NULL || m->cse_id[0] != '/' || strrchr(m->cse_id, '/') != m->cse_id ||
        !mef_absolute(m, m->cse_id, id, sizeof id))
        return "cse-id";
    return NULL;
}

static bool read_options(struct mef *m, char *err, size_t errlen)
{
    const struct conf *c = m->d.conf;
    m->base = strdup(conf_str(c, "mef", "base"));
    if ((m->authorities = authorities_read(c, err, errlen)) == NULL)
        return false;
    m->sp_id = sp_id(m, conf_str(c, "mef", "sp-id"));
    m->cse_id = strdup(conf_str(c, "mef", "cse-id"));
    m->max_key_ms = conf_int(c, "mef", "max-key-lifetime") * 1000;
    m->max_registration_ms = conf_int(c, "mef", "max-registration-lifetime") * 1000;
    m->max_resources = (size_t)conf_int(c, "mef", "max-registrations");
    m->max_client_keys = (size_t)conf_int(c, "mef", "max-keys-per-client");
    m->max_client_commands = (size_t)conf_int(c, "mef", "max-commands-per-client");
    m->retry_s = conf_int(c, "mef", "retry-duration");
    m->max_credentials = (size_t)conf_int(c, "mef", "max-credentials");
    m->max_applications = (size_t)conf_int(c, "mef", "max-applications");
    m->share_percent = (size_t)conf_int(c, "mef", "stakeholder-share");
    m->fetches = conf_bool(c, "mef", "fetch-credentials");
    m->max_policies = (size_t)conf_int(c, "mef", "max-policies");
    const char *bad = bad_option(m);
    if (bad != NULL)
        snprintf(err, errlen, "[mef] %s: not a valid value", bad);
    return bad == NULL;
}

struct mef *mef_open(const struct mef_deps *d, char *err, size_t errlen)
{
    struct mef *m = calloc(1, sizeof *m);
    if (m == NULL) {
        snprintf(err, errlen, "out of memory");
        return NULL;
    }
    m->d = *d;
    m->answers = (struct answers){.host = d->host, .ops = d->ops, .store = d->store};
    m->started = mef_now(m);
    m->exported = map64_new();
    if (m->exported == NULL || !read_options(m, err, errlen)) {
        mef_close(m);
        return NULL;
    }
    if (!credentials_load(m) || !applications_load(m) || !rules_load(m) || !resources_open(m) || !commands_load(m) ||
        !configurations_load(m)) {
        snprintf(err, errlen,
                 "mef: a stored credential, application, rule or registration, or what belongs to one, can not be read");
        mef_close(m);
        return NULL;
    }
    return m;
}

void mef_close(struct mef *m)
{
    if (m == NULL)
        return;
    answers_free(&m->answers);
    resources_free(m);
    credentials_free(m);
    applications_free(m);
    stakeholders_free(m);
    map64_free(m->exported);
    free(m->cse_id);
    free(m->sp_id);
    authorities_free(m->authorities);
    free(m->base);
    OPENSSL_cleanse(m->record, sizeof m->record);
    free(m);
}

const char *mef_base(const struct mef *m)
{
    return m->base;
}
bool mef_fetches(const struct mef *m)
{
    return m->fetches;
}
void mef_session_end(struct mef *m, uint64_t session)
{
    map64_del(m->exported, session);
}

struct rows {
    struct mef *m;
    bool (*fn)(void *user, struct span key, struct span val);
    bool ok;
};

static bool load_row(void *user, struct span key, struct span val)
{
    struct rows *l = user;
    return l->ok = l->fn(l->m, key, val);
}

bool mef_load(struct mef *m, enum store_table table, bool (*fn)(void *user, struct span key, struct span val))
{
    struct rows l = {m, fn, true};
    return store_each(m->d.store, table, load_row, &l) == ST_OK && l.ok;
}

void mef_audit(struct mef *m, struct store_txn *t, const char *admin, const char *actor, const char *action,
               const char *object)
{
    audit_add(
        m->d.audit, t,
        &(struct audit_event){.admin = admin, .actor = actor, .action = action, .object = object, .outcome = "ok"});
}

bool mef_random_hex(struct mef *m, size_t n, char *out)
{
    uint8_t bytes[32];
    if (n > sizeof bytes || !m->d.ops->random(m->d.host, bytes, n))
        return false;
    hex_encode(bytes, n, out);
    return true;
}

/* --- asking ------------------------------------------------------------------------------------------------------- */

/* The identity of the security association is the one that counts; From has to agree with it (TS-0004 7.3.2.1). */
static bool authenticated(struct call *c)
{
    c->who = mef_principal(c->m, &c->req->peer);
    if (c->who.role == MEF_ROLE_NONE) {
        call_refused(c, "mef.request", "", "not-authenticated"); /* no text of a stranger's choice */
        return call_fail(c, ST_ASSOCIATION_REQUIRED, "not-authenticated", NULL,
                         "no known credential authenticated this peer");
    }
    if (c->req->from == NULL || c->req->from[0] == '\0')
        return call_fail(c, ST_BAD_REQUEST, "from-missing", M2M_SN_FROM, "the originator is missing");
    char from[MEF_ID];
    struct mef_principal who = {.role = MEF_ROLE_NONE};
    if (mef_id(c->m, c->req->from, from) != ID_NONE)
        who = mef_principal_of(c->m, &c->req->peer, NULL, from);
    if (who.role == MEF_ROLE_NONE) {
        /* Of several stakeholders the first one hears of it, but not of what: that may be another's. */
        bool several = mef_has_several(c->m, &c->req->peer, NULL);
        call_refused(c, "mef.request", several ? "" : c->req->path, "from-mismatch");
        return call_fail(c, ST_NOT_AUTHENTICATED, "from-mismatch", M2M_SN_FROM,
                         "the originator is not the authenticated identity");
    }
    c->who = who;
    return true;
}

static const struct res_type *type_of(int ty)
{
    const struct res_type *const *t = types;
    while (*t != NULL && (*t)->ty != ty)
        t++;
    return *t;
}

static bool is_child(int ty)
{
    const struct res_type *t = type_of(ty);
    return t != NULL && t->child != NULL;
}

/* What has this name below a mefClientReg. */
static const struct res_type *child_of(const struct res *r, const char *name)
{
    const struct res_type *const *t = types;
    while (*t != NULL && ((*t)->child == NULL || strcmp((*t)->child, name) != 0))
        t++;
    return r->ty == MEF_TY_CLIENT_REG ? *t : NULL;
}

/* The primitive content of a create or update: one root member of the type's name. */
static bool read_content(struct call *c, const struct res_type *t, struct attr_value v[MAX_ATTRS])
{
    struct mef_result r = {0};
    const cJSON *root = c->req->pc;
    if (!cJSON_IsObject(root) || root->child == NULL || root->child->next != NULL ||
        strcmp(root->child->string, t->name) != 0)
        return call_fail(c, ST_BAD_REQUEST, "bad-content", t->name,
                         "the content is not one object of the resource type");
    return attrs_read(t->attrs, t->nattrs, root->child, c->req->op == CSE_CREATE, v, &r) || call_fault(c, &r);
}

/* Result Content of a request for a resource: attributes (1, the default) or, but for a retrieve, nothing (0). */
static bool read_params(struct call *c)
{
    for (size_t i = 0; i < c->req->nparams; i++) {
        const struct cse_param *p = &c->req->params[i];
        if (strcmp(p->name, M2M_SN_RESULT_CONTENT) != 0)
            return call_fail(c, ST_BAD_REQUEST, "unknown-parameter", p->name, "there is no such parameter here");
        c->nothing = strcmp(p->value, "0") == 0 && c->req->op != CSE_RETRIEVE;
        if (!c->nothing && strcmp(p->value, "1") != 0)
            return call_fail(c, ST_BAD_REQUEST, "bad-value", M2M_SN_RESULT_CONTENT,
                             "this Result Content is not served");
    }
    return true;
}

static void create(struct call *c)
{
    struct attr_value v[MAX_ATTRS] = {0};
    const struct res_type *t = type_of(c->req->ty);
    if (c->req->ty < 0)
        call_fail(c, ST_BAD_REQUEST, "type-missing", M2M_SN_RESOURCE_TYPE, "a create needs a resource type");
    else if (c->req->ty == MEF_TY_BASE)
        call_fail(c, ST_NOT_ALLOWED, "not-allowed", M2M_SN_RESOURCE_TYPE, "the MEFBase is made by the operator");
    else if ((t == NULL && c->req->ty < MEF_TY_BASE) || is_child(c->req->ty))
        call_fail(c, ST_INVALID_CHILD, "invalid-child", M2M_SN_RESOURCE_TYPE,
                  "this resource type does not belong below the MEFBase");
    else if (t == NULL)
        call_fail(c, ST_NOT_IMPLEMENTED, "not-implemented", M2M_SN_RESOURCE_TYPE, "this resource type is not served");
    else if (c->who.role != MEF_ROLE_CLIENT)
        call_fail(c, ST_NO_PRIVILEGE, "role", NULL, "this credential is not one of a MEF client");
    else if (read_content(c, t, v))
        t->create(c, v);
}

static cJSON *base_json(const struct call *c)
{
    const struct mef *m = c->m;
    char when[WHEN_TEXT];
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, M2M_SN_RESOURCE_TYPE, MEF_TY_BASE);
    cJSON_AddStringToObject(o, M2M_SN_RESOURCE_ID, m->base);
    cJSON_AddStringToObject(o, M2M_SN_RESOURCE_NAME, m->base);
    cJSON_AddStringToObject(o, M2M_SN_PARENT_ID, "");
    when_print_m2m(m->started, when);
    cJSON_AddStringToObject(o, M2M_SN_CREATION_TIME, when);
    cJSON_AddStringToObject(o, M2M_SN_LAST_MODIFIED, when);
    cJSON_AddStringToObject(o, MEF_SN_FQDN, authority_of(m->authorities, c->who.admin));
    /* The stakeholder whose credential this client holds: what it will register for. One who has several has to know
     * for which it acts: none may speak first. */
    if (!mef_has_several(c->m, &c->req->peer, c->who.id))
        cJSON_AddStringToObject(o, MEF_SN_ADMIN_FQDN, c->who.admin);
    return o;
}

static void handle_base(struct call *c)
{
    const struct cse_param *p = c->req->params;
    /* What a read shows depends on who is known, and on what it finds; whether something may be made, on any change. */
    c->seq = c->req->op == CSE_RETRIEVE ? mef_settle(c->m, &c->m->known_seq) : store_last(c->m->d.store);
    for (size_t i = 0; c->req->op == CSE_RETRIEVE && i < c->req->nparams; i++)
        if (strcmp(p[i].name, M2M_SN_FILTER_USAGE) == 0) {
            call_discover(c);
            return;
        }
    if (c->req->op != CSE_CREATE && c->req->op != CSE_RETRIEVE)
        call_fail(c, ST_NOT_ALLOWED, "not-allowed", NULL, "the MEFBase is kept by the operator");
    else if (!read_params(c))
        return;
    else if (c->req->op == CSE_CREATE)
        create(c);
    else
        call_answer(c, ST_OK, MEF_SN_BASE, base_json(c));
}

static void update(struct call *c, const struct res_type *t, struct res *r)
{
    struct attr_value v[MAX_ATTRS] = {0};
    if (!read_content(c, t, v))
        return;
    for (size_t i = 0; i < t->nattrs; i++)
        if (v[i].present || v[i].null) {
            t->update(c, r, v);
            return;
        }
    call_fail(c, ST_BAD_REQUEST, "empty", NULL, "an update needs at least one attribute");
}

/* child: what is asked for below it, NULL: nothing. */
static void handle_resource(struct call *c, const char *ri, const char *child)
{
    struct res *r = res_find(c->m, ri);
    const struct res_type *t = NULL;
    struct mef_principal who = {.role = MEF_ROLE_NONE};
    if (r != NULL) {
        t = child == NULL ? type_of(r->ty) : child_of(r, child);
        who = mef_principal_of(c->m, &c->req->peer, r->admin, c->who.id);
    }
    /* The object of a stakeholder who does not know this client does not exist for it. */
    if (t == NULL || who.role == MEF_ROLE_NONE) {
        call_fail(c, ST_NOT_FOUND, "not-found", NULL, "there is no such resource");
        return;
    }
    c->who = who;
    c->seq = mef_settle(c->m, &r->seq);
    if (!read_params(c) || (child != NULL && !call_owner(c, r)))
        return;
    if (c->req->op == CSE_RETRIEVE)
        t->retrieve(c, r);
    else if (c->req->op == CSE_UPDATE && t->update != NULL)
        update(c, t, r);
    else if (c->req->op == CSE_DELETE && t->remove != NULL)
        t->remove(c, r);
    else if (c->req->op == CSE_CREATE && t == &clientreg_type && is_child(c->req->ty))
        call_fail(c, ST_NOT_ALLOWED, "not-allowed", M2M_SN_RESOURCE_TYPE, "the MEF makes these");
    else if (c->req->op == CSE_CREATE)
        call_fail(c, ST_INVALID_CHILD, "invalid-child", M2M_SN_RESOURCE_TYPE,
                  "this resource has no children of that type");
    else
        call_fail(c, ST_NOT_ALLOWED, "not-allowed", NULL, "this resource does not take this operation");
}

/* The id behind "base/", in lower case (hexBinary is compared without regard to case), and the child behind that: of the
 * resource by its name, "id/child", or by its own id, "id-child". False: neither. */
static bool resource_id(const struct mef *m, const char *path, char ri[MEF_RELKEYID], const char **child)
{
    size_t n = strlen(m->base);
    if (strncmp(path, m->base, n) != 0 || path[n] != '/')
        return false;
    path += n + 1;
    for (n = 0; path[n] != '\0' && path[n] != '/' && n < MEF_RELKEYID - 1; n++)
        ri[n] = path[n] >= 'A' && path[n] <= 'Z' ? (char)(path[n] - 'A' + 'a') : path[n];
    ri[n] = '\0';
    *child = path[n] == '\0' ? NULL : path + n + 1;
    return n > 0 && (path[n] == '\0' || path[n] == '/' || path[n] == '-');
}

/* Conformance: K-11 | TS-0008 6, TS-0009 6 | shown by: test_procedures.py:test_the_other_binding */
void mef_handle(struct mef *m, struct cse_request *req)
{
    struct call c = {.m = m, .req = req, .rsp = {.status = ST_INTERNAL}};
    char ri[MEF_RELKEYID];
    const char *child;
    if (authenticated(&c)) {
        if (m->fetches && strncmp(req->path, MEF_FETCH_PATH "/", sizeof MEF_FETCH_PATH) == 0)
            call_fetch(&c, req->path + sizeof MEF_FETCH_PATH);
        else if (strcmp(req->path, m->base) == 0)
            handle_base(&c);
        else if (resource_id(m, req->path, ri, &child))
            handle_resource(&c, ri, child);
        else
            call_fail(&c, ST_NOT_FOUND, "not-found", NULL, "there is no such resource");
    }
    if (st_map(c.rsp.status)->http >= 400) /* a refusal, too, may show what a crash could take back */
        c.seq = store_last(m->d.store);
    if (c.nothing) {
        json_wipe(c.rsp.pc);
        c.rsp.pc = NULL;
    }
    call_finish(&c);
}
