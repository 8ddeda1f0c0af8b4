/* ae-client without a network: the MEF's answers, the devices' frames, attribute values. */
#include "ae-client/frame.h"
#include "ae-client/parse.h"
#include "ae-client/zcl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define DEVICE 0x00158d0003123456ull
#define GATEWAY 0x00124b001ca1b2c3ull

static struct span hex(const char *text, uint8_t *buf)
{
    size_t n = strlen(text) / 2;
    assert_true(hex_decode(text, strlen(text), buf, n));
    return span_of(buf, n);
}

/* --- answers ----------------------------------------------------------------------------------------------- */

static void finds_the_newest_key(void **state)
{
    (void)state;
    char id[AEC_ID_MAX];
    assert_int_equal(aec_parse_uril(span_str("{\"m2m:uril\":[\"mef/0a1b\",\"mef/ffff\"]}"), id), ST_OK);
    assert_string_equal(id, "0a1b");
    assert_int_equal(aec_parse_uril(span_str("{\"m2m:uril\":[]}"), id), ST_NOT_FOUND);
    assert_int_equal(aec_parse_uril(span_str("{\"m2m:uril\":[\"mef/\"]}"), id), ST_INTERNAL);
    assert_int_equal(aec_parse_uril(span_str("{\"m2m:uril\":[7]}"), id), ST_INTERNAL);
    assert_int_equal(aec_parse_uril(span_str("{\"m2m:uril\":\"x\"}"), id), ST_INTERNAL);
    assert_int_equal(aec_parse_uril(span_str("garbage"), id), ST_INTERNAL);
    assert_int_equal(aec_parse_uril(span_str(""), id), ST_INTERNAL);
}

static void reads_a_key(void **state)
{
    (void)state;
    struct aec_key *k = NULL;
    const char *body = "{\"sec:skr\":{\"suid\":24,\"kv\":\"Dw4NDAsKCQgHBgUEAwIBAA==\",\"lbl\":[\"use:zigbee-nwk\","
                       "\"eui64:00158d0003123456\",\"gw:00124b001ca1b2c3\",\"keyseq:3\"]}}";
    assert_int_equal(aec_parse_key(span_str(body), "0a1b", &k), ST_OK);
    assert_int_equal(k->len, 16);
    assert_int_equal(k->value[0], 0x0f);
    assert_int_equal(k->value[15], 0);
    assert_int_equal(k->suid, 24);
    assert_true(k->device == DEVICE && k->gateway == GATEWAY);
    assert_int_equal(k->key_seq, 3);
    assert_string_equal(k->relkeyid, "0a1b");
    aec_key_free(k);
}

static void refuses_what_is_no_key(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "",
        "[]",
        "{\"sec:skr\":{}}",
        "{\"sec:skr\":{\"suid\":24}}",
        "{\"sec:skr\":{\"suid\":24,\"kv\":\"\"}}",
        "{\"sec:skr\":{\"suid\":24,\"kv\":\"Dw4\"}}",
        "{\"sec:skr\":{\"suid\":24,\"kv\":\"!!!!\"}}",
        "{\"sec:skr\":{\"suid\":-1,\"kv\":\"Dw4NDAsKCQgHBgUEAwIBAA==\"}}",
        "{\"sec:skr\":{\"kv\":\"Dw4NDAsKCQgHBgUEAwIBAA==\"}}",
        "{\"sec:skr\":{\"suid\":24,\"kv\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}}",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        struct aec_key *k = NULL;
        assert_int_equal(aec_parse_key(span_str(bodies[i]), "0a1b", &k), ST_INTERNAL);
        assert_null(k);
    }
}

static void reads_tickets_and_errors(void **state)
{
    (void)state;
    struct aec_ticket t;
    const char *good = "{\"first\":4097,\"count\":16,\"source\":\"00124b001ca1b2c3\",\"keySeq\":2}";
    assert_int_equal(aec_parse_ticket(span_str(good), &t), ST_OK);
    assert_true(t.gateway == GATEWAY && t.counter == 4097 && t.count == 16 && t.key_seq == 2);
    assert_int_equal(
        aec_parse_ticket(span_str("{\"first\":1,\"count\":0,\"source\":\"00124b001ca1b2c3\",\"keySeq\":2}"), &t),
        ST_INTERNAL);
    assert_int_equal(
        aec_parse_ticket(span_str("{\"first\":4294967295,\"count\":1,\"source\":\"00124b001ca1b2c3\",\"keySeq\":2}"),
                         &t),
        ST_INTERNAL);
    assert_int_equal(aec_parse_device(span_str("{\"state\":\"enrolled\",\"keyId\":\"0a\",\"nwkAddress\":7982}"), &t),
                     ST_OK);
    assert_true(t.device == 0x1f2e && strcmp(t.relkeyid, "0a") == 0);
    assert_int_equal(aec_parse_device(span_str("{\"state\":\"registered\"}"), &t), ST_NOT_FOUND);
    assert_int_equal(aec_parse_device(span_str("{}"), &t), ST_INTERNAL);
    char text[AEC_TEXT_MAX];
    aec_parse_detail(span_str("{\"m2m:dbg\":\"no\\nway\"}"), text);
    assert_string_equal(text, "no way");
    aec_parse_detail(span_str("{\"title\":\"Bad request\",\"code\":\"bad-mic\"}"), text);
    assert_string_equal(text, "bad-mic");
    aec_parse_detail(span_str("<html>"), text);
    assert_string_equal(text, "");
}

/* --- frames ------------------------------------------------------------------------------------------------ */

/* Sealed by tests/sim/zbcodec.py: counter 1234, temperature -5.12. */
static const char report[] = "480200002e1f1e0528d204000056341203008d1500005c3e4deef0b9ab4d180a5178d79c14a75d850d0a";

static void set_key(struct aec_key *k)
{
    *k = (struct aec_key){.len = 16, .relkeyid = "0a1b", .device = DEVICE, .gateway = GATEWAY};
    for (unsigned i = 0; i < 16; i++)
        k->value[i] = (uint8_t)(15 - i);
}

static void keep(void *user, const struct zcl_reading *r)
{
    *(struct zcl_reading *)user = *r;
}

static void opens_a_report(void **state)
{
    struct zb_crypto *z = *state;
    struct aec_key k;
    struct aec_opened o;
    struct zcl_reading r;
    uint8_t buf[AEC_FRAME_MAX];
    struct aec_replay heard = {0};
    bool malformed;
    set_key(&k);
    struct span frame = hex(report, buf);
    assert_int_equal(aec_frame_open(z, &k, &heard, frame, &o), ZB_OK);
    assert_true(o.application && o.cluster == 0x0402 && o.profile == 0x0104 && o.source == DEVICE && o.counter == 1234);
    assert_int_equal(zcl_readings(o.cluster, o.payload, &malformed, keep, &r), 1);
    assert_false(malformed);
    assert_true(r.kind == ZCL_NUMBER && r.number > -5.1201 && r.number < -5.1199);
    assert_string_equal(r.unit, "°C");
    assert_int_equal(heard.of[0].next, 1235);
    assert_int_equal(aec_frame_open(z, &k, &heard, frame, &o), ZB_MALFORMED); /* replay */
}

static void refuses_other_frames(void **state)
{
    struct zb_crypto *z = *state;
    struct aec_key k;
    struct aec_opened o;
    uint8_t buf[AEC_FRAME_MAX];
    set_key(&k);
    struct span frame = hex(report, buf);
    for (size_t n = 0; n < frame.n; n++) {
        struct aec_replay heard = {0};
        assert_int_not_equal(aec_frame_open(z, &k, &heard, span_of(buf, n), &o), ZB_OK);
        buf[n] ^= 1;
        enum zb_err e = aec_frame_open(z, &k, &heard, frame, &o);
        buf[n] ^= 1;
        if (n != 8) /* the level bits on the air are not authenticated */
            assert_int_not_equal(e, ZB_OK);
        if (e != ZB_OK)
            assert_int_equal(heard.n, 0);
    }
    struct aec_replay heard = {0};
    k.gateway = DEVICE; /* authentic, but the gateway's */
    assert_int_equal(aec_frame_open(z, &k, &heard, frame, &o), ZB_MALFORMED);
    assert_int_equal(heard.n, 0);
}

static enum zb_err open_from(struct zb_crypto *z, const struct aec_key *k, struct aec_replay *heard, eui64_t source,
                             uint32_t counter)
{
    static const uint8_t aps[] = {0, 1, 2, 4, 4, 1, 1, 9, 0x18, 1, 0x0a, 0, 0, 0x29, 0x34, 8};
    const struct zb_nwk nwk = {.fcf = 0x0208, .src = 0x1f2e, .radius = 28, .seq = 7};
    struct aec_opened o;
    uint8_t buf[AEC_FRAME_MAX];
    struct wr w = wr_of(buf, sizeof buf);
    assert_int_equal(zb_nwk_seal(z, k->value, &nwk, counter, source, 3, span_of(aps, sizeof aps), &w), ZB_OK);
    enum zb_err e = aec_frame_open(z, k, heard, wr_span(&w), &o);
    assert_true(e != ZB_OK || (o.source == source && o.counter == counter && o.application));
    return e;
}

/* Each router on the way counts for itself. */
static void opens_what_routers_passed_on(void **state)
{
    struct zb_crypto *z = *state;
    struct aec_key k;
    struct aec_replay heard = {0};
    set_key(&k);
    assert_int_equal(open_from(z, &k, &heard, DEVICE, 500), ZB_OK);
    assert_int_equal(open_from(z, &k, &heard, 0xa01, 9), ZB_OK);
    assert_int_equal(open_from(z, &k, &heard, 0xa02, 3), ZB_OK);
    assert_int_equal(open_from(z, &k, &heard, 0xa01, 9), ZB_MALFORMED);
    assert_int_equal(open_from(z, &k, &heard, 0xa01, 10), ZB_OK);
    assert_int_equal(open_from(z, &k, &heard, DEVICE, 500), ZB_MALFORMED);
    for (eui64_t other = 1; other < AEC_SOURCES; other++) /* the one heard last of the three stays */
        assert_int_equal(open_from(z, &k, &heard, other, 1), ZB_OK);
    assert_int_equal(heard.n, AEC_SOURCES);
    assert_int_equal(open_from(z, &k, &heard, 0xa01, 10), ZB_MALFORMED);
    assert_int_equal(open_from(z, &k, &heard, 1, 1), ZB_MALFORMED);
}

static void seals_a_command(void **state)
{
    struct zb_crypto *z = *state;
    struct aec_key k;
    const struct aec_ticket t = {
        .relkeyid = "0a1b", .gateway = GATEWAY, .device = 0x1f2e, .counter = 0x10ff, .count = 2};
    const uint8_t zcl[] = {0x01, 0x09, 0x02};
    const struct aec_command cmd = {1, 0x0006, 0x0104, span_of(zcl, sizeof zcl)};
    uint8_t buf[ZB_NWK_MAX], plain[ZB_NWK_MAX];
    struct wr out = wr_of(buf, sizeof buf), text = wr_of(plain, sizeof plain);
    set_key(&k);
    assert_int_equal(aec_frame_seal(z, &k, &t, 1, &cmd, &out), ZB_OK);
    struct zb_nwk nwk;
    struct zb_aux aux;
    struct zb_aps aps;
    assert_int_equal(zb_nwk_open(z, k.value, wr_span(&out), &nwk, &aux, &text), ZB_OK);
    assert_true(aux.counter == 0x1100 && aux.src64 == GATEWAY && nwk.dst == 0x1f2e && nwk.src == 0 && nwk.seq == 0);
    assert_int_equal(zb_aps_parse(wr_span(&text), &aps), ZB_OK);
    assert_true(aps.cluster == 6 && aps.counter == 0 && span_eq(aps.payload, span_of(zcl, sizeof zcl)));
    out = wr_of(buf, sizeof buf);
    assert_int_equal(aec_frame_seal(z, &k, &t, 2, &cmd, &out), ZB_NO_KEY); /* beyond the ticket */
    k.relkeyid[0] = 'x';
    assert_int_equal(aec_frame_seal(z, &k, &t, 0, &cmd, &out), ZB_NO_KEY); /* another key's ticket */
}

/* --- values ------------------------------------------------------------------------------------------------ */

static void reads_every_kind_of_value(void **state)
{
    (void)state;
    static const struct {
        uint16_t cluster;
        const char *zcl, *unit, *text;
        enum zcl_kind kind;
        double number;
        size_t readings;
        bool malformed;
    } cases[] = {
        {0x0402, "18010a0000296608", "°C", NULL, ZCL_NUMBER, 21.5, 1, false},
        {0x0402, "18010a0000290080", "°C", NULL, ZCL_NONE, 0, 1, false},
        {0x0405, "18010a000021a00f", "%", NULL, ZCL_NUMBER, 40, 1, false},
        {0x0405, "18010a000021ffff", "%", NULL, ZCL_NONE, 0, 1, false},
        {0x0006, "18010a00001001", "", NULL, ZCL_BOOL, 1, 1, false},
        {0x0001, "18010a210020c8", "%", NULL, ZCL_NUMBER, 100, 1, false},
        {0x0400, "18010a0000211127", "lx", NULL, ZCL_NUMBER, 10, 1, false},
        {0x0000, "1801010500004206414243646566", "", "ABCdef", ZCL_TEXT, 0, 1, false},
        {0x0000, "180101050086", "", NULL, ZCL_NONE, 0, 0, false}, /* unsupported attribute */
        {0x040d, "18010a0000399545d639", "ppm", NULL, ZCL_NUMBER, 408.7, 1, false},
        {0x0402, "18010a00002966", "", NULL, ZCL_NONE, 0, 0, true},      /* value ends early */
        {0x0402, "18010a00004c0100", "", NULL, ZCL_NONE, 0, 0, true},    /* structure: not skipped */
        {0x0402, "18010b0000", "", NULL, ZCL_NONE, 0, 0, false},         /* default response */
        {0x0500, "090100010000000000", "", NULL, ZCL_NONE, 0, 0, false}, /* cluster command */
        {0x0402, "1801", "", NULL, ZCL_NONE, 0, 0, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t buf[64];
        struct zcl_reading r = {.unit = ""};
        bool malformed;
        assert_int_equal(zcl_readings(cases[i].cluster, hex(cases[i].zcl, buf), &malformed, keep, &r),
                         cases[i].readings);
        assert_int_equal(malformed, cases[i].malformed);
        if (cases[i].readings == 0)
            continue;
        assert_int_equal(r.kind, cases[i].kind);
        assert_string_equal(r.unit, cases[i].unit);
        if (r.kind == ZCL_NUMBER)
            assert_true(r.number > cases[i].number - 0.1 && r.number < cases[i].number + 0.1);
        if (cases[i].text != NULL)
            assert_string_equal(r.text, cases[i].text);
    }
}

static int setup(void **state)
{
    *state = zb_crypto_new();
    return *state == NULL;
}

static int teardown(void **state)
{
    zb_crypto_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_newest_key),   cmocka_unit_test(reads_a_key),
        cmocka_unit_test(refuses_what_is_no_key), cmocka_unit_test(reads_tickets_and_errors),
        cmocka_unit_test(opens_a_report),         cmocka_unit_test(refuses_other_frames),
        cmocka_unit_test(opens_what_routers_passed_on),
        cmocka_unit_test(opens_what_routers_passed_on),
        cmocka_unit_test(seals_a_command),        cmocka_unit_test(reads_every_kind_of_value),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
