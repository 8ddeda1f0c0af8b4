/* What the host reads before a plugin sees it: JSON, HTTP texts, CoAP options, addresses. */
#include "cse-shim/base/hex.h"
#include "cse-shim/host/cbor_tree.h"
#include "cse-shim/host/coap_binding.h"
#include "cse-shim/host/json.h"
#include "cse-shim/host/listen.h"
#include "cse-shim/host/metrics.h"
#include "cse-shim/host/primitive.h"
#include "cse-shim/http/http_text.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <stdlib.h>

/* A request outside of any host. */
static struct request *blank(void)
{
    struct request *r = calloc(1, sizeof *r);
    r->text = wr_of(r->text_buffer, sizeof r->text_buffer);
    r->pub.path = r->path;
    r->pub.params = r->params;
    r->pub.ty = -1;
    r->pub.content_format = r->pub.accept = CSE_NO_FORMAT;
    return r;
}

static bool json_ok(const char *text)
{
    const char *why = NULL;
    cJSON *tree = json_parse(span_str(text), &why);
    cJSON_Delete(tree);
    assert_true(tree != NULL || why != NULL);
    return tree != NULL;
}

static void json_is_strict(void **state)
{
    (void)state;
    static const char *const good[] = {"{}", " [1, -0.5e+3, true ,false,null, \"\\u00e9\\\"\"]\n", "{\"a\":{\"b\":[{}]}}",
                                       "{\"\":0}", "[\"\xc3\xa9\xf0\x9f\x98\x80\"]", "[\"\\ud83d\\ude00\"]"};
    static const char *const bad[] = {
        "", " ", "1", "\"x\"", "null", "{", "[1,]", "{\"a\":1,}", "{a:1}", "{'a':1}", "[01]", "[1.]", "[.5]", "[+1]", "[1e]",
        "[-]", "[NaN]", "[Infinity]", "[1e999]", "{} {}", "{}x", "[1 2]", "{\"a\" 1}", "{\"a\":1,\"a\":2}", "[\"\t\"]",
        "[\"\\x\"]", "[\"\\u12g4\"]", "[\"\\u0000\"]", "[\"\xc3\"]", "[\"\xc0\x80\"]", "[\"\xed\xa0\x80\"]",
        "[\"\xf5\x80\x80\x80\"]", "[\"\\ud800\"]", "[tru]", "[\"a]", "[\"a\\", "/**/{}", "[\"a\"",
        "[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (!json_ok(good[i]))
            fail_msg("refused: %s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (json_ok(bad[i]))
            fail_msg("taken: %s", bad[i]);
    assert_true(json_ok("[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]")); /* 16 deep */
    const char *why;
    assert_null(json_parse(span_of("{}\0", 3), &why));
}

static void json_limits_members(void **state)
{
    (void)state;
    char text[8192], *p = text;
    for (int n = JSON_MAX_MEMBERS; n <= JSON_MAX_MEMBERS + 1; n++) {
        p = text;
        *p++ = '{';
        for (int i = 0; i < n; i++)
            p += sprintf(p, "%s\"m%d\":1", i == 0 ? "" : ",", i);
        strcpy(p, "}");
        assert_int_equal(json_ok(text), n == JSON_MAX_MEMBERS);
    }
}

static void json_prints_integers_whole(void **state)
{
    (void)state;
    cJSON *tree = cJSON_CreateArray();
    static const double values[] = {0, -1, 60001, 4294967295.0, 1763718454000.0, 1e15, 1e18, 9007199254740992.0, 0.5};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        cJSON_AddItemToArray(tree, cJSON_CreateNumber(values[i]));
    char *text = json_print(tree);
    assert_string_equal(
        text, "[0,-1,60001,4294967295,1763718454000,1000000000000000,1000000000000000000,9007199254740992,0.5]");
    json_text_free(text);
    cJSON_Delete(tree);
}

static const char *target_path(const char *target, enum st want)
{
    static char path[REQUEST_MAX_PATH];
    struct request *r = blank();
    http_read_target(r, span_str(target));
    assert_int_equal(r->refusal, want);
    strcpy(path, r->path);
    free(r);
    return path;
}

static void http_targets(void **state)
{
    (void)state;
    assert_string_equal(target_path("/", ST_OK), "");
    assert_string_equal(target_path("/mef/a%2Bb%20c/", ST_OK), "mef/a+b c");
    assert_string_equal(target_path("https://h:1/mef/x?fu=1", ST_OK), "mef/x");
    assert_string_equal(target_path("HTTPS://[::1]?fu=1", ST_OK), "");
    assert_string_equal(target_path("https://h", ST_OK), "");
    (void)target_path("https://", ST_BAD_REQUEST);
    (void)target_path("https:///mef", ST_BAD_REQUEST);
    (void)target_path("https://:1/mef", ST_BAD_REQUEST);
    (void)target_path("https://a@h/mef", ST_BAD_REQUEST);
    (void)target_path("http://h/mef", ST_BAD_REQUEST);
    (void)target_path("", ST_BAD_REQUEST);
    assert_string_equal(target_path("/_/mef.example.org/mef", ST_OK), "_/mef.example.org/mef");
    assert_string_equal(target_path("/v1?x", ST_OK), "v1");
    static const char *const bad[] = {"", "*", "http://h/x", "//x", "/a//b", "/a%2fb", "/%00", "/%", "/%4", "/%g0", "/%ff",
                                      "/?a=%", "/?%zz=1", "/?a=%00", "/?a=%c3"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        (void)target_path(bad[i], ST_BAD_REQUEST);
    struct request *r = blank();
    http_read_target(r, span_str("/mef?fu=1&lbl=eui64%3A00&flag&atrl=a+b&x=1=2"));
    assert_int_equal(r->pub.nparams, 5);
    assert_string_equal(r->params[1].name, "lbl");
    assert_string_equal(r->params[1].value, "eui64:00");
    assert_string_equal(r->params[2].name, "flag");
    assert_string_equal(r->params[2].value, "");
    assert_string_equal(r->params[3].value, "a+b");
    assert_string_equal(r->params[4].value, "1=2");
    free(r);
    char many[512] = "/?a";
    for (int i = 0; i < REQUEST_MAX_PARAMS; i++)
        strcat(many, "&a");
    (void)target_path(many, ST_BAD_REQUEST);
    char longest[REQUEST_MAX_PATH + 2] = "/";
    memset(longest + 1, 'a', REQUEST_MAX_PATH);
    (void)target_path(longest, ST_BAD_REQUEST);
    longest[REQUEST_MAX_PATH] = '\0';
    (void)target_path(longest, ST_OK);
}

static void http_media_types(void **state)
{
    (void)state;
    unsigned format;
    int ty;
    assert_true(http_read_content_type(span_str("application/vnd.onem2m-res+json; charset=utf-8; TY = 60002"), &format, &ty));
    assert_int_equal(format, FORMAT_RES_JSON);
    assert_int_equal(ty, 60002);
    assert_true(http_read_content_type(span_str("Application/JSON"), &format, &ty));
    assert_int_equal(format, FORMAT_JSON);
    assert_int_equal(ty, -1);
    assert_true(http_read_content_type(span_str("image/png"), &format, &ty));
    assert_int_equal(format, FORMAT_UNKNOWN);
    static const char *const bad[] = {"application/json;ty=", "application/json;ty=x", "a;ty=-1", "a;ty=999999999", "a;ty"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(http_read_content_type(span_str(bad[i]), &format, &ty));
}

static void http_accept(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        size_t n;
        unsigned want[3];
    } cases[] = {{"", 0, {0}},
                 {"text/html, */*;q=0.1", 1, {CSE_NO_FORMAT}},
                 {"text/html, application/json", 1, {FORMAT_JSON}},
                 {"application/cbor", 1, {FORMAT_CBOR}},
                 {"image/png", 1, {FORMAT_UNKNOWN}},
                 {"application/json;q=0", 1, {FORMAT_UNKNOWN}},
                 {"application/json;q=0.5, Application/CBOR", 2, {FORMAT_CBOR, FORMAT_JSON}},
                 {"application/json; q=0.25 ,application/octet-stream;q=0.251,text/event-stream;q=1.000",
                  3, {FORMAT_EVENTS, FORMAT_OCTETS, FORMAT_JSON}},
                 {"application/json;q=1.5,application/problem+json;q=0.001", 1, {FORMAT_JSON}}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct request *r = blank();
        http_read_accept(r, span_str(cases[i].value));
        if (r->naccepts != cases[i].n || memcmp(r->accepts, cases[i].want, cases[i].n * sizeof(unsigned)) != 0)
            fail_msg("%s: %zu, %u", cases[i].value, r->naccepts, r->accepts[0]);
        free(r);
    }
}

static bool coap_read(struct request *r, uint8_t code, const struct cep_option *opts, size_t n)
{
    struct cep_message m = {code, opts, n, span_str("{}")};
    return coap_request_read(r, &m);
}

#define OPT(num, text) {num, {(const uint8_t *)(text), sizeof(text) - 1}}

static void coap_options(void **state)
{
    (void)state;
    const struct cep_option good[] = {OPT(3, "host"),     OPT(11, "mef"),   OPT(11, "x y"),  OPT(12, "\x32"),
                                      OPT(15, "fu=1"),    OPT(15, "flag"),  OPT(17, "\x27\x11"), OPT(60, "\x05"),
                                      OPT(259, "20260101T000000"), OPT(267, "\xea\x62"), OPT(271, "3"),
                                      OPT(279, "//a/b/C"), OPT(283, "r1"), OPT(351, "x")};
    struct request *r = blank();
    assert_true(coap_read(r, CEP_POST, good, sizeof good / sizeof good[0]));
    assert_int_equal(r->refusal, ST_OK);
    assert_int_equal(r->method, METHOD_POST);
    assert_string_equal(r->path, "mef/x y");
    assert_int_equal(r->pub.content_format, FORMAT_JSON);
    assert_int_equal(r->accepts[0], FORMAT_RES_JSON);
    assert_int_equal(r->pub.ty, 60002);
    assert_string_equal(r->pub.from, "//a/b/C");
    assert_string_equal(r->rqi, "r1");
    assert_string_equal(r->rvi, "3");
    assert_string_equal(r->params[0].value, "1");
    assert_string_equal(r->params[1].name, "flag");
    assert_int_equal(r->pub.body.n, 2);
    free(r);
    /* Critical and unknown, repeated, or of a wrong length: not understood. Elective ones are left aside. */
    const struct cep_option critical[] = {OPT(9, "")}, proxy[] = {OPT(35, "coap://x")},
                            mixed[] = {OPT(257, "r"), OPT(283, "r")}, twice[] = {OPT(283, "a"), OPT(283, "b")},
                            elective[] = {OPT(258, "\x02"), OPT(258, "\x02")}, ty[] = {OPT(267, "\1\2\3")},
                            rvi[] = {OPT(271, "3.0")}, no_rvi[] = {OPT(271, "")};
    const struct {
        const struct cep_option *opts;
        size_t n;
        bool ok;
    } cases[] = {{critical, 1, false}, {proxy, 1, false}, {mixed, 2, false}, {twice, 2, false},
                 {elective, 2, true},  {ty, 1, false},    {rvi, 1, false},   {no_rvi, 1, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        r = blank();
        assert_int_equal(coap_read(r, CEP_GET, cases[i].opts, cases[i].n), cases[i].ok);
        free(r);
    }
    /* Malformed values are the request's fault, answered 4.00. */
    const struct cep_option slash[] = {OPT(11, "a/b")}, utf8[] = {OPT(279, "\xff")}, nul[] = {OPT(11, "a\0b")};
    const struct cep_option *const wrong[] = {slash, utf8, nul};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        r = blank();
        assert_true(coap_read(r, CEP_GET, wrong[i], 1));
        assert_int_equal(r->refusal, ST_BAD_REQUEST);
        free(r);
    }
    r = blank();
    assert_true(coap_read(r, CEP_FETCH, NULL, 0));
    assert_int_equal(r->refusal, ST_NOT_ALLOWED);
    free(r);
}

static void coap_options_of_both_generations(void **state)
{
    (void)state;
    const struct cep_option old[] = {OPT(11, "mef"), OPT(256, "//a/b/C"), OPT(257, "r1"), OPT(258, "name"),
                                     OPT(259, "20260101T000000"), OPT(260, "60000"), OPT(261, "x"), OPT(267, "\xea\x62"),
                                     OPT(269, "\1"), OPT(271, "2a"), OPT(292, "tag")};
    struct request *r = blank();
    assert_true(coap_read(r, CEP_POST, old, sizeof old / sizeof old[0]));
    assert_true(r->old_options);
    assert_string_equal(r->pub.from, "//a/b/C");
    assert_string_equal(r->rqi, "r1");
    assert_string_equal(r->rvi, "2a");
    assert_string_equal(r->expires, "60000");
    assert_string_equal(r->originated, "20260101T000000");
    assert_int_equal(r->pub.ty, 60002);
    free(r);
    /* 256 is elective today: beside today's options it means nothing. */
    const struct cep_option today[] = {OPT(256, "//x/y/Z"), OPT(258, "\x02"), OPT(279, "//a/b/C"), OPT(283, "r"),
                                       OPT(291, "20260101T000000"), OPT(292, "t")};
    r = blank();
    assert_true(coap_read(r, CEP_GET, today, sizeof today / sizeof today[0]));
    assert_false(r->old_options);
    assert_string_equal(r->pub.from, "//a/b/C");
    assert_string_equal(r->expires, "20260101T000000");
    free(r);
    const struct cep_option later[] = {OPT(257, "r"), OPT(291, "1")}, twice[] = {OPT(257, "r"), OPT(257, "s")};
    const struct cep_option *const wrong[] = {later, twice};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        r = blank();
        assert_false(coap_read(r, CEP_GET, wrong[i], 2));
        free(r);
    }
}

/* --- CBOR ------------------------------------------------------------------------------------------------------------ */

static cJSON *from_hex(const char *hex, const char **why)
{
    uint8_t bytes[4096];
    size_t n = strlen(hex) / 2;
    assert_true(n <= sizeof bytes && hex_decode(hex, 2 * n, bytes, n));
    return cbor_parse(span_of(bytes, n), why);
}

static void cbor_reads_as_json(void **state)
{
    (void)state;
    static const struct {
        const char *hex, *json;
    } good[] = {
        {"a0", "{}"},
        {"80", "[]"},
        {"9fff", "[]"},
        {"bf6161bf6162f5ffff", "{\"a\":{\"b\":true}}"},
        {"87001718641903e81a000f42401b001fffffffffffff20", "[0,23,100,1000,1000000,9007199254740991,-1]"},
        {"831b002000000000000038633b001fffffffffffff", "[9007199254740992,-100,-9007199254740992]"},
        {"85f4f5f6f93e00fb3ff199999999999a", "[false,true,null,1.5,1.1]"},
        {"82fa47c35000f9c400", "[100000,-4]"},
        {"8143010203", "[\"AQID\"]"},
        {"8240410f", "[\"\",\"Dw==\"]"},
        {"815f42010243030405ff", "[\"AQIDBAU=\"]"},
        {"817f61616162ff", "[\"ab\"]"},
        {"bf7f6161ff01ff", "{\"a\":1}"},
        {"d9d9f7a16161f6", "{\"a\":null}"},
        {"8162c3a9", "[\"\xc3\xa9\"]"},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        const char *why = NULL;
        cJSON *tree = from_hex(good[i].hex, &why);
        char *text = tree == NULL ? NULL : json_print(tree);
        if (text == NULL || strcmp(text, good[i].json) != 0)
            fail_msg("%s gave %s (%s)", good[i].hex, text == NULL ? "nothing" : text, why == NULL ? "" : why);
        json_text_free(text);
        cJSON_Delete(tree);
    }
}

static void cbor_is_strict(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "00", "6161", "f6", "40", "ff", "81", "8101ff", "a1", "a16161", "a10102", "a1416101", "a1f601", "bf6161ff",
        "bf61610161", "a2616101616102", "bf6161016161f6ff", "9f01", "81ff", "5f", "815f01ff", "815f6161ff", "817f4161ff",
        "817f7f6161ffff", "815f4101", "817f61c361a9ff", "8161ff", "816100", "8162c080", "81c000", "c0a0", "d9d9f7d9d9f7a0",
        "81f7", "81f0", "81f820", "81f97e00", "81f97c00", "81fb7ff0000000000000", "81fa7fc00000", "811b0020000000000001",
        "813b0020000000000000", "811bffffffffffffffff", "813bffffffffffffffff", "811c", "815c", "81fc", "a0a0", "8000",
        "9b7fffffffffffffff01", "bbffffffffffffffff616101", "7bffffffffffffffff61", "815bffffffffffffffff00",
        "81818181818181818181818181818181818101", "9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f01ffffffffffffffffffffffffffffffffff",
        "d9d9f7", "d9d9f700", "81d81800"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *why = NULL;
        cJSON *tree = from_hex(bad[i], &why);
        if (tree != NULL || why == NULL)
            fail_msg("taken: %s", bad[i]);
    }
    const char *why;
    cJSON *deep = from_hex("8181818181818181818181818181818180", &why); /* 17 deep */
    assert_null(deep);
    deep = from_hex("81818181818181818181818181818180", &why);
    assert_non_null(deep);
    cJSON_Delete(deep);
}

static void cbor_bombs_are_bounded(void **state)
{
    (void)state;
    static uint8_t body[65536];
    const char *why;
    memset(body, 0x80, sizeof body); /* empty arrays in one array */
    body[0] = 0x9f;
    body[CBOR_MAX_ITEMS] = 0xff;
    cJSON *tree = cbor_parse(span_of(body, CBOR_MAX_ITEMS + 1), &why); /* the limit, the outer one counted */
    assert_non_null(tree);
    cJSON_Delete(tree);
    body[CBOR_MAX_ITEMS] = 0x80;
    body[CBOR_MAX_ITEMS + 1] = 0xff;
    assert_null(cbor_parse(span_of(body, CBOR_MAX_ITEMS + 2), &why));
    assert_string_equal(why, "the body holds too many items");
    /* Members of one object, all different. */
    for (unsigned n = JSON_MAX_MEMBERS; n <= JSON_MAX_MEMBERS + 1; n++) {
        struct wr w = wr_of(body, sizeof body);
        wr_u8(&w, 0xbf);
        for (unsigned i = 0; i < n; i++) {
            char name[8];
            snprintf(name, sizeof name, "m%04u", i);
            wr_u8(&w, 0x65);
            wr_bytes(&w, name, 5);
            wr_u8(&w, 0);
        }
        wr_u8(&w, 0xff);
        tree = cbor_parse(wr_span(&w), &why);
        assert_int_equal(tree != NULL, n == JSON_MAX_MEMBERS);
        cJSON_Delete(tree);
    }
}

static void cbor_prints(void **state)
{
    (void)state;
    static const struct {
        const char *json, *hex;
    } cases[] = {{"{}", "a0"},
                 {"[0,23,24,1000,-1,-25,9007199254740992,1763718454000]",
                  "88001718181903e82038181b00200000000000001b0000019aa5cfdaf0"},
                 {"[0.5,1.1,1e300,true,false,null,\"\"]", "87fa3f000000fb3ff199999999999afb7e37e43c8800759cf5f4f660"},
                 {"{\"kv\":\"AQID\",\"a\":{\"b\":[\"\u00e9\"]}}", "a2626b7664415149446161a161628162c3a9"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *why;
        size_t n = 0;
        char hex[200] = "";
        cJSON *tree = json_parse(span_str(cases[i].json), &why);
        uint8_t *out = cbor_print(tree, &n);
        assert_non_null(out);
        hex_encode(out, n, hex);
        assert_string_equal(hex, cases[i].hex);
        cJSON *again = cbor_parse(span_of(out, n), &why);
        assert_true(cJSON_Compare(tree, again, true));
        json_text_free((char *)out);
        cJSON_Delete(tree);
        cJSON_Delete(again);
    }
}

static void times(void **state)
{
    (void)state;
    int64_t ms;
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {{"20261121T101112", 1795255872000}, {"20261121T101112,5", 1795255872000}, {"19700101T000000", 0},
                {"0", 1000}, {"5000", 6000}, {"20240229T235959,123456", 1709251199000}};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(primitive_time(good[i].text, 1000, &ms));
        if (ms != good[i].ms)
            fail_msg("%s: %lld", good[i].text, (long long)ms);
    }
    static const char *const bad[] = {"", "x", "-1", "20261121T10111", "20261121T101112Z", "20261121T101112,",
                                      "20261121T101112,1234567", "20261321T101112", "20260229T000000", "20261121T246060",
                                      "1234567890123456", "20261121t101112", " 5"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (primitive_time(bad[i], 1000, &ms))
            fail_msg("taken: %s", bad[i]);
    char text[PRIMITIVE_TIME_TEXT];
    primitive_time_print(1795255872000, text);
    assert_string_equal(text, "20261121T101112");
}

static bool count_address(void *user, const struct listen_address *a, char *err, size_t errlen)
{
    (void)err;
    (void)errlen;
    char text[ADDRESS_TEXT];
    address_print((const struct sockaddr *)&a->addr, text);
    strcat(user, text);
    strcat(user, address_is_loopback((const struct sockaddr *)&a->addr) ? " local " : " any ");
    return true;
}

static void addresses(void **state)
{
    (void)state;
    char seen[300] = "", err[200];
    assert_true(listen_each("[::1]:1, 127.0.0.1:65535,0.0.0.0:0 [::]:5684", count_address, seen, err, sizeof err));
    assert_string_equal(seen, "[::1]:1 local 127.0.0.1:65535 local 0.0.0.0:0 any [::]:5684 any ");
    assert_true(listen_each("", count_address, seen, err, sizeof err));
    static const char *const bad[] = {"8443", "localhost:1", "1.2.3.4", "1.2.3.4:", "1.2.3.4:65536", "::1:5", "[::1]5",
                                      "[1.2.3.4]:5", "1.2.3:4", "1.2.3.4:+5"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(listen_each(bad[i], count_address, seen, err, sizeof err));
}

static void metrics_text(void **state)
{
    (void)state;
    struct metrics *m = metrics_new();
    metrics_count(m, "a_total{x=\"1\"}", 2);
    metrics_gauge(m, "g", -3);
    metrics_count(m, "a_total{x=\"2\"}", 1);
    metrics_count(m, "a_total{x=\"1\"}", 1);
    metrics_set(m, "s_total", 9);
    metrics_duration(m, "t_seconds", 1000);
    metrics_duration(m, "t_seconds", 1001);
    metrics_duration(m, "t_seconds", 60000000);
    char *text = NULL;
    size_t n;
    FILE *out = open_memstream(&text, &n);
    metrics_print(m, out);
    fclose(out);
    assert_string_equal(text, "# TYPE a_total counter\na_total{x=\"1\"} 3\na_total{x=\"2\"} 1\n# TYPE g gauge\ng -3\n"
                              "# TYPE s_total counter\ns_total 9\n"
                              "# TYPE t_seconds histogram\nt_seconds_bucket{le=\"0.001\"} 1\n"
                              "t_seconds_bucket{le=\"0.002\"} 2\nt_seconds_bucket{le=\"0.005\"} 2\n"
                              "t_seconds_bucket{le=\"0.01\"} 2\nt_seconds_bucket{le=\"0.02\"} 2\n"
                              "t_seconds_bucket{le=\"0.05\"} 2\nt_seconds_bucket{le=\"0.1\"} 2\n"
                              "t_seconds_bucket{le=\"0.2\"} 2\nt_seconds_bucket{le=\"0.5\"} 2\n"
                              "t_seconds_bucket{le=\"1\"} 2\nt_seconds_bucket{le=\"2\"} 2\n"
                              "t_seconds_bucket{le=\"5\"} 2\nt_seconds_bucket{le=\"10\"} 2\n"
                              "t_seconds_bucket{le=\"+Inf\"} 3\nt_seconds_sum 60.002001\nt_seconds_count 3\n"
                              "# TYPE host_metrics_dropped_total counter\nhost_metrics_dropped_total 0\n");
    free(text);
    metrics_free(m);
}

int main(void)
{
    json_wipe_on_free();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_is_strict), cmocka_unit_test(json_limits_members),
        cmocka_unit_test(json_prints_integers_whole), cmocka_unit_test(http_targets),
        cmocka_unit_test(http_media_types), cmocka_unit_test(http_accept),
        cmocka_unit_test(coap_options), cmocka_unit_test(coap_options_of_both_generations),
        cmocka_unit_test(cbor_reads_as_json), cmocka_unit_test(cbor_is_strict),
        cmocka_unit_test(cbor_bombs_are_bounded), cmocka_unit_test(cbor_prints), cmocka_unit_test(times),
        cmocka_unit_test(addresses), cmocka_unit_test(metrics_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
