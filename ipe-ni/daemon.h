/* What ipe-nid and zbgwd have in common as programs: options, configuration, signals, readiness.
 * Exit codes: 0 ended as asked, 1 failed while running, 2 wrong usage, 3 wrong configuration or no start. */
#pragma once
#include "cse-shim/base/conf.h"

#include <systemd/sd-event.h>

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_CONFIG = 3 };

struct daemon_program {
    const char *name;
    const char *about;                  /* one line for --help */
    const char *default_config;
    const struct conf_option *options;  /* the program's table; [log] level is read too */
    /* Do the values go together? If not, one line in err. */
    bool (*check)(const struct conf *c, char *err, size_t errlen);
    /* Start; the result is handed to the others. NULL with a reason in err. pcap: the --pcap file or NULL. */
    void *(*start)(sd_event *loop, const struct conf *c, const char *pcap, char *err, size_t errlen);
    void (*reload)(void *app, const struct conf *c); /* SIGHUP, with a configuration that has passed check */
    bool (*drained)(void *app);                      /* SIGTERM: asked until true, 3 s at most */
    void (*stop)(void *app);
};

int daemon_main(const struct daemon_program *p, int argc, char **argv);
