/* The decoders of mef/'s stored rows. First byte: which; up to 40 bytes of key behind its length; the row. What they accept
 * is freed again, under the sanitizers' eyes. */
#include "config/names.h"
#include "mef-plugin/mef/resource.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rd r = rd_of(span_of(data, size));
    uint8_t which, n;
    struct span key;
    if (!rd_u8(&r, &which) || !rd_u8(&r, &n) || !rd_span(&r, n % 41, &key))
        return 0;
    switch (which % 8) {
    case 0:
        credential_decode(key, rd_rest(&r));
        break;
    case 1:
        application_decode(key, rd_rest(&r));
        break;
    case 4:
        commands_free(commands_decode(rd_rest(&r)));
        break;
    case 5:
        configuration_free(configuration_decode(rd_rest(&r)));
        break;
    case 6:
        rule_decode(key, rd_rest(&r));
        break;
    default:
        res_free(res_decode(which % 8 == 2 ? MEF_TY_CLIENT_REG : MEF_TY_KEY_REG, key, rd_rest(&r)));
    }
    return 0;
}
