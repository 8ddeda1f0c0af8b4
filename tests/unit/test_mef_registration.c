/* Client registrations, and what every primitive is refused for. */
#include "tests/unit/mef_fixture.h"

static void test_registration(void **state)
{
    struct world w = {0};
    struct people p;
    char path[128], second[128];
    world_open(&w, *state);
    meet(&w, &p);
    assert_int_equal(create(&w, &p.a, MEF_TY_CLIENT_REG,
                            "{'sec:mecr':{'et':'99991231T235959','adfq':'SP.example.com','lbl':['one','two:2']}}"),
                     ST_CREATED);
    location(&w, path);
    assert_int_equal(member(attrs(&w), "ty")->valueint, MEF_TY_CLIENT_REG);
    assert_string_equal(text_of(attrs(&w), "adfq"), ADMIN);
    assert_string_equal(text_of(attrs(&w), "srci"), "//sp.example.com/in-cse/C-a");
    assert_string_equal(text_of(attrs(&w), "et"), "20271121T000000"); /* cut to max-registration-lifetime */
    assert_int_equal(cJSON_GetArraySize(member(attrs(&w), "lbl")), 2);
    assert_int_equal(create(&w, &p.a, MEF_TY_CLIENT_REG, "{'sec:mecr':{'et':'" LATER "','adfq':'sp.example.com'}}"), ST_ALREADY_REGISTERED);
    assert_int_equal(create(&w, &p.x, MEF_TY_CLIENT_REG, "{'sec:mecr':{'et':'" LATER "','adfq':'sp.example.com'}}"), ST_NO_PRIVILEGE);
    assert_int_equal(create(&w, &p.g, MEF_TY_CLIENT_REG, "{'sec:mecr':{'et':'" LATER "','adfq':'sp.example.com'}}"), ST_NO_PRIVILEGE);
    assert_int_equal(get(&w, &p.a, path), ST_OK);
    assert_int_equal(get(&w, &p.b, path), ST_NO_PRIVILEGE);
    assert_int_equal(get(&w, &p.x, path), ST_NOT_FOUND); /* another stakeholder's */
    assert_int_equal(ask(&w, &p.a, CSE_UPDATE, path, -1, "{'sec:mecr':{'et':'20270201T000000'}}", NULL, 0), ST_UPDATED);
    assert_string_equal(text_of(attrs(&w), "et"), "20270201T000000");
    assert_int_equal(cJSON_GetArraySize(attrs(&w)), 1);
    assert_int_equal(ask(&w, &p.a, CSE_UPDATE, path, -1, "{'sec:mecr':{'lbl':null}}", NULL, 0), ST_UPDATED);
    assert_int_equal(ask(&w, &p.a, CSE_UPDATE, path, -1, "{'sec:mecr':{}}", NULL, 0), ST_BAD_REQUEST);
    assert_int_equal(ask(&w, &p.b, CSE_UPDATE, path, -1, "{'sec:mecr':{'et':'20270201T000000'}}", NULL, 0), ST_NO_PRIVILEGE);
    assert_int_equal(ask(&w, &p.a, CSE_CREATE, path, MEF_TY_CLIENT_CMD, "{'sec:mecc':{}}", NULL, 0), ST_NOT_ALLOWED);
    assert_int_equal(ask(&w, &p.a, CSE_CREATE, path, MEF_TY_KEY_REG, "{'sec:skr':{}}", NULL, 0), ST_INVALID_CHILD);
    world_close(&w);
    world_open(&w, *state); /* it is durable */
    assert_int_equal(get(&w, &p.a, path), ST_OK);
    assert_null(member(attrs(&w), "lbl"));
    pass(&w.host, (int64_t)80 * 86400 * 1000); /* past et: gone, and the client may register anew */
    assert_int_equal(get(&w, &p.a, path), ST_NOT_FOUND);
    assert_int_equal(create(&w, &p.a, MEF_TY_CLIENT_REG, "{'sec:mecr':{'et':'20280101T000000','adfq':'sp.example.com'}}"), ST_CREATED);
    location(&w, second);
    assert_int_equal(ask(&w, &p.b, CSE_DELETE, second, -1, NULL, NULL, 0), ST_NO_PRIVILEGE);
    assert_int_equal(ask(&w, &p.a, CSE_DELETE, second, -1, NULL, NULL, 0), ST_DELETED);
    assert_int_equal(get(&w, &p.a, second), ST_NOT_FOUND);
    world_close(&w);
}

/* An expired one that nobody asks for is swept; the client that registers over it gets a new one. */
static void test_expiry(void **state)
{
    struct world w = {0};
    struct people p;
    world_open_with(&w, *state, DEFAULT_CONF "max-registrations = 1\n");
    meet(&w, &p);
    assert_int_equal(create(&w, &p.a, MEF_TY_CLIENT_REG, "{'sec:mecr':{'et':'20261121T000010','adfq':'sp.example.com'}}"), ST_CREATED);
    assert_int_equal(create(&w, &p.b, MEF_TY_CLIENT_REG, "{'sec:mecr':{'et':'" LATER "','adfq':'sp.example.com'}}"), ST_TOO_MANY);
    pass(&w.host, 31000);
    assert_int_equal(create(&w, &p.b, MEF_TY_CLIENT_REG, "{'sec:mecr':{'et':'" LATER "','adfq':'sp.example.com'}}"), ST_CREATED);
    world_close(&w);
}

/* Time alone ends things, whether or not they were swept. */
static void test_expired_unswept(void **state)
{
    struct world w = {0};
    struct people p;
    char path[128];
    world_open(&w, *state);
    meet(&w, &p);
    const char *brief = "{'sec:mecr':{'et':'20261121T000010','adfq':'sp.example.com'}}";
    const char *key = "{'sec:skr':{'et':'20261121T000010','adfq':'sp.example.com','suid':24,'tgis':['C-b'],'kv':'" KEY16 "'}}";
    assert_int_equal(create(&w, &p.a, MEF_TY_CLIENT_REG, brief), ST_CREATED);
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, key), ST_CREATED);
    location(&w, path);
    assert_int_equal(get(&w, &p.b, path), ST_OK);
    w.host.wall += 10000;
    assert_int_equal(get(&w, &p.b, path), ST_NOT_FOUND);
    key = "{'sec:skr':{'et':'20261122T000000','adfq':'sp.example.com','suid':24,'tgis':['C-b'],'kv':'" KEY16 "'}}";
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, key), ST_NO_PRIVILEGE);
    assert_string_equal(w.host.code, "not-registered");
    enrol(&w, &p.a); /* over the expired one */
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, key), ST_CREATED);
    world_close(&w);
}

/* No answer leaves before what it tells is on disk: a change, and a read of what was just changed. */
static void test_durable_first(void **state)
{
    struct world w = {0};
    struct people p;
    world_open(&w, *state);
    meet(&w, &p);
    cJSON *pc = json("{'sec:mecr':{'et':'" LATER "','adfq':'sp.example.com'}}");
    struct cse_request req = {.mount = CSE_PRIMITIVE, .op = CSE_CREATE, .path = "mef", .from = "C-a",
                              .ty = MEF_TY_CLIENT_REG, .pc = pc, .peer = {1, CSE_CRED_PSK, p.a_id, "", ""}};
    struct cse_request find_all = req, absent = req;
    const struct cse_param fu[] = {{"fu", "1"}};
    find_all.op = absent.op = CSE_RETRIEVE;
    find_all.params = fu;
    find_all.nparams = 1;
    absent.path = "mef/none";
    host_forget(&w.host);
    unsigned before = w.host.respond_count;
    mef_handle(w.mef, &req);
    mef_handle(w.mef, &find_all);
    mef_handle(w.mef, &absent);
    assert_int_equal(w.host.respond_count, before);
    while (w.host.respond_count < before + 3)
        loop_step(&w.host.f->loop);
    assert_int_equal(w.host.rsp.status, ST_NOT_FOUND); /* in order */
    cJSON_Delete(pc);
    world_close(&w);
}

static void test_malformed(void **state)
{
    static const struct {
        enum cse_op op;
        const char *path;
        int ty;
        const char *body;
        enum st st;
    } rows[] = {
        {CSE_CREATE, "mef", -1, "{'sec:mecr':{'et':'" LATER "','adfq':'sp.example.com'}}", ST_BAD_REQUEST},
        {CSE_CREATE, "mef", MEF_TY_BASE, "{}", ST_NOT_ALLOWED},
        {CSE_CREATE, "mef", MEF_TY_CLIENT_CMD, "{'sec:mecc':{}}", ST_INVALID_CHILD},
        {CSE_CREATE, "mef", 3, "{'m2m:cnt':{}}", ST_INVALID_CHILD},
        {CSE_CREATE, "mef", 60009, "{'x':{}}", ST_NOT_IMPLEMENTED},
        {CSE_UPDATE, "mef", -1, "{'sec:MEFB':{'lbl':[]}}", ST_NOT_ALLOWED},
        {CSE_DELETE, "mef", -1, NULL, ST_NOT_ALLOWED},
        {CSE_NOTIFY, "mef", -1, NULL, ST_NOT_ALLOWED},
        {CSE_RETRIEVE, "mef/none", -1, NULL, ST_NOT_FOUND},
        {CSE_RETRIEVE, "mef/0123456789abcdef0123456789abcdef0", -1, NULL, ST_NOT_FOUND},
        {CSE_RETRIEVE, "mef/a/b", -1, NULL, ST_NOT_FOUND},
        {CSE_RETRIEVE, "mef/", -1, NULL, ST_NOT_FOUND},
        {CSE_CREATE, "mef", MEF_TY_CLIENT_REG, NULL, ST_BAD_REQUEST},
        {CSE_CREATE, "mef", MEF_TY_CLIENT_REG, "[]", ST_BAD_REQUEST},
        {CSE_CREATE, "mef", MEF_TY_CLIENT_REG, "{}", ST_BAD_REQUEST},
        {CSE_CREATE, "mef", MEF_TY_CLIENT_REG, "{'sec:mecr':[]}", ST_BAD_REQUEST},
        {CSE_CREATE, "mef", MEF_TY_CLIENT_REG, "{'sec:skr':{'et':'" LATER "','adfq':'sp.example.com'}}", ST_BAD_REQUEST},
        {CSE_CREATE, "mef", MEF_TY_CLIENT_REG, "{'sec:mecr':{'et':'" LATER "','adfq':'sp.example.com'},'x':1}", ST_BAD_REQUEST},
        {CSE_CREATE, "mef", MEF_TY_CLIENT_REG, "{'sec:mecr':{'adfq':'sp.example.com'}}", ST_BAD_REQUEST},
        {CSE_CREATE, "mef", MEF_TY_CLIENT_REG, "{'sec:mecr':{'et':'" LATER "'}}", ST_BAD_REQUEST},
        {CSE_CREATE, "mef", MEF_TY_CLIENT_REG, "{'sec:mecr':{'et':'20261120T235959','adfq':'sp.example.com'}}", ST_BAD_REQUEST},
        {CSE_CREATE, "mef", MEF_TY_CLIENT_REG, "{'sec:mecr':{'et':'20270231T000000','adfq':'sp.example.com'}}", ST_BAD_REQUEST},
        {CSE_CREATE, "mef", MEF_TY_CLIENT_REG, "{'sec:mecr':{'et':20270101,'adfq':'sp.example.com'}}", ST_BAD_REQUEST},
        {CSE_CREATE, "mef", MEF_TY_CLIENT_REG, "{'sec:mecr':{'et':'" LATER "','adfq':'sp example com'}}", ST_BAD_REQUEST},
        {CSE_CREATE, "mef", MEF_TY_CLIENT_REG, "{'sec:mecr':{'et':'" LATER "','adfq':'sp.example.com','ri':'x'}}", ST_BAD_REQUEST},
        {CSE_CREATE, "mef", MEF_TY_CLIENT_REG, "{'sec:mecr':{'et':'" LATER "','adfq':'sp.example.com','srci':'C-a'}}", ST_BAD_REQUEST},
        {CSE_CREATE, "mef", MEF_TY_CLIENT_REG, "{'sec:mecr':{'et':'" LATER "','adfq':'sp.example.com','foo':'C-a'}}", ST_BAD_REQUEST},
        {CSE_CREATE, "mef", MEF_TY_CLIENT_REG, "{'sec:mecr':{'et':'" LATER "','adfq':'sp.example.com','lbl':'one'}}", ST_BAD_REQUEST},
        {CSE_CREATE, "mef", MEF_TY_CLIENT_REG, "{'sec:mecr':{'et':'" LATER "','adfq':'sp.example.com','lbl':['']}}", ST_BAD_REQUEST},
        {CSE_CREATE, "mef", MEF_TY_CLIENT_REG, "{'sec:mecr':{'et':'" LATER "','adfq':'sp.example.com','lbl':[1]}}", ST_BAD_REQUEST},
        {CSE_CREATE, "mef", MEF_TY_CLIENT_REG, "{'sec:mecr':{'et':'" LATER "','adfq':'sp.example.com','lbl':null}}", ST_BAD_REQUEST},
        {CSE_CREATE, "mef", MEF_TY_CLIENT_REG, "{'sec:mecr':{'et':'" LATER "','adfq':'sp.example.com','lbl':['1','2','3','4','5','6','7','8','9','a','b','c','d','e','f','g','h']}}", ST_BAD_REQUEST},
    };
    struct world w = {0};
    struct people p;
    world_open(&w, *state);
    meet(&w, &p);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        enum st st = ask(&w, &p.a, rows[i].op, rows[i].path, rows[i].ty, rows[i].body, NULL, 0);
        if (st != rows[i].st)
            fail_msg("%s %s: %d (%s)", rows[i].path, rows[i].body == NULL ? "" : rows[i].body, st, w.host.code);
        assert_null(w.host.rsp.pc);
    }
    enrol(&w, &p.a); /* none of them left a registration */
    world_close(&w);
}

static void test_result_content(void **state)
{
    struct world w = {0};
    struct people p;
    char path[128];
    world_open(&w, *state);
    meet(&w, &p);
    const struct cse_param nothing[] = {{"rcn", "0"}}, attributes[] = {{"rcn", "1"}}, odd[] = {{"rcn", "4"}};
    const char *body = "{'sec:mecr':{'et':'" LATER "','adfq':'sp.example.com'}}";
    assert_int_equal(ask(&w, &p.a, CSE_CREATE, "mef", MEF_TY_CLIENT_REG, body, odd, 1), ST_BAD_REQUEST);
    assert_int_equal(ask(&w, &p.a, CSE_CREATE, "mef", MEF_TY_CLIENT_REG, body, nothing, 1), ST_CREATED);
    assert_null(w.host.rsp.pc);
    location(&w, path);
    assert_int_equal(ask(&w, &p.a, CSE_RETRIEVE, path, -1, NULL, attributes, 1), ST_OK);
    assert_int_equal(ask(&w, &p.a, CSE_RETRIEVE, path, -1, NULL, nothing, 1), ST_BAD_REQUEST);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_registration), T(test_expiry), T(test_expired_unswept), T(test_durable_first), T(test_malformed),
        T(test_result_content),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
