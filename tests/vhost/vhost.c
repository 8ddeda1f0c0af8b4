#include "tests/vhost/vhost.h"

#include "cse-shim/base/map64.h"
#include "mef-plugin/mef/answers.h"
#include "tests/vhost/internal.h"

#include <stdio.h>
#include <stdlib.h>

/* --- time --------------------------------------------------------------------------------------------------------- */

static bool before(const struct vevent *a, const struct vevent *b)
{
    return a->at != b->at ? a->at < b->at : a->seq < b->seq;
}

static void swap(struct vevent *a, struct vevent *b)
{
    struct vevent t = *a;
    *a = *b;
    *b = t;
}

void vhost_at(struct cse_host *h, uint64_t in_ms, void (*fn)(void *user, uint64_t arg), void *user, uint64_t arg)
{
    if (h->nevents == h->event_cap) {
        h->event_cap = h->event_cap * 2 + 64;
        h->events = realloc(h->events, h->event_cap * sizeof *h->events);
        if (h->events == NULL)
            abort();
    }
    size_t i = h->nevents++;
    h->events[i] = (struct vevent){h->now + in_ms, ++h->event_seq, fn, user, arg};
    for (; i > 0 && before(&h->events[i], &h->events[(i - 1) / 2]); i = (i - 1) / 2)
        swap(&h->events[i], &h->events[(i - 1) / 2]);
}

static struct vevent take_event(struct cse_host *h)
{
    struct vevent first = h->events[0];
    h->events[0] = h->events[--h->nevents];
    for (size_t i = 0, child; (child = 2 * i + 1) < h->nevents; i = child) {
        if (child + 1 < h->nevents && before(&h->events[child + 1], &h->events[child]))
            child++;
        if (!before(&h->events[child], &h->events[i]))
            break;
        swap(&h->events[i], &h->events[child]);
    }
    return first;
}

bool vhost_step(struct cse_host *h)
{
    if (h->nevents == 0)
        return false;
    struct vevent e = take_event(h);
    h->now = e.at;
    e.fn(e.user, e.arg);
    vhost_turn(h);
    return true;
}

void vhost_run(struct cse_host *h, uint64_t until_ms)
{
    while (h->nevents > 0 && h->events[0].at <= until_ms)
        vhost_step(h);
    if (h->now < until_ms)
        h->now = until_ms;
}

uint64_t vhost_now(const struct cse_host *h)
{
    return h->now;
}

static uint64_t next_random(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

uint64_t vhost_random(struct cse_host *h, uint64_t below)
{
    return next_random(&h->test_rng) % below;
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

static void call_free(struct vcall *c)
{
    cJSON_Delete((cJSON *)c->req.pc);
    for (size_t i = 0; i < VHOST_TEXTS; i++)
        free(c->texts[i]);
    free(c->body);
    free(c);
}

/* A call's texts live as long as the call. */
static const char *keep(struct vcall *c, const char *text)
{
    if (text == NULL)
        return NULL;
    char *copy = strdup(text);
    if (copy == NULL)
        abort();
    return c->texts[c->ntexts++] = copy;
}

static void mount_of(struct cse_host *h, struct cse_request *req)
{
    size_t best = 0;
    for (size_t i = 0; i < h->nmounts; i++) {
        size_t n = strlen(h->mounts[i].prefix);
        bool below = strncmp(req->path, h->mounts[i].prefix, n) == 0 && (req->path[n] == '/' || req->path[n] == '\0');
        if (below && n >= best) {
            best = n;
            req->mount = h->mounts[i].how;
        }
    }
}

static unsigned format_of(const struct vask *a, const struct cse_request *req)
{
    if (a->body.n == 0)
        return CSE_NO_FORMAT;
    if (a->format != 0)
        return a->format;
    if (req->mount != CSE_RAW)
        return 50;
    return strstr(req->path, "/frames/") != NULL ? 42 : strchr(req->path + 4, '/') == NULL ? 60 : 50;
}

static struct vcall *call_of(struct cse_host *h, const struct vask *a)
{
    struct vcall *c = calloc(1, sizeof *c);
    if (c == NULL || (c->body = malloc(a->body.n + 1)) == NULL)
        abort();
    if (a->body.n != 0)
        memcpy(c->body, a->body.p, a->body.n);
    struct cse_request *r = &c->req;
    *r = (struct cse_request){.binding = CSE_COAP,
                              .op = a->op,
                              .path = keep(c, a->path),
                              .params = c->params,
                              .from = keep(c, a->from),
                              .ty = a->ty == 0 ? -1 : a->ty,
                              .accept = CSE_NO_FORMAT,
                              .body = span_of(c->body, a->body.n),
                              .authorization = keep(c, a->authorization),
                              .observe = a->observe,
                              .peer = {a->session, a->identity != NULL ? CSE_CRED_PSK : CSE_CRED_NONE,
                                       keep(c, a->identity != NULL ? a->identity : ""), "192.0.2.1:5684", ""}};
    for (; r->nparams < 4 && a->query[r->nparams][0] != NULL; r->nparams++)
        c->params[r->nparams] = (struct cse_param){keep(c, a->query[r->nparams][0]), keep(c, a->query[r->nparams][1])};
    mount_of(h, r);
    r->content_format = format_of(a, r);
    if (r->mount != CSE_RAW && a->body.n != 0)
        r->pc = cJSON_ParseWithLength((const char *)c->body, a->body.n);
    c->done = a->done;
    c->user = a->user;
    c->tag = a->tag;
    return c;
}

void vhost_ask(struct cse_host *h, const struct vask *a)
{
    if (!vhost_running(h))
        return;
    struct vcall *c = call_of(h, a);
    c->next = h->calls;
    h->calls = c;
    h->stats.asked++;
    h->plugin->handle(h->self, &c->req);
    vhost_turn(h);
}

/* The call leaves the list of open ones; false: it is not one (answered before). */
static bool unlink_call(struct cse_host *h, const struct cse_request *req)
{
    for (struct vcall **at = &h->calls; *at != NULL; at = &(*at)->next)
        if (&(*at)->req == req) {
            *at = (*at)->next;
            return true;
        }
    return false;
}

static void op_respond(struct cse_host *h, struct cse_request *req, struct cse_response *rsp)
{
    struct vcall *c = (struct vcall *)req;
    if (h->dead || !unlink_call(h, req)) {
        h->stats.twice += !h->dead;
        json_wipe(rsp->pc);
        return;
    }
    h->stats.answered++;
    struct vanswer a = {rsp->status,
                        rsp->body,
                        rsp->pc,
                        rsp->code != NULL ? rsp->code : "",
                        rsp->location != NULL ? rsp->location : "",
                        rsp->sensitive,
                        c->observation};
    if (c->done != NULL)
        c->done(c->user, c->tag, &a);
    json_wipe(rsp->pc);
    call_free(c);
}

static uint64_t op_observe(struct cse_host *h, struct cse_request *req)
{
    return ((struct vcall *)req)->observation = ++h->observations;
}

static void op_notify(struct cse_host *h, uint64_t observation, const struct cse_response *rsp, bool queue)
{
    (void)queue;
    if (!h->dead && h->peers.notified != NULL)
        h->peers.notified(h->peers.user, observation, rsp);
    json_wipe(rsp->pc);
}

static void op_observe_cancel(struct cse_host *h, uint64_t observation)
{
    (void)h, (void)observation;
}

void vhost_observe_end(struct cse_host *h, uint64_t observation)
{
    if (vhost_running(h))
        h->plugin->observe_end(h->self, observation);
}

/* --- sessions and the plugin's own messages ----------------------------------------------------------------------- */

uint64_t vhost_session(struct cse_host *h)
{
    uint64_t id = ++h->sessions;
    if (!map64_put(h->open_sessions, id, h))
        abort();
    return id;
}

bool vhost_session_open(const struct cse_host *h, uint64_t session)
{
    return map64_get(h->open_sessions, session) != NULL;
}

void vhost_session_end(struct cse_host *h, uint64_t session)
{
    if (map64_del(h->open_sessions, session) != NULL && vhost_running(h))
        h->plugin->session_end(h->self, session);
}

static bool op_send(struct cse_host *h, uint64_t session, const char *path, unsigned format, struct span body,
                    void (*done)(void *user, enum st st, struct span body), void *user)
{
    (void)path, (void)format;
    struct vsend *s = h->dead || !vhost_session_open(h, session) ? NULL : calloc(1, sizeof *s);
    if (s == NULL)
        return false;
    *s = (struct vsend){h->sends, ++h->send_ids, done, user};
    h->sends = s;
    if (h->peers.sent != NULL)
        h->peers.sent(h->peers.user, session, s->id, body);
    return true;
}

void vhost_sent(struct cse_host *h, uint64_t id, enum st st)
{
    for (struct vsend **at = &h->sends, *s; (s = *at) != NULL; at = &s->next) {
        if (s->id != id)
            continue;
        *at = s->next;
        s->done(s->user, st, (struct span){0});
        free(s);
        return;
    }
}

static bool op_export_key(struct cse_host *h, uint64_t session, const char *label, uint8_t *out, size_t n)
{
    (void)label;
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)(session * 31 + i);
    return vhost_session_open(h, session);
}

/* --- the rest of the host ----------------------------------------------------------------------------------------- */

static bool op_mount(struct cse_host *h, const char *prefix, enum cse_mount how)
{
    if (h->nmounts == VHOST_MOUNTS)
        return false;
    h->mounts[h->nmounts].how = how;
    return snprintf(h->mounts[h->nmounts++].prefix, sizeof h->mounts[0].prefix, "%s", prefix) > 0;
}

static void fire(void *user, uint64_t id)
{
    struct cse_host *h = user;
    for (struct vtimer **at = &h->timers, *t; (t = *at) != NULL; at = &t->next) {
        if (t->id != id)
            continue;
        *at = t->next;
        t->fn(t->user);
        free(t);
        return;
    }
}

static uint64_t op_timer(struct cse_host *h, uint64_t ms, void (*fn)(void *user), void *user)
{
    struct vtimer *t = malloc(sizeof *t);
    if (t == NULL)
        abort();
    *t = (struct vtimer){h->timers, ++h->timer_ids, fn, user};
    h->timers = t;
    vhost_at(h, ms, fire, h, t->id);
    return t->id;
}

static void op_timer_cancel(struct cse_host *h, uint64_t id)
{
    for (struct vtimer **at = &h->timers, *t; (t = *at) != NULL; at = &t->next)
        if (t->id == id) {
            *at = t->next;
            free(t);
            return;
        }
}

static void op_post(struct cse_host *h, void (*fn)(void *user), void *user)
{
    struct vpost *p = malloc(sizeof *p);
    if (p == NULL)
        abort();
    *p = (struct vpost){NULL, fn, user};
    pthread_mutex_lock(&h->post_lock);
    struct vposts *q = pthread_equal(pthread_self(), h->loop) ? &h->own : &h->committers;
    *q->end = p;
    q->end = &p->next;
    pthread_mutex_unlock(&h->post_lock);
}

static uint64_t op_now(struct cse_host *h)
{
    return h->now;
}
static int64_t op_time(struct cse_host *h)
{
    return VHOST_EPOCH + (int64_t)h->now;
}
static bool op_random(struct cse_host *h, void *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)out)[i] = (uint8_t)(next_random(&h->plugin_rng) >> 56);
    return true;
}
static void op_count(struct cse_host *h, const char *name, uint64_t add)
{
    (void)h, (void)name, (void)add;
}
static void op_gauge(struct cse_host *h, const char *name, int64_t value)
{
    (void)h, (void)name, (void)value;
}
static void op_fatal(struct cse_host *h, const char *why)
{
    (void)why;
    h->stats.fatal += !h->dead;
}

const struct cse_host_ops vhost_ops = {
    CSE_PLUGIN_ABI,  op_mount, op_respond, op_observe, op_notify, op_observe_cancel, op_send,  op_export_key, op_timer,
    op_timer_cancel, op_post,  op_now,     op_time,    op_random, op_count,          op_gauge, op_fatal};

/* Nothing of a process that ended is left: it takes its requests, messages and timers with it. */
void vhost_forget(struct cse_host *h)
{
    for (struct vcall *c = h->calls, *next; c != NULL; c = next) {
        next = c->next;
        h->stats.lost++;
        call_free(c);
    }
    h->calls = NULL;
    while (h->timers != NULL)
        op_timer_cancel(h, h->timers->id);
    map64_free(h->open_sessions);
    h->open_sessions = map64_new();
    h->nmounts = 0;
}

struct vhost_stats vhost_stats(const struct cse_host *h)
{
    struct vhost_stats s = h->stats;
    for (const struct vcall *c = h->calls; c != NULL; c = c->next)
        s.open++;
    return s;
}
