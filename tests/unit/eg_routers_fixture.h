/* Routers and the devices behind them, played with zigbee.h. Security is hop by hop, so what a router passes on is sealed
 * as its own. */
#pragma once
#include "tests/unit/eg_fixture.h"

static const eui64_t ROUTER = 0x00158d0000000a01u, ROUTER2 = 0x00158d0000000a02u, CHILD = 0x00158d0000000c01u;
enum { R_SHORT = 0x0a01, R2_SHORT = 0x0a02, C_SHORT = 0x0c01 };
enum { UPDATE_REJOIN = 0, UPDATE_JOIN = 1, UPDATE_LEFT = 2, UPDATE_TC_REJOIN = 3 };

#define HALL "{\"installCode\":\"" CODE "\",\"application\":\"hall\"}"
#define CELLAR "{\"installCode\":\"" CODE "\",\"application\":\"cellar\"}"

struct node { /* a device as it sees itself */
    eui64_t eui;
    uint16_t address;
    struct first_key k;
    uint8_t link_key[ZB_KEY]; /* the code's, then its own */
    uint32_t counter, aps;
    uint8_t seq; /* NWK sequence number, which routers keep */
};

void applications(struct world *w);
/* A frame of `from` as `hop` seals it: from itself, or one that it passes on. */
void send_through(struct world *w, struct node *hop, const struct node *from, uint16_t dst, struct span aps);
void announce(struct world *w, struct node *hop, struct node *n, uint8_t capability);
void send_command(struct world *w, struct node *hop, struct node *n, const uint8_t *link_key, const struct zb_cmd *cmd);
void update_device(struct world *w, struct node *router, const struct node *child, uint8_t status);
void exchange(struct world *w, struct node *hop, struct node *n);
struct node fresh(eui64_t eui, uint16_t address);
/* Registered, joined at the gateway itself, enrolled. */
struct node enrol_direct(struct world *w, eui64_t eui, uint16_t address, const char *registration, uint64_t transaction);
/* The Tunnel that came last: to this router, with this child's key in it. False: none since `from`. */
bool tunnelled(struct world *w, size_t from, const struct node *router, struct node *child);
/* Registered, joined below `router`, its frames passed on by `last`, enrolled. */
struct node enrol_below(struct world *w, struct node *router, struct node *last, eui64_t eui, uint16_t address);
uint16_t hop_of(struct world *w, size_t i, bool *indirect);
void expect_parent(struct world *w, eui64_t eui, const char *parent);
void key_id(struct world *w, eui64_t eui, char id[MEF_RELKEYID]);
