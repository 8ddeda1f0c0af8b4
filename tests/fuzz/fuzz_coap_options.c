/* CoAP options to a request. Input: code, then options as {number 2 bytes, length 1 byte, value}. */
#include "cse-shim/host/coap_binding.h"
#include "cse-shim/host/json.h"

#include <stdlib.h>

#define MAX_OPTIONS 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct request r;
    struct cep_option opts[MAX_OPTIONS];
    struct cep_message m = {.opts = opts};
    struct rd in = rd_of(span_of(data, size));
    uint64_t num, len;
    if (!rd_u8(&in, &m.code))
        return 0;
    while (m.nopts < MAX_OPTIONS && rd_be(&in, 2, &num) && rd_be(&in, 1, &len)) {
        opts[m.nopts].num = (uint16_t)num;
        if (!rd_span(&in, len, &opts[m.nopts].val))
            break;
        m.nopts++;
    }
    memset(&r, 0, sizeof r);
    r.text = wr_of(r.text_buffer, sizeof r.text_buffer);
    if (!coap_request_read(&r, &m) || r.refusal != ST_OK)
        return 0;
    if ((r.pub.from != NULL && !utf8_valid(span_str(r.pub.from))) || !utf8_valid(span_str(r.path)) || r.path[0] == '/')
        abort();
    return 0;
}
