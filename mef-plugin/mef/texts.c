#include "mef-plugin/mef/texts.h"

#include <stdlib.h>

const char *strings_find(const struct strings *s, const char *text)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->v[i], text) == 0)
            return s->v[i];
    return NULL;
}

bool strings_has(const struct strings *s, const char *text)
{
    return strings_find(s, text) != NULL;
}

/* Append a text that is taken over. */
static bool append(struct strings *s, char *text)
{
    char **v = text == NULL ? NULL : reallocarray(s->v, s->n + 1, sizeof *v);
    if (v == NULL) {
        free(text);
        return false;
    }
    s->v = v;
    s->v[s->n++] = text;
    return true;
}

bool strings_add(struct strings *s, const char *text)
{
    return strings_has(s, text) || append(s, strdup(text));
}

void strings_free(struct strings *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->v[i]);
    free(s->v);
    *s = (struct strings){0};
}

cJSON *strings_json(const struct strings *s)
{
    cJSON *a = cJSON_CreateArray();
    for (size_t i = 0; a != NULL && i < s->n; i++)
        cJSON_AddItemToArray(a, cJSON_CreateString(s->v[i]));
    return a;
}

void rec_text(struct wr *w, const char *text)
{
    size_t n = text == NULL ? 0 : strlen(text);
    if (n > UINT16_MAX) {
        w->overflow = true;
        return;
    }
    wr_be16(w, (uint16_t)n);
    wr_bytes(w, text, n);
}

bool rec_rd_text(struct rd *r, char **out)
{
    uint16_t n;
    struct span s;
    if (!rd_be16(r, &n) || !rd_span(r, n, &s) || memchr(s.p, '\0', s.n) != NULL)
        return false;
    *out = strndup((const char *)s.p, s.n);
    return *out != NULL;
}

void rec_strings(struct wr *w, const struct strings *s)
{
    wr_be16(w, (uint16_t)s->n);
    for (size_t i = 0; i < s->n; i++)
        rec_text(w, s->v[i]);
}

bool rec_rd_strings(struct rd *r, struct strings *out)
{
    uint16_t n;
    if (!rd_be16(r, &n))
        return false;
    for (uint16_t i = 0; i < n; i++) {
        char *text = NULL;
        if (!rec_rd_text(r, &text) || !append(out, text))
            return false; /* the caller frees what is in `out` */
    }
    return true;
}
