/* APS: what parses builds back to the same bytes; what opens seals back to them, if it came in the form that is sent.
 */
#include "mef-plugin/zigbee/zigbee.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t link_key[ZB_KEY] = {0x66, 0xb6, 0x90, 0x09, 0x81, 0xe1, 0xee, 0x3c,
                                         0xa4, 0x20, 0x6b, 0x6b, 0x86, 0x1c, 0x02, 0xbb};

static void check_open(struct zb_crypto *c, struct span frame)
{
    struct zb_aps h;
    struct zb_aux aux;
    uint8_t plain[ZB_NWK_MAX], again[ZB_NWK_MAX];
    struct wr p = wr_of(plain, sizeof plain), w = wr_of(again, sizeof again);
    if (zb_aps_open(c, link_key, frame, 0, &h, &aux, &p) != ZB_OK) {
        if (p.n != 0)
            abort();
        return;
    }
    if (aux.control != (aux.key_id << 3 | 0x20))
        return;
    if (zb_aps_seal(c, link_key, &h, aux.key_id, aux.counter, aux.src64, wr_span(&p), &w) != ZB_OK ||
        !span_eq(wr_span(&w), frame))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct zb_crypto *c;
    if (c == NULL)
        c = zb_crypto_new();
    struct span frame = span_of(data, size);
    struct zb_aps h;
    uint8_t again[ZB_NWK_MAX];
    struct wr w = wr_of(again, sizeof again);
    if (zb_aps_parse(frame, &h) != ZB_OK)
        return 0;
    zb_aps_build(&w, &h);
    wr_spanb(&w, h.payload);
    if (!wr_ok(&w) || !span_eq(wr_span(&w), frame))
        abort();
    check_open(c, frame);
    return 0;
}
