#include "ipe-ni/forward.h"

#include "cse-shim/base/log.h"
#include "cse-shim/coap/coap.h"
#include "ipe-ni/upqueue.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    OPT_URI_PATH = 11,
    OPT_CONTENT_FORMAT = 12,
    FORMAT_CBOR = 60,
    RETRY_MIN_US = 200000,
    RETRY_MAX_US = 30000000,
    REQUEST_AGE_US = 5000000, /* zbgwd has given up by then */
    MAX_PSK = 64,
    MAX_SEGMENTS = 8
};

struct forward {
    struct forward_config cfg;
    char host[256];
    struct stream *line;
    struct cep_endpoint *coap;
    uint64_t session;           /* serial; 0: none */
    uint64_t answered;          /* when the MEF last answered, us */
    bool open;
    sd_event_source *retry, *keepalive;
    uint64_t retry_us;
    struct upqueue *queue;
    struct egp_envelope hello;  /* of the last Hello seen */
    uint8_t hello_bytes[EGP_MAX_MESSAGE];
    size_t hello_n;
    uint64_t up, down, refused, dropped, full;
};

static void pump(struct forward *f);

static uint64_t now_us(const struct forward *f)
{
    uint64_t now = 0;
    (void)sd_event_now(f->cfg.loop, CLOCK_MONOTONIC, &now);
    return now;
}

static void count_refused(struct forward *f, const char *from, const char *why)
{
    f->refused++;
    if ((f->refused & (f->refused - 1)) == 0) /* 1, 2, 4, ..: a noisy line must not fill the log */
        log_event(LOG_WARN, "egp.refused", "from=%s why=%s count=%llu", from, why, (unsigned long long)f->refused);
}

/* --- to the MEF --------------------------------------------------------------------------------------------------- */
static void enqueue(struct forward *f, const struct egp_envelope *env, struct span m)
{
    if (!upqueue_add(f->queue, env, m, now_us(f), &f->dropped))
        f->dropped++;
    pump(f);
}

static void on_line_message(void *user, struct span m)
{
    struct forward *f = user;
    struct egp_envelope env;
    const char *bad = egp_decode_envelope(m, &env);
    if (bad == NULL && env.direction != EGP_TO_EG)
        bad = "bad-direction";
    if (bad != NULL) {
        count_refused(f, "line", bad);
        return;
    }
    pcap_write(f->cfg.capture, m);
    if (env.type == EGP_HELLO) {
        f->hello = env;
        f->hello_n = m.n;
        memcpy(f->hello_bytes, m.p, m.n);
    }
    enqueue(f, &env, m);
}

/* Hand a message of the EG to the gateway. NULL, or why not. */
static const char *deliver(struct forward *f, struct span m)
{
    struct egp_envelope env;
    const char *bad = egp_decode_envelope(m, &env);
    if (bad == NULL && env.direction != EGP_TO_GATEWAY)
        bad = "bad-direction";
    if (bad != NULL) {
        count_refused(f, "mef", bad);
        return bad;
    }
    pcap_write(f->cfg.capture, m);
    if (!stream_send(f->line, m)) {
        f->full++;
        return "line-full";
    }
    f->down++;
    return NULL;
}

static void on_response(void *user, enum st st, const struct cep_message *rsp)
{
    struct upmsg *m = user;
    struct forward *f = m->user;
    if (st != ST_OK) { /* keep the message; make a new session, unless others were answered meanwhile */
        bool alive = f->answered > m->sent;
        upqueue_retry(f->queue, m);
        struct cep_session *session = cep_session_find(f->coap, f->session);
        if (st == ST_TIMEOUT && session != NULL && !alive)
            cep_session_close(session);
        else if (st == ST_TIMEOUT)
            pump(f);
        return;
    }
    f->answered = now_us(f);
    if (rsp->code >> 5 != 2)
        log_event(LOG_WARN, "mef.refused", "type=%s code=%u.%02u", egp_type_name(m->env.type), rsp->code >> 5,
                  rsp->code & 31u);
    f->up++;
    upqueue_done(f->queue, m);
    if (rsp->payload.n != 0)
        (void)deliver(f, rsp->payload);
    pump(f);
}

/* The options of a POST to the configured path; returns how many. */
static size_t post_options(const struct forward *f, struct cep_option *opts, uint8_t format[4])
{
    size_t n = 0;
    for (const char *p = f->cfg.path; *p == '/' && n < MAX_SEGMENTS;) {
        size_t len = strcspn(++p, "/");
        opts[n++] = (struct cep_option){OPT_URI_PATH, span_of(p, len)};
        p += len;
    }
    opts[n++] = cep_option_make_uint(OPT_CONTENT_FORMAT, FORMAT_CBOR, format);
    return n;
}

static bool post(struct forward *f, struct cep_session *session, struct upmsg *m)
{
    struct cep_option opts[MAX_SEGMENTS + 1];
    uint8_t format[4];
    struct cep_message req = {.code = CEP_POST, .opts = opts, .payload = span_of(m->bytes, m->n)};
    req.nopts = post_options(f, opts, format);
    m->user = f;
    m->sent = now_us(f);
    return cep_request(session, &req, false, false, on_response, m) != 0;
}

static void pump(struct forward *f)
{
    struct upmsg *m;
    struct cep_session *session = f->open ? cep_session_find(f->coap, f->session) : NULL;
    while (session != NULL && (m = upqueue_next(f->queue, now_us(f), REQUEST_AGE_US)) != NULL)
        if (!post(f, session, m)) {
            upqueue_retry(f->queue, m);
            return;
        }
}

/* --- from the MEF ------------------------------------------------------------------------------------------------- */
static uint8_t answer_code(struct forward *f, const struct cep_message *req)
{
    const struct cep_option *path = cep_option_find(req, OPT_URI_PATH);
    uint32_t format = CEP_NO_FORMAT;
    if (path == NULL || !span_eq(path->val, span_str("eg")) ||
        (path + 1 < req->opts + req->nopts && path[1].num == OPT_URI_PATH))
        return CEP_CODE(4, 4);
    if (req->code != CEP_POST)
        return CEP_CODE(4, 5);
    if (!cep_option_uint(req, OPT_CONTENT_FORMAT, &format) || format != FORMAT_CBOR)
        return CEP_CODE(4, 15);
    const char *bad = deliver(f, req->payload);
    return bad == NULL ? CEP_CODE(2, 4) : strcmp(bad, "line-full") == 0 ? CEP_CODE(5, 3) : CEP_CODE(4, 0);
}

static void on_request(void *user, struct cep_exchange *ex, const struct cep_message *req)
{
    struct forward *f = user;
    cep_respond(ex, &(struct cep_message){.code = answer_code(f, req)}, false);
}

/* --- the session -------------------------------------------------------------------------------------------------- */
static void schedule_retry(struct forward *f)
{
    uint64_t jitter = 0;
    (void)!getrandom(&jitter, sizeof jitter, 0);
    sd_event_source_set_time_relative(f->retry, f->retry_us / 2 + jitter % (f->retry_us / 2));
    sd_event_source_set_enabled(f->retry, SD_EVENT_ONESHOT);
    f->retry_us = f->retry_us * 2 < RETRY_MAX_US ? f->retry_us * 2 : RETRY_MAX_US;
}

static void on_opened(void *user, const struct cep_peer *peer)
{
    struct forward *f = user;
    if (peer->serial != f->session)
        return;
    log_event(LOG_NOTICE, "mef.connected", "host=%s port=%u", f->host, f->cfg.port);
    f->open = true;
    f->retry_us = RETRY_MIN_US;
    if (f->hello_n != 0) /* the EG learns anew where this gateway is */
        enqueue(f, &f->hello, span_of(f->hello_bytes, f->hello_n));
    pump(f);
}

static void on_closed(void *user, uint64_t serial)
{
    struct forward *f = user;
    if (serial != f->session)
        return;
    log_event(LOG_NOTICE, f->open ? "mef.lost" : "mef.unreachable", "host=%s port=%u", f->host, f->cfg.port);
    f->open = false;
    f->session = 0;
    schedule_retry(f);
}

static bool read_psk(const char *path, uint8_t key[MAX_PSK], size_t *n, const char **why)
{
    char text[2 * MAX_PSK + 8];
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 || fstat(fd, &st) != 0 ? -1 : read(fd, text, sizeof text);
    if (fd >= 0)
        close(fd);
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r' || text[len - 1] == ' '))
        len--;
    *n = len > 0 ? (size_t)len / 2 : 0;
    *why = len < 0                                    ? "the PSK file cannot be read"
           : st.st_mode & (S_IRWXG | S_IRWXO)         ? "the PSK file must have mode 0600"
           : *n < 16 || *n > MAX_PSK || len % 2 != 0  ? "the PSK file must hold 32 to 128 hex digits"
           : !hex_decode(text, (size_t)len, key, *n)  ? "the PSK file must hold 32 to 128 hex digits"
                                                      : NULL;
    explicit_bzero(text, sizeof text);
    return *why == NULL;
}

static struct cep_certs *read_certs(const struct forward_credential *c, char *err, size_t errlen)
{
    struct cep_certificate own = {NULL, c->certificate, c->private_key};
    struct cep_certs_files files = {
        .list = &own, .n = 1, .trust_anchors = c->trust_anchors, .revocation_lists = c->revocation_lists};
    return cep_certs_load(&files, err, errlen);
}

bool forward_check(const struct forward_credential *c, char *err, size_t errlen)
{
    uint8_t key[MAX_PSK];
    size_t n;
    const char *why = NULL;
    bool any_psk = c->identity != NULL || c->psk_file != NULL;
    bool certificate = c->certificate != NULL && c->private_key != NULL && c->trust_anchors != NULL;
    bool any_certificate = c->certificate != NULL || c->private_key != NULL || c->trust_anchors != NULL ||
                           c->revocation_lists != NULL || c->server_name != NULL;
    if (any_psk == any_certificate || (any_psk ? c->identity == NULL || c->psk_file == NULL : !certificate))
        why = "[mef] needs either identity and psk-file, or certificate, private-key and trust-anchors";
    else if (any_psk)
        (void)read_psk(c->psk_file, key, &n, &why);
    explicit_bzero(key, sizeof key);
    if (why != NULL) {
        snprintf(err, errlen, "%s", why);
        return false;
    }
    struct cep_certs *certs = any_psk ? NULL : read_certs(c, err, errlen);
    bool ok = any_psk || certs != NULL;
    cep_certs_unref(certs);
    return ok;
}

static struct cep_session *connect_psk(struct forward *f, char *why, size_t cap)
{
    uint8_t key[MAX_PSK];
    size_t n;
    const char *wrong;
    int err = 0;
    struct cep_session *s = NULL;
    const struct forward_credential *c = &f->cfg.credential;
    if (read_psk(c->psk_file, key, &n, &wrong)) {
        s = cep_connect(f->coap, f->host, f->cfg.port, c->identity, span_of(key, n), &err);
        wrong = strerror(-err);
    }
    explicit_bzero(key, sizeof key);
    snprintf(why, cap, "%s", wrong);
    return s;
}

static struct cep_session *connect_certificate(struct forward *f, char *why, size_t cap)
{
    int err = 0;
    const struct forward_credential *c = &f->cfg.credential;
    struct cep_certs *certs = read_certs(c, why, cap);
    if (certs == NULL)
        return NULL;
    struct cep_session *s =
        cep_connect_certificate(f->coap, f->host, f->cfg.port, certs, c->server_name, &err);
    cep_certs_unref(certs);
    snprintf(why, cap, "%s", strerror(-err));
    return s;
}

static int on_retry(sd_event_source *s, uint64_t now, void *user)
{
    (void)s, (void)now;
    struct forward *f = user;
    char why[400];
    struct cep_session *session = f->cfg.credential.identity != NULL ? connect_psk(f, why, sizeof why)
                                                                     : connect_certificate(f, why, sizeof why);
    if (session != NULL) {
        f->session = cep_session_serial(session);
        return 0;
    }
    log_event(LOG_WARN, "mef.unreachable", "host=%s why=\"%s\"", f->host, why);
    schedule_retry(f);
    return 0;
}

/* A Hello again, when nothing else was sent for a while: it finds out that the session is dead, and keeps NATs open. */
static int on_keepalive(sd_event_source *s, uint64_t now, void *user)
{
    struct forward *f = user;
    if (f->open && f->hello_n != 0 && upqueue_count(f->queue) == 0)
        enqueue(f, &f->hello, span_of(f->hello_bytes, f->hello_n));
    sd_event_source_set_time(s, now + f->cfg.keepalive_s * 1000000ull);
    return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

void forward_reconnect(struct forward *f)
{
    struct cep_session *session = cep_session_find(f->coap, f->session);
    f->retry_us = RETRY_MIN_US;
    if (session != NULL)
        cep_session_close(session); /* its end has the next attempt made */
    else
        schedule_retry(f);
}

bool forward_idle(const struct forward *f) { return upqueue_count(f->queue) == 0; }

static void on_line_up(void *user) { (void)user; }

static bool open_parts(struct forward *f, char *err, size_t errlen)
{
    const struct forward_config *c = &f->cfg;
    struct cep_config coap = {.max_sessions = 4, .max_body = EGP_MAX_MESSAGE, .ack_timeout_ms = c->ack_timeout_ms,
                              .max_retransmit = 1}; /* a dead session shows in 3 to 4.5 s; the queue loses nothing */
    f->queue = upqueue_new(c->queue, c->in_flight);
    f->coap = cep_endpoint_new(c->loop, &coap, &(struct cep_callbacks){.user = f, .request = on_request,
                                                                       .opened = on_opened, .closed = on_closed});
    if (f->queue == NULL || f->coap == NULL ||
        sd_event_add_time_relative(c->loop, &f->retry, CLOCK_MONOTONIC, 0, 1000, on_retry, f) < 0 ||
        sd_event_add_time_relative(c->loop, &f->keepalive, CLOCK_MONOTONIC, c->keepalive_s * 1000000ull, 0,
                                   on_keepalive, f) < 0)
        return false;
    f->line = stream_new(c->loop, &c->line,
                         &(struct stream_callbacks){.user = f, .message = on_line_message, .up = on_line_up}, err,
                         errlen);
    return f->line != NULL;
}

struct forward *forward_new(const struct forward_config *cfg, char *err, size_t errlen)
{
    struct forward *f = calloc(1, sizeof *f);
    if (f == NULL)
        return NULL;
    f->cfg = *cfg;
    f->retry_us = RETRY_MIN_US;
    snprintf(err, errlen, "out of memory, or a name too long");
    bool fits = snprintf(f->host, sizeof f->host, "%s", cfg->host) < (int)sizeof f->host;
    f->cfg.host = f->host;
    if (fits && open_parts(f, err, errlen))
        return f;
    forward_free(f);
    return NULL;
}

void forward_free(struct forward *f)
{
    struct stream_stats line = {0};
    if (f == NULL)
        return;
    if (f->line != NULL)
        stream_stats_get(f->line, &line);
    log_event(LOG_NOTICE, "counts", "up=%llu down=%llu refused=%llu dropped=%llu line-full=%llu bad-frames=%llu",
              (unsigned long long)f->up, (unsigned long long)f->down, (unsigned long long)f->refused,
              (unsigned long long)f->dropped, (unsigned long long)f->full, (unsigned long long)line.bad_frames);
    cep_endpoint_free(f->coap);
    stream_free(f->line);
    upqueue_free(f->queue);
    sd_event_source_disable_unref(f->retry);
    sd_event_source_disable_unref(f->keepalive);
    free(f);
}
