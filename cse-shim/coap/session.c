#include "cse-shim/coap/internal.h"

#include "cse-shim/coap/certs.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <time.h>

struct cep_session *session_ref(struct cep_session *s)
{
    s->refs++;
    return s;
}

void session_unref(struct cep_session *s)
{
    if (--s->refs > 0)
        return;
    dtls_free(s->dtls);
    free(s);
}

/* --- the table of server sessions, by socket and peer address --- */

static struct cep_session *table_find(struct cep_endpoint *ep, const struct path *path)
{
    struct cep_session *s = map64_get(ep->by_path, path_key(path, ep->secret));
    while (s != NULL && !path_eq(&s->path, path))
        s = s->same_key;
    return s;
}

/* False: out of memory, or the path is another member's of our group. */
static bool table_add(struct cep_session *s)
{
    struct cep_endpoint *ep = s->ep;
    uint64_t key = path_key(&s->path, ep->secret);
    if (!group_claim(ep, &s->path))
        return false;
    s->same_key = map64_get(ep->by_path, key);
    if (map64_put(ep->by_path, key, s))
        return true;
    group_release(ep, &s->path);
    return false;
}

static void table_remove(struct cep_session *s)
{
    struct cep_endpoint *ep = s->ep;
    uint64_t key = path_key(&s->path, ep->secret);
    struct cep_session *head = map64_get(ep->by_path, key);
    struct cep_session **link = &head;
    while (*link != NULL && *link != s)
        link = &(*link)->same_key;
    if (*link == NULL)
        return;
    *link = s->same_key;
    group_release(ep, &s->path);
    if (link != &head)
        return;
    map64_del(ep->by_path, key);
    if (head != NULL && !map64_put(ep->by_path, key, head))
        ep->stats.dropped++; /* cannot happen: the slot was just freed */
}

/* --- life --- */

static void on_dtls_timer(void *user);
static void on_limit(void *user);

struct cep_session *session_new(struct cep_endpoint *ep, const struct path *path, bool client)
{
    struct cep_session *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->refs = 1;
    s->ep = ep;
    s->path = *path;
    s->client = client;
    s->peer = (struct cep_peer){
        cep_id(ep, ++ep->next_serial), CEP_CRED_NONE, s->identity, "", &s->path.addr.sa, s->path.addrlen};
    s->dtls_timer = (struct timer){.fire = on_dtls_timer, .user = s};
    s->limit = (struct timer){.fire = on_limit, .user = s};
    s->next_mid = (uint16_t)random64();
    TAILQ_INIT(&s->txs);
    TAILQ_INIT(&s->waiting);
    TAILQ_INIT(&s->active);
    TAILQ_INIT(&s->transfers);
    if (!map64_put(ep->by_serial, s->peer.serial, s)) {
        free(s);
        return NULL;
    }
    if (!client) {
        TAILQ_INSERT_TAIL(&ep->handshaking, s, lru);
        ep->stats.handshakes++;
    }
    timer_arm(&ep->timers, &s->limit, HANDSHAKE_LIMIT);
    return s;
}

static void leave_handshake(struct cep_session *s)
{
    struct cep_endpoint *ep = s->ep;
    if (!s->client) {
        TAILQ_REMOVE(&ep->handshaking, s, lru);
        ep->stats.handshakes--;
    }
    timer_disarm(&ep->timers, &s->limit);
    timer_disarm(&ep->timers, &s->dtls_timer);
}

/* Its peer proved itself under a new handshake: the old session is over. */
static void replace_live(struct cep_session *s)
{
    struct cep_session *old = s->live;
    if (old == NULL)
        return;
    s->live = NULL;
    old->shadow = NULL;
    bool added = table_add(s); /* before the old one goes: the path stays ours */
    session_close(old, false);
    if (!added)
        session_close(s, true);
}

static void make_room(struct cep_endpoint *ep, bool secure)
{
    while (ep->nopen[secure] >= ep->cfg.max_sessions) {
        ep->stats.evicted++;
        session_close(TAILQ_FIRST(&ep->open[secure]), true);
    }
}

void session_open(struct cep_session *s)
{
    struct cep_endpoint *ep = s->ep;
    bool secure = s->dtls != NULL;
    session_ref(s);
    leave_handshake(s);
    make_room(ep, secure);
    s->state = SESSION_OPEN;
    s->last_used = timers_now(&ep->timers);
    TAILQ_INSERT_TAIL(&ep->open[secure], s, lru);
    ep->nopen[secure]++;
    ep->stats.sessions++;
    ep->stats.sessions_total++;
    if (!ep->idle.armed)
        timer_arm(&ep->timers, &ep->idle, ep->cfg.idle_seconds * SEC);
    if (secure) {
        s->peer.cred = dtls_credential(s->dtls);
        s->peer.server_name = dtls_server_name(s->dtls);
        strncpy(s->identity, dtls_identity(s->dtls), sizeof s->identity - 1);
    }
    replace_live(s);
    if (s->state == SESSION_OPEN && ep->cb.opened != NULL)
        ep->cb.opened(ep->cb.user, &s->peer);
    if (s->state == SESSION_OPEN)
        client_pump(s);
    session_unref(s);
}

/* A shadow goes without a trace; a session whose place it would have taken hands it over. */
static void unlink_server(struct cep_session *s)
{
    if (s->live != NULL) {
        s->live->shadow = NULL;
        s->live = NULL;
        return;
    }
    struct cep_session *shadow = s->shadow;
    s->shadow = NULL;
    if (shadow != NULL)
        shadow->live = NULL;
    bool added = shadow == NULL || table_add(shadow);
    table_remove(s);
    if (!added)
        session_close(shadow, false);
}

void session_close(struct cep_session *s, bool notify)
{
    struct cep_endpoint *ep = s->ep;
    if (s->state == SESSION_CLOSED)
        return;
    bool was_open = s->state == SESSION_OPEN;
    if (was_open && notify && s->dtls != NULL)
        dtls_shutdown(s->dtls);
    if (was_open) {
        bool secure = s->dtls != NULL;
        TAILQ_REMOVE(&ep->open[secure], s, lru);
        ep->nopen[secure]--;
        ep->stats.sessions--;
    } else {
        leave_handshake(s);
        ep->stats.handshakes_failed++;
    }
    s->state = SESSION_CLOSED;
    timer_disarm(&ep->timers, &s->dtls_timer);
    map64_del(ep->by_serial, s->peer.serial);
    if (!s->client)
        unlink_server(s);
    tx_gone_all(s);
    seen_drop_all(s);
    block_drop_all(s);
    server_end_all(s);
    observe_end_all(s);
    client_end_all(s);
    if ((was_open || s->client) && ep->cb.closed != NULL && !ep->closing)
        ep->cb.closed(ep->cb.user, s->peer.serial);
    if (s->client)
        udp_close(s->path.sock);
    session_unref(s);
}

static void touch(struct cep_session *s)
{
    struct session_list *list = &s->ep->open[s->dtls != NULL];
    s->last_used = timers_now(&s->ep->timers);
    TAILQ_REMOVE(list, s, lru);
    TAILQ_INSERT_TAIL(list, s, lru);
}

void session_expire(void *user)
{
    struct cep_endpoint *ep = user;
    uint64_t now = timers_now(&ep->timers), life = ep->cfg.idle_seconds * SEC, wait = life;
    for (int secure = 0; secure < 2; secure++) {
        struct cep_session *s;
        while ((s = TAILQ_FIRST(&ep->open[secure])) != NULL && s->last_used + life <= now)
            session_close(s, true);
        if (s != NULL && s->last_used + life - now < wait)
            wait = s->last_used + life - now;
    }
    if (ep->nopen[0] + ep->nopen[1] != 0)
        timer_arm(&ep->timers, &ep->idle, wait);
}

/* --- DTLS --- */

/* The peer's timer may go off meanwhile, ours need not: our flight got through. `limit` goes on. */
static void ask_key(struct cep_session *s)
{
    struct cep_endpoint *ep = s->ep;
    timer_disarm(&ep->timers, &s->dtls_timer);
    if (ep->cb.psk != NULL)
        ep->cb.psk(ep->cb.user, s->peer.serial, dtls_identity(s->dtls), dtls_server_name(s->dtls));
    else
        cep_psk(ep, s->peer.serial, NULL, 0);
}

void session_step(struct cep_session *s, enum dtls_state st)
{
    if (s->state != SESSION_HANDSHAKE) {
        if (st == DTLS_ENDED)
            session_close(s, false);
        return;
    }
    if (st == DTLS_OPEN) {
        session_open(s);
    } else if (st == DTLS_ENDED) {
        session_close(s, false);
    } else if (st == DTLS_KEY) {
        ask_key(s);
    } else {
        uint64_t wait = dtls_wait_us(s->dtls);
        if (wait != UINT64_MAX)
            timer_arm(&s->ep->timers, &s->dtls_timer, wait);
    }
}

/* The first firing on a client session begins it, later ones retransmit a flight. */
static void on_dtls_timer(void *user)
{
    struct cep_session *s = user;
    if (s->dtls == NULL)
        session_open(s);
    else
        session_step(s, dtls_timeout(s->dtls));
}

static void on_limit(void *user)
{
    session_close(user, false);
}

static void read_records(struct cep_session *s)
{
    struct cep_endpoint *ep = s->ep;
    int n = 0;
    while (s->state == SESSION_OPEN && (n = dtls_read(s->dtls, ep->plain, sizeof ep->plain)) > 0) {
        touch(s);
        message_input(s, span_of(ep->plain, (size_t)n));
        OPENSSL_cleanse(ep->plain, (size_t)n);
    }
    if (n < 0)
        session_close(s, true);
}

void session_input(struct cep_session *s, struct span datagram)
{
    session_ref(s);
    if (s->dtls != NULL) {
        session_step(s, dtls_input(s->dtls, datagram));
        read_records(s);
    } else if (s->state == SESSION_OPEN) {
        touch(s);
        message_input(s, datagram);
    }
    session_unref(s);
}

void session_send(struct cep_session *s, struct span message)
{
    if (s->state != SESSION_OPEN)
        return;
    if (s->dtls == NULL)
        udp_send(&s->path, message);
    else if (!dtls_write(s->dtls, message))
        s->ep->stats.dropped++;
}

/* --- demultiplexing on a listening socket --- */

static void plain_datagram(struct cep_endpoint *ep, const struct path *path, struct cep_session *s,
                           struct span datagram)
{
    if (s == NULL) {
        /* Only what may be a CoAP message makes a session. */
        if (datagram.n < 4 || datagram.p[0] >> 6 != 1 || (s = session_new(ep, path, false)) == NULL) {
            ep->stats.malformed++;
            return;
        }
        if (!table_add(s)) {
            session_close(s, false);
            return;
        }
        session_open(s);
    }
    session_input(s, datagram);
}

/* The clock itself, not the loop's time of waking up: members of a group must not disagree on the period. */
static uint64_t clock_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SEC + (uint64_t)t.tv_nsec / 1000;
}

/* A ClientHello that belongs to no handshake we know. Until its cookie is good nothing is kept. */
static void hello(struct cep_endpoint *ep, const struct path *path, struct cep_session *live, struct span datagram)
{
    bool cookie_sent;
    struct path from = *path;
    struct dtls *d = dtls_listen(ep->dtls, &from, path_bytes(&from), datagram, clock_us(), &cookie_sent);
    ep->stats.cookies_sent += cookie_sent;
    if (d == NULL)
        return;
    if (live != NULL && live->shadow != NULL)
        session_close(live->shadow, false); /* the peer began anew once more */
    if (live != NULL && live->state == SESSION_HANDSHAKE) {
        session_close(live, false);
        live = NULL;
    }
    if (ep->stats.handshakes >= ep->cfg.max_handshakes) {
        ep->stats.evicted++;
        session_close(TAILQ_FIRST(&ep->handshaking), false);
    }
    struct cep_session *s = session_new(ep, path, false);
    if (s == NULL) {
        dtls_free(d);
        return;
    }
    s->dtls = d;
    dtls_set_peer(d, &s->path);
    if (live != NULL) {
        s->live = live;
        live->shadow = s;
    } else if (!table_add(s)) {
        session_close(s, false);
        return;
    }
    session_input(s, span_of(NULL, 0));
}

static bool same_attempt(const struct cep_session *s, const uint8_t random[DTLS_RANDOM_LEN])
{
    return s != NULL && memcmp(dtls_random(s->dtls), random, DTLS_RANDOM_LEN) == 0;
}

static void secure_datagram(struct cep_endpoint *ep, const struct path *path, struct cep_session *s,
                            struct span datagram)
{
    struct cep_session *newest = s != NULL && s->shadow != NULL ? s->shadow : s;
    uint8_t random[DTLS_RANDOM_LEN];
    if (dtls_client_hello(datagram, random)) {
        if (same_attempt(newest, random)) {
            if (newest->state == SESSION_HANDSHAKE)
                session_input(newest, datagram); /* a retransmission */
        } else if (!same_attempt(s, random)) {
            hello(ep, path, s, datagram);
        }
        return;
    }
    if (s == NULL) {
        ep->stats.dropped++; /* RFC 6347 4.1.2.7: silently */
        return;
    }
    session_input(dtls_is_handshake(datagram) ? newest : s, datagram);
}

void session_datagram(struct cep_endpoint *ep, const struct path *path, struct span datagram, bool passed_on)
{
    struct cep_session *s = table_find(ep, path);
    if (s == NULL && !passed_on && group_pass_on(ep, path, datagram))
        return;
    if (path->sock->secure)
        secure_datagram(ep, path, s, datagram);
    else
        plain_datagram(ep, path, s, datagram);
}

/* --- public --- */

/* A client session on a socket of its own, not yet begun. */
static struct cep_session *connect_socket(struct cep_endpoint *ep, const char *host, uint16_t port, int *err)
{
    struct path path = {0};
    struct sock *sock;
    *err = udp_connect(ep, host, port, &sock, &path);
    if (*err < 0)
        return NULL;
    struct cep_session *s = session_new(ep, &path, true);
    if (s == NULL) {
        *err = -ENOMEM;
        udp_close(sock);
        return NULL;
    }
    sock->session = s;
    timer_arm(&ep->timers, &s->dtls_timer, 0);
    return s;
}

/* The DTLS side of a session just made could be made, or there is no session. */
static struct cep_session *with_dtls(struct cep_session *s, struct dtls *d, int *err)
{
    struct cep_endpoint *ep = s->ep;
    s->dtls = d;
    if (d != NULL)
        return s;
    *err = -ENOMEM;
    ep->closing = true; /* the caller has no session yet: no `closed` */
    session_close(s, false);
    ep->closing = false;
    return NULL;
}

struct cep_session *cep_connect(struct cep_endpoint *ep, const char *host, uint16_t port, const char *identity,
                                struct span key, int *err)
{
    *err = -EINVAL;
    if (identity != NULL && (key.n == 0 || key.n > DTLS_MAX_KEY || strlen(identity) > DTLS_MAX_IDENTITY))
        return NULL;
    struct cep_session *s = connect_socket(ep, host, port, err);
    if (s == NULL || identity == NULL)
        return s;
    return with_dtls(s, dtls_connect(ep->dtls, &s->path, identity, key), err);
}

struct cep_session *cep_connect_certificate(struct cep_endpoint *ep, const char *host, uint16_t port,
                                            struct cep_certs *certs, const char *server_name, int *err)
{
    *err = -EINVAL;
    if (!certs_can_verify(certs))
        return NULL;
    struct cep_session *s = connect_socket(ep, host, port, err);
    if (s == NULL)
        return NULL;
    return with_dtls(s, dtls_connect_certs(ep->dtls, &s->path, certs, server_name != NULL ? server_name : host), err);
}

struct cep_session *cep_session_find(struct cep_endpoint *ep, uint64_t serial)
{
    return map64_get(ep->by_serial, serial);
}
uint64_t cep_session_serial(const struct cep_session *s)
{
    return s->peer.serial;
}
void cep_session_close(struct cep_session *s)
{
    session_close(s, true);
}

bool cep_export(struct cep_endpoint *ep, uint64_t serial, const char *label, uint8_t *out, size_t n)
{
    struct cep_session *s = cep_session_find(ep, serial);
    return s != NULL && s->state == SESSION_OPEN && s->dtls != NULL && dtls_export(s->dtls, label, out, n);
}

void cep_psk(struct cep_endpoint *ep, uint64_t serial, const uint8_t *key, size_t n)
{
    struct cep_session *s = cep_session_find(ep, serial);
    if (s == NULL || s->dtls == NULL || !dtls_wants_key(s->dtls))
        return;
    session_ref(s);
    session_step(s, dtls_key(s->dtls, span_of(key, n)));
    session_unref(s);
}
