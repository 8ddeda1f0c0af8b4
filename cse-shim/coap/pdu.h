/* One CoAP message on the wire (RFC 7252 3). Each option is decoded and encoded by libcoap; what surrounds them, and which
 * lengths they may have, is here: libcoap takes a wrong length for a malformed message. */
#pragma once
#include "cse-shim/coap/coap.h"

enum pdu_type { PDU_CON, PDU_NON, PDU_ACK, PDU_RST };

enum {
    OPT_IF_MATCH = 1,
    OPT_URI_HOST = 3,
    OPT_ETAG = 4,
    OPT_IF_NONE_MATCH = 5,
    OPT_OBSERVE = 6,
    OPT_URI_PORT = 7,
    OPT_LOCATION_PATH = 8,
    OPT_URI_PATH = 11,
    OPT_CONTENT_FORMAT = 12,
    OPT_MAX_AGE = 14,
    OPT_URI_QUERY = 15,
    OPT_ACCEPT = 17,
    OPT_LOCATION_QUERY = 20,
    OPT_BLOCK2 = 23,
    OPT_BLOCK1 = 27,
    OPT_SIZE2 = 28,
    OPT_PROXY_URI = 35,
    OPT_PROXY_SCHEME = 39,
    OPT_SIZE1 = 60,
    OPT_ECHO = 252,       /* RFC 9175 */
    OPT_NO_RESPONSE = 258, /* RFC 7967 */
    OPT_REQUEST_TAG = 292 /* the same; part of what makes two requests the same, so it is not ours */
};

#define PDU_MAX_OPTIONS 64
#define PDU_MAX 4096u /* largest datagram handled, bytes */

struct token {
    uint8_t len; /* 0 to 8 */
    uint8_t b[8];
};

static inline bool token_eq(const struct token *a, const struct token *b)
{
    return a->len == b->len && memcmp(a->b, b->b, a->len) == 0;
}

struct pdu {
    enum pdu_type type;
    uint16_t mid;
    size_t size; /* of the datagram */
    struct token token;
    struct cep_message msg; /* options as on the wire, but elective ones of a wrong length; code 0: empty */
    struct cep_option opts[PDU_MAX_OPTIONS];
};

enum pdu_verdict {
    PDU_OK,
    PDU_BAD,    /* format error; type and mid are known (RFC 7252 4.2: reject) */
    PDU_IGNORE  /* not a CoAP message of version 1 */
};

/* Silence libcoap's own log. */
void pdu_library_init(void);
/* On PDU_OK the message borrows from the datagram. */
MUST_USE enum pdu_verdict pdu_parse(struct pdu *p, struct span datagram);

/* Header and token, then every option in ascending order, then the payload. */
void pdu_begin(struct wr *w, enum pdu_type type, uint8_t code, uint16_t mid, const struct token *token);
/* Merges `extra` (sorted, a few) into m's options; both keep their order, extra goes first among equals. */
void pdu_options(struct wr *w, const struct cep_message *m, const struct cep_option *extra, size_t nextra);
void pdu_payload(struct wr *w, struct span payload);

/* A message in one block of memory; options the endpoint owns (Block, Size, Observe) are left out. */
struct message {
    struct cep_message m;
    size_t size; /* of the block, for wiping */
};
MUST_USE struct message *message_copy(const struct cep_message *m);
/* The same options with another payload. */
MUST_USE struct message *message_copy_with(const struct cep_message *m, uint8_t code, struct span payload);
void message_free(struct message *m); /* wipes; NULL is fine */

/* Two requests are for the same thing when code and options agree, those of the endpoint apart (RFC 7959 2.5). */
bool message_same_target(const struct cep_message *a, const struct cep_message *b);
bool option_is_ours(uint16_t num);
/* The first critical option that is not understood here: of a number that neither the endpoint nor oneM2M knows, of a length
 * it can not have, or a Block once more; 0: none. */
uint16_t option_unknown_critical(const struct cep_message *m);
