"""Secrets, the ways in which one may be written down, and planted ones: each in one way only, to show that it is seen."""
import base64
import random
from dataclasses import dataclass, field

SPELLINGS = ("raw", "hex", "HEX", "reversed", "base64.0", "base64.1", "base64.2", "base64url.0", "base64url.1", "base64url.2",
             "half.1", "half.2")
PIECE = 8  # bytes: less of a random secret could be there by chance


def base64_inside(secret: bytes, shift: int, url: bool) -> bytes:
    """The characters that stand for `secret` alone when `shift` (mod 3) bytes are in front of it and others behind."""
    encode = base64.urlsafe_b64encode if url else base64.b64encode
    text = encode(bytes(shift) + secret + bytes(3))
    first, last = -(-8 * shift // 6), 8 * (shift + len(secret)) // 6
    return text[first:last]


def spell(secret: bytes, spelling: str) -> bytes:
    name, _, which = spelling.partition(".")
    if name in ("base64", "base64url"):
        return base64_inside(secret, int(which), name == "base64url")
    if name == "half":
        half = max(PIECE, len(secret) // 2)
        return secret[:half] if which == "1" else secret[-half:]
    return {"raw": secret, "hex": secret.hex().encode(), "HEX": secret.hex().upper().encode(), "reversed": secret[::-1]}[name]


def needles(secret: bytes) -> dict:
    """Spelling: bytes to look for. Beside the twelve: pieces of 8 bytes, also in hexadecimal and reversed, and a code as it is
    printed on labels, in groups of four digits."""
    out = {s: spell(secret, s) for s in SPELLINGS}
    for at in range(0, len(secret) - PIECE + 1, PIECE):
        piece = secret[at:at + PIECE]
        for s in ("raw", "hex", "HEX", "reversed"):
            out[f"piece.{at}.{s}"] = spell(piece, s)
    digits = secret.hex().upper()
    out["printed"] = " ".join(digits[i:i + 4] for i in range(0, len(digits), 4)).encode()
    return {s: n for s, n in out.items() if len(n) >= PIECE and telling(n)}


def telling(needle: bytes) -> bool:
    """Not of the kind that memory is full of: zeros, runs, a few values."""
    return len(set(needle)) > min(len(needle), 16) // 4


@dataclass
class Secret:
    """holders: patterns of the places where it may be; wanted: those where it has to be found, or the search is blind."""
    name: str
    value: bytes
    holders: set = field(default_factory=set)
    wanted: set = field(default_factory=set)


class Plant:
    """A random secret for each spelling, written down in that spelling only."""

    def __init__(self, rng: random.Random, name: str, text_only: bool = False):
        self.name, self.pieces, self.secrets = name, {}, []
        for spelling in SPELLINGS:
            if text_only and spelling.split(".")[0] not in ("hex", "HEX", "base64", "base64url"):
                continue
            value = self._value(rng, spelling)
            self.secrets.append(Secret(f"planted:{name}:{spelling}", value))
            self.pieces[spelling] = spell(value, spelling)

    @staticmethod
    def _value(rng: random.Random, spelling: str) -> bytes:
        """16 bytes of no special meaning to C strings, lines and frames; base64 such that the two alphabets differ."""
        usable = [b for b in range(0x20, 0xF0) if b not in b"\"'\\\x7d\x7e\x7f"]
        while True:
            value = bytes(rng.choice(usable) for _ in range(16))
            if not spelling.startswith("base64") or set(spell(value, spelling)) & set(b"+/-_"):
                return value

    def blob(self, separator: bytes = b" ") -> bytes:
        return separator.join(self.pieces.values())

    def ids(self) -> set:
        return {f"{s.name}/{s.name.split(':')[2]}" for s in self.secrets}
