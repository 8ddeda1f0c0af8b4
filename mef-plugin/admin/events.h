/* GET /v1/events: the audit trail of a stakeholder as it grows, to operators that observe it. */
#pragma once
#include "mef-plugin/admin/admin.h"

struct event_feed;
MUST_USE struct event_feed *event_feed_open(const struct admin_deps *d); /* NULL: out of memory */
void event_feed_close(struct event_feed *f);                             /* NULL is fine */

/* Accept the observation that req asks for: what is newer than the event named by Last-Event-ID, else than now. */
void event_feed_watch(struct event_feed *f, struct cse_request *req, const char *admin, struct mef_result *r);
void event_feed_end(struct event_feed *f, uint64_t observation); /* an unknown one is fine */
/* A row of the trail that tells of a device: with the sentence for its outcome. */
void event_explain(cJSON *row);
/* The tokens changed: everyone shows theirs again. */
void event_feed_drop(struct event_feed *f);
