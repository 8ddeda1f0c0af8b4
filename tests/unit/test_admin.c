/* The operator REST: who may do what, and what malformed requests are told. The rooms behind it are the real ones. */
#include "tests/unit/plugin_fixture.h"

#include <openssl/opensslv.h>

#define OPS_TOKEN "ops-token-0123456789"
#define INSTALLER_TOKEN "installer-token-0123"
#define VIEWER_TOKEN "viewer-token-01234567"
#define RIVAL_TOKEN "rival-token-01234567"

#define TOKENS                                                                                                         \
    DEFAULT_CONF "[token.ops]\nfile = ops.token\nadmin-fqdn = sp.example.com\nrole = admin\n"                          \
                 "[token.fitter]\nfile = fitter.token\nadmin-fqdn = sp.example.com\nrole = installer\n"                \
                 "[token.eye]\nfile = eye.token\nadmin-fqdn = SP.example.com\n"                                        \
                 "[token.rival]\nfile = rival.token\nadmin-fqdn = other.example.com\nrole = admin\n"                      \
                 "[operator.desk]\nsan = desk.example.com\nadmin-fqdn = sp.example.com\nrole = installer\n"

static void open_admin(struct world *w, struct fixture *f)
{
    write_file(f, "ops.token", OPS_TOKEN "\n", 0600);
    write_file(f, "fitter.token", INSTALLER_TOKEN "\r\n", 0600);
    write_file(f, "eye.token", VIEWER_TOKEN, 0400);
    write_file(f, "rival.token", RIVAL_TOKEN, 0600);
    world_open_with(w, f, TOKENS);
    w->eg = eg_open(&(struct eg_deps){&w->host, &host_ops, w->conf, w->store, w->vault, w->audit, w->mef}, f->err,
                    sizeof f->err);
    if (w->eg == NULL)
        fail_msg("%s", f->err);
    w->admin = admin_open(&(struct admin_deps){&w->host, &host_ops, w->conf, w->store, w->vault, w->audit, w->mef, w->eg},
                          f->err, sizeof f->err);
    if (w->admin == NULL)
        fail_msg("%s", f->err);
}

/* "path?name=value&name=value"; token NULL: no Authorization. Returns the HTTP status; not to wait for it: 0. */
static int ask(struct world *w, const char *token, enum cse_op op, const char *target, const char *body, bool wait)
{
    char path[512], authorization[600], *save = NULL;
    struct cse_param params[8];
    size_t n = 0;
    snprintf(path, sizeof path, "%s", target);
    char *query = strchr(path, '?');
    if (query != NULL)
        *query++ = '\0';
    for (char *p = query == NULL ? NULL : strtok_r(query, "&", &save); p != NULL; p = strtok_r(NULL, "&", &save)) {
        char *value = strchr(p, '=');
        *value++ = '\0';
        params[n++] = (struct cse_param){p, value};
    }
    snprintf(authorization, sizeof authorization, "Bearer %s", token == NULL ? "" : token);
    cJSON *pc = body == NULL ? NULL : json(body);
    struct cse_request req = {
        .mount = CSE_SERVICE, .binding = CSE_HTTP, .op = op, .path = path, .params = params, .nparams = n, .ty = -1,
        .content_format = 50, .accept = CSE_NO_FORMAT, .pc = pc, .authorization = token == NULL ? NULL : authorization,
        .peer = {1, CSE_CRED_NONE, "", "[::1]:1", ""}};
    host_forget(&w->host);
    unsigned before = w->host.respond_count;
    admin_handle(w->admin, &req);
    enum st st = wait ? wait_answer(w) : ST_OK;
    if (wait)
        assert_int_equal(w->host.respond_count, before + 1);
    cJSON_Delete(pc);
    return wait ? st_map(st)->http : 0;
}

static int call(struct world *w, const char *token, enum cse_op op, const char *target, const char *body)
{
    return ask(w, token, op, target, body, true);
}

#define GET(token, target) call(w, token, CSE_RETRIEVE, target, NULL)
#define PUT(token, target, body) call(w, token, CSE_UPDATE, target, body)
#define POST(token, target, body) call(w, token, CSE_CREATE, target, body)
#define DELETE(token, target) call(w, token, CSE_DELETE, target, NULL)

#define CODE "{'installCode':'83FED3407A939723A5C639B26916D505C3B5'}"

static void test_tokens(void **state)
{
    struct world world = {0}, *w = &world;
    open_admin(w, *state);
    assert_int_equal(GET(NULL, "v1/devices"), 401);
    assert_string_equal(w->host.code, "no-token");
    const char *bad[] = {"", "x", (OPS_TOKEN "x"), "ops-token-012345678", (" " OPS_TOKEN)};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(GET(bad[i], "v1/devices"), 401);
        assert_string_equal(w->host.code, "bad-token");
    }
    assert_int_equal(GET(OPS_TOKEN, "v1/devices"), 200);
    assert_int_equal(GET(VIEWER_TOKEN, "v1/devices"), 200);
    /* a reload takes the new token and drops the old one; a bad file keeps what is there */
    struct fixture *f = *state;
    write_file(f, "ops.token", "another-token-012345", 0600);
    assert_true(admin_reload(w->admin, w->conf, f->err, sizeof f->err));
    assert_int_equal(GET(OPS_TOKEN, "v1/devices"), 401);
    assert_int_equal(GET("another-token-012345", "v1/devices"), 200);
    write_file(f, "ops.token", OPS_TOKEN, 0640);
    assert_false(admin_reload(w->admin, w->conf, f->err, sizeof f->err));
    assert_non_null(strstr(f->err, "0600"));
    assert_int_equal(GET("another-token-012345", "v1/devices"), 200);
    static const char *const contents[] = {"short", "", "two words are no token", "a token\nof two lines, too"};
    for (size_t i = 0; i < 4; i++) {
        write_file(f, "ops.token", contents[i], 0600);
        assert_false(admin_reload(w->admin, w->conf, f->err, sizeof f->err));
    }
    world_close(w);
}

/* The HTTP status of a request by whoever shows this. */
static int shown(struct world *w, enum cse_op op, enum cse_binding binding, const struct cse_peer *peer, const char *authorization)
{
    struct cse_request req = {
        .mount = CSE_SERVICE, .binding = binding, .op = op, .path = "v1/devices", .ty = -1, .content_format = 50,
        .accept = CSE_NO_FORMAT, .authorization = authorization, .peer = *peer};
    host_forget(&w->host);
    admin_handle(w->admin, &req);
    return st_map(wait_answer(w))->http;
}

static void test_certificates(void **state)
{
    static const struct cse_peer desk = {1, CSE_CRED_CERT, "desk.example.com", "[::1]:1", ""};
    static const struct cse_peer upper = {1, CSE_CRED_CERT, "Desk.example.com", "[::1]:1", ""};
    static const struct cse_peer psk = {1, CSE_CRED_PSK, "desk.example.com", "[::1]:1", ""};
    static const struct cse_peer nobody = {1, CSE_CRED_NONE, "", "[::1]:1", ""};
    struct world world = {0}, *w = &world;
    open_admin(w, *state);
    assert_int_equal(shown(w, CSE_RETRIEVE, CSE_HTTP, &desk, NULL), 200);
    assert_int_equal(shown(w, CSE_RETRIEVE, CSE_COAP, &desk, NULL), 401);
    assert_int_equal(shown(w, CSE_RETRIEVE, CSE_HTTP, &upper, NULL), 401);
    assert_int_equal(shown(w, CSE_RETRIEVE, CSE_HTTP, &psk, NULL), 401);
    assert_int_equal(shown(w, CSE_RETRIEVE, CSE_HTTP, &nobody, NULL), 401);
    assert_string_equal(w->host.code, "no-token");
    assert_int_equal(shown(w, CSE_RETRIEVE, CSE_HTTP, &desk, "Bearer nonsense-nonsense"), 401); /* a token is meant */
    assert_int_equal(shown(w, CSE_RETRIEVE, CSE_HTTP, &desk, "Bearer " VIEWER_TOKEN), 200);
    world_close(w);
}

static void test_roles(void **state)
{
    static const struct {
        enum cse_op op;
        const char *target, *body;
        int installer, viewer; /* HTTP status of each */
    } rows[] = {
        {CSE_UPDATE, "v1/install-codes/00124b0001020304", CODE, 201, 403},
        {CSE_RETRIEVE, "v1/install-codes/00124b0001020304", NULL, 200, 200},
        {CSE_RETRIEVE, "v1/install-codes", NULL, 200, 200},
        {CSE_CREATE, "v1/install-codes", "{'label':'x'}", 400, 403},
        {CSE_CREATE, "v1/devices/00124b0001020304/rearm", NULL, 200, 403},
        {CSE_RETRIEVE, "v1/devices", NULL, 200, 200},
        {CSE_DELETE, "v1/install-codes/00124b0001020304", NULL, 200, 403},
        {CSE_UPDATE, "v1/applications/a", "{'members':[]}", 403, 403},
        {CSE_RETRIEVE, "v1/applications", NULL, 403, 200},
        {CSE_DELETE, "v1/applications/a", NULL, 403, 403},
        {CSE_CREATE, "v1/credentials", "{'for':'C1','kind':'psk'}", 403, 403},
        {CSE_RETRIEVE, "v1/credentials", NULL, 403, 200},
        {CSE_UPDATE, "v1/gateways/00124b00aabbccdd", "{'identity':'x'}", 403, 403},
        {CSE_RETRIEVE, "v1/gateways", NULL, 403, 200},
        {CSE_RETRIEVE, "v1/audit", NULL, 403, 200},
        {CSE_RETRIEVE, "v1/events", NULL, 403, 406},
    };
    struct world world = {0}, *w = &world;
    open_admin(w, *state);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int viewer = call(w, VIEWER_TOKEN, rows[i].op, rows[i].target, rows[i].body);
        if (rows[i].viewer != viewer)
            fail_msg("viewer %s: %d (%s)", rows[i].target, viewer, w->host.code);
        int installer = call(w, INSTALLER_TOKEN, rows[i].op, rows[i].target, rows[i].body);
        if (rows[i].installer != installer)
            fail_msg("installer %s: %d (%s)", rows[i].target, installer, w->host.code);
        if (installer == 403)
            assert_string_equal(w->host.code, "role");
    }
    world_close(w);
}

static const struct {
    enum cse_op op;
    const char *target, *body;
    int http;
    const char *code, *field;
} malformed[] = {
    {CSE_RETRIEVE, "v1", NULL, 404, "no-such-path", ""},
    {CSE_RETRIEVE, "v1/nothing", NULL, 404, "no-such-path", ""},
    {CSE_RETRIEVE, "v1/devices/00124b0001020304/rearm", NULL, 405, "method", ""},
    {CSE_RETRIEVE, "v1/devices/", NULL, 404, "no-such-path", ""},
    {CSE_RETRIEVE, "v1/devices/1/2/3", NULL, 404, "no-such-path", ""},
    {CSE_RETRIEVE, "v1/devices/12", NULL, 400, "bad-value", "eui64"},
    {CSE_RETRIEVE, "v1/devices/00124b000102030g", NULL, 400, "bad-value", "eui64"},
    {CSE_RETRIEVE, "v1/devices/00124b0001020304", NULL, 404, "not-found", ""},
    {CSE_UPDATE, "v1/devices", "{}", 405, "method", ""},
    {CSE_DELETE, "v1/audit", NULL, 405, "method", ""},
    {CSE_CREATE, "v1/gateways", "{}", 405, "method", ""},
    {CSE_RETRIEVE, "v1/devices?limit=0", NULL, 400, "bad-value", "limit"},
    {CSE_RETRIEVE, "v1/devices?limit=1001", NULL, 400, "bad-value", "limit"},
    {CSE_RETRIEVE, "v1/devices?limit=1x", NULL, 400, "bad-value", "limit"},
    {CSE_RETRIEVE, "v1/devices?limit=99999999999999999999", NULL, 400, "bad-value", "limit"},
    {CSE_RETRIEVE, "v1/devices?after=x", NULL, 400, "bad-value", "after"},
    {CSE_RETRIEVE, "v1/devices?before=1", NULL, 400, "unknown-parameter", "before"},
    {CSE_RETRIEVE, "v1/audit?after=00124b0001020304", NULL, 400, "unknown-parameter", "after"},
    {CSE_RETRIEVE, "v1/audit?before=0", NULL, 400, "bad-value", "before"},
    {CSE_RETRIEVE, "v1/applications?x=1", NULL, 400, "unknown-parameter", "x"},
    {CSE_UPDATE, "v1/install-codes/00124b0001020304?replace=maybe", CODE, 400, "bad-value", "replace"},
    {CSE_UPDATE, "v1/install-codes/00124b0001020304", NULL, 400, "body-missing", ""},
    {CSE_UPDATE, "v1/install-codes/00124b0001020304", "{'installCode':'83FED3407A939723A5C639B26916D505C3B6'}", 400, "bad-crc", "installCode"},
    {CSE_UPDATE, "v1/applications/a", "{}", 400, "missing", "members"},
    {CSE_UPDATE, "v1/applications/a", "{'members':[],'x':1}", 400, "unknown-member", "x"},
    {CSE_UPDATE, "v1/applications/a", "{'members':['gateway:x']}", 400, "bad-value", "members"},
    {CSE_UPDATE, "v1/applications/a", "{'members':'C1'}", 400, "bad-value", "members"},
    {CSE_UPDATE, "v1/applications/a", "{'members':[],'lifetime':-1}", 400, "bad-value", "lifetime"},
    {CSE_UPDATE, "v1/applications/a", "{'members':[],'keyScope':'world'}", 400, "bad-value", "keyScope"},
    {CSE_UPDATE, "v1/applications/a b", "{'members':[]}", 400, "bad-value", "name"},
#if OPENSSL_VERSION_NUMBER >= 0x30200000L
    {CSE_CREATE, "v1/credentials", "{'for':'C1','kind':'rpk'}", 400, "bad-value", "san"},
#else
    {CSE_CREATE, "v1/credentials", "{'for':'C1','kind':'rpk'}", 501, "not-implemented", "kind"},
#endif
    {CSE_CREATE, "v1/credentials", "{'for':'C1','kind':'psk','x':1}", 400, "unknown-member", "x"},
    {CSE_CREATE, "v1/credentials", NULL, 400, "body-missing", ""},
    {CSE_DELETE, "v1/credentials/none", NULL, 404, "not-found", ""},
    {CSE_DELETE, "v1/applications/none", NULL, 404, "not-found", ""},
    {CSE_RETRIEVE, "v1/events", NULL, 406, "not-acceptable", ""},
};

static void test_malformed(void **state)
{
    struct world world = {0}, *w = &world;
    open_admin(w, *state);
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
        int http = call(w, OPS_TOKEN, malformed[i].op, malformed[i].target, malformed[i].body);
        if (http != malformed[i].http || strcmp(w->host.code, malformed[i].code) != 0 ||
            strcmp(w->host.field, malformed[i].field) != 0)
            fail_msg("%s %s: %d %s %s", malformed[i].target, malformed[i].body == NULL ? "" : malformed[i].body, http,
                     w->host.code, w->host.field);
    }
    char name[400] = "v1/credentials/", *p = name + strlen(name);
    memset(p, 'x', 350);
    assert_int_equal(GET(OPS_TOKEN, name), 404);
    world_close(w);
}

static void test_strangers_do_not_fill_the_trail(void **state)
{
    struct world world = {0}, *w = &world;
    open_admin(w, *state);
    unsigned before = rows_of(w->store, STORE_AUDIT);
    for (int i = 0; i < 20; i++) {
        char path[40];
        snprintf(path, sizeof path, "v1/devices/%016d", i);
        assert_int_equal(GET(i % 2 == 0 ? NULL : "no-such-token-0123", path), 401);
    }
    assert_int_equal(rows_of(w->store, STORE_AUDIT), before + 2); /* no-token, bad-token */
    world_close(w);
}

/* What somebody is refused for may not yet be durable: a crash would make it a lie. */
static void test_refusals_wait(void **state)
{
    struct world world = {0}, *w = &world;
    open_admin(w, *state);
    ask(w, OPS_TOKEN, CSE_UPDATE, "v1/install-codes/00124b0001020304", CODE, false);
    assert_false(w->host.answered);
    ask(w, RIVAL_TOKEN, CSE_UPDATE, "v1/install-codes/00124b0001020304", CODE, false);
    assert_false(w->host.answered);
    while (w->host.respond_count < 2)
        loop_step(&w->host.f->loop);
    assert_int_equal(st_map(w->host.rsp.status)->http, 409);
    world_close(w);
}

/* The key is shown once; `where`: the credential's path. */
static void credentials_and_applications(struct world *w, char where[160], char kpm_id[128])
{
    assert_int_equal(POST(OPS_TOKEN, "v1/credentials", "{'for':'gateway:hall','kind':'psk'}"), 201);
    assert_true(w->host.rsp.sensitive);
    assert_int_equal(strlen(text_of(w->host.rsp.pc, "kpm")), 64);
    snprintf(kpm_id, 128, "%s", text_of(w->host.rsp.pc, "kpmId"));
    snprintf(where, 160, "v1/credentials/%s", kpm_id);
    assert_string_equal(w->host.location, where);
    assert_int_equal(GET(OPS_TOKEN, where), 200);
    assert_null(member(w->host.rsp.pc, "kpm"));
    assert_int_equal(GET(RIVAL_TOKEN, where), 404);
    assert_int_equal(DELETE(RIVAL_TOKEN, where), 404);
    assert_int_equal(GET(OPS_TOKEN, "v1/credentials"), 200);
    assert_int_equal(cJSON_GetArraySize(w->host.rsp.pc), 1);
    assert_int_equal(PUT(OPS_TOKEN, "v1/applications/lights", "{'keyScope':'device','members':['C1','C1','S2'],'lifetime':3600}"), 201);
    assert_string_equal(w->host.location, "v1/applications/lights");
    assert_int_equal(cJSON_GetArraySize(member(w->host.rsp.pc, "members")), 2);
    assert_int_equal(PUT(OPS_TOKEN, "v1/applications/lights", "{'members':['C1']}"), 200);
    assert_int_equal(GET(RIVAL_TOKEN, "v1/applications/lights"), 404);
    assert_int_equal(PUT(RIVAL_TOKEN, "v1/applications/lights", "{'members':['C9']}"), 201); /* its own */
    assert_true(mef_application_member(w->mef, ADMIN, "lights", "//sp.example.com/in-cse/C1"));
    assert_false(mef_application_member(w->mef, ADMIN, "lights", "//sp.example.com/in-cse/C9"));
    assert_int_equal(mef_application_lifetime(w->mef, ADMIN, "lights"), 0);
}

/* They go to the gateway room. */
static void codes_and_gateways(struct world *w, const char *kpm_id)
{
    assert_int_equal(PUT(OPS_TOKEN, "v1/install-codes/00124b0001020304", CODE), 201);
    assert_int_equal(PUT(OPS_TOKEN, "v1/install-codes/00124b0001020304", CODE), 200);
    assert_int_equal(GET(OPS_TOKEN, "v1/install-codes/00:12:4b:00:01:02:03:04"), 200);
    char *shown = cJSON_PrintUnformatted(w->host.rsp.pc);
    assert_null(strcasestr(shown, "83FED3407A93"));
    free(shown);
    assert_int_equal(GET(RIVAL_TOKEN, "v1/install-codes/00124b0001020304"), 404);
    char body[200];
    snprintf(body, sizeof body, "{'identity':'%s'}", kpm_id);
    assert_int_equal(PUT(OPS_TOKEN, "v1/gateways/00124b00aabbccdd", body), 201);
    assert_int_equal(GET(OPS_TOKEN, "v1/gateways/00124b00aabbccdd"), 200);
    assert_int_equal(GET(OPS_TOKEN, "v1/devices/00124b0001020304"), 200);
    assert_string_equal(text_of(w->host.rsp.pc, "state"), "registered");
}

static void pages(struct world *w)
{
    char path[200];
    assert_int_equal(PUT(OPS_TOKEN, "v1/install-codes/00124b0001020305", CODE), 201);
    assert_int_equal(GET(OPS_TOKEN, "v1/install-codes?limit=1"), 200);
    assert_int_equal(cJSON_GetArraySize(w->host.rsp.pc), 1);
    assert_int_equal(GET(OPS_TOKEN, "v1/install-codes?after=00124b0001020304&limit=10"), 200);
    assert_int_equal(cJSON_GetArraySize(w->host.rsp.pc), 1);
    assert_string_equal(text_of(cJSON_GetArrayItem(w->host.rsp.pc, 0), "eui64"), "00124b0001020305");
    const char *names[] = {"z", "b", "m", "a", "q"};
    for (size_t i = 0; i < 5; i++) {
        snprintf(path, sizeof path, "v1/applications/%s", names[i]);
        assert_int_equal(PUT(OPS_TOKEN, path, "{'members':[]}"), 201);
    }
    assert_int_equal(GET(OPS_TOKEN, "v1/applications?limit=2"), 200);
    assert_int_equal(cJSON_GetArraySize(w->host.rsp.pc), 2);
    assert_string_equal(text_of(cJSON_GetArrayItem(w->host.rsp.pc, 1), "name"), "b");
    assert_int_equal(GET(OPS_TOKEN, "v1/applications?limit=3&after=b"), 200);
    const char *middle[] = {"lights", "m", "q"};
    for (int i = 0; i < 3; i++)
        assert_string_equal(text_of(cJSON_GetArrayItem(w->host.rsp.pc, i), "name"), middle[i]);
    assert_int_equal(GET(OPS_TOKEN, "v1/applications?after=q"), 200);
    assert_int_equal(cJSON_GetArraySize(w->host.rsp.pc), 1);
}

static void test_objects(void **state)
{
    struct world world = {0}, *w = &world;
    char where[160], kpm_id[128];
    open_admin(w, *state);
    credentials_and_applications(w, where, kpm_id);
    codes_and_gateways(w, kpm_id);
    pages(w);
    /* all of it is there after a restart, and in the trail */
    world_close(w);
    open_admin(w, *state);
    assert_int_equal(GET(OPS_TOKEN, "v1/applications/lights"), 200);
    assert_int_equal(GET(OPS_TOKEN, where), 200);
    assert_int_equal(GET(OPS_TOKEN, "v1/install-codes"), 200);
    assert_int_equal(cJSON_GetArraySize(w->host.rsp.pc), 2);
    assert_int_equal(DELETE(OPS_TOKEN, where), 200);
    assert_int_equal(DELETE(OPS_TOKEN, "v1/applications/lights"), 200);
    assert_int_equal(GET(OPS_TOKEN, "v1/audit?limit=2"), 200);
    assert_int_equal(cJSON_GetArraySize(w->host.rsp.pc), 2);
    const cJSON *newest = cJSON_GetArrayItem(w->host.rsp.pc, 0);
    assert_string_equal(text_of(newest, "action"), "application.delete");
    assert_string_equal(text_of(newest, "actor"), "operator:ops");
    world_close(w);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {T(test_tokens), T(test_certificates), T(test_roles), T(test_malformed), T(test_refusals_wait),
                                       T(test_strangers_do_not_fill_the_trail), T(test_objects)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
