/* The registrations of mef/ in memory and in the store: found by id, and by what their stakeholder's shelves have
 * (enum by); gone when their expirationTime passes. */
#pragma once
#include "mef-plugin/mef/shelf.h"

struct commands;
struct configuration;

struct res {
    int ty;                /* MEF_TY_CLIENT_REG or MEF_TY_KEY_REG */
    char ri[MEF_RELKEYID]; /* resourceID; of a symmKeyReg its RelativeKeyID */
    char *admin;           /* adminFQDN */
    char *owner;           /* registrant, or source of the key (its MEF-FQDN at that time: see `published`) */
    int64_t created, modified, expires;
    uint64_t serial; /* order of creation */
    uint64_t seq;    /* see mef_settle() */
    struct strings labels;
    struct commands *commands; /* of a mefClientReg; NULL: it was never asked for any */
    struct configuration *configuration; /* NULL: none */
    /* symmKeyReg only */
    unsigned suid;
    vault_id key;
    int64_t ke_expires; /* exported from a session: the end of what is made of its credential (INT64_MAX: none). Else 0 */
    char *application;      /* its members may retrieve, too; "": none */
    struct strings targets; /* absolute ids */
    /* index */
    bool published; /* by the MEF itself, of a device. The owner does not tell: a MEF-FQDN of then may be none of today */
    struct uses uses;
    struct sorted_node due, listed;
    UT_hash_handle hh;
};

MUST_USE bool resources_open(struct mef *m); /* loads */
void resources_free(struct mef *m);
bool res_room(const struct mef *m, const char *admin); /* may this stakeholder have one more? */
size_t res_keys_of(const struct mef *m, const char *admin, const char *owner); /* key registrations of one source */

/* A fresh one, not yet indexed; texts are copied. NULL: out of memory. */
struct res *res_new(struct mef *m, int ty, const char *ri, const char *admin, const char *owner);
void res_free(struct res *r);
/* Make it findable and put it into the transaction. On failure it is freed. */
MUST_USE bool res_add(struct mef *m, struct store_txn *t, struct res *r);
/* Write a changed one, with what is new of it; labels and targets are taken over (NULL: unchanged). */
struct res_change {
    int64_t expires;
    struct strings *labels, *targets;
};
MUST_USE bool res_changed(struct mef *m, struct store_txn *t, struct res *r, const struct res_change *to);
/* Remove and free it, with its commands and configuration, and with its key if that is ours. */
void res_drop(struct mef *m, struct store_txn *t, struct res *r);

/* NULL: none; it may have expired. */
struct res *res_at(const struct mef *m, struct span ri);
/* NULL: none, or expired. */
struct res *res_find(const struct mef *m, const char *ri);
struct res *res_registration(const struct mef *m, const char *admin, const char *owner);

/* The order of discovery: what the MEF published before what clients deposited, for every client may label a key of his
 * with a device that is not his; else the newest first. */
int res_order(const void *a, const void *b);

/* The attributes that both types show: ty, ri, rn, pi, ct, lt, et, lbl, adfq, srci. NULL: out of memory. */
MUST_USE cJSON *res_json(const struct mef *m, const struct res *r);
/* Strict decoder of a stored record; NULL: damaged. */
struct res *res_decode(int ty, struct span key, struct span val);

/* --- clientcmd.c: the commands of a mefClientReg live and end with it --- */
MUST_USE bool commands_load(struct mef *m); /* after the registrations */
void commands_free(struct commands *s);     /* NULL is fine */
void commands_drop(struct store_txn *t, struct res *r);
/* Strict decoder of a stored record; NULL: damaged. */
struct commands *commands_decode(struct span val);

/* --- clientcfg.c: so does its configuration --- */
MUST_USE bool configurations_load(struct mef *m); /* after the registrations */
void configuration_free(struct configuration *f); /* NULL is fine */
void configuration_drop(struct store_txn *t, struct res *r);
struct configuration *configuration_decode(struct span val);
