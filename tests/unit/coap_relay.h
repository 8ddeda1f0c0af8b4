/* A UDP relay on loopback between clients and one server, which loses, repeats and reorders by a seeded generator.
 * All clients look like one address to the server. */
#pragma once
#include "cse-shim/base/bytes.h"

#include <netinet/in.h>
#include <systemd/sd-event.h>

/* Who a client is. */
struct relay_peer {
    struct sockaddr_storage addr;
    socklen_t len;
};

struct relay {
    sd_event *loop;
    int down, up; /* towards clients, towards the server */
    uint16_t port;
    sd_event_source *sources[2];
    struct relay_peer client; /* last heard of */
    uint64_t rng;
    unsigned loss, dup, reorder; /* per cent */
    bool (*pass)(void *user, bool to_server, struct span datagram); /* NULL: all pass */
    void *user;
    uint8_t held[4096]; /* overtaken by the next one in its direction */
    size_t nheld;
    bool held_up;
    unsigned forwarded, lost;
};

void relay_open(struct relay *r, sd_event *loop, uint16_t server_port, uint64_t seed); /* on 127.0.0.1 */
void relay_open_on(struct relay *r, sd_event *loop, const char *host, uint16_t server_port, uint64_t seed);
void relay_close(struct relay *r);
/* Send straight to the server from the relay's address. */
void relay_inject(struct relay *r, struct span datagram);

/* As `pass` and `user` of a relay: keeps the first two ClientHellos, and can let nothing but ClientHellos up behind some. */
struct hello_gate {
    unsigned hellos;     /* datagrams to the server that begin with one */
    unsigned stop_after; /* 0: everything passes */
    uint8_t hello[2][512];
    size_t len[2];
};
bool hello_gate_pass(void *gate, bool to_server, struct span datagram);
