"""DTLS 1.2 records (RFC 6347) from strangers and into a live session."""
import struct

from engine import Row

CCS, ALERT, HANDSHAKE, DATA = 20, 21, 22, 23
CLOSE_NOTIFY, FATAL_HANDSHAKE_FAILURE = b"\x01\x00", b"\x02\x28"


def record(kind, body, epoch=0, sequence=0, version=0xFEFD, length=None) -> bytes:
    return struct.pack(">BHH", kind, version, epoch) + sequence.to_bytes(6, "big") + struct.pack(">H",
            len(body) if length is None else length) + body


def client_hello(cookie=b"", suites=b"\xc0\xa8", version=0xFEFD, fragment=None, session=b"", compression=b"\x01\x00",
                 extensions=b"", sequence=0) -> bytes:
    body = struct.pack(">H", version) + b"R" * 32 + bytes([len(session)]) + session + bytes([len(cookie)]) + cookie
    body += struct.pack(">H", len(suites)) + suites + compression + extensions
    at, n = fragment or (0, len(body))
    head = b"\x01" + len(body).to_bytes(3, "big") + struct.pack(">H", sequence) + at.to_bytes(3, "big") + n.to_bytes(3,
            "big")
    return head + body[at:at + n]


def strangers(w):
    hello = client_hello()
    yield Row("ClientHello without a cookie", "udp", record(HANDSHAKE, hello), "hello-verify")
    yield Row("ClientHello with a forged cookie", "udp", record(HANDSHAKE, client_hello(b"c" * 32)), "hello-verify")
    yield Row("ClientHello with a cookie of 255 bytes", "udp", record(HANDSHAKE, client_hello(b"c" * 255)),
              "hello-verify")
    yield Row("ClientHello in two fragments", "udp", [record(HANDSHAKE, client_hello(fragment=(0, 20))),
            record(HANDSHAKE, client_hello(fragment=(20, 23)), sequence=1)], "none")
    yield Row("ClientHello cut off", "udp", record(HANDSHAKE, hello[:-1]), "none")
    yield Row("ClientHello of 30 bytes", "udp", record(HANDSHAKE, hello)[:30], "none")
    yield Row("ClientHello with a byte behind", "udp", record(HANDSHAKE, hello + b"\0"), "none")
    yield Row("ClientHello with odd suites", "udp", record(HANDSHAKE, client_hello(suites=b"\xc0")), "hello-verify")
    yield Row("ClientHello with a length of its own", "udp", record(HANDSHAKE, b"\x01\xff\xff\xff" + hello[4:]), "none")
    yield Row("ClientHello in epoch 1", "udp", record(HANDSHAKE, hello, epoch=1), "none")
    yield Row("ClientHello in a record of TLS 1.2", "udp", record(HANDSHAKE, hello, version=0x0303), "none")
    yield Row("ClientHello numbered 3", "udp", record(HANDSHAKE, client_hello(sequence=3)), "none")
    for kind, name in ((0, "HelloRequest"), (2, "ServerHello"), (14, "ServerHelloDone"), (16, "ClientKeyExchange"),
                       (20, "Finished"), (255, "255")):
        yield Row(f"handshake of type {name}", "udp", record(HANDSHAKE, bytes([kind]) + hello[1:]), "none")
    for body, name in ((CLOSE_NOTIFY, "close_notify"), (FATAL_HANDSHAKE_FAILURE, "fatal"), (b"\x02", "of one byte"),
                       (b"\x09\xff", "of no meaning")):
        yield Row(f"alert {name}", "udp", record(ALERT, body), "none")
    yield Row("ChangeCipherSpec", "udp", record(CCS, b"\x01"), "none")
    yield Row("data in epoch 0", "udp", record(DATA, b"\x40\x01\0\0"), "none")
    yield Row("data in epoch 1, early", "udp", record(DATA, b"x" * 40, epoch=1), "none")
    yield Row("CoAP without DTLS", "udp", b"\x40\x01\x00\x01\xb3mef", "none")
    yield Row("no bytes", "udp", b"", "none")
    yield Row("one byte", "udp", b"\x16", "none")
    yield Row("60,000 bytes", "udp", b"\x16" * 60000, "none")
    yield Row("a record of 65,535 bytes, said to be", "udp", record(HANDSHAKE, hello, length=65535), "none")
    yield Row("a record of unknown kind", "udp", record(99, b"x" * 40), "none")
    yield Row("DTLS 1.3 unified header", "udp", b"\x2f\x00\x00\x00\x10" + b"x" * 16, "none")


def sessions(w):
    """make(what the client sent so far): the last datagram is the ping of an open session, under epoch 1."""
    def last(sent):
        return sent[-1]

    def changed(at, value):
        return lambda sent: [last(sent)[:at] + value + last(sent)[at + len(value):]]
    for name, make in {
        "the last record again": lambda sent: [last(sent)],
        "the last record ten times": lambda sent: [last(sent)] * 10,
        "the whole handshake again": lambda sent: sent[:-1],
        "the Finished again": lambda sent: [sent[-2]],
        "a bit changed in the MAC": lambda sent: [last(sent)[:-1] + bytes([last(sent)[-1] ^ 1])],
        "the MAC cut off": lambda sent: [last(sent)[:-8]],
        "no ciphertext at all": lambda sent: [last(sent)[:11] + b"\0\0"],
        "a new sequence number on an old record": changed(5, (99).to_bytes(6, "big")),
        "a sequence number far ahead": changed(5, b"\xff" * 6),
        "another kind": changed(0, bytes([ALERT])),
        "a handshake record that is none": changed(0, bytes([HANDSHAKE])),
        "epoch 0": changed(3, b"\0\0"),
        "epoch 2": changed(3, b"\0\x02"),
        "epoch 65535": changed(3, b"\xff\xff"),
        "version 1.0": changed(1, b"\xfe\xff"),
        "version of TLS": changed(1, b"\x03\x03"),
        "a length behind the end": changed(11, b"\x01\xff"),
        "half a record header": lambda sent: [last(sent)[:7]],
        "a clear close_notify": lambda sent: [record(ALERT, CLOSE_NOTIFY, sequence=50)],
        "a clear fatal alert": lambda sent: [record(ALERT, FATAL_HANDSHAKE_FAILURE, sequence=50)],
        "a clear ChangeCipherSpec": lambda sent: [record(CCS, b"\x01", sequence=50)],
        "clear data": lambda sent: [record(DATA, b"\x40\x01\0\0", sequence=50)],
        "CoAP without DTLS": lambda sent: [b"\x40\x00\x00\x01"],
        "60,000 bytes": lambda sent: [b"\x17\xfe\xfd\0\x01" + b"\0" * 59995],
        "no bytes": lambda sent: [b""],
    }.items():
        yield Row(f"into a session: {name}", "record", make, "none, alive")
    yield Row("into a session: a forged ClientHello", "record", lambda sent: [record(HANDSHAKE, client_hello())],
              "hello-verify, alive")
    yield Row("into a session: its own first ClientHello", "record", lambda sent: [sent[0]], "none, alive")


def rows(w):
    yield from strangers(w)
    yield from sessions(w)
