/* A host in a test's hand around the real store, vault and audit: a clock and random numbers that the test sets, one
 * request at a time, the answer kept for a look. */
#pragma once
#include "cse-shim/base/hex.h"
#include "mef-plugin/admin/admin.h"
#include "mef-plugin/mef/answers.h"
#include "tests/unit/store_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>

#define START 1795219200000 /* 2026-11-21T00:00:00Z, ms */
#define ADMIN "sp.example.com"
#define OTHER_ADMIN "other.example.com"

struct timer_entry {
    uint64_t id, at;
    void (*fn)(void *user);
    void *user;
};

struct cse_host {
    struct fixture *f;
    int64_t wall;        /* ms since 1970 */
    uint64_t rng;        /* state */
    bool answered;
    struct cse_response rsp; /* the last answer; pc is ours */
    char location[700], code[64], field[300];
    unsigned respond_count, exports;
    uint64_t visits; /* mef_discovery_visits_total */
    struct timer_entry timers[32];
    uint64_t timer_ids;
    bool fatal;
};

struct world {
    struct cse_host host;
    struct conf *conf;
    struct store *store;
    struct audit *audit;
    struct vault *vault;
    struct mef *mef;
    struct eg *eg;
    struct admin *admin;
};

/* JSON with single quotes, for reading. */
static inline cJSON *json(const char *text)
{
    char *copy = strdup(text);
    for (char *p = copy; *p != '\0'; p++)
        if (*p == '\'')
            *p = '"';
    cJSON *j = cJSON_Parse(copy);
    if (j == NULL)
        fail_msg("bad test JSON: %s", text);
    free(copy);
    return j;
}

/* --- the host's functions ----------------------------------------------------------------------------------------- */

static void host_forget(struct cse_host *h)
{
    json_wipe(h->rsp.pc);
    h->rsp = (struct cse_response){0};
    h->location[0] = h->code[0] = h->field[0] = '\0';
    h->answered = false;
}

static void host_respond(struct cse_host *h, struct cse_request *req, struct cse_response *rsp)
{
    (void)req;
    host_forget(h);
    h->rsp = *rsp;
    snprintf(h->location, sizeof h->location, "%s", rsp->location == NULL ? "" : rsp->location);
    snprintf(h->code, sizeof h->code, "%s", rsp->code == NULL ? "" : rsp->code);
    snprintf(h->field, sizeof h->field, "%s", rsp->field == NULL ? "" : rsp->field);
    h->answered = true;
    h->respond_count++;
}

static bool host_export(struct cse_host *h, uint64_t session, const char *label, uint8_t *out, size_t n)
{
    h->exports++;
    if (session >= 900 || strcmp(label, "EXPORTER-oneM2M-Bootstrap") != 0)
        return false;
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)(session * 7 + i);
    return true;
}

static uint64_t host_timer(struct cse_host *h, uint64_t ms, void (*fn)(void *user), void *user)
{
    for (size_t i = 0; i < 32; i++)
        if (h->timers[i].id == 0) {
            h->timers[i] = (struct timer_entry){++h->timer_ids, (uint64_t)h->wall + ms, fn, user};
            return h->timer_ids;
        }
    abort();
}

static void host_timer_cancel(struct cse_host *h, uint64_t id)
{
    for (size_t i = 0; i < 32; i++)
        if (h->timers[i].id == id)
            h->timers[i].id = 0;
}

static void host_posts(struct cse_host *h, void (*fn)(void *user), void *user) { loop_post(&h->f->loop, fn, user); }
static uint64_t host_now(struct cse_host *h) { return (uint64_t)h->wall; }
static int64_t host_wall(struct cse_host *h) { return h->wall; }
static bool host_random(struct cse_host *h, void *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        h->rng = h->rng * 6364136223846793005u + 1442695040888963407u;
        ((uint8_t *)out)[i] = (uint8_t)(h->rng >> 56);
    }
    return true;
}
static void host_count(struct cse_host *h, const char *name, uint64_t add)
{
    h->visits += strcmp(name, "mef_discovery_visits_total") == 0 ? add : 0;
}
static void host_gauge(struct cse_host *h, const char *name, int64_t value) { (void)h, (void)name, (void)value; }
static void host_gives_up(struct cse_host *h, const char *why)
{
    (void)why;
    h->fatal = true;
}
static bool host_mount(struct cse_host *h, const char *prefix, enum cse_mount how)
{
    (void)h, (void)prefix, (void)how;
    return true;
}
static uint64_t host_observe(struct cse_host *h, struct cse_request *req)
{
    (void)h, (void)req;
    return 0;
}
static void host_notify(struct cse_host *h, uint64_t id, const struct cse_response *rsp, bool queue)
{
    (void)h, (void)id, (void)queue;
    cJSON_Delete(rsp->pc);
}
static void host_observe_cancel(struct cse_host *h, uint64_t id) { (void)h, (void)id; }
static bool host_send(struct cse_host *h, uint64_t session, const char *path, unsigned format, struct span body,
                      void (*done)(void *user, enum st st, struct span body), void *user)
{
    (void)h, (void)session, (void)path, (void)format, (void)body, (void)done, (void)user;
    return false;
}

static const struct cse_host_ops host_ops = {
    .abi = CSE_PLUGIN_ABI, .mount = host_mount, .respond = host_respond, .observe = host_observe,
    .notify = host_notify, .observe_cancel = host_observe_cancel, .send = host_send, .export_key = host_export,
    .timer = host_timer, .timer_cancel = host_timer_cancel, .post = host_posts, .now = host_now, .time = host_wall,
    .random = host_random, .count = host_count, .gauge = host_gauge, .fatal = host_gives_up,
};

/* Let time pass; timers due run once each. */
static inline void pass(struct cse_host *h, int64_t ms)
{
    h->wall += ms;
    struct timer_entry due[32];
    size_t n = 0;
    for (size_t i = 0; i < 32; i++)
        if (h->timers[i].id != 0 && h->timers[i].at <= (uint64_t)h->wall) {
            due[n++] = h->timers[i];
            h->timers[i].id = 0;
        }
    for (size_t i = 0; i < n; i++)
        due[i].fn(due[i].user);
}

/* --- the plugin's rooms ------------------------------------------------------------------------------------------- */

static const struct conf_option fixture_options[] = {{"store", "url", CONF_STRING, NULL, 0, 0, ""},
                                                     {NULL, NULL, CONF_STRING, NULL, 0, 0, NULL}};

static inline void write_file(const struct fixture *f, const char *name, const char *text, mode_t mode)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        fail_msg("cannot write %s", path);
    fchmod(fd, mode);
    close(fd);
}

static bool world_random(void *user, void *out, size_t n) { return host_random(user, out, n); }
static int64_t world_time(void *user) { return host_wall(user); }

#define DEFAULT_CONF "[mef]\nfqdn = mef.example.com\nsp-id = //sp.example.com\n"

static inline struct conf *world_conf(struct fixture *f, const char *text)
{
    char path[160];
    const struct conf_option *const tables[] = {fixture_options, mef_options, eg_options, admin_options};
    write_file(f, "mefd.conf", text, 0600);
    snprintf(path, sizeof path, "%s/mefd.conf", f->dir);
    struct conf *c = conf_load(path, tables, 4, f->err, sizeof f->err);
    if (c == NULL)
        fail_msg("%s", f->err);
    return c;
}

/* Open over the fixture's folder, which may hold an earlier world's database. */
static inline void world_open_with(struct world *w, struct fixture *f, const char *conf)
{
    char kek[160];
    uint64_t rng = w->host.rng;
    int64_t wall = w->host.wall == 0 ? START : w->host.wall;
    *w = (struct world){.host = {.f = f, .wall = wall, .rng = rng + 1}};
    write_file(f, "kek", "0123456789abcdef0123456789abcdef", 0600);
    snprintf(kek, sizeof kek, "%s/kek", f->dir);
    w->conf = world_conf(f, conf);
    w->store = must_open(f);
    w->audit = audit_open(w->store, &(struct audit_host){&w->host, world_time});
    w->vault = vault_open(w->store, kek, &(struct vault_host){&w->host, world_random}, f->err, sizeof f->err);
    if (w->vault == NULL)
        fail_msg("%s", f->err);
    w->mef = mef_open(&(struct mef_deps){&w->host, &host_ops, w->conf, w->store, w->vault, w->audit}, f->err,
                      sizeof f->err);
    if (w->mef == NULL)
        fail_msg("%s", f->err);
}

static inline void world_open(struct world *w, struct fixture *f) { world_open_with(w, f, DEFAULT_CONF); }

static inline void world_close(struct world *w)
{
    loop_drain(&w->host.f->loop);
    admin_close(w->admin);
    if (w->eg != NULL)
        eg_close(w->eg);
    mef_close(w->mef);
    vault_close(w->vault);
    audit_close(w->audit);
    store_close(w->store);
    conf_free(w->conf);
    host_forget(&w->host);
}

/* Wait for the answer to what was just asked. */
static inline enum st wait_answer(struct world *w)
{
    while (!w->host.answered)
        loop_step(&w->host.f->loop);
    return w->host.rsp.status;
}

static inline const cJSON *member(const cJSON *j, const char *name) { return cJSON_GetObjectItemCaseSensitive(j, name); }
static inline const char *text_of(const cJSON *j, const char *name)
{
    const cJSON *m = member(j, name);
    return cJSON_IsString(m) ? m->valuestring : "";
}

/* Run a change of mef.h in a transaction of its own and keep what it says; the caller deletes r.body. */
#define WITH_TXN(w, ...)                                                                                              \
    do {                                                                                                               \
        struct store_txn *t = store_begin((w)->store);                                                                 \
        __VA_ARGS__;                                                                                                        \
        store_commit(t, NULL, NULL);                                                                                   \
    } while (0)
