#include "ipe-ni/gateway/assoc.h"

#include "cse-shim/base/log.h"
#include "cse-shim/base/map64.h"

#include <stdlib.h>
#include <sys/queue.h>
#include <sys/random.h>

enum {
    FIRST_REPEAT_US = 300000, /* then twice that, then: */
    LAST_REPEAT_US = 1000000,
    GIVE_UP_US = 5000000,     /* no stack waits longer for its key */
    SAME_REQUEST_US = 1000000 /* a request with the same number within this is a repetition by the MAC */
};
#define LAST_SHORT 0xfff7 /* Zig 3.6.1.9 */
#define MAX_REJOIN 32 /* bytes of a bare Rejoin Request: header with both extended addresses, and two */

struct device {
    TAILQ_ENTRY(device) in_age;   /* approved or not: least recently heard first */
    TAILQ_ENTRY(device) in_asked; /* when `asking` */
    eui64_t eui;
    uint16_t short_;
    uint8_t capability, last_seq;
    bool approved;                /* the EG gave it a key, or said it has one */
    bool barred;                  /* the EG said revoked or expired: refused unless the EG answers otherwise in time */
    uint64_t heard;               /* last association request, us */
    bool asking;
    uint64_t transaction, asked, next, wait;
    int8_t rssi;
    uint8_t nrejoin, rejoin[MAX_REJOIN]; /* the frame by which it asks to rejoin; none: it associates */
};

TAILQ_HEAD(device_list, device);

struct assoc {
    struct assoc_config cfg;
    struct map64 *by_eui, *by_short;
    struct device_list age[2]; /* [approved] */
    struct device_list asked;
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

static void ask_end(struct assoc *a, struct device *d)
{
    if (d->asking)
        TAILQ_REMOVE(&a->asked, d, in_asked);
    d->asking = false;
}

static void device_free(struct assoc *a, struct device *d)
{
    ask_end(a, d);
    outbound_drop(a->cfg.out, d->short_);
    map64_del(a->by_eui, d->eui);
    map64_del(a->by_short, d->short_);
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

static struct device *device_add(struct assoc *a, eui64_t eui, uint16_t short_)
{
    struct device *d = calloc(1, sizeof *d);
    if (d == NULL)
        return NULL;
    d->eui = eui;
    d->short_ = short_;
    if (!map64_put(a->by_short, short_, d)) {
        free(d);
        return NULL;
    }
    if (!map64_put(a->by_eui, eui, d)) {
        map64_del(a->by_short, d->short_);
        free(d);
        return NULL;
    }
    TAILQ_INSERT_TAIL(&a->age[false], d, in_age);
    return d;
}

static struct device *device_new(struct assoc *a, eui64_t eui)
{
    struct device *oldest = TAILQ_FIRST(&a->age[false]);
    uint16_t short_;
    if (map64_count(a->by_eui) >= a->cfg.max_devices) {
        if (oldest == NULL)
            return NULL;
        device_free(a, oldest);
    }
    return pick_short(a, &short_) ? device_add(a, eui, short_) : NULL;
}

/* --- asking the EG ------------------------------------------------------------------------------------------------ */
static void ask(struct assoc *a, struct device *d)
{
    struct egp_request req = {
        .gateway_short = a->cfg.short_,
        .device_short = d->short_,
        .pan_id = a->cfg.pan,
        .parent_short = a->cfg.short_,
        .capability = d->capability,
        .join = d->nrejoin != 0 ? EGP_REJOIN_TRUST_CENTRE : EGP_ASSOCIATION,
        .nwk_frame = span_of(d->rejoin, d->nrejoin),
    };
    a->cfg.ask(a->cfg.user, d->eui, d->transaction, d->rssi, &req);
}

static void arm_timer(struct assoc *a)
{
    uint64_t soonest = UINT64_MAX;
    const struct device *d;
    TAILQ_FOREACH(d, &a->asked, in_asked)
        if (d->next < soonest)
            soonest = d->next;
    if (soonest != UINT64_MAX)
        sd_event_source_set_time(a->timer, soonest);
    sd_event_source_set_enabled(a->timer, soonest != UINT64_MAX ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

static void ask_begin(struct assoc *a, struct device *d, uint64_t now)
{
    ask_end(a, d);
    d->transaction = a->transaction++;
    d->asked = now;
    d->wait = FIRST_REPEAT_US;
    d->next = now + d->wait;
    d->asking = true;
    TAILQ_INSERT_TAIL(&a->asked, d, in_asked);
    ask(a, d);
    arm_timer(a);
}

static int on_repeat(sd_event_source *s, uint64_t now, void *user)
{
    (void)s;
    struct assoc *a = user;
    struct device *d, *next;
    for (d = TAILQ_FIRST(&a->asked); d != NULL; d = next) {
        next = TAILQ_NEXT(d, in_asked);
        if (d->next > now)
            continue;
        if (now - d->asked >= GIVE_UP_US) {
            log_event(LOG_WARN, "assoc.unanswered", "eui64=%016llx", (unsigned long long)d->eui);
            ask_end(a, d);
            continue;
        }
        d->wait = d->wait * 2 < LAST_REPEAT_US ? d->wait * 2 : LAST_REPEAT_US;
        d->next += d->wait;
        ask(a, d);
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

void assoc_request(struct assoc *a, eui64_t device, uint8_t capability, uint8_t seq, int8_t rssi)
{
    uint64_t now = now_us(a);
    struct device *d = map64_get(a->by_eui, device);
    if (d != NULL && d->heard != 0 && d->last_seq == seq && now - d->heard < SAME_REQUEST_US)
        return;
    if (d == NULL && (d = device_new(a, device)) == NULL) {
        log_event(LOG_WARN, "assoc.full", "eui64=%016llx devices=%zu", (unsigned long long)device,
                  map64_count(a->by_eui));
        return;
    }
    d->capability = capability;
    d->last_seq = seq;
    d->heard = now;
    d->rssi = rssi;
    d->nrejoin = 0;
    device_age(a, d, d->approved);
    log_event(LOG_INFO, "assoc.request", "eui64=%016llx short=%04x capability=%02x", (unsigned long long)device,
              d->short_, capability);
    respond(a, d, d->barred ? MAC_ASSOC_DENIED : MAC_ASSOC_OK);
    ask_begin(a, d, now);
}

void assoc_rejoin(struct assoc *a, const struct assoc_rejoin *r)
{
    struct device *d = map64_get(a->by_eui, r->device);
    bool room = r->short_ != 0 && r->short_ <= LAST_SHORT && map64_count(a->by_eui) < a->cfg.max_devices &&
                map64_get(a->by_short, r->short_) == NULL;
    if (d == NULL && room)
        d = device_add(a, r->device, r->short_);
    if (d == NULL || d->short_ != r->short_ || r->frame.n > MAX_REJOIN) {
        log_event(LOG_INFO, "rejoin.ignored", "eui64=%016llx short=%04x", (unsigned long long)r->device, r->short_);
        return;
    }
    d->capability = r->capability;
    d->rssi = r->rssi;
    d->nrejoin = (uint8_t)r->frame.n;
    memcpy(d->rejoin, r->frame.p, r->frame.n);
    log_event(LOG_INFO, "rejoin.request", "eui64=%016llx short=%04x", (unsigned long long)r->device, r->short_);
    ask_begin(a, d, now_us(a));
}

bool assoc_answer(struct assoc *a, eui64_t device, uint64_t transaction, enum egp_reason reason)
{
    struct device *d = map64_get(a->by_eui, device);
    if (d == NULL || !d->asking || d->transaction != transaction)
        return false;
    ask_end(a, d);
    arm_timer(a);
    if (reason == EGP_RATE_LIMITED || reason == EGP_UNAVAILABLE)
        return true; /* no word on the device */
    d->barred = false;
    if (reason == EGP_OK)
        device_age(a, d, true);
    /* Too late when the device has polled already: then nothing follows its association, and it gives up by itself. */
    outbound_association_status(a->cfg.out, d->short_, reason == EGP_OK ? MAC_ASSOC_OK : MAC_ASSOC_DENIED);
    return true;
}

bool assoc_state(struct assoc *a, eui64_t device, enum egp_device_state state)
{
    struct device *d = map64_get(a->by_eui, device);
    if (d == NULL)
        return false;
    d->barred = state == EGP_ST_REVOKED || state == EGP_ST_EXPIRED;
    if (d->barred) {
        ask_end(a, d);
        arm_timer(a);
        outbound_drop(a->cfg.out, d->short_);
    }
    device_age(a, d, state == EGP_ST_JOINING || state == EGP_ST_KEY_SENT || state == EGP_ST_ENROLLED);
    return true;
}

eui64_t assoc_device(const struct assoc *a, uint16_t short_)
{
    const struct device *d = map64_get(a->by_short, short_);
    return d != NULL ? d->eui : 0;
}

bool assoc_short(const struct assoc *a, eui64_t device, uint16_t *short_)
{
    const struct device *d = map64_get(a->by_eui, device);
    if (d != NULL)
        *short_ = d->short_;
    return d != NULL;
}

void assoc_each(const struct assoc *a, void (*fn)(void *user, eui64_t device, uint16_t short_), void *user)
{
    const struct device *d;
    TAILQ_FOREACH(d, &a->age[true], in_age)
        fn(user, d->eui, d->short_);
}

bool assoc_restore(struct assoc *a, eui64_t device, uint16_t short_)
{
    if (map64_count(a->by_eui) >= a->cfg.max_devices || map64_get(a->by_eui, device) != NULL ||
        map64_get(a->by_short, short_) != NULL)
        return false;
    struct device *d = device_add(a, device, short_);
    if (d != NULL)
        device_age(a, d, true);
    return d != NULL;
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
