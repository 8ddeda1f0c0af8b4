/* Operator REST: any method, path, query and body, by an admin, into the real rooms. Bytes: method; path and query up to a
 * line feed; the body's JSON text. */
#include "tests/fuzz/fuzz_world.h"

static struct world world;

static void open_world(void)
{
    struct fixture *f;
    fuzz_open(&world, DEFAULT_CONF "max-credentials = 10\nmax-applications = 10\n[eg]\nmax-devices = 20\nmax-gateways = 10\n"
                                   "[token.fuzz]\nfile = ops.token\nadmin-fqdn = sp.example.com\nrole = admin\n");
    f = world.host.f;
    write_file(f, "ops.token", "0123456789abcdef", 0600);
    world.eg = eg_open(&(struct eg_deps){&world.host, &host_ops, world.conf, world.store, world.vault, world.audit, world.mef},
                       f->err, sizeof f->err);
    if (world.eg == NULL)
        abort();
    world.admin = admin_open(&(struct admin_deps){&world.host, &host_ops, world.conf, world.store, world.vault, world.audit,
                                                  world.mef, world.eg}, f->err, sizeof f->err);
    if (world.admin == NULL)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char line[400];
    struct cse_param params[4];
    size_t n = 0;
    if (world.admin == NULL)
        open_world();
    const uint8_t *end = size < 2 ? NULL : memchr(data + 1, '\n', size - 1);
    if (end == NULL || (size_t)(end - data) > sizeof line)
        return 0;
    size_t len = (size_t)(end - data) - 1;
    memcpy(line, data + 1, len);
    line[len] = '\0';
    char *save = NULL, *query = strchr(line, '?');
    if (query != NULL)
        *query++ = '\0';
    for (char *p = query == NULL ? NULL : strtok_r(query, "&", &save); p != NULL && n < 4; p = strtok_r(NULL, "&", &save)) {
        char *eq = strchr(p, '=');
        if (eq != NULL)
            *eq++ = '\0';
        params[n++] = (struct cse_param){p, eq == NULL ? "" : eq};
    }
    cJSON *pc = cJSON_ParseWithLength((const char *)end + 1, size - (size_t)(end + 1 - data));
    struct cse_request req = {.mount = CSE_SERVICE, .op = (enum cse_op)(1 + data[0] % 4), .ty = -1, .path = line, .params = params,
                              .nparams = n, .content_format = 50, .accept = CSE_NO_FORMAT, .pc = pc,
                              .authorization = "Bearer 0123456789abcdef", .peer = {1, CSE_CRED_NONE, "", "[::1]:1", ""}};
    host_forget(&world.host);
    admin_handle(world.admin, &req);
    wait_answer(&world);
    cJSON_Delete(pc);
    return 0;
}
