/* What the EG keeps: install-code registrations, gateways, devices, stored responses; and their rows in the store.
 * A row begins with a version byte. Decoding is strict; a decoder's output is freed with the matching *_free even when
 * it failed. No record holds key bytes, only the vault's ids. */
#pragma once
#include "mef-plugin/egp/egp.h"
#include "mef-plugin/mef/mef.h"

#define EG_MAX_TARGETS 16  /* AE-IDs named by one registration */
#define EG_MAX_GATEWAYS 16 /* gateways named by one registration */
#define EG_MAX_PANS 8      /* PAN ids, and applications, of one gateway */
#define EG_MAX_PENDING 8   /* gateways at which one device may be joining at the same time */
#define EG_MAX_TEXT 256    /* bytes of an identity, name or AE-ID */
#define EG_MAX_ROW 8192    /* bytes of an encoded record */
#define EG_MAX_DOMAIN_NAME (8 + 1 + EG_MAX_TEXT + 1 + EG_MAX_TEXT)
#define EG_DIGEST 32

struct code { /* an install-code registration */
    char *admin;
    vault_id key;
    char *application; /* NULL: none */
    char *targets[EG_MAX_TARGETS];
    size_t ntargets;
    eui64_t gateways[EG_MAX_GATEWAYS];
    size_t ngateways;
    int64_t expires; /* ms since 1970; 0: never */
    int64_t created;
};

struct gateway_row {
    char *admin, *identity;
    char *name; /* NULL: none */
    uint16_t pans[EG_MAX_PANS];
    size_t npans;
    char *applications[EG_MAX_PANS];
    size_t napplications;
    bool extended; /* firstKeyForm */
    int64_t created;
};

#define EG_HOP_LEARNED 0xfffe

struct assoc {                      /* a device at a gateway under a network key */
    vault_id network_key, link_key; /* link_key: what the network key was sent under */
    vault_id tclk, offered;         /* trust-centre link keys: verified, its own since; sent, not yet verified; 0: none */
    uint32_t aps_next;              /* least APS frame counter accepted from the device, under any link key */
    uint8_t key_seq, capability;
    eui64_t gateway;
    eui64_t parent; /* the router that it joined; 0: the gateway itself */
    uint16_t pan, address;
    uint16_t next_hop;           /* its address if it is the gateway's neighbour; else EG_HOP_LEARNED */
    uint32_t counter_next;       /* least NWK frame counter accepted from the device */
    char relkeyid[MEF_RELKEYID]; /* "" while pending */
};

/* Why a device is where it is; numbers are stored. */
enum device_reason {
    WHY_NONE,
    WHY_NO_FRAME,
    WHY_REVOKED,
    WHY_CODE_CHANGED,
    WHY_NO_EXCHANGE,
    WHY_NOT_VERIFIED,
    WHY_BAD_VERIFY,
    WHY_LEFT,
    WHY_NOT_OPENED,
    WHY_NOT_DELIVERED,
    WHY_COUNT
};
const char *device_reason_name(enum device_reason r); /* "no-secured-frame-seen", ..; NULL for WHY_NONE */

/* Tokens refill at a rate up to a burst (bucket_take). Zero-initialised it is full. */
struct bucket {
    uint64_t since; /* ms, monotonic: when it was empty, had it refilled ever since; 0: never used */
};

enum delivery { DELIVERY_UNKNOWN, DELIVERY_TAKEN, DELIVERY_MISSED };

/* A key sent at one gateway and not proved. */
struct pending {
    struct pending *next;
    struct assoc assoc;
    int64_t since;      /* ms since 1970: when it was sent last */
    /* memory only */
    struct bucket rate[2];  /* of sending it again: asked for at the gateway, and by a router */
    uint64_t sent_in;       /* the gateway's transaction in which it was sent last */
    enum delivery delivery; /* did the device acknowledge that on its radio? */
    bool at_gateway;        /* somebody asked at the gateway itself, whatever a router says */
};

struct device_row {
    char *admin;
    bool has_current, revoked;
    bool enrolled;   /* the current key has been earned: by Confirm-Key, or because the device is older than r21 */
    bool code_spent; /* a link key made from the install code has been replaced by one that the device verified */
    enum device_reason reason;
    struct assoc current;    /* proved by a frame of the device */
    struct pending *pending; /* newest first, at most EG_MAX_PENDING; owned */
    int64_t rearm_until, last_seen;
    vault_id shared_key;    /* its key domain's, which it had last; 0: none */
    uint32_t shared_next;   /* ..and the least frame counter not used under it */
    int64_t exchange_since; /* ms since 1970: when the second exchange was awaited first; 0: none is */
};

struct stored_response {
    uint64_t serial; /* order of making */
    uint8_t digest[EG_DIGEST];
    struct span response; /* borrowed when encoding and after decoding */
};

void code_encode(const struct code *c, struct wr *w);
MUST_USE bool code_decode(struct span in, struct code *c);
void code_free(struct code *c); /* its members */
struct span code_admin(struct span row); /* of an encoded code that can be decoded, without the rest */

void gateway_encode(const struct gateway_row *g, struct wr *w);
MUST_USE bool gateway_decode(struct span in, struct gateway_row *g);
void gateway_row_free(struct gateway_row *g);

void device_encode(const struct device_row *d, struct wr *w);
MUST_USE bool device_decode(struct span in, struct device_row *d);
void device_row_free(struct device_row *d);

struct domain_row { /* a network key that several devices share */
    vault_id key;
    uint8_t key_seq;
};
/* The key of the row: gateway EUI-64, scope, "adminFQDN/application" (no application: of scope network). */
struct domain_name {
    eui64_t gateway;
    enum mef_scope scope;
    struct span admin; /* without p: of a row from before it was named; empty: nobody's */
    struct span application;
};

void stored_response_encode(const struct stored_response *s, struct wr *w);
MUST_USE bool stored_response_decode(struct span in, struct stored_response *s);

void domain_encode(const struct domain_row *d, struct wr *w);
MUST_USE bool domain_decode(struct span in, struct domain_row *d);
void domain_name_encode(const struct domain_name *n, struct wr *w);
MUST_USE bool domain_name_decode(struct span in, struct domain_name *n); /* its texts borrowed */
