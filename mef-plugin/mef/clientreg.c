/* mefClientReg: one a client and administrating stakeholder (TS-0003 8.3.5.2.3 to 8.3.5.2.6). */
#include "mef-plugin/mef/rules.h"

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

/* Conformance: R-6 | TS-0003 8.3.5.2.4 | shown by: test_procedures.py:test_another_clients_registration */
/* Conformance: R-6 | TS-0003 8.3.5.2.4 | shown by: mmef_rows.py:retrieve of another's registration */
static bool is_owner(struct call *c, const struct res *r)
{
    if (strcmp(r->owner, c->who.id) == 0)
        return true;
    call_refused(c, "registration.access", r->ri, "not-owner");
    return call_fail(c, ST_NO_PRIVILEGE, "not-owner", NULL, "the registration is another client's");
}

/* Everything is checked but that there is room; takes the labels over. */
static void add(struct call *c, struct res *old, int64_t expires, struct strings *labels)
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
    if (!res_add(m, t, r)) {
        call_broken(c, t);
        return;
    }
    call_commit(c, t, "registration.create", ri);
    if (call_answer(c, ST_CREATED, MEF_SN_CLIENT_REG, res_json(m, r)))
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
    if (!call_stakeholder(c, v[ADFQ].text) || !call_labels(c, &v[LBL], &labels))
        return;
    struct res *old = res_registration(m, c->who.admin, c->who.id);
    bool may = call_policy(c, POLICY_REGISTER, &labels, 0, "registration.create", &rule) &&
               call_expiry(c, v[ET].number, policy_longest(&rule, m->max_registration_ms), &expires);
    if (may && old != NULL && old->expires > mef_now(m))
        call_fail(c, ST_ALREADY_REGISTERED, "already-registered", NULL,
                  "this client is registered for this stakeholder");
    else if (may && res_count(m) >= m->max_resources)
        call_fail(c, ST_TOO_MANY, "max-registrations", NULL, "the MEF holds as many registrations as it may");
    else if (may)
        add(c, old, expires, &labels);
    strings_free(&labels);
}

/* Conformance: R-7 | TS-0003 8.3.5.2.4 | missing: the configuration of a client */
static void retrieve(struct call *c, struct res *r)
{
    if (is_owner(c, r))
        call_answer(c, ST_OK, MEF_SN_CLIENT_REG, res_json(c->m, r));
}

static void update(struct call *c, struct res *r, const struct attr_value *v)
{
    struct policy_verdict rule;
    if (is_owner(c, r) && call_policy(c, POLICY_REGISTER, NULL, 0, "registration.update", &rule))
        call_update(c, r,
                    &(struct update){.name = MEF_SN_CLIENT_REG,
                                     .action = "registration.update",
                                     .et = &v[ET],
                                     .lbl = &v[LBL],
                                     .max_ms = policy_longest(&rule, c->m->max_registration_ms)});
}

/* Conformance: R-4 | TS-0003 8.3.5.2.6 | shown by: test_procedures.py:test_deregistration */
/* Conformance: R-4 | TS-0003 8.3.5.2.6 | missing: there are no commands yet */
/* Conformance: R-4 | TS-0003 8.3.5.2.6 | ours: keys stay, as children of the MEFBase */
static void remove_it(struct call *c, struct res *r)
{
    if (is_owner(c, r))
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
