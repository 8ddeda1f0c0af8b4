/* Who may use the operator REST: bearer tokens, each with a role and the stakeholder whose objects it governs. */
#pragma once
#include "mef-plugin/admin/admin.h"

enum admin_role { ROLE_VIEWER = 1, ROLE_INSTALLER = 2, ROLE_ADMIN = 4 };

struct rest_operator {
    char *name;  /* NAME of [token.NAME] */
    char *admin; /* adminFQDN */
    enum admin_role role;
    uint8_t mac[32]; /* of the token; the token itself is not kept */
    struct rest_operator *next;
};

/* Read every [token.NAME] section; a bad file or value is one line in err. */
MUST_USE bool operators_read(struct vault *v, const struct conf *conf, struct rest_operator **list, char *err, size_t errlen);
void operators_free(struct rest_operator *list);
/* The operator whose token "Bearer TOKEN" carries; NULL and *code ("no-token", "bad-token"). */
const struct rest_operator *operator_find(struct vault *v, const struct rest_operator *list, const char *authorization,
                                     const char **code);
