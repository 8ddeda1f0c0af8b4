#include "ipe-ni/gateway/outbound.h"

#include "cse-shim/base/map64.h"

#include <stdlib.h>
#include <sys/queue.h>

enum { PERSISTENCE_US = 7680000 /* 500 base superframes of 15.36 ms */, SOURCES = 4, BARE_WAITING = 4, BARE_IN_A_ROW = 2 };

/* Two queues for a next hop: anybody can have frames put into the one, so they do not hold up those in the other. */
enum lane { BARE /* association response, then without NWK security */, SECURED, LANES };

struct peer;

struct item {
    TAILQ_ENTRY(item) in_peer;
    TAILQ_ENTRY(item) in_time;
    struct peer *peer;
    enum { ASSOCIATION, NWK } kind;
    struct mac_addr dst;
    bool indirect, either, command, secured;
    uint32_t counter;
    eui64_t source;
    uint64_t expires;
    struct out_ticket ticket;
    unsigned tries;
    size_t n;
    uint8_t payload[EGP_MAX_NWK];
};

TAILQ_HEAD(item_list, item);

enum urgency { NOT_READY, NORMAL, URGENT, URGENCIES };

struct peer { /* a next hop */
    TAILQ_ENTRY(peer) in_ready; /* in the list of `ready` */
    TAILQ_ENTRY(peer) in_lru;
    uint16_t short_;
    eui64_t ext;                /* 0: not known */
    struct item_list lanes[LANES];
    size_t n[LANES], indirect;  /* items; of them indirect, one on the air included */
    unsigned bare;              /* bare frames put on the air while a secured one waited, since the last of those */
    enum urgency ready;
    bool polled, flying, marked;
    struct {
        eui64_t source;
        uint32_t last;          /* counter last put on the air */
    } order[SOURCES];
    unsigned sources;
};

TAILQ_HEAD(peer_list, peer);

struct outbound {
    struct out_config cfg;
    struct map64 *by_short, *by_ext;
    struct peer_list ready[URGENCIES];    /* peers whose head may go now */
    struct peer_list lru;                 /* least recently used first */
    struct item_list time;                /* all items, soonest to expire first */
    sd_event_source *timer;
    size_t waiting;
    struct item *flying;
    bool on_air;                          /* the radio is busy, with `flying` or a beacon */
    bool beacon_waits;
    struct mac_beacon beacon;
    uint8_t dsn, bsn;
};

/* --- peers -------------------------------------------------------------------------------------------------------- */
static void peer_free(struct outbound *o, struct peer *p)
{
    map64_del(o->by_short, p->short_);
    if (p->ext != 0 && map64_get(o->by_ext, p->ext) == p)
        map64_del(o->by_ext, p->ext);
    TAILQ_REMOVE(&o->lru, p, in_lru);
    free(p);
}

static bool peer_make_room(struct outbound *o)
{
    if (map64_count(o->by_short) < o->cfg.max_peers)
        return true;
    struct peer *p;
    TAILQ_FOREACH(p, &o->lru, in_lru)
        if (p->n[BARE] + p->n[SECURED] == 0 && !p->flying) {
            peer_free(o, p);
            return true;
        }
    return false;
}

/* The radio's frame-pending table says whether indirect frames wait, under both of the peer's addresses. */
static void peer_mark(struct outbound *o, struct peer *p, bool on)
{
    if (p->marked == on)
        return;
    p->marked = on;
    radio_pending(o->cfg.radio, &(struct mac_addr){.mode = MAC_SHORT, .short_ = p->short_}, on);
    if (p->ext != 0)
        radio_pending(o->cfg.radio, &(struct mac_addr){.mode = MAC_EXT, .ext = p->ext}, on);
}

/* The item that may go now; NULL: none. A key goes first, also behind the response to its association. */
static struct item *peer_next(const struct peer *p)
{
    for (int turn = 0; turn < LANES && !p->flying; turn++) {
        struct item *head = TAILQ_FIRST(&p->lanes[(turn == 0) == (p->bare < BARE_IN_A_ROW) ? BARE : SECURED]);
        if (head != NULL && (!head->indirect || p->polled))
            return head;
    }
    return NULL;
}

/* Bring the peer's place in the ready lists and the radio's table in line with its queues. */
static void peer_update(struct outbound *o, struct peer *p)
{
    const struct item *next = peer_next(p);
    enum urgency want = next == NULL ? NOT_READY : next->indirect || !next->secured ? URGENT : NORMAL;
    if (want != p->ready) {
        if (p->ready != NOT_READY)
            TAILQ_REMOVE(&o->ready[p->ready], p, in_ready);
        if (want != NOT_READY)
            TAILQ_INSERT_TAIL(&o->ready[want], p, in_ready);
        p->ready = want;
    }
    peer_mark(o, p, p->indirect != 0);
}

static bool peer_name(struct outbound *o, struct peer *p, eui64_t ext)
{
    if (ext == 0 || ext == p->ext)
        return true;
    peer_mark(o, p, false);
    if (p->ext != 0 && map64_get(o->by_ext, p->ext) == p)
        map64_del(o->by_ext, p->ext);
    p->ext = ext;
    peer_mark(o, p, p->indirect != 0);
    return map64_put(o->by_ext, ext, p);
}

static struct peer *peer_get(struct outbound *o, uint16_t short_, eui64_t ext)
{
    struct peer *p = map64_get(o->by_short, short_);
    if (p != NULL) {
        TAILQ_REMOVE(&o->lru, p, in_lru);
    } else {
        if (!peer_make_room(o) || (p = calloc(1, sizeof *p)) == NULL)
            return NULL;
        if (!map64_put(o->by_short, short_, p)) {
            free(p);
            return NULL;
        }
        p->short_ = short_;
        TAILQ_INIT(&p->lanes[BARE]);
        TAILQ_INIT(&p->lanes[SECURED]);
    }
    TAILQ_INSERT_TAIL(&o->lru, p, in_lru);
    return peer_name(o, p, ext) ? p : NULL;
}

/* --- items -------------------------------------------------------------------------------------------------------- */
static void arm_timer(struct outbound *o)
{
    const struct item *first = TAILQ_FIRST(&o->time);
    if (first != NULL)
        sd_event_source_set_time(o->timer, first->expires);
    sd_event_source_set_enabled(o->timer, first != NULL ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

/* A new item of the peer, not yet in its queue. NULL: no room. */
static struct item *item_new(struct outbound *o, struct peer *p, enum lane lane, bool indirect, struct span payload)
{
    uint64_t now;
    struct item *i = p->n[lane] < o->cfg.max_per_peer && payload.n <= sizeof i->payload ? calloc(1, sizeof *i) : NULL;
    if (i == NULL || sd_event_now(o->cfg.loop, CLOCK_MONOTONIC, &now) < 0) {
        free(i);
        return NULL;
    }
    i->peer = p;
    i->secured = lane == SECURED;
    i->indirect = indirect;
    i->expires = now + PERSISTENCE_US;
    i->n = payload.n;
    if (payload.n != 0)
        memcpy(i->payload, payload.p, payload.n);
    TAILQ_INSERT_TAIL(&o->time, i, in_time);
    arm_timer(o);
    o->waiting++;
    p->n[lane]++;
    p->indirect += indirect;
    return i;
}

static enum lane lane_of(const struct item *i) { return i->secured ? SECURED : BARE; }

/* An item that is on no list any more is over. */
static void item_end(struct outbound *o, struct item *i, enum egp_tx result)
{
    o->waiting--;
    i->peer->n[lane_of(i)]--;
    i->peer->indirect -= i->indirect;
    peer_update(o, i->peer);
    if (i->kind == ASSOCIATION)
        o->cfg.associated(o->cfg.user, i->ticket.device, result == EGP_TX_ACKED);
    else
        o->cfg.done(o->cfg.user, &i->ticket, result, i->tries);
    free(i);
}

static void item_unlist(struct outbound *o, struct item *i)
{
    TAILQ_REMOVE(&i->peer->lanes[lane_of(i)], i, in_peer);
    TAILQ_REMOVE(&o->time, i, in_time);
    arm_timer(o);
}

static void item_cancel(struct outbound *o, struct item *i)
{
    item_unlist(o, i);
    item_end(o, i, EGP_TX_EXPIRED);
}

/* --- order -------------------------------------------------------------------------------------------------------- */
static bool order_last(const struct peer *p, eui64_t source, uint32_t *last)
{
    for (unsigned i = 0; i < p->sources; i++)
        if (p->order[i].source == source) {
            *last = p->order[i].last;
            return true;
        }
    return false;
}

static void order_note(struct peer *p, eui64_t source, uint32_t counter)
{
    unsigned i = 0;
    while (i < p->sources && p->order[i].source != source)
        i++;
    if (i == SOURCES) { /* forget the oldest */
        memmove(p->order, p->order + 1, (SOURCES - 1) * sizeof *p->order);
        p->sources = --i;
    }
    if (i == p->sources) { /* what stands there was forgotten */
        p->sources++;
        p->order[i].source = source;
        p->order[i].last = counter;
    } else if (p->order[i].last < counter) {
        p->order[i].last = counter;
    }
}

/* Secured frames of one source by counter, else in the order of arrival. */
static void insert_in_order(struct peer *p, struct item *i)
{
    struct item_list *lane = &p->lanes[lane_of(i)];
    struct item *before = TAILQ_LAST(lane, item_list);
    while (before != NULL && i->secured && before->source == i->source && before->counter > i->counter)
        before = TAILQ_PREV(before, item_list, in_peer);
    if (before == NULL)
        TAILQ_INSERT_HEAD(lane, i, in_peer);
    else
        TAILQ_INSERT_AFTER(lane, before, i, in_peer);
}

static bool counter_waits(const struct peer *p, eui64_t source, uint32_t counter)
{
    const struct item *i;
    TAILQ_FOREACH(i, &p->lanes[SECURED], in_peer)
        if (i->source == source && i->counter == counter)
            return true;
    return false;
}

/* --- the air ------------------------------------------------------------------------------------------------------ */
static struct mac_addr our_address(const struct outbound *o, uint8_t mode)
{
    return (struct mac_addr){mode, o->cfg.net.pan, o->cfg.net.short_, o->cfg.net.ext};
}

static bool transmit(struct outbound *o, const struct mac_frame *f)
{
    uint8_t buf[MAC_MAX_FRAME];
    struct wr w = wr_of(buf, sizeof buf);
    mac_build(&w, f);
    o->on_air = wr_ok(&w) && radio_tx(o->cfg.radio, wr_span(&w));
    return o->on_air;
}

static void transmit_beacon(struct outbound *o)
{
    uint8_t buf[32];
    struct wr w = wr_of(buf, sizeof buf);
    mac_beacon_payload(&w, &o->beacon);
    o->beacon_waits = false;
    transmit(o, &(struct mac_frame){
                    .type = MAC_BEACON, .seq = o->bsn++, .src = our_address(o, MAC_SHORT), .payload = wr_span(&w)});
}

static void transmit_next(struct outbound *o, struct peer *p)
{
    struct item *i = peer_next(p);
    if (i == NULL) { /* then it should not be on a list of ready ones */
        peer_update(o, p);
        return;
    }
    struct mac_frame f = {
        .type = i->kind == ASSOCIATION ? MAC_COMMAND : MAC_DATA,
        .pending = i->indirect && p->indirect > 1, /* 7.2.1.1.3: more waits */
        .ack_request = i->dst.mode == MAC_EXT || i->dst.short_ != MAC_BROADCAST,
        .seq = o->dsn++,
        .dst = i->dst,
        .src = our_address(o, i->kind == ASSOCIATION ? MAC_EXT : MAC_SHORT),
        .payload = span_of(i->payload, i->n),
    };
    item_unlist(o, i);
    p->polled = false;
    p->bare = i->secured || TAILQ_EMPTY(&p->lanes[SECURED]) ? 0 : p->bare + 1;
    if (!transmit(o, &f)) {
        item_end(o, i, EGP_TX_CHANNEL_BUSY);
        return;
    }
    if (i->secured)
        order_note(p, i->source, i->counter);
    o->flying = i;
    p->flying = true;
    peer_update(o, p);
}

static void pump(struct outbound *o)
{
    while (!o->on_air) {
        struct peer *p = TAILQ_FIRST(&o->ready[URGENT]);
        if (p == NULL && o->beacon_waits) {
            transmit_beacon(o);
            continue;
        }
        if (p == NULL)
            p = TAILQ_FIRST(&o->ready[NORMAL]);
        if (p == NULL)
            return;
        transmit_next(o, p);
    }
}

/* 7.5.6.4.3: an indirect frame without acknowledgement waits for the next poll; the radio has retried a direct one. */
static void requeue(struct outbound *o, struct item *i)
{
    struct item *after;
    i->peer->indirect += !i->indirect;
    i->indirect = true;
    TAILQ_INSERT_HEAD(&i->peer->lanes[lane_of(i)], i, in_peer);
    TAILQ_FOREACH(after, &o->time, in_time)
        if (after->expires >= i->expires)
            break;
    if (after != NULL)
        TAILQ_INSERT_BEFORE(after, i, in_time);
    else
        TAILQ_INSERT_TAIL(&o->time, i, in_time);
    arm_timer(o);
    peer_update(o, i->peer);
}

void outbound_tx_done(struct outbound *o, enum radio_tx result, unsigned tries)
{
    struct item *i = o->flying;
    o->on_air = false;
    o->flying = NULL;
    if (i != NULL) {
        struct peer *p = i->peer;
        p->flying = false;
        i->tries += tries;
        if (result == RADIO_NO_ACK && (i->indirect || i->either))
            requeue(o, i);
        else
            item_end(o, i,
                     result == RADIO_SENT     ? EGP_TX_ACKED
                     : result == RADIO_NO_ACK ? EGP_TX_NO_ACK
                                              : EGP_TX_CHANNEL_BUSY);
    }
    pump(o);
}

/* --- what the gateway asks for ------------------------------------------------------------------------------------ */
bool outbound_beacon(struct outbound *o, const struct mac_beacon *b)
{
    if (o->beacon_waits)
        return false;
    o->beacon = *b;
    o->beacon_waits = true;
    pump(o);
    return true;
}

static void association_payload(struct item *i, uint16_t short_, enum mac_associated status)
{
    struct wr w = wr_of(i->payload, sizeof i->payload);
    mac_association_response(&w, status == MAC_ASSOC_OK ? short_ : MAC_BROADCAST, status);
    i->n = w.n;
}

void outbound_association_status(struct outbound *o, uint16_t short_, enum mac_associated status)
{
    const struct peer *p = map64_get(o->by_short, short_);
    struct item *i = p != NULL ? TAILQ_FIRST(&p->lanes[BARE]) : NULL;
    if (i != NULL && i->kind == ASSOCIATION)
        association_payload(i, short_, status);
}

bool outbound_association(struct outbound *o, eui64_t device, uint16_t short_, enum mac_associated status)
{
    struct peer *p = peer_get(o, short_, device);
    struct item *i = p != NULL ? TAILQ_FIRST(&p->lanes[BARE]) : NULL;
    if (i == NULL || i->kind != ASSOCIATION) {
        i = p != NULL ? item_new(o, p, BARE, true, span_of(NULL, 0)) : NULL;
        if (i == NULL)
            return false;
        i->kind = ASSOCIATION;
        i->dst = (struct mac_addr){.mode = MAC_EXT, .pan = o->cfg.net.pan, .ext = device};
        i->ticket.device = device;
        TAILQ_INSERT_HEAD(&p->lanes[BARE], i, in_peer);
    }
    association_payload(i, short_, status);
    peer_update(o, p);
    return true;
}

/* Of frames that anybody can have sent the newest are kept. */
static void make_room_for_bare(struct outbound *o, struct peer *p)
{
    struct item *i;
    if (p->n[BARE] < BARE_WAITING && p->n[BARE] < o->cfg.max_per_peer)
        return;
    TAILQ_FOREACH(i, &p->lanes[BARE], in_peer)
        if (i->kind == NWK)
            break;
    if (i != NULL)
        item_cancel(o, i);
}

enum out_queued outbound_nwk(struct outbound *o, const struct out_nwk *f, uint32_t *last)
{
    struct peer *p = peer_get(o, f->hop, f->ext);
    if (p == NULL)
        return OUT_FULL;
    if (f->secured && ((order_last(p, f->source, last) && f->counter <= *last) ||
                       counter_waits(p, f->source, *last = f->counter)))
        return OUT_STALE;
    if (!f->secured)
        make_room_for_bare(o, p);
    struct item *i = item_new(o, p, f->secured ? SECURED : BARE, f->indirect, f->frame);
    if (i == NULL)
        return OUT_FULL;
    i->kind = NWK;
    i->dst = (struct mac_addr){.mode = MAC_SHORT,
                               .pan = o->cfg.net.pan,
                               .short_ = f->broadcast && !f->indirect ? MAC_BROADCAST : f->hop};
    i->either = f->either;
    i->command = f->command;
    i->counter = f->counter;
    i->source = f->source;
    i->ticket = f->ticket;
    insert_in_order(p, i);
    peer_update(o, p);
    pump(o);
    return OUT_QUEUED;
}

void outbound_poll(struct outbound *o, const struct mac_addr *who)
{
    struct peer *p = who->mode == MAC_SHORT ? map64_get(o->by_short, who->short_) : map64_get(o->by_ext, who->ext);
    if (p == NULL || p->indirect == 0)
        return;
    p->polled = true;
    peer_update(o, p);
    pump(o);
}

static struct peer *drop(struct outbound *o, uint16_t hop, bool (*unwanted)(const struct item *i))
{
    struct peer *p = map64_get(o->by_short, hop);
    struct item *i, *next;
    for (int lane = 0; p != NULL && lane < LANES; lane++)
        for (i = TAILQ_FIRST(&p->lanes[lane]); i != NULL; i = next) {
            next = TAILQ_NEXT(i, in_peer);
            if (unwanted(i))
                item_cancel(o, i);
        }
    return p;
}

static bool is_any(const struct item *i) { return i != NULL; }
static bool is_secured(const struct item *i) { return i->secured; }
static bool is_no_command(const struct item *i) { return !i->secured || !i->command; }

void outbound_drop(struct outbound *o, uint16_t hop)
{
    struct peer *p = drop(o, hop, is_any);
    if (p != NULL)
        p->sources = 0;
}

void outbound_rekeyed(struct outbound *o, uint16_t hop)
{
    struct peer *p = drop(o, hop, is_secured);
    if (p != NULL)
        p->sources = 0;
}

void outbound_revoked(struct outbound *o, uint16_t hop) { (void)drop(o, hop, is_no_command); }

size_t outbound_waiting(const struct outbound *o) { return o->waiting; }

static int on_expiry(sd_event_source *s, uint64_t now, void *user)
{
    (void)s;
    struct outbound *o = user;
    struct item *i;
    while ((i = TAILQ_FIRST(&o->time)) != NULL && i->expires <= now)
        item_cancel(o, i);
    pump(o); /* what stood behind them may go */
    return 0;
}

struct outbound *outbound_new(const struct out_config *cfg)
{
    struct outbound *o = calloc(1, sizeof *o);
    if (o == NULL)
        return NULL;
    o->cfg = *cfg;
    o->by_short = map64_new();
    o->by_ext = map64_new();
    for (int u = 0; u < URGENCIES; u++)
        TAILQ_INIT(&o->ready[u]);
    TAILQ_INIT(&o->lru);
    TAILQ_INIT(&o->time);
    if (o->by_short != NULL && o->by_ext != NULL &&
        sd_event_add_time(cfg->loop, &o->timer, CLOCK_MONOTONIC, 0, 1000, on_expiry, o) >= 0 &&
        sd_event_source_set_enabled(o->timer, SD_EVENT_OFF) >= 0)
        return o;
    outbound_free(o);
    return NULL;
}

void outbound_free(struct outbound *o)
{
    struct peer *p;
    struct item *i;
    if (o == NULL)
        return;
    free(o->flying);
    while ((p = TAILQ_FIRST(&o->lru)) != NULL) {
        for (int lane = 0; lane < LANES; lane++)
            while ((i = TAILQ_FIRST(&p->lanes[lane])) != NULL) {
                TAILQ_REMOVE(&p->lanes[lane], i, in_peer);
                free(i);
            }
        peer_free(o, p);
    }
    sd_event_source_disable_unref(o->timer);
    map64_free(o->by_short);
    map64_free(o->by_ext);
    free(o);
}
