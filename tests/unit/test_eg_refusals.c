/* A gateway and an AE are refused by what is durable: a crash does not take back why. */
#include "tests/unit/eg_fixture.h"

enum { ASKED = 7 }; /* a transaction of the gateway's */

static void gateway_begins(struct world *w, const struct egp_message *m, struct call *c)
{
    uint8_t buf[EGP_MAX_MESSAGE];
    struct wr out = wr_of(buf, sizeof buf);
    assert_true(egp_encode(m, &out));
    begin(w, c, CSE_CREATE, "mef/eg", wr_span(&out), S_GW, w->gw);
}

/* The operator's change is handed over, and no more. */
static void hand_over(struct world *w, struct store_txn *t, struct mef_result *r, enum st st)
{
    assert_int_equal(r->st, st);
    free_result(r);
    store_commit(t, NULL, NULL);
    assert_true(store_durable(w->store) < store_last(w->store));
}

static void refused_when_durable(struct world *w, enum egp_reason reason)
{
    struct call c;
    struct egp_message m = request_message(GW, DEV, ASKED);
    gateway_begins(w, &m, &c);
    assert_int_equal(c.answers, 0);
    end(w, &c);
    assert_int_equal(c.st, ST_UPDATED);
    assert_int_equal(reason_of(&c), reason);
}

static void by_revocation(void **state)
{
    struct world *w = *state;
    struct mef_result r = {0};
    put_code(w, DEV, A_CODE);
    struct store_txn *t = store_begin(w->store);
    eg_device_action(w->eg, t, ADMIN, "operator:test", DEV, "revoke", &r);
    hand_over(w, t, &r, ST_OK);
    refused_when_durable(w, EGP_DEVICE_REVOKED);
}

static void by_deletion(void **state)
{
    struct world *w = *state;
    struct mef_result r = {0};
    put_code(w, DEV, A_CODE);
    struct store_txn *t = store_begin(w->store);
    eg_code_delete(w->eg, t, ADMIN, "operator:test", DEV, &r);
    hand_over(w, t, &r, ST_DELETED);
    refused_when_durable(w, EGP_UNKNOWN_DEVICE);
}

static void by_a_transaction_of_other_content(void **state)
{
    struct world *w = *state;
    struct call first, other;
    put_code(w, DEV, A_CODE);
    struct egp_message m = request_message(GW, DEV, ASKED);
    gateway_begins(w, &m, &first);
    m.u.request.device_short++;
    gateway_begins(w, &m, &other);
    assert_int_equal(other.answers, 0);
    end(w, &first);
    end(w, &other);
    assert_int_equal(reason_of(&first), EGP_OK);
    assert_int_equal(reason_of(&other), EGP_CONFLICT);
}

static void an_ae_that_is_no_target_any_more(void **state)
{
    struct world *w = *state;
    struct mef_result r = {0};
    struct call c;
    enrol(w, DEV, 1);
    cJSON *in = cJSON_Parse("{\"installCode\":\"" CODE "\",\"targets\":[\"/in-cse/Cae2\"]}");
    struct store_txn *t = store_begin(w->store);
    eg_code_put(w->eg, t, ADMIN, "operator:test", DEV, in, true, &r);
    cJSON_Delete(in);
    hand_over(w, t, &r, ST_OK);
    begin(w, &c, CSE_CREATE, TICKET, span_of(NULL, 0), S_AE, w->ae);
    assert_int_equal(c.answers, 0);
    end(w, &c);
    assert_int_equal(c.st, ST_NO_PRIVILEGE);
}

/* Where nothing is under way nobody waits. */
static void at_once(void **state)
{
    struct world *w = *state;
    struct call c;
    struct egp_message m = request_message(GW, DEV, ASKED);
    m.u.request.device_short = 0;
    send_message(w, &m, &c); /* the gateway is heard of */
    settle(w);
    gateway_begins(w, &m, &c);
    assert_int_equal(c.answers, 1);
    assert_int_equal(reason_of(&c), EGP_BAD_REQUEST);
}

/* One that waits at the end is dropped; the sanitizers watch. */
static void under_way_at_the_end(void **state)
{
    struct world *w = *state;
    struct mef_result r = {0};
    struct call c;
    put_code(w, DEV, A_CODE);
    struct egp_message m = request_message(GW, DEV, ASKED);
    struct store_txn *t = store_begin(w->store);
    eg_device_action(w->eg, t, ADMIN, "operator:test", DEV, "revoke", &r);
    hand_over(w, t, &r, ST_OK);
    gateway_begins(w, &m, &c);
    world_close(w);
    assert_int_equal(c.answers, 0);
    memset(w->h.timers, 0, sizeof w->h.timers);
    world_open(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(fn) cmocka_unit_test_setup_teardown(fn, world_new, world_free)
        T(by_revocation),
        T(by_deletion),
        T(by_a_transaction_of_other_content),
        T(an_ae_that_is_no_target_any_more),
        T(at_once),
        T(under_way_at_the_end),
#undef T
    };
    return cmocka_run_group_tests_name("eg refusals", tests, NULL, NULL);
}
