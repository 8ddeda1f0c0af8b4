/* SQLite back end: one file, one process (exclusive lock), write-ahead log, every commit synced. */
#include "mef-plugin/store/backend.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define APPLICATION_ID 0x4d454631 /* "MEF1": the file is one of ours */

struct sqlite {
    sqlite3 *db;
    sqlite3_stmt *row[STORE_OP_KINDS][STORE_TABLES]; /* prepared when first needed */
    sqlite3_stmt *begin, *commit;
};

/* An SQL text with a table's name between its halves. */
struct table_sql {
    const char *before, *after;
};

static void print_sql(char *out, size_t n, const struct table_sql *sql, enum store_table table)
{
    snprintf(out, n, "%s \"%s\"%s", sql->before, store_table_name(table), sql->after);
}

/* migrations[i] leads from schema version i to i + 1. A released one is never changed. */
struct migration {
    struct table_sql sql; /* run for each of first..last */
    enum store_table first, last;
};
static const struct migration migrations[] = {
    {{"CREATE TABLE", "(k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID"}, STORE_META, STORE_AUDIT},
    {{"CREATE TABLE", "(k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID"}, STORE_DOMAIN, STORE_DOMAIN},
    {{"CREATE TABLE", "(k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID"}, STORE_POLICY, STORE_POLICY},
    {{"CREATE TABLE", "(k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID"}, STORE_CLIENT_CMD, STORE_CLIENT_CFG},
};
#define SCHEMA_VERSION ((int)(sizeof migrations / sizeof *migrations))

__attribute__((format(printf, 3, 4))) static bool fail(char *err, size_t errlen, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err, errlen, fmt, ap);
    va_end(ap);
    return false;
}

/* --- opening -------------------------------------------------------------------------------------------------------- */

/* SQLite would create the file with the umask's mode; ours is for the owner only, and its name is durable before the
 * first row. An existing file is not touched: closing any descriptor of it would drop SQLite's locks. */
static bool create_private(const char *path, char *err, size_t errlen)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno == EEXIST || fail(err, errlen, "store: %s: %s", path, strerror(errno));
    close(fd);
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    int n = slash == NULL ? snprintf(dir, sizeof dir, ".")
                          : snprintf(dir, sizeof dir, "%.*s", (int)(slash - path) + 1, path);
    int dirfd = n < (int)sizeof dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    bool ok = dirfd >= 0 && fsync(dirfd) == 0;
    if (!ok)
        fail(err, errlen, "store: %s: %s", dir, strerror(errno));
    if (dirfd >= 0)
        close(dirfd);
    return ok;
}

/* Run one statement and fetch the integer of its first row, if there is one. Returns SQLite's code. */
static int query_int(sqlite3 *db, const char *sql, int *out)
{
    sqlite3_stmt *st;
    int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
    if (rc != SQLITE_OK)
        return rc;
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW && out != NULL)
        *out = sqlite3_column_int(st, 0);
    sqlite3_finalize(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int run_all(sqlite3 *db, const char *const *sql)
{
    int rc = SQLITE_OK;
    for (; *sql != NULL && rc == SQLITE_OK; sql++)
        rc = query_int(db, *sql, NULL);
    return rc;
}

/* The empty transaction takes the exclusive lock, held until close. Nothing is written yet: the file may not be ours. */
static int lock(sqlite3 *db)
{
    static const char *const sql[] = {"PRAGMA trusted_schema=OFF", "PRAGMA cell_size_check=ON",
                                      "PRAGMA locking_mode=EXCLUSIVE", "BEGIN EXCLUSIVE", "COMMIT", NULL};
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    return run_all(db, sql);
}

static int configure(sqlite3 *db)
{
    static const char *const sql[] = {"PRAGMA journal_mode=WAL",         "PRAGMA synchronous=FULL",
                                      "PRAGMA wal_autocheckpoint=1000",  "PRAGMA journal_size_limit=16777216",
                                      "PRAGMA temp_store=MEMORY",        NULL};
    return run_all(db, sql);
}

/* Is it ours, or empty and so about to be? */
static bool identify(sqlite3 *db, const char *path, int *version, char *err, size_t errlen)
{
    int application = 0, objects = 0;
    bool read = query_int(db, "PRAGMA application_id", &application) == SQLITE_OK &&
                query_int(db, "PRAGMA user_version", version) == SQLITE_OK &&
                query_int(db, "SELECT count(*) FROM sqlite_schema", &objects) == SQLITE_OK;
    if (!read)
        return fail(err, errlen, "store: %s: %s", path, sqlite3_errmsg(db));
    bool fresh = application == 0 && *version == 0 && objects == 0;
    if (application != APPLICATION_ID && !fresh)
        return fail(err, errlen, "store: %s is the database of another program", path);
    if (*version < 0 || *version > SCHEMA_VERSION)
        return fail(err, errlen, "store: %s has schema version %d, made by a newer release; this one knows up to %d",
                    path, *version, SCHEMA_VERSION);
    return true;
}

static int migrate_one(sqlite3 *db, const struct migration *m)
{
    int rc = SQLITE_OK;
    for (enum store_table t = m->first; t <= m->last && rc == SQLITE_OK; t++) {
        char sql[256];
        print_sql(sql, sizeof sql, &m->sql, t);
        rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    }
    return rc;
}

/* All steps in one transaction: a crash leaves the old version. */
static bool migrate(sqlite3 *db, const char *path, int version, char *err, size_t errlen)
{
    if (version == SCHEMA_VERSION)
        return true;
    char mark[128];
    snprintf(mark, sizeof mark, "PRAGMA application_id=%d; PRAGMA user_version=%d; COMMIT", APPLICATION_ID,
             SCHEMA_VERSION);
    int rc = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    for (int v = version; v < SCHEMA_VERSION && rc == SQLITE_OK; v++)
        rc = migrate_one(db, &migrations[v]);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db, mark, NULL, NULL, NULL);
    return rc == SQLITE_OK || fail(err, errlen, "store: %s: migration from schema version %d failed: %s", path, version,
                                   sqlite3_errmsg(db));
}

static bool open_db(struct sqlite *q, const char *path, char *err, size_t errlen)
{
    int version = 0;
    if (path[0] == '\0' || path[0] == ':')
        return fail(err, errlen, "store: sqlite: needs the path of a file");
    if (!create_private(path, err, errlen))
        return false;
    int rc = sqlite3_open_v2(path, &q->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc == SQLITE_OK)
        rc = lock(q->db);
    if (rc == SQLITE_BUSY)
        return fail(err, errlen, "store: %s is in use by another process", path);
    if (rc != SQLITE_OK)
        return fail(err, errlen, "store: %s: %s", path, q->db != NULL ? sqlite3_errmsg(q->db) : sqlite3_errstr(rc));
    if (sqlite3_db_readonly(q->db, "main") == 1)
        return fail(err, errlen, "store: %s cannot be written", path);
    if (!identify(q->db, path, &version, err, errlen))
        return false;
    if (configure(q->db) != SQLITE_OK)
        return fail(err, errlen, "store: %s: %s", path, sqlite3_errmsg(q->db));
    return migrate(q->db, path, version, err, errlen);
}

static bool prepare(sqlite3 *db, const char *sql, sqlite3_stmt **st)
{
    return sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, st, NULL) == SQLITE_OK;
}

static void sqlite_close(void *engine)
{
    struct sqlite *q = engine;
    for (int k = 0; k < STORE_OP_KINDS; k++)
        for (int t = 0; t < STORE_TABLES; t++)
            sqlite3_finalize(q->row[k][t]);
    sqlite3_finalize(q->begin);
    sqlite3_finalize(q->commit);
    sqlite3_close(q->db);
    free(q);
}

static void *sqlite_open(const char *path, char *err, size_t errlen)
{
    struct sqlite *q = calloc(1, sizeof *q);
    if (q == NULL) {
        fail(err, errlen, "store: out of memory");
        return NULL;
    }
    bool ok = open_db(q, path, err, errlen);
    if (ok) {
        ok = prepare(q->db, "BEGIN IMMEDIATE", &q->begin) && prepare(q->db, "COMMIT", &q->commit);
        if (!ok)
            fail(err, errlen, "store: %s: %s", path, sqlite3_errmsg(q->db));
    }
    if (!ok) {
        sqlite_close(q);
        return NULL;
    }
    return q;
}

/* --- running transactions ------------------------------------------------------------------------------------------- */

static const struct table_sql op_sql[STORE_OP_KINDS] = {
    [STORE_OP_PUT] = {"INSERT INTO", "(k, v) VALUES(?1, ?2) ON CONFLICT(k) DO UPDATE SET v = excluded.v"},
    [STORE_OP_RAISE] = {"INSERT INTO", "(k, v) VALUES(?1, ?2) ON CONFLICT(k) DO UPDATE SET v = excluded.v "
                                       "WHERE excluded.v > v"},
    [STORE_OP_DEL] = {"DELETE FROM", " WHERE k = ?1"},
    [STORE_OP_EXPECT] = {"SELECT v FROM", " WHERE k = ?1"},
};

static sqlite3_stmt *statement(struct sqlite *q, enum store_op_kind kind, enum store_table table)
{
    sqlite3_stmt **st = &q->row[kind][table];
    if (*st == NULL) {
        char sql[256];
        print_sql(sql, sizeof sql, &op_sql[kind], table);
        if (!prepare(q->db, sql, st))
            return NULL;
    }
    return *st;
}

/* An empty blob needs a non-NULL pointer, or SQLite stores NULL. */
static int bind_span(sqlite3_stmt *st, int at, struct span s)
{
    return sqlite3_bind_blob(st, at, s.n == 0 ? "" : (const void *)s.p, (int)s.n, SQLITE_STATIC);
}

static struct span column(sqlite3_stmt *st, int at)
{
    const void *p = sqlite3_column_blob(st, at);
    return span_of(p, (size_t)sqlite3_column_bytes(st, at));
}

static bool step(sqlite3_stmt *st)
{
    return sqlite3_step(st) == SQLITE_DONE && sqlite3_reset(st) == SQLITE_OK;
}

static bool expectation(sqlite3_stmt *st, struct span want, enum st *result)
{
    int rc = sqlite3_step(st);
    bool met = rc == SQLITE_ROW ? want.n > 0 && span_eq(column(st, 0), want) : want.n == 0;
    if (!met)
        *result = ST_CONFLICT;
    return (rc == SQLITE_ROW || rc == SQLITE_DONE) && sqlite3_reset(st) == SQLITE_OK;
}

static bool run_op(struct sqlite *q, const struct store_op *op, enum st *result)
{
    sqlite3_stmt *st = statement(q, op->kind, op->table);
    if (st == NULL || bind_span(st, 1, op->key) != SQLITE_OK)
        return false;
    if (op->kind == STORE_OP_EXPECT)
        return expectation(st, op->val, result);
    if (op->kind != STORE_OP_DEL && bind_span(st, 2, op->val) != SQLITE_OK)
        return false;
    return step(st);
}

/* Either what the transaction expects, or what it writes. */
static bool run_ops(struct sqlite *q, struct store_txn *t, bool expectations)
{
    struct rd r = rd_of(span_of(t->ops, t->n));
    struct store_op op;
    bool ok = true;
    while (ok && t->result == ST_OK && store_op_next(&r, &op))
        ok = (op.kind == STORE_OP_EXPECT) != expectations || run_op(q, &op, &t->result);
    return ok;
}

/* Nothing is written before all that is expected was looked at: so a conflict leaves nothing to undo, and no savepoint is
 * needed, for which SQLite would copy every page that the transaction touches. */
static bool run_txn(struct sqlite *q, struct store_txn *t)
{
    return (!t->expects || run_ops(q, t, true)) && run_ops(q, t, false);
}

static bool sqlite_run(void *engine, struct store_txn *first, char *err, size_t errlen)
{
    struct sqlite *q = engine;
    bool ok = step(q->begin);
    for (struct store_txn *t = first; t != NULL && ok; t = t->next)
        ok = run_txn(q, t);
    if (ok && step(q->commit))
        return true;
    return fail(err, errlen, "store: commit failed: %s", sqlite3_errmsg(q->db));
}

/* --- reading -------------------------------------------------------------------------------------------------------- */

/* A whole table is read at start, each page once: kept, they would lie scattered among what the rooms allocate meanwhile,
 * and leave holes. */
#define CACHE_SMALL "PRAGMA cache_size=16"
#define CACHE_NORMAL "PRAGMA cache_size=-2000"

static bool sqlite_scan(void *engine, const struct store_scan *scan, char *err, size_t errlen)
{
    struct sqlite *q = engine;
    char sql[256];
    sqlite3_stmt *st;
    bool whole = scan->limit == INT64_MAX;
    if (whole)
        query_int(q->db, CACHE_SMALL, NULL);
    snprintf(sql, sizeof sql, "SELECT k, v FROM \"%s\"%s ORDER BY k%s LIMIT ?2", store_table_name(scan->table),
             scan->after.n == 0 ? "" : scan->descending ? " WHERE k < ?1" : " WHERE k > ?1",
             scan->descending ? " DESC" : "");
    int rc = sqlite3_prepare_v2(q->db, sql, -1, &st, NULL);
    if (rc == SQLITE_OK && scan->after.n > 0)
        rc = bind_span(st, 1, scan->after);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_int64(st, 2, (sqlite3_int64)scan->limit);
    if (rc == SQLITE_OK)
        rc = SQLITE_ROW;
    while (rc == SQLITE_ROW) {
        rc = sqlite3_step(st);
        if (rc == SQLITE_ROW && !scan->fn(scan->user, column(st, 0), column(st, 1)))
            rc = SQLITE_DONE;
    }
    sqlite3_finalize(st);
    if (whole)
        query_int(q->db, CACHE_NORMAL, NULL);
    return rc == SQLITE_DONE || fail(err, errlen, "store: read failed: %s", sqlite3_errmsg(q->db));
}

const struct store_backend store_sqlite = {"sqlite:", sqlite_open, sqlite_run, sqlite_scan, sqlite_close};
