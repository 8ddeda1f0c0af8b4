/* Memory that runs out at a chosen moment: a test linked with oom.c and the --wrap options of tests/unit/meson.build counts
 * the allocations of its own thread, and has one of them fail. Those of shared libraries are not counted. */
#pragma once
#include <stdbool.h>

/* The n-th allocation from now on fails, and no other; 0: none does. */
void oom_at(unsigned long n);
/* End of it. True: an allocation failed. */
bool oom_end(void);
