#include "cse-shim/http/mhd_loop.h"

#include "cse-shim/base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

struct mhd_loop {
    struct MHD_Daemon *daemon;
    sd_event_source *io, *timer, *soon;
};

static int run(struct mhd_loop *m)
{
    MHD_UNSIGNED_LONG_LONG ms;
    MHD_run(m->daemon);
    bool timed = MHD_get_timeout(m->daemon, &ms) == MHD_YES;
    if (timed)
        sd_event_source_set_time_relative(m->timer, ms * 1000);
    sd_event_source_set_enabled(m->timer, timed ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
    return 0;
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *user)
{
    (void)s;
    (void)fd;
    (void)revents;
    return run(user);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *user)
{
    (void)s;
    (void)usec;
    return run(user);
}

static int on_soon(sd_event_source *s, void *user)
{
    (void)s;
    return run(user);
}

struct mhd_loop *mhd_loop_new(sd_event *loop, struct MHD_Daemon *daemon)
{
    struct mhd_loop *m = calloc(1, sizeof *m);
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (m == NULL || info == NULL) {
        free(m);
        MHD_stop_daemon(daemon);
        return NULL;
    }
    m->daemon = daemon;
    if (sd_event_add_io(loop, &m->io, info->epoll_fd, EPOLLIN, on_io, m) >= 0 &&
        sd_event_add_time_relative(loop, &m->timer, CLOCK_MONOTONIC, 0, 1000, on_timer, m) >= 0 &&
        sd_event_add_defer(loop, &m->soon, on_soon, m) >= 0)
        return m;
    mhd_loop_free(m);
    return NULL;
}

void mhd_loop_free(struct mhd_loop *m)
{
    if (m == NULL)
        return;
    sd_event_source_disable_unref(m->io);
    sd_event_source_disable_unref(m->timer);
    sd_event_source_disable_unref(m->soon);
    MHD_run(m->daemon); /* what was resumed meanwhile must be so in fact before it can be stopped */
    MHD_stop_daemon(m->daemon);
    free(m);
}

struct MHD_Daemon *mhd_loop_daemon(const struct mhd_loop *m)
{
    return m->daemon;
}

void mhd_loop_kick(struct mhd_loop *m)
{
    sd_event_source_set_enabled(m->soon, SD_EVENT_ONESHOT);
}

void mhd_log(void *user, const char *fmt, va_list ap)
{
    (void)user;
    if (!log_enabled(LOG_DEBUG))
        return;
    char text[300];
    vsnprintf(text, sizeof text, fmt, ap);
    log_event(LOG_DEBUG, "http.library", "text=\"%s\"", text);
}
