#!/usr/bin/python3
"""An attacker near a radio, on the simulated medium, who knows the EUI-64s on the labels but no key.

It listens to everything, and for --seconds (0: until stopped) sends --rate frames a second, each drawn from what follows:
replays, changed copies, associations and rejoins in the names of others, acknowledgements, polls, commands of the MAC, the
NWK and the APS layer to leave, to move or to take a key, and beacons of another network. Ends with one JSON line of what
it did; --seed repeats the choices, as far as what is heard comes at the same times.
"""
import argparse
import json
import random
import select
import signal
import struct
import sys
import time
from collections import Counter, deque

from joiner import eui64, medium
from radio import BROADCAST, FRAME_ACK, FRAME_BEACON, FRAME_COMMAND, FRAME_DATA, MacFrame, Radio
from zbcodec import FrameError, eui_bytes, fcs, parse_nwk

COORDINATOR = 0x0000
CAPABILITIES = (0x80, 0x84, 0x8C, 0x8E)
NWK_LEAVE, NWK_REJOIN_REQUEST, NWK_REJOIN_RESPONSE, NWK_REPORT, NWK_UPDATE = 0x04, 0x06, 0x07, 0x09, 0x0A
HEARD = 512  # frames kept for replays


class Attacker:
    def __init__(self, args):
        group, port = args.medium
        self.rng = random.Random(args.seed)
        self.radio = Radio(group, port, args.channel, 0, self.rng)
        self.args, self.pan, self.gateway = args, args.pan, None
        self.euis = list(args.eui64)
        self.shorts = {}                     # EUI-64 -> address, as responses to associations told
        self.heard = deque(maxlen=HEARD)     # PSDUs
        self.did = Counter()
        self.own = self.radio.tx.getsockname()
        self.ends = False

    # --- listening ---------------------------------------------------------------------------------------------------

    def listen(self, until: float):
        while not self.ends and (left := until - time.monotonic()) > 0:
            if not select.select([self.radio.rx], [], [], left)[0]:
                return
            data, sender = self.radio.rx.recvfrom(256)
            psdu = data[1:-2]
            if sender == self.own or data[:1] != bytes([self.radio.channel]) or fcs(psdu) != data[-2:]:
                continue
            try:
                self.learn(MacFrame(psdu), psdu)
            except (ValueError, struct.error):
                continue

    def learn(self, f: MacFrame, psdu: bytes):
        if f.type == FRAME_ACK:
            return
        self.heard.append(psdu)
        if f.type == FRAME_BEACON and f.src == COORDINATOR and self.pan is None:
            self.pan = f.src_pan
        if f.type == FRAME_COMMAND and f.payload[:1] == b"\x02" and f.dst_extended and len(f.payload) == 4:
            self.gateway = f.src
            if f.payload[3] == 0:
                self.shorts[f.dst] = struct.unpack_from("<H", f.payload, 1)[0]
        if self.args.wait:
            return
        if f.ack_request and self.rng.random() < self.args.acks:
            self.emit("ack", struct.pack("<HB", FRAME_ACK | 0x10 * self.rng.randrange(2), f.seq))
        if f.type == FRAME_COMMAND and f.payload == b"\x07" and self.rng.random() < self.args.beacons:
            self.beacon()

    # --- sending -----------------------------------------------------------------------------------------------------

    def emit(self, what: str, psdu: bytes):
        self.did[what] += 1
        if len(psdu) <= 125:
            self.radio._emit(psdu)

    def victim(self) -> tuple[int, int]:
        eui = self.rng.choice(self.euis)
        return eui, self.shorts.get(eui, self.rng.randrange(1, 0xFFF8))

    def some_short(self) -> int:
        return self.rng.choice([*self.shorts.values(), self.rng.randrange(1, 0xFFF8)])

    def seq(self) -> int:
        return self.rng.randrange(256)

    def from_device(self, short: int, payload: bytes):
        return struct.pack("<HBHHH", 0x8861, self.seq(), self.pan, COORDINATOR, short) + payload

    def from_coordinator(self, short: int, payload: bytes, command: bool = False):
        return struct.pack("<HBHHH", 0x8863 if command else 0x8861, self.seq(), self.pan, short, COORDINATOR) + payload

    def replay(self):
        if not self.heard:
            return
        psdu = bytearray(self.rng.choice(self.heard))
        if self.rng.random() < 0.5:
            psdu[2] = self.seq()
        self.emit("replay", bytes(psdu))

    def changed(self):
        if not self.heard:
            return
        psdu = bytearray(self.rng.choice(self.heard))
        for _ in range(self.rng.randrange(1, 4)):
            psdu[self.rng.randrange(len(psdu))] ^= 1 << self.rng.randrange(8)
        self.emit("changed", bytes(psdu[:self.rng.randrange(3, len(psdu) + 1)] if self.rng.random() < 0.2 else psdu))

    def associate(self):
        pan = self.pan if self.rng.random() < 0.9 else self.rng.randrange(0xFFFF)
        self.emit("associate", struct.pack("<HBHHH", 0xC823, self.seq(), pan, COORDINATOR, BROADCAST) +
                  eui_bytes(self.victim()[0]) + bytes([0x01, self.rng.choice(CAPABILITIES)]))

    def associated(self):
        """A response that the coordinator did not give: refused, or with another address."""
        eui, _ = self.victim()
        self.emit("associated", struct.pack("<HBH", 0xCC63, self.seq(), self.pan) + eui_bytes(eui) +
                  eui_bytes(self.gateway or 1) + struct.pack("<BHB", 0x02, self.some_short(), self.rng.choice((0, 1, 2))))

    def rejoin(self):
        eui, short = self.victim()
        short = short if self.rng.random() < 0.7 else self.some_short()
        nwk = struct.pack("<HHHBB", 0x1009, COORDINATOR, short, 1, self.seq()) + eui_bytes(eui)
        self.emit("rejoin", self.from_device(short, nwk + bytes([NWK_REJOIN_REQUEST, self.rng.choice(CAPABILITIES)])))

    def secured(self, fcf: int, dst: int, src: int, source: int, n: int) -> bytes:
        """A NWK frame that claims to be secured by `source`."""
        counter = self.rng.choice((0, self.rng.getrandbits(16), 0xFFFFFFFE, 0xFFFFFFFF))
        header = struct.pack("<HHHBB", fcf | 0x0200, dst, src, self.rng.choice((1, 30)), self.seq())
        return header + struct.pack("<BIQB", 0x28, counter, source, self.rng.randrange(2)) + self.rng.randbytes(n)

    def secured_rejoin(self):
        eui, short = self.victim()
        self.emit("secured-rejoin", self.from_device(short, self.secured(0x0009, COORDINATOR, short, eui, 6)))

    def data(self):
        eui, short = self.victim()
        if self.rng.random() < 0.5:
            self.emit("data-up", self.from_device(short, self.secured(0x0048, COORDINATOR, short, eui, 24)))
        else:
            frame = self.secured(0x0008, short, COORDINATOR, self.gateway or 1, 24)
            self.emit("data-down", self.from_coordinator(short, frame))

    def poll(self):
        eui, short = self.victim()
        if self.rng.random() < 0.7:
            self.emit("poll", struct.pack("<HBHHHB", 0x8863, self.seq(), self.pan, COORDINATOR, short, 0x04))
        else:
            self.emit("poll", struct.pack("<HBHH", 0xC863, self.seq(), self.pan, COORDINATOR) + eui_bytes(eui) + b"\x04")

    def mac_command(self):
        """Disassociation both ways, orphan notification, coordinator realignment."""
        eui, short = self.victim()
        ours, theirs = eui_bytes(self.gateway or 1), eui_bytes(eui)
        pan = struct.pack("<H", self.pan)
        realign = b"\x08" + struct.pack("<HHBH", self.rng.randrange(0xFFFF), COORDINATOR, 15, self.some_short())
        self.emit("mac-command", self.rng.choice((
            b"\x63\xcc" + bytes([self.seq()]) + pan + ours + theirs + b"\x03\x02",
            b"\x63\xcc" + bytes([self.seq()]) + pan + theirs + ours + b"\x03\x01",
            self.from_coordinator(short, b"\x03\x01", command=True),
            b"\x03\xc8" + bytes([self.seq()]) + b"\xff\xff\xff\xff" + pan + theirs + b"\x06",
            b"\x63\xcc" + bytes([self.seq()]) + pan + theirs + ours + realign)))

    def bare_command(self):
        """NWK and APS commands without the security that they need."""
        eui, short = self.victim()
        theirs, ours = eui_bytes(eui), eui_bytes(self.gateway or 1)
        down = struct.pack("<HHHBB", 0x1809, short, COORDINATOR, 1, self.seq()) + theirs + ours
        up = struct.pack("<HHHBB", 0x1009, COORDINATOR, short, 1, self.seq()) + theirs
        aps = struct.pack("<HHHBB", 0x0008, short, COORDINATOR, 30, self.seq()) + bytes([0x01, self.seq()])
        new_pan = struct.pack("<H", self.rng.randrange(0xFFFF))
        what, psdu = self.rng.choice((
            ("leave", self.from_coordinator(short, down + bytes([NWK_LEAVE, 0x40]))),
            ("leave", self.from_device(short, up + bytes([NWK_LEAVE, 0x00]))),
            ("rejoin-response", self.from_coordinator(short, down + bytes([NWK_REJOIN_RESPONSE]) +
                                                      struct.pack("<HB", self.some_short(), self.rng.choice((0, 1, 2))))),
            ("pan-change", self.from_coordinator(BROADCAST, down + bytes([NWK_UPDATE, 0x01]) + ours + b"\x01" + new_pan)),
            ("pan-change", self.from_device(short, up + bytes([NWK_REPORT, 0x01]) + ours + new_pan)),
            ("transport-key", self.from_coordinator(short, aps + b"\x05\x01" + self.rng.randbytes(16) + b"\0" + theirs + ours)),
            ("remove-device", self.from_coordinator(short, aps + b"\x07" + theirs)),
            ("switch-key", self.from_coordinator(BROADCAST, aps + b"\x09\x01"))))
        self.emit(what, psdu)

    def beacon(self):
        pan = self.pan ^ 1 if self.rng.random() < 0.8 else self.pan
        payload = struct.pack("<HBBBH", 0xCFFF, 0, 0, 0, 0x8422) + self.rng.randbytes(8) + b"\xff\xff\xff\x01"
        self.emit("beacon", struct.pack("<HBHH", 0x8000, self.seq(), pan, COORDINATOR) + payload)

    def address_conflict(self):
        """Frames from an address that is somebody else's."""
        eui, _ = self.victim()
        short = self.some_short()
        self.emit("address-conflict", self.from_device(short, self.secured(0x1008, 0xFFFD, short, eui, 20)))

    def again(self):
        """A first key, or what else went without NWK security, once more."""
        for psdu in reversed(self.heard):
            f = MacFrame(psdu)
            try:
                if f.type == FRAME_DATA and not parse_nwk(f.payload).secured:
                    self.emit("key-again", psdu)
                    return
            except FrameError:
                continue

    def run(self):
        acts = (self.replay, self.changed, self.associate, self.associate, self.rejoin, self.rejoin, self.secured_rejoin, self.data,
                self.poll, self.poll, self.mac_command, self.bare_command, self.beacon, self.address_conflict, self.again)
        acts += (self.associated,) if self.args.responses else ()
        while self.args.wait and not self.ends:
            self.listen(time.monotonic() + 0.1)
        due = time.monotonic()
        end = due + (self.args.seconds or float("inf"))
        while not self.ends and due < end:
            due += self.rng.expovariate(self.args.rate)
            self.listen(due)
            if self.pan is not None and not self.ends:
                self.rng.choice(acts)()


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--eui64", type=eui64, action="append", required=True, help="in whose name; more than one may be given")
    p.add_argument("--medium", type=medium, default=("224.0.0.116", 9000), metavar="GROUP:PORT")
    p.add_argument("--channel", type=int, default=15)
    p.add_argument("--pan", type=lambda s: int(s, 16), help="of the network (hex); else that of the first beacon heard")
    p.add_argument("--rate", type=float, default=40, help="frames a second, beside acknowledgements")
    p.add_argument("--acks", type=float, default=0.5, help="of the frames that ask for one: so many are acknowledged by us, too")
    p.add_argument("--beacons", type=float, default=0.3, help="of the beacon requests: so many are answered by us, too")
    p.add_argument("--responses", action="store_true", help="answer associations, too: then some attempts to join come to nothing")
    p.add_argument("--wait", action="store_true", help="only listen until SIGUSR1")
    p.add_argument("--seconds", type=float, default=0)
    p.add_argument("--seed", type=int)
    args = p.parse_args()
    attacker = Attacker(args)
    signal.signal(signal.SIGUSR1, lambda *_: setattr(args, "wait", False))
    signal.signal(signal.SIGTERM, lambda *_: setattr(attacker, "ends", True))
    attacker.run()
    print(json.dumps({"event": "attacked", "frames": sum(attacker.did.values()), **attacker.did}), flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(0)
