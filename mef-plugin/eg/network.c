/* NWK commands (Zig 3.4) of devices. All came under the network key that the device and we share, so that each says
 * what the device itself wants; it is answered under that key. */
#include "mef-plugin/eg/internal.h"

#include <inttypes.h>

#define NEIGHBOUR 1                /* radius of a command for whoever hears it */
#define BROADCAST_LISTENING 0xfffd /* all devices that listen when idle (Zig 3.6.5) */

static void send_to(struct device *d, const struct zb_nwk_cmd *c, uint16_t dst, uint8_t radius)
{
    uint8_t buf[ZB_NWK_MAX];
    struct wr w = wr_of(buf, sizeof buf);
    struct outbox o;
    if (zb_nwk_cmd_build(&w, c) != ZB_OK || !outbox_open(d, &o))
        return;
    outbox_nwk_command(&o, dst, radius, wr_span(&w));
    outbox_send(&o, false);
}

static void answer(struct device *d, const struct zb_nwk_cmd *c)
{
    if (coordinator_within_rate(d))
        send_to(d, c, d->row.current.address, NEIGHBOUR);
}

/* --- leaving and coming back -------------------------------------------------------------------------------------- */

/* Zig 3.4.4: "I leave" has the request bit clear; one that comes back rejoins. */
static void on_leave(struct device *d, const struct heard *h, const struct zb_nwk_cmd *c)
{
    (void)h;
    if ((c->options & (ZB_LEAVE_REQUEST | ZB_LEAVE_REJOIN)) != 0)
        return;
    struct eg *e = d->eg;
    struct store_txn *t = store_begin(e->d.store);
    if (t == NULL)
        return;
    device_forget_key(d, t, WHY_LEFT);
    device_store(d, t);
    eg_audit(e, t, d->row.admin, "eg", "device.left", d->eui, "ok");
    eg_count(e, "eg_left_total");
    device_commit(d, t, NULL, NULL);
    device_changed_later(d);
}

void coordinator_send_leave(struct device *d)
{
    static const struct zb_nwk_cmd leave = {.id = ZB_NWK_LEAVE, .options = ZB_LEAVE_REQUEST};
    if (d->row.has_current && d->row.current.parent != 0)
        parent_send_remove(d); /* a NWK command goes to neighbours only */
    else
        send_to(d, &leave, d->row.current.address, NEIGHBOUR);
}

bool nwk_is_rejoin_request(const struct zb_nwk *h, uint8_t *capability)
{
    struct zb_nwk_cmd c;
    bool is = (h->fcf & ZB_FCF_TYPE) == ZB_NWK_COMMAND && zb_nwk_cmd_parse(h->payload, &c) == ZB_OK &&
              c.id == ZB_NWK_REJOIN_REQUEST;
    if (is)
        *capability = c.capability;
    return is;
}

static struct zb_nwk_cmd rejoin_response(uint16_t address)
{
    return (struct zb_nwk_cmd){.id = ZB_NWK_REJOIN_RESPONSE, .address = address, .status = 0 /* success */};
}

void nwk_rejoin_response(struct wr *w, uint16_t address)
{
    const struct zb_nwk_cmd c = rejoin_response(address);
    if (zb_nwk_cmd_build(w, &c) != ZB_OK)
        w->overflow = true;
}

/* A rejoin under the network key (Zig 3.4.6): the key is the proof; the device keeps its address. */
static void on_rejoin(struct device *d, const struct heard *h, const struct zb_nwk_cmd *c)
{
    (void)h;
    uint8_t buf[4];
    struct wr w = wr_of(buf, sizeof buf);
    struct outbox o;
    if (!coordinator_within_rate(d) || !outbox_open(d, &o))
        return;
    nwk_rejoin_response(&w, d->row.current.address);
    outbox_nwk_command(&o, d->row.current.address, NEIGHBOUR, wr_span(&w));
    if (o.failed) {
        outbox_drop(&o);
        return;
    }
    d->row.current.capability = c->capability;
    d->row.current.parent = 0; /* it asked the gateway itself */
    d->row.current.next_hop = d->row.current.address;
    outbox_send(&o, true);
}

/* Zig 3.4.11, 3.4.12: any time-out is accepted, since children do not age here; their polls keep them. */
static void on_timeout_request(struct device *d, const struct heard *h, const struct zb_nwk_cmd *c)
{
    enum { LONGEST = 14, SUCCESS = 0, INCORRECT_VALUE = 1, KEEPALIVE_BY_POLL = 1 };
    (void)h;
    answer(d, &(struct zb_nwk_cmd){.id = ZB_NWK_TIMEOUT_RESPONSE,
                                   .status = c->timeout <= LONGEST && c->information == 0 ? SUCCESS : INCORRECT_VALUE,
                                   .information = KEEPALIVE_BY_POLL});
}

/* --- addresses ---------------------------------------------------------------------------------------------------- */

/* A random address that no device of this gateway is known to have. */
static bool pick_address(struct device *d, uint16_t *out)
{
    struct eg *e = d->eg;
    for (int tries = 0; tries < 100; tries++)
        if (e->d.ops->random(e->d.host, out, sizeof *out) && eg_is_unicast(*out) &&
            address_find(e, d->row.current.gateway, *out) == NULL)
            return true;
    return false;
}

/* Zig 3.6.1.9.3. A router is told that its address is another's, and finds one itself; an end device is given one by
 * its parent. Only who came later is told, under its own key; whose the address is does not hear of it. */
void network_check_address(struct device *d)
{
    const struct assoc *a = &d->row.current;
    const struct device *other = address_find(d->eg, a->gateway, a->address);
    uint16_t address;
    if (other == NULL || other == d || !coordinator_within_rate(d))
        return;
    const struct zb_nwk_cmd conflict = {
        .id = ZB_NWK_STATUS, .status = ZB_STATUS_ADDRESS_CONFLICT, .address = a->address};
    if ((a->capability & ZB_CAPABILITY_FFD) != 0) {
        send_to(d, &conflict, BROADCAST_LISTENING, EG_RADIUS);
    } else if (pick_address(d, &address)) {
        const struct zb_nwk_cmd unasked = rejoin_response(address);
        send_to(d, &unasked, a->address, NEIGHBOUR);
    }
}

/* --- routes ------------------------------------------------------------------------------------------------------- */

/* Zig 3.4.1, 3.6.3.5: a route to the coordinator ends here, one to a child of ours, too. What asks for routes to itself
 * (many-to-one) wants no reply. The reply goes to the neighbour that the request came by, which has the same key. */
static void on_route_request(struct device *d, const struct heard *h, const struct zb_nwk_cmd *c)
{
    const eui64_t gateway = d->row.current.gateway;
    struct zb_known child;
    bool ours = c->address == 0;
    if ((c->options & ZB_ROUTE_MANY_TO_ONE) != 0 || (!ours && !neighbours_child(d, 0, c->address, &child)) ||
        !coordinator_within_rate(d))
        return;
    const struct zb_nwk_cmd reply = {.id = ZB_NWK_ROUTE_REPLY,
                                     .options = ZB_ROUTE_ORIGINATOR64 | ZB_ROUTE_RESPONDER64,
                                     .route_id = c->route_id,
                                     .originator = h->nwk.src,
                                     .originator64 = d->eui,
                                     .responder = c->address,
                                     .responder64 = ours ? gateway : child.ieee,
                                     .cost = (uint8_t)(ours ? 0 : neighbours_cost(child.lqi))};
    send_to(d, &reply, h->hop, EG_RADIUS);
}

/* To a device under the same key: a route reply said that we reach it, or the sender is our child. Between keys nothing
 * passes. */
void network_relay(struct device *d, const struct heard *h)
{
    const struct assoc *a = &d->row.current;
    struct device *to = address_find(d->eg, a->gateway, h->nwk.dst);
    struct outbox o;
    if (to == NULL || to == d || to->row.current.network_key != a->network_key || h->nwk.radius <= 1 ||
        (h->nwk.fcf & ZB_FCF_SOURCE_ROUTE) != 0 || !coordinator_within_rate(d) || !outbox_open(to, &o))
        return;
    outbox_relay(&o, &h->nwk, wr_span(&h->out));
    if (!o.failed)
        eg_count(d->eg, "eg_device_frames_passed_on_total");
    outbox_send(&o, false);
}

static void on_link_status(struct device *d, const struct heard *h, const struct zb_nwk_cmd *c)
{
    neighbours_heard(d, h, c);
}

/* Of routes the EG keeps none: the gateway sends back the way that a device's last frame came. */
static void on_report(struct device *d, const struct heard *h, const struct zb_nwk_cmd *c)
{
    (void)h;
    log_event(LOG_DEBUG, "eg.nwk-report", "device=%016" PRIx64 " id=%02x status=%02x address=%04x", d->eui, c->id,
              c->status, c->address);
}

/* --- which it is -------------------------------------------------------------------------------------------------- */

/* far: heard from a router that passes it on, too; the others are said to neighbours, and a router cannot say them for
 * somebody else. */
static const struct {
    uint8_t id;
    bool far;
    void (*hear)(struct device *d, const struct heard *h, const struct zb_nwk_cmd *c);
} commands[] = {
    {ZB_NWK_ROUTE_REQUEST, true, on_route_request},
    {ZB_NWK_STATUS, true, on_report},
    {ZB_NWK_LEAVE, false, on_leave},
    {ZB_NWK_ROUTE_RECORD, true, on_report},
    {ZB_NWK_REJOIN_REQUEST, false, on_rejoin},
    {ZB_NWK_LINK_STATUS, false, on_link_status},
    {ZB_NWK_TIMEOUT_REQUEST, false, on_timeout_request},
};

void network_hear(struct device *d, const struct heard *h)
{
    struct zb_nwk_cmd c;
    enum zb_err err = zb_nwk_cmd_parse(wr_span(&h->out), &c);
    log_event(LOG_DEBUG, "eg.nwk-command", "device=%016" PRIx64 " id=%02x", d->eui, c.id);
    for (size_t i = 0; err == ZB_OK && i < sizeof commands / sizeof commands[0]; i++)
        if (commands[i].id == c.id && (commands[i].far || h->aux.src64 == d->eui)) {
            commands[i].hear(d, h, &c);
            return;
        }
}
