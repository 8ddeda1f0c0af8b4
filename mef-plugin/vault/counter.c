#include "mef-plugin/vault/counter.h"
#include "cse-shim/base/map64.h"

#include <stdlib.h>

#define FIRST 1u        /* not 0: some receivers take 0 for "never heard of", or want more than the stored 0 */
#define TAKE_MAX 16u    /* largest ticket */

struct counter {
    struct counter *chain; /* another pair with the same map key */
    eui64_t source;
    uint32_t next;
    uint8_t fingerprint[COUNTER_FINGERPRINT];
};

struct counters {
    struct map64 *map;
};

struct counters *counters_new(void)
{
    struct counters *c = calloc(1, sizeof *c);
    if (c != NULL && (c->map = map64_new()) != NULL)
        return c;
    free(c);
    return NULL;
}

static bool free_chain(void *user, uint64_t key, void *value)
{
    (void)user, (void)key;
    for (struct counter *k = value, *next; k != NULL; k = next) {
        next = k->chain;
        free(k);
    }
    return true;
}

void counters_free(struct counters *c)
{
    if (c == NULL)
        return;
    map64_each(c->map, free_chain, NULL);
    map64_free(c->map);
    free(c);
}

/* The fingerprint is a MAC's output, so its first bytes spread evenly. */
static uint64_t map_key(const uint8_t *fingerprint, eui64_t source)
{
    uint64_t head;
    memcpy(&head, fingerprint, sizeof head);
    return head ^ source;
}

/* The pair's counter, made if it is new. NULL: no memory. */
static struct counter *get(struct counters *c, const uint8_t *fingerprint, eui64_t source)
{
    uint64_t key = map_key(fingerprint, source);
    struct counter *head = map64_get(c->map, key);
    for (struct counter *k = head; k != NULL; k = k->chain)
        if (k->source == source && memcmp(k->fingerprint, fingerprint, COUNTER_FINGERPRINT) == 0)
            return k;
    struct counter *k = malloc(sizeof *k);
    if (k == NULL)
        return NULL;
    *k = (struct counter){.chain = head, .source = source, .next = FIRST};
    memcpy(k->fingerprint, fingerprint, COUNTER_FINGERPRINT);
    if (map64_put(c->map, key, k))
        return k;
    free(k);
    return NULL;
}

bool counters_load(struct counters *c, struct span key, struct span val)
{
    struct rd k = rd_of(key), v = rd_of(val);
    struct span fingerprint;
    eui64_t source;
    uint32_t next;
    bool ok = rd_span(&k, COUNTER_FINGERPRINT, &fingerprint) && rd_be64(&k, &source) && rd_end(&k) &&
              rd_be32(&v, &next) && rd_end(&v);
    struct counter *counter = ok ? get(c, fingerprint.p, source) : NULL;
    if (counter != NULL)
        counter->next = next;
    return counter != NULL;
}

enum st counters_raise(struct counters *c, const uint8_t fingerprint[COUNTER_FINGERPRINT], eui64_t source,
                       uint32_t next)
{
    struct counter *k = get(c, fingerprint, source);
    if (k != NULL && k->next < next)
        k->next = next;
    return k != NULL ? ST_OK : ST_INTERNAL;
}

enum st counters_take(struct counters *c, struct store_txn *t, const uint8_t fingerprint[COUNTER_FINGERPRINT],
                      eui64_t source, unsigned n, uint32_t *first)
{
    if (n == 0 || n > TAKE_MAX)
        return ST_BAD_REQUEST;
    struct counter *k = get(c, fingerprint, source);
    if (k == NULL)
        return ST_INTERNAL;
    if (n > UINT32_MAX - k->next) /* all ones is never given: receivers refuse it (Zig 4.3.1.2) */
        return ST_UNAVAILABLE;
    *first = k->next;
    k->next += n;

    uint8_t key[COUNTER_FINGERPRINT + 8], val[4];
    struct wr kw = wr_of(key, sizeof key), vw = wr_of(val, sizeof val);
    wr_bytes(&kw, fingerprint, COUNTER_FINGERPRINT);
    wr_be64(&kw, source);
    wr_be32(&vw, k->next);
    store_raise(t, STORE_COUNTER, wr_span(&kw), wr_span(&vw)); /* never back, whichever transaction commits first */
    return ST_OK;
}
