/* The oracle on key domains and routers:
 *  1. devices of scope `device` share no network key with anybody; those of a domain only with those of the same
 * domain, at one gateway;
 *  2. a key goes through a router only in a Tunnel to a router of the device's own domain, for a device that the router
 *     told of and that might have a key then, sealed under that device's install code or, for a rejoin, its link key.
 * That a router says true things of its children nobody can know: whoever has the domain's key can speak for them. */
#include "tests/schedules/model.h"

#define ANSWER_MS 20000 /* of an Update-Device: a slow disk, a frame that is stale and sealed again */

enum { UPDATES = 8 };

const void *domain_owner(const struct gateway *g, const struct device *d)
{
    return d->domain == 0 ? (const void *)d : &g->domains[d->domain];
}

bool domain_had_address(const struct device *d, uint16_t address)
{
    for (unsigned i = 0; i < 16 && i < d->naddresses; i++)
        if (d->addresses[i] == address)
            return true;
    return false;
}

struct device *domain_device_at(struct world *w, eui64_t gateway, uint16_t address)
{
    struct device *found = NULL;
    for (unsigned i = 0; i < w->ndevices; i++) {
        struct device *d = &w->devices[i];
        if (w->gateways[d->home].eui == gateway && domain_had_address(d, address) &&
            (found == NULL || d->address == address))
            found = d;
    }
    return found;
}

bool domain_said(const struct device *d, const struct zb_nwk *n, const struct zb_aux *aux)
{
    const struct device *hop = NULL;
    for (unsigned i = 0; i < d->w->ndevices; i++)
        if (d->w->devices[i].eui == aux->src64)
            hop = &d->w->devices[i];
    if (hop == d)
        return !d->router || domain_had_address(d, n->src);
    return hop != NULL && hop->router && d->domain != 0 && hop->domain == d->domain && domain_had_address(d, n->src);
}

/* --- Update-Device ------------------------------------------------------------------------------------------------ */

static bool opens(const struct device *r, struct span aps, struct zb_cmd *c, uint8_t buf[ZB_NWK_MAX])
{
    const uint8_t *keys[] = {r->link_key, r->offered, r->link_keys[0]};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        struct zb_aps a;
        struct zb_aux aux;
        struct wr plain = wr_of(buf, ZB_NWK_MAX);
        if (zb_aps_open(r->w->crypto, keys[i], aps, 0, &a, &aux, &plain) == ZB_OK && aux.src64 == r->eui)
            return zb_cmd_parse(wr_span(&plain), c) == ZB_OK;
    }
    return false;
}

static struct device *device_of(struct world *w, eui64_t eui)
{
    for (unsigned i = 0; i < w->ndevices; i++)
        if (w->devices[i].eui == eui)
            return &w->devices[i];
    return NULL;
}

static void note(struct update *u, struct device *d, struct device *r, unsigned gateway, bool rejoin)
{
    bool may = may_have_key(d, gateway, rejoin);
    *u = (struct update){.at = vhost_now(d->w->h), .router = r, .may = may, .rejoin = rejoin};
    if (may)
        u->codes = 1u << d->reg.code | (d->perhaps ? 1u << d->then.code : 0);
    d->w->tally.other_domain += r->domain != d->domain;
}

void domain_note_update(struct device *r, unsigned gateway, struct span aps)
{
    struct zb_cmd c;
    uint8_t buf[ZB_NWK_MAX];
    struct device *d;
    if (aps.n < 3 || (aps.p[0] & 3) != ZB_APS_COMMAND || (aps.p[0] & ZB_APS_SECURITY) == 0 || !opens(r, aps, &c, buf) ||
        c.id != ZB_UPDATE_DEVICE || (d = device_of(r->w, c.device)) == NULL || (c.status != 1 && c.status != 3))
        return;
    note(&d->updates[d->nupdates++ % UPDATES], d, r, gateway, c.status == 3);
}

/* --- Tunnel ------------------------------------------------------------------------------------------------------- */

bool domain_is_old_key(struct gateway *g, struct device *d, uint64_t transaction, struct span aps)
{
    for (unsigned i = 0; d->old && d->described != 0 && i < (d->domain != 0 ? NCODES : 1); i++)
        if (oracle_is_first_key(g, d, d->link_keys[i], transaction, false, aps))
            return true;
    return false;
}

static bool is_answer(struct device *d, struct gateway *g, const struct update *u, struct span aps)
{
    for (unsigned i = 0; !u->rejoin && i < NCODES; i++)
        if ((u->codes >> i & 1) != 0 && oracle_is_first_key(g, d, d->link_keys[i], 0, true, aps))
            return true;
    for (size_t i = u->rejoin ? d->nlink : 0; i-- > 0;)
        if (d->link[i].verified != 0 && d->link[i].gateway == g->index &&
            oracle_is_first_key(g, d, d->link[i].key, 0, false, aps))
            return true;
    return u->rejoin && domain_is_old_key(g, d, 0, aps);
}

void domain_check_tunnel(struct device *r, unsigned gateway, const struct zb_cmd *c)
{
    struct world *w = r->w;
    struct device *d = device_of(w, c->dst);
    w->tally.tunnelled++;
    if (d == NULL || !r->router || d->domain == 0 || d->domain != r->domain) {
        breach(w, "a key goes through router %u to a device that is not of its domain", r->index);
        return;
    }
    for (unsigned i = 0; i < UPDATES && i < d->nupdates; i++) {
        const struct update *u = &d->updates[i];
        if (u->may && u->router == r && vhost_now(w->h) - u->at < ANSWER_MS &&
            is_answer(d, &w->gateways[gateway], u, c->tunnelled))
            return;
    }
    breach(w, "a key for device %u goes through router %u, which it may not have, or not sealed as it should be",
           d->index, r->index);
}
