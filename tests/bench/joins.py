#!/usr/bin/python3
"""Many devices join at once: with their second exchange, over the simulated medium, through eight zbgwd and ipe-nid to one
mefd. Measured are mefd's own time for an EgRequest (/metrics: eg_request_seconds), the time from a device's first association
request until its first key is radiated, which is what it waits for, and until its Confirm-Key; and beside them how long the
machine let nobody run (stalls.py).
    joins.py BUILD [--joins N] [--gateways N] [--seconds S] [--runs N] [--folder DIR]
In the long tier the targets are judged, in the best of three runs; in the short one only that all are enrolled, once.
Ends with 'N passed, N failed'."""
import argparse
import http.client
import json
import os
import random
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
for folder in ("e2e", "sim"):
    sys.path.insert(0, str(HERE.parent / folder))
import joiner  # noqa: E402
from cell import Cell  # noqa: E402
from stack import AE_ID, GROUP, PYTHON, Stack, StackError, http_get, install_code, random_eui64  # noqa: E402
from zbcodec import link_key_of  # noqa: E402

OWN_TIME_MS, KEY_TIME_MS = 50, 1500  # 99 of 100
SLEEPY = 4                           # every fourth device is
ATTEMPTS = 20                        # of a device; its time counts from the first
PATIENCE = 90                        # seconds for all to end


class Stalls:
    """Of the machine, while the block runs."""

    def __enter__(self):
        self.child = subprocess.Popen([PYTHON, HERE / "stalls.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_):
        self.seen = json.loads(self.child.communicate("\n")[0])


class Join(threading.Thread):
    """One device's life, from its beacon request to its Confirm-Key."""

    def __init__(self, cell: Cell, eui: str, code: str, sleepy: bool, start: float, seed: int):
        super().__init__(daemon=True)
        self.start_at, self.events, self.done = start, [], False
        argv = ["--eui64", eui, "--seed", str(seed), "--attempts", str(ATTEMPTS)] + ["--sleepy"] * sleepy
        self.eui, self.station = eui, cell.station(int(eui, 16), random.Random(seed))
        self.device = joiner.Joiner(joiner.arguments(argv), link_key_of(bytes.fromhex(code)), self.station)

    def run(self):
        time.sleep(max(self.start_at - time.monotonic(), 0))
        self.done = self.device.join() and self.device.exchange.confirmed

    def milliseconds(self, until: int) -> float:
        return (until - self.station.asked) / 1e6


def note(name: str, **fields):
    """The joiner's events stay with its thread."""
    threading.current_thread().events.append({"event": name, **fields})


joiner.event = note


def p99(values: list) -> float:
    return sorted(values)[max(-(-len(values) * 99 // 100) - 1, 0)]


def own_time(metrics: str) -> tuple[int, float]:
    """How many EgRequests; milliseconds within which 99 of 100 of them were answered, at most: a bound of the histogram."""
    buckets = [(float(le), int(n)) for le, n in re.findall(r'^eg_request_seconds_bucket\{le="(.*)"\} (\d+)', metrics, re.M)]
    count = buckets[-1][1] if buckets else 0
    return count, next((le * 1e3 for le, n in buckets if n >= count * 0.99), float("inf"))


def put_codes(s: Stack, codes: dict) -> None:
    """Over one kept connection."""
    connection = http.client.HTTPSConnection("127.0.0.1", s.https, context=ssl.create_default_context(cafile=str(s.ca)))
    headers = {"Authorization": "Bearer " + s.token(), "Content-Type": "application/json"}
    for eui, code in codes.items():
        body = json.dumps({"installCode": code, "targets": [AE_ID]})
        connection.request("PUT", f"/v1/install-codes/{eui}", body, headers)
        answer = connection.getresponse()
        if answer.read() is None or answer.status != 201:
            raise StackError(f"PUT: {answer.status}")
    connection.close()


def start_gateway(s: Stack, folder: Path) -> Stack:
    """A further zbgwd and ipe-nid of the system s, with a medium of their own."""
    g = Stack(s.build, folder)
    g.coaps, g.https, g.etc, g.token_header = s.coaps, s.https, s.etc, s.token_header
    g.make_credentials()
    g.start_gateway()
    return g


class Run:
    """One run on a system of its own."""

    def __init__(self, build: Path, folder: Path, joins: int, gateways: int, seconds: float, seed: int):
        self.folder = Path(tempfile.mkdtemp(prefix="joins-", dir=folder))
        self.rng = random.Random(seed)
        self.system = Stack(build, self.folder / "mef")
        self.gateways, self.cells, self.joins = [], [], []
        try:
            self._start(joins, gateways)
            with Stalls() as stalls:
                self._join(seconds)
            self._look(stalls.seen)
        finally:
            for cell in self.cells:
                cell.close()
            for s in (*self.gateways, self.system):
                s.stop()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, joins: int, gateways: int):
        s = self.system
        s.init({("daemon", "log-level"): "warning"})
        s.start_mefd()
        for i in range(gateways):
            self.gateways.append(start_gateway(s, self.folder / f"gateway{i}"))
            self.cells.append(Cell(GROUP, self.gateways[-1].medium_port, self.gateways[-1].channel))
        self.codes = {random_eui64(): install_code() for _ in range(joins)}
        put_codes(s, self.codes)

    def _join(self, seconds: float):
        """They come evenly spread but at random, in the first four fifths of the time."""
        begin = time.monotonic() + 0.5
        for i, (eui, code) in enumerate(self.codes.items()):
            at = begin + self.rng.uniform(0, seconds * 0.8)
            self.joins.append(Join(self.cells[i % len(self.cells)], eui, code, i % SLEEPY == 0, at, self.rng.getrandbits(32)))
        for j in self.joins:
            j.start()
        for j in self.joins:
            j.join(max(begin + PATIENCE - time.monotonic(), 0.001))

    def _look(self, stalls: dict):
        s = self.system
        listed = s.must("GET", "/v1/devices?limit=1000")
        enrolled = {d["eui64"] for d in listed if d["state"] == "enrolled"}
        self.failed = [f"{j.eui}: {j.events}" for j in self.joins if not j.done or j.eui not in enrolled]
        keyed = [j for j in self.joins if j.station.keyed is not None]
        done = [j for j in self.joins if j.done]
        self.requests, self.own_ms = own_time(http_get(s.status, "/metrics"))
        self.key_ms = p99([j.milliseconds(j.station.keyed) for j in keyed]) if keyed else float("inf")
        self.enrolled_ms = p99([j.milliseconds(j.station.heard) for j in done]) if done else float("inf")
        times = [j.station.asked for j in keyed] + [j.station.heard for j in done]
        self.took = (max(times) - min(times)) / 1e9 if times else 0
        self.again = sum(e["event"] == "scan" for j in self.joins for e in j.events) - len(self.joins)
        self.stalls = stalls

    def met(self) -> bool:
        return not self.failed and self.own_ms <= OWN_TIME_MS and self.key_ms < KEY_TIME_MS

    def text(self) -> str:
        return (f"{len(self.joins)} joins in {self.took:.1f} s, {self.again} attempts more; of 99 in 100: EgRequest in mefd "
                f"<= {self.own_ms:g} ms ({self.requests} of them), first key radiated after {self.key_ms:.0f} ms, enrolled "
                f"after {self.enrolled_ms:.0f} ms; the machine's stalls: longest {self.stalls['longest']} ms, "
                f"{self.stalls['over_10']} over 10 ms, {self.stalls['over_100']} over 100 ms, of {self.stalls['naps']}")


def measure(build: Path, folder: Path, joins: int, gateways: int, seconds: float, runs: int, seed: int) -> list:
    """Until a run meets the targets, at most `runs`."""
    threading.stack_size(512 * 1024)
    sys.setswitchinterval(0.0005)
    out = []
    while len(out) < runs and not any(r.met() for r in out):
        out.append(Run(build, folder, joins, gateways, seconds, seed + len(out)))
        print(out[-1].text(), flush=True)
    return out


def main() -> int:
    long = os.environ.get("MEF_TIER") == "long"
    seed = int(os.environ.get("MEF_SEED") or time.time())
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("build", type=Path)
    p.add_argument("--joins", type=int, default=256 if long else 32)
    p.add_argument("--gateways", type=int, default=8 if long else 4)
    p.add_argument("--seconds", type=float, default=10 if long else 3)
    p.add_argument("--runs", type=int, default=3 if long else 1)
    p.add_argument("--folder", type=Path, help="where databases are put: the disk that is measured (the temporary one)")
    args = p.parse_args()
    print(f"seed {seed}")
    runs = measure(args.build.resolve(), args.folder, args.joins, args.gateways, args.seconds, args.runs, seed)
    checks = [("all enrolled", not any(r.failed for r in runs)),
              ("an EgRequest for each", all(r.requests >= len(r.joins) for r in runs))]
    if long:
        checks += [(f"EgRequest in mefd <= {OWN_TIME_MS} ms and key < {KEY_TIME_MS} ms in a run", any(r.met() for r in runs))]
    for name, good in checks:
        print(f"{'ok' if good else 'FAILED':<7} {name}")
    for line in [line for r in runs for line in r.failed][:10]:
        print(line)
    print(f"{sum(good for _, good in checks)} passed, {sum(not good for _, good in checks)} failed")
    return 0 if all(good for _, good in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
