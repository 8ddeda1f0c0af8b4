/* Durable store: tables of (key, value) blobs, written in transactions that are grouped into one disk commit.
 *
 * Reads happen at start (store_each) into the rooms' memory; afterwards (but for store_read) rooms change their memory
 * at once, put the same change into a transaction, and answer their peer when store_commit's callback says it is
 * durable. Transactions become durable in the order committed. A failed commit is fatal to the process
 * (cse_host_ops.fatal): memory is then rebuilt from the store at the next start, so what was never acknowledged is
 * absent or complete.
 * Values that hold key material are sealed by vault/ before they come here.
 *
 * Threads: all calls from the loop thread; callbacks come on the loop thread through `post`, but for store_read's fn. */
#pragma once
#include "cse-shim/base/bytes.h"
#include "cse-shim/base/status.h"

/* Numbers are stored; never reuse one. */
enum store_table {
    STORE_META = 1,        /* schema version, KEK check value */
    STORE_KEY,             /* vault: key id -> sealed key record */
    STORE_COUNTER,         /* vault: key fingerprint || source EUI-64 -> next counter */
    STORE_CREDENTIAL,      /* mef: KpmID -> credential record (key by vault id) */
    STORE_APPLICATION,     /* mef: adminFQDN || name -> application */
    STORE_CLIENT_REG,      /* mef: mefClientReg */
    STORE_KEY_REG,         /* mef: RelativeKeyID -> symmKeyReg */
    STORE_INSTALL_CODE,    /* eg: EUI-64 -> registration */
    STORE_GATEWAY,         /* eg: gateway EUI-64 -> gateway */
    STORE_GATEWAY_EPOCH,   /* eg: gateway EUI-64 -> epoch of the owning replica (docs/decisions.md) */
    STORE_DEVICE,          /* eg: EUI-64 -> device record, pending record beside the current one */
    STORE_TRANSACTION,     /* eg: gateway EUI-64 || transaction -> request digest and response bytes */
    STORE_AUDIT,           /* audit: sequence -> event */
    STORE_DOMAIN,          /* eg: gateway EUI-64 || scope || adminFQDN || "/" || application -> key domain */
    STORE_POLICY,          /* mef: adminFQDN || "/" || name -> policy rule */
    STORE_CLIENT_CMD,      /* mef: resourceID of a mefClientReg -> its commands */
    STORE_CLIENT_CFG,      /* mef: resourceID of a mefClientReg -> its MEFClientCfg */
    STORE_TABLES
};

struct store;
struct store_txn;

struct store_host { /* what the store needs of its owner */
    void *user;
    void (*post)(void *user, void (*fn)(void *arg), void *arg); /* thread-safe; runs fn on the loop thread */
    void (*fatal)(void *user, const char *why);
};

/* Open "sqlite:PATH" (WAL, synchronous=FULL) and migrate it to the current schema. A database that another process has
 * open is refused (exclusive lock). NULL: one line in err. */
MUST_USE struct store *store_open(const char *url, const struct store_host *host, char *err, size_t errlen);
/* Wait until everything committed so far is durable and run its callbacks here and now (draining; never from within a
 * callback of the store). */
void store_flush(struct store *s);
/* Make durable what was committed, then close. Callbacks still undelivered are dropped and none runs afterwards, so the
 * rooms may be freed in any order; store_flush first if their answers matter. */
void store_close(struct store *s);

/* Visit every row of a table in key order, from the database, after everything committed so far. For loading at start:
 * it blocks. fn returns false to stop; of the store it may call store_begin to store_commit only. ST_INTERNAL: could not
 * read. */
MUST_USE enum st store_each(struct store *s, enum store_table table, bool (*fn)(void *user, struct span key, struct span val),
                            void *user);
/* The same for at most `limit` rows with key > after (or, when `descending`, key < after; after.n == 0: from the end). */
MUST_USE enum st store_page(struct store *s, enum store_table table, struct span after, bool descending, size_t limit,
                            bool (*fn)(void *user, struct span key, struct span val), void *user);

MUST_USE struct store_txn *store_begin(struct store *s); /* NULL: out of memory */
/* Keys and values are copied. A key has 1 to 1024 bytes, a value at most 1 MiB; more fails the transaction (ST_INTERNAL). */
void store_put(struct store_txn *t, enum store_table table, struct span key, struct span val);
/* Put, unless the row already holds a greater value (compared as bytes; same-length big-endian numbers). For counters and
 * high-water marks: whatever the order in which transactions are committed, the row never goes back. */
void store_raise(struct store_txn *t, enum store_table table, struct span key, struct span val);
void store_del(struct store_txn *t, enum store_table table, struct span key);
/* The transaction fails with ST_CONFLICT, alone and whole, unless the row's value equals val before the transaction
 * writes anything (val.n == 0: unless the row is absent). */
void store_expect(struct store_txn *t, enum store_table table, struct span key, struct span val);
void store_abort(struct store_txn *t);

typedef void (*store_done)(void *user, enum st st); /* ST_OK: durable; ST_CONFLICT: an expectation failed */
/* Read such a page while the loop goes on: it takes its turn among the transactions, after everything committed so far,
 * and nothing that comes later is in it. fn runs on the committer's thread, to which what it uses belongs until done is
 * called: ST_OK, or ST_INTERNAL: could not read. Without memory done is called at once. */
void store_read(struct store *s, enum store_table table, struct span after, bool descending, size_t limit,
                bool (*fn)(void *user, struct span key, struct span val), store_done done, void *user);
/* Hand over the transaction (consumed); done (may be NULL) is called once, in order. Returns its sequence number. An
 * out-of-memory during store_put surfaces here as ST_INTERNAL through done. */
uint64_t store_commit(struct store_txn *t, store_done done, void *user);

/* Call fn when every transaction up to `seq` is durable: at once when it is already. An answer that shows a record goes
 * through here with the record's last seq, so nothing is ever shown that a crash could take back. */
void store_after(struct store *s, uint64_t seq, store_done fn, void *user);
uint64_t store_durable(const struct store *s); /* highest durable sequence number */
uint64_t store_last(const struct store *s);    /* sequence number of the newest transaction handed over */

struct store_stats {
    uint64_t transactions; /* durable ones since the start */
    uint64_t commits;      /* disk commits they took */
    uint64_t rows;         /* rows written, removed or expected */
    uint64_t queued;       /* transactions waiting or being written now */
};
void store_stats_get(struct store *s, struct store_stats *out);
