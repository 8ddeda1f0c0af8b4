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
    SERVER_DISCOVERY_REQ = 0x0015,
    MGMT_LQI_REQ = 0x0031,
    MGMT_RTG_REQ = 0x0032,
    MGMT_BIND_REQ = 0x0033,
    MGMT_PERMIT_JOINING_REQ = 0x0036,
    MGMT_NWK_UPDATE_REQ = 0x0038,
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
    NO_DESCRIPTOR = 0x89,
    NOT_AUTHORIZED = 0x8d
};

#define MANUFACTURER 0    /* none assigned */
#define MAX_BUFFER 82     /* bytes of an APS payload in one NWK frame, as coordinators announce it */
#define MAX_TRANSFER 82   /* no fragmentation */
#define STACK_REVISION 22 /* of the server mask, bits 9 to 15: Request-Key and Verify-Key are served */
#define PRIMARY_TRUST_CENTRE 0x0001u
#define MAX_ADDRESSES 32 /* of associated devices in one response; */
#define MAX_NEIGHBOURS 3 /* 22 bytes each */
#define MAX_CHILDREN 9

struct request {
    const struct zb_self *self;
    bool broadcast;
    struct rd r; /* behind the sequence number */
    struct wr *w;
};

/* --- requests that name a device by its short address ------------------------------------------------------------- */

/* Whom a request is about, and whether that is us: the head of its response but for the status of what it asks for. */
static uint8_t subject(struct request *q, uint16_t *nwk)
{
    *nwk = 0;
    if (!rd_le16(&q->r, nwk))
        return INV_REQUEST_TYPE;
    return *nwk == q->self->nwk ? SUCCESS : DEVICE_NOT_FOUND;
}

static void put_head(struct wr *w, uint8_t status, uint16_t nwk)
{
    wr_u8(w, status);
    wr_le16(w, nwk);
}

/* ..with an empty list. */
static bool answer_nothing(struct wr *w, uint8_t status, uint16_t nwk)
{
    put_head(w, status, nwk);
    wr_u8(w, 0);
    return true;
}

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

static bool node_desc(struct request *q)
{
    uint16_t nwk;
    uint8_t status = subject(q, &nwk);
    put_head(q->w, status, nwk);
    if (status == SUCCESS)
        put_node_descriptor(q->w);
    return true;
}

/* Zig 2.3.2.4: on whenever idle, mains, full. */
static bool power_desc(struct request *q)
{
    uint16_t nwk;
    uint8_t status = subject(q, &nwk);
    put_head(q->w, status, nwk);
    if (status == SUCCESS)
        wr_le16(q->w, 0xc110);
    return true;
}

static bool simple_desc(struct request *q)
{
    uint16_t nwk;
    uint8_t status = subject(q, &nwk), endpoint;
    if (status == SUCCESS)
        status = rd_u8(&q->r, &endpoint) && endpoint != 0 && endpoint <= 254 ? NOT_ACTIVE : INVALID_EP;
    return answer_nothing(q->w, status, nwk);
}

static bool active_ep(struct request *q)
{
    uint16_t nwk;
    uint8_t status = subject(q, &nwk);
    return answer_nothing(q->w, status, nwk);
}

static bool match_desc(struct request *q)
{
    uint16_t nwk;
    uint8_t status = subject(q, &nwk);
    return answer_nothing(q->w, status == SUCCESS ? NO_DESCRIPTOR : status, nwk);
}

/* --- addresses (Zig 2.4.3.1.1, 2.4.3.1.2) ------------------------------------------------------------------------- */

static bool is_router(const struct zb_known *k)
{
    return (k->capability & ZB_CAPABILITY_FFD) != 0;
}

static bool find(const struct zb_self *self, eui64_t ieee, uint16_t nwk, struct zb_known *out)
{
    return self->find != NULL && self->find(self->user, ieee, nwk, out);
}

/* Request type 1: the devices that joined to us, from a start index on. */
static void put_associated(struct wr *w, const struct zb_self *self, uint8_t start)
{
    wr_u8(w, (uint8_t)self->nneighbours);
    if (self->nneighbours == 0)
        return; /* then there is no start index either */
    wr_u8(w, start);
    for (size_t i = start; i < self->nneighbours && i < (size_t)start + MAX_ADDRESSES; i++)
        wr_le16(w, self->neighbours[i].nwk);
}

/* Ours, or one of a device that we may speak for: by broadcast only for a child that sleeps, since others hear it. */
static bool answer_address(struct request *q, bool whole, bool ours, struct zb_known *about)
{
    uint8_t type = 0, start = 0;
    whole = whole && rd_u8(&q->r, &type) && rd_u8(&q->r, &start);
    bool known = whole && (ours || find(q->self, about->ieee, about->nwk, about));
    if (q->broadcast && !(known && (ours || (about->capability & ZB_CAPABILITY_RX_ON_IDLE) == 0)))
        return false;
    uint8_t status = !whole || type > 1 ? INV_REQUEST_TYPE : known ? SUCCESS : DEVICE_NOT_FOUND;
    wr_u8(q->w, status);
    wr_le64(q->w, about->ieee);
    wr_le16(q->w, about->nwk);
    if (status == SUCCESS && type == 1) {
        static const struct zb_self no_parent = {0};
        put_associated(q->w, ours ? q->self : &no_parent, start);
    }
    return true;
}

static bool nwk_addr(struct request *q)
{
    struct zb_known about = {.nwk = q->self->nwk};
    bool whole = rd_le64(&q->r, &about.ieee);
    return answer_address(q, whole, about.ieee == q->self->ieee, &about);
}

static bool ieee_addr(struct request *q)
{
    struct zb_known about = {0};
    bool whole = rd_le16(&q->r, &about.nwk), ours = about.nwk == q->self->nwk;
    about.ieee = ours ? q->self->ieee : 0;
    return answer_address(q, whole, ours, &about);
}

/* --- network ------------------------------------------------------------------------------------------------------ */

/* Zig 2.4.3.1.12: a router that restarted tells which children it has. We claim those that are ours; none is silence. */
static bool parent_annce(struct request *q)
{
    struct zb_known k;
    eui64_t ieee, ours[MAX_CHILDREN];
    uint8_t n = 0, count;
    if (!rd_u8(&q->r, &count))
        return false;
    while (count-- > 0 && n < MAX_CHILDREN && rd_le64(&q->r, &ieee))
        if (find(q->self, ieee, 0, &k) && !is_router(&k))
            ours[n++] = ieee;
    wr_u8(q->w, SUCCESS);
    wr_u8(q->w, n);
    for (size_t i = 0; i < n; i++)
        wr_le64(q->w, ours[i]);
    return n != 0;
}

/* Zig 2.4.3.1.14: who has none of the servers keeps silent. */
static bool server_discovery(struct request *q)
{
    uint16_t wanted;
    if (!rd_le16(&q->r, &wanted) || (wanted & PRIMARY_TRUST_CENTRE) == 0)
        return false;
    wr_u8(q->w, SUCCESS);
    wr_le16(q->w, PRIMARY_TRUST_CENTRE);
    return true;
}

/* Zig 2.4.4.3.2: device type, whether it listens, relationship; permit joining is not known; depth 1. */
static void put_neighbour(struct wr *w, const struct zb_self *self, const struct zb_known *k)
{
    enum { ROUTER = 1, END_DEVICE = 2, LISTENS = 1 << 2, CHILD = 1 << 4, NO_RELATION = 3 << 4, PERMIT_UNKNOWN = 2 };
    unsigned listens = (k->capability & ZB_CAPABILITY_RX_ON_IDLE) != 0 ? LISTENS : 0;
    wr_le64(w, self->ext_pan_id);
    wr_le64(w, k->ieee);
    wr_le16(w, k->nwk);
    wr_u8(w, (uint8_t)((is_router(k) ? ROUTER | NO_RELATION : END_DEVICE | CHILD) | listens));
    wr_u8(w, PERMIT_UNKNOWN);
    wr_u8(w, 1);
    wr_u8(w, k->lqi);
}

static bool mgmt_lqi(struct request *q)
{
    const struct zb_self *self = q->self;
    uint8_t start = 0;
    bool whole = rd_u8(&q->r, &start);
    size_t left = whole && start < self->nneighbours ? self->nneighbours - start : 0;
    size_t n = left < MAX_NEIGHBOURS ? left : MAX_NEIGHBOURS;
    wr_u8(q->w, whole ? SUCCESS : INV_REQUEST_TYPE);
    wr_u8(q->w, (uint8_t)self->nneighbours);
    wr_u8(q->w, start);
    wr_u8(q->w, (uint8_t)n);
    for (size_t i = 0; i < n; i++)
        put_neighbour(q->w, self, &self->neighbours[start + i]);
    return true;
}

static bool answer_empty_table(struct request *q, uint8_t status)
{
    uint8_t start = 0;
    wr_u8(q->w, rd_u8(&q->r, &start) ? status : INV_REQUEST_TYPE);
    wr_u8(q->w, 0);
    wr_u8(q->w, start);
    wr_u8(q->w, 0);
    return true;
}

/* Zig 2.4.4.3.3: no routing table, since the gateway sends back the way a frame came. */
static bool mgmt_rtg(struct request *q)
{
    return answer_empty_table(q, SUCCESS);
}

/* Zig 2.4.4.3.4: nor bindings; Bind_req and Unbind_req are not supported. */
static bool mgmt_bind(struct request *q)
{
    return answer_empty_table(q, NOT_SUPPORTED);
}

/* Zig 2.4.4.3.7: who may join is the operator's to say. */
static bool mgmt_permit_joining(struct request *q)
{
    uint8_t duration, significance;
    wr_u8(q->w, rd_u8(&q->r, &duration) && rd_u8(&q->r, &significance) ? NOT_AUTHORIZED : INV_REQUEST_TYPE);
    return true;
}

/* Zig 2.4.4.3.9: nothing scanned, nothing sent, an empty list. */
static bool mgmt_nwk_update(struct request *q)
{
    uint32_t channels;
    uint8_t duration;
    wr_u8(q->w, rd_le32(&q->r, &channels) && rd_u8(&q->r, &duration) ? NOT_SUPPORTED : INV_REQUEST_TYPE);
    wr_le32(q->w, 0);
    wr_le16(q->w, 0);
    wr_le16(q->w, 0);
    wr_u8(q->w, 0);
    return true;
}

/* --- which it is -------------------------------------------------------------------------------------------------- */

static const struct {
    uint16_t cluster;
    bool broadcast;                    /* may be answered when it came by broadcast */
    bool (*answer)(struct request *q); /* append status and what follows it; false: keep silent */
} requests[] = {
    {NWK_ADDR_REQ, true, nwk_addr},
    {IEEE_ADDR_REQ, true, ieee_addr},
    {NODE_DESC_REQ, false, node_desc},
    {POWER_DESC_REQ, false, power_desc},
    {SIMPLE_DESC_REQ, false, simple_desc},
    {ACTIVE_EP_REQ, false, active_ep},
    {MATCH_DESC_REQ, false, match_desc},
    {SERVER_DISCOVERY_REQ, true, server_discovery},
    {ZB_ZDP_PARENT_ANNCE, true, parent_annce},
    {MGMT_LQI_REQ, false, mgmt_lqi},
    {MGMT_RTG_REQ, false, mgmt_rtg},
    {MGMT_BIND_REQ, false, mgmt_bind},
    {MGMT_PERMIT_JOINING_REQ, false, mgmt_permit_joining},
    {MGMT_NWK_UPDATE_REQ, false, mgmt_nwk_update},
};

static bool answer_other(struct request *q)
{
    wr_u8(q->w, NOT_SUPPORTED); /* Zig 2.4.2.8 */
    return !q->broadcast;
}

bool zb_zdp_answer(const struct zb_self *self, uint16_t cluster, struct span request, bool broadcast,
                   uint16_t *response, struct wr *w)
{
    struct request q = {.self = self, .broadcast = broadcast, .r = rd_of(request), .w = w};
    uint8_t seq;
    if ((cluster & RESPONSE) != 0 || cluster == ZB_ZDP_DEVICE_ANNCE || !rd_u8(&q.r, &seq))
        return false;
    *response = cluster | RESPONSE;
    wr_u8(w, seq);
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++)
        if (requests[i].cluster == cluster)
            return (requests[i].broadcast || !broadcast) && requests[i].answer(&q) && wr_ok(w);
    return answer_other(&q) && wr_ok(w);
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
