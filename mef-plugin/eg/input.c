#include "mef-plugin/eg/input.h"

#include "mef-plugin/mef/when.h"

static bool known(const char *const *names, const char *name)
{
    for (; *names != NULL; names++)
        if (strcmp(*names, name) == 0)
            return true;
    return false;
}

bool input_members(const cJSON *in, const char *const *names, struct mef_result *r)
{
    if (!cJSON_IsObject(in))
        return mef_refuse(r, ST_BAD_REQUEST, "bad-type", NULL, "the body is not a JSON object");
    const cJSON *j;
    cJSON_ArrayForEach(j, in)
    {
        if (!known(names, j->string))
            return mef_refuse(r, ST_BAD_REQUEST, "unknown-member", j->string, "there is no such member");
        if (cJSON_GetObjectItemCaseSensitive(in, j->string) != j)
            return mef_refuse(r, ST_BAD_REQUEST, "duplicate", j->string, "the member is given twice");
    }
    return true;
}

bool input_is_text(const cJSON *j, size_t max)
{
    if (!cJSON_IsString(j) || j->valuestring[0] == '\0' || strlen(j->valuestring) > max)
        return false;
    for (const unsigned char *p = (const unsigned char *)j->valuestring; *p != '\0'; p++)
        if (*p < 0x20 || *p == 0x7f)
            return false;
    return true;
}

bool input_text(const cJSON *in, const char *name, size_t max, const char **out, struct mef_result *r)
{
    const cJSON *j = cJSON_GetObjectItemCaseSensitive(in, name);
    if (j == NULL)
        return true;
    if (!input_is_text(j, max))
        return mef_refuse(r, ST_BAD_REQUEST, "bad-value", name, "not a text, or an empty or too long one");
    *out = j->valuestring;
    return true;
}

bool input_time(const cJSON *in, const char *name, int64_t *out, struct mef_result *r)
{
    const char *text = NULL;
    if (!input_text(in, name, 40, &text, r))
        return false;
    if (text == NULL || ((when_parse_rfc3339(text, out) || when_parse_m2m(text, out)) && *out != 0)) /* 0: never */
        return true;
    return mef_refuse(r, ST_BAD_REQUEST, "bad-value", name, "not a time such as 2030-01-31T00:00:00Z");
}

bool input_list(const cJSON *in, const char *name, size_t max, bool (*fn)(void *user, const cJSON *element), void *user,
                struct mef_result *r)
{
    const cJSON *j = cJSON_GetObjectItemCaseSensitive(in, name), *element;
    if (j == NULL)
        return true;
    if (!cJSON_IsArray(j) || cJSON_GetArraySize(j) > (int)max)
        return mef_refuse(r, ST_BAD_REQUEST, "bad-value", name, "not an array, or one with too many elements");
    cJSON_ArrayForEach(element, j)
    {
        if (!fn(user, element))
            return mef_refuse(r, ST_BAD_REQUEST, "bad-value", name, "an element is not of the right form");
    }
    return true;
}

void output_time(cJSON *out, const char *name, int64_t ms)
{
    char text[WHEN_TEXT];
    if (ms == 0)
        return;
    when_print_rfc3339(ms, text);
    cJSON_AddStringToObject(out, name, text);
}

void output_eui(cJSON *out, const char *name, eui64_t eui)
{
    char text[17];
    eui64_print(eui, text);
    cJSON_AddStringToObject(out, name, text);
}
