/* egp_decode: what it accepts encodes back to the same bytes, and its envelope is what egp_decode_envelope reads. */
#include "mef-plugin/egp/egp.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct egp_message m;
    struct egp_envelope env;
    uint8_t buf[EGP_MAX_MESSAGE];
    struct wr w = wr_of(buf, sizeof buf);
    const char *bad_envelope = egp_decode_envelope(span_of(data, size), &env);
    if (egp_decode(span_of(data, size), &m) != NULL)
        return 0;
    if (bad_envelope != NULL || memcmp(&env, &m.env, sizeof env) != 0)
        abort();
    if (!egp_encode(&m, &w) || !span_eq(wr_span(&w), span_of(data, size)))
        abort();
    return 0;
}
