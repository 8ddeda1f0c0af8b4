#include "tests/host/tiny_host.h"

#include "config/names.h"

#include <dlfcn.h>
#include <openssl/rand.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct posted { void (*fn)(void *user); void *user; };

static bool op_mount(struct cse_host *h, const char *prefix, enum cse_mount how)
{
    h->mounts[h->nmounts].how = how;
    return snprintf(h->mounts[h->nmounts++].prefix, sizeof h->mounts[0].prefix, "%s", prefix) > 0;
}
static void op_respond(struct cse_host *h, struct cse_request *req, struct cse_response *rsp)
{
    h->answered(h, req, rsp);
}
static uint64_t op_observe(struct cse_host *h, struct cse_request *r) { (void)h; (void)r; return 0; }
static void op_notify(struct cse_host *h, uint64_t o, const struct cse_response *r, bool q) { (void)h; (void)o; (void)r; (void)q; }
static void op_observe_cancel(struct cse_host *h, uint64_t o) { (void)h; (void)o; }
static bool op_send(struct cse_host *h, uint64_t s, const char *p, unsigned f, struct span b,
                    void (*done)(void *user, enum st st, struct span body), void *u)
{
    (void)h, (void)s, (void)p, (void)f, (void)b, (void)done, (void)u;
    return false; /* no peers */
}
static bool op_export_key(struct cse_host *h, uint64_t session, const char *label, uint8_t *out, size_t n)
{
    if (session != 1 || n > sizeof h->exported || strcmp(label, MEF_EXPORTER_LABEL) != 0)
        return false;
    memcpy(out, h->exported, n);
    return true;
}
/* Timers never fire here: the story is over before the first one would. */
static uint64_t op_timer(struct cse_host *h, uint64_t ms, void (*fn)(void *user), void *u) { (void)h, (void)ms, (void)fn, (void)u; return 1; }
static void op_timer_cancel(struct cse_host *h, uint64_t id) { (void)h; (void)id; }
static void op_post(struct cse_host *h, void (*fn)(void *user), void *user)
{
    if (write(h->pipe[1], &(struct posted){fn, user}, sizeof(struct posted)) < 0)
        abort();
}
static int64_t op_time(struct cse_host *h) { (void)h; return (int64_t)time(NULL) * 1000; }
static uint64_t op_now(struct cse_host *h) { return (uint64_t)op_time(h); } /* nothing runs long enough to tell */
static bool op_random(struct cse_host *h, void *out, size_t n) { (void)h; return RAND_priv_bytes(out, (int)n) == 1; }
static void op_count(struct cse_host *h, const char *name, uint64_t add) { (void)h; (void)name; (void)add; }
static void op_gauge(struct cse_host *h, const char *name, int64_t value) { (void)h; (void)name; (void)value; }
static void op_fatal(struct cse_host *h, const char *why) { tiny_fatal(h, why); }

static const struct cse_host_ops ops = {
    CSE_PLUGIN_ABI, op_mount, op_respond, op_observe, op_notify, op_observe_cancel, op_send, op_export_key, op_timer,
    op_timer_cancel, op_post, op_now, op_time, op_random, op_count, op_gauge, op_fatal};

void tiny_fatal(struct cse_host *h, const char *why)
{
    (void)h;
    fprintf(stderr, "fatal: %s\n", why);
    _exit(EXIT_FAILURE);
}

bool tiny_turn(struct cse_host *h, int ms)
{
    struct pollfd fd = {h->pipe[0], POLLIN, 0};
    struct posted call;
    if (poll(&fd, 1, ms) != 1 || read(h->pipe[0], &call, sizeof call) != sizeof call)
        return false;
    call.fn(call.user);
    return true;
}

struct tiny_plugin tiny_load(struct cse_host *h, const char *path, const char *conf_path)
{
    char err[300] = "";
    struct tiny_plugin t = {.so = dlopen(path, RTLD_NOW | RTLD_LOCAL)};
    t.p = t.so == NULL ? NULL : dlsym(t.so, CSE_PLUGIN_SYMBOL);
    if (t.p == NULL || t.p->abi != CSE_PLUGIN_ABI || pipe(h->pipe) < 0 || RAND_priv_bytes(h->exported, sizeof h->exported) != 1)
        tiny_fatal(h, "the plugin cannot be loaded");
    const struct conf_option *const tables[] = {t.p->options};
    t.conf = conf_load(conf_path, tables, 1, err, sizeof err);
    t.self = t.conf == NULL ? NULL : t.p->init(h, &ops, t.conf, err, sizeof err);
    if (t.self == NULL)
        tiny_fatal(h, err);
    return t;
}

void tiny_unload(struct cse_host *h, struct tiny_plugin *t)
{
    t->p->free(t->self);
    while (tiny_turn(h, 0)) /* what was posted before is still owed */
        ;
    conf_free(t->conf);
    dlclose(t->so);
}

void tiny_handle(struct cse_host *h, const struct tiny_plugin *t, struct cse_request *req, const cJSON *pc)
{
    req->pc = pc;
    req->accept = CSE_NO_FORMAT;
    req->content_format = pc == NULL ? CSE_NO_FORMAT : 50;
    req->peer.address = "second host";
    for (size_t i = 0; i < h->nmounts; i++) /* none of the paths asked for has two mounts */
        if (strncmp(req->path, h->mounts[i].prefix, strcspn(req->path, "/")) == 0 && strchr(h->mounts[i].prefix, '/') == NULL)
            req->mount = h->mounts[i].how;
    t->p->handle(t->self, req);
}
