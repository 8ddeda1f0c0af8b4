"""Zigbee frames and security as a device sees them; written from facts about the standard alone.

Nothing here is shared with the product: the simulated joiner is worth something only because it is a second opinion.
All integers are little endian on the air; an EUI-64 is an int whose most significant byte is the first printed one.
"""
import struct
import warnings
from dataclasses import dataclass

warnings.filterwarnings("ignore")  # python3-cryptography's deprecation notes are not our output
from cryptography.exceptions import InvalidTag  # noqa: E402
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # noqa: E402
from cryptography.hazmat.primitives.ciphers.aead import AESCCM  # noqa: E402

KEY_DATA, KEY_NWK, KEY_TRANSPORT, KEY_LOAD = range(4)
APS_DATA, APS_COMMAND = 0, 1
CMD_TRANSPORT_KEY, CMD_REQUEST_KEY, CMD_VERIFY_KEY, CMD_CONFIRM_KEY = 0x05, 0x08, 0x0F, 0x10
KEY_TYPE_TCLK = 0x04
LEVEL = 5  # encryption with a 4-byte MIC; sent as 0 and put back by both ends
ALL_ONES_64 = (1 << 64) - 1


class FrameError(ValueError):
    """A frame that a strict device does not take; the text says why."""


def eui_bytes(eui: int) -> bytes:
    return struct.pack("<Q", eui)


def eui_text(eui: int) -> str:
    return f"{eui:016x}"


def crc16_reflected(data: bytes, init: int, xorout: int) -> int:
    crc = init
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0x8408 if crc & 1 else crc >> 1
    return crc ^ xorout


def fcs(psdu: bytes) -> bytes:
    """802.15.4 frame check sequence."""
    return struct.pack("<H", crc16_reflected(psdu, 0, 0))


def install_code_crc(code: bytes) -> bytes:
    return struct.pack("<H", crc16_reflected(code, 0xFFFF, 0xFFFF))


def mmo_step(digest: bytes, block: bytes) -> bytes:
    enc = Cipher(algorithms.AES(digest), modes.ECB()).encryptor()
    return bytes(a ^ b for a, b in zip(enc.update(block), block))


def mmo(data: bytes) -> bytes:
    """AES-128 Matyas-Meyer-Oseas hash for messages below 2^16 bits."""
    padded = data + b"\x80"
    padded += bytes((14 - len(padded)) % 16) + struct.pack(">H", 8 * len(data))
    digest = bytes(16)
    for i in range(0, len(padded), 16):
        digest = mmo_step(digest, padded[i:i + 16])
    return digest


def keyed_hash(key: bytes, message: bytes) -> bytes:
    inner = mmo(bytes(b ^ 0x36 for b in key) + message)
    return mmo(bytes(b ^ 0x5C for b in key) + inner)


def link_key_of(install_code: bytes) -> bytes:
    """The link key of code||CRC; a wrong CRC is an error, as on a device's production line."""
    if len(install_code) not in (8, 10, 14, 18):
        raise FrameError("install code has a wrong length")
    if install_code_crc(install_code[:-2]) != install_code[-2:]:
        raise FrameError("install code has a wrong CRC")
    return mmo(install_code)


@dataclass
class Nwk:
    fcf: int
    dst: int
    src: int
    radius: int
    seq: int
    header: bytes
    payload: bytes

    @property
    def secured(self) -> bool:
        return bool(self.fcf & 0x0200)


def parse_nwk(frame: bytes) -> Nwk:
    if len(frame) < 8:
        raise FrameError("NWK header truncated")
    fcf, dst, src, radius, seq = struct.unpack_from("<HHHBB", frame)
    if fcf >> 2 & 15 != 2:
        raise FrameError("NWK protocol version is not 2")
    n = 8 + (8 if fcf & 0x0800 else 0) + (8 if fcf & 0x1000 else 0) + (1 if fcf & 0x0100 else 0)
    if fcf & 0x0400:
        if len(frame) < n + 2:
            raise FrameError("NWK source route truncated")
        n += 2 + 2 * frame[n]
    if len(frame) < n:
        raise FrameError("NWK header truncated")
    return Nwk(fcf, dst, src, radius, seq, frame[:n], frame[n:])


@dataclass
class Aux:
    control: int
    counter: int
    source: int | None
    key_seq: int | None
    raw: bytes

    @property
    def key_id(self) -> int:
        return self.control >> 3 & 3


def parse_aux(data: bytes) -> tuple[Aux, bytes]:
    if len(data) < 5:
        raise FrameError("auxiliary header truncated")
    control, counter = struct.unpack_from("<BI", data)
    n = 5
    source = key_seq = None
    if control & 0x20:
        if len(data) < n + 8:
            raise FrameError("auxiliary header truncated")
        source = struct.unpack_from("<Q", data, n)[0]
        n += 8
    if control >> 3 & 3 == KEY_NWK:
        if len(data) < n + 1:
            raise FrameError("auxiliary header truncated")
        key_seq = data[n]
        n += 1
    return Aux(control, counter, source, key_seq, data[:n]), data[n:]


def _nonce(source: int, counter: int, control: int) -> bytes:
    return eui_bytes(source) + struct.pack("<IB", counter, control & 0xF8 | LEVEL)


def open_secured(key: bytes, header: bytes, aux: Aux, secret: bytes) -> bytes:
    """Undo CCM*; header is everything authenticated in front of the auxiliary header."""
    if aux.source is None:
        raise FrameError("no source address for the nonce")
    aad = header + bytes([aux.control & 0xF8 | LEVEL]) + aux.raw[1:]
    try:
        return AESCCM(key, tag_length=4).decrypt(_nonce(aux.source, aux.counter, aux.control), secret, aad)
    except (InvalidTag, ValueError) as e:
        raise FrameError("bad MIC") from e


def seal_nwk(key: bytes, header: bytes, counter: int, source: int, key_seq: int, payload: bytes) -> bytes:
    """A complete NWK frame: header (security bit already set), auxiliary header 0x28, ciphertext, MIC."""
    tail = struct.pack("<IQB", counter, source, key_seq)
    control = 0x20 | KEY_NWK << 3
    aad = header + bytes([control | LEVEL]) + tail
    secret = AESCCM(key, tag_length=4).encrypt(_nonce(source, counter, control), payload, aad)
    return header + bytes([control]) + tail + secret


def seal_aps_command(link_key: bytes, aps_counter: int, counter: int, source: int, command: bytes) -> bytes:
    """An APS command under the link key itself."""
    header, control, tail = bytes([0x21, aps_counter]), 0x20 | KEY_DATA << 3, struct.pack("<IQ", counter, source)
    aad = header + bytes([control | LEVEL]) + tail
    return header + bytes([control]) + tail + AESCCM(link_key, tag_length=4).encrypt(
        _nonce(source, counter, control), command, aad)


def verify_hash(link_key: bytes) -> bytes:
    return keyed_hash(link_key, b"\x03")


def open_aps_command(aps: bytes, link_key: bytes, key_id: int, trust_centre: int, next_counter: int) -> tuple[bytes, int]:
    """A secured APS command of the Trust Centre: its bytes and its counter."""
    if len(aps) < 2 or aps[0] & 3 != APS_COMMAND or not aps[0] & 0x20:
        raise FrameError("not a secured APS command")
    aux, secret = parse_aux(aps[2:])
    if aux.key_id != key_id:
        raise FrameError(f"key id {aux.key_id} instead of {key_id}")
    if aux.source != trust_centre:
        raise FrameError("not from the Trust Centre")
    if aux.counter == 0xFFFFFFFF or aux.counter < next_counter:
        raise FrameError("APS frame counter not fresh")
    key = {KEY_DATA: link_key, KEY_TRANSPORT: keyed_hash(link_key, b"\x00"), KEY_LOAD: keyed_hash(link_key, b"\x02")}[key_id]
    return open_secured(key, aps[:2], aux, secret), aux.counter


def parse_link_key(command: bytes, own: int, trust_centre: int, provisional: bytes) -> bytes:
    """The new trust-centre link key, as strict devices take it: theirs, from their Trust Centre, and new."""
    if len(command) < 34 or command[0] != CMD_TRANSPORT_KEY or command[1] != KEY_TYPE_TCLK:
        raise FrameError("not a Transport-Key for a trust-centre link key")
    key, dst, src = command[2:18], *struct.unpack_from("<QQ", command, 18)
    if dst != own:
        raise FrameError("Transport-Key for another device")
    if src != trust_centre:
        raise FrameError("Trust Centre address differs")
    if key == provisional or key == b"ZigBeeAlliance09":
        raise FrameError("the link key is not a new one")
    return key


@dataclass
class TransportKey:
    key: bytes
    key_seq: int
    source: int
    counter: int


def open_transport_key(nwk: Nwk, link_key: bytes, own: int, next_counter: int) -> TransportKey:
    return open_first_key(nwk.payload, link_key, own, next_counter)


def open_first_key(aps: bytes, link_key: bytes, own: int, next_counter: int) -> TransportKey:
    """The first network key, with every check of a strict joiner (Zig 4.4.3, BDB 8.3)."""
    if len(aps) < 2:
        raise FrameError("APS header truncated")
    if aps[0] & 3 != APS_COMMAND:
        raise FrameError("not an APS command")
    if not aps[0] & 0x20:
        raise FrameError("Transport-Key without APS security")
    aux, secret = parse_aux(aps[2:])
    if aux.key_id != KEY_TRANSPORT:
        raise FrameError(f"key id {aux.key_id} instead of key-transport")
    if aux.source is None:
        raise FrameError("no extended nonce")
    if aux.counter == 0xFFFFFFFF or aux.counter < next_counter:
        raise FrameError("APS frame counter not fresh")
    plain = open_secured(keyed_hash(link_key, b"\x00"), aps[:2], aux, secret)
    if len(plain) != 35 or plain[0] != CMD_TRANSPORT_KEY:
        raise FrameError("not a Transport-Key for a network key")
    if plain[1] != 0x01:
        raise FrameError(f"key type {plain[1]} instead of standard network key")
    key, key_seq, dst, src = plain[2:18], plain[18], *struct.unpack_from("<QQ", plain, 19)
    if dst != own:
        raise FrameError("Transport-Key for another device")
    if src in (0, ALL_ONES_64):
        raise FrameError("no Trust Centre address")
    if src != aux.source:
        raise FrameError("Trust Centre address differs from the frame's source")
    return TransportKey(key, key_seq, src, aux.counter)


@dataclass
class ApsData:
    dst_endpoint: int
    cluster: int
    profile: int
    src_endpoint: int
    counter: int
    payload: bytes
    ack_request: bool


def parse_aps_data(aps: bytes) -> ApsData | None:
    """An unsecured APS data frame to one endpoint; None for anything else."""
    if len(aps) < 8 or aps[0] & 3 != APS_DATA or aps[0] & 0x20 or aps[0] >> 2 & 3 == 3:
        return None
    return ApsData(*struct.unpack_from("<BHHBB", aps, 1), aps[8:], bool(aps[0] & 0x40))


def build_aps_data(delivery: int, dst_endpoint: int, cluster: int, profile: int, src_endpoint: int, counter: int,
                   payload: bytes) -> bytes:
    return struct.pack("<BBHHBB", delivery << 2, dst_endpoint, cluster, profile, src_endpoint, counter) + payload


ZCL_TYPES = {  # name: (ZCL type id, struct format)
    "bool": (0x10, "<B"), "u8": (0x20, "<B"), "u16": (0x21, "<H"), "u32": (0x23, "<I"), "s8": (0x28, "<b"),
    "s16": (0x29, "<h"), "s32": (0x2B, "<i"), "enum8": (0x30, "<B"), "float": (0x39, "<f"),
}


def zcl_report(tsn: int, attribute: int, type_name: str, value: float) -> bytes:
    type_id, fmt = ZCL_TYPES[type_name]
    number = value if type_name == "float" else int(value)
    return struct.pack("<BBBHB", 0x18, tsn, 0x0A, attribute, type_id) + struct.pack(fmt, number)
