#!/usr/bin/python3
"""Many simulated devices at one gateway, in one process: the radio medium once, and what is for a device handed to its
thread. Frames are acknowledged and their times taken (by the kernel, when they came) before any device looks at them.

Standard input: {"group", "port", "channel", "patience", "devices": [{"eui", "code", "sleepy", "at", "seed"}]}, one line, and when
this has answered "ready" the moment at which all begins, as time.monotonic() has it. Standard output: a JSON object for
each device."""
import json
import queue
import random
import socket
import struct
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sim"))
import joiner  # noqa: E402
from radio import BROADCAST, FRAME_ACK, FRAME_BEACON, FRAME_COMMAND, FRAME_DATA, MacFrame, Radio  # noqa: E402
from zbcodec import fcs, link_key_of  # noqa: E402

SO_TIMESTAMPNS = 35  # Linux
ATTEMPTS = 20  # of a device; its time counts from the first
ASSOCIATION_REQUEST, ASSOCIATION_RESPONSE = 1, 2
NWK_SECURED = 0x0200


class Station(Radio):
    """The radio of one of a cell's devices."""

    def __init__(self, cell: "Cell", eui: int, rng: random.Random):
        self.cell, self.channel, self.eui = cell, cell.channel, eui
        self.pan, self.short = BROADCAST, BROADCAST
        self.seq = rng.randrange(256)
        self.queue, self.seen = queue.deque(maxlen=64), {}
        self.inbox = queue.SimpleQueue()
        self.awaits = None  # sequence number of the frame that is to be acknowledged
        # nanoseconds since 1970, None: not yet
        self.asked = None   # when it asked to associate first
        self.keyed = None   # when its first key was radiated first
        self.heard = None   # when the frame that it took last was radiated

    def _emit(self, psdu: bytes):
        if psdu[0] & 0x20:
            self.awaits = psdu[2]
        self.cell.emit(psdu)

    def _pump(self, timeout: float) -> MacFrame | None:
        try:
            frame = self.inbox.get(timeout=max(timeout, 0))
        except queue.Empty:
            return None
        if frame.type == FRAME_ACK:
            return frame
        self.heard = frame.at
        self.queue.append(frame)
        return None

    def catch_up(self):
        """The cell hands over no acknowledgement but that which is awaited."""

    def slept(self):
        """Nothing is lost: what came meanwhile the cell has acknowledged for it."""

    def take(self, f: MacFrame):
        """What the hardware does with a frame for us."""
        if f.ack_request and f.dst != BROADCAST:
            self.cell.emit(struct.pack("<HB", FRAME_ACK, f.seq))
            if self.seen.get(f.src) == f.seq:
                return
            self.seen[f.src] = f.seq
        if f.type == FRAME_COMMAND and f.payload[:1] == bytes([ASSOCIATION_RESPONSE]) and f.payload[3:4] == b"\0":
            self.short = struct.unpack_from("<H", f.payload, 1)[0]
        first = f.type == FRAME_DATA and f.dst == self.short and self.keyed is None and len(f.payload) > 2
        if first and not struct.unpack_from("<H", f.payload)[0] & NWK_SECURED:
            self.keyed = f.at
        self.inbox.put(f)


class Cell:
    """The medium around one gateway."""

    def __init__(self, group: str, port: int, channel: int):
        radio = Radio(group, port, channel, 0, random.Random(0))  # opens the sockets
        self.rx, self.tx, self.group, self.port, self.channel = radio.rx, radio.tx, group, port, channel
        self.stations = {}
        self.rx.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.rx.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.own = self.tx.getsockname()

    def start(self):
        """No station is added any more."""
        threading.Thread(target=self._run, daemon=True).start()

    def station(self, eui: int, rng: random.Random) -> Station:
        self.stations[eui] = s = Station(self, eui, rng)
        return s

    def emit(self, psdu: bytes):
        self.tx.sendto(bytes([self.channel]) + psdu + fcs(psdu), (self.group, self.port))

    def _run(self):
        while True:
            data, more, _, sender = self.rx.recvmsg(256, 64)
            psdu = data[1:-2]
            if data[:1] != bytes([self.channel]) or fcs(psdu) != data[-2:]:
                continue
            try:
                frame = MacFrame(psdu)
            except (ValueError, struct.error):
                continue
            seconds, nanoseconds = struct.unpack("qq", more[0][2])
            frame.at = seconds * 10**9 + nanoseconds
            (self._sent if sender == self.own else self._heard)(frame)

    def _sent(self, f: MacFrame):
        """One of ours, as multicast returns it."""
        if f.type == FRAME_COMMAND and f.payload[:1] == bytes([ASSOCIATION_REQUEST]):
            station = self.stations[f.src]
            station.asked = station.asked or f.at

    def _heard(self, f: MacFrame):
        for s in self.stations.values():
            if f.type == FRAME_ACK and s.awaits == f.seq:
                s.awaits = None
                s.inbox.put(f)
            elif f.type == FRAME_BEACON and s.pan == BROADCAST or f.type in (FRAME_COMMAND, FRAME_DATA) and s._for_us(f):
                s.take(f)


class Join(threading.Thread):
    """One device's life, from its beacon request to its Confirm-Key."""

    def __init__(self, cell: Cell, eui: str, code: str, sleepy: bool, at: float, seed: int):
        super().__init__(daemon=True)
        self.eui, self.at, self.events, self.done = eui, at, [], False
        argv = ["--eui64", eui, "--seed", str(seed), "--attempts", str(ATTEMPTS)] + ["--sleepy"] * sleepy
        self.station = cell.station(int(eui, 16), random.Random(seed))
        self.device = joiner.Joiner(joiner.arguments(argv), link_key_of(bytes.fromhex(code)), self.station)

    def run(self):
        time.sleep(max(self.at - time.monotonic(), 0))
        self.done = self.device.join() and self.device.exchange.confirmed

    def result(self) -> dict:
        s, scans = self.station, sum(e["event"] == "scan" for e in self.events)
        return {"eui": self.eui, "asked": s.asked, "keyed": s.keyed, "confirmed": s.heard if self.done else None, "attempts": scans,
                "last": self.events[-3:]}


def note(name: str, **fields):
    """The joiner's events stay with its thread."""
    threading.current_thread().events.append({"event": name, **fields})


def main():
    plan = json.loads(sys.stdin.readline())
    joiner.event = note
    threading.stack_size(512 * 1024)
    cell = Cell(plan["group"], plan["port"], plan["channel"])
    joins = [Join(cell, **device) for device in plan["devices"]]
    cell.start()
    print("ready", flush=True)
    begin = float(sys.stdin.readline())
    for j in joins:
        j.at += begin
        j.start()
    for j in joins:
        j.join(max(begin + plan["patience"] - time.monotonic(), 0.001))
    for j in joins:
        print(json.dumps(j.result()))


if __name__ == "__main__":
    main()
