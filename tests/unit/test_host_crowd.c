/* Many CoAP peers of one mefd at once, and what reaches every worker. */
#include "tests/unit/clock.h"
#include "tests/unit/host_caller.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define VISITORS 48

struct visitor {
    struct crowd *crowd;
    struct cep_session *session;
    unsigned step, left;
    bool leaving;
};

struct crowd {
    sd_event *loop;
    struct cep_endpoint *ep;
    struct visitor all[VISITORS];
    unsigned visits, requests, failed;
};

static const struct step {
    uint8_t method;
    const char *path[3];
    const char *body;
    bool observe;
    unsigned answers;
} steps[] = {{CEP_GET, {"svc", "x"}, "", false, 1},
             {CEP_PUT, {"svc", "x"}, "{\"a\":[1,2,3]}", false, 1},
             {CEP_GET, {"svc", "thread"}, "", false, 1},
             {CEP_GET, {"svc", "key"}, "", false, 1},
             {CEP_POST, {"svc", "raw", "bounce"}, "", false, 1},
             {CEP_GET, {"svc", "raw", "watch"}, "", true, 4}};
#define NSTEPS (sizeof steps / sizeof steps[0])

static void visit_step(struct visitor *v);

/* What only this visitor's session can say. */
static bool right(const struct visitor *v, const struct cep_message *rsp)
{
    char text[64] = "";
    uint8_t key[16];
    if (rsp->code != CEP_CODE(2, 5) && rsp->code != CEP_CODE(2, 4))
        return false;
    if (v->step == 3 && cep_export(v->crowd->ep, cep_session_serial(v->session), "EXPORTER-tiny", key, sizeof key))
        for (size_t i = 0; i < sizeof key; i++)
            sprintf(text + 2 * i, "%02x", key[i]);
    else if (v->step == 4)
        sprintf(text, "back:visitor %td", v - v->crowd->all);
    return memmem(rsp->payload.p, rsp->payload.n, text, strlen(text)) != NULL;
}

static void on_visit(void *user, enum st st, const struct cep_message *rsp)
{
    struct visitor *v = user;
    if (v->leaving)
        return;
    if (st != ST_OK || !right(v, rsp)) {
        v->crowd->failed++;
        v->leaving = true;
    } else if (--v->left == 0) {
        v->step++;
        visit_step(v);
    }
}

static void visit_step(struct visitor *v)
{
    v->leaving = v->step == NSTEPS;
    if (v->leaving)
        return;
    const struct step *s = &steps[v->step];
    struct cep_option opts[4];
    char name[32];
    struct cep_message m = {.code = s->method, .opts = opts, .payload = span_str(s->body)};
    for (size_t i = 0; i < 3 && s->path[i] != NULL; i++)
        opts[m.nopts++] = (struct cep_option){11, span_str(s->path[i])};
    if (s->method == CEP_POST) {
        snprintf(name, sizeof name, "visitor %td", v - v->crowd->all);
        m.payload = span_str(name);
        opts[m.nopts++] = (struct cep_option)OPT(12, "\x2a");
    }
    v->left = s->answers;
    v->crowd->requests++;
    assert_true(cep_request(v->session, &m, s->observe, false, on_visit, v) > 0);
}

static void visit(const struct world *w, struct visitor *v, struct cep_certs *certs)
{
    int err = 0;
    unsigned n = v->crowd->visits++;
    const char *host = n % 2 == 0 ? "127.0.0.1" : "::1";
    v->step = 0;
    v->session = n % 8 == 7 ? cep_connect_certificate(v->crowd->ep, host, w->coaps, certs, "mef.test.example", &err)
                            : cep_connect(v->crowd->ep, host, w->coaps, "tiny@test", span_of(SECRET, 16), &err);
    assert_non_null(v->session);
    visit_step(v);
}

/* The visitors come, ask, and come again. */
static void visit_all(const struct world *w, struct crowd *c, struct cep_certs *certs, bool go_on)
{
    for (size_t i = 0; i < VISITORS; i++) {
        struct visitor *v = &c->all[i];
        v->crowd = c;
        if (v->session != NULL && !v->leaving)
            continue;
        if (v->session != NULL)
            cep_session_close(v->session);
        v->session = NULL;
        if (go_on)
            visit(w, v, certs);
    }
}

static bool all_gone(const struct crowd *c)
{
    for (size_t i = 0; i < VISITORS; i++)
        if (c->all[i].session != NULL)
            return false;
    return true;
}

static unsigned threads_of_workers(const struct world *w)
{
    char command[100];
    unsigned n = 0;
    snprintf(command, sizeof command, "cat /proc/%d/task/*/comm | grep -c '^coap-'", w->mefd);
    FILE *f = popen(command, "r");
    assert_int_equal(fscanf(f, "%u", &n), 1);
    pclose(f);
    return n;
}

static unsigned long metric(const char *page, const char *name)
{
    char line[100];
    snprintf(line, sizeof line, "\n%s ", name);
    const char *p = strstr(page, line);
    return p == NULL ? 0 : strtoul(p + strlen(line), NULL, 10);
}

static void coap_crowd(void **state)
{
    struct world *w = *state;
    struct crowd c = {0};
    struct cep_callbacks cb = {.request = on_back};
    char before[8000], page[8000];
    const char *tier = getenv("MEF_TIER");
    uint64_t last = tier != NULL && strcmp(tier, "long") == 0 ? 120000 : 3000, began = now_ms();
    assert_int_equal(threads_of_workers(w), workers() == 1 ? 0 : workers());
    assert_int_equal(status_page(w, "/metrics", before, sizeof before), 200);
    assert_true(sd_event_new(&c.loop) >= 0);
    assert_non_null(c.ep = cep_endpoint_new(c.loop, NULL, &cb));
    struct cep_certs *certs = certificate_of_ae(w);
    for (unsigned turns = 0; !all_gone(&c) || turns == 0; turns++) {
        bool go_on = now_ms() - began < last || c.visits < 2 * VISITORS;
        visit_all(w, &c, certs, go_on);
        if (turns % 100 == 99)
            kill(w->mefd, SIGHUP);
        if (turns % 100 == 49)
            assert_int_equal(status_page(w, "/metrics", page, sizeof page), 200);
        assert_true(sd_event_run(c.loop, 20000) >= 0);
        assert_true(now_ms() - began < last + 60000);
    }
    cep_endpoint_free(c.ep);
    sd_event_unref(c.loop);
    cep_certs_unref(certs);
    print_message("%u visits, %u requests in %u ms\n", c.visits, c.requests, (unsigned)(now_ms() - began));
    usleep(300000);
    assert_int_equal(status_page(w, "/metrics", page, sizeof page), 200);
    assert_int_equal(c.failed, 0);
    assert_int_equal(metric(page, "coap_sessions_total") - metric(before, "coap_sessions_total"), c.visits);
    assert_int_equal(metric(page, "host_coap_requests_total") - metric(before, "host_coap_requests_total"), c.requests);
    assert_int_equal(metric(page, "coap_handshakes_failed_total"), metric(before, "coap_handshakes_failed_total"));
    assert_int_equal(metric(page, "coap_sessions"), 0);
}

/* New anchors reach every worker; files that are not good reach none. */
static unsigned admitted(struct world *w, unsigned peers)
{
    unsigned n = 0;
    for (unsigned i = 0; i < peers; i++) {
        struct caller *c = caller_new(w, i % 2 == 0 ? "127.0.0.1" : "::1");
        const struct cep_option get[] = {OPT(11, "svc"), OPT(11, "x")};
        struct cep_message m = {CEP_GET, get, 2, {0}};
        cep_session_close(c->session);
        c->session = by_certificate(w, c->ep, i % 2 == 0 ? "127.0.0.1" : "::1");
        assert_true(cep_request(c->session, &m, false, false, on_coap, c) > 0);
        for (int turns = 0; turns < 500 && c->answers == 0 && c->ended == 0; turns++)
            sd_event_run(c->loop, 20000);
        n += c->answers;
        caller_free(c);
    }
    return n;
}

static void coap_certificates_are_replaced(void **state)
{
    struct world *w = *state;
    struct pki others;
    char ours[sizeof w->anchor];
    pki_open(&others);
    memcpy(ours, w->anchor, sizeof ours);
    assert_int_equal(admitted(w, 12), 12);
    pki_anchor(&others, w->anchor);
    write_conf(w, "hello", "");
    kill(w->mefd, SIGHUP);
    usleep(500000);
    assert_int_equal(admitted(w, 12), 0);
    snprintf(w->anchor, sizeof w->anchor, "/nowhere.pem");
    write_conf(w, "hello", "");
    kill(w->mefd, SIGHUP);
    usleep(500000);
    assert_int_equal(admitted(w, 12), 0);
    memcpy(w->anchor, ours, sizeof ours);
    write_conf(w, "hello", "");
    kill(w->mefd, SIGHUP);
    usleep(500000);
    assert_int_equal(admitted(w, 12), 12);
    pki_close(&others);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(coap_crowd),
        cmocka_unit_test(coap_certificates_are_replaced),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
