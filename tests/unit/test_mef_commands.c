/* Commands for clients: told, reported, kept back by a rule. */
#include "tests/unit/mef_fixture.h"

static const char *commands_of(const struct world *w, char uri[128])
{
    const cJSON *child = cJSON_GetArrayItem(member(attrs(w), "ch"), 0);
    assert_int_equal(member(child, "typ")->valueint, MEF_TY_CLIENT_CMD);
    snprintf(uri, 128, "%.120s", text_of(child, "val"));
    return uri;
}

static enum st report(struct world *w, const struct who *who, const char *uri, const char *cmd, int status)
{
    char body[200];
    snprintf(body, sizeof body, "{'sec:mecc':{'cmi':'%s','cmst':%d}}", cmd, status);
    return ask(w, who, CSE_UPDATE, uri, -1, body, NULL, 0);
}

#define DEV_CFG "{'cmdClassID':2,'cmdArgs':{'devCfgCmdArgs':{'deviceConfigURI':'1:https://mef.example.com/%d'}}}"

static enum st order(struct world *w, const char *uri, int n)
{
    char ri[33], text[128];
    struct mef_result r = {0};
    snprintf(ri, sizeof ri, "%.32s", uri + strlen("mef/"));
    snprintf(text, sizeof text, DEV_CFG, n);
    cJSON *in = json(text);
    WITH_TXN(w, mef_command_create(w->mef, t, ADMIN, "operator:test", ri, in, &r));
    cJSON_Delete(in);
    cJSON_Delete(r.body);
    return r.st;
}

static void assert_told(const struct world *w, const char *cmd, int status)
{
    assert_string_equal(text_of(attrs(w), "cmi"), cmd);
    assert_int_equal(member(attrs(w), "cmst")->valueint, status);
}

/* What was told is on disk before it is told, whatever ends the process. */
static void test_commands(void **state)
{
    struct world w = {0};
    struct people p;
    char uri[128];
    world_open(&w, *state);
    meet(&w, &p);
    enrol(&w, &p.a);
    commands_of(&w, uri);
    for (int i = 1; i <= 3; i++)
        assert_int_equal(order(&w, uri, i), ST_CREATED);
    for (int restarted = 0; restarted < 3; restarted++) {
        assert_int_equal(get(&w, &p.a, uri), ST_OK);
        assert_told(&w, "1", restarted == 0 ? 10 : 11);
        world_close(&w);
        world_open(&w, *state);
    }
    assert_int_equal(report(&w, &p.a, uri, "1", 201), ST_UPDATED);
    assert_told(&w, "2", 10);
    world_close(&w);
    world_open(&w, *state);
    assert_int_equal(report(&w, &p.a, uri, "1", 201), ST_UPDATED);
    assert_told(&w, "2", 11);
    const char *uri_of_2 = "1:https://mef.example.com/2";
    const cJSON *args = member(member(member(attrs(&w), "cmds"), "cmdArgs"), "devCfgCmdArgs");
    assert_string_equal(text_of(args, "deviceConfigURI"), uri_of_2);
    for (int i = 4; i < 19; i++)
        assert_int_equal(order(&w, uri, i), i < 18 ? ST_CREATED : ST_TOO_MANY); /* 2 to 17 wait or are issued */
    for (int i = 2; i <= 17; i++) {
        char cmd[8], next[8];
        snprintf(cmd, sizeof cmd, "%d", i);
        snprintf(next, sizeof next, "%d", i + 1);
        assert_int_equal(report(&w, &p.a, uri, cmd, 20), ST_UPDATED);
        assert_told(&w, next, 10); /* the last: NO_MORE_COMMANDS */
    }
    world_close(&w);
    world_open(&w, *state);
    assert_int_equal(order(&w, uri, 19), ST_CREATED);
    assert_int_equal(get(&w, &p.a, uri), ST_OK);
    assert_told(&w, "19", 10);
    *strrchr(uri, '/') = '\0';
    assert_int_equal(ask(&w, &p.a, CSE_DELETE, uri, -1, NULL, NULL, 0), ST_DELETED);
    assert_int_equal(rows_of(w.store, STORE_CLIENT_CMD), 0);
    world_close(&w);
}

static void test_no_more_commands(void **state)
{
    struct world w = {0};
    struct people p;
    char uri[128];
    world_open(&w, *state);
    meet(&w, &p);
    enrol(&w, &p.a);
    commands_of(&w, uri);
    assert_int_equal(rows_of(w.store, STORE_CLIENT_CMD), 0); /* until it is asked for */
    for (int restarted = 0; restarted < 2; restarted++) {
        for (int i = 0; i < 3; i++) {
            assert_int_equal(get(&w, &p.a, uri), ST_OK);
            assert_string_equal(text_of(attrs(&w), "cmi"), "1");
            assert_int_equal(member(attrs(&w), "cmst")->valueint, 10);
            const cJSON *args = member(member(member(attrs(&w), "cmds"), "cmdArgs"), "noMoreCmdArgs");
            assert_string_equal(text_of(args, "retryDuration"), "PT3600S");
        }
        assert_int_equal(rows_of(w.store, STORE_CLIENT_CMD), 1);
        world_close(&w);
        world_open(&w, *state);
    }
    static const char *const others[] = {"0", "01", "1 ", "+1", "-1", "1x", "2", "99999999999999999999999999", "x"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_int_equal(report(&w, &p.a, uri, others[i], 20), ST_UPDATED);
        assert_string_equal(text_of(attrs(&w), "cmi"), "1");
    }
    assert_int_equal(report(&w, &p.a, uri, "1", 43), ST_BAD_REQUEST);
    assert_int_equal(report(&w, &p.b, uri, "1", 20), ST_NO_PRIVILEGE);
    assert_int_equal(report(&w, &p.x, uri, "1", 20), ST_NOT_FOUND);
    assert_int_equal(report(&w, &p.a, uri, "1", 41), ST_UPDATED);
    assert_string_equal(text_of(attrs(&w), "cmi"), "2");
    pass(&w.host, (int64_t)400 * 86400000);
    assert_int_equal(get(&w, &p.a, uri), ST_NOT_FOUND);
    loop_drain(&w.host.f->loop);
    assert_int_equal(rows_of(w.store, STORE_CLIENT_CMD), 0); /* swept with its registration */
    world_close(&w);
}

/* A rule keeps back commands, not the registration that they belong to, and no step of theirs is taken meanwhile. */
static void test_commands_by_rule(void **state)
{
    struct world w = {0};
    struct people p;
    char uri[128];
    world_open(&w, *state);
    meet(&w, &p);
    enrol(&w, &p.a);
    commands_of(&w, uri);
    assert_int_equal(order(&w, uri, 1), ST_CREATED);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(put_rule(&w, ADMIN, "a", "{'effect':'deny','what':['command']}"), round == 0 ? ST_CREATED : ST_OK);
        assert_int_equal(get(&w, &p.a, uri), ST_NO_PRIVILEGE);
        assert_string_equal(w.host.code, "policy");
        assert_int_equal(report(&w, &p.a, uri, "1", 20), ST_NO_PRIVILEGE);
        assert_string_equal(w.host.code, "policy");
        assert_int_equal(report(&w, &p.b, uri, "1", 20), ST_NO_PRIVILEGE);
        assert_string_equal(w.host.code, "not-owner");
        assert_int_equal(put_rule(&w, ADMIN, "a", "{'effect':'allow','what':['command']}"), ST_OK);
        assert_int_equal(get(&w, &p.a, uri), ST_OK);
        assert_told(&w, "1", round == 0 ? 10 : 11);
    }
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_commands), T(test_no_more_commands), T(test_commands_by_rule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
