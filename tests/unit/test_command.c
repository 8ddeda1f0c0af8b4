/* The order of commands as text: for each state, with and without commands that wait, what a Retrieve and an Update lead
 * to; and which status goes with which class. A changed rule shows as a changed line of golden/mef-command.txt. To accept a
 * change, write the output of `test_command --print` there. */
#include "mef-plugin/mef/command.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void print_state(FILE *out, struct command_state s)
{
    if (s.current == 0)
        fprintf(out, "nothing");
    else
        fprintf(out, "%s %" PRIu64, s.no_more ? "no-more" : "command", s.current);
}

static void print_step(FILE *out, struct command_state s, uint64_t waiting, uint64_t updated)
{
    struct command_step o = command_step(s, waiting, updated);
    print_state(out, s);
    fprintf(out, waiting == 0 ? ", none waits: " : ", one waits: ");
    if (updated == 0)
        fprintf(out, "retrieve -> ");
    else
        fprintf(out, "update %" PRIu64 " -> %s", updated, o.accepted ? "accepted, " : "");
    print_state(out, o.next);
    fprintf(out, " %s, last %" PRIu64, o.status == COMMAND_ISSUED ? "issued" : "reissued", o.next.last);
    fprintf(out, o.next.current == s.current ? ", nothing to store\n" : "\n");
}

static void print_all(FILE *out)
{
    static const struct command_state states[] = {{7, 0, false}, {7, 5, true}, {7, 5, false}};
    static const char *const classes[COMMAND_CLASSES] = {"no-more-commands", "cert-prov", "dev-cfg", "mo-node"};
    for (size_t i = 0; i < sizeof states / sizeof *states; i++)
        for (uint64_t waiting = 0; waiting <= 6; waiting += 6) {
            print_step(out, states[i], waiting, 0);
            for (uint64_t id = 4; id <= 6; id++)
                print_step(out, states[i], waiting, id);
        }
    for (unsigned class = 0; class < COMMAND_CLASSES; class++) {
        fprintf(out, "%s:", classes[class]);
        for (int status = -1; status <= 1000; status++)
            if (command_may_report(class, status)) {
                fprintf(out, " %d", status);
                assert_true(command_is_report(status));
            }
        fprintf(out, "\n");
    }
}

static void golden(void **state)
{
    (void)state;
    char *now = NULL, want[16384];
    size_t n;
    FILE *out = open_memstream(&now, &n), *in = fopen(getenv("MEF_COMMAND_GOLDEN"), "r");
    assert_non_null(out);
    assert_non_null(in);
    print_all(out);
    fclose(out);
    want[fread(want, 1, sizeof want - 1, in)] = '\0';
    fclose(in);
    assert_string_equal(now, want);
    free(now);
}

static uint64_t seed;

static unsigned below(unsigned n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % n;
}

/* A client by the book (TS-0003 8.3.4.6) on a line that loses requests and answers: every command is done exactly once and
 * in order, however often it was told. */
static void every_command_is_done_once(void **state)
{
    (void)state;
    struct command_state mef = {0};
    uint64_t made[4000], done[4000], hand = 0, reported = 0;
    size_t nmade = 0, ndone = 0, naccepted = 0;
    unsigned lost = 0;
    for (int round = 0; round < 20000 || naccepted < nmade; round++) {
        if (round < 20000 && nmade < 4000 && below(4) == 0)
            made[nmade++] = ++mef.last;
        size_t issued = naccepted + (mef.current != 0 && !mef.no_more);
        uint64_t told = reported; /* 0: a Retrieve */
        if (round < 20000 && below(5) == 0) {
            lost++; /* the request is: time-out, a Retrieve instead */
            reported = 0;
            continue;
        }
        struct command_step o = command_step(mef, issued < nmade ? made[issued] : 0, told);
        assert_true(o.next.last >= mef.last && o.next.current != 0 && o.next.current <= o.next.last);
        assert_true(o.accepted == (told != 0 && told == mef.current));
        if (o.accepted && !mef.no_more)
            naccepted++;
        assert_false(o.status == COMMAND_REISSUED && (o.next.no_more || o.next.current != mef.current));
        mef = o.next;
        if (round < 20000 && below(5) == 0) {
            lost++; /* the answer is: the Update again, or a Retrieve */
            if (below(2) == 0)
                reported = 0;
            continue;
        }
        reported = 0;
        if (mef.no_more)
            continue;
        if (hand != mef.current) { /* REPEATED_CMD_ID else: it was done, and is reported again */
            hand = mef.current;
            assert_true(ndone < 4000);
            done[ndone++] = hand;
        }
        reported = hand;
    }
    assert_int_equal(ndone, nmade);
    assert_memory_equal(done, made, nmade * sizeof *made);
    assert_true(lost > 1000);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--print") == 0) {
        print_all(stdout);
        return 0;
    }
    const char *given = getenv("MEF_SEED");
    seed = given == NULL ? 1 : strtoull(given, NULL, 10);
    printf("seed %" PRIu64 "\n", seed);
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden), cmocka_unit_test(every_command_is_done_once)};
    return cmocka_run_group_tests_name("mef command", tests, NULL, NULL);
}
