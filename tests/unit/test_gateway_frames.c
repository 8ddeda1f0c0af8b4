/* What zbgwd reads and builds: MAC frames against the vectors, clear NWK headers. */
#include "tests/unit/vectors_fixture.h"

#include "cse-shim/base/crc16.h"
#include "ipe-ni/gateway/mac.h"
#include "ipe-ni/gateway/nwk.h"
#include "mef-plugin/egp/egp.h"

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

static void mac_frames_are_the_vectors(void **state)
{
    (void)state;
    cJSON *v = vectors("ZIGBEE_VECTORS");
    const cJSON *o;
    unsigned seen = 0;
    cJSON_ArrayForEach(o, cJSON_GetObjectItem(v, "mac_frames"))
    {
        uint8_t want[256], fcs[256], payload[32], buf[MAC_MAX_PSDU];
        size_t n = unhex(o, "mac_frame", want, sizeof want);
        assert_int_equal(unhex(o, "fcs", fcs, sizeof fcs), 2);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mac_frames_are_the_vectors),
        cmocka_unit_test(mac_parse_is_strict),
        cmocka_unit_test(nwk_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
