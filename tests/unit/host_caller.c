#include "tests/unit/host_caller.h"

#include <stdio.h>
#include <stdlib.h>

void on_back(void *user, struct cep_exchange *ex, const struct cep_message *req)
{
    (void)user;
    char text[100];
    snprintf(text, sizeof text, "back:%.*s", (int)req->payload.n, (const char *)req->payload.p);
    struct cep_message rsp = {.code = CEP_CODE(2, 4), .payload = span_str(text)};
    cep_respond(ex, &rsp, false);
}

void on_coap(void *user, enum st st, const struct cep_message *rsp)
{
    struct caller *c = user;
    if (st != ST_OK) {
        c->ended++;
        return;
    }
    c->answers++;
    c->code = rsp->code;
    snprintf(c->body + (rsp->code == CEP_CODE(2, 5) ? strlen(c->body) : 0), 500, "%.*s;", (int)rsp->payload.n,
             (const char *)rsp->payload.p);
    c->last = span_of(c->bytes, rsp->payload.n < sizeof c->bytes ? rsp->payload.n : 0);
    if (c->last.n != 0)
        memcpy(c->bytes, rsp->payload.p, c->last.n);
    c->options[0] = '\0';
    for (size_t i = 0; i < rsp->nopts; i++) {
        char *p = c->options + strlen(c->options);
        p += sprintf(p, "%u=", rsp->opts[i].num);
        for (size_t k = 0; k < rsp->opts[i].val.n && k < 20; k++)
            p += sprintf(p, "%02x", rsp->opts[i].val.p[k]);
        strcpy(p, " ");
    }
}

struct cep_certs *certificate_of_ae(struct world *w)
{
    char pem[128], err[256] = "";
    struct pki_names mine = pki_issue(&w->pki, "ae", "URI:C-ae1", "P-256", true);
    struct cep_certificate one = {NULL, mine.cert, mine.key};
    snprintf(pem, sizeof pem, "%s/server.pem", w->dir);
    struct cep_certs_files files = {.list = &one, .n = 1, .trust_anchors = pem};
    struct cep_certs *certs = cep_certs_load(&files, err, sizeof err);
    assert_non_null(certs);
    return certs;
}

struct cep_session *by_certificate(struct world *w, struct cep_endpoint *ep, const char *host)
{
    int code;
    struct cep_certs *certs = certificate_of_ae(w);
    struct cep_session *s = cep_connect_certificate(ep, host, w->coaps, certs, "mef.test.example", &code);
    cep_certs_unref(certs);
    return s;
}

struct caller *caller_new(const struct world *w, const char *host)
{
    struct caller *c = calloc(1, sizeof *c);
    struct cep_config cfg = {0};
    struct cep_callbacks cb = {.user = c, .request = on_back};
    int err = 0;
    assert_true(sd_event_new(&c->loop) >= 0);
    c->ep = cep_endpoint_new(c->loop, &cfg, &cb);
    c->session = cep_connect(c->ep, host, w->coaps, "tiny@test", span_of(SECRET, 16), &err);
    assert_non_null(c->session);
    return c;
}

void caller_free(struct caller *c)
{
    cep_endpoint_free(c->ep);
    sd_event_unref(c->loop);
    free(c);
}

void call(struct caller *c, uint8_t code, const struct cep_option *opts, size_t n, const char *body, bool observe,
          unsigned want)
{
    struct cep_message m = {code, opts, n, span_str(body)};
    unsigned target = c->answers + want;
    c->body[0] = '\0';
    assert_true(cep_request(c->session, &m, observe, false, on_coap, c) > 0);
    for (int i = 0; i < 500 && c->answers < target && c->ended == 0; i++)
        sd_event_run(c->loop, 20000);
    assert_int_equal(c->answers, target);
}
