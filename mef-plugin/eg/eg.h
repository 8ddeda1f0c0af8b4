/* Enrolment Gateway: install codes, gateways, devices; EgRequest to EgResponse; frames between devices and AEs. It is
 * the coordinator above the MAC (design rules in docs/decisions.md). */
#pragma once
#include "cse-shim/cse_plugin.h"
#include "mef-plugin/egp/egp.h"
#include "mef-plugin/mef/mef.h"

struct eg;
struct eg_deps {
    struct cse_host *host;
    const struct cse_host_ops *ops;
    const struct conf *conf;
    struct store *store;
    struct vault *vault;
    struct audit *audit;
    struct mef *mef;
};
extern const struct conf_option eg_options[]; /* section [eg] */
MUST_USE struct eg *eg_open(const struct eg_deps *d, char *err, size_t errlen);
void eg_close(struct eg *e); /* while the store is open: its last rows are committed here. NULL is fine */

/* Handle a CSE_RAW request at or below "{base}/eg": POST {base}/eg (EG protocol), GET .../devices/<eui64>,
 * GET (observe) and POST .../frames/<eui64>. */
void eg_handle(struct eg *e, struct cse_request *req);
void eg_observe_end(struct eg *e, uint64_t observation);
void eg_session_end(struct eg *e, uint64_t session);

/* --- admin REST; the conventions of mef.h's mef_result apply ------------------------------------------------------ */
void eg_code_put(struct eg *e, struct store_txn *t, const char *admin, const char *actor, eui64_t eui, const cJSON *in,
                 bool replace, struct mef_result *r);
void eg_code_label(struct eg *e, struct store_txn *t, const char *admin, const char *actor, const cJSON *in,
                   struct mef_result *r);
void eg_code_delete(struct eg *e, struct store_txn *t, const char *admin, const char *actor, eui64_t eui,
                    struct mef_result *r);
cJSON *eg_code_get(struct eg *e, const char *admin, eui64_t eui); /* never the code; NULL: none */
/* Lists page by EUI-64: at most limit items above `after`. */
cJSON *eg_code_list(struct eg *e, const char *admin, eui64_t after, unsigned limit);
void eg_gateway_put(struct eg *e, struct store_txn *t, const char *admin, const char *actor, eui64_t eui,
                    const cJSON *in, struct mef_result *r);
void eg_gateway_delete(struct eg *e, struct store_txn *t, const char *admin, const char *actor, eui64_t eui,
                       struct mef_result *r);
cJSON *eg_gateway_get(struct eg *e, const char *admin, eui64_t eui);
cJSON *eg_gateway_list(struct eg *e, const char *admin);
cJSON *eg_device_get(struct eg *e, const char *admin, eui64_t eui);
cJSON *eg_device_list(struct eg *e, const char *admin, eui64_t after, unsigned limit);
/* A sentence for the token that `text` begins with (a reason, the outcome of an audit row); NULL: not one of the EG's. */
const char *eg_explanation(const char *text);
/* Has a device of this EUI-64, for which nothing is registered, asked to join lately? Then r refuses as "unknown-device" and
 * says where, and which registration is nearest. */
bool eg_explain_stranger(struct eg *e, const char *admin, eui64_t eui, struct mef_result *r);
/* action: "revoke", "rearm", "rekey" (not served yet: ST_NOT_IMPLEMENTED). */
void eg_device_action(struct eg *e, struct store_txn *t, const char *admin, const char *actor, eui64_t eui,
                      const char *action, struct mef_result *r);
