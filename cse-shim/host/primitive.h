/* What TS-0004 7.3.2.1 asks of a request primitive before anyone looks at its content. */
#pragma once
#include "cse-shim/host/request.h"

/* Refuses r where the primitive is wrong; takes the parameters that are the host's (rt) out of the query. `now`: ms since
 * 1970 UTC. */
void primitive_check(struct request *r, int64_t now);

/* m2m:absRelTimestamp (TS-0004 6.3.3): "YYYYMMDDThhmmss[,f]" in UTC, or milliseconds from now. False: neither. */
MUST_USE bool primitive_time(const char *text, int64_t now, int64_t *ms);

/* A moment as m2m:timestamp. */
#define PRIMITIVE_TIME_TEXT 16
void primitive_time_print(int64_t ms, char out[PRIMITIVE_TIME_TEXT]);
