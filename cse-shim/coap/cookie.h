/* Cookies of ClientHellos (RFC 6347 4.2.1): made from the peer's address under a secret that changes every minute.
 *
 * The secret of a period is derived from a master secret, so that whoever has the same master takes the same cookies:
 * endpoints of a group share nothing that changes. */
#pragma once
#include "cse-shim/base/bytes.h"

#define COOKIE_LEN 16u
#define COOKIE_MASTER_LEN 32u
#define COOKIE_PERIOD_US (60 * UINT64_C(1000000)) /* a cookie is good for one to two of them */

struct cookies;
/* The master is copied. NULL: out of memory, or OpenSSL lacks HMAC. */
MUST_USE struct cookies *cookies_new(const uint8_t master[COOKIE_MASTER_LEN]);
void cookies_free(struct cookies *c); /* wipes; NULL is fine */

/* now_us: the system's monotonic clock, which all who share a master agree on. */
MUST_USE bool cookie_make(struct cookies *c, struct span address, uint64_t now_us, uint8_t cookie[COOKIE_LEN]);
MUST_USE bool cookie_good(struct cookies *c, struct span address, uint64_t now_us, struct span cookie);
