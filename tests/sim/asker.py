#!/usr/bin/python3
"""A simulated router or end device that joins, asks its coordinator everything that ZDP and the NWK layer know to ask, and
stays for a while. Takes the options of joiner.py; --linger is how long it stays.

Each answer is one JSON line: {"event": "zdp", "asked", "cluster", "payload"}, {"event": "aps-ack", ..} or
{"event": "nwk", "dst", "payload"}, with the frame that it came in."""
import struct
import sys
import time

import joiner
from joiner import NWK_BROADCAST_RX_ON, event
from zbcodec import build_aps_data, eui_bytes

ANSWER_TIME = 0.4
ROUTERS = 0xFFFC
APS_ACK_REQUEST, APS_ACK = 0x40, 2


def requests(own: int, short: int, coordinator: int) -> list[tuple[int, int, bytes]]:
    """(destination, cluster, what follows the sequence number)"""
    own64, coordinator64, stranger = eui_bytes(own), eui_bytes(coordinator), eui_bytes(own ^ 0xFF)
    me, broadcast = struct.pack("<H", short), NWK_BROADCAST_RX_ON
    return [
        (0, 0x0000, coordinator64 + b"\0\0"), (0, 0x0000, coordinator64 + b"\1\0"), (0, 0x0000, own64 + b"\0\0"),
        (0, 0x0000, stranger + b"\0\0"), (broadcast, 0x0000, coordinator64 + b"\0\0"), (broadcast, 0x0000, stranger + b"\0\0"),
        (0, 0x0001, b"\0\0\0\0"), (0, 0x0001, b"\0\0\1\0"), (0, 0x0001, b"\x77\x77\0\0"),
        (0, 0x0002, b"\0\0"), (0, 0x0003, b"\0\0"), (0, 0x0004, b"\0\0\1"), (0, 0x0005, b"\0\0"), (0, 0x0002, me),
        (0, 0x0006, b"\0\0\4\1\1\6\0\0"), (broadcast, 0x0006, b"\xfd\xff\4\1\1\6\0\0"),
        (broadcast, 0x0015, b"\1\0"), (broadcast, 0x0015, b"\x40\0"), (ROUTERS, 0x001F, b"\1" + stranger),
        (0, 0x0021, own64 + b"\1\6\0\3" + coordinator64 + b"\1"), (0, 0x0022, own64 + b"\1\6\0\3" + coordinator64 + b"\1"),
        (0, 0x0031, b"\0"), (0, 0x0032, b"\0"), (0, 0x0033, b"\0"), (0, 0x0034, coordinator64 + b"\0"),
        (0, 0x0036, b"\x3c\1"), (broadcast, 0x0036, b"\x3c\1"), (0, 0x0038, b"\0\xf8\xff\7\2\1"), (0, 0x7ABC, b""),
    ]


class Asker(joiner.Joiner):
    asked = None  # the number of the request that is being answered

    def downlink(self, f):
        self.frame, self.mac_dst = f.payload, f.dst
        nwk = joiner.parse_nwk(f.payload)
        if self.key is not None and nwk.secured and nwk.dst == ROUTERS:  # which the joiner does not listen to
            plain, aux = self.open(nwk)
            self.hear_coordinator(plain, nwk.fcf & 3 == 1, aux.counter)
            return
        super().downlink(f)

    def hear_coordinator(self, plain: bytes, command: bool, counter: int) -> bool:
        said = {"counter": counter, "frame": self.frame.hex(), "mac_dst": f"{self.mac_dst:04x}"}
        if command:
            event("nwk", payload=plain.hex(), dst=f"{struct.unpack_from('<H', self.frame, 2)[0]:04x}", **said)
        elif plain[0] & 3 == APS_ACK:
            event("aps-ack", asked=self.asked, payload=plain.hex(), **said)
            return True
        elif plain[0] & 3 == 0 and plain[1] == 0 and plain[4:6] == b"\0\0":
            event("zdp", asked=self.asked, cluster=plain[3:1:-1].hex(), payload=plain[8:].hex(), **said)
        return super().hear_coordinator(plain, command, counter)

    def zdp(self, dst: int, cluster: int, payload: bytes, ack: bool = False):
        self.tsn = self.tsn + 1 & 0xFF
        aps = build_aps_data(2 if dst >= 0xFFF8 else 0, 0, cluster, 0, 0, self.next_aps(), bytes([self.tsn]) + payload)
        self.transmit(dst, bytes([aps[0] | (APS_ACK_REQUEST if ack else 0)]) + aps[1:])
        return aps

    def ask(self):
        for self.asked, (dst, cluster, payload) in enumerate(requests(self.eui, self.radio.short, self.key.source)):
            event("asked", number=self.asked, dst=f"{dst:04x}", cluster=f"{cluster:04x}")
            self.zdp(dst, cluster, payload)
            self.take_in(lambda: False, ANSWER_TIME)

    def ask_for_acknowledgements(self):
        """One frame, which comes again as when its acknowledgement was lost."""
        self.asked = -1
        aps = self.zdp(0, 0x0002, b"\0\0", ack=True)
        self.take_in(lambda: False, ANSWER_TIME)
        self.asked = -2
        self.transmit(0, bytes([aps[0] | APS_ACK_REQUEST]) + aps[1:])
        self.take_in(lambda: False, ANSWER_TIME)

    def speak_nwk(self):
        """Time-out request, route requests, link status, and what is only taken in."""
        short = struct.pack("<H", self.radio.short)
        for dst, command in ((0, b"\x0b\x08\0"), (ROUTERS, b"\1\0\x11\0\0\1"), (ROUTERS, b"\1\x08\x12\0\0\1"),
                             (0, b"\3\0\x77\x77"), (0, b"\5\1\x77\x77"), (0, b"\x09\1" + eui_bytes(1) + b"\x77\x77"),
                             (ROUTERS, b"\x0a\1" + eui_bytes(1) + b"\1\x77\x77"), (ROUTERS, b"\x08\x61\0\0\x12"),
                             (0, b"\6" + bytes([self.capability]))):
            self.transmit_nwk(dst, 0x1209, 1, command)
            self.take_in(lambda: False, ANSWER_TIME)
        event("spoken", short=short.hex())

    def run(self):
        self.ask()
        self.ask_for_acknowledgements()
        self.speak_nwk()
        end = time.monotonic() + self.args.linger
        self.take_in(lambda: time.monotonic() >= end, self.args.linger)
        event("done")
        return 0


def main() -> int:
    args = joiner.arguments()
    asker = Asker(args, joiner.link_key(args))
    return asker.run() if asker.join() else 1


if __name__ == "__main__":
    sys.exit(main())
