/* The verdict of one stakeholder's rules for a request, for each single and each pair of other things that it could be, as
 * text: a change shows as a changed line of golden/mef-policy.txt. To accept it, write what `test_mef_policy --print` says
 * there. */
#include "mef-plugin/mef/policy.h"
#include "tests/unit/golden.h"

#define HALL 0x00124b0000000001u
#define YARD 0x00124b0000000002u
#define ALL ((1u << POLICY_WHATS) - 1)
#define NOON INT64_C(1795435200000)         /* Monday, 2026-11-23T12:00:00Z */
#define HOURS(n) ((n) * INT64_C(3600000))
#define V4(a, b, c, d) {[10] = 0xff, [11] = 0xff, a, b, c, d}
#define TEXTS(...) {(char *[]){__VA_ARGS__}, sizeof((char *[]){__VA_ARGS__}) / sizeof(char *)}

/* As an operator would write them; each has a condition of its own. */
static struct policy_rule rules[] = {
    {.name = "10-blocked", .deny = true, .what = ALL, .ids = TEXTS("//sp/cse/Cbad", "//sp/old/*")},
    {.name = "20-nights", .deny = true, .what = 1u << POLICY_TICKET, .days = 1u << 4 | 1u << 5, .from = 22 * 60, .to = 6 * 60},
    {.name = "30-hall", .what = 1u << POLICY_TICKET | 1u << POLICY_RETRIEVE, .gateways = {HALL}, .ngateways = 1,
     .networks = {{V4(10, 0, 0, 0), 96 + 8}, {{0x20, 0x01, 0x0d, 0xb8, 0x80}, 33}}, .nnetworks = 2},
    {.name = "40-guests", .what = 1u << POLICY_REGISTER | 1u << POLICY_DEPOSIT, .labels = TEXTS("guest", "visitor"), .lifetime = 3600,
     .targets = TEXTS("//sp/cse/Cdesk"), .commands = TEXTS("{'cmdClassID':2}", "{'cmdClassID':3}")},
    {.name = "50-office", .what = 1u << POLICY_DEPOSIT, .days = 0x1f, .from = 8 * 60, .to = 18 * 60, .lifetime = 86400},
    {.name = "60-retrieve", .what = 1u << POLICY_RETRIEVE},
    {.name = "90-rest", .deny = true, .what = 1u << POLICY_DEPOSIT | 1u << POLICY_TICKET},
};

static const struct policy_facts sound = {
    .what = POLICY_TICKET, .id = "//sp/cse/C1", .has_address = true, .address = V4(10, 1, 2, 3), .gateway = HALL, .now = NOON};

static struct strings guest = TEXTS("x", "guest"), other = TEXTS("guests");

/* clang-format off */
static void to_register(struct policy_facts *f) { f->what = POLICY_REGISTER; }
static void to_deposit(struct policy_facts *f) { f->what = POLICY_DEPOSIT; }
static void to_retrieve(struct policy_facts *f) { f->what = POLICY_RETRIEVE; }
static void to_command(struct policy_facts *f) { f->what = POLICY_COMMAND; }
static void blocked(struct policy_facts *f) { f->id = "//sp/cse/Cbad"; }
static void nearly_blocked(struct policy_facts *f) { f->id = "//sp/cse/Cbad1"; }
static void of_many(struct policy_facts *f) { f->id = "//sp/old/C7"; }
static void labelled(struct policy_facts *f) { f->labels = &guest; }
static void labelled_other(struct policy_facts *f) { f->labels = &other; }
static void from_v6(struct policy_facts *f) { memcpy(f->address, (uint8_t[16]){0x20, 0x01, 0x0d, 0xb8, 0x80, 1}, 16); }
static void from_v6_beside(struct policy_facts *f) { memcpy(f->address, (uint8_t[16]){0x20, 0x01, 0x0d, 0xb8, 0x7f}, 16); }
static void from_v4_beside(struct policy_facts *f) { f->address[12] = 11; }
static void from_nowhere(struct policy_facts *f) { f->has_address = false; }
static void at_yard(struct policy_facts *f) { f->gateway = YARD; }
static void at_none(struct policy_facts *f) { f->gateway = 0; }
static void friday_evening(struct policy_facts *f) { f->now = NOON + HOURS(4 * 24 + 10); }
static void before_that(struct policy_facts *f) { f->now = NOON + HOURS(4 * 24 + 10) - 1; }
static void sunday_morning(struct policy_facts *f) { f->now = NOON + HOURS(5 * 24 + 18) - 1; }
static void after_that(struct policy_facts *f) { f->now = NOON + HOURS(5 * 24 + 18); }
static void sunday_evening(struct policy_facts *f) { f->now = NOON + HOURS(6 * 24 + 11); }
static void friday_morning(struct policy_facts *f) { f->now = NOON + HOURS(4 * 24 - 10); }
static void monday_six(struct policy_facts *f) { f->now = NOON + HOURS(6); }
/* clang-format on */

static const struct {
    const char *name;
    void (*make)(struct policy_facts *f);
} others[] = {
    {"register", to_register}, {"deposit", to_deposit}, {"retrieve", to_retrieve}, {"command", to_command},
    {"blocked", blocked}, {"nearly-blocked", nearly_blocked}, {"of-many", of_many}, {"guest", labelled},
    {"other-label", labelled_other}, {"v6", from_v6}, {"v6-beside", from_v6_beside}, {"v4-beside", from_v4_beside},
    {"nowhere", from_nowhere}, {"yard", at_yard}, {"no-gateway", at_none}, {"fri-22:00", friday_evening},
    {"before-fri-22:00", before_that}, {"before-sun-06:00", sunday_morning}, {"sun-06:00", after_that},
    {"sun-23:00", sunday_evening}, {"fri-02:00", friday_morning}, {"mon-18:00", monday_six},
};
#define OTHERS (sizeof others / sizeof *others)

static const struct policy_rule *chain(void)
{
    for (size_t i = 0; i + 1 < sizeof rules / sizeof *rules; i++)
        rules[i].next = &rules[i + 1];
    return rules;
}

static void print_verdict(FILE *out, const struct policy_facts *f)
{
    struct policy_verdict v = policy_decide(chain(), f);
    fprintf(out, "-> %s", v.allow ? "allow" : "deny");
    if (v.rule != NULL)
        fprintf(out, " by %s", v.rule);
    if (v.lifetime != 0)
        fprintf(out, " %llu s", (unsigned long long)v.lifetime);
    for (size_t i = 0; v.targets != NULL && i < v.targets->n; i++)
        fprintf(out, " %s", v.targets->v[i]);
    for (size_t i = 0; v.commands != NULL && i < v.commands->n; i++)
        fprintf(out, " %s", v.commands->v[i]);
    fputc('\n', out);
}

/* As the host writes them, and in what a network of an operator's is. */
static const char *const peers[] = {
    "10.1.2.3:5684", "[::ffff:10.1.2.3]:5684", "[::10.1.2.3]:5684", "10.1.2.200:1", "11.0.0.0:65535", "0.0.0.0:0", "[2001:db8::1]:5684",
    "[2001:db9::1]:5684", "[fe80::1]:5684", "[fe80::1%eth0]:5684", "[fe80::1%2]:8443", "[::1]:8443", "[::]:0", "127.0.0.1:8443", "", "?",
    "[]:1", ":1", "10.1.2:1", "010.1.2.3:1", "localhost:1", "[10.1.2.3", "[fe80::1%eth0", "[1:2:3:4:5:6:7:8:9:a:b:c:d:e:f:0:1:2:3:4:5:6:7]:1"};
static const struct {
    const char *prefix;
    uint8_t bits;
} networks[] = {{"0.0.0.0", 96}, {"::", 0}, {"::", 96}, {"10.0.0.0", 96 + 8}, {"::ffff:10.0.0.0", 104}, {"10.1.2.128", 96 + 25}, {"10.1.2.3", 128},
                {"2001:db8::", 32}, {"fe80::", 10}, {"fe80::1", 128}, {"::1", 128}, {"127.0.0.0", 96 + 8}};

static void print_networks(FILE *out)
{
    for (size_t i = 0; i < sizeof peers / sizeof *peers; i++) {
        struct policy_facts f = sound;
        f.has_address = policy_peer_address(peers[i], f.address);
        fprintf(out, "'%s' %s", peers[i], f.has_address ? "is in" : "is no address");
        for (size_t j = 0; j < sizeof networks / sizeof *networks; j++) {
            struct policy_rule r = {.name = "n", .deny = true, .what = ALL, .nnetworks = 1};
            assert_true(policy_address(networks[j].prefix, r.networks[0].prefix));
            r.networks[0].bits = networks[j].bits;
            bool v4 = policy_is_v4(r.networks[0].prefix) && networks[j].bits >= POLICY_V4_BITS;
            if (!policy_decide(&r, &f).allow)
                fprintf(out, " %s/%d", networks[j].prefix, networks[j].bits - (v4 ? POLICY_V4_BITS : 0));
        }
        fputc('\n', out);
    }
}

static void print_all(FILE *out)
{
    print_networks(out);
    fprintf(out, "ticket ");
    print_verdict(out, &sound);
    for (size_t i = 0; i < OTHERS; i++)
        for (size_t j = i; j < OTHERS; j++) {
            struct policy_facts f = sound;
            others[i].make(&f);
            if (j > i)
                others[j].make(&f);
            fprintf(out, j > i ? "%s %s " : "%s ", others[i].name, others[j].name);
            print_verdict(out, &f);
        }
}

static void golden(void **state)
{
    (void)state;
    assert_golden("MEF_POLICY_GOLDEN", print_all);
}

/* Without a rule everything is allowed, as it was before there were any; the first rule that fits decides, whatever follows. */
static void order(void **state)
{
    (void)state;
    struct policy_rule first = {.name = "a", .what = ALL}, second = {.name = "b", .what = ALL, .deny = true, .lifetime = 5};
    for (unsigned what = 0; what < POLICY_WHATS; what++) {
        struct policy_facts f = sound;
        f.what = (enum policy_what)what;
        assert_true(policy_decide(NULL, &f).allow);
        assert_false(policy_decide(&second, &f).allow);
        first.next = &second;
        assert_true(policy_decide(&first, &f).allow);
        assert_int_equal(policy_decide(&first, &f).lifetime, 0);
        first.what = ALL & ~(1u << what);
        assert_false(policy_decide(&first, &f).allow);
        first.what = ALL;
    }
}

/* Every minute of a week against a window, asked in another way. */
static void windows(void **state)
{
    (void)state;
    static const uint16_t edges[] = {0, 1, 360, 720, 1320, 1439};
    for (size_t a = 0; a < sizeof edges / sizeof *edges; a++)
        for (size_t b = 0; b < sizeof edges / sizeof *edges; b++) {
            struct policy_rule r = {.name = "w", .what = ALL, .deny = true, .days = 1u << 2, .from = edges[a], .to = edges[b]};
            unsigned length = (edges[b] + POLICY_DAY_MINUTES - edges[a] - 1u) % POLICY_DAY_MINUTES + 1, inside = 0;
            for (unsigned minute = 0; minute < 7 * POLICY_DAY_MINUTES; minute++) {
                struct policy_facts f = sound;
                f.now = NOON - HOURS(12) + minute * INT64_C(60000);
                unsigned begin = 2 * POLICY_DAY_MINUTES + (edges[a] == edges[b] ? 0 : edges[a]);
                bool in = minute >= begin && minute < begin + length;
                inside += in;
                assert_int_equal(policy_decide(&r, &f).allow, !in);
            }
            assert_int_equal(inside, length);
        }
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--print") == 0) {
        print_all(stdout);
        return 0;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden), cmocka_unit_test(order), cmocka_unit_test(windows)};
    return cmocka_run_group_tests_name("mef policy", tests, NULL, NULL);
}
