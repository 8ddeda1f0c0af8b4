#!/usr/bin/python3
"""Server-sent events: /v1/events of the MEF, and the host's stream on the tiny plugin. Usage: test_events.py MEF_PLUGIN"""
import json
import os
import signal
import sys
import time

from bindings import Mefd, read_all

bad = []


def check(what, ok, seen=""):
    if not ok:
        bad.append(f"{what}: {seen!r}"[:600])


class Stream:
    """A client that keeps reading; parses events as HTML says, on chunked bytes."""

    def __init__(self, mefd, path, headers=""):
        self.s = mefd.connect()
        self.s.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n{headers}\r\n".encode())
        self.raw = b""
        self.ended = False

    def wait(self, events, seconds=5):
        end = time.monotonic() + seconds
        while len(self.events()) < events and not self.ended and time.monotonic() < end:
            self.s.settimeout(max(0.05, end - time.monotonic()))
            try:
                got = self.s.recv(65536)
                self.ended = got == b""
                self.raw += got
            except TimeoutError:
                break
            except OSError:
                self.ended = True
        return self.events()

    def open(self):
        """Wait for the head and the first bytes."""
        while b": open" not in self.raw:
            self.raw += self.s.recv(65536)
        return self

    def text(self):
        body, out = self.raw.partition(b"\r\n\r\n")[2], b""
        while b"\r\n" in body:
            size, _, body = body.partition(b"\r\n")
            out += body[:int(size, 16)]
            body = body[int(size, 16) + 2:]
        return out.decode()

    def events(self):
        blocks = [b for b in self.text().split("\n\n")[:-1] if b and not b.startswith(":")]
        return [dict(line.split(": ", 1) for line in b.split("\n")) for b in blocks]

    def close(self):
        self.s.close()


def ask(mefd, method, path, headers, body=b""):
    with mefd.connect() as s:
        s.sendall(f"{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
                  f"{headers}\r\n".encode() + body)
        raw, _ = read_all(s)
    return int(raw.split()[1]), raw


def audit_trail(plugin):
    mefd = Mefd("idle-seconds = 4", plugin)
    auth = f"Authorization: Bearer {(mefd.dir / 'admin.token').read_text().strip()}\r\n"

    def act(name):
        status, _ = ask(mefd, "PUT", "/v1/applications/" + name, auth + "Content-Type: application/json\r\n", b'{"members":[]}')
        check("PUT " + name, status == 201, status)

    check("no token", ask(mefd, "GET", "/v1/events", "Accept: text/event-stream\r\n")[0] == 401)
    check("no event-stream", ask(mefd, "GET", "/v1/events", auth)[0] == 406)
    act("before")
    one = Stream(mefd, "/v1/events", auth)
    one.wait(1, 1)
    check("head", b"HTTP/1.1 200 OK\r\n" in one.raw and b"Content-Type: text/event-stream\r\n" in one.raw, one.raw)
    check("nothing old", one.events() == [], one.events())
    for name in "abc":
        act(name)
    events = one.wait(3)
    rows = [json.loads(e["data"]) for e in events]
    check("in order", [r["object"] for r in rows] == ["a", "b", "c"], events)
    check("ids", [e["id"] for e in events] == [str(r["seq"]) for r in rows], events)
    again = Stream(mefd, "/v1/events", auth + f"Last-Event-ID: {events[0]['id']}\r\n")
    check("resumed", [json.loads(e["data"])["object"] for e in again.wait(2)] == ["b", "c"], again.raw)
    one.wait(4, 5)
    check("heartbeat keeps it open", not one.ended and "\n\n:\n\n" in one.text(), one.text()[-100:])
    again.close()
    one.close()
    time.sleep(0.3)
    act("d")
    check("streams are gone", mefd.metric("host_event_streams") == 0, mefd.metric("host_event_streams"))
    many = [Stream(mefd, "/v1/events", auth).open() for _ in range(64)]
    many.append(Stream(mefd, "/v1/events", auth))
    many[64].wait(1, 1)
    check("the 65th is refused", b" 503 " in many[64].raw, many[64].raw)
    act("e")
    check("each sees it", all(len(s.wait(1)) == 1 for s in many[:64]))
    mefd.process.send_signal(signal.SIGHUP)
    for s in many[:3]:
        s.wait(99, 5)
    check("SIGHUP ends them", all(s.ended for s in many[:3]))
    last = Stream(mefd, "/v1/events", auth)
    last.wait(1, 0.5)
    mefd.stop()
    for s in many:
        s.close()


def slow_client():
    """One that asks and does not read: the stream is dropped, counted, and the others go on."""
    mefd = Mefd("idle-seconds = 20")
    slow, other = Stream(mefd, "/svc/raw/flood"), Stream(mefd, "/svc/raw/watch")
    check("watch", [e["data"] for e in other.wait(4)] == ["Zmlyc3Q=", "ZnJhbWUgMA==", "ZnJhbWUgMQ==", "ZnJhbWUgMg=="], other.raw)
    for _ in range(50):
        if mefd.metric("host_events_slow_total") == 1:
            break
        time.sleep(0.1)
    check("counted", mefd.metric("host_events_slow_total") == 1)
    slow.wait(10 ** 6, 10)
    check("ends, and in order", slow.ended and [int(e["id"]) for e in slow.events()] == list(range(1, len(slow.events()) + 1)))
    check("served meanwhile", ask(mefd, "GET", "/svc/x", "")[0] == 200)
    slow.close()
    other.close()
    mefd.stop()


audit_trail(os.path.abspath(sys.argv[1]))
slow_client()
print("\n".join(bad) if bad else "events: as expected")
sys.exit(1 if bad else 0)
