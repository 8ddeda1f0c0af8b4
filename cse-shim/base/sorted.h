/* An ordered set of items, for walks from anywhere in it: every operation takes O(log n), expected, and no memory, for
 * the node is a part of the item. (A treap: the address of a node, mixed, is its rank.) Not thread-safe. */
#pragma once
#include "cse-shim/base/bytes.h"

struct sorted_node { /* must not move while it is in a set */
    struct sorted_node *left, *right;
    void *item;
};

struct sorted {
    struct sorted_node *root;
    int (*compare)(const void *a, const void *b); /* of items, as strcmp(); what it looks at must not change */
};

int sorted_texts(const void *a, const void *b); /* the comparison for items that are texts */

/* Items that compare equal may be in it together, but sorted_above() steps from one to what is above them all. */
void sorted_add(struct sorted *s, struct sorted_node *n, void *item);
void sorted_remove(struct sorted *s, struct sorted_node *n); /* which is in it */
/* NULL: none. */
void *sorted_first(const struct sorted *s);
void *sorted_last(const struct sorted *s);
void *sorted_above(const struct sorted *s, const void *item); /* which need not be in it */
