#include "tests/unit/eg_fixture.h"

#include <sys/stat.h>

/* --- the world ---------------------------------------------------------------------------------------------------- */

static void write_file(const char *path, const void *bytes, size_t n)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    fclose(file);
    chmod(path, 0600);
}

void world_open(struct world *w)
{
    char path[128], err[256] = "";
    const struct conf_option *const tables[] = {mef_options, eg_options};
    const struct vault_host vault_host = {&w->h, vault_random};
    const struct audit_host audit_host = {&w->h, audit_time};
    snprintf(path, sizeof path, "%s/conf", w->f->dir);
    w->conf = conf_load(path, tables, 2, err, sizeof err);
    if (w->conf == NULL)
        fail_msg("%s", err);
    w->store = must_open(w->f);
    w->audit = audit_open(w->store, &audit_host);
    snprintf(path, sizeof path, "%s/kek", w->f->dir);
    w->vault = vault_open(w->store, path, &vault_host, err, sizeof err);
    if (w->vault == NULL)
        fail_msg("%s", err);
    const struct mef_deps mef = {&w->h, &host_ops, w->conf, w->store, w->vault, w->audit};
    w->mef = mef_open(&mef, err, sizeof err);
    if (w->mef == NULL)
        fail_msg("%s", err);
    const struct eg_deps eg = {&w->h, &host_ops, w->conf, w->store, w->vault, w->audit, w->mef};
    w->eg = eg_open(&eg, err, sizeof err);
    if (w->eg == NULL)
        fail_msg("%s", err);
}

void settle(struct world *w)
{
    for (int i = 0; i < 4; i++) {
        loop_drain(&w->f->loop);
        store_flush(w->store);
    }
}

void world_close(struct world *w)
{
    eg_close(w->eg);
    mef_close(w->mef);
    vault_close(w->vault);
    audit_close(w->audit);
    store_close(w->store);
    loop_drain(&w->f->loop);
    conf_free(w->conf);
}

void reopen(struct world *w)
{
    settle(w);
    world_close(w);
    memset(w->h.timers, 0, sizeof w->h.timers);
    w->h.ended = false;
    world_open(w);
}

void crash(struct world *w)
{
    static const char *const names[] = {"db", "db-wal", "db-shm"};
    static uint8_t copy[3][4 << 20];
    size_t n[3] = {0};
    char path[128];
    store_flush(w->store);
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", w->f->dir, names[i]);
        FILE *file = fopen(path, "r");
        n[i] = file != NULL ? fread(copy[i], 1, sizeof copy[i], file) : 0;
        assert_true(n[i] < sizeof copy[i]);
        if (file != NULL)
            fclose(file);
    }
    settle(w);
    world_close(w);
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", w->f->dir, names[i]);
        unlink(path);
        if (n[i] > 0 && i < 2) /* the index of the log is made anew */
            write_file(path, copy[i], n[i]);
    }
    memset(w->h.timers, 0, sizeof w->h.timers);
    world_open(w);
}

void pass(struct world *w, uint64_t ms)
{
    uint64_t end = w->h.clock + ms;
    for (;;) {
        struct host_timer *next = NULL;
        for (size_t i = 0; i < 64; i++)
            if (w->h.timers[i].id != 0 && w->h.timers[i].due <= end && (next == NULL || w->h.timers[i].due < next->due))
                next = &w->h.timers[i];
        if (next == NULL)
            break;
        struct host_timer t = *next;
        next->id = 0;
        w->h.clock = t.due > w->h.clock ? t.due : w->h.clock;
        t.fn(t.user);
    }
    w->h.clock = end;
    settle(w);
}

uint64_t metric(struct world *w, const char *name)
{
    for (size_t i = 0; i < 64 && w->h.metrics[i].name != NULL; i++)
        if (strcmp(w->h.metrics[i].name, name) == 0)
            return w->h.metrics[i].n;
    return 0;
}

/* --- operator ----------------------------------------------------------------------------------------------------- */

void free_result(struct mef_result *r)
{
    cJSON_Delete(r->body);
    r->body = NULL;
}

void finish(struct world *w, struct store_txn *t, const struct mef_result *r)
{
    if (r->st == ST_OK || r->st == ST_CREATED || r->st == ST_DELETED || r->st == ST_UPDATED)
        store_commit(t, NULL, NULL);
    else
        store_abort(t);
    settle(w);
}

void make_credential(struct world *w, const char *admin, const char *who, char out[80])
{
    struct mef_result r = {0};
    cJSON *in = cJSON_CreateObject();
    cJSON_AddStringToObject(in, "for", who);
    cJSON_AddStringToObject(in, "kind", "psk");
    struct store_txn *t = store_begin(w->store);
    mef_credential_create(w->mef, t, admin, "operator:test", in, &r);
    if (r.st != ST_CREATED)
        fail_msg("credential for %s: %s %s", who, r.code, r.detail);
    finish(w, t, &r);
    snprintf(out, 80, "%s", cJSON_GetObjectItem(r.body, "kpmId")->valuestring);
    free_result(&r);
    cJSON_Delete(in);
}

enum st put_code_as(struct world *w, const char *admin, eui64_t eui, const char *json, bool replace, char *code)
{
    struct mef_result r = {0};
    cJSON *in = cJSON_Parse(json);
    assert_non_null(in);
    struct store_txn *t = store_begin(w->store);
    eg_code_put(w->eg, t, admin, "operator:test", eui, in, replace, &r);
    if (code != NULL)
        snprintf(code, 64, "%s", r.code != NULL ? r.code : "");
    finish(w, t, &r);
    free_result(&r);
    cJSON_Delete(in);
    return r.st;
}

enum st put_code(struct world *w, eui64_t eui, const char *json) { return put_code_as(w, ADMIN, eui, json, false, NULL); }

void delete_code(struct world *w)
{
    struct mef_result r = {0};
    struct store_txn *t = store_begin(w->store);
    eg_code_delete(w->eg, t, ADMIN, "operator:test", DEV, &r);
    finish(w, t, &r);
    assert_int_equal(r.st, ST_DELETED);
}

enum st put_gateway_as(struct world *w, const char *admin, eui64_t eui, const char *identity, const char *more, char *code)
{
    char json[512];
    struct mef_result r = {0};
    snprintf(json, sizeof json, "{\"identity\":\"%s\"%s}", identity, more);
    cJSON *in = cJSON_Parse(json);
    assert_non_null(in);
    struct store_txn *t = store_begin(w->store);
    eg_gateway_put(w->eg, t, admin, "operator:test", eui, in, &r);
    if (code != NULL)
        snprintf(code, 64, "%s", r.code != NULL ? r.code : "");
    finish(w, t, &r);
    free_result(&r);
    cJSON_Delete(in);
    return r.st;
}

void put_application_as(struct world *w, const char *admin, const char *name, const char *json)
{
    struct mef_result r = {0};
    cJSON *in = cJSON_Parse(json);
    struct store_txn *t = store_begin(w->store);
    mef_application_put(w->mef, t, admin, "operator:test", name, in, &r);
    assert_true(r.st == ST_CREATED || r.st == ST_OK);
    finish(w, t, &r);
    free_result(&r);
    cJSON_Delete(in);
}

void put_application(struct world *w, const char *name, const char *json) { put_application_as(w, ADMIN, name, json); }

enum st act(struct world *w, eui64_t eui, const char *action)
{
    struct mef_result r = {0};
    struct store_txn *t = store_begin(w->store);
    eg_device_action(w->eg, t, ADMIN, "operator:test", eui, action, &r);
    finish(w, t, &r);
    free_result(&r);
    return r.st;
}

void expect_device(struct world *w, eui64_t eui, const char *state, const char *reason)
{
    cJSON *o = eg_device_get(w->eg, ADMIN, eui);
    assert_non_null(o);
    assert_string_equal(cJSON_GetObjectItem(o, "state")->valuestring, state);
    const cJSON *why = cJSON_GetObjectItem(o, "reason");
    if (reason == NULL)
        assert_null(why);
    else
        assert_string_equal(why->valuestring, reason);
    cJSON_Delete(o);
}

int world_new(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    char path[128];
    uint8_t kek[32];
    static const char conf[] = "[mef]\nfqdn = mef.example.org\n[eg]\nallow-short-install-codes = true\n";
    if (setup((void **)&w->f) != 0)
        return -1;
    w->h.loop = &w->f->loop;
    w->h.rng = 42;
    w->crypto = zb_crypto_new();
    memset(kek, 0x5a, sizeof kek);
    snprintf(path, sizeof path, "%s/kek", w->f->dir);
    write_file(path, kek, sizeof kek);
    snprintf(path, sizeof path, "%s/conf", w->f->dir);
    write_file(path, conf, sizeof conf - 1);
    world_open(w);
    make_credential(w, ADMIN, "gateway:hall", w->gw);
    make_credential(w, ADMIN, "gateway:attic", w->gw2);
    make_credential(w, ADMIN, AE, w->ae);
    make_credential(w, ADMIN, "//example.org/in-cse/Cae2", w->ae2);
    make_credential(w, OTHER_ADMIN, "//example.org/in-cse/Cspy", w->foreign);
    assert_int_equal(put_gateway_as(w, ADMIN, GW, w->gw, "", NULL), ST_CREATED);
    assert_int_equal(put_gateway_as(w, ADMIN, GW2, w->gw2, ",\"firstKeyForm\":\"extended\"", NULL), ST_CREATED);
    *state = w;
    return 0;
}

int world_free(void **state)
{
    struct world *w = *state;
    settle(w);
    world_close(w);
    zb_crypto_free(w->crypto);
    void *f = w->f;
    free(w);
    return teardown(&f);
}
