/* MEFClientCfg: what the stakeholder wants a client to be configured with, for it to retrieve (TS-0003 8.3.5.2.4). The
 * public texts have no type of that name; it is a clientRegCfg here, which they have for a MEF client's configuration.
 */
#include "mef-plugin/mef/rules.h"
#include "mef-plugin/mef/when.h"

#include <stdlib.h>

#define RECORD_VERSION 1
#define MAX_TEXT 8192 /* bytes of it in JSON; 16 labels of 255 bytes fit */

struct configuration {
    int64_t modified;
    char *text; /* JSON */
};

/* --- record ------------------------------------------------------------------------------------------------------- */

void configuration_free(struct configuration *f)
{
    if (f != NULL)
        free(f->text);
    free(f);
}

struct configuration *configuration_decode(struct span val)
{
    struct configuration *f = calloc(1, sizeof *f);
    struct rd in = rd_of(val);
    uint8_t version;
    uint64_t modified;
    if (f != NULL && rd_u8(&in, &version) && version == RECORD_VERSION && rd_be64(&in, &modified) &&
        modified <= INT64_MAX && rec_rd_text(&in, &f->text) && rd_end(&in)) {
        cJSON *j = cJSON_Parse(f->text);
        bool good = cJSON_IsObject(j);
        cJSON_Delete(j);
        f->modified = (int64_t)modified;
        if (good)
            return f;
    }
    configuration_free(f);
    return NULL;
}

static bool load_row(void *user, struct span key, struct span val)
{
    struct res *r = res_at(user, key);
    if (r == NULL || r->ty != MEF_TY_CLIENT_REG)
        return false;
    r->configuration = configuration_decode(val);
    return r->configuration != NULL;
}

bool configurations_load(struct mef *m)
{
    return mef_load(m, STORE_CLIENT_CFG, load_row);
}

void configuration_drop(struct store_txn *t, struct res *r)
{
    if (r->configuration == NULL)
        return;
    store_del(t, STORE_CLIENT_CFG, span_str(r->ri));
    configuration_free(r->configuration);
    r->configuration = NULL;
    r->seq = 0;
}

/* Takes the text over. */
static bool keep(struct mef *m, struct store_txn *t, struct res *r, char *text)
{
    struct configuration *f = calloc(1, sizeof *f);
    if (f == NULL) {
        free(text);
        return false;
    }
    *f = (struct configuration){mef_now(m), text};
    configuration_free(r->configuration);
    r->configuration = f;
    r->seq = 0;
    struct wr w = wr_of(m->record, sizeof m->record);
    wr_u8(&w, RECORD_VERSION);
    wr_be64(&w, (uint64_t)f->modified);
    rec_text(&w, text);
    store_put(t, STORE_CLIENT_CFG, span_str(r->ri), wr_span(&w));
    return wr_ok(&w);
}

/* --- operations of the client ------------------------------------------------------------------------------------- */

/* Conformance: R-7 | TS-0003 8.3.5.2.4 | shown by: test_commands.py:test_configuration */
/* Conformance: R-7 | TS-0003 8.3.5.2.4 | ours: a MEFClientCfg is a clientRegCfg; it is at cfg below the registration */
static void retrieve(struct call *c, struct res *r)
{
    struct policy_verdict rule; /* who is to be told nothing to do, is told nothing to be either */
    if (!call_policy(c, POLICY_COMMAND, NULL, 0, "configuration.retrieve", &rule))
        return;
    if (r->configuration == NULL) {
        call_fail(c, ST_NOT_FOUND, "not-found", NULL, "there is no such resource");
        return;
    }
    cJSON *o = child_json(r, &clientcfg_type, r->configuration->modified);
    cJSON_AddItemToObject(o, MEF_SN_CONFIGURATION, cJSON_Parse(r->configuration->text));
    call_answer(c, ST_OK, MEF_SN_CLIENT_CFG, o);
}

const struct res_type clientcfg_type = {
    .ty = MEF_TY_CLIENT_CFG,
    .name = MEF_SN_CLIENT_CFG,
    .child = MEF_RN_CLIENT_CFG,
    .retrieve = retrieve,
};

/* --- operator REST ------------------------------------------------------------------------------------------------ */

/* sec:clientRegCfg. Its ports are bytes in the text, which can not be meant. */
enum { EXPIRATION, LABELS, FQDN, ADMIN_FQDN, HTTP_PORT, COAP_PORT, WEBSOCKET_PORT, MEMBERS };
static const struct attr members[MEMBERS] = {
    [EXPIRATION] = {MEF_LN_EXPIRATION, ATTR_TIMESTAMP, ATTR_OPT, ATTR_NP, 0},
    [LABELS] = {MEF_LN_LABELS, ATTR_TEXTS, ATTR_OPT, ATTR_NP, MEF_MAX_LABELS},
    [FQDN] = {MEF_LN_FQDN, ATTR_TEXT, ATTR_MAN, ATTR_NP, MEF_MAX_ID},
    [ADMIN_FQDN] = {MEF_LN_ADMIN_FQDN, ATTR_TEXT, ATTR_MAN, ATTR_NP, MEF_MAX_ID},
    [HTTP_PORT] = {MEF_LN_HTTP_PORT, ATTR_NUMBER, ATTR_OPT, ATTR_NP, 65535},
    [COAP_PORT] = {MEF_LN_COAP_PORT, ATTR_NUMBER, ATTR_OPT, ATTR_NP, 65535},
    [WEBSOCKET_PORT] = {MEF_LN_WEBSOCKET_PORT, ATTR_NUMBER, ATTR_OPT, ATTR_NP, 65535},
};

static bool check(const cJSON *in, struct mef_result *r)
{
    struct attr_value v[MEMBERS];
    char fqdn[MEF_ID];
    if (!attrs_read(members, MEMBERS, in, true, v, r))
        return false;
    for (int i = FQDN; i <= ADMIN_FQDN; i++)
        if (!mef_fqdn_parse(v[i].text, fqdn))
            return mef_refuse(r, ST_BAD_REQUEST, "bad-value", members[i].name, "this is no FQDN");
    for (int i = HTTP_PORT; i <= WEBSOCKET_PORT; i++)
        if (v[i].present && v[i].number == 0)
            return mef_refuse(r, ST_BAD_REQUEST, "bad-value", members[i].name, "a port is 1 to 65535");
    return true;
}

static struct res *find(const struct mef *m, const char *admin, const char *id, struct mef_result *r)
{
    struct res *found = clientreg_find(m, admin, id);
    if (found == NULL)
        mef_refuse(r, ST_NOT_FOUND, "not-found", NULL, "there is no such registration");
    return found;
}

cJSON *mef_configuration_get(struct mef *m, const char *admin, const char *id)
{
    const struct res *r = clientreg_find(m, admin, id);
    return r == NULL || r->configuration == NULL ? NULL : cJSON_Parse(r->configuration->text);
}

void mef_configuration_put(struct mef *m, struct store_txn *t, const char *admin, const char *actor, const char *id,
                           const cJSON *in, struct mef_result *out)
{
    struct res *r = check(in, out) ? find(m, admin, id, out) : NULL;
    if (r == NULL)
        return;
    bool made = r->configuration == NULL;
    char *text = cJSON_PrintUnformatted(in);
    if (text != NULL && strlen(text) > MAX_TEXT) {
        free(text);
        mef_refuse(out, ST_BAD_REQUEST, "bad-value", NULL, "a configuration has up to 8192 bytes");
        return;
    }
    if (text == NULL || !keep(m, t, r, text)) {
        mef_refuse(out, ST_UNAVAILABLE, "no-memory", NULL, NULL);
        return;
    }
    mef_audit(m, t, admin, actor, "configuration.put", r->ri);
    out->st = made ? ST_CREATED : ST_OK;
    out->body = cJSON_Parse(text);
}

void mef_configuration_delete(struct mef *m, struct store_txn *t, const char *admin, const char *actor, const char *id,
                              struct mef_result *out)
{
    struct res *r = find(m, admin, id, out);
    if (r == NULL)
        return;
    if (r->configuration == NULL) {
        mef_refuse(out, ST_NOT_FOUND, "not-found", NULL, "it has no configuration");
        return;
    }
    configuration_drop(t, r);
    mef_audit(m, t, admin, actor, "configuration.delete", r->ri);
    out->st = ST_DELETED;
}
