/* What the CoAP endpoint does after seconds and minutes: --wrap of the loop's clock lets them pass at once. */
#include "tests/unit/coap_fixture.h"
#include "tests/unit/coap_relay.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#define SEC UINT64_C(1000000)

static const char alice_key[] = "0123456789abcdef";

/* --- the clock --- */

static uint64_t ahead; /* of the true time, microseconds */
static struct alarm {
    sd_event_source *source;
    uint64_t due; /* by our clock */
} alarms[4];
static unsigned nalarms;

int __real_sd_event_now(sd_event *loop, clockid_t clock, uint64_t *usec);
int __wrap_sd_event_now(sd_event *loop, clockid_t clock, uint64_t *usec);
int __real_sd_event_source_set_time(sd_event_source *source, uint64_t usec);
int __wrap_sd_event_source_set_time(sd_event_source *source, uint64_t usec);

int __wrap_sd_event_now(sd_event *loop, clockid_t clock, uint64_t *usec)
{
    int r = __real_sd_event_now(loop, clock, usec);
    *usec += ahead;
    return r;
}

int __wrap_sd_event_source_set_time(sd_event_source *source, uint64_t usec)
{
    unsigned i = 0;
    while (i < nalarms && alarms[i].source != source)
        i++;
    assert_true(i < sizeof alarms / sizeof alarms[0]);
    nalarms += i == nalarms;
    alarms[i] = (struct alarm){source, usec};
    return __real_sd_event_source_set_time(source, usec > ahead ? usec - ahead : 0);
}

/* That many seconds pass, and what is due by then is done. */
static void later(struct pair *f, unsigned seconds)
{
    ahead += seconds * SEC;
    for (unsigned i = 0; i < nalarms; i++)
        __wrap_sd_event_source_set_time(alarms[i].source, alarms[i].due);
    pair_sleep(f, 30);
}

static int new_clock(void **state)
{
    (void)state;
    ahead = nalarms = 0;
    return 0;
}

/* --- helpers --- */

static int plain_socket(const struct pair *f)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(f->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

/* A confirmable POST to echo, with further options (as on the wire) and a body; the code of the answer. */
static uint8_t post(struct pair *f, int fd, uint16_t mid, struct span options, struct span body)
{
    uint8_t out[1200], in[1200];
    struct wr w = wr_of(out, sizeof out);
    wr_u8(&w, 0x40);
    wr_u8(&w, CEP_POST);
    wr_u8(&w, (uint8_t)(mid >> 8));
    wr_u8(&w, (uint8_t)mid);
    wr_u8(&w, 0xb4); /* Uri-Path, four bytes */
    wr_bytes(&w, "echo", 4);
    wr_bytes(&w, options.p, options.n);
    wr_u8(&w, 0xff);
    wr_bytes(&w, body.p, body.n);
    assert_true(wr_ok(&w));
    assert_int_equal(send(fd, out, w.n, 0), (ssize_t)w.n);
    ssize_t n = -1;
    for (unsigned i = 0; i < 1000 && n < 0; i++) {
        assert_true(sd_event_run(f->loop, 5000) >= 0);
        n = recv(fd, in, sizeof in, 0);
    }
    assert_true(n >= 4);
    assert_int_equal(in[2] << 8 | in[3], mid);
    return in[1];
}

/* --- what is remembered, and how long --- */

/* RFC 7252 4.8.2: for EXCHANGE_LIFETIME, 247 s, and each for its own. */
static void test_duplicates(void **state)
{
    (void)state;
    const struct span none = span_of(NULL, 0), body = span_str("x");
    struct pair *f = pair_new(false, "127.0.0.1", NULL);
    int fd = plain_socket(f);
    assert_int_equal(post(f, fd, 1, none, body), CEP_CODE(2, 4));
    later(f, 200);
    assert_int_equal(post(f, fd, 2, none, body), CEP_CODE(2, 4));
    later(f, 46);
    assert_int_equal(post(f, fd, 1, none, body), CEP_CODE(2, 4));
    assert_int_equal(f->served, 2);
    later(f, 2);
    assert_int_equal(post(f, fd, 2, none, body), CEP_CODE(2, 4));
    assert_int_equal(f->served, 2);
    assert_int_equal(post(f, fd, 1, none, body), CEP_CODE(2, 4)); /* another request by now */
    assert_int_equal(f->served, 3);
    later(f, 200);
    assert_int_equal(post(f, fd, 2, none, body), CEP_CODE(2, 4));
    assert_int_equal(f->served, 4);
    close(fd);
    pair_free(f);
}

/* The oldest answers go when those kept come to 32 MiB. */
static void test_answers_kept(void **state)
{
    (void)state;
    enum { SIZE = 1000, MANY = (32 << 20) / SIZE + 100 };
    static uint8_t bytes[SIZE];
    const struct span none = span_of(NULL, 0), body = span_of(bytes, sizeof bytes);
    struct pair *f = pair_new(false, "127.0.0.1", NULL);
    int fd = plain_socket(f);
    for (uint16_t mid = 0; mid < MANY; mid++)
        assert_int_equal(post(f, fd, mid, none, body), CEP_CODE(2, 4));
    assert_int_equal(f->served, MANY);
    assert_int_equal(post(f, fd, MANY - 1, none, body), CEP_CODE(2, 4));
    assert_int_equal(post(f, fd, 300, none, body), CEP_CODE(2, 4));
    assert_int_equal(f->served, MANY);
    assert_int_equal(post(f, fd, 0, none, body), CEP_CODE(2, 4));
    assert_int_equal(f->served, MANY + 1);
    close(fd);
    pair_free(f);
}

/* A body in pieces is given up a minute after the last one. */
static void test_half_a_body(void **state)
{
    (void)state;
    static uint8_t piece[16];
    const struct span body = span_of(piece, sizeof piece);
    struct pair *f = pair_new(false, "127.0.0.1", NULL);
    int fd = plain_socket(f);
    assert_int_equal(post(f, fd, 1, span_str("\xd1\x03\x08"), body), CEP_CODE(2, 31)); /* Block1: 0, more to come */
    later(f, 59);
    assert_int_equal(post(f, fd, 2, span_str("\xd1\x03\x18"), body), CEP_CODE(2, 31));
    later(f, 59);
    assert_int_equal(post(f, fd, 3, span_str("\xd1\x03\x28"), body), CEP_CODE(2, 31));
    later(f, 61);
    assert_int_equal(post(f, fd, 4, span_str("\xd1\x03\x30"), body), CEP_CODE(4, 8));
    assert_int_equal(f->served, 0);
    close(fd);
    pair_free(f);
}

/* --- sessions --- */

static void test_handshake_limit(void **state)
{
    (void)state;
    struct pair *f = pair_new(true, "127.0.0.1", NULL);
    struct relay r;
    struct hello_gate gate = {.stop_after = 2};
    ask_who(f, f->session);
    relay_open(&r, f->loop, f->port, 1);
    r.pass = hello_gate_pass;
    r.user = &gate;
    pair_connect(f, "127.0.0.1", r.port, "alice", alice_key);
    pair_run(f, &gate.hellos, 2);
    struct cep_stats st = {0};
    while (st.handshakes == 0) {
        pair_sleep(f, 5);
        cep_stats_get(f->server, &st);
    }
    later(f, 29);
    cep_stats_get(f->server, &st);
    assert_int_equal(st.handshakes, 1);
    assert_int_equal(f->client_closed, 0);
    later(f, 2);
    cep_stats_get(f->server, &st);
    assert_int_equal(st.handshakes, 0);
    assert_int_equal(st.handshakes_failed, 1);
    assert_int_equal(st.sessions, 1);
    assert_int_equal(f->client_closed, 1); /* its own limit */
    relay_close(&r);
    pair_free(f);
}

static void test_idle(void **state)
{
    (void)state;
    const struct cep_config cfg = {.idle_seconds = 100};
    struct pair *f = pair_new(true, "127.0.0.1", &cfg);
    ask_who(f, f->session);
    pair_connect(f, "127.0.0.1", f->port, "alice", alice_key);
    ask_who(f, f->session);
    later(f, 60);
    ask_who(f, f->session);
    later(f, 50);
    assert_int_equal(f->server_closed, 1); /* the first */
    later(f, 48);
    assert_int_equal(f->server_closed, 1);
    ask_who(f, f->session);
    later(f, 99);
    assert_int_equal(f->server_closed, 1);
    later(f, 2);
    assert_int_equal(f->server_closed, 2);
    pair_free(f);
}

/* --- observing --- */

/* Nothing within Max-Age (60 s by default), and 5 to 15 s more: the client registers again (RFC 7641 3.3.1). */
static void test_observed_anew(void **state)
{
    (void)state;
    struct pair *f = pair_new(true, "127.0.0.1", NULL);
    struct answer a = {0};
    assert_true(ask_full(f->session, CEP_GET, "state", span_of(NULL, 0), true, false, &a) != 0);
    pair_run(f, &a.calls, 1);
    later(f, 64);
    assert_int_equal(f->served, 1);
    for (unsigned round = 2; round < 5; round++) {
        later(f, 76);
        pair_run(f, &a.calls, round);
        assert_int_equal(f->served, round);
        assert_int_equal(a.st, ST_OK);
    }
    f->state = 7;
    struct cep_message n = {.code = CEP_CODE(2, 5), .payload = span_of(&f->state, 1)};
    cep_notify(f->server, f->observation, &n, true, false);
    pair_run(f, &a.calls, 5);
    assert_int_equal(a.body[0], 7);
    answer_wipe(&a);
    pair_free(f);
}

/* The same, and the server is not there any more: whoever observes is told. */
static void test_observed_in_vain(void **state)
{
    (void)state;
    const struct cep_config cfg = {.ack_timeout_ms = 5, .max_retransmit = 2};
    struct pair *f = pair_new(true, "127.0.0.1", &cfg);
    struct relay r;
    struct answer a = {0};
    relay_open(&r, f->loop, f->port, 1);
    pair_connect(f, "127.0.0.1", r.port, "alice", alice_key);
    assert_true(ask_full(f->session, CEP_GET, "state", span_of(NULL, 0), true, false, &a) != 0);
    pair_run(f, &a.calls, 1);
    r.loss = 100;
    later(f, 76);
    pair_run(f, &a.calls, 2);
    assert_true(a.st == ST_TIMEOUT || a.st == ST_UNREACHABLE);
    answer_wipe(&a);
    relay_close(&r);
    pair_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_duplicates, new_clock),
        cmocka_unit_test_setup(test_answers_kept, new_clock),
        cmocka_unit_test_setup(test_half_a_body, new_clock),
        cmocka_unit_test_setup(test_handshake_limit, new_clock),
        cmocka_unit_test_setup(test_idle, new_clock),
        cmocka_unit_test_setup(test_observed_anew, new_clock),
        cmocka_unit_test_setup(test_observed_in_vain, new_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
