/* The CoAP endpoint byte by byte: what a plain socket sends, and what comes back (RFC 7252 4). */
#include "tests/unit/coap_fixture.h"

#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct wire {
    struct pair *f;
    int fd;
};

static struct wire wire_open_with(const struct cep_config *cfg)
{
    struct wire w = {.f = pair_new(false, "127.0.0.1", cfg)};
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(w.f->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    w.fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    assert_int_equal(connect(w.fd, (struct sockaddr *)&a, sizeof a), 0);
    return w;
}

static struct wire wire_open(void)
{
    return wire_open_with(NULL);
}

static void wire_close(struct wire *w)
{
    close(w->fd);
    pair_free(w->f);
}

/* Send, turn the loop for `ms`, and take what comes; 0: nothing. */
static size_t swap(struct wire *w, const void *out, size_t n, uint8_t *in, size_t cap, unsigned ms)
{
    assert_int_equal(send(w->fd, out, n, 0), (ssize_t)n);
    pair_sleep(w->f, ms);
    ssize_t got = recv(w->fd, in, cap, 0);
    return got > 0 ? (size_t)got : 0;
}

#define SWAP(w, out, in, ms) swap(w, out, sizeof(out) - 1, in, sizeof(in), ms)

static void test_ping(void **state)
{
    (void)state;
    struct wire w = wire_open();
    uint8_t in[64];
    assert_int_equal(SWAP(&w, "\x40\x00\x12\x34", in, 20), 4);
    assert_memory_equal(in, "\x70\x00\x12\x34", 4);
    wire_close(&w);
}

static void test_duplicate(void **state)
{
    (void)state;
    struct wire w = wire_open();
    uint8_t one[64], two[64];
    /* CON POST /echo, token 07, body "x" */
    size_t n = SWAP(&w,
                    "\x41\x02\x00\x01\x07\xb4"
                    "echo"
                    "\xffx",
                    one, 20);
    assert_int_equal(n, 7);
    assert_memory_equal(one, "\x61\x44\x00\x01\x07\xffx", 7);
    assert_int_equal(SWAP(&w,
                          "\x41\x02\x00\x01\x07\xb4"
                          "echo"
                          "\xffx",
                          two, 20),
                     n);
    assert_memory_equal(one, two, n);
    assert_int_equal(w.f->served, 1);
    /* NON: answered once, and once only */
    assert_int_equal(SWAP(&w,
                          "\x51\x02\x00\x02\x07\xb4"
                          "echo"
                          "\xffx",
                          one, 20),
                     7);
    assert_int_equal(one[0], 0x51);
    assert_int_equal(one[1], 0x44);
    assert_int_equal(SWAP(&w,
                          "\x51\x02\x00\x02\x07\xb4"
                          "echo"
                          "\xffx",
                          one, 20),
                     0);
    assert_int_equal(w.f->served, 2);
    struct cep_stats st;
    cep_stats_get(w.f->server, &st);
    assert_int_equal(st.duplicates, 2);
    wire_close(&w);
}

/* No piece waits for its asking: the answer is made again for each. */
static void test_sensitive_in_pieces(void **state)
{
    (void)state;
    struct wire w = wire_open();
    static const char *const pieces[] = {"a long secret, i", "n three pieces f", "or all"};
    uint8_t in[64], out[] = "\x41\x01\x00\x01\x07\xb7secrets\xc1\x00"; /* Block2 of 16 bytes */
    for (uint8_t i = 0; i < 3; i++) {
        out[3] = (uint8_t)(i + 1);
        out[sizeof out - 2] = (uint8_t)(i << 4);
        size_t n = SWAP(&w, out, in, 20), len = strlen(pieces[i]);
        assert_true(n > len);
        assert_memory_equal(in + n - len, pieces[i], len);
        assert_int_equal(w.f->served, i + 1);
    }
    wire_close(&w);
}

static void test_sensitive(void **state)
{
    (void)state;
    struct wire w = wire_open();
    uint8_t in[64];
    for (unsigned i = 1; i <= 3; i++) { /* the same request is made again, not remembered */
        assert_int_equal(SWAP(&w,
                              "\x41\x01\x00\x01\x07\xb6"
                              "secret",
                              in, 20),
                         11);
        assert_memory_equal(in,
                            "\x61\x45\x00\x01\x07\xff"
                            "a key",
                            11);
        assert_int_equal(w.f->served, i);
    }
    /* A POST is not run again, and what it answered is not kept. */
    assert_int_equal(SWAP(&w,
                          "\x41\x02\x00\x02\x07\xb6"
                          "secret",
                          in, 20),
                     11);
    assert_int_equal(SWAP(&w,
                          "\x41\x02\x00\x02\x07\xb6"
                          "secret",
                          in, 20),
                     0);
    assert_int_equal(w.f->served, 4);
    wire_close(&w);
}

static void test_separate(void **state)
{
    (void)state;
    struct wire w = wire_open();
    uint8_t in[64];
    assert_int_equal(SWAP(&w,
                          "\x41\x01\x00\x01\x07\xb4"
                          "slow",
                          in, 250),
                     4);
    assert_memory_equal(in, "\x60\x00\x00\x01", 4);
    /* A duplicate meanwhile is acknowledged again. */
    assert_int_equal(SWAP(&w,
                          "\x41\x01\x00\x01\x07\xb4"
                          "slow",
                          in, 20),
                     4);
    pair_sleep(w.f, 100);
    assert_int_equal(recv(w.fd, in, sizeof in, 0), 13);
    assert_int_equal(in[0], 0x41);
    assert_int_equal(in[1], 0x45);
    assert_int_equal(in[4], 7);
    /* Not acknowledged: it comes again after ACK_TIMEOUT, the same bytes. */
    uint8_t again[64];
    pair_sleep(w.f, 3100);
    assert_int_equal(recv(w.fd, again, sizeof again, 0), 13);
    assert_memory_equal(in, again, 13);
    uint8_t ack[4] = {0x60, 0, in[2], in[3]};
    assert_int_equal(swap(&w, ack, 4, in, sizeof in, 20), 0);
    assert_int_equal(w.f->served, 1);
    wire_close(&w);
}

static void test_critical_option(void **state)
{
    (void)state;
    struct wire w = wire_open();
    uint8_t in[64];
    /* Option 9 (OSCORE), critical, not understood. */
    assert_int_equal(SWAP(&w, "\x41\x01\x00\x01\x07\x90", in, 20), 5);
    assert_memory_equal(in, "\x61\x82\x00\x01\x07", 5);
    /* The same in a NON is dropped. */
    assert_int_equal(SWAP(&w, "\x51\x01\x00\x02\x07\x90", in, 20), 0);
    assert_int_equal(w.f->served, 0);
    /* oneM2M's own, 279 (From) = 11 + 268, is critical and known. */
    assert_int_equal(SWAP(&w,
                          "\x41\x01\x00\x03\x07\xb6"
                          "whoami"
                          "\xd4\xff"
                          "Cabc",
                          in, 20),
                     5);
    assert_int_equal(in[1], 0x45);
    assert_int_equal(w.f->served, 1);
    /* Proxy-Uri (35 = 13 + 22): 5.05 */
    assert_int_equal(SWAP(&w, "\x41\x01\x00\x04\x07\xd1\x16x", in, 20), 5);
    assert_int_equal(in[1], 0xa5);
    wire_close(&w);
}

/* RFC 7252 5.4.3: with a length that its definition does not have, an option is as if it were not understood. */
static void test_option_length(void **state)
{
    (void)state;
    struct wire w = wire_open();
    uint8_t in[64];
    /* Accept (17 = 11 + 6) of three bytes, critical: 4.02; in a NON: dropped. */
    assert_int_equal(SWAP(&w, "\x40\x01\x00\x01\xb6whoami\x63\0\0\x32", in, 20), 4);
    assert_memory_equal(in, "\x60\x82\x00\x01", 4);
    assert_int_equal(SWAP(&w, "\x50\x01\x00\x02\xb6whoami\x63\0\0\x32", in, 20), 0);
    assert_int_equal(w.f->served, 0);
    /* Content-Format of three bytes, elective: ignored. */
    assert_int_equal(SWAP(&w, "\x40\x01\x00\x03\xb6whoami\x13\0\0\x32", in, 20), 4);
    assert_memory_equal(in, "\x60\x45\x00\x03", 4);
    assert_int_equal(w.f->served, 1);
    /* A delta that would begin again at 0 (to 65,536 in one step, to 65,537 in two) is no option at all. */
    assert_int_equal(SWAP(&w, "\x40\x01\x00\x04\xe0\xfe\xf3", in, 20), 4);
    assert_memory_equal(in, "\x70\x00\x00\x04", 4);
    assert_int_equal(SWAP(&w, "\x40\x01\x00\x05\x10\xe0\xfe\xf3", in, 20), 4);
    assert_memory_equal(in, "\x70\x00\x00\x05", 4);
    assert_int_equal(SWAP(&w, "\x40\x01\x00\x06\xe0\xfe\xf2", in, 20), 4); /* 65,535 is one, and critical */
    assert_memory_equal(in, "\x60\x82\x00\x06", 4);
    wire_close(&w);
}

static void test_malformed(void **state)
{
    (void)state;
    struct wire w = wire_open();
    uint8_t in[64];
    assert_int_equal(SWAP(&w, "\x40\x01\x00\x01\xb6whoami", in, 20), 4);
    assert_int_equal(in[1], 0x45);
    assert_int_equal(SWAP(&w,
                          "\x49\x01\x00\x02"
                          "123456789",
                          in, 20),
                     4); /* token of 9 bytes */
    assert_memory_equal(in, "\x70\x00\x00\x02", 4);
    assert_int_equal(SWAP(&w, "\x40\x01\x00\x03\xff", in, 20), 4); /* marker without payload */
    assert_memory_equal(in, "\x70\x00\x00\x03", 4);
    assert_int_equal(SWAP(&w,
                          "\x40\x01\x00\x04\xb9"
                          "short",
                          in, 20),
                     4); /* option runs over the end */
    assert_memory_equal(in, "\x70\x00\x00\x04", 4);
    assert_int_equal(SWAP(&w, "\x40\x01\x00\x05\xf1x", in, 20), 4); /* delta 15 is reserved */
    assert_memory_equal(in, "\x70\x00\x00\x05", 4);
    assert_int_equal(SWAP(&w, "\x40\x00\x00\x06zz", in, 20), 4); /* empty, with something after it */
    assert_memory_equal(in, "\x70\x00\x00\x06", 4);
    assert_int_equal(SWAP(&w, "\x40\x21\x00\x07", in, 20), 4); /* class 1 is reserved */
    assert_memory_equal(in, "\x70\x00\x00\x07", 4);
    assert_int_equal(SWAP(&w, "\x80\x01\x00\x08", in, 20), 0);     /* version 2 */
    assert_int_equal(SWAP(&w, "\x50\x01\x00\x09\xff", in, 20), 0); /* NON: silently */
    assert_int_equal(SWAP(&w, "\x60\x45\x00\x0a", in, 20), 0);     /* an answer to nothing */
    assert_int_equal(SWAP(&w, "\x40", in, 20), 0);
    assert_int_equal(w.f->served, 1);
    wire_close(&w);
}

static void test_blocks(void **state)
{
    (void)state;
    struct wire w = wire_open();
    uint8_t in[2048];
    /* Block2 (23 = 11 + 12) asking for 64 bytes a piece (szx 2), num 3 straight away */
    size_t n = SWAP(&w,
                    "\x40\x01\x00\x01\xb3"
                    "big"
                    "\xc1\x32",
                    in, 20);
    assert_true(n > 64);
    assert_int_equal(in[1], 0x45);
    uint8_t want[10000];
    fill(want, sizeof want, sizeof want);
    assert_memory_equal(in + n - 64, want + 192, 64);
    /* beyond the end */
    assert_int_equal(SWAP(&w,
                          "\x40\x01\x00\x02\xb3"
                          "big"
                          "\xc3\x0f\xff\xf2",
                          in, 20),
                     4);
    assert_int_equal(in[1], 0x80);
    /* szx 7 is reserved */
    assert_int_equal(SWAP(&w,
                          "\x40\x01\x00\x03\xb3"
                          "big"
                          "\xc1\x07",
                          in, 20),
                     4);
    assert_int_equal(in[1], 0x80);
    /* Block1 (27 = 11 + 16: 13 + 3) from the middle: 4.08 */
    n = SWAP(&w,
             "\x40\x02\x00\x04\xb4"
             "echo"
             "\xd1\x03\x18\xff"
             "0123456789abcdef",
             in, 20);
    assert_int_equal(in[1], 0x88);
    /* from the start, two pieces of 16 and 1 */
    n = SWAP(&w,
             "\x40\x02\x00\x05\xb4"
             "echo"
             "\xd1\x03\x08\xff"
             "0123456789abcdef",
             in, 20);
    assert_int_equal(in[1], 0x5f);
    n = SWAP(&w,
             "\x40\x02\x00\x06\xb4"
             "echo"
             "\xd1\x03\x10\xff"
             "g",
             in, 20);
    assert_int_equal(in[1], 0x44);
    assert_true(n > 17);
    assert_memory_equal(in + n - 17, "0123456789abcdefg", 17);
    wire_close(&w);
}

/* A client that says RST to a notification does not want more. */
static void test_notification_reset(void **state)
{
    (void)state;
    for (unsigned con = 0; con < 2; con++) {
        struct wire w = wire_open();
        uint8_t in[64];
        size_t n = SWAP(&w, "\x41\x01\x00\x01\x07\x60\x55state", in, 20);
        assert_int_equal(in[1], 0x45);
        assert_true(n > 6 && in[5] == 0x61); /* Observe, one byte */
        struct cep_message note = {.code = CEP_CODE(2, 5), .payload = span_str("n")};
        cep_notify(w.f->server, w.f->observation, &note, con == 1, false);
        pair_sleep(w.f, 20);
        assert_true(recv(w.fd, in, sizeof in, 0) > 6);
        assert_int_equal(in[0], con == 1 ? 0x41 : 0x51);
        uint8_t rst[4] = {0x70, 0, in[2], in[3]};
        assert_int_equal(swap(&w, rst, 4, in, sizeof in, 20), 0);
        assert_int_equal(w.f->observe_ended, 1);
        wire_close(&w);
    }
}

/* The exchange outlives its session. */
static void test_answer_late(void **state)
{
    (void)state;
    struct pair *f = pair_new(true, "127.0.0.1", NULL);
    struct answer a = {0};
    assert_true(ask(f, CEP_GET, "hold", span_of(NULL, 0), &a));
    pair_run(f, &f->served, 1);
    cep_session_close(f->session);
    pair_run(f, &f->server_closed, 1);
    assert_string_equal(cep_exchange_peer(f->held)->identity, "alice");
    cep_respond(f->held, &(struct cep_message){.code = CEP_CODE(2, 5)}, false);
    assert_int_equal(a.calls, 1);
    assert_int_equal(a.st, ST_UNREACHABLE);
    pair_free(f);
}

/* --- RFC 9175, RFC 6690 --- */

static const struct cep_config asking = {.echo_seconds = 1};

static void test_echo(void **state)
{
    (void)state;
    struct wire w = wire_open_with(&asking);
    uint8_t in[1500], again[64];
    /* A small answer to a safe method goes out; a large one does not before the peer repeats what it was sent. */
    assert_int_equal(SWAP(&w, "\x41\x01\x00\x01\x07\xb6whoami", in, 20), 5);
    assert_int_equal(in[1], 0x45);
    assert_int_equal(SWAP(&w,
                          "\x41\x01\x00\x02\x07\xb3"
                          "big",
                          in, 20),
                     13);
    assert_memory_equal(in, "\x61\x81\x00\x02\x07\xd6\xef", 7);
    uint8_t ask_again[] = "\x41\x01\x00\x03\x07\xb3"
                          "big\xd6\xe4......";
    memcpy(ask_again + 11, in + 7, 6);
    ask_again[11] ^= 1;
    assert_int_equal(SWAP(&w, ask_again, again, 20), 13); /* the wrong bytes: no */
    assert_int_equal(again[1], 0x81);
    ask_again[11] ^= 1;
    ask_again[3] = 4;
    assert_true(SWAP(&w, ask_again, in, 20) > 1000);
    /* It expires; an old one is of no use. */
    pair_sleep(w.f, 1200);
    ask_again[3] = 5;
    assert_int_equal(SWAP(&w, ask_again, in, 20), 13);
    wire_close(&w);
}

static void test_echo_before_effect(void **state)
{
    (void)state;
    struct wire w = wire_open_with(&asking);
    uint8_t in[64];
    assert_int_equal(SWAP(&w,
                          "\x40\x02\x00\x01\xb4"
                          "echo\xffx",
                          in, 20),
                     12);
    assert_memory_equal(in, "\x60\x81\x00\x01\xd6\xef", 6);
    assert_int_equal(w.f->served, 0);
    assert_int_equal(SWAP(&w,
                          "\x40\x01\x00\x02\x60\x55"
                          "state",
                          in, 20),
                     12); /* Observe */
    assert_int_equal(in[1], 0x81);
    assert_int_equal(w.f->served, 0);
    wire_close(&w);
}

static void test_echo_client(void **state)
{
    (void)state;
    struct pair *f = pair_new(false, "127.0.0.1", &asking);
    static uint8_t body[5000];
    fill(body, sizeof body, 9);
    struct answer a = {0}, b = {0};
    assert_true(ask(f, CEP_POST, "echo", span_of(body, sizeof body), &a));
    assert_true(ask(f, CEP_GET, "big", span_of(NULL, 0), &b));
    pair_run(f, &a.calls, 1);
    pair_run(f, &b.calls, 1);
    assert_int_equal(a.code, CEP_CODE(2, 4));
    assert_int_equal(a.len, sizeof body);
    assert_memory_equal(a.body, body, a.len);
    assert_int_equal(b.code, CEP_CODE(2, 5));
    answer_wipe(&a);
    answer_wipe(&b);
    pair_free(f);
}

/* Two bodies for one resource at once, their pieces interleaved. */
static void test_request_tag(void **state)
{
    (void)state;
    struct wire w = wire_open();
    uint8_t in[128];
    /* POST /echo, Block1 0/more/16, Request-Tag 1 and 2 (option 292) */
    assert_int_equal(SWAP(&w,
                          "\x40\x02\x00\x01\xb4"
                          "echo\xd1\x03\x08\xd1\xfc\x01\xff"
                          "aaaaaaaaaaaaaaaa",
                          in, 20),
                     7);
    assert_int_equal(in[1], 0x5f);
    assert_int_equal(SWAP(&w,
                          "\x40\x02\x00\x02\xb4"
                          "echo\xd1\x03\x08\xd1\xfc\x02\xff"
                          "bbbbbbbbbbbbbbbb",
                          in, 20),
                     7);
    assert_int_equal(in[1], 0x5f);
    size_t n = SWAP(&w,
                    "\x40\x02\x00\x03\xb4"
                    "echo\xd1\x03\x10\xd1\xfc\x01\xff"
                    "A",
                    in, 20);
    assert_int_equal(in[1], 0x44);
    assert_memory_equal(in + n - 17, "aaaaaaaaaaaaaaaaA", 17);
    n = SWAP(&w,
             "\x40\x02\x00\x04\xb4"
             "echo\xd1\x03\x10\xd1\xfc\x02\xff"
             "B",
             in, 20);
    assert_int_equal(in[1], 0x44);
    assert_memory_equal(in + n - 17, "bbbbbbbbbbbbbbbbB", 17);
    wire_close(&w);
}

/* Our client tells its bodies apart. */
static void test_request_tag_client(void **state)
{
    (void)state;
    struct pair *f = pair_new(true, "127.0.0.1", NULL);
    static uint8_t body[6][3000];
    struct answer a[6] = {0};
    for (unsigned i = 0; i < 6; i++) {
        fill(body[i], sizeof body[i], i);
        assert_true(ask(f, CEP_POST, "echo", span_of(body[i], i < 4 ? sizeof body[i] : 10), &a[i]));
    }
    for (unsigned i = 0; i < 6; i++) {
        pair_run(f, &a[i].calls, 1);
        assert_int_equal(a[i].code, CEP_CODE(2, 4));
        assert_memory_equal(a[i].body, body[i], a[i].len);
        answer_wipe(&a[i]);
    }
    assert_int_equal(f->served, 6);
    pair_free(f);
}

static void test_links(void **state)
{
    (void)state;
    struct wire w = wire_open();
    uint8_t in[128];
    assert_int_equal(SWAP(&w,
                          "\x40\x01\x00\x01\xbb.well-known\x04"
                          "core",
                          in, 20),
                     4 + 2 + 1 + 20);
    assert_memory_equal(in, "\x60\x45\x00\x01\xc1\x28\xff</echo>,</state>;obs", 27);
    assert_int_equal(SWAP(&w,
                          "\x40\x02\x00\x02\xbb.well-known\x04"
                          "core",
                          in, 20),
                     4);
    assert_int_equal(in[1], 0x85);
    assert_int_equal(SWAP(&w,
                          "\x40\x01\x00\x03\xbb.well-known\x04"
                          "core\x01x",
                          in, 20),
                     4);
    assert_int_equal(in[1], 0x84);
    assert_int_equal(w.f->served, 1);
    wire_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_echo),
        cmocka_unit_test(test_echo_before_effect),
        cmocka_unit_test(test_echo_client),
        cmocka_unit_test(test_request_tag),
        cmocka_unit_test(test_request_tag_client),
        cmocka_unit_test(test_links),
        cmocka_unit_test(test_ping),
        cmocka_unit_test(test_duplicate),
        cmocka_unit_test(test_sensitive),
        cmocka_unit_test(test_sensitive_in_pieces),
        cmocka_unit_test(test_separate),
        cmocka_unit_test(test_critical_option),
        cmocka_unit_test(test_option_length),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_notification_reset),
        cmocka_unit_test(test_answer_late),
    };
    return cmocka_run_group_tests_name("coap wire", tests, NULL, NULL);
}
