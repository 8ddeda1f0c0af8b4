/* The gateway's end of the EG protocol: EG messages over a stream, with Hello whenever the line comes up and once a
 * minute. */
#pragma once
#include "ipe-ni/stream.h"
#include "mef-plugin/egp/egp.h"

struct egp_link;

struct egp_link_config {
    sd_event *loop;
    struct stream_config line;
    eui64_t gateway;
    struct egp_hello hello; /* its channel goes into every envelope, too */
    void *user;
    /* A message for this gateway: EgResponse, DownlinkFrame or DeviceState. */
    void (*message)(void *user, const struct egp_message *m);
};

MUST_USE struct egp_link *egp_link_new(const struct egp_link_config *cfg, char *err, size_t errlen);
void egp_link_free(struct egp_link *l); /* NULL is fine */

/* Send m; version, gateway, direction and channel are filled in here. A transaction of 0 is replaced by a fresh number.
 * False: the line is down or full, or m cannot be encoded. */
bool egp_link_send(struct egp_link *l, struct egp_message *m);

uint64_t egp_link_refused(const struct egp_link *l); /* messages received that were none, or none for us */
void egp_link_stats(const struct egp_link *l, struct stream_stats *out);
