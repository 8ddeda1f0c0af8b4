/* The Mmef procedures over the real store, vault and audit trail. */
#include "tests/unit/plugin_fixture.h"

#include "mef-plugin/mef/internal.h"
#include "mef-plugin/mef/when.h"

#include <openssl/opensslv.h>

#define KEY16 "AAECAwQFBgcICQoLDA0ODw=="
#define LATER "20270101T000000"

/* A credential for id; its KpmID is left in kpm_id. */
static void give_credential(struct world *w, const char *admin, const char *id, char kpm_id[128])
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

struct who {
    const char *kpm_id, *from;
    uint64_t session;
};

static enum cse_credential credential_of(const struct who *who)
{
    if (who->kpm_id == NULL)
        return CSE_CRED_NONE;
    return strchr(who->kpm_id, '@') != NULL ? CSE_CRED_PSK : CSE_CRED_CERT;
}

/* One primitive; the answer is in w->host. */
static enum st ask(struct world *w, const struct who *who, enum cse_op op, const char *path, int ty, const char *body,
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

static enum st create(struct world *w, const struct who *who, int ty, const char *body)
{
    return ask(w, who, CSE_CREATE, "mef", ty, body, NULL, 0);
}
static enum st get(struct world *w, const struct who *who, const char *path)
{
    return ask(w, who, CSE_RETRIEVE, path, -1, NULL, NULL, 0);
}
static const cJSON *attrs(const struct world *w) { return w->host.rsp.pc == NULL ? NULL : w->host.rsp.pc->child; }

static const char *location(struct world *w, char out[128])
{
    snprintf(out, 128, "%.127s", w->host.location);
    return out;
}

/* Two clients of one stakeholder, one of another, and a gateway. */
struct people {
    char a_id[128], b_id[128], x_id[128], g_id[128];
    struct who a, b, x, g;
};

static void meet(struct world *w, struct people *p)
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

static void enrol(struct world *w, const struct who *who)
{
    assert_int_equal(create(w, who, MEF_TY_CLIENT_REG, "{'sec:mecr':{'et':'" LATER "','adfq':'sp.example.com'}}"), ST_CREATED);
}

/* --- who asks ----------------------------------------------------------------------------------------------------- */

static void test_identity(void **state)
{
    struct world w = {0};
    struct people p;
    world_open(&w, *state);
    meet(&w, &p);
    assert_int_equal(get(&w, &p.a, "mef"), ST_OK);
    assert_string_equal(text_of(attrs(&w), "fq"), "mef.example.com");
    assert_string_equal(text_of(attrs(&w), "adfq"), ADMIN);
    const char *mine[] = {"C-a", "/in-cse/C-a", "//sp.example.com/in-cse/C-a", "//SP.Example.com/in-cse/C-a"};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++)
        assert_int_equal(get(&w, &(struct who){p.a_id, mine[i], 1}, "mef"), ST_OK);
    const char *others[] = {"C-b", "c-a", "S-a", "/other/C-a", "//sp.example.com/C-a", "//sp.example.com/in-cse/C-a/x", "gateway:hall", "/in-cse", "mef.example.com", "?"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_int_equal(get(&w, &(struct who){p.a_id, others[i], 1}, "mef"), ST_NOT_AUTHENTICATED);
    assert_int_equal(get(&w, &(struct who){p.a_id, NULL, 1}, "mef"), ST_BAD_REQUEST);
    assert_int_equal(get(&w, &(struct who){NULL, "C-a", 1}, "mef"), ST_ASSOCIATION_REQUIRED);
    assert_int_equal(get(&w, &(struct who){"stranger@mef.example.com", "C-a", 1}, "mef"), ST_ASSOCIATION_REQUIRED);
    assert_int_equal(get(&w, &p.g, "mef"), ST_OK);
    world_close(&w);
}

static void test_strangers_do_not_fill_the_trail(void **state)
{
    struct world w = {0};
    world_open(&w, *state);
    unsigned before = rows_of(w.store, STORE_AUDIT);
    for (int i = 0; i < 20; i++) {
        char path[40];
        snprintf(path, sizeof path, "mef/%032d", i);
        assert_int_equal(get(&w, &(struct who){NULL, "C-a", 1}, path), ST_ASSOCIATION_REQUIRED);
    }
    assert_int_equal(rows_of(w.store, STORE_AUDIT), before + 1);
    world_close(&w);
}

static void test_credentials(void **state)
{
    struct world w = {0};
    char id[128];
    uint8_t key[64];
    world_open(&w, *state);
    give_credential(&w, ADMIN, "00:11:22:33:44:55:66:77", id);
    assert_int_equal(mef_psk(w.mef, id, "", key, sizeof key), 32);
    assert_int_equal(mef_credential_role(w.mef, ADMIN, id), MEF_ROLE_GATEWAY);
    assert_int_equal(mef_credential_role(w.mef, OTHER_ADMIN, id), MEF_ROLE_NONE);
    assert_int_equal(mef_psk(w.mef, "nobody@mef.example.com", "", key, sizeof key), 0);
    assert_null(mef_credential_get(w.mef, OTHER_ADMIN, id));
    cJSON *shown = mef_credential_get(w.mef, ADMIN, id);
    assert_string_equal(text_of(shown, "for"), "gateway:0011223344556677");
    assert_null(member(shown, "kpm"));
    cJSON_Delete(shown);
    /* given key and expiry */
    struct mef_result r = {0};
    cJSON *in = json("{'for':'C1','kind':'psk','kpm':'000102030405060708090a0b0c0d0e0f','expiresAt':'2026-11-21T00:01:00Z'}");
    WITH_TXN(&w, mef_credential_create(w.mef, t, ADMIN, "operator:test", in, &r));
    cJSON_Delete(in);
    assert_int_equal(r.st, ST_CREATED);
    snprintf(id, sizeof id, "%s", text_of(r.body, "kpmId"));
    assert_string_equal(text_of(r.body, "kpm"), "000102030405060708090a0b0c0d0e0f");
    json_wipe(r.body);
    assert_int_equal(mef_psk(w.mef, id, "", key, sizeof key), 16);
    assert_int_equal(key[15], 15);
    /* survives a restart, and ends at its time */
    world_close(&w);
    world_open(&w, *state);
    assert_int_equal(mef_psk(w.mef, id, "", key, sizeof key), 16);
    assert_int_equal(get(&w, &(struct who){id, "C1", 1}, "mef"), ST_OK);
    pass(&w.host, 60000);
    assert_int_equal(mef_psk(w.mef, id, "", key, sizeof key), 0);
    assert_int_equal(get(&w, &(struct who){id, "C1", 1}, "mef"), ST_ASSOCIATION_REQUIRED);
    r = (struct mef_result){0};
    WITH_TXN(&w, mef_credential_delete(w.mef, t, OTHER_ADMIN, "operator:x", id, &r));
    assert_int_equal(r.st, ST_NOT_FOUND);
    WITH_TXN(&w, mef_credential_delete(w.mef, t, ADMIN, "operator:x", id, &r));
    assert_int_equal(r.st, ST_DELETED);
    world_close(&w);
}

static struct mef_principal proved(struct world *w, enum cse_credential cred, const char *identity)
{
    struct cse_peer peer = {1, cred, identity, "[::1]:1", ""};
    return mef_principal(w->mef, &peer);
}

static enum st certify(struct world *w, const char *admin, const char *body, char id[128])
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

/* A name is proved by a certificate, a KpmID by its key, and never one by the other. */
static void test_certificate_credentials(void **state)
{
    struct world w = {0};
    char ae[128], gw[128], psk[128], body[300];
    uint8_t key[64];
    world_open(&w, *state);
    assert_int_equal(certify(&w, ADMIN, "{'for':'C-a','kind':'certificate'}", ae), ST_CREATED);
    assert_int_equal(certify(&w, ADMIN, "{'for':'gateway:hall','kind':'certificate','san':'gw.example.com',"
                                        "'expiresAt':'2026-11-21T00:01:00Z'}", gw), ST_CREATED);
    assert_int_equal(certify(&w, ADMIN, "{'for':'C-x','kind':'certificate','san':'gw.example.com'}", psk), ST_EXISTS);
    give_credential(&w, ADMIN, "C-p", psk);
    snprintf(body, sizeof body, "{'for':'C-x','kind':'certificate','san':'%s'}", psk);
    assert_int_equal(certify(&w, ADMIN, body, ae), ST_EXISTS);
    for (int restarted = 0; restarted < 2; restarted++) {
        struct mef_principal p = proved(&w, CSE_CRED_CERT, "//sp.example.com/in-cse/C-a");
        assert_int_equal(p.role, MEF_ROLE_CLIENT);
        assert_string_equal(p.id, "//sp.example.com/in-cse/C-a");
        assert_string_equal(p.admin, ADMIN);
        p = proved(&w, CSE_CRED_CERT, "gw.example.com");
        assert_int_equal(p.role, MEF_ROLE_GATEWAY);
        assert_string_equal(p.id, "gateway:hall");
        assert_string_equal(p.credential, "gw.example.com");
        assert_int_equal(mef_credential_role(w.mef, ADMIN, "gw.example.com"), MEF_ROLE_GATEWAY);
        assert_int_equal(mef_credential_role(w.mef, OTHER_ADMIN, "gw.example.com"), MEF_ROLE_NONE);
        assert_int_equal(proved(&w, CSE_CRED_PSK, "gw.example.com").role, MEF_ROLE_NONE);
        assert_int_equal(proved(&w, CSE_CRED_NONE, "gw.example.com").role, MEF_ROLE_NONE);
        assert_int_equal(proved(&w, CSE_CRED_CERT, "GW.example.com").role, MEF_ROLE_NONE);
        assert_int_equal(proved(&w, CSE_CRED_CERT, psk).role, MEF_ROLE_NONE);
        assert_int_equal(proved(&w, CSE_CRED_PSK, gw).role, MEF_ROLE_NONE);
        assert_int_equal(mef_psk(w.mef, gw, "", key, sizeof key), 0);
        assert_int_equal(mef_psk(w.mef, "gw.example.com", "", key, sizeof key), 0);
        world_close(&w);
        world_open(&w, *state);
    }
    cJSON *shown = mef_credential_get(w.mef, ADMIN, gw);
    assert_string_equal(text_of(shown, "kind"), "certificate");
    assert_string_equal(text_of(shown, "san"), "gw.example.com");
    cJSON_Delete(shown);
    pass(&w.host, 60000);
    assert_int_equal(proved(&w, CSE_CRED_CERT, "gw.example.com").role, MEF_ROLE_NONE);
    struct mef_result r = {0};
    WITH_TXN(&w, mef_credential_delete(w.mef, t, ADMIN, "operator:x", gw, &r));
    assert_int_equal(r.st, ST_DELETED);
    assert_int_equal(certify(&w, OTHER_ADMIN, "{'for':'gateway:x','kind':'certificate','san':'gw.example.com'}", gw),
                     ST_CREATED); /* the name is free again */
    world_close(&w);
}

#define REGISTER_FOR(admin) "{'sec:mecr':{'et':'" LATER "','adfq':'" admin "'}}"
#define KEY_FOR(admin) "{'sec:skr':{'et':'" LATER "','adfq':'" admin "','suid':24,'tgis':['C-a'],'kv':'" KEY16 "'}}"

/* Each stakeholder says for itself whom a certificate's name is of; the client acts for the one that it names, or whose
 * the resource is. */
static void test_a_client_of_two_stakeholders(void **state)
{
    struct world w = {0};
    char first[128], second[128], ours[128], theirs[128], other[128], name[] = "//sp.example.com/in-cse/C-a";
    struct who a = {name, "C-a", 1}, y = {name, "C-y", 1};
    world_open(&w, *state);
    assert_int_equal(certify(&w, ADMIN, "{'for':'C-a','kind':'certificate'}", first), ST_CREATED);
    assert_int_equal(get(&w, &a, "mef"), ST_OK);
    assert_string_equal(text_of(attrs(&w), "adfq"), ADMIN);
    assert_int_equal(create(&w, &a, MEF_TY_CLIENT_REG, REGISTER_FOR(OTHER_ADMIN)), ST_NO_PRIVILEGE);
    pass(&w.host, 1);
    assert_int_equal(certify(&w, OTHER_ADMIN, "{'for':'C-a','kind':'certificate'}", second), ST_CREATED);
    assert_int_equal(certify(&w, OTHER_ADMIN, "{'for':'C-y','kind':'certificate','san':'//sp.example.com/in-cse/C-a'}", other),
                     ST_EXISTS);
    for (int restarted = 0; restarted < 2; restarted++) {
        assert_int_equal(get(&w, &a, "mef"), ST_OK);
        assert_null(member(attrs(&w), "adfq")); /* of two it has to know which */
        assert_int_equal(get(&w, &y, "mef"), ST_NOT_AUTHENTICATED);
        assert_string_equal(proved(&w, CSE_CRED_CERT, name).admin, ADMIN); /* who said so first */
        world_close(&w);
        world_open(&w, *state);
    }
    assert_int_equal(create(&w, &a, MEF_TY_CLIENT_REG, REGISTER_FOR(ADMIN)), ST_CREATED);
    assert_int_equal(create(&w, &a, MEF_TY_KEY_REG, KEY_FOR(OTHER_ADMIN)), ST_NO_PRIVILEGE); /* not registered there */
    assert_int_equal(create(&w, &a, MEF_TY_CLIENT_REG, REGISTER_FOR(OTHER_ADMIN)), ST_CREATED);
    assert_string_equal(text_of(attrs(&w), "adfq"), OTHER_ADMIN);
    assert_int_equal(create(&w, &a, MEF_TY_CLIENT_REG, REGISTER_FOR(OTHER_ADMIN)), ST_ALREADY_REGISTERED);
    assert_int_equal(create(&w, &a, MEF_TY_KEY_REG, KEY_FOR(ADMIN)), ST_CREATED);
    location(&w, ours);
    assert_int_equal(create(&w, &a, MEF_TY_KEY_REG, KEY_FOR(OTHER_ADMIN)), ST_CREATED);
    location(&w, theirs);
    const struct cse_param fu = {"fu", "1"};
    assert_int_equal(ask(&w, &a, CSE_RETRIEVE, "mef", -1, NULL, &fu, 1), ST_OK);
    assert_int_equal(cJSON_GetArraySize(attrs(&w)), 4);
    assert_int_equal(get(&w, &a, ours), ST_OK);
    assert_int_equal(get(&w, &a, theirs), ST_OK);
    assert_string_equal(text_of(attrs(&w), "adfq"), OTHER_ADMIN);
    /* of a mistake the first one hears, but not where it was made */
    assert_int_equal(get(&w, &(struct who){name, "C-z", 1}, theirs), ST_NOT_AUTHENTICATED);
    cJSON *trail = audit_page(w.audit, ADMIN, 0, 1);
    assert_string_equal(text_of(cJSON_GetArrayItem(trail, 0), "outcome"), "from-mismatch");
    assert_string_equal(text_of(cJSON_GetArrayItem(trail, 0), "object"), "");
    cJSON_Delete(trail);
    /* what one takes back leaves the other's */
    struct mef_result r = {0};
    WITH_TXN(&w, mef_credential_delete(w.mef, t, ADMIN, "operator:x", first, &r));
    assert_int_equal(r.st, ST_DELETED);
    assert_int_equal(get(&w, &a, ours), ST_NOT_FOUND);
    assert_int_equal(get(&w, &a, theirs), ST_OK);
    assert_int_equal(ask(&w, &a, CSE_RETRIEVE, "mef", -1, NULL, &fu, 1), ST_OK);
    assert_int_equal(cJSON_GetArraySize(attrs(&w)), 2);
    /* one name, two ids: From says which */
    assert_int_equal(certify(&w, ADMIN, "{'for':'C-y','kind':'certificate','san':'//sp.example.com/in-cse/C-a'}", first), ST_CREATED);
    assert_int_equal(get(&w, &y, "mef"), ST_OK);
    assert_string_equal(text_of(attrs(&w), "adfq"), ADMIN);
    assert_int_equal(create(&w, &y, MEF_TY_CLIENT_REG, REGISTER_FOR(OTHER_ADMIN)), ST_NO_PRIVILEGE);
    assert_int_equal(get(&w, &y, theirs), ST_NOT_FOUND);
    assert_int_equal(get(&w, &a, theirs), ST_OK);
    world_close(&w);
}

/* Without `san` a holder has the name that TS-0003 8.1.2 gives a certificate of its kind. */
static void test_names_of_certificates(void **state)
{
    static const char *const rows[][2] = {{"C-a", "//sp.example.com/in-cse/C-a"}, {"/in-cse", "in-cse.sp.example.com"},
                                          {"MAF.example.com", "maf.example.com"}, {"node:urn:gsma:imei:9", "urn:gsma:imei:9"}};
    struct world w = {0};
    char id[128], body[200];
    world_open(&w, *state);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(body, sizeof body, "{'for':'%s','kind':'certificate'}", rows[i][0]);
        assert_int_equal(certify(&w, ADMIN, body, id), ST_CREATED);
        cJSON *shown = mef_credential_get(w.mef, ADMIN, id);
        assert_string_equal(text_of(shown, "san"), rows[i][1]);
        cJSON_Delete(shown);
        assert_int_equal(certify(&w, ADMIN, body, id), ST_EXISTS);
    }
    world_close(&w);
}

static void test_credential_refusals(void **state)
{
    static const struct {
        const char *body, *code, *field;
        enum st st;
    } rows[] = {
        {"{'kind':'psk'}", "missing", "for", ST_BAD_REQUEST},
        {"{'for':'C1'}", "missing", "kind", ST_BAD_REQUEST},
        {"{'for':'C1','kind':'psk','colour':1}", "unknown-member", "colour", ST_BAD_REQUEST},
        {"{'for':'C1','for':'C2','kind':'psk'}", "duplicate", "for", ST_BAD_REQUEST},
        {"{'for':'','kind':'psk'}", "bad-value", "for", ST_BAD_REQUEST},
        {"{'for':'X1','kind':'psk'}", "bad-value", "for", ST_BAD_REQUEST},
        {"{'for':'C1/..','kind':'psk'}", "bad-value", "for", ST_BAD_REQUEST},
        {"{'for':'MEF.example.com','kind':'psk'}", "bad-value", "for", ST_BAD_REQUEST},
        {"{'for':'gateway:','kind':'psk'}", "bad-value", "for", ST_BAD_REQUEST},
        {"{'for':5,'kind':'psk'}", "bad-value", "for", ST_BAD_REQUEST},
        {"{'for':'gateway:hall','kind':'certificate'}", "bad-value", "san", ST_BAD_REQUEST},
        {"{'for':'C1','kind':'certificate','san':'*.example.com'}", "bad-value", "san", ST_BAD_REQUEST},
        {"{'for':'C1','kind':'certificate','san':''}", "bad-value", "san", ST_BAD_REQUEST},
        {"{'for':'C1','kind':'certificate','san':'a b'}", "bad-value", "san", ST_BAD_REQUEST},
        {"{'for':'C1','kind':'certificate','kpm':'000102030405060708090a0b0c0d0e0f'}", "bad-value", "kpm", ST_BAD_REQUEST},
        {"{'for':'C1','kind':'psk','san':'gw.example.com'}", "bad-value", "san", ST_BAD_REQUEST},
#if OPENSSL_VERSION_NUMBER >= 0x30200000L
        {"{'for':'C1','kind':'rpk'}", "bad-value", "san", ST_BAD_REQUEST},
        {"{'for':'C1','kind':'rpk','san':'ni:///sha-256;x'}", "bad-value", "san", ST_BAD_REQUEST},
#else
        {"{'for':'C1','kind':'rpk'}", "not-implemented", "kind", ST_NOT_IMPLEMENTED},
#endif
        {"{'for':'C1','kind':'certificate','san':'ni:///sha-256;x'}", "bad-value", "san", ST_BAD_REQUEST},
        {"{'for':'C1','kind':'pgp'}", "bad-value", "kind", ST_BAD_REQUEST},
        {"{'for':'C1','kind':'psk','kpm':'00'}", "bad-value", "kpm", ST_BAD_REQUEST},
        {"{'for':'C1','kind':'psk','kpm':'zz0102030405060708090a0b0c0d0e0f'}", "bad-value", "kpm", ST_BAD_REQUEST},
        {"{'for':'C1','kind':'psk','kpm':'000102030405060708090a0b0c0d0e0f0'}", "bad-value", "kpm", ST_BAD_REQUEST},
        {"{'for':'C1','kind':'psk','expiresAt':'2026-11-20T00:00:00Z'}", "past", "expiresAt", ST_BAD_REQUEST},
        {"{'for':'C1','kind':'psk','expiresAt':'tomorrow'}", "bad-value", "expiresAt", ST_BAD_REQUEST},
        {"[]", "bad-type", NULL, ST_BAD_REQUEST},
    };
    struct world w = {0};
    world_open(&w, *state);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct mef_result r = {0};
        cJSON *in = json(rows[i].body);
        struct store_txn *t = store_begin(w.store);
        mef_credential_create(w.mef, t, ADMIN, "operator:test", in, &r);
        store_abort(t);
        if (r.st != rows[i].st || strcmp(r.code, rows[i].code) != 0)
            fail_msg("%s: %d %s", rows[i].body, r.st, r.code);
        if (rows[i].field != NULL)
            assert_string_equal(r.field, rows[i].field);
        cJSON_Delete(in);
    }
    cJSON *list = mef_credential_list(w.mef, ADMIN, "", 10);
    assert_int_equal(cJSON_GetArraySize(list), 0);
    cJSON_Delete(list);
    world_close(&w);
}

/* --- client registration ------------------------------------------------------------------------------------------ */

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

/* --- keys --------------------------------------------------------------------------------------------------------- */

#define SKR(suid, tgis, more) "{'sec:skr':{'et':'" LATER "','adfq':'sp.example.com','suid':" suid ",'tgis':" tgis more "}}"

static void test_key(void **state)
{
    struct world w = {0};
    struct people p;
    char path[128];
    world_open(&w, *state);
    meet(&w, &p);
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, SKR("24", "['C-b']", ",'kv':'" KEY16 "'")), ST_NO_PRIVILEGE);
    assert_string_equal(w.host.code, "not-registered");
    enrol(&w, &p.a);
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, SKR("24", "['C-b','/in-cse/C-b']", ",'kv':'" KEY16 "','lbl':['x:1']")), ST_CREATED);
    location(&w, path);
    assert_null(member(attrs(&w), "kv"));
    assert_int_equal(cJSON_GetArraySize(member(attrs(&w), "tgis")), 1);
    assert_string_equal(cJSON_GetArrayItem(member(attrs(&w), "tgis"), 0)->valuestring, "//sp.example.com/in-cse/C-b");
    /* the target gets the key and not the targets; the source the other way round */
    assert_int_equal(get(&w, &p.b, path), ST_OK);
    assert_string_equal(text_of(attrs(&w), "kv"), KEY16);
    assert_int_equal(member(attrs(&w), "suid")->valueint, 24);
    assert_null(member(attrs(&w), "tgis"));
    assert_true(w.host.rsp.sensitive);
    assert_int_equal(get(&w, &p.a, path), ST_OK);
    assert_null(member(attrs(&w), "kv"));
    assert_non_null(member(attrs(&w), "tgis"));
    assert_false(w.host.rsp.sensitive);
    assert_int_equal(get(&w, &p.x, path), ST_NOT_FOUND);
    assert_int_equal(get(&w, &p.g, path), ST_NO_PRIVILEGE);
    /* only the source changes it; taking a target away takes the key away */
    assert_int_equal(ask(&w, &p.b, CSE_UPDATE, path, -1, "{'sec:skr':{'tgis':['C-b','C-c']}}", NULL, 0), ST_NO_PRIVILEGE);
    assert_int_equal(ask(&w, &p.b, CSE_DELETE, path, -1, NULL, NULL, 0), ST_NO_PRIVILEGE);
    assert_int_equal(ask(&w, &p.a, CSE_UPDATE, path, -1, "{'sec:skr':{'kv':'" KEY16 "'}}", NULL, 0), ST_BAD_REQUEST);
    assert_int_equal(ask(&w, &p.a, CSE_UPDATE, path, -1, "{'sec:skr':{'tgis':[]}}", NULL, 0), ST_BAD_REQUEST);
    assert_int_equal(ask(&w, &p.a, CSE_UPDATE, path, -1, "{'sec:skr':{'tgis':['C-c']}}", NULL, 0), ST_UPDATED);
    assert_int_equal(cJSON_GetArraySize(attrs(&w)), 1);
    assert_int_equal(get(&w, &p.b, path), ST_NO_PRIVILEGE);
    assert_int_equal(ask(&w, &p.a, CSE_UPDATE, path, -1, "{'sec:skr':{'tgis':['C-b'],'lbl':['y']}}", NULL, 0), ST_UPDATED);
    world_close(&w);
    world_open(&w, *state);
    assert_int_equal(get(&w, &p.b, path), ST_OK);
    assert_string_equal(text_of(attrs(&w), "kv"), KEY16);
    /* hexBinary is compared without regard to case */
    for (char *c = path + 4; *c != '\0'; c++)
        if (*c >= 'a' && *c <= 'f')
            *c = (char)(*c - 'a' + 'A');
    assert_int_equal(get(&w, &p.b, path), ST_OK);
    assert_int_equal(ask(&w, &p.a, CSE_DELETE, path, -1, NULL, NULL, 0), ST_DELETED);
    assert_int_equal(get(&w, &p.b, path), ST_NOT_FOUND);
    world_close(&w);
}

static void test_key_refusals(void **state)
{
    static const char *const bodies[] = {
        SKR("20", "['C-b']", ",'kv':'" KEY16 "'"),       SKR("26", "['C-b']", ",'kv':'" KEY16 "'"),
        SKR("14", "['C-b']", ",'kv':'" KEY16 "'"),       SKR("'24'", "['C-b']", ",'kv':'" KEY16 "'"),
        SKR("24.5", "['C-b']", ",'kv':'" KEY16 "'"),     SKR("24", "[]", ",'kv':'" KEY16 "'"),
        SKR("22", "['C-b','C-c']", ",'kv':'" KEY16 "'"), SKR("23", "[]", ",'kv':'" KEY16 "'"),
        SKR("21", "['C-b']", ",'kv':'" KEY16 "'"),       SKR("24", "['maf.example.com']", ",'kv':'" KEY16 "'"),
        SKR("24", "['gateway:hall']", ",'kv':'" KEY16 "'"), SKR("24", "['C b']", ",'kv':'" KEY16 "'"),
        SKR("24", "['C-b']", ",'kv':'AAECAwQFBgcICQoLDA0O'"),     /* 15 bytes */
        SKR("24", "['C-b']", ",'kv':'AAECAwQFBgcICQoLDA0ODw'"),   /* no padding */
        SKR("24", "['C-b']", ",'kv':'AAECAwQFBgcICQoLDA0ODx=='"), /* stray bits */
        SKR("24", "['C-b']", ",'kv':'AAEC AwQFBgcICQoLDA0ODw='"),
        SKR("24", "['C-b']", ",'kv':'AA==AwQFBgcICQoLDA0ODw=='"),
        SKR("24", "['C-b']", ",'kv':'_-ECAwQFBgcICQoLDA0ODw=='"),
        SKR("24", "['C-b']", ",'kv':''"),                SKR("24", "['C-b']", ",'kv':null"),
        SKR("24", "['C-b']", ",'aski':'x'"),             SKR("24", "['C-b']", ",'rn':'x'"),
        "{'sec:skr':{'et':'" LATER "','adfq':'sp.example.com','suid':24}}",
        "{'sec:skr':{'et':'20200101T000000','adfq':'sp.example.com','suid':24,'tgis':['C-b']}}",
    };
    struct world w = {0};
    struct people p;
    world_open(&w, *state);
    meet(&w, &p);
    enrol(&w, &p.a);
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        if (create(&w, &p.a, MEF_TY_KEY_REG, bodies[i]) != ST_BAD_REQUEST)
            fail_msg("%s: %d", bodies[i], w.host.rsp.status);
    assert_int_equal(w.host.exports, 0);
    const char *good[] = {SKR("21", "['maf.example.com']", ",'kv':'" KEY16 "'"), SKR("22", "['C-b']", ",'kv':'" KEY16 "'"),
                          SKR("23", "['/in-cse']", ",'kv':'" KEY16 "'"), SKR("25", "['C-b','S1']", ",'kv':'" KEY16 "'")};
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, good[i]), ST_CREATED);
    world_close(&w);
}

/* No key value: RelativeKeyID || key is the session's exporter output; once only. */
static void test_export(void **state)
{
    struct world w = {0};
    struct people p;
    uint8_t id[16], key[32];
    char hex[33];
    world_open(&w, *state);
    meet(&w, &p);
    enrol(&w, &p.a);
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, SKR("24", "['C-b']", "")), ST_CREATED);
    for (size_t i = 0; i < 48; i++)
        *(i < 16 ? &id[i] : &key[i - 16]) = (uint8_t)(7 + i);
    hex_encode(id, 16, hex);
    assert_string_equal(text_of(attrs(&w), "ri"), hex);
    char path[64];
    snprintf(path, sizeof path, "mef/%s", hex);
    assert_string_equal(w.host.location, path);
    assert_int_equal(get(&w, &p.b, path), ST_OK);
    assert_string_equal(text_of(attrs(&w), "kv"), "FxgZGhscHR4fICEiIyQlJicoKSorLC0uLzAxMjM0NTY=");
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, SKR("24", "['C-b']", "")), ST_CONFLICT);
    assert_int_equal(ask(&w, &p.a, CSE_DELETE, path, -1, NULL, NULL, 0), ST_DELETED);
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, SKR("24", "['C-b']", "")), ST_CONFLICT); /* still the same bytes */
    p.a.session = 11;
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, SKR("24", "['C-b']", "")), ST_CREATED);
    p.a.session = 901; /* the host can not export */
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, SKR("24", "['C-b']", "")), ST_ASSOCIATION_REQUIRED);
    world_close(&w);
}

/* What a session exports ends with the credential that the session is made of; what a client brings does not. A record
 * of an exported key without that end is one of before there was one. */
static void test_exported_key_ends_with_its_credential(void **state)
{
    struct world w = {0};
    struct people p;
    struct mef_result r = {0};
    char id[128], exported[128];
    world_open(&w, *state);
    meet(&w, &p);
    cJSON *in = json("{'for':'C-a','kind':'psk','expiresAt':'2026-12-15T03:04:05Z'}");
    WITH_TXN(&w, mef_credential_create(w.mef, t, ADMIN, "operator:test", in, &r));
    cJSON_Delete(in);
    snprintf(id, sizeof id, "%s", text_of(r.body, "id"));
    cJSON_Delete(r.body);
    p.a = (struct who){id, "C-a", 9};
    enrol(&w, &p.a);
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, SKR("24", "['C-b']", ",'kv':'" KEY16 "'")), ST_CREATED);
    assert_true(strcmp(text_of(attrs(&w), "et"), "20261215T030405") > 0);
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, SKR("24", "['C-b']", "")), ST_CREATED);
    location(&w, exported);
    for (int restarted = 0; restarted < 2; restarted++) {
        assert_int_equal(get(&w, &p.a, exported), ST_OK);
        assert_string_equal(text_of(attrs(&w), "et"), "20261215T030405");
        assert_int_equal(ask(&w, &p.a, CSE_UPDATE, exported, -1, "{'sec:skr':{'et':'20261201T000000'}}", NULL, 0), ST_UPDATED);
        assert_string_equal(text_of(attrs(&w), "et"), "20261201T000000");
        assert_int_equal(ask(&w, &p.a, CSE_UPDATE, exported, -1, "{'sec:skr':{'et':'" LATER "'}}", NULL, 0), ST_UPDATED);
        assert_string_equal(text_of(attrs(&w), "et"), "20261215T030405");
        world_close(&w);
        world_open(&w, *state);
    }
    world_close(&w);
}

/* A node asks in the name of an AE that the operator put on its list, and of no other; what it makes is the AE's. */
static void test_node(void **state)
{
    static const struct {
        const char *body, *field;
    } wrong[] = {
        {"{'for':'C-a','kind':'psk','actsFor':['C-b']}", "actsFor"},
        {"{'for':'gateway:hall','kind':'psk','actsFor':['C-b']}", "actsFor"},
        {"{'for':'00124b0001020304','kind':'psk','actsFor':['C-b']}", "actsFor"},
        {"{'for':'node:1','kind':'psk','actsFor':[]}", "actsFor"},
        {"{'for':'node:1','kind':'psk','actsFor':['maf.example.com']}", "actsFor"},
        {"{'for':'node:1','kind':'psk','actsFor':['C-b','node:2']}", "actsFor"},
        {"{'for':'node:1','kind':'psk','actsFor':'C-b'}", "actsFor"},
        {"{'for':'node:1','kind':'psk','actsFor':[1]}", "actsFor"},
    };
    struct world w = {0};
    struct people p;
    struct mef_result r = {0};
    char node[128], key[128];
    world_open(&w, *state);
    meet(&w, &p);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        cJSON *in = json(wrong[i].body);
        r = (struct mef_result){0};
        WITH_TXN(&w, mef_credential_create(w.mef, t, ADMIN, "operator:test", in, &r));
        assert_int_equal(r.st, ST_BAD_REQUEST);
        assert_string_equal(r.field, wrong[i].field);
        cJSON_Delete(in);
    }
    cJSON *in = json("{'for':'node:1','kind':'psk','actsFor':['C-b','/in-cse/C-c','C-b','/in-cse']}");
    r = (struct mef_result){0};
    WITH_TXN(&w, mef_credential_create(w.mef, t, ADMIN, "operator:test", in, &r));
    cJSON_Delete(in);
    assert_int_equal(r.st, ST_CREATED);
    assert_string_equal(text_of(r.body, "role"), "node");
    assert_int_equal(cJSON_GetArraySize(member(r.body, "actsFor")), 3);
    snprintf(node, sizeof node, "%s", text_of(r.body, "id"));
    cJSON_Delete(r.body);
    struct who b = {node, "C-b", 9}, c = {node, "//sp.example.com/in-cse/C-c", 9}, a = {node, "C-a", 9}, self = {node, "node:1", 9};
    enrol(&w, &b);
    assert_string_equal(text_of(attrs(&w), "srci"), "//sp.example.com/in-cse/C-b");
    assert_int_equal(create(&w, &p.b, MEF_TY_CLIENT_REG, "{'sec:mecr':{'et':'" LATER "','adfq':'sp.example.com'}}"), ST_ALREADY_REGISTERED);
    assert_int_equal(create(&w, &c, MEF_TY_KEY_REG, SKR("24", "['C-a']", ",'kv':'" KEY16 "'")), ST_NO_PRIVILEGE); /* not registered */
    enrol(&w, &c);
    assert_int_equal(create(&w, &b, MEF_TY_KEY_REG, SKR("24", "['C-c']", ",'kv':'" KEY16 "'")), ST_CREATED);
    location(&w, key);
    for (int restarted = 0; restarted < 2; restarted++) {
        assert_int_equal(get(&w, &c, key), ST_OK);
        assert_string_equal(text_of(attrs(&w), "kv"), KEY16);
        assert_int_equal(get(&w, &b, key), ST_OK);
        assert_null(member(attrs(&w), "kv"));
        assert_int_equal(get(&w, &p.a, key), ST_NO_PRIVILEGE);
        assert_int_equal(get(&w, &a, key), ST_NOT_AUTHENTICATED); /* a client, but not of this node */
        assert_int_equal(get(&w, &self, "mef"), ST_OK);
        assert_int_equal(get(&w, &self, key), ST_NO_PRIVILEGE); /* in its own name it is no target */
        assert_int_equal(create(&w, &self, MEF_TY_CLIENT_REG, "{'sec:mecr':{'et':'" LATER "','adfq':'sp.example.com'}}"), ST_NO_PRIVILEGE);
        assert_int_equal(mef_credential_role(w.mef, ADMIN, node), MEF_ROLE_NODE); /* no gateway */
        world_close(&w);
        world_open(&w, *state);
    }
    r = (struct mef_result){0};
    WITH_TXN(&w, mef_credential_delete(w.mef, t, ADMIN, "operator:test", node, &r));
    assert_int_equal(get(&w, &b, key), ST_ASSOCIATION_REQUIRED);
    assert_int_equal(get(&w, &p.b, key), ST_OK);
    world_close(&w);
}

/* One client cannot use up what all share, also not by registering anew; a restart counts the same. */
static void test_share_of_one_client(void **state)
{
    struct world w = {0};
    struct people p;
    char first[128];
    static const char conf[] = DEFAULT_CONF "max-keys-per-client = 2\n", key[] = SKR("24", "['C-b']", ",'kv':'" KEY16 "'");
    world_open_with(&w, *state, conf);
    meet(&w, &p);
    enrol(&w, &p.a);
    enrol(&w, &p.b);
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, key), ST_CREATED);
    location(&w, first);
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, key), ST_CREATED);
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, key), ST_TOO_MANY);
    assert_string_equal(w.host.code, "max-keys-per-client");
    assert_int_equal(create(&w, &p.b, MEF_TY_KEY_REG, key), ST_CREATED);
    world_close(&w);
    world_open_with(&w, *state, conf);
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, key), ST_TOO_MANY);
    assert_int_equal(ask(&w, &p.a, CSE_DELETE, first, -1, NULL, NULL, 0), ST_DELETED);
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, key), ST_CREATED);
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, key), ST_TOO_MANY);
    world_close(&w);
}

/* A key that the gateway room publishes: targets and the application's members may have it, nobody may change it. */
static void test_published(void **state)
{
    struct world w = {0};
    struct people p;
    char relkey[MEF_RELKEYID], path[64];
    struct mef_result r = {0};
    vault_id key;
    world_open(&w, *state);
    meet(&w, &p);
    const char *targets[] = {"//sp.example.com/in-cse/C-a"};
    const char *labels[] = {"use:zigbee-nwk", "eui64:00124b0001020304"};
    WITH_TXN(&w, {
        assert_int_equal(vault_generate(w.vault, t, VAULT_NETWORK_KEY, 16, &key), ST_OK);
        struct mef_keyreg_new in = {ADMIN, key, 24, "lights", targets, 1, labels, 2, START + 86400000};
        assert_int_equal(mef_keyreg_add(w.mef, t, &in, relkey), ST_OK);
    });
    snprintf(path, sizeof path, "mef/%s", relkey);
    assert_int_equal(get(&w, &p.a, path), ST_OK);
    assert_int_equal(strlen(text_of(attrs(&w), "kv")), 24);
    assert_int_equal(get(&w, &p.b, path), ST_NO_PRIVILEGE);
    /* A later deposit of another client under the device's label does not get in front of it. */
    enrol(&w, &p.b);
    assert_int_equal(create(&w, &p.b, MEF_TY_KEY_REG, "{'sec:skr':{'et':'" LATER "','adfq':'sp.example.com','suid':24,'tgis':['C-a'],"
                            "'kv':'" KEY16 "','lbl':['eui64:00124b0001020304']}}"), ST_CREATED);
    const struct cse_param find[] = {{"fu", "1"}, {"lbl", "eui64:00124b0001020304"}};
    assert_int_equal(ask(&w, &p.a, CSE_RETRIEVE, "mef", -1, NULL, find, 2), ST_OK);
    assert_int_equal(cJSON_GetArraySize(attrs(&w)), 2);
    assert_string_equal(cJSON_GetArrayItem(attrs(&w), 0)->valuestring, path);
    cJSON *in = json("{'members':['C-b']}");
    WITH_TXN(&w, mef_application_put(w.mef, t, ADMIN, "operator:test", "lights", in, &r));
    assert_int_equal(r.st, ST_CREATED);
    cJSON_Delete(r.body);
    assert_int_equal(get(&w, &p.b, path), ST_OK);
    assert_true(mef_keyreg_allows(w.mef, relkey, &(struct mef_principal){.role = MEF_ROLE_CLIENT, .id = "//sp.example.com/in-cse/C-b", .admin = ADMIN}));
    assert_false(mef_keyreg_allows(w.mef, relkey, &(struct mef_principal){.role = MEF_ROLE_CLIENT, .id = "//sp.example.com/in-cse/C-b", .admin = OTHER_ADMIN}));
    assert_false(mef_keyreg_allows(w.mef, relkey, &(struct mef_principal){.role = MEF_ROLE_GATEWAY, .id = "//sp.example.com/in-cse/C-b", .admin = ADMIN}));
    assert_int_equal(ask(&w, &p.a, CSE_DELETE, path, -1, NULL, NULL, 0), ST_NO_PRIVILEGE);
    assert_int_equal(ask(&w, &p.a, CSE_UPDATE, path, -1, "{'sec:skr':{'lbl':null}}", NULL, 0), ST_NO_PRIVILEGE);
    WITH_TXN(&w, mef_application_delete(w.mef, t, ADMIN, "operator:test", "lights", &r));
    assert_int_equal(get(&w, &p.b, path), ST_NO_PRIVILEGE);
    world_close(&w);
    world_open(&w, *state);
    assert_int_equal(get(&w, &p.a, path), ST_OK);
    pass(&w.host, 2 * 86400000);
    assert_int_equal(get(&w, &p.a, path), ST_NOT_FOUND); /* expired */
    assert_true(vault_has(w.vault, key)); /* the device's own; it was only published */
    cJSON_Delete(in);
    world_close(&w);
}

/* --- discovery ---------------------------------------------------------------------------------------------------- */

static int find(struct world *w, const struct who *who, const struct cse_param *params, size_t n)
{
    assert_int_equal(ask(w, who, CSE_RETRIEVE, "mef", -1, NULL, params, n), ST_OK);
    const cJSON *list = member(w->host.rsp.pc, "m2m:uril");
    assert_true(cJSON_IsArray(list));
    return cJSON_GetArraySize(list);
}

static void test_discovery(void **state)
{
    struct world w = {0};
    struct people p;
    char first[128], second[128];
    world_open(&w, *state);
    meet(&w, &p);
    enrol(&w, &p.a);
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, SKR("24", "['C-b']", ",'kv':'" KEY16 "','lbl':['d:1','all']")), ST_CREATED);
    location(&w, first);
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, SKR("24", "['C-b','C-c']", ",'kv':'" KEY16 "','lbl':['d:1','d:2','all']")), ST_CREATED);
    location(&w, second);
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, SKR("24", "['C-c']", ",'kv':'" KEY16 "','lbl':['d:1']")), ST_CREATED);
    const struct cse_param one[] = {{"fu", "1"}, {"lbl", "d:1"}}, both[] = {{"fu", "1"}, {"lbl", "d:1"}, {"lbl", "d:2"}},
                           none[] = {{"fu", "1"}, {"lbl", "d:9"}}, all[] = {{"fu", "1"}},
                           limited[] = {{"lbl", "d:1"}, {"fu", "1"}, {"lim", "1"}};
    assert_int_equal(find(&w, &p.b, one, 2), 2); /* newest first, the third is not for b */
    const cJSON *list = member(w.host.rsp.pc, "m2m:uril");
    assert_string_equal(cJSON_GetArrayItem(list, 0)->valuestring, second);
    assert_string_equal(cJSON_GetArrayItem(list, 1)->valuestring, first);
    assert_int_equal(find(&w, &p.b, both, 3), 2);
    assert_int_equal(find(&w, &p.b, none, 2), 0);
    assert_int_equal(find(&w, &p.b, all, 1), 2);
    assert_int_equal(find(&w, &p.b, limited, 3), 1);
    assert_int_equal(find(&w, &p.a, one, 2), 3); /* source of all */
    assert_int_equal(find(&w, &p.a, all, 1), 4); /* and its registration */
    assert_int_equal(find(&w, &p.x, one, 2), 0);
    assert_int_equal(find(&w, &p.g, all, 1), 0);
    const struct cse_param bad[][2] = {{{"fu", "2"}, {"lbl", "x"}}, {{"fu", "1"}, {"lbl", ""}}, {{"fu", "1"}, {"lim", "0"}},
                                       {{"fu", "1"}, {"crb", "x"}}, {{"fu", "1"}, {"rcn", "9"}}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(ask(&w, &p.a, CSE_RETRIEVE, "mef", -1, NULL, bad[i], 2), ST_BAD_REQUEST);
    /* labels that went away are not found, also after a restart */
    assert_int_equal(ask(&w, &p.a, CSE_UPDATE, second, -1, "{'sec:skr':{'lbl':['d:3']}}", NULL, 0), ST_UPDATED);
    assert_int_equal(find(&w, &p.b, one, 2), 1);
    for (int i = 0; i < 6; i++)
        assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, SKR("24", "['C-b']", ",'kv':'" KEY16 "'")), ST_CREATED);
    assert_int_equal(find(&w, &p.a, all, 1), 10);
    cJSON *order = cJSON_Duplicate(w.host.rsp.pc, true);
    world_close(&w);
    world_open(&w, *state);
    assert_int_equal(find(&w, &p.b, one, 2), 1);
    assert_int_equal(find(&w, &p.a, all, 1), 10);
    assert_true(cJSON_Compare(order, w.host.rsp.pc, true));
    cJSON_Delete(order);
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

/* --- policy rules ------------------------------------------------------------------------------------------------- */

static enum st put_rule(struct world *w, const char *admin, const char *name, const char *body)
{
    struct mef_result r = {0};
    cJSON *in = json(body);
    WITH_TXN(w, mef_policy_put(w->mef, t, admin, "operator:test", name, in, &r));
    cJSON_Delete(in);
    cJSON_Delete(r.body);
    return r.st;
}

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

/* --- the trail, and memory ---------------------------------------------------------------------------------------- */

static bool in_trail(struct world *w, const char *admin, const char *action, const char *outcome)
{
    bool found = false;
    cJSON *page = audit_page(w->audit, admin, 0, 1000);
    const cJSON *e;
    cJSON_ArrayForEach(e, page) if (strcmp(text_of(e, "action"), action) == 0 && strcmp(text_of(e, "outcome"), outcome) == 0)
        found = true;
    cJSON_Delete(page);
    return found;
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

/* --- commands ----------------------------------------------------------------------------------------------------- */

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

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
/* What a target fetches is derived from the exported key for it and its usage; its text is that of tests/vectors/onem2m.py. */
static void test_fetch(void **state)
{
    static const struct {
        const char *before;
        int digits; /* of the key's id */
        const char *after;
        enum st st;
    } rows[] = {
        {"", 32, "@mef.example.com/24", ST_OK},
        {"", 32, "@MEF.example.COM/24", ST_OK},
        {"", 32, "@mef.example.com/25", ST_NO_PRIVILEGE},
        {"", 32, "@mef.example.com/20", ST_BAD_REQUEST},
        {"", 32, "@mef.example.com/26", ST_BAD_REQUEST},
        {"", 32, "@mef.example.com/024", ST_BAD_REQUEST},
        {"", 32, "@mef.example.com/240", ST_BAD_REQUEST},
        {"", 32, "@mef.example.com/2", ST_BAD_REQUEST},
        {"", 32, "@mef.example.com/", ST_BAD_REQUEST},
        {"", 32, "@mef.example.com", ST_NOT_FOUND},
        {"", 32, "@mef.example.com.au/24", ST_NOT_FOUND},
        {"", 32, "@mef.example.co/24", ST_NOT_FOUND},
        {"", 32, "@/24", ST_NOT_FOUND},
        {"", 32, "/24", ST_NOT_FOUND},
        {"", 32, "/24@mef.example.com", ST_NOT_FOUND},
        {"", 32, "@mef.example.com/24/x", ST_NOT_FOUND},
        {"", 31, "@mef.example.com/24", ST_NOT_FOUND},
        {"0", 32, "@mef.example.com/24", ST_NOT_FOUND},
        {"0", 31, "@mef.example.com/24", ST_NOT_FOUND},
        {"", 0, "@mef.example.com/24", ST_NOT_FOUND},
    };
    struct world w = {0};
    struct people p;
    char id[128], path[256];
    world_open_with(&w, *state, DEFAULT_CONF "fetch-credentials = yes\n");
    meet(&w, &p);
    enrol(&w, &p.a);
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, SKR("24", "['C-b','C-x']", "")), ST_CREATED);
    snprintf(id, sizeof id, "%s", text_of(attrs(&w), "ri"));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(path, sizeof path, "fetchCredentials/%s%.*s%s", rows[i].before, rows[i].digits, id, rows[i].after);
        assert_int_equal(get(&w, &p.b, path), rows[i].st);
        bool ok = rows[i].st == ST_OK;
        assert_int_equal(cJSON_IsTrue(member(w.host.rsp.pc, "Status")), ok);
        assert_int_equal(w.host.rsp.sensitive, ok);
        assert_true((member(w.host.rsp.pc, "Credential") != NULL) == ok && (member(w.host.rsp.pc, "ErrorString") != NULL) == !ok);
        if (ok) {
            assert_string_equal(text_of(w.host.rsp.pc, "Credential"), "VpgZTZjmlHo+hhjCBZA9aw7nhkEwC24jmjrE0b9KRPE=");
            assert_string_equal(text_of(w.host.rsp.pc, "EnroleeID"), "//sp.example.com/in-cse/C-a");
        }
    }
    snprintf(path, sizeof path, "fetchCredentials/%s@mef.example.com/24", id);
    assert_int_equal(get(&w, &p.a, path), ST_NO_PRIVILEGE); /* the enrolee itself */
    assert_int_equal(get(&w, &p.x, path), ST_NOT_FOUND);    /* of another stakeholder, also as a target */
    assert_int_equal(get(&w, &p.g, path), ST_NO_PRIVILEGE);
    assert_int_equal(ask(&w, &p.b, CSE_DELETE, path, -1, NULL, NULL, 0), ST_NOT_ALLOWED);
    const struct cse_param rcn = {"rcn", "1"};
    assert_int_equal(ask(&w, &p.b, CSE_RETRIEVE, path, -1, NULL, &rcn, 1), ST_BAD_REQUEST);
    assert_true(in_trail(&w, ADMIN, "key.fetched", "ok") && in_trail(&w, ADMIN, "key.fetch", "not-a-target"));
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, SKR("24", "['C-b']", ",'kv':'" KEY16 "'")), ST_CREATED);
    snprintf(path, sizeof path, "fetchCredentials/%s@mef.example.com/24", text_of(attrs(&w), "ri"));
    assert_int_equal(get(&w, &p.b, path), ST_NOT_FOUND); /* given by value: no Ke */
    snprintf(path, sizeof path, "fetchCredentials/%s@mef.example.com/24", id);
    assert_int_equal(put_rule(&w, ADMIN, "a", "{'effect':'deny','what':['retrieve']}"), ST_CREATED);
    assert_int_equal(get(&w, &p.b, path), ST_NO_PRIVILEGE); /* a rule for retrieving is one for fetching */
    assert_false(w.host.rsp.sensitive);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_identity), T(test_strangers_do_not_fill_the_trail),  T(test_credentials), T(test_certificate_credentials), T(test_a_client_of_two_stakeholders), T(test_rules), T(test_names_of_certificates), T(test_credential_refusals), T(test_registration), T(test_expiry), T(test_expired_unswept), T(test_durable_first),
        T(test_malformed), T(test_key),         T(test_key_refusals),        T(test_export), T(test_exported_key_ends_with_its_credential), T(test_node), T(test_fetch), T(test_published), T(test_share_of_one_client),
        T(test_discovery), T(test_result_content), T(test_trail),            T(test_ids),          T(test_times),
        T(test_no_more_commands), T(test_commands), T(test_commands_by_rule), T(test_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
