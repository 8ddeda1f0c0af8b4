/* Opening, options, routes, and what every file of eg/ needs. */
#include "mef-plugin/eg/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

const struct conf_option eg_options[] = {
    {"eg", "allow-short-install-codes", CONF_BOOL, "false", 0, 0, "Accept install codes of 6, 8 and 12 bytes, too"},
    {"eg", "pending-seconds", CONF_INT, "60", 1, 3600, "How long a sent key may await the device's first frame, s"},
    {"eg", "exchange-seconds", CONF_INT, "60", 5, 3600,
     "How long a device that has the network key may take to exchange a link key of its own, s"},
    {"eg", "rearm-seconds", CONF_INT, "600", 10, 86400, "How long the window of a rearm is open, s"},
    {"eg", "key-rate", CONF_INT, "1", 1, 1000, "Repeats of a first key at one gateway for one EUI-64, per second"},
    {"eg", "key-burst", CONF_INT, "8", 1, 1000, "Repeats of a first key at one gateway for one EUI-64, at once"},
    {"eg", "ticket-rate", CONF_INT, "16", 1, 1000, "Counters of one device handed to AEs, per second"},
    {"eg", "ticket-burst", CONF_INT, "64", 16, 10000, "Counters of one device handed to AEs at once"},
    {"eg", "key-lifetime-days", CONF_INT, "3650", 1, 36500, "Expiration of a published network key, days"},
    {"eg", "max-devices", CONF_INT, "1000000", 1, 100000000, "Install codes and devices"},
    {"eg", "max-gateways", CONF_INT, "10000", 1, 1000000, "Gateways"},
    {"eg", "stored-responses", CONF_INT, "64", 8, 1024, "Responses kept for repeated requests, per gateway"},
    {"eg", "kept-frames", CONF_INT, "32", 1, 256, "Newest application frames kept in memory, per device"},
    {"eg", "max-observers", CONF_INT, "16", 1, 10000, "Observations of one device"},
    {0}};

uint64_t eg_now(struct eg *e)
{
    return e->d.ops->now(e->d.host);
}
int64_t eg_time(struct eg *e)
{
    return e->d.ops->time(e->d.host);
}
void eg_count(struct eg *e, const char *metric)
{
    e->d.ops->count(e->d.host, metric, 1);
}

void eg_gauges(struct eg *e)
{
    e->d.ops->gauge(e->d.host, "eg_gateways", (int64_t)map64_count(e->gateways));
    e->d.ops->gauge(e->d.host, "eg_devices", (int64_t)(map64_count(e->codes) + e->codeless));
    e->d.ops->gauge(e->d.host, "eg_install_codes", (int64_t)map64_count(e->codes));
    e->d.ops->gauge(e->d.host, "eg_observations", (int64_t)map64_count(e->observers));
}

struct span eui_key(eui64_t eui, uint8_t buf[8])
{
    struct wr w = wr_of(buf, 8);
    wr_be64(&w, eui);
    return wr_span(&w);
}

/* Generic cell rate: `since` is when the bucket would have been empty; refilling since then gives its level. */
bool bucket_take(struct bucket *b, uint64_t now, uint64_t rate, uint64_t burst, uint64_t n)
{
    uint64_t full = burst * 1000 / rate, cost = n * 1000 / rate;
    now += full; /* so that a clock near 0 has a past */
    if (b->since == 0 || now - b->since > full)
        b->since = now - full;
    if (now - b->since < cost)
        return false;
    b->since += cost;
    return true;
}

/* --- answers ------------------------------------------------------------------------------------------------------ */

void eg_respond(struct eg *e, struct cse_request *req, enum st st, const char *code)
{
    struct cse_response rsp = {.status = st, .code = code, .content_format = CSE_NO_FORMAT};
    e->d.ops->respond(e->d.host, req, &rsp);
}

void eg_respond_bytes(struct eg *e, struct cse_request *req, enum st st, unsigned format, struct span body)
{
    struct cse_response rsp = {.status = st, .body = body, .content_format = format};
    e->d.ops->respond(e->d.host, req, &rsp);
}

struct egp_message eg_message(enum egp_type type, uint64_t transaction, eui64_t gateway, eui64_t device)
{
    return (struct egp_message){.env = {.version = EGP_VERSION,
                                        .type = (uint8_t)type,
                                        .transaction = transaction,
                                        .gateway = gateway,
                                        .device = device,
                                        .direction = EGP_TO_GATEWAY}};
}

static void ignore_answer(void *user, enum st st, struct span body)
{
    (void)user, (void)st, (void)body;
}

bool eg_send(struct eg *e, struct gateway *g, const struct egp_message *m,
             void (*done)(void *user, enum st st, struct span body), void *user)
{
    uint8_t buf[EGP_MAX_MESSAGE];
    struct wr w = wr_of(buf, sizeof buf);
    return g->session != 0 && mef_credential_role(e->d.mef, g->row.admin, g->row.identity) == MEF_ROLE_GATEWAY &&
           egp_encode(m, &w) &&
           e->d.ops->send(e->d.host, g->session, "eg", EG_FORMAT_CBOR, wr_span(&w), done != NULL ? done : ignore_answer,
                          user);
}

void eg_audit(struct eg *e, struct store_txn *t, const char *admin, const char *actor, const char *action,
              eui64_t object, const char *outcome)
{
    char text[17];
    eui64_print(object, text);
    struct audit_event ev = {.admin = admin, .actor = actor, .action = action, .object = text, .outcome = outcome};
    if (t != NULL)
        audit_add(e->d.audit, t, &ev);
    else
        audit_note(e->d.audit, &ev);
}

/* --- loading ------------------------------------------------------------------------------------------------------ */

struct loading {
    struct eg *e;
    bool (*take)(struct eg *e, struct span key, struct span val);
    bool ok;
};

static bool load_row(void *user, struct span key, struct span val)
{
    struct loading *l = user;
    return l->ok = l->take(l->e, key, val);
}

enum st eg_load(struct eg *e, enum store_table table, bool (*take)(struct eg *e, struct span key, struct span val))
{
    struct loading l = {e, take, true};
    enum st st = store_each(e->d.store, table, load_row, &l);
    return st == ST_OK && !l.ok ? ST_INTERNAL : st;
}

/* --- pages -------------------------------------------------------------------------------------------------------- */

struct page {
    bool (*own)(const void *object, const char *admin);
    const char *admin;
    uint64_t *keys, after;
    size_t n, limit;
};

/* Insertion into the sorted page; what does not fit falls off its end. */
static bool page_visit(void *user, uint64_t key, void *value)
{
    struct page *p = user;
    if (key <= p->after || (p->n == p->limit && key > p->keys[p->n - 1]) || !p->own(value, p->admin))
        return true;
    size_t i = p->n < p->limit ? p->n++ : p->n - 1;
    for (; i > 0 && p->keys[i - 1] > key; i--)
        p->keys[i] = p->keys[i - 1];
    p->keys[i] = key;
    return true;
}

cJSON *eg_list(struct eg *e, const struct listing *l, const char *admin, eui64_t after, size_t limit)
{
    size_t count = 0;
    for (size_t i = 0; i < 2; i++)
        count += l->tables[i].map != NULL ? map64_count(l->tables[i].map) : 0;
    struct page p = {.admin = admin, .after = after, .limit = limit < count ? limit : count};
    cJSON *list = cJSON_CreateArray();
    p.keys = p.limit == 0 ? NULL : calloc(p.limit, sizeof *p.keys);
    for (size_t i = 0; i < 2 && p.keys != NULL; i++) {
        p.own = l->tables[i].own;
        if (l->tables[i].map != NULL)
            map64_each(l->tables[i].map, page_visit, &p);
    }
    for (size_t i = 0; p.keys != NULL && i < p.n; i++)
        cJSON_AddItemToArray(list, l->get(e, admin, p.keys[i]));
    free(p.keys);
    return list;
}

/* --- messages of gateways ----------------------------------------------------------------------------------------- */

static void on_hello(struct eg *e, struct gateway *g, struct cse_request *req, const struct egp_message *m)
{
    g->ext_pan_id = m->u.hello.ext_pan_id; /* gateway_heard did the rest */
    eg_respond(e, req, ST_UPDATED, NULL);
}

static void on_tx_result(struct eg *e, struct gateway *g, struct cse_request *req, const struct egp_message *m)
{
    static const char *const metric[] = {"eg_tx_acked_total", "eg_tx_no_ack_total", "eg_tx_expired_total",
                                         "eg_tx_channel_busy_total"};
    if (m->u.tx_result.result < sizeof metric / sizeof metric[0])
        eg_count(e, metric[m->u.tx_result.result]);
    struct device *d = map64_get(e->devices, m->env.device);
    if (d != NULL)
        pending_delivered(d, g->eui, m->env.transaction, m->u.tx_result.result == EGP_TX_ACKED);
    log_event(LOG_DEBUG, "eg.tx-result", "gateway=%016" PRIx64 " device=%016" PRIx64 " result=%u tries=%u", g->eui,
              m->env.device, m->u.tx_result.result, m->u.tx_result.tries);
    eg_respond(e, req, ST_UPDATED, NULL);
}

static void on_stale(struct eg *e, struct gateway *g, struct cse_request *req, const struct egp_message *m)
{
    eg_count(e, "eg_stale_total");
    log_event(LOG_INFO, "eg.stale", "gateway=%016" PRIx64 " device=%016" PRIx64 " counter=%u last=%u", g->eui,
              m->env.device, m->u.stale.counter, m->u.stale.last);
    outbox_stale(e, g, m->env.transaction);
    eg_respond(e, req, ST_UPDATED, NULL);
}

static void (*const handlers[EGP_TYPES])(struct eg *e, struct gateway *g, struct cse_request *req,
                                         const struct egp_message *m) = {
    [EGP_HELLO] = on_hello,         [EGP_REQUEST] = enrol_request, [EGP_UPLINK] = uplink_frame,
    [EGP_TX_RESULT] = on_tx_result, [EGP_STALE] = on_stale,
};

/* Invariant: a message counts only from the identity that its gateway's record names. */
static struct gateway *bound_gateway(struct eg *e, const struct cse_peer *peer, eui64_t eui)
{
    struct gateway *g = gateway_find(e, eui);
    if (g == NULL)
        return NULL;
    struct mef_principal p = mef_principal_of(e->d.mef, peer, g->row.admin, NULL);
    return p.role == MEF_ROLE_GATEWAY && strcmp(p.credential, g->row.identity) == 0 ? g : NULL;
}

static bool format_fits(unsigned said, unsigned ours)
{
    return said == CSE_NO_FORMAT || ours == CSE_NO_FORMAT || said == ours;
}

static void on_message(struct eg *e, struct cse_request *req)
{
    struct egp_message m;
    if (!format_fits(req->content_format, EG_FORMAT_CBOR)) {
        eg_respond(e, req, ST_UNSUPPORTED_MEDIA, NULL);
        return;
    }
    if (req->body.n > EGP_MAX_MESSAGE) {
        eg_respond(e, req, ST_TOO_LARGE, "too-large");
        return;
    }
    const char *wrong = egp_decode(req->body, &m);
    if (wrong == NULL && handlers[m.env.type] == NULL) /* the codec has checked that type and direction agree */
        wrong = "bad-direction";
    if (wrong != NULL) {
        eg_count(e, "eg_undecodable_total");
        eg_respond(e, req, ST_BAD_REQUEST, wrong);
        return;
    }
    struct gateway *g = bound_gateway(e, &req->peer, m.env.gateway);
    if (g == NULL)
        enrol_not_bound(e, req, &m);
    else if (!gateway_heard(e, g, req->peer.session))
        eg_respond(e, req, ST_UNAVAILABLE, NULL);
    else
        handlers[m.env.type](e, g, req, &m);
}

/* --- routes ------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *before, *behind; /* of the EUI-64 in the path */
    unsigned format; /* of what is retrieved and of what is posted; CSE_NO_FORMAT: a tree, to which the host has seen */
    void (*get)(struct eg *e, struct cse_request *req, eui64_t eui);
    void (*post)(struct eg *e, struct cse_request *req, eui64_t eui);
} routes[] = {
    {"devices/", "", CSE_NO_FORMAT, device_retrieve, NULL},
    {"devices/", "/ticket", CSE_NO_FORMAT, NULL, downlink_ticket},
    {"frames/", "", EG_FORMAT_OCTETS, frames_retrieve, downlink_frame},
};

static bool route_matches(const char *path, const char *before, const char *behind, eui64_t *eui)
{
    char text[17];
    size_t n = strlen(before);
    if (strncmp(path, before, n) != 0 || strnlen(path + n, 16) < 16 || strcmp(path + n + 16, behind) != 0)
        return false;
    memcpy(text, path + n, 16);
    text[16] = '\0';
    return eui64_parse(text, eui);
}

static void on_resource(struct eg *e, struct cse_request *req, const char *path)
{
    eui64_t eui;
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (!route_matches(path, routes[i].before, routes[i].behind, &eui))
            continue;
        void (*fn)(struct eg *, struct cse_request *, eui64_t) = NULL;
        if (req->op == CSE_RETRIEVE)
            fn = routes[i].get;
        else if (req->op == CSE_CREATE)
            fn = routes[i].post;
        if (fn == NULL)
            eg_respond(e, req, ST_NOT_ALLOWED, NULL);
        else if (req->op == CSE_RETRIEVE && !format_fits(req->accept, routes[i].format))
            eg_respond(e, req, ST_NOT_ACCEPTABLE, NULL);
        else if (req->op == CSE_CREATE && !format_fits(req->content_format, routes[i].format))
            eg_respond(e, req, ST_UNSUPPORTED_MEDIA, NULL);
        else
            fn(e, req, eui);
        return;
    }
    eg_respond(e, req, ST_NOT_FOUND, NULL);
}

void eg_handle(struct eg *e, struct cse_request *req)
{
    const char *base = mef_base(e->d.mef), *path = req->path;
    size_t n = strlen(base);
    bool ours = strncmp(path, base, n) == 0 && strncmp(path + n, "/eg", 3) == 0;
    const char *below = ours ? path + n + 3 : "?";
    if (*below == '/')
        on_resource(e, req, below + 1);
    else if (*below != '\0')
        eg_respond(e, req, ST_NOT_FOUND, NULL);
    else if (req->op != CSE_CREATE)
        eg_respond(e, req, ST_NOT_ALLOWED, NULL);
    else
        on_message(e, req);
}

static bool end_session(void *user, uint64_t key, void *value)
{
    (void)key;
    struct gateway *g = value;
    if (g->session == *(const uint64_t *)user)
        g->session = 0;
    return true;
}

void eg_session_end(struct eg *e, uint64_t session)
{
    map64_each(e->gateways, end_session, &session);
}

/* --- open and close ----------------------------------------------------------------------------------------------- */

static void configure(struct eg *e)
{
    const struct conf *c = e->d.conf;
    e->allow_short = conf_bool(c, "eg", "allow-short-install-codes");
    e->pending_ms = conf_int(c, "eg", "pending-seconds") * 1000;
    e->exchange_ms = conf_int(c, "eg", "exchange-seconds") * 1000;
    e->rearm_ms = conf_int(c, "eg", "rearm-seconds") * 1000;
    e->key_lifetime_ms = conf_int(c, "eg", "key-lifetime-days") * 86400000;
    e->key_rate = (uint64_t)conf_int(c, "eg", "key-rate");
    e->key_burst = (uint64_t)conf_int(c, "eg", "key-burst");
    e->ticket_rate = (uint64_t)conf_int(c, "eg", "ticket-rate");
    e->ticket_burst = (uint64_t)conf_int(c, "eg", "ticket-burst");
    e->max_devices = (size_t)conf_int(c, "eg", "max-devices");
    e->max_gateways = (size_t)conf_int(c, "eg", "max-gateways");
    e->max_stored = (size_t)conf_int(c, "eg", "stored-responses");
    e->max_frames = (size_t)conf_int(c, "eg", "kept-frames");
    e->max_observers = (size_t)conf_int(c, "eg", "max-observers");
}

struct eg *eg_open(const struct eg_deps *d, char *err, size_t errlen)
{
    struct eg *e = calloc(1, sizeof *e);
    if (e == NULL) {
        snprintf(err, errlen, "out of memory");
        return NULL;
    }
    e->d = *d;
    configure(e);
    e->gateways = map64_new();
    e->devices = map64_new();
    e->observers = map64_new();
    e->codes = map64_new();
    e->failures = failures_new();
    e->domains = map64_new();
    const char *what = "out of memory";
    bool ok = e->gateways != NULL && e->devices != NULL && e->observers != NULL && e->codes != NULL &&
              e->failures != NULL && e->domains != NULL &&
              d->ops->random(d->host, &e->next_transaction, sizeof e->next_transaction) &&
              d->ops->random(d->host, &e->owner, sizeof e->owner);
    if (ok) {
        what = "cannot read install codes, gateways or devices from the store";
        ok = gateways_load(e) == ST_OK && transactions_load(e) == ST_OK && codes_load(e) == ST_OK &&
             devices_load(e) == ST_OK && domains_load(e) == ST_OK;
    }
    if (ok) {
        eg_gauges(e);
        return e;
    }
    snprintf(err, errlen, "%s", what);
    eg_close(e);
    return NULL;
}

static bool close_device(void *user, uint64_t key, void *value)
{
    (void)user, (void)key;
    device_free(value);
    return true;
}

static bool close_gateway(void *user, uint64_t key, void *value)
{
    (void)user, (void)key;
    gateway_free(value);
    return true;
}

static bool save_device(void *user, uint64_t key, void *value)
{
    (void)key;
    struct device *d = value;
    if (d->row.has_current && d->counter_saved != d->row.current.counter_next)
        device_store(d, user);
    return true;
}

/* What is otherwise stored in steps: the replay windows. */
static void save(struct eg *e)
{
    struct store_txn *t = store_begin(e->d.store);
    if (t == NULL)
        return;
    map64_each(e->devices, save_device, t);
    store_commit(t, NULL, NULL);
}

void eg_close(struct eg *e)
{
    if (e == NULL)
        return;
    downlinks_end(e);
    if (e->devices != NULL) {
        save(e);
        map64_each(e->devices, close_device, NULL);
    }
    if (e->gateways != NULL)
        map64_each(e->gateways, close_gateway, NULL);
    codes_free(e);
    domains_free(e);
    changes_forget(e);
    map64_free(e->devices);
    map64_free(e->gateways);
    map64_free(e->observers);
    failures_free(e->failures);
    free(e);
}
