#include "mef-plugin/vault/internal.h"
#include "tests/unit/vault_fixture.h"

#include <cjson/cJSON.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static void refused(struct fixture *f, const char *want)
{
    struct store *s = must_open(f);
    struct vault *v = vault_open(s, kek_path(f).s, &vault_host, f->err, sizeof f->err);
    assert_null(v);
    store_close(s);
    if (strstr(f->err, want) == NULL)
        fail_msg("\"%s\" lacks \"%s\"", f->err, want);
}

static uint32_t take(struct both b, vault_id id, eui64_t source, unsigned n)
{
    uint32_t first = 0;
    struct store_txn *t = store_begin(b.s);
    assert_int_equal(vault_take(b.v, t, id, source, n, &first), ST_OK);
    store_commit(t, NULL, NULL);
    return first;
}

static void drop(struct both b, vault_id id)
{
    struct store_txn *t = store_begin(b.s);
    vault_delete(b.v, t, id);
    store_commit(t, NULL, NULL);
}

#define KEY_A "c0ffee00112233445566778899aabb01"
#define KEY_B "c0ffee00112233445566778899aabb02"

/* --- keys ----------------------------------------------------------------------------------------------------------- */

static void keys_survive_and_come_out_as_they_went_in(void **state)
{
    struct fixture *f = *state;
    struct both b = open_both(f);
    char hex[129], b64[96];
    uint8_t raw[64];
    vault_id ids[3] = {import(b, VAULT_LINK_KEY, KEY_A), import(b, VAULT_SYMM_KEY, KEY_A KEY_B KEY_A KEY_B)};
    struct store_txn *t = store_begin(b.s);
    assert_int_equal(vault_generate(b.v, t, VAULT_PSK, 24, &ids[2]), ST_OK);
    assert_int_equal(vault_generate(b.v, t, VAULT_PSK, 15, &ids[2]), ST_UNACCEPTABLE);
    assert_int_equal(vault_generate(b.v, t, VAULT_TOKEN_MAC, 32, &ids[2]), ST_UNACCEPTABLE);
    store_commit(t, NULL, NULL);
    for (int round = 0; round < 2; round++) {
        assert_true(vault_release_hex(b.v, ids[0], hex, 33) && strcmp(hex, KEY_A) == 0);
        assert_false(vault_release_hex(b.v, ids[0], hex, 32));
        assert_true(vault_release_base64(b.v, ids[0], b64, 25) && strcmp(b64, "wP/uABEiM0RVZneImaq7AQ==") == 0);
        assert_false(vault_release_base64(b.v, ids[0], b64, 24));
        assert_true(vault_release_hex(b.v, ids[1], hex, sizeof hex) && strcmp(hex, KEY_A KEY_B KEY_A KEY_B) == 0);
        assert_int_equal(vault_release(b.v, ids[2], raw, sizeof raw), 24);
        assert_int_equal(vault_release(b.v, ids[2], raw, 23), 0);
        assert_int_equal(vault_release(b.v, 77, raw, sizeof raw), 0);
        assert_false(vault_release_hex(b.v, 0, hex, sizeof hex) || vault_release_base64(b.v, 0, b64, sizeof b64));
        close_both(b);
        b = open_both(f);
    }
    vault_id same = import(b, VAULT_NETWORK_KEY, KEY_A), differs = import(b, VAULT_LINK_KEY, KEY_B);
    assert_true(vault_same(b.v, ids[0], same));
    assert_false(vault_same(b.v, ids[0], differs) || vault_same(b.v, 0, 0) || vault_same(b.v, ids[0], ids[1]));
    close_both(b);
}

static void ids_are_never_used_again(void **state)
{
    struct fixture *f = *state;
    struct both b = open_both(f);
    vault_id a = import(b, VAULT_LINK_KEY, KEY_A), c = import(b, VAULT_LINK_KEY, KEY_B);
    assert_true(c == a + 1 && vault_has(b.v, c));
    drop(b, c);
    drop(b, a);
    drop(b, a); /* twice is harmless */
    assert_false(vault_has(b.v, c));
    close_both(b);
    b = open_both(f);
    assert_false(vault_has(b.v, a));
    assert_int_equal(import(b, VAULT_LINK_KEY, KEY_A), c + 1);
    close_both(b);
}

static void many_keys_come_and_go(void **state)
{
    enum { N = 2000 };
    struct fixture *f = *state;
    struct both b = open_both(f);
    static vault_id ids[N];
    for (int round = 0; round < 2; round++) {
        struct store_txn *t = store_begin(b.s);
        for (size_t i = 0; i < N; i++)
            if (ids[i] == 0)
                assert_int_equal(vault_generate(b.v, t, i % 7 == 0 ? VAULT_PSK : VAULT_NETWORK_KEY, i % 7 == 0 ? 32 : 16,
                                                &ids[i]), ST_OK);
        for (size_t i = round; i < N; i += 3) {
            vault_delete(b.v, t, ids[i]);
            ids[i] = 0;
        }
        store_commit(t, NULL, NULL);
    }
    close_both(b);
    b = open_both(f);
    uint8_t key[64];
    for (size_t i = 0; i < N; i++)
        assert_int_equal(vault_release(b.v, ids[i], key, sizeof key), ids[i] == 0 ? 0 : i % 7 == 0 ? 32 : 16);
    close_both(b);
}

static void public_short_and_broken_keys_are_refused(void **state)
{
    struct fixture *f = *state;
    struct both b = open_both(f);
    struct store_txn *t = store_begin(b.s);
    const char *why = NULL;
    vault_id id = 0;
    uint8_t zero[16] = {0};
    assert_int_equal(vault_import(b.v, t, VAULT_LINK_KEY, span_str("ZigBeeAlliance09"), &id), ST_UNACCEPTABLE);
    assert_int_equal(vault_import(b.v, t, VAULT_NETWORK_KEY, span_of(zero, 16), &id), ST_UNACCEPTABLE);
    assert_int_equal(vault_import(b.v, t, VAULT_LINK_KEY, span_str("fifteen bytes.."), &id), ST_UNACCEPTABLE);
    assert_int_equal(vault_import_key_text(b.v, t, "5a6967426565416c6c69616e63653039", &id, &why), ST_UNACCEPTABLE);
    assert_string_equal(why, "public-key");
    assert_int_equal(vault_import_key_text(b.v, t, "5a67", &id, &why), ST_BAD_REQUEST);
    assert_string_equal(why, "bad-length");
    assert_int_equal(vault_import_key_text(b.v, t, "zz6967426565416c6c69616e63653039", &id, &why), ST_BAD_REQUEST);
    assert_string_equal(why, "bad-hex");
    assert_int_equal(vault_import_code_text(b.v, t, "83FE D340 7A93 2B71", true, &id, &why), ST_BAD_REQUEST);
    assert_string_equal(why, "bad-crc");
    assert_int_equal(vault_import_code_text(b.v, t, "83FED3", true, &id, &why), ST_BAD_REQUEST);
    assert_string_equal(why, "bad-length");
    assert_int_equal(vault_import_code_text(b.v, t, "83FED3407A932B7x", true, &id, &why), ST_BAD_REQUEST);
    assert_string_equal(why, "bad-hex");
    assert_int_equal(vault_import_code_text(b.v, t, "83FED3407A932B70", false, &id, &why), ST_UNACCEPTABLE);
    assert_string_equal(why, "short-code");
    assert_int_equal(id, 0);
    assert_int_equal(vault_import_code_text(b.v, t, "83FE-D340-7A93-2B70", true, &id, &why), ST_OK);
    store_commit(t, NULL, NULL);
    char hex[33];
    assert_true(vault_release_hex(b.v, id, hex, sizeof hex) && strcmp(hex, "cd4fa064773f46941ec986c09963d1a8") == 0);
    close_both(b);
}

static void a_secrets_mac_is_stable_and_separated(void **state)
{
    struct fixture *f = *state;
    uint8_t m[4][32];
    struct both b = open_both(f);
    assert_true(vault_mac(b.v, "token", span_str("abc"), m[0]) && vault_mac(b.v, "token", span_str("abd"), m[1]) &&
                vault_mac(b.v, "other", span_str("abc"), m[2]));
    close_both(b);
    b = open_both(f);
    assert_true(vault_mac(b.v, "token", span_str("abc"), m[3]));
    assert_memory_equal(m[0], m[3], 32);
    assert_memory_not_equal(m[0], m[1], 32);
    assert_memory_not_equal(m[0], m[2], 32);
    close_both(b);
}

/* --- counters ------------------------------------------------------------------------------------------------------- */

static void counters_go_on_for_the_same_key(void **state)
{
    struct fixture *f = *state;
    struct both b = open_both(f);
    vault_id a = import(b, VAULT_LINK_KEY, KEY_A), other = import(b, VAULT_LINK_KEY, KEY_B);
    assert_int_equal(take(b, a, gateway, 1), 1);
    assert_int_equal(take(b, a, gateway, 16), 2);
    assert_int_equal(take(b, a, other_gateway, 1), 1);
    assert_int_equal(take(b, other, gateway, 1), 1);
    drop(b, a);
    close_both(b);
    b = open_both(f);
    vault_id again = import(b, VAULT_LINK_KEY, KEY_A); /* registered again: the same bytes under another id */
    assert_int_not_equal(again, a);
    assert_int_equal(take(b, again, gateway, 1), 18);
    uint32_t first;
    struct store_txn *t = store_begin(b.s);
    assert_int_equal(vault_take(b.v, t, again, gateway, 0, &first), ST_BAD_REQUEST);
    assert_int_equal(vault_take(b.v, t, again, gateway, 17, &first), ST_BAD_REQUEST);
    assert_int_equal(vault_take(b.v, t, a, gateway, 1, &first), ST_NOT_FOUND);
    store_abort(t);
    close_both(b);
}

/* Two transactions open at once and committed the other way round: the row keeps the greater number. */
static void order_of_commits_does_not_matter(void **state)
{
    struct fixture *f = *state;
    struct both b = open_both(f);
    uint32_t first[2];
    vault_id a = import(b, VAULT_LINK_KEY, KEY_A);
    struct store_txn *t = store_begin(b.s), *u = store_begin(b.s);
    assert_int_equal(vault_take(b.v, t, a, gateway, 1, &first[0]), ST_OK);
    assert_int_equal(vault_take(b.v, u, a, gateway, 1, &first[1]), ST_OK);
    store_commit(u, NULL, NULL);
    store_commit(t, NULL, NULL);
    close_both(b);
    b = open_both(f);
    assert_int_equal(take(b, a, gateway, 1), 3);
    close_both(b);
}

static void run_sql(const struct fixture *f, const char *sql)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s", sqlite3_errmsg(db));
    assert_true(sqlite3_changes(db) > 0);
    sqlite3_close(db);
}

static void all_ones_is_never_given(void **state)
{
    struct fixture *f = *state;
    struct both b = open_both(f);
    uint32_t first;
    vault_id a = import(b, VAULT_LINK_KEY, KEY_A);
    assert_int_equal(take(b, a, gateway, 1), 1);
    close_both(b);
    run_sql(f, "UPDATE counter SET v = x'fffffffd'");
    b = open_both(f);
    struct store_txn *t = store_begin(b.s);
    assert_int_equal(vault_take(b.v, t, a, gateway, 3, &first), ST_UNAVAILABLE);
    assert_int_equal(vault_take(b.v, t, a, gateway, 2, &first), ST_OK);
    assert_int_equal(first, 0xfffffffd);
    assert_int_equal(vault_take(b.v, t, a, gateway, 1, &first), ST_UNAVAILABLE);
    store_commit(t, NULL, NULL);
    close_both(b);
    b = open_both(f);
    t = store_begin(b.s);
    assert_int_equal(vault_take(b.v, t, a, gateway, 1, &first), ST_UNAVAILABLE);
    store_abort(t);
    close_both(b);
}

struct reporter {
    int fd;
    uint32_t counter;
};

static void report(void *user, enum st st)
{
    struct reporter *r = user;
    if (st == ST_OK && write(r->fd, &r->counter, sizeof r->counter) != sizeof r->counter)
        _exit(3);
    free(r);
}

static void count_forever(struct fixture *f, int fd, vault_id key)
{
    struct both b = open_both(f);
    for (unsigned i = 0;; i++) {
        struct store_txn *t = store_begin(b.s);
        struct reporter *r = malloc(sizeof *r);
        *r = (struct reporter){.fd = fd};
        if (vault_take(b.v, t, key, gateway, 1 + i % 16, &r->counter) != ST_OK)
            _exit(2);
        store_commit(t, report, r);
        if (i % 8 == 0)
            loop_step(&f->loop);
        loop_drain(&f->loop);
    }
}

static void no_counter_is_given_twice_across_kills(void **state)
{
    struct fixture *f = *state;
    struct both b = open_both(f);
    vault_id key = import(b, VAULT_LINK_KEY, KEY_A);
    close_both(b);
    uint32_t highest = 0;
    size_t total = 0;
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    for (int round = 0; round < 30; round++) {
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        pid_t child = fork();
        if (child == 0) {
            close(fds[0]);
            count_forever(f, fds[1], key);
        }
        close(fds[1]);
        kill_at_random(child, fds[0], round, &seed);
        for (uint32_t c; read(fds[0], &c, sizeof c) == sizeof c; highest = c, total++)
            assert_true(c > highest);
        close(fds[0]);
        waitpid(child, NULL, 0);
    }
    b = open_both(f);
    assert_true(take(b, key, gateway, 1) > highest);
    close_both(b);
    print_message("%zu counters acknowledged, highest %u\n", total, highest);
    assert_true(total >= 15);
}

/* --- opening -------------------------------------------------------------------------------------------------------- */

static void the_kek_file_must_be_right(void **state)
{
    struct fixture *f = *state;
    struct kek_path p = kek_path(f);
    refused(f, "No such file");
    write_kek(f, 1, 31, 0600);
    refused(f, "not exactly 32 bytes");
    write_kek(f, 1, 33, 0600);
    refused(f, "not exactly 32 bytes");
    write_kek(f, 1, 32, 0640);
    refused(f, "open to group or others");
    write_kek(f, 1, 32, 0604);
    refused(f, "open to group or others");
    unlink(p.s);
    assert_int_equal(mkfifo(p.s, 0600), 0);
    refused(f, "not a regular file");
    unlink(p.s);
    assert_int_equal(mkdir(p.s, 0700), 0);
    refused(f, "not a regular file");
    rmdir(p.s);
}

static void a_wrong_kek_is_refused(void **state)
{
    struct fixture *f = *state;
    struct both b = open_both(f);
    vault_id id = import(b, VAULT_LINK_KEY, KEY_A);
    close_both(b);
    write_kek(f, 0x5b, 32, 0600);
    refused(f, "is not the one this database was made with");
    write_kek(f, 0x5a, 32, 0600);
    b = open_both(f);
    assert_true(vault_has(b.v, id));
    close_both(b);
}

static void damage_is_named_and_refused(void **state)
{
    static const struct {
        const char *sql, *want;
    } cases[] = {
        {"UPDATE key SET v = CAST(substr(v, 1, 20) || x'00' || substr(v, 22) AS BLOB) WHERE k = x'0000000000000002'",
         "key row 0000000000000002: does not open"},
        {"UPDATE key SET v = substr(v, 1, 20) WHERE k = x'0000000000000001'", "key row 0000000000000001: does not open"},
        {"UPDATE key SET v = (SELECT v FROM key WHERE k = x'0000000000000001') WHERE k = x'0000000000000002'",
         "key row 0000000000000002: does not open"}, /* a row moved to another id */
        {"UPDATE key SET v = CAST(substr(v, 1, 1) || x'02' || substr(v, 3) AS BLOB) WHERE k = x'0000000000000001'",
         "key row 0000000000000001: does not open"}, /* another kind */
        {"UPDATE key SET k = x'00' WHERE k = x'0000000000000001'", "key row 00: not a key id"},
        {"UPDATE counter SET v = x'010203'", "counter row"},
        {"UPDATE counter SET k = x'0102'", "counter row 0102"},
        {"DELETE FROM meta WHERE k = CAST('vault.root' AS BLOB)", "check value is missing"},
        {"UPDATE meta SET v = x'00' WHERE k = CAST('vault.root' AS BLOB)", "check value is damaged"},
        {"UPDATE meta SET v = x'00' WHERE k = CAST('vault.next-id' AS BLOB)", "highest key id is damaged"},
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unlink(f->path);
        struct both b = open_both(f);
        vault_id id = import(b, VAULT_LINK_KEY, KEY_A);
        import(b, VAULT_LINK_KEY, KEY_B);
        take(b, id, gateway, 1);
        drop(b, import(b, VAULT_NETWORK_KEY, KEY_B));
        close_both(b);
        run_sql(f, cases[i].sql);
        refused(f, cases[i].want);
    }
}

/* --- secrecy in memory ---------------------------------------------------------------------------------------------- */

/* How often do the 16 bytes mask ^ 0xff.. stand in writable memory? The pattern itself is kept masked. */
static size_t in_memory(const uint8_t masked[16])
{
    size_t hits = 0;
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    int mem = open("/proc/self/mem", O_RDONLY);
    enum { CHUNK = 1 << 20 };
    uint8_t *buf = malloc(CHUNK);
    while (fgets(line, sizeof line, maps) != NULL) {
        unsigned long from, to;
        char perm[5];
        if (sscanf(line, "%lx-%lx %4s", &from, &to, perm) != 3 || perm[1] != 'w' || strstr(line, "[v") != NULL)
            continue;
        while (from < to) {
            size_t want = to - from < CHUNK ? to - from : CHUNK;
            ssize_t n = pread(mem, buf, want, (off_t)from);
            if (n < 16)
                break;
            for (ssize_t i = 0; i + 16 <= n; i++) {
                size_t k = 0;
                while (k < 16 && (buf[i + (ssize_t)k] ^ masked[k]) == 0xff)
                    k++;
                /* the scanner's own copies in buf do not count */
                uintptr_t at = from + (uintptr_t)i;
                hits += k == 16 && !(at >= (uintptr_t)buf && at < (uintptr_t)buf + CHUNK);
            }
            from += (size_t)n == want && want == CHUNK ? CHUNK - 15 : (size_t)n;
        }
    }
    OPENSSL_cleanse(buf, CHUNK);
    free(buf);
    close(mem);
    fclose(maps);
    return hits;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SHADOW_MEMORY 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SHADOW_MEMORY 1
#endif
#endif
#ifndef SHADOW_MEMORY
#define SHADOW_MEMORY 0
#endif

static void keys_do_not_lie_about_in_memory(void **state)
{
    if (SHADOW_MEMORY) /* terabytes to look through, and freed blocks are kept */
        skip();
    struct fixture *f = *state;
    uint8_t masked_link[16], masked_network[16], masked_kek[16], key[16], frame[128];
    uint32_t counter;
    struct both b = open_both(f);
    const struct zb_cmd cmd = {.id = ZB_TRANSPORT_KEY, .key_type = ZB_KEYTYPE_NWK, .dst = 1, .src = gateway};
    struct vault_aps_command in = {.cmd = &cmd, .key_id = ZB_KEY_ID_TRANSPORT, .source = gateway};
    struct store_txn *t = store_begin(b.s);
    memset(masked_kek, 0x5a ^ 0xff, sizeof masked_kek);
    assert_true(in_memory(masked_kek) > 0); /* the scan sees what is there: the key schedule */
    assert_int_equal(vault_generate(b.v, t, VAULT_LINK_KEY, 16, &in.link_key), ST_OK);
    assert_int_equal(vault_generate(b.v, t, VAULT_NETWORK_KEY, 16, &in.carried), ST_OK);
    assert_int_equal(vault_take(b.v, t, in.link_key, gateway, 1, &counter), ST_OK);
    store_commit(t, NULL, NULL);
    store_flush(b.s);
    in.counter = counter;
    struct wr w = wr_of(frame, sizeof frame);
    assert_int_equal(vault_aps_command(b.v, &in, &w), ST_OK);
    assert_int_equal(vault_release(b.v, in.link_key, key, 16), 16);
    for (size_t i = 0; i < 16; i++)
        masked_link[i] = key[i] ^ 0xff;
    assert_int_equal(vault_release(b.v, in.carried, key, 16), 16);
    for (size_t i = 0; i < 16; i++)
        masked_network[i] = key[i] ^ 0xff;
    OPENSSL_cleanse(key, sizeof key);
    assert_int_equal(in_memory(masked_network), 0); /* while the vault is open and has used them */
    assert_int_equal(in_memory(masked_link), 0);
    close_both(b);
    assert_int_equal(in_memory(masked_kek), 0);
    assert_int_equal(in_memory(masked_link), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(keys_survive_and_come_out_as_they_went_in, setup, teardown),
        cmocka_unit_test_setup_teardown(ids_are_never_used_again, setup, teardown),
        cmocka_unit_test_setup_teardown(many_keys_come_and_go, setup, teardown),
        cmocka_unit_test_setup_teardown(public_short_and_broken_keys_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_secrets_mac_is_stable_and_separated, setup, teardown),
        cmocka_unit_test_setup_teardown(counters_go_on_for_the_same_key, setup, teardown),
        cmocka_unit_test_setup_teardown(order_of_commits_does_not_matter, setup, teardown),
        cmocka_unit_test_setup_teardown(all_ones_is_never_given, setup, teardown),
        cmocka_unit_test_setup_teardown(no_counter_is_given_twice_across_kills, setup, teardown),
        cmocka_unit_test_setup_teardown(the_kek_file_must_be_right, setup, teardown),
        cmocka_unit_test_setup_teardown(a_wrong_kek_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(damage_is_named_and_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(keys_do_not_lie_about_in_memory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
