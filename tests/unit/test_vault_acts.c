/* Acts on Zigbee frames, against the vectors and by key id. */
#include "tests/unit/vault_fixture.h"
#include "tests/unit/vectors_fixture.h"

#define KEY_A "66b6900981e1ee3ca4206b6b861c02bb"
#define KEY_B "0f0e0d0c0b0a09080706050403020100"
static const eui64_t device = 0x00158d0003123456u;

static double number(const cJSON *o, const char *name) { return cJSON_GetObjectItem(o, name)->valuedouble; }

/* The command is made from its own plaintext, the key taken out of it. */
static void check_vector(struct zb_crypto *zb, const cJSON *in, const cJSON *expect)
{
    uint8_t link[16], plain[128], frame[128], want[128];
    struct zb_cmd cmd;
    size_t n = unhex(expect, "aps_plaintext", plain, sizeof plain), wanted = unhex(expect, "aps_frame", want, sizeof want);
    assert_int_equal(zb_cmd_parse(span_of(plain, n), &cmd), ZB_OK);
    bool secured = !cJSON_IsNull(cJSON_GetObjectItem(in, "aps_key_id"));
    struct vault_aps_command c = {.cmd = &cmd,
                                  .key_id = secured ? (uint8_t)number(in, "aps_key_id") : 0,
                                  .counter = secured ? (uint32_t)number(in, "aps_frame_counter") : 0,
                                  .aps_counter = (uint8_t)number(in, "aps_counter"),
                                  .ack_request = cJSON_IsTrue(cJSON_GetObjectItem(in, "aps_ack_request"))};
    bool by_device = cmd.id == ZB_REQUEST_KEY || cmd.id == ZB_VERIFY_KEY;
    assert_true(eui64_parse(text_of(in, by_device ? "device_eui64_text" : "gateway_eui64_text"), &c.source));
    unhex(in, "link_key", link, sizeof link);
    uint8_t key[ZB_KEY];
    memcpy(key, cmd.key, ZB_KEY);
    bool carries = cmd.id == ZB_TRANSPORT_KEY;
    if (carries)
        memset(cmd.key, 0, ZB_KEY);
    struct wr w = wr_of(frame, sizeof frame);
    assert_int_equal(aps_command(zb, secured ? link : NULL, carries ? key : NULL, &c, &w), ZB_OK);
    assert_int_equal(w.n, wanted);
    assert_memory_equal(w.p, want, wanted);
}

static void commands_equal_the_vectors(void **state)
{
    (void)state;
    struct zb_crypto *zb = zb_crypto_new();
    cJSON *all = vectors("ZIGBEE_VECTORS"), *v;
    int checked = 0;
    cJSON_ArrayForEach(v, cJSON_GetObjectItem(all, "frames"))
    {
        const cJSON *expect = cJSON_GetObjectItem(v, "expect");
        if (cJSON_HasObjectItem(expect, "tunnel_aps_frame"))
            continue; /* a command in a command */
        check_vector(zb, cJSON_GetObjectItem(v, "inputs"), expect);
        checked++;
    }
    assert_true(checked >= 8);
    cJSON_Delete(all);
    zb_crypto_free(zb);
}

static void keys_go_only_where_they_belong(void **state)
{
    struct fixture *f = *state;
    struct both b = open_both(f);
    uint8_t frame[128];
    vault_id link = import(b, VAULT_LINK_KEY, KEY_A), network = import(b, VAULT_NETWORK_KEY, KEY_B),
             tclk = import(b, VAULT_TCLK, KEY_B), psk = import(b, VAULT_PSK, KEY_B);
    const struct zb_cmd to_nwk = {.id = ZB_TRANSPORT_KEY, .key_type = ZB_KEYTYPE_NWK, .dst = device, .src = gateway},
                        to_tclk = {.id = ZB_TRANSPORT_KEY, .key_type = ZB_KEYTYPE_TCLK, .dst = device, .src = gateway},
                        confirm = {.id = ZB_CONFIRM_KEY, .key_type = ZB_KEYTYPE_TCLK, .dst = device};
    const struct {
        const struct zb_cmd *cmd;
        vault_id carried, link_key;
        enum st want;
    } cases[] = {
        {&to_nwk, network, link, ST_OK},         {&to_tclk, tclk, link, ST_OK},         {&confirm, 0, tclk, ST_OK},
        {&confirm, 0, 0, ST_OK},                 {&to_nwk, link, link, ST_NOT_FOUND},   {&to_nwk, tclk, link, ST_NOT_FOUND},
        {&to_tclk, network, link, ST_NOT_FOUND}, {&to_nwk, psk, link, ST_NOT_FOUND},    {&to_nwk, 0, link, ST_NOT_FOUND},
        {&confirm, tclk, link, ST_NOT_FOUND},    {&to_nwk, network, 99, ST_NOT_FOUND},  {&to_nwk, 99, link, ST_NOT_FOUND},
        {&to_nwk, network, 0, ST_INTERNAL}, /* a key in the clear */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct wr w = wr_of(frame, sizeof frame);
        struct vault_aps_command c = {.cmd = cases[i].cmd,
                                      .carried = cases[i].carried,
                                      .link_key = cases[i].link_key,
                                      .key_id = ZB_KEY_ID_LOAD,
                                      .counter = 1,
                                      .source = gateway};
        assert_int_equal(vault_aps_command(b.v, &c, &w), cases[i].want);
        assert_true(cases[i].want == ST_OK || w.n == 0);
    }
    struct wr small = wr_of(frame, 20);
    struct vault_aps_command c = {.cmd = &to_nwk, .carried = network, .link_key = link, .source = gateway};
    assert_int_equal(vault_aps_command(b.v, &c, &small), ST_INTERNAL);
    close_both(b);
}

static void only_the_devices_own_commands_open(void **state)
{
    struct fixture *f = *state;
    struct both b = open_both(f);
    uint8_t frame[128], plain[128];
    vault_id link = import(b, VAULT_LINK_KEY, KEY_A), network = import(b, VAULT_NETWORK_KEY, KEY_B);
    const struct zb_cmd request = {.id = ZB_REQUEST_KEY, .key_type = ZB_KEYTYPE_TCLK},
                        transport = {.id = ZB_TRANSPORT_KEY, .key_type = ZB_KEYTYPE_NWK, .dst = device, .src = gateway};
    struct vault_aps_command theirs = {.cmd = &request, .link_key = link, .counter = 1, .source = device},
                             ours = {.cmd = &transport, .carried = network, .link_key = link, .counter = 1,
                                     .source = gateway, .key_id = ZB_KEY_ID_TRANSPORT};
    struct zb_aps aps;
    struct zb_aux aux;
    struct wr w = wr_of(frame, sizeof frame), p = wr_of(plain, sizeof plain);
    assert_int_equal(vault_aps_command(b.v, &theirs, &w), ST_OK);
    assert_int_equal(vault_aps_open(b.v, link, wr_span(&w), device, &aps, &aux, &p), ZB_OK);
    assert_true(p.n == 2 && plain[0] == ZB_REQUEST_KEY && aux.counter == 1);
    assert_int_equal(vault_aps_open(b.v, network, wr_span(&w), device, &aps, &aux, &p), ZB_BAD_MIC);
    assert_int_equal(vault_aps_open(b.v, 99, wr_span(&w), device, &aps, &aux, &p), ZB_NO_KEY);
    for (size_t n = 0; n < w.n; n++)
        assert_int_not_equal(vault_aps_open(b.v, link, span_of(frame, n), device, &aps, &aux, &p), ZB_OK);
    w = wr_of(frame, sizeof frame);
    p = wr_of(plain, sizeof plain);
    assert_int_equal(vault_aps_command(b.v, &ours, &w), ST_OK);
    assert_int_equal(vault_aps_open(b.v, link, wr_span(&w), device, &aps, &aux, &p), ZB_NO_KEY); /* heard back */
    assert_int_equal(p.n, 0);
    close_both(b);
}

static void a_verify_key_hash_is_of_one_key(void **state)
{
    struct fixture *f = *state;
    struct both b = open_both(f);
    struct zb_crypto *zb = zb_crypto_new();
    uint8_t key[ZB_KEY], hash[ZB_KEY];
    vault_id right = import(b, VAULT_TCLK, KEY_A), other = import(b, VAULT_TCLK, KEY_B);
    assert_true(hex_decode(KEY_A, 32, key, ZB_KEY));
    assert_int_equal(zb_derive(zb, key, ZB_KEY_VERIFY, hash), ZB_OK);
    assert_true(vault_verify_hash(b.v, right, hash));
    assert_false(vault_verify_hash(b.v, other, hash) || vault_verify_hash(b.v, 99, hash));
    hash[15] ^= 1;
    assert_false(vault_verify_hash(b.v, right, hash));
    zb_crypto_free(zb);
    close_both(b);
}

static void frames_open_under_the_key_that_sealed_them(void **state)
{
    struct fixture *f = *state;
    struct both b = open_both(f);
    vault_id a = import(b, VAULT_NETWORK_KEY, KEY_A), c = import(b, VAULT_NETWORK_KEY, KEY_B);
    uint8_t frame[128], plain[128];
    struct wr w = wr_of(frame, sizeof frame), p = wr_of(plain, sizeof plain);
    struct zb_nwk h = {.fcf = 0x0208, .dst = 0, .src = 0x1f2e, .radius = 30, .seq = 9}, got;
    struct zb_aux aux;
    assert_int_equal(vault_nwk_seal(b.v, a, &h, 77, gateway, 0, span_str("payload"), &w), ZB_OK);
    assert_int_equal(vault_nwk_open(b.v, c, wr_span(&w), &got, &aux, &p), ZB_BAD_MIC);
    p = wr_of(plain, sizeof plain);
    assert_int_equal(vault_nwk_open(b.v, 99, wr_span(&w), &got, &aux, &p), ZB_NO_KEY);
    p = wr_of(plain, sizeof plain);
    assert_int_equal(vault_nwk_open(b.v, a, wr_span(&w), &got, &aux, &p), ZB_OK);
    assert_true(span_eq(wr_span(&p), span_str("payload")) && aux.counter == 77 && aux.src64 == gateway);
    close_both(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_equal_the_vectors),
        cmocka_unit_test_setup_teardown(keys_go_only_where_they_belong, setup, teardown),
        cmocka_unit_test_setup_teardown(only_the_devices_own_commands_open, setup, teardown),
        cmocka_unit_test_setup_teardown(a_verify_key_hash_is_of_one_key, setup, teardown),
        cmocka_unit_test_setup_teardown(frames_open_under_the_key_that_sealed_them, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
