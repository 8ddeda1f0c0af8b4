/* Rows of the EG: whatever decodes is encoded again to the same bytes. The first byte chooses the kind. */
#include "mef-plugin/eg/records.h"

#include <stdlib.h>

static void same(struct span in, const struct wr *out)
{
    if (!wr_ok(out) || !span_eq(in, wr_span(out)))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t buf[2 * EG_MAX_ROW];
    struct wr out = wr_of(buf, sizeof buf);
    struct code c;
    struct gateway_row g;
    struct device_row d;
    struct stored_response s;
    struct domain_row m;
    struct domain_name n;
    if (size == 0)
        return 0;
    struct span in = span_of(data + 1, size - 1);
    switch (data[0] % 6) {
    case 0:
        if (code_decode(in, &c)) {
            code_encode(&c, &out);
            same(in, &out);
        }
        code_free(&c);
        break;
    case 1:
        if (gateway_decode(in, &g)) {
            gateway_encode(&g, &out);
            same(in, &out);
        }
        gateway_row_free(&g);
        break;
    case 2:
        if (device_decode(in, &d)) {
            device_encode(&d, &out);
            same(in, &out);
        }
        device_row_free(&d);
        break;
    case 4:
        if (domain_decode(in, &m)) {
            domain_encode(&m, &out);
            same(in, &out);
        }
        break;
    case 5:
        if (domain_name_decode(in, &n)) {
            domain_name_encode(&n, &out);
            same(in, &out);
        }
        break;
    default:
        if (stored_response_decode(in, &s)) {
            stored_response_encode(&s, &out);
            same(in, &out);
        }
    }
    return 0;
}
