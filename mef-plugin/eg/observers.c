/* Observations of a device's state and frames. Who may see them is asked again for each notification. */
#include "mef-plugin/eg/internal.h"

#include <stdlib.h>

static void observer_free(struct observer *o)
{
    free(o->principal);
    free(o->credential);
    free(o->admin);
    free(o);
}

bool observer_add(struct device *d, struct cse_request *req, bool frames, const struct mef_principal *p)
{
    struct eg *e = d->eg;
    struct observer *o = d->nobservers < e->max_observers ? calloc(1, sizeof *o) : NULL;
    if (o == NULL) {
        eg_count(e, "eg_observations_refused_total");
        return false;
    }
    o->device = d->eui;
    o->frames = frames;
    o->principal = strdup(p->id);
    o->credential = strdup(p->credential);
    o->admin = strdup(p->admin);
    if (o->principal == NULL || o->credential == NULL || o->admin == NULL ||
        (o->id = e->d.ops->observe(e->d.host, req)) == 0) {
        observer_free(o);
        return false;
    }
    if (!map64_put(e->observers, o->id, o)) {
        e->d.ops->observe_cancel(e->d.host, o->id);
        observer_free(o);
        return false;
    }
    o->next = d->observers;
    d->observers = o;
    d->nobservers++;
    eg_gauges(e);
    return true;
}

static void unlink_observer(struct device *d, struct observer *o)
{
    for (struct observer **p = &d->observers; *p != NULL; p = &(*p)->next)
        if (*p == o) {
            *p = o->next;
            d->nobservers--;
            return;
        }
}

void eg_observe_end(struct eg *e, uint64_t observation)
{
    struct observer *o = map64_del(e->observers, observation);
    if (o == NULL)
        return;
    struct device *d = device_find(e, o->device);
    if (d != NULL)
        unlink_observer(d, o);
    observer_free(o);
    eg_gauges(e);
}

static void cancel(struct device *d, struct observer *o)
{
    struct eg *e = d->eg;
    map64_del(e->observers, o->id);
    unlink_observer(d, o);
    e->d.ops->observe_cancel(e->d.host, o->id);
    observer_free(o);
}

void observers_notify(struct device *d, bool frames, const struct cse_response *rsp)
{
    struct eg *e = d->eg;
    for (struct observer *o = d->observers, *next; o != NULL; o = next) {
        next = o->next;
        if (o->frames != frames)
            continue;
        struct mef_principal p = {.role = MEF_ROLE_CLIENT, .id = o->principal, .credential = o->credential, .admin = o->admin};
        /* neither one whose credential was deleted or ran out meanwhile */
        if (mef_credential_role(e->d.mef, o->admin, o->credential) != MEF_ROLE_CLIENT || !device_allows(d, &p)) {
            cancel(d, o);
            continue;
        }
        struct cse_response copy = *rsp;
        if (rsp->pc != NULL && (copy.pc = cJSON_Duplicate(rsp->pc, true)) == NULL)
            continue; /* the host takes a tree over */
        e->d.ops->notify(e->d.host, o->id, &copy, frames);
    }
}

void observers_drop(struct device *d)
{
    while (d->observers != NULL)
        cancel(d, d->observers);
}
