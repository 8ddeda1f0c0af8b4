/* Configuration file: anything is read, or refused with FILE:LINE. */
#include "cse-shim/base/conf.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static const struct conf_option table[] = {{"a", "text", CONF_STRING, "x", 0, 0, ""},
                                           {"a", "number", CONF_INT, "1", 0, 100, ""},
                                           {"a", "flag", CONF_BOOL, "no", 0, 0, ""},
                                           {"b.*", "path", CONF_PATH, "!", 0, 0, ""},
                                           {NULL, NULL, CONF_STRING, NULL, 0, 0, NULL}};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[64];
    const struct conf_option *const tables[] = {table};
    char err[300] = "";
    if (fd < 0) {
        fd = memfd_create("conf", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (fd < 0 || ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
        return 0;
    struct conf *c = conf_load(path, tables, 1, err, sizeof err);
    if (c == NULL ? strncmp(err, path, strlen(path)) != 0 : conf_int(c, "a", "number") > 100)
        abort();
    conf_free(c);
    return 0;
}
