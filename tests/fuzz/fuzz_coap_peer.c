/* Datagrams of a hostile peer through the whole endpoint: the first byte chooses what they meet.
 *   bit 0: a DTLS listener (demultiplexing, handshakes) instead of a plain one
 *   bit 1: the peer is a server that our client asks (request, observation, body in pieces)
 *   bit 6: a plain peer must prove its address first (RFC 9175)
 * Each datagram is preceded by its length (2 bytes); length 0xffff lets a timer fire (four times a run at most). In
 * plain mode the peer's message ids and tokens are patched where bit 2 is set, so that answers meet what is
 * outstanding. */
#include "cse-shim/coap/internal.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct world {
    sd_event *loop;
    struct cep_endpoint *ep;
    struct sock *listener;
    uint64_t observation;
    struct cep_exchange *held;
};

static void on_psk(void *user, uint64_t session, const char *identity, const char *server_name)
{
    (void)server_name;
    static const uint8_t key[16] = {7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7};
    cep_psk(((struct world *)user)->ep, session, key, identity[0] == 0 ? 0 : sizeof key);
}

/* Answers according to the request's own bytes, so that every path of the server is met. */
static void on_request(void *user, struct cep_exchange *ex, const struct cep_message *req)
{
    static uint8_t body[5000];
    struct world *w = user;
    unsigned how = req->nopts != 0 && req->opts[0].val.n != 0 ? req->opts[0].val.p[0] : 0;
    if (cep_exchange_observe(ex))
        w->observation = cep_observe(ex);
    if ((how & 7) == 7 && w->held == NULL) {
        w->held = ex;
        return;
    }
    struct span b = (how & 1) != 0 ? span_of(body, sizeof body) : req->payload;
    cep_respond(ex, &(struct cep_message){.code = (how & 2) != 0 ? CEP_CODE(4, 4) : CEP_CODE(2, 5), .payload = b},
                (how & 4) != 0);
    if (w->observation != 0)
        cep_notify(w->ep, w->observation,
                   &(struct cep_message){.code = CEP_CODE(2, 5), .payload = span_of(body, how * 9)}, (how & 8) != 0,
                   (how & 16) != 0);
}

static const char *on_links(void *user)
{
    (void)user;
    return "</x>";
}

static void on_response(void *user, enum st st, const struct cep_message *rsp)
{
    (void)st;
    if (rsp != NULL && rsp->payload.n != 0)
        *(uint8_t *)user ^= rsp->payload.p[rsp->payload.n - 1];
}

static struct cep_session *ask(struct world *w, uint8_t *sink)
{
    static uint8_t body[3000];
    int err;
    uint16_t port = 9; /* nobody there */
    struct cep_session *s = cep_connect(w->ep, "127.0.0.1", port, NULL, span_of(NULL, 0), &err);
    if (s == NULL)
        return NULL;
    session_open(s);
    struct cep_option path = {11, span_str("x")};
    struct cep_message get = {CEP_GET, &path, 1, span_of(NULL, 0)}, post = {CEP_POST, &path, 1, span_of(body, 3000)};
    if (cep_request(s, &get, true, false, on_response, sink) == 0 ||
        cep_request(s, &get, false, false, on_response, sink) == 0 ||
        cep_request(s, &post, false, false, on_response, sink) == 0)
        abort();
    return s;
}

/* Give the message the id and token of one that is outstanding. */
static void patch(const struct cep_session *s, uint8_t *p, size_t n, unsigned which)
{
    if (n < 12 || (p[0] & 15) != 8)
        return;
    uint16_t mid = (uint16_t)(s->next_mid - 1 - which % 4);
    p[2] = (uint8_t)(mid >> 8);
    p[3] = (uint8_t)mid;
    client_token(s, which % 3, p + 4);
}

static void spin(struct world *w)
{
    sd_event_run(w->loop, 1500);
}

static void feed(struct world *w, struct cep_session *client, uint8_t mode, struct rd *r)
{
    struct path from = {.sock = w->listener, .addrlen = sizeof(struct sockaddr_in)};
    from.addr.in =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(0x7f000001)};
    uint16_t len;
    unsigned count = 0, spins = 0;
    while (count++ < 64 && rd_be16(r, &len)) {
        struct span d;
        if (len == 0xffff) {
            if (spins++ < 4)
                spin(w);
            continue;
        }
        if (!rd_span(r, len % 1500 < r->n ? len % 1500 : r->n, &d))
            return;
        uint8_t *copy = malloc(d.n + 1);
        if (copy == NULL)
            return;
        memcpy(copy, d.p, d.n);
        if (client == NULL)
            session_datagram(w->ep, &from, span_of(copy, d.n), false);
        else if (client->state != SESSION_CLOSED) {
            if ((mode & 4) != 0)
                patch(client, copy, d.n, mode >> 3);
            session_input(client, span_of(copy, d.n));
        }
        free(copy);
    }
}

/* One endpoint serves all runs, as making the TLS contexts takes longer than a run; sessions end with each. */
static struct world *world_of(bool secure)
{
    static struct world worlds[2];
    struct world *w = &worlds[secure];
    if (w->ep != NULL)
        return w;
    struct cep_callbacks cb = {.user = w, .request = on_request, .psk = on_psk, .links = on_links};
    struct cep_config cfg = {.ack_timeout_ms = 1, .max_retransmit = 2, .max_body = 20000};
    if (sd_event_new(&w->loop) < 0 || (w->ep = cep_endpoint_new(w->loop, &cfg, &cb)) == NULL ||
        cep_listen(w->ep, "127.0.0.1", 0, secure, NULL) != 0)
        abort();
    w->listener = LIST_FIRST(&w->ep->socks);
    return w;
}

static void close_all(struct session_list *list)
{
    struct cep_session *s;
    while ((s = TAILQ_FIRST(list)) != NULL)
        session_close(s, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rd r = rd_of(span_of(data, size));
    uint8_t mode, sink = 0;
    if (!rd_u8(&r, &mode))
        return 0;
    struct world *w = world_of((mode & 1) != 0);
    w->ep->cfg.echo_seconds = mode >> 6 & 1;
    struct cep_session *client = (mode & 2) != 0 ? ask(w, &sink) : NULL;
    if (client != NULL)
        session_ref(client);
    feed(w, client, mode, &r);
    if (w->held != NULL)
        cep_respond(w->held, &(struct cep_message){.code = CEP_CODE(2, 4)}, false);
    w->held = NULL;
    w->observation = 0;
    if (client != NULL)
        session_unref(client);
    close_all(&w->ep->handshaking);
    close_all(&w->ep->open[0]);
    close_all(&w->ep->open[1]);
    struct cep_endpoint *ep = w->ep;
    if (map64_count(ep->by_serial) + map64_count(ep->by_path) + map64_count(ep->requests) + map64_count(ep->txs) +
            map64_count(ep->seen) + map64_count(ep->observations) + ep->assembly + ep->seen_bytes !=
        0)
        abort(); /* something stayed behind */
    return 0;
}
