#include "mef-plugin/mef/resource.h"

#include "mef-plugin/mef/stakeholder.h"
#include "mef-plugin/mef/when.h"

#include <stdlib.h>

enum { RECORD = 1, RECORD_EXPORTED = 2 }; /* version; the second has the end of the key's credential behind it */
#define SWEEP_MS 30000
#define SWEEP_BATCH 256 /* expired ones removed in one transaction */

struct res_index {
    struct res *by_id;
    struct sorted due;  /* what expires first is the first */
    struct sorted read; /* from the store, and not indexed yet: the oldest is the first */
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

int res_order(const void *a, const void *b)
{
    const struct res *x = a, *y = b;
    if (x->published != y->published)
        return x->published ? -1 : 1;
    return x->serial > y->serial ? -1 : x->serial < y->serial;
}

static int by_end(const void *a, const void *b)
{
    const struct res *x = a, *y = b;
    return x->expires < y->expires ? -1 : x->expires > y->expires;
}

/* What is shelved later is not newer. */
static bool put_on(struct stakeholder *s, enum by by, const char *name, struct res *r)
{
    return uses_put(&r->uses, &s->by[by], name, r, res_order);
}

/* On the shelves of all that it is looked for by. */
static bool shelve(struct mef *m, struct res *r)
{
    struct stakeholder *s = stakeholder_get(m, r->admin);
    bool key = r->ty == MEF_TY_KEY_REG;
    bool ok = s != NULL && uses_open(&r->uses, r->labels.n + r->targets.n + 2) &&
              put_on(s, key ? BY_SOURCE : BY_REGISTRANT, r->owner, r);
    for (size_t i = 0; ok && i < r->labels.n; i++)
        ok = put_on(s, BY_LABEL, r->labels.v[i], r);
    for (size_t i = 0; ok && i < r->targets.n; i++)
        ok = put_on(s, BY_TARGET, r->targets.v[i], r);
    if (ok && key && r->application[0] != '\0')
        ok = put_on(s, BY_APPLICATION, r->application, r);
    if (!ok)
        uses_close(&r->uses);
    return ok;
}

static bool index_add(struct mef *m, struct res *r)
{
    struct res_index *x = m->resources;
    r->published = r->ty == MEF_TY_KEY_REG && vault_kind_of(m->d.vault, r->key) == VAULT_NETWORK_KEY;
    if (!shelve(m, r))
        return false;
    HASH_ADD_STR(x->by_id, ri, r);
    if (!HASH_ADDED(hh, r)) {
        uses_close(&r->uses);
        return false;
    }
    struct stakeholder *s = stakeholder_find(m, r->admin);
    sorted_add(&x->due, &r->due, r);
    if (r->ty == MEF_TY_CLIENT_REG)
        sorted_add(&s->names[SHARE_REGISTRATIONS], &r->listed, r->ri);
    s->has[SHARE_REGISTRATIONS]++;
    return true;
}

static void index_remove(struct mef *m, struct res *r)
{
    struct res_index *x = m->resources;
    struct stakeholder *s = stakeholder_find(m, r->admin);
    uses_close(&r->uses);
    HASH_DEL(x->by_id, r); /* NOLINT(clang-analyzer-*): uthash's macros */
    sorted_remove(&x->due, &r->due);
    if (r->ty == MEF_TY_CLIENT_REG)
        sorted_remove(&s->names[SHARE_REGISTRATIONS], &r->listed);
    s->has[SHARE_REGISTRATIONS]--;
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
    free(r->owner);
    free(r->admin);
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

static void replace(struct strings *list, struct strings *with)
{
    if (with == NULL)
        return;
    strings_free(list);
    *list = *with;
    *with = (struct strings){0};
}

bool res_changed(struct mef *m, struct store_txn *t, struct res *r, const struct res_change *to)
{
    r->modified = mef_now(m);
    sorted_remove(&m->resources->due, &r->due);
    r->expires = to->expires;
    sorted_add(&m->resources->due, &r->due, r);
    if (to->labels != NULL || to->targets != NULL) {
        m->gone_seq = r->labels.n > 0 ? 0 : m->gone_seq;
        uses_close(&r->uses);
        replace(&r->labels, to->labels);
        replace(&r->targets, to->targets);
        if (!shelve(m, r))
            return false;
    }
    return save(m, t, r);
}

void res_drop(struct mef *m, struct store_txn *t, struct res *r)
{
    store_del(t, table_of(r), span_str(r->ri));
    m->gone_seq = r->labels.n > 0 ? 0 : m->gone_seq;
    commands_drop(t, r);
    configuration_drop(t, r);
    /* A key that the MEF itself published belongs to the device it was made for. */
    if (r->ty == MEF_TY_KEY_REG && !r->published)
        vault_delete(m->d.vault, t, r->key);
    index_remove(m, r);
    res_free(r);
}

static void sweep(void *user)
{
    struct mef *m = user;
    struct store_txn *t = NULL;
    unsigned n = 0;
    int64_t now = mef_now(m);
    for (; n < SWEEP_BATCH; n++) {
        struct res *r = sorted_first(&m->resources->due);
        if (r == NULL || r->expires > now || (t == NULL && (t = store_begin(m->d.store)) == NULL))
            break;
        res_drop(m, t, r);
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
    const struct shelf *of = stakeholder_shelf(m, admin, BY_REGISTRANT, owner);
    return of != NULL ? sorted_first(&of->all) : NULL;
}

bool res_room(const struct mef *m, const char *admin)
{
    return stakeholder_has_room(m, admin, SHARE_REGISTRATIONS, HASH_COUNT(m->resources->by_id), m->max_resources);
}

size_t res_keys_of(const struct mef *m, const char *admin, const char *owner)
{
    const struct shelf *of = stakeholder_shelf(m, admin, BY_SOURCE, owner);
    return of != NULL ? of->n : 0;
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

static int by_serial(const void *a, const void *b)
{
    const struct res *x = a, *y = b;
    return x->serial < y->serial ? -1 : x->serial > y->serial;
}

static bool load(struct mef *m, int ty, struct span key, struct span val)
{
    struct res *r = res_decode(ty, key, val);
    if (r != NULL)
        sorted_add(&m->resources->read, &r->due, r);
    return r != NULL;
}

static bool load_client(void *user, struct span key, struct span val)
{
    return load(user, MEF_TY_CLIENT_REG, key, val);
}

static bool load_key(void *user, struct span key, struct span val)
{
    return load(user, MEF_TY_KEY_REG, key, val);
}

bool resources_open(struct mef *m)
{
    m->resources = calloc(1, sizeof *m->resources);
    if (m->resources == NULL)
        return false;
    m->resources->due.compare = by_end;
    m->resources->read.compare = by_serial;
    bool ok = mef_load(m, STORE_CLIENT_REG, load_client) && mef_load(m, STORE_KEY_REG, load_key);
    /* In the order in which they were made, they go to the ends of all shelves: that is the fastest. */
    for (struct res *r; (r = sorted_first(&m->resources->read)) != NULL;) {
        sorted_remove(&m->resources->read, &r->due);
        m->resources->serial = r->serial;
        if (!ok || !index_add(m, r)) {
            res_free(r);
            ok = false;
        }
    }
    m->sweeper = m->d.ops->timer(m->d.host, SWEEP_MS, sweep, m);
    return ok;
}

void resources_free(struct mef *m)
{
    struct res *r, *next;
    if (m->resources == NULL)
        return;
    m->d.ops->timer_cancel(m->d.host, m->sweeper);
    HASH_ITER(hh, m->resources->by_id, r, next)
    {
        index_remove(m, r);
        res_free(r);
    }
    free(m->resources);
    m->resources = NULL;
}
