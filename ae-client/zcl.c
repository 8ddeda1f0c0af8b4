#include "ae-client/zcl.h"

#include "cse-shim/base/hex.h"

#include <math.h>

enum { CMD_READ_RESPONSE = 0x01, CMD_REPORT = 0x0a };
enum { FC_TYPE_MASK = 0x03, FC_MANUFACTURER = 0x04 };

/* ZCL 2.6.2: how the types that sensors use are laid out. */
enum layout { UNSIGNED, SIGNED, BITMAP, BOOLEAN, SINGLE, DOUBLE, OCTETS, STRING };
struct type {
    uint8_t id;
    uint8_t size; /* bytes; 0: a length byte precedes */
    enum layout layout;
};
static const struct type types[] = {
    {0x08, 1, BITMAP},   {0x09, 2, BITMAP},   {0x0a, 3, BITMAP},   {0x0b, 4, BITMAP},   {0x0c, 5, BITMAP},
    {0x0d, 6, BITMAP},   {0x0e, 7, BITMAP},   {0x0f, 8, BITMAP},   {0x10, 1, BOOLEAN},  {0x18, 1, BITMAP},
    {0x19, 2, BITMAP},   {0x1a, 3, BITMAP},   {0x1b, 4, BITMAP},   {0x1c, 5, BITMAP},   {0x1d, 6, BITMAP},
    {0x1e, 7, BITMAP},   {0x1f, 8, BITMAP},   {0x20, 1, UNSIGNED}, {0x21, 2, UNSIGNED}, {0x22, 3, UNSIGNED},
    {0x23, 4, UNSIGNED}, {0x24, 5, UNSIGNED}, {0x25, 6, UNSIGNED}, {0x26, 7, UNSIGNED}, {0x27, 8, UNSIGNED},
    {0x28, 1, SIGNED},   {0x29, 2, SIGNED},   {0x2a, 3, SIGNED},   {0x2b, 4, SIGNED},   {0x2c, 5, SIGNED},
    {0x2d, 6, SIGNED},   {0x2e, 7, SIGNED},   {0x2f, 8, SIGNED},   {0x30, 1, UNSIGNED}, {0x31, 2, UNSIGNED},
    {0x39, 4, SINGLE},   {0x3a, 8, DOUBLE},   {0x41, 0, OCTETS},   {0x42, 0, STRING},   {0xe2, 4, UNSIGNED},
    {0xe8, 2, UNSIGNED}, {0xe9, 2, UNSIGNED}, {0xf0, 8, BITMAP},
};

/* What an attribute means. Where a device announces a divisor of its own (metering, electrical measurement) this is the
 * usual one. */
struct attribute {
    uint16_t cluster, id;
    unsigned decimals;
    double scale; /* 0: illuminance, 10^((v - 1) / 10000) */
    const char *name, *unit;
};
static const struct attribute attributes[] = {
    {0x0000, 0x0004, 0, 1, "manufacturer name", ""},
    {0x0000, 0x0005, 0, 1, "model identifier", ""},
    {0x0001, 0x0020, 1, 0.1, "battery voltage", "V"},
    {0x0001, 0x0021, 1, 0.5, "battery remaining", "%"},
    {0x0006, 0x0000, 0, 1, "on/off", ""},
    {0x0008, 0x0000, 0, 1, "level", ""},
    {0x0101, 0x0000, 0, 1, "lock state", ""},
    {0x0102, 0x0008, 0, 1, "lift position", "%"},
    {0x0201, 0x0000, 2, 0.01, "local temperature", "°C"},
    {0x0201, 0x0012, 2, 0.01, "occupied heating set-point", "°C"},
    {0x0400, 0x0000, 1, 0, "illuminance", "lx"},
    {0x0402, 0x0000, 2, 0.01, "temperature", "°C"},
    {0x0403, 0x0000, 0, 1, "pressure", "hPa"},
    {0x0404, 0x0000, 1, 0.1, "flow", "m³/h"},
    {0x0405, 0x0000, 2, 0.01, "relative humidity", "%"},
    {0x0406, 0x0000, 0, 1, "occupancy", ""},
    {0x040d, 0x0000, 0, 1e6, "carbon dioxide", "ppm"},
    {0x042a, 0x0000, 1, 1, "PM2.5", "µg/m³"},
    {0x0500, 0x0002, 0, 1, "zone status", ""},
    {0x0702, 0x0000, 3, 0.001, "energy delivered", "kWh"},
    {0x0702, 0x0400, 3, 0.001, "instantaneous demand", "kW"},
    {0x0b04, 0x0505, 0, 1, "RMS voltage", "V"},
    {0x0b04, 0x0508, 3, 0.001, "RMS current", "A"},
    {0x0b04, 0x050b, 0, 1, "active power", "W"},
};

static const struct type *find_type(uint8_t id)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (types[i].id == id)
            return &types[i];
    return NULL;
}

static const struct attribute *find_attribute(uint16_t cluster, uint16_t id)
{
    for (size_t i = 0; i < sizeof attributes / sizeof attributes[0]; i++)
        if (attributes[i].cluster == cluster && attributes[i].id == id)
            return &attributes[i];
    return NULL;
}

/* A fixed-size value. The non-value is all ones (unsigned, boolean), the most negative number (signed) or NaN. */
static bool read_fixed(struct rd *r, const struct type *t, struct zcl_reading *out)
{
    uint64_t v;
    if (!rd_le(r, t->size, &v))
        return false;
    unsigned bits = 8u * t->size;
    uint64_t ones = UINT64_MAX >> (64 - bits), sign = 1ull << (bits - 1);
    out->kind = ZCL_NUMBER;
    out->number = (double)v;
    if (t->layout == BOOLEAN) {
        out->kind = v <= 1 ? ZCL_BOOL : ZCL_NONE;
        out->boolean = v == 1;
    } else if (t->layout == SIGNED) {
        out->number = (double)(int64_t)(v & sign ? v | ~ones : v);
        out->kind = v == sign ? ZCL_NONE : ZCL_NUMBER;
    } else if (t->layout == SINGLE || t->layout == DOUBLE) {
        float f;
        uint32_t low = (uint32_t)v;
        memcpy(&f, &low, sizeof f);
        memcpy(&out->number, &v, sizeof v);
        if (t->layout == SINGLE)
            out->number = (double)f;
        out->decimals = 6;
        out->kind = isfinite(out->number) ? ZCL_NUMBER : ZCL_NONE;
    } else if (t->layout == UNSIGNED && v == ones) {
        out->kind = ZCL_NONE;
    }
    return true;
}

/* A string: one length byte, 0xff is the non-value. */
static bool read_string(struct rd *r, const struct type *t, struct zcl_reading *out)
{
    uint8_t n;
    struct span s = {0};
    if (!rd_u8(r, &n) || (n != 0xff && !rd_span(r, n, &s)))
        return false;
    out->kind = n == 0xff ? ZCL_NONE : ZCL_TEXT;
    if (t->layout == OCTETS) {
        hex_encode(s.p, s.n < ZCL_TEXT_MAX / 2 ? s.n : ZCL_TEXT_MAX / 2 - 1, out->text);
        return true;
    }
    size_t keep = s.n < ZCL_TEXT_MAX ? s.n : ZCL_TEXT_MAX - 1;
    if (keep != 0)
        memcpy(out->text, s.p, keep);
    return true;
}

static void apply(const struct attribute *a, struct zcl_reading *out)
{
    if (a == NULL)
        return;
    out->name = a->name;
    out->unit = a->unit;
    if (out->kind != ZCL_NUMBER)
        return;
    bool integer = out->decimals == 0;
    out->number = a->scale > 0 ? out->number * a->scale : pow(10, (out->number - 1) / 10000);
    if (integer || a->scale > 1)
        out->decimals = a->decimals;
    if (!isfinite(out->number)) /* no sensor measures that */
        out->kind = ZCL_NONE;
}

static bool read_value(struct rd *r, struct zcl_reading *out)
{
    uint8_t id;
    const struct type *t = rd_u8(r, &id) ? find_type(id) : NULL;
    return t != NULL && (t->size != 0 ? read_fixed(r, t, out) : read_string(r, t, out));
}

size_t zcl_readings(uint16_t cluster, struct span frame, bool *malformed,
                    void (*fn)(void *user, const struct zcl_reading *r), void *user)
{
    struct rd r = rd_of(frame);
    uint8_t control, tsn, command;
    uint16_t id;
    *malformed = !rd_u8(&r, &control) || ((control & FC_MANUFACTURER) != 0 && !rd_le16(&r, &id)) || !rd_u8(&r, &tsn) ||
                 !rd_u8(&r, &command);
    if (*malformed || (control & (FC_TYPE_MASK | FC_MANUFACTURER)) != 0 ||
        (command != CMD_REPORT && command != CMD_READ_RESPONSE))
        return 0;
    size_t visited = 0;
    while (!rd_end(&r)) {
        struct zcl_reading out = {.cluster = cluster, .name = "", .unit = ""};
        uint8_t status = 0;
        if (!rd_le16(&r, &out.attribute) || (command == CMD_READ_RESPONSE && !rd_u8(&r, &status))) {
            *malformed = true;
            break;
        }
        if (status != 0) /* unsupported attribute and the like: nothing follows */
            continue;
        if (!read_value(&r, &out)) {
            *malformed = true;
            break;
        }
        apply(find_attribute(cluster, out.attribute), &out);
        fn(user, &out);
        visited++;
    }
    return visited;
}
