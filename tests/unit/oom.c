#include "tests/unit/oom.h"

#include <errno.h>
#include <stddef.h>

static _Thread_local unsigned long due;
static _Thread_local bool struck;

void oom_at(unsigned long n)
{
    due = n;
    struck = false;
}

bool oom_end(void)
{
    due = 0;
    return struck;
}

static bool fails(void)
{
    if (due == 0 || --due != 0)
        return false;
    struck = true;
    errno = ENOMEM;
    return true;
}

/* The names are the linker's: NAME becomes __wrap_NAME, and what it was is __real_NAME. */
/* NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c) */
#define WRAP(type, name, parameters, arguments)                                                                        \
    type __real_##name parameters;                                                                                     \
    type __wrap_##name parameters;                                                                                     \
    type __wrap_##name parameters                                                                                      \
    {                                                                                                                  \
        return fails() ? NULL : __real_##name arguments;                                                               \
    }

WRAP(void *, malloc, (size_t n), (n))
WRAP(void *, calloc, (size_t n, size_t size), (n, size))
WRAP(void *, realloc, (void *p, size_t n), (p, n))
WRAP(void *, reallocarray, (void *p, size_t n, size_t size), (p, n, size))
WRAP(char *, strdup, (const char *s), (s))
WRAP(char *, strndup, (const char *s, size_t n), (s, n))
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c) */
