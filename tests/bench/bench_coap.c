/* What the CoAP endpoint costs a server, and how it stands a flood. Driven by coap.py and flood.py.
 *   bench_coap server HOST                             DTLS-PSK on a free port of that address, printed; until killed
 *   bench_coap load HOST PORT PID SESSIONS SECONDS     GET /time over so many live sessions, 32 requests at a time
 *   bench_coap flood HOST PORT PID COUNT RATE          ClientHellos without a cookie, RATE a second (0: none, for
 *                                                      COUNT/1,000 s), while handshakes and requests go on
 * A flood is watched for at least three seconds. PID is the server's: processor time and memory are read from /proc. Prints one JSON object. */
#include "cse-shim/coap/coap.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define AT_ONCE 32
#define FLOODERS 200 /* source ports */
#define KEY "0123456789abcdef"

struct bench {
    sd_event *loop;
    struct cep_endpoint *ep;
    struct cep_session **sessions;
    const char *host;
    uint16_t port;
    size_t want, made, opened, closed, next, flying;
    uint64_t answers, failures;
    bool loading;
    double started, slowest; /* of the handshake going on */
    struct cep_session *newcomer;
    uint64_t newcomer_serial, handshakes;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* --- the server --- */

static void on_request(void *user, struct cep_exchange *ex, const struct cep_message *req)
{
    (void)user;
    (void)req;
    cep_respond(ex, &(struct cep_message){.code = CEP_CODE(2, 5), .payload = span_str("Nov 21 10:47:21")}, false);
}

static size_t on_psk(void *user, const char *identity, uint8_t *key, size_t cap)
{
    (void)user;
    (void)identity;
    memcpy(key, KEY, cap < 16 ? 0 : 16);
    return 16;
}

static int serve(const char *host)
{
    sd_event *loop;
    uint16_t port;
    struct cep_callbacks cb = {.request = on_request, .psk = on_psk};
    struct cep_config cfg = {.max_sessions = 20000};
    struct cep_endpoint *ep = sd_event_new(&loop) < 0 ? NULL : cep_endpoint_new(loop, &cfg, &cb);
    if (ep == NULL || cep_listen(ep, host, 0, true, &port) != 0)
        return 1;
    printf("%u\n", port);
    fflush(stdout);
    return sd_event_loop(loop) < 0;
}

/* --- what the kernel knows of the server --- */

static double cpu_seconds(const char *pid)
{
    char path[64];
    unsigned long long ns = 0;
    snprintf(path, sizeof path, "/proc/%s/schedstat", pid);
    FILE *f = fopen(path, "r");
    if (f == NULL || fscanf(f, "%llu", &ns) != 1)
        fprintf(stderr, "cannot read %s\n", path);
    if (f != NULL)
        fclose(f);
    return (double)ns / 1e9;
}

static double resident_kib(const char *pid)
{
    char path[64];
    unsigned long pages = 0;
    snprintf(path, sizeof path, "/proc/%s/statm", pid);
    FILE *f = fopen(path, "r");
    if (f == NULL || fscanf(f, "%*u %lu", &pages) != 1)
        fprintf(stderr, "cannot read %s\n", path);
    if (f != NULL)
        fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / 1024;
}

/* --- the load --- */

static struct cep_session *dial(struct bench *b)
{
    int err;
    return cep_connect(b->ep, b->host, b->port, "bench", span_str(KEY), &err);
}

static void ask_next(struct bench *b);

static void on_answer(void *user, enum st st, const struct cep_message *rsp)
{
    struct bench *b = user;
    b->flying--;
    if (st == ST_OK && rsp->code == CEP_CODE(2, 5))
        b->answers++;
    else
        b->failures++;
    ask_next(b);
}

static void ask_next(struct bench *b)
{
    static const struct cep_option path = {11, {(const uint8_t *)"time", 4}};
    struct cep_message get = {CEP_GET, &path, 1, span_of(NULL, 0)};
    while (b->loading && b->flying < AT_ONCE) {
        struct cep_session *s = b->sessions[b->next++ % b->want];
        if (cep_request(s, &get, false, false, on_answer, b) == 0) {
            b->failures++;
            return;
        }
        b->flying++;
    }
}

static void on_opened(void *user, const struct cep_peer *peer)
{
    struct bench *b = user;
    b->opened++;
    if (peer->serial == b->newcomer_serial) {
        double took = now() - b->started;
        b->slowest = took > b->slowest ? took : b->slowest;
        b->handshakes++;
        b->newcomer_serial = 0;
    }
}

static void on_closed(void *user, uint64_t serial)
{
    struct bench *b = user;
    (void)serial;
    b->closed++;
}

static void run_until(struct bench *b, double end)
{
    while (now() < end)
        sd_event_run(b->loop, 2000);
}

static bool connect_all(struct bench *b)
{
    for (double end = now() + 300; b->opened < b->want && now() < end && b->closed == 0;) {
        while (b->made < b->want && b->made < b->opened + AT_ONCE)
            if ((b->sessions[b->made++] = dial(b)) == NULL)
                return false;
        sd_event_run(b->loop, 10000);
    }
    return b->opened == b->want;
}

static bool set_up(struct bench *b, const char *host, const char *port, size_t sessions)
{
    struct rlimit files = {65536, 65536};
    struct cep_callbacks cb = {.user = b, .opened = on_opened, .closed = on_closed};
    setrlimit(RLIMIT_NOFILE, &files);
    b->host = host;
    b->port = (uint16_t)atoi(port);
    b->want = sessions;
    b->sessions = calloc(sessions, sizeof(struct cep_session *));
    return b->sessions != NULL && sd_event_new(&b->loop) >= 0 &&
           (b->ep = cep_endpoint_new(b->loop, NULL, &cb)) != NULL && connect_all(b);
}

static void pause_load(struct bench *b)
{
    b->loading = false;
    while (b->flying != 0)
        sd_event_run(b->loop, 10000);
}

static int load(const char *host, const char *port, const char *pid, size_t sessions, double seconds)
{
    struct bench b = {0};
    double empty = resident_kib(pid);
    if (!set_up(&b, host, port, sessions))
        return 1;
    double full = resident_kib(pid);
    b.loading = true;
    ask_next(&b);
    run_until(&b, now() + seconds / 4);
    double cpu = cpu_seconds(pid), from = now();
    uint64_t before = b.answers;
    run_until(&b, from + seconds);
    cpu = cpu_seconds(pid) - cpu;
    double n = (double)(b.answers - before), took = now() - from;
    pause_load(&b);
    printf("{\"sessions\": %zu, \"requests\": %.0f, \"failures\": %llu, \"per_second\": %.0f, \"cpu_us\": %.2f, "
           "\"kib_a_session\": %.1f}\n",
           sessions, n, (unsigned long long)b.failures, n / took, cpu / n * 1e6, (full - empty) / (double)sessions);
    return b.failures != 0;
}

/* --- the flood --- */

/* A ClientHello as a constrained client sends it, without a cookie. */
static size_t make_hello(uint8_t out[128], uint32_t seed)
{
    struct wr w = wr_of(out, 128);
    const unsigned body = 2 + 32 + 1 + 1 + 4 + 2;
    wr_u8(&w, 22);
    wr_be16(&w, 0xfefd);
    wr_be(&w, 8, 0);
    wr_be16(&w, (uint16_t)(12 + body));
    wr_u8(&w, 1);
    wr_be(&w, 3, body);
    wr_be(&w, 5, 0);
    wr_be(&w, 3, body);
    wr_be16(&w, 0xfefd);
    for (uint32_t i = 0; i < 8; i++)
        wr_be(&w, 4, seed * 2654435761u + i);
    wr_be16(&w, 0);          /* no session id, no cookie */
    wr_be(&w, 4, 0x0002c0a8); /* TLS_PSK_WITH_AES_128_CCM_8 */
    wr_be16(&w, 0x0100);
    return w.n;
}

struct flood {
    int fds[FLOODERS];
    uint32_t sent;
    uint64_t answers, largest, hello;
};

static void flood_open(struct flood *f, const char *host, uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    bool six = inet_pton(AF_INET, host, &a.sin_addr) != 1;
    if (six && inet_pton(AF_INET6, host, &a6.sin6_addr) != 1)
        fprintf(stderr, "%s is no address\n", host);
    for (size_t i = 0; i < FLOODERS; i++) {
        f->fds[i] = socket(six ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        if (connect(f->fds[i], six ? (struct sockaddr *)&a6 : (struct sockaddr *)&a, six ? sizeof a6 : sizeof a) < 0)
            perror("connect");
    }
}

static void drain(struct flood *f, int fd)
{
    uint8_t answer[2048];
    for (ssize_t n; (n = recv(fd, answer, sizeof answer, 0)) > 0; f->answers++)
        f->largest = (uint64_t)n > f->largest ? (uint64_t)n : f->largest;
}

static void flood_one(struct flood *f)
{
    uint8_t hello[128];
    int fd = f->fds[f->sent % FLOODERS];
    drain(f, fd);
    f->hello = make_hello(hello, f->sent++);
    if (send(fd, hello, f->hello, 0) < 0)
        perror("send");
}

/* One newcomer after the other. */
static void next_newcomer(struct bench *b)
{
    if (b->newcomer_serial != 0) {
        double waiting = now() - b->started;
        b->slowest = waiting > b->slowest ? waiting : b->slowest;
        return;
    }
    if (b->newcomer != NULL)
        cep_session_close(b->newcomer);
    b->started = now();
    b->newcomer = dial(b);
    b->newcomer_serial = b->newcomer != NULL ? cep_session_serial(b->newcomer) : 0;
}

static int flood(const char *host, const char *port, const char *pid, uint32_t count, double rate)
{
    struct bench b = {0};
    struct flood f = {0};
    if (!set_up(&b, host, port, AT_ONCE))
        return 1;
    flood_open(&f, host, b.port);
    b.loading = true;
    ask_next(&b);
    run_until(&b, now() + 0.5);
    double kib = resident_kib(pid), from = now(), cpu = cpu_seconds(pid);
    double seconds = count / (rate > 0 ? rate : 1000);
    seconds = seconds < 3 ? 3 : seconds;
    uint64_t before = b.answers;
    for (double t = from, pause = 0; t < from + seconds || (rate > 0 && f.sent < count); t = now()) {
        while (rate > 0 && f.sent < count && (double)f.sent < (t - from) * rate)
            flood_one(&f);
        if (t >= pause) { /* ten newcomers a second */
            next_newcomer(&b);
            pause = t + 0.1;
        }
        sd_event_run(b.loop, 1000);
    }
    double took = now() - from;
    cpu = cpu_seconds(pid) - cpu;
    uint64_t n = b.answers - before;
    run_until(&b, now() + 0.2);
    for (size_t i = 0; i < FLOODERS; i++)
        drain(&f, f.fds[i]);
    pause_load(&b);
    printf("{\"hellos\": %u, \"hello_bytes\": %llu, \"cookies\": %llu, \"largest_answer\": %llu, \"handshakes\": %llu, "
           "\"slowest_ms\": %.1f, \"per_second\": %.0f, \"server_cpu\": %.3f, \"grown_kib\": %.0f, "
           "\"failures\": %llu}\n",
           f.sent, (unsigned long long)f.hello, (unsigned long long)f.answers, (unsigned long long)f.largest,
           (unsigned long long)b.handshakes, b.slowest * 1e3, (double)n / took, cpu / took, resident_kib(pid) - kib,
           (unsigned long long)b.failures);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "server") == 0)
        return serve(argv[2]);
    if (argc == 7 && strcmp(argv[1], "load") == 0)
        return load(argv[2], argv[3], argv[4], (size_t)atoi(argv[5]), atof(argv[6]));
    if (argc == 7 && strcmp(argv[1], "flood") == 0)
        return flood(argv[2], argv[3], argv[4], (uint32_t)atoi(argv[5]), atof(argv[6]));
    return 2;
}
