#include "cse-shim/tls/internal.h"

#include "cse-shim/base/log.h"
#include "cse-shim/base/map64.h"
#include "cse-shim/coap/certs.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_SOCKETS 16
#define BACKLOG 256
#define ACCEPT_BURST 32

struct tls_listener {
    sd_event *loop;
    SSL_CTX *ctx;
    struct tls_callbacks cb;
    struct tls_config cfg; /* its certificates are referenced */
    struct tls_conn *conns;
    struct map64 *by_serial;
    struct map64 *by_origin; /* number of connections, as a pointer */
    uint64_t last_serial;
    sd_event_source *sockets[MAX_SOCKETS];
    size_t nsockets;
    bool paused; /* at max_connections */
    struct tls_stats stats;
};

static int on_accept(sd_event_source *s, int fd, uint32_t revents, void *user);

/* --- one connection ------------------------------------------------------------------------------------------------------ */

static void pause_accept(struct tls_listener *l, bool pause)
{
    l->paused = pause;
    for (size_t i = 0; i < l->nsockets; i++)
        sd_event_source_set_enabled(l->sockets[i], pause ? SD_EVENT_OFF : SD_EVENT_ON);
}

/* An address as its limit counts it: IPv4 whole, of IPv6 the network, in which a host picks addresses as it likes. */
static uint64_t origin_of(const struct sockaddr *addr)
{
    uint64_t net = 0;
    if (addr->sa_family == AF_INET6)
        memcpy(&net, &((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr, sizeof net);
    else
        net = UINT64_C(0xffff) << 32 | ((const struct sockaddr_in *)(const void *)addr)->sin_addr.s_addr;
    return net;
}

/* Count one more or less; false: no memory, or the limit is reached. */
static bool count_origin(struct tls_listener *l, uint64_t origin, bool more)
{
    uintptr_t n = (uintptr_t)map64_get(l->by_origin, origin);
    if (!more && n == 1) {
        map64_del(l->by_origin, origin);
        return true;
    }
    if (more && n >= l->cfg.max_per_address)
        return false;
    return map64_put(l->by_origin, origin, (void *)(more ? n + 1 : n - 1));
}

size_t tls_filter(struct tls_conn *c, struct span in)
{
    struct tls_listener *l = c->listener;
    size_t n = c->filter == NULL ? in.n : l->cb.filter.pass(c->filter, in, &c->refusal);
    c->refused = n < in.n;
    l->stats.filtered += c->refused;
    return n;
}

static void conn_free(struct tls_conn *c)
{
    struct tls_listener *l = c->listener;
    (void)count_origin(l, c->origin, false);
    if (c->filter != NULL)
        l->cb.filter.close(c->filter);
    if (c->link != NULL) {
        *c->link = c->next;
        if (c->next != NULL)
            c->next->link = c->link;
        l->stats.connections--;
    }
    map64_del(l->by_serial, c->serial);
    sd_event_source_disable_unref(c->tcp_source);
    sd_event_source_disable_unref(c->plain_source);
    sd_event_source_disable_unref(c->deadline);
    sd_event_source_disable_unref(c->resume);
    SSL_free(c->ssl);
    close(c->tcp);
    if (c->plain >= 0)
        close(c->plain);
    OPENSSL_cleanse(c, sizeof *c);
    free(c);
    if (l->paused)
        pause_accept(l, false);
}

static void conn_end(struct tls_conn *c)
{
    struct tls_listener *l = c->listener;
    uint64_t serial = c->serial;
    bool opened = c->plain >= 0;
    if (opened && !c->tls_ended)
        (void)SSL_shutdown(c->ssl);
    ERR_clear_error();
    if (!opened) {
        l->stats.handshakes--;
        l->stats.handshakes_failed++;
    }
    conn_free(c);
    if (opened)
        l->cb.closed(l->cb.user, serial);
}

static void postpone(struct tls_conn *c, unsigned seconds)
{
    sd_event_source_set_time_relative(c->deadline, (uint64_t)seconds * 1000000);
    sd_event_source_set_enabled(c->deadline, SD_EVENT_ONESHOT);
}

static void go_on(struct tls_conn *c)
{
    if (!tls_pump(c)) {
        conn_end(c);
        return;
    }
    /* Time runs from the first byte of a question to its answer, and anew from there: dripping in bytes gains nothing. */
    if (c->sent || (c->received && !c->asking))
        postpone(c, c->listener->cfg.idle_seconds);
    c->asking = !c->sent && (c->asking || c->received);
    tls_pump_watch(c);
}

static int on_plain(sd_event_source *s, int fd, uint32_t revents, void *user)
{
    (void)s;
    (void)fd;
    (void)revents;
    go_on(user);
    return 0;
}

static int on_resume(sd_event_source *s, uint64_t usec, void *user)
{
    (void)s;
    (void)usec;
    go_on(user);
    return 0;
}

/* Was the connection's PSK really used? In TLS 1.2 the suite tells, in TLS 1.3 that a session was resumed: we give out
 * no tickets, so it can only be the external PSK. */
static bool psk_used(const struct tls_conn *c)
{
    if (SSL_version(c->ssl) == TLS1_3_VERSION)
        return SSL_session_reused(c->ssl) == 1;
    int kx = SSL_CIPHER_get_kx_nid(SSL_get_current_cipher(c->ssl));
    return kx == NID_kx_psk || kx == NID_kx_ecdhe_psk;
}

static enum cep_credential credential(const struct tls_conn *c)
{
    if (psk_used(c))
        return CEP_CRED_PSK;
    return certs_credential(c->ssl);
}

/* The handshake is done: hand out the plain stream. */
static bool open_plain(struct tls_conn *c)
{
    struct tls_listener *l = c->listener;
    int pair[2];
    if (l->cb.filter.open != NULL && (c->filter = l->cb.filter.open(l->cb.user)) == NULL)
        return false;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
        return false;
    if (sd_event_add_io(l->loop, &c->plain_source, pair[0], EPOLLIN, on_plain, c) < 0 ||
        sd_event_add_time_relative(l->loop, &c->resume, CLOCK_MONOTONIC, 0, 1, on_resume, c) < 0) {
        close(pair[0]);
        close(pair[1]);
        return false;
    }
    c->plain = pair[0];
    l->stats.handshakes--;
    enum cep_credential cred = credential(c);
    struct tls_peer peer = {c->serial, cred, cred != CEP_CRED_NONE ? c->identity : "", c->address,
                            certs_server_name(c->ssl)};
    l->cb.opened(l->cb.user, pair[1], &peer);
    return true;
}

static void shake_hands(struct tls_conn *c)
{
    int r = SSL_do_handshake(c->ssl);
    if (r == 1) {
        if (open_plain(c)) {
            postpone(c, c->listener->cfg.idle_seconds);
            go_on(c);
        } else {
            conn_end(c);
        }
        return;
    }
    int why = SSL_get_error(c->ssl, r);
    if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
        const char *reason = ERR_reason_error_string(ERR_peek_last_error());
        log_event(LOG_INFO, "tls.refused", "peer=%s reason=\"%s\"", c->address, reason == NULL ? "closed" : reason);
        conn_end(c);
        return;
    }
    sd_event_source_set_io_events(c->tcp_source, why == SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLOUT);
}

static int on_tcp(sd_event_source *s, int fd, uint32_t revents, void *user)
{
    (void)s;
    (void)fd;
    struct tls_conn *c = user;
    ERR_clear_error();
    if (c->plain < 0)
        shake_hands(c);
    else if ((revents & (EPOLLHUP | EPOLLERR)) != 0)
        conn_end(c); /* closed both ways: nobody is left to read what we still have */
    else
        go_on(c);
    return 0;
}

static int on_deadline(sd_event_source *s, uint64_t usec, void *user)
{
    (void)s;
    (void)usec;
    struct tls_conn *c = user;
    c->listener->stats.timeouts++;
    conn_end(c);
    return 0;
}

/* --- accepting ------------------------------------------------------------------------------------------------------------ */

static bool conn_start(struct tls_conn *c, struct tls_listener *l)
{
    int one = 1;
    (void)setsockopt(c->tcp, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->ssl = SSL_new(l->ctx);
    if (c->ssl == NULL || SSL_set_fd(c->ssl, c->tcp) != 1 || SSL_set_ex_data(c->ssl, 0, c) != 1 ||
        !certs_offer(l->cfg.certs, c->ssl))
        return false;
    SSL_set_accept_state(c->ssl);
    uint64_t limit = (uint64_t)l->cfg.handshake_seconds * 1000000;
    return sd_event_add_io(l->loop, &c->tcp_source, c->tcp, EPOLLIN, on_tcp, c) >= 0 &&
           sd_event_add_time_relative(l->loop, &c->deadline, CLOCK_MONOTONIC, limit, 100000, on_deadline, c) >= 0 &&
           map64_put(l->by_serial, c->serial, c);
}

static void conn_new(struct tls_listener *l, int fd, const struct sockaddr *addr)
{
    uint64_t origin = origin_of(addr);
    struct tls_conn *c = calloc(1, sizeof *c);
    if (c == NULL || !count_origin(l, origin, true)) {
        l->stats.crowded++;
        free(c);
        close(fd);
        return;
    }
    c->origin = origin;
    c->listener = l;
    c->tcp = fd;
    c->plain = -1;
    c->serial = ++l->last_serial;
    address_print(addr, c->address);
    if (!conn_start(c, l)) {
        conn_free(c);
        return;
    }
    c->next = l->conns;
    c->link = &l->conns;
    if (l->conns != NULL)
        l->conns->link = &c->next;
    l->conns = c;
    l->stats.connections++;
    l->stats.handshakes++;
    l->stats.accepted++;
}

static int on_accept(sd_event_source *s, int fd, uint32_t revents, void *user)
{
    (void)s;
    (void)revents;
    struct tls_listener *l = user;
    for (int i = 0; i < ACCEPT_BURST; i++) {
        if (l->stats.connections >= l->cfg.max_connections) {
            pause_accept(l, true);
            l->stats.full++;
            break;
        }
        union {
            struct sockaddr any;
            struct sockaddr_in v4;
            struct sockaddr_in6 v6;
        } addr = {.v6 = {0}};
        socklen_t len = sizeof addr;
        int conn = accept4(fd, &addr.any, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (conn < 0)
            break;
        conn_new(l, conn, &addr.any);
    }
    return 0;
}

static int open_socket(const struct listen_address *a)
{
    int one = 1;
    int fd = socket(a->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (a->addr.ss_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (bind(fd, (const struct sockaddr *)&a->addr, a->addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static bool listen_one(void *user, const struct listen_address *a, char *err, size_t errlen)
{
    struct tls_listener *l = user;
    int fd = l->nsockets == MAX_SOCKETS ? (errno = EMFILE, -1) : open_socket(a);
    /* A machine without IPv6 is no reason not to serve IPv4. */
    if (fd < 0 && errno == EAFNOSUPPORT && a->addr.ss_family == AF_INET6) {
        log_event(LOG_WARN, "https.no-ipv6", "address=%s", a->host);
        return true;
    }
    sd_event_source *source = NULL;
    if (fd < 0 || sd_event_add_io(l->loop, &source, fd, EPOLLIN, on_accept, l) < 0) {
        snprintf(err, errlen, "https: cannot listen on %s port %u: %s", a->host, a->port, strerror(errno));
        if (fd >= 0)
            close(fd);
        return false;
    }
    sd_event_source_set_io_fd_own(source, true);
    l->sockets[l->nsockets++] = source;
    log_event(LOG_INFO, "https.listening", "address=%s port=%u", a->host, a->port);
    return true;
}

bool tls_listen(struct tls_listener *l, const char *addresses, char *err, size_t errlen)
{
    return listen_each(addresses, listen_one, l, err, errlen);
}

/* --- the listener --------------------------------------------------------------------------------------------------------- */

static unsigned on_psk(SSL *ssl, const char *identity, unsigned char *key, unsigned cap)
{
    struct tls_conn *c = SSL_get_ex_data(ssl, 0);
    c->identity[0] = '\0';
    if (identity == NULL || identity[0] == '\0' || strlen(identity) >= sizeof c->identity)
        return 0;
    size_t n = c->listener->cb.psk(c->listener->cb.user, identity, certs_server_name(ssl), key, cap);
    if (n != 0)
        memcpy(c->identity, identity, strlen(identity) + 1);
    return (unsigned)n;
}

static int on_client_chain(int ok, X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls_conn *c = SSL_get_ex_data(ssl, 0);
    return certs_client(c->listener->cfg.certs, ok, store, c->identity, sizeof c->identity);
}

/* A ClientHello came: what do we show, and do we ask for something? Who has no certificate may have a token. */
static int on_server_certs(SSL *ssl, void *unused)
{
    (void)unused;
    const struct tls_conn *c = SSL_get_ex_data(ssl, 0);
    const struct cep_certs *certs = c->listener->cfg.certs;
    if (certs_can_verify(certs) && !certs_verify(certs, ssl, SSL_VERIFY_PEER, on_client_chain))
        return 0;
    return certs_use(certs, ssl, SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name));
}

void tls_listener_reload(struct tls_listener *l, const struct tls_config *cfg)
{
    struct cep_certs *old = l->cfg.certs;
    l->cfg = *cfg;
    l->cfg.certs = certs_ref(cfg->certs);
    cep_certs_unref(old);
    for (struct tls_conn *c = l->conns, *next; c != NULL; c = next) {
        next = c->next;
        if (!certs_recheck(l->cfg.certs, c->ssl))
            conn_end(c);
    }
}

static SSL_CTX *context_new(void)
{
    SSL_CTX *ctx = tls_context_new();
    if (ctx != NULL) {
        SSL_CTX_set_psk_server_callback(ctx, on_psk);
        SSL_CTX_set_cert_cb(ctx, on_server_certs, NULL);
    }
    return ctx;
}

struct tls_listener *tls_listener_new(sd_event *loop, const struct tls_config *cfg, const struct tls_callbacks *cb,
                                      char *err, size_t errlen)
{
    struct tls_listener *l = calloc(1, sizeof *l);
    snprintf(err, errlen, "https: out of memory, or OpenSSL lacks a needed algorithm");
    if (l == NULL)
        return NULL;
    l->loop = sd_event_ref(loop);
    l->cb = *cb;
    l->by_serial = map64_new();
    l->by_origin = map64_new();
    l->ctx = context_new();
    if (l->by_serial != NULL && l->by_origin != NULL && l->ctx != NULL) {
        tls_listener_reload(l, cfg);
        return l;
    }
    tls_listener_free(l);
    return NULL;
}

void tls_listener_quiesce(struct tls_listener *l)
{
    for (size_t i = 0; i < l->nsockets; i++)
        sd_event_source_disable_unref(l->sockets[i]);
    l->nsockets = 0;
}

void tls_listener_free(struct tls_listener *l)
{
    if (l == NULL)
        return;
    tls_listener_quiesce(l);
    while (l->conns != NULL)
        conn_free(l->conns);
    map64_free(l->by_serial);
    map64_free(l->by_origin);
    SSL_CTX_free(l->ctx);
    cep_certs_unref(l->cfg.certs);
    sd_event_unref(l->loop);
    free(l);
}

bool tls_export(struct tls_listener *l, uint64_t serial, const char *label, uint8_t *out, size_t n)
{
    struct tls_conn *c = map64_get(l->by_serial, serial);
    return c != NULL && c->plain >= 0 &&
           SSL_export_keying_material(c->ssl, out, n, label, strlen(label), NULL, 0, 0) == 1;
}

void tls_stats_get(const struct tls_listener *l, struct tls_stats *out)
{
    *out = l->stats;
}
