/* Hexadecimal, and EUI-64s in their printed form (16 hex digits, most significant byte first, IEEE 802). */
#pragma once
#include "cse-shim/base/bytes.h"

/* Decode exactly 2*n hex digits (either case) of `text` (length len) into out. False on a wrong length or digit. */
MUST_USE bool hex_decode(const char *text, size_t len, uint8_t *out, size_t n);

/* Encode n bytes as 2*n lower-case digits plus NUL; out holds at least 2*n+1 characters. */
void hex_encode(const void *bytes, size_t n, char *out);

/* An EUI-64 is held as a number whose most significant byte is the first printed one; rd_le64/wr_le64 carry it in
 * Zigbee's on-air order. */
typedef uint64_t eui64_t;

/* Parse 16 hex digits, or the same with ':' or '-' between bytes. False if it is anything else. */
MUST_USE bool eui64_parse(const char *text, eui64_t *out);

/* Print as 16 lower-case hex digits plus NUL; out holds at least 17 characters. */
void eui64_print(eui64_t eui, char out[17]);
