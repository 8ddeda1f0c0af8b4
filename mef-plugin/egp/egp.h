/* EG protocol messages: CBOR, defined by docs/eg-protocol.cddl; one codec for mefd, ipe-nid and zbgwd, and the
 * HDLC-lite framing for byte streams. Pure: no I/O.
 *
 * message = [ envelope, body ]: the envelope is clear and all that ipe-nid reads; the body is a byte string that it
 * forwards untouched. Decoding is strict: definite lengths, shortest integers, no unknown members, nothing behind. */
#pragma once
#include "cse-shim/base/bytes.h"
#include "cse-shim/base/hex.h"

#define EGP_VERSION 1
#define EGP_MAX_MESSAGE 512  /* bytes, encoded */
#define EGP_MAX_NWK 116      /* bytes of a NWK frame */

enum egp_type {
    EGP_HELLO = 0,      /* gateway -> EG: I am here (after every (re)connection) */
    EGP_REQUEST = 1,    /* gateway -> EG: EgRequest: a device associates or rejoins */
    EGP_RESPONSE = 2,   /* EG -> gateway: EgResponse: one NWK frame, or a reason */
    EGP_UPLINK = 3,     /* gateway -> EG: a NWK frame heard */
    EGP_DOWNLINK = 4,   /* EG -> gateway: a NWK frame to radiate */
    EGP_TX_RESULT = 5,  /* gateway -> EG: what became of a DownlinkFrame or an EgResponse's frame */
    EGP_STALE = 6,      /* gateway -> EG: frame dropped, a later counter was already radiated */
    EGP_DEVICE_STATE = 7,/* EG -> gateway: state of a device */
    EGP_TYPES
};
const char *egp_type_name(enum egp_type t);

enum egp_direction { EGP_TO_EG = 0, EGP_TO_GATEWAY = 1 };

struct egp_envelope {
    uint8_t version;
    uint8_t type;           /* enum egp_type */
    uint64_t transaction;   /* chosen by the sender of a request, echoed by the answer; unique per gateway and sender */
    eui64_t gateway;
    eui64_t device;         /* 0: none (hello) */
    uint8_t direction;      /* enum egp_direction */
    uint8_t channel;        /* 802.15.4 channel 11..26; 0: none */
    int8_t rssi;            /* dBm; 0: not measured */
};

enum egp_join { EGP_ASSOCIATION = 0, EGP_REJOIN_SECURED = 1, EGP_REJOIN_TRUST_CENTRE = 2 };

/* Why an EgResponse or DeviceState says no; each is also a word in docs/eg-protocol.md and in the audit. */
enum egp_reason {
    EGP_OK = 0,
    EGP_UNKNOWN_DEVICE = 1,      /* no install code for this EUI-64 */
    EGP_CODE_EXPIRED = 2,
    EGP_GATEWAY_NOT_ALLOWED = 3, /* the registration names other gateways */
    EGP_PARENT_KEY_DOMAIN = 4,   /* join through a parent of another key domain */
    EGP_DEVICE_REVOKED = 5,
    EGP_CODE_SPENT = 6,          /* enrolled already; rearm first */
    EGP_RATE_LIMITED = 7,
    EGP_NOT_SUPPORTED = 8,       /* this kind of join is not served */
    EGP_BAD_REQUEST = 9,
    EGP_UNAVAILABLE = 10,        /* EG cannot answer now; try again */
    EGP_NOT_BOUND = 11,          /* the session's identity is not bound to this gateway EUI-64 */
    EGP_CONFLICT = 12,           /* transaction number reused with other content */
    EGP_NO_LINK_KEY = 13,        /* a rejoin, but the device has no link key of its own at this gateway */
    EGP_REASONS
};
const char *egp_reason_name(enum egp_reason r); /* "unknown-device", .. */

enum egp_device_state { EGP_ST_REGISTERED, EGP_ST_JOINING, EGP_ST_KEY_SENT, EGP_ST_ENROLLED, EGP_ST_FAILED,
                        EGP_ST_REVOKED, EGP_ST_EXPIRED, EGP_ST_UNKNOWN, EGP_STATES };
const char *egp_state_name(enum egp_device_state s); /* "registered", "joining", "key-sent", .. */

/* Bodies. */
struct egp_request {
    uint16_t gateway_short, device_short, pan_id, parent_short; /* parent 0x0000: the gateway itself */
    uint8_t capability;     /* 802.15.4 capability information */
    uint8_t join;           /* enum egp_join */
    struct span nwk_frame;  /* the raw NWK frame of a rejoin, else empty */
};
struct egp_response {
    uint8_t reason;         /* enum egp_reason; EGP_OK: frame present */
    uint16_t next_hop;      /* MAC destination short address */
    bool indirect;          /* deliver by polling */
    struct span nwk_frame;
};
struct egp_frame {          /* UplinkFrame, DownlinkFrame */
    uint16_t hop;           /* uplink: MAC source; downlink: MAC destination (next hop) */
    bool indirect;          /* downlink */
    uint8_t lqi;            /* uplink */
    struct span nwk_frame;
};
enum egp_tx { EGP_TX_ACKED = 0, EGP_TX_NO_ACK = 1, EGP_TX_EXPIRED = 2, EGP_TX_CHANNEL_BUSY = 3 };
struct egp_tx_result { uint8_t result; uint8_t tries; };
struct egp_stale { uint32_t counter, last; };  /* the dropped frame's clear counter, the last one radiated */
struct egp_state { uint8_t state; uint8_t reason; uint16_t device_short; };
struct egp_hello { uint16_t pan_id; uint8_t channel; uint64_t ext_pan_id; uint16_t gateway_short; };

struct egp_message {
    struct egp_envelope env;
    union {
        struct egp_hello hello;
        struct egp_request request;
        struct egp_response response;
        struct egp_frame frame;
        struct egp_tx_result tx_result;
        struct egp_stale stale;
        struct egp_state state;
    } u;
};

/* Encode; false when a field is out of range or out is too small. */
MUST_USE bool egp_encode(const struct egp_message *m, struct wr *out);
/* Strict decode; spans point into `in`. NULL on success, else what is wrong, as a short token ("truncated",
 * "bad-version", "bad-type", "not-canonical", "out-of-range", "trailing-bytes", ..). */
MUST_USE const char *egp_decode(struct span in, struct egp_message *out);
/* Only the envelope (all that ipe-nid may read); the body is not looked into beyond its length. */
MUST_USE const char *egp_decode_envelope(struct span in, struct egp_envelope *out);

/* --- HDLC-lite framing (flag 0x7e, escape 0x7d, FCS CRC-16/X-25 low byte first), as Spinel uses it ---------------- */
/* Append one frame; false when it does not fit. */
MUST_USE bool hdlc_encode(struct span payload, struct wr *out);
struct hdlc_decoder {
    uint8_t buf[EGP_MAX_MESSAGE + 2];
    size_t n;
    bool escaped, overrun;
    uint64_t bad_frames;   /* FCS wrong, too long, or bad escape; the decoder goes on at the next flag */
};
/* Feed bytes; calls fn for each good frame. */
void hdlc_decode(struct hdlc_decoder *d, struct span in, void (*fn)(void *user, struct span payload), void *user);
