/* Whose a short address is at a gateway, by what the devices themselves proved. An entry is a hint, checked against the
 * device's record when it is read, so that nothing need be removed. */
#include "mef-plugin/eg/internal.h"

#include <stdlib.h>

struct holder {
    eui64_t device;
};

struct device *address_find(struct eg *e, eui64_t gateway, uint16_t address)
{
    const struct gateway *g = gateway_find(e, gateway);
    const struct holder *h = g != NULL && g->addresses != NULL ? map64_get(g->addresses, address) : NULL;
    struct device *d = h != NULL ? map64_get(e->devices, h->device) : NULL;
    const struct assoc *a = d != NULL && d->row.has_current ? &d->row.current : NULL;
    return a != NULL && a->gateway == gateway && a->address == address ? d : NULL;
}

void address_note(struct device *d)
{
    const struct assoc *a = &d->row.current;
    struct gateway *g = gateway_find(d->eg, a->gateway);
    if (g == NULL || address_find(d->eg, a->gateway, a->address) != NULL)
        return; /* who had it first keeps it */
    if (g->addresses == NULL)
        g->addresses = map64_new();
    struct holder *h = g->addresses != NULL ? map64_get(g->addresses, a->address) : NULL;
    if (h == NULL && g->addresses != NULL && (h = calloc(1, sizeof *h)) != NULL &&
        !map64_put(g->addresses, a->address, h)) {
        free(h);
        h = NULL;
    }
    if (h != NULL) /* else a conflict stays unnoticed */
        h->device = d->eui;
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
