/* Health and metrics over plain HTTP on loopback: /healthz, /readyz, /metrics. */
#pragma once
#include "cse-shim/host/host.h"

struct status_server;
/* Listen on every address of the list; one that is not loopback is refused unless `anywhere`. An empty list gives a
 * server that listens nowhere. On failure NULL and one line in err. */
MUST_USE struct status_server *status_server_new(struct cse_host *h, sd_event *loop, const char *addresses,
                                                 bool anywhere, char *err, size_t errlen);
void status_server_free(struct status_server *s); /* NULL is fine */
