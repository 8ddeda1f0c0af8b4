/* CBOR (RFC 8949) at the edge, as the same tree that JSON gives (json.h): one root map or array, text keys, no duplicate
 * member, bounded depth, width and number of items. In: byte strings become padded base64 text; tags are refused, but
 * for the self-description 55799 in front; integers are refused beyond 2^53, where a tree would round them; so are
 * undefined, other simple values, NaN and the infinities. Definite and indefinite lengths are taken. Out: definite
 * lengths, whole numbers as integers (beyond 2^53 as floats), text as text; a byte string that came in as base64 leaves as that text. */
#pragma once
#include "cse-shim/base/bytes.h"

#include <cjson/cJSON.h>

#define CBOR_MAX_ITEMS 16384 /* in one body: each costs some hundred bytes of memory */

/* Parse a whole body. NULL: refused, *why (a static sentence) says what is wrong. */
MUST_USE cJSON *cbor_parse(struct span body, const char **why);

/* Print; NULL: out of memory, or nothing CBOR can carry. The bytes are *n long; free with json_text_free(). */
MUST_USE uint8_t *cbor_print(const cJSON *tree, size_t *n);
