/* What a oneM2M host (the daemon mefd, or a CSE in C) and its plugins say to each other. The host owns sockets, TLS,
 * serialisation and authenticated identity; a plugin owns resources. docs/plugin.md tells how another host would do it.
 *
 * Every call into a plugin is made from one thread, the host's loop. Of the host's functions only `post`, `log` and
 * `count` may be called from other threads. JSON is cJSON on both sides; a CBOR body arrives as the same tree (byte
 * strings as padded base64). */
#pragma once
#include "cse-shim/base/bytes.h"
#include "cse-shim/base/conf.h"
#include "cse-shim/base/log.h"
#include "cse-shim/base/status.h"

#include <cjson/cJSON.h>

#define CSE_PLUGIN_ABI 3u
#define CSE_PLUGIN_SYMBOL "cse_plugin" /* the one exported symbol: `const struct cse_plugin cse_plugin` */

enum cse_op { CSE_CREATE = 1, CSE_RETRIEVE, CSE_UPDATE, CSE_DELETE, CSE_NOTIFY }; /* TS-0004 6.3.4.2.5 */
enum cse_binding { CSE_INTERNAL, CSE_COAP, CSE_HTTP };
enum cse_credential { CSE_CRED_NONE, CSE_CRED_PSK, CSE_CRED_CERT, CSE_CRED_RPK };

/* How a plugin wants the requests below a path prefix delivered. */
enum cse_mount {
    CSE_PRIMITIVE, /* oneM2M: From, RQI and RVI are checked by the host, the body is parsed to `pc` */
    CSE_SERVICE,   /* plain REST: JSON body parsed to `pc`; POST is CSE_CREATE, PUT is CSE_UPDATE */
    CSE_RAW        /* plain, body untouched in `body` */
};

#define CSE_NO_FORMAT 0xffffu /* otherwise CoAP content-format numbers: 42 octets, 50 JSON, 60 CBOR, 0 text */

struct cse_peer {
    uint64_t session;         /* names the peer's security association; 0: none (internal). Never reused */
    enum cse_credential cred;
    const char *identity;     /* KpmID of a PSK, subjectAltName of a certificate; "" if unauthenticated */
    const char *address;      /* numeric address and port, for audit */
    const char *server_name;  /* the name that the peer asked for (SNI, RFC 6066 3), as it stands; NULL or "": none */
};

struct cse_param { /* one query parameter, percent-decoded, in the order received */
    const char *name;
    const char *value;
};

/* A request; valid from handle() until respond(). */
struct cse_request {
    enum cse_mount mount;
    enum cse_binding binding;
    enum cse_op op;
    const char *path;          /* percent-decoded segments joined by '/', no leading or trailing one: "mef/eg/devices" */
    const struct cse_param *params;
    size_t nparams;
    const char *from;          /* oneM2M originator as sent, NULL when absent */
    int ty;                    /* resource type of a create, -1 when absent */
    unsigned content_format;   /* of the body */
    unsigned accept;           /* asked for, CSE_NO_FORMAT: any */
    const cJSON *pc;           /* parsed body, NULL: none */
    struct span body;          /* the body as received */
    const char *authorization; /* HTTP Authorization header, NULL: none */
    const char *last_event_id; /* HTTP Last-Event-ID of a client that comes back for events, NULL: none */
    bool observe;              /* the client asks to observe (CoAP Observe 0; HTTP: SSE accepted) */
    struct cse_peer peer;
};

/* An answer. Everything but `pc` is copied by respond(); `pc` is taken over (also on failure) and freed wiping. */
struct cse_response {
    enum st status;
    cJSON *pc;                /* body as JSON tree, or NULL */
    struct span body;         /* body as bytes in `content_format`, when pc is NULL */
    unsigned content_format;  /* for `body` */
    const char *location;     /* of what a create made: path without leading '/', or NULL */
    const char *code;         /* on failure: machine-readable token such as "bad-crc"; NULL: none */
    const char *field;        /* on failure: the member at fault, or NULL */
    const char *detail;       /* on failure: one sentence for a person, without secrets, or NULL */
    const char *histogram;    /* of the host's metrics, for how long this answer took since its request came; NULL: none.
                               * A literal that ends in _seconds */
    bool sensitive;           /* holds key bytes: wipe after sending, never cache */
    uint64_t event_id;        /* of a notification, for clients of HTTP events to resume behind; 0: just counted */
};

struct cse_host;

struct cse_host_ops {
    unsigned abi;
    /* Claim a path prefix ("mef", "v1"); the longest match wins. Only in init(). */
    bool (*mount)(struct cse_host *h, const char *prefix, enum cse_mount how);
    /* Answer a request exactly once, at any time after handle() was called. Harmless if the peer is gone. */
    void (*respond)(struct cse_host *h, struct cse_request *req, struct cse_response *rsp);
    /* Accept the observation that req asks for; before respond(). Returns its id, 0: not possible. */
    uint64_t (*observe)(struct cse_host *h, struct cse_request *req);
    /* Send a notification; `queue`: keep several unsent ones in order instead of only the newest. */
    void (*notify)(struct cse_host *h, uint64_t observation, const struct cse_response *rsp, bool queue);
    void (*observe_cancel)(struct cse_host *h, uint64_t observation);
    /* Send a POST with a raw body to the peer of a session (CoAP roles are symmetric), in order per session. `done` is
     * called once with ST_OK and the answer's body, or the failure; but never after the plugin's free(). False: no such
     * session, done is not called. */
    bool (*send)(struct cse_host *h, uint64_t session, const char *path, unsigned content_format, struct span body,
                 void (*done)(void *user, enum st st, struct span body), void *user);
    /* RFC 5705 exporter on the peer's session, no context. */
    bool (*export_key)(struct cse_host *h, uint64_t session, const char *label, uint8_t *out, size_t n);
    /* One-shot timer after ms milliseconds; returns an id > 0. */
    uint64_t (*timer)(struct cse_host *h, uint64_t ms, void (*fn)(void *user), void *user);
    void (*timer_cancel)(struct cse_host *h, uint64_t id);
    /* Run fn on the loop thread soon, in the order posted. Thread-safe. */
    void (*post)(struct cse_host *h, void (*fn)(void *user), void *user);
    uint64_t (*now)(struct cse_host *h);   /* monotonic milliseconds */
    int64_t (*time)(struct cse_host *h);   /* milliseconds since 1970 UTC */
    bool (*random)(struct cse_host *h, void *out, size_t n); /* cryptographic */
    /* Add to a metric (Prometheus counter name such as "mef_keys_retrieved_total"); `name` is a literal.
     * docs/operations.md lists them all. Thread-safe. */
    void (*count)(struct cse_host *h, const char *name, uint64_t add);
    void (*gauge)(struct cse_host *h, const char *name, int64_t value);
    /* The process cannot go on safely (a commit failed): no further answer leaves; it ends with an error. */
    void (*fatal)(struct cse_host *h, const char *why);
};

/* What a plugin is. */
struct cse_plugin {
    unsigned abi;                         /* CSE_PLUGIN_ABI */
    const char *name, *version;
    const struct conf_option *options;    /* ended by section NULL; checked by the host's strict loader */
    /* Make the instance; on failure write one line to err and return NULL. `conf` stays valid until free(). */
    void *(*init)(struct cse_host *h, const struct cse_host_ops *ops, const struct conf *conf, char *err, size_t errlen);
    void (*handle)(void *self, struct cse_request *req);
    /* Key of a PSK identity: bytes written to key (cap >= 64), 0: refuse; server_name as in cse_peer. Must not block. */
    size_t (*psk)(void *self, const char *identity, const char *server_name, uint8_t *key, size_t cap);
    void (*observe_end)(void *self, uint64_t observation);
    void (*session_end)(void *self, uint64_t session);
    /* SIGHUP. False: nothing changed. When true, `conf` stays valid until the next reload() that is. */
    bool (*reload)(void *self, const struct conf *conf, char *err, size_t errlen);
    bool (*ready)(void *self);            /* for /readyz */
    /* After draining; flushes what is accepted. Calls posted before are still run afterwards. */
    void (*free)(void *self);
};
