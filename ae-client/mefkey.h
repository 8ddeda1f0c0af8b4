/* Inside of the mefkey program: its options, and its commands. */
#pragma once
#include "ae-client/aec.h"
#include "ae-client/frame.h"

enum exit_code { /* documented in --help and mefkey(1) */
                 EXIT_OK = 0,
                 EXIT_FAILED = 1,
                 EXIT_USAGE = 2,
                 EXIT_CONFIG = 3,
                 EXIT_NOT_FOUND = 4,
                 EXIT_REFUSED = 5,
                 EXIT_NO_ANSWER = 6
};

/* Options as given, or from the configuration; NULL: absent. */
struct options {
    const char *mef, *id, *psk_file, *ae_id, *base, *admin_fqdn, *timeout; /* also in the configuration */
    struct aec_certificate certificate;                                    /* also in the configuration */
    const char *config, *expires, *out, *count, *endpoint, *cluster, *profile, *command, *payload;
    bool to_stdout, follow, check_config, version, help;
};

struct command {
    const char *name, *operands, *help;
    bool operand; /* takes one */
    enum exit_code (*run)(struct aec *c, const struct options *o, const char *operand);
};
extern const struct command mefkey_commands[]; /* ended by name NULL */

/* Parse a number (0x.. allowed) no greater than max. */
MUST_USE bool mefkey_number(const char *text, unsigned long max, unsigned long *out);
/* One line on standard error; gives `code` back. */
__attribute__((format(printf, 2, 3))) enum exit_code mefkey_fail(enum exit_code code, const char *fmt, ...);
/* Print what the MEF said, and choose the exit code. */
enum exit_code mefkey_refused(const struct aec *c, const char *what, enum st st);
