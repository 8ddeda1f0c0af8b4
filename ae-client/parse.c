#include "ae-client/parse.h"

#include "config/names.h"

#include <cjson/cJSON.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

static const char *string_at(const cJSON *obj, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(obj, name));
}

static bool copy_text(const char *text, char *out, size_t cap)
{
    return text != NULL && text[0] != '\0' && (size_t)snprintf(out, cap, "%s", text) < cap;
}

static bool integer_at(const cJSON *obj, const char *name, double max, double *out)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(obj, name);
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= max))
        return false;
    *out = item->valuedouble;
    return true;
}

enum st aec_parse_uril(struct span body, char relkeyid[AEC_ID_MAX])
{
    cJSON *root = cJSON_ParseWithLength((const char *)body.p, body.n);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, M2M_SN_URI_LIST);
    enum st st = ST_INTERNAL;
    if (cJSON_IsArray(list) && cJSON_GetArraySize(list) == 0) {
        st = ST_NOT_FOUND;
    } else if (cJSON_IsArray(list)) {
        const char *uri = cJSON_GetStringValue(cJSON_GetArrayItem(list, 0));
        const char *slash = uri != NULL ? strrchr(uri, '/') : NULL;
        if (copy_text(slash != NULL ? slash + 1 : uri, relkeyid, AEC_ID_MAX))
            st = ST_OK;
    }
    cJSON_Delete(root);
    return st;
}

enum st aec_parse_registration(struct span body, char id[AEC_ID_MAX])
{
    cJSON *root = cJSON_ParseWithLength((const char *)body.p, body.n);
    const cJSON *reg = cJSON_GetObjectItemCaseSensitive(root, MEF_SN_CLIENT_REG);
    bool ok = copy_text(string_at(reg, M2M_SN_RESOURCE_ID), id, AEC_ID_MAX);
    cJSON_Delete(root);
    return ok ? ST_OK : ST_INTERNAL;
}

/* Padded base64 (RFC 4648 4). Returns false unless it gives 1 to AEC_KEY_MAX bytes. */
static bool decode_value(const char *text, struct aec_key *k)
{
    uint8_t buf[AEC_KEY_MAX + 3]; /* EVP_DecodeBlock counts padding as bytes */
    size_t n = text != NULL ? strlen(text) : 0;
    if (n == 0 || n % 4 != 0 || n / 4 * 3 > sizeof buf)
        return false;
    int got = EVP_DecodeBlock(buf, (const unsigned char *)text, (int)n);
    size_t padding = (size_t)(text[n - 1] == '=') + (size_t)(text[n - 2] == '=');
    bool ok = got > 0 && (size_t)got - padding >= 1 && (size_t)got - padding <= AEC_KEY_MAX;
    if (ok) {
        k->len = (size_t)got - padding;
        memcpy(k->value, buf, k->len);
    }
    OPENSSL_cleanse(buf, sizeof buf);
    return ok;
}

static void read_label(const char *label, struct aec_key *k)
{
    if (strncmp(label, MEF_LABEL_EUI64, strlen(MEF_LABEL_EUI64)) == 0 &&
        !eui64_parse(label + strlen(MEF_LABEL_EUI64), &k->device))
        k->device = 0;
    if (strncmp(label, MEF_LABEL_GATEWAY, strlen(MEF_LABEL_GATEWAY)) == 0 &&
        !eui64_parse(label + strlen(MEF_LABEL_GATEWAY), &k->gateway))
        k->gateway = 0;
    if (strncmp(label, MEF_LABEL_KEYSEQ, strlen(MEF_LABEL_KEYSEQ)) == 0)
        k->key_seq = (uint8_t)strtoul(label + strlen(MEF_LABEL_KEYSEQ), NULL, 10);
}

static bool read_key(const cJSON *skr, const char *relkeyid, struct aec_key *k)
{
    double suid;
    if (!decode_value(string_at(skr, MEF_SN_KEY_VALUE), k) || !copy_text(relkeyid, k->relkeyid, AEC_ID_MAX) ||
        !integer_at(skr, MEF_SN_SUID, 99, &suid))
        return false;
    k->suid = (unsigned)suid;
    const cJSON *label;
    cJSON_ArrayForEach(label, cJSON_GetObjectItemCaseSensitive(skr, M2M_SN_LABELS))
    {
        if (cJSON_IsString(label))
            read_label(label->valuestring, k);
    }
    return true;
}

enum st aec_parse_key(struct span body, const char *relkeyid, struct aec_key **out)
{
    struct aec_key *k = OPENSSL_secure_zalloc(sizeof *k);
    if (k == NULL)
        return ST_INTERNAL;
    cJSON *root = cJSON_ParseWithLength((const char *)body.p, body.n);
    const cJSON *skr = cJSON_GetObjectItemCaseSensitive(root, MEF_SN_KEY_REG);
    bool ok = read_key(skr, relkeyid, k);
    cJSON *kv = cJSON_GetObjectItemCaseSensitive(skr, MEF_SN_KEY_VALUE);
    if (cJSON_IsString(kv))
        OPENSSL_cleanse(kv->valuestring, strlen(kv->valuestring));
    cJSON_Delete(root);
    if (!ok) {
        aec_key_free(k);
        return ST_INTERNAL;
    }
    *out = k;
    return ST_OK;
}

void aec_key_free(struct aec_key *k)
{
    OPENSSL_secure_clear_free(k, sizeof *k);
}

static bool read_ticket(const cJSON *t, struct aec_ticket *out)
{
    double first, count, key_seq;
    const char *source = string_at(t, "source");
    if (source == NULL || !eui64_parse(source, &out->gateway) || !integer_at(t, "first", UINT32_MAX - 1.0, &first) ||
        !integer_at(t, "count", 16, &count) || count < 1 || !integer_at(t, "keySeq", 0xff, &key_seq))
        return false;
    out->counter = (uint32_t)first;
    out->count = (unsigned)count;
    out->key_seq = (uint8_t)key_seq;
    return true;
}

enum st aec_parse_ticket(struct span body, struct aec_ticket *out)
{
    cJSON *root = cJSON_ParseWithLength((const char *)body.p, body.n);
    bool ok = read_ticket(root, out);
    cJSON_Delete(root);
    return ok ? ST_OK : ST_INTERNAL;
}

enum st aec_parse_device(struct span body, struct aec_ticket *out)
{
    cJSON *root = cJSON_ParseWithLength((const char *)body.p, body.n);
    double address;
    enum st st = ST_INTERNAL;
    if (string_at(root, "state") != NULL)
        st = copy_text(string_at(root, "keyId"), out->relkeyid, AEC_ID_MAX) &&
                     integer_at(root, "nwkAddress", 0xfff7, &address)
                 ? ST_OK
                 : ST_NOT_FOUND;
    if (st == ST_OK)
        out->device = (uint16_t)address;
    cJSON_Delete(root);
    return st;
}

void aec_parse_detail(struct span body, char text[AEC_TEXT_MAX])
{
    cJSON *root = cJSON_ParseWithLength((const char *)body.p, body.n);
    const char *detail = string_at(root, M2M_SN_DEBUG);
    if (detail == NULL)
        detail = string_at(root, "detail");
    if (detail == NULL)
        detail = string_at(root, "code");
    snprintf(text, AEC_TEXT_MAX, "%s", detail != NULL ? detail : "");
    for (char *c = text; *c != '\0'; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = ' ';
    cJSON_Delete(root);
}
