/* zbgwd: the Zigbee gateway. */
#include "ipe-ni/daemon.h"
#include "ipe-ni/gateway/gateway.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static const struct conf_option options[] = {
    {"gateway", "eui64", CONF_STRING, "!", 0, 0, "extended address of the radio, 16 hex digits"},
    {"gateway", "channel", CONF_INT, "15", 11, 26, "IEEE 802.15.4 channel"},
    {"gateway", "pan-id", CONF_STRING, "!", 0, 0, "PAN id, 4 hex digits below ffff"},
    {"gateway", "extended-pan-id", CONF_STRING, NULL, 0, 0, "16 hex digits; the EUI-64 when absent"},
    {"gateway", "update-id", CONF_INT, "0", 0, 255, "network update id in the beacon"},
    {"gateway", "permit-joining", CONF_BOOL, "yes", 0, 0, "answer association requests (the EG decides who may join)"},
    {"gateway", "max-devices", CONF_INT, "512", 1, 4096, "devices known at once"},
    {"gateway", "max-frames", CONF_INT, "16", 2, 256, "frames waiting for one device"},
    {"gateway", "state-file", CONF_PATH, NULL, 0, 0, "short addresses given, kept over restarts; none when absent"},
    {"radio", "driver", CONF_STRING, "!", 0, 0, "udp:GROUP:PORT[:INTERFACE], the simulated medium"},
    {"egp", "line", CONF_STRING, "!", 0, 0, "to ipe-nid: pty:PATH (made), serial:DEVICE, tcp-listen: or tcp:HOST:PORT"},
    {"egp", "baud", CONF_INT, "115200", 1200, 4000000, "bit/s of a serial line"},
    {"egp", "queue", CONF_INT, "65536", 2048, 16777216, "bytes that may wait on the line"},
    {0},
};

struct app {
    struct gateway *gateway;
    struct pcap *capture;
};

static bool pan_id(const struct conf *c, uint16_t *out)
{
    uint8_t b[2];
    const char *text = conf_str(c, "gateway", "pan-id");
    if (!hex_decode(text, strlen(text), b, 2))
        return false;
    *out = (uint16_t)(b[0] << 8 | b[1]);
    return *out != MAC_BROADCAST;
}

static bool ext_pan_id(const struct conf *c, eui64_t *out)
{
    const char *text = conf_str(c, "gateway", "extended-pan-id");
    return eui64_parse(text != NULL ? text : conf_str(c, "gateway", "eui64"), out);
}

static const char *wrong_in(const struct conf *c)
{
    eui64_t eui, ext;
    uint16_t pan;
    if (!eui64_parse(conf_str(c, "gateway", "eui64"), &eui) || eui == 0 || eui == UINT64_MAX)
        return "[gateway] eui64 is not an EUI-64";
    if (!pan_id(c, &pan))
        return "[gateway] pan-id is not 4 hex digits below ffff";
    if (!ext_pan_id(c, &ext) || ext == 0)
        return "[gateway] extended-pan-id is not 16 hex digits";
    if (!radio_known(conf_str(c, "radio", "driver")))
        return "[radio] driver names no driver";
    return stream_spec_check(conf_str(c, "egp", "line")) != NULL ? "[egp] line is none of its forms" : NULL;
}

static bool check(const struct conf *c, char *err, size_t errlen)
{
    const char *wrong = wrong_in(c);
    if (wrong != NULL)
        snprintf(err, errlen, "%s", wrong);
    return wrong == NULL;
}

static void stop(void *user)
{
    struct app *a = user;
    gateway_free(a->gateway);
    pcap_close(a->capture);
    free(a);
}

static void *start(sd_event *loop, const struct conf *c, const char *pcap, char *err, size_t errlen)
{
    struct app *a = calloc(1, sizeof *a);
    if (a == NULL)
        return NULL;
    struct gateway_config g = {
        .loop = loop,
        .radio = conf_str(c, "radio", "driver"),
        .net.channel = (uint8_t)conf_int(c, "gateway", "channel"),
        .update_id = (uint8_t)conf_int(c, "gateway", "update-id"),
        .permit = conf_bool(c, "gateway", "permit-joining"),
        .max_devices = (size_t)conf_int(c, "gateway", "max-devices"),
        .max_per_device = (size_t)conf_int(c, "gateway", "max-frames"),
        .state_file = conf_str(c, "gateway", "state-file"),
        .line = {conf_str(c, "egp", "line"), (unsigned)conf_int(c, "egp", "baud"), true,
                 (size_t)conf_int(c, "egp", "queue")},
    };
    if (!eui64_parse(conf_str(c, "gateway", "eui64"), &g.net.ext) || !pan_id(c, &g.net.pan) ||
        !ext_pan_id(c, &g.ext_pan_id)) {
        free(a);
        return NULL;
    }
    if (pcap != NULL && (a->capture = pcap_create(pcap, PCAP_802_15_4_FCS)) == NULL) {
        snprintf(err, errlen, "%s: %s", pcap, strerror(errno));
    } else {
        g.capture = a->capture;
        a->gateway = gateway_new(&g, err, errlen);
    }
    if (a->gateway != NULL)
        return a;
    stop(a);
    return NULL;
}

static void reload(void *user, const struct conf *c)
{
    struct app *a = user;
    gateway_permit(a->gateway, conf_bool(c, "gateway", "permit-joining"));
}

static bool drained(void *user)
{
    const struct app *a = user;
    return gateway_idle(a->gateway);
}

int main(int argc, char **argv)
{
    static const struct daemon_program program = {
        "zbgwd", "Zigbee gateway of the Enrolment Gateway: IEEE 802.15.4 and clear NWK headers, never a key.",
        "/etc/mef/zbgwd.conf", options, check, start, reload, drained, stop};
    return daemon_main(&program, argc, argv);
}
