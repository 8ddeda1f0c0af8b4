/* What a client may send before the HTTP library sees it: one strict reading of RFC 9112, so that nobody in front of or
 * behind us can see other messages in the same bytes. Watches a connection's bytes as they pass: HTTP/1.1 or a later
 * 1.x, CRLF line ends, no folded headers, no space before a colon, targets of our own, one way of framing a body.
 *
 * Pure: no I/O; one of them for each connection. */
#pragma once
#include "cse-shim/base/bytes.h"

struct http_gate;
struct http_gate_limits {
    size_t max_header; /* request line and headers, bytes */
};
MUST_USE struct http_gate *http_gate_new(const struct http_gate_limits *l); /* NULL: out of memory */
void http_gate_free(struct http_gate *g);                                    /* NULL is fine */

/* Look at the next bytes. Returns how many may go on; fewer than given: *refusal is what to answer (static) before the
 * connection is closed, and the gate lets nothing more pass. */
MUST_USE size_t http_gate_pass(struct http_gate *g, struct span in, struct span *refusal);
