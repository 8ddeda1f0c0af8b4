"""No (key, source, counter) twice, over every frame radiated, every frame in an EgResponse and every ticket of a run."""
import struct
import sys
import threading
from collections import Counter
from pathlib import Path

from stack import SIM
from ledger import Violation

sys.path.insert(0, str(SIM))
from radio import FRAME_DATA, MacFrame  # noqa: E402
from router import APS_REMOVE_DEVICE, APS_TUNNEL  # noqa: E402
from zbcodec import (APS_COMMAND, CMD_TRANSPORT_KEY, KEY_DATA, KEY_LOAD, KEY_NWK, FrameError, eui_text,  # noqa: E402
                     link_key_of, open_aps_command, open_first_key, open_secured, parse_aux, parse_link_key, parse_nwk)

GATEWAY = 0x0000
REPEAT_WITHIN = 10      # s: a frame that no poll fetched is radiated again until its 7.68 s are over; stalls come on top


class PcapTail:
    """The records of a growing pcap file, each once: (time, PSDU without FCS)."""

    def __init__(self, path: Path):
        self.file, self.rest = open(path, "rb"), b""
        self.file.seek(24)

    def read(self):
        data, at = self.rest + self.file.read(), 0
        while at + 16 <= len(data):
            seconds, micros, size, _ = struct.unpack_from("<IIII", data, at)
            if at + 16 + size > len(data):
                break
            yield seconds + micros / 1e6, data[at + 16:at + 16 + size - 2]
            at += 16 + size
        self.rest = data[at:]


class Frames:
    """family: the devices that share a key; every other has a key that no other has."""

    def __init__(self, gateways: list):
        self.gateways, self.family = {int(g, 16) for g in gateways}, set()
        self.lock = threading.RLock()
        self.link_keys, self.network_keys = {}, {}  # EUI-64 text -> keys, the newest last
        self.holders = {}   # network key -> devices that were sent it
        self.issued = {}    # (key, source, counter) -> who got the number
        self.sent = {}      # (key, source, counter) -> the frame it went out in
        self.seen = {}      # NWK frame radiated -> (time, MAC sequence number)
        self.checked = Counter()

    def learn_code(self, eui: str, code: str):
        self._learn(self.link_keys, eui, link_key_of(bytes.fromhex(code)))

    def learn_key(self, eui: str, key: bytes):
        with self.lock:
            self._learn(self.network_keys, eui, key)
            holders = self.holders.setdefault(key, [])
            if eui not in holders:
                holders.append(eui)
            if len(holders) > 1 and not self.family.issuperset(holders):
                raise Violation(f"{' and '.join(holders)} share a key")

    def _learn(self, table: dict, eui: str, key: bytes):
        with self.lock:
            keys = table.setdefault(eui, [])
            if key not in keys:
                keys.append(key)

    # --- uses of a number ----------------------------------------------------------------------------------------------

    def _issue(self, key: bytes, source: int, counter: int, to: tuple):
        if self.issued.setdefault((key, source, counter), to) != to:
            raise Violation(f"counter {counter} of {eui_text(source)} was given twice under one key: to "
                            f"{self.issued[key, source, counter]} and to {to}")

    def _send(self, key: bytes, source: int, counter: int, frame: bytes):
        if self.sent.setdefault((key, source, counter), frame) != frame:
            raise Violation(f"counter {counter} of {eui_text(source)} is in two frames under one key: "
                            f"{self.sent[key, source, counter].hex()} and {frame.hex()}")

    def ticket(self, eui: str, key: bytes, source: str, first: int, count: int, serial: int):
        with self.lock:
            self.learn_key(eui, key)
            for counter in range(first, first + count):
                self._issue(key, int(source, 16), counter, ("ticket", serial))
            self.checked["ticket numbers"] += count

    def returned(self, gateway: str, transaction: int, eui: str, frame: bytes) -> tuple[bytes, bytes]:
        """The frame of an EgResponse; (network key, link key) that it opens to."""
        with self.lock:
            tk, link_key = self._open_first_key(parse_nwk(frame).payload, [eui])
            self._issue(link_key, tk.source, tk.counter, ("response", gateway, transaction))
            self._send(link_key, tk.source, tk.counter, frame)
            self.checked["frames returned"] += 1
            return tk.key, link_key

    def _open_first_key(self, aps: bytes, candidates) -> tuple:
        for eui in candidates:
            for link_key in reversed(self.link_keys.get(eui, [])):
                try:
                    tk = open_first_key(aps, link_key, int(eui, 16), 0)
                except FrameError:
                    continue
                self.learn_key(eui, tk.key)
                return tk, link_key
        raise Violation(f"no link key opens the first key {aps.hex()}")

    # --- the air -------------------------------------------------------------------------------------------------------

    def radiated(self, when: float, psdu: bytes, on_air: list):
        """One PSDU; on_air: the devices that it may be for. What devices send themselves is only counted."""
        try:
            mac = MacFrame(psdu)
        except (ValueError, struct.error, IndexError):
            return
        if mac.type != FRAME_DATA or len(mac.payload) < 8:
            return
        nwk = parse_nwk(mac.payload)
        with self.lock:
            if not nwk.secured and nwk.fcf & 3 == 1:
                self.checked["bare rejoins"] += 1  # no key, no counter
                return
            if not nwk.secured:
                self._first_key(when, mac, nwk.payload, on_air)
                return
            aux, secret = parse_aux(nwk.payload)
            if aux.source not in self.gateways:
                self.checked["device frames heard"] += 1
            elif self._first_time(when, mac):
                key, holders, plain = self._opener(nwk, aux, secret, on_air)
                self._send(key, aux.source, aux.counter, mac.payload)
                self._command(holders, aux.source, plain, nwk.fcf & 3)
                self.checked["secured frames radiated"] += 1
                self.checked["of these under a shared key"] += len(holders) > 1

    def _first_key(self, when: float, mac, aps: bytes, on_air: list):
        """By the gateway; or by a router, which hands on what was tunnelled to it, as it was."""
        tunnelled = mac.src != GATEWAY
        if not tunnelled and not self._first_time(when, mac):
            return
        tk, link_key = self._open_first_key(aps, on_air)
        if tunnelled and (link_key, tk.source, tk.counter) not in self.sent:
            raise Violation(f"a router hands on what was not tunnelled: {aps.hex()}")
        self._send(link_key, tk.source, tk.counter, aps if tunnelled else mac.payload)
        self.checked["first keys handed on" if tunnelled else "first keys radiated"] += 1

    def _first_time(self, when: float, mac) -> bool:
        """A MAC retransmission is no second use; the same frame long afterwards is."""
        before = self.seen.setdefault(mac.payload, (when, mac.seq))
        if before == (when, mac.seq):
            return True
        if when - before[0] > REPEAT_WITHIN:
            raise Violation(f"radiated again after {when - before[0]:.1f} s: {mac.payload.hex()}")
        self.checked["radiated again by the MAC"] += 1
        return False

    def _command(self, holders: list, source: int, aps: bytes, kind: int):
        """An APS command under a link key, or what a Tunnel carries: that has a number, too."""
        if kind != 0 or not aps or aps[0] & 3 != APS_COMMAND:
            return
        if aps[0] & 0x20:
            self._exchanged(holders, source, aps)
        elif len(aps) > 11 and aps[2] == APS_TUNNEL:
            tk, link_key = self._open_first_key(aps[11:], [eui_text(*struct.unpack_from("<Q", aps, 3))])
            self._send(link_key, tk.source, tk.counter, aps[11:])
            self.checked["first keys tunnelled"] += 1

    def _exchanged(self, holders: list, source: int, aps: bytes):
        """Its number, and the link key that it may carry."""
        for eui, link_key in ((e, k) for e in holders for k in reversed(self.link_keys.get(e, []))):
            for key_id in (KEY_LOAD, KEY_DATA):
                try:
                    command, counter = open_aps_command(aps, link_key, key_id, source, 0)
                except FrameError:
                    continue
                self._send(link_key, source, counter, aps)
                if command[0] == CMD_TRANSPORT_KEY:
                    self._learn(self.link_keys, eui, parse_link_key(command, int(eui, 16), source, link_key))
                self.checked["commands under link keys"] += 1
                self.checked["Remove-Device"] += command[0] == APS_REMOVE_DEVICE
                return
        raise Violation(f"no link key opens a command for {' or '.join(holders)}: {aps.hex()}")

    def _opener(self, nwk, aux, secret, on_air) -> tuple[bytes, list, bytes]:
        """The key, all devices that have it, and what it opens."""
        for eui in on_air:
            for key in reversed(self.network_keys.get(eui, [])):
                try:
                    return key, self.holders[key], open_secured(key, nwk.header, aux, secret)
                except FrameError:
                    continue
        raise Violation(f"no network key opens {nwk.header.hex()} {nwk.payload.hex()}" if aux.key_id == KEY_NWK else
                        f"a radiated frame under key id {aux.key_id}")


class Sniffer:
    """The stack's sniffer, read while it writes."""

    def __init__(self, stack, frames: Frames):
        self.frames, path = frames, stack.folder / "air.pcap"
        import os
        ready, inlet = os.pipe()
        self.process = stack.sniff(path, inlet)
        os.close(inlet)
        os.read(ready, 1)
        os.close(ready)
        self.tail = PcapTail(path)

    def check(self, on_air: list):
        for when, psdu in self.tail.read():
            self.frames.radiated(when, psdu, on_air)
