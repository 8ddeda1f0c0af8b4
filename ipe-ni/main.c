/* ipe-nid: the network interface half of the IPE; forwards EG messages between a gateway's line and the MEF. */
#include "ipe-ni/daemon.h"
#include "ipe-ni/forward.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static const struct conf_option options[] = {
    {"egp", "line", CONF_STRING, "!", 0, 0, "to zbgwd: serial:DEVICE, pty:PATH, tcp:HOST:PORT or tcp-listen:HOST:PORT"},
    {"egp", "baud", CONF_INT, "115200", 1200, 4000000, "bit/s of a serial line"},
    {"egp", "queue", CONF_INT, "65536", 2048, 16777216, "bytes that may wait on the line"},
    {"mef", "uri", CONF_STRING, "!", 0, 0, "coaps://HOST[:PORT] of the MEF"},
    {"mef", "path", CONF_STRING, "/mef/eg", 0, 0, "resource that takes EG messages"},
    {"mef", "identity", CONF_STRING, NULL, 0, 0, "PSK identity (kpmId)"},
    {"mef", "psk-file", CONF_PATH, NULL, 0, 0, "the key (kpm) in hex; mode 0600"},
    {"mef", "certificate", CONF_PATH, NULL, 0, 0, "instead of a PSK: certificate chain, PEM, on P-256"},
    {"mef", "private-key", CONF_PATH, NULL, 0, 0, "its private key, PEM; mode 0600"},
    {"mef", "trust-anchors", CONF_PATH, NULL, 0, 0, "certificates that the MEF's must lead to, PEM"},
    {"mef", "revocation-lists", CONF_PATH, NULL, 0, 0, "current CRLs of all issuers, PEM; absent: revocation is not checked"},
    {"mef", "server-name", CONF_STRING, NULL, 0, 0, "name that the MEF's certificate must bear; absent: HOST of uri"},
    {"mef", "in-flight", CONF_INT, "8", 3, 64, "requests under way at once"},
    {"mef", "queue", CONF_INT, "256", 8, 65536, "messages that wait while the MEF cannot be reached"},
    {"mef", "ack-timeout", CONF_INT, "1000", 100, 60000, "first CoAP retransmission, ms (RFC 7252 4.8)"},
    {"mef", "keepalive", CONF_INT, "20", 1, 3600, "s between Hellos on an idle session"},
    {0},
};

struct app {
    struct forward *forward;
    struct pcap *capture;
};

/* coaps://HOST[:PORT]; an IPv6 address stands in brackets. */
static bool parse_uri(const char *uri, char host[256], uint16_t *port)
{
    static const char scheme[] = "coaps://";
    if (strncmp(uri, scheme, sizeof scheme - 1) != 0)
        return false;
    const char *h = uri + sizeof scheme - 1;
    bool v6 = *h == '[';
    size_t n = v6 ? strcspn(++h, "]") : strcspn(h, ":/");
    const char *rest = h + n;
    if (n == 0 || n > 255 || (v6 && *rest++ != ']'))
        return false;
    memcpy(host, h, n);
    host[n] = '\0';
    *port = 5684;
    if (*rest == '\0')
        return true;
    char *end;
    unsigned long p = *rest == ':' ? strtoul(rest + 1, &end, 10) : 0;
    *port = (uint16_t)p;
    return p != 0 && p <= 65535 && *end == '\0';
}

static struct forward_credential credential_of(const struct conf *c)
{
    return (struct forward_credential){.identity = conf_str(c, "mef", "identity"),
                                       .psk_file = conf_str(c, "mef", "psk-file"),
                                       .certificate = conf_str(c, "mef", "certificate"),
                                       .private_key = conf_str(c, "mef", "private-key"),
                                       .trust_anchors = conf_str(c, "mef", "trust-anchors"),
                                       .revocation_lists = conf_str(c, "mef", "revocation-lists"),
                                       .server_name = conf_str(c, "mef", "server-name")};
}

static bool check(const struct conf *c, char *err, size_t errlen)
{
    char host[256];
    uint16_t port;
    const char *bad = stream_spec_check(conf_str(c, "egp", "line")) != NULL ? "[egp] line is none of its forms"
                      : !parse_uri(conf_str(c, "mef", "uri"), host, &port) ? "[mef] uri is not coaps://HOST[:PORT]"
                      : conf_str(c, "mef", "path")[0] != '/'               ? "[mef] path does not begin with /"
                                                                           : NULL;
    if (bad != NULL) {
        snprintf(err, errlen, "%s", bad);
        return false;
    }
    struct forward_credential credential = credential_of(c);
    return forward_check(&credential, err, errlen);
}

static void stop(void *user)
{
    struct app *a = user;
    forward_free(a->forward);
    pcap_close(a->capture);
    free(a);
}

static void *start(sd_event *loop, const struct conf *c, const char *pcap, char *err, size_t errlen)
{
    char host[256];
    struct app *a = calloc(1, sizeof *a);
    struct forward_config f = {
        .loop = loop,
        .line = {conf_str(c, "egp", "line"), (unsigned)conf_int(c, "egp", "baud"), false,
                 (size_t)conf_int(c, "egp", "queue")},
        .host = host,
        .path = conf_str(c, "mef", "path"),
        .credential = credential_of(c),
        .in_flight = (size_t)conf_int(c, "mef", "in-flight"),
        .queue = (size_t)conf_int(c, "mef", "queue"),
        .ack_timeout_ms = (unsigned)conf_int(c, "mef", "ack-timeout"),
        .keepalive_s = (unsigned)conf_int(c, "mef", "keepalive"),
    };
    if (a == NULL || !parse_uri(conf_str(c, "mef", "uri"), host, &f.port)) {
        free(a);
        return NULL;
    }
    if (pcap != NULL && (a->capture = pcap_create(pcap, PCAP_USER0)) == NULL) {
        snprintf(err, errlen, "%s: %s", pcap, strerror(errno));
    } else {
        f.capture = a->capture;
        a->forward = forward_new(&f, err, errlen);
    }
    if (a->forward != NULL)
        return a;
    stop(a);
    return NULL;
}

static void reload(void *user, const struct conf *c)
{
    (void)c; /* key and certificates are read at each connection; the rest needs a restart */
    struct app *a = user;
    forward_reconnect(a->forward);
}

static bool drained(void *user)
{
    const struct app *a = user;
    return forward_idle(a->forward);
}

int main(int argc, char **argv)
{
    static const struct daemon_program program = {
        "ipe-nid",
        "Forwards Enrolment Gateway messages between a Zigbee gateway and the MEF; never a key, never a body.",
        "/etc/mef/ipe-nid.conf",
        options,
        check,
        start,
        reload,
        drained,
        stop};
    return daemon_main(&program, argc, argv);
}
