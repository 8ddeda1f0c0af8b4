/* A strict Zigbee 3.0 end device: what it takes, and in which order, follows the clauses named; it knows its install
 * code and nothing else of the system. */
#include "tests/schedules/model.h"

#include <inttypes.h>
#include <stdlib.h>

#define FIRST_KEY_BYTES 62
#define APS_COMMAND_SECURED 0x21
#define AUX_KEY_TRANSPORT 0x30
#define POLL_MS 400
#define GIVE_UP_MS 3000

const char *const kind_names[KINDS] = {"good", "stranger", "wrong-code", "expired", "elsewhere", "foreign"};

static struct gateway *home(struct device *d)
{
    return &d->w->gateways[d->home];
}

/* --- association -------------------------------------------------------------------------------------------------- */

static void associate(void *user, uint64_t attempt);

static void start_over(struct device *d, uint64_t in_ms)
{
    d->phase = PHASE_OFF;
    d->attempt++;
    vhost_at(d->w->h, in_ms, associate, d, d->attempt);
}

/* A factory reset forgets keys and what was counted under them. */
void device_reset(struct device *d, uint64_t in_ms)
{
    d->link_next = 0;
    d->peer_next = 0;
    if (chance(d->w, 500))
        d->counter = 0;
    start_over(d, in_ms);
}

static void no_response(void *user, uint64_t attempt)
{
    struct device *d = user;
    if (d->attempt == attempt && d->phase == PHASE_ASSOCIATING)
        start_over(d, 1000 + draw(d->w, 2000));
}

static void request_heard(struct packet *p)
{
    struct device *d = &p->w->devices[p->who];
    gateway_join(home(d), d->eui, d->capability, d->index, EGP_ASSOCIATION, (struct span){0});
}

static void associate(void *user, uint64_t attempt)
{
    struct device *d = user;
    if (d->attempt != attempt)
        return;
    d->phase = PHASE_ASSOCIATING;
    trace(d->w, "device %u associates", d->index);
    struct faults once = {d->w->radio.loss, 0, 0}; /* MAC repeats are not heard twice: same sequence number */
    packet_send(packet_new(d->w, request_heard, d->index, (struct span){0}), &once, 2);
    vhost_at(d->w->h, GIVE_UP_MS, no_response, d, attempt);
}

static void poll(void *user, uint64_t attempt)
{
    struct device *d = user;
    if (d->attempt != attempt || d->phase < PHASE_WAITING)
        return;
    if (d->w->calm || !chance(d->w, d->w->radio.loss))
        gateway_poll(home(d), d->address);
    vhost_at(d->w->h, POLL_MS, poll, d, attempt);
}

static void no_key(void *user, uint64_t attempt) /* apsSecurityTimeOutPeriod */
{
    struct device *d = user;
    if (d->attempt == attempt && d->phase == PHASE_WAITING)
        start_over(d, 1000 + draw(d->w, 2000));
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
    d->address = address;
    vhost_at(d->w->h, d->key_timeout, no_key, d, d->attempt);
    if (d->sleepy)
        poll(d, d->attempt);
}

/* --- sending ------------------------------------------------------------------------------------------------------ */

static void air_heard(struct packet *p)
{
    struct device *d = &p->w->devices[p->who];
    gateway_hear(home(d), d->address, d->eui, span_of(p->bytes, p->n));
    attacker_overhear(p->w, d->home, span_of(p->bytes, p->n));
}

static void transmit(struct device *d, uint8_t endpoint, uint16_t cluster, struct span payload)
{
    uint8_t apsbuf[ZB_NWK_MAX], buf[ZB_NWK_MAX];
    struct wr aps = wr_of(apsbuf, sizeof apsbuf), out = wr_of(buf, sizeof buf);
    struct zb_aps a = {.fcf = ZB_APS_DATA,
                       .dst_endpoint = endpoint,
                       .src_endpoint = endpoint,
                       .counter = d->aps_counter++,
                       .cluster = cluster,
                       .profile = endpoint == 0 ? 0 : 0x0104};
    zb_aps_build(&aps, &a);
    wr_spanb(&aps, payload);
    struct zb_nwk n = {.fcf = 0x0248, .src = d->address, .radius = 30, .seq = d->nwk_seq++};
    if (zb_nwk_seal(d->w->crypto, d->key, &n, d->counter++, d->eui, d->key_seq, wr_span(&aps), &out) != ZB_OK)
        abort();
    struct faults f = {d->w->radio.loss / 2, d->w->radio.twice, 0};
    packet_send(packet_new(d->w, air_heard, d->index, wr_span(&out)), &f, 3);
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
    if (zb_aps_open(d->w->crypto, d->link_keys[0], n.payload, 0, &a, &aux, &plain) != ZB_OK)
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

static const char *take_command(struct device *d, struct span frame)
{
    struct zb_nwk n;
    struct zb_aux aux;
    uint8_t buf[ZB_NWK_MAX];
    struct wr plain = wr_of(buf, sizeof buf);
    if (zb_nwk_parse(frame, &n) != ZB_OK || (n.fcf & ZB_FCF_SECURITY) == 0)
        return "unsecured after joining";
    if (zb_nwk_open(d->w->crypto, d->key, frame, &n, &aux, &plain) != ZB_OK || aux.src64 != home(d)->eui)
        return "bad MIC or source";
    if (!zb_counter_ok(d->peer_next, aux.counter))
        return "counter not fresh";
    d->peer_next = aux.counter + 1;
    d->heard++;
    return NULL;
}

void device_receive(struct device *d, struct span frame)
{
    if (d->phase == PHASE_JOINED) {
        const char *why = take_command(d, frame);
        trace(d->w, "device %u: %s", d->index, why == NULL ? "obeys" : why);
        return;
    }
    if (d->phase != PHASE_WAITING)
        return;
    const char *why = take_key(d, frame);
    trace(d->w, "device %u: %s", d->index, why == NULL ? "joins" : why);
    if (why != NULL)
        return;
    d->phase = PHASE_JOINED;
    d->peer_next = 0;
    d->w->tally.joined++;
    if (d->kind != KIND_GOOD && d->kind != KIND_EXPIRED)
        breach(d->w, "device %u (%s) has a key", d->index, kind_names[d->kind]);
    device_announce(d);
    vhost_at(d->w->h, 200, device_tick, d, d->attempt);
}
