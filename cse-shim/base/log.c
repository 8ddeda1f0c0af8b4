#include "cse-shim/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1000

static _Atomic int threshold = LOG_INFO;

void log_level_set(enum log_level level)
{
    threshold = (int)level;
}

static const char *const level_names[] = {
    [LOG_ERROR] = "error", [LOG_WARN] = "warning", [LOG_NOTICE] = "notice", [LOG_INFO] = "info", [LOG_DEBUG] = "debug"};

bool log_level_named(const char *name)
{
    for (int i = LOG_ERROR; i <= LOG_DEBUG; i++)
        if (strcmp(level_names[i], name) == 0) {
            log_level_set((enum log_level)i);
            return true;
        }
    return false;
}

bool log_enabled(enum log_level level)
{
    return (int)level <= threshold;
}

/* systemd names the journal's socket as DEVICE:INODE; anything else on stderr gets a time stamp of ours. */
static bool stderr_is_journal(void)
{
    static _Atomic int known = -1;
    if (known < 0) {
        const char *stream = getenv("JOURNAL_STREAM");
        struct stat st = {0};
        char ours[48];
        bool stated = fstat(STDERR_FILENO, &st) == 0;
        snprintf(ours, sizeof ours, "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
        known = stated && stream != NULL && strcmp(stream, ours) == 0;
    }
    return known == 1;
}

static const char *level_name(enum log_level level)
{
    return level_names[level >= LOG_ERROR && level <= LOG_DEBUG ? level : LOG_ERROR];
}

static size_t line_start(char *line, size_t cap, enum log_level level, const char *event)
{
    int n;
    if (stderr_is_journal()) {
        n = snprintf(line, cap, "<%d>%s ", (int)level, event);
    } else {
        struct timespec ts;
        struct tm tm;
        clock_gettime(CLOCK_REALTIME, &ts);
        gmtime_r(&ts.tv_sec, &tm);
        char stamp[32];
        strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &tm);
        n = snprintf(line, cap, "%s.%03ldZ %s %s ", stamp, ts.tv_nsec / 1000000, level_name(level), event);
    }
    return n < 0 ? 0 : (size_t)n < cap ? (size_t)n : cap - 1;
}

/* Only printable ASCII goes out as it is: a peer chose part of this text, and a terminal or a log reader obeys the rest. */
static size_t escape(const char *text, char *out, size_t cap)
{
    size_t n = 0;
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        bool plain = c >= 0x20 && c < 0x7f;
        if (n + (plain ? 1 : 4) > cap)
            break;
        if (plain)
            out[n++] = (char)c;
        else
            n += (size_t)snprintf(out + n, 5, "\\x%02x", c);
    }
    return n;
}

void log_event(enum log_level level, const char *event, const char *fmt, ...)
{
    if (!log_enabled(level))
        return;
    int saved = errno;
    char text[LINE_MAX_BYTES], line[LINE_MAX_BYTES + 8];
    va_list ap;
    va_start(ap, fmt);
    if (vsnprintf(text, sizeof text, fmt, ap) < 0)
        text[0] = '\0';
    va_end(ap);
    size_t n = line_start(line, LINE_MAX_BYTES, level, event);
    n += escape(text, line + n, LINE_MAX_BYTES - 1 - n);
    while (n > 0 && line[n - 1] == ' ')
        n--;
    line[n++] = '\n';
    /* One write a line, so that lines of several threads never mix. A log that cannot be written is nobody's error. */
    if (write(STDERR_FILENO, line, n) < 0)
        errno = 0;
    errno = saved;
}
