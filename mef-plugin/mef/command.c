#include "mef-plugin/mef/command.h"

/* Conformance: C-2 | TS-0003 8.3.9.2 | shown by: test_commands.py:test_the_answer_to_an_update_is_the_next_command */
/* Conformance: C-2 | TS-0003 8.3.9.2 | ours: cmdIDs are decimal numbers that rise within a registration */
/* Conformance: C-3 | TS-0003 8.3.9.2 | shown by: test_commands.py:test_a_command_without_a_report_is_issued_again */
/* Conformance: C-4 | TS-0003 8.3.9.3 | shown by: test_commands.py:test_the_answer_to_an_update_is_the_next_command */
/* Conformance: C-5 | TS-0003 8.3.9.3 | shown by: test_commands.py:test_an_update_of_another_command */
/* Conformance: C-5 | TS-0003 8.3.9.3 | ours: the next command is then the current one again */
/* Conformance: C-7 | TS-0003 8.3.9 | shown by: test_commands.py:test_no_more_commands */
/* Conformance: C-7 | TS-0003 8.3.9 | ours: told again under its cmdID, as ISSUED, until there is a command */
struct command_step command_step(struct command_state s, uint64_t waiting, uint64_t updated)
{
    struct command_step o = {.next = s, .status = COMMAND_ISSUED, .accepted = updated != 0 && updated == s.current};
    bool open = s.current != 0 && !o.accepted;
    if (open && !s.no_more) {
        /* No word came of it: this one again, and nothing else until then. A report on another command (an Update that
         * is sent again because its answer was lost) counts as none. */
        o.status = COMMAND_REISSUED;
    } else if (waiting != 0) {
        o.next.current = waiting;
        o.next.no_more = false;
    } else if (!open) {
        o.next.current = ++o.next.last;
        o.next.no_more = true;
    } /* else NO_MORE_COMMANDS holds; no Update is expected of it */
    return o;
}

/* What a client may report (TS-0003 12.3.2.4), by class. */
#define CLASS(c) (1u << (c))
#define ANY (CLASS(COMMAND_CLASSES) - 1)
static const struct {
    int64_t status;
    unsigned classes;
} reports[] = {
    {COMMAND_OK, ANY},
    {40, ANY},                           /* REPEATED_CMD_ID */
    {41, ANY},                           /* CLASS_NOT_SUPPORTED */
    {42, ANY},                           /* BAD_ARGUMENTS */
    {43, ANY & ~CLASS(COMMAND_NO_MORE)}, /* UNACCEPTABLE_ARGUMENTS */
    {100, CLASS(COMMAND_CERT_PROV)},     /* CERT_PROV_SERVER_ERROR */
    {101, CLASS(COMMAND_CERT_PROV)},     /* CERT_PROV_CLIENT_ERROR */
    {201, CLASS(COMMAND_DEV_CFG)},       /* DEV_CFG_SERVER_ERROR */
    {202, CLASS(COMMAND_DEV_CFG)},       /* DEV_CFG_CLIENT_ERROR */
    {300, CLASS(COMMAND_MO_NODE)},       /* MO_NODE_NOT_FOUND */
    {301, CLASS(COMMAND_MO_NODE)},       /* MO_NODE_TYPE_CONFLICT */
    {302, CLASS(COMMAND_MO_NODE)},       /* MO_NODE_BAD_ARGS */
    {303, CLASS(COMMAND_MO_NODE)},       /* MO_NODE_UNACCEPTABLE_ARGS */
    {304, CLASS(COMMAND_MO_NODE)},       /* MO_NODE_INCONSISTENT_CONFIG */
    {305, CLASS(COMMAND_MO_NODE)},       /* MO_NODE_EXECUTION_ERROR */
};

static unsigned reported_by(int64_t status)
{
    for (size_t i = 0; i < sizeof reports / sizeof *reports; i++)
        if (reports[i].status == status)
            return reports[i].classes;
    return 0;
}

/* Conformance: C-8 | TS-0003 12.3.2.4 | shown by: test_commands.py:test_each_status_code */
/* Conformance: C-8 | TS-0003 12.3.2.4 | ours: one that does not go with the command's class is a BAD_REQUEST */
bool command_may_report(enum command_class class, int64_t status)
{
    return (reported_by(status) & CLASS(class)) != 0;
}

bool command_is_report(int64_t status)
{
    return reported_by(status) != 0;
}
