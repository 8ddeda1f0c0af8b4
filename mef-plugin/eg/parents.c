/* Routers, and what is behind them (design 5.4; Zig 4.4.10.2, 4.4.10.3, 4.6.3.2.3). A router and all below it share one
 * key domain. NWK security is hop by hop: what a router passes on comes under its own EUI-64 and counter, so such a frame
 * proves that a member of the domain sent it, and that the domain's routers took it for the device's.
 *
 * A router's word opens things and ends none that is another's: a join that it reports gets a pending record, a rejoin
 * waits for the device's own frame, and a departure counts for a child of this very router. */
#include "mef-plugin/eg/internal.h"

#include <inttypes.h>

#define MAX_DEPTH 15 /* nwkMaxDepth of the PRO stack profile (Zig 3.5.2) */

enum update_status { SECURED_REJOIN = 0, UNSECURED_JOIN = 1, DEVICE_LEFT = 2, TRUST_CENTRE_REJOIN = 3 };

/* --- whose frame it is -------------------------------------------------------------------------------------------- */

/* Does one of the device's records have a key of this domain? */
static bool is_member(struct eg *e, const struct device *d, const struct domain *m)
{
    const struct pending *p = d->row.pending;
    if (d->row.has_current && domain_of(e, d->row.current.network_key) == m)
        return true;
    while (p != NULL && domain_of(e, p->assoc.network_key) != m)
        p = p->next;
    return p != NULL;
}

/* The EUI-64 that the frame itself names as its originator's; 0: none. */
static eui64_t named(const struct heard *h)
{
    struct zb_aps aps;
    struct zb_device_annce a;
    if (h->nwk.has_src64)
        return h->nwk.src64;
    bool announces = (h->nwk.fcf & ZB_FCF_TYPE) == ZB_NWK_DATA && zb_aps_parse(wr_span(&h->out), &aps) == ZB_OK &&
                     (aps.fcf & (3u | ZB_APS_SECURITY)) == ZB_APS_DATA && aps.profile == 0 &&
                     aps.cluster == ZB_ZDP_DEVICE_ANNCE && zb_device_annce_parse(aps.payload, &a) &&
                     a.nwk == h->nwk.src;
    return announces ? a.ieee : 0;
}

bool parent_own_frame(const struct device *hop, const struct assoc *a, const struct heard *h)
{
    if (h->nwk.src == a->address || domain_of(hop->eg, a->network_key) == NULL)
        return true;
    eui64_t eui = named(h);
    if (eui != 0)
        return eui == hop->eui;
    return !hop->row.has_current || hop->row.current.gateway != a->gateway; /* no member yet: it passes nothing on */
}

static bool is_claimed(const struct device *d, bool by_router)
{
    return d->row.has_current && d->moving[by_router].address != 0 && eg_now(d->eg) < d->moving[by_router].until;
}

/* Has it this address by its own word, or by a router's? What anybody says at the gateway makes no frame its. */
static bool is_at(const struct device *d, uint16_t address)
{
    const struct pending *p = d->row.pending;
    if (d->row.has_current && d->row.current.address == address)
        return true;
    if (is_claimed(d, true) && d->moving[true].address == address) /* as a router says */
        return true;
    while (p != NULL && (p->assoc.parent == 0 || p->assoc.address != address))
        p = p->next;
    return p != NULL;
}

struct device *parent_originator(struct device *hop, const struct heard *h)
{
    struct eg *e = hop->eg;
    const struct assoc *a = &hop->row.current;
    const struct domain *m = domain_of(e, a->network_key);
    if (parent_own_frame(hop, a, h))
        return hop;
    eui64_t eui = named(h);
    struct device *d = eui != 0 ? map64_get(e->devices, eui) : address_find(e, a->gateway, h->nwk.src);
    return d != NULL && is_member(e, d, m) && (eui != 0 || is_at(d, h->nwk.src)) ? d : NULL;
}

/* --- where it is -------------------------------------------------------------------------------------------------- */

void parent_moved(struct device *d, uint16_t address, bool passed_on)
{
    struct assoc *a = &d->row.current;
    a->address = address;
    a->next_hop = a->parent != 0 || passed_on ? EG_HOP_LEARNED : address;
    address_note(d, a->gateway, address, true);
}

/* Which copy of a broadcast comes first is chance; it tells the way where nothing better did. */
void parent_note_way(struct device *d, const struct heard *h)
{
    if (!eg_is_broadcast(h->nwk.dst) || d->via == 0)
        d->via = h->aux.src64;
}

/* NULL: it has no key at the gateway of d. */
static const struct device *companion(const struct device *d, eui64_t eui)
{
    const struct device *x = map64_get(d->eg->devices, eui);
    return x != NULL && x->row.has_current && x->row.current.gateway == d->row.current.gateway ? x : NULL;
}

/* By what frames proved, not by the clear headers that the gateway goes by: anybody near the radio can write those. */
uint16_t parent_next_hop(const struct device *d)
{
    for (int depth = 0; d != NULL && depth < MAX_DEPTH; depth++) {
        const struct assoc *a = &d->row.current;
        if (a->next_hop != EG_HOP_LEARNED || d->via == d->eui)
            return a->address;
        const struct device *via = companion(d, d->via);
        if (via != NULL)
            return via->row.current.address;
        d = companion(d, a->parent);
    }
    return EG_HOP_LEARNED;
}

static void claim(struct device *d, eui64_t parent, uint16_t address)
{
    bool by_router = parent != 0;
    d->moving[by_router].parent = parent;
    d->moving[by_router].address = address;
    d->moving[by_router].until = eg_now(d->eg) + (uint64_t)d->eg->pending_ms;
    address_note(d, d->row.current.gateway, address, false);
}

void parent_claimed(struct device *d, const struct assoc *a)
{
    if (d->row.has_current && d->row.current.network_key == a->network_key)
        claim(d, a->parent, a->address);
}

bool parent_is_claimed(const struct device *d)
{
    return is_claimed(d, false) || is_claimed(d, true);
}

bool parent_claims_address(const struct device *d, uint16_t address)
{
    return (is_claimed(d, false) && d->moving[false].address == address) ||
           (is_claimed(d, true) && d->moving[true].address == address);
}

/* Its parent by this frame. What a router says is so when a frame is passed on, what was said at the gateway when the
 * device is heard there. An end device that nobody spoke of sends to its parent only, broadcasts as well. */
static eui64_t parent_by(const struct device *d, const struct heard *h, bool passed_on, bool claimed)
{
    const struct assoc *a = &d->row.current;
    if (claimed)
        return d->moving[passed_on].parent;
    bool router = (a->capability & ZB_CAPABILITY_FFD) != 0;
    if (router || passed_on == (a->parent != 0))
        return a->parent;
    return passed_on ? h->aux.src64 : 0;
}

void parent_settled(struct device *d, const struct heard *h)
{
    struct assoc *a = &d->row.current;
    if (!d->row.has_current || domain_of(d->eg, a->network_key) == NULL)
        return;
    bool passed_on = h->aux.src64 != d->eui;
    bool claimed = is_claimed(d, passed_on) && d->moving[passed_on].address == h->nwk.src;
    bool other_way = a->parent == 0 && passed_on == (a->next_hop != EG_HOP_LEARNED);
    eui64_t parent = parent_by(d, h, passed_on, claimed);
    bool same = h->nwk.src == a->address;
    if (same ? !claimed && !other_way && parent == a->parent : !claimed && named(h) != d->eui)
        return;
    struct store_txn *t = store_begin(d->eg->d.store);
    if (t == NULL)
        return;
    if (claimed)
        d->moving[false].address = d->moving[true].address = 0;
    a->parent = parent;
    d->via = h->aux.src64;
    parent_moved(d, h->nwk.src, passed_on);
    device_store(d, t);
    device_commit(d, t, NULL, NULL);
    device_changed_later(d);
}

/* --- Remove-Device ------------------------------------------------------------------------------------------------ */

/* One that has joined anew has no children yet. */
static void send_remove(struct device *router, eui64_t child)
{
    const struct zb_cmd cmd = {.id = ZB_REMOVE_DEVICE, .device = child};
    struct outbox o;
    if (!router->row.enrolled || !outbox_open(router, &o))
        return;
    struct vault_aps_command c = {.cmd = &cmd, .link_key = exchange_link_key(router), .key_id = ZB_KEY_ID_DATA};
    outbox_aps_command(&o, &c);
    outbox_send(&o, false);
}

void parent_send_remove(struct device *d)
{
    const struct assoc *a = &d->row.current;
    struct device *router = map64_get(d->eg->devices, a->parent);
    if (router != NULL && router->row.has_current && router->row.current.gateway == a->gateway)
        send_remove(router, d->eui);
}

/* --- Update-Device: a join ---------------------------------------------------------------------------------------- */

/* Tunnel (Zig 4.4.10.5): the child's Transport-Key goes to the router under the domain's key, and on to the child as it
 * is. */
static bool send_tunnel(struct device *router, const struct join *j)
{
    uint8_t buf[ZB_NWK_MAX], seq;
    struct wr aps = wr_of(buf, sizeof buf);
    struct joining x;
    struct outbox o;
    if (!outbox_open(router, &o))
        return false;
    if (!join_begin(j, o.t, &x)) {
        outbox_drop(&o);
        return false;
    }
    o.failed = join_transport_key(j, o.t, &x.a, &aps, &seq) != ST_OK;
    const struct zb_cmd cmd = {.id = ZB_TUNNEL, .dst = j->device, .tunnelled = wr_span(&aps)};
    struct vault_aps_command c = {.cmd = &cmd};
    outbox_aps_command(&o, &c);
    if (o.failed) {
        join_undo(j, o.t, &x);
        outbox_drop(&o);
        return false;
    }
    join_commit(j, o.t, &x);
    outbox_send(&o, false);
    j->d->seq = router->seq;
    if (x.opened)
        device_changed_later(j->d);
    return true;
}

static struct join join_below(struct device *router, const struct zb_cmd *cmd, enum egp_join kind)
{
    struct eg *e = router->eg;
    const struct assoc *at = &router->row.current;
    return (struct join){.gateway = gateway_find(e, at->gateway),
                         .device = cmd->device,
                         .d = device_find(e, cmd->device),
                         .parent = router,
                         .kind = kind,
                         .pan = at->pan,
                         .address = cmd->short_addr,
                         .capability = ZB_CAPABILITY_RX_ON_IDLE}; /* its parent keeps its frames, if it sleeps */
}

static void on_join(struct device *router, const struct zb_cmd *cmd, enum egp_join kind)
{
    struct eg *e = router->eg;
    const struct join j = join_below(router, cmd, kind);
    if (j.gateway == NULL)
        return;
    enum egp_reason reason = eg_is_unicast(j.address) && j.device != router->eui && j.device != j.gateway->eui
                                 ? join_decide(e, &j)
                                 : EGP_BAD_REQUEST;
    if (reason == EGP_OK && !send_tunnel(router, &j))
        reason = EGP_UNAVAILABLE;
    if (reason != EGP_OK)
        join_refused(e, &j, reason);
}

static void on_unsecured_join(struct device *router, const struct zb_cmd *cmd)
{
    on_join(router, cmd, EGP_ASSOCIATION);
}

static void on_trust_centre_rejoin(struct device *router, const struct zb_cmd *cmd)
{
    on_join(router, cmd, EGP_REJOIN_TRUST_CENTRE);
}

/* --- Update-Device: a rejoin, a departure ------------------------------------------------------------------------- */

/* The router took it in under the domain's key. One that should not have that key any more is sent away. */
static void on_secured_rejoin(struct device *router, const struct zb_cmd *cmd)
{
    struct eg *e = router->eg;
    const struct join j = join_below(router, cmd, EGP_REJOIN_SECURED);
    const struct assoc *at = &router->row.current;
    bool known = j.d != NULL && strcmp(j.d->row.admin, router->row.admin) == 0;
    if (j.gateway == NULL || j.device == router->eui || !eg_is_unicast(j.address))
        return;
    if (known && j.d->row.has_current &&
        domain_of(e, j.d->row.current.network_key) == domain_of(e, at->network_key)) {
        claim(j.d, router->eui, j.address);
        return;
    }
    join_refused(e, &j, !known ? EGP_UNKNOWN_DEVICE : j.d->row.revoked ? EGP_DEVICE_REVOKED : EGP_PARENT_KEY_DOMAIN);
    send_remove(router, j.device);
}

static void on_left(struct device *router, const struct zb_cmd *cmd)
{
    struct eg *e = router->eg;
    struct device *d = map64_get(e->devices, cmd->device);
    bool moves = d != NULL && (is_claimed(d, false) || (is_claimed(d, true) && d->moving[true].parent != router->eui));
    if (d == NULL || !d->row.has_current || d->row.current.parent != router->eui || moves) {
        eg_count(e, "eg_left_ignored_total");
        return;
    }
    struct store_txn *t = store_begin(e->d.store);
    if (t == NULL)
        return;
    device_forget_key(d, t, d->row.enrolled ? WHY_LEFT : exchange_lacks(d));
    device_store(d, t);
    eg_audit(e, t, d->row.admin, "eg", "device.left", d->eui, "as its parent says");
    eg_count(e, "eg_left_total");
    device_commit(d, t, NULL, NULL);
    device_changed_later(d);
}

/* --- Update-Device ------------------------------------------------------------------------------------------------ */

/* What ends something needs the router's link key, as everything does once it has one of its own (Zig 4.4.1.2). */
static const struct {
    uint8_t status;
    bool secured;
    void (*hear)(struct device *router, const struct zb_cmd *cmd);
} updates[] = {{SECURED_REJOIN, false, on_secured_rejoin},
               {UNSECURED_JOIN, false, on_unsecured_join},
               {DEVICE_LEFT, true, on_left},
               {TRUST_CENTRE_REJOIN, false, on_trust_centre_rejoin}};

static void hear_update(struct device *router, const struct zb_cmd *cmd, bool secured)
{
    struct eg *e = router->eg;
    eg_count(e, "eg_update_device_total");
    log_event(LOG_DEBUG, "eg.update-device", "router=%016" PRIx64 " device=%016" PRIx64 " address=%04x status=%u",
              router->eui, cmd->device, cmd->short_addr, cmd->status);
    for (size_t i = 0; i < sizeof updates / sizeof updates[0]; i++)
        if (updates[i].status == cmd->status && (secured || (!updates[i].secured && router->row.current.tclk == 0))) {
            updates[i].hear(router, cmd);
            return;
        }
    eg_count(e, "eg_aps_commands_refused_total");
    log_event(LOG_INFO, "eg.aps-command-refused", "device=%016" PRIx64, router->eui);
}

void parent_hear_secured(struct device *router, const struct zb_cmd *cmd)
{
    hear_update(router, cmd, true);
}

void parent_hear_bare(struct device *router, const struct zb_cmd *cmd)
{
    hear_update(router, cmd, false);
}
