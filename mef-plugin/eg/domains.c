/* Key domains (design 5.4): a stakeholder's devices at one gateway whose application has the scope `application`, or all
 * those of scope `network`, share one network key, its sequence number and, as it is one key and one source, its counters.
 * A domain is made with its first device's pending record and ends, with its key, when the last device has gone. A gateway
 * may become another stakeholder's while devices have keys of it; those are never his devices'. */
#include "mef-plugin/eg/internal.h"

#include <search.h>
#include <stdlib.h>

static struct domain_name name_of(const struct domain *m)
{
    return (struct domain_name){m->gateway, m->scope, span_str(m->admin), span_str(m->application)};
}

static struct span row_key(const struct domain *m, uint8_t buf[EG_MAX_DOMAIN_NAME])
{
    const struct domain_name name = name_of(m);
    struct wr w = wr_of(buf, EG_MAX_DOMAIN_NAME);
    domain_name_encode(&name, &w);
    return wr_span(&w);
}

/* --- the two maps ------------------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    const struct domain *x = a, *y = b;
    if (x->gateway != y->gateway)
        return x->gateway < y->gateway ? -1 : 1;
    if (x->scope != y->scope)
        return x->scope < y->scope ? -1 : 1;
    int admin = strcmp(x->admin, y->admin);
    return admin != 0 ? admin : strcmp(x->application, y->application);
}

static void domain_free(struct domain *m)
{
    free(m->admin);
    free(m->application);
    free(m);
}

/* False: out of memory, or there is another one of this name. */
static bool into_maps(struct eg *e, struct domain *m)
{
    struct domain *const *first = tsearch(m, &e->domain_names, by_name);
    if (first == NULL || *first != m)
        return false;
    if (map64_put(e->domains, m->row.key, m))
        return true;
    tdelete(m, &e->domain_names, by_name);
    return false;
}

/* NULL: as above. */
static struct domain *add(struct eg *e, const struct domain_name *name, const struct domain_row *row)
{
    struct domain *m = calloc(1, sizeof *m);
    if (m == NULL)
        return NULL;
    *m = (struct domain){.gateway = name->gateway, .scope = name->scope, .row = *row};
    m->admin = strndup((const char *)name->admin.p, name->admin.n);
    m->application = strndup((const char *)name->application.p, name->application.n);
    if (m->admin != NULL && m->application != NULL && into_maps(e, m))
        return m;
    domain_free(m);
    return NULL;
}

struct domain *domain_of(struct eg *e, vault_id network_key)
{
    return map64_get(e->domains, network_key);
}

/* --- which one a device belongs to -------------------------------------------------------------------------------- */

/* What a domain for the device has in its name, in texts of the device. False: the device has a key of its own. */
static bool name_for(const struct device *d, eui64_t gateway, struct domain *out)
{
    char *application = d->code != NULL ? d->code->application : NULL;
    if (application == NULL)
        return false;
    enum mef_scope scope = mef_application_scope(d->eg->d.mef, d->row.admin, application);
    *out = (struct domain){.gateway = gateway,
                           .scope = scope,
                           .admin = d->row.admin,
                           .application = scope == MEF_SCOPE_APPLICATION ? application : ""};
    return scope != MEF_SCOPE_DEVICE;
}

static struct domain *find(struct eg *e, const struct domain *named)
{
    struct domain *const *found = tfind(named, &e->domain_names, by_name);
    return found != NULL ? *found : NULL;
}

struct domain *domain_for(const struct device *d, eui64_t gateway)
{
    struct domain named;
    return name_for(d, gateway, &named) ? find(d->eg, &named) : NULL;
}

/* --- its key ------------------------------------------------------------------------------------------------------ */

static void put_row(const struct domain *m, struct store_txn *t)
{
    uint8_t kb[EG_MAX_DOMAIN_NAME], vb[32];
    struct wr w = wr_of(vb, sizeof vb);
    domain_encode(&m->row, &w);
    store_put(t, STORE_DOMAIN, row_key(m, kb), wr_span(&w));
}

static struct domain *make(struct eg *e, struct store_txn *t, const struct domain *named)
{
    const struct domain_name name = name_of(named);
    struct domain_row row = {0};
    if (vault_generate(e->d.vault, t, VAULT_NETWORK_KEY, ZB_KEY, &row.key) != ST_OK)
        return NULL;
    struct domain *m = add(e, &name, &row);
    if (m == NULL) {
        vault_delete(e->d.vault, t, row.key);
        return NULL;
    }
    put_row(m, t);
    return m;
}

bool network_key_get(struct device *d, struct store_txn *t, eui64_t gateway, vault_id *key, uint8_t *key_seq)
{
    struct eg *e = d->eg;
    struct domain named;
    if (!name_for(d, gateway, &named)) {
        *key_seq = 0;
        return vault_generate(e->d.vault, t, VAULT_NETWORK_KEY, ZB_KEY, key) == ST_OK;
    }
    struct domain *m = find(e, &named);
    if (m == NULL && (m = make(e, t, &named)) == NULL)
        return false;
    m->members++;
    *key = m->row.key;
    *key_seq = m->row.key_seq;
    return true;
}

bool network_key_fits(const struct device *d, eui64_t gateway, vault_id key)
{
    struct domain named;
    const struct domain *m = domain_of(d->eg, key);
    return name_for(d, gateway, &named) ? m != NULL && m == find(d->eg, &named) : m == NULL;
}

void network_key_release(struct eg *e, struct store_txn *t, vault_id key)
{
    uint8_t kb[EG_MAX_DOMAIN_NAME];
    struct domain *m = domain_of(e, key);
    if (m != NULL && --m->members != 0)
        return;
    vault_delete(e->d.vault, t, key);
    if (m == NULL)
        return;
    store_del(t, STORE_DOMAIN, row_key(m, kb));
    map64_del(e->domains, key);
    tdelete(m, &e->domain_names, by_name);
    domain_free(m);
}

/* --- loading ------------------------------------------------------------------------------------------------------ */

static bool has_key(const struct device *d, vault_id key)
{
    bool has = d->row.has_current && d->row.current.network_key == key;
    for (const struct pending *p = d->row.pending; p != NULL && !has; p = p->next)
        has = p->assoc.network_key == key;
    return has;
}

struct owners { /* of the devices that have a key */
    vault_id key;
    const char *admin; /* NULL: none; "": several */
};

static bool owners_visit(void *user, uint64_t key, void *value)
{
    (void)key;
    struct owners *x = user;
    const struct device *d = value;
    if (has_key(d, x->key))
        x->admin = x->admin == NULL || strcmp(x->admin, d->row.admin) == 0 ? d->row.admin : "";
    return true;
}

/* A row that does not say whose the domain is gets the name of the one whose devices have its key. Has it come to several
 * already, none gets another device into it, and each device is given a new key when it joins or rejoins. */
static bool name_row(struct eg *e, struct span key, struct domain_name *name, const struct domain_row *row)
{
    struct owners x = {.key = row->key};
    map64_each(e->devices, owners_visit, &x);
    name->admin = span_str(x.admin != NULL ? x.admin : "");
    const struct domain *m = add(e, name, row);
    struct store_txn *t = m != NULL ? store_begin(e->d.store) : NULL;
    if (t == NULL)
        return false;
    store_del(t, STORE_DOMAIN, key);
    put_row(m, t);
    store_commit(t, NULL, NULL);
    return true;
}

static bool load_domain(struct eg *e, struct span key, struct span val)
{
    struct domain_name name;
    struct domain_row row;
    return domain_name_decode(key, &name) && domain_decode(val, &row) && vault_has(e->d.vault, row.key) &&
           (name.admin.p != NULL ? add(e, &name, &row) != NULL : name_row(e, key, &name, &row));
}

static void count_record(struct eg *e, vault_id key)
{
    struct domain *m = domain_of(e, key);
    if (m != NULL)
        m->members++;
}

static bool count_visit(void *user, uint64_t key, void *value)
{
    (void)key;
    const struct device *d = value;
    if (d->row.has_current)
        count_record(user, d->row.current.network_key);
    for (const struct pending *p = d->row.pending; p != NULL; p = p->next)
        count_record(user, p->assoc.network_key);
    return true;
}

enum st domains_load(struct eg *e)
{
    enum st st = eg_load(e, STORE_DOMAIN, load_domain);
    map64_each(e->devices, count_visit, e);
    return st;
}

static bool free_domain(void *user, uint64_t key, void *value)
{
    (void)key;
    struct eg *e = user;
    tdelete(value, &e->domain_names, by_name);
    domain_free(value);
    return true;
}

void domains_free(struct eg *e)
{
    if (e->domains != NULL)
        map64_each(e->domains, free_domain, e);
    map64_free(e->domains);
}
