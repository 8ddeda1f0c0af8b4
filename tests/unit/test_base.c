/* Configuration and log of cse-shim/base. */
#include "cse-shim/base/conf.h"
#include "cse-shim/base/log.h"
#include "cse-shim/base/sorted.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct conf_option table_a[] = {{"mef", "fqdn", CONF_STRING, "!", 0, 0, "Name"},
                                             {"mef", "base", CONF_STRING, "mef", 0, 0, "Base"},
                                             {"mef", "limit", CONF_INT, "5", 1, 10, "Limit, items"},
                                             {"mef", "open", CONF_BOOL, "no", 0, 0, "Open"},
                                             {"mef", "none", CONF_STRING, NULL, 0, 0, "No default"},
                                             {NULL, NULL, CONF_STRING, NULL, 0, 0, NULL}};
static const struct conf_option table_b[] = {{"token.*", "file", CONF_PATH, "!", 0, 0, "File"},
                                             {"token.*", "role", CONF_STRING, "viewer", 0, 0, "Role"},
                                             {"mef", "shared", CONF_STRING, "s", 0, 0, "Another room's key"},
                                             {NULL, NULL, CONF_STRING, NULL, 0, 0, NULL}};
static const struct conf_option *const tables[] = {table_a, table_b};

struct files {
    char dir[64], path[96], err[400];
};

static int set_up(void **state)
{
    struct files *f = calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/test-base-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/c.conf", f->dir);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct files *f = *state;
    unlink(f->path);
    rmdir(f->dir);
    free(f);
    return 0;
}

static struct conf *load(struct files *f, const char *text)
{
    FILE *out = fopen(f->path, "w");
    fputs(text, out);
    fclose(out);
    f->err[0] = '\0';
    return conf_load(f->path, tables, 2, f->err, sizeof f->err);
}

static bool collect(void *user, const char *section)
{
    strcat(user, section);
    strcat(user, " ");
    return true;
}

static void conf_reads_values_and_defaults(void **state)
{
    struct files *f = *state;
    char path[96], names[64] = "";
    struct conf *c = load(f, "# comment\n[mef]\nfqdn = a.example ; why\nlimit=10\nopen = yes\n"
                             "[token.b]\nfile = t/b\n[token.a]\nfile=/abs\nrole = admin\n");
    assert_non_null(c);
    assert_string_equal(conf_str(c, "mef", "fqdn"), "a.example");
    assert_string_equal(conf_str(c, "mef", "base"), "mef");
    assert_string_equal(conf_str(c, "mef", "shared"), "s");
    assert_null(conf_str(c, "mef", "none"));
    assert_int_equal(conf_int(c, "mef", "limit"), 10);
    assert_true(conf_bool(c, "mef", "open"));
    snprintf(path, sizeof path, "%s/t/b", f->dir);
    assert_string_equal(conf_str(c, "token.b", "file"), path);
    assert_string_equal(conf_str(c, "token.a", "file"), "/abs");
    assert_string_equal(conf_str(c, "token.b", "role"), "viewer");
    conf_sections(c, "token.", collect, names);
    assert_string_equal(names, "token.b token.a ");
    conf_free(c);
    char *peeked = conf_peek(f->path, "token.a", "role");
    assert_string_equal(peeked, "admin");
    free(peeked);
    assert_null(conf_peek(f->path, "token.a", "absent"));
}

static void conf_names_file_line_and_fault(void **state)
{
    struct files *f = *state;
    char longest[400];
    snprintf(longest, sizeof longest, "[mef]\nfqdn=%0250d\n", 1);
    const struct {
        const char *text, *complaint;
    } bad[] = {
        {"[mef]\nfqdn=a\nlimit=11\n", ":3: limit must be a number from 1 to 10"},
        {"[mef]\nfqdn=a\nlimit=0x5\n", ":3: limit must be"},
        {"[mef]\nfqdn=a\nlimit=99999999999999999999\n", ":3: limit must be"},
        {"[mef]\nfqdn=a\nopen=maybe\n", ":3: open must be yes or no"},
        {"[mef]\nfqdn=a\n\nfqdn=b\n", ":4: fqdn in [mef] is set twice (or continued), first in line 2"},
        {"[mef]\nfqdn=a\n  b\n", ":3: fqdn in [mef] is set twice (or continued)"},
        {"[mef]\nfqdn=a\nFqdn=b\n", ":3: unknown key Fqdn in [mef]"},
        {"[mef]\nfqdn=a\n[other]\n", ":3: unknown section [other]"},
        {"[mef]\nfqdn=a\n[token.]\n", ":3: unknown section [token.]"},
        {"[mef]\nfqdn=a\n[token.x]\nrole=admin\n", ":4: [token.x] file is missing"},
        {"[mef]\nfqdn=a\n[token.x]\nfile=\n", ":4: file must be a path"},
        {"[mef]\nbase=a\n", ":2: [mef] fqdn is missing"},
        {"fqdn=a\n", ":1: fqdn stands before the first [section]"},
        {"[mef]\nfqdn a\n", ":2: neither [section] nor key = value"},
        {longest, ":2: line longer than 198 characters"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_null(load(f, bad[i].text));
        assert_int_equal(strncmp(f->err, f->path, strlen(f->path)), 0);
        if (strstr(f->err, bad[i].complaint) == NULL)
            fail_msg("%s\ngave: %s", bad[i].text, f->err);
    }
    unlink(f->path);
    assert_null(conf_load(f->path, tables, 2, f->err, sizeof f->err));
    assert_non_null(strstr(f->err, "No such file"));
}

/* What the tables print must load again once its options are switched on, and give the defaults. */
static void conf_sample_loads(void **state)
{
    struct files *f = *state;
    char *text = NULL;
    size_t n;
    FILE *out = open_memstream(&text, &n);
    conf_print_sample(out, tables, 2);
    fclose(out);
    assert_non_null(strstr(text, "\n[mef]\n"));
    assert_non_null(strstr(text, "# Limit, items (1 to 10)\n#limit = 5\n"));
    assert_non_null(strstr(text, "# Name (required)\n#fqdn = \n"));
    assert_true(strstr(text, "shared") < strstr(text, "[token.*]"));
    char *on = calloc(1, n + 64), *to = on;
    for (char *p = text; *p != '\0'; p++) /* "\n#key" loses its mark, "\n# help" does not */
        if (*p != '#' || p[1] == ' ')
            *to++ = *p;
    char *star = strstr(on, "token.*");
    star[6] = 'x';
    struct conf *c = load(f, on);
    assert_null(c);
    assert_non_null(strstr(f->err, "file must be a path")); /* the one required path is empty in a sample */
    free(on);
    free(text);
}

/* Run fn with stderr in a file and read what it wrote. */
static void captured(void (*fn)(void), char *out, size_t cap, bool journal)
{
    fflush(stderr);
    FILE *f = tmpfile();
    int saved = dup(2);
    struct stat st;
    char id[64];
    dup2(fileno(f), 2);
    fstat(2, &st);
    snprintf(id, sizeof id, "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
    pid_t child = fork(); /* the log looks at its environment once a process */
    if (child == 0) {
        if (journal)
            setenv("JOURNAL_STREAM", id, 1);
        else
            unsetenv("JOURNAL_STREAM");
        fn();
        _exit(0);
    }
    waitpid(child, NULL, 0);
    dup2(saved, 2);
    close(saved);
    rewind(f);
    size_t n = fread(out, 1, cap - 1, f);
    out[n] = '\0';
    fclose(f);
}

static void write_events(void)
{
    log_event(LOG_WARN, "eg.refused", "reason=%s", "a\nb\x1b[1m\xc3\xa9");
    log_event(LOG_DEBUG, "not.seen", "x=%d", 1);
}

static void write_long(void)
{
    char big[3000];
    memset(big, 'x', sizeof big);
    big[sizeof big - 1] = '\0';
    log_level_set(LOG_DEBUG);
    log_event(LOG_DEBUG, "big", "%s", big);
}

static void log_escapes_and_cuts(void **state)
{
    (void)state;
    char out[4000];
    captured(write_events, out, sizeof out, false);
    assert_non_null(strstr(out, "Z warning eg.refused reason=a\\x0ab\\x1b[1m\\xc3\\xa9\n"));
    assert_null(strstr(out, "not.seen"));
    captured(write_events, out, sizeof out, true);
    assert_string_equal(out, "<4>eg.refused reason=a\\x0ab\\x1b[1m\\xc3\\xa9\n");
    captured(write_long, out, sizeof out, true);
    assert_true(strlen(out) <= 1000 && strlen(out) > 900);
    assert_int_equal(out[strlen(out) - 1], '\n');
}

/* --- ordered set -------------------------------------------------------------------------------------------------- */

enum { ITEMS = 500, VALUES = 200 }; /* many are equal */
struct item {
    struct sorted_node node;
    int value;
    bool in;
};

static int by_value(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    return x->value < y->value ? -1 : x->value > y->value;
}

/* From the first to the last by sorted_above(): each value that some item has, once, in order. */
static void walk(const struct sorted *s, const struct item items[ITEMS])
{
    int have[VALUES] = {0};
    const struct item *at = sorted_first(s), *last = NULL;
    for (size_t i = 0; i < ITEMS; i++)
        have[items[i].value] += items[i].in;
    for (int v = 0; v < VALUES; v++) {
        if (have[v] == 0)
            continue;
        assert_non_null(at);
        assert_int_equal(at->value, v);
        last = at;
        at = sorted_above(s, at);
    }
    assert_null(at);
    const struct item *end = sorted_last(s);
    assert_true(last == NULL ? end == NULL : end->value == last->value);
}

static void sorted_is_in_order(void **state)
{
    (void)state;
    static struct item items[ITEMS];
    struct sorted s = {.compare = by_value};
    const char *seed = getenv("MEF_SEED");
    srand(seed != NULL ? (unsigned)strtoul(seed, NULL, 10) : 1);
    walk(&s, items);
    for (int step = 0; step < 20000; step++) {
        struct item *it = &items[rand() % ITEMS];
        if (it->in) {
            sorted_remove(&s, &it->node);
        } else {
            it->value = rand() % VALUES;
            sorted_add(&s, &it->node, it);
        }
        it->in = !it->in;
        if (step % 50 == 0)
            walk(&s, items);
    }
    for (size_t i = 0; i < ITEMS; i++) {
        if (items[i].in)
            sorted_remove(&s, &items[i].node);
        items[i].in = false;
    }
    assert_null(s.root);
}

static unsigned height(const struct sorted_node *n)
{
    unsigned l = n == NULL ? 0 : height(n->left), r = n == NULL ? 0 : height(n->right);
    return n == NULL ? 0 : 1 + (l > r ? l : r);
}

/* Neither what comes in order makes a list of it, nor what is all equal. */
static void sorted_stays_low(void **state)
{
    (void)state;
    enum { MANY = 65536 };
    for (int different = 0; different < 2; different++) {
        struct item *items = calloc(MANY, sizeof *items);
        struct sorted s = {.compare = by_value};
        for (int i = 0; i < MANY; i++) {
            items[i].value = i * different;
            sorted_add(&s, &items[i].node, &items[i]);
        }
        assert_in_range(height(s.root), 17, 64);
        free(items);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sorted_is_in_order),
        cmocka_unit_test(sorted_stays_low),
        cmocka_unit_test_setup_teardown(conf_reads_values_and_defaults, set_up, tear_down),
        cmocka_unit_test_setup_teardown(conf_names_file_line_and_fault, set_up, tear_down),
        cmocka_unit_test_setup_teardown(conf_sample_loads, set_up, tear_down),
        cmocka_unit_test(log_escapes_and_cuts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
