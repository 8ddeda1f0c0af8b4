/* Keys: deposited, exported, published, fetched, found. */
#include "tests/unit/mef_fixture.h"

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

static const struct {
    const char *before;
    int digits; /* of the key's id */
    const char *after;
    enum st st;
} fetches[] = {
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

/* What a target fetches is derived from the exported key for it and its usage; its text is that of tests/vectors/onem2m.py. */
static void test_fetch(void **state)
{
    struct world w = {0};
    struct people p;
    char id[128], path[256];
    world_open_with(&w, *state, DEFAULT_CONF "fetch-credentials = yes\n");
    meet(&w, &p);
    enrol(&w, &p.a);
    assert_int_equal(create(&w, &p.a, MEF_TY_KEY_REG, SKR("24", "['C-b','C-x']", "")), ST_CREATED);
    snprintf(id, sizeof id, "%s", text_of(attrs(&w), "ri"));
    for (size_t i = 0; i < sizeof fetches / sizeof *fetches; i++) {
        snprintf(path, sizeof path, "fetchCredentials/%s%.*s%s", fetches[i].before, fetches[i].digits, id, fetches[i].after);
        assert_int_equal(get(&w, &p.b, path), fetches[i].st);
        bool ok = fetches[i].st == ST_OK;
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_key), T(test_key_refusals), T(test_export), T(test_exported_key_ends_with_its_credential),
        T(test_share_of_one_client), T(test_published), T(test_fetch), T(test_discovery),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
