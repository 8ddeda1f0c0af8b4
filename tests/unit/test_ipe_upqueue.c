/* ipe-nid's queue: what goes first, what waits for what, and what makes room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "ipe-ni/upqueue.h"

static const eui64_t gateway = 0x00124b001ca1b2c3;

static struct egp_envelope up(enum egp_type t, uint64_t transaction, eui64_t dev)
{
    return (struct egp_envelope){.type = (uint8_t)t, .transaction = transaction, .gateway = gateway, .device = dev};
}

static void add(struct upqueue *q, enum egp_type t, uint64_t transaction, eui64_t dev)
{
    uint64_t dropped = 0;
    struct egp_envelope e = up(t, transaction, dev);
    assert_true(upqueue_add(q, &e, span_str("x"), 0, &dropped));
}

static void expect_next(struct upqueue *q, uint64_t now, uint64_t transaction)
{
    struct upmsg *m = upqueue_next(q, now, 100);
    assert_non_null(m);
    assert_true(m->env.transaction == transaction);
}

static void upqueue_order_and_limits(void **state)
{
    (void)state;
    struct upqueue *q = upqueue_new(6, 4);
    uint64_t dropped = 0;
    add(q, EGP_UPLINK, 1, 7);
    add(q, EGP_UPLINK, 2, 7);
    add(q, EGP_UPLINK, 3, 8);
    add(q, EGP_REQUEST, 4, 9);
    add(q, EGP_HELLO, 5, 0);
    add(q, EGP_REQUEST, 4, 9); /* replaces its waiting copy */
    assert_int_equal(upqueue_count(q), 5);
    expect_next(q, 0, 5);
    expect_next(q, 0, 4);
    assert_null(upqueue_next(q, 0, 100)); /* two places are kept for urgent ones */
    add(q, EGP_REQUEST, 6, 9);
    expect_next(q, 0, 6);
    struct egp_envelope e = up(EGP_TX_RESULT, 10, 7);
    assert_true(upqueue_add(q, &e, span_str("x"), 0, &dropped)); /* the oldest uplink makes room */
    assert_int_equal(dropped, 1);
    upqueue_free(q);

    q = upqueue_new(6, 8);
    add(q, EGP_UPLINK, 1, 7);
    add(q, EGP_UPLINK, 2, 7);
    add(q, EGP_UPLINK, 3, 8);
    struct upmsg *first = upqueue_next(q, 0, 100);
    expect_next(q, 0, 3); /* 2 waits for 1 */
    assert_null(upqueue_next(q, 0, 100));
    upqueue_retry(q, first);
    expect_next(q, 0, 1);
    upqueue_done(q, first);
    expect_next(q, 0, 2);
    add(q, EGP_REQUEST, 4, 9);
    assert_null(upqueue_next(q, 101, 100)); /* too old to be of use */
    upqueue_free(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(upqueue_order_and_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
