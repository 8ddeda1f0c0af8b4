/* What all of Mmef stands on, over the real store, vault and audit trail: rules, the trail, ids and times, options. */
#include "tests/unit/mef_fixture.h"

#include "mef-plugin/mef/when.h"

#define DEPOSIT "{'sec:skr':{'et':'" LATER "','adfq':'sp.example.com','suid':24,'tgis':['C-b'],'kv':'" KEY16 "'}}"

/* A rule is kept, is the stakeholder's own, is asked in the order of the names, and can be taken back. */
static void test_rules(void **state)
{
    struct world w = {0};
    struct people p;
    world_open(&w, *state);
    meet(&w, &p);
    enrol(&w, &p.a);
    assert_int_equal(put_rule(&w, OTHER_ADMIN, "1", "{'effect':'deny','what':['deposit','register','retrieve','ticket']}"), ST_CREATED);
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, DEPOSIT), ST_CREATED);
    assert_int_equal(put_rule(&w, ADMIN, "b", "{'effect':'deny','what':['deposit'],'networks':['::1/128'],'gateways':['0011223344556677']}"), ST_CREATED);
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, DEPOSIT), ST_CREATED);
    assert_int_equal(put_rule(&w, ADMIN, "b", "{'effect':'deny','what':['deposit'],'networks':['::1/128'],'targets':['C-b','m.example.com']}"), ST_OK);
    for (int restarted = 0; restarted < 2; restarted++) {
        unsigned before = rows_of(w.store, STORE_AUDIT);
        assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, DEPOSIT), ST_NO_PRIVILEGE);
        assert_string_equal(w.host.code, "policy");
        assert_int_equal(rows_of(w.store, STORE_AUDIT), before + 1);
        world_close(&w);
        world_open(&w, *state);
    }
    assert_int_equal(put_rule(&w, ADMIN, "a", "{'effect':'allow','what':['deposit'],'lifetime':60}"), ST_CREATED);
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, DEPOSIT), ST_CREATED);
    assert_string_equal(text_of(attrs(&w), "et"), "20261121T000100");
    assert_int_equal(put_rule(&w, ADMIN, "c", "{'effect':'allow','what':['deposit']}"), ST_CREATED);
    cJSON *list = mef_policy_list(w.mef, ADMIN, "a", 1);
    assert_int_equal(cJSON_GetArraySize(list), 1);
    assert_string_equal(text_of(cJSON_GetArrayItem(list, 0), "name"), "b");
    cJSON_Delete(list);
    assert_null(mef_policy_get(w.mef, OTHER_ADMIN, "a"));
    struct mef_result r = {0};
    WITH_TXN(&w, mef_policy_delete(w.mef, t, OTHER_ADMIN, "operator:test", "a", &r));
    assert_int_equal(r.st, ST_NOT_FOUND);
    WITH_TXN(&w, mef_policy_delete(w.mef, t, ADMIN, "operator:test", "a", &r));
    assert_int_equal(r.st, ST_DELETED);
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, DEPOSIT), ST_NO_PRIVILEGE);
    world_close(&w);
}

static void test_trail(void **state)
{
    struct world w = {0};
    struct people p;
    char path[128];
    world_open(&w, *state);
    meet(&w, &p);
    enrol(&w, &p.a);
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, SKR("24", "['C-b']", ",'kv':'" KEY16 "'")), ST_CREATED);
    location(&w, path);
    assert_int_equal(get(&w, &p.b, path), ST_OK);
    assert_int_equal(get(&w, &p.g, path), ST_NO_PRIVILEGE);
    assert_int_equal(get(&w, &(struct who){p.a_id, "C-b", 1}, path), ST_NOT_AUTHENTICATED);
    assert_true(in_trail(&w, ADMIN, "credential.create", "ok"));
    assert_true(in_trail(&w, ADMIN, "registration.create", "ok"));
    assert_true(in_trail(&w, ADMIN, "key.create", "ok"));
    assert_true(in_trail(&w, ADMIN, "key.retrieved", "ok"));
    assert_true(in_trail(&w, ADMIN, "key.retrieve", "not-a-target"));
    assert_true(in_trail(&w, ADMIN, "mef.request", "from-mismatch"));
    assert_false(in_trail(&w, OTHER_ADMIN, "key.create", "ok"));
    world_close(&w);
}

/* --- ids and times ------------------------------------------------------------------------------------------------ */

static void test_ids(void **state)
{
    static const struct {
        const char *id, *absolute;
    } rows[] = {
        {"C1", "//sp.example.com/in-cse/C1"}, {"S1", "//sp.example.com/S1"}, {"/in-cse", "//sp.example.com/in-cse"},
        {"/cse/C1", "//sp.example.com/cse/C1"}, {"//sp2.example.com/C", "//sp2.example.com/C"},
        {"//a.b/c/d", "//a.b/c/d"}, {"", NULL}, {"/", NULL}, {"//", NULL}, {"X1", NULL}, {"c1", NULL}, {"C1/", NULL},
        {"C 1", NULL}, {"/a//b", NULL}, {"/a/b/c", NULL}, {"//a.b", NULL}, {"//a.b/", NULL}, {"//a/c", NULL},
        {"//-a.b/c", NULL}, {"//a..b/c", NULL}, {"//a.b/c?d", NULL}, {"C\xc3\xa9", NULL},
    };
    struct world w = {0};
    char out[256];
    world_open(&w, *state);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool ok = mef_absolute(w.mef, rows[i].id, out, sizeof out);
        if (ok != (rows[i].absolute != NULL) || (ok && strcmp(out, rows[i].absolute) != 0))
            fail_msg("%s -> %s", rows[i].id, ok ? out : "refused");
    }
    assert_false(mef_absolute(w.mef, "C1", out, 10));
    static const struct {
        const char *id;
        enum id_kind kind;
    } kinds[] = {{"gateway:x", ID_GATEWAY}, {"node:urn:x", ID_GATEWAY}, {"00124b0001020304", ID_GATEWAY},
                 {"C0124B0001020304", ID_ENTITY}, {"maf.example.com", ID_FQDN}, {"localhost", ID_NONE}, {"node:", ID_NONE},
                 {"gateway:a b", ID_NONE}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        assert_int_equal(mef_id(w.mef, kinds[i].id, out), kinds[i].kind);
    static const struct {
        const char *id, *domain;
        bool cse;
    } names[] = {{"//sp.example.com/cse1", "cse1.sp.example.com", true},
                 {"//sp.example.com/cse1/C-7", "C-7.cse1.sp.example.com", false},
                 {"//sp.example.com/S7", "S7.sp.example.com", false},
                 {"//sp.example.com/Cse", "Cse.sp.example.com", true},
                 {"maf.example.com", "maf.example.com", false},
                 {"gateway:hall", NULL, false}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(mef_id_domain(names[i].id, out), names[i].domain != NULL);
        assert_true(names[i].domain == NULL || strcmp(out, names[i].domain) == 0);
        assert_int_equal(mef_id_is_cse(names[i].id), names[i].cse);
    }
    world_close(&w);
    struct fixture *f = *state; /* the default of sp-id */
    world_open_with(&w, f, "[mef]\nfqdn = mef.example.com\n");
    assert_true(mef_absolute(w.mef, "C1", out, sizeof out));
    assert_string_equal(out, "//example.com/in-cse/C1");
    world_close(&w);
}

static void test_times(void **state)
{
    (void)state;
    int64_t ms;
    char out[WHEN_TEXT];
    assert_true(when_parse_m2m("20261121T000000", &ms) && ms == START);
    assert_true(when_parse_m2m("20261121T000000,123456", &ms) && ms == START);
    assert_true(when_parse_m2m("20240229T235959", &ms));
    when_print_m2m(ms, out);
    assert_string_equal(out, "20240229T235959");
    const char *bad[] = {"", "20261121", "20261121T0000", "20261121T000000Z", "20261121T000000,", "20261121T000000.1",
                         "20261321T000000", "20260229T000000", "20260100T000000", "20261121T240000", "20261121T006000",
                         "19691231T235959", " 20261121T000000", "2026112AT000000"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (when_parse_m2m(bad[i], &ms))
            fail_msg("%s", bad[i]);
    assert_true(when_parse_rfc3339("2026-11-21T02:00:00+02:00", &ms) && ms == START);
    assert_true(when_parse_rfc3339("2026-11-21T00:00:00.5Z", &ms) && ms == START);
    when_print_rfc3339(ms, out);
    assert_string_equal(out, "2026-11-21T00:00:00Z");
    const char *bad3339[] = {"2026-11-21", "2026-11-21T00:00:00", "2026-11-21 00:00:00Z", "2026-11-21T00:00:00+2",
                             "2026-11-31T00:00:00Z", "2026-11-21T00:00:00ZZ", "1970-01-01T00:00:00+01:00"};
    for (size_t i = 0; i < sizeof bad3339 / sizeof *bad3339; i++)
        if (when_parse_rfc3339(bad3339[i], &ms))
            fail_msg("%s", bad3339[i]);
}

static void test_options(void **state)
{
    static const char *const bad[] = {
        "[mef]\nfqdn = localhost\n", "[mef]\nfqdn = mef.example.com\nsp-id = sp.example.com\n",
        "[mef]\nfqdn = mef.example.com\nbase = a/b\n", "[mef]\nfqdn = mef.example.com\ncse-id = in-cse\n",
        "[mef]\nfqdn = mef.example.com\ncse-id = /in-cse/x\n",
    };
    struct world w = {0};
    world_open(&w, *state);
    mef_close(w.mef);
    w.mef = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct fixture *f = *state;
        struct conf *c = world_conf(f, bad[i]);
        f->err[0] = '\0';
        assert_null(mef_open(&(struct mef_deps){&w.host, &host_ops, c, w.store, w.vault, w.audit}, f->err, sizeof f->err));
        assert_true(strncmp(f->err, "[mef]", 5) == 0);
        conf_free(c);
    }
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_rules), T(test_trail), T(test_ids), T(test_times), T(test_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
