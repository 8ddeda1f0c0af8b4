/* Endpoints of several threads behind one address. The kernel is told to give each datagram to any of them, so that most
 * reach the wrong one: far worse than what happens when a socket joins or leaves. */
#include "cse-shim/coap/internal.h"
#include "tests/unit/coap_fixture.h"
#include "tests/unit/coap_relay.h"

#include <errno.h>
#include <linux/filter.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MEMBERS 4u

static const char alice_key[] = "0123456789abcdef";

struct member {
    pthread_t thread;
    sd_event *loop;
    struct cep_endpoint *ep;
    int stop; /* eventfd */
};

struct world {
    struct cep_group *group;
    struct member members[MEMBERS];
    uint16_t port;
    atomic_uint served;
    struct pair *f; /* its client, and a server that is not used */
    struct relay relay;
};

/* --- the members --- */

static void on_request(void *user, struct cep_exchange *ex, const struct cep_message *req)
{
    struct world *w = user;
    atomic_fetch_add(&w->served, 1);
    uint64_t observation = cep_exchange_observe(ex) != 0 ? cep_observe(ex) : 0;
    cep_respond(ex, &(struct cep_message){.code = CEP_CODE(2, 5), .payload = req->payload}, false);
    struct cep_endpoint *ep = w->members[cep_member(observation)].ep;
    for (unsigned i = 0; observation != 0 && i < 5; i++)
        cep_notify(ep, observation, &(struct cep_message){.code = CEP_CODE(2, 5), .payload = span_str("n")}, true, true);
}

static void on_psk(void *user, uint64_t session, const char *identity, const char *server_name)
{
    (void)server_name;
    struct world *w = user;
    cep_psk(w->members[cep_member(session)].ep, session, (const uint8_t *)alice_key, strcmp(identity, "alice") == 0 ? 16 : 0);
}

static int on_stop(sd_event_source *source, int fd, uint32_t events, void *user)
{
    (void)fd;
    (void)events;
    (void)user;
    return sd_event_exit(sd_event_source_get_event(source), 0);
}

static void *work(void *user)
{
    sd_event_loop(((struct member *)user)->loop);
    return NULL;
}

/* Give each datagram to any of the sockets that share the address. */
static void scatter(struct cep_endpoint *ep)
{
    struct sock_filter any[] = {{BPF_LD | BPF_W | BPF_ABS, 0, 0, (uint32_t)(SKF_AD_OFF + SKF_AD_RANDOM)},
                                {BPF_ALU | BPF_MOD | BPF_K, 0, 0, MEMBERS},
                                {BPF_RET | BPF_A, 0, 0, 0}};
    struct sock_fprog prog = {sizeof any / sizeof any[0], any};
    struct sock *s;
    LIST_FOREACH(s, &ep->socks, link)
    assert_int_equal(setsockopt(s->fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &prog, sizeof prog), 0);
}

static struct world *world_new(const char *host, bool secure)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    struct cep_config cfg = {.group = w->group = cep_group_new(MEMBERS)};
    struct cep_callbacks cb = {.user = w, .request = on_request, .psk = on_psk};
    assert_non_null(w->group);
    for (unsigned i = 0; i < MEMBERS; i++) {
        struct member *m = &w->members[i];
        cfg.member = i;
        assert_true(sd_event_new(&m->loop) >= 0);
        m->ep = cep_endpoint_new(m->loop, &cfg, &cb);
        assert_non_null(m->ep);
        uint16_t bound;
        assert_int_equal(cep_listen(m->ep, host, 0, secure, &bound), 0);
        assert_true(w->port == 0 || w->port == bound);
        w->port = bound;
        m->stop = eventfd(0, EFD_CLOEXEC);
        assert_true(sd_event_add_io(m->loop, NULL, m->stop, EPOLLIN, on_stop, m) >= 0);
    }
    scatter(w->members[0].ep);
    for (unsigned i = 0; i < MEMBERS; i++)
        assert_int_equal(pthread_create(&w->members[i].thread, NULL, work, &w->members[i]), 0);
    w->f = pair_new(secure, "127.0.0.1", NULL);
    pair_run(w->f, &w->f->client_opened, 1);
    w->f->client_opened = 0;
    return w;
}

/* Ends the threads; the sum of what the members counted. */
static struct cep_stats world_stop(struct world *w)
{
    struct cep_stats sum = {0};
    for (unsigned i = 0; i < MEMBERS; i++) {
        struct cep_stats st;
        assert_int_equal(eventfd_write(w->members[i].stop, 1), 0);
        pthread_join(w->members[i].thread, NULL);
        cep_stats_get(w->members[i].ep, &st);
        sum.sessions += st.sessions;
        sum.sessions_total += st.sessions_total;
        sum.handshakes += st.handshakes;
        sum.handshakes_failed += st.handshakes_failed;
        sum.passed_on += st.passed_on;
        sum.malformed += st.malformed;
    }
    return sum;
}

static void world_free(struct world *w)
{
    for (unsigned i = 0; i < MEMBERS; i++) {
        cep_endpoint_free(w->members[i].ep);
        sd_event_unref(w->members[i].loop);
        close(w->members[i].stop);
    }
    cep_group_free(w->group);
    pair_free(w->f);
    free(w);
}

static void echo(struct world *w, struct cep_session *s, size_t n)
{
    static uint8_t body[20000];
    struct answer a = {0};
    fill(body, n, (unsigned)n);
    assert_true(ask_on(s, CEP_POST, "echo", span_of(body, n), &a));
    pair_run(w->f, &a.calls, 1);
    assert_int_equal(a.st, ST_OK);
    assert_int_equal(a.len, n);
    assert_memory_equal(a.body, body, n);
    answer_wipe(&a);
}

/* --- strays --- */

static void strays(const char *listen, const char *host, bool secure)
{
    enum { SESSIONS = 40 };
    struct world *w = world_new(listen, secure);
    struct cep_session *s[SESSIONS];
    for (unsigned i = 0; i < SESSIONS; i++) {
        pair_connect(w->f, host, w->port, secure ? "alice" : NULL, alice_key);
        s[i] = w->f->session;
    }
    pair_run(w->f, &w->f->client_opened, SESSIONS);
    for (unsigned i = 0; i < SESSIONS; i++) {
        echo(w, s[i], i * 100);
        echo(w, s[i], 5000);
    }
    struct answer watched = {0};
    assert_true(ask_full(s[0], CEP_GET, "state", span_of(NULL, 0), true, false, &watched));
    pair_run(w->f, &watched.calls, 6);
    answer_wipe(&watched);
    assert_int_equal(atomic_load(&w->served), 2 * SESSIONS + 1); /* nothing twice */
    for (unsigned i = 1; secure && i < SESSIONS; i++)
        cep_session_close(s[i]);
    echo(w, s[0], 10000);
    pair_sleep(w->f, 300);
    struct cep_stats st = world_stop(w);
    assert_int_equal(st.sessions_total, SESSIONS);
    assert_int_equal(st.handshakes_failed, 0);
    assert_int_equal(st.sessions, secure ? 1 : SESSIONS);
    print_message("%llu passed on\n", (unsigned long long)st.passed_on);
    assert_true(st.passed_on > 100); /* three of four */
    world_free(w);
}

static void test_strays(void **state)
{
    (void)state;
    strays("127.0.0.1", "127.0.0.1", true);
    strays("::1", "::1", true);
}

static void test_strays_any_address(void **state)
{
    (void)state;
    strays("0.0.0.0", "127.0.0.77", true);
    strays("::", "::1", true);
}

static void test_strays_plain(void **state)
{
    (void)state;
    strays("127.0.0.1", "127.0.0.1", false);
    strays("::1", "::1", false);
}

/* A peer that begins anew from the same port: its ClientHello goes to where its session lives. */
static void test_reboots(void **state)
{
    (void)state;
    struct world *w = world_new("127.0.0.1", true);
    relay_open(&w->relay, w->f->loop, w->port, 1);
    for (unsigned i = 1; i <= 20; i++) {
        pair_connect(w->f, "127.0.0.1", w->relay.port, "alice", alice_key);
        pair_run(w->f, &w->f->client_opened, i);
        echo(w, w->f->session, 3000);
    }
    relay_close(&w->relay);
    struct cep_stats st = world_stop(w);
    assert_int_equal(st.sessions_total, 20);
    assert_int_equal(st.sessions, 1);
    world_free(w);
}

/* --- parts, without threads --- */

static void test_cookies(void **state)
{
    (void)state;
    static const uint8_t master[2][COOKIE_MASTER_LEN] = {{1}, {2}};
    struct cookies *a = cookies_new(master[0]), *b = cookies_new(master[0]), *c = cookies_new(master[1]);
    uint8_t cookie[COOKIE_LEN];
    struct span here = span_str("127.0.0.1"), there = span_str("127.0.0.2"), k = span_of(cookie, sizeof cookie);
    const uint64_t minute = COOKIE_PERIOD_US, t = 1000 * minute + minute / 2;
    assert_true(cookie_make(a, here, t, cookie));
    assert_true(cookie_good(a, here, t, k));
    assert_true(cookie_good(b, here, t, k));
    assert_true(cookie_good(b, here, t + minute, k));
    assert_false(cookie_good(b, here, t + 2 * minute, k));
    assert_true(cookie_good(b, here, t, k)); /* also after the secrets were changed */
    assert_false(cookie_good(c, here, t, k));
    assert_false(cookie_good(b, there, t, k));
    assert_false(cookie_good(b, here, t, span_of(cookie, COOKIE_LEN - 1)));
    cookie[0] ^= 1;
    assert_false(cookie_good(b, here, t, k));
    cookies_free(a);
    cookies_free(b);
    cookies_free(c);
}

struct two {
    struct cep_group *group;
    sd_event *loop;
    struct cep_endpoint *ep[2];
    struct path path[2]; /* of the same peer, at either */
};

static struct two two_new(void)
{
    struct two t = {.group = cep_group_new(2)};
    struct cep_callbacks cb = {0};
    assert_non_null(t.group);
    assert_true(sd_event_new(&t.loop) >= 0);
    for (unsigned i = 0; i < 2; i++) {
        struct cep_config cfg = {.group = t.group, .member = i};
        t.ep[i] = cep_endpoint_new(t.loop, &cfg, &cb);
        assert_non_null(t.ep[i]);
        assert_int_equal(cep_listen(t.ep[i], "127.0.0.1", 0, true, NULL), 0);
        t.path[i] = (struct path){.sock = LIST_FIRST(&t.ep[i]->socks), .addrlen = sizeof(struct sockaddr_in)};
        t.path[i].addr.in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = 7, .sin_addr.s_addr = 77};
    }
    return t;
}

static void two_free(struct two *t)
{
    cep_endpoint_free(t->ep[0]);
    cep_endpoint_free(t->ep[1]);
    cep_group_free(t->group);
    sd_event_unref(t->loop);
}

static void test_claims(void **state)
{
    (void)state;
    struct two t = two_new();
    struct span d = span_str("x");
    assert_false(group_pass_on(t.ep[1], &t.path[1], d)); /* nobody's */
    assert_true(group_claim(t.ep[0], &t.path[0]));
    assert_false(group_claim(t.ep[1], &t.path[1]));
    assert_true(group_claim(t.ep[0], &t.path[0])); /* a second session of that path */
    assert_false(group_pass_on(t.ep[0], &t.path[0], d));
    assert_true(group_pass_on(t.ep[1], &t.path[1], d));
    group_release(t.ep[0], &t.path[0]);
    assert_false(group_claim(t.ep[1], &t.path[1]));
    group_release(t.ep[0], &t.path[0]);
    assert_true(group_claim(t.ep[1], &t.path[1]));
    assert_true(group_pass_on(t.ep[0], &t.path[0], d));
    group_release(t.ep[1], &t.path[1]);
    two_free(&t);
}

static void test_full_mailbox(void **state)
{
    (void)state;
    struct two t = two_new();
    struct cep_stats st;
    assert_true(group_claim(t.ep[0], &t.path[0]));
    for (int i = 0; i < 300; i++)
        assert_true(group_pass_on(t.ep[1], &t.path[1], span_str("never a record")));
    cep_stats_get(t.ep[1], &st);
    assert_int_equal(st.passed_on, 256);
    assert_int_equal(st.dropped, 44);
    assert_true(sd_event_run(t.loop, 1000000) > 0);
    cep_stats_get(t.ep[0], &st);
    assert_int_equal(st.dropped, 256); /* no session after all; and they went no further */
    assert_true(group_pass_on(t.ep[1], &t.path[1], span_str("left behind")));
    group_release(t.ep[0], &t.path[0]);
    two_free(&t);
}

static void test_members(void **state)
{
    (void)state;
    struct two t = two_new();
    struct cep_config cfg = {.group = t.group, .member = 2};
    struct cep_callbacks cb = {0};
    uint16_t port;
    assert_null(cep_endpoint_new(t.loop, &cfg, &cb));
    assert_null(cep_group_new(0));
    assert_null(cep_group_new(CEP_MAX_MEMBERS + 1));
    /* Who is not of the group does not get its address, and the group not another's. */
    assert_int_equal(cep_listen(t.ep[0], "127.0.0.1", 0, true, &port), 0);
    cfg = (struct cep_config){0};
    struct cep_endpoint *other = cep_endpoint_new(t.loop, &cfg, &cb);
    assert_non_null(other);
    assert_int_equal(cep_listen(other, "127.0.0.1", port, true, NULL), -EADDRINUSE);
    assert_int_equal(cep_listen(other, "127.0.0.1", 0, true, &port), 0);
    assert_int_equal(cep_listen(t.ep[0], "127.0.0.1", port, true, NULL), -EADDRINUSE);
    cep_endpoint_free(other);
    two_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strays),       cmocka_unit_test(test_strays_any_address),
        cmocka_unit_test(test_strays_plain), cmocka_unit_test(test_reboots),
        cmocka_unit_test(test_cookies),      cmocka_unit_test(test_claims),
        cmocka_unit_test(test_full_mailbox), cmocka_unit_test(test_members),
    };
    return cmocka_run_group_tests_name("coap_group", tests, NULL, NULL);
}
