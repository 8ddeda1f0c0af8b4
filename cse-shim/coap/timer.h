/* Timers of one endpoint: an intrusive pairing heap behind one sd-event source. Arming and disarming allocate nothing
 * and cannot fail; both are O(log n) amortised. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

/* Embedded in what it times; zero-initialised is disarmed. */
struct timer {
    uint64_t due; /* microseconds, CLOCK_MONOTONIC */
    bool armed;
    void (*fire)(void *user);
    void *user;
    struct timer *child, *next, *prev; /* prev: left sibling, or the parent of a first child */
};

struct timers {
    struct timer *root;
    sd_event *loop;
    sd_event_source *source;
    uint64_t wake; /* what the source is set to; UINT64_MAX: nothing */
};

bool timers_init(struct timers *ts, sd_event *loop);
void timers_wipe(struct timers *ts);
uint64_t timers_now(const struct timers *ts); /* microseconds */
/* (Re)arm: `t->fire(t->user)` is called once, at least `us` microseconds from now. */
void timer_arm(struct timers *ts, struct timer *t, uint64_t us);
void timer_disarm(struct timers *ts, struct timer *t);
