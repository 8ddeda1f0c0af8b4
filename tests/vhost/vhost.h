/* A host for mef-plugin whose clock, random numbers, disk and peers are the test's: everything happens in a queue of
 * events in virtual time, so that a run is a function of its seed. The plugin is driven through cse_plugin.h alone and
 * its store is the real one, on a real SQLite file; of the store the host takes only its two moments into its hand:
 * when a disk commit is finished, and from when on nothing reaches the disk any more (the process is killed).
 *
 * Link with vhost_link_args: the store's back end, and what opens or reads a store, are wrapped. */
#pragma once
#include "cse-shim/cse_plugin.h"
#include "mef-plugin/store/store.h"

#define VHOST_OPERATOR "Bearer an-operator-token-of-the-virtual-host"
#define VHOST_OTHER_OPERATOR "Bearer the-token-of-another-stakeholder"
#define VHOST_ADMIN "acme.example"
#define VHOST_OTHER_ADMIN "other.example"
#define VHOST_EPOCH 1795219200000 /* 2026-11-21T00:00:00Z: the wall clock when the virtual one is 0, ms */

struct cse_host; /* the virtual host */

struct vanswer { /* what a request came to; valid during the call */
    enum st status;
    struct span body;
    const cJSON *pc;             /* NULL: none */
    const char *code, *location; /* "" when absent */
    bool sensitive;
    uint64_t observation; /* accepted with it; 0: none */
};
typedef void (*vanswer_fn)(void *user, uint64_t tag, const struct vanswer *a);

struct vask { /* a request; what it points to is copied */
    enum cse_op op;
    const char *path;
    struct span body; /* n == 0: none. JSON is parsed unless the path is below mef/eg */
    unsigned format;  /* of body; 0: 50, or 60 and 42 where the path tells */
    int ty;           /* 0: absent */
    const char *from; /* NULL: absent */
    const char *authorization;
    const char *query[4][2]; /* ended by a NULL name */
    bool observe;
    uint64_t session;
    const char *identity; /* NULL: unauthenticated */
    vanswer_fn done;      /* NULL: nobody waits */
    void *user;
    uint64_t tag;
};

/* Whom the plugin's own messages go to. Any may be NULL. */
struct vpeers {
    void *user;
    /* The plugin sent a message on a session; answer it with vhost_sent(id), at any time or never. */
    void (*sent)(void *user, uint64_t session, uint64_t id, struct span body);
    void (*notified)(void *user, uint64_t observation, const struct cse_response *rsp);
    /* How long the next disk commit takes, ms; negative: it waits for vhost_disk(). NULL: always waits. */
    int64_t (*disk_delay)(void *user);
};

/* The folder is made anew below $XDG_RUNTIME_DIR, /dev/shm or /tmp and removed by vhost_free. `eg_conf`: lines of the
 * [eg] section. Aborts when the host itself cannot be had; the plugin is not yet started. */
struct cse_host *vhost_new(uint64_t seed, const char *eg_conf, const struct vpeers *peers);
void vhost_free(struct cse_host *h); /* the plugin, if it runs, ends in good order */

void vhost_start(struct cse_host *h); /* aborts with the plugin's own words when it refuses */
void vhost_stop(struct cse_host *h);  /* SIGTERM: drained, then freed */
/* kill -9: nothing more reaches disk or peers. `written`: what was committed is on the disk, but nobody was told. */
void vhost_kill(struct cse_host *h, bool written);
bool vhost_running(const struct cse_host *h);

/* --- time --------------------------------------------------------------------------------------------------------- */
uint64_t vhost_now(const struct cse_host *h); /* ms */
void vhost_at(struct cse_host *h, uint64_t in_ms, void (*fn)(void *user, uint64_t arg), void *user, uint64_t arg);
bool vhost_step(struct cse_host *h); /* the next event; false: there is none */
void vhost_run(struct cse_host *h, uint64_t until_ms);
void vhost_disk(struct cse_host *h); /* what is committed becomes durable now, and its answers leave */
uint64_t vhost_random(struct cse_host *h, uint64_t below); /* of the test's stream, not the plugin's */

/* --- peers -------------------------------------------------------------------------------------------------------- */
uint64_t vhost_session(struct cse_host *h); /* a new one */
void vhost_session_end(struct cse_host *h, uint64_t session);
bool vhost_session_open(const struct cse_host *h, uint64_t session);
void vhost_ask(struct cse_host *h, const struct vask *a);
void vhost_sent(struct cse_host *h, uint64_t id, enum st st); /* of vpeers.sent; late or twice: harmless */
void vhost_observe_end(struct cse_host *h, uint64_t observation);

struct vhost_stats {
    uint64_t asked, answered, twice, lost; /* lost: of a killed process */
    uint64_t open;                         /* unanswered now */
    uint64_t disk_commits, kills, fatal;
};
struct vhost_stats vhost_stats(const struct cse_host *h);
