/* What happens in a story: a step for each byte, its details from the bytes that follow. */
#include "tests/fuzz/fuzz_plugin.h"

#include "config/names.h"

#include <inttypes.h>
#include <stdio.h>

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

void open_sessions(struct story *s)
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

void step(struct story *s)
{
    steps[byte(s) % (sizeof steps / sizeof *steps)](s);
}
