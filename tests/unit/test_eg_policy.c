/* The verdict for a sound request, for each single and each pair of deviations from it, as text: a changed rule shows as
 * a changed line of golden/eg-policy.txt. To accept a change, write the output of `test_eg_policy --print` there. */
#include "mef-plugin/eg/policy.h"
#include "tests/unit/golden.h"

static const char *const names[FACT_COUNT] = {"owned", "pan-allowed", "registered", "expired", "gateway-allowed", "association",
                                              "in-domain", "revoked", "code-spent", "rearmed", "pending-here", "within-rate",
                                              "link-key"};

static const unsigned sound = FACT_OWNED | FACT_PAN_ALLOWED | FACT_REGISTERED | FACT_GATEWAY_ALLOWED | FACT_ASSOCIATION |
                              FACT_IN_DOMAIN | FACT_WITHIN_RATE;

static void print_fact(FILE *out, unsigned bit, unsigned facts)
{
    fprintf(out, "%s%s ", facts >> bit & 1 ? "" : "not-", names[bit]);
}

static void print_verdict(FILE *out, unsigned facts)
{
    static const char *const acts[] = {"refuse", "new-key", "resend"};
    struct policy_verdict v = policy_join(facts);
    fprintf(out, "-> %s%s%s\n", acts[v.act], v.act == POLICY_REFUSE ? " " : "",
            v.act == POLICY_REFUSE ? egp_reason_name(v.reason) : "");
}

static void print_all(FILE *out)
{
    fprintf(out, "sound ");
    print_verdict(out, sound);
    for (unsigned i = 0; i < FACT_COUNT; i++) {
        print_fact(out, i, sound ^ 1u << i);
        print_verdict(out, sound ^ 1u << i);
    }
    for (unsigned i = 0; i < FACT_COUNT; i++)
        for (unsigned j = i + 1; j < FACT_COUNT; j++) {
            unsigned facts = sound ^ 1u << i ^ 1u << j;
            print_fact(out, i, facts);
            print_fact(out, j, facts);
            print_verdict(out, facts);
        }
}

static void golden(void **state)
{
    (void)state;
    assert_golden("EG_POLICY_GOLDEN", print_all);
}

/* Over all 8,192 sets of facts: no key without a registration, to a revoked device, or under a lost gateway. */
static void never(void **state)
{
    (void)state;
    unsigned keys = 0;
    for (unsigned facts = 0; facts < 1u << FACT_COUNT; facts++) {
        struct policy_verdict v = policy_join(facts);
        assert_int_equal(v.act == POLICY_REFUSE, v.reason != EGP_OK);
        if (v.act == POLICY_REFUSE)
            continue;
        keys++;
        bool association = facts & FACT_ASSOCIATION;
        assert_int_equal((facts | FACT_ASSOCIATION) & sound, sound);
        assert_true(association || facts & FACT_LINK_KEY);
        assert_false(association && facts & FACT_EXPIRED);
        assert_true((facts & FACT_REVOKED) == 0 || facts & FACT_REARMED);
        assert_true(!association || (facts & FACT_CODE_SPENT) == 0 || facts & FACT_REARMED);
        assert_int_equal(v.act == POLICY_RESEND, (facts & FACT_PENDING_HERE) != 0);
    }
    assert_int_equal(keys, 44); /* 20 associations, with or without a link key; 24 rejoins */
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--print") == 0) {
        print_all(stdout);
        return 0;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden), cmocka_unit_test(never)};
    return cmocka_run_group_tests_name("eg policy", tests, NULL, NULL);
}
