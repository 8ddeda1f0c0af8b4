/* HTTP gate: what passes does not depend on how the bytes arrive. First byte: size of the pieces. */
#include "cse-shim/http/http_gate.h"

#include <stdlib.h>

static const struct http_gate_limits limits = {2048};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct span whole = span_of(data + 1, size - 1), said, last = span_of(NULL, 0);
    size_t step = data[0] % 16 + 1u, passed = 0;
    struct http_gate *a = http_gate_new(&limits), *b = http_gate_new(&limits);
    if (a == NULL || b == NULL)
        abort();
    size_t all = http_gate_pass(a, whole, &said);
    while (passed < whole.n && last.n == 0) {
        size_t n = whole.n - passed < step ? whole.n - passed : step;
        passed += http_gate_pass(b, span_of(whole.p + passed, n), &last);
    }
    if (all != passed || !span_eq(said, last) || (all < whole.n) != (said.n != 0))
        abort();
    if (said.n != 0 && http_gate_pass(a, whole, &said) != 0)
        abort(); /* once shut, shut */
    http_gate_free(a);
    http_gate_free(b);
    return 0;
}
