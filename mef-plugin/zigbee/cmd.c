/* APS commands (Zig 4.4.10): one table of layouts, read by the parser and the builder alike. */
#include "mef-plugin/zigbee/internal.h"

enum field {
    F_END,
    F_KEY_TYPE,
    F_KEY,
    F_KEY_SEQ,
    F_DST,
    F_SRC,
    F_PARTNER,
    F_INITIATOR,
    F_DEVICE,
    F_SHORT,
    F_STATUS,
    F_TUNNELLED, /* all that is left, at least one byte */
    F_TLVS       /* all that is left, maybe nothing */
};

enum { ANY = 0, REQUEST_APP = 0x02 };

static const struct layout {
    uint8_t id;
    uint8_t key_type; /* ANY, or the only value of the byte after the id that has this layout */
    enum field fields[7];
} layouts[] = {
    {ZB_TRANSPORT_KEY, ZB_KEYTYPE_NWK, {F_KEY_TYPE, F_KEY, F_KEY_SEQ, F_DST, F_SRC}},
    {ZB_TRANSPORT_KEY, ZB_KEYTYPE_TCLK, {F_KEY_TYPE, F_KEY, F_DST, F_SRC, F_TLVS}},
    {ZB_TRANSPORT_KEY, ZB_KEYTYPE_APP, {F_KEY_TYPE, F_KEY, F_PARTNER, F_INITIATOR}},
    {ZB_UPDATE_DEVICE, ANY, {F_DEVICE, F_SHORT, F_STATUS, F_TLVS}},
    {ZB_REMOVE_DEVICE, ANY, {F_DEVICE}},
    {ZB_REQUEST_KEY, ZB_KEYTYPE_TCLK, {F_KEY_TYPE}},
    {ZB_REQUEST_KEY, REQUEST_APP, {F_KEY_TYPE, F_PARTNER}},
    {ZB_SWITCH_KEY, ANY, {F_KEY_SEQ}},
    {ZB_TUNNEL, ANY, {F_DST, F_TUNNELLED}},
    {ZB_VERIFY_KEY, ANY, {F_KEY_TYPE, F_SRC, F_KEY}},
    {ZB_CONFIRM_KEY, ANY, {F_STATUS, F_KEY_TYPE, F_DST}},
};

static const struct layout *layout_of(uint8_t id, uint8_t key_type)
{
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++)
        if (layouts[i].id == id && (layouts[i].key_type == ANY || layouts[i].key_type == key_type))
            return &layouts[i];
    return NULL;
}

static bool field_read(struct rd *r, enum field f, struct zb_cmd *c)
{
    switch (f) {
    case F_KEY_TYPE:
        return rd_u8(r, &c->key_type);
    case F_KEY:
        return rd_bytes(r, c->key, ZB_KEY);
    case F_KEY_SEQ:
        return rd_u8(r, &c->key_seq);
    case F_DST:
        return rd_le64(r, &c->dst);
    case F_SRC:
        return rd_le64(r, &c->src);
    case F_PARTNER:
        return rd_le64(r, &c->partner);
    case F_INITIATOR:
        return rd_u8(r, &c->initiator);
    case F_DEVICE:
        return rd_le64(r, &c->device);
    case F_SHORT:
        return rd_le16(r, &c->short_addr);
    case F_STATUS:
        return rd_u8(r, &c->status);
    case F_TUNNELLED:
        return rd_span(r, r->n, &c->tunnelled) && c->tunnelled.n != 0;
    case F_TLVS:
        return rd_span(r, r->n, &c->tlvs);
    case F_END:
        break;
    }
    return false;
}

static void field_write(struct wr *w, enum field f, const struct zb_cmd *c)
{
    switch (f) {
    case F_KEY_TYPE:
        wr_u8(w, c->key_type);
        break;
    case F_KEY:
        wr_bytes(w, c->key, ZB_KEY);
        break;
    case F_KEY_SEQ:
        wr_u8(w, c->key_seq);
        break;
    case F_DST:
        wr_le64(w, c->dst);
        break;
    case F_SRC:
        wr_le64(w, c->src);
        break;
    case F_PARTNER:
        wr_le64(w, c->partner);
        break;
    case F_INITIATOR:
        wr_u8(w, c->initiator);
        break;
    case F_DEVICE:
        wr_le64(w, c->device);
        break;
    case F_SHORT:
        wr_le16(w, c->short_addr);
        break;
    case F_STATUS:
        wr_u8(w, c->status);
        break;
    case F_TUNNELLED:
        wr_spanb(w, c->tunnelled);
        break;
    case F_TLVS:
        wr_spanb(w, c->tlvs);
        break;
    case F_END:
        break;
    }
}

enum zb_err zb_cmd_parse(struct span payload, struct zb_cmd *out)
{
    struct rd r = rd_of(payload);
    *out = (struct zb_cmd){0};
    if (!rd_u8(&r, &out->id))
        return ZB_TRUNCATED;
    const struct layout *l = layout_of(out->id, r.n != 0 ? r.p[0] : ANY);
    if (l == NULL)
        return r.n != 0 ? ZB_MALFORMED : ZB_TRUNCATED;
    for (const enum field *f = l->fields; *f != F_END; f++)
        if (!field_read(&r, *f, out))
            return ZB_TRUNCATED;
    return rd_end(&r) && out->initiator <= 1 ? ZB_OK : ZB_MALFORMED;
}

enum zb_err zb_cmd_build(struct wr *w, const struct zb_cmd *cmd)
{
    const struct layout *l = layout_of(cmd->id, cmd->key_type);
    if (l == NULL)
        return ZB_MALFORMED;
    wr_u8(w, cmd->id);
    for (const enum field *f = l->fields; *f != F_END; f++)
        field_write(w, *f, cmd);
    return wr_ok(w) ? ZB_OK : ZB_NO_SPACE;
}
