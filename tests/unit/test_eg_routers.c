/* Devices behind routers: joins and rejoins through a parent, what a router may say, and who is told to go. */
#include "tests/unit/eg_routers_fixture.h"

/* --- joins -------------------------------------------------------------------------------------------------------- */

static void a_child_joins_through_a_router(void **state)
{
    struct world *w = *state;
    bool indirect;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1);
    struct node c = enrol_below(w, &r, &r, CHILD, C_SHORT);
    assert_memory_equal(c.k.key, r.k.key, ZB_KEY);
    expect_parent(w, CHILD, "00158d0000000a01");
    expect_parent(w, ROUTER, NULL);
    assert_int_equal(hop_of(w, w->h.nsent - 2, &indirect), R_SHORT); /* its Confirm-Key, before its DeviceState */
    assert_false(indirect);                                           /* that it sleeps is its parent's business */
    crash(w);
    expect_device(w, CHILD, "enrolled", NULL);
    expect_parent(w, CHILD, "00158d0000000a01");
}

static void any_depth(void **state)
{
    struct world *w = *state;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1);
    struct node r2 = enrol_below(w, &r, &r, ROUTER2, R2_SHORT);
    struct node c = fresh(CHILD, C_SHORT);
    assert_int_equal(put_code(w, CHILD, HALL), ST_CREATED);
    struct zb_cmd cmd = {.id = ZB_UPDATE_DEVICE, .device = CHILD, .short_addr = C_SHORT, .status = UPDATE_JOIN};
    size_t from = w->h.nsent;
    bool indirect;
    send_command(w, &r, &r2, r2.link_key, &cmd); /* passed on by the upper router */
    assert_true(tunnelled(w, from, &r2, &c));
    assert_int_equal(hop_of(w, from, &indirect), R_SHORT);
    announce(w, &r, &c, 0x80);
    exchange(w, &r, &c);
    expect_parent(w, CHILD, "00158d0000000a02");
}

/* The gateway goes by clear headers, which anybody can write; the EG by what came under the key. */
static void frames_go_back_the_way_that_proved_ones_came(void **state)
{
    struct world *w = *state;
    const struct zb_cmd request = {.id = ZB_REQUEST_KEY, .key_type = ZB_KEYTYPE_TCLK};
    bool indirect;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), r2 = enrol_below(w, &r, &r, ROUTER2, R2_SHORT);
    announce(w, &r, &r2, 0x8e);
    struct node c = enrol_below(w, &r2, &r, CHILD, C_SHORT);
    size_t from = w->h.nsent;
    send_command(w, &r2, &c, c.link_key, &request); /* the upper router is gone, the other is heard at the gateway */
    assert_int_equal(hop_of(w, from, &indirect), R2_SHORT);
    from = w->h.nsent;
    send_command(w, &r, &r2, r2.link_key, &request);
    assert_int_equal(hop_of(w, from, &indirect), R_SHORT);
    announce(w, &r2, &r2, 0x8e); /* whose copy of a broadcast comes first tells nothing */
    from = w->h.nsent;
    assert_int_equal(act(w, CHILD, "revoke"), ST_OK);
    assert_int_equal(hop_of(w, from, &indirect), R_SHORT); /* Remove-Device to its parent */
}

/* Who passed on its last frame has been sent away since. */
static void without_its_last_way_the_parents_are_the_way(void **state)
{
    struct world *w = *state;
    bool indirect;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), r2 = enrol_direct(w, ROUTER2, R2_SHORT, HALL, 2);
    struct node c = fresh(CHILD, C_SHORT);
    assert_int_equal(put_code(w, CHILD, HALL), ST_CREATED);
    size_t from = w->h.nsent;
    update_device(w, &r, &c, UPDATE_JOIN);
    assert_true(tunnelled(w, from, &r, &c));
    announce(w, &r2, &c, 0x80);
    assert_int_equal(act(w, ROUTER2, "revoke"), ST_OK);
    from = w->h.nsent;
    pass(w, 3100); /* its node descriptor is asked for */
    assert_int_equal(hop_of(w, from, &indirect), R_SHORT);
}

static void after_a_restart_the_parents_are_the_way(void **state)
{
    struct world *w = *state;
    bool indirect;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), r2 = enrol_below(w, &r, &r, ROUTER2, R2_SHORT);
    announce(w, &r, &r2, 0x8e);
    (void)enrol_below(w, &r2, &r, CHILD, C_SHORT);
    crash(w);
    announce(w, &r, &r, 0x8e); /* the gateway is there again */
    size_t from = w->h.nsent;
    assert_int_equal(act(w, CHILD, "revoke"), ST_OK);
    assert_int_equal(hop_of(w, from, &indirect), R_SHORT);
}

/* The first frame names nobody: the announcement got lost. */
static void a_short_address_is_enough(void **state)
{
    struct world *w = *state;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), c = fresh(CHILD, C_SHORT);
    assert_int_equal(put_code(w, CHILD, HALL), ST_CREATED);
    size_t from = w->h.nsent;
    update_device(w, &r, &c, UPDATE_JOIN);
    assert_true(tunnelled(w, from, &r, &c));
    exchange(w, &r, &c);
    expect_parent(w, CHILD, "00158d0000000a01");
}

/* Somebody asks at the gateway in the child's name, before and after its router does. */
static void a_spoofed_association_does_not_undo_a_routers_word(void **state)
{
    struct world *w = *state;
    struct call answer;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), c = fresh(CHILD, C_SHORT);
    assert_int_equal(put_code(w, CHILD, HALL), ST_CREATED);
    enum egp_reason reason = EGP_OK;
    for (uint64_t transaction = 2; reason != EGP_RATE_LIMITED; transaction++) {
        struct egp_message m = request_message(GW, CHILD, transaction);
        m.u.request.device_short = SHORT;
        send_message(w, &m, &answer);
        reason = reason_of(&answer);
        assert_true(reason == EGP_OK || (reason == EGP_RATE_LIMITED && transaction > 2));
        if (transaction == 2)
            update_device(w, &r, &c, UPDATE_JOIN);
    }
    size_t from = w->h.nsent;
    update_device(w, &r, &c, UPDATE_JOIN); /* the router asks at a rate of its own */
    assert_true(tunnelled(w, from, &r, &c));
    exchange(w, &r, &c); /* its announcement got lost, too */
    expect_parent(w, CHILD, "00158d0000000a01");
}

/* The router lost it, and it joined the gateway. */
static void the_devices_own_frame_says_where_it_is(void **state)
{
    struct world *w = *state;
    struct call answer;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), c = fresh(CHILD, C_SHORT);
    assert_int_equal(put_code(w, CHILD, HALL), ST_CREATED);
    size_t from = w->h.nsent;
    update_device(w, &r, &c, UPDATE_JOIN);
    assert_true(tunnelled(w, from, &r, &c));
    struct egp_message m = request_message(GW, CHILD, 2);
    m.u.request.device_short = SHORT;
    send_message(w, &m, &answer);
    c.k = learn(w, &answer, CODE_KEY);
    c.address = SHORT;
    announce(w, &c, &c, 0x80);
    exchange(w, &c, &c);
    expect_parent(w, CHILD, NULL);
}

static void a_lost_tunnel_is_sent_again(void **state)
{
    struct world *w = *state;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), c = fresh(CHILD, C_SHORT), again = c;
    assert_int_equal(put_code(w, CHILD, HALL), ST_CREATED);
    size_t from = w->h.nsent;
    update_device(w, &r, &c, UPDATE_JOIN);
    assert_true(tunnelled(w, from, &r, &c));
    crash(w);
    from = w->h.nsent;
    update_device(w, &r, &again, UPDATE_JOIN);
    assert_true(tunnelled(w, from, &r, &again));
    assert_memory_equal(again.k.key, c.k.key, ZB_KEY);
    announce(w, &r, &c, 0x80);
    expect_device(w, CHILD, "joining", NULL);
}

static void expect_refused(struct world *w, struct node *router, const struct node *child, const char *counted)
{
    uint64_t before = metric(w, counted);
    size_t from = w->h.nsent;
    update_device(w, router, child, UPDATE_JOIN);
    assert_int_equal(metric(w, counted), before + 1);
    assert_int_equal(w->h.nsent, from); /* no packet */
}

static void who_may_not_join_through_a_router(void **state)
{
    struct world *w = *state;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), c = fresh(CHILD, C_SHORT);
    struct node lone = enrol_direct(w, ROUTER2, R2_SHORT, A_CODE, 2);
    expect_refused(w, &r, &c, "eg_refused_unknown_device_total");
    assert_int_equal(put_code(w, CHILD, A_CODE), ST_CREATED); /* scope device */
    expect_refused(w, &r, &c, "eg_refused_parent_key_domain_total");
    assert_int_equal(put_code(w, CHILD, CELLAR), ST_OK); /* another application */
    expect_refused(w, &r, &c, "eg_refused_parent_key_domain_total");
    assert_int_equal(put_code(w, CHILD, HALL), ST_OK);
    expect_refused(w, &lone, &c, "eg_refused_parent_key_domain_total"); /* a router with a key of its own */
    expect_device(w, CHILD, "registered", "parent-key-domain");
    c.address = 0;
    expect_refused(w, &r, &c, "eg_refused_bad_request_total");
    c.address = C_SHORT;
    enrol_below(w, &r, &r, DEV, SHORT);
    struct node enrolled = {.eui = DEV, .address = SHORT};
    expect_refused(w, &r, &enrolled, "eg_refused_code_spent_total");
    assert_int_equal(act(w, DEV, "revoke"), ST_OK);
    expect_refused(w, &r, &enrolled, "eg_refused_device_revoked_total");
    assert_int_equal(act(w, DEV, "rearm"), ST_OK);
    size_t from = w->h.nsent;
    struct node back = fresh(DEV, SHORT);
    update_device(w, &r, &back, UPDATE_JOIN);
    assert_true(tunnelled(w, from, &r, &back));
    announce(w, &r, &back, 0x80);
    exchange(w, &r, &back);
}

/* What counts needs the router's own link key, and what ends something always does. */
static void a_word_that_is_not_the_routers(void **state)
{
    struct world *w = *state;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1);
    assert_int_equal(put_code(w, CHILD, HALL), ST_CREATED);
    struct zb_cmd cmd = {.id = ZB_UPDATE_DEVICE, .device = CHILD, .short_addr = C_SHORT, .status = UPDATE_JOIN};
    uint8_t wrong[ZB_KEY] = {9};
    size_t from = w->h.nsent;
    send_command(w, &r, &r, NULL, &cmd);
    send_command(w, &r, &r, wrong, &cmd);
    cmd.status = 4;
    send_command(w, &r, &r, r.link_key, &cmd);
    assert_int_equal(w->h.nsent, from);
    assert_int_equal(metric(w, "eg_aps_commands_refused_total"), 3);
    expect_device(w, CHILD, "registered", NULL);
    r.k.key[0] ^= 1; /* not under the domain's key */
    cmd.status = UPDATE_JOIN;
    send_command(w, &r, &r, r.link_key, &cmd);
    assert_int_equal(w->h.nsent, from);
}

/* Neither the router nor anybody else proves a child's key but by a frame from the child. */
static void only_the_childs_frame_proves(void **state)
{
    struct world *w = *state;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), c = fresh(CHILD, C_SHORT);
    assert_int_equal(put_code(w, CHILD, HALL), ST_CREATED);
    update_device(w, &r, &c, UPDATE_JOIN);
    announce(w, &r, &r, 0x8e);
    struct node stranger = {.eui = 0x77, .address = 0x7777};
    announce(w, &r, &stranger, 0x80);
    expect_device(w, CHILD, "key-sent", NULL);
    pass(w, 61000);
    expect_device(w, CHILD, "failed", "no-secured-frame-seen");
    announce(w, &r, &c, 0x80); /* too late */
    expect_device(w, CHILD, "failed", "no-secured-frame-seen");
}

/* --- rejoins ------------------------------------------------------------------------------------------------------ */

static void a_child_that_lost_its_key(void **state)
{
    struct world *w = *state;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), c = enrol_below(w, &r, &r, CHILD, C_SHORT);
    uint8_t key[ZB_KEY];
    memcpy(key, c.k.key, ZB_KEY);
    memset(c.k.key, 0, ZB_KEY);
    size_t from = w->h.nsent;
    update_device(w, &r, &c, UPDATE_TC_REJOIN);
    assert_true(tunnelled(w, from, &r, &c)); /* under its own link key */
    assert_memory_equal(c.k.key, key, ZB_KEY);
    announce(w, &r, &c, 0x80);
    expect_device(w, CHILD, "enrolled", NULL);
    pass(w, 61000);
    expect_device(w, CHILD, "enrolled", NULL);
    struct node unknown = fresh(DEV, SHORT);
    assert_int_equal(put_code(w, DEV, HALL), ST_CREATED);
    from = w->h.nsent;
    update_device(w, &r, &unknown, UPDATE_TC_REJOIN);
    assert_int_equal(w->h.nsent, from);
    assert_int_equal(metric(w, "eg_refused_no_link_key_total"), 1);
}

/* A secured rejoin is the new router's word until the device is heard through it. */
static void a_child_changes_its_parent(void **state)
{
    struct world *w = *state;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), r2 = enrol_direct(w, ROUTER2, R2_SHORT, HALL, 2);
    struct node c = enrol_below(w, &r, &r, CHILD, C_SHORT);
    size_t from = w->h.nsent;
    update_device(w, &r2, &c, UPDATE_REJOIN);
    assert_int_equal(w->h.nsent, from);
    expect_parent(w, CHILD, "00158d0000000a01");
    update_device(w, &r, &c, UPDATE_LEFT); /* its old parent's late word */
    expect_device(w, CHILD, "enrolled", NULL);
    announce(w, &r2, &c, 0x80);
    expect_parent(w, CHILD, "00158d0000000a02");
    update_device(w, &r, &c, UPDATE_LEFT);
    expect_device(w, CHILD, "enrolled", NULL);
    update_device(w, &r2, &c, UPDATE_LEFT);
    expect_device(w, CHILD, "registered", "left");
}

/* Who holds the domain's key without right is sent away by the router that took it in. */
static void a_revoked_device_comes_back_by_the_domains_key(void **state)
{
    struct world *w = *state;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), c = enrol_below(w, &r, &r, CHILD, C_SHORT);
    struct zb_cmd got;
    struct zb_aux aux;
    size_t from = w->h.nsent;
    assert_int_equal(act(w, CHILD, "revoke"), ST_OK);
    assert_true(newest_command(w, from, &r.k, r.link_key, &got, &aux));
    assert_true(got.id == ZB_REMOVE_DEVICE && got.device == CHILD && aux.key_id == ZB_KEY_ID_DATA);
    from = w->h.nsent;
    update_device(w, &r, &c, UPDATE_REJOIN);
    assert_true(newest_command(w, from, &r.k, r.link_key, &got, &aux));
    assert_true(got.id == ZB_REMOVE_DEVICE && got.device == CHILD);
    uint64_t dropped = metric(w, "eg_uplink_dropped_total");
    announce(w, &r, &c, 0x80);
    assert_int_equal(metric(w, "eg_uplink_dropped_total"), dropped + 1);
    expect_device(w, CHILD, "revoked", "revoked");
}

/* A router is sent its domain's key again. What it does anyway is no proof of that, least of all while a stranger asks in
 * its name. */
static void a_key_that_the_device_has_already(void **state)
{
    struct world *w = *state;
    struct call call;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), c = enrol_below(w, &r, &r, CHILD, C_SHORT);
    assert_int_equal(act(w, ROUTER, "rearm"), ST_OK);
    struct egp_message m = request_message(GW, ROUTER, 9);
    m.u.request.device_short = 0x6666;
    send_message(w, &m, &call);
    assert_int_equal(reason_of(&call), EGP_OK);
    announce(w, &r, &r, 0x8e);
    announce(w, &r, &c, 0x80);
    expect_device(w, ROUTER, "enrolled", NULL);
    struct node reset = fresh(ROUTER, 0x6666); /* it was the router itself, after all */
    reset.k = r.k;
    reset.counter = r.counter; /* kept over a reset (BDB 9.5) */
    announce(w, &reset, &reset, 0x8e);
    expect_device(w, ROUTER, "enrolled", NULL);
    exchange(w, &reset, &reset);
}

/* What it said before proves nothing under a key that is the domain's still. */
static void a_replay_is_no_proof(void **state)
{
    struct world *w = *state;
    struct call call;
    applications(w);
    enrol_direct(w, ROUTER2, R2_SHORT, HALL, 2);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), old = r;
    announce(w, &r, &r, 0x8e);
    assert_int_equal(act(w, ROUTER, "revoke"), ST_OK);
    announce(w, &r, &r, 0x8e); /* it did not hear of it */
    assert_int_equal(act(w, ROUTER, "rearm"), ST_OK);
    struct egp_message m = request_message(GW, ROUTER, 9);
    m.u.request.device_short = R_SHORT;
    send_message(w, &m, &call);
    assert_memory_equal(learn(w, &call, CODE_KEY).key, r.k.key, ZB_KEY);
    crash(w);
    announce(w, &old, &old, 0x8e);
    announce(w, &old, &old, 0x8e); /* its late one */
    expect_device(w, ROUTER, "key-sent", NULL);
    struct node reset = fresh(ROUTER, R_SHORT);
    reset.k = r.k;
    reset.counter = r.counter;
    announce(w, &reset, &reset, 0x8e);
    exchange(w, &reset, &reset);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, world_new, world_free)
    const struct CMUnitTest tests[] = {
        T(a_child_joins_through_a_router),
        T(any_depth),
        T(frames_go_back_the_way_that_proved_ones_came),
        T(without_its_last_way_the_parents_are_the_way),
        T(after_a_restart_the_parents_are_the_way),
        T(a_short_address_is_enough),
        T(a_spoofed_association_does_not_undo_a_routers_word),
        T(the_devices_own_frame_says_where_it_is),
        T(a_lost_tunnel_is_sent_again),
        T(who_may_not_join_through_a_router),
        T(a_word_that_is_not_the_routers),
        T(only_the_childs_frame_proves),
        T(a_child_that_lost_its_key),
        T(a_child_changes_its_parent),
        T(a_revoked_device_comes_back_by_the_domains_key),
        T(a_key_that_the_device_has_already),
        T(a_replay_is_no_proof),
#undef T
    };
    return cmocka_run_group_tests_name("eg routers", tests, NULL, NULL);
}
