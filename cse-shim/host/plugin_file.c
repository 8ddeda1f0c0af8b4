#include "cse-shim/host/host.h"

#include <dlfcn.h>

struct plugin_file plugin_load(const char *path, char *err, size_t errlen)
{
    struct plugin_file f = {dlopen(path, RTLD_NOW | RTLD_LOCAL), NULL};
    if (f.handle == NULL) {
        snprintf(err, errlen, "plugin: %s", dlerror());
        return f;
    }
    f.plugin = dlsym(f.handle, CSE_PLUGIN_SYMBOL);
    if (f.plugin != NULL && f.plugin->abi == CSE_PLUGIN_ABI)
        return f;
    if (f.plugin == NULL)
        snprintf(err, errlen, "plugin: %s has no symbol %s", path, CSE_PLUGIN_SYMBOL);
    else
        snprintf(err, errlen, "plugin: %s speaks ABI %u, this host %u", path, f.plugin->abi, CSE_PLUGIN_ABI);
    plugin_unload(&f);
    return f;
}

void plugin_unload(struct plugin_file *f)
{
    if (f->handle != NULL)
        dlclose(f->handle);
    *f = (struct plugin_file){NULL, NULL};
}
