/* A file of tests/vectors as JSON, and the bytes that stand in it as hex. */
#pragma once
#include "cse-shim/base/bytes.h"
#include "cse-shim/base/hex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cjson/cJSON.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

/* `variable`: of the environment, set by meson to the file's path. The caller deletes it. */
static inline cJSON *vectors(const char *variable)
{
    static char text[1 << 20];
    const char *path = getenv(variable);
    assert_non_null(path);
    FILE *in = fopen(path, "r");
    assert_non_null(in);
    size_t n = fread(text, 1, sizeof text - 1, in);
    fclose(in);
    cJSON *all = cJSON_ParseWithLength(text, n);
    assert_non_null(all);
    return all;
}

/* NULL: there is no such member, or it is no text. */
static inline const char *text_of(const cJSON *o, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, name));
}

static inline size_t unhex(const cJSON *o, const char *name, uint8_t *out, size_t cap)
{
    const char *hex = text_of(o, name);
    assert_non_null(hex);
    size_t n = strlen(hex) / 2;
    assert_true(n <= cap && hex_decode(hex, 2 * n, out, n));
    return n;
}
