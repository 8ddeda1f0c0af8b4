#include "cse-shim/host/host.h"
#include "cse-shim/host/json.h"

#include <errno.h>
#include <getopt.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>
#include <time.h>

enum { EXIT_USAGE = 2, EXIT_CONFIG = 3 }; /* beside EXIT_SUCCESS and EXIT_FAILURE */

#define ERROR_TEXT 512

static const char usage[] =
    "usage: mefd --config FILE [--check-config]\n"
    "       mefd --print-config [--plugin FILE]\n"
    "       mefd --help | --version\n"
    "\n"
    "M2M Enrolment Function with Zigbee Enrolment Gateway.\n"
    "  -c, --config FILE   configuration\n"
    "      --check-config  read the configuration, say whether it is good, and end\n"
    "      --print-config  print every option with its default, commented\n"
    "      --plugin FILE   plugin whose options --print-config prints\n"
    "\n"
    "SIGTERM: finish the requests in flight, then end. SIGHUP: read configuration and certificate again.\n"
    "Exit codes: 0 ended as asked, 1 failed while running, 2 usage, 3 configuration.\n";

struct arguments {
    const char *config, *plugin;
    bool check, print;
};

/* One run: what main() owns. The plugin may keep texts of the first configuration and of the one it last took. */
struct daemon {
    const char *config_path;
    struct plugin_file file;
    const struct conf_option *tables[2];
    struct conf *first, *latest;
    sd_event *loop;
    struct cse_host *host;
};

/* 0: go on; else the exit code plus one. */
static int parse_arguments(int argc, char **argv, struct arguments *a)
{
    static const struct option longs[] = {{"config", required_argument, NULL, 'c'}, {"check-config", no_argument, NULL, 'k'},
                                          {"print-config", no_argument, NULL, 'p'}, {"plugin", required_argument, NULL, 'P'},
                                          {"help", no_argument, NULL, 'h'},         {"version", no_argument, NULL, 'v'},
                                          {NULL, 0, NULL, 0}};
    int o;
    while ((o = getopt_long(argc, argv, "c:h", longs, NULL)) != -1) {
        if (o == 'c')
            a->config = optarg;
        else if (o == 'P')
            a->plugin = optarg;
        else if (o == 'k')
            a->check = true;
        else if (o == 'p')
            a->print = true;
        else if (o == 'h' || o == 'v')
            return fputs(o == 'h' ? usage : "mefd " MEF_VERSION "\n", stdout) < 0 ? EXIT_FAILURE + 1 : EXIT_SUCCESS + 1;
        else
            return EXIT_USAGE + 1;
    }
    if (optind == argc && (a->config != NULL || a->print))
        return 0;
    fputs(usage, stderr);
    return EXIT_USAGE + 1;
}

/* Key bytes live in this process: no core, no ptrace by the same user. */
static void protect_memory(void)
{
    struct rlimit none = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &none);
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    json_wipe_on_free();
}

/* "./x.so" and "/x.so" are paths, also relative to the configuration; what the loader finds by name has no slash. */
static bool load_plugin(struct daemon *d, const char *named, char *err)
{
    char *path = named != NULL ? strdup(named) : NULL;
    const char *slash = d->config_path == NULL ? NULL : strrchr(d->config_path, '/');
    if (path != NULL && path[0] != '/' && slash != NULL) {
        char *whole = NULL;
        if (asprintf(&whole, "%.*s/%s", (int)(slash - d->config_path), d->config_path, path) < 0)
            whole = NULL;
        free(path);
        path = whole;
    }
    d->file = plugin_load(path != NULL ? path : MEF_PLUGIN_PATH, err, ERROR_TEXT);
    free(path);
    d->tables[0] = host_options;
    d->tables[1] = d->file.plugin == NULL ? NULL : d->file.plugin->options;
    return d->file.plugin != NULL;
}

static size_t ntables(const struct daemon *d)
{
    return d->tables[1] == NULL ? 1 : 2;
}

static struct conf *load_config(struct daemon *d, char *err)
{
    struct conf *c = conf_load(d->config_path, d->tables, ntables(d), err, ERROR_TEXT);
    if (c == NULL)
        return NULL;
    if (!log_level_named(conf_str(c, "daemon", "log-level"))) {
        snprintf(err, ERROR_TEXT, "%s: [daemon] log-level is none of error, warning, notice, info, debug", d->config_path);
        conf_free(c);
        return NULL;
    }
    return c;
}

/* --- signals ---------------------------------------------------------------------------------------------------------- */

static int on_stop(sd_event_source *s, const struct signalfd_siginfo *si, void *user)
{
    (void)s;
    struct daemon *d = user;
    log_event(LOG_NOTICE, "daemon.stopping", "signal=%u", si->ssi_signo);
    sd_notify(0, "STOPPING=1");
    host_drain(d->host);
    return 0;
}

static int on_reload(sd_event_source *s, const struct signalfd_siginfo *si, void *user)
{
    (void)s;
    (void)si;
    struct daemon *d = user;
    char err[ERROR_TEXT] = "";
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%lld", (long long)ts.tv_sec * 1000000 + ts.tv_nsec / 1000);
    struct conf *c = load_config(d, err);
    if (c != NULL && host_reload(d->host, c, err, sizeof err)) {
        conf_free(d->latest);
        d->latest = c;
        log_event(LOG_NOTICE, "daemon.reloaded", "config=%s", d->config_path);
    } else {
        conf_free(c);
        log_event(LOG_ERROR, "daemon.reload-failed", "reason=\"%s\" effect=\"the old configuration stays\"", err);
    }
    sd_notify(0, "READY=1");
    return 0;
}

static bool take_signals(struct daemon *d)
{
    signal(SIGPIPE, SIG_IGN);
    return sd_event_add_signal(d->loop, NULL, SIGTERM, on_stop, d) >= 0 &&
           sd_event_add_signal(d->loop, NULL, SIGINT, on_stop, d) >= 0 &&
           sd_event_add_signal(d->loop, NULL, SIGHUP, on_reload, d) >= 0;
}

/* Blocked before any thread starts, so that only the loop sees them. */
static void block_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

/* --- running ------------------------------------------------------------------------------------------------------------ */

static int run(struct daemon *d)
{
    char err[ERROR_TEXT] = "";
    struct host_setup setup = {.config_path = d->config_path, .conf = d->first, .plugin = d->file.plugin};
    block_signals();
    if (sd_event_new(&d->loop) < 0 || !take_signals(d) || (d->host = host_new(d->loop, &setup, err, sizeof err)) == NULL ||
        !host_listen(d->host, err, sizeof err)) {
        log_event(LOG_ERROR, "daemon.start-failed", "reason=\"%s\"", err);
        return EXIT_FAILURE;
    }
    (void)sd_event_set_watchdog(d->loop, true);
    log_event(LOG_NOTICE, "daemon.ready", "version=%s plugin=%s plugin-version=%s", MEF_VERSION, d->file.plugin->name,
              d->file.plugin->version);
    sd_notify(0, "READY=1");
    int code = sd_event_loop(d->loop);
    log_event(LOG_NOTICE, "daemon.stopped", "code=%d", code);
    return code == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int start(struct daemon *d, const struct arguments *a)
{
    char err[ERROR_TEXT] = "";
    char *named = a->plugin != NULL ? strdup(a->plugin)
                  : a->config != NULL ? conf_peek(a->config, "daemon", "plugin")
                                    : NULL;
    bool loaded = load_plugin(d, named, err);
    free(named);
    d->first = !loaded || a->config == NULL ? NULL : load_config(d, err);
    if (!loaded || (a->config != NULL && d->first == NULL)) {
        fprintf(stderr, "mefd: %s\n", err);
        return EXIT_CONFIG;
    }
    if (a->print)
        conf_print_sample(stdout, d->tables, ntables(d));
    else if (a->check && !host_check(d->first, err, sizeof err))
        fprintf(stderr, "mefd: %s\n", err);
    else if (a->check)
        printf("%s: good\n", a->config);
    else
        return run(d);
    return err[0] == '\0' ? EXIT_SUCCESS : EXIT_CONFIG;
}

int main(int argc, char **argv)
{
    struct arguments a = {0};
    int stop = parse_arguments(argc, argv, &a);
    if (stop != 0)
        return stop - 1;
    protect_memory();
    struct daemon d = {.config_path = a.config};
    int code = start(&d, &a);
    host_free(d.host);
    sd_event_unref(d.loop);
    conf_free(d.latest);
    conf_free(d.first);
    plugin_unload(&d.file);
    return code;
}
