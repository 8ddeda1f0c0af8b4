/* mef-plugin.so as its host sees it: one symbol; rooms opened in the order of their needs and closed in the reverse
 * one; requests handed to the room that owns the path. */
#include "config/names.h"
#include "mef-plugin/admin/admin.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_PATH 256 /* of a prefix */

/* Everything one instance is made of. */
struct plugin {
    struct cse_host *host;
    const struct cse_host_ops *ops;
    struct store *store;
    struct audit *audit;
    struct vault *vault;
    struct mef *mef;
    struct eg *eg;
    struct admin *admin;
    char eg_path[MAX_PATH]; /* "mef/eg" */
    bool failed;            /* the store gave up; the process is ending */
};

static const struct conf_option own_options[] = {
    {"store", "url", CONF_STRING, "!", 0, 0, "sqlite:PATH of the database"},
    {"vault", "kek", CONF_PATH, "!", 0, 0, "file with the 32-byte key-encryption key, mode 0600"},
    {NULL, NULL, CONF_STRING, NULL, 0, 0, NULL},
};

/* The one table that the host reads, put together from the rooms' tables when the plugin is loaded. */
#define MAX_OPTIONS 64
static struct conf_option all_options[MAX_OPTIONS];
static bool options_fit = true;

__attribute__((constructor)) static void merge_options(void)
{
    const struct conf_option *const tables[] = {own_options, mef_options, eg_options, admin_options, NULL};
    size_t n = 0;
    for (size_t i = 0; tables[i] != NULL; i++)
        for (const struct conf_option *o = tables[i]; o->section != NULL && options_fit; o++)
            if ((options_fit = n < MAX_OPTIONS - 1))
                all_options[n++] = *o;
}

/* --- what the inner rooms need of the host ------------------------------------------------------------------------ */

static void host_post(void *user, void (*fn)(void *arg), void *arg)
{
    struct plugin *p = user;
    p->ops->post(p->host, fn, arg);
}

static void host_fatal(void *user, const char *why)
{
    struct plugin *p = user;
    p->failed = true;
    p->ops->fatal(p->host, why);
}

static bool host_random(void *user, void *out, size_t n)
{
    struct plugin *p = user;
    return p->ops->random(p->host, out, n);
}

static int64_t host_time(void *user)
{
    struct plugin *p = user;
    return p->ops->time(p->host);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static void plugin_free(void *self)
{
    struct plugin *p = self;
    if (p->store != NULL)
        store_flush(p->store); /* the last answers */
    admin_close(p->admin);
    if (p->eg != NULL)
        eg_close(p->eg);
    mef_close(p->mef);
    vault_close(p->vault);
    audit_close(p->audit);
    store_close(p->store);
    free(p);
}

static bool open_rooms(struct plugin *p, const struct conf *conf, char *err, size_t errlen)
{
    const struct store_host store_host = {p, host_post, host_fatal};
    const struct audit_host audit_host = {p, host_time};
    const struct vault_host vault_host = {p, host_random};
    if ((p->store = store_open(conf_str(conf, "store", "url"), &store_host, err, errlen)) == NULL)
        return false;
    if ((p->audit = audit_open(p->store, &audit_host)) == NULL) {
        snprintf(err, errlen, "the audit trail can not be opened");
        return false;
    }
    if ((p->vault = vault_open(p->store, conf_str(conf, "vault", "kek"), &vault_host, err, errlen)) == NULL)
        return false;
    const struct mef_deps mef = {p->host, p->ops, conf, p->store, p->vault, p->audit};
    if ((p->mef = mef_open(&mef, err, errlen)) == NULL)
        return false;
    const struct eg_deps eg = {p->host, p->ops, conf, p->store, p->vault, p->audit, p->mef};
    if ((p->eg = eg_open(&eg, err, errlen)) == NULL)
        return false;
    const struct admin_deps admin = {p->host, p->ops, conf, p->store, p->vault, p->audit, p->mef, p->eg};
    return (p->admin = admin_open(&admin, err, errlen)) != NULL;
}

/* The host's own option, where the host has it: the plugin's log is a copy of its own. */
static void take_log_level(const struct conf *conf)
{
    const char *level = conf_str(conf, "daemon", "log-level");
    if (level != NULL)
        (void)log_level_named(level);
}

/* Gateways' messages and devices' frames are bytes; what an AE asks of a device is a tree in JSON or CBOR. */
static bool mount_rooms(struct plugin *p)
{
    char devices[MAX_PATH];
    if (snprintf(p->eg_path, sizeof p->eg_path, "%s/eg", mef_base(p->mef)) >= (int)sizeof p->eg_path ||
        snprintf(devices, sizeof devices, "%s/devices", p->eg_path) >= (int)sizeof devices)
        return false;
    return p->ops->mount(p->host, mef_base(p->mef), CSE_PRIMITIVE) && p->ops->mount(p->host, p->eg_path, CSE_RAW) &&
           p->ops->mount(p->host, devices, CSE_SERVICE) && p->ops->mount(p->host, "v1", CSE_SERVICE) &&
           (!mef_fetches(p->mef) || p->ops->mount(p->host, MEF_FETCH_PATH, CSE_PRIMITIVE));
}

static void *plugin_init(struct cse_host *h, const struct cse_host_ops *ops, const struct conf *conf, char *err,
                         size_t errlen)
{
    if (ops->abi != CSE_PLUGIN_ABI) {
        snprintf(err, errlen, "the host speaks version %u of the plugin interface, this plugin %u", ops->abi,
                 CSE_PLUGIN_ABI);
        return NULL;
    }
    if (!options_fit) {
        snprintf(err, errlen, "the plugin has more than %d options", MAX_OPTIONS - 1);
        return NULL;
    }
    take_log_level(conf);
    struct plugin *p = calloc(1, sizeof *p);
    if (p == NULL) {
        snprintf(err, errlen, "out of memory");
        return NULL;
    }
    p->host = h;
    p->ops = ops;
    if (!open_rooms(p, conf, err, errlen)) {
        plugin_free(p);
        return NULL;
    }
    if (!mount_rooms(p)) {
        snprintf(err, errlen, "the host does not mount the plugin's paths");
        plugin_free(p);
        return NULL;
    }
    return p;
}

/* --- while it runs ------------------------------------------------------------------------------------------------ */

static void plugin_handle(void *self, struct cse_request *req)
{
    struct plugin *p = self;
    if (req->mount == CSE_PRIMITIVE)
        mef_handle(p->mef, req);
    else if (strncmp(req->path, p->eg_path, strlen(p->eg_path)) == 0)
        eg_handle(p->eg, req);
    else
        admin_handle(p->admin, req);
}

static size_t plugin_psk(void *self, const char *identity, const char *server_name, uint8_t *key, size_t cap)
{
    struct plugin *p = self;
    return mef_psk(p->mef, identity, server_name, key, cap);
}

static void plugin_observe_end(void *self, uint64_t observation)
{
    struct plugin *p = self;
    eg_observe_end(p->eg, observation);
    admin_observe_end(p->admin, observation);
}

static void plugin_session_end(void *self, uint64_t session)
{
    struct plugin *p = self;
    mef_session_end(p->mef, session);
    eg_session_end(p->eg, session);
}

static bool plugin_reload(void *self, const struct conf *conf, char *err, size_t errlen)
{
    struct plugin *p = self;
    if (!admin_reload(p->admin, conf, err, errlen))
        return false;
    take_log_level(conf);
    return true;
}

static bool plugin_ready(void *self)
{
    const struct plugin *p = self;
    return !p->failed;
}

extern const struct cse_plugin cse_plugin;
__attribute__((visibility("default"))) const struct cse_plugin cse_plugin = {
    .abi = CSE_PLUGIN_ABI,
    .name = "mef",
    .version = MEF_VERSION,
    .options = all_options,
    .init = plugin_init,
    .handle = plugin_handle,
    .psk = plugin_psk,
    .observe_end = plugin_observe_end,
    .session_end = plugin_session_end,
    .reload = plugin_reload,
    .ready = plugin_ready,
    .free = plugin_free,
};
