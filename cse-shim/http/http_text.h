/* The texts of an HTTP request that need parsing: target, media types. Pure. */
#pragma once
#include "cse-shim/host/request.h"

/* Request target ("/mef/x?fu=1"): decoded segments and parameters go into r. */
void http_read_target(struct request *r, struct span target);

/* Content-Type value: format number (FORMAT_UNKNOWN for others) and the oneM2M `ty` parameter, -1 when absent (TS-0009
 * 6.2.2.3). False: `ty` is not a number. */
MUST_USE bool http_read_content_type(struct span value, unsigned *format, int *ty);

/* Accept value: the formats known here go into r, the best quality first; one that names none known adds
 * FORMAT_UNKNOWN. RFC 9110 12.5.1; a range with q=0 is left out. */
void http_read_accept(struct request *r, struct span value);

/* Media type of a format number; NULL: none. */
const char *http_media_type(unsigned format);
