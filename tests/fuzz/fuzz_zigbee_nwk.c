/* NWK: what parses builds back to the same bytes; what opens seals back to them. Keys are those of the vectors, so that
 * the corpus gets past the MIC. */
#include "mef-plugin/zigbee/zigbee.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t network_key[ZB_KEY] = {0x0f, 0x0e, 0x0d, 0x0c, 0x0b, 0x0a, 0x09, 0x08,
                                            0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, 0x00};

static void check_open(struct zb_crypto *c, struct span frame)
{
    struct zb_nwk h;
    struct zb_aux aux;
    uint8_t plain[ZB_NWK_MAX], again[ZB_NWK_MAX];
    struct wr p = wr_of(plain, sizeof plain), w = wr_of(again, sizeof again);
    if (zb_nwk_open(c, network_key, frame, &h, &aux, &p) != ZB_OK) {
        if (p.n != 0)
            abort();
        return;
    }
    if (h.multicast || aux.control != 0x28)
        return;
    if (zb_nwk_seal(c, network_key, &h, aux.counter, aux.src64, aux.key_seq, wr_span(&p), &w) != ZB_OK ||
        !span_eq(wr_span(&w), frame))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct zb_crypto *c;
    if (c == NULL)
        c = zb_crypto_new();
    struct span frame = span_of(data, size);
    struct zb_nwk h;
    uint8_t again[ZB_NWK_MAX];
    struct wr w = wr_of(again, sizeof again);
    if (zb_nwk_parse(frame, &h) != ZB_OK)
        return 0;
    zb_nwk_build(&w, &h);
    wr_spanb(&w, h.payload);
    if (!h.multicast && (!wr_ok(&w) || !span_eq(wr_span(&w), frame)))
        abort();
    check_open(c, frame);
    return 0;
}
