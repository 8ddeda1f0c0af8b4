/* Rejoins: under the network key, and by the link key that the device has at this Trust Centre. */
#include "tests/unit/eg_fixture.h"

/* The key that came after the Rejoin Response. */
static struct first_key key_after(struct world *w, size_t from, const uint8_t tclk[ZB_KEY])
{
    static struct egp_message m;
    for (size_t i = w->h.nsent; i > from; i--) {
        assert_null(egp_decode(span_of(w->h.sent[i - 1].body, w->h.sent[i - 1].n), &m));
        if (m.env.type == EGP_DOWNLINK)
            return learn_from(w, m.u.frame.nwk_frame, tclk);
    }
    fail_msg("no key was sent");
    return (struct first_key){0};
}

static struct frame_bytes reading_seq(struct world *w, const struct first_key *k, uint32_t counter)
{
    static const uint8_t zcl[] = {0x18, 1, 0x0a, 0, 0, 0x29, 0x34, 8};
    struct zb_aps a = {.fcf = ZB_APS_DATA, .dst_endpoint = 1, .src_endpoint = 1, .cluster = 0x0402, .profile = 0x0104,
                       .counter = (uint8_t)counter};
    uint8_t buf[ZB_NWK_MAX];
    struct wr aps = wr_of(buf, sizeof buf);
    zb_aps_build(&aps, &a);
    wr_spanb(&aps, span_of(zcl, sizeof zcl));
    struct zb_nwk h = {.fcf = 0x0208, .src = SHORT, .radius = 30, .seq = (uint8_t)counter};
    struct frame_bytes f = {.n = 0};
    struct wr out = wr_of(f.p, sizeof f.p);
    assert_int_equal(zb_nwk_seal(w->crypto, k->key, &h, counter, DEV, k->key_seq, wr_span(&aps), &out), ZB_OK);
    f.n = out.n;
    return f;
}

static void a_device_that_lost_its_key_gets_another(void **state)
{
    struct world *w = *state;
    struct call c;
    uint8_t tclk[ZB_KEY];
    struct first_key old = enrol_with(w, DEV, 1, tclk);
    size_t from = w->h.nsent;
    assert_int_equal(rejoin(w, GW, DEV, 2, &c), EGP_OK);
    struct egp_message m;
    struct zb_nwk nwk;
    assert_null(egp_decode(span_of(c.body, c.n), &m));
    assert_int_equal(zb_nwk_parse(m.u.response.nwk_frame, &nwk), ZB_OK);
    assert_true(nwk.fcf == 0x1809 && nwk.dst == SHORT && nwk.src == 0 && nwk.dst64 == DEV && nwk.src64 == GW);
    assert_true(nwk.payload.n == 4 && memcmp(nwk.payload.p, "\x07\x2e\x1f\x00", 4) == 0);
    uint8_t seq = nwk.seq;
    struct first_key k = key_after(w, from, tclk);
    assert_int_equal(seq, (uint8_t)(k.counter - 1)); /* and the key's frame has the next one */
    assert_memory_not_equal(k.key, old.key, ZB_KEY);
    assert_true(k.key_seq == 1 && k.dst == DEV && k.src == GW);
    expect_device(w, DEV, "enrolled", NULL);
    crash(w);
    struct frame_bytes f = reading_seq(w, &k, 0); /* its counter begins anew with the key */
    uplink(w, GW, &f);
    expect_device(w, DEV, "enrolled", NULL);
    pass(w, 120000); /* nothing more is expected of it */
    expect_device(w, DEV, "enrolled", NULL);
    assert_int_equal(metric(w, "eg_enrolled_total"), 1);
    f = reading(w, old.key, DEV, 50);
    uint64_t dropped = metric(w, "eg_uplink_dropped_total");
    uplink(w, GW, &f);
    assert_int_equal(metric(w, "eg_uplink_dropped_total"), dropped + 1);
    assert_int_equal(ask(w, GW, DEV, 3, &c), EGP_CODE_SPENT);
    assert_int_equal(rejoin(w, GW, DEV, 4, &c), EGP_OK); /* and once more */
}

/* The counter of the EG's answer to a command (End Device Timeout Request) under this key. */
static uint32_t answer_counter(struct world *w, const struct first_key *k, uint32_t counter)
{
    struct zb_nwk h = {.fcf = 0x0209, .src = SHORT, .radius = 1}, nwk;
    struct zb_aux aux;
    struct egp_message m;
    uint8_t buf[ZB_NWK_MAX];
    struct frame_bytes f = {.n = 0};
    struct wr out = wr_of(f.p, sizeof f.p), plain = wr_of(buf, sizeof buf);
    struct span command = span_of("\x0b\x08\x00", 3);
    assert_int_equal(zb_nwk_seal(w->crypto, k->key, &h, counter, DEV, k->key_seq, command, &out), ZB_OK);
    f.n = out.n;
    uplink(w, GW, &f);
    assert_null(egp_decode(span_of(w->h.sent[w->h.nsent - 1].body, w->h.sent[w->h.nsent - 1].n), &m));
    assert_int_equal(zb_nwk_open(w->crypto, k->key, m.u.frame.nwk_frame, &nwk, &aux, &plain), ZB_OK);
    assert_int_equal(aux.key_seq, k->key_seq);
    return aux.counter;
}

/* Counters go on at a key switch: of the EG's own frames under the keys none has a number of another, whatever was sent
 * under the old one while the new one waited for its proof. */
static void counters_go_on(void **state)
{
    struct world *w = *state;
    struct call c;
    uint8_t tclk[ZB_KEY];
    struct first_key k = enrol_with(w, DEV, 1, tclk);
    uint32_t last = 0;
    for (uint64_t round = 0; round < 4; round++) {
        size_t from = w->h.nsent;
        assert_int_equal(rejoin(w, GW, DEV, 2 + round, &c), EGP_OK);
        struct first_key next = key_after(w, from, tclk);
        for (uint32_t i = 0; i < 3; i++) {
            uint32_t counter = answer_counter(w, &k, 10 + i);
            assert_true(counter > last);
            last = counter;
        }
        k = next;
        struct frame_bytes f = reading_seq(w, &k, 1);
        uplink(w, GW, &f);
        pass(w, 2000);
    }
    assert_int_equal(act(w, DEV, "rearm"), ST_OK);
    assert_int_equal(ask(w, GW, DEV, 20, &c), EGP_OK);
    struct first_key anew = learn(w, &c, CODE_KEY);
    assert_true(answer_counter(w, &k, 10) > last);
    last++;
    struct frame_bytes f = reading_seq(w, &anew, 1);
    uplink(w, GW, &f);
    assert_true(answer_counter(w, &anew, 10) > last);
}

static void an_unproven_rejoin_changes_nothing(void **state)
{
    struct world *w = *state;
    struct call c;
    uint8_t tclk[ZB_KEY];
    struct first_key k = enrol_with(w, DEV, 1, tclk);
    assert_int_equal(rejoin(w, GW, DEV, 2, &c), EGP_OK); /* anybody can send it */
    expect_device(w, DEV, "enrolled", NULL);
    uint64_t dropped = metric(w, "eg_uplink_dropped_total");
    struct frame_bytes f = reading(w, k.key, DEV, 6);
    uplink(w, GW, &f);
    pass(w, 61000);
    f = reading(w, k.key, DEV, 7);
    uplink(w, GW, &f);
    assert_int_equal(metric(w, "eg_uplink_dropped_total"), dropped);
    expect_device(w, DEV, "enrolled", NULL);
    assert_int_equal(act(w, DEV, "rearm"), ST_OK); /* now an attempt may be its own */
    struct call again;
    assert_int_equal(ask(w, GW, DEV, 3, &again), EGP_OK);
    pass(w, 61000);
    expect_device(w, DEV, "enrolled", "no-secured-frame-seen");
}

/* The link key stays, so do the counters that were heard under it. */
static void a_rejoin_opens_no_window_for_replays(void **state)
{
    struct world *w = *state;
    struct call c;
    uint8_t tclk[ZB_KEY];
    const struct zb_cmd request = {.id = ZB_REQUEST_KEY, .key_type = ZB_KEYTYPE_TCLK};
    struct first_key k = enrol_with(w, DEV, 1, tclk);
    struct frame_bytes f = command_frame(w, &k, DEV, 90, tclk, &request);
    size_t from = w->h.nsent;
    uplink(w, GW, &f);
    assert_int_equal(w->h.nsent, from + 1);
    assert_int_equal(rejoin(w, GW, DEV, 2, &c), EGP_OK);
    k = key_after(w, from, tclk);
    f = reading_seq(w, &k, 1);
    uplink(w, GW, &f);
    crash(w);
    from = w->h.nsent;
    f = command_frame(w, &k, DEV, 80, tclk, &request);
    uplink(w, GW, &f);
    assert_int_equal(w->h.nsent, from);
    f = command_frame(w, &k, DEV, 91, tclk, &request);
    uplink(w, GW, &f);
    assert_int_equal(w->h.nsent, from + 1);
}

/* A reset device joins by its code while somebody sends rejoins in its name, and the other way round. */
static void neither_kind_of_join_disturbs_the_other(void **state)
{
    struct world *w = *state;
    struct call c;
    uint8_t tclk[ZB_KEY], link_key[ZB_KEY], fresh[ZB_KEY];
    assert_true(hex_decode(CODE_KEY, 2 * ZB_KEY, link_key, ZB_KEY));
    enrol_with(w, DEV, 1, tclk);
    assert_int_equal(act(w, DEV, "rearm"), ST_OK);
    assert_int_equal(ask(w, GW, DEV, 2, &c), EGP_OK);
    struct first_key k = learn(w, &c, CODE_KEY);
    assert_int_equal(rejoin(w, GW, DEV, 3, &c), EGP_OK);
    struct frame_bytes f = reading(w, k.key, DEV, 1);
    uplink(w, GW, &f);
    expect_device(w, DEV, "joining", NULL);
    assert_true(request_key(w, &k, DEV, 2, link_key, fresh));
    assert_true(verify_key(w, &k, DEV, 3, fresh));
    expect_device(w, DEV, "enrolled", NULL);
    assert_memory_not_equal(fresh, tclk, ZB_KEY);

    assert_int_equal(act(w, DEV, "rearm"), ST_OK);
    size_t from = w->h.nsent;
    assert_int_equal(rejoin(w, GW, DEV, 4, &c), EGP_OK);
    struct first_key again = key_after(w, from, fresh);
    assert_int_equal(ask(w, GW, DEV, 5, &c), EGP_OK);
    f = reading_seq(w, &again, 1);
    uplink(w, GW, &f);
    expect_device(w, DEV, "enrolled", NULL);
}

static void who_may_not_rejoin(void **state)
{
    struct world *w = *state;
    struct call c;
    struct frame_bytes f;
    struct egp_message m;
    assert_int_equal(rejoin(w, GW, DEV, 1, &c), EGP_UNKNOWN_DEVICE);
    assert_int_equal(put_code(w, DEV, A_CODE), ST_CREATED);
    assert_int_equal(rejoin(w, GW, DEV, 2, &c), EGP_NO_LINK_KEY); /* it never joined */
    enrol(w, DEV, 3);
    assert_int_equal(rejoin(w, GW2, DEV, 1, &c), EGP_NO_LINK_KEY); /* another Trust Centre */
    const struct {
        uint16_t at; /* what is changed in the frame that the message carries */
        uint8_t to;
    } changes[] = {{1, 0x12}, {0, 0x08}, {1, 0x00}, {4, 0x2f}, {8, 0x57}, {16, 0x07}, {17, 0x8e}};
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        m = rejoin_message(GW, DEV, 10 + i, &f);
        f.p[changes[i].at] = changes[i].to;
        send_message(w, &m, &c);
        assert_int_equal(reason_of(&c), EGP_BAD_REQUEST);
    }
    assert_int_equal(act(w, DEV, "revoke"), ST_OK);
    assert_int_equal(rejoin(w, GW, DEV, 30, &c), EGP_DEVICE_REVOKED);
    assert_int_equal(act(w, DEV, "rearm"), ST_OK);
    assert_int_equal(rejoin(w, GW, DEV, 31, &c), EGP_NO_LINK_KEY);
}

static void a_repeated_rejoin_gets_the_same_bytes(void **state)
{
    struct world *w = *state;
    struct call a, b;
    enrol(w, DEV, 1);
    size_t from = w->h.nsent;
    assert_int_equal(rejoin(w, GW, DEV, 2, &a), EGP_OK);
    size_t sent = w->h.nsent - from;
    crash(w);
    assert_int_equal(rejoin(w, GW, DEV, 2, &b), EGP_OK);
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.body, b.body, a.n);
    assert_int_equal(w->h.nsent - from, sent);
}

static void a_rejoin_under_the_network_key(void **state)
{
    struct world *w = *state;
    uint8_t buf[ZB_NWK_MAX];
    struct first_key k = enrol(w, DEV, 1);
    struct zb_nwk h = {.fcf = 0x1209, .src = SHORT, .radius = 1, .seq = 6, .has_src64 = true, .src64 = DEV}, nwk;
    struct frame_bytes f = {.n = 0};
    struct wr out = wr_of(f.p, sizeof f.p), plain = wr_of(buf, sizeof buf);
    assert_int_equal(zb_nwk_seal(w->crypto, k.key, &h, 6, DEV, 0, span_of("\x06\x88", 2), &out), ZB_OK);
    f.n = out.n;
    size_t from = w->h.nsent;
    uplink(w, GW, &f);
    assert_true(newest_downlink(w, from, k.key, &nwk, &plain));
    assert_true(plain.n == 4 && memcmp(plain.p, "\x07\x2e\x1f\x00", 4) == 0);
    assert_true(nwk.has_dst64 && nwk.dst64 == DEV && nwk.dst == SHORT && nwk.radius == 1);
    from = w->h.nsent;
    uplink(w, GW, &f); /* a replay */
    assert_int_equal(w->h.nsent, from);
    expect_device(w, DEV, "enrolled", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, world_new, world_free)
        T(a_device_that_lost_its_key_gets_another),
        T(counters_go_on),
        T(an_unproven_rejoin_changes_nothing),
        T(a_rejoin_opens_no_window_for_replays),
        T(neither_kind_of_join_disturbs_the_other),
        T(who_may_not_rejoin),
        T(a_repeated_rejoin_gets_the_same_bytes),
        T(a_rejoin_under_the_network_key),
#undef T
    };
    return cmocka_run_group_tests_name("eg rejoin", tests, NULL, NULL);
}
