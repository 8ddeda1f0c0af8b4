#include "ipe-ni/gateway/state.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static bool parse_line(const char *line, eui64_t *eui, uint16_t *short_)
{
    char text[17];
    uint8_t b[2];
    size_t n = strcspn(line, "\n");
    if (n != 16 + 1 + 4 || line[16] != ' ')
        return false;
    memcpy(text, line, 16);
    text[16] = '\0';
    if (!eui64_parse(text, eui) || !hex_decode(line + 17, 4, b, 2))
        return false;
    *short_ = (uint16_t)(b[0] << 8 | b[1]);
    return *eui != 0 && *short_ != 0 && *short_ <= 0xfff7;
}

bool state_load(const char *path, struct assoc *a, char *err, size_t errlen)
{
    char line[64];
    eui64_t eui;
    uint16_t short_;
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        snprintf(err, errlen, "%s: %s", path, strerror(errno));
        return errno == ENOENT;
    }
    unsigned n = 1;
    while (fgets(line, sizeof line, f) != NULL && parse_line(line, &eui, &short_) && assoc_restore(a, eui, short_))
        n++;
    bool ok = feof(f) && !ferror(f);
    fclose(f);
    if (!ok)
        snprintf(err, errlen, "%s:%u: not \"EUI64 SHORT\", or an address twice, or more than max-devices", path, n);
    return ok;
}

static void put_line(void *user, eui64_t device, uint16_t short_)
{
    FILE *f = user;
    char text[17];
    eui64_print(device, text);
    fprintf(f, "%s %04x\n", text, short_);
}

bool state_save(const char *path, const struct assoc *a)
{
    char temporary[512];
    if (snprintf(temporary, sizeof temporary, "%s.new", path) >= (int)sizeof temporary)
        return false;
    FILE *f = fopen(temporary, "we");
    if (f == NULL)
        return false;
    assoc_each(a, put_line, f);
    bool ok = fflush(f) == 0 && fsync(fileno(f)) == 0;
    return fclose(f) == 0 && ok && rename(temporary, path) == 0;
}
