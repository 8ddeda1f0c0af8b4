/* Discovery: which registrations a client may know of. Among those of its own stakeholders it walks what the client may
 * see, or what has the labels that it asks for: whichever is less. */
#include "mef-plugin/mef/call.h"
#include "mef-plugin/mef/credential.h"
#include "mef-plugin/mef/stakeholder.h"

#include <stdio.h>
#include <stdlib.h>

/* Where the walk is on one shelf. */
struct cursor {
    struct sorted_node node;
    const struct shelf *of;
    struct res *at;
    struct mef_principal who; /* who the client is for the stakeholder whose shelf it is */
};

struct discovery {
    struct call *c;
    struct strings labels;
    struct cursor *cursors;
    size_t n, room;
    struct sorted next; /* cursors, by what they are at */
    bool no_memory;
};

static int by_place(const void *a, const void *b)
{
    const struct cursor *x = a, *y = b;
    return res_order(x->at, y->at);
}

/* Walk this shelf, too; returns how much is on it. */
static size_t add_shelf(struct discovery *d, const struct mef_principal *p, enum by by, const char *name)
{
    const struct shelf *of = stakeholder_shelf(d->c->m, p->admin, by, name);
    if (of == NULL || d->no_memory)
        return 0;
    if (d->n == d->room) {
        size_t room = d->room * 2 + 8;
        struct cursor *v = reallocarray(d->cursors, room, sizeof *v);
        if (v == NULL) {
            d->no_memory = true;
            return 0;
        }
        d->cursors = v;
        d->room = room;
    }
    d->cursors[d->n++] = (struct cursor){.of = of, .at = sorted_first(&of->all), .who = *p};
    return of->n;
}

/* Several labels are alternatives (TS-0001 8.1.2, conditions with the same tag). */
static size_t add_labels(struct discovery *d, const struct mef_principal *p)
{
    size_t n = 0;
    for (size_t i = 0; i < d->labels.n; i++)
        n += add_shelf(d, p, BY_LABEL, d->labels.v[i]);
    return n;
}

/* All that res_visible() may let through; it is given up when it comes to `enough`. */
static size_t add_visible(struct discovery *d, const struct mef_principal *p, size_t enough)
{
    size_t n = add_shelf(d, p, BY_REGISTRANT, p->id) + add_shelf(d, p, BY_SOURCE, p->id) +
               add_shelf(d, p, BY_TARGET, p->id);
    const struct shelf *member = stakeholder_shelf(d->c->m, p->admin, BY_MEMBER, p->id);
    const char *application = member != NULL ? sorted_first(&member->all) : NULL;
    for (; application != NULL && n < enough; application = sorted_above(&member->all, application))
        n += add_shelf(d, p, BY_APPLICATION, application);
    return n;
}

static void add_stakeholder(void *user, const struct mef_principal *p)
{
    struct discovery *d = user;
    size_t before = d->n;
    if (p->role != MEF_ROLE_CLIENT)
        return;
    size_t labelled = add_labels(d, p), between = d->n;
    size_t visible = add_visible(d, p, d->labels.n > 0 ? labelled : SIZE_MAX);
    if (d->labels.n == 0)
        return;
    if (visible < labelled) {
        memmove(d->cursors + before, d->cursors + between, (d->n - between) * sizeof *d->cursors);
        d->n -= between - before;
    } else {
        d->n = between;
    }
}

/* The next of all shelves, each once; NULL: there is none. */
static struct res *next(struct discovery *d, struct mef_principal *who)
{
    struct cursor *k = sorted_first(&d->next);
    struct res *r = k != NULL ? k->at : NULL;
    *who = k != NULL ? k->who : (struct mef_principal){.role = MEF_ROLE_NONE};
    for (; k != NULL && k->at == r; k = sorted_first(&d->next)) {
        sorted_remove(&d->next, &k->node);
        k->at = sorted_above(&k->of->all, r);
        if (k->at != NULL)
            sorted_add(&d->next, &k->node, k);
    }
    return r;
}

static bool labelled(const struct res *r, const struct strings *labels)
{
    bool found = labels->n == 0;
    for (size_t i = 0; !found && i < labels->n; i++)
        found = strings_has(&r->labels, labels->v[i]);
    return found;
}

static bool shows(const struct discovery *d, const struct res *r, const struct mef_principal *who)
{
    struct mef *m = d->c->m;
    return r->expires > mef_now(m) && res_visible(m, r, who) && labelled(r, &d->labels);
}

/* One parameter of a discovery; labels are collected. */
static bool discovery_param(struct call *c, const struct cse_param *p, struct strings *labels, int *limit)
{
    if (strcmp(p->name, M2M_SN_FILTER_USAGE) == 0 && strcmp(p->value, "1") == 0)
        return true;
    if (strcmp(p->name, M2M_SN_RESULT_CONTENT) == 0 && (strcmp(p->value, "6") == 0 || strcmp(p->value, "1") == 0))
        return true;
    if (strcmp(p->name, M2M_SN_LABELS) == 0 && p->value[0] != '\0' && labels->n < MEF_MAX_LABELS)
        return strings_add(labels, p->value) || call_fail(c, ST_UNAVAILABLE, "no-memory", NULL, NULL);
    if (strcmp(p->name, M2M_SN_LIMIT) == 0) {
        char *end;
        long n = strtol(p->value, &end, 10);
        if (end != p->value && *end == '\0' && n >= 1) {
            *limit = n < *limit ? (int)n : *limit;
            return true;
        }
    }
    return call_fail(c, ST_BAD_REQUEST, "bad-parameter", p->name, "this parameter or value is not served");
}

/* The URIs of what may be shown; `seq` becomes that of the newest change of what was looked at, shown or not. */
static cJSON *find(struct discovery *d, int limit, uint64_t *seq)
{
    struct mef *m = d->c->m;
    char uri[MEF_ID + MEF_RELKEYID];
    struct mef_principal who;
    struct res *r;
    uint64_t visits = 0;
    cJSON *list = cJSON_CreateArray();
    for (size_t i = 0; i < d->n; i++)
        sorted_add(&d->next, &d->cursors[i].node, &d->cursors[i]);
    for (; limit > 0 && (r = next(d, &who)) != NULL; visits++) {
        uint64_t changed = mef_settle(m, &r->seq);
        *seq = changed > *seq ? changed : *seq;
        if (!shows(d, r, &who))
            continue;
        snprintf(uri, sizeof uri, "%s/%s", m->base, r->ri);
        cJSON_AddItemToArray(list, cJSON_CreateString(uri));
        limit--;
    }
    m->d.ops->count(m->d.host, "mef_discovery_visits_total", visits);
    return list;
}

void call_discover(struct call *c)
{
    struct discovery d = {.c = c, .next.compare = by_place};
    int limit = MEF_MAX_FOUND;
    bool ok = true;
    for (size_t i = 0; ok && i < c->req->nparams; i++)
        ok = discovery_param(c, &c->req->params[i], &d.labels, &limit);
    if (ok)
        credential_each_principal(c->m, &c->req->peer, c->who.id, add_stakeholder, &d);
    if (ok && d.no_memory)
        ok = call_fail(c, ST_UNAVAILABLE, "no-memory", NULL, NULL);
    if (ok) {
        uint64_t seq = c->seq;
        cJSON *list = find(&d, limit, &seq);
        uint64_t gone = d.labels.n > 0 ? mef_settle(c->m, &c->m->gone_seq) : store_last(c->m->d.store);
        c->seq = gone > seq ? gone : seq;
        call_answer(c, ST_OK, M2M_SN_URI_LIST, list);
    }
    free(d.cursors);
    strings_free(&d.labels);
}
