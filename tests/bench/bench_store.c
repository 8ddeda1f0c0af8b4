/* How much of SQLite's own speed the store keeps: single-row transactions with 64 in flight through the store, against the
 * same upserts in bare SQLite committed 64 at a time, with the same settings. Prints one JSON object.
 * Usage: bench_store [ROWS] [FOLDER] */
#include "mef-plugin/store/store.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define IN_FLIGHT 64
#define VALUE 200 /* bytes: about a device record */

struct bench {
    struct store *store;
    pthread_mutex_t lock;
    pthread_cond_t more;
    void (*fn)(void *); /* the posted call; the store has one on its way at most */
    void *arg;
    uint64_t started, finished, rows;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void post(void *user, void (*fn)(void *), void *arg)
{
    struct bench *b = user;
    pthread_mutex_lock(&b->lock);
    b->fn = fn;
    b->arg = arg;
    pthread_cond_signal(&b->more);
    pthread_mutex_unlock(&b->lock);
}

static void fatal(void *user, const char *why)
{
    (void)user;
    fprintf(stderr, "%s\n", why);
    exit(1);
}

static void start_one(struct bench *b);

static void done(void *user, enum st st)
{
    struct bench *b = user;
    if (st != ST_OK)
        exit(1);
    b->finished++;
    if (b->started < b->rows)
        start_one(b);
}

struct key {
    uint8_t b[8];
};

static struct key key_of(uint64_t i)
{
    struct key k;
    struct wr w = wr_of(k.b, sizeof k.b);
    wr_be64(&w, i * 0x9e3779b97f4a7c15u); /* EUI-64s come in no order */
    return k;
}

static void start_one(struct bench *b)
{
    static const uint8_t value[VALUE];
    struct key k = key_of(b->started++);
    struct store_txn *t = store_begin(b->store);
    if (t == NULL)
        exit(1);
    store_put(t, STORE_DEVICE, span_of(k.b, sizeof k.b), span_of(value, sizeof value));
    store_commit(t, done, b);
}

static double through_store(const char *dir, uint64_t rows, struct store_stats *stats)
{
    struct bench b = {.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER, .rows = rows};
    char url[512], err[256];
    snprintf(url, sizeof url, "sqlite:%s/store", dir);
    b.store = store_open(url, &(struct store_host){&b, post, fatal}, err, sizeof err);
    if (b.store == NULL) {
        fprintf(stderr, "%s\n", err);
        exit(1);
    }
    double t0 = now();
    while (b.started < IN_FLIGHT && b.started < rows)
        start_one(&b);
    while (b.finished < rows) {
        pthread_mutex_lock(&b.lock);
        while (b.fn == NULL)
            pthread_cond_wait(&b.more, &b.lock);
        void (*fn)(void *) = b.fn;
        b.fn = NULL;
        pthread_mutex_unlock(&b.lock);
        fn(b.arg);
    }
    double t = now() - t0;
    store_stats_get(b.store, stats);
    store_close(b.store);
    return t;
}

static void must(bool ok, sqlite3 *db)
{
    if (!ok) {
        fprintf(stderr, "%s\n", sqlite3_errmsg(db));
        exit(1);
    }
}

static double bare(const char *dir, uint64_t rows)
{
    static const uint8_t value[VALUE];
    char path[512];
    sqlite3 *db;
    sqlite3_stmt *put;
    snprintf(path, sizeof path, "%s/bare", dir);
    must(sqlite3_open(path, &db) == SQLITE_OK, db);
    must(sqlite3_exec(db, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                          "CREATE TABLE device(k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID", NULL, NULL, NULL) ==
             SQLITE_OK, db);
    must(sqlite3_prepare_v2(db, "INSERT INTO device(k, v) VALUES(?1, ?2) ON CONFLICT(k) DO UPDATE SET v = excluded.v", -1,
                            &put, NULL) == SQLITE_OK, db);
    double t0 = now();
    for (uint64_t i = 0; i < rows; i++) {
        struct key k = key_of(i);
        if (i % IN_FLIGHT == 0)
            must(sqlite3_exec(db, i == 0 ? "BEGIN" : "COMMIT; BEGIN", NULL, NULL, NULL) == SQLITE_OK, db);
        sqlite3_bind_blob(put, 1, k.b, sizeof k.b, SQLITE_STATIC);
        sqlite3_bind_blob(put, 2, value, sizeof value, SQLITE_STATIC);
        must(sqlite3_step(put) == SQLITE_DONE && sqlite3_reset(put) == SQLITE_OK, db);
    }
    must(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK, db);
    double t = now() - t0;
    sqlite3_finalize(put);
    sqlite3_close(db);
    return t;
}

int main(int argc, char **argv)
{
    uint64_t rows = argc > 1 ? strtoull(argv[1], NULL, 10) : 20000;
    char dir[256], path[300];
    struct store_stats st;
    snprintf(dir, sizeof dir, "%s/bench-XXXXXX", argc > 2 ? argv[2] : ".");
    if (rows == 0 || mkdtemp(dir) == NULL)
        return 2;
    double ours = through_store(dir, rows, &st), theirs = bare(dir, rows);
    printf("{\"rows\":%llu,\"in_flight\":%d,\"store_rows_per_s\":%.0f,\"bare_rows_per_s\":%.0f,\"ratio\":%.2f,"
           "\"rows_per_commit\":%.1f}\n", (unsigned long long)rows, IN_FLIGHT, (double)rows / ours, (double)rows / theirs,
           theirs / ours, (double)st.transactions / (double)st.commits);
    snprintf(path, sizeof path, "%s/store", dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/bare", dir);
    unlink(path);
    rmdir(dir);
    return 0;
}
