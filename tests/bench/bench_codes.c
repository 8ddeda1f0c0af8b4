/* Install codes by the plugin's own code, without a network: registering many, and what looking one up costs.
 *   bench_codes PLUGIN CONFIG TOKEN-FILE      CONFIG holds the plugin's sections only; its database is filled
 * Commands on standard input, a JSON object for each on standard output:
 *   have N         the database has the first N already
 *   fill N         register codes until there are N, 64 in flight
 *   lookup COUNT   GET /v1/install-codes/{eui64} of COUNT devices among them, in no order */
#include "tests/host/tiny_host.h"

#include "mef-plugin/zigbee/zigbee.h"
#include "tests/bench/population.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { IN_FLIGHT = 64, TOKEN_MAX = 256 };

struct flight { /* a request that was not answered yet */
    struct cse_request req;
    char path[48];
    cJSON *pc;
    bool busy;
};

struct bench {
    struct cse_host host;
    struct tiny_plugin plugin;
    char authorization[TOKEN_MAX];
    struct flight flights[IN_FLIGHT];
    size_t flying;
    uint64_t registered;
    enum st want;
};

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void on_answer(struct cse_host *h, struct cse_request *req, const struct cse_response *rsp)
{
    struct bench *b = h->user;
    struct flight *f = (struct flight *)req;
    if (rsp->status != b->want)
        tiny_fatal(h, rsp->detail != NULL ? rsp->detail : "another status was expected");
    cJSON_Delete(rsp->pc);
    cJSON_Delete(f->pc);
    f->busy = false;
    b->flying--;
}

/* Of the device's number: bytes without a pattern, the same in every run. */
static cJSON *code_body(uint64_t i)
{
    uint8_t code[18];
    char text[37];
    struct wr w = wr_of(code, sizeof code);
    wr_be64(&w, (i + 1) * 0xbf58476d1ce4e5b9u);
    wr_be64(&w, (i + 1) * 0x94d049bb133111ebu);
    wr_le16(&w, zb_crc16_x25(wr_span(&w)));
    hex_encode(code, sizeof code, text);
    cJSON *o = cJSON_CreateObject(), *targets = cJSON_AddArrayToObject(o, "targets");
    cJSON_AddStringToObject(o, "installCode", text);
    cJSON_AddItemToArray(targets, cJSON_CreateString("//example.org/in-cse/Cthermo"));
    return o;
}

static void ask(struct bench *b, enum cse_op op, uint64_t i)
{
    while (b->flying == IN_FLIGHT)
        if (!tiny_turn(&b->host, 10000))
            tiny_fatal(&b->host, "no answer within ten seconds");
    struct flight *f = b->flights;
    while (f->busy)
        f++;
    *f = (struct flight){.busy = true, .pc = op == CSE_UPDATE ? code_body(i) : NULL};
    int n = snprintf(f->path, sizeof f->path, "v1/install-codes/");
    eui64_print(bench_eui64(i), f->path + n);
    f->req = (struct cse_request){.op = op, .binding = CSE_HTTP, .path = f->path, .ty = -1, .authorization = b->authorization};
    f->req.peer.identity = "";
    b->flying++;
    tiny_handle(&b->host, &b->plugin, &f->req, f->pc);
}

static void land(struct bench *b)
{
    while (b->flying > 0)
        if (!tiny_turn(&b->host, 10000))
            tiny_fatal(&b->host, "no answer within ten seconds");
}

static void fill(struct bench *b, uint64_t n)
{
    b->want = ST_CREATED;
    for (; b->registered < n; b->registered++)
        ask(b, CSE_UPDATE, b->registered);
    land(b);
}

static void lookup(struct bench *b, uint64_t count)
{
    b->want = ST_OK;
    for (uint64_t i = 0; i < count; i++)
        ask(b, CSE_RETRIEVE, i * 0x9e3779b97f4a7c15u % b->registered);
    land(b);
}

int main(int argc, char **argv)
{
    static struct bench b;
    char line[64], token[TOKEN_MAX - 16] = "";
    unsigned long long n;
    FILE *f = argc == 4 ? fopen(argv[3], "r") : NULL;
    if (f == NULL || fscanf(f, "%239s", token) != 1)
        tiny_fatal(NULL, "usage: bench_codes PLUGIN CONFIG TOKEN-FILE");
    fclose(f);
    snprintf(b.authorization, sizeof b.authorization, "Bearer %s", token);
    b.host = (struct cse_host){.answered = on_answer, .user = &b};
    b.plugin = tiny_load(&b.host, argv[1], argv[2]);
    while (fgets(line, sizeof line, stdin) != NULL) {
        double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
        uint64_t before = b.registered;
        if (sscanf(line, "have %llu", &n) == 1)
            b.registered = before = n;
        else if (sscanf(line, "fill %llu", &n) == 1)
            fill(&b, n);
        else if (sscanf(line, "lookup %llu", &n) == 1 && b.registered > 0)
            lookup(&b, n);
        else
            tiny_fatal(&b.host, "an unknown command");
        double done = b.registered > before ? (double)(b.registered - before) : (double)n;
        printf("{\"n\": %.0f, \"per_second\": %.1f, \"cpu_us\": %.3f}\n", done, done / (seconds(CLOCK_MONOTONIC) - wall),
               (seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu) / done * 1e6);
        fflush(stdout);
    }
    tiny_unload(&b.host, &b.plugin);
    return 0;
}
