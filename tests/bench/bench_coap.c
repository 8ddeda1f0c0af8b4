/* How the CoAP endpoint stands a flood. Driven by flood.py.
 *   bench_coap server [HOST]                           DTLS-PSK on a free port of that address, printed; until killed
 *   bench_coap flood HOST PORT PID COUNT RATE          ClientHellos without a cookie, RATE a second (0: none, for
 *                                                      COUNT/1,000 s), while handshakes and requests go on
 * A flood is watched for at least three seconds.  Prints one JSON
 * object. */
#include "tests/bench/load.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define AT_ONCE 32
#define FLOODERS 200 /* source ports */
#define KEY "0123456789abcdef"

struct bench {
    struct load load;
    struct load_options options;
    double started, slowest; /* of the handshake going on */
    struct cep_session *newcomer;
    uint64_t newcomer_serial, handshakes;
};

/* --- the server --- */

static void on_request(void *user, struct cep_exchange *ex, const struct cep_message *req)
{
    (void)user;
    (void)req;
    cep_respond(ex, &(struct cep_message){.code = CEP_CODE(2, 5), .payload = span_str("Nov 21 10:47:21")}, false);
}

static void on_psk(void *user, uint64_t session, const char *identity, const char *server_name)
{
    (void)server_name;
    (void)identity;
    cep_psk(*(struct cep_endpoint **)user, session, (const uint8_t *)KEY, 16);
}

static int serve(const char *host)
{
    sd_event *loop;
    uint16_t port;
    struct cep_endpoint *ep = NULL;
    struct cep_callbacks cb = {.user = &ep, .request = on_request, .psk = on_psk};
    struct cep_config cfg = {.max_sessions = 20000};
    if (sd_event_new(&loop) >= 0)
        ep = cep_endpoint_new(loop, &cfg, &cb);
    if (ep == NULL || cep_listen(ep, host, 0, true, &port) != 0)
        return 1;
    printf("%u\n", port);
    fflush(stdout);
    return sd_event_loop(loop) < 0;
}

/* --- the load beside it --- */

static void on_opened(void *user, const struct cep_peer *peer)
{
    struct bench *b = user;
    if (peer->serial != b->newcomer_serial)
        return;
    double took = load_now() - b->started;
    b->slowest = took > b->slowest ? took : b->slowest;
    b->handshakes++;
    b->newcomer_serial = 0;
}

static void make_get(struct load *l, uint64_t n, size_t i, struct cep_message *req)
{
    struct bench *b = l->user;
    (void)n, (void)i;
    load_get(&b->options, "time", NULL, req);
}

static bool is_content(const struct cep_message *rsp) { return rsp->code == CEP_CODE(2, 5); }

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
        double waiting = load_now() - b->started;
        b->slowest = waiting > b->slowest ? waiting : b->slowest;
        return;
    }
    if (b->newcomer != NULL)
        cep_session_close(b->newcomer);
    b->started = load_now();
    b->newcomer = load_dial(&b->load, 0);
    b->newcomer_serial = b->newcomer != NULL ? cep_session_serial(b->newcomer) : 0;
}

static int flood(const char *host, const char *port, const char *pid, uint32_t count, double rate)
{
    struct bench b = {.load = {.at_once = AT_ONCE, .make = make_get, .good = is_content, .on_opened = on_opened}};
    struct load *l = &b.load;
    struct flood f = {0};
    l->user = &b;
    l->port = (uint16_t)atoi(port);
    l->pid = atoi(pid);
    l->host = host;
    l->creds = calloc(1, sizeof *l->creds);
    l->ncreds = 1;
    if (l->creds == NULL)
        return 1;
    *l->creds = (struct load_credential){.identity = "bench", .key = KEY, .keylen = sizeof KEY - 1};
    if (!load_open(l, AT_ONCE))
        return 1;
    flood_open(&f, host, l->port);
    load_start(l);
    load_run(l, load_now() + 0.5);
    double kib = load_resident(l->pid), from = load_now(), cpu = load_cpu(l->pid);
    double seconds = count / (rate > 0 ? rate : 1000);
    seconds = seconds < 3 ? 3 : seconds;
    uint64_t before = l->answers;
    for (double t = from, pause = 0; t < from + seconds || (rate > 0 && f.sent < count); t = load_now()) {
        while (rate > 0 && f.sent < count && (double)f.sent < (t - from) * rate)
            flood_one(&f);
        if (t >= pause) { /* ten newcomers a second */
            next_newcomer(&b);
            pause = t + 0.1;
        }
        sd_event_run(l->loop, 1000);
    }
    double took = load_now() - from;
    cpu = load_cpu(l->pid) - cpu;
    uint64_t n = l->answers - before;
    load_run(l, load_now() + 0.2);
    for (size_t i = 0; i < FLOODERS; i++)
        drain(&f, f.fds[i]);
    load_pause(l);
    printf("{\"hellos\": %u, \"hello_bytes\": %llu, \"cookies\": %llu, \"largest_answer\": %llu, \"handshakes\": %llu, "
           "\"slowest_ms\": %.1f, \"per_second\": %.0f, \"server_cpu\": %.3f, \"grown_kib\": %.0f, "
           "\"failures\": %llu}\n",
           f.sent, (unsigned long long)f.hello, (unsigned long long)f.answers, (unsigned long long)f.largest,
           (unsigned long long)b.handshakes, b.slowest * 1e3, (double)n / took, cpu / took, load_resident(l->pid) - kib,
           (unsigned long long)l->failures);
    return 0;
}

int main(int argc, char **argv)
{
    if ((argc == 2 || argc == 3) && strcmp(argv[1], "server") == 0)
        return serve(argc == 3 ? argv[2] : "127.0.0.1");
    if (argc == 7 && strcmp(argv[1], "flood") == 0)
        return flood(argv[2], argv[3], argv[4], (uint32_t)atoi(argv[5]), atof(argv[6]));
    return 2;
}
