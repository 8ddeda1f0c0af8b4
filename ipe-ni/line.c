#include "ipe-ni/line.h"

#include <errno.h>
#include <fcntl.h>
#include <libserialport.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

static const struct {
    const char *prefix;
    enum line_kind kind;
} kinds[] = {{"serial:", LINE_SERIAL}, {"pty:", LINE_PTY}, {"tcp:", LINE_TCP}, {"tcp-listen:", LINE_TCP_LISTEN}};

/* HOST:PORT; an IPv6 address stands in brackets. */
static const char *parse_host(struct line *l, const char *text)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon == text)
        return "wants HOST:PORT";
    size_t n = (size_t)(colon - text);
    if (text[0] == '[' && colon[-1] == ']') {
        text++;
        n -= 2;
    }
    char *end;
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (end == colon + 1 || *end != '\0' || port > 65535 || (port == 0 && l->kind == LINE_TCP) || n >= sizeof l->host)
        return "wants HOST:PORT";
    memcpy(l->host, text, n);
    snprintf(l->port_text, sizeof l->port_text, "%lu", port);
    return NULL;
}

const char *line_parse(struct line *l, const char *spec, bool make_pty)
{
    *l = (struct line){.held_fd = -1, .baud = 115200};
    if (snprintf(l->spec, sizeof l->spec, "%s", spec) >= (int)sizeof l->spec)
        return "too long";
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t n = strlen(kinds[i].prefix);
        if (strncmp(spec, kinds[i].prefix, n) != 0)
            continue;
        l->kind = kinds[i].kind == LINE_PTY && make_pty ? LINE_PTY_MASTER : kinds[i].kind;
        l->path = l->spec + n;
        if (*l->path == '\0')
            return "names nothing";
        return l->kind == LINE_TCP || l->kind == LINE_TCP_LISTEN ? parse_host(l, spec + n) : NULL;
    }
    return "wants serial:, pty:, tcp: or tcp-listen:";
}

static bool make_raw(int fd)
{
    struct termios t;
    if (tcgetattr(fd, &t) != 0)
        return false;
    cfmakeraw(&t);
    return tcsetattr(fd, TCSANOW, &t) == 0;
}

/* The slave is opened once, to make it raw, and closed, so that the master reports "hung up" until a peer opens
 * it. */
static const char *prepare_pty(struct line *l)
{
    char name[128];
    struct stat st;
    l->held_fd = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (l->held_fd < 0 || grantpt(l->held_fd) != 0 || unlockpt(l->held_fd) != 0 ||
        ptsname_r(l->held_fd, name, sizeof name) != 0)
        return "cannot make a pseudo-terminal";
    int slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    /* The peer may run as another user of our group. */
    bool raw = slave >= 0 && make_raw(slave) && fchown(slave, (uid_t)-1, getegid()) == 0 && fchmod(slave, 0660) == 0;
    if (slave >= 0)
        close(slave);
    if (lstat(l->path, &st) == 0 && (!S_ISLNK(st.st_mode) || unlink(l->path) != 0))
        return "the path exists and is no symbolic link";
    if (!raw || symlink(name, l->path) != 0)
        return "cannot link the pseudo-terminal to the path";
    l->linked = true;
    return NULL;
}

static int resolve(const struct line *l, int flags, struct addrinfo **out)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
    return getaddrinfo(l->host, l->port_text, &hints, out);
}

static const char *prepare_listen(struct line *l)
{
    struct addrinfo *ai;
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } bound = {.in6 = {0}};
    socklen_t len = sizeof bound;
    int on = 1;
    if (resolve(l, AI_PASSIVE, &ai) != 0)
        return "cannot resolve the host";
    l->held_fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool ok = l->held_fd >= 0 && setsockopt(l->held_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
              bind(l->held_fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(l->held_fd, 4) == 0 &&
              getsockname(l->held_fd, &bound.sa, &len) == 0;
    freeaddrinfo(ai);
    if (!ok)
        return strerror(errno);
    l->port = ntohs(bound.sa.sa_family == AF_INET6 ? bound.in6.sin6_port : bound.in.sin_port);
    return NULL;
}

const char *line_prepare(struct line *l)
{
    return l->kind == LINE_PTY_MASTER ? prepare_pty(l) : l->kind == LINE_TCP_LISTEN ? prepare_listen(l) : NULL;
}

static int open_serial(struct line *l)
{
    int fd = -1;
    char *device = realpath(l->path, NULL); /* libserialport knows no links such as /dev/serial/by-id/.. */
    bool known = device != NULL && sp_get_port_by_name(device, &l->serial) == SP_OK;
    free(device);
    if (!known)
        return -1;
    if (sp_open(l->serial, SP_MODE_READ_WRITE) == SP_OK && sp_set_baudrate(l->serial, (int)l->baud) == SP_OK &&
        sp_set_bits(l->serial, 8) == SP_OK && sp_set_parity(l->serial, SP_PARITY_NONE) == SP_OK &&
        sp_set_stopbits(l->serial, 1) == SP_OK && sp_set_flowcontrol(l->serial, SP_FLOWCONTROL_NONE) == SP_OK &&
        sp_get_port_handle(l->serial, &fd) == SP_OK)
        return fd;
    sp_close(l->serial);
    sp_free_port(l->serial);
    l->serial = NULL;
    return -1;
}

static int open_terminal(const struct line *l)
{
    int fd = open(l->path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && !make_raw(fd)) {
        close(fd);
        return -1;
    }
    return fd;
}

static int open_master(const struct line *l)
{
    struct pollfd p = {.fd = l->held_fd, .events = POLLIN};
    return poll(&p, 1, 0) >= 0 && !(p.revents & POLLHUP) ? l->held_fd : -1;
}

static void no_delay(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

static int open_tcp(const struct line *l, bool *connected)
{
    struct addrinfo *ai;
    if (resolve(l, 0, &ai) != 0)
        return -1;
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool ok = fd >= 0 && (connect(fd, ai->ai_addr, ai->ai_addrlen) == 0 || errno == EINPROGRESS);
    freeaddrinfo(ai);
    if (!ok) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    no_delay(fd);
    *connected = false;
    return fd;
}

int line_open(struct line *l, bool *connected)
{
    *connected = true;
    switch (l->kind) {
    case LINE_SERIAL:
        return open_serial(l);
    case LINE_PTY:
        return open_terminal(l);
    case LINE_PTY_MASTER:
        return open_master(l);
    case LINE_TCP:
        return open_tcp(l, connected);
    default:
        return -1;
    }
}

bool line_connected(int fd)
{
    int error = 0;
    socklen_t len = sizeof error;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == 0;
}

int line_accept(int listen_fd)
{
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0)
        no_delay(fd);
    return fd;
}

void line_close(struct line *l, int fd)
{
    if (l->serial != NULL) {
        sp_close(l->serial);
        sp_free_port(l->serial);
        l->serial = NULL;
    } else if (fd >= 0 && fd != l->held_fd) {
        close(fd);
    } else if (fd >= 0) {
        tcflush(fd, TCIOFLUSH); /* a later peer must not read what was meant for this one */
    }
}

void line_release(struct line *l)
{
    if (l->linked)
        unlink(l->path);
    if (l->held_fd >= 0)
        close(l->held_fd);
    l->held_fd = -1;
    l->linked = false;
}
