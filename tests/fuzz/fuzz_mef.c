/* Primitives: any operation, type, path, parameters and content, by an enrolled client, into the real rooms. Bytes:
 * operation, type, path, who; then the content's JSON text. */
#include "tests/fuzz/fuzz_world.h"

#include "config/names.h"

static struct world world;
static char credential[128], last[200] = "mef/none", command[210] = "mef/none/cmd";

static void open_world(void)
{
    fuzz_open(&world, DEFAULT_CONF "max-registrations = 100\nmax-credentials = 10\n");
    struct mef_result r = {0};
    cJSON *in = json("{'for':'C1','kind':'psk'}");
    WITH_TXN(&world, mef_credential_create(world.mef, t, ADMIN, "operator:fuzz", in, &r));
    snprintf(credential, sizeof credential, "%s", text_of(r.body, "kpmId"));
    json_wipe(r.body);
    cJSON_Delete(in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int types[] = {-1, MEF_TY_BASE, MEF_TY_CLIENT_REG, MEF_TY_CLIENT_CMD, MEF_TY_KEY_REG, 3, 60009};
    static const char *const paths[] = {"mef", last, "mef/", "mef/a/b", command, "x"};
    static const char *const from[] = {"C1", "//sp.example.com/in-cse/C1", "C2", NULL};
    struct cse_param params[3] = {{"fu", "1"}};
    char text[64] = "";
    if (world.mef == NULL)
        open_world();
    if (size < 4)
        return 0;
    /* what stands before the first NUL behind the head is a parameter, if there is one */
    const uint8_t *rest = data + 4, *nul = memchr(rest, 0, size - 4);
    size_t nparams = 0;
    if (nul != NULL && (size_t)(nul - rest) < sizeof text) {
        memcpy(text, rest, (size_t)(nul - rest));
        char *eq = strchr(text, '=');
        if (eq != NULL) {
            *eq = '\0';
            params[1] = (struct cse_param){text, eq + 1};
            nparams = 2;
        }
        rest = nul + 1;
    }
    cJSON *pc = cJSON_ParseWithLength((const char *)rest, size - (size_t)(rest - data));
    struct cse_request req = {
        .mount = CSE_PRIMITIVE, .op = (enum cse_op)(1 + data[0] % 5), .ty = types[data[1] % 7], .path = paths[data[2] % 6],
        .from = from[data[3] % 4], .params = nparams == 0 || (data[3] & 0x80) ? params : params + 1,
        .nparams = nparams == 0 ? 0 : data[3] & 0x80 ? 2 : 1, .content_format = 50, .accept = CSE_NO_FORMAT, .pc = pc,
        .peer = {1 + data[3] % 8, CSE_CRED_PSK, credential, "[::1]:1", ""}};
    host_forget(&world.host);
    mef_handle(world.mef, &req);
    wait_answer(&world);
    if (world.host.location[0] != '\0')
        snprintf(last, sizeof last, "%.190s", world.host.location);
    snprintf(command, sizeof command, "%s/cmd", last);
    const cJSON *kv = world.host.rsp.pc == NULL ? NULL : member(world.host.rsp.pc->child, MEF_SN_KEY_VALUE);
    if (kv != NULL && !world.host.rsp.sensitive)
        abort(); /* a key left in an answer that is not marked */
    cJSON_Delete(pc);
    return 0;
}
