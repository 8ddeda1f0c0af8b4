/* Install-code registrations: operator REST. The key goes from the text straight into the vault; a registration holds
 * its id. */
#include "mef-plugin/eg/input.h"
#include "mef-plugin/eg/internal.h"

#include <stdio.h>
#include <stdlib.h>

/* --- reading the body --------------------------------------------------------------------------------------------- */

struct reading { /* the members shared by PUT and POST */
    struct eg *e;
    struct code *code;
};

static bool take_target(void *user, const cJSON *j)
{
    struct reading *x = user;
    char id[EG_MAX_TEXT + 1];
    if (!input_is_text(j, EG_MAX_TEXT) || !mef_absolute(x->e->d.mef, j->valuestring, id, sizeof id))
        return false;
    x->code->targets[x->code->ntargets] = strdup(id);
    return x->code->targets[x->code->ntargets] != NULL && ++x->code->ntargets;
}

static bool take_gateway(void *user, const cJSON *j)
{
    struct reading *x = user;
    return cJSON_IsString(j) && eui64_parse(j->valuestring, &x->code->gateways[x->code->ngateways]) &&
           ++x->code->ngateways;
}

/* The members that PUT and POST have in common, and the end of a list of members. */
#define SHARED_MEMBERS "application", "targets", "gateways", "expiresAt", NULL

static bool read_shared(struct eg *e, const char *admin, const cJSON *in, struct code *c, struct mef_result *r)
{
    struct reading x = {e, c};
    const char *application = NULL;
    if (!input_text(in, "application", 128, &application, r) ||
        !input_list(in, "targets", EG_MAX_TARGETS, take_target, &x, r) ||
        !input_list(in, "gateways", EG_MAX_GATEWAYS, take_gateway, &x, r) ||
        !input_time(in, "expiresAt", &c->expires, r))
        return false;
    if (c->expires != 0 && c->expires <= eg_time(e))
        return mef_refuse(r, ST_BAD_REQUEST, "past", "expiresAt", "the time has passed");
    c->admin = strdup(admin);
    c->application = application != NULL ? strdup(application) : NULL;
    return (c->admin != NULL && (application == NULL || c->application != NULL)) ||
           mef_refuse(r, ST_INTERNAL, NULL, NULL, "out of memory");
}

/* What is wrong with a code, for a person; the token is the vault's. */
static bool refuse_key(struct mef_result *r, enum st st, const char *why, const char *field)
{
    static const struct {
        const char *code, *detail;
    } texts[] = {
        {"bad-hex", "not hexadecimal digits"},
        {"bad-length", "an install code has 16 bytes and 2 bytes of CRC, a link key 16 bytes"},
        {"bad-crc", "the CRC does not fit the code; compare it with the label"},
        {"short-code", "codes shorter than 16 bytes are not allowed here (allow-short-install-codes)"},
        {"public-key", "this key is publicly known"},
        {"bad-eui64", "an EUI-64 has 16 hexadecimal digits, not all 0 and not all F"},
        {"no-eui64", "there is no EUI-64 in the text: a label with the code alone is registered by PUT"},
        {"no-code", "there is no install code in the text"},
        {"two-eui64s", "there is more than one EUI-64 in the text: scan one label at a time"},
        {"two-codes", "there is more than one install code in the text: scan one label at a time"},
        {"unknown-format", "the text is of no known format of labels; register EUI-64 and code by PUT"},
    };
    for (size_t i = 0; why != NULL && i < sizeof texts / sizeof texts[0]; i++)
        if (strcmp(texts[i].code, why) == 0)
            return mef_refuse(r, st, texts[i].code, field, texts[i].detail);
    return mef_refuse(r, st, why, field, NULL);
}

static bool import_text(struct eg *e, struct store_txn *t, const cJSON *in, struct code *c, struct mef_result *r)
{
    const char *code = NULL, *key = NULL, *why = NULL;
    if (!input_text(in, "installCode", 128, &code, r) || !input_text(in, "linkKey", 128, &key, r))
        return false;
    if ((code == NULL) == (key == NULL))
        return mef_refuse(r, ST_BAD_REQUEST, code == NULL ? "missing" : "both-given", "installCode",
                          "one of installCode and linkKey is needed");
    enum st st = code != NULL ? vault_import_code_text(e->d.vault, t, code, e->allow_short, &c->key, &why)
                              : vault_import_key_text(e->d.vault, t, key, &c->key, &why);
    return st == ST_OK || refuse_key(r, st, why, code != NULL ? "installCode" : "linkKey");
}

static bool import_label(struct eg *e, struct store_txn *t, const cJSON *in, eui64_t *eui, struct code *c,
                         struct mef_result *r)
{
    const cJSON *label = cJSON_GetObjectItemCaseSensitive(in, "label"); /* with the scanner's line ends, if it has some */
    const char *why = NULL;
    size_t at = 0;
    if (label == NULL)
        return mef_refuse(r, ST_BAD_REQUEST, "missing", "label", "the text of the device's label");
    if (!cJSON_IsString(label))
        return mef_refuse(r, ST_BAD_REQUEST, "bad-value", "label", "not a text");
    enum st st = vault_import_label(e->d.vault, t, label->valuestring, e->allow_short, eui, &c->key, &why, &at);
    if (at != 0) {
        snprintf(r->text, sizeof r->text, "character %zu is no hexadecimal digit", at);
        return mef_refuse(r, st, why, "label", r->text);
    }
    return st == ST_OK || refuse_key(r, st, why, "label");
}

/* --- registrations ------------------------------------------------------------------------------------------------ */

static struct device *find_own(struct eg *e, const char *admin, eui64_t eui)
{
    struct device *d = device_find(e, eui);
    return d != NULL && d->code != NULL && strcmp(d->row.admin, admin) == 0 ? d : NULL;
}

static bool same_text(const char *a, const char *b)
{
    return (a == NULL) == (b == NULL) && (a == NULL || strcmp(a, b) == 0);
}

static bool same_access(const struct code *a, const struct code *b)
{
    if (!same_text(a->application, b->application) || a->ntargets != b->ntargets)
        return false;
    for (size_t i = 0; i < a->ntargets; i++)
        if (strcmp(a->targets[i], b->targets[i]) != 0)
            return false;
    return true;
}

static bool same_code(struct eg *e, const struct code *a, const struct code *b)
{
    return vault_same(e->d.vault, a->key, b->key) && same_access(a, b) && a->expires == b->expires &&
           a->ngateways == b->ngateways &&
           span_eq(span_of(a->gateways, a->ngateways * sizeof(eui64_t)),
                   span_of(b->gateways, b->ngateways * sizeof(eui64_t)));
}

static cJSON *code_json(struct eg *e, const struct device *d)
{
    const struct code *c = d->code;
    cJSON *o = cJSON_CreateObject();
    output_eui(o, "eui64", d->eui);
    if (c->application != NULL)
        cJSON_AddStringToObject(o, "application", c->application);
    cJSON *list = cJSON_AddArrayToObject(o, "targets");
    for (size_t i = 0; i < c->ntargets; i++)
        cJSON_AddItemToArray(list, cJSON_CreateString(c->targets[i]));
    list = cJSON_AddArrayToObject(o, "gateways");
    for (size_t i = 0; i < c->ngateways; i++) {
        char text[17];
        eui64_print(c->gateways[i], text);
        cJSON_AddItemToArray(list, cJSON_CreateString(text));
    }
    output_time(o, "expiresAt", c->expires);
    cJSON_AddStringToObject(o, "state", egp_state_name(device_state(e, d)));
    output_time(o, "createdAt", c->created);
    return o;
}

/* Room for a row of so many bytes, and for its name in the map: all that a registration can fail for. NULL: no memory. */
static struct registration *registration_new(struct eg *e, eui64_t eui, size_t n)
{
    struct registration *r = malloc(sizeof *r + n);
    if (r == NULL || (map64_get(e->codes, eui) == NULL && !map64_put(e->codes, eui, r))) {
        free(r);
        return NULL;
    }
    r->n = (uint16_t)n;
    return r;
}

static void registration_undo(struct eg *e, eui64_t eui, struct registration *r)
{
    if (map64_get(e->codes, eui) == r)
        map64_del(e->codes, eui);
    free(r);
}

/* With the row, in the place of the one before. False cannot be: the name has its place. */
static bool registration_fill(struct eg *e, eui64_t eui, struct registration *r, struct span row)
{
    struct registration *old = map64_get(e->codes, eui);
    memcpy(r->row, row.p, row.n);
    if (old == r)
        return true;
    free(old);
    return map64_put(e->codes, eui, r);
}

static bool registration_load(struct eg *e, eui64_t eui, struct span row)
{
    struct registration *r = registration_new(e, eui, row.n);
    return r != NULL && registration_fill(e, eui, r, row);
}

bool registration_own(const void *registration, const char *admin)
{
    const struct registration *r = registration;
    return span_eq(code_admin(span_of(r->row, r->n)), span_str(admin));
}

struct code *code_find(struct eg *e, eui64_t eui)
{
    const struct registration *r = map64_get(e->codes, eui);
    struct code *c = r != NULL ? calloc(1, sizeof *c) : NULL;
    if (c == NULL || code_decode(span_of(r->row, r->n), c))
        return c;
    code_discard(c);
    return NULL;
}

/* r: made for a code of the same length. */
static void store_code(struct device *d, struct store_txn *t, struct registration *r)
{
    struct eg *e = d->eg;
    uint8_t kb[8], vb[EG_MAX_ROW];
    struct wr w = wr_of(vb, sizeof vb);
    code_encode(d->code, &w);
    store_put(t, STORE_INSTALL_CODE, eui_key(d->eui, kb), wr_span(&w));
    if (w.n != r->n || !registration_fill(e, d->eui, r, wr_span(&w)))
        e->d.ops->fatal(e->d.host, "a registration has changed its length");
}

static size_t code_length(const struct code *c)
{
    uint8_t vb[EG_MAX_ROW];
    struct wr w = wr_of(vb, sizeof vb);
    code_encode(c, &w);
    return w.n;
}

void code_discard(struct code *c)
{
    if (c == NULL)
        return;
    code_free(c);
    free(c);
}

/* Undo an import in a transaction that may still be committed. */
static void refuse_code(struct eg *e, struct store_txn *t, struct code *c)
{
    if (c->key != 0)
        vault_delete(e->d.vault, t, c->key);
    code_discard(c);
}

/* The registration takes the place of d's old one, if there is one. A key awaiting proof under the old link key is
 * given up; a device that is enrolled keeps its network key, published anew when other AEs may have it. Takes over c.
 */
static bool replace_code(struct eg *e, struct store_txn *t, struct device *d, struct code *c, struct mef_result *r)
{
    struct code *old = d->code;
    struct assoc published = d->row.current;
    bool republish = d->row.has_current && (old == NULL || !same_access(old, c));
    d->code = c;
    if (republish && device_publish_key(d, t, &published) != ST_OK) {
        d->code = old;
        refuse_code(e, t, c);
        return mef_refuse(r, ST_UNAVAILABLE, NULL, NULL, "the key can not be published again");
    }
    if (republish) {
        mef_keyreg_remove(e->d.mef, t, d->row.current.relkeyid);
        d->row.current = published;
        device_store(d, t);
    }
    if (d->row.code_spent && (old == NULL || !vault_same(e->d.vault, old->key, c->key))) {
        d->row.code_spent = false; /* this one is not */
        device_store(d, t);
    }
    if (old == NULL) {
        c->created = eg_time(e);
        e->codeless--;
        return true;
    }
    c->created = old->created;
    if (vault_same(e->d.vault, old->key, c->key)) {
        vault_delete(e->d.vault, t, c->key);
        c->key = old->key;
    } else {
        pending_drop_all(d, t, WHY_CODE_CHANGED);
        device_release_link_key(d, t, old->key);
    }
    code_discard(old);
    return true;
}

/* Takes over c. */
static void put_code(struct eg *e, struct store_txn *t, const char *actor, eui64_t eui, struct code *c, bool replace,
                     struct mef_result *r)
{
    struct device *d = device_find(e, eui);
    bool is_new = d == NULL || d->code == NULL, made = d == NULL;
    if (!is_new && same_code(e, d->code, c)) {
        refuse_code(e, t, c);
        r->st = ST_OK;
        r->body = code_json(e, d);
        return;
    }
    if (!is_new && d->row.has_current && !replace) {
        refuse_code(e, t, c);
        mef_refuse(r, ST_CONFLICT, "device-enrolled", NULL,
                   "the device is enrolled; add ?replace=true to replace its code");
        return;
    }
    bool room = map64_count(e->codes) + e->codeless < e->max_devices;
    if (d == NULL && (!room || (d = device_new(e, eui, c->admin, NULL)) == NULL)) {
        refuse_code(e, t, c);
        mef_refuse(r, ST_UNAVAILABLE, "too-many", NULL, "the configured number of devices is reached");
        return;
    }
    struct registration *kept = registration_new(e, eui, code_length(c));
    if (kept == NULL) {
        refuse_code(e, t, c);
        if (made)
            device_drop(e, d);
        mef_refuse(r, ST_UNAVAILABLE, "no-memory", NULL, NULL);
        return;
    }
    if (!replace_code(e, t, d, c, r)) {
        registration_undo(e, eui, kept);
        return;
    }
    store_code(d, t, kept);
    if (made)
        device_woken(d);
    eg_gauges(e);
    eg_audit(e, t, d->row.admin, actor, "install-code.put", eui, "ok");
    failure_forget(e, d->row.admin, eui); /* what was refused before was refused for something else */
    if (!is_new)
        device_changed_later(d);
    r->st = is_new ? ST_CREATED : ST_OK;
    r->body = code_json(e, d);
}

/* May this admin register this EUI-64? That another stakeholder has it cannot be hidden: a device has one owner. Whose
 * it is, and anything about it, is not told. */
static bool may_register(struct eg *e, const char *admin, eui64_t eui, struct mef_result *r)
{
    struct device *d = device_find(e, eui);
    if (eui == 0 || eui == UINT64_MAX)
        return mef_refuse(r, ST_BAD_REQUEST, "bad-value", "eui64", "not an EUI-64 of a device");
    return d == NULL || strcmp(d->row.admin, admin) == 0 ||
           mef_refuse(r, ST_EXISTS, "exists", NULL, "this EUI-64 is registered already");
}

void eg_code_put(struct eg *e, struct store_txn *t, const char *admin, const char *actor, eui64_t eui, const cJSON *in,
                 bool replace, struct mef_result *r)
{
    static const char *const names[] = {"installCode", "linkKey", SHARED_MEMBERS};
    struct code *c = calloc(1, sizeof *c);
    if (c == NULL)
        mef_refuse(r, ST_INTERNAL, NULL, NULL, "out of memory");
    else if (input_members(in, names, r) && read_shared(e, admin, in, c, r) && import_text(e, t, in, c, r) &&
             may_register(e, admin, eui, r)) /* last: who only asks whether it is taken has to register it */
        put_code(e, t, actor, eui, c, replace, r);
    else
        refuse_code(e, t, c);
}

void eg_code_label(struct eg *e, struct store_txn *t, const char *admin, const char *actor, const cJSON *in,
                   struct mef_result *r)
{
    static const char *const names[] = {"label", SHARED_MEMBERS};
    eui64_t eui = 0;
    struct code *c = calloc(1, sizeof *c);
    if (c == NULL) {
        mef_refuse(r, ST_INTERNAL, NULL, NULL, "out of memory");
        return;
    }
    if (!input_members(in, names, r) || !read_shared(e, admin, in, c, r) || !import_label(e, t, in, &eui, c, r) ||
        !may_register(e, admin, eui, r)) {
        refuse_code(e, t, c);
        return;
    }
    struct device *d = device_find(e, eui);
    if (d != NULL && d->code != NULL) {
        refuse_code(e, t, c);
        mef_refuse(r, ST_EXISTS, "exists", "label", "this EUI-64 is registered already");
        return;
    }
    put_code(e, t, actor, eui, c, false, r);
}

void eg_code_delete(struct eg *e, struct store_txn *t, const char *admin, const char *actor, eui64_t eui,
                    struct mef_result *r)
{
    struct device *d = find_own(e, admin, eui);
    uint8_t kb[8];
    if (d == NULL) {
        mef_refuse(r, ST_NOT_FOUND, "not-found", NULL, "there is no such object");
        return;
    }
    struct code *c = d->code;
    vault_id key = c->key;
    d->code = NULL;
    e->codeless++;
    free(map64_del(e->codes, eui));
    pending_drop_all(d, t, WHY_CODE_CHANGED);
    device_release_link_key(d, t, key);
    store_del(t, STORE_INSTALL_CODE, eui_key(eui, kb));
    eg_audit(e, t, admin, actor, "install-code.delete", eui, "ok");
    code_discard(c);
    if (device_is_over(d)) {
        store_del(t, STORE_DEVICE, eui_key(eui, kb));
        device_drop(e, d);
    }
    eg_gauges(e);
    r->st = ST_DELETED;
}

cJSON *eg_code_get(struct eg *e, const char *admin, eui64_t eui)
{
    struct device *d = find_own(e, admin, eui);
    return d != NULL ? code_json(e, d) : NULL;
}

cJSON *eg_code_list(struct eg *e, const char *admin, eui64_t after, unsigned limit)
{
    const struct listing listing = {{{e->codes, registration_own}}, eg_code_get};
    return eg_list(e, &listing, admin, after, limit);
}

/* --- loading ------------------------------------------------------------------------------------------------------ */

static bool load_code(struct eg *e, struct span key, struct span val)
{
    struct rd r = rd_of(key);
    eui64_t eui;
    struct code c = {0};
    bool ok = rd_be64(&r, &eui) && rd_end(&r) && code_decode(val, &c) && vault_has(e->d.vault, c.key) &&
              registration_load(e, eui, val);
    code_free(&c);
    return ok;
}

enum st codes_load(struct eg *e)
{
    return eg_load(e, STORE_INSTALL_CODE, load_code);
}

static bool free_registration(void *user, uint64_t key, void *value)
{
    (void)user, (void)key;
    free(value);
    return true;
}

void codes_free(struct eg *e)
{
    if (e->codes != NULL)
        map64_each(e->codes, free_registration, NULL);
    map64_free(e->codes);
}
