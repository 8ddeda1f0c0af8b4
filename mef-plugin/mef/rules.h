/* The stakeholders' policy rules: kept, shown to their operators, and asked on the way of a request. */
#pragma once
#include "mef-plugin/mef/call.h"
#include "mef-plugin/mef/policy.h"

MUST_USE bool rules_load(struct mef *m);

/* --- rules_json.c --- */
#define RULE_MAX_LIFETIME UINT64_C(3153600000) /* seconds, 100 years */
/* NULL: refused, and r says why. To be freed by rule_free(). */
MUST_USE struct policy_rule *rule_read(struct mef *m, const char *admin, const char *name, const cJSON *in, struct mef_result *r);
cJSON *rule_json(const struct policy_rule *r);
void rule_free(struct policy_rule *r);
/* What might be asked, in an operator's words. The facts point into the rest; to be freed by strings_free(&q->labels). */
struct rule_question {
    struct policy_facts facts; /* labels NULL: those of the client's registration */
    char id[MEF_ID];
    struct strings labels;
};
MUST_USE bool question_read(struct mef *m, const cJSON *in, struct rule_question *q, struct mef_result *r);
cJSON *verdict_json(const struct policy_verdict *v);

/* What the rules of the client's stakeholder say; false: no, and the failure is set and on record under `action`.
 * labels: that the registration is to have; NULL: those that it has. */
MUST_USE bool call_policy(struct call *c, enum policy_what what, const struct strings *labels, eui64_t gateway,
                          const char *action, struct policy_verdict *v);
/* Queue what the rule has to do for the client of this fresh registration (clientcmd.c): as many as may wait. False: out
 * of memory. */
MUST_USE bool commands_begin(struct mef *m, struct store_txn *t, struct res *r, const struct policy_verdict *rule);
/* The longest life, ms, that verdict and configuration allow. */
int64_t policy_longest(const struct policy_verdict *v, int64_t max_ms);
