/* The CoAP endpoint with certificates: who gets in under which name, server names, reloading, bad networks. */
#include "tests/unit/coap_fixture.h"
#include "tests/unit/coap_pki.h"
#include "tests/unit/coap_relay.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct world {
    struct pki pki, other;
    char anchor[128], other_anchor[128];
    struct pki_names server, client;
};

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    pki_open(&w->pki);
    pki_open(&w->other);
    pki_anchor(&w->pki, w->anchor);
    pki_anchor(&w->other, w->other_anchor);
    w->server = pki_issue(&w->pki, "server", "DNS:mef.example.org, IP:127.0.0.1, IP:::1", "P-256", true);
    w->client = pki_issue(&w->pki, "client", "DNS:unused.example.org, URI://sp.example.org/CSE1/C-ae7", "P-256", true);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    pki_close(&w->pki);
    pki_close(&w->other);
    free(w);
    return 0;
}

static struct cep_certs *load_with(const struct pki_names *n, const char *anchor, const char *lists)
{
    char err[256] = "";
    struct cep_certificate one = {NULL, n != NULL ? n->cert : NULL, n != NULL ? n->key : NULL};
    struct cep_certs_files files = {
        .list = &one, .n = n != NULL, .trust_anchors = anchor, .revocation_lists = lists};
    struct cep_certs *c = cep_certs_load(&files, err, sizeof err);
    if (c == NULL)
        fail_msg("%s", err);
    return c;
}

static struct cep_certs *load(const struct pki_names *n, const char *anchor)
{
    return load_with(n, anchor, NULL);
}

/* The server takes these from now on. */
static void serve(struct pair *f, const struct pki_names *n, const char *anchor, const char *lists)
{
    struct cep_certs *c = load_with(n, anchor, lists);
    cep_endpoint_certificates(f->server, c, false);
    cep_certs_unref(c);
}

/* A pair whose server has certificates; the client's own PSK session is closed. */
static struct pair *cert_pair(const struct world *w, const char *host, bool optional, const struct cep_config *cfg)
{
    struct pair *f = pair_new(true, host, cfg);
    struct cep_certs *c = load(&w->server, w->anchor);
    cep_endpoint_certificates(f->server, c, optional);
    cep_certs_unref(c);
    cep_session_close(f->session);
    f->client_closed = 0;
    return f;
}

static void dial(struct pair *f, const char *host, uint16_t port, const struct pki_names *who, const char *anchor,
                 const char *server_name)
{
    int err;
    struct cep_certs *c = load(who, anchor);
    f->session = cep_connect_certificate(f->client, host, port, c, server_name, &err);
    cep_certs_unref(c);
    assert_non_null(f->session);
}

static void who_am_i(struct pair *f, const char *want)
{
    struct answer a = {0};
    assert_true(ask(f, CEP_GET, "whoami", span_of(NULL, 0), &a));
    pair_run(f, &a.calls, 1);
    assert_int_equal(a.st, ST_OK);
    assert_int_equal(a.len, strlen(want));
    assert_memory_equal(a.body, want, a.len);
    answer_wipe(&a);
}

static void shut_out(struct pair *f)
{
    unsigned opened = f->server_opened;
    pair_run(f, &f->client_closed, f->client_closed + 1);
    assert_int_equal(f->server_opened, opened);
    assert_int_equal(f->served, 0);
}

/* --- who gets in --- */

static void test_mutual(void **state)
{
    struct world *w = *state;
    static const char *const hosts[] = {"127.0.0.1", "::1"};
    for (int i = 0; i < 2; i++) {
        struct pair *f = cert_pair(w, hosts[i], false, NULL);
        dial(f, hosts[i], f->port, &w->client, w->anchor, "mef.example.org");
        who_am_i(f, "//sp.example.org/CSE1/C-ae7"); /* the URI, although a dNSName comes first */
        assert_int_equal(f->last_cred, CEP_CRED_CERT);
        dial(f, hosts[i], f->port, &w->client, w->anchor, NULL); /* the address is in the certificate */
        who_am_i(f, "//sp.example.org/CSE1/C-ae7");
        pair_connect(f, hosts[i], f->port, "alice", "0123456789abcdef"); /* and PSK still is */
        who_am_i(f, "alice");
        assert_int_equal(f->last_cred, CEP_CRED_PSK);
        pair_free(f);
    }
}

static void test_dns_name(void **state)
{
    struct world *w = *state;
    struct pki_names n = pki_issue(&w->pki, "dns", "DNS:gw.example.org", "P-256", true);
    struct pair *f = cert_pair(w, "127.0.0.1", false, NULL);
    dial(f, "127.0.0.1", f->port, &n, w->anchor, "mef.example.org");
    who_am_i(f, "gw.example.org");
    pair_free(f);
}

static void refused(struct world *w, const struct pki_names *who)
{
    struct pair *f = cert_pair(w, "127.0.0.1", false, NULL);
    dial(f, "127.0.0.1", f->port, who, w->anchor, "mef.example.org");
    shut_out(f);
    pair_free(f);
}

static void test_refused(void **state)
{
    struct world *w = *state;
    struct pki_names wild = pki_issue(&w->pki, "wild", "DNS:*.example.org", "P-256", true);
    struct pki_names none = pki_issue(&w->pki, "none", NULL, "P-256", true);
    struct pki_names mail = pki_issue(&w->pki, "mail", "email:ae@example.org", "P-256", true);
    struct pki_names device = pki_issue(&w->pki, "device", "otherName:1.3.6.1.5.5.7.8.4;UTF8:7", "P-256", true);
    struct pki_names old = pki_issue(&w->pki, "old", "URI:C-ae7", "P-256", false);
    struct pki_names foreign = pki_issue(&w->other, "foreign", "URI:C-ae7", "P-256", true);
    refused(w, &wild);
    refused(w, &none);
    refused(w, &mail);
    refused(w, &device);
    refused(w, &old);
    refused(w, &foreign);
    refused(w, NULL); /* no certificate at all */
}

/* The chain is checked as strictly as the suites are lax: security level 2, the purpose, what a name may hold. */
static void test_strict(void **state)
{
    struct world *w = *state;
    struct pki_names sha1 = pki_issue_as(&w->pki, "sha1", "URI:C-ae7", "clientAuth", "SHA1");
    struct pki_names usage = pki_issue_as(&w->pki, "usage", "URI:C-ae7", "serverAuth", "SHA256");
    struct pki_names blank = pki_issue(&w->pki, "blank", "URI:C ae7", "P-256", true);
    struct pki_names good = pki_issue_as(&w->pki, "good", "URI:C-ae7", "clientAuth", "SHA256");
    refused(w, &sha1);
    refused(w, &usage);
    refused(w, &blank);
    struct pair *f = cert_pair(w, "127.0.0.1", false, NULL);
    dial(f, "127.0.0.1", f->port, &good, w->anchor, "mef.example.org");
    who_am_i(f, "C-ae7");
    serve(f, &good, w->anchor, NULL); /* a client's certificate does not make a server */
    f->served = 0;
    dial(f, "127.0.0.1", f->port, &w->client, w->anchor, "mef.example.org");
    shut_out(f);
    pair_free(f);
}

/* --- revocation --- */

static void listed(struct world *w, const char *lists, const struct pki_names *who, bool good)
{
    struct pair *f = cert_pair(w, "127.0.0.1", false, NULL);
    serve(f, &w->server, w->anchor, lists);
    dial(f, "127.0.0.1", f->port, who, w->anchor, "mef.example.org");
    if (good)
        who_am_i(f, "//sp.example.org/CSE1/C-ae7");
    else
        shut_out(f);
    pair_free(f);
}

static void test_revoked(void **state)
{
    struct world *w = *state;
    char list[128];
    struct pki_names gone = pki_issue(&w->pki, "gone", "URI:C-gone", "P-256", true);
    listed(w, pki_list(&w->pki, "gone.crl", &gone, 3600, list), &gone, false);
    listed(w, list, &w->client, true);
    listed(w, pki_list(&w->pki, "none.crl", NULL, 3600, list), &w->client, true);
    listed(w, pki_list(&w->pki, "old.crl", NULL, -60, list), &w->client, false);   /* has expired */
    listed(w, pki_list(&w->other, "other.crl", NULL, 3600, list), &w->client, false); /* the same name, another key */
}

static void test_bad_lists(void **state)
{
    struct world *w = *state;
    char list[128], err[256] = "";
    struct cep_certs_files endless = {.trust_anchors = w->anchor,
                                      .revocation_lists = pki_list(&w->pki, "endless.crl", NULL, 0, list)};
    assert_null(cep_certs_load(&endless, err, sizeof err));
    assert_non_null(strstr(err, "endless.crl"));
    struct cep_certs_files none = {.trust_anchors = w->anchor, .revocation_lists = w->anchor};
    assert_null(cep_certs_load(&none, err, sizeof err));
    struct cep_certs_files nowhere = {.trust_anchors = w->anchor, .revocation_lists = "/nowhere"};
    assert_null(cep_certs_load(&nowhere, err, sizeof err));
    struct cep_certs_files alone = {.revocation_lists = pki_list(&w->pki, "alone.crl", NULL, 3600, list)};
    assert_null(cep_certs_load(&alone, err, sizeof err));
    assert_non_null(strstr(err, "without trust anchors"));
}

/* A new list takes effect at once, also for who is inside or in the middle of a handshake. */
static void test_revoked_later(void **state)
{
    struct world *w = *state;
    char list[128];
    struct pki_names gone = pki_issue(&w->pki, "gone2", "URI:C-gone", "P-256", true);
    struct pair *f = cert_pair(w, "127.0.0.1", false, NULL);
    serve(f, &w->server, w->anchor, pki_list(&w->pki, "later.crl", NULL, 3600, list));
    dial(f, "127.0.0.1", f->port, &w->client, w->anchor, "mef.example.org");
    who_am_i(f, "//sp.example.org/CSE1/C-ae7");
    struct cep_session *stays = f->session;
    dial(f, "127.0.0.1", f->port, &gone, w->anchor, "mef.example.org");
    who_am_i(f, "C-gone");
    serve(f, &w->server, w->anchor, pki_list(&w->pki, "later.crl", &gone, 3600, list));
    pair_run(f, &f->client_closed, 1);
    f->served = 0;
    dial(f, "127.0.0.1", f->port, &gone, w->anchor, "mef.example.org");
    shut_out(f);
    f->session = stays;
    who_am_i(f, "//sp.example.org/CSE1/C-ae7");
    pair_free(f);
}

/* More of them than are looked at in one go. */
static void test_many_revoked(void **state)
{
    struct world *w = *state;
    enum { MANY = 40 };
    char list[128];
    struct pki_names gone = pki_issue(&w->pki, "gone4", "URI:C-gone", "P-256", true);
    struct pair *f = cert_pair(w, "127.0.0.1", false, NULL);
    for (unsigned i = 0; i < MANY; i++) {
        dial(f, "127.0.0.1", f->port, i % 2 == 0 ? &gone : &w->client, w->anchor, "mef.example.org");
        who_am_i(f, i % 2 == 0 ? "C-gone" : "//sp.example.org/CSE1/C-ae7");
    }
    serve(f, &w->server, w->anchor, pki_list(&w->pki, "many.crl", &gone, 3600, list));
    pair_run(f, &f->client_closed, MANY / 2);
    struct cep_stats stats;
    cep_stats_get(f->server, &stats);
    assert_int_equal(stats.sessions, MANY / 2);
    who_am_i(f, "//sp.example.org/CSE1/C-ae7");
    pair_free(f);
}

struct interrupting {
    struct pair *f;
    struct world *w;
    const char *list;
    bool done;
};

/* Let the first flight of the server through, and change its lists before the client's certificate comes. */
static bool interrupt(void *user, bool to_server, struct span d)
{
    struct interrupting *i = user;
    if (to_server && !i->done && d.n > 13 && d.p[13] == 11) { /* Certificate */
        i->done = true;
        serve(i->f, &i->w->server, i->w->anchor, i->list);
    }
    return true;
}

static void test_revoked_meanwhile(void **state)
{
    struct world *w = *state;
    char list[128];
    struct relay r;
    struct pki_names gone = pki_issue(&w->pki, "gone3", "URI:C-gone", "P-256", true);
    struct pair *f = cert_pair(w, "127.0.0.1", false, NULL);
    struct interrupting i = {f, w, pki_list(&w->pki, "meanwhile.crl", &gone, 3600, list), false};
    relay_open(&r, f->loop, f->port, 1);
    r.pass = interrupt;
    r.user = &i;
    dial(f, "127.0.0.1", r.port, &gone, w->anchor, "mef.example.org");
    shut_out(f);
    assert_true(i.done);
    relay_close(&r);
    pair_free(f);
}

/* A client looks at lists, too, if it has them. */
static void test_revoked_server(void **state)
{
    struct world *w = *state;
    char list[128];
    int err;
    for (int revoked = 0; revoked < 2; revoked++) {
        struct pair *f = cert_pair(w, "127.0.0.1", false, NULL);
        pki_list(&w->pki, "server.crl", revoked == 1 ? &w->server : NULL, 3600, list);
        struct cep_certs *c = load_with(&w->client, w->anchor, list);
        f->session = cep_connect_certificate(f->client, "127.0.0.1", f->port, c, "mef.example.org", &err);
        cep_certs_unref(c);
        if (revoked == 1)
            shut_out(f);
        else
            who_am_i(f, "//sp.example.org/CSE1/C-ae7");
        pair_free(f);
    }
}

/* When do they end? */
static void test_expiry(void **state)
{
    struct world *w = *state;
    char list[128];
    int64_t now = (int64_t)time(NULL);
    struct cep_certs *c = load_with(&w->server, w->anchor, pki_list(&w->pki, "end.crl", NULL, 600, list));
    struct cep_certs_expiry e = cep_certs_expiry(c);
    assert_in_range(e.certificate - now, 7000, 7210);
    assert_in_range(e.revocation_list - now, 590, 610);
    cep_certs_unref(c);
    c = load(NULL, w->anchor);
    e = cep_certs_expiry(c);
    assert_true(e.certificate == INT64_MAX && e.revocation_list == INT64_MAX);
    cep_certs_unref(c);
}

static void test_optional(void **state)
{
    struct world *w = *state;
    struct pki_names foreign = pki_issue(&w->other, "foreign2", "URI:C-ae7", "P-256", true);
    struct pair *f = cert_pair(w, "127.0.0.1", true, NULL);
    dial(f, "127.0.0.1", f->port, NULL, w->anchor, "mef.example.org");
    who_am_i(f, "");
    assert_int_equal(f->last_cred, CEP_CRED_NONE);
    f->served = 0;
    dial(f, "127.0.0.1", f->port, &foreign, w->anchor, "mef.example.org"); /* but a bad one is not "none" */
    shut_out(f);
    pair_free(f);
}

static void wrong_server(struct world *w, const char *anchor, const char *name)
{
    struct pair *f = cert_pair(w, "127.0.0.1", false, NULL);
    dial(f, "127.0.0.1", f->port, &w->client, anchor, name);
    shut_out(f);
    pair_free(f);
}

static void test_wrong_server(void **state)
{
    struct world *w = *state;
    wrong_server(w, w->other_anchor, "mef.example.org");
    wrong_server(w, w->anchor, "example.org");
    wrong_server(w, w->anchor, "server"); /* the common name does not count */
    wrong_server(w, w->anchor, "127.0.0.2");
}

static void test_bad_files(void **state)
{
    struct world *w = *state;
    struct pki_names p384 = pki_issue(&w->pki, "p384", "URI:C-ae7", "P-384", true);
    char err[256];
    struct cep_certificate bad[] = {{NULL, w->server.cert, w->client.key},
                                    {NULL, "/nowhere", w->client.key},
                                    {NULL, w->server.key, w->server.key},
                                    {NULL, w->server.cert, w->server.cert},
                                    {NULL, p384.cert, p384.key}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err[0] = '\0';
        struct cep_certs_files files = {.list = &bad[i], .n = 1};
        assert_null(cep_certs_load(&files, err, sizeof err));
        assert_true(strlen(err) > 0);
    }
    struct cep_certs_files no_anchor = {.trust_anchors = w->client.key}, too_many = {.list = bad, .n = 65};
    assert_null(cep_certs_load(&no_anchor, err, sizeof err));
    assert_null(cep_certs_load(&too_many, err, sizeof err));
}

/* --- several certificates, other certificates --- */

static void test_server_names(void **state)
{
    struct world *w = *state;
    struct pki_names b = pki_issue(&w->pki, "b", "DNS:b.example.org", "P-256", true);
    struct pair *f = cert_pair(w, "127.0.0.1", false, NULL);
    char err[256];
    struct cep_certificate two[] = {{NULL, w->server.cert, w->server.key}, {"b.example.org", b.cert, b.key}};
    struct cep_certs_files files = {.list = two, .n = 2, .trust_anchors = w->anchor};
    struct cep_certs *c = cep_certs_load(&files, err, sizeof err);
    assert_non_null(c);
    cep_endpoint_certificates(f->server, c, false);
    cep_certs_unref(c);
    static const char *const names[] = {"b.example.org", "B.example.org", "mef.example.org"};
    for (int i = 0; i < 3; i++) {
        dial(f, "127.0.0.1", f->port, &w->client, w->anchor, names[i]);
        who_am_i(f, "//sp.example.org/CSE1/C-ae7");
    }
    two[0] = (struct cep_certificate){"c.example.org", b.cert, b.key}; /* not its name */
    assert_null(cep_certs_load(&files, err, sizeof err));
    assert_non_null(strstr(err, "c.example.org is not in the certificate"));
    two[0].server_name = "B.example.org";
    assert_null(cep_certs_load(&files, err, sizeof err));
    assert_non_null(strstr(err, "has another certificate"));
    pair_free(f);
}

static void test_reload(void **state)
{
    struct world *w = *state;
    struct pair *f = cert_pair(w, "127.0.0.1", false, NULL);
    dial(f, "127.0.0.1", f->port, &w->client, w->anchor, "mef.example.org");
    who_am_i(f, "//sp.example.org/CSE1/C-ae7");
    uint64_t old = cep_session_serial(f->session);
    struct pki_names next = pki_issue(&w->other, "next", "DNS:mef.example.org", "P-256", true);
    struct pki_names theirs = pki_issue(&w->other, "theirs", "URI:C-new", "P-256", true);
    serve(f, &w->server, w->anchor, NULL); /* the same again: who is there stays */
    who_am_i(f, "//sp.example.org/CSE1/C-ae7");
    pair_connect(f, "127.0.0.1", f->port, "alice", "0123456789abcdef");
    who_am_i(f, "alice");
    struct cep_session *alice = f->session;
    serve(f, &next, w->other_anchor, NULL); /* nobody of the old authority is trusted any more */
    pair_run(f, &f->client_closed, 1);
    assert_null(cep_session_find(f->client, old));
    f->session = alice;
    who_am_i(f, "alice");
    dial(f, "127.0.0.1", f->port, &theirs, w->other_anchor, "mef.example.org");
    who_am_i(f, "C-new");
    cep_endpoint_certificates(f->server, NULL, false);
    pair_run(f, &f->client_closed, 2);
    f->served = 0;
    dial(f, "127.0.0.1", f->port, &theirs, w->other_anchor, "mef.example.org");
    shut_out(f);
    pair_free(f);
}

/* --- bad networks --- */

struct narrow {
    size_t max; /* larger datagrams do not get through */
    unsigned dropped, hellos;
};

static bool narrow_pass(void *user, bool to_server, struct span d)
{
    struct narrow *n = user;
    n->hellos += to_server && d.n > 13 && d.p[0] == 22 && d.p[13] == 1;
    n->dropped += d.n > n->max;
    return d.n <= n->max;
}

static void test_loss(void **state)
{
    struct world *w = *state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct relay r;
        struct pair *f = cert_pair(w, "127.0.0.1", false, NULL);
        relay_open(&r, f->loop, f->port, seed);
        r.loss = r.dup = r.reorder = 12;
        dial(f, "127.0.0.1", r.port, &w->client, w->anchor, "mef.example.org");
        pair_run(f, &f->client_opened, 1);
        pair_run(f, &f->server_opened, 1);
        r.loss = r.dup = r.reorder = 0;
        who_am_i(f, "//sp.example.org/CSE1/C-ae7");
        relay_close(&r);
        pair_free(f);
    }
}

/* A path that takes less than the flights need: after some tries they come in smaller pieces. */
static void test_narrow_path(void **state)
{
    struct world *w = *state;
    struct relay r;
    struct pair *f = cert_pair(w, "127.0.0.1", false, NULL);
    struct narrow n = {.max = 548};
    relay_open(&r, f->loop, f->port, 1);
    r.pass = narrow_pass;
    r.user = &n;
    dial(f, "127.0.0.1", r.port, &w->client, w->anchor, "mef.example.org");
    pair_run(f, &f->client_opened, 1);
    assert_true(n.dropped > 0);
    struct answer a = {0};
    static uint8_t body[5000];
    assert_true(ask(f, CEP_POST, "echo", span_of(body, sizeof body), &a));
    pair_run(f, &a.calls, 1);
    assert_int_equal(a.len, sizeof body);
    answer_wipe(&a);
    relay_close(&r);
    pair_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mutual),       cmocka_unit_test(test_dns_name),     cmocka_unit_test(test_refused),
        cmocka_unit_test(test_optional),     cmocka_unit_test(test_wrong_server), cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_server_names), cmocka_unit_test(test_reload),       cmocka_unit_test(test_loss),
        cmocka_unit_test(test_narrow_path),  cmocka_unit_test(test_strict),       cmocka_unit_test(test_revoked),
        cmocka_unit_test(test_bad_lists),    cmocka_unit_test(test_revoked_later), cmocka_unit_test(test_many_revoked),
        cmocka_unit_test(test_revoked_meanwhile), cmocka_unit_test(test_revoked_server), cmocka_unit_test(test_expiry),
    };
    return cmocka_run_group_tests_name("coap cert", tests, set_up, tear_down);
}
