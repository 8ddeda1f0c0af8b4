/* Every allocation fails once: the answer is a refusal or none the worse for it, nothing is leaked (the sanitizers watch),
 * and the same asked again succeeds. Each step is tried with its first allocation failing, then its second, and so on
 * until it gets by without one. */
#include "config/names.h"
#include "tests/unit/eg_fixture.h"
#include "tests/unit/oom.h"

#define MOST 500 /* no step allocates as often as that */

static eui64_t device_of(unsigned long n) { return 0x00158d0003000000u + n; }

static void path_of(char out[64], const char *kind, unsigned long n, const char *more)
{
    snprintf(out, 64, "mef/eg/%s/%016llx%s", kind, (unsigned long long)device_of(n), more);
}

static bool good(enum st st) { return st == ST_OK || st == ST_CREATED || st == ST_UPDATED || st == ST_DELETED; }

/* --- operator: each step in a transaction of its own -------------------------------------------------------------- */

/* Who is asked about, and which allocation fails (0: none). */
struct ask {
    unsigned long n, fail;
};
typedef void (*operator_step)(struct world *w, struct store_txn *t, struct ask a, struct mef_result *r);

static void code_put(struct world *w, struct store_txn *t, struct ask a, struct mef_result *r)
{
    cJSON *in = cJSON_Parse("{\"installCode\":\"" CODE "\",\"application\":\"room\",\"targets\":[\"" AE "\"],"
                            "\"gateways\":[\"00124b001ca1b2c3\"]}");
    oom_at(a.fail);
    eg_code_put(w->eg, t, ADMIN, "operator:test", device_of(a.n), in, false, r);
    cJSON_Delete(in);
}

static void code_replace(struct world *w, struct store_txn *t, struct ask a, struct mef_result *r)
{
    cJSON *in = cJSON_Parse("{\"linkKey\":\"00112233445566778899aabbccddeef0\",\"targets\":[\"" AE "\"]}");
    oom_at(a.fail);
    eg_code_put(w->eg, t, ADMIN, "operator:test", device_of(a.n), in, true, r);
    cJSON_Delete(in);
}

static void code_label(struct world *w, struct store_txn *t, struct ask a, struct mef_result *r)
{
    char label[128];
    snprintf(label, sizeof label, "{\"label\":\"Z:%016llX$I:" CODE "\"}", (unsigned long long)device_of(a.n));
    cJSON *in = cJSON_Parse(label);
    oom_at(a.fail);
    eg_code_label(w->eg, t, ADMIN, "operator:test", in, r);
    cJSON_Delete(in);
}

static void gateway_put(struct world *w, struct store_txn *t, struct ask a, struct mef_result *r)
{
    char text[256];
    snprintf(text, sizeof text, "{\"identity\":\"%s\",\"name\":\"hall\",\"applications\":[\"room\"]}", w->gw);
    cJSON *in = cJSON_Parse(text);
    oom_at(a.fail);
    eg_gateway_put(w->eg, t, ADMIN, "operator:test", 0x00124b0000000000u + a.n, in, r);
    cJSON_Delete(in);
}

static void credential(struct world *w, struct store_txn *t, struct ask a, struct mef_result *r)
{
    cJSON *in = cJSON_Parse("{\"for\":\"gateway:cellar\",\"kind\":\"psk\"}");
    oom_at(a.fail);
    mef_credential_create(w->mef, t, ADMIN, "operator:test", in, r);
    cJSON_Delete(in);
}

static void certificate(struct world *w, struct store_txn *t, struct ask a, struct mef_result *r)
{
    char text[128];
    snprintf(text, sizeof text, "{\"for\":\"gateway:loft\",\"kind\":\"certificate\",\"san\":\"gw%lu.example.com\"}", a.n);
    cJSON *in = cJSON_Parse(text);
    oom_at(a.fail);
    mef_credential_create(w->mef, t, ADMIN, "operator:test", in, r);
    cJSON_Delete(in);
}

#define DEV_CFG                                                                                                        \
    "{\"cmdClassID\":2,\"cmdArgs\":{\"devCfgCmdArgs\":{\"deviceConfigURI\":\"1:https://mef.example.org/\"}}}"

static void rule(struct world *w, struct store_txn *t, struct ask a, struct mef_result *r)
{
    cJSON *in = cJSON_Parse("{\"effect\":\"allow\",\"what\":[\"register\",\"deposit\"],\"ids\":[\"" AE "\",\"//a.b/*\"],\"labels\":[\"x\"],"
                            "\"networks\":[\"192.0.2.0/24\"],\"targets\":[\"" AE "\"],\"commands\":[" DEV_CFG "]}");
    char name[32];
    snprintf(name, sizeof name, "rule%lu", a.n);
    oom_at(a.fail);
    mef_policy_put(w->mef, t, ADMIN, "operator:test", name, in, r);
    cJSON_Delete(in);
}

static void revoke_device(struct world *w, struct store_txn *t, struct ask a, struct mef_result *r)
{
    oom_at(a.fail);
    eg_device_action(w->eg, t, ADMIN, "operator:test", device_of(a.n), "revoke", r);
}

static void rearm(struct world *w, struct store_txn *t, struct ask a, struct mef_result *r)
{
    oom_at(a.fail);
    eg_device_action(w->eg, t, ADMIN, "operator:test", device_of(a.n), "rearm", r);
}

static void code_delete(struct world *w, struct store_txn *t, struct ask a, struct mef_result *r)
{
    oom_at(a.fail);
    eg_code_delete(w->eg, t, ADMIN, "operator:test", device_of(a.n), r);
}

static char registration[33];

static void command_create(struct world *w, struct store_txn *t, struct ask a, struct mef_result *r)
{
    cJSON *in = cJSON_Parse(DEV_CFG);
    oom_at(a.fail);
    mef_command_create(w->mef, t, ADMIN, "operator:test", registration, in, r);
    cJSON_Delete(in);
}

static void configuration(struct world *w, struct store_txn *t, struct ask a, struct mef_result *r)
{
    cJSON *in = cJSON_Parse("{\"fqdn\":\"mef.example.com\",\"adminFQDN\":\"sp.example.com\"}");
    oom_at(a.fail);
    mef_configuration_put(w->mef, t, ADMIN, "operator:test", registration, in, r);
    cJSON_Delete(in);
}

static bool operator_asks(struct world *w, operator_step step, struct ask a, enum st *st)
{
    struct mef_result r = {0};
    struct store_txn *t = store_begin(w->store);
    step(w, t, a, &r);
    bool struck = oom_end();
    finish(w, t, &r);
    free_result(&r);
    *st = r.st;
    return struck;
}

static void an_operators_request(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *name;
        operator_step step;
        enum { NOTHING, REGISTERED, ENROLLED } before;
    } steps[] = {{"code", code_put, NOTHING},          {"label", code_label, NOTHING},
                 {"gateway", gateway_put, NOTHING},    {"credential", credential, NOTHING},
                 {"replace", code_replace, ENROLLED},  {"revoke", revoke_device, ENROLLED},
                 {"rearm", rearm, ENROLLED},           {"delete", code_delete, REGISTERED},
                 {"certificate", certificate, NOTHING}, {"rule", rule, NOTHING}};
    unsigned long device = 0;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        bool struck = true;
        for (unsigned long fail = 1; struck; fail++) {
            enum st st;
            assert_in_range(fail, 1, MOST);
            device++;
            w->h.nnotes = w->h.nsent = 0;
            if (steps[i].before == ENROLLED)
                enrol(w, device_of(device), device);
            if (steps[i].before == REGISTERED)
                assert_int_equal(put_code(w, device_of(device), A_CODE), ST_CREATED);
            struck = operator_asks(w, steps[i].step, (struct ask){device, fail}, &st);
            if (!good(st))
                operator_asks(w, steps[i].step, (struct ask){device, 0}, &st);
            if (!good(st))
                fail_msg("%s: %d, after allocation %lu failed", steps[i].name, (int)st, fail);
        }
    }
}

/* --- gateway and AE ------------------------------------------------------------------------------------------------ */

/* The request is answered once, and whatever the answer, the same asked again is answered well. */
static void ask_again(struct world *w, const char *name, enum cse_op op, const char *path, struct span body,
                      uint64_t session, const char *identity, unsigned long fail, bool *struck)
{
    struct call c;
    oom_at(fail);
    begin(w, &c, op, path, body, session, identity);
    *struck = oom_end();
    for (size_t i = 0; i < w->h.nsent; i++)
        w->h.sent[i].done(w->h.sent[i].user, ST_UPDATED, (struct span){0});
    w->h.nsent = 0;
    end(w, &c);
    cJSON_Delete(c.pc);
    if (w->h.ended) /* and systemd starts it again */
        reopen(w);
    if (good(c.st))
        return;
    begin(w, &c, op, path, body, session, identity);
    for (size_t i = 0; i < w->h.nsent; i++)
        w->h.sent[i].done(w->h.sent[i].user, ST_UPDATED, (struct span){0});
    w->h.nsent = 0;
    end(w, &c);
    cJSON_Delete(c.pc);
    if (!good(c.st))
        fail_msg("%s: %d %s, after allocation %lu failed", name, (int)c.st, c.code, fail);
}

static struct span encoded(const struct egp_message *m, uint8_t buf[EGP_MAX_MESSAGE])
{
    struct wr out = wr_of(buf, EGP_MAX_MESSAGE);
    assert_true(egp_encode(m, &out));
    return wr_span(&out);
}

static void a_gateways_request(void **state)
{
    struct world *w = *state;
    bool struck = w->h.may_end = true;
    for (unsigned long n = 1; struck; n++) {
        uint8_t buf[EGP_MAX_MESSAGE];
        struct call c;
        assert_in_range(n, 1, MOST);
        assert_int_equal(put_code(w, device_of(n), A_CODE), ST_CREATED);
        struct egp_message m = request_message(GW, device_of(n), n);
        ask_again(w, "EgRequest", CSE_CREATE, "mef/eg", encoded(&m, buf), S_GW, w->gw, n, &struck);
        /* Whatever became of the first, the same transaction now has its packet, and the device opens it. */
        assert_int_equal(ask(w, GW, device_of(n), n, &c), EGP_OK);
        (void)learn(w, &c, CODE_KEY);
    }
}

static void the_proving_frame(void **state)
{
    struct world *w = *state;
    bool struck = w->h.may_end = true;
    for (unsigned long n = 1; struck; n++) {
        uint8_t buf[EGP_MAX_MESSAGE];
        struct call c;
        assert_in_range(n, 1, MOST);
        assert_int_equal(put_code(w, device_of(n), A_CODE), ST_CREATED);
        assert_int_equal(ask(w, GW, device_of(n), n, &c), EGP_OK);
        struct first_key k = learn(w, &c, CODE_KEY);
        struct frame_bytes f = reading(w, k.key, device_of(n), 5);
        struct egp_message m = {.env = {EGP_VERSION, EGP_UPLINK, 77, GW, 0, EGP_TO_EG, 15, -50}};
        m.u.frame = (struct egp_frame){.hop = SHORT, .lqi = 200, .nwk_frame = span_of(f.p, f.n)};
        ask_again(w, "UplinkFrame", CSE_CREATE, "mef/eg", encoded(&m, buf), S_GW, w->gw, n, &struck);
        f = reading(w, k.key, device_of(n), 6);
        uplink(w, GW, &f); /* the next one, had the first been lost */
        expect_device(w, device_of(n), "joining", NULL);
        w->h.nnotes = w->h.nsent = 0;
    }
}

static void an_aes_request(void **state)
{
    struct world *w = *state;
    static const struct {
        enum cse_op op;
        const char *kind, *more;
    } asks[] = {{CSE_RETRIEVE, "devices", ""}, {CSE_RETRIEVE, "frames", ""}, {CSE_CREATE, "devices", "/ticket"}};
    unsigned long device = 0;
    w->h.may_end = true;
    for (size_t i = 0; i < sizeof asks / sizeof asks[0]; i++) {
        bool struck = true;
        for (unsigned long fail = 1; struck; fail++) {
            char path[64];
            assert_in_range(fail, 1, MOST);
            device++;
            enrol(w, device_of(device), device);
            path_of(path, asks[i].kind, device, asks[i].more);
            ask_again(w, path, asks[i].op, path, (struct span){0}, S_AE, w->ae, fail, &struck);
            w->h.nnotes = w->h.nsent = 0;
        }
    }
}

/* --- a MEF client and its commands --------------------------------------------------------------------------------- */

static void primitive(struct world *w, struct call *c, enum cse_op op, const char *path, int ty, const char *body,
                      unsigned long fail, bool *struck)
{
    cJSON *pc = body == NULL ? NULL : cJSON_Parse(body);
    *c = (struct call){.req = {.mount = CSE_PRIMITIVE, .binding = CSE_COAP, .op = op, .path = path, .ty = ty, .from = AE,
                               .pc = pc, .content_format = 50, .accept = CSE_NO_FORMAT,
                               .peer = {S_AE, CSE_CRED_PSK, w->ae, "192.0.2.1:5684", ""}}};
    oom_at(fail);
    mef_handle(w->mef, &c->req);
    *struck = oom_end();
    end(w, c);
    cJSON_Delete(pc);
    if (!w->h.ended)
        return;
    c->st = ST_UNAVAILABLE; /* the answer did not leave any more */
    reopen(w);
}

/* The cmdID of what the client is told in the end, asked as often as it takes. */
static void told(struct world *w, enum cse_op op, const char *path, char cmd[24], unsigned long fail, bool *struck)
{
    struct call c;
    char body[128];
    snprintf(body, sizeof body, "{\"sec:mecc\":{\"cmi\":\"%s\",\"cmst\":20}}", cmd);
    const char *content = op == CSE_UPDATE ? body : NULL;
    primitive(w, &c, op, path, -1, content, fail, struck);
    if (!good(c.st)) {
        bool again;
        cJSON_Delete(c.pc);
        primitive(w, &c, op, path, -1, content, 0, &again);
    }
    if (!good(c.st))
        fail_msg("%s: %d %s, after allocation %lu failed", path, (int)c.st, c.code, fail);
    const cJSON *cmi = c.pc == NULL ? NULL : cJSON_GetObjectItemCaseSensitive(c.pc->child, "cmi");
    assert_non_null(cmi);
    snprintf(cmd, 24, "%s", cmi->valuestring);
    cJSON_Delete(c.pc);
}

static void order(struct world *w, operator_step step)
{
    bool struck = true;
    for (unsigned long fail = 1; struck; fail++) {
        enum st st;
        assert_in_range(fail, 1, MOST);
        struck = operator_asks(w, step, (struct ask){0, fail}, &st);
        if (!good(st))
            operator_asks(w, step, (struct ask){0, 0}, &st);
        if (!good(st))
            fail_msg("%d, after allocation %lu failed", (int)st, fail);
        char cmd[24] = "", path[64];
        bool none;
        snprintf(path, sizeof path, "mef/%s/cmd", registration);
        if (step == command_create) {
            told(w, CSE_RETRIEVE, path, cmd, 0, &none);
            told(w, CSE_UPDATE, path, cmd, 0, &none);
        }
    }
}

static void a_clients_commands(void **state)
{
    struct world *w = *state;
    struct call c;
    char path[64];
    bool struck;
    enum st st;
    primitive(w, &c, CSE_CREATE, "mef", MEF_TY_CLIENT_REG,
              "{\"sec:mecr\":{\"et\":\"20990101T000000\",\"adfq\":\"" ADMIN "\"}}", 0, &struck);
    assert_int_equal(c.st, ST_CREATED);
    snprintf(registration, sizeof registration, "%s", cJSON_GetObjectItemCaseSensitive(c.pc->child, "ri")->valuestring);
    cJSON_Delete(c.pc);
    snprintf(path, sizeof path, "mef/%s/cmd", registration);
    order(w, command_create);
    order(w, configuration);
    w->h.may_end = struck = true;
    for (unsigned long fail = 1; struck; fail++) {
        char cmd[24] = "";
        bool update_struck;
        assert_in_range(fail, 1, MOST);
        operator_asks(w, command_create, (struct ask){0, 0}, &st);
        assert_int_equal(st, ST_CREATED);
        told(w, CSE_RETRIEVE, path, cmd, fail, &struck);
        told(w, CSE_UPDATE, path, cmd, fail, &update_struck);
        struck = struck || update_struck;
        cJSON *list = mef_command_list(w->mef, ADMIN, registration), *row;
        cJSON_ArrayForEach(row, list)
            assert_string_equal(cJSON_GetObjectItemCaseSensitive(row, "state")->valuestring, "done");
        cJSON_Delete(list);
    }
}

/* Registered with what the rule has for it to do, or not at all. */
static void a_registration_with_commands(void **state)
{
    struct world *w = *state;
    static const char content[] = "{\"sec:mecr\":{\"et\":\"20990101T000000\",\"adfq\":\"" ADMIN "\",\"lbl\":[\"x\"]}}";
    bool struck = w->h.may_end = true;
    enum st st;
    operator_asks(w, rule, (struct ask){0, 0}, &st);
    assert_int_equal(st, ST_CREATED);
    for (unsigned long fail = 1; struck; fail++) {
        struct call c;
        bool none;
        char ri[MEF_RELKEYID], path[64];
        assert_in_range(fail, 1, MOST);
        primitive(w, &c, CSE_CREATE, "mef", MEF_TY_CLIENT_REG, content, fail, &struck);
        cJSON_Delete(c.pc);
        cJSON *list = mef_registration_list(w->mef, ADMIN, "", 10);
        if (cJSON_GetArraySize(list) == 0) {
            primitive(w, &c, CSE_CREATE, "mef", MEF_TY_CLIENT_REG, content, 0, &none);
            assert_int_equal(c.st, ST_CREATED);
            cJSON_Delete(c.pc);
            cJSON_Delete(list);
            list = mef_registration_list(w->mef, ADMIN, "", 10);
        }
        snprintf(ri, sizeof ri, "%s", cJSON_GetObjectItemCaseSensitive(list->child, "id")->valuestring);
        cJSON_Delete(list);
        list = mef_command_list(w->mef, ADMIN, ri);
        assert_int_equal(cJSON_GetArraySize(list), 1);
        cJSON_Delete(list);
        snprintf(path, sizeof path, "mef/%s", ri);
        primitive(w, &c, CSE_DELETE, path, -1, NULL, 0, &none);
        assert_int_equal(c.st, ST_DELETED);
        cJSON_Delete(c.pc);
    }
}

/* --- start ------------------------------------------------------------------------------------------------------- */

/* A process that finds too little memory says so and ends; the next one finds everything as it was. */
static void opening(void **state)
{
    struct world *w = *state;
    w->h.may_end = true;
    enrol(w, DEV, 1);
    settle(w);
    world_close(w);
    char err[256], path[128];
    const struct conf_option *const tables[] = {mef_options, eg_options};
    snprintf(path, sizeof path, "%s/conf", w->f->dir);
    struct conf *conf = conf_load(path, tables, 2, err, sizeof err);
    const struct vault_host vault_host = {&w->h, vault_random};
    snprintf(path, sizeof path, "%s/kek", w->f->dir);
    bool struck = true;
    for (unsigned long n = 1; struck; n++) {
        struct eg *eg = NULL;
        struct mef *mef = NULL;
        struct vault *vault = NULL;
        assert_in_range(n, 1, 10 * MOST);
        memset(w->h.timers, 0, sizeof w->h.timers);
        oom_at(n);
        struct store *store = store_open(w->f->url, &w->f->host, err, sizeof err);
        if (store != NULL)
            vault = vault_open(store, path, &vault_host, err, sizeof err);
        const struct mef_deps mef_deps = {&w->h, &host_ops, conf, store, vault, NULL};
        if (vault != NULL)
            mef = mef_open(&mef_deps, err, sizeof err);
        const struct eg_deps eg_deps = {&w->h, &host_ops, conf, store, vault, NULL, mef};
        if (mef != NULL)
            eg = eg_open(&eg_deps, err, sizeof err);
        struck = oom_end();
        assert_true(struck || eg != NULL);
        eg_close(eg);
        mef_close(mef);
        vault_close(vault);
        store_close(store);
        loop_drain(&w->f->loop);
    }
    conf_free(conf);
    memset(w->h.timers, 0, sizeof w->h.timers);
    world_open(w);
    expect_device(w, DEV, "enrolled", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_operators_request, world_new, world_free),
        cmocka_unit_test_setup_teardown(a_gateways_request, world_new, world_free),
        cmocka_unit_test_setup_teardown(the_proving_frame, world_new, world_free),
        cmocka_unit_test_setup_teardown(an_aes_request, world_new, world_free),
        cmocka_unit_test_setup_teardown(a_clients_commands, world_new, world_free),
        cmocka_unit_test_setup_teardown(a_registration_with_commands, world_new, world_free),
        cmocka_unit_test_setup_teardown(opening, world_new, world_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
