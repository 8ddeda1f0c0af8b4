/* The CoAP endpoint as a command, for interop tests.
 *   cep_tool server HOST PORT [IDENTITY KEY]     /echo /big /whoami /state /kept /hits /slow; plain without a key; until killed
 *   cep_tool client HOST PORT METHOD PATH[?QUERY] [IDENTITY KEY]  body from stdin unless GET; body of the answer to stdout
 *   cep_tool observe HOST PORT COUNT PATH [IDENTITY KEY]  ends after COUNT notifications, one a line
 * With IDENTITY @ANCHORS, a PEM file, certificates are used; KEY is then NAME, for NAME.crt and NAME.key.
 * CEP_ACK_MS in the environment is ACK_TIMEOUT, milliseconds.
 * Exit: 0 done, 1 no or a failed answer, 2 usage. Test keys only: they are in argv. */
#include "cse-shim/coap/coap.h"

#include <stdio.h>
#include <stdlib.h>

struct tool {
    sd_event *loop;
    struct cep_endpoint *ep;
    const char *identity, *key;
    struct cep_certs *certs;
    uint64_t observations[16];
    unsigned nobservations;
    unsigned counter, left;
    bool observing;
    unsigned hits;
    uint8_t kept[1 << 17]; /* what was last PUT to /kept */
    size_t nkept;
    struct cep_exchange *slow; /* waits for the next tick */
};

/* --- server --- */

static void respond(struct cep_exchange *ex, uint8_t code, struct span body)
{
    uint8_t buf[4];
    struct cep_option opt = cep_option_make_uint(12, 42, buf);
    cep_respond(ex, &(struct cep_message){code, &opt, 1, body}, false);
}

static void on_request(void *user, struct cep_exchange *ex, const struct cep_message *req)
{
    static uint8_t big[10000];
    struct tool *t = user;
    const struct cep_option *path = cep_option_find(req, 11);
    struct span name = path != NULL ? path->val : span_of(NULL, 0);
    char text[16];
    if (span_eq(name, span_str("echo"))) {
        respond(ex, CEP_CODE(2, 4), req->payload);
    } else if (span_eq(name, span_str("big"))) {
        for (size_t i = 0; i < sizeof big; i++)
            big[i] = (uint8_t)('a' + i % 26);
        respond(ex, CEP_CODE(2, 5), span_of(big, sizeof big));
    } else if (span_eq(name, span_str("kept")) && req->code == CEP_PUT && req->payload.n <= sizeof t->kept) {
        memcpy(t->kept, req->payload.p, t->nkept = req->payload.n);
        respond(ex, CEP_CODE(2, 4), span_of(NULL, 0));
    } else if (span_eq(name, span_str("kept"))) {
        respond(ex, CEP_CODE(2, 5), span_of(t->kept, t->nkept));
    } else if (span_eq(name, span_str("hits"))) {
        snprintf(text, sizeof text, "%u\n", req->code == CEP_POST ? ++t->hits : t->hits);
        respond(ex, CEP_CODE(2, 5), span_str(text));
    } else if (span_eq(name, span_str("slow")) && t->slow == NULL) {
        t->slow = ex;
    } else if (span_eq(name, span_str("whoami"))) {
        respond(ex, CEP_CODE(2, 5), span_str(cep_exchange_peer(ex)->identity));
    } else if (span_eq(name, span_str("state"))) {
        uint64_t id = t->nobservations < 16 ? cep_observe(ex) : 0;
        if (id != 0)
            t->observations[t->nobservations++] = id;
        snprintf(text, sizeof text, "%u\n", t->counter);
        respond(ex, CEP_CODE(2, 5), span_str(text));
    } else {
        respond(ex, CEP_CODE(4, 4), span_of(NULL, 0));
    }
}

static void on_observe_end(void *user, uint64_t id)
{
    struct tool *t = user;
    for (unsigned i = 0; i < t->nobservations; i++)
        if (t->observations[i] == id)
            t->observations[i] = t->observations[--t->nobservations];
    fprintf(stderr, "observation ended\n");
}

static void on_psk(void *user, uint64_t session, const char *identity, const char *server_name)
{
    (void)server_name;
    const struct tool *t = user;
    bool known = t->key != NULL && strcmp(identity, t->identity) == 0;
    cep_psk(t->ep, session, (const uint8_t *)t->key, known ? strlen(t->key) : 0);
}

static int on_tick(sd_event_source *source, uint64_t usec, void *user)
{
    struct tool *t = user;
    char text[16];
    snprintf(text, sizeof text, "%u\n", ++t->counter);
    struct cep_message n = {.code = CEP_CODE(2, 5), .payload = span_str(text)};
    for (unsigned i = 0; i < t->nobservations; i++)
        cep_notify(t->ep, t->observations[i], &n, t->counter % 2 == 0, false);
    if (t->slow != NULL && t->counter % 5 == 0) { /* long after the acknowledgement was due */
        respond(t->slow, CEP_CODE(2, 5), span_str("slow"));
        t->slow = NULL;
    }
    sd_event_source_set_time(source, usec + 200000);
    return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int serve(struct tool *t, const char *host, const char *port)
{
    uint16_t bound;
    int err = cep_listen(t->ep, host, (uint16_t)atoi(port), t->key != NULL, &bound);
    if (err < 0 || sd_event_add_time_relative(t->loop, NULL, CLOCK_MONOTONIC, 200000, 1000, on_tick, t) < 0) {
        fprintf(stderr, "cannot listen: %s\n", strerror(-err));
        return 1;
    }
    printf("%u\n", bound);
    fflush(stdout);
    return sd_event_loop(t->loop) < 0;
}

/* --- client --- */

static void on_response(void *user, enum st st, const struct cep_message *rsp)
{
    struct tool *t = user;
    if (rsp == NULL) {
        fprintf(stderr, "failed: %s\n", st_map(st)->text);
        sd_event_exit(t->loop, 1);
        return;
    }
    fprintf(stderr, "%u.%02u\n", rsp->code >> 5, rsp->code & 31u);
    if (rsp->payload.n != 0)
        fwrite(rsp->payload.p, 1, rsp->payload.n, stdout);
    fflush(stdout);
    if (!t->observing || --t->left == 0)
        sd_event_exit(t->loop, rsp->code >> 5 != 2);
}

static int run_client(struct tool *t, const char *host, const char *port, const char *what, const char *path)
{
    static uint8_t body[1 << 20];
    static const char *const methods[] = {"GET", "POST", "PUT", "DELETE"};
    struct cep_message req = {.code = CEP_GET};
    for (uint8_t i = 0; !t->observing && i < 4; i++)
        if (strcmp(what, methods[i]) == 0)
            req.code = (uint8_t)(i + 1);
    t->left = (unsigned)atoi(what);
    if (req.code == CEP_POST || req.code == CEP_PUT)
        req.payload = span_of(body, fread(body, 1, sizeof body, stdin));
    size_t name = strcspn(path, "?");
    const struct cep_option opts[] = {{11, span_of(path, name)}, {15, span_str(path + name + (path[name] == '?'))}};
    req.opts = opts;
    req.nopts = path[name] == '?' ? 2 : 1;
    int err;
    uint16_t n = (uint16_t)atoi(port);
    struct cep_session *s = t->certs != NULL
                                ? cep_connect_certificate(t->ep, host, n, t->certs, NULL, &err)
                                : cep_connect(t->ep, host, n, t->identity, span_str(t->key != NULL ? t->key : ""), &err);
    if (s == NULL || cep_request(s, &req, t->observing, false, on_response, t) == 0) {
        fprintf(stderr, "cannot ask: %s\n", strerror(-err));
        return 1;
    }
    return sd_event_loop(t->loop) != 0;
}

static bool load_certs(struct tool *t)
{
    char crt[256], key[256], err[256];
    struct cep_certificate one = {NULL, crt, key};
    snprintf(crt, sizeof crt, "%s.crt", t->key);
    snprintf(key, sizeof key, "%s.key", t->key);
    struct cep_certs_files files = {.list = &one, .n = 1, .trust_anchors = t->identity + 1};
    t->certs = cep_certs_load(&files, err, sizeof err);
    if (t->certs == NULL)
        fprintf(stderr, "%s\n", err);
    return t->certs != NULL;
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    bool server = strcmp(argv[1], "server") == 0;
    int fixed = server ? 4 : 6;
    if (argc != fixed && argc != fixed + 2)
        return 2;
    static struct tool t;
    t.observing = strcmp(argv[1], "observe") == 0;
    if (argc > fixed) {
        t.identity = argv[fixed];
        t.key = argv[fixed + 1];
    }
    struct cep_callbacks cb = {.user = &t, .request = on_request, .psk = on_psk, .observe_end = on_observe_end};
    const char *ack = getenv("CEP_ACK_MS");
    struct cep_config cfg = {.max_body = 1 << 20, .ack_timeout_ms = ack != NULL ? (unsigned)atoi(ack) : 0};
    if (ack != NULL)
        cfg.max_retransmit = 10;
    if (sd_event_new(&t.loop) < 0 || (t.ep = cep_endpoint_new(t.loop, &cfg, &cb)) == NULL)
        return 1;
    if (t.identity != NULL && t.identity[0] == '@' && !load_certs(&t))
        return 1;
    cep_endpoint_certificates(t.ep, t.certs, false);
    int rc = server ? serve(&t, argv[2], argv[3]) : run_client(&t, argv[2], argv[3], argv[4], argv[5]);
    cep_certs_unref(t.certs);
    cep_endpoint_free(t.ep);
    sd_event_unref(t.loop);
    return rc;
}
