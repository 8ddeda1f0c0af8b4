#include "cse-shim/host/request.h"

#include "cse-shim/host/cbor_tree.h"
#include "cse-shim/host/host.h"
#include "cse-shim/host/json.h"
#include "cse-shim/host/primitive.h"
#include "cse-shim/m2m_names.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <time.h>

enum { SPARE_MAX = 64 };

static struct request *take_spare(struct request_list *list)
{
    struct request *r = list->spare;
    if (r == NULL)
        return calloc(1, sizeof *r);
    list->spare = r->next;
    list->nspare--;
    r->next = NULL;
    return r;
}

/* Texts and parameters are used from the front: what lies behind was never written. */
static void wipe(struct request *r)
{
    OPENSSL_cleanse(r->text_buffer, r->text.n);
    OPENSSL_cleanse(r->params, r->pub.nparams * sizeof r->params[0]);
    OPENSSL_cleanse(r->path, sizeof r->path);
    OPENSSL_cleanse(r, offsetof(struct request, params));
    r->text = (struct wr){0};
}

void requests_free(struct request_list *list)
{
    while (list->busy != NULL)
        request_drop(list->busy);
    for (struct request *r; (r = list->spare) != NULL; free(r))
        list->spare = r->next;
    list->nspare = 0;
}

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

struct request *request_new(struct cse_host *h, const struct binding_ops *binding, void *exchange)
{
    struct request_list *list = host_requests(h);
    struct request *r = take_spare(list);
    if (r == NULL)
        return NULL;
    r->host = h;
    r->began = now_us();
    r->binding = binding;
    r->exchange = exchange;
    r->text = wr_of(r->text_buffer, sizeof r->text_buffer);
    r->pub.binding = binding->kind;
    r->pub.path = r->path;
    r->pub.params = r->params;
    r->pub.ty = -1;
    r->pub.content_format = r->pub.accept = CSE_NO_FORMAT;
    r->pub.peer.identity = r->pub.peer.address = "";
    r->next = list->busy;
    r->link = &list->busy;
    if (r->next != NULL)
        r->next->link = &r->next;
    list->busy = r;
    return r;
}

void request_drop(struct request *r)
{
    *r->link = r->next;
    if (r->next != NULL)
        r->next->link = r->link;
    struct request_list *list = host_requests(r->host);
    host_request_ended(r->host);
    cJSON_Delete(r->tree);
    wipe(r);
    if (list->nspare == SPARE_MAX) {
        free(r);
        return;
    }
    r->next = list->spare;
    list->spare = r;
    list->nspare++;
}

void request_refuse(struct request *r, enum st st, const char *detail)
{
    if (r->refusal != ST_OK)
        return;
    r->refusal = st;
    r->refusal_detail = detail;
}

const char *request_text(struct request *r, struct span text)
{
    uint8_t *p = utf8_valid(text) ? wr_reserve(&r->text, text.n + 1) : NULL;
    if (p == NULL) {
        request_refuse(r, ST_BAD_REQUEST, "a path, query or header is too long, or not valid UTF-8");
        return NULL;
    }
    if (text.n != 0)
        memcpy(p, text.p, text.n);
    p[text.n] = '\0';
    return (const char *)p;
}

void request_segment(struct request *r, struct span segment)
{
    size_t used = strlen(r->path), slash = used == 0 ? 0 : 1;
    if (segment.n == 0 || memchr(segment.p, '/', segment.n) != NULL || !utf8_valid(segment) ||
        used + slash + segment.n + 1 > sizeof r->path) {
        request_refuse(r, ST_BAD_REQUEST, "the path is too long or has an empty or malformed segment");
        return;
    }
    if (slash == 1)
        r->path[used] = '/';
    memcpy(r->path + used + slash, segment.p, segment.n);
    r->path[used + slash + segment.n] = '\0';
}

void request_param(struct request *r, struct span name, struct span value)
{
    if (r->pub.nparams == REQUEST_MAX_PARAMS) {
        request_refuse(r, ST_BAD_REQUEST, "too many query parameters");
        return;
    }
    struct cse_param p = {request_text(r, name), request_text(r, value)};
    if (p.name != NULL && p.value != NULL)
        r->params[r->pub.nparams++] = p;
}

bool format_is_json(unsigned format)
{
    return format == FORMAT_JSON || format == FORMAT_RES_JSON || format == FORMAT_RES_JSON_ACME;
}

bool format_is_cbor(unsigned format)
{
    return format == FORMAT_CBOR || format == FORMAT_RES_CBOR;
}

static bool format_is_tree(unsigned format)
{
    return format_is_json(format) || format_is_cbor(format);
}

/* Conformance: B-3 | TS-0008 6.2.2, TS-0009 6.4 | shown by: test_procedures.py:test_formats */
/* Conformance: B-3 | TS-0008 6.2.2, TS-0009 6.4 | shown by: test_host_coap.c:coap_formats */
/* Conformance: B-3 | TS-0004 8.5.1 | shown by: test_formats.py:test_every_resource */
/* Conformance: B-3 | TS-0004 8.5.1 | ours: a byte string comes in as its base64, which leaves as text */
void request_accept(struct request *r, unsigned format)
{
    if (r->naccepts < REQUEST_MAX_ACCEPTS)
        r->accepts[r->naccepts++] = format;
}

/* --- checks before the plugin sees it ---------------------------------------------------------------------------- */

static void strip_address_form(struct request *r)
{
    const char *rest = r->path;
    if (strncmp(rest, "~/", 2) == 0) {
        rest += 2;
    } else if (strncmp(rest, "_/", 2) == 0) {
        const char *slash = strchr(rest + 2, '/');
        rest = slash == NULL ? "" : slash + 1;
    }
    memmove(r->path, rest, strlen(rest) + 1);
}

static enum cse_op operation(const struct request *r)
{
    static const enum cse_op ops[] = {
        [METHOD_GET] = CSE_RETRIEVE, [METHOD_POST] = CSE_CREATE, [METHOD_PUT] = CSE_UPDATE, [METHOD_DELETE] = CSE_DELETE};
    /* A primitive's POST creates only if it names a resource type (TS-0008 6.2.1, TS-0009 6.2.1). */
    bool notify = r->method == METHOD_POST && r->pub.mount == CSE_PRIMITIVE && r->pub.ty < 0;
    return notify ? CSE_NOTIFY : ops[r->method];
}

/* Settle on the best format asked for: what is raw takes any, trees leave as JSON or CBOR. */
static void negotiate(struct request *r)
{
    bool raw = r->pub.mount == CSE_RAW;
    r->pub.accept = r->naccepts == 0 ? CSE_NO_FORMAT : FORMAT_UNKNOWN;
    for (size_t i = 0; i < r->naccepts && r->pub.accept == FORMAT_UNKNOWN; i++) {
        unsigned f = r->accepts[i];
        if (raw || f == CSE_NO_FORMAT || format_is_tree(f))
            r->pub.accept = f;
    }
    if (!raw && r->pub.accept == FORMAT_UNKNOWN && !(r->pub.observe && r->binding->kind == CSE_HTTP))
        request_refuse(r, ST_NOT_ACCEPTABLE, "only JSON and CBOR can be answered here");
}

static void parse_body(struct request *r)
{
    const char *why = NULL;
    unsigned format = r->pub.content_format;
    if (r->pub.body.n == 0)
        return;
    if (format != CSE_NO_FORMAT && !format_is_tree(format)) {
        request_refuse(r, ST_UNSUPPORTED_MEDIA, "only JSON and CBOR are understood here");
        return;
    }
    r->tree = format_is_cbor(format) ? cbor_parse(r->pub.body, &why) : json_parse(r->pub.body, &why);
    r->pub.pc = r->tree;
    if (r->tree == NULL)
        request_refuse(r, ST_BAD_REQUEST, why);
}

static void check(struct request *r)
{
    strip_address_form(r);
    bool found = host_mount_find(r->host, r->path, &r->pub.mount);
    r->pub.op = operation(r);
    if (host_draining(r->host))
        request_refuse(r, ST_UNAVAILABLE, "the service is shutting down");
    else if (!found)
        request_refuse(r, ST_NOT_FOUND, "there is nothing at this path");
    if (r->refusal == ST_OK && r->pub.mount == CSE_PRIMITIVE)
        primitive_check(r, host_time());
    negotiate(r);
    if (r->refusal == ST_OK && r->pub.mount != CSE_RAW)
        parse_body(r);
}

void request_dispatch(struct request *r)
{
    check(r);
    if (r->refusal == ST_OK) {
        host_handle(r->host, &r->pub);
        return;
    }
    metrics_count(host_metrics(r->host), "host_requests_refused_total", 1);
    struct cse_response rsp = {.status = r->refusal, .detail = r->refusal_detail};
    request_respond(r->host, &r->pub, &rsp);
}

/* --- the way back ------------------------------------------------------------------------------------------------------ */

static cJSON *debug_body(const struct cse_response *rsp)
{
    cJSON *tree = cJSON_CreateObject();
    const char *text = rsp->detail != NULL ? rsp->detail : st_map(rsp->status)->text;
    cJSON_AddStringToObject(tree, M2M_SN_DEBUG, text);
    return tree;
}

/* RFC 9457, with the members `code` and `field` of docs/rest-api.md. */
static cJSON *problem_body(const struct cse_response *rsp)
{
    cJSON *tree = cJSON_CreateObject();
    const struct st_map *map = st_map(rsp->status);
    cJSON_AddStringToObject(tree, "type", "about:blank");
    cJSON_AddStringToObject(tree, "title", map->text);
    cJSON_AddNumberToObject(tree, "status", map->http);
    if (rsp->detail != NULL)
        cJSON_AddStringToObject(tree, "detail", rsp->detail);
    if (rsp->code != NULL)
        cJSON_AddStringToObject(tree, "code", rsp->code);
    if (rsp->field != NULL)
        cJSON_AddStringToObject(tree, "field", rsp->field);
    return tree;
}

/* The tree in the format's encoding; trees of services have no oneM2M format. */
static bool print_tree(cJSON *tree, enum cse_mount mount, unsigned format, struct rendered *out)
{
    bool cbor = format_is_cbor(format);
    size_t n = 0;
    out->text = cbor ? (void *)cbor_print(tree, &n) : json_print(tree);
    if (out->text == NULL)
        return false;
    out->body = cbor ? span_of(out->text, n) : span_str(out->text);
    out->content_format = mount == CSE_PRIMITIVE ? format : cbor ? FORMAT_CBOR : FORMAT_JSON;
    return true;
}

bool response_render(enum cse_mount mount, unsigned format, const struct cse_response *rsp, struct rendered *out)
{
    bool failed = st_map(rsp->status)->http >= 400;
    *out = (struct rendered){.body = rsp->body, .content_format = rsp->body.n == 0 ? CSE_NO_FORMAT : rsp->content_format};
    if (rsp->pc != NULL)
        return print_tree(rsp->pc, mount, format, out);
    if (!failed || rsp->body.n != 0)
        return true;
    out->problem = mount != CSE_PRIMITIVE;
    cJSON *own = out->problem ? problem_body(rsp) : debug_body(rsp);
    bool ok = own != NULL && print_tree(own, mount, out->problem ? FORMAT_JSON : format, out);
    cJSON_Delete(own);
    return ok;
}

unsigned request_answer_format(const struct request *r)
{
    if (format_is_tree(r->pub.accept))
        return r->pub.accept;
    return format_is_tree(r->pub.content_format) ? r->pub.content_format : FORMAT_JSON;
}

void request_respond(struct cse_host *h, struct cse_request *req, struct cse_response *rsp)
{
    struct request *r = (struct request *)req;
    struct rendered body;
    struct cse_response failed = {.status = ST_INTERNAL};
    if (!response_render(req->mount, request_answer_format(r), rsp, &body)) {
        body = (struct rendered){.content_format = CSE_NO_FORMAT};
        failed.sensitive = rsp->sensitive;
        cJSON_Delete(rsp->pc);
        rsp->pc = NULL;
        rsp = &failed;
    }
    char now[PRIMITIVE_TIME_TEXT];
    if (r->originated != NULL)
        primitive_time_print(host_time(), now);
    struct answer a = {.status = rsp->status,
                       .body = body.body,
                       .content_format = body.content_format,
                       .problem = body.problem,
                       .primitive = req->mount == CSE_PRIMITIVE,
                       .old_options = r->old_options,
                       .rqi = r->rqi,
                       .rvi = r->rvi,
                       .originated = r->originated == NULL ? NULL : now,
                       .location = rsp->location,
                       .sensitive = rsp->sensitive};
    r->binding->answer(r->exchange, &a);
    if (rsp->histogram != NULL)
        metrics_duration(host_metrics(h), rsp->histogram, now_us() - r->began);
    json_text_free(body.text);
    cJSON_Delete(rsp->pc);
    rsp->pc = NULL;
    request_drop(r);
}
