/* Proof by the first frame, relay to AEs, replay, revocation, tickets and downlink. */
#include "tests/unit/eg_fixture.h"

#define FRAMES "mef/eg/frames/00158d0003123456"
#define DEVICE "mef/eg/devices/00158d0003123456"

static void get(struct world *w, const char *path, const char *identity, bool observe, struct call *c)
{
    *c = (struct call){.req = {.mount = CSE_RAW, .op = CSE_RETRIEVE, .path = path, .observe = observe,
                               .accept = CSE_NO_FORMAT, .peer = {S_AE, CSE_CRED_PSK, identity, "192.0.2.7:1", ""}}};
    eg_handle(w->eg, &c->req);
    end(w, c);
}

static struct mef_principal ae_of(struct world *w, const char *kpm)
{
    const struct cse_peer peer = {S_AE, CSE_CRED_PSK, kpm, "", ""};
    return mef_principal(w->mef, &peer);
}

static void key_id(struct world *w, eui64_t eui, char out[MEF_RELKEYID])
{
    cJSON *o = eg_device_get(w->eg, ADMIN, eui);
    const cJSON *id = cJSON_GetObjectItem(o, "keyId");
    snprintf(out, MEF_RELKEYID, "%s", id != NULL ? id->valuestring : "");
    cJSON_Delete(o);
}

/* --- proof -------------------------------------------------------------------------------------------------------- */

static void the_first_frame_commits_and_publishes_the_key(void **state)
{
    struct world *w = *state;
    struct call c, frames, devices;
    assert_int_equal(put_code(w, DEV, A_CODE), ST_CREATED);
    get(w, DEVICE, w->ae, true, &devices);
    get(w, FRAMES, w->ae, true, &frames);
    assert_int_equal(frames.st, ST_OK);
    assert_int_equal(frames.n, 0);
    assert_int_equal(ask(w, GW, DEV, 1, &c), EGP_OK);
    struct first_key k = learn(w, &c, CODE_KEY);
    assert_string_equal(w->h.notes[0].state, "key-sent");
    w->h.nnotes = 0;

    /* Nothing is told before the commit is durable. */
    struct frame_bytes f = reading(w, k.key, DEV, 17);
    struct egp_message m = {.env = {EGP_VERSION, EGP_UPLINK, 77, GW, 0, EGP_TO_EG, 15, -50}};
    uint8_t buf[EGP_MAX_MESSAGE];
    struct wr out = wr_of(buf, sizeof buf);
    m.u.frame = (struct egp_frame){.hop = SHORT, .lqi = 200, .nwk_frame = span_of(f.p, f.n)};
    assert_true(egp_encode(&m, &out));
    begin(w, &c, CSE_CREATE, "mef/eg", wr_span(&out), S_GW, w->gw);
    assert_int_equal(w->h.nnotes, 0);
    assert_int_equal(c.answers, 0);
    end(w, &c);

    expect_device(w, DEV, "joining", NULL);
    assert_int_equal(w->h.nnotes, 2);
    assert_int_equal(w->h.notes[0].observation, devices.observation);
    assert_string_equal(w->h.notes[0].state, "joining");
    assert_int_equal(w->h.notes[1].observation, frames.observation);
    assert_int_equal(w->h.notes[1].n, f.n);
    assert_memory_equal(w->h.notes[1].body, f.p, f.n);

    /* The gateway is told. */
    struct egp_message told;
    const struct sent *s = &w->h.sent[w->h.nsent - 1];
    assert_int_equal(s->session, S_GW);
    assert_null(egp_decode(span_of(s->body, s->n), &told));
    assert_int_equal(told.env.type, EGP_DEVICE_STATE);
    assert_int_equal(told.u.state.state, EGP_ST_JOINING);
    assert_int_equal(told.u.state.device_short, SHORT);

    crash(w);
    expect_device(w, DEV, "joining", NULL);
    uplink(w, GW, &f); /* its counter is kept with the proof */
    assert_int_equal(metric(w, "eg_uplink_dropped_total"), 1);
    char id[MEF_RELKEYID];
    key_id(w, DEV, id);
    struct mef_principal p = ae_of(w, w->ae), q = ae_of(w, w->ae2);
    assert_true(mef_keyreg_allows(w->mef, id, &p));
    assert_false(mef_keyreg_allows(w->mef, id, &q));
    cJSON_Delete(devices.pc);
}

static void frames_that_prove_nothing_change_nothing(void **state)
{
    struct world *w = *state;
    struct call c;
    uint8_t wrong[ZB_KEY] = {1, 2, 3};
    assert_int_equal(put_code(w, DEV, A_CODE), ST_CREATED);
    assert_int_equal(put_code(w, DEV2, A_CODE), ST_CREATED);
    assert_int_equal(ask(w, GW, DEV, 1, &c), EGP_OK);
    struct first_key k = learn(w, &c, CODE_KEY);
    struct frame_bytes f[5] = {
        reading(w, wrong, DEV, 1),           /* another key */
        reading(w, k.key, DEV2, 1),          /* another device as source */
        reading(w, k.key, GW, 1),            /* the gateway as source */
        reading(w, k.key, DEV, UINT32_MAX),  /* a counter that is never valid */
        reading(w, k.key, DEV, 1),
    };
    f[4].p[f[4].n - 1] ^= 1; /* MIC */
    for (size_t i = 0; i < 5; i++)
        uplink(w, GW, &f[i]);
    struct frame_bytes good = reading(w, k.key, DEV, 1);
    uplink(w, GW2, &good); /* heard by a gateway that did not send the key */
    struct frame_bytes cut = good;
    for (cut.n = 0; cut.n < good.n; cut.n++)
        if (cut.n >= 8)
            uplink(w, GW, &cut);
    expect_device(w, DEV, "key-sent", NULL);
    assert_int_equal(metric(w, "eg_uplink_dropped_total"), metric(w, "eg_uplink_total"));
    uplink(w, GW, &good);
    expect_device(w, DEV, "joining", NULL);
}

static void an_unproven_association_changes_nothing(void **state)
{
    struct world *w = *state;
    struct call c, frames;
    struct first_key k = enrol(w, DEV, 1);
    char before[MEF_RELKEYID], after[MEF_RELKEYID];
    key_id(w, DEV, before);
    assert_int_equal(ask(w, GW, DEV, 2, &c), EGP_CODE_SPENT); /* spoofed */
    assert_int_equal(act(w, DEV, "rearm"), ST_OK);
    assert_int_equal(ask(w, GW, DEV, 3, &c), EGP_OK); /* nobody has the link key to open the answer */
    struct first_key pending = learn(w, &c, CODE_KEY);
    assert_memory_not_equal(k.key, pending.key, ZB_KEY);
    expect_device(w, DEV, "enrolled", NULL);
    get(w, FRAMES, w->ae, true, &frames);
    struct frame_bytes f = reading(w, k.key, DEV, 6);
    uplink(w, GW, &f);
    assert_memory_equal(w->h.notes[w->h.nnotes - 1].body, f.p, f.n);
    pass(w, 61000);
    expect_device(w, DEV, "enrolled", "no-secured-frame-seen");
    f = reading(w, k.key, DEV, 7);
    uplink(w, GW, &f);
    assert_memory_equal(w->h.notes[w->h.nnotes - 1].body, f.p, f.n);
    key_id(w, DEV, after);
    assert_string_equal(before, after);
}

static void the_proving_frame_gives_the_address(void **state)
{
    struct world *w = *state;
    struct call c;
    assert_int_equal(put_code(w, DEV, A_CODE), ST_CREATED);
    assert_int_equal(ask(w, GW, DEV, 1, &c), EGP_OK);
    struct first_key k = learn(w, &c, CODE_KEY);
    struct egp_message spoofed = request_message(GW, DEV, 2); /* another radio with the device's EUI-64 */
    spoofed.u.request.device_short = 0x6666;
    send_message(w, &spoofed, &c);
    assert_int_equal(reason_of(&c), EGP_OK);
    struct frame_bytes f = reading(w, k.key, DEV, 1);
    uplink(w, GW, &f);
    get(w, DEVICE, w->ae, false, &c);
    assert_string_equal(cJSON_GetObjectItem(c.pc, "state")->valuestring, "joining");
    assert_int_equal(cJSON_GetObjectItem(c.pc, "nwkAddress")->valueint, SHORT);
    cJSON_Delete(c.pc);
}

static void a_proved_association_replaces_the_key(void **state)
{
    struct world *w = *state;
    struct call c, frames;
    struct first_key old = enrol(w, DEV, 1);
    char before[MEF_RELKEYID], after[MEF_RELKEYID];
    key_id(w, DEV, before);
    assert_int_equal(act(w, DEV, "rearm"), ST_OK); /* reset, and it begins anew with its code */
    assert_int_equal(ask(w, GW, DEV, 2, &c), EGP_OK);
    struct first_key k = learn(w, &c, CODE_KEY);
    reopen(w); /* both records are kept */
    struct frame_bytes f = reading(w, k.key, DEV, 0); /* the counter begins anew with the key */
    uplink(w, GW, &f);
    key_id(w, DEV, after);
    assert_string_not_equal(before, after);
    struct mef_principal p = ae_of(w, w->ae);
    assert_false(mef_keyreg_allows(w->mef, before, &p));
    assert_true(mef_keyreg_allows(w->mef, after, &p));
    get(w, FRAMES, w->ae, true, &frames);
    size_t n = w->h.nnotes;
    f = reading(w, old.key, DEV, 50);
    uplink(w, GW, &f);
    assert_int_equal(w->h.nnotes, n);
}

/* --- frames ------------------------------------------------------------------------------------------------------- */

static void replays_are_dropped(void **state)
{
    struct world *w = *state;
    struct call frames;
    struct first_key k = enrol(w, DEV, 1); /* used counter 5 */
    get(w, FRAMES, w->ae, true, &frames);
    static const struct {
        uint32_t counter;
        bool relayed;
    } steps[] = {{5, false}, {4, false}, {6, true}, {6, false}, {100, true}, {99, false}, {101, true}};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        size_t n = w->h.nnotes;
        struct frame_bytes f = reading(w, k.key, DEV, steps[i].counter);
        uplink(w, GW, &f);
        assert_int_equal(w->h.nnotes, n + steps[i].relayed);
    }
    reopen(w); /* orderly: the window is kept exactly */
    get(w, FRAMES, w->ae, true, &frames);
    size_t n = w->h.nnotes;
    struct frame_bytes f = reading(w, k.key, DEV, 101);
    uplink(w, GW, &f);
    assert_int_equal(w->h.nnotes, n);
    f = reading(w, k.key, DEV, 102);
    uplink(w, GW, &f);
    assert_int_equal(w->h.nnotes, n + 1);
}

static void the_newest_frame_is_there_for_a_new_observer(void **state)
{
    struct world *w = *state;
    struct call c;
    struct first_key k = enrol(w, DEV, 1);
    struct frame_bytes f[40];
    for (uint32_t i = 0; i < 40; i++) {
        f[i] = reading(w, k.key, DEV, 10 + i);
        uplink(w, GW, &f[i]);
    }
    get(w, FRAMES, w->ae, true, &c);
    assert_int_equal(c.format, 42);
    assert_int_equal(c.n, f[39].n);
    assert_memory_equal(c.body, f[39].p, c.n);
    static const struct {
        const char *back;
        int index;
    } old[] = {{"0", 39}, {"1", 38}, {"31", 8}, {"32", -1}, {"99999999999999999999", -1}};
    for (size_t i = 0; i < sizeof old / sizeof old[0]; i++) {
        const struct cse_param back = {"back", old[i].back};
        c = (struct call){.req = {.mount = CSE_RAW, .op = CSE_RETRIEVE, .path = FRAMES, .params = &back, .nparams = 1,
                                  .accept = CSE_NO_FORMAT,
                                  .peer = {S_AE, CSE_CRED_PSK, w->ae, "", ""}}};
        eg_handle(w->eg, &c.req);
        end(w, &c);
        assert_int_equal(c.st, ST_OK);
        assert_int_equal(c.n, old[i].index < 0 ? 0 : f[0].n);
        if (old[i].index >= 0)
            assert_memory_equal(c.body, f[old[i].index].p, c.n);
    }
}

static void zdp_is_the_egs_own(void **state)
{
    struct world *w = *state;
    struct call frames, c;
    struct first_key k = enrol(w, DEV, 1);
    get(w, FRAMES, w->ae, true, &frames);
    size_t n = w->h.nnotes;
    /* Device_annce: sequence, short address 0x4321, EUI-64, capability 0x88 */
    uint8_t annce[12] = {7, 0x21, 0x43, 0x56, 0x34, 0x12, 0x03, 0x00, 0x8d, 0x15, 0x00, 0x88};
    struct frame_bytes f = seal(w, k.key, DEV, 0x4321, 0xfffd, 30, 0, span_of(annce, 12));
    uplink(w, GW, &f);
    assert_int_equal(w->h.nnotes, n);
    get(w, DEVICE, w->ae, false, &c);
    assert_int_equal(cJSON_GetObjectItem(c.pc, "nwkAddress")->valueint, 0x4321);
    cJSON_Delete(c.pc);
    /* Endpoint 0 in an application's profile, and profile 0 at an application's endpoint. */
    struct zb_aps odd[2] = {{.fcf = ZB_APS_DATA, .dst_endpoint = 0, .src_endpoint = 1, .cluster = 6, .profile = 0x0104},
                            {.fcf = ZB_APS_DATA, .dst_endpoint = 1, .src_endpoint = 1, .cluster = 6, .profile = 0}};
    for (uint32_t i = 0; i < 2; i++) {
        f = seal_aps(w, k.key, DEV, SHORT, 0, 40 + i, &odd[i], span_of("\x01\x02\x03", 3));
        uplink(w, GW, &f);
    }
    struct zb_aps command_frame = {.fcf = ZB_APS_COMMAND, .counter = 1};
    f = seal_aps(w, k.key, DEV, SHORT, 0, 42, &command_frame, span_of("\x08\x04", 2)); /* Request-Key */
    uplink(w, GW, &f);
    assert_int_equal(metric(w, "eg_uplink_dropped_total"), 0);
    assert_int_equal(w->h.nnotes, n);
    annce[3] ^= 1; /* of another device */
    annce[1] = 0x22;
    f = seal(w, k.key, DEV, 0x4321, 0xfffd, 50, 0, span_of(annce, 12));
    uplink(w, GW, &f);
    reopen(w);
    get(w, DEVICE, w->ae, false, &c);
    assert_int_equal(cJSON_GetObjectItem(c.pc, "nwkAddress")->valueint, 0x4321);
    cJSON_Delete(c.pc);
}

static void who_may_see_a_device(void **state)
{
    struct world *w = *state;
    struct call c;
    enrol(w, DEV, 1);
    const struct {
        const char *path, *identity;
        enum st st;
    } cases[] = {
        {DEVICE, w->ae, ST_OK},
        {FRAMES, w->ae, ST_OK},
        {DEVICE, w->ae2, ST_NO_PRIVILEGE},     /* no target */
        {FRAMES, w->ae2, ST_NO_PRIVILEGE},
        {DEVICE, w->gw, ST_NO_PRIVILEGE},      /* a gateway is no AE */
        {FRAMES, w->gw, ST_NO_PRIVILEGE},
        {DEVICE, w->foreign, ST_NOT_FOUND},    /* another stakeholder's */
        {FRAMES, w->foreign, ST_NOT_FOUND},
        {DEVICE, "nobody", ST_NOT_AUTHENTICATED},
        {"mef/eg/frames/00158d0003ffffff", w->ae, ST_NOT_FOUND},
        {"mef/eg/frames/00158d0003ffffff", w->gw, ST_NO_PRIVILEGE}, /* ..and learns nothing */
        {"mef/eg/frames/00158d000312345", w->ae, ST_NOT_FOUND},
        {"mef/eg/frames/00158d0003123456/x", w->ae, ST_NOT_FOUND},
        {"mef/eg/nothing", w->ae, ST_NOT_FOUND},
        {TICKET, w->ae, ST_NOT_ALLOWED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        get(w, cases[i].path, cases[i].identity, true, &c);
        assert_int_equal(c.st, cases[i].st);
        assert_int_equal(c.observation != 0, c.st == ST_OK);
        cJSON_Delete(c.pc);
    }
    /* Once published, the key's registration decides, not the install code's, which may go. */
    struct mef_result r = {0};
    struct store_txn *t = store_begin(w->store);
    eg_code_delete(w->eg, t, ADMIN, "operator:test", DEV, &r);
    finish(w, t, &r);
    crash(w);
    get(w, FRAMES, w->ae, false, &c);
    assert_int_equal(c.st, ST_OK);
}

static void an_observer_that_lost_its_right_hears_no_more(void **state)
{
    struct world *w = *state;
    struct call c;
    struct first_key k = enrol(w, DEV, 1);
    get(w, FRAMES, w->ae, true, &c);
    assert_int_equal(put_code_as(w, ADMIN, DEV, "{\"installCode\":\"" CODE "\",\"targets\":[\"//example.org/in-cse/Cae2\"]}", true,
                                 NULL), ST_OK);
    size_t n = w->h.nnotes;
    struct frame_bytes f = reading(w, k.key, DEV, 9);
    uplink(w, GW, &f);
    assert_int_equal(w->h.nnotes, n);
    assert_int_equal(w->h.ncancelled, 1);
    eg_observe_end(w->eg, c.observation); /* late: harmless */
    get(w, FRAMES, w->ae2, true, &c); /* the other one may now */
    assert_int_equal(c.st, ST_OK);
    assert_memory_equal(c.body, f.p, f.n);
    eg_observe_end(w->eg, c.observation);
    f = reading(w, k.key, DEV, 10);
    uplink(w, GW, &f);
    assert_int_equal(w->h.nnotes, n);
}

/* --- revoke and rearm --------------------------------------------------------------------------------------------- */

static void revoked_until_rearmed(void **state)
{
    struct world *w = *state;
    struct call c, frames;
    struct first_key k = enrol(w, DEV, 1);
    char id[MEF_RELKEYID];
    key_id(w, DEV, id);
    get(w, FRAMES, w->ae, true, &frames);
    assert_int_equal(act(w, DEV, "revoke"), ST_OK);
    reopen(w);
    expect_device(w, DEV, "revoked", "revoked");
    struct mef_principal p = ae_of(w, w->ae);
    assert_false(mef_keyreg_allows(w->mef, id, &p));
    size_t n = w->h.nnotes;
    struct frame_bytes f = reading(w, k.key, DEV, 9);
    uplink(w, GW, &f);
    assert_int_equal(w->h.nnotes, n);
    assert_int_equal(ask(w, GW, DEV, 2, &c), EGP_DEVICE_REVOKED);
    assert_int_equal(act(w, DEV, "rearm"), ST_OK);
    pass(w, 601000);
    assert_int_equal(ask(w, GW, DEV, 3, &c), EGP_DEVICE_REVOKED); /* the window is over */
    assert_int_equal(act(w, DEV, "rearm"), ST_OK);
    assert_int_equal(ask(w, GW, DEV, 4, &c), EGP_OK);
    struct first_key fresh = learn(w, &c, CODE_KEY);
    f = reading(w, fresh.key, DEV, 1);
    uplink(w, GW, &f);
    expect_device(w, DEV, "joining", NULL);
    assert_int_equal(act(w, DEV, "rekey"), ST_NOT_IMPLEMENTED);
    assert_int_equal(act(w, DEV, "dance"), ST_NOT_FOUND);
    assert_int_equal(act(w, DEV2, "revoke"), ST_NOT_FOUND);
}

/* --- downlink ----------------------------------------------------------------------------------------------------- */

static void a_frame_under_a_ticket_goes_down(void **state)
{
    struct world *w = *state;
    struct call c;
    struct first_key k = enrol(w, DEV, 1);
    uint32_t first = take_ticket(w, w->ae, "{\"count\":3}", ST_OK);
    assert_true(take_ticket(w, w->ae, "", ST_OK) == first + 3);
    size_t n = w->h.nsent;
    struct frame_bytes f = command(w, k.key, first + 1);
    post(w, FRAMES, w->ae, span_of(f.p, f.n), &c);
    assert_int_equal(c.answers, 0); /* until the gateway has it */
    assert_int_equal(w->h.nsent, n + 1);
    struct sent *s = &w->h.sent[n];
    struct egp_message m;
    assert_null(egp_decode(span_of(s->body, s->n), &m));
    assert_int_equal(m.env.type, EGP_DOWNLINK);
    assert_int_equal(m.u.frame.hop, SHORT);
    assert_true(m.u.frame.indirect);
    assert_int_equal(m.u.frame.nwk_frame.n, f.n);
    assert_memory_equal(m.u.frame.nwk_frame.p, f.p, f.n);
    s->done(s->user, ST_UPDATED, (struct span){0});
    end(w, &c);
    assert_int_equal(c.st, ST_UPDATED);
    /* A counter serves once, and only whom it was given to. */
    post(w, FRAMES, w->ae, span_of(f.p, f.n), &c);
    assert_int_equal(c.st, ST_CONFLICT);
    assert_string_equal(c.code, "counter-not-granted");
    f = command(w, k.key, first + 4);
    post(w, FRAMES, w->ae, span_of(f.p, f.n), &c);
    assert_string_equal(c.code, "counter-not-granted");
    /* The gateway does not answer. */
    f = command(w, k.key, first + 2);
    post(w, FRAMES, w->ae, span_of(f.p, f.n), &c);
    s = &w->h.sent[n + 1];
    s->done(s->user, ST_TIMEOUT, (struct span){0});
    end(w, &c);
    assert_int_equal(c.st, ST_UNREACHABLE);
    /* No session: the counter is not lost. */
    f = command(w, k.key, first);
    eg_session_end(w->eg, S_GW);
    post(w, FRAMES, w->ae, span_of(f.p, f.n), &c);
    assert_int_equal(c.st, ST_UNREACHABLE);
    take_ticket(w, w->ae, "", ST_UNREACHABLE);
}

/* The process ends before the gateway answers: its host will not call back any more. */
static void a_frame_under_way_is_answered_at_the_end(void **state)
{
    struct world *w = *state;
    struct call c[2];
    struct first_key k = enrol(w, DEV, 1);
    uint32_t first = take_ticket(w, w->ae, "{\"count\":2}", ST_OK);
    for (unsigned i = 0; i < 2; i++) {
        struct frame_bytes f = command(w, k.key, first + i);
        post(w, FRAMES, w->ae, span_of(f.p, f.n), &c[i]);
        assert_int_equal(c[i].answers, 0);
    }
    reopen(w);
    for (unsigned i = 0; i < 2; i++) {
        end(w, &c[i]);
        assert_int_equal(c[i].st, ST_UNREACHABLE);
    }
}

static void a_ticket_is_for_its_holder(void **state)
{
    struct world *w = *state;
    struct call c;
    struct first_key k = enrol(w, DEV, 1);
    assert_int_equal(put_code_as(w, ADMIN, DEV, "{\"installCode\":\"" CODE "\",\"targets\":[\"" AE "\",\"/in-cse/Cae2\"]}", true,
                                 NULL), ST_OK);
    uint32_t first = take_ticket(w, w->ae, "", ST_OK);
    struct frame_bytes f = command(w, k.key, first);
    post(w, FRAMES, w->ae2, span_of(f.p, f.n), &c);
    assert_int_equal(c.st, ST_CONFLICT);
    assert_string_equal(c.code, "counter-not-granted");
    /* A gateway that another replica took gives none. */
    uint8_t key[8], other[16] = {9};
    struct wr row = wr_of(key, sizeof key);
    wr_be64(&row, GW);
    struct store_txn *t = store_begin(w->store);
    store_put(t, STORE_GATEWAY_EPOCH, wr_span(&row), span_of(other, sizeof other));
    store_commit(t, NULL, NULL);
    take_ticket(w, w->ae, "", ST_UNAVAILABLE);
}

static void what_an_ae_may_not_send(void **state)
{
    struct world *w = *state;
    struct call c;
    struct first_key k = enrol(w, DEV, 1);
    uint8_t wrong[ZB_KEY] = {9};
    uint32_t n = take_ticket(w, w->ae, "{\"count\":16}", ST_OK);
    struct span x = span_of("\x01\x02\x01", 3);
    struct frame_bytes zdp = seal(w, k.key, GW, 0, SHORT, n, 0, x), elsewhere = seal(w, k.key, GW, 0, SHORT + 1, n, 1, x),
                       as_device = seal(w, k.key, DEV, 0, SHORT, n, 1, x), from = seal(w, k.key, GW, 5, SHORT, n, 1, x),
                       bad_key = command(w, wrong, n), good = command(w, k.key, n);
    const struct {
        struct frame_bytes *f;
        const char *code;
    } cases[] = {{&zdp, "not-an-application-frame"}, {&elsewhere, "bad-address"}, {&as_device, "bad-source"},
                 {&from, "bad-address"}, {&bad_key, "bad-mic"}};
    size_t sent = w->h.nsent;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        post(w, FRAMES, w->ae, span_of(cases[i].f->p, cases[i].f->n), &c);
        assert_int_equal(c.st, ST_BAD_REQUEST);
        assert_string_equal(c.code, cases[i].code);
    }
    for (size_t i = 0; i < good.n; i++) {
        post(w, FRAMES, w->ae, span_of(good.p, i), &c);
        assert_int_equal(c.st, ST_BAD_REQUEST);
    }
    post(w, FRAMES, w->ae2, span_of(good.p, good.n), &c);
    assert_int_equal(c.st, ST_NO_PRIVILEGE);
    post(w, FRAMES, w->gw, span_of(good.p, good.n), &c);
    assert_int_equal(c.st, ST_NO_PRIVILEGE);
    assert_int_equal(w->h.nsent, sent);
    static const char *const bad[] = {"{\"count\":0}", "{\"count\":17}", "{\"count\":1.5}", "{\"count\":\"1\"}", "{\"cnt\":1}",
                                      "[1]", "{\"count\":-1}", "{}", "{\"count\":1,\"x\":1}", "{\"count\":257}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        take_ticket(w, w->ae, bad[i], ST_BAD_REQUEST);
    take_ticket(w, w->ae2, "", ST_NO_PRIVILEGE);
    for (int i = 0; i < 3; i++)
        take_ticket(w, w->ae, "{\"count\":16}", ST_OK);
    take_ticket(w, w->ae, "{\"count\":16}", ST_TOO_MANY);
}

static void tickets_end_with_the_process_but_counters_go_on(void **state)
{
    struct world *w = *state;
    struct call c;
    struct first_key k = enrol(w, DEV, 1);
    uint32_t first = take_ticket(w, w->ae, "{\"count\":4}", ST_OK);
    reopen(w);
    struct egp_message hello = {.env = {EGP_VERSION, EGP_HELLO, 1, GW, 0, EGP_TO_EG, 0, 0}};
    hello.u.hello = (struct egp_hello){PAN, 15, 1, 0};
    send_message(w, &hello, &c);
    struct frame_bytes f = command(w, k.key, first);
    post(w, FRAMES, w->ae, span_of(f.p, f.n), &c);
    assert_string_equal(c.code, "counter-not-granted");
    assert_int_equal(take_ticket(w, w->ae, "", ST_OK), first + 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(fn) cmocka_unit_test_setup_teardown(fn, world_new, world_free)
        T(the_first_frame_commits_and_publishes_the_key),
        T(frames_that_prove_nothing_change_nothing),
        T(an_unproven_association_changes_nothing),
        T(the_proving_frame_gives_the_address),
        T(a_proved_association_replaces_the_key),
        T(replays_are_dropped),
        T(the_newest_frame_is_there_for_a_new_observer),
        T(zdp_is_the_egs_own),
        T(who_may_see_a_device),
        T(an_observer_that_lost_its_right_hears_no_more),
        T(revoked_until_rearmed),
        T(a_frame_under_a_ticket_goes_down),
        T(a_frame_under_way_is_answered_at_the_end),
        T(a_ticket_is_for_its_holder),
        T(what_an_ae_may_not_send),
        T(tickets_end_with_the_process_but_counters_go_on),
#undef T
    };
    return cmocka_run_group_tests_name("eg frames", tests, NULL, NULL);
}
