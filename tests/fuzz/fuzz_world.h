/* The plugin's rooms over a store in a folder of the fuzzer's own, which goes when the program ends. */
#pragma once
#include "tests/unit/plugin_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct world *fuzzed;

static inline void fuzz_close(void)
{
    void *f = fuzzed->host.f;
    world_close(fuzzed);
    teardown(&f);
}

static inline void fuzz_open(struct world *w, const char *conf)
{
    void *f = NULL;
    if (setup(&f) != 0)
        abort();
    fuzzed = w;
    world_open_with(w, f, conf);
    atexit(fuzz_close);
}
