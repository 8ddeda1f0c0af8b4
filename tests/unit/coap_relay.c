#include "tests/unit/coap_relay.h"

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
        sendto(r->down, p, n, 0, (struct sockaddr *)&r->client, sizeof r->client);
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
    socklen_t len = sizeof r->client;
    ssize_t n = recvfrom(fd, buf, sizeof buf, MSG_DONTWAIT, (struct sockaddr *)&r->client, &len);
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

void relay_open(struct relay *r, sd_event *loop, uint16_t server_port, uint64_t seed)
{
    *r = (struct relay){.loop = loop, .rng = seed};
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    r->down = socket(AF_INET, SOCK_DGRAM, 0);
    r->up = socket(AF_INET, SOCK_DGRAM, 0);
    assert_int_equal(bind(r->down, (struct sockaddr *)&a, sizeof a), 0);
    struct sockaddr_in server = a;
    server.sin_port = htons(server_port);
    assert_int_equal(connect(r->up, (struct sockaddr *)&server, sizeof server), 0);
    socklen_t len = sizeof a;
    assert_int_equal(getsockname(r->down, (struct sockaddr *)&a, &len), 0);
    r->port = ntohs(a.sin_port);
    assert_true(sd_event_add_io(loop, &r->sources[0], r->down, EPOLLIN, on_down, r) >= 0);
    assert_true(sd_event_add_io(loop, &r->sources[1], r->up, EPOLLIN, on_up, r) >= 0);
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
