/* ipe-nid's one job: carry EG messages between a line and the MEF. It reads envelopes, never bodies (docs/eg-
 * protocol.md, "Over CoAP"). */
#pragma once
#include "ipe-ni/pcap.h"
#include "ipe-ni/stream.h"

struct forward;

struct forward_config {
    sd_event *loop;
    struct stream_config line;
    const char *host;        /* of the MEF; strings are copied */
    uint16_t port;
    const char *path;        /* "/mef/eg" */
    const char *identity;    /* PSK identity (KpmId) */
    const char *psk_file;    /* hex, mode 0600; read at each connection and wiped at once */
    size_t in_flight, queue; /* requests, messages */
    unsigned ack_timeout_ms, keepalive_s;
    struct pcap *capture;    /* NULL: none; borrowed */
};

MUST_USE struct forward *forward_new(const struct forward_config *cfg, char *err, size_t errlen);
void forward_free(struct forward *f); /* logs the counts; NULL is fine */
void forward_reconnect(struct forward *f); /* the key may have changed */
bool forward_idle(const struct forward *f); /* nothing waits for the MEF */
/* NULL when the PSK file can be used, else why not. */
const char *forward_psk_check(const char *path);
