/* Server-sent events (the event-stream format of HTML): an observation over HTTP. Each notification is one event; a
 * comment is sent when there was nothing else for a while; a client that reads too slowly is cut off. */
#pragma once
#include "cse-shim/host/request.h"
#include "cse-shim/http/mhd_loop.h"

struct event_room; /* all streams of one HTTP binding */
struct events;     /* one stream */

/* `heartbeat`: seconds. NULL: out of memory. */
MUST_USE struct event_room *event_room_new(struct cse_host *h, sd_event *loop, unsigned heartbeat);
void event_room_start(struct event_room *room, struct mhd_loop *mhd);
/* End every stream; the HTTP library must run once more before it is stopped. */
void event_room_end(struct event_room *room);
void event_room_free(struct event_room *room); /* when no stream is left; NULL is fine */

/* A stream for an exchange on `conn` of the TLS connection `serial`; NULL: no memory, or too many. */
MUST_USE struct events *events_open(struct event_room *room, struct MHD_Connection *conn, uint64_t serial);
uint64_t events_id(const struct events *e);
/* Its answer, with `first` as the first event if that has a body. NULL: out of memory. */
MUST_USE struct MHD_Response *events_start(struct events *e, const struct answer *first);
void events_close(struct events *e); /* the exchange is over: tells the host and frees */

void events_notify(struct event_room *room, uint64_t id, const struct cse_response *n);
void events_cancel(struct event_room *room, uint64_t id);
void events_peer_gone(struct event_room *room, uint64_t serial);
