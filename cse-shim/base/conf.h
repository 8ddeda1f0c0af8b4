/* Strict INI configuration driven by option tables. An unknown section or key, a repeated key or a value out of range
 * is an error that names file and line. The same table prints the commented sample and the reference. */
#pragma once
#include "cse-shim/base/bytes.h"

#include <stdio.h>

enum conf_type { CONF_STRING, CONF_INT, CONF_BOOL, CONF_PATH };

struct conf_option {
    const char *section;  /* "store", or "token.*" for a named, repeatable section [token.NAME] */
    const char *key;      /* lower case, dashes */
    enum conf_type type;
    const char *fallback; /* value when absent; NULL: absent stays absent; "!" : required (in a repeatable section:
                             required in each one) */
    int64_t min, max;     /* CONF_INT only */
    const char *help;     /* one line, with the unit */
};

struct conf;

/* Load `path` against the given tables (ntables arrays, each ended by an entry with section NULL). On failure returns
 * NULL and writes one line "FILE:LINE: what is wrong" to err. CONF_PATH values are made absolute against the file's
 * folder. */
MUST_USE struct conf *conf_load(const char *path, const struct conf_option *const *tables, size_t ntables, char *err,
                                size_t errlen);
void conf_free(struct conf *c);

/* Values; section is the full name ("token.ops"). NULL/0/false when absent without a fallback. */
const char *conf_str(const struct conf *c, const char *section, const char *key);
int64_t conf_int(const struct conf *c, const char *section, const char *key);
bool conf_bool(const struct conf *c, const char *section, const char *key);

/* Visit each section whose name begins with prefix ("token."), in file order. fn returns false to stop. */
void conf_sections(const struct conf *c, const char *prefix, bool (*fn)(void *user, const char *section), void *user);

/* The value of one key before the tables are known (which plugin to load); NULL: absent or the file cannot be read.
 * The caller frees it. */
char *conf_peek(const char *path, const char *section, const char *key);

/* Write the commented sample that the tables describe: every option, its help, range and default. */
void conf_print_sample(FILE *out, const struct conf_option *const *tables, size_t ntables);
