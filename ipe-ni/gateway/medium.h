/* The simulated medium's datagram: channel byte, MAC frame, FCS. Pure. */
#pragma once
#include "ipe-ni/gateway/mac.h"

#define MEDIUM_MAX (1 + MAC_MAX_PSDU)

static inline void medium_build(struct wr *w, uint8_t channel, struct span frame)
{
    wr_u8(w, channel);
    wr_spanb(w, frame);
    mac_fcs_append(w, w->n - frame.n);
}

/* NULL and the frame without FCS, or why the datagram is no frame for a radio on this channel. */
static inline MUST_USE const char *medium_parse(struct span datagram, uint8_t channel, struct span *frame)
{
    if (datagram.n == 0 || datagram.n > MEDIUM_MAX)
        return "length";
    if (datagram.p[0] != channel)
        return "channel";
    return mac_fcs_strip(span_of(datagram.p + 1, datagram.n - 1), frame) ? NULL : "fcs";
}
