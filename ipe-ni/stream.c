#include "ipe-ni/stream.h"

#include "cse-shim/base/log.h"
#include "ipe-ni/line.h"
#include "mef-plugin/egp/egp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

enum { RETRY_MIN_US = 100000, RETRY_MAX_US = 10000000, READ_CHUNK = 4096 };

struct stream {
    sd_event *loop;
    struct stream_callbacks cb;
    struct line line;
    int fd;                    /* the open line, or -1 */
    bool up;
    sd_event_source *io, *listen_io, *retry;
    uint64_t retry_us;
    struct hdlc_decoder decoder;
    struct stream_stats stats;
    uint8_t *out;              /* bytes to be written: out[head..tail) */
    size_t head, tail, cap;
};

static void schedule(struct stream *s);

static void go_down(struct stream *s, const char *why)
{
    bool was_up = s->up;
    sd_event_source_disable_unref(s->io);
    s->io = NULL;
    line_close(&s->line, s->fd);
    s->fd = -1;
    s->up = false;
    s->head = s->tail = 0;
    s->stats.bad_frames += s->decoder.bad_frames;
    s->decoder = (struct hdlc_decoder){0};
    if (was_up) {
        log_event(LOG_NOTICE, "stream.down", "line=%s why=\"%s\"", s->line.spec, why);
        if (s->cb.down != NULL)
            s->cb.down(s->cb.user);
    }
    schedule(s);
}

static void want_write(struct stream *s)
{
    sd_event_source_set_io_events(s->io, EPOLLIN | (s->head != s->tail || !s->up ? EPOLLOUT : 0));
}

static void go_up(struct stream *s)
{
    s->up = true;
    s->retry_us = RETRY_MIN_US;
    s->stats.opened++;
    want_write(s);
    log_event(LOG_NOTICE, "stream.up", "line=%s", s->line.spec);
    s->cb.up(s->cb.user);
}

static bool flush(struct stream *s)
{
    while (s->head != s->tail) {
        ssize_t n = write(s->fd, s->out + s->head, s->tail - s->head);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        s->head += (size_t)n;
    }
    s->head = s->tail = 0;
    return true;
}

static void on_message(void *user, struct span m)
{
    struct stream *s = user;
    s->stats.in++;
    s->cb.message(s->cb.user, m);
}

/* False: the line has ended. */
static bool receive(struct stream *s)
{
    uint8_t buf[READ_CHUNK];
    ssize_t n = read(s->fd, buf, sizeof buf);
    if (n > 0)
        hdlc_decode(&s->decoder, span_of(buf, (size_t)n), on_message, s);
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static int on_io(sd_event_source *src, int fd, uint32_t events, void *user)
{
    (void)src, (void)fd;
    struct stream *s = user;
    if (!s->up) { /* a connection under way */
        if (line_connected(s->fd))
            go_up(s);
        else
            go_down(s, "connect");
        return 0;
    }
    bool ok = true;
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        ok = receive(s);
    if (ok && s->fd >= 0 && events & EPOLLOUT)
        ok = flush(s);
    if (!ok)
        go_down(s, "closed");
    else if (s->io != NULL)
        want_write(s);
    return 0;
}

static void adopt(struct stream *s, int fd, bool connected)
{
    s->fd = fd;
    if (sd_event_add_io(s->loop, &s->io, fd, EPOLLIN | EPOLLOUT, on_io, s) < 0)
        go_down(s, "no memory");
    else if (connected)
        go_up(s);
}

static int on_accept(sd_event_source *src, int listen_fd, uint32_t events, void *user)
{
    (void)src, (void)events;
    struct stream *s = user;
    int fd = line_accept(listen_fd);
    if (fd < 0)
        return 0;
    if (s->fd >= 0)
        go_down(s, "replaced");
    adopt(s, fd, true);
    return 0;
}

static int on_retry(sd_event_source *src, uint64_t now, void *user)
{
    (void)src, (void)now;
    struct stream *s = user;
    bool connected = false;
    int fd = line_open(&s->line, &connected);
    if (fd >= 0)
        adopt(s, fd, connected);
    else
        schedule(s);
    return 0;
}

/* A pseudo-terminal of our own is looked at often, because opening it at the other end makes no event. */
static void schedule(struct stream *s)
{
    if (s->line.kind == LINE_TCP_LISTEN)
        return;
    uint64_t jitter = 0;
    (void)!getrandom(&jitter, sizeof jitter, 0);
    uint64_t wait = s->line.kind == LINE_PTY_MASTER ? RETRY_MIN_US : s->retry_us / 2 + jitter % (s->retry_us / 2);
    s->retry_us = s->retry_us * 2 < RETRY_MAX_US ? s->retry_us * 2 : RETRY_MAX_US;
    sd_event_source_set_time_relative(s->retry, wait);
    sd_event_source_set_enabled(s->retry, SD_EVENT_ONESHOT);
}

bool stream_send(struct stream *s, struct span m)
{
    if (s->head != 0) {
        memmove(s->out, s->out + s->head, s->tail - s->head);
        s->tail -= s->head;
        s->head = 0;
    }
    struct wr w = wr_of(s->out + s->tail, s->cap - s->tail);
    if (!s->up || !hdlc_encode(m, &w)) {
        s->stats.refused++;
        return false;
    }
    s->tail += w.n;
    s->stats.out++;
    if (flush(s)) /* an error shows up as a readable line */
        want_write(s);
    return true;
}

bool stream_is_up(const struct stream *s) { return s->up; }
uint16_t stream_port(const struct stream *s) { return s->line.port; }

void stream_stats_get(const struct stream *s, struct stream_stats *out)
{
    *out = s->stats;
    out->bad_frames += s->decoder.bad_frames;
}

const char *stream_spec_check(const char *spec)
{
    struct line l;
    return line_parse(&l, spec, false);
}

struct stream *stream_new(sd_event *loop, const struct stream_config *cfg, const struct stream_callbacks *cb, char *err,
                          size_t errlen)
{
    struct stream *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    *s = (struct stream){.loop = loop, .cb = *cb, .fd = -1, .cap = cfg->queue, .retry_us = RETRY_MIN_US};
    s->out = malloc(cfg->queue);
    const char *bad = s->out == NULL ? "out of memory" : line_parse(&s->line, cfg->spec, cfg->make_pty);
    s->line.baud = cfg->baud;
    if (bad == NULL)
        bad = line_prepare(&s->line);
    if (bad == NULL && (sd_event_add_time_relative(loop, &s->retry, CLOCK_MONOTONIC, 0, 1000, on_retry, s) < 0 ||
                        sd_event_source_set_enabled(s->retry, SD_EVENT_OFF) < 0 ||
                        (s->line.kind == LINE_TCP_LISTEN &&
                         sd_event_add_io(loop, &s->listen_io, s->line.held_fd, EPOLLIN, on_accept, s) < 0)))
        bad = "event loop";
    if (bad != NULL) {
        snprintf(err, errlen, "%s: %s", cfg->spec, bad);
        stream_free(s);
        return NULL;
    }
    if (s->line.kind != LINE_TCP_LISTEN) {
        sd_event_source_set_time_relative(s->retry, 0);
        sd_event_source_set_enabled(s->retry, SD_EVENT_ONESHOT);
    }
    return s;
}

void stream_free(struct stream *s)
{
    if (s == NULL)
        return;
    sd_event_source_disable_unref(s->io);
    sd_event_source_disable_unref(s->listen_io);
    sd_event_source_disable_unref(s->retry);
    line_close(&s->line, s->fd);
    line_release(&s->line);
    free(s->out);
    free(s);
}
