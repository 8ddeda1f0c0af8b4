/* What an operator is told: where each enrolment stands and why, provoked one by one; and the registration that a stranger's
 * EUI-64 is a slip of. */
#include "tests/unit/eg_fixture.h"

static struct first_key key; /* of the device that a row's story is about */
static uint8_t own_key[ZB_KEY];

/* --- stories ------------------------------------------------------------------------------------------------------ */

static void registered(struct world *w)
{
    assert_int_equal(put_code(w, DEV, A_CODE), ST_CREATED);
}

static void key_sent(struct world *w)
{
    struct call c;
    registered(w);
    assert_int_equal(ask(w, GW, DEV, 1, &c), EGP_OK);
    key = learn(w, &c, CODE_KEY);
}

static void radiated(struct world *w, enum egp_tx result)
{
    struct egp_message m = {.env = {EGP_VERSION, EGP_TX_RESULT, 1, GW, DEV, EGP_TO_EG, 15, -50}};
    struct call c;
    m.u.tx_result = (struct egp_tx_result){.result = (uint8_t)result, .tries = 1};
    send_message(w, &m, &c);
}

static void acknowledged_and_silent(struct world *w)
{
    key_sent(w);
    radiated(w, EGP_TX_ACKED);
    pass(w, 61000);
}

static void not_acknowledged(struct world *w)
{
    key_sent(w);
    radiated(w, EGP_TX_NO_ACK);
    pass(w, 61000);
}

static void not_polled_for(struct world *w)
{
    key_sent(w);
    radiated(w, EGP_TX_EXPIRED);
    pass(w, 61000);
}

static void silent(struct world *w)
{
    key_sent(w);
    pass(w, 61000);
}

static void proved(struct world *w)
{
    key_sent(w);
    struct frame_bytes f = reading(w, key.key, DEV, 3);
    uplink(w, GW, &f);
}

static void asked_for_a_link_key(struct world *w)
{
    uint8_t link_key[ZB_KEY];
    assert_true(hex_decode(CODE_KEY, 2 * ZB_KEY, link_key, ZB_KEY));
    proved(w);
    assert_true(request_key(w, &key, DEV, 4, link_key, own_key));
}

static void no_request(struct world *w)
{
    proved(w);
    pass(w, 61000);
}

static void no_proof(struct world *w)
{
    asked_for_a_link_key(w);
    pass(w, 61000);
}

static void wrong_proof(struct world *w)
{
    asked_for_a_link_key(w);
    own_key[0] ^= 1;
    assert_false(verify_key(w, &key, DEV, 5, own_key));
    pass(w, 61000);
}

static void wrong_link_key(struct world *w)
{
    static const uint8_t other[ZB_KEY] = {1};
    uint8_t tclk[ZB_KEY];
    proved(w);
    assert_false(request_key(w, &key, DEV, 4, other, tclk));
}

static void enrolled(struct world *w) { key = enrol(w, DEV, 1); }

static void old_stack(struct world *w)
{
    proved(w);
    pass(w, 4000);
    struct frame_bytes f = node_descriptor(w, &key, 5, SHORT, 20);
    uplink(w, GW, &f);
}

static void code_changed(struct world *w)
{
    key_sent(w);
    assert_int_equal(put_code(w, DEV, "{\"installCode\":\"" OTHER_CODE "\"}"), ST_OK);
}

static void revoked(struct world *w)
{
    enrolled(w);
    assert_int_equal(act(w, DEV, "revoke"), ST_OK);
}

static void refused(struct world *w, enum egp_reason reason)
{
    struct call c;
    assert_int_equal(ask(w, GW, DEV, 9, &c), reason);
}

static void revoked_asks(struct world *w)
{
    revoked(w);
    refused(w, EGP_DEVICE_REVOKED);
}

static void revoked_speaks(struct world *w)
{
    revoked(w);
    struct frame_bytes f = reading(w, key.key, DEV, 7);
    uplink(w, GW, &f);
}

static void rearmed(struct world *w)
{
    revoked_asks(w);
    assert_int_equal(act(w, DEV, "rearm"), ST_OK);
}

static void left(struct world *w)
{
    enrolled(w);
    nwk_command(w, &key, 7, span_of("\x04\x00", 2));
}

static void replayed(struct world *w)
{
    enrolled(w);
    struct frame_bytes f = reading(w, key.key, DEV, 4);
    uplink(w, GW, &f);
    uplink(w, GW, &f);
}

static void repeated_by_the_radio(struct world *w)
{
    enrolled(w);
    struct frame_bytes f = reading(w, key.key, DEV, 6);
    uplink(w, GW, &f);
    uplink(w, GW, &f);
}

static void under_another_key(struct world *w)
{
    static const uint8_t other[ZB_KEY] = {1};
    key_sent(w);
    struct frame_bytes f = reading(w, other, DEV, 7);
    uplink(w, GW, &f);
}

static void expired(struct world *w)
{
    assert_int_equal(put_code(w, DEV, "{\"installCode\":\"" CODE "\",\"expiresAt\":\"2026-09-21T15:00:00Z\"}"), ST_CREATED);
    w->h.clock += 3600000;
    refused(w, EGP_CODE_EXPIRED);
}

static void elsewhere(struct world *w)
{
    assert_int_equal(put_code(w, DEV, "{\"installCode\":\"" CODE "\",\"gateways\":[\"00124b001ca1b2c4\"]}"), ST_CREATED);
    refused(w, EGP_GATEWAY_NOT_ALLOWED);
}

/* The message refused, changed by a row. */
static void refused_message(struct world *w, struct egp_message m, enum egp_reason reason)
{
    struct call c;
    send_message(w, &m, &c);
    assert_int_equal(reason_of(&c), reason);
}

static void through_a_stranger(struct world *w)
{
    struct egp_message m = request_message(GW, DEV, 9);
    registered(w);
    m.u.request.parent_short = 0x1234;
    refused_message(w, m, EGP_PARENT_KEY_DOMAIN);
}

static void impossible(struct world *w)
{
    struct egp_message m = request_message(GW, DEV, 9);
    registered(w);
    m.u.request.device_short = 0;
    refused_message(w, m, EGP_BAD_REQUEST);
}

static void secured_rejoin(struct world *w)
{
    struct frame_bytes f;
    struct egp_message m = rejoin_message(GW, DEV, 9, &f);
    registered(w);
    m.u.request.join = EGP_REJOIN_SECURED;
    refused_message(w, m, EGP_NOT_SUPPORTED);
}

static void rejoins_unknown(struct world *w)
{
    struct call c;
    registered(w);
    assert_int_equal(rejoin(w, GW, DEV, 9, &c), EGP_NO_LINK_KEY);
}

static void number_twice(struct world *w)
{
    struct egp_message m = request_message(GW, DEV, 1);
    key_sent(w);
    m.u.request.device_short = 0x2222;
    refused_message(w, m, EGP_CONFLICT);
}

static void spent(struct world *w)
{
    enrolled(w);
    refused(w, EGP_CODE_SPENT);
}

static void left_and_asks(struct world *w)
{
    left(w);
    refused(w, EGP_CODE_SPENT);
}

static void too_often(struct world *w)
{
    struct call c;
    uint64_t n = 1;
    registered(w);
    while (ask(w, GW, DEV, n, &c) == EGP_OK)
        assert_true(++n < 20);
}

static void mistyped(struct world *w)
{
    struct call c;
    registered(w);
    assert_int_equal(ask(w, GW, DEV ^ 0x400, 9, &c), EGP_UNKNOWN_DEVICE);
}

/* --- what is told ------------------------------------------------------------------------------------------------- */

static const struct {
    void (*story)(struct world *w);
    const char *state, *awaits, *reason, *failure; /* NULL: absent */
    const char *words;                             /* in the explanation; of the failure where there is no other */
} rows[] = {
    {registered, "registered", "association", NULL, NULL, "No device has asked to join"},
    {key_sent, "key-sent", "first-frame", NULL, NULL, "first frame under it is awaited"},
    {proved, "joining", "request-key", NULL, NULL, "is to ask for a link key"},
    {asked_for_a_link_key, "joining", "verify-key", NULL, NULL, "proof of it is awaited"},
    {enrolled, "enrolled", NULL, NULL, NULL, "has proved its network key and a link key"},
    {old_stack, "enrolled", NULL, "older-than-r21", NULL, "its stack is older than r21"},
    {acknowledged_and_silent, "failed", "association", "first-key-not-opened", "first-key-not-opened", "not the one of this device"},
    {not_acknowledged, "failed", "association", "first-key-not-delivered", "first-key-not-delivered", "did not reach the device"},
    {not_polled_for, "failed", "association", "first-key-not-delivered", "first-key-not-delivered", "did not reach the device"},
    {silent, "failed", "association", "no-secured-frame-seen", "no-secured-frame-seen", "no frame under it came back"},
    {no_request, "failed", "association", "no-second-exchange", "no-second-exchange", "did not ask for a link key"},
    {no_proof, "failed", "association", "link-key-not-verified", "link-key-not-verified", "did not verify it in time"},
    {wrong_proof, "failed", "association", "verify-key-wrong", "verify-key-wrong", "proof of its new link key was wrong"},
    {wrong_link_key, "joining", "request-key", NULL, "aps-command-refused", "is to ask for a link key"},
    {code_changed, "registered", "association", "install-code-changed", NULL, "changed while the device was joining"},
    {revoked, "revoked", NULL, "revoked", NULL, "An operator revoked"},
    {revoked_asks, "revoked", NULL, "revoked", "device-revoked", "refused until a rearm"},
    {revoked_speaks, "revoked", NULL, "revoked", "device-revoked", "refused until a rearm"},
    {rearmed, "revoked", "association", "revoked", NULL, "until a rearm"},
    {left, "registered", NULL, "left", NULL, "said that it leaves"},
    {left_and_asks, "registered", NULL, "left", "code-spent", "a rearm lets it join again"},
    {spent, "enrolled", NULL, NULL, "code-spent", "has proved"},
    {replayed, "enrolled", NULL, NULL, "counter-refused", "has proved"},
    {repeated_by_the_radio, "enrolled", NULL, NULL, NULL, "has proved"},
    {under_another_key, "key-sent", "first-frame", NULL, "frame-not-opened", "is awaited"},
    {expired, "expired", NULL, "code-expired", "code-expired", "has ended (expiresAt)"},
    {elsewhere, "registered", "association", "gateway-not-allowed", "gateway-not-allowed", "do not allow each other"},
    {through_a_stranger, "registered", "association", "parent-key-domain", "parent-key-domain", "key domain"},
    {impossible, "registered", "association", "bad-request", "bad-request", "addresses that cannot be"},
    {secured_rejoin, "registered", "association", "not-supported", "not-supported", "not served"},
    {rejoins_unknown, "registered", "association", "no-link-key", "no-link-key", "no link key at this gateway"},
    {number_twice, "key-sent", "first-frame", NULL, "conflict", "is awaited"},
    {too_often, "key-sent", "first-frame", NULL, "rate-limited", "is awaited"},
    {mistyped, "registered", "association", "nearly-this", "nearly-this", "compare this registration with the label"},
};

static const char *member(const cJSON *o, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItem(o, name));
}

static void check(size_t row, const char *what, const char *got, const char *want)
{
    if ((got == NULL) != (want == NULL) || (got != NULL && strcmp(got, want) != 0))
        fail_msg("row %zu (%s %s): %s is %s, not %s", row, rows[row].state, rows[row].words, what, got, want);
}

/* Each row has a world of its own. */
static void each_enrolment_is_explained(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct world *w = NULL;
        assert_int_equal(world_new((void **)&w), 0);
        rows[i].story(w);
        cJSON *o = eg_device_get(w->eg, ADMIN, DEV);
        const cJSON *failure = cJSON_GetObjectItem(o, "lastFailure");
        const char *words = member(o, "explanation"), *reason = member(o, "reason"), *failed = member(failure, "reason");
        check(i, "state", member(o, "state"), rows[i].state);
        check(i, "awaits", member(o, "awaits"), rows[i].awaits);
        check(i, "reason", reason, rows[i].reason);
        check(i, "lastFailure", failed, rows[i].failure);
        if (words == NULL || strstr(words, rows[i].words) == NULL)
            fail_msg("row %zu: %s does not say %s", i, words, rows[i].words);
        if (reason != NULL)
            assert_string_equal(words, eg_explanation(reason));
        if (failed != NULL) {
            assert_string_equal(member(failure, "explanation"), eg_explanation(failed));
            assert_string_equal(member(failure, "gateway"), "00124b001ca1b2c3");
            assert_non_null(member(failure, "at"));
        }
        cJSON_Delete(o);
        world_free((void **)&w);
    }
}

static void each_reason_has_a_sentence(void **state)
{
    (void)state;
    for (int r = EGP_OK + 1; r < EGP_REASONS; r++)
        assert_non_null(eg_explanation(egp_reason_name((enum egp_reason)r)));
    assert_string_equal(eg_explanation("unknown-device nearest=00158d0003123456"), eg_explanation("unknown-device"));
    assert_null(eg_explanation("ok"));
    assert_null(eg_explanation("unknown"));
    assert_null(eg_explanation(""));
}

static void a_step_says_until_when(void **state)
{
    struct world *w = *state;
    key_sent(w);
    cJSON *o = eg_device_get(w->eg, ADMIN, DEV);
    assert_string_equal(member(o, "awaitsUntil"), "2026-09-21T14:14:20Z"); /* pending-seconds from the request */
    assert_string_equal(member(o, "credential"), "install-code");
    cJSON_Delete(o);
}

static void what_failed_twice_is_counted(void **state)
{
    struct world *w = *state;
    struct call c;
    spent(w);
    assert_int_equal(ask(w, GW, DEV, 10, &c), EGP_CODE_SPENT);
    cJSON *o = eg_device_get(w->eg, ADMIN, DEV);
    assert_int_equal(cJSON_GetObjectItem(cJSON_GetObjectItem(o, "lastFailure"), "times")->valueint, 2);
    assert_string_equal(member(o, "linkKey"), "own");
    cJSON_Delete(o);
    reopen(w); /* it is no record */
    o = eg_device_get(w->eg, ADMIN, DEV);
    assert_null(cJSON_GetObjectItem(o, "lastFailure"));
    cJSON_Delete(o);
}

/* --- strangers ---------------------------------------------------------------------------------------------------- */

static void expect_nearest(struct world *w, eui64_t asked, eui64_t registered_one)
{
    static uint64_t transaction = 100;
    struct mef_result r = {0};
    struct call c;
    char want[32];
    assert_int_equal(ask(w, GW, asked, transaction++, &c), EGP_UNKNOWN_DEVICE);
    assert_true(eg_explain_stranger(w->eg, ADMIN, asked, &r));
    assert_true(r.st == ST_NOT_FOUND && strcmp(r.code, "unknown-device") == 0);
    snprintf(want, sizeof want, "%016llx", (unsigned long long)registered_one);
    bool named = strstr(r.detail, want) != NULL, any = strstr(r.detail, "nearest") != NULL;
    if (named != (registered_one != 0) || any != (registered_one != 0))
        fail_msg("%016llx: %s", (unsigned long long)asked, r.detail);
    assert_false(eg_explain_stranger(w->eg, OTHER_ADMIN, asked, &r));
    pass(w, 1000); /* searches are rated */
}

static void a_strangers_nearest_registration_is_named(void **state)
{
    struct world *w = *state;
    static const eui64_t near[] = {
        0x00158d0003123457, 0xf0158d0003123456, /* a digit wrong, the last or the first */
        0x00158d0003124356, 0x00518d0003123456, /* neighbours swapped */
        0x00158d0003123465, 0x00158d0003133457, 0x10158d000312345f, /* ..and two digits wrong */
        0x00158d0003214356,                     /* two swaps */
        0x00158d0003214356, 0x01058d0003123457, /* a swap and a digit */
        0x0158d00031234560, 0x000158d003123456, /* a digit left out and one too many */
        0x56341203008d1500,                     /* back to front */
    };
    static const eui64_t far[] = {0x00158d0003abcdef, 0x00158d0003120000, 0x1111111111111111};
    struct mef_result r = {0};
    registered(w);
    assert_int_equal(put_code_as(w, OTHER_ADMIN, 0x00158d0003123400, A_CODE, false, NULL), ST_CREATED); /* is not told of */
    assert_false(eg_explain_stranger(w->eg, ADMIN, near[0], &r));
    for (size_t i = 0; i < sizeof near / sizeof near[0]; i++)
        expect_nearest(w, near[i], DEV);
    for (size_t i = 0; i < sizeof far / sizeof far[0]; i++)
        expect_nearest(w, far[i], 0);
    assert_int_equal(put_code(w, near[0], A_CODE), ST_CREATED); /* no stranger any more */
    assert_false(eg_explain_stranger(w->eg, ADMIN, near[0], &r));
}

/* One slip is nearer than two. */
static void the_nearer_one_is_named(void **state)
{
    struct world *w = *state;
    assert_int_equal(put_code(w, 0x00158d0003123466, A_CODE), ST_CREATED);
    assert_int_equal(put_code(w, 0x00158d0003123458, A_CODE), ST_CREATED);
    expect_nearest(w, 0x00158d0003123457, 0x00158d0003123458);
    expect_nearest(w, 0x00158d0003123477, 0x00158d0003123466) /* two digits */;
}

/* Many strangers: only the newest are kept, and the flood is not looked up without end. */
static void strangers_are_limited(void **state)
{
    struct world *w = *state;
    struct mef_result r = {0};
    struct call c;
    registered(w);
    for (uint64_t i = 0; i < 1100; i++)
        assert_int_equal(ask(w, GW, 0x1000000000000000 + i * 0x10001, 10 + i, &c), EGP_UNKNOWN_DEVICE);
    assert_false(eg_explain_stranger(w->eg, ADMIN, 0x1000000000000000, &r));
    assert_true(eg_explain_stranger(w->eg, ADMIN, 0x1000000000000000 + 1099 * 0x10001, &r));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(fn) cmocka_unit_test_setup_teardown(fn, world_new, world_free)
        cmocka_unit_test(each_enrolment_is_explained),
        cmocka_unit_test(each_reason_has_a_sentence),
        T(a_step_says_until_when),
        T(what_failed_twice_is_counted),
        T(a_strangers_nearest_registration_is_named),
        T(the_nearer_one_is_named),
        T(strangers_are_limited),
#undef T
    };
    return cmocka_run_group_tests_name("eg explain", tests, NULL, NULL);
}
