/* What a client is told to do, and in which order (TS-0003 8.3.4.6, 8.3.9, 12): pure functions, without store or clock.
 * A client registration has commands with rising ids: those that are done, at most one that is issued and has no Update
 * yet, and those that wait. When none waits the MEF issues NO_MORE_COMMANDS, which has an id of its own. */
#pragma once
#include "mef-plugin/mef/attrs.h"

struct mef;

enum command_class { COMMAND_NO_MORE, COMMAND_CERT_PROV, COMMAND_DEV_CFG, COMMAND_MO_NODE, COMMAND_CLASSES };

/* cmdStatusCodes of the MEF, and the client's word that all is well. */
enum { COMMAND_ISSUED = 10, COMMAND_REISSUED = 11, COMMAND_OK = 20 };

#define COMMAND_MAX_ID UINT64_C(999999999999999)

struct command_state {
    uint64_t last;    /* greatest id given so far */
    uint64_t current; /* issued, and no Update came; 0: none */
    bool no_more;     /* that one is a NO_MORE_COMMANDS */
};

/* What the client is told is next.current, as this status. It has to be stored before, if it differs from what was. */
struct command_step {
    struct command_state next;
    int status;    /* COMMAND_ISSUED or COMMAND_REISSUED */
    bool accepted; /* the Update was for the current one: its result counts */
};

/* The client asks by a Retrieve (updated 0), or reports on a command by an Update and so asks for the next. waiting:
 * the first id that waits, 0: none does. */
struct command_step command_step(struct command_state s, uint64_t waiting, uint64_t updated);

/* May a client report this of a command of this class? */
bool command_may_report(enum command_class class, int64_t status);
/* ..of any class? */
bool command_is_report(int64_t status);

#define COMMAND_MAX_TEXT 1024 /* bytes of a description in JSON */

/* A cmdDescription (TS-0003 12) that the MEF may issue: of a class other than NO_MORE_COMMANDS, its arguments whole and
 * of sense, its URIs at `fqdn`, which this MEF is for the client. Returns it as JSON text that the caller owns; NULL: r says
 * why not. */
MUST_USE char *command_read(const struct mef *m, const char *fqdn, const cJSON *in, struct mef_result *r);
/* The class of a text that command_read() gave once; COMMAND_NO_MORE: it is none, or there is no memory
 * to read it. */
enum command_class command_class_of(const char *text);
