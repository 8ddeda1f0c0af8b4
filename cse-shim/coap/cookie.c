#include "cse-shim/coap/cookie.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>

#define MAC_LEN 32

struct cookies {
    EVP_MAC_CTX *hmac;
    uint8_t master[COOKIE_MASTER_LEN];
    struct secret {
        uint64_t period;
        bool known;
        uint8_t bytes[MAC_LEN];
    } recent[2]; /* of even and odd periods */
};

static bool mac(struct cookies *c, const uint8_t key[MAC_LEN], struct span data, uint8_t out[MAC_LEN])
{
    size_t n = 0;
    return EVP_MAC_init(c->hmac, key, MAC_LEN, NULL) == 1 && EVP_MAC_update(c->hmac, data.p, data.n) == 1 &&
           EVP_MAC_final(c->hmac, out, &n, MAC_LEN) == 1 && n == MAC_LEN;
}

static const struct secret *secret_of(struct cookies *c, uint64_t period)
{
    struct secret *s = &c->recent[period % 2];
    if (s->known && s->period == period)
        return s;
    uint8_t number[8];
    struct wr w = wr_of(number, sizeof number);
    wr_be(&w, 8, period);
    s->period = period;
    s->known = mac(c, c->master, wr_span(&w), s->bytes);
    return s->known ? s : NULL;
}

static bool make(struct cookies *c, struct span address, uint64_t period, uint8_t cookie[COOKIE_LEN])
{
    uint8_t whole[MAC_LEN];
    const struct secret *s = secret_of(c, period);
    if (s == NULL || !mac(c, s->bytes, address, whole))
        return false;
    memcpy(cookie, whole, COOKIE_LEN);
    return true;
}

bool cookie_make(struct cookies *c, struct span address, uint64_t now_us, uint8_t cookie[COOKIE_LEN])
{
    return make(c, address, now_us / COOKIE_PERIOD_US, cookie);
}

bool cookie_good(struct cookies *c, struct span address, uint64_t now_us, struct span cookie)
{
    uint8_t want[COOKIE_LEN];
    uint64_t period = now_us / COOKIE_PERIOD_US;
    for (uint64_t back = 0; cookie.n == COOKIE_LEN && back < 2 && back <= period; back++)
        if (make(c, address, period - back, want) && CRYPTO_memcmp(want, cookie.p, COOKIE_LEN) == 0)
            return true;
    return false;
}

static EVP_MAC_CTX *hmac_new(void)
{
    EVP_MAC *algorithm = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *h = algorithm != NULL ? EVP_MAC_CTX_new(algorithm) : NULL;
    EVP_MAC_free(algorithm);
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string("digest", (char[]){"SHA256"}, 0),
                           OSSL_PARAM_construct_end()};
    if (h != NULL && EVP_MAC_CTX_set_params(h, params) != 1) {
        EVP_MAC_CTX_free(h);
        return NULL;
    }
    return h;
}

struct cookies *cookies_new(const uint8_t master[COOKIE_MASTER_LEN])
{
    struct cookies *c = calloc(1, sizeof *c);
    if (c == NULL || (c->hmac = hmac_new()) == NULL) {
        free(c);
        return NULL;
    }
    memcpy(c->master, master, COOKIE_MASTER_LEN);
    return c;
}

void cookies_free(struct cookies *c)
{
    if (c == NULL)
        return;
    EVP_MAC_CTX_free(c->hmac);
    OPENSSL_cleanse(c, sizeof *c);
    free(c);
}
