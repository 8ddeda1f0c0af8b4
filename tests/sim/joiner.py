#!/usr/bin/python3
"""A simulated Zigbee 3.0 end device or router that joins with an install code, as strictly as real joiners do.

It scans, associates, waits for the first Transport-Key, announces itself, exchanges a link key of its own, reports
attributes and obeys an On/Off command. Each event is one JSON line on standard output; no event holds a key. Exit status: 0 joined and reported as
asked, 1 not joined, 2 usage, 3 told to leave.
"""
import argparse
import json
import os
import random
import signal
import struct
import sys
import time

from radio import BROADCAST, DATA_REQUEST, FRAME_BEACON, FRAME_COMMAND, FRAME_DATA, POLL_FRAME_WAIT, Radio
from tclk import FIRST_REVISION, NODE_DESC_REQ, NODE_DESC_RSP, LinkKeyExchange
from zbcodec import (APS_COMMAND, ZCL_TYPES, FrameError, build_aps_data, eui_bytes, eui_text, link_key_of, open_secured,
                     open_transport_key, parse_aps_data, parse_aux, parse_nwk, seal_nwk, zcl_report)

SCAN_TIME = 0.16            # aBaseSuperframeDuration * (2^3 + 1)
RESPONSE_WAIT = 0.4915      # macResponseWaitTime
POLL_INTERVAL = 0.25        # of a sleepy device
MAX_REJOINS = 10            # without an answer: then it is on its own
NWK_BROADCAST_RX_ON = 0xFFFD
PROFILE_HA, PROFILE_ZDP = 0x0104, 0x0000
CLUSTER_ON_OFF, CLUSTER_DEVICE_ANNCE = 0x0006, 0x0013


def event(name: str, **fields):
    print(json.dumps({"event": name, "t": round(time.time(), 3), **fields}), flush=True)


class Report:
    """cluster/attribute/type/value/interval, for example 0x0402/0/s16/2150/1.0"""

    def __init__(self, text: str):
        try:
            cluster, attribute, self.type, value, interval = text.split("/")
            self.cluster, self.attribute = int(cluster, 0), int(attribute, 0)
            self.value, self.interval = float(value), float(interval)
        except ValueError as e:
            raise argparse.ArgumentTypeError("want cluster/attribute/type/value/interval") from e
        if self.type not in ZCL_TYPES:
            raise argparse.ArgumentTypeError("type is one of " + ", ".join(ZCL_TYPES))
        self.due = 0.0


class Joiner:
    def __init__(self, args, link_key: bytes, radio: Radio | None = None):
        self.args, self.code_key, self.eui = args, link_key, args.eui64
        self.link_key = link_key    # the code's, then the one that it got for it
        self.rng = random.Random(args.seed)
        group, port = args.medium
        self.radio = radio or Radio(group, port, args.channel, self.eui, self.rng)
        self.capability = 0x80 if args.sleepy else 0x8C if not args.router else 0x8E
        self.link_next = 0          # next counter expected under the link key
        self.link_counter = 0       # our own, last used under it
        self.key = None             # TransportKey once accepted
        self.peer_next = {}         # NWK source -> next counter expected under the network key
        self.heard = {}             # (source, counter) under that key: the frame
        self.parent, self.depth = 0x0000, 0
        self.counter = args.counter
        self.nwk_seq, self.aps_counter, self.tsn = (self.rng.randrange(256) for _ in range(3))
        self.on = False
        self.exchange = None        # LinkKeyExchange, while it runs and afterwards

    # --- MAC ---------------------------------------------------------------------------------------------------------

    def scan(self):
        """Active scan; returns (pan, parent) of the open network that fits, or None: of several beacons the first of those that
        are the fewest hops from a coordinator (Zig 3.6.1.4.1.1)."""
        r = self.radio
        r.pan, r.short = BROADCAST, BROADCAST
        r.send(struct.pack("<HBHHB", 0x0803, r.next_seq(), BROADCAST, BROADCAST, 0x07))
        end = time.monotonic() + SCAN_TIME
        found = []
        while (left := end - time.monotonic()) > 0:
            f = r.receive(left)
            if f is not None and f.type == FRAME_BEACON and (usable := self._usable_beacon(f)) is not None:
                found.append(usable)
        if not found:
            return None
        depth, pan, parent = min(found, key=lambda usable: usable[0])
        self.depth = depth + 1
        return pan, parent

    def _usable_beacon(self, f):
        if len(f.payload) < 19 or f.src_extended or f.src is None:
            return None
        superframe, gts, pending, protocol, info = struct.unpack_from("<HBBBH", f.payload)
        if gts or pending or protocol != 0 or not superframe & 0x8000:
            return None
        if info & 0x0F != 2 or info >> 4 & 0x0F != 2:  # stack profile and protocol version
            return None
        capacity = info >> 10 & 1 if self.args.router else info >> 15
        if not capacity or (self.args.pan is not None and f.src_pan != self.args.pan):
            return None
        if self.args.parent is not None and f.src != self.args.parent:
            return None
        return info >> 11 & 15, f.src_pan, f.src

    def associate(self, pan: int, parent: int) -> int | None:
        """MAC association; returns the parent's EUI-64, or None. Sets our short address."""
        r = self.radio
        r.pan, r.short, self.parent = pan, 0xFFFE, parent
        head = struct.pack("<HBHHH", 0xC823, r.next_seq(), pan, parent, BROADCAST)
        if r.send(head + eui_bytes(self.eui) + bytes([0x01, self.capability])) is None:
            event("associate-failed", reason="no MAC acknowledgement")
            return None
        time.sleep(RESPONSE_WAIT)
        r.slept()
        r.queue.clear()  # the answer to an earlier request has another address
        f = self.poll()
        if f is None or f.type != FRAME_COMMAND or len(f.payload) != 4 or f.payload[0] != 0x02:
            event("associate-failed", reason="no association response")
            return None
        short, status = struct.unpack_from("<HB", f.payload, 1)
        if status != 0 or short >= 0xFFF8:
            event("associate-refused", status=status)
            return None
        r.short = short
        event("associated", pan=f"{pan:04x}", short=f"{short:04x}", parent=eui_text(f.src))
        return f.src

    def poll(self):
        """One Data request; the frame it yields, or None. Beacons and broadcasts heard meanwhile are others'."""
        r = self.radio
        if r.short < 0xFFF8:
            psdu = struct.pack("<HBHHHB", 0x8863, r.next_seq(), r.pan, self.parent, r.short, 0x04)
        else:
            psdu = struct.pack("<HBHH", 0xC863, r.next_seq(), r.pan, self.parent) + eui_bytes(self.eui) + DATA_REQUEST
        ack = r.send(psdu)
        end = time.monotonic() + (POLL_FRAME_WAIT if ack is not None and ack.pending else 0)
        while (left := end - time.monotonic()) > 0:
            f = r.receive(left)
            if f is None or f.dst not in (None, BROADCAST):
                return f
        return None

    def next_frame(self, timeout: float):
        """Wait for a frame: by polling when sleepy, by listening otherwise."""
        if not self.args.sleepy:
            return self.radio.receive(timeout)
        end = time.monotonic() + timeout
        while not self.radio.queue:  # what came while it was awake
            self.radio.slept()
            f = self.poll()
            left = end - time.monotonic()
            if f is not None or left <= 0:
                return f
            time.sleep(min(POLL_INTERVAL, left))
        return self.radio.queue.popleft()

    # --- joining -----------------------------------------------------------------------------------------------------

    def wait_for_key(self) -> bool:
        end = time.monotonic() + self.args.key_timeout / 1000
        while (left := end - time.monotonic()) > 0:
            f = self.next_frame(left)
            if f is None or f.type != FRAME_DATA:
                continue
            try:
                self.accept_key(f)
                return True
            except FrameError as e:
                event("frame-refused", reason=str(e))
        event("key-timeout", ms=self.args.key_timeout)
        return False

    def accept_key(self, f):
        nwk = parse_nwk(f.payload)
        if nwk.secured:
            raise FrameError("NWK-secured frame without a network key")
        if nwk.dst != self.radio.short or nwk.src != self.parent:
            raise FrameError("not from the parent to us")
        if self.args.picky and (len(f.payload) != 62 or nwk.fcf != 0x0008 or nwk.payload[0] != 0x21):
            raise FrameError("not the plain 62-byte form")
        before, self.key = self.key, open_transport_key(nwk, self.link_key, self.eui, self.link_next)
        self.link_next = self.key.counter + 1
        if before is None or before.key != self.key.key:  # else a reset loses no counter (Zig 4.3.4)
            self.peer_next, self.heard, self.counter = {}, {}, self.args.counter
        if self.args.key_out:
            fd = os.open(self.args.key_out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(fd, "w") as out:
                out.write(self.key.key.hex() + "\n")
        event("joined", eui64=eui_text(self.eui), short=f"{self.radio.short:04x}",
              trust_centre=eui_text(self.key.source), key_seq=self.key.key_seq, counter=self.key.counter)

    def join(self) -> bool:
        """From the beginning: all that it has is its code. A join whose exchange fails is one that failed."""
        for attempt in range(1, self.args.attempts + 1):
            self.link_key, self.exchange = self.code_key, None
            event("scan", attempt=attempt)
            network = self.scan()
            if network is None:
                event("no-network")
                time.sleep(0.3)
            elif self.associate(*network) is not None and self.wait_for_key():
                self.announce()
                if self.exchange_link_key():
                    return True
        return False

    # --- the second exchange -------------------------------------------------------------------------------------------

    def exchange_link_key(self) -> bool:
        if self.args.revision < FIRST_REVISION:
            return True
        self.exchange = LinkKeyExchange(self.eui, self.key.source, self.link_key, self.link_next, self.args.answer_time,
                                        self.next_aps, lambda aps: self.transmit(0x0000, aps), self.take_in)
        failed = self.exchange.run()
        if failed is not None:
            event("exchange-failed", step=failed)
            self.leave()
            return False
        if self.exchange.confirmed:
            self.link_key, self.link_next, self.link_counter = self.exchange.new_key, self.exchange.new_next, 0
            event("link-key", verified=True)
        return True

    # --- rejoining -----------------------------------------------------------------------------------------------------

    def rejoin(self, secured: bool) -> bool:
        """Under the network key; or without it, as a device that lost it: by the link key that it shares with its TC."""
        command = bytes([0x06, self.capability])
        if self.args.rejoin_parent is not None:
            self.parent = self.args.rejoin_parent
        for attempt in range(1, min(self.args.attempts, MAX_REJOINS) + 1):
            event("rejoin", secured=secured, attempt=attempt)
            if secured:
                self.transmit_nwk(self.parent, 0x1209, 1, command)
            else:
                self.mac_send(self.parent, self.nwk_header(0x1009, self.parent, 1) + command)
            if self.await_rejoin_response(secured) and (secured or self.wait_for_key()):
                self.announce()
                return True
        event("rejoin-failed")
        return False

    def await_rejoin_response(self, secured: bool) -> bool:
        end = time.monotonic() + self.args.key_timeout / 1000
        while (left := end - time.monotonic()) > 0:
            f = self.next_frame(left)
            if f is None or f.type != FRAME_DATA:
                continue
            try:
                nwk = parse_nwk(f.payload)
                if nwk.fcf & 3 != 1 or nwk.secured != secured or nwk.header[8:16] != eui_bytes(self.eui):
                    continue
                plain = self.open(nwk)[0] if secured else nwk.payload
                if len(plain) == 4 and plain[0] == 0x07 and plain[3] == 0:
                    self.radio.short = struct.unpack_from("<H", plain, 1)[0]
                    event("rejoined", secured=secured, short=f"{self.radio.short:04x}")
                    return True
            except FrameError as e:
                event("frame-refused", reason=str(e))
        return False

    def take_in(self, until, seconds: float) -> bool:
        """Obey what comes until something is so, or time is up."""
        end = time.monotonic() + seconds
        while not until():
            left = end - time.monotonic()
            if left <= 0:
                return False
            self.hear(self.next_frame(min(left, POLL_INTERVAL if self.args.sleepy else 0.05)))
        return True

    def hear(self, f):
        try:
            if f is not None and f.type == FRAME_DATA:
                self.downlink(f)
        except FrameError as e:
            event("frame-refused", reason=str(e))

    def hear_coordinator(self, plain: bytes, command: bool, counter: int) -> bool:
        """NWK commands, APS commands and ZDP; False: none of these."""
        if command:
            event("nwk-command", id=f"{plain[0]:02x}", counter=counter)
            if plain[:1] == b"\x04" and plain[1] & 0x40:
                event("told-to-leave")
                raise SystemExit(3)
            return True
        if plain and plain[0] & 3 == APS_COMMAND:
            if self.exchange is None:
                raise FrameError("APS command out of place")
            self.exchange.hear_command(plain)
            return True
        aps = parse_aps_data(plain)
        if aps is None or aps.profile != PROFILE_ZDP or aps.dst_endpoint != 0:
            return False
        if aps.cluster == NODE_DESC_RSP and self.exchange is not None:
            self.exchange.hear_node_descriptor(aps.payload)
        elif aps.cluster == NODE_DESC_REQ and aps.payload[1:] == struct.pack("<H", self.radio.short):
            descriptor = struct.pack("<BBBHBHHHB", 0x02, 0x40, self.capability, 0x117C, 82, 82, self.args.revision << 9, 82, 0)
            self.transmit(0x0000, build_aps_data(0, 0, NODE_DESC_RSP, PROFILE_ZDP, 0, self.next_aps(),
                                                 struct.pack("<BBH", aps.payload[0], 0, self.radio.short) + descriptor))
        return True

    def leave(self):
        """NWK leave to its parent, as a device that failed does."""
        self.transmit_nwk(self.parent, 0x1209, 1, bytes([0x04, 0x00]))
        event("left")

    # --- application -------------------------------------------------------------------------------------------------

    def transmit(self, dst: int, aps: bytes) -> bool:
        """Seal an APS frame under the network key with our own counter and hand it to the coordinator."""
        return self.transmit_nwk(dst, 0x0208 | (0x1000 if dst >= 0xFFF8 else 0x0040), 30, aps)

    def nwk_header(self, fcf: int, dst: int, radius: int, dst_eui: int | None = None) -> bytes:
        self.nwk_seq = self.nwk_seq + 1 & 0xFF
        header = struct.pack("<HHHBB", fcf, dst, self.radio.short, radius, self.nwk_seq)
        return header + (eui_bytes(dst_eui) if fcf & 0x0800 else b"") + (eui_bytes(self.eui) if fcf & 0x1000 else b"")

    def transmit_nwk(self, dst: int, fcf: int, radius: int, payload: bytes, dst_eui: int | None = None) -> bool:
        return self.send_on(dst, self.nwk_header(fcf, dst, radius, dst_eui), payload)

    def send_on(self, dst: int, header: bytes, payload: bytes) -> bool:
        """One hop further. A sleepy child hands even its broadcasts to its parent."""
        return self.mac_send(BROADCAST if dst >= 0xFFF8 and not self.args.sleepy else self.parent, self.seal(header, payload))

    def seal(self, header: bytes, payload: bytes) -> bytes:
        self.counter += 1
        return seal_nwk(self.key.key, header, self.counter - 1, self.eui, self.key.key_seq, payload)

    def mac_send(self, dst: int, frame: bytes) -> bool:
        r = self.radio
        fcf = 0x8841 if dst == BROADCAST else 0x8861
        return r.send(struct.pack("<HBHHH", fcf, r.next_seq(), r.pan, dst, r.short) + frame) is not None or dst == BROADCAST

    def next_aps(self) -> int:
        self.aps_counter = self.aps_counter + 1 & 0xFF
        return self.aps_counter

    def announce(self):
        self.tsn = self.tsn + 1 & 0xFF
        zdp = struct.pack("<BHQB", self.tsn, self.radio.short, self.eui, self.capability)
        aps = build_aps_data(2, 0, CLUSTER_DEVICE_ANNCE, PROFILE_ZDP, 0, self.next_aps(), zdp)
        self.transmit(NWK_BROADCAST_RX_ON, aps)
        event("announced", counter=self.counter - 1)

    def report(self, cluster: int, attribute: int, type_name: str, value: float):
        self.tsn = self.tsn + 1 & 0xFF
        zcl = zcl_report(self.tsn, attribute, type_name, value)
        acked = self.transmit(0x0000, build_aps_data(0, 1, cluster, PROFILE_HA, 1, self.next_aps(), zcl))
        event("reported", cluster=f"{cluster:04x}", attribute=f"{attribute:04x}", value=value, counter=self.counter - 1,
              mac_ack=acked)

    def note_stale(self, nwk, aux, secret):
        """"replay": anybody can send a frame again; "counter-twice": who has the key used a nonce for two."""
        was = self.heard.get((aux.source, aux.counter))
        if was == (nwk.header, nwk.payload):
            event("replay", source=eui_text(aux.source), counter=aux.counter)
        elif was is not None:
            open_secured(self.key.key, nwk.header, aux, secret)
            event("counter-twice", source=eui_text(aux.source), counter=aux.counter)

    def open(self, nwk):
        """A NWK-secured frame's plaintext and auxiliary header."""
        if not nwk.secured:
            raise FrameError("unsecured frame after joining")
        aux, secret = parse_aux(nwk.payload)
        if aux.key_id != 1 or aux.key_seq != self.key.key_seq:
            raise FrameError("other key or key sequence number")
        if aux.counter == 0xFFFFFFFF or aux.counter < self.peer_next.get(aux.source, 0):
            self.note_stale(nwk, aux, secret)
            raise FrameError("NWK frame counter not fresh")
        plain = open_secured(self.key.key, nwk.header, aux, secret)
        self.heard[aux.source, aux.counter] = (nwk.header, nwk.payload)
        self.peer_next[aux.source] = aux.counter + 1
        return plain, aux

    def downlink(self, f):
        """A frame from the network: checked as a device does, then obeyed. An end device listens to its parent only."""
        if f.src != self.parent:
            return
        nwk = parse_nwk(f.payload)
        plain, aux = self.open(nwk)
        if nwk.dst in (self.radio.short, 0xFFFF, NWK_BROADCAST_RX_ON):
            self.hear_own(nwk, plain, aux)

    def hear_own(self, nwk, plain: bytes, aux):
        if self.hear_coordinator(plain, nwk.fcf & 3 == 1, aux.counter):
            return
        aps = parse_aps_data(plain)
        if aps is None or len(aps.payload) < 3:
            event("downlink", nwk_source=f"{nwk.src:04x}", aps=plain[:1].hex(), counter=aux.counter)
            return
        event("downlink", endpoint=aps.dst_endpoint, cluster=f"{aps.cluster:04x}", zcl=aps.payload.hex(),
              counter=aux.counter)
        if aps.cluster == CLUSTER_ON_OFF and aps.payload[0] & 3 == 1 and aps.payload[2] in (0, 1, 2):
            self.on = not self.on if aps.payload[2] == 2 else bool(aps.payload[2])
            event("on-off", on=self.on)
            self.report(CLUSTER_ON_OFF, 0, "bool", self.on)

    def run(self):
        """Report as asked and obey commands, until --reports are sent and --linger has passed."""
        sent, start = 0, time.monotonic() + self.args.first_report
        for r in self.args.report:
            r.due = start
        end = None
        while end is None or time.monotonic() < end:
            now = time.monotonic()
            for r in self.args.report:
                if now >= r.due and (not self.args.reports or sent < self.args.reports):
                    self.report(r.cluster, r.attribute, r.type, r.value)
                    r.due, sent = now + r.interval, sent + 1
            if self.args.rejoin and sent >= self.args.rejoin_after:
                how, self.args.rejoin = self.args.rejoin, None
                if not self.rejoin(how == "secured"):
                    return 1
            if end is None and self.args.reports and sent >= self.args.reports:
                end = now + self.args.linger
            self.hear(self.next_frame(POLL_INTERVAL if self.args.sleepy else 0.05))
        return 0


def eui64(text: str) -> int:
    digits = text.replace(":", "").replace("-", "")
    if len(digits) != 16:
        raise argparse.ArgumentTypeError("want 16 hex digits")
    return int(digits, 16)


def medium(text: str) -> tuple[str, int]:
    group, _, port = text.rpartition(":")
    return group, int(port)


def short_address(text: str) -> int:
    return int(text, 16)


def arguments(argv: list | None = None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--eui64", type=eui64, required=True)
    secret = p.add_mutually_exclusive_group()
    secret.add_argument("--install-code-file", metavar="F", help="code||CRC in hex; default: standard input")
    secret.add_argument("--link-key-file", metavar="F", help="a ready link key, 32 hex digits")
    p.add_argument("--medium", type=medium, default=("224.0.0.116", 9000), metavar="GROUP:PORT")
    p.add_argument("--channel", type=int, default=15)
    p.add_argument("--pan", type=short_address, help="join this PAN only (hex)")
    p.add_argument("--parent", type=short_address, metavar="SHORT", help="join through this one only (hex)")
    p.add_argument("--rejoin-parent", type=short_address, metavar="SHORT", help="rejoin through this one (hex)")
    p.add_argument("--sleepy", action="store_true", help="poll for frames instead of listening")
    p.add_argument("--router", action="store_true", help="associate as a full-function device")
    p.add_argument("--picky", action="store_true", help="take only the plain 62-byte Transport-Key, as some devices do")
    p.add_argument("--key-timeout", type=int, default=1700, metavar="MS", help="apsSecurityTimeOutPeriod")
    p.add_argument("--attempts", type=int, default=3)
    p.add_argument("--rejoin", choices=("secured", "trust-centre"), help="once, after --rejoin-after reports; with --again: instead of a reset")
    p.add_argument("--rejoin-after", type=int, default=2, metavar="REPORTS")
    p.add_argument("--revision", type=int, default=22, help="of the stack; below 21: no link key is exchanged")
    p.add_argument("--answer-time", type=float, default=5.0, metavar="SECONDS", help="wait for each answer of the exchange")
    p.add_argument("--report", type=Report, action="append", default=[], metavar="CLUSTER/ATTR/TYPE/VALUE/SECONDS")
    p.add_argument("--reports", type=int, default=0, help="end after so many (0: go on)")
    p.add_argument("--first-report", type=float, default=0.3, metavar="SECONDS", help="wait after joining")
    p.add_argument("--linger", type=float, default=0.5, metavar="SECONDS", help="listen after the last report")
    p.add_argument("--again", action="store_true", help="join anew when done, as after a factory reset, until SIGUSR1: then stay")
    p.add_argument("--counter", type=int, default=0, help="first outgoing NWK frame counter")
    p.add_argument("--seed", type=int, help="of sequence numbers")
    p.add_argument("--key-out", metavar="F", help="tests only: write the network key here (mode 0600)")
    return p.parse_args(argv)


def link_key(args) -> bytes:
    if args.link_key_file:
        with open(args.link_key_file) as f:
            return bytes.fromhex(f.read().strip())
    text = open(args.install_code_file).read() if args.install_code_file else sys.stdin.readline()
    return link_key_of(bytes.fromhex(text.replace("-", "").strip()))


def main(device=Joiner) -> int:
    args = arguments()
    try:
        key = link_key(args)
    except (ValueError, OSError) as e:
        print(f"joiner: {e}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGUSR1, lambda *_: setattr(args, "reports", 0))
    joiner = device(args, key)
    how = args.rejoin if args.again else None
    args.rejoin = None if args.again else args.rejoin
    joined = joiner.join()
    while joined:
        status = joiner.run() if args.report or not args.reports else 0
        if status or not args.again:
            return status
        joined = (how is not None and joiner.rejoin(how == "secured")) or joiner.join()
    event("failed")
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(0)
