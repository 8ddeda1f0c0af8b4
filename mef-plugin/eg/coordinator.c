/* What is addressed to the coordinator itself (design 5.1): ZDP, APS commands, NWK commands. The gateway sees none of it;
 * every frame looks alike without the key. */
#include "mef-plugin/eg/internal.h"

#include <inttypes.h>

#define OWN_RATE 8 /* answers to one device a second, and at once */
#define OWN_BURST 32

enum nwk_command { /* Zig 3.4 */
    NWK_LEAVE = 0x04,
    NWK_REJOIN_REQUEST = 0x06,
    NWK_REJOIN_RESPONSE = 0x07,
    NWK_TIMEOUT_REQUEST = 0x0b,
    NWK_TIMEOUT_RESPONSE = 0x0c
};

/* A peer that asks too much is not answered: no counter of the key is spent on it. */
static bool within_rate(struct device *d)
{
    return bucket_take(&d->own_rate, eg_now(d->eg), OWN_RATE, OWN_BURST, 1);
}

static bool is_broadcast(const struct zb_nwk *h)
{
    return h->dst >= 0xfff8;
}

/* --- NWK commands ------------------------------------------------------------------------------------------------- */

/* Zig 3.4.4: "I leave" has the request bit clear; one that comes back rejoins. */
enum { LEAVE_REJOIN = 0x20, LEAVE_REQUEST = 0x40 };

static void on_leave(struct device *d, struct rd *r)
{
    uint8_t options;
    if (!rd_u8(r, &options) || (options & (LEAVE_REQUEST | LEAVE_REJOIN)) != 0)
        return;
    struct eg *e = d->eg;
    struct store_txn *t = store_begin(e->d.store);
    if (t == NULL)
        return;
    device_forget_key(d, t, WHY_LEFT);
    device_store(d, t);
    eg_audit(e, t, d->row.admin, "eg", "device.left", d->eui, "ok");
    eg_count(e, "eg_left_total");
    device_commit(d, t, NULL, NULL);
    device_changed_later(d);
}

void coordinator_send_leave(struct device *d)
{
    static const uint8_t leave[] = {NWK_LEAVE, LEAVE_REQUEST};
    struct outbox o;
    if (d->row.has_current && d->row.current.parent != 0) {
        parent_send_remove(d); /* a NWK command goes to neighbours only */
        return;
    }
    if (!outbox_open(d, &o))
        return;
    outbox_nwk_command(&o, span_of(leave, sizeof leave));
    if (o.failed)
        outbox_drop(&o);
    else
        outbox_send(&o, false);
}

bool nwk_is_rejoin_request(const struct zb_nwk *h, uint8_t *capability)
{
    struct rd r = rd_of(h->payload);
    uint8_t id;
    return (h->fcf & ZB_FCF_TYPE) == ZB_NWK_COMMAND && rd_u8(&r, &id) && id == NWK_REJOIN_REQUEST &&
           rd_u8(&r, capability);
}

void nwk_rejoin_response(struct wr *w, uint16_t address)
{
    wr_u8(w, NWK_REJOIN_RESPONSE);
    wr_le16(w, address);
    wr_u8(w, 0x00); /* success (Zig 3.4.7.3.2) */
}

/* A rejoin under the network key (Zig 3.4.6): the key is the proof; the device keeps its address. */
static void on_rejoin(struct device *d, struct rd *r)
{
    uint8_t capability, buf[4];
    struct wr w = wr_of(buf, sizeof buf);
    struct outbox o;
    if (!rd_u8(r, &capability) || !within_rate(d) || !outbox_open(d, &o))
        return;
    nwk_rejoin_response(&w, d->row.current.address);
    outbox_nwk_command(&o, wr_span(&w));
    if (o.failed) {
        outbox_drop(&o);
        return;
    }
    d->row.current.capability = capability;
    d->row.current.parent = 0; /* it asked the gateway itself */
    d->row.current.next_hop = d->row.current.address;
    outbox_send(&o, true);
}

/* Zig 3.4.11, 3.4.12: any time-out is accepted, since children do not age here; their polls keep them. */
static void on_timeout_request(struct device *d, struct rd *r)
{
    enum { LONGEST = 14, SUCCESS = 0, INCORRECT_VALUE = 1, KEEPALIVE_BY_POLL = 1 };
    uint8_t timeout, configuration, buf[3];
    struct wr w = wr_of(buf, sizeof buf);
    struct outbox o;
    if (!rd_u8(r, &timeout) || !rd_u8(r, &configuration) || !within_rate(d) || !outbox_open(d, &o))
        return;
    wr_u8(&w, NWK_TIMEOUT_RESPONSE);
    wr_u8(&w, timeout <= LONGEST && configuration == 0 ? SUCCESS : INCORRECT_VALUE);
    wr_u8(&w, KEEPALIVE_BY_POLL);
    outbox_nwk_command(&o, wr_span(&w));
    if (o.failed)
        outbox_drop(&o);
    else
        outbox_send(&o, false);
}

static const struct {
    uint8_t id;
    void (*hear)(struct device *d, struct rd *r);
} nwk_commands[] = {{NWK_LEAVE, on_leave}, {NWK_REJOIN_REQUEST, on_rejoin}, {NWK_TIMEOUT_REQUEST, on_timeout_request}};

static void hear_nwk_command(struct device *d, struct span plain)
{
    struct rd r = rd_of(plain);
    uint8_t id;
    if (!rd_u8(&r, &id))
        return;
    log_event(LOG_DEBUG, "eg.nwk-command", "device=%016" PRIx64 " id=%02x", d->eui, id);
    for (size_t i = 0; i < sizeof nwk_commands / sizeof nwk_commands[0]; i++)
        if (nwk_commands[i].id == id) {
            nwk_commands[i].hear(d, &r);
            return;
        }
}

/* --- ZDP ---------------------------------------------------------------------------------------------------------- */

static void hear_announcement(struct device *d, struct span payload)
{
    struct zb_device_annce a;
    struct assoc *now = &d->row.current;
    if (!zb_device_annce_parse(payload, &a) || a.ieee != d->eui || !eg_is_unicast(a.nwk) ||
        (now->address == a.nwk && now->capability == a.capability))
        return;
    struct store_txn *t = store_begin(d->eg->d.store);
    if (t == NULL)
        return;
    parent_moved(d, a.nwk, now->next_hop == EG_HOP_LEARNED);
    now->capability = a.capability;
    device_store(d, t);
    device_commit(d, t, NULL, NULL);
    device_changed_later(d);
}

/* The answers to one frame: an acknowledgement if it asks for one, then the response if there is one. */
static void answer_zdp(struct device *d, const struct zb_nwk *h, const struct zb_aps *aps)
{
    const struct zb_self self = {.ieee = d->row.current.gateway, .nwk = 0};
    uint8_t buf[ZB_NWK_MAX];
    struct wr w = wr_of(buf, sizeof buf);
    uint16_t cluster;
    bool ack = (aps->fcf & ZB_APS_ACK_REQUEST) != 0 && !is_broadcast(h);
    bool response = zb_zdp_answer(&self, aps->cluster, aps->payload, is_broadcast(h), &cluster, &w);
    struct outbox o;
    if ((!ack && !response) || !within_rate(d) || !outbox_open(d, &o))
        return;
    if (ack)
        outbox_aps_ack(&o, aps);
    if (response)
        outbox_zdp(&o, cluster, wr_span(&w));
    if (o.failed)
        outbox_drop(&o);
    else
        outbox_send(&o, false);
}

static void hear_zdp(struct device *d, const struct zb_nwk *h, const struct zb_aps *aps)
{
    if (aps->cluster == ZB_ZDP_DEVICE_ANNCE)
        hear_announcement(d, aps->payload);
    answer_zdp(d, h, aps);
    if (aps->cluster == ZB_ZDP_NODE_DESC_RSP)
        exchange_node_descriptor(d, aps->payload);
}

/* --- which it is -------------------------------------------------------------------------------------------------- */

static bool is_application(const struct zb_aps *aps)
{
    unsigned type = aps->fcf & 3u;
    return (type == ZB_APS_DATA || type == ZB_APS_ACK) && aps->profile != 0 &&
           (type == ZB_APS_ACK || aps->dst_endpoint != 0);
}

bool coordinator_hear(struct device *d, const struct heard *h)
{
    struct span plain = wr_span(&h->out);
    struct zb_aps aps;
    if ((h->nwk.fcf & ZB_FCF_TYPE) == ZB_NWK_COMMAND) {
        if (h->aux.src64 == d->eui) /* a neighbour's; what they say is between neighbours */
            hear_nwk_command(d, plain);
        return false;
    }
    if ((h->nwk.fcf & ZB_FCF_TYPE) != ZB_NWK_DATA || zb_aps_parse(plain, &aps) != ZB_OK)
        return false;
    if (is_application(&aps))
        return true;
    unsigned type = aps.fcf & 3u;
    if (type == ZB_APS_COMMAND && within_rate(d))
        exchange_command(d, plain);
    else if (type == ZB_APS_DATA && (aps.fcf & ZB_APS_SECURITY) == 0)
        hear_zdp(d, &h->nwk, &aps);
    return false;
}
