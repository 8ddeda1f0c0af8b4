"""HTTP/1.1 as a hostile peer would speak it (RFC 9110, 9112), and Mmef over HTTP (TS-0009)."""
from engine import Row

MEBIBYTE = 1 << 20
FIELD_LIMIT = 16384  # [https] max-header


def http(w, method="GET", target="/v1/gateways", fields=(), body=b"", version="HTTP/1.1", token="admin",
         close=True) -> bytes:
    """A request as it should be: one Host, one Authorization, Content-Length when there is a body."""
    lines = [f"{method} {target} {version}", "Host: localhost"]
    if token:
        lines.append(f"Authorization: Bearer {w.tokens.get(token, token)}")
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [*fields, *(["Connection: close"] if close else [])]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def head(w, *lines, auth=True) -> bytes:
    """Exactly these lines, and the token."""
    return "\r\n".join([*lines,
                        *([f"Authorization: Bearer {w.tokens['admin']}"] if auth else [])]).encode("latin-1") + b"\r\n\r\n"


def request_lines(w):
    def line(text, host=True):
        return head(w, text, *(["Host: localhost"] if host else []), "Connection: close")
    ok = "/v1/gateways"
    yield Row("all is well", "https", http(w), "200")
    yield Row("no version", "https", line("GET " + ok), "400")
    yield Row("HTTP/0.9", "https", line(f"GET {ok} HTTP/0.9"), "505")
    yield Row("HTTP/2.0 in text", "https", line(f"GET {ok} HTTP/2.0"), "505")
    for version in ("1.2", "1.9"):
        yield Row(f"HTTP/{version} is taken as 1.1", "https", line(f"GET {ok} HTTP/{version}"), "200")
    for version in ("3.0", "1.0", "0.0", "9.9"):
        yield Row(f"HTTP/{version}", "https", line(f"GET {ok} HTTP/{version}"), "505")
    for version in ("x", "", "1", "1.", ".1", "1.10", "01.1", "1.1.1", "1,1", "-1.1"):
        yield Row(f"HTTP of number {version!r}", "https", line(f"GET {ok} HTTP/{version}"), "400")
    yield Row("http in lower case", "https", line(f"GET {ok} http/1.1"), "400")
    yield Row("another protocol", "https", line(f"GET {ok} RTSP/1.0"), "400")
    yield Row("four words", "https", line(f"GET {ok} x HTTP/1.1"), "400")
    yield Row("method in lower case", "https", line(f"get {ok} HTTP/1.1"), "405")
    yield Row("unknown method", "https", line(f"BREW {ok} HTTP/1.1"), "405")
    for method in ("PATCH", "OPTIONS", "TRACE"):
        yield Row(f"{method}", "https", line(f"{method} {ok} HTTP/1.1"), "405")
    yield Row("CONNECT", "https", line("CONNECT localhost:443 HTTP/1.1"), "400")
    yield Row("HEAD: no body comes", "https", line(f"HEAD {ok} HTTP/1.1"), "200")
    yield Row("no Host", "https", line(f"GET {ok} HTTP/1.1", host=False), "400")
    yield Row("no Host in HTTP/1.0", "https", line(f"GET {ok} HTTP/1.0", host=False), "505")
    yield Row("two Hosts", "https", http(w, fields=["Host: other"]), "400")
    yield Row("target in absolute form", "https", line(f"GET https://localhost{ok} HTTP/1.1"), "200")
    for url, expect in ((f"HTTPS://localhost:8443{ok}", "200"), ("https://other.example/v1/audit?limit=1", "200"),
                        (f"https://[::1]:1{ok}", "200"), ("https://localhost/v1/audit?limit=x", "400 bad-value limit"),
                        ("https://localhost", "404"), ("https://localhost/", "404"), ("https://localhost?limit=1", "404"),
                        ("https://", "400"), (f"https://{ok}", "400"), (f"https://:8443{ok}", "400"),
                        (f"https://me@localhost{ok}", "400"), (f"http://localhost{ok}", "400"),
                        (f"coap://localhost{ok}", "400"), (f"https:{ok}", "400")):
        yield Row(f"target {url}", "https", line(f"GET {url} HTTP/1.1"), expect)
    yield Row("absolute form without Host", "https", line(f"GET https://localhost{ok} HTTP/1.1", host=False), "400")
    yield Row("target *", "https", line("GET * HTTP/1.1"), "400")
    yield Row("target without a slash", "https", line("GET v1/gateways HTTP/1.1"), "400")
    yield Row("empty segment", "https", line("GET /v1//gateways HTTP/1.1"), "400")
    yield Row("dot segments are not followed", "https", line("GET /x/../v1/gateways HTTP/1.1"), "404")
    yield Row("encoded dot segments are not followed", "https", line("GET /x/%2e%2e/v1/gateways HTTP/1.1"), "404")
    yield Row("encoded slash", "https", line("GET /v1%2fgateways HTTP/1.1"), "400")
    yield Row("encoded NUL", "https", line("GET /v1/gateways%00 HTTP/1.1"), "400")
    yield Row("half an escape", "https", line("GET /v1/gateways%2 HTTP/1.1"), "400")
    yield Row("an escape that is none", "https", line("GET /v1/%zzgateways HTTP/1.1"), "400")
    yield Row("escaped letters are the letters", "https", line("GET /v1/%67ateways HTTP/1.1"), "200")
    yield Row("bytes that are no UTF-8", "https", line("GET /v1/%ff%fe HTTP/1.1"), "400")
    yield Row("bare bytes above 127", "https", line("GET /v1/\xff HTTP/1.1"), "400")
    yield Row("a path of 2000 letters", "https", line(f"GET /v1/{'a' * 2000} HTTP/1.1"), "400")
    yield Row("a request line of 20 KiB", "https", line(f"GET /{'a' * 20000} HTTP/1.1"), "414")
    yield Row("a method of 20 KiB", "https", line(f"{'A' * 20000} /v1/gateways HTTP/1.1"), "400")
    yield Row("a fragment", "https", line("GET /v1/gateways#x HTTP/1.1"), "400")
    yield Row("40 parameters", "https", line(f"GET /v1/devices?{'limit=1&' * 40} HTTP/1.1"), "400")
    yield Row("not HTTP at all", "https", b"\x00\x01\x02\x03" * 100 + b"\r\n\r\n", "400")
    yield Row("TLS in TLS", "https", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 60 + b"\r\n\r\n",
              "400")


def fields(w):
    yield Row("a blank before the colon", "https", http(w, fields=["X-A : b"]), "400")
    yield Row("a field without a colon", "https", http(w, fields=["X-A"]), "400")
    yield Row("a field without a name", "https", http(w, fields=[": b"]), "400")
    yield Row("a folded field", "https", http(w, fields=["X-A: b", " c"]), "400")
    yield Row("a line begun with a blank, first", "https", head(w, "GET /v1/gateways HTTP/1.1", " X-A: b",
            "Host: localhost", "Connection: close"), "400")
    yield Row("NUL in a field", "https", http(w, fields=["X-A: b\0c"]), "400")
    yield Row("bare CR in a field", "https", http(w, fields=["X-A: b\rX-B: c"]), "400")
    yield Row("fields of 20 KiB", "https", http(w, fields=["X-A: " + "b" * 20000]), "431")
    yield Row("2000 fields", "https", http(w, fields=["X-A: b"] * 2000), "431")
    yield Row("an unknown expectation", "https", http(w, fields=["Expect: miracles"]), "417")
    yield Row("Accept of what is not served", "https", http(w, fields=["Accept: text/html"]), "406")
    yield Row("Accept that is empty", "https", http(w, fields=["Accept: "]), "200")
    yield Row("an upgrade is not followed", "https", http(w, fields=["Upgrade: h2c"]), "200")


def smuggling(w):
    """Two readings of where a request ends: refused, and nothing behind it is answered (RFC 9112 6.1, 6.3, 11.2)."""
    def post(*lines, body=b""):
        return head(w, "POST /v1/credentials HTTP/1.1", "Host: localhost", "Content-Type: application/json",
                    *lines) + body
    second = http(w, target="/v1/audit")
    chunked, length = "Transfer-Encoding: chunked", "Content-Length: 4"
    yield Row("two requests, one behind the other", "https", http(w, close=False) + http(w), "200 | 200")
    yield Row("length and chunked", "https", post(length, chunked, body=b"0\r\n\r\n" + second),
              "400")
    yield Row("chunked and length", "https", post(chunked, length, body=b"0\r\n\r\n" + second),
              "400")
    yield Row("two lengths", "https", post("Content-Length: 2", length, body=b"{}" + second),
              "400")
    yield Row("two lengths in one field", "https", post("Content-Length: 2, 4", body=b"{}" + second),
              "400")
    yield Row("a negative length", "https", post("Content-Length: -1", body=second), "400")
    yield Row("a length with a sign", "https", post("Content-Length: +2", body=b"{}" + second), "400")
    yield Row("a length in hex", "https", post("Content-Length: 0x2", body=b"{}" + second), "400")
    yield Row("a length of blanks", "https", post("Content-Length: 1 0", body=b"{}" + second), "400")
    yield Row("an empty length", "https", post("Content-Length: ", body=second), "400")
    yield Row("a length above 2^64", "https", post("Content-Length: 18446744073709551618", body=b"{}" + second),
              "400")
    yield Row("chunked twice", "https", post("Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n" + second),
              "501")
    yield Row("two fields of chunked", "https", post(chunked, chunked, body=b"0\r\n\r\n" + second),
              "400")
    yield Row("xchunked", "https", post("Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + second), "501")
    yield Row("identity", "https", post("Transfer-Encoding: identity", body=second), "501")
    yield Row("gzip, chunked", "https", post("Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n" + second),
              "501")
    yield Row("chunked, then identity", "https", post("Transfer-Encoding: chunked", "Transfer-Encoding: identity",
            body=b"0\r\n\r\n" + second), "400")
    yield Row("chunked with a tab before", "https", post("Transfer-Encoding:\tchunked", "Connection: close",
            body=b"0\r\n\r\n"), "400 body-missing")
    yield Row("chunked with a blank before the colon", "https",
              post("Transfer-Encoding : chunked", body=b"0\r\n\r\n" + second), "400")
    yield Row("chunked in HTTP/1.0", "https", post(chunked, body=b"0\r\n\r\n" + second).replace(b"HTTP/1.1",
            b"HTTP/1.0", 1), "505")
    yield Row("a chunk of no size", "https", post(chunked, body=b"\r\n{}\r\n0\r\n\r\n" + second), "400")
    yield Row("a chunk size of letters", "https", post(chunked, body=b"zz\r\n{}\r\n0\r\n\r\n" + second), "400")
    yield Row("a chunk size with a sign", "https", post(chunked, body=b"-2\r\n{}\r\n0\r\n\r\n" + second), "400")
    yield Row("a chunk size in C's hex", "https", post(chunked, body=b"0x2\r\n{}\r\n0\r\n\r\n" + second), "400")
    yield Row("a chunk size above 2^64", "https", post(chunked, body=b"10000000000000002\r\n{}\r\n0\r\n\r\n" + second),
              "400")
    yield Row("a chunk longer than it says", "https", post(chunked, body=b"1\r\n{}\r\n0\r\n\r\n" + second), "400")
    yield Row("bytes behind a body", "https", http(w, "PUT", "/v1/applications/x", body=b"[]",
            close=False) + b"garbage\r\n\r\n", "400 bad-type | 400")


def bodies(w):
    def put(body, *more):
        return http(w, "PUT", "/v1/applications/x", more, body)
    chunks = b"".join(b"%x\r\n%s\r\n" % (65536, b" " * 65536) for _ in range(MEBIBYTE // 65536)) + b"0\r\n\r\n"
    chunked = head(w, "PUT /v1/applications/x HTTP/1.1", "Host: localhost", "Transfer-Encoding: chunked",
                   "Content-Type: application/json", "Connection: close")
    yield Row("a body of 1 MiB", "https", put(b" " * MEBIBYTE), "413")
    yield Row("a body of 1 MiB in chunks", "https", [chunked, chunks], "413")
    yield Row("a body of 65,537 bytes", "https", put(b" " * 65537), "413")
    yield Row("1 MiB announced, leave asked for", "https", head(w, "PUT /v1/applications/x HTTP/1.1",
            "Host: localhost", f"Content-Length: {MEBIBYTE}",
                                                               "Expect: 100-continue", "Connection: close"), "413")
    yield Row("leave asked for and given", "https", put(b"[]", "Expect: 100-continue"), "400 bad-type")
    yield Row("a body of another type", "https", put(b"{}").replace(b"application/json", b"text/xml"), "415")
    yield Row("a body in CBOR", "https", put(b"\xa0").replace(b"application/json", b"application/cbor"), "400 missing members")
    yield Row("a type that is none", "https", put(b"{}").replace(b"application/json", b"json"), "415")
    yield Row("a body that is packed", "https", put(b"\x1f\x8b\x08\x00\x00", "Content-Encoding: gzip"), "400")
    yield Row("half a body", "https", http(w, "PUT", "/v1/applications/x",
            ["Content-Length: 100", "Content-Type: application/json"]) + b"{", "none")


def mmef(w):
    """With a pre-shared key; From and the rest in fields."""
    def ask(*lines, method="GET", target="/mef", body=b""):
        more = [f"Content-Length: {len(body)}"] if body else []
        return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: localhost", *lines, *more,
                            "Connection: close"]).encode("latin-1") + b"\r\n\r\n" + body
    fr, ri, rvi = f"X-M2M-Origin: {w.origin.decode()}", "X-M2M-RI: 1", "X-M2M-RVI: 3"
    ty = "Content-Type: application/vnd.onem2m-res+json; ty="
    yield Row("Mmef: all is well", "https-psk", ask(fr, ri, rvi), "200 2000")
    yield Row("Mmef without a credential", "https", ask(fr, ri, rvi), "403 4107")
    yield Row("Mmef with an operator's token", "https", head(w, "GET /mef HTTP/1.1", "Host: localhost", fr, ri,
            "Connection: close"), "403 4107")
    yield Row("Mmef: From is missing", "https-psk", ask(ri, rvi), "400 4000")
    yield Row("Mmef: From is another's", "https-psk", ask("X-M2M-Origin: Cother", ri), "403 4106")
    yield Row("Mmef: RI is missing", "https-psk", ask(fr, rvi), "400 4000")
    yield Row("Mmef: release 9", "https-psk", ask(fr, ri, "X-M2M-RVI: 9"), "501 4001")
    yield Row("Mmef: POST without ty", "https-psk", ask(fr, ri, "Content-Type: application/json", method="POST",
            body=b"{}"), "405 4005")
    yield Row("Mmef: ty of letters", "https-psk", ask(fr, ri, ty + "x", method="POST", body=b"{}"), "400 4000")
    yield Row("Mmef: ty of nothing", "https-psk", ask(fr, ri, ty, method="POST", body=b"{}"), "400 4000")
    yield Row("Mmef: ty of 9 digits", "https-psk", ask(fr, ri, ty + "999999999", method="POST", body=b"{}"), "400 4000")
    yield Row("Mmef: ty of a CSE's", "https-psk", ask(fr, ri, ty + "2", method="POST", body=b"{}"), "403 4108")
    yield Row("Mmef: wrong root", "https-psk", ask(fr, ri, ty + "60002", method="POST", body=b'{"m2m:ae":{}}'),
              "400 4000")
    yield Row("Mmef: XML", "https-psk", ask(fr, ri, "Content-Type: application/xml; ty=60002", method="POST",
            body=b"<a/>"), "415 4015")
    yield Row("Mmef: XML wanted", "https-psk", ask(fr, ri, "Accept: application/xml"), "406 5207")
    yield Row("Mmef: PATCH", "https-psk", ask(fr, ri, method="PATCH", body=b"{}"), "405 4005")
    yield Row("Mmef: delete of the base", "https-psk", ask(fr, ri, method="DELETE"), "405 4005")
    yield Row("Mmef: no such resource", "https-psk", ask(fr, ri, target="/mef/nothing"), "404 4004")
    yield Row("EG messages by HTTP without a credential", "https",
              ask("Content-Type: application/cbor", method="POST", target="/mef/eg", body=w.eg_request()),
              "403")
    yield Row("operator REST with an AE's credential", "https-psk", ask(target="/v1/devices"), "401 no-token")


def rows(w):
    for table in (request_lines, fields, smuggling, bodies, mmef):
        yield from table(w)
