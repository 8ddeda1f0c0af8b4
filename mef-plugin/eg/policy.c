#include "mef-plugin/eg/policy.h"

/* In order: the first rule refuses whose `with` facts all hold and whose `without` facts all do not. What a stranger
 * asks is answered before anything about the device itself is told. */
static const struct {
    unsigned with, without;
    enum egp_reason reason;
} rules[] = {
    {0, FACT_OWNED, EGP_UNAVAILABLE},         {0, FACT_PAN_ALLOWED, EGP_GATEWAY_NOT_ALLOWED},
    {0, FACT_REGISTERED, EGP_UNKNOWN_DEVICE}, {0, FACT_GATEWAY_ALLOWED, EGP_GATEWAY_NOT_ALLOWED},
    {FACT_EXPIRED | FACT_ASSOCIATION, 0, EGP_CODE_EXPIRED},
    {FACT_REVOKED, FACT_REARMED, EGP_DEVICE_REVOKED},
    {0, FACT_ASSOCIATION | FACT_LINK_KEY, EGP_NO_LINK_KEY},
    {0, FACT_IN_DOMAIN, EGP_PARENT_KEY_DOMAIN},
    {FACT_CODE_SPENT | FACT_ASSOCIATION, FACT_REARMED, EGP_CODE_SPENT},
    {0, FACT_WITHIN_RATE, EGP_RATE_LIMITED},
};

struct policy_verdict policy_join(unsigned facts)
{
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if ((facts & rules[i].with) == rules[i].with && (facts & rules[i].without) == 0)
            return (struct policy_verdict){POLICY_REFUSE, rules[i].reason};
    return (struct policy_verdict){facts & FACT_PENDING_HERE ? POLICY_RESEND : POLICY_NEW_KEY, EGP_OK};
}
