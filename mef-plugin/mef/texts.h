/* A list of owned texts (labels, target ids, members), and the few record fields every table of mef/ is made of. */
#pragma once
#include "cse-shim/base/bytes.h"

#include <cjson/cJSON.h>

struct strings {
    char **v;
    size_t n;
};

/* Append a copy, unless it is in the list already. False: out of memory. */
MUST_USE bool strings_add(struct strings *s, const char *text);
bool strings_has(const struct strings *s, const char *text);
const char *strings_find(const struct strings *s, const char *text); /* the list's own copy; NULL: it has none */
void strings_free(struct strings *s);
MUST_USE cJSON *strings_json(const struct strings *s); /* array; NULL: out of memory */

/* Fields of a stored record: a text is its length in 16 bits, big endian, and its bytes. Readers give owned copies. */
void rec_text(struct wr *w, const char *text);
MUST_USE bool rec_rd_text(struct rd *r, char **out);
void rec_strings(struct wr *w, const struct strings *s);
MUST_USE bool rec_rd_strings(struct rd *r, struct strings *out);
