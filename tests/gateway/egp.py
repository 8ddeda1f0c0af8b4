"""EG protocol messages and HDLC-lite, written from docs/eg-protocol.md and docs/eg-protocol.cddl alone."""
import struct

HELLO, REQUEST, RESPONSE, UPLINK, DOWNLINK, TX_RESULT, STALE, DEVICE_STATE = range(8)
TO_EG, TO_GATEWAY = 0, 1


def _head(major: int, n: int) -> bytes:
    if n < 24:
        return bytes([major << 5 | n])
    for code, fmt in ((24, ">B"), (25, ">H"), (26, ">I"), (27, ">Q")):
        if n < 1 << 8 * struct.calcsize(fmt):
            return bytes([major << 5 | code]) + struct.pack(fmt, n)
    raise ValueError(n)


def dumps(x) -> bytes:
    if x is True or x is False:
        return b"\xf5" if x else b"\xf4"
    if isinstance(x, int):
        return _head(0, x) if x >= 0 else _head(1, -1 - x)
    if isinstance(x, bytes):
        return _head(2, len(x)) + x
    return _head(4, len(x)) + b"".join(map(dumps, x))


def _load(b: bytes, at: int):
    major, n = b[at] >> 5, b[at] & 31
    at += 1
    if major == 7:
        return {20: False, 21: True}[n], at
    if n >= 24:
        size = 1 << n - 24
        n = int.from_bytes(b[at:at + size], "big")
        at += size
    if major == 0:
        return n, at
    if major == 1:
        return -1 - n, at
    if major == 2:
        return b[at:at + n], at + n
    if major != 4:
        raise ValueError("major type")
    items = []
    for _ in range(n):
        item, at = _load(b, at)
        items.append(item)
    return items, at


def loads(b: bytes):
    x, at = _load(b, 0)
    if at != len(b):
        raise ValueError("trailing bytes")
    return x


class Message:
    def __init__(self, raw: bytes):
        envelope, body = loads(raw)
        self.raw = raw
        (self.version, self.type, self.transaction, gateway, device, self.direction, self.channel, self.rssi) = envelope
        self.gateway, self.device = int.from_bytes(gateway, "big"), int.from_bytes(device, "big")
        self.body = loads(body)


def message(type_: int, transaction: int, gateway: int, device: int, direction: int, body: list, channel=15) -> bytes:
    envelope = [1, type_, transaction, gateway.to_bytes(8, "big"), device.to_bytes(8, "big"), direction, channel, 0]
    return dumps([envelope, dumps(body)])


def crc_x25(data: bytes) -> int:
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x8408 if crc & 1 else crc >> 1
    return crc ^ 0xFFFF


def frame(payload: bytes) -> bytes:
    body = payload + struct.pack("<H", crc_x25(payload))
    return b"\x7e" + b"".join(bytes([0x7D, b ^ 0x20]) if b in b"\x7e\x7d\x11\x13\xf8" else bytes([b]) for b in body) + b"\x7e"


class Deframer:
    def __init__(self):
        self.buf = b""

    def feed(self, data: bytes):
        """Yield each good frame's payload."""
        self.buf += data
        *chunks, self.buf = self.buf.split(b"\x7e")
        for chunk in chunks:
            out, escape = bytearray(), False
            for b in chunk:
                if b == 0x7D:
                    escape = True
                    continue
                out.append(b ^ 0x20 if escape else b)
                escape = False
            if len(out) >= 3 and struct.unpack("<H", out[-2:])[0] == crc_x25(bytes(out[:-2])):
                yield bytes(out[:-2])
