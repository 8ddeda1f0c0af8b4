#include "cse-shim/base/sorted.h"

#include <string.h>

int sorted_texts(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* splitmix64's finalizer: no two addresses have the same rank. */
static uint64_t rank(const struct sorted_node *n)
{
    uint64_t x = (uintptr_t)n;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* No two nodes have the same place: thousands of equal items would else be a list. */
static int compare(const struct sorted *s, const struct sorted_node *a, const struct sorted_node *b)
{
    int order = s->compare(a->item, b->item);
    return order != 0 ? order : ((uintptr_t)a > (uintptr_t)b) - ((uintptr_t)a < (uintptr_t)b);
}

void sorted_add(struct sorted *s, struct sorted_node *n, void *item)
{
    n->item = item;
    struct sorted_node **at = &s->root;
    while (*at != NULL && rank(*at) > rank(n))
        at = compare(s, n, *at) < 0 ? &(*at)->left : &(*at)->right;
    /* What is below comes apart at its item. */
    struct sorted_node *rest = *at, **below = &n->left, **above = &n->right;
    *at = n;
    while (rest != NULL) {
        if (compare(s, rest, n) < 0) {
            *below = rest;
            below = &rest->right;
            rest = rest->right;
        } else {
            *above = rest;
            above = &rest->left;
            rest = rest->left;
        }
    }
    *below = *above = NULL;
}

void sorted_remove(struct sorted *s, struct sorted_node *n)
{
    struct sorted_node **at = &s->root, *below = n->left, *above = n->right;
    while (*at != n)
        at = compare(s, n, *at) < 0 ? &(*at)->left : &(*at)->right;
    while (below != NULL && above != NULL) {
        if (rank(below) > rank(above)) {
            *at = below;
            at = &below->right;
            below = below->right;
        } else {
            *at = above;
            at = &above->left;
            above = above->left;
        }
    }
    *at = below != NULL ? below : above;
}

void *sorted_first(const struct sorted *s)
{
    const struct sorted_node *n = s->root;
    while (n != NULL && n->left != NULL)
        n = n->left;
    return n != NULL ? n->item : NULL;
}

void *sorted_last(const struct sorted *s)
{
    const struct sorted_node *n = s->root;
    while (n != NULL && n->right != NULL)
        n = n->right;
    return n != NULL ? n->item : NULL;
}

void *sorted_above(const struct sorted *s, const void *item)
{
    void *best = NULL;
    for (const struct sorted_node *n = s->root; n != NULL;) {
        bool above = s->compare(n->item, item) > 0;
        best = above ? n->item : best;
        n = above ? n->left : n->right;
    }
    return best;
}
