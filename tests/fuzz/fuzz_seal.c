/* seal_unwrap: no row that was not sealed for this id opens; a sealed row opens, and no longer once a bit is flipped. */
#include "mef-plugin/vault/seal.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct seal *seal_once(void)
{
    static struct seal *seal;
    static const uint8_t kek[SEAL_KEK] = {1, 2, 3};
    if (seal == NULL && (seal = seal_new(kek)) == NULL)
        abort();
    return seal;
}

static void check_sealed(struct seal *seal, struct span key, uint8_t where)
{
    static const uint8_t nonce[SEAL_NONCE];
    uint8_t row[SEAL_ROW_MAX], out[SEAL_KEY_MAX];
    struct wr w = wr_of(row, sizeof row);
    enum vault_kind kind;
    if (!seal_wrap(seal, 7, VAULT_PSK, nonce, key, &w))
        abort();
    if (seal_unwrap(seal, 7, wr_span(&w), &kind, out) != key.n || kind != VAULT_PSK || memcmp(out, key.p, key.n) != 0)
        abort();
    row[where % w.n] ^= (uint8_t)(1u << where % 8);
    if (seal_unwrap(seal, 7, wr_span(&w), &kind, out) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct seal *seal = seal_once();
    uint8_t out[SEAL_KEY_MAX];
    enum vault_kind kind;
    if (seal_unwrap(seal, 7, span_of(data, size), &kind, out) != 0)
        abort(); /* a forged tag */
    if (size > 1 && size <= 1 + SEAL_KEY_MAX)
        check_sealed(seal, span_of(data + 1, size - 1), data[0]);
    return 0;
}
