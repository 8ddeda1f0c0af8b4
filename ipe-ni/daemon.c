#include "ipe-ni/daemon.h"

#include "cse-shim/base/log.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <systemd/sd-daemon.h>

enum { DRAIN_STEP_US = 20000, DRAIN_STEPS = 150 };

static const struct conf_option log_options[] = {
    {"log", "level", CONF_STRING, "info", 0, 0, "error, warn, notice, info or debug"},
    {0},
};

struct run {
    const struct daemon_program *program;
    const char *config, *pcap;
    bool check_only;
    sd_event *loop;
    sd_event_source *drain;
    void *app;
    unsigned drain_steps;
};

static bool level_of(const struct conf *c, enum log_level *out)
{
    static const struct {
        const char *name;
        enum log_level level;
    } levels[] = {{"error", LOG_ERROR},
                  {"warn", LOG_WARN},
                  {"notice", LOG_NOTICE},
                  {"info", LOG_INFO},
                  {"debug", LOG_DEBUG}};
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if (strcmp(conf_str(c, "log", "level"), levels[i].name) == 0) {
            *out = levels[i].level;
            return true;
        }
    return false;
}

/* Load and check; NULL after saying why on stderr. */
static struct conf *load(const struct run *r)
{
    const struct conf_option *tables[] = {log_options, r->program->options};
    char err[512];
    enum log_level level;
    struct conf *c = conf_load(r->config, tables, sizeof tables / sizeof *tables, err, sizeof err);
    if (c == NULL) {
        fprintf(stderr, "%s: %s\n", r->program->name, err);
        return NULL;
    }
    snprintf(err, sizeof err, "[log] level is not one of its words");
    if (!level_of(c, &level) || !r->program->check(c, err, sizeof err)) {
        fprintf(stderr, "%s: %s: %s\n", r->program->name, r->config, err);
        conf_free(c);
        return NULL;
    }
    log_level_set(level);
    return c;
}

static void usage(const struct daemon_program *p, FILE *to)
{
    fprintf(to,
            "Usage: %s [--config FILE] [--pcap FILE] [--check-config]\n%s\n\n"
            "  --config FILE    configuration (default %s)\n"
            "  --pcap FILE      capture what is carried\n"
            "  --check-config   read the configuration, say what is wrong with it, end\n"
            "  --help, --version\n\n"
            "Exit: 0 ended as asked, 1 failed while running, 2 wrong usage, 3 wrong configuration or no start.\n",
            p->name, p->about, p->default_config);
}

/* True to go on, else *code is the exit code. */
static bool parse_options(struct run *r, int argc, char **argv, int *code)
{
    enum { CONFIG, PCAP, CHECK, HELP, VERSION };
    static const struct option options[] = {
        {"config", required_argument, NULL, CONFIG}, {"pcap", required_argument, NULL, PCAP},
        {"check-config", no_argument, NULL, CHECK},  {"help", no_argument, NULL, HELP},
        {"version", no_argument, NULL, VERSION},     {0},
    };
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == CONFIG) {
            r->config = optarg;
        } else if (o == PCAP) {
            r->pcap = optarg;
        } else if (o == CHECK) {
            r->check_only = true;
        } else {
            *code = o == HELP || o == VERSION ? EXIT_OK : EXIT_USAGE;
            if (o == VERSION)
                printf("%s %s\n", r->program->name, MEF_VERSION);
            else
                usage(r->program, o == HELP ? stdout : stderr);
            return false;
        }
    }
    if (optind != argc)
        usage(r->program, stderr);
    *code = EXIT_USAGE;
    return optind == argc;
}

static int on_drain(sd_event_source *s, uint64_t now, void *user)
{
    struct run *r = user;
    if (r->program->drained(r->app) || ++r->drain_steps > DRAIN_STEPS)
        return sd_event_exit(r->loop, EXIT_OK);
    sd_event_source_set_time(s, now + DRAIN_STEP_US);
    return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

static int on_term(sd_event_source *s, const struct signalfd_siginfo *si, void *user)
{
    (void)s, (void)si;
    struct run *r = user;
    if (r->drain != NULL)
        return sd_event_exit(r->loop, EXIT_OK); /* asked twice */
    sd_notify(0, "STOPPING=1");
    return sd_event_add_time_relative(r->loop, &r->drain, CLOCK_MONOTONIC, 0, 1000, on_drain, r);
}

static int on_hup(sd_event_source *s, const struct signalfd_siginfo *si, void *user)
{
    (void)s, (void)si;
    struct run *r = user;
    sd_notify(0, "RELOADING=1");
    struct conf *c = load(r);
    if (c != NULL)
        r->program->reload(r->app, c);
    log_event(LOG_NOTICE, c != NULL ? "reloaded" : "reload.refused", "config=%s", r->config);
    conf_free(c);
    sd_notify(0, "READY=1");
    return 0;
}

static int run_loop(struct run *r, const struct conf *c)
{
    char err[512] = "out of memory";
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGINT);
    sigaddset(&mask, SIGHUP);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (sd_event_default(&r->loop) < 0 || sd_event_add_signal(r->loop, NULL, SIGTERM, on_term, r) < 0 ||
        sd_event_add_signal(r->loop, NULL, SIGINT, on_term, r) < 0 ||
        sd_event_add_signal(r->loop, NULL, SIGHUP, on_hup, r) < 0)
        return EXIT_CONFIG;
    sd_event_set_watchdog(r->loop, true);
    r->app = r->program->start(r->loop, c, r->pcap, err, sizeof err);
    if (r->app == NULL) {
        fprintf(stderr, "%s: %s\n", r->program->name, err);
        return EXIT_CONFIG;
    }
    sd_notify(0, "READY=1");
    int code = sd_event_loop(r->loop);
    r->program->stop(r->app);
    sd_event_source_unref(r->drain);
    sd_event_unref(r->loop);
    return code < 0 ? EXIT_FAILED : code;
}

int daemon_main(const struct daemon_program *p, int argc, char **argv)
{
    struct run r = {.program = p, .config = p->default_config};
    int code;
    if (!parse_options(&r, argc, argv, &code))
        return code;
    prctl(PR_SET_DUMPABLE, 0);
    struct conf *c = load(&r);
    if (c == NULL)
        return EXIT_CONFIG;
    code = r.check_only ? EXIT_OK : run_loop(&r, c);
    conf_free(c);
    return code;
}
