#include "cse-shim/host/metrics.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

struct metric {
    const char *name;
    bool gauge;
    int64_t value;
};

static const uint64_t bounds[] = {1000,   2000,   5000,    10000,   20000,   50000,   100000,
                                  200000, 500000, 1000000, 2000000, 5000000, 10000000}; /* us */
#define BOUNDS (sizeof bounds / sizeof *bounds)

struct histogram {
    const char *name;
    uint64_t upto[BOUNDS + 1]; /* not cumulative; the last one: above all bounds */
    uint64_t sum;              /* us */
};

struct metrics {
    pthread_mutex_t lock;
    struct metric all[METRICS_MAX];
    size_t n;
    struct histogram histograms[METRICS_HISTOGRAMS];
    size_t nhistograms;
    uint64_t dropped;
};

struct metrics *metrics_new(void)
{
    struct metrics *m = calloc(1, sizeof *m);
    if (m != NULL)
        pthread_mutex_init(&m->lock, NULL);
    return m;
}

void metrics_free(struct metrics *m)
{
    if (m != NULL)
        pthread_mutex_destroy(&m->lock);
    free(m);
}

/* Most callers hand in the same literal again: compare all pointers before any text. */
static struct metric *find(struct metrics *m, const char *name)
{
    for (size_t i = 0; i < m->n; i++)
        if (m->all[i].name == name)
            return &m->all[i];
    for (size_t i = 0; i < m->n; i++)
        if (strcmp(m->all[i].name, name) == 0)
            return &m->all[i];
    if (m->n == METRICS_MAX) {
        m->dropped++;
        return NULL;
    }
    m->all[m->n].name = name;
    return &m->all[m->n++];
}

void metrics_count(struct metrics *m, const char *name, uint64_t add)
{
    pthread_mutex_lock(&m->lock);
    struct metric *x = find(m, name);
    if (x != NULL)
        x->value += (int64_t)add;
    pthread_mutex_unlock(&m->lock);
}

static void set(struct metrics *m, const char *name, int64_t value, bool gauge)
{
    pthread_mutex_lock(&m->lock);
    struct metric *x = find(m, name);
    if (x != NULL) {
        x->gauge = gauge;
        x->value = value;
    }
    pthread_mutex_unlock(&m->lock);
}

void metrics_gauge(struct metrics *m, const char *name, int64_t value)
{
    set(m, name, value, true);
}

void metrics_set(struct metrics *m, const char *name, int64_t value)
{
    size_t n = strlen(name);
    set(m, name, value, n < 6 || strcmp(name + n - 6, "_total") != 0);
}

static struct histogram *histogram(struct metrics *m, const char *name)
{
    for (size_t i = 0; i < m->nhistograms; i++)
        if (strcmp(m->histograms[i].name, name) == 0)
            return &m->histograms[i];
    if (m->nhistograms == METRICS_HISTOGRAMS) {
        m->dropped++;
        return NULL;
    }
    m->histograms[m->nhistograms].name = name;
    return &m->histograms[m->nhistograms++];
}

void metrics_duration(struct metrics *m, const char *name, uint64_t us)
{
    size_t i = 0;
    while (i < BOUNDS && us > bounds[i])
        i++;
    pthread_mutex_lock(&m->lock);
    struct histogram *x = histogram(m, name);
    if (x != NULL) {
        x->upto[i]++;
        x->sum += us;
    }
    pthread_mutex_unlock(&m->lock);
}

static void print_histogram(const struct histogram *x, FILE *out)
{
    uint64_t n = 0;
    fprintf(out, "# TYPE %s histogram\n", x->name);
    for (size_t i = 0; i < BOUNDS; i++) {
        n += x->upto[i];
        fprintf(out, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", x->name, (double)bounds[i] / 1e6, n);
    }
    n += x->upto[BOUNDS];
    fprintf(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n%s_sum %.6f\n%s_count %" PRIu64 "\n", x->name, n, x->name,
            (double)x->sum / 1e6, x->name, n);
}

/* The families' samples must stand together: print each family at its first member. */
static bool same_family(const char *a, const char *b)
{
    size_t n = strcspn(a, "{");
    return n == strcspn(b, "{") && strncmp(a, b, n) == 0;
}

static void print_family(const struct metrics *m, size_t first, FILE *out)
{
    const struct metric *head = &m->all[first];
    for (size_t i = 0; i < first; i++)
        if (same_family(m->all[i].name, head->name))
            return;
    fprintf(out, "# TYPE %.*s %s\n", (int)strcspn(head->name, "{"), head->name, head->gauge ? "gauge" : "counter");
    for (size_t i = first; i < m->n; i++)
        if (same_family(m->all[i].name, head->name))
            fprintf(out, "%s %" PRId64 "\n", m->all[i].name, m->all[i].value);
}

void metrics_print(struct metrics *m, FILE *out)
{
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->n; i++)
        print_family(m, i, out);
    for (size_t i = 0; i < m->nhistograms; i++)
        print_histogram(&m->histograms[i], out);
    fprintf(out, "# TYPE host_metrics_dropped_total counter\nhost_metrics_dropped_total %" PRIu64 "\n", m->dropped);
    pthread_mutex_unlock(&m->lock);
}
