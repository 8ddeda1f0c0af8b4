#include "ipe-ni/gateway/mac.h"

#include "cse-shim/base/crc16.h"

/* Frame control field, 7.2.1.1. */
enum {
    FCF_TYPE = 0x0007,
    FCF_SECURITY = 0x0008,
    FCF_PENDING = 0x0010,
    FCF_ACK = 0x0020,
    FCF_COMPRESS = 0x0040,
    FCF_RESERVED = 0x0380,
    FCF_DST_SHIFT = 10,
    FCF_VERSION = 0x3000,
    FCF_SRC_SHIFT = 14
};

static bool parse_address(struct rd *r, bool pan, struct mac_addr *a)
{
    if (a->mode == MAC_NONE)
        return true;
    if (pan && !rd_le16(r, &a->pan))
        return false;
    return a->mode == MAC_SHORT ? rd_le16(r, &a->short_) : rd_le64(r, &a->ext);
}

const char *mac_parse(struct span frame, struct mac_frame *out)
{
    struct rd r = rd_of(frame);
    struct mac_frame f = {0};
    uint16_t fcf;
    if (frame.n > MAC_MAX_FRAME)
        return "too-long";
    if (!rd_le16(&r, &fcf) || !rd_u8(&r, &f.seq))
        return "truncated";
    f.type = fcf & FCF_TYPE;
    f.pending = fcf & FCF_PENDING;
    f.ack_request = fcf & FCF_ACK;
    f.dst.mode = fcf >> FCF_DST_SHIFT & 3;
    f.src.mode = fcf >> FCF_SRC_SHIFT & 3;
    bool compress = fcf & FCF_COMPRESS, both = f.dst.mode != MAC_NONE && f.src.mode != MAC_NONE;
    if (f.type > MAC_COMMAND)
        return "bad-type";
    if (fcf & FCF_SECURITY)
        return "secured";
    if (fcf & (FCF_RESERVED | FCF_VERSION) || f.dst.mode == 1 || f.src.mode == 1 || (compress && !both))
        return "reserved";
    if (f.type == MAC_ACK && (fcf & ~(unsigned)FCF_PENDING) != MAC_ACK)
        return "bad-ack";
    if (!parse_address(&r, true, &f.dst))
        return "truncated";
    f.src.pan = f.dst.pan;
    if (!parse_address(&r, !compress, &f.src))
        return "truncated";
    f.payload = rd_rest(&r);
    if (f.type == MAC_ACK && f.payload.n != 0)
        return "bad-ack";
    *out = f;
    return NULL;
}

static void build_address(struct wr *w, bool pan, const struct mac_addr *a)
{
    if (a->mode == MAC_NONE)
        return;
    if (pan)
        wr_le16(w, a->pan);
    if (a->mode == MAC_SHORT)
        wr_le16(w, a->short_);
    else
        wr_le64(w, a->ext);
}

void mac_build(struct wr *w, const struct mac_frame *f)
{
    bool compress = f->dst.mode != MAC_NONE && f->src.mode != MAC_NONE && f->dst.pan == f->src.pan;
    wr_le16(w, (uint16_t)(f->type | (f->pending ? FCF_PENDING : 0) | (f->ack_request ? FCF_ACK : 0) |
                          (compress ? FCF_COMPRESS : 0) | f->dst.mode << FCF_DST_SHIFT | f->src.mode << FCF_SRC_SHIFT));
    wr_u8(w, f->seq);
    build_address(w, true, &f->dst);
    build_address(w, !compress, &f->src);
    wr_spanb(w, f->payload);
}

bool mac_fcs_strip(struct span psdu, struct span *frame)
{
    if (psdu.n < 3 + MAC_FCS || psdu.n > MAC_MAX_PSDU)
        return false;
    *frame = span_of(psdu.p, psdu.n - MAC_FCS);
    return crc16_kermit(*frame) == (psdu.p[frame->n] | psdu.p[frame->n + 1] << 8);
}

void mac_fcs_append(struct wr *w, size_t from)
{
    if (wr_ok(w))
        wr_le16(w, crc16_kermit(span_of(w->p + from, w->n - from)));
}

static bool is_command(const struct mac_frame *f, enum mac_command id, size_t n)
{
    return f->type == MAC_COMMAND && f->payload.n == n && f->payload.p[0] == id;
}

bool mac_is_association_request(const struct mac_frame *f, uint8_t *capability)
{
    if (!is_command(f, MAC_ASSOCIATION_REQUEST, 2) || f->src.mode != MAC_EXT || f->dst.mode != MAC_SHORT ||
        f->src.pan != MAC_BROADCAST || f->src.ext == 0 || f->src.ext == UINT64_MAX)
        return false;
    *capability = f->payload.p[1];
    return true;
}

bool mac_is_data_request(const struct mac_frame *f)
{
    return is_command(f, MAC_DATA_REQUEST, 1) && f->src.mode != MAC_NONE;
}

bool mac_is_beacon_request(const struct mac_frame *f)
{
    return is_command(f, MAC_BEACON_REQUEST, 1) && f->src.mode == MAC_NONE && f->dst.mode == MAC_SHORT &&
           f->dst.short_ == MAC_BROADCAST;
}

void mac_association_response(struct wr *w, uint16_t short_, enum mac_associated status)
{
    wr_u8(w, MAC_ASSOCIATION_RESPONSE);
    wr_le16(w, short_);
    wr_u8(w, (uint8_t)status);
}

void mac_beacon_payload(struct wr *w, const struct mac_beacon *b)
{
    enum { SUPERFRAME = 0x4fff, PERMIT = 0x8000 }; /* orders 15 (no superframe), final CAP slot 15, PAN coordinator */
    wr_le16(w, (uint16_t)(SUPERFRAME | (b->permit ? PERMIT : 0)));
    wr_u8(w, 0); /* no guaranteed time slots */
    wr_u8(w, 0); /* no pending addresses */
    wr_u8(w, 0); /* protocol id */
    wr_le16(w, (uint16_t)(0x22 | (b->router_capacity ? 0x0400 : 0) | (b->depth & 15) << 11 |
                          (b->end_device_capacity ? 0x8000 : 0))); /* stack profile 2, protocol version 2 */
    wr_le64(w, b->ext_pan_id);
    wr_le(w, 3, 0xffffff); /* tx offset: beaconless */
    wr_u8(w, b->update_id);
}
