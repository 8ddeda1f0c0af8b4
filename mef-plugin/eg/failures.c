/* What came to nothing last in the name of each EUI-64, registered or a stranger's: for operators, who look when a device
 * does not join. Kept in memory only, the newest FAILURES of all; the audit trail has the course of things. Nothing of the
 * protocol depends on it, so whoever pushes entries out of it hides an explanation, no more. */
#include "mef-plugin/eg/input.h"
#include "mef-plugin/eg/internal.h"

#include <stdlib.h>

#define FAILURES 1024

struct failures {
    struct map64 *by_name; /* -> entries below */
    struct failure ring[FAILURES];
    size_t next;
};

struct failures *failures_new(void)
{
    struct failures *f = calloc(1, sizeof *f);
    if (f != NULL && (f->by_name = map64_new()) == NULL) {
        free(f);
        return NULL;
    }
    return f;
}

void failures_free(struct failures *f)
{
    if (f != NULL)
        map64_free(f->by_name);
    free(f);
}

/* Two stakeholders may hear the same stranger: each has an entry of his own. FNV-1a over his name. */
static uint64_t name_of(const char *admin, eui64_t device)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (const char *p = admin; *p != '\0'; p++)
        h = (h ^ (uint8_t)*p) * 0x100000001b3u;
    return h ^ device;
}

const struct failure *failure_find(struct eg *e, const char *admin, eui64_t device)
{
    const struct failure *f = map64_get(e->failures->by_name, name_of(admin, device));
    const struct gateway *g = f != NULL ? gateway_find(e, f->gateway) : NULL;
    return g != NULL && f->device == device && strcmp(g->row.admin, admin) == 0 ? f : NULL;
}

static struct failure *entry(struct failures *all, uint64_t name)
{
    struct failure *f = map64_get(all->by_name, name);
    if (f != NULL)
        return f;
    f = &all->ring[all->next];
    if (map64_get(all->by_name, f->name) == f)
        map64_del(all->by_name, f->name);
    *f = (struct failure){.name = name};
    if (!map64_put(all->by_name, name, f))
        return NULL;
    all->next = (all->next + 1) % FAILURES;
    return f;
}

bool failure_note(struct eg *e, const struct gateway *g, eui64_t device, const char *reason, eui64_t other)
{
    struct failure *f = entry(e->failures, name_of(g->row.admin, device));
    if (f == NULL)
        return false;
    bool same = f->reason != NULL && strcmp(f->reason, reason) == 0 && f->gateway == g->eui && f->other == other;
    *f = (struct failure){.name = f->name,
                          .device = device,
                          .gateway = g->eui,
                          .other = other,
                          .reason = reason,
                          .at = eg_time(e),
                          .times = !same ? 1 : f->times < UINT32_MAX ? f->times + 1 : UINT32_MAX};
    return !same;
}

void failure_forget(struct eg *e, const char *admin, eui64_t device)
{
    map64_del(e->failures->by_name, name_of(admin, device));
}
