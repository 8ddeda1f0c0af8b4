#include "mef-plugin/audit/record.h"

#include <cjson/cJSON.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <utlist.h>

#define NOTES_MAX 64       /* different notes in one window */
#define WINDOW_MS 1000
#define PAGE_MAX 1000u
#define PAGE_SCAN 50000u   /* rows looked at for one page */

/* A note of the current window: its row is written, repeats are only counted. */
struct note {
    uint64_t seq;
    uint32_t count;
    size_t n;
    uint8_t row[AUDIT_RECORD_MAX];
};

struct audit {
    struct store *store;
    struct audit_host host;
    uint64_t next;         /* sequence number */
    int64_t window;        /* when it began */
    size_t nnotes;
    uint32_t suppressed;
    struct note notes[NOTES_MAX];
    struct page *pages; /* being read */
};

/* A page that is being read: the committer's until page_read(), but for its place in the list. */
struct page {
    struct audit *owner;
    struct page *prev, *next;
    cJSON *array;
    char admin[AUDIT_TEXT_MAX + 1];
    unsigned left;
    bool trouble;
    audit_done done;
    void *user, *about;
};

struct seq_key {
    uint8_t b[8];
};

static struct seq_key seq_key(uint64_t seq)
{
    struct seq_key k;
    struct wr w = wr_of(k.b, sizeof k.b);
    wr_be64(&w, seq);
    return k;
}

static bool seq_of(struct span key, uint64_t *seq)
{
    struct rd r = rd_of(key);
    return rd_be64(&r, seq) && rd_end(&r);
}

static bool take_last(void *user, struct span key, struct span val)
{
    uint64_t seq;
    (void)val;
    if (seq_of(key, &seq))
        *(uint64_t *)user = seq + 1;
    return false;
}

struct audit *audit_open(struct store *s, const struct audit_host *host)
{
    struct audit *a = calloc(1, sizeof *a);
    if (a == NULL)
        return NULL;
    a->store = s;
    a->host = *host;
    a->next = 1;
    if (store_page(s, STORE_AUDIT, (struct span){0}, true, 1, take_last, &a->next) == ST_OK)
        return a;
    free(a);
    return NULL;
}

static void put(struct store_txn *t, uint64_t seq, struct span row)
{
    struct seq_key k = seq_key(seq);
    store_put(t, STORE_AUDIT, span_of(k.b, sizeof k.b), row);
}

void audit_add(struct audit *a, struct store_txn *t, const struct audit_event *e)
{
    uint8_t row[AUDIT_RECORD_MAX];
    struct wr w = wr_of(row, sizeof row);
    audit_record_write(&w, e, a->host.time(a->host.user), 1);
    put(t, a->next++, wr_span(&w));
}

/* Write the counts of the window and forget it. */
static void end_window(struct audit *a)
{
    struct store_txn *t = store_begin(a->store);
    if (t == NULL)
        return; /* next time */
    bool any = a->suppressed > 0;
    for (size_t i = 0; i < a->nnotes; i++) {
        struct note *n = &a->notes[i];
        struct wr count = wr_of(n->row + AUDIT_HEAD - 4, 4);
        if (n->count == 1)
            continue;
        wr_be32(&count, n->count);
        put(t, n->seq, span_of(n->row, n->n));
        any = true;
    }
    if (a->suppressed > 0) {
        uint8_t row[AUDIT_RECORD_MAX];
        struct wr w = wr_of(row, sizeof row);
        audit_record_write(&w, &(struct audit_event){.action = "audit.suppressed", .outcome = "too-many"}, a->window,
                           a->suppressed);
        put(t, a->next++, wr_span(&w));
    }
    a->nnotes = 0;
    a->suppressed = 0;
    if (any)
        store_commit(t, NULL, NULL);
    else
        store_abort(t);
}

static struct note *find(struct audit *a, struct span row)
{
    struct span what = span_of(row.p + AUDIT_HEAD, row.n - AUDIT_HEAD); /* without time and count */
    for (size_t i = 0; i < a->nnotes; i++) {
        struct note *n = &a->notes[i];
        if (span_eq(span_of(n->row + AUDIT_HEAD, n->n - AUDIT_HEAD), what))
            return n;
    }
    return NULL;
}

void audit_note(struct audit *a, const struct audit_event *e)
{
    int64_t now = a->host.time(a->host.user);
    if (now < a->window || now - a->window >= WINDOW_MS) {
        end_window(a);
        a->window = now;
    }
    uint8_t row[AUDIT_RECORD_MAX];
    struct wr w = wr_of(row, sizeof row);
    audit_record_write(&w, e, now, 1);
    struct note *n = find(a, wr_span(&w));
    if (n != NULL) {
        n->count += n->count < UINT32_MAX;
        return;
    }
    struct store_txn *t = a->nnotes < NOTES_MAX ? store_begin(a->store) : NULL;
    if (t == NULL) {
        a->suppressed += a->suppressed < UINT32_MAX;
        return;
    }
    n = &a->notes[a->nnotes++];
    *n = (struct note){.seq = a->next++, .count = 1, .n = w.n};
    memcpy(n->row, row, w.n);
    put(t, n->seq, wr_span(&w));
    store_commit(t, NULL, NULL);
}

uint64_t audit_last(const struct audit *a)
{
    return a->next - 1;
}

void audit_close(struct audit *a)
{
    if (a == NULL)
        return;
    end_window(a);
    struct page *p = NULL, *next = NULL;
    DL_FOREACH_SAFE(a->pages, p, next)
    {
        cJSON_Delete(p->array);
        free(p);
    }
    free(a);
}

/* --- reading -------------------------------------------------------------------------------------------------------- */

static bool add_text(cJSON *o, const char *name, struct span text)
{
    char z[AUDIT_TEXT_MAX + 1] = "";
    for (size_t i = 0; i < text.n; i++)
        z[i] = text.p[i] >= 0x20 && text.p[i] < 0x7f ? (char)text.p[i] : '?';
    return cJSON_AddStringToObject(o, name, z) != NULL;
}

static bool add_time(cJSON *o, int64_t ms)
{
    char day[32], text[48];
    time_t s = (time_t)(ms / 1000);
    struct tm tm;
    if (gmtime_r(&s, &tm) == NULL)
        return false;
    strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text, sizeof text, "%s.%03dZ", day, (int)(ms % 1000));
    return cJSON_AddStringToObject(o, "time", text) != NULL;
}

static cJSON *to_json(uint64_t seq, const struct audit_record *r)
{
    static const char *const names[AUDIT_TEXTS] = {NULL, "actor", "action", "object", "outcome"};
    cJSON *o = cJSON_CreateObject();
    bool ok = o != NULL && cJSON_AddNumberToObject(o, "seq", (double)seq) != NULL && add_time(o, r->time);
    for (size_t i = AUDIT_ACTOR; ok && i < AUDIT_TEXTS; i++)
        ok = add_text(o, names[i], r->text[i]);
    if (ok && r->count > 1)
        ok = cJSON_AddNumberToObject(o, "count", r->count) != NULL;
    if (ok)
        return o;
    cJSON_Delete(o);
    return NULL;
}

static bool add_row(void *user, struct span key, struct span val)
{
    struct page *p = user;
    struct audit_record r;
    uint64_t seq;
    if (!seq_of(key, &seq) || !audit_record_read(val, &r))
        return true; /* not a row of ours: leave it out */
    if (!span_eq(r.text[AUDIT_ADMIN], span_str(p->admin)))
        return true;
    cJSON *o = to_json(seq, &r);
    if (o == NULL || !cJSON_AddItemToArray(p->array, o)) {
        cJSON_Delete(o);
        p->trouble = true;
        return false;
    }
    return --p->left > 0;
}

static void page_read(void *user, enum st st)
{
    struct page *p = user;
    bool ok = st == ST_OK && !p->trouble;
    DL_DELETE(p->owner->pages, p);
    if (!ok)
        cJSON_Delete(p->array);
    p->done(p->user, p->about, ok ? p->array : NULL);
    free(p);
}

void audit_read(struct audit *a, const struct audit_query *q)
{
    struct seq_key k = seq_key(q->before);
    struct span after = q->before == 0 ? span_of(NULL, 0) : span_of(k.b, sizeof k.b);
    struct page *p = malloc(sizeof *p);
    if (p == NULL) {
        q->done(q->user, q->about, NULL);
        return;
    }
    *p = (struct page){.owner = a, .left = q->limit > PAGE_MAX ? PAGE_MAX : q->limit, .array = cJSON_CreateArray()};
    p->trouble = p->array == NULL;
    p->done = q->done;
    p->user = q->user;
    p->about = q->about;
    snprintf(p->admin, sizeof p->admin, "%s", q->admin);
    DL_APPEND(a->pages, p);
    end_window(a);
    store_read(a->store, STORE_AUDIT, after, true, p->left == 0 || p->trouble ? 0 : PAGE_SCAN, add_row, page_read, p);
}
