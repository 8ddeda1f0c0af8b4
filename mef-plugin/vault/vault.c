#include "mef-plugin/vault/internal.h"

#include <openssl/crypto.h>

#include <stdio.h>
#include <stdlib.h>

#define SECURE_HEAP 16384
#define ROOT 32 /* the MAC secret, sealed under the KEK as id 0: its row is the KEK's check value, too */
#define FINGERPRINT_LABEL "vault key fingerprint"

static const char root_row[] = "vault.root";       /* STORE_META */
static const char next_id_row[] = "vault.next-id"; /* STORE_META: ids below are used; 8 bytes big endian */

/* --- keys in and out of the table ----------------------------------------------------------------------------------- */

void key_wipe(struct key *key) { OPENSSL_cleanse(key, sizeof *key); }

void key_open(struct vault *v, vault_id id, struct key *key)
{
    struct span row = keytable_get(v->keys, id);
    *key = (struct key){0};
    if (row.n > 0)
        key->n = seal_unwrap(v->seal, id, row, &key->kind, key->bytes);
}

struct id_bytes {
    uint8_t b[8];
};

static struct id_bytes id_bytes(vault_id id)
{
    struct id_bytes out;
    struct wr w = wr_of(out.b, sizeof out.b);
    wr_be64(&w, id);
    return out;
}

enum st key_add(struct vault *v, struct store_txn *t, enum vault_kind kind, struct span bytes, vault_id *id)
{
    uint8_t nonce[SEAL_NONCE], row[SEAL_ROW_MAX];
    struct wr w = wr_of(row, sizeof row);
    vault_id fresh = v->next_id;
    bool ok = v->host.random(v->host.user, nonce, sizeof nonce) && seal_wrap(v->seal, fresh, kind, nonce, bytes, &w) &&
              keytable_put(v->keys, fresh, wr_span(&w));
    if (!ok)
        return ST_INTERNAL;
    struct id_bytes key = id_bytes(fresh);
    store_put(t, STORE_KEY, span_of(key.b, sizeof key.b), wr_span(&w));
    v->next_id++;
    *id = fresh;
    return ST_OK;
}

/* The rows themselves tell which ids are used; what only a deletion could make forgotten, the deletion records. */
void vault_delete(struct vault *v, struct store_txn *t, vault_id id)
{
    if (!vault_has(v, id))
        return;
    keytable_del(v->keys, id);
    struct id_bytes key = id_bytes(id), next = id_bytes(v->next_id);
    store_del(t, STORE_KEY, span_of(key.b, sizeof key.b));
    store_raise(t, STORE_META, span_str(next_id_row), span_of(next.b, sizeof next.b));
}

bool vault_has(const struct vault *v, vault_id id) { return keytable_get(v->keys, id).n > 0; }

enum vault_kind vault_kind_of(const struct vault *v, vault_id id)
{
    return seal_kind(keytable_get(v->keys, id));
}

bool vault_same(struct vault *v, vault_id a, vault_id b)
{
    struct key ka, kb;
    key_open(v, a, &ka);
    key_open(v, b, &kb);
    bool same = ka.n > 0 && ka.n == kb.n && CRYPTO_memcmp(ka.bytes, kb.bytes, ka.n) == 0;
    key_wipe(&ka);
    key_wipe(&kb);
    return same;
}

bool vault_mac(struct vault *v, const char *label, struct span text, uint8_t out[32])
{
    return mac_of(v->mac, label, text, out);
}

/* `out` takes a MAC; only its first COUNTER_FINGERPRINT bytes serve. */
static enum st fingerprint_of(struct vault *v, vault_id id, uint8_t out[32])
{
    struct key key;
    key_open(v, id, &key);
    bool found = key.n > 0;
    bool ok = found && mac_of(v->mac, FINGERPRINT_LABEL, span_of(key.bytes, key.n), out);
    key_wipe(&key);
    return ok ? ST_OK : found ? ST_INTERNAL : ST_NOT_FOUND;
}

enum st vault_take(struct vault *v, struct store_txn *t, vault_id id, eui64_t source, unsigned n, uint32_t *first)
{
    uint8_t fingerprint[32];
    enum st st = fingerprint_of(v, id, fingerprint);
    return st == ST_OK ? counters_take(v->counters, t, fingerprint, source, n, first) : st;
}

enum st vault_counters_follow(struct vault *v, struct store_txn *t, vault_id key, vault_id before, eui64_t source)
{
    uint8_t fingerprint[32];
    uint32_t last, first;
    enum st st = vault_take(v, t, before, source, 1, &last);
    if (st == ST_OK)
        st = fingerprint_of(v, key, fingerprint);
    if (st == ST_OK)
        st = counters_raise(v->counters, fingerprint, source, last + 1);
    return st == ST_OK ? counters_take(v->counters, t, fingerprint, source, 1, &first) : st;
}

/* --- opening -------------------------------------------------------------------------------------------------------- */

struct loading {
    struct vault *v;
    uint8_t root[SEAL_ROW_MAX];
    size_t root_len; /* 0: a new database */
    bool trouble;
    char *err;
    size_t errlen;
};

static bool load_failed(struct loading *l, const char *what, struct span key, const char *why)
{
    char hex[2 * 32 + 1];
    hex_encode(key.p, key.n > 32 ? 32 : key.n, hex);
    snprintf(l->err, l->errlen, "vault: %s row %s: %s", what, hex, why);
    l->trouble = true;
    return false;
}

static bool load_meta(void *user, struct span key, struct span val)
{
    struct loading *l = user;
    struct rd r = rd_of(val);
    if (span_eq(key, span_str(root_row))) {
        if (val.n != SEAL_OVERHEAD + ROOT)
            return load_failed(l, "meta", key, "the KEK's check value is damaged");
        memcpy(l->root, val.p, val.n);
        l->root_len = val.n;
    }
    if (span_eq(key, span_str(next_id_row)) && (!rd_be64(&r, &l->v->next_id) || !rd_end(&r)))
        return load_failed(l, "meta", key, "the highest key id is damaged");
    return true;
}

static bool load_key(void *user, struct span key, struct span val)
{
    struct loading *l = user;
    struct rd r = rd_of(key);
    struct key probe = {0};
    vault_id id;
    if (!rd_be64(&r, &id) || !rd_end(&r) || id == 0)
        return load_failed(l, "key", key, "not a key id");
    probe.n = seal_unwrap(l->v->seal, id, val, &probe.kind, probe.bytes);
    bool opened = probe.n > 0;
    key_wipe(&probe);
    if (!opened)
        return load_failed(l, "key", key, "does not open under the KEK: damaged, or from another database");
    if (!keytable_put(l->v->keys, id, val))
        return load_failed(l, "key", key, "out of memory");
    if (id >= l->v->next_id)
        l->v->next_id = id + 1;
    return true;
}

static bool load_counter(void *user, struct span key, struct span val)
{
    struct loading *l = user;
    return counters_load(l->v->counters, key, val) || load_failed(l, "counter", key, "damaged, or out of memory");
}

/* In a new database: make the root and have its row written before anything that depends on it. */
static bool make_root(struct vault *v, struct store *s, uint8_t root[ROOT])
{
    uint8_t nonce[SEAL_NONCE], row[SEAL_ROW_MAX];
    struct wr w = wr_of(row, sizeof row);
    bool ok = v->host.random(v->host.user, root, ROOT) && v->host.random(v->host.user, nonce, sizeof nonce) &&
              seal_wrap(v->seal, 0, VAULT_TOKEN_MAC, nonce, span_of(root, ROOT), &w);
    struct store_txn *t = ok ? store_begin(s) : NULL;
    if (t == NULL)
        return false;
    store_expect(t, STORE_META, span_str(root_row), (struct span){0});
    store_put(t, STORE_META, span_str(root_row), wr_span(&w));
    store_commit(t, NULL, NULL);
    return true;
}

static bool open_root(struct loading *l, struct store *s, const char *kek_path)
{
    uint8_t root[SEAL_KEY_MAX];
    enum vault_kind kind = VAULT_NO_KEY;
    bool ok;
    if (l->root_len > 0) {
        ok = seal_unwrap(l->v->seal, 0, span_of(l->root, l->root_len), &kind, root) == ROOT && kind == VAULT_TOKEN_MAC;
        if (!ok)
            snprintf(l->err, l->errlen, "vault: the KEK in %s is not the one this database was made with", kek_path);
    } else {
        ok = make_root(l->v, s, root);
        if (!ok)
            snprintf(l->err, l->errlen, "vault: cannot make the first secret");
    }
    if (ok && (l->v->mac = mac_new(root)) == NULL) {
        ok = false;
        snprintf(l->err, l->errlen, "vault: out of memory, or OpenSSL lacks HMAC-SHA-256");
    }
    OPENSSL_cleanse(root, sizeof root);
    return ok;
}

static bool any_row(void *user, struct span key, struct span val)
{
    (void)key, (void)val;
    *(bool *)user = true;
    return false;
}

/* A new database has no keys and counters; one that lost its root must not silently start counters anew. */
static bool new_is_empty(struct loading *l, struct store *s)
{
    bool any = false;
    if (l->root_len > 0)
        return true;
    bool read = store_each(s, STORE_KEY, any_row, &any) == ST_OK && store_each(s, STORE_COUNTER, any_row, &any) == ST_OK;
    if (read && !any)
        return true;
    snprintf(l->err, l->errlen, "vault: the KEK's check value is missing from a database that has keys");
    return false;
}

static bool load(struct vault *v, struct store *s, const char *kek_path, char *err, size_t errlen)
{
    struct loading l = {.v = v, .err = err, .errlen = errlen};
    snprintf(err, errlen, "vault: the database cannot be read");
    return store_each(s, STORE_META, load_meta, &l) == ST_OK && !l.trouble && new_is_empty(&l, s) &&
           open_root(&l, s, kek_path) && store_each(s, STORE_KEY, load_key, &l) == ST_OK && !l.trouble &&
           store_each(s, STORE_COUNTER, load_counter, &l) == ST_OK && !l.trouble;
}

/* The KEK stays only as the key schedule inside the cipher contexts. */
static struct seal *open_kek(const char *path, char *err, size_t errlen)
{
    if (!CRYPTO_secure_malloc_initialized())
        (void)CRYPTO_secure_malloc_init(SECURE_HEAP, 0); /* without it the common heap serves */
    uint8_t *kek = OPENSSL_secure_zalloc(SEAL_KEK);
    struct seal *seal = NULL;
    if (kek == NULL)
        snprintf(err, errlen, "vault: out of memory");
    else if (kek_read(path, kek, err, errlen) && (seal = seal_new(kek)) == NULL)
        snprintf(err, errlen, "vault: out of memory, or OpenSSL lacks AES-256-GCM");
    OPENSSL_secure_clear_free(kek, SEAL_KEK);
    return seal;
}

struct vault *vault_open(struct store *s, const char *kek_path, const struct vault_host *host, char *err, size_t errlen)
{
    struct seal *seal = open_kek(kek_path, err, errlen);
    struct vault *v = seal != NULL ? calloc(1, sizeof *v) : NULL;
    if (v == NULL) {
        seal_free(seal);
        return NULL;
    }
    v->host = *host;
    v->seal = seal;
    v->next_id = 1;
    bool ok = (v->zb = zb_crypto_new()) != NULL && (v->keys = keytable_new()) != NULL &&
              (v->counters = counters_new()) != NULL && (v->deriver = deriver_new()) != NULL;
    if (!ok)
        snprintf(err, errlen, "vault: out of memory, or OpenSSL lacks AES or HMAC-SHA-256");
    if (ok && load(v, s, kek_path, err, errlen))
        return v;
    vault_close(v);
    return NULL;
}

void vault_close(struct vault *v)
{
    if (v == NULL)
        return;
    counters_free(v->counters);
    keytable_free(v->keys);
    zb_crypto_free(v->zb);
    deriver_free(v->deriver);
    mac_free(v->mac);
    seal_free(v->seal);
    free(v);
}
