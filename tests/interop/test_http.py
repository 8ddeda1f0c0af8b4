#!/usr/bin/python3
"""HTTP over TLS byte by byte: what is said to wrong, ambiguous, hostile and slow requests. Each row names its answer."""
import re
import sys
import time

from bindings import Mefd, read_all

GET = b"GET /svc/x HTTP/1.1\r\nHost: h\r\n"
PUT = b"PUT /svc/raw/x HTTP/1.1\r\nHost: h\r\n"
END = b"Connection: close\r\n\r\n"
SMUGGLED = b"GET /svc/smuggled HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"

# name, bytes, status codes expected in order, or others that are as good
ROWS = [
    ("plain get", GET + END, [200]),
    ("two, pipelined", GET + b"\r\n" + GET + END, [200, 200]),
    ("body by length", PUT + b"Content-Length: 3\r\n" + END + b"abc", [200]),
    ("body in chunks", PUT + b"Transfer-Encoding: chunked\r\n" + END + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", [200]),
    # libmicrohttpd 1.0 refuses the extensions that RFC 9112 7.1.1 wants ignored
    ("a chunk with an extension", PUT + b"Transfer-Encoding: chunked\r\n" + END + b"2;x=y\r\nde\r\n0\r\n\r\n", [200], [400]),
    ("chunks with a trailer", PUT + b"Transfer-Encoding: chunked\r\n" + END + b"1\r\na\r\n0\r\nX-T: 1\r\n\r\n", [200]),
    ("Chunked in capitals", PUT + b"transfer-encoding: Chunked\r\n" + END + b"0\r\n\r\n", [200]),
    ("after a chunked one", PUT + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n" + GET + END, [200, 200]),
    ("100-continue", PUT + b"Expect: 100-continue\r\nContent-Length: 1\r\n" + END + b"a", [100, 200], [200]),  # the body is there: RFC 9110 10.1.1
    ("100-continue, too large", PUT + b"Expect: 100-continue\r\nContent-Length: 9999999\r\n" + END, [413]),
    ("too large by length", PUT + b"Content-Length: 70000\r\n" + END + b"a" * 70000, [413]),
    ("too large in chunks", PUT + b"Transfer-Encoding: chunked\r\n" + END + b"ffff\r\n" + b"a" * 65535 +
     b"\r\n2\r\nab\r\n0\r\n\r\n", [413]),
    # --- smuggling
    ("length and chunked", PUT + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, [400]),
    ("chunked and length", PUT + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + SMUGGLED, [400]),
    ("two lengths, different", PUT + b"Content-Length: 0\r\nContent-Length: 60\r\n\r\n" + SMUGGLED, [400]),
    ("two lengths, equal", PUT + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na", [400]),
    ("length as a list", PUT + b"Content-Length: 1, 1\r\n\r\na", [400]),
    ("length with a sign", PUT + b"Content-Length: +1\r\n\r\na", [400]),
    ("negative length", PUT + b"Content-Length: -1\r\n\r\n", [400]),
    ("hexadecimal length", PUT + b"Content-Length: 0x1\r\n\r\na", [400]),
    ("empty length", PUT + b"Content-Length:\r\n\r\n", [400]),
    ("huge length", PUT + b"Content-Length: 99999999999999999999\r\n\r\n", [400]),
    ("length with text behind", PUT + b"Content-Length: 1 a\r\n\r\na", [400]),
    ("unknown coding", PUT + b"Transfer-Encoding: gzip\r\n\r\n", [501]),
    ("codings in a list", PUT + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", [501]),
    ("chunked twice", PUT + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", [400]),
    ("chunked with a vertical tab", PUT + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", [400]),
    ("chunked in quotes", PUT + b"Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", [501]),
    ("folded header", GET + b"X-A: 1\r\n 2\r\n\r\n", [400]),
    ("folded length", PUT + b"Content-Length:\r\n 5\r\n\r\nabcde", [400]),
    ("fold in front", b"GET /svc/x HTTP/1.1\r\n Host: h\r\n\r\n", [400]),
    ("space before the colon", PUT + b"Content-Length : 5\r\n\r\nabcde", [400]),
    ("tab before the colon", PUT + b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", [400]),
    ("no colon", GET + b"nonsense\r\n\r\n", [400]),
    ("empty header name", GET + b": x\r\n\r\n", [400]),
    ("NUL in a header", GET + b"X-A: a\0b\r\n\r\n", [400]),
    ("NUL in a header's name", GET + b"Content-Length\0: 5\r\n\r\n", [400]),
    ("bare LF, first line", b"GET /svc/x HTTP/1.1\nHost: h\r\n\r\n", [400]),
    ("bare LF, header", b"GET /svc/x HTTP/1.1\r\nHost: h\nX: y\r\n\r\n", [400]),
    ("bare LF, end of head", b"GET /svc/x HTTP/1.1\r\nHost: h\r\n\n", [400]),
    ("bare CR in a header", GET + b"X-A: a\rb\r\n\r\n", [400]),
    ("bare CR behind a name", GET + b"X-A\r: b\r\n\r\n", [400]),
    ("chunk size missing", PUT + b"Transfer-Encoding: chunked\r\n\r\n\r\nabc", [400]),
    ("chunk size wrong", PUT + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", [400]),
    ("chunk size in 0x form", PUT + b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", [400]),
    ("chunk size with a space", PUT + b"Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n", [400]),
    ("chunk size beyond 64 bits", PUT + b"Transfer-Encoding: chunked\r\n\r\n1" + b"0" * 16 + b"\r\n", [400]),
    ("chunk longer than it says", PUT + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", [400]),
    ("chunk line ends in LF", PUT + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", [400]),
    ("chunk extension without end", PUT + b"Transfer-Encoding: chunked\r\n\r\n3;" + b"a" * 400, [400]),
    # --- first lines
    ("HTTP/0.9", b"GET /svc/x\r\n", [400]),
    ("HTTP/1.0", b"GET /svc/x HTTP/1.0\r\nHost: h\r\n\r\n", [505]),
    ("HTTP/2.0", b"GET /svc/x HTTP/2.0\r\nHost: h\r\n\r\n", [505]),
    ("HTTP/1.10", b"GET /svc/x HTTP/1.10\r\nHost: h\r\n\r\n", [400]),
    ("HTTP/1.2", b"GET /svc/x HTTP/1.2\r\nHost: h\r\n" + END, [200]),
    ("http/1.1 in small letters", b"GET /svc/x http/1.1\r\nHost: h\r\n\r\n", [400]),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [505]),
    ("absolute form", b"GET https://h/svc/x HTTP/1.1\r\nHost: h\r\n" + END, [200]),
    ("absolute form, another scheme", b"GET http://h/svc/x HTTP/1.1\r\nHost: h\r\n" + END, [400]),
    ("authority form", b"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n", [400]),
    ("no target", b"GET  HTTP/1.1\r\nHost: h\r\n\r\n", [400]),
    ("two spaces", b"GET  /svc/x HTTP/1.1\r\nHost: h\r\n\r\n", [400]),
    ("space in the target", b"GET /svc/ x HTTP/1.1\r\nHost: h\r\n\r\n", [400]),
    ("empty line in front", b"\r\n" + GET + END, [400]),
    ("garbage", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", [400]),
    ("no host", b"GET /svc/x HTTP/1.1\r\n\r\n", [400]),
    ("two hosts", GET + b"Host: i\r\n\r\n", [400]),
    ("malformed escape", b"GET /svc/%zz HTTP/1.1\r\nHost: h\r\n" + END, [400]),
    # --- limits
    ("long target", b"GET /svc/x?" + b"a" * 20000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", [414]),
    ("long header", GET + b"X-A: " + b"a" * 60000 + b"\r\n\r\n", [431]),
    ("long header name", GET + b"a" * 60000 + b": b\r\n\r\n", [431]),
    ("endless header line", GET + b"X-A: " + b"a" * 300000, [431]),
    ("many headers", GET + b"".join(b"X-%d: 1\r\n" % i for i in range(200)) + b"\r\n", [431]),
    ("long trailers", PUT + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X-A: " + b"a" * 60000 + b"\r\n\r\n", [431]),
    ("a good one, then garbage", GET + b"\r\n" + b"\0\0\0\0", [200, 400]),
    ("a good one, then smuggling", PUT + b"Content-Length: 1\r\n\r\na" + PUT +
     b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", [200, 400]),
    # --- methods and expectations
    ("unknown expectation", PUT + b"Expect: 200-ok\r\nContent-Length: 1\r\n" + END + b"a", [417]),
    ("HEAD", b"HEAD /svc/x HTTP/1.1\r\nHost: h\r\n" + END, [200]),
    ("OPTIONS", b"OPTIONS /svc/x HTTP/1.1\r\nHost: h\r\n" + END, [405]),
    ("OPTIONS *", b"OPTIONS * HTTP/1.1\r\nHost: h\r\n" + END, [405]),
    ("TRACE", b"TRACE /svc/x HTTP/1.1\r\nHost: h\r\n" + END, [405]),
    ("PATCH", b"PATCH /svc/x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n" + END + b"{}", [405]),
    ("unknown method", b"BREW /svc/x HTTP/1.1\r\nHost: h\r\n" + END, [405]),
    ("method in small letters", b"get /svc/x HTTP/1.1\r\nHost: h\r\n" + END, [405]),
    ("upgrade is left aside", GET + b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n" + END, [200]),
]


def codes(raw):
    return [int(c) for c in re.findall(rb"HTTP/1\.1 (\d{3}) ", raw)]


def table(mefd, host):
    bad = []
    for name, sent, want, *others in ROWS:
        with mefd.connect(host, 5) as s:
            try:
                s.sendall(sent)
            except OSError:
                pass
            raw, end = read_all(s)
        problem = want[-1] < 400 or b"application/problem+json" in raw
        allow = want != [405] or b"\r\nAllow: GET, HEAD, POST, PUT, DELETE\r\n" in raw
        body = name != "HEAD" or raw.endswith(b"\r\n\r\n")
        if codes(raw) not in (want, *others) or end not in ("closed", "tls:None") or not problem or not allow or b"smuggled" in raw or not body:
            bad.append(f"{name}: want {want}, got {codes(raw)} {end}\n    {raw[-300:]!r}")
    return bad


def slow(mefd):
    """A head, a body and an answer not fetched, each dripping: cut off by the deadline, not before, not never."""
    bad = []
    for name, start, drop in [("slow head", b"GET /svc/x HT", b"T"), ("slow headers", GET, b"X-A: 1\r\n"),
                              ("slow body", PUT + b"Content-Length: 1000\r\n\r\n", b"a"),
                              ("slow chunks", PUT + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n")]:
        began = time.monotonic()
        with mefd.connect() as s:
            s.sendall(start)
            s.settimeout(0.2)
            ended = False
            while not ended and time.monotonic() - began < 8:
                try:
                    ended = s.recv(1000) == b""
                except TimeoutError:
                    pass
                except OSError:
                    ended = True
                try:
                    if not ended and name != "slow head":
                        s.sendall(drop)
                except OSError:
                    ended = True
        took = time.monotonic() - began
        if not ended or not 1 < took < 4:
            bad.append(f"{name}: {'ended' if ended else 'still open'} after {took:.1f} s")
    return bad


def crowd(mefd):
    """At most so many connections of one address; another address is served meanwhile."""
    held = [mefd.connect() for _ in range(8)]
    try:
        mefd.connect(timeout=3)
        return ["a ninth connection was taken"]
    except OSError:
        pass
    finally:
        bad = table_row(mefd, "::1")
        for s in held:
            s.close()
    time.sleep(0.2)
    return bad + table_row(mefd, "127.0.0.1") + ([] if mefd.metric("https_address_full_total") == 1 else ["not counted"])


def leave(mefd):
    """A client that waits to be told to go on is told so."""
    with mefd.connect() as s:
        s.sendall(PUT + b"Expect: 100-continue\r\nContent-Length: 1\r\n" + END)
        first = s.recv(1000)
        s.sendall(b"a")
        said = codes(first + read_all(s)[0])
    return [] if first.startswith(b"HTTP/1.1 100 ") and said == [100, 200] else [f"leave asked for: {said}"]


def table_row(mefd, host):
    with mefd.connect(host) as s:
        s.sendall(GET + END)
        return [] if codes(read_all(s)[0]) == [200] else [f"{host} is not served"]


def main():
    mefd = Mefd("idle-seconds = 2\nmax-connections-per-address = 8")
    bad = table(mefd, "127.0.0.1") + table(mefd, "::1") + slow(mefd) + crowd(mefd) + leave(mefd)
    mefd.stop()
    print("\n".join(bad) if bad else f"{len(ROWS)} rows over IPv4 and IPv6, slow peers, crowds: as expected")
    sys.exit(1 if bad else 0)


main()
