/* Shared by vhost.c (requests, time, peers) and life.c (start, disk, kill). */
#pragma once
#include "tests/vhost/vhost.h"

#include <pthread.h>

#define VHOST_TEXTS 16
#define VHOST_MOUNTS 4

struct vevent {
    uint64_t at, seq;
    void (*fn)(void *user, uint64_t arg);
    void *user;
    uint64_t arg;
};

struct vcall {              /* a request not yet answered */
    struct cse_request req; /* first: the plugin hands it back */
    struct vcall *next;
    struct cse_param params[4];
    uint8_t *body;
    char *texts[VHOST_TEXTS];
    size_t ntexts;
    uint64_t observation;
    vanswer_fn done;
    void *user;
    uint64_t tag;
};

struct vsend {
    struct vsend *next;
    uint64_t id;
    void (*done)(void *user, enum st st, struct span body);
    void *user;
};

struct vtimer {
    struct vtimer *next;
    uint64_t id;
    void (*fn)(void *user);
    void *user;
};

struct vpost {
    struct vpost *next;
    void (*fn)(void *user);
    void *user;
};
struct vposts {
    struct vpost *first, **end;
};

struct cse_host {
    const struct cse_plugin *plugin;
    void *self; /* NULL: not running */
    struct vpeers peers;
    char dir[64];
    struct conf *conf;
    struct store *store; /* the plugin's; only asked how far it is, and flushed when the disk is done */
    bool dead;           /* killed: on its way out, seen by nobody */
    bool disk_busy;      /* an event will finish the commit */
    pthread_t loop;

    uint64_t now, event_seq;
    struct vevent *events; /* a heap */
    size_t nevents, event_cap;
    uint64_t test_rng, plugin_rng;

    struct {
        char prefix[32];
        enum cse_mount how;
    } mounts[VHOST_MOUNTS];
    size_t nmounts;
    struct vcall *calls;
    struct vsend *sends;
    struct vtimer *timers;
    struct map64 *open_sessions;
    uint64_t sessions, observations, send_ids, timer_ids;

    pthread_mutex_t post_lock;     /* around both queues */
    struct vposts own, committers; /* of the loop; of the store's thread */
    struct vhost_stats stats;
};

extern const struct cse_host_ops vhost_ops;
void vhost_turn(struct cse_host *h);   /* run what the loop posted, and see to the disk */
void vhost_forget(struct cse_host *h); /* what the ended process had open */
