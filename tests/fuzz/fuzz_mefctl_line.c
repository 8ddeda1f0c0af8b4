/* `mefctl zigbee`: the first byte chooses the verb, the rest is the line. Each answer is one JSON object on one line.
 */
#include "mef-plugin/mefctl/zigbee_line.h"
#include <cjson/cJSON.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct zb_line *z;
    if (z == NULL)
        z = zb_line_new();
    const struct zb_verb *verb = size != 0 ? zb_verb_at(data[0] & 3) : NULL;
    if (verb == NULL)
        return 0;
    char answer[ZB_ANSWER_MAX + 1];
    struct wr w = wr_of(answer, ZB_ANSWER_MAX);
    zb_line_answer(z, verb, span_of(data + 1, size - 1), &w);
    if (!wr_ok(&w) || w.n < 3 || memchr(answer, '\n', w.n) != answer + w.n - 1)
        abort();
    answer[w.n] = '\0';
    cJSON *json = cJSON_ParseWithLengthOpts(answer, w.n + 1, NULL, true);
    if (!cJSON_IsObject(json))
        abort();
    cJSON_Delete(json);
    return 0;
}
