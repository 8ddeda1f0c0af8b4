/* The ClientKeyExchange read before OpenSSL does. Input: datagrams as {length 2 bytes, bytes}. */
#include "cse-shim/coap/key_exchange.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct key_exchange *k = key_exchange_new();
    struct rd in = rd_of(span_of(data, size));
    struct span datagram;
    uint64_t len;
    char identity[256];
    size_t kept = 0;
    if (k == NULL)
        return 0;
    while (rd_be(&in, 2, &len) && rd_span(&in, len, &datagram)) {
        memset(identity, 1, sizeof identity);
        if (key_exchange_read(k, datagram, identity, sizeof identity) && memchr(identity, 0, sizeof identity) == NULL)
            abort();
        key_exchange_keep(k, datagram);
    }
    for (; key_exchange_next(k, &datagram); kept++)
        if (datagram.n == 0 || datagram.n > 4096)
            abort();
    if (kept > 4)
        abort();
    key_exchange_free(k);
    return 0;
}
