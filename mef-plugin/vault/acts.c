/* Acts on Zigbee frames: the keys stay here. */
#include "mef-plugin/vault/internal.h"

#include <openssl/crypto.h>

enum zb_err aps_command(struct zb_crypto *zb, const uint8_t *link_key, const uint8_t *carried,
                        const struct vault_aps_command *in, struct wr *aps)
{
    struct zb_cmd cmd = *in->cmd;
    struct zb_aps header = {.fcf = ZB_APS_COMMAND, .counter = in->aps_counter};
    if (in->ack_request)
        header.fcf |= ZB_APS_ACK_REQUEST;
    if (carried != NULL)
        memcpy(cmd.key, carried, ZB_KEY);
    uint8_t plain[ZB_NWK_MAX];
    struct wr pw = wr_of(plain, sizeof plain);
    enum zb_err e = carried != NULL && link_key == NULL ? ZB_NO_KEY : zb_cmd_build(&pw, &cmd);
    if (e == ZB_OK && link_key != NULL) {
        e = zb_aps_seal(zb, link_key, &header, in->key_id, in->counter, in->source, wr_span(&pw), aps);
    } else if (e == ZB_OK) {
        zb_aps_build(aps, &header);
        wr_spanb(aps, wr_span(&pw));
        e = wr_ok(aps) ? ZB_OK : ZB_NO_SPACE;
    }
    OPENSSL_cleanse(&cmd, sizeof cmd);
    OPENSSL_cleanse(plain, sizeof plain);
    return e;
}

/* Does a Transport-Key of this type carry keys of this kind? */
static bool carries(const struct zb_cmd *cmd, enum vault_kind kind)
{
    return cmd->id == ZB_TRANSPORT_KEY && ((cmd->key_type == ZB_KEYTYPE_NWK && kind == VAULT_NETWORK_KEY) ||
                                           (cmd->key_type == ZB_KEYTYPE_TCLK && kind == VAULT_TCLK));
}

enum st vault_aps_command(struct vault *v, const struct vault_aps_command *in, struct wr *aps)
{
    struct key link, carried;
    enum st st = ST_NOT_FOUND;
    key_open(v, in->link_key, &link);
    key_open(v, in->carried, &carried);
    if ((in->link_key == 0 || link.n == ZB_KEY) &&
        (in->carried == 0 ? in->cmd->id != ZB_TRANSPORT_KEY : carried.n == ZB_KEY && carries(in->cmd, carried.kind))) {
        enum zb_err e = aps_command(v->zb, in->link_key != 0 ? link.bytes : NULL,
                                    in->carried != 0 ? carried.bytes : NULL, in, aps);
        st = e == ZB_OK ? ST_OK : ST_INTERNAL;
    }
    key_wipe(&link);
    key_wipe(&carried);
    return st;
}

enum zb_err vault_aps_open(struct vault *v, vault_id link_key, struct span frame, eui64_t source, struct zb_aps *h,
                           struct zb_aux *aux, struct wr *plain)
{
    struct key key;
    enum zb_err e = zb_aps_parse(frame, h);
    if (e != ZB_OK)
        return e;
    struct rd r = rd_of(h->payload);
    e = zb_aux_parse(&r, aux);
    if (e != ZB_OK)
        return e;
    if (aux->has_src64 && aux->src64 != source)
        return ZB_NO_KEY;
    key_open(v, link_key, &key);
    e = key.n == ZB_KEY ? zb_aps_open(v->zb, key.bytes, frame, source, h, aux, plain) : ZB_NO_KEY;
    key_wipe(&key);
    return e;
}

bool vault_verify_hash(struct vault *v, vault_id link_key, const uint8_t hash[ZB_KEY])
{
    struct key key;
    uint8_t want[ZB_KEY];
    key_open(v, link_key, &key);
    bool ok = key.n == ZB_KEY && zb_derive(v->zb, key.bytes, ZB_KEY_VERIFY, want) == ZB_OK &&
              CRYPTO_memcmp(want, hash, ZB_KEY) == 0;
    key_wipe(&key);
    OPENSSL_cleanse(want, sizeof want);
    return ok;
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
