/* JSON body: what is taken prints, and what was printed is taken again and prints the same. */
#include "cse-shim/host/json.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *why = NULL;
    cJSON *tree = json_parse(span_of(data, size), &why);
    if (tree == NULL) {
        if (why == NULL)
            abort();
        return 0;
    }
    char *once = json_print(tree);
    cJSON_Delete(tree);
    tree = once == NULL ? NULL : json_parse(span_str(once), &why);
    char *twice = tree == NULL ? NULL : json_print(tree);
    if (once == NULL || twice == NULL || strcmp(once, twice) != 0)
        abort();
    cJSON_Delete(tree);
    json_text_free(once);
    json_text_free(twice);
    return 0;
}
