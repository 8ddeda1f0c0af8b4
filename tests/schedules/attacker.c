/* Somebody near the radio, with a credential that is not a gateway's, or with another stakeholder's gateway. */
#include "tests/schedules/model.h"

#include <inttypes.h>

void attacker_overhear(struct world *w, unsigned gateway, struct span frame)
{
    size_t i = w->noverheard < 16 ? w->noverheard++ : (size_t)draw(w, 16);
    w->overheard[i].gateway = gateway;
    w->overheard[i].n = frame.n;
    memcpy(w->overheard[i].bytes, frame.p, frame.n);
}

static struct gateway *any_gateway(struct world *w)
{
    return &w->gateways[draw(w, w->ngateways)];
}

static eui64_t any_victim(struct world *w)
{
    return chance(w, 900) ? w->devices[draw(w, w->ndevices)].eui : draw(w, UINT64_MAX - 1) + 1;
}

static void spoof_association(struct world *w)
{
    gateway_join(any_gateway(w), any_victim(w), chance(w, 500) ? 0x80 : 0x8e, MAX_DEVICES, EGP_ASSOCIATION,
                 (struct span){0});
}

/* As it should be, in the name of a device that may well be enrolled. */
static void spoof_bare_rejoin(struct world *w)
{
    const struct device *d = &w->devices[draw(w, w->ndevices)];
    uint8_t buf[40], capability = chance(w, 500) ? 0x80 : 0x8e;
    struct wr out = wr_of(buf, sizeof buf);
    zb_nwk_build(&out, &(struct zb_nwk){.fcf = 0x1009,
                                        .src = chance(w, 500) ? d->address : (uint16_t)(1 + draw(w, 0xfff0)),
                                        .radius = 1,
                                        .seq = (uint8_t)draw(w, 256),
                                        .has_src64 = true,
                                        .src64 = d->eui});
    wr_u8(&out, 0x06);
    wr_u8(&out, capability);
    gateway_join(chance(w, 700) ? &w->gateways[d->home] : any_gateway(w), d->eui, capability, MAX_DEVICES,
                 EGP_REJOIN_TRUST_CENTRE, wr_span(&out));
}

/* The same at a router, which believes it, too. */
static void spoof_at_a_router(struct world *w)
{
    struct device *r = &w->devices[draw(w, w->ndevices)];
    const struct device *d = &w->devices[draw(w, w->ndevices)];
    if (router_open(r) && r != d)
        router_claim(r, chance(w, 900) ? d->eui : any_victim(w),
                     chance(w, 500) ? d->address : (uint16_t)(1 + draw(w, 0xfff0)), chance(w, 600) ? 1 : 3);
}

static void spoof_rejoin(struct world *w)
{
    uint8_t garbage[40];
    size_t n = 1 + (size_t)draw(w, sizeof garbage);
    for (size_t i = 0; i < n; i++)
        garbage[i] = (uint8_t)draw(w, 256);
    struct span frame = span_of(garbage, n);
    if (w->noverheard > 0 && chance(w, 700)) {
        size_t i = (size_t)draw(w, w->noverheard);
        frame = span_of(w->overheard[i].bytes, w->overheard[i].n);
    }
    gateway_join(any_gateway(w), any_victim(w), 0x80, MAX_DEVICES,
                 chance(w, 500) ? EGP_REJOIN_SECURED : EGP_REJOIN_TRUST_CENTRE, frame);
}

/* A frame heard before, here or at another gateway, as it was or with a bit turned. */
static void replay(struct world *w)
{
    if (w->noverheard == 0)
        return;
    uint8_t frame[ZB_NWK_MAX];
    size_t i = (size_t)draw(w, w->noverheard), n = w->overheard[i].n;
    memcpy(frame, w->overheard[i].bytes, n);
    if (chance(w, 400))
        frame[draw(w, n)] ^= (uint8_t)(1u << draw(w, 8));
    struct gateway *g = chance(w, 700) ? &w->gateways[w->overheard[i].gateway] : any_gateway(w);
    gateway_hear(g, (uint16_t)draw(w, 0xfff0), 0, span_of(frame, n));
}

/* Another identity speaks for a gateway. */
static void must_fail(void *user, uint64_t tag, const struct vanswer *a)
{
    struct egp_message m;
    (void)tag;
    if (a->status != ST_NO_PRIVILEGE && a->status != ST_BAD_REQUEST)
        breach(user, "a message from the wrong identity was answered with %s", st_map(a->status)->text);
    else if (a->body.n != 0 && egp_decode(a->body, &m) == NULL && m.u.response.reason == EGP_OK)
        breach(user, "a key was given to the wrong identity");
}

static void speak_for_a_gateway(struct world *w)
{
    struct gateway *g = any_gateway(w), *other = any_gateway(w);
    bool nonsense = chance(w, 300);
    const char *identity = chance(w, 300) ? NULL : nonsense || chance(w, 500) ? w->aes[0].kpm : other->kpm;
    if (identity == g->kpm)
        identity = NULL;
    struct egp_message m = {
        .env = {EGP_VERSION, EGP_REQUEST, draw(w, UINT64_MAX), g->eui, any_victim(w), EGP_TO_EG, 15, 0}};
    m.u.request = (struct egp_request){0, (uint16_t)(1 + draw(w, 0xfff0)), g->pan, 0, 0x80, EGP_ASSOCIATION, {0}};
    uint8_t buf[EGP_MAX_MESSAGE];
    struct wr out = wr_of(buf, sizeof buf);
    if (!egp_encode(&m, &out))
        return;
    if (nonsense)
        buf[draw(w, out.n)] ^= (uint8_t)(1u << draw(w, 8));
    vhost_ask(w->h, &(struct vask){.op = CSE_CREATE,
                                   .path = "mef/eg",
                                   .body = wr_span(&out),
                                   .session = w->aes[1].session,
                                   .identity = identity,
                                   .done = must_fail,
                                   .user = w});
}

void attacker_tick(void *user, uint64_t arg)
{
    static void (*const acts[])(struct world * w) = {
        spoof_association, spoof_bare_rejoin, spoof_at_a_router, spoof_rejoin, replay, replay, speak_for_a_gateway};
    struct world *w = user;
    (void)arg;
    if (w->calm)
        return;
    vhost_at(w->h, 50 + draw(w, 700), attacker_tick, w, 0);
    if (!vhost_running(w->h) || !chance(w, w->hostility))
        return;
    w->tally.attacks++;
    acts[draw(w, sizeof acts / sizeof acts[0])](w);
}
