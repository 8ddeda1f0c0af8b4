/* The seam between the store (queue, grouping, completion) and the engine that keeps the rows. One engine a file;
 * store.c picks it by the scheme of the URL. All calls are serialised by the store, on whatever thread. */
#pragma once
#include "mef-plugin/store/store.h"

enum store_op_kind { STORE_OP_PUT, STORE_OP_RAISE, STORE_OP_DEL, STORE_OP_EXPECT, STORE_OP_KINDS };

struct store_op {
    enum store_op_kind kind;
    enum store_table table;
    struct span key, val; /* borrowed from the transaction */
};

struct store_scan;

/* A transaction is one contiguous run of encoded operations, so that a small one costs a single allocation. */
struct store_txn {
    struct store *store;
    struct store_txn *next;
    uint64_t seq;
    store_done done;
    void *user;
    enum st result;       /* ST_INTERNAL before it runs: out of memory or limits, not to be run */
    bool expects;         /* holds a STORE_OP_EXPECT */
    const struct store_scan *scan; /* it reads, and writes nothing; NULL: it writes */
    size_t n, cap;
    uint8_t *ops;         /* `first`, or a heap block when that is outgrown */
    uint8_t first[400];
};

/* Take the next operation off the front; false at the end. */
MUST_USE bool store_op_next(struct rd *r, struct store_op *op);

const char *store_table_name(enum store_table table); /* the table's name in SQL */

struct store_scan {
    enum store_table table;
    struct span after; /* n == 0: from the end where the scan begins */
    bool descending;
    size_t limit;
    bool (*fn)(void *user, struct span key, struct span val);
    void *user;
};

struct store_backend {
    const char *scheme; /* of the URL, with the colon */
    /* Open, take the exclusive lock, migrate. NULL: one line in err. */
    void *(*open)(const char *where, char *err, size_t errlen);
    /* Run the transactions, from first along `next`, in one durable commit. Sets `result` of each: ST_OK, or ST_CONFLICT
     * for one whose expectation failed and which alone is left out. False: nothing is to be believed; one line in err. */
    bool (*run)(void *engine, struct store_txn *first, char *err, size_t errlen);
    bool (*scan)(void *engine, const struct store_scan *scan, char *err, size_t errlen);
    void (*close)(void *engine);
};

extern const struct store_backend store_sqlite;
