/* Keys made, taken in and given out. */
#include "mef-plugin/vault/internal.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

struct kind_rule {
    size_t min, max; /* bytes */
    bool guarded;    /* a publicly known value is refused */
};
static const struct kind_rule rules[] = {
    [VAULT_LINK_KEY] = {ZB_KEY, ZB_KEY, true}, [VAULT_NETWORK_KEY] = {ZB_KEY, ZB_KEY, true},
    [VAULT_TCLK] = {ZB_KEY, ZB_KEY, true},     [VAULT_PSK] = {16, SEAL_KEY_MAX, false},
    [VAULT_SYMM_KEY] = {16, SEAL_KEY_MAX, false},
};

static bool length_fits(enum vault_kind kind, size_t n)
{
    size_t k = (size_t)kind;
    return k < sizeof rules / sizeof *rules && n >= rules[k].min && n <= rules[k].max && n > 0;
}

enum st vault_generate(struct vault *v, struct store_txn *t, enum vault_kind kind, size_t len, vault_id *id)
{
    uint8_t key[SEAL_KEY_MAX];
    if (!length_fits(kind, len))
        return ST_UNACCEPTABLE;
    enum st st = ST_INTERNAL;
    if (v->host.random(v->host.user, key, len))
        st = key_add(v, t, kind, span_of(key, len), id);
    OPENSSL_cleanse(key, sizeof key);
    return st;
}

enum st vault_import(struct vault *v, struct store_txn *t, enum vault_kind kind, struct span bytes, vault_id *id)
{
    if (!length_fits(kind, bytes.n) || (rules[kind].guarded && zb_key_is_public(bytes.p)))
        return ST_UNACCEPTABLE;
    return key_add(v, t, kind, bytes, id);
}

/* What the text or code could not be read for. */
static enum st refuse(enum zb_err e, const char **why)
{
    *why = zb_err_name(e);
    return e == ZB_INTERNAL ? ST_INTERNAL : ST_BAD_REQUEST;
}

enum st vault_import_code(struct vault *v, struct store_txn *t, struct span code, bool allow_short, vault_id *id,
                          const char **why)
{
    uint8_t key[ZB_KEY];
    enum zb_err e = zb_install_code_key(v->zb, code, key);
    if (e != ZB_OK)
        return refuse(e, why);
    enum st st = ST_UNACCEPTABLE;
    if (code.n < 16 + 2 && !allow_short) {
        *why = "short-code";
    } else {
        st = vault_import(v, t, VAULT_LINK_KEY, span_of(key, sizeof key), id);
        *why = st == ST_UNACCEPTABLE ? "public-key" : NULL;
    }
    OPENSSL_cleanse(key, sizeof key);
    return st;
}

enum st vault_import_code_text(struct vault *v, struct store_txn *t, const char *text, bool allow_short, vault_id *id,
                               const char **why)
{
    uint8_t code[18];
    size_t n = 0;
    enum zb_err e = zb_install_code_parse(text, code, &n);
    enum st st = e == ZB_OK ? vault_import_code(v, t, span_of(code, n), allow_short, id, why) : refuse(e, why);
    OPENSSL_cleanse(code, sizeof code);
    return st;
}

enum st vault_import_key_text(struct vault *v, struct store_txn *t, const char *hex32, vault_id *id, const char **why)
{
    uint8_t key[ZB_KEY];
    size_t n = strlen(hex32);
    if (n != 2 * ZB_KEY)
        return refuse(ZB_BAD_LENGTH, why);
    enum st st = ST_BAD_REQUEST;
    if (hex_decode(hex32, n, key, sizeof key)) {
        st = vault_import(v, t, VAULT_LINK_KEY, span_of(key, sizeof key), id);
        *why = st == ST_UNACCEPTABLE ? "public-key" : NULL;
    } else {
        *why = zb_err_name(ZB_BAD_HEX);
    }
    OPENSSL_cleanse(key, sizeof key);
    return st;
}

enum st vault_import_label(struct vault *v, struct store_txn *t, const char *text, bool allow_short, eui64_t *eui,
                           vault_id *id, const char **why, size_t *at)
{
    struct zb_label label;
    enum st st = ST_BAD_REQUEST;
    if (zb_label_parse(text, &label, why, at) == ZB_OK) {
        struct span bytes = span_of(label.bytes, label.len);
        *eui = label.eui64;
        *why = NULL;
        st = label.is_link_key ? vault_import(v, t, VAULT_LINK_KEY, bytes, id)
                               : vault_import_code(v, t, bytes, allow_short, id, why);
        if (label.is_link_key && st == ST_UNACCEPTABLE)
            *why = "public-key";
    }
    OPENSSL_cleanse(&label, sizeof label);
    return st;
}

/* --- the ways out --------------------------------------------------------------------------------------------------- */

size_t vault_release(struct vault *v, vault_id id, uint8_t *out, size_t cap)
{
    struct key key;
    size_t n = 0;
    key_open(v, id, &key);
    if (key.n <= cap) {
        memcpy(out, key.bytes, key.n);
        n = key.n;
    }
    key_wipe(&key);
    return n;
}

bool vault_release_base64(struct vault *v, vault_id id, char *out, size_t cap)
{
    struct key key;
    key_open(v, id, &key);
    bool ok = key.n > 0 && cap >= (key.n + 2) / 3 * 4 + 1;
    if (ok)
        EVP_EncodeBlock((unsigned char *)out, key.bytes, (int)key.n);
    key_wipe(&key);
    return ok;
}

bool vault_release_hex(struct vault *v, vault_id id, char *out, size_t cap)
{
    struct key key;
    key_open(v, id, &key);
    bool ok = key.n > 0 && cap >= key.n * 2 + 1;
    if (ok)
        hex_encode(key.bytes, key.n, out);
    key_wipe(&key);
    return ok;
}
