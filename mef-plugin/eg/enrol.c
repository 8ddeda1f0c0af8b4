/* EgRequest -> facts -> verdict -> key, counter and frame of the vault -> transaction -> EgResponse. */
#include "mef-plugin/eg/internal.h"
#include "mef-plugin/eg/policy.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define RADIUS 30                  /* 2 * nwkMaxDepth (Zig 3.6.1.5.1) */
#define REJOIN_FCF 0x1809u         /* command, protocol version 2, both extended addresses */
#define FIRST_KEY_FCF 0x0008u      /* data, protocol version 2, no security, nothing else: some devices take no other */
#define CAPABILITY_RX_ON_IDLE 0x08 /* 802.15.4 capability information, bit 3: hears without polling */

/* --- answers ------------------------------------------------------------------------------------------------------ */

static void respond_bytes(struct eg *e, struct cse_request *req, enum st st, struct span body)
{
    struct cse_response rsp = {
        .status = st, .body = body, .content_format = EG_FORMAT_CBOR, .histogram = "eg_request_seconds"};
    e->d.ops->respond(e->d.host, req, &rsp);
}

static void respond_reason(struct eg *e, struct cse_request *req, const struct egp_envelope *env,
                           enum egp_reason reason, enum st st)
{
    uint8_t buf[EGP_MAX_MESSAGE];
    struct wr w = wr_of(buf, sizeof buf);
    struct egp_message m = eg_message(EGP_RESPONSE, env->transaction, env->gateway, env->device);
    m.u.response.reason = (uint8_t)reason;
    if (egp_encode(&m, &w))
        respond_bytes(e, req, st, wr_span(&w));
    else
        eg_respond(e, req, ST_INTERNAL, NULL);
}

static const char *const refused_metric[EGP_REASONS] = {
    [EGP_UNKNOWN_DEVICE] = "eg_refused_unknown_device_total",
    [EGP_CODE_EXPIRED] = "eg_refused_code_expired_total",
    [EGP_GATEWAY_NOT_ALLOWED] = "eg_refused_gateway_not_allowed_total",
    [EGP_PARENT_KEY_DOMAIN] = "eg_refused_parent_key_domain_total",
    [EGP_DEVICE_REVOKED] = "eg_refused_device_revoked_total",
    [EGP_CODE_SPENT] = "eg_refused_code_spent_total",
    [EGP_RATE_LIMITED] = "eg_refused_rate_limited_total",
    [EGP_NOT_SUPPORTED] = "eg_refused_not_supported_total",
    [EGP_BAD_REQUEST] = "eg_refused_bad_request_total",
    [EGP_UNAVAILABLE] = "eg_refused_unavailable_total",
    [EGP_NOT_BOUND] = "eg_refused_not_bound_total",
    [EGP_CONFLICT] = "eg_refused_conflict_total",
    [EGP_NO_LINK_KEY] = "eg_refused_no_link_key_total",
};

static void count_refusal(struct eg *e, enum egp_reason reason)
{
    eg_count(e, "eg_refused_total");
    if (refused_metric[reason] != NULL)
        eg_count(e, refused_metric[reason]);
}

/* The failure is kept for the device, and for the registration that it is probably a slip of. */
static void note_refusal(struct eg *e, const struct gateway *g, eui64_t device, enum egp_reason reason, eui64_t nearest)
{
    if (nearest != 0)
        (void)failure_note(e, g, nearest, "nearly-this", device);
    (void)failure_note(e, g, device, egp_reason_name(reason), nearest);
}

static void refuse(struct eg *e, struct gateway *g, struct cse_request *req, const struct egp_message *m,
                   enum egp_reason reason)
{
    char outcome[64];
    respond_reason(e, req, &m->env, reason, ST_UPDATED); /* first: the rest takes a while */
    eui64_t nearest =
        reason == EGP_UNKNOWN_DEVICE ? nearest_registered(e, g->row.admin, m->env.device) : 0;
    note_refusal(e, g, m->env.device, reason, nearest);
    int n = snprintf(outcome, sizeof outcome, "%s", egp_reason_name(reason));
    if (nearest != 0)
        snprintf(outcome + n, sizeof outcome - (size_t)n, " nearest=%016" PRIx64, nearest);
    count_refusal(e, reason);
    eg_audit(e, NULL, g->row.admin, g->row.identity, "eg.refused", m->env.device, outcome);
    log_event(LOG_INFO, "eg.refused", "gateway=%016" PRIx64 " device=%016" PRIx64 " reason=%s", g->eui, m->env.device,
              outcome);
}

/* The object is the gateway that was claimed; its owner sees the attempt, nobody else. Of a peer without a credential,
 * or a gateway that is nobody's, nothing is kept: it would fill the trail with numbers of a stranger's choice. */
void enrol_not_bound(struct eg *e, struct cse_request *req, const struct egp_message *m)
{
    struct gateway *g = gateway_find(e, m->env.gateway);
    count_refusal(e, EGP_NOT_BOUND);
    if (g != NULL && mef_principal(e->d.mef, &req->peer).role != MEF_ROLE_NONE)
        eg_audit(e, NULL, g->row.admin, req->peer.identity, "eg.refused", m->env.gateway,
                 egp_reason_name(EGP_NOT_BOUND));
    if (m->env.type == EGP_REQUEST)
        respond_reason(e, req, &m->env, EGP_NOT_BOUND, ST_NO_PRIVILEGE);
    else
        eg_respond(e, req, ST_NO_PRIVILEGE, egp_reason_name(EGP_NOT_BOUND));
}

/* --- a repeated transaction --------------------------------------------------------------------------------------- */

struct replay {
    struct eg *e;
    struct cse_request *req;
    struct egp_envelope env;
};

/* Looked up again: had the transaction been refused a place in the store, the gateway would be lost. */
static void replay_durable(void *user, enum st st)
{
    struct replay *x = user;
    struct gateway *g = gateway_find(x->e, x->env.gateway);
    struct transaction *stored = g != NULL && !g->lost ? transaction_find(g, x->env.transaction) : NULL;
    if (st == ST_OK && stored != NULL)
        respond_bytes(x->e, x->req, ST_UPDATED, stored->row.response);
    else
        respond_reason(x->e, x->req, &x->env, EGP_UNAVAILABLE, ST_UPDATED);
    free(x);
}

static void replay(struct eg *e, struct cse_request *req, const struct egp_message *m, const struct transaction *stored)
{
    struct replay *x = calloc(1, sizeof *x);
    if (x == NULL) {
        respond_reason(e, req, &m->env, EGP_UNAVAILABLE, ST_UPDATED);
        return;
    }
    *x = (struct replay){e, req, m->env};
    eg_count(e, "eg_repeated_total");
    store_after(e->d.store, stored->seq, replay_durable, x);
}

/* --- the first key ------------------------------------------------------------------------------------------------ */

struct answer { /* an EgResponse that waits for its transaction */
    struct eg *e;
    struct cse_request *req;
    struct egp_envelope env;
    bool opened; /* ..which opened the pending record */
    size_t n;
    uint8_t bytes[EGP_MAX_MESSAGE];
    struct egp_frame next; /* what is to be radiated after its frame; empty: nothing */
    uint64_t next_transaction; /* of its message */
    uint8_t next_bytes[ZB_NWK_MAX];
};

static void send_next(struct eg *e, struct gateway *g, const struct answer *x)
{
    struct egp_message m = eg_message(EGP_DOWNLINK, x->next_transaction, g->eui, x->env.device);
    m.u.frame = x->next;
    if (x->next.nwk_frame.n != 0 && !eg_send(e, g, &m, NULL, NULL))
        eg_count(e, "eg_own_frames_unsent_total");
}

static void answer_durable(void *user, enum st st)
{
    struct answer *x = user;
    struct eg *e = x->e;
    struct device *d = device_find(e, x->env.device);
    struct gateway *g = gateway_find(e, x->env.gateway);
    if (st == ST_OK) {
        respond_bytes(e, x->req, ST_UPDATED, span_of(x->bytes, x->n));
        if (g != NULL)
            send_next(e, g, x);
        if (d != NULL && x->opened)
            device_changed(d);
    } else {
        gateway_commit_failed(e, g, st);
        count_refusal(e, EGP_UNAVAILABLE);
        respond_reason(e, x->req, &x->env, EGP_UNAVAILABLE, ST_UPDATED);
    }
    free(x);
}

/* What the key goes under: the install code's link key, or the one that the device has at this gateway. */
static vault_id asked_by(const struct device *d, const struct egp_message *m)
{
    return m->u.request.join == EGP_ASSOCIATION ? d->code->key : device_rejoin_key(d, m->env.gateway);
}

/* What the device becomes when it proves this key. Where requests in its name differ on whether it sleeps, it is reached
 * as one that does not, until it says itself: it announces itself with the first frame under the key, and that goes by
 * no claim. */
static struct assoc new_assoc(struct gateway *g, const struct device *d, const struct pending *p,
                              const struct egp_message *m)
{
    const struct egp_request *q = &m->u.request;
    struct assoc a = p->assoc; /* of a record that is there: the same key, and the counter of its frames goes on */
    a.gateway = g->eui;
    a.link_key = asked_by(d, m);
    a.pan = q->pan_id;
    a.address = q->device_short;
    a.next_hop = q->device_short;
    uint8_t claimed = a.network_key != 0 ? a.capability & CAPABILITY_RX_ON_IDLE : 0;
    a.capability = q->capability | claimed;
    return a;
}

/* A network key of the device's own. One that follows another in the same network has the next sequence number. */
static bool make_network_key(struct eg *e, struct store_txn *t, const struct device *d, struct assoc *a)
{
    const struct assoc *now = &d->row.current;
    if (vault_generate(e->d.vault, t, VAULT_NETWORK_KEY, ZB_KEY, &a->network_key) != ST_OK)
        return false;
    if (a->link_key == device_rejoin_key(d, a->gateway))
        a->key_seq = (uint8_t)(now->key_seq + 1);
    return true;
}

/* The first Transport-Key: an unsecured NWK frame around a command under the link key's key-transport key (Zig
 * 4.4.10.1), by default in the plain 62-byte form. */
static enum st first_key(struct eg *e, struct gateway *g, const struct assoc *a, eui64_t device, uint32_t counter,
                         struct wr *frame)
{
    const struct zb_cmd cmd = {
        .id = ZB_TRANSPORT_KEY, .key_type = ZB_KEYTYPE_NWK, .key_seq = a->key_seq, .dst = device, .src = g->eui};
    struct vault_aps_command in = {.cmd = &cmd,
                                   .carried = a->network_key,
                                   .link_key = a->link_key,
                                   .key_id = ZB_KEY_ID_TRANSPORT,
                                   .source = g->eui,
                                   .counter = counter,
                                   .aps_counter = (uint8_t)counter};
    struct zb_nwk nwk = {.fcf = FIRST_KEY_FCF, .dst = a->address, .radius = RADIUS, .seq = in.aps_counter};
    if (g->row.extended) {
        nwk.fcf |= ZB_FCF_DST64 | ZB_FCF_SRC64;
        nwk.has_dst64 = nwk.has_src64 = true;
        nwk.dst64 = device;
        nwk.src64 = g->eui;
    }
    zb_nwk_build(frame, &nwk);
    return vault_aps_command(e->d.vault, &in, frame);
}

/* A Rejoin Response (Zig 3.4.7), as bare as the request that it answers. */
static void rejoin_response(eui64_t gateway, eui64_t device, const struct assoc *a, uint8_t seq, struct wr *frame)
{
    zb_nwk_build(frame, &(struct zb_nwk){.fcf = REJOIN_FCF,
                                         .dst = a->address,
                                         .radius = 1,
                                         .seq = seq,
                                         .has_dst64 = true,
                                         .has_src64 = true,
                                         .dst64 = device,
                                         .src64 = gateway});
    nwk_rejoin_response(frame, a->address);
}

/* Forge what is to be radiated and encode the EgResponse. A device that rejoins is answered first, its key comes next;
 * each of the two frames has a number of its own, by which receivers know repetitions. */
static enum st forge(struct eg *e, struct gateway *g, struct store_txn *t, const struct assoc *a,
                     const struct egp_message *m, struct answer *x)
{
    uint8_t buf[ZB_NWK_MAX];
    struct wr frame = wr_of(x->next_bytes, sizeof x->next_bytes), response = wr_of(buf, sizeof buf),
              out = wr_of(x->bytes, sizeof x->bytes);
    bool indirect = (m->u.request.capability & CAPABILITY_RX_ON_IDLE) == 0; /* who asked is answered as he asked */
    bool rejoin = m->u.request.join != EGP_ASSOCIATION;
    uint32_t counter;
    enum st st = vault_take(e->d.vault, t, a->link_key, g->eui, rejoin ? 2 : 1, &counter);
    if (st != ST_OK)
        return st;
    if (rejoin) {
        rejoin_response(g->eui, m->env.device, a, (uint8_t)counter++, &response);
        x->next_transaction = e->next_transaction++;
    }
    st = first_key(e, g, a, m->env.device, counter, &frame);
    if (st != ST_OK)
        return st;
    if (rejoin)
        x->next = (struct egp_frame){.hop = a->next_hop, .indirect = indirect, .nwk_frame = wr_span(&frame)};
    struct egp_message answer = eg_message(EGP_RESPONSE, m->env.transaction, g->eui, m->env.device);
    answer.u.response = (struct egp_response){.reason = EGP_OK,
                                              .next_hop = a->next_hop,
                                              .indirect = indirect,
                                              .nwk_frame = wr_span(rejoin ? &response : &frame)};
    if (!egp_encode(&answer, &out))
        return ST_INTERNAL;
    x->n = out.n;
    return ST_OK;
}

/* All that can fail comes before memory changes; a counter taken in vain leaves a gap, no more. p: the gateway's
 * pending record, or a fresh one that is taken over on success. */
static bool send_under(struct eg *e, struct gateway *g, struct device *d, struct pending *p,
                       const struct egp_message *m, const uint8_t digest[EG_DIGEST], struct answer *x)
{
    struct store_txn *t = store_begin(e->d.store);
    if (t == NULL)
        return false;
    gateway_expect(g, t);
    struct assoc a = new_assoc(g, d, p, m);
    x->opened = a.network_key == 0;
    struct transaction *stored = NULL;
    bool ok = (!x->opened || make_network_key(e, t, d, &a)) && forge(e, g, t, &a, m, x) == ST_OK &&
              (stored = transaction_add(e, g, t, m->env.transaction, digest, span_of(x->bytes, x->n))) != NULL;
    if (!ok) {
        if (x->opened && a.network_key != 0)
            vault_delete(e->d.vault, t, a.network_key);
        store_abort(t);
        return false;
    }
    pending_put(d, p, &a);
    p->sent_in = x->next.nwk_frame.n != 0 ? x->next_transaction : m->env.transaction;
    p->delivery = DELIVERY_UNKNOWN;
    if (device_awaited(d))
        d->row.reason = WHY_NONE;
    failure_forget(e, d->row.admin, d->eui);
    device_store(d, t);
    eg_audit(e, t, d->row.admin, g->row.identity, "device.key-sent", d->eui, "ok");
    eg_count(e, "eg_keys_sent_total");
    device_commit(d, t, answer_durable, x);
    stored->seq = d->seq;
    return true;
}

static bool send_key(struct eg *e, struct gateway *g, struct device *d, const struct egp_message *m,
                     const uint8_t digest[EG_DIGEST], struct answer *x)
{
    struct pending *old = pending_at(d, g->eui, asked_by(d, m)), *p = old != NULL ? old : calloc(1, sizeof *p);
    if (p != NULL && send_under(e, g, d, p, m, digest, x))
        return true;
    if (p != old)
        free(p);
    return false;
}

/* --- the request -------------------------------------------------------------------------------------------------- */

static bool contains_text(char *const *list, size_t n, const char *text)
{
    for (size_t i = 0; i < n; i++)
        if (text != NULL && strcmp(list[i], text) == 0)
            return true;
    return false;
}

/* Do the registration and the gateway's record agree? What names nothing allows all. */
static bool agree(const struct code *c, const struct gateway *g)
{
    if (g->row.napplications > 0 && !contains_text(g->row.applications, g->row.napplications, c->application))
        return false;
    for (size_t i = 0; i < c->ngateways; i++)
        if (c->gateways[i] == g->eui)
            return true;
    return c->ngateways == 0;
}

static bool pan_allowed(const struct gateway *g, uint16_t pan)
{
    for (size_t i = 0; i < g->row.npans; i++)
        if (g->row.pans[i] == pan)
            return true;
    return g->row.npans == 0;
}

static unsigned gather(struct eg *e, struct gateway *g, struct device *d, const struct egp_message *m)
{
    const struct egp_request *q = &m->u.request;
    unsigned facts = (g->lost ? 0 : FACT_OWNED) | (pan_allowed(g, q->pan_id) ? FACT_PAN_ALLOWED : 0) |
                     (q->join == EGP_ASSOCIATION ? FACT_ASSOCIATION : 0) |
                     (q->parent_short == q->gateway_short ? FACT_DIRECT : 0);
    if (d == NULL || d->code == NULL || strcmp(d->row.admin, g->row.admin) != 0)
        return facts; /* another stakeholder's device is unknown here */
    const struct device_row *row = &d->row;
    vault_id key = asked_by(d, m);
    return facts | FACT_REGISTERED | (agree(d->code, g) ? FACT_GATEWAY_ALLOWED : 0) |
           (d->code->expires != 0 && d->code->expires <= eg_time(e) ? FACT_EXPIRED : 0) |
           (row->revoked ? FACT_REVOKED : 0) | (row->code_spent ? FACT_CODE_SPENT : 0) |
           (device_rearmed(e, d) ? FACT_REARMED : 0) | (device_rejoin_key(d, g->eui) != 0 ? FACT_LINK_KEY : 0) |
           (pending_at(d, g->eui, key) != NULL ? FACT_PENDING_HERE : 0) | FACT_WITHIN_RATE;
}

/* A rejoin by the Trust Centre's help comes with its request: a bare NWK command that names the device. It proves
 * nothing, but what it says must be what the message says. */
static bool is_rejoin_request(const struct egp_message *m)
{
    struct zb_nwk h;
    uint8_t capability;
    return zb_nwk_parse(m->u.request.nwk_frame, &h) == ZB_OK && (h.fcf & ZB_FCF_SECURITY) == 0 && h.has_src64 &&
           h.src64 == m->env.device && h.src == m->u.request.device_short && nwk_is_rejoin_request(&h, &capability) &&
           capability == m->u.request.capability;
}

/* Addresses that no device can have (Zig 3.6.1.9, 802.15.4 association). */
static bool plausible(const struct egp_message *m)
{
    const struct egp_request *q = &m->u.request;
    return (q->join == EGP_ASSOCIATION || is_rejoin_request(m)) && m->env.device != 0 &&
           m->env.device != UINT64_MAX && m->env.device != m->env.gateway && eg_is_unicast(q->device_short) &&
           q->gateway_short == 0 && q->pan_id != 0xffff;
}

static enum egp_reason decide(struct eg *e, struct gateway *g, struct device *d, const struct egp_message *m)
{
    if (m->u.request.join == EGP_REJOIN_SECURED)
        return EGP_NOT_SUPPORTED; /* looks like any other frame to a gateway, and goes up as one */
    if (!plausible(m))
        return EGP_BAD_REQUEST;
    unsigned facts = gather(e, g, d, m);
    struct policy_verdict v = policy_join(facts);
    /* A token is spent only on a key that is going to be forged. */
    if (v.act != POLICY_REFUSE && !pending_within_rate(d, g->eui, asked_by(d, m)))
        v = policy_join(facts & ~(unsigned)FACT_WITHIN_RATE);
    return v.reason;
}

void enrol_request(struct eg *e, struct gateway *g, struct cse_request *req, const struct egp_message *m)
{
    eg_count(e, "eg_requests_total");
    uint8_t digest[EG_DIGEST];
    if (!transaction_digest(e, m, digest)) {
        refuse(e, g, req, m, EGP_UNAVAILABLE);
        return;
    }
    const struct transaction *stored = transaction_find(g, m->env.transaction);
    if (stored != NULL && memcmp(stored->row.digest, digest, EG_DIGEST) == 0) {
        replay(e, req, m, stored);
        return;
    }
    struct device *d = device_find(e, m->env.device);
    enum egp_reason reason = stored != NULL ? EGP_CONFLICT : decide(e, g, d, m);
    struct answer *x = reason == EGP_OK ? calloc(1, sizeof *x) : NULL;
    if (x == NULL) {
        refuse(e, g, req, m, reason == EGP_OK ? EGP_UNAVAILABLE : reason);
        return;
    }
    x->e = e;
    x->req = req;
    x->env = m->env;
    if (!send_key(e, g, d, m, digest, x)) {
        free(x);
        refuse(e, g, req, m, EGP_UNAVAILABLE);
    }
}
