/* A whole MEF without sockets: real store, vault, audit, mef and eg over a host whose clock, random numbers and messages
 * the test holds. The device's side is played with zigbee.h, and the key it learns is the one it finds in the frame. */
#pragma once
#include "mef-plugin/eg/eg.h"
#include "tests/unit/store_fixture.h"

#include <sys/stat.h>

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

static void host_respond(struct cse_host *h, struct cse_request *req, struct cse_response *rsp)
{
    (void)h;
    struct call *c = (struct call *)req;
    c->answers++;
    c->st = rsp->status;
    snprintf(c->code, sizeof c->code, "%s", rsp->code != NULL ? rsp->code : "");
    c->format = rsp->content_format;
    c->pc = rsp->pc;
    c->n = rsp->body.n;
    assert_true(c->n <= sizeof c->body);
    if (c->n != 0)
        memcpy(c->body, rsp->body.p, c->n);
}

static uint64_t host_observe(struct cse_host *h, struct cse_request *req)
{
    return ((struct call *)req)->observation = ++h->last_id;
}

static void host_notify(struct cse_host *h, uint64_t observation, const struct cse_response *rsp, bool queue)
{
    (void)queue;
    assert_true(h->nnotes < 128 && rsp->body.n <= EGP_MAX_NWK);
    size_t i = h->nnotes++;
    h->notes[i].observation = observation;
    h->notes[i].n = rsp->body.n;
    if (rsp->body.n != 0)
        memcpy(h->notes[i].body, rsp->body.p, rsp->body.n);
    if (rsp->pc != NULL)
        snprintf(h->notes[i].state, 32, "%s", cJSON_GetObjectItem(rsp->pc, "state")->valuestring);
    cJSON_Delete(rsp->pc);
}

static void host_observe_cancel(struct cse_host *h, uint64_t observation)
{
    (void)observation;
    h->ncancelled++;
}

static bool host_send(struct cse_host *h, uint64_t session, const char *path, unsigned format, struct span body,
                      void (*done)(void *, enum st, struct span), void *user)
{
    assert_string_equal(path, "eg");
    assert_int_equal(format, 60);
    assert_true(h->nsent < 64 && done != NULL);
    if (h->disconnected)
        return false;
    struct sent *s = &h->sent[h->nsent++];
    *s = (struct sent){.session = session, .n = body.n, .done = done, .user = user};
    memcpy(s->body, body.p, body.n);
    return true;
}

static uint64_t host_timer(struct cse_host *h, uint64_t ms, void (*fn)(void *), void *user)
{
    for (size_t i = 0; i < 64; i++)
        if (h->timers[i].id == 0) {
            h->timers[i] = (struct host_timer){++h->last_id, h->clock + ms, fn, user};
            return h->last_id;
        }
    fail_msg("too many timers");
    return 0;
}

static void host_timer_cancel(struct cse_host *h, uint64_t id)
{
    for (size_t i = 0; i < 64; i++)
        if (h->timers[i].id == id)
            h->timers[i].id = 0;
}

static void host_post(struct cse_host *h, void (*fn)(void *), void *user) { loop_post(h->loop, fn, user); }
static uint64_t host_now(struct cse_host *h) { return h->clock; }
static int64_t host_time(struct cse_host *h) { return 1790000000000 + (int64_t)h->clock; }

static uint64_t next_random(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static bool host_random(struct cse_host *h, void *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)out)[i] = (uint8_t)next_random(&h->rng);
    return true;
}

static void host_count(struct cse_host *h, const char *name, uint64_t add)
{
    size_t i = 0;
    while (i < 63 && h->metrics[i].name != NULL && strcmp(h->metrics[i].name, name) != 0)
        i++;
    h->metrics[i].name = name;
    h->metrics[i].n += add;
}

static void host_gauge(struct cse_host *h, const char *name, int64_t value) { (void)h, (void)name, (void)value; }
static void host_fatal(struct cse_host *h, const char *why)
{
    if (!h->may_end)
        fail_msg("fatal: %s", why);
    h->ended = true;
}

static const struct cse_host_ops host_ops = {
    .abi = CSE_PLUGIN_ABI, .respond = host_respond, .observe = host_observe, .notify = host_notify,
    .observe_cancel = host_observe_cancel, .send = host_send, .timer = host_timer, .timer_cancel = host_timer_cancel,
    .post = host_post, .now = host_now, .time = host_time, .random = host_random, .count = host_count,
    .gauge = host_gauge, .fatal = host_fatal,
};

static bool vault_random(void *user, void *out, size_t n) { return host_random(user, out, n); }
static int64_t audit_time(void *user) { return host_time(user); }

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

static void write_file(const char *path, const void *bytes, size_t n)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    fclose(file);
    chmod(path, 0600);
}

static void world_open(struct world *w)
{
    char path[128], err[256] = "";
    const struct conf_option *const tables[] = {mef_options, eg_options};
    const struct vault_host vault_host = {&w->h, vault_random};
    const struct audit_host audit_host = {&w->h, audit_time};
    snprintf(path, sizeof path, "%s/conf", w->f->dir);
    w->conf = conf_load(path, tables, 2, err, sizeof err);
    if (w->conf == NULL)
        fail_msg("%s", err);
    w->store = must_open(w->f);
    w->audit = audit_open(w->store, &audit_host);
    snprintf(path, sizeof path, "%s/kek", w->f->dir);
    w->vault = vault_open(w->store, path, &vault_host, err, sizeof err);
    if (w->vault == NULL)
        fail_msg("%s", err);
    const struct mef_deps mef = {&w->h, &host_ops, w->conf, w->store, w->vault, w->audit};
    w->mef = mef_open(&mef, err, sizeof err);
    if (w->mef == NULL)
        fail_msg("%s", err);
    const struct eg_deps eg = {&w->h, &host_ops, w->conf, w->store, w->vault, w->audit, w->mef};
    w->eg = eg_open(&eg, err, sizeof err);
    if (w->eg == NULL)
        fail_msg("%s", err);
}

/* All that is posted and committed has had its effect. */
static void settle(struct world *w)
{
    for (int i = 0; i < 4; i++) {
        loop_drain(&w->f->loop);
        store_flush(w->store);
    }
}

static void world_close(struct world *w)
{
    eg_close(w->eg);
    mef_close(w->mef);
    vault_close(w->vault);
    audit_close(w->audit);
    store_close(w->store);
    loop_drain(&w->f->loop);
    conf_free(w->conf);
}

static void reopen(struct world *w)
{
    settle(w);
    world_close(w);
    memset(w->h.timers, 0, sizeof w->h.timers);
    w->h.ended = false;
    world_open(w);
}

/* The process is killed: what is in the files now is all there is afterwards. */
static void crash(struct world *w)
{
    static const char *const names[] = {"db", "db-wal", "db-shm"};
    static uint8_t copy[3][4 << 20];
    size_t n[3] = {0};
    char path[128];
    store_flush(w->store);
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", w->f->dir, names[i]);
        FILE *file = fopen(path, "r");
        n[i] = file != NULL ? fread(copy[i], 1, sizeof copy[i], file) : 0;
        assert_true(n[i] < sizeof copy[i]);
        if (file != NULL)
            fclose(file);
    }
    settle(w);
    world_close(w);
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", w->f->dir, names[i]);
        unlink(path);
        if (n[i] > 0 && i < 2) /* the index of the log is made anew */
            write_file(path, copy[i], n[i]);
    }
    memset(w->h.timers, 0, sizeof w->h.timers);
    world_open(w);
}

static void pass(struct world *w, uint64_t ms)
{
    uint64_t end = w->h.clock + ms;
    for (;;) {
        struct host_timer *next = NULL;
        for (size_t i = 0; i < 64; i++)
            if (w->h.timers[i].id != 0 && w->h.timers[i].due <= end && (next == NULL || w->h.timers[i].due < next->due))
                next = &w->h.timers[i];
        if (next == NULL)
            break;
        struct host_timer t = *next;
        next->id = 0;
        w->h.clock = t.due > w->h.clock ? t.due : w->h.clock;
        t.fn(t.user);
    }
    w->h.clock = end;
    settle(w);
}

static uint64_t metric(struct world *w, const char *name)
{
    for (size_t i = 0; i < 64 && w->h.metrics[i].name != NULL; i++)
        if (strcmp(w->h.metrics[i].name, name) == 0)
            return w->h.metrics[i].n;
    return 0;
}

/* --- operator ----------------------------------------------------------------------------------------------------- */

static void free_result(struct mef_result *r)
{
    cJSON_Delete(r->body);
    r->body = NULL;
}

/* Commit, or abort as the REST does after a failure. */
static void finish(struct world *w, struct store_txn *t, const struct mef_result *r)
{
    if (r->st == ST_OK || r->st == ST_CREATED || r->st == ST_DELETED || r->st == ST_UPDATED)
        store_commit(t, NULL, NULL);
    else
        store_abort(t);
    settle(w);
}

static void make_credential(struct world *w, const char *admin, const char *who, char out[80])
{
    struct mef_result r = {0};
    cJSON *in = cJSON_CreateObject();
    cJSON_AddStringToObject(in, "for", who);
    cJSON_AddStringToObject(in, "kind", "psk");
    struct store_txn *t = store_begin(w->store);
    mef_credential_create(w->mef, t, admin, "operator:test", in, &r);
    if (r.st != ST_CREATED)
        fail_msg("credential for %s: %s %s", who, r.code, r.detail);
    finish(w, t, &r);
    snprintf(out, 80, "%s", cJSON_GetObjectItem(r.body, "kpmId")->valuestring);
    free_result(&r);
    cJSON_Delete(in);
}

/* PUT an install code; returns the status, the token goes to code (may be NULL). */
static enum st put_code_as(struct world *w, const char *admin, eui64_t eui, const char *json, bool replace, char *code)
{
    struct mef_result r = {0};
    cJSON *in = cJSON_Parse(json);
    assert_non_null(in);
    struct store_txn *t = store_begin(w->store);
    eg_code_put(w->eg, t, admin, "operator:test", eui, in, replace, &r);
    if (code != NULL)
        snprintf(code, 64, "%s", r.code != NULL ? r.code : "");
    finish(w, t, &r);
    free_result(&r);
    cJSON_Delete(in);
    return r.st;
}

static enum st put_code(struct world *w, eui64_t eui, const char *json) { return put_code_as(w, ADMIN, eui, json, false, NULL); }

static void delete_code(struct world *w)
{
    struct mef_result r = {0};
    struct store_txn *t = store_begin(w->store);
    eg_code_delete(w->eg, t, ADMIN, "operator:test", DEV, &r);
    finish(w, t, &r);
    assert_int_equal(r.st, ST_DELETED);
}

#define A_CODE "{\"installCode\":\"" CODE "\",\"targets\":[\"" AE "\"]}"

static enum st put_gateway_as(struct world *w, const char *admin, eui64_t eui, const char *identity, const char *more, char *code)
{
    char json[512];
    struct mef_result r = {0};
    snprintf(json, sizeof json, "{\"identity\":\"%s\"%s}", identity, more);
    cJSON *in = cJSON_Parse(json);
    assert_non_null(in);
    struct store_txn *t = store_begin(w->store);
    eg_gateway_put(w->eg, t, admin, "operator:test", eui, in, &r);
    if (code != NULL)
        snprintf(code, 64, "%s", r.code != NULL ? r.code : "");
    finish(w, t, &r);
    free_result(&r);
    cJSON_Delete(in);
    return r.st;
}

static void put_application_as(struct world *w, const char *admin, const char *name, const char *json)
{
    struct mef_result r = {0};
    cJSON *in = cJSON_Parse(json);
    struct store_txn *t = store_begin(w->store);
    mef_application_put(w->mef, t, admin, "operator:test", name, in, &r);
    assert_true(r.st == ST_CREATED || r.st == ST_OK);
    finish(w, t, &r);
    free_result(&r);
    cJSON_Delete(in);
}

static void put_application(struct world *w, const char *name, const char *json) { put_application_as(w, ADMIN, name, json); }

static enum st act(struct world *w, eui64_t eui, const char *action)
{
    struct mef_result r = {0};
    struct store_txn *t = store_begin(w->store);
    eg_device_action(w->eg, t, ADMIN, "operator:test", eui, action, &r);
    finish(w, t, &r);
    free_result(&r);
    return r.st;
}

static void expect_device(struct world *w, eui64_t eui, const char *state, const char *reason)
{
    cJSON *o = eg_device_get(w->eg, ADMIN, eui);
    assert_non_null(o);
    assert_string_equal(cJSON_GetObjectItem(o, "state")->valuestring, state);
    const cJSON *why = cJSON_GetObjectItem(o, "reason");
    if (reason == NULL)
        assert_null(why);
    else
        assert_string_equal(why->valuestring, reason);
    cJSON_Delete(o);
}

static int world_new(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    char path[128];
    uint8_t kek[32];
    static const char conf[] = "[mef]\nfqdn = mef.example.org\n[eg]\nallow-short-install-codes = true\n";
    if (setup((void **)&w->f) != 0)
        return -1;
    w->h.loop = &w->f->loop;
    w->h.rng = 42;
    w->crypto = zb_crypto_new();
    memset(kek, 0x5a, sizeof kek);
    snprintf(path, sizeof path, "%s/kek", w->f->dir);
    write_file(path, kek, sizeof kek);
    snprintf(path, sizeof path, "%s/conf", w->f->dir);
    write_file(path, conf, sizeof conf - 1);
    world_open(w);
    make_credential(w, ADMIN, "gateway:hall", w->gw);
    make_credential(w, ADMIN, "gateway:attic", w->gw2);
    make_credential(w, ADMIN, AE, w->ae);
    make_credential(w, ADMIN, "//example.org/in-cse/Cae2", w->ae2);
    make_credential(w, OTHER_ADMIN, "//example.org/in-cse/Cspy", w->foreign);
    assert_int_equal(put_gateway_as(w, ADMIN, GW, w->gw, "", NULL), ST_CREATED);
    assert_int_equal(put_gateway_as(w, ADMIN, GW2, w->gw2, ",\"firstKeyForm\":\"extended\"", NULL), ST_CREATED);
    *state = w;
    return 0;
}

static int world_free(void **state)
{
    struct world *w = *state;
    settle(w);
    world_close(w);
    zb_crypto_free(w->crypto);
    void *f = w->f;
    free(w);
    return teardown(&f);
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

static void begin(struct world *w, struct call *c, enum cse_op op, const char *path, struct span body, uint64_t session,
                  const char *identity)
{
    *c = (struct call){.req = {.mount = CSE_RAW, .binding = CSE_COAP, .op = op, .path = path, .ty = -1, .body = body,
                               .content_format = strcmp(path, "mef/eg") == 0 ? 60 : CSE_NO_FORMAT, .accept = CSE_NO_FORMAT,
                               .peer = {session, CSE_CRED_PSK, identity, "192.0.2.1:5684", ""}}};
    eg_handle(w->eg, &c->req);
}

static void end(struct world *w, struct call *c)
{
    settle(w);
    assert_int_equal(c->answers, 1);
}

static const char *kpm_of(struct world *w, eui64_t gateway) { return gateway == GW ? w->gw : w->gw2; }
static uint64_t session_of(eui64_t gateway) { return gateway == GW ? S_GW : S_GW2; }

static struct egp_message request_message(eui64_t gateway, eui64_t device, uint64_t transaction)
{
    struct egp_message m = {.env = {EGP_VERSION, EGP_REQUEST, transaction, gateway, device, EGP_TO_EG, 15, -50}};
    m.u.request = (struct egp_request){0, SHORT, PAN, 0, 0x80, EGP_ASSOCIATION, {0}};
    return m;
}

/* Send a message as this identity. */
static void send_as(struct world *w, const struct egp_message *m, uint64_t session, const char *identity, struct call *c)
{
    uint8_t buf[EGP_MAX_MESSAGE];
    struct wr out = wr_of(buf, sizeof buf);
    assert_true(egp_encode(m, &out));
    begin(w, c, CSE_CREATE, "mef/eg", wr_span(&out), session, identity);
    end(w, c);
}

static void send_message(struct world *w, const struct egp_message *m, struct call *c)
{
    send_as(w, m, session_of(m->env.gateway), kpm_of(w, m->env.gateway), c);
}

static enum egp_reason reason_of(const struct call *c)
{
    struct egp_message m;
    assert_null(egp_decode(span_of(c->body, c->n), &m));
    assert_int_equal(m.env.type, EGP_RESPONSE);
    return (enum egp_reason)m.u.response.reason;
}

static enum egp_reason ask(struct world *w, eui64_t gateway, eui64_t device, uint64_t transaction, struct call *c)
{
    struct egp_message m = request_message(gateway, device, transaction);
    send_message(w, &m, c);
    return reason_of(c);
}

struct first_key {
    uint8_t key[ZB_KEY];
    uint32_t counter;
    uint8_t key_seq;
    size_t frame_len;
    eui64_t dst, src;
    bool extended;
};

/* Open the frame of a first key as the device would, with its link key. */
static struct first_key learn_from(struct world *w, struct span frame, const uint8_t link_key[ZB_KEY])
{
    struct zb_nwk nwk;
    struct zb_aps aps;
    struct zb_aux aux;
    struct zb_cmd cmd;
    uint8_t buf[ZB_NWK_MAX];
    struct wr plain = wr_of(buf, sizeof buf);
    struct first_key k = {0};
    assert_int_equal(zb_nwk_parse(frame, &nwk), ZB_OK);
    assert_int_equal(nwk.fcf & ZB_FCF_SECURITY, 0);
    assert_int_equal(zb_aps_open(w->crypto, link_key, nwk.payload, 0, &aps, &aux, &plain), ZB_OK);
    assert_int_equal(zb_cmd_parse(wr_span(&plain), &cmd), ZB_OK);
    assert_int_equal(cmd.id, ZB_TRANSPORT_KEY);
    assert_int_equal(cmd.key_type, ZB_KEYTYPE_NWK);
    assert_int_equal(aux.src64, cmd.src);
    memcpy(k.key, cmd.key, ZB_KEY);
    k.counter = aux.counter;
    k.key_seq = cmd.key_seq;
    k.frame_len = frame.n;
    k.dst = cmd.dst;
    k.src = cmd.src;
    k.extended = nwk.has_src64 && nwk.has_dst64;
    return k;
}

static struct first_key learn(struct world *w, const struct call *c, const char *link_key_hex)
{
    struct egp_message m;
    uint8_t link_key[ZB_KEY];
    assert_int_equal(c->st, ST_UPDATED);
    assert_int_equal(c->format, 60);
    assert_null(egp_decode(span_of(c->body, c->n), &m));
    assert_int_equal(m.u.response.reason, EGP_OK);
    assert_true(hex_decode(link_key_hex, strlen(link_key_hex), link_key, ZB_KEY));
    return learn_from(w, m.u.response.nwk_frame, link_key);
}

/* A frame of the device, or of the gateway when source is one. */
static struct frame_bytes {
    uint8_t p[ZB_NWK_MAX];
    size_t n;
} seal_aps(struct world *w, const uint8_t key[ZB_KEY], eui64_t source, uint16_t src, uint16_t dst, uint32_t counter,
           const struct zb_aps *a, struct span payload)
{
    uint8_t buf[ZB_NWK_MAX];
    struct wr aps = wr_of(buf, sizeof buf);
    zb_aps_build(&aps, a);
    wr_spanb(&aps, payload);
    struct zb_nwk h = {.fcf = 0x0208, .dst = dst, .src = src, .radius = 30, .seq = (uint8_t)counter};
    struct frame_bytes f = {.n = 0};
    struct wr out = wr_of(f.p, sizeof f.p);
    assert_int_equal(zb_nwk_seal(w->crypto, key, &h, counter, source, 0, wr_span(&aps), &out), ZB_OK);
    f.n = out.n;
    return f;
}

/* Endpoint 0: ZDP (a Device_annce), else Temperature Measurement of Home Automation. */
static struct frame_bytes seal(struct world *w, const uint8_t key[ZB_KEY], eui64_t source, uint16_t src, uint16_t dst,
                               uint32_t counter, uint8_t endpoint, struct span payload)
{
    struct zb_aps a = {.fcf = ZB_APS_DATA, .dst_endpoint = endpoint, .src_endpoint = endpoint, .counter = (uint8_t)counter,
                       .cluster = endpoint == 0 ? 0x0013 : 0x0402, .profile = endpoint == 0 ? 0 : 0x0104};
    return seal_aps(w, key, source, src, dst, counter, &a, payload);
}

static struct frame_bytes reading(struct world *w, const uint8_t key[ZB_KEY], eui64_t device, uint32_t counter)
{
    return seal(w, key, device, SHORT, 0, counter, 1, span_of("\x18\x01\x0a\x00\x00\x29\x34\x08", 8));
}

static void uplink(struct world *w, eui64_t gateway, const struct frame_bytes *f)
{
    struct egp_message m = {.env = {EGP_VERSION, EGP_UPLINK, 77, gateway, 0, EGP_TO_EG, 15, -50}};
    struct call c;
    m.u.frame = (struct egp_frame){.hop = SHORT, .lqi = 200, .nwk_frame = span_of(f->p, f->n)};
    send_message(w, &m, &c);
    assert_int_equal(c.st, ST_UPDATED);
}

/* --- the second exchange, as the device does it ------------------------------------------------------------------- */

/* The newest frame that the EG sent to this gateway, opened under the network key; false: none since `from`. */
static bool newest_downlink(struct world *w, size_t from, const uint8_t key[ZB_KEY], struct zb_nwk *nwk, struct wr *plain)
{
    struct egp_message m;
    struct zb_aux aux;
    for (size_t i = w->h.nsent; i > from; i--) {
        assert_null(egp_decode(span_of(w->h.sent[i - 1].body, w->h.sent[i - 1].n), &m));
        if (m.env.type != EGP_DOWNLINK)
            continue;
        assert_int_equal(zb_nwk_open(w->crypto, key, m.u.frame.nwk_frame, nwk, &aux, plain), ZB_OK);
        assert_int_equal(aux.src64, m.env.gateway);
        return true;
    }
    return false;
}

static struct frame_bytes command_to(struct world *w, const struct first_key *k, eui64_t device, uint32_t counter, uint16_t dst,
                                     uint8_t fcf, const uint8_t *link_key, const struct zb_cmd *cmd)
{
    uint8_t buf[ZB_NWK_MAX], aps_buf[ZB_NWK_MAX];
    struct wr payload = wr_of(buf, sizeof buf), aps = wr_of(aps_buf, sizeof aps_buf);
    struct zb_aps a = {.fcf = fcf, .counter = (uint8_t)counter};
    assert_int_equal(zb_cmd_build(&payload, cmd), ZB_OK);
    if (link_key != NULL) {
        assert_int_equal(zb_aps_seal(w->crypto, link_key, &a, ZB_KEY_ID_DATA, counter, device, wr_span(&payload), &aps),
                         ZB_OK);
    } else {
        zb_aps_build(&aps, &a);
        wr_spanb(&aps, wr_span(&payload));
    }
    struct zb_nwk h = {.fcf = 0x0208, .src = SHORT, .dst = dst, .radius = 30, .seq = (uint8_t)counter};
    struct frame_bytes f = {.n = 0};
    struct wr out = wr_of(f.p, sizeof f.p);
    assert_int_equal(zb_nwk_seal(w->crypto, k->key, &h, counter, device, k->key_seq, wr_span(&aps), &out), ZB_OK);
    f.n = out.n;
    return f;
}

static struct frame_bytes command_frame(struct world *w, const struct first_key *k, eui64_t device, uint32_t counter,
                                        const uint8_t *link_key, const struct zb_cmd *cmd)
{
    return command_to(w, k, device, counter, 0, ZB_APS_COMMAND, link_key, cmd);
}

/* An APS command of the EG, opened under a link key (or in the clear: NULL). False: there is none since `from`. */
static bool newest_command(struct world *w, size_t from, const struct first_key *k, const uint8_t *link_key,
                           struct zb_cmd *cmd, struct zb_aux *aux)
{
    uint8_t buf[ZB_NWK_MAX], plain_buf[ZB_NWK_MAX];
    struct wr nwk_plain = wr_of(buf, sizeof buf), plain = wr_of(plain_buf, sizeof plain_buf);
    struct zb_nwk nwk;
    struct zb_aps aps;
    *aux = (struct zb_aux){0};
    if (!newest_downlink(w, from, k->key, &nwk, &nwk_plain) || zb_aps_parse(wr_span(&nwk_plain), &aps) != ZB_OK)
        return false;
    if (link_key == NULL)
        wr_spanb(&plain, aps.payload);
    else if (zb_aps_open(w->crypto, link_key, wr_span(&nwk_plain), 0, &aps, aux, &plain) != ZB_OK)
        return false;
    return zb_cmd_parse(wr_span(&plain), cmd) == ZB_OK;
}

static bool request_key(struct world *w, const struct first_key *k, eui64_t device, uint32_t counter,
                        const uint8_t link_key[ZB_KEY], uint8_t tclk[ZB_KEY])
{
    struct zb_cmd request = {.id = ZB_REQUEST_KEY, .key_type = ZB_KEYTYPE_TCLK}, got;
    struct frame_bytes f = command_frame(w, k, device, counter, link_key, &request);
    struct zb_aux aux;
    size_t from = w->h.nsent;
    uplink(w, GW, &f);
    if (!newest_command(w, from, k, link_key, &got, &aux))
        return false;
    assert_int_equal(aux.key_id, ZB_KEY_ID_LOAD);
    assert_true(got.id == ZB_TRANSPORT_KEY && got.key_type == ZB_KEYTYPE_TCLK && got.dst == device && got.src == GW);
    memcpy(tclk, got.key, ZB_KEY);
    return true;
}

/* True: confirmed under the key; false: refused, or no answer. */
static bool verify_key(struct world *w, const struct first_key *k, eui64_t device, uint32_t counter,
                       const uint8_t tclk[ZB_KEY])
{
    struct zb_cmd verify = {.id = ZB_VERIFY_KEY, .key_type = ZB_KEYTYPE_TCLK, .src = device}, got;
    assert_int_equal(zb_derive(w->crypto, tclk, ZB_KEY_VERIFY, verify.key), ZB_OK);
    struct frame_bytes f = command_frame(w, k, device, counter, NULL, &verify);
    struct zb_aux aux;
    size_t from = w->h.nsent;
    uplink(w, GW, &f);
    if (!newest_command(w, from, k, tclk, &got, &aux))
        return false;
    assert_true(got.id == ZB_CONFIRM_KEY && got.key_type == ZB_KEYTYPE_TCLK && got.dst == device && got.status == 0);
    assert_int_equal(aux.key_id, ZB_KEY_ID_DATA);
    return true;
}

/* Register, join, prove (counter 3), and exchange a link key (4, 5): a device enrolled at GW. */
static struct first_key enrol_with(struct world *w, eui64_t device, uint64_t transaction, uint8_t tclk[ZB_KEY])
{
    struct call c;
    uint8_t link_key[ZB_KEY];
    assert_true(hex_decode(CODE_KEY, 2 * ZB_KEY, link_key, ZB_KEY));
    enum st st = put_code(w, device, A_CODE);
    assert_true(st == ST_CREATED || st == ST_OK);
    assert_int_equal(ask(w, GW, device, transaction, &c), EGP_OK);
    struct first_key k = learn(w, &c, CODE_KEY);
    struct frame_bytes f = reading(w, k.key, device, 3);
    uplink(w, GW, &f);
    expect_device(w, device, "joining", NULL);
    assert_true(request_key(w, &k, device, 4, link_key, tclk));
    assert_true(verify_key(w, &k, device, 5, tclk));
    expect_device(w, device, "enrolled", NULL);
    return k;
}

static struct first_key enrol(struct world *w, eui64_t device, uint64_t transaction)
{
    uint8_t tclk[ZB_KEY];
    return enrol_with(w, device, transaction, tclk);
}

/* --- what a device says to its coordinator --------------------------------------------------------------------------- */

static struct frame_bytes zdp(struct world *w, const struct first_key *k, uint32_t counter, uint16_t dst, uint8_t fcf,
                              uint16_t cluster, struct span payload)
{
    struct zb_aps a = {.fcf = fcf, .cluster = cluster, .counter = (uint8_t)counter};
    return seal_aps(w, k->key, DEV, SHORT, dst, counter, &a, payload);
}

/* A node descriptor with this stack revision, about this address. */
static struct frame_bytes node_descriptor(struct world *w, const struct first_key *k, uint32_t counter, uint16_t about,
                                          uint8_t revision)
{
    uint8_t buf[32];
    struct wr p = wr_of(buf, sizeof buf);
    wr_u8(&p, 0);
    wr_u8(&p, 0);
    wr_le16(&p, about);
    wr_bytes(&p, "\x02\x40\x80\x5f\x11\x52\x52\x00", 8);
    wr_le16(&p, (uint16_t)(revision << 9));
    wr_bytes(&p, "\x52\x00\x00", 3);
    return zdp(w, k, counter, 0, ZB_APS_DATA, ZB_ZDP_NODE_DESC_RSP, wr_span(&p));
}

static void nwk_command(struct world *w, const struct first_key *k, uint32_t counter, struct span command)
{
    struct zb_nwk h = {.fcf = 0x0209 | ZB_FCF_SRC64, .src = SHORT, .radius = 1, .seq = (uint8_t)counter, .has_src64 = true,
                       .src64 = DEV};
    struct frame_bytes f = {.n = 0};
    struct wr out = wr_of(f.p, sizeof f.p);
    assert_int_equal(zb_nwk_seal(w->crypto, k->key, &h, counter, DEV, 0, command, &out), ZB_OK);
    f.n = out.n;
    uplink(w, GW, &f);
}

/* A bare Rejoin Request (Zig 3.4.6) that anybody can send. */
static struct frame_bytes rejoin_frame(eui64_t device, uint8_t capability)
{
    struct frame_bytes f = {.n = 0};
    struct wr w = wr_of(f.p, sizeof f.p);
    zb_nwk_build(&w, &(struct zb_nwk){.fcf = 0x1009, .src = SHORT, .radius = 1, .has_src64 = true, .src64 = device});
    wr_u8(&w, 0x06);
    wr_u8(&w, capability);
    f.n = w.n;
    return f;
}

static struct egp_message rejoin_message(eui64_t gateway, eui64_t device, uint64_t transaction, struct frame_bytes *f)
{
    struct egp_message m = request_message(gateway, device, transaction);
    *f = rejoin_frame(device, 0x80);
    m.u.request.join = EGP_REJOIN_TRUST_CENTRE;
    m.u.request.nwk_frame = span_of(f->p, f->n);
    return m;
}

static enum egp_reason rejoin(struct world *w, eui64_t gateway, eui64_t device, uint64_t transaction, struct call *c)
{
    struct frame_bytes f;
    struct egp_message m = rejoin_message(gateway, device, transaction, &f);
    send_message(w, &m, c);
    return reason_of(c);
}

/* --- tickets ---------------------------------------------------------------------------------------------------------- */

#define TICKET "mef/eg/devices/00158d0003123456/ticket"

static void post(struct world *w, const char *path, const char *identity, struct span body, struct call *c)
{
    begin(w, c, CSE_CREATE, path, body, S_AE, identity);
    settle(w);
}

static uint32_t take_ticket(struct world *w, const char *identity, const char *body, enum st expected)
{
    struct call c;
    post(w, TICKET, identity, span_str(body), &c);
    assert_int_equal(c.answers, 1);
    assert_int_equal(c.st, expected);
    if (c.pc == NULL)
        return 0;
    assert_string_equal(cJSON_GetObjectItem(c.pc, "source")->valuestring, "00124b001ca1b2c3");
    assert_int_equal(cJSON_GetObjectItem(c.pc, "keySeq")->valueint, 0);
    uint32_t first = (uint32_t)cJSON_GetObjectItem(c.pc, "first")->valuedouble;
    cJSON_Delete(c.pc);
    return first;
}

static struct frame_bytes command(struct world *w, const uint8_t key[ZB_KEY], uint32_t counter)
{
    return seal(w, key, GW, 0, SHORT, counter, 1, span_of("\x01\x02\x01", 3));
}
