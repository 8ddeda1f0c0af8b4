/* The one status enumeration and its one mapping to the protocols: oneM2M RSC (TS-0004 6.6.3), CoAP response code
 * (TS-0008 Table 6.2.4-1) and HTTP status (TS-0009 Table 6.3.2-1). Rooms return `enum st`; bindings translate. */
#pragma once
#include <stdint.h>

enum st {
    ST_OK,                     /* RSC 2000 */
    ST_CREATED,                /* 2001 */
    ST_DELETED,                /* 2002 */
    ST_UPDATED,                /* 2004 */
    ST_BAD_REQUEST,            /* 4000 */
    ST_RELEASE_NOT_SUPPORTED,  /* 4001 */
    ST_NOT_FOUND,              /* 4004 */
    ST_NOT_ALLOWED,            /* 4005 operation not allowed on this resource */
    ST_TIMEOUT,                /* 4008 */
    ST_UNSUPPORTED_MEDIA,      /* 4015 */
    ST_UNACCEPTABLE,           /* 4102 contents well-formed but not acceptable */
    ST_NO_PRIVILEGE,           /* 4103 */
    ST_CONFLICT,               /* 4105 */
    ST_NOT_AUTHENTICATED,      /* 4106 From is not the authenticated identity */
    ST_ASSOCIATION_REQUIRED,   /* 4107 */
    ST_INVALID_CHILD,          /* 4108 */
    ST_ALREADY_REGISTERED,     /* 4117 */
    ST_UNAUTHORIZED,           /* REST only: no or wrong operator credential; HTTP 401, RSC 4106 */
    ST_TOO_LARGE,              /* HTTP 413, CoAP 4.13, RSC 4000 */
    ST_TOO_MANY,               /* HTTP 429, CoAP 4.29, RSC 4103 */
    ST_INTERNAL,               /* 5000 */
    ST_NOT_IMPLEMENTED,        /* 5001 */
    ST_UNREACHABLE,            /* 5103 */
    ST_EXISTS,                 /* 5106 */
    ST_NOT_ACCEPTABLE,         /* 5207 */
    ST_UNAVAILABLE,            /* HTTP 503, CoAP 5.03, RSC 5000: draining or out of a configured resource */
    ST_COUNT
};

struct st_map {
    uint16_t rsc;      /* oneM2M response status code */
    uint16_t http;     /* HTTP status */
    uint8_t coap;      /* CoAP code byte: class << 5 | detail */
    const char *text;  /* short English phrase, used as RFC 9457 title */
};

/* Never NULL: an unknown value maps like ST_INTERNAL. */
const struct st_map *st_map(enum st st);

/* The first enum value that carries this RSC; ST_INTERNAL if none does. */
enum st st_from_rsc(uint16_t rsc);
