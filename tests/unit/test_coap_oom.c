/* The CoAP endpoint when memory runs out: each allocation fails once, in the server or the client. What was asked is
 * answered, refused or lost with its session; nothing is leaked (the sanitizers watch), and asked again it is answered. */
#include "tests/unit/coap_fixture.h"
#include "tests/unit/oom.h"

#include <errno.h>

#define MOST 400

static const struct cep_config impatient = {.ack_timeout_ms = 5, .max_retransmit = 3};
static const char key_a[] = "0123456789abcdef";

struct heard {
    unsigned calls;
    enum st st;
    uint8_t code;
};

static void on_heard(void *user, enum st st, const struct cep_message *rsp)
{
    struct heard *h = user;
    h->calls++;
    h->st = st;
    h->code = rsp != NULL ? rsp->code : 0;
}

/* One request, and the loop turned until it has its answer or nothing more can come. */
static struct heard request(struct pair *f, uint8_t code, const char *path, struct span body, bool observe)
{
    struct heard h = {0};
    struct cep_option opt = {11, span_str(path)};
    struct cep_message req = {code, &opt, 1, body};
    uint64_t handle = cep_request(f->session, &req, observe, false, on_heard, &h);
    for (unsigned i = 0; handle != 0 && h.calls == 0 && i < 2000; i++)
        pair_sleep(f, 1);
    if (handle != 0 && (observe || h.calls == 0))
        cep_cancel(f->session, handle);
    pair_sleep(f, 1); /* the cancellation goes out */
    return h;
}

static bool served(const struct heard *h) { return h->calls != 0 && h->code >> 5 == 2; }

static void ask_again(bool secure, uint8_t code, const char *path, size_t body_len, bool observe)
{
    static uint8_t body[5000];
    bool struck = true;
    struct pair *f = pair_new(secure, "127.0.0.1", &impatient);
    pair_run(f, &f->client_opened, 1);
    for (unsigned long n = 1; struck; n++) {
        assert_in_range(n, 1, MOST);
        oom_at(n);
        struct heard h = request(f, code, path, span_of(body, body_len), observe);
        struck = oom_end();
        if (!struck)
            assert_true(served(&h));
        else if (f->client_closed != 0) { /* refused with the session */
            f->client_closed = 0;
            pair_connect(f, "127.0.0.1", f->port, secure ? "alice" : NULL, key_a);
        }
        h = request(f, code, path, span_of(body, body_len), observe);
        if (!served(&h))
            fail_msg("%s: %u.%02u (%d), after allocation %lu failed", path, h.code >> 5, h.code & 31, (int)h.st, n);
    }
    pair_free(f);
}

static void requests(void **state)
{
    (void)state;
    for (int secure = 0; secure < 2; secure++) {
        ask_again(secure != 0, CEP_GET, "state", 0, false);
        ask_again(secure != 0, CEP_POST, "echo", 5, false);
        ask_again(secure != 0, CEP_POST, "echo", 5000, false);
        ask_again(secure != 0, CEP_GET, "big", 0, false);
        ask_again(secure != 0, CEP_GET, "state", 0, true);
    }
}

static void notifications(void **state)
{
    (void)state;
    bool struck = true;
    for (unsigned long n = 1; struck; n++) {
        assert_in_range(n, 1, MOST);
        struct pair *f = pair_new(true, "127.0.0.1", &impatient);
        struct heard h = {0};
        struct cep_option opt = {11, span_str("state")};
        struct cep_message req = {CEP_GET, &opt, 1, {0}};
        assert_true(cep_request(f->session, &req, true, false, on_heard, &h));
        pair_run(f, &h.calls, 1);
        oom_at(n);
        for (uint8_t i = 0; i < 3; i++)
            cep_notify(f->server, f->observation, &(struct cep_message){.code = CEP_CODE(2, 5), .payload = span_of(&i, 1)},
                       i != 1, i != 2);
        pair_sleep(f, 20);
        struck = oom_end();
        cep_observe_cancel(f->server, f->observation);
        cep_observe_cancel(f->server, f->observation); /* is none any more */
        pair_sleep(f, 5);
        pair_free(f);
    }
}

static void handshakes(void **state)
{
    (void)state;
    bool struck = true;
    struct pair *f = pair_new(true, "127.0.0.1", &impatient);
    pair_run(f, &f->client_opened, 1);
    for (unsigned long n = 1; struck; n++) {
        int err = 0;
        assert_in_range(n, 1, MOST);
        unsigned opened = f->client_opened, closed = f->client_closed;
        oom_at(n);
        struct cep_session *s = cep_connect(f->client, "127.0.0.1", f->port, "alice", span_str(key_a), &err);
        for (int i = 0; s != NULL && i < 2000 && f->client_opened == opened && f->client_closed == closed; i++)
            pair_sleep(f, 1);
        struck = oom_end();
        assert_true(s != NULL ? f->client_opened + f->client_closed > opened + closed : err == -ENOMEM);
        if (s != NULL && f->client_opened > opened)
            cep_session_close(s);
        pair_connect(f, "127.0.0.1", f->port, "alice", key_a);
        pair_run(f, &f->client_opened, opened + 1);
        cep_session_close(f->session);
        pair_sleep(f, 2);
    }
    pair_free(f);
}

static void endpoints(void **state)
{
    (void)state;
    sd_event *loop;
    bool struck = true;
    const struct cep_callbacks none = {0};
    assert_true(sd_event_new(&loop) >= 0);
    for (unsigned long n = 1; struck; n++) {
        assert_in_range(n, 1, MOST);
        oom_at(n);
        struct cep_endpoint *ep = cep_endpoint_new(loop, NULL, &none);
        int plain = ep != NULL ? cep_listen(ep, "127.0.0.1", 0, false, NULL) : -ENOMEM;
        int secure = ep != NULL ? cep_listen(ep, "::1", 0, true, NULL) : -ENOMEM;
        struck = oom_end();
        assert_true(plain == 0 || plain == -ENOMEM);
        assert_true(secure == 0 || secure == -ENOMEM);
        assert_true(struck || (plain == 0 && secure == 0));
        cep_endpoint_free(ep);
    }
    sd_event_unref(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests),
        cmocka_unit_test(notifications),
        cmocka_unit_test(handshakes),
        cmocka_unit_test(endpoints),
    };
    return cmocka_run_group_tests_name("coap_oom", tests, NULL, NULL);
}
