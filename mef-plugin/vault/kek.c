#include "mef-plugin/vault/seal.h"

#include <openssl/crypto.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* NULL: the file may serve as KEK; else what is wrong with it. */
static const char *objection(const struct stat *st)
{
    if (!S_ISREG(st->st_mode))
        return "not a regular file";
    if ((st->st_mode & (S_IRWXG | S_IRWXO)) != 0)
        return "open to group or others; chmod 600 it";
    if (st->st_size != SEAL_KEK)
        return "not exactly 32 bytes long";
    return NULL;
}

bool kek_read(const char *path, uint8_t kek[SEAL_KEK], char *err, size_t errlen)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* a pipe must not hold us up */
    const char *why = NULL;
    if (fd < 0 || fstat(fd, &st) != 0)
        why = strerror(errno);
    else
        why = objection(&st);
    if (why == NULL && read(fd, kek, SEAL_KEK) != SEAL_KEK)
        why = "cannot be read";
    if (fd >= 0)
        close(fd);
    if (why == NULL)
        return true;
    OPENSSL_cleanse(kek, SEAL_KEK);
    snprintf(err, errlen, "vault: KEK file %s: %s", path, why);
    return false;
}
