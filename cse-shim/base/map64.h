/* A compact hash map from a 64-bit key to a pointer: open addressing, linear probing, 16 bytes a slot, load <= 3/4.
 * Look-up and removal are O(1); the map never owns what it points to. Not thread-safe. */
#pragma once
#include "cse-shim/base/bytes.h"

struct map64;

struct map64 *map64_new(void);              /* NULL when out of memory */
void map64_free(struct map64 *m);           /* NULL is fine */
void *map64_get(const struct map64 *m, uint64_t key);                 /* NULL: absent */
MUST_USE bool map64_put(struct map64 *m, uint64_t key, void *value);  /* value != NULL; replaces; false: out of memory */
void *map64_del(struct map64 *m, uint64_t key);                       /* the removed value, or NULL */
size_t map64_count(const struct map64 *m);
/* Visit every entry in no order; fn returns false to stop. The map must not change meanwhile. */
void map64_each(const struct map64 *m, bool (*fn)(void *user, uint64_t key, void *value), void *user);
