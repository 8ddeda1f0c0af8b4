/* The plugin's life in the virtual host, and the disk's: the store's committer thread stands at a gate in front of the
 * back end. It is open only while the loop waits for it, so what is durable when is the test's to say. */
#include "tests/vhost/internal.h"

#include "cse-shim/base/map64.h"
#include "mef-plugin/store/backend.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

extern const struct cse_plugin cse_plugin;

/* --- the gate: one plugin runs at a time, so there is one ----------------------------------------------------------
 */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool open;
    bool drowned; /* what is written goes nowhere: the process is dead */
    struct store *store;
} gate = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, true, false, NULL};

static void gate_set(bool open)
{
    pthread_mutex_lock(&gate.lock);
    gate.open = open;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
}

extern const struct store_backend __real_store_sqlite, __wrap_store_sqlite;

static bool gated_run(void *engine, struct store_txn *first, char *err, size_t errlen)
{
    pthread_mutex_lock(&gate.lock);
    while (!gate.open)
        pthread_cond_wait(&gate.changed, &gate.lock);
    bool drowned = gate.drowned;
    pthread_mutex_unlock(&gate.lock);
    return drowned || __real_store_sqlite.run(engine, first, err, errlen);
}

static void *real_open(const char *where, char *err, size_t errlen)
{
    return __real_store_sqlite.open(where, err, errlen);
}
static bool real_scan(void *engine, const struct store_scan *scan, char *err, size_t errlen)
{
    return __real_store_sqlite.scan(engine, scan, err, errlen);
}
static void real_close(void *engine)
{
    __real_store_sqlite.close(engine);
}

const struct store_backend __wrap_store_sqlite = {"sqlite:", real_open, gated_run, real_scan, real_close};

struct store *__real_store_open(const char *url, const struct store_host *host, char *err, size_t errlen);
struct store *__wrap_store_open(const char *url, const struct store_host *host, char *err, size_t errlen);
struct store *__wrap_store_open(const char *url, const struct store_host *host, char *err, size_t errlen)
{
    return gate.store = __real_store_open(url, host, err, errlen);
}

/* A reader waits for the committer, which therefore must get through. */
typedef bool (*visit)(void *user, struct span key, struct span val);
enum st __real_store_each(struct store *s, enum store_table table, visit fn, void *user);
enum st __wrap_store_each(struct store *s, enum store_table table, visit fn, void *user);
enum st __wrap_store_each(struct store *s, enum store_table table, visit fn, void *user)
{
    bool was = gate.open;
    gate_set(true);
    enum st st = __real_store_each(s, table, fn, user);
    gate_set(was);
    return st;
}

enum st __real_store_page(struct store *s, enum store_table table, struct span after, bool descending, size_t limit,
                          visit fn, void *user);
enum st __wrap_store_page(struct store *s, enum store_table table, struct span after, bool descending, size_t limit,
                          visit fn, void *user);
enum st __wrap_store_page(struct store *s, enum store_table table, struct span after, bool descending, size_t limit,
                          visit fn, void *user)
{
    bool was = gate.open;
    gate_set(true);
    enum st st = __real_store_page(s, table, after, descending, limit, fn, user);
    gate_set(was);
    return st;
}

/* --- posted calls and the disk -------------------------------------------------------------------------------------
 */

static struct vpost *take_posts(struct cse_host *h, struct vposts *q)
{
    pthread_mutex_lock(&h->post_lock);
    struct vpost *first = q->first;
    *q = (struct vposts){NULL, &q->first};
    pthread_mutex_unlock(&h->post_lock);
    return first;
}

static void run_posts(struct cse_host *h, struct vposts *q)
{
    for (struct vpost *p = take_posts(h, q), *next; p != NULL; p = next) {
        next = p->next;
        p->fn(p->user);
        free(p);
        if (next == NULL)
            next = take_posts(h, q);
    }
}

static void disk_done(void *user, uint64_t arg)
{
    struct cse_host *h = user;
    if (h->disk_busy && arg == h->stats.kills)
        vhost_disk(h);
}

static void see_to_the_disk(struct cse_host *h)
{
    if (h->disk_busy || h->peers.disk_delay == NULL || store_durable(h->store) == store_last(h->store))
        return;
    int64_t ms = h->peers.disk_delay(h->peers.user);
    h->disk_busy = ms >= 0;
    if (ms >= 0)
        vhost_at(h, (uint64_t)ms, disk_done, h, h->stats.kills);
}

void vhost_turn(struct cse_host *h)
{
    run_posts(h, &h->own);
    if (vhost_running(h) && !h->dead)
        see_to_the_disk(h);
}

/* The committer's own posts only say that there is something to deliver, which is just what store_flush did. They run
 * afterwards, so that nothing depends on when the thread got to them. */
void vhost_disk(struct cse_host *h)
{
    if (!vhost_running(h))
        return;
    h->stats.disk_commits++;
    h->disk_busy = false;
    gate_set(true);
    while (store_durable(h->store) < store_last(h->store))
        store_flush(h->store);
    gate_set(false);
    run_posts(h, &h->committers);
    vhost_turn(h);
}

/* --- start and end -------------------------------------------------------------------------------------------------
 */

bool vhost_running(const struct cse_host *h)
{
    return h->self != NULL;
}

void vhost_start(struct cse_host *h)
{
    char err[300] = "";
    gate_set(true);
    h->self = h->plugin->init(h, &vhost_ops, h->conf, err, sizeof err);
    if (h->self == NULL) {
        fprintf(stderr, "the plugin does not start: %s\n", err);
        abort();
    }
    h->store = gate.store;
    gate_set(false);
    vhost_disk(h);
}

/* Whoever sent a message for the plugin gets to know that it is gone. */
static void fail_sends(struct cse_host *h)
{
    while (h->sends != NULL)
        vhost_sent(h, h->sends->id, ST_UNAVAILABLE);
}

static void end(struct cse_host *h)
{
    gate_set(true);
    h->plugin->free(h->self);
    h->self = NULL;
    h->store = NULL;
    run_posts(h, &h->own); /* docs/plugin.md: calls posted before are still run */
    run_posts(h, &h->committers);
    vhost_forget(h);
    h->disk_busy = false;
}

void vhost_stop(struct cse_host *h)
{
    fail_sends(h);
    end(h);
}

static bool no_row(void *user, struct span key, struct span val)
{
    (void)user, (void)key, (void)val;
    return false;
}

/* A read waits for what was committed, and delivers nothing. */
static void wait_written(struct cse_host *h)
{
    gate_set(true);
    if (__real_store_page(h->store, STORE_META, (struct span){0}, false, 1, no_row, NULL) != ST_OK)
        abort();
    gate_set(false);
}

/* A real kill leaves no memory to free: what the plugin still does on its way out is let go nowhere. */
void vhost_kill(struct cse_host *h, bool written)
{
    if (written)
        wait_written(h);
    h->dead = true;
    h->stats.kills++;
    pthread_mutex_lock(&gate.lock);
    gate.drowned = true;
    pthread_mutex_unlock(&gate.lock);
    fail_sends(h);
    end(h);
    gate.drowned = false;
    h->dead = false;
}

/* --- the folder ----------------------------------------------------------------------------------------------------
 */

static void write_file(const char *dir, const char *name, const void *bytes, size_t n)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, bytes, n) != (ssize_t)n || close(fd) != 0)
        abort();
}

static void write_token(const char *dir, const char *name, const char *authorization)
{
    const char *token = strchr(authorization, ' ') + 1;
    write_file(dir, name, token, strlen(token));
}

static void make_folder(char dir[64])
{
    static const char *const places[] = {"/dev/shm", "/tmp"}; /* a disk that is memory syncs in no time */
    for (size_t i = 0; i < 2; i++) {
        snprintf(dir, 64, "%s/mef-vhost-XXXXXX", places[i]);
        if (mkdtemp(dir) != NULL)
            return;
    }
    abort();
}

static void remove_folder(const char *dir)
{
    char path[400];
    DIR *d = opendir(dir);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.' && snprintf(path, sizeof path, "%s/%s", dir, e->d_name) > 0)
            unlink(path);
    if (d != NULL)
        closedir(d);
    rmdir(dir);
}

static struct conf *configure(struct cse_host *h, const char *eg_conf)
{
    char text[1000], path[128], err[300] = "";
    const struct conf_option *const tables[] = {h->plugin->options};
    int n = snprintf(
        text, sizeof text,
        "[mef]\nfqdn = mef.example.org\nsp-id = //example.org\n[store]\nurl = sqlite:%s/mef.db\n[vault]\nkek = kek\n"
        "[token.op]\nfile = token\nadmin-fqdn = %s\nrole = admin\n"
        "[token.other]\nfile = token2\nadmin-fqdn = %s\nrole = admin\n[eg]\n%s\n",
        h->dir, VHOST_ADMIN, VHOST_OTHER_ADMIN, eg_conf);
    write_file(h->dir, "kek", "0123456789abcdef0123456789abcdef", 32);
    write_token(h->dir, "token", VHOST_OPERATOR);
    write_token(h->dir, "token2", VHOST_OTHER_OPERATOR);
    write_file(h->dir, "mefd.conf", text, (size_t)n);
    snprintf(path, sizeof path, "%s/mefd.conf", h->dir);
    struct conf *c = conf_load(path, tables, 1, err, sizeof err);
    if (c == NULL) {
        fprintf(stderr, "%s\n", err);
        abort();
    }
    return c;
}

struct cse_host *vhost_new(uint64_t seed, const char *eg_conf, const struct vpeers *peers)
{
    struct cse_host *h = calloc(1, sizeof *h);
    if (h == NULL || (h->open_sessions = map64_new()) == NULL)
        abort();
    h->plugin = &cse_plugin;
    h->peers = *peers;
    h->loop = pthread_self();
    h->test_rng = seed;
    h->plugin_rng = ~seed;
    h->own.end = &h->own.first;
    h->committers.end = &h->committers.first;
    pthread_mutex_init(&h->post_lock, NULL);
    make_folder(h->dir);
    h->conf = configure(h, eg_conf);
    log_level_set(LOG_ERROR);
    return h;
}

void vhost_free(struct cse_host *h)
{
    if (vhost_running(h))
        vhost_stop(h);
    conf_free(h->conf);
    remove_folder(h->dir);
    map64_free(h->open_sessions);
    pthread_mutex_destroy(&h->post_lock);
    free(h->events);
    free(h);
}
