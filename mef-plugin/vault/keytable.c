#include "mef-plugin/vault/keytable.h"
#include "cse-shim/base/map64.h"

#include <stdlib.h>

#define SLAB_RECORDS 256
#define SMALL_ROW (SEAL_OVERHEAD + 16) /* nearly all keys are of 16 bytes; the others get a block of their own */

struct record {
    uint8_t n;
    uint8_t row[]; /* n bytes */
};

#define SMALL_RECORD (sizeof(struct record) + SMALL_ROW)

struct slab {
    struct slab *next;
    uint8_t bytes[SLAB_RECORDS * SMALL_RECORD];
};

struct keytable {
    struct map64 *by_id;
    struct slab *slabs;      /* newest first */
    size_t used;             /* records of the newest slab handed out */
    struct record *free;     /* the next one's address stands in each's row */
};

struct keytable *keytable_new(void)
{
    struct keytable *t = calloc(1, sizeof *t);
    if (t != NULL && (t->by_id = map64_new()) != NULL)
        return t;
    free(t);
    return NULL;
}

static bool free_large(void *user, uint64_t id, void *value)
{
    struct record *r = value;
    (void)user, (void)id;
    if (r->n != SMALL_ROW)
        free(r);
    return true;
}

void keytable_free(struct keytable *t)
{
    if (t == NULL)
        return;
    map64_each(t->by_id, free_large, NULL);
    map64_free(t->by_id);
    while (t->slabs != NULL) {
        struct slab *s = t->slabs;
        t->slabs = s->next;
        free(s);
    }
    free(t);
}

static struct record *small_new(struct keytable *t)
{
    struct record *r = t->free;
    if (r != NULL) {
        memcpy(&t->free, r->row, sizeof t->free);
        return r;
    }
    if (t->slabs == NULL || t->used == SLAB_RECORDS) {
        struct slab *s = malloc(sizeof *s);
        if (s == NULL)
            return NULL;
        s->next = t->slabs;
        t->slabs = s;
        t->used = 0;
    }
    return (struct record *)(t->slabs->bytes + SMALL_RECORD * t->used++);
}

static void record_free(struct keytable *t, struct record *r)
{
    if (r->n != SMALL_ROW) {
        free(r);
        return;
    }
    memcpy(r->row, &t->free, sizeof t->free);
    t->free = r;
}

bool keytable_put(struct keytable *t, vault_id id, struct span row)
{
    if (row.n > SEAL_ROW_MAX)
        return false;
    struct record *r = row.n == SMALL_ROW ? small_new(t) : malloc(sizeof *r + row.n);
    if (r == NULL)
        return false;
    r->n = (uint8_t)row.n;
    memcpy(r->row, row.p, row.n);
    if (map64_put(t->by_id, id, r))
        return true;
    record_free(t, r);
    return false;
}

void keytable_del(struct keytable *t, vault_id id)
{
    struct record *r = map64_del(t->by_id, id);
    if (r != NULL)
        record_free(t, r);
}

struct span keytable_get(const struct keytable *t, vault_id id)
{
    const struct record *r = map64_get(t->by_id, id);
    return r == NULL ? span_of(NULL, 0) : span_of(r->row, r->n);
}

size_t keytable_count(const struct keytable *t) { return map64_count(t->by_id); }
