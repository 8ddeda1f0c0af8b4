/* Frames that the EG itself sends, as the coordinator above the MAC. Each is sealed at once, under counters that are in
 * the transaction of the change it belongs to, and leaves as a DownlinkFrame when that is durable. A lost frame is the
 * device's to ask for again; only one that the gateway dropped as late (Stale) is sealed anew. */
#include "mef-plugin/eg/internal.h"

#include <inttypes.h>
#include <stdlib.h>

#define MAX_TRIES 4 /* of one frame, after Stale */
#define FCF_DATA (ZB_NWK_DATA | 2u << 2) /* protocol version 2, no route discovery */
#define FCF_COMMAND (ZB_NWK_COMMAND | 2u << 2)

struct posting { /* frames of one transaction */
    struct eg *e;
    eui64_t gateway, device;
    uint16_t hop;
    bool indirect;
    size_t n;
    struct own_frame frames[OUTBOX_FRAMES];
    struct frame sealed[OUTBOX_FRAMES];
};

bool outbox_open(struct device *d, struct outbox *o)
{
    struct eg *e = d->eg;
    const struct assoc *a = &d->row.current;
    struct gateway *g = d->row.has_current ? gateway_of(d, a->gateway) : NULL;
    *o = (struct outbox){.d = d};
    if (g == NULL || g->lost)
        return false;
    o->p = calloc(1, sizeof *o->p);
    o->t = o->p != NULL ? store_begin(e->d.store) : NULL;
    if (o->t == NULL) {
        free(o->p);
        return false;
    }
    gateway_expect(g, o->t);
    *o->p = (struct posting){.e = e,
                             .gateway = a->gateway,
                             .device = d->eui,
                             .hop = parent_next_hop(d),
                             .indirect = assoc_polls(a)};
    return true;
}

void outbox_drop(struct outbox *o)
{
    store_abort(o->t);
    free(o->p);
}

/* --- sealing ------------------------------------------------------------------------------------------------------ */

/* Take the next counter of the device's key; the low byte of it numbers the frame at both layers (design 5.5), unless it
 * is another's, which has a number. */
static bool take(struct eg *e, const struct assoc *a, struct store_txn *t, struct own_frame *f)
{
    if (vault_take(e->d.vault, t, a->network_key, a->gateway, 1, &f->counter) != ST_OK)
        return false;
    if (f->nwk.src == 0)
        f->nwk.seq = (uint8_t)f->counter;
    return true;
}

static bool seal(struct eg *e, const struct assoc *a, const struct own_frame *f, struct frame *out)
{
    struct wr w = wr_of(out->bytes, sizeof out->bytes);
    bool ok = vault_nwk_seal(e->d.vault, a->network_key, &f->nwk, f->counter, a->gateway, a->key_seq,
                             span_of(f->payload, f->n), &w) == ZB_OK;
    out->n = (uint8_t)w.n;
    return ok;
}

/* A new frame with its counter, or NULL and the outbox has failed. */
static struct own_frame *frame_begin(struct outbox *o, unsigned fcf, uint8_t radius)
{
    const struct assoc *a = &o->d->row.current;
    if (o->failed || o->p->n == OUTBOX_FRAMES) {
        o->failed = true;
        return NULL;
    }
    struct own_frame *f = &o->p->frames[o->p->n];
    f->device = o->d->eui;
    f->nwk = (struct zb_nwk){.fcf = (uint16_t)fcf, .dst = a->address, .radius = radius};
    if (take(o->d->eg, a, o->t, f))
        return f;
    o->failed = true;
    return NULL;
}

static void frame_end(struct outbox *o, struct own_frame *f, const struct wr *payload)
{
    f->n = (uint8_t)payload->n;
    if (!o->failed && wr_ok(payload) && seal(o->d->eg, &o->d->row.current, f, &o->p->sealed[o->p->n]))
        o->p->n++;
    else
        o->failed = true;
}

void outbox_zdp(struct outbox *o, uint16_t cluster, struct span payload)
{
    struct own_frame *f = frame_begin(o, FCF_DATA, EG_RADIUS);
    if (f == NULL)
        return;
    struct wr w = wr_of(f->payload, sizeof f->payload);
    zb_aps_build(&w, &(struct zb_aps){.fcf = ZB_APS_DATA, .cluster = cluster, .counter = f->nwk.seq});
    wr_spanb(&w, payload);
    frame_end(o, f, &w);
}

void outbox_aps_command(struct outbox *o, struct vault_aps_command *c)
{
    struct vault *v = o->d->eg->d.vault;
    struct own_frame *f = frame_begin(o, FCF_DATA, EG_RADIUS);
    if (f == NULL)
        return;
    struct wr w = wr_of(f->payload, sizeof f->payload);
    c->source = o->p->gateway;
    c->aps_counter = f->nwk.seq;
    o->failed = (c->link_key != 0 && vault_take(v, o->t, c->link_key, c->source, 1, &c->counter) != ST_OK) ||
                vault_aps_command(v, c, &w) != ST_OK;
    frame_end(o, f, &w);
}

/* Zig 2.2.5.2.3: an acknowledgement turns the addresses of what it acknowledges round. */
void outbox_aps_ack(struct outbox *o, const struct zb_aps *acked)
{
    struct own_frame *f = frame_begin(o, FCF_DATA, EG_RADIUS);
    if (f == NULL)
        return;
    bool command = (acked->fcf & 3u) == ZB_APS_COMMAND;
    struct wr w = wr_of(f->payload, sizeof f->payload);
    zb_aps_build(&w, &(struct zb_aps){.fcf = command ? ZB_APS_ACK | ZB_APS_ACK_FORMAT : ZB_APS_ACK,
                                      .dst_endpoint = acked->src_endpoint,
                                      .src_endpoint = acked->dst_endpoint,
                                      .cluster = acked->cluster,
                                      .profile = acked->profile,
                                      .counter = acked->counter});
    frame_end(o, f, &w);
}

/* To the device itself; by broadcast to all who have its key, in the order of its own frames; or to the neighbour that
 * it is heard by, a router, which is awake. */
void outbox_nwk_command(struct outbox *o, uint16_t dst, uint8_t radius, struct span command)
{
    const struct assoc *a = &o->d->row.current;
    struct own_frame *f = frame_begin(o, FCF_COMMAND, radius);
    if (f == NULL)
        return;
    const struct device *to = dst == a->address ? o->d : address_find(o->d->eg, a->gateway, dst);
    f->nwk.dst = dst;
    f->nwk.has_dst64 = to != NULL;
    f->nwk.dst64 = to != NULL ? to->eui : 0;
    f->nwk.has_src64 = true;
    f->nwk.src64 = o->p->gateway;
    if (eg_is_unicast(dst) && dst != a->address) {
        o->p->hop = dst;
        o->p->indirect = false;
    }
    struct wr w = wr_of(f->payload, sizeof f->payload);
    wr_spanb(&w, command);
    frame_end(o, f, &w);
}

void outbox_relay(struct outbox *o, const struct zb_nwk *h, struct span payload)
{
    struct own_frame *f = frame_begin(o, h->fcf & ~ZB_FCF_SECURITY, (uint8_t)(h->radius - 1));
    if (f == NULL)
        return;
    f->nwk.src = h->src;
    f->nwk.seq = h->seq;
    f->nwk.has_dst64 = h->has_dst64;
    f->nwk.dst64 = h->dst64;
    f->nwk.has_src64 = h->has_src64;
    f->nwk.src64 = h->src64;
    struct wr w = wr_of(f->payload, sizeof f->payload);
    wr_spanb(&w, payload);
    frame_end(o, f, &w);
}

/* --- sending ------------------------------------------------------------------------------------------------------ */

/* For a Stale. */
static void remember(struct gateway *g, const struct own_frame *f)
{
    if (g->own == NULL)
        g->own = calloc(EG_OWN_FRAMES, sizeof *g->own);
    if (g->own == NULL)
        return;
    g->own[g->next_own] = *f;
    g->next_own = (g->next_own + 1) % EG_OWN_FRAMES;
}

static void posting_durable(void *user, enum st st)
{
    struct posting *p = user;
    struct eg *e = p->e;
    struct gateway *g = gateway_find(e, p->gateway);
    if (st != ST_OK)
        gateway_commit_failed(e, g, st);
    for (size_t i = 0; st == ST_OK && g != NULL && i < p->n; i++) {
        struct own_frame *f = &p->frames[i];
        f->transaction = e->next_transaction++;
        struct egp_message m = eg_message(EGP_DOWNLINK, f->transaction, g->eui, p->device);
        m.u.frame = (struct egp_frame){.hop = p->hop,
                                       .indirect = p->indirect,
                                       .nwk_frame = span_of(p->sealed[i].bytes, p->sealed[i].n)};
        remember(g, f);
        eg_count(e, eg_send(e, g, &m, NULL, NULL) ? "eg_own_frames_total" : "eg_own_frames_unsent_total");
    }
    free(p);
}

void outbox_send(struct outbox *o, bool changed)
{
    if (o->failed) {
        outbox_drop(o);
        return;
    }
    if (changed)
        device_store(o->d, o->t);
    device_commit(o->d, o->t, posting_durable, o->p);
}

static struct own_frame *recall(struct gateway *g, uint64_t transaction)
{
    for (size_t i = 0; g->own != NULL && i < EG_OWN_FRAMES; i++)
        if (g->own[i].device != 0 && g->own[i].transaction == transaction)
            return &g->own[i];
    return NULL;
}

void outbox_stale(struct eg *e, struct gateway *g, uint64_t transaction)
{
    struct own_frame *was = recall(g, transaction);
    struct device *d = was != NULL ? device_find(e, was->device) : NULL;
    struct outbox o;
    if (d == NULL || ++was->tries >= MAX_TRIES || d->row.current.gateway != g->eui || !outbox_open(d, &o))
        return;
    struct own_frame *f = &o.p->frames[0];
    *f = *was;
    was->device = 0;
    o.failed = !take(e, &d->row.current, o.t, f) || !seal(e, &d->row.current, f, &o.p->sealed[0]);
    o.p->n = 1;
    outbox_send(&o, false);
}
