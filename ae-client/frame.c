#include "ae-client/frame.h"

#include <string.h>

#define COORDINATOR 0x0000u
#define RADIUS 30 /* 2 * nwkMaxDepth */
#define OWN_ENDPOINT 1

/* A counter of this source that was not used yet, from now on used. */
static bool take_counter(struct aec_replay *r, eui64_t source, uint32_t counter)
{
    unsigned i = 0;
    while (i < r->n && r->of[i].source != source)
        i++;
    if (!zb_counter_ok(i < r->n ? r->of[i].next : 0, counter))
        return false;
    if (i == r->n && r->n < AEC_SOURCES)
        r->n++;
    memmove(r->of + 1, r->of, (i < AEC_SOURCES ? i : AEC_SOURCES - 1) * sizeof *r->of);
    r->of[0].source = source;
    r->of[0].next = counter + 1;
    return true;
}

enum zb_err aec_frame_open(struct zb_crypto *z, const struct aec_key *key, struct aec_replay *replay, struct span frame,
                           struct aec_opened *out)
{
    struct zb_nwk nwk;
    struct zb_aux aux;
    struct wr plain = wr_of(out->buf, sizeof out->buf);
    if (key->len != ZB_KEY)
        return ZB_NO_KEY;
    enum zb_err e = zb_nwk_open(z, key->value, frame, &nwk, &aux, &plain);
    if (e != ZB_OK)
        return e;
    if (!aux.has_src64 || nwk.src == COORDINATOR || aux.src64 == key->gateway ||
        !take_counter(replay, aux.src64, aux.counter))
        return ZB_MALFORMED;
    out->counter = aux.counter;
    out->source = aux.src64;
    struct zb_aps aps;
    out->application = (nwk.fcf & ZB_FCF_TYPE) == ZB_NWK_DATA && zb_aps_parse(wr_span(&plain), &aps) == ZB_OK &&
                       (aps.fcf & 3) == ZB_APS_DATA && (aps.fcf & ZB_APS_SECURITY) == 0;
    if (!out->application)
        return ZB_OK;
    out->cluster = aps.cluster;
    out->profile = aps.profile;
    out->src_endpoint = aps.src_endpoint;
    out->dst_endpoint = aps.dst_endpoint;
    out->payload = aps.payload;
    return ZB_OK;
}

enum zb_err aec_frame_seal(struct zb_crypto *z, const struct aec_key *key, const struct aec_ticket *ticket, unsigned i,
                           const struct aec_command *cmd, struct wr *out)
{
    if (key->len != ZB_KEY || i >= ticket->count || strcmp(key->relkeyid, ticket->relkeyid) != 0)
        return ZB_NO_KEY;
    uint8_t buf[ZB_NWK_MAX];
    struct wr payload = wr_of(buf, sizeof buf);
    const struct zb_aps aps = {.fcf = ZB_APS_DATA,
                               .dst_endpoint = cmd->endpoint,
                               .cluster = cmd->cluster,
                               .profile = cmd->profile,
                               .src_endpoint = OWN_ENDPOINT,
                               .counter = (uint8_t)(ticket->counter + i)};
    zb_aps_build(&payload, &aps);
    wr_spanb(&payload, cmd->zcl);
    if (!wr_ok(&payload))
        return ZB_NO_SPACE;
    /* 0x0208: data, protocol version 2, security. */
    const struct zb_nwk nwk = {.fcf = 0x0208,
                               .dst = ticket->device,
                               .src = COORDINATOR,
                               .radius = RADIUS,
                               .seq = (uint8_t)(ticket->counter + i)};
    return zb_nwk_seal(z, key->value, &nwk, ticket->counter + i, ticket->gateway, ticket->key_seq, wr_span(&payload),
                       out);
}
