/* Who asks: credentials of every kind, the names that they prove, and those who act for others. */
#include "tests/unit/mef_fixture.h"

#include <openssl/opensslv.h>

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
    cJSON *trail = audit_page(w.audit, w.store, ADMIN, 0, 1);
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

static void each_wrong_list_is_refused(struct world *w)
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
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        cJSON *in = json(wrong[i].body);
        struct mef_result r = {0};
        WITH_TXN(w, mef_credential_create(w->mef, t, ADMIN, "operator:test", in, &r));
        assert_int_equal(r.st, ST_BAD_REQUEST);
        assert_string_equal(r.field, wrong[i].field);
        cJSON_Delete(in);
    }
}

/* A node asks in the name of an AE that the operator put on its list, and of no other; what it makes is the AE's. */
static void test_node(void **state)
{
    struct world w = {0};
    struct people p;
    struct mef_result r = {0};
    char node[128], key[128];
    world_open(&w, *state);
    meet(&w, &p);
    each_wrong_list_is_refused(&w);
    cJSON *in = json("{'for':'node:1','kind':'psk','actsFor':['C-b','/in-cse/C-c','C-b','/in-cse']}");
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

static bool registered(struct world *w)
{
    cJSON *list = mef_registration_list(w->mef, ADMIN, "", 10);
    int n = cJSON_GetArraySize(list);
    cJSON_Delete(list);
    return n > 0;
}

static void take_back(struct world *w, const char *id)
{
    struct mef_result r = {0};
    WITH_TXN(w, mef_credential_delete(w->mef, t, ADMIN, "operator:test", id, &r));
    assert_int_equal(r.st, ST_DELETED);
}

/* A client is registered as long as a credential that counts speaks for it: an expired one, another stakeholder's and
 * another client's do not. */
static void test_who_is_registered_still(void **state)
{
    struct world w = {0};
    struct people p;
    char first[128], second[128], brief[128], node[128], other[128];
    world_open(&w, *state);
    meet(&w, &p);
    enrol(&w, &p.a);
    assert_int_equal(certify(&w, ADMIN, "{'for':'C-a','kind':'certificate','san':'brief','expiresAt':'2026-11-21T00:01:00Z'}", brief), ST_CREATED);
    assert_int_equal(certify(&w, ADMIN, "{'for':'C-a','kind':'certificate','san':'first'}", first), ST_CREATED);
    assert_int_equal(certify(&w, ADMIN, "{'for':'C-a','kind':'certificate','san':'second','expiresAt':'2026-11-22T00:00:00Z'}", second), ST_CREATED);
    assert_int_equal(certify(&w, ADMIN, "{'for':'node:0.2.481.1.7','kind':'certificate','actsFor':['C-z','C-a']}", node), ST_CREATED);
    assert_int_equal(certify(&w, OTHER_ADMIN, "{'for':'C-a','kind':'certificate','san':'other'}", other), ST_CREATED);
    pass(&w.host, 60000);
    const char *const ends[] = {p.a_id, first, node, second}; /* the brief one is left, and those of others */
    for (size_t i = 0; i < 4; i++) {
        assert_true(registered(&w));
        take_back(&w, ends[i]);
    }
    assert_false(registered(&w));
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_identity), T(test_strangers_do_not_fill_the_trail), T(test_credentials),
        T(test_certificate_credentials), T(test_a_client_of_two_stakeholders), T(test_names_of_certificates),
        T(test_credential_refusals), T(test_node), T(test_who_is_registered_still),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
