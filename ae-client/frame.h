/* Opening and sealing a Zigbee device's frames in the AE (IPE-OCI), with the key retrieved from the MEF; pure. */
#pragma once
#include "ae-client/aec.h"
#include "mef-plugin/zigbee/zigbee.h"

/* An application message of a device. */
struct aec_opened {
    uint32_t counter; /* NWK frame counter */
    eui64_t source;   /* authenticated sender: the device, or the last router on its way */
    bool application; /* an APS data frame; else only the members above are set */
    uint16_t cluster, profile;
    uint8_t src_endpoint, dst_endpoint;
    struct span payload; /* ZCL frame, within buf */
    uint8_t buf[ZB_NWK_MAX];
};

/* Replay guard, kept by the caller from zero for each new key. NWK security is hop by hop (Zig 4.3.1): a frame that a
 * router passed on comes under the router's EUI-64 and counter. */
#define AEC_SOURCES 32 /* the one not heard for longest is forgotten */
struct aec_replay {
    unsigned n;
    struct {
        eui64_t source;
        uint32_t next;
    } of[AEC_SOURCES]; /* the one heard last first */
};

/* Open a NWK frame of the key's device, from itself or as a router passed it on. ZB_MALFORMED also when it is one of the
 * gateway's own, or when its counter was used already; the guard is advanced only by a frame that is authentic. */
MUST_USE enum zb_err aec_frame_open(struct zb_crypto *z, const struct aec_key *key, struct aec_replay *replay,
                                    struct span frame, struct aec_opened *out);

/* Where a command goes. */
struct aec_command {
    uint8_t endpoint;
    uint16_t cluster, profile;
    struct span zcl; /* ZCL frame */
};
/* Seal a command with the i-th counters of a ticket (i < ticket->count); each is good for one frame only. */
MUST_USE enum zb_err aec_frame_seal(struct zb_crypto *z, const struct aec_key *key, const struct aec_ticket *ticket,
                                    unsigned i, const struct aec_command *cmd, struct wr *out);
