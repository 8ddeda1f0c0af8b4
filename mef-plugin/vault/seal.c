#include "mef-plugin/vault/seal.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <stdlib.h>

#define ROW_VERSION 1

/* One context each way with the KEK's schedule in it; a use sets only the nonce. */
struct seal {
    EVP_CIPHER_CTX *enc, *dec;
};

struct aad {
    uint8_t bytes[10];
};

static struct aad aad_of(uint8_t version, vault_id id, uint8_t kind)
{
    struct aad a;
    struct wr w = wr_of(a.bytes, sizeof a.bytes);
    wr_u8(&w, version);
    wr_be64(&w, id);
    wr_u8(&w, kind);
    return a;
}

struct seal *seal_new(const uint8_t kek[SEAL_KEK])
{
    struct seal *s = calloc(1, sizeof *s);
    EVP_CIPHER *gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    bool ok = s != NULL && gcm != NULL && (s->enc = EVP_CIPHER_CTX_new()) != NULL &&
              (s->dec = EVP_CIPHER_CTX_new()) != NULL && EVP_EncryptInit_ex2(s->enc, gcm, kek, NULL, NULL) == 1 &&
              EVP_DecryptInit_ex2(s->dec, gcm, kek, NULL, NULL) == 1;
    EVP_CIPHER_free(gcm); /* the contexts hold on to it */
    if (ok)
        return s;
    seal_free(s);
    return NULL;
}

void seal_free(struct seal *s)
{
    if (s == NULL)
        return;
    EVP_CIPHER_CTX_free(s->enc); /* wipes */
    EVP_CIPHER_CTX_free(s->dec);
    free(s);
}

bool seal_wrap(struct seal *s, vault_id id, enum vault_kind kind, const uint8_t nonce[SEAL_NONCE], struct span key,
               struct wr *w)
{
    struct aad aad = aad_of(ROW_VERSION, id, (uint8_t)kind);
    int n = 0, last = 0;
    wr_u8(w, ROW_VERSION);
    wr_u8(w, (uint8_t)kind);
    wr_bytes(w, nonce, SEAL_NONCE);
    uint8_t *text = wr_reserve(w, key.n), *tag = wr_reserve(w, SEAL_TAG);
    return text != NULL && tag != NULL && key.n > 0 && key.n <= SEAL_KEY_MAX &&
           EVP_EncryptInit_ex2(s->enc, NULL, NULL, nonce, NULL) == 1 &&
           EVP_EncryptUpdate(s->enc, NULL, &n, aad.bytes, sizeof aad.bytes) == 1 &&
           EVP_EncryptUpdate(s->enc, text, &n, key.p, (int)key.n) == 1 &&
           EVP_EncryptFinal_ex(s->enc, text + n, &last) == 1 &&
           EVP_CIPHER_CTX_ctrl(s->enc, EVP_CTRL_AEAD_GET_TAG, SEAL_TAG, tag) == 1;
}

static bool open_text(struct seal *s, const uint8_t *nonce, const struct aad *aad, struct span text, uint8_t *tag,
                      uint8_t *key)
{
    int n = 0, last = 0;
    return EVP_DecryptInit_ex2(s->dec, NULL, NULL, nonce, NULL) == 1 &&
           EVP_DecryptUpdate(s->dec, NULL, &n, aad->bytes, sizeof aad->bytes) == 1 &&
           EVP_DecryptUpdate(s->dec, key, &n, text.p, (int)text.n) == 1 &&
           EVP_CIPHER_CTX_ctrl(s->dec, EVP_CTRL_AEAD_SET_TAG, SEAL_TAG, tag) == 1 &&
           EVP_DecryptFinal_ex(s->dec, key + n, &last) == 1;
}

size_t seal_unwrap(struct seal *s, vault_id id, struct span row, enum vault_kind *kind, uint8_t key[SEAL_KEY_MAX])
{
    struct rd r = rd_of(row);
    uint8_t version, kind_byte, tag[SEAL_TAG];
    struct span nonce, text;
    bool ok = row.n > SEAL_OVERHEAD && row.n <= SEAL_ROW_MAX && rd_u8(&r, &version) && version == ROW_VERSION &&
              rd_u8(&r, &kind_byte) && rd_span(&r, SEAL_NONCE, &nonce) && rd_span(&r, row.n - SEAL_OVERHEAD, &text) &&
              rd_bytes(&r, tag, sizeof tag);
    if (!ok)
        return 0;
    struct aad aad = aad_of(version, id, kind_byte);
    if (!open_text(s, nonce.p, &aad, text, tag, key)) {
        OPENSSL_cleanse(key, SEAL_KEY_MAX);
        return 0;
    }
    *kind = (enum vault_kind)kind_byte;
    return text.n;
}

/* --- MAC ------------------------------------------------------------------------------------------------------------ */

struct mac {
    EVP_MAC_CTX *keyed; /* copied for each use */
};

struct mac *mac_new(const uint8_t secret[32])
{
    struct mac *m = calloc(1, sizeof *m);
    char sha256[] = "SHA256";
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string("digest", sha256, 0), OSSL_PARAM_construct_end()};
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    bool ok = m != NULL && hmac != NULL && (m->keyed = EVP_MAC_CTX_new(hmac)) != NULL &&
              EVP_MAC_init(m->keyed, secret, 32, params) == 1;
    EVP_MAC_free(hmac);
    if (ok)
        return m;
    mac_free(m);
    return NULL;
}

void mac_free(struct mac *m)
{
    if (m == NULL)
        return;
    EVP_MAC_CTX_free(m->keyed); /* wipes */
    free(m);
}

bool mac_of(struct mac *m, const char *label, struct span text, uint8_t out[32])
{
    size_t n = 0;
    EVP_MAC_CTX *c = EVP_MAC_CTX_dup(m->keyed);
    bool ok = c != NULL && EVP_MAC_update(c, (const uint8_t *)label, strlen(label) + 1) == 1 &&
              EVP_MAC_update(c, text.p, text.n) == 1 && EVP_MAC_final(c, out, &n, 32) == 1 && n == 32;
    EVP_MAC_CTX_free(c);
    return ok;
}

enum vault_kind seal_kind(struct span row)
{
    struct rd r = rd_of(row);
    uint8_t version, kind;
    return rd_u8(&r, &version) && rd_u8(&r, &kind) ? (enum vault_kind)kind : VAULT_NO_KEY;
}
