/* audit_record_read: what it accepts is exactly a row's bytes, and when its texts are printable writes back the same. */
#include "mef-plugin/audit/record.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool to_text(struct span s, char out[AUDIT_TEXT_MAX + 1])
{
    memset(out, 0, AUDIT_TEXT_MAX + 1);
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < 0x20 || s.p[i] >= 0x7f)
            return false;
        out[i] = (char)s.p[i];
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct audit_record r;
    char text[AUDIT_TEXTS][AUDIT_TEXT_MAX + 1];
    uint8_t row[AUDIT_RECORD_MAX];
    struct wr w = wr_of(row, sizeof row);
    if (!audit_record_read(span_of(data, size), &r))
        return 0;
    for (size_t i = 0; i < AUDIT_TEXTS; i++)
        if (!to_text(r.text[i], text[i]))
            return 0;
    const struct audit_event e = {text[AUDIT_ADMIN], text[AUDIT_ACTOR], text[AUDIT_ACTION], text[AUDIT_OBJECT],
                                  text[AUDIT_OUTCOME]};
    audit_record_write(&w, &e, r.time, r.count);
    if (!wr_ok(&w) || !span_eq(wr_span(&w), span_of(data, size)))
        abort();
    return 0;
}
