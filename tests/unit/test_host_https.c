/* mefd's HTTPS: requests and primitives by libcurl, TLS and peers that misbehave by OpenSSL's client. */
#include "tests/unit/host_fixture.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* --- requests ----------------------------------------------------------------------------------------------------- */

static void https_services(void **state)
{
    const struct world *w = *state;
    struct reply r = https(w, "PUT", "/svc/a%20b?x=1&y=%C3%A9", "Content-Type: application/json|Authorization: Bearer t",
                           "{\"k\":[1]}");
    assert_int_equal(r.status, 200);
    assert_true(has(&r, "\"path\":\"svc/a b\",\"op\":3,\"ty\":-1,\"binding\":2,\"cred\":0,\"odd\":1,\"identity\":\"\""));
    assert_true(has(&r, "\"authorization\":\"Bearer t\",\"length\":9,\"x\":\"1\",\"y\":\"\xc3\xa9\",\"pc\":{\"k\":[1]}"));
    r = https_n(w, "[::1]", "GET", "/svc/x", "", span_str(""));
    assert_int_equal(r.status, 200);
    r = https(w, "POST", "/svc/x", "Content-Type: application/json", "{}");
    assert_int_equal(r.status, 201);
    assert_non_null(strcasestr(r.headers, "\nLocation: /prim/new\r"));
    r = https(w, "GET", "/svc/fail", "", "");
    assert_int_equal(r.status, 409);
    assert_string_equal(r.body, "{\"type\":\"about:blank\",\"title\":\"Conflict\",\"status\":409,"
                                "\"detail\":\"it is \\\"taken\\\"\",\"code\":\"taken\",\"field\":\"name\"}");
    assert_non_null(strcasestr(r.headers, "\nContent-Type: application/problem+json\r"));
    static const struct {
        const char *method, *path, *headers, *body;
        long status;
    } cases[] = {
        {"GET", "/nowhere", "", "", 404},
        {"GET", "/svcx", "", "", 404},
        {"GET", "/", "", "", 404},
        {"GET", "/svc/%00", "", "", 400},
        {"PATCH", "/svc/x", "", "", 405},
        {"PUT", "/svc/x", "Content-Type: application/json", "{\"a\":1,\"a\":2}", 400},
        {"PUT", "/svc/x", "Content-Type: application/json", "{} ", 200},
        {"PUT", "/svc/x", "Content-Type: application/json", "{} 1", 400},
        {"PUT", "/svc/x", "Content-Type: text/xml", "<a/>", 415},
        {"GET", "/svc/x", "Accept: text/xml", "", 406},
        {"PUT", "/svc/raw/x", "Content-Type: text/xml|Accept: text/xml", "<a/>", 200},
        {"GET", "/svc/timer", "", "", 200},
        {"GET", "/svc/thread", "", "", 200},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        r = https(w, cases[i].method, cases[i].path, cases[i].headers, cases[i].body);
        if (r.status != cases[i].status)
            fail_msg("%s %s gave %ld: %s", cases[i].method, cases[i].path, r.status, r.body);
    }
}

#define PRIM "X-M2M-Origin: Cae|X-M2M-RI: r7|X-M2M-RVI: 3|"

/* What the headers of a primitive come to. */
static void each_header_has_its_rsc(const struct world *w)
{
    static const struct {
        const char *method, *headers, *body, *rsc;
    } cases[] = {
        {"GET", "X-M2M-Origin: Cae|X-M2M-RVI: 3", "", "4000"},
        {"GET", "X-M2M-RI: 1|X-M2M-RVI: 3", "", "4000"},
        {"GET", "X-M2M-Origin: Cae|X-M2M-RI: 1|X-M2M-RVI: 9", "", "4001"},
        {"GET", "x-m2m-origin: Cae|x-m2m-ri: 1", "", "2000"},
        {"PUT", PRIM, "", "4000"},
        {"DELETE", PRIM "Content-Type: application/json", "{}", "4000"},
        {"POST", "X-M2M-RI: 1|Content-Type: application/json;ty=2", "{}", "2001"},
        {"POST", "X-M2M-RI: 1|Content-Type: application/json;ty=3", "{}", "4000"},
        {"POST", PRIM "Content-Type: application/json;ty=x", "{}", "4000"},
        {"POST", PRIM "Content-Type: application/xml;ty=3", "<a/>", "4015"},
        {"GET", PRIM "Accept: application/xml", "", "5207"},
        {"PUT", PRIM "Content-Type: application/vnd.onem2m-res+cbor", "\xa1\x61k\x01", "2000"},
        {"PUT", PRIM "Content-Type: application/cbor", "\xa1\x61k", "4000"},
        {"PUT", PRIM "Content-Type: application/cbor|Accept: application/json", "\xa1\x61k\x01", "2000"},
        {"GET", PRIM "X-M2M-RET: 20200101T000000", "", "4008"},
        {"GET", PRIM "X-M2M-RET: 20991231T000000,5", "", "2000"},
        {"GET", PRIM "X-M2M-RET: 10000", "", "2000"},
        {"GET", PRIM "X-M2M-RET: tomorrow", "", "4000"},
        {"GET", PRIM "X-M2M-OT: 2020", "", "2000"},
        {"GET", PRIM "X-M2M-OT: x", "", "4000"},
        {"GET", PRIM "X-M2M-VSI: a=b|X-Vendor: c|X-M2M-GID: g", "", "2000"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char want[40];
        struct reply r = https(w, cases[i].method, "/prim", cases[i].headers, cases[i].body);
        snprintf(want, sizeof want, "\nX-M2M-RSC: %s\r", cases[i].rsc);
        if (strcasestr(r.headers, want) == NULL)
            fail_msg("%s %s: want %s, got %s%s", cases[i].method, cases[i].headers, cases[i].rsc, r.headers, r.body);
    }
}

static void https_primitives(void **state)
{
    const struct world *w = *state;
    struct reply r = https(w, "POST", "/prim", PRIM "Content-Type: application/vnd.onem2m-res+json;ty=60002", "{\"a\":{}}");
    assert_int_equal(r.status, 201);
    assert_true(has(&r, "\"op\":1,\"ty\":60002,"));
    assert_true(has(&r, "\"from\":\"Cae\""));
    assert_non_null(strcasestr(r.headers, "\nX-M2M-RSC: 2001\r"));
    assert_non_null(strcasestr(r.headers, "\nX-M2M-RI: r7\r"));
    assert_non_null(strcasestr(r.headers, "\nX-M2M-RVI: 3\r"));
    assert_non_null(strcasestr(r.headers, "\nContent-Location: /prim/new\r"));
    assert_non_null(strcasestr(r.headers, "\nContent-Type: application/vnd.onem2m-res+json\r"));
    r = https(w, "POST", "/prim", PRIM "Content-Type: application/json", "{}");
    assert_true(has(&r, "\"op\":5,"));
    r = https(w, "GET", "/~/prim", PRIM, "");
    assert_true(has(&r, "\"path\":\"prim\",\"op\":2"));
    r = https(w, "GET", "/_/mef.example.org/prim/x", PRIM, "");
    assert_true(has(&r, "\"path\":\"prim/x\""));
    r = https(w, "GET", "/prim?rt=3&x=1", PRIM "X-M2M-OT: 20260101T000000", "");
    assert_int_equal(r.status, 200);
    assert_true(has(&r, "\"x\":\"1\"") && !has(&r, "\"rt\""));
    assert_non_null(strcasestr(r.headers, "\nX-M2M-OT: 2")); /* the answer's own */
    assert_null(strcasestr(r.headers, "\nX-M2M-OT: 20260101T000000\r"));
    assert_int_equal(https(w, "GET", "/prim?rt=4", PRIM, "").status, 200);
    assert_int_equal(https(w, "GET", "/prim?rt=1", PRIM, "").status, 501);
    assert_int_equal(https(w, "GET", "/prim?rt=2", PRIM, "").status, 501);
    assert_int_equal(https(w, "GET", "/prim?rt=5", PRIM, "").status, 501);
    assert_int_equal(https(w, "GET", "/prim?rt=6", PRIM, "").status, 400);
    assert_int_equal(https(w, "GET", "/prim?rt=", PRIM, "").status, 400);
    r = https(w, "GET", "/prim/fail", PRIM "Accept: application/vnd.onem2m-res+cbor", "");
    assert_non_null(strcasestr(r.headers, "\nContent-Type: application/vnd.onem2m-res+cbor\r"));
    assert_true(r.n > 10 && memcmp(r.body, "\xa1\x67m2m:dbg\x6dit is \"taken\"", r.n) == 0);
    r = https(w, "GET", "/prim/fail", PRIM, "");
    assert_int_equal(r.status, 409);
    assert_string_equal(r.body, "{\"m2m:dbg\":\"it is \\\"taken\\\"\"}");
    each_header_has_its_rsc(w);
}

static void https_limits(void **state)
{
    const struct world *w = *state;
    size_t n = 1048576;
    char *big = malloc(n + 1), long_header[60100];
    memset(big, 'x', n);
    big[n] = '\0';
    static const char *const ways[] = {"Content-Type: application/json", "Content-Type: application/json|Expect:",
                                       "Content-Type: application/json|Transfer-Encoding: chunked"};
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++)
        assert_int_equal(https_n(w, "127.0.0.1", "PUT", "/svc/x", ways[i], span_of(big, n)).status, 413);
    assert_int_equal(https_n(w, "127.0.0.1", "PUT", "/svc/raw/x", "Expect:", span_of(big, 65536)).status, 200);
    assert_int_equal(https_n(w, "127.0.0.1", "PUT", "/svc/raw/x", "Expect:", span_of(big, 65537)).status, 413);
    memcpy(long_header, "/svc/x?", 7);
    memset(long_header + 7, 'a', sizeof long_header - 8);
    long_header[sizeof long_header - 1] = '\0';
    CURL *c = curl_easy_init(); /* a request line of 60 kB */
    char *url = NULL;
    assert_true(asprintf(&url, "https://127.0.0.1:%u%s", w->https, long_header) > 0);
    long status = 0;
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_CAINFO, w->ca);
    curl_easy_setopt(c, CURLOPT_TIMEOUT, 5L);
    assert_int_equal(curl_easy_perform(c), CURLE_OK);
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    assert_true(status == 414 || status == 431 || status == 400);
    curl_easy_cleanup(c);
    free(url);
    free(big);
}

/* --- TLS by hand -------------------------------------------------------------------------------------------------- */

static int dial(uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {8, 0};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static const char *psk_identity;

static unsigned on_psk(SSL *ssl, const char *hint, char *identity, unsigned cap, unsigned char *key, unsigned keycap)
{
    (void)ssl;
    (void)hint;
    snprintf(identity, cap, "%s", psk_identity);
    assert_true(keycap >= 16);
    memcpy(key, SECRET, 16);
    return 16;
}

/* One request over TLS with a PSK; the whole answer in out. False: no handshake. */
static bool psk_get(const struct world *w, int version, const char *ciphers, const char *identity, char *out, size_t cap,
                    uint8_t exported[16])
{
    static const char get[] = "GET /svc/key HTTP/1.1\r\nHost: x\r\n\r\nGET /svc/echo HTTP/1.1\r\nHost: x\r\n"
                              "Connection: close\r\n\r\n";
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(ctx, version);
    SSL_CTX_set_max_proto_version(ctx, version);
    assert_int_equal(SSL_CTX_set_cipher_list(ctx, ciphers), 1);
    psk_identity = identity;
    SSL_CTX_set_psk_client_callback(ctx, on_psk);
    SSL *ssl = SSL_new(ctx);
    int fd = dial(w->https);
    SSL_set_fd(ssl, fd);
    bool ok = SSL_connect(ssl) == 1;
    size_t n = 0;
    if (ok) {
        SSL_export_keying_material(ssl, exported, 16, "EXPORTER-tiny", 13, NULL, 0, 0);
        assert_true(SSL_write(ssl, get, sizeof get - 1) > 0);
        int got;
        while (n < cap - 1 && (got = SSL_read(ssl, out + n, (int)(cap - 1 - n))) > 0)
            n += (size_t)got;
    }
    out[n] = '\0';
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    close(fd);
    return ok;
}

static void tls_psk_and_exporter(void **state)
{
    const struct world *w = *state;
    static const struct {
        int version;
        const char *ciphers;
    } ways[] = {{TLS1_2_VERSION, "PSK-AES128-CBC-SHA256"}, /* the one TS-0003 10.2.2 mandates */
                {TLS1_2_VERSION, "PSK-AES128-GCM-SHA256"},
                {TLS1_2_VERSION, "ALL"},
                {TLS1_3_VERSION, "DEFAULT"}};
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        char out[4000], want[64] = "\"key\":\"";
        uint8_t key[16];
        assert_true(psk_get(w, ways[i].version, ways[i].ciphers, "tiny@test", out, sizeof out, key));
        for (size_t k = 0; k < sizeof key; k++)
            sprintf(want + strlen(want), "%02x", key[k]);
        if (strstr(out, want) == NULL || strstr(out, "\"cred\":1,\"odd\":1,\"identity\":\"tiny@test\"") == NULL)
            fail_msg("%s: %s", ways[i].ciphers, out);
    }
    char out[4000];
    uint8_t key[16];
    assert_false(psk_get(w, TLS1_2_VERSION, "PSK", "stranger", out, sizeof out, key));
}

/* A peer that says nothing, or half a request, is cut off; one that floods is held at the limit; others are served. */
static void slow_peers_are_cut_off(void **state)
{
    const struct world *w = *state;
    int fds[40];
    char c;
    for (size_t i = 0; i < 40; i++)
        fds[i] = dial(w->https);
    assert_int_equal(read(fds[0], &c, 1), 0); /* handshake-seconds = 1 */
    assert_int_equal(https(w, "GET", "/svc/x", "", "").status, 200);
    for (size_t i = 0; i < 40; i++)
        close(fds[i]);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    int fd = dial(w->https);
    SSL_set_fd(ssl, fd);
    assert_int_equal(SSL_connect(ssl), 1);
    time_t began = time(NULL);
    char text[500];
    int dripped = 0;
    while (dripped < 100 && SSL_write(ssl, "G", 1) == 1) { /* a byte of a request now and then */
        dripped++;
        usleep(100000);
    }
    assert_true(dripped > 0 && dripped < 100 && time(NULL) - began <= 6); /* idle-seconds = 3 */
    while (SSL_read(ssl, text, sizeof text) > 0)
        ;
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    close(fd);
}

/* Many requests in one write: bounded buffers push back, order stays. */
static void pipelined_requests(void **state)
{
    const struct world *w = *state;
    enum { COUNT = 500 };
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    int fd = dial(w->https);
    SSL_set_fd(ssl, fd);
    assert_int_equal(SSL_connect(ssl), 1);
    char *all = calloc(COUNT, 400), *p = all, *out = calloc(COUNT, 1200);
    for (int i = 0; i < COUNT; i++)
        p += sprintf(p, "GET /svc/n%d?pad=%0200d HTTP/1.1\r\nHost: x\r\n%s\r\n", i, i, i == COUNT - 1 ? "Connection: close\r\n" : "");
    if (fork() == 0) { /* a writer beside the reader; nothing is written by the parent meanwhile */
        SSL_write(ssl, all, (int)(p - all));
        _exit(0);
    }
    int n = 0, got;
    while ((got = SSL_read(ssl, out + n, 4096)) > 0)
        n += got;
    out[n] = '\0';
    const char *at = out;
    for (int i = 0; i < COUNT; i++) {
        char want[32];
        snprintf(want, sizeof want, "\"path\":\"svc/n%d\"", i);
        at = strstr(at, want);
        assert_non_null(at);
    }
    wait(NULL);
    free(all);
    free(out);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    close(fd);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(https_services),
        cmocka_unit_test(https_primitives),
        cmocka_unit_test(https_limits),
        cmocka_unit_test(tls_psk_and_exporter),
        cmocka_unit_test(slow_peers_are_cut_off),
        cmocka_unit_test(pipelined_requests),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
