"""zbgwd between simulated radios and an EG made of nothing but this file: what the tests of it share.
The program is the first argument of whoever imports this, which takes it away."""
import os
import pathlib
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
SIM = HERE.parent / "sim"
sys.path[:0] = [str(HERE), str(SIM), str(HERE.parent / "e2e")]
import egp  # noqa: E402
from radio import Radio  # noqa: E402
from stack import free_port  # noqa: E402
from zbcodec import AESCCM, eui_bytes, keyed_hash, link_key_of, seal_nwk  # noqa: E402

ZBGWD = sys.argv.pop(1) if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else "zbgwd"
CODE = bytes.fromhex("83FED3407A939723A5C639B26916D505C3B5")
GATEWAY, PAN, CHANNEL = 0x00124B001CA1B2C3, 0x1A62, 15
NETWORK_KEY = bytes(range(15, -1, -1))


def first_key(device: int, short: int, counter: int) -> bytes:
    """The 62-byte frame with the first Transport-Key (facts: NWK FCF 0x0008, key-transport key, gateway as source)."""
    transport = keyed_hash(link_key_of(CODE), b"\x00")
    command = b"\x05\x01" + NETWORK_KEY + b"\x00" + eui_bytes(device) + eui_bytes(GATEWAY)
    aps, aux = b"\x21\x10", struct.pack("<I", counter) + eui_bytes(GATEWAY)
    nonce = eui_bytes(GATEWAY) + struct.pack("<I", counter) + b"\x35"
    sealed = AESCCM(transport, tag_length=4).encrypt(nonce, command, aps + b"\x35" + aux)
    return struct.pack("<HHHBB", 0x0008, short, 0, 30, 0x70) + aps + b"\x30" + aux + sealed


def sealed_frame(dst: int, counter: int, payload=b"\x00" * 12) -> bytes:
    header = struct.pack("<HHHBB", 0x0208, dst, 0, 30, counter & 255)
    return seal_nwk(NETWORK_KEY, header, counter, GATEWAY, 0, payload)


class Eg(threading.Thread):
    """The other end of zbgwd's line. `answer(message)` gives the bytes to send back, or None."""

    def __init__(self, open_line, answer):
        super().__init__(daemon=True)
        self.answer, self.heard, self.changed = answer, [], threading.Condition()
        self.read, self.write, self.close_line = open_line()
        self.ended = False
        self.start()

    def run(self):
        deframer = egp.Deframer()
        while not self.ended:
            try:
                data = self.read()
            except OSError:
                return
            if data == b"":
                return
            for raw in deframer.feed(data or b""):
                m = egp.Message(raw)
                with self.changed:
                    self.heard.append(m)
                    self.changed.notify_all()
                reply = self.answer(m)
                try:
                    if reply is not None:
                        self.write(egp.frame(reply))
                except OSError:
                    return  # zbgwd has ended

    def send(self, *args):
        self.write(egp.frame(egp.message(*args)))

    def wait(self, want, timeout=4.0):
        """The first message heard for which want(m) holds."""
        end = time.monotonic() + timeout
        with self.changed:
            while True:
                for m in self.heard:
                    if want(m):
                        return m
                left = end - time.monotonic()
                if left <= 0:
                    raise AssertionError("not heard; heard types " + str([m.type for m in self.heard]))
                self.changed.wait(left)

    def all(self, type_):
        with self.changed:
            return [m for m in self.heard if m.type == type_]

    def close(self):
        self.ended = True
        self.close_line()
        self.join(2)


def tcp_line(port):
    def open_line():
        s = socket.create_connection(("127.0.0.1", port), 5)
        s.settimeout(None)
        return lambda: s.recv(4096), s.sendall, lambda: s.shutdown(socket.SHUT_RDWR)
    return open_line


def pty_line(path):
    def open_line():
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY)

        def read():
            ready, _, _ = select.select([fd], [], [], 0.2)
            return os.read(fd, 4096) if ready else None
        return read, lambda b: os.write(fd, b), lambda: None
    return open_line


def approve(m):
    """An EG that has an install code for every device."""
    if m.type != egp.REQUEST:
        return None
    short, capability = m.body[1], m.body[4]
    return egp.message(egp.RESPONSE, m.transaction, m.gateway, m.device, egp.TO_GATEWAY,
                       [0, short, not capability & 8, first_key(m.device, short, 4096)])


def refuse(reason):
    def answer(m):
        if m.type != egp.REQUEST:
            return None
        return egp.message(egp.RESPONSE, m.transaction, m.gateway, m.device, egp.TO_GATEWAY, [reason, 0, False, b""])
    return answer


class Peer:
    """A bare 802.15.4 device under the test's control."""

    def __init__(self, medium_port, eui):
        self.radio = Radio("224.0.0.116", medium_port, CHANNEL, eui, random.Random(eui))
        self.radio.pan, self.eui = PAN, eui
        self.socket = self.radio.rx

    def emit(self, psdu):
        self.radio._emit(psdu)

    def ack_of(self, seq, timeout=1.0):
        """The acknowledgement of our frame: its frame-pending bit, or None."""
        f = self.next(lambda p: len(p) == 3 and p[0] & 7 == 2 and p[2] == seq, timeout)
        return None if f is None else bool(f[0] & 0x10)

    def next(self, want, timeout=1.0):
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            if select.select([self.socket], [], [], left)[0]:
                psdu = self.socket.recv(200)[1:-2]
                if want(psdu):
                    return psdu
        return None

    def acknowledge(self, psdu):
        self.emit(bytes([2, 0, psdu[2]]))

    def associate(self, seq=1, capability=0x80):
        self.emit(bytes.fromhex("23c8") + bytes([seq]) + struct.pack("<HHH", PAN, 0, 0xFFFF) + eui_bytes(self.eui) +
                  bytes([1, capability]))
        assert self.ack_of(seq) is False

    def poll(self, seq, short=None, acknowledge=True):
        """Poll by extended or short address; the frame that follows, or None when the ack says none waits."""
        if short is None:
            self.emit(bytes.fromhex("63c8") + bytes([seq]) + struct.pack("<HH", PAN, 0) + eui_bytes(self.eui) + b"\x04")
        else:
            self.emit(bytes.fromhex("6388") + bytes([seq]) + struct.pack("<HHH", PAN, 0, short) + b"\x04")
        if not self.ack_of(seq):
            return None
        us = eui_bytes(self.eui)
        f = self.next(lambda p: len(p) > 12 and (p[5:13] == us or (short is not None and p[:1] in (b"\x61", b"\x71")
                                                                   and p[5:7] == struct.pack("<H", short))))
        if f is not None and acknowledge:
            self.acknowledge(f)
        return f


class ZbgwdCase(unittest.TestCase):
    line_form = "tcp"

    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        d = pathlib.Path(self.dir.name)
        self.medium = free_port(socket.SOCK_DGRAM)
        self.tcp, self.pty = free_port(socket.SOCK_STREAM), d / "egp"
        line = f"tcp-listen:127.0.0.1:{self.tcp}" if self.line_form == "tcp" else f"pty:{self.pty}"
        (d / "zbgwd.conf").write_text(f"[gateway]\neui64 = {GATEWAY:016x}\npan-id = {PAN:04x}\nchannel = {CHANNEL}\n"
                                      f"extended-pan-id = dddddddddddddddd\nmax-frames = 4\nstate-file = devices\n"
                                      f"[radio]\ndriver = udp:224.0.0.116:{self.medium}\n[egp]\nline = {line}\n")
        self.pcap = d / "air.pcap"
        self.log = open(d / "log", "w+")
        self.egs = []
        self.begin()

    def begin(self):
        self.process = subprocess.Popen([ZBGWD, "--config", pathlib.Path(self.dir.name) / "zbgwd.conf", "--pcap", self.pcap],
                                        stderr=self.log)

    def tearDown(self):
        for e in self.egs:
            e.close()
        alive = self.process.poll() is None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(5)
        self.log.seek(0)
        text = self.log.read()
        self.log.close()
        self.dir.cleanup()
        self.assertTrue(alive and code == 0, f"zbgwd ended with {code}: {text}")

    def eg(self, answer=lambda m: None):
        open_line = tcp_line(self.tcp) if self.line_form == "tcp" else pty_line(self.pty)
        end = time.monotonic() + 5
        while True:
            try:
                e = Eg(open_line, answer)
                break
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)
        self.egs.append(e)
        e.wait(lambda m: m.type == egp.HELLO)
        return e

    def join(self, *options, eui=0x00158D0003123456, timeout=20):
        return subprocess.run([sys.executable, SIM / "joiner.py", "--eui64", f"{eui:016x}", "--medium",
                               f"224.0.0.116:{self.medium}", "--report", "0x0402/0/s16/2150/0.1", "--reports", "1",
                               "--attempts", "1", "--revision", "20",  # the peer exchanges no link keys
                               *options], input=CODE.hex(), capture_output=True, text=True, timeout=timeout)

    def joined_peer(self, eg, eui=0x00158D0003AAAA01):
        """A sleepy device with its key, its queue empty."""
        p = Peer(self.medium, eui)
        p.associate()
        eg.wait(lambda m: m.type == egp.REQUEST and m.device == eui)
        f = p.poll(2)
        short = struct.unpack("<H", f[-3:-1])[0]
        deadline = time.monotonic() + 2
        while (key := p.poll(3, short)) is None and time.monotonic() < deadline:
            pass
        self.assertEqual(key[9:], first_key(eui, short, 4096))
        eg.wait(lambda m: m.type == egp.TX_RESULT and m.device == eui)
        return p, short
