/* The reflected CRC-16 of polynomial 0x1021 (0x8408), low bit first: one loop for its two members used here.
 * CRC-16/X-25 (HDLC): start 0xffff, invert the result. CRC-16/KERMIT (IEEE 802.15.4 FCS): start 0, as it is. */
#pragma once
#include "cse-shim/base/bytes.h"

static inline uint16_t crc16_reflected(uint16_t crc, struct span in)
{
    for (size_t i = 0; i < in.n; i++) {
        crc ^= in.p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (uint16_t)(crc >> 1 ^ (crc & 1 ? 0x8408 : 0));
    }
    return crc;
}

static inline uint16_t crc16_x25(struct span in) { return (uint16_t)~crc16_reflected(0xffff, in); }
static inline uint16_t crc16_kermit(struct span in) { return crc16_reflected(0, in); }
