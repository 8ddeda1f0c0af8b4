/* Install codes (BDB 10.1) and the link keys nobody may rely on. */
#include "mef-plugin/zigbee/internal.h"
#include <openssl/crypto.h>

uint16_t zb_crc16_x25(struct span in)
{
    uint16_t crc = 0xffff;
    for (size_t i = 0; i < in.n; i++) {
        crc ^= in.p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (uint16_t)((crc & 1) != 0 ? crc >> 1 ^ 0x8408 : crc >> 1);
    }
    return crc ^ 0xffff;
}

static int hex_digit(char ch)
{
    if (ch >= '0' && ch <= '9')
        return ch - '0';
    char lower = (char)(ch | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static bool code_length_ok(size_t n)
{
    return n == 8 || n == 10 || n == 14 || n == 18;
}

enum zb_err zb_install_code_parse(const char *text, uint8_t out[18], size_t *len)
{
    uint8_t code[18] = {0};
    size_t digits = 0;
    for (; *text != '\0'; text++) {
        if (*text == ' ' || *text == '-')
            continue;
        int d = hex_digit(*text);
        if (d < 0)
            return ZB_BAD_HEX;
        if (digits < 2 * sizeof code)
            code[digits / 2] = (uint8_t)(code[digits / 2] << 4 | d);
        digits++;
    }
    bool ok = digits % 2 == 0 && code_length_ok(digits / 2);
    if (ok) {
        memcpy(out, code, digits / 2);
        *len = digits / 2;
    }
    OPENSSL_cleanse(code, sizeof code);
    return ok ? ZB_OK : ZB_BAD_LENGTH;
}

enum zb_err zb_install_code_check(struct span code)
{
    if (!code_length_ok(code.n))
        return ZB_BAD_LENGTH;
    uint16_t crc = zb_crc16_x25(span_of(code.p, code.n - 2));
    uint8_t wire[2] = {(uint8_t)crc, (uint8_t)(crc >> 8)};
    return CRYPTO_memcmp(wire, code.p + code.n - 2, 2) == 0 ? ZB_OK : ZB_BAD_CRC;
}

enum zb_err zb_install_code_key(struct zb_crypto *c, struct span code, uint8_t link_key[ZB_KEY])
{
    enum zb_err e = zb_install_code_check(code);
    return e == ZB_OK ? zb_mmo(c, code, link_key) : e;
}

bool zb_key_is_public(const uint8_t key[ZB_KEY])
{
    static const uint8_t known[][ZB_KEY] = {
        /* "ZigBeeAlliance09", the default global Trust Centre link key (BDB 6.3.1), and the same reversed, which tools
         * with the other byte order write. */
        {0x5a, 0x69, 0x67, 0x42, 0x65, 0x65, 0x41, 0x6c, 0x6c, 0x69, 0x61, 0x6e, 0x63, 0x65, 0x30, 0x39},
        {0x39, 0x30, 0x65, 0x63, 0x6e, 0x61, 0x69, 0x6c, 0x6c, 0x41, 0x65, 0x65, 0x42, 0x67, 0x69, 0x5a},
        /* Distributed security global link key for uncertified and test devices (BDB 6.3.2), also the Light Link
         * certification link key. */
        {0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf},
        /* Touchlink certification key, key index 15 (BDB 6.3.4). */
        {0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xcb, 0xcc, 0xcd, 0xce, 0xcf},
        /* Touchlink (Light Link) master key, key index 4, published in 2015. */
        {0x9f, 0x55, 0x95, 0xf1, 0x02, 0x57, 0xc8, 0xa4, 0x69, 0xcb, 0xf4, 0x2b, 0xc9, 0x3f, 0xee, 0x31},
        /* Light Link commissioning link key = distributed security global link key of certified devices, published
         * with it. */
        {0x81, 0x42, 0x86, 0x86, 0x5d, 0xc1, 0xc8, 0xb2, 0xc8, 0xcb, 0xc5, 0x2e, 0x5d, 0x65, 0xd1, 0xb8},
        /* Smart Energy test preconfigured link key. */
        {0x56, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77},
        /* Default network key of zigbee2mqtt and zigbee-shepherd. */
        {0x01, 0x03, 0x05, 0x07, 0x09, 0x0b, 0x0d, 0x0f, 0x00, 0x02, 0x04, 0x06, 0x08, 0x0a, 0x0c, 0x0d},
        /* Unset keys: all zero, all ones. */
        {0},
        {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
        /* The counting pattern of examples. */
        {0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f},
    };
    bool found = false; /* no early end: the time tells nothing */
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        found |= CRYPTO_memcmp(key, known[i], ZB_KEY) == 0;
    return found;
}
