#include "mef-plugin/audit/record.h"

#define VERSION 1
#define TIME_END 253402300800000u /* ms; the year 10000, which RFC 3339 cannot print */

static void write_text(struct wr *w, const char *text)
{
    size_t n = text == NULL ? 0 : strnlen(text, AUDIT_TEXT_MAX);
    wr_u8(w, (uint8_t)n);
    for (size_t i = 0; i < n; i++)
        wr_u8(w, text[i] >= 0x20 && text[i] < 0x7f ? (uint8_t)text[i] : '?');
}

void audit_record_write(struct wr *w, const struct audit_event *e, int64_t time, uint32_t count)
{
    wr_u8(w, VERSION);
    wr_be64(w, (uint64_t)time);
    wr_be32(w, count);
    write_text(w, e->admin);
    write_text(w, e->actor);
    write_text(w, e->action);
    write_text(w, e->object);
    write_text(w, e->outcome);
}

bool audit_record_read(struct span row, struct audit_record *out)
{
    struct rd r = rd_of(row);
    uint8_t version, n;
    uint64_t time;
    bool ok = rd_u8(&r, &version) && version == VERSION && rd_be64(&r, &time) && time < TIME_END &&
              rd_be32(&r, &out->count);
    for (size_t i = 0; ok && i < AUDIT_TEXTS; i++)
        ok = rd_u8(&r, &n) && rd_span(&r, n, &out->text[i]);
    if (ok)
        out->time = (int64_t)time;
    return ok && rd_end(&r);
}
