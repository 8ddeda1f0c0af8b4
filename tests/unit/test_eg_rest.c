/* Install codes, gateways and devices as the operator's REST sees them. */
#include "tests/unit/eg_fixture.h"

static cJSON *get_code(struct world *w, const char *admin, eui64_t eui) { return eg_code_get(w->eg, admin, eui); }

static void install_codes_come_and_go(void **state)
{
    struct world *w = *state;
    struct mef_result r = {0};
    assert_int_equal(put_code(w, DEV, A_CODE), ST_CREATED);
    assert_int_equal(put_code(w, DEV, A_CODE), ST_OK);
    /* The same code written otherwise, the target by its short name. */
    assert_int_equal(put_code(w, DEV, "{\"installCode\":\"83fe-d340-7a93-9723-a5c6-39b2-6916-d505 c3b5\",\"targets\":[\"Cae1\"]}"), ST_OK);
    assert_int_equal(put_code(w, DEV, "{\"linkKey\":\"" CODE_KEY "\",\"targets\":[\"" AE "\"],\"application\":\"demo\","
                                      "\"gateways\":[\"00:12:4b:00:1c:a1:b2:c3\"],\"expiresAt\":\"2031-02-03T04:05:06+01:00\"}"), ST_OK);
    reopen(w);
    cJSON *o = get_code(w, ADMIN, DEV);
    char *text = cJSON_PrintUnformatted(o);
    assert_string_equal(text, "{\"eui64\":\"00158d0003123456\",\"application\":\"demo\",\"targets\":[\"" AE "\"],"
                              "\"gateways\":[\"00124b001ca1b2c3\"],\"expiresAt\":\"2031-02-03T03:05:06Z\","
                              "\"state\":\"registered\",\"createdAt\":\"2026-09-21T14:13:20Z\"}");
    free(text);
    cJSON_Delete(o);
    struct store_txn *t = store_begin(w->store);
    eg_code_delete(w->eg, t, OTHER_ADMIN, "operator:test", DEV, &r);
    assert_int_equal(r.st, ST_NOT_FOUND);
    eg_code_delete(w->eg, t, ADMIN, "operator:test", DEV, &r);
    assert_int_equal(r.st, ST_DELETED);
    finish(w, t, &r);
    reopen(w);
    assert_null(get_code(w, ADMIN, DEV));
    assert_null(eg_device_get(w->eg, ADMIN, DEV));
}

static void bad_registrations_are_refused(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *json, *code;
        enum st st;
    } cases[] = {
        {"{\"installCode\":\"83FED3407A939723A5C639B26916D505C3B6\"}", "bad-crc", ST_BAD_REQUEST},
        {"{\"installCode\":\"83FED3407A939723A5C639B26916D505\"}", "bad-length", ST_BAD_REQUEST},
        {"{\"installCode\":\"83FED3407A939723A5C639B26916D505C3BX\"}", "bad-hex", ST_BAD_REQUEST},
        {"{\"linkKey\":\"5a6967426565416c6c69616e63653039\"}", "public-key", ST_UNACCEPTABLE},
        {"{\"linkKey\":\"00000000000000000000000000000000\"}", "public-key", ST_UNACCEPTABLE},
        {"{\"installCode\":\"" CODE "\",\"colour\":\"red\"}", "unknown-member", ST_BAD_REQUEST},
        {"{\"installCode\":\"" CODE "\",\"linkKey\":\"" CODE_KEY "\"}", "both-given", ST_BAD_REQUEST},
        {"{\"installCode\":\"" CODE "\",\"installCode\":\"" CODE "\"}", "duplicate", ST_BAD_REQUEST},
        {"{}", "missing", ST_BAD_REQUEST},
        {"[]", "bad-type", ST_BAD_REQUEST},
        {"{\"installCode\":5}", "bad-value", ST_BAD_REQUEST},
        {"{\"installCode\":\"" CODE "\",\"targets\":\"" AE "\"}", "bad-value", ST_BAD_REQUEST},
        {"{\"installCode\":\"" CODE "\",\"targets\":[\"not an id\"]}", "bad-value", ST_BAD_REQUEST},
        {"{\"installCode\":\"" CODE "\",\"gateways\":[\"12\"]}", "bad-value", ST_BAD_REQUEST},
        {"{\"installCode\":\"" CODE "\",\"expiresAt\":\"tomorrow\"}", "bad-value", ST_BAD_REQUEST},
        {"{\"installCode\":\"" CODE "\",\"expiresAt\":\"2026-01-01T00:00:00Z\"}", "past", ST_BAD_REQUEST},
        {"{\"installCode\":\"" CODE "\",\"application\":\"\"}", "bad-value", ST_BAD_REQUEST},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char code[64];
        enum st st = put_code_as(w, ADMIN, DEV, cases[i].json, false, code);
        if (st != cases[i].st || strcmp(code, cases[i].code) != 0)
            fail_msg("%s: %d %s", cases[i].json, st, code);
    }
    char code[64];
    assert_int_equal(put_code_as(w, ADMIN, 0, A_CODE, false, code), ST_BAD_REQUEST);
    assert_null(get_code(w, ADMIN, DEV));
}

static void another_stakeholders_registration_is_neither_shown_nor_overwritten(void **state)
{
    struct world *w = *state;
    char code[64];
    assert_int_equal(put_code(w, DEV, A_CODE), ST_CREATED);
    assert_null(get_code(w, OTHER_ADMIN, DEV));
    assert_null(eg_device_get(w->eg, OTHER_ADMIN, DEV));
    assert_int_equal(put_code_as(w, OTHER_ADMIN, DEV, A_CODE, true, code), ST_EXISTS);
    assert_string_equal(code, "exists");
    assert_null(get_code(w, OTHER_ADMIN, DEV));
    cJSON *list = eg_code_list(w->eg, OTHER_ADMIN, 0, 10);
    assert_int_equal(cJSON_GetArraySize(list), 0);
    cJSON_Delete(list);
    cJSON *o = get_code(w, ADMIN, DEV);
    assert_non_null(o);
    cJSON_Delete(o);
}

static void an_enrolled_devices_code_is_replaced_only_on_request(void **state)
{
    struct world *w = *state;
    struct call c;
    char code[64];
    static const char other[] = "{\"installCode\":\"" OTHER_CODE "\",\"targets\":[\"" AE "\"]}";
    struct first_key k = enrol(w, DEV, 1);
    assert_int_equal(put_code(w, DEV, A_CODE), ST_OK);
    assert_int_equal(put_code_as(w, ADMIN, DEV, other, false, code), ST_CONFLICT);
    assert_string_equal(code, "device-enrolled");
    assert_int_equal(put_code_as(w, ADMIN, DEV, other, true, NULL), ST_OK);
    reopen(w);
    expect_device(w, DEV, "enrolled", NULL);
    struct frame_bytes f = reading(w, k.key, DEV, 8); /* its network key goes on */
    uplink(w, GW, &f);
    assert_int_equal(metric(w, "eg_uplink_dropped_total"), 0);
    assert_int_equal(ask(w, GW, DEV, 2, &c), EGP_OK);
    learn(w, &c, "58c1828cf7f1c3fe29e7b1024ad84bfa"); /* a new association is under the new code */
}

static void a_replaced_code_ends_what_was_pending(void **state)
{
    struct world *w = *state;
    struct call c;
    assert_int_equal(put_code(w, DEV, A_CODE), ST_CREATED);
    assert_int_equal(ask(w, GW, DEV, 1, &c), EGP_OK);
    struct first_key k = learn(w, &c, CODE_KEY);
    assert_int_equal(put_code(w, DEV, "{\"installCode\":\"" OTHER_CODE "\"}"), ST_OK);
    expect_device(w, DEV, "registered", "install-code-changed");
    struct frame_bytes f = reading(w, k.key, DEV, 1);
    uplink(w, GW, &f);
    expect_device(w, DEV, "registered", "install-code-changed");
}

static void labels(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *label, *code;
        enum st st;
    } cases[] = {
        {"Z:00158D0003123456$I:" CODE "%M:1246", "", ST_CREATED},
        {"Z:00158D0003123456$I:" CODE, "exists", ST_EXISTS},
        {"00158D0003ABCDEF|83FED3407A939723A5C639B26916D505C3B6", "bad-crc", ST_BAD_REQUEST},
        {"RB01SG000000000000000000000000000000000000158D0003ABCDEFDLK5A6967426565416C6C69616E63653039", "public-key", ST_UNACCEPTABLE},
        {"00158D0003ABCDEF|" CODE, "", ST_CREATED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mef_result r = {0};
        cJSON *in = cJSON_CreateObject();
        cJSON_AddStringToObject(in, "label", cases[i].label);
        struct store_txn *t = store_begin(w->store);
        eg_code_label(w->eg, t, ADMIN, "operator:test", in, &r);
        assert_int_equal(r.st, cases[i].st);
        assert_string_equal(r.code != NULL ? r.code : "", cases[i].code);
        finish(w, t, &r);
        free_result(&r);
        cJSON_Delete(in);
    }
    struct call c;
    assert_int_equal(ask(w, GW, DEV2, 1, &c), EGP_OK);
    learn(w, &c, CODE_KEY);
}

static void lists_page_in_order(void **state)
{
    struct world *w = *state;
    for (eui64_t i = 1; i <= 25; i++)
        assert_int_equal(put_code_as(w, i % 5 == 0 ? OTHER_ADMIN : ADMIN, i * 7919 % 101 + 1, A_CODE, false, NULL), ST_CREATED);
    eui64_t after = 0, last = 0;
    int total = 0;
    for (;;) {
        cJSON *page = eg_code_list(w->eg, ADMIN, after, 6), *o;
        cJSON *devices = eg_device_list(w->eg, ADMIN, after, 6);
        assert_int_equal(cJSON_GetArraySize(page), cJSON_GetArraySize(devices));
        cJSON_Delete(devices);
        int n = cJSON_GetArraySize(page);
        cJSON_ArrayForEach(o, page)
        {
            assert_true(eui64_parse(cJSON_GetObjectItem(o, "eui64")->valuestring, &after));
            assert_true(after > last);
            last = after;
        }
        cJSON_Delete(page);
        total += n;
        if (n < 6)
            break;
    }
    assert_int_equal(total, 20);
}

static void gateways_come_and_go(void **state)
{
    struct world *w = *state;
    struct call c;
    struct mef_result r = {0};
    char code[64];
    assert_int_equal(put_gateway_as(w, ADMIN, GW, w->gw, "", NULL), ST_OK);
    assert_int_equal(put_gateway_as(w, ADMIN, GW, w->gw, ",\"name\":\"hall\",\"panIds\":[6754]", NULL), ST_OK);
    static const struct {
        const char *more, *code;
    } bad[] = {{",\"panIds\":[65535]", "bad-value"}, {",\"panIds\":[\"x\"]", "bad-value"}, {",\"panIds\":[1,2,3,4,5,6,7,8,9]", "bad-value"},
               {",\"firstKeyForm\":\"long\"", "bad-value"}, {",\"colour\":1", "unknown-member"}, {",\"applications\":[1]", "bad-value"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(put_gateway_as(w, ADMIN, GW, w->gw, bad[i].more, code), ST_BAD_REQUEST);
        assert_string_equal(code, bad[i].code);
    }
    const char *wrong[] = {w->ae, w->foreign, "nobody"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(put_gateway_as(w, ADMIN, GW, wrong[i], "", code), ST_UNACCEPTABLE);
        assert_string_equal(code, "not-a-gateway-credential");
    }
    /* that it is bound is told to one who could bind it */
    char own[80];
    make_credential(w, OTHER_ADMIN, "gateway:shed", own);
    assert_int_equal(put_gateway_as(w, OTHER_ADMIN, GW, w->gw, "", code), ST_UNACCEPTABLE);
    assert_int_equal(put_gateway_as(w, OTHER_ADMIN, GW, own, ",\"colour\":1", code), ST_BAD_REQUEST);
    assert_int_equal(put_gateway_as(w, OTHER_ADMIN, GW, own, "", code), ST_EXISTS);
    assert_string_equal(code, "exists");
    assert_null(eg_gateway_get(w->eg, OTHER_ADMIN, GW));
    assert_int_equal(put_code(w, DEV, A_CODE), ST_CREATED);
    assert_int_equal(ask(w, GW, DEV, 1, &c), EGP_OK);
    reopen(w);
    cJSON *o = eg_gateway_get(w->eg, ADMIN, GW);
    assert_string_equal(cJSON_GetObjectItem(o, "name")->valuestring, "hall");
    assert_string_equal(cJSON_GetObjectItem(o, "firstKeyForm")->valuestring, "plain");
    cJSON_Delete(o);
    cJSON *list = eg_gateway_list(w->eg, ADMIN);
    assert_int_equal(cJSON_GetArraySize(list), 2);
    cJSON_Delete(list);
    struct store_txn *t = store_begin(w->store);
    eg_gateway_delete(w->eg, t, OTHER_ADMIN, "operator:test", GW, &r);
    assert_int_equal(r.st, ST_NOT_FOUND);
    eg_gateway_delete(w->eg, t, ADMIN, "operator:test", GW, &r);
    assert_int_equal(r.st, ST_DELETED);
    finish(w, t, &r);
    assert_int_equal(ask(w, GW, DEV, 1, &c), EGP_NOT_BOUND);
    reopen(w);
    assert_null(eg_gateway_get(w->eg, ADMIN, GW));
}

/* More registrations than are kept decoded: what nothing became of is decoded again when it is asked for, what something
 * became of stays as it is. */
static void many_registrations(void **state)
{
    enum { MANY = 2500 };
    struct world *w = *state;
    struct mef_result r = {0};
    cJSON *in = cJSON_Parse(A_CODE);
    struct first_key k = enrol(w, DEV, 1);
    struct call c;
    assert_int_equal(put_code(w, DEV2, A_CODE), ST_CREATED);
    assert_int_equal(ask(w, GW, DEV2, 2, &c), EGP_OK);
    struct first_key pending = learn(w, &c, CODE_KEY);
    for (unsigned round = 0; round < 2; round++) {
        struct store_txn *t = store_begin(w->store);
        for (eui64_t i = 1; i <= MANY; i++) {
            eg_code_put(w->eg, t, ADMIN, "operator:test", DEV + i, in, false, &r);
            assert_int_equal(r.st, round == 0 ? ST_CREATED : ST_OK);
            free_result(&r);
        }
        finish(w, t, &r);
        cJSON *codes = eg_code_list(w->eg, ADMIN, 0, 2 * MANY), *devices = eg_device_list(w->eg, ADMIN, 0, 2 * MANY);
        assert_int_equal(cJSON_GetArraySize(codes), MANY + 2);
        assert_int_equal(cJSON_GetArraySize(devices), MANY + 2);
        cJSON_Delete(codes);
        cJSON_Delete(devices);
        reopen(w);
    }
    cJSON_Delete(in);
    assert_int_equal(ask(w, GW, DEV + MANY, 3, &c), EGP_OK); /* one of the many comes */
    struct frame_bytes f = reading(w, k.key, DEV, 6);
    uplink(w, GW, &f);
    expect_device(w, DEV, "enrolled", NULL);
    f = reading(w, pending.key, DEV2, 5);
    uplink(w, GW, &f);
    expect_device(w, DEV2, "joining", NULL);
    expect_device(w, DEV + MANY, "key-sent", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(fn) cmocka_unit_test_setup_teardown(fn, world_new, world_free)
        T(install_codes_come_and_go),
        T(bad_registrations_are_refused),
        T(another_stakeholders_registration_is_neither_shown_nor_overwritten),
        T(an_enrolled_devices_code_is_replaced_only_on_request),
        T(a_replaced_code_ends_what_was_pending),
        T(labels),
        T(lists_page_in_order),
        T(many_registrations),
        T(gateways_come_and_go),
#undef T
    };
    return cmocka_run_group_tests_name("eg rest", tests, NULL, NULL);
}
