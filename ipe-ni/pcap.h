/* Capture files in the classic pcap format, written packet by packet so that a reader may follow. */
#pragma once
#include "cse-shim/base/bytes.h"

enum { PCAP_USER0 = 147, PCAP_802_15_4_FCS = 195 }; /* link types, as tcpdump.org lists them */

struct pcap;

MUST_USE struct pcap *pcap_create(const char *path, uint32_t link_type); /* overwrites; NULL: errno says why */
/* Append one packet, stamped with the time of day, and hand it to the kernel. Errors are not reported: a full disk must
 * not stop the traffic. */
void pcap_write(struct pcap *p, struct span packet); /* NULL is fine */
void pcap_close(struct pcap *p);                     /* NULL is fine */
