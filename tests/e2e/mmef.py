"""Clients of Mmef over both bindings, by pre-shared key or certificate, each with the suite that is mandated there (TS-0003
10.2). They share no code with the product: `openssl s_client` makes the session, the rest is here and in coapclient."""
import json
import os
import re
import secrets
import select
import subprocess
import time
from dataclasses import dataclass, field

from coapclient import (ACCEPT, BLOCK1, BLOCK2, CBOR, CONTENT_FORMAT, DELETE, GET, JSON, OCTETS, POST, PUT, RQI, TY, URI_QUERY, CoapClient,
                        HandshakeRefused, cbor, uint)

LOCATION_PATH, BLOCK = 8, 512  # of both sides: 2^(5 + 4)
TY_CLIENT_REG, TY_CLIENT_CMD, TY_KEY_REG, TY_CLIENT_CFG = 60002, 60003, 60004, 60005
SUITES = {("coaps", "psk"): "PSK-AES128-CCM8:@SECLEVEL=0", ("coaps", "certificate"): "ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0",
          ("https", "psk"): "PSK-AES128-CBC-SHA256", ("https", "certificate"): "ECDHE-ECDSA-AES128-SHA256"}
MEDIA = {JSON: "application/vnd.onem2m-res+json", CBOR: "application/vnd.onem2m-res+cbor"}
EG_MEDIA = {JSON: "application/json", CBOR: "application/cbor", OCTETS: "application/octet-stream"}  # no primitives


@dataclass
class Answer:
    rsc: int
    code: object    # of the binding: "2.05" or 200
    body: bytes
    location: str   # "" if there is none
    rqi: str
    options: dict = field(default_factory=dict)  # what else the binding says: CoAP's options, HTTP's fields

    @property
    def pc(self) -> dict:
        """The one resource in the content."""
        return next(iter(json.loads(self.body).values()))


class Coaps:
    """A session over DTLS 1.2."""

    def __init__(self, port: int, proof: tuple):
        self.client = CoapClient(port, proof=proof, timeout=3)

    def ask(self, method: str, path: str, origin, ty, query: tuple, body: bytes, form: int, accept) -> Answer:
        code = {"GET": GET, "POST": POST, "PUT": PUT, "DELETE": DELETE}[method]
        given = {TY: ty, CONTENT_FORMAT: form if body else None, ACCEPT: accept}
        options = [(URI_QUERY, q.encode()) for q in query] + [(o, uint(v)) for o, v in given.items() if v is not None]
        rqi = secrets.token_hex(4)
        a = self._sent(code, path, options, body, origin, rqi)
        whole, number = a.payload, 0
        while BLOCK2 in a.options and (block := int.from_bytes(a.options[BLOCK2][0], "big")) & 8:
            number += 1
            piece = [(BLOCK2, uint(number << 4 | block & 7))]
            a = self.client.request(code, path, options + piece, b"", origin=origin, rqi=rqi)
            whole += a.payload
        location = "/".join(s.decode() for s in a.options.get(LOCATION_PATH, []))
        return Answer(a.rsc, a.dotted, whole, location, a.options.get(RQI, [b""])[0].decode(), a.options)

    def _sent(self, code, path, options, body, origin, rqi):
        """In pieces, if it is large (RFC 7959), and so the answer: s_client gives out 1024 bytes of a record at most."""
        for at in range(0, max(len(body), 1), BLOCK):
            more = at + BLOCK < len(body)
            piece = [(BLOCK1, uint(at // BLOCK << 4 | more << 3 | 5))] if len(body) > BLOCK else []
            piece += [] if more else [(BLOCK2, uint(5))]
            a = self.client.request(code, path, options + piece, body[at:at + BLOCK], origin=origin, rqi=rqi)
            if a is None:
                raise TimeoutError(path)
            if more and a.code != 0x5F:  # 2.31 Continue
                break
        return a

    def close(self):
        self.client.close()


class Https:
    """A session over TLS 1.2."""

    def __init__(self, port: int, proof: tuple, host: str = "127.0.0.1"):
        peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.child = subprocess.Popen(["openssl", "s_client", "-tls1_2", "-quiet", "-nocommands", "-connect", peer, *proof],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)
        try:
            self.said("GET", "/", {}, b"")
        except EOFError:
            self.close()
            raise HandshakeRefused from None

    def said(self, method: str, target: str, fields: dict, body: bytes) -> tuple[int, dict, bytes]:
        head = "".join(f"{k}: {v}\r\n" for k, v in {"Host": "localhost", **fields, "Content-Length": len(body)}.items())
        try:
            self.child.stdin.write(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body)
        except BrokenPipeError:
            raise EOFError from None
        data = self._until(b"", lambda d: b"\r\n\r\n" in d)
        head, _, rest = data.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        got = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines)}
        length = int(got.get("content-length", 0))
        return int(status.split()[1]), got, self._until(rest, lambda d: len(d) >= length)

    def _until(self, data: bytes, whole) -> bytes:
        end = time.monotonic() + 5
        while not whole(data):
            if not select.select([self.child.stdout], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError
            if not (more := os.read(self.child.stdout.fileno(), 65536)):
                raise EOFError
            data += more
        return data

    def ask(self, method: str, path: str, origin, ty, query: tuple, body: bytes, form: int, accept) -> Answer:
        rqi = secrets.token_hex(4)
        fields = {"X-M2M-RI": rqi, "X-M2M-RVI": "3", **({"X-M2M-Origin": origin} if origin else {})}
        media = EG_MEDIA if path.startswith("mef/eg/") else MEDIA
        if body:
            fields["Content-Type"] = media.get(form, "application/xml") + (f"; ty={ty}" if ty is not None else "")
        if accept is not None:
            fields["Accept"] = media.get(accept, "application/xml")
        status, got, content = self.said(method, f"/{path}" + ("?" + "&".join(query) if query else ""), fields, body)
        return Answer(int(got.get("x-m2m-rsc", 0)), status, content, got.get("content-location", "").lstrip("/"),
                      got.get("x-m2m-ri", ""), got)

    def close(self):
        self.child.kill()
        self.child.communicate()


class Client:
    """One that has a credential: its id, its stakeholder, its session."""

    def __init__(self, stack, way: tuple, who: str, admin: str, proof: tuple):
        self.stack, self.way, self.id, self.admin, self.proof = stack, way, who, admin, (*proof, "-cipher", SUITES[way])
        self.session = self._open()

    def _open(self):
        return Coaps(self.stack.coaps, self.proof) if self.way[0] == "coaps" else Https(self.stack.https, self.proof)

    def reconnect(self):
        self.close()
        self.session = self._open()

    def close(self):
        self.session.close()

    def ask(self, method: str, path: str = "mef", ty=None, content=None, query: tuple = (), origin: str | None = "self",
            form: int = JSON, accept: int | None = None) -> Answer:
        """`content` is a tree, or bytes as they are."""
        body = b"" if content is None else content if isinstance(content, bytes) else (
            cbor(content) if form == CBOR else json.dumps(content).encode())
        return self.session.ask(method, path, self.id if origin == "self" else origin, ty, query, body, form, accept)

    def register(self, **more) -> Answer:
        attributes = {"et": "20991231T235959", "adfq": self.admin, **more}
        return self.ask("POST", ty=TY_CLIENT_REG, content={"sec:mecr": attributes})

    def deposit(self, targets, suid: int = 24, form: int = JSON, accept: int | None = None, **more) -> Answer:
        attributes = {"et": "20991231T235959", "adfq": self.admin, "suid": suid, "tgis": list(targets), **more}
        return self.ask("POST", ty=TY_KEY_REG, content={"sec:skr": attributes}, form=form, accept=accept)

    def update(self, answer: Answer, root: str, **attributes) -> Answer:
        return self.ask("PUT", answer.location, content={root: attributes})

    def found(self, *query: str) -> list:
        answer = self.ask("GET", query=("fu=1", *query))
        return json.loads(answer.body)["m2m:uril"]


def keying_material(said: bytes) -> bytes:
    return bytes.fromhex(re.search(rb"Keying material: ([0-9A-F]{96})", said)[1].decode())
