/* A second, tiny host: no network, no TLS; it loads the same mef-plugin.so, and shows by primitives that a source AE
 * deposits a key and a target AE retrieves it. usage: host PLUGIN FOLDER (FOLDER exists and is empty). */
#include "cse-shim/base/hex.h"
#include "cse-shim/cse_plugin.h"
#include "config/names.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define SOURCE "//example.org/in-cse/Csource"
#define TARGET "//example.org/in-cse/Ctarget"
#define COMMON "\"et\":\"20991231T235959\",\"adfq\":\"mef.example.org\""
#define TOKEN "an-operator-token-of-the-second-host-0001"

struct posted { void (*fn)(void *user); void *user; };
struct cse_host {
    int pipe[2];          /* posted calls travel whole: fewer bytes than PIPE_BUF are written at once */
    uint8_t exported[48]; /* what "TLS" of the source's session exports */
    struct { char prefix[32]; enum cse_mount how; } mounts[8];
    size_t nmounts;
    bool answered;
    enum st status;
    cJSON *pc;
};

static bool op_mount(struct cse_host *h, const char *prefix, enum cse_mount how)
{
    h->mounts[h->nmounts].how = how;
    return snprintf(h->mounts[h->nmounts++].prefix, sizeof h->mounts[0].prefix, "%s", prefix) > 0;
}
static void op_respond(struct cse_host *h, struct cse_request *req, struct cse_response *rsp)
{
    (void)req;
    h->answered = true;
    h->status = rsp->status;
    h->pc = rsp->pc;
    if (rsp->detail != NULL)
        printf("  %s\n", rsp->detail);
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
static void op_fatal(struct cse_host *h, const char *why)
{
    (void)h;
    fprintf(stderr, "fatal: %s\n", why);
    _exit(EXIT_FAILURE);
}

static const struct cse_host_ops ops = {
    CSE_PLUGIN_ABI, op_mount, op_respond, op_observe, op_notify, op_observe_cancel, op_send, op_export_key, op_timer,
    op_timer_cancel, op_post, op_now, op_time, op_random, op_count, op_gauge, op_fatal};

/* Run one call that a plugin's thread posted; false: none came in that time. */
static bool turn(struct cse_host *h, int ms)
{
    struct pollfd fd = {h->pipe[0], POLLIN, 0};
    struct posted call;
    if (poll(&fd, 1, ms) != 1 || read(h->pipe[0], &call, sizeof call) != sizeof call)
        return false;
    call.fn(call.user);
    return true;
}

/* Hand a request over, and run what the plugin's threads post until the answer is there. Body NULL: none. */
static cJSON *ask(struct cse_host *h, const struct cse_plugin *p, void *self, struct cse_request *req, const char *body,
                  enum st want)
{
    cJSON *pc = body == NULL ? NULL : cJSON_Parse(body);
    req->pc = pc;
    req->body = body == NULL ? span_of(NULL, 0) : span_str(body);
    req->accept = CSE_NO_FORMAT;
    req->content_format = body == NULL ? CSE_NO_FORMAT : 50;
    req->peer.address = "second host";
    for (size_t i = 0; i < h->nmounts; i++) /* none of the paths asked for has two mounts */
        if (strncmp(req->path, h->mounts[i].prefix, strcspn(req->path, "/")) == 0 && strchr(h->mounts[i].prefix, '/') == NULL)
            req->mount = h->mounts[i].how;
    h->answered = false;
    p->handle(self, req);
    while (!h->answered)
        if (!turn(h, 10000))
            op_fatal(h, "no answer within ten seconds");
    cJSON_Delete(pc);
    printf("%-4u %s\n", st_map(h->status)->rsc, req->path);
    if (h->status != want)
        op_fatal(h, "another status was expected");
    return h->pc;
}

static void write_file(const char *dir, const char *name, const void *bytes, size_t n)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (fd < 0 || write(fd, bytes, n) != (ssize_t)n || close(fd) != 0)
        op_fatal(NULL, path);
}

static struct conf *configure(const struct cse_plugin *p, const char *dir, char *err, size_t errlen)
{
    char text[600], kek[32], path[256];
    const struct conf_option *const tables[] = {p->options};
    int n = snprintf(text, sizeof text, "[mef]\nfqdn = mef.example.org\n[store]\nurl = sqlite:%s/mef.db\n[vault]\nkek = kek\n"
                     "[token.op]\nfile = token\nadmin-fqdn = mef.example.org\nrole = admin\n", dir);
    RAND_priv_bytes((unsigned char *)kek, sizeof kek);
    write_file(dir, "kek", kek, sizeof kek);
    write_file(dir, "token", TOKEN "\n", sizeof TOKEN);
    write_file(dir, "host.conf", text, (size_t)n);
    snprintf(path, sizeof path, "%s/host.conf", dir);
    return conf_load(path, tables, 1, err, errlen);
}

/* The operator issues a credential; returns its KpmID. */
static const char *credential(struct cse_host *h, const struct cse_plugin *p, void *self, const char *ae, cJSON **out)
{
    char body[128];
    struct cse_request req = {.op = CSE_CREATE, .path = "v1/credentials", .ty = -1, .authorization = "Bearer " TOKEN};
    req.peer.identity = "";
    snprintf(body, sizeof body, "{\"for\":\"%s\",\"kind\":\"psk\"}", ae);
    *out = ask(h, p, self, &req, body, ST_CREATED);
    return cJSON_GetStringValue(cJSON_GetObjectItem(*out, "kpmId"));
}

static void story(struct cse_host *h, const struct cse_plugin *p, void *self)
{
    cJSON *c[2];
    const char *const ids[] = {SOURCE, TARGET};
    struct cse_peer peers[2];
    for (size_t i = 0; i < 2; i++) { /* operator: a credential; then each AE registers on its session */
        peers[i] = (struct cse_peer){i + 1, CSE_CRED_PSK, credential(h, p, self, ids[i], &c[i]), NULL};
        struct cse_request reg = {.op = CSE_CREATE, .path = "mef", .ty = MEF_TY_CLIENT_REG, .from = ids[i], .peer = peers[i]};
        cJSON_Delete(ask(h, p, self, &reg, "{\"sec:mecr\":{" COMMON "}}", ST_CREATED));
    }
    struct cse_request key = {.op = CSE_CREATE, .path = "mef", .ty = MEF_TY_KEY_REG, .from = SOURCE, .peer = peers[0]};
    cJSON_Delete(ask(h, p, self, &key, "{\"sec:skr\":{" COMMON ",\"suid\":24,\"tgis\":[\"" TARGET "\"]}}", ST_CREATED));
    char path[64] = "mef/", want[64];
    hex_encode(h->exported, 16, path + 4); /* RelativeKeyID || key: TS-0003 10.3.1 */
    EVP_EncodeBlock((unsigned char *)want, h->exported + 16, 32);
    struct cse_request get = {.op = CSE_RETRIEVE, .path = path, .ty = -1, .from = TARGET, .peer = peers[1]};
    cJSON *got = ask(h, p, self, &get, NULL, ST_OK);
    const char *kv = cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetObjectItem(got, MEF_SN_KEY_REG), MEF_SN_KEY_VALUE));
    if (kv == NULL || strcmp(kv, want) != 0)
        op_fatal(h, "the target did not get the source's key");
    puts("the target has the source's key");
    cJSON_Delete(got);
    cJSON_Delete(c[0]);
    cJSON_Delete(c[1]);
}

int main(int argc, char **argv)
{
    struct cse_host h = {0};
    char err[300] = "";
    void *so = argc == 3 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    const struct cse_plugin *p = so == NULL ? NULL : dlsym(so, CSE_PLUGIN_SYMBOL);
    if (p == NULL || p->abi != CSE_PLUGIN_ABI || pipe(h.pipe) < 0 || RAND_priv_bytes(h.exported, sizeof h.exported) != 1)
        op_fatal(&h, "usage: host PLUGIN FOLDER");
    struct conf *conf = configure(p, argv[2], err, sizeof err);
    void *self = conf == NULL ? NULL : p->init(&h, &ops, conf, err, sizeof err);
    if (self == NULL)
        op_fatal(&h, err);
    story(&h, p, self);
    p->free(self);
    while (turn(&h, 0)) /* what was posted before is still owed */
        ;
    conf_free(conf);
    return dlclose(so);
}
