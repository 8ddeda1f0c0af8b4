/* Points in time as text: oneM2M's m2m:timestamp (TS-0004 6.3.3: "YYYYMMDDThhmmss", UTC, an optional fraction behind a
 * comma) and RFC 3339 for the operator REST. In memory a time is milliseconds since 1970 UTC. */
#pragma once
#include "cse-shim/base/bytes.h"

#define WHEN_TEXT 24 /* holds either form and its NUL */

/* Years 1970 to 9999; fractions of a second are read and dropped. False: not in this form, or no such date. */
MUST_USE bool when_parse_m2m(const char *text, int64_t *ms);
void when_print_m2m(int64_t ms, char out[WHEN_TEXT]);
/* RFC 3339 with 'Z' or an offset. */
MUST_USE bool when_parse_rfc3339(const char *text, int64_t *ms);
void when_print_rfc3339(int64_t ms, char out[WHEN_TEXT]);
