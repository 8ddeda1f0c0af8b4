/* oneM2M spellings that the standard gives (TS-0004 8.2). What it does not give us stands in config/names.h. */
#pragma once

/* Attributes and root members. */
#define M2M_SN_RESOURCE_TYPE "ty"
#define M2M_SN_RESOURCE_ID "ri"
#define M2M_SN_RESOURCE_NAME "rn"
#define M2M_SN_PARENT_ID "pi"
#define M2M_SN_CREATION_TIME "ct"
#define M2M_SN_LAST_MODIFIED "lt"
#define M2M_SN_LABELS "lbl"
#define M2M_SN_EXPIRATION "et"
#define M2M_SN_CHILD "ch" /* references to child resources */
#define M2M_SN_CHILD_NAME "nm"
#define M2M_SN_CHILD_TYPE "typ"
#define M2M_SN_CHILD_URI "val"
#define M2M_SN_URI_LIST "m2m:uril"
#define M2M_SN_DEBUG "m2m:dbg"

/* Request parameters. */
#define M2M_SN_FROM "fr"
#define M2M_SN_RESPONSE_TYPE "rt"
#define M2M_SN_RESULT_CONTENT "rcn"
#define M2M_SN_FILTER_USAGE "fu"
#define M2M_SN_LIMIT "lim"
