/* What the gateway may read of a Zigbee NWK frame: the clear header and the clear auxiliary header (Zigbee 3.3.1,
 * 4.5.1). It knows nothing of keys; what is behind these headers it neither reads nor changes. Pure. */
#pragma once
#include "cse-shim/base/bytes.h"
#include "cse-shim/base/hex.h"

#define NWK_MIN_BROADCAST 0xfff8u /* 0xfff8 and above are broadcast addresses */

struct nwk_clear {
    uint16_t dst, src;
    bool command;     /* NWK command frame, else data */
    bool secured;     /* NWK security bit: the members below are then set */
    uint32_t counter;
    eui64_t source;   /* auxiliary header's extended source */
    /* A bare Rejoin Request (3.4.6), which is all in the clear and proves nothing: */
    bool rejoin;
    eui64_t device;   /* that it names as its sender */
    uint8_t capability;
};
/* False when the frame is no Zigbee PRO data or command frame or ends before a field that it announces. */
MUST_USE bool nwk_read(struct span frame, struct nwk_clear *out);
