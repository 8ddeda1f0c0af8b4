/* The vault's keys in memory: id -> sealed row, as in the store. Made small: 100,000 keys of 16 bytes take about 9 MiB. */
#pragma once
#include "mef-plugin/vault/seal.h"

struct keytable;
MUST_USE struct keytable *keytable_new(void);
void keytable_free(struct keytable *t);
MUST_USE bool keytable_put(struct keytable *t, vault_id id, struct span row); /* copied; id is new. False: no memory */
void keytable_del(struct keytable *t, vault_id id);
/* The sealed row, valid until the key is deleted; n == 0: no such key. */
struct span keytable_get(const struct keytable *t, vault_id id);
size_t keytable_count(const struct keytable *t);
