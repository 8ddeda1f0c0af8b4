#include "ipe-ni/gateway/egp_link.h"

#include "cse-shim/base/log.h"

#include <stdlib.h>
#include <sys/random.h>

enum { HELLO_US = 60000000 };

struct egp_link {
    struct egp_link_config cfg;
    struct stream *line;
    sd_event_source *hello;
    uint64_t transaction, refused;
};

bool egp_link_send(struct egp_link *l, struct egp_message *m)
{
    uint8_t buf[EGP_MAX_MESSAGE];
    struct wr w = wr_of(buf, sizeof buf);
    m->env.version = EGP_VERSION;
    m->env.gateway = l->cfg.gateway;
    m->env.direction = EGP_TO_EG;
    m->env.channel = l->cfg.hello.channel;
    if (m->env.transaction == 0)
        m->env.transaction = l->transaction++;
    if (egp_encode(m, &w))
        return stream_send(l->line, wr_span(&w));
    log_event(LOG_ERROR, "egp.encode", "type=%s", egp_type_name(m->env.type));
    return false;
}

static int on_hello(sd_event_source *s, uint64_t now, void *user)
{
    (void)now;
    struct egp_link *l = user;
    struct egp_message m = {.env.type = EGP_HELLO, .u.hello = l->cfg.hello};
    if (stream_is_up(l->line))
        egp_link_send(l, &m);
    sd_event_source_set_time_relative(s, HELLO_US);
    return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

static void on_up(void *user)
{
    struct egp_link *l = user;
    on_hello(l->hello, 0, l);
}

static void on_message(void *user, struct span in)
{
    struct egp_link *l = user;
    struct egp_message m;
    const char *bad = egp_decode(in, &m);
    if (bad == NULL && m.env.direction != EGP_TO_GATEWAY)
        bad = "bad-direction";
    if (bad == NULL && m.env.gateway != l->cfg.gateway)
        bad = "other-gateway";
    if (bad != NULL) {
        l->refused++;
        if ((l->refused & (l->refused - 1)) == 0) /* 1, 2, 4, ..: a noisy line must not fill the log */
            log_event(LOG_WARN, "egp.refused", "why=%s count=%llu", bad, (unsigned long long)l->refused);
        return;
    }
    l->cfg.message(l->cfg.user, &m);
}

uint64_t egp_link_refused(const struct egp_link *l) { return l->refused; }
void egp_link_stats(const struct egp_link *l, struct stream_stats *out) { stream_stats_get(l->line, out); }

struct egp_link *egp_link_new(const struct egp_link_config *cfg, char *err, size_t errlen)
{
    struct egp_link *l = calloc(1, sizeof *l);
    if (l == NULL)
        return NULL;
    l->cfg = *cfg;
    if (getrandom(&l->transaction, sizeof l->transaction, 0) == sizeof l->transaction &&
        sd_event_add_time_relative(cfg->loop, &l->hello, CLOCK_MONOTONIC, HELLO_US, 0, on_hello, l) >= 0)
        l->line = stream_new(cfg->loop, &cfg->line,
                             &(struct stream_callbacks){.user = l, .message = on_message, .up = on_up}, err, errlen);
    if (l->line != NULL)
        return l;
    egp_link_free(l);
    return NULL;
}

void egp_link_free(struct egp_link *l)
{
    if (l == NULL)
        return;
    stream_free(l->line);
    sd_event_source_disable_unref(l->hello);
    free(l);
}
