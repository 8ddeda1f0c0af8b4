/* schedules: runs seeded schedules of the Enrolment Gateway in virtual time. See model.h and run.py. */
#include "tests/schedules/model.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

struct options {
    uint64_t seed, count, dump_every;
    const char *dump;
    bool verbose, plan;
};

static bool read_options(int argc, char **argv, struct options *o)
{
    static const struct option names[] = {{"seed", 1, NULL, 's'},
                                          {"count", 1, NULL, 'n'},
                                          {"dump", 1, NULL, 'd'},
                                          {"dump-every", 1, NULL, 'e'},
                                          {"verbose", 0, NULL, 'v'},
                                          {"plan", 0, NULL, 'p'},
                                          {0}};
    *o = (struct options){.seed = 1, .count = 1, .dump_every = 10};
    for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        uint64_t n = optarg != NULL ? strtoull(optarg, NULL, 10) : 0;
        switch (c) {
        case 's':
            o->seed = n;
            break;
        case 'n':
            o->count = n;
            break;
        case 'd':
            o->dump = optarg;
            break;
        case 'e':
            o->dump_every = n > 0 ? n : 1;
            break;
        case 'v':
            o->verbose = true;
            break;
        case 'p':
            o->plan = true;
            break;
        default:
            return false;
        }
    }
    return optind == argc;
}

static void print_sum(const struct tally *t, uint64_t passed, uint64_t failed, double seconds)
{
    printf("{\"passed\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"seconds\":%.1f,\"keys\":%" PRIu64
           ",\"tunnelled\":%" PRIu64 ",\"removed\":%" PRIu64 ",\"otherDomain\":%" PRIu64 ",\"joined\":%" PRIu64
           ",\"linked\":%" PRIu64 ",\"rejoined\":%" PRIu64 ",\"left\":%" PRIu64 ",\"refused\":%" PRIu64
           ",\"downlinks\":%" PRIu64 ",\"attacks\":%" PRIu64 ",\"kills\":%" PRIu64 ",\"gatewayRestarts\":%" PRIu64
           ",\"repeats\":%" PRIu64 ",\"wishes\":%" PRIu64 "}\n",
           passed, failed, seconds, t->keys, t->tunnelled, t->removed, t->other_domain, t->joined, t->linked, t->rejoined, t->left, t->refused, t->downlinks,
           t->attacks, t->kills, t->restarts, t->repeats, t->wishes);
}

/* A schedule that fails is run again, with its trace. */
static bool run_one(uint64_t seed, const struct options *o, FILE *dump, struct tally *sum)
{
    char why[300];
    if (schedule_run(seed, o->verbose ? stdout : NULL, dump, sum, why))
        return true;
    printf("FAILED seed %" PRIu64 ": %s\n", seed, why);
    if (!o->verbose) {
        struct tally ignored = {0};
        schedule_run(seed, stdout, NULL, &ignored, why);
        printf("again: schedules --seed %" PRIu64 " --count 1 --verbose\n", seed);
    }
    fflush(stdout);
    return false;
}

int main(int argc, char **argv)
{
    struct options o;
    struct tally sum = {0};
    if (!read_options(argc, argv, &o)) {
        fputs("usage: schedules [--seed N] [--count N] [--dump FILE [--dump-every N]] [--verbose] [--plan]\n", stderr);
        return 2;
    }
    if (o.plan)
        return schedule_plan(o.seed, stdout) ? 0 : 1;
    FILE *dump = o.dump != NULL ? fopen(o.dump, "w") : NULL;
    if (o.dump != NULL && dump == NULL) {
        perror(o.dump);
        return 2;
    }
    uint64_t failed = 0;
    time_t start = time(NULL);
    for (uint64_t i = 0; i < o.count; i++)
        failed += !run_one(o.seed + i, &o, i % o.dump_every == 0 ? dump : NULL, &sum);
    print_sum(&sum, o.count - failed, failed, difftime(time(NULL), start));
    if (dump != NULL && fclose(dump) != 0)
        return 2;
    return failed > 0;
}
