/* Audit trail: who did what to which object, when, with what outcome; a row in the same transaction as the change, so
 * an acknowledged act is always in it. Never holds a secret. */
#pragma once
#include "mef-plugin/store/store.h"

struct cJSON;
struct audit;
struct audit_host {
    void *user;
    int64_t (*time)(void *user); /* ms since 1970 */
};
MUST_USE struct audit *audit_open(struct store *s, const struct audit_host *host); /* NULL: no memory, or cannot read */
/* Writes what audit_note still counts; after store_flush, for what was not read yet is dropped, and before store_close. */
void audit_close(struct audit *a);

/* Kept as printable ASCII ('?' for any other character), cut at 255 characters each. NULL is "". */
struct audit_event {
    const char *admin;   /* adminFQDN the object belongs to; "" unknown (a stranger's attempt) */
    const char *actor;   /* authenticated identity, "operator:NAME", "eg" or "" */
    const char *action;  /* dotted token: "install-code.put", "device.key-sent", "key.retrieved", "eg.refused" */
    const char *object;  /* EUI-64, RelativeKeyID, KpmID, .. */
    const char *outcome; /* "ok" or the reason token */
};
/* Add to the transaction. */
void audit_add(struct audit *a, struct store_txn *t, const struct audit_event *e);
/* The same on its own (a refusal changes nothing else). Rate-limited: identical ones within a second are counted into one
 * row; beyond 64 different ones a second only their number is kept, in a row "audit.suppressed". The first of a kind is
 * written at once, a count when its second is over and the next note, page or close comes. */
void audit_note(struct audit *a, const struct audit_event *e);
/* A page of the trail, newest first: a cJSON array, the callee's, of {"seq","time" (RFC 3339, UTC),"actor","action",
 * "object","outcome","count" (when > 1)}; NULL: failure. */
typedef void (*audit_done)(void *user, void *about, struct cJSON *page);
struct audit_query {
    const char *admin; /* rows of this adminFQDN */
    uint64_t before;   /* older than this sequence number; 0: the newest */
    unsigned limit;    /* at most 1000 count */
    audit_done done;
    void *user, *about; /* given to done */
};
/* Read a page while the loop goes on. Looks at 50,000 rows at most. */
void audit_read(struct audit *a, const struct audit_query *q);
/* Sequence number of the newest row, 0: none. */
uint64_t audit_last(const struct audit *a);
