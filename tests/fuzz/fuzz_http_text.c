/* HTTP texts: first byte chooses; request target, Content-Type or Accept follows. */
#include "cse-shim/host/json.h"
#include "cse-shim/http/http_text.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_target(struct span in)
{
    static struct request r;
    memset(&r, 0, sizeof r);
    r.text = wr_of(r.text_buffer, sizeof r.text_buffer);
    http_read_target(&r, in);
    if (!utf8_valid(span_str(r.path)) || strstr(r.path, "//") != NULL || r.path[0] == '/')
        abort();
    for (size_t i = 0; i < r.pub.nparams; i++)
        if (!utf8_valid(span_str(r.params[i].name)) || !utf8_valid(span_str(r.params[i].value)))
            abort();
}

static void read_accept(struct span in)
{
    static struct request r;
    memset(&r, 0, sizeof r);
    http_read_accept(&r, in);
    if (r.naccepts > REQUEST_MAX_ACCEPTS)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned format;
    int ty;
    if (size == 0)
        return 0;
    struct span in = span_of(data + 1, size - 1);
    if (data[0] % 3 == 0)
        read_target(in);
    else if (data[0] % 3 == 1 && http_read_content_type(in, &format, &ty) && ty < -1)
        abort();
    else if (data[0] % 3 == 2)
        read_accept(in);
    return 0;
}
