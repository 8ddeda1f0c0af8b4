/* The smallest plugin that uses everything a host offers. Loaded by test_host_*. */
#include "cse-shim/cse_plugin.h"

#include "cse-shim/base/hex.h"

#include <pthread.h>
#include <stdlib.h>

struct tiny {
    struct cse_host *host;
    const struct cse_host_ops *ops;
    struct cse_request *waiting; /* "svc/never" */
    uint64_t observation;
    int sessions_ended, observations_ended;
    char greeting[32];
};

/* A request in the hands of a timer or thread. */
struct job {
    struct tiny *t;
    struct cse_request *req;
};

static const struct conf_option options[] = {{"tiny", "greeting", CONF_STRING, "hello", 0, 0, "What svc/greeting says"},
                                             {NULL, NULL, CONF_STRING, NULL, 0, 0, NULL}};

static void *init(struct cse_host *h, const struct cse_host_ops *ops, const struct conf *conf, char *err, size_t errlen)
{
    struct tiny *t = calloc(1, sizeof *t);
    t->host = h;
    t->ops = ops;
    snprintf(t->greeting, sizeof t->greeting, "%s", conf_str(conf, "tiny", "greeting"));
    if (ops->mount(h, "prim", CSE_PRIMITIVE) && ops->mount(h, "svc", CSE_SERVICE) && ops->mount(h, "svc/raw", CSE_RAW))
        return t;
    snprintf(err, errlen, "cannot mount");
    free(t);
    return NULL;
}

static void answer(struct tiny *t, struct cse_request *req, enum st st, cJSON *pc)
{
    struct cse_response rsp = {.status = st, .pc = pc};
    t->ops->respond(t->host, req, &rsp);
}

/* Everything that arrived, for the test to compare. */
static void echo(struct tiny *t, struct cse_request *req)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "path", req->path);
    cJSON_AddNumberToObject(o, "op", req->op);
    cJSON_AddNumberToObject(o, "ty", req->ty);
    cJSON_AddNumberToObject(o, "binding", req->binding);
    cJSON_AddNumberToObject(o, "cred", req->peer.cred);
    cJSON_AddNumberToObject(o, "odd", (double)(req->peer.session & 1));
    cJSON_AddStringToObject(o, "identity", req->peer.identity);
    cJSON_AddStringToObject(o, "from", req->from == NULL ? "-" : req->from);
    cJSON_AddStringToObject(o, "authorization", req->authorization == NULL ? "-" : req->authorization);
    cJSON_AddNumberToObject(o, "length", (double)req->body.n);
    for (size_t i = 0; i < req->nparams; i++)
        cJSON_AddStringToObject(o, req->params[i].name, req->params[i].value);
    if (req->pc != NULL)
        cJSON_AddItemToObject(o, "pc", cJSON_Duplicate(req->pc, true));
    struct cse_response rsp = {.status = req->op == CSE_CREATE ? ST_CREATED : ST_OK, .pc = o, .sensitive = true};
    if (req->op == CSE_CREATE)
        rsp.location = "prim/new";
    t->ops->respond(t->host, req, &rsp);
}

static void finish(void *user)
{
    struct job j = *(struct job *)user;
    free(user);
    answer(j.t, j.req, ST_OK, cJSON_CreateObject());
}

static void *from_thread(void *user)
{
    struct job *j = user;
    j->t->ops->count(j->t->host, "tiny_jobs_total", 1);
    j->t->ops->post(j->t->host, finish, j);
    return NULL;
}

static void later(struct tiny *t, struct cse_request *req)
{
    struct job *j = malloc(sizeof *j);
    *j = (struct job){t, req};
    pthread_t thread;
    if (strcmp(req->path, "svc/timer") == 0)
        t->ops->timer(t->host, 300, finish, j);
    else if (pthread_create(&thread, NULL, from_thread, j) == 0)
        pthread_detach(thread);
}

static void export(struct tiny *t, struct cse_request *req)
{
    uint8_t key[16];
    char text[33] = "none";
    if (t->ops->export_key(t->host, req->peer.session, "EXPORTER-tiny", key, sizeof key))
        hex_encode(key, sizeof key, text);
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "key", text);
    answer(t, req, ST_OK, o);
}

static void sent(void *user, enum st st, struct span body)
{
    struct job j = *(struct job *)user;
    free(user);
    struct cse_response rsp = {.status = st, .body = body, .content_format = 42};
    j.t->ops->respond(j.t->host, j.req, &rsp);
}

/* Ask the asker: POST the same body back on its session, and answer with what it says. */
static void bounce(struct tiny *t, struct cse_request *req)
{
    struct job *j = malloc(sizeof *j);
    *j = (struct job){t, req};
    if (t->ops->send(t->host, req->peer.session, "back", 42, req->body, sent, j))
        return;
    free(j);
    answer(t, req, ST_UNREACHABLE, NULL);
}

static void watch(struct tiny *t, struct cse_request *req)
{
    t->observation = t->ops->observe(t->host, req);
    struct cse_response rsp = {.status = ST_OK, .body = span_str("first"), .content_format = 42};
    t->ops->respond(t->host, req, &rsp);
    for (int i = 0; i < 3; i++) {
        char text[16];
        snprintf(text, sizeof text, "frame %d", i);
        struct cse_response n = {.status = ST_OK, .body = span_str(text), .content_format = 42};
        t->ops->notify(t->host, t->observation, &n, true);
    }
}

/* Three trees. */
static void trees(struct tiny *t, struct cse_request *req)
{
    uint64_t observation = t->ops->observe(t->host, req);
    answer(t, req, ST_OK, cJSON_CreateObject());
    for (int i = 0; i < 2; i++) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddNumberToObject(o, "n", i);
        struct cse_response n = {.status = ST_OK, .pc = o, .content_format = CSE_NO_FORMAT};
        t->ops->notify(t->host, observation, &n, true);
    }
}

/* More events at once than any buffer takes. */
static void flood(struct tiny *t, struct cse_request *req)
{
    static const uint8_t zeros[1000];
    uint64_t observation = t->ops->observe(t->host, req);
    struct cse_response rsp = {.status = ST_OK, .body = span_str("first"), .content_format = 42};
    t->ops->respond(t->host, req, &rsp);
    rsp.body = span_of(zeros, sizeof zeros);
    for (int i = 0; i < 2000; i++)
        t->ops->notify(t->host, observation, &rsp, true);
}

static void tell(struct tiny *t, struct cse_request *req)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "greeting", t->greeting);
    cJSON_AddNumberToObject(o, "sessionsEnded", t->sessions_ended);
    cJSON_AddNumberToObject(o, "observationsEnded", t->observations_ended);
    answer(t, req, ST_OK, o);
}

static void fail(struct tiny *t, struct cse_request *req)
{
    struct cse_response rsp = {.status = ST_CONFLICT, .code = "taken", .field = "name", .detail = "it is \"taken\""};
    t->ops->respond(t->host, req, &rsp);
}

static void never(struct tiny *t, struct cse_request *req)
{
    t->waiting = req;
}

static void handle(void *self, struct cse_request *req)
{
    static const struct {
        const char *path;
        void (*fn)(struct tiny *t, struct cse_request *req);
    } routes[] = {{"svc/timer", later},     {"svc/thread", later}, {"svc/key", export},  {"svc/raw/bounce", bounce},
                  {"svc/raw/watch", watch}, {"svc/trees", trees}, {"svc/raw/flood", flood}, {"svc/tell", tell},    {"svc/never", never}, {"svc/fail", fail},
                  {"prim/fail", fail}};
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++)
        if (strcmp(routes[i].path, req->path) == 0) {
            routes[i].fn(self, req);
            return;
        }
    echo(self, req);
}

static size_t psk(void *self, const char *identity, const char *server_name, uint8_t *key, size_t cap)
{
    (void)self, (void)server_name;
    if (strcmp(identity, "tiny@test") != 0 || cap < 16)
        return 0;
    memset(key, 0x5a, 16);
    return 16;
}

static void observe_end(void *self, uint64_t observation)
{
    struct tiny *t = self;
    t->observations_ended += observation == t->observation;
}

static void session_end(void *self, uint64_t session)
{
    (void)session;
    ((struct tiny *)self)->sessions_ended++;
}

static bool reload(void *self, const struct conf *conf, char *err, size_t errlen)
{
    (void)err;
    (void)errlen;
    struct tiny *t = self;
    snprintf(t->greeting, sizeof t->greeting, "%s", conf_str(conf, "tiny", "greeting"));
    return true;
}

extern const struct cse_plugin cse_plugin;
__attribute__((visibility("default"))) const struct cse_plugin cse_plugin = {.abi = CSE_PLUGIN_ABI,
                                                                             .name = "tiny",
                                                                             .version = "1",
                                                                             .options = options,
                                                                             .init = init,
                                                                             .handle = handle,
                                                                             .psk = psk,
                                                                             .observe_end = observe_end,
                                                                             .session_end = session_end,
                                                                             .reload = reload,
                                                                             .free = free};
