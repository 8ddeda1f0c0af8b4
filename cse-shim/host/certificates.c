#include "cse-shim/host/certificates.h"

#include "cse-shim/base/log.h"

#include <stdio.h>
#include <time.h>

#define MAX_NAMED 63 /* beside the one without a name; cep_certs_load() takes 64 */
#define DAY 86400
#define SOON 30 /* days before its end that a certificate is worth a warning */

struct gathering { /* for one listener */
    struct cep_certificate list[MAX_NAMED + 1];
    struct cep_certs_files files;
    const struct conf *conf;
};

/* [certificate.NAME]: one that clients ask for by server name. */
static bool add_named(void *user, const char *section)
{
    struct gathering *g = user;
    if (g->files.n <= MAX_NAMED)
        g->list[g->files.n] = (struct cep_certificate){conf_str(g->conf, section, "server-name"),
                                                       conf_str(g->conf, section, "certificate"),
                                                       conf_str(g->conf, section, "private-key")};
    g->files.n++; /* too many are refused by cep_certs_load() */
    return true;
}

/* The listener's own certificate is the one for clients that name no server, or an unknown one. */
static bool gather(struct gathering *g, const char *listener, char *err, size_t errlen)
{
    struct cep_certificate own = {NULL, conf_str(g->conf, listener, "certificate"),
                                  conf_str(g->conf, listener, "private-key")};
    g->files = (struct cep_certs_files){.list = g->list,
                                        .trust_anchors = conf_str(g->conf, listener, "trust-anchors"),
                                        .revocation_lists = conf_str(g->conf, listener, "revocation-lists"),
                                        .raw_keys = conf_str(g->conf, listener, "raw-public-keys")};
    if (g->files.raw_keys != NULL && g->files.trust_anchors == NULL) {
        snprintf(err, errlen, "[%s] raw-public-keys go beside trust-anchors", listener);
        return false;
    }
    if ((own.certificate == NULL) != (own.private_key == NULL)) {
        snprintf(err, errlen, "[%s] certificate and private-key go together", listener);
        return false;
    }
    if (own.certificate != NULL)
        g->list[g->files.n++] = own;
    conf_sections(g->conf, "certificate.", add_named, g);
    return true;
}

static bool load(const struct gathering *g, const char *listener, struct cep_certs **out, char *err, size_t errlen)
{
    char reason[384];
    *out = cep_certs_load(&g->files, reason, sizeof reason);
    if (*out == NULL)
        snprintf(err, errlen, "[%s] %s", listener, reason);
    return *out != NULL;
}

/* CoAP clients without PSK must have a certificate, so anchors and one of ours come together. */
static bool load_coap(const struct conf *conf, struct cep_certs **out, char *err, size_t errlen)
{
    struct gathering g = {.conf = conf};
    if (!gather(&g, "coap", err, errlen))
        return false;
    bool own = conf_str(conf, "coap", "certificate") != NULL;
    if (g.files.trust_anchors == NULL && !own && g.files.revocation_lists == NULL)
        return true; /* named ones may be for HTTPS alone */
    if (g.files.trust_anchors != NULL && g.files.n > 0)
        return load(&g, "coap", out, err, errlen);
    snprintf(err, errlen, "[coap] certificate (or a [certificate.NAME]) and trust-anchors go together");
    return false;
}

static bool load_https(const struct conf *conf, struct cep_certs **out, char *err, size_t errlen)
{
    struct gathering g = {.conf = conf};
    if (conf_str(conf, "https", "listen")[0] == '\0')
        return true;
    if (!gather(&g, "https", err, errlen))
        return false;
    g.files.any_key = true;
    if (conf_str(conf, "https", "certificate") != NULL)
        return load(&g, "https", out, err, errlen);
    snprintf(err, errlen, "[https] certificate and private-key are needed to listen");
    return false;
}

bool certificates_load(const struct conf *conf, struct certificates *out, char *err, size_t errlen)
{
    *out = (struct certificates){0};
    if (load_coap(conf, &out->coap, err, errlen) && load_https(conf, &out->https, err, errlen))
        return true;
    certificates_free(out);
    return false;
}

void certificates_free(struct certificates *c)
{
    cep_certs_unref(c->coap);
    cep_certs_unref(c->https);
    *c = (struct certificates){0};
}

/* Whole days; negative: it has ended. */
static int64_t days_left(int64_t end)
{
    int64_t left = end - (int64_t)time(NULL);
    return left >= 0 ? left / DAY : -((-left + DAY - 1) / DAY);
}

static void log_end(const char *listener, const char *what, int64_t end, int64_t soon)
{
    char when[32], text[128];
    time_t t = (time_t)end;
    struct tm tm;
    if (end == INT64_MAX || gmtime_r(&t, &tm) == NULL)
        return;
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
    int64_t days = days_left(end);
    snprintf(text, sizeof text, "listener=%s what=%s at=%s days-left=%lld", listener, what, when, (long long)days);
    if (days < 0)
        log_event(LOG_ERROR, "certificate.expired", "%s", text);
    else if (days < soon)
        log_event(LOG_WARN, "certificate.expires-soon", "%s", text);
    else
        log_event(LOG_INFO, "certificate.expires", "%s", text);
}

void certificates_log(const struct certificates *c)
{
    struct cep_certs *const all[] = {c->coap, c->https};
    static const char *const names[] = {"coap", "https"};
    for (size_t i = 0; i < 2; i++) {
        if (all[i] == NULL)
            continue;
        struct cep_certs_expiry e = cep_certs_expiry(all[i]);
        log_end(names[i], "certificate", e.certificate, SOON);
        log_end(names[i], "revocation-list", e.revocation_list, 0);
    }
}

void certificates_measure(const struct certificates *c, struct metrics *m)
{
    struct cep_certs *const all[] = {c->coap, c->https};
    static const char *const names[][2] = {{"coap_certificate_days_left", "coap_revocation_list_days_left"},
                                           {"https_certificate_days_left", "https_revocation_list_days_left"}};
    for (size_t i = 0; i < 2; i++) {
        if (all[i] == NULL)
            continue;
        struct cep_certs_expiry e = cep_certs_expiry(all[i]);
        if (e.certificate != INT64_MAX)
            metrics_set(m, names[i][0], days_left(e.certificate));
        if (e.revocation_list != INT64_MAX)
            metrics_set(m, names[i][1], days_left(e.revocation_list));
    }
}
