/* Mmef client of an AE: registers with a MEF, finds and retrieves the key of a Zigbee device, receives the device's
 * frames and commands it, over CoAP and DTLS 1.2 with a pre-provisioned key or a certificate (TS-0003 8.3).
 *
 * The calls block, each for at most the configured timeout. A client owns its loop and belongs to one thread; aec_fd()
 * lets a program with a loop of its own wait for frames. A lost session is opened again by the next call.
 *
 * HTTPS is not offered here: libcurl has no TLS-PSK. */
#pragma once
#include "cse-shim/base/bytes.h"
#include "cse-shim/base/hex.h"
#include "cse-shim/base/status.h"

#define AEC_ID_MAX 128 /* RelativeKeyID or resourceID with NUL (sec:relKeyID, TS-0003 12.1) */
#define AEC_KEY_MAX 32 /* bytes of a key value */
#define AEC_FRAME_MAX 128

/* Instead of a key: files, PEM; read at each connection. */
struct aec_certificate {
    const char *certificate;      /* chain, on P-256, whose subjectAltName the MEF knows */
    const char *private_key;
    const char *trust_anchors;    /* certificates that the MEF's must lead to */
    const char *revocation_lists; /* current CRLs of all issuers; NULL: revocation is not checked */
    const char *server_name;      /* that the MEF's certificate must bear; NULL: host */
};

struct aec_config {
    const char *host; /* name or numeric address of the MEF */
    uint16_t port;
    const char *kpm_id;  /* KpmID, the PSK identity; NULL: by certificate */
    struct span kpm;     /* Kpm, 1 to 64 bytes; copied, wiped by aec_free() */
    struct aec_certificate certificate;
    const char *from;    /* originator: AE-ID as registered for the KpmID; NULL: none sent */
    const char *base;    /* name of <MEFBase>; NULL: "mef" */
    unsigned timeout_ms; /* of one call; 0: 10,000 */
};

struct aec;
/* NULL when out of memory or when no loop can be made. Strings are copied. No traffic yet. */
MUST_USE struct aec *aec_new(const struct aec_config *cfg);
void aec_free(struct aec *c);
/* Can the certificate's files be used? No traffic. A key always can. */
MUST_USE enum st aec_check(struct aec *c);
/* What the latest failed call was told: "RSC name: detail", without secrets. Valid until the next call. */
const char *aec_error(const struct aec *c);

/* MEF Client Registration (TS-0003 8.3.5.2.3). expires: "YYYYMMDDThhmmss" UTC. id: AEC_ID_MAX bytes, the
 * MEFClientRegID. ST_ALREADY_REGISTERED when there is one for this adminFQDN. */
MUST_USE enum st aec_register(struct aec *c, const char *admin_fqdn, const char *expires, char *id);

/* RelativeKeyID of the device's newest key (discovery by label). ST_NOT_FOUND: none that this AE may see. */
MUST_USE enum st aec_find(struct aec *c, eui64_t device, char relkeyid[AEC_ID_MAX]);

/* A retrieved key (symmKeyReg). It lives in OpenSSL's secure heap where the program has set one up. */
struct aec_key {
    uint8_t value[AEC_KEY_MAX];
    size_t len; /* bytes of value */
    char relkeyid[AEC_ID_MAX];
    unsigned suid;  /* TS-0004 6.3.4.2.39; 24: ESData */
    eui64_t device; /* from the labels; 0: absent */
    eui64_t gateway;
    uint8_t key_seq; /* NWK key sequence number */
};
MUST_USE enum st aec_get(struct aec *c, const char *relkeyid, struct aec_key **out);
void aec_key_free(struct aec_key *k); /* wipes; NULL is fine */

/* Observe the device's uplink frames. They wait (64 at most, the oldest is dropped) for aec_next(). A lost
 * observation is set up again by aec_next(). */
MUST_USE enum st aec_watch(struct aec *c, eui64_t device);
/* The next NWK frame of the watched device, still sealed. ST_TIMEOUT after timeout_ms (0: only what waits already;
 * negative: no limit); another status: the observation was refused for good. *n is the frame's length. */
MUST_USE enum st aec_next(struct aec *c, int timeout_ms, uint8_t frame[AEC_FRAME_MAX], size_t *n);
/* Readable when aec_next() has work to do. */
int aec_fd(const struct aec *c);

/* Counters for sealing `count` frames to a device under the key named, used in order and never again. The NWK sequence
 * number and the APS counter of a frame are the low byte of its counter. */
struct aec_ticket {
    char relkeyid[AEC_ID_MAX];
    eui64_t gateway; /* source in the auxiliary header */
    uint16_t device; /* short address */
    uint8_t key_seq;
    uint32_t counter; /* first of count consecutive NWK frame counters */
    unsigned count;
};
/* count: 1 to 16. ST_NOT_FOUND: the device has no key. */
MUST_USE enum st aec_ticket_take(struct aec *c, eui64_t device, unsigned count, struct aec_ticket *out);
/* Hand a sealed NWK frame to the MEF, which has the gateway radiate it. */
MUST_USE enum st aec_send(struct aec *c, eui64_t device, struct span frame);
