/* One JSON object in, one out: the answers of `mefctl zigbee` (docs/mefctl-zigbee.md). */
#pragma once
#include "cse-shim/base/bytes.h"

/* Longest line answered, in bytes without its newline. */
#define ZB_LINE_MAX 65536u
/* Space that holds any answer and its newline. */
#define ZB_ANSWER_MAX 8192u

struct zb_line;                    /* crypto contexts; one per thread */
struct zb_line *zb_line_new(void); /* NULL: OpenSSL lacks AES, or no memory */
void zb_line_free(struct zb_line *z);

struct zb_verb {
    const char *name; /* "forge" .. */
    const char *help;
};
const struct zb_verb *zb_verb_at(size_t i);           /* NULL past the last */
const struct zb_verb *zb_verb_find(const char *name); /* NULL: no such verb */

/* Append the answer to `line` and a newline to `out`, which has ZB_ANSWER_MAX bytes left. Never fails: a bad line's
 * answer says what is wrong. */
void zb_line_answer(struct zb_line *z, const struct zb_verb *verb, struct span line, struct wr *out);
