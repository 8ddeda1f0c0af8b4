#include "ae-client/mefkey.h"

#include "ae-client/zcl.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOOKUP_INTERVAL 1 /* seconds between look-ups of a key that does not open the frames */
#define PROFILE_HA 0x0104

enum exit_code mefkey_refused(const struct aec *c, const char *what, enum st st)
{
    mefkey_fail(EXIT_FAILED, "%s: %s", what, aec_error(c));
    switch (st) {
    case ST_NOT_FOUND:
        return EXIT_NOT_FOUND;
    case ST_TIMEOUT:
    case ST_UNREACHABLE:
        return EXIT_NO_ANSWER;
    case ST_INTERNAL:
    case ST_UNAVAILABLE:
        return EXIT_FAILED;
    default:
        return EXIT_REFUSED;
    }
}

static bool operand_eui(const char *operand, eui64_t *eui)
{
    bool ok = eui64_parse(operand, eui);
    if (!ok)
        mefkey_fail(EXIT_USAGE, "%s: want an EUI-64, 16 hex digits", operand);
    return ok;
}

/* Print a JSON object as one line, and free it. */
static enum exit_code print_json(cJSON *json)
{
    char *text = cJSON_PrintUnformatted(json);
    cJSON_Delete(json);
    if (text == NULL)
        return mefkey_fail(EXIT_FAILED, "out of memory");
    bool ok = puts(text) >= 0;
    free(text);
    return ok ? EXIT_OK : EXIT_FAILED;
}

/* --- register, find, get ----------------------------------------------------------------------------------- */

static enum exit_code run_register(struct aec *c, const struct options *o, const char *operand)
{
    (void)operand;
    char in_a_year[20], id[AEC_ID_MAX];
    time_t then = time(NULL) + (time_t)365 * 86400;
    struct tm tm;
    strftime(in_a_year, sizeof in_a_year, "%Y%m%dT%H%M%S", gmtime_r(&then, &tm));
    if (o->admin_fqdn == NULL)
        return mefkey_fail(EXIT_USAGE, "register: --admin-fqdn is needed");
    enum st st = aec_register(c, o->admin_fqdn, o->expires != NULL ? o->expires : in_a_year, id);
    if (st != ST_OK)
        return mefkey_refused(c, "register", st);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "mefClientReg", id);
    return print_json(json);
}

static enum exit_code run_find(struct aec *c, const struct options *o, const char *operand)
{
    (void)o;
    eui64_t eui;
    char relkeyid[AEC_ID_MAX];
    if (!operand_eui(operand, &eui))
        return EXIT_USAGE;
    enum st st = aec_find(c, eui, relkeyid);
    if (st != ST_OK)
        return mefkey_refused(c, "find", st);
    return puts(relkeyid) >= 0 ? EXIT_OK : EXIT_FAILED;
}

static enum exit_code write_key(const struct aec_key *k, const char *path)
{
    char hex[2 * AEC_KEY_MAX + 1];
    int fd = path != NULL ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : dup(STDOUT_FILENO);
    if (fd < 0)
        return mefkey_fail(EXIT_FAILED, "%s: %s", path != NULL ? path : "standard output", strerror(errno));
    hex_encode(k->value, k->len, hex);
    bool ok = path == NULL || fchmod(fd, 0600) == 0;
    ok = ok && write(fd, hex, 2 * k->len) == (ssize_t)(2 * k->len);
    ok = ok && (path != NULL || write(fd, "\n", 1) == 1);
    OPENSSL_cleanse(hex, sizeof hex);
    ok = close(fd) == 0 && ok;
    return ok ? EXIT_OK : mefkey_fail(EXIT_FAILED, "%s: %s", path != NULL ? path : "standard output", strerror(errno));
}

static enum st find_and_get(struct aec *c, eui64_t eui, struct aec_key **out)
{
    char relkeyid[AEC_ID_MAX];
    enum st st = aec_find(c, eui, relkeyid);
    return st != ST_OK ? st : aec_get(c, relkeyid, out);
}

static enum exit_code run_get(struct aec *c, const struct options *o, const char *operand)
{
    if ((o->out != NULL) == o->to_stdout)
        return mefkey_fail(EXIT_USAGE, "get: say where the key may go, --out FILE or --stdout");
    eui64_t eui;
    struct aec_key *key = NULL;
    enum st st = eui64_parse(operand, &eui) ? find_and_get(c, eui, &key) : aec_get(c, operand, &key);
    if (st != ST_OK)
        return mefkey_refused(c, "get", st);
    enum exit_code code = write_key(key, o->out);
    aec_key_free(key);
    return code;
}

/* --- open -------------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
    (void)sig;
    stop = 1;
}

struct follow {
    struct aec *c;
    struct zb_crypto *z;
    eui64_t eui;
    struct aec_key *key; /* NULL: not looked up yet */
    struct aec_replay replay;
    time_t looked_up;
    unsigned long printed;
};

/* A frame whose readings are being printed. */
struct printing {
    struct follow *f;
    struct span frame;
};

static cJSON *json_value(const struct zcl_reading *r)
{
    double unit = pow(10, r->decimals);
    switch (r->kind) {
    case ZCL_BOOL:
        return cJSON_CreateBool(r->boolean);
    case ZCL_NUMBER:
        return cJSON_CreateNumber(round(r->number * unit) / unit);
    case ZCL_TEXT:
        return cJSON_CreateString(r->text);
    default:
        return cJSON_CreateNull();
    }
}

static void print_reading(void *user, const struct zcl_reading *r)
{
    const struct printing *p = user;
    char eui[17], frame[2 * AEC_FRAME_MAX + 1];
    eui64_print(p->f->eui, eui);
    hex_encode(p->frame.p, p->frame.n, frame);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "eui64", eui);
    cJSON_AddNumberToObject(json, "cluster", r->cluster);
    cJSON_AddNumberToObject(json, "attribute", r->attribute);
    cJSON_AddItemToObject(json, "value", json_value(r));
    cJSON_AddStringToObject(json, "unit", r->unit);
    cJSON_AddStringToObject(json, "nwk_frame", frame);
    if (print_json(json) == EXIT_OK)
        p->f->printed++;
}

/* Look the key up again: the device may have been given a new one. True when there is another key now. */
static bool renew_key(struct follow *f)
{
    time_t now = time(NULL);
    struct aec_key *key = NULL;
    if (f->key != NULL && now - f->looked_up < LOOKUP_INTERVAL)
        return false;
    f->looked_up = now;
    enum st st = find_and_get(f->c, f->eui, &key);
    if (st != ST_OK) {
        mefkey_refused(f->c, "key", st);
        return false;
    }
    bool other = f->key == NULL || strcmp(f->key->relkeyid, key->relkeyid) != 0;
    if (other) {
        aec_key_free(f->key);
        f->key = key;
        f->replay = (struct aec_replay){0};
    } else {
        aec_key_free(key);
    }
    return other;
}

static void open_frame(struct follow *f, struct span frame)
{
    struct aec_opened opened;
    bool malformed = false;
    if (f->key == NULL && !renew_key(f))
        return;
    enum zb_err e = aec_frame_open(f->z, f->key, &f->replay, frame, &opened);
    if (e == ZB_BAD_MIC && renew_key(f))
        e = aec_frame_open(f->z, f->key, &f->replay, frame, &opened);
    if (e != ZB_OK) {
        mefkey_fail(EXIT_OK, "frame not opened: %s", zb_err_name(e));
        return;
    }
    struct printing p = {f, frame};
    if (opened.application)
        zcl_readings(opened.cluster, opened.payload, &malformed, print_reading, &p);
    if (malformed)
        mefkey_fail(EXIT_OK, "ZCL frame of cluster 0x%04x not understood to its end", opened.cluster);
}

/* Until `wanted` readings are printed, or stopped. */
static enum exit_code follow_frames(struct follow *f, unsigned long wanted, int timeout_ms)
{
    uint8_t buf[AEC_FRAME_MAX];
    size_t n;
    enum st st = aec_watch(f->c, f->eui);
    if (st != ST_OK)
        return mefkey_refused(f->c, "open", st);
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    while (!stop && f->printed < wanted) {
        st = aec_next(f->c, 500, buf, &n);
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (st == ST_OK)
            open_frame(f, span_of(buf, n));
        else if (st != ST_TIMEOUT || (timeout_ms >= 0 && (now.tv_sec - start.tv_sec) * 1000 >= timeout_ms))
            return mefkey_refused(f->c, "open", st);
    }
    return f->printed != 0 || stop ? EXIT_OK : EXIT_FAILED;
}

static enum exit_code run_open(struct aec *c, const struct options *o, const char *operand)
{
    struct follow f = {.c = c};
    unsigned long wanted = 1, timeout;
    if (!operand_eui(operand, &f.eui) ||
        (o->count != NULL && (!mefkey_number(o->count, 1000000, &wanted) || wanted == 0)))
        return mefkey_fail(EXIT_USAGE, "open: want EUI64 and perhaps --count 1 to 1000000");
    if (o->follow && o->count == NULL)
        wanted = ULONG_MAX;
    if (!mefkey_number(o->timeout != NULL ? o->timeout : "10", 86400, &timeout))
        return EXIT_USAGE;
    const struct sigaction sa = {.sa_handler = on_signal};
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    f.z = zb_crypto_new();
    if (f.z == NULL)
        return mefkey_fail(EXIT_FAILED, "OpenSSL lacks AES-CCM");
    enum exit_code code = follow_frames(&f, wanted, o->follow ? -1 : (int)timeout * 1000);
    aec_key_free(f.key);
    zb_crypto_free(f.z);
    return code;
}

/* --- ticket, send ------------------------------------------------------------------------------------------ */

static enum exit_code run_ticket(struct aec *c, const struct options *o, const char *operand)
{
    eui64_t eui;
    unsigned long count = 1;
    struct aec_ticket t;
    char gateway[17];
    if (!operand_eui(operand, &eui) || (o->count != NULL && (!mefkey_number(o->count, 16, &count) || count == 0)))
        return mefkey_fail(EXIT_USAGE, "ticket: want EUI64 and perhaps --count 1 to 16");
    enum st st = aec_ticket_take(c, eui, (unsigned)count, &t);
    if (st != ST_OK)
        return mefkey_refused(c, "ticket", st);
    eui64_print(t.gateway, gateway);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "keyId", t.relkeyid);
    cJSON_AddStringToObject(json, "gateway", gateway);
    cJSON_AddNumberToObject(json, "device", t.device);
    cJSON_AddNumberToObject(json, "keySeq", t.key_seq);
    cJSON_AddNumberToObject(json, "counter", t.counter);
    cJSON_AddNumberToObject(json, "count", t.count);
    return print_json(json);
}

struct message { /* what `send` was asked to send */
    eui64_t eui;
    struct aec_command to;
    uint8_t zcl[64];
    size_t n;
    bool plain_command; /* zcl[1] is the transaction sequence number, ours to fill */
};

static bool read_message(const struct options *o, const char *operand, struct message *m)
{
    unsigned long endpoint = 1, cluster, profile = PROFILE_HA, command;
    if (!operand_eui(operand, &m->eui) || o->cluster == NULL || (o->command != NULL) == (o->payload != NULL) ||
        !mefkey_number(o->cluster, 0xffff, &cluster) ||
        (o->endpoint != NULL && !mefkey_number(o->endpoint, 0xff, &endpoint)) ||
        (o->profile != NULL && !mefkey_number(o->profile, 0xffff, &profile)))
        return false;
    m->to =
        (struct aec_command){.endpoint = (uint8_t)endpoint, .cluster = (uint16_t)cluster, .profile = (uint16_t)profile};
    m->plain_command = o->command != NULL;
    if (m->plain_command) {
        m->zcl[0] = 0x01; /* ZCL 2.4.1.1: cluster command, client to server */
        m->n = 3;
        if (!mefkey_number(o->command, 0xff, &command))
            return false;
        m->zcl[2] = (uint8_t)command;
        return true;
    }
    m->n = strlen(o->payload) / 2;
    return m->n != 0 && m->n <= sizeof m->zcl && hex_decode(o->payload, strlen(o->payload), m->zcl, m->n);
}

static enum exit_code seal_and_send(struct aec *c, struct message *m, const struct aec_key *key,
                                    const struct aec_ticket *t)
{
    uint8_t buf[ZB_NWK_MAX];
    struct wr frame = wr_of(buf, sizeof buf);
    struct zb_crypto *z = zb_crypto_new();
    if (z == NULL)
        return mefkey_fail(EXIT_FAILED, "OpenSSL lacks AES-CCM");
    if (m->plain_command)
        m->zcl[1] = (uint8_t)t->counter;
    m->to.zcl = span_of(m->zcl, m->n);
    enum zb_err e = aec_frame_seal(z, key, t, 0, &m->to, &frame);
    zb_crypto_free(z);
    if (e != ZB_OK)
        return mefkey_fail(EXIT_FAILED, "send: not sealed: %s", zb_err_name(e));
    enum st st = aec_send(c, m->eui, wr_span(&frame));
    if (st != ST_OK)
        return mefkey_refused(c, "send", st);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "counter", t->counter);
    return print_json(json);
}

static enum exit_code run_send(struct aec *c, const struct options *o, const char *operand)
{
    struct message m = {0};
    struct aec_key *key = NULL;
    struct aec_ticket ticket;
    if (!read_message(o, operand, &m))
        return mefkey_fail(EXIT_USAGE, "send: want EUI64, --cluster, and --command or --payload");
    enum st st = find_and_get(c, m.eui, &key);
    if (st == ST_OK)
        st = aec_ticket_take(c, m.eui, 1, &ticket);
    enum exit_code code = st == ST_OK ? seal_and_send(c, &m, key, &ticket) : mefkey_refused(c, "send", st);
    aec_key_free(key);
    return code;
}

const struct command mefkey_commands[] = {
    {"register", "", "make a MEF client registration; prints its resourceID", false, run_register},
    {"find", "EUI64", "print the RelativeKeyID of the device's newest key", true, run_find},
    {"get", "EUI64|KEYID", "retrieve a key", true, run_get},
    {"open", "EUI64", "open the device's frames; one JSON line a reading", true, run_open},
    {"ticket", "EUI64", "take frame counters for sealing", true, run_ticket},
    {"send", "EUI64", "seal a command and have it radiated", true, run_send},
    {NULL, NULL, NULL, false, NULL},
};
