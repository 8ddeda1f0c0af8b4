/* Whose a short address is at a gateway. Routers allot addresses of their own choice (Zig 3.6.1.7), so two devices may
 * come to have the same one: what a device has proved stands above what was said of another, and of two who proved it the
 * first one keeps it. An entry is a hint, checked against the device's record when it is read, so that nothing need be
 * removed. */
#include "mef-plugin/eg/internal.h"

#include <inttypes.h>
#include <stdlib.h>

struct holder {
    eui64_t device;
};

static bool has_proved(const struct device *d, eui64_t gateway, uint16_t address)
{
    const struct assoc *a = &d->row.current;
    return d->row.has_current && a->gateway == gateway && a->address == address;
}

static bool holds(const struct device *d, eui64_t gateway, uint16_t address)
{
    if (has_proved(d, gateway, address) ||
        (d->row.current.gateway == gateway && parent_claims_address(d, address)))
        return true;
    const struct pending *p = d->row.pending;
    while (p != NULL && (p->assoc.gateway != gateway || p->assoc.address != address))
        p = p->next;
    return p != NULL;
}

struct device *address_find(struct eg *e, eui64_t gateway, uint16_t address)
{
    const struct gateway *g = gateway_find(e, gateway);
    const struct holder *h = g != NULL && g->addresses != NULL ? map64_get(g->addresses, address) : NULL;
    struct device *d = h != NULL ? map64_get(e->devices, h->device) : NULL;
    return d != NULL && strcmp(d->row.admin, g->row.admin) == 0 && holds(d, gateway, address) ? d : NULL;
}

static void put(struct gateway *g, uint16_t address, eui64_t device)
{
    if (g->addresses == NULL)
        g->addresses = map64_new();
    struct holder *h = g->addresses != NULL ? map64_get(g->addresses, address) : NULL;
    if (h != NULL) {
        h->device = device;
        return;
    }
    h = g->addresses != NULL ? malloc(sizeof *h) : NULL;
    if (h == NULL)
        return; /* frames that name no device are then nobody's */
    h->device = device;
    if (!map64_put(g->addresses, address, h))
        free(h);
}

void address_note(struct device *d, eui64_t gateway, uint16_t address, bool proved)
{
    struct eg *e = d->eg;
    struct gateway *g = gateway_of(d, gateway);
    const struct device *other = address_find(e, gateway, address);
    if (g == NULL)
        return;
    if (other != NULL && other != d && !proved)
        return; /* a claim conflicts with nothing */
    if (other != NULL && other != d) {
        eg_count(e, "eg_address_conflicts_total");
        log_event(LOG_WARN, "eg.address-conflict",
                  "gateway=%016" PRIx64 " address=%04x device=%016" PRIx64 " other=%016" PRIx64, gateway, address, d->eui,
                  other->eui);
        if (has_proved(other, gateway, address))
            return;
    }
    put(g, address, d->eui);
}

static bool free_holder(void *user, uint64_t key, void *value)
{
    (void)user, (void)key;
    free(value);
    return true;
}

void addresses_free(struct gateway *g)
{
    if (g->addresses != NULL)
        map64_each(g->addresses, free_holder, NULL);
    map64_free(g->addresses);
}
