/* The MEF's side of ipe-nid's session, under a script's control: the real CoAP endpoint, no MEF behind it.
 * Usage: mef_peer IDENTITY HEXKEY [PORT]. Standard output: "port N", "open", "closed", "req ID HEX", "ans ID CODE".
 * Standard input: "rsp ID CODE HEX|-" answers a request, "send ID HEX" posts to /eg on the newest session. */
#include "cse-shim/coap/coap.h"

#include "cse-shim/base/hex.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { MAX_OPEN = 64, MAX_BODY = 600 };

struct peer {
    const char *identity;
    uint8_t key[64];
    size_t key_n;
    struct cep_endpoint *ep;
    struct cep_exchange *open[MAX_OPEN];
    unsigned next;
    uint64_t session;
    char line[2 * MAX_BODY];
    size_t n;
};

static void on_request(void *user, struct cep_exchange *ex, const struct cep_message *req)
{
    struct peer *p = user;
    char hex[2 * MAX_BODY + 1];
    unsigned id = p->next++ % MAX_OPEN;
    p->session = cep_exchange_peer(ex)->serial;
    p->open[id] = ex;
    hex_encode(req->payload.p, req->payload.n < MAX_BODY ? req->payload.n : MAX_BODY, hex);
    printf("req %u %s\n", id, hex);
}

static void on_psk(void *user, uint64_t session, const char *identity, const char *server_name)
{
    (void)server_name;
    const struct peer *p = user;
    cep_psk(p->ep, session, p->key, strcmp(identity, p->identity) == 0 ? p->key_n : 0);
}

static void on_opened(void *user, const struct cep_peer *who)
{
    struct peer *p = user;
    p->session = who->serial;
    puts("open");
}

static void on_closed(void *user, uint64_t serial)
{
    (void)user, (void)serial;
    puts("closed");
}

static void on_answer(void *user, enum st st, const struct cep_message *rsp)
{
    unsigned *id = user;
    printf("ans %u %u\n", *id, st == ST_OK ? rsp->code : 0u);
    free(id);
}

static void post(struct peer *p, unsigned id, struct span body)
{
    uint8_t format[4];
    struct cep_option opts[] = {{11, span_str("eg")}, cep_option_make_uint(12, 60, format)};
    struct cep_session *s = cep_session_find(p->ep, p->session);
    unsigned *user = malloc(sizeof *user);
    if (user == NULL)
        exit(1);
    *user = id;
    struct cep_message req = {.code = CEP_POST, .opts = opts, .nopts = 2, .payload = body};
    if (s == NULL || cep_request(s, &req, false, false, on_answer, user) == 0)
        on_answer(user, ST_UNREACHABLE, NULL);
}

static void command(struct peer *p, const char *line)
{
    uint8_t body[MAX_BODY];
    char hex[2 * MAX_BODY + 1] = "";
    unsigned id, code;
    bool answer = sscanf(line, "rsp %u %u %1200s", &id, &code, hex) == 3;
    if (!answer && sscanf(line, "send %u %1200s", &id, hex) != 2)
        exit(2);
    size_t n = strlen(hex) / 2;
    if (strcmp(hex, "-") == 0)
        n = 0;
    else if (!hex_decode(hex, strlen(hex), body, n))
        exit(2);
    if (!answer) {
        post(p, id, span_of(body, n));
    } else if (id < MAX_OPEN && p->open[id] != NULL) {
        cep_respond(p->open[id], &(struct cep_message){.code = (uint8_t)code, .payload = span_of(body, n)}, false);
        p->open[id] = NULL;
    }
}

static int on_stdin(sd_event_source *s, int fd, uint32_t events, void *user)
{
    (void)events;
    struct peer *p = user;
    ssize_t got = read(fd, p->line + p->n, sizeof p->line - 1 - p->n);
    if (got <= 0)
        return sd_event_exit(sd_event_source_get_event(s), 0);
    p->n += (size_t)got;
    p->line[p->n] = '\0';
    for (char *end; (end = strchr(p->line, '\n')) != NULL;) {
        *end = '\0';
        command(p, p->line);
        p->n -= (size_t)(end + 1 - p->line);
        memmove(p->line, end + 1, p->n + 1);
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct peer p = {0};
    sd_event *loop;
    uint16_t port = argc > 3 ? (uint16_t)atoi(argv[3]) : 0;
    struct cep_callbacks cb = {
        .user = &p, .request = on_request, .psk = on_psk, .opened = on_opened, .closed = on_closed};
    struct cep_config cfg = {0};
    if (argc < 3)
        return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    p.identity = argv[1];
    p.key_n = strlen(argv[2]) / 2;
    if (p.key_n > sizeof p.key || !hex_decode(argv[2], strlen(argv[2]), p.key, p.key_n) ||
        sd_event_default(&loop) < 0 || (p.ep = cep_endpoint_new(loop, &cfg, &cb)) == NULL ||
        cep_listen(p.ep, "127.0.0.1", port, true, &port) < 0 ||
        sd_event_add_io(loop, NULL, STDIN_FILENO, EPOLLIN, on_stdin, &p) < 0)
        return 1;
    printf("port %u\n", port);
    int code = sd_event_loop(loop);
    cep_endpoint_free(p.ep);
    return code;
}
