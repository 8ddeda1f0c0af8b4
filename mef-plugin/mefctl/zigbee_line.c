#include "mef-plugin/mefctl/zigbee_line.h"
#include "mef-plugin/mefctl/zigbee_inputs.h"
#include <malloc.h>
#include <openssl/crypto.h>
#include <stdlib.h>

struct zb_line {
    struct zb_crypto *crypto;
    char text[ZB_LINE_MAX + 1]; /* the line with its NUL, which cJSON needs */
};

/* cJSON's copies of a line hold keys. */
static void wiping_free(void *p)
{
    if (p != NULL)
        OPENSSL_cleanse(p, malloc_usable_size(p));
    free(p);
}

struct zb_line *zb_line_new(void)
{
    cJSON_InitHooks(&(cJSON_Hooks){malloc, wiping_free});
    struct zb_line *z = calloc(1, sizeof *z);
    if (z == NULL)
        return NULL;
    z->crypto = zb_crypto_new();
    if (z->crypto != NULL)
        return z;
    free(z);
    return NULL;
}

void zb_line_free(struct zb_line *z)
{
    if (z == NULL)
        return;
    zb_crypto_free(z->crypto);
    OPENSSL_cleanse(z, sizeof *z);
    free(z);
}

static void error_only(struct wr *out, const char *error)
{
    struct answer a = answer_begin(out);
    answer_text(&a, "error", error);
    answer_end(&a);
}

static const char *member_text(const cJSON *line, const char *name, const char *alias)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(line, name));
    return text != NULL ? text : cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(line, alias));
}

/* The link key of an install code and what is derived from it. */
static void link_key(struct zb_crypto *c, const cJSON *line, struct wr *out)
{
    static const struct {
        const char *name;
        enum zb_derived which;
    } derived[] = {
        {"key_transport_key", ZB_KEY_TRANSPORT}, {"key_load_key", ZB_KEY_LOAD}, {"verify_key_hash", ZB_KEY_VERIFY}};
    const char *text = member_text(line, "install_code", "install_code_text");
    if (text == NULL) {
        error_only(out, "missing:install_code");
        return;
    }
    uint8_t code[18], key[ZB_KEY], of[ZB_KEY];
    size_t len = 0, start = out->n;
    enum zb_err e = zb_install_code_parse(text, code, &len);
    if (e == ZB_OK)
        e = zb_install_code_key(c, span_of(code, len), key);
    struct answer a = answer_begin(out);
    if (e == ZB_OK)
        answer_hex(&a, "link_key", span_of(key, sizeof key));
    for (size_t i = 0; e == ZB_OK && i < sizeof derived / sizeof derived[0]; i++) {
        e = zb_derive(c, key, derived[i].which, of);
        answer_hex(&a, derived[i].name, span_of(of, sizeof of));
    }
    answer_end(&a);
    if (e != ZB_OK) {
        out->n = start;
        error_only(out, zb_err_name(e));
    }
    OPENSSL_cleanse(code, sizeof code);
    OPENSSL_cleanse(key, sizeof key);
    OPENSSL_cleanse(of, sizeof of);
}

static void label(struct zb_crypto *c, const cJSON *line, struct wr *out)
{
    (void)c;
    const char *text = member_text(line, "text", "label");
    struct zb_label l;
    const char *why = "missing:text";
    size_t at = 0;
    if (text == NULL || zb_label_parse(text, &l, &why, &at) != ZB_OK) {
        struct answer refusal = answer_begin(out);
        answer_text(&refusal, "error", why);
        if (at != 0)
            answer_number(&refusal, "position", at);
        answer_end(&refusal);
        return;
    }
    struct answer a = answer_begin(out);
    answer_eui64(&a, "eui64_text", l.eui64);
    answer_hex(&a, l.is_link_key ? "link_key" : "install_code", span_of(l.bytes, l.len));
    answer_end(&a);
    OPENSSL_cleanse(&l, sizeof l);
}

/* A verb as the callers see it, and what answers it. */
static const struct {
    struct zb_verb verb;
    void (*answer)(struct zb_crypto *c, const cJSON *line, struct wr *out);
} table[] = {
    {{"forge", "{\"kind\",\"inputs\"} to {\"nwk_frame\",\"aps_frame\"}"}, zb_forge},
    {{"decode", "{\"nwk_frame\",\"link_key\"?,\"network_key\"?} to {\"ok\",\"kind\",..}"}, zb_decode},
    {{"link-key", "{\"install_code\"} to the link key and the keys derived from it"}, link_key},
    {{"label", "{\"text\"} to {\"eui64_text\",\"install_code\" or \"link_key\"}"}, label},
};

const struct zb_verb *zb_verb_at(size_t i)
{
    return i < sizeof table / sizeof table[0] ? &table[i].verb : NULL;
}

static size_t verb_find(const char *name)
{
    size_t i = 0;
    while (zb_verb_at(i) != NULL && strcmp(zb_verb_at(i)->name, name) != 0)
        i++;
    return i;
}

const struct zb_verb *zb_verb_find(const char *name)
{
    return zb_verb_at(verb_find(name));
}

/* A JSON object and nothing after it. cJSON would end a string at \u0000 unseen: no input has one. */
static cJSON *parse(struct zb_line *z, struct span line)
{
    if (line.n > ZB_LINE_MAX || memchr(line.p, '\0', line.n) != NULL)
        return NULL;
    memcpy(z->text, line.p, line.n);
    z->text[line.n] = '\0';
    if (strstr(z->text, "\\u0000") != NULL)
        return NULL;
    cJSON *json = cJSON_ParseWithLengthOpts(z->text, line.n + 1, NULL, true);
    if (cJSON_IsObject(json))
        return json;
    cJSON_Delete(json);
    return NULL;
}

void zb_line_answer(struct zb_line *z, const struct zb_verb *verb, struct span line, struct wr *out)
{
    cJSON *json = line.n <= ZB_LINE_MAX && line.n != 0 ? parse(z, line) : NULL;
    if (json != NULL)
        table[verb_find(verb->name)].answer(z->crypto, json, out);
    else
        error_only(out, line.n > ZB_LINE_MAX ? "line-too-long" : "bad-json");
    wr_u8(out, '\n');
    cJSON_Delete(json);
    OPENSSL_cleanse(z->text, line.n < sizeof z->text ? line.n : sizeof z->text);
}
