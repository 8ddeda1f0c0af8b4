/* The devices that bench programs agree on: number i's EUI-64, in no order, as a vendor's addresses come. */
#pragma once
#include "cse-shim/base/hex.h"

static inline eui64_t bench_eui64(uint64_t i)
{
    return 0x00158d0000000000u | (i * 0x9e3779b97fu & 0xffffffffffu); /* odd factor: a permutation of 40 bits */
}
