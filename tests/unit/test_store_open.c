/* Opening a database: whose it is, how old it is, who else has it open. */
#include "tests/unit/store_fixture.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static void refused(struct fixture *f, const char *want)
{
    struct store *s = store_open(f->url, &f->host, f->err, sizeof f->err);
    assert_null(s);
    if (strstr(f->err, want) == NULL)
        fail_msg("\"%s\" lacks \"%s\"", f->err, want);
}

static void run_sql(const struct fixture *f, const char *sql)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

/* Waits for the word, then tries to open what the parent has open. */
static int second_opener(struct fixture *f, int fd)
{
    char word, err[256] = "";
    struct timespec a, b;
    if (read(fd, &word, 1) != 1)
        return 2;
    clock_gettime(CLOCK_MONOTONIC, &a);
    struct store *second = store_open(f->url, &f->host, err, sizeof err);
    clock_gettime(CLOCK_MONOTONIC, &b);
    bool at_once = (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 < 1000;
    return second == NULL && at_once && strstr(err, "in use by another process") != NULL ? 0 : 1;
}

static void a_second_opener_is_refused_at_once(void **state)
{
    struct fixture *f = *state;
    int fds[2], status;
    assert_int_equal(pipe(fds), 0);
    pid_t child = fork(); /* before this process has the database open, to share nothing with it */
    if (child == 0)
        _exit(second_opener(f, fds[0]));
    struct store *s = must_open(f);
    put_num(s, STORE_DEVICE, 1, 1, NULL, NULL);
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(fds[0]);
    close(fds[1]);
    refused(f, "in use by another process"); /* the same process, too */
    put_num(s, STORE_DEVICE, 2, 2, NULL, NULL); /* and the first goes on */
    store_flush(s);
    assert_int_equal(f->loop.fatal, 0);
    store_close(s);
    s = must_open(f);
    assert_int_equal(all(s, STORE_DEVICE).n, 2);
    store_close(s);
}

struct image {
    size_t n;
    uint8_t bytes[16384];
};

static struct image image(const struct fixture *f)
{
    struct image i;
    FILE *in = fopen(f->path, "r");
    assert_non_null(in);
    i.n = fread(i.bytes, 1, sizeof i.bytes, in);
    fclose(in);
    return i;
}

static void versions_and_strangers(void **state)
{
    struct fixture *f = *state;
    store_close(must_open(f));
    run_sql(f, "PRAGMA user_version=99");
    refused(f, "newer release");
    unlink(f->path);

    run_sql(f, "PRAGMA application_id=1296385585"); /* ours, schema 0: older, empty */
    struct store *s = must_open(f);
    put_num(s, STORE_META, 1, 1, NULL, NULL);
    store_close(s);
    s = must_open(f);
    assert_int_equal(all(s, STORE_META).n, 1);
    store_close(s);
    static const char *const older[] = {
        "DROP TABLE client_cmd; DROP TABLE client_cfg; PRAGMA user_version=3",                    /* before commands */
        "DROP TABLE policy; DROP TABLE client_cmd; DROP TABLE client_cfg; PRAGMA user_version=2", /* and before rules */
    };
    for (size_t i = 0; i < sizeof older / sizeof *older; i++) {
        run_sql(f, older[i]);
        s = must_open(f);
        assert_int_equal(all(s, STORE_META).n, 1);
        assert_int_equal(all(s, STORE_CLIENT_CMD).n, 0);
        put_num(s, STORE_POLICY, 1, 1, NULL, NULL);
        put_num(s, STORE_CLIENT_CMD, 1, 1, NULL, NULL);
        store_close(s);
        s = must_open(f);
        assert_int_equal(all(s, STORE_POLICY).n, 1);
        assert_int_equal(all(s, STORE_CLIENT_CMD).n, 1);
        store_close(s);
    }
    unlink(f->path);

    run_sql(f, "CREATE TABLE theirs(x)");
    struct image before = image(f), after;
    refused(f, "another program");
    after = image(f); /* and left exactly as it was */
    assert_true(before.n > 0 && before.n == after.n);
    assert_memory_equal(before.bytes, after.bytes, before.n);
    unlink(f->path);

    int fd = open(f->path, O_WRONLY | O_CREAT, 0600);
    for (int i = 0; i < 100; i++)
        assert_int_equal(write(fd, "this is no database at all", 26), 26);
    close(fd);
    refused(f, "not a database");
    unlink(f->path);

    snprintf(f->url, sizeof f->url, "mysql:x");
    refused(f, "unknown kind");
    snprintf(f->url, sizeof f->url, "sqlite::memory:");
    refused(f, "path of a file");
    snprintf(f->url, sizeof f->url, "sqlite:%s/none/db", f->dir);
    refused(f, "No such file");
}

static void an_interrupted_migration_leaves_the_old_version(void **state)
{
    struct fixture *f = *state;
    run_sql(f, "PRAGMA application_id=1296385585; CREATE TABLE audit(k)"); /* the last step of migration 1 will fail */
    refused(f, "migration from schema version 0 failed");
    run_sql(f, "DROP TABLE audit"); /* nothing of the attempt is left, or this open fails */
    store_close(must_open(f));
}

static void only_the_owner_may_read(void **state)
{
    struct fixture *f = *state;
    mode_t before = umask(0);
    struct store *s = must_open(f);
    put_num(s, STORE_DEVICE, 1, 1, NULL, NULL);
    store_flush(s);
    umask(before);
    DIR *d = opendir(f->dir);
    int files = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        struct stat st;
        if (e->d_name[0] == '.')
            continue;
        assert_int_equal(fstatat(dirfd(d), e->d_name, &st, 0), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        files++;
    }
    closedir(d);
    assert_int_equal(files, 2); /* database and log */
    store_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_second_opener_is_refused_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(versions_and_strangers, setup, teardown),
        cmocka_unit_test_setup_teardown(an_interrupted_migration_leaves_the_old_version, setup, teardown),
        cmocka_unit_test_setup_teardown(only_the_owner_may_read, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
