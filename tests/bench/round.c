#include "tests/bench/round.h"

#include "config/names.h"

#include <stdio.h>

enum step { REGISTER, DEPOSIT, RETRIEVE, DROP_KEY, DEREGISTER, STEPS };
enum { OPT_LOCATION_PATH = 8 };

#define COMMON "\"et\":\"20991231T235959\",\"adfq\":\"mef.example.org\""
#define REGISTRATION "{\"" MEF_SN_CLIENT_REG "\":{" COMMON "}}"
#define KEY_REGISTRATION "{\"" MEF_SN_KEY_REG "\":{" COMMON ",\"suid\":24,\"tgis\":[\"%s\"]}}"

static const struct {
    uint8_t method, good;
    uint32_t ty;
} steps[STEPS] = {
    [REGISTER] = {CEP_POST, CEP_CODE(2, 1), MEF_TY_CLIENT_REG}, [DEPOSIT] = {CEP_POST, CEP_CODE(2, 1), MEF_TY_KEY_REG},
    [RETRIEVE] = {CEP_GET, CEP_CODE(2, 5), 0},                  [DROP_KEY] = {CEP_DELETE, CEP_CODE(2, 2), 0},
    [DEREGISTER] = {CEP_DELETE, CEP_CODE(2, 2), 0},
};

void round_begin(struct round *r, size_t client, size_t target)
{
    *r = (struct round){0};
    snprintf(r->from, sizeof r->from, "//example.org/in-cse/C%zu", client);
    snprintf(r->target, sizeof r->target, "//example.org/in-cse/C%zu", target);
}

bool round_request(struct round *r, struct load_options *o, struct cep_message *req)
{
    const char *const paths[STEPS] = {"mef", "mef", r->key, r->key, r->registration};
    const char *from = r->step == RETRIEVE ? r->target : r->from, *body = r->step <= DEPOSIT ? r->body : NULL;
    if (r->step == REGISTER)
        snprintf(r->body, sizeof r->body, REGISTRATION);
    else if (r->step == DEPOSIT)
        snprintf(r->body, sizeof r->body, KEY_REGISTRATION, r->target);
    load_primitive(o, steps[r->step].method, paths[r->step], from, body, steps[r->step].ty, req);
    return r->step == RETRIEVE;
}

static bool take_location(const struct cep_message *rsp, char *out, size_t cap)
{
    struct wr w = wr_of((uint8_t *)out, cap - 1);
    for (size_t i = 0; i < rsp->nopts; i++)
        if (rsp->opts[i].num == OPT_LOCATION_PATH) {
            if (w.n > 0)
                wr_u8(&w, '/');
            wr_bytes(&w, rsp->opts[i].val.p, rsp->opts[i].val.n);
        }
    out[w.n] = '\0';
    return wr_ok(&w) && w.n > 0;
}

bool round_took(struct round *r, const struct cep_message *rsp)
{
    bool ok = rsp->code == steps[r->step].good;
    if (ok && r->step == REGISTER)
        ok = take_location(rsp, r->registration, sizeof r->registration);
    else if (ok && r->step == DEPOSIT)
        ok = take_location(rsp, r->key, sizeof r->key);
    if (!ok)
        fprintf(stderr, "%s, step %u: %u.%02u %.*s\n", r->from, r->step, rsp->code >> 5, rsp->code & 31u,
                (int)rsp->payload.n, (const char *)rsp->payload.p);
    r->step++;
    return ok;
}

bool round_over(const struct round *r) { return r->step == STEPS; }
