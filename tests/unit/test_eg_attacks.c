/* What an attacker near a radio, with a credential, or with another stakeholder's token may try. */
#include "tests/unit/eg_fixture.h"

#include <time.h>

#define FRAMES "mef/eg/frames/00158d0003123456"
#define DEVICE "mef/eg/devices/00158d0003123456"
#define TICKET "mef/eg/devices/00158d0003123456/ticket"

static void get(struct world *w, const char *path, const char *identity, bool observe, struct call *c)
{
    *c = (struct call){.req = {.mount = CSE_RAW,
                               .op = CSE_RETRIEVE,
                               .path = path,
                               .observe = observe,
                               .content_format = CSE_NO_FORMAT,
                               .accept = CSE_NO_FORMAT,
                               .peer = {S_AE, CSE_CRED_PSK, identity, "192.0.2.7:1", ""}}};
    eg_handle(w->eg, &c->req);
}

/* --- spoofed associations ------------------------------------------------------------------------------------------
 */

/* A radio at another gateway claims the device's EUI-64 while the device is joining here. */
static void a_spoofer_elsewhere_does_not_break_a_join(void **state)
{
    struct world *w = *state;
    struct call c;
    assert_int_equal(put_code(w, DEV, A_CODE), ST_CREATED);
    assert_int_equal(ask(w, GW, DEV, 1, &c), EGP_OK);
    struct first_key k = learn(w, &c, CODE_KEY);
    assert_int_equal(ask(w, GW2, DEV, 2, &c), EGP_OK);
    reopen(w);
    struct frame_bytes f = reading(w, k.key, DEV, 1);
    uplink(w, GW2, &f); /* only where the device believes its Trust Centre to be */
    expect_device(w, DEV, "key-sent", NULL);
    uplink(w, GW, &f);
    expect_device(w, DEV, "joining", NULL);
}

static void a_spoofer_elsewhere_does_not_use_up_the_rate(void **state)
{
    struct world *w = *state;
    struct call c;
    uint64_t n = 1;
    assert_int_equal(put_code(w, DEV, A_CODE), ST_CREATED);
    while (ask(w, GW2, DEV, n, &c) == EGP_OK)
        n++;
    assert_int_equal(reason_of(&c), EGP_RATE_LIMITED);
    assert_int_equal(ask(w, GW, DEV, 1, &c), EGP_OK);
}

/* The gateway is told what was proved, not what was claimed. */
static void a_gateway_is_told_what_was_proved(void **state)
{
    struct world *w = *state;
    struct call c;
    enrol(w, DEV, 1);
    struct egp_message hello = {.env = {EGP_VERSION, EGP_HELLO, 1, GW2, 0, EGP_TO_EG, 0, 0}}, told;
    hello.u.hello = (struct egp_hello){PAN, 15, 1, 0};
    send_message(w, &hello, &c);
    size_t n = w->h.nsent;
    struct egp_message spoofed = request_message(GW2, DEV, 2);
    spoofed.u.request.device_short = 0x6666;
    send_message(w, &spoofed, &c);
    for (; n < w->h.nsent; n++) {
        assert_null(egp_decode(span_of(w->h.sent[n].body, w->h.sent[n].n), &told));
        assert_true(told.u.state.state != EGP_ST_ENROLLED ||
                    (told.env.gateway == GW && told.u.state.device_short == SHORT));
    }
}

/* Reset, and joined at another gateway: only when rearmed (design 5.3). Where it was is told, when it has proved its key
 * and not before. */
static void a_device_that_moves_is_gone_from_where_it_was(void **state)
{
    struct world *w = *state;
    struct call c;
    struct egp_message m, hello = {.env = {EGP_VERSION, EGP_HELLO, 1, GW2, 0, EGP_TO_EG, 0, 0}};
    hello.u.hello = (struct egp_hello){PAN, 15, 1, 0};
    send_message(w, &hello, &c);
    struct first_key before = enrol(w, DEV, 1);
    assert_int_equal(ask(w, GW2, DEV, 2, &c), EGP_CODE_SPENT);
    assert_int_equal(act(w, DEV, "rearm"), ST_OK);
    size_t from = w->h.nsent;
    assert_int_equal(ask(w, GW2, DEV, 3, &c), EGP_OK);
    struct first_key k = learn(w, &c, CODE_KEY);
    size_t asked = w->h.nsent;
    struct frame_bytes f = reading(w, k.key, DEV, 1);
    uplink(w, GW2, &f);
    bool here = false, there = false;
    for (; from < w->h.nsent; from++) {
        assert_true(from >= asked || !(here || there));
        assert_null(egp_decode(span_of(w->h.sent[from].body, w->h.sent[from].n), &m));
        here |= m.env.gateway == GW2 && m.u.state.state == EGP_ST_JOINING;
        there |= m.env.gateway == GW && m.u.state.state == EGP_ST_REGISTERED && m.u.state.device_short == SHORT;
    }
    assert_true(here && there);
    uint64_t dropped = metric(w, "eg_uplink_dropped_total");
    f = reading(w, before.key, DEV, 50);
    uplink(w, GW, &f);
    assert_int_equal(metric(w, "eg_uplink_dropped_total"), dropped + 1);
}

/* --- rights that end ------------------------------------------------------------------------------------------------
 */

static void delete_credential(struct world *w, const char *kpm)
{
    struct mef_result r = {0};
    struct store_txn *t = store_begin(w->store);
    mef_credential_delete(w->mef, t, ADMIN, "operator:test", kpm, &r);
    assert_int_equal(r.st, ST_DELETED);
    finish(w, t, &r);
}

static void a_withdrawn_credential_hears_nothing_more(void **state)
{
    struct world *w = *state;
    struct call c;
    struct first_key k = enrol(w, DEV, 1);
    get(w, FRAMES, w->ae, true, &c);
    delete_credential(w, w->ae);
    size_t notes = w->h.nnotes, sent = w->h.nsent;
    struct frame_bytes f = reading(w, k.key, DEV, 9);
    uplink(w, GW, &f);
    assert_int_equal(w->h.nnotes, notes);
    delete_credential(w, w->gw); /* its session is still there */
    assert_int_equal(act(w, DEV, "revoke"), ST_OK);
    assert_int_equal(w->h.nsent, sent);
}

/* The code is taken away and registered again for others only: the old ones lose the key. */
static void a_new_registration_of_an_enrolled_device_counts(void **state)
{
    struct world *w = *state;
    struct mef_result r = {0};
    struct call c;
    enrol(w, DEV, 1);
    struct store_txn *t = store_begin(w->store);
    eg_code_delete(w->eg, t, ADMIN, "operator:test", DEV, &r);
    finish(w, t, &r);
    assert_int_equal(put_code(w, DEV, "{\"installCode\":\"" CODE "\",\"targets\":[\"//example.org/in-cse/Cae2\"]}"),
                     ST_CREATED);
    get(w, FRAMES, w->ae, false, &c);
    end(w, &c);
    assert_int_equal(c.st, ST_NO_PRIVILEGE);
    get(w, FRAMES, w->ae2, false, &c);
    end(w, &c);
    assert_int_equal(c.st, ST_OK);
}

/* --- others' share --------------------------------------------------------------------------------------------------
 */

static void strangers_do_not_fill_the_trail(void **state)
{
    struct world *w = *state;
    struct call c;
    unsigned before = rows_of(w->store, STORE_AUDIT);
    for (uint64_t i = 0; i < 20; i++) {
        struct egp_message m = request_message(i + 1, DEV, i);
        send_as(w, &m, S_AE, i % 2 == 0 ? w->ae : "", &c);
        assert_int_equal(reason_of(&c), EGP_NOT_BOUND);
        m.env.gateway = GW;
        m.env.device = i + 1;
        send_as(w, &m, S_AE, i % 2 == 0 ? w->ae : "", &c);
        assert_int_equal(reason_of(&c), EGP_NOT_BOUND);
    }
    assert_int_equal(rows_of(w->store, STORE_AUDIT), before + 1); /* the AE at the gateway that is somebody's */
}

/* Frames that nobody sealed, in the names of many devices, heard here and there in turn: each says something new. The trail
 * takes the first ones and a few a second, and has room for what others do. */
static void a_radio_does_not_fill_the_trail(void **state)
{
    enum { DEVICES = 40 };
    static const unsigned expected[] = {8, 4, 4, 4}; /* at once, and in each second after it */
    static const uint8_t no_key[ZB_KEY] = {1};
    struct world *w = *state;
    for (eui64_t i = 0; i < DEVICES; i++)
        assert_int_equal(put_code(w, DEV + i, A_CODE), ST_CREATED);
    for (size_t second = 0; second < 4; second++) {
        pass(w, 1000);
        unsigned before = rows_of(w->store, STORE_AUDIT);
        for (eui64_t i = 0; i < DEVICES; i++) {
            struct frame_bytes f = reading(w, no_key, DEV + i, (uint32_t)second);
            uplink(w, second % 2 == 0 ? GW : GW2, &f);
        }
        assert_int_equal(rows_of(w->store, STORE_AUDIT), before + expected[second]);
    }
}

/* One stakeholder's many devices cost another one nothing. */
static void a_list_looks_once(void **state)
{
    struct world *w = *state;
    struct store_txn *t = store_begin(w->store);
    cJSON *in = cJSON_Parse(A_CODE);
    for (eui64_t i = 1; i <= 20000; i++) {
        struct mef_result r = {0};
        eg_code_put(w->eg, t, ADMIN, "operator:test", i << 8, in, false, &r);
        assert_int_equal(r.st, ST_CREATED);
        free_result(&r);
    }
    cJSON_Delete(in);
    store_commit(t, NULL, NULL);
    settle(w);
    clock_t before = clock();
    cJSON *codes = eg_code_list(w->eg, OTHER_ADMIN, 0, 1), *devices = eg_device_list(w->eg, OTHER_ADMIN, 0, 1);
    assert_true(clock() - before < CLOCKS_PER_SEC / 2);
    assert_int_equal(cJSON_GetArraySize(codes) + cJSON_GetArraySize(devices), 0);
    cJSON_Delete(codes);
    cJSON_Delete(devices);
}

static uint32_t ticket(struct world *w, const char *identity, enum st expected)
{
    struct call c;
    begin(w, &c, CSE_CREATE, TICKET, (struct span){0}, S_AE, identity);
    end(w, &c);
    assert_int_equal(c.st, expected);
    uint32_t first = c.pc != NULL ? (uint32_t)cJSON_GetObjectItem(c.pc, "first")->valuedouble : 0;
    cJSON_Delete(c.pc);
    return first;
}

/* One AE takes as many tickets as it gets; another one's stays good. */
static void an_ae_displaces_only_its_own_tickets(void **state)
{
    struct world *w = *state;
    struct call c;
    struct first_key k = enrol(w, DEV, 1);
    assert_int_equal(put_code_as(w, ADMIN, DEV,
                                 "{\"installCode\":\"" CODE "\",\"targets\":[\"" AE "\",\"/in-cse/Cae2\"]}", true,
                                 NULL),
                     ST_OK);
    uint32_t mine = ticket(w, w->ae, ST_OK);
    for (int i = 0; i < 20; i++)
        ticket(w, w->ae2, ST_OK);
    struct frame_bytes f = seal(w, k.key, GW, 0, SHORT, mine, 1, span_of("\x01\x02\x01", 3));
    size_t n = w->h.nsent;
    begin(w, &c, CSE_CREATE, FRAMES, span_of(f.p, f.n), S_AE, w->ae);
    assert_int_equal(w->h.nsent, n + 1);
    w->h.sent[n].done(w->h.sent[n].user, ST_UPDATED, (struct span){0});
    end(w, &c);
    assert_int_equal(c.st, ST_UPDATED);
}

/* --- odd values -----------------------------------------------------------------------------------------------------
 */

static void the_first_moment_of_1970_is_not_never(void **state)
{
    struct world *w = *state;
    assert_int_equal(put_code(w, DEV, "{\"installCode\":\"" CODE "\",\"expiresAt\":\"1970-01-01T00:00:00Z\"}"),
                     ST_BAD_REQUEST);
}

/* A device's own key lets it say who it is, not that it is everybody. */
static void a_device_has_an_address_of_its_own(void **state)
{
    struct world *w = *state;
    struct call c;
    assert_int_equal(put_code(w, DEV, A_CODE), ST_CREATED);
    assert_int_equal(ask(w, GW, DEV, 1, &c), EGP_OK);
    struct first_key k = learn(w, &c, CODE_KEY);
    static const uint16_t nobody[] = {0x0000, 0xfff8, 0xfffd, 0xffff};
    for (uint32_t i = 0; i < 4; i++) {
        struct frame_bytes f = seal(w, k.key, DEV, nobody[i], 0, i, 1, span_of("\x18\x01\x0a", 3));
        uplink(w, GW, &f);
        expect_device(w, DEV, "key-sent", NULL);
    }
    struct frame_bytes f = reading(w, k.key, DEV, 9);
    uplink(w, GW, &f);
    uint8_t annce[12] = {7, 0xff, 0xff, 0x56, 0x34, 0x12, 0x03, 0x00, 0x8d, 0x15, 0x00, 0x88};
    f = seal(w, k.key, DEV, SHORT, 0xfffd, 30, 0, span_of(annce, 12));
    uplink(w, GW, &f);
    get(w, DEVICE, w->ae, false, &c);
    end(w, &c);
    assert_int_equal(cJSON_GetObjectItem(c.pc, "nwkAddress")->valueint, SHORT);
    cJSON_Delete(c.pc);
}

/* --- what a crash could take back -----------------------------------------------------------------------------------
 */

static void a_state_is_shown_once_it_is_durable(void **state)
{
    struct world *w = *state;
    struct mef_result r = {0};
    struct call c;
    enrol(w, DEV, 1);
    struct store_txn *t = store_begin(w->store);
    eg_device_action(w->eg, t, ADMIN, "operator:test", DEV, "revoke", &r);
    assert_int_equal(r.st, ST_OK);
    store_commit(t, NULL, NULL);
    get(w, DEVICE, w->ae, false, &c);
    assert_int_equal(c.answers, 0);
    end(w, &c);
    assert_string_equal(cJSON_GetObjectItem(c.pc, "state")->valuestring, "revoked");
    cJSON_Delete(c.pc);
    free_result(&r);
}

/* The host runs what was posted also after the end (docs/plugin.md). */
static void a_change_posted_before_the_end_finds_nothing(void **state)
{
    struct world *w = *state;
    struct mef_result r = {0};
    enrol(w, DEV, 1);
    struct store_txn *t = store_begin(w->store);
    eg_device_action(w->eg, t, ADMIN, "operator:test", DEV, "rearm", &r);
    store_commit(t, NULL, NULL);
    size_t sent = w->h.nsent;
    world_close(w);
    assert_int_equal(w->h.nsent, sent);
    free_result(&r);
    world_open(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(fn) cmocka_unit_test_setup_teardown(fn, world_new, world_free)
        T(a_spoofer_elsewhere_does_not_break_a_join),
        T(a_spoofer_elsewhere_does_not_use_up_the_rate),
        T(a_gateway_is_told_what_was_proved),
        T(a_device_that_moves_is_gone_from_where_it_was),
        T(a_withdrawn_credential_hears_nothing_more),
        T(a_new_registration_of_an_enrolled_device_counts),
        T(strangers_do_not_fill_the_trail),
        T(a_radio_does_not_fill_the_trail),
        T(a_list_looks_once),
        T(an_ae_displaces_only_its_own_tickets),
        T(the_first_moment_of_1970_is_not_never),
        T(a_device_has_an_address_of_its_own),
        T(a_state_is_shown_once_it_is_durable),
        T(a_change_posted_before_the_end_finds_nothing),
#undef T
    };
    return cmocka_run_group_tests_name("eg attacks", tests, NULL, NULL);
}
