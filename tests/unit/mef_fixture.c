#include "tests/unit/mef_fixture.h"

void give_credential(struct world *w, const char *admin, const char *id, char kpm_id[128])
{
    char body[512];
    struct mef_result r = {0};
    snprintf(body, sizeof body, "{'for':'%s','kind':'psk'}", id);
    cJSON *in = json(body);
    WITH_TXN(w, mef_credential_create(w->mef, t, admin, "operator:test", in, &r));
    assert_int_equal(r.st, ST_CREATED);
    assert_true(r.sensitive);
    assert_int_equal(strlen(text_of(r.body, "kpm")), 64);
    snprintf(kpm_id, 128, "%s", text_of(r.body, "kpmId"));
    json_wipe(r.body);
    cJSON_Delete(in);
}

enum st certify(struct world *w, const char *admin, const char *body, char id[128])
{
    struct mef_result r = {0};
    cJSON *in = json(body);
    WITH_TXN(w, mef_credential_create(w->mef, t, admin, "operator:test", in, &r));
    cJSON_Delete(in);
    if (r.st == ST_CREATED) {
        assert_false(r.sensitive);
        assert_null(member(r.body, "kpm"));
        assert_null(member(r.body, "kpmId"));
        snprintf(id, 128, "%s", text_of(r.body, "id"));
    }
    cJSON_Delete(r.body);
    return r.st;
}

enum st put_rule(struct world *w, const char *admin, const char *name, const char *body)
{
    struct mef_result r = {0};
    cJSON *in = json(body);
    WITH_TXN(w, mef_policy_put(w->mef, t, admin, "operator:test", name, in, &r));
    cJSON_Delete(in);
    cJSON_Delete(r.body);
    return r.st;
}

bool in_trail(struct world *w, const char *admin, const char *action, const char *outcome)
{
    bool found = false;
    cJSON *page = audit_page(w->audit, w->store, admin, 0, 1000);
    const cJSON *e;
    cJSON_ArrayForEach(e, page) if (strcmp(text_of(e, "action"), action) == 0 && strcmp(text_of(e, "outcome"), outcome) == 0)
        found = true;
    cJSON_Delete(page);
    return found;
}

static enum cse_credential credential_of(const struct who *who)
{
    if (who->kpm_id == NULL)
        return CSE_CRED_NONE;
    return strchr(who->kpm_id, '@') != NULL ? CSE_CRED_PSK : CSE_CRED_CERT;
}

enum st ask(struct world *w, const struct who *who, enum cse_op op, const char *path, int ty, const char *body,
            const struct cse_param *params, size_t nparams)
{
    cJSON *pc = body == NULL ? NULL : json(body);
    struct cse_request req = {
        .mount = CSE_PRIMITIVE, .binding = CSE_COAP, .op = op, .path = path, .params = params, .nparams = nparams,
        .from = who->from, .ty = ty, .content_format = 50, .accept = CSE_NO_FORMAT, .pc = pc,
        .peer = {who->session, credential_of(who), who->kpm_id == NULL ? "" : who->kpm_id, "[::1]:1", ""}};
    host_forget(&w->host);
    unsigned before = w->host.respond_count;
    mef_handle(w->mef, &req);
    enum st st = wait_answer(w);
    assert_int_equal(w->host.respond_count, before + 1);
    cJSON_Delete(pc);
    return st;
}

enum st create(struct world *w, const struct who *who, int ty, const char *body)
{
    return ask(w, who, CSE_CREATE, "mef", ty, body, NULL, 0);
}
enum st get(struct world *w, const struct who *who, const char *path)
{
    return ask(w, who, CSE_RETRIEVE, path, -1, NULL, NULL, 0);
}
const cJSON *attrs(const struct world *w) { return w->host.rsp.pc == NULL ? NULL : w->host.rsp.pc->child; }

const char *location(struct world *w, char out[128])
{
    snprintf(out, 128, "%.127s", w->host.location);
    return out;
}

void meet(struct world *w, struct people *p)
{
    give_credential(w, ADMIN, "C-a", p->a_id);
    give_credential(w, ADMIN, "//SP.example.com/in-cse/C-b", p->b_id);
    give_credential(w, OTHER_ADMIN, "C-x", p->x_id);
    give_credential(w, ADMIN, "gateway:hall", p->g_id);
    p->a = (struct who){p->a_id, "C-a", 1};
    p->b = (struct who){p->b_id, "/in-cse/C-b", 2};
    p->x = (struct who){p->x_id, "C-x", 3};
    p->g = (struct who){p->g_id, "gateway:hall", 4};
}

void enrol(struct world *w, const struct who *who)
{
    assert_int_equal(create(w, who, MEF_TY_CLIENT_REG, "{'sec:mecr':{'et':'" LATER "','adfq':'sp.example.com'}}"), ST_CREATED);
}
