/* CoAP (TS-0008) between the endpoint of cse-shim/coap and the host. */
#pragma once
#include "cse-shim/coap/coap.h"
#include "cse-shim/host/host.h"
#include "cse-shim/host/request.h"

struct coap_binding;
MUST_USE struct coap_binding *coap_binding_new(struct cse_host *h, sd_event *loop, unsigned workers,
                                                const struct cep_config *cfg);
/* For peers that come without PSK, who must have one, too; NULL: there are none. As cep_endpoint_certificates(). */
void coap_binding_certificates(struct coap_binding *b, struct cep_certs *certs);
/* Listen, and start the workers. */
MUST_USE bool coap_binding_listen(struct coap_binding *b, const char *addresses, char *err, size_t errlen);
void coap_binding_free(struct coap_binding *b); /* NULL is fine */
void coap_binding_stats(struct coap_binding *b, struct cep_stats *out);

/* cse_host_ops of the same names; `serial` and observations are the endpoint's, `format` is that of trees. */
void coap_binding_notify(struct coap_binding *b, uint64_t observation, unsigned format, const struct cse_response *rsp,
                         bool queue);
void coap_binding_observe_cancel(struct coap_binding *b, uint64_t observation);
bool coap_binding_send(struct coap_binding *b, uint64_t serial, const char *path, unsigned content_format,
                       struct span body, void (*done)(void *user, enum st st, struct span body), void *user);
bool coap_binding_export(struct coap_binding *b, uint64_t serial, const char *label, uint8_t *out, size_t n);

/* Options to request; false: an option that must be understood is not (answer 4.02). For the fuzzer, too. */
MUST_USE bool coap_request_read(struct request *r, const struct cep_message *m);
