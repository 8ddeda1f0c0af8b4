/* A whole MEF without sockets: real store, vault, audit, mef and eg over a host whose clock, random numbers and messages
 * the test holds. The device's side is played with zigbee.h, and the key it learns is the one it finds in the frame. */
#pragma once
#include "mef-plugin/eg/eg.h"
#include "tests/unit/store_fixture.h"

#define ADMIN "acme.example"
#define OTHER_ADMIN "other.example"
#define AE "//example.org/in-cse/Cae1"
#define CODE "83FED3407A939723A5C639B26916D505C3B5"
#define CODE_KEY "66b6900981e1ee3ca4206b6b861c02bb"
#define OTHER_CODE "83FED3407A939723A5C639FF4C12" /* 12 bytes */

static const eui64_t GW = 0x00124b001ca1b2c3u, GW2 = 0x00124b001ca1b2c4u;
static const eui64_t DEV = 0x00158d0003123456u, DEV2 = 0x00158d0003abcdefu;
enum { PAN = 0x1a62, SHORT = 0x1f2e, S_GW = 1, S_GW2 = 2, S_AE = 3, S_AE2 = 4 };

/* --- the host ----------------------------------------------------------------------------------------------------- */

struct call { /* a request and what came back */
    struct cse_request req;
    unsigned answers;
    enum st st;
    char code[64];
    uint8_t body[EGP_MAX_MESSAGE];
    size_t n;
    unsigned format;
    cJSON *pc;
    uint64_t observation;
};
struct host_timer {
    uint64_t id, due;
    void (*fn)(void *);
    void *user;
};
struct sent {
    uint64_t session;
    uint8_t body[EGP_MAX_MESSAGE];
    size_t n;
    void (*done)(void *, enum st, struct span);
    void *user;
};
struct cse_host {
    struct loop *loop;
    uint64_t clock, rng, last_id;
    struct host_timer timers[64];
    struct sent sent[64];
    size_t nsent;
    struct {
        uint64_t observation;
        uint8_t body[EGP_MAX_NWK];
        size_t n;
        char state[32];
    } notes[128];
    size_t nnotes, ncancelled;
    bool disconnected;
    bool may_end, ended; /* fatal() is no failure; it was called */
    struct {
        const char *name;
        uint64_t n;
    } metrics[64];
};

extern const struct cse_host_ops host_ops;
/* splitmix64 */
uint64_t next_random(uint64_t *state);
bool vault_random(void *user, void *out, size_t n);
int64_t audit_time(void *user);

/* --- the world ---------------------------------------------------------------------------------------------------- */

struct world {
    struct fixture *f;
    struct cse_host h;
    struct conf *conf;
    struct store *store;
    struct audit *audit;
    struct vault *vault;
    struct mef *mef;
    struct eg *eg;
    struct zb_crypto *crypto;
    char gw[80], gw2[80], ae[80], ae2[80], foreign[80]; /* KpmIDs */
};

/* Setup and teardown of a test. */
int world_new(void **state);
int world_free(void **state);

void world_open(struct world *w);
/* All that is posted and committed has had its effect. */
void settle(struct world *w);
void world_close(struct world *w);
/* An orderly restart. */
void reopen(struct world *w);
/* The process is killed: what is in the files now is all there is afterwards. */
void crash(struct world *w);
/* Time passes, in ms; what is due in it is run. */
void pass(struct world *w, uint64_t ms);
uint64_t metric(struct world *w, const char *name);

/* --- operator ----------------------------------------------------------------------------------------------------- */

#define A_CODE "{\"installCode\":\"" CODE "\",\"targets\":[\"" AE "\"]}"

void free_result(struct mef_result *r);
/* Commit, or abort as the REST does after a failure. */
void finish(struct world *w, struct store_txn *t, const struct mef_result *r);
void make_credential(struct world *w, const char *admin, const char *who, char out[80]);
/* PUT an install code; returns the status, the token goes to code (may be NULL). */
enum st put_code_as(struct world *w, const char *admin, eui64_t eui, const char *json, bool replace, char *code);
enum st put_code(struct world *w, eui64_t eui, const char *json);
void delete_code(struct world *w);
enum st put_gateway_as(struct world *w, const char *admin, eui64_t eui, const char *identity, const char *more, char *code);
void put_application_as(struct world *w, const char *admin, const char *name, const char *json);
void put_application(struct world *w, const char *name, const char *json);
enum st act(struct world *w, eui64_t eui, const char *action);
void expect_device(struct world *w, eui64_t eui, const char *state, const char *reason);

/* --- requests ----------------------------------------------------------------------------------------------------- */

struct first_key {
    uint8_t key[ZB_KEY];
    uint32_t counter;
    uint8_t key_seq;
    size_t frame_len;
    eui64_t dst, src;
    bool extended;
};
struct frame_bytes {
    uint8_t p[ZB_NWK_MAX];
    size_t n;
};

/* Ask; end() waits for the one answer. */
void begin(struct world *w, struct call *c, enum cse_op op, const char *path, struct span body, uint64_t session,
           const char *identity);
void end(struct world *w, struct call *c);
struct egp_message request_message(eui64_t gateway, eui64_t device, uint64_t transaction);
/* Send a message as this identity. */
void send_as(struct world *w, const struct egp_message *m, uint64_t session, const char *identity, struct call *c);
void send_message(struct world *w, const struct egp_message *m, struct call *c);
enum egp_reason reason_of(const struct call *c);
enum egp_reason ask(struct world *w, eui64_t gateway, eui64_t device, uint64_t transaction, struct call *c);
/* Open the frame of a first key as the device would, with its link key. */
struct first_key learn_from(struct world *w, struct span frame, const uint8_t link_key[ZB_KEY]);
/* The same from the answer to a request. */
struct first_key learn(struct world *w, const struct call *c, const char *link_key_hex);
/* A frame of the device, or of the gateway when source is one. */
struct frame_bytes seal_aps(struct world *w, const uint8_t key[ZB_KEY], eui64_t source, uint16_t src, uint16_t dst,
                            uint32_t counter, const struct zb_aps *a, struct span payload);
/* Endpoint 0: ZDP (a Device_annce), else Temperature Measurement of Home Automation. */
struct frame_bytes seal(struct world *w, const uint8_t key[ZB_KEY], eui64_t source, uint16_t src, uint16_t dst,
                        uint32_t counter, uint8_t endpoint, struct span payload);
struct frame_bytes reading(struct world *w, const uint8_t key[ZB_KEY], eui64_t device, uint32_t counter);
/* A gateway passes on what it heard. */
void uplink(struct world *w, eui64_t gateway, const struct frame_bytes *f);

/* --- the second exchange, as the device does it ------------------------------------------------------------------- */

/* The newest frame that the EG sent to this gateway, opened under the network key; false: none since `from`. */
bool newest_downlink(struct world *w, size_t from, const uint8_t key[ZB_KEY], struct zb_nwk *nwk, struct wr *plain);
struct frame_bytes command_to(struct world *w, const struct first_key *k, eui64_t device, uint32_t counter, uint16_t dst,
                              uint8_t fcf, const uint8_t *link_key, const struct zb_cmd *cmd);
struct frame_bytes command_frame(struct world *w, const struct first_key *k, eui64_t device, uint32_t counter,
                                 const uint8_t *link_key, const struct zb_cmd *cmd);
/* An APS command of the EG, opened under a link key (or in the clear: NULL). False: there is none since `from`. */
bool newest_command(struct world *w, size_t from, const struct first_key *k, const uint8_t *link_key,
                    struct zb_cmd *cmd, struct zb_aux *aux);
bool request_key(struct world *w, const struct first_key *k, eui64_t device, uint32_t counter,
                 const uint8_t link_key[ZB_KEY], uint8_t tclk[ZB_KEY]);
/* True: confirmed under the key; false: refused, or no answer. */
bool verify_key(struct world *w, const struct first_key *k, eui64_t device, uint32_t counter,
                const uint8_t tclk[ZB_KEY]);
/* Register, join, prove (counter 3), and exchange a link key (4, 5): a device enrolled at GW. */
struct first_key enrol_with(struct world *w, eui64_t device, uint64_t transaction, uint8_t tclk[ZB_KEY]);
struct first_key enrol(struct world *w, eui64_t device, uint64_t transaction);

/* --- what a device says to its coordinator ------------------------------------------------------------------------ */

struct frame_bytes zdp(struct world *w, const struct first_key *k, uint32_t counter, uint16_t dst, uint8_t fcf,
                       uint16_t cluster, struct span payload);
/* A node descriptor with this stack revision, about this address. */
struct frame_bytes node_descriptor(struct world *w, const struct first_key *k, uint32_t counter, uint16_t about,
                                   uint8_t revision);
void nwk_command(struct world *w, const struct first_key *k, uint32_t counter, struct span command);
struct egp_message rejoin_message(eui64_t gateway, eui64_t device, uint64_t transaction, struct frame_bytes *f);
enum egp_reason rejoin(struct world *w, eui64_t gateway, eui64_t device, uint64_t transaction, struct call *c);

/* --- tickets ------------------------------------------------------------------------------------------------------ */

#define TICKET "mef/eg/devices/00158d0003123456/ticket"

void post(struct world *w, const char *path, const char *identity, struct span body, struct call *c);
uint32_t take_ticket(struct world *w, const char *identity, const char *body, enum st expected);
struct frame_bytes command(struct world *w, const uint8_t key[ZB_KEY], uint32_t counter);
