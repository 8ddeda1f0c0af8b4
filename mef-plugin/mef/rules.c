#include "mef-plugin/mef/rules.h"

#include "mef-plugin/mef/command.h"
#include "mef-plugin/mef/stakeholder.h"

#include <stdlib.h>

enum { RECORD = 1, RECORD_COMMANDS = 2 }; /* the second has commands behind the rest */

void rule_free(struct policy_rule *r)
{
    if (r == NULL)
        return;
    strings_free(&r->ids);
    strings_free(&r->labels);
    strings_free(&r->targets);
    strings_free(&r->commands);
    free(r->name);
    free(r);
}

/* --- record ------------------------------------------------------------------------------------------------------- */

static void encode(struct wr *w, const struct policy_rule *r)
{
    wr_u8(w, r->commands.n > 0 ? RECORD_COMMANDS : RECORD);
    wr_u8(w, r->deny);
    wr_u8(w, (uint8_t)r->what);
    wr_u8(w, r->days);
    wr_be16(w, r->from);
    wr_be16(w, r->to);
    wr_be64(w, r->lifetime);
    rec_strings(w, &r->ids);
    rec_strings(w, &r->labels);
    rec_strings(w, &r->targets);
    wr_u8(w, (uint8_t)r->nnetworks);
    for (size_t i = 0; i < r->nnetworks; i++) {
        wr_bytes(w, r->networks[i].prefix, sizeof r->networks[i].prefix);
        wr_u8(w, r->networks[i].bits);
    }
    wr_u8(w, (uint8_t)r->ngateways);
    for (size_t i = 0; i < r->ngateways; i++)
        wr_be64(w, r->gateways[i]);
    if (r->commands.n > 0)
        rec_strings(w, &r->commands);
}

static bool decode_what(struct rd *in, uint8_t *version, struct policy_rule *r)
{
    uint8_t deny, what;
    if (!rd_u8(in, version) || *version < RECORD || *version > RECORD_COMMANDS || !rd_u8(in, &deny) || deny > 1 ||
        !rd_u8(in, &what) || what == 0 || what >> POLICY_WHATS != 0)
        return false;
    r->deny = deny == 1;
    r->what = what;
    return true;
}

static bool decode_time(struct rd *in, struct policy_rule *r)
{
    return rd_u8(in, &r->days) && r->days < 1u << 7 && rd_be16(in, &r->from) && r->from < POLICY_DAY_MINUTES &&
           rd_be16(in, &r->to) && r->to < POLICY_DAY_MINUTES && rd_be64(in, &r->lifetime) &&
           r->lifetime <= RULE_MAX_LIFETIME;
}

static bool decode_places(struct rd *in, struct policy_rule *r)
{
    uint8_t n;
    if (!rd_u8(in, &n) || n > POLICY_MAX_PLACES)
        return false;
    for (r->nnetworks = 0; r->nnetworks < n; r->nnetworks++) {
        struct policy_network *net = &r->networks[r->nnetworks];
        if (!rd_bytes(in, net->prefix, sizeof net->prefix) || !rd_u8(in, &net->bits) || net->bits > 128)
            return false;
    }
    if (!rd_u8(in, &n) || n > POLICY_MAX_PLACES)
        return false;
    for (r->ngateways = 0; r->ngateways < n; r->ngateways++)
        if (!rd_be64(in, &r->gateways[r->ngateways]))
            return false;
    return true;
}

static bool decode_commands(struct rd *in, struct policy_rule *r)
{
    if (!rec_rd_strings(in, &r->commands) || r->commands.n == 0)
        return false;
    for (size_t i = 0; i < r->commands.n; i++)
        if (command_class_of(r->commands.v[i]) == COMMAND_NO_MORE)
            return false;
    return true;
}

static struct policy_rule *decode(const char *name, struct span val)
{
    struct policy_rule *r = calloc(1, sizeof *r);
    struct rd in = rd_of(val);
    uint8_t version;
    if (r == NULL || (r->name = strdup(name)) == NULL || !decode_what(&in, &version, r) || !decode_time(&in, r) ||
        !rec_rd_strings(&in, &r->ids) || !rec_rd_strings(&in, &r->labels) || !rec_rd_strings(&in, &r->targets) ||
        !decode_places(&in, r) || (version == RECORD_COMMANDS && !decode_commands(&in, r)) || !rd_end(&in)) {
        rule_free(r);
        return NULL;
    }
    return r;
}

/* "adminFQDN/name" into its parts. */
static bool split(struct span key, char text[MEF_KEY], const char **name)
{
    if (key.n == 0 || key.n >= MEF_KEY || memchr(key.p, '\0', key.n) != NULL)
        return false;
    memcpy(text, key.p, key.n);
    text[key.n] = '\0';
    char *slash = strchr(text, '/');
    if (slash == NULL)
        return false;
    *slash = '\0';
    *name = slash + 1;
    return mef_is_name(*name);
}

bool rule_decode(struct span key, struct span val)
{
    char admin[MEF_KEY];
    const char *name;
    struct policy_rule *r = split(key, admin, &name) ? decode(name, val) : NULL;
    rule_free(r);
    return r != NULL;
}

/* --- memory ------------------------------------------------------------------------------------------------------- */

/* Where the rule of this name is, or would be. */
static struct policy_rule **place(struct stakeholder *s, const char *name)
{
    struct policy_rule **at = &s->rules;
    while (*at != NULL && strcmp((*at)->name, name) < 0)
        at = &(*at)->next;
    return at;
}

static struct policy_rule *find_rule(const struct mef *m, const char *admin, const char *name)
{
    struct stakeholder *s = stakeholder_find(m, admin);
    struct policy_rule *r = s != NULL ? *place(s, name) : NULL;
    return r != NULL && strcmp(r->name, name) == 0 ? r : NULL;
}

/* In its place, which the one before of this name leaves. Returns whether there was none. */
static bool add(struct stakeholder *s, struct policy_rule *r)
{
    struct policy_rule **at = place(s, r->name), *old = *at;
    bool same = old != NULL && strcmp(old->name, r->name) == 0;
    r->next = same ? old->next : old;
    *at = r;
    if (same)
        rule_free(old);
    else
        s->nrules++;
    return !same;
}

static bool load_row(void *user, struct span key, struct span val)
{
    struct mef *m = user;
    char admin[MEF_KEY];
    const char *name;
    struct policy_rule *r = split(key, admin, &name) ? decode(name, val) : NULL;
    struct stakeholder *s = r != NULL ? stakeholder_get(m, admin) : NULL;
    if (s == NULL) {
        rule_free(r);
        return false;
    }
    add(s, r);
    return true;
}

bool rules_load(struct mef *m)
{
    return mef_load(m, STORE_POLICY, load_row);
}

/* --- asked -------------------------------------------------------------------------------------------------------- */

/* The facts have no labels: then it is those of the registration that there is. */
static struct policy_verdict decide(const struct mef *m, const char *admin, struct policy_facts *f)
{
    const struct stakeholder *s = stakeholder_find(m, admin);
    const struct res *reg = f->labels == NULL ? res_registration(m, admin, f->id) : NULL;
    if (reg != NULL && reg->expires > mef_now(m))
        f->labels = &reg->labels;
    return policy_decide(s != NULL ? s->rules : NULL, f);
}

static struct policy_verdict ask(const struct mef *m, const struct mef_principal *p, const struct cse_peer *peer,
                                 enum policy_what what, const struct strings *labels, eui64_t gateway)
{
    struct policy_facts f = {.what = what, .id = p->id, .labels = labels, .gateway = gateway, .now = mef_now(m)};
    f.has_address = peer->address != NULL && policy_peer_address(peer->address, f.address);
    return decide(m, p->admin, &f);
}

bool mef_policy_ticket(struct mef *m, const struct mef_principal *p, const struct cse_peer *peer, eui64_t gateway)
{
    return ask(m, p, peer, POLICY_TICKET, NULL, gateway).allow;
}

bool call_policy(struct call *c, enum policy_what what, const struct strings *labels, eui64_t gateway,
                 const char *action, struct policy_verdict *v)
{
    *v = ask(c->m, &c->who, &c->req->peer, what, labels, gateway);
    if (v->allow)
        return true;
    call_refused(c, action, c->who.id, "policy");
    return call_fail(c, ST_NO_PRIVILEGE, "policy", NULL, "a rule of the administrating stakeholder refuses this");
}

int64_t policy_longest(const struct policy_verdict *v, int64_t max_ms)
{
    int64_t ms = (int64_t)v->lifetime * 1000;
    return ms != 0 && ms < max_ms ? ms : max_ms;
}

/* --- operator REST ------------------------------------------------------------------------------------------------ */

void mef_policy_put(struct mef *m, struct store_txn *t, const char *admin, const char *actor, const char *name,
                    const cJSON *in, struct mef_result *r)
{
    char key[MEF_KEY];
    if (!mef_name_key(admin, name, key)) {
        mef_refuse(r, ST_BAD_REQUEST, "bad-value", "name", "1 to 64 letters, digits, '.', '_' and '-'");
        return;
    }
    struct policy_rule *rule = rule_read(m, admin, name, in, r);
    if (rule == NULL)
        return;
    struct stakeholder *s = stakeholder_get(m, admin);
    struct wr w = wr_of(m->record, sizeof m->record);
    encode(&w, rule);
    if (s == NULL || !wr_ok(&w) || (s->nrules >= m->max_policies && find_rule(m, admin, name) == NULL)) {
        rule_free(rule);
        mef_refuse(r, s == NULL ? ST_UNAVAILABLE : ST_TOO_MANY, s == NULL ? "no-memory" : "max-policies", NULL,
                   "there are as many rules as a stakeholder may have");
        return;
    }
    store_put(t, STORE_POLICY, span_str(key), wr_span(&w));
    mef_audit(m, t, admin, actor, "policy.put", name);
    r->st = add(s, rule) ? ST_CREATED : ST_OK;
    r->body = rule_json(rule);
}

void mef_policy_delete(struct mef *m, struct store_txn *t, const char *admin, const char *actor, const char *name,
                       struct mef_result *r)
{
    char key[MEF_KEY];
    struct policy_rule *rule = find_rule(m, admin, name);
    if (rule == NULL || !mef_name_key(admin, name, key)) {
        mef_refuse(r, ST_NOT_FOUND, "not-found", NULL, "there is no such rule");
        return;
    }
    struct stakeholder *s = stakeholder_find(m, admin);
    store_del(t, STORE_POLICY, span_str(key));
    mef_audit(m, t, admin, actor, "policy.delete", rule->name);
    *place(s, name) = rule->next;
    s->nrules--;
    rule_free(rule);
    r->st = ST_DELETED;
}

cJSON *mef_policy_get(struct mef *m, const char *admin, const char *name)
{
    const struct policy_rule *r = find_rule(m, admin, name);
    return r != NULL ? rule_json(r) : NULL;
}

cJSON *mef_policy_list(struct mef *m, const char *admin, const char *after, unsigned limit)
{
    const struct stakeholder *s = stakeholder_find(m, admin);
    cJSON *list = cJSON_CreateArray();
    for (const struct policy_rule *r = s != NULL ? s->rules : NULL; r != NULL && limit > 0; r = r->next)
        if (strcmp(r->name, after) > 0) {
            cJSON_AddItemToArray(list, rule_json(r));
            limit--;
        }
    return list;
}

void mef_policy_evaluate(struct mef *m, const char *admin, const cJSON *in, struct mef_result *r)
{
    struct rule_question q;
    if (question_read(m, in, &q, r)) {
        struct policy_verdict v = decide(m, admin, &q.facts);
        r->st = ST_OK;
        r->body = verdict_json(&v);
    }
    strings_free(&q.labels);
}
