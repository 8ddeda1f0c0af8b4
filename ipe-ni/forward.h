/* ipe-nid's one job: carry EG messages between a line and the MEF. It reads envelopes, never bodies (docs/eg-
 * protocol.md, "Over CoAP"). */
#pragma once
#include "ipe-ni/pcap.h"
#include "ipe-ni/stream.h"

struct forward;

/* A PSK or a certificate; the members of the other are NULL. Files are read at each connection, keys wiped at once. */
struct forward_credential {
    const char *identity;         /* PSK identity (KpmId) */
    const char *psk_file;         /* hex, mode 0600 */
    const char *certificate, *private_key, *trust_anchors; /* files, PEM; see struct cep_certs_files */
    const char *revocation_lists; /* NULL: revocation is not checked */
    const char *server_name;      /* NULL: host */
};

struct forward_config { /* strings must stay until forward_free(), but for host, which is copied */
    sd_event *loop;
    struct stream_config line;
    const char *host; /* of the MEF */
    uint16_t port;
    const char *path; /* "/mef/eg" */
    struct forward_credential credential;
    size_t in_flight, queue; /* requests, messages */
    unsigned ack_timeout_ms, keepalive_s;
    struct pcap *capture;    /* NULL: none; borrowed */
};

MUST_USE struct forward *forward_new(const struct forward_config *cfg, char *err, size_t errlen);
void forward_free(struct forward *f); /* logs the counts; NULL is fine */
void forward_reconnect(struct forward *f); /* now; key or certificates may have changed */
bool forward_idle(const struct forward *f); /* nothing waits for the MEF */
/* Can it be used? If not, one line in err. */
MUST_USE bool forward_check(const struct forward_credential *c, char *err, size_t errlen);
