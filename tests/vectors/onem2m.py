"""The derivations of onem2m.json again, straight from the clauses of TS-0003 10.3 with Python's own HMAC: what the vault is
tested against was not made by it."""
import hashlib
import hmac
import json
import pathlib

VECTORS = json.loads((pathlib.Path(__file__).resolve().parent / "onem2m.json").read_text())["derivations"]
LABELS = {"km": b"oneM2M Enrolment Key to Master Credential derivation",
          "kpsa": b"oneM2M Enrolment Key to Provisioned Secure Connection Key derivation",
          "kuc": b"oneM2M Enrolment Key to Usage-Constrained Symmetric Key derivation",
          "session-esprim": b"oneM2M HMAC-SHA256 sessionESPrimKey derivation algorithm"}


def kuc(ke: bytes, suid: int, target: str) -> bytes:
    """10.3.7: the key of one usage and target."""
    return hmac.new(ke, LABELS["kuc"] + str(suid).encode() + target.encode(), hashlib.sha256).digest()


def derive(v: dict) -> bytes:
    key, what = bytes.fromhex(v["key"]), v["what"]
    if what == "kuc":
        return kuc(key, v["suid"], v["id"])
    if what == "session-esprim":  # 10.3.8
        message = bytes.fromhex(v["receiver_rand"]) + bytes.fromhex(v["originator_rand"]) + LABELS[what]
    else:  # 10.3.2, 10.3.3
        message = LABELS[what] + v["id"].encode()
    return hmac.new(key, message, hashlib.sha256).digest()


def check(count):
    for v in VECTORS:
        count.check(f"{v['what']} {v.get('id', '')}", derive(v).hex(), v["derived"])
    count.check("every derivation has a vector", {v["what"] for v in VECTORS}, set(LABELS))
