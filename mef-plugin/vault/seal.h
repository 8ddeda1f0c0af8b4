/* The vault's own cryptography: key rows sealed under the KEK, and a MAC under a secret that is itself kept sealed. */
#pragma once
#include "mef-plugin/vault/vault.h"

#define SEAL_KEK 32
#define SEAL_KEY_MAX 64 /* largest key kept */
#define SEAL_NONCE 12
#define SEAL_TAG 16
/* A row: version 1, kind 1, nonce 12, ciphertext (as long as the key), tag 16. The associated data is version, id (8
 * bytes, big endian) and kind, so a row moved to another id or given another kind does not open. */
#define SEAL_OVERHEAD (2 + SEAL_NONCE + SEAL_TAG)
#define SEAL_ROW_MAX (SEAL_OVERHEAD + SEAL_KEY_MAX)

struct seal;
MUST_USE struct seal *seal_new(const uint8_t kek[SEAL_KEK]); /* NULL: out of memory, or OpenSSL lacks AES-256-GCM */
void seal_free(struct seal *s);
/* Append the row to w. The nonce is random and never used twice. */
MUST_USE bool seal_wrap(struct seal *s, vault_id id, enum vault_kind kind, const uint8_t nonce[SEAL_NONCE],
                        struct span key, struct wr *w);
/* Open a row. Returns the key's length; 0, and nothing in `key`, if the row is malformed or was not sealed under this
 * KEK for this id. The caller wipes `key`. */
size_t seal_unwrap(struct seal *s, vault_id id, struct span row, enum vault_kind *kind, uint8_t key[SEAL_KEY_MAX]);
/* What the row says it is, unchecked; VAULT_NO_KEY: the row is empty. */
enum vault_kind seal_kind(struct span row);

struct mac;
MUST_USE struct mac *mac_new(const uint8_t secret[32]); /* NULL: out of memory, or OpenSSL lacks HMAC-SHA-256 */
void mac_free(struct mac *m);
/* HMAC-SHA-256 of label || 0 || text. */
MUST_USE bool mac_of(struct mac *m, const char *label, struct span text, uint8_t out[32]);

/* Read a KEK: 32 raw bytes in a regular file that neither group nor others may touch. Else one line in err. */
MUST_USE bool kek_read(const char *path, uint8_t kek[SEAL_KEK], char *err, size_t errlen);
