#include "ipe-ni/gateway/paths.h"

#include <stdlib.h>

enum { NONE = 0xffff };

struct paths {
    uint16_t neighbour[0x10000];
};

struct paths *paths_new(void)
{
    struct paths *p = malloc(sizeof *p);
    if (p != NULL)
        memset(p->neighbour, 0xff, sizeof p->neighbour);
    return p;
}

void paths_free(struct paths *p) { free(p); }
void paths_learn(struct paths *p, uint16_t source, uint16_t neighbour) { p->neighbour[source] = neighbour; }

bool paths_find(const struct paths *p, uint16_t destination, uint16_t *neighbour)
{
    *neighbour = p->neighbour[destination];
    return *neighbour != NONE;
}
