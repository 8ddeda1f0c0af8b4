/* Indexes from names (labels, ids, applications) to ordered sets of what they lead to: O(log n) to put something on the
 * shelf of a name or to take it off. A shelf with nothing on it is gone. */
#pragma once
#include "cse-shim/base/sorted.h"
#include "mef-plugin/mef/internal.h"

struct shelf {
    char *name;
    struct sorted all;
    size_t n;
    struct shelf **index;
    UT_hash_handle hh;
};

const struct shelf *shelf_find(struct shelf *const *index, const char *name); /* NULL: nothing is there */

/* The places that one item has. */
struct shelf_use {
    struct sorted_node node;
    struct shelf *shelf;
};
struct uses {
    struct shelf_use *v;
    size_t n;
};

MUST_USE bool uses_open(struct uses *u, size_t max); /* false: out of memory */
/* On this shelf, too, in the order that all on it share; false: out of memory. */
MUST_USE bool uses_put(struct uses *u, struct shelf **index, const char *name, void *item,
                       int (*compare)(const void *a, const void *b));
void uses_close(struct uses *u); /* off all shelves; nothing to do is fine */
