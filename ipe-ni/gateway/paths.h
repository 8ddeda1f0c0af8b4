/* Reverse paths learned from clear headers: which neighbour a frame of a NWK source last came from. One entry for
 * each of the 65,536 addresses is 128 KiB, smaller and simpler than a bounded map. */
#pragma once
#include "cse-shim/base/bytes.h"

struct paths;
struct paths *paths_new(void);    /* NULL: out of memory */
void paths_free(struct paths *p); /* NULL is fine */
void paths_learn(struct paths *p, uint16_t source, uint16_t neighbour);
bool paths_find(const struct paths *p, uint16_t destination, uint16_t *neighbour);
