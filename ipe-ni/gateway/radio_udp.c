/* A radio on the multicast medium of OpenThread's simulation: one datagram is the channel byte, the PSDU and its FCS;
 * acknowledgements are datagrams too. Each radio sends from a port of its own and so knows its own frames, which
 * multicast returns to it. */
#include "ipe-ni/gateway/medium.h"
#include "ipe-ni/gateway/radio.h"

#include "cse-shim/base/map64.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* The standard's 0.86 ms (macAckWaitDuration) is a radio's; here a peer process must first be scheduled. */
enum { ACK_WAIT_US = 40000, MAX_TRIES = 4 /* macMaxFrameRetries 3 */, BURST = 64, RECEIVE_BUFFER = 1 << 20 };
enum { SIMULATED_RSSI = -20, SIMULATED_LQI = 255 };

struct radio_udp {
    struct radio base;
    sd_event *loop;
    sd_event_source *rx_source, *timer;
    struct radio_callbacks cb;
    struct radio_network net;
    int rx_fd, tx_fd;
    struct sockaddr_in group, self;
    struct map64 *pending_short, *pending_ext;
    uint8_t frame[MAC_MAX_FRAME]; /* under way */
    size_t n;                     /* 0: idle */
    unsigned tries;
    bool ack_request;
};

static struct radio_udp *of(struct radio *r) { return (struct radio_udp *)r; }

static bool radiate(struct radio_udp *r, struct span frame)
{
    uint8_t buf[MEDIUM_MAX];
    struct wr w = wr_of(buf, sizeof buf);
    medium_build(&w, r->net.channel, frame);
    if (!wr_ok(&w))
        return false;
    if (r->cb.air != NULL)
        r->cb.air(r->cb.user, frame);
    return sendto(r->tx_fd, buf, w.n, MSG_DONTWAIT, (struct sockaddr *)&r->group, sizeof r->group) == (ssize_t)w.n;
}

static void finish(struct radio_udp *r, enum radio_tx result)
{
    unsigned tries = r->tries;
    r->n = 0;
    sd_event_source_set_enabled(r->timer, SD_EVENT_OFF);
    r->cb.tx_done(r->cb.user, result, tries);
}

static void try_once(struct radio_udp *r)
{
    r->tries++;
    radiate(r, span_of(r->frame, r->n)); /* a datagram lost by the kernel is a frame lost on the air */
    sd_event_source_set_time_relative(r->timer, r->ack_request ? ACK_WAIT_US : 0);
    sd_event_source_set_enabled(r->timer, SD_EVENT_ONESHOT);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *user)
{
    (void)s, (void)usec;
    struct radio_udp *r = user;
    if (r->n == 0)
        return 0;
    if (!r->ack_request)
        finish(r, RADIO_SENT);
    else if (r->tries == MAX_TRIES)
        finish(r, RADIO_NO_ACK);
    else
        try_once(r);
    return 0;
}

static bool udp_tx(struct radio *base, struct span frame)
{
    struct radio_udp *r = of(base);
    struct mac_frame f;
    if (r->n != 0 || frame.n > sizeof r->frame || mac_parse(frame, &f) != NULL)
        return false;
    memcpy(r->frame, frame.p, frame.n);
    r->n = frame.n;
    r->tries = 0;
    r->ack_request = f.ack_request;
    try_once(r);
    return true;
}

static bool udp_pending(struct radio *base, const struct mac_addr *who, bool on)
{
    struct radio_udp *r = of(base);
    struct map64 *m = who->mode == MAC_SHORT ? r->pending_short : r->pending_ext;
    uint64_t key = who->mode == MAC_SHORT ? who->short_ : who->ext;
    if (on)
        return map64_put(m, key, r);
    map64_del(m, key);
    return true;
}

static bool for_us(const struct radio_udp *r, const struct mac_addr *dst)
{
    if (dst->mode == MAC_NONE || dst->pan != r->net.pan)
        return false;
    return dst->mode == MAC_SHORT ? dst->short_ == r->net.short_ : dst->ext == r->net.ext;
}

/* 7.5.6.4.2: within the turnaround time; so here before anyone reads the frame. */
static void acknowledge(struct radio_udp *r, const struct mac_frame *f)
{
    bool waits = mac_is_data_request(f) && (f->src.mode == MAC_SHORT ? map64_get(r->pending_short, f->src.short_)
                                                                     : map64_get(r->pending_ext, f->src.ext)) != NULL;
    uint8_t buf[3];
    struct wr w = wr_of(buf, sizeof buf);
    mac_build(&w, &(struct mac_frame){.type = MAC_ACK, .pending = waits, .seq = f->seq});
    radiate(r, wr_span(&w));
}

static void heard(struct radio_udp *r, struct span datagram)
{
    struct span frame;
    struct mac_frame f;
    if (medium_parse(datagram, r->net.channel, &frame) != NULL)
        return;
    if (r->cb.air != NULL)
        r->cb.air(r->cb.user, frame);
    if (mac_parse(frame, &f) != NULL)
        return;
    if (f.type == MAC_ACK) {
        if (r->n != 0 && r->ack_request && f.seq == r->frame[2])
            finish(r, RADIO_SENT);
        return;
    }
    if (f.ack_request && for_us(r, &f.dst))
        acknowledge(r, &f);
    r->cb.rx(r->cb.user, frame, SIMULATED_RSSI, SIMULATED_LQI);
}

static int on_readable(sd_event_source *s, int fd, uint32_t events, void *user)
{
    (void)s, (void)events;
    struct radio_udp *r = user;
    for (int i = 0; i < BURST; i++) {
        uint8_t buf[MEDIUM_MAX + 1];
        struct sockaddr_in from = {0};
        socklen_t len = sizeof from;
        ssize_t n = recvfrom(fd, buf, sizeof buf, MSG_DONTWAIT, (struct sockaddr *)&from, &len);
        if (n < 0)
            break;
        if (from.sin_port != r->self.sin_port || from.sin_addr.s_addr != r->self.sin_addr.s_addr)
            heard(r, span_of(buf, (size_t)n));
    }
    return 0;
}

static void udp_close(struct radio *base)
{
    struct radio_udp *r = of(base);
    sd_event_source_disable_unref(r->rx_source);
    sd_event_source_disable_unref(r->timer);
    if (r->rx_fd >= 0)
        close(r->rx_fd);
    if (r->tx_fd >= 0)
        close(r->tx_fd);
    map64_free(r->pending_short);
    map64_free(r->pending_ext);
    free(r);
}

/* "GROUP:PORT:INTERFACE", each with a default when empty or absent. */
static bool parse_args(const char *args, struct sockaddr_in *group, struct in_addr *interface)
{
    char buf[64], *rest = buf;
    if (snprintf(buf, sizeof buf, "%s", args) >= (int)sizeof buf)
        return false;
    const char *g = strsep(&rest, ":"), *port = strsep(&rest, ":"), *itf = strsep(&rest, ":");
    char *end = NULL;
    long p = port != NULL && *port != '\0' ? strtol(port, &end, 10) : 9000;
    group->sin_family = AF_INET;
    group->sin_port = htons((uint16_t)p);
    return rest == NULL && p > 0 && p < 65536 && (end == NULL || *end == '\0') &&
           inet_pton(AF_INET, *g != '\0' ? g : "224.0.0.116", &group->sin_addr) == 1 &&
           IN_MULTICAST(ntohl(group->sin_addr.s_addr)) &&
           inet_pton(AF_INET, itf != NULL && *itf != '\0' ? itf : "127.0.0.1", interface) == 1;
}

static bool open_sockets(struct radio_udp *r, struct in_addr interface)
{
    int on = 1, size = RECEIVE_BUFFER;
    struct ip_mreqn join = {.imr_multiaddr = r->group.sin_addr, .imr_address = interface};
    struct sockaddr_in self = {.sin_family = AF_INET, .sin_addr = interface};
    socklen_t len = sizeof r->self;
    r->rx_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    r->tx_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (r->rx_fd < 0 || r->tx_fd < 0)
        return false;
    setsockopt(r->rx_fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    return setsockopt(r->rx_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
           setsockopt(r->rx_fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0 &&
           bind(r->rx_fd, (struct sockaddr *)&r->group, sizeof r->group) == 0 &&
           setsockopt(r->rx_fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof join) == 0 &&
           setsockopt(r->tx_fd, IPPROTO_IP, IP_MULTICAST_IF, &join, sizeof join) == 0 &&
           setsockopt(r->tx_fd, IPPROTO_IP, IP_MULTICAST_LOOP, &on, sizeof on) == 0 &&
           bind(r->tx_fd, (struct sockaddr *)&self, sizeof self) == 0 &&
           getsockname(r->tx_fd, (struct sockaddr *)&r->self, &len) == 0;
}

static struct radio *udp_open(sd_event *loop, const char *args, const struct radio_network *net,
                              const struct radio_callbacks *cb, char *err, size_t errlen)
{
    struct in_addr interface;
    struct radio_udp *r = calloc(1, sizeof *r);
    if (r == NULL)
        return NULL;
    *r = (struct radio_udp){.base = {&radio_udp}, .loop = loop, .cb = *cb, .net = *net, .rx_fd = -1, .tx_fd = -1};
    r->pending_short = map64_new();
    r->pending_ext = map64_new();
    if (!parse_args(args, &r->group, &interface))
        snprintf(err, errlen, "udp radio wants GROUP:PORT[:INTERFACE], not \"%s\"", args);
    else if (r->pending_short == NULL || r->pending_ext == NULL || !open_sockets(r, interface) ||
             sd_event_add_io(loop, &r->rx_source, r->rx_fd, EPOLLIN, on_readable, r) < 0 ||
             sd_event_add_time_relative(loop, &r->timer, CLOCK_MONOTONIC, 0, 1, on_timer, r) < 0 ||
             sd_event_source_set_enabled(r->timer, SD_EVENT_OFF) < 0)
        snprintf(err, errlen, "udp radio on %s: %s", args, strerror(errno));
    else
        return &r->base;
    udp_close(&r->base);
    return NULL;
}

const struct radio_ops radio_udp = {"udp", udp_open, udp_close, udp_tx, udp_pending};
