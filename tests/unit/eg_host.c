/* The host of eg_fixture.h: what the plugin asks of it is kept for the test to see. */
#include "tests/unit/eg_fixture.h"

static void host_respond(struct cse_host *h, struct cse_request *req, struct cse_response *rsp)
{
    (void)h;
    struct call *c = (struct call *)req;
    c->answers++;
    c->st = rsp->status;
    snprintf(c->code, sizeof c->code, "%s", rsp->code != NULL ? rsp->code : "");
    c->format = rsp->content_format;
    c->pc = rsp->pc;
    c->n = rsp->body.n;
    assert_true(c->n <= sizeof c->body);
    if (c->n != 0)
        memcpy(c->body, rsp->body.p, c->n);
}

static uint64_t host_observe(struct cse_host *h, struct cse_request *req)
{
    return ((struct call *)req)->observation = ++h->last_id;
}

static void host_notify(struct cse_host *h, uint64_t observation, const struct cse_response *rsp, bool queue)
{
    (void)queue;
    assert_true(h->nnotes < 128 && rsp->body.n <= EGP_MAX_NWK);
    size_t i = h->nnotes++;
    h->notes[i].observation = observation;
    h->notes[i].n = rsp->body.n;
    if (rsp->body.n != 0)
        memcpy(h->notes[i].body, rsp->body.p, rsp->body.n);
    if (rsp->pc != NULL)
        snprintf(h->notes[i].state, 32, "%s", cJSON_GetObjectItem(rsp->pc, "state")->valuestring);
    cJSON_Delete(rsp->pc);
}

static void host_observe_cancel(struct cse_host *h, uint64_t observation)
{
    (void)observation;
    h->ncancelled++;
}

static bool host_send(struct cse_host *h, uint64_t session, const char *path, unsigned format, struct span body,
                      void (*done)(void *, enum st, struct span), void *user)
{
    assert_string_equal(path, "eg");
    assert_int_equal(format, 60);
    assert_true(h->nsent < 64 && done != NULL);
    if (h->disconnected)
        return false;
    struct sent *s = &h->sent[h->nsent++];
    *s = (struct sent){.session = session, .n = body.n, .done = done, .user = user};
    memcpy(s->body, body.p, body.n);
    return true;
}

static uint64_t host_timer(struct cse_host *h, uint64_t ms, void (*fn)(void *), void *user)
{
    for (size_t i = 0; i < 64; i++)
        if (h->timers[i].id == 0) {
            h->timers[i] = (struct host_timer){++h->last_id, h->clock + ms, fn, user};
            return h->last_id;
        }
    fail_msg("too many timers");
    return 0;
}

static void host_timer_cancel(struct cse_host *h, uint64_t id)
{
    for (size_t i = 0; i < 64; i++)
        if (h->timers[i].id == id)
            h->timers[i].id = 0;
}

static void host_post(struct cse_host *h, void (*fn)(void *), void *user) { loop_post(h->loop, fn, user); }
static uint64_t host_now(struct cse_host *h) { return h->clock; }
static int64_t host_time(struct cse_host *h) { return 1790000000000 + (int64_t)h->clock; }

uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static bool host_random(struct cse_host *h, void *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)out)[i] = (uint8_t)next_random(&h->rng);
    return true;
}

static void host_count(struct cse_host *h, const char *name, uint64_t add)
{
    size_t i = 0;
    while (i < 63 && h->metrics[i].name != NULL && strcmp(h->metrics[i].name, name) != 0)
        i++;
    h->metrics[i].name = name;
    h->metrics[i].n += add;
}

static void host_gauge(struct cse_host *h, const char *name, int64_t value) { (void)h, (void)name, (void)value; }
static void host_fatal(struct cse_host *h, const char *why)
{
    if (!h->may_end)
        fail_msg("fatal: %s", why);
    h->ended = true;
}

const struct cse_host_ops host_ops = {
    .abi = CSE_PLUGIN_ABI, .respond = host_respond, .observe = host_observe, .notify = host_notify,
    .observe_cancel = host_observe_cancel, .send = host_send, .timer = host_timer, .timer_cancel = host_timer_cancel,
    .post = host_post, .now = host_now, .time = host_time, .random = host_random, .count = host_count,
    .gauge = host_gauge, .fatal = host_fatal,
};

bool vault_random(void *user, void *out, size_t n) { return host_random(user, out, n); }
int64_t audit_time(void *user) { return host_time(user); }
