/* Policy rules as operators write and read them (docs/rest-api.md). */
#include "mef-plugin/mef/rules.h"

#include "mef-plugin/mef/command.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_IDS 64

static const char *const whats[POLICY_WHATS] = {"register", "deposit", "retrieve", "command", "ticket"};
static const char *const days[] = {"mon", "tue", "wed", "thu", "fri", "sat", "sun"};

enum { EFFECT, WHAT, IDS, LABELS, NETWORKS, GATEWAYS, DAYS, FROM, TO, LIFETIME, TARGETS, COMMANDS, MEMBERS };
static const struct attr members[MEMBERS] = {
    [EFFECT] = {"effect", ATTR_TEXT, ATTR_MAN, ATTR_NP, 5},
    [WHAT] = {"what", ATTR_TEXTS, ATTR_MAN, ATTR_NP, POLICY_WHATS},
    [IDS] = {"ids", ATTR_TEXTS, ATTR_OPT, ATTR_NP, MAX_IDS},
    [LABELS] = {"labels", ATTR_TEXTS, ATTR_OPT, ATTR_NP, MEF_MAX_LABELS},
    [NETWORKS] = {"networks", ATTR_TEXTS, ATTR_OPT, ATTR_NP, POLICY_MAX_PLACES},
    [GATEWAYS] = {"gateways", ATTR_TEXTS, ATTR_OPT, ATTR_NP, POLICY_MAX_PLACES},
    [DAYS] = {"days", ATTR_TEXTS, ATTR_OPT, ATTR_NP, 7},
    [FROM] = {"from", ATTR_TEXT, ATTR_OPT, ATTR_NP, 5},
    [TO] = {"to", ATTR_TEXT, ATTR_OPT, ATTR_NP, 5},
    [LIFETIME] = {"lifetime", ATTR_NUMBER, ATTR_OPT, ATTR_NP, (double)RULE_MAX_LIFETIME},
    [TARGETS] = {"targets", ATTR_TEXTS, ATTR_OPT, ATTR_NP, MEF_MAX_TARGETS},
    [COMMANDS] = {"commands", ATTR_OBJECTS, ATTR_OPT, ATTR_NP, POLICY_MAX_COMMANDS},
};

/* Each take_ puts one element of a list into the rule; false: it is none. */
struct reading {
    const struct mef *m;
    const char *admin;
    struct policy_rule *r;
    bool no_memory;
};

static bool keep(struct reading *x, struct strings *list, const char *text)
{
    x->no_memory = !strings_add(list, text);
    return !x->no_memory;
}

static bool word(const char *text, const char *const *words, size_t n, unsigned *bits)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(text, words[i]) == 0) {
            *bits |= 1u << i;
            return true;
        }
    return false;
}

static bool take_what(struct reading *x, const char *text)
{
    return word(text, whats, POLICY_WHATS, &x->r->what);
}

static bool take_day(struct reading *x, const char *text)
{
    unsigned bits = x->r->days;
    bool known = word(text, days, sizeof days / sizeof *days, &bits);
    x->r->days = (uint8_t)bits;
    return known;
}

/* An id in its stored spelling, or "//.." that begins several and ends in '*'. */
static bool take_id(struct reading *x, const char *text)
{
    char id[MEF_ID];
    bool known = strchr(text, '*') != NULL ? mef_id_beginning(text, id) : mef_id(x->m, text, id) != ID_NONE;
    return known && keep(x, &x->r->ids, id);
}

static bool take_label(struct reading *x, const char *text)
{
    return keep(x, &x->r->labels, text);
}

static bool take_target(struct reading *x, const char *text)
{
    char id[MEF_ID];
    enum id_kind kind = mef_id(x->m, text, id);
    return (kind == ID_ENTITY || kind == ID_FQDN) && keep(x, &x->r->targets, id);
}

static bool take_gateway(struct reading *x, const char *text)
{
    return eui64_parse(text, &x->r->gateways[x->r->ngateways++]);
}

/* "192.0.2.0/24", "2001:db8::/32"; no bit is set behind those that count. */
static bool take_network(struct reading *x, const char *text)
{
    struct policy_network *n = &x->r->networks[x->r->nnetworks++];
    char host[INET6_ADDRSTRLEN];
    const char *slash = strchr(text, '/');
    size_t len = slash != NULL ? (size_t)(slash - text) : 0;
    if (len == 0 || len >= sizeof host || strspn(slash + 1, "0123456789") != strlen(slash + 1) ||
        strlen(slash + 1) == 0 || strlen(slash + 1) > 3)
        return false;
    memcpy(host, text, len);
    host[len] = '\0';
    bool v4 = strchr(host, ':') == NULL;
    unsigned long bits = strtoul(slash + 1, NULL, 10) + (v4 ? POLICY_V4_BITS : 0);
    if (bits > 128 || !policy_address(host, n->prefix))
        return false;
    n->bits = (uint8_t)bits;
    for (unsigned i = n->bits; i < 128; i++)
        if ((n->prefix[i / 8] >> (7 - i % 8) & 1) != 0)
            return false;
    return true;
}

static bool read_list(struct reading *x, const struct attr_value v[MEMBERS], unsigned which,
                      bool (*take)(struct reading *x, const char *text), struct mef_result *r)
{
    const cJSON *e;
    if (v[which].present && cJSON_GetArraySize(v[which].array) == 0)
        return mef_refuse(r, ST_BAD_REQUEST, "bad-value", members[which].name, "leave it out, or name one");
    cJSON_ArrayForEach(e, v[which].array)
    {
        if (take(x, e->valuestring))
            continue;
        if (x->no_memory)
            return mef_refuse(r, ST_UNAVAILABLE, "no-memory", NULL, NULL);
        return mef_refuse(r, ST_BAD_REQUEST, "bad-value", members[which].name,
                          "an element is not of this member's form");
    }
    return true;
}

/* Each is one that could be posted to the commands of a registration; what stands there twice counts once. */
static bool read_commands(struct reading *x, const struct attr_value *v, struct mef_result *r)
{
    const cJSON *e;
    if (v->present && (x->r->deny || (x->r->what & 1u << POLICY_REGISTER) == 0 || cJSON_GetArraySize(v->array) == 0))
        return mef_refuse(r, ST_BAD_REQUEST, "bad-value", "commands", "one or more, of a rule that allows to register");
    cJSON_ArrayForEach(e, v->array)
    {
        char *text = command_read(x->m, authority_of(x->m->authorities, x->admin), e, r);
        if (text == NULL)
            return false;
        bool kept = keep(x, &x->r->commands, text);
        free(text);
        if (!kept)
            return mef_refuse(r, ST_UNAVAILABLE, "no-memory", NULL, NULL);
    }
    return x->r->commands.n <= x->m->max_client_commands ||
           mef_refuse(r, ST_TOO_MANY, "max-commands-per-client", "commands", "more than may wait for a client");
}

static bool two_digits(const char *text, unsigned end, unsigned *out)
{
    bool digits = isdigit((unsigned char)text[0]) && isdigit((unsigned char)text[1]);
    *out = digits ? 10u * (unsigned)(text[0] - '0') + (unsigned)(text[1] - '0') : end;
    return *out < end;
}

static bool read_minutes(const struct attr_value *v, const char *name, uint16_t *out, struct mef_result *r)
{
    unsigned hour, minute;
    if (!v->present)
        return true;
    if (strlen(v->text) != 5 || v->text[2] != ':' || !two_digits(v->text, 24, &hour) ||
        !two_digits(v->text + 3, 60, &minute))
        return mef_refuse(r, ST_BAD_REQUEST, "bad-value", name, "a time of day, HH:MM in UTC");
    *out = (uint16_t)(hour * 60 + minute);
    return true;
}

static bool read_scalars(const struct attr_value v[MEMBERS], struct policy_rule *rule, struct mef_result *r)
{
    rule->deny = strcmp(v[EFFECT].text, "deny") == 0;
    if (!rule->deny && strcmp(v[EFFECT].text, "allow") != 0)
        return mef_refuse(r, ST_BAD_REQUEST, "bad-value", "effect", "allow or deny");
    if (v[FROM].present != v[TO].present)
        return mef_refuse(r, ST_BAD_REQUEST, "missing", v[FROM].present ? "to" : "from", "a window has two ends");
    if (v[LIFETIME].present && v[LIFETIME].number == 0)
        return mef_refuse(r, ST_BAD_REQUEST, "bad-value", "lifetime", "at least a second");
    rule->lifetime = (uint64_t)v[LIFETIME].number;
    return read_minutes(&v[FROM], "from", &rule->from, r) && read_minutes(&v[TO], "to", &rule->to, r) &&
           (!v[FROM].present || rule->from != rule->to ||
            mef_refuse(r, ST_BAD_REQUEST, "bad-value", "to", "a window has a length; for whole days leave out both ends"));
}

struct policy_rule *rule_read(struct mef *m, const char *admin, const char *name, const cJSON *in, struct mef_result *r)
{
    struct attr_value v[MEMBERS];
    struct policy_rule *rule = calloc(1, sizeof *rule);
    struct reading x = {.m = m, .admin = admin, .r = rule};
    if (rule == NULL || (rule->name = strdup(name)) == NULL)
        mef_refuse(r, ST_UNAVAILABLE, "no-memory", NULL, NULL);
    else if (attrs_read(members, MEMBERS, in, true, v, r) && read_scalars(v, rule, r) &&
             read_list(&x, v, WHAT, take_what, r) && read_list(&x, v, IDS, take_id, r) &&
             read_list(&x, v, LABELS, take_label, r) && read_list(&x, v, NETWORKS, take_network, r) &&
             read_list(&x, v, GATEWAYS, take_gateway, r) && read_list(&x, v, DAYS, take_day, r) &&
             read_list(&x, v, TARGETS, take_target, r) && read_commands(&x, &v[COMMANDS], r))
        return rule;
    rule_free(rule);
    return NULL;
}

/* --- shown -------------------------------------------------------------------------------------------------------- */

static void show_words(cJSON *o, const char *name, unsigned bits, const char *const *words, size_t n)
{
    cJSON *list = bits != 0 ? cJSON_AddArrayToObject(o, name) : NULL;
    for (size_t i = 0; i < n; i++)
        if ((bits >> i & 1u) != 0)
            cJSON_AddItemToArray(list, cJSON_CreateString(words[i]));
}

static void show_strings(cJSON *o, const char *name, const struct strings *s)
{
    if (s->n > 0)
        cJSON_AddItemToObject(o, name, strings_json(s));
}

static void show_commands(cJSON *o, const struct strings *s)
{
    cJSON *list = s->n > 0 ? cJSON_AddArrayToObject(o, "commands") : NULL;
    for (size_t i = 0; i < s->n; i++)
        cJSON_AddItemToArray(list, cJSON_Parse(s->v[i]));
}

static void show_places(cJSON *o, const struct policy_rule *r)
{
    cJSON *list = r->nnetworks > 0 ? cJSON_AddArrayToObject(o, "networks") : NULL;
    for (size_t i = 0; i < r->nnetworks; i++) {
        const struct policy_network *n = &r->networks[i];
        bool v4 = n->bits >= POLICY_V4_BITS && policy_is_v4(n->prefix);
        char host[INET6_ADDRSTRLEN] = "", text[INET6_ADDRSTRLEN + 4];
        inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? n->prefix + POLICY_V4_BITS / 8 : n->prefix, host, sizeof host);
        snprintf(text, sizeof text, "%s/%d", host, n->bits - (v4 ? POLICY_V4_BITS : 0));
        cJSON_AddItemToArray(list, cJSON_CreateString(text));
    }
    list = r->ngateways > 0 ? cJSON_AddArrayToObject(o, "gateways") : NULL;
    for (size_t i = 0; i < r->ngateways; i++) {
        char text[17];
        eui64_print(r->gateways[i], text);
        cJSON_AddItemToArray(list, cJSON_CreateString(text));
    }
}

static void show_minutes(cJSON *o, const char *name, unsigned minutes)
{
    char text[16];
    snprintf(text, sizeof text, "%02u:%02u", minutes / 60, minutes % 60);
    cJSON_AddStringToObject(o, name, text);
}

cJSON *rule_json(const struct policy_rule *r)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "name", r->name);
    cJSON_AddStringToObject(o, "effect", r->deny ? "deny" : "allow");
    show_words(o, "what", r->what, whats, POLICY_WHATS);
    show_strings(o, "ids", &r->ids);
    show_strings(o, "labels", &r->labels);
    show_places(o, r);
    show_words(o, "days", r->days, days, sizeof days / sizeof *days);
    if (r->from != r->to) {
        show_minutes(o, "from", r->from);
        show_minutes(o, "to", r->to);
    }
    if (r->lifetime != 0)
        cJSON_AddNumberToObject(o, "lifetime", (double)r->lifetime);
    show_strings(o, "targets", &r->targets);
    show_commands(o, &r->commands);
    return o;
}

/* --- tried -------------------------------------------------------------------------------------------------------- */

enum { Q_WHAT, Q_ID, Q_LABELS, Q_ADDRESS, Q_GATEWAY, Q_AT, Q_MEMBERS };
static const struct attr question[Q_MEMBERS] = {
    [Q_WHAT] = {"what", ATTR_TEXT, ATTR_MAN, ATTR_NP, 16},
    [Q_ID] = {"id", ATTR_TEXT, ATTR_MAN, ATTR_NP, MEF_MAX_ID},
    [Q_LABELS] = {"labels", ATTR_TEXTS, ATTR_OPT, ATTR_NP, MEF_MAX_LABELS},
    [Q_ADDRESS] = {"address", ATTR_TEXT, ATTR_OPT, ATTR_NP, INET6_ADDRSTRLEN},
    [Q_GATEWAY] = {"gateway", ATTR_TEXT, ATTR_OPT, ATTR_NP, 32},
    [Q_AT] = {"at", ATTR_DATE, ATTR_OPT, ATTR_NP, 0},
};

static bool bad_question(struct mef_result *r, unsigned which, const char *detail)
{
    return mef_refuse(r, ST_BAD_REQUEST, "bad-value", question[which].name, detail);
}

bool question_read(struct mef *m, const cJSON *in, struct rule_question *q, struct mef_result *r)
{
    struct attr_value v[Q_MEMBERS];
    const cJSON *e;
    *q = (struct rule_question){.facts = {.id = q->id, .now = mef_now(m)}};
    if (!attrs_read(question, Q_MEMBERS, in, true, v, r))
        return false;
    while (q->facts.what < POLICY_WHATS && strcmp(v[Q_WHAT].text, whats[q->facts.what]) != 0)
        q->facts.what++;
    if (q->facts.what == POLICY_WHATS)
        return bad_question(r, Q_WHAT, "register, deposit, retrieve, command or ticket");
    if (mef_id(m, v[Q_ID].text, q->id) == ID_NONE)
        return bad_question(r, Q_ID, "an AE-ID, a CSE-ID or a MAF's FQDN");
    q->facts.has_address = v[Q_ADDRESS].present;
    if (v[Q_ADDRESS].present && !policy_address(v[Q_ADDRESS].text, q->facts.address))
        return bad_question(r, Q_ADDRESS, "a numeric address, without port");
    if (v[Q_GATEWAY].present && !eui64_parse(v[Q_GATEWAY].text, &q->facts.gateway))
        return bad_question(r, Q_GATEWAY, "an EUI-64 is 16 hex digits");
    if (v[Q_AT].present)
        q->facts.now = v[Q_AT].number;
    if (v[Q_LABELS].present)
        q->facts.labels = &q->labels;
    cJSON_ArrayForEach(e, v[Q_LABELS].array) if (!strings_add(&q->labels, e->valuestring))
        return mef_refuse(r, ST_UNAVAILABLE, "no-memory", NULL, NULL);
    return true;
}

cJSON *verdict_json(const struct policy_verdict *v)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "effect", v->allow ? "allow" : "deny");
    if (v->rule != NULL)
        cJSON_AddStringToObject(o, "rule", v->rule);
    if (v->lifetime != 0)
        cJSON_AddNumberToObject(o, "lifetime", (double)v->lifetime);
    if (v->targets != NULL)
        show_strings(o, "targets", v->targets);
    if (v->commands != NULL)
        show_commands(o, v->commands);
    return o;
}
