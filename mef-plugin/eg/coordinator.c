/* What is addressed to the coordinator itself (design 5.1): ZDP here, APS commands in exchange.c, NWK commands in
 * network.c. The gateway sees none of it; every frame looks alike without the key. */
#include "mef-plugin/eg/internal.h"

#include <inttypes.h>

#define OWN_RATE 8 /* answers to one device a second, and at once */
#define OWN_BURST 32
#define REPEAT_MS 5000 /* apscMaxFrameRetries * apscAckWaitDuration, and less than a device waits before it asks anew */
#define MAX_LISTED 33  /* neighbours told of */
#define FRAGMENTED 3u  /* bits of the extended header */

/* A peer that asks too much is not answered: no counter of the key is spent on it. */
bool coordinator_within_rate(struct device *d)
{
    return bucket_take(&d->own_rate, eg_now(d->eg), OWN_RATE, OWN_BURST, 1);
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
    if (now->address != a.nwk)
        parent_moved(d, a.nwk, now->next_hop == EG_HOP_LEARNED);
    now->capability = a.capability;
    device_store(d, t);
    device_commit(d, t, NULL, NULL);
    device_changed_later(d);
    network_check_address(d);
}

/* Zig 2.2.8.4.2: a frame comes again with its APS counter when its acknowledgement was lost. */
static bool is_repeat(const struct device *d, uint8_t counter)
{
    for (size_t i = 0; i < EG_APS_HEARD; i++) {
        const struct aps_heard *x = &d->aps_heard[i];
        if (x->counter == counter && eg_now(d->eg) < x->until)
            return true;
    }
    return false;
}

static void note(struct device *d, uint8_t counter)
{
    d->aps_heard[d->next_aps_heard] = (struct aps_heard){eg_now(d->eg) + REPEAT_MS, counter};
    d->next_aps_heard = (d->next_aps_heard + 1) % EG_APS_HEARD;
}

static bool find_child(void *user, eui64_t ieee, uint16_t nwk, struct zb_known *out)
{
    return neighbours_child(user, ieee, nwk, out);
}

static bool respond(struct device *d, const struct zb_aps *aps, bool broadcast, uint16_t *cluster, struct wr *w)
{
    const struct gateway *g = gateway_find(d->eg, d->row.current.gateway);
    struct zb_known listed[MAX_LISTED];
    const struct zb_self self = {.ieee = d->row.current.gateway,
                                 .ext_pan_id = g != NULL ? g->ext_pan_id : 0,
                                 .neighbours = listed,
                                 .nneighbours = neighbours_list(d, listed, MAX_LISTED),
                                 .find = find_child,
                                 .user = d};
    return zb_zdp_answer(&self, aps->cluster, aps->payload, broadcast, cluster, w);
}

/* The answers to one frame: an acknowledgement if it asks for one, then the response if there is one. False: none could
 * be sent now. */
static bool answer_zdp(struct device *d, const struct zb_aps *aps, bool broadcast, bool repeat)
{
    uint8_t buf[ZB_NWK_MAX];
    struct wr w = wr_of(buf, sizeof buf);
    uint16_t cluster;
    bool ack = (aps->fcf & ZB_APS_ACK_REQUEST) != 0 && !broadcast;
    bool response = !repeat && respond(d, aps, broadcast, &cluster, &w);
    struct outbox o;
    if (!ack && !response)
        return true;
    if (!coordinator_within_rate(d) || !outbox_open(d, &o))
        return false;
    if (ack)
        outbox_aps_ack(&o, aps);
    if (response)
        outbox_zdp(&o, cluster, wr_span(&w));
    outbox_send(&o, false);
    return !o.failed;
}

static void hear_zdp(struct device *d, const struct zb_aps *aps, bool broadcast)
{
    if ((aps->ext_fcf & FRAGMENTED) != 0) { /* as our node descriptor says; not acknowledged, its sender gives up */
        eg_count(d->eg, "eg_fragments_refused_total");
        return;
    }
    bool repeat = is_repeat(d, aps->counter);
    if (!repeat && aps->cluster == ZB_ZDP_DEVICE_ANNCE)
        hear_announcement(d, aps->payload);
    bool answered = answer_zdp(d, aps, broadcast, repeat);
    if (!repeat && aps->cluster == ZB_ZDP_NODE_DESC_RSP)
        exchange_node_descriptor(d, aps->payload);
    if (answered && !repeat)
        note(d, aps->counter);
}

/* --- which it is -------------------------------------------------------------------------------------------------- */

void coordinator_started(struct device *d)
{
    memset(d->aps_heard, 0, sizeof d->aps_heard);
    network_check_address(d);
}

/* Endpoint 0 with profile 0 is ours; what has another endpoint, or a group, and another profile is for AEs. All else is
 * nobody's: an endpoint never answers for the other. */
static bool has_data(const struct zb_aps *aps)
{
    unsigned type = aps->fcf & 3u;
    return type == ZB_APS_DATA || type == ZB_APS_ACK;
}

static bool is_application(const struct zb_aps *aps)
{
    return has_data(aps) && aps->profile != 0 && (aps->dst_endpoint != 0 || (aps->fcf & ZB_APS_GROUP) == ZB_APS_GROUP);
}

static bool is_zdp(const struct zb_aps *aps)
{
    return (aps->fcf & 3u) == ZB_APS_DATA && aps->profile == 0 && aps->dst_endpoint == 0 &&
           (aps->fcf & ZB_APS_GROUP) != ZB_APS_GROUP && (aps->fcf & ZB_APS_SECURITY) == 0;
}

/* Frames to the coordinator's address, or to all; what goes from device to device is answered by neither. */
static void hear_own(struct device *d, const struct heard *h, const struct zb_aps *aps)
{
    if ((aps->fcf & 3u) == ZB_APS_COMMAND && !eg_is_broadcast(h->nwk.dst) && coordinator_within_rate(d))
        exchange_command(d, wr_span(&h->out));
    else if (is_zdp(aps))
        hear_zdp(d, aps, eg_is_broadcast(h->nwk.dst));
}

bool coordinator_hear(struct device *d, const struct heard *h)
{
    struct zb_aps aps;
    bool own = h->nwk.dst == 0 || eg_is_broadcast(h->nwk.dst), data = (h->nwk.fcf & ZB_FCF_TYPE) == ZB_NWK_DATA;
    if (h->aux.src64 == d->eui)
        d->lqi = h->lqi;
    if (!data && own)
        network_hear(d, h);
    else if (data && !own)
        network_relay(d, h);
    if (!data || zb_aps_parse(wr_span(&h->out), &aps) != ZB_OK)
        return false;
    if (is_application(&aps))
        return true;
    if (own)
        hear_own(d, h, &aps);
    return false;
}
