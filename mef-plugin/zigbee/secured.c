/* The auxiliary security header (Zig 4.5.1) and the one CCM* transformation that both layers use. Level bits travel as
 * 0; level 5 (encryption, 4-byte MIC) is put back for the nonce and the authenticated data, whatever was received. */
#include "mef-plugin/zigbee/internal.h"
#include <openssl/crypto.h>

enum { LEVEL = 5, LEVEL_BITS = 0x07, EXTENDED_NONCE = 0x20, AUX_MAX = 14 };

enum zb_err zb_aux_parse(struct rd *r, struct zb_aux *out)
{
    *out = (struct zb_aux){0};
    if (!rd_u8(r, &out->control) || !rd_le32(r, &out->counter))
        return ZB_TRUNCATED;
    out->key_id = out->control >> 3 & 3;
    out->has_src64 = (out->control & EXTENDED_NONCE) != 0;
    if (out->has_src64 && !rd_le64(r, &out->src64))
        return ZB_TRUNCATED;
    if (out->key_id == ZB_KEY_ID_NWK && !rd_u8(r, &out->key_seq))
        return ZB_TRUNCATED;
    return ZB_OK;
}

static void aux_build(struct wr *w, const struct zb_aux *a)
{
    wr_u8(w, (uint8_t)(a->key_id << 3 | EXTENDED_NONCE));
    wr_le32(w, a->counter);
    wr_le64(w, a->src64);
    if (a->key_id == ZB_KEY_ID_NWK)
        wr_u8(w, a->key_seq);
}

/* Nonce (Zig 4.5.2.2): source, counter, control with the level. */
static void nonce_build(uint8_t nonce[13], eui64_t source, uint32_t counter, uint8_t control)
{
    struct wr w = wr_of(nonce, 13);
    wr_le64(&w, source);
    wr_le32(&w, counter);
    wr_u8(&w, control);
}

static uint8_t with_level(uint8_t control)
{
    return (uint8_t)((control & ~LEVEL_BITS) | LEVEL);
}

enum zb_err zb_secured_seal(struct zb_crypto *c, const uint8_t key[ZB_KEY], size_t start, const struct zb_aux *aux,
                            struct span payload, struct wr *out)
{
    size_t control_at = out->n;
    aux_build(out, aux);
    size_t aad_end = out->n;
    uint8_t *text = wr_reserve(out, payload.n + ZB_MIC);
    if (!wr_ok(out))
        return ZB_NO_SPACE;

    uint8_t control = out->p[control_at];
    uint8_t nonce[13];
    nonce_build(nonce, aux->src64, aux->counter, with_level(control));
    out->p[control_at] = with_level(control);
    enum zb_err e = zb_ccm_seal(c, key, nonce, span_of(out->p + start, aad_end - start), payload, ZB_MIC, text);
    out->p[control_at] = control;
    return e;
}

enum zb_err zb_secured_open(struct zb_crypto *c, const uint8_t key[ZB_KEY], const struct zb_secured *s,
                            struct wr *plain)
{
    if (s->body.n < ZB_MIC)
        return ZB_TRUNCATED;
    if (s->body.n > ZB_NWK_MAX)
        return ZB_MALFORMED;

    uint8_t aad[ZB_NWK_MAX + AUX_MAX];
    struct wr a = wr_of(aad, sizeof aad);
    wr_spanb(&a, s->header);
    wr_u8(&a, with_level(s->aux->control));
    wr_bytes(&a, s->aux_bytes.p + 1, s->aux_bytes.n - 1);
    if (!wr_ok(&a))
        return ZB_MALFORMED;

    uint8_t nonce[13];
    nonce_build(nonce, s->source, s->aux->counter, with_level(s->aux->control));
    uint8_t text[ZB_NWK_MAX];
    enum zb_err e = zb_ccm_open(c, key, nonce, wr_span(&a), s->body, ZB_MIC, text);
    size_t len = s->body.n - ZB_MIC;
    if (e == ZB_OK && plain->cap - plain->n < len)
        e = ZB_NO_SPACE;
    if (e == ZB_OK)
        wr_bytes(plain, text, len);
    OPENSSL_cleanse(text, sizeof text);
    return e;
}
