"""CoAP and oneM2M over CoAP: RFC 7252, 7959, 7641; TS-0008 6.2; TS-0004 7.2, 7.3."""
from coapclient import (ACCEPT, BLOCK1, CBOR, CONTENT_FORMAT, DELETE, FR, GET, JSON, OCTETS, POST, PUT, RQI, RVI, TY, URI_PATH,
                        URI_QUERY, uint)
from engine import NON, Row, coap

OBSERVE, BLOCK2, PROXY_URI, PROXY_SCHEME = 6, 23, 35, 39
CLIENT_REG, KEY_REG, CLIENT_CMD, BASE = 60002, 60004, 60003, 60001
FAR, PAST = "20991231T235959", "20010101T000000"
FETCH, PATCH, IPATCH = 5, 6, 7


def messages(w):
    """What is no good message at all (RFC 7252 3, 4.2, 4.3, 5.4)."""
    get = coap(GET, "mef", w.primitive)
    for n in range(9, 16):
        yield Row(f"token length {n}", "coap:ae", bytes([0x40 | n]) + get[1:4] + bytes(n) + get[6:], "rst")
    yield Row("NON with token length 9", "coap:ae", bytes([0x59]) + get[1:4] + bytes(9) + get[6:], "none")
    for version in (0, 2, 3):
        yield Row(f"version {version}", "coap:ae", bytes([get[0] & 0x3F | version << 6]) + get[1:], "none")
    for n in range(4):
        yield Row(f"{n} bytes", "coap:ae", get[:n] or b"\x40", "none")
    yield Row("CoAP token cut off", "coap:ae", b"\x44\x01\0\0\x01\x02", "rst")
    yield Row("empty message with a token", "coap:ae", b"\x41\x00\0\0\x01", "rst")
    yield Row("empty message with an option", "coap:ae", b"\x40\x00\0\0\xb3mef", "rst")
    yield Row("empty message with a payload", "coap:ae", b"\x40\x00\0\0\xffx", "rst")
    yield Row("empty NON", "coap:ae", b"\x50\x00\0\0", "none")
    yield Row("payload marker without payload", "coap:ae", get + b"\xff", "rst")
    yield Row("NON, payload marker without payload", "coap:ae", coap(GET, "mef", w.primitive, kind=NON) + b"\xff",
              "none")
    yield Row("option delta 15", "coap:ae", b"\x40\x01\0\0\xf0", "rst")
    yield Row("option length 15", "coap:ae", b"\x40\x01\0\0\xbf", "rst")
    yield Row("option behind the end", "coap:ae", b"\x40\x01\0\0\xb9mef", "rst")
    yield Row("option's extended delta cut off", "coap:ae", b"\x40\x01\0\0\xe0\x01", "rst")
    yield Row("option's extended length cut off", "coap:ae", b"\x40\x01\0\0\xbd", "rst")
    yield Row("option number above 65535", "coap:ae", b"\x40\x01\0\0\xe0\xff\xff\xe0\xff\xff", "rst")
    for cls in (1, 6, 7):
        yield Row(f"code of class {cls}", "coap:ae", coap(cls << 5 | 1, "mef"), "rst")
        yield Row(f"NON code of class {cls}", "coap:ae", coap(cls << 5 | 1, "mef", kind=NON), "none")
    yield Row("a response nobody asked for", "coap:ae", coap(0x45, payload=b"x"), "rst")
    yield Row("an ACK to nothing", "coap:ae", coap(0, kind=2, token=b""), "none")
    yield Row("an ACK with a request's code", "coap:ae", coap(GET, "mef", kind=2), "none")
    yield Row("an RST to nothing", "coap:ae", coap(0, kind=3, token=b""), "none")
    yield Row("200 options", "coap:ae", coap(GET, "mef", [*w.primitive, *[(URI_QUERY, b"a")] * 200]), "rst")
    for code in (FETCH, PATCH, IPATCH, 8, 31):
        yield Row(f"method 0.{code:02d}", "coap:ae", coap(code, "mef", w.primitive), "4.05 4005")


def options(w):
    """Options not understood, or not allowed twice (RFC 7252 5.4); paths and queries made of them."""
    def get(*more, path="mef"):
        return coap(GET, path, [*w.primitive, *more])
    yield Row("CoAP: all is well", "coap:ae", get(), "2.05 2000")
    yield Row("NON, all is well", "coap:ae", coap(GET, "mef", w.primitive, kind=NON), "2.05 2000")
    yield Row("unknown elective option", "coap:ae", get((2050, b"x")), "2.05 2000")
    yield Row("unknown critical option", "coap:ae", get((2051, b"x")), "4.02")
    yield Row("NON, unknown critical option", "coap:ae", coap(GET, "mef", [*w.primitive, (2051, b"x")], kind=NON),
              "none")
    yield Row("unknown critical option below 259", "coap:ae", get((253, b"")), "4.02")
    yield Row("OSCORE, not spoken", "coap:ae", get((9, b"")), "4.02")
    yield Row("If-Match", "coap:ae", get((1, b"etag")), "4.02")
    yield Row("If-None-Match", "coap:ae", get((5, b"")), "4.02")
    yield Row("Proxy-Uri", "coap:ae", coap(GET, "", [*w.primitive, (PROXY_URI, b"coap://x/")]), "5.05")
    yield Row("Proxy-Scheme", "coap:ae", get((PROXY_SCHEME, b"coap")), "5.05")
    yield Row("Uri-Host twice", "coap:ae", get((3, b"a"), (3, b"b")), "4.02")
    yield Row("Accept twice", "coap:ae", get((ACCEPT, uint(JSON)), (ACCEPT, uint(JSON))), "4.02")
    yield Row("Content-Format twice: the second is ignored", "coap:ae",
              get((CONTENT_FORMAT, b"\x32"), (CONTENT_FORMAT, b"\x2a")),
              "2.05 2000")
    for number, name in ((FR, "From"), (RQI, "RQI"), (RVI, "RVI")):
        yield Row(f"{name} twice", "coap:ae", get((number, dict(w.primitive)[number])), "4.02")
    yield Row("TY twice", "coap:ae", coap(POST, "mef", [*w.primitive, (TY, uint(CLIENT_REG)), (TY, uint(CLIENT_REG))],
            b"{}"), "4.02")
    yield Row("unknown Accept", "coap:ae", get((ACCEPT, uint(0))), "4.06 5207")
    yield Row("Accept of a number never given", "coap:ae", get((ACCEPT, uint(64999))), "4.06 5207")
    yield Row("empty path segment", "coap:ae", get((URI_PATH, b"")), "4.00 4000")
    yield Row("path segment with a slash", "coap:ae", coap(GET, "", [(URI_PATH, b"mef/eg"), *w.primitive]), "4.00")
    yield Row("path segment with a NUL", "coap:ae", coap(GET, "", [(URI_PATH, b"me\0f"), *w.primitive]), "4.00")
    yield Row("path segment that is no UTF-8", "coap:ae", coap(GET, "", [(URI_PATH, b"m\xff\xfef"), *w.primitive]),
              "4.00")
    yield Row("path segment that is overlong UTF-8", "coap:ae",
              coap(GET, "", [(URI_PATH, b"\xc1\xadef"), *w.primitive]), "4.00")
    yield Row("CoAP: dot segments are not followed", "coap:ae", coap(GET, "mef/../mef", w.primitive), "4.04 4004")
    yield Row("path of 20 segments", "coap:ae", coap(GET, "/".join(["mef"] * 20), w.primitive), "4.04 4004")
    yield Row("path too long", "coap:ae", coap(GET, "", [*[(URI_PATH, b"a" * 200)] * 5, *w.primitive]), "4.00")
    yield Row("no path", "coap:ae", coap(GET, "", w.primitive), "4.04")
    yield Row("no such path", "coap:ae", coap(GET, "nothing", w.primitive), "4.04")
    yield Row("operator REST is not open to an AE", "coap:ae", coap(GET, "v1/devices"), "4.01 no-token")
    yield Row("33 queries", "coap:ae", get(*[(URI_QUERY, b"rcn=1")] * 33), "4.00 4000")
    yield Row("query that is no UTF-8", "coap:ae", get((URI_QUERY, b"lbl=\xff")), "4.00 4000")
    yield Row("query with a NUL", "coap:ae", get((URI_QUERY, b"fu=1"), (URI_QUERY, b"lbl=a\0b")), "4.00 4000")


def lengths_of_options(w):
    """The definition of an option sets its lengths; with another it is as if not understood (RFC 7252 5.4.3)."""
    def get(*more):
        return coap(GET, "mef", [*w.primitive, *more])
    for number, name, value in (
            (CONTENT_FORMAT, "Content-Format of 3 bytes", b"\0\0\x32"), (OBSERVE, "Observe of 4 bytes", b"\0\0\0\0"),
            (4, "ETag of 9 bytes", b"e" * 9), (14, "Max-Age of 5 bytes", bytes(5)), (60, "Size1 of 5 bytes", bytes(5)),
            (252, "Echo of 41 bytes", bytes(41)), (258, "No-Response of 6 bytes", b"lights"),
            (292, "Request-Tag of 9 bytes", bytes(9))):
        yield Row(f"{name} is ignored", "coap:ae", get((number, value)), "2.05 2000")
    yield Row("Content-Format of 3 bytes, then a good one", "coap:ae",
              get((CONTENT_FORMAT, b"\0\0\x32"), (CONTENT_FORMAT, b"\x32")), "2.05 2000")
    for number, name, value in (
            (ACCEPT, "Accept of 3 bytes", b"\0\0\x32"), (3, "Uri-Host of no bytes", b""),
            (3, "Uri-Host of 256 bytes", b"h" * 256), (7, "Uri-Port of 3 bytes", b"\1\2\3"),
            (URI_QUERY, "Uri-Query of 256 bytes", b"a" * 256), (URI_PATH, "Uri-Path of 256 bytes", b"a" * 256),
            (PROXY_URI, "Proxy-Uri of no bytes", b""), (PROXY_URI, "Proxy-Uri of 1,035 bytes", b"a" * 1035),
            (PROXY_SCHEME, "Proxy-Scheme of no bytes", b""), (5, "If-None-Match of a byte", b"x")):
        yield Row(name, "coap:ae", get((number, value)), "4.02")
    yield Row("NON, Accept of 3 bytes", "coap:ae",
              coap(GET, "mef", [*w.primitive, (ACCEPT, b"\0\0\x32")], kind=NON), "none")
    yield Row("TY of 3 bytes", "coap:ae", coap(POST, "mef", [*w.primitive, (TY, b"\0\xea\x62")], b"{}"), "4.02")
    yield Row("From of 256 bytes", "coap:ae", coap(GET, "mef", [(FR, b"C" * 256), (RQI, b"1")]), "4.02")
    yield Row("RQI of 256 bytes", "coap:ae", coap(GET, "mef", [(FR, w.origin), (RQI, b"1" * 256)]), "4.02")
    yield Row("RVI of 3 bytes", "coap:ae", coap(GET, "mef", [(FR, w.origin), (RQI, b"1"), (RVI, b"300")]), "4.02")
    yield Row("RVI of no bytes", "coap:ae", coap(GET, "mef", [(FR, w.origin), (RQI, b"1"), (RVI, b"")]), "4.02")


def old_numbers(w):
    """The option numbers before 2022 (FR 256, RQI 257, NM 258), where 258 is a name and not No-Response."""
    def get(*options):
        return coap(GET, "mef", [(256, w.origin), (257, b"1"), *options])
    yield Row("old numbers: all is well", "coap:ae", get(), "2.05")
    yield Row("old numbers: a name", "coap:ae", get((258, b"lights")), "2.05")
    yield Row("old numbers: a name of one byte", "coap:ae", get((258, b"\x1a")), "2.05")
    yield Row("old numbers: a name of 300 bytes", "coap:ae", get((258, b"n" * 300)), "2.05")
    yield Row("old numbers: RQI of 256 bytes", "coap:ae", coap(GET, "mef", [(256, w.origin), (257, b"1" * 256)]), "4.02")
    yield Row("old numbers: From of 256 bytes is ignored", "coap:ae", coap(GET, "mef", [(256, b"C" * 256), (257, b"1")]),
              "4.00")


def blocks(w):
    """RFC 7959."""
    def get(block2):
        return coap(GET, "mef", [*w.primitive, (BLOCK2, block2)])

    def piece(number, more, szx, body, rqi=b"blocks"):
        opts = [(FR, w.origin), (RQI, rqi), (TY, uint(CLIENT_REG)), (CONTENT_FORMAT, uint(JSON)),
                (BLOCK1, uint(number << 4 | more << 3 | szx))]
        return coap(POST, "mef", opts, body)
    yield Row("Block2 of size 7", "coap:ae", get(b"\x07"), "4.00")
    yield Row("Block2 of 4 bytes", "coap:ae", get(b"\0\0\0\x06"), "4.02")
    yield Row("Block2 twice", "coap:ae", coap(GET, "mef", [*w.primitive, (BLOCK2, b"\x06"), (BLOCK2, b"\x06")]), "4.02")
    yield Row("Block2 behind the end", "coap:ae", get(uint(1000 << 4 | 6)), "4.00")
    yield Row("Block2 at 2^20 - 1", "coap:ae", get(uint((1 << 20) - 1 << 4 | 6)), "4.00")
    yield Row("Block1 of size 7", "coap:ae", piece(0, 1, 7, b"x" * 16), "4.00")
    yield Row("Block1 twice", "coap:ae", coap(POST, "mef", [*w.primitive, (BLOCK1, b"\x08"), (BLOCK1, b"\x08")],
            b"x" * 16), "4.02")
    yield Row("a body that begins in the middle", "coap:ae", piece(3, 1, 6, b"x" * 1024, b"middle"), "4.08")
    yield Row("a last piece alone", "coap:ae", piece(1, 0, 6, b"x", b"last"), "4.08")
    yield Row("a piece is left out", "coap:ae", [piece(0, 1, 2, b"x" * 64, b"gap"), piece(2, 1, 2, b"x" * 64, b"gap")],
              "4.08")
    yield Row("a piece comes again", "coap:ae", [piece(0, 1, 2, b"x" * 64, b"twice")] + [piece(1, 1, 2, b"x" * 64,
            b"twice")] * 2, "4.08")
    yield Row("a piece shorter than its size", "coap:ae", piece(0, 1, 6, b"x" * 1000, b"short"), "4.08")
    yield Row("a piece longer than its size", "coap:ae", piece(0, 1, 0, b"x" * 17, b"long"), "4.08")
    yield Row("a piece without bytes", "coap:ae", piece(0, 1, 0, b"", b"none"), "4.08")
    yield Row("a body in pieces is one body", "coap:ae", [piece(0, 1, 0, b'{"sec:mecr":{"et', b"one"),
            piece(1, 0, 0, b'":1}}', b"one")],
              "4.00 4000")
    yield Row("two bodies at once are two", "coap:ae", [piece(0, 1, 0, b"a" * 16, b"A"),
            piece(0, 1, 0, b"b" * 16, b"B"),
                                                        piece(1, 1, 0, b"a" * 16, b"A")], "2.31")
    yield Row("another's body can not be gone on with", "coap:other", piece(1, 1, 0, b"a" * 16, b"A"), "4.08")
    yield Row("70 KiB in pieces", "coap:ae", [piece(n, 1, 6, b"x" * 1024, b"big") for n in range(65)], "4.13")
    yield Row("70 KiB announced by Size1 are not 70 KiB yet", "coap:ae",
              coap(POST, "mef", [*w.primitive, (BLOCK1, b"\x0e"), (60, uint(70000))], b"x" * 1024),
              "2.31")


def observe(w):
    """RFC 7641: only a GET registers; elsewhere the option is ignored."""
    frames, device = f"mef/eg/frames/{w.eui}", f"mef/eg/devices/{w.eui}"
    fr = [(FR, w.origin), (RQI, b"1")]
    yield Row("Observe on a POST", "coap:ae", coap(POST, "mef", [*w.primitive, (OBSERVE, b"")], b"{}"), "4.05 4005")
    yield Row("Observe on a PUT", "coap:ae", coap(PUT, "mef", [*w.primitive, (OBSERVE, b"")], b"{}"), "4.05 4005")
    yield Row("Observe on a DELETE", "coap:ae", coap(DELETE, "mef", [*w.primitive, (OBSERVE, b"")]), "4.05 4005")
    yield Row("Observe of what can not be observed", "coap:ae", coap(GET, "mef", [*w.primitive, (OBSERVE, b"")]),
              "2.05 2000")
    yield Row("Observe of a value never given", "coap:ae", coap(GET, "mef", [*w.primitive, (OBSERVE, b"\x07")]),
              "2.05 2000")
    yield Row("end of an observation that never was", "coap:ae", coap(GET, "mef", [*w.primitive, (OBSERVE, b"\x01")]),
              "2.05 2000")
    yield Row("another's frames", "coap:other", coap(GET, frames, [*fr, (OBSERVE, b"")]), "4.03")
    yield Row("another's device", "coap:other", coap(GET, device, [*fr, (OBSERVE, b"")]), "4.03")
    yield Row("frames, as a gateway", "coap:gw", coap(GET, frames, [(OBSERVE, b"")]), "4.03")
    yield Row("frames of no device", "coap:ae", coap(GET, "mef/eg/frames/0011223344556677", [*fr, (OBSERVE, b"")]),
              "4.04")
    yield Row("frames of a malformed EUI-64", "coap:ae", coap(GET, "mef/eg/frames/zz", fr), "4.04")
    yield Row("frames in JSON", "coap:ae", coap(GET, frames, [*fr, (ACCEPT, uint(JSON))]), "4.06")
    yield Row("frames in CBOR", "coap:ae", coap(GET, frames, [*fr, (ACCEPT, uint(CBOR))]), "4.06")
    for form, name, expect in ((JSON, "JSON", "2.05"), (CBOR, "CBOR", "2.05"), (OCTETS, "octets", "4.06")):
        yield Row(f"a device in {name}", "coap:ae", coap(GET, device, [*fr, (ACCEPT, uint(form))]), expect)
    yield Row("PUT to frames", "coap:ae", coap(PUT, frames, fr, b"x"), "4.05")
    yield Row("DELETE of frames", "coap:ae", coap(DELETE, frames, fr), "4.05")
    yield Row("POST to a device", "coap:ae", coap(POST, device, fr), "4.05")
    yield Row("GET of a ticket", "coap:ae", coap(GET, device + "/ticket", fr), "4.05")
    yield Row("a frame of no bytes", "coap:ae", coap(POST, frames, [*fr, (CONTENT_FORMAT, uint(OCTETS))]),
              "4.00 malformed")
    yield Row("a frame that is none", "coap:ae", coap(POST, frames, [*fr, (CONTENT_FORMAT, uint(OCTETS))],
            b"\xff" * 40), "4.00 malformed")
    yield Row("a frame of 117 bytes", "coap:ae", coap(POST, frames, [*fr, (CONTENT_FORMAT, uint(OCTETS))],
            b"\0" * 117), "4.00 malformed")
    yield Row("a frame sealed under another key", "coap:ae", coap(POST, frames, [*fr, (CONTENT_FORMAT, uint(OCTETS))],
            w.sealed()), "4.00 bad-mic")
    yield Row("a frame as JSON", "coap:ae", coap(POST, frames, [*fr, (CONTENT_FORMAT, uint(JSON))], w.sealed()), "4.15")
    yield Row("another AE's frame", "coap:other", coap(POST, frames, [*fr, (CONTENT_FORMAT, uint(OCTETS))],
            w.sealed()), "4.03")


def tickets(w):
    counts = {"of 0": b'{"count":0}', "of 17": b'{"count":17}', "of -1": b'{"count":-1}', "of 1.5": b'{"count":1.5}',
              "of 1e9": b'{"count":1e9}', "of 4294967297": b'{"count":4294967297}', "as text": b'{"count":"1"}',
              "null": b'{"count":null}', "unknown member": b'{"count":1,"x":1}', "no member": b"{}", "array": b"[1]",
              "in capitals": b'{"COUNT":1}'}
    broken = {"of 01": b'{"count":01}', "of 0x1": b'{"count":0x1}', "of +1": b'{"count":+1}', "of 1.": b'{"count":1.}',
              "of 016": b'{"count":016}', "with a comma behind": b'{"count":1,}', "behind a form feed": b'\x0c{"count":1}',
              "twice": b'{"count":1,"count":2}', "cut off": b'{"count":1', "trailing bytes": b'{"count":1}x',
              "trailing NUL": b'{"count":1}\0', "two values": b'{"count":1}{"count":1}', "NaN": b'{"count":NaN}'}
    in_cbor = {"of 0": b"\xa1\x65count\x00", "of 17": b"\xa1\x65count\x11", "of -1": b"\xa1\x65count\x20",
               "of 1.5": b"\xa1\x65count\xf9\x3e\x00", "of a byte string": b"\xa1\x65count\x41\x01"}
    path = f"mef/eg/devices/{w.eui}/ticket"
    for name, form, body, expect in ([(name, JSON, body, "4.00 bad-count") for name, body in counts.items()] +
                                     [(name, JSON, body, "4.00") for name, body in broken.items()] +
                                     [(f"in CBOR {name}", CBOR, body, "4.00 bad-count") for name, body in in_cbor.items()] +
                                     [("in CBOR cut off", CBOR, b"\xa1\x65count", "4.00"),
                                      ("in octets", 42, b"\xa1\x65count\x01", "4.15")]):
        yield Row(f"ticket {name}", "coap:ae", coap(POST, path, [(FR, w.origin), (CONTENT_FORMAT, uint(form))], body), expect)
    yield Row("ticket for another AE", "coap:other", coap(POST, path, [(CONTENT_FORMAT, uint(JSON))], b'{"count":1}'),
              "4.03")
    yield Row("ticket for a gateway", "coap:gw", coap(POST, path, [(CONTENT_FORMAT, uint(JSON))], b'{"count":1}'),
              "4.03")


def rows(w):
    for table in (messages, options, lengths_of_options, old_numbers, blocks, observe, tickets):
        yield from table(w)
