#include "tests/unit/coap_relay.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static unsigned roll(struct relay *r)
{
    r->rng = r->rng * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(r->rng >> 33) % 100;
}

static void put(struct relay *r, bool up, const void *p, size_t n)
{
    r->forwarded++;
    if (up)
        send(r->up, p, n, 0);
    else
        sendto(r->down, p, n, 0, (struct sockaddr *)&r->client.addr, r->client.len);
}

static void forward(struct relay *r, bool up, const uint8_t *p, size_t n)
{
    if (r->pass != NULL && !r->pass(r->user, up, span_of(p, n)))
        return;
    if (roll(r) < r->loss) {
        r->lost++;
        return;
    }
    if (r->nheld == 0 && roll(r) < r->reorder) {
        memcpy(r->held, p, n);
        r->nheld = n;
        r->held_up = up;
        return;
    }
    put(r, up, p, n);
    if (roll(r) < r->dup)
        put(r, up, p, n);
    if (r->nheld != 0) {
        put(r, r->held_up, r->held, r->nheld);
        r->nheld = 0;
    }
}

static int on_down(sd_event_source *source, int fd, uint32_t events, void *user)
{
    (void)source;
    (void)events;
    struct relay *r = user;
    uint8_t buf[4096];
    r->client.len = sizeof r->client.addr;
    ssize_t n = recvfrom(fd, buf, sizeof buf, MSG_DONTWAIT, (struct sockaddr *)&r->client.addr, &r->client.len);
    if (n > 0)
        forward(r, true, buf, (size_t)n);
    return 0;
}

static int on_up(sd_event_source *source, int fd, uint32_t events, void *user)
{
    (void)source;
    (void)events;
    struct relay *r = user;
    uint8_t buf[4096];
    ssize_t n = recv(fd, buf, sizeof buf, MSG_DONTWAIT);
    if (n > 0)
        forward(r, false, buf, (size_t)n);
    return 0;
}

static void set_port(struct sockaddr_storage *a, uint16_t port)
{
    if (a->ss_family == AF_INET6)
        ((struct sockaddr_in6 *)a)->sin6_port = htons(port);
    else
        ((struct sockaddr_in *)a)->sin_port = htons(port);
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    return ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port : ((struct sockaddr_in *)&a)->sin_port);
}

void relay_open_on(struct relay *r, sd_event *loop, const char *host, uint16_t server_port, uint64_t seed)
{
    *r = (struct relay){.loop = loop, .rng = seed};
    bool six = strchr(host, ':') != NULL;
    struct sockaddr_storage a = {.ss_family = six ? AF_INET6 : AF_INET};
    void *bytes = six ? (void *)&((struct sockaddr_in6 *)&a)->sin6_addr : (void *)&((struct sockaddr_in *)&a)->sin_addr;
    assert_int_equal(inet_pton(a.ss_family, host, bytes), 1);
    socklen_t len = six ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    r->down = socket(a.ss_family, SOCK_DGRAM, 0);
    r->up = socket(a.ss_family, SOCK_DGRAM, 0);
    assert_int_equal(bind(r->down, (struct sockaddr *)&a, len), 0);
    set_port(&a, server_port);
    assert_int_equal(connect(r->up, (struct sockaddr *)&a, len), 0);
    r->port = port_of(r->down);
    assert_true(sd_event_add_io(loop, &r->sources[0], r->down, EPOLLIN, on_down, r) >= 0);
    assert_true(sd_event_add_io(loop, &r->sources[1], r->up, EPOLLIN, on_up, r) >= 0);
}

void relay_open(struct relay *r, sd_event *loop, uint16_t server_port, uint64_t seed)
{
    relay_open_on(r, loop, "127.0.0.1", server_port, seed);
}

void relay_close(struct relay *r)
{
    sd_event_source_unref(r->sources[0]);
    sd_event_source_unref(r->sources[1]);
    close(r->down);
    close(r->up);
}

void relay_inject(struct relay *r, struct span datagram)
{
    send(r->up, datagram.p, datagram.n, 0);
}

bool hello_gate_pass(void *gate, bool to_server, struct span d)
{
    struct hello_gate *g = gate;
    bool hello = to_server && d.n > 13 && d.p[0] == 22 && d.p[13] == 1;
    if (to_server && !hello && g->stop_after != 0 && g->hellos >= g->stop_after)
        return false;
    if (hello && g->hellos < 2 && d.n <= sizeof g->hello[0]) {
        memcpy(g->hello[g->hellos], d.p, d.n);
        g->len[g->hellos] = d.n;
    }
    g->hellos += hello;
    return true;
}
