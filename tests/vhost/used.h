/* Which (key, source, counter) were used, and for what: the nonce rule of CCM*, as a set. */
#pragma once
#include "cse-shim/base/bytes.h"

struct used;
struct used *used_new(void);
void used_free(struct used *u);
/* Note a use; false: it was used before for another frame, or for another transaction. Keys are 16 bytes. */
bool used_note(struct used *u, const uint8_t key[16], uint64_t source, uint32_t counter, uint64_t transaction,
               struct span frame);
/* FNV-1a over more bytes; begin with USED_SEED. */
uint64_t used_digest(uint64_t h, const void *p, size_t n);
#define USED_SEED 0xcbf29ce484222325u
