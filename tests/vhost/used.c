#include "tests/vhost/used.h"

#include "cse-shim/base/map64.h"

#include <stdlib.h>

struct used {
    struct map64 *map;
};

struct use {
    uint8_t key[16];
    uint64_t source, transaction, frame;
    uint32_t counter;
};

uint64_t used_digest(uint64_t h, const void *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const uint8_t *)p)[i]) * 0x100000001b3u;
    return h;
}

struct used *used_new(void)
{
    struct used *u = malloc(sizeof *u);
    if (u == NULL || (u->map = map64_new()) == NULL)
        abort();
    return u;
}

static bool free_one(void *user, uint64_t key, void *value)
{
    (void)user, (void)key;
    free(value);
    return true;
}

void used_free(struct used *u)
{
    map64_each(u->map, free_one, NULL);
    map64_free(u->map);
    free(u);
}

bool used_note(struct used *u, const uint8_t key[16], uint64_t source, uint32_t counter, uint64_t transaction,
               struct span frame)
{
    uint64_t at =
        used_digest(used_digest(used_digest(USED_SEED, key, 16), &source, sizeof source), &counter, sizeof counter);
    struct use now = {.source = source,
                      .transaction = transaction,
                      .frame = used_digest(USED_SEED, frame.p, frame.n),
                      .counter = counter};
    memcpy(now.key, key, sizeof now.key);
    struct use *before = map64_get(u->map, at);
    if (before != NULL)
        return memcmp(before->key, key, 16) != 0 || before->source != source || before->counter != counter ||
               (before->transaction == transaction && before->frame == now.frame);
    if ((before = malloc(sizeof *before)) == NULL || !map64_put(u->map, at, before))
        abort();
    *before = now;
    return true;
}
