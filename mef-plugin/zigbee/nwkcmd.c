/* NWK commands (Zig 3.4): one table of layouts, read by the parser and the builder alike. */
#include "mef-plugin/zigbee/internal.h"

enum field {
    F_END,
    F_OPTIONS,
    F_ROUTE_ID,
    F_ADDRESS,
    F_COST,
    F_ORIGINATOR,
    F_RESPONDER,
    F_ADDRESS64,    /* when the options say so, as the next two */
    F_ORIGINATOR64,
    F_RESPONDER64,
    F_STATUS,
    F_CAPABILITY,
    F_TIMEOUT,
    F_INFORMATION,
    F_LINKS, /* as many as the options say */
    F_RELAYS /* counted */
};

static const struct layout {
    uint8_t id;
    enum field fields[8];
} layouts[] = {
    {ZB_NWK_ROUTE_REQUEST, {F_OPTIONS, F_ROUTE_ID, F_ADDRESS, F_COST, F_ADDRESS64}},
    {ZB_NWK_ROUTE_REPLY,
     {F_OPTIONS, F_ROUTE_ID, F_ORIGINATOR, F_RESPONDER, F_COST, F_ORIGINATOR64, F_RESPONDER64}},
    {ZB_NWK_STATUS, {F_STATUS, F_ADDRESS}},
    {ZB_NWK_LEAVE, {F_OPTIONS}},
    {ZB_NWK_ROUTE_RECORD, {F_RELAYS}},
    {ZB_NWK_REJOIN_REQUEST, {F_CAPABILITY}},
    {ZB_NWK_REJOIN_RESPONSE, {F_ADDRESS, F_STATUS}},
    {ZB_NWK_LINK_STATUS, {F_OPTIONS, F_LINKS}},
    {ZB_NWK_TIMEOUT_REQUEST, {F_TIMEOUT, F_INFORMATION}},
    {ZB_NWK_TIMEOUT_RESPONSE, {F_STATUS, F_INFORMATION}},
};

static const struct layout *layout_of(uint8_t id)
{
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++)
        if (layouts[i].id == id)
            return &layouts[i];
    return NULL;
}

static size_t links_size(const struct zb_nwk_cmd *c)
{
    return (size_t)ZB_LINK * (c->options & ZB_LINK_COUNT);
}

static bool relays_read(struct rd *r, struct span *out)
{
    uint8_t n;
    return rd_u8(r, &n) && rd_span(r, (size_t)2 * n, out);
}

static bool field_read(struct rd *r, enum field f, struct zb_nwk_cmd *c)
{
    switch (f) {
    case F_OPTIONS:
        return rd_u8(r, &c->options);
    case F_ROUTE_ID:
        return rd_u8(r, &c->route_id);
    case F_ADDRESS:
        return rd_le16(r, &c->address);
    case F_COST:
        return rd_u8(r, &c->cost);
    case F_ORIGINATOR:
        return rd_le16(r, &c->originator);
    case F_RESPONDER:
        return rd_le16(r, &c->responder);
    case F_ADDRESS64:
        return (c->options & ZB_ROUTE_ADDRESS64) == 0 || rd_le64(r, &c->address64);
    case F_ORIGINATOR64:
        return (c->options & ZB_ROUTE_ORIGINATOR64) == 0 || rd_le64(r, &c->originator64);
    case F_RESPONDER64:
        return (c->options & ZB_ROUTE_RESPONDER64) == 0 || rd_le64(r, &c->responder64);
    case F_STATUS:
        return rd_u8(r, &c->status);
    case F_CAPABILITY:
        return rd_u8(r, &c->capability);
    case F_TIMEOUT:
        return rd_u8(r, &c->timeout);
    case F_INFORMATION:
        return rd_u8(r, &c->information);
    case F_LINKS:
        return rd_span(r, links_size(c), &c->list);
    case F_RELAYS:
        return relays_read(r, &c->list);
    case F_END:
        break;
    }
    return false;
}

static void relays_write(struct wr *w, struct span relays)
{
    if (relays.n % 2 != 0 || relays.n / 2 > UINT8_MAX)
        w->overflow = true;
    wr_u8(w, (uint8_t)(relays.n / 2));
    wr_spanb(w, relays);
}

static void optional64_write(struct wr *w, const struct zb_nwk_cmd *c, unsigned option, eui64_t eui)
{
    if ((c->options & option) != 0)
        wr_le64(w, eui);
}

static void field_write(struct wr *w, enum field f, const struct zb_nwk_cmd *c)
{
    switch (f) {
    case F_OPTIONS:
        wr_u8(w, c->options);
        break;
    case F_ROUTE_ID:
        wr_u8(w, c->route_id);
        break;
    case F_ADDRESS:
        wr_le16(w, c->address);
        break;
    case F_COST:
        wr_u8(w, c->cost);
        break;
    case F_ORIGINATOR:
        wr_le16(w, c->originator);
        break;
    case F_RESPONDER:
        wr_le16(w, c->responder);
        break;
    case F_ADDRESS64:
        optional64_write(w, c, ZB_ROUTE_ADDRESS64, c->address64);
        break;
    case F_ORIGINATOR64:
        optional64_write(w, c, ZB_ROUTE_ORIGINATOR64, c->originator64);
        break;
    case F_RESPONDER64:
        optional64_write(w, c, ZB_ROUTE_RESPONDER64, c->responder64);
        break;
    case F_STATUS:
        wr_u8(w, c->status);
        break;
    case F_CAPABILITY:
        wr_u8(w, c->capability);
        break;
    case F_TIMEOUT:
        wr_u8(w, c->timeout);
        break;
    case F_INFORMATION:
        wr_u8(w, c->information);
        break;
    case F_LINKS:
        w->overflow |= c->list.n != links_size(c);
        wr_spanb(w, c->list);
        break;
    case F_RELAYS:
        relays_write(w, c->list);
        break;
    case F_END:
        break;
    }
}

enum zb_err zb_nwk_cmd_parse(struct span payload, struct zb_nwk_cmd *out)
{
    struct rd r = rd_of(payload);
    *out = (struct zb_nwk_cmd){0};
    if (!rd_u8(&r, &out->id))
        return ZB_TRUNCATED;
    const struct layout *l = layout_of(out->id);
    if (l == NULL)
        return ZB_MALFORMED;
    for (const enum field *f = l->fields; *f != F_END; f++)
        if (!field_read(&r, *f, out))
            return ZB_TRUNCATED;
    out->tlvs = rd_rest(&r);
    return ZB_OK;
}

enum zb_err zb_nwk_cmd_build(struct wr *w, const struct zb_nwk_cmd *cmd)
{
    const struct layout *l = layout_of(cmd->id);
    if (l == NULL)
        return ZB_MALFORMED;
    wr_u8(w, cmd->id);
    for (const enum field *f = l->fields; *f != F_END; f++)
        field_write(w, *f, cmd);
    wr_spanb(w, cmd->tlvs);
    return wr_ok(w) ? ZB_OK : ZB_NO_SPACE;
}
