#include "cse-shim/base/map64.h"

#include <stdlib.h>

struct slot {
    uint64_t key;
    void *value; /* NULL: empty */
};

struct map64 {
    struct slot *slots;
    size_t mask; /* capacity - 1, capacity a power of two */
    size_t count;
};

/* Keys may be chosen by a peer (EUI-64s); the finaliser of splitmix64 spreads neighbouring ones. */
static size_t home(const struct map64 *m, uint64_t k)
{
    k = (k ^ (k >> 30)) * 0xbf58476d1ce4e5b9u;
    k = (k ^ (k >> 27)) * 0x94d049bb133111ebu;
    return (size_t)(k ^ (k >> 31)) & m->mask;
}

struct map64 *map64_new(void)
{
    struct map64 *m = calloc(1, sizeof *m);
    if (m == NULL)
        return NULL;
    m->mask = 15;
    m->slots = calloc(m->mask + 1, sizeof *m->slots);
    if (m->slots == NULL) {
        free(m);
        return NULL;
    }
    return m;
}

void map64_free(struct map64 *m)
{
    if (m == NULL)
        return;
    free(m->slots);
    free(m);
}

static struct slot *find(const struct map64 *m, uint64_t key)
{
    size_t i = home(m, key);
    while (m->slots[i].value != NULL && m->slots[i].key != key)
        i = (i + 1) & m->mask;
    return &m->slots[i];
}

void *map64_get(const struct map64 *m, uint64_t key) { return find(m, key)->value; }

static bool grow(struct map64 *m)
{
    struct map64 bigger = {.mask = m->mask * 2 + 1, .count = m->count};
    bigger.slots = calloc(bigger.mask + 1, sizeof *bigger.slots);
    if (bigger.slots == NULL)
        return false;
    for (size_t i = 0; i <= m->mask; i++)
        if (m->slots[i].value != NULL)
            *find(&bigger, m->slots[i].key) = m->slots[i];
    free(m->slots);
    *m = bigger;
    return true;
}

bool map64_put(struct map64 *m, uint64_t key, void *value)
{
    struct slot *s = find(m, key);
    if (s->value == NULL) {
        if ((m->count + 1) * 8 > (m->mask + 1) * 7) {
            if (!grow(m))
                return false;
            s = find(m, key);
        }
        m->count++;
    }
    *s = (struct slot){key, value};
    return true;
}

void *map64_del(struct map64 *m, uint64_t key)
{
    struct slot *s = find(m, key);
    void *value = s->value;
    if (value == NULL)
        return NULL;
    m->count--;
    /* Close the gap: move back every following entry whose home does not lie behind the hole. */
    size_t hole = (size_t)(s - m->slots), i = hole;
    for (;;) {
        i = (i + 1) & m->mask;
        if (m->slots[i].value == NULL)
            break;
        size_t h = home(m, m->slots[i].key);
        if (((i - h) & m->mask) >= ((i - hole) & m->mask)) {
            m->slots[hole] = m->slots[i];
            hole = i;
        }
    }
    m->slots[hole].value = NULL;
    return value;
}

size_t map64_count(const struct map64 *m) { return m->count; }

void map64_each(const struct map64 *m, bool (*fn)(void *, uint64_t, void *), void *user)
{
    for (size_t i = 0; i <= m->mask; i++)
        if (m->slots[i].value != NULL && !fn(user, m->slots[i].key, m->slots[i].value))
            return;
}
