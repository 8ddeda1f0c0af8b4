/* A pure function's table, printed and compared with the file that an environment variable names. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

static inline void assert_golden(const char *variable, void (*print)(FILE *out))
{
    char *now = NULL, want[32768];
    size_t n;
    FILE *out = open_memstream(&now, &n), *in = fopen(getenv(variable), "r");
    assert_non_null(out);
    assert_non_null(in);
    print(out);
    fclose(out);
    want[fread(want, 1, sizeof want - 1, in)] = '\0';
    fclose(in);
    assert_string_equal(now, want);
    free(now);
}
