/* Spellings of the identities that oneM2M knows (TS-0001 Table 7.2-1), and the completion of their short forms. */
#include "mef-plugin/mef/internal.h"

#include <ctype.h>
#include <stdio.h>

/* Copy in lower case what is a host name: dot-separated labels of letters, digits and inner hyphens. Returns its length
 * (the text may go on with `end`), 0: none. */
static size_t host_name(const char *text, char end, char out[MEF_ID])
{
    size_t n = 0, label = 0, dots = 0;
    for (; text[n] != '\0' && text[n] != end; n++) {
        unsigned char c = (unsigned char)text[n];
        bool inner = label > 0 && text[n + 1] != '.' && text[n + 1] != '\0' && text[n + 1] != end;
        if (n == MEF_MAX_ID)
            return 0;
        if (c == '.' && label > 0) {
            dots++;
            label = 0;
        } else if ((isalnum(c) || (c == '-' && inner)) && label < 63) {
            label++;
        } else {
            return 0;
        }
        out[n] = (char)tolower(c);
    }
    out[n] = '\0';
    return label > 0 && dots > 0 ? n : 0;
}

bool mef_fqdn_parse(const char *text, char *out)
{
    return host_name(text, '\0', out) > 0;
}

/* One path segment of unreserved characters (RFC 3986 2.3); its length, 0: none. */
static size_t segment(const char *text)
{
    size_t n = 0;
    while (isalnum((unsigned char)text[n]) || (text[n] != '\0' && strchr("-._~", text[n]) != NULL))
        n++;
    return n;
}

/* "/seg" or "/seg/seg" and nothing behind. */
static bool relative(const char *text)
{
    for (unsigned segments = 1; segments <= 2; segments++) {
        size_t n = *text == '/' ? segment(text + 1) : 0;
        if (n == 0)
            return false;
        text += n + 1;
        if (*text == '\0')
            return true;
    }
    return false;
}

static bool put(char *out, size_t cap, const char *a, const char *b, const char *c)
{
    int n = snprintf(out, cap, "%s%s%s", a, b, c);
    return n > 0 && (size_t)n < cap;
}

bool mef_absolute(const struct mef *m, const char *id, char *out, size_t cap)
{
    char host[MEF_ID];
    if (id[0] == '/' && id[1] == '/') {
        size_t n = host_name(id + 2, '/', host);
        return n > 0 && relative(id + 2 + n) && put(out, cap, "//", host, id + 2 + n);
    }
    if (id[0] == '/')
        return relative(id) && put(out, cap, m->sp_id, id, "");
    if (segment(id) == 0 || id[segment(id)] != '\0')
        return false;
    if (id[0] == 'S') /* assigned by the service provider: unique without a CSE */
        return put(out, cap, m->sp_id, "/", id);
    char cse[2 * MEF_ID];
    return id[0] == 'C' && put(cse, sizeof cse, m->sp_id, m->cse_id, "/") && put(out, cap, cse, id, "");
}

/* "gateway:NAME", "node:ID", or an EUI-64 alone. An EUI-64 that begins with a capital 'C' is an AE-ID stem; write the
 * digits in lower case or with "gateway:" in front. */
static bool gateway(const char *id, char out[MEF_ID])
{
    eui64_t eui;
    char hex[17];
    bool prefixed = strncmp(id, "gateway:", 8) == 0;
    if ((prefixed || id[0] != 'C') && eui64_parse(prefixed ? id + 8 : id, &eui)) {
        eui64_print(eui, hex);
        return put(out, MEF_ID, "gateway:", hex, "");
    }
    if (!prefixed && strncmp(id, "node:", 5) != 0)
        return false;
    const char *name = strchr(id, ':') + 1;
    for (const char *p = name; *p != '\0'; p++)
        if (!isgraph((unsigned char)*p))
            return false;
    return *name != '\0' && put(out, MEF_ID, id, "", "");
}

enum id_kind mef_id(const struct mef *m, const char *id, char out[MEF_ID])
{
    if (gateway(id, out))
        return ID_GATEWAY;
    if (mef_absolute(m, id, out, MEF_ID))
        return ID_ENTITY;
    return mef_fqdn_parse(id, out) ? ID_FQDN : ID_NONE;
}

bool mef_id_beginning(const char *text, char out[MEF_ID])
{
    size_t n = strlen(text), at = 2;
    if (n <= at || n > MEF_MAX_ID || strncmp(text, "//", at) != 0)
        return false;
    memcpy(out, text, n + 1);
    for (; isalnum((unsigned char)out[at]) || (out[at] != '\0' && strchr(".-", out[at]) != NULL); at++)
        out[at] = (char)tolower((unsigned char)out[at]);
    while (out[at] == '/')
        at += 1 + segment(out + at + 1);
    return strcmp(out + at, "*") == 0;
}

/* "//sp.example.com/cse": one segment. One that begins with 'S' is an AE-ID that the service provider assigned. */
bool mef_id_is_cse(const char *id)
{
    const char *name = strncmp(id, "//", 2) == 0 ? strchr(id + 2, '/') : NULL;
    return name != NULL && name[1] != 'S' && strchr(name + 1, '/') == NULL;
}

bool mef_id_domain(const char *id, char out[MEF_ID])
{
    if (strncmp(id, "//", 2) != 0)
        return mef_fqdn_parse(id, out);
    const char *host = id + 2, *at = id + strlen(id);
    struct wr w = wr_of(out, MEF_ID);
    while (at > host) {
        const char *end = at;
        while (at > host && at[-1] != '/')
            at--;
        wr_bytes(&w, at, (size_t)(end - at));
        wr_u8(&w, at > host ? '.' : '\0');
        at -= at > host; /* the slash */
    }
    return wr_ok(&w);
}

/* Conformance: H-6 | TS-0003 8.1.2 | shown by: test_procedures.py:test_a_cse_is_its_domain_name */
/* Conformance: H-6 | TS-0003 8.1.2 | shown by: test_derived.py:test_names_in_certificates */
/* Conformance: H-6 | TS-0003 8.1.2 | ours: hwm:OID:SERIAL for a hardwareModuleName; a name stays as written, also in case */
bool mef_id_certified(enum id_kind kind, const char *id, char out[MEF_ID])
{
    if (mef_id_is_cse(id))
        return mef_id_domain(id, out);
    if (kind == ID_GATEWAY && strncmp(id, "node:", 5) != 0)
        return false;
    snprintf(out, MEF_ID, "%s", kind == ID_GATEWAY ? id + 5 : id);
    return true;
}

bool mef_is_name(const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)name[i]) && strchr("._-", name[i]) == NULL)
            return false;
    return n > 0 && n <= MEF_MAX_NAME;
}

bool mef_name_key(const char *admin, const char *name, char key[MEF_KEY])
{
    return mef_is_name(name) && snprintf(key, MEF_KEY, "%s/%s", admin, name) < MEF_KEY;
}
