/* The whole plugin through cse_plugin.h: the input is a story, a byte for what happens and bytes for how. Operators,
 * AEs, gateways and strangers ask; frames and EG messages are well-formed and sealed for real where a bit says so; time
 * passes, the disk finishes late or never, the process is killed. What must hold:
 *  - each request is answered exactly once, and all are once the disk is done;
 *  - no (key, source, counter) leaves twice;
 *  - no answer that is not marked sensitive, and no message to a gateway, holds a key. */
#include "tests/fuzz/fuzz_plugin.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_STEPS 60

static const char *const codes[] = {"83FED3407A939723A5C639B26916D505C3B5", "83FED3407A939723A5C639FF4C12",
                                    "83FED3407A939738C552"};

_Noreturn void broken(const char *what)
{
    fprintf(stderr, "broken: %s\n", what);
    abort();
}

static void keep_id(void *user, uint64_t tag, const struct vanswer *a)
{
    struct story *s = user;
    const char *id = cJSON_GetStringValue(cJSON_GetObjectItem(a->pc, "kpmId"));
    const char *kpm = cJSON_GetStringValue(cJSON_GetObjectItem(a->pc, "kpm"));
    uint8_t key[ZB_KEY];
    snprintf(s->kpm[tag], sizeof s->kpm[tag], "%s", id != NULL ? id : "");
    if (kpm != NULL && hex_decode(kpm, 2 * ZB_KEY, key, ZB_KEY))
        secret(s, key);
}

static void begin(struct story *s)
{
    static const char *const whom[] = {"gateway:0", "gateway:1", "//example.org/in-cse/C0", "//example.org/in-cse/C1"};
    char body[200];
    vhost_start(s->h);
    open_sessions(s);
    for (uint64_t i = 0; i < 4; i++) {
        snprintf(body, sizeof body, "{\"for\":\"%s\",\"kind\":\"psk\"}", whom[i]);
        vhost_ask(s->h, &(struct vask){.op = CSE_CREATE,
                                       .path = "v1/credentials",
                                       .body = span_str(body),
                                       .authorization = VHOST_OPERATOR,
                                       .done = keep_id,
                                       .user = s,
                                       .tag = i});
    }
    vhost_disk(s->h);
    for (size_t i = 0; i < 3; i++) {
        uint8_t code[18];
        size_t n;
        if (zb_install_code_parse(codes[i], code, &n) != ZB_OK ||
            zb_install_code_key(s->crypto, span_of(code, n), s->link_keys[i]) != ZB_OK)
            broken("the codes");
        secret(s, s->link_keys[i]);
    }
}

static void finish(struct story *s)
{
    for (int i = 0; i < 4; i++) {
        vhost_disk(s->h);
        for (size_t k = 0; k < 16; k++)
            vhost_sent(s->h, s->sends[k], ST_UPDATED);
    }
    struct vhost_stats st = vhost_stats(s->h);
    if (st.twice != 0)
        broken("a request was answered twice");
    if (st.open != 0)
        broken("a request was never answered");
    if (st.fatal != 0)
        broken("the plugin gave up");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct story *s = calloc(1, sizeof *s);
    if (s == NULL)
        abort();
    s->in = rd_of(span_of(data, size));
    s->crypto = zb_crypto_new();
    s->used = used_new();
    s->h = vhost_new(
        7, "allow-short-install-codes = true\nmax-devices = 4\nmax-gateways = 3\nstored-responses = 8\nkept-frames = 2",
        &(struct vpeers){s, on_sent, notified, NULL});
    begin(s);
    for (int i = 0; i < MAX_STEPS && s->in.n > 0; i++)
        step(s);
    finish(s);
    vhost_free(s->h);
    used_free(s->used);
    zb_crypto_free(s->crypto);
    free(s);
    return 0;
}
