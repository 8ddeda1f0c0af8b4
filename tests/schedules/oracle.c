/* What is to be true whatever happens:
 *  1. no (key, source, counter) is radiated twice, but for the very same bytes of the same transaction;
 *  2. a key leaves only for a device with a registered install code, sealed under that code's link key, and where the
 *     registration allows it;
 *  3. no two devices have the same network key (scope `device`);
 *  4. only a frame of the device proves a key: AEs and operators never see a key, a gateway or an address that it did
 *     not prove, and a device that is enrolled stays so until an operator wishes otherwise;
 *  5. the same (gateway, transaction) gets the same bytes.
 * Frames are opened with the product's codec, for speed; run.py opens a share of them with tests/sim/zbcodec.py. */
#include "tests/schedules/model.h"

#include <inttypes.h>
#include <stdlib.h>

struct asked { /* one (gateway, transaction) */
    eui64_t gateway, device;
    uint64_t transaction;
    bool may;       /* a key was allowed when it was asked for, at least once */
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
    if (d == NULL || !may_have_key(d, gateway))
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
                            .d = device_of(g->w, m->env.device)};
    } else {
        g->w->tally.repeats++;
    }
    note_codes(x, x->d, g->index);
    *context = at;
}

static void note_key(struct gateway *g, struct device *d, const uint8_t key[ZB_KEY])
{
    struct world *w = g->w;
    uint64_t at = used_digest(USED_SEED, key, ZB_KEY);
    struct device *owner = map64_get(w->owners, at);
    if (owner != NULL && owner != d)
        breach(w, "devices %u and %u share a network key", owner->index, d->index);
    if (owner == NULL && !map64_put(w->owners, at, d))
        abort();
    for (size_t i = 0; i < d->nkeys; i++)
        if (memcmp(d->keys[i].key, key, ZB_KEY) == 0) {
            if (d->keys[i].gateway != g->index)
                breach(w, "device %u has one key at two gateways", d->index);
            return;
        }
    if (d->nkeys == MAX_KEYS) { /* the oldest are of long ago */
        memmove(d->keys, d->keys + 1, (MAX_KEYS - 1) * sizeof d->keys[0]);
        d->nkeys--;
    }
    d->keys[d->nkeys].gateway = g->index;
    d->keys[d->nkeys].proved = false;
    memcpy(d->keys[d->nkeys++].key, key, ZB_KEY);
}

/* The frame is what the device wants to see: opened under one of the codes that may be in force. */
static void check_first_key(struct gateway *g, const struct asked *x, struct span frame)
{
    for (unsigned i = 0; i < NCODES; i++) {
        struct zb_nwk n;
        struct zb_aps a;
        struct zb_aux aux;
        struct zb_cmd c;
        uint8_t buf[ZB_NWK_MAX];
        struct wr plain = wr_of(buf, sizeof buf);
        if ((x->codes >> i & 1) == 0 || zb_nwk_parse(frame, &n) != ZB_OK ||
            zb_aps_open(g->w->crypto, x->d->link_keys[i], n.payload, 0, &a, &aux, &plain) != ZB_OK ||
            zb_cmd_parse(wr_span(&plain), &c) != ZB_OK)
            continue;
        if (aux.src64 != g->eui || c.src != g->eui || c.dst != x->d->eui || c.id != ZB_TRANSPORT_KEY ||
            (frame.n != 62) != g->extended)
            breach(g->w, "a Transport-Key for device %u has wrong fields", x->d->index);
        use(g->w, x->d->link_keys[i], aux.src64, aux.counter, x->transaction, frame);
        dump(g->w, "first-key", frame, x->d->link_keys[i], g->eui, x->d->eui, aux.counter, x->transaction);
        note_key(g, x->d, c.key);
        return;
    }
    breach(g->w, "a key for %016" PRIx64 " is not sealed under its install code", x->device);
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

/* A frame that opens is the device's: nobody else has the key. That it may be a replay changes nothing. */
void oracle_uplink(struct device *d, struct span frame)
{
    for (size_t i = 0; i < d->nkeys; i++) {
        struct zb_nwk n;
        struct zb_aux aux;
        uint8_t buf[ZB_NWK_MAX];
        struct wr plain = wr_of(buf, sizeof buf);
        if (zb_nwk_open(d->w->crypto, d->keys[i].key, frame, &n, &aux, &plain) == ZB_OK && aux.src64 == d->eui)
            d->keys[i].proved = true;
    }
}

void oracle_key(struct device *d, const uint8_t key[ZB_KEY])
{
    const struct known_key *k = known(d, key);
    if (k == NULL || !k->proved)
        breach(d->w, "device %u: an AE got a key that the device has not proved", d->index);
}

void oracle_state(struct device *d, const cJSON *device)
{
    const char *state = cJSON_GetStringValue(cJSON_GetObjectItem(device, "state"));
    const char *gateway = cJSON_GetStringValue(cJSON_GetObjectItem(device, "gateway"));
    eui64_t at = 0;
    bool enrolled = state != NULL && strcmp(state, "enrolled") == 0, proved = false;
    if (!enrolled) {
        if (d->enrolled)
            breach(d->w, "device %u was enrolled and is %s, though no operator wished it", d->index, state);
        return;
    }
    for (size_t i = 0; i < d->nkeys; i++)
        proved |= d->keys[i].proved && gateway != NULL && eui64_parse(gateway, &at) &&
                  at == d->w->gateways[d->keys[i].gateway].eui;
    if (!proved)
        breach(d->w, "device %u is enrolled at %s, where it has proved no key", d->index, gateway);
    d->enrolled = d->nwishes == 0;
}

/* --- downlink ----------------------------------------------------------------------------------------------------- */

void oracle_downlink(struct world *w, const struct egp_message *m)
{
    struct device *d = device_of(w, m->env.device);
    struct span frame = m->u.frame.nwk_frame;
    w->tally.downlinks++;
    for (size_t i = d != NULL ? d->nkeys : 0; i-- > 0;) {
        struct zb_nwk n;
        struct zb_aux aux;
        uint8_t buf[ZB_NWK_MAX];
        struct wr plain = wr_of(buf, sizeof buf);
        if (zb_nwk_open(w->crypto, d->keys[i].key, frame, &n, &aux, &plain) != ZB_OK)
            continue;
        if (!d->keys[i].proved || w->gateways[d->keys[i].gateway].eui != m->env.gateway)
            breach(w, "a frame for device %u under a key that is not proved there", d->index);
        use(w, d->keys[i].key, aux.src64, aux.counter, m->env.transaction, frame);
        dump(w, "nwk", frame, d->keys[i].key, aux.src64, d->eui, aux.counter, m->env.transaction);
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
