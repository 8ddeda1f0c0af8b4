"""What passes between two programs, passed on and written down."""
import contextlib
import os
import pty
import select
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
import tty
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "interop"))
from relay import Relay  # noqa: E402


class Record:
    """Files NAME.up and NAME.down of a folder; up is from the client, the gateway or the AE towards mefd."""

    def __init__(self, folder: Path, name: str):
        self.lock = threading.Lock()
        self.files = {d: open(folder / f"{name}.{d}", "ab", buffering=0) for d in ("up", "down")}

    def __call__(self, direction: str, data: bytes):
        with self.lock:
            self.files[direction].write(data)

    def close(self):
        for f in self.files.values():
            f.close()


class UdpTap(Relay):
    """A relay that loses nothing and writes a pcap file, for tshark to open with a pre-shared key."""

    RAW_IP, SERVER = 101, 5684

    def __init__(self, port: int, pcap: Path):
        self.lock, self.file = threading.Lock(), open(pcap, "wb", buffering=0)
        self.file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, self.RAW_IP))
        super().__init__("127.0.0.1", port, 0, loss=0, double=0, late=0, tap=self._write)

    def _write(self, direction: str, data: bytes, client: tuple):
        here, there = socket.inet_aton("127.0.0.1"), socket.inet_aton("127.0.0.2")
        source, target = ((here, client[1]), (there, self.SERVER)) if direction == "up" else ((there, self.SERVER), (here, client[1]))
        ip = struct.pack(">BBHIBBH4s4s", 0x45, 0, 28 + len(data), 0, 64, 17, 0, source[0], target[0])
        packet = ip + struct.pack(">HHHH", source[1], target[1], 8 + len(data), 0) + data
        now = time.time_ns() // 1000
        with self.lock:
            self.file.write(struct.pack("<IIII", now // 1000000, now % 1000000, len(packet), len(packet)) + packet)


def opened_dtls(pcap: Path, key: bytes, home: Path) -> list:
    """What was said in the DTLS sessions of a pre-shared key, record by record."""
    done = subprocess.run(["tshark", "-r", pcap, "-o", f"dtls.psk:{key.hex()}", "-d", f"udp.port=={UdpTap.SERVER},dtls", "-Y", "dtls",
                           "-x"], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home)})
    records, inside = [], False
    for line in done.stdout.splitlines():
        if line.startswith(("Decrypted DTLS", "Frame (", "Reassembled")) or not line:
            inside = line.startswith("Decrypted DTLS")
            records += [b""] if inside else []
        elif inside:
            records[-1] += bytes.fromhex(line[6:53])
    return records


class TcpTap:
    """Clients connect to self.port; each connection is carried on to `port`, half-closes too."""

    def __init__(self, port: int, record: Record):
        self.server, self.record = port, record
        self.front = socket.create_server(("127.0.0.1", 0))
        self.port = self.front.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.front.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self.server))
                except OSError:
                    client.close()
                    continue
                for direction, a, b in (("up", client, server), ("down", server, client)):
                    threading.Thread(target=self._carry, args=(direction, a, b), daemon=True).start()

    def _carry(self, direction, a, b):
        with contextlib.suppress(OSError):
            while data := a.recv(65536):
                self.record(direction, data)
                b.sendall(data)
        with contextlib.suppress(OSError):
            b.shutdown(socket.SHUT_WR)

    def close(self):
        with contextlib.suppress(OSError):
            self.front.shutdown(socket.SHUT_RDWR)
        self.front.close()


class PtyTap:
    """A wire between zbgwd's pseudo-terminal and one of its own, at which ipe-nid finds its line."""

    def __init__(self, gateway_end: Path, ipe_end: Path, record: Record):
        self.record = record
        self.gateway = os.open(gateway_end, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self.gateway, termios.TCSANOW)  # zbgwd's Hello may be there already: the default would drop it
        self.ipe, self.slave = pty.openpty()  # the slave stays open, so that ipe-nid may come and go
        tty.setraw(self.slave)
        ipe_end.symlink_to(os.ttyname(self.slave))
        self.stop, wake = os.pipe()
        self.wake = wake
        self.thread = threading.Thread(target=self._carry, daemon=True)
        self.thread.start()

    def _carry(self):
        with contextlib.suppress(OSError):
            while True:
                ready = select.select([self.gateway, self.ipe, self.stop], [], [])[0]
                if self.stop in ready:
                    return
                for fd in ready:
                    data = os.read(fd, 65536)
                    up = fd == self.gateway
                    self.record("up" if up else "down", data)
                    os.write(self.ipe if up else self.gateway, data)

    def inject(self, direction: str, data: bytes):
        """Noise on the line."""
        self.record(direction, data)
        os.write(self.ipe if direction == "up" else self.gateway, data)

    def close(self):
        os.write(self.wake, b"x")
        self.thread.join(5)
        for fd in (self.gateway, self.ipe, self.slave, self.stop, self.wake):
            os.close(fd)


def unstuffed(data: bytes) -> bytes:
    """HDLC-lite bytes without their escapes, which may fall into a key."""
    out, escaped = bytearray(), False
    for byte in data:
        if escaped or byte != 0x7D:
            out.append(byte ^ 0x20 if escaped else byte)
            escaped = False
        else:
            escaped = True
    return bytes(out)
