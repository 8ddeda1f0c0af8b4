/* The short addresses given to approved devices, in a text file ("EUI64 SHORT" a line), so that a restarted gateway gives
 * none of them twice. It holds nothing else; losing it costs at most a repeated association. */
#pragma once
#include "ipe-ni/gateway/assoc.h"

/* Load into a; an absent file is an empty one. False with the reason in err. */
MUST_USE bool state_load(const char *path, struct assoc *a, char *err, size_t errlen);
/* Write anew: a temporary file beside it, synchronised, renamed. */
MUST_USE bool state_save(const char *path, const struct assoc *a);
