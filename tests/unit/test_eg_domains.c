/* Whose a key domain is, and a gateway: no stakeholder's devices have another one's key, or send through another one's
 * gateway, whatever became of it between. */
#include "mef-plugin/eg/records.h"
#include "tests/unit/eg_fixture.h"

static const char *const names[] = {"hall", "attic"}; /* of scope application, of scope network */

static void applications(struct world *w, const char *admin)
{
    put_application_as(w, admin, "hall", "{\"keyScope\":\"application\",\"members\":[]}");
    put_application_as(w, admin, "attic", "{\"keyScope\":\"network\",\"members\":[]}");
}

/* Registered, joined at GW and heard there; the network key that it got. */
static struct first_key join(struct world *w, const char *admin, eui64_t eui, const char *application)
{
    static uint64_t transaction;
    char json[128];
    struct call c;
    snprintf(json, sizeof json, "{\"installCode\":\"" CODE "\",\"application\":\"%s\"}", application);
    assert_int_equal(put_code_as(w, admin, eui, json, false, NULL), ST_CREATED);
    assert_int_equal(ask(w, GW, eui, ++transaction, &c), EGP_OK);
    struct first_key k = learn(w, &c, CODE_KEY);
    struct frame_bytes f = reading(w, k.key, eui, 1);
    uint64_t proved = metric(w, "eg_keys_proved_total");
    uplink(w, GW, &f);
    assert_int_equal(metric(w, "eg_keys_proved_total"), proved + 1);
    return k;
}

static bool same(const struct first_key *a, const struct first_key *b) { return memcmp(a->key, b->key, ZB_KEY) == 0; }

/* GW goes from ADMIN to OTHER_ADMIN, with a credential of that one's. */
static void hand_over(struct world *w)
{
    struct mef_result r = {0};
    struct store_txn *t = store_begin(w->store);
    eg_gateway_delete(w->eg, t, ADMIN, "operator:test", GW, &r);
    assert_int_equal(r.st, ST_DELETED);
    finish(w, t, &r);
    make_credential(w, OTHER_ADMIN, "gateway:hall", w->gw);
    assert_int_equal(put_gateway_as(w, OTHER_ADMIN, GW, w->gw, "", NULL), ST_CREATED);
}

static void a_gateway_that_changes_hands(void **state)
{
    struct world *w = *state;
    struct first_key before[2], after[2], again;
    applications(w, ADMIN);
    applications(w, OTHER_ADMIN);
    for (size_t i = 0; i < 2; i++)
        before[i] = join(w, ADMIN, 0x100 + i, names[i]);
    hand_over(w);
    for (size_t i = 0; i < 2; i++) {
        after[i] = join(w, OTHER_ADMIN, 0x200 + i, names[i]);
        assert_false(same(&before[0], &after[i]) || same(&before[1], &after[i]));
    }
    crash(w);
    for (size_t i = 0; i < 2; i++) {
        again = join(w, OTHER_ADMIN, 0x300 + i, names[i]);
        assert_true(same(&again, &after[i]));
    }
    unsigned domains = rows_of(w->store, STORE_DOMAIN);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(act(w, 0x100 + i, "revoke"), ST_OK);
    assert_int_equal(rows_of(w->store, STORE_DOMAIN), domains - 2); /* the others' stay */
    for (size_t i = 0; i < 2; i++) {
        again = join(w, OTHER_ADMIN, 0x400 + i, names[i]);
        assert_true(same(&again, &after[i]));
    }
}

static enum st ask_for_ticket(struct world *w)
{
    struct call c;
    begin(w, &c, CSE_CREATE, "mef/eg/devices/00158d0003123456/ticket", (struct span){0}, S_AE, w->ae);
    end(w, &c);
    cJSON_Delete(c.pc);
    return c.st;
}

/* What its former owner's devices still have there is nothing to the new one's gateway: it hears of them no more, sends
 * nothing for them, and their addresses are free. */
static void a_gateway_serves_its_owner_only(void **state)
{
    struct world *w = *state;
    applications(w, OTHER_ADMIN);
    enrol(w, DEV, 1);
    assert_int_equal(ask_for_ticket(w), ST_OK);
    hand_over(w);
    join(w, OTHER_ADMIN, DEV2, "hall"); /* at the same short address */
    assert_int_equal(metric(w, "eg_address_conflicts_total"), 0);
    size_t sent = w->h.nsent;
    assert_int_equal(ask_for_ticket(w), ST_UNREACHABLE);
    assert_int_equal(act(w, DEV, "revoke"), ST_OK);
    assert_int_equal(w->h.nsent, sent); /* neither a state nor a leave */
}

/* --- its end ------------------------------------------------------------------------------------------------------ */

/* Asked for again while the first exchange goes on, the key is in two records of the device, one of which ends with it. */
static void a_key_in_two_records_of_a_device(void **state)
{
    struct world *w = *state;
    struct call c;
    uint8_t link_key[ZB_KEY], tclk[ZB_KEY];
    assert_true(hex_decode(CODE_KEY, 2 * ZB_KEY, link_key, ZB_KEY));
    applications(w, ADMIN);
    unsigned keys = rows_of(w->store, STORE_KEY);
    for (int restarted = 0; restarted < 2; restarted++) {
        struct first_key k = join(w, ADMIN, DEV, "hall");
        assert_int_equal(ask(w, GW, DEV, 99 + (uint64_t)restarted, &c), EGP_OK);
        struct first_key again = learn(w, &c, CODE_KEY);
        assert_true(same(&k, &again));
        if (restarted)
            crash(w);
        assert_true(request_key(w, &k, DEV, 4, link_key, tclk));
        assert_true(verify_key(w, &k, DEV, 5, tclk));
        expect_device(w, DEV, "enrolled", NULL);
        assert_int_equal(rows_of(w->store, STORE_DOMAIN), 1);
        assert_int_equal(act(w, DEV, "revoke"), ST_OK);
        delete_code(w);
        assert_int_equal(rows_of(w->store, STORE_DOMAIN), 0);
        assert_int_equal(rows_of(w->store, STORE_KEY), keys);
    }
}

/* --- databases from before a domain was named by its stakeholder -------------------------------------------------- */

struct row {
    uint8_t key[EG_MAX_DOMAIN_NAME], val[32];
    struct wr k, v;
};
struct rows { /* of a table, at most these */
    struct row row[4];
    size_t n;
};

static bool take_row(void *user, struct span key, struct span val)
{
    struct rows *x = user;
    struct row *r = &x->row[x->n++];
    assert_true(x->n <= 4);
    r->k = wr_of(r->key, sizeof r->key);
    r->v = wr_of(r->val, sizeof r->val);
    wr_spanb(&r->k, key);
    wr_spanb(&r->v, val);
    return true;
}

/* x: the rows point into it. */
static void domain_rows(struct store *s, struct rows *x)
{
    x->n = 0;
    assert_int_equal(store_each(s, STORE_DOMAIN, take_row, x), ST_OK);
}

static void put_old_names(struct store *s, struct store_txn *t)
{
    struct rows x;
    domain_rows(s, &x);
    for (size_t i = 0; i < x.n; i++) {
        uint8_t buf[EG_MAX_DOMAIN_NAME];
        struct wr w = wr_of(buf, sizeof buf);
        struct domain_name name;
        assert_true(domain_name_decode(wr_span(&x.row[i].k), &name) && name.admin.n != 0);
        name.admin = (struct span){0};
        domain_name_encode(&name, &w);
        store_del(t, STORE_DOMAIN, wr_span(&x.row[i].k));
        store_put(t, STORE_DOMAIN, wr_span(&w), wr_span(&x.row[i].v));
    }
}

struct stolen {
    struct store_txn *t;
    eui64_t device;
};

static bool steal_device(void *user, struct span key, struct span val)
{
    const struct stolen *x = user;
    struct rd r = rd_of(key);
    struct device_row row;
    eui64_t eui = 0;
    uint8_t buf[EG_MAX_ROW];
    struct wr w = wr_of(buf, sizeof buf);
    assert_true(rd_be64(&r, &eui) && device_decode(val, &row));
    if (eui == x->device) {
        free(row.admin);
        row.admin = strdup(OTHER_ADMIN);
        device_encode(&row, &w);
        store_put(x->t, STORE_DEVICE, key, wr_span(&w));
    }
    device_row_free(&row);
    return true;
}

/* As the database would be: domains without a stakeholder, `stolen` (0: none) another one's under the same key. */
static void reopen_old(struct world *w, eui64_t stolen)
{
    settle(w);
    world_close(w);
    memset(w->h.timers, 0, sizeof w->h.timers);
    w->store = must_open(w->f);
    struct store_txn *t = store_begin(w->store);
    struct stolen x = {t, stolen};
    put_old_names(w->store, t);
    assert_int_equal(store_each(w->store, STORE_DEVICE, steal_device, &x), ST_OK);
    store_commit(t, NULL, NULL);
    store_flush(w->store);
    store_close(w->store);
    loop_drain(&w->f->loop);
    world_open(w);
}

/* Does each row say that the domain is this one's? */
static bool rows_name(struct world *w, size_t n, const char *admin)
{
    struct rows x;
    settle(w);
    domain_rows(w->store, &x);
    bool ok = x.n == n;
    for (size_t i = 0; i < x.n; i++) {
        struct domain_name name;
        assert_true(domain_name_decode(wr_span(&x.row[i].k), &name));
        ok = ok && name.admin.p != NULL && span_eq(name.admin, span_str(admin));
    }
    return ok;
}

static void an_old_domain_is_its_devices_owners(void **state)
{
    struct world *w = *state;
    struct first_key before[2], after;
    applications(w, ADMIN);
    for (size_t i = 0; i < 2; i++)
        before[i] = join(w, ADMIN, 0x100 + i, names[i]);
    reopen_old(w, 0);
    assert_true(rows_name(w, 2, ADMIN));
    for (size_t i = 0; i < 2; i++) {
        after = join(w, ADMIN, 0x200 + i, names[i]);
        assert_true(same(&before[i], &after));
    }
    crash(w);
    assert_true(rows_name(w, 2, ADMIN));
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(act(w, 0x100 + i, "revoke"), ST_OK);
        assert_int_equal(act(w, 0x200 + i, "revoke"), ST_OK);
    }
    assert_true(rows_name(w, 0, ADMIN));
}

/* Its key has come to two stakeholders' devices already: to no further one. */
static void an_old_domain_of_two_takes_in_no_more(void **state)
{
    struct world *w = *state;
    applications(w, ADMIN);
    struct first_key shared = join(w, ADMIN, 0x100, "hall");
    join(w, ADMIN, 0x101, "hall");
    reopen_old(w, 0x101);
    assert_true(rows_name(w, 1, ""));
    struct first_key fresh = join(w, ADMIN, 0x102, "hall");
    assert_false(same(&fresh, &shared));
    crash(w);
    struct first_key next = join(w, ADMIN, 0x103, "hall");
    assert_true(same(&next, &fresh));
    struct frame_bytes f = reading(w, shared.key, 0x100, 2); /* who has the old key is heard */
    uint64_t dropped = metric(w, "eg_uplink_dropped_total");
    uplink(w, GW, &f);
    assert_int_equal(metric(w, "eg_uplink_dropped_total"), dropped);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, world_new, world_free)
        T(a_gateway_that_changes_hands),
        T(a_gateway_serves_its_owner_only),
        T(a_key_in_two_records_of_a_device),
        T(an_old_domain_is_its_devices_owners),
        T(an_old_domain_of_two_takes_in_no_more),
#undef T
    };
    return cmocka_run_group_tests_name("eg domains", tests, NULL, NULL);
}
