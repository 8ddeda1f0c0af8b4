#include "mef-plugin/mef/answers.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <utlist.h>

struct pending_answer {
    struct answers *owner;
    struct cse_request *req;
    struct cse_response rsp;
    char *location, *detail;
    struct pending_answer *prev, *next;
};

static void wipe(cJSON *j)
{
    for (; j != NULL; j = j->next) {
        if (j->valuestring != NULL)
            OPENSSL_cleanse(j->valuestring, strlen(j->valuestring));
        wipe(j->child); /* as deep as our own answers: three levels */
    }
}

void json_wipe(cJSON *j)
{
    wipe(j);
    cJSON_Delete(j);
}

static void pending_free(struct pending_answer *p)
{
    free(p->location);
    free(p->detail);
    free(p);
}

static void durable(void *user, enum st st)
{
    struct pending_answer *p = user;
    struct answers *a = p->owner;
    DL_DELETE(a->pending, p);
    if (st != ST_OK) {
        json_wipe(p->rsp.pc);
        p->rsp = (struct cse_response){.status = ST_INTERNAL};
    }
    a->ops->respond(a->host, p->req, &p->rsp);
    pending_free(p);
}

static bool copy(const char *text, char **out)
{
    *out = text != NULL ? strdup(text) : NULL;
    return text == NULL || *out != NULL;
}

void answers_give(struct answers *a, struct cse_request *req, const struct cse_response *rsp, uint64_t seq)
{
    struct pending_answer *p = calloc(1, sizeof *p);
    if (p == NULL || !copy(rsp->location, &p->location) || !copy(rsp->detail, &p->detail)) {
        if (p != NULL)
            pending_free(p);
        json_wipe(rsp->pc);
        a->ops->respond(a->host, req, &(struct cse_response){.status = ST_UNAVAILABLE});
        return;
    }
    p->owner = a;
    p->req = req;
    p->rsp = *rsp;
    p->rsp.location = p->location;
    p->rsp.detail = p->detail;
    DL_APPEND(a->pending, p);
    store_after(a->store, seq, durable, p);
}

void answers_free(struct answers *a)
{
    struct pending_answer *p = NULL, *next = NULL;
    DL_FOREACH_SAFE(a->pending, p, next)
    {
        json_wipe(p->rsp.pc);
        pending_free(p);
    }
    a->pending = NULL;
}
