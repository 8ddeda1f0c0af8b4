#include "ae-client/mefkey.h"

#include "cse-shim/base/conf.h"

#include <errno.h>
#include <getopt.h>
#include <openssl/crypto.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#define SECTION "mefkey"
#define DEFAULT_CONFIG "/.config/mefkey.conf" /* below $HOME; read when it exists */
#define DEFAULT_PORT 5684

static const struct conf_option conf_options[] = {
    {SECTION, "mef", CONF_STRING, NULL, 0, 0, "Address of the MEF, coaps://HOST[:PORT]"},
    {SECTION, "id", CONF_STRING, NULL, 0, 0, "KpmID, the PSK identity"},
    {SECTION, "psk-file", CONF_PATH, NULL, 0, 0, "File with Kpm in hex"},
    {SECTION, "certificate", CONF_PATH, NULL, 0, 0, "Instead of a PSK: certificate chain, PEM, on P-256"},
    {SECTION, "private-key", CONF_PATH, NULL, 0, 0, "Its private key, PEM"},
    {SECTION, "trust-anchors", CONF_PATH, NULL, 0, 0, "Certificates that the MEF's must lead to, PEM"},
    {SECTION, "revocation-lists", CONF_PATH, NULL, 0, 0, "Current CRLs of all issuers, PEM"},
    {SECTION, "server-name", CONF_STRING, NULL, 0, 0, "Name that the MEF's certificate must bear"},
    {SECTION, "ae-id", CONF_STRING, NULL, 0, 0, "AE-ID, sent as From"},
    {SECTION, "base", CONF_STRING, "mef", 0, 0, "Name of the MEFBase resource"},
    {SECTION, "admin-fqdn", CONF_STRING, NULL, 0, 0, "Administrating stakeholder to register for"},
    {SECTION, "timeout", CONF_STRING, "10", 0, 0, "Seconds to wait for an answer"},
    {NULL, NULL, CONF_STRING, NULL, 0, 0, NULL},
};

/* Command line. `field` is the offset of a string, or for a flag of a bool. */
static const struct {
    const char *name, *value, *help;
    size_t field;
    bool config; /* may also stand in the configuration */
} cli[] = {
    {"mef", "URI", "coaps://HOST[:PORT] of the MEF (port 5684)", offsetof(struct options, mef), true},
    {"id", "KPMID", "KpmID, the PSK identity", offsetof(struct options, id), true},
    {"psk-file", "FILE", "Kpm in hex; keys are never taken from the command line", offsetof(struct options, psk_file),
     true},
    {"certificate", "FILE", "instead of a PSK: certificate chain, PEM", offsetof(struct options, certificate.certificate),
     true},
    {"private-key", "FILE", "its private key, PEM", offsetof(struct options, certificate.private_key), true},
    {"trust-anchors", "FILE", "certificates that the MEF's must lead to, PEM",
     offsetof(struct options, certificate.trust_anchors), true},
    {"revocation-lists", "FILE", "current CRLs of all issuers, PEM (revocation is not checked)",
     offsetof(struct options, certificate.revocation_lists), true},
    {"server-name", "NAME", "that the MEF's certificate must bear (its HOST)",
     offsetof(struct options, certificate.server_name), true},
    {"ae-id", "ID", "AE-ID, sent as From", offsetof(struct options, ae_id), true},
    {"base", "NAME", "name of the MEFBase resource (mef)", offsetof(struct options, base), true},
    {"admin-fqdn", "FQDN", "register: administrating stakeholder", offsetof(struct options, admin_fqdn), true},
    {"timeout", "SECONDS", "for an answer, or for the frame that open waits for (10)",
     offsetof(struct options, timeout), true},
    {"expires", "TIME", "register: YYYYMMDDThhmmss in UTC (in a year)", offsetof(struct options, expires), false},
    {"out", "FILE", "get: write the key there, mode 0600", offsetof(struct options, out), false},
    {"stdout", NULL, "get: print the key", offsetof(struct options, to_stdout), false},
    {"follow", NULL, "open: go on until stopped", offsetof(struct options, follow), false},
    {"count", "N", "ticket: counters, 1 to 16 (1); open: end after N readings", offsetof(struct options, count), false},
    {"endpoint", "N", "send: destination endpoint (1)", offsetof(struct options, endpoint), false},
    {"cluster", "N", "send: cluster", offsetof(struct options, cluster), false},
    {"profile", "N", "send: profile (0x0104)", offsetof(struct options, profile), false},
    {"command", "N", "send: cluster command without fields", offsetof(struct options, command), false},
    {"payload", "HEX", "send: a whole ZCL frame instead", offsetof(struct options, payload), false},
    {"config", "FILE", "configuration (~/.config/mefkey.conf)", offsetof(struct options, config), false},
    {"check-config", NULL, "check the configuration and end", offsetof(struct options, check_config), false},
    {"version", NULL, "print the version", offsetof(struct options, version), false},
    {"help", NULL, "print this", offsetof(struct options, help), false},
};
#define NCLI (sizeof cli / sizeof cli[0])

enum exit_code mefkey_fail(enum exit_code code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("mefkey: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    return code;
}

bool mefkey_number(const char *text, unsigned long max, unsigned long *out)
{
    char *end;
    errno = 0;
    *out = strtoul(text, &end, 0);
    return errno == 0 && text[0] >= '0' && text[0] <= '9' && *end == '\0' && *out <= max;
}

static void print_help(void)
{
    puts("Usage: mefkey COMMAND [OPERAND] [OPTION]..\n"
         "Register with a oneM2M MEF, obtain the key of a Zigbee device, open its frames and command it.\n\nCommands:");
    for (const struct command *c = mefkey_commands; c->name != NULL; c++)
        printf("  %-9s%-17s%s\n", c->name, c->operands, c->help);
    puts("\nOptions (those marked * may also stand in section [" SECTION "] of the configuration):");
    for (size_t i = 0; i < NCLI; i++)
        printf(" %c--%-17s%-9s%s\n", cli[i].config ? '*' : ' ', cli[i].name, cli[i].value != NULL ? cli[i].value : "",
               cli[i].help);
    puts("\nExit status: 0 done; 1 failed; 2 usage; 3 configuration; 4 not found; 5 refused by the MEF; 6 no answer.");
}

static const char **string_field(struct options *o, size_t i)
{
    return (const char **)(void *)((char *)o + cli[i].field);
}

static bool parse_arguments(int argc, char **argv, struct options *o)
{
    struct option longopts[NCLI + 1] = {0};
    for (size_t i = 0; i < NCLI; i++)
        longopts[i] = (struct option){cli[i].name, cli[i].value != NULL ? required_argument : no_argument, NULL, 0};
    int at = 0, r;
    while ((r = getopt_long(argc, argv, "", longopts, &at)) == 0) {
        if (cli[at].value != NULL)
            *string_field(o, (size_t)at) = optarg;
        else
            *(bool *)((char *)o + cli[at].field) = true;
    }
    return r == -1;
}

/* Fill in what the command line leaves open. *conf owns the strings. */
static bool add_configuration(struct options *o, struct conf **conf)
{
    char path[4096], err[256];
    const char *home = getenv("HOME");
    bool given = o->config != NULL;
    const char *folder = given || home == NULL ? "" : home;
    int n = snprintf(path, sizeof path, "%s%s", folder, given ? o->config : DEFAULT_CONFIG);
    *conf = NULL;
    if (n < 0 || (size_t)n >= sizeof path || (!given && access(path, F_OK) != 0))
        return true;
    const struct conf_option *const tables[] = {conf_options};
    *conf = conf_load(path, tables, 1, err, sizeof err);
    if (*conf == NULL) {
        mefkey_fail(EXIT_CONFIG, "%s", err);
        return false;
    }
    for (size_t i = 0; i < NCLI; i++)
        if (cli[i].config && *string_field(o, i) == NULL)
            *string_field(o, i) = conf_str(*conf, SECTION, cli[i].name);
    return true;
}

/* coaps://HOST[:PORT], HOST perhaps an IPv6 address in brackets. host: at least 256 bytes. */
static bool parse_uri(const char *uri, char *host, size_t cap, uint16_t *port)
{
    static const char scheme[] = "coaps://";
    if (strncmp(uri, scheme, strlen(scheme)) != 0)
        return false;
    const char *p = uri + strlen(scheme);
    bool v6 = *p == '[';
    p += v6;
    size_t n = strcspn(p, v6 ? "]" : ":/");
    if (n == 0 || n >= cap || (v6 && p[n] != ']'))
        return false;
    memcpy(host, p, n);
    host[n] = '\0';
    p += n + v6;
    unsigned long number = DEFAULT_PORT;
    char digits[6] = "";
    if (*p == ':') {
        size_t m = strcspn(++p, "/");
        if (m == 0 || m >= sizeof digits)
            return false;
        memcpy(digits, p, m);
        digits[m] = '\0';
        p += m;
        if (!mefkey_number(digits, UINT16_MAX, &number) || number == 0)
            return false;
    }
    *port = (uint16_t)number;
    return *p == '\0' || strcmp(p, "/") == 0;
}

/* Kpm from a file of hex digits; returns its length, 0: not such a file. */
static size_t read_kpm(const char *path, uint8_t kpm[64])
{
    char text[130];
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return 0;
    setvbuf(f, NULL, _IONBF, 0); /* leave no copy in a stdio buffer */
    size_t n = fread(text, 1, sizeof text, f);
    fclose(f);
    while (n > 0 && strchr(" \r\n", text[n - 1]) != NULL)
        n--;
    bool ok = n >= 32 && n <= 128 && n % 2 == 0 && hex_decode(text, n, kpm, n / 2);
    OPENSSL_cleanse(text, sizeof text);
    return ok ? n / 2 : 0;
}

/* Either key or certificate; one of them given in part is a mistake. */
static bool credential_complete(const struct options *o)
{
    const struct aec_certificate *c = &o->certificate;
    bool psk = o->id != NULL || o->psk_file != NULL;
    bool certificate = c->certificate != NULL || c->private_key != NULL || c->trust_anchors != NULL ||
                       c->revocation_lists != NULL || c->server_name != NULL;
    return psk ? !certificate && o->id != NULL && o->psk_file != NULL
               : c->certificate != NULL && c->private_key != NULL && c->trust_anchors != NULL;
}

static enum exit_code run_command(struct aec *c, const struct options *o, const struct command *command,
                                  const char *operand)
{
    if (c == NULL)
        return mefkey_fail(EXIT_FAILED, "out of memory");
    enum exit_code code = aec_check(c) != ST_OK ? mefkey_fail(EXIT_CONFIG, "%s", aec_error(c))
                          : o->check_config     ? EXIT_OK
                                                : command->run(c, o, operand);
    aec_free(c);
    return code;
}

static enum exit_code connect_and_run(const struct options *o, const struct command *command, const char *operand)
{
    char host[256];
    unsigned long timeout;
    uint8_t kpm[64];
    struct aec_config cfg = {.kpm_id = o->id, .certificate = o->certificate, .from = o->ae_id, .base = o->base};
    if (o->mef == NULL || !parse_uri(o->mef, host, sizeof host, &cfg.port))
        return mefkey_fail(EXIT_CONFIG, "mef: want coaps://HOST[:PORT]");
    if (!credential_complete(o))
        return mefkey_fail(EXIT_CONFIG, "either id and psk-file, or certificate, private-key and trust-anchors are needed");
    if (!mefkey_number(o->timeout != NULL ? o->timeout : "10", 86400, &timeout) || timeout == 0)
        return mefkey_fail(EXIT_CONFIG, "timeout: want 1 to 86400 seconds");
    if (o->psk_file != NULL && (cfg.kpm = span_of(kpm, read_kpm(o->psk_file, kpm))).n == 0)
        return mefkey_fail(EXIT_CONFIG, "%s: want 32 to 128 hex digits", o->psk_file);
    cfg.host = host;
    cfg.timeout_ms = (unsigned)timeout * 1000;
    struct aec *c = aec_new(&cfg);
    OPENSSL_cleanse(kpm, sizeof kpm);
    return run_command(c, o, command, operand);
}

static enum exit_code dispatch(struct options *o, int noperands, char **operands)
{
    const struct command *command = mefkey_commands;
    if (!o->check_config) {
        while (noperands > 0 && command->name != NULL && strcmp(command->name, operands[0]) != 0)
            command++;
        if (noperands == 0 || command->name == NULL || noperands != 1 + command->operand)
            return mefkey_fail(EXIT_USAGE, "want a command%s; --help tells more",
                               noperands > 0 && command->name != NULL && command->operand ? " and its operand" : "");
    }
    struct conf *conf;
    if (!add_configuration(o, &conf))
        return EXIT_CONFIG;
    enum exit_code code = connect_and_run(o, command, noperands > 1 ? operands[1] : NULL);
    conf_free(conf);
    return code;
}

int main(int argc, char **argv)
{
    struct options o = {0};
    prctl(PR_SET_DUMPABLE, 0);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!parse_arguments(argc, argv, &o))
        return EXIT_USAGE;
    if (o.help || o.version) {
        if (o.help)
            print_help();
        else
            puts("mefkey " MEF_VERSION);
        return EXIT_OK;
    }
    if (CRYPTO_secure_malloc_init(65536, 32) == 0)
        mefkey_fail(EXIT_OK, "warning: memory can not be locked");
    return dispatch(&o, argc - optind, argv + optind);
}
