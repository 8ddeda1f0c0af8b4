#include "mef-plugin/admin/events.h"

#include "mef-plugin/mef/answers.h"
#include "mef-plugin/mef/attrs.h"

#include <stdlib.h>
#include <utlist.h>

#define LOOK_MS 500     /* how often the trail is looked at while somebody watches */
#define PAGE 1000u      /* newest rows that a look sees; what is older is in /v1/audit */
#define BATCH 100       /* events sent to one watcher at a look */
#define MAX_WATCHERS 64

struct watcher {
    uint64_t observation; /* 0: ended, but a page is still being read for it */
    uint64_t last;        /* sequence number of the newest event sent */
    bool reading;
    char *admin;
    struct watcher *next;
};

struct event_feed {
    struct admin_deps d;
    struct watcher *watchers;
    size_t n;
    uint64_t timer; /* 0: none */
};

static void look(void *user);

static void arm(struct event_feed *f)
{
    if (f->timer == 0 && f->watchers != NULL)
        f->timer = f->d.ops->timer(f->d.host, LOOK_MS, look, f);
}

static uint64_t seq_of(const cJSON *row)
{
    return (uint64_t)cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(row, "seq"));
}

void event_explain(cJSON *row)
{
    const char *action = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, "action"));
    const char *outcome = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, "outcome"));
    bool ours = action != NULL && (strncmp(action, "eg.", 3) == 0 || strncmp(action, "device.", 7) == 0);
    const char *sentence = ours && outcome != NULL ? eg_explanation(outcome) : NULL;
    if (sentence != NULL)
        cJSON_AddStringToObject(row, "explanation", sentence);
}

static void send_row(struct event_feed *f, struct watcher *w, const cJSON *row)
{
    struct cse_response n = {.status = ST_OK, .pc = cJSON_Duplicate(row, true), .event_id = seq_of(row)};
    if (n.pc == NULL)
        return; /* at the next look */
    w->last = n.event_id;
    event_explain(n.pc);
    f->d.ops->notify(f->d.host, w->observation, &n, true);
}

static void watcher_free(struct event_feed *f, struct watcher *w)
{
    LL_DELETE(f->watchers, w);
    free(w->admin);
    free(w);
}

/* The page is newest first; events go out oldest first. */
static void send_page(struct event_feed *f, struct watcher *w, const cJSON *page)
{
    const cJSON *row = page == NULL ? NULL : page->child;
    while (row != NULL && row->next != NULL && seq_of(row->next) > w->last)
        row = row->next;
    for (int i = 0; row != NULL && i < BATCH && seq_of(row) > w->last; i++) {
        send_row(f, w, row);
        row = row == page->child ? NULL : row->prev;
    }
}

static void catch_up(void *user, void *about, cJSON *page)
{
    struct watcher *w = about;
    w->reading = false;
    if (w->observation != 0)
        send_page(user, w, page);
    else
        watcher_free(user, w);
    cJSON_Delete(page);
}

static void look(void *user)
{
    struct event_feed *f = user;
    f->timer = 0;
    for (struct watcher *w = f->watchers; w != NULL; w = w->next)
        if (!w->reading && w->last < audit_last(f->d.audit)) {
            w->reading = true;
            audit_read(f->d.audit, &(struct audit_query){w->admin, 0, PAGE, catch_up, f, w});
        }
    arm(f);
}

static uint64_t resume_after(const struct event_feed *f, const char *last_event_id)
{
    uint64_t last = audit_last(f->d.audit), asked = 0;
    if (last_event_id == NULL || last_event_id[0] == '\0' || strlen(last_event_id) > 18)
        return last;
    for (const char *p = last_event_id; *p != '\0'; p++) {
        if (*p < '0' || *p > '9')
            return last;
        asked = asked * 10 + (uint64_t)(*p - '0');
    }
    return asked < last ? asked : last;
}

void event_feed_watch(struct event_feed *f, struct cse_request *req, const char *admin, struct mef_result *r)
{
    if (!req->observe) {
        mef_refuse(r, ST_NOT_ACCEPTABLE, "not-acceptable", NULL, "send Accept: text/event-stream");
        return;
    }
    struct watcher *w = f->n < MAX_WATCHERS ? calloc(1, sizeof *w) : NULL;
    if (w == NULL || (w->admin = strdup(admin)) == NULL ||
        (w->observation = f->d.ops->observe(f->d.host, req)) == 0) {
        free(w != NULL ? w->admin : NULL);
        free(w);
        mef_refuse(r, ST_UNAVAILABLE, "too-many", NULL, "too many clients watch the events");
        return;
    }
    w->last = resume_after(f, req->last_event_id);
    LL_PREPEND(f->watchers, w);
    f->n++;
    arm(f);
}

void event_feed_end(struct event_feed *f, uint64_t observation)
{
    struct watcher *w = NULL;
    LL_SEARCH_SCALAR(f->watchers, w, observation, observation);
    if (w == NULL || observation == 0)
        return;
    f->n--;
    w->observation = 0;
    if (!w->reading)
        watcher_free(f, w);
}

void event_feed_drop(struct event_feed *f)
{
    struct watcher *w = NULL, *next = NULL;
    LL_FOREACH_SAFE(f->watchers, w, next)
    {
        uint64_t observation = w->observation;
        if (observation != 0)
            f->d.ops->observe_cancel(f->d.host, observation);
        event_feed_end(f, observation);
    }
}

struct event_feed *event_feed_open(const struct admin_deps *d)
{
    struct event_feed *f = calloc(1, sizeof *f);
    if (f != NULL)
        f->d = *d;
    return f;
}

void event_feed_close(struct event_feed *f)
{
    if (f == NULL)
        return;
    if (f->timer != 0)
        f->d.ops->timer_cancel(f->d.host, f->timer);
    while (f->watchers != NULL)
        watcher_free(f, f->watchers);
    free(f);
}
