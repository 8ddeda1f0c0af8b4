/* Devices in the operator REST, and loading them. */
#include "mef-plugin/eg/input.h"
#include "mef-plugin/eg/internal.h"

#include <stdlib.h>

static struct device *find_own(struct eg *e, const char *admin, eui64_t eui)
{
    struct device *d = device_find(e, eui);
    return d != NULL && strcmp(d->row.admin, admin) == 0 ? d : NULL;
}

cJSON *eg_device_get(struct eg *e, const char *admin, eui64_t eui)
{
    struct device *d = find_own(e, admin, eui);
    if (d == NULL)
        return NULL;
    cJSON *o = device_json(e, d);
    cJSON_AddBoolToObject(o, "pending", d->row.pending != NULL);
    if (device_rearmed(e, d))
        output_time(o, "rearmedUntil", d->row.rearm_until);
    output_time(o, "lastSeen", d->row.last_seen);
    explain_failure(e, d, o);
    return o;
}

static bool is_own_codeless(const void *object, const char *admin)
{
    const struct device *d = object;
    return d->code == NULL && strcmp(d->row.admin, admin) == 0;
}

cJSON *eg_device_list(struct eg *e, const char *admin, eui64_t after, unsigned limit)
{
    const struct listing listing = {{{e->codes, registration_own}, {e->devices, is_own_codeless}}, eg_device_get};
    return eg_list(e, &listing, admin, after, limit);
}

/* --- actions ------------------------------------------------------------------------------------------------------ */

/* No grace: from here on its frames are dropped and its key is not served (design 5.6). */
static void revoke(struct eg *e, struct store_txn *t, struct device *d)
{
    (void)e;
    pending_drop_all(d, t, WHY_REVOKED);
    coordinator_send_leave(d);
    device_forget_key(d, t, WHY_REVOKED);
    d->row.revoked = true;
    d->row.rearm_until = 0;
    free(d->frames);
    d->frames = NULL;
    d->nframes = 0;
}

static void rearm(struct eg *e, struct store_txn *t, struct device *d)
{
    (void)t;
    d->row.rearm_until = eg_time(e) + e->rearm_ms;
    failure_forget(e, d->row.admin, d->eui);
}

void eg_device_action(struct eg *e, struct store_txn *t, const char *admin, const char *actor, eui64_t eui,
                      const char *action, struct mef_result *r)
{
    static const struct {
        const char *name, *audit;
        void (*fn)(struct eg *e, struct store_txn *t, struct device *d);
    } actions[] = {
        {"revoke", "device.revoke", revoke}, {"rearm", "device.rearm", rearm}, {"rekey", "device.rekey", NULL}};
    struct device *d = find_own(e, admin, eui);
    if (d == NULL) {
        mef_refuse(r, ST_NOT_FOUND, "not-found", NULL, "there is no such object");
        return;
    }
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++) {
        if (strcmp(actions[i].name, action) != 0)
            continue;
        if (actions[i].fn == NULL) {
            mef_refuse(r, ST_NOT_IMPLEMENTED, "not-implemented", NULL, "re-keying is not served yet");
            return;
        }
        actions[i].fn(e, t, d);
        device_store(d, t);
        eg_audit(e, t, admin, actor, actions[i].audit, eui, "ok");
        device_changed_later(d);
        r->st = ST_OK;
        r->body = eg_device_get(e, admin, eui);
        return;
    }
    mef_refuse(r, ST_NOT_FOUND, "unknown-action", NULL, "revoke, rearm or rekey");
}

/* --- loading ------------------------------------------------------------------------------------------------------ */

static bool has_keys(struct eg *e, const struct pending *p)
{
    while (p != NULL && vault_has(e->d.vault, p->assoc.network_key))
        p = p->next;
    return p == NULL;
}

static bool load_device(struct eg *e, struct span key, struct span val)
{
    struct rd r = rd_of(key);
    struct device_row row = {0};
    eui64_t eui;
    struct device *d = NULL;
    bool ok = rd_be64(&r, &eui) && rd_end(&r) && device_decode(val, &row) &&
            (!row.has_current || vault_has(e->d.vault, row.current.network_key)) && has_keys(e, row.pending) &&
            ((d = device_find(e, eui)) != NULL || (d = device_new(e, eui, row.admin, NULL)) != NULL);
    if (!ok) {
        device_row_free(&row);
        return false;
    }
    device_row_free(&d->row);
    d->row = row;
    d->counter_saved = row.current.counter_next;
    d->counter_saved_at = eg_now(e);
    if (row.has_current)
        address_note(d, row.current.gateway, row.current.address, true);
    for (const struct pending *p = row.pending; p != NULL; p = p->next)
        address_note(d, p->assoc.gateway, p->assoc.address, false);
    pending_watch(d);
    exchange_watch(d);
    if (device_is_over(d))
        device_changed_later(d);
    return true;
}

enum st devices_load(struct eg *e)
{
    return eg_load(e, STORE_DEVICE, load_device);
}
