/* Stored responses: the same (gateway, transaction) gets the same bytes, also after a restart. Only accepted requests
 * are kept. A refusal changes nothing and is decided anew, so a registration made meanwhile counts at once and
 * strangers leave no rows. The newest max_stored of a gateway are kept. */
#include "mef-plugin/eg/internal.h"

#include <stdlib.h>

static struct span row_key(eui64_t gateway, uint64_t number, uint8_t buf[16])
{
    struct wr w = wr_of(buf, 16);
    wr_be64(&w, gateway);
    wr_be64(&w, number);
    return wr_span(&w);
}

/* Over everything but the RSSI, which may differ when a gateway measures again for a repetition. Encoding is canonical,
 * so equal messages have equal digests. */
bool transaction_digest(struct eg *e, const struct egp_message *m, uint8_t digest[EG_DIGEST])
{
    struct egp_message copy = *m;
    copy.env.rssi = 0;
    uint8_t buf[EGP_MAX_MESSAGE];
    struct wr w = wr_of(buf, sizeof buf);
    return egp_encode(&copy, &w) && vault_mac(e->d.vault, "eg-request", wr_span(&w), digest);
}

static struct transaction *at(struct gateway *g, size_t i, size_t max)
{
    return g->stored[(g->oldest + i) % max];
}

struct transaction *transaction_find(struct gateway *g, uint64_t number)
{
    /* Before the ring is full `oldest` is 0, so the first nstored places are the ones in use either way. */
    for (size_t i = 0; i < g->nstored; i++)
        if (g->stored[i]->number == number)
            return g->stored[i];
    return NULL;
}

static bool ring_add(struct eg *e, struct gateway *g, struct transaction *x)
{
    if (g->stored == NULL)
        g->stored = calloc(e->max_stored, sizeof(struct transaction *));
    if (g->stored == NULL)
        return false;
    if (g->nstored < e->max_stored) {
        g->stored[g->nstored++] = x;
        return true;
    }
    free(g->stored[g->oldest]);
    g->stored[g->oldest] = x;
    g->oldest = (g->oldest + 1) % e->max_stored;
    return true;
}

static struct transaction *new_transaction(uint64_t number, const struct stored_response *row)
{
    struct transaction *x = calloc(1, sizeof *x);
    if (x == NULL)
        return NULL;
    x->number = number;
    x->row = *row;
    memcpy(x->bytes, row->response.p, row->response.n);
    x->row.response.p = x->bytes;
    return x;
}

struct transaction *transaction_add(struct eg *e, struct gateway *g, struct store_txn *t, uint64_t number,
                                    const uint8_t digest[EG_DIGEST], struct span response)
{
    struct stored_response row = {.serial = e->next_serial++, .response = response};
    memcpy(row.digest, digest, EG_DIGEST);
    struct transaction *x = new_transaction(number, &row);
    if (x == NULL)
        return NULL;
    uint8_t kb[16], vb[EGP_MAX_MESSAGE + 64];
    if (g->nstored == e->max_stored)
        store_del(t, STORE_TRANSACTION, row_key(g->eui, at(g, 0, e->max_stored)->number, kb));
    if (!ring_add(e, g, x)) {
        free(x);
        return NULL;
    }
    struct wr w = wr_of(vb, sizeof vb);
    stored_response_encode(&row, &w);
    store_put(t, STORE_TRANSACTION, row_key(g->eui, number, kb), wr_span(&w));
    return x;
}

void transactions_delete(struct gateway *g, struct store_txn *t)
{
    uint8_t kb[16];
    for (size_t i = 0; i < g->nstored; i++)
        store_del(t, STORE_TRANSACTION, row_key(g->eui, g->stored[i]->number, kb));
}

/* --- loading: rows come in key order, the ring wants the order of making ------------------------------------------ */

static bool load_row(struct eg *e, struct span key, struct span val)
{
    struct rd r = rd_of(key);
    eui64_t eui;
    uint64_t number;
    struct stored_response row;
    bool ok = rd_be64(&r, &eui) && rd_be64(&r, &number) && rd_end(&r) && stored_response_decode(val, &row);
    struct gateway *g = ok ? gateway_find(e, eui) : NULL;
    if (g == NULL)
        return ok;
    if (row.serial >= e->next_serial)
        e->next_serial = row.serial + 1;
    struct transaction *x = new_transaction(number, &row);
    ok = x != NULL && ring_add(e, g, x);
    if (!ok)
        free(x);
    return ok;
}

static int by_serial(const void *a, const void *b)
{
    const struct transaction *const *x = a, *const *y = b;
    return ((*x)->row.serial > (*y)->row.serial) - ((*x)->row.serial < (*y)->row.serial);
}

static bool sort_ring(void *user, uint64_t key, void *value)
{
    (void)user, (void)key;
    struct gateway *g = value;
    if (g->nstored > 0)
        qsort(g->stored, g->nstored, sizeof(struct transaction *), by_serial);
    g->oldest = 0;
    return true;
}

enum st transactions_load(struct eg *e)
{
    enum st st = eg_load(e, STORE_TRANSACTION, load_row);
    map64_each(e->gateways, sort_ring, NULL);
    return st;
}
