/* zbgwd's outbound queues over a radio that the test plays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "ipe-ni/gateway/outbound.h"

enum { PAN = 0x1a62 };
static const eui64_t device = 0x00158d0003123456, gateway = 0x00124b001ca1b2c3;

struct rig {
    struct radio radio;
    sd_event *loop;
    struct outbound *out;
    uint8_t air[MAC_MAX_FRAME]; /* the frame under way */
    size_t air_n;
    unsigned frames, results[4], associated;
    uint64_t last_result;
    bool pending_short, pending_ext;
};

static struct rig *rig; /* the radio interface has no user pointer of ours; one rig at a time */

static bool rig_tx(struct radio *r, struct span frame)
{
    (void)r;
    if (rig->air_n != 0)
        return false;
    memcpy(rig->air, frame.p, frame.n);
    rig->air_n = frame.n;
    rig->frames++;
    return true;
}

static bool rig_pending(struct radio *r, const struct mac_addr *who, bool on)
{
    (void)r;
    *(who->mode == MAC_SHORT ? &rig->pending_short : &rig->pending_ext) = on;
    return true;
}

static const struct radio_ops rig_ops = {"rig", NULL, NULL, rig_tx, rig_pending};

static void rig_done(void *user, const struct out_ticket *t, enum egp_tx result, unsigned tries)
{
    (void)user, (void)tries;
    rig->results[result]++;
    rig->last_result = t->transaction;
}

static void rig_associated(void *user, eui64_t who, bool delivered)
{
    (void)user, (void)who;
    rig->associated += delivered;
}

static int rig_setup(void **state)
{
    (void)state;
    rig = calloc(1, sizeof *rig);
    if (rig == NULL || sd_event_new(&rig->loop) < 0)
        return -1;
    rig->radio.ops = &rig_ops;
    struct out_config cfg = {rig->loop, &rig->radio, {15, PAN, 0, gateway}, 8, 64, NULL, rig_done, rig_associated};
    rig->out = outbound_new(&cfg);
    return rig->out != NULL ? 0 : -1;
}

static int rig_teardown(void **state)
{
    (void)state;
    outbound_free(rig->out);
    sd_event_unref(rig->loop);
    free(rig);
    rig = NULL;
    return 0;
}

/* The frame under way is over. */
static void finish(enum radio_tx result)
{
    assert_true(rig->air_n != 0);
    rig->air_n = 0;
    outbound_tx_done(rig->out, result, 1);
}

static enum out_queued queue_frame(uint16_t hop, bool indirect, bool secured, uint32_t counter, uint32_t *last)
{
    uint8_t payload[8] = {0};
    memcpy(payload, &counter, 4);
    return outbound_nwk(rig->out,
                        &(struct out_nwk){.hop = hop, .ext = device, .indirect = indirect, .secured = secured,
                                          .counter = counter, .source = gateway, .frame = span_of(payload, 8),
                                          .ticket = {counter, device}},
                        last);
}

static uint32_t air_counter(void)
{
    uint32_t c;
    assert_true(rig->air_n > 9);
    memcpy(&c, rig->air + 9, 4);
    return c;
}

static void poll_short(uint16_t who) { outbound_poll(rig->out, &(struct mac_addr){.mode = MAC_SHORT, .short_ = who}); }

static void association_then_key_then_the_rest(void **state)
{
    (void)state;
    uint32_t last;
    assert_true(outbound_association(rig->out, device, 0x1f2e, MAC_ASSOC_OK));
    assert_true(rig->pending_short && rig->pending_ext);
    assert_int_equal(queue_frame(0x1f2e, false, false, 1, &last), OUT_QUEUED); /* the key of an awake device */
    assert_int_equal(rig->frames, 0);                                         /* not before its association */
    outbound_poll(rig->out, &(struct mac_addr){.mode = MAC_EXT, .ext = device});
    assert_int_equal(rig->air[0] & 7, MAC_COMMAND);
    finish(RADIO_SENT);
    assert_int_equal(rig->associated, 1);
    assert_false(rig->pending_short || rig->pending_ext);
    assert_int_equal(air_counter(), 1);
    finish(RADIO_SENT);
    assert_int_equal(rig->results[EGP_TX_ACKED], 1);
    assert_int_equal(outbound_waiting(rig->out), 0);
}

static void refusal_reaches_the_waiting_response_only(void **state)
{
    (void)state;
    assert_true(outbound_association(rig->out, device, 0x1f2e, MAC_ASSOC_OK));
    outbound_association_status(rig->out, 0x1f2e, MAC_ASSOC_DENIED);
    poll_short(0x1f2e);
    assert_memory_equal(rig->air + rig->air_n - 4, "\x02\xff\xff\x02", 4);
    finish(RADIO_SENT);
    outbound_association_status(rig->out, 0x1f2e, MAC_ASSOC_DENIED);
    assert_int_equal(outbound_waiting(rig->out), 0);
}

/* Link status and the like: the counters of a hop's own frames stay in order with those that others hear, too. */
static void a_broadcast_goes_to_all_in_the_order_of_its_hop(void **state)
{
    (void)state;
    uint32_t last;
    uint8_t payload[8] = {0};
    struct out_nwk f = {.hop = 0x1f2e, .broadcast = true, .secured = true, .counter = 6, .source = gateway, .frame = span_of(payload, 8)};
    assert_int_equal(queue_frame(0x1f2e, false, true, 5, &last), OUT_QUEUED);
    assert_int_equal(outbound_nwk(rig->out, &f, &last), OUT_QUEUED);
    assert_int_equal(queue_frame(0x1f2e, false, true, 7, &last), OUT_QUEUED);
    assert_int_equal(air_counter(), 5);
    assert_memory_equal(rig->air + 5, "\x2e\x1f", 2);
    finish(RADIO_SENT);
    assert_memory_equal(rig->air + 5, "\xff\xff", 2);
    assert_false(rig->air[0] & 0x20); /* asks for no acknowledgement */
    finish(RADIO_SENT);
    assert_int_equal(air_counter(), 7);
    finish(RADIO_SENT);
    assert_int_equal(outbound_nwk(rig->out, &f, &last), OUT_STALE);
    f.counter = 8;
    f.indirect = true; /* a child that sleeps gets it by itself, when it polls */
    assert_int_equal(outbound_nwk(rig->out, &f, &last), OUT_QUEUED);
    assert_int_equal(rig->air_n, 0);
    poll_short(0x1f2e);
    assert_memory_equal(rig->air + 5, "\x2e\x1f", 2);
    finish(RADIO_SENT);
}

static void lost_indirect_frame_waits_again(void **state)
{
    (void)state;
    uint32_t last;
    assert_int_equal(queue_frame(0x1f2e, true, true, 5, &last), OUT_QUEUED);
    poll_short(0x1f2e);
    finish(RADIO_NO_ACK);
    assert_int_equal(rig->air_n, 0);
    assert_true(rig->pending_short);
    assert_int_equal(queue_frame(0x1f2e, true, true, 4, &last), OUT_STALE);
    assert_int_equal(last, 5);
    poll_short(0x1f2e);
    assert_int_equal(air_counter(), 5);
    finish(RADIO_SENT);
    assert_int_equal(rig->results[EGP_TX_ACKED], 1);
}

/* Anybody can have a first key sent: it goes before what waits, and does nothing else to it. */
static void a_first_key_overtakes_and_takes_nothing_away(void **state)
{
    (void)state;
    uint32_t last;
    assert_int_equal(queue_frame(0x1f2e, true, true, 900, &last), OUT_QUEUED);
    assert_int_equal(queue_frame(0x1f2e, true, true, 901, &last), OUT_QUEUED);
    poll_short(0x1f2e);
    finish(RADIO_SENT);
    assert_int_equal(queue_frame(0x1f2e, true, false, 77, &last), OUT_QUEUED);
    poll_short(0x1f2e);
    assert_int_equal(air_counter(), 77);
    finish(RADIO_SENT);
    assert_int_equal(queue_frame(0x1f2e, true, true, 900, &last), OUT_STALE);
    poll_short(0x1f2e);
    assert_int_equal(air_counter(), 901);
    finish(RADIO_SENT);
}

/* Associations in the name of a device that hears, and keys for one that polls, whoever asked for them. */
static void bare_frames_do_not_hold_up_secured_ones(void **state)
{
    (void)state;
    uint32_t last;
    assert_true(outbound_association(rig->out, device, 0x1111, MAC_ASSOC_DENIED)); /* nobody polls for it */
    assert_int_equal(queue_frame(0x1111, false, true, 5, &last), OUT_QUEUED);
    assert_int_equal(air_counter(), 5);
    finish(RADIO_SENT);
    unsigned secured = 0;
    for (uint32_t n = 0; n < 64; n++)
        assert_int_equal(queue_frame(0x1f2e, true, n % 8 == 0, 100 + n, &last), OUT_QUEUED);
    for (unsigned polls = 0; polls < 16; polls++) {
        poll_short(0x1f2e);
        secured += (air_counter() - 100) % 8 == 0;
        finish(RADIO_SENT);
        assert_int_equal(queue_frame(0x1f2e, true, false, 77, &last), OUT_QUEUED);
    }
    assert_int_equal(secured, 5); /* each third */
    assert_int_equal(outbound_waiting(rig->out), 1 + 3 + 4); /* of the bare ones, the newest */
}

static void a_proved_key_ends_the_old_order(void **state)
{
    (void)state;
    uint32_t last;
    assert_int_equal(queue_frame(0x1f2e, true, true, 900, &last), OUT_QUEUED);
    poll_short(0x1f2e);
    finish(RADIO_SENT);
    assert_int_equal(queue_frame(0x1f2e, true, true, 901, &last), OUT_QUEUED);
    assert_int_equal(queue_frame(0x1f2e, true, false, 77, &last), OUT_QUEUED);
    outbound_rekeyed(rig->out, 0x1f2e);
    assert_int_equal(rig->results[EGP_TX_EXPIRED], 1);
    assert_int_equal(outbound_waiting(rig->out), 1); /* what is not secured is for a key yet to come */
    assert_int_equal(queue_frame(0x1f2e, true, true, 1, &last), OUT_QUEUED);
    for (int polls = 0; polls < 2; polls++) {
        poll_short(0x1f2e);
        finish(RADIO_SENT);
    }
    assert_int_equal(outbound_waiting(rig->out), 0);
    assert_int_equal(queue_frame(0x1f2e, true, true, 2, &last), OUT_QUEUED); /* 900 is forgotten for good */
    assert_int_equal(queue_frame(0x1f2e, true, true, 1, &last), OUT_STALE);
    assert_int_equal(last, 1);
}

static void who_has_a_freed_address_begins_anew(void **state)
{
    (void)state;
    uint32_t last;
    assert_int_equal(queue_frame(0x1f2e, false, true, 900, &last), OUT_QUEUED);
    finish(RADIO_SENT);
    assert_int_equal(queue_frame(0x1f2e, true, true, 901, &last), OUT_QUEUED);
    outbound_drop(rig->out, 0x1f2e);
    assert_int_equal(outbound_waiting(rig->out), 0);
    assert_int_equal(queue_frame(0x1f2e, false, true, 1, &last), OUT_QUEUED);
    finish(RADIO_SENT);
    assert_int_equal(queue_frame(0x1f2e, false, true, 2, &last), OUT_QUEUED);
}

static void the_revoked_is_still_told_to_leave(void **state)
{
    (void)state;
    uint32_t last;
    const struct out_nwk leave = {.hop = 0x1f2e, .ext = device, .indirect = true, .command = true, .secured = true,
                                  .counter = 12, .source = gateway, .frame = span_of("\x0c\x00\x00\x00", 4), .ticket = {12, device}};
    assert_int_equal(queue_frame(0x1f2e, true, true, 11, &last), OUT_QUEUED);
    assert_int_equal(outbound_nwk(rig->out, &leave, &last), OUT_QUEUED);
    assert_int_equal(queue_frame(0x1f2e, true, false, 77, &last), OUT_QUEUED);
    outbound_revoked(rig->out, 0x1f2e);
    assert_int_equal(rig->results[EGP_TX_EXPIRED], 2);
    poll_short(0x1f2e);
    assert_int_equal(air_counter(), 12);
    finish(RADIO_SENT);
    assert_int_equal(outbound_waiting(rig->out), 0);
}

/* Tried at once; who does not hear that may poll for it. */
static void a_frame_for_who_may_poll_or_not(void **state)
{
    (void)state;
    uint32_t last;
    struct out_nwk key = {.hop = 0x1f2e, .ext = device, .either = true, .frame = span_of("\x4d\x00\x00\x00", 4), .ticket = {77, device}};
    for (int polls = 0; polls < 2; polls++) {
        assert_int_equal(outbound_nwk(rig->out, &key, &last), OUT_QUEUED);
        assert_int_equal(air_counter(), 77);
        finish(polls ? RADIO_NO_ACK : RADIO_SENT);
        if (polls) {
            assert_true(rig->pending_short && rig->pending_ext && rig->air_n == 0);
            poll_short(0x1f2e);
            assert_int_equal(air_counter(), 77);
            finish(RADIO_SENT);
        }
        assert_int_equal(rig->results[EGP_TX_ACKED], 1 + polls);
        assert_false(rig->pending_short);
        assert_int_equal(outbound_waiting(rig->out), 0);
    }
}

static void one_address_does_not_hold_up_another(void **state)
{
    (void)state;
    uint32_t last;
    assert_int_equal(queue_frame(0x1111, true, true, 1, &last), OUT_QUEUED);
    assert_int_equal(queue_frame(0x2222, false, true, 2, &last), OUT_QUEUED);
    assert_int_equal(air_counter(), 2);
    assert_true(outbound_beacon(rig->out, &(struct mac_beacon){.permit = true}));
    assert_false(outbound_beacon(rig->out, &(struct mac_beacon){.permit = true}));
    finish(RADIO_SENT);
    assert_int_equal(rig->air[0] & 7, MAC_BEACON);
    finish(RADIO_SENT);
    assert_int_equal(rig->air_n, 0);
}

static void tables_are_bounded(void **state)
{
    (void)state;
    uint32_t last;
    for (uint16_t i = 0; i < 64; i++)
        assert_int_equal(queue_frame(1, true, true, i, &last), OUT_QUEUED);
    assert_int_equal(queue_frame(1, true, true, 64, &last), OUT_FULL);
    for (uint16_t hop = 2; hop < 9; hop++)
        assert_int_equal(queue_frame(hop, true, true, 1, &last), OUT_QUEUED);
    assert_int_equal(queue_frame(9, true, true, 1, &last), OUT_FULL); /* all eight are busy */
    outbound_drop(rig->out, 2);
    assert_int_equal(queue_frame(9, true, true, 1, &last), OUT_QUEUED);
}

/* Whatever happens, counters of one source leave in rising order, and each frame taken has exactly one end. */
static void order_holds_under_chance(void **state)
{
    (void)state;
    unsigned taken = 0, stale = 0, full = 0;
    uint32_t x = 88172645u, last, gone = 0;
    for (int step = 0; step < 20000; step++) {
        x ^= x << 13, x ^= x >> 17, x ^= x << 5;
        if (x % 4 < 2) {
            enum out_queued q = queue_frame(0x1f2e, x & 8, true, gone + x / 64 % 12, &last);
            taken += q == OUT_QUEUED;
            stale += q == OUT_STALE;
            full += q == OUT_FULL;
        } else if (rig->air_n != 0) {
            uint32_t c = air_counter();
            bool again = c == gone;
            assert_true(c > gone || again || gone == 0);
            gone = c;
            finish(x & 16 ? RADIO_SENT : RADIO_NO_ACK);
        } else {
            poll_short(0x1f2e);
        }
    }
    unsigned ended = rig->results[0] + rig->results[1] + rig->results[2] + rig->results[3];
    assert_int_equal(ended + outbound_waiting(rig->out), taken);
    assert_true(taken > 1000 && stale > 1000);
    assert_true(full < 20000);
}

static void unpolled_frames_expire(void **state)
{
    (void)state;
    uint32_t last;
    uint64_t from, to;
    assert_int_equal(sd_event_now(rig->loop, CLOCK_MONOTONIC, &from) >= 0, 1);
    assert_int_equal(queue_frame(0x1f2e, true, true, 1, &last), OUT_QUEUED);
    assert_int_equal(queue_frame(0x1f2e, true, true, 2, &last), OUT_QUEUED);
    while (rig->results[EGP_TX_EXPIRED] != 2)
        assert_true(sd_event_run(rig->loop, 10000000) > 0);
    assert_true(sd_event_now(rig->loop, CLOCK_MONOTONIC, &to) >= 0);
    assert_in_range(to - from, 7600000, 8000000);
    assert_false(rig->pending_short);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(association_then_key_then_the_rest, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(refusal_reaches_the_waiting_response_only, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_broadcast_goes_to_all_in_the_order_of_its_hop, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(lost_indirect_frame_waits_again, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_first_key_overtakes_and_takes_nothing_away, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(bare_frames_do_not_hold_up_secured_ones, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_proved_key_ends_the_old_order, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(who_has_a_freed_address_begins_anew, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(the_revoked_is_still_told_to_leave, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_frame_for_who_may_poll_or_not, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(one_address_does_not_hold_up_another, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(tables_are_bounded, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(order_holds_under_chance, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(unpolled_frames_expire, rig_setup, rig_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
