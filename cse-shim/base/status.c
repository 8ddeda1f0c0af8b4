#include "cse-shim/base/status.h"

#define COAP(c, d) ((uint8_t)((c) << 5 | (d)))

/* Conformance: B-1 | TS-0008 6.2.4, TS-0009 6.3.2 | shown by: test_procedures.py:test_status_codes */
static const struct st_map table[ST_COUNT] = {
    [ST_OK] = {2000, 200, COAP(2, 5), "OK"},
    [ST_CREATED] = {2001, 201, COAP(2, 1), "Created"},
    [ST_DELETED] = {2002, 200, COAP(2, 2), "Deleted"},
    [ST_UPDATED] = {2004, 200, COAP(2, 4), "Updated"},
    [ST_BAD_REQUEST] = {4000, 400, COAP(4, 0), "Bad request"},
    [ST_RELEASE_NOT_SUPPORTED] = {4001, 501, COAP(5, 1), "Release version not supported"},
    [ST_NOT_FOUND] = {4004, 404, COAP(4, 4), "Not found"},
    [ST_NOT_ALLOWED] = {4005, 405, COAP(4, 5), "Operation not allowed"},
    [ST_TIMEOUT] = {4008, 504, COAP(5, 4), "Request timeout"},
    [ST_UNSUPPORTED_MEDIA] = {4015, 415, COAP(4, 15), "Unsupported media type"},
    [ST_UNACCEPTABLE] = {4102, 400, COAP(4, 0), "Contents unacceptable"},
    [ST_NO_PRIVILEGE] = {4103, 403, COAP(4, 3), "Originator has no privilege"},
    [ST_CONFLICT] = {4105, 409, COAP(4, 3), "Conflict"},
    [ST_NOT_AUTHENTICATED] = {4106, 403, COAP(4, 3), "Originator not authenticated"},
    [ST_ASSOCIATION_REQUIRED] = {4107, 403, COAP(4, 3), "Security association required"},
    [ST_INVALID_CHILD] = {4108, 403, COAP(4, 3), "Invalid child resource type"},
    [ST_ALREADY_REGISTERED] = {4117, 403, COAP(4, 3), "Originator has already registered"},
    [ST_UNAUTHORIZED] = {4106, 401, COAP(4, 1), "Unauthorized"},
    [ST_TOO_LARGE] = {4000, 413, COAP(4, 13), "Request entity too large"},
    [ST_TOO_MANY] = {4103, 429, COAP(4, 29), "Too many requests"},
    [ST_INTERNAL] = {5000, 500, COAP(5, 0), "Internal server error"},
    [ST_NOT_IMPLEMENTED] = {5001, 501, COAP(5, 1), "Not implemented"},
    [ST_UNREACHABLE] = {5103, 404, COAP(4, 4), "Target not reachable"},
    [ST_EXISTS] = {5106, 409, COAP(4, 0), "Already exists"},
    [ST_NOT_ACCEPTABLE] = {5207, 406, COAP(4, 6), "Not acceptable"},
    [ST_UNAVAILABLE] = {5000, 503, COAP(5, 3), "Service unavailable"},
};

const struct st_map *st_map(enum st st)
{
    return (unsigned)st < ST_COUNT ? &table[st] : &table[ST_INTERNAL];
}

enum st st_from_rsc(uint16_t rsc)
{
    for (unsigned i = 0; i < ST_COUNT; i++)
        if (table[i].rsc == rsc)
            return (enum st)i;
    return ST_INTERNAL;
}
