/* A byte stream that carries framed messages (HDLC-lite): serial line, pseudo-terminal or TCP. It opens and reopens
 * itself, with back-off and jitter; the user sees messages, and the line coming up and going down. */
#pragma once
#include "cse-shim/base/bytes.h"

#include <systemd/sd-event.h>

struct stream;

struct stream_callbacks {
    void *user;
    void (*message)(void *user, struct span m); /* a frame whose check was right, at most EGP_MAX_MESSAGE bytes */
    void (*up)(void *user);
    void (*down)(void *user);                   /* may be NULL */
};

struct stream_stats {
    uint64_t in, out;    /* messages */
    uint64_t bad_frames; /* of earlier connections too */
    uint64_t refused;    /* messages not sent: the line was down or its queue full */
    uint64_t opened;     /* times up */
};

/* spec:
 *   serial:/dev/ttyACM0     8N1 at `baud`, no flow control
 *   pty:PATH                an existing terminal; with make_pty, a new pseudo-terminal to which PATH is a symbolic link
 *   tcp:HOST:PORT           connect
 *   tcp-listen:HOST:PORT    accept one peer; a new one replaces it. HOST and PORT as in tcp; port 0 picks one
 * queue: bytes that may wait to be written. NULL with the reason in err: a spec that can never work, a port in use. */
struct stream_config {
    const char *spec;
    unsigned baud;
    bool make_pty;
    size_t queue;
};
MUST_USE struct stream *stream_new(sd_event *loop, const struct stream_config *cfg, const struct stream_callbacks *cb,
                                   char *err, size_t errlen);
void stream_free(struct stream *s); /* removes the symbolic link; NULL is fine */
/* NULL when spec has a known form, else what is wrong with it. */
const char *stream_spec_check(const char *spec);

/* Frame and queue one message. False: the line is down or the queue full; nothing of it is sent. */
MUST_USE bool stream_send(struct stream *s, struct span m);
bool stream_is_up(const struct stream *s);
void stream_stats_get(const struct stream *s, struct stream_stats *out);
/* The address bound by tcp-listen: its port; else 0. */
uint16_t stream_port(const struct stream *s);
