#include "cse-shim/base/hex.h"

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool hex_decode(const char *text, size_t len, uint8_t *out, size_t n)
{
    if (len != 2 * n)
        return false;
    for (size_t i = 0; i < n; i++) {
        int hi = digit(text[2 * i]), lo = digit(text[2 * i + 1]);
        if (hi < 0 || lo < 0)
            return false;
        out[i] = (uint8_t)(hi << 4 | lo);
    }
    return true;
}

void hex_encode(const void *bytes, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *b = bytes;
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[b[i] >> 4];
        out[2 * i + 1] = digits[b[i] & 15];
    }
    out[2 * n] = '\0';
}

bool eui64_parse(const char *text, eui64_t *out)
{
    char plain[16];
    size_t len = strlen(text);
    if (len != 16 && len != 23)
        return false;
    size_t k = 0;
    for (size_t i = 0; i < len; i++) {
        bool separator = len == 23 && i % 3 == 2;
        if (separator && (text[i] != text[2] || (text[i] != ':' && text[i] != '-')))
            return false;
        if (!separator)
            plain[k++] = text[i];
    }
    uint8_t b[8];
    if (!hex_decode(plain, 16, b, 8))
        return false;
    struct rd r = {b, 8};
    return rd_be64(&r, out);
}

void eui64_print(eui64_t eui, char out[17])
{
    uint8_t b[8];
    struct wr w = wr_of(b, sizeof b);
    wr_be64(&w, eui);
    hex_encode(b, sizeof b, out);
}
