/* Enrolment: EgRequest to EgResponse. */
#include "tests/unit/audit_page.h"
#include "tests/unit/eg_fixture.h"

static void join_is_answered_with_a_frame_the_device_opens(void **state)
{
    struct world *w = *state;
    struct call c;
    assert_int_equal(put_code(w, DEV, A_CODE), ST_CREATED);
    assert_int_equal(ask(w, GW, DEV, 1, &c), EGP_OK);
    struct first_key k = learn(w, &c, CODE_KEY);
    assert_int_equal(k.frame_len, 62);
    assert_int_equal(k.dst, DEV);
    assert_int_equal(k.src, GW);
    assert_false(k.extended);
    expect_device(w, DEV, "key-sent", NULL);
    assert_int_equal(metric(w, "eg_keys_sent_total"), 1);
    /* Sleepy: by polling; to the device itself. */
    struct egp_message m;
    assert_null(egp_decode(span_of(c.body, c.n), &m));
    assert_true(m.u.response.indirect);
    assert_int_equal(m.u.response.next_hop, SHORT);
    assert_int_equal(m.env.transaction, 1);
    assert_int_equal(m.env.direction, EGP_TO_GATEWAY);
}

static void extended_form_is_the_gateways_option(void **state)
{
    struct world *w = *state;
    struct call c;
    assert_int_equal(put_code(w, DEV, A_CODE), ST_CREATED);
    assert_int_equal(ask(w, GW2, DEV, 1, &c), EGP_OK);
    struct first_key k = learn(w, &c, CODE_KEY);
    assert_true(k.extended);
    assert_int_equal(k.src, GW2);
}

static void nothing_leaves_before_it_is_durable(void **state)
{
    struct world *w = *state;
    struct call c;
    uint8_t buf[EGP_MAX_MESSAGE];
    struct wr out = wr_of(buf, sizeof buf);
    struct egp_message m = request_message(GW, DEV, 1);
    assert_int_equal(put_code(w, DEV, A_CODE), ST_CREATED);
    assert_true(egp_encode(&m, &out));
    begin(w, &c, CSE_CREATE, "mef/eg", wr_span(&out), S_GW, w->gw);
    assert_int_equal(c.answers, 0);
    /* The same again while the first one waits. */
    struct call again;
    begin(w, &again, CSE_CREATE, "mef/eg", wr_span(&out), S_GW, w->gw);
    end(w, &c);
    assert_int_equal(again.answers, 1);
    assert_int_equal(again.n, c.n);
    assert_memory_equal(again.body, c.body, c.n);
}

static void same_transaction_gives_same_bytes(void **state)
{
    struct world *w = *state;
    struct call first, again;
    assert_int_equal(put_code(w, DEV, A_CODE), ST_CREATED);
    assert_int_equal(ask(w, GW, DEV, 9, &first), EGP_OK);
    struct egp_message m = request_message(GW, DEV, 9);
    m.env.rssi = -71;
    for (int i = 0; i < 3; i++) {
        send_message(w, &m, &again);
        assert_int_equal(again.n, first.n);
        assert_memory_equal(again.body, first.body, first.n);
        if (i == 0)
            reopen(w);
        else
            crash(w);
    }
    assert_int_equal(metric(w, "eg_keys_sent_total"), 1);
    m.u.request.device_short++;
    send_message(w, &m, &again);
    assert_int_equal(reason_of(&again), EGP_CONFLICT);
    /* Another gateway's numbers are its own. */
    assert_int_equal(ask(w, GW2, DEV, 9, &again), EGP_OK);
}

static void only_the_newest_responses_are_kept(void **state)
{
    struct world *w = *state;
    struct call c, again;
    assert_int_equal(put_code(w, DEV, A_CODE), ST_CREATED);
    uint64_t number = 1000; /* downwards: the order of making counts, not the numbers */
    for (int i = 0; i <= 64; i++, number--) {
        pass(w, 1000);
        assert_int_equal(ask(w, GW, DEV, number, &c), EGP_OK);
    }
    uint32_t last = learn(w, &c, CODE_KEY).counter;
    crash(w);
    pass(w, 5000);
    assert_int_equal(ask(w, GW, DEV, number + 1, &again), EGP_OK);
    assert_memory_equal(again.body, c.body, c.n); /* the newest is there */
    assert_int_equal(ask(w, GW, DEV, 1000, &again), EGP_OK); /* the oldest is not: made anew, under a new counter */
    assert_int_equal(learn(w, &again, CODE_KEY).counter, last + 1);
    assert_int_equal(ask(w, GW, DEV, 998, &again), EGP_OK); /* which displaced 999, not this one */
    assert_int_equal(learn(w, &again, CODE_KEY).counter, 3);
    assert_int_equal(ask(w, GW, DEV, number + 1, &again), EGP_OK); /* ..nor the newest */
    assert_memory_equal(again.body, c.body, c.n);
}

static void a_repeat_while_pending_gets_the_same_key_under_a_new_counter(void **state)
{
    struct world *w = *state;
    struct call c;
    assert_int_equal(put_code(w, DEV, A_CODE), ST_CREATED);
    assert_int_equal(ask(w, GW, DEV, 1, &c), EGP_OK);
    struct first_key a = learn(w, &c, CODE_KEY);
    assert_int_equal(ask(w, GW, DEV, 2, &c), EGP_OK);
    struct first_key b = learn(w, &c, CODE_KEY);
    assert_memory_equal(a.key, b.key, ZB_KEY);
    assert_true(b.counter > a.counter);
    /* At another gateway it is another Trust Centre: another key. */
    assert_int_equal(ask(w, GW2, DEV, 3, &c), EGP_OK);
    struct first_key d = learn(w, &c, CODE_KEY);
    assert_memory_not_equal(a.key, d.key, ZB_KEY);
}

static void repeats_are_rate_limited(void **state)
{
    struct world *w = *state;
    struct call c;
    uint64_t n = 0;
    assert_int_equal(put_code(w, DEV, A_CODE), ST_CREATED);
    assert_int_equal(put_code(w, DEV2, A_CODE), ST_CREATED);
    while (ask(w, GW, DEV, n, &c) == EGP_OK)
        assert_true(++n < 20);
    assert_int_equal(n, 1 + 8); /* the first time, and the burst */
    assert_int_equal(reason_of(&c), EGP_RATE_LIMITED);
    assert_int_equal(ask(w, GW, DEV2, 50, &c), EGP_OK); /* each EUI-64 has its own */
    pass(w, 1000);
    assert_int_equal(ask(w, GW, DEV, 51, &c), EGP_OK);
    assert_int_equal(ask(w, GW, DEV, 52, &c), EGP_RATE_LIMITED);
}

static void refusals(void **state)
{
    struct world *w = *state;
    struct call c;
    struct egp_message m;
    assert_int_equal(ask(w, GW, DEV, 1, &c), EGP_UNKNOWN_DEVICE);
    assert_int_equal(put_code(w, DEV, "{\"installCode\":\"" CODE "\",\"gateways\":[\"00124b001ca1b2c4\"]}"), ST_CREATED);
    assert_int_equal(ask(w, GW, DEV, 2, &c), EGP_GATEWAY_NOT_ALLOWED);
    assert_int_equal(put_code(w, DEV, "{\"installCode\":\"" CODE "\",\"expiresAt\":\"2026-09-21T15:00:00Z\"}"), ST_OK);
    w->h.clock += 3600000;
    assert_int_equal(ask(w, GW, DEV, 3, &c), EGP_CODE_EXPIRED);
    expect_device(w, DEV, "expired", "code-expired");
    assert_int_equal(put_code(w, DEV, A_CODE), ST_OK);
    m = request_message(GW, DEV, 4);
    m.u.request.parent_short = 0x1234;
    send_message(w, &m, &c);
    assert_int_equal(reason_of(&c), EGP_PARENT_KEY_DOMAIN);
    m = request_message(GW, DEV, 5);
    m.u.request.join = EGP_REJOIN_TRUST_CENTRE;
    m.u.request.nwk_frame = span_of("\x09\x10\x00\x00\x2e\x1f\x01\x01\x06\x80", 10);
    send_message(w, &m, &c);
    assert_int_equal(reason_of(&c), EGP_BAD_REQUEST); /* names nobody */
    m.env.transaction = 55;
    m.u.request.join = EGP_REJOIN_SECURED;
    send_message(w, &m, &c);
    assert_int_equal(reason_of(&c), EGP_NOT_SUPPORTED);
    m = request_message(GW, DEV, 6);
    m.u.request.device_short = 0;
    send_message(w, &m, &c);
    assert_int_equal(reason_of(&c), EGP_BAD_REQUEST);
    assert_int_equal(put_gateway_as(w, ADMIN, GW, w->gw, ",\"panIds\":[4660]", NULL), ST_OK);
    assert_int_equal(ask(w, GW, DEV, 7, &c), EGP_GATEWAY_NOT_ALLOWED);
    assert_int_equal(put_gateway_as(w, ADMIN, GW, w->gw, ",\"applications\":[\"heating\"]", NULL), ST_OK);
    assert_int_equal(ask(w, GW, DEV, 8, &c), EGP_GATEWAY_NOT_ALLOWED);
    /* None of it moved a counter or left a trace. */
    expect_device(w, DEV, "registered", "gateway-not-allowed");
    assert_int_equal(put_gateway_as(w, ADMIN, GW, w->gw, "", NULL), ST_OK);
    assert_int_equal(ask(w, GW, DEV, 9, &c), EGP_OK);
    assert_int_equal(learn(w, &c, CODE_KEY).counter, 1);
    assert_int_equal(metric(w, "eg_refused_total"), 9);
}

static bool audited(struct world *w, const char *outcome)
{
    cJSON *page = audit_page(w->audit, w->store, ADMIN, 0, 100), *e;
    bool found = false;
    cJSON_ArrayForEach(e, page) found |= strcmp(cJSON_GetObjectItem(e, "outcome")->valuestring, outcome) == 0;
    cJSON_Delete(page);
    return found;
}

static void an_unknown_device_is_audited_with_its_nearest(void **state)
{
    struct world *w = *state;
    struct call c;
    assert_int_equal(put_code(w, DEV, A_CODE), ST_CREATED);
    assert_int_equal(ask(w, GW, DEV ^ 0xff, 1, &c), EGP_UNKNOWN_DEVICE);
    settle(w);
    assert_true(audited(w, "unknown-device nearest=00158d0003123456"));
    assert_int_equal(ask(w, GW, DEV2, 2, &c), EGP_UNKNOWN_DEVICE);
    settle(w);
    assert_true(audited(w, "unknown-device"));
    /* Strangers leave no record. */
    assert_null(eg_device_get(w->eg, ADMIN, DEV2));
}

static void another_stakeholders_device_is_unknown(void **state)
{
    struct world *w = *state;
    struct call c;
    assert_int_equal(put_code_as(w, OTHER_ADMIN, DEV, A_CODE, false, NULL), ST_CREATED);
    assert_int_equal(ask(w, GW, DEV, 1, &c), EGP_UNKNOWN_DEVICE);
}

static void only_the_bound_identity_speaks_for_a_gateway(void **state)
{
    struct world *w = *state;
    struct call c;
    struct egp_message m = request_message(GW, DEV, 1);
    const char *wrong[] = {w->ae, w->gw2, w->foreign, "nobody@mef.example.org", ""};
    assert_int_equal(put_code(w, DEV, A_CODE), ST_CREATED);
    for (size_t i = 0; i < 5; i++) {
        send_as(w, &m, 10 + i, wrong[i], &c);
        assert_int_equal(c.st, ST_NO_PRIVILEGE);
        assert_int_equal(reason_of(&c), EGP_NOT_BOUND);
    }
    m.env.gateway = 0x1111111111111111u; /* bound to nobody */
    send_as(w, &m, S_GW, w->gw, &c);
    assert_int_equal(reason_of(&c), EGP_NOT_BOUND);
    struct egp_message hello = {.env = {EGP_VERSION, EGP_HELLO, 1, GW, 0, EGP_TO_EG, 0, 0}};
    hello.u.hello = (struct egp_hello){PAN, 15, 1, 0};
    send_as(w, &hello, S_AE, w->ae, &c);
    assert_int_equal(c.st, ST_NO_PRIVILEGE);
    assert_int_equal(c.n, 0);
    expect_device(w, DEV, "registered", NULL);
    send_as(w, &hello, S_GW, w->gw, &c);
    assert_int_equal(c.st, ST_UPDATED);
    assert_int_equal(c.n, 0);
    assert_int_equal(ask(w, GW, DEV, 1, &c), EGP_OK);
    assert_int_equal(learn(w, &c, CODE_KEY).counter, 1);
}

static void undecodable_messages_change_nothing(void **state)
{
    struct world *w = *state;
    struct call c;
    uint8_t buf[2 * EGP_MAX_MESSAGE] = {0};
    struct wr out = wr_of(buf, sizeof buf);
    struct egp_message m = request_message(GW, DEV, 1);
    assert_int_equal(put_code(w, DEV, A_CODE), ST_CREATED);
    assert_true(egp_encode(&m, &out));
    for (size_t n = 0; n < out.n; n++) {
        begin(w, &c, CSE_CREATE, "mef/eg", span_of(buf, n), S_GW, w->gw);
        end(w, &c);
        assert_int_equal(c.st, ST_BAD_REQUEST);
        assert_string_not_equal(c.code, "");
    }
    begin(w, &c, CSE_CREATE, "mef/eg", span_of(buf, sizeof buf), S_GW, w->gw);
    end(w, &c);
    assert_int_equal(c.st, ST_TOO_LARGE);
    begin(w, &c, CSE_RETRIEVE, "mef/eg", (struct span){0}, S_GW, w->gw);
    end(w, &c);
    assert_int_equal(c.st, ST_NOT_ALLOWED);
    /* A message of the EG's own comes back: wrong way round. */
    m.env.type = EGP_RESPONSE;
    m.env.direction = EGP_TO_GATEWAY;
    m.u.response = (struct egp_response){.reason = EGP_UNKNOWN_DEVICE};
    send_message(w, &m, &c);
    assert_int_equal(c.st, ST_BAD_REQUEST);
    expect_device(w, DEV, "registered", NULL);
    assert_int_equal(ask(w, GW, DEV, 1, &c), EGP_OK);
    assert_int_equal(learn(w, &c, CODE_KEY).counter, 1);
}

static bool read_epoch(void *user, struct span key, struct span val)
{
    uint64_t *want = user, eui = 0, epoch = 0;
    struct rd k = rd_of(key), v = rd_of(val);
    assert_true(rd_be64(&k, &eui) && rd_be64(&v, &epoch));
    if (eui == want[0])
        want[1] = epoch;
    return true;
}
static uint64_t epoch_of(struct world *w, eui64_t gateway)
{
    uint64_t found[2] = {gateway, 0};
    assert_int_equal(store_each(w->store, STORE_GATEWAY_EPOCH, read_epoch, found), ST_OK);
    return found[1];
}

static void each_session_of_a_gateway_is_an_epoch(void **state)
{
    struct world *w = *state;
    struct call c;
    struct egp_message hello = {.env = {EGP_VERSION, EGP_HELLO, 1, GW, 0, EGP_TO_EG, 0, 0}};
    hello.u.hello = (struct egp_hello){PAN, 15, 1, 0};
    static const struct {
        uint64_t session, epoch;
    } steps[] = {{50, 1}, {50, 1}, {51, 2}, {51, 2}, {52, 3}};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        send_as(w, &hello, steps[i].session, w->gw, &c);
        assert_int_equal(epoch_of(w, GW), steps[i].epoch);
    }
    crash(w);
    send_as(w, &hello, 52, w->gw, &c);
    assert_int_equal(epoch_of(w, GW), 4);
}

static void a_lost_gateway_is_unavailable(void **state)
{
    struct world *w = *state;
    struct call c;
    uint8_t key[8], other[16] = {9};
    struct wr k = wr_of(key, sizeof key);
    assert_int_equal(put_code(w, DEV, A_CODE), ST_CREATED);
    assert_int_equal(ask(w, GW, DEV, 1, &c), EGP_OK);
    wr_be64(&k, GW);
    struct store_txn *t = store_begin(w->store); /* as another replica would */
    store_put(t, STORE_GATEWAY_EPOCH, wr_span(&k), span_of(other, sizeof other));
    store_commit(t, NULL, NULL);
    assert_int_equal(ask(w, GW, DEV, 2, &c), EGP_UNAVAILABLE);
    assert_int_equal(ask(w, GW, DEV, 2, &c), EGP_UNAVAILABLE);
    assert_int_equal(ask(w, GW2, DEV, 3, &c), EGP_OK); /* the others go on */
    reopen(w);
    assert_int_equal(ask(w, GW, DEV, 4, &c), EGP_OK);
}

static void pending_ends_without_a_frame(void **state)
{
    struct world *w = *state;
    struct call c;
    assert_int_equal(put_code(w, DEV, A_CODE), ST_CREATED);
    assert_int_equal(ask(w, GW, DEV, 1, &c), EGP_OK);
    struct first_key a = learn(w, &c, CODE_KEY);
    pass(w, 40000);
    reopen(w); /* the time-out goes on where it was */
    pass(w, 19000);
    expect_device(w, DEV, "key-sent", NULL);
    pass(w, 2000);
    expect_device(w, DEV, "failed", "no-secured-frame-seen");
    struct frame_bytes f = reading(w, a.key, DEV, 1); /* too late */
    uplink(w, GW, &f);
    expect_device(w, DEV, "failed", "no-secured-frame-seen");
    assert_int_equal(ask(w, GW, DEV, 2, &c), EGP_OK);
    struct first_key b = learn(w, &c, CODE_KEY);
    assert_memory_not_equal(a.key, b.key, ZB_KEY);
    assert_int_equal(b.counter, a.counter + 1);
    expect_device(w, DEV, "key-sent", NULL);
}

/* --- invariant 1, whatever happens in whatever order -------------------------------------------------------------- */

struct used {
    char link_key[33];
    eui64_t source;
    uint32_t counter;
    uint64_t transaction;
};

static void remember(struct used *seen, size_t *n, const struct used *u)
{
    for (size_t i = 0; i < *n; i++) {
        bool same = strcmp(seen[i].link_key, u->link_key) == 0 && seen[i].source == u->source && seen[i].counter == u->counter;
        if (same && seen[i].transaction != u->transaction)
            fail_msg("counter %u used by transactions %lu and %lu", u->counter, seen[i].transaction, u->transaction);
    }
    seen[(*n)++] = *u;
}

/* A repetition is answered as before, also when the code was replaced meanwhile: which one is the frame under? */
static const char *link_key_of(struct world *w, const struct call *c, const char *a, const char *b)
{
    struct egp_message m;
    struct zb_nwk nwk;
    struct zb_aps aps;
    struct zb_aux aux;
    uint8_t key[ZB_KEY], buf[ZB_NWK_MAX];
    struct wr plain = wr_of(buf, sizeof buf);
    assert_null(egp_decode(span_of(c->body, c->n), &m));
    assert_int_equal(zb_nwk_parse(m.u.response.nwk_frame, &nwk), ZB_OK);
    assert_true(hex_decode(a, 32, key, ZB_KEY));
    return zb_aps_open(w->crypto, key, nwk.payload, 0, &aps, &aux, &plain) == ZB_OK ? a : b;
}

static void interleave(struct world *w, uint64_t seed, struct used *seen, size_t *nseen)
{
    static const char *const codes[2][2] = {{CODE, CODE_KEY}, {OTHER_CODE, "58c1828cf7f1c3fe29e7b1024ad84bfa"}};
    static const eui64_t devices[3] = {0x00158d0003123456u, 0x00158d0003abcdefu, 0x00158d0003000001u};
    uint64_t rng = seed, transaction = seed << 32;
    for (int step = 0; step < 60; step++) {
        uint64_t x = next_random(&rng), d = x % 3;
        eui64_t gateway = x >> 8 & 1 ? GW : GW2;
        struct call c;
        char json[128];
        switch (x >> 16 & 7) {
        case 0:
            snprintf(json, sizeof json, "{\"installCode\":\"%s\"}", codes[x >> 24 & 1][0]);
            put_code_as(w, ADMIN, devices[d], json, true, NULL);
            break;
        case 1:
            if (x >> 24 & 1)
                reopen(w);
            else
                crash(w);
            break;
        case 2:
            pass(w, x >> 24 & 0xffff);
            break;
        default:
            transaction += x >> 30 & 1; /* else a repetition, or a conflict */
            if (ask(w, gateway, devices[d], transaction, &c) == EGP_OK) {
                const char *link_key = link_key_of(w, &c, codes[0][1], codes[1][1]);
                struct first_key k = learn(w, &c, link_key);
                struct used u = {.source = gateway, .counter = k.counter, .transaction = transaction};
                snprintf(u.link_key, sizeof u.link_key, "%s", link_key);
                remember(seen, nseen, &u);
                if (x >> 40 & 1) {
                    struct frame_bytes f = reading(w, k.key, devices[d], (uint32_t)step);
                    uplink(w, gateway, &f);
                }
            }
        }
        settle(w);
        w->h.nsent = w->h.nnotes = 0;
    }
}

static void counters_are_never_used_twice(void **state)
{
    struct world *w = *state;
    static const eui64_t devices[3] = {0x00158d0003123456u, 0x00158d0003abcdefu, 0x00158d0003000001u};
    static struct used seen[50 * 60];
    size_t nseen = 0;
    for (uint64_t seed = 1; seed <= 50; seed++) { /* two devices share an install code: one counter space */
        for (size_t i = 0; i < 3; i++)
            put_code_as(w, ADMIN, devices[i], i < 2 ? "{\"installCode\":\"" CODE "\"}" : "{\"installCode\":\"" OTHER_CODE "\"}",
                        true, NULL);
        interleave(w, seed, seen, &nseen);
    }
    assert_true(nseen > 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(fn) cmocka_unit_test_setup_teardown(fn, world_new, world_free)
        T(join_is_answered_with_a_frame_the_device_opens),
        T(extended_form_is_the_gateways_option),
        T(nothing_leaves_before_it_is_durable),
        T(same_transaction_gives_same_bytes),
        T(only_the_newest_responses_are_kept),
        T(a_repeat_while_pending_gets_the_same_key_under_a_new_counter),
        T(repeats_are_rate_limited),
        T(refusals),
        T(an_unknown_device_is_audited_with_its_nearest),
        T(another_stakeholders_device_is_unknown),
        T(only_the_bound_identity_speaks_for_a_gateway),
        T(undecodable_messages_change_nothing),
        T(each_session_of_a_gateway_is_an_epoch),
        T(a_lost_gateway_is_unavailable),
        T(pending_ends_without_a_frame),
        T(counters_are_never_used_twice),
#undef T
    };
    return cmocka_run_group_tests_name("eg", tests, NULL, NULL);
}
