#include "cse-shim/http/status_server.h"

#include "cse-shim/host/listen.h"
#include "cse-shim/http/mhd_loop.h"

#include <errno.h>
#include <stdlib.h>

#define MAX_DAEMONS 4
#define MAX_CONNECTIONS 32u
#define IDLE_SECONDS 10u

struct status_server {
    struct cse_host *host;
    sd_event *loop;
    bool anywhere;
    struct mhd_loop *daemons[MAX_DAEMONS];
    size_t n;
};

/* A page is printed to `out` and gives its HTTP status. */
static unsigned healthz(struct cse_host *h, FILE *out)
{
    (void)h;
    fputs("ok\n", out);
    return MHD_HTTP_OK;
}

static unsigned readyz(struct cse_host *h, FILE *out)
{
    bool ready = !host_draining(h) && host_ready(h);
    fputs(ready ? "ready\n" : "not ready\n", out);
    return ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
}

static unsigned metrics(struct cse_host *h, FILE *out)
{
    host_metrics_refresh(h);
    metrics_print(host_metrics(h), out);
    return MHD_HTTP_OK;
}

static unsigned not_found(struct cse_host *h, FILE *out)
{
    (void)h;
    fputs("not found\n", out);
    return MHD_HTTP_NOT_FOUND;
}

static const struct page {
    const char *path;
    unsigned (*print)(struct cse_host *h, FILE *out);
} pages[] = {{"/healthz", healthz}, {"/readyz", readyz}, {"/metrics", metrics}, {NULL, not_found}};

static enum MHD_Result on_access(void *user, struct MHD_Connection *conn, const char *url, const char *method,
                                 const char *version, const char *data, size_t *size, void **state)
{
    (void)version;
    (void)data;
    struct status_server *s = user;
    if (strcmp(method, "GET") != 0 || *size != 0)
        return MHD_NO;
    if (*state == NULL) { /* headers only; answer when the request is complete */
        *state = s;
        return MHD_YES;
    }
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    if (out == NULL)
        return MHD_NO;
    const struct page *p = pages;
    while (p->path != NULL && strcmp(p->path, url) != 0)
        p++;
    unsigned status = p->print(s->host, out);
    fclose(out);
    struct MHD_Response *r = MHD_create_response_from_buffer(n, text, MHD_RESPMEM_MUST_FREE);
    if (r == NULL)
        return MHD_NO;
    (void)MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    enum MHD_Result queued = MHD_queue_response(conn, status, r);
    MHD_destroy_response(r);
    return queued;
}

static bool listen_one(void *user, const struct listen_address *a, char *err, size_t errlen)
{
    struct status_server *s = user;
    const struct sockaddr *addr = (const struct sockaddr *)&a->addr;
    if (!s->anywhere && !address_is_loopback(addr)) {
        snprintf(err, errlen, "status: %s is not a loopback address (allow-remote = no)", a->host);
        return false;
    }
    unsigned flags = MHD_USE_EPOLL | MHD_USE_ERROR_LOG | (addr->sa_family == AF_INET6 ? MHD_USE_IPv6 : 0);
    struct MHD_Daemon *d =
        s->n == MAX_DAEMONS
            ? NULL
            : MHD_start_daemon(flags, a->port, NULL, NULL, on_access, s, MHD_OPTION_EXTERNAL_LOGGER, mhd_log, NULL,
                               MHD_OPTION_SOCK_ADDR, addr, MHD_OPTION_CONNECTION_LIMIT, MAX_CONNECTIONS,
                               MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS, MHD_OPTION_END);
    s->daemons[s->n] = d == NULL ? NULL : mhd_loop_new(s->loop, d);
    if (d == NULL || s->daemons[s->n] == NULL) {
        snprintf(err, errlen, "status: cannot listen on %s port %u: %s", a->host, a->port, strerror(errno));
        return false;
    }
    s->n++;
    log_event(LOG_INFO, "status.listening", "address=%s port=%u", a->host, a->port);
    return true;
}

struct status_server *status_server_new(struct cse_host *h, sd_event *loop, const char *addresses, bool anywhere,
                                        char *err, size_t errlen)
{
    struct status_server *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    *s = (struct status_server){.host = h, .loop = sd_event_ref(loop), .anywhere = anywhere};
    if (listen_each(addresses, listen_one, s, err, errlen))
        return s;
    status_server_free(s);
    return NULL;
}

void status_server_free(struct status_server *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->n; i++)
        mhd_loop_free(s->daemons[i]);
    sd_event_unref(s->loop);
    free(s);
}
