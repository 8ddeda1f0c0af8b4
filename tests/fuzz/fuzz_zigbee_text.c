/* Install codes and labels as typed. What a label gives is a code that the other parser takes, with a right CRC. */
#include "mef-plugin/zigbee/zigbee.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_label(struct zb_crypto *c, const char *text)
{
    struct zb_label label;
    const char *why;
    size_t at;
    uint8_t key[ZB_KEY], code[18];
    char hex[37];
    size_t len;
    if (zb_label_parse(text, &label, &why, &at) != ZB_OK) {
        if (why == NULL || at > strlen(text) || (at != 0) != (strcmp(why, "bad-hex") == 0))
            abort();
        return;
    }
    if (why != NULL || at != 0 || label.eui64 == 0 || label.eui64 == UINT64_MAX || label.len > sizeof label.bytes)
        abort();
    if (label.is_link_key)
        return;
    hex_encode(label.bytes, label.len, hex);
    if (zb_install_code_key(c, span_of(label.bytes, label.len), key) != ZB_OK ||
        zb_install_code_parse(hex, code, &len) != ZB_OK ||
        !span_eq(span_of(code, len), span_of(label.bytes, label.len)))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct zb_crypto *c;
    if (c == NULL)
        c = zb_crypto_new();
    char *text = malloc(size + 1);
    if (text == NULL)
        return 0;
    if (size != 0)
        memcpy(text, data, size);
    text[size] = '\0';
    uint8_t code[18];
    size_t len;
    if (zb_install_code_parse(text, code, &len) == ZB_OK && len != 8 && len != 10 && len != 14 && len != 18)
        abort();
    check_label(c, text);
    free(text);
    return 0;
}
