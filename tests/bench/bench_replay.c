/* Statements that sql_record wrote down, run again in bare SQLite with the store's settings. Prints one JSON object.
 * Usage: bench_replay DATABASE RECORD [commits]          the database is changed: give it a copy of what was there before
 * Those of the store's transactions that expect something (each begins with the SELECT of what it expects), 64 of them to a
 * commit; with "commits" all of them, in the commits that the store made, and these are counted. */
#include "cse-shim/base/hex.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { PER_COMMIT = 64, KINDS_MAX = 64, VALUES_MAX = 2, LINE_MAX_BYTES = 1 << 20 };

struct op {
    unsigned kind; /* KINDS_MAX: a transaction is complete */
    unsigned nvalues;
    struct span values[VALUES_MAX];
};

struct replay {
    sqlite3 *db;
    char *sql[KINDS_MAX];
    sqlite3_stmt *statements[KINDS_MAX];
    unsigned nkinds;
    struct op *ops;
    size_t nops, room, transactions;
    bool commits; /* a transaction is what the store committed at once */
};

static void must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "bench_replay: %s\n", what);
        exit(1);
    }
}

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

static struct op *op_new(struct replay *r)
{
    if (r->nops == r->room) {
        r->room = r->room * 2 + 1024;
        r->ops = realloc(r->ops, r->room * sizeof *r->ops);
        must(r->ops != NULL, "out of memory");
    }
    return &r->ops[r->nops++];
}

/* The literal x'..' at *text as bytes; *text moves behind it. */
static struct span take_blob(char **text)
{
    char *from = *text + 2, *end = strchr(from, '\'');
    must(end != NULL, "a blob without an end");
    size_t n = (size_t)(end - from) / 2;
    uint8_t *bytes = malloc(n + 1);
    must(bytes != NULL && hex_decode(from, 2 * n, bytes, n), "a blob that is not hex");
    *text = end + 1;
    return span_of(bytes, n);
}

static unsigned kind_of(struct replay *r, const char *sql)
{
    unsigned k = 0;
    while (k < r->nkinds && strcmp(r->sql[k], sql) != 0)
        k++;
    if (k == r->nkinds) {
        must(k < KINDS_MAX && (r->sql[k] = strdup(sql)) != NULL, "too many kinds of statements");
        r->nkinds++;
    }
    return k;
}

/* Values become parameters again. */
static void read_statement(struct replay *r, char *line)
{
    char sql[512];
    size_t n = 0;
    struct op *op = op_new(r);
    *op = (struct op){0};
    while (*line != '\0' && n < sizeof sql - 1) {
        bool blob = line[0] == 'x' && line[1] == '\'';
        must(!blob || op->nvalues < VALUES_MAX, "too many values");
        if (blob)
            op->values[op->nvalues++] = take_blob(&line);
        sql[n++] = blob ? '?' : *line++;
    }
    sql[n] = '\0';
    op->kind = kind_of(r, sql);
}

static void read_record(struct replay *r, const char *path)
{
    static char line[LINE_MAX_BYTES];
    FILE *f = fopen(path, "r");
    bool inside = false;
    must(f != NULL, path);
    while (fgets(line, sizeof line, f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        bool begins = r->commits ? strcmp(line, "BEGIN IMMEDIATE") == 0 : strncmp(line, "SELECT v FROM", 13) == 0;
        if (inside && (begins || strcmp(line, "COMMIT") == 0)) {
            *op_new(r) = (struct op){.kind = KINDS_MAX};
            r->transactions++;
            inside = false;
        }
        inside |= begins;
        if (inside && !(r->commits && begins))
            read_statement(r, line);
    }
    fclose(f);
    must(r->transactions > 0, "no transaction is in the record");
}

/* --- running ------------------------------------------------------------------------------------------------------ */

static void run_sql(struct replay *r, const char *sql)
{
    must(sqlite3_exec(r->db, sql, NULL, NULL, NULL) == SQLITE_OK, sqlite3_errmsg(r->db));
}

static void run_op(struct replay *r, const struct op *op)
{
    sqlite3_stmt *s = r->statements[op->kind];
    for (unsigned i = 0; i < op->nvalues; i++)
        sqlite3_bind_blob(s, (int)i + 1, op->values[i].p, (int)op->values[i].n, SQLITE_STATIC);
    int rc = sqlite3_step(s);
    must((rc == SQLITE_DONE || rc == SQLITE_ROW) && sqlite3_reset(s) == SQLITE_OK, sqlite3_errmsg(r->db));
}

static void run_all(struct replay *r)
{
    size_t done = 0;
    run_sql(r, "BEGIN IMMEDIATE");
    for (size_t i = 0; i < r->nops; i++) {
        if (r->ops[i].kind != KINDS_MAX)
            run_op(r, &r->ops[i]);
        else if (++done % (r->commits ? 1 : PER_COMMIT) == 0)
            run_sql(r, "COMMIT; BEGIN IMMEDIATE");
    }
    run_sql(r, "COMMIT");
}

int main(int argc, char **argv)
{
    struct replay r = {0};
    must(argc == 3 || argc == 4, "usage: bench_replay DATABASE RECORD [commits]");
    r.commits = argc == 4;
    read_record(&r, argv[2]);
    must(sqlite3_open_v2(argv[1], &r.db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) == SQLITE_OK, argv[1]);
    run_sql(&r, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                "PRAGMA wal_autocheckpoint=1000; PRAGMA temp_store=MEMORY");
    for (unsigned k = 0; k < r.nkinds; k++)
        must(sqlite3_prepare_v2(r.db, r.sql[k], -1, &r.statements[k], NULL) == SQLITE_OK, sqlite3_errmsg(r.db));
    double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    run_all(&r);
    wall = seconds(CLOCK_MONOTONIC) - wall;
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    double n = (double)r.transactions;
    printf("{\"n\": %zu, \"per_second\": %.1f, \"cpu_us\": %.3f, \"statements\": %.2f}\n", r.transactions, n / wall, cpu / n * 1e6,
           (double)(r.nops - r.transactions) / n);
    for (unsigned k = 0; k < r.nkinds; k++)
        sqlite3_finalize(r.statements[k]);
    sqlite3_close(r.db);
    return 0;
}
