/* NWK commands, and the lists of ZDP answers. */
#include "mef-plugin/zigbee/zigbee.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct bytes {
    uint8_t n, p[40];
};

static const struct bytes whole[] = {
    {6, {0x01, 0x00, 0x42, 0x22, 0x11, 2}},
    {14, {0x01, 0x20, 0x42, 0x22, 0x11, 2, 1, 2, 3, 4, 5, 6, 7, 8}},
    {8, {0x02, 0x00, 0x42, 0x22, 0x11, 0x44, 0x33, 5}},
    {24, {0x02, 0x30, 0x42, 0x22, 0x11, 0x44, 0x33, 5, 1, 2, 3, 4, 5, 6, 7, 8, 8, 7, 6, 5, 4, 3, 2, 1}},
    {4, {0x03, 0x0d, 0x22, 0x11}},
    {2, {0x04, 0x40}},
    {6, {0x05, 2, 0x22, 0x11, 0x44, 0x33}},
    {2, {0x06, 0x8e}},
    {4, {0x07, 0x22, 0x11, 0}},
    {8, {0x08, 0x62, 0x22, 0x11, 0x13, 0x44, 0x33, 0x77}},
    {3, {0x0b, 8, 0}},
    {3, {0x0c, 0, 1}},
};

static void commands_are_read_and_built(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++) {
        struct zb_nwk_cmd c;
        uint8_t buf[40], longer[40];
        for (size_t n = 0; n < whole[i].n; n++)
            assert_int_equal(zb_nwk_cmd_parse(span_of(whole[i].p, n), &c), ZB_TRUNCATED);
        assert_int_equal(zb_nwk_cmd_parse(span_of(whole[i].p, whole[i].n), &c), ZB_OK);
        assert_true(c.id == whole[i].p[0] && c.tlvs.n == 0);
        for (size_t cap = 0; cap <= whole[i].n; cap++) {
            struct wr w = wr_of(buf, cap);
            assert_int_equal(zb_nwk_cmd_build(&w, &c), cap < whole[i].n ? ZB_NO_SPACE : ZB_OK);
        }
        assert_memory_equal(buf, whole[i].p, whole[i].n);
        memcpy(longer, whole[i].p, whole[i].n);
        longer[whole[i].n] = 0xaa; /* what a later revision appends */
        assert_int_equal(zb_nwk_cmd_parse(span_of(longer, whole[i].n + 1u), &c), ZB_OK);
        assert_int_equal(c.tlvs.n, 1);
    }
}

static void each_field_has_its_place(void **state)
{
    (void)state;
    struct zb_nwk_cmd c;
    assert_int_equal(zb_nwk_cmd_parse(span_of(whole[1].p, whole[1].n), &c), ZB_OK);
    assert_true(c.options == 0x20 && c.route_id == 0x42 && c.address == 0x1122 && c.cost == 2 && c.address64 == 0x0807060504030201u);
    assert_int_equal(zb_nwk_cmd_parse(span_of(whole[3].p, whole[3].n), &c), ZB_OK);
    assert_true(c.originator == 0x1122 && c.responder == 0x3344 && c.cost == 5 && c.originator64 == 0x0807060504030201u &&
                c.responder64 == 0x0102030405060708u);
    assert_int_equal(zb_nwk_cmd_parse(span_of(whole[4].p, whole[4].n), &c), ZB_OK);
    assert_true(c.status == ZB_STATUS_ADDRESS_CONFLICT && c.address == 0x1122);
    assert_int_equal(zb_nwk_cmd_parse(span_of(whole[6].p, whole[6].n), &c), ZB_OK);
    assert_true(c.list.n == 4);
    assert_int_equal(zb_nwk_cmd_parse(span_of(whole[7].p, whole[7].n), &c), ZB_OK);
    assert_true(c.capability == 0x8e);
    assert_int_equal(zb_nwk_cmd_parse(span_of(whole[9].p, whole[9].n), &c), ZB_OK);
    assert_true((c.options & ZB_LINK_COUNT) == 2 && c.list.n == 6);
    assert_int_equal(zb_nwk_cmd_parse(span_of(whole[10].p, whole[10].n), &c), ZB_OK);
    assert_true(c.timeout == 8 && c.information == 0);
}

static void what_cannot_be_built_is_refused(void **state)
{
    (void)state;
    static const uint8_t list[600];
    uint8_t buf[1024];
    static const struct zb_nwk_cmd bad[] = {
        {.id = ZB_NWK_LINK_STATUS, .options = 2, .list = {list, 3}}, /* the options say two entries */
        {.id = ZB_NWK_ROUTE_RECORD, .list = {list, 3}},
        {.id = ZB_NWK_ROUTE_RECORD, .list = {list, 512}},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct wr w = wr_of(buf, sizeof buf);
        assert_int_equal(zb_nwk_cmd_build(&w, &bad[i]), ZB_NO_SPACE);
    }
    struct wr w = wr_of(buf, sizeof buf);
    struct zb_nwk_cmd c;
    assert_int_equal(zb_nwk_cmd_build(&w, &(struct zb_nwk_cmd){.id = 0x09}), ZB_MALFORMED);
    for (uint8_t id = 0x0d; id != 1; id++) { /* commands without a layout here, those that do not exist among them */
        assert_int_equal(zb_nwk_cmd_parse(span_of(&id, 1), &c), ZB_MALFORMED);
        assert_int_equal(c.id, id);
    }
}

/* --- ZDP ---------------------------------------------------------------------------------------------------------- */

enum { MANY = 40 };

static bool find(void *user, eui64_t ieee, uint16_t nwk, struct zb_known *out)
{
    const struct zb_known *all = user;
    for (size_t i = 0; i < MANY; i++)
        if (ieee != 0 ? all[i].ieee == ieee : all[i].nwk == nwk) {
            *out = all[i];
            return true;
        }
    return false;
}

static size_t answer(const struct zb_self *self, uint16_t cluster, const struct wr *request, bool broadcast, uint8_t buf[ZB_NWK_MAX])
{
    struct wr w = wr_of(buf, ZB_NWK_MAX);
    uint16_t response;
    return zb_zdp_answer(self, cluster, wr_span(request), broadcast, &response, &w) ? w.n : 0;
}

/* Lists come in pieces; each fits one frame. */
static void long_lists_are_told_in_pieces(void **state)
{
    (void)state;
    struct zb_known all[MANY];
    uint8_t in[ZB_NWK_MAX], out[ZB_NWK_MAX];
    for (size_t i = 0; i < MANY; i++)
        all[i] = (struct zb_known){0x0100 + i, (uint16_t)(0x0100 + i), i % 2 ? 0x8e : 0x80, (uint8_t)i};
    const struct zb_self self = {.ieee = 77, .ext_pan_id = 5, .neighbours = all, .nneighbours = MANY, .find = find, .user = all};
    struct wr w = wr_of(in, sizeof in);
    wr_bytes(&w, "\x01\x00\x00\x01\x00", 5); /* IEEE_addr_req, extended */
    assert_int_equal(answer(&self, 0x0001, &w, false, out), 14 + 2 * 32);
    assert_true(out[12] == MANY && out[13] == 0);
    in[4] = 32;
    assert_int_equal(answer(&self, 0x0001, &w, false, out), 14 + 2 * 8);
    w.n = 2; /* Mgmt_Lqi_req */
    in[1] = 38;
    assert_int_equal(answer(&self, 0x0031, &w, false, out), 5 + 2 * 22);
    assert_true(out[2] == MANY && out[3] == 38 && out[4] == 2);
    assert_true(out[5 + 18] == 0x12 && out[5 + 22 + 18] == 0x35); /* a child that sleeps; a router, which listens */
    in[1] = 0;
    assert_int_equal(answer(&self, 0x0031, &w, false, out), 5 + 3 * 22);
    w = wr_of(in, sizeof in); /* Parent_annce about all but the last: routers are no children */
    wr_u8(&w, 9);
    wr_u8(&w, 12);
    for (size_t i = 0; i < 12; i++)
        wr_le64(&w, all[i].ieee);
    assert_int_equal(answer(&self, 0x001f, &w, true, out), 3 + 6 * 8);
    assert_int_equal(out[2], 6);
    const struct zb_self alone = {.ieee = 77};
    assert_int_equal(answer(&alone, 0x001f, &w, true, out), 0);
}

/* A broadcast is answered for a child that sleeps; another one answers for itself. */
static void a_child_that_listens_answers_for_itself(void **state)
{
    (void)state;
    struct zb_known all[MANY];
    uint8_t in[ZB_NWK_MAX], out[ZB_NWK_MAX];
    for (size_t i = 0; i < MANY; i++)
        all[i] = (struct zb_known){0x0100 + i, (uint16_t)(0x0100 + i), i % 2 ? 0x8c : 0x80, 0};
    const struct zb_self self = {.ieee = 77, .find = find, .user = all};
    for (size_t i = 0; i < 2; i++) {
        struct wr w = wr_of(in, sizeof in);
        wr_u8(&w, 9);
        wr_le64(&w, all[i].ieee);
        wr_le16(&w, 0);
        assert_int_equal(answer(&self, 0x0000, &w, false, out), 12);
        assert_int_equal(answer(&self, 0x0000, &w, true, out), i == 0 ? 12 : 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_are_read_and_built),     cmocka_unit_test(each_field_has_its_place),
        cmocka_unit_test(what_cannot_be_built_is_refused), cmocka_unit_test(long_lists_are_told_in_pieces),
        cmocka_unit_test(a_child_that_listens_answers_for_itself),
    };
    return cmocka_run_group_tests_name("zigbee network", tests, NULL, NULL);
}
