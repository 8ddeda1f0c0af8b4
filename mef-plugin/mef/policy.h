/* What a stakeholder lets its clients do: a pure function from rules and facts to a verdict, so that it can be read,
 * tested and diffed as a table (tests/unit/golden/mef-policy.txt). */
#pragma once
#include "cse-shim/base/hex.h"
#include "mef-plugin/mef/texts.h"

enum policy_what {
    POLICY_REGISTER, /* make or update a client registration */
    POLICY_DEPOSIT,  /* make or update a key registration */
    POLICY_RETRIEVE, /* be given a key, as its target */
    POLICY_COMMAND,  /* be given a command or report on one, or be given its configuration, as the client */
    POLICY_TICKET,   /* take frame counters for a device */
    POLICY_WHATS
};
#define POLICY_MAX_PLACES 16 /* networks, and gateways, of one rule */
#define POLICY_MAX_COMMANDS 16
#define POLICY_DAY_MINUTES 1440

#define POLICY_V4_BITS 96 /* of the prefix that makes an IPv4 address an IPv6 one (RFC 4291 2.5.5.2) */
struct policy_network {
    uint8_t prefix[16]; /* IPv4 as ::ffff:a.b.c.d */
    uint8_t bits;       /* 0 to 128 of it count; with fewer than POLICY_V4_BITS it is of IPv6 and holds no IPv4 address */
};
/* A numeric address in that form; false: it is none. */
bool policy_address(const char *host, uint8_t out[16]);
/* ..of a peer, as the host writes it: "192.0.2.1:5684", "[2001:db8::1]:5684". Port and scope do not count. */
bool policy_peer_address(const char *peer, uint8_t out[16]);
bool policy_is_v4(const uint8_t address[16]);

/* Every condition that is empty holds. */
struct policy_rule {
    struct policy_rule *next; /* the stakeholder's rules, in the order of their names */
    char *name;
    bool deny;
    unsigned what;         /* 1u << each policy_what that it is about */
    struct strings ids;    /* absolute ids; one that ends in '*' is the beginning of many */
    struct strings labels; /* of the client's registration: one of them */
    struct policy_network networks[POLICY_MAX_PLACES]; /* it asks from one of them */
    size_t nnetworks;
    eui64_t gateways[POLICY_MAX_PLACES]; /* the device is at one of them */
    size_t ngateways;
    uint8_t days;           /* 1u << 0 is Monday, UTC; 0: all */
    uint16_t from, to;      /* minutes of the day, UTC, `to` excluded; both the same: all day. A window that passes
                             * midnight belongs to the day on which it begins */
    uint64_t lifetime;      /* longest life of what is registered, seconds; 0: the MEF's */
    struct strings targets; /* who a deposited key may be for; empty: anybody */
    struct strings commands; /* cmdDescriptions in JSON: what a client is to do that registers */
};

struct policy_facts {
    enum policy_what what;
    const char *id;               /* absolute */
    const struct strings *labels; /* NULL: it has no registration */
    bool has_address;
    uint8_t address[16]; /* as in policy_network */
    eui64_t gateway;     /* 0: the matter is of none */
    int64_t now;         /* ms since 1970 */
};

struct policy_verdict {
    bool allow;
    uint64_t lifetime;             /* as in the rule; 0: no rule says */
    const struct strings *targets; /* of the rule; NULL: anybody */
    const struct strings *commands; /* of the rule; NULL: none */
    const char *rule;               /* its name; NULL: no rule is about it */
};

/* The first rule that is about it and whose conditions hold decides; without one everything is allowed. */
struct policy_verdict policy_decide(const struct policy_rule *first, const struct policy_facts *f);
