/* IEEE 802.15.4-2006 MAC frames, as far as a non-beacon Zigbee coordinator needs them: data, beacon, acknowledgement
 * and command frames without MAC security. Pure. Frames are without FCS unless a name says otherwise. */
#pragma once
#include "cse-shim/base/bytes.h"
#include "cse-shim/base/hex.h"

#define MAC_MAX_PSDU 127 /* aMaxPHYPacketSize, FCS included */
#define MAC_FCS 2
#define MAC_MAX_FRAME (MAC_MAX_PSDU - MAC_FCS)
#define MAC_BROADCAST 0xffffu

enum mac_type { MAC_BEACON = 0, MAC_DATA = 1, MAC_ACK = 2, MAC_COMMAND = 3 };
enum mac_mode { MAC_NONE = 0, MAC_SHORT = 2, MAC_EXT = 3 };

struct mac_addr {
    uint8_t mode;     /* enum mac_mode */
    uint16_t pan;
    uint16_t short_;  /* MAC_SHORT */
    eui64_t ext;      /* MAC_EXT */
};

struct mac_frame {
    uint8_t type;     /* enum mac_type */
    bool pending;     /* frame pending bit */
    bool ack_request;
    uint8_t seq;
    struct mac_addr dst, src; /* one PAN for both: sent with PAN ID compression */
    struct span payload;
};

/* Strict parse: version 0, no security, no reserved bit or mode, types above only, acknowledgements exactly 3 bytes.
 * NULL on success, else what is wrong as a short token. Spans point into the input. */
MUST_USE const char *mac_parse(struct span frame, struct mac_frame *out);
/* PAN ID compression is used when both addresses are present and of one PAN. */
void mac_build(struct wr *w, const struct mac_frame *f);

/* Check the FCS of a PSDU and cut it off; false when it is wrong or the PSDU too short or too long. */
MUST_USE bool mac_fcs_strip(struct span psdu, struct span *frame);
/* Append the FCS of all that w holds from byte `from` on. */
void mac_fcs_append(struct wr *w, size_t from);

/* --- command payloads --------------------------------------------------------------------------------------------- */
enum mac_command {
    MAC_ASSOCIATION_REQUEST = 0x01,
    MAC_ASSOCIATION_RESPONSE = 0x02,
    MAC_DISASSOCIATION = 0x03,
    MAC_DATA_REQUEST = 0x04,
    MAC_BEACON_REQUEST = 0x07
};
#define MAC_CAP_FFD 0x02u
#define MAC_CAP_RX_ON 0x08u /* receiver on when idle: needs no polling */
#define MAC_CAP_ALLOCATE 0x80u
enum mac_associated { MAC_ASSOC_OK = 0, MAC_ASSOC_FULL = 1, MAC_ASSOC_DENIED = 2 };

/* True when the frame is an association request as 7.3.1 wants it; *capability is its one parameter. */
bool mac_is_association_request(const struct mac_frame *f, uint8_t *capability);
bool mac_is_data_request(const struct mac_frame *f);   /* 7.3.4 */
bool mac_is_beacon_request(const struct mac_frame *f); /* 7.3.7 */
/* Payload of an association response, 4 bytes (7.3.2). */
void mac_association_response(struct wr *w, uint16_t short_, enum mac_associated status);

/* --- Zigbee beacon (Zigbee 3.6.7; IEEE 802.15.4 7.2.2.1) ---------------------------------------------------------- */
struct mac_beacon {
    bool permit;            /* association permitted */
    bool router_capacity, end_device_capacity;
    uint8_t depth;          /* device depth: 0 for a coordinator */
    uint64_t ext_pan_id;
    uint8_t update_id;
};
/* What follows the MAC header of a beacon: superframe specification to Zigbee beacon payload, 19 bytes. */
void mac_beacon_payload(struct wr *w, const struct mac_beacon *b);
