/* The kinds of frames by name: what `forge` makes, and what `decode` calls what it reads. */
#include "mef-plugin/mefctl/zigbee_inputs.h"

static const struct kind kinds[] = {
    {"transport-key-nwk", ZB_TRANSPORT_KEY, ZB_KEYTYPE_NWK, 2, false, true, false},
    {"transport-key-nwk-update", ZB_TRANSPORT_KEY, ZB_KEYTYPE_NWK, 2, false, false, false},
    {"transport-key-nwk-broadcast", ZB_TRANSPORT_KEY, ZB_KEYTYPE_NWK, NO_APS_KEY, false, false, true},
    {"transport-key-tclk", ZB_TRANSPORT_KEY, ZB_KEYTYPE_TCLK, 3, false, false, false},
    {"transport-key-app", ZB_TRANSPORT_KEY, ZB_KEYTYPE_APP, 3, false, false, false},
    {"tunnel", ZB_TRANSPORT_KEY, ZB_KEYTYPE_NWK, 2, false, false, false},
    {"request-key", ZB_REQUEST_KEY, ZB_KEYTYPE_TCLK, 0, true, false, false},
    {"switch-key", ZB_SWITCH_KEY, 0, NO_APS_KEY, false, false, true},
    {"update-device", ZB_UPDATE_DEVICE, 0, NO_APS_KEY, true, false, false},
    {"remove-device", ZB_REMOVE_DEVICE, 0, NO_APS_KEY, false, false, false},
    {"verify-key", ZB_VERIFY_KEY, ZB_KEYTYPE_TCLK, NO_APS_KEY, true, false, false},
    {"confirm-key", ZB_CONFIRM_KEY, ZB_KEYTYPE_TCLK, 0, false, false, false},
    {"data", 0, 0, NO_APS_KEY, true, false, false},
};

const struct kind *kind_find(const char *name)
{
    for (size_t i = 0; name != NULL && i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(name, kinds[i].name) == 0)
            return &kinds[i];
    return NULL;
}

const struct kind *kind_of_command(uint8_t cmd)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (kinds[i].cmd == cmd)
            return &kinds[i];
    return NULL;
}
