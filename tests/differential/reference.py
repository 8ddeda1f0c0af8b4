"""The Zigbee frames once more, in Python on python3-cryptography, from the specification's text and not from the product's
code: what `mefctl zigbee forge` must answer."""
import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

TRANSPORT, LOAD, VERIFY = 0, 2, 3
KINDS = ("transport-key-nwk", "transport-key-nwk-update", "transport-key-nwk-broadcast", "transport-key-tclk",
         "transport-key-app", "tunnel", "request-key", "switch-key", "update-device", "remove-device", "verify-key",
         "confirm-key", "data")
UPLINK = ("request-key", "update-device", "verify-key")


def mmo(data):
    length = 8 * len(data)
    data += b"\x80"
    while len(data) % 16 != 14:
        data += b"\0"
    data += length.to_bytes(2, "big")
    digest = bytes(16)
    for i in range(0, len(data), 16):
        block = data[i:i + 16]
        encrypt = Cipher(algorithms.AES(digest), modes.ECB()).encryptor()
        digest = bytes(a ^ b for a, b in zip(encrypt.update(block), block))
    return digest


def keyed_hash(key, data):
    inner = mmo(bytes(b ^ 0x36 for b in key) + data)
    return mmo(bytes(b ^ 0x5C for b in key) + inner)


def crc(data):
    """CRC-16/X-25, bit by bit on the polynomial as written, x^16 + x^12 + x^5 + 1."""
    register = 0xFFFF
    for byte in data:
        for bit in range(8):
            top = register >> 15 ^ (byte >> bit & 1)
            register = register << 1 & 0xFFFF
            if top:
                register ^= 0x1021
    return int(f"{register ^ 0xFFFF:016b}"[::-1], 2)


def eui(text):
    return bytes.fromhex(text)[::-1]


def secure(key, header, control, counter, source, extra, plaintext):
    """Auxiliary header, ciphertext, MIC. Level 5 counts in the nonce and the authenticated data; 0 travels."""
    fields = struct.pack("<I", counter) + source + extra
    level5 = bytes([control | 5])
    nonce = source + struct.pack("<I", counter) + level5
    sealed = AESCCM(key, tag_length=4).encrypt(nonce, plaintext, header + level5 + fields)
    return bytes([control]) + fields + sealed


def command(kind, i):
    """The command's bytes (without APS header)."""
    device, gateway = eui(i["device_eui64_text"]), eui(i["gateway_eui64_text"])
    if kind in ("transport-key-nwk", "transport-key-nwk-update", "tunnel"):
        return bytes([5, 1]) + bytes.fromhex(i["transported_key"]) + bytes([i["key_seq"]]) + device + gateway
    if kind == "transport-key-nwk-broadcast":
        return bytes([5, 1]) + bytes.fromhex(i["transported_key"]) + bytes([i["key_seq"]]) + bytes(8) + gateway
    if kind == "transport-key-tclk":
        return bytes([5, 4]) + bytes.fromhex(i["transported_key"]) + device + gateway
    if kind == "transport-key-app":
        return bytes([5, 3]) + bytes.fromhex(i["transported_key"]) + eui(i["partner_eui64_text"]) + bytes([i["initiator"]])
    if kind == "request-key":
        return bytes([8, 4]) if i["request_type"] == 4 else bytes([8, 2]) + eui(i["partner_eui64_text"])
    if kind == "switch-key":
        return bytes([9, i["key_seq"]])
    if kind == "update-device":
        return bytes([6]) + eui(i["updated_eui64_text"]) + struct.pack("<HB", i["updated_short"], i["status"])
    if kind == "remove-device":
        return bytes([7]) + eui(i["target_eui64_text"])
    if kind == "verify-key":
        return bytes([0x0F, 4]) + device + keyed_hash(bytes.fromhex(i["link_key"]), b"\3")
    if kind == "confirm-key":
        return bytes([0x10, i["status"], 4]) + device
    raise ValueError(kind)


def is_uplink(kind, i):
    return i["direction"] == "uplink" if kind == "data" else kind in UPLINK


def is_broadcast(kind, i):
    return kind in ("transport-key-nwk-broadcast", "switch-key") and i.get("broadcast", True)


def aps_frame(kind, i):
    """(APS frame, its plaintext payload)."""
    control = 0 if kind == "data" else 1
    control |= 0x08 * is_broadcast(kind, i) | 0x40 * i["aps_ack_request"]
    if kind == "data":
        plaintext = bytes.fromhex(i["aps_payload"])
        rest = struct.pack("<BHHBB", i["dst_endpoint"], i["cluster"], i["profile"], i["src_endpoint"], i["aps_counter"])
    else:
        plaintext, rest = command(kind, i), bytes([i["aps_counter"]])
    if i["aps_key_id"] is None:
        return bytes([control]) + rest + plaintext, plaintext
    link_key, source = bytes.fromhex(i["link_key"]), "device_eui64_text" if is_uplink(kind, i) else "gateway_eui64_text"
    key = {0: link_key, 2: keyed_hash(link_key, b"\0"), 3: keyed_hash(link_key, b"\2")}[i["aps_key_id"]]
    header = bytes([control | 0x20]) + rest
    return header + secure(key, header, 0x20 | i["aps_key_id"] << 3, i["aps_frame_counter"], eui(i[source]), b"",
                           plaintext), plaintext


def forge(kind, i):
    """{"nwk_frame", "aps_frame", "plaintext"} as hex."""
    aps, plaintext = aps_frame(kind, i)
    payload, uplink = aps, is_uplink(kind, i)
    near, far = ("device", "gateway") if uplink else ("gateway", "device")
    dst = 0xFFFD if is_broadcast(kind, i) else i[far + "_short"]
    if kind == "tunnel":
        payload = bytes([1, i["tunnel"]["aps_counter"], 0x0E]) + eui(i["device_eui64_text"]) + aps
        dst = i["tunnel"]["parent_short"]
    control = 0x0008 | i["nwk_discover_route"] << 6 | 0x0800 * i["nwk_dst64"] | 0x1000 * i["nwk_src64"]
    control |= 0x0200 * (i["network_key"] is not None)
    header = struct.pack("<HHHBB", control, dst, i[near + "_short"], i["nwk_radius"], i["nwk_seq"])
    if i["nwk_dst64"]:
        header += eui(i["tunnel"]["parent_eui64_text"] if kind == "tunnel" else i[far + "_eui64_text"])
    if i["nwk_src64"]:
        header += eui(i[near + "_eui64_text"])
    if i["network_key"] is not None:
        payload = secure(bytes.fromhex(i["network_key"]), header, 0x28, i["nwk_frame_counter"], eui(i[near + "_eui64_text"]),
                         bytes([i["nwk_key_seq"]]), payload)
    return {"nwk_frame": (header + payload).hex(), "aps_frame": aps.hex(), "plaintext": plaintext.hex()}


def crc_fits(text):
    """Are these the hex digits of a code with its CRC behind it?"""
    try:
        code = bytes.fromhex(text)
    except ValueError:
        return False
    return len(code) in (8, 10, 14, 18) and crc(code[:-2]) == int.from_bytes(code[-2:], "little")


def install_code(rng):
    code = rng.randbytes(rng.choice((6, 8, 12, 16)))
    return code + crc(code).to_bytes(2, "little")


def random_inputs(rng, kind, network_key=None, link_key=None):
    """Inputs for one frame of this kind, every option drawn."""
    byte, short, text = (lambda: rng.randrange(256)), (lambda: rng.randrange(1, 0xFFF8)), (lambda: rng.randbytes(8).hex())
    counter = lambda: rng.choice((rng.randrange(0xFFFFFFFF), rng.randrange(256), 0, 0xFFFFFFFE))
    code = install_code(rng)
    i = {"link_key": link_key or mmo(code).hex(), "install_code": None if link_key else code.hex(),
         "network_key": network_key or rng.randbytes(16).hex(), "gateway_eui64_text": text(), "gateway_short": 0,
         "device_eui64_text": text(), "device_short": short(), "pan_id": rng.randrange(0xFFFF), "mac_seq": byte(),
         "nwk_seq": byte(), "nwk_radius": rng.randrange(1, 256), "nwk_dst64": rng.random() < 0.3,
         "nwk_src64": rng.random() < 0.3, "nwk_discover_route": rng.choice((0, 1)), "aps_counter": byte(),
         "aps_key_id": 0, "aps_frame_counter": counter(), "aps_ack_request": rng.random() < 0.3,
         "nwk_frame_counter": counter(), "nwk_key_seq": byte(), "transported_key": rng.randbytes(16).hex(),
         "key_seq": byte(), "partner_eui64_text": text(), "initiator": rng.randrange(2), "request_type": rng.choice((2, 4)),
         "updated_eui64_text": text(), "updated_short": short(), "target_eui64_text": text(),
         "status": rng.randrange(4) if kind == "update-device" else rng.choice((0, 0xAD, 0xA3, 0xAA)),
         "direction": rng.choice(("uplink", "downlink")), "dst_endpoint": byte(), "src_endpoint": byte(),
         "cluster": rng.randrange(0x10000), "profile": rng.randrange(0xC000, 0x10000),
         "aps_payload": rng.randbytes(rng.randrange(1, 40)).hex()}
    if kind == "tunnel":
        i["tunnel"] = {"parent_short": short(), "parent_eui64_text": text(), "aps_counter": byte()}
        i["nwk_dst64"] &= not i["nwk_src64"]  # with both the frame is longer than a radio frame
    if kind == "transport-key-nwk":
        i["network_key"] = None
    if kind.startswith("transport-key-nwk") or kind == "tunnel":
        i["aps_key_id"] = 2
    elif kind.startswith("transport-key"):
        i["aps_key_id"] = 3
    elif kind == "verify-key" or kind in ("update-device", "remove-device", "switch-key", "data") and rng.random() < 0.5:
        i["aps_key_id"] = None
    if kind in ("transport-key-nwk-broadcast", "switch-key"):
        i.update(nwk_dst64=False, aps_ack_request=False, aps_key_id=None, broadcast=True)
    return i
