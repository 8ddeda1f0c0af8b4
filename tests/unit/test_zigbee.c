/* zigbee/: primitives, install codes and every frame of tests/vectors/zigbee.json, straight at the room's own
 * interface; what the vectors lack is below them. */
#include "mef-plugin/zigbee/zigbee.h"
#include "tests/unit/vectors_fixture.h"

struct fixture {
    struct zb_crypto *crypto;
    cJSON *vectors;
};

static int setup(void **state)
{
    static struct fixture f;
    f.vectors = vectors("ZIGBEE_VECTORS");
    f.crypto = zb_crypto_new();
    assert_non_null(f.crypto);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    cJSON_Delete(f->vectors);
    zb_crypto_free(f->crypto);
    return 0;
}

/* Bytes of a hex member, in one of a few static buffers. */
static struct span bytes_of(const cJSON *o, const char *name)
{
    static uint8_t buf[8][8192];
    static unsigned turn;
    uint8_t *to = buf[turn++ % 8];
    return span_of(to, unhex(o, name, to, sizeof buf[0]));
}

static void assert_bytes(struct span got, struct span want)
{
    assert_int_equal(got.n, want.n);
    assert_memory_equal(got.p, want.p, want.n);
}

static void check_primitive(struct zb_crypto *c, const cJSON *v)
{
    const char *function = text_of(v, "function");
    struct span want = bytes_of(v, "output");
    uint8_t out[128], back[128];
    if (strcmp(function, "mmo") == 0) {
        assert_int_equal(zb_mmo(c, bytes_of(v, "input"), out), ZB_OK);
        assert_bytes(span_of(out, ZB_KEY), want);
        return;
    }
    const uint8_t *key = bytes_of(v, "key").p;
    if (strcmp(function, "hmac_mmo") == 0) {
        assert_int_equal(zb_keyed_hash(c, key, bytes_of(v, "input"), out), ZB_OK);
        assert_bytes(span_of(out, ZB_KEY), want);
        return;
    }
    assert_string_equal(function, "ccm");
    size_t mic_len = (size_t)cJSON_GetObjectItem(v, "mic_len")->valueint;
    const uint8_t nonce[13] = {0};
    uint8_t n[sizeof nonce];
    memcpy(n, bytes_of(v, "nonce").p, sizeof n);
    uint8_t aad[64];
    struct span a = bytes_of(v, "aad");
    memcpy(aad, a.p, a.n);
    a.p = aad;
    uint8_t k[ZB_KEY];
    memcpy(k, bytes_of(v, "key").p, sizeof k);
    struct span plain = bytes_of(v, "plaintext");
    assert_int_equal(zb_ccm_seal(c, k, n, a, plain, mic_len, out), ZB_OK);
    want = bytes_of(v, "output");
    assert_bytes(span_of(out, plain.n + mic_len), want);
    assert_int_equal(zb_ccm_open(c, k, n, a, want, mic_len, back), ZB_OK);
    assert_bytes(span_of(back, plain.n), plain);
    out[0] ^= 1;
    assert_int_equal(zb_ccm_open(c, k, n, a, span_of(out, want.n), mic_len, back), ZB_BAD_MIC);
    assert_int_equal(zb_ccm_open(c, k, nonce, a, want, mic_len, back), ZB_BAD_MIC);
}

static void primitives(void **state)
{
    struct fixture *f = *state;
    const cJSON *v;
    int seen = 0;
    cJSON_ArrayForEach(v, cJSON_GetObjectItem(f->vectors, "primitives"))
    {
        check_primitive(f->crypto, v);
        seen++;
    }
    assert_true(seen >= 20);
}

/* An empty text: the MIC alone. */
static void ccm_empty(void **state)
{
    struct fixture *f = *state;
    const uint8_t key[ZB_KEY] = {1}, nonce[13] = {2}, aad[] = {3, 4, 5};
    uint8_t mic[4], none[1];
    struct span a = span_of(aad, sizeof aad);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(zb_ccm_seal(f->crypto, key, nonce, a, span_of(NULL, 0), 4, mic), ZB_OK);
        assert_int_equal(zb_ccm_open(f->crypto, key, nonce, a, span_of(mic, 4), 4, none), ZB_OK);
        mic[3] ^= 0x80;
        assert_int_equal(zb_ccm_open(f->crypto, key, nonce, a, span_of(mic, 4), 4, none), ZB_BAD_MIC);
        assert_int_equal(zb_ccm_open(f->crypto, key, nonce, a, span_of(mic, 3), 4, none), ZB_TRUNCATED);
    }
}

static void install_codes(void **state)
{
    struct fixture *f = *state;
    const cJSON *v;
    int seen = 0;
    cJSON_ArrayForEach(v, cJSON_GetObjectItem(f->vectors, "install_codes"))
    {
        uint8_t code[18], key[ZB_KEY], derived[ZB_KEY];
        size_t len;
        assert_int_equal(zb_install_code_parse(text_of(v, "install_code"), code, &len), ZB_OK);
        assert_int_equal(zb_install_code_key(f->crypto, span_of(code, len), key), ZB_OK);
        assert_bytes(span_of(key, sizeof key), bytes_of(v, "link_key"));
        assert_false(zb_key_is_public(key));
        assert_int_equal(zb_derive(f->crypto, key, ZB_KEY_TRANSPORT, derived), ZB_OK);
        assert_bytes(span_of(derived, sizeof derived), bytes_of(v, "key_transport_key"));
        assert_int_equal(zb_derive(f->crypto, key, ZB_KEY_LOAD, derived), ZB_OK);
        assert_bytes(span_of(derived, sizeof derived), bytes_of(v, "key_load_key"));
        assert_int_equal(zb_derive(f->crypto, key, ZB_KEY_VERIFY, derived), ZB_OK);
        assert_bytes(span_of(derived, sizeof derived), bytes_of(v, "verify_key_hash"));
        seen++;
    }
    cJSON_ArrayForEach(v, cJSON_GetObjectItem(f->vectors, "install_codes_invalid"))
    {
        const char *text =
            text_of(v, "install_code") != NULL ? text_of(v, "install_code") : text_of(v, "install_code_text");
        uint8_t code[18], key[ZB_KEY];
        size_t len = 0;
        enum zb_err e = zb_install_code_parse(text, code, &len);
        if (e == ZB_OK)
            e = zb_install_code_key(f->crypto, span_of(code, len), key);
        assert_string_equal(zb_err_name(e), text_of(v, "error"));
        seen++;
    }
    assert_true(seen >= 13);
}

static void install_code_text(void **state)
{
    (void)state;
    uint8_t code[18];
    size_t len;
    assert_int_equal(zb_install_code_parse("83FE D340-7a93 2b70", code, &len), ZB_OK);
    assert_int_equal(len, 8);
    assert_int_equal(zb_install_code_parse("83FED3407A932B7", code, &len), ZB_BAD_LENGTH);
    assert_int_equal(zb_install_code_parse("83:FE", code, &len), ZB_BAD_HEX);
    assert_int_equal(zb_install_code_parse("83FED3407A932B7083FED3407A932B7083FED3407A932B70", code, &len),
                     ZB_BAD_LENGTH);
}

/* Open both layers of a frame, as far as the vector's keys go. `plain` receives the APS plaintext. */
static enum zb_err open_frame(struct zb_crypto *c, struct span frame, const uint8_t *network_key,
                              const uint8_t *link_key, struct wr *plain)
{
    struct zb_nwk nwk;
    struct zb_aux aux;
    struct zb_aps aps;
    uint8_t buf[ZB_NWK_MAX];
    struct wr w = wr_of(buf, sizeof buf);
    enum zb_err e = zb_nwk_parse(frame, &nwk);
    struct span payload = nwk.payload;
    if (e == ZB_OK && (nwk.fcf & ZB_FCF_SECURITY) != 0) {
        e = zb_nwk_open(c, network_key, frame, &nwk, &aux, &w);
        payload = wr_span(&w);
    }
    if (e == ZB_OK)
        e = zb_aps_parse(payload, &aps);
    if (e != ZB_OK)
        return e;
    if ((aps.fcf & ZB_APS_SECURITY) != 0)
        return zb_aps_open(c, link_key, payload, 0, &aps, &aux, plain);
    wr_spanb(plain, aps.payload);
    return ZB_OK;
}

static void frames(void **state)
{
    struct fixture *f = *state;
    const cJSON *v;
    cJSON_ArrayForEach(v, cJSON_GetObjectItem(f->vectors, "frames"))
    {
        const cJSON *in = cJSON_GetObjectItem(v, "inputs"), *expect = cJSON_GetObjectItem(v, "expect");
        uint8_t buf[ZB_NWK_MAX];
        struct wr plain = wr_of(buf, sizeof buf);
        const uint8_t *network_key = text_of(in, "network_key") != NULL ? bytes_of(in, "network_key").p : NULL;
        assert_int_equal(
            open_frame(f->crypto, bytes_of(expect, "nwk_frame"), network_key, bytes_of(in, "link_key").p, &plain),
            ZB_OK);
        struct zb_cmd cmd;
        uint8_t again[ZB_NWK_MAX];
        struct wr w = wr_of(again, sizeof again);
        assert_int_equal(zb_cmd_parse(wr_span(&plain), &cmd), ZB_OK);
        assert_int_equal(zb_cmd_build(&w, &cmd), ZB_OK);
        assert_bytes(wr_span(&w), wr_span(&plain));
        if (cmd.id != ZB_TUNNEL)
            assert_bytes(wr_span(&plain), bytes_of(expect, "aps_plaintext"));
    }
    cJSON_ArrayForEach(v, cJSON_GetObjectItem(f->vectors, "frames_invalid"))
    {
        uint8_t buf[ZB_NWK_MAX];
        struct wr plain = wr_of(buf, sizeof buf);
        enum zb_err e = open_frame(f->crypto, bytes_of(v, "nwk_frame"), NULL, bytes_of(v, "link_key").p, &plain);
        assert_string_equal(zb_err_name(e), text_of(v, "error") != NULL ? text_of(v, "error") : "ok");
        assert_true(e == ZB_OK || plain.n == 0);
    }
}

static void counters(void **state)
{
    struct fixture *f = *state;
    const cJSON *v;
    cJSON_ArrayForEach(v, cJSON_GetObjectItem(f->vectors, "counter_rules"))
    {
        uint32_t stored = (uint32_t)cJSON_GetObjectItem(v, "stored_next")->valuedouble;
        uint32_t received = (uint32_t)cJSON_GetObjectItem(v, "received")->valuedouble;
        assert_int_equal(zb_counter_ok(stored, received), cJSON_IsTrue(cJSON_GetObjectItem(v, "accept")));
    }
}

/* Headers with every option: what is parsed builds the same bytes. */
static void headers(void **state)
{
    (void)state;
    static const char *const nwk[] = {"0800ffff0000010203", "08182e1f0000011001020304050607080807060504030201aa",
                                      "482434120000010202010011221133"};
    for (size_t i = 0; i < sizeof nwk / sizeof nwk[0]; i++) {
        uint8_t frame[64], again[64];
        size_t n = strlen(nwk[i]) / 2;
        assert_true(hex_decode(nwk[i], 2 * n, frame, n));
        struct zb_nwk h;
        struct wr w = wr_of(again, sizeof again);
        assert_int_equal(zb_nwk_parse(span_of(frame, n), &h), ZB_OK);
        zb_nwk_build(&w, &h);
        wr_spanb(&w, h.payload);
        assert_bytes(wr_span(&w), span_of(frame, n));
    }
    static const char *const aps[] = {"000a0600040101c7aa",     "0c34120600040101c7aa",  "020a060004010107", "1208",
                                      "800a0600040101c70102aa", "82010600040101c70101ff"};
    for (size_t i = 0; i < sizeof aps / sizeof aps[0]; i++) {
        uint8_t frame[64], again[64];
        size_t n = strlen(aps[i]) / 2;
        assert_true(hex_decode(aps[i], 2 * n, frame, n));
        struct zb_aps h;
        struct wr w = wr_of(again, sizeof again);
        assert_int_equal(zb_aps_parse(span_of(frame, n), &h), ZB_OK);
        zb_aps_build(&w, &h);
        wr_spanb(&w, h.payload);
        assert_bytes(wr_span(&w), span_of(frame, n));
    }
}

/* What the largest radio frame can not carry is refused, and so is opening what is not secured. */
static void limits(void **state)
{
    struct fixture *f = *state;
    const uint8_t key[ZB_KEY] = {1};
    uint8_t text[ZB_NWK_MAX] = {0}, out[256], plain[ZB_NWK_MAX];
    struct zb_nwk nwk = {.fcf = 0x0008, .dst = 1, .radius = 30}, back;
    struct zb_aps aps = {.fcf = ZB_APS_COMMAND};
    struct zb_aux aux;
    const size_t most = ZB_NWK_MAX - 8 - 14 - ZB_MIC;
    struct wr w = wr_of(out, sizeof out), p = wr_of(plain, sizeof plain);
    assert_int_equal(zb_nwk_seal(f->crypto, key, &nwk, 7, 9, 0, span_of(text, most), &w), ZB_OK);
    assert_int_equal(w.n, ZB_NWK_MAX);
    assert_int_equal(zb_nwk_open(f->crypto, key, wr_span(&w), &back, &aux, &p), ZB_OK);
    assert_true(p.n == most && aux.counter == 7 && aux.src64 == 9);
    w = wr_of(out, sizeof out);
    assert_int_equal(zb_nwk_seal(f->crypto, key, &nwk, 7, 9, 0, span_of(text, most + 1), &w), ZB_NO_SPACE);
    w = wr_of(out, 40);
    assert_int_equal(zb_nwk_seal(f->crypto, key, &nwk, 7, 9, 0, span_of(text, most), &w), ZB_NO_SPACE);
    w = wr_of(out, sizeof out);
    assert_int_equal(zb_aps_seal(f->crypto, key, &aps, 1, 7, 9, span_of(text, 2), &w), ZB_NO_KEY);
    nwk.multicast = true;
    w = wr_of(out, sizeof out);
    zb_nwk_build(&w, &nwk);
    assert_false(wr_ok(&w));
    const uint8_t clear_nwk[] = {0x08, 0, 1, 0, 0, 0, 30, 1, 0x01, 1, 9, 1}, clear_aps[] = {0x01, 1, 9, 1};
    assert_int_equal(zb_nwk_open(f->crypto, key, span_of(clear_nwk, sizeof clear_nwk), &back, &aux, &p), ZB_MALFORMED);
    assert_int_equal(zb_aps_open(f->crypto, key, span_of(clear_aps, sizeof clear_aps), 0, &aps, &aux, &p),
                     ZB_MALFORMED);
}

/* Frames that end early or say what none may say, by what they are refused as. */
static void malformed(void **state)
{
    (void)state;
    static const struct {
        enum { NWK, APS, CMD } what;
        const char *hex;
        enum zb_err want;
    } rows[] = {
        {NWK, "08", ZB_TRUNCATED},
        {NWK, "0b00010000001e01", ZB_MALFORMED}, /* frame type 3 */
        {NWK, "0400010000001e01", ZB_MALFORMED},   /* protocol version 1 */
        {NWK, "0800010000001e", ZB_TRUNCATED},
        {NWK, "08010000010000", ZB_TRUNCATED},
        {NWK, "0801ffff00001e01", ZB_TRUNCATED},             /* no multicast control */
        {NWK, "0804010000001e01", ZB_TRUNCATED},             /* no source route */
        {NWK, "0804010000001e01020011", ZB_TRUNCATED},       /* relays cut */
        {NWK, "0804010000001e01020211112222", ZB_MALFORMED}, /* relay index behind the list */
        {APS, "", ZB_TRUNCATED},
        {APS, "03", ZB_MALFORMED}, /* inter-PAN */
        {APS, "04", ZB_MALFORMED}, /* reserved delivery mode */
        {APS, "0d", ZB_MALFORMED}, /* a command to a group */
        {APS, "000a06000401", ZB_TRUNCATED},
        {APS, "800a0600040101c7", ZB_TRUNCATED},     /* no extended frame control */
        {APS, "800a0600040101c701", ZB_TRUNCATED},   /* no block number */
        {APS, "820a0600040101c70101", ZB_TRUNCATED}, /* no ack bitfield */
        {APS, "800a0600040101c70301", ZB_MALFORMED}, /* reserved fragmentation */
        {APS, "800a0600040101c700aa", ZB_OK},        /* extended, not fragmented */
        {CMD, "", ZB_TRUNCATED},
        {CMD, "05", ZB_TRUNCATED},
        {CMD, "7f01", ZB_MALFORMED},
        {CMD, "09", ZB_TRUNCATED},
        {CMD, "0e0102030405060708", ZB_TRUNCATED}, /* an empty tunnel */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t bytes[64];
        size_t n = strlen(rows[i].hex) / 2;
        struct zb_nwk nwk;
        struct zb_aps aps;
        struct zb_cmd cmd;
        assert_true(hex_decode(rows[i].hex, 2 * n, bytes, n));
        struct span in = span_of(bytes, n);
        enum zb_err e = rows[i].what == NWK   ? zb_nwk_parse(in, &nwk)
                        : rows[i].what == APS ? zb_aps_parse(in, &aps)
                                              : zb_cmd_parse(in, &cmd);
        if (e != rows[i].want)
            fail_msg("%s: %s, not %s", rows[i].hex, zb_err_name(e), zb_err_name(rows[i].want));
    }
    const uint8_t long_frame[ZB_NWK_MAX + 1] = {0x08};
    struct zb_nwk nwk;
    struct zb_aps aps;
    assert_int_equal(zb_nwk_parse(span_of(long_frame, sizeof long_frame), &nwk), ZB_MALFORMED);
    assert_int_equal(zb_aps_parse(span_of(long_frame, sizeof long_frame), &aps), ZB_MALFORMED);
}

/* What a caller of this side may not ask for. */
static void wrong_calls(void **state)
{
    struct fixture *f = *state;
    const uint8_t key[ZB_KEY] = {1}, nonce[13] = {0};
    uint8_t out[64], few[4], code[7] = {0}, big[8192] = {0};
    struct span some = span_of(key, sizeof key);
    struct zb_cmd unknown = {.id = 0x7f};
    struct zb_aps aps = {.fcf = ZB_APS_DATA | ZB_APS_EXTENDED, .cluster = 6, .profile = 0x0104}, back;
    struct wr w = wr_of(out, sizeof out), narrow = wr_of(few, sizeof few);
    assert_int_equal(zb_cmd_build(&w, &unknown), ZB_MALFORMED);
    assert_int_equal(zb_cmd_build(&narrow, &(struct zb_cmd){.id = ZB_REMOVE_DEVICE}), ZB_NO_SPACE);
    assert_int_equal(zb_ccm_seal(f->crypto, key, nonce, some, some, 5, out), ZB_BAD_LENGTH);
    assert_int_equal(zb_ccm_open(f->crypto, key, nonce, some, some, 16, out), ZB_BAD_LENGTH);
    assert_int_equal(zb_ccm_open(f->crypto, key, nonce, some, span_of(key, 3), 4, out), ZB_TRUNCATED);
    assert_int_equal(zb_mmo(f->crypto, span_of(big, sizeof big), out), ZB_BAD_LENGTH);
    assert_int_equal(zb_install_code_key(f->crypto, span_of(code, sizeof code), out), ZB_BAD_LENGTH);
    w = wr_of(out, sizeof out);
    zb_aps_build(&w, &aps); /* extended, not fragmented: one byte of it */
    assert_int_equal(zb_aps_parse(wr_span(&w), &back), ZB_OK);
    assert_true(back.ext_fcf == 0 && back.payload.n == 0);
    zb_crypto_free(NULL);

    struct zb_aux aux;
    uint8_t frame[64], plain[4];
    struct wr sealed = wr_of(frame, sizeof frame), room = wr_of(plain, sizeof plain);
    aps = (struct zb_aps){.fcf = ZB_APS_COMMAND};
    assert_int_equal(zb_aps_seal(f->crypto, key, &aps, 0, 7, 9, some, &sealed), ZB_OK);
    assert_int_equal(zb_aps_open(f->crypto, key, wr_span(&sealed), 0, &back, &aux, &room), ZB_NO_SPACE);
    assert_int_equal(room.n, 0);
    assert_int_equal(zb_aps_open(f->crypto, key, span_of(frame, 0), 0, &back, &aux, &room), ZB_TRUNCATED);
    assert_int_equal(zb_aps_open(f->crypto, key, span_of(frame, 4), 0, &back, &aux, &room), ZB_TRUNCATED);
}

static void public_keys(void **state)
{
    (void)state;
    uint8_t key[ZB_KEY];
    memcpy(key, "ZigBeeAlliance09", ZB_KEY);
    assert_true(zb_key_is_public(key));
    key[15] ^= 1;
    assert_false(zb_key_is_public(key));
    memset(key, 0, sizeof key);
    assert_true(zb_key_is_public(key));
    memset(key, 0xff, sizeof key);
    assert_true(zb_key_is_public(key));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(primitives),    cmocka_unit_test(ccm_empty),
                                       cmocka_unit_test(install_codes), cmocka_unit_test(install_code_text),

                                       cmocka_unit_test(frames),        cmocka_unit_test(counters),
                                       cmocka_unit_test(headers),       cmocka_unit_test(limits),
                                       cmocka_unit_test(malformed),     cmocka_unit_test(wrong_calls),
                                       cmocka_unit_test(public_keys)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
