/* The second exchange (Zig 4.4.10.5 to 4.4.10.8, BDB 10.2.5): a device that has the network key asks for a trust-centre
 * link key of its own, is sent a new one under the key-load key of the one it has, proves it, and gets that confirmed.
 * Then its install code is spent.
 *
 * The device drives it: it repeats what it gets no answer to. A repeated Request-Key gets the same key under a new
 * counter. A device older than r21 knows nothing of this; its node descriptor, which is asked for when it stays silent,
 * says so. */
#include "mef-plugin/eg/internal.h"

#include <inttypes.h>

#define ASK_AFTER_MS 3000 /* a device that exchanges keys begins within half a second of its announcement */
#define ASK_EVERY_MS 5000
#define FIRST_REVISION 21 /* of the stacks that exchange keys */

enum { CONFIRM_SUCCESS = 0x00, CONFIRM_FAILURE = 0xad }; /* Zig 4.4.10.8.2 */

/* --- the end of it ------------------------------------------------------------------------------------------------ */

static void settle(struct device *d, struct store_txn *t, const char *outcome)
{
    struct eg *e = d->eg;
    const struct assoc *a = &d->row.current;
    struct pending *p = pending_at(d, a->gateway, a->link_key);
    if (p != NULL && p->assoc.network_key == a->network_key) { /* of a join in its key domain, whose exchange this was */
        pending_proved(d, p);
        network_key_release(e, t, a->network_key); /* which goes on in the current record */
    }
    d->row.enrolled = true;
    d->row.exchange_since = 0;
    d->row.rearm_until = 0;
    d->row.reason = WHY_NONE;
    exchange_unwatch(d);
    eg_audit(e, t, d->row.admin, "eg", "device.enrolled", d->eui, outcome);
    eg_count(e, "eg_enrolled_total");
    device_changed_later(d);
}

/* The device did not earn its key: it is told to leave, while there is a key to tell it under. */
static void fail(struct device *d, enum device_reason why)
{
    struct eg *e = d->eg;
    struct store_txn *t = store_begin(e->d.store);
    if (t == NULL) {
        exchange_watch(d); /* later */
        return;
    }
    coordinator_send_leave(d);
    device_forget_key(d, t, why);
    device_store(d, t);
    eg_audit(e, t, d->row.admin, "eg", "device.failed", d->eui, device_reason_name(why));
    eg_count(e, "eg_exchange_failed_total");
    struct gateway *g = gateway_of(d, d->row.current.gateway);
    if (g != NULL)
        (void)failure_note(e, g, d->eui, device_reason_name(why), 0);
    device_commit(d, t, NULL, NULL);
    device_changed_later(d);
}

/* --- time --------------------------------------------------------------------------------------------------------- */

static int64_t left(const struct device *d)
{
    struct eg *e = d->eg;
    int64_t ms = d->row.exchange_since + e->exchange_ms - eg_time(e);
    return ms < 0 ? 0 : ms > e->exchange_ms ? e->exchange_ms : ms;
}

static void ask_for_node_descriptor(struct device *d)
{
    uint8_t buf[3];
    struct wr w = wr_of(buf, sizeof buf);
    struct outbox o;
    zb_node_desc_request(&w, d->asked++, d->row.current.address);
    if (!outbox_open(d, &o))
        return;
    outbox_zdp(&o, ZB_ZDP_NODE_DESC_REQ, wr_span(&w));
    outbox_send(&o, false);
}

enum device_reason exchange_lacks(const struct device *d)
{
    if (d->row.reason == WHY_BAD_VERIFY)
        return WHY_BAD_VERIFY;
    return d->row.current.offered != 0 ? WHY_NOT_VERIFIED : WHY_NO_EXCHANGE;
}

static void on_time(void *user)
{
    struct device *d = user;
    d->exchange_timer = 0;
    if (left(d) == 0) {
        fail(d, exchange_lacks(d));
        return;
    }
    if (d->row.current.offered == 0)
        ask_for_node_descriptor(d);
    exchange_watch(d);
}

void exchange_unwatch(struct device *d)
{
    if (d->exchange_timer != 0)
        d->eg->d.ops->timer_cancel(d->eg->d.host, d->exchange_timer);
    d->exchange_timer = 0;
}

void exchange_watch(struct device *d)
{
    struct eg *e = d->eg;
    exchange_unwatch(d);
    if (!d->row.has_current || d->row.exchange_since == 0)
        return;
    int64_t wait = left(d), step = d->asked == 0 ? ASK_AFTER_MS : ASK_EVERY_MS;
    if (wait == 0)
        wait = ASK_EVERY_MS; /* what could not be ended is tried again */
    else if (step < wait)
        wait = step;
    d->exchange_timer = e->d.ops->timer(e->d.host, (uint64_t)wait, on_time, d);
}

void exchange_begin(struct device *d)
{
    d->row.exchange_since = eg_time(d->eg);
    d->asked = 0;
    exchange_watch(d);
}

void exchange_node_descriptor(struct device *d, struct span response)
{
    uint8_t revision;
    if (d->row.enrolled || d->asked == 0 ||
        !zb_node_desc_revision(response, d->row.current.address, &revision) || revision >= FIRST_REVISION)
        return;
    struct store_txn *t = store_begin(d->eg->d.store);
    if (t == NULL)
        return;
    settle(d, t, "ok without second exchange: older than r21");
    device_store(d, t);
    device_commit(d, t, NULL, NULL);
}

/* --- Request-Key -> Transport-Key --------------------------------------------------------------------------------- */

/* The key it verified; else, while it has none, what its first key came under. */
vault_id exchange_link_key(const struct device *d)
{
    return d->row.current.tclk != 0 ? d->row.current.tclk : d->row.current.link_key;
}

/* A fresh key; a link key that differs from the one it replaces (invariant 6). */
static bool make_key(struct device *d, struct store_txn *t, vault_id *out)
{
    struct vault *v = d->eg->d.vault;
    if (vault_generate(v, t, VAULT_TCLK, ZB_KEY, out) != ST_OK)
        return false;
    if (!vault_same(v, *out, exchange_link_key(d)))
        return true;
    vault_delete(v, t, *out);
    return false;
}

static void on_request_key(struct device *d, const struct zb_cmd *cmd)
{
    struct assoc *a = &d->row.current;
    struct outbox o;
    if (cmd->key_type != ZB_KEYTYPE_TCLK || !outbox_open(d, &o)) /* application link keys are not served */
        return;
    vault_id key = a->offered;
    if (key == 0 && !make_key(d, o.t, &key)) {
        outbox_drop(&o);
        return;
    }
    const struct zb_cmd answer = {
        .id = ZB_TRANSPORT_KEY, .key_type = ZB_KEYTYPE_TCLK, .dst = d->eui, .src = a->gateway};
    struct vault_aps_command c = {
        .cmd = &answer, .carried = key, .link_key = exchange_link_key(d), .key_id = ZB_KEY_ID_LOAD};
    outbox_aps_command(&o, &c);
    if (o.failed) {
        if (a->offered == 0)
            vault_delete(d->eg->d.vault, o.t, key);
        outbox_drop(&o);
        return;
    }
    a->offered = key;
    eg_audit(d->eg, o.t, d->row.admin, "eg", "device.link-key-sent", d->eui, "ok");
    eg_count(d->eg, "eg_link_keys_sent_total");
    outbox_send(&o, true);
}

/* --- Verify-Key -> Confirm-Key ------------------------------------------------------------------------------------ */

/* The verified key takes the place of the one before. */
static void adopt(struct device *d, struct store_txn *t)
{
    struct assoc *a = &d->row.current;
    vault_id before = a->tclk;
    a->tclk = a->offered;
    a->offered = 0;
    a->aps_next = 0; /* counted per key */
    if (d->code != NULL && d->code->key == a->link_key) /* and no other that an operator put in its place meanwhile */
        d->row.code_spent = true;
    if (before != 0)
        device_release_link_key(d, t, before);
    if (!d->row.enrolled)
        settle(d, t, "ok");
}

/* Confirm-Key goes under the key just verified; after a failure there is no such key. */
static void confirm(struct outbox *o, uint8_t status, vault_id key)
{
    const struct zb_cmd answer = {
        .id = ZB_CONFIRM_KEY, .status = status, .key_type = ZB_KEYTYPE_TCLK, .dst = o->d->eui};
    struct vault_aps_command c = {.cmd = &answer, .link_key = key, .key_id = ZB_KEY_ID_DATA, .ack_request = key != 0};
    outbox_aps_command(o, &c);
}

static void on_verify_key(struct device *d, const struct zb_cmd *cmd)
{
    struct assoc *a = &d->row.current;
    struct vault *v = d->eg->d.vault;
    struct outbox o;
    bool asked = a->offered != 0 || a->tclk != 0; /* else it is of an exchange before this one, under a shared key */
    if (cmd->key_type != ZB_KEYTYPE_TCLK || cmd->src != d->eui || !asked || !outbox_open(d, &o))
        return;
    bool adopts = a->offered != 0 && vault_verify_hash(v, a->offered, cmd->key);
    bool again = !adopts && a->tclk != 0 && vault_verify_hash(v, a->tclk, cmd->key); /* our Confirm-Key was lost */
    confirm(&o, adopts || again ? CONFIRM_SUCCESS : CONFIRM_FAILURE, adopts ? a->offered : again ? a->tclk : 0);
    if (o.failed) {
        outbox_drop(&o);
        return;
    }
    if (adopts)
        adopt(d, o.t);
    else if (!again && !d->row.enrolled)
        d->row.reason = WHY_BAD_VERIFY;
    if (!adopts && !again)
        eg_count(d->eg, "eg_verify_key_wrong_total");
    outbox_send(&o, !again);
}

/* --- commands ----------------------------------------------------------------------------------------------------- */

/* Which commands a device may send to its Trust Centre, and whether under APS security (Zig 4.4.1.2). */
static const struct {
    uint8_t id;
    bool secured;
    void (*hear)(struct device *d, const struct zb_cmd *cmd);
} commands[] = {{ZB_REQUEST_KEY, true, on_request_key},
                {ZB_VERIFY_KEY, false, on_verify_key},
                {ZB_UPDATE_DEVICE, true, parent_hear_secured},
                {ZB_UPDATE_DEVICE, false, parent_hear_bare}};

/* The command's bytes, in the clear; a secured one counts once. */
static bool open_command(struct device *d, struct span frame, struct zb_aps *aps, struct wr *plain)
{
    struct assoc *a = &d->row.current;
    struct zb_aux aux;
    if (zb_aps_parse(frame, aps) != ZB_OK)
        return false;
    if ((aps->fcf & ZB_APS_SECURITY) == 0) {
        wr_spanb(plain, aps->payload);
        return true;
    }
    if (vault_aps_open(d->eg->d.vault, exchange_link_key(d), frame, d->eui, aps, &aux, plain) != ZB_OK ||
        aux.key_id != ZB_KEY_ID_DATA || !zb_counter_ok(a->aps_next, aux.counter))
        return false;
    a->aps_next = aux.counter + 1;
    return true;
}

/* Zig 2.2.8.3.2: at once, and for a repeated command as well; under the network key alone, as all acknowledgements here. */
static void acknowledge(struct device *d, const struct zb_aps *aps)
{
    struct outbox o;
    if ((aps->fcf & ZB_APS_ACK_REQUEST) == 0 || !outbox_open(d, &o))
        return;
    outbox_aps_ack(&o, aps);
    outbox_send(&o, false);
}

void exchange_command(struct device *d, struct span frame)
{
    uint8_t buf[ZB_NWK_MAX];
    struct wr plain = wr_of(buf, sizeof buf);
    struct zb_aps aps;
    struct zb_cmd cmd;
    if (!open_command(d, frame, &aps, &plain) || zb_cmd_parse(wr_span(&plain), &cmd) != ZB_OK) {
        const struct gateway *g = gateway_of(d, d->row.current.gateway);
        eg_count(d->eg, "eg_aps_commands_refused_total");
        log_event(LOG_INFO, "eg.aps-command-refused", "device=%016" PRIx64, d->eui);
        if (g != NULL)
            (void)failure_note(d->eg, g, d->eui, "aps-command-refused", 0);
        return;
    }
    acknowledge(d, &aps);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (commands[i].id == cmd.id && commands[i].secured == ((aps.fcf & ZB_APS_SECURITY) != 0))
            commands[i].hear(d, &cmd);
}
