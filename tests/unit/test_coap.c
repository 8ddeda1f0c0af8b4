/* The CoAP endpoint over real sockets on loopback, with real handshakes. */
#include "tests/unit/coap_fixture.h"

#include <stdlib.h>

static const char key_a[] = "0123456789abcdef";

/* --- round trips --- */

static void round_trip(bool secure, const char *host, size_t n)
{
    struct pair *f = pair_new(secure, host, NULL);
    uint8_t *body = malloc(n + 1);
    assert_non_null(body);
    fill(body, n, (unsigned)n);
    struct answer a = {0};
    assert_true(ask(f, CEP_POST, "echo", span_of(body, n), &a));
    pair_run(f, &a.calls, 1);
    assert_int_equal(a.st, ST_OK);
    assert_int_equal(a.code, CEP_CODE(2, 4));
    assert_int_equal(a.len, n);
    assert_memory_equal(a.body, body, n);
    assert_int_equal(f->served, 1);
    answer_wipe(&a);
    free(body);
    pair_free(f);
}

static const size_t sizes[] = {0, 1, 15, 16, 17, 255, 900, 1023, 1024, 1025, 2048, 5000, 65535, 65536};

static void test_plain_sizes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        round_trip(false, "127.0.0.1", sizes[i]);
}

static void test_dtls_sizes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        round_trip(true, "127.0.0.1", sizes[i]);
}

static void test_ipv6(void **state)
{
    (void)state;
    round_trip(false, "::1", 3000);
    round_trip(true, "::1", 3000);
}

/* Bound to all addresses, the answer leaves from the one that was asked; a connected client takes no other. */
static void any_address(const char *any, const char *host)
{
    struct pair *f = pair_new(true, "127.0.0.1", NULL);
    uint16_t port;
    assert_int_equal(cep_listen(f->server, any, 0, true, &port), 0);
    pair_connect(f, host, port, "alice", key_a);
    struct answer a = {0};
    assert_true(ask(f, CEP_GET, "whoami", span_of(NULL, 0), &a));
    pair_run(f, &a.calls, 1);
    assert_int_equal(a.code, CEP_CODE(2, 5));
    answer_wipe(&a);
    pair_free(f);
}

static void test_any_address(void **state)
{
    (void)state;
    any_address("0.0.0.0", "127.0.0.1");
    any_address("0.0.0.0", "127.0.0.77");
    any_address("::", "::1");
}

static void test_identity(void **state)
{
    (void)state;
    struct pair *f = pair_new(true, "127.0.0.1", NULL);
    struct answer a = {0};
    assert_true(ask(f, CEP_GET, "whoami", span_of(NULL, 0), &a));
    pair_run(f, &a.calls, 1);
    assert_int_equal(a.len, strlen("alice"));
    assert_memory_equal(a.body, "alice", a.len);
    uint8_t mine[32], theirs[32];
    assert_true(cep_export(f->client, cep_session_serial(f->session), "EXPORTER-test", mine, sizeof mine));
    assert_true(cep_export(f->server, f->last_serial, "EXPORTER-test", theirs, sizeof theirs));
    assert_memory_equal(mine, theirs, sizeof mine);
    answer_wipe(&a);
    pair_free(f);
}

static void test_body_too_large(void **state)
{
    (void)state;
    struct cep_config cfg = {.max_body = 8192};
    struct pair *f = pair_new(true, "127.0.0.1", &cfg);
    static uint8_t body[20000];
    struct answer a = {0};
    assert_true(ask(f, CEP_POST, "echo", span_of(body, sizeof body), &a));
    pair_run(f, &a.calls, 1);
    assert_int_equal(a.code, CEP_CODE(4, 13));
    assert_int_equal(f->served, 0);
    answer_wipe(&a);
    pair_free(f);
}

/* --- sessions --- */

static void refused(const char *identity, const char *key)
{
    struct pair *f = pair_new_as(true, "127.0.0.1", NULL, identity, key);
    struct answer a = {0};
    assert_true(ask(f, CEP_GET, "whoami", span_of(NULL, 0), &a));
    pair_run(f, &f->client_closed, 1);
    assert_int_equal(a.calls, 1);
    assert_int_equal(a.st, ST_UNREACHABLE);
    struct cep_stats st;
    cep_stats_get(f->server, &st);
    assert_int_equal(f->psk_asked, 1);
    assert_int_equal(st.handshakes_failed, 1);
    assert_int_equal(st.sessions_total, 0);
    assert_int_equal(f->served, 0);
    pair_free(f);
}

static void test_wrong_key(void **state)
{
    (void)state;
    refused("alice", "fedcba9876543210");
}

static void test_unknown_identity(void **state)
{
    (void)state;
    refused("mallory", key_a);
}

static void test_close_notify(void **state)
{
    (void)state;
    struct pair *f = pair_new(true, "127.0.0.1", NULL);
    struct answer a = {0};
    assert_true(ask(f, CEP_GET, "whoami", span_of(NULL, 0), &a));
    pair_run(f, &a.calls, 1);
    cep_session_close(f->session);
    pair_run(f, &f->server_closed, 1);
    assert_int_equal(f->closed_serial, f->last_serial);
    assert_null(cep_session_find(f->server, f->last_serial));
    answer_wipe(&a);
    pair_free(f);
}

static void test_server_asks(void **state)
{
    (void)state;
    struct pair *f = pair_new(true, "127.0.0.1", NULL);
    pair_run(f, &f->server_opened, 1);
    struct cep_session *s = cep_session_find(f->server, f->last_serial);
    assert_non_null(s);
    static uint8_t body[5000];
    fill(body, sizeof body, 7);
    struct answer a = {0};
    assert_true(ask_on(s, CEP_POST, "echo", span_of(body, sizeof body), &a));
    pair_run(f, &a.calls, 1);
    assert_int_equal(a.code, CEP_CODE(2, 4));
    assert_int_equal(a.len, sizeof body);
    assert_memory_equal(a.body, body, sizeof body);
    answer_wipe(&a);
    pair_free(f);
}

static void test_separate_response(void **state)
{
    (void)state;
    struct pair *f = pair_new(true, "127.0.0.1", NULL);
    struct answer a = {0};
    assert_true(ask(f, CEP_GET, "slow", span_of(NULL, 0), &a));
    pair_run(f, &a.calls, 1);
    assert_int_equal(a.code, CEP_CODE(2, 5));
    assert_int_equal(f->served, 1);
    struct cep_stats st;
    cep_stats_get(f->client, &st);
    assert_int_equal(st.retransmissions, 0);
    answer_wipe(&a);
    pair_free(f);
}

static void test_order(void **state)
{
    (void)state;
    struct pair *f = pair_new(true, "127.0.0.1", NULL);
    struct answer a[40] = {0};
    for (int i = 0; i < 40; i++) {
        uint8_t n = (uint8_t)i;
        assert_true(ask_full(f->session, CEP_POST, "order", span_of(&n, 1), false, i % 2 == 0, &a[i]));
    }
    pair_run(f, &f->served, 40);
    for (int i = 0; i < 40; i++) {
        pair_run(f, &a[i].calls, 1);
        assert_int_equal(f->order[i], i);
        answer_wipe(&a[i]);
    }
    pair_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_sizes),
        cmocka_unit_test(test_dtls_sizes),
        cmocka_unit_test(test_ipv6),
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_body_too_large),
        cmocka_unit_test(test_wrong_key),
        cmocka_unit_test(test_unknown_identity),
        cmocka_unit_test(test_close_notify),
        cmocka_unit_test(test_server_asks),
        cmocka_unit_test(test_separate_response),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_any_address),
    };
    return cmocka_run_group_tests_name("coap", tests, NULL, NULL);
}
