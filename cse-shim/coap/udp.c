#include "cse-shim/coap/internal.h"

#include <errno.h>
#include <netdb.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BATCH 16
#define ROUNDS 4 /* batches per wake-up, so that one busy socket does not starve the loop */

union control {
    struct cmsghdr align;
    uint8_t room[CMSG_SPACE(sizeof(struct in6_pktinfo))];
};

struct udp_batch {
    struct mmsghdr msgs[BATCH];
    struct iovec iovs[BATCH];
    union address from[BATCH];
    union control control[BATCH];
    uint8_t bufs[BATCH][PDU_MAX];
};

struct udp_batch *udp_batch_new(void)
{
    struct udp_batch *b = calloc(1, sizeof *b);
    for (size_t i = 0; b != NULL && i < BATCH; i++) {
        b->iovs[i] = (struct iovec){b->bufs[i], PDU_MAX};
        b->msgs[i].msg_hdr = (struct msghdr){.msg_name = &b->from[i], .msg_iov = &b->iovs[i], .msg_iovlen = 1};
    }
    return b;
}

void udp_batch_free(struct udp_batch *b)
{
    free(b);
}

/* The address a datagram was sent to. */
static struct in6_addr local_address(struct msghdr *h)
{
    struct in6_addr a = {0};
    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c != NULL; c = CMSG_NXTHDR(h, c))
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO)
            memcpy(&a, CMSG_DATA(c) + offsetof(struct in_pktinfo, ipi_addr), sizeof(struct in_addr));
        else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO)
            memcpy(&a, CMSG_DATA(c) + offsetof(struct in6_pktinfo, ipi6_addr), sizeof a);
    return a;
}

static void deliver(struct sock *s, struct cep_session *session, struct mmsghdr *m)
{
    struct cep_endpoint *ep = s->ep;
    ep->stats.datagrams_in++;
    if ((m->msg_hdr.msg_flags & MSG_TRUNC) != 0 || m->msg_len == 0) {
        ep->stats.malformed++;
        return;
    }
    struct span datagram = span_of(m->msg_hdr.msg_iov->iov_base, m->msg_len);
    if (session != NULL) {
        session_input(session, datagram);
        return;
    }
    struct path path = {.sock = s, .addrlen = m->msg_hdr.msg_namelen};
    memcpy(&path.addr, m->msg_hdr.msg_name, path.addrlen < sizeof path.addr ? path.addrlen : sizeof path.addr);
    if (s->any)
        path.local = local_address(&m->msg_hdr);
    session_datagram(ep, &path, datagram, false);
}

static int on_readable(sd_event_source *source, int fd, uint32_t events, void *user)
{
    (void)source;
    (void)events;
    struct sock *s = user;
    struct udp_batch *b = s->ep->batch;
    /* A connected socket goes with its session, which a callback may close. */
    struct cep_session *session = s->session != NULL ? session_ref(s->session) : NULL;
    for (int round = 0, n = BATCH; round < ROUNDS && n == BATCH; round++) {
        for (size_t i = 0; i < BATCH; i++) {
            b->msgs[i].msg_hdr.msg_namelen = sizeof b->from[i];
            b->msgs[i].msg_hdr.msg_control = &b->control[i];
            b->msgs[i].msg_hdr.msg_controllen = s->any ? sizeof b->control[i] : 0;
        }
        n = recvmmsg(fd, b->msgs, BATCH, MSG_DONTWAIT, NULL);
        for (int i = 0; i < n && (session == NULL || session->state != SESSION_CLOSED); i++)
            deliver(s, session, &b->msgs[i]);
        if (session != NULL && session->state == SESSION_CLOSED)
            break;
    }
    if (session != NULL)
        session_unref(session);
    return 0;
}

static struct sock *sock_new(struct cep_endpoint *ep, int fd)
{
    struct sock *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    *s = (struct sock){.ep = ep, .fd = fd};
    if (sd_event_add_io(ep->loop, &s->source, fd, EPOLLIN, on_readable, s) < 0) {
        free(s);
        return NULL;
    }
    LIST_INSERT_HEAD(&ep->socks, s, link);
    return s;
}

void udp_close(struct sock *s)
{
    sd_event_source_disable_unref(s->source);
    LIST_REMOVE(s, link);
    close(s->fd);
    free(s);
}

static int resolve(const char *host, uint16_t port, int flags, struct addrinfo **out)
{
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = flags | AI_NUMERICSERV};
    switch (getaddrinfo(host, service, &hints, out)) {
    case 0:
        return 0;
    case EAI_MEMORY:
        return -ENOMEM;
    case EAI_AGAIN:
        return -EAGAIN;
    default:
        return -EADDRNOTAVAIL;
    }
}

static int open_socket(const struct addrinfo *ai)
{
    int fd = socket(ai->ai_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int one = 1, room = 4 << 20;
    if (ai->ai_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) < 0) {
        int err = -errno;
        close(fd);
        return err;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room); /* a burst of datagrams; best effort */
    return fd;
}

/* On a socket bound to all addresses, be told which one each datagram was sent to. */
static bool watch_destination(int fd, const struct sockaddr *sa)
{
    const union address *a = (const union address *)sa;
    int one = 1;
    if (sa->sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr))
        return setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &one, sizeof one) == 0;
    if (sa->sa_family == AF_INET && a->in.sin_addr.s_addr == htonl(INADDR_ANY))
        return setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof one) == 0;
    return false;
}

uint16_t bound_port(int fd)
{
    union address a = {0};
    socklen_t len = sizeof a;
    if (getsockname(fd, &a.sa, &len) < 0)
        return 0;
    return ntohs(a.sa.sa_family == AF_INET6 ? a.in6.sin6_port : a.in.sin_port);
}

int udp_listen(struct cep_endpoint *ep, const char *host, uint16_t port, struct sock **out, uint16_t *bound)
{
    struct addrinfo *ai;
    int err = resolve(host, port, AI_PASSIVE, &ai);
    if (err < 0)
        return err;
    int fd = open_socket(ai);
    if (fd < 0) {
        freeaddrinfo(ai);
        return fd;
    }
    if (ep->cfg.group != NULL)
        err = group_bind(ep->cfg.group, ep->next_sock, fd, (union address *)ai->ai_addr, ai->ai_addrlen);
    else
        err = bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 ? -errno : 0;
    bool any = watch_destination(fd, ai->ai_addr);
    freeaddrinfo(ai);
    if (err == 0 && (*out = sock_new(ep, fd)) == NULL)
        err = -ENOMEM;
    if (err < 0) {
        close(fd);
        return err;
    }
    (*out)->index = ep->next_sock++;
    (*out)->any = any;
    if (bound != NULL)
        *bound = bound_port(fd);
    return 0;
}

int udp_connect(struct cep_endpoint *ep, const char *host, uint16_t port, struct sock **out, struct path *path)
{
    struct addrinfo *list;
    int err = resolve(host, port, AI_ADDRCONFIG, &list);
    if (err < 0 && (err = resolve(host, port, AI_NUMERICHOST, &list)) < 0)
        return err;
    int fd = -1;
    for (struct addrinfo *ai = list; ai != NULL; ai = ai->ai_next) {
        fd = open_socket(ai);
        err = fd < 0 ? fd : 0;
        if (fd >= 0 && connect(fd, ai->ai_addr, ai->ai_addrlen) == 0) {
            memcpy(&path->addr, ai->ai_addr, ai->ai_addrlen);
            path->addrlen = ai->ai_addrlen;
            break;
        }
        if (fd >= 0) {
            err = -errno;
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    if (fd < 0)
        return err;
    if ((*out = sock_new(ep, fd)) == NULL) {
        close(fd);
        return -ENOMEM;
    }
    path->sock = *out;
    return 0;
}

/* Have the kernel send from the address that the peer knows (RFC 7252 5.3.2 matches responses by it). */
static void put_source(struct msghdr *h, union control *room, const struct path *path)
{
    bool six = path->addr.sa.sa_family == AF_INET6;
    struct in6_pktinfo info6 = {.ipi6_addr = path->local};
    struct in_pktinfo info = {0};
    memcpy(&info.ipi_spec_dst, &path->local, sizeof info.ipi_spec_dst);
    size_t n = six ? sizeof info6 : sizeof info;
    memset(room, 0, sizeof *room);
    h->msg_control = room;
    h->msg_controllen = CMSG_SPACE(n);
    struct cmsghdr *c = CMSG_FIRSTHDR(h);
    c->cmsg_level = six ? IPPROTO_IPV6 : IPPROTO_IP;
    c->cmsg_type = six ? IPV6_PKTINFO : IP_PKTINFO;
    c->cmsg_len = CMSG_LEN(n);
    memcpy(CMSG_DATA(c), six ? (void *)&info6 : (void *)&info, n);
}

void udp_send(const struct path *path, struct span datagram)
{
    struct sock *s = path->sock;
    union control room;
    union address to = path->addr;
    struct iovec iov = {(void *)(uintptr_t)datagram.p, datagram.n};
    struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
    if (s->session == NULL) {
        h.msg_name = &to;
        h.msg_namelen = path->addrlen;
    }
    if (s->any)
        put_source(&h, &room, path);
    /* What the kernel does not take is lost, as on the wire. */
    if (sendmsg(s->fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        s->ep->stats.dropped++;
    else
        s->ep->stats.datagrams_out++;
}

/* --- addresses --- */

struct span path_bytes(const struct path *path)
{
    return span_of(&path->addr, path->addrlen);
}

/* Address, port, scope and socket as six words. */
static void words(const struct path *path, uint32_t w[6])
{
    memset(w, 0, 6 * sizeof *w);
    if (path->addr.sa.sa_family == AF_INET6) {
        memcpy(w, &path->addr.in6.sin6_addr, 16);
        w[4] = path->addr.in6.sin6_scope_id;
        w[5] = path->addr.in6.sin6_port;
    } else {
        w[0] = path->addr.in.sin_addr.s_addr;
        w[5] = path->addr.in.sin_port;
    }
    w[5] |= (uint32_t)path->sock->index << 16;
}

/* A universal hash (NH of UMAC, RFC 4418 5.2) under a secret: a peer cannot choose addresses that collide. */
uint64_t path_key(const struct path *path, const uint64_t secret[4])
{
    uint32_t w[6];
    words(path, w);
    uint64_t h = secret[3];
    for (int i = 0; i < 3; i++)
        h += (uint64_t)(uint32_t)(w[2 * i] + (uint32_t)secret[i]) *
             (uint32_t)(w[2 * i + 1] + (uint32_t)(secret[i] >> 32));
    return h;
}

bool path_eq(const struct path *a, const struct path *b)
{
    uint32_t x[6], y[6];
    words(a, x);
    words(b, y);
    return memcmp(x, y, sizeof x) == 0;
}
