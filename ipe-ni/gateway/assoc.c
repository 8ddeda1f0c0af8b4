#include "ipe-ni/gateway/assoc.h"

#include "cse-shim/base/log.h"
#include "cse-shim/base/map64.h"

#include <stdlib.h>
#include <sys/queue.h>
#include <sys/random.h>

enum {
    FIRST_REPEAT_US = 300000, /* then twice that, then: */
    LAST_REPEAT_US = 1000000,
    GIVE_UP_US = 5000000,      /* no stack waits longer for its key */
    DISPUTED_US = 7680000,     /* what is sent for a request may wait for so long */
    SAME_REQUEST_US = 1000000  /* a request with the same number within this is a repetition by the MAC */
};
#define LAST_SHORT 0xfff7 /* Zig 3.6.1.9 */
#define MAX_REJOIN 32 /* bytes of a bare Rejoin Request: header with both extended addresses, and two */

struct device;

/* An EgRequest under way, as it was sent first. Requests in the device's name that come meanwhile begin no other one: the
 * answer to this one is for it as well. */
struct asking {
    TAILQ_ENTRY(asking) in_asked; /* when `on` */
    struct device *device;
    bool on;
    uint64_t transaction, heard, next, wait;
    uint16_t short_;
    uint8_t capability;
    int8_t rssi;
    uint8_t n, frame[MAX_REJOIN]; /* by which it asks to rejoin; none: it associates */
};

enum { BY_ASSOCIATION, BY_REJOIN, WAYS }; /* a request of one kind does nothing to one of the other */
enum { POLLS, HEARS, CLAIMS };

struct device {
    TAILQ_ENTRY(device) in_age; /* approved or not: least recently heard first */
    eui64_t eui;
    uint16_t short_;          /* given here, or told by the EG; 0: none yet */
    bool located;             /* the EG has told it: requests that say otherwise are not the device's */
    uint8_t last_seq;
    bool approved;            /* the EG gave it a key, or said it has one */
    bool barred;              /* the EG said revoked or expired: refused unless the EG answers otherwise in time */
    enum egp_device_state state; /* last told */
    uint64_t heard;           /* last association request, us */
    uint64_t claimed[CLAIMS]; /* when somebody said last that it polls, or that it hears without; 0: never */
    struct asking asking[WAYS];
};

TAILQ_HEAD(device_list, device);
TAILQ_HEAD(asked_list, asking);

struct assoc {
    struct assoc_config cfg;
    struct map64 *by_eui, *by_short;
    struct device_list age[2]; /* [approved] */
    struct asked_list asked;
    sd_event_source *timer;
    uint64_t transaction;
};

/* --- devices ------------------------------------------------------------------------------------------------------ */
static uint64_t now_us(const struct assoc *a)
{
    uint64_t now = 0;
    (void)sd_event_now(a->cfg.loop, CLOCK_MONOTONIC, &now);
    return now;
}

static void ask_end(struct assoc *a, struct asking *x)
{
    if (x->on)
        TAILQ_REMOVE(&a->asked, x, in_asked);
    x->on = false;
}

static void device_free(struct assoc *a, struct device *d)
{
    for (int way = 0; way < WAYS; way++)
        ask_end(a, &d->asking[way]);
    if (d->short_ != 0) {
        outbound_drop(a->cfg.out, d->short_);
        map64_del(a->by_short, d->short_);
    }
    map64_del(a->by_eui, d->eui);
    TAILQ_REMOVE(&a->age[d->approved], d, in_age);
    free(d);
}

static void device_age(struct assoc *a, struct device *d, bool approved)
{
    bool change = d->approved != approved;
    TAILQ_REMOVE(&a->age[d->approved], d, in_age);
    d->approved = approved;
    TAILQ_INSERT_TAIL(&a->age[approved], d, in_age);
    if (change)
        a->cfg.changed(a->cfg.user);
}

/* A random address that is free, ours and the reserved ones excepted; of one that was heard, a router's child may have it
 * (a stranger can claim any, so that this is no more than a preference). */
static bool pick_short(const struct assoc *a, uint16_t *out)
{
    for (int tries = 0; tries < 1000; tries++) {
        if (getrandom(out, sizeof *out, 0) != sizeof *out)
            return false;
        bool free_ = *out != 0 && *out <= LAST_SHORT && *out != a->cfg.short_ && map64_get(a->by_short, *out) == NULL;
        if (free_ && (tries >= 100 || !a->cfg.heard(a->cfg.user, *out)))
            return true;
    }
    return false;
}

static bool device_place(struct assoc *a, struct device *d, uint16_t short_)
{
    if (!map64_put(a->by_short, short_, d))
        return false;
    if (d->short_ != 0)
        map64_del(a->by_short, d->short_);
    d->short_ = short_;
    return true;
}

/* Into the table, without an address. NULL: no room. */
static struct device *device_new(struct assoc *a, eui64_t eui)
{
    struct device *oldest = TAILQ_FIRST(&a->age[false]);
    if (map64_count(a->by_eui) >= a->cfg.max_devices) {
        if (oldest == NULL)
            return NULL;
        device_free(a, oldest);
    }
    struct device *d = calloc(1, sizeof *d);
    if (d == NULL || !map64_put(a->by_eui, eui, d)) {
        free(d);
        return NULL;
    }
    d->eui = eui;
    for (int way = 0; way < WAYS; way++)
        d->asking[way].device = d;
    TAILQ_INSERT_TAIL(&a->age[false], d, in_age);
    return d;
}

/* The device, which has an address at least when it is done. NULL: no room. */
static struct device *device_with_address(struct assoc *a, eui64_t eui)
{
    struct device *d = map64_get(a->by_eui, eui);
    uint16_t short_;
    if (d == NULL)
        d = device_new(a, eui);
    return d != NULL && (d->short_ != 0 || (pick_short(a, &short_) && device_place(a, d, short_))) ? d : NULL;
}

/* The EG's word is worth more than an address that was given and of which nothing came; who has that gets another one. */
static void device_locate(struct assoc *a, struct device *d, uint16_t short_)
{
    struct device *other = map64_get(a->by_short, short_);
    if (short_ == 0 || short_ > LAST_SHORT || (other != NULL && other != d && other->located))
        return;
    if (other != d && device_place(a, d, short_)) {
        if (other != NULL)
            other->short_ = 0;
        a->cfg.changed(a->cfg.user);
    }
    d->located = d->short_ == short_;
}

/* --- asking the EG ------------------------------------------------------------------------------------------------ */
static void ask(struct assoc *a, const struct asking *x)
{
    struct egp_request req = {
        .gateway_short = a->cfg.short_,
        .device_short = x->short_,
        .pan_id = a->cfg.pan,
        .parent_short = a->cfg.short_,
        .capability = x->capability,
        .join = x->n != 0 ? EGP_REJOIN_TRUST_CENTRE : EGP_ASSOCIATION,
        .nwk_frame = span_of(x->frame, x->n),
    };
    a->cfg.ask(a->cfg.user, x->device->eui, x->transaction, x->rssi, &req);
}

static void arm_timer(struct assoc *a)
{
    uint64_t soonest = UINT64_MAX;
    const struct asking *x;
    TAILQ_FOREACH(x, &a->asked, in_asked)
        if (x->next < soonest)
            soonest = x->next;
    if (soonest != UINT64_MAX)
        sd_event_source_set_time(a->timer, soonest);
    sd_event_source_set_enabled(a->timer, soonest != UINT64_MAX ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

/* Ask, or go on asking, as for a request that was heard now. The frame has room. */
static void ask_begin(struct assoc *a, struct asking *x, const struct assoc_rejoin *r)
{
    uint64_t now = now_us(a);
    bool on = x->on;
    x->heard = now;
    x->wait = FIRST_REPEAT_US;
    x->next = on && x->next < now + x->wait ? x->next : now + x->wait;
    if (!on) {
        x->on = true;
        x->transaction = a->transaction++;
        x->short_ = r->short_;
        x->capability = r->capability;
        x->rssi = r->rssi;
        x->n = (uint8_t)r->frame.n;
        if (x->n != 0)
            memcpy(x->frame, r->frame.p, x->n);
        TAILQ_INSERT_TAIL(&a->asked, x, in_asked);
        ask(a, x);
    }
    arm_timer(a);
}

static int on_repeat(sd_event_source *s, uint64_t now, void *user)
{
    (void)s;
    struct assoc *a = user;
    struct asking *x, *next;
    for (x = TAILQ_FIRST(&a->asked); x != NULL; x = next) {
        next = TAILQ_NEXT(x, in_asked);
        if (x->next > now)
            continue;
        if (now - x->heard >= GIVE_UP_US) {
            log_event(LOG_WARN, "assoc.unanswered", "eui64=%016llx", (unsigned long long)x->device->eui);
            ask_end(a, x);
            continue;
        }
        x->wait = x->wait * 2 < LAST_REPEAT_US ? x->wait * 2 : LAST_REPEAT_US;
        x->next += x->wait;
        ask(a, x);
    }
    arm_timer(a);
    return 0;
}

/* --- events ------------------------------------------------------------------------------------------------------- */
static void respond(struct assoc *a, const struct device *d, enum mac_associated status)
{
    if (!outbound_association(a->cfg.out, d->eui, d->short_, status))
        log_event(LOG_WARN, "assoc.no-room", "eui64=%016llx", (unsigned long long)d->eui);
}

/* Anybody may say it. */
static void claim(struct device *d, uint8_t capability, uint64_t now)
{
    d->claimed[capability & MAC_CAP_RX_ON ? HEARS : POLLS] = now;
}

bool assoc_disputed(const struct assoc *a, eui64_t device)
{
    const struct device *d = map64_get(a->by_eui, device);
    uint64_t now = now_us(a);
    for (int i = 0; i < CLAIMS; i++)
        if (d == NULL || d->claimed[i] == 0 || now - d->claimed[i] > DISPUTED_US)
            return false;
    return true;
}

void assoc_request(struct assoc *a, eui64_t device, uint8_t capability, uint8_t seq, int8_t rssi)
{
    uint64_t now = now_us(a);
    const struct device *known = map64_get(a->by_eui, device);
    if (known != NULL && known->heard != 0 && known->last_seq == seq && now - known->heard < SAME_REQUEST_US)
        return;
    struct device *d = device_with_address(a, device);
    if (d == NULL) {
        log_event(LOG_WARN, "assoc.full", "eui64=%016llx devices=%zu", (unsigned long long)device,
                  map64_count(a->by_eui));
        return;
    }
    d->last_seq = seq;
    d->heard = now;
    claim(d, capability, now);
    device_age(a, d, d->approved);
    log_event(LOG_INFO, "assoc.request", "eui64=%016llx short=%04x capability=%02x", (unsigned long long)device,
              d->short_, capability);
    respond(a, d, d->barred ? MAC_ASSOC_DENIED : MAC_ASSOC_OK);
    ask_begin(a, &d->asking[BY_ASSOCIATION],
              &(struct assoc_rejoin){.short_ = d->short_, .capability = capability, .rssi = rssi});
}

void assoc_rejoin(struct assoc *a, const struct assoc_rejoin *r)
{
    struct device *d = map64_get(a->by_eui, r->device);
    bool good = r->short_ != 0 && r->short_ <= LAST_SHORT && r->frame.n <= MAX_REJOIN;
    if (good && d == NULL)
        d = device_new(a, r->device);
    if (!good || d == NULL || (d->located && d->short_ != r->short_)) {
        log_event(LOG_INFO, "rejoin.ignored", "eui64=%016llx short=%04x", (unsigned long long)r->device, r->short_);
        return;
    }
    claim(d, r->capability, now_us(a));
    log_event(LOG_INFO, "rejoin.request", "eui64=%016llx short=%04x", (unsigned long long)r->device, r->short_);
    ask_begin(a, &d->asking[BY_REJOIN], r);
}

bool assoc_answer(struct assoc *a, eui64_t device, uint64_t transaction, enum egp_reason reason)
{
    struct device *d = map64_get(a->by_eui, device);
    int way = 0;
    while (d != NULL && way < WAYS && !(d->asking[way].on && d->asking[way].transaction == transaction))
        way++;
    if (d == NULL || way == WAYS)
        return false;
    ask_end(a, &d->asking[way]);
    arm_timer(a);
    if (reason == EGP_RATE_LIMITED || reason == EGP_UNAVAILABLE)
        return true; /* no word on the device */
    if (reason == EGP_OK)
        device_age(a, d, true);
    if (way != BY_ASSOCIATION)
        return true;
    d->barred = false;
    /* Too late when the device has polled already: then nothing follows its association, and it gives up by itself. */
    outbound_association_status(a->cfg.out, d->short_, reason == EGP_OK ? MAC_ASSOC_OK : MAC_ASSOC_DENIED);
    return true;
}

bool assoc_state(struct assoc *a, eui64_t device, enum egp_device_state state, uint16_t short_)
{
    struct device *d = map64_get(a->by_eui, device);
    bool proved = state == EGP_ST_JOINING || state == EGP_ST_ENROLLED;
    if (d == NULL && proved)
        d = device_new(a, device);
    if (d == NULL)
        return false;
    if (proved)
        device_locate(a, d, short_);
    if (state == EGP_ST_JOINING && d->state != EGP_ST_JOINING)
        outbound_rekeyed(a->cfg.out, d->short_);
    d->state = state;
    d->barred = state == EGP_ST_REVOKED || state == EGP_ST_EXPIRED;
    if (d->barred) {
        for (int way = 0; way < WAYS; way++)
            ask_end(a, &d->asking[way]);
        arm_timer(a);
        outbound_revoked(a->cfg.out, d->short_);
    }
    device_age(a, d, proved || state == EGP_ST_KEY_SENT);
    return true;
}

eui64_t assoc_device(const struct assoc *a, uint16_t short_)
{
    const struct device *d = map64_get(a->by_short, short_);
    return d != NULL ? d->eui : 0;
}

void assoc_each(const struct assoc *a, void (*fn)(void *user, eui64_t device, uint16_t short_), void *user)
{
    const struct device *d;
    TAILQ_FOREACH(d, &a->age[true], in_age)
        if (d->short_ != 0)
            fn(user, d->eui, d->short_);
}

bool assoc_restore(struct assoc *a, eui64_t device, uint16_t short_)
{
    if (map64_count(a->by_eui) >= a->cfg.max_devices || map64_get(a->by_eui, device) != NULL ||
        map64_get(a->by_short, short_) != NULL)
        return false;
    struct device *d = device_new(a, device);
    if (d == NULL || !device_place(a, d, short_))
        return false;
    device_age(a, d, true);
    return true;
}

size_t assoc_count(const struct assoc *a) { return map64_count(a->by_eui); }

struct assoc *assoc_new(const struct assoc_config *cfg)
{
    struct assoc *a = calloc(1, sizeof *a);
    if (a == NULL)
        return NULL;
    a->cfg = *cfg;
    a->by_eui = map64_new();
    a->by_short = map64_new();
    TAILQ_INIT(&a->age[false]);
    TAILQ_INIT(&a->age[true]);
    TAILQ_INIT(&a->asked);
    if (a->by_eui != NULL && a->by_short != NULL &&
        getrandom(&a->transaction, sizeof a->transaction, 0) == sizeof a->transaction &&
        sd_event_add_time(cfg->loop, &a->timer, CLOCK_MONOTONIC, 0, 1000, on_repeat, a) >= 0 &&
        sd_event_source_set_enabled(a->timer, SD_EVENT_OFF) >= 0)
        return a;
    assoc_free(a);
    return NULL;
}

void assoc_free(struct assoc *a)
{
    if (a == NULL)
        return;
    for (int approved = 0; approved < 2; approved++)
        for (struct device *d; (d = TAILQ_FIRST(&a->age[approved])) != NULL;) {
            TAILQ_REMOVE(&a->age[approved], d, in_age);
            free(d);
        }
    sd_event_source_disable_unref(a->timer);
    map64_free(a->by_eui);
    map64_free(a->by_short);
    free(a);
}
