/* The whole plugin through cse_plugin.h: the input is a story, a byte for what happens and bytes for how. Operators,
 * AEs, gateways and strangers ask; frames and EG messages are well-formed and sealed for real where a bit says so; time
 * passes, the disk finishes late or never, the process is killed. What must hold:
 *  - each request is answered exactly once, and all are once the disk is done;
 *  - no (key, source, counter) leaves twice;
 *  - no answer that is not marked sensitive, and no message to a gateway, holds a key. */
#include "config/names.h"
#include "mef-plugin/egp/egp.h"
#include "mef-plugin/zigbee/zigbee.h"
#include "tests/vhost/used.h"
#include "tests/vhost/vhost.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define GATEWAY 0x00124b001ca1b2c0u /* .. + 0, 1; 2 is nobody's */
#define DEVICE 0x00158d0003123450u
#define MAX_STEPS 60
enum { GATEWAYS = 3, DEVICES = 3, SECRETS = 64, SESSIONS = 6 };

static const char *const codes[] = {"83FED3407A939723A5C639B26916D505C3B5", "83FED3407A939723A5C639FF4C12",
                                    "83FED3407A939738C552"};

struct story {
    struct cse_host *h;
    struct zb_crypto *crypto;
    struct used *used;
    struct rd in;
    char kpm[4][80]; /* two gateways', two AEs' */
    uint64_t sessions[SESSIONS];
    char last[128]; /* path of the newest key registration seen */
    struct {
        uint8_t key[ZB_KEY], link_key[ZB_KEY],
            offered[ZB_KEY]; /* link_key: what the network key came under, or later */
        bool known;
        uint8_t key_seq;
        uint32_t counter;
    } device[DEVICES];
    uint8_t link_keys[3][ZB_KEY];
    char secrets[SECRETS][2][36]; /* hex and base64 */
    uint8_t raw[SECRETS][ZB_KEY];
    size_t nsecrets;
    uint32_t ticket, tickets;
    uint64_t sends[16], observations[8];
    size_t nsends, nobservations;
};

static _Noreturn void broken(const char *what)
{
    fprintf(stderr, "broken: %s\n", what);
    abort();
}

static uint8_t byte(struct story *s)
{
    uint8_t b = 0;
    return rd_u8(&s->in, &b) ? b : 0;
}

/* The input's own bytes: a length and what follows. */
static struct span bytes(struct story *s, size_t max)
{
    struct span out = {0};
    size_t n = byte(s) % (max + 1);
    if (!rd_span(&s->in, n < s->in.n ? n : s->in.n, &out))
        broken("the reader");
    return out;
}

/* --- secrets ------------------------------------------------------------------------------------------------------ */

static void secret(struct story *s, const uint8_t key[ZB_KEY])
{
    for (size_t i = 0; i < s->nsecrets; i++)
        if (memcmp(s->raw[i], key, ZB_KEY) == 0)
            return;
    if (s->nsecrets == SECRETS)
        return;
    memcpy(s->raw[s->nsecrets], key, ZB_KEY);
    hex_encode(key, ZB_KEY, s->secrets[s->nsecrets][0]);
    EVP_EncodeBlock((unsigned char *)s->secrets[s->nsecrets++][1], key, ZB_KEY);
}

static void look_for_secrets(struct story *s, struct span body, const cJSON *pc)
{
    char *text = pc != NULL ? cJSON_PrintUnformatted(pc) : NULL;
    for (size_t i = 0; i < s->nsecrets; i++) {
        if (body.n >= ZB_KEY && memmem(body.p, body.n, s->raw[i], ZB_KEY) != NULL)
            broken("a key in the clear in a message");
        if (text != NULL && (strcasestr(text, s->secrets[i][0]) != NULL || strstr(text, s->secrets[i][1]) != NULL))
            broken("a key in an answer that is not marked sensitive");
    }
    cJSON_free(text);
}

/* --- what comes back ---------------------------------------------------------------------------------------------- */

/* A Transport-Key with a network key, under this link key. */
static bool take_key(struct story *s, const struct egp_message *m, struct span frame, const uint8_t link_key[ZB_KEY])
{
    struct zb_nwk n;
    struct zb_aps a;
    struct zb_aux aux;
    struct zb_cmd c;
    uint8_t buf[ZB_NWK_MAX];
    struct wr plain = wr_of(buf, sizeof buf);
    eui64_t device = m->env.device - DEVICE;
    if (zb_nwk_parse(frame, &n) != ZB_OK || zb_aps_open(s->crypto, link_key, n.payload, 0, &a, &aux, &plain) != ZB_OK ||
        zb_cmd_parse(wr_span(&plain), &c) != ZB_OK)
        return false;
    if (!used_note(s->used, link_key, aux.src64, aux.counter, m->env.transaction, frame))
        broken("a counter is used twice under a link key");
    secret(s, c.key);
    if (device < DEVICES) {
        memcpy(s->device[device].key, c.key, ZB_KEY);
        memmove(s->device[device].link_key, link_key, ZB_KEY);
        s->device[device].key_seq = c.key_seq;
        s->device[device].known = true;
    }
    return true;
}

/* A key under an install code; or a Rejoin Response, behind which one comes under the device's link key. */
static void take_response(struct story *s, const struct egp_message *m)
{
    struct zb_nwk n;
    struct span frame = m->u.response.nwk_frame;
    if (zb_nwk_parse(frame, &n) == ZB_OK && (n.fcf & ZB_FCF_TYPE) == ZB_NWK_COMMAND)
        return;
    for (size_t i = 0; i < 3; i++)
        if (take_key(s, m, frame, s->link_keys[i]))
            return;
    broken("a key is sealed under no registered code");
}

/* The commands of the second exchange, under a link key that the device has, or is to have. */
static void take_command(struct story *s, eui64_t device, struct span aps)
{
    struct zb_aps a;
    struct zb_aux aux;
    struct zb_cmd c;
    uint8_t buf[ZB_NWK_MAX];
    if (device >= DEVICES || zb_aps_parse(aps, &a) != ZB_OK || (a.fcf & 3u) != ZB_APS_COMMAND ||
        (a.fcf & ZB_APS_SECURITY) == 0)
        return;
    for (size_t i = 0; i < s->nsecrets; i++) {
        struct wr plain = wr_of(buf, sizeof buf);
        if (zb_aps_open(s->crypto, s->raw[i], aps, 0, &a, &aux, &plain) != ZB_OK ||
            zb_cmd_parse(wr_span(&plain), &c) != ZB_OK)
            continue;
        if (!used_note(s->used, s->raw[i], aux.src64, aux.counter, 0, aps))
            broken("a counter is used twice under a link key");
        if (c.id == ZB_TRANSPORT_KEY) {
            memcpy(s->device[device].offered, c.key, ZB_KEY);
            secret(s, c.key);
        } else if (c.id == ZB_CONFIRM_KEY) {
            memcpy(s->device[device].link_key, s->raw[i], ZB_KEY);
        }
        return;
    }
    if (s->nsecrets < SECRETS)
        broken("a command under no key of the device");
}

static void take_downlink(struct story *s, const struct egp_message *m)
{
    struct zb_nwk n;
    struct zb_aux aux;
    uint8_t buf[ZB_NWK_MAX];
    struct span frame = m->u.frame.nwk_frame;
    bool bare = zb_nwk_parse(frame, &n) == ZB_OK && (n.fcf & ZB_FCF_SECURITY) == 0;
    for (size_t i = 0; i < s->nsecrets; i++) {
        struct wr plain = wr_of(buf, sizeof buf);
        if (bare && take_key(s, m, frame, s->raw[i]))
            return;
        if (zb_nwk_open(s->crypto, s->raw[i], frame, &n, &aux, &plain) != ZB_OK)
            continue;
        if (!used_note(s->used, s->raw[i], aux.src64, aux.counter, m->env.transaction, frame))
            broken("a counter is used twice under a network key");
        take_command(s, m->env.device - DEVICE, wr_span(&plain));
        return;
    }
    if (bare && s->nsecrets < SECRETS)
        broken("a key under no key of the device");
}

static void answered(void *user, uint64_t tag, const struct vanswer *a)
{
    struct story *s = user;
    struct egp_message m;
    (void)tag;
    if (!a->sensitive)
        look_for_secrets(s, a->body, a->pc);
    if (a->observation != 0)
        s->observations[s->nobservations++ % 8] = a->observation;
    if (strncmp(a->location, "mef/", 4) == 0)
        snprintf(s->last, sizeof s->last, "%s", a->location);
    const char *found = cJSON_GetStringValue(cJSON_GetArrayItem(cJSON_GetObjectItem(a->pc, "m2m:uril"), 0));
    if (found != NULL)
        snprintf(s->last, sizeof s->last, "%s", found);
    if (cJSON_GetObjectItem(a->pc, "first") != NULL) {
        s->ticket = (uint32_t)cJSON_GetObjectItem(a->pc, "first")->valuedouble;
        s->tickets = (uint32_t)cJSON_GetObjectItem(a->pc, "count")->valuedouble;
    }
    if (a->body.n != 0 && egp_decode(a->body, &m) == NULL && m.env.type == EGP_RESPONSE &&
        m.u.response.reason == EGP_OK)
        take_response(s, &m);
}

static void on_sent(void *user, uint64_t session, uint64_t id, struct span body)
{
    struct story *s = user;
    struct egp_message m;
    (void)session;
    if (egp_decode(body, &m) != NULL)
        broken("a message that does not decode");
    look_for_secrets(s, body, NULL);
    s->sends[s->nsends++ % 16] = id;
    if (m.env.type == EGP_DOWNLINK)
        take_downlink(s, &m);
}

static void notified(void *user, uint64_t observation, const struct cse_response *rsp)
{
    (void)observation;
    if (!rsp->sensitive)
        look_for_secrets(user, rsp->body, rsp->pc);
}

/* --- what happens ------------------------------------------------------------------------------------------------- */

static void ask(struct story *s, struct vask *a)
{
    a->done = answered;
    a->user = s;
    vhost_ask(s->h, a);
}

/* Gateways 0 and 1, AEs 2 and 3, a stranger 4, a KpmID that never was 5. */
static void as(struct story *s, struct vask *a, unsigned who)
{
    who %= 6;
    a->identity = who < 4 ? s->kpm[who] : who == 4 ? NULL : "nobody";
    a->session = s->sessions[who];
}

static const struct {
    const char *before, *behind; /* of the EUI-64 */
    uint64_t eui;                /* the first one; 0: none */
} paths[] = {{"v1/install-codes", "", 0},
             {"v1/install-codes/", "", DEVICE},
             {"v1/gateways", "", 0},
             {"v1/gateways/", "", GATEWAY},
             {"v1/devices", "", 0},
             {"v1/devices/", "", DEVICE},
             {"v1/devices/", "/revoke", DEVICE},
             {"v1/devices/", "/rearm", DEVICE},
             {"v1/applications/home", "", 0},
             {"v1/applications", "", 0},
             {"v1/credentials", "", 0},
             {"v1/audit", "", 0},
             {"v1/events", "", 0},
             {"v1/devices/", "/rekey", DEVICE}};
#define CREDENTIALS 10

static void path_of(struct story *s, uint8_t which, bool one, char out[200])
{
    size_t at = which % (sizeof paths / sizeof *paths);
    char eui[17] = "";
    if (paths[at].eui != 0)
        eui64_print(paths[at].eui + which / 16 % 3, eui);
    if (at == CREDENTIALS && one)
        snprintf(out, 200, "v1/credentials/%s", s->kpm[which / 16 % 4]);
    else
        snprintf(out, 200, "%s%s%s", paths[at].before, eui, paths[at].behind);
}

static void rest(struct story *s)
{
    static const char *const bodies[] = {
        "",
        "{\"installCode\":\"83FED3407A939723A5C639B26916D505C3B5\",\"targets\":[\"//example.org/in-cse/C0\"]}",
        "{\"installCode\":\"83FED3407A939723A5C639FF4C12\",\"application\":\"home\"}",
        ("{\"installCode\":\"83FED3407A939738C552\",\"gateways\":[\"00124b001ca1b2c0\"],"
         "\"expiresAt\":\"2026-11-21T00:00:30Z\"}"),
        "{\"keyScope\":\"device\",\"members\":[\"//example.org/in-cse/C1\"]}",
        "{\"for\":\"gateway:x\",\"kind\":\"psk\"}",
        "{\"for\":\"//example.org/in-cse/C9\",\"kind\":\"psk\"}"};
    static const char *const tokens[] = {VHOST_OPERATOR,       VHOST_OPERATOR, VHOST_OPERATOR,
                                         VHOST_OTHER_OPERATOR, "Bearer x",     NULL};
    char path[200];
    uint8_t how = byte(s), which = byte(s), body = byte(s);
    path_of(s, which, (how & 0x40) != 0, path);
    struct vask a = {.op = (enum cse_op)(1 + how % 4),
                     .path = path,
                     .authorization = tokens[how / 8 % 6],
                     .observe = (body & 0x80) != 0};
    if ((body & 0x40) != 0)
        a.body = bytes(s, 200);
    else
        a.body = span_str(bodies[(body & 0x3f) % (sizeof bodies / sizeof *bodies)]);
    if ((how & 0x80) != 0) {
        a.query[0][0] = a.op == CSE_UPDATE ? "replace" : "limit";
        a.query[0][1] = a.op == CSE_UPDATE ? "true" : "3";
    }
    ask(s, &a);
}

static void bind_gateway(struct story *s)
{
    char path[64], body[200];
    uint8_t b = byte(s);
    snprintf(path, sizeof path, "v1/gateways/%016" PRIx64, GATEWAY + b % GATEWAYS);
    snprintf(body, sizeof body, "{\"identity\":\"%s\",\"firstKeyForm\":\"%s\"}", s->kpm[b / 4 % 4],
             (b & 0x40) != 0 ? "extended" : "plain");
    ask(s, &(struct vask){.op = CSE_UPDATE, .path = path, .body = span_str(body), .authorization = VHOST_OPERATOR});
}

static void primitive(struct story *s)
{
    static const int types[] = {0, MEF_TY_CLIENT_REG, MEF_TY_KEY_REG, MEF_TY_CLIENT_CMD, MEF_TY_BASE, 3};
    static const char *const bodies[] = {"", "{\"sec:mecr\":{\"et\":\"20991231T235959\",\"adfq\":\"acme.example\"}}",
                                         ("{\"sec:skr\":{\"et\":\"20991231T235959\",\"adfq\":\"acme.example\","
                                          "\"suid\":24,\"tgis\":[\"//example.org/in-cse/C0\"]}}"),
                                         "{\"sec:skr\":{\"lbl\":[\"a\"]}}"};
    static const char *const from[] = {"//example.org/in-cse/C0", "//example.org/in-cse/C1", "C0", NULL};
    uint8_t how = byte(s), what = byte(s), who = byte(s);
    char label[40];
    snprintf(label, sizeof label, "eui64:%016" PRIx64, DEVICE + what % DEVICES);
    struct vask a = {.op = (enum cse_op)(1 + how % 5),
                     .path = (how & 0x20) != 0 ? s->last : "mef",
                     .ty = types[what / 4 % 6],
                     .from = from[who / 8 % 4]};
    if ((how & 0x40) != 0) {
        a.query[0][0] = "fu";
        a.query[0][1] = "1";
        a.query[1][0] = "lbl";
        a.query[1][1] = label;
    }
    as(s, &a, who);
    a.body = (how & 0x80) != 0 ? bytes(s, 200) : span_str(bodies[what / 32 % 4]);
    ask(s, &a);
}

static void tell(struct story *s, const struct egp_message *m, unsigned who)
{
    uint8_t buf[EGP_MAX_MESSAGE];
    struct wr w = wr_of(buf, sizeof buf);
    if (!egp_encode(m, &w))
        return;
    struct vask a = {.op = CSE_CREATE, .path = "mef/eg", .body = wr_span(&w)};
    as(s, &a, who);
    ask(s, &a);
}

static struct egp_message message(enum egp_type type, uint8_t who, uint64_t transaction)
{
    return (struct egp_message){.env = {EGP_VERSION, (uint8_t)type, transaction, GATEWAY + who % 4 % GATEWAYS,
                                        DEVICE + who / 4 % 4, EGP_TO_EG, 15, -50}};
}

static void join(struct story *s)
{
    uint8_t who = byte(s), transaction = byte(s), how = byte(s);
    struct egp_message m = message(EGP_REQUEST, who, transaction);
    m.u.request = (struct egp_request){0,
                                       (uint16_t)(0x1000 + transaction % 8),
                                       0x1a62,
                                       (uint16_t)(how / 64 == 3 ? 0x2000 : 0),
                                       (how & 1) != 0 ? 0x80 : 0x8c,
                                       how / 8 % 8 == 7 ? (uint8_t)(1 + how % 2) : 0,
                                       {0}};
    uint8_t frame[32];
    struct wr w = wr_of(frame, sizeof frame);
    if (m.u.request.join != EGP_ASSOCIATION)
        m.u.request.nwk_frame = bytes(s, ZB_NWK_MAX);
    if (m.u.request.join != EGP_ASSOCIATION && m.u.request.nwk_frame.n == 0) {
        zb_nwk_build(
            &w,
            &(struct zb_nwk){
                .fcf = 0x1009, .src = m.u.request.device_short, .radius = 1, .has_src64 = true, .src64 = m.env.device});
        wr_u8(&w, 0x06);
        wr_u8(&w, m.u.request.capability);
        m.u.request.nwk_frame = wr_span(&w);
    }
    tell(s, &m, (how & 2) != 0 ? who / 16u : who % 4);
}

/* Request-Key or Verify-Key as it should be. */
static void exchange(struct story *s, unsigned device, uint32_t counter, bool verify, struct wr *out)
{
    uint8_t buf[ZB_NWK_MAX];
    struct wr w = wr_of(buf, sizeof buf);
    const struct zb_aps a = {.fcf = ZB_APS_COMMAND, .counter = (uint8_t)counter};
    struct zb_cmd c = {
        .id = verify ? ZB_VERIFY_KEY : ZB_REQUEST_KEY, .key_type = ZB_KEYTYPE_TCLK, .src = DEVICE + device};
    if ((verify && zb_derive(s->crypto, s->device[device].offered, ZB_KEY_VERIFY, c.key) != ZB_OK) ||
        zb_cmd_build(&w, &c) != ZB_OK)
        broken("a command");
    if (verify) {
        zb_aps_build(out, &a);
        wr_spanb(out, wr_span(&w));
    } else if (zb_aps_seal(s->crypto, s->device[device].link_key, &a, ZB_KEY_ID_DATA, counter, DEVICE + device,
                           wr_span(&w), out) != ZB_OK) {
        broken("a command's seal");
    }
}

/* A frame of the device under the key that it got, or nearly. */
static size_t seal(struct story *s, unsigned device, bool down, uint32_t counter, uint8_t how, uint8_t out[ZB_NWK_MAX])
{
    uint8_t buf[ZB_NWK_MAX];
    struct wr aps = wr_of(buf, sizeof buf), w = wr_of(out, ZB_NWK_MAX);
    struct zb_aps a = {.fcf = (how & 1) != 0 ? ZB_APS_COMMAND : ZB_APS_DATA,
                       .dst_endpoint = (how & 2) != 0 ? 0 : 1,
                       .src_endpoint = 1,
                       .counter = (uint8_t)counter,
                       .cluster = (how & 2) != 0 ? 0x0013 : 0x0402,
                       .profile = (how & 2) != 0 ? 0 : 0x0104};
    struct span said = bytes(s, 40);
    if (!down && (how & 7) == 3) {
        exchange(s, device, counter, said.n > 0 && (said.p[0] & 1) != 0, &aps);
    } else {
        zb_aps_build(&aps, &a);
        wr_spanb(&aps, said);
    }
    struct zb_nwk n = {.fcf = (how & 4) != 0 ? 0x0209 : 0x0208,
                       .src = down ? 0 : 0x1000 + (how >> 5),
                       .radius = 30,
                       .dst = down ? 0x1000 + (how >> 5) : 0,
                       .seq = (uint8_t)counter};
    eui64_t source = down ? GATEWAY : DEVICE + device;
    if (zb_nwk_seal(s->crypto, s->device[device].key, &n, counter, source, s->device[device].key_seq, wr_span(&aps),
                    &w) != ZB_OK)
        return 0;
    if ((how & 8) != 0)
        out[counter % w.n] ^= 1;
    return w.n;
}

static void uplink(struct story *s)
{
    uint8_t who = byte(s), how = byte(s), frame[ZB_NWK_MAX];
    unsigned device = who / 4 % DEVICES;
    struct egp_message m = message(EGP_UPLINK, who, how);
    m.u.frame = (struct egp_frame){.hop = 0x1000, .lqi = 200};
    if (s->device[device].known && (how & 0x10) == 0)
        m.u.frame.nwk_frame = span_of(frame, seal(s, device, false, s->device[device].counter++, how, frame));
    else
        m.u.frame.nwk_frame = bytes(s, ZB_NWK_MAX);
    tell(s, &m, who % 4);
}

static void other_message(struct story *s)
{
    static const enum egp_type types[] = {EGP_HELLO, EGP_TX_RESULT, EGP_STALE, EGP_HELLO};
    uint8_t who = byte(s), how = byte(s);
    struct egp_message m = message(types[how % 4], who, how);
    if (m.env.type == EGP_HELLO) {
        m.env.device = 0;
        m.u.hello = (struct egp_hello){0x1a62, 15, 1, 0};
    } else if (m.env.type == EGP_TX_RESULT) {
        m.u.tx_result = (struct egp_tx_result){how / 4 % 4, 1};
    } else {
        m.u.stale = (struct egp_stale){how, how + 1u};
    }
    tell(s, &m, who % 4);
}

static void raw_message(struct story *s)
{
    struct vask a = {.op = CSE_CREATE, .path = "mef/eg"};
    as(s, &a, byte(s));
    a.body = bytes(s, 255);
    ask(s, &a);
}

static void downlink(struct story *s)
{
    uint8_t who = byte(s), how = byte(s), frame[ZB_NWK_MAX], body[20];
    char path[80];
    unsigned device = who / 8 % DEVICES;
    struct vask a = {.path = path, .op = (how & 0x40) != 0 ? CSE_RETRIEVE : CSE_CREATE, .observe = (how & 0x80) != 0};
    as(s, &a, who % 8);
    if ((who & 0x40) != 0) {
        snprintf(path, sizeof path, "mef/eg/devices/%016" PRIx64 "/ticket", DEVICE + device);
        a.body = span_of(body, (size_t)snprintf((char *)body, sizeof body, "{\"count\":%u}", how % 20u));
    } else if ((who & 0x80) != 0) {
        snprintf(path, sizeof path, "mef/eg/devices/%016" PRIx64, DEVICE + device);
    } else {
        snprintf(path, sizeof path, "mef/eg/frames/%016" PRIx64, DEVICE + device);
        a.body = span_of(frame, seal(s, device, true, s->tickets > 0 ? s->ticket++ : how, how & 0x2f, frame));
        s->tickets -= s->tickets > 0;
    }
    ask(s, &a);
}

static void pass(struct story *s)
{
    uint8_t b = byte(s);
    vhost_run(s->h, vhost_now(s->h) + (b < 128 ? (uint64_t)b * 10 : (uint64_t)(b - 127) * 1000));
}

static void disk(struct story *s)
{
    vhost_disk(s->h);
}

static void open_sessions(struct story *s)
{
    for (size_t i = 0; i < SESSIONS; i++)
        s->sessions[i] = vhost_session(s->h);
}

static void restart(struct story *s)
{
    uint8_t b = byte(s);
    if (b % 4 == 3)
        vhost_stop(s->h);
    else
        vhost_kill(s->h, b % 2 == 0);
    vhost_start(s->h);
    open_sessions(s);
    s->nsends = 0;
    s->tickets = 0;
}

static void end_session(struct story *s)
{
    uint8_t b = byte(s);
    vhost_session_end(s->h, s->sessions[b % SESSIONS]);
    if ((b & 0x80) == 0)
        s->sessions[b % SESSIONS] = vhost_session(s->h);
}

static void answer_a_message(struct story *s)
{
    uint8_t b = byte(s);
    vhost_sent(s->h, s->sends[b % 16], (b & 0x80) != 0 ? ST_UNREACHABLE : ST_UPDATED);
}

static void end_observation(struct story *s)
{
    vhost_observe_end(s->h, s->observations[byte(s) % 8]);
}

/* Append only: the kept stories mean what they mean. */
static void (*const steps[])(struct story *s) = {rest,
                                                 primitive,
                                                 join,
                                                 uplink,
                                                 downlink,
                                                 pass,
                                                 disk,
                                                 restart,
                                                 end_session,
                                                 answer_a_message,
                                                 end_observation,
                                                 other_message,
                                                 raw_message,
                                                 bind_gateway,
                                                 join,
                                                 uplink};

/* --- the story ---------------------------------------------------------------------------------------------------- */

static void keep_id(void *user, uint64_t tag, const struct vanswer *a)
{
    struct story *s = user;
    const char *id = cJSON_GetStringValue(cJSON_GetObjectItem(a->pc, "kpmId"));
    const char *kpm = cJSON_GetStringValue(cJSON_GetObjectItem(a->pc, "kpm"));
    uint8_t key[ZB_KEY];
    snprintf(s->kpm[tag], sizeof s->kpm[tag], "%s", id != NULL ? id : "");
    if (kpm != NULL && hex_decode(kpm, 2 * ZB_KEY, key, ZB_KEY))
        secret(s, key);
}

static void begin(struct story *s)
{
    static const char *const whom[] = {"gateway:0", "gateway:1", "//example.org/in-cse/C0", "//example.org/in-cse/C1"};
    char body[200];
    vhost_start(s->h);
    open_sessions(s);
    for (uint64_t i = 0; i < 4; i++) {
        snprintf(body, sizeof body, "{\"for\":\"%s\",\"kind\":\"psk\"}", whom[i]);
        vhost_ask(s->h, &(struct vask){.op = CSE_CREATE,
                                       .path = "v1/credentials",
                                       .body = span_str(body),
                                       .authorization = VHOST_OPERATOR,
                                       .done = keep_id,
                                       .user = s,
                                       .tag = i});
    }
    vhost_disk(s->h);
    for (size_t i = 0; i < 3; i++) {
        uint8_t code[18];
        size_t n;
        if (zb_install_code_parse(codes[i], code, &n) != ZB_OK ||
            zb_install_code_key(s->crypto, span_of(code, n), s->link_keys[i]) != ZB_OK)
            broken("the codes");
        secret(s, s->link_keys[i]);
    }
}

static void finish(struct story *s)
{
    for (int i = 0; i < 4; i++) {
        vhost_disk(s->h);
        for (size_t k = 0; k < 16; k++)
            vhost_sent(s->h, s->sends[k], ST_UPDATED);
    }
    struct vhost_stats st = vhost_stats(s->h);
    if (st.twice != 0)
        broken("a request was answered twice");
    if (st.open != 0)
        broken("a request was never answered");
    if (st.fatal != 0)
        broken("the plugin gave up");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct story *s = calloc(1, sizeof *s);
    if (s == NULL)
        abort();
    s->in = rd_of(span_of(data, size));
    s->crypto = zb_crypto_new();
    s->used = used_new();
    s->h = vhost_new(
        7, "allow-short-install-codes = true\nmax-devices = 4\nmax-gateways = 3\nstored-responses = 8\nkept-frames = 2",
        &(struct vpeers){s, on_sent, notified, NULL});
    begin(s);
    for (int i = 0; i < MAX_STEPS && s->in.n > 0; i++)
        steps[byte(s) % (sizeof steps / sizeof *steps)](s);
    finish(s);
    vhost_free(s->h);
    used_free(s->used);
    zb_crypto_free(s->crypto);
    free(s);
    return 0;
}
