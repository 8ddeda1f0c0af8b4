#include "cse-shim/coap/key_exchange.h"

#include <stdlib.h>

#define MAX_BODY (2 + 255u) /* a length and the identity */
#define MAX_KEPT 4u
#define MAX_BYTES 4096u

enum { REC_HANDSHAKE = 22, MSG_CLIENT_KEY_EXCHANGE = 16, MSG_SEQ = 2 /* behind two ClientHellos (RFC 6347 4.2.2) */ };

struct key_exchange {
    uint8_t body[MAX_BODY];
    bool seen[MAX_BODY]; /* bytes of it that came */
    size_t total, have;
    uint8_t bytes[MAX_BYTES]; /* datagrams, one behind the other */
    size_t ends[MAX_KEPT], kept, taken;
};

struct key_exchange *key_exchange_new(void)
{
    return calloc(1, sizeof(struct key_exchange));
}

void key_exchange_free(struct key_exchange *k)
{
    free(k);
}

/* --- the identity --- */

static void take_fragment(struct key_exchange *k, size_t total, size_t at, struct span part)
{
    if (total > MAX_BODY || at > total || part.n > total - at || (k->have != 0 && k->total != total))
        return;
    k->total = total;
    for (size_t i = 0; i < part.n; i++) {
        k->have += !k->seen[at + i];
        k->seen[at + i] = true;
        k->body[at + i] = part.p[i];
    }
}

/* The handshake messages of one record: type, length(3), message_seq(2), fragment_offset(3), fragment_length(3). */
static void read_messages(struct key_exchange *k, struct span record)
{
    struct rd r = rd_of(record);
    uint8_t type;
    uint16_t seq;
    uint64_t total, at, n;
    struct span part;
    while (rd_u8(&r, &type) && rd_be(&r, 3, &total) && rd_be16(&r, &seq) && rd_be(&r, 3, &at) && rd_be(&r, 3, &n) &&
           rd_span(&r, n, &part))
        if (type == MSG_CLIENT_KEY_EXCHANGE && seq == MSG_SEQ)
            take_fragment(k, total, at, part);
}

/* The records in clear (epoch 0) that carry handshake messages. */
static void read_datagram(struct key_exchange *k, struct span datagram)
{
    struct rd r = rd_of(datagram);
    uint8_t type;
    uint16_t version, epoch, len;
    struct span seq, record;
    while (rd_u8(&r, &type) && rd_be16(&r, &version) && rd_be16(&r, &epoch) && rd_span(&r, 6, &seq) &&
           rd_be16(&r, &len) && rd_span(&r, len, &record))
        if (type == REC_HANDSHAKE && epoch == 0)
            read_messages(k, record);
}

bool key_exchange_read(struct key_exchange *k, struct span datagram, char *out, size_t cap)
{
    uint16_t len;
    struct span identity;
    read_datagram(k, datagram);
    if (k->have == 0 || k->have != k->total)
        return false;
    struct rd r = rd_of(span_of(k->body, k->total));
    if (!rd_be16(&r, &len) || !rd_span(&r, len, &identity) || r.n != 0 || identity.n >= cap ||
        (identity.n != 0 && memchr(identity.p, 0, identity.n) != NULL))
        return false;
    if (identity.n != 0)
        memcpy(out, identity.p, identity.n);
    out[identity.n] = '\0';
    return true;
}

/* --- what waits for the key --- */

void key_exchange_keep(struct key_exchange *k, struct span datagram)
{
    size_t used = k->kept == 0 ? 0 : k->ends[k->kept - 1];
    if (k->kept == MAX_KEPT || datagram.n > MAX_BYTES - used || datagram.n == 0)
        return;
    memcpy(k->bytes + used, datagram.p, datagram.n);
    k->ends[k->kept++] = used + datagram.n;
}

bool key_exchange_next(struct key_exchange *k, struct span *datagram)
{
    if (k->taken == k->kept)
        return false;
    size_t from = k->taken == 0 ? 0 : k->ends[k->taken - 1];
    *datagram = span_of(k->bytes + from, k->ends[k->taken++] - from);
    return true;
}
