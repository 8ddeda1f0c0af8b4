/* CBOR body: what is taken prints, and what was printed is taken again and is the same tree and the same bytes. */
#include "cse-shim/host/cbor_tree.h"
#include "cse-shim/host/json.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *why = NULL;
    size_t n = 0, m = 0;
    cJSON *tree = cbor_parse(span_of(data, size), &why);
    if (tree == NULL) {
        if (why == NULL)
            abort();
        return 0;
    }
    uint8_t *once = cbor_print(tree, &n);
    cJSON *again = once == NULL ? NULL : cbor_parse(span_of(once, n), &why);
    uint8_t *twice = again == NULL ? NULL : cbor_print(again, &m);
    if (twice == NULL || !cJSON_Compare(tree, again, true) || !span_eq(span_of(once, n), span_of(twice, m)))
        abort();
    cJSON_Delete(tree);
    cJSON_Delete(again);
    json_text_free((char *)once);
    json_text_free((char *)twice);
    return 0;
}
