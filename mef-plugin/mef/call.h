/* One request on its way through mef/: who asks, the answer so far, and from when on it may be given. */
#pragma once
#include "mef-plugin/mef/resource.h"

struct call {
    struct mef *m;
    struct cse_request *req;
    struct mef_principal who;
    struct cse_response rsp; /* ST_INTERNAL until somebody says more */
    char location[MEF_ID + MEF_RELKEYID];
    uint64_t seq; /* answer when this is durable */
    bool nothing; /* Result Content 0: a success without a body */
};
/* Hand the answer to the store's queue: it leaves when c->seq is durable. */
void call_finish(struct call *c);

/* Set a failure; returns false. The texts are static or part of the request. */
bool call_fail(struct call *c, enum st st, const char *code, const char *field, const char *detail);
bool call_fault(struct call *c, const struct mef_result *r);
/* Set a success with a body "name": obj (taken over; NULL means out of memory). Returns false when out of memory. */
bool call_answer(struct call *c, enum st st, const char *name, cJSON *obj);
void call_location(struct call *c, const char *ri);
/* In the trail stands who proved himself, not for whom he spoke. */
const char *call_actor(const struct call *c);
/* Note a refusal in the audit trail. */
void call_refused(struct call *c, const char *action, const char *object, const char *outcome);

/* Begin a change; NULL: failure is set. */
struct store_txn *call_begin(struct call *c);
/* Commit it, with its audit event, and answer once it is durable. */
void call_commit(struct call *c, struct store_txn *t, const char *action, const char *object);
/* Memory ran out after memory and transaction began to differ: ends the process. */
void call_broken(struct call *c, struct store_txn *t);

/* Checks that set the failure: the registration is the client's own; the adminFQDN is one that the credential is known
 * to, and the call is then made as its client; the expirationTime is to come (and is cut to the longest life); the labels
 * as a list that the caller owns. */
MUST_USE bool call_owner(struct call *c, const struct res *r);
MUST_USE bool call_stakeholder(struct call *c, const char *admin, const char *action);
MUST_USE bool call_expiry(struct call *c, int64_t asked, int64_t max_ms, int64_t *expires);
MUST_USE bool call_labels(struct call *c, const struct attr_value *v, struct strings *out);

struct update {
    const char *name, *action;
    const struct attr_value *et, *lbl;
    struct strings *targets; /* taken over on success; NULL: unchanged */
    int64_t max_ms;
};
void call_update(struct call *c, struct res *r, const struct update *u);
void call_delete(struct call *c, struct res *r, const char *action);

/* Answer a retrieve of the MEFBase with a filterUsage. */
void call_discover(struct call *c);
/* Answer a request for what is behind MEF_FETCH_PATH and its '/'. */
void call_fetch(struct call *c, const char *path);

/* What the operations on one resource type are. */
struct res_type {
    int ty;
    const char *name;  /* root member */
    const char *child; /* its name below the mefClientReg that it belongs to, which then stands for it; NULL: none */
    const struct attr *attrs;
    size_t nattrs;
    void (*create)(struct call *c, const struct attr_value *v); /* NULL: the MEF makes them */
    void (*retrieve)(struct call *c, struct res *r);
    void (*update)(struct call *c, struct res *r, const struct attr_value *v); /* NULL: clients do not */
    void (*remove)(struct call *c, struct res *r);                             /* the same */
};
#define MAX_ATTRS 16
extern const struct res_type clientreg_type, clientcmd_type, clientcfg_type, keyreg_type;
/* The attributes of a resource below a mefClientReg: ty, ri, rn, pi, ct, lt, et. NULL: out of memory. */
cJSON *child_json(const struct res *r, const struct res_type *t, int64_t modified);
/* A stakeholder's client registration; NULL: there is none with this id. */
struct res *clientreg_find(const struct mef *m, const char *admin, const char *id);
/* May the principal know of this resource? (discovery) */
bool res_visible(struct mef *m, const struct res *r, const struct mef_principal *who);
