/* Where an enrolment stands, and why, in words: one table of tokens and sentences for devices, EgRequests, the audit trail
 * and the events. docs/operations.md says what to do about each. */
#include "mef-plugin/eg/input.h"
#include "mef-plugin/eg/internal.h"

#include <inttypes.h>
#include <stdio.h>

static const struct {
    const char *token, *sentence;
} table[] = {
    /* what is awaited of a device */
    {"association", "No device has asked to join in this EUI-64's name."},
    {"rejoining", "The window of a rearm is open: the device may join again with its install code."},
    {"first-frame", "The first key was sent; the device's first frame under it is awaited."},
    {"request-key", "The device has proved its network key; it is to ask for a link key of its own."},
    {"verify-key", "The device was sent a link key of its own; its proof of it is awaited."},
    {"enrolled", "The device has proved its network key and a link key of its own."},
    {"older-than-r21", "The device is enrolled without a link key of its own, because its stack is older than r21: its install "
                       "code is not spent, and serves its rejoins."},
    /* how an attempt ended; the first three are the step in which the first frame was awaited */
    {"first-key-not-opened", "The device acknowledged the first key, but no frame under it came: the device could not open it "
                             "(MIC failure), so the registered install code is not the one of this device."},
    {"first-key-not-delivered", "The first key did not reach the device: it did not acknowledge or poll for it at the gateway."},
    {"no-secured-frame-seen", "The first key was sent, but no frame under it came back: the code is not this device's (it "
                              "could not open the key), or the device went out of range."},
    {"no-second-exchange", "The device has the network key but did not ask for a link key of its own in time."},
    {"link-key-not-verified", "The device was sent a link key of its own but did not verify it in time."},
    {"verify-key-wrong", "The device's proof of its new link key was wrong."},
    {"install-code-changed", "The install code was changed while the device was joining."},
    {"revoked", "An operator revoked the device: what comes in its name is refused until a rearm."},
    {"left", "The device said that it leaves the network; a rearm lets it join again."},
    /* what was refused in its name */
    {"counter-refused", "A frame that opens under the device's key was refused, because its frame counter had been used: it is "
                        "a repetition by somebody, or the device has lost its counters and has to join again."},
    {"frame-not-opened", "A frame in the device's name opens under no key that it has here: it is of a key it had before, of "
                         "another network's, or not the device's."},
    {"aps-command-refused", "An APS command of the device does not open under the link key that it has here, or is none that it "
                            "may send."},
    {"nearly-this", "A device whose EUI-64 differs little from this one asked to join and is not registered: compare this "
                    "registration with the label."},
    /* EgRequests: the tokens of egp_reason_name */
    {"unknown-device", "No install code is registered for this EUI-64."},
    {"code-expired", "The registration of the install code has ended (expiresAt)."},
    {"gateway-not-allowed", "Gateway and registration do not allow each other: gateways of the registration, panIds and "
                            "applications of the gateway."},
    {"parent-key-domain", "The device asked to join through a router whose key domain it may not share; it may join at the "
                          "gateway itself."},
    {"device-revoked", "An operator revoked the device: what comes in its name is refused until a rearm."},
    {"code-spent", "The install code was spent when the device verified a link key of its own; a device that was reset to "
                   "factory state joins again after a rearm."},
    {"rate-limited", "The first key was asked for too often in the name of this device; it may ask again in some seconds."},
    {"no-link-key", "The device asked to rejoin, but it has no link key at this gateway: it has to be reset and to join."},
    {"not-supported", "The gateway asked for a kind of join that is not served."},
    {"bad-request", "The gateway's request names addresses that cannot be."},
    {"unavailable", "The request could not be served at that moment; the gateway asks again."},
    {"not-bound", "The request did not come from the identity to which this gateway is bound."},
    {"conflict", "The gateway used a transaction number twice for different requests."},
};

const char *eg_explanation(const char *token)
{
    struct span word = span_of(token, strcspn(token, " ")); /* what follows is data */
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (span_eq(span_str(table[i].token), word))
            return table[i].sentence;
    return NULL;
}

/* --- devices ------------------------------------------------------------------------------------------------------ */

/* What has to come next from the device; NULL: nothing, or nothing that would be taken. *until: when that ends, 0: not by
 * itself. */
static const char *awaited(struct eg *e, const struct device *d, int64_t *until)
{
    const struct device_row *row = &d->row;
    *until = 0;
    if (row->has_current && !row->enrolled) {
        *until = row->exchange_since != 0 ? row->exchange_since + e->exchange_ms : 0;
        return row->current.offered != 0 ? "verify-key" : "request-key";
    }
    if (row->pending != NULL && !row->has_current) {
        *until = row->pending->since + e->pending_ms;
        return "first-frame";
    }
    if (device_rearmed(e, d)) {
        *until = row->rearm_until;
        return "association";
    }
    enum egp_device_state state = device_state(e, d);
    bool may_join = (state == EGP_ST_REGISTERED || state == EGP_ST_FAILED) && d->code != NULL && !row->code_spent;
    return may_join ? "association" : NULL;
}

/* Why it is not (properly) enrolled; NULL: there is nothing to say. What is on record comes before what was refused. */
static const char *reason_of(struct eg *e, const struct device *d)
{
    const char *recorded = device_reason_name(d->row.reason);
    if (recorded != NULL)
        return recorded;
    if (d->row.has_current)
        return d->row.enrolled && d->row.current.tclk == 0 ? "older-than-r21" : NULL;
    if (d->row.pending != NULL)
        return NULL;
    if (device_state(e, d) == EGP_ST_EXPIRED)
        return egp_reason_name(EGP_CODE_EXPIRED);
    const struct failure *f = failure_find(e, d->row.admin, d->eui);
    return f != NULL ? f->reason : NULL;
}

static const char *progress(struct eg *e, const struct device *d)
{
    int64_t until;
    const char *step = awaited(e, d, &until);
    if (step == NULL)
        return d->row.enrolled ? "enrolled" : NULL;
    return strcmp(step, "association") == 0 && device_rearmed(e, d) ? "rejoining" : step;
}

void explain_device(struct eg *e, const struct device *d, cJSON *out)
{
    int64_t until;
    const char *step = awaited(e, d, &until), *reason = reason_of(e, d);
    const char *about = reason != NULL ? reason : progress(e, d);
    if (d->row.has_current && d->row.enrolled)
        cJSON_AddStringToObject(out, "linkKey", d->row.current.tclk != 0 ? "own" : "install-code");
    if (step != NULL)
        cJSON_AddStringToObject(out, "awaits", step);
    output_time(out, "awaitsUntil", until);
    if (reason != NULL)
        cJSON_AddStringToObject(out, "reason", reason);
    if (about != NULL)
        cJSON_AddStringToObject(out, "explanation", eg_explanation(about));
}

/* --- what came to nothing last ------------------------------------------------------------------------------------- */

void explain_failure(struct eg *e, const struct device *d, cJSON *out)
{
    const struct failure *f = failure_find(e, d->row.admin, d->eui);
    if (f == NULL)
        return;
    cJSON *o = cJSON_AddObjectToObject(out, "lastFailure");
    cJSON_AddStringToObject(o, "reason", f->reason);
    cJSON_AddStringToObject(o, "explanation", eg_explanation(f->reason));
    output_eui(o, "gateway", f->gateway);
    if (f->other != 0)
        output_eui(o, "asked", f->other);
    output_time(o, "at", f->at);
    cJSON_AddNumberToObject(o, "times", f->times);
}

bool eg_explain_stranger(struct eg *e, const char *admin, eui64_t eui, struct mef_result *r)
{
    const struct failure *f = failure_find(e, admin, eui);
    char near[64] = "";
    if (f == NULL || strcmp(f->reason, egp_reason_name(EGP_UNKNOWN_DEVICE)) != 0)
        return false;
    if (f->other != 0)
        snprintf(near, sizeof near, ", the nearest registered EUI-64 is %016" PRIx64, f->other);
    snprintf(r->text, sizeof r->text, "a device with this EUI-64 asked to join at gateway %016" PRIx64
             " and was refused: no install code is registered for it%s", f->gateway, near);
    mef_refuse(r, ST_NOT_FOUND, f->reason, NULL, r->text);
    return true;
}
