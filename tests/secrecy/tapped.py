"""The stack with every hop written down, and the FIFO by which a test build of the plugin hands over its secrets."""
import os
import re
import struct
import sys
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
for room in ("e2e", "sim", "vectors"):
    sys.path.insert(0, str(HERE.parent / room))

import taps  # noqa: E402
from stack import Stack  # noqa: E402

VAULT_KINDS = {"1": "link-key", "2": "network-key", "3": "trust-centre-link-key", "4": "kpm", "5": "symm-key", "6": "vault-root"}


class TappedStack(Stack):
    """The stack with a tap in every line: UART, DTLS, HTTPS; and the answers as a client sees them."""

    def __init__(self, build: Path, folder: Path, captures: Path):
        super().__init__(build, folder)
        self.captures = captures
        captures.mkdir()
        self.uart_record = taps.Record(captures, "uart")
        self.dtls = taps.UdpTap(self.coaps, captures / "dtls.pcap")
        self.tls = taps.TcpTap(self.https, taps.Record(captures, "https"))
        self.uart = None
        self.expected_once = {}  # (method, path) -> what this answer may tell, and no other

    @property
    def mef_uri(self) -> str:
        return f"coaps://127.0.0.1:{self.dtls.port}"

    @property
    def https_uri(self) -> str:
        return f"https://127.0.0.1:{self.tls.port}"

    @property
    def egp(self) -> str:
        return f"pty:{self.folder / 'gateway.pty'}"

    @property
    def ipe_line(self) -> str:
        return f"pty:{self.folder / 'ipe.pty'}"

    def start_gateway(self):
        self.start_zbgwd()
        end = self.folder / "gateway.pty"
        self._until(end.exists, self.gateway, "zbgwd makes no line")
        self.uart = taps.PtyTap(end, self.folder / "ipe.pty", self.uart_record)
        self.start_ipe()
        self.wait_gateway()

    def answer(self, kind: str, title: str, text: str):
        with open(self.captures / f"answers.{kind}", "a") as out:
            out.write(f"{title}\n{text}\n")

    def answered(self, method: str, path: str, text: str):
        """A credential's key is told once, in the answer to its making: that place is taken out, once, and no other."""
        if (method, path) == ("POST", "/v1/credentials"):
            text = re.sub(r'"kpm":"[0-9a-f]+"', '"kpm":"(as it should be)"', text, count=1)
        self.answer("rest", f"{method} {path}", text)

    def stop(self):
        super().stop()
        if self.uart is not None:
            self.uart.close()
            self.uart = None
        self.dtls.close()
        self.tls.close()


class Revealed:
    """Reads what the test build of the plugin hands over: (name, key id) -> bytes."""

    def __init__(self, fifo: Path):
        os.mkfifo(fifo, 0o600)
        self.fd = os.open(fifo, os.O_RDWR)
        self.secrets, self.lock = {}, threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def _exactly(self, n: int) -> bytes:
        data = b""
        while len(data) < n:
            data += os.read(self.fd, n - len(data))
        return data

    def _read(self):
        while True:
            name, key_id, n = struct.unpack("=cQB", self._exactly(10))
            value = self._exactly(n)
            with self.lock:
                self.secrets[(VAULT_KINDS.get(name.decode(), name.decode()), key_id)] = value

    def all(self) -> dict:
        with self.lock:
            return dict(self.secrets)
