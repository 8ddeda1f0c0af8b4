/* Who may use the operator REST: bearer tokens and names of certificates, each with a role and the stakeholder whose
 * objects it governs. */
#pragma once
#include "mef-plugin/admin/admin.h"

enum admin_role { ROLE_VIEWER = 1, ROLE_INSTALLER = 2, ROLE_ADMIN = 4 };

struct rest_operator {
    char *name;  /* NAME of [token.NAME] or [operator.NAME] */
    char *admin; /* adminFQDN */
    enum admin_role role;
    char *san;       /* of its certificate; NULL: it has a token */
    uint8_t mac[32]; /* of the token; the token itself is not kept */
    struct rest_operator *next;
};

/* Read every [token.NAME] and [operator.NAME] section; a bad file or value is one line in err. */
MUST_USE bool operators_read(struct vault *v, const struct conf *conf, struct rest_operator **list, char *err, size_t errlen);
void operators_free(struct rest_operator *list);
/* The operator whose token "Bearer TOKEN" carries, or without Authorization whose certificate the peer of an HTTPS
 * connection has shown; NULL and *code ("no-token", "bad-token"). */
const struct rest_operator *operator_find(struct vault *v, const struct rest_operator *list,
                                          const struct cse_request *req, const char **code);
