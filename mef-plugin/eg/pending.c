/* Keys sent and not proved: a record for each gateway and link key with which the device, or somebody with its EUI-64,
 * asked. Each has its own key, rate and time-out, so that a claim at one place does nothing to a join at another. */
#include "mef-plugin/eg/internal.h"

#include <stdlib.h>

struct pending *pending_at(const struct device *d, eui64_t gateway, vault_id link_key)
{
    struct pending *p = d->row.pending;
    while (p != NULL && (p->assoc.gateway != gateway || p->assoc.link_key != link_key))
        p = p->next;
    return p;
}

bool pending_within_rate(struct device *d, eui64_t gateway, vault_id link_key, bool by_router)
{
    struct pending *p = pending_at(d, gateway, link_key);
    if (p != NULL)
        return bucket_take(&p->rate[by_router], eg_now(d->eg), d->eg->key_rate, d->eg->key_burst, 1);
    size_t n = 0;
    for (p = d->row.pending; p != NULL; p = p->next)
        n++;
    return n < EG_MAX_PENDING;
}

void pending_put(struct device *d, struct pending *p, const struct assoc *a)
{
    if (pending_at(d, a->gateway, a->link_key) == NULL) {
        p->next = d->row.pending;
        d->row.pending = p;
    }
    struct assoc was = p->assoc;
    p->assoc = *a;
    p->at_gateway = p->at_gateway || a->parent == 0;
    if (a->parent == 0 && was.parent != 0) { /* anybody's word does not undo a router's */
        p->assoc.parent = was.parent;
        p->assoc.address = was.address;
        p->assoc.next_hop = was.next_hop;
    }
    p->since = eg_time(d->eg);
    address_note(d, a->gateway, a->address, false);
    pending_watch(d);
}

static void remove_at(struct pending **at)
{
    struct pending *p = *at;
    *at = p->next;
    free(p);
}

void pending_proved(struct device *d, struct pending *p)
{
    struct pending **at = &d->row.pending;
    while (*at != p)
        at = &(*at)->next;
    remove_at(at);
    pending_watch(d);
}

void pending_delivered(struct device *d, eui64_t gateway, uint64_t transaction, bool taken)
{
    for (struct pending *p = d->row.pending; p != NULL; p = p->next)
        if (p->assoc.gateway == gateway && p->sent_in == transaction)
            p->delivery = taken ? DELIVERY_TAKEN : DELIVERY_MISSED;
}

/* Why a key that was sent got no proof, as far as the gateway could see. A device whose install code is another cannot open
 * it, and so never says anything under it: that it took the frame and stayed silent is all that can be known. */
static enum device_reason unproved(const struct pending *p)
{
    static const enum device_reason why[] = {
        [DELIVERY_UNKNOWN] = WHY_NO_FRAME, [DELIVERY_TAKEN] = WHY_NOT_OPENED, [DELIVERY_MISSED] = WHY_NOT_DELIVERED};
    return why[p->delivery];
}

/* Those last sent before `before` end, with their keys. WHY_NONE: because they got no proof. */
static enum device_reason drop(struct device *d, struct store_txn *t, int64_t before, enum device_reason why)
{
    enum device_reason last = why;
    struct pending **at = &d->row.pending;
    while (*at != NULL) {
        if ((*at)->since >= before) {
            at = &(*at)->next;
            continue;
        }
        vault_id link_key = (*at)->assoc.link_key, network_key = (*at)->assoc.network_key;
        enum device_reason reason = why != WHY_NONE ? why : unproved(*at);
        struct gateway *g = gateway_of(d, (*at)->assoc.gateway);
        if (g != NULL)
            (void)failure_note(d->eg, g, d->eui, device_reason_name(reason), 0);
        remove_at(at);
        network_key_release(d->eg, t, network_key);
        device_release_link_key(d, t, link_key);
        if (device_awaited(d)) /* else it was a claim beside a proved key, which tells nothing of the device */
            d->row.reason = reason;
        last = reason;
    }
    device_store(d, t);
    pending_watch(d);
    return last;
}

void pending_drop_all(struct device *d, struct store_txn *t, enum device_reason why)
{
    if (d->row.pending != NULL)
        (void)drop(d, t, INT64_MAX, why);
}

/* --- the time-out ------------------------------------------------------------------------------------------------- */

/* The timer tells the time, not the wall clock, which may have been set: what is oldest by that one ends. */
static int64_t oldest(const struct device *d)
{
    int64_t since = INT64_MAX;
    for (const struct pending *p = d->row.pending; p != NULL; p = p->next)
        since = p->since < since ? p->since : since;
    return since;
}

static void timeout(void *user)
{
    struct device *d = user;
    struct eg *e = d->eg;
    d->timer = 0;
    struct store_txn *t = store_begin(e->d.store);
    if (t == NULL)
        return; /* stays pending until the next association or start */
    enum device_reason why = drop(d, t, oldest(d) + 1, WHY_NONE);
    eg_count(e, "eg_pending_expired_total");
    eg_audit(e, t, d->row.admin, "eg", "device.pending-expired", d->eui, device_reason_name(why));
    device_commit(d, t, NULL, NULL);
    device_changed_later(d);
}

void pending_watch(struct device *d)
{
    struct eg *e = d->eg;
    pending_unwatch(d);
    if (d->row.pending == NULL)
        return;
    int64_t left = oldest(d) + e->pending_ms - eg_time(e);
    left = left < 0 ? 0 : left > e->pending_ms ? e->pending_ms : left;
    d->timer = e->d.ops->timer(e->d.host, (uint64_t)left, timeout, d);
}

void pending_unwatch(struct device *d)
{
    if (d->timer != 0)
        d->eg->d.ops->timer_cancel(d->eg->d.host, d->timer);
    d->timer = 0;
}
