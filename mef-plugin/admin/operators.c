#include "mef-plugin/admin/operators.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAC_LABEL "operator-token"
#define MIN_TOKEN 16
#define MAX_TOKEN 512

static const struct {
    const char *name;
    enum admin_role role;
} roles[] = {{"admin", ROLE_ADMIN}, {"installer", ROLE_INSTALLER}, {"viewer", ROLE_VIEWER}};

static void operator_free(struct rest_operator *o)
{
    free(o->name);
    free(o->admin);
    free(o->san);
    OPENSSL_cleanse(o->mac, sizeof o->mac);
    free(o);
}

void operators_free(struct rest_operator *list)
{
    while (list != NULL) {
        struct rest_operator *next = list->next;
        operator_free(list);
        list = next;
    }
}

/* The file's only line, at most MAX_TOKEN bytes; NULL or what is wrong with it. */
static const char *read_token(const char *path, char token[MAX_TOKEN + 2], size_t *len)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return strerror(errno);
    const char *wrong = NULL;
    ssize_t n = 0;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        wrong = "not a regular file";
    else if ((st.st_mode & 077) != 0)
        wrong = "readable by others; its mode has to be 0600";
    else if ((n = read(fd, token, MAX_TOKEN + 2)) < 0)
        wrong = strerror(errno);
    close(fd);
    if (wrong != NULL)
        return wrong;
    *len = (size_t)n;
    while (*len > 0 && (token[*len - 1] == '\n' || token[*len - 1] == '\r'))
        (*len)--;
    if (*len < MIN_TOKEN || *len > MAX_TOKEN)
        return "a token has 16 to 512 characters";
    for (size_t i = 0; i < *len; i++)
        if (token[i] <= ' ' || token[i] > '~')
            return "a token is printable and without spaces";
    return NULL;
}

struct reading {
    struct vault *v;
    const struct conf *conf;
    struct rest_operator *list;
    char *err;
    size_t errlen;
    bool ok;
};

static const char *take_token(const struct reading *r, const char *section, struct rest_operator *o)
{
    char token[MAX_TOKEN + 2];
    size_t len = 0;
    const char *wrong = read_token(conf_str(r->conf, section, "file"), token, &len);
    if (wrong == NULL && !vault_mac(r->v, MAC_LABEL, span_of(token, len), o->mac))
        wrong = "the vault does not answer";
    OPENSSL_cleanse(token, sizeof token);
    return wrong;
}

static const struct rest_operator *with_san(const struct rest_operator *list, const char *san)
{
    while (list != NULL && (list->san == NULL || strcmp(list->san, san) != 0))
        list = list->next;
    return list;
}

static bool fill(struct reading *r, const char *section, struct rest_operator *o)
{
    char fqdn[256];
    const char *role = conf_str(r->conf, section, "role"), *san = conf_str(r->conf, section, "san");
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (strcmp(role, roles[i].name) == 0)
            o->role = roles[i].role;
    if (o->role == 0) {
        snprintf(r->err, r->errlen, "[%s] role: admin, installer or viewer", section);
        return false;
    }
    if (!mef_fqdn_parse(conf_str(r->conf, section, "admin-fqdn"), fqdn)) {
        snprintf(r->err, r->errlen, "[%s] admin-fqdn: not an FQDN", section);
        return false;
    }
    const char *wrong = san == NULL ? take_token(r, section, o) : NULL;
    if (wrong != NULL) {
        snprintf(r->err, r->errlen, "[%s] file: %s", section, wrong);
        return false;
    }
    if (san != NULL && (san[0] == '\0' || strpbrk(san, "* \"") != NULL || with_san(r->list, san) != NULL)) {
        snprintf(r->err, r->errlen, "[%s] san: an exact URI or DNS name, without wildcard, of one operator", section);
        return false;
    }
    snprintf(r->err, r->errlen, "out of memory");
    o->name = strdup(strchr(section, '.') + 1);
    o->admin = strdup(fqdn);
    o->san = san != NULL ? strdup(san) : NULL;
    return o->name != NULL && o->admin != NULL && (san == NULL || o->san != NULL);
}

static bool read_section(void *user, const char *section)
{
    struct reading *r = user;
    struct rest_operator *o = calloc(1, sizeof *o);
    r->ok = o != NULL && fill(r, section, o);
    if (!r->ok) {
        if (o != NULL)
            operator_free(o);
        return false;
    }
    o->next = r->list;
    r->list = o;
    return true;
}

bool operators_read(struct vault *v, const struct conf *conf, struct rest_operator **list, char *err, size_t errlen)
{
    struct reading r = {v, conf, NULL, err, errlen, true};
    conf_sections(conf, "token.", read_section, &r);
    if (r.ok)
        conf_sections(conf, "operator.", read_section, &r);
    if (!r.ok) {
        operators_free(r.list);
        return false;
    }
    *list = r.list;
    return true;
}

static const struct rest_operator *certified(const struct rest_operator *list, const struct cse_request *req)
{
    if (req->binding != CSE_HTTP || req->peer.cred != CSE_CRED_CERT)
        return NULL;
    return with_san(list, req->peer.identity);
}

const struct rest_operator *operator_find(struct vault *v, const struct rest_operator *list,
                                          const struct cse_request *req, const char **code)
{
    uint8_t mac[32];
    const struct rest_operator *found = NULL;
    *code = "no-token";
    if (req->authorization == NULL)
        return certified(list, req);
    const char *token = req->authorization + 6;
    if (strncasecmp(req->authorization, "Bearer", 6) != 0 || (*token != ' ' && *token != '\0'))
        return NULL;
    *code = "bad-token"; /* also none: a library may have cut the space off the end */
    token += *token == ' ';
    if (strlen(token) > MAX_TOKEN || !vault_mac(v, MAC_LABEL, span_str(token), mac))
        return NULL;
    for (; list != NULL; list = list->next) /* all of them: the time tells nothing */
        if (list->san == NULL && CRYPTO_memcmp(mac, list->mac, sizeof mac) == 0)
            found = list;
    OPENSSL_cleanse(mac, sizeof mac);
    return found;
}
