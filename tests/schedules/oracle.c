/* What is to be true whatever happens:
 *  1. no (key, source, counter) is radiated twice, but for the very same bytes of the same transaction;
 *  2. a key leaves only for a device with a registered install code, sealed under that code's link key, and where the
 *     registration allows it;
 *  3. no two devices have the same network key, but those of one domain at one gateway (domains.c);
 *  4. only a frame of the device proves a key: AEs and operators never see a key, a gateway or an address that it did
 *     not prove, and a device that is enrolled stays so until an operator wishes otherwise, or it leaves;
 *  5. the same (gateway, transaction) gets the same bytes;
 *  6. a link key is no code's and no other device's, and only one that its device verified is confirmed, counts as its
 *     enrolment, and carries the network key of a rejoin; a code is spent with it until an operator says otherwise.
 * Frames are opened with the product's codec, for speed; run.py opens a share of them with tests/sim/zbcodec.py. */
#include "tests/schedules/model.h"

#include <inttypes.h>
#include <stdlib.h>

struct asked { /* one (gateway, transaction) */
    eui64_t gateway, device;
    uint64_t transaction;
    bool may;       /* a key was allowed when it was asked for, at least once */
    bool rejoin;    /* ..and is to come behind a Rejoin Response */
    unsigned codes; /* bit i: under code i */
    struct device *d;
    size_t n; /* of the answer; 0: none yet */
    uint8_t bytes[EGP_MAX_MESSAGE];
};

static void *made(struct map64 *m, uint64_t key, size_t n)
{
    void *p = calloc(1, n);
    if (p == NULL || !map64_put(m, key, p))
        abort();
    return p;
}

static struct device *device_of(struct world *w, eui64_t eui)
{
    for (unsigned i = 0; i < w->ndevices; i++)
        if (w->devices[i].eui == eui)
            return &w->devices[i];
    return NULL;
}

/* --- counters ----------------------------------------------------------------------------------------------------- */

static void use(struct world *w, const uint8_t key[ZB_KEY], eui64_t source, uint32_t counter, uint64_t transaction,
                struct span frame)
{
    if (!used_note(w->used, key, source, counter, transaction, frame))
        breach(w, "counter %u of source %016" PRIx64 " is used twice under one key", counter, source);
}

static void dump(struct world *w, const char *kind, struct span frame, const uint8_t key[ZB_KEY], eui64_t source,
                 eui64_t device, uint32_t counter, uint64_t transaction)
{
    char nwk[2 * ZB_NWK_MAX + 1], hex[2 * ZB_KEY + 1];
    if (w->dump == NULL)
        return;
    hex_encode(frame.p, frame.n, nwk);
    hex_encode(key, ZB_KEY, hex);
    fprintf(w->dump,
            "{\"seed\":%" PRIu64 ",\"kind\":\"%s\",\"nwk\":\"%s\",\"key\":\"%s\",\"source\":\"%016" PRIx64
            "\",\"device\":\"%016" PRIx64 "\",\"counter\":%u,\"transaction\":%" PRIu64 "}\n",
            w->seed, kind, nwk, hex, source, device, counter, transaction);
}

/* --- first keys --------------------------------------------------------------------------------------------------- */

static uint64_t asked_at(const struct gateway *g, uint64_t transaction)
{
    return used_digest(used_digest(USED_SEED, &g->eui, sizeof g->eui), &transaction, sizeof transaction);
}

static void note_codes(struct asked *x, const struct device *d, unsigned gateway)
{
    if (d == NULL || !may_have_key(d, gateway, x->rejoin))
        return;
    x->may = true;
    x->codes |= 1u << d->reg.code;
    if (d->perhaps)
        x->codes |= 1u << d->then.code;
}

void oracle_asked(struct gateway *g, const struct egp_message *m, uint64_t *context)
{
    *context = 0;
    if (m->env.type != EGP_REQUEST)
        return;
    uint64_t at = asked_at(g, m->env.transaction);
    struct asked *x = map64_get(g->w->answers, at);
    if (x == NULL) {
        x = made(g->w->answers, at, sizeof *x);
        *x = (struct asked){.gateway = g->eui,
                            .device = m->env.device,
                            .transaction = m->env.transaction,
                            .rejoin = m->u.request.join != EGP_ASSOCIATION,
                            .d = device_of(g->w, m->env.device)};
    } else {
        g->w->tally.repeats++;
    }
    note_codes(x, x->d, g->index);
    *context = at;
}

static void note_key(struct gateway *g, struct device *d, bool by_code, const uint8_t key[ZB_KEY])
{
    struct world *w = g->w;
    uint64_t at = used_digest(USED_SEED, key, ZB_KEY);
    const void *owner = map64_get(w->owners, at), *should = domain_owner(g, d);
    if (owner != NULL && owner != should)
        breach(w, "device %u got a network key that is not its, or its domain's, alone", d->index);
    if (owner == NULL && !map64_put(w->owners, at, (void *)(uintptr_t)should))
        abort();
    for (size_t i = 0; i < d->nkeys; i++)
        if (memcmp(d->keys[i].key, key, ZB_KEY) == 0) {
            if (d->keys[i].gateway != g->index)
                breach(w, "device %u has one key at two gateways", d->index);
            if (d->domain != 0 && by_code) { /* it joins once more, and its domain's key is what it was */
                d->keys[i].sent = vhost_now(w->h);
                d->keys[i].by_code = true;
            }
            return;
        }
    if (d->nkeys == MAX_KEYS) { /* the oldest are of long ago */
        memmove(d->keys, d->keys + 1, (MAX_KEYS - 1) * sizeof d->keys[0]);
        d->nkeys--;
    }
    d->keys[d->nkeys] =
        (struct known_key){.gateway = g->index, .by_code = by_code, .sent = vhost_now(w->h), .since = vhost_now(w->h)};
    memcpy(d->keys[d->nkeys++].key, key, ZB_KEY);
}

bool oracle_is_first_key(struct gateway *g, struct device *d, const uint8_t link_key[ZB_KEY], uint64_t transaction,
                         bool by_code, struct span aps)
{
    struct zb_aps a;
    struct zb_aux aux;
    struct zb_cmd c;
    uint8_t buf[ZB_NWK_MAX];
    struct wr plain = wr_of(buf, sizeof buf);
    if (zb_aps_open(g->w->crypto, link_key, aps, 0, &a, &aux, &plain) != ZB_OK ||
        zb_cmd_parse(wr_span(&plain), &c) != ZB_OK)
        return false;
    if (aux.src64 != g->eui || c.src != g->eui || c.dst != d->eui || c.id != ZB_TRANSPORT_KEY ||
        c.key_type != ZB_KEYTYPE_NWK || aux.key_id != ZB_KEY_ID_TRANSPORT)
        breach(g->w, "a Transport-Key for device %u has wrong fields", d->index);
    use(g->w, link_key, aux.src64, aux.counter, transaction, aps);
    dump(g->w, "first-key", aps, link_key, g->eui, d->eui, aux.counter, transaction);
    note_key(g, d, by_code, c.key);
    return true;
}

/* ..in a frame of its own. */
static bool is_first_key(struct gateway *g, struct device *d, const uint8_t link_key[ZB_KEY], uint64_t transaction,
                         bool by_code, struct span frame)
{
    struct zb_nwk n;
    if (zb_nwk_parse(frame, &n) != ZB_OK || !oracle_is_first_key(g, d, link_key, transaction, by_code, n.payload))
        return false;
    if ((frame.n != 62) != g->extended)
        breach(g->w, "a Transport-Key for device %u has not its gateway's form", d->index);
    return true;
}

/* The frame is what the device wants to see: opened under one of the codes that may be in force. */
static void check_first_key(struct gateway *g, const struct asked *x, struct span frame)
{
    for (unsigned i = 0; i < NCODES; i++)
        if ((x->codes >> i & 1) != 0 && is_first_key(g, x->d, x->d->link_keys[i], x->transaction, true, frame))
            return;
    breach(g->w, "a key for %016" PRIx64 " is not sealed under its install code", x->device);
}

/* A device that rejoins is answered in the clear, and its key comes behind it. */
static void check_rejoin_response(struct gateway *g, const struct asked *x, struct span frame)
{
    struct zb_nwk n;
    if (zb_nwk_parse(frame, &n) != ZB_OK || n.fcf != 0x1809 || n.dst64 != x->device || n.src64 != g->eui ||
        n.payload.n != 4 || n.payload.p[0] != 0x07 || n.payload.p[3] != 0 ||
        (n.payload.p[1] | n.payload.p[2] << 8) != n.dst)
        breach(g->w, "the answer to a rejoin of device %u is not a bare Rejoin Response", x->d->index);
}

static void check_rejoin_key(struct world *w, struct device *d, const struct egp_message *m)
{
    struct gateway *g = NULL;
    for (unsigned i = 0; i < w->ngateways; i++)
        if (w->gateways[i].eui == m->env.gateway)
            g = &w->gateways[i];
    for (size_t i = d != NULL && g != NULL ? d->nlink : 0; i-- > 0;)
        if (d->link[i].verified != 0 && d->link[i].gateway == g->index &&
            is_first_key(g, d, d->link[i].key, m->env.transaction, false, m->u.frame.nwk_frame))
            return;
    struct zb_nwk n;
    if (d == NULL || g == NULL || zb_nwk_parse(m->u.frame.nwk_frame, &n) != ZB_OK ||
        !domain_is_old_key(g, d, m->env.transaction, n.payload))
        breach(w, "a key for %016" PRIx64 " that rejoins is not sealed under its own link key", m->env.device);
}

void oracle_answered(struct gateway *g, uint64_t context, const struct vanswer *a)
{
    struct egp_message m;
    struct asked *x = context != 0 ? map64_get(g->w->answers, context) : NULL;
    if (x == NULL || a->status != ST_UPDATED || egp_decode(a->body, &m) != NULL || m.env.type != EGP_RESPONSE) {
        if (x != NULL || a->body.n != 0)
            breach(g->w, "a gateway's message was answered with %s %s", st_map(a->status)->text, a->code);
        return;
    }
    if (m.env.transaction != x->transaction || m.env.gateway != g->eui || m.env.device != x->device)
        breach(g->w, "an EgResponse to another EgRequest");
    if (x->n != 0) {
        if (m.u.response.reason != EGP_UNAVAILABLE && !span_eq(a->body, span_of(x->bytes, x->n)))
            breach(g->w, "transaction %" PRIx64 " was answered with other bytes", x->transaction);
        return;
    }
    if (m.u.response.reason != EGP_OK)
        return;
    g->w->tally.keys++;
    x->n = a->body.n;
    memcpy(x->bytes, a->body.p, a->body.n);
    if (!x->may)
        breach(g->w, "a key for %016" PRIx64 " at gateway %u, where it may have none", x->device, g->index);
    else if (x->rejoin)
        check_rejoin_response(g, x, m.u.response.nwk_frame);
    else
        check_first_key(g, x, m.u.response.nwk_frame);
}

/* --- proofs ------------------------------------------------------------------------------------------------------- */

static struct known_key *known(struct device *d, const uint8_t key[ZB_KEY])
{
    for (size_t i = 0; i < d->nkeys; i++)
        if (memcmp(d->keys[i].key, key, ZB_KEY) == 0)
            return &d->keys[i];
    return NULL;
}

bool oracle_enrolled_at(const struct device *d, unsigned gateway)
{
    bool proved = false, linked = d->old && d->described != 0;
    for (size_t i = 0; i < d->nkeys; i++)
        proved |= d->keys[i].proved && d->keys[i].gateway == gateway;
    for (size_t i = 0; i < d->nlink; i++)
        linked |= d->link[i].verified != 0 && d->link[i].gateway == gateway;
    return proved && linked;
}

static void begins(struct device *d)
{
    d->enrolled = false;
    d->began = vhost_now(d->w->h);
}

void oracle_left(struct device *d)
{
    begins(d);
    d->leaving = true;
}

static void note_verify_key(struct device *d, const struct zb_cmd *c)
{
    for (size_t i = 0; i < d->nlink; i++) {
        if (d->link[i].verified != 0 || memcmp(d->link[i].hash, c->key, ZB_KEY) != 0)
            continue;
        d->link[i].verified = d->verified = vhost_now(d->w->h);
        d->perhaps_spent = true;
    }
}

/* What the device says about itself. */
static void note_said(struct device *d, const struct zb_nwk *n, struct span plain)
{
    struct zb_aps a;
    struct zb_cmd c;
    if ((n->fcf & ZB_FCF_TYPE) != ZB_NWK_DATA || zb_aps_parse(plain, &a) != ZB_OK || (a.fcf & ZB_APS_SECURITY) != 0)
        return;
    if ((a.fcf & 3u) == ZB_APS_COMMAND && zb_cmd_parse(a.payload, &c) == ZB_OK && c.id == ZB_VERIFY_KEY)
        note_verify_key(d, &c);
    else if ((a.fcf & 3u) == ZB_APS_DATA && a.profile == 0 && a.cluster == ZB_ZDP_NODE_DESC_RSP)
        d->described = vhost_now(d->w->h);
}

/* A frame that opens is the device's: nobody else has the key. That it may be a replay changes nothing. */
void oracle_uplink(struct device *d, struct span frame)
{
    for (size_t i = 0; i < d->nkeys; i++) {
        struct zb_nwk n;
        struct zb_aux aux;
        uint8_t buf[ZB_NWK_MAX];
        struct wr plain = wr_of(buf, sizeof buf);
        if (zb_nwk_open(d->w->crypto, d->keys[i].key, frame, &n, &aux, &plain) != ZB_OK || !domain_said(d, &n, &aux))
            continue;
        if (!d->keys[i].proved && d->keys[i].by_code)
            d->leaving = false;
        if (d->keys[i].by_code && (!d->keys[i].proved || d->keys[i].sent > (d->old ? d->described : d->verified)))
            begins(d); /* it joins, maybe not for the first time */
        d->keys[i].proved = true;
        note_said(d, &n, wr_span(&plain));
        if (d->router)
            domain_note_update(d, d->keys[i].gateway, wr_span(&plain));
    }
}

void oracle_key(struct device *d, const uint8_t key[ZB_KEY])
{
    const struct known_key *k = known(d, key);
    if (k == NULL || !k->proved)
        breach(d->w, "device %u: an AE got a key that the device has not proved", d->index);
}

void oracle_state(struct device *d, const cJSON *device, uint64_t asked)
{
    const char *state = cJSON_GetStringValue(cJSON_GetObjectItem(device, "state"));
    const char *gateway = cJSON_GetStringValue(cJSON_GetObjectItem(device, "gateway"));
    eui64_t at = 0;
    bool enrolled = state != NULL && strcmp(state, "enrolled") == 0, proved = false, exchanged = false;
    bool joining = state != NULL && strcmp(state, "joining") == 0;
    if (!enrolled && d->enrolled)
        breach(d->w, "device %u was enrolled and is %s, though no operator wished it", d->index,
               state != NULL ? state : "not there");
    if (!enrolled && !joining)
        return;
    for (size_t i = 0; i < d->nkeys; i++)
        if (d->keys[i].proved && gateway != NULL && eui64_parse(gateway, &at) &&
            at == d->w->gateways[d->keys[i].gateway].eui) {
            proved = true;
            exchanged |= oracle_enrolled_at(d, d->keys[i].gateway);
        }
    if (!proved)
        breach(d->w, "device %u is %s at %s, where it has proved no key", d->index, state, gateway);
    else if (enrolled && !exchanged)
        breach(d->w, "device %u is enrolled and has verified no link key", d->index);
    d->enrolled = enrolled && d->nwishes == 0 && !d->leaving && asked > d->began;
}

/* --- link keys ---------------------------------------------------------------------------------------------------- */

static struct link_key *link_key_of(struct device *d, const uint8_t key[ZB_KEY])
{
    for (size_t i = 0; i < d->nlink; i++)
        if (memcmp(d->link[i].key, key, ZB_KEY) == 0)
            return &d->link[i];
    return NULL;
}

static void note_link_key(struct device *d, unsigned gateway, const uint8_t key[ZB_KEY])
{
    struct world *w = d->w;
    uint64_t at = used_digest(USED_SEED, key, ZB_KEY);
    if (link_key_of(d, key) != NULL)
        return;
    if (map64_get(w->owners, at) != NULL || memcmp(key, d->link_keys[0], ZB_KEY) == 0 ||
        memcmp(key, d->link_keys[1], ZB_KEY) == 0)
        breach(w, "the link key of device %u is another key, too", d->index);
    else if (!map64_put(w->owners, at, d))
        abort();
    if (d->nlink == MAX_LINK_KEYS) {
        memmove(d->link, d->link + 1, (MAX_LINK_KEYS - 1) * sizeof d->link[0]);
        d->nlink--;
    }
    struct link_key *l = &d->link[d->nlink++];
    *l = (struct link_key){.gateway = gateway};
    memcpy(l->key, key, ZB_KEY);
    if (zb_derive(w->crypto, key, ZB_KEY_VERIFY, l->hash) != ZB_OK)
        abort();
}

static void note_confirmed(struct device *d, const struct known_key *under, struct link_key *l)
{
    if (l->confirmed)
        return;
    l->confirmed = true;
    d->earned = l->verified;
    d->confirmed = vhost_now(d->w->h);
    d->spent |= under->by_code && d->code_touched < under->since && d->reg.exists;
}

/* An APS command under this link key; l: the same as one that the device got, or NULL. */
static bool is_command(struct device *d, const struct known_key *under, const uint8_t link_key[ZB_KEY],
                       struct link_key *l, struct span aps)
{
    struct world *w = d->w;
    struct zb_aps a;
    struct zb_aux aux;
    struct zb_cmd c;
    uint8_t buf[ZB_NWK_MAX];
    struct wr plain = wr_of(buf, sizeof buf);
    if (zb_aps_open(w->crypto, link_key, aps, 0, &a, &aux, &plain) != ZB_OK)
        return false;
    bool wrong = zb_cmd_parse(wr_span(&plain), &c) != ZB_OK || aux.src64 != w->gateways[under->gateway].eui;
    /* Sealed again for Stale it is the same frame at this layer. */
    use(w, link_key, aux.src64, aux.counter, 0, aps);
    if (!wrong && d->router && c.id == ZB_REMOVE_DEVICE && aux.key_id == ZB_KEY_ID_DATA) {
        w->tally.removed++;
    } else if (wrong || c.key_type != ZB_KEYTYPE_TCLK || c.dst != d->eui) {
        breach(w, "a command for device %u has wrong fields", d->index);
    } else if (c.id == ZB_TRANSPORT_KEY && aux.key_id == ZB_KEY_ID_LOAD && c.src == aux.src64) {
        dump(w, "link-key", aps, link_key, aux.src64, d->eui, aux.counter, 0);
        note_link_key(d, under->gateway, c.key);
    } else if (c.id == ZB_CONFIRM_KEY && aux.key_id == ZB_KEY_ID_DATA && l != NULL && l->verified != 0 &&
               c.status == 0) {
        note_confirmed(d, under, l);
    } else {
        breach(w, "device %u is sent command %u that it has not earned", d->index, c.id);
    }
    return true;
}

/* What the EG itself says to a device; an AE's frames are none of this. */
static void check_said(struct device *d, const struct known_key *under, const struct zb_nwk *n, struct span plain)
{
    struct zb_aps a;
    struct zb_cmd c;
    if ((n->fcf & ZB_FCF_TYPE) != ZB_NWK_DATA || zb_aps_parse(plain, &a) != ZB_OK || (a.fcf & 3u) != ZB_APS_COMMAND)
        return;
    if ((a.fcf & ZB_APS_SECURITY) == 0 && zb_cmd_parse(a.payload, &c) == ZB_OK && c.id == ZB_TUNNEL) {
        domain_check_tunnel(d, under->gateway, &c);
        return;
    }
    if ((a.fcf & ZB_APS_SECURITY) == 0) {
        /* a refusal; no device here earns one */
        breach(d->w, "device %u is sent a bare command, %02x", d->index, a.payload.n != 0 ? a.payload.p[0] : 0);
        return;
    }
    for (size_t i = d->nlink; i-- > 0;)
        if (is_command(d, under, d->link[i].key, &d->link[i], plain))
            return;
    if (!is_command(d, under, d->link_keys[0], NULL, plain) && !is_command(d, under, d->link_keys[1], NULL, plain))
        breach(d->w, "a command for device %u opens under none of its link keys", d->index);
}

/* --- downlink ----------------------------------------------------------------------------------------------------- */

void oracle_downlink(struct world *w, const struct egp_message *m)
{
    struct device *d = device_of(w, m->env.device);
    struct span frame = m->u.frame.nwk_frame;
    struct zb_nwk head;
    w->tally.downlinks++;
    if (zb_nwk_parse(frame, &head) == ZB_OK && (head.fcf & ZB_FCF_SECURITY) == 0) {
        check_rejoin_key(w, d, m);
        return;
    }
    struct device *parent = domain_device_at(w, m->env.gateway, head.dst);
    if (parent != NULL && (d == NULL || !domain_had_address(d, head.dst)))
        d = parent; /* what is about a device is sent to its parent */
    for (size_t i = d != NULL ? d->nkeys : 0; i-- > 0;) {
        struct zb_nwk n;
        struct zb_aux aux;
        uint8_t buf[ZB_NWK_MAX];
        struct wr plain = wr_of(buf, sizeof buf);
        if (zb_nwk_open(w->crypto, d->keys[i].key, frame, &n, &aux, &plain) != ZB_OK)
            continue;
        if (!d->keys[i].proved || w->gateways[d->keys[i].gateway].eui != m->env.gateway || aux.src64 != m->env.gateway)
            breach(w, "a frame for device %u under a key that is not proved there", d->index);
        use(w, d->keys[i].key, aux.src64, aux.counter, m->env.transaction, frame);
        dump(w, "nwk", frame, d->keys[i].key, aux.src64, d->eui, aux.counter, m->env.transaction);
        check_said(d, &d->keys[i], &n, wr_span(&plain));
        return;
    }
    breach(w, "a DownlinkFrame for %016" PRIx64 " opens under no key of the device", m->env.device);
}

static bool free_one(void *user, uint64_t key, void *value)
{
    (void)user, (void)key;
    free(value);
    return true;
}

void oracle_free(struct world *w)
{
    map64_each(w->answers, free_one, NULL);
    used_free(w->used);
    map64_free(w->answers);
    map64_free(w->owners);
}
