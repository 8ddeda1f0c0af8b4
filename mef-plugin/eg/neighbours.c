/* Routers that a gateway hears, and what the coordinator tells them: link status (Zig 3.4.8, 3.6.3.4). Without it a
 * router takes its link to the coordinator for one way, and does not use it. Memory only: routers repeat themselves. */
#include "mef-plugin/eg/internal.h"

#include <stdlib.h>

#define MAX_NEIGHBOURS 32
#define PER_FRAME 26          /* entries that fit beside header, auxiliary header and MIC */
#define PERIOD_MS 15000       /* nwkLinkStatusPeriod */
#define FIRST_MS 1000         /* the first neighbour need not wait so long */
#define AGE_LIMIT 3           /* nwkRouterAgeLimit: periods without a word of it */
#define BROADCAST_ROUTERS 0xfffc
#define COST_BITS 7u          /* of an entry: incoming in bits 0-2, outgoing in bits 4-6 */
#define OUTGOING_SHIFT 4

struct neighbour {
    eui64_t device; /* 0: none */
    uint64_t heard; /* ms monotonic */
    uint8_t lqi;    /* of its last link status */
    uint8_t cost;   /* as it hears us; 0: it does not say */
};

struct neighbours {
    struct eg *e;
    eui64_t gateway;
    uint64_t timer;
    struct neighbour of[MAX_NEIGHBOURS];
};

/* Zig 3.6.3.1: 1 for the best link, 7 for one that hardly ever works; which LQI that is depends on the radio. */
uint8_t neighbours_cost(uint8_t lqi)
{
    static const uint8_t least[] = {200, 160, 130, 100, 70, 40};
    uint8_t cost = 1;
    while (cost <= sizeof least && lqi < least[cost - 1])
        cost++;
    return cost;
}

/* --- link status -------------------------------------------------------------------------------------------------- */

/* The device of an entry, if it is still a router with a key at this gateway. */
static struct device *router_of(const struct neighbours *n, const struct neighbour *x)
{
    struct device *d = x->device != 0 ? map64_get(n->e->devices, x->device) : NULL;
    bool is = d != NULL && d->row.has_current && d->row.current.gateway == n->gateway &&
              (d->row.current.capability & ZB_CAPABILITY_FFD) != 0;
    return is ? d : NULL;
}

struct link {
    uint16_t address;
    uint8_t costs;
};

static int by_address(const void *a, const void *b)
{
    return (int)((const struct link *)a)->address - (int)((const struct link *)b)->address;
}

/* The neighbours under this device's key, in the order that the standard wants; those of other keys are no concern of
 * theirs. */
static size_t links_of(const struct neighbours *n, const struct device *d, struct link links[MAX_NEIGHBOURS])
{
    size_t count = 0;
    for (size_t i = 0; i < MAX_NEIGHBOURS; i++) {
        const struct device *x = router_of(n, &n->of[i]);
        if (x != NULL && x->row.current.network_key == d->row.current.network_key)
            links[count++] =
                (struct link){x->row.current.address, (uint8_t)(neighbours_cost(n->of[i].lqi) |
                                                                (unsigned)n->of[i].cost << OUTGOING_SHIFT)};
    }
    qsort(links, count, sizeof links[0], by_address);
    return count;
}

static void put_frame(struct outbox *o, const struct link *links, size_t from, size_t n, size_t all)
{
    uint8_t list[ZB_LINK * PER_FRAME], buf[ZB_NWK_MAX];
    struct wr entries = wr_of(list, sizeof list), w = wr_of(buf, sizeof buf);
    for (size_t i = from; i < from + n; i++) {
        wr_le16(&entries, links[i].address);
        wr_u8(&entries, links[i].costs);
    }
    unsigned options = (unsigned)n | (from == 0 ? ZB_LINK_FIRST : 0) | (from + n == all ? ZB_LINK_LAST : 0);
    const struct zb_nwk_cmd c = {.id = ZB_NWK_LINK_STATUS, .options = (uint8_t)options, .list = wr_span(&entries)};
    if (wr_ok(&entries) && zb_nwk_cmd_build(&w, &c) == ZB_OK)
        outbox_nwk_command(o, BROADCAST_ROUTERS, 1, wr_span(&w));
    else
        o->failed = true;
}

static void send_status(const struct neighbours *n, struct device *d)
{
    struct link links[MAX_NEIGHBOURS];
    struct outbox o;
    size_t all = links_of(n, d, links);
    if (!outbox_open(d, &o))
        return;
    for (size_t from = 0; from < all; from += PER_FRAME)
        put_frame(&o, links, from, all - from < PER_FRAME ? all - from : PER_FRAME, all);
    outbox_send(&o, false);
}

/* Is it the first entry with its key? Then the link status under that key is sent with it. */
static bool first_of_key(const struct neighbours *n, size_t at)
{
    const struct device *d = router_of(n, &n->of[at]);
    for (size_t i = 0; d != NULL && i < at; i++) {
        const struct device *before = router_of(n, &n->of[i]);
        if (before != NULL && before->row.current.network_key == d->row.current.network_key)
            return false;
    }
    return d != NULL;
}

static bool forget_silent(struct neighbours *n)
{
    bool any = false;
    for (size_t i = 0; i < MAX_NEIGHBOURS; i++) {
        if (router_of(n, &n->of[i]) == NULL || eg_now(n->e) - n->of[i].heard > (uint64_t)AGE_LIMIT * PERIOD_MS)
            n->of[i].device = 0;
        any |= n->of[i].device != 0;
    }
    return any;
}

static void on_period(void *user)
{
    struct neighbours *n = user;
    n->timer = 0;
    if (!forget_silent(n))
        return;
    for (size_t i = 0; i < MAX_NEIGHBOURS; i++)
        if (first_of_key(n, i))
            send_status(n, router_of(n, &n->of[i]));
    n->timer = n->e->d.ops->timer(n->e->d.host, PERIOD_MS, on_period, n);
}

/* --- hearing ------------------------------------------------------------------------------------------------------ */

/* Its entry, else a free one, else that of whom was silent longest. */
static struct neighbour *place_for(struct neighbours *n, eui64_t device)
{
    struct neighbour *best = &n->of[0];
    for (size_t i = 0; i < MAX_NEIGHBOURS; i++) {
        struct neighbour *x = &n->of[i];
        if (x->device == device)
            return x;
        if (best->device != 0 && (x->device == 0 || x->heard < best->heard))
            best = x;
    }
    *best = (struct neighbour){.device = device};
    return best;
}

static struct neighbours *neighbours_of(struct eg *e, struct gateway *g)
{
    if (g->neighbours == NULL)
        g->neighbours = calloc(1, sizeof *g->neighbours);
    if (g->neighbours != NULL) {
        g->neighbours->e = e;
        g->neighbours->gateway = g->eui;
    }
    return g->neighbours;
}

void neighbours_free(struct neighbours *n)
{
    if (n != NULL && n->timer != 0)
        n->e->d.ops->timer_cancel(n->e->d.host, n->timer);
    free(n);
}

/* How it hears us, by its own account: the incoming cost of the entry that is about us. */
static uint8_t cost_to(struct span links)
{
    struct rd r = rd_of(links);
    uint16_t address;
    uint8_t costs;
    while (rd_le16(&r, &address) && rd_u8(&r, &costs))
        if (address == 0)
            return costs & COST_BITS;
    return 0;
}

void neighbours_heard(struct device *d, const struct heard *h, const struct zb_nwk_cmd *c)
{
    const struct assoc *a = &d->row.current;
    struct gateway *g = gateway_find(d->eg, a->gateway);
    if (g == NULL || h->hop != h->nwk.src || (a->capability & ZB_CAPABILITY_FFD) == 0)
        return;
    struct neighbours *n = neighbours_of(d->eg, g);
    if (n == NULL)
        return;
    struct neighbour *x = place_for(n, d->eui);
    x->heard = eg_now(d->eg);
    x->lqi = h->lqi;
    x->cost = cost_to(c->list);
    if (n->timer == 0)
        n->timer = d->eg->d.ops->timer(d->eg->d.host, FIRST_MS, on_period, n);
}

/* --- what a device may know of others: those under the same key, no more ------------------------------------------ */

bool neighbours_child(const struct device *d, eui64_t eui, uint16_t address, struct zb_known *out)
{
    const struct assoc *a = &d->row.current;
    const struct device *x = eui != 0 ? map64_get(d->eg->devices, eui) : address_find(d->eg, a->gateway, address);
    if (x == NULL || !x->row.has_current || x->row.current.gateway != a->gateway ||
        x->row.current.network_key != a->network_key || x->row.current.next_hop != x->row.current.address ||
        (x->row.current.capability & ZB_CAPABILITY_FFD) != 0)
        return false;
    *out = (struct zb_known){x->eui, x->row.current.address, x->row.current.capability, x->lqi};
    return true;
}

/* The asker, then the routers. */
size_t neighbours_list(const struct device *d, struct zb_known *out, size_t max)
{
    const struct assoc *a = &d->row.current;
    const struct gateway *g = gateway_find(d->eg, a->gateway);
    const struct neighbours *n = g != NULL ? g->neighbours : NULL;
    size_t count = 0;
    if (max > 0 && a->next_hop == a->address)
        out[count++] = (struct zb_known){d->eui, a->address, a->capability, d->lqi};
    for (size_t i = 0; n != NULL && i < MAX_NEIGHBOURS && count < max; i++) {
        const struct device *x = router_of(n, &n->of[i]);
        if (x != NULL && x != d && x->row.current.network_key == a->network_key)
            out[count++] = (struct zb_known){x->eui, x->row.current.address, x->row.current.capability, n->of[i].lqi};
    }
    return count;
}
