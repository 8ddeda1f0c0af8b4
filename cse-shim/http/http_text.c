#include "cse-shim/http/http_text.h"

#include "cse-shim/base/hex.h"
#include "cse-shim/m2m_names.h"

#include <strings.h>

static const struct {
    const char *name;
    unsigned format;
} media_types[] = {
    {"application/json", FORMAT_JSON},
    {"application/vnd.onem2m-res+json", FORMAT_RES_JSON},
    {"application/cbor", FORMAT_CBOR},
    {"application/vnd.onem2m-res+cbor", FORMAT_RES_CBOR},
    {"application/octet-stream", FORMAT_OCTETS},
    {"text/plain", FORMAT_TEXT},
    {"text/event-stream", FORMAT_EVENTS},
};

const char *http_media_type(unsigned format)
{
    for (size_t i = 0; i < sizeof media_types / sizeof media_types[0]; i++)
        if (media_types[i].format == format)
            return media_types[i].name;
    return NULL;
}

/* The part of *rest up to `end` (or all of it); *rest is what follows. */
static struct span cut(struct span *rest, char end)
{
    const uint8_t *p = rest->n == 0 ? NULL : memchr(rest->p, end, rest->n);
    struct span head = span_of(rest->p, p == NULL ? rest->n : (size_t)(p - rest->p));
    *rest = p == NULL ? span_of(rest->p + rest->n, 0) : span_of(p + 1, rest->n - head.n - 1);
    return head;
}

static struct span trim(struct span s)
{
    while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
        s = span_of(s.p + 1, s.n - 1);
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

static bool same(struct span s, const char *word)
{
    return s.n == strlen(word) && strncasecmp((const char *)s.p, word, s.n) == 0;
}

/* Percent-decode into w ('+' stays: oneM2M joins attribute names with it). False: malformed, or no room. */
static bool decode(struct span in, struct wr *w)
{
    struct rd r = rd_of(in);
    struct span hex;
    uint8_t c;
    while (rd_u8(&r, &c)) {
        if (c == '%' && (!rd_span(&r, 2, &hex) || !hex_decode((const char *)hex.p, hex.n, &c, 1)))
            return false;
        wr_u8(w, c);
    }
    return wr_ok(w);
}

static void read_param(struct request *r, struct span pair)
{
    uint8_t names[256], values[REQUEST_MAX_TEXT];
    struct wr name = wr_of(names, sizeof names), value = wr_of(values, sizeof values);
    if (!decode(cut(&pair, '='), &name) || !decode(pair, &value))
        request_refuse(r, ST_BAD_REQUEST, "the query is malformed or too long");
    else
        request_param(r, wr_span(&name), wr_span(&value));
}

/* Leave of a target in absolute-form what follows its authority, which takes the place of Host and, as that does, decides
 * nothing (RFC 9112 3.2.2). False: malformed (RFC 9110 4.2.2, 4.2.4). */
static bool origin_form(struct span *target)
{
    static const char scheme[] = "https://";
    size_t begin = sizeof scheme - 1, n = begin;
    if (target->n < begin || strncasecmp((const char *)target->p, scheme, begin) != 0)
        return target->n > 0 && target->p[0] == '/';
    while (n < target->n && target->p[n] != '/' && target->p[n] != '?')
        n++;
    struct span authority = span_of(target->p + begin, n - begin);
    *target = span_of(target->p + n, target->n - n);
    return authority.n != 0 && authority.p[0] != ':' && memchr(authority.p, '@', authority.n) == NULL;
}

/* Everything is read, also when the request was refused already: an answer depends on whom the path belongs to. */
void http_read_target(struct request *r, struct span target)
{
    if (!origin_form(&target)) {
        request_refuse(r, ST_BAD_REQUEST, "the request target is not a path");
        return;
    }
    struct span query = target, path = cut(&query, '?');
    path = path.n == 0 ? path : span_of(path.p + 1, path.n - 1); /* without its slash */
    if (path.n > 0 && path.p[path.n - 1] == '/')
        path.n--;
    for (bool good = true; path.n > 0 && good;) {
        uint8_t segment[REQUEST_MAX_PATH];
        struct wr w = wr_of(segment, sizeof segment);
        good = decode(cut(&path, '/'), &w);
        if (!good)
            request_refuse(r, ST_BAD_REQUEST, "the path is malformed or too long");
        else
            request_segment(r, wr_span(&w));
    }
    while (query.n > 0)
        read_param(r, cut(&query, '&'));
}

static unsigned format_of(struct span name)
{
    for (size_t i = 0; i < sizeof media_types / sizeof media_types[0]; i++)
        if (same(name, media_types[i].name))
            return media_types[i].format;
    return FORMAT_UNKNOWN;
}

static bool read_number(struct span text, int *out)
{
    int v = 0;
    if (text.n == 0 || text.n > 8)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        v = v * 10 + (text.p[i] - '0');
    }
    *out = v;
    return true;
}

bool http_read_content_type(struct span value, unsigned *format, int *ty)
{
    *format = format_of(trim(cut(&value, ';')));
    *ty = -1;
    while (value.n > 0) {
        struct span param = cut(&value, ';'), name = trim(cut(&param, '='));
        if (same(name, M2M_SN_RESOURCE_TYPE) && !read_number(trim(param), ty))
            return false;
    }
    return true;
}

/* "0", "1", or with up to three digits behind the point, as thousandths; out of range counts as 0. */
static int read_quality(struct span q)
{
    int v = 0;
    for (size_t i = 0; i < 5; i++) {
        bool digit = i < q.n && q.p[i] >= '0' && q.p[i] <= '9';
        if (i == 1 && i < q.n && q.p[i] != '.')
            return 0;
        if (i != 1)
            v = v * 10 + (digit ? q.p[i] - '0' : 0);
    }
    return v > 1000 ? 0 : v;
}

/* One media range; *quality in thousandths. */
static unsigned read_range(struct span range, int *quality)
{
    struct span name = trim(cut(&range, ';'));
    *quality = 1000;
    while (range.n > 0) {
        struct span param = cut(&range, ';');
        if (same(trim(cut(&param, '=')), "q"))
            *quality = read_quality(trim(param));
    }
    if (same(name, "*/*") || same(name, "application/*"))
        return CSE_NO_FORMAT;
    return same(name, "application/problem+json") ? FORMAT_JSON : format_of(name);
}

void http_read_accept(struct request *r, struct span value)
{
    int quality[REQUEST_MAX_ACCEPTS], q;
    bool asked = trim(value).n != 0;
    while (value.n > 0) {
        unsigned format = read_range(cut(&value, ','), &q);
        if (q == 0 || format == FORMAT_UNKNOWN || r->naccepts == REQUEST_MAX_ACCEPTS)
            continue;
        size_t at = r->naccepts;
        request_accept(r, format);
        for (; at > 0 && quality[at - 1] < q; at--) {
            quality[at] = quality[at - 1];
            r->accepts[at] = r->accepts[at - 1];
        }
        quality[at] = q;
        r->accepts[at] = format;
    }
    if (asked && r->naccepts == 0)
        request_accept(r, FORMAT_UNKNOWN);
}
