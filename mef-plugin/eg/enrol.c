/* EgRequest -> facts -> verdict -> key, counter and frame of the vault -> transaction -> EgResponse. */
#include "mef-plugin/eg/internal.h"

#include <stdlib.h>

#define REJOIN_FCF 0x1809u         /* command, protocol version 2, both extended addresses */
#define FIRST_KEY_FCF 0x0008u      /* data, protocol version 2, no security, nothing else: some devices take no other */

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

static void refuse(struct eg *e, struct cse_request *req, const struct join *j, const struct egp_message *m,
                   enum egp_reason reason)
{
    respond_reason(e, req, &m->env, reason, ST_UPDATED); /* first: the rest takes a while */
    join_refused(e, j, reason);
}

/* The object is the gateway that was claimed; its owner sees the attempt, nobody else, and who it was if that is a client
 * of his: another stakeholder's has no name for him. Of a peer without a credential,
 * or a gateway that is nobody's, nothing is kept: it would fill the trail with numbers of a stranger's choice. */
void enrol_not_bound(struct eg *e, struct cse_request *req, const struct egp_message *m)
{
    struct gateway *g = gateway_find(e, m->env.gateway);
    join_count_refusal(e, EGP_NOT_BOUND);
    if (g != NULL && mef_principal(e->d.mef, &req->peer).role != MEF_ROLE_NONE) {
        bool own = mef_principal_of(e->d.mef, &req->peer, g->row.admin, NULL).role != MEF_ROLE_NONE;
        eg_audit(e, NULL, g->row.admin, own ? req->peer.identity : "", "eg.refused", m->env.gateway,
                 egp_reason_name(EGP_NOT_BOUND));
    }
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
        join_count_refusal(e, EGP_UNAVAILABLE);
        respond_reason(e, x->req, &x->env, EGP_UNAVAILABLE, ST_UPDATED);
    }
    free(x);
}

/* The first Transport-Key: an unsecured NWK frame around a command under the link key's key-transport key (Zig
 * 4.4.10.1), by default in the plain 62-byte form. */
static enum st first_key(const struct join *j, struct store_txn *t, const struct assoc *a, struct wr *frame)
{
    uint8_t buf[ZB_NWK_MAX];
    struct wr aps = wr_of(buf, sizeof buf);
    struct zb_nwk nwk = {.fcf = FIRST_KEY_FCF, .dst = a->address, .radius = EG_RADIUS};
    enum st st = join_transport_key(j, t, a, &aps, &nwk.seq);
    if (st != ST_OK)
        return st;
    if (j->gateway->row.extended) {
        nwk.fcf |= ZB_FCF_DST64 | ZB_FCF_SRC64;
        nwk.has_dst64 = nwk.has_src64 = true;
        nwk.dst64 = j->device;
        nwk.src64 = a->gateway;
    }
    zb_nwk_build(frame, &nwk);
    wr_spanb(frame, wr_span(&aps));
    return wr_ok(frame) ? ST_OK : ST_INTERNAL;
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
static enum st forge(const struct join *j, struct store_txn *t, const struct assoc *a, struct answer *x)
{
    uint8_t buf[ZB_NWK_MAX];
    struct wr frame = wr_of(x->next_bytes, sizeof x->next_bytes), response = wr_of(buf, sizeof buf),
              out = wr_of(x->bytes, sizeof x->bytes);
    bool indirect = (j->capability & ZB_CAPABILITY_RX_ON_IDLE) == 0; /* who asked is answered as he asked */
    bool rejoin = j->kind != EGP_ASSOCIATION;
    uint32_t number = 0;
    enum st st = rejoin ? vault_take(x->e->d.vault, t, a->link_key, a->gateway, 1, &number) : ST_OK;
    if (st == ST_OK)
        st = first_key(j, t, a, &frame);
    if (st != ST_OK)
        return st;
    if (rejoin) {
        rejoin_response(a->gateway, j->device, a, (uint8_t)number, &response);
        x->next_transaction = x->e->next_transaction++;
        x->next = (struct egp_frame){.hop = a->next_hop, .indirect = indirect, .nwk_frame = wr_span(&frame)};
    }
    struct egp_message answer = eg_message(EGP_RESPONSE, x->env.transaction, a->gateway, j->device);
    answer.u.response = (struct egp_response){.reason = EGP_OK,
                                              .next_hop = a->next_hop,
                                              .indirect = indirect,
                                              .nwk_frame = wr_span(rejoin ? &response : &frame)};
    if (!egp_encode(&answer, &out))
        return ST_INTERNAL;
    x->n = out.n;
    return ST_OK;
}

static bool send_key(struct eg *e, const struct join *j, const uint8_t digest[EG_DIGEST], struct answer *x)
{
    struct store_txn *t = store_begin(e->d.store);
    struct joining y;
    struct transaction *stored = NULL;
    if (t == NULL)
        return false;
    gateway_expect(j->gateway, t);
    if (!join_begin(j, t, &y)) {
        store_abort(t);
        return false;
    }
    if (forge(j, t, &y.a, x) == ST_OK)
        stored = transaction_add(e, j->gateway, t, x->env.transaction, digest, span_of(x->bytes, x->n));
    if (stored == NULL) {
        join_undo(j, t, &y);
        store_abort(t);
        return false;
    }
    x->opened = y.opened;
    join_commit(j, t, &y);
    y.p->sent_in = x->next.nwk_frame.n != 0 ? x->next_transaction : x->env.transaction;
    device_commit(j->d, t, answer_durable, x);
    stored->seq = j->d->seq;
    return true;
}

/* --- the request -------------------------------------------------------------------------------------------------- */

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

static enum egp_reason decide(struct eg *e, const struct join *j, const struct egp_message *m)
{
    if (m->u.request.join == EGP_REJOIN_SECURED)
        return EGP_NOT_SUPPORTED; /* looks like any other frame to a gateway, and goes up as one */
    return plausible(m) ? join_decide(e, j) : EGP_BAD_REQUEST;
}

static struct join join_of(struct eg *e, struct gateway *g, const struct egp_message *m)
{
    const struct egp_request *q = &m->u.request;
    return (struct join){.gateway = g,
                         .device = m->env.device,
                         .d = device_find(e, m->env.device),
                         .unknown_parent = q->parent_short != q->gateway_short,
                         .kind = (enum egp_join)q->join,
                         .pan = q->pan_id,
                         .address = q->device_short,
                         .capability = q->capability};
}

void enrol_request(struct eg *e, struct gateway *g, struct cse_request *req, const struct egp_message *m)
{
    const struct join j = join_of(e, g, m);
    eg_count(e, "eg_requests_total");
    uint8_t digest[EG_DIGEST];
    if (!transaction_digest(e, m, digest)) {
        refuse(e, req, &j, m, EGP_UNAVAILABLE);
        return;
    }
    const struct transaction *stored = transaction_find(g, m->env.transaction);
    if (stored != NULL && memcmp(stored->row.digest, digest, EG_DIGEST) == 0) {
        replay(e, req, m, stored);
        return;
    }
    enum egp_reason reason = stored != NULL ? EGP_CONFLICT : decide(e, &j, m);
    struct answer *x = reason == EGP_OK ? calloc(1, sizeof *x) : NULL;
    if (x == NULL) {
        refuse(e, req, &j, m, reason == EGP_OK ? EGP_UNAVAILABLE : reason);
        return;
    }
    x->e = e;
    x->req = req;
    x->env = m->env;
    if (!send_key(e, &j, digest, x)) {
        free(x);
        refuse(e, req, &j, m, EGP_UNAVAILABLE);
    }
}
