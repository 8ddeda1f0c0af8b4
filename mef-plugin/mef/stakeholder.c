#include "mef-plugin/mef/stakeholder.h"

#include "mef-plugin/mef/rules.h"

#include <stdlib.h>

struct stakeholder *stakeholder_find(const struct mef *m, const char *admin)
{
    struct stakeholder *s = NULL;
    HASH_FIND_STR(m->stakeholders, admin, s);
    return s;
}

struct stakeholder *stakeholder_get(struct mef *m, const char *admin)
{
    struct stakeholder *s = stakeholder_find(m, admin);
    if (s != NULL || (s = calloc(1, sizeof *s)) == NULL)
        return s;
    for (size_t i = 0; i < SHARES; i++)
        s->names[i].compare = sorted_texts;
    if ((s->admin = strdup(admin)) != NULL) {
        HASH_ADD_KEYPTR(hh, m->stakeholders, s->admin, strlen(s->admin), s);
        if (HASH_ADDED(hh, s))
            return s;
    }
    free(s->admin);
    free(s);
    return NULL;
}

void stakeholders_free(struct mef *m)
{
    struct stakeholder *s, *next;
    HASH_ITER(hh, m->stakeholders, s, next)
    {
        while (s->rules != NULL) {
            struct policy_rule *r = s->rules;
            s->rules = r->next;
            rule_free(r);
        }
        HASH_DEL(m->stakeholders, s); /* NOLINT(clang-analyzer-*): uthash's macros */
        free(s->admin);
        free(s);
    }
}

bool stakeholder_has_room(const struct mef *m, const char *admin, enum share what, size_t used, size_t max)
{
    const struct stakeholder *s = stakeholder_find(m, admin);
    size_t own = max * m->share_percent / 100;
    return used < max && (s == NULL || s->has[what] < (own > 0 ? own : 1));
}

const char *stakeholder_next(const struct mef *m, const char *admin, enum share what, const char *after)
{
    const struct stakeholder *s = stakeholder_find(m, admin);
    return s != NULL ? sorted_above(&s->names[what], after) : NULL;
}

const struct shelf *stakeholder_shelf(const struct mef *m, const char *admin, enum by by, const char *name)
{
    const struct stakeholder *s = stakeholder_find(m, admin);
    return s != NULL ? shelf_find(&s->by[by], name) : NULL;
}
