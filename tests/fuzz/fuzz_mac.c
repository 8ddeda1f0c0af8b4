/* The simulated medium's datagram and the MAC frame in it, as radio_udp.c reads them; what parses without redundant
 * fields is built again to the same bytes. */
#include "ipe-ni/gateway/medium.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void one_frame(struct span frame)
{
    struct mac_frame f;
    uint8_t buf[MAC_MAX_PSDU], capability;
    struct wr w = wr_of(buf, sizeof buf);
    if (mac_parse(frame, &f) != NULL)
        return;
    bool request = mac_is_association_request(&f, &capability) + mac_is_data_request(&f) + mac_is_beacon_request(&f) > 0;
    if (request && f.type != MAC_COMMAND)
        abort();
    mac_build(&w, &f);
    bool both = f.src.mode != MAC_NONE && f.dst.mode != MAC_NONE;
    bool could_compress = both && f.src.pan == f.dst.pan && !(frame.p[0] & 0x40);
    if (!could_compress && (!wr_ok(&w) || !span_eq(wr_span(&w), frame)))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span frame;
    if (size == 0)
        return 0;
    if (medium_parse(span_of(data, size), data[0], &frame) == NULL)
        one_frame(frame);
    one_frame(span_of(data + 1, size - 1)); /* the fuzzer need not guess the FCS */
    return 0;
}
