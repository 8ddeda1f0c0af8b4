/* EG protocol codec and HDLC-lite framing; the examples of docs/eg-protocol.md are decoded here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "mef-plugin/egp/egp.h"

#include <ctype.h>

static const uint8_t nwk[62] = {0x08, 0x00, 0x2e, 0x1f, 0x00, 0x00, 0x1e, 0x70};

static struct egp_envelope envelope(enum egp_type t, enum egp_direction d)
{
    return (struct egp_envelope){EGP_VERSION, (uint8_t)t, 0x1122334455667788, 0x00124b001ca1b2c3,
                                 0x00158d0003123456, (uint8_t)d, 15, -61};
}

static struct egp_message sample(enum egp_type t)
{
    static const enum egp_direction dir[EGP_TYPES] = {
        [EGP_RESPONSE] = EGP_TO_GATEWAY, [EGP_DOWNLINK] = EGP_TO_GATEWAY, [EGP_DEVICE_STATE] = EGP_TO_GATEWAY};
    struct egp_message m = {.env = envelope(t, dir[t])};
    struct span frame = span_of(nwk, sizeof nwk);
    switch (t) {
    case EGP_HELLO:
        m.env.device = 0;
        m.u.hello = (struct egp_hello){0x1a62, 15, 0xdddddddddddddddd, 0};
        break;
    case EGP_REQUEST:
        m.u.request = (struct egp_request){0, 0x1f2e, 0x1a62, 0, 0x80, EGP_ASSOCIATION, {NULL, 0}};
        break;
    case EGP_RESPONSE:
        m.u.response = (struct egp_response){EGP_OK, 0x1f2e, true, frame};
        break;
    case EGP_UPLINK:
        m.u.frame = (struct egp_frame){.hop = 0x1f2e, .lqi = 200, .nwk_frame = frame};
        break;
    case EGP_DOWNLINK:
        m.u.frame = (struct egp_frame){.hop = 0x1f2e, .indirect = true, .nwk_frame = frame};
        break;
    case EGP_TX_RESULT:
        m.u.tx_result = (struct egp_tx_result){EGP_TX_NO_ACK, 4};
        break;
    case EGP_STALE:
        m.u.stale = (struct egp_stale){4096, UINT32_MAX};
        break;
    default:
        m.u.state = (struct egp_state){EGP_ST_REVOKED, EGP_DEVICE_REVOKED, 0x1f2e};
    }
    return m;
}

static size_t encode(const struct egp_message *m, uint8_t buf[EGP_MAX_MESSAGE])
{
    struct wr w = wr_of(buf, EGP_MAX_MESSAGE);
    assert_true(egp_encode(m, &w));
    return w.n;
}

/* Decoding and encoding again gives the same bytes: the encoding is canonical. */
static void assert_canonical(struct span in, struct egp_message *m)
{
    uint8_t again[EGP_MAX_MESSAGE];
    const char *bad = egp_decode(in, m);
    assert_null(bad);
    assert_int_equal(encode(m, again), in.n);
    assert_memory_equal(again, in.p, in.n);
}

static void each_type_survives(void **state)
{
    (void)state;
    for (int t = 0; t < EGP_TYPES; t++) {
        uint8_t buf[EGP_MAX_MESSAGE];
        struct egp_message m = sample(t), out;
        size_t n = encode(&m, buf);
        assert_canonical(span_of(buf, n), &out);
        assert_int_equal(out.env.rssi, -61);
        assert_true(out.env.gateway == m.env.gateway && out.env.device == m.env.device);
        assert_true(out.env.transaction == m.env.transaction);
        struct egp_envelope env;
        assert_null(egp_decode_envelope(span_of(buf, n), &env));
        assert_memory_equal(&env, &out.env, sizeof env);
    }
    struct egp_message m = sample(EGP_RESPONSE), out;
    uint8_t buf[EGP_MAX_MESSAGE];
    size_t n = encode(&m, buf);
    assert_null(egp_decode(span_of(buf, n), &out));
    assert_true(out.u.response.indirect);
    assert_int_equal(out.u.response.next_hop, 0x1f2e);
    assert_true(span_eq(out.u.response.nwk_frame, span_of(nwk, sizeof nwk)));
}

static void every_cut_and_tail_is_refused(void **state)
{
    (void)state;
    for (int t = 0; t < EGP_TYPES; t++) {
        uint8_t buf[EGP_MAX_MESSAGE + 1] = {0};
        struct egp_message m = sample(t), out;
        size_t n = encode(&m, buf);
        for (size_t cut = 0; cut < n; cut++)
            assert_non_null(egp_decode(span_of(buf, cut), &out));
        assert_string_equal(egp_decode(span_of(buf, n + 1), &out), "trailing-bytes");
    }
}

static void refused(const struct egp_message *m, size_t at, uint8_t value, const char *why)
{
    uint8_t buf[EGP_MAX_MESSAGE];
    struct egp_message out;
    size_t n = encode(m, buf);
    buf[at] = value;
    const char *bad = egp_decode(span_of(buf, n), &out);
    assert_non_null(bad);
    assert_string_equal(bad, why);
}

static void reasons_are_exact(void **state)
{
    (void)state;
    struct egp_message m = sample(EGP_REQUEST), out;
    refused(&m, 0, 0x83, "wrong-members");
    refused(&m, 0, 0x9f, "not-canonical"); /* indefinite length */
    refused(&m, 1, 0x89, "wrong-members");
    refused(&m, 2, 0x02, "bad-version");
    refused(&m, 3, 0x08, "bad-type");
    refused(&m, 3, EGP_DOWNLINK, "bad-direction");
    refused(&m, 3, 0x40, "wrong-type");
    /* The same version in two bytes: 0x18 0x01. */
    static const uint8_t loose[] = {0x82, 0x88, 0x18, 0x01};
    assert_string_equal(egp_decode(span_of(loose, sizeof loose), &out), "not-canonical");
}

static void encoder_refuses_what_decoder_would(void **state)
{
    (void)state;
    uint8_t buf[EGP_MAX_MESSAGE], big[EGP_MAX_NWK + 1] = {0};
    struct wr w = wr_of(buf, sizeof buf);
    struct egp_message m = sample(EGP_UPLINK);
    m.u.frame.nwk_frame = span_of(big, sizeof big);
    assert_false(egp_encode(&m, &w));
    m = sample(EGP_RESPONSE);
    m.u.response.reason = EGP_UNKNOWN_DEVICE; /* a refusal carries no frame */
    w = wr_of(buf, sizeof buf);
    assert_false(egp_encode(&m, &w));
    m = sample(EGP_HELLO);
    m.env.direction = EGP_TO_GATEWAY;
    w = wr_of(buf, sizeof buf);
    assert_false(egp_encode(&m, &w));
    m = sample(EGP_HELLO);
    w = wr_of(buf, 10);
    assert_false(egp_encode(&m, &w));
}

/* --- HDLC-lite ---------------------------------------------------------------------------------------------------- */
struct heard {
    unsigned frames;
    uint8_t last[EGP_MAX_MESSAGE];
    size_t n;
};

static void on_frame(void *user, struct span payload)
{
    struct heard *h = user;
    h->frames++;
    h->n = payload.n;
    memcpy(h->last, payload.p, payload.n);
}

static void framing_survives_all_bytes(void **state)
{
    (void)state;
    uint8_t payload[256], line[2 * (EGP_MAX_MESSAGE + 4)];
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (uint8_t)i;
    struct wr w = wr_of(line, sizeof line);
    assert_true(hdlc_encode(span_of(payload, sizeof payload), &w));
    struct hdlc_decoder d = {0};
    struct heard h = {0};
    for (size_t i = 0; i < w.n; i++) /* one byte at a time */
        hdlc_decode(&d, span_of(line + i, 1), on_frame, &h);
    assert_int_equal(h.frames, 1);
    assert_int_equal(d.bad_frames, 0);
    assert_true(span_eq(span_of(h.last, h.n), span_of(payload, sizeof payload)));
}

static void framing_check_value(void **state)
{
    (void)state; /* CRC-16/X-25 of "123456789" is 0x906e, sent low byte first */
    uint8_t line[32];
    struct wr w = wr_of(line, sizeof line);
    assert_true(hdlc_encode(span_str("123456789"), &w));
    assert_true(span_eq(wr_span(&w), span_of("\x7e"
                                             "123456789\x6e\x90\x7e",
                                             13)));
}

static void noise_costs_at_most_itself(void **state)
{
    (void)state;
    struct hdlc_decoder d = {0};
    struct heard h = {0};
    uint32_t x = 2463534242u;
    unsigned good = 0;
    for (int round = 0; round < 2000; round++) {
        uint8_t noise[700];
        for (size_t i = 0; i < sizeof noise; i++) {
            x ^= x << 13, x ^= x >> 17, x ^= x << 5;
            noise[i] = (uint8_t)x;
        }
        size_t n = x % sizeof noise;
        hdlc_decode(&d, span_of(noise, n), on_frame, &h);
        uint8_t line[64];
        struct wr w = wr_of(line, sizeof line);
        assert_true(hdlc_encode(span_str("good frame ~}"), &w));
        hdlc_decode(&d, wr_span(&w), on_frame, &h);
        good += span_eq(span_of(h.last, h.n), span_str("good frame ~}"));
        h.n = 0;
    }
    assert_int_equal(good, 2000);
    assert_true(d.bad_frames > 1000);
}

/* --- the document ------------------------------------------------------------------------------------------------- */
/* A fenced block "```egp NAME" holds one message in hex; NAME is its type. A block "```hdlc NAME" holds it framed. */
static size_t block_hex(FILE *f, uint8_t *out, size_t cap)
{
    char line[256];
    size_t digits = 0;
    while (fgets(line, sizeof line, f) != NULL && strncmp(line, "```", 3) != 0)
        for (const char *p = line; *p != '\0' && *p != ';'; p++) {
            if (isspace((unsigned char)*p))
                continue;
            assert_true(isxdigit((unsigned char)*p) && digits / 2 < cap);
            uint8_t v = (uint8_t)(isdigit((unsigned char)*p) ? *p - '0' : (*p | 0x20) - 'a' + 10);
            out[digits / 2] = (uint8_t)(digits % 2 ? out[digits / 2] << 4 | v : v);
            digits++;
        }
    assert_int_equal(digits % 2, 0);
    return digits / 2;
}

static void document_examples_hold(void **state)
{
    (void)state;
    const char *path = getenv("EG_PROTOCOL_MD");
    assert_non_null(path);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    bool seen[EGP_TYPES] = {false};
    unsigned framed = 0;
    for (char line[256], name[32]; fgets(line, sizeof line, f) != NULL;) {
        uint8_t buf[EGP_MAX_MESSAGE * 2];
        struct egp_message m;
        if (sscanf(line, "```egp %31s", name) == 1) {
            size_t n = block_hex(f, buf, sizeof buf);
            assert_canonical(span_of(buf, n), &m);
            assert_string_equal(egp_type_name(m.env.type), name);
            seen[m.env.type] = true;
        } else if (sscanf(line, "```hdlc %31s", name) == 1) {
            size_t n = block_hex(f, buf, sizeof buf);
            struct hdlc_decoder d = {0};
            struct heard h = {0};
            hdlc_decode(&d, span_of(buf, n), on_frame, &h);
            assert_int_equal(h.frames, 1);
            assert_canonical(span_of(h.last, h.n), &m);
            assert_string_equal(egp_type_name(m.env.type), name);
            framed++;
        }
    }
    fclose(f);
    for (int t = 0; t < EGP_TYPES; t++)
        assert_true(seen[t]);
    assert_true(framed > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_type_survives),
        cmocka_unit_test(every_cut_and_tail_is_refused),
        cmocka_unit_test(reasons_are_exact),
        cmocka_unit_test(encoder_refuses_what_decoder_would),
        cmocka_unit_test(framing_survives_all_bytes),
        cmocka_unit_test(framing_check_value),
        cmocka_unit_test(noise_costs_at_most_itself),
        cmocka_unit_test(document_examples_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
