#include "cse-shim/http/http_events.h"

#include "cse-shim/base/map64.h"
#include "cse-shim/host/host.h"
#include "cse-shim/host/json.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_STREAMS 256
#define BUFFER 65536 /* of events that a client has not fetched */
#define BLOCK 4096
#define HEAD 64 /* "id: N", "data: " and line ends */

struct events {
    struct event_room *room;
    struct MHD_Connection *conn;
    struct events *next, **link;
    uint64_t id, serial;
    uint64_t last;  /* id of the last event */
    bool waiting;   /* the library does nothing with it until there are bytes */
    bool ended;     /* nothing comes behind what is in the buffer */
    bool cancelled; /* the plugin knows */
    bool quiet;     /* nothing was put since the last heartbeat */
    size_t from, to;
    uint8_t bytes[BUFFER];
};

struct event_room {
    struct cse_host *host;
    struct mhd_loop *mhd;
    struct map64 *by_id;
    struct events *all;
    size_t n;
    uint64_t last_id;
    unsigned heartbeat;
    sd_event_source *timer;
};

/* --- the buffer ------------------------------------------------------------------------------------------------------ */

static void wake(struct events *e)
{
    if (!e->waiting)
        return;
    e->waiting = false;
    MHD_resume_connection(e->conn);
    mhd_loop_kick(e->room->mhd);
}

/* Append; a client that left too much unread is told nothing more. */
static void put(struct events *e, struct span bytes)
{
    if (e->ended)
        return;
    if (e->from > 0) {
        memmove(e->bytes, e->bytes + e->from, e->to - e->from);
        e->to -= e->from;
        e->from = 0;
    }
    if (sizeof e->bytes - e->to < bytes.n) {
        e->ended = true;
        e->to = 0; /* no half events */
        metrics_count(host_metrics(e->room->host), "host_events_slow_total", 1);
    } else {
        memcpy(e->bytes + e->to, bytes.p, bytes.n);
        e->to += bytes.n;
    }
    wake(e);
}

static void put_event(struct events *e, const char *name, uint64_t id, struct span data, bool text)
{
    size_t cap = HEAD + data.n * 4 / 3 + 4;
    char *out = malloc(cap);
    if (out == NULL)
        return;
    e->last = id != 0 ? id : e->last + 1;
    int n = snprintf(out, cap, "id: %" PRIu64 "\n%sdata: ", e->last, name);
    struct wr w = wr_of(out + n, cap - (size_t)n);
    if (text)
        wr_spanb(&w, data); /* our JSON is one line */
    else
        w.n = (size_t)EVP_EncodeBlock((unsigned char *)out + n, data.p, (int)data.n);
    wr_bytes(&w, "\n\n", 2);
    if (wr_ok(&w))
        put(e, span_of(out, (size_t)n + w.n));
    OPENSSL_cleanse(out, cap);
    free(out);
}

/* The library asks for bytes. */
static ssize_t on_read(void *user, uint64_t pos, char *out, size_t max)
{
    (void)pos;
    struct events *e = user;
    size_t n = e->to - e->from < max ? e->to - e->from : max;
    if (n == 0 && e->ended)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (n == 0) {
        e->waiting = true;
        MHD_suspend_connection(e->conn);
        return 0;
    }
    memcpy(out, e->bytes + e->from, n);
    OPENSSL_cleanse(e->bytes + e->from, n);
    e->from += n;
    return (ssize_t)n;
}

/* --- one stream ------------------------------------------------------------------------------------------------------ */

struct events *events_open(struct event_room *room, struct MHD_Connection *conn, uint64_t serial)
{
    struct events *e = room->n < MAX_STREAMS ? calloc(1, sizeof *e) : NULL;
    if (e == NULL || !map64_put(room->by_id, room->last_id + 1, e)) {
        free(e);
        return NULL;
    }
    e->room = room;
    e->conn = conn;
    e->serial = serial;
    e->id = ++room->last_id;
    e->next = room->all;
    e->link = &room->all;
    if (e->next != NULL)
        e->next->link = &e->next;
    room->all = e;
    room->n++;
    metrics_gauge(host_metrics(room->host), "host_event_streams", (int64_t)room->n);
    return e;
}

uint64_t events_id(const struct events *e)
{
    return e->id;
}

struct MHD_Response *events_start(struct events *e, const struct answer *first)
{
    struct MHD_Response *r = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, on_read, e, NULL);
    if (r != NULL && first->body.n != 0)
        put_event(e, "", 0, first->body, format_is_json(first->content_format));
    else if (r != NULL)
        put(e, span_str(": open\n\n")); /* the head leaves with the first bytes */
    return r;
}

void events_close(struct events *e)
{
    struct event_room *room = e->room;
    *e->link = e->next;
    if (e->next != NULL)
        e->next->link = e->link;
    map64_del(room->by_id, e->id);
    room->n--;
    metrics_gauge(host_metrics(room->host), "host_event_streams", (int64_t)room->n);
    if (!e->cancelled)
        host_observe_end(room->host, observation_of_http(e->id));
    OPENSSL_cleanse(e, sizeof *e);
    free(e);
}

void events_notify(struct event_room *room, uint64_t id, const struct cse_response *n)
{
    struct events *e = map64_get(room->by_id, id);
    struct rendered body;
    if (e == NULL || !response_render(CSE_SERVICE, FORMAT_JSON, n, &body))
        return;
    bool failed = st_map(n->status)->http >= 400; /* which ends an observation */
    put_event(e, failed ? "event: error\n" : "", n->event_id, body.body, format_is_json(body.content_format));
    e->quiet = false;
    e->ended |= failed;
    json_text_free(body.text);
}

void events_cancel(struct event_room *room, uint64_t id)
{
    struct events *e = map64_get(room->by_id, id);
    if (e == NULL)
        return;
    e->cancelled = e->ended = true;
    wake(e);
}

/* --- all of them ----------------------------------------------------------------------------------------------------- */

void events_peer_gone(struct event_room *room, uint64_t serial)
{
    for (struct events *e = room->all; e != NULL; e = e->next)
        if (e->serial == serial) {
            e->ended = true;
            wake(e);
        }
}

static int on_heartbeat(sd_event_source *s, uint64_t usec, void *user)
{
    (void)usec;
    struct event_room *room = user;
    for (struct events *e = room->all; e != NULL; e = e->next) {
        if (e->quiet)
            put(e, span_str(":\n\n"));
        e->quiet = true;
    }
    sd_event_source_set_time_relative(s, (uint64_t)room->heartbeat * 1000000);
    return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

struct event_room *event_room_new(struct cse_host *h, sd_event *loop, unsigned heartbeat)
{
    struct event_room *room = calloc(1, sizeof *room);
    if (room == NULL)
        return NULL;
    room->host = h;
    room->heartbeat = heartbeat;
    room->by_id = map64_new();
    uint64_t first = (uint64_t)heartbeat * 1000000;
    if (room->by_id != NULL &&
        sd_event_add_time_relative(loop, &room->timer, CLOCK_MONOTONIC, first, 100000, on_heartbeat, room) >= 0)
        return room;
    event_room_free(room);
    return NULL;
}

void event_room_start(struct event_room *room, struct mhd_loop *mhd)
{
    room->mhd = mhd;
}

void event_room_end(struct event_room *room)
{
    for (struct events *e = room->all; e != NULL; e = e->next) {
        e->ended = true;
        wake(e);
    }
}

void event_room_free(struct event_room *room)
{
    if (room == NULL)
        return;
    sd_event_source_disable_unref(room->timer);
    map64_free(room->by_id);
    free(room);
}
