/* The one table of oneM2M spellings and numbers that the public sources do not give (TS-0032 is not public to us). Every
 * value here is OURS until the standard's text is at hand, and changing one is one commit. The standard's own
 * short names stand in cse-shim/m2m_names.h. */
#pragma once
#include "cse-shim/m2m_names.h"

/* Resource types (ours). */
#define MEF_TY_BASE 60001
#define MEF_TY_CLIENT_REG 60002
#define MEF_TY_CLIENT_CMD 60003
#define MEF_TY_KEY_REG 60004
#define MEF_TY_CLIENT_CFG 60005

/* Root members: prefix and short name (ours; the prefix follows TS-0003 12.1). */
#define MEF_SN_BASE "sec:MEFB"
#define MEF_SN_CLIENT_REG "sec:mecr"
#define MEF_SN_CLIENT_CMD "sec:mecc"
#define MEF_SN_CLIENT_CFG "sec:mecf"
#define MEF_SN_KEY_REG "sec:skr"

/* Attributes (ours). */
#define MEF_SN_ADMIN_FQDN "adfq"
#define MEF_SN_SUID "suid"
#define MEF_SN_TARGET_IDS "tgis"
#define MEF_SN_KEY_VALUE "kv"
#define MEF_SN_ASSIGNED_SYMM_KEY_ID "aski"
#define MEF_SN_SOURCE_ID "srci"
#define MEF_SN_CMD_ID "cmi"
#define MEF_SN_CMD_DESCRIPTION "cmds"
#define MEF_SN_CMD_STATUS "cmst"
#define MEF_SN_CONFIGURATION "ccfg"
#define MEF_SN_DEVICE_CONFIG_URI "dcu"
#define MEF_SN_FQDN "fq"

/* Names of the resources that the MEF makes below a mefClientReg (ours). */
#define MEF_RN_CLIENT_CMD "cmd"
#define MEF_RN_CLIENT_CFG "cfg"

/* Members of a cmdDescription and of a clientRegCfg (TS-0003 12). The public texts give the long names alone; that these are sent is ours. */
#define MEF_LN_CMD_CLASS "cmdClassID"
#define MEF_LN_CMD_ARGS "cmdArgs"
#define MEF_LN_NO_MORE_ARGS "noMoreCmdArgs"
#define MEF_LN_RETRY_DURATION "retryDuration"
#define MEF_LN_TARGET_ID "targetID"
#define MEF_LN_CERT_PROV_ARGS "certProvCmdArgs"
#define MEF_LN_CERT_PROV_PROTOCOL "certProvProtocolID"
#define MEF_LN_URI "URI"
#define MEF_LN_CERT_SUBJECT_TYPE "certSubjectType"
#define MEF_LN_CERT_SUBJECT_ID "certSubjectID"
#define MEF_LN_DEV_CFG_ARGS "devCfgCmdArgs"
#define MEF_LN_DEVICE_CONFIG_URI "deviceConfigURI"
#define MEF_LN_MO_NODE_ARGS "MONodeCmdArgs"
#define MEF_LN_OBJECT_PATH "objectPath"
#define MEF_LN_OBJECT_TYPE "objectTypeID"
#define MEF_LN_OBJECT_TYPE_ARGS "objectTypeSpecifcArgs" /* sic */
#define MEF_LN_SUID "SUID"
#define MEF_LN_EXPIRATION "expirationTime"
#define MEF_LN_LABELS "labels"
#define MEF_LN_FQDN "fqdn"
#define MEF_LN_ADMIN_FQDN "adminFQDN"
#define MEF_LN_HTTP_PORT "httpPort"
#define MEF_LN_COAP_PORT "coapPort"
#define MEF_LN_WEBSOCKET_PORT "websocketPort"

/* Labels of a Zigbee key registration (ours). */
#define MEF_LABEL_EUI64 "eui64:"       /* 16 lower-case hex digits follow */
#define MEF_LABEL_GATEWAY "gw:"        /* 16 lower-case hex digits follow */
#define MEF_LABEL_KEYSEQ "keyseq:"     /* decimal */
#define MEF_LABEL_USE_ZIGBEE "use:zigbee-nwk"

/* Exporter label (TS-0003 10.3.1). */
#define MEF_EXPORTER_LABEL "EXPORTER-oneM2M-Bootstrap"

/* The older way to a key (TS-0003 8.3.2.1 names path and members; how they are written is ours). */
#define MEF_FETCH_PATH "fetchCredentials"
#define MEF_FETCH_STATUS "Status"
#define MEF_FETCH_CREDENTIAL "Credential"
#define MEF_FETCH_ENROLEE "EnroleeID"
#define MEF_FETCH_LIFETIME "Lifetime" /* seconds */
#define MEF_FETCH_ERROR "ErrorString"
