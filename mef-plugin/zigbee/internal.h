/* What the files of this room share and nobody else sees. */
#pragma once
#include "mef-plugin/zigbee/zigbee.h"

/* Length and CRC of code || CRC (BDB 10.1.1). */
MUST_USE enum zb_err zb_install_code_check(struct span code);

/* Level 5 security, the same at both layers (Zig 4.3.1, 4.4.1). */

/* `out` holds a header from byte `start` on: append the auxiliary header, the ciphertext and the MIC. */
MUST_USE enum zb_err zb_secured_seal(struct zb_crypto *c, const uint8_t key[ZB_KEY], size_t start,
                                     const struct zb_aux *aux, struct span payload, struct wr *out);
/* `body` is what follows the auxiliary header `aux_bytes`, which follows `header`. */
struct zb_secured {
    struct span header, aux_bytes, body;
    const struct zb_aux *aux;
    eui64_t source;
};
/* Append the plaintext to `plain`; `plain` is as before on failure. */
MUST_USE enum zb_err zb_secured_open(struct zb_crypto *c, const uint8_t key[ZB_KEY], const struct zb_secured *s,
                                     struct wr *plain);
