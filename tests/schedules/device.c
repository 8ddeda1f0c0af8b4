/* A strict Zigbee 3.0 end device: what it takes, and in which order, follows the clauses named; it knows its install
 * code, and the link key that it got for it, and nothing else of the system. */
#include "tests/schedules/model.h"

#include <inttypes.h>
#include <stdlib.h>

#define FIRST_KEY_BYTES 62
#define APS_COMMAND_SECURED 0x21
#define AUX_KEY_TRANSPORT 0x30
#define POLL_MS 400
#define GIVE_UP_MS 3000
#define MAX_REJOINS 4

const char *const kind_names[KINDS] = {"good", "stranger", "wrong-code", "expired", "elsewhere", "foreign"};

static struct gateway *home(struct device *d)
{
    return &d->w->gateways[d->home];
}

/* --- association and rejoins -------------------------------------------------------------------------------------- */

static void come(void *user, uint64_t attempt);

static void start_over(struct device *d, uint64_t in_ms)
{
    d->phase = PHASE_OFF;
    d->attempt++;
    vhost_at(d->w->h, in_ms, come, d, d->attempt);
}

/* A factory reset forgets keys and what was counted under them. */
void device_reset(struct device *d, uint64_t in_ms)
{
    memcpy(d->link_key, d->link_keys[0], ZB_KEY);
    d->link_next = 0;
    d->link_counter = 0;
    memset(d->peer_next, 0, sizeof d->peer_next);
    d->rejoin = REJOIN_NONE;
    d->step = STEP_NONE;
    router_forget(d);
    if (d->domain == 0 && chance(d->w, 500)) /* under a key that it may get again it counts on (Zig 4.3.4) */
        d->counter = 0;
    start_over(d, in_ms);
}

void device_comes_back(struct device *d, enum rejoin how)
{
    if (d->phase != PHASE_JOINED || d->step != STEP_DONE)
        return;
    trace(d->w, "device %u %s", d->index, how == REJOIN_SECURED ? "was away" : "has lost its network key");
    d->rejoin = how;
    d->rejoins = 0;
    start_over(d, 100);
}

static void no_response(void *user, uint64_t attempt)
{
    struct device *d = user;
    if (d->attempt == attempt && d->phase == PHASE_ASSOCIATING)
        start_over(d, 1000 + draw(d->w, 2000));
}

/* Mostly where it wants to be; at last always, if that is there. */
static void choose_parent(struct device *d)
{
    struct world *w = d->w;
    d->parent = d->wanted != NULL && (w->calm || chance(w, 800)) && router_open(d->wanted) ? d->wanted : NULL;
    struct device *other = d->index > 0 ? &w->devices[draw(w, d->index)] : NULL;
    if (!w->calm && other != NULL && other->home == d->home && router_open(other) && chance(w, 150))
        d->parent = other;
}

static void request_heard(struct packet *p)
{
    struct device *d = &p->w->devices[p->who];
    if (d->parent != NULL)
        router_associate(d->parent, d);
    else
        gateway_join(home(d), d->eui, d->capability, d->index, EGP_ASSOCIATION, (struct span){0});
}

static void associate(struct device *d)
{
    d->phase = PHASE_ASSOCIATING;
    choose_parent(d);
    trace(d->w, "device %u associates with %d", d->index, d->parent != NULL ? (int)d->parent->index : -1);
    struct faults once = {d->w->radio.loss, 0, 0}; /* MAC repeats are not heard twice: same sequence number */
    packet_send(packet_new(d->w, request_heard, d->index, (struct span){0}), &once, 2);
    vhost_at(d->w->h, GIVE_UP_MS, no_response, d, d->attempt);
}

static void poll(void *user, uint64_t attempt)
{
    struct device *d = user;
    if (d->attempt != attempt || d->phase < PHASE_WAITING)
        return;
    bool heard = d->w->calm || !chance(d->w, d->w->radio.loss);
    if (heard && d->parent != NULL)
        router_poll(d->parent, d);
    else if (heard)
        gateway_poll(home(d), d->address);
    vhost_at(d->w->h, POLL_MS, poll, d, attempt);
}

static void no_key(void *user, uint64_t attempt) /* apsSecurityTimeOutPeriod */
{
    struct device *d = user;
    if (d->attempt == attempt && (d->phase == PHASE_WAITING || d->phase == PHASE_REJOINING))
        start_over(d, 1000 + draw(d->w, 2000));
}

static void rejoin_heard(struct packet *p)
{
    struct device *d = &p->w->devices[p->who];
    if (d->parent != NULL)
        router_rejoin(d->parent, d, false);
    else
        gateway_join(home(d), d->eui, d->capability, d->index, EGP_REJOIN_TRUST_CENTRE, span_of(p->bytes, p->n));
}

static void air_heard(struct packet *p);

static uint16_t parent_address(const struct device *d)
{
    return d->parent != NULL ? d->parent->address : 0x0000;
}

/* Under its network key, or bare (Zig 3.4.6). */
static void rejoin(struct device *d)
{
    uint8_t buf[ZB_NWK_MAX];
    const uint8_t command[] = {0x06, d->capability};
    bool secured = d->rejoin == REJOIN_SECURED;
    struct wr w = wr_of(buf, sizeof buf);
    choose_parent(d);
    const struct zb_nwk n = {.fcf = secured ? 0x1209 : 0x1009,
                             .dst = parent_address(d),
                             .src = d->address,
                             .radius = 1,
                             .seq = d->nwk_seq++,
                             .has_src64 = true,
                             .src64 = d->eui};
    trace(d->w, "device %u rejoins%s", d->index, secured ? " under its key" : "");
    d->phase = PHASE_REJOINING;
    if (!secured) {
        zb_nwk_build(&w, &n);
        wr_bytes(&w, command, sizeof command);
    } else if (zb_nwk_seal(d->w->crypto, d->key, &n, d->counter++, d->eui, d->key_seq, span_of(command, sizeof command),
                           &w) != ZB_OK) {
        abort();
    }
    const struct faults once = {d->w->radio.loss, 0, 0};
    packet_send(packet_new(d->w, secured ? air_heard : rejoin_heard, d->index, wr_span(&w)), &once, 2);
    vhost_at(d->w->h, d->key_timeout, no_key, d, d->attempt);
    if (d->sleepy)
        poll(d, d->attempt);
}

/* A rejoin that is not answered becomes one by the link key, and then a join from the beginning. */
static void come(void *user, uint64_t attempt)
{
    struct device *d = user;
    if (d->attempt != attempt)
        return;
    if (d->rejoin != REJOIN_NONE && d->rejoins++ == MAX_REJOINS) {
        enum rejoin next = d->rejoin == REJOIN_SECURED ? REJOIN_TRUST_CENTRE : REJOIN_NONE;
        if (next == REJOIN_NONE) {
            device_reset(d, 500);
            return;
        }
        d->rejoin = next;
        d->rejoins = 1;
    }
    if (d->rejoin == REJOIN_NONE)
        associate(d);
    else
        rejoin(d);
}

void device_associated(struct device *d, uint16_t address, bool refused)
{
    if (d->phase != PHASE_ASSOCIATING)
        return;
    if (refused) {
        d->refusals++;
        d->w->tally.refused++;
        start_over(d, 3000 + draw(d->w, 5000));
        return;
    }
    d->phase = PHASE_WAITING;
    d->address = d->addresses[d->naddresses++ % 16] = address;
    vhost_at(d->w->h, d->key_timeout, no_key, d, d->attempt);
    if (d->sleepy)
        poll(d, d->attempt);
}

/* --- sending ------------------------------------------------------------------------------------------------------ */

static void air_heard(struct packet *p)
{
    struct device *d = &p->w->devices[p->who];
    if (d->parent != NULL)
        router_hear(d->parent, d, span_of(p->bytes, p->n));
    else
        gateway_hear(home(d), d->address, d->eui, span_of(p->bytes, p->n));
    attacker_overhear(p->w, d->home, span_of(p->bytes, p->n));
}

void device_radiate(struct device *d, const struct zb_nwk *n, struct span payload)
{
    uint8_t buf[ZB_NWK_MAX];
    struct wr out = wr_of(buf, sizeof buf);
    if (zb_nwk_seal(d->w->crypto, d->key, n, d->counter++, d->eui, d->key_seq, payload, &out) != ZB_OK)
        abort();
    struct faults f = {d->w->radio.loss / 2, d->w->radio.twice, 0};
    packet_send(packet_new(d->w, air_heard, d->index, wr_span(&out)), &f, 3);
}

void device_send(struct device *d, struct span aps)
{
    device_radiate(d, &(struct zb_nwk){.fcf = 0x0248, .src = d->address, .radius = 30, .seq = d->nwk_seq++}, aps);
}

static void transmit(struct device *d, uint8_t endpoint, uint16_t cluster, struct span payload)
{
    uint8_t apsbuf[ZB_NWK_MAX];
    struct wr aps = wr_of(apsbuf, sizeof apsbuf);
    struct zb_aps a = {.fcf = ZB_APS_DATA,
                       .dst_endpoint = endpoint,
                       .src_endpoint = endpoint,
                       .counter = d->aps_counter++,
                       .cluster = cluster,
                       .profile = endpoint == 0 ? 0 : 0x0104};
    zb_aps_build(&aps, &a);
    wr_spanb(&aps, payload);
    device_send(d, wr_span(&aps));
}

/* Zig 3.4.4: "I leave, and will not be back". Half of the devices do not say it. */
void device_leave(struct device *d)
{
    if (chance(d->w, 500)) {
        oracle_left(d);
        device_radiate(d, &(struct zb_nwk){.fcf = 0x0209, .src = d->address, .radius = 1, .seq = d->nwk_seq++},
                       span_of("\x04\x00", 2));
    }
    d->w->tally.left++;
    device_reset(d, 1000 + draw(d->w, 2000));
}

void device_announce(struct device *d) /* Zig 2.4.3.1.11 */
{
    uint8_t buf[12];
    struct wr w = wr_of(buf, sizeof buf);
    wr_u8(&w, d->aps_counter);
    wr_le16(&w, d->address);
    wr_le64(&w, d->eui);
    wr_u8(&w, d->capability);
    transmit(d, 0, 0x0013, wr_span(&w));
}

void device_tick(void *user, uint64_t attempt)
{
    struct device *d = user;
    if (d->attempt != attempt || d->phase != PHASE_JOINED)
        return;
    transmit(d, 1, 0x0402, span_of("\x18\x01\x0a\x00\x00\x29\x34\x08", 8));
    vhost_at(d->w->h, d->w->calm ? 500 : d->period, device_tick, d, attempt);
}

/* --- receiving ---------------------------------------------------------------------------------------------------- */

/* NULL: the key is taken. What a strict joiner asks of its first Transport-Key (Zig 4.4.3.2, facts of real devices). */
static const char *take_key(struct device *d, struct span frame)
{
    struct zb_nwk n;
    struct zb_aps a;
    struct zb_aux aux;
    struct zb_cmd c;
    uint8_t buf[ZB_NWK_MAX];
    struct wr plain = wr_of(buf, sizeof buf);
    if (zb_nwk_parse(frame, &n) != ZB_OK || (n.fcf & ZB_FCF_SECURITY) != 0 || n.dst != d->address)
        return "not an unsecured frame to us";
    if (d->picky && (frame.n != FIRST_KEY_BYTES || n.fcf != 0x0008))
        return "not the plain form";
    if (n.payload.n < 3 || n.payload.p[0] != APS_COMMAND_SECURED || n.payload.p[2] != AUX_KEY_TRANSPORT)
        return "not secured with the key-transport key";
    if (zb_aps_open(d->w->crypto, d->link_key, n.payload, 0, &a, &aux, &plain) != ZB_OK)
        return "bad MIC";
    if (!zb_counter_ok(d->link_next, aux.counter))
        return "counter not fresh";
    if (zb_cmd_parse(wr_span(&plain), &c) != ZB_OK || c.id != ZB_TRANSPORT_KEY || c.key_type != ZB_KEYTYPE_NWK)
        return "no network key";
    if (c.dst != d->eui || c.src != aux.src64 || c.src != home(d)->eui)
        return "wrong addresses";
    d->link_next = aux.counter + 1;
    memcpy(d->key, c.key, ZB_KEY);
    d->key_seq = c.key_seq;
    return NULL;
}

static void joined(struct device *d)
{
    bool back = d->rejoin != REJOIN_NONE;
    d->phase = PHASE_JOINED;
    d->rejoin = REJOIN_NONE;
    if (back)
        d->w->tally.rejoined++;
    else
        d->w->tally.joined++;
    if (d->kind != KIND_GOOD && d->kind != KIND_EXPIRED)
        breach(d->w, "device %u (%s) has a key", d->index, kind_names[d->kind]);
    device_announce(d);
    vhost_at(d->w->h, 200, device_tick, d, d->attempt);
    if (!back)
        exchange_start(d);
}

/* --- what it hears ------------------------------------------------------------------------------------------------ */

static bool is_rejoin_response(const struct device *d, const struct zb_nwk *n, struct span command)
{
    return (n->fcf & ZB_FCF_TYPE) == ZB_NWK_COMMAND && n->has_dst64 && n->dst64 == d->eui && command.n == 4 &&
           command.p[0] == 0x07 && command.p[3] == 0;
}

static void hear_rejoin_response(struct device *d, struct span command)
{
    d->address = d->addresses[d->naddresses++ % 16] = (uint16_t)(command.p[1] | command.p[2] << 8);
    if (d->rejoin == REJOIN_SECURED)
        joined(d);
    else
        d->phase = PHASE_WAITING;
}

static const char *hear_nwk_command(struct device *d, const struct zb_nwk *n, struct span command)
{
    if (is_rejoin_response(d, n, command)) {
        if (d->phase != PHASE_REJOINING)
            return "a rejoin response that it does not wait for";
        hear_rejoin_response(d, command);
        return NULL;
    }
    if (command.n != 2 || command.p[0] != 0x04 || (command.p[1] & 0x40) == 0 || !n->has_dst64 || n->dst64 != d->eui)
        return "a command that it does not know";
    d->w->tally.left++;
    device_reset(d, 1000 + draw(d->w, 2000));
    return NULL;
}

static const char *hear_data(struct device *d, struct span plain)
{
    struct zb_aps a;
    if (d->phase != PHASE_JOINED || zb_aps_parse(plain, &a) != ZB_OK)
        return "not joined, or malformed";
    if ((a.fcf & 3u) == ZB_APS_COMMAND && !router_hear_command(d, plain))
        exchange_hear_command(d, plain);
    else if ((a.fcf & 3u) == ZB_APS_COMMAND)
        return NULL;
    else if (a.profile == 0)
        exchange_hear_zdp(d, &a);
    else
        d->heard++;
    return NULL;
}

static unsigned source_index(const struct device *d, eui64_t eui)
{
    for (unsigned i = 0; i < d->w->ndevices; i++)
        if (d->w->devices[i].eui == eui)
            return i;
    return MAX_DEVICES;
}

bool device_opens(struct device *d, struct span frame, eui64_t source, struct zb_nwk *n, struct wr *plain)
{
    struct zb_aux aux;
    if (zb_nwk_open(d->w->crypto, d->key, frame, n, &aux, plain) != ZB_OK || aux.src64 != source ||
        aux.key_seq != d->key_seq)
        return false;
    uint32_t *next = &d->peer_next[source_index(d, source)];
    if (!zb_counter_ok(*next, aux.counter))
        return false;
    *next = aux.counter + 1;
    return true;
}

static const char *hear_secured(struct device *d, struct span frame)
{
    struct zb_nwk n;
    uint8_t buf[ZB_NWK_MAX];
    struct wr plain = wr_of(buf, sizeof buf);
    if (!device_opens(d, frame, d->parent != NULL ? d->parent->eui : home(d)->eui, &n, &plain))
        return "bad MIC, source or key number, or the counter is not fresh";
    if (n.dst != d->address && router_open(d))
        return router_pass_down(d, &n, wr_span(&plain));
    return (n.fcf & ZB_FCF_TYPE) == ZB_NWK_COMMAND ? hear_nwk_command(d, &n, wr_span(&plain))
                                                   : hear_data(d, wr_span(&plain));
}

static const char *hear(struct device *d, struct span frame)
{
    struct zb_nwk n;
    if (zb_nwk_parse(frame, &n) != ZB_OK)
        return "malformed";
    bool secured = (n.fcf & ZB_FCF_SECURITY) != 0;
    if (d->phase == PHASE_WAITING) {
        const char *why = take_key(d, frame);
        if (why == NULL) {
            memset(d->peer_next, 0, sizeof d->peer_next);
            joined(d);
        }
        return why;
    }
    if (d->phase == PHASE_REJOINING && d->rejoin == REJOIN_TRUST_CENTRE) {
        if (secured || !is_rejoin_response(d, &n, n.payload))
            return "no rejoin response";
        hear_rejoin_response(d, n.payload);
        return NULL;
    }
    return secured ? hear_secured(d, frame) : "unsecured after joining";
}

void device_receive(struct device *d, struct span frame)
{
    if (d->phase < PHASE_WAITING)
        return;
    const char *why = hear(d, frame);
    trace(d->w, "device %u: %s", d->index, why == NULL ? "takes a frame" : why);
}
