/* The order of commands as text: for each state, with and without commands that wait, what a Retrieve and an Update lead
 * to; and which status goes with which class. A changed rule shows as a changed line of golden/mef-command.txt. To accept a
 * change, write the output of `test_command --print` there. */
#include "mef-plugin/mef/command.h"
#include "mef-plugin/mef/internal.h"
#include "tests/unit/golden.h"

#include <inttypes.h>

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
    assert_golden("MEF_COMMAND_GOLDEN", print_all);
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

/* Arguments, with single quotes; what is said of them, and of which member. */
#define C1(args) "{'cmdClassID':1,'cmdArgs':{'certProvCmdArgs':{" args "}}}"
#define C2(uri) "{'cmdClassID':2,'cmdArgs':{'devCfgCmdArgs':{'deviceConfigURI':'" uri "'}}}"
#define C3(args) "{'cmdClassID':3,'cmdArgs':{'MONodeCmdArgs':{" args "}}}"
#define CERT(protocol, uri, type, id)                                                                                  \
    C1("'certProvProtocolID':" protocol ",'URI':'" uri "','certSubjectType':" type ",'certSubjectID':'" id "'")
#define NODE(path, type, more) C3("'objectPath':'" path "','objectTypeID':" type more)
#define EST "https://mef.example.com/est"
#define SUID(n) ",'objectTypeSpecifcArgs':{'SUID':" n "}"
static const struct {
    const char *text, *code, *field; /* code NULL: good */
} descriptions[] = {
    {CERT("1", EST, "1", "node-7"), NULL, NULL},
    {CERT("2", EST, "2", "/cse1"), NULL, NULL},
    {CERT("1", EST, "2", "//other.example.com/cse1"), NULL, NULL},
    {CERT("1", EST, "3", "C1"), NULL, NULL},
    {CERT("1", EST, "3", "S1"), NULL, NULL},
    {CERT("1", EST, "3", "//sp.example.com/S1"), NULL, NULL},
    {CERT("1", EST, "3", "/cse1/C1"), NULL, NULL},
    {CERT("0", EST, "3", "C1"), "bad-value", "certProvProtocolID"},
    {CERT("3", EST, "3", "C1"), "bad-value", "certProvProtocolID"},
    {CERT("1.5", EST, "3", "C1"), "bad-value", "certProvProtocolID"},
    {CERT("1", "https://other.example.com", "3", "C1"), "bad-value", "URI"},
    {CERT("1", "", "3", "C1"), "bad-value", "URI"},
    {CERT("1", EST, "0", "C1"), "bad-value", "certSubjectType"},
    {CERT("1", EST, "4", "C1"), "bad-value", "certSubjectType"},
    {CERT("1", EST, "1", "/cse1"), "bad-value", "certSubjectID"},
    {CERT("1", EST, "1", "node 7"), "bad-value", "certSubjectID"},
    {CERT("1", EST, "2", "C1"), "bad-value", "certSubjectID"},
    {CERT("1", EST, "2", "//sp.example.com/cse1/C1"), "bad-value", "certSubjectID"},
    {CERT("1", EST, "3", "/cse1"), "bad-value", "certSubjectID"},
    {CERT("1", EST, "3", "x"), "bad-value", "certSubjectID"},
    {C1("'URI':'" EST "'"), "missing", "certProvProtocolID"},
    {C1("'zap':1"), "unknown-member", "zap"},
    {C2("1:" EST), NULL, NULL},
    {C2("4:" EST), NULL, NULL},
    {C2("0:" EST), "bad-value", "deviceConfigURI"},
    {C2("5:" EST), "bad-value", "deviceConfigURI"},
    {C2("11:" EST), "bad-value", "deviceConfigURI"},
    {C2(EST), "bad-value", "deviceConfigURI"},
    {C2("1"), "bad-value", "deviceConfigURI"},
    {C2("1:"), "bad-value", "deviceConfigURI"},
    {C2("1:http://server.dmprovider.com"), "bad-value", "deviceConfigURI"},
    {NODE("./a", "1", SUID("11")), NULL, NULL},
    {NODE("./a", "1", SUID("43")), NULL, NULL},
    {NODE("./a", "2", ""), NULL, NULL},
    {NODE("./a", "3", ""), NULL, NULL},
    {NODE("./a b", "3", ""), "bad-value", "objectPath"},
    {NODE("", "3", ""), "bad-value", "objectPath"},
    {NODE("./a", "0", ""), "bad-value", "objectTypeID"},
    {NODE("./a", "4", ""), "bad-value", "objectTypeID"},
    {NODE("./a", "1", ""), "bad-value", "objectTypeSpecifcArgs"},
    {NODE("./a", "2", SUID("22")), "bad-value", "objectTypeSpecifcArgs"},
    {NODE("./a", "1", ",'objectTypeSpecifcArgs':{}"), "missing", "SUID"},
    {NODE("./a", "1", ",'objectTypeSpecifcArgs':22"), "bad-value", "objectTypeSpecifcArgs"},
    {NODE("./a", "1", SUID("10")), "bad-value", "SUID"},
    {NODE("./a", "1", SUID("14")), "bad-value", "SUID"},
    {NODE("./a", "1", SUID("24")), "bad-value", "SUID"},
    {NODE("./a", "1", SUID("51")), "bad-value", "SUID"},
    {"{'cmdClassID':0,'cmdArgs':{'noMoreCmdArgs':{'retryDuration':'PT1S'}}}", "bad-value", "cmdClassID"},
    {"{'cmdClassID':4,'cmdArgs':{}}", "bad-value", "cmdClassID"},
    {"{'cmdClassID':'1','cmdArgs':{}}", "bad-value", "cmdClassID"},
    {"{'cmdArgs':{}}", "missing", "cmdClassID"},
    {"{'cmdClassID':1}", "missing", "cmdArgs"},
    {"{'cmdClassID':1,'cmdArgs':[]}", "bad-value", "cmdArgs"},
    {"{'cmdClassID':1,'cmdArgs':{}}", "missing", "certProvCmdArgs"},
    {"{'cmdClassID':1,'cmdArgs':{'certProvCmdArgs':1}}", "bad-value", "certProvCmdArgs"},
    {"{'cmdClassID':1,'cmdArgs':{'devCfgCmdArgs':{'deviceConfigURI':'1:" EST "'}}}", "unknown-member", "devCfgCmdArgs"},
    {"{'cmdClassID':2,'cmdArgs':{'devCfgCmdArgs':{'deviceConfigURI':'1:" EST "'}},'targetID':'C1'}", NULL, NULL},
    {"{'cmdClassID':2,'cmdArgs':{'devCfgCmdArgs':{'deviceConfigURI':'1:" EST "'}},'targetID':'maf.example.com'}",
     "bad-value", "targetID"},
    {"{'cmdClassID':2,'cmdArgs':{'devCfgCmdArgs':{'deviceConfigURI':'1:" EST "'},'MONodeCmdArgs':{}}}",
     "unknown-member", "MONodeCmdArgs"},
    {"[]", "bad-type", NULL},
};

static void arguments(void **state)
{
    (void)state;
    static struct mef m = {.sp_id = "//sp.example.com", .cse_id = "/in-cse"};
    for (size_t i = 0; i < sizeof descriptions / sizeof *descriptions; i++) {
        char text[512];
        snprintf(text, sizeof text, "%s", descriptions[i].text);
        for (char *p = text; *p != '\0'; p++)
            if (*p == '\'')
                *p = '"';
        cJSON *in = cJSON_Parse(text);
        assert_non_null(in);
        struct mef_result r = {0};
        char *kept = command_read(&m, "mef.example.com", in, &r);
        if ((kept != NULL) != (descriptions[i].code == NULL))
            fail_msg("%s: %s", text, kept != NULL ? "good" : r.field);
        if (kept != NULL) {
            assert_int_equal(command_class_of(kept), cJSON_GetObjectItem(in, "cmdClassID")->valueint);
            assert_string_equal(kept, text);
            free(kept);
        } else {
            assert_int_equal(r.st, ST_BAD_REQUEST);
            assert_string_equal(r.code, descriptions[i].code);
            assert_true(r.field == descriptions[i].field || strcmp(r.field, descriptions[i].field) == 0);
        }
        cJSON_Delete(in);
    }
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden), cmocka_unit_test(every_command_is_done_once),
                                       cmocka_unit_test(arguments)};
    return cmocka_run_group_tests_name("mef command", tests, NULL, NULL);
}
