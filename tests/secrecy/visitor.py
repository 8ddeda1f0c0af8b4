"""An operator's client that curl is not: connections that stay open, are cut in the middle, carry CBOR or chunks."""
import json
import re
import socket
import ssl


class Visitor:
    """One HTTPS connection, kept open; what is answered goes through the stack's record."""

    def __init__(self, stack):
        self.stack, context = stack, ssl.create_default_context(cafile=str(stack.ca))
        context.check_hostname = False  # 127.0.0.1 is not what the certificate is for
        context.keylog_filename = None
        self.tls = context.wrap_socket(socket.create_connection(("127.0.0.1", stack.tls.port), timeout=10))
        self.bearer = f"Authorization: Bearer {stack.token()}\r\n"

    def send(self, method: str, path: str, body: bytes = b"", media: str = "application/json", chunks: bool = False, cut: int = 0):
        """cut: leave that many bytes off the end."""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{self.bearer}Accept: {media}\r\n"
        if body:
            head += f"Content-Type: {media}\r\n"
        if chunks:
            head += "Transfer-Encoding: chunked\r\n"
            body = b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + 7]), body[i:i + 7]) for i in range(0, len(body), 7)) + b"0\r\n\r\n"
        else:
            head += f"Content-Length: {len(body)}\r\n"
        data = f"{head}\r\n".encode() + body
        self.tls.sendall(data[:len(data) - cut])

    def answer(self, title: str, once: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of one answer of definite length; `once` may stand in it once."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        while len(body) < int(length[1] if length else 0):
            body += self._more()
        told = head + b"\n" + body
        if once is not None:
            if once not in told:
                raise AssertionError(f"{title}: {told!r} does not tell what it should")
            told = told.replace(once, b"(as it should be)", 1)
        self.stack.answer("rest", title, told.decode("latin-1"))
        return int(head.split()[1]), body

    def _more(self) -> bytes:
        data = self.tls.recv(65536)
        if not data:
            raise AssertionError("the connection was closed")
        return data

    def must(self, method: str, path: str, body=b"", once: bytes | None = None, **how) -> bytes:
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send(method, path, body, **how)
        status, answer = self.answer(f"{method} {path}", once)
        if not 200 <= status < 300:
            raise AssertionError(f"{method} {path}: {status} {answer!r}")
        return answer

    def close(self):
        self.tls.close()


def cbor_map(members: dict) -> bytes:
    """Of short texts, to lists of short texts or texts."""
    def text(s):
        return (bytes([0x60 + len(s)]) if len(s) < 24 else bytes([0x78, len(s)])) + s.encode()

    def value(v):
        return text(v) if isinstance(v, str) else bytes([0x80 + len(v)]) + b"".join(map(text, v))
    return bytes([0xA0 + len(members)]) + b"".join(text(k) + value(v) for k, v in members.items())
