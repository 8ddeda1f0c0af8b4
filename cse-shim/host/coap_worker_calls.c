#include "cse-shim/host/coap_worker.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

#define REQUEST_LIMIT 1024u /* of a worker, waiting for the host's loop */

/* --- requests --- */

static void unavailable(struct cep_exchange *ex)
{
    cep_respond(ex, &(struct cep_message){.code = CEP_CODE(5, 3)}, false);
}

static void take_request(void *arg)
{
    struct coap_exchange *x = arg;
    struct coap_workers *ws = x->worker->all;
    atomic_fetch_sub_explicit(&x->worker->requests, 1, memory_order_relaxed);
    if (!ws->closing) {
        LIST_INSERT_HEAD(&ws->unanswered, x, link);
        ws->calls.request(ws->calls.user, x, x->ex, x->message);
        return;
    }
    unavailable(x->ex); /* its thread has ended */
    free(x);
}

static void on_request(void *user, struct cep_exchange *ex, const struct cep_message *req)
{
    struct worker *w = user;
    bool full = atomic_load_explicit(&w->requests, memory_order_relaxed) >= REQUEST_LIMIT;
    struct coap_exchange *x = full ? NULL : malloc(sizeof *x);
    if (x == NULL) {
        unavailable(ex);
        return;
    }
    *x = (struct coap_exchange){.worker = w, .ex = ex, .message = req};
    atomic_fetch_add_explicit(&w->requests, 1, memory_order_relaxed);
    worker_to_host(w, take_request, x);
}

/* --- keys: asked of the host, answered to the worker --- */

struct lookup {
    struct worker *worker;
    uint64_t session;
    size_t n;
    uint8_t key[64];
    char identity[256], server_name[256];
};

static void give_key(void *arg)
{
    struct lookup *l = arg;
    cep_psk(l->worker->endpoint, l->session, l->key, l->n);
    OPENSSL_cleanse(l, sizeof *l);
    free(l);
}

static void look_up(void *arg)
{
    struct lookup *l = arg;
    struct coap_workers *ws = l->worker->all;
    size_t n = ws->closing ? 0 : ws->calls.psk(ws->calls.user, l->identity, l->server_name, l->key, sizeof l->key);
    l->n = n <= sizeof l->key ? n : 0;
    worker_from_host(l->worker, give_key, l);
}

static void on_psk(void *user, uint64_t session, const char *identity, const char *server_name)
{
    struct lookup *l = worker_need(malloc(sizeof *l));
    *l = (struct lookup){.worker = user, .session = session};
    snprintf(l->identity, sizeof l->identity, "%s", identity);
    snprintf(l->server_name, sizeof l->server_name, "%s", server_name);
    worker_to_host(user, look_up, l);
}

/* --- ends of sessions and observations --- */

struct ended {
    struct worker *worker;
    void (*fn)(void *user, uint64_t id);
    uint64_t id;
};

static void take_end(void *arg)
{
    struct ended e = *(struct ended *)arg;
    struct coap_workers *ws = e.worker->all;
    free(arg);
    if (!ws->closing)
        e.fn(ws->calls.user, e.id);
}

static void tell_end(struct worker *w, void (*fn)(void *user, uint64_t id), uint64_t id)
{
    struct ended *e = worker_need(malloc(sizeof *e));
    *e = (struct ended){w, fn, id};
    worker_to_host(w, take_end, e);
}

static void on_closed(void *user, uint64_t serial)
{
    struct worker *w = user;
    tell_end(w, w->all->calls.closed, serial);
}

void worker_observe_end(struct worker *w, uint64_t observation)
{
    tell_end(w, w->all->calls.observe_end, observation);
}

static void on_observe_end(void *user, uint64_t observation)
{
    worker_observe_end(user, observation);
}

static const char *on_links(void *user)
{
    return ((struct worker *)user)->all->calls.links;
}

struct cep_callbacks worker_callbacks(struct worker *w)
{
    return (struct cep_callbacks){.user = w,
                                  .request = on_request,
                                  .psk = on_psk,
                                  .closed = on_closed,
                                  .observe_end = on_observe_end,
                                  .links = on_links};
}
