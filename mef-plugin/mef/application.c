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

/* By its key into memory; false: there is none left. */
static bool add(struct mef *m, struct application *a)
{
    char admin[MEF_KEY] = "";
    memcpy(admin, a->key, strcspn(a->key, "/"));
    struct stakeholder *s = stakeholder_get(m, admin);
    if (s == NULL)
        return false;
    HASH_ADD_KEYPTR(hh, m->applications, a->key, strlen(a->key), a);
    if (!HASH_ADDED(hh, a))
        return false;
    s->has[SHARE_APPLICATIONS]++;
    return true;
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
    struct application *a = m->applications, *next;
    HASH_CLEAR(hh, m->applications);
    for (; a != NULL; a = next) {
        next = a->hh.next;
        application_free(a);
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
    cJSON_AddStringToObject(o, "name", strchr(a->key, '/') + 1);
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

/* Find or make the application; NULL: refused. */
static struct application *get(struct mef *m, const char *admin, const char *key, struct mef_result *r)
{
    struct application *a = NULL;
    HASH_FIND_STR(m->applications, key, a);
    if (a != NULL)
        return a;
    if (!stakeholder_has_room(m, admin, SHARE_APPLICATIONS, HASH_COUNT(m->applications), m->max_applications)) {
        mef_refuse(r, ST_TOO_MANY, "max-applications", NULL, "there are as many applications as the MEF may hold");
        return NULL;
    }
    a = calloc(1, sizeof *a);
    if (a == NULL || (a->key = strdup(key)) == NULL || !add(m, a)) {
        application_free(a);
        mef_refuse(r, ST_UNAVAILABLE, "no-memory", NULL, NULL);
        return NULL;
    }
    r->st = ST_CREATED;
    return a;
}

void mef_application_put(struct mef *m, struct store_txn *t, const char *admin, const char *actor, const char *name,
                         const cJSON *in, struct mef_result *r)
{
    struct attr_value v[MEMBERS];
    struct strings list = {0};
    enum mef_scope scope = MEF_SCOPE_DEVICE;
    char key[MEF_KEY];
    if (!mef_name_key(admin, name, key)) {
        mef_refuse(r, ST_BAD_REQUEST, "bad-value", "name", "1 to 64 letters, digits, '.', '_' and '-'");
        return;
    }
    if (!attrs_read(members, MEMBERS, in, true, v, r) || !read_scope(&v[SCOPE], &scope, r) ||
        !read_members(m, &v[LIST], &list, r)) {
        strings_free(&list);
        return;
    }
    r->st = ST_OK;
    struct application *a = get(m, admin, key, r);
    if (a == NULL) {
        strings_free(&list);
        return;
    }
    strings_free(&a->members);
    a->members = list;
    a->lifetime = (uint64_t)v[LIFETIME].number;
    a->scope = scope;
    struct wr w = wr_of(m->record, sizeof m->record);
    encode(&w, a);
    store_put(t, STORE_APPLICATION, span_str(key), wr_span(&w));
    mef_audit(m, t, admin, actor, "application.put", name);
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
    mef_audit(m, t, admin, actor, "application.delete", name);
    HASH_DEL(m->applications, a);
    stakeholder_find(m, admin)->has[SHARE_APPLICATIONS]--;
    application_free(a);
    r->st = ST_DELETED;
}

cJSON *mef_application_get(struct mef *m, const char *admin, const char *name)
{
    const struct application *a = find(m, admin, name);
    return a == NULL ? NULL : to_json(a);
}

cJSON *mef_application_list(struct mef *m, const char *admin, const char *after, unsigned limit)
{
    size_t n = strlen(admin);
    struct page page;
    cJSON *list = page_open(&page, after, limit) ? cJSON_CreateArray() : NULL;
    for (const struct application *a = m->applications; list != NULL && a != NULL; a = a->hh.next)
        if (strncmp(a->key, admin, n) == 0 && a->key[n] == '/')
            page_offer(&page, a->key + n + 1);
    for (size_t i = 0; i < page.n; i++)
        cJSON_AddItemToArray(list, to_json(find(m, admin, page.v[i])));
    page_close(&page);
    return list;
}
