/* The audit trail as it stands: a page, waited for. */
#pragma once
#include "mef-plugin/audit/audit.h"

static inline void audit_keep_page(void *user, void *about, struct cJSON *page)
{
    (void)about;
    *(struct cJSON **)user = page;
}

/* The page is the caller's; NULL: it could not be read. */
static inline struct cJSON *audit_page(struct audit *a, struct store *s, const char *admin, uint64_t before,
                                       unsigned limit)
{
    struct cJSON *page = NULL;
    audit_read(a, &(struct audit_query){admin, before, limit, audit_keep_page, &page, NULL});
    store_flush(s);
    return page;
}
