/* mefClientReg: one a client and administrating stakeholder (TS-0003 8.3.5.2.3 to 8.3.5.2.6). */
#include "mef-plugin/mef/rules.h"
#include "mef-plugin/mef/stakeholder.h"
#include "mef-plugin/mef/when.h"

#include <stdio.h>

enum { ET, LBL, ADFQ };
static const struct attr attrs[] = {
    [ET] = {M2M_SN_EXPIRATION, ATTR_TIMESTAMP, ATTR_MAN, ATTR_OPT, 0},
    [LBL] = {M2M_SN_LABELS, ATTR_TEXTS, ATTR_OPT, ATTR_CLEAR, MEF_MAX_LABELS},
    [ADFQ] = {MEF_SN_ADMIN_FQDN, ATTR_TEXT, ATTR_MAN, ATTR_NP, MEF_MAX_ID},
    {M2M_SN_RESOURCE_TYPE, ATTR_NUMBER, ATTR_NP, ATTR_NP, 0},
    {M2M_SN_RESOURCE_ID, ATTR_TEXT, ATTR_NP, ATTR_NP, 0},
    {M2M_SN_RESOURCE_NAME, ATTR_TEXT, ATTR_NP, ATTR_NP, 0},
    {M2M_SN_PARENT_ID, ATTR_TEXT, ATTR_NP, ATTR_NP, 0},
    {M2M_SN_CREATION_TIME, ATTR_TIMESTAMP, ATTR_NP, ATTR_NP, 0},
    {M2M_SN_LAST_MODIFIED, ATTR_TIMESTAMP, ATTR_NP, ATTR_NP, 0},
    {MEF_SN_SOURCE_ID, ATTR_TEXT, ATTR_NP, ATTR_NP, 0},
};

cJSON *child_json(const struct res *r, const struct res_type *t, int64_t modified)
{
    char text[MEF_RELKEYID + 8];
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, M2M_SN_RESOURCE_TYPE, t->ty);
    snprintf(text, sizeof text, "%s-%s", r->ri, t->child);
    cJSON_AddStringToObject(o, M2M_SN_RESOURCE_ID, text);
    cJSON_AddStringToObject(o, M2M_SN_RESOURCE_NAME, t->child);
    cJSON_AddStringToObject(o, M2M_SN_PARENT_ID, r->ri);
    when_print_m2m(r->created, text);
    cJSON_AddStringToObject(o, M2M_SN_CREATION_TIME, text);
    when_print_m2m(modified, text);
    cJSON_AddStringToObject(o, M2M_SN_LAST_MODIFIED, text);
    when_print_m2m(r->expires, text);
    cJSON_AddStringToObject(o, M2M_SN_EXPIRATION, text);
    return o;
}

static void refer(const struct mef *m, const struct res *r, const struct res_type *t, cJSON *list)
{
    char uri[MEF_ID + MEF_RELKEYID + 8];
    cJSON *child = cJSON_CreateObject();
    snprintf(uri, sizeof uri, "%s/%s/%s", m->base, r->ri, t->child);
    cJSON_AddStringToObject(child, M2M_SN_CHILD_NAME, t->child);
    cJSON_AddNumberToObject(child, M2M_SN_CHILD_TYPE, t->ty);
    cJSON_AddStringToObject(child, M2M_SN_CHILD_URI, uri);
    cJSON_AddItemToArray(list, child);
}

/* There is always a command, and be it NO_MORE_COMMANDS (TS-0003 8.3.4.6). */
/* Conformance: C-1 | TS-0003 8.3.4.6 | shown by: test_commands.py:test_registration_refers_to_its_commands */
static cJSON *to_json(const struct mef *m, const struct res *r)
{
    cJSON *o = res_json(m, r), *list = cJSON_AddArrayToObject(o, M2M_SN_CHILD);
    refer(m, r, &clientcmd_type, list);
    if (r->configuration != NULL)
        refer(m, r, &clientcfg_type, list);
    return o;
}

/* Everything is checked but that there is room; takes the labels over. What the rule has to do for a client that
 * registers stands there with the registration, or neither does: it is told that it is registered once (4117 after). */
static void add(struct call *c, struct res *old, int64_t expires, struct strings *labels,
                const struct policy_verdict *rule)
{
    struct mef *m = c->m;
    char ri[MEF_RELKEYID];
    struct store_txn *t = mef_random_hex(m, 16, ri) ? call_begin(c) : NULL;
    if (t == NULL)
        return;
    if (old != NULL)
        res_drop(m, t, old);
    struct res *r = res_new(m, MEF_TY_CLIENT_REG, ri, c->who.admin, c->who.id);
    if (r == NULL) {
        call_broken(c, t);
        return;
    }
    r->labels = *labels;
    *labels = (struct strings){0};
    r->expires = expires;
    if (!res_add(m, t, r) || !commands_begin(m, t, r, rule)) {
        call_broken(c, t);
        return;
    }
    call_commit(c, t, "registration.create", ri);
    if (call_answer(c, ST_CREATED, MEF_SN_CLIENT_REG, to_json(m, r)))
        call_location(c, ri);
}

/* Conformance: R-1 | TS-0003 8.3.5.2.3 | shown by: test_procedures.py:test_registration */
/* Conformance: R-1 | TS-0003 8.3.5.2.3 | ours: a second registration is refused with 4117 */
static void create(struct call *c, const struct attr_value *v)
{
    struct mef *m = c->m;
    struct policy_verdict rule;
    struct strings labels = {0};
    int64_t expires;
    if (!call_stakeholder(c, v[ADFQ].text, "registration.create") || !call_labels(c, &v[LBL], &labels))
        return;
    struct res *old = res_registration(m, c->who.admin, c->who.id);
    bool may = call_policy(c, POLICY_REGISTER, &labels, 0, "registration.create", &rule) &&
               call_expiry(c, v[ET].number, policy_longest(&rule, m->max_registration_ms), &expires);
    if (may && old != NULL && old->expires > mef_now(m))
        call_fail(c, ST_ALREADY_REGISTERED, "already-registered", NULL,
                  "this client is registered for this stakeholder");
    else if (may && !res_room(m, c->who.admin))
        call_fail(c, ST_TOO_MANY, "max-registrations", NULL, "the MEF holds as many registrations as it may");
    else if (may)
        add(c, old, expires, &labels, &rule);
    strings_free(&labels);
}

static void retrieve(struct call *c, struct res *r)
{
    if (call_owner(c, r))
        call_answer(c, ST_OK, MEF_SN_CLIENT_REG, to_json(c->m, r));
}

static void update(struct call *c, struct res *r, const struct attr_value *v)
{
    struct policy_verdict rule;
    struct strings labels = {0};
    bool relabelled = v[LBL].present || v[LBL].null;
    if (call_owner(c, r) && call_labels(c, &v[LBL], &labels) &&
        call_policy(c, POLICY_REGISTER, relabelled ? &labels : NULL, 0, "registration.update", &rule))
        call_update(c, r,
                    &(struct update){.name = MEF_SN_CLIENT_REG,
                                     .action = "registration.update",
                                     .et = &v[ET],
                                     .lbl = &v[LBL],
                                     .max_ms = policy_longest(&rule, c->m->max_registration_ms)});
    strings_free(&labels);
}

/* Conformance: R-4 | TS-0003 8.3.5.2.6 | shown by: test_procedures.py:test_deregistration */
/* Conformance: R-4 | TS-0003 8.3.5.2.6 | shown by: test_commands.py:test_commands_end_with_the_registration */
/* Conformance: R-4 | TS-0003 8.3.5.2.6 | ours: keys stay, as children of the MEFBase */
static void remove_it(struct call *c, struct res *r)
{
    if (call_owner(c, r))
        call_delete(c, r, "registration.delete");
}

_Static_assert(sizeof attrs / sizeof *attrs <= MAX_ATTRS, "room for the values");

const struct res_type clientreg_type = {
    .ty = MEF_TY_CLIENT_REG,
    .name = MEF_SN_CLIENT_REG,
    .attrs = attrs,
    .nattrs = sizeof attrs / sizeof *attrs,
    .create = create,
    .retrieve = retrieve,
    .update = update,
    .remove = remove_it,
};

/* --- operator REST ------------------------------------------------------------------------------------------------ */

struct res *clientreg_find(const struct mef *m, const char *admin, const char *id)
{
    struct res *r = res_find(m, id);
    return r != NULL && r->ty == MEF_TY_CLIENT_REG && strcmp(r->admin, admin) == 0 ? r : NULL;
}

cJSON *mef_registration_get(struct mef *m, const char *admin, const char *id)
{
    char when[WHEN_TEXT];
    const struct res *r = clientreg_find(m, admin, id);
    cJSON *o = r == NULL ? NULL : cJSON_CreateObject();
    if (o == NULL)
        return NULL;
    cJSON_AddStringToObject(o, "id", r->ri);
    cJSON_AddStringToObject(o, "client", r->owner);
    cJSON_AddItemToObject(o, "labels", strings_json(&r->labels));
    when_print_rfc3339(r->created, when);
    cJSON_AddStringToObject(o, "createdAt", when);
    when_print_rfc3339(r->expires, when);
    cJSON_AddStringToObject(o, "expiresAt", when);
    return o;
}

cJSON *mef_registration_list(struct mef *m, const char *admin, const char *after, unsigned limit)
{
    cJSON *list = cJSON_CreateArray();
    while (list != NULL && limit > 0 && (after = stakeholder_next(m, admin, SHARE_REGISTRATIONS, after)) != NULL) {
        cJSON *one = mef_registration_get(m, admin, after); /* an expired one is none */
        if (one != NULL && cJSON_AddItemToArray(list, one))
            limit--;
    }
    return list;
}
