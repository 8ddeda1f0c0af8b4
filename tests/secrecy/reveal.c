/* Linked into mef-plugin.so by -Dtest_secrets=true only, never into a product: hands every secret that comes into the
 * vault to the harness, as it comes in. The linker leads the vault's own calls through here (--wrap), so the product's
 * sources know nothing of it.
 *
 * The environment's MEF_TEST_SECRETS names a FIFO. A record: name 1, key id 8 (native), length 1, the bytes; written at
 * once, straight from where the secret lies, so that this file leaves no copy of its own in the memory under test. */
#include "mef-plugin/vault/seal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

static void reveal(char name, vault_id id, const uint8_t *p, size_t n)
{
    const char *path = getenv("MEF_TEST_SECRETS");
    int fd = path != NULL ? open(path, O_WRONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    uint8_t length = (uint8_t)n;
    const struct iovec record[] = {{&name, 1}, {&id, sizeof id}, {&length, 1}, {(void *)(uintptr_t)p, n}};
    ssize_t want = (ssize_t)(1 + sizeof id + 1 + n);
    if (writev(fd, record, sizeof record / sizeof *record) != want)
        abort(); /* a harness that missed a secret would pass for the wrong reason */
    close(fd);
}

/* NOLINTBEGIN(bugprone-reserved-identifier): the linker's names */
struct seal *__real_seal_new(const uint8_t kek[SEAL_KEK]);
struct seal *__wrap_seal_new(const uint8_t kek[SEAL_KEK]);
struct seal *__wrap_seal_new(const uint8_t kek[SEAL_KEK])
{
    reveal('K', 0, kek, SEAL_KEK);
    return __real_seal_new(kek);
}

struct mac *__real_mac_new(const uint8_t secret[32]);
struct mac *__wrap_mac_new(const uint8_t secret[32]);
struct mac *__wrap_mac_new(const uint8_t secret[32])
{
    reveal('M', 0, secret, 32);
    return __real_mac_new(secret);
}

bool __real_seal_wrap(struct seal *s, vault_id id, enum vault_kind kind, const uint8_t nonce[SEAL_NONCE],
                      struct span key, struct wr *w);
bool __wrap_seal_wrap(struct seal *s, vault_id id, enum vault_kind kind, const uint8_t nonce[SEAL_NONCE],
                      struct span key, struct wr *w);
bool __wrap_seal_wrap(struct seal *s, vault_id id, enum vault_kind kind, const uint8_t nonce[SEAL_NONCE],
                      struct span key, struct wr *w)
{
    reveal((char)('0' + kind), id, key.p, key.n);
    return __real_seal_wrap(s, id, kind, nonce, key, w);
}
/* NOLINTEND(bugprone-reserved-identifier) */
