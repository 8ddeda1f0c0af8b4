/* A request on its way from a binding (CoAP, HTTP) to the plugin and its answer on the way back: what is common to all
 * bindings. A binding fills a request in, dispatches it, and is handed exactly one answer. */
#pragma once
#include "cse-shim/host/host.h"

#define REQUEST_MAX_PARAMS 32
#define REQUEST_MAX_PATH 512  /* bytes, with NUL */
#define REQUEST_MAX_TEXT 4096 /* bytes of all other texts of one request, with their NULs */

#define FORMAT_TEXT 0u
#define FORMAT_OCTETS 42u
#define FORMAT_JSON 50u
#define FORMAT_CBOR 60u
#define FORMAT_RES_JSON 10001u     /* application/vnd.onem2m-res+json, TS-0008 V3.9 */
#define FORMAT_RES_JSON_ACME 10015u /* the same as some peers number it */
#define FORMAT_RES_CBOR 10010u
#define FORMAT_UNKNOWN 0xfffeu     /* a media type that has no number here */
#define FORMAT_EVENTS 0xfffdu      /* text/event-stream, which has no number at all */

#define REQUEST_MAX_ACCEPTS 8

/* What a binding puts on the wire. Spans and texts are valid during the call. */
struct answer {
    enum st status;
    struct span body;
    unsigned content_format; /* CSE_NO_FORMAT: none */
    bool problem;            /* the body is RFC 9457 problem details */
    bool primitive;          /* carry RSC, and echo rqi and rvi when not NULL */
    bool old_options;        /* the request came with the CoAP option numbers before 2022 */
    const char *rqi, *rvi;
    const char *originated;  /* Originating Timestamp of this answer, NULL: the request had none */
    const char *location;    /* path without leading '/', or NULL */
    bool sensitive;
};

struct binding_ops {
    enum cse_binding kind;
    /* Send the answer; the binding's exchange is over. */
    void (*answer)(void *exchange, const struct answer *a);
    /* Accept the observation asked for; NULL: this binding has none. Returns its id, 0: not possible. */
    uint64_t (*observe)(void *exchange);
};

enum method { METHOD_GET, METHOD_POST, METHOD_PUT, METHOD_DELETE };

struct request {
    struct cse_request pub; /* first: the plugin's handle on this request */
    struct cse_host *host;
    const struct binding_ops *binding;
    void *exchange;
    enum method method;
    uint64_t began; /* us monotonic */
    const char *rqi, *rvi;
    const char *expires, *originated; /* Request Expiration and Originating Timestamp as sent, NULL: absent */
    bool old_options;                 /* CoAP: option numbers before 2022 */
    unsigned accepts[REQUEST_MAX_ACCEPTS]; /* formats asked for, the best first; CSE_NO_FORMAT: any */
    size_t naccepts;
    cJSON *tree;
    struct request *next, **link; /* the host's list of requests in flight */
    enum st refusal;        /* the binding's or the checks' verdict; ST_OK: none */
    const char *refusal_detail;
    struct cse_param params[REQUEST_MAX_PARAMS];
    char path[REQUEST_MAX_PATH];
    struct wr text;
    uint8_t text_buffer[REQUEST_MAX_TEXT];
};

/* NULL: out of memory. */
MUST_USE struct request *request_new(struct cse_host *h, const struct binding_ops *binding, void *exchange);

/* Filling in. What does not fit or is not well-formed marks the request as refused; the binding need not look. */
void request_refuse(struct request *r, enum st st, const char *detail); /* the first refusal counts; detail is static */
const char *request_text(struct request *r, struct span text);          /* UTF-8 copy; NULL when refused */
void request_segment(struct request *r, struct span segment);           /* a decoded path segment */
void request_param(struct request *r, struct span name, struct span value); /* decoded */

void request_accept(struct request *r, unsigned format); /* the next best; what is beyond REQUEST_MAX_ACCEPTS is left out */

/* Strip the oneM2M address forms `~` and `_/<authority>` (TS-0009 6.2.2, TS-0008 6.2.2.1), find the mount, check the
 * primitive, parse the body and hand the request to the plugin; or answer a refusal. */
void request_dispatch(struct request *r);

/* Drop all that are in flight, and free the spare ones. */
void requests_free(struct request_list *list);

/* Give up a request that the binding answers by its own means. */
void request_drop(struct request *r);

/* cse_host_ops.respond */
void request_respond(struct cse_host *h, struct cse_request *req, struct cse_response *rsp);

/* Body bytes and format of a response (for answers and notifications) in `format`, one that carries JSON or CBOR. Problem
 * details are JSON always. `text` is to be freed with json_text_free(). False: out of memory. */
struct rendered {
    void *text;
    struct span body;
    unsigned content_format;
    bool problem;
};
MUST_USE bool response_render(enum cse_mount mount, unsigned format, const struct cse_response *rsp, struct rendered *out);

/* In which format a tree is answered: the one asked for, else the request's, else plain JSON. */
unsigned request_answer_format(const struct request *r);

/* Is this a format that carries JSON, or CBOR? */
bool format_is_json(unsigned format);
bool format_is_cbor(unsigned format);
