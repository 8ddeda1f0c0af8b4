#include "mef-plugin/audit/record.h"
#include "tests/unit/audit_page.h"
#include "tests/unit/store_fixture.h"

#include <cjson/cJSON.h>
#include <sqlite3.h>

static int64_t clock_ms;

static int64_t test_time(void *user)
{
    (void)user;
    return clock_ms;
}

static const struct audit_host audit_host = {NULL, test_time};

static const struct audit_event put = {"a.example", "operator:ops", "install-code.put", "00158d0003123456", "ok"};
static const struct audit_event refused = {"", "gw1", "eg.refused", "00158d0003123456", "not-bound"};

static void add(struct audit *a, struct store *s, const struct audit_event *e)
{
    struct store_txn *t = store_begin(s);
    audit_add(a, t, e);
    store_commit(t, NULL, NULL);
}

static double number(const cJSON *page, int i, const char *name)
{
    return cJSON_GetNumberValue(cJSON_GetObjectItem(cJSON_GetArrayItem(page, i), name));
}

static const char *text(const cJSON *page, int i, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetArrayItem(page, i), name));
}

static cJSON *page_of(struct audit *a, struct store *s, const char *admin, uint64_t before, unsigned limit, int want)
{
    cJSON *page = audit_page(a, s, admin, before, limit);
    assert_non_null(page);
    assert_int_equal(cJSON_GetArraySize(page), want);
    return page;
}

static void pages_newest_first_of_one_admin(void **state)
{
    struct fixture *f = *state;
    struct store *s = must_open(f);
    clock_ms = 1795254201123;
    struct audit *a = audit_open(s, &audit_host);
    for (int i = 0; i < 10; i++) {
        struct audit_event other = put;
        other.admin = "b.example";
        add(a, s, i % 2 == 0 ? &put : &other);
    }
    cJSON *page = page_of(a, s, "a.example", 0, 3, 3);
    assert_true(number(page, 0, "seq") == 9 && number(page, 2, "seq") == 5);
    assert_string_equal(text(page, 0, "time"), "2026-11-21T09:43:21.123Z");
    assert_string_equal(text(page, 0, "actor"), "operator:ops");
    assert_string_equal(text(page, 0, "action"), "install-code.put");
    assert_string_equal(text(page, 0, "object"), "00158d0003123456");
    assert_string_equal(text(page, 0, "outcome"), "ok");
    assert_null(cJSON_GetObjectItem(cJSON_GetArrayItem(page, 0), "count"));
    cJSON_Delete(page);
    page = page_of(a, s, "a.example", 5, 1000, 2);
    assert_true(number(page, 0, "seq") == 3 && number(page, 1, "seq") == 1);
    cJSON_Delete(page);
    cJSON_Delete(page_of(a, s, "c.example", 0, 10, 0));
    cJSON_Delete(page_of(a, s, "a.example", 0, 0, 0));
    audit_close(a);
    store_close(s);
}

static void the_sequence_goes_on_after_a_restart(void **state)
{
    struct fixture *f = *state;
    for (int i = 1; i <= 3; i++) {
        struct store *s = must_open(f);
        struct audit *a = audit_open(s, &audit_host);
        add(a, s, &put);
        cJSON *page = page_of(a, s, "a.example", 0, 10, i);
        assert_true(number(page, 0, "seq") == i);
        cJSON_Delete(page);
        audit_close(a);
        store_close(s);
    }
}

static void an_aborted_act_leaves_no_row(void **state)
{
    struct fixture *f = *state;
    struct store *s = must_open(f);
    struct audit *a = audit_open(s, &audit_host);
    struct store_txn *t = store_begin(s);
    audit_add(a, t, &put);
    store_abort(t);
    t = store_begin(s);
    audit_add(a, t, &put);
    store_expect(t, STORE_DEVICE, span_str("x"), span_str("y"));
    store_commit(t, NULL, NULL);
    cJSON_Delete(page_of(a, s, "a.example", 0, 10, 0));
    audit_close(a);
    store_close(s);
}

static void repeated_notes_become_one_row(void **state)
{
    struct fixture *f = *state;
    struct store *s = must_open(f);
    struct audit *a = audit_open(s, &audit_host);
    struct store_stats st;
    clock_ms = 1000000;
    for (int i = 0; i < 500; i++, clock_ms += i % 2)
        audit_note(a, &refused);
    audit_note(a, &put);
    store_flush(s);
    store_stats_get(s, &st);
    assert_int_equal(st.rows, 2); /* the first of each at once, the repeats not at all yet */
    cJSON *page = page_of(a, s, "", 0, 10, 1);
    assert_true(number(page, 0, "count") == 500 && number(page, 0, "seq") == 1);
    cJSON_Delete(page);
    clock_ms += 5000;
    audit_note(a, &refused);
    audit_note(a, &refused);
    audit_close(a); /* writes the count */
    a = audit_open(s, &audit_host);
    page = page_of(a, s, "", 0, 10, 2);
    assert_true(number(page, 0, "count") == 2 && number(page, 0, "seq") == 3);
    cJSON_Delete(page);
    audit_close(a);
    store_close(s);
}

static void a_flood_of_different_notes_is_bounded(void **state)
{
    struct fixture *f = *state;
    struct store *s = must_open(f);
    struct audit *a = audit_open(s, &audit_host);
    struct store_stats st;
    clock_ms = 1000000;
    for (int i = 0; i < 10000; i++) {
        char object[32];
        struct audit_event e = refused;
        snprintf(object, sizeof object, "%016d", i);
        e.object = object;
        audit_note(a, &e);
    }
    cJSON *page = page_of(a, s, "", 0, 1000, 65);
    assert_string_equal(text(page, 0, "action"), "audit.suppressed");
    assert_true(number(page, 0, "count") == 10000 - 64);
    cJSON_Delete(page);
    store_stats_get(s, &st);
    assert_int_equal(st.rows, 65);
    audit_close(a);
    store_close(s);
}

static void hostile_text_is_tamed(void **state)
{
    struct fixture *f = *state;
    struct store *s = must_open(f);
    struct audit *a = audit_open(s, &audit_host);
    char longish[1000];
    memset(longish, 'x', sizeof longish - 1);
    longish[sizeof longish - 1] = '\0';
    add(a, s, &(struct audit_event){"a", "evil\n\"\xff\x1b[2J", NULL, longish, ""});
    cJSON *page = page_of(a, s, "a", 0, 10, 1);
    assert_string_equal(text(page, 0, "actor"), "evil?\"??[2J");
    assert_string_equal(text(page, 0, "action"), "");
    assert_int_equal(strlen(text(page, 0, "object")), 255);
    cJSON_Delete(page);
    audit_close(a);
    store_close(s);
}

static void damaged_rows_are_left_out(void **state)
{
    struct fixture *f = *state;
    struct store *s = must_open(f);
    struct audit *a = audit_open(s, &audit_host);
    for (int i = 0; i < 6; i++)
        add(a, s, &put);
    audit_close(a);
    store_close(s);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db,
                                  "UPDATE audit SET v = x'' WHERE k = x'0000000000000001';"
                                  "UPDATE audit SET v = substr(v, 1, 40) WHERE k = x'0000000000000002';"
                                  "UPDATE audit SET v = CAST(v || x'00' AS BLOB) WHERE k = x'0000000000000003';"
                                  "UPDATE audit SET v = CAST(x'01ffffff' || substr(v, 5) AS BLOB)"
                                  " WHERE k = x'0000000000000004';"
                                  "UPDATE audit SET k = x'0102' WHERE k = x'0000000000000005'",
                                  NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    s = must_open(f);
    a = audit_open(s, &audit_host);
    cJSON_Delete(page_of(a, s, "a.example", 0, 10, 1));
    audit_close(a);
    store_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pages_newest_first_of_one_admin, setup, teardown),
        cmocka_unit_test_setup_teardown(the_sequence_goes_on_after_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(an_aborted_act_leaves_no_row, setup, teardown),
        cmocka_unit_test_setup_teardown(repeated_notes_become_one_row, setup, teardown),
        cmocka_unit_test_setup_teardown(a_flood_of_different_notes_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile_text_is_tamed, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_rows_are_left_out, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
