#include "cse-shim/host/coap_binding.h"

#include "cse-shim/host/coap_workers.h"
#include "cse-shim/host/json.h"
#include "cse-shim/host/listen.h"

#include <stdlib.h>

/* RFC 7252 12.2 and TS-0008 6.2.2.4 */
enum {
    OPT_URI_HOST = 3,
    OPT_URI_PORT = 7,
    OPT_LOCATION_PATH = 8,
    OPT_URI_PATH = 11,
    OPT_CONTENT_FORMAT = 12,
    OPT_MAX_AGE = 14,
    OPT_URI_QUERY = 15,
    OPT_ACCEPT = 17,
    OPT_OT = 259, /* this one, TY and RVI kept their numbers in 2022 */
    OPT_TY = 267,
    OPT_RVI = 271,
    OPT_FR = 279,
    OPT_RQI = 283,
    OPT_RQET = 291,
    OPT_RSC = 307,
    OPT_NONE = 0xffff,
    OLD_FR = 256, /* numbers before 2022, as older peers send them */
    OLD_RQI = 257,
    OLD_RQET = 260,
    OLD_RSC = 265
};

#define MAX_ANSWER_OPTIONS 24

struct coap_binding {
    struct cse_host *host;
    struct coap_workers *workers;
};


/* --- request: options to what the host knows ---------------------------------------------------------------------- */

/* oneM2M options that are understood (their meaning is not needed for the blocking CRUD of Mmef): they must not be
 * refused, although they are critical. */
static bool onem2m_option(uint16_t num, bool old)
{
    static const uint16_t now[] = {263, 275, 295, 299, 303, 311, 319, 323, 327, 331, 335, 339, 343, 347, 351};
    if (old)
        return num > OLD_RQI && num <= 275;
    for (size_t i = 0; i < sizeof now / sizeof now[0]; i++)
        if (now[i] == num)
            return true;
    return false;
}

/* The same request parameter under its number of today; other options keep theirs. */
static uint16_t number_today(uint16_t num, bool old)
{
    if (!old)
        return num;
    if (num == OPT_RQET)
        return OPT_NONE; /* had no meaning then */
    return num == OLD_FR ? OPT_FR : num == OLD_RQI ? OPT_RQI : num == OLD_RQET ? OPT_RQET : num;
}

/* Which generation of numbers? Today's peers never send 256 and 257; 258 is No-Response today and a name in the old set,
 * 292 is Request-Tag: both are elective and change nothing here. */
static bool uses_old_numbers(const struct cep_message *m)
{
    bool old = false;
    for (size_t i = 0; i < m->nopts; i++) {
        old |= m->opts[i].num == OLD_FR || m->opts[i].num == OLD_RQI;
        if (m->opts[i].num == OPT_FR || m->opts[i].num == OPT_RQI)
            return false;
    }
    return old;
}

static bool read_uint(struct span val, unsigned max, unsigned *out)
{
    struct rd r = rd_of(val);
    uint64_t v;
    if (val.n > 4 || !rd_be(&r, val.n, &v) || v > max)
        return false;
    *out = (unsigned)v;
    return true;
}

static void read_query(struct request *r, struct span q)
{
    const uint8_t *eq = q.n == 0 ? NULL : memchr(q.p, '=', q.n);
    size_t name = eq == NULL ? q.n : (size_t)(eq - q.p);
    request_param(r, span_of(q.p, name), eq == NULL ? span_of(q.p, 0) : span_of(eq + 1, q.n - name - 1));
}

static bool repeatable(uint16_t num)
{
    return num == OPT_URI_PATH || num == OPT_URI_QUERY;
}

/* Lengths in bytes that TS-0008 6.2.2.4 allows the options read here. */
static bool is_ill_sized(uint16_t num, size_t n)
{
    static const struct {
        uint16_t num, min, max;
    } lengths[] = {{OPT_TY, 0, 2}, {OPT_RVI, 1, 2}, {OPT_FR, 0, 255}, {OPT_RQI, 0, 255}};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
        if (lengths[i].num == num)
            return n < lengths[i].min || n > lengths[i].max;
    return false;
}

/* One option; false: critical and not understood (RFC 7252 5.4.1), which a second copy (5.4.5) and one of a wrong length
 * (5.4.3) are as well. */
static bool read_option(struct request *r, const struct cep_option *o, bool again)
{
    unsigned v = 0;
    uint16_t num = number_today(o->num, r->old_options);
    if ((again && !repeatable(o->num)) || is_ill_sized(num, o->val.n))
        return (o->num & 1) == 0;
    switch (num) {
    case OPT_URI_PATH:
        request_segment(r, o->val);
        return true;
    case OPT_URI_QUERY:
        read_query(r, o->val);
        return true;
    case OPT_CONTENT_FORMAT:
        r->pub.content_format = read_uint(o->val, 0xffff, &v) ? v : FORMAT_UNKNOWN;
        return true;
    case OPT_ACCEPT:
        request_accept(r, read_uint(o->val, 0xffff, &v) ? v : FORMAT_UNKNOWN);
        return true;
    case OPT_TY:
        if (read_uint(o->val, 0xffff, &v))
            r->pub.ty = (int)v;
        return true;
    case OPT_RVI:
        r->rvi = request_text(r, o->val);
        return true;
    case OPT_FR:
        r->pub.from = request_text(r, o->val);
        return true;
    case OPT_RQI:
        r->rqi = request_text(r, o->val);
        return true;
    case OPT_RQET:
        r->expires = request_text(r, o->val);
        return true;
    case OPT_OT:
        r->originated = request_text(r, o->val);
        return true;
    default:
        return (o->num & 1) == 0 || o->num == OPT_URI_HOST || o->num == OPT_URI_PORT ||
               onem2m_option(o->num, r->old_options);
    }
}

bool coap_request_read(struct request *r, const struct cep_message *m)
{
    static const enum method methods[] = {[CEP_GET] = METHOD_GET, [CEP_POST] = METHOD_POST, [CEP_PUT] = METHOD_PUT,
                                          [CEP_DELETE] = METHOD_DELETE};
    if (m->code >= CEP_GET && m->code <= CEP_DELETE)
        r->method = methods[m->code];
    else
        request_refuse(r, ST_NOT_ALLOWED, "the method is not supported");
    r->pub.body = m->payload;
    r->old_options = uses_old_numbers(m);
    bool ok = true;
    for (size_t i = 0; i < m->nopts && ok; i++)
        ok = read_option(r, &m->opts[i], i > 0 && m->opts[i].num == m->opts[i - 1].num);
    return ok;
}

/* --- response: what the host says to options ------------------------------------------------------------------------ */

struct message { /* a message under construction; options are added in ascending order */
    struct cep_message m;
    struct cep_option opts[MAX_ANSWER_OPTIONS];
    uint8_t numbers[MAX_ANSWER_OPTIONS][4];
};

static void add_option(struct message *m, uint16_t num, struct span val)
{
    if (m->m.nopts == MAX_ANSWER_OPTIONS || val.n > 255)
        return;
    m->opts[m->m.nopts++] = (struct cep_option){num, val};
    m->m.opts = m->opts;
}

static void add_uint(struct message *m, uint16_t num, uint32_t v)
{
    if (m->m.nopts == MAX_ANSWER_OPTIONS)
        return;
    uint8_t *buf = m->numbers[m->m.nopts];
    add_option(m, num, cep_option_make_uint(num, v, buf).val);
}

static void add_path(struct message *m, uint16_t num, const char *path)
{
    while (path != NULL && *path != '\0') {
        size_t n = strcspn(path, "/");
        add_option(m, num, span_of(path, n));
        path += n + (path[n] == '/' ? 1 : 0);
    }
}

static void add_text(struct message *m, uint16_t num, const char *text)
{
    if (text != NULL)
        add_option(m, num, span_str(text));
}

/* Conformance: B-2 | TS-0008 6.2.2 | shown by: test_procedures.py:test_what_is_repeated */
/* Conformance: B-2 | TS-0008 6.2.2 | shown by: test_host_coap.c:coap_primitives_and_services */
/* Conformance: B-2 | TS-0008 6.2.2 | shown by: test_host_coap.c:coap_old_options */
/* In the generation of the request, in ascending order. */
static void add_primitive(struct message *m, const struct answer *a)
{
    uint16_t rsc = st_map(a->status)->rsc;
    if (a->old_options)
        add_text(m, OLD_RQI, a->rqi);
    add_text(m, OPT_OT, a->originated);
    if (a->old_options)
        add_uint(m, OLD_RSC, rsc);
    add_text(m, OPT_RVI, a->rvi);
    if (a->old_options)
        return;
    add_text(m, OPT_RQI, a->rqi);
    add_uint(m, OPT_RSC, rsc);
}

static void answer(void *exchange, const struct answer *a)
{
    struct message m = {.m = {.code = st_map(a->status)->coap, .payload = a->body}};
    add_path(&m, OPT_LOCATION_PATH, a->location);
    if (a->content_format != CSE_NO_FORMAT)
        add_uint(&m, OPT_CONTENT_FORMAT, a->content_format);
    if (a->primitive || a->sensitive)
        add_uint(&m, OPT_MAX_AGE, 0); /* TS-0008 6.3.1: never cached */
    if (a->primitive)
        add_primitive(&m, a);
    coap_workers_respond(exchange, &m.m, a->sensitive);
}

static uint64_t observe(void *exchange)
{
    return observation_of_coap(coap_workers_observe(exchange));
}

static const struct binding_ops coap_ops = {CSE_COAP, answer, observe};

/* --- the endpoint's call-backs --------------------------------------------------------------------------------------- */

static void refuse(struct coap_exchange *x, uint8_t code)
{
    struct cep_message m = {.code = code};
    coap_workers_respond(x, &m, false);
}

static bool read_peer(struct request *r, const struct cep_peer *p)
{
    char address[ADDRESS_TEXT];
    address_print(p->addr, address);
    r->pub.peer = (struct cse_peer){.session = session_of_coap(p->serial),
                                    .cred = (enum cse_credential)p->cred,
                                    .identity = request_text(r, span_str(p->identity)),
                                    .address = request_text(r, span_str(address)),
                                    .server_name = request_text(r, span_str(p->server_name))};
    return r->refusal == ST_OK;
}

static void on_request(void *user, struct coap_exchange *x, const struct cep_exchange *ex, const struct cep_message *m)
{
    struct coap_binding *b = user;
    struct request *r = request_new(b->host, &coap_ops, x);
    if (r == NULL) {
        refuse(x, CEP_CODE(5, 3));
        return;
    }
    metrics_count(host_metrics(b->host), "host_coap_requests_total", 1);
    if (!read_peer(r, cep_exchange_peer(ex)) || !coap_request_read(r, m)) {
        request_drop(r);
        refuse(x, CEP_CODE(4, 2));
        return;
    }
    r->pub.observe = cep_exchange_observe(ex) != 0;
    request_dispatch(r);
}

static size_t on_psk(void *user, const char *identity, const char *server_name, uint8_t *key, size_t cap)
{
    return host_psk(((struct coap_binding *)user)->host, identity, server_name, key, cap);
}

static void on_closed(void *user, uint64_t serial)
{
    host_session_end(((struct coap_binding *)user)->host, session_of_coap(serial));
}

static void on_observe_end(void *user, uint64_t observation)
{
    host_observe_end(((struct coap_binding *)user)->host, observation_of_coap(observation));
}

/* --- life --------------------------------------------------------------------------------------------------------------- */

struct coap_binding *coap_binding_new(struct cse_host *h, sd_event *loop, unsigned workers, const struct cep_config *cfg)
{
    struct coap_binding *b = calloc(1, sizeof *b);
    if (b == NULL)
        return NULL;
    b->host = h;
    struct coap_workers_calls calls = {.user = b,
                                       .request = on_request,
                                       .psk = on_psk,
                                       .closed = on_closed,
                                       .observe_end = on_observe_end,
                                       .links = host_links(h)};
    b->workers = coap_workers_new(loop, workers, cfg, &calls);
    if (b->workers != NULL)
        return b;
    free(b);
    return NULL;
}

static bool listen_one(void *user, const struct listen_address *a, char *err, size_t errlen)
{
    struct coap_binding *b = user;
    uint16_t bound = a->port;
    int r = coap_workers_listen(b->workers, a->host, a->port, &bound);
    if (r < 0)
        snprintf(err, errlen, "coap: cannot listen on %s port %u: %s", a->host, a->port, strerror(-r));
    else
        log_event(LOG_INFO, "coap.listening", "address=%s port=%u", a->host, bound);
    return r >= 0;
}

void coap_binding_certificates(struct coap_binding *b, struct cep_certs *certs)
{
    coap_workers_certificates(b->workers, certs, false);
}

bool coap_binding_listen(struct coap_binding *b, const char *addresses, char *err, size_t errlen)
{
    if (!listen_each(addresses, listen_one, b, err, errlen))
        return false;
    if (coap_workers_start(b->workers))
        return true;
    snprintf(err, errlen, "coap: a worker's thread cannot be made");
    return false;
}

void coap_binding_free(struct coap_binding *b)
{
    if (b == NULL)
        return;
    coap_workers_free(b->workers);
    free(b);
}

void coap_binding_stats(struct coap_binding *b, struct cep_stats *out)
{
    coap_workers_stats(b->workers, out);
}

/* --- what plugins ask for ------------------------------------------------------------------------------------------------ */

void coap_binding_notify(struct coap_binding *b, uint64_t observation, unsigned format, const struct cse_response *rsp,
                         bool queue)
{
    struct rendered body;
    if (!response_render(CSE_SERVICE, format, rsp, &body))
        return;
    struct message m = {.m = {.code = st_map(rsp->status)->coap, .payload = body.body}};
    if (body.content_format != CSE_NO_FORMAT)
        add_uint(&m, OPT_CONTENT_FORMAT, body.content_format);
    coap_workers_notify(b->workers, observation, &m.m, true, queue);
    json_text_free(body.text);
}

void coap_binding_observe_cancel(struct coap_binding *b, uint64_t observation)
{
    coap_workers_observe_cancel(b->workers, observation);
}

bool coap_binding_send(struct coap_binding *b, uint64_t serial, const char *path, unsigned content_format,
                       struct span body, void (*done)(void *user, enum st st, struct span body), void *user)
{
    struct message m = {.m = {.code = CEP_POST, .payload = body}};
    add_path(&m, OPT_URI_PATH, path);
    if (content_format != CSE_NO_FORMAT)
        add_uint(&m, OPT_CONTENT_FORMAT, content_format);
    return coap_workers_send(b->workers, serial, &m.m, done, user);
}

bool coap_binding_export(struct coap_binding *b, uint64_t serial, const char *label, uint8_t *out, size_t n)
{
    return coap_workers_export(b->workers, serial, label, out, n);
}
