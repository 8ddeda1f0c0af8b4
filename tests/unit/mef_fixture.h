/* Mmef's clients and operators in the rooms of plugin_fixture.h: who they are, what they ask, what they hear. */
#pragma once
#include "tests/unit/audit_page.h"
#include "tests/unit/plugin_fixture.h"

#include "mef-plugin/mef/internal.h"

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#define KEY16 "AAECAwQFBgcICQoLDA0ODw=="
#define LATER "20270101T000000"
#define SKR(suid, tgis, more)                                                                                          \
    "{'sec:skr':{'et':'" LATER "','adfq':'sp.example.com','suid':" suid ",'tgis':" tgis more "}}"

/* --- the operator ------------------------------------------------------------------------------------------------- */

/* A credential for id; its KpmID is left in kpm_id. */
void give_credential(struct world *w, const char *admin, const char *id, char kpm_id[128]);
/* A credential by certificate, as the JSON says; its id is left in id. */
enum st certify(struct world *w, const char *admin, const char *body, char id[128]);
enum st put_rule(struct world *w, const char *admin, const char *name, const char *body);
bool in_trail(struct world *w, const char *admin, const char *action, const char *outcome);

/* --- clients ------------------------------------------------------------------------------------------------------ */

struct who {
    const char *kpm_id, *from;
    uint64_t session;
};

/* Two clients of one stakeholder, one of another, and a gateway. */
struct people {
    char a_id[128], b_id[128], x_id[128], g_id[128];
    struct who a, b, x, g;
};

void meet(struct world *w, struct people *p);
void enrol(struct world *w, const struct who *who);

/* One primitive; the answer is in w->host. */
enum st ask(struct world *w, const struct who *who, enum cse_op op, const char *path, int ty, const char *body,
            const struct cse_param *params, size_t nparams);
enum st create(struct world *w, const struct who *who, int ty, const char *body);
enum st get(struct world *w, const struct who *who, const char *path);
const cJSON *attrs(const struct world *w);             /* of the answer's resource; NULL: none */
const char *location(struct world *w, char out[128]);  /* of the answer */
