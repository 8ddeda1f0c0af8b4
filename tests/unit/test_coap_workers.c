/* CoAP in threads of its own, with the host's loop in the hands of the test: what waits, what is refused, what goes. */
#include "cse-shim/host/coap_workers.h"
#include "tests/unit/clock.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <stdlib.h>

#define PEERS 300u
#define AT_ONCE 8u /* requests of a peer on their way, RFC 7252 4.7 */

static const uint8_t key[] = "0123456789abcdef";

struct world {
    sd_event *host, *peers; /* the host's loop, and that of all clients */
    struct coap_workers *ws;
    struct cep_endpoint *ep;
    struct cep_session *sessions[PEERS];
    uint16_t port;
    bool hold;
    struct coap_exchange *held;
    unsigned taken, opened, answered, refused, ended, closed, sent;
};

static void on_request(void *user, struct coap_exchange *x, const struct cep_exchange *ex, const struct cep_message *req)
{
    struct world *w = user;
    w->taken++;
    assert_string_equal(cep_exchange_peer(ex)->identity, "alice");
    if (w->hold)
        w->held = x;
    else
        coap_workers_respond(x, &(struct cep_message){.code = CEP_CODE(2, 5), .payload = req->payload}, true);
}

static size_t on_psk(void *user, const char *identity, const char *server_name, uint8_t *out, size_t cap)
{
    (void)server_name;
    (void)user;
    if (strcmp(identity, "alice") != 0 || cap < 16)
        return 0;
    memcpy(out, key, 16);
    return 16;
}

static void on_closed(void *user, uint64_t serial)
{
    (void)serial;
    ((struct world *)user)->closed++;
}

static void on_observe_end(void *user, uint64_t observation)
{
    (void)user;
    (void)observation;
}

static void on_opened(void *user, const struct cep_peer *peer)
{
    (void)peer;
    ((struct world *)user)->opened++;
}

static void on_answer(void *user, enum st st, const struct cep_message *rsp)
{
    struct world *w = user;
    if (st != ST_OK)
        w->ended++;
    else if (rsp->code == CEP_CODE(5, 3))
        w->refused++;
    else if (rsp->code == CEP_CODE(2, 5))
        w->answered++;
}

static void turn(struct world *w, bool host)
{
    assert_true(sd_event_run(w->peers, host ? 0 : 2000) >= 0);
    if (host)
        assert_true(sd_event_run(w->host, 2000) >= 0);
}

static void turn_until(struct world *w, bool host, const unsigned *counter, unsigned want)
{
    for (uint64_t end = now_ms() + 30000; *counter < want; turn(w, host))
        if (now_ms() > end)
            fail_msg("waited in vain: %u of %u", *counter, want);
}

static void world_open(struct world *w, unsigned workers, unsigned peers)
{
    struct cep_config cfg = {0};
    struct coap_workers_calls calls = {
        .user = w, .request = on_request, .psk = on_psk, .closed = on_closed, .observe_end = on_observe_end, .links = ""};
    struct cep_callbacks cb = {.user = w, .opened = on_opened};
    int err;
    *w = (struct world){0};
    cfg.max_sessions = 1000;
    assert_true(sd_event_new(&w->host) >= 0 && sd_event_new(&w->peers) >= 0);
    assert_non_null(w->ws = coap_workers_new(w->host, workers, &cfg, &calls));
    assert_non_null(w->ep = cep_endpoint_new(w->peers, NULL, &cb));
    assert_int_equal(coap_workers_listen(w->ws, "127.0.0.1", 0, &w->port), 0);
    assert_true(coap_workers_start(w->ws));
    for (unsigned i = 0; i < peers; i++)
        assert_non_null(w->sessions[i] = cep_connect(w->ep, "127.0.0.1", w->port, "alice", span_of(key, 16), &err));
    turn_until(w, true, &w->opened, peers);
}

static void world_close(struct world *w)
{
    coap_workers_free(w->ws);
    cep_endpoint_free(w->ep);
    sd_event_unref(w->host);
    sd_event_unref(w->peers);
}

static void ask(struct world *w, struct cep_session *s)
{
    struct cep_message m = {.code = CEP_GET, .payload = span_str("x")};
    assert_true(cep_request(s, &m, false, false, on_answer, w) != 0);
}

/* The host's loop stands still: workers take so many requests and refuse the rest themselves. */
static void test_full(void **state)
{
    (void)state;
    struct world w;
    struct cep_stats st = {0};
    world_open(&w, 2, PEERS);
    for (unsigned i = 0; i < PEERS * AT_ONCE; i++)
        ask(&w, w.sessions[i % PEERS]);
    for (uint64_t end = now_ms() + 30000; st.requests < PEERS * AT_ONCE && now_ms() < end; turn(&w, false))
        coap_workers_stats(w.ws, &st);
    assert_int_equal(st.requests, PEERS * AT_ONCE);
    assert_int_equal(w.taken, 0);
    turn_until(&w, false, &w.refused, PEERS * AT_ONCE - 2 * 1024);
    unsigned taken = PEERS * AT_ONCE - w.refused;
    turn_until(&w, true, &w.answered, taken);
    assert_int_equal(w.taken, taken);
    assert_int_equal(w.answered + w.refused, PEERS * AT_ONCE);
    assert_true(w.taken <= 2 * 1024);
    assert_int_equal(w.ended, 0);
    world_close(&w);
}

/* All ends while requests wait, one is not answered, and one of ours is under way. */
static void on_done(void *user, enum st st, struct span body)
{
    (void)st;
    (void)body;
    ((struct world *)user)->sent++;
}

static void ends(unsigned workers)
{
    struct world w;
    struct cep_stats st = {0};
    struct cep_message m = {.code = CEP_POST};
    world_open(&w, workers, 20);
    w.hold = true;
    ask(&w, w.sessions[0]);
    turn_until(&w, true, &w.taken, 1);
    for (unsigned i = 1; i < 20; i++)
        ask(&w, w.sessions[i]);
    for (uint64_t end = now_ms() + 30000; workers > 1 && st.requests < 20 && now_ms() < end; turn(&w, false))
        coap_workers_stats(w.ws, &st);
    assert_false(workers == 1 && coap_workers_send(w.ws, 1000, &m, on_done, &w)); /* no such session */
    assert_true(workers == 1 || coap_workers_send(w.ws, CEP_MAX_MEMBERS * 1000, &m, on_done, &w));
    world_close(&w);
    assert_int_equal(w.closed, 0);
    assert_int_equal(w.sent, 0);
}

static void test_ends(void **state)
{
    (void)state;
    ends(1);
    ends(3);
}

/* What is not there is said, sooner or later. */
static void test_no_session(void **state)
{
    (void)state;
    struct world w;
    uint8_t out[16];
    struct cep_message m = {.code = CEP_POST};
    world_open(&w, 4, 1);
    assert_true(coap_workers_send(w.ws, CEP_MAX_MEMBERS * 1000 + 3, &m, on_done, &w));
    turn_until(&w, true, &w.sent, 1);
    assert_false(coap_workers_export(w.ws, CEP_MAX_MEMBERS * 1000 + 2, "EXPORTER-x", out, sizeof out));
    coap_workers_notify(w.ws, CEP_MAX_MEMBERS * 1000 + 1, &m, true, true);
    coap_workers_observe_cancel(w.ws, CEP_MAX_MEMBERS * 1000);
    cep_session_close(w.sessions[0]);
    turn_until(&w, true, &w.closed, 1);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_no_session),
    };
    return cmocka_run_group_tests_name("coap_workers", tests, NULL, NULL);
}
