/* The descriptions of commands (TS-0003 8.3.9.4 to 8.3.9.9, 12). */
#include "mef-plugin/mef/command.h"
#include "mef-plugin/mef/internal.h"

#include <ctype.h>
#include <stdlib.h>

static bool bad(struct mef_result *r, const char *field, const char *detail)
{
    return mef_refuse(r, ST_BAD_REQUEST, "bad-value", field, detail);
}

static bool in_range(const struct attr_value *v, int64_t max)
{
    return v->number >= 1 && v->number <= max;
}

/* A URI (RFC 3986) with this MEF, by the name `ours`, as its authority, a port allowed. The client refuses any other
 * (TS-0003 8.3.9). */
/* Conformance: C-9 | TS-0003 8.3.9 | shown by: test_commands.py:test_a_uri_names_the_mef */
static bool is_ours(const char *ours, const char *uri)
{
    char host[MEF_ID], fqdn[MEF_ID];
    size_t n = 0;
    if (!isalpha((unsigned char)*uri))
        return false;
    while (isalnum((unsigned char)*uri) || (*uri != '\0' && strchr("+-.", *uri) != NULL))
        uri++;
    if (strncmp(uri, "://", 3) != 0)
        return false;
    for (uri += 3; *uri != '\0' && strchr(":/?#", *uri) == NULL && n < MEF_MAX_ID; uri++)
        host[n++] = *uri;
    host[n] = '\0';
    if (*uri == ':') {
        size_t digits = strspn(++uri, "0123456789");
        if (digits == 0 || digits > 5)
            return false;
        uri += digits;
    }
    if (*uri != '\0' && strchr("/?#", *uri) == NULL)
        return false;
    for (; *uri != '\0'; uri++)
        if (!isgraph((unsigned char)*uri))
            return false;
    return mef_fqdn_parse(host, fqdn) && strcmp(fqdn, ours) == 0;
}

/* --- CERT_PROV ---------------------------------------------------------------------------------------------------- */

enum { PROTOCOL, URI, SUBJECT_TYPE, SUBJECT };
static const struct attr cert_prov_args[] = {
    [PROTOCOL] = {MEF_LN_CERT_PROV_PROTOCOL, ATTR_NUMBER, ATTR_MAN, ATTR_NP, 2},
    [URI] = {MEF_LN_URI, ATTR_TEXT, ATTR_MAN, ATTR_NP, MEF_MAX_ID},
    [SUBJECT_TYPE] = {MEF_LN_CERT_SUBJECT_TYPE, ATTR_NUMBER, ATTR_MAN, ATTR_NP, 3},
    [SUBJECT] = {MEF_LN_CERT_SUBJECT_ID, ATTR_TEXT, ATTR_MAN, ATTR_NP, MEF_MAX_ID},
};
enum { SUBJECT_NODE = 1, SUBJECT_CSE, SUBJECT_AE };

/* TS-0003 8.3.9.7 has AE and CSE the other way round, which can not be meant. */
static bool is_subject(const struct mef *m, int64_t type, const char *text)
{
    char id[MEF_ID];
    if (type == SUBJECT_NODE)
        return strpbrk(text, " /") == NULL;
    if (!mef_absolute(m, text, id, sizeof id))
        return false;
    const char *first = strchr(id + 2, '/'); /* "//sp/cse", "//sp/cse/Cae", "//sp/Sae" */
    bool one = strchr(first + 1, '/') == NULL;
    return type == SUBJECT_CSE ? one : !one || first[1] == 'S';
}

static bool check_cert_prov(const struct mef *m, const char *fqdn, const struct attr_value *v, struct mef_result *r)
{
    if (!in_range(&v[PROTOCOL], 2))
        return bad(r, MEF_LN_CERT_PROV_PROTOCOL, "1 (EST) or 2 (SCEP)");
    if (!is_ours(fqdn, v[URI].text))
        return bad(r, MEF_LN_URI, "a URI at this MEF's own FQDN");
    if (!in_range(&v[SUBJECT_TYPE], SUBJECT_AE))
        return bad(r, MEF_LN_CERT_SUBJECT_TYPE, "1 (Node-ID), 2 (CSE-ID) or 3 (AE-ID)");
    return is_subject(m, v[SUBJECT_TYPE].number, v[SUBJECT].text) ||
           bad(r, MEF_LN_CERT_SUBJECT_ID, "no id of that type");
}

/* --- DEV_CFG ------------------------------------------------------------------------------------------------------ */

static const struct attr dev_cfg_args[] = {
    {MEF_LN_DEVICE_CONFIG_URI, ATTR_TEXT, ATTR_MAN, ATTR_NP, MEF_MAX_ID},
};

/* "1:http://.." of OMA DM 1.3 to "4:.." of TR-069 (TS-0003 Table 12.2-1). */
static bool check_dev_cfg(const struct mef *m, const char *fqdn, const struct attr_value *v, struct mef_result *r)
{
    const char *text = v[0].text;
    (void)m;
    return (text[0] >= '1' && text[0] <= '4' && text[1] == ':' && is_ours(fqdn, text + 2)) ||
           bad(r, MEF_LN_DEVICE_CONFIG_URI, "1 to 4, a colon and a URI at this MEF's own FQDN");
}

/* --- MO_NODE ------------------------------------------------------------------------------------------------------ */

enum { OBJECT_PATH, OBJECT_TYPE, OBJECT_ARGS };
static const struct attr mo_node_args[] = {
    [OBJECT_PATH] = {MEF_LN_OBJECT_PATH, ATTR_TEXT, ATTR_MAN, ATTR_NP, MEF_MAX_ID},
    [OBJECT_TYPE] = {MEF_LN_OBJECT_TYPE, ATTR_NUMBER, ATTR_MAN, ATTR_NP, 3},
    [OBJECT_ARGS] = {MEF_LN_OBJECT_TYPE_ARGS, ATTR_OBJECT, ATTR_OPT, ATTR_NP, 0},
};
static const struct attr profile_args[] = {{MEF_LN_SUID, ATTR_NUMBER, ATTR_MAN, ATTR_NP, 99}};
enum { OBJECT_AUTHENTICATION_PROFILE = 1, OBJECT_TRUST_ANCHOR, OBJECT_MAF_CLIENT_REG_CFG };

/* The security usages of an [authenticationProfile] (TS-0003 8.3.9.9.2): by PSK, from the MEF, from the MAF, by
 * certificate; for a MAF, for a CSE or an AE, for end-to-end primitives. */
static bool is_profile_suid(int64_t suid)
{
    return suid >= 11 && suid <= 43 && suid % 10 >= 1 && suid % 10 <= 3;
}

static bool check_mo_node(const struct mef *m, const char *fqdn, const struct attr_value *v, struct mef_result *r)
{
    struct attr_value profile[1];
    (void)m, (void)fqdn;
    for (const char *p = v[OBJECT_PATH].text; *p != '\0'; p++)
        if (!isgraph((unsigned char)*p))
            return bad(r, MEF_LN_OBJECT_PATH, "a path without blanks");
    if (!in_range(&v[OBJECT_TYPE], OBJECT_MAF_CLIENT_REG_CFG))
        return bad(r, MEF_LN_OBJECT_TYPE, "1 (authenticationProfile), 2 (trustAnchorCred) or 3 (MAFClientRegCfg)");
    if ((v[OBJECT_TYPE].number == OBJECT_AUTHENTICATION_PROFILE) != v[OBJECT_ARGS].present)
        return bad(r, MEF_LN_OBJECT_TYPE_ARGS, "an authenticationProfile has them, and nothing else does");
    if (!v[OBJECT_ARGS].present)
        return true;
    return attrs_read(profile_args, 1, v[OBJECT_ARGS].array, true, profile, r) &&
           (is_profile_suid(profile[0].number) || bad(r, MEF_LN_SUID, "no security usage of an authenticationProfile"));
}

/* --- all ---------------------------------------------------------------------------------------------------------- */

#define MAX_ARGS 4
#define ARGS(a) (a), sizeof(a) / sizeof *(a)
static const struct {
    const char *name; /* the one member of cmdArgs */
    const struct attr *args;
    size_t nargs;
    bool (*check)(const struct mef *m, const char *fqdn, const struct attr_value *v, struct mef_result *r);
} classes[COMMAND_CLASSES] = {
    [COMMAND_CERT_PROV] = {MEF_LN_CERT_PROV_ARGS, ARGS(cert_prov_args), check_cert_prov},
    [COMMAND_DEV_CFG] = {MEF_LN_DEV_CFG_ARGS, ARGS(dev_cfg_args), check_dev_cfg},
    [COMMAND_MO_NODE] = {MEF_LN_MO_NODE_ARGS, ARGS(mo_node_args), check_mo_node},
};

enum { CLASS_ID, CMD_ARGS, TARGET_ID, MEMBERS };
static const struct attr members[MEMBERS] = {
    [CLASS_ID] = {MEF_LN_CMD_CLASS, ATTR_NUMBER, ATTR_MAN, ATTR_NP, COMMAND_CLASSES - 1},
    [CMD_ARGS] = {MEF_LN_CMD_ARGS, ATTR_OBJECT, ATTR_MAN, ATTR_NP, 0},
    [TARGET_ID] = {MEF_LN_TARGET_ID, ATTR_TEXT, ATTR_OPT, ATTR_NP,
                   MEF_MAX_ID}, /* when a node is the client: for whom */
};

static bool check(const struct mef *m, const char *fqdn, const cJSON *in, struct mef_result *r)
{
    struct attr_value v[MEMBERS], choice[1], args[MAX_ARGS];
    char id[MEF_ID];
    if (!attrs_read(members, MEMBERS, in, true, v, r))
        return false;
    const int64_t class = v[CLASS_ID].number;
    if (class == COMMAND_NO_MORE)
        return bad(r, MEF_LN_CMD_CLASS, "the MEF says NO_MORE_COMMANDS when there are none");
    if (v[TARGET_ID].present && mef_id(m, v[TARGET_ID].text, id) != ID_ENTITY)
        return bad(r, MEF_LN_TARGET_ID, "no AE-ID or CSE-ID");
    const struct attr chosen = {classes[class].name, ATTR_OBJECT, ATTR_MAN, ATTR_NP, 0};
    return attrs_read(&chosen, 1, v[CMD_ARGS].array, true, choice, r) &&
           attrs_read(classes[class].args, classes[class].nargs, choice[0].array, true, args, r) &&
           classes[class].check(m, fqdn, args, r);
}

char *command_read(const struct mef *m, const char *fqdn, const cJSON *in, struct mef_result *r)
{
    if (!check(m, fqdn, in, r))
        return NULL;
    char *text = cJSON_PrintUnformatted(in);
    if (text == NULL) {
        mef_refuse(r, ST_UNAVAILABLE, "no-memory", NULL, NULL);
    } else if (strlen(text) > COMMAND_MAX_TEXT) {
        free(text);
        text = NULL;
        bad(r, NULL, "a description has up to 1024 bytes");
    }
    return text;
}

enum command_class command_class_of(const char *text)
{
    cJSON *description = cJSON_Parse(text);
    const cJSON *class = cJSON_GetObjectItemCaseSensitive(description, MEF_LN_CMD_CLASS);
    bool known = cJSON_IsNumber(class) && class->valueint > 0 && class->valueint < COMMAND_CLASSES;
    enum command_class of = known ? (enum command_class) class->valueint : COMMAND_NO_MORE;
    cJSON_Delete(description);
    return of;
}
