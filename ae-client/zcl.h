/* Zigbee Cluster Library: attribute values in reports and read responses, with names and units; pure. */
#pragma once
#include "cse-shim/base/bytes.h"

#define ZCL_TEXT_MAX 64 /* a string value is cut to this, NUL included */

enum zcl_kind { ZCL_NONE /* the type's non-value: nothing measured */, ZCL_BOOL, ZCL_NUMBER, ZCL_TEXT };

struct zcl_reading {
    uint16_t cluster;
    uint16_t attribute;
    enum zcl_kind kind;
    bool boolean;
    double number;           /* scaled to `unit` where the attribute is known, else as sent */
    unsigned decimals;       /* digits worth printing behind the point */
    char text[ZCL_TEXT_MAX]; /* printable ASCII or UTF-8 as sent; octet strings in hex */
    const char *name;        /* "temperature"; "" when the attribute is not in the table */
    const char *unit;        /* "°C"; "" when it has none */
};

/* Visit the readings of one ZCL frame: Report Attributes (0x0a) or Read Attributes Response (0x01) of a standard
 * profile. Returns how many were visited; 0 when it is another command. *malformed is set when the frame ends early or
 * holds a type that cannot be skipped; what came before is visited. */
size_t zcl_readings(uint16_t cluster, struct span frame, bool *malformed,
                    void (*fn)(void *user, const struct zcl_reading *r), void *user);
