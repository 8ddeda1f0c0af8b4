/* CoAP endpoint (RFC 7252, 7641 Observe, 7959 Block) over plain UDP or DTLS 1.2 (RFC 6347) on one sd-event loop.
 *
 * Server and client are one thing: after the handshake either side of a session may send requests. The PDU codec is
 * libcoap's; sockets, DTLS, retransmission, de-duplication and block transfer are here (docs/decisions.md says why).
 *
 * Threads: an endpoint and everything made from it belong to the thread of its loop. Several endpoints, each with its
 * thread, may serve the same addresses as members of a group.
 * Ownership: what a callback is handed is valid until it returns, unless stated otherwise. */
#pragma once
#include "cse-shim/base/bytes.h"
#include "cse-shim/base/status.h"

#include <sys/socket.h>
#include <systemd/sd-event.h>

#define CEP_NO_FORMAT 0xffffu /* content format absent */

enum cep_method { CEP_GET = 1, CEP_POST = 2, CEP_PUT = 3, CEP_DELETE = 4, CEP_FETCH = 5, CEP_PATCH = 6, CEP_IPATCH = 7 };
#define CEP_CODE(cls, detail) ((uint8_t)((cls) << 5 | (detail)))

/* One option. Options of a message are kept in ascending order of number; equal numbers keep their order. */
struct cep_option {
    uint16_t num;
    struct span val;
};

/* A request or response as the user of the endpoint sees it: whole (blocks joined), without message id, token, Block1,
 * Block2, Size1, Size2, Observe and Echo options, which the endpoint owns. */
struct cep_message {
    uint8_t code; /* method or response code byte */
    const struct cep_option *opts;
    size_t nopts;
    struct span payload;
};

/* Small helpers on options. uint: 0 to 4 bytes, big endian (RFC 7252 3.2); false: absent or longer than 4 bytes. */
const struct cep_option *cep_option_find(const struct cep_message *m, uint16_t num);
bool cep_option_uint(const struct cep_message *m, uint16_t num, uint32_t *out);
/* Encode v into buf (4 bytes) in the fewest bytes, and return the option pointing there. */
struct cep_option cep_option_make_uint(uint16_t num, uint32_t v, uint8_t buf[4]);

struct cep_endpoint;
struct cep_session;  /* one peer; has a serial number that is never reused in this process */
struct cep_exchange; /* a request received and not yet answered */

enum cep_credential { CEP_CRED_NONE, CEP_CRED_PSK, CEP_CRED_CERT, CEP_CRED_RPK };

struct cep_peer {
    uint64_t serial;              /* names the session, also after it is gone */
    enum cep_credential cred;
    const char *identity;         /* PSK identity; the first URI, else the first dNSName in the subjectAltName of a
                                     client's certificate, as it stands; the server_name a server proved; or "" */
    const char *server_name;      /* that a client asked for (SNI), as it stands, <= 255 bytes; or "" */
    const struct sockaddr *addr;
    socklen_t addrlen;
};

struct cep_stats { /* all monotonic but `sessions` and `handshakes` (gauges) */
    uint64_t datagrams_in, datagrams_out, sessions, handshakes, sessions_total, handshakes_failed, cookies_sent;
    uint64_t requests, duplicates, retransmissions, dropped, evicted, malformed;
    uint64_t passed_on; /* datagrams that another member of the group had to get */
};

struct cep_callbacks {
    void *user;
    /* Server: a whole request arrived. Answer now or later, exactly once, with cep_respond(). NULL: every request is
     * answered 4.04. The message and its spans stay valid until cep_respond(). */
    void (*request)(void *user, struct cep_exchange *ex, const struct cep_message *req);
    /* Server: who has this PSK identity (any bytes but NUL, <= 255)? Answer with cep_psk(), at once or whenever it is
     * known; other sessions go on meanwhile. Once in a handshake, which ends 30 s after it began. server_name as in
     * cep_peer. NULL: all are refused. */
    void (*psk)(void *user, uint64_t session, const char *identity, const char *server_name);
    /* A session is open: its handshake completed, or it is plain and was just made (may be NULL). / A session ended for
     * whatever reason (may be NULL); a server session whose handshake failed was never reported, and is counted in
     * `handshakes_failed`, a client session is reported closed in any case. */
    void (*opened)(void *user, const struct cep_peer *peer);
    void (*closed)(void *user, uint64_t serial);
    /* An observation accepted by cep_observe() ended: the client cancelled, reset or went away (may be NULL). */
    void (*observe_end)(void *user, uint64_t observation);
    /* Server: what GET /.well-known/core answers (RFC 6690 link format; valid until the next call). NULL: that is a
     * request like any other. */
    const char *(*links)(void *user);
};

/* What endpoints of several threads share to serve the same addresses: the kernel spreads the peers over them, each
 * takes the cookies of all, and a datagram that reaches the wrong one is passed on. Endpoints join when they are made
 * (one after the other), and must be freed before the group. Members listen on the same addresses in the same order. */
#define CEP_MAX_MEMBERS 16u
struct cep_group;
MUST_USE struct cep_group *cep_group_new(unsigned members); /* NULL: out of memory, or not 1 to CEP_MAX_MEMBERS */
void cep_group_free(struct cep_group *g);                   /* NULL is fine */
/* The member that a session or observation is of, by its number; without a group 0. */
static inline unsigned cep_member(uint64_t id) { return (unsigned)(id % CEP_MAX_MEMBERS); }

struct cep_config {
    struct cep_group *group;  /* NULL: none */
    unsigned member;          /* from 0; each once */
    size_t max_sessions;      /* live sessions; the least recently used one is evicted; 0: 10,000 */
    size_t max_handshakes;    /* handshakes in progress behind a valid cookie; 0: 1,000 */
    size_t max_body;          /* joined body of a request or response, bytes; 0: 65,536 */
    unsigned idle_seconds;    /* a session idle longer is closed; 0: 86,400 */
    unsigned ack_timeout_ms;  /* RFC 7252 4.8 ACK_TIMEOUT; 0: 2,000 */
    unsigned max_retransmit;  /* MAX_RETRANSMIT; 0: 4 */
    unsigned confirm_seconds; /* an observer confirms a notification at least this often (RFC 7641 4.5); 0: 86,400 */
    /* Plain UDP: a peer that did not prove its address within so many seconds (RFC 9175: 4.01 with Echo, which it
     * repeats) gets no response larger than three times its request, no observation and no unsafe method. 0: it does. */
    unsigned echo_seconds;
    unsigned mtu;             /* largest datagram sent, bytes of UDP payload; 0: 1,152 */
};

/* Make an endpoint on `loop` (referenced). NULL when out of memory or OpenSSL lacks a needed algorithm. */
MUST_USE struct cep_endpoint *cep_endpoint_new(sd_event *loop, const struct cep_config *cfg,
                                                 const struct cep_callbacks *cb);
/* Closes every session (close_notify), drops pending work, also exchanges not yet answered; calls no callback, and must
 * not be called from one. NULL is fine. */
void cep_endpoint_free(struct cep_endpoint *ep);

/* Listen on an address; `secure` says DTLS. May be called several times (IPv4 and IPv6, plain and secure). Port 0 picks
 * one (the same for all members of a group); the port bound is stored in *bound when bound != NULL. Returns 0 or a negative errno. */
MUST_USE int cep_listen(struct cep_endpoint *ep, const char *host, uint16_t port, bool secure, uint16_t *bound);

/* Client: open a session to host:port (numeric or name; IPv4 or IPv6). With identity != NULL the session is DTLS with
 * that PSK (1 to 64 bytes; copied, wiped with the session), else plain UDP. Requests may be queued at once. Returns
 * NULL and sets *err (negative errno) when the address cannot be resolved or the socket not made. `opened`/`closed` report the rest;
 * a session whose handshake fails is closed. */
MUST_USE struct cep_session *cep_connect(struct cep_endpoint *ep, const char *host, uint16_t port,
                                           const char *identity, struct span key, int *err);

/* --- certificates: ECDSA on P-256, ECDHE-ECDSA with AES-128-CCM_8, -CCM or -GCM (TS-0003 10.2.3, RFC 7925 4.4) --- */

struct cep_certificate {
    const char *server_name;  /* what a client's SNI must say to be shown this one; NULL: any name no other has */
    const char *certificate;  /* file: PEM, the certificate and what leads to the anchor, in that order */
    const char *private_key;  /* file: PEM, unencrypted */
};

struct cep_certs_files {
    const struct cep_certificate *list; /* at most 64; 0 is fine. No two for one server_name */
    size_t n;
    const char *trust_anchors;    /* file: PEM; NULL: trust nobody */
    const char *revocation_lists; /* file: PEM, one or several CRLs; NULL: nobody asks whether a certificate was revoked */
    const char *raw_keys;         /* file: PEM, clients' public keys that are trusted as they are (RFC 7250), on P-256; NULL:
                                   * none. Beside trust anchors, with OpenSSL 3.2 or later */
    bool any_key;                 /* for HTTPS: keys other than on P-256, too */
};

/* Certificates, keys, trust anchors and CRLs as read from files; reference counted, never changed once loaded, and so
 * shared by endpoints of any thread. For either role: a server chooses by SNI, a client shows the first without a name.
 * With revocation lists each certificate of a peer's chain needs a current CRL of its issuer: where that is missing or has
 * expired, the peer is refused. NULL on failure, with one line in err. */
struct cep_certs;
MUST_USE struct cep_certs *cep_certs_load(const struct cep_certs_files *files, char *err, size_t errlen);
void cep_certs_unref(struct cep_certs *c); /* NULL is fine */

/* When the first of these ends, seconds since 1970; INT64_MAX: there is none. */
struct cep_certs_expiry {
    int64_t certificate;     /* of ours */
    int64_t revocation_list; /* its nextUpdate */
};
struct cep_certs_expiry cep_certs_expiry(const struct cep_certs *c);

/* Server: from now on handshakes may use these certificates (referenced) beside PSK; NULL: PSK only. Call again with
 * newly loaded ones to replace them: open sessions go on, but for those of clients whose certificate would be refused
 * now (revoked, expired, no anchor any more); these are closed, the last of thousands after seconds. A client that comes
 * without PSK is asked for its certificate if there are anchors, and refused without one unless `optional`; unproven
 * clients are CEP_CRED_NONE. */
void cep_endpoint_certificates(struct cep_endpoint *ep, struct cep_certs *certs, bool optional);

/* Client: as cep_connect(), by certificates (referenced; they must have anchors). server_name: sent as SNI, and what
 * the server's certificate must name (dNSName or IP address, no wildcards); NULL: host. */
MUST_USE struct cep_session *cep_connect_certificate(struct cep_endpoint *ep, const char *host, uint16_t port,
                                                     struct cep_certs *certs, const char *server_name, int *err);

struct cep_session *cep_session_find(struct cep_endpoint *ep, uint64_t serial); /* NULL: gone */
uint64_t cep_session_serial(const struct cep_session *s);
/* Server: the key (at most 64 bytes; copied, wiped after use) that cep_callbacks.psk asked for; n = 0 refuses. Harmless
 * when the session is gone or asked for none. */
void cep_psk(struct cep_endpoint *ep, uint64_t serial, const uint8_t *key, size_t n);
void cep_session_close(struct cep_session *s); /* close_notify; outstanding requests end with ST_UNREACHABLE */

/* The result of a client request. st: ST_OK when a response arrived (whatever its code; `rsp` is then non-NULL),
 * ST_TIMEOUT when retransmissions ran out, ST_UNREACHABLE when the session ended or the peer sent RST, ST_TOO_LARGE when
 * the body exceeded max_body. For an observe request it is called for the first response, once per notification, and
 * once with st != ST_OK when the observation is over: also right after a response by which the server did not accept or
 * ended it. When Max-Age (60 s if absent) has passed without a notification the endpoint registers again (RFC 7641
 * 3.3.1), and the response to that is reported like a notification. */
typedef void (*cep_response_fn)(void *user, enum st st, const struct cep_message *rsp);

/* Send a confirmable request (Block1/Block2 as needed; content copied). observe: register an observation (GET). Returns
 * a handle > 0 for cep_cancel(), or 0 when the session is closed, memory is short or the options exceed about 2,900
 * bytes (fn is then not called).
 * Requests on one session go out in the order given, NSTART of them at a time (RFC 7252 4.7; NSTART = 1 when
 * `ordered`, else 8). */
MUST_USE uint64_t cep_request(struct cep_session *s, const struct cep_message *req, bool observe, bool ordered,
                               cep_response_fn fn, void *user);
/* Forget a request: fn is not called again; an observation is deregistered with the server. */
void cep_cancel(struct cep_session *s, uint64_t handle);

/* Server side. An exchange's peer, what it asks to observe and its message do not change, and may also be read by another
 * thread to which it was handed, until it is answered. */
const struct cep_peer *cep_exchange_peer(const struct cep_exchange *ex);
uint64_t cep_exchange_observe(const struct cep_exchange *ex); /* Observe: 0 was sent: the id for it; 0: it was not */
/* Accept the observation: later cep_notify(id) sends. Returns its id, or 0 when it was not asked for, its session is
 * gone or memory is short. Call before responding. */
uint64_t cep_observe(struct cep_exchange *ex);
/* Answer and release the exchange (also when its session is gone meanwhile). Content is copied. `sensitive`: the
 * response is wiped after sending and never kept, neither for de-duplication nor for its further blocks: a duplicate of
 * the request, and the request for the next block, are handed to the request callback again (only for safe methods: GET,
 * FETCH). */
void cep_respond(struct cep_exchange *ex, const struct cep_message *rsp, bool sensitive);
/* Send a notification; `confirmable` ones are retransmitted, and their failure ends the observation. The newest
 * notification replaces an unsent or unacknowledged one (RFC 7641 4.5.2) unless `queue` is set (then at most 64 wait,
 * the oldest is dropped). */
void cep_notify(struct cep_endpoint *ep, uint64_t observation, const struct cep_message *n, bool confirmable, bool queue);
void cep_observe_cancel(struct cep_endpoint *ep, uint64_t observation);

/* RFC 5705 exporter without context on the session of `serial`; false: no such DTLS session. */
MUST_USE bool cep_export(struct cep_endpoint *ep, uint64_t serial, const char *label, uint8_t *out, size_t n);

void cep_stats_get(const struct cep_endpoint *ep, struct cep_stats *out);

/* A copy of a message, to hand it to another thread; NULL: out of memory. Freeing wipes it. */
MUST_USE struct cep_message *cep_message_copy(const struct cep_message *m);
void cep_message_free(struct cep_message *m); /* NULL is fine */
