"""A database whose every commit takes 200 ms, and clients who write without a pause: the others' handshakes and reads do not
wait for it. What counts is what began and ended within one commit, and what was slower than with nobody writing; where the
machine is slow, commits are slower still."""
import base64
import http.client
import json
import socket
import ssl
import statistics
import subprocess
import sys
import threading
import time
import unittest

import common
from coapclient import CBOR, CONTENT_FORMAT, POST, CoapClient, eg_request, eg_response, uint
from mmef import Client
from stack import ADMIN, AE_ID, ROOT, install_code, random_eui64

sys.path.append(str(ROOT / "tests" / "faults"))
import power  # noqa: E402

COMMIT = 0.2                   # seconds, at least
KV = base64.b64encode(bytes(range(16))).decode()
ENOUGH, PATIENCE = 6, 30      # of each kind, seconds
PAUSE = 0.05                   # s between two acts, so that each gets its share of the processors


class Workers:
    """Each does its act again and again in a thread of its own; `spans`: when each time began and ended, which the act may know
    better."""

    def __init__(self, acts: dict):
        self.spans, self.errors, self.over = {name: [] for name in acts}, [], threading.Event()
        self.threads = [threading.Thread(target=self._run, args=a) for a in acts.items()]

    def _run(self, name: str, act):
        try:
            while not self.over.wait(PAUSE):
                began = time.monotonic()
                span = act() or (began, time.monotonic())
                if span[0] >= self.began:
                    self.spans[name].append(span)
        except Exception as e:
            self.errors.append(f"{name}: {type(e).__name__}: {e}")
            self.over.set()

    def __enter__(self):
        self.began = time.monotonic()
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for t in self.threads:
            t.join()

    def until(self, enough):
        end = time.monotonic() + PATIENCE
        while not enough() and time.monotonic() < end and not self.over.wait(0.1):
            pass

    def slow_quarter(self, name: str) -> float:
        """Three in four took no longer, seconds."""
        return statistics.quantiles([b - a for a, b in self.spans[name]], n=4)[2]


class SlowStore(common.StackTest):
    gateway = False

    @classmethod
    def prepare(cls):
        s = cls.stack
        s.launcher = power.launcher(common.build())
        s.restart_mefd()
        s.must("PUT", f"/v1/gateways/{s.gateway_eui}", {"identity": s.gw_credential["kpmId"]})
        cls.tls = ssl.create_default_context(cafile=str(s.ca))
        cls.headers = {"Authorization": "Bearer " + s.token(), "Content-Type": "application/json"}

    # --- who does what --------------------------------------------------------------------------------------------------

    def client(self, name: str, binding: str) -> Client:
        who = f"//example.org/in-cse/C{name}-{binding}"
        made = self.stack.must("POST", "/v1/credentials", {"for": who, "kind": "psk"})
        c = Client(self.stack, (binding, "psk"), who, ADMIN, ("-psk_identity", made["kpmId"], "-psk", made["kpm"]))
        self.addCleanup(c.close)
        c.made = c.register(lbl=[name])
        self.assertEqual(c.made.rsc, 2001)
        return c

    def operator(self):
        """Puts one install code after the other, over one connection."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.stack.https, context=self.tls)
        self.addCleanup(connection.close)
        return lambda: self.put(connection, random_eui64())

    def put(self, connection, eui: str):
        body = json.dumps({"installCode": install_code(), "targets": [AE_ID]})
        connection.request("PUT", f"/v1/install-codes/{eui}", body, self.headers)
        answer = connection.getresponse()
        answer.read()
        self.assertEqual(answer.status, 201)

    def gateway_of_joins(self):
        """Devices are registered and ask for their first key."""
        s = self.stack
        connection = http.client.HTTPSConnection("127.0.0.1", s.https, context=self.tls)
        c = CoapClient(s.coaps, s.gw_credential["kpmId"], s.gw_credential["kpm"])
        self.addCleanup(connection.close)
        self.addCleanup(c.close)
        numbers = iter(range(1, 1 << 30))

        def join():
            eui = random_eui64()
            self.put(connection, eui)
            answer = c.request(POST, "mef/eg", [(CONTENT_FORMAT, uint(CBOR))], eg_request(next(numbers), s.gateway_eui, eui), timeout=60)
            self.assertEqual(eg_response(answer.payload)[0], 0)
        return join

    def depositor(self):
        c = self.client("writer", "coaps")

        def deposit():
            made = c.deposit([AE_ID], kv=KV)
            self.assertEqual(made.rsc, 2001)
            self.assertEqual(c.ask("DELETE", made.location).rsc, 2002)
        return deposit

    def auditor(self):
        connection = http.client.HTTPSConnection("127.0.0.1", self.stack.https, context=self.tls)
        self.addCleanup(connection.close)

        def page():
            connection.request("GET", "/v1/audit?limit=1000", None, self.headers)
            answer = connection.getresponse()
            self.assertEqual((answer.status, json.loads(answer.read()) != []), (200, True))
        return page

    def watcher(self):
        """What happens, as it happens: an event is one turn."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.stack.https, context=self.tls)
        self.addCleanup(connection.close)
        connection.request("GET", "/v1/events", None, {**self.headers, "Accept": "text/event-stream"})
        answer = connection.getresponse()
        self.assertEqual(answer.status, 200)

        def event():
            while not answer.readline().startswith(b"data:"):
                pass
        return event

    def writers(self) -> dict:
        return {"operator": self.operator(), "joins": self.gateway_of_joins(), "depositor": self.depositor()}

    def auditors(self) -> dict:
        """They see what was written, and so wait for it: nobody waits for them."""
        return {"trail": self.auditor(), "events": self.watcher()}

    def dtls_handshaker(self):
        s = self.stack
        child = subprocess.Popen([common.build() / "tests/bench/bench_load", "shake", str(s.coaps), str(s.mefd.pid), str(PAUSE * 1e3)],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        self.addCleanup(child.stdout.close)
        print(s.ae["kpmId"], s.ae["kpm"], file=child.stdin)
        child.stdin.close()
        return lambda: tuple(map(float, child.stdout.readline().split()))

    def tls_handshake(self):
        with socket.create_connection(("127.0.0.1", self.stack.https)) as s, self.tls.wrap_socket(s, server_hostname="127.0.0.1"):
            pass

    def reader(self, c: Client):
        """Its own registration, the MEFBase, and what has a label."""
        def read():
            self.assertEqual(c.ask("GET", c.made.location).pc["srci"], c.id)
            self.assertEqual(c.ask("GET").pc["adfq"], ADMIN)
            self.assertEqual(c.found("lbl=reader"), [c.made.location])
        return read

    def others(self) -> dict:
        return {"DTLS handshake": self.dtls_handshaker(), "TLS handshake": self.tls_handshake,
                **{f"read over {b}": self.reader(self.client("reader", b)) for b in ("coaps", "https")}}

    # --- what is to be seen ---------------------------------------------------------------------------------------------

    def within(self, spans: list) -> int:
        """How many began and ended while one and the same commit was under way."""
        commits = power.slowed(self.stack.etc)
        return sum(any(a <= began and ended <= b for a, b in commits) for began, ended in spans)

    def test_others_do_not_wait_for_commits(self):
        others, writers, auditors = self.others(), self.writers(), self.auditors()
        with Workers(others) as alone:
            alone.until(lambda: all(len(s) >= 2 * ENOUGH for s in alone.spans.values()))
        self.assertEqual(alone.errors, [])
        commit = round(max([COMMIT] + [4 * alone.slow_quarter(name) for name in others]), 3)
        power.slow_syncs(self.stack.etc, commit)
        self.addCleanup((self.stack.etc / "slow-sync").unlink)
        with Workers(writers) as busy, Workers(auditors) as waiting, Workers(others) as beside:
            beside.until(lambda: len(power.slowed(self.stack.etc)) >= ENOUGH and
                         all(self.within(s) >= ENOUGH for s in beside.spans.values()))
        self.assertEqual(busy.errors + waiting.errors + beside.errors, [])
        print(f"{len(power.slowed(self.stack.etc))} commits of {commit:.2f} s; within one: " +
              ", ".join(f"{name} {self.within(spans)} of {len(spans)}, {beside.slow_quarter(name) * 1e3:.1f} ms, alone "
                        f"{alone.slow_quarter(name) * 1e3:.1f}" for name, spans in beside.spans.items()))
        for name, spans in busy.spans.items():
            self.assertGreaterEqual(min(b - a for a, b in spans), commit, f"{name}: answered before it was durable")
        self.assertTrue(all(waiting.spans.values()), "the trail and the events go on")
        for name, spans in beside.spans.items():
            self.assertGreaterEqual(self.within(spans), ENOUGH, f"{name}: waits for commits")
            self.assertLess(beside.slow_quarter(name) - alone.slow_quarter(name), commit / 2, f"{name}: delayed by commits")


if __name__ == "__main__":
    unittest.main()
