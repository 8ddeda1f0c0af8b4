/* Somebody at the address of a live DTLS session begins anew, honestly or not: over IPv4 and IPv6, with PSK and with
 * certificates. A peer that rebooted onto its old port is served at once; whatever does not prove a key changes nothing. */
#include "tests/unit/clock.h"
#include "tests/unit/coap_fixture.h"
#include "tests/unit/coap_pki.h"
#include "tests/unit/coap_relay.h"

#include <stdlib.h>

#define SERVER_NAME "mef.example.org"
#define COOKIE_AT (13 + 12 + 2 + 32 + 1) /* record, handshake, version, random, an empty session id: then the length */

struct pkis {
    struct pki ours, other;
    struct cep_certs *server, *client, *stranger;
};

/* One way to be at one address. */
struct scene {
    const struct pkis *p;
    const char *host;
    bool cert;
    struct pair *f;
    struct relay relay;
    struct hello_gate gate;
};

static struct cep_certs *load(struct pki *own, const struct pki *trusted, const char *name, const char *san)
{
    char anchor[128], err[256] = "";
    struct pki_names n = pki_issue(own, name, san, "P-256", true);
    struct cep_certificate one = {NULL, n.cert, n.key};
    struct cep_certs_files files = {.list = &one, .n = 1, .trust_anchors = pki_anchor(trusted, anchor)};
    struct cep_certs *c = cep_certs_load(&files, err, sizeof err);
    if (c == NULL)
        fail_msg("%s", err);
    return c;
}

static int set_up(void **state)
{
    struct pkis *p = calloc(1, sizeof *p);
    pki_open(&p->ours);
    pki_open(&p->other);
    p->server = load(&p->ours, &p->ours, "server", "DNS:" SERVER_NAME);
    p->client = load(&p->ours, &p->ours, "client", "URI:alice");
    p->stranger = load(&p->other, &p->ours, "stranger", "URI:alice");
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    struct pkis *p = *state;
    cep_certs_unref(p->server);
    cep_certs_unref(p->client);
    cep_certs_unref(p->stranger);
    pki_close(&p->ours);
    pki_close(&p->other);
    free(p);
    return 0;
}

/* A new session through the relay, so from the address that the one before it has. */
static struct cep_session *dial(struct scene *s, bool rightly)
{
    int err;
    if (!s->cert) {
        pair_connect(s->f, s->host, s->relay.port, "alice", rightly ? "0123456789abcdef" : "fedcba9876543210");
        return s->f->session;
    }
    s->f->session = cep_connect_certificate(s->f->client, s->host, s->relay.port, rightly ? s->p->client : s->p->stranger,
                                            SERVER_NAME, &err);
    assert_non_null(s->f->session);
    return s->f->session;
}

static void ask_alice(struct scene *s, struct cep_session *session)
{
    struct answer a = {0};
    assert_true(ask_on(session, CEP_GET, "whoami", span_of(NULL, 0), &a));
    pair_run(s->f, &a.calls, 1);
    assert_int_equal(a.st, ST_OK);
    assert_int_equal(a.code, CEP_CODE(2, 5));
    assert_true(span_eq(span_of(a.body, a.len), span_str("alice")));
    answer_wipe(&a);
}

/* A live session; the ClientHellos that made it, without cookie and with, are in the gate. */
static struct cep_session *scene_open(struct scene *s)
{
    s->f = pair_new(true, s->host, NULL);
    cep_endpoint_certificates(s->f->server, s->p->server, false);
    cep_session_close(s->f->session);
    s->f->client_closed = 0;
    relay_open_on(&s->relay, s->f->loop, s->host, s->f->port, 1);
    s->gate = (struct hello_gate){0};
    s->relay.pass = hello_gate_pass;
    s->relay.user = &s->gate;
    struct cep_session *live = dial(s, true);
    ask_alice(s, live);
    assert_int_equal(s->gate.hellos, 2);
    assert_true(s->gate.len[0] != 0 && s->gate.len[1] > s->gate.len[0]);
    return live;
}

static void scene_close(struct scene *s)
{
    relay_close(&s->relay);
    pair_free(s->f);
}

/* It is the one and only session, and works. */
static void live_is_untouched(struct scene *s, struct cep_session *live)
{
    struct cep_stats st;
    ask_alice(s, live);
    cep_stats_get(s->f->server, &st);
    assert_int_equal(st.sessions, 1);
    assert_int_equal(s->f->server_closed, 0);
}

static unsigned handshakes(const struct scene *s)
{
    struct cep_stats st;
    cep_stats_get(s->f->server, &st);
    return (unsigned)st.handshakes;
}

/* --- what happens there ------------------------------------------------------------------------------------------- */

static void reboot(struct scene *s)
{
    scene_open(s);
    uint64_t first = s->f->last_serial, began = now_ms();
    ask_alice(s, dial(s, true)); /* without a close_notify of the first */
    assert_true(now_ms() - began < 1000);
    assert_int_equal(s->f->server_opened, 2);
    assert_int_equal(s->f->server_closed, 1);
    assert_int_equal(s->f->closed_serial, first);
    assert_null(cep_session_find(s->f->server, first));
    assert_non_null(cep_session_find(s->f->server, s->f->last_serial));
}

static void replay(struct scene *s)
{
    struct cep_session *live = scene_open(s);
    struct hello_gate old = s->gate;
    for (unsigned i = 0; i < 20; i++)
        relay_inject(&s->relay, span_of(old.hello[i % 2], old.len[i % 2]));
    pair_sleep(s->f, 50);
    assert_int_equal(handshakes(s), 0); /* its own hellos are known */
    live_is_untouched(s, live);
    /* What made the session before the present one: the cookie holds, but there is no key behind it. */
    s->gate = (struct hello_gate){0};
    live = dial(s, true);
    ask_alice(s, live);
    s->f->server_closed = 0;
    relay_inject(&s->relay, span_of(old.hello[1], old.len[1]));
    pair_sleep(s->f, 50);
    assert_int_equal(handshakes(s), 1);
    live_is_untouched(s, live);
}

static void forged(struct scene *s)
{
    struct cep_session *live = scene_open(s);
    uint8_t hello[sizeof s->gate.hello[1]];
    size_t n = s->gate.len[1], length = s->gate.hello[1][COOKIE_AT];
    assert_true(length != 0 && COOKIE_AT + length < n);
    for (size_t i = 0; i < length; i++) { /* another attempt, and each byte of the cookie wrong */
        memcpy(hello, s->gate.hello[1], n);
        hello[COOKIE_AT - 2] ^= 1;
        hello[COOKIE_AT + 1 + i] ^= 0x10;
        relay_inject(&s->relay, span_of(hello, n));
    }
    memcpy(hello, s->gate.hello[1], n); /* a cookie that holds, from another address */
    struct relay elsewhere;
    relay_open_on(&elsewhere, s->f->loop, s->host, s->f->port, 1);
    relay_inject(&elsewhere, span_of(hello, n));
    pair_sleep(s->f, 50);
    relay_close(&elsewhere);
    assert_int_equal(handshakes(s), 0);
    live_is_untouched(s, live);
}

static void aborted(struct scene *s)
{
    struct cep_session *live = scene_open(s);
    struct relay_peer client = s->relay.client;
    s->gate = (struct hello_gate){.stop_after = 2};
    struct cep_session *other = dial(s, true);
    pair_run(s->f, &s->gate.hellos, 2);
    pair_sleep(s->f, 50);
    assert_int_equal(handshakes(s), 1);
    cep_session_close(other); /* sends nothing: it never opened */
    for (unsigned i = 0; i < 20; i++)
        pair_sleep(s->f, 2); /* what it sent before is dropped, however slow the machine is */
    s->gate = (struct hello_gate){0};
    s->relay.client = client;
    live_is_untouched(s, live);
    assert_int_equal(s->f->server_opened, 1);
}

static void wrong_key(struct scene *s)
{
    struct cep_session *live = scene_open(s);
    struct relay_peer client = s->relay.client;
    dial(s, false);
    pair_run(s->f, &s->f->client_closed, 1);
    s->relay.client = client;
    live_is_untouched(s, live);
    assert_int_equal(s->f->server_opened, 1);
}

/* --- everywhere --------------------------------------------------------------------------------------------------- */

static void everywhere(const struct pkis *p, void (*play)(struct scene *s))
{
    static const char *const hosts[] = {"127.0.0.1", "::1"};
    for (unsigned i = 0; i < 4; i++) {
        struct scene s = {.p = p, .host = hosts[i % 2], .cert = i / 2 == 1};
        play(&s);
        scene_close(&s);
    }
}

static void test_reboot(void **state)
{
    everywhere(*state, reboot);
}
static void test_replay(void **state)
{
    everywhere(*state, replay);
}
static void test_forged(void **state)
{
    everywhere(*state, forged);
}
static void test_aborted(void **state)
{
    everywhere(*state, aborted);
}
static void test_wrong_key(void **state)
{
    everywhere(*state, wrong_key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reboot),  cmocka_unit_test(test_replay),    cmocka_unit_test(test_forged),
        cmocka_unit_test(test_aborted), cmocka_unit_test(test_wrong_key),
    };
    return cmocka_run_group_tests_name("coap intruder", tests, set_up, tear_down);
}
