/* Preloaded into mefd: what a power cut would take back can be taken back after kill -9, which alone leaves the kernel's
 * cache as it is. Before each write to a file of the database, the bytes that it overwrites go to FILE.undo; a sync of FILE
 * empties that. power.py undoes some of the newest writes. While there is a file "fail-sync" beside it, syncs fail (EIO);
 * while there is a "slow-sync", they take as many milliseconds as it says, and "syncs" has when each began and ended.
 *
 * A record: offset, size of the file before, number of bytes saved (64 bits each, as in memory), the bytes. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define DATABASE "/mef.db"
#define SAVED_MAX 65536 /* SQLite writes a page, or a frame's header, at a time */

struct head {
    uint64_t offset, size, n;
};

/* The path of a file of the database, or false. */
static bool database_file(int fd, char path[PATH_MAX])
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    if (n <= 0)
        return false;
    path[n] = '\0';
    const char *name = strrchr(path, '/');
    return name != NULL && strncmp(name, DATABASE, strlen(DATABASE)) == 0;
}

static int open_undo(const char *path, int flags)
{
    char undo[PATH_MAX + 8];
    snprintf(undo, sizeof undo, "%s.undo", path);
    return open(undo, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0600);
}

static void save(int fd, const char *path, off64_t at, size_t n)
{
    static __thread uint8_t old[SAVED_MAX];
    struct stat s;
    int undo = open_undo(path, O_APPEND);
    if (undo < 0 || n > sizeof old || fstat(fd, &s) != 0)
        _exit(99);
    ssize_t got = pread64(fd, old, n, at);
    struct head h = {(uint64_t)at, (uint64_t)s.st_size, got > 0 ? (uint64_t)got : 0};
    struct iovec v[2] = {{&h, sizeof h}, {old, h.n}};
    (void)!writev(undo, v, 2); /* short where files may not grow: nothing is undone then */
    close(undo);
}

EXPORT ssize_t pwrite64(int fd, const void *buf, size_t n, off64_t at);
ssize_t pwrite64(int fd, const void *buf, size_t n, off64_t at)
{
    char path[PATH_MAX];
    if (database_file(fd, path))
        save(fd, path, at, n);
    ssize_t (*next)(int, const void *, size_t, off64_t);
    *(void **)&next = dlsym(RTLD_NEXT, "pwrite64");
    return next(fd, buf, n, at);
}

/* Open a file beside the database; below 0: there is none. */
static int open_beside(const char *path, const char *name, int flags)
{
    char file[PATH_MAX + 16];
    snprintf(file, sizeof file, "%.*s/%s", (int)(strrchr(path, '/') - path), path, name);
    return open(file, O_CLOEXEC | flags, 0600);
}

static bool syncs_fail(const char *path)
{
    int fail = open_beside(path, "fail-sync", O_RDONLY);
    return fail >= 0 && close(fail) == 0;
}

static void linger(const char *path)
{
    char ms[8] = "";
    struct timespec from, to;
    int slow = open_beside(path, "slow-sync", O_RDONLY);
    if (slow < 0)
        return;
    (void)!read(slow, ms, sizeof ms - 1);
    close(slow);
    clock_gettime(CLOCK_MONOTONIC, &from);
    usleep((useconds_t)atoi(ms) * 1000);
    clock_gettime(CLOCK_MONOTONIC, &to);
    int syncs = open_beside(path, "syncs", O_WRONLY | O_CREAT | O_APPEND);
    dprintf(syncs, "%lld.%09ld %lld.%09ld\n", (long long)from.tv_sec, from.tv_nsec, (long long)to.tv_sec, to.tv_nsec);
    close(syncs);
}

/* What the call did is on disk, and what was written before it. */
static int settled(const char *path, int result)
{
    if (result == 0)
        close(open_undo(path, O_TRUNC));
    return result;
}

EXPORT int fdatasync(int fd);
int fdatasync(int fd)
{
    char path[PATH_MAX];
    int (*next)(int);
    *(void **)&next = dlsym(RTLD_NEXT, "fdatasync");
    if (!database_file(fd, path))
        return next(fd);
    linger(path);
    if (syncs_fail(path)) {
        errno = EIO;
        return -1;
    }
    return settled(path, next(fd));
}

/* Rare, and of a log that is in the database already: taken as durable at once. */
EXPORT int ftruncate64(int fd, off64_t size);
int ftruncate64(int fd, off64_t size)
{
    char path[PATH_MAX];
    int (*next)(int, off64_t);
    *(void **)&next = dlsym(RTLD_NEXT, "ftruncate64");
    return database_file(fd, path) ? settled(path, next(fd, size)) : next(fd, size);
}
