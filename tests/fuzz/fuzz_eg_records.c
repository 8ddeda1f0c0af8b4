/* Rows of the EG: whatever decodes is encoded again to the same bytes, or, from a row of an older version, to one that
 * is. The first byte chooses the kind. */
#include "mef-plugin/eg/records.h"

#include <stdlib.h>

static void same(struct span in, const struct wr *out)
{
    if (!wr_ok(out) || !span_eq(in, wr_span(out)))
        abort();
}

static bool device_again(struct span in, struct wr *out)
{
    struct device_row d;
    bool ok = device_decode(in, &d);
    if (ok)
        device_encode(&d, out);
    device_row_free(&d);
    return ok;
}

/* A row begins with its version. */
static void device_rows(struct span in)
{
    uint8_t buf[2 * EG_MAX_ROW], newest[2 * EG_MAX_ROW];
    struct wr out = wr_of(buf, sizeof buf), again = wr_of(newest, sizeof newest);
    if (!device_again(in, &out))
        return;
    if (!wr_ok(&out) || !device_again(wr_span(&out), &again))
        abort();
    same(wr_span(&out), &again);
    if (in.p[0] == out.p[0])
        same(in, &out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t buf[2 * EG_MAX_ROW];
    struct wr out = wr_of(buf, sizeof buf);
    struct code c;
    struct gateway_row g;
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
        device_rows(in);
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
