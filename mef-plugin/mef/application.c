/* Applications: named sets of AEs that share access to the keys of devices registered for them. */
#include "mef-plugin/mef/stakeholder.h"

#include <stdlib.h>

#define RECORD_VERSION 2 /* 1: before there were key scopes; all were MEF_SCOPE_DEVICE */
#define MAX_LIFETIME 3153600000.0 /* seconds, 100 years */

struct application {
    char *key;              /* "adminFQDN/name" */
    uint64_t lifetime;      /* of a key made for it, seconds; 0: the MEF's longest */
    enum mef_scope scope;   /* which devices share a network key */
    struct strings members; /* absolute ids */
    struct uses uses;
    struct sorted_node listed;
    UT_hash_handle hh;
};

static const char *const scopes[MEF_SCOPES] = {"device", "application", "network"};

static void application_free(struct application *a)
{
    if (a == NULL)
        return;
    strings_free(&a->members);
    free(a->key);
    free(a);
}

static void encode(struct wr *w, const struct application *a)
{
    wr_u8(w, RECORD_VERSION);
    wr_be64(w, a->lifetime);
    wr_u8(w, (uint8_t)a->scope);
    rec_strings(w, &a->members);
}

static bool decode_scope(struct rd *r, uint8_t version, struct application *a)
{
    uint8_t scope = MEF_SCOPE_DEVICE;
    if (version > 1 && (!rd_u8(r, &scope) || scope >= MEF_SCOPES))
        return false;
    a->scope = (enum mef_scope)scope;
    return true;
}

static struct application *decode(struct span key, struct span val)
{
    struct application *a = calloc(1, sizeof *a);
    struct rd r = rd_of(val);
    uint8_t version;
    if (a == NULL || key.n == 0 || key.n >= MEF_KEY || (a->key = strndup((const char *)key.p, key.n)) == NULL ||
        strchr(a->key, '/') == NULL || !rd_u8(&r, &version) || version == 0 || version > RECORD_VERSION ||
        !rd_be64(&r, &a->lifetime) || a->lifetime > (uint64_t)MAX_LIFETIME || !decode_scope(&r, version, a) ||
        !rec_rd_strings(&r, &a->members) || !rd_end(&r)) {
        application_free(a);
        return NULL;
    }
    return a;
}

bool application_decode(struct span key, struct span val)
{
    struct application *a = decode(key, val);
    application_free(a);
    return a != NULL;
}

static char *name_of(const struct application *a)
{
    return strchr(a->key, '/') + 1;
}

static struct stakeholder *stakeholder_of(struct mef *m, const struct application *a)
{
    char admin[MEF_KEY] = "";
    memcpy(admin, a->key, strcspn(a->key, "/"));
    return stakeholder_get(m, admin);
}

/* By its key and members into memory; false: there is none left. */
static bool add(struct mef *m, struct application *a)
{
    struct stakeholder *s = stakeholder_of(m, a);
    if (s == NULL || !uses_open(&a->uses, a->members.n + 1))
        return false;
    bool ok = true;
    for (size_t i = 0; ok && i < a->members.n; i++)
        ok = uses_put(&a->uses, &s->by[BY_MEMBER], a->members.v[i], name_of(a), sorted_texts);
    if (ok)
        HASH_ADD_KEYPTR(hh, m->applications, a->key, strlen(a->key), a);
    if (!ok || !HASH_ADDED(hh, a)) {
        uses_close(&a->uses);
        return false;
    }
    sorted_add(&s->names[SHARE_APPLICATIONS], &a->listed, name_of(a));
    s->has[SHARE_APPLICATIONS]++;
    return true;
}

static void drop(struct mef *m, struct application *a)
{
    struct stakeholder *s = stakeholder_of(m, a);
    uses_close(&a->uses);
    sorted_remove(&s->names[SHARE_APPLICATIONS], &a->listed);
    s->has[SHARE_APPLICATIONS]--;
    HASH_DEL(m->applications, a); /* NOLINT(clang-analyzer-*): uthash's macros */
    application_free(a);
}

static bool load_row(void *user, struct span key, struct span val)
{
    struct mef *m = user;
    struct application *a = decode(key, val);
    if (a != NULL && add(m, a))
        return true;
    application_free(a);
    return false;
}

bool applications_load(struct mef *m)
{
    return mef_load(m, STORE_APPLICATION, load_row);
}

void applications_free(struct mef *m)
{
    struct application *a, *next;
    HASH_ITER(hh, m->applications, a, next)
    {
        drop(m, a);
    }
}

static struct application *find(const struct mef *m, const char *admin, const char *name)
{
    char key[MEF_KEY];
    struct application *a = NULL;
    if (mef_name_key(admin, name, key))
        HASH_FIND_STR(m->applications, key, a);
    return a;
}

bool mef_application_member(struct mef *m, const char *admin, const char *name, const char *id)
{
    const struct application *a = find(m, admin, name);
    return a != NULL && strings_has(&a->members, id);
}

uint64_t mef_application_lifetime(struct mef *m, const char *admin, const char *name)
{
    const struct application *a = find(m, admin, name);
    return a == NULL ? 0 : a->lifetime;
}

enum mef_scope mef_application_scope(struct mef *m, const char *admin, const char *name)
{
    const struct application *a = find(m, admin, name);
    return a == NULL ? MEF_SCOPE_DEVICE : a->scope;
}

/* --- operator REST ------------------------------------------------------------------------------------------------ */

static cJSON *to_json(const struct application *a)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "name", name_of(a));
    cJSON_AddStringToObject(o, "keyScope", scopes[a->scope]);
    if (a->lifetime != 0)
        cJSON_AddNumberToObject(o, "lifetime", (double)a->lifetime);
    cJSON_AddItemToObject(o, "members", strings_json(&a->members));
    return o;
}

enum { SCOPE, LIFETIME, LIST, MEMBERS };
static const struct attr members[MEMBERS] = {
    [SCOPE] = {"keyScope", ATTR_TEXT, ATTR_OPT, ATTR_NP, 16},
    [LIFETIME] = {"lifetime", ATTR_NUMBER, ATTR_OPT, ATTR_NP, MAX_LIFETIME},
    [LIST] = {"members", ATTR_TEXTS, ATTR_MAN, ATTR_NP, MEF_MAX_MEMBERS},
};

static bool read_scope(const struct attr_value *v, enum mef_scope *out, struct mef_result *r)
{
    const char *text = v->present ? v->text : scopes[MEF_SCOPE_DEVICE];
    for (unsigned i = 0; i < MEF_SCOPES; i++)
        if (strcmp(text, scopes[i]) == 0) {
            *out = (enum mef_scope)i;
            return true;
        }
    return mef_refuse(r, ST_BAD_REQUEST, "bad-value", "keyScope", "device, application or network");
}

static bool read_members(const struct mef *m, const struct attr_value *v, struct strings *out, struct mef_result *r)
{
    char id[MEF_ID];
    const cJSON *e;
    cJSON_ArrayForEach(e, v->array)
    {
        if (mef_id(m, e->valuestring, id) != ID_ENTITY)
            return mef_refuse(r, ST_BAD_REQUEST, "bad-value", "members", "a member is no AE-ID or CSE-ID");
        if (!strings_add(out, id))
            return mef_refuse(r, ST_UNAVAILABLE, "no-memory", NULL, NULL);
    }
    return true;
}

/* As an operator asks for it; NULL: refused. */
static struct application *read_body(const struct mef *m, const char *key, const cJSON *in, struct mef_result *r)
{
    struct attr_value v[MEMBERS];
    struct application *a = calloc(1, sizeof *a);
    if (a == NULL || (a->key = strdup(key)) == NULL) {
        mef_refuse(r, ST_UNAVAILABLE, "no-memory", NULL, NULL);
    } else if (attrs_read(members, MEMBERS, in, true, v, r) && read_scope(&v[SCOPE], &a->scope, r) &&
               read_members(m, &v[LIST], &a->members, r)) {
        a->lifetime = (uint64_t)v[LIFETIME].number;
        return a;
    }
    application_free(a);
    return NULL;
}

void mef_application_put(struct mef *m, struct store_txn *t, const char *admin, const char *actor, const char *name,
                         const cJSON *in, struct mef_result *r)
{
    char key[MEF_KEY];
    if (!mef_name_key(admin, name, key)) {
        mef_refuse(r, ST_BAD_REQUEST, "bad-value", "name", "1 to 64 letters, digits, '.', '_' and '-'");
        return;
    }
    struct application *old = find(m, admin, name), *a = read_body(m, key, in, r);
    bool room = old != NULL || stakeholder_has_room(m, admin, SHARE_APPLICATIONS, HASH_COUNT(m->applications),
                                                    m->max_applications);
    if (a == NULL)
        return;
    if (!room || !add(m, a)) {
        application_free(a);
        if (room)
            mef_refuse(r, ST_UNAVAILABLE, "no-memory", NULL, NULL);
        else
            mef_refuse(r, ST_TOO_MANY, "max-applications", NULL, "there are as many applications as the MEF may hold");
        return;
    }
    if (old != NULL)
        drop(m, old);
    struct wr w = wr_of(m->record, sizeof m->record);
    encode(&w, a);
    store_put(t, STORE_APPLICATION, span_str(key), wr_span(&w));
    m->known_seq = 0;
    mef_audit(m, t, admin, actor, "application.put", name);
    r->st = old == NULL ? ST_CREATED : ST_OK;
    r->body = to_json(a);
}

void mef_application_delete(struct mef *m, struct store_txn *t, const char *admin, const char *actor, const char *name,
                            struct mef_result *r)
{
    struct application *a = find(m, admin, name);
    if (a == NULL) {
        mef_refuse(r, ST_NOT_FOUND, "not-found", NULL, "there is no such application");
        return;
    }
    store_del(t, STORE_APPLICATION, span_str(a->key));
    m->known_seq = 0;
    mef_audit(m, t, admin, actor, "application.delete", name);
    drop(m, a);
    r->st = ST_DELETED;
}

cJSON *mef_application_get(struct mef *m, const char *admin, const char *name)
{
    const struct application *a = find(m, admin, name);
    return a == NULL ? NULL : to_json(a);
}

cJSON *mef_application_list(struct mef *m, const char *admin, const char *after, unsigned limit)
{
    cJSON *list = cJSON_CreateArray();
    while (list != NULL && limit-- > 0 && (after = stakeholder_next(m, admin, SHARE_APPLICATIONS, after)) != NULL)
        cJSON_AddItemToArray(list, to_json(find(m, admin, after)));
    return list;
}
