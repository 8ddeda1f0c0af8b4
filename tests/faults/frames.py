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
from zbcodec import (APS_COMMAND, CMD_TRANSPORT_KEY, KEY_DATA, KEY_LOAD, KEY_NWK, FrameError, eui_text,  # noqa: E402
                     link_key_of, open_aps_command, open_secured, open_transport_key, parse_aux, parse_link_key, parse_nwk)

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
    def __init__(self, gateways: list):
        self.gateways = {int(g, 16) for g in gateways}
        self.lock = threading.RLock()
        self.link_keys, self.network_keys = {}, {}  # EUI-64 text -> keys, the newest last
        self.issued = {}    # (key, source, counter) -> who got the number
        self.sent = {}      # (key, source, counter) -> the frame it went out in
        self.seen = {}      # NWK frame radiated -> (time, MAC sequence number)
        self.checked = Counter()

    def learn_code(self, eui: str, code: str):
        self._learn(self.link_keys, eui, link_key_of(bytes.fromhex(code)))

    def learn_key(self, eui: str, key: bytes):
        self._learn(self.network_keys, eui, key)

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
            tk, link_key = self._open_first_key(frame, [eui])
            self._issue(link_key, tk.source, tk.counter, ("response", gateway, transaction))
            self._send(link_key, tk.source, tk.counter, frame)
            self.checked["frames returned"] += 1
            return tk.key, link_key

    def _open_first_key(self, frame: bytes, candidates) -> tuple:
        nwk = parse_nwk(frame)
        for eui in candidates:
            for link_key in reversed(self.link_keys.get(eui, [])):
                try:
                    tk = open_transport_key(nwk, link_key, int(eui, 16), 0)
                except FrameError:
                    continue
                self.learn_key(eui, tk.key)
                return tk, link_key
        raise Violation(f"no link key opens the first key {frame.hex()}")

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
                if self._first_time(when, mac):
                    tk, link_key = self._open_first_key(mac.payload, on_air)
                    self._send(link_key, tk.source, tk.counter, mac.payload)
                    self.checked["first keys radiated"] += 1
                return
            aux, secret = parse_aux(nwk.payload)
            if aux.source not in self.gateways:
                self.checked["device frames heard"] += 1
            elif self._first_time(when, mac):
                key, eui, plain = self._opener(nwk, aux, secret, on_air)
                self._send(key, aux.source, aux.counter, mac.payload)
                if plain and plain[0] & 0x23 == APS_COMMAND | 0x20:
                    self._exchanged(eui, aux.source, plain)
                self.checked["secured frames radiated"] += 1

    def _first_time(self, when: float, mac) -> bool:
        """A MAC retransmission is no second use; the same frame long afterwards is."""
        before = self.seen.setdefault(mac.payload, (when, mac.seq))
        if before == (when, mac.seq):
            return True
        if when - before[0] > REPEAT_WITHIN:
            raise Violation(f"radiated again after {when - before[0]:.1f} s: {mac.payload.hex()}")
        self.checked["radiated again by the MAC"] += 1
        return False

    def _exchanged(self, eui: str, source: int, aps: bytes):
        """An APS command under a link key: its number, and the link key that it may carry."""
        for link_key in reversed(self.link_keys.get(eui, [])):
            for key_id in (KEY_LOAD, KEY_DATA):
                try:
                    command, counter = open_aps_command(aps, link_key, key_id, source, 0)
                except FrameError:
                    continue
                self._send(link_key, source, counter, aps)
                if command[0] == CMD_TRANSPORT_KEY:
                    self._learn(self.link_keys, eui, parse_link_key(command, int(eui, 16), source, link_key))
                self.checked["commands under link keys"] += 1
                return
        raise Violation(f"no link key opens a command for {eui}: {aps.hex()}")

    def _opener(self, nwk, aux, secret, on_air) -> tuple[bytes, str, bytes]:
        for eui in on_air:
            for key in reversed(self.network_keys.get(eui, [])):
                try:
                    return key, eui, open_secured(key, nwk.header, aux, secret)
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
