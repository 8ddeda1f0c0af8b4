#include "mef-plugin/mef/attrs.h"

#include "mef-plugin/mef/when.h"

bool mef_refuse(struct mef_result *r, enum st st, const char *code, const char *field, const char *detail)
{
    r->st = st;
    r->code = code;
    r->field = field;
    r->detail = detail;
    return false;
}

static bool is_text(const cJSON *j, size_t max)
{
    if (!cJSON_IsString(j) || j->valuestring[0] == '\0' || strlen(j->valuestring) > max)
        return false;
    for (const unsigned char *p = (const unsigned char *)j->valuestring; *p != '\0'; p++)
        if (*p < 0x20 || *p == 0x7f)
            return false;
    return true;
}

static bool is_whole(const cJSON *j, double max)
{
    return cJSON_IsNumber(j) && j->valuedouble >= 0 && j->valuedouble <= max &&
           (double)(int64_t)j->valuedouble == j->valuedouble;
}

static bool is_texts(const cJSON *j, double max)
{
    if (!cJSON_IsArray(j) || cJSON_GetArraySize(j) > (int)max)
        return false;
    const cJSON *e;
    cJSON_ArrayForEach(e, j) if (!is_text(e, ATTR_MAX_TEXT)) return false;
    return true;
}

static bool is_objects(const cJSON *j, double max)
{
    if (!cJSON_IsArray(j) || cJSON_GetArraySize(j) > (int)max)
        return false;
    const cJSON *e;
    cJSON_ArrayForEach(e, j) if (!cJSON_IsObject(e)) return false;
    return true;
}

/* Is the JSON value one of its type? The checked value goes to v. */
static bool read_value(const struct attr *a, const cJSON *j, struct attr_value *v)
{
    switch (a->type) {
    case ATTR_TEXT:
        v->text = j->valuestring;
        return is_text(j, (size_t)a->max);
    case ATTR_TIMESTAMP:
        return cJSON_IsString(j) && when_parse_m2m(j->valuestring, &v->number);
    case ATTR_DATE:
        return cJSON_IsString(j) && when_parse_rfc3339(j->valuestring, &v->number);
    case ATTR_NUMBER:
        if (!is_whole(j, a->max))
            return false;
        v->number = (int64_t)j->valuedouble;
        return true;
    case ATTR_TEXTS:
        v->array = j;
        return is_texts(j, a->max);
    case ATTR_OBJECT:
        v->array = j;
        return cJSON_IsObject(j);
    case ATTR_OBJECTS:
        v->array = j;
        return is_objects(j, a->max);
    }
    return false;
}

static bool read_member(const struct attr *a, const cJSON *j, bool create, struct attr_value *v, struct mef_result *r)
{
    enum attr_use use = create ? a->create : a->update;
    if (use == ATTR_NP)
        return mef_refuse(r, ST_BAD_REQUEST, "not-permitted", a->name, "this member can not be set here");
    if (v->present || v->null)
        return mef_refuse(r, ST_BAD_REQUEST, "duplicate", a->name, "the member is given twice");
    if (cJSON_IsNull(j) && !create && use == ATTR_CLEAR) {
        v->null = true;
        return true;
    }
    if (!read_value(a, j, v))
        return mef_refuse(r, ST_BAD_REQUEST, "bad-value", a->name, "the value is not of this member's type or range");
    v->present = true;
    return true;
}

bool attrs_read(const struct attr *table, size_t n, const cJSON *obj, bool create, struct attr_value *values,
                struct mef_result *r)
{
    memset(values, 0, n * sizeof *values);
    if (!cJSON_IsObject(obj))
        return mef_refuse(r, ST_BAD_REQUEST, "bad-type", NULL, "the body is not a JSON object");
    const cJSON *j;
    cJSON_ArrayForEach(j, obj)
    {
        size_t i = 0;
        while (i < n && strcmp(table[i].name, j->string) != 0)
            i++;
        if (i == n)
            return mef_refuse(r, ST_BAD_REQUEST, "unknown-member", j->string, "there is no such member");
        if (!read_member(&table[i], j, create, &values[i], r))
            return false;
    }
    for (size_t i = 0; i < n; i++)
        if ((create ? table[i].create : table[i].update) == ATTR_MAN && !values[i].present)
            return mef_refuse(r, ST_BAD_REQUEST, "missing", table[i].name, "a mandatory member is missing");
    return true;
}
