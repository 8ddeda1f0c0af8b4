/* Who gets a first key: a pure function from facts to a verdict, so that the rules can be read, tested and diffed as a
 * table (tests/unit/golden/eg-policy.txt). */
#pragma once
#include "mef-plugin/egp/egp.h"

enum policy_fact {
    FACT_OWNED = 1u << 0,           /* this process owns the gateway (its epoch is ours) */
    FACT_PAN_ALLOWED = 1u << 1,     /* the gateway's record names no PAN ids, or this one */
    FACT_REGISTERED = 1u << 2,      /* the gateway's stakeholder registered an install code for this EUI-64 */
    FACT_EXPIRED = 1u << 3,         /* ..and that registration has ended */
    FACT_GATEWAY_ALLOWED = 1u << 4, /* registration and gateway agree to serve each other */
    FACT_ASSOCIATION = 1u << 5,     /* joins by association with its install code, not by a rejoin */
    FACT_IN_DOMAIN = 1u << 6,       /* joins the gateway itself, or a router of its own key domain */
    FACT_REVOKED = 1u << 7,         /* an operator revoked the device */
    FACT_CODE_SPENT = 1u << 8,      /* the device has a link key of its own, verified */
    FACT_REARMED = 1u << 9,         /* an operator opened the window for a factory-reset device */
    FACT_PENDING_HERE = 1u << 10,   /* a key for this device and gateway awaits its proof */
    FACT_WITHIN_RATE = 1u << 11,    /* not too many keys forged for this EUI-64 lately */
    FACT_LINK_KEY = 1u << 12,       /* the device has a link key by which it may rejoin at this gateway */
    FACT_COUNT = 13
};

enum policy_act {
    POLICY_REFUSE,
    POLICY_NEW_KEY, /* make a network key, open a pending record */
    POLICY_RESEND   /* the pending record's key again, under a new counter */
};

struct policy_verdict {
    enum policy_act act;
    enum egp_reason reason; /* EGP_OK unless POLICY_REFUSE */
};

struct policy_verdict policy_join(unsigned facts);
