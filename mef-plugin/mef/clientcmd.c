/* mefClientCmd: what a client is to do next. One below each mefClientReg, made by the MEF and gone with it; the client
 * asks by a Retrieve, reports by an Update, whose answer tells the next (TS-0003 8.3.4.6, 8.3.9). */
#include "mef-plugin/mef/command.h"
#include "mef-plugin/mef/rules.h"
#include "mef-plugin/mef/when.h"

#include <stdio.h>
#include <stdlib.h>

#define RECORD_VERSION 1

enum { CMI, CMST };
static const struct attr attrs[] = {
    [CMI] = {MEF_SN_CMD_ID, ATTR_TEXT, ATTR_NP, ATTR_MAN, MEF_MAX_ID},
    [CMST] = {MEF_SN_CMD_STATUS, ATTR_NUMBER, ATTR_NP, ATTR_MAN, 999},
    {MEF_SN_CMD_DESCRIPTION, ATTR_TEXT, ATTR_NP, ATTR_NP, 0},
    {M2M_SN_RESOURCE_TYPE, ATTR_NUMBER, ATTR_NP, ATTR_NP, 0},
    {M2M_SN_RESOURCE_ID, ATTR_TEXT, ATTR_NP, ATTR_NP, 0},
    {M2M_SN_RESOURCE_NAME, ATTR_TEXT, ATTR_NP, ATTR_NP, 0},
    {M2M_SN_PARENT_ID, ATTR_TEXT, ATTR_NP, ATTR_NP, 0},
    {M2M_SN_CREATION_TIME, ATTR_TIMESTAMP, ATTR_NP, ATTR_NP, 0},
    {M2M_SN_LAST_MODIFIED, ATTR_TIMESTAMP, ATTR_NP, ATTR_NP, 0},
    {M2M_SN_EXPIRATION, ATTR_TIMESTAMP, ATTR_NP, ATTR_NP, 0},
};

#define KEPT 16 /* commands that are done, for the operator to see */

enum { WAITING = 0 }; /* status, besides COMMAND_ISSUED and what clients report */
struct command {
    uint64_t id;
    int status;
    int64_t since;
    enum command_class class;
    char *text; /* the cmdDescription, JSON */
};

struct commands {
    struct command_state state;
    int64_t modified;
    struct command *v; /* by id: done, issued, waiting */
    size_t n;
};

/* --- the list ----------------------------------------------------------------------------------------------------- */

void commands_free(struct commands *s)
{
    for (size_t i = 0; s != NULL && i < s->n; i++)
        free(s->v[i].text);
    if (s != NULL)
        free(s->v);
    free(s);
}

/* The first with this status; NULL: none. */
static struct command *first(const struct commands *s, int status)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->v[i].status == status)
            return &s->v[i];
    return NULL;
}

static size_t count(const struct commands *s, bool done)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        n += (s->v[i].status > COMMAND_ISSUED) == done;
    return n;
}

/* Takes the text over. */
static bool append(struct commands *s, const struct command *c)
{
    struct command *v = reallocarray(s->v, s->n + 1, sizeof *v);
    if (v == NULL) {
        free(c->text);
        return false;
    }
    s->v = v;
    v[s->n++] = *c;
    return true;
}

/* One more that waits. Takes the text over. False: out of memory, as when there is no text. */
static bool queue(const struct mef *m, struct commands *s, char *text)
{
    struct command c = {.id = s->state.last + 1,
                        .status = WAITING,
                        .since = mef_now(m),
                        .class = command_class_of(text),
                        .text = text};
    if (c.class == COMMAND_NO_MORE) {
        free(text);
        return false;
    }
    if (!append(s, &c))
        return false;
    s->state.last++;
    return true;
}

static void take_out(struct commands *s, struct command *c)
{
    if (c->id == s->state.current)
        s->state.current = 0;
    free(c->text);
    memmove(c, c + 1, (size_t)(s->v + --s->n - c) * sizeof *c);
}

/* --- record ------------------------------------------------------------------------------------------------------- */

static void encode(struct wr *w, const struct commands *s)
{
    wr_u8(w, RECORD_VERSION);
    wr_be64(w, s->state.last);
    wr_be64(w, s->state.current);
    wr_u8(w, s->state.no_more);
    wr_be64(w, (uint64_t)s->modified);
    for (size_t i = 0; i < s->n; i++) {
        wr_be64(w, s->v[i].id);
        wr_be16(w, (uint16_t)s->v[i].status);
        wr_be64(w, (uint64_t)s->v[i].since);
        rec_text(w, s->v[i].text);
    }
}

static bool decode_state(struct rd *in, struct commands *s)
{
    uint64_t modified;
    uint8_t no_more;
    if (!rd_be64(in, &s->state.last) || !rd_be64(in, &s->state.current) || !rd_u8(in, &no_more) ||
        !rd_be64(in, &modified) || modified > INT64_MAX)
        return false;
    s->state.no_more = no_more == 1;
    s->modified = (int64_t)modified;
    return no_more <= 1 && s->state.current <= s->state.last && s->state.last <= COMMAND_MAX_ID;
}

static bool decode_command(struct rd *in, struct commands *s)
{
    struct command c = {0};
    uint64_t since;
    uint16_t status;
    if (!rd_be64(in, &c.id) || !rd_be16(in, &status) || !rd_be64(in, &since) || !rec_rd_text(in, &c.text))
        return false;
    c.class = command_class_of(c.text);
    c.status = status;
    c.since = (int64_t)since;
    uint64_t before = s->n == 0 ? 0 : s->v[s->n - 1].id;
    bool issued = c.id == s->state.current && !s->state.no_more;
    bool good = c.class != COMMAND_NO_MORE && since <= INT64_MAX && c.id > before && c.id <= s->state.last &&
                issued == (status == COMMAND_ISSUED) &&
                (issued || status == WAITING || command_may_report(c.class, status));
    if (good)
        return append(s, &c);
    free(c.text);
    return false;
}

struct commands *commands_decode(struct span val)
{
    struct commands *s = calloc(1, sizeof *s);
    struct rd in = rd_of(val);
    uint8_t version;
    bool good = s != NULL && rd_u8(&in, &version) && version == RECORD_VERSION && decode_state(&in, s);
    while (good && !rd_end(&in))
        good = decode_command(&in, s);
    if (good && (s->state.current == 0 || s->state.no_more || first(s, COMMAND_ISSUED) != NULL))
        return s;
    commands_free(s);
    return NULL;
}

static bool load_row(void *user, struct span key, struct span val)
{
    struct res *r = res_at(user, key);
    if (r == NULL || r->ty != MEF_TY_CLIENT_REG)
        return false;
    r->commands = commands_decode(val);
    return r->commands != NULL;
}

bool commands_load(struct mef *m)
{
    return mef_load(m, STORE_CLIENT_CMD, load_row);
}

void commands_drop(struct store_txn *t, struct res *r)
{
    if (r->commands == NULL)
        return;
    store_del(t, STORE_CLIENT_CMD, span_str(r->ri));
    commands_free(r->commands);
    r->commands = NULL;
}

static bool save(struct mef *m, struct store_txn *t, struct res *r)
{
    struct wr w = wr_of(m->record, sizeof m->record);
    r->commands->modified = mef_now(m);
    encode(&w, r->commands);
    if (!wr_ok(&w))
        return false;
    store_put(t, STORE_CLIENT_CMD, span_str(r->ri), wr_span(&w));
    r->seq = 0;
    return true;
}

/* --- operations of the client ------------------------------------------------------------------------------------- */

/* TS-0003 8.3.9.5: nothing to do; ask again after this time (xs:duration). */
static cJSON *no_more(const struct mef *m)
{
    char text[32];
    cJSON *o = cJSON_CreateObject();
    snprintf(text, sizeof text, "PT%lldS", (long long)m->retry_s);
    cJSON_AddNumberToObject(o, MEF_LN_CMD_CLASS, COMMAND_NO_MORE);
    cJSON *args = cJSON_AddObjectToObject(cJSON_AddObjectToObject(o, MEF_LN_CMD_ARGS), MEF_LN_NO_MORE_ARGS);
    cJSON_AddStringToObject(args, MEF_LN_RETRY_DURATION, text);
    return o;
}

static cJSON *current_description(const struct mef *m, const struct commands *s)
{
    return s->state.no_more ? no_more(m) : cJSON_Parse(first(s, COMMAND_ISSUED)->text);
}

/* NULL: out of memory; the command is told again when it is asked for. */
static cJSON *to_json(const struct mef *m, const struct res *r, int status)
{
    const struct commands *s = r->commands;
    char id[24];
    cJSON *o = child_json(r, &clientcmd_type, s->modified), *description = current_description(m, s);
    snprintf(id, sizeof id, "%llu", (unsigned long long)s->state.current);
    if (description == NULL || cJSON_AddStringToObject(o, MEF_SN_CMD_ID, id) == NULL ||
        !cJSON_AddItemToObject(o, MEF_SN_CMD_DESCRIPTION, description)) {
        cJSON_Delete(description);
        cJSON_Delete(o);
        return NULL;
    }
    cJSON_AddNumberToObject(o, MEF_SN_CMD_STATUS, status);
    return o;
}

static void note(struct mef *m, struct store_txn *t, const struct res *r, uint64_t id, const char *actor,
                 const char *action, const char *outcome)
{
    char object[MEF_RELKEYID + 20];
    snprintf(object, sizeof object, "%s/%llu", r->ri, (unsigned long long)id);
    audit_add(m->d.audit, t,
              &(struct audit_event){
                  .admin = r->admin, .actor = actor, .action = action, .object = object, .outcome = outcome});
}

/* What came of the one issued. */
static void finish(struct call *c, struct store_txn *t, struct res *r, int result)
{
    struct commands *s = r->commands;
    struct command *done = first(s, COMMAND_ISSUED);
    char outcome[16] = "ok";
    done->status = result;
    done->since = mef_now(c->m);
    if (result != COMMAND_OK) {
        snprintf(outcome, sizeof outcome, "status-%d", result);
        c->m->d.ops->count(c->m->d.host, "mef_commands_failed_total", 1);
    }
    note(c->m, t, r, done->id, call_actor(c), "command.done", outcome);
    if (count(s, true) > KEPT)
        take_out(s, s->v);
}

static void issue(struct call *c, struct store_txn *t, struct res *r)
{
    struct command *next = first(r->commands, WAITING);
    next->status = COMMAND_ISSUED;
    next->since = mef_now(c->m);
    note(c->m, t, r, next->id, call_actor(c), "command.issue", "ok");
    c->m->d.ops->count(c->m->d.host, "mef_commands_issued_total", 1);
}

/* Store what the step changed; the answer waits for it. */
static bool go(struct call *c, struct res *r, const struct command_step *o, int result)
{
    struct store_txn *t = call_begin(c);
    if (t == NULL)
        return false;
    if (o->accepted && !r->commands->state.no_more)
        finish(c, t, r, result);
    r->commands->state = o->next;
    if (!o->next.no_more)
        issue(c, t, r);
    if (!save(c->m, t, r)) {
        call_broken(c, t);
        return false;
    }
    c->seq = store_commit(t, mef_committed, c->m);
    return true;
}

static bool begin(struct res *r)
{
    if (r->commands == NULL)
        r->commands = calloc(1, sizeof *r->commands);
    return r->commands != NULL;
}

/* updated: the command that the client reports on, with its result; 0: it only asks. */
static void step(struct call *c, struct res *r, uint64_t updated, int result)
{
    struct policy_verdict rule;
    if (!call_policy(c, POLICY_COMMAND, NULL, 0, "command.issue", &rule))
        return;
    if (!begin(r)) {
        call_fail(c, ST_UNAVAILABLE, "no-memory", NULL, NULL);
        return;
    }
    struct commands *s = r->commands;
    const struct command *waiting = first(s, WAITING), *issued = first(s, COMMAND_ISSUED);
    struct command_step o = command_step(s->state, waiting == NULL ? 0 : waiting->id, updated);
    if (o.accepted && !command_may_report(issued == NULL ? COMMAND_NO_MORE : issued->class, result)) {
        call_fail(c, ST_BAD_REQUEST, "bad-value", MEF_SN_CMD_STATUS, "this status is none of the command's class");
        return;
    }
    if (o.next.current == s->state.current || go(c, r, &o, result))
        call_answer(c, c->req->op == CSE_UPDATE ? ST_UPDATED : ST_OK, MEF_SN_CLIENT_CMD, to_json(c->m, r, o.status));
}

static void retrieve(struct call *c, struct res *r)
{
    step(c, r, 0, 0);
}

/* cmdIDs are decimal numbers (ours); 0: no id of ours, so no command's. */
static uint64_t id_of(const char *text)
{
    uint64_t v = 0;
    if (*text == '0')
        return 0;
    for (; *text >= '0' && *text <= '9' && v <= COMMAND_MAX_ID; text++)
        v = v * 10 + (uint64_t)(*text - '0');
    return *text == '\0' ? v : 0;
}

/* Conformance: C-6 | TS-0003 8.3.9.3 | shown by: test_commands.py:test_update_that_is_none */
static void update(struct call *c, struct res *r, const struct attr_value *v)
{
    if (command_is_report(v[CMST].number))
        step(c, r, id_of(v[CMI].text), (int)v[CMST].number);
    else
        call_fail(c, ST_BAD_REQUEST, "bad-value", MEF_SN_CMD_STATUS, "this is no status that a client reports");
}

_Static_assert(sizeof attrs / sizeof *attrs <= MAX_ATTRS, "room for the values");

const struct res_type clientcmd_type = {
    .ty = MEF_TY_CLIENT_CMD,
    .name = MEF_SN_CLIENT_CMD,
    .child = MEF_RN_CLIENT_CMD,
    .attrs = attrs,
    .nattrs = sizeof attrs / sizeof *attrs,
    .retrieve = retrieve,
    .update = update,
};

/* --- operator REST ------------------------------------------------------------------------------------------------ */

static cJSON *command_json(const struct command *c)
{
    char text[WHEN_TEXT];
    cJSON *o = cJSON_CreateObject();
    snprintf(text, sizeof text, "%llu", (unsigned long long)c->id);
    cJSON_AddStringToObject(o, "id", text);
    cJSON_AddStringToObject(o, "state",
                            c->status == WAITING          ? "waiting"
                            : c->status == COMMAND_ISSUED ? "issued"
                                                          : "done");
    if (c->status > COMMAND_ISSUED)
        cJSON_AddNumberToObject(o, "result", c->status);
    when_print_rfc3339(c->since, text);
    cJSON_AddStringToObject(o, "since", text);
    cJSON_AddItemToObject(o, "description", cJSON_Parse(c->text));
    return o;
}

cJSON *mef_command_list(struct mef *m, const char *admin, const char *id)
{
    const struct res *r = clientreg_find(m, admin, id);
    cJSON *list = r == NULL ? NULL : cJSON_CreateArray();
    for (size_t i = 0; list != NULL && r->commands != NULL && i < r->commands->n; i++)
        cJSON_AddItemToArray(list, command_json(&r->commands->v[i]));
    return list;
}

static bool no_memory(struct mef_result *r)
{
    return mef_refuse(r, ST_UNAVAILABLE, "no-memory", NULL, NULL);
}

/* Is there room for one more? */
static bool has_room(const struct mef *m, struct res *r, struct mef_result *out)
{
    if (!begin(r))
        return no_memory(out);
    return count(r->commands, false) < m->max_client_commands ||
           mef_refuse(out, ST_TOO_MANY, "max-commands-per-client", NULL, "as many commands wait as may");
}

void mef_command_create(struct mef *m, struct store_txn *t, const char *admin, const char *actor, const char *id,
                        const cJSON *in, struct mef_result *out)
{
    char *text = command_read(m, authority_of(m->authorities, admin), in, out);
    struct res *r = text == NULL ? NULL : clientreg_find(m, admin, id);
    if (text != NULL && r == NULL)
        mef_refuse(out, ST_NOT_FOUND, "not-found", NULL, "there is no such registration");
    if (r == NULL || !has_room(m, r, out)) {
        free(text);
        return;
    }
    struct commands *s = r->commands;
    if (!queue(m, s, text)) {
        no_memory(out);
        return;
    }
    if (!save(m, t, r)) {
        take_out(s, &s->v[s->n - 1]);
        no_memory(out);
        return;
    }
    note(m, t, r, s->state.last, actor, "command.create", "ok");
    out->st = ST_CREATED;
    out->body = command_json(&s->v[s->n - 1]);
}

bool commands_begin(struct mef *m, struct store_txn *t, struct res *r, const struct policy_verdict *rule)
{
    char actor[MEF_MAX_NAME + sizeof "policy:"];
    if (rule->commands == NULL)
        return true;
    if (!begin(r))
        return false;
    snprintf(actor, sizeof actor, "policy:%s", rule->rule);
    for (size_t i = 0; i < rule->commands->n && r->commands->n < m->max_client_commands; i++) {
        if (!queue(m, r->commands, strdup(rule->commands->v[i])))
            return false;
        note(m, t, r, r->commands->state.last, actor, "command.create", "ok");
    }
    return save(m, t, r);
}

void mef_command_delete(struct mef *m, struct store_txn *t, const char *admin, const char *actor, const char *id,
                        const char *command, struct mef_result *out)
{
    struct res *r = clientreg_find(m, admin, id);
    struct commands *s = r == NULL ? NULL : r->commands;
    uint64_t wanted = id_of(command);
    for (size_t i = 0; s != NULL && i < s->n; i++)
        if (s->v[i].id == wanted && s->v[i].status <= COMMAND_ISSUED) {
            take_out(s, &s->v[i]);
            out->st = save(m, t, r) ? ST_DELETED : ST_INTERNAL;
            note(m, t, r, wanted, actor, "command.delete", "ok");
            return;
        }
    mef_refuse(out, ST_NOT_FOUND, "not-found", NULL, "there is no such command that is not done");
}
