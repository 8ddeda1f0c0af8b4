/* What the files of eg/ share. Objects are found by EUI-64; what outlives one call of the loop (timers apart) carries
 * ids, never pointers, and finds nothing when the object is gone. */
#pragma once
#include "cse-shim/base/map64.h"
#include "mef-plugin/eg/eg.h"
#include "mef-plugin/eg/records.h"

#define EG_FORMAT_OCTETS 42
#define EG_FORMAT_CBOR 60
#define EG_TICKETS 8  /* unspent tickets of one device */
#define EG_RADIUS 30  /* of frames that routers may pass on: 2 * nwkMaxDepth (Zig 3.6.1.5.1) */
#define EG_WOKEN 64   /* devices kept decoded of which nothing but the registration is known: few, so that they stay in the cache */

/* Take n tokens that refill at `rate` a second up to `burst`; false: there are fewer. */
MUST_USE bool bucket_take(struct bucket *b, uint64_t now, uint64_t rate, uint64_t burst, uint64_t n);

struct transaction {
    uint64_t number, seq; /* seq: of the store */
    struct stored_response row;
    uint8_t bytes[EGP_MAX_MESSAGE]; /* what row.response points to */
};

struct own_frame { /* a frame of the EG's own, as it can be sealed again under another counter */
    uint64_t transaction; /* of its DownlinkFrame */
    eui64_t device;       /* 0: none */
    struct zb_nwk nwk;
    uint32_t counter;
    uint8_t tries, n, payload[EGP_MAX_NWK];
};
#define EG_OWN_FRAMES 16 /* remembered of one gateway */

struct gateway {
    struct gateway_row row;
    eui64_t eui;
    uint64_t session;            /* where it is reached; 0: nowhere */
    uint64_t epoch, owner;       /* the row that says that it is ours */
    bool lost;                   /* another replica took it; until the next start */
    struct transaction **stored; /* ring of e->max_stored; the newest `nstored` */
    size_t nstored, oldest;
    struct map64 *addresses; /* short address -> holder; NULL before the first */
    struct own_frame *own; /* ring of EG_OWN_FRAMES, NULL before the first */
    size_t next_own;
    struct neighbours *neighbours; /* routers that it hears, NULL before the first */
    uint64_t ext_pan_id;           /* as it said last */
};

struct observer {
    uint64_t id;
    eui64_t device;
    bool frames; /* else: of the device's state */
    char *principal, *credential, *admin;
    struct observer *next;
};

struct frame {
    uint8_t n, bytes[EGP_MAX_NWK];
};

struct ticket {      /* counters handed to an AE */
    char *principal; /* NULL: free */
    eui64_t gateway;
    vault_id key;
    uint64_t serial; /* order of granting */
    uint32_t first;
    uint8_t count;
    uint16_t used; /* bit i: first + i was used */
};

struct aps_heard { /* to know an APS retransmission whose acknowledgement was lost */
    uint64_t until; /* ms monotonic */
    uint8_t counter;
};
#define EG_APS_HEARD 8

/* One for each device of which more is known than its registration; of the others, which wait in `eg.codes` for their
 * device to come, device_find makes one, and the oldest EG_WOKEN so made are dropped again when nothing became of them. */
struct device {
    struct eg *eg;
    eui64_t eui;
    struct device_row row;
    struct code *code; /* NULL: deleted */
    size_t woken;      /* its place in eg.woken + 1; 0: none */
    /* memory only */
    uint64_t seq;            /* the last transaction that concerns it */
    uint64_t timer;          /* ends the pending record */
    uint64_t exchange_timer; /* asks for, and ends waiting for, the second exchange */
    struct bucket own_rate;  /* of frames that the EG answers it with */
    uint8_t lqi;             /* of its last frame */
    eui64_t via;             /* the neighbour of the gateway that passed on its last frame, or itself; 0: not heard */
    struct aps_heard aps_heard[EG_APS_HEARD];
    size_t next_aps_heard;
    struct {                 /* as somebody says whom it rejoined; address 0: not */
        eui64_t parent;      /* 0: the gateway */
        uint16_t address;
        uint64_t until;      /* ms monotonic */
    } moving[2];             /* [0]: at the gateway, where anybody can say it; [1]: a router says so */
    struct {                 /* the last one taken in: neighbours repeat it (Zig 3.6.5) */
        uint8_t seq;
        uint64_t until;      /* ms monotonic: a repetition of it */
    } broadcast;
    uint8_t asked;           /* how often its node descriptor was asked for */
    struct bucket ticket_rate;
    uint32_t counter_saved;    /* row.current.counter_next as last stored.. */
    uint64_t counter_saved_at; /* ..and when, ms monotonic */
    struct frame *frames;      /* ring of e->max_frames, NULL before the first one */
    size_t nframes, newest;
    struct observer *observers;
    size_t nobservers;
    struct ticket tickets[EG_TICKETS];
    uint64_t ntickets; /* granted so far */
};

struct failure { /* what came to nothing last in the name of an EUI-64 */
    uint64_t name;           /* of the entry: the EUI-64 with the stakeholder of the gateway */
    eui64_t device, gateway; /* gateway: where */
    eui64_t other;           /* the nearest registered EUI-64 of a stranger, or the stranger's that is near this one; 0: none */
    const char *reason;      /* a token of explain.c */
    int64_t at;              /* ms since 1970: the last time */
    uint32_t times;          /* in a row */
};

struct heard { /* a secured frame of a device and its clear parts */
    struct span frame;
    uint16_t hop; /* the neighbour that the gateway heard it from, and how well */
    uint8_t lqi;
    struct zb_nwk nwk;
    struct zb_aux aux;
    uint8_t plain[ZB_NWK_MAX];
    struct wr out;
};

struct registration { /* an install code's row, as it is in the store: a tenth of what it is when decoded */
    uint16_t n;
    uint8_t row[];
};

struct eg {
    struct eg_deps d;
    struct map64 *gateways, *devices, *observers;
    struct map64 *domains;    /* vault id of its network key -> domain */
    void *domain_names;       /* the same by name (tsearch) */
    struct map64 *codes;      /* EUI-64 -> registration */
    size_t codeless;          /* devices whose code was deleted */
    eui64_t woken[EG_WOKEN];  /* ring of devices made by device_find */
    size_t next_woken;
    uint64_t next_transaction; /* of messages to gateways; begins at a random number */
    uint64_t next_serial;      /* of stored responses */
    uint64_t owner;            /* names this process in epoch rows; random */
    struct bucket nearest_rate;
    struct bucket refused_rate; /* of audit rows on frames that are refused: anybody near a radio can have one made */
    struct failures *failures;
    struct change *changes; /* to be told later, first one first: calls that the host still holds */
    struct handing *handings; /* frames on their way to gateways */
    /* configuration */
    bool allow_short;
    int64_t pending_ms, rearm_ms, key_lifetime_ms, exchange_ms;
    uint64_t key_rate, key_burst, ticket_rate, ticket_burst;
    size_t max_devices, max_gateways, max_stored, max_frames, max_observers;
};

/* --- eg.c --------------------------------------------------------------------------------------------------------- */
/* A short address that one device can have (Zig 3.6.1.9). */
static inline bool eg_is_unicast(uint16_t address)
{
    return address != 0 && address < 0xfff8;
}
static inline bool eg_is_broadcast(uint16_t address)
{
    return address >= 0xfff8;
}
uint64_t eg_now(struct eg *e); /* ms monotonic */
int64_t eg_time(struct eg *e); /* ms since 1970 */
void eg_count(struct eg *e, const char *metric);
void eg_gauges(struct eg *e);                     /* how full the tables are; after each change of one */
struct span eui_key(eui64_t eui, uint8_t buf[8]); /* a row's key; sorts as the number */
/* Answer with a status alone, or with bytes. code: token or NULL. */
void eg_respond(struct eg *e, struct cse_request *req, enum st st, const char *code);
void eg_respond_bytes(struct eg *e, struct cse_request *req, enum st st, unsigned format, struct span body);
/* Begin an answer of a gateway's message; the rest is zero. */
struct egp_message eg_message(enum egp_type type, uint64_t transaction, eui64_t gateway, eui64_t device);
/* Send a message to the gateway's session; false: not connected. done may be NULL. */
bool eg_send(struct eg *e, struct gateway *g, const struct egp_message *m,
             void (*done)(void *user, enum st st, struct span body), void *user);
void eg_audit(struct eg *e, struct store_txn *t, const char *admin, const char *actor, const char *action,
              eui64_t object, const char *outcome);
/* Take in every row of a table, in key order; false from `take`, a row that is not in order: ST_INTERNAL, and no further one. */
MUST_USE enum st eg_load(struct eg *e, enum store_table table,
                         bool (*take)(struct eg *e, struct span key, struct span val));
/* The admin's objects with the `limit` smallest keys above `after`, ascending, found in one pass of each table. */
struct listing {
    struct {
        const struct map64 *map; /* NULL: no second table */
        bool (*own)(const void *object, const char *admin);
    } tables[2];
    cJSON *(*get)(struct eg *e, const char *admin, eui64_t eui);
};
cJSON *eg_list(struct eg *e, const struct listing *l, const char *admin, eui64_t after, size_t limit);

/* --- gateways.c --------------------------------------------------------------------------------------------------- */
struct gateway *gateway_find(struct eg *e, eui64_t eui);
/* ..of the device's stakeholder. Where a device joined may be another one's by now, who has nothing to do with it. */
struct gateway *gateway_of(const struct device *d, eui64_t eui);
/* The gateway was heard on this session: later messages go there, and a new epoch makes it ours. False: no memory. */
MUST_USE bool gateway_heard(struct eg *e, struct gateway *g, uint64_t session);
void gateway_expect(const struct gateway *g, struct store_txn *t); /* ..still ours when t commits */
MUST_USE enum st gateways_load(struct eg *e);
/* A transaction that expected the gateway failed. ST_CONFLICT: another replica took it, and nothing is answered from memory
 * until the next start reads it anew (taking a gateway over at run time comes with the shared store). Otherwise the store
 * could not keep what memory has: the end. g: NULL if it is gone. */
void gateway_commit_failed(struct eg *e, struct gateway *g, enum st st);
void gateway_free(struct gateway *g);

/* --- transactions.c ----------------------------------------------------------------------------------------------- */
MUST_USE bool transaction_digest(struct eg *e, const struct egp_message *m, uint8_t digest[EG_DIGEST]);
struct transaction *transaction_find(struct gateway *g, uint64_t number);
/* Keep a response, in memory and in t; NULL: out of memory. */
struct transaction *transaction_add(struct eg *e, struct gateway *g, struct store_txn *t, uint64_t number,
                                    const uint8_t digest[EG_DIGEST], struct span response);
void transactions_delete(struct gateway *g, struct store_txn *t);
MUST_USE enum st transactions_load(struct eg *e);

/* --- devices.c ---------------------------------------------------------------------------------------------------- */
struct device *device_find(struct eg *e, eui64_t eui); /* NULL: unknown, or out of memory */
/* Into the map, with its registration, which is taken over (NULL: none). NULL: out of memory. */
struct device *device_new(struct eg *e, eui64_t eui, const char *admin, struct code *c);
/* Of a device just made: as long as nothing but its registration is known of it, it may be dropped again later. */
void device_woken(struct device *d);
void device_drop(struct eg *e, struct device *d);                        /* out of the map, and freed */
void device_free(struct device *d);
enum egp_device_state device_state(struct eg *e, const struct device *d);
bool device_is_over(const struct device *d); /* neither a registration nor a key: its row goes once that is durable */
/* Does it get its frames by polling the gateway? Behind a router that is the router's business. */
static inline bool assoc_polls(const struct assoc *a)
{
    return a->parent == 0 && a->next_hop != EG_HOP_LEARNED && (a->capability & ZB_CAPABILITY_RX_ON_IDLE) == 0;
}
bool device_rearmed(struct eg *e, const struct device *d);
bool device_awaited(const struct device *d); /* it has no key, or may have been reset: an association may be its own */
/* The link key by which it may rejoin at a gateway: what it shares with that Trust Centre. 0: none. */
vault_id device_rejoin_key(const struct device *d, eui64_t gateway);
void device_store(struct device *d, struct store_txn *t);
/* Commit t as the device's last transaction. */
void device_commit(struct device *d, struct store_txn *t, store_done done, void *user);
/* Delete a link key unless registration, current or pending record still use it. */
void device_release_link_key(struct device *d, struct store_txn *t, vault_id id);
MUST_USE enum st device_publish_key(struct device *d, struct store_txn *t, struct assoc *a); /* fills a->relkeyid */
/* The current key ends: withdrawn and deleted, with the link keys that only it needed; the row says why. Gateway and
 * address stay, so that the gateway can be told. */
void device_forget_key(struct device *d, struct store_txn *t, enum device_reason why);
/* Tell observers and the gateway the state, now, which is durable; or once what the loop does now is durable. */
void device_changed(struct device *d);
void device_changed_later(struct device *d);
/* Tell a gateway that the device, which had this address there, has proved a key at another one. */
void device_has_left(struct device *d, eui64_t gateway, uint16_t address);
void changes_forget(struct eg *e); /* at the end: what was posted runs, and finds nothing */
cJSON *device_json(struct eg *e, const struct device *d);
MUST_USE enum st devices_load(struct eg *e);
/* May this peer use the device's resources? ST_OK: *d and *p are set. */
MUST_USE enum st device_authorise(struct eg *e, const struct cse_peer *peer, eui64_t eui, struct device **d,
                                  struct mef_principal *p);
bool device_allows(struct device *d, const struct mef_principal *p);
void device_retrieve(struct eg *e, struct cse_request *req, eui64_t eui);

/* --- pending.c ---------------------------------------------------------------------------------------------------- */
/* NULL: none. What came under different link keys is apart: nobody can make one attempt look like the other. */
struct pending *pending_at(const struct device *d, eui64_t gateway, vault_id link_key);
/* May a key be sent now? What anybody asks for at the gateway takes nothing from what a router asks for. */
MUST_USE bool pending_within_rate(struct device *d, eui64_t gateway, vault_id link_key, bool by_router);
/* A TxResult of a transaction: if it sent a first key of this device there, was that taken? */
void pending_delivered(struct device *d, eui64_t gateway, uint64_t transaction, bool taken);
/* Note what was sent; p: the gateway's record, or a fresh one, which is taken over. */
void pending_put(struct device *d, struct pending *p, const struct assoc *a);
void pending_proved(struct device *d, struct pending *p); /* free the record; its key goes on */
void pending_drop_all(struct device *d, struct store_txn *t, enum device_reason why); /* with their keys */
void pending_watch(struct device *d);                                                 /* (re)start the time-out */
void pending_unwatch(struct device *d);

/* --- domains.c: network keys that several devices share (design 5.4) ---------------------------------------------- */
struct domain {
    eui64_t gateway;
    enum mef_scope scope; /* application or network */
    char *admin;          /* whose devices; "": nobody's, and it takes in no more */
    char *application;    /* "": of scope network */
    struct domain_row row;
    size_t members; /* records of devices, current and pending, that have its key */
};
struct domain *domain_of(struct eg *e, vault_id network_key); /* NULL: a device's own key */
/* The one that the device belongs to at a gateway by its registration; NULL: none, or none yet. */
struct domain *domain_for(const struct device *d, eui64_t gateway);
/* The network key for one more record of the device there: one of its own, just made, or its domain's. To be released again
 * by whoever ends the record without the key going on to another one. */
MUST_USE bool network_key_get(struct device *d, struct store_txn *t, eui64_t gateway, vault_id *key, uint8_t *key_seq);
bool network_key_fits(const struct device *d, eui64_t gateway, vault_id key); /* is it such a one? */
/* One record less has this key: deleted, unless others have it. */
void network_key_release(struct eg *e, struct store_txn *t, vault_id key);
MUST_USE enum st domains_load(struct eg *e); /* after the devices */
void domains_free(struct eg *e);

/* --- addresses.c -------------------------------------------------------------------------------------------------- */
/* The device that has this short address at a gateway, or is about to; NULL: none that is known. */
struct device *address_find(struct eg *e, eui64_t gateway, uint16_t address);
/* The device has it; proved: by a frame under its key. Notices when another one has it. */
void address_note(struct device *d, eui64_t gateway, uint16_t address, bool proved);
void addresses_free(struct gateway *g);

/* --- join.c: somebody asks to join or to rejoin ------------------------------------------------------------------- */
struct join {
    struct gateway *gateway;
    eui64_t device;
    struct device *d;      /* NULL: unknown */
    struct device *parent; /* the router that it joins; NULL: the gateway itself */
    bool unknown_parent;   /* ..or a router that is not known */
    enum egp_join kind;
    uint16_t pan, address;
    uint8_t capability;
};
/* EGP_OK: it is to be sent its key, and a token of its rate is spent. */
enum egp_reason join_decide(struct eg *e, const struct join *j);
/* What the key goes under: the install code's link key, or the one that the device has at this gateway. */
vault_id join_link_key(const struct join *j);
struct joining { /* a key about to be sent */
    struct pending *p; /* the gateway's pending record, or a fresh one */
    struct assoc a;    /* what the device becomes when it proves the key */
    bool opened;       /* fresh */
};
/* All that can fail comes before memory changes, so: begin, forge, then commit or undo. A counter taken in vain leaves a
 * gap, no more. */
MUST_USE bool join_begin(const struct join *j, struct store_txn *t, struct joining *x);
/* The Transport-Key as an APS frame (Zig 4.4.10.1); *seq: its APS counter. */
MUST_USE enum st join_transport_key(const struct join *j, struct store_txn *t, const struct assoc *a, struct wr *aps,
                                    uint8_t *seq);
void join_commit(const struct join *j, struct store_txn *t, struct joining *x); /* into memory and t */
void join_undo(const struct join *j, struct store_txn *t, struct joining *x);
void join_count_refusal(struct eg *e, enum egp_reason reason);
/* A refusal, counted and on record. */
void join_refused(struct eg *e, const struct join *j, enum egp_reason reason);

/* --- parents.c: routers, and what is behind them ------------------------------------------------------------------ */
/* Whose frame it is that `hop` secured under its current key: hop's, or that of a device whose frames it passes on.
 * NULL: nobody's that is known. */
struct device *parent_originator(struct device *hop, const struct heard *h);
/* Of a frame under the network key of `a`: is it hop's own? */
bool parent_own_frame(const struct device *hop, const struct assoc *a, const struct heard *h);
/* Update-Device (Zig 4.4.10.2) of a router, under APS security or not. */
void parent_hear_secured(struct device *router, const struct zb_cmd *cmd);
void parent_hear_bare(struct device *router, const struct zb_cmd *cmd);
/* Tell the device's parent to remove it (Zig 4.4.10.3). */
void parent_send_remove(struct device *d);
/* Somebody asks in its name to join there, where it would get the key that it has: it is heard as what it is, until then. */
void parent_claimed(struct device *d, const struct assoc *a);
bool parent_is_claimed(const struct device *d);
bool parent_claims_address(const struct device *d, uint16_t address);
/* Where the device is, by a frame under its current key that is no repeated broadcast: its address, and whether what was said of its parent is so. */
void parent_settled(struct device *d, const struct heard *h);
void parent_moved(struct device *d, uint16_t address, bool passed_on); /* by what it said itself */
/* The gateway received the opened frame from h->aux.src64: that is the way back to d. */
void parent_note_way(struct device *d, const struct heard *h);
/* MAC destination of frames to a device with a key; EG_HOP_LEARNED when neither its last way nor one through its parents
 * is known. */
uint16_t parent_next_hop(const struct device *d);

/* --- codes.c ------------------------------------------------------------------------------------------------------ */
MUST_USE enum st codes_load(struct eg *e);
struct code *code_find(struct eg *e, eui64_t eui); /* decoded, the caller's; NULL: none, or out of memory */
void code_discard(struct code *c);
bool registration_own(const void *registration, const char *admin);
void codes_free(struct eg *e);

/* --- explain.c ---------------------------------------------------------------------------------------------------- */
/* Members of a device's JSON: what is awaited of it, until when, why it is where it is, and the same as a sentence. */
void explain_device(struct eg *e, const struct device *d, cJSON *out);
void explain_failure(struct eg *e, const struct device *d, cJSON *out); /* for operators: the last failure in its name */

/* --- failures.c --------------------------------------------------------------------------------------------------- */
struct failures *failures_new(void); /* NULL: out of memory */
void failures_free(struct failures *f);
/* reason: a static text. False: the entry says the same as before (or there is no memory), so that it need not be told. */
bool failure_note(struct eg *e, const struct gateway *g, eui64_t device, const char *reason, eui64_t other);
const struct failure *failure_find(struct eg *e, const char *admin, eui64_t device); /* NULL: none; until the next note */
void failure_forget(struct eg *e, const char *admin, eui64_t device);

/* --- nearest.c ---------------------------------------------------------------------------------------------------- */
/* The stakeholder's registered EUI-64 at most two slips from this one, one before two; 0: none, or not looked for. */
eui64_t nearest_registered(struct eg *e, const char *admin, eui64_t eui);

/* --- observers.c -------------------------------------------------------------------------------------------------- */
/* Accept the observation req asks for; false: too many, or not possible (answer as a plain GET then). */
bool observer_add(struct device *d, struct cse_request *req, bool frames, const struct mef_principal *p);
void observers_notify(struct device *d, bool frames, const struct cse_response *rsp);
void observers_drop(struct device *d);

/* --- outbox.c: frames of the EG's own ---------------------------------------------------------------------------- */
/* Frames to a device under its current key, and the change of state that goes with them, in one transaction. */
#define OUTBOX_FRAMES 2
struct outbox {
    struct device *d;
    struct store_txn *t; /* for what else changes */
    struct posting *p;
    bool failed; /* a frame could not be made: nothing of it all happens */
};
/* False: no memory, or the device has no key, or its gateway is not ours. */
MUST_USE bool outbox_open(struct device *d, struct outbox *o);
/* Add a frame; `failed` tells at the end. */
void outbox_zdp(struct outbox *o, uint16_t cluster, struct span payload); /* APS data, endpoint 0 */
void outbox_aps_command(struct outbox *o, struct vault_aps_command *c);   /* source and counters are filled in */
void outbox_aps_ack(struct outbox *o, const struct zb_aps *acked);
/* Pass on what another device has sent to this one (Zig 3.6.4.3); h: with a radius above 1 and no source route. */
void outbox_relay(struct outbox *o, const struct zb_nwk *h, struct span payload);
/* dst: the device, a broadcast address, or the neighbour that the device is heard by. */
void outbox_nwk_command(struct outbox *o, uint16_t dst, uint8_t radius, struct span command);
/* Commit, and send what was added; `changed`: with the device's row as it is now. What has failed is dropped: who changes
 * memory looks at `failed` before that. */
void outbox_send(struct outbox *o, bool changed);
void outbox_drop(struct outbox *o); /* nothing happens, but for a gap in the counters */
/* A gateway dropped a frame for its counter: seal it again, if it was one of these. */
void outbox_stale(struct eg *e, struct gateway *g, uint64_t transaction);

/* --- coordinator.c: what the EG itself is addressed for (design 5.1) ----------------------------------------------- */
MUST_USE bool heard_parse(struct span frame, struct heard *x);
/* The frame is the device's own and fresh under this key; its plaintext is in x->out. */
MUST_USE bool heard_opens(struct device *d, const struct assoc *a, eui64_t gateway, struct heard *x);
/* Take in a frame that opened under the device's current key. True: it is an application's, for AEs. */
bool coordinator_hear(struct device *d, const struct heard *h);
MUST_USE bool coordinator_within_rate(struct device *d); /* may it be answered now? */
void coordinator_started(struct device *d);              /* it has a new key, and counts anew */

/* --- network.c: NWK commands ------------------------------------------------------------------------------------- */
void network_hear(struct device *d, const struct heard *h);
void network_relay(struct device *d, const struct heard *h); /* a data frame of d to another device: pass it on */
void network_check_address(struct device *d); /* what it says to have now: another's? Then it is told; before address_note */
bool nwk_is_rejoin_request(const struct zb_nwk *h, uint8_t *capability); /* h: not secured, or opened */
void nwk_rejoin_response(struct wr *w, uint16_t address);
/* Tell the device to leave, while it has a key; whether it hears is not waited for. */
void coordinator_send_leave(struct device *d);

/* --- neighbours.c: routers that a gateway hears, and link status --------------------------------------------------- */
void neighbours_heard(struct device *d, const struct heard *h, const struct zb_nwk_cmd *link_status);
void neighbours_free(struct neighbours *n); /* NULL is fine */
uint8_t neighbours_cost(uint8_t lqi);       /* link cost, 1 to 7 */
/* An end device that joined at d's gateway and has d's key, by extended address or (0) by short address; d is one, too. */
MUST_USE bool neighbours_child(const struct device *d, eui64_t eui, uint16_t address, struct zb_known *out);
size_t neighbours_list(const struct device *d, struct zb_known *out, size_t max); /* d and routers with its key */

/* --- exchange.c: the second exchange ------------------------------------------------------------------------------- */
void exchange_begin(struct device *d); /* the device has proved its network key; row.exchange_since is set */
void exchange_watch(struct device *d); /* (re)start the time-outs after loading */
void exchange_unwatch(struct device *d);
void exchange_command(struct device *d, struct span aps); /* an APS command of the device, secured or not */
enum device_reason exchange_lacks(const struct device *d); /* what an exchange that ends now did not come to */
vault_id exchange_link_key(const struct device *d); /* what the device shares with us now; it has a current key */
void exchange_node_descriptor(struct device *d, struct span response);

/* --- enrol.c, uplink.c, downlink.c -------------------------------------------------------------------------------- */
void enrol_request(struct eg *e, struct gateway *g, struct cse_request *req, const struct egp_message *m);
void enrol_not_bound(struct eg *e, struct cse_request *req, const struct egp_message *m);
void uplink_frame(struct eg *e, struct gateway *g, struct cse_request *req, const struct egp_message *m);
void frames_retrieve(struct eg *e, struct cse_request *req, eui64_t eui);
void downlink_ticket(struct eg *e, struct cse_request *req, eui64_t eui);
void downlink_frame(struct eg *e, struct cse_request *req, eui64_t eui);
/* Answer the AEs whose frames no gateway has answered for: the process ends, and the host will not call back. */
void downlinks_end(struct eg *e);
