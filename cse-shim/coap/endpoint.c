#include "cse-shim/coap/internal.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdlib.h>

uint64_t random64(void)
{
    uint64_t v = 0;
    /* The default generator only fails when it cannot be seeded, which cep_endpoint_new() has checked. */
    RAND_bytes((uint8_t *)&v, sizeof v);
    return v;
}

static void hook_send(void *user, void *peer, struct span datagram)
{
    (void)user;
    udp_send(peer, datagram);
}

static struct cep_config with_defaults(const struct cep_config *cfg)
{
    struct cep_config c = cfg != NULL ? *cfg : (struct cep_config){0};
    if (c.max_sessions == 0)
        c.max_sessions = 10000;
    if (c.max_handshakes == 0)
        c.max_handshakes = 1000;
    if (c.max_body == 0)
        c.max_body = 65536;
    if (c.idle_seconds == 0)
        c.idle_seconds = 86400;
    if (c.ack_timeout_ms == 0)
        c.ack_timeout_ms = 2000;
    if (c.max_retransmit == 0)
        c.max_retransmit = 4;
    if (c.confirm_seconds == 0)
        c.confirm_seconds = 86400;
    if (c.mtu == 0)
        c.mtu = 1152;
    if (c.mtu < 256)
        c.mtu = 256;
    if (c.mtu > 1472)
        c.mtu = 1472;
    return c;
}

static bool make_maps(struct cep_endpoint *ep)
{
    struct map64 **maps[] = {&ep->by_path, &ep->by_serial, &ep->requests, &ep->observations, &ep->txs, &ep->seen};
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++)
        if ((*maps[i] = map64_new()) == NULL)
            return false;
    return true;
}

static void recheck(void *user); /* below, with certificates */
static bool make_dtls(struct cep_endpoint *ep)
{
    struct dtls_hooks hooks = {ep, hook_send};
    uint8_t own[COOKIE_MASTER_LEN];
    if (RAND_bytes(own, sizeof own) != 1)
        return false;
    ep->dtls = dtls_ctx_new(&hooks, ep->cfg.mtu, ep->cfg.group != NULL ? group_master(ep->cfg.group) : own);
    OPENSSL_cleanse(own, sizeof own);
    return ep->dtls != NULL;
}

struct cep_endpoint *cep_endpoint_new(sd_event *loop, const struct cep_config *cfg, const struct cep_callbacks *cb)
{
    struct cep_endpoint *ep = calloc(1, sizeof *ep);
    if (ep == NULL)
        return NULL;
    pdu_library_init();
    ep->loop = sd_event_ref(loop);
    ep->cfg = with_defaults(cfg);
    ep->cb = *cb;
    LIST_INIT(&ep->socks);
    TAILQ_INIT(&ep->handshaking);
    TAILQ_INIT(&ep->open[0]);
    TAILQ_INIT(&ep->open[1]);
    TAILQ_INIT(&ep->seen_age);
    ep->idle = (struct timer){.fire = session_expire, .user = ep};
    ep->seen_timer = (struct timer){.fire = seen_expire, .user = ep};
    ep->recheck = (struct timer){.fire = recheck, .user = ep};
    if (timers_init(&ep->timers, loop) && make_maps(ep) && (ep->batch = udp_batch_new()) != NULL && make_dtls(ep) &&
        RAND_bytes((uint8_t *)ep->secret, sizeof ep->secret) == 1 && group_join(ep))
        return ep;
    cep_endpoint_free(ep);
    return NULL;
}

static bool close_one(void *user, uint64_t serial, void *session)
{
    (void)serial;
    *(struct cep_session **)user = session;
    return false;
}

static void close_all(struct cep_endpoint *ep)
{
    while (ep->by_serial != NULL && map64_count(ep->by_serial) != 0) {
        struct cep_session *s = NULL;
        map64_each(ep->by_serial, close_one, &s);
        session_close(s, true);
    }
}

void cep_endpoint_free(struct cep_endpoint *ep)
{
    if (ep == NULL)
        return;
    ep->closing = true;
    close_all(ep);
    server_drop_orphans(ep);
    sd_event_source_disable_unref(ep->mail);
    while (!LIST_EMPTY(&ep->socks))
        udp_close(LIST_FIRST(&ep->socks));
    dtls_ctx_free(ep->dtls);
    udp_batch_free(ep->batch);
    struct map64 *maps[] = {ep->by_path, ep->by_serial, ep->requests, ep->observations, ep->txs, ep->seen};
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++)
        map64_free(maps[i]);
    timers_wipe(&ep->timers);
    free(ep->unchecked);
    sd_event_unref(ep->loop);
    OPENSSL_cleanse(ep->out, sizeof ep->out);
    free(ep);
}

int cep_listen(struct cep_endpoint *ep, const char *host, uint16_t port, bool secure, uint16_t *bound)
{
    struct sock *s;
    int err = udp_listen(ep, host, port, &s, bound);
    if (err == 0)
        s->secure = secure;
    return err;
}

/* --- certificates --- */

#define RECHECK_AT_ONCE 16 /* chains, about 5 ms */
#define RECHECK_PAUSE_US 1000

/* Close those whose certificate is not good any more, some at a time: others are served meanwhile. */
static void recheck(void *user)
{
    struct cep_endpoint *ep = user;
    for (int i = 0; i < RECHECK_AT_ONCE && ep->nunchecked > 0; i++) {
        struct cep_session *s = map64_get(ep->by_serial, ep->unchecked[--ep->nunchecked]);
        if (s != NULL && !dtls_recheck(s->dtls))
            session_close(s, true);
    }
    if (ep->nunchecked > 0)
        timer_arm(&ep->timers, &ep->recheck, RECHECK_PAUSE_US);
}

static bool note_certified(void *user, uint64_t serial, void *session)
{
    struct cep_endpoint *ep = user;
    struct cep_session *s = session;
    if (s->dtls != NULL && (dtls_certified(s->dtls) || !dtls_recheck(s->dtls)))
        ep->unchecked[ep->nunchecked++] = serial;
    return true;
}

void cep_endpoint_certificates(struct cep_endpoint *ep, struct cep_certs *certs, bool optional)
{
    dtls_ctx_certificates(ep->dtls, certs, optional);
    free(ep->unchecked);
    ep->nunchecked = 0;
    ep->unchecked = calloc(map64_count(ep->by_serial) + 1, sizeof *ep->unchecked);
    if (ep->unchecked != NULL)
        map64_each(ep->by_serial, note_certified, ep);
    else
        close_all(ep); /* out of memory: rather all than one too few */
    recheck(ep);
}

void cep_stats_get(const struct cep_endpoint *ep, struct cep_stats *out)
{
    *out = ep->stats;
}

/* --- messages to be handed on --- */

struct cep_message *cep_message_copy(const struct cep_message *m)
{
    struct message *copy = message_copy(m);
    return copy != NULL ? &copy->m : NULL;
}

void cep_message_free(struct cep_message *m)
{
    message_free((struct message *)m); /* its first member */
}
