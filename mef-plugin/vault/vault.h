/* The vault: the only room that sees key bytes. Callers name keys by id and ask for acts: make, seal, open, forge. At
 * rest and in memory keys are sealed (AES-256-GCM under the KEK, the record's id and kind as associated data); an act
 * unseals to a local buffer and wipes it. The one way out is vault_release and its two text forms: to a recipient that
 * policy has approved, or to TLS where it ends.
 *
 * Counters (docs/decisions.md): one allocator per (key, source) gives NWK and APS frame counters, NWK sequence and
 * APS counter. The row is keyed by a fingerprint of the key's BYTES, so the same install code registered again goes on
 * where it was, and it survives deletion of the key. A number is used only after the transaction that took it is
 * durable: forge at once, radiate after the commit. */
#pragma once
#include "cse-shim/base/bytes.h"
#include "cse-shim/base/hex.h"
#include "cse-shim/base/status.h"
#include "mef-plugin/store/store.h"
#include "mef-plugin/zigbee/zigbee.h"

typedef uint64_t vault_id; /* 0: none. Never reused */

enum vault_kind { /* numbers are stored */
    VAULT_NO_KEY,       /* of what is not there */
    VAULT_LINK_KEY,     /* from an install code or given ready: 16 bytes */
    VAULT_NETWORK_KEY,  /* Zigbee network key = ESData key: 16 bytes */
    VAULT_TCLK,         /* trust-centre link key made here */
    VAULT_PSK,          /* Kpm of an enrolee: 16 to 64 bytes */
    VAULT_SYMM_KEY,     /* symmKeyReg value: 16 to 64 bytes */
    VAULT_TOKEN_MAC     /* the vault's own MAC secret; no caller makes one */
};

struct vault_host {
    void *user;
    bool (*random)(void *user, void *out, size_t n);
};

struct vault;
/* Open over a store, with the KEK (32 bytes) read from a 0600 file. A KEK that does not fit the stored check value is
 * refused with one line in err. Loads all key rows and counters. */
MUST_USE struct vault *vault_open(struct store *s, const char *kek_path, const struct vault_host *host, char *err,
                                  size_t errlen);
void vault_close(struct vault *v); /* wipes */

/* --- keys: each takes part in the caller's transaction, and is usable at once ------------------------------------- */
/* A transaction that is aborted or meets ST_CONFLICT does not take back what it did here: drop a key it made with
 * vault_delete in another transaction. Counters it took are lost, which is harmless. */
/* A fresh random key. len: 16 for Zigbee kinds; ST_UNACCEPTABLE: the kind does not allow this length. */
MUST_USE enum st vault_generate(struct vault *v, struct store_txn *t, enum vault_kind kind, size_t len, vault_id *id);
/* Keep key bytes that came from outside (symmKeyReg keyValue, ready link key). A publicly known link key, or one that
 * is not 16 bytes, is ST_UNACCEPTABLE. */
MUST_USE enum st vault_import(struct vault *v, struct store_txn *t, enum vault_kind kind, struct span bytes, vault_id *id);
/* Install code (code||CRC as bytes) -> link key. ST_BAD_REQUEST: length or CRC wrong (*why = "bad-length", "bad-crc");
 * ST_UNACCEPTABLE: publicly known key (*why = "public-key"), or shorter than 16+2 without allow_short (*why = "short-code"). */
MUST_USE enum st vault_import_code(struct vault *v, struct store_txn *t, struct span code, bool allow_short, vault_id *id,
                                   const char **why);
/* Text as typed by the operator (code as printed, or 32 hex of a link key), so that no other room decodes key text. */
MUST_USE enum st vault_import_code_text(struct vault *v, struct store_txn *t, const char *text, bool allow_short,
                                        vault_id *id, const char **why);
MUST_USE enum st vault_import_key_text(struct vault *v, struct store_txn *t, const char *hex32, vault_id *id,
                                       const char **why);
/* The text of a device's label (zb_label_parse): the code or key goes in, its EUI-64 comes out. */
MUST_USE enum st vault_import_label(struct vault *v, struct store_txn *t, const char *text, bool allow_short,
                                    eui64_t *eui, vault_id *id, const char **why, size_t *at);
/* Drop a key (its counters stay). */
void vault_delete(struct vault *v, struct store_txn *t, vault_id id);
bool vault_same(struct vault *v, vault_id a, vault_id b); /* same bytes? constant time */
bool vault_has(const struct vault *v, vault_id id);
enum vault_kind vault_kind_of(const struct vault *v, vault_id id);

/* --- keys made of keys (TS-0003 10.3; what its text leaves open: docs/decisions.md) -------------------------------- */
enum vault_derived {
    VAULT_KM,            /* of Ke, for a MAF (10.3.2) */
    VAULT_KPSA,          /* of Ke, for the AE or CSE that an enrolee connects to (10.3.3) */
    VAULT_KUC,           /* of Ke, for one usage and target (10.3.7) */
    VAULT_SESSION_ESPRIM /* of a pairwiseESPrimKey (10.3.8) */
};
#define VAULT_ESPRIM_RAND 16
struct vault_derivation {
    enum vault_derived what;
    vault_id from;                               /* Ke or pairwiseESPrimKey: a VAULT_SYMM_KEY */
    unsigned suid;                               /* VAULT_KUC: 21 to 25 */
    const char *id;                              /* Km: MAF-ID; Kpsa: absolute CSE-ID or AE-ID; Kuc: the target's FQDN */
    struct span receiver_rand, originator_rand; /* session: VAULT_ESPRIM_RAND bytes each */
};
/* The derived key, 32 bytes, as a new VAULT_SYMM_KEY. ST_NOT_FOUND: `from` is missing or of another kind;
 * ST_BAD_REQUEST: what is to go in is missing or of a wrong length. */
MUST_USE enum st vault_derive(struct vault *v, struct store_txn *t, const struct vault_derivation *in, vault_id *id);

/* --- the ways out --------------------------------------------------------------------------------------------------- */
/* Copy a key to `out` for a recipient that policy approved (a sensitive response). Returns its length, 0: no such key
 * or no room. The caller wipes `out`. */
size_t vault_release(struct vault *v, vault_id id, uint8_t *out, size_t cap);
/* The same as padded base64 text (symmKeyReg keyValue) or lower-case hex (Kpm shown once); NUL-terminated; the caller
 * wipes `out` (OPENSSL_cleanse). False: no such key or no room. */
bool vault_release_base64(struct vault *v, vault_id id, char *out, size_t cap);
bool vault_release_hex(struct vault *v, vault_id id, char *out, size_t cap);

/* --- counters ------------------------------------------------------------------------------------------------------- */
/* Take n consecutive numbers (1..16) for frames sealed under `key` with source address `source`; the row goes into t.
 * The first number of a new pair is 1. ST_UNAVAILABLE: the counter space is used up (0xffffffff is never given);
 * ST_NOT_FOUND: no such key; ST_BAD_REQUEST: n out of range. */
MUST_USE enum st vault_take(struct vault *v, struct store_txn *t, vault_id key, eui64_t source, unsigned n, uint32_t *first);

/* Counters do not restart at a key switch (design 5.5): from now on the numbers of `key` are above the one just taken of
 * `before`, which goes into t. Errors as vault_take. */
MUST_USE enum st vault_counters_follow(struct vault *v, struct store_txn *t, vault_id key, vault_id before,
                                       eui64_t source);

/* --- Zigbee acts ----------------------------------------------------------------------------------------------------- */
struct vault_aps_command {   /* an APS command and how it is secured (Zig 4.4.1, 4.4.10) */
    const struct zb_cmd *cmd; /* a Transport-Key's `key` is not read: `carried` names it */
    vault_id carried;         /* Transport-Key: the key transported, of the kind that the command's key type says */
    vault_id link_key;        /* secured under this one, or what is derived from it; 0: no APS security */
    uint8_t key_id;           /* ZB_KEY_ID_..: the link key itself, its key-transport or its key-load key */
    uint32_t counter;         /* APS frame counter, from vault_take(link_key, source) */
    eui64_t source;
    uint8_t aps_counter;
    bool ack_request;
};
/* Forge the complete APS frame. ST_NOT_FOUND: a key is missing or of another kind; ST_INTERNAL: the command does not
 * build, or would carry a key without APS security. */
MUST_USE enum st vault_aps_command(struct vault *v, const struct vault_aps_command *in, struct wr *aps);
/* Open an APS frame that `source` secured under a link key or what is derived from it. A frame of any other source is
 * ZB_NO_KEY: what was sealed here, Transport-Keys among it, is not opened again. */
MUST_USE enum zb_err vault_aps_open(struct vault *v, vault_id link_key, struct span frame, eui64_t source,
                                    struct zb_aps *h, struct zb_aux *aux, struct wr *plain);
/* Is this the Verify-Key hash of the key (Zig 4.4.10.7.4)? Constant time. */
bool vault_verify_hash(struct vault *v, vault_id link_key, const uint8_t hash[ZB_KEY]);
/* Open / seal a NWK frame under a network key. */
MUST_USE enum zb_err vault_nwk_open(struct vault *v, vault_id network_key, struct span frame, struct zb_nwk *h,
                                    struct zb_aux *aux, struct wr *plain);
MUST_USE enum zb_err vault_nwk_seal(struct vault *v, vault_id network_key, const struct zb_nwk *h, uint32_t counter,
                                    eui64_t source, uint8_t key_seq, struct span payload, struct wr *frame);

/* MAC of a bearer token or other secret text, for storing and comparing without the secret (HMAC-SHA-256). */
MUST_USE bool vault_mac(struct vault *v, const char *label, struct span text, uint8_t out[32]);
