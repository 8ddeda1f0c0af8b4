/* Credentials: what a peer proves in the handshake, and whom it then is. A KpmID names one pre-shared key (Kpm); the
 * key itself is in the vault. A subjectAltName (SAN) is proved by a certificate; whose word is good for that, says the
 * host's configuration. */
#pragma once
#include "mef-plugin/mef/shelf.h"

#define RAW_KEY "ni:///sha-256;" /* RFC 6920: behind it, in base64url, the hash of the SubjectPublicKeyInfo */

struct credential {
    char *name;  /* of the credential; of a PSK its KpmID */
    char *san;   /* of a certificate; NULL: it is a PSK */
    char *admin; /* adminFQDN */
    char *id;    /* whom it authenticates, in stored spelling */
    bool gateway;            /* or node */
    struct strings acts_for; /* absolute ids of the AEs and the CSE on a node */
    vault_id key;             /* of a PSK */
    int64_t created, expires; /* expires 0: never */
    struct credential *next;  /* of the same SAN */
    struct uses uses;         /* by whom it speaks for */
    struct sorted_node listed;
    UT_hash_handle hh;
};

void credential_free(struct credential *c); /* NULL is fine */
void credential_encode(struct wr *w, const struct credential *c);
/* Into memory, by its names. False: out of memory, and it is still the caller's. */
MUST_USE bool credential_add(struct mef *m, struct credential *c);
/* A stakeholder's, by its name; NULL: none. */
struct credential *credential_find(const struct mef *m, const char *admin, const char *name);
/* ..its word on a name that certificates prove. */
struct credential *credential_certificate(const struct mef *m, const char *admin, const char *san);
/* What the peer is by this id for each stakeholder that knows it so; `p` is good until fn() returns. */
void credential_each_principal(struct mef *m, const struct cse_peer *peer, const char *id,
                               void (*fn)(void *user, const struct mef_principal *p), void *user);
bool credential_is_raw_key(const char *name);
cJSON *credential_json(const struct credential *c);
