/* Frames of AEs to devices: POST {base}/eg/devices/<eui64>/ticket hands out counters, POST {base}/eg/frames/<eui64>
 * takes a NWK frame that the AE sealed under one of them.
 *
 * The AE seals as the gateway (source EUI-64 and short address), so its counters come from the same allocator as the
 * EG's own. Tickets live in memory: after a restart an AE asks for new ones, and a counter is never granted twice. */
#include "mef-plugin/eg/input.h"
#include "mef-plugin/eg/internal.h"

#include <stdlib.h>

#define MAX_COUNT 16 /* counters of a ticket */

/* --- tickets ------------------------------------------------------------------------------------------------------ */

struct granting { /* a ticket that waits for its transaction */
    struct eg *e;
    struct cse_request *req;
    eui64_t device, gateway;
    vault_id key;
    uint32_t first;
    uint8_t count, key_seq;
    char *principal;
};

/* A free place, else that of the AE's own oldest ticket, else that of the oldest one: who takes many displaces his own.
 */
static struct ticket *ticket_place(struct device *d, const char *principal)
{
    struct ticket *own = NULL, *oldest = &d->tickets[0];
    for (struct ticket *t = d->tickets; t < d->tickets + EG_TICKETS; t++) {
        if (t->principal == NULL)
            return t;
        if (strcmp(t->principal, principal) == 0 && (own == NULL || t->serial < own->serial))
            own = t;
        if (t->serial < oldest->serial)
            oldest = t;
    }
    return own != NULL ? own : oldest;
}

static void keep_ticket(struct device *d, struct granting *x)
{
    struct ticket *t = ticket_place(d, x->principal);
    free(t->principal);
    *t = (struct ticket){x->principal, x->gateway, x->key, d->ntickets++, x->first, x->count, 0};
    x->principal = NULL;
}

static void ticket_durable(void *user, enum st st)
{
    struct granting *x = user;
    struct device *d = device_find(x->e, x->device);
    struct gateway *g = gateway_find(x->e, x->gateway);
    if (st == ST_CONFLICT && g != NULL)
        gateway_commit_failed(x->e, g, st);
    if (st != ST_OK || d == NULL) {
        eg_respond(x->e, x->req, ST_UNAVAILABLE, NULL);
    } else {
        keep_ticket(d, x);
        cJSON *o = cJSON_CreateObject();
        cJSON_AddNumberToObject(o, "first", x->first);
        cJSON_AddNumberToObject(o, "count", x->count);
        output_eui(o, "source", x->gateway);
        cJSON_AddNumberToObject(o, "keySeq", x->key_seq);
        struct cse_response rsp = {.status = ST_OK, .pc = o, .content_format = CSE_NO_FORMAT};
        eg_count(x->e, "eg_tickets_total");
        x->e->d.ops->respond(x->e->d.host, x->req, &rsp);
    }
    free(x->principal);
    free(x);
}

/* {"count": 1..16}; no body: 1. */
static bool read_count(const cJSON *in, uint8_t *count)
{
    const cJSON *j = cJSON_GetObjectItemCaseSensitive(in, "count");
    *count = 1;
    if (in == NULL)
        return true;
    for (unsigned n = 1; cJSON_IsNumber(j) && n <= MAX_COUNT; n++)
        if (j->valuedouble == n) {
            *count = (uint8_t)n;
            return cJSON_GetArraySize(in) == 1;
        }
    return false;
}

static enum st grant(struct eg *e, struct device *d, struct gateway *g, struct granting *x)
{
    struct store_txn *t = store_begin(e->d.store);
    if (t == NULL)
        return ST_UNAVAILABLE;
    gateway_expect(g, t);
    enum st st = vault_take(e->d.vault, t, x->key, x->gateway, x->count, &x->first);
    if (st != ST_OK) {
        store_abort(t);
        return st;
    }
    device_commit(d, t, ticket_durable, x);
    return ST_OK;
}

void downlink_ticket(struct eg *e, struct cse_request *req, eui64_t eui)
{
    struct device *d;
    struct mef_principal p;
    uint8_t count;
    enum st st = device_authorise(e, &req->peer, eui, &d, &p);
    if (st != ST_OK) {
        eg_respond(e, req, st, NULL);
        return;
    }
    if (!mef_policy_ticket(e->d.mef, &p, &req->peer, d->row.has_current ? d->row.current.gateway : 0)) {
        eg_count(e, "eg_tickets_refused_total");
        eg_audit(e, NULL, p.admin, p.id, "eg.ticket-refused", eui, "policy");
        eg_respond(e, req, ST_NO_PRIVILEGE, "policy");
        return;
    }
    if (!read_count(req->pc, &count)) {
        eg_respond(e, req, ST_BAD_REQUEST, "bad-count");
        return;
    }
    struct gateway *g = d->row.has_current ? gateway_of(d, d->row.current.gateway) : NULL;
    if (g == NULL || g->lost || g->session == 0) {
        eg_respond(e, req, ST_UNREACHABLE, d->row.has_current ? "gateway-not-connected" : "not-enrolled");
        return;
    }
    if (!bucket_take(&d->ticket_rate, eg_now(e), e->ticket_rate, e->ticket_burst, count)) {
        eg_count(e, "eg_tickets_refused_total");
        eg_respond(e, req, ST_TOO_MANY, "ticket-rate");
        return;
    }
    struct granting *x = calloc(1, sizeof *x);
    char *principal = strdup(p.id);
    if (x != NULL)
        *x = (struct granting){.e = e,
                               .req = req,
                               .device = eui,
                               .gateway = g->eui,
                               .key = d->row.current.network_key,
                               .count = count,
                               .key_seq = d->row.current.key_seq,
                               .principal = principal};
    st = x != NULL && principal != NULL ? grant(e, d, g, x) : ST_UNAVAILABLE;
    if (st != ST_OK) {
        free(principal);
        free(x);
        eg_respond(e, req, st, NULL);
    }
}

/* The ticket of this principal that holds the counter, unused, for the current key at the current gateway. */
static struct ticket *ticket_with(struct device *d, const char *principal, uint32_t counter)
{
    for (size_t i = 0; i < EG_TICKETS; i++) {
        struct ticket *t = &d->tickets[i];
        if (t->principal == NULL || strcmp(t->principal, principal) != 0 || t->key != d->row.current.network_key ||
            t->gateway != d->row.current.gateway || counter - t->first >= t->count)
            continue;
        return t->used >> (counter - t->first) & 1 ? NULL : t;
    }
    return NULL;
}

/* --- frames ------------------------------------------------------------------------------------------------------- */

struct handing { /* a frame on its way to the gateway */
    struct eg *e;
    struct cse_request *req;
    struct handing *next, **link;
};

static void handing_free(struct handing *x)
{
    *x->link = x->next;
    if (x->next != NULL)
        x->next->link = x->link;
    free(x);
}

static void handed_over(void *user, enum st st, struct span body)
{
    (void)body;
    struct handing *x = user;
    bool ok = st == ST_OK || st == ST_UPDATED;
    eg_count(x->e, ok ? "eg_downlink_total" : "eg_downlink_failed_total");
    eg_respond(x->e, x->req, ok ? ST_UPDATED : ST_UNREACHABLE, ok ? NULL : "gateway-not-reached");
    handing_free(x);
}

void downlinks_end(struct eg *e)
{
    while (e->handings != NULL)
        handed_over(e->handings, ST_UNREACHABLE, span_of(NULL, 0));
}

/* NULL: an application frame, sealed under the device's current key as by its gateway; else what is wrong. */
static const char *check_frame(struct eg *e, const struct device *d, struct span frame, struct zb_aux *aux)
{
    const struct assoc *a = &d->row.current;
    struct zb_nwk h;
    struct zb_aps aps;
    uint8_t buf[ZB_NWK_MAX];
    struct wr plain = wr_of(buf, sizeof buf);
    if (frame.n > EGP_MAX_NWK || zb_nwk_parse(frame, &h) != ZB_OK)
        return "malformed";
    if ((h.fcf & ZB_FCF_TYPE) != ZB_NWK_DATA || (h.fcf & ZB_FCF_SECURITY) == 0)
        return "not-a-secured-data-frame";
    struct rd r = rd_of(h.payload);
    if (zb_aux_parse(&r, aux) != ZB_OK)
        return "malformed";
    if (h.dst != a->address || h.src != 0)
        return "bad-address";
    if (aux->key_id != ZB_KEY_ID_NWK || aux->key_seq != a->key_seq || !aux->has_src64 || aux->src64 != a->gateway)
        return "bad-source";
    if (vault_nwk_open(e->d.vault, a->network_key, frame, &h, aux, &plain) != ZB_OK)
        return "bad-mic";
    /* Endpoint 0, APS commands and NWK commands are the EG's own (design 5.1). */
    if (zb_aps_parse(wr_span(&plain), &aps) != ZB_OK || (aps.fcf & 3u) != ZB_APS_DATA || aps.dst_endpoint == 0 ||
        aps.profile == 0)
        return "not-an-application-frame";
    return NULL;
}

static bool hand_over(struct eg *e, struct device *d, struct cse_request *req)
{
    const struct assoc *a = &d->row.current;
    struct gateway *g = gateway_of(d, a->gateway);
    struct handing *x = g != NULL && !g->lost ? calloc(1, sizeof *x) : NULL;
    if (x == NULL)
        return false;
    *x = (struct handing){e, req, e->handings, &e->handings};
    if (x->next != NULL)
        x->next->link = &x->next;
    e->handings = x;
    struct egp_message m = eg_message(EGP_DOWNLINK, e->next_transaction++, a->gateway, d->eui);
    m.u.frame = (struct egp_frame){
        .hop = parent_next_hop(d), .indirect = assoc_polls(a), .nwk_frame = req->body};
    if (eg_send(e, g, &m, handed_over, x))
        return true;
    handing_free(x);
    return false;
}

void downlink_frame(struct eg *e, struct cse_request *req, eui64_t eui)
{
    struct device *d;
    struct mef_principal p;
    struct zb_aux aux;
    enum st st = device_authorise(e, &req->peer, eui, &d, &p);
    if (st != ST_OK) {
        eg_respond(e, req, st, NULL);
        return;
    }
    if (!d->row.has_current) {
        eg_respond(e, req, ST_UNREACHABLE, "not-enrolled");
        return;
    }
    const char *wrong = check_frame(e, d, req->body, &aux);
    if (wrong != NULL) {
        eg_count(e, "eg_downlink_refused_total");
        eg_respond(e, req, ST_BAD_REQUEST, wrong);
        return;
    }
    struct ticket *t = ticket_with(d, p.id, aux.counter);
    if (t == NULL) {
        eg_count(e, "eg_downlink_refused_total");
        eg_respond(e, req, ST_CONFLICT, "counter-not-granted");
        return;
    }
    /* Used from the moment the gateway may radiate it, whatever becomes of the answer. */
    uint16_t bit = (uint16_t)(1u << (aux.counter - t->first));
    t->used |= bit;
    if (!hand_over(e, d, req)) {
        t->used &= (uint16_t)~bit;
        eg_respond(e, req, ST_UNREACHABLE, "gateway-not-connected");
    }
}
