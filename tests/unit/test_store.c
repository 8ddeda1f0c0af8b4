#include "cse-shim/base/hex.h"
#include "tests/unit/store_fixture.h"

#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- completion ----------------------------------------------------------------------------------------------------- */

struct order {
    size_t n;
    enum st st[2000];
    uint64_t who[2000];
};
struct ticket {
    struct order *order;
    uint64_t who;
};

static void note_done(void *user, enum st st)
{
    struct ticket *t = user;
    t->order->st[t->order->n] = st;
    t->order->who[t->order->n++] = t->who;
}

static void completes_in_order_and_groups(void **state)
{
    enum { N = 1000 };
    struct fixture *f = *state;
    struct store *s = must_open(f);
    struct order *order = calloc(1, sizeof *order);
    struct ticket *tickets = calloc(N, sizeof *tickets);
    struct store_stats st;
    for (uint64_t i = 0; i < N; i++) {
        tickets[i] = (struct ticket){order, i};
        assert_int_equal(put_num(s, STORE_DEVICE, i, i, note_done, &tickets[i]), i + 1);
    }
    assert_int_equal(order->n, 0); /* never before the loop runs */
    while (order->n < N)
        loop_step(&f->loop);
    for (uint64_t i = 0; i < N; i++)
        assert_true(order->who[i] == i && order->st[i] == ST_OK);
    assert_int_equal(store_durable(s), N);
    store_stats_get(s, &st);
    assert_int_equal(st.transactions, N);
    assert_int_equal(st.rows, N);
    assert_int_equal(st.queued, 0);
    assert_in_range(st.commits, 4, 20); /* 256 each at most; the first ones may begin while the rest still comes */
    store_close(s);
    loop_drain(&f->loop);
    free(tickets);
    free(order);
}

/* One new transaction each time that the committer has said something, and others meanwhile. */
static void commits_go_on_while_the_disk_works(void **state)
{
    enum { N = 400 };
    struct fixture *f = *state;
    struct store *s = must_open(f);
    struct order order = {0};
    struct ticket tickets[N];
    struct store_stats st;
    for (uint64_t i = 0; i < N; i++) {
        tickets[i] = (struct ticket){&order, i};
        assert_int_equal(put_num(s, STORE_DEVICE, i, i, note_done, &tickets[i]), i + 1);
        if (i % 4 == 0)
            loop_step(&f->loop);
        else
            usleep(100);
    }
    while (order.n < N)
        loop_step(&f->loop);
    for (uint64_t i = 0; i < N; i++)
        assert_true(order.who[i] == i && order.st[i] == ST_OK);
    store_stats_get(s, &st);
    assert_true(st.transactions == N && st.queued == 0);
    store_close(s);
    loop_drain(&f->loop);
}

static void after_waits_for_its_transaction(void **state)
{
    struct fixture *f = *state;
    struct store *s = must_open(f);
    struct order order = {0};
    struct ticket a = {&order, 1}, b = {&order, 2}, c = {&order, 3};
    uint64_t seq = put_num(s, STORE_DEVICE, 1, 1, note_done, &a);
    store_after(s, seq, note_done, &b);
    assert_int_equal(order.n, 0);
    while (order.n < 2)
        loop_step(&f->loop);
    assert_true(order.who[0] == 1 && order.who[1] == 2 && order.st[1] == ST_OK);
    store_after(s, seq, note_done, &c);
    assert_true(order.n == 3 && order.who[2] == 3); /* at once */
    store_close(s);
}

static void flush_delivers_and_close_drops(void **state)
{
    struct fixture *f = *state;
    struct store *s = must_open(f);
    struct order order = {0};
    struct ticket a = {&order, 1}, b = {&order, 2};
    put_num(s, STORE_DEVICE, 1, 10, note_done, &a);
    store_flush(s);
    assert_int_equal(order.n, 1);
    store_after(s, put_num(s, STORE_DEVICE, 2, 20, note_done, &b), note_done, &b);
    store_close(s);
    loop_drain(&f->loop);
    assert_int_equal(order.n, 1);
    s = must_open(f);
    struct numbers r = all(s, STORE_DEVICE);
    assert_true(r.n == 2 && r.v[1] == 20); /* durable all the same */
    store_close(s);
}

/* --- what a transaction can do -------------------------------------------------------------------------------------- */

static void expectations_fail_alone_and_whole(void **state)
{
    struct fixture *f = *state;
    struct store *s = must_open(f);
    struct order order = {0};
    struct ticket w[4] = {{&order, 0}, {&order, 1}, {&order, 2}, {&order, 3}};
    uint8_t a[8], b[8], c[8];
    put_num(s, STORE_GATEWAY_EPOCH, 1, 7, note_done, &w[0]);
    struct store_txn *t = store_begin(s); /* a write before the failing expectation must go, too */
    store_put(t, STORE_DEVICE, num(a, 50), num(b, 50));
    store_expect(t, STORE_GATEWAY_EPOCH, num(a, 1), num(c, 6));
    store_put(t, STORE_DEVICE, num(a, 51), num(b, 51));
    store_commit(t, note_done, &w[1]);
    t = store_begin(s);
    store_expect(t, STORE_GATEWAY_EPOCH, num(a, 1), num(c, 7));
    store_expect(t, STORE_GATEWAY_EPOCH, num(a, 2), (struct span){0});
    store_put(t, STORE_GATEWAY_EPOCH, num(a, 1), num(b, 8));
    store_commit(t, note_done, &w[2]);
    t = store_begin(s);
    store_expect(t, STORE_GATEWAY_EPOCH, num(a, 1), (struct span){0}); /* present: conflict */
    store_del(t, STORE_GATEWAY_EPOCH, num(a, 1));
    store_commit(t, note_done, &w[3]);
    store_flush(s);
    const enum st want[] = {ST_OK, ST_CONFLICT, ST_OK, ST_CONFLICT};
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(order.st[i], want[i]);
    struct numbers devices = all(s, STORE_DEVICE), epochs = all(s, STORE_GATEWAY_EPOCH);
    assert_int_equal(devices.n, 0);
    assert_true(epochs.n == 1 && epochs.v[0] == 8);
    store_close(s);
}

static void raise_never_goes_back(void **state)
{
    struct fixture *f = *state;
    struct store *s = must_open(f);
    const uint64_t given[] = {5, 3, 255, 256, 9};
    uint8_t a[8], b[8];
    for (size_t i = 0; i < 5; i++) {
        struct store_txn *t = store_begin(s);
        store_raise(t, STORE_COUNTER, num(a, 1), num(b, given[i]));
        store_commit(t, NULL, NULL);
    }
    assert_int_equal(all(s, STORE_COUNTER).v[0], 256);
    store_close(s);
}

static void rows_of_all_sizes_survive(void **state)
{
    struct fixture *f = *state;
    struct store *s = must_open(f);
    struct order order = {0};
    struct ticket w[3] = {{&order, 0}, {&order, 1}, {&order, 2}};
    static uint8_t big[(1 << 20) + 1], key[1025];
    memset(big, 0xa5, sizeof big);
    struct store_txn *t = store_begin(s);
    store_put(t, STORE_TRANSACTION, span_of(key, 1024), span_of(big, 1 << 20));
    store_put(t, STORE_TRANSACTION, span_of("e", 1), (struct span){0});
    store_commit(t, note_done, &w[0]);
    t = store_begin(s);
    store_put(t, STORE_TRANSACTION, span_of("x", 1), span_of(big, sizeof big)); /* too long: fails alone */
    store_commit(t, note_done, &w[1]);
    t = store_begin(s);
    store_put(t, STORE_TRANSACTION, (struct span){0}, span_of(big, 1));
    store_commit(t, note_done, &w[2]);
    store_abort(store_begin(s));
    store_flush(s);
    assert_true(order.st[0] == ST_OK && order.st[1] == ST_INTERNAL && order.st[2] == ST_INTERNAL);
    store_close(s);
    s = must_open(f);
    struct store_stats st;
    store_stats_get(s, &st);
    assert_int_equal(st.transactions, 0);
    store_close(s);
    sqlite3 *db;
    sqlite3_stmt *q;
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT length(k), length(v) FROM \"transaction\" ORDER BY k", -1, &q, NULL), 0);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    assert_true(sqlite3_column_int(q, 0) == 1024 && sqlite3_column_int(q, 1) == 1 << 20);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    assert_true(sqlite3_column_int(q, 0) == 1 && sqlite3_column_int(q, 1) == 0);
    assert_int_equal(sqlite3_step(q), SQLITE_DONE);
    sqlite3_finalize(q);
    sqlite3_close(db);
}

static void pages_both_ways(void **state)
{
    struct fixture *f = *state;
    struct store *s = must_open(f);
    uint8_t a[8];
    for (uint64_t i = 1; i <= 10; i++)
        put_num(s, STORE_AUDIT, i, i * i, NULL, NULL);
    struct numbers r = {0}; /* sees what was committed just now */
    assert_int_equal(store_page(s, STORE_AUDIT, (struct span){0}, true, 3, collect, &r), ST_OK);
    assert_true(r.n == 3 && r.k[0] == 10 && r.k[2] == 8 && r.v[0] == 100);
    r = (struct numbers){0};
    assert_int_equal(store_page(s, STORE_AUDIT, num(a, 8), true, 2, collect, &r), ST_OK);
    assert_true(r.n == 2 && r.k[0] == 7);
    r = (struct numbers){0};
    assert_int_equal(store_page(s, STORE_AUDIT, num(a, 8), false, 9, collect, &r), ST_OK);
    assert_true(r.n == 2 && r.k[0] == 9 && r.k[1] == 10);
    r = (struct numbers){.stop_at = 4};
    assert_int_equal(store_each(s, STORE_AUDIT, collect, &r), ST_OK);
    assert_true(r.n == 4 && r.k[3] == 4);
    store_close(s);
}

struct page_read {
    struct numbers rows;
    pthread_t by;
    enum st st;
};

static bool collect_there(void *user, struct span key, struct span val)
{
    struct page_read *p = user;
    p->by = pthread_self();
    return collect(&p->rows, key, val);
}

static void page_is_read(void *user, enum st st) { ((struct page_read *)user)->st = st; }

static void reads_take_their_turn_beside_the_loop(void **state)
{
    struct fixture *f = *state;
    struct store *s = must_open(f);
    struct store_stats stats;
    struct page_read p = {.st = ST_UNAVAILABLE};
    uint8_t a[8];
    put_num(s, STORE_AUDIT, 1, 1, NULL, NULL);
    put_num(s, STORE_AUDIT, 2, 4, NULL, NULL);
    store_read(s, STORE_AUDIT, num(a, 3), true, 9, collect_there, page_is_read, &p);
    memset(a, 0, sizeof a); /* the key was copied */
    put_num(s, STORE_AUDIT, 1, 100, NULL, NULL);
    assert_int_equal(p.st, ST_UNAVAILABLE);
    store_flush(s);
    assert_int_equal(p.st, ST_OK);
    assert_false(pthread_equal(p.by, pthread_self()));
    assert_true(p.rows.n == 2 && p.rows.k[0] == 2 && p.rows.v[1] == 1); /* what came later is not in it */
    store_stats_get(s, &stats);
    assert_true(stats.transactions == 3 && stats.commits == 2 && stats.queued == 0);
    store_read(s, STORE_AUDIT, span_of(NULL, 0), false, 9, collect_there, page_is_read, &p);
    store_close(s); /* what nobody waited for is dropped */
}

/* --- trouble -------------------------------------------------------------------------------------------------------- */

/* The file-size limit stands for a full disk: SQLite meets a failing write in the middle of a commit. */
static void a_full_disk_is_fatal_and_acknowledges_nothing(void **state)
{
    struct fixture *f = *state;
    pid_t child = fork();
    if (child == 0) {
        struct order order = {0};
        struct ticket w = {&order, 1};
        static uint8_t big[200000];
        signal(SIGXFSZ, SIG_IGN);
        struct store *s = store_open(f->url, &f->host, f->err, sizeof f->err);
        put_num(s, STORE_DEVICE, 1, 1, note_done, &w);
        store_flush(s);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){150000, 150000});
        struct store_txn *t = store_begin(s);
        store_put(t, STORE_DEVICE, span_of("big", 3), span_of(big, sizeof big));
        uint64_t seq = store_commit(t, note_done, &w);
        put_num(s, STORE_DEVICE, 2, 2, note_done, &w);
        store_after(s, seq, note_done, &w);
        while (f->loop.fatal == 0)
            loop_step(&f->loop);
        put_num(s, STORE_DEVICE, 3, 3, note_done, &w); /* nor anything later */
        struct numbers r = {0};
        bool unreadable = store_each(s, STORE_DEVICE, collect, &r) == ST_INTERNAL;
        store_flush(s);
        bool good = order.n == 1 && f->loop.fatal == 1 && store_durable(s) == 1 && unreadable &&
                    strstr(f->loop.why, "commit failed") != NULL;
        store_close(s);
        loop_drain(&f->loop);
        _exit(good && order.n == 1 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    struct store *s = must_open(f);
    struct numbers r = all(s, STORE_DEVICE);
    assert_true(r.n == 1 && r.k[0] == 1);
    store_close(s);
}

/* The child writes pairs (i in two tables) and reports each acknowledged i through the pipe. */
struct reporter {
    int fd;
    uint64_t i;
};

static void report(void *user, enum st st)
{
    struct reporter *r = user;
    if (st == ST_OK && write(r->fd, &r->i, sizeof r->i) != sizeof r->i)
        _exit(3);
    free(r);
}

static void write_pairs(struct fixture *f, int fd, uint64_t from)
{
    struct store *s = store_open(f->url, &f->host, f->err, sizeof f->err);
    if (s == NULL)
        _exit(2);
    for (uint64_t i = from;; i++) {
        uint8_t a[8];
        struct store_txn *t = store_begin(s);
        struct reporter *r = malloc(sizeof *r);
        *r = (struct reporter){fd, i};
        store_put(t, STORE_DEVICE, num(a, i), num(a, i));
        if (i % 3 == 0)
            store_expect(t, STORE_INSTALL_CODE, num(a, i), (struct span){0});
        store_put(t, STORE_INSTALL_CODE, num(a, i), num(a, i));
        store_commit(t, report, r);
        if (i % 16 == 0)
            loop_step(&f->loop);
        loop_drain(&f->loop);
    }
}

static bool highest(void *user, struct span key, struct span val)
{
    uint64_t *n = user, k = 0;
    struct rd r = rd_of(key);
    (void)val;
    assert_true(rd_be64(&r, &k) && k == *n + 1); /* no hole */
    *n = k;
    return true;
}

static void kill_loses_nothing_acknowledged(void **state)
{
    struct fixture *f = *state;
    uint64_t acknowledged = 0, devices = 0, total = 0;
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    for (int round = 0; round < 40; round++) {
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        pid_t child = fork();
        if (child == 0) {
            close(fds[0]);
            write_pairs(f, fds[1], devices + 1);
        }
        close(fds[1]);
        kill_at_random(child, fds[0], round, &seed);
        for (uint64_t i; read(fds[0], &i, sizeof i) == sizeof i; total++)
            acknowledged = i;
        close(fds[0]);
        waitpid(child, NULL, 0);

        struct store *s = must_open(f);
        uint64_t codes = 0;
        devices = 0;
        assert_int_equal(store_each(s, STORE_DEVICE, highest, &devices), ST_OK);
        assert_int_equal(store_each(s, STORE_INSTALL_CODE, highest, &codes), ST_OK);
        assert_int_equal(devices, codes);          /* whole or absent */
        assert_true(devices >= acknowledged);      /* nothing acknowledged is lost */
        store_close(s);
    }
    print_message("%llu acknowledged\n", (unsigned long long)total);
    assert_true(total >= 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(completes_in_order_and_groups, setup, teardown),
        cmocka_unit_test_setup_teardown(commits_go_on_while_the_disk_works, setup, teardown),
        cmocka_unit_test_setup_teardown(after_waits_for_its_transaction, setup, teardown),
        cmocka_unit_test_setup_teardown(flush_delivers_and_close_drops, setup, teardown),
        cmocka_unit_test_setup_teardown(expectations_fail_alone_and_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(raise_never_goes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(rows_of_all_sizes_survive, setup, teardown),
        cmocka_unit_test_setup_teardown(pages_both_ways, setup, teardown),
        cmocka_unit_test_setup_teardown(reads_take_their_turn_beside_the_loop, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_is_fatal_and_acknowledges_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(kill_loses_nothing_acknowledged, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
