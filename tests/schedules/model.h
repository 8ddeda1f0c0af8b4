/* A schedule: a plugin in the virtual host, gateways, devices, AEs, an operator and an attacker, everything drawn from
 * one seed, and an oracle that watches each byte that leaves the plugin. What is to be true of every schedule stands in
 * oracle.c and, for its end, in verdict.c. A new path (a way to join, an exchange) adds cases to device.c and
 * gateway.c, and what it may and must lead to there. */
#pragma once
#include "cse-shim/base/map64.h"
#include "mef-plugin/egp/egp.h"
#include "mef-plugin/zigbee/zigbee.h"
#include "tests/vhost/used.h"
#include "tests/vhost/vhost.h"

#include <stdio.h>

enum { MAX_GATEWAYS = 3, MAX_DEVICES = 5, MAX_KEYS = 128, MAX_REQUESTS = 64, MAX_CHILDREN = 64, MAX_WAITING = 32 };
enum { NCODES = 2, NAES = 2, MAX_LINK_KEYS = 32, NDOMAINS = 3, MAX_HELD = 8 };

struct world;

/* --- links: world.c ----------------------------------------------------------------------------------------------- */

struct faults { /* per mille of the messages */
    unsigned loss, twice, late;
};
struct packet { /* one message under way */
    struct packet *next;
    struct world *w;
    void (*arrive)(struct packet *p);
    unsigned who;  /* index of the gateway or device it goes to, or comes from */
    unsigned peer; /* ..and of the other one */
    uint64_t tag;
    size_t n;
    uint8_t bytes[EGP_MAX_MESSAGE];
};
/* A packet to fill in, then to hand over. */
struct packet *packet_new(struct world *w, void (*arrive)(struct packet *p), unsigned who, struct span bytes);
void packet_send(struct packet *p, const struct faults *f, uint64_t ms); /* takes it over; ms: the usual time */
/* The same in order: it arrives behind the one that arrived, or will, at *last. */
void packet_send_behind(struct packet *p, const struct faults *f, uint64_t ms, uint64_t *last);
void trace(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* An invariant is broken: the schedule has failed; the first breach is kept. */
void breach(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
uint64_t draw(struct world *w, uint64_t below);
bool chance(struct world *w, unsigned per_mille);

/* --- what the operator wants: operator.c -------------------------------------------------------------------------- */

struct registration {
    bool exists, revoked, rearmed;
    unsigned code;     /* index of the device's codes; 1 is not the one in the device */
    unsigned gateways; /* bit i: allowed at gateway i; 0: at all */
    int64_t expires;   /* virtual ms; 0: never */
};
enum op { OP_PUT, OP_DELETE, OP_REVOKE, OP_REARM };
struct wish { /* one change of a registration, asked until it is answered */
    enum op op;
    struct registration put; /* OP_PUT: code, gateways, expires */
};
struct device;
void operator_start(struct world *w);
void operator_wish(struct device *d, enum op op, const struct registration *put);
void operator_tick(void *user, uint64_t arg); /* asks what is open; changes his mind */
void operator_make_right(struct world *w);
/* May the EG give this device a key at this gateway, by one of the registrations that may be in force? */
bool may_have_key(const struct device *d, unsigned gateway, bool rejoin);
/* Has an operator certainly not opened the window again since the code was spent; or certainly so? */
bool certainly_not_rearmed(const struct device *d);
bool certainly_rearmed(const struct device *d);

/* --- devices: device.c -------------------------------------------------------------------------------------------- */

enum kind { KIND_GOOD, KIND_STRANGER, KIND_WRONG_CODE, KIND_EXPIRED, KIND_ELSEWHERE, KIND_FOREIGN, KINDS };
extern const char *const kind_names[KINDS];
extern const char *const domain_names[NDOMAINS]; /* applications of scope `application`; NULL: of none */

struct known_key { /* a network key that the plugin made for the device */
    uint8_t key[ZB_KEY];
    unsigned gateway;
    bool by_code;   /* sent under the install code, not for a rejoin */
    uint64_t sent;  /* first; a domain's key: by the last join */
    uint64_t since; /* first */
    bool proved;    /* a frame that the device sealed under it reached the plugin */
};
struct link_key {                      /* a trust-centre link key that the plugin made for the device */
    uint8_t key[ZB_KEY], hash[ZB_KEY]; /* hash: by which it is verified */
    unsigned gateway;
    bool confirmed;
    uint64_t verified; /* when a Verify-Key reached the plugin first, be it too late; 0: never */
};

enum device_phase { PHASE_OFF, PHASE_ASSOCIATING, PHASE_WAITING, PHASE_REJOINING, PHASE_JOINED };
enum rejoin { REJOIN_NONE, REJOIN_SECURED, REJOIN_TRUST_CENTRE };
enum step { STEP_NONE, STEP_NODE_DESC, STEP_REQUEST_KEY, STEP_VERIFY_KEY, STEP_DONE };
struct update { /* an Update-Device about a device, as it reached the plugin */
    uint64_t at;
    struct device *router;
    bool may, rejoin; /* it might have a key then; under its own link key */
    unsigned codes;   /* bit i: under code i */
};
struct held { /* what a router has for a sleepy child, until that polls */
    uint64_t until;
    unsigned who; /* index of the device */
    bool bare;    /* without NWK security: the first key */
    struct zb_nwk n;
    size_t len;
    uint8_t plain[ZB_NWK_MAX];
};
struct device {
    struct world *w;
    unsigned index, home;
    unsigned domain;       /* whose network key it shares at a gateway; 0: nobody's (scope `device`) */
    bool router;           /* children may join through it */
    struct device *wanted; /* the parent that it wants in the end, of a lower index; NULL: the gateway */
    struct device *parent; /* that it has, or joins through */
    eui64_t eui;
    enum kind kind;
    bool sleepy, picky, old; /* old: of r20, which knows no second exchange */
    uint8_t capability;
    uint32_t key_timeout, period;
    char codes[NCODES][40];
    uint8_t link_keys[NCODES][ZB_KEY];
    /* the device's own state */
    enum device_phase phase;
    uint64_t attempt; /* events of an older one are void */
    uint16_t address;
    uint16_t addresses[16]; /* that it had; the last at naddresses - 1, modulo */
    unsigned naddresses;
    uint8_t key[ZB_KEY], key_seq, nwk_seq, aps_counter;
    uint32_t counter, link_next;
    uint32_t peer_next[MAX_DEVICES + 1]; /* by index of the device; MAX_DEVICES: the gateway */
    uint32_t children;                   /* of a router: bit i: device i */
    uint64_t air;                        /* ..when what it radiated last arrives */
    struct held held[MAX_HELD];
    enum rejoin rejoin; /* what it tries instead of an association */
    unsigned rejoins;
    uint8_t link_key[ZB_KEY]; /* shared with the Trust Centre: the code's, or the one that it got */
    uint8_t offered[ZB_KEY];  /* sent, not yet confirmed */
    uint32_t link_counter, offered_next;
    enum step step; /* of the second exchange */
    unsigned tries;
    uint64_t waits; /* time-outs of an older one are void */
    unsigned heard, refusals;
    enum egp_reason refused; /* the last answer to an association of its own; EGP_OK: a key */
    /* the oracle's */
    struct registration reg;  /* acknowledged */
    struct registration then; /* what the first wish makes of it */
    bool perhaps;             /* ..and may have made: it was asked, and not answered */
    struct wish wishes[8];
    size_t nwishes;
    bool asked;          /* the first wish waits for its answer */
    uint64_t wish_since; /* when that was asked first; 0: not yet */
    struct known_key keys[MAX_KEYS];
    size_t nkeys;
    struct link_key link[MAX_LINK_KEYS];
    size_t nlink;
    struct update updates[8];
    unsigned nupdates;
    bool enrolled;              /* as an operator saw it, and neither he nor the device has done anything since */
    uint64_t began;             /* when what an operator sees of it began to change last */
    uint64_t described;         /* of an old one: when its node descriptor reached the plugin; 0: not */
    bool spent, perhaps_spent;  /* its install code: a Confirm-Key was seen; a Verify-Key reached the plugin */
    uint64_t verified;          /* when a link key was, last */
    uint64_t earned, confirmed; /* when the last one that was confirmed was verified, and its Confirm-Key seen */
    uint64_t rearm_asked, rearm_granted; /* when, last; 0: not, or undone */
    uint64_t code_touched;               /* when its code was perhaps changed last */
    bool leaving;                        /* it has said that it leaves; until it proves another key */
    /* the AE's */
    uint8_t ae_key[ZB_KEY];
    bool has_ae_key;
    unsigned commands; /* that the AE was told had reached the gateway */
    char key_id[80];
};
void device_reset(struct device *d, uint64_t in_ms);       /* factory reset, then it joins */
void device_leave(struct device *d);                       /* of its own will, then it begins anew */
void device_comes_back(struct device *d, enum rejoin how); /* it was away, or has lost its network key */
void device_associated(struct device *d, uint16_t address, bool refused);
void device_receive(struct device *d, struct span frame);
void device_announce(struct device *d);              /* after joining, and when its battery was changed */
void device_send(struct device *d, struct span aps); /* an APS frame to the Trust Centre */
/* A frame of this source under the device's network key, with a fresh counter? Then it is opened. */
bool device_opens(struct device *d, struct span frame, eui64_t source, struct zb_nwk *n, struct wr *plain);
void device_radiate(struct device *d, const struct zb_nwk *n, struct span payload); /* seals it for its parent */
void device_tick(void *user, uint64_t attempt); /* sends a reading, if it is joined, and goes on */

/* --- the second exchange, a device's side: exchange.c --------------------------------------------------------------
 */

void exchange_start(struct device *d);
void exchange_hear_command(struct device *d, struct span aps);
void exchange_hear_zdp(struct device *d, const struct zb_aps *a);

/* --- routers, which are devices, too: router.c -------------------------------------------------------------------- */

bool router_has_child(const struct device *r, const struct device *x);
/* Somebody has come to r who says to be this device; status as in Update-Device: 1 by association, 3 by a bare rejoin.
 */
void router_claim(struct device *r, eui64_t eui, uint16_t address, uint8_t status);
bool router_open(const struct device *r); /* may one join through it now? */
void router_forget(struct device *r);     /* it is reset */
void router_associate(struct device *r, struct device *x);
void router_rejoin(struct device *r, struct device *x, bool secured);
void router_poll(struct device *r, struct device *x);
void router_hear(struct device *r, struct device *x, struct span frame); /* from x, for its parent or for r */
const char *router_pass_down(struct device *r, const struct zb_nwk *n, struct span plain); /* NULL: done; or why not */
bool router_hear_command(struct device *r, struct span aps); /* False: not a router's command */

/* --- gateways: gateway.c ------------------------------------------------------------------------------------------ */

struct request { /* an EgRequest under way */
    bool used, answered, refused;
    uint64_t transaction, since;
    eui64_t device;
    unsigned who; /* index of the device that asked by radio; MAX_DEVICES: somebody else */
    uint16_t address;
    enum egp_join join;
    unsigned tries;
    size_t n;
    uint8_t bytes[EGP_MAX_MESSAGE];
};
struct child {
    eui64_t eui;
    uint16_t address;
    uint32_t radiated; /* the newest counter */
};
struct waiting { /* a frame that waits for a poll */
    uint16_t address;
    uint64_t until;
    struct packet *frame;
};
struct path {
    uint16_t to, by;
};
struct gateway {
    struct world *w;
    unsigned index;
    eui64_t eui;
    bool foreign, extended;
    char kpm[80];
    uint16_t pan;
    uint64_t session, next_transaction, life; /* life: restarts so far */
    uint64_t told;                            /* when the plugin's last message arrives: they come in order */
    uint64_t air;                             /* ..and when what it radiated last does */
    struct request requests[MAX_REQUESTS];
    struct child children[MAX_CHILDREN];
    size_t nchildren;
    char domains[NDOMAINS]; /* their addresses are the domains' names */
    struct path paths[MAX_CHILDREN];
    size_t npaths;
    struct waiting waiting[MAX_WAITING];
};
void gateway_connect(struct gateway *g);
void gateway_restart(struct gateway *g);
/* A radio asks to associate or to rejoin; who: the device, or MAX_DEVICES. */
void gateway_join(struct gateway *g, eui64_t eui, uint8_t capability, unsigned who, enum egp_join join,
                  struct span frame);
void gateway_hear(struct gateway *g, uint16_t hop, eui64_t device, struct span frame);
void gateway_poll(struct gateway *g, uint16_t address);
void gateway_message(struct gateway *g, struct span message);
void gateway_tell(struct gateway *g, const struct egp_message *m); /* sends to the plugin, over the link */

/* --- AEs: ae.c; attacker: attacker.c ------------------------------------------------------------------------------ */

struct ae {
    char id[40], kpm[80];
    uint64_t session;
};
void ae_register(struct world *w);
void ae_tick(void *user, uint64_t arg);
void ae_look(struct device *d);                    /* find and get the key */
void ae_command(struct device *d, unsigned count); /* a ticket of so many; the last ones are sealed and sent */
void attacker_tick(void *user, uint64_t arg);
void attacker_overhear(struct world *w, unsigned gateway, struct span frame);

/* --- oracle.c: what is to be true of every step ------------------------------------------------------------------- */

void oracle_asked(struct gateway *g, const struct egp_message *m, uint64_t *context);
void oracle_answered(struct gateway *g, uint64_t context, const struct vanswer *a);
void oracle_downlink(struct world *w, const struct egp_message *m);
void oracle_left(struct device *d);                      /* it has said that it leaves */
void oracle_uplink(struct device *d, struct span frame); /* a frame, whoever sent it, is about to reach the plugin */
void oracle_state(struct device *d, const cJSON *device, uint64_t asked); /* as the operator sees it */
void oracle_key(struct device *d, const uint8_t key[ZB_KEY]);             /* as a target AE got it */
bool oracle_enrolled_at(const struct device *d, unsigned gateway);        /* has it done all that it takes? */
void oracle_free(struct world *w);

/* --- domains.c: the same of what goes through routers --------------------------------------------------------------
 */

/* Who alone may have a network key: a device, or those of a domain at a gateway. Only compared. */
const void *domain_owner(const struct gateway *g, const struct device *d);
bool domain_had_address(const struct device *d, uint16_t address);
struct device *domain_device_at(struct world *w, eui64_t gateway, uint16_t address); /* last there; NULL: nobody */
/* Did d say this, itself or by way of a router that shares its key? */
bool domain_said(const struct device *d, const struct zb_nwk *n, const struct zb_aux *aux);
void domain_note_update(struct device *r, unsigned gateway, struct span aps); /* r has sealed it: an Update-Device? */
/* A key for a device older than r21 that rejoins, which has the install code's link key only. In a domain the code may have
 * been another one since it had the key from it: the frame that proves the domain's key does not tell under which it came. */
bool domain_is_old_key(struct gateway *g, struct device *d, uint64_t transaction, struct span aps);
void domain_check_tunnel(struct device *r, unsigned gateway, const struct zb_cmd *c);
/* oracle.c: a Transport-Key with a network key, under this link key? Then its fields are checked, and it is noted. */
bool oracle_is_first_key(struct gateway *g, struct device *d, const uint8_t link_key[ZB_KEY], uint64_t transaction,
                         bool by_code, struct span aps);

/* --- verdict.c: what is to be true at the end --------------------------------------------------------------------- */

void verdict(struct world *w); /* calm weather, then everyone's end */

/* --- the whole ---------------------------------------------------------------------------------------------------- */

struct world {
    uint64_t seed;
    struct cse_host *h;
    struct zb_crypto *crypto;
    struct faults link, radio;                 /* gateways to plugin; devices to gateways */
    unsigned disk_ms, hostility, restlessness; /* per mille a tick for the latter two */
    bool calm;                                 /* no more faults, attacks or changes */
    struct gateway gateways[MAX_GATEWAYS];
    unsigned ngateways;
    struct device devices[MAX_DEVICES];
    unsigned ndevices;
    struct ae aes[NAES];
    struct packet *packets; /* spare ones */
    struct packet *all[4096];
    size_t nall;
    struct {
        unsigned gateway;
        size_t n;
        uint8_t bytes[ZB_NWK_MAX];
    } overheard[16];
    size_t noverheard;
    struct used *used; /* the oracle's */
    struct map64 *answers, *owners;
    FILE *trace, *dump;
    char breach[300];
    struct tally {
        uint64_t keys, tunnelled, removed, other_domain, joined, linked, rejoined, left, refused, downlinks, attacks,
            kills, restarts, repeats, wishes;
    } tally;
};
/* Run the schedule of this seed. trace, dump may be NULL. False: why holds the breach. */
bool schedule_run(uint64_t seed, FILE *trace, FILE *dump, struct tally *sum, char why[300]);
bool schedule_plan(uint64_t seed, FILE *out); /* print it as JSON, for the same over real sockets */
