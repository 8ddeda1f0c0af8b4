/* Devices: state, publication of the key, and the resource {base}/eg/devices/<eui64>. */
#include "mef-plugin/eg/input.h"
#include "mef-plugin/eg/internal.h"

#include "config/names.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SUID_ESDATA 24 /* TS-0004 6.3.4.2.39 */

/* Nothing is known of the device that its registration does not say, and nobody waits for anything of it. */
static bool is_plain(const struct device *d)
{
    const struct device_row *row = &d->row;
    return d->code != NULL && !row->has_current && !row->revoked && row->pending == NULL && row->reason == WHY_NONE &&
           row->rearm_until == 0 && row->last_seen == 0 && d->timer == 0 && d->frames == NULL && d->nobservers == 0 &&
           d->ntickets == 0 && d->seq <= store_durable(d->eg->d.store);
}

/* The next place in the ring; whoever had it goes, if he is as he came. No call of the loop finds EG_WOKEN devices, so
 * none that is being worked on. */
void device_woken(struct device *d)
{
    struct eg *e = d->eg;
    size_t at = e->next_woken;
    struct device *old = e->woken[at] != 0 ? map64_get(e->devices, e->woken[at]) : NULL;
    if (old != NULL && old->woken == at + 1) {
        old->woken = 0;
        if (is_plain(old))
            device_drop(e, old);
    }
    e->woken[at] = d->eui;
    d->woken = at + 1;
    e->next_woken = (at + 1) % EG_WOKEN;
}

struct device *device_find(struct eg *e, eui64_t eui)
{
    struct device *d = map64_get(e->devices, eui);
    struct code *c = d == NULL ? code_find(e, eui) : NULL;
    return c == NULL ? d : device_new(e, eui, c->admin, c);
}

struct device *device_new(struct eg *e, eui64_t eui, const char *admin, struct code *c)
{
    struct device *d = calloc(1, sizeof *d);
    char *copy = strdup(admin);
    if (d == NULL || copy == NULL || !map64_put(e->devices, eui, d)) {
        code_discard(c);
        free(copy);
        free(d);
        return NULL;
    }
    d->eg = e;
    d->eui = eui;
    d->row.admin = copy;
    d->code = c;
    if (c != NULL)
        device_woken(d);
    else
        e->codeless++;
    return d;
}

void device_free(struct device *d)
{
    pending_unwatch(d);
    exchange_unwatch(d);
    observers_drop(d);
    for (size_t i = 0; i < EG_TICKETS; i++)
        free(d->tickets[i].principal);
    code_discard(d->code);
    free(d->frames);
    device_row_free(&d->row);
    free(d);
}

void device_drop(struct eg *e, struct device *d)
{
    map64_del(e->devices, d->eui);
    e->codeless -= d->code == NULL;
    device_free(d);
}

bool device_is_over(const struct device *d)
{
    return d->code == NULL && !d->row.has_current && d->row.pending == NULL;
}

bool device_awaited(const struct device *d)
{
    return !d->row.has_current || device_rearmed(d->eg, d);
}

bool device_rearmed(struct eg *e, const struct device *d)
{
    return eg_time(e) < d->row.rearm_until;
}

vault_id device_rejoin_key(const struct device *d, eui64_t gateway)
{
    const struct assoc *a = &d->row.current;
    if (!d->row.has_current || !d->row.enrolled || a->gateway != gateway)
        return 0;
    return a->tclk != 0 ? a->tclk : a->link_key; /* older than r21: the install code's for good */
}

/* The last attempt to join came to nothing. */
static bool is_failure(enum device_reason why)
{
    static const bool failed[WHY_COUNT] = {
        [WHY_NO_FRAME] = true,    [WHY_NOT_OPENED] = true,   [WHY_NOT_DELIVERED] = true,
        [WHY_NO_EXCHANGE] = true, [WHY_NOT_VERIFIED] = true, [WHY_BAD_VERIFY] = true,
    };
    return failed[why];
}

/* The state follows from what is kept. A pending record beside a current one changes nothing yet (design 5.3). */
enum egp_device_state device_state(struct eg *e, const struct device *d)
{
    if (d->row.has_current)
        return d->row.enrolled ? EGP_ST_ENROLLED : EGP_ST_JOINING;
    if (d->row.pending != NULL)
        return EGP_ST_KEY_SENT;
    if (d->row.revoked)
        return EGP_ST_REVOKED;
    if (d->code != NULL && d->code->expires != 0 && d->code->expires <= eg_time(e))
        return EGP_ST_EXPIRED;
    return is_failure(d->row.reason) ? EGP_ST_FAILED : EGP_ST_REGISTERED;
}

void device_store(struct device *d, struct store_txn *t)
{
    uint8_t kb[8], vb[EG_MAX_ROW];
    struct wr w = wr_of(vb, sizeof vb);
    device_encode(&d->row, &w);
    store_put(t, STORE_DEVICE, eui_key(d->eui, kb), wr_span(&w));
    d->counter_saved = d->row.current.counter_next;
    d->counter_saved_at = eg_now(d->eg);
}

void device_commit(struct device *d, struct store_txn *t, store_done done, void *user)
{
    d->seq = store_commit(t, done, user);
}

void device_release_link_key(struct device *d, struct store_txn *t, vault_id id)
{
    const struct assoc *a = &d->row.current;
    bool used = (d->code != NULL && d->code->key == id) || a->link_key == id || a->tclk == id || a->offered == id;
    for (const struct pending *p = d->row.pending; p != NULL; p = p->next)
        used |= p->assoc.link_key == id;
    if (id != 0 && !used)
        vault_delete(d->eg->d.vault, t, id);
}

/* --- publishing the key (a symmKeyReg) ---------------------------------------------------------------------------- */

enum st device_publish_key(struct device *d, struct store_txn *t, struct assoc *a)
{
    struct eg *e = d->eg;
    char eui[sizeof MEF_LABEL_EUI64 + 16], gateway[sizeof MEF_LABEL_GATEWAY + 16], seq[sizeof MEF_LABEL_KEYSEQ + 3];
    snprintf(eui, sizeof eui, MEF_LABEL_EUI64 "%016" PRIx64, d->eui);
    snprintf(gateway, sizeof gateway, MEF_LABEL_GATEWAY "%016" PRIx64, a->gateway);
    snprintf(seq, sizeof seq, MEF_LABEL_KEYSEQ "%u", a->key_seq);
    const char *labels[] = {MEF_LABEL_USE_ZIGBEE, eui, gateway, seq};
    const struct domain *shared = domain_of(e, a->network_key);
    const char *application = d->code != NULL ? d->code->application : NULL;
    if (shared != NULL && shared->scope == MEF_SCOPE_APPLICATION)
        application = shared->application; /* whatever the device was registered for since: it is the others' key, too */
    int64_t lifetime =
        application != NULL ? (int64_t)mef_application_lifetime(e->d.mef, d->row.admin, application) * 1000 : 0;
    struct mef_keyreg_new in = {.admin = d->row.admin,
                                .key = a->network_key,
                                .suid = SUID_ESDATA,
                                .application = application,
                                .targets = d->code != NULL ? (const char *const *)d->code->targets : NULL,
                                .ntargets = d->code != NULL ? d->code->ntargets : 0,
                                .labels = labels,
                                .nlabels = sizeof labels / sizeof labels[0],
                                .expires = eg_time(e) + (lifetime != 0 ? lifetime : e->key_lifetime_ms)};
    return mef_keyreg_add(e->d.mef, t, &in, a->relkeyid);
}

void device_forget_key(struct device *d, struct store_txn *t, enum device_reason why)
{
    struct assoc *a = &d->row.current;
    const vault_id links[] = {a->link_key, a->tclk, a->offered}, network_key = a->network_key;
    d->row.reason = why;
    d->row.enrolled = false;
    d->row.exchange_since = 0;
    exchange_unwatch(d);
    if (!d->row.has_current)
        return;
    mef_keyreg_remove(d->eg->d.mef, t, a->relkeyid);
    if (domain_of(d->eg, network_key) != NULL) { /* what it said under it proves nothing later */
        d->row.shared_key = network_key;
        d->row.shared_next = a->counter_next;
    }
    d->row.has_current = false;
    d->moving[false].address = d->moving[true].address = 0;
    network_key_release(d->eg, t, network_key);
    a->network_key = a->link_key = a->tclk = a->offered = 0;
    a->relkeyid[0] = '\0';
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++)
        device_release_link_key(d, t, links[i]);
}

/* --- who is told -------------------------------------------------------------------------------------------------- */

/* Was the network key sent under the install code's link key, or under one that the device has got since? */
static bool is_install_code(const struct device *d, const struct assoc *a)
{
    return a->tclk != a->link_key && (d->code == NULL || d->code->key == a->link_key || !d->row.code_spent);
}

cJSON *device_json(struct eg *e, const struct device *d)
{
    const struct pending *p = d->row.pending;
    const struct assoc *a = d->row.has_current ? &d->row.current : p != NULL ? &p->assoc : NULL;
    cJSON *o = cJSON_CreateObject();
    output_eui(o, "eui64", d->eui);
    cJSON_AddStringToObject(o, "state", egp_state_name(device_state(e, d)));
    if (d->row.has_current)
        cJSON_AddStringToObject(o, "keyId", d->row.current.relkeyid);
    if (a != NULL) {
        output_eui(o, "gateway", a->gateway);
        if (a->parent != 0)
            output_eui(o, "parent", a->parent);
        cJSON_AddNumberToObject(o, "nwkAddress", a->address);
        cJSON_AddStringToObject(o, "credential", is_install_code(d, a) ? "install-code" : "link-key");
    }
    explain_device(e, d, o);
    return o;
}

static void tell(struct device *d, eui64_t gateway, uint16_t address, enum egp_device_state state,
                 enum egp_reason reason)
{
    struct eg *e = d->eg;
    struct gateway *g = gateway_of(d, gateway);
    if (g == NULL)
        return;
    struct egp_message m = eg_message(EGP_DEVICE_STATE, e->next_transaction++, g->eui, d->eui);
    m.u.state.state = (uint8_t)state;
    m.u.state.reason = (uint8_t)reason;
    m.u.state.device_short = address;
    if (!eg_send(e, g, &m, NULL, NULL))
        log_event(LOG_DEBUG, "eg.state-unsent", "gateway=%016" PRIx64 " device=%016" PRIx64, g->eui, d->eui);
}

static void tell_gateway(struct device *d, const struct assoc *a)
{
    tell(d, a->gateway, a->address, device_state(d->eg, d), d->row.revoked ? EGP_DEVICE_REVOKED : EGP_OK);
}

void device_has_left(struct device *d, eui64_t gateway, uint16_t address)
{
    tell(d, gateway, address, EGP_ST_REGISTERED, EGP_OK);
}

void device_changed(struct device *d)
{
    struct cse_response rsp = {.status = ST_OK, .pc = device_json(d->eg, d), .content_format = CSE_NO_FORMAT};
    observers_notify(d, false, &rsp);
    cJSON_Delete(rsp.pc);
    if (d->row.has_current || d->row.pending == NULL) { /* what was proved; a claim beside it changes nothing */
        tell_gateway(d, &d->row.current);
        return;
    }
    for (const struct pending *p = d->row.pending; p != NULL; p = p->next)
        tell_gateway(d, &p->assoc);
}

struct change {
    struct eg *e; /* NULL: closed before the posted call ran */
    eui64_t device;
    struct change *next; /* posted later, not yet run */
};

/* Its registration was deleted before its key ended: nothing is left of it. */
static void end_if_over(struct device *d)
{
    struct eg *e = d->eg;
    uint8_t kb[8];
    struct store_txn *t = device_is_over(d) ? store_begin(e->d.store) : NULL;
    if (t == NULL)
        return; /* not so, or for the next start */
    store_del(t, STORE_DEVICE, eui_key(d->eui, kb));
    store_commit(t, NULL, NULL);
    device_drop(e, d);
    eg_gauges(e);
}

static void change_durable(void *user, enum st st)
{
    struct change *c = user;
    struct device *d = st == ST_OK ? device_find(c->e, c->device) : NULL;
    if (d != NULL) {
        device_changed(d);
        end_if_over(d);
    }
    free(c);
}

/* The loop has run what was being done, so this empty transaction becomes durable after it. */
static void change_committed(void *user)
{
    struct change *c = user;
    struct store_txn *t = NULL;
    if (c->e != NULL) {
        c->e->changes = c->next; /* calls run in the order posted: it is the first one */
        t = store_begin(c->e->d.store);
    }
    if (t != NULL)
        store_commit(t, change_durable, c);
    else
        free(c);
}

void device_changed_later(struct device *d)
{
    struct change *c = calloc(1, sizeof *c), **end = &d->eg->changes;
    if (c == NULL)
        return;
    *c = (struct change){d->eg, d->eui, NULL};
    while (*end != NULL)
        end = &(*end)->next;
    *end = c;
    d->eg->d.ops->post(d->eg->d.host, change_committed, c);
}

void changes_forget(struct eg *e)
{
    for (struct change *c = e->changes; c != NULL; c = c->next)
        c->e = NULL;
}

/* --- AEs ---------------------------------------------------------------------------------------------------------- */

/* Once a key is published its registration decides; before, the install code's. */
bool device_allows(struct device *d, const struct mef_principal *p)
{
    struct eg *e = d->eg;
    if (d->row.has_current)
        return mef_keyreg_allows(e->d.mef, d->row.current.relkeyid, p);
    if (d->code == NULL)
        return false;
    for (size_t i = 0; i < d->code->ntargets; i++)
        if (strcmp(d->code->targets[i], p->id) == 0)
            return true;
    return d->code->application != NULL && mef_application_member(e->d.mef, d->row.admin, d->code->application, p->id);
}

enum st device_authorise(struct eg *e, const struct cse_peer *peer, eui64_t eui, struct device **d,
                         struct mef_principal *p)
{
    *d = device_find(e, eui);
    *p = mef_principal_of(e->d.mef, peer, *d != NULL ? (*d)->row.admin : NULL, NULL);
    if (p->role == MEF_ROLE_NONE) { /* a stranger, or of other stakeholders: to them there is no such device */
        *d = NULL;
        *p = mef_principal(e->d.mef, peer);
    }
    if (p->role == MEF_ROLE_NONE)
        return ST_NOT_AUTHENTICATED;
    if (p->role != MEF_ROLE_CLIENT)
        return ST_NO_PRIVILEGE; /* a gateway's credential is no AE's */
    if (*d == NULL)
        return ST_NOT_FOUND;
    return device_allows(*d, p) ? ST_OK : ST_NO_PRIVILEGE;
}

struct retrieval {
    struct eg *e;
    struct cse_request *req;
    eui64_t device;
};

static void retrieve_durable(void *user, enum st st)
{
    struct retrieval *x = user;
    struct device *d;
    struct mef_principal p;
    if (st == ST_OK)
        st = device_authorise(x->e, &x->req->peer, x->device, &d, &p);
    struct cse_response rsp = {.status = st, .content_format = CSE_NO_FORMAT};
    if (st == ST_OK) {
        if (x->req->observe)
            observer_add(d, x->req, false, &p);
        rsp.pc = device_json(x->e, d);
    }
    x->e->d.ops->respond(x->e->d.host, x->req, &rsp);
    free(x);
}

void device_retrieve(struct eg *e, struct cse_request *req, eui64_t eui)
{
    struct retrieval *x = calloc(1, sizeof *x);
    if (x == NULL) {
        eg_respond(e, req, ST_UNAVAILABLE, NULL);
        return;
    }
    *x = (struct retrieval){e, req, eui};
    store_after(e->d.store, store_last(e->d.store), retrieve_durable, x); /* operators change it, too */
}
