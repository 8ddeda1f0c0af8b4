/* Acts on Zigbee frames: the keys stay here. */
#include "mef-plugin/vault/internal.h"

#include <openssl/crypto.h>

#define NWK_DATA_FCF 0x0008u   /* data, protocol version 2, no security */
#define KEY_ID_TRANSPORT 2     /* the link key's key-transport key (Zig 4.5.1.1.2) */

enum zb_err first_key_frame(struct zb_crypto *zb, const uint8_t link_key[ZB_KEY], const uint8_t network_key[ZB_KEY],
                            const struct vault_first_key *in, uint8_t nwk_seq, uint8_t aps_counter, struct wr *frame)
{
    struct zb_nwk nwk = {.fcf = NWK_DATA_FCF, .dst = in->device_short, .src = in->gateway_short,
                         .radius = in->radius, .seq = nwk_seq};
    if (in->extended) {
        nwk.fcf |= ZB_FCF_DST64 | ZB_FCF_SRC64;
        nwk.has_dst64 = nwk.has_src64 = true;
        nwk.dst64 = in->device;
        nwk.src64 = in->gateway;
    }
    struct zb_cmd cmd = {.id = ZB_TRANSPORT_KEY, .key_type = ZB_KEYTYPE_NWK, .key_seq = in->key_seq,
                         .dst = in->device, .src = in->gateway};
    memcpy(cmd.key, network_key, ZB_KEY);
    const struct zb_aps aps = {.fcf = ZB_APS_COMMAND | ZB_APS_SECURITY, .counter = aps_counter};
    uint8_t plain[64], sealed[ZB_NWK_MAX];
    struct wr pw = wr_of(plain, sizeof plain), sw = wr_of(sealed, sizeof sealed);

    enum zb_err e = zb_cmd_build(&pw, &cmd);
    if (e == ZB_OK)
        e = zb_aps_seal(zb, link_key, &aps, KEY_ID_TRANSPORT, in->counter, in->gateway, wr_span(&pw), &sw);
    if (e == ZB_OK) {
        zb_nwk_build(frame, &nwk);
        wr_spanb(frame, wr_span(&sw));
        e = wr_ok(frame) ? ZB_OK : ZB_NO_SPACE;
    }
    OPENSSL_cleanse(&cmd, sizeof cmd);
    OPENSSL_cleanse(plain, sizeof plain);
    return e;
}

enum st vault_forge_first_key(struct vault *v, const struct vault_first_key *in, struct wr *frame)
{
    struct key link, network;
    enum st st = ST_NOT_FOUND;
    key_open(v, in->link_key, &link);
    key_open(v, in->network_key, &network);
    if (link.n == ZB_KEY && network.n == ZB_KEY && network.kind == VAULT_NETWORK_KEY) {
        uint8_t low = (uint8_t)in->counter;
        enum zb_err e = first_key_frame(v->zb, link.bytes, network.bytes, in, low, low, frame);
        st = e == ZB_OK ? ST_OK : ST_INTERNAL;
    }
    key_wipe(&link);
    key_wipe(&network);
    return st;
}

enum zb_err vault_nwk_open(struct vault *v, vault_id network_key, struct span frame, struct zb_nwk *h,
                           struct zb_aux *aux, struct wr *plain)
{
    struct key key;
    key_open(v, network_key, &key);
    enum zb_err e = key.n == ZB_KEY ? zb_nwk_open(v->zb, key.bytes, frame, h, aux, plain) : ZB_NO_KEY;
    key_wipe(&key);
    return e;
}

enum zb_err vault_nwk_seal(struct vault *v, vault_id network_key, const struct zb_nwk *h, uint32_t counter,
                           eui64_t source, uint8_t key_seq, struct span payload, struct wr *frame)
{
    struct key key;
    key_open(v, network_key, &key);
    enum zb_err e = key.n == ZB_KEY ? zb_nwk_seal(v->zb, key.bytes, h, counter, source, key_seq, payload, frame)
                                    : ZB_NO_KEY;
    key_wipe(&key);
    return e;
}
