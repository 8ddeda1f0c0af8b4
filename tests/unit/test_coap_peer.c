/* Our client against a server that the test plays byte by byte, and our server against requests it has a limit for. */
#include "cse-shim/base/hex.h"
#include "tests/unit/coap_fixture.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

struct peer {
    struct pair *f;
    int fd;
    struct sockaddr_in client;
    uint8_t in[2048];
    size_t n;
};

/* What our client is answered, one after the other: options as on the wire, and a payload of so many bytes. */
struct said {
    uint8_t code;
    const char *options; /* hex */
    size_t payload;
};

struct told { /* what the request's caller heard */
    unsigned calls;
    enum st st;
    uint8_t code;
    struct peer *cancel; /* cancels from within */
    uint64_t handle;
};

static void on_told(void *user, enum st st, const struct cep_message *rsp)
{
    struct told *t = user;
    t->calls++;
    t->st = st;
    t->code = rsp != NULL ? rsp->code : 0;
    if (t->cancel != NULL)
        cep_cancel(t->cancel->f->session, t->handle);
}

static void peer_open(struct peer *p)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    const struct cep_config cfg = {.ack_timeout_ms = 2000};
    *p = (struct peer){.f = pair_new(false, "127.0.0.1", &cfg), .fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0)};
    assert_int_equal(bind(p->fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(getsockname(p->fd, (struct sockaddr *)&a, &len), 0);
    pair_connect(p->f, "127.0.0.1", ntohs(a.sin_port), NULL, "");
}

static void peer_close(struct peer *p)
{
    close(p->fd);
    pair_free(p->f);
}

/* The next datagram of the client; its header is 4 bytes and a token of 8. */
static void peer_take(struct peer *p)
{
    for (int i = 0; i < 1000; i++) {
        socklen_t len = sizeof p->client;
        ssize_t n = recvfrom(p->fd, p->in, sizeof p->in, 0, (struct sockaddr *)&p->client, &len);
        if (n > 0) {
            p->n = (size_t)n;
            return;
        }
        pair_sleep(p->f, 2);
    }
    fail_msg("the client says nothing");
}

/* Answer what was taken last: in its acknowledgement, or (mid != 0) as a message of its own without one. */
static void peer_say(struct peer *p, const struct said *s, uint16_t mid)
{
    uint8_t out[1500] = {0};
    struct wr w = wr_of(out, sizeof out);
    uint8_t options[64];
    size_t n = strlen(s->options) / 2;
    assert_true(hex_decode(s->options, 2 * n, options, n));
    wr_u8(&w, (uint8_t)((mid != 0 ? 0x50 : 0x60) | (p->in[0] & 0x0f)));
    wr_u8(&w, s->code);
    wr_u8(&w, mid != 0 ? (uint8_t)(mid >> 8) : p->in[2]);
    wr_u8(&w, mid != 0 ? (uint8_t)mid : p->in[3]);
    wr_bytes(&w, p->in + 4, p->in[0] & 0x0f);
    wr_bytes(&w, options, n);
    if (s->payload != 0) {
        wr_u8(&w, 0xff);
        assert_non_null(wr_reserve(&w, s->payload));
    }
    assert_true(wr_ok(&w));
    assert_int_equal(sendto(p->fd, out, w.n, 0, (struct sockaddr *)&p->client, sizeof p->client), (ssize_t)w.n);
    pair_sleep(p->f, 5);
}

static uint64_t peer_asked(struct peer *p, uint8_t code, size_t body, bool observe, struct told *t)
{
    static const uint8_t bytes[5000];
    struct cep_option opt = {11, span_str("x")};
    struct cep_message req = {code, &opt, 1, span_of(bytes, body)};
    t->handle = cep_request(p->f->session, &req, observe, false, on_told, t);
    assert_true(t->handle != 0);
    pair_sleep(p->f, 5);
    return t->handle;
}

#define RST 0xff /* as a code: the client's message is answered by a reset */
#define UNREACHABLE ST_UNREACHABLE, 0
#define ANSWERED(class, detail) ST_OK, CEP_CODE(class, detail)

static void answers_of_all_kinds(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        uint8_t method;
        size_t body;
        enum st st;
        uint8_t code;
        struct said said[8];
    } rows[] = {
        {"smaller pieces, and smaller still", CEP_POST, 5000, ANSWERED(2, 4),
         {{0x8d, "d10e02", 0}, {0x5f, "d10e09", 0}, {0x44, "", 0}}},
        {"go on, when there is no more", CEP_POST, 5, UNREACHABLE, {{0x5f, "", 0}}},
        {"a piece shorter than it says", CEP_GET, 0, UNREACHABLE, {{0x45, "d10a08", 5}}},
        {"a reserved size", CEP_GET, 0, UNREACHABLE, {{0x45, "d10a07", 5}}},
        {"changed once", CEP_GET, 0, ANSWERED(2, 5),
         {{0x45, "4161d10608", 16}, {0x45, "4162d10610", 5}, {0x45, "4162d10608", 16}, {0x45, "4162d10610", 5}}},
        {"changed while posting", CEP_POST, 5, UNREACHABLE, {{0x45, "4161d10608", 16}, {0x45, "4162d10610", 5}}},
        {"a piece out of its turn, again and again", CEP_GET, 0, UNREACHABLE,
         {{0x45, "d10a20", 5}, {0x45, "d10a20", 5}, {0x45, "d10a20", 5}, {0x45, "d10a20", 5}, {0x45, "d10a20", 5}}},
        {"an option nobody may skip", CEP_GET, 0, UNREACHABLE, {{0x45, "90", 0}}},
        {"a reset", CEP_GET, 0, UNREACHABLE, {{RST, "", 0}}},
        {"are you there, in the middle", CEP_GET, 0, ANSWERED(2, 5), /* Echo: option 252 */
         {{0x45, "d10a08", 16}, {0x81, "d2efaabb", 0}, {0x45, "d10a10", 3}}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct peer p;
        struct told t = {0};
        peer_open(&p);
        peer_asked(&p, rows[i].method, rows[i].body, false, &t);
        for (const struct said *s = rows[i].said; s->code != 0 && t.calls == 0; s++) {
            peer_take(&p);
            if (s->code == RST)
                sendto(p.fd, (uint8_t[]){0x70, 0, p.in[2], p.in[3]}, 4, 0, (struct sockaddr *)&p.client, sizeof p.client);
            else
                peer_say(&p, s, 0);
            pair_sleep(p.f, 5);
        }
        if (t.calls != 1 || t.st != rows[i].st || t.code != rows[i].code)
            fail_msg("%s: %u calls, status %d, code %u.%02u", rows[i].what, t.calls, (int)t.st, t.code >> 5, t.code & 31);
        peer_close(&p);
    }
}

static void only_news_is_told(void **state)
{
    (void)state;
    struct peer p;
    struct told t = {0};
    peer_open(&p);
    peer_asked(&p, CEP_GET, 0, true, &t);
    peer_take(&p);
    peer_say(&p, &(struct said){0x45, "6105", 1}, 0);
    assert_int_equal(t.calls, 1);
    peer_say(&p, &(struct said){0x45, "6105", 1}, 0x7001); /* the same again */
    peer_say(&p, &(struct said){0x45, "6104", 1}, 0x7002); /* older */
    assert_int_equal(t.calls, 1);
    peer_say(&p, &(struct said){0x45, "6106", 1}, 0x7003);
    assert_int_equal(t.calls, 2);
    t.cancel = &p; /* the caller has enough, and says so while it is told */
    peer_say(&p, &(struct said){0x45, "6107", 1}, 0x7004);
    assert_int_equal(t.calls, 3);
    peer_take(&p); /* the deregistration */
    peer_say(&p, &(struct said){0x45, "", 0}, 0);
    peer_say(&p, &(struct said){0x45, "6108", 1}, 0x7005);
    assert_int_equal(t.calls, 3);
    peer_close(&p);
}

static void what_is_cancelled_is_not_told(void **state)
{
    (void)state;
    struct peer p;
    struct told t = {0}, other = {0};
    peer_open(&p);
    uint64_t handle = peer_asked(&p, CEP_GET, 0, false, &t);
    peer_take(&p);
    cep_cancel(p.f->session, handle);
    cep_cancel(p.f->session, handle);
    peer_say(&p, &(struct said){0x45, "", 1}, 0);
    assert_int_equal(t.calls, 0);
    static uint8_t much[4000];
    struct cep_option opt = {11, span_of(much, sizeof much)};
    assert_int_equal(cep_request(p.f->session, &(struct cep_message){CEP_GET, &opt, 1, {0}}, false, false, on_told, &other), 0);
    peer_close(&p);
}

/* --- our server ---------------------------------------------------------------------------------------------------- */

static size_t swap(struct pair *f, int fd, const void *out, size_t n, uint8_t *in, size_t cap)
{
    assert_int_equal(send(fd, out, n, 0), (ssize_t)n);
    for (int i = 0; i < 50; i++) {
        pair_sleep(f, 2);
        ssize_t got = recv(fd, in, cap, 0);
        if (got > 0)
            return (size_t)got;
    }
    return 0;
}

static int raw_client(uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static void a_server_of_nothing(void **state)
{
    (void)state;
    struct pair *f = pair_new(false, "127.0.0.1", NULL);
    const struct cep_callbacks none = {0};
    struct cep_endpoint *ep = cep_endpoint_new(f->loop, NULL, &none);
    uint16_t port;
    uint8_t in[64];
    assert_int_equal(cep_listen(ep, "127.0.0.1", 0, false, &port), 0);
    int fd = raw_client(port);
    assert_int_equal(swap(f, fd, "\x41\x01\x00\x01\x07\xb1x", 7, in, sizeof in), 5);
    assert_memory_equal(in, "\x61\x84\x00\x01\x07", 5);
    close(fd);
    cep_endpoint_free(ep);
    pair_free(f);
}

static void bodies_beyond_the_limit(void **state)
{
    (void)state;
    const struct cep_config cfg = {.max_body = 100, .mtu = 1};
    struct pair *f = pair_new(false, "127.0.0.1", &cfg);
    int fd = raw_client(f->port);
    uint8_t out[210] = "\x41\x02\x00\x01\x07\xb4" "echo" "\xff", in[64], piece[32];
    assert_true(swap(f, fd, out, sizeof out, in, sizeof in) >= 5);
    assert_memory_equal(in, "\x61\x8d\x00\x01\x07", 5);
    assert_int_equal(f->served, 0);
    /* A body that begins anew. */
    memcpy(piece, "\x41\x02\x00\x02\x07\xb4" "echo" "\xd1\x03\x08" "\xff", 14);
    memset(piece + 14, 'a', 16);
    assert_true(swap(f, fd, piece, 30, in, sizeof in) >= 5);
    assert_int_equal(in[1], 0x5f);
    piece[3] = 3;
    memset(piece + 14, 'b', 16);
    assert_true(swap(f, fd, piece, 30, in, sizeof in) >= 5);
    assert_int_equal(in[1], 0x5f);
    piece[3] = 4;
    piece[12] = 0x10;
    assert_true(swap(f, fd, piece, 15, in, sizeof in) >= 17);
    assert_memory_equal(in + 1, "\x44\x00\x04", 3);
    assert_int_equal(f->served, 1);
    close(fd);
    pair_free(f);
}

/* The same client registers again: one observation, and what waited for it is not lost; of too much the oldest goes. */
static void an_observation_renewed(void **state)
{
    (void)state;
    struct pair *f = pair_new(false, "127.0.0.1", NULL);
    int fd = raw_client(f->port);
    uint8_t in[64], v = 0;
    assert_true(swap(f, fd, "\x41\x01\x00\x01\x07\x60\x55" "state", 12, in, sizeof in) > 5);
    uint64_t first = f->observation;
    assert_true(first != 0);
    for (; v < 70; v++)
        cep_notify(f->server, first, &(struct cep_message){.code = CEP_CODE(2, 5), .payload = span_of(&v, 1)}, true, true);
    while (recv(fd, in, sizeof in, 0) > 0)
        ;
    assert_true(swap(f, fd, "\x41\x01\x00\x02\x07\x60\x55" "state", 12, in, sizeof in) > 5);
    assert_int_equal(f->observe_ended, 1);
    assert_true(f->observation != first);
    pair_sleep(f, 20);
    assert_true(recv(fd, in, sizeof in, 0) > 0);
    close(fd);
    pair_free(f);
}

static void addresses_that_do_not_serve(void **state)
{
    (void)state;
    struct pair *f = pair_new(false, "127.0.0.1", NULL);
    int err = 0;
    assert_int_equal(cep_listen(f->server, "127.0.0.1", f->port, true, NULL), -EADDRINUSE);
    assert_int_equal(cep_listen(f->server, "192.0.2.1", 0, true, NULL), -EADDRNOTAVAIL); /* RFC 5737: nobody's */
    assert_int_equal(cep_listen(f->server, "::1%none", 0, true, NULL), -EADDRNOTAVAIL);
    assert_null(cep_connect(f->client, "255.255.255.255", 5684, NULL, span_str(""), &err));
    assert_int_equal(err, -EACCES); /* connect() to all */
    struct rlimit before, few = {0};
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    int listening = cep_listen(f->server, "127.0.0.1", 0, true, NULL);
    struct cep_session *s = cep_connect(f->client, "127.0.0.1", f->port, NULL, span_str(""), &err);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(listening, -EMFILE);
    assert_null(s);
    assert_int_equal(err, -EMFILE);
    pair_free(f);
}

static void idle_sessions_are_closed(void **state)
{
    (void)state;
    const struct cep_config cfg = {.idle_seconds = 1};
    struct pair *f = pair_new(true, "127.0.0.1", &cfg);
    pair_run(f, &f->server_opened, 1);
    pair_run(f, &f->server_closed, 1);
    assert_null(cep_session_find(f->server, f->last_serial));
    pair_run(f, &f->client_closed, 1);
    pair_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_of_all_kinds),
        cmocka_unit_test(only_news_is_told),
        cmocka_unit_test(what_is_cancelled_is_not_told),
        cmocka_unit_test(a_server_of_nothing),
        cmocka_unit_test(bodies_beyond_the_limit),
        cmocka_unit_test(an_observation_renewed),
        cmocka_unit_test(addresses_that_do_not_serve),
        cmocka_unit_test(idle_sessions_are_closed),
    };
    return cmocka_run_group_tests_name("coap_peer", tests, NULL, NULL);
}
