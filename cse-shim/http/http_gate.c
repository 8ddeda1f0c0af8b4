#include "cse-shim/http/http_gate.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define LINE_KEPT 128       /* of a line; longer values of the headers that matter are refused */
#define MAX_HEADERS 100
#define MAX_CHUNK_LINE 256  /* with its extensions */
#define MAX_CHUNK_DIGITS 12
#define MAX_LENGTH_DIGITS 15

enum state { IN_REQUEST_LINE, IN_HEADERS, IN_BODY, IN_CHUNK_LINE, IN_CHUNK, IN_CHUNK_END, IN_TRAILERS, SHUT };

struct http_gate {
    size_t max_header;
    enum state state;
    size_t head;               /* bytes of this head so far */
    unsigned headers;
    bool cr;                   /* the last byte was one; only LF may follow */
    size_t n;                  /* bytes of this line */
    char line[LINE_KEPT + 1];  /* its beginning */
    unsigned spaces;           /* request line */
    char version[8];           /* request line: its third word */
    size_t nversion;
    size_t name;               /* header: length of its name; 0: still in it */
    bool extension;            /* chunk line: behind the ; */
    bool has_length, chunked, has_encoding, has_host;
    uint64_t length, left;
    struct span refusal;
};

struct http_gate *http_gate_new(const struct http_gate_limits *l)
{
    struct http_gate *g = calloc(1, sizeof *g);
    if (g != NULL)
        g->max_header = l->max_header;
    return g;
}

void http_gate_free(struct http_gate *g)
{
    if (g != NULL)
        OPENSSL_cleanse(g, sizeof *g);
    free(g);
}

/* --- refusals -------------------------------------------------------------------------------------------------------- */

#define ANSWER(line, status, title, detail)                                                                            \
    "HTTP/1.1 " line "\r\nContent-Type: application/problem+json\r\nCache-Control: no-store\r\nConnection: close\r\n"    \
    "\r\n{\"type\":\"about:blank\",\"title\":\"" title "\",\"status\":" status ",\"detail\":\"" detail "\"}"

enum why { MALFORMED, FRAMING, ENCODING, EXPECTATION, TARGET, TOO_BIG, VERSION };

static bool refuse(struct http_gate *g, enum why why)
{
    static const char *const answers[] = {
        [MALFORMED] = ANSWER("400 Bad Request", "400", "Bad request", "this is not an HTTP/1.1 request"),
        [FRAMING] = ANSWER("400 Bad Request", "400", "Bad request", "the length of the body is not clear"),
        [ENCODING] = ANSWER("501 Not Implemented", "501", "Not implemented", "the only transfer coding is chunked"),
        [EXPECTATION] = ANSWER("417 Expectation Failed", "417", "Expectation failed", "there is no such expectation"),
        [TARGET] = ANSWER("414 URI Too Long", "414", "URI too long", "the target is longer than this service takes"),
        [TOO_BIG] = ANSWER("431 Request Header Fields Too Large", "431", "Request header fields too large",
                           "the request line and headers are larger than this service takes"),
        [VERSION] = ANSWER("505 HTTP Version Not Supported", "505", "HTTP version not supported",
                           "only HTTP/1.1 is spoken here")};
    g->state = SHUT;
    g->refusal = span_str(answers[why]);
    return false;
}

/* --- lines ----------------------------------------------------------------------------------------------------------- */

static bool token_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A target in origin-form, in absolute-form with our scheme, or `*` (RFC 9112 3.2); nobody takes us for a proxy. */
static bool target_is_ours(const struct http_gate *g)
{
    const char *target = strchr(g->line, ' ');
    return target != NULL && (target[1] == '/' || target[1] == '*' || strncasecmp(target + 1, "https://", 8) == 0);
}

static bool end_request_line(struct http_gate *g)
{
    const char *v = g->version;
    if (g->nversion != sizeof g->version)
        return refuse(g, MALFORMED);
    if (v[5] != '1' || v[7] == '0') /* a later minor version is taken as ours (RFC 9110 2.5) */
        return refuse(g, VERSION);
    g->state = IN_HEADERS;
    return target_is_ours(g) || refuse(g, MALFORMED);
}

/* The value of a header that matters, trimmed; NULL when it did not fit. */
static char *value_of(struct http_gate *g, size_t at)
{
    size_t end = g->n;
    if (g->n > LINE_KEPT)
        return NULL;
    while (g->line[at] == ' ' || g->line[at] == '\t')
        at++;
    while (end > at && (g->line[end - 1] == ' ' || g->line[end - 1] == '\t'))
        end--;
    g->line[end] = '\0';
    return g->line + at;
}

/* A list of lengths is refused as well, even of equal ones (RFC 9112 6.3). */
static bool take_length(struct http_gate *g, const char *value)
{
    size_t n = value == NULL ? 0 : strlen(value);
    if (g->has_length || g->has_encoding || n == 0 || n > MAX_LENGTH_DIGITS || strspn(value, "0123456789") != n)
        return refuse(g, FRAMING);
    g->has_length = true;
    g->length = strtoull(value, NULL, 10);
    return true;
}

static bool take_encoding(struct http_gate *g, const char *value)
{
    if (g->has_length || g->has_encoding)
        return refuse(g, FRAMING);
    g->has_encoding = g->chunked = true;
    return (value != NULL && strcasecmp(value, "chunked") == 0) || refuse(g, ENCODING);
}

static bool take_header(struct http_gate *g, size_t name)
{
    static const char *const framing[] = {"content-length", "transfer-encoding", "expect", "host"};
    size_t i = 0;
    while (i < 4 && (strlen(framing[i]) != name || strncasecmp(g->line, framing[i], name) != 0))
        i++;
    if (i == 4)
        return true;
    const char *value = value_of(g, name + 1);
    if (i == 0)
        return take_length(g, value);
    if (i == 1)
        return take_encoding(g, value);
    if (i == 2)
        return (value != NULL && strcasecmp(value, "100-continue") == 0) || refuse(g, EXPECTATION);
    if (g->has_host)
        return refuse(g, MALFORMED);
    g->has_host = true;
    return true;
}

static void next_request(struct http_gate *g)
{
    g->state = IN_REQUEST_LINE;
    g->head = g->headers = g->spaces = 0;
    g->nversion = 0;
    g->has_length = g->chunked = g->has_encoding = g->has_host = false;
    g->length = 0;
}

static bool end_head(struct http_gate *g)
{
    if (!g->has_host)
        return refuse(g, MALFORMED); /* RFC 9112 3.2 */
    g->left = g->length;
    if (g->chunked)
        g->state = IN_CHUNK_LINE;
    else if (g->left > 0)
        g->state = IN_BODY;
    else
        next_request(g);
    return true;
}

static bool end_header(struct http_gate *g)
{
    bool trailer = g->state == IN_TRAILERS;
    if (g->n == 0 && trailer) {
        next_request(g);
        return true;
    }
    if (g->n == 0)
        return end_head(g);
    if (++g->headers > MAX_HEADERS)
        return refuse(g, TOO_BIG);
    return trailer || take_header(g, g->name);
}

static void end_chunk_line(struct http_gate *g)
{
    g->left = strtoull(g->line, NULL, 16);
    g->state = g->left == 0 ? IN_TRAILERS : IN_CHUNK;
    g->extension = false;
}

static bool end_line(struct http_gate *g)
{
    g->line[g->n < LINE_KEPT ? g->n : LINE_KEPT] = '\0';
    bool ok = true;
    if (g->state == IN_REQUEST_LINE)
        ok = end_request_line(g);
    else if (g->state == IN_CHUNK_LINE)
        end_chunk_line(g);
    else if (g->state == IN_CHUNK_END)
        g->state = IN_CHUNK_LINE;
    else
        ok = end_header(g);
    OPENSSL_cleanse(g->line, g->n < LINE_KEPT ? g->n : LINE_KEPT); /* it may have been a token */
    g->n = g->name = 0;
    return ok;
}

/* --- bytes ----------------------------------------------------------------------------------------------------------- */

/* In every line the first wrong byte is refused, before the library sees it, which would answer, too. */

/* Keep what the request line's end must know, however long its target is. */
static bool request_line_char(struct http_gate *g, char c)
{
    static const char shape[] = "HTTP/0.0"; /* 0: a digit */
    if (c == ' ') {
        g->spaces++;
        return g->spaces <= 2 || refuse(g, MALFORMED);
    }
    if ((g->spaces == 0 && !token_char(c)) || (g->spaces == 1 && c == '#'))
        return refuse(g, MALFORMED); /* also an empty line in front; a fragment is not sent (RFC 9110 7.1) */
    if (g->spaces < 2)
        return true;
    char want = shape[g->nversion];
    if (want == '\0' || (want == '0' ? !is_digit(c) : c != want))
        return refuse(g, MALFORMED);
    g->version[g->nversion++] = c;
    return true;
}

/* A name and a colon behind it: no folded line, no space, no line without name. */
static bool header_char(struct http_gate *g, char c)
{
    if (g->name != 0)
        return true;
    if (c == ':' && g->n > 0 && g->n < LINE_KEPT)
        g->name = g->n;
    return g->name != 0 || token_char(c) || (c == '\r' && g->n == 0) || refuse(g, MALFORMED);
}

static bool within_limits(struct http_gate *g)
{
    bool chunk = g->state == IN_CHUNK_LINE || g->state == IN_CHUNK_END;
    if (chunk)
        return g->n < MAX_CHUNK_LINE || refuse(g, FRAMING);
    if (++g->head <= g->max_header)
        return true;
    return refuse(g, g->state != IN_REQUEST_LINE ? TOO_BIG : g->spaces == 1 ? TARGET : MALFORMED);
}

/* A chunk's size and extension. */
static bool chunk_char(struct http_gate *g, char c)
{
    bool digit = c != '\0' && strchr("0123456789abcdefABCDEF", c) != NULL;
    if (g->extension)
        return true;
    g->extension = c == ';' && g->n > 0;
    return g->extension || (digit && g->n < MAX_CHUNK_DIGITS) || (c == '\r' && g->n > 0) || refuse(g, FRAMING);
}

static bool line_char(struct http_gate *g, char c)
{
    if (!within_limits(g))
        return false;
    if (c == '\n' || g->cr) { /* neither stands alone */
        if (c != '\n' || !g->cr)
            return refuse(g, MALFORMED);
        g->cr = false;
        return end_line(g);
    }
    if (g->state == IN_CHUNK_LINE && !chunk_char(g, c))
        return false;
    if ((g->state == IN_HEADERS || g->state == IN_TRAILERS) && !header_char(g, c))
        return false;
    if (c == '\r') {
        g->cr = true;
        return true;
    }
    if (g->state == IN_CHUNK_END || ((uint8_t)c < ' ' && c != '\t') || c == 0x7f)
        return refuse(g, g->state == IN_CHUNK_END ? FRAMING : MALFORMED);
    if (g->state == IN_REQUEST_LINE && !request_line_char(g, c))
        return false;
    if (g->n < LINE_KEPT)
        g->line[g->n] = c;
    g->n++;
    return true;
}

/* Bytes of a body, at most so many. */
static size_t body_bytes(struct http_gate *g, size_t n)
{
    size_t take = g->left < n ? (size_t)g->left : n;
    g->left -= take;
    if (g->left == 0 && g->state == IN_CHUNK)
        g->state = IN_CHUNK_END;
    else if (g->left == 0)
        next_request(g);
    return take;
}

size_t http_gate_pass(struct http_gate *g, struct span in, struct span *refusal)
{
    size_t at = 0;
    while (at < in.n && g->state != SHUT) {
        if (g->state == IN_BODY || g->state == IN_CHUNK)
            at += body_bytes(g, in.n - at);
        else if (line_char(g, (char)in.p[at]))
            at++;
    }
    *refusal = g->state == SHUT ? g->refusal : span_of(NULL, 0);
    return at;
}
