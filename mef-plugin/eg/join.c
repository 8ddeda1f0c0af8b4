/* Somebody asks to join or to rejoin: at the gateway (enrol.c) or through a router that says so (parents.c). Request ->
 * facts -> verdict -> network key and pending record -> Transport-Key. Nothing a request says is believed beyond that. */
#include "mef-plugin/eg/internal.h"
#include "mef-plugin/eg/policy.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* --- the verdict -------------------------------------------------------------------------------------------------- */

static bool contains_text(char *const *list, size_t n, const char *text)
{
    for (size_t i = 0; i < n; i++)
        if (text != NULL && strcmp(list[i], text) == 0)
            return true;
    return false;
}

/* Do the registration and the gateway's record agree? What names nothing allows all. */
static bool agree(const struct code *c, const struct gateway *g)
{
    if (g->row.napplications > 0 && !contains_text(g->row.applications, g->row.napplications, c->application))
        return false;
    for (size_t i = 0; i < c->ngateways; i++)
        if (c->gateways[i] == g->eui)
            return true;
    return c->ngateways == 0;
}

static bool pan_allowed(const struct gateway *g, uint16_t pan)
{
    for (size_t i = 0; i < g->row.npans; i++)
        if (g->row.pans[i] == pan)
            return true;
    return g->row.npans == 0;
}

vault_id join_link_key(const struct join *j)
{
    return j->kind == EGP_ASSOCIATION ? j->d->code->key : device_rejoin_key(j->d, j->gateway->eui);
}

/* At the gateway itself anybody; below a router those of its key domain, which holds for any depth. */
static bool within_domain(struct eg *e, const struct join *j)
{
    if (j->parent == NULL)
        return !j->unknown_parent;
    const struct assoc *at = &j->parent->row.current;
    const struct domain *m = domain_of(e, at->network_key);
    return m != NULL && at->gateway == j->gateway->eui && m == domain_for(j->d, j->gateway->eui);
}

static unsigned gather(struct eg *e, const struct join *j)
{
    const struct gateway *g = j->gateway;
    const struct device *d = j->d;
    unsigned facts = (g->lost ? 0 : FACT_OWNED) | (pan_allowed(g, j->pan) ? FACT_PAN_ALLOWED : 0) |
                     (j->kind == EGP_ASSOCIATION ? FACT_ASSOCIATION : 0);
    if (d == NULL || d->code == NULL || strcmp(d->row.admin, g->row.admin) != 0)
        return facts; /* another stakeholder's device is unknown here */
    const struct device_row *row = &d->row;
    return facts | FACT_REGISTERED | (agree(d->code, g) ? FACT_GATEWAY_ALLOWED : 0) |
           (within_domain(e, j) ? FACT_IN_DOMAIN : 0) |
           (d->code->expires != 0 && d->code->expires <= eg_time(e) ? FACT_EXPIRED : 0) |
           (row->revoked ? FACT_REVOKED : 0) | (row->code_spent ? FACT_CODE_SPENT : 0) |
           (device_rearmed(e, d) ? FACT_REARMED : 0) | (device_rejoin_key(d, g->eui) != 0 ? FACT_LINK_KEY : 0) |
           (pending_at(d, g->eui, join_link_key(j)) != NULL ? FACT_PENDING_HERE : 0) | FACT_WITHIN_RATE;
}

enum egp_reason join_decide(struct eg *e, const struct join *j)
{
    unsigned facts = gather(e, j);
    struct policy_verdict v = policy_join(facts);
    /* A token is spent only on a key that is going to be forged. */
    if (v.act != POLICY_REFUSE && !pending_within_rate(j->d, j->gateway->eui, join_link_key(j), j->parent != NULL))
        v = policy_join(facts & ~(unsigned)FACT_WITHIN_RATE);
    return v.reason;
}

/* --- the key ------------------------------------------------------------------------------------------------------ */

/* What the device becomes when it proves this key. Where requests in its name differ on whether it sleeps, it is reached
 * as one that does not, until it says itself: it announces itself with the first frame under the key, and that goes by
 * no claim. */
static struct assoc new_assoc(const struct join *j, const struct pending *p)
{
    struct assoc a = p->assoc; /* of a record that is there: the same key, and the counter of its frames goes on */
    a.gateway = j->gateway->eui;
    a.link_key = join_link_key(j);
    a.parent = j->parent != NULL ? j->parent->eui : 0;
    a.pan = j->pan;
    a.address = j->address;
    a.next_hop = j->parent != NULL ? EG_HOP_LEARNED : j->address;
    uint8_t claimed = a.network_key != 0 ? a.capability & ZB_CAPABILITY_RX_ON_IDLE : 0;
    a.capability = j->capability | claimed;
    return a;
}

/* A key of its own that follows another in the same network has the next sequence number. Under a key that the device has,
 * or had, its frames are no older than those it sent. */
static bool give_network_key(const struct join *j, struct store_txn *t, struct assoc *a)
{
    const struct assoc *now = &j->d->row.current;
    if (!network_key_get(j->d, t, a->gateway, &a->network_key, &a->key_seq))
        return false;
    if (j->d->row.has_current && a->network_key == now->network_key)
        a->counter_next = now->counter_next;
    else if (a->network_key == j->d->row.shared_key)
        a->counter_next = j->d->row.shared_next;
    else if (domain_of(j->d->eg, a->network_key) == NULL && a->link_key == device_rejoin_key(j->d, a->gateway))
        a->key_seq = (uint8_t)(now->key_seq + 1);
    return true;
}

bool join_begin(const struct join *j, struct store_txn *t, struct joining *x)
{
    struct pending *old = pending_at(j->d, j->gateway->eui, join_link_key(j));
    x->p = old != NULL ? old : calloc(1, sizeof *x->p);
    if (x->p == NULL)
        return false;
    x->a = new_assoc(j, x->p);
    x->opened = old == NULL || !network_key_fits(j->d, j->gateway->eui, x->a.network_key);
    if (!x->opened)
        return true;
    x->a.counter_next = 0;
    if (give_network_key(j, t, &x->a))
        return true;
    if (old == NULL)
        free(x->p);
    return false;
}

enum st join_transport_key(const struct join *j, struct store_txn *t, const struct assoc *a, struct wr *aps,
                           uint8_t *seq)
{
    struct vault *v = j->d->eg->d.vault;
    const struct zb_cmd cmd = {
        .id = ZB_TRANSPORT_KEY, .key_type = ZB_KEYTYPE_NWK, .key_seq = a->key_seq, .dst = j->device, .src = a->gateway};
    struct vault_aps_command in = {.cmd = &cmd,
                                   .carried = a->network_key,
                                   .link_key = a->link_key,
                                   .key_id = ZB_KEY_ID_TRANSPORT,
                                   .source = a->gateway};
    enum st st = vault_take(v, t, a->link_key, a->gateway, 1, &in.counter);
    if (st != ST_OK)
        return st;
    in.aps_counter = *seq = (uint8_t)in.counter;
    return vault_aps_command(v, &in, aps);
}

void join_commit(const struct join *j, struct store_txn *t, struct joining *x)
{
    struct device *d = j->d;
    vault_id before = x->p->assoc.network_key;
    pending_put(d, x->p, &x->a);
    parent_claimed(d, &x->a);
    if (before != 0 && before != x->a.network_key) /* the application's scope was changed meanwhile */
        network_key_release(d->eg, t, before);
    x->p->sent_in = 0;
    x->p->delivery = DELIVERY_UNKNOWN;
    if (device_awaited(d))
        d->row.reason = WHY_NONE;
    failure_forget(d->eg, d->row.admin, d->eui);
    device_store(d, t);
    eg_audit(d->eg, t, d->row.admin, j->gateway->row.identity, "device.key-sent", d->eui, "ok");
    eg_count(d->eg, "eg_keys_sent_total");
}

void join_undo(const struct join *j, struct store_txn *t, struct joining *x)
{
    if (x->p != pending_at(j->d, x->a.gateway, x->a.link_key))
        free(x->p);
    if (x->opened)
        network_key_release(j->d->eg, t, x->a.network_key);
}

/* --- refusals ----------------------------------------------------------------------------------------------------- */

static const char *const refused_metric[EGP_REASONS] = {
    [EGP_UNKNOWN_DEVICE] = "eg_refused_unknown_device_total",
    [EGP_CODE_EXPIRED] = "eg_refused_code_expired_total",
    [EGP_GATEWAY_NOT_ALLOWED] = "eg_refused_gateway_not_allowed_total",
    [EGP_PARENT_KEY_DOMAIN] = "eg_refused_parent_key_domain_total",
    [EGP_DEVICE_REVOKED] = "eg_refused_device_revoked_total",
    [EGP_CODE_SPENT] = "eg_refused_code_spent_total",
    [EGP_RATE_LIMITED] = "eg_refused_rate_limited_total",
    [EGP_NOT_SUPPORTED] = "eg_refused_not_supported_total",
    [EGP_BAD_REQUEST] = "eg_refused_bad_request_total",
    [EGP_UNAVAILABLE] = "eg_refused_unavailable_total",
    [EGP_NOT_BOUND] = "eg_refused_not_bound_total",
    [EGP_CONFLICT] = "eg_refused_conflict_total",
    [EGP_NO_LINK_KEY] = "eg_refused_no_link_key_total",
};

void join_count_refusal(struct eg *e, enum egp_reason reason)
{
    eg_count(e, "eg_refused_total");
    if (refused_metric[reason] != NULL)
        eg_count(e, refused_metric[reason]);
}

/* The failure is kept for the device, and for the registration that it is probably a slip of. */
static void note_refusal(struct eg *e, const struct gateway *g, eui64_t device, enum egp_reason reason, eui64_t nearest)
{
    if (nearest != 0)
        (void)failure_note(e, g, nearest, "nearly-this", device);
    (void)failure_note(e, g, device, egp_reason_name(reason), nearest);
}

void join_refused(struct eg *e, const struct join *j, enum egp_reason reason)
{
    struct gateway *g = j->gateway;
    char outcome[64];
    eui64_t nearest = reason == EGP_UNKNOWN_DEVICE ? nearest_registered(e, g->row.admin, j->device) : 0;
    note_refusal(e, g, j->device, reason, nearest);
    int n = snprintf(outcome, sizeof outcome, "%s", egp_reason_name(reason));
    if (nearest != 0)
        snprintf(outcome + n, sizeof outcome - (size_t)n, " nearest=%016" PRIx64, nearest);
    join_count_refusal(e, reason);
    eg_audit(e, NULL, g->row.admin, g->row.identity, "eg.refused", j->device, outcome);
    log_event(LOG_INFO, "eg.refused", "gateway=%016" PRIx64 " device=%016" PRIx64 " reason=%s", g->eui, j->device,
              outcome);
}
