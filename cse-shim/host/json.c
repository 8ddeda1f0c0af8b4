#include "cse-shim/host/json.h"

#include <malloc.h>
#include <math.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

#define PRINT_ROOM 768 /* bytes: below malloc()'s slow sizes */

static void wiping_free(void *p)
{
    if (p != NULL)
        OPENSSL_cleanse(p, malloc_usable_size(p));
    free(p);
}

void json_wipe_on_free(void)
{
    cJSON_Hooks hooks = {malloc, wiping_free};
    cJSON_InitHooks(&hooks);
}

bool utf8_valid(struct span text)
{
    struct rd r = rd_of(text);
    uint8_t lead, next;
    while (rd_u8(&r, &lead)) {
        if (lead == 0 || (lead >= 0x80 && lead < 0xc2) || lead > 0xf4)
            return false;
        int more = lead < 0x80 ? 0 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
        for (int i = 0; i < more; i++) {
            if (!rd_u8(&r, &next) || (next & 0xc0) != 0x80)
                return false;
            /* Overlong forms, UTF-16 surrogates, and what lies above U+10FFFF. */
            if (i == 0 && ((lead == 0xe0 && next < 0xa0) || (lead == 0xed && next > 0x9f) ||
                           (lead == 0xf0 && next < 0x90) || (lead == 0xf4 && next > 0x8f)))
                return false;
        }
    }
    return true;
}

/* --- the strict grammar of RFC 8259, which cJSON only approximates ------------------------------------------------- */

static bool peek(const struct rd *r, uint8_t c)
{
    return r->n > 0 && r->p[0] == c;
}

static bool take(struct rd *r, uint8_t c)
{
    uint8_t got;
    return peek(r, c) && rd_u8(r, &got);
}

static void skip_space(struct rd *r)
{
    while (take(r, ' ') || take(r, '\t') || take(r, '\n') || take(r, '\r'))
        ;
}

static size_t take_digits(struct rd *r)
{
    size_t n = 0;
    uint8_t c;
    while (r->n > 0 && r->p[0] >= '0' && r->p[0] <= '9' && rd_u8(r, &c))
        n++;
    return n;
}

static bool scan_number(struct rd *r)
{
    (void)take(r, '-');
    if (!take(r, '0') && take_digits(r) == 0)
        return false;
    if (take(r, '.') && take_digits(r) == 0)
        return false;
    if (!take(r, 'e') && !take(r, 'E'))
        return true;
    (void)(take(r, '+') || take(r, '-'));
    return take_digits(r) > 0;
}

static bool one_of(uint8_t c, const char *set)
{
    return c != '\0' && strchr(set, c) != NULL;
}

static bool scan_unicode(struct rd *r)
{
    struct span hex;
    if (!rd_span(r, 4, &hex))
        return false;
    for (size_t i = 0; i < hex.n; i++)
        if (!one_of(hex.p[i], "0123456789abcdefABCDEF"))
            return false;
    return memcmp(hex.p, "0000", 4) != 0; /* NUL would cut a C string short */
}

static bool scan_escape(struct rd *r)
{
    uint8_t c;
    return rd_u8(r, &c) && one_of(c, "\"\\/bfnrtu") && (c != 'u' || scan_unicode(r));
}

static bool scan_string(struct rd *r)
{
    uint8_t c;
    if (!take(r, '"'))
        return false;
    while (rd_u8(r, &c)) {
        if (c == '"')
            return true;
        if (c < 0x20 || (c == '\\' && !scan_escape(r)))
            return false;
    }
    return false;
}

static bool scan_word(struct rd *r, const char *word)
{
    struct span s;
    return rd_span(r, strlen(word), &s) && span_eq(s, span_str(word));
}

static bool scan_value(struct rd *r, int depth);

static bool scan_members(struct rd *r, int depth, bool object)
{
    uint8_t end = object ? '}' : ']';
    skip_space(r);
    if (take(r, end))
        return true;
    do {
        skip_space(r);
        if (object && (!scan_string(r) || (skip_space(r), !take(r, ':'))))
            return false;
        if (!scan_value(r, depth + 1))
            return false;
    } while (take(r, ','));
    return take(r, end);
}

static bool scan_value(struct rd *r, int depth)
{
    bool ok;
    skip_space(r);
    if (depth > JSON_MAX_DEPTH)
        return false;
    if (take(r, '{'))
        ok = scan_members(r, depth, true);
    else if (take(r, '['))
        ok = scan_members(r, depth, false);
    else if (peek(r, '"'))
        ok = scan_string(r);
    else if (peek(r, 't') || peek(r, 'n'))
        ok = scan_word(r, peek(r, 't') ? "true" : "null");
    else if (peek(r, 'f'))
        ok = scan_word(r, "false");
    else
        ok = scan_number(r);
    skip_space(r);
    return ok;
}

/* --- what the grammar does not say -------------------------------------------------------------------------------------- */

static bool members_sound(const cJSON *object)
{
    int n = 0;
    const cJSON *m, *before;
    cJSON_ArrayForEach(m, object) {
        if (++n > JSON_MAX_MEMBERS)
            return false;
        cJSON_ArrayForEach(before, object) {
            if (before == m)
                break;
            if (strcmp(before->string, m->string) == 0)
                return false;
        }
    }
    return true;
}

bool json_sound(const cJSON *tree)
{
    if (cJSON_IsNumber(tree) && !isfinite(tree->valuedouble))
        return false;
    if (cJSON_IsObject(tree) && !members_sound(tree))
        return false;
    const cJSON *child;
    cJSON_ArrayForEach(child, tree) {
        if (!json_sound(child))
            return false;
    }
    return true;
}

cJSON *json_parse(struct span text, const char **why)
{
    struct rd r = rd_of(text);
    *why = "the body is not well-formed JSON, or nested too deeply";
    if (!utf8_valid(text)) {
        *why = "the body is not valid UTF-8";
        return NULL;
    }
    if (!scan_value(&r, 1) || !rd_end(&r))
        return NULL;
    cJSON *tree = cJSON_ParseWithLength((const char *)text.p, text.n);
    if (tree == NULL)
        return NULL;
    if (!cJSON_IsObject(tree) && !cJSON_IsArray(tree))
        *why = "the body must be a JSON object";
    else if (!json_sound(tree))
        *why = "the body repeats a member, has too many, or a number out of range";
    else
        return tree;
    cJSON_Delete(tree);
    return NULL;
}

/* cJSON prints 1e15 and more in exponent form; ids and counters must stay digits. Smaller ones it prints and scans back
 * to see whether digits were lost, at three times the cost. */
static bool spell_integers(cJSON *tree)
{
    double v = cJSON_IsNumber(tree) ? tree->valuedouble : 0;
    if (cJSON_IsNumber(tree) && fabs(v) < 9.2e18 && trunc(v) == v) {
        char *text = cJSON_malloc(24);
        if (text == NULL)
            return false;
        snprintf(text, 24, "%lld", (long long)v);
        tree->type = (tree->type & ~0xff) | cJSON_Raw;
        tree->valuestring = text;
    }
    cJSON *child;
    cJSON_ArrayForEach(child, tree) {
        if (!spell_integers(child))
            return false;
    }
    return true;
}

char *json_print(cJSON *tree)
{
    return spell_integers(tree) ? cJSON_PrintBuffered(tree, PRINT_ROOM, false) : NULL; /* most fit, and are not copied */
}

void json_text_free(char *text)
{
    cJSON_free(text);
}
