/* One round of a MEF client: it registers (mefClientReg), registers a key that it exports from its session (symmKeyReg), which
 * a target retrieves on a session of its own, and takes both back, so that the next round finds what this one found; the audit
 * trail alone grows. Each of the five is answered when it is durable. */
#pragma once
#include "tests/bench/load.h"

struct round {
    unsigned step;
    char from[64], target[64];         /* AE-IDs: "//example.org/in-cse/C" and the number */
    char registration[96], key[96];    /* paths of what was made */
    char body[256];
};

void round_begin(struct round *r, size_t client, size_t target);
/* Make the next request, which points into *r and *o; true: it is the target's. */
bool round_request(struct round *r, struct load_options *o, struct cep_message *req);
bool round_took(struct round *r, const struct cep_message *rsp); /* false: not what had to come */
bool round_over(const struct round *r);
