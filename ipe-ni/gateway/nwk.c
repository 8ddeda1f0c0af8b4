#include "ipe-ni/gateway/nwk.h"

enum {
    FCF_TYPE = 0x0003,
    FCF_VERSION = 0x003c,
    FCF_VERSION_PRO = 2 << 2,
    FCF_MULTICAST = 0x0100,
    FCF_SECURITY = 0x0200,
    FCF_SOURCE_ROUTE = 0x0400,
    FCF_DST64 = 0x0800,
    FCF_SRC64 = 0x1000,
    AUX_EXTENDED_NONCE = 0x20,
    REJOIN_REQUEST = 0x06
};

/* Optional fields between the fixed header and the auxiliary header, 3.3.1.4 to 3.3.1.9; the sender's extended address if
 * there is one, else 0. */
static bool read_options(struct rd *r, uint16_t fcf, eui64_t *src64)
{
    struct span skipped;
    uint8_t relays;
    *src64 = 0;
    if (!rd_span(r, fcf & FCF_DST64 ? 8 : 0, &skipped) || ((fcf & FCF_SRC64) != 0 && !rd_le64(r, src64)) ||
        !rd_span(r, fcf & FCF_MULTICAST ? 1 : 0, &skipped))
        return false;
    if (!(fcf & FCF_SOURCE_ROUTE))
        return true;
    return rd_u8(r, &relays) && rd_span(r, 1 + 2u * relays, &skipped);
}

static void read_rejoin(struct rd r, eui64_t src64, struct nwk_clear *out)
{
    uint8_t id;
    out->rejoin = src64 != 0 && rd_u8(&r, &id) && id == REJOIN_REQUEST && rd_u8(&r, &out->capability);
    out->device = src64;
}

static bool read_aux(struct rd *r, struct nwk_clear *out)
{
    uint8_t control, key_seq;
    if (!rd_u8(r, &control) || !rd_le32(r, &out->counter))
        return false;
    if (control & AUX_EXTENDED_NONCE && !rd_le64(r, &out->source))
        return false;
    bool nwk_key = (control >> 3 & 3) == 1; /* NWK frames are secured with the network key only, 4.3.1.1 */
    return nwk_key && rd_u8(r, &key_seq);
}

bool nwk_read(struct span frame, struct nwk_clear *out)
{
    struct rd r = rd_of(frame);
    struct nwk_clear h = {0};
    struct span radius_and_seq;
    uint16_t fcf;
    eui64_t src64;
    if (!rd_le16(&r, &fcf) || !rd_le16(&r, &h.dst) || !rd_le16(&r, &h.src) || !rd_span(&r, 2, &radius_and_seq))
        return false;
    if ((fcf & FCF_TYPE) > 1 || (fcf & FCF_VERSION) != FCF_VERSION_PRO || !read_options(&r, fcf, &src64))
        return false;
    h.command = fcf & FCF_TYPE;
    h.secured = fcf & FCF_SECURITY;
    if (h.secured && !read_aux(&r, &h))
        return false;
    if (h.command && !h.secured)
        read_rejoin(r, src64, &h);
    *out = h;
    return true;
}
