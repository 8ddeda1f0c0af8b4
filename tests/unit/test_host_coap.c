/* mefd's CoAP: primitives and services, their options and formats, both credentials, both ways. */
#include "tests/unit/host_caller.h"

#include <signal.h>
#include <stdio.h>

static void coap_primitives_and_services(void **state)
{
    struct caller *c = caller_new(*state, "127.0.0.1");
    const struct cep_option create[] = {OPT(11, "prim"), OPT(12, "\x27\x11"), OPT(267, "\xea\x62"), OPT(271, "4"), OPT(279, "Cae"),
                                        OPT(283, "q1")};
    call(c, CEP_POST, create, 6, "{\"a\":1}", false, 1);
    assert_int_equal(c->code, CEP_CODE(2, 1));
    /* Location-Path prim/new, Content-Format 10001, Max-Age 0, RVI, RQI, RSC 2001 */
    assert_string_equal(c->options, "8=7072696d 8=6e6577 12=2711 14= 271=34 283=7131 307=07d1 ");
    assert_non_null(strstr(c->body, "\"op\":1,\"ty\":60002,\"binding\":1,\"cred\":1,\"odd\":0,\"identity\":\"tiny@test\""));
    const struct cep_option no_rqi[] = {OPT(11, "prim"), OPT(279, "Cae")};
    call(c, CEP_GET, no_rqi, 2, "", false, 1);
    assert_int_equal(c->code, CEP_CODE(4, 0));
    assert_string_equal(c->options, "12=32 14= 307=0fa0 ");
    const struct cep_option release[] = {OPT(11, "prim"), OPT(271, "7"), OPT(279, "Cae"), OPT(283, "q1")};
    call(c, CEP_GET, release, 4, "", false, 1);
    assert_int_equal(c->code, CEP_CODE(5, 1));
    const struct cep_option critical[] = {OPT(11, "prim"), OPT(279, "Cae"), OPT(283, "q"), OPT(2049, "x")};
    call(c, CEP_GET, critical, 4, "", false, 1);
    assert_int_equal(c->code, CEP_CODE(4, 2));
    const struct cep_option fail[] = {OPT(11, "svc"), OPT(11, "fail")};
    call(c, CEP_GET, fail, 2, "", false, 1);
    assert_int_equal(c->code, CEP_CODE(4, 3));
    assert_non_null(strstr(c->body, "\"code\":\"taken\""));
    const struct cep_option timer[] = {OPT(11, "svc"), OPT(11, "timer")};
    call(c, CEP_GET, timer, 2, "", false, 1);
    assert_int_equal(c->code, CEP_CODE(2, 5));
    caller_free(c);
}

static void coap_old_options(void **state)
{
    struct caller *c = caller_new(*state, "127.0.0.1");
    const struct cep_option create[] = {OPT(11, "prim"), OPT(12, "\x32"), OPT(256, "Cae"), OPT(257, "q1"), OPT(258, "n"),
                                        OPT(259, "20260101T000000"), OPT(267, "\xea\x62"), OPT(271, "2a")};
    call(c, CEP_POST, create, 8, "{\"a\":1}", false, 1);
    assert_int_equal(c->code, CEP_CODE(2, 1));
    /* RQI 257, an Originating Timestamp of our own, RSC 265, RVI */
    assert_non_null(strstr(c->options, " 12=32 14= 257=7131 259=3"));
    assert_non_null(strstr(c->options, " 265=07d1 271=3261 "));
    assert_non_null(strstr(c->body, "\"op\":1,\"ty\":60002,"));
    assert_non_null(strstr(c->body, "\"from\":\"Cae\""));
    const struct cep_option no_from[] = {OPT(11, "prim"), OPT(257, "q1")};
    call(c, CEP_GET, no_from, 2, "", false, 1);
    assert_int_equal(c->code, CEP_CODE(4, 0));
    assert_string_equal(c->options, "12=32 14= 257=7131 265=0fa0 ");
    const struct cep_option expired[] = {OPT(11, "prim"), OPT(256, "Cae"), OPT(257, "q1"), OPT(260, "20200101T000000")};
    call(c, CEP_GET, expired, 4, "", false, 1);
    assert_int_equal(c->code, CEP_CODE(5, 4));
    const struct cep_option mixed[] = {OPT(11, "prim"), OPT(257, "q1"), OPT(279, "Cae"), OPT(283, "q1")};
    call(c, CEP_GET, mixed, 4, "", false, 1);
    assert_int_equal(c->code, CEP_CODE(4, 2));
    caller_free(c);
}

static void coap_formats(void **state)
{
    struct caller *c = caller_new(*state, "127.0.0.1");
    const struct cep_option put[] = {OPT(11, "prim"), OPT(12, "\x27\x1a"), OPT(279, "Cae"), OPT(283, "q1")};
    call(c, CEP_PUT, put, 4, "\xa1\x61k\x43\x01\x02\x03", false, 1); /* 10010: {"k": h'010203'} */
    assert_int_equal(c->code, CEP_CODE(2, 5));
    assert_non_null(strstr(c->options, "12=271a "));
    static const char pc[] = "\x62pc\xa1\x61k\x64" "AQID";
    assert_non_null(memmem(c->last.p, c->last.n, pc, sizeof pc - 1)); /* it leaves as the text it became */
    static const struct {
        const char *path, *accept, *format, *body;
        uint8_t code;
        const char *options;
    } cases[] = {
        {"svc", "", "\x3c", "\xa0", CEP_CODE(2, 5), "12=3c "},         /* the request's own format */
        {"svc", "\x32", "\x3c", "\xa0", CEP_CODE(2, 5), "12=32 "},     /* CBOR in, JSON out */
        {"svc", "\x3c", "\x32", "{}", CEP_CODE(2, 5), "12=3c "},
        {"svc", "\x27\x1a", "\x32", "{}", CEP_CODE(2, 5), "12=3c "},    /* a service has no oneM2M format */
        {"svc", "\x28", "\x32", "{}", CEP_CODE(4, 6), "12=32 "},
        {"svc", "", "\x29", "<a/>", CEP_CODE(4, 15), "12=32 "},
        {"svc", "", "\x3c", "\xa1", CEP_CODE(4, 0), "12=32 "},
        {"svc", "", "\x3c", "\xa2\x61k\x01\x61k\x02", CEP_CODE(4, 0), "12=32 "},
        {"prim", "\x28", "\x3c", "\xa0", CEP_CODE(4, 6), "12=3c 14= 283=7131 307=1457 "},
        {"prim", "\x27\x1f", "\x3c", "\xa0", CEP_CODE(2, 5), "12=271f "},
        {"prim", "", "\x29", "<a/>", CEP_CODE(4, 15), "12=32 14= 283=7131 307=0faf "},
        {"prim", "\x3c", "\x3c", "\xc0\xa0", CEP_CODE(4, 0), "12=3c 14= 283=7131 307=0fa0 "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool accept = cases[i].accept[0] != '\0';
        const struct cep_option opts[] = {{11, span_str(cases[i].path)}, {12, span_str(cases[i].format)},
                                          {17, span_str(cases[i].accept)}, OPT(279, "Cae"), OPT(283, "q1")};
        const struct cep_option any[] = {opts[0], opts[1], opts[3], opts[4]};
        call(c, CEP_PUT, accept ? opts : any, accept ? 5 : 4, cases[i].body, false, 1);
        if (c->code != cases[i].code || strncmp(c->options, cases[i].options, strlen(cases[i].options)) != 0)
            fail_msg("case %zu: code %02x, options %s", i, c->code, c->options);
    }
    caller_free(c);
}

static void coap_certificate_and_links(void **state)
{
    struct caller *c = caller_new(*state, "127.0.0.1");
    cep_session_close(c->session);
    c->ended = 0;
    c->session = by_certificate(*state, c->ep, "127.0.0.1");
    assert_non_null(c->session);
    const struct cep_option get[] = {OPT(11, "prim"), OPT(279, "Cae"), OPT(283, "q1")};
    call(c, CEP_GET, get, 3, "", false, 1);
    assert_non_null(strstr(c->body, "\"cred\":2,\"odd\":0,\"identity\":\"C-ae1\""));
    const struct cep_option core[] = {OPT(11, ".well-known"), OPT(11, "core")};
    call(c, CEP_GET, core, 2, "", false, 1);
    assert_non_null(strstr(c->body, "</prim>"));
    assert_string_equal(c->options, "12=28 ");
    caller_free(c);
}

static void coap_both_ways(void **state)
{
    struct caller *c = caller_new(*state, "::1");
    const struct cep_option bounce[] = {OPT(11, "svc"), OPT(11, "raw"), OPT(11, "bounce"), OPT(12, "\x2a")};
    call(c, CEP_POST, bounce, 4, "ping", false, 1);
    assert_string_equal(c->body, "back:ping;");
    const struct cep_option key[] = {OPT(11, "svc"), OPT(11, "key")};
    uint8_t exported[16];
    char text[33];
    call(c, CEP_GET, key, 2, "", false, 1);
    assert_true(cep_export(c->ep, cep_session_serial(c->session), "EXPORTER-tiny", exported, sizeof exported));
    for (size_t i = 0; i < sizeof exported; i++)
        sprintf(text + 2 * i, "%02x", exported[i]);
    assert_non_null(strstr(c->body, text));
    const struct cep_option watch[] = {OPT(11, "svc"), OPT(11, "raw"), OPT(11, "watch")};
    call(c, CEP_GET, watch, 3, "", true, 4);
    assert_string_equal(c->body, "first;frame 0;frame 1;frame 2;");
    /* Trees come in the format of the first answer (RFC 7641 4.2). */
    const struct cep_option json[] = {OPT(11, "svc"), OPT(11, "trees")};
    call(c, CEP_GET, json, 2, "", true, 3);
    assert_string_equal(c->body, "{};{\"n\":0};{\"n\":1};");
    const struct cep_option cbor[] = {OPT(11, "svc"), OPT(11, "trees"), OPT(17, "\x3c")};
    call(c, CEP_GET, cbor, 3, "", true, 3);
    assert_string_equal(c->body, "\xa0;\xa1\x61n;\xa1\x61n\x01;"); /* the 0 ends the text */
    assert_string_equal(c->options, "12=3c ");
    const struct cep_option link[] = {OPT(11, "svc"), OPT(11, "trees"), OPT(17, "\x28")};
    call(c, CEP_GET, link, 3, "", true, 1);
    assert_int_equal(c->code, CEP_CODE(4, 6));
    caller_free(c);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(coap_primitives_and_services),
        cmocka_unit_test(coap_both_ways),
        cmocka_unit_test(coap_old_options),
        cmocka_unit_test(coap_formats),
        cmocka_unit_test(coap_certificate_and_links),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
