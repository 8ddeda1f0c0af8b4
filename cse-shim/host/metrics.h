/* Counters, gauges and histograms by name, printed in the Prometheus text format. Thread-safe. */
#pragma once
#include "cse-shim/base/bytes.h"

#include <stdio.h>

#define METRICS_MAX 256 /* names; further ones are dropped and counted in host_metrics_dropped_total */

struct metrics;
MUST_USE struct metrics *metrics_new(void);
void metrics_free(struct metrics *m);

/* `name` is a literal (kept by pointer): [a-z0-9_]+, optionally with labels: refused_total{reason="x"}. */
void metrics_count(struct metrics *m, const char *name, uint64_t add);
void metrics_gauge(struct metrics *m, const char *name, int64_t value);
/* A value kept elsewhere: a counter if its name ends in _total, else a gauge. */
void metrics_set(struct metrics *m, const char *name, int64_t value);
/* A duration in microseconds, into a histogram of seconds: its bounds go by 1, 2, 5 from a millisecond to ten seconds.
 * `name` has no labels and ends in _seconds. Beyond METRICS_HISTOGRAMS names they are dropped and counted like others. */
#define METRICS_HISTOGRAMS 8
void metrics_duration(struct metrics *m, const char *name, uint64_t us);
void metrics_print(struct metrics *m, FILE *out);
