/* The radio: a raw IEEE 802.15.4 transceiver that sends one frame at a time, acknowledges what is addressed to it, and
 * knows for whom frames wait. Drivers are a const table in radio.c; one is chosen by the configuration's
 * `[radio] driver = NAME:ARGUMENTS`.
 *
 *   udp:GROUP:PORT[:INTERFACE]  the multicast medium of simulated radios (docs/operations.md): 224.0.0.116:9000 on
 *                               127.0.0.1 unless given
 *
 * A driver does in software or leaves to hardware: FCS, acknowledgement of frames for us with the right frame-pending
 * bit, channel access, waiting for acknowledgements and retrying. */
#pragma once
#include "ipe-ni/gateway/mac.h"

#include <systemd/sd-event.h>

struct radio;

struct radio_network { /* how we are known on the air */
    uint8_t channel;   /* 11..26 */
    uint16_t pan, short_;
    eui64_t ext;
};

enum radio_tx { RADIO_SENT /* acknowledged, if that was asked for */, RADIO_NO_ACK, RADIO_CHANNEL_BUSY };

struct radio_callbacks {
    void *user;
    /* A frame with a good FCS on our channel, whoever it is for; the FCS is cut off. rssi dBm. */
    void (*rx)(void *user, struct span frame, int8_t rssi, uint8_t lqi);
    /* The transmission begun by radio_tx() is over; tries: how often the frame was radiated. */
    void (*tx_done)(void *user, enum radio_tx result, unsigned tries);
    /* Each frame radiated or heard, acknowledgements too as far as the hardware tells; for captures. May be NULL. */
    void (*air)(void *user, struct span frame);
};

struct radio_ops {
    const char *name;
    struct radio *(*open)(sd_event *loop, const char *args, const struct radio_network *net,
                          const struct radio_callbacks *cb, char *err, size_t errlen);
    void (*close)(struct radio *r);
    bool (*tx)(struct radio *r, struct span frame);
    bool (*pending)(struct radio *r, const struct mac_addr *who, bool on);
};

extern const struct radio_ops radio_udp;

struct radio { /* the head of every driver's own struct */
    const struct radio_ops *ops;
};

/* Open the radio that spec names. NULL with the reason in err. net and cb are copied. */
MUST_USE struct radio *radio_open(sd_event *loop, const char *spec, const struct radio_network *net,
                                  const struct radio_callbacks *cb, char *err, size_t errlen);
/* True when spec names a driver; its arguments are not looked into. */
bool radio_known(const char *spec);
void radio_close(struct radio *r); /* NULL is fine */

/* Radiate a frame (without FCS), retrying up to 3 times when it asks for an acknowledgement. False: one is under way,
 * or the frame is too long. tx_done is called later, never from within. */
static inline MUST_USE bool radio_tx(struct radio *r, struct span frame) { return r->ops->tx(r, frame); }
/* Set or clear the frame-pending bit in acknowledgements of data requests from this address (mode short or extended).
 * False: the radio's table is full. */
static inline bool radio_pending(struct radio *r, const struct mac_addr *who, bool on)
{
    return r->ops->pending(r, who, on);
}
