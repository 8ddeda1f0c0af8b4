/* Zigbee Device Profile (Zig 2.4): what a coordinator without application endpoints answers, and what it reads. */
#include "mef-plugin/zigbee/zigbee.h"

enum {
    NWK_ADDR_REQ = 0x0000,
    IEEE_ADDR_REQ = 0x0001,
    NODE_DESC_REQ = ZB_ZDP_NODE_DESC_REQ,
    POWER_DESC_REQ = 0x0003,
    SIMPLE_DESC_REQ = 0x0004,
    ACTIVE_EP_REQ = 0x0005,
    MATCH_DESC_REQ = 0x0006,
    RESPONSE = 0x8000 /* added to a request's cluster */
};
/* Status values (Zig 2.4.5). */
enum {
    SUCCESS = 0x00,
    INV_REQUEST_TYPE = 0x80,
    DEVICE_NOT_FOUND = 0x81,
    INVALID_EP = 0x82,
    NOT_ACTIVE = 0x83,
    NOT_SUPPORTED = 0x84,
    NO_DESCRIPTOR = 0x89
};

#define MANUFACTURER 0    /* none assigned */
#define MAX_BUFFER 82     /* bytes of an APS payload in one NWK frame, as coordinators announce it */
#define MAX_TRANSFER 82   /* no fragmentation */
#define STACK_REVISION 22 /* of the server mask, bits 9 to 15: Request-Key and Verify-Key are served */
#define PRIMARY_TRUST_CENTRE 0x0001u

/* Zig 2.3.2.3: a coordinator, 2.4 GHz, mains powered, always listening, allocates addresses. */
static void put_node_descriptor(struct wr *w)
{
    wr_u8(w, 0x00);
    wr_u8(w, 0x40);
    wr_u8(w, 0x8f);
    wr_le16(w, MANUFACTURER);
    wr_u8(w, MAX_BUFFER);
    wr_le16(w, MAX_TRANSFER);
    wr_le16(w, STACK_REVISION << 9 | PRIMARY_TRUST_CENTRE);
    wr_le16(w, MAX_TRANSFER);
    wr_u8(w, 0x00);
}

/* --- requests that name a device by its short address ------------------------------------------------------------- */

static void put_descriptor_head(struct wr *w, uint8_t status, uint16_t nwk)
{
    wr_u8(w, status);
    wr_le16(w, nwk);
}

static void node_desc(struct rd *r, uint16_t nwk, struct wr *w)
{
    (void)r;
    put_descriptor_head(w, SUCCESS, nwk);
    put_node_descriptor(w);
}

/* Zig 2.3.2.4: on whenever idle, mains, full. */
static void power_desc(struct rd *r, uint16_t nwk, struct wr *w)
{
    (void)r;
    put_descriptor_head(w, SUCCESS, nwk);
    wr_le16(w, 0xc110);
}

static void simple_desc(struct rd *r, uint16_t nwk, struct wr *w)
{
    uint8_t endpoint = 0;
    bool valid = rd_u8(r, &endpoint) && endpoint != 0 && endpoint <= 254;
    put_descriptor_head(w, valid ? NOT_ACTIVE : INVALID_EP, nwk);
    wr_u8(w, 0);
}

static void active_ep(struct rd *r, uint16_t nwk, struct wr *w)
{
    (void)r;
    put_descriptor_head(w, SUCCESS, nwk);
    wr_u8(w, 0);
}

static void match_desc(struct rd *r, uint16_t nwk, struct wr *w)
{
    (void)r;
    put_descriptor_head(w, NO_DESCRIPTOR, nwk);
    wr_u8(w, 0);
}

static const struct {
    uint16_t cluster;
    bool counted; /* the response has a list's length, also after a failure */
    void (*answer)(struct rd *r, uint16_t nwk, struct wr *w);
} by_address[] = {
    {NODE_DESC_REQ, false, node_desc}, {POWER_DESC_REQ, false, power_desc}, {SIMPLE_DESC_REQ, true, simple_desc},
    {ACTIVE_EP_REQ, true, active_ep},  {MATCH_DESC_REQ, true, match_desc},
};

static bool answer_by_address(uint16_t cluster, struct rd *r, const struct zb_self *self, struct wr *w)
{
    for (size_t i = 0; i < sizeof by_address / sizeof by_address[0]; i++) {
        uint16_t nwk = 0;
        if (by_address[i].cluster != cluster)
            continue;
        bool whole = rd_le16(r, &nwk);
        if (whole && nwk == self->nwk) {
            by_address[i].answer(r, nwk, w);
            return true;
        }
        put_descriptor_head(w, whole ? DEVICE_NOT_FOUND : INV_REQUEST_TYPE, nwk);
        if (by_address[i].counted)
            wr_u8(w, 0);
        return true;
    }
    return false;
}

/* --- addresses ---------------------------------------------------------------------------------------------------- */

/* Zig 2.4.3.1.1, 2.4.3.1.2: our own address, or not found. Request type 1 (with our children) is answered like type 0:
 * the parent's table is the gateway's. */
static bool answer_address(uint16_t cluster, struct rd *r, const struct zb_self *self, bool *ours, struct wr *w)
{
    uint64_t ieee = self->ieee;
    uint16_t nwk = self->nwk;
    uint8_t type = 0, start;
    if (cluster != NWK_ADDR_REQ && cluster != IEEE_ADDR_REQ)
        return false;
    bool whole = (cluster == NWK_ADDR_REQ ? rd_le64(r, &ieee) : rd_le16(r, &nwk)) && rd_u8(r, &type) &&
                 rd_u8(r, &start);
    *ours = whole && ieee == self->ieee && nwk == self->nwk;
    wr_u8(w, *ours && type <= 1 ? SUCCESS : !whole || type > 1 ? INV_REQUEST_TYPE : DEVICE_NOT_FOUND);
    wr_le64(w, ieee);
    wr_le16(w, nwk);
    return true;
}

bool zb_zdp_answer(const struct zb_self *self, uint16_t cluster, struct span request, bool broadcast,
                   uint16_t *response, struct wr *w)
{
    struct rd r = rd_of(request);
    uint8_t seq;
    bool ours = false;
    if ((cluster & RESPONSE) != 0 || cluster == ZB_ZDP_DEVICE_ANNCE || cluster == ZB_ZDP_PARENT_ANNCE ||
        !rd_u8(&r, &seq))
        return false;
    *response = cluster | RESPONSE;
    wr_u8(w, seq);
    if (answer_address(cluster, &r, self, &ours, w))
        return wr_ok(w) && (ours || !broadcast);
    if (broadcast)
        return false; /* only who has what is asked for answers a broadcast */
    if (!answer_by_address(cluster, &r, self, w))
        wr_u8(w, NOT_SUPPORTED); /* Zig 2.4.2.8 */
    return wr_ok(w);
}

void zb_node_desc_request(struct wr *w, uint8_t seq, uint16_t nwk)
{
    wr_u8(w, seq);
    wr_le16(w, nwk);
}

bool zb_node_desc_revision(struct span response, uint16_t nwk, uint8_t *revision)
{
    struct rd r = rd_of(response);
    uint8_t seq, status;
    uint16_t about, mask;
    struct span before;
    if (!rd_u8(&r, &seq) || !rd_u8(&r, &status) || status != SUCCESS || !rd_le16(&r, &about) || about != nwk ||
        !rd_span(&r, 8, &before) || !rd_le16(&r, &mask))
        return false;
    *revision = (uint8_t)(mask >> 9);
    return true;
}

bool zb_device_annce_parse(struct span payload, struct zb_device_annce *out)
{
    struct rd r = rd_of(payload);
    uint8_t seq;
    return rd_u8(&r, &seq) && rd_le16(&r, &out->nwk) && rd_le64(&r, &out->ieee) && rd_u8(&r, &out->capability);
}
