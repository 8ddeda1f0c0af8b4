/* A story of fuzz_plugin.c: what it knows, what happens in it and what is made of the answers. */
#pragma once
#include "mef-plugin/egp/egp.h"
#include "mef-plugin/zigbee/zigbee.h"
#include "tests/vhost/used.h"
#include "tests/vhost/vhost.h"

#define GATEWAY 0x00124b001ca1b2c0u /* .. + 0, 1; 2 is nobody's */
#define DEVICE 0x00158d0003123450u
enum { GATEWAYS = 3, DEVICES = 3, SECRETS = 64, SESSIONS = 6 };

struct story {
    struct cse_host *h;
    struct zb_crypto *crypto;
    struct used *used;
    struct rd in;
    char kpm[4][80]; /* two gateways', two AEs' */
    uint64_t sessions[SESSIONS];
    char last[128]; /* path of the newest key registration seen */
    struct {
        uint8_t key[ZB_KEY], link_key[ZB_KEY],
            offered[ZB_KEY]; /* link_key: what the network key came under, or later */
        bool known;
        uint8_t key_seq;
        uint32_t counter;
    } device[DEVICES];
    uint8_t link_keys[3][ZB_KEY];
    char secrets[SECRETS][2][36]; /* hex and base64 */
    uint8_t raw[SECRETS][ZB_KEY];
    size_t nsecrets;
    uint32_t ticket, tickets;
    uint64_t sends[16], observations[8];
    size_t nsends, nobservations;
};

_Noreturn void broken(const char *what); /* something that must hold does not */

/* --- fuzz_plugin_steps.c ------------------------------------------------------------------------------------------ */

void step(struct story *s);          /* what the next byte says, how the ones behind it say */
void open_sessions(struct story *s); /* everybody's, anew */

/* --- fuzz_plugin_checks.c ----------------------------------------------------------------------------------------- */

void secret(struct story *s, const uint8_t key[ZB_KEY]); /* one more that no message may hold */
/* What the plugin says, to be looked at; `user`: the story. */
void answered(void *user, uint64_t tag, const struct vanswer *a);
void on_sent(void *user, uint64_t session, uint64_t id, struct span body);
void notified(void *user, uint64_t observation, const struct cse_response *rsp);
