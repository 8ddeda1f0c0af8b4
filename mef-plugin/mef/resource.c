#include "mef-plugin/mef/resource.h"

#include "mef-plugin/mef/stakeholder.h"
#include "mef-plugin/mef/when.h"

#include <stdlib.h>
#include <utlist.h>

enum { RECORD = 1, RECORD_EXPORTED = 2 }; /* version; the second has the end of the key's credential behind it */
#define SWEEP_MS 30000
#define SWEEP_BATCH 256 /* expired ones removed in one transaction */

/* One label of one resource; a label's uses are a list, newest first. */
struct label_use {
    struct res *res;
    struct label *label;
    struct label_use *prev, *next;
};

struct label {
    char *text;
    struct label_use *uses;
    UT_hash_handle hh;
};

struct source {
    char *registrant;
    size_t keys; /* key registrations */
    UT_hash_handle hh;
};

struct res_index {
    struct res *by_id, *by_registrant;
    struct source *sources;
    struct res *newest;
    struct label *labels;
    size_t count;
    uint64_t serial;
};

static enum store_table table_of(const struct res *r)
{
    return r->ty == MEF_TY_KEY_REG ? STORE_KEY_REG : STORE_CLIENT_REG;
}

/* --- record ------------------------------------------------------------------------------------------------------- */

static void encode(struct wr *w, const struct res *r)
{
    wr_u8(w, r->ke_expires == 0 ? RECORD : RECORD_EXPORTED);
    rec_text(w, r->admin);
    rec_text(w, r->owner);
    wr_be64(w, (uint64_t)r->created);
    wr_be64(w, (uint64_t)r->modified);
    wr_be64(w, (uint64_t)r->expires);
    wr_be64(w, r->serial);
    rec_strings(w, &r->labels);
    if (r->ty != MEF_TY_KEY_REG)
        return;
    wr_u8(w, (uint8_t)r->suid);
    wr_be64(w, r->key);
    rec_text(w, r->application);
    rec_strings(w, &r->targets);
    if (r->ke_expires != 0)
        wr_be64(w, (uint64_t)r->ke_expires);
}

static bool decode_time(struct rd *r, int64_t *ms)
{
    uint64_t v;
    if (!rd_be64(r, &v) || v > INT64_MAX)
        return false;
    *ms = (int64_t)v;
    return true;
}

static bool decode_key(struct rd *in, uint8_t version, struct res *r)
{
    uint8_t suid;
    if (!rd_u8(in, &suid) || !rd_be64(in, &r->key) || !rec_rd_text(in, &r->application) ||
        !rec_rd_strings(in, &r->targets) || (version == RECORD_EXPORTED && !decode_time(in, &r->ke_expires)))
        return false;
    r->suid = suid;
    return true;
}

struct res *res_decode(int ty, struct span key, struct span val)
{
    struct res *r = calloc(1, sizeof *r);
    struct rd in = rd_of(val);
    uint8_t version;
    if (r == NULL || key.n == 0 || key.n >= sizeof r->ri || !rd_u8(&in, &version) || version < RECORD ||
        version > (ty == MEF_TY_KEY_REG ? RECORD_EXPORTED : RECORD) ||
        !rec_rd_text(&in, &r->admin) || !rec_rd_text(&in, &r->owner) || !decode_time(&in, &r->created) ||
        !decode_time(&in, &r->modified) || !decode_time(&in, &r->expires) || !rd_be64(&in, &r->serial) ||
        !rec_rd_strings(&in, &r->labels) || (ty == MEF_TY_KEY_REG && !decode_key(&in, version, r)) || !rd_end(&in)) {
        res_free(r);
        return NULL;
    }
    r->ty = ty;
    memcpy(r->ri, key.p, key.n);
    return r;
}

static bool save(struct mef *m, struct store_txn *t, struct res *r)
{
    struct wr w = wr_of(m->record, sizeof m->record);
    encode(&w, r);
    if (!wr_ok(&w))
        return false;
    store_put(t, table_of(r), span_str(r->ri), wr_span(&w));
    r->seq = 0;
    return true;
}

/* --- index -------------------------------------------------------------------------------------------------------- */

static void unindex_labels(struct res_index *x, struct res *r)
{
    for (size_t i = 0; r->uses != NULL && i < r->labels.n; i++) {
        struct label_use *u = &r->uses[i];
        struct label *l = u->label;
        if (l == NULL)
            continue;
        DL_DELETE(l->uses, u);
        if (l->uses == NULL) {
            HASH_DEL(x->labels, l); /* NOLINT(clang-analyzer-*): uthash's macros */
            free(l->text);
            free(l);
        }
    }
    free(r->uses);
    r->uses = NULL;
}

static struct label *label_get(struct res_index *x, const char *text)
{
    struct label *l = NULL;
    HASH_FIND_STR(x->labels, text, l);
    if (l != NULL)
        return l;
    l = calloc(1, sizeof *l);
    if (l == NULL || (l->text = strdup(text)) == NULL) {
        free(l);
        return NULL;
    }
    HASH_ADD_KEYPTR(hh, x->labels, l->text, strlen(l->text), l);
    if (HASH_ADDED(hh, l))
        return l;
    free(l->text);
    free(l);
    return NULL;
}

/* What is labelled later is not newer. */
static int newer(const struct label_use *a, const struct label_use *b)
{
    return a->res->serial > b->res->serial ? -1 : 1;
}

static bool index_labels(struct res_index *x, struct res *r)
{
    if (r->labels.n == 0)
        return true;
    r->uses = calloc(r->labels.n, sizeof *r->uses);
    if (r->uses == NULL)
        return false;
    for (size_t i = 0; i < r->labels.n; i++) {
        struct label_use *u = &r->uses[i];
        u->res = r;
        u->label = label_get(x, r->labels.v[i]);
        if (u->label == NULL) {
            unindex_labels(x, r);
            return false;
        }
        DL_INSERT_INORDER(u->label->uses, u, newer);
    }
    return true;
}

static char *registrant_key(const char *admin, const char *owner)
{
    size_t n = strlen(admin) + strlen(owner) + 2;
    char *key = malloc(n);
    if (key != NULL) {
        struct wr w = wr_of(key, n);
        wr_spanb(&w, span_str(admin));
        wr_u8(&w, ' ');
        wr_bytes(&w, owner, strlen(owner) + 1);
    }
    return key;
}

static struct source *source_find(const struct res_index *x, const char *registrant)
{
    struct source *s = NULL;
    HASH_FIND_STR(x->sources, registrant, s); /* NOLINT(clang-analyzer-*) */
    return s;
}

static bool count_key(struct res_index *x, const char *registrant)
{
    struct source *s = source_find(x, registrant);
    if (s == NULL) {
        s = calloc(1, sizeof *s);
        if (s == NULL || (s->registrant = strdup(registrant)) == NULL) {
            free(s);
            return false;
        }
        HASH_ADD_KEYPTR(hh, x->sources, s->registrant, strlen(s->registrant), s);
        if (!HASH_ADDED(hh, s)) {
            free(s->registrant);
            free(s);
            return false;
        }
    }
    s->keys++;
    return true;
}

static void discount_key(struct res_index *x, const char *registrant)
{
    struct source *s = source_find(x, registrant);
    if (s == NULL || --s->keys > 0)
        return;
    HASH_DEL(x->sources, s); /* NOLINT(clang-analyzer-*) */
    free(s->registrant);
    free(s);
}

static bool index_add(struct mef *m, struct res *r)
{
    struct res_index *x = m->resources;
    struct stakeholder *s = stakeholder_get(m, r->admin);
    if (s == NULL || (r->registrant = registrant_key(r->admin, r->owner)) == NULL || !index_labels(x, r))
        return false;
    if (r->ty == MEF_TY_KEY_REG && !count_key(x, r->registrant)) {
        unindex_labels(x, r);
        return false;
    }
    HASH_ADD_STR(x->by_id, ri, r);
    bool added = HASH_ADDED(hh, r);
    if (added && r->ty == MEF_TY_CLIENT_REG) {
        HASH_ADD_KEYPTR(hh_registrant, x->by_registrant, r->registrant, strlen(r->registrant), r);
        added = HASH_ADDED(hh_registrant, r);
        if (!added)
            HASH_DEL(x->by_id, r); /* NOLINT(clang-analyzer-*) */
    }
    if (!added) {
        if (r->ty == MEF_TY_KEY_REG)
            discount_key(x, r->registrant);
        unindex_labels(x, r);
        return false;
    }
    DL_PREPEND(x->newest, r);
    x->count++;
    s->has[SHARE_REGISTRATIONS]++;
    return true;
}

static void index_remove(struct mef *m, struct res *r)
{
    struct res_index *x = m->resources;
    unindex_labels(x, r);
    HASH_DEL(x->by_id, r); /* NOLINT(clang-analyzer-*) */
    if (r->ty == MEF_TY_CLIENT_REG)
        HASH_DELETE(hh_registrant, x->by_registrant, r);
    else
        discount_key(x, r->registrant);
    DL_DELETE(x->newest, r);
    x->count--;
    stakeholder_find(m, r->admin)->has[SHARE_REGISTRATIONS]--;
}

/* --- life --------------------------------------------------------------------------------------------------------- */

struct res *res_new(struct mef *m, int ty, const char *ri, const char *admin, const char *owner)
{
    struct res *r = calloc(1, sizeof *r);
    if (r == NULL)
        return NULL;
    r->ty = ty;
    strncpy(r->ri, ri, sizeof r->ri - 1);
    r->admin = strdup(admin);
    r->owner = strdup(owner);
    r->application = strdup("");
    r->created = r->modified = mef_now(m);
    if (r->admin == NULL || r->owner == NULL || r->application == NULL) {
        res_free(r);
        return NULL;
    }
    return r;
}

void res_free(struct res *r)
{
    if (r == NULL)
        return;
    commands_free(r->commands);
    configuration_free(r->configuration);
    strings_free(&r->labels);
    strings_free(&r->targets);
    free(r->application);
    free(r->registrant);
    free(r->owner);
    free(r->admin);
    free(r->uses);
    free(r);
}

bool res_add(struct mef *m, struct store_txn *t, struct res *r)
{
    r->serial = ++m->resources->serial;
    if (!index_add(m, r)) {
        res_free(r);
        return false;
    }
    if (!save(m, t, r)) {
        index_remove(m, r);
        res_free(r);
        return false;
    }
    return true;
}

bool res_changed(struct mef *m, struct store_txn *t, struct res *r, struct strings *labels)
{
    r->modified = mef_now(m);
    if (labels != NULL) {
        m->gone_seq = r->labels.n > 0 ? 0 : m->gone_seq;
        unindex_labels(m->resources, r);
        strings_free(&r->labels);
        r->labels = *labels;
        if (!index_labels(m->resources, r))
            return false;
    }
    return save(m, t, r);
}

/* Not by its source: a MEF-FQDN of then need not be one of today. */
bool res_published(const struct mef *m, const struct res *r)
{
    return r->ty == MEF_TY_KEY_REG && vault_kind_of(m->d.vault, r->key) == VAULT_NETWORK_KEY;
}

void res_drop(struct mef *m, struct store_txn *t, struct res *r)
{
    store_del(t, table_of(r), span_str(r->ri));
    m->gone_seq = r->labels.n > 0 ? 0 : m->gone_seq;
    commands_drop(t, r);
    configuration_drop(t, r);
    /* A key that the MEF itself published belongs to the device it was made for. */
    if (r->ty == MEF_TY_KEY_REG && !res_published(m, r))
        vault_delete(m->d.vault, t, r->key);
    index_remove(m, r);
    res_free(r);
}

static void sweep(void *user)
{
    struct mef *m = user;
    struct res *r = NULL, *next = NULL;
    struct store_txn *t = NULL;
    unsigned n = 0;
    int64_t now = mef_now(m);
    DL_FOREACH_SAFE(m->resources->newest, r, next)
    {
        if (r->expires > now)
            continue;
        if (t == NULL && (t = store_begin(m->d.store)) == NULL)
            break;
        res_drop(m, t, r);
        if (++n == SWEEP_BATCH)
            break;
    }
    if (t != NULL)
        store_commit(t, mef_committed, m);
    m->sweeper = m->d.ops->timer(m->d.host, n == SWEEP_BATCH ? 100 : SWEEP_MS, sweep, m);
}

/* --- finding ------------------------------------------------------------------------------------------------------ */

struct res *res_at(const struct mef *m, struct span ri)
{
    struct res *r = NULL;
    HASH_FIND(hh, m->resources->by_id, ri.p, ri.n, r);
    return r;
}

/* Conformance: R-5 | TS-0003 8.3.5.2.3 | shown by: test_procedures.py:test_expired */
/* Conformance: K-6 | TS-0003 8.3.5.2.8 | shown by: test_procedures.py:test_expired */
struct res *res_find(const struct mef *m, const char *ri)
{
    struct res *r = res_at(m, span_str(ri));
    return r != NULL && r->expires > mef_now(m) ? r : NULL;
}

struct res *res_registration(const struct mef *m, const char *admin, const char *owner)
{
    struct res *r = NULL;
    char *key = registrant_key(admin, owner);
    if (key != NULL)
        HASH_FIND(hh_registrant, m->resources->by_registrant, key, strlen(key), r); /* NOLINT(clang-analyzer-*) */
    free(key);
    return r;
}

bool res_room(const struct mef *m, const char *admin)
{
    return stakeholder_has_room(m, admin, SHARE_REGISTRATIONS, m->resources->count, m->max_resources);
}

size_t res_keys_of(const struct mef *m, const char *admin, const char *owner)
{
    char *key = registrant_key(admin, owner);
    const struct source *s = key != NULL ? source_find(m->resources, key) : NULL;
    free(key);
    return s != NULL ? s->keys : 0;
}

/* Several labels are alternatives (TS-0001 8.1.2, conditions with the same tag): merge their lists by age. */
static void each_labelled(const struct mef *m, const struct strings *labels,
                          bool (*fn)(void *user, struct res *r), void *user)
{
    struct label_use *at[MEF_MAX_LABELS];
    size_t n = 0;
    for (size_t i = 0; i < labels->n && n < MEF_MAX_LABELS; i++) {
        struct label *l = NULL;
        HASH_FIND_STR(m->resources->labels, labels->v[i], l);
        if (l != NULL)
            at[n++] = l->uses;
    }
    for (;;) {
        struct res *next = NULL;
        for (size_t i = 0; i < n; i++)
            if (at[i] != NULL && (next == NULL || at[i]->res->serial > next->serial))
                next = at[i]->res;
        if (next == NULL || !fn(user, next))
            return;
        for (size_t i = 0; i < n; i++)
            if (at[i] != NULL && at[i]->res == next)
                at[i] = at[i]->next;
    }
}

void res_each(const struct mef *m, const struct strings *labels, bool (*fn)(void *user, struct res *r), void *user)
{
    if (labels->n > 0) {
        each_labelled(m, labels, fn, user);
        return;
    }
    for (struct res *r = m->resources->newest; r != NULL && fn(user, r); r = r->next)
        ;
}

/* `name` is a literal: no copy of it is needed. */
static void add_text(cJSON *o, const char *name, const char *value)
{
    cJSON_AddItemToObjectCS(o, name, cJSON_CreateString(value));
}

cJSON *res_json(const struct mef *m, const struct res *r)
{
    char when[WHEN_TEXT];
    cJSON *o = cJSON_CreateObject();
    cJSON_AddItemToObjectCS(o, M2M_SN_RESOURCE_TYPE, cJSON_CreateNumber(r->ty));
    add_text(o, M2M_SN_RESOURCE_ID, r->ri);
    add_text(o, M2M_SN_RESOURCE_NAME, r->ri);
    add_text(o, M2M_SN_PARENT_ID, m->base);
    when_print_m2m(r->created, when);
    add_text(o, M2M_SN_CREATION_TIME, when);
    when_print_m2m(r->modified, when);
    add_text(o, M2M_SN_LAST_MODIFIED, when);
    when_print_m2m(r->expires, when);
    add_text(o, M2M_SN_EXPIRATION, when);
    if (r->labels.n > 0)
        cJSON_AddItemToObjectCS(o, M2M_SN_LABELS, strings_json(&r->labels));
    add_text(o, MEF_SN_ADMIN_FQDN, r->admin);
    add_text(o, MEF_SN_SOURCE_ID, r->owner);
    return o;
}

/* --- loading ------------------------------------------------------------------------------------------------------ */

struct loading {
    struct res *all; /* linked by next */
    size_t n;
    int ty;
    bool ok;
};

static bool load_row(void *user, struct span key, struct span val)
{
    struct loading *l = user;
    struct res *r = res_decode(l->ty, key, val);
    if (r == NULL) {
        l->ok = false;
        return false;
    }
    r->next = l->all;
    l->all = r;
    l->n++;
    return true;
}

static int by_serial(const struct res *a, const struct res *b)
{
    return a->serial < b->serial ? -1 : a->serial > b->serial;
}

bool resources_open(struct mef *m)
{
    struct loading l = {.ok = true};
    m->resources = calloc(1, sizeof *m->resources);
    if (m->resources == NULL)
        return false;
    l.ty = MEF_TY_CLIENT_REG;
    if (store_each(m->d.store, STORE_CLIENT_REG, load_row, &l) != ST_OK)
        l.ok = false;
    l.ty = MEF_TY_KEY_REG;
    if (l.ok && store_each(m->d.store, STORE_KEY_REG, load_row, &l) != ST_OK)
        l.ok = false;
    LL_SORT(l.all, by_serial);
    while (l.all != NULL) {
        struct res *r = l.all;
        l.all = r->next;
        m->resources->serial = r->serial;
        if (!l.ok || !index_add(m, r)) {
            res_free(r);
            l.ok = false;
        }
    }
    m->sweeper = m->d.ops->timer(m->d.host, SWEEP_MS, sweep, m);
    return l.ok;
}

void resources_free(struct mef *m)
{
    if (m->resources == NULL)
        return;
    m->d.ops->timer_cancel(m->d.host, m->sweeper);
    while (m->resources->newest != NULL) {
        struct res *r = m->resources->newest;
        index_remove(m, r);
        res_free(r);
    }
    free(m->resources);
    m->resources = NULL;
}
