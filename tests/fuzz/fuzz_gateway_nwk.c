/* zbgwd's reader of clear NWK headers: the same verdict and values whatever stands behind what it read. */
#include "ipe-ni/gateway/nwk.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct nwk_clear h, longer;
    uint8_t copy[512];
    if (size > sizeof copy - 8 || !nwk_read(span_of(data, size), &h))
        return 0;
    memcpy(copy, data, size);
    memset(copy + size, 0xa5, 8);
    if (!nwk_read(span_of(copy, size + 8), &longer) || longer.counter != h.counter || longer.source != h.source ||
        longer.dst != h.dst || longer.src != h.src || longer.secured != h.secured)
        abort();
    return 0;
}
