"""EG protocol (docs/eg-protocol.cddl): envelope and body, as a gateway and as others."""
from coapclient import CBOR, CONTENT_FORMAT, DELETE, GET, JSON, POST, PUT, cbor, uint
from engine import Row, coap

GATEWAY, DEVICE = "00124b00deadbeef", "00158d00000000ff"
HELLO, REQUEST, RESPONSE, UPLINK, DOWNLINK, TX_RESULT, STALE, STATE = range(8)
BODIES = {HELLO: [0x1A62, 15, bytes(8), 0], REQUEST: [0, 0x1F2E, 0x1A62, 0, 0x80, 0, b""],
          RESPONSE: [1, 0x1F2E, True, b""],
          UPLINK: [0x1F2E, 255, b"\0" * 30], DOWNLINK: [0x1F2E, True, b"\0" * 30], TX_RESULT: [0, 1], STALE: [1, 2],
          STATE: [1, 0, 0x1F2E]}
NAMES = "Hello EgRequest EgResponse UplinkFrame DownlinkFrame TxResult Stale DeviceState".split()


def envelope(w, kind, **change) -> list:
    fields = {"version": 1, "type": kind, "transaction": 7, "gateway": bytes.fromhex(w.gateway),
              "device": bytes.fromhex(DEVICE),
              "direction": 1 if kind in (RESPONSE, DOWNLINK, STATE) else 0, "channel": 15, "rssi": -50}
    return list({**fields, **change}.values())


def message(w, kind, body=None, **change) -> bytes:
    return cbor([envelope(w, kind, **change), cbor(BODIES[kind] if body is None else body)])


def post(payload: bytes, *options, code=POST, form=CBOR) -> bytes:
    return coap(code, "mef/eg", [(CONTENT_FORMAT, uint(form)), *options], payload)


def messages(w):
    def row(name, payload, expect):
        return Row(f"EG: {name}", "coap:gw", post(payload), expect)
    for kind, name in enumerate(NAMES):
        whole = message(w, kind)
        for n in range(1, len(whole)):
            yield row(f"{name} cut to {n} bytes", whole[:n], "4.00 truncated")
        yield row(f"{name} with a byte behind", whole + b"\0", "4.00 trailing-bytes")
        yield row(f"{name} with a member too few", message(w, kind, BODIES[kind][:-1]), "4.00 wrong-members")
        yield row(f"{name} with a member too many", message(w, kind, [*BODIES[kind], 0]), "4.00 wrong-members")
        yield row(f"{name} in the other direction", message(w, kind,
                direction=0 if kind in (RESPONSE, DOWNLINK, STATE) else 1), "4.00 bad-direction")
        yield row(f"{name} as if every member were text", message(w, kind, [b"x"] * len(BODIES[kind])),
                  "4.00 wrong-type")
        body = cbor(BODIES[kind])
        yield row(f"{name} with a byte behind its body", cbor([envelope(w, kind), body + b"\0"]), "4.00 trailing-bytes")
    for kind in (RESPONSE, DOWNLINK, STATE):
        yield row(f"{NAMES[kind]} is not for the EG", message(w, kind), "4.00 bad-direction")


def envelopes(w):
    def row(name, expect, **change):
        return Row(f"EG envelope: {name}", "coap:gw", post(message(w, REQUEST, **change)), expect)
    for version in (0, 2, 255, 1 << 40):
        yield row(f"version {version}", "4.00 bad-version", version=version)
    for kind in (8, 255, 1 << 40):
        yield row(f"type {kind}", "4.00 bad-type", type=kind)
    yield row("type -1", "4.00 wrong-type", type=-1)
    yield row("direction 2", "4.00 out-of-range", direction=2)
    for channel in (1, 10, 27, 255):
        yield row(f"channel {channel}", "4.00 out-of-range", channel=channel)
    for rssi in (128, -129, -(1 << 40)):
        yield row(f"rssi {rssi}", "4.00 out-of-range", rssi=rssi)
    yield row("gateway zero", "4.00 no-address", gateway=bytes(8))
    yield row("device zero in an EgRequest", "4.00 no-address", device=bytes(8))
    yield row("gateway of 7 bytes", "4.00 out-of-range", gateway=b"1" * 7)
    yield row("gateway of 9 bytes", "4.00 out-of-range", gateway=b"1" * 9)
    yield row("gateway as a number", "4.00 wrong-type", gateway=1)
    yield row("transaction as bytes", "4.00 wrong-type", transaction=b"7")
    yield row("transaction -1", "4.00 wrong-type", transaction=-1)
    yield row("transaction true", "4.00 wrong-type", transaction=True)
    yield row("a gateway of another's", "4.03 not-bound", gateway=bytes.fromhex(GATEWAY))
    yield row("a device nobody registered", "2.04 unknown-device")


def requests(w):
    def row(name, expect, position, value):
        body = list(BODIES[REQUEST])
        body[position] = value
        return Row(f"EgRequest: {name}", "coap:gw", post(message(w, REQUEST, body)), expect)
    for position, name in enumerate(("gateway-short", "device-short", "pan-id", "parent-short")):
        limit = 0xFFFE if name == "pan-id" else 0xFFF7
        for value in sorted({limit + 1, 0xFFFF, 0x10000, 1 << 40}):
            yield row(f"{name} {value:#x}", "4.00 out-of-range", position, value)
        yield row(f"{name} -1", "4.00 wrong-type", position, -1)
    yield row("capability 256", "4.00 out-of-range", 4, 256)
    yield row("join 3", "4.00 out-of-range", 5, 3)
    yield row("association with a frame", "4.00 frame-mismatch", 6, b"x")
    yield row("rejoin without a frame", "4.00 frame-mismatch", 5, 1)
    yield row("frame of 117 bytes", "4.00 out-of-range", 6, b"x" * 117)
    yield row("wrong PAN", "2.04 unknown-device", 2, 0x1234)


def encodings(w):
    def row(name, payload, expect="4.00 not-canonical"):
        return Row(f"CBOR: {name}", "coap:gw", post(payload), expect)
    env, body = envelope(w, REQUEST), cbor(BODIES[REQUEST])
    good = cbor([env, body])
    yield row("good, to compare with", good, "2.04 unknown-device")
    yield row("array head of two bytes", b"\x98\x02" + good[1:])
    yield row("array of indefinite length", b"\x9f" + good[1:] + b"\xff")
    yield row("envelope of indefinite length", b"\x82\x9f" + good[2:2 + len(cbor(env)) - 1] + b"\xff" + cbor(body))
    yield row("version in two bytes", good.replace(b"\x82\x88\x01", b"\x82\x88\x18\x01"))
    yield row("version in nine bytes", good.replace(b"\x82\x88\x01", b"\x82\x88\x1b" + bytes(7) + b"\x01"))
    yield row("body of indefinite length", b"\x82" + cbor(env) + b"\x5f" + cbor(body) + b"\xff")
    yield row("body's length in nine bytes", b"\x82" + cbor(env) + b"\x5b" + len(body).to_bytes(8, "big") + body)
    yield row("members of the body in two bytes", cbor([env, body.replace(b"\x18\x80", b"\x19\x00\x80")]))
    yield row("body as text",
              b"\x82" + cbor(env) + bytes([0x60 | len(body)]) + body, "4.00 wrong-type")
    yield row("a tag before", b"\xd9\xd9\xf7" + good, "4.00 wrong-type")
    yield row("a map", b"\xa1\x00\x00", "4.00 wrong-type")
    yield row("null", b"\xf6", "4.00 wrong-type")
    yield row("undefined", b"\xf7", "4.00 wrong-type")
    yield row("a half float as version", b"\x82\x88\xf9\x3c\x00" + good[3:], "4.00 wrong-type")
    yield row("a reserved head", b"\x82\x9c" + good[2:], "4.00 not-canonical")
    yield row("a break alone", b"\xff")
    yield row("an array of 2^64 - 1", b"\x9b" + b"\xff" * 8, "4.00 wrong-members")
    yield row("bytes of 2^63", b"\x82" + cbor(env) + b"\x5b\x80" + bytes(7), "4.00 out-of-range")
    yield row("arrays 400 deep", b"\x81" * 400, "4.00 wrong-members")
    yield row("tags 400 deep", b"\xc1" * 400, "4.00 wrong-type")
    yield row("513 bytes", cbor([env, bytes(600)])[:513], "4.13 too-large")
    yield row("an array of one", b"\x81" + cbor(env), "4.00 wrong-members")
    yield row("an array of three", b"\x83" + good[1:] + b"\x00", "4.00 wrong-members")
    yield row("envelope of seven", cbor([env[:-1], body]), "4.00 wrong-members")
    yield row("envelope of nine", cbor([[*env, 0], body]), "4.00 wrong-members")
    yield row("text", b"hello", "4.00 wrong-type")
    yield row("JSON", b'{"version":1}', "4.00 wrong-type")


def peers(w):
    good = message(w, REQUEST)
    enrolled = message(w, REQUEST, device=bytes.fromhex(w.eui))
    yield Row("EgRequest from an AE", "coap:ae", post(good), "4.03 not-bound")
    yield Row("EgRequest of an enrolled device from an AE", "coap:ae", post(enrolled), "4.03 not-bound")
    yield Row("EgRequest of an enrolled device by another gateway", "coap:gw2", post(enrolled), "4.03 not-bound")
    yield Row("EgRequest by a gateway under its own name", "coap:gw2",
              post(message(w, REQUEST, gateway=bytes.fromhex(w.gateway2))), "2.04 unknown-device")
    for kind in (HELLO, UPLINK, TX_RESULT, STALE):
        yield Row(f"{NAMES[kind]} from an AE", "coap:ae", post(message(w, kind)), "4.03 not-bound")
        yield Row(f"{NAMES[kind]} by another gateway", "coap:gw2", post(message(w, kind)), "4.03 not-bound")
    yield Row("UplinkFrame of noise", "coap:gw", post(message(w, UPLINK)), "2.04")
    yield Row("UplinkFrame, forged in the device's name", "coap:gw",
              post(message(w, UPLINK, [0x1F2E, 255, w.sealed()], device=bytes.fromhex(w.eui))), "2.04")
    yield Row("UplinkFrame of no bytes", "coap:gw", post(message(w, UPLINK, [0x1F2E, 255, b""])), "4.00 out-of-range")
    yield Row("TxResult 4", "coap:gw", post(message(w, TX_RESULT, [4, 1])), "4.00 out-of-range")
    yield Row("Stale of 2^32", "coap:gw", post(message(w, STALE, [1 << 32, 0])), "4.00 out-of-range")
    yield Row("no message", "coap:gw", post(b""), "4.00 truncated")
    yield Row("EG message as JSON", "coap:gw", post(good, form=JSON), "4.15")
    for code, name in ((GET, "GET"), (PUT, "PUT"), (DELETE, "DELETE")):
        yield Row(f"{name} of /mef/eg", "coap:gw", post(good, code=code), "4.05")
    yield Row("POST below /mef/eg", "coap:gw", coap(POST, "mef/eg/x", [(CONTENT_FORMAT, uint(CBOR))], good), "4.04")
    yield Row("POST beside /mef/eg", "coap:gw", coap(POST, "mef/egx", [(CONTENT_FORMAT, uint(CBOR))], good),
              "4.00 4000")


def rows(w):
    for table in (messages, envelopes, requests, encodings, peers):
        yield from table(w)
