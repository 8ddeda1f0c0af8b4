/* The administrating stakeholders whom this MEF has heard of: the policy rules of each, how much each has of what all
 * have to share, and where to find it: what a request looks for, it looks for among one stakeholder's. */
#pragma once
#include "mef-plugin/mef/internal.h"
#include "mef-plugin/mef/policy.h"
#include "mef-plugin/mef/shelf.h"

enum share { SHARE_CREDENTIALS, SHARE_APPLICATIONS, SHARE_REGISTRATIONS, SHARES };

enum by {
    BY_REGISTRANT, /* client registrations, in the order of discovery, like all registrations: res_order() */
    BY_SOURCE,     /* key registrations.. */
    BY_TARGET,
    BY_APPLICATION, /* ..by its name */
    BY_LABEL,       /* registrations of either kind */
    BY_HOLDER,      /* credentials, by whom they speak for; the one that expires last is the last */
    BY_MEMBER,      /* names of applications */
    BYS
};

struct stakeholder {
    char *admin;               /* adminFQDN */
    struct policy_rule *rules; /* by name */
    size_t nrules;
    size_t has[SHARES];
    struct sorted names[SHARES]; /* of credentials, applications and client registrations; see stakeholder_next() */
    struct shelf *by[BYS];
    UT_hash_handle hh;
};

struct stakeholder *stakeholder_find(const struct mef *m, const char *admin); /* NULL: nothing is its */
struct stakeholder *stakeholder_get(struct mef *m, const char *admin);        /* or made; NULL: out of memory */
void stakeholders_free(struct mef *m);

/* May it have one more, when all have `used` of `max` together: a `[mef] stakeholder-share` of them, and at least one? */
bool stakeholder_has_room(const struct mef *m, const char *admin, enum share what, size_t used, size_t max);
/* In the order of their names, the one of its own that comes behind `after` ("": the first); NULL: none. */
const char *stakeholder_next(const struct mef *m, const char *admin, enum share what, const char *after);
/* What of its own a name leads to; NULL: nothing. */
const struct shelf *stakeholder_shelf(const struct mef *m, const char *admin, enum by by, const char *name);
