#include "mef-plugin/mef/policy.h"

#include <arpa/inet.h>

#define MINUTE_MS 60000
#define DAYS 7
#define EPOCH_DAY 3 /* 1970-01-01 was a Thursday */

static const uint8_t v4_prefix[POLICY_V4_BITS / 8] = {[10] = 0xff, [11] = 0xff};

bool policy_address(const char *host, uint8_t out[16])
{
    memcpy(out, v4_prefix, sizeof v4_prefix);
    return inet_pton(AF_INET, host, out + sizeof v4_prefix) == 1 || inet_pton(AF_INET6, host, out) == 1;
}

bool policy_peer_address(const char *peer, uint8_t out[16])
{
    char host[INET6_ADDRSTRLEN];
    bool v6 = peer[0] == '[';
    size_t n = v6 ? strcspn(++peer, "]%") : strcspn(peer, ":");
    if (n == 0 || n >= sizeof host)
        return false;
    memcpy(host, peer, n);
    host[n] = '\0';
    return policy_address(host, out);
}

bool policy_is_v4(const uint8_t address[16])
{
    return memcmp(address, v4_prefix, sizeof v4_prefix) == 0;
}

static bool id_fits(const struct strings *ids, const char *id)
{
    for (size_t i = 0; i < ids->n; i++) {
        size_t n = strlen(ids->v[i]);
        bool many = n > 0 && ids->v[i][n - 1] == '*';
        if (many ? strncmp(ids->v[i], id, n - 1) == 0 : strcmp(ids->v[i], id) == 0)
            return true;
    }
    return ids->n == 0;
}

static bool label_fits(const struct strings *wanted, const struct strings *has)
{
    for (size_t i = 0; has != NULL && i < has->n; i++)
        if (strings_has(wanted, has->v[i]))
            return true;
    return wanted->n == 0;
}

static bool in_network(const struct policy_network *n, const uint8_t address[16])
{
    size_t whole = n->bits / 8u;
    unsigned rest = n->bits % 8u;
    if (n->bits < POLICY_V4_BITS && policy_is_v4(address)) /* ::/0 is all of IPv6, and no more */
        return false;
    return memcmp(n->prefix, address, whole) == 0 &&
           (rest == 0 || (n->prefix[whole] ^ address[whole]) >> (8 - rest) == 0);
}

static bool network_fits(const struct policy_rule *r, const struct policy_facts *f)
{
    for (size_t i = 0; f->has_address && i < r->nnetworks; i++)
        if (in_network(&r->networks[i], f->address))
            return true;
    return r->nnetworks == 0;
}

static bool gateway_fits(const struct policy_rule *r, eui64_t gateway)
{
    for (size_t i = 0; gateway != 0 && i < r->ngateways; i++)
        if (r->gateways[i] == gateway)
            return true;
    return r->ngateways == 0;
}

static bool time_fits(const struct policy_rule *r, int64_t now)
{
    int64_t minutes = now / MINUTE_MS;
    unsigned minute = (unsigned)(minutes % POLICY_DAY_MINUTES);
    unsigned day = (unsigned)((minutes / POLICY_DAY_MINUTES + EPOCH_DAY) % DAYS);
    bool overnight = r->from > r->to;
    if (overnight && minute < r->to)
        day = (day + DAYS - 1) % DAYS;
    else if (overnight ? minute < r->from : r->from < r->to && (minute < r->from || minute >= r->to))
        return false;
    return r->days == 0 || (r->days >> day & 1u) != 0;
}

static bool rule_fits(const struct policy_rule *r, const struct policy_facts *f)
{
    return (r->what >> f->what & 1u) != 0 && id_fits(&r->ids, f->id) && label_fits(&r->labels, f->labels) &&
           network_fits(r, f) && gateway_fits(r, f->gateway) && time_fits(r, f->now);
}

struct policy_verdict policy_decide(const struct policy_rule *first, const struct policy_facts *f)
{
    for (const struct policy_rule *r = first; r != NULL; r = r->next)
        if (rule_fits(r, f))
            return (struct policy_verdict){.allow = !r->deny,
                                           .lifetime = r->lifetime,
                                           .targets = r->targets.n > 0 ? &r->targets : NULL,
                                           .commands = r->commands.n > 0 ? &r->commands : NULL,
                                           .rule = r->name};
    return (struct policy_verdict){.allow = true};
}
