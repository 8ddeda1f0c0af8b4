/* Zigbee security and frame codec, pure: no I/O, no clock, no RNG. Byte order on the wire is little endian; field
 * lengths are exact. Clauses are of the Zigbee specification 05-3474 ("Zig") and the Base Device Behaviour ("BDB").
 *
 * Keys are 16 bytes. A `zb_crypto` holds OpenSSL's fetched algorithms and contexts; one per thread, made once. */
#pragma once
#include "cse-shim/base/bytes.h"
#include "cse-shim/base/hex.h"

enum zb_err {
    ZB_OK,
    ZB_TRUNCATED,  /* "truncated": the frame ends before a field it announces */
    ZB_MALFORMED,  /* "malformed": a field has a value or the frame a length that the clause does not allow */
    ZB_BAD_MIC,    /* "bad-mic" */
    ZB_NO_KEY,     /* "no-key": secured, but no key was given for it */
    ZB_BAD_CRC,    /* "bad-crc": install code */
    ZB_BAD_LENGTH, /* "bad-length": install code */
    ZB_BAD_HEX,    /* "bad-hex": install code text */
    ZB_NO_SPACE,   /* the caller's buffer is too small */
    ZB_INTERNAL    /* OpenSSL failed */
};
const char *zb_err_name(enum zb_err e); /* the token in quotes above */

struct zb_crypto;
struct zb_crypto *zb_crypto_new(void); /* NULL: OpenSSL lacks AES */
void zb_crypto_free(struct zb_crypto *c);

#define ZB_KEY 16
#define ZB_MIC 4
#define ZB_NWK_MAX 116 /* largest NWK frame: aMaxPHYPacketSize 127 - MAC header 9 - FCS 2 */

/* --- primitives --- */
/* AES-128-MMO hash (Zig B.6), any length < 8192 bytes. */
MUST_USE enum zb_err zb_mmo(struct zb_crypto *c, struct span in, uint8_t out[ZB_KEY]);
/* Keyed hash HMAC-MMO (Zig B.1.4). */
MUST_USE enum zb_err zb_keyed_hash(struct zb_crypto *c, const uint8_t key[ZB_KEY], struct span in, uint8_t out[ZB_KEY]);
/* CRC-16/X-25 of an install code; appended low byte first (BDB 10.1). */
uint16_t zb_crc16_x25(struct span in);
/* CCM* with 13-byte nonce (Zig A.2); mic_len 4 (level 5) or 8. out holds in.n + mic_len. */
MUST_USE enum zb_err zb_ccm_seal(struct zb_crypto *c, const uint8_t key[ZB_KEY], const uint8_t nonce[13],
                                 struct span aad, struct span in, size_t mic_len, uint8_t *out);
/* in = ciphertext || MIC; out holds in.n - mic_len; nothing is left in out on ZB_BAD_MIC. */
MUST_USE enum zb_err zb_ccm_open(struct zb_crypto *c, const uint8_t key[ZB_KEY], const uint8_t nonce[13],
                                 struct span aad, struct span in, size_t mic_len, uint8_t *out);

/* --- install codes and derived keys (BDB 10.1, Zig 4.5.3) --- */
/* Parse code||CRC as text: hex, spaces and dashes ignored; 8, 10, 14 or 18 bytes. out takes up to 18 bytes. */
MUST_USE enum zb_err zb_install_code_parse(const char *text, uint8_t out[18], size_t *len);
/* Check length and CRC, and derive the link key = MMO(code || CRC). */
MUST_USE enum zb_err zb_install_code_key(struct zb_crypto *c, struct span code, uint8_t link_key[ZB_KEY]);
enum zb_derived { ZB_KEY_TRANSPORT = 0x00, ZB_KEY_LOAD = 0x02, ZB_KEY_VERIFY = 0x03 };
MUST_USE enum zb_err zb_derive(struct zb_crypto *c, const uint8_t link_key[ZB_KEY], enum zb_derived which,
                               uint8_t out[ZB_KEY]);
/* Is this one of the publicly known keys (ZigBeeAlliance09, the touchlink and test keys, all zero, all ones, ..)? */
bool zb_key_is_public(const uint8_t key[ZB_KEY]);

/* Label text -> EUI-64 and install code (code||CRC, CRC checked) or ready link key. All formats of
 * docs/mefctl-zigbee.md. */
struct zb_label {
    eui64_t eui64;
    bool is_link_key; /* bytes = 16-byte link key, else install code with CRC */
    uint8_t bytes[18];
    size_t len;
};
/* On failure *why names the trouble ("bad-crc", "no-eui64", "no-code", "two-codes", "unknown-format", ..); of "bad-hex" *at is
 * the character of the text that is no digit, from 1. */
MUST_USE enum zb_err zb_label_parse(const char *text, struct zb_label *out, const char **why, size_t *at);

/* --- NWK layer (Zig 3.3, 4.3) --- */
struct zb_nwk {
    uint16_t fcf; /* as on the wire; the flags below must agree with it when building */
    uint16_t dst, src;
    uint8_t radius, seq;
    bool has_dst64, has_src64;
    eui64_t dst64, src64;
    bool multicast;               /* control byte present (parsed, refused for building) */
    uint8_t nrelays, relay_index; /* source route subframe */
    const uint8_t *relays;        /* 2*nrelays bytes, borrowed */
    struct span header;           /* parse: the NWK header's bytes, without the auxiliary header */
    struct span payload; /* parse: what follows the header: auxiliary header.. when secured, else the NWK payload */
};
enum { ZB_NWK_DATA = 0, ZB_NWK_COMMAND = 1 };
#define ZB_FCF_TYPE 0x0003u
#define ZB_FCF_DISCOVER 0x00c0u
#define ZB_FCF_MULTICAST 0x0100u
#define ZB_FCF_SECURITY 0x0200u
#define ZB_FCF_SOURCE_ROUTE 0x0400u
#define ZB_FCF_DST64 0x0800u
#define ZB_FCF_SRC64 0x1000u
#define ZB_FCF_END_DEVICE 0x2000u
MUST_USE enum zb_err zb_nwk_parse(struct span frame, struct zb_nwk *out);
/* Write the NWK header (no auxiliary header). */
void zb_nwk_build(struct wr *w, const struct zb_nwk *h);

/* --- NWK commands (Zig 3.4): the payload of a NWK command frame --- */
enum zb_nwk_cmd_id {
    ZB_NWK_ROUTE_REQUEST = 0x01,
    ZB_NWK_ROUTE_REPLY = 0x02,
    ZB_NWK_STATUS = 0x03,
    ZB_NWK_LEAVE = 0x04,
    ZB_NWK_ROUTE_RECORD = 0x05,
    ZB_NWK_REJOIN_REQUEST = 0x06,
    ZB_NWK_REJOIN_RESPONSE = 0x07,
    ZB_NWK_LINK_STATUS = 0x08,
    ZB_NWK_TIMEOUT_REQUEST = 0x0b,
    ZB_NWK_TIMEOUT_RESPONSE = 0x0c
};
#define ZB_ROUTE_MANY_TO_ONE 0x18u /* options of a route request, */
#define ZB_ROUTE_ADDRESS64 0x20u
#define ZB_ROUTE_ORIGINATOR64 0x10u /* of a route reply, */
#define ZB_ROUTE_RESPONDER64 0x20u
#define ZB_LEAVE_REJOIN 0x20u /* of a leave, */
#define ZB_LEAVE_REQUEST 0x40u
#define ZB_LINK_COUNT 0x1fu /* of a link status: how many entries it has; the first and the last frame of a round */
#define ZB_LINK_FIRST 0x20u
#define ZB_LINK_LAST 0x40u
#define ZB_LINK 3 /* bytes of an entry: address, costs (incoming in bits 0-2, outgoing in bits 4-6) */
#define ZB_STATUS_ADDRESS_CONFLICT 0x0d
struct zb_nwk_cmd {
    uint8_t id;
    uint8_t options;
    uint8_t route_id, cost;             /* route request, reply */
    uint16_t address;                   /* route request: destination; status: whom it is about; rejoin response: new */
    uint16_t originator, responder;     /* route reply */
    eui64_t address64, originator64, responder64; /* there if the options say so */
    uint8_t status;                     /* status, rejoin response, time-out response */
    uint8_t capability;                 /* rejoin request */
    uint8_t timeout, information;       /* time-out: requested; configuration, in a response parent information */
    struct span list;                   /* link status: entries; route record: relays, 2 bytes each; borrowed */
    struct span tlvs;                   /* what R23 may append; borrowed, not interpreted */
};
/* ZB_MALFORMED: a command without a layout here (network report, network update, ..). */
MUST_USE enum zb_err zb_nwk_cmd_parse(struct span payload, struct zb_nwk_cmd *out);
MUST_USE enum zb_err zb_nwk_cmd_build(struct wr *w, const struct zb_nwk_cmd *cmd);

/* Auxiliary security header (Zig 4.5.1). */
enum zb_key_id { ZB_KEY_ID_DATA, ZB_KEY_ID_NWK, ZB_KEY_ID_TRANSPORT, ZB_KEY_ID_LOAD };
struct zb_aux {
    uint8_t control; /* as on the wire, level bits included as received */
    uint8_t key_id;
    uint32_t counter;
    bool has_src64;
    eui64_t src64;
    uint8_t key_seq; /* key id 1 only */
};
MUST_USE enum zb_err zb_aux_parse(struct rd *r, struct zb_aux *out);

/* Open a NWK-secured frame under a network key. The source for the nonce is the auxiliary header's. plain: NWK payload.
 */
MUST_USE enum zb_err zb_nwk_open(struct zb_crypto *c, const uint8_t key[ZB_KEY], struct span frame, struct zb_nwk *h,
                                 struct zb_aux *aux, struct wr *plain);
/* Build and seal: header (ZB_FCF_SECURITY is set), auxiliary header 0x28, ciphertext, MIC. */
MUST_USE enum zb_err zb_nwk_seal(struct zb_crypto *c, const uint8_t key[ZB_KEY], const struct zb_nwk *h,
                                 uint32_t counter, eui64_t source, uint8_t key_seq, struct span payload,
                                 struct wr *out);

/* --- APS layer (Zig 2.2.5, 4.4) --- */
enum { ZB_APS_DATA = 0, ZB_APS_COMMAND = 1, ZB_APS_ACK = 2, ZB_APS_INTERPAN = 3 };
#define ZB_APS_GROUP 0x0cu /* both bits of the delivery mode */
#define ZB_APS_SECURITY 0x20u
#define ZB_APS_ACK_FORMAT 0x10u
#define ZB_APS_ACK_REQUEST 0x40u
#define ZB_APS_EXTENDED 0x80u
struct zb_aps {
    uint8_t fcf;
    uint8_t dst_endpoint, src_endpoint; /* data and acks of data */
    uint16_t group;                     /* delivery mode group */
    uint16_t cluster, profile;
    uint8_t counter;
    uint8_t ext_fcf, block, ack_bitfield; /* extended header */
    struct span header;                   /* parse */
    struct span payload;                  /* parse: auxiliary header.. when secured */
};
MUST_USE enum zb_err zb_aps_parse(struct span frame, struct zb_aps *out);
void zb_aps_build(struct wr *w, const struct zb_aps *h);
/* Keys for APS security are given as the LINK key; the derived one is chosen by the auxiliary header's key id. */
MUST_USE enum zb_err zb_aps_open(struct zb_crypto *c, const uint8_t link_key[ZB_KEY], struct span frame,
                                 eui64_t source_if_absent, struct zb_aps *h, struct zb_aux *aux, struct wr *plain);
MUST_USE enum zb_err zb_aps_seal(struct zb_crypto *c, const uint8_t link_key[ZB_KEY], const struct zb_aps *h,
                                 uint8_t key_id, uint32_t counter, eui64_t source, struct span payload, struct wr *out);

/* --- APS commands (Zig 4.4.10) --- */
enum zb_cmd_id {
    ZB_TRANSPORT_KEY = 0x05,
    ZB_UPDATE_DEVICE = 0x06,
    ZB_REMOVE_DEVICE = 0x07,
    ZB_REQUEST_KEY = 0x08,
    ZB_SWITCH_KEY = 0x09,
    ZB_TUNNEL = 0x0e,
    ZB_VERIFY_KEY = 0x0f,
    ZB_CONFIRM_KEY = 0x10
};
enum { ZB_KEYTYPE_NWK = 0x01, ZB_KEYTYPE_APP = 0x03, ZB_KEYTYPE_TCLK = 0x04 };
struct zb_cmd {
    uint8_t id;
    uint8_t key_type;      /* transport, verify, confirm; request: 2 application, 4 TCLK */
    uint8_t key[ZB_KEY];   /* transport-key; verify-key: the hash */
    uint8_t key_seq;       /* transport NWK, switch */
    eui64_t dst, src;      /* transport-key; verify: src; confirm: dst; tunnel: dst */
    eui64_t partner;       /* transport app, request app */
    uint8_t initiator;     /* transport app */
    eui64_t device;        /* update-device, remove-device */
    uint16_t short_addr;   /* update-device */
    uint8_t status;        /* update-device, confirm-key */
    struct span tunnelled; /* tunnel: the complete APS frame */
    struct span tlvs;      /* what R23 may append to transport-key TCLK, update-device; borrowed, not interpreted */
};
MUST_USE enum zb_err zb_cmd_parse(struct span payload, struct zb_cmd *out);
MUST_USE enum zb_err zb_cmd_build(struct wr *w, const struct zb_cmd *cmd);

/* --- Zigbee Device Profile (Zig 2.4): APS data, profile 0, endpoint 0 --------------------------------------------- */
#define ZB_ZDP_NODE_DESC_REQ 0x0002
#define ZB_ZDP_NODE_DESC_RSP 0x8002
#define ZB_ZDP_DEVICE_ANNCE 0x0013
#define ZB_ZDP_PARENT_ANNCE 0x001f

#define ZB_CAPABILITY_FFD 0x02u         /* 802.15.4 capability information: can be a router; */
#define ZB_CAPABILITY_RX_ON_IDLE 0x08u /* hears without polling */
struct zb_known { /* a device that the coordinator knows, and that the asker may know of */
    eui64_t ieee;
    uint16_t nwk;
    uint8_t capability, lqi;
};
struct zb_self { /* the coordinator that answers; it has no application endpoints */
    eui64_t ieee;
    uint16_t nwk;
    uint64_t ext_pan_id;
    const struct zb_known *neighbours; /* what is listed to the asker; at most 255 */
    size_t nneighbours;
    /* One of the coordinator's own children, by extended address; 0: by short address. NULL: there are none. */
    bool (*find)(void *user, eui64_t ieee, uint16_t nwk, struct zb_known *out);
    void *user;
};
/* Answer a request: *response is the response's cluster, its payload is appended to w. False: nothing is to be sent (a
 * response, an announcement, a broadcast that is not for us, an empty payload); what w then has is to be dropped. */
MUST_USE bool zb_zdp_answer(const struct zb_self *self, uint16_t cluster, struct span request, bool broadcast,
                            uint16_t *response, struct wr *w);
void zb_node_desc_request(struct wr *w, uint8_t seq, uint16_t nwk);
/* The stack revision in a Node_Desc_rsp about `nwk` (server mask, bits 9 to 15; below 21 it is given as 0): r21 and later
 * exchange a link key of their own. False: the response is something else. */
MUST_USE bool zb_node_desc_revision(struct span response, uint16_t nwk, uint8_t *revision);
struct zb_device_annce {
    uint16_t nwk;
    eui64_t ieee;
    uint8_t capability;
};
MUST_USE bool zb_device_annce_parse(struct span payload, struct zb_device_annce *out); /* Zig 2.4.3.1.11 */

/* Counter rule at a receiver (Zig 4.3.1.2): accept iff counter >= next expected and not all ones. */
static inline bool zb_counter_ok(uint32_t stored_next, uint32_t received)
{
    return received >= stored_next && received != UINT32_MAX;
}

/* --- 802.15.4 MAC frames are in ipe-ni/gateway; the gateway links none of this. --- */
