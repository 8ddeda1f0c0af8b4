/* What an operation costs a server that listens on 127.0.0.1:PORT as process PID. Prints one JSON object; processor time is
 * the server's alone. Credentials come by standard input, one a line: IDENTITY HEXKEY [GATEWAY].
 *   bench_load get PORT PID SESSIONS SECONDS PATH [AE-ID]   over live sessions, 32 requests in flight
 *   bench_load cycle PORT PID COUNT [PATH [AE-ID]]          handshake, one GET (without PATH: none), close; 32 at a time
 *   bench_load round PORT PID COUNT                         round.h, 32 at a time; the last credential is the target's
 *   bench_load shake PORT PID MS                            handshake, close, MS ms of rest, until killed; prints of
 *                                                           each when it began and ended (CLOCK_MONOTONIC, s)
 *   bench_load enrol PORT PID COUNT FIRST-EUI64             EgRequests of COUNT devices from all gateways, 64 in flight */
#include "tests/bench/load.h"

#include "mef-plugin/egp/egp.h"
#include "tests/bench/population.h"
#include "tests/bench/round.h"

#include <stdio.h>
#include <stdlib.h>

enum { GETS_AT_ONCE = 32, CYCLES_AT_ONCE = 32, ENROLMENTS_AT_ONCE = 64, TARGET_SESSIONS = 8 };

struct cycle;

struct bench {
    struct load load;
    const char *path, *from; /* what to GET, and as whom */
    struct load_options options;
    uint64_t first; /* device, a number of population.h */
    struct cycle *cycles;
    struct cep_session *target[TARGET_SESSIONS]; /* of rounds; else none */
    uint8_t body[EGP_MAX_MESSAGE], format[4];
};

static int report(const struct load *l, double n, double seconds, double cpu, double kib)
{
    printf("{\"n\": %.0f, \"failures\": %llu, \"per_second\": %.1f, \"cpu_us\": %.3f, \"kib_a_session\": %.2f}\n", n,
           (unsigned long long)l->failures, n / seconds, cpu / n * 1e6, kib);
    return l->failures != 0 || n == 0;
}

/* --- get ---------------------------------------------------------------------------------------------------------- */

static void make_get(struct load *l, uint64_t n, size_t i, struct cep_message *req)
{
    struct bench *b = l->user;
    (void)n, (void)i;
    load_get(&b->options, b->path, b->from, req);
}

static bool is_content(const struct cep_message *rsp) { return rsp->code == CEP_CODE(2, 5); }

static int get(struct bench *b, size_t sessions, double seconds)
{
    struct load *l = &b->load;
    double empty = load_resident(l->pid);
    l->make = make_get;
    l->good = is_content;
    l->at_once = GETS_AT_ONCE;
    if (!load_open(l, sessions))
        return 1;
    double kib = (load_resident(l->pid) - empty) / (double)sessions;
    load_start(l);
    load_run(l, load_now() + seconds / 4);
    double cpu = load_cpu(l->pid), from = load_now(), before = (double)l->answers;
    load_run(l, from + seconds);
    cpu = load_cpu(l->pid) - cpu;
    double n = (double)l->answers - before, took = load_now() - from;
    load_pause(l);
    return report(l, n, took, cpu, kib);
}

/* --- cycle -------------------------------------------------------------------------------------------------------- */

struct cycle {
    struct bench *bench;
    struct cep_session *session;
    uint64_t serial;
    struct round round;
    bool over;
};

static bool is_round(const struct cycle *c) { return c->bench->target[0] != NULL; }
static size_t slot(const struct cycle *c) { return (size_t)(c - c->bench->cycles); }

static void cycle_end(struct cycle *c, bool ok)
{
    struct load *l = &c->bench->load;
    l->answers += ok;
    l->failures += !ok;
    c->over = true;
}

static void on_cycle_answer(void *user, enum st st, const struct cep_message *rsp);

/* The next request; false: it cannot be sent. */
static bool cycle_ask(struct cycle *c)
{
    struct bench *b = c->bench;
    struct cep_session *s = c->session;
    struct cep_message req;
    if (!is_round(c))
        load_get(&b->options, b->path, b->from, &req);
    else if (round_request(&c->round, &b->options, &req))
        s = b->target[slot(c) % TARGET_SESSIONS];
    return cep_request(s, &req, false, false, on_cycle_answer, c) != 0;
}

static void on_cycle_answer(void *user, enum st st, const struct cep_message *rsp)
{
    struct cycle *c = user;
    bool ok = st == ST_OK && (is_round(c) ? round_took(&c->round, rsp) : is_content(rsp));
    if (!ok || !is_round(c) || round_over(&c->round))
        cycle_end(c, ok);
    else if (!cycle_ask(c))
        cycle_end(c, false);
}

/* Without a path the handshake is all there is to do. */
static void on_cycle_opened(void *user, const struct cep_peer *peer)
{
    struct bench *b = user;
    for (size_t i = 0; i < CYCLES_AT_ONCE && b->path == NULL && b->target[0] == NULL; i++)
        if (b->cycles[i].serial == peer->serial)
            cycle_end(&b->cycles[i], true);
}

static bool cycle_start(struct cycle *c)
{
    struct bench *b = c->bench;
    c->over = false;
    c->session = load_dial(&b->load, slot(c));
    if (c->session == NULL)
        return false;
    b->load.asked++;
    c->serial = cep_session_serial(c->session);
    round_begin(&c->round, slot(c), CYCLES_AT_ONCE);
    return (b->path == NULL && !is_round(c)) || cycle_ask(c);
}

/* Until `count` cycles are over, and the server has taken notice of the last one. */
static bool cycles_run(struct bench *b, uint64_t count)
{
    struct load *l = &b->load;
    for (uint64_t end = l->asked + count; l->answers + l->failures < end;) {
        for (size_t i = 0; i < CYCLES_AT_ONCE; i++) {
            struct cycle *c = &b->cycles[i];
            if (c->session != NULL && c->over) {
                cep_session_close(c->session);
                c->session = NULL;
            }
            if (c->session == NULL && l->asked < end && !cycle_start(c))
                return false;
        }
        sd_event_run(l->loop, 2000);
    }
    for (size_t i = 0; i < CYCLES_AT_ONCE; i++)
        if (b->cycles[i].session != NULL)
            cep_session_close(b->cycles[i].session);
    for (size_t i = 0; i < CYCLES_AT_ONCE; i++)
        b->cycles[i].session = NULL;
    load_run(l, load_now() + 0.05);
    return true;
}

static bool open_targets(struct bench *b)
{
    struct load *l = &b->load;
    for (size_t i = 0; i < TARGET_SESSIONS; i++)
        if ((b->target[i] = load_dial(l, CYCLES_AT_ONCE)) == NULL)
            return false;
    for (double end = load_now() + 30; l->opened < TARGET_SESSIONS && load_now() < end;)
        sd_event_run(l->loop, 10000);
    return l->opened == TARGET_SESSIONS;
}

static int cycle(struct bench *b, uint64_t count, bool rounds)
{
    struct load *l = &b->load;
    struct cycle cycles[CYCLES_AT_ONCE] = {0};
    b->cycles = cycles;
    for (size_t i = 0; i < CYCLES_AT_ONCE; i++)
        cycles[i].bench = b;
    l->on_opened = on_cycle_opened;
    if (!load_open(l, 0) || (rounds && (l->ncreds != CYCLES_AT_ONCE + 1 || !open_targets(b))) ||
        !cycles_run(b, count / 10 + 1))
        return 1;
    double kib = load_resident(l->pid), cpu = load_cpu(l->pid), from = load_now();
    if (!cycles_run(b, count))
        return 1;
    return report(l, (double)count, load_now() - from, load_cpu(l->pid) - cpu, load_resident(l->pid) - kib);
}

/* --- shake -------------------------------------------------------------------------------------------------------- */

static int shake(struct bench *b, double rest)
{
    struct load *l = &b->load;
    if (!load_open(l, 0))
        return 1;
    for (size_t n = 1; l->opened == n - 1; n++) {
        double from = load_now();
        struct cep_session *s = load_dial(l, 0);
        while (s != NULL && l->opened < n && l->closed < n)
            sd_event_run(l->loop, 10000);
        if (l->opened < n)
            return 1;
        printf("%.6f %.6f\n", from, load_now());
        fflush(stdout);
        cep_session_close(s);
        load_run(l, load_now() + rest);
    }
    return 1;
}

/* --- enrol -------------------------------------------------------------------------------------------------------- */

static void make_enrolment(struct load *l, uint64_t n, size_t i, struct cep_message *req)
{
    static const struct cep_option path[] = {{11, {(const uint8_t *)"mef", 3}}, {11, {(const uint8_t *)"eg", 2}}};
    struct bench *b = l->user;
    struct wr w = wr_of(b->body, sizeof b->body);
    struct egp_message m = {.env = {.version = EGP_VERSION, .type = EGP_REQUEST, .transaction = n + 1, .channel = 15}};
    m.env.device = bench_eui64(b->first + n);
    m.u.request = (struct egp_request){.device_short = 0x1f2e, .pan_id = 0x1a62, .capability = 0x8e};
    bool ok = eui64_parse(l->creds[i % l->ncreds].gateway, &m.env.gateway) && egp_encode(&m, &w);
    b->options.opts[0] = path[0];
    b->options.opts[1] = path[1];
    b->options.opts[2] = cep_option_make_uint(12, 60, b->format);
    *req = (struct cep_message){.code = CEP_POST, .opts = b->options.opts, .nopts = 3};
    req->payload = ok ? wr_span(&w) : span_of(NULL, 0);
}

static bool is_key(const struct cep_message *rsp)
{
    struct egp_message m;
    return rsp->code == CEP_CODE(2, 4) && egp_decode(rsp->payload, &m) == NULL && m.env.type == EGP_RESPONSE &&
           m.u.response.reason == EGP_OK;
}

static int enrol(struct bench *b, uint64_t count)
{
    struct load *l = &b->load;
    l->make = make_enrolment;
    l->good = is_key;
    l->at_once = ENROLMENTS_AT_ONCE;
    l->limit = count;
    if (!load_open(l, l->ncreds))
        return 1;
    double kib = load_resident(l->pid), cpu = load_cpu(l->pid), from = load_now();
    load_start(l);
    while (l->answers + l->failures < count && l->closed == 0)
        sd_event_run(l->loop, 10000);
    double took = load_now() - from;
    return report(l, (double)l->answers, took, load_cpu(l->pid) - cpu, load_resident(l->pid) - kib);
}

int main(int argc, char **argv)
{
    struct bench b = {0};
    const char *mode = argc > 1 ? argv[1] : "";
    if (argc < 5 || !load_credentials(&b.load))
        return 2;
    b.load.user = &b;
    b.load.port = (uint16_t)atoi(argv[2]);
    b.load.pid = atoi(argv[3]);
    int code = 2;
    if (strcmp(mode, "get") == 0 && argc >= 7) {
        b.path = argv[6];
        b.from = argv[7];
        code = get(&b, (size_t)atoi(argv[4]), atof(argv[5]));
    } else if (strcmp(mode, "cycle") == 0) {
        b.path = argv[5];
        b.from = argc > 6 ? argv[6] : NULL;
        code = cycle(&b, strtoull(argv[4], NULL, 10), false);
    } else if (strcmp(mode, "round") == 0) {
        code = cycle(&b, strtoull(argv[4], NULL, 10), true);
    } else if (strcmp(mode, "shake") == 0) {
        code = shake(&b, atof(argv[4]) / 1e3);
    } else if (strcmp(mode, "enrol") == 0 && argc == 6) {
        b.first = strtoull(argv[5], NULL, 10);
        code = enrol(&b, strtoull(argv[4], NULL, 10));
    }
    load_close(&b.load);
    return code;
}
