/* The second exchange as a strict device does it (BDB 10.2.5): Node_Desc, Request-Key, Verify-Key; each three times,
 * five seconds apart; it leaves when one of them stays without its answer. */
#include "tests/schedules/model.h"

#include <stdlib.h>

#define START_MS 300
#define ANSWER_MS 5250 /* with the 250 ms of backing off */
#define TRIES 3
#define FIRST_REVISION 21

static void transmit_step(void *user, uint64_t wait);

static void step(struct device *d, enum step to, uint64_t in_ms)
{
    d->step = to;
    d->tries = 0;
    d->waits++;
    if (to != STEP_DONE)
        vhost_at(d->w->h, in_ms, transmit_step, d, d->waits);
}

void exchange_start(struct device *d)
{
    step(d, d->old ? STEP_DONE : STEP_NODE_DESC, START_MS);
}

/* --- sending ------------------------------------------------------------------------------------------------------ */

static void send_zdp(struct device *d, uint16_t cluster, struct span payload)
{
    uint8_t buf[ZB_NWK_MAX];
    struct wr w = wr_of(buf, sizeof buf);
    zb_aps_build(&w, &(struct zb_aps){.fcf = ZB_APS_DATA, .cluster = cluster, .counter = d->aps_counter++});
    wr_spanb(&w, payload);
    device_send(d, wr_span(&w));
}

static void request_key(struct device *d)
{
    uint8_t buf[2], aps[ZB_NWK_MAX];
    struct wr command = wr_of(buf, sizeof buf), w = wr_of(aps, sizeof aps);
    const struct zb_aps a = {.fcf = ZB_APS_COMMAND, .counter = d->aps_counter++};
    if (zb_cmd_build(&command, &(struct zb_cmd){.id = ZB_REQUEST_KEY, .key_type = ZB_KEYTYPE_TCLK}) != ZB_OK ||
        zb_aps_seal(d->w->crypto, d->link_key, &a, ZB_KEY_ID_DATA, d->link_counter++, d->eui, wr_span(&command), &w) !=
            ZB_OK)
        abort();
    device_send(d, wr_span(&w));
}

static void verify_key(struct device *d)
{
    uint8_t aps[ZB_NWK_MAX];
    struct wr w = wr_of(aps, sizeof aps);
    struct zb_cmd c = {.id = ZB_VERIFY_KEY, .key_type = ZB_KEYTYPE_TCLK, .src = d->eui};
    zb_aps_build(&w, &(struct zb_aps){.fcf = ZB_APS_COMMAND, .counter = d->aps_counter++});
    if (zb_derive(d->w->crypto, d->offered, ZB_KEY_VERIFY, c.key) != ZB_OK || zb_cmd_build(&w, &c) != ZB_OK)
        abort();
    device_send(d, wr_span(&w));
}

static void transmit_step(void *user, uint64_t wait)
{
    struct device *d = user;
    if (d->waits != wait || d->phase != PHASE_JOINED)
        return;
    if (d->tries++ == TRIES) {
        trace(d->w, "device %u: no answer in step %u", d->index, d->step);
        device_leave(d);
        return;
    }
    vhost_at(d->w->h, ANSWER_MS, transmit_step, d, wait);
    if (d->step == STEP_NODE_DESC)
        send_zdp(d, ZB_ZDP_NODE_DESC_REQ, span_of("\x01\x00\x00", 3));
    else if (d->step == STEP_REQUEST_KEY)
        request_key(d);
    else
        verify_key(d);
}

/* --- hearing ------------------------------------------------------------------------------------------------------ */

static void describe(struct device *d)
{
    uint8_t buf[20];
    struct wr w = wr_of(buf, sizeof buf);
    wr_bytes(&w, "\x01\x00", 2);
    wr_le16(&w, d->address);
    wr_bytes(&w, "\x02\x40\x80\x5f\x11\x52\x52\x00", 8);
    wr_le16(&w, d->old ? 0 : 22 << 9);
    wr_bytes(&w, "\x52\x00\x00", 3);
    send_zdp(d, ZB_ZDP_NODE_DESC_RSP, wr_span(&w));
}

void exchange_hear_zdp(struct device *d, const struct zb_aps *a)
{
    uint8_t revision;
    if (a->cluster == ZB_ZDP_NODE_DESC_REQ)
        describe(d);
    else if (a->cluster == ZB_ZDP_NODE_DESC_RSP && d->step == STEP_NODE_DESC &&
             zb_node_desc_revision(a->payload, 0x0000, &revision))
        step(d, revision >= FIRST_REVISION ? STEP_REQUEST_KEY : STEP_DONE, 0);
}

/* NULL: the key is taken, and then to be verified. */
static const char *take_link_key(struct device *d, const struct zb_cmd *c, const struct zb_aux *aux)
{
    if (c->id != ZB_TRANSPORT_KEY || c->key_type != ZB_KEYTYPE_TCLK || d->step < STEP_REQUEST_KEY)
        return "not the link key";
    if (!zb_counter_ok(d->link_next, aux->counter))
        return "counter not fresh";
    if (c->dst != d->eui || c->src != aux->src64 || memcmp(c->key, d->link_key, ZB_KEY) == 0)
        return "wrong addresses, or the key that it has";
    d->link_next = aux->counter + 1;
    if (d->step != STEP_REQUEST_KEY)
        return memcmp(c->key, d->offered, ZB_KEY) == 0 ? "the same key again" : "another key";
    memcpy(d->offered, c->key, ZB_KEY);
    d->offered_next = 0;
    step(d, STEP_VERIFY_KEY, 0);
    return NULL;
}

static const char *take_confirmation(struct device *d, const struct zb_cmd *c, const struct zb_aux *aux)
{
    if (c->id != ZB_CONFIRM_KEY || c->key_type != ZB_KEYTYPE_TCLK || c->dst != d->eui || c->status != 0)
        return "not a Confirm-Key";
    if (!zb_counter_ok(d->offered_next, aux->counter))
        return "counter not fresh";
    memcpy(d->link_key, d->offered, ZB_KEY);
    d->link_next = aux->counter + 1;
    d->link_counter = 0;
    d->w->tally.linked++;
    step(d, STEP_DONE, 0);
    return NULL;
}

static const char *take(struct device *d, struct span aps)
{
    struct zb_aps a;
    struct zb_aux aux;
    struct zb_cmd c;
    uint8_t buf[ZB_NWK_MAX];
    struct wr plain = wr_of(buf, sizeof buf);
    if (zb_aps_open(d->w->crypto, d->link_key, aps, 0, &a, &aux, &plain) == ZB_OK && aux.key_id == ZB_KEY_ID_LOAD)
        return zb_cmd_parse(wr_span(&plain), &c) == ZB_OK ? take_link_key(d, &c, &aux) : "malformed";
    plain = wr_of(buf, sizeof buf);
    if (d->step == STEP_VERIFY_KEY && zb_aps_open(d->w->crypto, d->offered, aps, 0, &a, &aux, &plain) == ZB_OK &&
        aux.key_id == ZB_KEY_ID_DATA)
        return zb_cmd_parse(wr_span(&plain), &c) == ZB_OK ? take_confirmation(d, &c, &aux) : "malformed";
    return "opens under no link key";
}

void exchange_hear_command(struct device *d, struct span aps)
{
    const char *why = take(d, aps);
    trace(d->w, "device %u: %s", d->index, why == NULL ? "goes on with the exchange" : why);
}
