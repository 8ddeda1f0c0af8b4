#include "cse-shim/host/listen.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

static bool parse_port(const char *text, uint16_t *port)
{
    size_t n = strlen(text);
    if (n == 0 || n > 5 || strspn(text, "0123456789") != n)
        return false;
    unsigned long v = strtoul(text, NULL, 10);
    *port = (uint16_t)v;
    return v <= 65535;
}

/* One address: "[v6]:port" or "v4:port". */
static bool parse_one(char *text, struct listen_address *a)
{
    char *colon = strrchr(text, ':');
    if (colon == NULL || !parse_port(colon + 1, &a->port))
        return false;
    *colon = '\0';
    size_t n = strlen(text);
    bool six = n > 2 && text[0] == '[' && text[n - 1] == ']';
    if (six) {
        text[n - 1] = '\0';
        text++;
    }
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&a->addr;
    struct sockaddr_in *v4 = (struct sockaddr_in *)&a->addr;
    a->addr.ss_family = six ? AF_INET6 : AF_INET;
    a->addrlen = six ? sizeof *v6 : sizeof *v4;
    v4->sin_port = htons(a->port); /* both families keep the port in the same place */
    return snprintf(a->host, sizeof a->host, "%s", text) < (int)sizeof a->host &&
           inet_pton(a->addr.ss_family, text, six ? (void *)&v6->sin6_addr : (void *)&v4->sin_addr) == 1;
}

bool listen_each(const char *list, bool (*fn)(void *user, const struct listen_address *a, char *err, size_t errlen),
                 void *user, char *err, size_t errlen)
{
    char *copy = strdup(list == NULL ? "" : list), *rest = NULL;
    bool ok = copy != NULL;
    for (char *one = ok ? strtok_r(copy, ", ", &rest) : NULL; ok && one != NULL; one = strtok_r(NULL, ", ", &rest)) {
        struct listen_address a = {0};
        ok = parse_one(one, &a);
        if (!ok)
            snprintf(err, errlen, "listen: write \"%s\" as address:port or [IPv6 address]:port", list);
        else
            ok = fn(user, &a, err, errlen);
    }
    free(copy);
    return ok;
}

void address_print(const struct sockaddr *addr, char out[ADDRESS_TEXT])
{
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)addr;
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)addr;
    char host[INET6_ADDRSTRLEN] = "?";
    out[0] = '\0';
    if (addr->sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
        inet_ntop(AF_INET, v6->sin6_addr.s6_addr + 12, host, sizeof host);
        snprintf(out, ADDRESS_TEXT, "%s:%u", host, ntohs(v6->sin6_port));
    } else if (addr->sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
        snprintf(out, ADDRESS_TEXT, "[%s]:%u", host, ntohs(v6->sin6_port));
    } else if (addr->sa_family == AF_INET) {
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        snprintf(out, ADDRESS_TEXT, "%s:%u", host, ntohs(v4->sin_port));
    }
}

bool address_is_loopback(const struct sockaddr *addr)
{
    if (addr->sa_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)addr)->sin6_addr);
    return addr->sa_family == AF_INET && ntohl(((const struct sockaddr_in *)addr)->sin_addr.s_addr) >> 24 == 127;
}
