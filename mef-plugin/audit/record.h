/* A row of the trail: version 1, time 8 (ms since 1970, big endian), count 4 (big endian), then admin, actor, action,
 * object and outcome, each as length 1 and characters. */
#pragma once
#include "mef-plugin/audit/audit.h"

#define AUDIT_TEXTS 5
#define AUDIT_TEXT_MAX 255
#define AUDIT_HEAD (1 + 8 + 4)
#define AUDIT_RECORD_MAX (AUDIT_HEAD + AUDIT_TEXTS * (1 + AUDIT_TEXT_MAX))

enum audit_text { AUDIT_ADMIN, AUDIT_ACTOR, AUDIT_ACTION, AUDIT_OBJECT, AUDIT_OUTCOME };

struct audit_record {
    int64_t time;
    uint32_t count;
    struct span text[AUDIT_TEXTS]; /* borrowed from the row */
};

/* Append the row's bytes; w has AUDIT_RECORD_MAX to spare. */
void audit_record_write(struct wr *w, const struct audit_event *e, int64_t time, uint32_t count);
MUST_USE bool audit_record_read(struct span row, struct audit_record *out);
