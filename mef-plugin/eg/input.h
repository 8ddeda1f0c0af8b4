/* Reading the JSON bodies of the operator REST: each reader checks one member, and on failure sets code and field of
 * the result and returns false. Absent members leave `out` as it was. */
#pragma once
#include "mef-plugin/mef/attrs.h"

/* An object with known members only, each at most once. `names` ends with NULL. */
MUST_USE bool input_members(const cJSON *in, const char *const *names, struct mef_result *r);
/* Printable text of 1 to max bytes; borrowed from `in`. */
MUST_USE bool input_text(const cJSON *in, const char *name, size_t max, const char **out, struct mef_result *r);
/* RFC 3339 or m2m:timestamp -> ms since 1970. */
MUST_USE bool input_time(const cJSON *in, const char *name, int64_t *out, struct mef_result *r);
/* An array of at most max elements; fn checks and takes one each, false: refused as "bad-value". */
MUST_USE bool input_list(const cJSON *in, const char *name, size_t max, bool (*fn)(void *user, const cJSON *element),
                         void *user, struct mef_result *r);
bool input_is_text(const cJSON *j, size_t max);

/* For the answers. */
void output_time(cJSON *out, const char *name, int64_t ms); /* RFC 3339 UTC; nothing for 0 */
void output_eui(cJSON *out, const char *name, eui64_t eui);
