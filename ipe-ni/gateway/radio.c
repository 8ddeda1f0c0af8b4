#include "ipe-ni/gateway/radio.h"

#include <stdio.h>

static const struct radio_ops *const drivers[] = {&radio_udp};

/* The driver whose name stands before the first ':' of spec. */
static const struct radio_ops *find(const char *spec, const char **args)
{
    size_t n = strcspn(spec, ":");
    *args = spec[n] == ':' ? spec + n + 1 : "";
    for (size_t i = 0; i < sizeof drivers / sizeof *drivers; i++)
        if (strlen(drivers[i]->name) == n && memcmp(drivers[i]->name, spec, n) == 0)
            return drivers[i];
    return NULL;
}

bool radio_known(const char *spec)
{
    const char *args;
    return find(spec, &args) != NULL;
}

struct radio *radio_open(sd_event *loop, const char *spec, const struct radio_network *net,
                         const struct radio_callbacks *cb, char *err, size_t errlen)
{
    const char *args;
    const struct radio_ops *ops = find(spec, &args);
    if (ops == NULL) {
        snprintf(err, errlen, "unknown radio driver in \"%s\"", spec);
        return NULL;
    }
    return ops->open(loop, args, net, cb, err, errlen);
}

void radio_close(struct radio *r)
{
    if (r != NULL)
        r->ops->close(r);
}
