/* The inputs of `mefctl zigbee` by name, and the answers' members: see docs/mefctl-zigbee.md. */
#pragma once
#include "mef-plugin/zigbee/zigbee.h"
#include <cjson/cJSON.h>

enum input {
    IN_LINK_KEY,
    IN_INSTALL_CODE, /* stands for the link key where that is absent */
    IN_NETWORK_KEY,
    IN_GATEWAY_EUI64,
    IN_GATEWAY_SHORT,
    IN_DEVICE_EUI64,
    IN_DEVICE_SHORT,
    IN_PAN_ID,  /* checked, in no NWK frame */
    IN_MAC_SEQ, /* likewise */
    IN_NWK_SEQ,
    IN_NWK_RADIUS,
    IN_NWK_DST64,
    IN_NWK_SRC64,
    IN_NWK_DISCOVER_ROUTE,
    IN_NWK_END_DEVICE_INITIATOR,
    IN_NWK_DST,
    IN_BROADCAST,
    IN_NWK_FRAME_COUNTER,
    IN_NWK_KEY_SEQ,
    IN_APS_COUNTER,
    IN_APS_KEY_ID,
    IN_APS_FRAME_COUNTER,
    IN_APS_ACK_REQUEST,
    IN_KEY_TYPE,
    IN_TRANSPORTED_KEY,
    IN_KEY_SEQ,
    IN_PARTNER_EUI64,
    IN_INITIATOR,
    IN_TUNNEL, /* the object that holds the next three */
    IN_TUNNEL_PARENT_SHORT,
    IN_TUNNEL_PARENT_EUI64,
    IN_TUNNEL_APS_COUNTER,
    IN_REQUEST_TYPE,
    IN_STATUS,
    IN_PARENT_EUI64,
    IN_PARENT_SHORT,
    IN_UPDATED_EUI64,
    IN_UPDATED_SHORT,
    IN_TARGET_EUI64,
    IN_VERIFY_KEY_HASH,
    IN_DIRECTION,
    IN_DST_ENDPOINT,
    IN_SRC_ENDPOINT,
    IN_GROUP,
    IN_CLUSTER,
    IN_PROFILE,
    IN_APS_PAYLOAD,
    IN_NWK_FRAME,
    IN_COUNT
};

struct value {
    bool present; /* given, and not null */
    bool is_null;
    uint64_t number;                /* a number, a boolean, an EUI-64, or a direction: 1 is uplink */
    size_t n;                       /* of bytes */
    uint8_t bytes[ZB_NWK_MAX + 12]; /* a key, an install code, a payload or a frame */
};

struct inputs {
    char error[64]; /* "" or the first "range:NAME" | "missing:NAME" */
    struct value v[IN_COUNT];
};

/* Take every known member of `object`. Unknown names are passed over. */
void inputs_read(struct inputs *in, const cJSON *object);

/* The first failure sticks. */
void inputs_fail(struct inputs *in, const char *what, enum input id);
/* The value; absent is "missing:NAME". Never NULL. */
const struct value *inputs_need(struct inputs *in, enum input id);
/* The number, or `fallback` where absent. */
uint64_t inputs_or(const struct inputs *in, enum input id, uint64_t fallback);
/* The link key: given, or from the install code. NULL: neither. */
const uint8_t *inputs_link_key(struct inputs *in, struct zb_crypto *c);

/* --- kinds of frames --- */
enum { NO_APS_KEY = 0xff };
struct kind {
    const char *name;
    uint8_t cmd;        /* the APS command; 0: application data */
    uint8_t key_type;   /* of transport-key, and the default of others */
    uint8_t aps_key_id; /* where inputs has none; null there means no APS security */
    bool uplink;        /* sent by the device */
    bool nwk_clear;     /* may go without NWK security */
    bool broadcast;     /* by default */
};
const struct kind *kind_find(const char *name);  /* NULL: none of this name, or name is NULL */
const struct kind *kind_of_command(uint8_t cmd); /* the first one; NULL: none */

/* --- answers --- */
/* Members of one JSON object. Names and tokens are this program's own and need no escaping. */
struct answer {
    struct wr *w;
    bool any; /* a member is written */
};
struct answer answer_begin(struct wr *w);
void answer_end(struct answer *a);
void answer_text(struct answer *a, const char *name, const char *token);
void answer_hex(struct answer *a, const char *name, struct span bytes);
void answer_number(struct answer *a, const char *name, uint64_t n);
void answer_bool(struct answer *a, const char *name, bool b);
void answer_null(struct answer *a, const char *name);
void answer_eui64(struct answer *a, const char *name, eui64_t eui);
/* The name an input goes by in answers. */
const char *input_name(enum input id);

/* --- the two larger verbs --- */
void zb_forge(struct zb_crypto *c, const cJSON *line, struct wr *out);
void zb_decode(struct zb_crypto *c, const cJSON *line, struct wr *out);
