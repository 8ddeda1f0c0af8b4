/* Association (IEEE 802.15.4 7.5.3) with the EG as the one who decides: the devices known, their short addresses, and
 * the EgRequests under way. An association request is put to the EG at once; the response waits for the device's poll
 * and says no when the EG has said no by then. */
#pragma once
#include "ipe-ni/gateway/outbound.h"
#include "mef-plugin/egp/egp.h"

struct assoc;

struct assoc_config {
    sd_event *loop;
    struct outbound *out;
    uint16_t pan, short_;   /* ours */
    size_t max_devices;     /* when full, the longest silent device that the EG has not approved makes room */
    void *user;
    /* Send an EgRequest; called again with the same arguments to repeat it. */
    void (*ask)(void *user, eui64_t device, uint64_t transaction, int8_t rssi, const struct egp_request *req);
    void (*changed)(void *user); /* an approved device came or went: see assoc_each() */
    bool (*heard)(void *user, uint16_t address); /* as the source of a NWK frame */
};

MUST_USE struct assoc *assoc_new(const struct assoc_config *cfg); /* NULL: out of memory */
void assoc_free(struct assoc *a); /* NULL is fine */

/* A device asks to associate; seq is the frame's number, by which a repetition is known. */
void assoc_request(struct assoc *a, eui64_t device, uint8_t capability, uint8_t seq, int8_t rssi);

/* A device that says who and where it is, with the bare NWK frame by which it asks to rejoin. That proves nothing, so
 * it is put to the EG and answered where it says it is, and changes nothing here; where the EG has said that the device
 * is somewhere else, it is ignored. */
struct assoc_rejoin {
    eui64_t device;
    uint16_t short_;
    uint8_t capability;
    int8_t rssi;
    struct span frame;
};
void assoc_rejoin(struct assoc *a, const struct assoc_rejoin *r);

/* An EgResponse came. True when it answers a request under way, which is thereby over; a refusal is then seen to. */
MUST_USE bool assoc_answer(struct assoc *a, eui64_t device, uint64_t transaction, enum egp_reason reason);

/* The EG's word on a device, and on its address when it has proved a key: then it is known here from now on. False: not
 * known here. */
bool assoc_state(struct assoc *a, eui64_t device, enum egp_device_state state, uint16_t short_);

/* Did requests in the device's name say both that it polls and that it hears without? */
bool assoc_disputed(const struct assoc *a, eui64_t device);

eui64_t assoc_device(const struct assoc *a, uint16_t short_);          /* 0: no device has this address */
/* Visit the devices that the EG has approved. */
void assoc_each(const struct assoc *a, void (*fn)(void *user, eui64_t device, uint16_t short_), void *user);
/* Put back what assoc_each() told in an earlier life. False: an address is taken or the table full. */
MUST_USE bool assoc_restore(struct assoc *a, eui64_t device, uint16_t short_);
size_t assoc_count(const struct assoc *a);
