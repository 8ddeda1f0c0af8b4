/* A vault over a store in a folder of the test's own. */
#pragma once
#include "mef-plugin/vault/internal.h"
#include "tests/unit/store_fixture.h"

#include <fcntl.h>
#include <openssl/rand.h>
#include <sys/stat.h>

static const eui64_t gateway = 0x00124b001ca1b2c3u, other_gateway = 0x00124b001ca1b2c4u;

static bool test_random(void *user, void *out, size_t n)
{
    (void)user;
    return RAND_bytes(out, (int)n) == 1;
}

static const struct vault_host vault_host = {NULL, test_random};

struct kek_path {
    char s[96];
};

static struct kek_path kek_path(const struct fixture *f)
{
    struct kek_path p;
    snprintf(p.s, sizeof p.s, "%s/kek", f->dir);
    return p;
}

static void write_kek(const struct fixture *f, uint8_t fill, size_t n, mode_t mode)
{
    struct kek_path p = kek_path(f);
    uint8_t kek[64];
    memset(kek, fill, sizeof kek);
    unlink(p.s);
    int fd = open(p.s, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(write(fd, kek, n), n);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

struct both {
    struct store *s;
    struct vault *v;
};

static struct both open_both(struct fixture *f)
{
    struct both b = {.s = must_open(f)};
    if (access(kek_path(f).s, F_OK) != 0)
        write_kek(f, 0x5a, 32, 0600);
    b.v = vault_open(b.s, kek_path(f).s, &vault_host, f->err, sizeof f->err);
    if (b.v == NULL)
        fail_msg("%s", f->err);
    return b;
}

static void close_both(struct both b)
{
    vault_close(b.v);
    store_close(b.s);
}

static vault_id import(struct both b, enum vault_kind kind, const char *hex)
{
    uint8_t key[64];
    vault_id id = 0;
    struct store_txn *t = store_begin(b.s);
    assert_true(hex_decode(hex, strlen(hex), key, strlen(hex) / 2));
    assert_int_equal(vault_import(b.v, t, kind, span_of(key, strlen(hex) / 2), &id), ST_OK);
    store_commit(t, NULL, NULL);
    return id;
}
