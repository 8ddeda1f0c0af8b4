/* What a refusal tells of is durable, like everything that is told: a crash does not bring back what a client was refused. */
#include "tests/unit/plugin_fixture.h"

#include "config/names.h"

#define CLIENT "//sp.example.com/in-cse/C-a"

struct client {
    char kpm_id[128];
    struct cse_request req;
};

static void begin(struct world *w, struct client *c)
{
    struct mef_result r = {0};
    cJSON *in = json("{'for':'C-a','kind':'psk'}");
    WITH_TXN(w, mef_credential_create(w->mef, t, ADMIN, "operator:test", in, &r));
    snprintf(c->kpm_id, sizeof c->kpm_id, "%s", text_of(r.body, "kpmId"));
    json_wipe(r.body);
    cJSON_Delete(in);
    c->req = (struct cse_request){.mount = CSE_PRIMITIVE, .binding = CSE_COAP, .from = CLIENT, .content_format = 50,
                                  .accept = CSE_NO_FORMAT, .peer = {1, CSE_CRED_PSK, c->kpm_id, "[::1]:1", ""}};
}

static void ask(struct world *w, struct client *c, enum cse_op op, const char *path, int ty, const cJSON *pc)
{
    c->req.op = op;
    c->req.path = path;
    c->req.ty = ty;
    c->req.pc = pc;
    host_forget(&w->host);
    mef_handle(w->mef, &c->req);
}

static void refused_when_durable(struct world *w, struct client *c, const char *path, enum st st)
{
    ask(w, c, CSE_RETRIEVE, path, -1, NULL);
    assert_false(w->host.answered); /* the operator's change is handed over, and no more */
    assert_int_equal(wait_answer(w), st);
}

static void by_a_rule(void **state)
{
    struct world w = {0};
    struct client c;
    struct mef_result r = {0};
    char path[sizeof w.host.location];
    world_open(&w, *state);
    begin(&w, &c);
    cJSON *pc = json("{'sec:mecr':{'et':'20270101T000000','adfq':'" ADMIN "'}}");
    ask(&w, &c, CSE_CREATE, "mef", MEF_TY_CLIENT_REG, pc);
    cJSON_Delete(pc);
    assert_int_equal(wait_answer(&w), ST_CREATED);
    snprintf(path, sizeof path, "%.600s/cmd", w.host.location);
    for (int i = 0; i < 2; i++) { /* issued, and as durable as it was */
        ask(&w, &c, CSE_RETRIEVE, path, -1, NULL);
        assert_int_equal(wait_answer(&w), ST_OK);
    }
    cJSON *rule = json("{'effect':'deny','what':['command']}");
    WITH_TXN(&w, mef_policy_put(w.mef, t, ADMIN, "operator:test", "no", rule, &r));
    cJSON_Delete(rule);
    cJSON_Delete(r.body);
    refused_when_durable(&w, &c, path, ST_NO_PRIVILEGE);
    world_close(&w);
}

static void by_want_of_a_credential(void **state)
{
    struct world w = {0};
    struct client c;
    struct mef_result r = {0};
    world_open(&w, *state);
    begin(&w, &c);
    ask(&w, &c, CSE_RETRIEVE, "mef", -1, NULL);
    assert_int_equal(wait_answer(&w), ST_OK);
    WITH_TXN(&w, mef_credential_delete(w.mef, t, ADMIN, "operator:test", c.kpm_id, &r));
    refused_when_durable(&w, &c, "mef", ST_ASSOCIATION_REQUIRED);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(by_a_rule, setup, teardown),
        cmocka_unit_test_setup_teardown(by_want_of_a_credential, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
