#include "mef-plugin/store/backend.h"

#include <stdlib.h>

#define OP_HEADER 8u /* kind 1, table 1, key length 2, value length 4 */
#define KEY_MAX 1024u
#define VAL_MAX (1u << 20)

static const char *const table_names[STORE_TABLES] = {
    [STORE_META] = "meta",
    [STORE_KEY] = "key",
    [STORE_COUNTER] = "counter",
    [STORE_CREDENTIAL] = "credential",
    [STORE_APPLICATION] = "application",
    [STORE_CLIENT_REG] = "client_reg",
    [STORE_KEY_REG] = "key_reg",
    [STORE_INSTALL_CODE] = "install_code",
    [STORE_GATEWAY] = "gateway",
    [STORE_GATEWAY_EPOCH] = "gateway_epoch",
    [STORE_DEVICE] = "device",
    [STORE_TRANSACTION] = "transaction",
    [STORE_AUDIT] = "audit",
    [STORE_DOMAIN] = "domain",
    [STORE_POLICY] = "policy",
    [STORE_CLIENT_CMD] = "client_cmd",
    [STORE_CLIENT_CFG] = "client_cfg",
};

const char *store_table_name(enum store_table table) { return table_names[table]; }

struct store_txn *store_begin(struct store *s)
{
    struct store_txn *t = malloc(sizeof *t);
    if (t == NULL)
        return NULL;
    *t = (struct store_txn){.store = s, .result = ST_OK, .cap = sizeof t->first};
    t->ops = t->first;
    return t;
}

void store_abort(struct store_txn *t)
{
    if (t == NULL)
        return;
    if (t->ops != t->first)
        free(t->ops);
    free(t);
}

/* Make room for n more bytes. */
static bool reserve(struct store_txn *t, size_t n)
{
    if (t->cap - t->n >= n)
        return true;
    size_t cap = (t->n + n) * 2;
    uint8_t *ops = realloc(t->ops == t->first ? NULL : t->ops, cap);
    if (ops == NULL)
        return false;
    if (t->ops == t->first)
        memcpy(ops, t->first, t->n);
    t->ops = ops;
    t->cap = cap;
    return true;
}

static void add(struct store_txn *t, enum store_op_kind kind, enum store_table table, struct span key, struct span val)
{
    bool fits = key.n > 0 && key.n <= KEY_MAX && val.n <= VAL_MAX && table >= STORE_META && table < STORE_TABLES;
    if (!fits || !reserve(t, OP_HEADER + key.n + val.n)) {
        t->result = ST_INTERNAL;
        return;
    }
    struct wr w = wr_of(t->ops + t->n, t->cap - t->n);
    wr_u8(&w, (uint8_t)kind);
    wr_u8(&w, (uint8_t)table);
    wr_le16(&w, (uint16_t)key.n);
    wr_le32(&w, (uint32_t)val.n);
    wr_spanb(&w, key);
    wr_spanb(&w, val);
    t->n += w.n;
}

void store_put(struct store_txn *t, enum store_table table, struct span key, struct span val)
{
    add(t, STORE_OP_PUT, table, key, val);
}

void store_raise(struct store_txn *t, enum store_table table, struct span key, struct span val)
{
    add(t, STORE_OP_RAISE, table, key, val);
}

void store_del(struct store_txn *t, enum store_table table, struct span key)
{
    add(t, STORE_OP_DEL, table, key, (struct span){0});
}

void store_expect(struct store_txn *t, enum store_table table, struct span key, struct span val)
{
    t->expects = true;
    add(t, STORE_OP_EXPECT, table, key, val);
}

bool store_op_next(struct rd *r, struct store_op *op)
{
    uint8_t kind, table;
    uint16_t key_len;
    uint32_t val_len;
    bool ok = rd_u8(r, &kind) && rd_u8(r, &table) && rd_le16(r, &key_len) && rd_le32(r, &val_len) &&
              rd_span(r, key_len, &op->key) && rd_span(r, val_len, &op->val);
    if (!ok)
        return false;
    op->kind = (enum store_op_kind)kind;
    op->table = (enum store_table)table;
    return true;
}
