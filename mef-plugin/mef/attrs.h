/* Reading the members of a JSON object by a table: oneM2M attributes of a create or update (TS-0004 7.3.3), and the
 * bodies of the operator REST. The caller then works with checked values only. */
#pragma once
#include "mef-plugin/mef/mef.h"

enum attr_type {
    ATTR_TEXT,      /* printable text of 1 to max bytes, no control characters */
    ATTR_TIMESTAMP, /* m2m:timestamp -> number, ms since 1970 */
    ATTR_DATE,      /* RFC 3339 -> number, ms since 1970 */
    ATTR_NUMBER,    /* whole number 0..max -> number */
    ATTR_TEXTS,     /* array of at most max printable texts of 1 to ATTR_MAX_TEXT bytes */
    ATTR_OBJECT,    /* JSON object */
    ATTR_OBJECTS    /* array of at most max JSON objects */
};
enum attr_use { ATTR_NP, ATTR_OPT, ATTR_MAN, ATTR_CLEAR /* optional, and null (in an update) takes it away */ };

#define ATTR_MAX_TEXT 255

struct attr {
    const char *name;
    enum attr_type type;
    enum attr_use create, update;
    double max;
};

struct attr_value {
    bool present; /* given, and not null */
    bool null;    /* given as null */
    const char *text;
    int64_t number;
    const cJSON *array; /* or object; NULL: not given */
};

/* Fill values[0..n) from obj. On failure: false, and st, code ("unknown-member", "not-permitted", "missing",
 * "bad-type", "bad-value", "duplicate"), field and detail of r are set; `field` may point into obj. */
MUST_USE bool attrs_read(const struct attr *table, size_t n, const cJSON *obj, bool create, struct attr_value *values,
                         struct mef_result *r);
/* The shorthand for a failed result. Returns false. */
bool mef_refuse(struct mef_result *r, enum st st, const char *code, const char *field, const char *detail);
