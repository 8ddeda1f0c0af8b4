/* Keys that are not at hand at once: a look-up takes its time, other sessions go on; and what is read before it. */
#include "cse-shim/coap/key_exchange.h"
#include "tests/unit/clock.h"
#include "tests/unit/coap_fixture.h"

#include <stdlib.h>

static const uint8_t alice_key[] = "0123456789abcdef";

static struct pair *late_pair(const char *identity, const struct cep_config *cfg)
{
    struct pair *f = pair_new_as(true, "127.0.0.1", cfg, identity, (const char *)alice_key);
    pair_run(f, &f->psk_asked, 1);
    assert_true(f->late != 0);
    return f;
}

/* --- look-ups that take time --- */

static void test_others_go_on(void **state)
{
    (void)state;
    struct pair *f = late_pair("late", NULL);
    struct cep_session *late = f->session;
    uint64_t began = now_ms();
    for (unsigned i = 0; i < 100; i++)
        pair_connect(f, "127.0.0.1", f->port, "alice", (const char *)alice_key);
    pair_run(f, &f->server_opened, 100);
    ask_who(f, f->session);
    uint64_t took = now_ms() - began;
    pair_sleep(f, took < 500 ? (unsigned)(500 - took) : 0);
    assert_int_equal(f->server_opened, 100);
    cep_psk(f->server, f->late, alice_key, 16);
    pair_run(f, &f->server_opened, 101);
    assert_int_equal(f->psk_asked, 101);
    ask_who(f, late);
    pair_free(f);
}

/* The client repeats its flight meanwhile, which asks nothing anew. */
static void test_asked_once(void **state)
{
    (void)state;
    struct pair *f = late_pair("late", NULL);
    pair_sleep(f, 3500);
    assert_int_equal(f->psk_asked, 1);
    assert_int_equal(f->server_opened, 0);
    cep_psk(f->server, f->late, alice_key, 16);
    pair_run(f, &f->client_opened, 1);
    ask_who(f, f->session);
    cep_psk(f->server, f->late, alice_key, 16); /* not asked for */
    ask_who(f, f->session);
    pair_free(f);
}

static void test_refused_later(void **state)
{
    (void)state;
    struct pair *f = late_pair("late", NULL);
    struct cep_stats st;
    pair_sleep(f, 100);
    cep_psk(f->server, f->late, NULL, 0);
    pair_run(f, &f->client_closed, 1);
    cep_stats_get(f->server, &st);
    assert_int_equal(st.handshakes_failed, 1);
    assert_int_equal(st.handshakes, 0);
    cep_psk(f->server, f->late, alice_key, 16); /* gone */
    cep_psk(f->server, 12345, alice_key, 16);
    pair_free(f);
}

static void test_wrong_key_later(void **state)
{
    (void)state;
    static const uint8_t long_key[65];
    struct pair *f = late_pair("late", NULL);
    cep_psk(f->server, f->late, (const uint8_t *)"fedcba9876543210", 16);
    pair_run(f, &f->client_closed, 1);
    assert_int_equal(f->server_opened, 0);
    pair_free(f);
    f = late_pair("late", NULL);
    cep_psk(f->server, f->late, long_key, sizeof long_key);
    pair_run(f, &f->client_closed, 1);
    pair_free(f);
}

/* The endpoint ends while it waits. */
static void test_never_answered(void **state)
{
    (void)state;
    pair_free(late_pair("late", NULL));
}

/* A ClientKeyExchange larger than a datagram. */
static void test_in_fragments(void **state)
{
    (void)state;
    char identity[256];
    struct cep_config cfg = {.mtu = 256};
    memset(identity, 'x', sizeof identity);
    memcpy(identity, "late", 4);
    identity[255] = '\0';
    struct pair *f = late_pair(identity, &cfg);
    cep_psk(f->server, f->late, alice_key, 16);
    pair_run(f, &f->client_opened, 1);
    ask_who(f, f->session);
    pair_free(f);
}

/* --- what is read before --- */

/* A record with one fragment of a ClientKeyExchange whose body is `total` bytes. */
static struct span fragment(uint8_t *buf, uint16_t epoch, uint16_t seq, size_t total, size_t at, struct span part)
{
    struct wr w = wr_of(buf, 600);
    wr_be(&w, 1, 22);
    wr_be16(&w, 0xfefd);
    wr_be16(&w, epoch);
    wr_be(&w, 6, 1);
    wr_be16(&w, (uint16_t)(12 + part.n));
    wr_be(&w, 1, 16);
    wr_be(&w, 3, total);
    wr_be16(&w, seq);
    wr_be(&w, 3, at);
    wr_be(&w, 3, part.n);
    wr_spanb(&w, part);
    return wr_span(&w);
}

static bool read_whole(struct span body, uint16_t epoch, uint16_t seq, char out[256])
{
    uint8_t buf[600];
    struct key_exchange *k = key_exchange_new();
    assert_non_null(k);
    bool ok = key_exchange_read(k, fragment(buf, epoch, seq, body.n, 0, body), out, 256);
    key_exchange_free(k);
    return ok;
}

static void test_identities(void **state)
{
    (void)state;
    char out[256];
    uint8_t body[300] = {0, 5, 'a', 'l', 'i', 'c', 'e'};
    assert_true(read_whole(span_of(body, 7), 0, 2, out));
    assert_string_equal(out, "alice");
    assert_false(read_whole(span_of(body, 6), 0, 2, out)); /* shorter than it says */
    assert_false(read_whole(span_of(body, 8), 0, 2, out)); /* longer */
    assert_false(read_whole(span_of(body, 7), 1, 2, out)); /* under keys */
    assert_false(read_whole(span_of(body, 7), 0, 3, out)); /* not the message that follows the ClientHello */
    body[4] = 0;
    assert_false(read_whole(span_of(body, 7), 0, 2, out)); /* what OpenSSL would cut off */
    assert_true(read_whole(span_of("\0", 2), 0, 2, out));
    assert_string_equal(out, "");
    assert_false(read_whole(span_of(body, 1), 0, 2, out));
    memset(body, 'x', sizeof body);
    body[0] = 0;
    body[1] = 255;
    assert_true(read_whole(span_of(body, 257), 0, 2, out));
    assert_int_equal(strlen(out), 255);
    body[0] = 1;
    body[1] = 0;
    assert_false(read_whole(span_of(body, 258), 0, 2, out));
}

static void test_fragments_in_any_order(void **state)
{
    (void)state;
    static const uint8_t body[] = {0, 5, 'a', 'l', 'i', 'c', 'e'};
    uint8_t buf[600];
    char out[256] = "";
    struct key_exchange *k = key_exchange_new();
    assert_non_null(k);
    assert_false(key_exchange_read(k, fragment(buf, 0, 2, 7, 5, span_of(body + 5, 2)), out, sizeof out));
    assert_false(key_exchange_read(k, fragment(buf, 0, 2, 7, 6, span_of(body, 2)), out, sizeof out));  /* beyond the end */
    assert_false(key_exchange_read(k, fragment(buf, 0, 2, 9, 0, span_of(body, 7)), out, sizeof out));  /* another length */
    assert_false(key_exchange_read(k, fragment(buf, 0, 2, 7, 0, span_of(body, 4)), out, sizeof out));
    assert_false(key_exchange_read(k, fragment(buf, 0, 2, 7, 1, span_of(body + 1, 3)), out, sizeof out)); /* again */
    struct span last = fragment(buf, 0, 2, 7, 3, span_of(body + 3, 2));
    for (size_t cut = 0; cut < last.n; cut++)
        assert_false(key_exchange_read(k, span_of(buf, cut), out, sizeof out));
    assert_true(key_exchange_read(k, last, out, sizeof out));
    assert_string_equal(out, "alice");
    key_exchange_free(k);
}

static void test_what_is_kept(void **state)
{
    (void)state;
    static uint8_t datagram[4096];
    struct key_exchange *k = key_exchange_new();
    struct span d;
    assert_non_null(k);
    for (uint8_t i = 0; i < 6; i++) {
        datagram[0] = i;
        key_exchange_keep(k, span_of(datagram, i == 1 ? 4000 : 10)); /* the fifth and sixth are too many */
    }
    for (uint8_t i = 0; i < 4; i++) {
        assert_true(key_exchange_next(k, &d));
        assert_int_equal(d.p[0], i);
    }
    assert_false(key_exchange_next(k, &d));
    key_exchange_free(k);
    k = key_exchange_new();
    assert_non_null(k);
    key_exchange_keep(k, span_of(datagram, 4096));
    key_exchange_keep(k, span_of(datagram, 1));
    assert_true(key_exchange_next(k, &d));
    assert_int_equal(d.n, 4096);
    assert_false(key_exchange_next(k, &d));
    key_exchange_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_others_go_on),   cmocka_unit_test(test_asked_once),
        cmocka_unit_test(test_refused_later),  cmocka_unit_test(test_wrong_key_later),
        cmocka_unit_test(test_never_answered), cmocka_unit_test(test_in_fragments),
        cmocka_unit_test(test_identities),     cmocka_unit_test(test_fragments_in_any_order),
        cmocka_unit_test(test_what_is_kept),
    };
    return cmocka_run_group_tests_name("coap_psk", tests, NULL, NULL);
}
