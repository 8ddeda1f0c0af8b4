/* The gateway: a PAN coordinator reduced to IEEE 802.15.4. It wires the radio to association, to the outbound queues
 * and to the EG, and holds no key and no code that could use one. */
#pragma once
#include "ipe-ni/gateway/egp_link.h"
#include "ipe-ni/gateway/radio.h"
#include "ipe-ni/pcap.h"

struct gateway;

struct gateway_config {
    sd_event *loop;
    const char *radio;             /* radio.h */
    struct radio_network net;
    uint64_t ext_pan_id;
    uint8_t update_id;
    bool permit;                   /* answer association requests */
    size_t max_devices, max_per_device;
    const char *state_file;        /* state.h; NULL: none */
    struct stream_config line;     /* to ipe-nid */
    struct pcap *capture;          /* NULL: none; borrowed */
};

MUST_USE struct gateway *gateway_new(const struct gateway_config *cfg, char *err, size_t errlen);
void gateway_free(struct gateway *g); /* NULL is fine */
void gateway_permit(struct gateway *g, bool permit);
bool gateway_idle(const struct gateway *g); /* nothing waits to be radiated */
