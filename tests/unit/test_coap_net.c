/* The CoAP endpoint on a bad network: loss, repetition, reordering, floods; and Observe. */
#include "tests/unit/coap_fixture.h"
#include "tests/unit/coap_relay.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static const char alice_key[] = "0123456789abcdef";
static const struct cep_config fast = {.ack_timeout_ms = 10, .max_retransmit = 9};

/* A pair whose client reaches the server through a relay only. */
static struct pair *relayed(struct relay *r, bool secure, uint64_t seed, const struct cep_config *cfg)
{
    struct pair *f = pair_new(secure, "127.0.0.1", cfg);
    struct cep_session *direct = f->session;
    cep_session_close(direct);
    f->client_closed = 0;
    relay_open(r, f->loop, f->port, seed);
    pair_connect(f, "127.0.0.1", r->port, secure ? "alice" : NULL, alice_key);
    return f;
}

/* --- loss --- */

static void lossy(bool secure, uint64_t seed)
{
    struct relay r;
    struct pair *f = relayed(&r, secure, seed, &fast);
    ask_who(f, f->session); /* the handshake has its own, slower clock */
    r.loss = 10;
    r.dup = 10;
    r.reorder = 5;
    unsigned before = f->served;
    static uint8_t body[6000];
    fill(body, sizeof body, 3);
    for (unsigned i = 0; i < 6; i++) {
        struct answer a = {0};
        assert_true(ask(f, CEP_POST, "echo", span_of(body, i * 1000), &a));
        pair_run(f, &a.calls, 1);
        assert_int_equal(a.st, ST_OK);
        assert_int_equal(a.len, i * 1000);
        assert_memory_equal(a.body, body, a.len);
        answer_wipe(&a);
    }
    assert_int_equal(f->served - before, 6); /* never twice */
    struct cep_stats st;
    cep_stats_get(f->client, &st);
    assert_true(r.lost == 0 || st.retransmissions > 0);
    relay_close(&r);
    pair_free(f);
}

static void test_loss(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        lossy(false, seed);
        lossy(true, seed);
    }
}

static void test_handshake_loss(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct relay r;
        struct pair *f = relayed(&r, true, seed, &fast);
        r.loss = 15;
        r.reorder = 15;
        r.dup = 15;
        pair_run(f, &f->server_opened, 1);
        pair_run(f, &f->client_opened, 1);
        relay_close(&r);
        pair_free(f);
    }
}

static void test_timeout(void **state)
{
    (void)state;
    struct relay r;
    struct cep_config cfg = {.ack_timeout_ms = 20, .max_retransmit = 2};
    struct pair *f = relayed(&r, true, 1, &cfg);
    ask_who(f, f->session);
    r.loss = 100;
    struct answer a = {0};
    assert_true(ask(f, CEP_GET, "whoami", span_of(NULL, 0), &a));
    pair_run(f, &a.calls, 1);
    assert_int_equal(a.st, ST_TIMEOUT);
    relay_close(&r);
    pair_free(f);
}

/* --- floods --- */

/* Let the server take in what was sent, however slow the machine is; what the kernel cannot hold would be lost. */
static void cookies_sent(struct pair *f, uint64_t want)
{
    struct cep_stats st;
    for (int i = 0; i < 1000; i++) {
        cep_stats_get(f->server, &st);
        if (st.cookies_sent >= want)
            return;
        pair_sleep(f, 5);
    }
}

static void test_cookie_flood(void **state)
{
    (void)state;
    struct relay r;
    struct pair *f = relayed(&r, true, 1, NULL);
    struct hello_gate g = {0};
    r.pass = hello_gate_pass;
    r.user = &g;
    ask_who(f, f->session);
    assert_int_equal(g.hellos, 2); /* without cookie, and with one made for the relay's address */
    struct cep_stats before, after;
    cep_stats_get(f->server, &before);
    struct sockaddr_in server = {
        .sin_family = AF_INET, .sin_port = htons(f->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < 1000; i++) {
        int fd = socket(AF_INET, SOCK_DGRAM, 0);
        for (int k = 0; k < 2; k++)
            sendto(fd, g.hello[k], g.len[k], 0, (struct sockaddr *)&server, sizeof server);
        close(fd);
        if (i % 50 == 0)
            cookies_sent(f, before.cookies_sent + 2 * (uint64_t)(i + 1));
    }
    cookies_sent(f, before.cookies_sent + 2000);
    pair_sleep(f, 50);
    cep_stats_get(f->server, &after);
    assert_int_equal(after.cookies_sent - before.cookies_sent, 2000);
    assert_int_equal(after.handshakes, 0);
    assert_int_equal(after.sessions, 1);
    assert_int_equal(after.handshakes_failed, before.handshakes_failed);
    ask_who(f, f->session);
    relay_close(&r);
    pair_free(f);
}

/* Whoever's address is in a ClientHello gets fewer bytes than the ClientHello had, whatever is in it. */
static void test_no_amplification(void **state)
{
    (void)state;
    struct relay r;
    struct pair *f = relayed(&r, true, 1, NULL);
    struct hello_gate g = {0};
    r.pass = hello_gate_pass;
    r.user = &g;
    ask_who(f, f->session);
    struct sockaddr_in server = {
        .sin_family = AF_INET, .sin_port = htons(f->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&server, sizeof server), 0);
    unsigned answers = 0;
    for (size_t i = 0; i < 2000; i++) { /* whole ones, then each byte changed, then each length */
        uint8_t hello[512], answer[2048];
        size_t n = g.len[i % 2], at = i / 2 % n;
        memcpy(hello, g.hello[i % 2], n);
        if (i / 2 >= n)
            n = at;
        else if (i > 1)
            hello[at] ^= (uint8_t)(1 + i % 255);
        assert_true(send(fd, hello, n, 0) >= 0);
        sd_event_run(f->loop, 200);
        for (ssize_t got; (got = recv(fd, answer, sizeof answer, 0)) > 0; answers++)
            assert_true((size_t)got <= n);
    }
    assert_true(answers >= 2);
    close(fd);
    relay_close(&r);
    pair_free(f);
}

static void test_garbage(void **state)
{
    (void)state;
    struct relay r;
    struct pair *f = relayed(&r, true, 1, NULL);
    ask_who(f, f->session);
    for (unsigned i = 0; i < 500; i++) {
        uint8_t junk[200];
        fill(junk, sizeof junk, i);
        junk[0] = (uint8_t)(20 + i % 5); /* looks like a record of the live session */
        junk[1] = 0xfe;
        junk[2] = 0xfd;
        junk[3] = 0;
        junk[4] = (uint8_t)(i % 3);
        relay_inject(&r, span_of(junk, 13 + i % 180));
    }
    pair_sleep(f, 50);
    ask_who(f, f->session);
    assert_int_equal(f->server_closed, 0);
    relay_close(&r);
    pair_free(f);
}

static void test_session_limit(void **state)
{
    (void)state;
    struct cep_config cfg = {.max_sessions = 3};
    struct pair *f = pair_new(true, "127.0.0.1", &cfg);
    for (unsigned i = 1; i <= 5; i++) {
        pair_run(f, &f->server_opened, i);
        pair_connect(f, "127.0.0.1", f->port, "alice", alice_key);
    }
    pair_run(f, &f->server_opened, 6);
    struct cep_stats st;
    cep_stats_get(f->server, &st);
    assert_int_equal(st.sessions, 3);
    assert_int_equal(st.evicted, 3);
    pair_run(f, &f->server_closed, 3);
    pair_run(f, &f->client_closed, 3); /* they were told */
    ask_who(f, f->session);
    pair_free(f);
}

/* Peers that prove their address and then stay silent push out the oldest of their kind, nothing else. */
static void test_handshake_limit(void **state)
{
    (void)state;
    struct cep_config cfg = {.max_handshakes = 2};
    struct pair *f = pair_new(true, "127.0.0.1", &cfg);
    struct cep_session *honest = f->session;
    ask_who(f, honest);
    struct relay r[5];
    struct hello_gate g[5];
    for (unsigned i = 0; i < 5; i++) {
        relay_open(&r[i], f->loop, f->port, 1);
        g[i] = (struct hello_gate){.stop_after = 2};
        r[i].pass = hello_gate_pass;
        r[i].user = &g[i];
        pair_connect(f, "127.0.0.1", r[i].port, "alice", alice_key);
        pair_run(f, &g[i].hellos, 2);
        pair_sleep(f, 20);
    }
    struct cep_stats st;
    cep_stats_get(f->server, &st);
    assert_int_equal(st.handshakes, 2);
    assert_int_equal(st.evicted, 3);
    assert_int_equal(st.sessions, 1);
    ask_who(f, honest);
    pair_connect(f, "127.0.0.1", f->port, "alice", alice_key); /* a newcomer gets in */
    ask_who(f, f->session);
    for (unsigned i = 0; i < 5; i++)
        relay_close(&r[i]);
    pair_free(f);
}

/* A client that falls silent in its handshake and begins again from the same address, and the next one the same: the
 * handshakes left behind are dropped, and the session is the newest's. */
static void test_begun_anew(void **state)
{
    (void)state;
    struct pair *f = pair_new(true, "127.0.0.1", NULL);
    struct relay r;
    struct hello_gate g;
    struct cep_stats st;
    ask_who(f, f->session);
    relay_open(&r, f->loop, f->port, 1);
    r.pass = hello_gate_pass;
    r.user = &g;
    for (unsigned i = 0; i < 2; i++) {
        g = (struct hello_gate){.stop_after = 2};
        pair_connect(f, "127.0.0.1", r.port, "alice", alice_key);
        pair_run(f, &g.hellos, 2);
        pair_sleep(f, 20);
        cep_stats_get(f->server, &st);
        assert_int_equal(st.handshakes, 1);
        assert_int_equal(st.sessions, 1 + i);
        cep_session_close(f->session);
        g = (struct hello_gate){0};
        pair_connect(f, "127.0.0.1", r.port, "alice", alice_key);
        ask_who(f, f->session);
        cep_stats_get(f->server, &st);
        assert_int_equal(st.handshakes, 0);
        assert_int_equal(st.handshakes_failed, 1 + i);
        assert_int_equal(st.sessions, 2);
        assert_int_equal(f->server_closed, i); /* the one before */
    }
    relay_close(&r);
    pair_free(f);
}

/* --- Observe --- */

static void notify(struct pair *f, uint8_t v, bool confirmable, bool queue)
{
    f->state = v;
    struct cep_message n = {.code = CEP_CODE(2, 5), .payload = span_of(&f->state, 1)};
    cep_notify(f->server, f->observation, &n, confirmable, queue);
}

static uint64_t observe(struct pair *f, struct answer *a)
{
    uint64_t h = ask_full(f->session, CEP_GET, "state", span_of(NULL, 0), true, false, a);
    assert_true(h != 0);
    pair_run(f, &a->calls, 1);
    assert_int_equal(a->st, ST_OK);
    assert_true(f->observation != 0);
    return h;
}

static void observing(bool confirmable)
{
    struct pair *f = pair_new(true, "127.0.0.1", NULL);
    struct answer a = {0};
    uint64_t h = observe(f, &a);
    for (uint8_t i = 1; i <= 10; i++) {
        notify(f, i, confirmable, false);
        pair_run(f, &a.calls, 1u + i);
        assert_int_equal(a.len, 1);
        assert_int_equal(a.body[0], i);
    }
    cep_cancel(f->session, h);
    pair_run(f, &f->observe_ended, 1);
    notify(f, 99, confirmable, false);
    pair_sleep(f, 30);
    assert_int_equal(a.calls, 11);
    answer_wipe(&a);
    pair_free(f);
}

static void test_observe(void **state)
{
    (void)state;
    observing(true);
    observing(false);
}

static void test_observe_queue(void **state)
{
    (void)state;
    struct relay r;
    struct pair *f = relayed(&r, true, 5, &fast);
    struct answer a = {0};
    observe(f, &a);
    r.loss = 25;
    r.dup = 10;
    for (uint8_t i = 1; i <= 20; i++)
        notify(f, i, true, true);
    pair_run(f, &a.calls, 21);
    assert_int_equal(a.body[0], 20);
    /* Without the queue only the newest waits. */
    r.loss = r.dup = 0;
    pair_sleep(f, 200);
    assert_int_equal(a.calls, 21);
    for (uint8_t i = 31; i <= 40; i++)
        notify(f, i, true, false);
    pair_run(f, &a.calls, 23);
    pair_sleep(f, 50);
    assert_int_equal(a.calls, 23);
    assert_int_equal(a.body[0], 40);
    answer_wipe(&a);
    relay_close(&r);
    pair_free(f);
}

static void test_observe_failure(void **state)
{
    (void)state;
    struct relay r;
    struct cep_config cfg = {.ack_timeout_ms = 20, .max_retransmit = 1};
    struct pair *f = relayed(&r, true, 5, &cfg);
    struct answer a = {0};
    observe(f, &a);
    r.loss = 100;
    notify(f, 1, true, false);
    pair_run(f, &f->observe_ended, 1);
    answer_wipe(&a);
    relay_close(&r);
    pair_free(f);
}

/* A newer notification takes the place of one that is not acknowledged (RFC 7641 4.5.2). */
static void test_observe_replace(void **state)
{
    (void)state;
    struct relay r;
    struct cep_config cfg = {.ack_timeout_ms = 100};
    struct pair *f = relayed(&r, true, 5, &cfg);
    struct answer a = {0};
    observe(f, &a);
    r.loss = 100;
    notify(f, 1, true, false);
    pair_sleep(f, 20);
    r.loss = 0;
    notify(f, 2, true, false);
    pair_run(f, &a.calls, 2);
    assert_int_equal(a.body[0], 2); /* 1 never came */
    notify(f, 3, true, false);
    pair_run(f, &a.calls, 3);
    assert_int_equal(a.body[0], 3);
    pair_sleep(f, 200);
    assert_int_equal(a.calls, 3);
    answer_wipe(&a);
    relay_close(&r);
    pair_free(f);
}

/* Who never confirms anything is asked to now and then; silence ends the observation. */
static void test_observe_stale(void **state)
{
    (void)state;
    struct relay r;
    struct cep_config cfg = {.ack_timeout_ms = 10, .max_retransmit = 1, .confirm_seconds = 1};
    struct pair *f = relayed(&r, true, 5, &cfg);
    struct answer a = {0};
    observe(f, &a);
    r.loss = 100;
    notify(f, 1, false, false);
    pair_sleep(f, 200);
    assert_int_equal(f->observe_ended, 0);
    pair_sleep(f, 900);
    notify(f, 2, false, false);
    pair_run(f, &f->observe_ended, 1);
    answer_wipe(&a);
    relay_close(&r);
    pair_free(f);
}

static void test_observe_session_end(void **state)
{
    (void)state;
    struct pair *f = pair_new(true, "127.0.0.1", NULL);
    struct answer a = {0};
    observe(f, &a);
    cep_session_close(f->session);
    pair_run(f, &f->observe_ended, 1);
    assert_int_equal(a.calls, 2);
    assert_int_equal(a.st, ST_UNREACHABLE);
    answer_wipe(&a);
    pair_free(f);
}

static void test_observe_error_ends(void **state)
{
    (void)state;
    struct pair *f = pair_new(true, "127.0.0.1", NULL);
    struct answer a = {0};
    observe(f, &a);
    struct cep_message gone = {.code = CEP_CODE(4, 4)};
    cep_notify(f->server, f->observation, &gone, true, false);
    pair_run(f, &a.calls, 3);
    assert_int_equal(a.code, CEP_CODE(4, 4));
    assert_int_equal(a.st, ST_UNREACHABLE);
    assert_int_equal(f->observe_ended, 1);
    answer_wipe(&a);
    pair_free(f);
}

static void test_observe_large(void **state)
{
    (void)state;
    struct pair *f = pair_new(true, "127.0.0.1", NULL);
    struct answer a = {0};
    observe(f, &a);
    static uint8_t body[9000];
    fill(body, sizeof body, 1);
    struct cep_message n = {.code = CEP_CODE(2, 5), .payload = span_of(body, sizeof body)};
    cep_notify(f->server, f->observation, &n, true, false);
    pair_run(f, &a.calls, 2);
    assert_int_equal(a.len, sizeof body);
    assert_memory_equal(a.body, body, sizeof body);
    answer_wipe(&a);
    pair_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loss),
        cmocka_unit_test(test_handshake_loss),
        cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_cookie_flood),
        cmocka_unit_test(test_no_amplification),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_session_limit),
        cmocka_unit_test(test_handshake_limit),
        cmocka_unit_test(test_begun_anew),
        cmocka_unit_test(test_observe),
        cmocka_unit_test(test_observe_queue),
        cmocka_unit_test(test_observe_failure),
        cmocka_unit_test(test_observe_replace),
        cmocka_unit_test(test_observe_stale),
        cmocka_unit_test(test_observe_session_end),
        cmocka_unit_test(test_observe_error_ends),
        cmocka_unit_test(test_observe_large),
    };
    return cmocka_run_group_tests_name("coap net", tests, NULL, NULL);
}
