/* The end of a schedule: no more faults, attacks or changes; then each device must be enrolled, or refused for the
 * right reason, and commands must reach the enrolled ones. */
#include "tests/schedules/model.h"

#include <inttypes.h>

#define SETTLE_MS 12000 /* late messages, a restart, the operator's last wishes */
#define JOIN_MS 40000
#define PENDING_MS 65000 /* [eg] pending-seconds is 60 */

struct seen {
    struct world *w;
    char state[20], reason[40];
};

static void keep(void *user, uint64_t tag, const struct vanswer *a)
{
    struct seen *s = user;
    (void)tag;
    const char *state = cJSON_GetStringValue(cJSON_GetObjectItem(a->pc, "state"));
    const char *reason = cJSON_GetStringValue(cJSON_GetObjectItem(a->pc, "reason"));
    snprintf(s->state, sizeof s->state, "%s", a->status == ST_OK && state != NULL ? state : "absent");
    snprintf(s->reason, sizeof s->reason, "%s", reason != NULL ? reason : "");
}

static struct seen look(struct device *d)
{
    struct seen s = {.w = d->w};
    char path[64];
    snprintf(path, sizeof path, "v1/devices/%016" PRIx64, d->eui);
    vhost_ask(d->w->h,
              &(struct vask){.op = CSE_RETRIEVE,
                             .path = path,
                             .done = keep,
                             .user = &s,
                             .authorization = d->kind == KIND_FOREIGN ? VHOST_OTHER_OPERATOR : VHOST_OPERATOR});
    vhost_disk(d->w->h);
    return s;
}

static void rest(struct world *w, uint64_t ms)
{
    uint64_t until = vhost_now(w->h) + ms;
    while (w->breach[0] == '\0' && vhost_now(w->h) < until)
        vhost_run(w->h, vhost_now(w->h) + 100);
}

/* Does the plugin have the device's key? */
static bool at_one(struct device *d)
{
    struct seen s = look(d);
    d->has_ae_key = false;
    ae_look(d);
    rest(d->w, 100);
    return d->phase == PHASE_JOINED && strcmp(s.state, "enrolled") == 0 && d->has_ae_key &&
           memcmp(d->ae_key, d->key, ZB_KEY) == 0;
}

/* What the device may be told: bit i is reason i. More than one where the EG may have heard what was lost on its way
 * back. */
static unsigned expected(const struct device *d)
{
    const struct registration *r = &d->reg;
    if (!r->exists || d->kind == KIND_FOREIGN)
        return 1u << EGP_UNKNOWN_DEVICE;
    if (r->gateways != 0 && (r->gateways >> d->home & 1) == 0)
        return 1u << EGP_GATEWAY_NOT_ALLOWED;
    if (r->expires != 0 && r->expires <= (int64_t)vhost_now(d->w->h))
        return 1u << EGP_CODE_EXPIRED;
    if (r->revoked && !r->rearmed)
        return 1u << EGP_DEVICE_REVOKED;
    if (!d->perhaps_spent || certainly_rearmed(d))
        return 1u << EGP_OK;
    return d->spent && certainly_not_rearmed(d) ? 1u << EGP_CODE_SPENT : 1u << EGP_CODE_SPENT | 1u << EGP_OK;
}

static bool is_without_key(const struct device *d, const struct seen *s)
{
    /* By what the gateway saw of the first key, if it could tell. */
    bool silent = strcmp(s->reason, "no-secured-frame-seen") == 0 || strcmp(s->reason, "first-key-not-opened") == 0 ||
                  strcmp(s->reason, "first-key-not-delivered") == 0;
    return silent && (strcmp(s->state, "failed") == 0 || (d->reg.revoked && strcmp(s->state, "revoked") == 0));
}

static void check_commands(struct device *d)
{
    unsigned heard = d->heard, before = d->commands;
    /* Whether it sleeps was anybody's claim when it associated; what it says under its key counts. */
    device_announce(d);
    rest(d->w, 1000);
    /* A gateway calls stale what is below a counter that it radiated under the key before; the AE seals again. */
    for (int i = 0; i < 30 && d->heard == heard; i++) {
        ae_command(d, 16);
        rest(d->w, 2000);
    }
    if (d->commands == before)
        breach(d->w, "device %u is enrolled, but no command was taken for it", d->index);
    else if (d->heard == heard)
        breach(d->w, "device %u heard nothing of a command that was handed over", d->index);
}

static void check(struct device *d)
{
    struct seen s = look(d);
    unsigned want = expected(d);
    bool told = (want >> d->refused & 1) != 0;
    if (d->phase == PHASE_JOINED) {
        if (d->parent != NULL && (!router_open(d->parent) || d->parent->domain != d->domain))
            breach(d->w, "device %u is joined through router %u, which has another key, or none", d->index,
                   d->parent->index);
        else if (!at_one(d))
            breach(d->w, "device %u (%s) is joined, and the EG says %s %s", d->index, kind_names[d->kind], s.state,
                   s.reason);
        else
            check_commands(d);
    } else if (d->parent != NULL) { /* where nobody is told why not */
        if (want == 1u << EGP_OK && d->reg.code == 0 && d->parent->domain == d->domain && router_open(d->parent))
            breach(d->w, "device %u did not enrol through router %u: %s %s", d->index, d->parent->index, s.state,
                   s.reason);
    } else if ((want & 1u << EGP_OK) == 0 || (told && d->refused != EGP_OK)) {
        if (!told)
            breach(d->w, "device %u (%s) was told %s, which is none of %x", d->index, kind_names[d->kind],
                   egp_reason_name(d->refused), want);
        else if (d->kind != KIND_FOREIGN && strcmp(s.state, "enrolled") == 0 && !d->reg.exists && d->nkeys == 0)
            breach(d->w, "device %u is enrolled and never had a key", d->index);
    } else if (d->reg.code == 0) {
        breach(d->w, "device %u (%s) did not enrol: %s %s, last told %s", d->index, kind_names[d->kind], s.state,
               s.reason, egp_reason_name(d->refused));
    } else if (strcmp(s.state, "enrolled") != 0 && /* an older key that nobody took away */
               !is_without_key(d, &s)) {
        breach(d->w, "device %u has the wrong code, and the EG says %s %s", d->index, s.state, s.reason);
    }
}

static void check_host(struct world *w)
{
    vhost_disk(w->h); /* nobody waits for the disk any more */
    struct vhost_stats s = vhost_stats(w->h);
    if (s.twice > 0)
        breach(w, "%" PRIu64 " requests were answered twice", s.twice);
    else if (s.open > 0)
        breach(w, "%" PRIu64 " requests were never answered", s.open);
    else if (s.fatal > 0)
        breach(w, "the plugin gave up");
}

/* How far it wants to be from the gateway. */
static unsigned level(const struct device *d)
{
    return d->wanted == NULL ? 0 : 1 + level(d->wanted);
}

/* Is it where it wants to be, as far as it can, and does its parent know it? */
static bool is_placed(const struct device *d)
{
    const struct device *place = d->wanted != NULL && router_open(d->wanted) ? d->wanted : NULL;
    return d->parent == place && (place == NULL || router_has_child(place, d));
}

/* Who is not well begins anew, mostly with an operator's help; some others do as well, or rejoin. */
static void come_again(struct device *d)
{
    if (!at_one(d) || !is_placed(d) || chance(d->w, 200)) {
        device_reset(d, draw(d->w, 3000));
        if (d->kind != KIND_STRANGER && d->reg.exists && chance(d->w, 800))
            operator_wish(d, OP_REARM, NULL);
    } else if (chance(d->w, 400) && may_have_key(d, d->home, true)) {
        device_comes_back(d, chance(d->w, 300) ? REJOIN_SECURED : REJOIN_TRUST_CENTRE);
    }
}

void verdict(struct world *w)
{
    w->calm = true;
    trace(w, "calm");
    rest(w, SETTLE_MS);
    operator_make_right(w);
    rest(w, SETTLE_MS);
    for (unsigned i = 0; i < w->ndevices && w->breach[0] == '\0'; i++)
        if (w->devices[i].nwishes > 0)
            breach(w, "a wish of the operator for device %u is not answered", i);
    unsigned levels = 0;
    for (unsigned i = 0; i < w->ndevices; i++)
        levels = level(&w->devices[i]) > levels ? level(&w->devices[i]) : levels;
    for (unsigned l = 0; l <= levels; l++) { /* parents first */
        for (unsigned i = 0; i < w->ndevices && w->breach[0] == '\0'; i++)
            if (level(&w->devices[i]) == l)
                come_again(&w->devices[i]);
        rest(w, JOIN_MS);
    }
    for (unsigned i = 0; i < w->ndevices; i++)
        if (w->devices[i].phase != PHASE_JOINED) {
            w->devices[i].phase = PHASE_OFF;
            w->devices[i].attempt++;
        }
    rest(w, PENDING_MS);
    for (unsigned i = 0; i < w->ndevices && w->breach[0] == '\0'; i++)
        check(&w->devices[i]);
    rest(w, 1000);
    check_host(w);
}
