"""Sends one row of the table and says in one line what came back; a row passes when that line is the one it names.

The line of a CoAP answer: code and what it says ("4.00 4000" with a response status code, "4.00 truncated" with the EG's
word, "4.03 not-bound" with an EgResponse, "4.13" alone), "rst", or "none": nothing came before the answer to a ping that
was sent behind it. Of HTTP: status, response status code or problem code and field ("400 bad-value limit"), one for each
response, with " | " between; "closed" when the connection ended without one. Of a bare datagram: "none",
"hello-verify", "alert 51", ..
"""
import contextlib
import json
import re
import socket
import ssl
import struct
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from coapclient import (CONTENT_FORMAT, DELETE, FR, GET, JSON, POST, PUT, RQI, RVI, TY, URI_QUERY, CoapClient, HandshakeRefused,
                        eg_response, encode, uint)
from mmef import SUITES, Https

PROTOCOL = Path(__file__).resolve().parents[2] / "docs/eg-protocol.md"
REASONS = re.findall(r"^\| \d+ \| `([a-z-]+)` \|", PROTOCOL.read_text(), re.M)
RECORDS = {20: "change-cipher-spec", 21: "alert", 22: "handshake", 23: "application-data"}
CON, NON, ACK, RST = range(4)


@dataclass(frozen=True)
class Row:
    name: str
    transport: str     # coap:ae coap:other coap:gw https https-psk primitive:ae primitive:other udp record:..
    send: object       # bytes, or several to be sent one after the other's answer; what the last one gets counts
    expect: str


@dataclass(frozen=True)
class Primitive:
    """A request of Mmef, for either binding."""
    method: str
    path: str = "mef"
    body: bytes = b""
    ty: int | None = None
    form: int = JSON
    query: tuple = ()

    def coap(self, origin: bytes) -> bytes:
        options = [(FR, origin), (RQI, b"1"), (RVI, b"3"), *[(URI_QUERY, q.encode()) for q in self.query]]
        options += [(TY, uint(self.ty))] if self.ty is not None else []
        options += [(CONTENT_FORMAT, uint(self.form))] if self.body else []
        return coap({"GET": GET, "POST": POST, "PUT": PUT, "DELETE": DELETE}[self.method], self.path, options, self.body)


def datagram_socket(host: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)


class Relay:
    """Between a DTLS client and mefd: keeps what the client sent, and can send more from the client's address. What mefd
    answers to that is kept from the client: `openssl s_client` would wait for ever for a datagram it can use."""

    def __init__(self, host: str, port: int):
        self.front, self.back = datagram_socket(host), datagram_socket(host)
        self.front.bind((host, 0))
        self.back.connect((host, port))
        self.port, self.client, self.sent, self.replies = self.front.getsockname()[1], None, [], []
        self.holding = False
        for pump in (self._up, self._down):
            threading.Thread(target=pump, daemon=True).start()

    def _up(self):
        with contextlib.suppress(OSError):
            while True:
                data, client = self.front.recvfrom(65536)
                if client is None:
                    return  # closed
                self.client = client
                self.sent.append(data)
                self.back.send(data)

    def _down(self):
        while True:
            try:
                data = self.back.recv(65536)
                self.replies.append(data)
                if not self.holding:
                    self.front.sendto(data, self.client)
            except ConnectionRefusedError:
                continue
            except OSError:
                return

    def inject(self, datagram: bytes):
        self.back.send(datagram)

    def close(self):
        for s in (self.front, self.back):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()


class Engine:
    """`kind`: of the credentials that clients show, psk or certificate."""

    def __init__(self, world, host: str, kind: str = "psk"):
        self.world, self.host, self.kind, self.sessions, self.mid = world, host, kind, {}, 0x1000
        self.primitives = {}
        self.tls = ssl.create_default_context(cafile=str(world.stack.ca))
        self.tls.check_hostname = False

    def close(self):
        for c in (*self.sessions.values(), *self.primitives.values()):
            c.close()

    def answer(self, row: Row) -> str:
        kind, _, who = row.transport.partition(":")
        sends = row.send if isinstance(row.send, list) else [row.send]
        if kind == "coap":
            return [self.coap(who, data, row.expect == "none") for data in sends][-1]
        if kind == "https":
            return self.https(sends)
        if kind == "https-psk":
            return self.https_psk(sends[0])
        if kind == "primitive":
            return self.primitive(who, row.send)
        if kind == "udp":
            return self.datagrams(sends)
        return self.record(row.send)

    # --- CoAP ---------------------------------------------------------------------------------------------------------

    def session(self, who: str) -> CoapClient:
        if who not in self.sessions:
            self.sessions[who] = CoapClient(self.world.stack.coaps, host=self.host, proof=self.proof(who, "coaps"))
        return self.sessions[who]

    def proof(self, who: str, binding: str) -> tuple:
        """What openssl needs to be them, with the suite that is mandated."""
        c, cipher = self.world.credentials[who], ("-cipher", SUITES[binding, self.kind])
        if self.kind == "psk":
            return "-psk_identity", c["kpmId"], "-psk", c["kpm"], *cipher
        pair = self.world.certificates[who]
        return "-cert", str(pair.cert), "-key", str(pair.key), *cipher

    def next_mid(self) -> int:
        self.mid = self.mid + 1 & 0xFFFF
        return self.mid

    def coap(self, who: str, data: bytes, silent: bool) -> str:
        """The message under a fresh message id, then a ping: mefd answers in order, but for what waits for its store."""
        client, mid, ping = self.session(who), self.next_mid(), self.next_mid()
        client._send(data[:2] + struct.pack(">H", mid) + data[4:] if len(data) >= 4 else data)
        client._send(struct.pack(">BBH", 0x40, 0, ping))
        said, alive, end = None, False, time.monotonic() + 5
        while not alive or (said is None and not silent):
            a = client._receive(max(0, end - time.monotonic()))
            if a is None:
                break
            if a.kind == RST and a.mid == ping:
                alive = True
            elif a.kind == CON and 0 < a.code < 32:
                client._send(struct.pack(">BBH", 0x60 | len(a.token), 0x44, a.mid) + a.token)
            elif a.kind == RST and a.mid == mid:
                said = "rst"
            elif a.code != 0:
                said = describe(a)
                if a.kind == CON:
                    client._send(struct.pack(">BBH", 0x60, 0, a.mid))
        if not alive:
            self.sessions.pop(who).close()
            return f"{said or 'none'}, and the session is dead"
        return said or "none"

    # --- DTLS ---------------------------------------------------------------------------------------------------------

    def datagrams(self, sends: list) -> str:
        with datagram_socket(self.host) as s:
            s.settimeout(0.15)
            said = []
            for data in sends:
                s.sendto(data, (self.host, self.world.stack.coaps))
                with contextlib.suppress(TimeoutError):
                    while True:
                        said.append(describe_record(s.recv(65536)))
        return ", ".join(said) or "none"

    def record(self, make) -> str:
        """make(datagrams the client sent) -> datagrams to send from its address, into a live session."""
        relay = Relay(self.host, self.world.stack.coaps)
        c = self.world.credentials["ae"]
        client = CoapClient(relay.port, c["kpmId"], c["kpm"], host=self.host)
        try:
            before, relay.holding = len(relay.replies), True
            for data in make(list(relay.sent)):
                relay.inject(data)
            time.sleep(0.15)
            said, relay.holding = [describe_record(r) for r in relay.replies[before:]], False
            client._send(struct.pack(">BBH", 0x40, 0, self.next_mid()))
            alive = client._receive(3) is not None
            return ", ".join(said or ["none"]) + (", alive" if alive else ", dead")
        finally:
            client.close()
            relay.close()

    # --- HTTP ---------------------------------------------------------------------------------------------------------

    def https(self, sends: list) -> str:
        """Raw bytes through TLS. Reads until mefd closes, or is silent for a while after an answer."""
        got, closed = b"", False
        with socket.create_connection((self.host, self.world.stack.https), 5) as raw, self.tls.wrap_socket(raw) as s:
            with contextlib.suppress(OSError):
                for data in sends:
                    s.sendall(data)
            end = time.monotonic() + 5
            while not closed and time.monotonic() < end:
                s.settimeout(0.1 if got else 1)
                try:
                    data = s.recv(65536)
                    got, closed = got + data, not data
                except TimeoutError:
                    break
                except OSError:
                    closed = True
        return describe_http(got, closed).removeprefix("100 | ")  # may be left out when the body is there (RFC 9110 10.1.1)

    def https_psk(self, data: bytes) -> str:
        c = self.world.credentials["ae"]
        done = subprocess.run(["openssl", "s_client", "-tls1_2", "-quiet", "-connect",
                               f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.world.stack.https}",
                               "-psk_identity", c["kpmId"], "-psk", c["kpm"], "-cipher", "PSK-AES128-GCM-SHA256"],
                              input=data, capture_output=True, timeout=10)
        return describe_http(done.stdout, True)

    def primitive(self, who: str, p: Primitive) -> str:
        """By HTTPS, over a connection that is kept."""
        try:
            if who not in self.primitives:
                self.primitives[who] = Https(self.world.stack.https, self.proof(who, "https"), self.host)
            origin = self.world.origins[who].decode()
            a = self.primitives[who].ask(p.method, p.path, origin, p.ty, p.query, p.body, p.form, None)
        except (EOFError, TimeoutError, HandshakeRefused) as e:
            if who in self.primitives:
                self.primitives.pop(who).close()
            return type(e).__name__
        return f"{a.code} {a.rsc}"


# --- what an answer says ----------------------------------------------------------------------------------------------------

def describe(a) -> str:
    if a.rsc:
        return f"{a.dotted} {a.rsc}"
    with contextlib.suppress(ValueError, IndexError, KeyError, TypeError):
        return f"{a.dotted} {REASONS[eg_response(a.payload)[0]]}"
    with contextlib.suppress(ValueError):
        return " ".join([a.dotted, *problem(json.loads(a.payload))])
    return a.dotted


def problem(body) -> list:
    return [body[k] for k in ("code", "field") if k in body] if isinstance(body, dict) else []


def describe_record(data: bytes) -> str:
    if data[0] == 22 and len(data) > 13 and data[13] == 3:
        return "hello-verify"
    if data[0] == 21 and data[3:5] == b"\0\0" and len(data) >= 15:
        return f"alert {data[14]}"
    return RECORDS.get(data[0], "?")


def describe_http(data: bytes, closed: bool) -> str:
    said = []
    while match := re.match(rb"HTTP/1\.[01] (\d{3})[^\r]*\r\n((?:[^\r\n]+\r\n)*)\r\n", data):
        status, head = int(match[1]), match[2].decode("latin-1")
        length = re.search(r"(?im)^content-length: (\d+)", head)
        rsc = re.search(r"(?im)^x-m2m-rsc: (\d+)", head)
        until_close = "\r\nconnection: close\r\n" in f"\r\n{head.lower()}" and not length
        n = len(data) if until_close else int(length[1]) if length else 0
        body, data = data[match.end():match.end() + n], data[match.end() + n:]
        words = [str(status)]
        if rsc:
            words.append(rsc[1])
        elif "problem+json" in head:
            with contextlib.suppress(ValueError):
                words += problem(json.loads(body))  # HEAD has none
        said.append(" ".join(words))
    if data:
        said.append("garbage")
    return " | ".join(said) or ("closed" if closed else "none")


def coap(code: int, path: str = "", options=(), payload: bytes = b"", kind: int = CON,
         token: bytes = b"\x01\x02") -> bytes:
    """A well-formed message; its id is given when it is sent."""
    paths = [(11, s.encode()) for s in path.split("/")] if path else []
    message = encode(code, 0, token, [*paths, *options], payload)
    return bytes([message[0] & 0xCF | kind << 4]) + message[1:]
