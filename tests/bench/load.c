#include "tests/bench/load.h"

#include "cse-shim/base/hex.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { OPT_URI_PATH = 11, OPT_FORMAT = 12, OPT_ACCEPT = 17, OPT_TY = 267, OPT_RVI = 271, OPT_FR = 279, OPT_RQI = 283 };
enum { FORMAT_JSON = 50 };
enum { DIALS_AT_ONCE = 32 };

double load_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

double load_cpu(pid_t pid)
{
    struct timespec t = {0};
    clockid_t clock;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) != 0)
        fprintf(stderr, "cannot read the processor time of %d\n", (int)pid);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

double load_resident(pid_t pid)
{
    char path[64];
    unsigned long pages = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *f = fopen(path, "r");
    if (f == NULL || fscanf(f, "%*u %lu", &pages) != 1)
        fprintf(stderr, "cannot read %s\n", path);
    if (f != NULL)
        fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / 1024;
}

static bool read_certificate(const char *line, struct load_credential *c)
{
    char certificate[256], key[256], anchors[256], err[256];
    if (sscanf(line, "certificate %255s %255s %255s", certificate, key, anchors) != 3)
        return false;
    const struct cep_certificate one = {.certificate = certificate, .private_key = key};
    const struct cep_certs_files files = {.list = &one, .n = 1, .trust_anchors = anchors};
    c->certs = cep_certs_load(&files, err, sizeof err);
    if (c->certs == NULL)
        fprintf(stderr, "%s\n", err);
    return c->certs != NULL;
}

static bool read_psk(const char *line, struct load_credential *c)
{
    char hex[129];
    if (sscanf(line, "%159s %128s %16s", c->identity, hex, c->gateway) < 2)
        return false;
    c->keylen = strlen(hex) / 2;
    return hex_decode(hex, strlen(hex), c->key, c->keylen);
}

bool load_credentials(struct load *l)
{
    char line[800];
    while (fgets(line, sizeof line, stdin) != NULL) {
        struct load_credential c = {0}, *more = realloc(l->creds, (l->ncreds + 1) * sizeof c);
        if (more == NULL)
            return false;
        l->creds = more;
        if (!(strncmp(line, "certificate ", 12) == 0 ? read_certificate : read_psk)(line, &c))
            return false;
        l->creds[l->ncreds++] = c;
    }
    return l->ncreds > 0;
}

static void add(struct load_options *o, uint16_t num, struct span val) { o->opts[o->n++] = (struct cep_option){num, val}; }

static void add_path(struct load_options *o, const char *path)
{
    o->n = 0;
    while (*path != '\0' && o->n < 8) {
        size_t n = strcspn(path, "/");
        add(o, OPT_URI_PATH, span_of(path, n));
        path += n + (path[n] == '/');
    }
}

void load_primitive(struct load_options *o, uint8_t method, const char *path, const char *from, const char *body,
                    uint32_t ty, struct cep_message *req)
{
    add_path(o, path);
    if (body != NULL)
        o->opts[o->n++] = cep_option_make_uint(OPT_FORMAT, FORMAT_JSON, o->number[0]);
    o->opts[o->n++] = cep_option_make_uint(OPT_ACCEPT, FORMAT_JSON, o->number[1]);
    if (method == CEP_POST)
        o->opts[o->n++] = cep_option_make_uint(OPT_TY, ty, o->number[2]);
    add(o, OPT_RVI, span_str("5"));
    add(o, OPT_FR, span_str(from));
    add(o, OPT_RQI, span_str("1234"));
    *req = (struct cep_message){.code = method, .opts = o->opts, .nopts = o->n};
    req->payload = body != NULL ? span_str(body) : span_of(NULL, 0);
}

void load_get(struct load_options *o, const char *path, const char *from, struct cep_message *req)
{
    if (from != NULL) {
        load_primitive(o, CEP_GET, path, from, NULL, 0, req);
        return;
    }
    add_path(o, path);
    *req = (struct cep_message){.code = CEP_GET, .opts = o->opts, .nopts = o->n};
}

/* --- sessions ----------------------------------------------------------------------------------------------------- */

static void on_opened(void *user, const struct cep_peer *peer)
{
    struct load *l = user;
    l->opened++;
    if (l->on_opened != NULL)
        l->on_opened(l->user, peer);
}

static void on_closed(void *user, uint64_t serial)
{
    struct load *l = user;
    (void)serial;
    l->closed++;
}

struct cep_session *load_dial(struct load *l, size_t i)
{
    const struct load_credential *c = &l->creds[i % l->ncreds];
    const char *host = l->host != NULL ? l->host : "127.0.0.1";
    int err;
    if (c->certs != NULL)
        return cep_connect_certificate(l->ep, host, l->port, c->certs, NULL, &err);
    return cep_connect(l->ep, host, l->port, c->identity, span_of(c->key, c->keylen), &err);
}

static bool dial_all(struct load *l)
{
    for (double end = load_now() + 300; l->opened < l->want && load_now() < end && l->closed == 0;) {
        while (l->made < l->want && l->made < l->opened + DIALS_AT_ONCE) {
            if ((l->sessions[l->made] = load_dial(l, l->made)) == NULL)
                return false;
            l->made++;
        }
        sd_event_run(l->loop, 10000);
    }
    return l->opened == l->want;
}

bool load_open(struct load *l, size_t sessions)
{
    const struct rlimit files = {65536, 65536};
    const struct cep_config cfg = {.max_sessions = 60000};
    const struct cep_callbacks cb = {.user = l, .opened = on_opened, .closed = on_closed};
    setrlimit(RLIMIT_NOFILE, &files);
    l->want = sessions;
    l->sessions = calloc(sessions + 1, sizeof *l->sessions);
    return l->sessions != NULL && sd_event_new(&l->loop) >= 0 &&
           (l->ep = cep_endpoint_new(l->loop, &cfg, &cb)) != NULL && dial_all(l);
}

void load_close(struct load *l)
{
    cep_endpoint_free(l->ep);
    sd_event_unref(l->loop);
    free(l->sessions);
    for (size_t i = 0; i < l->ncreds; i++)
        cep_certs_unref(l->creds[i].certs);
    free(l->creds);
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

static void ask_next(struct load *l);

static void on_answer(void *user, enum st st, const struct cep_message *rsp)
{
    struct load *l = user;
    l->flying--;
    if (st == ST_OK && l->good(rsp))
        l->answers++;
    else
        l->failures++;
    ask_next(l);
}

static void ask_next(struct load *l)
{
    while (l->loading && l->flying < l->at_once && (l->limit == 0 || l->asked < l->limit)) {
        struct cep_message req;
        size_t i = l->next++ % l->want;
        l->make(l, l->asked++, i, &req);
        if (cep_request(l->sessions[i], &req, false, false, on_answer, l) == 0) {
            l->failures++;
            return;
        }
        l->flying++;
    }
}

void load_start(struct load *l)
{
    l->loading = true;
    ask_next(l);
}

void load_run(struct load *l, double until)
{
    while (load_now() < until)
        sd_event_run(l->loop, 2000);
}

void load_pause(struct load *l)
{
    l->loading = false;
    while (l->flying != 0)
        sd_event_run(l->loop, 10000);
}
