/* hdlc_decode over any bytes, in two pieces; each frame it finds is framed again and found again, alone. */
#include "mef-plugin/egp/egp.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct once {
    struct span want;
    unsigned found;
};

static void again(void *user, struct span payload)
{
    struct once *o = user;
    if (!span_eq(payload, o->want))
        abort();
    o->found++;
}

static void found(void *user, struct span payload)
{
    (void)user;
    uint8_t line[2 * EGP_MAX_MESSAGE + 8];
    struct wr w = wr_of(line, sizeof line);
    struct hdlc_decoder d = {0};
    struct once o = {payload, 0};
    if (!hdlc_encode(payload, &w))
        abort();
    hdlc_decode(&d, wr_span(&w), again, &o);
    if (o.found != 1 || d.bad_frames != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hdlc_decoder d = {0};
    size_t cut = size != 0 ? data[0] % size : 0;
    hdlc_decode(&d, span_of(data, cut), found, NULL);
    hdlc_decode(&d, span_of(data + cut, size - cut), found, NULL);
    return 0;
}
