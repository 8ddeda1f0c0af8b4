#include "cse-shim/host/primitive.h"

#include "cse-shim/m2m_names.h"

#include <stdio.h>
#include <time.h>

#define TY_AE 2 /* TS-0004 6.3.4.2.1: the only resource whose create may come without From */
#define MAX_RELATIVE_DIGITS 15

static bool digits(struct rd *r, unsigned n, int *out)
{
    uint8_t c;
    *out = 0;
    for (unsigned i = 0; i < n; i++) {
        if (!rd_u8(r, &c) || c < '0' || c > '9')
            return false;
        *out = *out * 10 + (c - '0');
    }
    return true;
}

static bool fraction(struct rd *r)
{
    uint8_t c;
    if (rd_end(r))
        return true;
    if (!rd_u8(r, &c) || c != ',' || rd_end(r) || r->n > 6)
        return false;
    while (rd_u8(r, &c))
        if (c < '0' || c > '9')
            return false;
    return true;
}

static bool relative(const char *text, int64_t now, int64_t *ms)
{
    size_t n = strlen(text);
    if (n == 0 || n > MAX_RELATIVE_DIGITS || strspn(text, "0123456789") != n)
        return false;
    *ms = now;
    int64_t v = 0;
    for (; *text != '\0'; text++)
        v = v * 10 + (*text - '0');
    *ms += v;
    return true;
}

bool primitive_time(const char *text, int64_t now, int64_t *ms)
{
    struct tm tm = {0};
    struct rd r = rd_of(span_str(text));
    uint8_t t;
    if (relative(text, now, ms))
        return true;
    if (!digits(&r, 4, &tm.tm_year) || !digits(&r, 2, &tm.tm_mon) || !digits(&r, 2, &tm.tm_mday) || !rd_u8(&r, &t) ||
        t != 'T' || !digits(&r, 2, &tm.tm_hour) || !digits(&r, 2, &tm.tm_min) || !digits(&r, 2, &tm.tm_sec) ||
        !fraction(&r))
        return false;
    if (tm.tm_year < 1970 || tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 59)
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    struct tm asked = tm;
    *ms = (int64_t)timegm(&tm) * 1000;
    return tm.tm_mday == asked.tm_mday && tm.tm_mon == asked.tm_mon; /* else timegm() moved a date that is none */
}

void primitive_time_print(int64_t ms, char out[PRIMITIVE_TIME_TEXT])
{
    time_t s = (time_t)(ms / 1000);
    struct tm tm;
    if (gmtime_r(&s, &tm) == NULL || strftime(out, PRIMITIVE_TIME_TEXT, "%Y%m%dT%H%M%S", &tm) == 0)
        out[0] = '\0';
}

/* TS-0001 annex: releases 1 to 5; a missing indicator stands for release 1. */
static bool release_supported(const char *rvi)
{
    static const char *const known[] = {"1", "2", "2a", "3", "4", "5"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(known[i], rvi) == 0)
            return true;
    return false;
}

/* Response Type (TS-0004 6.3.4.2.6): only blocking requests are served: 3, or 4, which leaves it to us. */
static void take_response_type(struct request *r)
{
    size_t kept = 0;
    for (size_t i = 0; i < r->pub.nparams; i++) {
        const struct cse_param *p = &r->params[i];
        if (strcmp(p->name, M2M_SN_RESPONSE_TYPE) != 0) {
            r->params[kept++] = *p;
            continue;
        }
        bool one = p->value[0] != '\0' && p->value[1] == '\0';
        if (one && strchr("125", p->value[0]) != NULL)
            request_refuse(r, ST_NOT_IMPLEMENTED, "only blocking requests are served");
        else if (!one || strchr("34", p->value[0]) == NULL)
            request_refuse(r, ST_BAD_REQUEST, "there is no such Response Type");
    }
    r->pub.nparams = kept;
}

static void check_times(struct request *r, int64_t now)
{
    int64_t t;
    if (r->expires != NULL && !primitive_time(r->expires, now, &t))
        request_refuse(r, ST_BAD_REQUEST, "the Request Expiration Timestamp is no time");
    else if (r->expires != NULL && t < now)
        request_refuse(r, ST_TIMEOUT, "the request has expired");
    else if (r->originated != NULL && !primitive_time(r->originated, now, &t))
        request_refuse(r, ST_BAD_REQUEST, "the Originating Timestamp is no time");
}

void primitive_check(struct request *r, int64_t now)
{
    bool wants_content = r->pub.op == CSE_CREATE || r->pub.op == CSE_UPDATE || r->pub.op == CSE_NOTIFY;
    if (r->rqi == NULL || r->rqi[0] == '\0')
        request_refuse(r, ST_BAD_REQUEST, "the request identifier is missing");
    else if (!release_supported(r->rvi == NULL ? "1" : r->rvi))
        request_refuse(r, ST_RELEASE_NOT_SUPPORTED, "this release version is not supported");
    else if ((r->pub.from == NULL || r->pub.from[0] == '\0') && !(r->pub.op == CSE_CREATE && r->pub.ty == TY_AE))
        request_refuse(r, ST_BAD_REQUEST, "From is missing");
    else if (wants_content && r->pub.body.n == 0)
        request_refuse(r, ST_BAD_REQUEST, "the content is missing");
    else if (r->pub.op == CSE_DELETE && r->pub.body.n != 0)
        request_refuse(r, ST_BAD_REQUEST, "a delete carries no content");
    take_response_type(r);
    check_times(r, now);
}
