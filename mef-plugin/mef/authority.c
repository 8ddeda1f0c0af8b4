#include "mef-plugin/mef/authority.h"

#include "cse-shim/base/log.h"
#include "mef-plugin/mef/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

struct belonging {
    char *admin, *fqdn;
};

struct authorities {
    char *first;
    struct belonging *by_admin; /* sorted; n of them */
    const char **names;           /* sorted, of all and the first; one may stand there several times */
    size_t n;
};

/* --- reading ------------------------------------------------------------------------------------------------------ */

struct reading {
    struct authorities *a;
    const struct conf *conf;
    char *err;
    size_t errlen;
    bool failed;
};

static char *fqdn_copy(const char *text)
{
    char out[MEF_ID];
    return text != NULL && mef_fqdn_parse(text, out) ? strdup(out) : NULL;
}

static bool count(void *user, const char *section)
{
    (void)section;
    ++*(size_t *)user;
    return true;
}

static bool read_one(void *user, const char *section)
{
    struct reading *r = user;
    struct belonging *s = &r->a->by_admin[r->a->n++];
    s->admin = fqdn_copy(conf_str(r->conf, section, "admin-fqdn"));
    s->fqdn = fqdn_copy(conf_str(r->conf, section, "mef-fqdn"));
    r->failed = s->admin == NULL || s->fqdn == NULL;
    if (r->failed)
        snprintf(r->err, r->errlen, "[%s] %s: not an FQDN", section, s->admin == NULL ? "admin-fqdn" : "mef-fqdn");
    return !r->failed;
}

static int admin_order(const void *a, const void *b)
{
    return strcmp(((const struct belonging *)a)->admin, ((const struct belonging *)b)->admin);
}

static int name_order(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* False: a stakeholder has two sections. */
static bool sort(struct authorities *a, char *err, size_t errlen)
{
    qsort(a->by_admin, a->n, sizeof *a->by_admin, admin_order);
    for (size_t i = 1; i < a->n; i++)
        if (admin_order(&a->by_admin[i - 1], &a->by_admin[i]) == 0) {
            snprintf(err, errlen, "[stakeholder.*] admin-fqdn: %s stands in two sections, and belongs to one MEF-FQDN",
                     a->by_admin[i].admin);
            return false;
        }
    for (size_t i = 0; i < a->n; i++)
        a->names[i] = a->by_admin[i].fqdn;
    a->names[a->n] = a->first;
    qsort(a->names, a->n + 1, sizeof *a->names, name_order);
    return true;
}

/* --- certificates, which are the host's affair -------------------------------------------------------------------- */

struct search {
    const struct conf *conf;
    const char *name;
    bool found;
};

static bool is_certified(void *user, const char *section)
{
    struct search *s = user;
    const char *name = conf_str(s->conf, section, "server-name");
    s->found = name != NULL && strcasecmp(name, s->name) == 0;
    return !s->found;
}

/* Whoever asks for a name without a certificate of its own is shown the listener's, and finds another name in there. */
static void warn(const struct authorities *a, const struct conf *conf)
{
    if (conf_str(conf, "coap", "certificate") == NULL && conf_str(conf, "https", "certificate") == NULL)
        return; /* pre-shared keys only, or a host that keeps its certificates elsewhere */
    for (size_t i = 0; i <= a->n; i++) {
        struct search s = {conf, a->names[i], strcmp(a->names[i], a->first) == 0};
        if (i > 0 && strcmp(a->names[i - 1], s.name) == 0)
            continue;
        if (!s.found)
            conf_sections(conf, "certificate.", is_certified, &s);
        if (!s.found)
            log_event(LOG_WARN, "authority.no-certificate",
                      "mef-fqdn=%s effect=\"clients are shown the listener's own\"", s.name);
    }
}

struct authorities *authorities_read(const struct conf *c, char *err, size_t errlen)
{
    size_t n = 0;
    conf_sections(c, "stakeholder.", count, &n);
    struct authorities *a = calloc(1, sizeof *a);
    struct reading r = {a, c, err, errlen, false};
    snprintf(err, errlen, "out of memory");
    if (a == NULL || (a->by_admin = calloc(n + 1, sizeof *a->by_admin)) == NULL ||
        (a->names = calloc(n + 1, sizeof *a->names)) == NULL)
        goto failed;
    if ((a->first = fqdn_copy(conf_str(c, "mef", "fqdn"))) == NULL) {
        snprintf(err, errlen, "[mef] fqdn: not a valid value");
        goto failed;
    }
    conf_sections(c, "stakeholder.", read_one, &r);
    if (!r.failed && sort(a, err, errlen)) {
        warn(a, c);
        return a;
    }
failed:
    authorities_free(a);
    return NULL;
}

void authorities_free(struct authorities *a)
{
    if (a == NULL)
        return;
    for (size_t i = 0; i < a->n; i++) {
        free(a->by_admin[i].admin);
        free(a->by_admin[i].fqdn);
    }
    free(a->by_admin);
    free(a->names);
    free(a->first);
    free(a);
}

/* --- asking ------------------------------------------------------------------------------------------------------- */

const char *authority_first(const struct authorities *a)
{
    return a->first;
}

const char *authority_of(const struct authorities *a, const char *admin)
{
    const struct belonging key = {.admin = (char *)admin};
    const struct belonging *s = bsearch(&key, a->by_admin, a->n, sizeof key, admin_order);
    return s != NULL ? s->fqdn : a->first;
}

bool authority_is(const struct authorities *a, const char *fqdn)
{
    return bsearch(&fqdn, a->names, a->n + 1, sizeof *a->names, name_order) != NULL;
}

/* Conformance: H-3 | TS-0003 10.2.1 | shown by: test_server_names.py:test_base */
/* Conformance: H-3 | TS-0003 10.2.1 | shown by: test_server_names.py:test_a_kpm_id_under_another_name */
/* Conformance: H-3 | TS-0003 10.2.1 | shown by: test_server_names.py:test_a_certificate_of_another_authority */
/* Conformance: H-3 | TS-0003 10.2.1 | ours: no name, or none of ours: the KpmID tells; a certificate meets the first */
bool authority_admits(const struct authorities *a, const char *server_name, const char *admin, const char *kpm_id)
{
    char asked[MEF_ID];
    const char *of = authority_of(a, admin);
    const char *at = kpm_id != NULL ? strrchr(kpm_id, '@') : NULL;
    if (kpm_id != NULL && (at == NULL || strcmp(at + 1, of) != 0))
        return false;
    if (server_name != NULL && mef_fqdn_parse(server_name, asked) && authority_is(a, asked))
        return strcmp(asked, of) == 0;
    return kpm_id != NULL || strcmp(of, a->first) == 0;
}
