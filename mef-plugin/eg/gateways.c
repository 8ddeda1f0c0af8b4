/* Gateways: their records, sessions and epochs. */
#include "mef-plugin/eg/input.h"
#include "mef-plugin/eg/internal.h"

#include <inttypes.h>
#include <stdlib.h>

struct gateway *gateway_find(struct eg *e, eui64_t eui)
{
    return map64_get(e->gateways, eui);
}

/* Another stakeholder's gateway is not there. */
static struct gateway *find_own(struct eg *e, const char *admin, eui64_t eui)
{
    struct gateway *g = gateway_find(e, eui);
    return g != NULL && strcmp(g->row.admin, admin) == 0 ? g : NULL;
}

struct gateway *gateway_of(const struct device *d, eui64_t eui)
{
    return find_own(d->eg, d->row.admin, eui);
}

void gateway_commit_failed(struct eg *e, struct gateway *g, enum st st)
{
    if (st != ST_CONFLICT) {
        e->d.ops->fatal(e->d.host, "what was sent could not be stored");
    } else if (g != NULL) {
        g->lost = true;
        log_event(LOG_ERROR, "eg.gateway-lost", "gateway=%016" PRIx64, g->eui);
    }
}

void gateway_free(struct gateway *g)
{
    free(g->own);
    neighbours_free(g->neighbours);
    addresses_free(g);
    for (size_t i = 0; i < g->nstored; i++)
        free(g->stored[i]);
    free(g->stored);
    gateway_row_free(&g->row);
    free(g);
}

/* --- ownership (design 5.7): the epoch row is epoch || the owner's random name; no two owners write the same ------ */

static struct span epoch_row(const struct gateway *g, uint8_t buf[16])
{
    struct wr w = wr_of(buf, 16);
    wr_be64(&w, g->epoch);
    wr_be64(&w, g->owner);
    return wr_span(&w);
}

/* What was taken from another owner was read at start, and with SQLite nobody else can have written since: the database
 * is locked. A shared store must read the gateway's rows and counters again here. */
bool gateway_heard(struct eg *e, struct gateway *g, uint64_t session)
{
    if (g->session == session || g->lost)
        return true;
    struct store_txn *t = store_begin(e->d.store);
    if (t == NULL)
        return false;
    uint8_t kb[8], vb[16];
    if (g->owner == e->owner) /* ours before: it must not have been taken meanwhile */
        gateway_expect(g, t);
    g->session = session;
    g->epoch++;
    g->owner = e->owner;
    store_put(t, STORE_GATEWAY_EPOCH, eui_key(g->eui, kb), epoch_row(g, vb));
    store_commit(t, NULL, NULL);
    log_event(LOG_INFO, "eg.gateway", "gateway=%016" PRIx64 " session=%" PRIu64 " epoch=%" PRIu64, g->eui, session,
              g->epoch);
    return true;
}

void gateway_expect(const struct gateway *g, struct store_txn *t)
{
    uint8_t kb[8], vb[16];
    store_expect(t, STORE_GATEWAY_EPOCH, eui_key(g->eui, kb), epoch_row(g, vb));
}

/* --- operator REST ------------------------------------------------------------------------------------------------ */

static bool take_pan(void *user, const cJSON *j)
{
    struct gateway_row *g = user;
    if (!cJSON_IsNumber(j) || j->valuedouble < 0 || j->valuedouble > 0xfffe ||
        j->valuedouble != (uint16_t)j->valuedouble)
        return false;
    g->pans[g->npans++] = (uint16_t)j->valuedouble;
    return true;
}

static bool take_application(void *user, const cJSON *j)
{
    struct gateway_row *g = user;
    char *copy = input_is_text(j, EG_MAX_TEXT) ? strdup(j->valuestring) : NULL;
    if (copy != NULL)
        g->applications[g->napplications++] = copy;
    return copy != NULL;
}

static bool read_form(const cJSON *in, struct gateway_row *row, struct mef_result *r)
{
    const char *form = "plain";
    if (!input_text(in, "firstKeyForm", 16, &form, r))
        return false;
    row->extended = strcmp(form, "extended") == 0;
    return row->extended || strcmp(form, "plain") == 0 ||
           mef_refuse(r, ST_BAD_REQUEST, "bad-value", "firstKeyForm", "plain or extended");
}

/* Fill a row from the body; the caller frees it also on failure. */
static bool read_row(struct eg *e, const char *admin, const cJSON *in, struct gateway_row *row, struct mef_result *r)
{
    static const char *const names[] = {"identity", "name", "panIds", "applications", "firstKeyForm", NULL};
    const char *identity = NULL, *name = NULL;
    if (!input_members(in, names, r) || !input_text(in, "identity", EG_MAX_TEXT, &identity, r) ||
        !input_text(in, "name", EG_MAX_TEXT, &name, r) || !input_list(in, "panIds", EG_MAX_PANS, take_pan, row, r) ||
        !input_list(in, "applications", EG_MAX_PANS, take_application, row, r) || !read_form(in, row, r))
        return false;
    if (identity == NULL)
        return mef_refuse(r, ST_BAD_REQUEST, "missing", "identity", "the KpmID or subjectAltName of the gateway's credential");
    if (mef_credential_role(e->d.mef, admin, identity) != MEF_ROLE_GATEWAY)
        return mef_refuse(r, ST_UNACCEPTABLE, "not-a-gateway-credential", "identity",
                          "no credential of a gateway has this identity");
    row->admin = strdup(admin);
    row->identity = strdup(identity);
    row->name = name != NULL ? strdup(name) : NULL;
    return (row->admin != NULL && row->identity != NULL && (name == NULL || row->name != NULL)) ||
           mef_refuse(r, ST_INTERNAL, NULL, NULL, "out of memory");
}

static void store_gateway(struct gateway *g, struct store_txn *t)
{
    uint8_t kb[8], vb[EG_MAX_ROW];
    struct wr w = wr_of(vb, sizeof vb);
    gateway_encode(&g->row, &w);
    store_put(t, STORE_GATEWAY, eui_key(g->eui, kb), wr_span(&w));
}

static cJSON *gateway_json(const struct gateway *g)
{
    cJSON *o = cJSON_CreateObject();
    output_eui(o, "eui64", g->eui);
    cJSON_AddStringToObject(o, "identity", g->row.identity);
    if (g->row.name != NULL)
        cJSON_AddStringToObject(o, "name", g->row.name);
    cJSON *list = g->row.npans > 0 ? cJSON_AddArrayToObject(o, "panIds") : NULL;
    for (size_t i = 0; i < g->row.npans; i++)
        cJSON_AddItemToArray(list, cJSON_CreateNumber(g->row.pans[i]));
    list = g->row.napplications > 0 ? cJSON_AddArrayToObject(o, "applications") : NULL;
    for (size_t i = 0; i < g->row.napplications; i++)
        cJSON_AddItemToArray(list, cJSON_CreateString(g->row.applications[i]));
    cJSON_AddStringToObject(o, "firstKeyForm", g->row.extended ? "extended" : "plain");
    cJSON_AddBoolToObject(o, "connected", g->session != 0);
    output_time(o, "createdAt", g->row.created);
    return o;
}

/* In the map; NULL: full or out of memory. Takes over nothing yet. */
static struct gateway *new_gateway(struct eg *e, eui64_t eui)
{
    struct gateway *g = map64_count(e->gateways) < e->max_gateways ? calloc(1, sizeof *g) : NULL;
    if (g == NULL || !map64_put(e->gateways, eui, g)) {
        free(g);
        return NULL;
    }
    g->eui = eui;
    return g;
}

static bool same_rows(const struct gateway_row *a, const struct gateway_row *b)
{
    uint8_t ab[EG_MAX_ROW], bb[EG_MAX_ROW];
    struct wr aw = wr_of(ab, sizeof ab), bw = wr_of(bb, sizeof bb);
    gateway_encode(a, &aw);
    gateway_encode(b, &bw);
    return span_eq(wr_span(&aw), wr_span(&bw));
}

void eg_gateway_put(struct eg *e, struct store_txn *t, const char *admin, const char *actor, eui64_t eui,
                    const cJSON *in, struct mef_result *r)
{
    struct gateway_row row = {0};
    struct gateway *g = gateway_find(e, eui);
    bool is_new = g == NULL;
    if (eui == 0 || eui == UINT64_MAX) {
        mef_refuse(r, ST_BAD_REQUEST, "bad-value", "eui64", "not an EUI-64 of a device");
        return;
    }
    if (!read_row(e, admin, in, &row, r)) {
        gateway_row_free(&row);
        return;
    }
    /* That somebody has it cannot be hidden: one EUI-64 is bound once. Whose it is, is not told; and who only asks whether
     * it is taken has to bind it. */
    if (!is_new && strcmp(g->row.admin, admin) != 0) {
        gateway_row_free(&row);
        mef_refuse(r, ST_EXISTS, "exists", NULL, "this EUI-64 is bound already");
        return;
    }
    if (is_new && (g = new_gateway(e, eui)) == NULL) {
        gateway_row_free(&row);
        mef_refuse(r, ST_UNAVAILABLE, "too-many", NULL, "the configured number of gateways is reached");
        return;
    }
    row.created = is_new ? eg_time(e) : g->row.created;
    if (is_new || !same_rows(&row, &g->row)) {
        if (!is_new && strcmp(row.identity, g->row.identity) != 0)
            g->session = 0; /* of the identity bound before */
        gateway_row_free(&g->row);
        g->row = row;
        store_gateway(g, t);
        eg_gauges(e);
        eg_audit(e, t, admin, actor, "gateway.put", eui, "ok");
    } else {
        gateway_row_free(&row);
    }
    r->st = is_new ? ST_CREATED : ST_OK;
    r->body = gateway_json(g);
}

void eg_gateway_delete(struct eg *e, struct store_txn *t, const char *admin, const char *actor, eui64_t eui,
                       struct mef_result *r)
{
    struct gateway *g = find_own(e, admin, eui);
    uint8_t kb[8];
    if (g == NULL) {
        mef_refuse(r, ST_NOT_FOUND, "not-found", NULL, "there is no such object");
        return;
    }
    store_del(t, STORE_GATEWAY, eui_key(eui, kb)); /* its epoch stays, like its counters */
    transactions_delete(g, t);
    eg_audit(e, t, admin, actor, "gateway.delete", eui, "ok");
    map64_del(e->gateways, eui);
    gateway_free(g);
    eg_gauges(e);
    r->st = ST_DELETED;
}

cJSON *eg_gateway_get(struct eg *e, const char *admin, eui64_t eui)
{
    struct gateway *g = find_own(e, admin, eui);
    return g != NULL ? gateway_json(g) : NULL;
}

static bool is_own(const void *object, const char *admin)
{
    const struct gateway *g = object;
    return strcmp(g->row.admin, admin) == 0;
}

cJSON *eg_gateway_list(struct eg *e, const char *admin)
{
    const struct listing listing = {{{e->gateways, is_own}}, eg_gateway_get};
    return eg_list(e, &listing, admin, 0, e->max_gateways);
}

/* --- loading ------------------------------------------------------------------------------------------------------ */

static bool load_gateway(struct eg *e, struct span key, struct span val)
{
    struct rd r = rd_of(key);
    struct gateway_row row = {0};
    eui64_t eui;
    struct gateway *g = NULL;
    bool ok = rd_be64(&r, &eui) && rd_end(&r) && gateway_decode(val, &row) && (g = new_gateway(e, eui)) != NULL;
    if (ok)
        g->row = row;
    else
        gateway_row_free(&row);
    return ok;
}

static bool load_epoch(struct eg *e, struct span key, struct span val)
{
    struct rd r = rd_of(key), v = rd_of(val);
    eui64_t eui;
    uint64_t epoch, owner;
    bool ok = rd_be64(&r, &eui) && rd_end(&r) && rd_be64(&v, &epoch) && rd_be64(&v, &owner) && rd_end(&v);
    struct gateway *g = ok ? gateway_find(e, eui) : NULL;
    if (g != NULL) {
        g->epoch = epoch;
        g->owner = owner;
    }
    return ok;
}

enum st gateways_load(struct eg *e)
{
    enum st st = eg_load(e, STORE_GATEWAY, load_gateway);
    return st == ST_OK ? eg_load(e, STORE_GATEWAY_EPOCH, load_epoch) : st;
}
