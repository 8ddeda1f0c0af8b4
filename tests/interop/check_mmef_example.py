#!/usr/bin/env python3
"""The hexadecimal of docs/mmef-example.md, line by line, against an encoder that was written from its words. Usage: DOC"""
import json
import re
import sys
import pathlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import mmef_client as c  # noqa: E402

AE, EUI64, KEY_ID, REG_ID = b"C-demo", "00124b0001020304", b"5f1c2a7d94e04b6f8a3b1c9d2e7f6051", b"0c4d2f6a8b1e4c3d9a7f5e6b2d1c0f3a"


def fences(text):
    """(language, lines) of each fenced block."""
    for match in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.S | re.M):
        yield match[0], match[1].splitlines()


def message(lines):
    """The bytes at the beginning of each line."""
    return bytes.fromhex("".join(re.match(r"(?:[0-9a-f]{2}(?: |$))*", line).group(0) for line in lines).replace(" ", ""))


def primitive(serial, path, queries=(), ty=None):
    client = c.Client(None, AE.decode(), "mef")
    client.serial = serial - 1
    return client.options(path, queries, ty)


def main():
    text = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")
    token = [bytes([0xa1, i]) for i in range(5)]
    body = b'{"sec:mecr":{"et":"20270101T000000","adfq":"sp.example.com"}}'
    wanted = [
        c.encode(c.CON, c.POST, 1, token[1], primitive(1, "mef", ty=60002), body),
        c.encode(c.ACK, 0x41, 1, token[1], [(8, b"mef"), (8, REG_ID), (12, c.uint(50)), (14, b""), (271, b"3"), (283, b"1"),
                                            (307, c.uint(2001))]) + b"\xff",
        c.encode(c.CON, c.GET, 2, token[2], primitive(2, "mef", ("fu=1", "lbl=eui64:" + EUI64))),
        c.encode(c.CON, c.GET, 3, token[3], primitive(3, "mef/" + KEY_ID.decode())),
        c.encode(c.CON, c.GET, 4, token[4], [(6, b"")] + [(11, p.encode()) for p in ("mef", "eg", "frames", EUI64)] + [(17, c.uint(42))]),
    ]
    found = [message(lines) for language, lines in fences(text) if not language and re.match(r"[46]2 ", lines[0])]
    assert len(found) == len(wanted), "%d messages in the page, %d expected" % (len(found), len(wanted))
    for i, (page, own) in enumerate(zip(found, wanted)):
        assert page == own, "message %d:\npage    %s\nencoder %s" % (i + 1, page.hex(" "), own.hex(" "))
        c.Message(page.removesuffix(b"\xff"))
    for language, lines in fences(text):
        if language == "json":
            json.loads("\n".join(lines))
    print("%d messages and all JSON examples agree" % len(wanted))


if __name__ == "__main__":
    main()
