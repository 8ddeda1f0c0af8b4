/* Answers that wait until what they tell is durable. */
#pragma once
#include "cse-shim/cse_plugin.h"
#include "mef-plugin/store/store.h"

struct pending_answer;
struct answers {
    struct cse_host *host;
    const struct cse_host_ops *ops;
    struct store *store;
    struct pending_answer *pending;
};

/* Give the answer (rsp's tree is taken over, its texts are static or part of the request, `location` is copied) when
 * every transaction up to `seq` is durable. */
void answers_give(struct answers *a, struct cse_request *req, const struct cse_response *rsp, uint64_t seq);
/* Drop those that still wait; their requests are not answered. */
void answers_free(struct answers *a);
/* Free a tree that may hold key text, wiping it. */
void json_wipe(cJSON *j);
