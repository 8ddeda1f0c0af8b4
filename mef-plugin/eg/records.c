#include "mef-plugin/eg/records.h"

#include <stdlib.h>

#define ROW_VERSION 1
/* 1: before there was a second exchange; whatever had a key was enrolled. 2: before there were routers. */
#define DEVICE_VERSION 3

static const char *const reasons[WHY_COUNT] = {
    [WHY_NO_FRAME] = "no-secured-frame-seen",
    [WHY_REVOKED] = "revoked",
    [WHY_CODE_CHANGED] = "install-code-changed",
    [WHY_NO_EXCHANGE] = "no-second-exchange",
    [WHY_NOT_VERIFIED] = "link-key-not-verified",
    [WHY_BAD_VERIFY] = "verify-key-wrong",
    [WHY_LEFT] = "left",
    [WHY_NOT_OPENED] = "first-key-not-opened",
    [WHY_NOT_DELIVERED] = "first-key-not-delivered",
};

const char *device_reason_name(enum device_reason r)
{
    return (unsigned)r < WHY_COUNT ? reasons[r] : NULL;
}

/* --- fields: texts as length and bytes (NULL as length 0), flags as one bit each, times as 64 bits ---------------- */

static void put_text(struct wr *w, const char *s)
{
    size_t n = s != NULL ? strlen(s) : 0;
    wr_be16(w, (uint16_t)n);
    wr_bytes(w, s, n);
}

static bool is_text(struct span s)
{
    return s.n <= EG_MAX_TEXT && (s.n == 0 || memchr(s.p, '\0', s.n) == NULL);
}

/* A text of the heap, NULL for an empty one. */
static bool get_text(struct rd *r, char **out)
{
    uint16_t n;
    struct span s;
    *out = NULL;
    if (!rd_be16(r, &n) || !rd_span(r, n, &s) || !is_text(s))
        return false;
    if (n == 0)
        return true;
    *out = strndup((const char *)s.p, s.n);
    return *out != NULL;
}

static bool get_needed_text(struct rd *r, char **out)
{
    return get_text(r, out) && *out != NULL;
}

static void put_texts(struct wr *w, char *const *list, size_t n)
{
    wr_u8(w, (uint8_t)n);
    for (size_t i = 0; i < n; i++)
        put_text(w, list[i]);
}

static bool get_texts(struct rd *r, char **list, size_t max, size_t *n)
{
    uint8_t count;
    if (!rd_u8(r, &count) || count > max)
        return false;
    for (; *n < count; (*n)++)
        if (!get_needed_text(r, &list[*n]))
            return false;
    return true;
}

static void free_texts(char **list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(list[i]);
}

static bool get_time(struct rd *r, int64_t *out)
{
    uint64_t v;
    if (!rd_be64(r, &v) || v > INT64_MAX)
        return false;
    *out = (int64_t)v;
    return true;
}

static bool get_version(struct rd *r)
{
    uint8_t v;
    return rd_u8(r, &v) && v == ROW_VERSION;
}

/* Flags of a row: bits at or above `end` must be clear. */
static bool get_flags(struct rd *r, unsigned end, uint8_t *out)
{
    return rd_u8(r, out) && *out < end;
}

/* --- install-code registration ------------------------------------------------------------------------------------ */

void code_encode(const struct code *c, struct wr *w)
{
    wr_u8(w, ROW_VERSION);
    put_text(w, c->admin);
    wr_be64(w, c->key);
    put_text(w, c->application);
    put_texts(w, c->targets, c->ntargets);
    wr_u8(w, (uint8_t)c->ngateways);
    for (size_t i = 0; i < c->ngateways; i++)
        wr_be64(w, c->gateways[i]);
    wr_be64(w, (uint64_t)c->expires);
    wr_be64(w, (uint64_t)c->created);
}

static bool get_gateways(struct rd *r, struct code *c)
{
    uint8_t n;
    if (!rd_u8(r, &n) || n > EG_MAX_GATEWAYS)
        return false;
    for (; c->ngateways < n; c->ngateways++)
        if (!rd_be64(r, &c->gateways[c->ngateways]))
            return false;
    return true;
}

bool code_decode(struct span in, struct code *c)
{
    struct rd r = rd_of(in);
    memset(c, 0, sizeof *c);
    return get_version(&r) && get_needed_text(&r, &c->admin) && rd_be64(&r, &c->key) && get_text(&r, &c->application) &&
           get_texts(&r, c->targets, EG_MAX_TARGETS, &c->ntargets) && get_gateways(&r, c) &&
           get_time(&r, &c->expires) && get_time(&r, &c->created) && rd_end(&r);
}

struct span code_admin(struct span row)
{
    struct rd r = rd_of(row);
    struct span admin = {0};
    uint16_t n;
    bool ok = get_version(&r) && rd_be16(&r, &n) && rd_span(&r, n, &admin);
    return ok ? admin : (struct span){0};
}

void code_free(struct code *c)
{
    free(c->admin);
    free(c->application);
    free_texts(c->targets, c->ntargets);
    memset(c, 0, sizeof *c);
}

/* --- gateway ------------------------------------------------------------------------------------------------------ */

void gateway_encode(const struct gateway_row *g, struct wr *w)
{
    wr_u8(w, ROW_VERSION);
    put_text(w, g->admin);
    put_text(w, g->identity);
    put_text(w, g->name);
    wr_u8(w, (uint8_t)g->npans);
    for (size_t i = 0; i < g->npans; i++)
        wr_be16(w, g->pans[i]);
    put_texts(w, g->applications, g->napplications);
    wr_u8(w, g->extended);
    wr_be64(w, (uint64_t)g->created);
}

static bool get_pans(struct rd *r, struct gateway_row *g)
{
    uint8_t n;
    if (!rd_u8(r, &n) || n > EG_MAX_PANS)
        return false;
    for (; g->npans < n; g->npans++)
        if (!rd_be16(r, &g->pans[g->npans]))
            return false;
    return true;
}

bool gateway_decode(struct span in, struct gateway_row *g)
{
    struct rd r = rd_of(in);
    uint8_t flags;
    memset(g, 0, sizeof *g);
    if (!get_version(&r) || !get_needed_text(&r, &g->admin) || !get_needed_text(&r, &g->identity) ||
        !get_text(&r, &g->name) || !get_pans(&r, g) ||
        !get_texts(&r, g->applications, EG_MAX_PANS, &g->napplications) || !get_flags(&r, 2, &flags) ||
        !get_time(&r, &g->created) || !rd_end(&r))
        return false;
    g->extended = flags;
    return true;
}

void gateway_row_free(struct gateway_row *g)
{
    free(g->admin);
    free(g->identity);
    free(g->name);
    free_texts(g->applications, g->napplications);
    memset(g, 0, sizeof *g);
}

/* --- device ------------------------------------------------------------------------------------------------------- */

/* A row of a device: its version, and what has come with it. */
static bool has_exchange(uint8_t version)
{
    return version >= 2;
}

static bool has_parent(uint8_t version)
{
    return version >= 3;
}

static void put_assoc(struct wr *w, const struct assoc *a)
{
    wr_be64(w, a->network_key);
    wr_be64(w, a->link_key);
    wr_u8(w, a->key_seq);
    wr_u8(w, a->capability);
    wr_be64(w, a->gateway);
    wr_be16(w, a->pan);
    wr_be16(w, a->address);
    wr_be16(w, a->next_hop);
    wr_be32(w, a->counter_next);
    wr_bytes(w, a->relkeyid, MEF_RELKEYID);
    wr_be64(w, a->tclk);
    wr_be64(w, a->offered);
    wr_be32(w, a->aps_next);
    wr_be64(w, a->parent);
}

static bool get_assoc(struct rd *r, uint8_t version, struct assoc *a)
{
    return rd_be64(r, &a->network_key) && rd_be64(r, &a->link_key) && rd_u8(r, &a->key_seq) &&
           rd_u8(r, &a->capability) && rd_be64(r, &a->gateway) && rd_be16(r, &a->pan) && rd_be16(r, &a->address) &&
           rd_be16(r, &a->next_hop) && rd_be32(r, &a->counter_next) && rd_bytes(r, a->relkeyid, MEF_RELKEYID) &&
           memchr(a->relkeyid, '\0', MEF_RELKEYID) != NULL &&
           (!has_exchange(version) || (rd_be64(r, &a->tclk) && rd_be64(r, &a->offered) && rd_be32(r, &a->aps_next))) &&
           (!has_parent(version) || rd_be64(r, &a->parent));
}

enum { ROW_CURRENT = 1, ROW_REVOKED = 2, ROW_ENROLLED = 4, ROW_SPENT = 8, ROW_FLAGS_END = 16 };

static void put_pending(struct wr *w, const struct pending *list)
{
    uint8_t n = 0;
    for (const struct pending *p = list; p != NULL; p = p->next)
        n++;
    wr_u8(w, n);
    for (const struct pending *p = list; p != NULL; p = p->next) {
        put_assoc(w, &p->assoc);
        wr_be64(w, (uint64_t)p->since);
    }
}

static bool get_pending(struct rd *r, uint8_t version, struct pending **end)
{
    uint8_t n;
    if (!rd_u8(r, &n) || n > EG_MAX_PENDING)
        return false;
    for (; n > 0; n--, end = &(*end)->next)
        if ((*end = calloc(1, sizeof **end)) == NULL || !get_assoc(r, version, &(*end)->assoc) ||
            !get_time(r, &(*end)->since))
            return false;
    return true;
}

void device_encode(const struct device_row *d, struct wr *w)
{
    wr_u8(w, DEVICE_VERSION);
    put_text(w, d->admin);
    wr_u8(w, (uint8_t)((d->has_current ? ROW_CURRENT : 0) | (d->revoked ? ROW_REVOKED : 0) |
                       (d->enrolled ? ROW_ENROLLED : 0) | (d->code_spent ? ROW_SPENT : 0)));
    wr_u8(w, (uint8_t)d->reason);
    if (d->has_current)
        put_assoc(w, &d->current);
    put_pending(w, d->pending);
    wr_be64(w, (uint64_t)d->rearm_until);
    wr_be64(w, (uint64_t)d->last_seen);
    wr_be64(w, (uint64_t)d->exchange_since);
    wr_be64(w, d->shared_key);
    wr_be32(w, d->shared_next);
}

bool device_decode(struct span in, struct device_row *d)
{
    struct rd r = rd_of(in);
    uint8_t version, flags, reason;
    memset(d, 0, sizeof *d);
    if (!rd_u8(&r, &version) || version == 0 || version > DEVICE_VERSION || !get_needed_text(&r, &d->admin) ||
        !get_flags(&r, has_exchange(version) ? ROW_FLAGS_END : ROW_ENROLLED, &flags) || !rd_u8(&r, &reason) ||
        reason >= WHY_COUNT)
        return false;
    d->reason = (enum device_reason)reason;
    d->has_current = flags & ROW_CURRENT;
    d->revoked = flags & ROW_REVOKED;
    d->enrolled = has_exchange(version) ? flags & ROW_ENROLLED : d->has_current;
    d->code_spent = flags & ROW_SPENT;
    return (!d->has_current || get_assoc(&r, version, &d->current)) && get_pending(&r, version, &d->pending) &&
           get_time(&r, &d->rearm_until) && get_time(&r, &d->last_seen) &&
           (!has_exchange(version) || get_time(&r, &d->exchange_since)) &&
           (!has_parent(version) || (rd_be64(&r, &d->shared_key) && rd_be32(&r, &d->shared_next))) && rd_end(&r);
}

void device_row_free(struct device_row *d)
{
    free(d->admin);
    for (struct pending *p = d->pending, *next; p != NULL; p = next) {
        next = p->next;
        free(p);
    }
    d->admin = NULL;
    d->pending = NULL;
}

/* --- stored response ---------------------------------------------------------------------------------------------- */

void stored_response_encode(const struct stored_response *s, struct wr *w)
{
    wr_u8(w, ROW_VERSION);
    wr_be64(w, s->serial);
    wr_bytes(w, s->digest, EG_DIGEST);
    wr_spanb(w, s->response);
}

bool stored_response_decode(struct span in, struct stored_response *s)
{
    struct rd r = rd_of(in);
    if (!get_version(&r) || !rd_be64(&r, &s->serial) || !rd_bytes(&r, s->digest, EG_DIGEST))
        return false;
    s->response = rd_rest(&r);
    return s->response.n > 0 && s->response.n <= EGP_MAX_MESSAGE;
}

/* --- key domain --------------------------------------------------------------------------------------------------- */

void domain_encode(const struct domain_row *d, struct wr *w)
{
    wr_u8(w, ROW_VERSION);
    wr_be64(w, d->key);
    wr_u8(w, d->key_seq);
}

bool domain_decode(struct span in, struct domain_row *d)
{
    struct rd r = rd_of(in);
    return get_version(&r) && rd_be64(&r, &d->key) && d->key != 0 && rd_u8(&r, &d->key_seq) && rd_end(&r);
}

void domain_name_encode(const struct domain_name *n, struct wr *w)
{
    wr_be64(w, n->gateway);
    wr_u8(w, (uint8_t)n->scope);
    if (n->admin.p != NULL) {
        wr_spanb(w, n->admin);
        wr_u8(w, '/');
    }
    wr_spanb(w, n->application);
}

/* Neither an FQDN nor an application's name has a '/'. */
bool domain_name_decode(struct span in, struct domain_name *n)
{
    struct rd r = rd_of(in);
    uint8_t scope, slash;
    if (!rd_be64(&r, &n->gateway) || !rd_u8(&r, &scope))
        return false;
    n->scope = (enum mef_scope)scope;
    n->admin = (struct span){0};
    const uint8_t *at = memchr(r.p, '/', r.n);
    if (at != NULL && (!rd_span(&r, (size_t)(at - r.p), &n->admin) || !rd_u8(&r, &slash)))
        return false;
    n->application = rd_rest(&r);
    return is_text(n->admin) && is_text(n->application) &&
           (scope == MEF_SCOPE_NETWORK ? n->application.n == 0
                                       : scope == MEF_SCOPE_APPLICATION && n->application.n > 0);
}
