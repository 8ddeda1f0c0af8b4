/* What endpoints that serve the same addresses from several threads share: who has which path, and a way to hand on
 * the datagrams that the kernel gave to the wrong one (it spreads paths anew whenever a socket joins or leaves). */
#include "cse-shim/coap/internal.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MAILBOX_LIMIT 256u /* datagrams waiting for one member; further ones are lost, as on the wire */
#define SHARDS 64u
#define MAX_LISTENING 64u

struct letter {
    STAILQ_ENTRY(letter) link;
    struct path path; /* without its socket, which is the receiver's */
    uint16_t sock;
    size_t n;
    uint8_t bytes[];
};
STAILQ_HEAD(letters, letter);

struct mailbox {
    pthread_mutex_t lock; /* guards letters and count */
    struct letters letters;
    unsigned count;
    int wake; /* eventfd, written when the first letter comes */
};

struct shard {
    pthread_mutex_t lock;
    struct map64 *owners; /* path_key() -> claim */
};

struct cep_group {
    unsigned members;
    uint8_t master[COOKIE_MASTER_LEN];
    uint64_t secret[4]; /* of path_key() */
    pthread_mutex_t ports_lock;
    uint16_t ports[MAX_LISTENING]; /* bound by the first member that listened */
    struct mailbox boxes[CEP_MAX_MEMBERS];
    struct shard shards[SHARDS];
};

/* --- life --- */

static bool make(struct cep_group *g)
{
    pthread_mutex_init(&g->ports_lock, NULL);
    bool ok = RAND_bytes(g->master, sizeof g->master) == 1 && RAND_bytes((uint8_t *)g->secret, sizeof g->secret) == 1;
    for (unsigned i = 0; i < CEP_MAX_MEMBERS; i++) {
        pthread_mutex_init(&g->boxes[i].lock, NULL);
        STAILQ_INIT(&g->boxes[i].letters);
        g->boxes[i].wake = i < g->members ? eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) : -1;
        ok = ok && (i >= g->members || g->boxes[i].wake >= 0);
    }
    for (unsigned i = 0; i < SHARDS; i++) {
        pthread_mutex_init(&g->shards[i].lock, NULL);
        g->shards[i].owners = map64_new();
        ok = ok && g->shards[i].owners != NULL;
    }
    return ok;
}

struct cep_group *cep_group_new(unsigned members)
{
    struct cep_group *g = members >= 1 && members <= CEP_MAX_MEMBERS ? calloc(1, sizeof *g) : NULL;
    if (g == NULL)
        return NULL;
    g->members = members;
    if (make(g))
        return g;
    cep_group_free(g);
    return NULL;
}

static void letter_free(struct letter *l)
{
    OPENSSL_cleanse(l->bytes, l->n); /* a plain datagram is in clear */
    free(l);
}

static void letters_free(struct letters *list)
{
    struct letter *l;
    while ((l = STAILQ_FIRST(list)) != NULL) {
        STAILQ_REMOVE_HEAD(list, link);
        letter_free(l);
    }
}

void cep_group_free(struct cep_group *g)
{
    if (g == NULL)
        return;
    for (unsigned i = 0; i < CEP_MAX_MEMBERS; i++) {
        letters_free(&g->boxes[i].letters);
        if (g->boxes[i].wake >= 0)
            close(g->boxes[i].wake);
        pthread_mutex_destroy(&g->boxes[i].lock);
    }
    for (unsigned i = 0; i < SHARDS; i++) {
        map64_free(g->shards[i].owners);
        pthread_mutex_destroy(&g->shards[i].lock);
    }
    pthread_mutex_destroy(&g->ports_lock);
    OPENSSL_cleanse(g, sizeof *g);
    free(g);
}

const uint8_t *group_master(const struct cep_group *g)
{
    return g->master;
}

/* --- addresses --- */

int group_bind(struct cep_group *g, uint16_t index, int fd, union address *a, socklen_t len)
{
    int one = 1;
    in_port_t *port = a->sa.sa_family == AF_INET6 ? &a->in6.sin6_port : &a->in.sin_port;
    if (index >= MAX_LISTENING)
        return -EMFILE;
    pthread_mutex_lock(&g->ports_lock);
    bool first = g->ports[index] == 0;
    if (*port == 0)
        *port = htons(g->ports[index]);
    /* The first one binds before it may share, so that an address somebody else has is in use. */
    int r = first ? bind(fd, &a->sa, len) : 0;
    if (r == 0)
        r = setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    if (r == 0 && !first)
        r = bind(fd, &a->sa, len);
    int err = r < 0 ? -errno : 0;
    if (err == 0)
        g->ports[index] = bound_port(fd);
    pthread_mutex_unlock(&g->ports_lock);
    return err;
}

/* --- who has which path: for each key its member, and how many of its sessions have that key --- */

struct claim {
    unsigned member, count;
};

static void *claim_pack(struct claim c)
{
    return (void *)((uintptr_t)c.count * CEP_MAX_MEMBERS + c.member);
}

static struct claim claim_of(const void *packed)
{
    uintptr_t v = (uintptr_t)packed;
    return (struct claim){(unsigned)(v % CEP_MAX_MEMBERS), (unsigned)(v / CEP_MAX_MEMBERS)};
}

/* The shard of a path, locked, and what it says of the path. */
static struct shard *look_up(struct cep_group *g, const struct path *path, uint64_t *key, struct claim *c)
{
    *key = path_key(path, g->secret);
    struct shard *s = &g->shards[*key >> 40 & (SHARDS - 1)];
    pthread_mutex_lock(&s->lock);
    *c = claim_of(map64_get(s->owners, *key));
    return s;
}

bool group_claim(struct cep_endpoint *ep, const struct path *path)
{
    uint64_t key;
    struct claim c;
    if (ep->cfg.group == NULL)
        return true;
    struct shard *s = look_up(ep->cfg.group, path, &key, &c);
    bool ok = c.count == 0 || c.member == ep->cfg.member;
    c = (struct claim){ep->cfg.member, c.count + 1};
    ok = ok && map64_put(s->owners, key, claim_pack(c));
    pthread_mutex_unlock(&s->lock);
    return ok;
}

void group_release(struct cep_endpoint *ep, const struct path *path)
{
    uint64_t key;
    struct claim c;
    if (ep->cfg.group == NULL)
        return;
    struct shard *s = look_up(ep->cfg.group, path, &key, &c);
    if (c.count-- <= 1)
        map64_del(s->owners, key);
    else if (!map64_put(s->owners, key, claim_pack(c)))
        ep->stats.dropped++; /* cannot happen: the key has its slot */
    pthread_mutex_unlock(&s->lock);
}

static bool owned_by_another(const struct cep_endpoint *ep, const struct path *path, unsigned *member)
{
    uint64_t key;
    struct claim c;
    struct shard *s = look_up(ep->cfg.group, path, &key, &c);
    pthread_mutex_unlock(&s->lock);
    *member = c.member;
    return c.count != 0 && c.member != ep->cfg.member;
}

/* --- mail --- */

static bool post(struct mailbox *box, struct letter *l)
{
    pthread_mutex_lock(&box->lock);
    bool room = box->count < MAILBOX_LIMIT, first = box->count == 0;
    if (room) {
        STAILQ_INSERT_TAIL(&box->letters, l, link);
        box->count++;
    }
    pthread_mutex_unlock(&box->lock);
    if (room && first)
        (void)eventfd_write(box->wake, 1);
    return room;
}

bool group_pass_on(struct cep_endpoint *ep, const struct path *path, struct span datagram)
{
    unsigned member;
    if (ep->cfg.group == NULL || !owned_by_another(ep, path, &member))
        return false;
    struct letter *l = malloc(sizeof *l + datagram.n);
    if (l == NULL) {
        ep->stats.dropped++;
        return true;
    }
    *l = (struct letter){.path = *path, .sock = path->sock->index, .n = datagram.n};
    l->path.sock = NULL;
    memcpy(l->bytes, datagram.p, datagram.n);
    if (post(&ep->cfg.group->boxes[member], l)) {
        ep->stats.passed_on++;
    } else {
        ep->stats.dropped++;
        letter_free(l);
    }
    return true;
}

/* Members listen in the same order, so that an index names the same address at each. */
static struct sock *socket_of(struct cep_endpoint *ep, uint16_t index)
{
    struct sock *s;
    LIST_FOREACH(s, &ep->socks, link)
    if (s->session == NULL && s->index == index)
        break;
    return s;
}

static int on_mail(sd_event_source *source, int fd, uint32_t events, void *user)
{
    (void)source;
    (void)events;
    struct cep_endpoint *ep = user;
    struct mailbox *box = &ep->cfg.group->boxes[ep->cfg.member];
    struct letters mine = STAILQ_HEAD_INITIALIZER(mine);
    eventfd_t n;
    (void)eventfd_read(fd, &n);
    pthread_mutex_lock(&box->lock);
    STAILQ_CONCAT(&mine, &box->letters);
    box->count = 0;
    pthread_mutex_unlock(&box->lock);
    struct letter *l;
    STAILQ_FOREACH(l, &mine, link)
    {
        l->path.sock = socket_of(ep, l->sock);
        if (l->path.sock != NULL)
            session_datagram(ep, &l->path, span_of(l->bytes, l->n), true);
    }
    letters_free(&mine);
    return 0;
}

bool group_join(struct cep_endpoint *ep)
{
    struct cep_group *g = ep->cfg.group;
    if (g == NULL)
        return true;
    return ep->cfg.member < g->members &&
           sd_event_add_io(ep->loop, &ep->mail, g->boxes[ep->cfg.member].wake, EPOLLIN, on_mail, ep) >= 0;
}
