/* Operator REST under /v1 (docs/rest-api.md): routes, operator credentials and roles; the objects are mef/'s and eg/'s. */
#pragma once
#include "mef-plugin/eg/eg.h"

struct admin;
struct admin_deps {
    struct cse_host *host;
    const struct cse_host_ops *ops;
    const struct conf *conf;
    struct store *store;
    struct vault *vault;
    struct audit *audit;
    struct mef *mef;
    struct eg *eg;
};
extern const struct conf_option admin_options[]; /* section [token.*]: file, admin-fqdn, role */
MUST_USE struct admin *admin_open(const struct admin_deps *d, char *err, size_t errlen); /* reads the token files */
void admin_close(struct admin *a);
/* SIGHUP: read the token files again; on failure the old tokens stay. */
MUST_USE bool admin_reload(struct admin *a, const struct conf *conf, char *err, size_t errlen);
/* Handle a CSE_SERVICE request at or below "v1". */
void admin_handle(struct admin *a, struct cse_request *req);
/* An observation ended, of /v1/events or of another room. */
void admin_observe_end(struct admin *a, uint64_t observation);
