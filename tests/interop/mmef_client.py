#!/usr/bin/env python3
"""An AE in one file, written from docs/mmef-example.md alone: register, find, get, over CoAP in DTLS by pre-shared key; as a
module also by certificate, and any other request.

Shares no code with the product: its own encoder, and `openssl s_client` for DTLS. That program takes the pre-shared key
as an argument, where other users of the machine can see it: for tests only.

    mmef_client.py HOST PORT KPM-ID (KEY-FILE|-) --from AE-ID --admin FQDN --eui64 HEX [--base mef] [--timeout S]

The key (Kpm, hex) is read from a file, or with - from standard input. Prints the device's key in hex. Exit status: 0 got
it, 1 the MEF refused or did not answer, 2 usage."""
import argparse
import base64
import datetime
import json
import os
import secrets
import select
import struct
import subprocess
import sys
import time

CON, NON, ACK, RST = range(4)
GET, POST, PUT, DELETE = 1, 2, 3, 4
LOCATION_PATH, URI_PATH, CONTENT_FORMAT, URI_QUERY, ACCEPT, BLOCK2 = 8, 11, 12, 15, 17, 23
TY, RVI, FR, RQI, RSC = 267, 271, 279, 283, 307
JSON = 50
TY_CLIENT_REG = 60002


class Refused(Exception):
    """The MEF's answer was not the one wanted."""


# --- CoAP messages (RFC 7252 3) ------------------------------------------------------------------------------------------

def uint(v):
    return v.to_bytes((v.bit_length() + 7) // 8, "big")


def extended(n):
    """The nibble of an option's delta or length, and the bytes that extend it."""
    if n < 13:
        return n, b""
    if n < 269:
        return 13, bytes([n - 13])
    return 14, struct.pack("!H", n - 269)


def encode(kind, code, mid, token=b"", options=(), payload=b""):
    out = bytes([0x40 | kind << 4 | len(token), code]) + struct.pack("!H", mid) + token
    last = 0
    for number, value in sorted(options, key=lambda o: o[0]):
        (d, more_d), (n, more_n) = extended(number - last), extended(len(value))
        out += bytes([d << 4 | n]) + more_d + more_n + value
        last = number
    return out + (b"\xff" + payload if payload else b"")


def take_extended(nibble, data, at):
    if nibble == 13:
        return data[at] + 13, at + 1
    if nibble == 14:
        return struct.unpack_from("!H", data, at)[0] + 269, at + 2
    if nibble == 15:
        raise ValueError("reserved nibble")
    return nibble, at


class Message:
    def __init__(self, data):
        self.kind, self.code, self.mid = data[0] >> 4 & 3, data[1], struct.unpack_from("!H", data, 2)[0]
        tkl = data[0] & 15
        if data[0] >> 6 != 1 or tkl > 8 or len(data) < 4 + tkl:
            raise ValueError("not a CoAP message")
        self.token, self.options, self.payload = data[4:4 + tkl], [], b""
        at, number = 4 + tkl, 0
        while at < len(data):
            if data[at] == 0xff:
                self.payload = data[at + 1:]
                return
            delta, length = data[at] >> 4, data[at] & 15
            delta, at = take_extended(delta, data, at + 1)
            length, at = take_extended(length, data, at)
            number += delta
            if at + length > len(data):
                raise ValueError("option reaches behind the end")
            self.options.append((number, data[at:at + length]))
            at += length

    def option(self, number):
        return next((v for n, v in self.options if n == number), None)

    @property
    def rsc(self):
        return int.from_bytes(self.option(RSC) or b"", "big")

    @property
    def location(self):
        return "/".join(v.decode() for n, v in self.options if n == LOCATION_PATH)

    def __str__(self):
        return "%d.%02d, response status code %s%s" % (
            self.code >> 5, self.code & 31, self.rsc or "-",
            ", " + self.payload.decode("utf-8", "replace") if self.code >> 5 != 2 and self.payload else "")


# --- the session ---------------------------------------------------------------------------------------------------------

def by_key(identity, key_hex):
    """What openssl shows for a pre-shared key.."""
    return "-psk_identity", identity, "-psk", key_hex, "-cipher", "PSK-AES128-CCM8@SECLEVEL=0"


def by_certificate(cert, key):
    """..and for a certificate; both with the suite that is mandated."""
    return "-cert", str(cert), "-key", str(key), "-cipher", "ECDHE-ECDSA-AES128-CCM8@SECLEVEL=0"


class Session:
    def __init__(self, host, port, proof, timeout):
        self.timeout, self.mid, self.waiting = timeout, secrets.randbelow(65536), b""
        where = "[%s]:%s" % (host, port) if ":" in host else "%s:%s" % (host, port)
        self.child = subprocess.Popen(
            ["openssl", "s_client", "-dtls1_2", "-quiet", "-connect", where, *proof],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)

    def close(self):
        self.child.terminate()
        self.child.communicate()

    def send(self, data):
        try:
            os.write(self.child.stdin.fileno(), data)
        except BrokenPipeError:
            raise Refused("the DTLS session could not be made, or ended") from None

    def receive(self, seconds):
        """The next message's bytes, or None. A pipe keeps no bounds between records, so two that came together are one
        read; with one request at a time the first of them is an empty message, which is 4 bytes long (RFC 7252 4.1)."""
        if not self.waiting and select.select([self.child.stdout], [], [], max(0, seconds))[0]:
            self.waiting = os.read(self.child.stdout.fileno(), 65536)
            if not self.waiting:
                raise Refused("the DTLS session could not be made, or ended")
        end = 4 if len(self.waiting) > 4 and self.waiting[1] == 0 else len(self.waiting)
        data, self.waiting = self.waiting[:end], self.waiting[end:]
        return data or None

    def request(self, code, options, payload=b""):
        """Send a confirmable request until it is acknowledged; return its response, piggybacked or separate."""
        self.mid = (self.mid + 1) & 0xffff
        token, deadline = secrets.token_bytes(2), time.monotonic() + self.timeout
        data = encode(CON, code, self.mid, token, options, payload)
        wait, acknowledged = 2.0, False
        self.send(data)
        resend = time.monotonic() + wait
        while time.monotonic() < deadline:
            got = self.receive((deadline if acknowledged else min(deadline, resend)) - time.monotonic())
            if got is None:
                if not acknowledged and time.monotonic() >= resend:
                    wait *= 2
                    resend = time.monotonic() + wait
                    self.send(data)
                continue
            try:
                m = Message(got)
            except (ValueError, IndexError, struct.error):
                continue
            if m.kind == RST and m.mid == self.mid:
                raise Refused("the MEF reset the request")
            if m.kind == ACK and m.mid == self.mid:
                acknowledged = True
            if m.kind == CON:
                self.send(encode(ACK, 0, m.mid))
            if m.code >> 5 in (2, 4, 5) and m.token == token:
                return m
        raise Refused("no answer in %g s" % self.timeout)


# --- the three calls -----------------------------------------------------------------------------------------------------

class Client:
    def __init__(self, session, origin, base):
        self.session, self.origin, self.base, self.serial = session, origin, base, 0

    def options(self, path, queries=(), ty=None, content=False):
        """What every primitive carries, in no order: the encoder sorts."""
        self.serial += 1
        o = [(URI_PATH, p.encode()) for p in path.split("/")] + [(URI_QUERY, q.encode()) for q in queries]
        o += [(ACCEPT, uint(JSON)), (RVI, b"3"), (FR, self.origin.encode()), (RQI, b"%d" % self.serial)]
        o += [(TY, uint(ty))] if ty is not None else []
        return o + ([(CONTENT_FORMAT, uint(JSON))] if ty is not None or content else [])

    def call(self, method, path, queries=(), ty=None, body=None):
        """The answer, as it came (its first block), and its whole payload."""
        payload = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        options = self.options(path, queries, ty, body is not None)
        first = m = self.session.request(method, options, payload)
        whole, block = m.payload, 0
        while int.from_bytes(m.option(BLOCK2) or b"", "big") & 8:  # RFC 7959: the M bit
            block += 1
            m = self.session.request(method, options + [(BLOCK2, uint(block << 4 | m.option(BLOCK2)[-1] & 7))])
            whole += m.payload
        return first, whole

    def ask(self, method, wanted, path, queries=(), ty=None, body=None):
        m, whole = self.call(method, path, queries, ty, body)
        if m.rsc not in wanted:
            raise Refused("%s: %s" % (path, m))
        return json.loads(whole) if whole and m.code >> 5 == 2 else None

    def register(self, admin, days=30):
        """4117: registered already, which is as good."""
        end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
        self.ask(POST, (2001, 4117), self.base, ty=TY_CLIENT_REG,
                 body={"sec:mecr": {"et": end.strftime("%Y%m%dT%H%M%S"), "adfq": admin}})

    def find(self, eui64):
        found = self.ask(GET, (2000,), self.base, queries=("fu=1", "lbl=eui64:" + eui64))["m2m:uril"]
        if not found:
            raise Refused("no key of %s for this AE" % eui64)
        return found[0]

    def get(self, uri):
        skr = self.ask(GET, (2000,), uri)["sec:skr"]
        if skr["suid"] != 24:
            raise Refused("not an ESData key")
        return base64.b64decode(skr["kv"], validate=True)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("host")
    p.add_argument("port")
    p.add_argument("identity", help="KpmID")
    p.add_argument("key", help="file with the Kpm in hex, or -")
    p.add_argument("--from", dest="origin", required=True, help="AE-ID, as the credential was made for")
    p.add_argument("--admin", required=True, help="adminFQDN")
    p.add_argument("--eui64", required=True, help="the device, 16 hex digits")
    p.add_argument("--base", default="mef")
    p.add_argument("--timeout", type=float, default=15)
    a = p.parse_args()
    key = (sys.stdin.read() if a.key == "-" else open(a.key, encoding="ascii").read()).strip()
    session = Session(a.host, a.port, by_key(a.identity, key), a.timeout)
    try:
        client = Client(session, a.origin, a.base)
        client.register(a.admin)
        print(client.get(client.find(a.eui64.lower().replace(":", ""))).hex())
    except Refused as e:
        print("mmef_client: %s" % e, file=sys.stderr)
        return 1
    finally:
        session.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
