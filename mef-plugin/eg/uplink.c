/* UplinkFrame: opened under the pending, then the current network key; the first valid frame under the pending key
 * commits it; application frames go on to the AEs as they are. A frame that opens under neither key changes nothing.
 *
 * Replay: a frame counts only with a counter not below the least one expected. That number is stored when a key is
 * committed, and then every SAVE_FRAMES counters or SAVE_MS, whichever comes first: storing each frame would cost a
 * disk commit per reading of every device. After a crash (an orderly stop saves) an attacker near the radio can
 * therefore replay to observers at most the device's last SAVE_FRAMES frames, once; the AE's own replay window, which
 * ae-client keeps, refuses them. No counter of ours is touched by that, and a pending key's proof is always stored. */
#include "mef-plugin/eg/internal.h"

#include <inttypes.h>
#include <stdlib.h>

#define SAVE_FRAMES 32
#define SAVE_MS 10000
#define REFUSED_RATE 4 /* audit rows a second, of all stakeholders together; and at once */
#define REFUSED_BURST 8

/* --- relay to the AEs --------------------------------------------------------------------------------------------- */

static void publish(struct device *d, struct span frame)
{
    struct eg *e = d->eg;
    if (d->frames == NULL)
        d->frames = calloc(e->max_frames, sizeof *d->frames);
    if (d->frames != NULL && frame.n <= EGP_MAX_NWK) {
        d->newest = d->nframes == 0 ? 0 : (d->newest + 1) % e->max_frames;
        struct frame *f = &d->frames[d->newest];
        f->n = (uint8_t)frame.n;
        memcpy(f->bytes, frame.p, frame.n);
        if (d->nframes < e->max_frames)
            d->nframes++;
    }
    struct cse_response rsp = {.status = ST_OK, .body = frame, .content_format = EG_FORMAT_OCTETS};
    observers_notify(d, true, &rsp);
}

struct relay { /* a frame that waits until the key it proves, or is under, is durable */
    struct eg *e;
    struct cse_request *req;
    eui64_t device;
    bool committed, application;
    eui64_t left; /* the gateway at which it was before, and its address there; 0: none */
    uint16_t left_address;
    struct frame frame;
};

static void relay_durable(void *user, enum st st)
{
    struct relay *x = user;
    struct device *d = st == ST_OK ? device_find(x->e, x->device) : NULL;
    if (st != ST_OK) /* nothing was expected of the store but to keep it: memory is ahead of it now */
        x->e->d.ops->fatal(x->e->d.host, "a device's key could not be stored");
    if (d != NULL && x->committed)
        device_changed(d);
    if (d != NULL && x->left != 0)
        device_has_left(d, x->left, x->left_address);
    if (d != NULL && d->row.has_current && x->application) {
        eg_count(x->e, "eg_uplink_relayed_total");
        publish(d, span_of(x->frame.bytes, x->frame.n));
    }
    eg_respond(x->e, x->req, st == ST_OK ? ST_UPDATED : ST_UNAVAILABLE, NULL);
    free(x);
}

/* --- keys --------------------------------------------------------------------------------------------------------- */

bool heard_parse(struct span frame, struct heard *x)
{
    x->frame = frame;
    if (zb_nwk_parse(frame, &x->nwk) != ZB_OK || (x->nwk.fcf & ZB_FCF_SECURITY) == 0 || !eg_is_unicast(x->nwk.src))
        return false;
    struct rd r = rd_of(x->nwk.payload);
    return zb_aux_parse(&r, &x->aux) == ZB_OK && x->aux.key_id == ZB_KEY_ID_NWK && x->aux.has_src64;
}

bool heard_opens(struct device *d, const struct assoc *a, eui64_t gateway, struct heard *x)
{
    x->out = wr_of(x->plain, sizeof x->plain);
    return a->gateway == gateway && a->key_seq == x->aux.key_seq && zb_counter_ok(a->counter_next, x->aux.counter) &&
           vault_nwk_open(d->eg->d.vault, a->network_key, x->frame, &x->nwk, &x->aux, &x->out) == ZB_OK;
}

/* The counters of a key go on where those of the one before it at the same gateway are now: the gateway keeps frames in
 * their order, and does not know that they are under another key. */
static bool counters_go_on(struct device *d, struct store_txn *t, const struct assoc *proved)
{
    const struct assoc *now = &d->row.current;
    if (!d->row.has_current || now->gateway != proved->gateway || now->network_key == proved->network_key)
        return true;
    enum st st =
        vault_counters_follow(d->eg->d.vault, t, proved->network_key, now->network_key, proved->gateway);
    return st == ST_OK || st == ST_UNAVAILABLE; /* used up: the new key has its own */
}

static bool same_key(const struct device *d, const struct pending *p)
{
    return d->row.has_current && d->row.current.network_key == p->assoc.network_key;
}

/* Does a frame that opened under the pending key show that the device got it? Any does, unless the device has this very
 * key already, its domain's: then what it does only after joining. A device that rejoins announces itself; one that
 * joins anew speaks under the link key that the key came under, while one that never went away has a later one. */
static bool proves(struct device *d, const struct pending *p, struct heard *h)
{
    const struct assoc *now = &d->row.current;
    uint8_t buf[ZB_NWK_MAX];
    struct wr plain = wr_of(buf, sizeof buf);
    struct zb_aps aps;
    struct zb_aux aux;
    if (!same_key(d, p))
        return true;
    if (zb_aps_parse(wr_span(&h->out), &aps) != ZB_OK || (h->nwk.fcf & ZB_FCF_TYPE) != ZB_NWK_DATA)
        return false;
    if (p->assoc.link_key == device_rejoin_key(d, now->gateway))
        return (aps.fcf & 3u) == ZB_APS_DATA && aps.profile == 0 && aps.cluster == ZB_ZDP_DEVICE_ANNCE;
    if (now->tclk == 0 && now->link_key == p->assoc.link_key)
        return false; /* its first exchange goes on: what it says is that one's, and no spoofed join begins it anew */
    return (aps.fcf & (3u | ZB_APS_SECURITY)) == (ZB_APS_COMMAND | ZB_APS_SECURITY) &&
           vault_aps_open(d->eg->d.vault, p->assoc.link_key, wr_span(&h->out), d->eui, &aps, &aux, &plain) == ZB_OK;
}

/* The pending key is proved: it takes the place of the current one, in one transaction with its publication. The short
 * address is the one in the frame, which the key authenticates; that of the request was anybody's. */
static bool commit_pending(struct device *d, struct pending *p, const struct heard *h, struct relay *x)
{
    struct eg *e = d->eg;
    struct assoc proved = p->assoc;
    bool at_gateway = p->at_gateway;
    bool rejoined = device_rejoin_key(d, proved.gateway) == proved.link_key; /* by the link key that it has */
    const struct assoc before = d->row.current;
    bool moved = d->row.has_current && before.gateway != proved.gateway;
    struct store_txn *t = store_begin(e->d.store);
    if (t == NULL)
        return false;
    if (!counters_go_on(d, t, &proved) || device_publish_key(d, t, &proved) != ST_OK) {
        store_abort(t);
        return false;
    }
    device_forget_key(d, t, WHY_NONE); /* the one before; the record still holds the link key */
    pending_proved(d, p);
    if (rejoined) {
        proved.tclk = before.tclk;
        proved.aps_next = before.aps_next;
    }
    bool passed_on = h->aux.src64 != d->eui;
    if (!passed_on)
        proved.counter_next = h->aux.counter + 1;
    if (!passed_on && (at_gateway || (proved.capability & ZB_CAPABILITY_FFD) == 0))
        proved.parent = 0; /* an end device is heard by its parent only */
    d->row.current = proved;
    d->via = h->aux.src64;
    parent_moved(d, h->nwk.src, passed_on);
    d->row.has_current = true;
    d->row.revoked = false;
    d->row.last_seen = eg_time(e);
    d->row.enrolled = rejoined;
    if (!rejoined)
        exchange_begin(d);
    device_store(d, t);
    eg_audit(e, t, d->row.admin, "eg", "device.key-proved", d->eui, "ok");
    eg_count(e, "eg_keys_proved_total");
    x->left = moved ? before.gateway : 0;
    x->left_address = before.address;
    device_commit(d, t, relay_durable, x);
    coordinator_started(d);
    return true;
}

static void advance(struct device *d, uint32_t counter)
{
    struct eg *e = d->eg;
    d->row.current.counter_next = counter + 1;
    d->row.last_seen = eg_time(e);
    if (counter + 1 - d->counter_saved < SAVE_FRAMES && eg_now(e) - d->counter_saved_at < SAVE_MS)
        return;
    struct store_txn *t = store_begin(e->d.store);
    if (t == NULL)
        return;
    device_store(d, t);
    store_commit(t, NULL, NULL);
}

/* The gateway cannot know what a frame is worth: it is thanked for a bad one as for a good one. */
static void drop(struct eg *e, struct cse_request *req, eui64_t device)
{
    eg_count(e, "eg_uplink_dropped_total");
    log_event(LOG_DEBUG, "eg.uplink-dropped", "device=%016" PRIx64, device);
    eg_respond(e, req, ST_UPDATED, NULL);
}

/* Neighbours repeat a broadcast that they heard (Zig 3.6.5): taken in once. */
static bool is_repeated(struct device *d, const struct heard *h)
{
    const uint64_t delivery_ms = 9000; /* nwkBroadcastDeliveryTime */
    uint64_t now = eg_now(d->eg);
    if (!eg_is_broadcast(h->nwk.dst))
        return false;
    if (now < d->broadcast.until && d->broadcast.seq == h->nwk.seq)
        return true;
    d->broadcast.seq = h->nwk.seq;
    d->broadcast.until = now + delivery_ms;
    return false;
}

/* A frame of d, opened, which proves a pending record (or NULL); again: the broadcast was taken in already. */
static bool take_opened(struct device *d, struct pending *proved, bool again, struct heard *h, struct relay *x)
{
    x->device = d->eui;
    x->committed = proved != NULL;
    if (proved != NULL && !commit_pending(d, proved, h, x))
        return false;
    if (proved != NULL || (d->row.has_current && !again))
        x->application = coordinator_hear(d, h);
    if (proved == NULL)
        store_after(d->eg->d.store, d->seq, relay_durable, x);
    return true;
}

/* The pending record of this domain's key that a frame which a router passed on proves. */
static struct pending *proved_by_relay(struct device *d, const struct assoc *router, struct heard *h)
{
    struct pending *p = d->row.pending;
    while (p != NULL && (p->assoc.gateway != router->gateway || p->assoc.network_key != router->network_key ||
                         !proves(d, p, h)))
        p = p->next;
    return p;
}

/* hop: whose counter and EUI-64 secured the frame. */
static bool take_frame(struct device *hop, eui64_t gateway, struct heard *h, struct relay *x)
{
    for (struct pending *p = hop->row.pending; p != NULL; p = p->next)
        if (heard_opens(hop, &p->assoc, gateway, h) && parent_own_frame(hop, &p->assoc, h) && proves(hop, p, h) &&
            (!same_key(hop, p) || zb_counter_ok(hop->row.current.counter_next, h->aux.counter)))
            return take_opened(hop, p, is_repeated(hop, h), h, x);
    if (!hop->row.has_current || !heard_opens(hop, &hop->row.current, gateway, h))
        return false;
    advance(hop, h->aux.counter);
    struct device *d = parent_originator(hop, h);
    if (d == NULL)
        return false;
    bool again = is_repeated(d, h);
    if (!again || parent_is_claimed(d)) /* the first copy may be the one that came straight from a child of a router */
        parent_settled(d, h);
    parent_note_way(d, h);
    if (d == hop)
        return take_opened(d, NULL, again, h, x);
    d->row.last_seen = eg_time(d->eg);
    return take_opened(d, proved_by_relay(d, &hop->row.current, h), again, h, x);
}

/* A device that was sent away still has its domain's key, and what it says now may be sent again later. */
static void note_late(struct device *d, eui64_t gateway, struct heard *h)
{
    const struct domain *m = d->row.has_current ? NULL : domain_of(d->eg, d->row.shared_key);
    if (m == NULL)
        return;
    const struct assoc had = {.gateway = m->gateway,
                              .network_key = m->row.key,
                              .key_seq = m->row.key_seq,
                              .counter_next = d->row.shared_next};
    if (heard_opens(d, &had, gateway, h))
        d->row.shared_next = h->aux.counter + 1; /* stored when it matters, with a pending record */
}

/* Why a frame in the device's name was not taken, where that is worth telling: not of a radio's repetition of the last one. */
static const char *refused_for(struct device *d, const struct gateway *g, struct heard *h)
{
    struct assoc fresh = d->row.current;
    if (d->row.revoked)
        return egp_reason_name(EGP_DEVICE_REVOKED);
    fresh.counter_next = 0;
    if (!d->row.has_current || !heard_opens(d, &fresh, g->eui, h))
        return "frame-not-opened";
    return h->aux.counter + 1 == d->row.current.counter_next ? NULL : "counter-refused";
}

/* On record when it says something new, and at a rate of its own: a radio can say this and that in turn, in many names, and
 * what others are refused shall have its place in the trail. */
static void refuse_frame(struct device *d, const struct gateway *g, struct heard *h)
{
    const char *reason = refused_for(d, g, h);
    if (reason != NULL && failure_note(d->eg, g, d->eui, reason, 0) &&
        bucket_take(&d->eg->refused_rate, eg_now(d->eg), REFUSED_RATE, REFUSED_BURST, 1))
        eg_audit(d->eg, NULL, d->row.admin, g->row.identity, "eg.frame-refused", d->eui, reason);
}

void uplink_frame(struct eg *e, struct gateway *g, struct cse_request *req, const struct egp_message *m)
{
    struct heard h;
    eg_count(e, "eg_uplink_total");
    struct span frame = m->u.frame.nwk_frame;
    struct device *d = heard_parse(frame, &h) ? device_find(e, h.aux.src64) : NULL;
    if (d == NULL || strcmp(d->row.admin, g->row.admin) != 0) {
        drop(e, req, m->env.device);
        return;
    }
    struct relay *x = calloc(1, sizeof *x);
    if (x == NULL) {
        eg_respond(e, req, ST_UNAVAILABLE, NULL);
        return;
    }
    *x = (struct relay){.e = e, .req = req, .device = d->eui, .frame.n = (uint8_t)frame.n};
    h.hop = m->u.frame.hop;
    h.lqi = m->u.frame.lqi;
    memcpy(x->frame.bytes, frame.p, frame.n);
    if (!take_frame(d, g->eui, &h, x)) {
        free(x);
        refuse_frame(d, g, &h);
        note_late(d, g->eui, &h);
        drop(e, req, m->env.device);
    }
}

/* --- GET {base}/eg/frames/<eui64>, observed or not: the newest frame; with ?back=N the N-th before it ------------- */

static size_t wanted_frame(const struct cse_request *req)
{
    for (size_t i = 0; i < req->nparams; i++)
        if (strcmp(req->params[i].name, "back") == 0)
            return strtoul(req->params[i].value, NULL, 10);
    return 0;
}

void frames_retrieve(struct eg *e, struct cse_request *req, eui64_t eui)
{
    struct device *d;
    struct mef_principal p;
    enum st st = device_authorise(e, &req->peer, eui, &d, &p);
    if (st != ST_OK) {
        eg_respond(e, req, st, NULL);
        return;
    }
    if (req->observe)
        observer_add(d, req, true, &p);
    size_t back = wanted_frame(req);
    struct span body = {0};
    if (back < d->nframes) {
        const struct frame *f = &d->frames[(d->newest + e->max_frames - back) % e->max_frames];
        body = span_of(f->bytes, f->n);
    }
    eg_respond_bytes(e, req, ST_OK, EG_FORMAT_OCTETS, body);
}
