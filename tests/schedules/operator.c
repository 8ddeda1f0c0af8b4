/* The operator: registers, replaces, deletes, revokes and re-arms; each wish is asked until it is answered. */
#include "tests/schedules/model.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

const char *const domain_names[NDOMAINS] = {NULL, "hall", "cellar"};

struct reply { /* of a request that is answered before the caller goes on */
    enum st st;
    char *text; /* of one member */
    const char *member;
};

static void on_reply(void *user, uint64_t tag, const struct vanswer *a)
{
    struct reply *r = user;
    (void)tag;
    r->st = a->status;
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(a->pc, r->member));
    r->text = text != NULL ? strdup(text) : NULL;
}

static char *ask_now(struct world *w, enum cse_op op, const char *path, const char *token, const char *body,
                     const char *member)
{
    struct reply r = {ST_INTERNAL, NULL, member};
    vhost_ask(
        w->h,
        &(struct vask){
            .op = op, .path = path, .body = span_str(body), .authorization = token, .done = on_reply, .user = &r});
    vhost_disk(w->h);
    if (st_map(r.st)->http >= 300)
        breach(w, "%s %s: %s", path, body, st_map(r.st)->text);
    return r.text;
}

static void make_credential(struct world *w, bool foreign, const char *who, char kpm[80])
{
    char body[200];
    snprintf(body, sizeof body, "{\"for\":\"%s\",\"kind\":\"psk\"}", who);
    char *id = ask_now(w, CSE_CREATE, "v1/credentials", foreign ? VHOST_OTHER_OPERATOR : VHOST_OPERATOR, body, "kpmId");
    snprintf(kpm, 80, "%s", id != NULL ? id : "");
    free(id);
}

static void wish_first(struct device *d)
{
    struct registration r = {.exists = true, .code = d->kind == KIND_WRONG_CODE};
    if (d->kind == KIND_STRANGER)
        return;
    if (d->kind == KIND_ELSEWHERE)
        r.gateways = ((1u << MAX_GATEWAYS) - 1) & ~(1u << d->home);
    else if (chance(d->w, 300))
        r.gateways = 1u << d->home;
    if (d->kind == KIND_EXPIRED)
        r.expires = (int64_t)draw(d->w, 60000) + 1000;
    operator_wish(d, OP_PUT, &r);
}

void operator_start(struct world *w)
{
    char path[64], who[64], body[300];
    for (unsigned i = 0; i < w->ngateways; i++) {
        struct gateway *g = &w->gateways[i];
        snprintf(who, sizeof who, "gateway:%u", i);
        make_credential(w, g->foreign, who, g->kpm);
        snprintf(path, sizeof path, "v1/gateways/%016" PRIx64, g->eui);
        snprintf(body, sizeof body, "{\"identity\":\"%s\",\"firstKeyForm\":\"%s\"}", g->kpm,
                 g->extended ? "extended" : "plain");
        free(ask_now(w, CSE_UPDATE, path, g->foreign ? VHOST_OTHER_OPERATOR : VHOST_OPERATOR, body, "eui64"));
    }
    for (unsigned i = 0; i < NAES; i++) {
        snprintf(w->aes[i].id, sizeof w->aes[i].id, "//example.org/in-cse/Cae%u", i);
        make_credential(w, false, w->aes[i].id, w->aes[i].kpm);
    }
    for (unsigned i = 1; i < NDOMAINS; i++) {
        snprintf(path, sizeof path, "v1/applications/%s", domain_names[i]);
        snprintf(body, sizeof body, "{\"keyScope\":\"application\",\"members\":[\"%s\"]}", w->aes[0].id);
        free(ask_now(w, CSE_UPDATE, path, VHOST_OPERATOR, body, "name"));
    }
    for (unsigned i = 0; i < w->ndevices; i++)
        wish_first(&w->devices[i]);
}

/* --- wishes ------------------------------------------------------------------------------------------------------- */

void operator_wish(struct device *d, enum op op, const struct registration *put)
{
    if (d->nwishes == sizeof d->wishes / sizeof d->wishes[0])
        return;
    d->wishes[d->nwishes++] = (struct wish){op, put != NULL ? *put : (struct registration){0}};
    d->w->tally.wishes++;
}

/* What the wish makes of a registration. A code that is deleted takes a device that is not enrolled with it; one that is
 * goes when it is revoked. */
static struct registration granted(const struct wish *x, struct registration r)
{
    switch (x->op) {
    case OP_PUT:
        return (struct registration){true, r.revoked, r.rearmed, x->put.code, x->put.gateways, x->put.expires};
    case OP_DELETE:
        return (struct registration){0};
    case OP_REVOKE:
        r.revoked = r.exists;
        r.rearmed = false;
        return r;
    default:
        r.rearmed = true;
        return r;
    }
}

static bool changes_code(const struct device *d, const struct wish *x)
{
    return x->op == OP_DELETE || (x->op == OP_PUT && (!d->reg.exists || x->put.code != d->reg.code));
}

/* What it does to a spent code, and to the window for using it again. */
static void note_done(struct device *d, const struct wish *x)
{
    uint64_t now = vhost_now(d->w->h);
    if (changes_code(d, x)) {
        d->code_touched = now;
        d->spent = false;
        d->perhaps_spent &= d->verified >= d->wish_since;
    }
    if (x->op == OP_REARM)
        d->rearm_granted = now;
    else if (x->op == OP_REVOKE)
        d->rearm_asked = d->rearm_granted = 0;
    else if (x->op == OP_DELETE)
        d->rearm_granted = 0;
}

static void settle(void *user, uint64_t index, const struct vanswer *a)
{
    struct world *w = user;
    struct device *d = &w->devices[index];
    unsigned http = st_map(a->status)->http;
    d->asked = false;
    if (http >= 500)
        return; /* asked again */
    d->perhaps = false;
    const struct wish *x = &d->wishes[0];
    trace(w, "operator: device %u: op %u: %u %s", d->index, x->op, http, a->code);
    if (http < 300 || (x->op == OP_DELETE && http == 404 && d->reg.exists)) { /* done, and its answer was lost */
        note_done(d, x);
        d->reg = d->then;
    } else if (http != 404 && !(x->op == OP_PUT && strcmp(a->code, "past") == 0)) /* asked again after it had expired */
        breach(w, "the operator's wish %u for device %u was refused: %u %s", x->op, d->index, http, a->code);
    d->wish_since = 0;
    memmove(d->wishes, d->wishes + 1, --d->nwishes * sizeof d->wishes[0]);
}

static void put_body(struct device *d, const struct registration *r, char body[600])
{
    int n = snprintf(body, 600, "{\"installCode\":\"%s\"", d->codes[r->code]);
    if (d->kind != KIND_FOREIGN)
        n += snprintf(body + n, 600 - (size_t)n, ",\"targets\":[\"%s\"]", d->w->aes[0].id);
    if (d->domain != 0)
        n += snprintf(body + n, 600 - (size_t)n, ",\"application\":\"%s\"", domain_names[d->domain]);
    if (r->gateways != 0) {
        const char *sep = "";
        n += snprintf(body + n, 600 - (size_t)n, ",\"gateways\":[");
        for (unsigned i = 0; i < MAX_GATEWAYS; i++)
            if ((r->gateways >> i & 1) != 0) {
                n += snprintf(body + n, 600 - (size_t)n, "%s\"%016" PRIx64 "\"", sep, 0x00124b001ca1b200u + i);
                sep = ",";
            }
        n += snprintf(body + n, 600 - (size_t)n, "]");
    }
    if (r->expires != 0) {
        time_t at = (time_t)((VHOST_EPOCH + r->expires) / 1000);
        char text[40];
        struct tm tm;
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&at, &tm));
        n += snprintf(body + n, 600 - (size_t)n, ",\"expiresAt\":\"%s\"", text);
    }
    snprintf(body + n, 600 - (size_t)n, "}");
}

static void ask_wish(struct device *d)
{
    static const char *const acts[] = {[OP_REVOKE] = "revoke", [OP_REARM] = "rearm"};
    const struct wish *x = &d->wishes[0];
    char path[80], body[600] = "";
    struct vask a = {.path = path,
                     .authorization = d->kind == KIND_FOREIGN ? VHOST_OTHER_OPERATOR : VHOST_OPERATOR,
                     .done = settle,
                     .user = d->w,
                     .tag = d->index};
    if (x->op == OP_PUT || x->op == OP_DELETE)
        snprintf(path, sizeof path, "v1/install-codes/%016" PRIx64, d->eui);
    else
        snprintf(path, sizeof path, "v1/devices/%016" PRIx64 "/%s", d->eui, acts[x->op]);
    a.op = x->op == OP_PUT ? CSE_UPDATE : x->op == OP_DELETE ? CSE_DELETE : CSE_CREATE;
    if (x->op == OP_PUT) {
        put_body(d, &x->put, body);
        a.body = span_str(body);
        a.query[0][0] = "replace";
        a.query[0][1] = "true";
    }
    d->asked = d->perhaps = true;
    d->then = granted(x, d->reg);
    if (d->wish_since == 0)
        d->wish_since = vhost_now(d->w->h);
    if (x->op == OP_REARM)
        d->rearm_asked = vhost_now(d->w->h);
    if (changes_code(d, x)) {
        d->code_touched = vhost_now(d->w->h);
        d->spent = false;
    }
    if (x->op == OP_REVOKE || x->op == OP_DELETE)
        d->enrolled = false;
    vhost_ask(d->w->h, &a);
}

static void change_mind(struct device *d)
{
    struct registration r = d->reg;
    switch (draw(d->w, 6)) {
    case 0:
        operator_wish(d, OP_PUT, &r); /* the same again */
        return;
    case 1:
        r.code = !r.code;
        operator_wish(d, OP_PUT, &r);
        return;
    case 2:
        operator_wish(d, OP_DELETE, NULL);
        return;
    case 3:
        operator_wish(d, OP_REVOKE, NULL);
        return;
    default:
        operator_wish(d, OP_REARM, NULL);
        if (!r.exists)
            operator_wish(d, OP_PUT, &r);
    }
}

static void look(void *user, uint64_t tag, const struct vanswer *a)
{
    struct world *w = user;
    if (a->status == ST_OK)
        oracle_state(&w->devices[tag % MAX_DEVICES], a->pc, tag / MAX_DEVICES);
}

static void look_at(struct device *d)
{
    char path[64];
    snprintf(path, sizeof path, "v1/devices/%016" PRIx64, d->eui);
    vhost_ask(d->w->h, &(struct vask){.op = CSE_RETRIEVE,
                                      .path = path,
                                      .authorization = VHOST_OPERATOR,
                                      .done = look,
                                      .user = d->w,
                                      .tag = vhost_now(d->w->h) * MAX_DEVICES + d->index});
}

void operator_tick(void *user, uint64_t arg)
{
    struct world *w = user;
    (void)arg;
    for (unsigned i = 0; i < w->ndevices && vhost_running(w->h); i++) {
        struct device *d = &w->devices[i];
        if (!w->calm && d->kind == KIND_GOOD && vhost_now(w->h) > 20000 && chance(w, w->restlessness))
            change_mind(d);
        if (d->nwishes > 0 && !d->asked)
            ask_wish(d);
        else if (chance(w, 300))
            look_at(d);
    }
    vhost_at(w->h, 700, operator_tick, w, 0);
}

/* Most of the good devices are to be served in the end. */
void operator_make_right(struct world *w)
{
    for (unsigned i = 0; i < w->ndevices; i++) {
        struct device *d = &w->devices[i];
        if (d->kind != KIND_GOOD || chance(w, 250))
            continue;
        operator_wish(d, OP_PUT, &(struct registration){.gateways = d->reg.gateways});
        operator_wish(d, OP_REARM, NULL);
    }
}

static bool allows(const struct device *d, const struct registration *r, unsigned gateway, bool rejoin)
{
    bool ours = (d->kind == KIND_FOREIGN) == d->w->gateways[gateway].foreign;
    return ours && r->exists && (r->gateways == 0 || (r->gateways >> gateway & 1) != 0) &&
           (rejoin || r->expires == 0 || r->expires > (int64_t)vhost_now(d->w->h) - 1000) && /* told in whole seconds */
           (!r->revoked || r->rearmed);
}

bool certainly_not_rearmed(const struct device *d)
{
    return d->rearm_asked == 0 || (d->rearm_granted >= d->rearm_asked && d->rearm_granted < d->earned);
}

bool certainly_rearmed(const struct device *d)
{
    return d->rearm_granted != 0 && d->confirmed >= d->verified && d->rearm_asked > d->confirmed;
}

bool may_have_key(const struct device *d, unsigned gateway, bool rejoin)
{
    if (!allows(d, &d->reg, gateway, rejoin) && !(d->perhaps && allows(d, &d->then, gateway, rejoin)))
        return false;
    return rejoin ? oracle_enrolled_at(d, gateway) : !d->spent || !certainly_not_rearmed(d);
}
