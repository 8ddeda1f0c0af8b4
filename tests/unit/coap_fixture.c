#include "tests/unit/coap_fixture.h"
#include "tests/unit/clock.h"

#include <stdlib.h>

#define BIG 10000

static void reply(struct cep_exchange *ex, uint8_t code, struct span body, bool sensitive)
{
    cep_respond(ex, &(struct cep_message){.code = code, .payload = body}, sensitive);
}

static int on_slow(sd_event_source *source, uint64_t usec, void *user)
{
    (void)usec;
    reply(user, CEP_CODE(2, 5), span_str("at last"), false);
    sd_event_source_unref(source);
    return 0;
}

static void slow(struct pair *f, struct cep_exchange *ex)
{
    sd_event_source *source;
    assert_true(sd_event_add_time_relative(f->loop, &source, CLOCK_MONOTONIC, 300000, 1000, on_slow, ex) >= 0);
}

static void big(struct cep_exchange *ex)
{
    static uint8_t body[BIG];
    fill(body, sizeof body, BIG);
    reply(ex, CEP_CODE(2, 5), span_of(body, sizeof body), false);
}

static void on_request(void *user, struct cep_exchange *ex, const struct cep_message *req)
{
    struct pair *f = user;
    const struct cep_option *path = cep_option_find(req, 11);
    struct span name = path != NULL ? path->val : span_of(NULL, 0);
    unsigned n = f->served++;
    if (span_eq(name, span_str("echo"))) {
        reply(ex, CEP_CODE(2, 4), req->payload, false);
    } else if (span_eq(name, span_str("whoami"))) {
        reply(ex, CEP_CODE(2, 5), span_str(cep_exchange_peer(ex)->identity), false);
    } else if (span_eq(name, span_str("slow"))) {
        slow(f, ex);
    } else if (span_eq(name, span_str("order"))) {
        if (n < sizeof f->order && req->payload.n == 1)
            f->order[n] = req->payload.p[0];
        reply(ex, CEP_CODE(2, 4), span_of(NULL, 0), false);
    } else if (span_eq(name, span_str("state"))) {
        uint64_t id = cep_exchange_observe(ex) ? cep_observe(ex) : 0;
        if (id != 0)
            f->observation = id;
        reply(ex, CEP_CODE(2, 5), span_of(&f->state, 1), false);
    } else if (span_eq(name, span_str("secret"))) {
        reply(ex, CEP_CODE(2, 5), span_str("a key"), true);
    } else if (span_eq(name, span_str("secrets"))) {
        reply(ex, CEP_CODE(2, 5), span_str("a long secret, in three pieces for all"), true);
    } else if (span_eq(name, span_str("big"))) {
        big(ex);
    } else if (span_eq(name, span_str("hold"))) {
        f->held = ex;
    } else {
        reply(ex, CEP_CODE(4, 4), span_of(NULL, 0), false);
    }
}

static void on_psk(void *user, uint64_t session, const char *identity, const char *server_name)
{
    (void)server_name;
    struct pair *f = user;
    f->psk_asked++;
    if (strncmp(identity, "late", 4) == 0)
        f->late = session;
    else
        cep_psk(f->server, session, (const uint8_t *)"0123456789abcdef", strcmp(identity, "alice") == 0 ? 16 : 0);
}

static void on_opened(void *user, const struct cep_peer *peer)
{
    struct pair *f = user;
    f->server_opened++;
    f->last_serial = peer->serial;
    f->last_cred = peer->cred;
}

static void on_closed(void *user, uint64_t serial)
{
    struct pair *f = user;
    f->server_closed++;
    f->closed_serial = serial;
}

static void on_observe_end(void *user, uint64_t observation)
{
    (void)observation;
    ((struct pair *)user)->observe_ended++;
}

static void on_client_opened(void *user, const struct cep_peer *peer)
{
    (void)peer;
    ((struct pair *)user)->client_opened++;
}

static void on_client_closed(void *user, uint64_t serial)
{
    (void)serial;
    ((struct pair *)user)->client_closed++;
}

static const char *on_links(void *user)
{
    (void)user;
    return "</echo>,</state>;obs";
}

struct pair *pair_new_as(bool secure, const char *host, const struct cep_config *cfg, const char *identity,
                         const char *key)
{
    struct pair *f = calloc(1, sizeof *f);
    assert_non_null(f);
    assert_true(sd_event_new(&f->loop) >= 0);
    struct cep_callbacks server = {.user = f,
                                   .request = on_request,
                                   .psk = on_psk,
                                   .opened = on_opened,
                                   .closed = on_closed,
                                   .observe_end = on_observe_end,
                                   .links = on_links};
    struct cep_callbacks client = {
        .user = f, .request = on_request, .opened = on_client_opened, .closed = on_client_closed};
    f->server = cep_endpoint_new(f->loop, cfg, &server);
    f->client = cep_endpoint_new(f->loop, cfg, &client);
    assert_non_null(f->server);
    assert_non_null(f->client);
    assert_int_equal(cep_listen(f->server, host, 0, secure, &f->port), 0);
    pair_connect(f, host, f->port, secure ? identity : NULL, key);
    return f;
}

struct pair *pair_new(bool secure, const char *host, const struct cep_config *cfg)
{
    return pair_new_as(secure, host, cfg, "alice", "0123456789abcdef");
}

void pair_connect(struct pair *f, const char *host, uint16_t port, const char *identity, const char *key)
{
    int err;
    f->session = cep_connect(f->client, host, port, identity, span_str(key), &err);
    assert_non_null(f->session);
    assert_int_equal(err, 0);
}

void pair_free(struct pair *f)
{
    cep_endpoint_free(f->client);
    cep_endpoint_free(f->server);
    sd_event_unref(f->loop);
    free(f);
}

void pair_run(struct pair *f, const unsigned *counter, unsigned want)
{
    for (uint64_t end = now_ms() + 20000; *counter < want;) {
        if (now_ms() > end)
            fail_msg("waited in vain: %u of %u", *counter, want);
        assert_true(sd_event_run(f->loop, 50000) >= 0);
    }
}

void pair_sleep(struct pair *f, unsigned ms)
{
    for (uint64_t end = now_ms() + ms; now_ms() < end;)
        assert_true(sd_event_run(f->loop, 5000) >= 0);
}

static void on_answer(void *user, enum st st, const struct cep_message *rsp)
{
    struct answer *a = user;
    a->calls++;
    a->st = st;
    if (rsp == NULL)
        return;
    free(a->body);
    a->code = rsp->code;
    a->len = rsp->payload.n;
    a->body = malloc(a->len + 1);
    assert_non_null(a->body);
    if (a->len != 0)
        memcpy(a->body, rsp->payload.p, a->len);
}

uint64_t ask_full(struct cep_session *s, uint8_t code, const char *path, struct span body, bool observe, bool ordered,
                  struct answer *a)
{
    struct cep_option opt = {11, span_str(path)};
    struct cep_message req = {code, &opt, 1, body};
    return cep_request(s, &req, observe, ordered, on_answer, a);
}

uint64_t ask_on(struct cep_session *s, uint8_t code, const char *path, struct span body, struct answer *a)
{
    return ask_full(s, code, path, body, false, false, a);
}

uint64_t ask(struct pair *f, uint8_t code, const char *path, struct span body, struct answer *a)
{
    return ask_on(f->session, code, path, body, a);
}

void answer_wipe(struct answer *a)
{
    free(a->body);
    a->body = NULL;
}

void ask_who(struct pair *f, struct cep_session *s)
{
    struct answer a = {0};
    assert_true(ask_on(s, CEP_GET, "whoami", span_of(NULL, 0), &a));
    pair_run(f, &a.calls, 1);
    assert_int_equal(a.st, ST_OK);
    assert_int_equal(a.code, CEP_CODE(2, 5));
    answer_wipe(&a);
}

void fill(uint8_t *p, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)((i * 131u + seed) >> 3 ^ i);
}
