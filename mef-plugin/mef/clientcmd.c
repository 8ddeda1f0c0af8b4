/* mefClientCmd: what a client is to do next. One below each mefClientReg, made by the MEF and gone with it; the client asks
 * by a Retrieve, reports by an Update, whose answer tells the next (TS-0003 8.3.4.6, 8.3.9). */
#include "mef-plugin/mef/call.h"
#include "mef-plugin/mef/command.h"
#include "mef-plugin/mef/when.h"

#include <stdio.h>
#include <stdlib.h>

#define RECORD_VERSION 1

/* Conformance: C-9 | TS-0003 8.3.9 | missing: commands that hold a URI */

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

struct commands {
    struct command_state state;
    int64_t modified;
};

/* --- record ------------------------------------------------------------------------------------------------------- */

void commands_free(struct commands *s)
{
    free(s);
}

static void encode(struct wr *w, const struct commands *s)
{
    wr_u8(w, RECORD_VERSION);
    wr_be64(w, s->state.last);
    wr_be64(w, s->state.current);
    wr_u8(w, s->state.no_more);
    wr_be64(w, (uint64_t)s->modified);
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

struct commands *commands_decode(struct span val)
{
    struct commands *s = calloc(1, sizeof *s);
    struct rd in = rd_of(val);
    uint8_t version;
    if (s != NULL && rd_u8(&in, &version) && version == RECORD_VERSION && decode_state(&in, s) && rd_end(&in))
        return s;
    commands_free(s);
    return NULL;
}

static bool load_row(void *user, struct span key, struct span val)
{
    char ri[MEF_RELKEYID] = "";
    if (key.n >= sizeof ri)
        return false;
    memcpy(ri, key.p, key.n);
    struct res *r = res_at(user, ri);
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

static cJSON *to_json(const struct mef *m, const struct res *r, int status)
{
    const struct commands *s = r->commands;
    char text[MEF_RELKEYID + sizeof MEF_RN_CLIENT_CMD];
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, M2M_SN_RESOURCE_TYPE, MEF_TY_CLIENT_CMD);
    snprintf(text, sizeof text, "%s-" MEF_RN_CLIENT_CMD, r->ri);
    cJSON_AddStringToObject(o, M2M_SN_RESOURCE_ID, text);
    cJSON_AddStringToObject(o, M2M_SN_RESOURCE_NAME, MEF_RN_CLIENT_CMD);
    cJSON_AddStringToObject(o, M2M_SN_PARENT_ID, r->ri);
    when_print_m2m(r->created, text);
    cJSON_AddStringToObject(o, M2M_SN_CREATION_TIME, text);
    when_print_m2m(s->modified, text);
    cJSON_AddStringToObject(o, M2M_SN_LAST_MODIFIED, text);
    when_print_m2m(r->expires, text);
    cJSON_AddStringToObject(o, M2M_SN_EXPIRATION, text);
    snprintf(text, sizeof text, "%llu", (unsigned long long)s->state.current);
    cJSON_AddStringToObject(o, MEF_SN_CMD_ID, text);
    cJSON_AddItemToObject(o, MEF_SN_CMD_DESCRIPTION, no_more(m));
    cJSON_AddNumberToObject(o, MEF_SN_CMD_STATUS, status);
    return o;
}

static void step(struct call *c, struct res *r, uint64_t updated, int64_t result)
{
    if (r->commands == NULL && (r->commands = calloc(1, sizeof *r->commands)) == NULL) {
        call_fail(c, ST_UNAVAILABLE, "no-memory", NULL, NULL);
        return;
    }
    struct commands *s = r->commands;
    struct command_step o = command_step(s->state, 0, updated);
    if (o.accepted && !command_may_report(COMMAND_NO_MORE, result)) {
        call_fail(c, ST_BAD_REQUEST, "bad-value", MEF_SN_CMD_STATUS, "this status is none of the command's class");
        return;
    }
    if (o.next.current != s->state.current) {
        struct store_txn *t = call_begin(c);
        if (t == NULL)
            return;
        s->state = o.next;
        if (!save(c->m, t, r)) {
            call_broken(c, t);
            return;
        }
        c->seq = store_commit(t, mef_committed, c->m);
    }
    call_answer(c, c->req->op == CSE_UPDATE ? ST_UPDATED : ST_OK, MEF_SN_CLIENT_CMD, to_json(c->m, r, o.status));
}

static void retrieve(struct call *c, struct res *r)
{
    if (call_owner(c, r))
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
    if (!call_owner(c, r))
        return;
    if (command_is_report(v[CMST].number))
        step(c, r, id_of(v[CMI].text), v[CMST].number);
    else
        call_fail(c, ST_BAD_REQUEST, "bad-value", MEF_SN_CMD_STATUS, "this is no status that a client reports");
}

static void remove_it(struct call *c, struct res *r)
{
    if (call_owner(c, r))
        call_fail(c, ST_NOT_ALLOWED, "not-allowed", NULL, "the MEF keeps the commands; they end with the registration");
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
    .remove = remove_it,
};
