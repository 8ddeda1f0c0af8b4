/* Counters and gauges by name, printed in the Prometheus text format. Thread-safe. */
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
void metrics_print(struct metrics *m, FILE *out);
