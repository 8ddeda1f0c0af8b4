/* zigbee/: labels of every format, those of tests/vectors/zigbee.json among them, and what reading one leaves. */
#include "mef-plugin/zigbee/zigbee.h"
#include "tests/unit/vectors_fixture.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#define EUI "00158D0003123456"
#define CODE "83FED3407A939723A5C639B26916D505C3B5"
#define BOSCH "RB01SG0D83101826480080000000000000000000"

static void labels_of_the_vectors(void)
{
    cJSON *all = vectors("ZIGBEE_VECTORS");
    const cJSON *v;
    struct zb_label l;
    const char *why;
    size_t at;
    cJSON_ArrayForEach(v, cJSON_GetObjectItem(all, "qr"))
    {
        const char *error = text_of(v, "error");
        enum zb_err e = zb_label_parse(text_of(v, "text"), &l, &why, &at);
        if (error != NULL) {
            assert_int_not_equal(e, ZB_OK);
            assert_string_equal(why, error);
            continue;
        }
        char eui[17];
        uint8_t code[32];
        assert_int_equal(e, ZB_OK);
        eui64_print(l.eui64, eui);
        assert_string_equal(eui, text_of(v, "eui64_text"));
        assert_false(l.is_link_key);
        assert_int_equal(l.len, unhex(v, "install_code", code, sizeof code));
        assert_memory_equal(l.bytes, code, l.len);
    }
    cJSON_Delete(all);
}

static void good_labels(void)
{
    struct zb_label l;
    const char *why;
    size_t at;
    static const char *const good[] = {"|" EUI "|" CODE "|",
                                       "HUE:Z:" CODE " M:" EUI " D:L3B A:1184",
                                       "G$M:69775%Z:" EUI "$I:" CODE "%M:1246",
                                       "I:" CODE "$Z:" EUI,
                                       " z:00-15-8d-00-03-12-34-56 $ i:83fe d340 7a93 9723 a5c6 39b2 6916 d505 c3b5\n",
                                       BOSCH EUI "DLK" CODE,
                                       EUI " | 83FED3407A932B70",
                                       "frient |" EUI "|" CODE "| 2023",
                                       "https://example.org/?label=Z%3a" EUI "%24I%3A" CODE "%25M%3A1246&x=1",
                                       "HUE%3AZ%3A" CODE "+M%3A" EUI "+D%3AL3B",
                                       "Scanned: \"M:1$Z:" EUI "$I:" CODE "\"\r\n",
                                       "%M:1$I:" CODE "$X:1%Z:" EUI "%",
                                       "Z$A:" EUI "\r\n$I:83FED3407A939723A5C639\r\nB26916D505C3B5\r\n",
                                       "00:15:8d:00:03:12:34:56|83FE\u2013D340 7A93\u00a09723-A5C6-39B2-6916-D505-C3B5 made 2023-05"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(zb_label_parse(good[i], &l, &why, &at), ZB_OK);
        assert_true(l.eui64 == 0x00158d0003123456 && !l.is_link_key);
    }
    assert_int_equal(zb_label_parse(BOSCH EUI "DLK83FED3407A939723A5C639B26916D505", &l, &why, &at), ZB_OK);
    assert_true(l.is_link_key && l.len == ZB_KEY);
}

static void bad_labels(void)
{
    struct zb_label l;
    const char *why;
    size_t at;
    static const char *const bad[][2] = {{"", "unknown-format"},
                                         {"hello", "unknown-format"},
                                         {"Z:" EUI, "no-code"},
                                         {"I:" CODE, "no-eui64"},
                                         {"Z:" EUI "$I:", "no-code"},
                                         {"Z:00158D00031234$I:" CODE, "bad-eui64"},
                                         {"Z:" EUI "$I:83FED", "bad-length"},
                                         {"Z:" EUI "$I:83FED34O7A932B70", "bad-hex"},
                                         {"Z:0000000000000000$I:" CODE, "bad-eui64"},
                                         {"Z:FFFFFFFFFFFFFFFF$I:" CODE, "bad-eui64"},
                                         {"Z:" EUI "$I:" CODE " AND " EUI "|" CODE, "two-codes"},
                                         {"Z:" EUI "$I:" CODE "\n83FE D340 7A93 9723 A5C6 39B2 6916 D505 C3B5", "two-codes"},
                                         {"Z$A:" EUI "$I:" CODE "\r\nZ$A:" EUI "$I:" CODE, "two-eui64s"},
                                         {"Z:" EUI "$I:" CODE "$I:" CODE, "two-codes"},
                                         {EUI "|" CODE "|" CODE, "two-codes"},
                                         {EUI "|83FED3407A939723A5C639B26916D505C3B4", "bad-crc"},
                                         {BOSCH EUI "DLK83FED3407A939723A5C639B26916D505C3B4", "bad-crc"},
                                         {BOSCH EUI "DLK83FED3407A939723A5C639B26916D505C3", "bad-length"},
                                         {BOSCH EUI, "no-code"},
                                         {BOSCH, "no-eui64"},
                                         {"G$A:" EUI "$I:" CODE, "no-eui64"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_not_equal(zb_label_parse(bad[i][0], &l, &why, &at), ZB_OK);
        assert_string_equal(why, bad[i][1]);
    }
    char long_text[600];
    memset(long_text, ' ', sizeof long_text);
    long_text[599] = '\0';
    memcpy(long_text, EUI "|" CODE, strlen(EUI "|" CODE));
    assert_int_not_equal(zb_label_parse(long_text, &l, &why, &at), ZB_OK);
    assert_string_equal(why, "unknown-format");
}

/* The wrong digit, by its place in the text as given. */
static void places_in_labels(void)
{
    struct zb_label l;
    const char *why;
    size_t at;
    static const struct {
        const char *text;
        size_t at;
    } places[] = {{"Z:" EUI "$I:83FED34O7A932B70", 29},
                  {"Z:" EUI "$I:83FE D34O 7A93 2B70", 30},
                  {"Z:0015BD000312345G$I:" CODE, 18},
                  {"M\u00fcller Z%3A" EUI "%24I%3A83X", 37},
                  {BOSCH EUI "DLK?3", 60}};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        assert_int_not_equal(zb_label_parse(places[i].text, &l, &why, &at), ZB_OK);
        assert_string_equal(why, "bad-hex");
        assert_int_equal(at, places[i].at);
    }
}

static void labels(void **state)
{
    (void)state;
    labels_of_the_vectors();
    good_labels();
    bad_labels();
    places_in_labels();
}

/* --- what a label leaves behind on the stack ---------------------------------------------------------------------- */

enum { STACK = 1 << 20, WINDOW = 8 };

struct reading {
    const char *text;
    struct zb_label label;
};

static void *read_label(void *user)
{
    struct reading *x = user;
    const char *why;
    size_t at;
    (void)!zb_label_parse(x->text, &x->label, &why, &at);
    return NULL;
}

/* Is any part of the code in the bytes, as digits or as what they stand for? */
static bool holds_code(const uint8_t *bytes, size_t n)
{
    uint8_t code[sizeof CODE / 2];
    assert_true(hex_decode(CODE, sizeof CODE - 1, code, sizeof code));
    bool found = false;
    for (size_t i = 0; i + WINDOW < sizeof CODE; i++)
        found |= memmem(bytes, n, &CODE[i], WINDOW) != NULL;
    for (size_t i = 0; i + WINDOW <= sizeof code; i++)
        found |= memmem(bytes, n, code + i, WINDOW) != NULL;
    return found;
}

static void a_label_leaves_no_digits(void **state)
{
    (void)state;
    static const char *const texts[] = {"Z:" EUI "$I:" CODE,          "HUE:Z:" CODE " M:" EUI,
                                        EUI "|" CODE,                 EUI "|" CODE "|" CODE,
                                        "|" CODE "|" CODE "|",        BOSCH EUI "DLK" CODE,
                                        "Z:" CODE "$I:" CODE,         EUI "|" CODE "0",
                                        "Z:" EUI "$I:" CODE " " CODE, "Z:" EUI "$I:" CODE "X"};
    static uint8_t left[STACK];
    int fd = memfd_create("stack", 0); /* read as a file: memory checkers mind who looks at a stack that is over */
    assert_int_equal(ftruncate(fd, STACK), 0);
    uint8_t *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(stack, MAP_FAILED);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        static struct reading x;
        pthread_attr_t attr;
        pthread_t thread;
        x.text = texts[i];
        assert_int_equal(pthread_attr_init(&attr) | pthread_attr_setstack(&attr, stack, STACK), 0);
        assert_int_equal(pthread_create(&thread, &attr, read_label, &x) | pthread_join(thread, NULL), 0);
        pthread_attr_destroy(&attr);
        assert_int_equal(pread(fd, left, STACK, 0), STACK);
        if (holds_code(left, STACK))
            fail_msg("%s left digits behind", texts[i]);
    }
    munmap(stack, STACK);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(labels), cmocka_unit_test(a_label_leaves_no_digits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
