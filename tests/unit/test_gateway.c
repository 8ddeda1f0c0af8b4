/* zbgwd's rooms below the radio: MAC codec against the vectors, clear NWK headers, outbound queues; and ipe-nid's queue. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "cse-shim/base/crc16.h"
#include "ipe-ni/gateway/nwk.h"
#include "ipe-ni/gateway/outbound.h"
#include "ipe-ni/upqueue.h"

#include <cjson/cJSON.h>

enum { PAN = 0x1a62 };
static const eui64_t device = 0x00158d0003123456, gateway = 0x00124b001ca1b2c3;

/* --- MAC against the vectors -------------------------------------------------------------------------------------- */
static struct mac_addr short_addr(uint16_t pan, uint16_t a)
{
    return (struct mac_addr){.mode = MAC_SHORT, .pan = pan, .short_ = a};
}
static struct mac_addr ext_addr(uint16_t pan, eui64_t a)
{
    return (struct mac_addr){.mode = MAC_EXT, .pan = pan, .ext = a};
}

/* What each frame of the vectors means; its payload is built by the codec's own helpers where the gateway has one. */
static struct mac_frame meaning(const char *name, uint8_t payload[32])
{
    struct wr w = wr_of(payload, 32);
    struct mac_frame f = {.type = MAC_COMMAND, .ack_request = true};
    struct mac_addr us = short_addr(PAN, 0), none = short_addr(0xffff, 0xffff), them = ext_addr(PAN, device);
    if (strcmp(name, "beacon request") == 0) {
        f = (struct mac_frame){.type = MAC_COMMAND, .seq = 0x64, .dst = none};
        wr_u8(&w, MAC_BEACON_REQUEST);
    } else if (strncmp(name, "beacon, association permit=", 27) == 0) {
        f = (struct mac_frame){.type = MAC_BEACON, .seq = 0xba, .src = us};
        mac_beacon_payload(&w, &(struct mac_beacon){name[27] == '1', true, true, 0, 0xdddddddddddddddd, 0});
    } else if (strncmp(name, "association request", 19) == 0) {
        bool router = strstr(name, "0x8e") != NULL;
        f.seq = router ? 0x74 : 0x75;
        f.dst = us;
        f.src = ext_addr(0xffff, device);
        wr_u8(&w, MAC_ASSOCIATION_REQUEST);
        wr_u8(&w, router ? 0x8e : 0x80);
    } else if (strncmp(name, "association response", 20) == 0) {
        bool ok = strstr(name, "success") != NULL;
        f.seq = ok ? 0xbb : 0xbc;
        f.dst = them;
        f.src = ext_addr(PAN, gateway);
        mac_association_response(&w, ok ? 0x1f2e : 0xffff, ok ? MAC_ASSOC_OK : MAC_ASSOC_DENIED);
    } else {
        bool by_short = strstr(name, "short source") != NULL;
        f.seq = by_short ? 0x77 : 0x76;
        f.dst = us;
        f.src = by_short ? short_addr(PAN, 0x1f2e) : them;
        wr_u8(&w, MAC_DATA_REQUEST);
    }
    f.payload = wr_span(&w);
    return f;
}

static size_t json_hex(const cJSON *o, const char *key, uint8_t out[256])
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(o, key));
    assert_non_null(text);
    assert_true(hex_decode(text, strlen(text), out, strlen(text) / 2));
    return strlen(text) / 2;
}

static cJSON *vectors(void)
{
    const char *path = getenv("ZIGBEE_VECTORS");
    assert_non_null(path);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    static char text[1 << 20];
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    cJSON *v = cJSON_Parse(text);
    assert_non_null(v);
    return v;
}

static void mac_frames_are_the_vectors(void **state)
{
    (void)state;
    cJSON *v = vectors();
    const cJSON *o;
    unsigned seen = 0;
    cJSON_ArrayForEach(o, cJSON_GetObjectItem(v, "mac_frames"))
    {
        uint8_t want[256], fcs[256], payload[32], buf[MAC_MAX_PSDU];
        size_t n = json_hex(o, "mac_frame", want);
        assert_int_equal(json_hex(o, "fcs", fcs), 2);
        memcpy(want + n, fcs, 2);
        struct mac_frame f = meaning(cJSON_GetStringValue(cJSON_GetObjectItem(o, "name")), payload), back;
        struct wr w = wr_of(buf, sizeof buf);
        mac_build(&w, &f);
        mac_fcs_append(&w, 0);
        assert_int_equal(w.n, n + 2);
        assert_memory_equal(buf, want, n + 2);
        struct span frame;
        assert_true(mac_fcs_strip(wr_span(&w), &frame));
        assert_null(mac_parse(frame, &back));
        assert_int_equal(back.type, f.type);
        assert_true(span_eq(back.payload, f.payload));
        assert_true(back.src.ext == f.src.ext && back.dst.ext == f.dst.ext);
        seen++;
    }
    assert_int_equal(seen, 9);
    cJSON_Delete(v);
}

static const char *parse_hex(const char *hex)
{
    uint8_t b[MAC_MAX_PSDU];
    struct mac_frame f;
    assert_true(hex_decode(hex, strlen(hex), b, strlen(hex) / 2));
    return mac_parse(span_of(b, strlen(hex) / 2), &f);
}

static void mac_parse_is_strict(void **state)
{
    (void)state;
    static const struct {
        const char *hex, *why;
    } cases[] = {
        {"0308", "truncated"},
        {"0308640000ff", "truncated"},
        {"0508640000ffff07", "bad-type"},
        {"0b08640000ffff07", "secured"},
        {"830864ffffffff07", "reserved"}, /* a reserved bit */
        {"031864ffffffff07", "reserved"}, /* frame version 1 */
        {"030464ffffffff07", "reserved"}, /* reserved addressing mode */
        {"430864ffffffff07", "reserved"}, /* compression with one address */
        {"02006400", "bad-ack"},
        {"220064", "bad-ack"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *why = parse_hex(cases[i].hex);
        assert_non_null(why);
        assert_string_equal(why, cases[i].why);
    }
    assert_null(parse_hex("020064"));
    assert_null(parse_hex("120064"));
    uint8_t psdu[] = {0x02, 0x00, 0x64, 0, 0};
    uint16_t fcs = crc16_kermit(span_of(psdu, 3));
    struct span frame;
    psdu[3] = (uint8_t)fcs, psdu[4] = (uint8_t)(fcs >> 8);
    assert_true(mac_fcs_strip(span_of(psdu, 5), &frame));
    for (int bit = 0; bit < 40; bit++) {
        psdu[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(mac_fcs_strip(span_of(psdu, 5), &frame));
        psdu[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

/* --- clear NWK headers -------------------------------------------------------------------------------------------- */
static bool read_hex(const char *hex, struct nwk_clear *h)
{
    uint8_t b[EGP_MAX_NWK];
    assert_true(hex_decode(hex, strlen(hex), b, strlen(hex) / 2));
    return nwk_read(span_of(b, strlen(hex) / 2), h);
}

static void nwk_headers(void **state)
{
    (void)state;
    struct nwk_clear h;
    assert_true(read_hex("08002e1f00001e70211030001000", &h));
    assert_true(!h.secured && !h.command && h.dst == 0x1f2e && h.src == 0);
    const char *secured = "480200002e1f1e01" "28" "a10f0000" "563412000300158d" "00" "0011223344";
    assert_true(read_hex(secured, &h));
    assert_true(h.secured && h.src == 0x1f2e && h.counter == 4001 && h.source == 0x8d15000300123456);
    /* all options: both extended addresses, source route with two relays */
    assert_true(read_hex("481e00002e1f1e01" "1111111111111111" "2222222222222222" "0200aaaabbbb" "28" "01000000"
                         "563412000300158d" "00", &h));
    assert_int_equal(h.counter, 1);
    for (size_t n = 0; n < 22; n++) { /* every cut of the headers */
        uint8_t b[64];
        assert_true(hex_decode(secured, strlen(secured), b, strlen(secured) / 2));
        assert_false(nwk_read(span_of(b, n), &h));
    }
    assert_true(read_hex("091000002e1f0101" "563412000300158d" "0680", &h));
    assert_true(h.rejoin && h.command && !h.secured && h.device == 0x8d15000300123456 && h.capability == 0x80);
    static const char *const no_rejoins[] = {
        "09000000" "2e1f0101" "0680",                    /* names nobody */
        "091000002e1f0101" "563412000300158d" "06",      /* cut */
        "091000002e1f0101" "563412000300158d" "0480",    /* another command */
        "081000002e1f0101" "563412000300158d" "0680",    /* data */
    };
    for (size_t i = 0; i < sizeof no_rejoins / sizeof no_rejoins[0]; i++)
        assert_true(read_hex(no_rejoins[i], &h) && !h.rejoin);
    assert_false(read_hex("0b002e1f00001e70", &h));                          /* inter-PAN */
    assert_false(read_hex("04002e1f00001e70", &h));                          /* Zigbee 2004 */
    assert_false(read_hex("480200002e1f1e0130a10f0000563412000300158d00", &h)); /* another key than the network key */
}

/* --- outbound queues over a radio that the test plays ------------------------------------------------------------- */
struct rig {
    struct radio radio;
    sd_event *loop;
    struct outbound *out;
    uint8_t air[MAC_MAX_FRAME]; /* the frame under way */
    size_t air_n;
    unsigned frames, results[4], associated;
    uint64_t last_result;
    bool pending_short, pending_ext;
};

static struct rig *rig; /* the radio interface has no user pointer of ours; one rig at a time */

static bool rig_tx(struct radio *r, struct span frame)
{
    (void)r;
    if (rig->air_n != 0)
        return false;
    memcpy(rig->air, frame.p, frame.n);
    rig->air_n = frame.n;
    rig->frames++;
    return true;
}

static bool rig_pending(struct radio *r, const struct mac_addr *who, bool on)
{
    (void)r;
    *(who->mode == MAC_SHORT ? &rig->pending_short : &rig->pending_ext) = on;
    return true;
}

static const struct radio_ops rig_ops = {"rig", NULL, NULL, rig_tx, rig_pending};

static void rig_done(void *user, const struct out_ticket *t, enum egp_tx result, unsigned tries)
{
    (void)user, (void)tries;
    rig->results[result]++;
    rig->last_result = t->transaction;
}

static void rig_associated(void *user, eui64_t who, bool delivered)
{
    (void)user, (void)who;
    rig->associated += delivered;
}

static int rig_setup(void **state)
{
    (void)state;
    rig = calloc(1, sizeof *rig);
    if (rig == NULL || sd_event_new(&rig->loop) < 0)
        return -1;
    rig->radio.ops = &rig_ops;
    struct out_config cfg = {rig->loop, &rig->radio, {15, PAN, 0, gateway}, 8, 64, NULL, rig_done, rig_associated};
    rig->out = outbound_new(&cfg);
    return rig->out != NULL ? 0 : -1;
}

static int rig_teardown(void **state)
{
    (void)state;
    outbound_free(rig->out);
    sd_event_unref(rig->loop);
    free(rig);
    rig = NULL;
    return 0;
}

/* The frame under way is over. */
static void finish(enum radio_tx result)
{
    assert_true(rig->air_n != 0);
    rig->air_n = 0;
    outbound_tx_done(rig->out, result, 1);
}

static enum out_queued queue_frame(uint16_t hop, bool indirect, bool secured, uint32_t counter, uint32_t *last)
{
    uint8_t payload[8] = {0};
    memcpy(payload, &counter, 4);
    return outbound_nwk(rig->out,
                        &(struct out_nwk){.hop = hop, .ext = device, .indirect = indirect, .secured = secured,
                                          .counter = counter, .source = gateway, .frame = span_of(payload, 8),
                                          .ticket = {counter, device}},
                        last);
}

static uint32_t air_counter(void)
{
    uint32_t c;
    assert_true(rig->air_n > 9);
    memcpy(&c, rig->air + 9, 4);
    return c;
}

static void poll_short(uint16_t who) { outbound_poll(rig->out, &(struct mac_addr){.mode = MAC_SHORT, .short_ = who}); }

static void association_then_key_then_the_rest(void **state)
{
    (void)state;
    uint32_t last;
    assert_true(outbound_association(rig->out, device, 0x1f2e, MAC_ASSOC_OK));
    assert_true(rig->pending_short && rig->pending_ext);
    assert_int_equal(queue_frame(0x1f2e, false, false, 1, &last), OUT_QUEUED); /* the key of an awake device */
    assert_int_equal(rig->frames, 0);                                         /* not before its association */
    outbound_poll(rig->out, &(struct mac_addr){.mode = MAC_EXT, .ext = device});
    assert_int_equal(rig->air[0] & 7, MAC_COMMAND);
    finish(RADIO_SENT);
    assert_int_equal(rig->associated, 1);
    assert_false(rig->pending_short || rig->pending_ext);
    assert_int_equal(air_counter(), 1);
    finish(RADIO_SENT);
    assert_int_equal(rig->results[EGP_TX_ACKED], 1);
    assert_int_equal(outbound_waiting(rig->out), 0);
}

static void refusal_reaches_the_waiting_response_only(void **state)
{
    (void)state;
    assert_true(outbound_association(rig->out, device, 0x1f2e, MAC_ASSOC_OK));
    outbound_association_status(rig->out, 0x1f2e, MAC_ASSOC_DENIED);
    poll_short(0x1f2e);
    assert_memory_equal(rig->air + rig->air_n - 4, "\x02\xff\xff\x02", 4);
    finish(RADIO_SENT);
    outbound_association_status(rig->out, 0x1f2e, MAC_ASSOC_DENIED);
    assert_int_equal(outbound_waiting(rig->out), 0);
}

/* Link status and the like: the counters of a hop's own frames stay in order with those that others hear, too. */
static void a_broadcast_goes_to_all_in_the_order_of_its_hop(void **state)
{
    (void)state;
    uint32_t last;
    uint8_t payload[8] = {0};
    struct out_nwk f = {.hop = 0x1f2e, .broadcast = true, .secured = true, .counter = 6, .source = gateway, .frame = span_of(payload, 8)};
    assert_int_equal(queue_frame(0x1f2e, false, true, 5, &last), OUT_QUEUED);
    assert_int_equal(outbound_nwk(rig->out, &f, &last), OUT_QUEUED);
    assert_int_equal(queue_frame(0x1f2e, false, true, 7, &last), OUT_QUEUED);
    assert_int_equal(air_counter(), 5);
    assert_memory_equal(rig->air + 5, "\x2e\x1f", 2);
    finish(RADIO_SENT);
    assert_memory_equal(rig->air + 5, "\xff\xff", 2);
    assert_false(rig->air[0] & 0x20); /* asks for no acknowledgement */
    finish(RADIO_SENT);
    assert_int_equal(air_counter(), 7);
    finish(RADIO_SENT);
    assert_int_equal(outbound_nwk(rig->out, &f, &last), OUT_STALE);
    f.counter = 8;
    f.indirect = true; /* a child that sleeps gets it by itself, when it polls */
    assert_int_equal(outbound_nwk(rig->out, &f, &last), OUT_QUEUED);
    assert_int_equal(rig->air_n, 0);
    poll_short(0x1f2e);
    assert_memory_equal(rig->air + 5, "\x2e\x1f", 2);
    finish(RADIO_SENT);
}

static void lost_indirect_frame_waits_again(void **state)
{
    (void)state;
    uint32_t last;
    assert_int_equal(queue_frame(0x1f2e, true, true, 5, &last), OUT_QUEUED);
    poll_short(0x1f2e);
    finish(RADIO_NO_ACK);
    assert_int_equal(rig->air_n, 0);
    assert_true(rig->pending_short);
    assert_int_equal(queue_frame(0x1f2e, true, true, 4, &last), OUT_STALE);
    assert_int_equal(last, 5);
    poll_short(0x1f2e);
    assert_int_equal(air_counter(), 5);
    finish(RADIO_SENT);
    assert_int_equal(rig->results[EGP_TX_ACKED], 1);
}

/* Anybody can have a first key sent: it goes before what waits, and does nothing else to it. */
static void a_first_key_overtakes_and_takes_nothing_away(void **state)
{
    (void)state;
    uint32_t last;
    assert_int_equal(queue_frame(0x1f2e, true, true, 900, &last), OUT_QUEUED);
    assert_int_equal(queue_frame(0x1f2e, true, true, 901, &last), OUT_QUEUED);
    poll_short(0x1f2e);
    finish(RADIO_SENT);
    assert_int_equal(queue_frame(0x1f2e, true, false, 77, &last), OUT_QUEUED);
    poll_short(0x1f2e);
    assert_int_equal(air_counter(), 77);
    finish(RADIO_SENT);
    assert_int_equal(queue_frame(0x1f2e, true, true, 900, &last), OUT_STALE);
    poll_short(0x1f2e);
    assert_int_equal(air_counter(), 901);
    finish(RADIO_SENT);
}

/* Associations in the name of a device that hears, and keys for one that polls, whoever asked for them. */
static void bare_frames_do_not_hold_up_secured_ones(void **state)
{
    (void)state;
    uint32_t last;
    assert_true(outbound_association(rig->out, device, 0x1111, MAC_ASSOC_DENIED)); /* nobody polls for it */
    assert_int_equal(queue_frame(0x1111, false, true, 5, &last), OUT_QUEUED);
    assert_int_equal(air_counter(), 5);
    finish(RADIO_SENT);
    unsigned secured = 0;
    for (uint32_t n = 0; n < 64; n++)
        assert_int_equal(queue_frame(0x1f2e, true, n % 8 == 0, 100 + n, &last), OUT_QUEUED);
    for (unsigned polls = 0; polls < 16; polls++) {
        poll_short(0x1f2e);
        secured += (air_counter() - 100) % 8 == 0;
        finish(RADIO_SENT);
        assert_int_equal(queue_frame(0x1f2e, true, false, 77, &last), OUT_QUEUED);
    }
    assert_int_equal(secured, 5); /* each third */
    assert_int_equal(outbound_waiting(rig->out), 1 + 3 + 4); /* of the bare ones, the newest */
}

static void a_proved_key_ends_the_old_order(void **state)
{
    (void)state;
    uint32_t last;
    assert_int_equal(queue_frame(0x1f2e, true, true, 900, &last), OUT_QUEUED);
    poll_short(0x1f2e);
    finish(RADIO_SENT);
    assert_int_equal(queue_frame(0x1f2e, true, true, 901, &last), OUT_QUEUED);
    assert_int_equal(queue_frame(0x1f2e, true, false, 77, &last), OUT_QUEUED);
    outbound_rekeyed(rig->out, 0x1f2e);
    assert_int_equal(rig->results[EGP_TX_EXPIRED], 1);
    assert_int_equal(outbound_waiting(rig->out), 1); /* what is not secured is for a key yet to come */
    assert_int_equal(queue_frame(0x1f2e, true, true, 1, &last), OUT_QUEUED);
    for (int polls = 0; polls < 2; polls++) {
        poll_short(0x1f2e);
        finish(RADIO_SENT);
    }
    assert_int_equal(outbound_waiting(rig->out), 0);
    assert_int_equal(queue_frame(0x1f2e, true, true, 2, &last), OUT_QUEUED); /* 900 is forgotten for good */
    assert_int_equal(queue_frame(0x1f2e, true, true, 1, &last), OUT_STALE);
    assert_int_equal(last, 1);
}

static void who_has_a_freed_address_begins_anew(void **state)
{
    (void)state;
    uint32_t last;
    assert_int_equal(queue_frame(0x1f2e, false, true, 900, &last), OUT_QUEUED);
    finish(RADIO_SENT);
    assert_int_equal(queue_frame(0x1f2e, true, true, 901, &last), OUT_QUEUED);
    outbound_drop(rig->out, 0x1f2e);
    assert_int_equal(outbound_waiting(rig->out), 0);
    assert_int_equal(queue_frame(0x1f2e, false, true, 1, &last), OUT_QUEUED);
    finish(RADIO_SENT);
    assert_int_equal(queue_frame(0x1f2e, false, true, 2, &last), OUT_QUEUED);
}

static void the_revoked_is_still_told_to_leave(void **state)
{
    (void)state;
    uint32_t last;
    const struct out_nwk leave = {.hop = 0x1f2e, .ext = device, .indirect = true, .command = true, .secured = true,
                                  .counter = 12, .source = gateway, .frame = span_of("\x0c\x00\x00\x00", 4), .ticket = {12, device}};
    assert_int_equal(queue_frame(0x1f2e, true, true, 11, &last), OUT_QUEUED);
    assert_int_equal(outbound_nwk(rig->out, &leave, &last), OUT_QUEUED);
    assert_int_equal(queue_frame(0x1f2e, true, false, 77, &last), OUT_QUEUED);
    outbound_revoked(rig->out, 0x1f2e);
    assert_int_equal(rig->results[EGP_TX_EXPIRED], 2);
    poll_short(0x1f2e);
    assert_int_equal(air_counter(), 12);
    finish(RADIO_SENT);
    assert_int_equal(outbound_waiting(rig->out), 0);
}

/* Tried at once; who does not hear that may poll for it. */
static void a_frame_for_who_may_poll_or_not(void **state)
{
    (void)state;
    uint32_t last;
    struct out_nwk key = {.hop = 0x1f2e, .ext = device, .either = true, .frame = span_of("\x4d\x00\x00\x00", 4), .ticket = {77, device}};
    for (int polls = 0; polls < 2; polls++) {
        assert_int_equal(outbound_nwk(rig->out, &key, &last), OUT_QUEUED);
        assert_int_equal(air_counter(), 77);
        finish(polls ? RADIO_NO_ACK : RADIO_SENT);
        if (polls) {
            assert_true(rig->pending_short && rig->pending_ext && rig->air_n == 0);
            poll_short(0x1f2e);
            assert_int_equal(air_counter(), 77);
            finish(RADIO_SENT);
        }
        assert_int_equal(rig->results[EGP_TX_ACKED], 1 + polls);
        assert_false(rig->pending_short);
        assert_int_equal(outbound_waiting(rig->out), 0);
    }
}

static void one_address_does_not_hold_up_another(void **state)
{
    (void)state;
    uint32_t last;
    assert_int_equal(queue_frame(0x1111, true, true, 1, &last), OUT_QUEUED);
    assert_int_equal(queue_frame(0x2222, false, true, 2, &last), OUT_QUEUED);
    assert_int_equal(air_counter(), 2);
    assert_true(outbound_beacon(rig->out, &(struct mac_beacon){.permit = true}));
    assert_false(outbound_beacon(rig->out, &(struct mac_beacon){.permit = true}));
    finish(RADIO_SENT);
    assert_int_equal(rig->air[0] & 7, MAC_BEACON);
    finish(RADIO_SENT);
    assert_int_equal(rig->air_n, 0);
}

static void tables_are_bounded(void **state)
{
    (void)state;
    uint32_t last;
    for (uint16_t i = 0; i < 64; i++)
        assert_int_equal(queue_frame(1, true, true, i, &last), OUT_QUEUED);
    assert_int_equal(queue_frame(1, true, true, 64, &last), OUT_FULL);
    for (uint16_t hop = 2; hop < 9; hop++)
        assert_int_equal(queue_frame(hop, true, true, 1, &last), OUT_QUEUED);
    assert_int_equal(queue_frame(9, true, true, 1, &last), OUT_FULL); /* all eight are busy */
    outbound_drop(rig->out, 2);
    assert_int_equal(queue_frame(9, true, true, 1, &last), OUT_QUEUED);
}

/* Whatever happens, counters of one source leave in rising order, and each frame taken has exactly one end. */
static void order_holds_under_chance(void **state)
{
    (void)state;
    unsigned taken = 0, stale = 0, full = 0;
    uint32_t x = 88172645u, last, gone = 0;
    for (int step = 0; step < 20000; step++) {
        x ^= x << 13, x ^= x >> 17, x ^= x << 5;
        if (x % 4 < 2) {
            enum out_queued q = queue_frame(0x1f2e, x & 8, true, gone + x / 64 % 12, &last);
            taken += q == OUT_QUEUED;
            stale += q == OUT_STALE;
            full += q == OUT_FULL;
        } else if (rig->air_n != 0) {
            uint32_t c = air_counter();
            bool again = c == gone;
            assert_true(c > gone || again || gone == 0);
            gone = c;
            finish(x & 16 ? RADIO_SENT : RADIO_NO_ACK);
        } else {
            poll_short(0x1f2e);
        }
    }
    unsigned ended = rig->results[0] + rig->results[1] + rig->results[2] + rig->results[3];
    assert_int_equal(ended + outbound_waiting(rig->out), taken);
    assert_true(taken > 1000 && stale > 1000);
    assert_true(full < 20000);
}

static void unpolled_frames_expire(void **state)
{
    (void)state;
    uint32_t last;
    uint64_t from, to;
    assert_int_equal(sd_event_now(rig->loop, CLOCK_MONOTONIC, &from) >= 0, 1);
    assert_int_equal(queue_frame(0x1f2e, true, true, 1, &last), OUT_QUEUED);
    assert_int_equal(queue_frame(0x1f2e, true, true, 2, &last), OUT_QUEUED);
    while (rig->results[EGP_TX_EXPIRED] != 2)
        assert_true(sd_event_run(rig->loop, 10000000) > 0);
    assert_true(sd_event_now(rig->loop, CLOCK_MONOTONIC, &to) >= 0);
    assert_in_range(to - from, 7600000, 8000000);
    assert_false(rig->pending_short);
}

/* --- ipe-nid's queue ---------------------------------------------------------------------------------------------- */
static struct egp_envelope up(enum egp_type t, uint64_t transaction, eui64_t dev)
{
    return (struct egp_envelope){.type = (uint8_t)t, .transaction = transaction, .gateway = gateway, .device = dev};
}

static void add(struct upqueue *q, enum egp_type t, uint64_t transaction, eui64_t dev)
{
    uint64_t dropped = 0;
    struct egp_envelope e = up(t, transaction, dev);
    assert_true(upqueue_add(q, &e, span_str("x"), 0, &dropped));
}

static void expect_next(struct upqueue *q, uint64_t now, uint64_t transaction)
{
    struct upmsg *m = upqueue_next(q, now, 100);
    assert_non_null(m);
    assert_true(m->env.transaction == transaction);
}

static void upqueue_order_and_limits(void **state)
{
    (void)state;
    struct upqueue *q = upqueue_new(6, 4);
    uint64_t dropped = 0;
    add(q, EGP_UPLINK, 1, 7);
    add(q, EGP_UPLINK, 2, 7);
    add(q, EGP_UPLINK, 3, 8);
    add(q, EGP_REQUEST, 4, 9);
    add(q, EGP_HELLO, 5, 0);
    add(q, EGP_REQUEST, 4, 9); /* replaces its waiting copy */
    assert_int_equal(upqueue_count(q), 5);
    expect_next(q, 0, 5);
    expect_next(q, 0, 4);
    assert_null(upqueue_next(q, 0, 100)); /* two places are kept for urgent ones */
    add(q, EGP_REQUEST, 6, 9);
    expect_next(q, 0, 6);
    struct egp_envelope e = up(EGP_TX_RESULT, 10, 7);
    assert_true(upqueue_add(q, &e, span_str("x"), 0, &dropped)); /* the oldest uplink makes room */
    assert_int_equal(dropped, 1);
    upqueue_free(q);

    q = upqueue_new(6, 8);
    add(q, EGP_UPLINK, 1, 7);
    add(q, EGP_UPLINK, 2, 7);
    add(q, EGP_UPLINK, 3, 8);
    struct upmsg *first = upqueue_next(q, 0, 100);
    expect_next(q, 0, 3); /* 2 waits for 1 */
    assert_null(upqueue_next(q, 0, 100));
    upqueue_retry(q, first);
    expect_next(q, 0, 1);
    upqueue_done(q, first);
    expect_next(q, 0, 2);
    add(q, EGP_REQUEST, 4, 9);
    assert_null(upqueue_next(q, 101, 100)); /* too old to be of use */
    upqueue_free(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mac_frames_are_the_vectors),
        cmocka_unit_test(mac_parse_is_strict),
        cmocka_unit_test(nwk_headers),
        cmocka_unit_test_setup_teardown(association_then_key_then_the_rest, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(refusal_reaches_the_waiting_response_only, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_broadcast_goes_to_all_in_the_order_of_its_hop, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(lost_indirect_frame_waits_again, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_first_key_overtakes_and_takes_nothing_away, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(bare_frames_do_not_hold_up_secured_ones, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_proved_key_ends_the_old_order, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(who_has_a_freed_address_begins_anew, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(the_revoked_is_still_told_to_leave, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_frame_for_who_may_poll_or_not, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(one_address_does_not_hold_up_another, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(tables_are_bounded, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(order_holds_under_chance, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(unpolled_frames_expire, rig_setup, rig_teardown),
        cmocka_unit_test(upqueue_order_and_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
