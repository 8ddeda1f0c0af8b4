/* Looks for many byte strings at once: in files, and in all that a process may read of its own memory.
 *
 *   secrecy-scan TARGET.. < NEEDLES
 *     NEEDLES: a line each, ID HEX; the bytes are 8 to 512
 *     TARGET:  file:PATH, or mem:PID (the process stands still meanwhile)
 *   A line for each find: TARGET ID OFFSET REGION; at the end of each target: TARGET - BYTES scanned. Exit status: 0
 * looked everywhere, 1 could not, 2 usage.
 *
 * Every offset's next 8 bytes are hashed into a bit set made of the needles' first 8; what passes is compared. */
#include "cse-shim/base/hex.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILTER_BITS 20
#define NEEDLE_MIN 8
#define NEEDLE_MAX 512
#define BLOCK (1u << 20)
#define PAGE 4096u
#define REGION_MAX (UINT64_C(1) << 32) /* a sanitizer's shadow would take days */

struct needle {
    struct needle *next; /* of the same hash */
    char id[128];
    size_t n;
    uint8_t bytes[NEEDLE_MAX];
};

struct scanner {
    uint8_t filter[1u << (FILTER_BITS - 3)]; /* small enough to stay in the processor's cache: a bit for each hash */
    struct needle *heads[1u << FILTER_BITS];
    uint8_t block[BLOCK + NEEDLE_MAX]; /* the last bytes of the block before, then the block */
    const char *target;
    uint64_t scanned;
};

static uint32_t hash(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return (uint32_t)((v * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - FILTER_BITS));
}

static bool add_needle(struct scanner *s, char *line)
{
    struct needle *d = calloc(1, sizeof *d);
    size_t id = strcspn(line, " "), digits = strcspn(line + id, "\n");
    if (d == NULL || id >= sizeof d->id || digits < 1 + 2 * NEEDLE_MIN || digits > 1 + 2 * NEEDLE_MAX)
        return false;
    memcpy(d->id, line, id);
    d->n = (digits - 1) / 2;
    if (!hex_decode(line + id + 1, digits - 1, d->bytes, d->n))
        return false;
    uint32_t h = hash(d->bytes);
    s->filter[h >> 3] |= (uint8_t)(1u << (h & 7));
    d->next = s->heads[h];
    s->heads[h] = d;
    return true;
}

static bool read_needles(struct scanner *s, FILE *in)
{
    char line[sizeof(struct needle) + 2 * NEEDLE_MAX];
    bool ok = true;
    while (ok && fgets(line, sizeof line, in) != NULL)
        ok = add_needle(s, line);
    return ok;
}

/* Finds that begin in the first `n` of the `n + tail` bytes at p, which lie at `offset` of the target. */
static void look(const struct scanner *s, const uint8_t *p, size_t n, size_t tail, uint64_t offset, const char *region)
{
    for (size_t i = 0; i < n && n + tail - i >= NEEDLE_MIN; i++) {
        uint32_t h = hash(p + i);
        if ((s->filter[h >> 3] >> (h & 7) & 1) == 0)
            continue;
        for (const struct needle *d = s->heads[h]; d != NULL; d = d->next)
            if (d->n <= n + tail - i && memcmp(p + i, d->bytes, d->n) == 0)
                printf("%s %s %" PRIx64 " %s\n", s->target, d->id, offset + i, region);
    }
}

/* Bytes [from, to) of fd. Unreadable pages of memory are passed over; a file has no `to` and ends where reading ends.
 */
static void look_through(struct scanner *s, int fd, uint64_t from, uint64_t to, const char *region)
{
    size_t kept = 0;
    while (from < to) {
        size_t want = to - from < BLOCK ? (size_t)(to - from) : BLOCK;
        ssize_t n = pread(fd, s->block + kept, want, (off_t)from);
        if (n <= 0) {
            look(s, s->block, kept, 0, from - kept, region);
            kept = 0;
            if (n == 0 || to == UINT64_MAX)
                return;
            from += PAGE - from % PAGE;
            continue;
        }
        size_t all = kept + (size_t)n, next = all < NEEDLE_MAX ? all : NEEDLE_MAX - 1;
        look(s, s->block, all - next, next, from - kept, region);
        memmove(s->block, s->block + all - next, next);
        kept = next;
        from += (uint64_t)n;
        s->scanned += (uint64_t)n;
    }
    look(s, s->block, kept, 0, from - kept, region);
}

static bool scan_file(struct scanner *s, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT; /* it went meanwhile, and what it held with it */
    look_through(s, fd, 0, UINT64_MAX, "-");
    close(fd);
    return true;
}

static bool scan_regions(struct scanner *s, FILE *maps, int mem)
{
    char line[4096], mode[5], name[2048];
    bool any = false;
    while (fgets(line, sizeof line, maps) != NULL) {
        char *rest;
        uint64_t from = strtoull(line, &rest, 16), to = *rest == '-' ? strtoull(rest + 1, &rest, 16) : 0;
        name[0] = '\0';
        if (sscanf(rest, " %4s %*s %*s %*s %2047[^\n]", mode, name) < 1 || mode[0] != 'r')
            continue;
        if (to - from > REGION_MAX) {
            fprintf(stderr, "secrecy-scan: %s: %" PRIu64 " bytes in one region: built with a sanitizer?\n", s->target,
                    to - from);
            return false;
        }
        char region[sizeof name + 16];
        snprintf(region, sizeof region, "%s:%s", mode, name[0] == '\0' ? "anonymous" : name);
        if (strcmp(name, "[vsyscall]") != 0)
            look_through(s, mem, from, to, region);
        any = true;
    }
    return any;
}

static bool scan_memory(struct scanner *s, pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *maps = fopen(path, "re");
    snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    int mem = open(path, O_RDONLY | O_CLOEXEC);
    bool ok = maps != NULL && mem >= 0 && kill(pid, SIGSTOP) == 0;
    if (ok) {
        ok = scan_regions(s, maps, mem);
        kill(pid, SIGCONT);
    }
    if (maps != NULL)
        fclose(maps);
    if (mem >= 0)
        close(mem);
    return ok;
}

static bool scan(struct scanner *s, const char *target)
{
    s->target = target;
    s->scanned = 0;
    bool ok = strncmp(target, "file:", 5) == 0  ? scan_file(s, target + 5)
              : strncmp(target, "mem:", 4) == 0 ? scan_memory(s, (pid_t)strtol(target + 4, NULL, 10))
                                                : false;
    if (ok)
        printf("%s - %" PRIu64 "\n", target, s->scanned);
    else
        fprintf(stderr, "secrecy-scan: %s: %s\n", target, strerror(errno));
    return ok;
}

int main(int argc, char **argv)
{
    struct scanner *s = calloc(1, sizeof *s);
    if (s == NULL || argc < 2 || !read_needles(s, stdin)) {
        fputs("usage: secrecy-scan file:PATH|mem:PID.. < NEEDLES\n", stderr);
        return 2;
    }
    bool ok = true;
    for (int i = 1; i < argc; i++)
        ok &= scan(s, argv[i]);
    return ok ? 0 : 1;
}
