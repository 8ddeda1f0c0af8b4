/* NWK commands: what parses builds back to the same bytes. */
#include "mef-plugin/zigbee/zigbee.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct zb_nwk_cmd cmd;
    uint8_t again[4096];
    struct wr w = wr_of(again, sizeof again);
    if (size > sizeof again || zb_nwk_cmd_parse(span_of(data, size), &cmd) != ZB_OK)
        return 0;
    if (zb_nwk_cmd_build(&w, &cmd) != ZB_OK || !span_eq(wr_span(&w), span_of(data, size)))
        abort();
    return 0;
}
