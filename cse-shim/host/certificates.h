/* The certificates that a configuration names, for each listener. */
#pragma once
#include "cse-shim/base/conf.h"
#include "cse-shim/coap/coap.h"
#include "cse-shim/host/metrics.h"

struct certificates {
    struct cep_certs *coap;  /* NULL: PSK only */
    struct cep_certs *https; /* NULL: HTTPS does not listen */
};

/* Read [coap], [https] and every [certificate.NAME]; on failure nothing is loaded, and one line is in err. */
MUST_USE bool certificates_load(const struct conf *conf, struct certificates *out, char *err, size_t errlen);
void certificates_free(struct certificates *c);
/* Log when they end, once after loading. */
void certificates_log(const struct certificates *c);
/* Days left, as gauges. */
void certificates_measure(const struct certificates *c, struct metrics *m);
