/* A Zigbee gateway: associations, pending frames, the reverse path; it holds no key and knows nothing of them. */
#include "tests/schedules/model.h"

#include <inttypes.h>
#include <stdlib.h>

#define RESPONSE_WAIT_MS 492 /* macResponseWaitTime */
#define GIVE_UP_MS 5000      /* of an EgRequest */
#define PERSISTENCE_MS 7680  /* macTransactionPersistenceTime */
#define HOP_BY_PATH 0xfffe
#define RADIO_TRIES 4 /* 802.15.4 macMaxFrameRetries + 1 */

/* --- to the plugin ------------------------------------------------------------------------------------------------ */

static void answered(void *user, uint64_t context, const struct vanswer *a);

static void reach_plugin(struct packet *p)
{
    struct gateway *g = &p->w->gateways[p->who];
    struct egp_message m;
    uint64_t context = 0;
    if (!vhost_running(p->w->h) || p->tag != g->life || egp_decode(span_of(p->bytes, p->n), &m) != NULL)
        return;
    for (unsigned i = 0; m.env.type == EGP_UPLINK && i < p->w->ndevices; i++)
        oracle_uplink(&p->w->devices[i], m.u.frame.nwk_frame);
    oracle_asked(g, &m, &context);
    vhost_ask(p->w->h, &(struct vask){.op = CSE_CREATE,
                                      .path = "mef/eg",
                                      .body = span_of(p->bytes, p->n),
                                      .session = g->session,
                                      .identity = g->kpm,
                                      .done = answered,
                                      .user = g,
                                      .tag = context});
}

void gateway_tell(struct gateway *g, const struct egp_message *m)
{
    uint8_t buf[EGP_MAX_MESSAGE];
    struct wr w = wr_of(buf, sizeof buf);
    if (!egp_encode(m, &w))
        return; /* nothing a gateway could send */
    struct packet *p = packet_new(g->w, reach_plugin, g->index, wr_span(&w));
    p->tag = g->life;
    packet_send(p, &g->w->link, 5);
}

static struct egp_message message(struct gateway *g, enum egp_type type, uint64_t transaction, eui64_t device)
{
    return (struct egp_message){.env = {EGP_VERSION, (uint8_t)type, transaction, g->eui, device, EGP_TO_EG, 15, -50}};
}

static void hello(void *user, uint64_t life)
{
    struct gateway *g = user;
    if (life != g->life)
        return;
    struct egp_message m = message(g, EGP_HELLO, g->next_transaction++, 0);
    m.u.hello = (struct egp_hello){g->pan, 15, 1, 0};
    gateway_tell(g, &m);
    vhost_at(g->w->h, g->w->calm ? 5000 : 20000, hello, g, life);
}

/* The session to mefd is new; what was asked before is asked again by its own time-outs. */
void gateway_connect(struct gateway *g)
{
    g->session = vhost_session(g->w->h);
    if (g->life == 0)
        g->next_transaction = draw(g->w, UINT64_MAX);
    hello(g, g->life);
}

void gateway_restart(struct gateway *g)
{
    trace(g->w, "gateway %u restarts without memory", g->index);
    for (size_t i = 0; i < MAX_WAITING; i++)
        g->waiting[i].until = 0;
    memset(g->requests, 0, sizeof g->requests);
    g->nchildren = g->npaths = 0;
    g->life++;
    g->next_transaction = draw(g->w, UINT64_MAX);
    g->w->tally.restarts++;
    vhost_session_end(g->w->h, g->session);
    g->session = vhost_session(g->w->h);
    hello(g, g->life);
}

/* --- to devices --------------------------------------------------------------------------------------------------- */

static void reach_device(struct packet *p)
{
    struct device *d = &p->w->devices[p->who];
    if (d->home == p->peer && d->address == p->tag && d->parent == NULL)
        device_receive(d, span_of(p->bytes, p->n));
}

static struct child *child_at(struct gateway *g, uint16_t address)
{
    for (size_t i = 0; i < g->nchildren; i++)
        if (g->children[i].address == address)
            return &g->children[i];
    return NULL;
}

static struct child *child_new(struct gateway *g, eui64_t eui, uint16_t address)
{
    struct child *c = &g->children[g->nchildren < MAX_CHILDREN ? g->nchildren++ : draw(g->w, MAX_CHILDREN)];
    *c = (struct child){.eui = eui, .address = address};
    return c;
}

/* --- reverse paths: whose frames come by which neighbour ---------------------------------------------------------- */

static void path_learn(struct gateway *g, uint16_t hop, struct span frame)
{
    struct zb_nwk n;
    if (zb_nwk_parse(frame, &n) != ZB_OK)
        return;
    struct path *p = &g->paths[0];
    while (p < g->paths + g->npaths && p->to != n.src)
        p++;
    if (p == g->paths + g->npaths)
        p = &g->paths[g->npaths < MAX_CHILDREN ? g->npaths++ : draw(g->w, MAX_CHILDREN)];
    *p = (struct path){n.src, hop};
}

static uint16_t path_to(const struct gateway *g, uint16_t address)
{
    for (const struct path *p = g->paths; p < g->paths + g->npaths; p++)
        if (p->to == address)
            return p->by;
    return address;
}

/* Radiate to a short address, whoever has it; each try is lost alone, an acknowledgement too: then it is heard twice.
 */
static void radiate(struct gateway *g, uint16_t address, struct span frame)
{
    struct world *w = g->w;
    for (unsigned i = 0; i < w->ndevices; i++) {
        unsigned tries = 1;
        if (w->devices[i].home != g->index || w->devices[i].address != address || w->devices[i].parent != NULL)
            continue;
        while (!w->calm && tries <= RADIO_TRIES && chance(w, w->radio.loss))
            tries++;
        if (tries > RADIO_TRIES)
            continue;
        struct packet *p = packet_new(w, reach_device, i, frame);
        p->peer = g->index;
        p->tag = address;
        struct faults f = {0, w->radio.twice, 0};
        if (w->calm) /* one radio, in order */
            packet_send_behind(p, &f, 3, &g->air);
        else
            packet_send(p, &f, 3 * tries);
    }
}

static void deliver(struct gateway *g, uint16_t address, bool indirect, struct span frame)
{
    if (!indirect) {
        radiate(g, address, frame);
        return;
    }
    struct waiting *place = &g->waiting[0];
    for (struct waiting *x = g->waiting; x < g->waiting + MAX_WAITING; x++)
        if (x->until < place->until)
            place = x;
    *place = (struct waiting){address, vhost_now(g->w->h) + PERSISTENCE_MS, place->frame};
    if (place->frame == NULL)
        place->frame = packet_new(g->w, NULL, 0, frame); /* kept by the place for good */
    place->frame->n = frame.n;
    memcpy(place->frame->bytes, frame.p, frame.n);
}

void gateway_poll(struct gateway *g, uint16_t address)
{
    struct waiting *oldest = NULL;
    for (struct waiting *x = g->waiting; x < g->waiting + MAX_WAITING; x++)
        if (x->address == address && x->until >= vhost_now(g->w->h) && (oldest == NULL || x->until < oldest->until))
            oldest = x;
    if (oldest == NULL)
        return;
    oldest->until = 0;
    radiate(g, address, span_of(oldest->frame->bytes, oldest->frame->n));
}

/* --- joining ------------------------------------------------------------------------------------------------------ */

static struct request *request_of(struct gateway *g, uint64_t transaction)
{
    for (struct request *r = g->requests; r < g->requests + MAX_REQUESTS; r++)
        if (r->used && r->transaction == transaction)
            return r;
    return NULL;
}

static void ask_again(void *user, uint64_t transaction)
{
    static const uint64_t waits[] = {300, 600, 1000};
    struct gateway *g = user;
    struct request *r = request_of(g, transaction);
    if (r == NULL || r->answered || vhost_now(g->w->h) - r->since >= GIVE_UP_MS)
        return;
    struct packet *p = packet_new(g->w, reach_plugin, g->index, span_of(r->bytes, r->n));
    p->tag = g->life;
    packet_send(p, &g->w->link, 5);
    vhost_at(g->w->h, waits[r->tries < 2 ? r->tries : 2], ask_again, g, transaction);
    r->tries++;
}

/* The device polls for its association response. */
static void association_response(void *user, uint64_t transaction)
{
    struct gateway *g = user;
    const struct request *r = request_of(g, transaction);
    if (r == NULL || r->who >= MAX_DEVICES || (!g->w->calm && chance(g->w, g->w->radio.loss / 4)))
        return;
    device_associated(&g->w->devices[r->who], r->address, r->refused);
}

static uint16_t address_for(struct gateway *g, eui64_t eui, unsigned who)
{
    for (size_t i = 0; i < g->nchildren; i++)
        if (g->children[i].eui == eui && (who < MAX_DEVICES || chance(g->w, 500)))
            return g->children[i].address;
    uint16_t address;
    do
        address = (uint16_t)(1 + draw(g->w, 0xfff0));
    while (child_at(g, address) != NULL);
    child_new(g, eui, address);
    return address;
}

/* One that rejoins says what it is; the gateway can only believe it. */
static uint16_t address_of(struct gateway *g, eui64_t eui, unsigned who, enum egp_join join, struct span frame)
{
    struct zb_nwk n;
    if (join == EGP_ASSOCIATION || zb_nwk_parse(frame, &n) != ZB_OK || !n.has_src64 || n.src64 != eui || n.src == 0 ||
        n.src >= 0xfff8)
        return address_for(g, eui, who);
    if (child_at(g, n.src) == NULL)
        child_new(g, eui, n.src);
    return n.src;
}

void gateway_join(struct gateway *g, eui64_t eui, uint8_t capability, unsigned who, enum egp_join join,
                  struct span frame)
{
    struct request *r = &g->requests[0];
    for (struct request *x = g->requests; x < g->requests + MAX_REQUESTS && r->used; x++)
        if (!x->used || x->since < r->since)
            r = x;
    *r = (struct request){.used = true,
                          .transaction = g->next_transaction++,
                          .since = vhost_now(g->w->h),
                          .device = eui,
                          .who = who,
                          .join = join,
                          .address = address_of(g, eui, who, join, frame)};
    struct egp_message m = message(g, EGP_REQUEST, r->transaction, eui);
    m.u.request = (struct egp_request){0, r->address, g->pan, 0, capability, (uint8_t)join, frame};
    struct wr w = wr_of(r->bytes, sizeof r->bytes);
    if (!egp_encode(&m, &w)) {
        r->used = false;
        return;
    }
    r->n = w.n;
    ask_again(g, r->transaction);
    if (join == EGP_ASSOCIATION)
        vhost_at(g->w->h, RESPONSE_WAIT_MS, association_response, g, r->transaction);
}

static void give_key(struct packet *p)
{
    struct gateway *g = &p->w->gateways[p->who];
    struct egp_message m;
    if (egp_decode(span_of(p->bytes, p->n), &m) != NULL || p->tag != g->life)
        return;
    struct child *c = child_at(g, m.u.response.next_hop);
    const struct request *r = request_of(g, m.env.transaction);
    if (c != NULL && (r == NULL || r->join == EGP_ASSOCIATION))
        c->radiated = 0; /* counters begin anew behind a first key */
    deliver(g, m.u.response.next_hop, m.u.response.indirect, m.u.response.nwk_frame);
}

static void on_response(struct gateway *g, const struct egp_message *m, struct span bytes)
{
    struct request *r = request_of(g, m->env.transaction);
    if (r == NULL || r->answered)
        return;
    enum egp_reason reason = (enum egp_reason)m->u.response.reason;
    r->answered = reason != EGP_UNAVAILABLE;
    r->refused = r->answered && reason != EGP_OK && reason != EGP_RATE_LIMITED;
    if (r->who < MAX_DEVICES && r->join == EGP_ASSOCIATION)
        g->w->devices[r->who].refused = reason;
    trace(g->w, "gateway %u: %016" PRIx64 ": %s", g->index, m->env.device, egp_reason_name(reason));
    if (reason != EGP_OK)
        return;
    /* never before the association response */
    uint64_t now = vhost_now(g->w->h), ready = r->join == EGP_ASSOCIATION ? r->since + RESPONSE_WAIT_MS + 5 : now;
    struct packet *p = packet_new(g->w, give_key, g->index, bytes);
    p->tag = g->life;
    static const struct faults none;
    packet_send(p, &none, ready > now ? ready - now : 0);
}

/* --- from the plugin ---------------------------------------------------------------------------------------------- */

static void response_arrives(struct packet *p)
{
    struct gateway *g = &p->w->gateways[p->who];
    struct egp_message m;
    if (p->tag == g->life && egp_decode(span_of(p->bytes, p->n), &m) == NULL && m.env.type == EGP_RESPONSE)
        on_response(g, &m, span_of(p->bytes, p->n));
}

static void answered(void *user, uint64_t context, const struct vanswer *a)
{
    struct gateway *g = user;
    oracle_answered(g, context, a);
    if (a->body.n == 0)
        return;
    struct packet *p = packet_new(g->w, response_arrives, g->index, a->body);
    p->tag = g->life;
    if (g->w->calm) /* over one session, in order */
        packet_send_behind(p, &g->w->link, 5, &g->told);
    else
        packet_send(p, &g->w->link, 5);
}

static void message_arrives(struct packet *p)
{
    struct gateway *g = &p->w->gateways[p->who];
    struct egp_message m;
    if (p->tag != g->life || egp_decode(span_of(p->bytes, p->n), &m) != NULL || m.env.type != EGP_DOWNLINK)
        return;
    struct zb_nwk n;
    struct zb_aux aux = {0};
    struct rd r = rd_of(zb_nwk_parse(m.u.frame.nwk_frame, &n) == ZB_OK ? n.payload : (struct span){0});
    uint16_t hop = m.u.frame.hop == HOP_BY_PATH ? path_to(g, n.dst) : m.u.frame.hop;
    struct child *c = child_at(g, hop);
    bool secured = (n.fcf & ZB_FCF_SECURITY) != 0;
    if (secured && zb_aux_parse(&r, &aux) != ZB_OK)
        return;
    if (c == NULL)
        c = child_new(g, m.env.device, hop);
    bool stale = secured && aux.counter <= c->radiated;
    struct egp_message result = message(g, stale ? EGP_STALE : EGP_TX_RESULT, m.env.transaction, m.env.device);
    trace(g->w, "gateway %u: to %04x: %s", g->index, hop, stale ? "stale" : "radiates");
    if (stale) {
        result.u.stale = (struct egp_stale){aux.counter, c->radiated};
    } else {
        if (secured)
            c->radiated = aux.counter;
        deliver(g, hop, m.u.frame.indirect, m.u.frame.nwk_frame);
        result.u.tx_result = (struct egp_tx_result){EGP_TX_ACKED, 1};
    }
    gateway_tell(g, &result);
}

void gateway_message(struct gateway *g, struct span bytes)
{
    struct packet *p = packet_new(g->w, message_arrives, g->index, bytes);
    p->tag = g->life;
    packet_send_behind(p, &g->w->link, 5, &g->told);
}

/* --- from the air ------------------------------------------------------------------------------------------------- */

void gateway_hear(struct gateway *g, uint16_t hop, eui64_t device, struct span frame)
{
    path_learn(g, hop, frame);
    struct egp_message m = message(g, EGP_UPLINK, g->next_transaction++, device);
    m.u.frame = (struct egp_frame){.hop = hop, .lqi = 200, .nwk_frame = frame};
    gateway_tell(g, &m);
}
