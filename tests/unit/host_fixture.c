#include "tests/unit/host_fixture.h"

#include "cse-shim/host/json.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

uint16_t free_port(int kind)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, kind, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    getsockname(fd, (struct sockaddr *)&a, &len);
    close(fd);
    return ntohs(a.sin_port);
}

int run(const char *program, char *const argv[], const char *log)
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

unsigned workers(void)
{
    const char *n = getenv("COAP_WORKERS");
    return n == NULL ? 1 : (unsigned)atoi(n);
}

void write_conf(const struct world *w, const char *greeting, const char *more)
{
    FILE *f = fopen(w->conf, "w");
    fprintf(f,
            "[daemon]\nplugin = %s\ndrain-seconds = %u\n[tiny]\ngreeting = %s\n"
            "[coap]\nworkers = %u\nlisten = 127.0.0.1:%u, [::1]:%u\ncertificate = server.pem\nprivate-key = server.key\n"
            "trust-anchors = %s\n"
            "[https]\nlisten = 127.0.0.1:%u, [::1]:%u\ncertificate = server.pem\nprivate-key = server.key\n"
            "idle-seconds = 3\nhandshake-seconds = 1\nmax-connections = 20\n"
            "[status]\nlisten = 127.0.0.1:%u\n%s",
            getenv("TINY_PLUGIN"), w->drain, greeting, workers(), w->coaps, w->coaps, w->anchor, w->https, w->https,
            w->status, more);
    fclose(f);
}

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

struct reply https_n(const struct world *w, const char *host, const char *method, const char *path, const char *headers,
                     struct span body)
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

struct reply https(const struct world *w, const char *method, const char *path, const char *headers, const char *body)
{
    return https_n(w, "127.0.0.1", method, path, headers, span_str(body));
}

long status_page(const struct world *w, const char *path, char *body, size_t cap)
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

void start(struct world *w)
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

int stop(struct world *w, int sig)
{
    int status = 0;
    kill(w->mefd, sig);
    waitpid(w->mefd, &status, 0);
    w->mefd = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int set_up(void **state)
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

int tear_down(void **state)
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

bool has(const struct reply *r, const char *text)
{
    return strstr(r->body, text) != NULL;
}
