/* Structured log: one line an event, `event key=value ...`, to the journal's stderr format (<N> priority prefixes when
 * stderr is the journal's) or plain stderr with a time stamp. No secret is ever an argument here. Thread-safe. */
#pragma once
#include <stdbool.h>

enum log_level { LOG_ERROR = 3, LOG_WARN = 4, LOG_NOTICE = 5, LOG_INFO = 6, LOG_DEBUG = 7 };

void log_level_set(enum log_level level);
/* The same by name: error, warning, notice, info, debug; false: none of these. A plugin has its own copy of this room,
 * and its own level. */
bool log_level_named(const char *name);
bool log_enabled(enum log_level level);
/* `event` is a short lower-case token such as "eg.refused"; fmt gives `key=value` pairs. Control characters in the
 * result are escaped, the line is cut at 1,000 bytes. */
__attribute__((format(printf, 3, 4))) void log_event(enum log_level level, const char *event, const char *fmt, ...);
