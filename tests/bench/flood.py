#!/usr/bin/python3
"""Floods of ClientHellos without a cookie against the CoAP endpoint: first 150 of them, then in the long tier 30,000 without
a pause, else 5,000, 1,000 a second, over IPv4 and IPv6. Meanwhile 32 sessions ask as fast as they can and newcomers come:
every handshake takes less than a second, throughput stays at 80 % of what it is in quiet, memory does not grow, and what is
answered is never larger than what came.
    flood.py BUILD      ends with 'N passed, N failed'; a release build, for the figures to mean anything"""
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HELLOS = 30000 if os.environ.get("MEF_TIER") == "long" else 5000
RATE, ATTEMPTS, SHARE, GROWTH_KIB = 1000, 3, 0.8, 256
passed = failed = 0


def check(name, good, text):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    print(f"{'ok' if good else 'FAILED':<7} {name}: {text}", flush=True)


class Server:
    def __init__(self, bench: Path, host: str):
        self.bench, self.host = bench, host
        self.process = subprocess.Popen([bench, "server", host], stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def flood(self, count: int, rate: int) -> dict:
        """So many hellos at that rate, at least three seconds; at rate 0 none, for as long."""
        argv = [self.bench, "flood", self.host, self.port, self.process.pid, count, rate]
        return json.loads(subprocess.run(list(map(str, argv)), check=True, capture_output=True, text=True, timeout=300).stdout)

    def warm(self):
        """Until what is kept of past requests has its full size: memory then tells of the flood alone."""
        for _ in range(20):
            if self.flood(3000, 0)["grown_kib"] <= GROWTH_KIB / 4:
                return

    def stop(self):
        self.process.kill()
        self.process.wait()


def attempt(server: Server, count: int) -> tuple:
    """One flood without a pause, between two quiet times; the share of their throughput that is left: by the clock or, as
    other work on the machine takes of that, by the server's processor time."""
    before = server.flood(count // 3, 0)
    busy = server.flood(count, RATE)
    after = server.flood(count // 3, 0)
    clock, processor = ([run["per_second"] / unit(run) for run in (before, busy, after)]
                        for unit in (lambda run: 1, lambda run: run["server_cpu"]))
    shares = [rates[1] / statistics.mean(rates[::2]) for rates in (clock, processor)]
    print(f"        {json.dumps(busy)}; of quiet {shares[0]:.0%} by the clock, {shares[1]:.0%} by processor time")
    return busy, max(shares)


def flood(server: Server, count: int):
    name = f"{count} ClientHellos, {server.host}"
    share, runs = 0.0, []
    while share < SHARE and len(runs) < ATTEMPTS:
        busy, left = attempt(server, count)
        runs.append(busy)
        share = max(share, left)
    busy = {key: max(run[key] for run in runs) for key in busy}  # of all the rest the worst counts
    busy["hellos"], busy["handshakes"] = (min(run[key] for run in runs) for key in ("hellos", "handshakes"))
    check(f"{name}: sent", busy["hellos"] == count, f"{busy['hellos']} of {busy['hello_bytes']} bytes")
    check(f"{name}: handshakes", busy["handshakes"] > 0 and busy["failures"] == 0 and busy["slowest_ms"] < 1000,
          f"the slowest of {busy['handshakes']} took {busy['slowest_ms']:.0f} ms, {busy['failures']} requests failed")
    check(f"{name}: throughput", share >= SHARE, f"{share:.0%} of quiet")
    check(f"{name}: memory", busy["grown_kib"] <= GROWTH_KIB, f"{busy['grown_kib']:+.0f} KiB")
    check(f"{name}: answers", busy["largest_answer"] <= busy["hello_bytes"] and busy["cookies"] <= busy["hellos"],
          f"{busy['cookies']}, of at most {busy['largest_answer']} bytes")


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    for host in ("127.0.0.1", "::1"):
        server = Server(Path(sys.argv[1]).resolve() / "tests/bench/bench_coap", host)
        try:
            server.warm()
            for count in (150, HELLOS):
                flood(server, count)
        finally:
            server.stop()
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
