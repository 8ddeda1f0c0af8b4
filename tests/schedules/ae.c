/* Two AEs: the first may have the keys, the second may not; both try. */
#include "tests/schedules/model.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdlib.h>

#include "config/names.h"

void ae_register(struct world *w)
{
    for (unsigned i = 0; i < NAES; i++) {
        struct ae *ae = &w->aes[i];
        ae->session = vhost_session(w->h);
        vhost_ask(w->h, &(struct vask){.op = CSE_CREATE,
                                       .path = "mef",
                                       .ty = MEF_TY_CLIENT_REG,
                                       .from = ae->id,
                                       .body = span_str(
                                           "{\"sec:mecr\":{\"et\":\"20991231T235959\",\"adfq\":\"" VHOST_ADMIN "\"}}"),
                                       .session = ae->session,
                                       .identity = ae->kpm});
    }
    vhost_disk(w->h);
}

static void ask(struct world *w, const struct ae *ae, struct vask *a)
{
    a->session = ae->session;
    a->identity = ae->kpm;
    a->from = ae->id;
    a->user = w;
    vhost_ask(w->h, a);
}

/* --- the key ------------------------------------------------------------------------------------------------------ */

static bool key_of(const cJSON *pc, uint8_t key[ZB_KEY])
{
    const char *kv =
        cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetObjectItem(pc, MEF_SN_KEY_REG), MEF_SN_KEY_VALUE));
    uint8_t buf[64];
    if (kv == NULL || strlen(kv) != 24 || EVP_DecodeBlock(buf, (const unsigned char *)kv, 24) != 18)
        return false;
    memcpy(key, buf, ZB_KEY);
    return true;
}

static void got(void *user, uint64_t index, const struct vanswer *a)
{
    struct world *w = user;
    struct device *d = &w->devices[index];
    if (a->status != ST_OK)
        return;
    d->has_ae_key = key_of(a->pc, d->ae_key);
    if (!d->has_ae_key)
        breach(w, "device %u: a symmKeyReg without a Zigbee key", d->index);
    else if (!a->sensitive)
        breach(w, "device %u: a key in an answer not marked sensitive", d->index);
    else
        oracle_key(d, d->ae_key);
}

static void found(void *user, uint64_t index, const struct vanswer *a)
{
    struct world *w = user;
    struct device *d = &w->devices[index];
    const cJSON *list = cJSON_GetObjectItem(a->pc, "m2m:uril");
    const char *path = cJSON_GetStringValue(cJSON_GetArrayItem(list, 0));
    d->has_ae_key = false;
    if (a->status != ST_OK || path == NULL)
        return;
    snprintf(d->key_id, sizeof d->key_id, "%s", path);
    ask(w, &w->aes[0], &(struct vask){.op = CSE_RETRIEVE, .path = path, .done = got, .tag = index});
}

void ae_look(struct device *d)
{
    char label[32];
    snprintf(label, sizeof label, MEF_LABEL_EUI64 "%016" PRIx64, d->eui);
    ask(d->w, &d->w->aes[0],
        &(struct vask){
            .op = CSE_RETRIEVE, .path = "mef", .query = {{"fu", "1"}, {"lbl", label}}, .done = found, .tag = d->index});
}

static void stolen(void *user, uint64_t index, const struct vanswer *a)
{
    if (a->status == ST_OK)
        breach(user, "an AE that is no target got the key of device %u", (unsigned)index);
}

static void steal(struct device *d)
{
    if (d->key_id[0] != '\0')
        ask(d->w, &d->w->aes[1],
            &(struct vask){.op = CSE_RETRIEVE, .path = d->key_id, .done = stolen, .tag = d->index});
}

/* --- commands ----------------------------------------------------------------------------------------------------- */

static void sent(void *user, uint64_t index, const struct vanswer *a)
{
    struct world *w = user;
    w->devices[index].commands += a->status == ST_UPDATED;
}

static void seal_and_send(struct device *d, uint32_t counter, uint8_t key_seq)
{
    const struct gateway *g = &d->w->gateways[d->home];
    char path[64];
    uint8_t apsbuf[ZB_NWK_MAX], buf[ZB_NWK_MAX];
    struct wr aps = wr_of(apsbuf, sizeof apsbuf), out = wr_of(buf, sizeof buf);
    struct zb_aps a = {.fcf = ZB_APS_DATA,
                       .dst_endpoint = 1,
                       .src_endpoint = 1,
                       .counter = (uint8_t)counter,
                       .cluster = 6,
                       .profile = 0x0104};
    zb_aps_build(&aps, &a);
    wr_bytes(&aps, "\x01\x02\x01", 3);
    struct zb_nwk n = {.fcf = 0x0208, .dst = d->address, .radius = 30, .seq = (uint8_t)counter};
    if (zb_nwk_seal(d->w->crypto, d->ae_key, &n, counter, g->eui, key_seq, wr_span(&aps), &out) != ZB_OK)
        abort();
    snprintf(path, sizeof path, "mef/eg/frames/%016" PRIx64, d->eui);
    ask(d->w, &d->w->aes[0],
        &(struct vask){.op = CSE_CREATE, .path = path, .body = wr_span(&out), .done = sent, .tag = d->index});
}

static void ticket(void *user, uint64_t index, const struct vanswer *a)
{
    struct world *w = user;
    const cJSON *first = cJSON_GetObjectItem(a->pc, "first"), *count = cJSON_GetObjectItem(a->pc, "count"),
                *seq = cJSON_GetObjectItem(a->pc, "keySeq");
    struct device *d = &w->devices[index];
    if (a->status != ST_OK || first == NULL || count == NULL || seq == NULL || !d->has_ae_key || !vhost_running(w->h))
        return;
    for (int i = count->valueint > 3 ? count->valueint - 3 : 0; i < count->valueint; i++)
        seal_and_send(d, (uint32_t)first->valuedouble + (uint32_t)i, (uint8_t)seq->valueint);
}

void ae_command(struct device *d, unsigned count)
{
    char path[64], body[32];
    snprintf(path, sizeof path, "mef/eg/devices/%016" PRIx64 "/ticket", d->eui);
    snprintf(body, sizeof body, "{\"count\":%u}", count);
    ask(d->w, &d->w->aes[0],
        &(struct vask){.op = CSE_CREATE, .path = path, .body = span_str(body), .done = ticket, .tag = d->index});
}

void ae_tick(void *user, uint64_t arg)
{
    struct world *w = user;
    (void)arg;
    vhost_at(w->h, 500 + draw(w, 3000), ae_tick, w, 0);
    if (!vhost_running(w->h) || w->calm)
        return;
    struct device *d = &w->devices[draw(w, w->ndevices)];
    switch (draw(w, 4)) {
    case 0:
        steal(d);
        return;
    case 1:
        ae_look(d);
        return;
    default:
        if (d->has_ae_key)
            ae_command(d, 1 + (unsigned)draw(w, 4));
        else
            ae_look(d);
    }
}
