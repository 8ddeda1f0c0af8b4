/* The ClientKeyExchange of a PSK handshake (RFC 4279 2), read before OpenSSL does: OpenSSL wants the key at once, whoever
 * knows the key may take time. So the identity is read here, and what the client sent waits until the key is there. */
#pragma once
#include "cse-shim/base/bytes.h"

struct key_exchange;
MUST_USE struct key_exchange *key_exchange_new(void); /* NULL: out of memory */
void key_exchange_free(struct key_exchange *k);       /* NULL is fine */

/* Look a datagram through, which may hold only a fragment. True: the identity is complete and goes to `out` as text.
 * One that is malformed, longer than cap - 1 bytes or holds a NUL never is. */
MUST_USE bool key_exchange_read(struct key_exchange *k, struct span datagram, char *out, size_t cap);
/* Keep a datagram (copied). What is beyond four of them or 4,096 bytes is lost, as on the wire. */
void key_exchange_keep(struct key_exchange *k, struct span datagram);
/* The next one kept, in the order kept; false: no more. Valid until `k` is freed. */
MUST_USE bool key_exchange_next(struct key_exchange *k, struct span *datagram);
