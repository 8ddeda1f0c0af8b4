/* Listening addresses as the configuration spells them: "[::]:5684, 0.0.0.0:5684". */
#pragma once
#include "cse-shim/base/bytes.h"

#include <netinet/in.h>
#include <sys/socket.h>

struct listen_address {
    char host[INET6_ADDRSTRLEN];
    uint16_t port;
    struct sockaddr_storage addr;
    socklen_t addrlen;
};

/* Visit each address of a list; fn writes its own complaint and returns false to stop. False with one line in err when
 * the list is malformed or fn said so. An empty list is fine. */
MUST_USE bool listen_each(const char *list, bool (*fn)(void *user, const struct listen_address *a, char *err, size_t errlen),
                          void *user, char *err, size_t errlen);

/* "address:port" of a socket address, for logs and audit. */
#define ADDRESS_TEXT (INET6_ADDRSTRLEN + 9)
void address_print(const struct sockaddr *addr, char out[ADDRESS_TEXT]);

/* Is it an address of this machine only? */
bool address_is_loopback(const struct sockaddr *addr);
