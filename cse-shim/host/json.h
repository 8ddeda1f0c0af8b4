/* JSON at the edge: strict in, plain out, and a heap that forgets. Everything past this room may rely on: one root value
 * that is an object or array, no duplicate member, valid UTF-8 without NUL, finite numbers, bounded depth and width. */
#pragma once
#include "cse-shim/base/bytes.h"

#include <cjson/cJSON.h>

#define JSON_MAX_DEPTH 16
#define JSON_MAX_MEMBERS 256 /* in one object */

/* Make every block that cJSON frees wiped first: bodies carry keys. Call once, before any tree is made. */
void json_wipe_on_free(void);

/* Parse a whole body. NULL: refused, *why (a static sentence) says what is wrong. */
MUST_USE cJSON *json_parse(struct span text, const char **why);

/* No object of the tree repeats a member or has too many, every number is finite. */
MUST_USE bool json_sound(const cJSON *tree);

/* Print on one line; integers up to 2^63 print as integers. NULL: out of memory. Free with json_text_free(). The tree
 * is only const in meaning: large integers are rewritten to their text in place. */
MUST_USE char *json_print(cJSON *tree);
void json_text_free(char *text); /* wipes; NULL is fine */

/* True if the bytes are well-formed UTF-8 (RFC 3629) without NUL. */
bool utf8_valid(struct span text);
