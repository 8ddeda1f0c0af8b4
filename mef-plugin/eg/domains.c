/* Key domains (design 5.4): the devices at one gateway whose application has the scope `application`, or all those of
 * scope `network`, share one network key, its sequence number and, as it is one key and one source, its counters. A
 * domain is made with its first device's pending record and ends, with its key, when the last device has gone. */
#include "mef-plugin/eg/internal.h"

#include <stdlib.h>

#define DOMAIN_KEY_MAX (9 + EG_MAX_TEXT)

static struct domain_name name_of(const struct domain *m)
{
    return (struct domain_name){m->gateway, m->scope, span_str(m->application)};
}

static bool same_name(const struct domain_name *a, const struct domain_name *b)
{
    return a->gateway == b->gateway && a->scope == b->scope && span_eq(a->application, b->application);
}

static struct span row_key(const struct domain *m, uint8_t buf[DOMAIN_KEY_MAX])
{
    const struct domain_name name = name_of(m);
    struct wr w = wr_of(buf, DOMAIN_KEY_MAX);
    domain_name_encode(&name, &w);
    return wr_span(&w);
}

static void domain_free(struct domain *m)
{
    free(m->application);
    free(m);
}

/* Into the map; NULL: out of memory. */
static struct domain *add(struct eg *e, const struct domain_name *name, const struct domain_row *row)
{
    struct domain *m = calloc(1, sizeof *m);
    if (m == NULL)
        return NULL;
    *m = (struct domain){.gateway = name->gateway, .scope = name->scope, .row = *row};
    m->application = strndup((const char *)name->application.p, name->application.n);
    if (m->application != NULL && map64_put(e->domains, row->key, m))
        return m;
    domain_free(m);
    return NULL;
}

struct domain *domain_of(struct eg *e, vault_id network_key)
{
    return map64_get(e->domains, network_key);
}

/* --- which one a device belongs to -------------------------------------------------------------------------------- */

struct search {
    struct domain_name name;
    struct domain *found;
};

static bool search_visit(void *user, uint64_t key, void *value)
{
    (void)key;
    struct search *x = user;
    const struct domain_name name = name_of(value);
    if (same_name(&name, &x->name))
        x->found = value;
    return x->found == NULL;
}

/* False: the device has a key of its own. */
static bool name_for(const struct device *d, eui64_t gateway, struct domain_name *out)
{
    const char *application = d->code != NULL ? d->code->application : NULL;
    if (application == NULL)
        return false;
    enum mef_scope scope = mef_application_scope(d->eg->d.mef, d->row.admin, application);
    *out = (struct domain_name){gateway, scope, span_str(scope == MEF_SCOPE_APPLICATION ? application : "")};
    return scope != MEF_SCOPE_DEVICE;
}

static struct domain *find(struct eg *e, const struct domain_name *name)
{
    struct search x = {.name = *name};
    map64_each(e->domains, search_visit, &x);
    return x.found;
}

struct domain *domain_for(const struct device *d, eui64_t gateway)
{
    struct domain_name name;
    return name_for(d, gateway, &name) ? find(d->eg, &name) : NULL;
}

/* --- its key ------------------------------------------------------------------------------------------------------ */

static struct domain *make(struct eg *e, struct store_txn *t, const struct domain_name *name)
{
    uint8_t kb[DOMAIN_KEY_MAX], vb[32];
    struct wr w = wr_of(vb, sizeof vb);
    struct domain_row row = {0};
    if (vault_generate(e->d.vault, t, VAULT_NETWORK_KEY, ZB_KEY, &row.key) != ST_OK)
        return NULL;
    struct domain *m = add(e, name, &row);
    if (m == NULL) {
        vault_delete(e->d.vault, t, row.key);
        return NULL;
    }
    domain_encode(&m->row, &w);
    store_put(t, STORE_DOMAIN, row_key(m, kb), wr_span(&w));
    return m;
}

bool network_key_get(struct device *d, struct store_txn *t, eui64_t gateway, vault_id *key, uint8_t *key_seq)
{
    struct eg *e = d->eg;
    struct domain_name name;
    if (!name_for(d, gateway, &name)) {
        *key_seq = 0;
        return vault_generate(e->d.vault, t, VAULT_NETWORK_KEY, ZB_KEY, key) == ST_OK;
    }
    struct domain *m = find(e, &name);
    if (m == NULL && (m = make(e, t, &name)) == NULL)
        return false;
    *key = m->row.key;
    *key_seq = m->row.key_seq;
    return true;
}

bool network_key_fits(const struct device *d, eui64_t gateway, vault_id key)
{
    struct domain_name name;
    const struct domain *m = domain_of(d->eg, key);
    return name_for(d, gateway, &name) ? m != NULL && m == find(d->eg, &name) : m == NULL;
}

struct use {
    vault_id key;
    bool found;
};

static bool use_visit(void *user, uint64_t key, void *value)
{
    (void)key;
    struct use *u = user;
    const struct device *d = value;
    u->found = d->row.has_current && d->row.current.network_key == u->key;
    for (const struct pending *p = d->row.pending; p != NULL && !u->found; p = p->next)
        u->found = p->assoc.network_key == u->key;
    return !u->found;
}

void network_key_release(struct eg *e, struct store_txn *t, vault_id key)
{
    uint8_t kb[DOMAIN_KEY_MAX];
    struct domain *m = domain_of(e, key);
    struct use u = {.key = key};
    if (m != NULL)
        map64_each(e->devices, use_visit, &u);
    if (u.found)
        return;
    vault_delete(e->d.vault, t, key);
    if (m == NULL)
        return;
    store_del(t, STORE_DOMAIN, row_key(m, kb));
    map64_del(e->domains, key);
    domain_free(m);
}

/* --- loading ------------------------------------------------------------------------------------------------------ */

struct loading {
    struct eg *e;
    bool ok;
};

static bool load_domain(void *user, struct span key, struct span val)
{
    struct loading *l = user;
    struct domain_name name;
    struct domain_row row;
    l->ok = domain_name_decode(key, &name) && domain_decode(val, &row) && vault_has(l->e->d.vault, row.key) &&
            add(l->e, &name, &row) != NULL;
    return l->ok;
}

enum st domains_load(struct eg *e)
{
    struct loading l = {e, true};
    enum st st = store_each(e->d.store, STORE_DOMAIN, load_domain, &l);
    return st == ST_OK && !l.ok ? ST_INTERNAL : st;
}

static bool free_domain(void *user, uint64_t key, void *value)
{
    (void)user, (void)key;
    domain_free(value);
    return true;
}

void domains_free(struct eg *e)
{
    if (e->domains != NULL)
        map64_each(e->domains, free_domain, NULL);
    map64_free(e->domains);
}
