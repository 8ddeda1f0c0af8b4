/* The administrating stakeholders whom this MEF has heard of: the policy rules of each, and how much each has of what all
 * have to share. */
#pragma once
#include "mef-plugin/mef/internal.h"
#include "mef-plugin/mef/policy.h"

enum share { SHARE_CREDENTIALS, SHARE_APPLICATIONS, SHARE_REGISTRATIONS, SHARES };

struct stakeholder {
    char *admin;               /* adminFQDN */
    struct policy_rule *rules; /* by name */
    size_t nrules;
    size_t has[SHARES];
    UT_hash_handle hh;
};

struct stakeholder *stakeholder_find(const struct mef *m, const char *admin); /* NULL: nothing is its */
struct stakeholder *stakeholder_get(struct mef *m, const char *admin);        /* or made; NULL: out of memory */
void stakeholders_free(struct mef *m);

/* May it have one more, when all have `used` of `max` together: a `[mef] stakeholder-share` of them, and at least one? */
bool stakeholder_has_room(const struct mef *m, const char *admin, enum share what, size_t used, size_t max);
