/* What the EG answers at endpoint 0, and what it does not. The device is played with zigbee.h. */
#include "tests/unit/eg_fixture.h"

#define GW_WIRE 0xc3, 0xb2, 0xa1, 0x1c, 0x00, 0x4b, 0x12, 0x00
#define DEV_WIRE 0x56, 0x34, 0x12, 0x03, 0x00, 0x8d, 0x15, 0x00
#define EXT_PAN 0xdd, 0xdd, 0xdd, 0xdd, 0xdd, 0xdd, 0xdd, 0xdd

static void hello(struct world *w)
{
    struct egp_message m = {.env = {EGP_VERSION, EGP_HELLO, 1, GW, 0, EGP_TO_EG, 0, 0}};
    struct call c;
    m.u.hello = (struct egp_hello){PAN, 15, 0xddddddddddddddddu, 0};
    send_message(w, &m, &c);
}

struct question {
    uint16_t dst, cluster;
    uint8_t n, request[24];
    uint8_t answer_n, answer[40]; /* 0: silence */
};

static void ask_all(struct world *w, const struct first_key *k, uint32_t counter, const struct question *q, size_t n)
{
    uint8_t buf[ZB_NWK_MAX];
    for (size_t i = 0; i < n; i++) {
        struct frame_bytes f = zdp(w, k, counter + (uint32_t)i, q[i].dst, 0, q[i].cluster, span_of(q[i].request, q[i].n));
        size_t from = w->h.nsent;
        struct wr plain = wr_of(buf, sizeof buf);
        struct zb_nwk nwk;
        struct zb_aps aps;
        uplink(w, GW, &f);
        if (newest_downlink(w, from, k->key, &nwk, &plain) != (q[i].answer_n != 0))
            fail_msg("cluster %04x to %04x", q[i].cluster, q[i].dst);
        if (q[i].answer_n == 0)
            continue;
        assert_int_equal(w->h.nsent, from + 1);
        assert_int_equal(zb_aps_parse(wr_span(&plain), &aps), ZB_OK);
        assert_true(nwk.dst == SHORT && nwk.src == 0 && aps.fcf == 0 && aps.profile == 0 && aps.dst_endpoint == 0);
        assert_int_equal(aps.cluster, q[i].cluster | 0x8000);
        assert_true(span_eq(aps.payload, span_of(q[i].answer, q[i].answer_n)));
        w->h.nsent = from; /* room */
        pass(w, 200);
    }
}
#define ASK(w, k, counter, q) ask_all(w, k, counter, q, sizeof(q) / sizeof(q)[0])

static const struct question questions[] = {
    /* addresses: ours, the asker's, a stranger's; extended; cut short; a request type that is none */
    {0, 0x0000, 11, {1, GW_WIRE, 0, 0}, 12, {1, 0, GW_WIRE, 0, 0}},
    {0, 0x0000, 11, {1, GW_WIRE, 1, 0}, 16, {1, 0, GW_WIRE, 0, 0, 1, 0, 0x2e, 0x1f}},
    {0, 0x0000, 11, {1, GW_WIRE, 1, 1}, 14, {1, 0, GW_WIRE, 0, 0, 1, 1}},
    {0, 0x0000, 11, {1, GW_WIRE, 2, 0}, 12, {1, 0x80, GW_WIRE, 0, 0}},
    {0, 0x0000, 9, {1, GW_WIRE}, 12, {1, 0x80, GW_WIRE, 0, 0}},
    {0, 0x0000, 11, {1, DEV_WIRE, 0, 0}, 12, {1, 0, DEV_WIRE, 0x2e, 0x1f}},
    {0, 0x0000, 11, {1, DEV_WIRE, 1, 0}, 13, {1, 0, DEV_WIRE, 0x2e, 0x1f, 0}},
    {0, 0x0000, 11, {1, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0}, 12, {1, 0x81, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0}},
    {0xfffd, 0x0000, 11, {1, DEV_WIRE, 0, 0}, 12, {1, 0, DEV_WIRE, 0x2e, 0x1f}}, /* it sleeps */
    {0xfffd, 0x0000, 11, {1, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0}, 0, {0}},
    {0xfffd, 0x0000, 5, {1, 1, 2, 3, 4}, 0, {0}},
    {0, 0x0001, 5, {2, 0, 0, 0, 0}, 12, {2, 0, GW_WIRE, 0, 0}},
    {0, 0x0001, 5, {2, 0x2e, 0x1f, 0, 0}, 12, {2, 0, DEV_WIRE, 0x2e, 0x1f}},
    {0, 0x0001, 5, {2, 0x44, 0x44, 0, 0}, 12, {2, 0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0x44, 0x44}},
    {0, 0x0001, 5, {2, 0, 0, 1, 0}, 16, {2, 0, GW_WIRE, 0, 0, 1, 0, 0x2e, 0x1f}},
    /* descriptors */
    {0, 0x0002, 3, {3, 0, 0}, 17, {3, 0, 0, 0, 0x00, 0x40, 0x8f, 0, 0, 82, 82, 0, 0x01, 0x2c, 82, 0, 0}},
    {0, 0x0003, 3, {3, 0, 0}, 6, {3, 0, 0, 0, 0x10, 0xc1}},
    {0, 0x0003, 3, {3, 1, 0}, 4, {3, 0x81, 1, 0}},
    {0, 0x0004, 4, {3, 0, 0, 1}, 5, {3, 0x83, 0, 0, 0}},
    {0, 0x0004, 3, {3, 0, 0}, 5, {3, 0x82, 0, 0, 0}},
    {0, 0x0005, 3, {3, 0, 0}, 5, {3, 0, 0, 0, 0}},
    {0, 0x0006, 7, {3, 0, 0, 4, 1, 0, 0}, 5, {3, 0x89, 0, 0, 0}},
    {0, 0x0006, 2, {3, 0}, 5, {3, 0x80, 0, 0, 0}},
    {0xfffd, 0x0006, 7, {3, 0xfd, 0xff, 4, 1, 0, 0}, 0, {0}},
    /* network */
    {0xfffd, 0x0015, 3, {4, 0x41, 0}, 4, {4, 0, 1, 0}},
    {0, 0x0015, 3, {4, 0x40, 0}, 0, {0}},
    {0, 0x0015, 2, {4, 1}, 0, {0}},
    {0xfffc, 0x001f, 18, {5, 2, 1, 2, 3, 4, 5, 6, 7, 8, DEV_WIRE}, 11, {5, 0, 1, DEV_WIRE}},
    {0xfffc, 0x001f, 10, {5, 1, 1, 2, 3, 4, 5, 6, 7, 8}, 0, {0}},
    {0xfffc, 0x001f, 9, {5, 9, 1, 2, 3, 4, 5, 6, 7}, 0, {0}},
    {0xfffc, 0x001f, 1, {5}, 0, {0}},
    {0, 0x0031, 2, {6, 0}, 27, {6, 0, 1, 0, 1, EXT_PAN, DEV_WIRE, 0x2e, 0x1f, 0x12, 2, 1, 200}},
    {0, 0x0031, 2, {6, 1}, 5, {6, 0, 1, 1, 0}},
    {0, 0x0031, 1, {6}, 5, {6, 0x80, 1, 0, 0}},
    {0, 0x0032, 2, {6, 0}, 5, {6, 0, 0, 0, 0}},
    {0, 0x0032, 1, {6}, 5, {6, 0x80, 0, 0, 0}},
    {0, 0x0033, 2, {6, 0}, 5, {6, 0x84, 0, 0, 0}},
    {0, 0x0036, 3, {7, 60, 1}, 2, {7, 0x8d}},
    {0, 0x0036, 2, {7, 60}, 2, {7, 0x80}},
    {0xfffc, 0x0036, 3, {7, 60, 1}, 0, {0}},
    {0, 0x0038, 7, {8, 0, 0xf8, 0xff, 7, 2, 1}, 11, {8, 0x84, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
    {0, 0x0038, 4, {8, 0, 0, 0}, 11, {8, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
    {0xfffd, 0x0038, 7, {8, 0, 0xf8, 0xff, 7, 0xfe, 1}, 0, {0}},
    /* what is not served: binding, a user descriptor, a Mgmt_Leave, no cluster of the standard */
    {0, 0x0021, 22, {9, DEV_WIRE, 1, 6, 0, 3, GW_WIRE, 1}, 2, {9, 0x84}},
    {0, 0x0022, 22, {9, DEV_WIRE, 1, 6, 0, 3, GW_WIRE, 1}, 2, {9, 0x84}},
    {0, 0x0011, 3, {9, 0, 0}, 2, {9, 0x84}},
    {0, 0x0034, 10, {9, GW_WIRE, 0}, 2, {9, 0x84}},
    {0, 0x7abc, 1, {9}, 2, {9, 0x84}},
    {0xfffd, 0x7abc, 1, {9}, 0, {0}},
    /* answers to questions of ours, and nothing at all */
    {0, 0x8031, 5, {9, 0, 0, 0, 0}, 0, {0}},
    {0, 0x0002, 0, {0}, 0, {0}},
    /* to others: a device that hears them answers for itself */
    {0x4444, 0x0002, 3, {3, 0x44, 0x44}, 0, {0}},
    {0x4444, 0x0000, 11, {1, GW_WIRE, 0, 0}, 0, {0}},
};

static void each_request_has_its_answer(void **state)
{
    struct world *w = *state;
    struct first_key k = enrol(w, DEV, 1);
    hello(w);
    ASK(w, &k, 6, questions);
}

/* A device learns of those that have its key, and of no other. */
static void devices_of_other_keys_are_not_told_of(void **state)
{
    struct world *w = *state;
    struct first_key k = enrol(w, DEV, 1);
    enrol(w, DEV2, 2);
    static const struct question q[] = {
        {0, 0x0000, 11, {1, 0xef, 0xcd, 0xab, 0x03, 0x00, 0x8d, 0x15, 0x00, 0, 0}, 12,
         {1, 0x81, 0xef, 0xcd, 0xab, 0x03, 0x00, 0x8d, 0x15, 0x00, 0, 0}},
        {0xfffc, 0x001f, 10, {5, 1, 0xef, 0xcd, 0xab, 0x03, 0x00, 0x8d, 0x15, 0x00}, 0, {0}},
        {0, 0x0031, 2, {6, 1}, 5, {6, 0, 1, 1, 0}},
    };
    ASK(w, &k, 6, q);
}

/* --- APS ---------------------------------------------------------------------------------------------------------- */

static unsigned downlinks(struct world *w, size_t from)
{
    unsigned n = 0;
    for (size_t i = from; i < w->h.nsent; i++) {
        struct egp_message m;
        assert_null(egp_decode(span_of(w->h.sent[i].body, w->h.sent[i].n), &m));
        n += m.env.type == EGP_DOWNLINK;
    }
    return n;
}

static unsigned send_aps(struct world *w, const struct first_key *k, uint32_t counter, const struct zb_aps *a, struct span payload)
{
    struct frame_bytes f = seal_aps(w, k->key, DEV, SHORT, 0, counter, a, payload);
    size_t from = w->h.nsent;
    uplink(w, GW, &f);
    unsigned n = downlinks(w, from);
    w->h.nsent = from;
    return n;
}

/* Its acknowledgement was lost: it gets that again, and no second answer. */
static void a_repeated_frame_is_acknowledged_and_not_answered(void **state)
{
    struct world *w = *state;
    struct first_key k = enrol(w, DEV, 1);
    struct zb_aps a = {.fcf = ZB_APS_ACK_REQUEST, .cluster = 0x0002, .counter = 99};
    struct span request = span_of("\1\0\0", 3);
    assert_int_equal(send_aps(w, &k, 6, &a, request), 2);
    assert_int_equal(send_aps(w, &k, 7, &a, request), 1);
    a.counter = 100;
    assert_int_equal(send_aps(w, &k, 8, &a, request), 2);
    a.counter = 99;
    assert_int_equal(send_aps(w, &k, 9, &a, request), 1);
    pass(w, 5000);
    assert_int_equal(send_aps(w, &k, 10, &a, request), 2); /* no repetition comes so late: the counter came round */
    a = (struct zb_aps){.cluster = 0x0013, .counter = 101};
    static const uint8_t moved[] = {1, 0x22, 0x22, DEV_WIRE, 0x80};
    static const uint8_t back[] = {1, 0x2e, 0x1f, DEV_WIRE, 0x80};
    send_aps(w, &k, 11, &a, span_of(moved, sizeof moved));
    send_aps(w, &k, 12, &a, span_of(back, sizeof back)); /* the same counter: a repetition, whatever it says */
    cJSON *o = eg_device_get(w->eg, ADMIN, DEV);
    assert_int_equal(cJSON_GetObjectItem(o, "nwkAddress")->valueint, 0x2222);
    cJSON_Delete(o);
}

static void what_was_not_answered_is_no_repetition(void **state)
{
    struct world *w = *state;
    struct first_key k = enrol(w, DEV, 1);
    struct zb_aps a = {.cluster = 0x0002};
    uint32_t counter = 6;
    unsigned n = 1;
    for (a.counter = 6; n != 0; a.counter++)
        n = send_aps(w, &k, counter++, &a, span_of("\1\0\0", 3));
    a.counter--;
    pass(w, 1000);
    assert_int_equal(send_aps(w, &k, counter, &a, span_of("\1\0\0", 3)), 1);
}

static void fragments_are_refused(void **state)
{
    struct world *w = *state;
    struct first_key k = enrol(w, DEV, 1);
    for (uint8_t part = 1; part <= 2; part++) {
        struct zb_aps a = {.fcf = ZB_APS_ACK_REQUEST | ZB_APS_EXTENDED, .cluster = 0x0002, .counter = part, .ext_fcf = part,
                           .block = 2};
        assert_int_equal(send_aps(w, &k, 5u + part, &a, span_of("\1\0\0", 3)), 0);
    }
    assert_int_equal(metric(w, "eg_fragments_refused_total"), 2);
    struct zb_aps whole = {.fcf = ZB_APS_ACK_REQUEST | ZB_APS_EXTENDED, .cluster = 0x0002, .counter = 3};
    assert_int_equal(send_aps(w, &k, 8, &whole, span_of("\1\0\0", 3)), 2);
}

/* Whose a frame is: the EG answers at endpoint 0 of profile 0 alone, AEs see all endpoints but that. */
static void an_endpoint_never_answers_for_another(void **state)
{
    struct world *w = *state;
    struct first_key k = enrol(w, DEV, 1);
    static const struct {
        uint8_t fcf, endpoint;
        uint16_t profile;
        bool answered, relayed;
    } cases[] = {
        {ZB_APS_DATA, 0, 0, true, false},
        {ZB_APS_DATA, 1, 0x0104, false, true},
        {ZB_APS_DATA, 1, 0, false, false},
        {ZB_APS_DATA, 0, 0x0104, false, false},
        {ZB_APS_DATA | ZB_APS_GROUP, 0, 0x0104, false, true},
        {ZB_APS_DATA | ZB_APS_GROUP, 0, 0, false, false},
        {ZB_APS_DATA | ZB_APS_SECURITY, 0, 0, false, false},
        {ZB_APS_ACK, 0, 0, false, false},
        {ZB_APS_ACK, 1, 0x0104, false, true},
        {ZB_APS_ACK, 0, 0x0104, false, false},
        {ZB_APS_ACK | ZB_APS_ACK_FORMAT, 0, 0, false, false},
    };
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t relayed = metric(w, "eg_uplink_relayed_total");
        struct zb_aps a = {.fcf = cases[i].fcf, .dst_endpoint = cases[i].endpoint, .profile = cases[i].profile,
                           .cluster = 0x0002, .counter = (uint8_t)i};
        unsigned n = send_aps(w, &k, 6 + i, &a, span_of("\1\0\0", 3));
        bool reached = metric(w, "eg_uplink_relayed_total") > relayed;
        if ((n != 0) != cases[i].answered || reached != cases[i].relayed)
            fail_msg("case %u: %u answers, relayed %d", i, n, reached);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, world_new, world_free)
        T(each_request_has_its_answer),
        T(devices_of_other_keys_are_not_told_of),
        T(a_repeated_frame_is_acknowledged_and_not_answered),
        T(what_was_not_answered_is_no_repetition),
        T(fragments_are_refused),
        T(an_endpoint_never_answers_for_another),
#undef T
    };
    return cmocka_run_group_tests_name("eg zdp", tests, NULL, NULL);
}
