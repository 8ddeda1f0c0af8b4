/* What plugins need from a loop beyond descriptors: one-shot timers by id, and work posted from other threads. */
#pragma once
#include "cse-shim/base/bytes.h"

#include <systemd/sd-event.h>

struct loop_work;
MUST_USE struct loop_work *loop_work_new(sd_event *loop);
/* What was posted runs a last time (its poster may wait for that to free its memory); timers are dropped. NULL is fine. */
void loop_work_free(struct loop_work *w);

/* One-shot, after ms milliseconds. Returns an id > 0, 0: out of memory. */
uint64_t loop_timer(struct loop_work *w, uint64_t ms, void (*fn)(void *user), void *user);
void loop_timer_cancel(struct loop_work *w, uint64_t id);

/* Run fn on the loop's thread, in the order posted. Thread-safe. False: out of memory. */
bool loop_post(struct loop_work *w, void (*fn)(void *user), void *user);
