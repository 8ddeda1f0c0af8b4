/* One key of several devices: who shares it, its counters, and whose the frames are that come under it. */
#include "tests/unit/eg_routers_fixture.h"

/* --- domains ------------------------------------------------------------------------------------------------------ */

static void scopes_decide_who_shares_a_key(void **state)
{
    struct world *w = *state;
    applications(w);
    put_application(w, "attic", "{\"keyScope\":\"network\",\"members\":[]}");
    put_application(w, "yard", "{\"keyScope\":\"network\",\"members\":[]}");
    put_application(w, "desk", "{\"members\":[]}");
    static const char *const names[] = {"hall", "hall", "cellar", "attic", "yard", "desk", "desk", "nobody"};
    struct node n[8];
    for (size_t i = 0; i < 8; i++) {
        char json[128];
        snprintf(json, sizeof json, "{\"installCode\":\"" CODE "\",\"application\":\"%s\"}", names[i]);
        n[i] = enrol_direct(w, 0x100 + i, (uint16_t)(0x100 + i), json, 1 + i);
    }
    for (size_t i = 0; i < 8; i++)
        for (size_t j = i + 1; j < 8; j++) {
            bool shared = (i == 0 && j == 1) || (i == 3 && j == 4);
            assert_int_equal(memcmp(n[i].k.key, n[j].k.key, ZB_KEY) == 0, shared);
            assert_memory_not_equal(n[i].link_key, n[j].link_key, ZB_KEY);
        }
}

static void each_has_a_registration_of_its_own(void **state)
{
    struct world *w = *state;
    applications(w);
    enrol_direct(w, ROUTER, R_SHORT, HALL, 1);
    enrol_direct(w, ROUTER2, R2_SHORT, HALL, 2);
    char a[MEF_RELKEYID], b[MEF_RELKEYID];
    key_id(w, ROUTER, a);
    key_id(w, ROUTER2, b);
    assert_string_not_equal(a, b);
    struct mef_principal member = {.role = MEF_ROLE_CLIENT, .id = AE, .admin = ADMIN},
                         other = {.role = MEF_ROLE_CLIENT, .id = "//example.org/in-cse/Cae2", .admin = ADMIN};
    assert_true(mef_keyreg_allows(w->mef, a, &member) && mef_keyreg_allows(w->mef, b, &member));
    assert_false(mef_keyreg_allows(w->mef, a, &other));
    /* Another application's members do not get the key of this one by a changed registration. */
    put_application(w, "cellar", "{\"keyScope\":\"application\",\"members\":[\"//example.org/in-cse/Cae2\"]}");
    assert_int_equal(put_code_as(w, ADMIN, ROUTER, CELLAR, true, NULL), ST_OK);
    key_id(w, ROUTER, a);
    assert_false(mef_keyreg_allows(w->mef, a, &other));
    assert_true(mef_keyreg_allows(w->mef, a, &member));
}

/* The key stays while anybody has it, over restarts, and a domain begun anew has another. */
static void a_domain_ends_with_its_last_device(void **state)
{
    struct world *w = *state;
    applications(w);
    struct node a = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), b = enrol_direct(w, ROUTER2, R2_SHORT, HALL, 2);
    crash(w);
    assert_int_equal(act(w, ROUTER, "revoke"), ST_OK);
    reopen(w);
    struct node c = enrol_direct(w, CHILD, C_SHORT, HALL, 3);
    assert_memory_equal(a.k.key, c.k.key, ZB_KEY);
    assert_int_equal(act(w, ROUTER2, "revoke"), ST_OK);
    assert_int_equal(act(w, CHILD, "revoke"), ST_OK);
    crash(w);
    struct node d = enrol_direct(w, DEV, SHORT, HALL, 4);
    assert_memory_not_equal(d.k.key, b.k.key, ZB_KEY);
}

/* One allocator for the whole domain: no counter comes twice. */
static void counters_are_the_domains(void **state)
{
    struct world *w = *state;
    static uint32_t used[64];
    size_t n = 0;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), r2 = enrol_direct(w, ROUTER2, R2_SHORT, HALL, 2);
    enrol_below(w, &r, &r, CHILD, C_SHORT);
    enrol_below(w, &r2, &r2, DEV, SHORT);
    for (size_t i = 0; i < w->h.nsent; i++) {
        struct egp_message m;
        struct zb_nwk nwk;
        struct zb_aux aux;
        uint8_t buf[ZB_NWK_MAX];
        struct wr plain = wr_of(buf, sizeof buf);
        assert_null(egp_decode(span_of(w->h.sent[i].body, w->h.sent[i].n), &m));
        if (m.env.type != EGP_DOWNLINK)
            continue;
        assert_int_equal(zb_nwk_open(w->crypto, r.k.key, m.u.frame.nwk_frame, &nwk, &aux, &plain), ZB_OK);
        for (size_t j = 0; j < n; j++)
            assert_int_not_equal(used[j], aux.counter);
        used[n++] = aux.counter;
    }
    assert_int_equal(n, 4 * 2 + 2); /* two answers each, and the Tunnels */
}

/* --- frames ------------------------------------------------------------------------------------------------------- */

static void frames_are_their_originators(void **state)
{
    struct world *w = *state;
    struct call observing;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), c = enrol_below(w, &r, &r, CHILD, C_SHORT);
    begin(w, &observing, CSE_RETRIEVE, "mef/eg/frames/00158d0000000c01", (struct span){0}, S_AE, w->ae);
    end(w, &observing);
    uint8_t buf[32];
    struct wr aps = wr_of(buf, sizeof buf);
    zb_aps_build(&aps, &(struct zb_aps){.dst_endpoint = 1, .src_endpoint = 1, .cluster = 0x0402, .profile = 0x0104});
    wr_spanb(&aps, span_of("\x18\x01\x0a\x00\x00\x29\x34\x08", 8));
    uint64_t relayed = metric(w, "eg_uplink_relayed_total");
    send_through(w, &r, &c, 0, wr_span(&aps));
    assert_int_equal(metric(w, "eg_uplink_relayed_total"), relayed + 1);
    begin(w, &observing, CSE_RETRIEVE, "mef/eg/frames/00158d0000000c01", (struct span){0}, S_AE, w->ae);
    end(w, &observing);
    assert_true(observing.n > 30);
    begin(w, &observing, CSE_RETRIEVE, "mef/eg/frames/00158d0000000a01", (struct span){0}, S_AE, w->ae);
    end(w, &observing);
    assert_int_equal(observing.n, 0);
    struct node stranger = {.eui = 0x77, .address = 0x7777};
    send_through(w, &r, &stranger, 0, wr_span(&aps)); /* an address that nobody has */
    assert_int_equal(metric(w, "eg_uplink_relayed_total"), relayed + 1);
    r.counter -= 2;
    send_through(w, &r, &c, 0, wr_span(&aps)); /* a counter that the router used already */
    assert_int_equal(metric(w, "eg_uplink_relayed_total"), relayed + 1);
}

/* A stranger asks to rejoin in a router's name, with the address of a device behind it: the router stays where it is. */
static void a_strangers_word_moves_nobody(void **state)
{
    struct world *w = *state;
    struct call call;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), c = enrol_below(w, &r, &r, CHILD, C_SHORT);
    assert_int_equal(act(w, CHILD, "revoke"), ST_OK);
    uint8_t buf[32], aps_buf[32];
    struct wr bare = wr_of(buf, sizeof buf), aps = wr_of(aps_buf, sizeof aps_buf);
    zb_nwk_build(&bare, &(struct zb_nwk){.fcf = 0x1009, .src = C_SHORT, .radius = 1, .has_src64 = true, .src64 = ROUTER});
    wr_u8(&bare, 0x06);
    wr_u8(&bare, 0x8e);
    struct egp_message m = request_message(GW, ROUTER, 9);
    m.u.request.device_short = C_SHORT;
    m.u.request.capability = 0x8e;
    m.u.request.join = EGP_REJOIN_TRUST_CENTRE;
    m.u.request.nwk_frame = wr_span(&bare);
    send_message(w, &m, &call);
    assert_int_equal(reason_of(&call), EGP_OK);
    zb_aps_build(&aps, &(struct zb_aps){.dst_endpoint = 1, .src_endpoint = 1, .cluster = 0x0402, .profile = 0x0104});
    wr_spanb(&aps, span_of("\x18\x01\x0a\x00\x00\x29\x34\x08", 8));
    uint64_t relayed = metric(w, "eg_uplink_relayed_total");
    send_through(w, &r, &c, 0, wr_span(&aps));
    assert_int_equal(metric(w, "eg_uplink_relayed_total"), relayed);
    cJSON *o = eg_device_get(w->eg, ADMIN, ROUTER);
    assert_int_equal(cJSON_GetObjectItem(o, "nwkAddress")->valueint, R_SHORT);
    cJSON_Delete(o);
}

/* Each neighbour repeats a broadcast; it counts once. */
static void a_broadcast_is_heard_many_times(void **state)
{
    struct world *w = *state;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), r2 = enrol_direct(w, ROUTER2, R2_SHORT, HALL, 2);
    struct node c = enrol_below(w, &r, &r, CHILD, C_SHORT);
    uint8_t buf[32];
    struct wr aps = wr_of(buf, sizeof buf);
    zb_aps_build(&aps, &(struct zb_aps){.fcf = 0x08, .dst_endpoint = 255, .src_endpoint = 1, .cluster = 6, .profile = 0x0104});
    wr_spanb(&aps, span_of("\x01\x01\x02", 3));
    uint64_t relayed = metric(w, "eg_uplink_relayed_total");
    c.seq++;
    send_through(w, &r, &c, 0xffff, wr_span(&aps));
    send_through(w, &r2, &c, 0xffff, wr_span(&aps));
    assert_int_equal(metric(w, "eg_uplink_relayed_total"), relayed + 1);
}

static void two_with_one_address(void **state)
{
    struct world *w = *state;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), c = enrol_below(w, &r, &r, CHILD, C_SHORT);
    struct node other = fresh(DEV, C_SHORT);
    assert_int_equal(put_code(w, DEV, HALL), ST_CREATED);
    update_device(w, &r, &other, UPDATE_JOIN);
    assert_int_equal(metric(w, "eg_address_conflicts_total"), 0); /* a claim conflicts with nothing */
    exchange(w, &r, &c); /* whose frames they were, they still are */
    expect_device(w, DEV, "key-sent", NULL);
    announce(w, &r, &other, 0x80);
    expect_device(w, DEV, "joining", NULL);
    assert_int_equal(metric(w, "eg_address_conflicts_total"), 1);
}

/* A router says that it leaves, or is revoked: nothing more comes by it. */
static void a_router_that_is_revoked(void **state)
{
    struct world *w = *state;
    applications(w);
    struct node r = enrol_direct(w, ROUTER, R_SHORT, HALL, 1), r2 = enrol_direct(w, ROUTER2, R2_SHORT, HALL, 2);
    struct node c = enrol_below(w, &r, &r, CHILD, C_SHORT), late = fresh(DEV, SHORT);
    assert_int_equal(put_code(w, DEV, HALL), ST_CREATED);
    assert_int_equal(act(w, ROUTER, "revoke"), ST_OK);
    size_t from = w->h.nsent;
    update_device(w, &r, &late, UPDATE_JOIN);
    update_device(w, &r, &c, UPDATE_LEFT);
    assert_int_equal(w->h.nsent, from);
    expect_device(w, DEV, "registered", NULL);
    expect_device(w, CHILD, "enrolled", NULL);
    update_device(w, &r2, &c, UPDATE_REJOIN);
    announce(w, &r2, &c, 0x80);
    expect_parent(w, CHILD, "00158d0000000a02");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, world_new, world_free)
    const struct CMUnitTest tests[] = {
        T(scopes_decide_who_shares_a_key),
        T(each_has_a_registration_of_its_own),
        T(a_domain_ends_with_its_last_device),
        T(counters_are_the_domains),
        T(frames_are_their_originators),
        T(a_strangers_word_moves_nobody),
        T(a_broadcast_is_heard_many_times),
        T(two_with_one_address),
        T(a_router_that_is_revoked),
#undef T
    };
    return cmocka_run_group_tests_name("eg shared keys", tests, NULL, NULL);
}
