/* /v1/events: the trail as it grows. Pages are read beside the loop, so watchers come and go while theirs is read. */
#include "mef-plugin/admin/events.h"
#include "tests/unit/plugin_fixture.h"

enum { WATCHERS = 8 };

static unsigned told[WATCHERS + 1], watchers; /* notifications of each observation, which count from 1 */

static uint64_t observe(struct cse_host *h, struct cse_request *req)
{
    (void)h, (void)req;
    return ++watchers;
}

static void notify(struct cse_host *h, uint64_t id, const struct cse_response *rsp, bool queue)
{
    (void)h;
    assert_true(queue && id >= 1 && id <= WATCHERS && rsp->event_id > 0);
    told[id]++;
    cJSON_Delete(rsp->pc);
}

static struct event_feed *open_feed(struct world *w, struct fixture *f, struct cse_host_ops *ops)
{
    memset(told, 0, sizeof told);
    watchers = 0;
    *ops = host_ops;
    ops->observe = observe;
    ops->notify = notify;
    world_open(w, f);
    const struct admin_deps deps = {&w->host, ops, w->conf, w->store, w->vault, w->audit, w->mef, NULL};
    struct event_feed *feed = event_feed_open(&deps);
    assert_non_null(feed);
    return feed;
}

static void close_feed(struct world *w, struct event_feed *feed)
{
    store_flush(w->store);
    event_feed_close(feed);
    world_close(w);
}

static void watch(struct event_feed *feed)
{
    struct cse_request req = {.observe = true};
    struct mef_result r = {0};
    event_feed_watch(feed, &req, ADMIN, &r);
    assert_int_equal(r.st, ST_OK);
}

/* Something happens, and the feed looks; what it reads has not come yet. */
static void happens(struct world *w)
{
    struct store_txn *t = store_begin(w->store);
    audit_add(w->audit, t, &(struct audit_event){ADMIN, "operator:x", "policy.put", "y", "ok"});
    store_commit(t, NULL, NULL);
    pass(&w->host, 500);
}

static void each_watcher_is_told_once(void **state)
{
    struct world w = {0};
    struct cse_host_ops ops;
    struct event_feed *feed = open_feed(&w, *state, &ops);
    watch(feed);
    watch(feed);
    happens(&w);
    pass(&w.host, 500); /* a look while a page is being read */
    pass(&w.host, 500);
    assert_true(told[1] == 0 && told[2] == 0);
    store_flush(w.store);
    assert_true(told[1] == 1 && told[2] == 1);
    pass(&w.host, 500);
    store_flush(w.store);
    assert_true(told[1] == 1 && told[2] == 1);
    happens(&w);
    happens(&w);
    store_flush(w.store);
    pass(&w.host, 500);
    store_flush(w.store);
    assert_true(told[1] == 3 && told[2] == 3);
    close_feed(&w, feed);
}

static void a_watcher_goes_while_its_page_is_read(void **state)
{
    struct world w = {0};
    struct cse_host_ops ops;
    struct event_feed *feed = open_feed(&w, *state, &ops);
    watch(feed);
    watch(feed);
    happens(&w);
    event_feed_end(feed, 1);
    event_feed_end(feed, 1); /* an unknown one by now */
    store_flush(w.store);
    assert_true(told[1] == 0 && told[2] == 1);
    happens(&w);
    event_feed_drop(feed);
    watch(feed);
    store_flush(w.store);
    assert_true(told[1] == 0 && told[2] == 1 && told[3] == 0);
    happens(&w);
    store_flush(w.store);
    assert_true(told[2] == 1 && told[3] == 1);
    close_feed(&w, feed);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(each_watcher_is_told_once),
        T(a_watcher_goes_while_its_page_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
