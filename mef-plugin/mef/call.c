/* The answer to a request, given once it is durable, and what the operations of every resource type share. */
#include "mef-plugin/mef/call.h"

#include "mef-plugin/mef/when.h"

#include <stdio.h>

void mef_committed(void *user, enum st st)
{
    struct mef *m = user;
    if (st != ST_OK)
        m->d.ops->fatal(m->d.host, "a change of the MEF's resources could not be stored");
}

void call_finish(struct call *c)
{
    answers_give(&c->m->answers, c->req, &c->rsp, c->seq);
}

bool call_fail(struct call *c, enum st st, const char *code, const char *field, const char *detail)
{
    c->rsp = (struct cse_response){.status = st, .code = code, .field = field, .detail = detail};
    return false;
}

bool call_fault(struct call *c, const struct mef_result *r)
{
    return call_fail(c, r->st, r->code, r->field, r->detail);
}

bool call_answer(struct call *c, enum st st, const char *name, cJSON *obj)
{
    cJSON *root = cJSON_CreateObject();
    if (obj == NULL || root == NULL || !cJSON_AddItemToObject(root, name, obj)) {
        json_wipe(obj);
        json_wipe(root);
        return call_fail(c, ST_UNAVAILABLE, "no-memory", NULL, NULL);
    }
    c->rsp = (struct cse_response){.status = st, .pc = root};
    return true;
}

struct store_txn *call_begin(struct call *c)
{
    struct store_txn *t = store_begin(c->m->d.store);
    if (t == NULL)
        call_fail(c, ST_UNAVAILABLE, "no-memory", NULL, NULL);
    return t;
}

const char *call_actor(const struct call *c)
{
    return c->who.node != NULL ? c->who.node : c->who.id;
}

void call_commit(struct call *c, struct store_txn *t, const char *action, const char *object)
{
    mef_audit(c->m, t, c->who.admin, call_actor(c), action, object);
    c->seq = store_commit(t, mef_committed, c->m);
}

void call_refused(struct call *c, const char *action, const char *object, const char *outcome)
{
    const char *admin = c->who.role == MEF_ROLE_NONE ? "" : c->who.admin;
    const char *actor = c->who.role == MEF_ROLE_NONE ? c->req->peer.identity : call_actor(c);
    audit_note(c->m->d.audit, &(struct audit_event){.admin = admin,
                                                    .actor = actor == NULL ? "" : actor,
                                                    .action = action,
                                                    .object = object,
                                                    .outcome = outcome});
    c->m->d.ops->count(c->m->d.host, "mef_requests_refused_total", 1);
}

void call_broken(struct call *c, struct store_txn *t)
{
    store_abort(t);
    c->m->d.ops->fatal(c->m->d.host, "out of memory in the middle of a change");
    call_fail(c, ST_UNAVAILABLE, "no-memory", NULL, NULL);
}

void call_location(struct call *c, const char *ri)
{
    snprintf(c->location, sizeof c->location, "%s/%s", c->m->base, ri);
    c->rsp.location = c->location;
}

/* Conformance: R-6 | TS-0003 8.3.5.2.4 | shown by: test_procedures.py:test_another_clients_registration */
/* Conformance: R-6 | TS-0003 8.3.5.2.4 | shown by: mmef_rows.py:mecr: retrieve of another's */
bool call_owner(struct call *c, const struct res *r)
{
    if (strcmp(r->owner, c->who.id) == 0)
        return true;
    call_refused(c, "registration.access", r->ri, "not-owner");
    return call_fail(c, ST_NO_PRIVILEGE, "not-owner", NULL, "the registration is another client's");
}

/* Conformance: R-2 | TS-0003 8.3.5.1 | shown by: test_procedures.py:test_two_stakeholders */
/* Conformance: R-2 | TS-0003 8.3.5.1 | shown by: test_stakeholders.py:test_aes */
bool call_stakeholder(struct call *c, const char *admin, const char *action)
{
    char fqdn[MEF_ID];
    if (!mef_fqdn_parse(admin, fqdn))
        return call_fail(c, ST_BAD_REQUEST, "bad-value", MEF_SN_ADMIN_FQDN, "this is no FQDN");
    struct mef_principal who = mef_principal_of(c->m, &c->req->peer, fqdn, c->who.id);
    if (who.role != MEF_ROLE_NONE) {
        c->who = who;
        return true;
    }
    /* Not whose it would be: it may be one of theirs, too, or have been. */
    call_refused(c, action, c->who.id, "other-stakeholder");
    return call_fail(c, ST_NO_PRIVILEGE, "other-stakeholder", MEF_SN_ADMIN_FQDN,
                     "the credential is not one of this administrating stakeholder");
}

/* Conformance: R-8 | TS-0003 8.3.5.2.3 | shown by: test_procedures.py:test_registration */
/* Conformance: R-8 | TS-0003 8.3.5.2.3 | shown by: test_policies.py:test_lifetimes */
/* Conformance: R-8 | TS-0003 8.3.5.2.3 | ours: rules refuse by labels, or shorten; labels stay as they were asked for */
bool call_expiry(struct call *c, int64_t asked, int64_t max_ms, int64_t *expires)
{
    int64_t now = mef_now(c->m);
    if (asked <= now)
        return call_fail(c, ST_BAD_REQUEST, "past", M2M_SN_EXPIRATION, "the expiration time has passed");
    *expires = asked > now + max_ms ? now + max_ms : asked;
    return true;
}

bool call_labels(struct call *c, const struct attr_value *v, struct strings *out)
{
    const cJSON *e;
    cJSON_ArrayForEach(e, v->array) if (!strings_add(out, e->valuestring))
    {
        strings_free(out);
        return call_fail(c, ST_UNAVAILABLE, "no-memory", NULL, NULL);
    }
    return true;
}

/* Conformance: R-3 | TS-0003 8.3.5.2.5 | shown by: test_procedures.py:test_update_of_a_registration */
void call_update(struct call *c, struct res *r, const struct update *u)
{
    struct strings labels = {0};
    int64_t expires = r->expires;
    if ((u->et->present && !call_expiry(c, u->et->number, u->max_ms, &expires)) || !call_labels(c, u->lbl, &labels))
        return;
    /* Conformance: D-2 | TS-0003 10.7 | shown by: test_derived.py:test_nothing_outlives_its_credential */
    /* Conformance: D-2 | TS-0003 10.7 | ours: Ke lives as long as the credential of the session that it comes from */
    if (r->ke_expires != 0 && expires > r->ke_expires)
        expires = r->ke_expires;
    struct store_txn *t = call_begin(c);
    if (t == NULL) {
        strings_free(&labels);
        return;
    }
    bool relabelled = u->lbl->present || u->lbl->null;
    if (!res_changed(c->m, t, r,
                     &(struct res_change){
                         .expires = expires, .labels = relabelled ? &labels : NULL, .targets = u->targets})) {
        call_broken(c, t);
        return;
    }
    call_commit(c, t, u->action, r->ri);
    /* The answer repeats what the request changed, with the values taken (TS-0003 8.3.5.2.5, 8.3.5.2.9). */
    char when[WHEN_TEXT];
    cJSON *o = cJSON_CreateObject();
    when_print_m2m(r->expires, when);
    if (u->et->present)
        cJSON_AddStringToObject(o, M2M_SN_EXPIRATION, when);
    if (u->lbl->present)
        cJSON_AddItemToObject(o, M2M_SN_LABELS, strings_json(&r->labels));
    if (u->targets != NULL)
        cJSON_AddItemToObject(o, MEF_SN_TARGET_IDS, strings_json(&r->targets));
    call_answer(c, ST_UPDATED, u->name, o);
}

void call_delete(struct call *c, struct res *r, const char *action)
{
    char ri[MEF_RELKEYID];
    struct store_txn *t = call_begin(c);
    if (t == NULL)
        return;
    memcpy(ri, r->ri, sizeof ri);
    res_drop(c->m, t, r);
    call_commit(c, t, action, ri);
    c->rsp = (struct cse_response){.status = ST_DELETED};
}
