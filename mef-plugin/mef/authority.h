/* The names under which the MEF serves its stakeholders (TS-0003 10.2.1): each stakeholder belongs to one MEF-FQDN,
 * that of [mef] or another, and a client that asks for one of them by server name (SNI) meets its stakeholders only.
 * Read once; names are kept and given in lower case. */
#pragma once
#include "cse-shim/base/conf.h"

struct authorities;
/* From [mef] fqdn and the sections [stakeholder.*]. On failure NULL, and one line in err; it also logs what is odd but
 * no error. */
MUST_USE struct authorities *authorities_read(const struct conf *c, char *err, size_t errlen);
void authorities_free(struct authorities *a); /* NULL is fine */

/* The first MEF-FQDN: of every stakeholder that no section names. */
const char *authority_first(const struct authorities *a);
/* The MEF-FQDN of a stakeholder (its adminFQDN in lower case). */
const char *authority_of(const struct authorities *a, const char *admin);
/* Is this name, in lower case, one of our MEF-FQDNs? */
bool authority_is(const struct authorities *a, const char *fqdn);
/* May a credential of this stakeholder be used by a client that asked for server_name, in any case (NULL, "": none)? A
 * pre-shared key by its KpmID, which has to end in @ and the stakeholder's MEF-FQDN, and tells which is meant where no
 * name does; a certificate or raw key (kpm_id NULL) under the first one then. A name that is not ours is none. */
bool authority_admits(const struct authorities *a, const char *server_name, const char *admin, const char *kpm_id);
