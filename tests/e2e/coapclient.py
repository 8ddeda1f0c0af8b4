"""A CoAP client of its own over `openssl s_client -dtls1_2`, and CBOR enough for EG messages and primitives: for saying to
mefd what the product's programs never would."""
import os
import secrets
import select
import struct
import subprocess
import time

GET, POST, PUT, DELETE = 1, 2, 3, 4
URI_PATH, CONTENT_FORMAT, URI_QUERY, ACCEPT, BLOCK2, BLOCK1 = 11, 12, 15, 17, 23, 27
TY, RVI, FR, RQI, RSC = 267, 271, 279, 283, 307
OCTETS, JSON, CBOR = 42, 50, 60


class HandshakeRefused(Exception):
    pass


def uint(v: int) -> bytes:
    return v.to_bytes((v.bit_length() + 7) // 8, "big")


def _nibble(n: int) -> tuple[int, bytes]:
    if n < 13:
        return n, b""
    return (13, bytes([n - 13])) if n < 269 else (14, struct.pack(">H", n - 269))


def encode(code: int, mid: int, token: bytes, options: list, payload: bytes) -> bytes:
    out, last = struct.pack(">BBH", 0x40 | len(token), code, mid) + token, 0
    for number, value in sorted(options, key=lambda o: o[0]):
        (d, dx), (n, nx) = _nibble(number - last), _nibble(len(value))
        out += bytes([d << 4 | n]) + dx + nx + value
        last = number
    return out + (b"\xff" + payload if payload else b"")


class Answer:
    def __init__(self, data: bytes):
        first, self.code, self.mid = struct.unpack_from(">BBH", data)
        self.kind, at, number = first >> 4 & 3, 4 + (first & 15), 0
        self.token, self.options, self.payload = data[4:at], {}, b""
        while at < len(data):
            if data[at] == 0xFF:
                self.payload = data[at + 1:]
                break
            d, n, at = data[at] >> 4, data[at] & 15, at + 1
            d, at = self._extend(data, d, at)
            n, at = self._extend(data, n, at)
            number += d
            self.options.setdefault(number, []).append(data[at:at + n])
            at += n

    @staticmethod
    def _extend(data, nibble, at):
        if nibble == 13:
            return data[at] + 13, at + 1
        if nibble == 14:
            return struct.unpack_from(">H", data, at)[0] + 269, at + 2
        return nibble, at

    @property
    def dotted(self) -> str:
        return f"{self.code >> 5}.{self.code & 31:02d}"

    @property
    def rsc(self) -> int:
        return int.from_bytes(self.options.get(RSC, [b""])[0], "big")


class CoapClient:
    """One DTLS session. The pre-shared key stands in openssl's arguments: a test's key, of no other use. `proof`: other
    arguments in place of identity and key, such as a certificate."""

    def __init__(self, port: int, identity: str = "", kpm_hex: str = "", timeout: float = 5, host: str = "127.0.0.1",
                 proof: tuple = ()):
        self.peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.inbox, outbox = os.pipe2(os.O_DIRECT)  # packets: what is written at once is read at once,
        inlet, self.outbox = os.pipe2(os.O_DIRECT)  # so that each is one DTLS record
        self.child = subprocess.Popen(
            ["openssl", "s_client", "-dtls1_2", "-quiet", "-nocommands", "-connect", self.peer,
             *(proof or ("-psk_identity", identity, "-psk", kpm_hex, "-cipher", "PSK-AES128-CCM8:@SECLEVEL=0"))],
            stdin=inlet, stdout=outbox, stderr=subprocess.PIPE)
        os.close(inlet)
        os.close(outbox)
        self.mid = secrets.randbelow(65536)
        self.ping(timeout)

    def ping(self, timeout: float):
        """An empty confirmable message is answered by a reset: now the handshake is known to be through."""
        self.mid = self.mid + 1 & 0xFFFF
        self._send(struct.pack(">BBH", 0x40, 0, self.mid))
        answer = self._receive(timeout)
        if answer is None:
            self.child.kill()
            errors = self.child.communicate()[1].decode(errors="replace")
            self._close_pipes()
            raise HandshakeRefused(errors or f"no answer in {timeout} s")

    def _send(self, data: bytes):
        try:
            os.write(self.outbox, data)
        except BrokenPipeError:
            pass

    def _receive(self, timeout: float) -> Answer | None:
        if not select.select([self.inbox], [], [], timeout)[0]:
            return None
        data = os.read(self.inbox, 65536)
        return Answer(data) if len(data) >= 4 else None

    def request(self, code: int, path: str, options: list = (), payload: bytes = b"", origin: str | None = None,
                rqi: str | None = None, timeout: float = 5) -> Answer | None:
        """One confirmable request; its (piggybacked or separate) answer, or None."""
        self.mid = self.mid + 1 & 0xFFFF
        token = secrets.token_bytes(4)
        all_options = [(URI_PATH, s.encode()) for s in path.split("/")] + list(options)
        if origin is not None:
            all_options += [(FR, origin.encode()), (RVI, b"3"), (RQI, (rqi or secrets.token_hex(4)).encode())]
        self._send(encode(code, self.mid, token, all_options, payload))
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            answer = self._receive(left)
            if answer is None:
                return None
            if answer.kind == 0:  # confirmable: a separate answer, or a request to us (DeviceState to a gateway)
                token_back, code = (answer.token, 0x44) if 0 < answer.code < 32 else (b"", 0)
                self._send(struct.pack(">BBH", 0x60 | len(token_back), code, answer.mid) + token_back)
            if answer.code >= 64 and answer.token == token:
                return answer
        return None

    def close(self):
        self.child.kill()
        self.child.communicate()
        self._close_pipes()

    def _close_pipes(self):
        os.close(self.inbox)
        os.close(self.outbox)


# --- EG messages (docs/eg-protocol.cddl) ----------------------------------------------------------------------------------


def cbor(value) -> bytes:
    """CBOR of the types that EG messages and primitives use."""
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        return _head(3, len(value.encode())) + value.encode()
    if isinstance(value, dict):
        return _head(5, len(value)) + b"".join(cbor(k) + cbor(v) for k, v in value.items())
    return _head(4, len(value)) + b"".join(map(cbor, value))


def _head(major: int, n: int) -> bytes:
    for limit, info, size in ((24, None, 0), (1 << 8, 24, 1), (1 << 16, 25, 2), (1 << 32, 26, 4), (1 << 64, 27, 8)):
        if n < limit:
            return bytes([major << 5 | (n if info is None else info)]) + (n.to_bytes(size, "big") if size else b"")
    raise ValueError(n)


def uncbor(data: bytes):
    value, rest = _item(data)
    if rest:
        raise ValueError("trailing bytes")
    return value


def _item(data: bytes):
    major, info, at = data[0] >> 5, data[0] & 31, 1
    if major == 7:
        return {20: False, 21: True, 22: None}[info], data[1:]
    size = {24: 1, 25: 2, 26: 4, 27: 8}.get(info, 0)
    n = int.from_bytes(data[at:at + size], "big") if size else info
    data = data[at + size:]
    if major == 0:
        return n, data
    if major == 1:
        return -1 - n, data
    if major == 2:
        return data[:n], data[n:]
    if major == 3:
        return data[:n].decode(), data[n:]
    items = []
    for _ in range(n * (major - 3)):  # a map has two for each member
        item, data = _item(data)
        items.append(item)
    return (dict(zip(items[::2], items[1::2])) if major == 5 else items), data


HELLO, EG_REQUEST, EG_RESPONSE = 0, 1, 2


def eg_message(kind: int, transaction: int, gateway: str, device: str, body: list) -> bytes:
    envelope = [1, kind, transaction, bytes.fromhex(gateway), bytes.fromhex(device), 0, 15, -50]
    return cbor([envelope, cbor(body)])


def eg_request(transaction: int, gateway: str, device: str, short: int = 0x1F2E, pan: int = 0x1A62) -> bytes:
    return eg_message(EG_REQUEST, transaction, gateway, device, [0, short, pan, 0, 0x80, 0, b""])


def eg_response(data: bytes) -> tuple[int, bytes]:
    """(reason, NWK frame) of an EgResponse."""
    try:
        envelope, body = uncbor(data)
    except IndexError as e:
        raise ValueError(f"no EG message: {data!r}") from e
    if envelope[1] != EG_RESPONSE:
        raise ValueError("no EgResponse")
    reason, _, _, frame = uncbor(body)
    return reason, frame
