/* What ae-client reads: ZCL frames of devices, JSON of the MEF. The first byte chooses. */
#include "ae-client/parse.h"
#include "ae-client/zcl.h"

#include <math.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_reading(void *user, const struct zcl_reading *r)
{
    size_t *visited = user;
    if (memchr(r->text, '\0', sizeof r->text) == NULL || r->name == NULL || r->unit == NULL ||
        (r->kind == ZCL_NUMBER && !isfinite(r->number)))
        abort();
    ++*visited;
}

static void fuzz_zcl(struct span in)
{
    static const uint16_t clusters[] = {0x0000, 0x0001, 0x0006, 0x0400, 0x0402, 0x040d, 0x0702, 0xfc00};
    for (size_t i = 0; i < sizeof clusters / sizeof clusters[0]; i++) {
        size_t visited = 0;
        bool malformed;
        if (zcl_readings(clusters[i], in, &malformed, check_reading, &visited) != visited)
            abort();
    }
}

static void fuzz_json(struct span in)
{
    char id[AEC_ID_MAX], text[AEC_TEXT_MAX];
    struct aec_key *key = NULL;
    struct aec_ticket ticket = {0};
    if (aec_parse_key(in, "0a1b", &key) == ST_OK && (key->len == 0 || key->len > AEC_KEY_MAX))
        abort();
    aec_key_free(key);
    if (aec_parse_uril(in, id) == ST_OK && (id[0] == '\0' || strchr(id, '/') != NULL))
        abort();
    if (aec_parse_ticket(in, &ticket) == ST_OK && (ticket.count == 0 || ticket.count > 16))
        abort();
    if (aec_parse_device(in, &ticket) == ST_OK && ticket.relkeyid[0] == '\0')
        abort();
    if (aec_parse_registration(in, id) == ST_OK && id[0] == '\0')
        abort();
    aec_parse_detail(in, text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct span in = span_of(data + 1, size - 1);
    if (data[0] == 'z')
        fuzz_zcl(in);
    else
        fuzz_json(in);
    return 0;
}
