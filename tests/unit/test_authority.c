/* Which MEF-FQDN a stakeholder has, and which of its credentials count for a client that asked for a name. */
#include "mef-plugin/mef/authority.h"
#include "tests/unit/plugin_fixture.h"

static const struct conf_option certificates[] = {
    {"https", "certificate", CONF_PATH, NULL, 0, 0, ""},
    {"certificate.*", "server-name", CONF_STRING, "!", 0, 0, ""},
    {NULL, NULL, CONF_STRING, NULL, 0, 0, NULL},
};

/* Of [mef] fqdn = mef.a.example and what follows; the configuration itself is not needed any more then. */
static struct authorities *read_conf(struct fixture *f, const char *more)
{
    char path[160], text[1024];
    const struct conf_option *const tables[] = {mef_options, certificates};
    snprintf(text, sizeof text, "[mef]\nfqdn = MEF.a.example\n%s", more);
    write_file(f, "authority.conf", text, 0600);
    snprintf(path, sizeof path, "%s/authority.conf", f->dir);
    struct conf *c = conf_load(path, tables, 2, f->err, sizeof f->err);
    assert_non_null(c);
    struct authorities *a = authorities_read(c, f->err, sizeof f->err);
    conf_free(c);
    return a;
}

#define STAKEHOLDER(name, admin, mef) "[stakeholder." name "]\nadmin-fqdn = " admin "\nmef-fqdn = " mef "\n"
static const char three[] = STAKEHOLDER("c", "Stake.C.example", "mef.b.example") STAKEHOLDER("d", "d.example", "MEF.d.example")
    STAKEHOLDER("b", "stake.b.example", "mef.b.example") STAKEHOLDER("same", "same.example", "mef.a.example");

static void test_names(void **state)
{
    struct authorities *a = read_conf(*state, three);
    assert_non_null(a);
    assert_string_equal(authority_first(a), "mef.a.example");
    static const char *const of[][2] = {{"stake.b.example", "mef.b.example"}, {"stake.c.example", "mef.b.example"},
                                        {"d.example", "mef.d.example"}, {"same.example", "mef.a.example"},
                                        {"stake.a.example", "mef.a.example"}, {"", "mef.a.example"}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++)
        assert_string_equal(authority_of(a, of[i][0]), of[i][1]);
    static const char *const ours[] = {"mef.a.example", "mef.b.example", "mef.d.example"};
    for (size_t i = 0; i < 3; i++)
        assert_true(authority_is(a, ours[i]));
    static const char *const others[] = {"", "mef.c.example", "stake.b.example", "mef.a.example.", "a.example"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_false(authority_is(a, others[i]));
    authorities_free(a);
}

static void test_one_name(void **state)
{
    struct authorities *a = read_conf(*state, "");
    assert_string_equal(authority_of(a, "stake.b.example"), "mef.a.example");
    assert_true(authority_admits(a, "mef.b.example", "stake.b.example", NULL));
    assert_true(authority_admits(a, "mef.a.example", "stake.b.example", "1@mef.a.example"));
    authorities_free(a);
    authorities_free(NULL);
}

#define A "stake.a.example"
#define B "stake.b.example"
#define KPM_A "0123@mef.a.example"
#define KPM_B "0123@mef.b.example"
static const struct {
    const char *server_name, *admin, *kpm_id;
    bool admitted;
} cases[] = {
    /* a name of ours selects its stakeholders, in any case */
    {"mef.a.example", A, NULL, true}, {"mef.a.example", A, KPM_A, true}, {"mef.b.example", B, NULL, true},
    {"mef.b.example", B, KPM_B, true}, {"Mef.B.Example", B, NULL, true}, {"MEF.B.EXAMPLE", B, KPM_B, true},
    {"mef.b.example", A, NULL, false}, {"mef.b.example", A, KPM_A, false}, {"mef.a.example", B, NULL, false},
    {"mef.a.example", B, KPM_B, false}, {"mef.d.example", B, NULL, false}, {"mef.b.example", "stake.c.example", NULL, true},
    /* none, and one that is not ours: the KpmID tells; a certificate meets the first */
    {NULL, A, KPM_A, true}, {"", A, KPM_A, true}, {NULL, B, KPM_B, true}, {"", B, KPM_B, true}, {"x.example", B, KPM_B, true},
    {"localhost", B, KPM_B, true}, {"mef.b.example.", B, KPM_B, true}, {NULL, A, NULL, true}, {"", A, NULL, true},
    {"x.example", A, NULL, true}, {"mef.b.example.", A, NULL, true}, {NULL, B, NULL, false}, {"", B, NULL, false},
    {"x.example", B, NULL, false}, {"mef.b.example.", B, NULL, false}, {"stake.b.example", B, NULL, false},
    /* a KpmID is of the stakeholder's MEF-FQDN, whatever was asked for */
    {NULL, A, KPM_B, false}, {NULL, B, KPM_A, false}, {"mef.a.example", B, KPM_A, false}, {"mef.b.example", B, KPM_A, false},
    {"mef.b.example", A, KPM_B, false}, {NULL, A, "0123", false}, {NULL, A, "", false}, {NULL, A, "mef.a.example", false},
    {NULL, A, "0123@", false}, {NULL, A, "@mef.a.example@x", false}, {NULL, A, "0123@mef.a.example.", false},
};

static void test_admits(void **state)
{
    struct authorities *a = read_conf(*state, three);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (authority_admits(a, cases[i].server_name, cases[i].admin, cases[i].kpm_id) != cases[i].admitted)
            fail_msg("case %zu", i);
    authorities_free(a);
}

static void test_errors(void **state)
{
    static const char *const bad[][2] = {
        {STAKEHOLDER("b", "b", "mef.b.example"), "[stakeholder.b] admin-fqdn: not an FQDN"},
        {STAKEHOLDER("b", "b.example.", "mef.b.example"), "[stakeholder.b] admin-fqdn: not an FQDN"},
        {STAKEHOLDER("b", "b.example", "mef b.example"), "[stakeholder.b] mef-fqdn: not an FQDN"},
        {STAKEHOLDER("c", "c.example", "m.example") STAKEHOLDER("b", "b.example", ""), "[stakeholder.b] mef-fqdn: not an FQDN"},
        {STAKEHOLDER("b", "b.example", "m.example") STAKEHOLDER("c", "c.example", "m.example") STAKEHOLDER("d", "B.example", "n.example"),
         "[stakeholder.*] admin-fqdn: b.example stands in two sections, and belongs to one MEF-FQDN"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_null(read_conf(*state, bad[i][0]));
        assert_string_equal(((struct fixture *)*state)->err, bad[i][1]);
    }
}

/* What is logged while the configuration is read. */
static void logged(struct fixture *fixture, const char *more, char *out, size_t cap)
{
    FILE *f = tmpfile();
    int saved = dup(STDERR_FILENO);
    assert_true(f != NULL && saved >= 0 && dup2(fileno(f), STDERR_FILENO) >= 0);
    struct authorities *a = read_conf(fixture, more);
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(f);
    out[fread(out, 1, cap - 1, f)] = '\0';
    fclose(f);
    assert_non_null(a);
    authorities_free(a);
}

#define B_AND_D STAKEHOLDER("b", "b.example", "mef.b.example") STAKEHOLDER("c", "c.example", "mef.b.example") STAKEHOLDER("d", "d.example", "mef.d.example")
static void test_missing_certificates(void **state)
{
    char text[1024];
    logged(*state, B_AND_D "[certificate.d]\nserver-name = Mef.D.example\n[https]\ncertificate = x.pem\n", text, sizeof text);
    const char *at = strstr(text, "authority.no-certificate mef-fqdn=mef.b.example");
    assert_non_null(at);
    assert_null(strstr(at + 1, "authority.no-certificate")); /* once, and of no other */
    logged(*state, B_AND_D, text, sizeof text); /* pre-shared keys only */
    assert_null(strstr(text, "authority"));
}

/* A device's key outlives that it was published, whatever the MEF was called then. */
static void test_published_under_another_name(void **state)
{
    struct world w = {0};
    char relkey[MEF_RELKEYID];
    vault_id key;
    world_open_with(&w, *state, DEFAULT_CONF STAKEHOLDER("sp", ADMIN, "mef.sp.example.com"));
    WITH_TXN(&w, {
        assert_int_equal(vault_generate(w.vault, t, VAULT_NETWORK_KEY, 16, &key), ST_OK);
        struct mef_keyreg_new in = {.admin = ADMIN, .key = key, .suid = 24, .expires = START + 86400000};
        assert_int_equal(mef_keyreg_add(w.mef, t, &in, relkey), ST_OK);
    });
    world_close(&w);
    world_open(&w, *state);
    pass(&w.host, 2 * 86400000);
    assert_true(vault_has(w.vault, key));
    world_close(&w);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {T(test_names),  T(test_one_name),           T(test_admits),
                                       T(test_errors), T(test_missing_certificates), T(test_published_under_another_name)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
