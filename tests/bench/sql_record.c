/* Preloaded into mefd (LD_PRELOAD): every SQL statement that it runs, its values written out, one a line, into the file
 * named by SQL_RECORD. bench_replay runs them again in bare SQLite. */
#include <dlfcn.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

__attribute__((visibility("default"))) int sqlite3_open_v2(const char *name, sqlite3 **db, int flags, const char *vfs);

static int record(unsigned event, void *file, void *statement, void *text)
{
    char *sql = sqlite3_expanded_sql(statement);
    (void)event, (void)text;
    if (sql != NULL)
        fprintf(file, "%s\n", sql);
    sqlite3_free(sql);
    return 0;
}

int sqlite3_open_v2(const char *name, sqlite3 **db, int flags, const char *vfs)
{
    int (*real)(const char *, sqlite3 **, int, const char *);
    *(void **)&real = dlsym(RTLD_NEXT, "sqlite3_open_v2");
    const char *path = getenv("SQL_RECORD");
    FILE *file = path == NULL ? NULL : fopen(path, "w");
    int rc = real(name, db, flags, vfs);
    if (rc == SQLITE_OK && file != NULL)
        sqlite3_trace_v2(*db, SQLITE_TRACE_STMT, record, file);
    return rc;
}
