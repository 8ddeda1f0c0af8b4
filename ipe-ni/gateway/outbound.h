/* Everything that waits to be radiated: two queues a next hop, one frame on the air at a time.
 *
 * In the one an association response goes first, then frames without NWK security (first keys), of which a new one takes
 * the place of the oldest when four wait; in the other secured frames are in the order of their clear counters. The
 * former goes first, but not more than twice while a secured frame waits. Indirect frames, and all behind them, wait for the peer's poll by short or by
 * extended address, at most 7.68 s (macTransactionPersistenceTime). Every NWK frame taken ends in exactly one call of
 * `done`. Callbacks must not call back into the outbound. Time is CLOCK_MONOTONIC of the loop. */
#pragma once
#include "ipe-ni/gateway/radio.h"
#include "mef-plugin/egp/egp.h"

struct outbound;

struct out_ticket { /* the caller's own numbers, handed back with the result */
    uint64_t transaction;
    eui64_t device;
};

struct out_config {
    sd_event *loop;
    struct radio *radio;       /* outlives the outbound */
    struct radio_network net;
    size_t max_peers;          /* next hops known at once; the least recently used idle one makes room */
    size_t max_per_peer;       /* frames waiting for one next hop, in each of its queues */
    void *user;
    void (*done)(void *user, const struct out_ticket *t, enum egp_tx result, unsigned tries);
    /* An association response ended: delivered says the device acknowledged it. */
    void (*associated)(void *user, eui64_t device, bool delivered);
};

MUST_USE struct outbound *outbound_new(const struct out_config *cfg); /* NULL: out of memory */
void outbound_free(struct outbound *o); /* no callback; NULL is fine */

/* To be called from the radio's tx_done. */
void outbound_tx_done(struct outbound *o, enum radio_tx result, unsigned tries);

/* Radiate a beacon as soon as the radio is free; false: one is waiting already. */
bool outbound_beacon(struct outbound *o, const struct mac_beacon *b);

/* Queue an association response for `device`, or change the one that waits. short_ is the address it has or would get.
 * False: no room. */
MUST_USE bool outbound_association(struct outbound *o, eui64_t device, uint16_t short_, enum mac_associated status);
/* Change the status of the association response that waits for short_, if one does. */
void outbound_association_status(struct outbound *o, uint16_t short_, enum mac_associated status);

struct out_nwk {
    uint16_t hop;        /* MAC destination; 0xffff: broadcast */
    eui64_t ext;         /* the hop's extended address when known, else 0 */
    bool indirect;
    bool broadcast;      /* by NWK: radiated for all who listen, though in the order of the hop's queue, unless indirect */
    bool either;         /* not known whether the hop polls: tried at once, and if that is not acknowledged, indirect */
    bool command;        /* NWK command, else data */
    bool secured;        /* NWK security; then: */
    uint32_t counter;
    eui64_t source;      /* of the counter */
    struct span frame;   /* copied */
    struct out_ticket ticket;
};
enum out_queued { OUT_QUEUED, OUT_STALE, OUT_FULL };
/* OUT_STALE: *last is the later counter already radiated (or waiting again after a lost acknowledgement). `done` is
 * called for OUT_QUEUED only. */
MUST_USE enum out_queued outbound_nwk(struct outbound *o, const struct out_nwk *f, uint32_t *last);

/* The peer at this address asks for what waits for it. */
void outbound_poll(struct outbound *o, const struct mac_addr *who);

/* Each frame that these drop ends with EGP_TX_EXPIRED. */
void outbound_drop(struct outbound *o, uint16_t hop);   /* the address is free again: all, and the order of counters */
void outbound_rekeyed(struct outbound *o, uint16_t hop); /* a new key was proved: what was secured, and the order */
/* The hop is to have nothing more but the secured NWK command by which it is told to leave. */
void outbound_revoked(struct outbound *o, uint16_t hop);

size_t outbound_waiting(const struct outbound *o); /* frames, all queues */
