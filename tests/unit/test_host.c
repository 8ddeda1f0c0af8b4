/* mefd as a process with the plugin of host_plugin.c: bindings, limits, asynchronous answers, life. HTTPS by libcurl and
 * OpenSSL's client, CoAP by our own endpoint; certificate and keys by `mefctl init`. */
#include "cse-shim/coap/coap.h"
#include "cse-shim/host/json.h"
#include "tests/unit/coap_pki.h"

#include <setjmp.h>
#include <stdarg.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <curl/curl.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SECRET "\x5a\x5a\x5a\x5a\x5a\x5a\x5a\x5a\x5a\x5a\x5a\x5a\x5a\x5a\x5a\x5a"

struct world {
    char dir[64], conf[96], ca[96];
    uint16_t coaps, https, status;
    unsigned drain; /* drain-seconds */
    pid_t mefd;
    struct pki pki; /* of CoAP clients */
    char anchor[128];
};

/* --- one mefd ----------------------------------------------------------------------------------------------------------- */

static uint16_t free_port(int kind)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, kind, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    getsockname(fd, (struct sockaddr *)&a, &len);
    close(fd);
    return ntohs(a.sin_port);
}

static int run(const char *program, char *const argv[], const char *log)
{
    pid_t child = fork();
    if (child == 0) {
        if (log != NULL && (freopen(log, "w", stdout) == NULL || dup2(1, 2) < 0))
            _exit(126);
        execv(program, argv);
        _exit(127);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The whole is run with several numbers of CoAP workers. */
static unsigned workers(void)
{
    const char *n = getenv("COAP_WORKERS");
    return n == NULL ? 1 : (unsigned)atoi(n);
}

static void write_conf(const struct world *w, const char *greeting, const char *more)
{
    FILE *f = fopen(w->conf, "w");
    fprintf(f,
            "[daemon]\nplugin = %s\ndrain-seconds = %u\n[tiny]\ngreeting = %s\n[coap]\nworkers = %u\nlisten = 127.0.0.1:%u, [::1]:%u\n"
            "certificate = server.pem\nprivate-key = server.key\ntrust-anchors = %s\n[https]\nlisten = 127.0.0.1:%u, [::1]:%u\ncertificate = server.pem\nprivate-key = server.key\nidle-seconds = 3\n"
            "handshake-seconds = 1\nmax-connections = 20\n[status]\nlisten = 127.0.0.1:%u\n%s",
            getenv("TINY_PLUGIN"), w->drain, greeting, workers(), w->coaps, w->coaps, w->anchor, w->https, w->https, w->status, more);
    fclose(f);
}

struct reply {
    long status;
    char *body, headers[2000];
    size_t n, nheaders;
};

static size_t on_body(char *p, size_t size, size_t n, void *user)
{
    struct reply *r = user;
    r->body = realloc(r->body, r->n + size * n + 1);
    memcpy(r->body + r->n, p, size * n);
    r->n += size * n;
    r->body[r->n] = '\0';
    return size * n;
}

static size_t on_header(char *p, size_t size, size_t n, void *user)
{
    struct reply *r = user;
    if (r->nheaders + size * n < sizeof r->headers) {
        memcpy(r->headers + r->nheaders, p, size * n);
        r->nheaders += size * n;
        r->headers[r->nheaders] = '\0';
    }
    return size * n;
}

/* headers: lines separated by '|'. */
static struct reply https_n(const struct world *w, const char *host, const char *method, const char *path,
                            const char *headers, struct span body)
{
    static struct reply r;
    char url[200], copy[1000], *rest = NULL;
    struct curl_slist *list = NULL;
    CURL *c = curl_easy_init();
    free(r.body);
    r = (struct reply){.body = calloc(1, 1)};
    snprintf(url, sizeof url, "https://%s:%u%s", host, w->https, path);
    snprintf(copy, sizeof copy, "%s", headers);
    for (char *h = strtok_r(copy, "|", &rest); h != NULL; h = strtok_r(NULL, "|", &rest))
        list = curl_slist_append(list, h);
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(c, CURLOPT_CAINFO, w->ca);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, list);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, &r);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, &r);
    curl_easy_setopt(c, CURLOPT_TIMEOUT, 10L);
    if (body.n != 0) {
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE, (long)body.n);
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, body.p);
    }
    CURLcode code = curl_easy_perform(c);
    if (code != CURLE_OK)
        r.status = -(long)code;
    else
        curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &r.status);
    curl_slist_free_all(list);
    curl_easy_cleanup(c);
    return r;
}

static struct reply https(const struct world *w, const char *method, const char *path, const char *headers, const char *body)
{
    return https_n(w, "127.0.0.1", method, path, headers, span_str(body));
}

static long status_page(const struct world *w, const char *path, char *body, size_t cap)
{
    char url[200];
    struct reply r = {.body = calloc(1, 1)};
    CURL *c = curl_easy_init();
    snprintf(url, sizeof url, "http://127.0.0.1:%u%s", w->status, path);
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, &r);
    curl_easy_setopt(c, CURLOPT_TIMEOUT, 5L);
    if (curl_easy_perform(c) == CURLE_OK)
        curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &r.status);
    curl_easy_cleanup(c);
    snprintf(body, cap, "%s", r.body);
    free(r.body);
    return r.status;
}

static void start(struct world *w)
{
    char log[100], page[8000];
    snprintf(log, sizeof log, "%s/log", w->dir);
    w->mefd = fork();
    if (w->mefd == 0) {
        if (freopen(log, "a", stderr) == NULL)
            _exit(126);
        execl(getenv("MEFD"), "mefd", "--config", w->conf, NULL);
        _exit(127);
    }
    for (int i = 0; i < 200; i++) {
        if (status_page(w, "/readyz", page, sizeof page) == 200)
            return;
        usleep(25000);
    }
    fail_msg("mefd is not ready, see %s", log);
}

static int stop(struct world *w, int sig)
{
    int status = 0;
    kill(w->mefd, sig);
    waitpid(w->mefd, &status, 0);
    w->mefd = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    strcpy(w->dir, "/tmp/test-host-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(w->conf, sizeof w->conf, "%s/mefd.conf", w->dir);
    snprintf(w->ca, sizeof w->ca, "%s/server.pem", w->dir);
    pki_open(&w->pki);
    pki_anchor(&w->pki, w->anchor);
    char *const init[] = {"mefctl", "init", "--fqdn", "mef.test.example", "--dir", w->dir, NULL};
    assert_int_equal(run(getenv("MEFCTL"), init, "/dev/null"), 0);
    w->coaps = free_port(SOCK_DGRAM);
    w->https = free_port(SOCK_STREAM);
    w->status = free_port(SOCK_STREAM);
    w->drain = 2;
    write_conf(w, "hello", "");
    curl_global_init(CURL_GLOBAL_DEFAULT);
    json_wipe_on_free();
    start(w);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    int code = w->mefd != 0 ? stop(w, SIGTERM) : 0;
    char command[100];
    snprintf(command, sizeof command, "rm -r %s", w->dir);
    if (code != 0 || system(command) != 0)
        printf("mefd ended with %d, its folder is %s\n", code, w->dir);
    pki_close(&w->pki);
    free(w);
    return code;
}

/* --- HTTPS ---------------------------------------------------------------------------------------------------------------- */

static bool has(const struct reply *r, const char *text)
{
    return strstr(r->body, text) != NULL;
}

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
        r = https(w, cases[i].method, "/prim", cases[i].headers, cases[i].body);
        snprintf(want, sizeof want, "\nX-M2M-RSC: %s\r", cases[i].rsc);
        if (strcasestr(r.headers, want) == NULL)
            fail_msg("%s %s: want %s, got %s%s", cases[i].method, cases[i].headers, cases[i].rsc, r.headers, r.body);
    }
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

/* --- TLS by hand --------------------------------------------------------------------------------------------------------- */

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

/* --- CoAP ------------------------------------------------------------------------------------------------------------------ */

struct caller {
    sd_event *loop;
    struct cep_endpoint *ep;
    struct cep_session *session;
    unsigned answers, ended;
    uint8_t code;
    char body[1000];
    struct span last; /* body of the last answer, bytes as they came; in `bytes` */
    uint8_t bytes[1000];
    char options[400]; /* "num=value " of the last answer, value as hex */
};

static void on_back(void *user, struct cep_exchange *ex, const struct cep_message *req)
{
    (void)user;
    char text[100];
    snprintf(text, sizeof text, "back:%.*s", (int)req->payload.n, (const char *)req->payload.p);
    struct cep_message rsp = {.code = CEP_CODE(2, 4), .payload = span_str(text)};
    cep_respond(ex, &rsp, false);
}

static void on_coap(void *user, enum st st, const struct cep_message *rsp)
{
    struct caller *c = user;
    if (st != ST_OK) {
        c->ended++;
        return;
    }
    c->answers++;
    c->code = rsp->code;
    snprintf(c->body + (rsp->code == CEP_CODE(2, 5) ? strlen(c->body) : 0), 500, "%.*s;", (int)rsp->payload.n,
             (const char *)rsp->payload.p);
    c->last = span_of(c->bytes, rsp->payload.n < sizeof c->bytes ? rsp->payload.n : 0);
    if (c->last.n != 0)
        memcpy(c->bytes, rsp->payload.p, c->last.n);
    c->options[0] = '\0';
    for (size_t i = 0; i < rsp->nopts; i++) {
        char *p = c->options + strlen(c->options);
        p += sprintf(p, "%u=", rsp->opts[i].num);
        for (size_t k = 0; k < rsp->opts[i].val.n && k < 20; k++)
            p += sprintf(p, "%02x", rsp->opts[i].val.p[k]);
        strcpy(p, " ");
    }
}

static struct cep_certs *certificate_of_ae(struct world *w)
{
    char pem[128], err[256] = "";
    struct pki_names mine = pki_issue(&w->pki, "ae", "URI:C-ae1", "P-256", true);
    struct cep_certificate one = {NULL, mine.cert, mine.key};
    snprintf(pem, sizeof pem, "%s/server.pem", w->dir);
    struct cep_certs_files files = {.list = &one, .n = 1, .trust_anchors = pem};
    struct cep_certs *certs = cep_certs_load(&files, err, sizeof err);
    assert_non_null(certs);
    return certs;
}

static struct cep_session *by_certificate(struct world *w, struct cep_endpoint *ep, const char *host)
{
    int code;
    struct cep_certs *certs = certificate_of_ae(w);
    struct cep_session *s = cep_connect_certificate(ep, host, w->coaps, certs, "mef.test.example", &code);
    cep_certs_unref(certs);
    return s;
}

static struct caller *caller_new(const struct world *w, const char *host)
{
    struct caller *c = calloc(1, sizeof *c);
    struct cep_config cfg = {0};
    struct cep_callbacks cb = {.user = c, .request = on_back};
    int err = 0;
    assert_true(sd_event_new(&c->loop) >= 0);
    c->ep = cep_endpoint_new(c->loop, &cfg, &cb);
    c->session = cep_connect(c->ep, host, w->coaps, "tiny@test", span_of(SECRET, 16), &err);
    assert_non_null(c->session);
    return c;
}

static void caller_free(struct caller *c)
{
    cep_endpoint_free(c->ep);
    sd_event_unref(c->loop);
    free(c);
}

/* Ask and wait until `want` answers more are there. */
static void call(struct caller *c, uint8_t code, const struct cep_option *opts, size_t n, const char *body, bool observe,
                 unsigned want)
{
    struct cep_message m = {code, opts, n, span_str(body)};
    unsigned target = c->answers + want;
    c->body[0] = '\0';
    assert_true(cep_request(c->session, &m, observe, false, on_coap, c) > 0);
    for (int i = 0; i < 500 && c->answers < target && c->ended == 0; i++)
        sd_event_run(c->loop, 20000);
    assert_int_equal(c->answers, target);
}

#define OPT(num, text) {num, {(const uint8_t *)(text), sizeof(text) - 1}}

static void coap_primitives_and_services(void **state)
{
    struct caller *c = caller_new(*state, "127.0.0.1");
    const struct cep_option create[] = {OPT(11, "prim"), OPT(12, "\x27\x11"), OPT(267, "\xea\x62"), OPT(271, "4"), OPT(279, "Cae"),
                                        OPT(283, "q1")};
    call(c, CEP_POST, create, 6, "{\"a\":1}", false, 1);
    assert_int_equal(c->code, CEP_CODE(2, 1));
    /* Location-Path prim/new, Content-Format 10001, Max-Age 0, RVI, RQI, RSC 2001 */
    assert_string_equal(c->options, "8=7072696d 8=6e6577 12=2711 14= 271=34 283=7131 307=07d1 ");
    assert_non_null(strstr(c->body, "\"op\":1,\"ty\":60002,\"binding\":1,\"cred\":1,\"odd\":0,\"identity\":\"tiny@test\""));
    const struct cep_option no_rqi[] = {OPT(11, "prim"), OPT(279, "Cae")};
    call(c, CEP_GET, no_rqi, 2, "", false, 1);
    assert_int_equal(c->code, CEP_CODE(4, 0));
    assert_string_equal(c->options, "12=32 14= 307=0fa0 ");
    const struct cep_option release[] = {OPT(11, "prim"), OPT(271, "7"), OPT(279, "Cae"), OPT(283, "q1")};
    call(c, CEP_GET, release, 4, "", false, 1);
    assert_int_equal(c->code, CEP_CODE(5, 1));
    const struct cep_option critical[] = {OPT(11, "prim"), OPT(279, "Cae"), OPT(283, "q"), OPT(2049, "x")};
    call(c, CEP_GET, critical, 4, "", false, 1);
    assert_int_equal(c->code, CEP_CODE(4, 2));
    const struct cep_option fail[] = {OPT(11, "svc"), OPT(11, "fail")};
    call(c, CEP_GET, fail, 2, "", false, 1);
    assert_int_equal(c->code, CEP_CODE(4, 3));
    assert_non_null(strstr(c->body, "\"code\":\"taken\""));
    const struct cep_option timer[] = {OPT(11, "svc"), OPT(11, "timer")};
    call(c, CEP_GET, timer, 2, "", false, 1);
    assert_int_equal(c->code, CEP_CODE(2, 5));
    caller_free(c);
}

static void coap_old_options(void **state)
{
    struct caller *c = caller_new(*state, "127.0.0.1");
    const struct cep_option create[] = {OPT(11, "prim"), OPT(12, "\x32"), OPT(256, "Cae"), OPT(257, "q1"), OPT(258, "n"),
                                        OPT(259, "20260101T000000"), OPT(267, "\xea\x62"), OPT(271, "2a")};
    call(c, CEP_POST, create, 8, "{\"a\":1}", false, 1);
    assert_int_equal(c->code, CEP_CODE(2, 1));
    /* RQI 257, an Originating Timestamp of our own, RSC 265, RVI */
    assert_non_null(strstr(c->options, " 12=32 14= 257=7131 259=3"));
    assert_non_null(strstr(c->options, " 265=07d1 271=3261 "));
    assert_non_null(strstr(c->body, "\"op\":1,\"ty\":60002,"));
    assert_non_null(strstr(c->body, "\"from\":\"Cae\""));
    const struct cep_option no_from[] = {OPT(11, "prim"), OPT(257, "q1")};
    call(c, CEP_GET, no_from, 2, "", false, 1);
    assert_int_equal(c->code, CEP_CODE(4, 0));
    assert_string_equal(c->options, "12=32 14= 257=7131 265=0fa0 ");
    const struct cep_option expired[] = {OPT(11, "prim"), OPT(256, "Cae"), OPT(257, "q1"), OPT(260, "20200101T000000")};
    call(c, CEP_GET, expired, 4, "", false, 1);
    assert_int_equal(c->code, CEP_CODE(5, 4));
    const struct cep_option mixed[] = {OPT(11, "prim"), OPT(257, "q1"), OPT(279, "Cae"), OPT(283, "q1")};
    call(c, CEP_GET, mixed, 4, "", false, 1);
    assert_int_equal(c->code, CEP_CODE(4, 2));
    caller_free(c);
}

static void coap_formats(void **state)
{
    struct caller *c = caller_new(*state, "127.0.0.1");
    const struct cep_option put[] = {OPT(11, "prim"), OPT(12, "\x27\x1a"), OPT(279, "Cae"), OPT(283, "q1")};
    call(c, CEP_PUT, put, 4, "\xa1\x61k\x43\x01\x02\x03", false, 1); /* 10010: {"k": h'010203'} */
    assert_int_equal(c->code, CEP_CODE(2, 5));
    assert_non_null(strstr(c->options, "12=271a "));
    static const char pc[] = "\x62pc\xa1\x61k\x64" "AQID";
    assert_non_null(memmem(c->last.p, c->last.n, pc, sizeof pc - 1)); /* it leaves as the text it became */
    static const struct {
        const char *path, *accept, *format, *body;
        uint8_t code;
        const char *options;
    } cases[] = {
        {"svc", "", "\x3c", "\xa0", CEP_CODE(2, 5), "12=3c "},         /* the request's own format */
        {"svc", "\x32", "\x3c", "\xa0", CEP_CODE(2, 5), "12=32 "},     /* CBOR in, JSON out */
        {"svc", "\x3c", "\x32", "{}", CEP_CODE(2, 5), "12=3c "},
        {"svc", "\x27\x1a", "\x32", "{}", CEP_CODE(2, 5), "12=3c "},    /* a service has no oneM2M format */
        {"svc", "\x28", "\x32", "{}", CEP_CODE(4, 6), "12=32 "},
        {"svc", "", "\x29", "<a/>", CEP_CODE(4, 15), "12=32 "},
        {"svc", "", "\x3c", "\xa1", CEP_CODE(4, 0), "12=32 "},
        {"svc", "", "\x3c", "\xa2\x61k\x01\x61k\x02", CEP_CODE(4, 0), "12=32 "},
        {"prim", "\x28", "\x3c", "\xa0", CEP_CODE(4, 6), "12=3c 14= 283=7131 307=1457 "},
        {"prim", "\x27\x1f", "\x3c", "\xa0", CEP_CODE(2, 5), "12=271f "},
        {"prim", "", "\x29", "<a/>", CEP_CODE(4, 15), "12=32 14= 283=7131 307=0faf "},
        {"prim", "\x3c", "\x3c", "\xc0\xa0", CEP_CODE(4, 0), "12=3c 14= 283=7131 307=0fa0 "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool accept = cases[i].accept[0] != '\0';
        const struct cep_option opts[] = {{11, span_str(cases[i].path)}, {12, span_str(cases[i].format)},
                                          {17, span_str(cases[i].accept)}, OPT(279, "Cae"), OPT(283, "q1")};
        const struct cep_option any[] = {opts[0], opts[1], opts[3], opts[4]};
        call(c, CEP_PUT, accept ? opts : any, accept ? 5 : 4, cases[i].body, false, 1);
        if (c->code != cases[i].code || strncmp(c->options, cases[i].options, strlen(cases[i].options)) != 0)
            fail_msg("case %zu: code %02x, options %s", i, c->code, c->options);
    }
    caller_free(c);
}

static void coap_certificate_and_links(void **state)
{
    struct caller *c = caller_new(*state, "127.0.0.1");
    cep_session_close(c->session);
    c->ended = 0;
    c->session = by_certificate(*state, c->ep, "127.0.0.1");
    assert_non_null(c->session);
    const struct cep_option get[] = {OPT(11, "prim"), OPT(279, "Cae"), OPT(283, "q1")};
    call(c, CEP_GET, get, 3, "", false, 1);
    assert_non_null(strstr(c->body, "\"cred\":2,\"odd\":0,\"identity\":\"C-ae1\""));
    const struct cep_option core[] = {OPT(11, ".well-known"), OPT(11, "core")};
    call(c, CEP_GET, core, 2, "", false, 1);
    assert_non_null(strstr(c->body, "</prim>"));
    assert_string_equal(c->options, "12=28 ");
    caller_free(c);
}

static void coap_both_ways(void **state)
{
    struct caller *c = caller_new(*state, "::1");
    const struct cep_option bounce[] = {OPT(11, "svc"), OPT(11, "raw"), OPT(11, "bounce"), OPT(12, "\x2a")};
    call(c, CEP_POST, bounce, 4, "ping", false, 1);
    assert_string_equal(c->body, "back:ping;");
    const struct cep_option key[] = {OPT(11, "svc"), OPT(11, "key")};
    uint8_t exported[16];
    char text[33];
    call(c, CEP_GET, key, 2, "", false, 1);
    assert_true(cep_export(c->ep, cep_session_serial(c->session), "EXPORTER-tiny", exported, sizeof exported));
    for (size_t i = 0; i < sizeof exported; i++)
        sprintf(text + 2 * i, "%02x", exported[i]);
    assert_non_null(strstr(c->body, text));
    const struct cep_option watch[] = {OPT(11, "svc"), OPT(11, "raw"), OPT(11, "watch")};
    call(c, CEP_GET, watch, 3, "", true, 4);
    assert_string_equal(c->body, "first;frame 0;frame 1;frame 2;");
    /* Trees come in the format of the first answer (RFC 7641 4.2). */
    const struct cep_option json[] = {OPT(11, "svc"), OPT(11, "trees")};
    call(c, CEP_GET, json, 2, "", true, 3);
    assert_string_equal(c->body, "{};{\"n\":0};{\"n\":1};");
    const struct cep_option cbor[] = {OPT(11, "svc"), OPT(11, "trees"), OPT(17, "\x3c")};
    call(c, CEP_GET, cbor, 3, "", true, 3);
    assert_string_equal(c->body, "\xa0;\xa1\x61n;\xa1\x61n\x01;"); /* the 0 ends the text */
    assert_string_equal(c->options, "12=3c ");
    const struct cep_option link[] = {OPT(11, "svc"), OPT(11, "trees"), OPT(17, "\x28")};
    call(c, CEP_GET, link, 3, "", true, 1);
    assert_int_equal(c->code, CEP_CODE(4, 6));
    caller_free(c);
}

/* --- many peers at once ---------------------------------------------------------------------------------------------------- */

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

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
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

/* --- life ------------------------------------------------------------------------------------------------------------------ */

static void reload_and_metrics(void **state)
{
    struct world *w = *state;
    char page[8000];
    write_conf(w, "welcome", "");
    kill(w->mefd, SIGHUP);
    usleep(300000);
    struct reply r = https(w, "GET", "/svc/tell", "", "");
    assert_true(has(&r, "\"greeting\":\"welcome\""));
    assert_false(has(&r, "\"sessionsEnded\":0"));
    write_conf(w, "broken", "[nonsense]\n");
    kill(w->mefd, SIGHUP);
    usleep(300000);
    r = https(w, "GET", "/svc/tell", "", "");
    assert_true(has(&r, "\"greeting\":\"welcome\""));
    write_conf(w, "hello", "");
    assert_int_equal(status_page(w, "/healthz", page, sizeof page), 200);
    assert_int_equal(status_page(w, "/other", page, sizeof page), 404);
    assert_int_equal(status_page(w, "/metrics", page, sizeof page), 200);
    assert_non_null(strstr(page, "\n# TYPE tiny_jobs_total counter\ntiny_jobs_total "));
    assert_non_null(strstr(page, "\n# TYPE https_connections gauge\n"));
    assert_non_null(strstr(page, "\n# TYPE coap_requests_total counter\n"));
}

/* A request in flight is answered although the daemon is told to stop; one that never is does not hold it for ever. */
static void drain(void **state)
{
    struct world *w = *state;
    assert_int_equal(stop(w, SIGTERM), 0);
    w->drain = 60;
    write_conf(w, "hello", "");
    start(w);
    pid_t asker = fork();
    if (asker == 0)
        _exit(https(w, "GET", "/svc/timer", "", "").status == 200 ? 0 : 1);
    usleep(150000);
    time_t began = time(NULL);
    assert_int_equal(stop(w, SIGTERM), 0);
    assert_true(time(NULL) - began <= 20);
    int status = 0;
    waitpid(asker, &status, 0);
    assert_int_equal(WEXITSTATUS(status), 0);
    w->drain = 2;
    write_conf(w, "hello", "");
    start(w);
    asker = fork();
    if (asker == 0)
        _exit(https(w, "GET", "/svc/never", "", "").status <= 0 ? 0 : 1);
    usleep(300000);
    began = time(NULL);
    assert_int_equal(stop(w, SIGTERM), 0); /* drain-seconds = 2 */
    assert_true(time(NULL) - began <= 20);
    waitpid(asker, &status, 0);
    assert_int_equal(WEXITSTATUS(status), 0);
    start(w);
}

static void exit_codes(void **state)
{
    struct world *w = *state;
    char other[100], text[2000] = "", log[100];
    snprintf(other, sizeof other, "%s/other.conf", w->dir);
    snprintf(log, sizeof log, "%s/out", w->dir);
    char *const help[] = {"mefd", "--help", NULL}, *const none[] = {"mefd", NULL}, *const wrong[] = {"mefd", "--nope", NULL};
    char *const check[] = {"mefd", "--config", w->conf, "--check-config", NULL};
    char *const bad[] = {"mefd", "--config", other, NULL}, *const again[] = {"mefd", "--config", w->conf, NULL};
    assert_int_equal(run(getenv("MEFD"), help, log), 0);
    assert_int_equal(run(getenv("MEFD"), none, log), 2);
    assert_int_equal(run(getenv("MEFD"), wrong, log), 2);
    assert_int_equal(run(getenv("MEFD"), check, log), 0);
    assert_int_equal(run(getenv("MEFD"), bad, log), 3); /* no such file */
    FILE *f = fopen(other, "w");
    fprintf(f, "[daemon]\nplugin = %s\nplugged = x\n", getenv("TINY_PLUGIN"));
    fclose(f);
    assert_int_equal(run(getenv("MEFD"), bad, log), 3);
    f = fopen(log, "r");
    assert_true(fread(text, 1, sizeof text - 1, f) > 0);
    fclose(f);
    assert_non_null(strstr(text, "other.conf:3: unknown key plugged in [daemon]"));
    f = fopen(other, "w");
    fprintf(f, "[daemon]\nplugin = %s\n[status]\nlisten = 0.0.0.0:%u\n", getenv("TINY_PLUGIN"), free_port(SOCK_STREAM));
    fclose(f);
    assert_int_equal(run(getenv("MEFD"), bad, log), 1); /* status not on loopback */
    assert_int_equal(run(getenv("MEFD"), again, log), 1); /* the ports are taken */
}

static void init_keeps_what_is_there(void **state)
{
    struct world *w = *state;
    static const char *const names[] = {"kek", "admin.token", "server.key", "mefd.conf"};
    char path[100], log[100];
    struct stat before, after;
    snprintf(log, sizeof log, "%s/out", w->dir);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", w->dir, names[i]);
        assert_int_equal(stat(path, &before), 0);
        assert_int_equal(before.st_mode & 07777, 0600);
    }
    snprintf(path, sizeof path, "%s/kek", w->dir);
    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(before.st_size, 32);
    char *const again[] = {"mefctl", "init", "--fqdn", "mef.test.example", "--dir", w->dir, NULL};
    char *const bad[] = {"mefctl", "init", "--fqdn", "no;name", "--dir", w->dir, "--force", NULL};
    char *const none[] = {"mefctl", "init", "--fqdn", "mef.test.example", NULL};
    assert_int_equal(run(getenv("MEFCTL"), again, log), 1);
    assert_int_equal(run(getenv("MEFCTL"), bad, log), 2);
    assert_int_equal(run(getenv("MEFCTL"), none, log), 2);
    assert_int_equal(stat(path, &after), 0);
    assert_true(before.st_ino == after.st_ino && before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);
    stop(w, SIGTERM);
    char *const force[] = {"mefctl", "init", "--fqdn", "mef.test.example", "--dir", w->dir, "--force", NULL};
    assert_int_equal(run(getenv("MEFCTL"), force, log), 0);
    write_conf(w, "hello", "");
    start(w);
    assert_int_equal(https(w, "GET", "/svc/x", "", "").status, 200); /* with the new certificate */
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(https_services),       cmocka_unit_test(https_primitives),
        cmocka_unit_test(https_limits),         cmocka_unit_test(tls_psk_and_exporter),
        cmocka_unit_test(slow_peers_are_cut_off), cmocka_unit_test(pipelined_requests),
        cmocka_unit_test(coap_primitives_and_services), cmocka_unit_test(coap_both_ways),
        cmocka_unit_test(coap_old_options),     cmocka_unit_test(coap_formats),
        cmocka_unit_test(coap_certificate_and_links), cmocka_unit_test(coap_crowd),
        cmocka_unit_test(coap_certificates_are_replaced),
        cmocka_unit_test(reload_and_metrics),   cmocka_unit_test(drain),
        cmocka_unit_test(exit_codes),           cmocka_unit_test(init_keeps_what_is_there),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
