/* What the files of mef/ share. The outside sees mef.h only. */
#pragma once
#include "config/names.h"
#include "mef-plugin/mef/answers.h"
#include "mef-plugin/mef/attrs.h"
#include "mef-plugin/mef/authority.h"
#include "mef-plugin/mef/mef.h"
#include "mef-plugin/mef/texts.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>
/* Whether HASH_ADD found the memory it needed: what it could not add belongs to no table. */
#define HASH_ADDED(hh, element) ((element)->hh.tbl != NULL)

#define MEF_MAX_ID 255 /* bytes of an M2M-ID, FQDN or gateway name */
#define MEF_ID (MEF_MAX_ID + 1)
#define MEF_MAX_NAME 64 /* bytes of the name of an application or rule */
#define MEF_MAX_LABELS 16
#define MEF_MAX_TARGETS 64
#define MEF_MAX_MEMBERS 200
#define MEF_MAX_RECORD 65536 /* bytes of a stored record; 200 members of 255 bytes fit */
#define MEF_MAX_FOUND 1000   /* elements of one m2m:uril */

struct res_index;

struct mef {
    struct mef_deps d;
    char *base;   /* path segment of the MEFBase */
    struct authorities *authorities; /* MEF-FQDNs; a stakeholder's is also the source id of keys published for it */
    char *sp_id;  /* "//sp.example.com" */
    char *cse_id; /* "/in-cse": completes AE-IDs that begin with 'C' */
    int64_t max_key_ms, max_registration_ms;
    size_t max_resources, max_client_keys, max_credentials, max_applications, max_policies, max_client_commands;
    size_t share_percent; /* of what all stakeholders share, that one may have */
    int64_t retry_s;      /* a client without commands asks again after so long */
    bool fetches;
    int64_t started;
    struct credential *credentials;   /* by name; of a PSK its KpmID */
    struct proof *proofs;             /* those of them that are proved by certificate, by SAN */
    struct application *applications; /* by "adminFQDN/name" */
    struct stakeholder *stakeholders; /* by adminFQDN */
    struct res_index *resources;
    struct map64 *exported; /* sessions whose exporter output became a key */
    struct answers answers;
    uint64_t known_seq; /* see mef_settle(); of credentials and members of applications */
    uint64_t gone_seq;  /* ..of labels that were taken off, or went with what had them */
    uint64_t sweeper;               /* timer */
    uint8_t record[MEF_MAX_RECORD]; /* scratch for one encoded record */
};

static inline int64_t mef_now(const struct mef *m)
{
    return m->d.ops->time(m->d.host);
}

/* When a record that was changed is durable: its sequence number is 0 until somebody asks, and then that of the newest
 * transaction handed over, for the change was committed by the time the loop came back. */
static inline uint64_t mef_settle(const struct mef *m, uint64_t *seq)
{
    if (*seq == 0)
        *seq = store_last(m->d.store);
    return *seq;
}
/* Done callback of every commit of this room: a failure ends the process. */
void mef_committed(void *user, enum st st);
/* 2*n random lower-case hex digits and NUL; false: the generator failed. n <= 32. */
MUST_USE bool mef_random_hex(struct mef *m, size_t n, char *out);

/* --- ids.c --- */
enum id_kind {
    ID_NONE,
    ID_ENTITY, /* AE-ID or CSE-ID */
    ID_FQDN,   /* a MAF */
    ID_GATEWAY /* "gateway:..", "node:.." */
};
/* The kind of an id and its one stored spelling (absolute, FQDNs in lower case, EUI-64s as 16 lower-case digits). */
enum id_kind mef_id(const struct mef *m, const char *id, char out[MEF_ID]);
/* "//.." and '*' behind what many ids begin with, in their stored spelling; false: no id begins so. */
MUST_USE bool mef_id_beginning(const char *text, char out[MEF_ID]);
/* Of an id in its stored spelling. Is it a CSE's, and not an AE's? The domain name that stands for it (TS-0001 6.5.1.1;
 * docs/decisions.md, "Derived keys"), and the name that a certificate for its holder bears (TS-0003 8.1.2): an AE's its
 * AE-ID, a CSE's its public domain name, a MAF's its FQDN, a node's its Node-ID; false: it has none. */
bool mef_id_is_cse(const char *id);
MUST_USE bool mef_id_domain(const char *id, char out[MEF_ID]);
MUST_USE bool mef_id_certified(enum id_kind kind, const char *id, char out[MEF_ID]);

/* Letters, digits, '.', '_' and '-': a name is also a path segment and a label. */
bool mef_is_name(const char *name);
/* What an application or rule is kept under: "adminFQDN/name". False: this is no name. */
#define MEF_KEY (MEF_ID + MEF_MAX_NAME + 1)
MUST_USE bool mef_name_key(const char *admin, const char *name, char key[MEF_KEY]);

/* Visit a table's rows; false: it can not be read, or fn returned false. */
MUST_USE bool mef_load(struct mef *m, enum store_table table, bool (*fn)(void *user, struct span key, struct span val));
/* An operator's act, in the transaction of its change. */
void mef_audit(struct mef *m, struct store_txn *t, const char *admin, const char *actor, const char *action,
               const char *object);

/* --- credential.c, application.c --- */
MUST_USE bool credentials_load(struct mef *m);
void credentials_free(struct mef *m);
MUST_USE bool applications_load(struct mef *m);
void applications_free(struct mef *m);

/* --- the record decoders, for the fuzzers --- */
bool credential_decode(struct span key, struct span val);
bool application_decode(struct span key, struct span val);
bool rule_decode(struct span key, struct span val);
