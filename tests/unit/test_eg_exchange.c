/* The second exchange, what the EG answers as the coordinator, and leaving. The device is played with zigbee.h. */
#include "tests/unit/eg_fixture.h"

static struct first_key join(struct world *w, uint8_t link_key[ZB_KEY])
{
    struct call c;
    assert_true(hex_decode(CODE_KEY, 2 * ZB_KEY, link_key, ZB_KEY));
    assert_int_equal(put_code(w, DEV, A_CODE), ST_CREATED);
    assert_int_equal(ask(w, GW, DEV, 1, &c), EGP_OK);
    struct first_key k = learn(w, &c, CODE_KEY);
    struct frame_bytes f = reading(w, k.key, DEV, 3);
    uplink(w, GW, &f);
    expect_device(w, DEV, "joining", NULL);
    return k;
}

static void a_device_gets_a_link_key_of_its_own(void **state)
{
    struct world *w = *state;
    struct call c;
    uint8_t link_key[ZB_KEY], tclk[ZB_KEY];
    struct first_key k = join(w, link_key);
    assert_true(request_key(w, &k, DEV, 4, link_key, tclk));
    assert_memory_not_equal(tclk, link_key, ZB_KEY);
    assert_memory_not_equal(tclk, k.key, ZB_KEY);
    expect_device(w, DEV, "joining", NULL);
    assert_int_equal(ask(w, GW, DEV, 2, &c), EGP_OK); /* the code is not spent: the device may begin anew */
    assert_true(verify_key(w, &k, DEV, 5, tclk));
    expect_device(w, DEV, "enrolled", NULL);
    assert_int_equal(ask(w, GW, DEV, 3, &c), EGP_CODE_SPENT);
    crash(w);
    expect_device(w, DEV, "enrolled", NULL);
    assert_int_equal(ask(w, GW, DEV, 4, &c), EGP_CODE_SPENT);
    assert_int_equal(metric(w, "eg_enrolled_total"), 1);
}

/* Each answer may be lost: the device repeats itself. */
static void lost_answers_are_given_again(void **state)
{
    struct world *w = *state;
    uint8_t link_key[ZB_KEY], first[ZB_KEY], again[ZB_KEY];
    struct first_key k = join(w, link_key);
    assert_true(request_key(w, &k, DEV, 4, link_key, first));
    assert_true(request_key(w, &k, DEV, 5, link_key, again));
    assert_memory_equal(first, again, ZB_KEY);
    crash(w); /* the key was durable before it was sent */
    assert_true(request_key(w, &k, DEV, 6, link_key, again));
    assert_memory_equal(first, again, ZB_KEY);
    assert_true(verify_key(w, &k, DEV, 7, first));
    assert_true(verify_key(w, &k, DEV, 8, first));
    expect_device(w, DEV, "enrolled", NULL);
    assert_int_equal(metric(w, "eg_enrolled_total"), 1);
}

static void only_the_devices_link_key_gets_an_answer(void **state)
{
    struct world *w = *state;
    uint8_t link_key[ZB_KEY], tclk[ZB_KEY], wrong[ZB_KEY] = {9};
    struct first_key k = join(w, link_key);
    size_t sent = w->h.nsent;
    assert_false(request_key(w, &k, DEV, 4, wrong, tclk));
    struct zb_cmd bare = {.id = ZB_REQUEST_KEY, .key_type = ZB_KEYTYPE_TCLK},
                  application = {.id = ZB_REQUEST_KEY, .key_type = 2, .partner = DEV2};
    struct frame_bytes f[2] = {command_frame(w, &k, DEV, 5, NULL, &bare), command_frame(w, &k, DEV, 6, link_key, &application)};
    uplink(w, GW, &f[0]);
    uplink(w, GW, &f[1]);
    assert_int_equal(w->h.nsent, sent);
    assert_true(request_key(w, &k, DEV, 7, link_key, tclk));
    sent = w->h.nsent;
    struct frame_bytes replay = command_frame(w, &k, DEV, 7, link_key, &bare);
    uplink(w, GW, &replay);
    assert_int_equal(w->h.nsent, sent);
    assert_true(verify_key(w, &k, DEV, 8, tclk));
    assert_false(request_key(w, &k, DEV, 9, link_key, tclk)); /* spent with the code */
    uint8_t next[ZB_KEY];
    assert_true(request_key(w, &k, DEV, 10, tclk, next));     /* a device may change its key */
    assert_memory_not_equal(tclk, next, ZB_KEY);
    assert_true(verify_key(w, &k, DEV, 11, next));
    assert_false(request_key(w, &k, DEV, 12, tclk, next));
}

static void a_wrong_proof_is_named(void **state)
{
    struct world *w = *state;
    uint8_t link_key[ZB_KEY], tclk[ZB_KEY], wrong[ZB_KEY] = {9};
    struct first_key k = join(w, link_key);
    assert_false(verify_key(w, &k, DEV, 4, link_key)); /* nothing was offered */
    assert_true(request_key(w, &k, DEV, 5, link_key, tclk));
    assert_false(verify_key(w, &k, DEV, 6, wrong));
    struct zb_cmd refusal;
    struct zb_aux aux;
    assert_true(newest_command(w, 0, &k, NULL, &refusal, &aux));
    assert_true(refusal.id == ZB_CONFIRM_KEY && refusal.status == 0xad);
    expect_device(w, DEV, "joining", "verify-key-wrong");
    struct zb_cmd forged = {.id = ZB_VERIFY_KEY, .key_type = ZB_KEYTYPE_TCLK, .src = DEV2};
    struct frame_bytes f = command_frame(w, &k, DEV, 7, NULL, &forged);
    size_t sent = w->h.nsent;
    uplink(w, GW, &f); /* of another device: no answer */
    assert_int_equal(w->h.nsent, sent);
    pass(w, 61000);
    expect_device(w, DEV, "failed", "verify-key-wrong");
}

/* What is asked of the device while it keeps silent, and what becomes of it. */
static void a_device_that_exchanges_nothing_fails(void **state)
{
    struct world *w = *state;
    struct call c;
    uint8_t link_key[ZB_KEY], buf[ZB_NWK_MAX];
    struct first_key k = join(w, link_key);
    char id[MEF_RELKEYID];
    cJSON *o = eg_device_get(w->eg, ADMIN, DEV);
    snprintf(id, sizeof id, "%s", cJSON_GetObjectItem(o, "keyId")->valuestring);
    cJSON_Delete(o);
    size_t from = w->h.nsent;
    pass(w, 2000);
    assert_int_equal(w->h.nsent, from);
    pass(w, 18000);
    struct wr plain = wr_of(buf, sizeof buf);
    struct zb_nwk nwk;
    struct zb_aps aps;
    assert_true(newest_downlink(w, from, k.key, &nwk, &plain));
    assert_int_equal(zb_aps_parse(wr_span(&plain), &aps), ZB_OK);
    assert_true(aps.cluster == ZB_ZDP_NODE_DESC_REQ && aps.dst_endpoint == 0 && aps.profile == 0);
    assert_int_equal(w->h.nsent, from + 4); /* after 3, 8, 13 and 18 s, and so on while there is time */
    reopen(w); /* the time-out goes on where it was; the gateway is heard again */
    struct egp_message hello = {.env = {EGP_VERSION, EGP_HELLO, 1, GW, 0, EGP_TO_EG, 0, 0}};
    hello.u.hello = (struct egp_hello){PAN, 15, 1, 0};
    send_message(w, &hello, &c);
    pass(w, 39000);
    expect_device(w, DEV, "joining", NULL);
    from = w->h.nsent;
    pass(w, 3000);
    expect_device(w, DEV, "failed", "no-second-exchange");
    plain = wr_of(buf, sizeof buf);
    assert_true(newest_downlink(w, from, k.key, &nwk, &plain)); /* it is told to go */
    assert_true((nwk.fcf & 3) == ZB_NWK_COMMAND && plain.n == 2 && plain.p[0] == 4 && plain.p[1] == 0x40);
    assert_true(nwk.has_dst64 && nwk.dst64 == DEV && nwk.has_src64 && nwk.src64 == GW && nwk.radius == 1);
    struct mef_principal p = {.role = MEF_ROLE_CLIENT, .id = AE, .admin = ADMIN};
    assert_false(mef_keyreg_allows(w->mef, id, &p));
    assert_int_equal(ask(w, GW, DEV, 2, &c), EGP_OK); /* and may try again */
    expect_device(w, DEV, "key-sent", NULL);
}

static void a_key_that_is_not_verified_fails(void **state)
{
    struct world *w = *state;
    uint8_t link_key[ZB_KEY], tclk[ZB_KEY];
    struct first_key k = join(w, link_key);
    assert_true(request_key(w, &k, DEV, 4, link_key, tclk));
    pass(w, 61000);
    expect_device(w, DEV, "failed", "link-key-not-verified");
}

static void a_device_older_than_r21_needs_no_exchange(void **state)
{
    struct world *w = *state;
    struct call c;
    uint8_t link_key[ZB_KEY];
    struct first_key k = join(w, link_key);
    struct frame_bytes unasked = node_descriptor(w, &k, 4, SHORT, 0);
    uplink(w, GW, &unasked);
    expect_device(w, DEV, "joining", NULL);
    pass(w, 4000);
    struct frame_bytes other = node_descriptor(w, &k, 5, 0x4444, 0), modern = node_descriptor(w, &k, 6, SHORT, 22);
    uplink(w, GW, &other);
    uplink(w, GW, &modern);
    expect_device(w, DEV, "joining", NULL);
    struct frame_bytes old = node_descriptor(w, &k, 7, SHORT, 20);
    uplink(w, GW, &old);
    expect_device(w, DEV, "enrolled", "older-than-r21");
    pass(w, 120000);
    crash(w);
    expect_device(w, DEV, "enrolled", "older-than-r21");
    assert_int_equal(ask(w, GW, DEV, 2, &c), EGP_OK); /* no other key came after its install code's */
}

static void a_code_that_came_meanwhile_is_not_spent(void **state)
{
    struct world *w = *state;
    struct call c;
    uint8_t link_key[ZB_KEY], tclk[ZB_KEY];
    struct first_key k = join(w, link_key);
    assert_true(request_key(w, &k, DEV, 4, link_key, tclk));
    static const char other[] = "{\"installCode\":\"" OTHER_CODE "\",\"targets\":[\"" AE "\"]}";
    assert_int_equal(put_code_as(w, ADMIN, DEV, other, true, NULL), ST_OK);
    assert_true(verify_key(w, &k, DEV, 5, tclk));
    expect_device(w, DEV, "enrolled", NULL);
    assert_int_equal(ask(w, GW, DEV, 2, &c), EGP_OK);
}

/* Whether a device sleeps is anybody's claim until it says so itself: claims that differ do not keep answers from it. */
static void claims_that_differ_do_not_keep_answers_waiting(void **state)
{
    struct world *w = *state;
    static const uint8_t claims[][2] = {{0x80, 0x8c}, {0x8c, 0x80}};
    assert_int_equal(put_code(w, DEV, A_CODE), ST_CREATED);
    for (size_t i = 0; i < 2; i++) {
        struct call c;
        struct egp_message m;
        for (size_t n = 0; n < 2; n++) {
            m = request_message(GW, DEV, 10 * i + n);
            m.u.request.capability = claims[i][n];
            send_message(w, &m, &c);
            assert_null(egp_decode(span_of(c.body, c.n), &m));
            assert_int_equal(m.u.response.indirect, claims[i][n] == 0x80);
        }
        struct first_key k = learn(w, &c, CODE_KEY);
        struct frame_bytes f = zdp(w, &k, 3, 0, ZB_APS_DATA, ZB_ZDP_NODE_DESC_REQ, span_of("\1\0\0", 3));
        uplink(w, GW, &f);
        assert_null(egp_decode(span_of(w->h.sent[w->h.nsent - 1].body, w->h.sent[w->h.nsent - 1].n), &m));
        while (m.env.type != EGP_DOWNLINK && w->h.nsent-- > 1)
            assert_null(egp_decode(span_of(w->h.sent[w->h.nsent - 1].body, w->h.sent[w->h.nsent - 1].n), &m));
        assert_true(m.env.type == EGP_DOWNLINK && !m.u.frame.indirect);
    }
}

/* What asks for an acknowledgement gets one, before its answer, and when it is repeated; a broadcast asks in vain. */
static void commands_are_acknowledged(void **state)
{
    struct world *w = *state;
    uint8_t link_key[ZB_KEY];
    struct first_key k = join(w, link_key);
    const struct zb_cmd request = {.id = ZB_REQUEST_KEY, .key_type = ZB_KEYTYPE_TCLK},
                        verify = {.id = ZB_VERIFY_KEY, .key_type = ZB_KEYTYPE_TCLK, .src = DEV};
    for (uint32_t i = 0; i < 4; i++) { /* secured, secured again, not secured; a broadcast */
        const struct zb_cmd *cmd = i == 2 ? &verify : &request;
        struct frame_bytes f = command_to(w, &k, DEV, 4 + i, i == 3 ? 0xfffd : 0, ZB_APS_COMMAND | ZB_APS_ACK_REQUEST,
                                          i == 2 ? NULL : link_key, cmd);
        size_t from = w->h.nsent;
        uplink(w, GW, &f);
        assert_int_equal(w->h.nsent - from, i == 3 ? 0 : 2);
        if (i == 3)
            break;
        struct egp_message m;
        struct zb_nwk nwk;
        struct zb_aux aux;
        struct zb_aps ack;
        uint8_t buf[ZB_NWK_MAX];
        struct wr plain = wr_of(buf, sizeof buf);
        assert_null(egp_decode(span_of(w->h.sent[from].body, w->h.sent[from].n), &m));
        assert_int_equal(zb_nwk_open(w->crypto, k.key, m.u.frame.nwk_frame, &nwk, &aux, &plain), ZB_OK);
        assert_int_equal(zb_aps_parse(wr_span(&plain), &ack), ZB_OK);
        assert_int_equal(ack.fcf, ZB_APS_ACK | ZB_APS_ACK_FORMAT);
        assert_true(ack.counter == (uint8_t)(4 + i) && plain.n == 2);
    }
    struct frame_bytes f = command_to(w, &k, DEV, 9, 0, ZB_APS_COMMAND | ZB_APS_ACK_REQUEST, k.key, &request);
    size_t from = w->h.nsent;
    uplink(w, GW, &f); /* secured under another key: not the device's */
    assert_int_equal(w->h.nsent, from);
}

/* --- a device whose registration is deleted while it has a key ---------------------------------------------------- */

static void nothing_is_left(struct world *w, unsigned keys)
{
    settle(w);
    assert_null(eg_device_get(w->eg, ADMIN, DEV));
    assert_int_equal(rows_of(w->store, STORE_DEVICE), 0);
    assert_int_equal(rows_of(w->store, STORE_KEY), keys);
    reopen(w);
    assert_null(eg_device_get(w->eg, ADMIN, DEV));
}

static void a_deleted_device_that_does_not_get_ready_is_gone(void **state)
{
    struct world *w = *state;
    unsigned keys = rows_of(w->store, STORE_KEY);
    uint8_t link_key[ZB_KEY];
    (void)join(w, link_key);
    delete_code(w);
    expect_device(w, DEV, "joining", NULL);
    reopen(w);
    expect_device(w, DEV, "joining", NULL);
    pass(w, 61000);
    nothing_is_left(w, keys);
    assert_int_equal(put_code(w, DEV, A_CODE), ST_CREATED);
    expect_device(w, DEV, "registered", NULL);
}

static void a_deleted_device_that_leaves_is_gone(void **state)
{
    struct world *w = *state;
    unsigned keys = rows_of(w->store, STORE_KEY);
    struct first_key k = enrol(w, DEV, 1);
    delete_code(w);
    expect_device(w, DEV, "enrolled", NULL);
    nwk_command(w, &k, 8, span_of("\x04\x00", 2));
    nothing_is_left(w, keys);
}

static void a_deleted_device_that_is_revoked_is_gone(void **state)
{
    struct world *w = *state;
    struct call c;
    unsigned keys = rows_of(w->store, STORE_KEY);
    enrol(w, DEV, 1);
    delete_code(w);
    size_t from = w->h.nsent;
    assert_int_equal(act(w, DEV, "revoke"), ST_OK);
    struct egp_message m;
    assert_null(egp_decode(span_of(w->h.sent[w->h.nsent - 1].body, w->h.sent[w->h.nsent - 1].n), &m));
    assert_true(w->h.nsent > from && m.env.type == EGP_DEVICE_STATE && m.u.state.state == EGP_ST_REVOKED);
    nothing_is_left(w, keys);
    assert_int_equal(ask(w, GW, DEV, 2, &c), EGP_UNKNOWN_DEVICE);
}

/* --- as the coordinator ------------------------------------------------------------------------------------------- */

static void zdp_is_answered(void **state)
{
    struct world *w = *state;
    uint8_t buf[ZB_NWK_MAX];
    struct first_key k = enrol(w, DEV, 1);
    static const struct {
        uint16_t dst, cluster;
        uint8_t fcf, n, request[16];
        unsigned frames;
        uint8_t answer_n, answer[20];
    } cases[] = {
        {0, 0x0002, 0, 3, {7, 0, 0}, 1, 17, {7, 0, 0, 0, 0x00, 0x40, 0x8f, 0, 0, 82, 82, 0, 0x01, 0x2c, 82, 0, 0}},
        {0, 0x0002, 0, 3, {7, 0x34, 0x12}, 1, 4, {7, 0x81, 0x34, 0x12}},
        {0, 0x0002, 0, 2, {7, 0}, 1, 4, {7, 0x80, 0, 0}},
        {0, 0x0002, 0x40, 3, {7, 0, 0}, 2, 17, {7, 0, 0, 0, 0x00, 0x40, 0x8f, 0, 0, 82, 82, 0, 0x01, 0x2c, 82, 0, 0}},
        {0, 0x0003, 0, 3, {8, 0, 0}, 1, 6, {8, 0, 0, 0, 0x10, 0xc1}},
        {0, 0x0004, 0, 4, {9, 0, 0, 1}, 1, 5, {9, 0x83, 0, 0, 0}},
        {0, 0x0004, 0, 4, {9, 0, 0, 0}, 1, 5, {9, 0x82, 0, 0, 0}},
        {0, 0x0005, 0, 3, {10, 0, 0}, 1, 5, {10, 0, 0, 0, 0}},
        {0, 0x0006, 0, 9, {11, 0, 0, 4, 1, 1, 6, 0, 0}, 1, 5, {11, 0x89, 0, 0, 0}},
        {0xfffd, 0x0000, 0, 11, {12, 0xc3, 0xb2, 0xa1, 0x1c, 0x00, 0x4b, 0x12, 0x00, 0, 0}, 1, 12,
         {12, 0, 0xc3, 0xb2, 0xa1, 0x1c, 0x00, 0x4b, 0x12, 0x00, 0, 0}},
        {0xfffd, 0x0000, 0, 11, {12, 0xc4, 0xb2, 0xa1, 0x1c, 0x00, 0x4b, 0x12, 0x00, 0, 0}, 0, 0, {0}},
        {0, 0x0001, 0, 5, {13, 0, 0, 0, 0}, 1, 12, {13, 0, 0xc3, 0xb2, 0xa1, 0x1c, 0x00, 0x4b, 0x12, 0x00, 0, 0}},
        {0, 0x0034, 0, 2, {14, 0}, 1, 2, {14, 0x84}},
        {0xfffd, 0x0036, 0, 3, {15, 0, 0}, 0, 0, {0}},
        {0, 0x8005, 0, 5, {16, 0, 0, 0, 0}, 0, 0, {0}},
        {0, 0x0002, 0, 0, {0}, 0, 0, {0}},
    };
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct frame_bytes f = zdp(w, &k, 6 + i, cases[i].dst, cases[i].fcf, cases[i].cluster,
                                   span_of(cases[i].request, cases[i].n));
        size_t from = w->h.nsent;
        uplink(w, GW, &f);
        assert_int_equal(w->h.nsent - from, cases[i].frames);
        if (cases[i].frames == 0)
            continue;
        struct wr plain = wr_of(buf, sizeof buf);
        struct zb_nwk nwk;
        struct zb_aps aps;
        assert_true(newest_downlink(w, from, k.key, &nwk, &plain));
        assert_int_equal(zb_aps_parse(wr_span(&plain), &aps), ZB_OK);
        assert_true(nwk.dst == SHORT && nwk.src == 0 && aps.fcf == 0 && aps.profile == 0);
        assert_int_equal(aps.cluster, cases[i].cluster | 0x8000);
        assert_int_equal(aps.payload.n, cases[i].answer_n);
        assert_memory_equal(aps.payload.p, cases[i].answer, aps.payload.n);
        w->h.nsent = from; /* room */
        pass(w, 200);
    }
}

static void too_many_questions_get_no_answer(void **state)
{
    struct world *w = *state;
    struct first_key k = enrol(w, DEV, 1);
    uint32_t counter = 6;
    size_t from = w->h.nsent;
    for (int i = 0; i < 100; i++) {
        struct frame_bytes f = zdp(w, &k, counter++, 0, ZB_APS_DATA, 0x0002, span_of("\1\0\0", 3));
        uplink(w, GW, &f);
        if (w->h.nsent > from + 40)
            fail_msg("no limit");
    }
    assert_true(w->h.nsent > from + 8);
}

static void an_end_device_time_out_is_granted(void **state)
{
    struct world *w = *state;
    uint8_t buf[ZB_NWK_MAX];
    struct first_key k = enrol(w, DEV, 1);
    static const uint8_t asked[][3] = {{0x0b, 8, 0}, {0x0b, 15, 0}, {0x0b, 1, 1}};
    for (uint32_t i = 0; i < 3; i++) {
        size_t from = w->h.nsent;
        struct wr plain = wr_of(buf, sizeof buf);
        struct zb_nwk nwk;
        nwk_command(w, &k, 6 + i, span_of(asked[i], 3));
        assert_true(newest_downlink(w, from, k.key, &nwk, &plain));
        assert_true(plain.n == 3 && plain.p[0] == 0x0c && plain.p[1] == (i > 0) && plain.p[2] == 1);
    }
    size_t from = w->h.nsent;
    nwk_command(w, &k, 10, span_of("\x0b", 1));
    nwk_command(w, &k, 11, span_of("\x08\x60", 2)); /* link status */
    nwk_command(w, &k, 12, span_of("", 0));
    assert_int_equal(w->h.nsent, from);
}

static void a_device_that_leaves_is_gone(void **state)
{
    struct world *w = *state;
    struct call c;
    struct first_key k = enrol(w, DEV, 1);
    nwk_command(w, &k, 6, span_of("\x04\x20", 2)); /* will be back */
    nwk_command(w, &k, 7, span_of("\x04\x40", 2)); /* asks us to leave */
    expect_device(w, DEV, "enrolled", NULL);
    nwk_command(w, &k, 8, span_of("\x04\x00", 2));
    expect_device(w, DEV, "registered", "left");
    struct frame_bytes f = reading(w, k.key, DEV, 9);
    uint64_t dropped = metric(w, "eg_uplink_dropped_total");
    uplink(w, GW, &f);
    assert_int_equal(metric(w, "eg_uplink_dropped_total"), dropped + 1);
    assert_int_equal(ask(w, GW, DEV, 2, &c), EGP_CODE_SPENT);
    assert_int_equal(act(w, DEV, "rearm"), ST_OK);
    assert_int_equal(ask(w, GW, DEV, 3, &c), EGP_OK);
}

static void a_revoked_device_is_told_to_leave(void **state)
{
    struct world *w = *state;
    uint8_t buf[ZB_NWK_MAX];
    struct first_key k = enrol(w, DEV, 1);
    size_t from = w->h.nsent;
    struct wr plain = wr_of(buf, sizeof buf);
    struct zb_nwk nwk;
    assert_int_equal(act(w, DEV, "revoke"), ST_OK);
    assert_true(newest_downlink(w, from, k.key, &nwk, &plain));
    assert_true(plain.n == 2 && plain.p[0] == 4 && plain.p[1] == 0x40);
}

/* A frame dropped for its counter is sealed again, a few times, and as the same message. */
static void a_stale_frame_is_sealed_again(void **state)
{
    struct world *w = *state;
    uint8_t buf[2][ZB_NWK_MAX];
    struct first_key k = enrol(w, DEV, 1);
    struct frame_bytes f = zdp(w, &k, 6, 0, ZB_APS_DATA, 0x0002, span_of("\1\0\0", 3));
    uplink(w, GW, &f);
    struct call c;
    unsigned again = 0;
    for (; again < 10; again++) {
        struct egp_message sent, stale;
        struct zb_nwk nwk;
        struct wr before = wr_of(buf[0], ZB_NWK_MAX), after = wr_of(buf[1], ZB_NWK_MAX);
        assert_true(newest_downlink(w, 0, k.key, &nwk, &before));
        size_t from = w->h.nsent;
        assert_null(egp_decode(span_of(w->h.sent[from - 1].body, w->h.sent[from - 1].n), &sent));
        stale = (struct egp_message){.env = {EGP_VERSION, EGP_STALE, sent.env.transaction, GW, DEV, EGP_TO_EG, 15, 0}};
        send_message(w, &stale, &c);
        if (!newest_downlink(w, from, k.key, &nwk, &after))
            break;
        assert_true(span_eq(wr_span(&before), wr_span(&after)));
        send_message(w, &stale, &c); /* once for each */
        assert_int_equal(w->h.nsent, from + 1);
    }
    assert_int_equal(again, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, world_new, world_free)
        T(a_device_gets_a_link_key_of_its_own),
        T(lost_answers_are_given_again),
        T(only_the_devices_link_key_gets_an_answer),
        T(a_wrong_proof_is_named),
        T(a_device_that_exchanges_nothing_fails),
        T(a_key_that_is_not_verified_fails),
        T(a_device_older_than_r21_needs_no_exchange),
        T(a_code_that_came_meanwhile_is_not_spent),
        T(claims_that_differ_do_not_keep_answers_waiting),
        T(commands_are_acknowledged),
        T(a_deleted_device_that_does_not_get_ready_is_gone),
        T(a_deleted_device_that_leaves_is_gone),
        T(a_deleted_device_that_is_revoked_is_gone),
        T(zdp_is_answered),
        T(too_many_questions_get_no_answer),
        T(an_end_device_time_out_is_granted),
        T(a_device_that_leaves_is_gone),
        T(a_revoked_device_is_told_to_leave),
        T(a_stale_frame_is_sealed_again),
#undef T
    };
    return cmocka_run_group_tests_name("eg exchange", tests, NULL, NULL);
}
