/* What a router does for its children. Security is hop by hop (Zig 4.3.1): it opens each frame, checks that its counter
 * is fresh, and seals it again as its own; only the first key of a child goes by in the clear, sealed at the APS layer.
 */
#include "tests/schedules/model.h"

#include <inttypes.h>
#include <stdlib.h>

#define RESPONSE_WAIT_MS 492 /* macResponseWaitTime */
#define PERSISTENCE_MS 7680  /* macTransactionPersistenceTime */

enum { SECURED_REJOIN, UNSECURED_JOIN, LEFT, TRUST_CENTRE_REJOIN }; /* status of Update-Device */

bool router_open(const struct device *r)
{
    return r->router && r->phase == PHASE_JOINED && r->step == STEP_DONE;
}

bool router_has_child(const struct device *r, const struct device *x)
{
    return router_open(r) && (r->children >> x->index & 1) != 0;
}

void router_forget(struct device *r)
{
    r->children = 0;
    for (struct held *h = r->held; h < r->held + MAX_HELD; h++)
        h->until = 0;
}

/* --- to the Trust Centre ------------------------------------------------------------------------------------------ */

void router_claim(struct device *r, eui64_t eui, uint16_t address, uint8_t status)
{
    uint8_t buf[16], aps[ZB_NWK_MAX];
    struct wr command = wr_of(buf, sizeof buf), w = wr_of(aps, sizeof aps);
    const struct zb_cmd c = {.id = ZB_UPDATE_DEVICE, .device = eui, .short_addr = address, .status = status};
    const struct zb_aps a = {.fcf = ZB_APS_COMMAND, .counter = r->aps_counter++};
    if (zb_cmd_build(&command, &c) != ZB_OK || zb_aps_seal(r->w->crypto, r->link_key, &a, ZB_KEY_ID_DATA,
                                                           r->link_counter++, r->eui, wr_span(&command), &w) != ZB_OK)
        abort();
    trace(r->w, "router %u: %016" PRIx64 " has come or gone: %u", r->index, eui, status);
    device_send(r, wr_span(&w));
}

static void update_device(struct device *r, const struct device *x, uint8_t status)
{
    router_claim(r, x->eui, x->address, status);
}

/* --- down --------------------------------------------------------------------------------------------------------- */

static void reach_child(struct packet *p)
{
    struct device *x = &p->w->devices[p->who];
    if (x->parent == &p->w->devices[p->peer] && x->address == p->tag)
        device_receive(x, span_of(p->bytes, p->n));
}

static void radiate(struct device *r, struct device *x, const struct held *h)
{
    uint8_t buf[ZB_NWK_MAX];
    struct wr out = wr_of(buf, sizeof buf);
    if (h->bare) {
        zb_nwk_build(&out, &h->n);
        wr_bytes(&out, h->plain, h->len);
    } else if (zb_nwk_seal(r->w->crypto, r->key, &h->n, r->counter++, r->eui, r->key_seq, span_of(h->plain, h->len),
                           &out) != ZB_OK) {
        abort();
    }
    struct packet *p = packet_new(r->w, reach_child, x->index, wr_span(&out));
    p->peer = r->index;
    p->tag = x->address;
    const struct faults f = {r->w->radio.loss / 2, r->w->radio.twice, 0};
    if (r->w->calm)
        packet_send_behind(p, &f, 3, &r->air);
    else
        packet_send(p, &f, 3);
}

/* At once, or when a sleepy child polls; it is sealed when it is radiated, so that counters keep their order. */
static void send_down(struct device *r, struct device *x, const struct zb_nwk *n, bool bare, struct span plain)
{
    struct held h = {
        .until = vhost_now(r->w->h) + PERSISTENCE_MS, .who = x->index, .bare = bare, .n = *n, .len = plain.n};
    memcpy(h.plain, plain.p, plain.n);
    if (!x->sleepy) {
        radiate(r, x, &h);
        return;
    }
    struct held *place = &r->held[0];
    for (struct held *i = r->held; i < r->held + MAX_HELD; i++)
        if (i->until < place->until)
            place = i;
    *place = h;
}

void router_poll(struct device *r, struct device *x)
{
    struct held *oldest = NULL;
    for (struct held *i = r->held; i < r->held + MAX_HELD; i++)
        if (i->who == x->index && i->until >= vhost_now(r->w->h) && (oldest == NULL || i->until < oldest->until))
            oldest = i;
    if (oldest == NULL || !router_open(r))
        return;
    radiate(r, x, oldest);
    oldest->until = 0;
}

/* The child of r on the way to an address; NULL: none. */
static struct device *on_the_way(struct device *r, uint16_t address)
{
    for (unsigned i = 0; i < r->w->ndevices; i++) {
        struct device *x = &r->w->devices[i];
        if (x->home != r->home || x->address != address)
            continue;
        while (x->parent != NULL && x->parent != r)
            x = x->parent;
        if (x->parent == r && router_has_child(r, x))
            return x;
    }
    return NULL;
}

const char *router_pass_down(struct device *r, const struct zb_nwk *n, struct span plain)
{
    struct device *x = on_the_way(r, n->dst);
    struct zb_nwk on = *n;
    if (x == NULL || n->radius <= 1)
        return "nobody below it";
    on.radius--;
    send_down(r, x, &on, false, plain);
    return NULL;
}

/* --- children ----------------------------------------------------------------------------------------------------- */

static uint16_t free_address(struct world *w)
{
    for (;;) {
        uint16_t address = (uint16_t)(1 + draw(w, 0xfff0));
        bool taken = false;
        for (unsigned i = 0; i < w->ndevices; i++)
            taken |= w->devices[i].address == address;
        if (!taken)
            return address;
    }
}

/* It polls for its association response. */
static void associated(void *user, uint64_t attempt)
{
    struct device *x = user, *r = x->parent;
    if (x->attempt != attempt || x->phase != PHASE_ASSOCIATING || r == NULL || !router_open(r) ||
        (!r->w->calm && chance(r->w, r->w->radio.loss / 4)))
        return;
    r->children |= 1u << x->index;
    device_associated(x, free_address(r->w), false);
    update_device(r, x, UNSECURED_JOIN);
}

void router_associate(struct device *r, struct device *x)
{
    if (router_open(r))
        vhost_at(r->w->h, RESPONSE_WAIT_MS, associated, x, x->attempt);
}

void router_rejoin(struct device *r, struct device *x, bool secured)
{
    const uint8_t answer[] = {0x07, (uint8_t)x->address, (uint8_t)(x->address >> 8), 0};
    if (!router_open(r))
        return;
    r->children |= 1u << x->index;
    send_down(r, x,
              &(struct zb_nwk){.fcf = secured ? 0x1a09 : 0x1809,
                               .dst = x->address,
                               .src = r->address,
                               .radius = 1,
                               .seq = r->nwk_seq++,
                               .has_dst64 = true,
                               .dst64 = x->eui,
                               .has_src64 = true,
                               .src64 = r->eui},
              !secured, span_of(answer, sizeof answer));
    update_device(r, x, secured ? SECURED_REJOIN : TRUST_CENTRE_REJOIN);
}

/* --- up ----------------------------------------------------------------------------------------------------------- */

static void hear_child_command(struct device *r, struct device *x, struct span command)
{
    if (command.n == 2 && command.p[0] == 0x06) {
        router_rejoin(r, x, true);
    } else if (command.n == 2 && command.p[0] == 0x04 && (command.p[1] & 0x40) == 0 && router_has_child(r, x)) {
        r->children &= ~(1u << x->index);
        update_device(r, x, LEFT);
    }
}

void router_hear(struct device *r, struct device *x, struct span frame)
{
    struct zb_nwk n;
    uint8_t buf[ZB_NWK_MAX];
    struct wr plain = wr_of(buf, sizeof buf);
    if (!router_open(r) || !device_opens(r, frame, x->eui, &n, &plain))
        return;
    if ((n.fcf & ZB_FCF_TYPE) == ZB_NWK_COMMAND) {
        hear_child_command(r, x, wr_span(&plain));
    } else if (router_has_child(r, x) && n.radius > 1) {
        n.radius--;
        device_radiate(r, &n, wr_span(&plain));
    }
}

/* --- what the Trust Centre wants of it ---------------------------------------------------------------------------- */

static struct device *child_by_eui(struct device *r, eui64_t eui)
{
    for (unsigned i = 0; i < r->w->ndevices; i++)
        if (r->w->devices[i].eui == eui && router_has_child(r, &r->w->devices[i]))
            return &r->w->devices[i];
    return NULL;
}

static void tunnelled(struct device *r, const struct zb_cmd *c)
{
    struct device *x = child_by_eui(r, c->dst);
    if (x != NULL)
        send_down(
            r, x,
            &(struct zb_nwk){.fcf = 0x0008, .dst = x->address, .src = r->address, .radius = 1, .seq = r->nwk_seq++},
            true, c->tunnelled);
}

static void remove_device(struct device *r, eui64_t eui)
{
    struct device *x = child_by_eui(r, eui);
    if (x == NULL)
        return;
    send_down(r, x,
              &(struct zb_nwk){.fcf = 0x1a09,
                               .dst = x->address,
                               .src = r->address,
                               .radius = 1,
                               .seq = r->nwk_seq++,
                               .has_dst64 = true,
                               .dst64 = x->eui,
                               .has_src64 = true,
                               .src64 = r->eui},
              false, span_of("\x04\x40", 2));
    r->children &= ~(1u << x->index);
    update_device(r, x, LEFT);
}

bool router_hear_command(struct device *r, struct span aps)
{
    struct zb_aps a;
    struct zb_aux aux;
    struct zb_cmd c;
    uint8_t buf[ZB_NWK_MAX];
    struct wr plain = wr_of(buf, sizeof buf);
    if (!router_open(r) || zb_aps_parse(aps, &a) != ZB_OK)
        return false;
    if ((a.fcf & ZB_APS_SECURITY) == 0) {
        bool tunnel = zb_cmd_parse(a.payload, &c) == ZB_OK && c.id == ZB_TUNNEL;
        if (tunnel)
            tunnelled(r, &c);
        return tunnel;
    }
    if (zb_aps_open(r->w->crypto, r->link_key, aps, 0, &a, &aux, &plain) != ZB_OK || aux.key_id != ZB_KEY_ID_DATA ||
        zb_cmd_parse(wr_span(&plain), &c) != ZB_OK || c.id != ZB_REMOVE_DEVICE ||
        !zb_counter_ok(r->link_next, aux.counter))
        return false;
    r->link_next = aux.counter + 1;
    remove_device(r, c.device);
    return true;
}
