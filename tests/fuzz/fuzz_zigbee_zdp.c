/* ZDP requests: cluster (2 bytes), options (1 byte: broadcast; how many neighbours), request. An answer fits one frame, has
 * the request's sequence number and a response's cluster. */
#include "mef-plugin/zigbee/zigbee.h"
#include <stdlib.h>

#define MAX_PAYLOAD 82 /* of an APS data frame without fragmentation */
#define NEIGHBOURS 40

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool find(void *user, eui64_t ieee, uint16_t nwk, struct zb_known *out)
{
    const struct zb_known *all = user;
    for (size_t i = 0; i < NEIGHBOURS; i++)
        if (ieee != 0 ? all[i].ieee == ieee : all[i].nwk == nwk) {
            *out = all[i];
            return true;
        }
    return false;
}

static void check_answer(uint16_t cluster, uint8_t options, struct span request)
{
    struct zb_known all[NEIGHBOURS];
    uint8_t buf[ZB_NWK_MAX];
    struct wr w = wr_of(buf, sizeof buf);
    uint16_t response = 0;
    for (size_t i = 0; i < NEIGHBOURS; i++)
        all[i] = (struct zb_known){0x0101010101010100u + i, (uint16_t)(0x0100 + i), (uint8_t)(i * 37), (uint8_t)i};
    const struct zb_self self = {.ieee = 0x00124b001ca1b2c3u, .ext_pan_id = 1, .neighbours = all,
                                 .nneighbours = (options >> 1) % (NEIGHBOURS + 1), .find = options & 0x80 ? NULL : find, .user = all};
    if (!zb_zdp_answer(&self, cluster, request, options & 1, &response, &w))
        return;
    if (!wr_ok(&w) || w.n < 2 || w.n > MAX_PAYLOAD || request.n == 0 || buf[0] != request.p[0] ||
        response != (cluster | 0x8000) || (cluster & 0x8000) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rd r = rd_of(span_of(data, size));
    struct zb_device_annce a;
    uint16_t cluster;
    uint8_t options, revision;
    if (!rd_le16(&r, &cluster) || !rd_u8(&r, &options))
        return 0;
    check_answer(cluster, options, rd_rest(&r));
    if (zb_node_desc_revision(rd_rest(&r), 0x1f2e, &revision) && revision > 127)
        abort();
    if (zb_device_annce_parse(rd_rest(&r), &a) && rd_rest(&r).n < 12)
        abort();
    return 0;
}
