/* NWK header (Zig 3.3.1) and NWK security (Zig 4.3.1). */
#include "mef-plugin/zigbee/internal.h"

enum { VERSION_BITS = 0x003c, VERSION_PRO = 2 << 2 };

static bool addresses_parse(struct rd *r, struct zb_nwk *h)
{
    h->has_dst64 = (h->fcf & ZB_FCF_DST64) != 0;
    h->has_src64 = (h->fcf & ZB_FCF_SRC64) != 0;
    return rd_le16(r, &h->dst) && rd_le16(r, &h->src) && rd_u8(r, &h->radius) && rd_u8(r, &h->seq) &&
           (!h->has_dst64 || rd_le64(r, &h->dst64)) && (!h->has_src64 || rd_le64(r, &h->src64));
}

/* Multicast control (Zig 3.3.1.8) and source route subframe (Zig 3.3.1.9). */
static bool routing_parse(struct rd *r, struct zb_nwk *h)
{
    uint8_t control;
    struct span relays = {0};
    h->multicast = (h->fcf & ZB_FCF_MULTICAST) != 0;
    if (h->multicast && !rd_u8(r, &control))
        return false;
    if ((h->fcf & ZB_FCF_SOURCE_ROUTE) != 0 &&
        !(rd_u8(r, &h->nrelays) && rd_u8(r, &h->relay_index) && rd_span(r, (size_t)2 * h->nrelays, &relays)))
        return false;
    h->relays = relays.p;
    return true;
}

enum zb_err zb_nwk_parse(struct span frame, struct zb_nwk *out)
{
    struct rd r = rd_of(frame);
    *out = (struct zb_nwk){0};
    if (frame.n > ZB_NWK_MAX)
        return ZB_MALFORMED;
    if (!rd_le16(&r, &out->fcf))
        return ZB_TRUNCATED;
    if ((out->fcf & ZB_FCF_TYPE) > ZB_NWK_COMMAND || (out->fcf & VERSION_BITS) != VERSION_PRO)
        return ZB_MALFORMED;
    if (!addresses_parse(&r, out) || !routing_parse(&r, out))
        return ZB_TRUNCATED;
    if (out->nrelays != 0 && out->relay_index >= out->nrelays)
        return ZB_MALFORMED;
    out->payload = rd_rest(&r);
    out->header = span_of(frame.p, frame.n - out->payload.n);
    return ZB_OK;
}

void zb_nwk_build(struct wr *w, const struct zb_nwk *h)
{
    if (h->multicast || (h->fcf & ZB_FCF_MULTICAST) != 0) {
        w->overflow = true; /* multicast went out of use with R22; this side never sends it */
        return;
    }
    unsigned addresses = (h->has_dst64 ? ZB_FCF_DST64 : 0) | (h->has_src64 ? ZB_FCF_SRC64 : 0);
    wr_le16(w, (uint16_t)((h->fcf & ~(ZB_FCF_DST64 | ZB_FCF_SRC64)) | addresses));
    wr_le16(w, h->dst);
    wr_le16(w, h->src);
    wr_u8(w, h->radius);
    wr_u8(w, h->seq);
    if (h->has_dst64)
        wr_le64(w, h->dst64);
    if (h->has_src64)
        wr_le64(w, h->src64);
    if ((h->fcf & ZB_FCF_SOURCE_ROUTE) != 0) {
        wr_u8(w, h->nrelays);
        wr_u8(w, h->relay_index);
        wr_bytes(w, h->relays, (size_t)2 * h->nrelays);
    }
}

enum zb_err zb_nwk_open(struct zb_crypto *c, const uint8_t key[ZB_KEY], struct span frame, struct zb_nwk *h,
                        struct zb_aux *aux, struct wr *plain)
{
    enum zb_err e = zb_nwk_parse(frame, h);
    if (e != ZB_OK)
        return e;
    if ((h->fcf & ZB_FCF_SECURITY) == 0)
        return ZB_MALFORMED;

    struct rd r = rd_of(h->payload);
    e = zb_aux_parse(&r, aux);
    if (e != ZB_OK)
        return e;
    if (aux->key_id != ZB_KEY_ID_NWK || !aux->has_src64)
        return ZB_MALFORMED;
    struct zb_secured s = {.header = h->header,
                           .aux_bytes = span_of(h->payload.p, h->payload.n - r.n),
                           .body = rd_rest(&r),
                           .aux = aux,
                           .source = aux->src64};
    return zb_secured_open(c, key, &s, plain);
}

enum zb_err zb_nwk_seal(struct zb_crypto *c, const uint8_t key[ZB_KEY], const struct zb_nwk *h, uint32_t counter,
                        eui64_t source, uint8_t key_seq, struct span payload, struct wr *out)
{
    struct zb_nwk secured = *h;
    secured.fcf |= ZB_FCF_SECURITY;
    size_t start = out->n;
    zb_nwk_build(out, &secured);
    struct zb_aux aux = {.key_id = ZB_KEY_ID_NWK, .counter = counter, .src64 = source, .key_seq = key_seq};
    enum zb_err e = zb_secured_seal(c, key, start, &aux, payload, out);
    if (e == ZB_OK && out->n - start > ZB_NWK_MAX)
        return ZB_NO_SPACE;
    return e;
}
