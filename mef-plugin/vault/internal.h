/* Shared by the vault's own files. */
#pragma once
#include "mef-plugin/vault/counter.h"
#include "mef-plugin/vault/keytable.h"
#include "mef-plugin/vault/seal.h"

struct vault {
    struct vault_host host;
    struct seal *seal;
    struct mac *mac;
    struct deriver *deriver;
    struct zb_crypto *zb;
    struct keytable *keys;
    struct counters *counters;
    vault_id next_id;
};

/* A key, unsealed on the caller's stack: to be wiped with key_wipe whatever happens. n == 0: there is none. */
struct key {
    enum vault_kind kind;
    size_t n;
    uint8_t bytes[SEAL_KEY_MAX];
};
void key_open(struct vault *v, vault_id id, struct key *key);
void key_wipe(struct key *key);

/* Seal the bytes as a new key: into the table and the transaction. */
MUST_USE enum st key_add(struct vault *v, struct store_txn *t, enum vault_kind kind, struct span bytes, vault_id *id);

/* vault_aps_command with the keys laid open; carried: NULL if none, link_key: NULL for no APS security. */
MUST_USE enum zb_err aps_command(struct zb_crypto *zb, const uint8_t *link_key, const uint8_t *carried,
                                 const struct vault_aps_command *in, struct wr *aps);

/* --- derive.c --- */
MUST_USE struct deriver *deriver_new(void); /* NULL: out of memory, or OpenSSL lacks HMAC-SHA-256 */
void deriver_free(struct deriver *d);
