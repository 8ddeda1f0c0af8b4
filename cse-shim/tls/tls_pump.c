#include "cse-shim/tls/internal.h"

#include <errno.h>
#include <linux/sockios.h>
#include <openssl/err.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define CATCH_UP_US 5000
#define MAX_DISCARDED 1048576
#define ROUNDS 8 /* per wake-up, so that one busy connection does not hold the loop */

enum moved { MOVED, BLOCKED, OVER };

static bool empty(const struct tls_buffer *b)
{
    return b->from == b->to;
}

/* Forget what left: requests and answers may carry keys. */
static void drop(struct tls_buffer *b, size_t n)
{
    OPENSSL_cleanse(b->bytes + b->from, n);
    b->from += n;
    if (empty(b))
        b->from = b->to = 0;
}

static enum moved tls_verdict(struct tls_conn *c, int r)
{
    int why = SSL_get_error(c->ssl, r);
    ERR_clear_error();
    c->tls_wants_write = why == SSL_ERROR_WANT_WRITE;
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
        return BLOCKED;
    c->tls_ended = true;
    return why == SSL_ERROR_ZERO_RETURN ? BLOCKED : OVER;
}

/* Bytes of a client that was refused are read away for a while, so that it sees the answer before the end. */
static enum moved discard(struct tls_conn *c, size_t n)
{
    OPENSSL_cleanse(c->in.bytes, n);
    c->discarded += n;
    return c->discarded > MAX_DISCARDED ? OVER : MOVED;
}

static enum moved read_tls(struct tls_conn *c)
{
    if (c->tls_ended || !empty(&c->in))
        return BLOCKED;
    size_t n = 0;
    int r = SSL_read_ex(c->ssl, c->in.bytes, sizeof c->in.bytes, &n);
    if (r != 1)
        return tls_verdict(c, r);
    if (c->refused)
        return discard(c, n);
    size_t pass = tls_filter(c, span_of(c->in.bytes, n));
    OPENSSL_cleanse(c->in.bytes + pass, n - pass);
    c->in.to = pass;
    c->received = true;
    return MOVED;
}

/* Tell the reader that nothing more comes, but only when it has read what came: it watches for edges, and would take
 * bytes and end as one event and wait for another. */
static void half_close(struct tls_conn *c)
{
    int unread = 0;
    if (c->half_closed)
        return;
    c->half_closed = ioctl(c->plain, SIOCOUTQ, &unread) < 0 || unread == 0;
    if (c->half_closed)
        shutdown(c->plain, SHUT_WR);
}

static enum moved write_plain(struct tls_conn *c)
{
    if (empty(&c->in)) {
        if (c->tls_ended || c->refused)
            half_close(c);
        return BLOCKED;
    }
    ssize_t n = send(c->plain, c->in.bytes + c->in.from, c->in.to - c->in.from, MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return BLOCKED;
    /* The reader closed, perhaps after an early answer: discard, so that the answer still gets out. */
    drop(&c->in, n < 0 ? c->in.to - c->in.from : (size_t)n);
    return MOVED;
}

static enum moved read_plain(struct tls_conn *c)
{
    if (c->plain_ended || !empty(&c->out))
        return BLOCKED;
    ssize_t n = recv(c->plain, c->out.bytes, sizeof c->out.bytes, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return BLOCKED;
    c->plain_ended = n <= 0; /* ECONNRESET: closed without reading all that we wrote */
    c->out.to = n > 0 ? (size_t)n : 0;
    return n > 0 ? MOVED : BLOCKED;
}

/* Everything was answered. One that was refused hears of it, and has until it closes, or the deadline. */
static enum moved say_goodbye(struct tls_conn *c)
{
    if (!c->refused || c->tls_ended)
        return OVER;
    if (c->refusal.n != 0 && c->refusal.n <= sizeof c->out.bytes) {
        memcpy(c->out.bytes, c->refusal.p, c->refusal.n);
        c->out.to = c->refusal.n;
        c->refusal.n = 0;
        return MOVED;
    }
    if (!c->said) {
        c->said = true;
        (void)SSL_shutdown(c->ssl);
        ERR_clear_error();
        shutdown(c->tcp, SHUT_WR);
    }
    return BLOCKED;
}

static enum moved write_tls(struct tls_conn *c)
{
    if (empty(&c->out))
        return c->plain_ended ? say_goodbye(c) : BLOCKED;
    size_t n = 0;
    int r = SSL_write_ex(c->ssl, c->out.bytes + c->out.from, c->out.to - c->out.from, &n);
    if (r != 1)
        return tls_verdict(c, r);
    drop(&c->out, n);
    c->sent = true;
    return MOVED;
}

bool tls_pump(struct tls_conn *c)
{
    enum moved (*const steps[])(struct tls_conn *c) = {read_tls, write_plain, read_plain, write_tls};
    bool moved = true;
    c->tls_wants_write = c->received = c->sent = false;
    for (int round = 0; moved && round < ROUNDS; round++) {
        moved = false;
        for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
            enum moved m = steps[i](c);
            if (m == OVER)
                return false;
            moved |= m == MOVED;
        }
    }
    return true;
}

void tls_pump_watch(struct tls_conn *c)
{
    uint32_t tcp = 0, plain = 0;
    if (!c->tls_ended && empty(&c->in))
        tcp |= EPOLLIN;
    if (c->tls_wants_write || !empty(&c->out))
        tcp |= EPOLLOUT;
    if (!empty(&c->in))
        plain |= EPOLLOUT;
    if (!c->plain_ended && empty(&c->out))
        plain |= EPOLLIN;
    sd_event_source_set_io_events(c->tcp_source, tcp);
    sd_event_source_set_io_events(c->plain_source, plain);
    /* A closed pair reports its hang-up for ever, whatever is asked for. */
    sd_event_source_set_enabled(c->plain_source, plain == 0 ? SD_EVENT_OFF : SD_EVENT_ON);
    /* Bytes that OpenSSL holds decrypted raise no event of the socket, nor does a reader that has caught up. */
    bool held = empty(&c->in) && SSL_pending(c->ssl) > 0;
    bool closing = empty(&c->in) && (c->tls_ended || c->refused) && !c->half_closed;
    sd_event_source_set_time_relative(c->resume, held ? 0 : CATCH_UP_US);
    sd_event_source_set_enabled(c->resume, held || closing ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}
