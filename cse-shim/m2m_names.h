/* oneM2M spellings that the standard gives and that any host needs (TS-0004 8.2). */
#pragma once

#define M2M_SN_RESOURCE_TYPE "ty"
#define M2M_SN_RESOURCE_ID "ri"
#define M2M_SN_RESOURCE_NAME "rn"
#define M2M_SN_PARENT_ID "pi"
#define M2M_SN_CREATION_TIME "ct"
#define M2M_SN_LAST_MODIFIED "lt"
#define M2M_SN_LABELS "lbl"
#define M2M_SN_EXPIRATION "et"
#define M2M_SN_URI_LIST "m2m:uril"
#define M2M_SN_DEBUG "m2m:dbg"
