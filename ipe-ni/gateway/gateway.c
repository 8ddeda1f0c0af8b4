#include "ipe-ni/gateway/gateway.h"

#include "cse-shim/base/crc16.h"
#include "cse-shim/base/log.h"
#include "ipe-ni/gateway/assoc.h"
#include "ipe-ni/gateway/nwk.h"
#include "ipe-ni/gateway/outbound.h"
#include "ipe-ni/gateway/paths.h"
#include "ipe-ni/gateway/state.h"

#include <stdlib.h>

enum { REPEATS = 256, REPEAT_US = 1000000, SAVE_US = 200000, HOP_BY_PATH = 0xfffe };

struct heard { /* to know a MAC retransmission whose acknowledgement was lost */
    uint64_t source, at;
    uint8_t seq;
    uint16_t crc;
};

struct gateway {
    struct gateway_config cfg;
    struct radio *radio;
    struct outbound *out;
    struct assoc *assoc;
    struct egp_link *link;
    struct paths *paths;
    sd_event_source *save; /* a write of the state file is due */
    struct heard heard[REPEATS];
};

/* --- up: radio to EG ---------------------------------------------------------------------------------------------- */
static bool for_us(const struct gateway *g, const struct mac_addr *dst)
{
    if (dst->mode == MAC_EXT)
        return dst->ext == g->cfg.net.ext && dst->pan == g->cfg.net.pan;
    return dst->mode == MAC_SHORT && dst->pan == g->cfg.net.pan && dst->short_ == g->cfg.net.short_;
}

static bool is_repeat(struct gateway *g, const struct mac_frame *f)
{
    uint64_t now = 0;
    (void)sd_event_now(g->cfg.loop, CLOCK_MONOTONIC, &now);
    struct heard it = {f->src.short_, now, f->seq, crc16_kermit(f->payload)};
    struct heard *was = &g->heard[(it.source ^ it.source >> 8) % REPEATS];
    bool repeat = was->source == it.source && was->seq == it.seq && was->crc == it.crc && was->at != 0 &&
                  now - was->at < REPEAT_US;
    *was = it;
    return repeat;
}

/* Whose frame it is, as far as clear headers tell; the EG does not rely on it. */
static eui64_t originator(const struct gateway *g, uint16_t neighbour, const struct nwk_clear *h)
{
    eui64_t known = assoc_device(g->assoc, h->src);
    return known != 0 || h->src != neighbour ? known : h->source;
}

static void uplink(struct gateway *g, const struct mac_frame *f, int8_t rssi, uint8_t lqi)
{
    struct nwk_clear h;
    bool broadcast = f->dst.mode == MAC_SHORT && f->dst.short_ == MAC_BROADCAST && f->dst.pan == g->cfg.net.pan;
    if (!(broadcast || for_us(g, &f->dst)) || f->src.mode != MAC_SHORT || f->src.pan != g->cfg.net.pan)
        return;
    if (!nwk_read(f->payload, &h) || f->payload.n > EGP_MAX_NWK || is_repeat(g, f))
        return;
    uint16_t known;
    if (!broadcast || !paths_find(g->paths, h.src, &known)) /* who repeats a broadcast is not on the way to its sender */
        paths_learn(g->paths, h.src, f->src.short_);
    if (h.rejoin) {
        assoc_rejoin(g->assoc, &(struct assoc_rejoin){h.device, h.src, h.capability, rssi, f->payload});
        return;
    }
    struct egp_message m = {
        .env = {.type = EGP_UPLINK, .device = originator(g, f->src.short_, &h), .rssi = rssi},
        .u.frame = {.hop = f->src.short_, .lqi = lqi, .nwk_frame = f->payload},
    };
    if (!egp_link_send(g->link, &m))
        log_event(LOG_DEBUG, "uplink.lost", "hop=%04x", f->src.short_);
}

static void beacon(struct gateway *g)
{
    outbound_beacon(g->out, &(struct mac_beacon){.permit = g->cfg.permit,
                                                 .router_capacity = true,
                                                 .end_device_capacity = true,
                                                 .ext_pan_id = g->cfg.ext_pan_id,
                                                 .update_id = g->cfg.update_id});
}

static void on_rx(void *user, struct span frame, int8_t rssi, uint8_t lqi)
{
    struct gateway *g = user;
    struct mac_frame f;
    uint8_t capability;
    if (mac_parse(frame, &f) != NULL)
        return;
    if (f.type == MAC_DATA)
        uplink(g, &f, rssi, lqi);
    else if (mac_is_beacon_request(&f))
        beacon(g);
    else if (!for_us(g, &f.dst))
        return;
    else if (mac_is_association_request(&f, &capability) && g->cfg.permit)
        assoc_request(g->assoc, f.src.ext, capability, f.seq, rssi);
    else if (mac_is_data_request(&f))
        outbound_poll(g->out, &f.src);
}

static void on_tx_done(void *user, enum radio_tx result, unsigned tries)
{
    struct gateway *g = user;
    outbound_tx_done(g->out, result, tries);
}

static void on_air(void *user, struct span frame)
{
    struct gateway *g = user;
    uint8_t buf[MAC_MAX_PSDU];
    struct wr w = wr_of(buf, sizeof buf);
    wr_spanb(&w, frame);
    mac_fcs_append(&w, 0);
    if (wr_ok(&w))
        pcap_write(g->cfg.capture, wr_span(&w));
}

static void on_ask(void *user, eui64_t device, uint64_t transaction, int8_t rssi, const struct egp_request *req)
{
    struct gateway *g = user;
    struct egp_message m = {
        .env = {.type = EGP_REQUEST, .transaction = transaction, .device = device, .rssi = rssi}, .u.request = *req};
    egp_link_send(g->link, &m);
}

/* --- down: EG to radio -------------------------------------------------------------------------------------------- */
static void on_done(void *user, const struct out_ticket *t, enum egp_tx result, unsigned tries)
{
    struct gateway *g = user;
    struct egp_message m = {
        .env = {.type = EGP_TX_RESULT, .transaction = t->transaction, .device = t->device},
        .u.tx_result = {.result = (uint8_t)result, .tries = (uint8_t)(tries < UINT8_MAX ? tries : UINT8_MAX)},
    };
    egp_link_send(g->link, &m);
}

static void on_associated(void *user, eui64_t device, bool delivered)
{
    (void)user;
    log_event(LOG_INFO, delivered ? "assoc.delivered" : "assoc.not-polled", "eui64=%016llx",
              (unsigned long long)device);
}

/* The neighbour that the destination was heard by last; one that joined here is its own, before it was heard. */
static bool by_path(const struct gateway *g, uint16_t destination, uint16_t *hop)
{
    if (paths_find(g->paths, destination, hop))
        return true;
    *hop = destination;
    return assoc_device(g->assoc, destination) != 0;
}

/* Queue the NWK frame of an EgResponse or DownlinkFrame; what cannot be radiated is reported at once. */
static void downlink(struct gateway *g, const struct egp_envelope *env, uint16_t hop, bool indirect, struct span frame)
{
    struct out_ticket ticket = {env->transaction, env->device};
    struct nwk_clear h;
    uint32_t last = 0;
    if (!nwk_read(frame, &h) || (hop == HOP_BY_PATH && !by_path(g, h.dst, &hop))) {
        on_done(g, &ticket, EGP_TX_NO_ACK, 0);
        return;
    }
    /* An unsecured frame answers a request, and anybody may have sent others in the device's name. */
    bool either = !h.secured && assoc_disputed(g->assoc, env->device);
    enum out_queued q = outbound_nwk(g->out,
                                     &(struct out_nwk){.hop = hop,
                                                       .ext = assoc_device(g->assoc, hop),
                                                       .indirect = indirect && !either && hop != MAC_BROADCAST,
                                                       .broadcast = h.dst >= NWK_MIN_BROADCAST,
                                                       .either = either,
                                                       .command = h.command,
                                                       .secured = h.secured,
                                                       .counter = h.counter,
                                                       .source = h.source,
                                                       .frame = frame,
                                                       .ticket = ticket},
                                     &last);
    if (q == OUT_FULL) {
        on_done(g, &ticket, EGP_TX_EXPIRED, 0);
    } else if (q == OUT_STALE) {
        struct egp_message m = {.env = {.type = EGP_STALE, .transaction = ticket.transaction, .device = ticket.device},
                                .u.stale = {h.counter, last}};
        egp_link_send(g->link, &m);
    }
}

static void on_message(void *user, const struct egp_message *m)
{
    struct gateway *g = user;
    const struct egp_response *r = &m->u.response;
    switch (m->env.type) {
    case EGP_RESPONSE:
        if (!assoc_answer(g->assoc, m->env.device, m->env.transaction, r->reason))
            return; /* a second answer to a repeated request */
        log_event(LOG_INFO, "eg.answer", "eui64=%016llx reason=%s", (unsigned long long)m->env.device,
                  egp_reason_name(r->reason));
        if (r->reason == EGP_OK)
            downlink(g, &m->env, r->next_hop, r->indirect, r->nwk_frame);
        break;
    case EGP_DOWNLINK:
        downlink(g, &m->env, m->u.frame.hop, m->u.frame.indirect, m->u.frame.nwk_frame);
        break;
    case EGP_DEVICE_STATE:
        log_event(LOG_INFO, "eg.state", "eui64=%016llx state=%s reason=%s", (unsigned long long)m->env.device,
                  egp_state_name(m->u.state.state), egp_reason_name(m->u.state.reason));
        if (!assoc_state(g->assoc, m->env.device, m->u.state.state, m->u.state.device_short) &&
            m->u.state.state == EGP_ST_REVOKED)
            outbound_revoked(g->out, m->u.state.device_short); /* it joined before we started */
        break;
    default:
        break;
    }
}

/* --- the state file ------------------------------------------------------------------------------------------------ */
static int on_save(sd_event_source *s, uint64_t now, void *user)
{
    (void)s, (void)now;
    const struct gateway *g = user;
    if (!state_save(g->cfg.state_file, g->assoc))
        log_event(LOG_ERROR, "state.not-saved", "file=%s", g->cfg.state_file);
    return 0;
}

static bool on_heard(void *user, uint16_t address)
{
    const struct gateway *g = user;
    uint16_t neighbour;
    return paths_find(g->paths, address, &neighbour);
}

static void on_changed(void *user)
{
    struct gateway *g = user;
    int enabled = SD_EVENT_OFF;
    if (g->save == NULL || sd_event_source_get_enabled(g->save, &enabled) < 0 || enabled != SD_EVENT_OFF)
        return;
    sd_event_source_set_time_relative(g->save, SAVE_US);
    sd_event_source_set_enabled(g->save, SD_EVENT_ONESHOT);
}

static bool open_state(struct gateway *g, char *err, size_t errlen)
{
    if (g->cfg.state_file == NULL)
        return true;
    return state_load(g->cfg.state_file, g->assoc, err, errlen) &&
           sd_event_add_time_relative(g->cfg.loop, &g->save, CLOCK_MONOTONIC, 0, 1000, on_save, g) >= 0;
}

/* --- assembly ----------------------------------------------------------------------------------------------------- */
static bool open_parts(struct gateway *g, char *err, size_t errlen)
{
    const struct gateway_config *c = &g->cfg;
    g->radio = radio_open(c->loop, c->radio, &c->net,
                          &(struct radio_callbacks){g, on_rx, on_tx_done, c->capture != NULL ? on_air : NULL}, err,
                          errlen);
    if (g->radio == NULL)
        return false;
    struct out_config out = {.loop = c->loop,
                             .radio = g->radio,
                             .net = c->net,
                             .max_peers = c->max_devices + 64, /* and those that joined before us, and broadcast */
                             .max_per_peer = c->max_per_device,
                             .user = g,
                             .done = on_done,
                             .associated = on_associated};
    g->out = outbound_new(&out);
    g->paths = paths_new();
    if (g->out == NULL || g->paths == NULL)
        return false;
    struct assoc_config assoc = {c->loop, g->out, c->net.pan, c->net.short_, c->max_devices, g, on_ask, on_changed,
                                 on_heard};
    g->assoc = assoc_new(&assoc);
    if (g->assoc == NULL || !open_state(g, err, errlen))
        return false;
    struct egp_link_config link = {.loop = c->loop,
                                   .line = c->line,
                                   .gateway = c->net.ext,
                                   .hello = {c->net.pan, c->net.channel, c->ext_pan_id, c->net.short_},
                                   .user = g,
                                   .message = on_message};
    g->link = egp_link_new(&link, err, errlen);
    return g->link != NULL;
}

struct gateway *gateway_new(const struct gateway_config *cfg, char *err, size_t errlen)
{
    struct gateway *g = calloc(1, sizeof *g);
    if (g == NULL)
        return NULL;
    g->cfg = *cfg;
    if (open_parts(g, err, errlen))
        return g;
    gateway_free(g);
    return NULL;
}

void gateway_free(struct gateway *g)
{
    if (g == NULL)
        return;
    egp_link_free(g->link);
    if (g->save != NULL)
        on_save(g->save, 0, g);
    sd_event_source_disable_unref(g->save);
    assoc_free(g->assoc);
    outbound_free(g->out);
    radio_close(g->radio);
    paths_free(g->paths);
    free(g);
}

void gateway_permit(struct gateway *g, bool permit) { g->cfg.permit = permit; }
bool gateway_idle(const struct gateway *g) { return outbound_waiting(g->out) == 0; }
