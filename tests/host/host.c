/* A second, tiny host: no network, no TLS; it loads the same mef-plugin.so, and shows by primitives that a source AE
 * deposits a key and a target AE retrieves it. usage: host PLUGIN FOLDER (FOLDER exists and is empty). */
#include "tests/host/tiny_host.h"

#include "cse-shim/base/hex.h"
#include "config/names.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <unistd.h>

#define SOURCE "//example.org/in-cse/Csource"
#define TARGET "//example.org/in-cse/Ctarget"
#define COMMON "\"et\":\"20991231T235959\",\"adfq\":\"mef.example.org\""
#define TOKEN "an-operator-token-of-the-second-host-0001"

struct outcome {
    bool answered;
    enum st status;
    cJSON *pc;
};

static void on_answer(struct cse_host *h, struct cse_request *req, const struct cse_response *rsp)
{
    struct outcome *o = h->user;
    (void)req;
    *o = (struct outcome){true, rsp->status, rsp->pc};
    if (rsp->detail != NULL)
        printf("  %s\n", rsp->detail);
}

/* Hand a request over, and run what the plugin's threads post until the answer is there. Body NULL: none. */
static cJSON *ask(struct cse_host *h, const struct tiny_plugin *t, struct cse_request *req, const char *body, enum st want)
{
    struct outcome o = {0};
    cJSON *pc = body == NULL ? NULL : cJSON_Parse(body);
    h->user = &o;
    req->body = body == NULL ? span_of(NULL, 0) : span_str(body);
    tiny_handle(h, t, req, pc);
    while (!o.answered)
        if (!tiny_turn(h, 10000))
            tiny_fatal(h, "no answer within ten seconds");
    cJSON_Delete(pc);
    printf("%-4u %s\n", st_map(o.status)->rsc, req->path);
    if (o.status != want)
        tiny_fatal(h, "another status was expected");
    return o.pc;
}

static void write_file(const char *dir, const char *name, const void *bytes, size_t n)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (fd < 0 || write(fd, bytes, n) != (ssize_t)n || close(fd) != 0)
        tiny_fatal(NULL, path);
}

/* Writes what the plugin needs into the empty folder; the configuration's path comes out. */
static void configure(const char *dir, char path[256])
{
    char text[600], kek[32];
    int n = snprintf(text, sizeof text, "[mef]\nfqdn = mef.example.org\n[store]\nurl = sqlite:%s/mef.db\n[vault]\nkek = kek\n"
                     "[token.op]\nfile = token\nadmin-fqdn = mef.example.org\nrole = admin\n", dir);
    RAND_priv_bytes((unsigned char *)kek, sizeof kek);
    write_file(dir, "kek", kek, sizeof kek);
    write_file(dir, "token", TOKEN "\n", sizeof TOKEN);
    write_file(dir, "host.conf", text, (size_t)n);
    snprintf(path, 256, "%s/host.conf", dir);
}

/* The operator issues a credential; returns its KpmID. */
static const char *credential(struct cse_host *h, const struct tiny_plugin *t, const char *ae, cJSON **out)
{
    char body[128];
    struct cse_request req = {.op = CSE_CREATE, .path = "v1/credentials", .ty = -1, .authorization = "Bearer " TOKEN};
    req.peer.identity = "";
    snprintf(body, sizeof body, "{\"for\":\"%s\",\"kind\":\"psk\"}", ae);
    *out = ask(h, t, &req, body, ST_CREATED);
    return cJSON_GetStringValue(cJSON_GetObjectItem(*out, "kpmId"));
}

static void story(struct cse_host *h, const struct tiny_plugin *t)
{
    cJSON *c[2];
    const char *const ids[] = {SOURCE, TARGET};
    struct cse_peer peers[2];
    for (size_t i = 0; i < 2; i++) { /* operator: a credential; then each AE registers on its session */
        peers[i] = (struct cse_peer){i + 1, CSE_CRED_PSK, credential(h, t, ids[i], &c[i]), NULL, NULL};
        struct cse_request reg = {.op = CSE_CREATE, .path = "mef", .ty = MEF_TY_CLIENT_REG, .from = ids[i], .peer = peers[i]};
        cJSON_Delete(ask(h, t, &reg, "{\"sec:mecr\":{" COMMON "}}", ST_CREATED));
    }
    struct cse_request key = {.op = CSE_CREATE, .path = "mef", .ty = MEF_TY_KEY_REG, .from = SOURCE, .peer = peers[0]};
    cJSON_Delete(ask(h, t, &key, "{\"sec:skr\":{" COMMON ",\"suid\":24,\"tgis\":[\"" TARGET "\"]}}", ST_CREATED));
    char path[64] = "mef/", want[64];
    hex_encode(h->exported, 16, path + 4); /* RelativeKeyID || key: TS-0003 10.3.1 */
    EVP_EncodeBlock((unsigned char *)want, h->exported + 16, 32);
    struct cse_request get = {.op = CSE_RETRIEVE, .path = path, .ty = -1, .from = TARGET, .peer = peers[1]};
    cJSON *got = ask(h, t, &get, NULL, ST_OK);
    const char *kv = cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetObjectItem(got, MEF_SN_KEY_REG), MEF_SN_KEY_VALUE));
    if (kv == NULL || strcmp(kv, want) != 0)
        tiny_fatal(h, "the target did not get the source's key");
    puts("the target has the source's key");
    cJSON_Delete(got);
    cJSON_Delete(c[0]);
    cJSON_Delete(c[1]);
}

int main(int argc, char **argv)
{
    struct cse_host h = {.answered = on_answer};
    char path[256];
    if (argc != 3)
        tiny_fatal(&h, "usage: host PLUGIN FOLDER");
    configure(argv[2], path);
    struct tiny_plugin t = tiny_load(&h, argv[1], path);
    story(&h, &t);
    tiny_unload(&h, &t);
    return 0;
}
