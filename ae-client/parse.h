/* From the MEF's JSON to aec.h's structures; pure. */
#pragma once
#include "ae-client/aec.h"

/* Room for the text of an error, with NUL. */
#define AEC_TEXT_MAX 256

/* m2m:uril -> the first entry's last path segment. ST_NOT_FOUND: empty list; ST_INTERNAL: not a list of URIs. */
MUST_USE enum st aec_parse_uril(struct span body, char relkeyid[AEC_ID_MAX]);
/* The resourceID of a created mefClientReg. */
MUST_USE enum st aec_parse_registration(struct span body, char id[AEC_ID_MAX]);
/* sec:skr; *out is left as it was unless ST_OK. */
MUST_USE enum st aec_parse_key(struct span body, const char *relkeyid, struct aec_key **out);
/* The counters of a ticket; and from the device's resource the key and the short address that go with it. ST_NOT_FOUND:
 * the device has no key yet. */
MUST_USE enum st aec_parse_ticket(struct span body, struct aec_ticket *out);
MUST_USE enum st aec_parse_device(struct span body, struct aec_ticket *out);
/* What an error body tells (m2m:dbg, or detail or code of RFC 9457); "" when there is nothing. */
void aec_parse_detail(struct span body, char text[AEC_TEXT_MAX]);
