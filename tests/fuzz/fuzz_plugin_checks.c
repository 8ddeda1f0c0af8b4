/* What comes back in a story: secrets that must not, counters that must not twice, keys that the devices learn. */
#include "tests/fuzz/fuzz_plugin.h"

#include <openssl/evp.h>

/* --- secrets ------------------------------------------------------------------------------------------------------ */

void secret(struct story *s, const uint8_t key[ZB_KEY])
{
    for (size_t i = 0; i < s->nsecrets; i++)
        if (memcmp(s->raw[i], key, ZB_KEY) == 0)
            return;
    if (s->nsecrets == SECRETS)
        return;
    memcpy(s->raw[s->nsecrets], key, ZB_KEY);
    hex_encode(key, ZB_KEY, s->secrets[s->nsecrets][0]);
    EVP_EncodeBlock((unsigned char *)s->secrets[s->nsecrets++][1], key, ZB_KEY);
}

static void look_for_secrets(struct story *s, struct span body, const cJSON *pc)
{
    char *text = pc != NULL ? cJSON_PrintUnformatted(pc) : NULL;
    for (size_t i = 0; i < s->nsecrets; i++) {
        if (body.n >= ZB_KEY && memmem(body.p, body.n, s->raw[i], ZB_KEY) != NULL)
            broken("a key in the clear in a message");
        if (text != NULL && (strcasestr(text, s->secrets[i][0]) != NULL || strstr(text, s->secrets[i][1]) != NULL))
            broken("a key in an answer that is not marked sensitive");
    }
    cJSON_free(text);
}

/* --- what comes back ---------------------------------------------------------------------------------------------- */

/* A Transport-Key with a network key, under this link key. */
static bool take_key(struct story *s, const struct egp_message *m, struct span frame, const uint8_t link_key[ZB_KEY])
{
    struct zb_nwk n;
    struct zb_aps a;
    struct zb_aux aux;
    struct zb_cmd c;
    uint8_t buf[ZB_NWK_MAX];
    struct wr plain = wr_of(buf, sizeof buf);
    eui64_t device = m->env.device - DEVICE;
    if (zb_nwk_parse(frame, &n) != ZB_OK || zb_aps_open(s->crypto, link_key, n.payload, 0, &a, &aux, &plain) != ZB_OK ||
        zb_cmd_parse(wr_span(&plain), &c) != ZB_OK)
        return false;
    if (!used_note(s->used, link_key, aux.src64, aux.counter, m->env.transaction, frame))
        broken("a counter is used twice under a link key");
    secret(s, c.key);
    if (device < DEVICES) {
        memcpy(s->device[device].key, c.key, ZB_KEY);
        memmove(s->device[device].link_key, link_key, ZB_KEY);
        s->device[device].key_seq = c.key_seq;
        s->device[device].known = true;
    }
    return true;
}

/* A key under an install code; or a Rejoin Response, behind which one comes under the device's link key. */
static void take_response(struct story *s, const struct egp_message *m)
{
    struct zb_nwk n;
    struct span frame = m->u.response.nwk_frame;
    if (zb_nwk_parse(frame, &n) == ZB_OK && (n.fcf & ZB_FCF_TYPE) == ZB_NWK_COMMAND)
        return;
    for (size_t i = 0; i < 3; i++)
        if (take_key(s, m, frame, s->link_keys[i]))
            return;
    broken("a key is sealed under no registered code");
}

/* The commands of the second exchange, under a link key that the device has, or is to have. */
static void take_command(struct story *s, eui64_t device, struct span aps)
{
    struct zb_aps a;
    struct zb_aux aux;
    struct zb_cmd c;
    uint8_t buf[ZB_NWK_MAX];
    if (device >= DEVICES || zb_aps_parse(aps, &a) != ZB_OK || (a.fcf & 3u) != ZB_APS_COMMAND ||
        (a.fcf & ZB_APS_SECURITY) == 0)
        return;
    for (size_t i = 0; i < s->nsecrets; i++) {
        struct wr plain = wr_of(buf, sizeof buf);
        if (zb_aps_open(s->crypto, s->raw[i], aps, 0, &a, &aux, &plain) != ZB_OK ||
            zb_cmd_parse(wr_span(&plain), &c) != ZB_OK)
            continue;
        if (!used_note(s->used, s->raw[i], aux.src64, aux.counter, 0, aps))
            broken("a counter is used twice under a link key");
        if (c.id == ZB_TRANSPORT_KEY) {
            memcpy(s->device[device].offered, c.key, ZB_KEY);
            secret(s, c.key);
        } else if (c.id == ZB_CONFIRM_KEY) {
            memcpy(s->device[device].link_key, s->raw[i], ZB_KEY);
        }
        return;
    }
    if (s->nsecrets < SECRETS)
        broken("a command under no key of the device");
}

static void take_downlink(struct story *s, const struct egp_message *m)
{
    struct zb_nwk n;
    struct zb_aux aux;
    uint8_t buf[ZB_NWK_MAX];
    struct span frame = m->u.frame.nwk_frame;
    bool bare = zb_nwk_parse(frame, &n) == ZB_OK && (n.fcf & ZB_FCF_SECURITY) == 0;
    for (size_t i = 0; i < s->nsecrets; i++) {
        struct wr plain = wr_of(buf, sizeof buf);
        if (bare && take_key(s, m, frame, s->raw[i]))
            return;
        if (zb_nwk_open(s->crypto, s->raw[i], frame, &n, &aux, &plain) != ZB_OK)
            continue;
        if (!used_note(s->used, s->raw[i], aux.src64, aux.counter, m->env.transaction, frame))
            broken("a counter is used twice under a network key");
        take_command(s, m->env.device - DEVICE, wr_span(&plain));
        return;
    }
    if (bare && s->nsecrets < SECRETS)
        broken("a key under no key of the device");
}

void answered(void *user, uint64_t tag, const struct vanswer *a)
{
    struct story *s = user;
    struct egp_message m;
    (void)tag;
    if (!a->sensitive)
        look_for_secrets(s, a->body, a->pc);
    if (a->observation != 0)
        s->observations[s->nobservations++ % 8] = a->observation;
    if (strncmp(a->location, "mef/", 4) == 0)
        snprintf(s->last, sizeof s->last, "%s", a->location);
    const char *found = cJSON_GetStringValue(cJSON_GetArrayItem(cJSON_GetObjectItem(a->pc, "m2m:uril"), 0));
    if (found != NULL)
        snprintf(s->last, sizeof s->last, "%s", found);
    if (cJSON_GetObjectItem(a->pc, "first") != NULL) {
        s->ticket = (uint32_t)cJSON_GetObjectItem(a->pc, "first")->valuedouble;
        s->tickets = (uint32_t)cJSON_GetObjectItem(a->pc, "count")->valuedouble;
    }
    if (a->body.n != 0 && egp_decode(a->body, &m) == NULL && m.env.type == EGP_RESPONSE &&
        m.u.response.reason == EGP_OK)
        take_response(s, &m);
}

void on_sent(void *user, uint64_t session, uint64_t id, struct span body)
{
    struct story *s = user;
    struct egp_message m;
    (void)session;
    if (egp_decode(body, &m) != NULL)
        broken("a message that does not decode");
    look_for_secrets(s, body, NULL);
    s->sends[s->nsends++ % 16] = id;
    if (m.env.type == EGP_DOWNLINK)
        take_downlink(s, &m);
}

void notified(void *user, uint64_t observation, const struct cse_response *rsp)
{
    (void)observation;
    if (!rsp->sensitive)
        look_for_secrets(user, rsp->body, rsp->pc);
}
