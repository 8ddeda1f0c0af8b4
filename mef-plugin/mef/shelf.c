#include "mef-plugin/mef/shelf.h"

#include <stdlib.h>

static struct shelf *find(struct shelf *const *index, const char *name)
{
    struct shelf *s = NULL;
    HASH_FIND_STR(*index, name, s);
    return s;
}

const struct shelf *shelf_find(struct shelf *const *index, const char *name)
{
    return find(index, name);
}

static struct shelf *get(struct shelf **index, const char *name, int (*compare)(const void *a, const void *b))
{
    struct shelf *s = find(index, name);
    if (s != NULL || (s = calloc(1, sizeof *s)) == NULL)
        return s;
    s->all.compare = compare;
    s->index = index;
    if ((s->name = strdup(name)) != NULL) {
        HASH_ADD_KEYPTR(hh, *index, s->name, strlen(s->name), s);
        if (HASH_ADDED(hh, s))
            return s;
    }
    free(s->name);
    free(s);
    return NULL;
}

static void take(struct shelf_use *u)
{
    struct shelf *s = u->shelf;
    sorted_remove(&s->all, &u->node);
    if (--s->n > 0)
        return;
    HASH_DEL(*s->index, s); /* NOLINT(clang-analyzer-*): uthash's macros */
    free(s->name);
    free(s);
}

bool uses_open(struct uses *u, size_t max)
{
    *u = (struct uses){.v = calloc(max, sizeof *u->v)};
    return u->v != NULL;
}

bool uses_put(struct uses *u, struct shelf **index, const char *name, void *item,
              int (*compare)(const void *a, const void *b))
{
    struct shelf *s = get(index, name, compare);
    if (s == NULL)
        return false;
    struct shelf_use *use = &u->v[u->n++];
    use->shelf = s;
    sorted_add(&s->all, &use->node, item);
    s->n++;
    return true;
}

void uses_close(struct uses *u)
{
    for (size_t i = 0; i < u->n; i++)
        take(&u->v[i]);
    free(u->v);
    *u = (struct uses){0};
}
