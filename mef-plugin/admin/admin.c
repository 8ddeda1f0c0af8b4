/* Operator REST: from a path and a method to the room that owns the object. */
#include "mef-plugin/admin/events.h"
#include "mef-plugin/admin/operators.h"
#include "mef-plugin/mef/answers.h"
#include "mef-plugin/mef/attrs.h"

#include <stdio.h>
#include <stdlib.h>

const struct conf_option admin_options[] = {
    {"token.*", "file", CONF_PATH, "!", 0, 0, "file with the bearer token in one line, mode 0600"},
    {"token.*", "admin-fqdn", CONF_STRING, "!", 0, 0,
     "FQDN of the administrating stakeholder whose objects it governs"},
    {"token.*", "role", CONF_STRING, "viewer", 0, 0, "admin, installer (install codes and devices) or viewer (reads)"},
    {"operator.*", "san", CONF_STRING, "!", 0, 0,
     "subjectAltName of the operator's certificate, which leads to [https] trust-anchors"},
    {"operator.*", "admin-fqdn", CONF_STRING, "!", 0, 0,
     "FQDN of the administrating stakeholder whose objects it governs"},
    {"operator.*", "role", CONF_STRING, "viewer", 0, 0,
     "admin, installer (install codes and devices) or viewer (reads)"},
    {NULL, NULL, CONF_STRING, NULL, 0, 0, NULL},
};

#define PAGE_DEFAULT 100
#define PAGE_MAX 1000
#define MAX_LOCATION 600

struct admin {
    struct admin_deps d;
    struct rest_operator *operators;
    struct answers answers;
    struct event_feed *feed;
};

/* One request, checked against its route. */
struct ask {
    struct admin *a;
    struct cse_request *req;
    const struct rest_operator *who;
    char actor[96];      /* "operator:NAME" */
    char id[300];        /* what the pattern's first {} stands for */
    char item[16];       /* ..and its second one */
    eui64_t eui;         /* id as an EUI-64, where the route says so */
    struct store_txn *t; /* of a change, else NULL */
    bool later;          /* a callback answers, not `r` */
    struct mef_result r;
    /* query parameters */
    eui64_t after;          /* ..as an EUI-64 */
    const char *after_text; /* ..as it is */
    uint64_t before;
    unsigned limit;
    bool replace;
};

/* --- what the routes do ------------------------------------------------------------------------------------------- */

/* An object or list found: NULL is "not found". */
static void found(struct ask *q, cJSON *body)
{
    q->r.body = body;
    if (body == NULL)
        mef_refuse(&q->r, ST_NOT_FOUND, "not-found", NULL, "there is no such object");
}

static void audit_answer(void *user, void *about, cJSON *page)
{
    struct admin *a = user;
    cJSON *row;
    cJSON_ArrayForEach(row, page) event_explain(row);
    a->d.ops->respond(a->d.host, about,
                      &(struct cse_response){.status = page != NULL ? ST_OK : ST_INTERNAL, .pc = page});
}

/* clang-format off */
static void codes_list(struct ask *q) { found(q, eg_code_list(q->a->d.eg, q->who->admin, q->after, q->limit)); }
static void code_get(struct ask *q) { found(q, eg_code_get(q->a->d.eg, q->who->admin, q->eui)); }
static void code_put(struct ask *q)
{
    eg_code_put(q->a->d.eg, q->t, q->who->admin, q->actor, q->eui, q->req->pc, q->replace, &q->r);
}
static void code_label(struct ask *q)
{
    eg_code_label(q->a->d.eg, q->t, q->who->admin, q->actor, q->req->pc, &q->r);
}
static void code_delete(struct ask *q) { eg_code_delete(q->a->d.eg, q->t, q->who->admin, q->actor, q->eui, &q->r); }

static void gateways_list(struct ask *q) { found(q, eg_gateway_list(q->a->d.eg, q->who->admin)); }
static void gateway_get(struct ask *q) { found(q, eg_gateway_get(q->a->d.eg, q->who->admin, q->eui)); }
static void gateway_put(struct ask *q)
{
    eg_gateway_put(q->a->d.eg, q->t, q->who->admin, q->actor, q->eui, q->req->pc, &q->r);
}
static void gateway_delete(struct ask *q)
{
    eg_gateway_delete(q->a->d.eg, q->t, q->who->admin, q->actor, q->eui, &q->r);
}

static void devices_list(struct ask *q) { found(q, eg_device_list(q->a->d.eg, q->who->admin, q->after, q->limit)); }
static void device_get(struct ask *q)
{
    cJSON *o = eg_device_get(q->a->d.eg, q->who->admin, q->eui);
    if (o != NULL || !eg_explain_stranger(q->a->d.eg, q->who->admin, q->eui, &q->r))
        found(q, o);
}
static void device_act(struct ask *q)
{
    eg_device_action(q->a->d.eg, q->t, q->who->admin, q->actor, q->eui, q->item, &q->r);
}

static void applications_list(struct ask *q)
{
    found(q, mef_application_list(q->a->d.mef, q->who->admin, q->after_text, q->limit));
}
static void application_get(struct ask *q) { found(q, mef_application_get(q->a->d.mef, q->who->admin, q->id)); }
static void application_put(struct ask *q)
{
    mef_application_put(q->a->d.mef, q->t, q->who->admin, q->actor, q->id, q->req->pc, &q->r);
}
static void application_delete(struct ask *q)
{
    mef_application_delete(q->a->d.mef, q->t, q->who->admin, q->actor, q->id, &q->r);
}

static void policies_list(struct ask *q)
{
    found(q, mef_policy_list(q->a->d.mef, q->who->admin, q->after_text, q->limit));
}
static void policy_get(struct ask *q) { found(q, mef_policy_get(q->a->d.mef, q->who->admin, q->id)); }
static void policy_put(struct ask *q)
{
    mef_policy_put(q->a->d.mef, q->t, q->who->admin, q->actor, q->id, q->req->pc, &q->r);
}
static void policy_delete(struct ask *q)
{
    mef_policy_delete(q->a->d.mef, q->t, q->who->admin, q->actor, q->id, &q->r);
}
static void policy_evaluate(struct ask *q) { mef_policy_evaluate(q->a->d.mef, q->who->admin, q->req->pc, &q->r); }

static void credentials_list(struct ask *q)
{
    found(q, mef_credential_list(q->a->d.mef, q->who->admin, q->after_text, q->limit));
}
static void credential_get(struct ask *q) { found(q, mef_credential_get(q->a->d.mef, q->who->admin, q->id)); }
static void credential_create(struct ask *q)
{
    mef_credential_create(q->a->d.mef, q->t, q->who->admin, q->actor, q->req->pc, &q->r);
}
static void credential_delete(struct ask *q)
{
    mef_credential_delete(q->a->d.mef, q->t, q->who->admin, q->actor, q->id, &q->r);
}

static void registrations_list(struct ask *q)
{
    found(q, mef_registration_list(q->a->d.mef, q->who->admin, q->after_text, q->limit));
}
static void registration_get(struct ask *q) { found(q, mef_registration_get(q->a->d.mef, q->who->admin, q->id)); }
static void commands_list(struct ask *q) { found(q, mef_command_list(q->a->d.mef, q->who->admin, q->id)); }
static void command_create(struct ask *q)
{
    mef_command_create(q->a->d.mef, q->t, q->who->admin, q->actor, q->id, q->req->pc, &q->r);
}
static void command_delete(struct ask *q)
{
    mef_command_delete(q->a->d.mef, q->t, q->who->admin, q->actor, q->id, q->item, &q->r);
}

static void configuration_get(struct ask *q)
{
    found(q, mef_configuration_get(q->a->d.mef, q->who->admin, q->id));
}
static void configuration_put(struct ask *q)
{
    mef_configuration_put(q->a->d.mef, q->t, q->who->admin, q->actor, q->id, q->req->pc, &q->r);
}
static void configuration_delete(struct ask *q)
{
    mef_configuration_delete(q->a->d.mef, q->t, q->who->admin, q->actor, q->id, &q->r);
}

static void audit_list(struct ask *q)
{
    q->later = true;
    audit_read(q->a->d.audit,
               &(struct audit_query){q->who->admin, q->before, q->limit, audit_answer, q->a, q->req});
}
static void events(struct ask *q) { event_feed_watch(q->a->feed, q->req, q->who->admin, &q->r); }
/* clang-format on */

/* --- routes ------------------------------------------------------------------------------------------------------- */

enum query { Q_AFTER = 1, Q_LIMIT = 2, Q_BEFORE = 4, Q_REPLACE = 8, Q_AFTER_TEXT = 16 };
enum {
    ADMIN = ROLE_ADMIN,
    INSTALLS = ROLE_ADMIN | ROLE_INSTALLER,
    READS = ROLE_ADMIN | ROLE_VIEWER,
    ALL = ROLE_ADMIN | ROLE_INSTALLER | ROLE_VIEWER
};

/* {eui64} and {id} take one segment each, {item} the last one. A create names its object by the body's `made`. */
static const struct route {
    enum cse_op method;
    const char *pattern;
    int roles;
    unsigned query;
    const char *made;
    void (*fn)(struct ask *q);
} routes[] = {
    {CSE_RETRIEVE, "v1/install-codes", ALL, Q_AFTER | Q_LIMIT, NULL, codes_list},
    {CSE_CREATE, "v1/install-codes", INSTALLS, 0, "eui64", code_label},
    {CSE_RETRIEVE, "v1/install-codes/{eui64}", ALL, 0, NULL, code_get},
    {CSE_UPDATE, "v1/install-codes/{eui64}", INSTALLS, Q_REPLACE, NULL, code_put},
    {CSE_DELETE, "v1/install-codes/{eui64}", INSTALLS, 0, NULL, code_delete},
    {CSE_RETRIEVE, "v1/gateways", READS, 0, NULL, gateways_list},
    {CSE_RETRIEVE, "v1/gateways/{eui64}", READS, 0, NULL, gateway_get},
    {CSE_UPDATE, "v1/gateways/{eui64}", ADMIN, 0, NULL, gateway_put},
    {CSE_DELETE, "v1/gateways/{eui64}", ADMIN, 0, NULL, gateway_delete},
    {CSE_RETRIEVE, "v1/devices", ALL, Q_AFTER | Q_LIMIT, NULL, devices_list},
    {CSE_RETRIEVE, "v1/devices/{eui64}", ALL, 0, NULL, device_get},
    {CSE_CREATE, "v1/devices/{eui64}/{item}", INSTALLS, 0, NULL, device_act},
    {CSE_RETRIEVE, "v1/applications", READS, Q_AFTER_TEXT | Q_LIMIT, NULL, applications_list},
    {CSE_RETRIEVE, "v1/applications/{id}", READS, 0, NULL, application_get},
    {CSE_UPDATE, "v1/applications/{id}", ADMIN, 0, NULL, application_put},
    {CSE_DELETE, "v1/applications/{id}", ADMIN, 0, NULL, application_delete},
    {CSE_RETRIEVE, "v1/policies", READS, Q_AFTER_TEXT | Q_LIMIT, NULL, policies_list},
    {CSE_RETRIEVE, "v1/policies/{id}", READS, 0, NULL, policy_get},
    {CSE_UPDATE, "v1/policies/{id}", ADMIN, 0, NULL, policy_put},
    {CSE_DELETE, "v1/policies/{id}", ADMIN, 0, NULL, policy_delete},
    {CSE_CREATE, "v1/verdicts", READS, 0, NULL, policy_evaluate},
    {CSE_RETRIEVE, "v1/credentials", READS, Q_AFTER_TEXT | Q_LIMIT, NULL, credentials_list},
    {CSE_CREATE, "v1/credentials", ADMIN, 0, "id", credential_create},
    {CSE_RETRIEVE, "v1/credentials/{id}", READS, 0, NULL, credential_get},
    {CSE_DELETE, "v1/credentials/{id}", ADMIN, 0, NULL, credential_delete},
    {CSE_RETRIEVE, "v1/registrations", READS, Q_AFTER_TEXT | Q_LIMIT, NULL, registrations_list},
    {CSE_RETRIEVE, "v1/registrations/{id}", READS, 0, NULL, registration_get},
    {CSE_RETRIEVE, "v1/registrations/{id}/commands", READS, 0, NULL, commands_list},
    {CSE_CREATE, "v1/registrations/{id}/commands", ADMIN, 0, "id", command_create},
    {CSE_DELETE, "v1/registrations/{id}/commands/{item}", ADMIN, 0, NULL, command_delete},
    {CSE_RETRIEVE, "v1/registrations/{id}/configuration", READS, 0, NULL, configuration_get},
    {CSE_UPDATE, "v1/registrations/{id}/configuration", ADMIN, 0, NULL, configuration_put},
    {CSE_DELETE, "v1/registrations/{id}/configuration", ADMIN, 0, NULL, configuration_delete},
    {CSE_RETRIEVE, "v1/audit", READS, Q_BEFORE | Q_LIMIT, NULL, audit_list},
    {CSE_RETRIEVE, "v1/events", READS, 0, NULL, events},
};

/* Copy one path segment. */
static bool take(const char **path, char *out, size_t cap)
{
    size_t n = strcspn(*path, "/");
    if (n == 0 || n >= cap)
        return false;
    memcpy(out, *path, n);
    out[n] = '\0';
    *path += n;
    return true;
}

static bool matches(const char *pattern, const char *path, struct ask *q)
{
    while (*pattern != '\0') {
        if (*pattern != '{') {
            if (*pattern++ != *path++)
                return false;
            continue;
        }
        bool item = strncmp(pattern, "{item}", 6) == 0;
        if (!take(&path, item ? q->item : q->id, item ? sizeof q->item : sizeof q->id))
            return false;
        pattern = strchr(pattern, '}') + 1;
    }
    return *path == '\0';
}

static const struct route *route_of(struct ask *q)
{
    bool path_known = false;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (!matches(routes[i].pattern, q->req->path, q))
            continue;
        if (routes[i].method == q->req->op)
            return &routes[i];
        path_known = true;
    }
    if (path_known)
        mef_refuse(&q->r, ST_NOT_ALLOWED, "method", NULL, "this path does not take this method");
    else
        mef_refuse(&q->r, ST_NOT_FOUND, "no-such-path", NULL, "there is no such path");
    return NULL;
}

/* --- query -------------------------------------------------------------------------------------------------------- */

static bool parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;
    if (*text == '\0' || strlen(text) > 18)
        return false;
    for (; *text >= '0' && *text <= '9'; text++)
        v = v * 10 + (uint64_t)(*text - '0');
    *out = v;
    return *text == '\0' && v >= min && v <= max;
}

static bool parse_param(struct ask *q, unsigned which, const char *value)
{
    uint64_t n;
    switch (which) {
    case Q_AFTER:
        return eui64_parse(value, &q->after);
    case Q_AFTER_TEXT:
        q->after_text = value;
        return true;
    case Q_BEFORE:
        return parse_number(value, 1, INT64_MAX, &q->before);
    case Q_LIMIT:
        if (!parse_number(value, 1, PAGE_MAX, &n))
            return false;
        q->limit = (unsigned)n;
        return true;
    default: /* Q_REPLACE */
        q->replace = strcmp(value, "true") == 0;
        return q->replace || strcmp(value, "false") == 0;
    }
}

static bool read_query(struct ask *q, unsigned allowed)
{
    static const struct {
        const char *name;
        unsigned which;
    } all[] = {
        {"after", Q_AFTER}, {"after", Q_AFTER_TEXT}, {"limit", Q_LIMIT}, {"before", Q_BEFORE}, {"replace", Q_REPLACE}};
    unsigned seen = 0;
    for (size_t i = 0; i < q->req->nparams; i++) {
        const struct cse_param *p = &q->req->params[i];
        unsigned which = 0;
        for (size_t j = 0; j < sizeof all / sizeof *all; j++)
            if (strcmp(p->name, all[j].name) == 0)
                which |= all[j].which & allowed;
        if (which == 0)
            return mef_refuse(&q->r, ST_BAD_REQUEST, "unknown-parameter", p->name, "there is no such parameter here");
        if ((seen & which) != 0)
            return mef_refuse(&q->r, ST_BAD_REQUEST, "duplicate", p->name, "the parameter is given twice");
        seen |= which;
        if (!parse_param(q, which, p->value))
            return mef_refuse(&q->r, ST_BAD_REQUEST, "bad-value", p->name, "the parameter's value is out of range");
    }
    return true;
}

/* --- handling ----------------------------------------------------------------------------------------------------- */

/* Of a stranger no more is kept than that there was one: the path would fill the trail with texts of his choice. */
static void refused(struct ask *q, const char *outcome)
{
    audit_note(q->a->d.audit, &(struct audit_event){.admin = q->who == NULL ? "" : q->who->admin,
                                                    .actor = q->who == NULL ? "" : q->actor,
                                                    .action = "operator.refused",
                                                    .object = q->who == NULL ? "" : q->req->path,
                                                    .outcome = outcome});
    q->a->d.ops->count(q->a->d.host, "mef_operator_refused_total", 1);
}

static bool authenticated(struct ask *q)
{
    const char *code;
    q->who = operator_find(q->a->d.vault, q->a->operators, q->req, &code);
    if (q->who == NULL) {
        refused(q, code);
        return mef_refuse(&q->r, ST_UNAUTHORIZED, code, NULL, "send Authorization: Bearer and an operator's token, or show an operator's certificate");
    }
    snprintf(q->actor, sizeof q->actor, "operator:%s", q->who->name);
    return true;
}

/* The route, if everything about the request fits it. */
static const struct route *check(struct ask *q)
{
    const struct route *r = authenticated(q) ? route_of(q) : NULL;
    if (r == NULL)
        return NULL;
    if ((r->roles & (int)q->who->role) == 0) {
        refused(q, "role");
        mef_refuse(&q->r, ST_NO_PRIVILEGE, "role", NULL, "the operator's role does not allow this");
        return NULL;
    }
    if (strstr(r->pattern, "{eui64}") != NULL && !eui64_parse(q->id, &q->eui)) {
        mef_refuse(&q->r, ST_BAD_REQUEST, "bad-value", "eui64", "an EUI-64 is 16 hex digits");
        return NULL;
    }
    if (!read_query(q, r->query))
        return NULL;
    bool body = r->method == CSE_UPDATE || r->made != NULL;
    if (body && q->req->pc == NULL) {
        mef_refuse(&q->r, ST_BAD_REQUEST, "body-missing", NULL, "the request needs a JSON object");
        return NULL;
    }
    return r;
}

static void committed(void *user, enum st st)
{
    struct admin *a = user;
    if (st != ST_OK)
        a->d.ops->fatal(a->d.host, "an operator's change could not be stored");
}

/* Run a change in a transaction of its own. Returns the sequence number that the answer waits for. */
static uint64_t change(struct ask *q, const struct route *r)
{
    q->t = store_begin(q->a->d.store);
    if (q->t == NULL) {
        mef_refuse(&q->r, ST_UNAVAILABLE, "no-memory", NULL, NULL);
        return 0;
    }
    r->fn(q);
    if (st_map(q->r.st)->http >= 400) { /* a refusal, too, may show what a crash could take back */
        store_abort(q->t);
        return store_last(q->a->d.store);
    }
    return store_commit(q->t, committed, q->a);
}

static const char *location(const struct ask *q, const struct route *r, char out[MAX_LOCATION])
{
    if (q->r.st != ST_CREATED || q->r.location != NULL)
        return q->r.location;
    const cJSON *id = r->made == NULL ? NULL : cJSON_GetObjectItemCaseSensitive(q->r.body, r->made);
    if (id == NULL || !cJSON_IsString(id))
        return q->req->path;
    snprintf(out, MAX_LOCATION, "%s/%s", q->req->path, id->valuestring);
    return out;
}

void admin_handle(struct admin *a, struct cse_request *req)
{
    struct ask q = {.a = a, .req = req, .after_text = "", .limit = PAGE_DEFAULT};
    char where[MAX_LOCATION];
    const struct route *r = check(&q);
    uint64_t seq = 0;
    if (r != NULL && r->method == CSE_RETRIEVE) {
        r->fn(&q);
        if (q.later)
            return;
        seq = store_last(a->d.store); /* nothing is shown that a crash could take back */
    } else if (r != NULL) {
        seq = change(&q, r);
    }
    struct cse_response rsp = {.status = q.r.st,
                               .pc = q.r.body,
                               .code = q.r.code,
                               .field = q.r.field,
                               .detail = q.r.detail,
                               .sensitive = q.r.sensitive};
    if (r != NULL)
        rsp.location = location(&q, r, where);
    answers_give(&a->answers, req, &rsp, seq);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

struct admin *admin_open(const struct admin_deps *d, char *err, size_t errlen)
{
    struct admin *a = calloc(1, sizeof *a);
    if (a == NULL) {
        snprintf(err, errlen, "out of memory");
        return NULL;
    }
    a->d = *d;
    a->answers = (struct answers){.host = d->host, .ops = d->ops, .store = d->store};
    a->feed = event_feed_open(d);
    snprintf(err, errlen, "out of memory");
    if (a->feed != NULL && admin_reload(a, d->conf, err, errlen))
        return a;
    event_feed_close(a->feed);
    free(a);
    return NULL;
}

bool admin_reload(struct admin *a, const struct conf *conf, char *err, size_t errlen)
{
    struct rest_operator *list;
    if (!operators_read(a->d.vault, conf, &list, err, errlen))
        return false;
    operators_free(a->operators);
    a->operators = list;
    event_feed_drop(a->feed);
    return true;
}

void admin_observe_end(struct admin *a, uint64_t observation)
{
    event_feed_end(a->feed, observation);
}

void admin_close(struct admin *a)
{
    if (a == NULL)
        return;
    answers_free(&a->answers);
    event_feed_close(a->feed);
    operators_free(a->operators);
    free(a);
}
