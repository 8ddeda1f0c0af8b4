#include "cse-shim/base/conf.h"

#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdlib.h>

#define MAX_NAME 49      /* longest section name that inih keeps whole */
#define MAX_ENTRIES 4096 /* keys in one file */

struct entry {
    char *section, *key, *value;
    unsigned line;
};

struct conf {
    const struct conf_option *const *tables;
    size_t ntables;
    struct entry *entries; /* in file order, then the defaults */
    size_t n, cap;
};

/* What one load carries through inih's call-backs. inih may stop late, so the first complaint is kept. */
struct loading {
    struct conf *c;
    FILE *file;
    const char *path;
    char *err;
    size_t errlen;
    unsigned line; /* of the line last read */
    bool failed;
};

__attribute__((format(printf, 3, 4))) static void complain(struct loading *l, unsigned line, const char *fmt, ...)
{
    if (l->failed)
        return;
    l->failed = true;
    char what[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    snprintf(l->err, l->errlen, "%s:%u: %s", l->path, line, what);
}

/* "token.*" stands for every "token.NAME" with a NAME. */
static bool repeatable(const char *pattern)
{
    size_t n = strlen(pattern);
    return n >= 2 && strcmp(pattern + n - 2, ".*") == 0;
}

static bool section_matches(const char *pattern, const char *section)
{
    if (!repeatable(pattern))
        return strcmp(pattern, section) == 0;
    size_t n = strlen(pattern) - 1;
    return strncmp(pattern, section, n) == 0 && section[n] != '\0';
}

/* The option for (section, key); with key NULL any option of that section. */
static const struct conf_option *option_find(const struct conf *c, const char *section, const char *key)
{
    for (size_t t = 0; t < c->ntables; t++)
        for (const struct conf_option *o = c->tables[t]; o->section != NULL; o++)
            if (section_matches(o->section, section) && (key == NULL || strcmp(o->key, key) == 0))
                return o;
    return NULL;
}

static const struct entry *entry_find(const struct conf *c, const char *section, const char *key)
{
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->entries[i].section, section) == 0 && strcmp(c->entries[i].key, key) == 0)
            return &c->entries[i];
    return NULL;
}

static char *absolute(const char *path, const char *value)
{
    const char *slash = strrchr(path, '/');
    if (value[0] == '/' || value[0] == '\0')
        return strdup(value);
    char *out = NULL;
    char *folder = slash == NULL ? realpath(".", NULL) : strndup(path, (size_t)(slash - path));
    char *whole = folder == NULL ? NULL : realpath(folder[0] == '\0' ? "/" : folder, NULL);
    if (whole != NULL && asprintf(&out, "%s/%s", strcmp(whole, "/") == 0 ? "" : whole, value) < 0)
        out = NULL;
    free(folder);
    free(whole);
    return out;
}

static bool parse_int(const char *text, int64_t *v)
{
    char *end;
    errno = 0;
    *v = strtoll(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && text[0] != ' ';
}

static bool parse_bool(const char *text, bool *v)
{
    *v = strcmp(text, "yes") == 0 || strcmp(text, "true") == 0;
    return *v || strcmp(text, "no") == 0 || strcmp(text, "false") == 0;
}

static bool value_valid(struct loading *l, const struct conf_option *o, const char *value)
{
    int64_t i;
    bool b;
    if (o->type == CONF_INT && (!parse_int(value, &i) || i < o->min || i > o->max))
        complain(l, l->line, "%s must be a number from %lld to %lld", o->key, (long long)o->min, (long long)o->max);
    if (o->type == CONF_BOOL && !parse_bool(value, &b))
        complain(l, l->line, "%s must be yes or no", o->key);
    if (o->type == CONF_PATH && value[0] == '\0')
        complain(l, l->line, "%s must be a path", o->key);
    return !l->failed;
}

static bool entry_add(struct loading *l, const struct conf_option *o, const char *section, const char *value)
{
    struct conf *c = l->c;
    if (c->n == c->cap) {
        size_t cap = c->cap == 0 ? 32 : c->cap * 2;
        struct entry *grown = cap > MAX_ENTRIES ? NULL : realloc(c->entries, cap * sizeof *grown);
        if (grown == NULL) {
            complain(l, l->line, "too many settings");
            return false;
        }
        c->entries = grown;
        c->cap = cap;
    }
    struct entry *e = &c->entries[c->n++];
    e->line = l->line;
    e->section = strdup(section);
    e->key = strdup(o->key);
    e->value = o->type == CONF_PATH ? absolute(l->path, value) : strdup(value);
    if (e->section == NULL || e->key == NULL || e->value == NULL)
        complain(l, l->line, "%s: the folder of this file cannot be found, or memory is short", o->key);
    return !l->failed;
}

/* inih: one `key = value`. A continued line comes here too, as the same key again, and is refused as such. */
static int on_value(void *user, const char *section, const char *key, const char *value)
{
    struct loading *l = user;
    if (l->failed)
        return 0;
    const struct conf_option *o = option_find(l->c, section, key);
    const struct entry *before = entry_find(l->c, section, key);
    if (section[0] == '\0')
        complain(l, l->line, "%s stands before the first [section]", key);
    else if (o == NULL)
        complain(l, l->line, "unknown key %s in [%s]", key, section);
    else if (before != NULL)
        complain(l, l->line, "%s in [%s] is set twice (or continued), first in line %u", key, section, before->line);
    else if (value_valid(l, o, value))
        (void)entry_add(l, o, section, value);
    return !l->failed;
}

/* inih does not tell of a section without keys, and cuts long names: look at headings here. */
static void check_heading(struct loading *l, const char *line)
{
    line += strspn(line, " \t");
    const char *end = strchr(line, ']');
    if (line[0] != '[' || end == NULL)
        return;
    char name[MAX_NAME + 1];
    size_t n = (size_t)(end - line - 1);
    if (n > MAX_NAME) {
        complain(l, l->line, "section name longer than %d characters", MAX_NAME);
        return;
    }
    memcpy(name, line + 1, n);
    name[n] = '\0';
    if (option_find(l->c, name, NULL) == NULL)
        complain(l, l->line, "unknown section [%s]", name);
}

static char *next_line(char *buf, int size, void *user)
{
    struct loading *l = user;
    if (l->failed || fgets(buf, size, l->file) == NULL)
        return NULL;
    l->line++;
    if (strchr(buf, '\n') == NULL && getc(l->file) != EOF) {
        complain(l, l->line, "line longer than %d characters, or with a NUL byte", size - 2);
        return NULL;
    }
    check_heading(l, buf);
    return l->failed ? NULL : buf;
}

/* Defaults of one option for one section that exists, or the complaint that a required key is missing. */
static void complete_section(struct loading *l, const struct conf_option *o, const char *section)
{
    if (o->fallback == NULL || entry_find(l->c, section, o->key) != NULL)
        return;
    if (strcmp(o->fallback, "!") == 0)
        complain(l, l->line, "[%s] %s is missing", section, o->key);
    else
        (void)entry_add(l, o, section, o->fallback);
}

struct completing {
    struct loading *l;
    const struct conf_option *option;
};

static bool complete_named(void *user, const char *section)
{
    struct completing *k = user;
    complete_section(k->l, k->option, section);
    return !k->l->failed;
}

static void complete(struct loading *l)
{
    for (size_t t = 0; t < l->c->ntables; t++)
        for (const struct conf_option *o = l->c->tables[t]; o->section != NULL && !l->failed; o++) {
            struct completing k = {l, o};
            char prefix[MAX_NAME + 1];
            snprintf(prefix, sizeof prefix, "%.*s", (int)strlen(o->section) - 1, o->section);
            if (repeatable(o->section))
                conf_sections(l->c, prefix, complete_named, &k);
            else
                complete_section(l, o, o->section);
        }
}

struct conf *conf_load(const char *path, const struct conf_option *const *tables, size_t ntables, char *err, size_t errlen)
{
    struct conf *c = calloc(1, sizeof *c);
    FILE *f = fopen(path, "re");
    struct loading l = {.c = c, .file = f, .path = path, .err = err, .errlen = errlen};
    if (c == NULL || f == NULL) {
        complain(&l, 0, "%s", strerror(f == NULL ? errno : ENOMEM));
    } else {
        c->tables = tables;
        c->ntables = ntables;
        int bad = ini_parse_stream(next_line, &l, on_value, &l);
        if (bad != 0)
            complain(&l, bad > 0 ? (unsigned)bad : l.line, "neither [section] nor key = value");
        if (ferror(f))
            complain(&l, l.line, "cannot be read");
        complete(&l);
    }
    if (f != NULL)
        fclose(f);
    if (l.failed) {
        conf_free(c);
        return NULL;
    }
    return c;
}

void conf_free(struct conf *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < c->n; i++) {
        free(c->entries[i].section);
        free(c->entries[i].key);
        free(c->entries[i].value);
    }
    free(c->entries);
    free(c);
}

const char *conf_str(const struct conf *c, const char *section, const char *key)
{
    const struct entry *e = entry_find(c, section, key);
    return e == NULL ? NULL : e->value;
}

int64_t conf_int(const struct conf *c, const char *section, const char *key)
{
    int64_t v = 0;
    const char *text = conf_str(c, section, key);
    return text != NULL && parse_int(text, &v) ? v : 0;
}

bool conf_bool(const struct conf *c, const char *section, const char *key)
{
    bool v = false;
    const char *text = conf_str(c, section, key);
    return text != NULL && parse_bool(text, &v) && v;
}

void conf_sections(const struct conf *c, const char *prefix, bool (*fn)(void *user, const char *section), void *user)
{
    size_t n = c->n; /* fn may add defaults behind what is visited */
    for (size_t i = 0; i < n; i++) {
        const char *section = c->entries[i].section;
        bool seen = strncmp(section, prefix, strlen(prefix)) != 0;
        for (size_t j = 0; j < i && !seen; j++)
            seen = strcmp(c->entries[j].section, section) == 0;
        if (!seen && !fn(user, section))
            return;
    }
}

struct peeking {
    const char *section, *key;
    char *value;
};

static int on_peek(void *user, const char *section, const char *key, const char *value)
{
    struct peeking *p = user;
    if (p->value == NULL && strcmp(section, p->section) == 0 && strcmp(key, p->key) == 0)
        p->value = strdup(value);
    return 1;
}

char *conf_peek(const char *path, const char *section, const char *key)
{
    struct peeking p = {section, key, NULL};
    (void)ini_parse(path, on_peek, &p);
    return p.value;
}

static void print_option(FILE *out, const struct conf_option *o)
{
    bool required = o->fallback != NULL && strcmp(o->fallback, "!") == 0;
    fprintf(out, "\n# %s", o->help);
    if (o->type == CONF_INT)
        fprintf(out, " (%lld to %lld)", (long long)o->min, (long long)o->max);
    if (o->type == CONF_BOOL)
        fprintf(out, " (yes or no)");
    fprintf(out, "%s\n#%s = %s\n", required ? " (required)" : o->fallback == NULL ? " (no default)" : "", o->key,
            required || o->fallback == NULL ? "" : o->fallback);
}

/* Every option of one section, over all tables: rooms may share a section. */
static void print_section(FILE *out, const struct conf_option *const *tables, size_t ntables, const char *section)
{
    fprintf(out, "\n[%s]\n", section);
    for (size_t t = 0; t < ntables; t++)
        for (const struct conf_option *o = tables[t]; o->section != NULL; o++)
            if (strcmp(o->section, section) == 0)
                print_option(out, o);
}

static bool section_first(const struct conf_option *const *tables, const struct conf_option *at)
{
    for (size_t t = 0;; t++)
        for (const struct conf_option *o = tables[t]; o->section != NULL; o++)
            if (strcmp(o->section, at->section) == 0)
                return o == at;
}

void conf_print_sample(FILE *out, const struct conf_option *const *tables, size_t ntables)
{
    fprintf(out, "# Every option with its default. A line that begins with # or ; is a comment; an unknown key is an error.\n"
                 "# Paths may be relative to this file. A section [name.*] is written once for each name: [name.this].\n");
    for (size_t t = 0; t < ntables; t++)
        for (const struct conf_option *o = tables[t]; o->section != NULL; o++)
            if (section_first(tables, o))
                print_section(out, tables, ntables, o->section);
}
