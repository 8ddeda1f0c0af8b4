#include "tests/schedules/model.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#define STORM_MS 90000 /* how long faults, attacks and changes go on */

uint64_t draw(struct world *w, uint64_t below)
{
    return vhost_random(w->h, below);
}
bool chance(struct world *w, unsigned per_mille)
{
    return draw(w, 1000) < per_mille;
}

void trace(struct world *w, const char *fmt, ...)
{
    if (w->trace == NULL)
        return;
    va_list ap;
    va_start(ap, fmt);
    fprintf(w->trace, "%9.3f  ", (double)vhost_now(w->h) / 1000);
    vfprintf(w->trace, fmt, ap);
    fputc('\n', w->trace);
    va_end(ap);
}

void breach(struct world *w, const char *fmt, ...)
{
    if (w->breach[0] != '\0')
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(w->breach, sizeof w->breach, fmt, ap);
    va_end(ap);
    trace(w, "BREACH %s", w->breach);
}

/* --- links -------------------------------------------------------------------------------------------------------- */

static struct packet *packet_take(struct world *w)
{
    struct packet *p = w->packets;
    if (p != NULL) {
        w->packets = p->next;
        return p;
    }
    p = w->nall < sizeof w->all / sizeof w->all[0] ? malloc(sizeof *p) : NULL;
    if (p == NULL)
        abort();
    return w->all[w->nall++] = p;
}

struct packet *packet_new(struct world *w, void (*arrive)(struct packet *p), unsigned who, struct span bytes)
{
    struct packet *p = packet_take(w);
    *p = (struct packet){.w = w, .arrive = arrive, .who = who, .n = bytes.n};
    if (bytes.n > sizeof p->bytes)
        abort();
    if (bytes.n != 0)
        memcpy(p->bytes, bytes.p, bytes.n);
    return p;
}

static void packet_drop(struct packet *p)
{
    p->next = p->w->packets;
    p->w->packets = p;
}

static void arrived(void *user, uint64_t arg)
{
    struct packet *p = user;
    (void)arg;
    p->arrive(p);
    packet_drop(p);
}

void packet_send_behind(struct packet *p, const struct faults *f, uint64_t ms, uint64_t *last)
{
    struct world *w = p->w;
    if (!w->calm && chance(w, f->loss)) {
        packet_drop(p);
        return;
    }
    uint64_t at = vhost_now(w->h) + ms + (!w->calm && chance(w, f->late) ? draw(w, 4000) : draw(w, ms + 1));
    *last = at > *last ? at : *last + 1;
    vhost_at(w->h, *last - vhost_now(w->h), arrived, p, 0);
}

void packet_send(struct packet *p, const struct faults *f, uint64_t ms)
{
    struct world *w = p->w;
    static const struct faults none;
    if (w->calm)
        f = &none;
    if (chance(w, f->loss)) {
        packet_drop(p);
        return;
    }
    if (chance(w, f->twice)) {
        struct packet *copy = packet_take(w);
        *copy = *p;
        vhost_at(w->h, ms + draw(w, 800), arrived, copy, 0);
    }
    uint64_t extra = chance(w, f->late) ? draw(w, 4000) : draw(w, ms + 1);
    vhost_at(w->h, ms + extra, arrived, p, 0);
}

/* --- what the seed says ------------------------------------------------------------------------------------------- */

static int64_t disk_delay(void *user)
{
    struct world *w = user;
    if (w->calm)
        return 2;
    return (int64_t)(chance(w, 30) ? 200 + draw(w, 1500) : 1 + draw(w, w->disk_ms));
}

static void on_sent(void *user, uint64_t session, uint64_t id, struct span body);

static void plan_device(struct world *w, struct device *d, unsigned index)
{
    static const enum kind odd[] = {KIND_STRANGER, KIND_WRONG_CODE, KIND_EXPIRED, KIND_ELSEWHERE, KIND_FOREIGN};
    static const uint32_t timeouts[] = {1700, 5000, 10000};
    static const size_t lengths[] = {6, 8, 12, 16};
    d->w = w;
    d->index = index;
    d->eui = 0x00158d0000000000u + draw(w, 1u << 24) * 256 + index;
    d->kind = chance(w, 700) ? KIND_GOOD : odd[draw(w, 5)];
    d->home = (unsigned)draw(w, w->ngateways);
    if (w->gateways[d->home].foreign)
        d->home = 0;
    d->sleepy = chance(w, 400);
    d->picky = !w->gateways[d->home].extended && chance(w, 500);
    d->capability = d->sleepy ? 0x80 : 0x8c;
    d->old = chance(w, 200);
    d->key_timeout = timeouts[draw(w, 3)];
    d->period = 500 + (uint32_t)draw(w, 6000);
    d->counter = chance(w, 500) ? 0 : (uint32_t)draw(w, 5000);
    for (size_t i = 0; i < NCODES; i++) {
        uint8_t code[18];
        size_t n = lengths[draw(w, 4)];
        for (size_t k = 0; k < n; k++)
            code[k] = (uint8_t)draw(w, 256);
        uint16_t crc = zb_crc16_x25(span_of(code, n));
        code[n] = (uint8_t)crc;
        code[n + 1] = (uint8_t)(crc >> 8);
        hex_encode(code, n + 2, d->codes[i]);
        if (zb_install_code_key(w->crypto, span_of(code, n + 2), d->link_keys[i]) != ZB_OK)
            abort();
    }
}

static struct device *plan_parent(struct world *w, const struct device *d)
{
    struct device *found = NULL;
    for (unsigned i = 0; i < d->index; i++) {
        struct device *r = &w->devices[i];
        if (r->router && r->home == d->home && (r->domain == d->domain || chance(w, 150)) &&
            (found == NULL || chance(w, 500)))
            found = r;
    }
    return found;
}

/* Who shares a key with whom, who routes, and who wants to be below whom; a third of the worlds has no domains. */
static void plan_domains(struct world *w)
{
    if (chance(w, 330))
        return;
    for (unsigned i = 0; i < w->ndevices; i++) {
        struct device *d = &w->devices[i];
        d->home = chance(w, 700) ? w->devices[0].home : d->home;
        d->picky &= !w->gateways[d->home].extended;
        if (d->kind != KIND_FOREIGN)
            d->domain = chance(w, 700) ? 1 : (unsigned)draw(w, NDOMAINS);
        d->router = d->domain != 0 && d->kind == KIND_GOOD && (i == 0 || chance(w, 400));
        d->sleepy &= !d->router;
        d->old &= !d->router;
        d->capability = d->router ? 0x8e : d->capability;
        d->wanted = chance(w, 850) ? plan_parent(w, d) : NULL;
    }
}

static void plan(struct world *w)
{
    bool fair = chance(w, 150);
    w->link = fair ? (struct faults){0}
                   : (struct faults){(unsigned)draw(w, 250), (unsigned)draw(w, 200), (unsigned)draw(w, 200)};
    w->radio = fair ? (struct faults){0}
                    : (struct faults){(unsigned)draw(w, 200), (unsigned)draw(w, 100), (unsigned)draw(w, 50)};
    w->disk_ms = 1 + (unsigned)draw(w, 60);
    w->hostility = chance(w, 300) ? 0 : (unsigned)draw(w, 700);
    w->restlessness = chance(w, 300) ? 0 : (unsigned)draw(w, 150);
    w->ngateways = 1 + (unsigned)draw(w, MAX_GATEWAYS);
    w->ndevices = 1 + (unsigned)draw(w, MAX_DEVICES);
    for (unsigned i = 0; i < w->ngateways; i++)
        w->gateways[i] = (struct gateway){.w = w,
                                          .index = i,
                                          .eui = 0x00124b001ca1b200u + i,
                                          .foreign = i == 2,
                                          .extended = chance(w, 200),
                                          .pan = (uint16_t)(0x1a62 + i)};
    for (unsigned i = 0; i < w->ndevices; i++)
        plan_device(w, &w->devices[i], i);
    plan_domains(w);
}

/* --- what happens besides ----------------------------------------------------------------------------------------- */

static void on_sent(void *user, uint64_t session, uint64_t id, struct span body)
{
    struct world *w = user;
    struct egp_message m;
    const char *wrong = egp_decode(body, &m);
    if (wrong != NULL || (m.env.type != EGP_DOWNLINK && m.env.type != EGP_DEVICE_STATE))
        breach(w, "the plugin sent a message that does not decode: %s", wrong != NULL ? wrong : "type");
    else if (m.env.type == EGP_DOWNLINK)
        oracle_downlink(w, &m);
    for (unsigned i = 0; i < w->ngateways; i++) {
        struct gateway *g = &w->gateways[i];
        if (g->session != session)
            continue;
        if (wrong == NULL && m.env.gateway != g->eui)
            breach(w, "a message for gateway %016" PRIx64 " went to gateway %u", m.env.gateway, i);
        gateway_message(g, body);
    }
    /* ipe-nid answers when it has queued it; or CoAP gives up. */
    bool reached = w->calm || !chance(w, w->link.loss);
    vhost_sent(w->h, id, reached ? ST_UPDATED : ST_UNREACHABLE);
}

static void connect_all(void *user, uint64_t arg)
{
    struct world *w = user;
    (void)arg;
    vhost_start(w->h);
    trace(w, "mefd starts again");
    for (unsigned i = 0; i < w->ngateways; i++)
        gateway_connect(&w->gateways[i]);
    for (unsigned i = 0; i < NAES; i++)
        w->aes[i].session = vhost_session(w->h);
    for (unsigned i = 0; i < w->ndevices; i++)
        w->devices[i].asked = false; /* the operator asks again */
}

static void disaster_tick(void *user, uint64_t arg)
{
    struct world *w = user;
    if (w->calm || w->breach[0] != '\0')
        return;
    vhost_at(w->h, 500 + draw(w, 3000), disaster_tick, w, arg);
    if (!vhost_running(w->h))
        return;
    if (chance(w, 40)) {
        bool written = chance(w, 500), orderly = chance(w, 200);
        trace(w, "mefd %s", orderly ? "is stopped" : written ? "is killed, all written" : "is killed");
        if (orderly)
            vhost_stop(w->h);
        else
            vhost_kill(w->h, written);
        w->tally.kills++;
        vhost_at(w->h, 100 + draw(w, 4000), connect_all, w, 0);
    } else if (chance(w, 40)) {
        gateway_restart(&w->gateways[draw(w, w->ngateways)]);
    } else if (chance(w, 60)) {
        struct device *d = &w->devices[draw(w, w->ndevices)];
        trace(w, "device %u is reset", d->index);
        device_reset(d, 100);
        if (d->kind != KIND_STRANGER && chance(w, 600))
            operator_wish(d, OP_REARM, NULL);
    } else if (chance(w, 150)) {
        device_comes_back(&w->devices[draw(w, w->ndevices)], chance(w, 400) ? REJOIN_SECURED : REJOIN_TRUST_CENTRE);
    }
}

/* --- the whole ---------------------------------------------------------------------------------------------------- */

static void begin(struct world *w)
{
    vhost_start(w->h);
    operator_start(w);
    ae_register(w);
    for (unsigned i = 0; i < w->ngateways; i++)
        gateway_connect(&w->gateways[i]);
    vhost_disk(w->h);
    for (unsigned i = 0; i < w->ndevices; i++)
        device_reset(&w->devices[i], draw(w, 20000));
    vhost_at(w->h, 500, operator_tick, w, 0);
    vhost_at(w->h, 2000, ae_tick, w, 0);
    vhost_at(w->h, 1000, attacker_tick, w, 0);
    vhost_at(w->h, 3000, disaster_tick, w, 0);
}

static void prepare(struct world *w, uint64_t seed, FILE *trace_to, FILE *dump)
{
    const struct vpeers peers = {w, on_sent, NULL, disk_delay};
    *w = (struct world){.seed = seed,
                        .trace = trace_to,
                        .dump = dump,
                        .crypto = zb_crypto_new(),
                        .used = used_new(),
                        .answers = map64_new(),
                        .owners = map64_new()};
    w->h = vhost_new(seed * 0x9e3779b97f4a7c15u + 1,
                     "allow-short-install-codes = true\nstored-responses = 1024\nrearm-seconds = 3600", &peers);
    plan(w);
}

static void release(struct world *w)
{
    vhost_free(w->h);
    oracle_free(w);
    zb_crypto_free(w->crypto);
    for (size_t i = 0; i < w->nall; i++)
        free(w->all[i]);
    free(w);
}

static void add_up(struct tally *sum, const struct tally *t)
{
    uint64_t *to = (uint64_t *)sum;
    const uint64_t *from = (const uint64_t *)t;
    for (size_t i = 0; i < sizeof *t / sizeof *from; i++)
        to[i] += from[i];
}

bool schedule_run(uint64_t seed, FILE *trace_to, FILE *dump, struct tally *sum, char why[300])
{
    struct world *w = malloc(sizeof *w);
    if (w == NULL)
        abort();
    prepare(w, seed, trace_to, dump);
    begin(w);
    while (vhost_now(w->h) < STORM_MS && w->breach[0] == '\0' && vhost_step(w->h))
        ;
    if (w->breach[0] == '\0')
        verdict(w);
    snprintf(why, 300, "%s", w->breach);
    add_up(sum, &w->tally);
    release(w);
    return why[0] == '\0';
}

bool schedule_plan(uint64_t seed, FILE *out)
{
    struct world *w = malloc(sizeof *w);
    if (w == NULL)
        abort();
    prepare(w, seed, NULL, NULL);
    fprintf(out, "{\"seed\":%" PRIu64 ",\"loss\":%u,\"twice\":%u,\"late\":%u,\"devices\":[", seed, w->link.loss,
            w->link.twice, w->link.late);
    for (unsigned i = 0; i < w->ndevices; i++) {
        const struct device *d = &w->devices[i];
        fprintf(out,
                "%s{\"eui64\":\"%016" PRIx64
                "\",\"kind\":\"%s\",\"code\":\"%s\",\"wrong\":\"%s\",\"sleepy\":%s,\"picky\":%s,\"old\":%s,"
                "\"keyTimeout\":%u,\"counter\":%u,\"application\":\"%s\",\"router\":%s,\"parent\":%d}",
                i == 0 ? "" : ",", d->eui, kind_names[d->kind], d->codes[0], d->codes[1], d->sleepy ? "true" : "false",
                d->picky ? "true" : "false", d->old ? "true" : "false", d->key_timeout, d->counter,
                d->domain != 0 ? domain_names[d->domain] : "", d->router ? "true" : "false",
                d->wanted != NULL ? (int)d->wanted->index : -1);
    }
    fputs("]}\n", out);
    release(w);
    return true;
}
