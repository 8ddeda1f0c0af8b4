#include "ae-client/aec.h"

#include "ae-client/parse.h"
#include "config/names.h"
#include "cse-shim/coap/coap.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* CoAP options: RFC 7252 12.2 and TS-0008 6.2.2.4. */
enum { OPT_URI_PATH = 11, OPT_CONTENT_FORMAT = 12, OPT_URI_QUERY = 15, OPT_ACCEPT = 17 };
enum { OPT_TY = 267, OPT_RVI = 271, OPT_FR = 279, OPT_RQI = 283, OPT_RSC = 307 };
enum { FORMAT_OCTETS = 42, FORMAT_JSON = 50 };
#define RELEASE "3"
#define QUEUE 64
#define RETRY_MS 1000  /* between attempts to set up a lost observation */
#define QUIET_MS 10000 /* without a notification, then the MEF is asked whether it is still there */
#define PROBE_MS 4000  /* to answer that; else the session is given up */

enum { CERTIFICATE, PRIVATE_KEY, TRUST_ANCHORS, REVOCATION_LISTS, SERVER_NAME, FILES };

struct aec {
    sd_event *loop;
    struct cep_endpoint *ep;
    uint64_t session; /* serial; 0: none yet */
    bool established; /* its handshake completed */
    char *host, *kpm_id, *from, *base;
    uint16_t port;
    uint8_t kpm[64];
    size_t kpm_len;
    char *files[FILES]; /* of a certificate */
    unsigned timeout_ms;
    unsigned requests; /* makes Request Identifiers */
    char error[AEC_TEXT_MAX];

    eui64_t watched;      /* 0: nothing */
    uint64_t observation; /* cep handle; 0: not set up */
    uint64_t retry_at;    /* monotonic ms, when to set a lost one up again */
    enum st watch_st;     /* ST_OK, or why the MEF refused it */
    bool watch_answered;
    uint64_t heard_at; /* monotonic ms, the latest sign of life while watching */
    uint64_t probe;    /* cep handle of the question whether the MEF is there; 0: none */
    uint8_t frames[QUEUE][AEC_FRAME_MAX];
    size_t lengths[QUEUE];
    size_t head, waiting;
};

/* One request and its answer. */
struct call {
    bool done;
    enum st st;
    uint8_t *body; /* owned; wiped with the call */
    size_t n;
};

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

const char *aec_error(const struct aec *c)
{
    return c->error;
}

static enum st fail(struct aec *c, enum st st, const char *detail)
{
    const struct st_map *m = st_map(st);
    snprintf(c->error, sizeof c->error, "%u %s%s%.180s", (unsigned)m->rsc, m->text, detail[0] != '\0' ? ": " : "",
             detail);
    return st;
}

/* --- life -------------------------------------------------------------------------------------------------- */

static void on_opened(void *user, const struct cep_peer *peer)
{
    struct aec *c = user;
    if (c->session == peer->serial)
        c->established = true;
}

static void on_closed(void *user, uint64_t serial)
{
    struct aec *c = user;
    if (c->session == serial)
        c->session = 0;
}

/* A copy, and NULL of NULL; false: out of memory. */
static bool copy(char **to, const char *from)
{
    *to = from != NULL ? strdup(from) : NULL;
    return *to != NULL || from == NULL;
}

static bool copy_credential(struct aec *c, const struct aec_config *cfg)
{
    const struct aec_certificate *f = &cfg->certificate;
    const char *const files[FILES] = {f->certificate, f->private_key, f->trust_anchors, f->revocation_lists,
                                      f->server_name};
    bool ok = copy(&c->kpm_id, cfg->kpm_id);
    for (size_t i = 0; i < FILES; i++)
        ok = copy(&c->files[i], files[i]) && ok;
    if (cfg->kpm_id == NULL)
        return ok && f->certificate != NULL && f->private_key != NULL && f->trust_anchors != NULL;
    if (cfg->kpm.n == 0 || cfg->kpm.n > sizeof c->kpm)
        return false;
    memcpy(c->kpm, cfg->kpm.p, cfg->kpm.n);
    c->kpm_len = cfg->kpm.n;
    return ok;
}

struct aec *aec_new(const struct aec_config *cfg)
{
    struct aec *c = calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    c->port = cfg->port;
    c->timeout_ms = cfg->timeout_ms != 0 ? cfg->timeout_ms : 10000;
    const struct cep_callbacks cb = {.user = c, .opened = on_opened, .closed = on_closed};
    const struct cep_config limits = {.max_sessions = 4, .max_handshakes = 4};
    if (sd_event_new(&c->loop) >= 0)
        c->ep = cep_endpoint_new(c->loop, &limits, &cb);
    if (c->ep != NULL && copy(&c->host, cfg->host) && copy(&c->from, cfg->from) &&
        copy(&c->base, cfg->base != NULL ? cfg->base : "mef") && copy_credential(c, cfg))
        return c;
    aec_free(c);
    return NULL;
}

void aec_free(struct aec *c)
{
    if (c == NULL)
        return;
    cep_endpoint_free(c->ep);
    sd_event_unref(c->loop);
    free(c->host);
    free(c->kpm_id);
    free(c->from);
    free(c->base);
    for (size_t i = 0; i < FILES; i++)
        free(c->files[i]);
    OPENSSL_cleanse(c, sizeof *c);
    free(c);
}

static struct cep_certs *read_certs(struct aec *c)
{
    char err[AEC_TEXT_MAX];
    struct cep_certificate own = {NULL, c->files[CERTIFICATE], c->files[PRIVATE_KEY]};
    struct cep_certs_files files = {.list = &own,
                                    .n = 1,
                                    .trust_anchors = c->files[TRUST_ANCHORS],
                                    .revocation_lists = c->files[REVOCATION_LISTS]};
    struct cep_certs *certs = cep_certs_load(&files, err, sizeof err);
    if (certs == NULL)
        fail(c, ST_UNREACHABLE, err);
    return certs;
}

enum st aec_check(struct aec *c)
{
    if (c->kpm_id != NULL)
        return ST_OK;
    struct cep_certs *certs = read_certs(c);
    cep_certs_unref(certs);
    return certs != NULL ? ST_OK : ST_UNREACHABLE;
}

static struct cep_session *connect_anew(struct aec *c, int *err)
{
    if (c->kpm_id != NULL)
        return cep_connect(c->ep, c->host, c->port, c->kpm_id, span_of(c->kpm, c->kpm_len), err);
    struct cep_certs *certs = read_certs(c);
    if (certs == NULL)
        return NULL;
    struct cep_session *s = cep_connect_certificate(c->ep, c->host, c->port, certs, c->files[SERVER_NAME], err);
    cep_certs_unref(certs);
    return s;
}

static struct cep_session *session(struct aec *c)
{
    struct cep_session *s = c->session != 0 ? cep_session_find(c->ep, c->session) : NULL;
    if (s != NULL)
        return s;
    int err = 0;
    c->established = false;
    s = connect_anew(c, &err);
    c->session = s != NULL ? cep_session_serial(s) : 0;
    if (s == NULL && err != 0)
        fail(c, ST_UNREACHABLE, err == -EINVAL ? "no such host" : strerror(-err));
    return s;
}

/* --- requests ---------------------------------------------------------------------------------------------- */

/* A request under construction: options in ascending order, as coap.h wants them. */
struct request {
    struct cep_option opts[24];
    size_t n;
    char rqi[24];
    uint8_t uints[3][4];
    size_t nuints;
};

static void add(struct request *r, uint16_t num, struct span val)
{
    if (r->n < sizeof r->opts / sizeof r->opts[0])
        r->opts[r->n++] = (struct cep_option){num, val};
}

static void add_uint(struct request *r, uint16_t num, unsigned v)
{
    if (r->n < sizeof r->opts / sizeof r->opts[0] && r->nuints < 3)
        r->opts[r->n++] = cep_option_make_uint(num, v, r->uints[r->nuints++]);
}

/* What distinguishes one request from another. */
struct spec {
    uint8_t method;
    const char *path;       /* below the base; "" is the base; no leading '/' */
    const char *queries[2]; /* NULL: none */
    int ty;                 /* resource type of a create; 0: none */
    unsigned format;        /* of the body */
    unsigned accept;
    struct span body;
};

static void build(struct aec *c, const struct spec *s, struct request *r)
{
    add(r, OPT_URI_PATH, span_str(c->base));
    for (const char *p = s->path; *p != '\0';) {
        size_t n = strcspn(p, "/");
        add(r, OPT_URI_PATH, span_of(p, n));
        p += n + (p[n] == '/');
    }
    if (s->body.n != 0)
        add_uint(r, OPT_CONTENT_FORMAT, s->format);
    for (size_t i = 0; i < 2 && s->queries[i] != NULL; i++)
        add(r, OPT_URI_QUERY, span_str(s->queries[i]));
    add_uint(r, OPT_ACCEPT, s->accept);
    if (s->ty != 0)
        add_uint(r, OPT_TY, (unsigned)s->ty);
    add(r, OPT_RVI, span_str(RELEASE));
    if (c->from != NULL)
        add(r, OPT_FR, span_str(c->from));
    snprintf(r->rqi, sizeof r->rqi, "%u", ++c->requests);
    add(r, OPT_RQI, span_str(r->rqi));
}

/* The status of an answer: its RSC, or failing that what its CoAP code maps to. */
static enum st answer_status(const struct cep_message *rsp)
{
    uint32_t rsc;
    if (cep_option_uint(rsp, OPT_RSC, &rsc) && rsc <= UINT16_MAX)
        return st_from_rsc((uint16_t)rsc);
    for (unsigned i = 0; i < ST_COUNT; i++)
        if (st_map((enum st)i)->coap == rsp->code)
            return (enum st)i;
    return ST_INTERNAL;
}

static bool succeeded(enum st st)
{
    return st <= ST_UPDATED;
}

static void on_response(void *user, enum st st, const struct cep_message *rsp)
{
    struct call *call = user;
    call->done = true;
    call->st = st;
    if (st != ST_OK)
        return;
    call->st = answer_status(rsp);
    call->body = OPENSSL_malloc(rsp->payload.n + 1);
    if (call->body == NULL) {
        call->st = ST_INTERNAL;
        return;
    }
    if (rsp->payload.n != 0)
        memcpy(call->body, rsp->payload.p, rsp->payload.n);
    call->body[rsp->payload.n] = '\0';
    call->n = rsp->payload.n;
}

static void call_clear(struct call *call)
{
    OPENSSL_clear_free(call->body, call->n);
}

static enum st explain(struct aec *c, const struct call *call)
{
    char detail[AEC_TEXT_MAX] = "";
    if (call->n != 0)
        aec_parse_detail(span_of(call->body, call->n), detail);
    else if (!c->established)
        snprintf(detail, sizeof detail, c->kpm_id != NULL ? "no DTLS session (nobody there, or KpmID or Kpm refused)"
                                      : "no DTLS session (nobody there, or a certificate refused)");
    return fail(c, call->st, detail);
}

/* Send and wait. On a success *out is the answer, to be cleared by the caller; on a failure nothing is left. */
static enum st perform(struct aec *c, const struct spec *s, struct call *out)
{
    *out = (struct call){0};
    struct request r = {.n = 0};
    build(c, s, &r);
    const struct cep_message m = {s->method, r.opts, r.n, s->body};
    struct cep_session *to = session(c);
    if (to == NULL)
        return ST_UNREACHABLE;
    uint64_t handle = cep_request(to, &m, false, true, on_response, out);
    if (handle == 0)
        return fail(c, ST_UNREACHABLE, "session closed");
    uint64_t end = now_ms() + c->timeout_ms;
    for (uint64_t now; !out->done && (now = now_ms()) < end;)
        if (sd_event_run(c->loop, (end - now) * 1000) < 0)
            break;
    if (!out->done) {
        cep_cancel(to, handle); /* `to` lives: its end would have finished the call */
        out->st = ST_TIMEOUT;
        c->session = 0;
        cep_session_close(to); /* the MEF may have forgotten it: the next call makes a new one */
    }
    if (succeeded(out->st))
        return ST_OK;
    enum st st = explain(c, out);
    call_clear(out);
    return st;
}

static enum st parsed(struct aec *c, struct call *call, enum st st)
{
    call_clear(call);
    return st == ST_OK ? ST_OK : fail(c, st, st == ST_NOT_FOUND ? "" : "answer not understood");
}

enum st aec_register(struct aec *c, const char *admin_fqdn, const char *expires, char *id)
{
    char body[512];
    int n = snprintf(body, sizeof body,
                     "{\"" MEF_SN_CLIENT_REG "\":{\"" M2M_SN_EXPIRATION "\":\"%s\",\"" MEF_SN_ADMIN_FQDN "\":\"%s\"}}",
                     expires, admin_fqdn);
    if (n < 0 || (size_t)n >= sizeof body || strpbrk(admin_fqdn, "\"\\") != NULL || strpbrk(expires, "\"\\") != NULL)
        return fail(c, ST_BAD_REQUEST, "adminFQDN or expiration time");
    struct call call;
    const struct spec s = {.method = CEP_POST,
                           .path = "",
                           .ty = MEF_TY_CLIENT_REG,
                           .format = FORMAT_JSON,
                           .accept = FORMAT_JSON,
                           .body = span_of(body, (size_t)n)};
    enum st st = perform(c, &s, &call);
    return st != ST_OK ? st : parsed(c, &call, aec_parse_registration(span_of(call.body, call.n), id));
}

enum st aec_find(struct aec *c, eui64_t device, char relkeyid[AEC_ID_MAX])
{
    char eui[17], label[48];
    eui64_print(device, eui);
    snprintf(label, sizeof label, M2M_SN_LABELS "=" MEF_LABEL_EUI64 "%s", eui);
    struct call call;
    const struct spec s = {
        .method = CEP_GET, .path = "", .queries = {M2M_SN_FILTER_USAGE "=1", label}, .accept = FORMAT_JSON};
    enum st st = perform(c, &s, &call);
    return st != ST_OK ? st : parsed(c, &call, aec_parse_uril(span_of(call.body, call.n), relkeyid));
}

enum st aec_get(struct aec *c, const char *relkeyid, struct aec_key **out)
{
    struct call call;
    const struct spec s = {.method = CEP_GET, .path = relkeyid, .accept = FORMAT_JSON};
    enum st st = perform(c, &s, &call);
    return st != ST_OK ? st : parsed(c, &call, aec_parse_key(span_of(call.body, call.n), relkeyid, out));
}

/* "eg/<what>/<eui64><tail>" */
static void eg_path(char out[64], const char *what, eui64_t device, const char *tail)
{
    char eui[17];
    eui64_print(device, eui);
    snprintf(out, 64, "eg/%s/%s%s", what, eui, tail);
}

enum st aec_ticket_take(struct aec *c, eui64_t device, unsigned count, struct aec_ticket *out)
{
    char path[64], body[32];
    struct call call;
    eg_path(path, "devices", device, "");
    const struct spec who = {.method = CEP_GET, .path = path, .accept = FORMAT_JSON};
    enum st st = perform(c, &who, &call);
    if (st != ST_OK || (st = parsed(c, &call, aec_parse_device(span_of(call.body, call.n), out))) != ST_OK)
        return st;
    eg_path(path, "devices", device, "/ticket");
    int n = snprintf(body, sizeof body, "{\"count\":%u}", count);
    const struct spec s = {.method = CEP_POST,
                           .path = path,
                           .format = FORMAT_JSON,
                           .accept = FORMAT_JSON,
                           .body = span_of(body, (size_t)n)};
    st = perform(c, &s, &call);
    return st != ST_OK ? st : parsed(c, &call, aec_parse_ticket(span_of(call.body, call.n), out));
}

enum st aec_send(struct aec *c, eui64_t device, struct span frame)
{
    char path[64];
    eg_path(path, "frames", device, "");
    struct call call;
    const struct spec s = {
        .method = CEP_POST, .path = path, .format = FORMAT_OCTETS, .accept = FORMAT_OCTETS, .body = frame};
    enum st st = perform(c, &s, &call);
    if (st == ST_OK)
        call_clear(&call);
    return st;
}

/* --- frames ------------------------------------------------------------------------------------------------ */

static void enqueue(struct aec *c, struct span frame)
{
    if (frame.n == 0 || frame.n > AEC_FRAME_MAX)
        return;
    if (c->waiting == QUEUE) { /* drop the oldest: a newer reading is worth more */
        c->head = (c->head + 1) % QUEUE;
        c->waiting--;
    }
    size_t at = (c->head + c->waiting++) % QUEUE;
    memcpy(c->frames[at], frame.p, frame.n);
    c->lengths[at] = frame.n;
}

static void on_frame(void *user, enum st st, const struct cep_message *rsp)
{
    struct aec *c = user;
    c->heard_at = now_ms();
    c->watch_answered = true;
    c->watch_st = st == ST_OK ? answer_status(rsp) : st;
    if (succeeded(c->watch_st)) {
        enqueue(c, rsp->payload);
        return;
    }
    if (st == ST_OK) { /* refused: say why; the observation is over */
        char detail[AEC_TEXT_MAX];
        aec_parse_detail(rsp->payload, detail);
        fail(c, c->watch_st, detail);
    } else {
        fail(c, st, "observation lost");
    }
    c->observation = 0;
    c->retry_at = now_ms() + RETRY_MS;
}

static enum st observe(struct aec *c)
{
    char path[64];
    eg_path(path, "frames", c->watched, "");
    struct request r = {.n = 0};
    const struct spec s = {.method = CEP_GET, .path = path, .accept = FORMAT_OCTETS};
    build(c, &s, &r);
    const struct cep_message m = {s.method, r.opts, r.n, s.body};
    struct cep_session *to = session(c);
    c->watch_answered = false;
    c->heard_at = now_ms();
    c->retry_at = c->heard_at + RETRY_MS;
    c->observation = to != NULL ? cep_request(to, &m, true, true, on_frame, c) : 0;
    return c->observation != 0 ? ST_OK : ST_UNREACHABLE;
}

enum st aec_watch(struct aec *c, eui64_t device)
{
    struct cep_session *s = c->session != 0 ? cep_session_find(c->ep, c->session) : NULL;
    if (c->observation != 0 && s != NULL)
        cep_cancel(s, c->observation);
    c->watched = device;
    c->head = c->waiting = 0;
    if (observe(c) != ST_OK)
        return ST_UNREACHABLE;
    uint64_t end = now_ms() + c->timeout_ms;
    for (uint64_t now; !c->watch_answered && (now = now_ms()) < end;)
        if (sd_event_run(c->loop, (end - now) * 1000) < 0)
            break;
    if (!c->watch_answered)
        return fail(c, ST_TIMEOUT, "");
    return succeeded(c->watch_st) ? ST_OK : c->watch_st;
}

static void on_probe(void *user, enum st st, const struct cep_message *rsp)
{
    struct aec *c = user;
    (void)rsp;
    c->probe = 0;
    if (st == ST_OK)
        c->heard_at = now_ms();
}

/* A MEF that was restarted knows nothing of our session, and DTLS does not say so: ask when it is quiet, and give the
 * session up when no answer comes, which ends the observation and has it set up again. */
static void check_quiet(struct aec *c, uint64_t now)
{
    struct cep_session *s = c->session != 0 ? cep_session_find(c->ep, c->session) : NULL;
    if (s == NULL || c->observation == 0 || now < c->heard_at + QUIET_MS)
        return;
    if (now >= c->heard_at + QUIET_MS + PROBE_MS) {
        c->session = 0;
        cep_session_close(s);
        return;
    }
    if (c->probe != 0)
        return;
    char path[64];
    struct request r = {.n = 0};
    eg_path(path, "devices", c->watched, "");
    const struct spec spec = {.method = CEP_GET, .path = path, .accept = FORMAT_JSON};
    build(c, &spec, &r);
    const struct cep_message m = {spec.method, r.opts, r.n, spec.body};
    c->probe = cep_request(s, &m, false, false, on_probe, c);
}

/* Will trying again help? Not when the MEF said no. */
static bool transient(enum st st)
{
    return succeeded(st) || st == ST_UNREACHABLE || st == ST_TIMEOUT || st == ST_UNAVAILABLE || st == ST_TOO_MANY;
}

enum st aec_next(struct aec *c, int timeout_ms, uint8_t frame[AEC_FRAME_MAX], size_t *n)
{
    uint64_t start = now_ms();
    uint64_t end = timeout_ms < 0 ? UINT64_MAX : start + (unsigned)timeout_ms;
    while (c->waiting == 0) {
        uint64_t now = now_ms();
        if (c->watched == 0 || (c->observation == 0 && !transient(c->watch_st)))
            return c->watched == 0 ? fail(c, ST_BAD_REQUEST, "nothing is watched") : c->watch_st;
        if (c->observation == 0 && now >= c->retry_at)
            (void)observe(c); /* tried again at retry_at */
        check_quiet(c, now);
        if (now > end || (now == end && timeout_ms > 0))
            return fail(c, ST_TIMEOUT, "no frame");
        uint64_t left = end - now < RETRY_MS ? end - now : RETRY_MS;
        int r = sd_event_run(c->loop, left * 1000);
        if (r < 0)
            return fail(c, ST_INTERNAL, "event loop");
        if (r == 0 && timeout_ms == 0)
            return fail(c, ST_TIMEOUT, "no frame");
    }
    *n = c->lengths[c->head];
    memcpy(frame, c->frames[c->head], *n);
    c->head = (c->head + 1) % QUEUE;
    c->waiting--;
    return ST_OK;
}

int aec_fd(const struct aec *c)
{
    return sd_event_get_fd(c->loop);
}
