/* The primitives of Zigbee security on OpenSSL's AES-128: MMO hash, keyed hash, CCM*. */
#include "mef-plugin/zigbee/internal.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>

enum { NONCE = 13 };

struct zb_crypto {
    EVP_CIPHER *ecb, *ccm;
    EVP_CIPHER_CTX *block; /* re-keyed for every block of the hash */
    EVP_CIPHER_CTX *seal, *open;
};

const char *zb_err_name(enum zb_err e)
{
    static const char *const names[] = {[ZB_OK] = "ok",
                                        [ZB_TRUNCATED] = "truncated",
                                        [ZB_MALFORMED] = "malformed",
                                        [ZB_BAD_MIC] = "bad-mic",
                                        [ZB_NO_KEY] = "no-key",
                                        [ZB_BAD_CRC] = "bad-crc",
                                        [ZB_BAD_LENGTH] = "bad-length",
                                        [ZB_BAD_HEX] = "bad-hex",
                                        [ZB_NO_SPACE] = "no-space",
                                        [ZB_INTERNAL] = "internal"};
    return (size_t)e < sizeof names / sizeof names[0] ? names[e] : "internal";
}

static bool start(struct zb_crypto *c)
{
    return (c->ecb = EVP_CIPHER_fetch(NULL, "AES-128-ECB", NULL)) != NULL &&
           (c->ccm = EVP_CIPHER_fetch(NULL, "AES-128-CCM", NULL)) != NULL &&
           (c->block = EVP_CIPHER_CTX_new()) != NULL && (c->seal = EVP_CIPHER_CTX_new()) != NULL &&
           (c->open = EVP_CIPHER_CTX_new()) != NULL && EVP_EncryptInit_ex(c->block, c->ecb, NULL, NULL, NULL) == 1 &&
           EVP_CIPHER_CTX_set_padding(c->block, 0) == 1 && EVP_EncryptInit_ex(c->seal, c->ccm, NULL, NULL, NULL) == 1 &&
           EVP_CIPHER_CTX_ctrl(c->seal, EVP_CTRL_AEAD_SET_IVLEN, NONCE, NULL) == 1 &&
           EVP_DecryptInit_ex(c->open, c->ccm, NULL, NULL, NULL) == 1 &&
           EVP_CIPHER_CTX_ctrl(c->open, EVP_CTRL_AEAD_SET_IVLEN, NONCE, NULL) == 1;
}

struct zb_crypto *zb_crypto_new(void)
{
    struct zb_crypto *c = calloc(1, sizeof *c);
    if (c == NULL || start(c))
        return c;
    zb_crypto_free(c);
    return NULL;
}

void zb_crypto_free(struct zb_crypto *c)
{
    if (c == NULL)
        return;
    EVP_CIPHER_CTX_free(c->block);
    EVP_CIPHER_CTX_free(c->seal);
    EVP_CIPHER_CTX_free(c->open);
    EVP_CIPHER_free(c->ecb);
    EVP_CIPHER_free(c->ccm);
    free(c);
}

/* A context keeps its last key, as the key's schedule, until the next one: put one in its place that is no secret. */
static bool forget(EVP_CIPHER_CTX *x)
{
    static const uint8_t none[ZB_KEY];
    return EVP_CipherInit_ex(x, NULL, NULL, none, NULL, -1) == 1;
}

/* One step of Matyas-Meyer-Oseas: H = E(H, M) xor M. */
static bool mmo_block(struct zb_crypto *c, uint8_t h[ZB_KEY], const uint8_t m[ZB_KEY])
{
    uint8_t e[ZB_KEY];
    int n = 0;
    bool ok = EVP_EncryptInit_ex(c->block, NULL, NULL, h, NULL) == 1 &&
              EVP_EncryptUpdate(c->block, e, &n, m, ZB_KEY) == 1 && n == ZB_KEY;
    for (size_t i = 0; ok && i < ZB_KEY; i++)
        h[i] = e[i] ^ m[i];
    OPENSSL_cleanse(e, sizeof e);
    return ok;
}

/* Hash of prefix || in, where prefix is NULL or one block. Padding (Zig B.6): 1 bit, zeros, 16-bit count of bits; the
 * count needs two bytes and the 1 bit one, so an input that leaves fewer than three bytes takes another block. */
static enum zb_err mmo(struct zb_crypto *c, const uint8_t *prefix, struct span in, uint8_t out[ZB_KEY])
{
    size_t total = in.n + (prefix != NULL ? ZB_KEY : 0);
    if (total >= 8192)
        return ZB_BAD_LENGTH;

    uint8_t last[2 * ZB_KEY] = {0};
    size_t whole = in.n - in.n % ZB_KEY;
    size_t rest = in.n - whole;
    size_t end = rest + 3 <= ZB_KEY ? ZB_KEY : 2 * ZB_KEY;
    if (rest != 0)
        memcpy(last, in.p + whole, rest);
    last[rest] = 0x80;
    last[end - 2] = (uint8_t)(total * 8 >> 8);
    last[end - 1] = (uint8_t)(total * 8);

    memset(out, 0, ZB_KEY);
    bool ok = prefix == NULL || mmo_block(c, out, prefix);
    for (size_t i = 0; ok && i < whole; i += ZB_KEY)
        ok = mmo_block(c, out, in.p + i);
    for (size_t i = 0; ok && i < end; i += ZB_KEY)
        ok = mmo_block(c, out, last + i);
    OPENSSL_cleanse(last, sizeof last);
    return ok ? ZB_OK : ZB_INTERNAL;
}

enum zb_err zb_mmo(struct zb_crypto *c, struct span in, uint8_t out[ZB_KEY])
{
    enum zb_err e = mmo(c, NULL, in, out);
    /* The context holds the state before the last block. Of an install code that block is its CRC: 2^16 tries to the
     * link key. (The keyed hash leaves no such state: its last block is a hash that nobody knows.) */
    return forget(c->block) ? e : ZB_INTERNAL;
}

enum zb_err zb_keyed_hash(struct zb_crypto *c, const uint8_t key[ZB_KEY], struct span in, uint8_t out[ZB_KEY])
{
    uint8_t ipad[ZB_KEY], opad[ZB_KEY], inner[ZB_KEY];
    for (size_t i = 0; i < ZB_KEY; i++) {
        ipad[i] = key[i] ^ 0x36;
        opad[i] = key[i] ^ 0x5c;
    }
    enum zb_err e = mmo(c, ipad, in, inner);
    if (e == ZB_OK)
        e = mmo(c, opad, span_of(inner, sizeof inner), out);
    OPENSSL_cleanse(ipad, sizeof ipad);
    OPENSSL_cleanse(opad, sizeof opad);
    OPENSSL_cleanse(inner, sizeof inner);
    return e;
}

enum zb_err zb_derive(struct zb_crypto *c, const uint8_t link_key[ZB_KEY], enum zb_derived which, uint8_t out[ZB_KEY])
{
    uint8_t m = (uint8_t)which;
    return zb_keyed_hash(c, link_key, span_of(&m, 1), out);
}

static bool mic_len_ok(size_t n)
{
    return n == 4 || n == 8;
}

enum zb_err zb_ccm_seal(struct zb_crypto *c, const uint8_t key[ZB_KEY], const uint8_t nonce[NONCE], struct span aad,
                        struct span in, size_t mic_len, uint8_t *out)
{
    if (!mic_len_ok(mic_len) || in.n > UINT16_MAX || aad.n > UINT16_MAX)
        return ZB_BAD_LENGTH;
    EVP_CIPHER_CTX *x = c->seal;
    int n;
    /* CCM wants the length of the text before the authenticated data. A NULL text would be taken for that call again,
     * so an empty one points somewhere. */
    const uint8_t *text = in.n != 0 ? in.p : nonce;
    bool ok = EVP_CIPHER_CTX_ctrl(x, EVP_CTRL_AEAD_SET_TAG, (int)mic_len, NULL) == 1 &&
              EVP_EncryptInit_ex(x, NULL, NULL, key, nonce) == 1 &&
              EVP_EncryptUpdate(x, NULL, &n, NULL, (int)in.n) == 1 &&
              (aad.n == 0 || EVP_EncryptUpdate(x, NULL, &n, aad.p, (int)aad.n) == 1) &&
              EVP_EncryptUpdate(x, out, &n, text, (int)in.n) == 1 &&
              EVP_CIPHER_CTX_ctrl(x, EVP_CTRL_AEAD_GET_TAG, (int)mic_len, out + in.n) == 1;
    ok = forget(x) && ok;
    return ok ? ZB_OK : ZB_INTERNAL;
}

enum zb_err zb_ccm_open(struct zb_crypto *c, const uint8_t key[ZB_KEY], const uint8_t nonce[NONCE], struct span aad,
                        struct span in, size_t mic_len, uint8_t *out)
{
    if (!mic_len_ok(mic_len) || in.n > UINT16_MAX || aad.n > UINT16_MAX)
        return ZB_BAD_LENGTH;
    if (in.n < mic_len)
        return ZB_TRUNCATED;
    EVP_CIPHER_CTX *x = c->open;
    size_t len = in.n - mic_len;
    uint8_t mic[8], spare[1];
    int n;
    memcpy(mic, in.p + len, mic_len);
    bool ok = EVP_CIPHER_CTX_ctrl(x, EVP_CTRL_AEAD_SET_TAG, (int)mic_len, mic) == 1 &&
              EVP_DecryptInit_ex(x, NULL, NULL, key, nonce) == 1 &&
              EVP_DecryptUpdate(x, NULL, &n, NULL, (int)len) == 1 &&
              (aad.n == 0 || EVP_DecryptUpdate(x, NULL, &n, aad.p, (int)aad.n) == 1);
    bool good = ok && EVP_DecryptUpdate(x, len != 0 ? out : spare, &n, in.p, (int)len) == 1;
    if (!forget(x) || !ok)
        return ZB_INTERNAL;
    if (good)
        return ZB_OK;
    if (len != 0)
        OPENSSL_cleanse(out, len);
    return ZB_BAD_MIC;
}
