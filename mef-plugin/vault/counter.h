/* Frame counters: one row a (key fingerprint, source EUI-64), value = the next number to give, 4 bytes big endian. */
#pragma once
#include "mef-plugin/vault/vault.h"

#define COUNTER_FINGERPRINT 16

struct counters;
MUST_USE struct counters *counters_new(void);
void counters_free(struct counters *c);
/* Take over a stored row. False: malformed, or no memory. */
MUST_USE bool counters_load(struct counters *c, struct span key, struct span val);
/* The pair's numbers are all at least `next` from now on; the row goes into t with the next take. */
MUST_USE enum st counters_raise(struct counters *c, const uint8_t fingerprint[COUNTER_FINGERPRINT], eui64_t source,
                                uint32_t next);
/* Take n (1..16) numbers; the row goes into t. */
MUST_USE enum st counters_take(struct counters *c, struct store_txn *t, const uint8_t fingerprint[COUNTER_FINGERPRINT],
                               eui64_t source, unsigned n, uint32_t *first);
