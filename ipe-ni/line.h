/* The four kinds of line under a stream: how each is named, opened and closed. Everything is non-blocking. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct sp_port;

enum line_kind { LINE_SERIAL, LINE_PTY, LINE_PTY_MASTER, LINE_TCP, LINE_TCP_LISTEN };

struct line {
    char spec[256];          /* as given, for messages */
    enum line_kind kind;
    char host[200], port_text[8]; /* TCP */
    const char *path;        /* serial, pty: into spec */
    unsigned baud;
    int held_fd;             /* pty master or listening socket, kept over all connections; else -1 */
    uint16_t port;           /* bound, LINE_TCP_LISTEN */
    bool linked;             /* our symbolic link stands at path */
    struct sp_port *serial;
};

/* Each returns NULL on success, else what is wrong. */
const char *line_parse(struct line *l, const char *spec, bool make_pty);
const char *line_prepare(struct line *l); /* make the pseudo-terminal, bind the port */

/* Open once: a descriptor, or -1. *connected false: wait until it is writable, then ask line_connected(). */
int line_open(struct line *l, bool *connected);
bool line_connected(int fd);
int line_accept(int listen_fd);
void line_close(struct line *l, int fd);
void line_release(struct line *l); /* what line_prepare made */
