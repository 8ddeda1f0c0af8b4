/* APS header (Zig 2.2.5.1) and APS security (Zig 4.4.1). */
#include "mef-plugin/zigbee/internal.h"
#include <openssl/crypto.h>

enum { TYPE_BITS = 0x03, DELIVERY_BITS = 0x0c, DELIVERY_RESERVED = 0x04, DELIVERY_GROUP = 0x0c, FRAGMENT_BITS = 0x03 };

static uint8_t type_of(uint8_t fcf)
{
    return fcf & TYPE_BITS;
}

/* Data frames carry endpoints, cluster and profile; so do acks of data, but not acks of commands (ack format set). */
static bool has_addressing(uint8_t fcf)
{
    return type_of(fcf) == ZB_APS_DATA || (type_of(fcf) == ZB_APS_ACK && (fcf & ZB_APS_ACK_FORMAT) == 0);
}

static bool is_group(uint8_t fcf)
{
    return (fcf & DELIVERY_BITS) == DELIVERY_GROUP;
}

static bool fcf_ok(uint8_t fcf)
{
    return type_of(fcf) != ZB_APS_INTERPAN && (fcf & DELIVERY_BITS) != DELIVERY_RESERVED &&
           (!is_group(fcf) || type_of(fcf) == ZB_APS_DATA);
}

static bool addressing_parse(struct rd *r, struct zb_aps *h)
{
    return (is_group(h->fcf) ? rd_le16(r, &h->group) : rd_u8(r, &h->dst_endpoint)) && rd_le16(r, &h->cluster) &&
           rd_le16(r, &h->profile) && rd_u8(r, &h->src_endpoint);
}

/* Extended header (Zig 2.2.5.1.8): block number when fragmented, and in an ack the bitfield. */
static bool extended_parse(struct rd *r, struct zb_aps *h)
{
    if (!rd_u8(r, &h->ext_fcf))
        return false;
    if ((h->ext_fcf & FRAGMENT_BITS) == 0)
        return true;
    return rd_u8(r, &h->block) && (type_of(h->fcf) != ZB_APS_ACK || rd_u8(r, &h->ack_bitfield));
}

enum zb_err zb_aps_parse(struct span frame, struct zb_aps *out)
{
    struct rd r = rd_of(frame);
    *out = (struct zb_aps){0};
    if (frame.n > ZB_NWK_MAX)
        return ZB_MALFORMED;
    if (!rd_u8(&r, &out->fcf))
        return ZB_TRUNCATED;
    if (!fcf_ok(out->fcf))
        return ZB_MALFORMED;
    if ((has_addressing(out->fcf) && !addressing_parse(&r, out)) || !rd_u8(&r, &out->counter) ||
        ((out->fcf & ZB_APS_EXTENDED) != 0 && !extended_parse(&r, out)))
        return ZB_TRUNCATED;
    if ((out->ext_fcf & FRAGMENT_BITS) == FRAGMENT_BITS)
        return ZB_MALFORMED;
    out->payload = rd_rest(&r);
    out->header = span_of(frame.p, frame.n - out->payload.n);
    return ZB_OK;
}

void zb_aps_build(struct wr *w, const struct zb_aps *h)
{
    wr_u8(w, h->fcf);
    if (has_addressing(h->fcf)) {
        if (is_group(h->fcf))
            wr_le16(w, h->group);
        else
            wr_u8(w, h->dst_endpoint);
        wr_le16(w, h->cluster);
        wr_le16(w, h->profile);
        wr_u8(w, h->src_endpoint);
    }
    wr_u8(w, h->counter);
    if ((h->fcf & ZB_APS_EXTENDED) == 0)
        return;
    wr_u8(w, h->ext_fcf);
    if ((h->ext_fcf & FRAGMENT_BITS) == 0)
        return;
    wr_u8(w, h->block);
    if (type_of(h->fcf) == ZB_APS_ACK)
        wr_u8(w, h->ack_bitfield);
}

/* Which key a key id means (Zig 4.4.1.1): the link key itself or one derived from it. The network key (id 1) protects
 * no APS frame here. */
static enum zb_err key_for(struct zb_crypto *c, const uint8_t link_key[ZB_KEY], uint8_t key_id, uint8_t key[ZB_KEY])
{
    switch (key_id) {
    case ZB_KEY_ID_DATA:
        memcpy(key, link_key, ZB_KEY);
        return ZB_OK;
    case ZB_KEY_ID_TRANSPORT:
        return zb_derive(c, link_key, ZB_KEY_TRANSPORT, key);
    case ZB_KEY_ID_LOAD:
        return zb_derive(c, link_key, ZB_KEY_LOAD, key);
    default:
        return ZB_NO_KEY;
    }
}

enum zb_err zb_aps_open(struct zb_crypto *c, const uint8_t link_key[ZB_KEY], struct span frame,
                        eui64_t source_if_absent, struct zb_aps *h, struct zb_aux *aux, struct wr *plain)
{
    enum zb_err e = zb_aps_parse(frame, h);
    if (e != ZB_OK)
        return e;
    if ((h->fcf & ZB_APS_SECURITY) == 0)
        return ZB_MALFORMED;

    struct rd r = rd_of(h->payload);
    e = zb_aux_parse(&r, aux);
    if (e != ZB_OK)
        return e;
    struct zb_secured s = {.header = h->header,
                           .aux_bytes = span_of(h->payload.p, h->payload.n - r.n),
                           .body = rd_rest(&r),
                           .aux = aux,
                           .source = aux->has_src64 ? aux->src64 : source_if_absent};
    uint8_t key[ZB_KEY];
    e = key_for(c, link_key, aux->key_id, key);
    if (e == ZB_OK)
        e = zb_secured_open(c, key, &s, plain);
    OPENSSL_cleanse(key, sizeof key);
    return e;
}

enum zb_err zb_aps_seal(struct zb_crypto *c, const uint8_t link_key[ZB_KEY], const struct zb_aps *h, uint8_t key_id,
                        uint32_t counter, eui64_t source, struct span payload, struct wr *out)
{
    struct zb_aps secured = *h;
    secured.fcf |= ZB_APS_SECURITY;
    size_t start = out->n;
    zb_aps_build(out, &secured);
    struct zb_aux aux = {.key_id = key_id, .counter = counter, .src64 = source};
    uint8_t key[ZB_KEY];
    enum zb_err e = key_for(c, link_key, key_id, key);
    if (e == ZB_OK)
        e = zb_secured_seal(c, key, start, &aux, payload, out);
    OPENSSL_cleanse(key, sizeof key);
    return e;
}
