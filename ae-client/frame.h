/* Opening and sealing a Zigbee device's frames in the AE (IPE-OCI), with the key retrieved from the MEF; pure. */
#pragma once
#include "ae-client/aec.h"
#include "mef-plugin/zigbee/zigbee.h"

/* An application message of a device. */
struct aec_opened {
    uint32_t counter; /* NWK frame counter */
    eui64_t source;   /* authenticated sender */
    bool application; /* an APS data frame; else only the members above are set */
    uint16_t cluster, profile;
    uint8_t src_endpoint, dst_endpoint;
    struct span payload; /* ZCL frame, within buf */
    uint8_t buf[ZB_NWK_MAX];
};

/* Open a NWK frame of the key's device. ZB_MALFORMED also when it is not from that device (another holder of the key,
 * the gateway's own frames). next_counter: replay guard, kept by the caller from 0 for each new key; advanced only by a
 * frame that is authentic; a counter already used gives ZB_MALFORMED. */
MUST_USE enum zb_err aec_frame_open(struct zb_crypto *z, const struct aec_key *key, uint32_t *next_counter,
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
