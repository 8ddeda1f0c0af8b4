#!/usr/bin/env python3
"""The CoAP endpoint measured: processor time a request at 32 and 10,000 sessions and beside libcoap's server, memory a
session, floods of ClientHellos. Medians of interleaved runs. Usage: coap.py BENCH_COAP [--runs N] [--hellos N]"""
import argparse
import json
import shutil
import socket
import statistics
import subprocess
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("bench")
parser.add_argument("--runs", type=int, default=5)
parser.add_argument("--sessions", type=int, default=10000)
parser.add_argument("--hellos", type=int, default=30000)
args = parser.parse_args()
KEY = "0123456789abcdef"
failed = []


class Ours:
    def __enter__(self):
        self.process = subprocess.Popen([args.bench, "server"], stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def run(self, mode, *rest):
        out = subprocess.run([args.bench, mode, str(self.port), str(self.process.pid), *map(str, rest)], check=True,
                             capture_output=True, text=True, timeout=600)
        return json.loads(out.stdout)


class Libcoap(Ours):
    def __enter__(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.bind(("127.0.0.1", 0))
            plain = s.getsockname()[1]
        self.port = plain + 1
        self.process = subprocess.Popen(["coap-server-openssl", "-A", "127.0.0.1", "-p", str(plain), "-k", KEY, "-h", "", "-v", "1"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        return self


def expect(name, ok, text):
    print(f"{'ok  ' if ok else 'FAIL'} {name}: {text}", flush=True)
    if not ok:
        failed.append(name)


def load(server, sessions):
    with server() as s:
        return s.run("load", sessions, 3)


def cost():
    kinds = {"few": (Ours, 32), "many": (Ours, args.sessions)}
    if shutil.which("coap-server-openssl"):
        kinds["libcoap"] = (Libcoap, 32)
    runs = {name: [] for name in kinds}
    for _ in range(args.runs):
        for name, kind in kinds.items():
            runs[name].append(load(*kind))
    cpu = {name: statistics.median(r["cpu_us"] for r in rs) for name, rs in runs.items()}
    kib = statistics.median(r["kib_a_session"] for r in runs["many"])
    print("runs, us a request:", {name: [r["cpu_us"] for r in rs] for name, rs in runs.items()})
    expect("many sessions", cpu["many"] <= 1.25 * cpu["few"],
           f"{cpu['many']:.1f} us at {args.sessions} sessions, {cpu['few']:.1f} at 32: {cpu['many'] / cpu['few']:.2f}")
    expect("memory", kib <= 48, f"{kib:.1f} KiB a session")
    if "libcoap" in cpu:
        expect("beside libcoap", cpu["few"] <= cpu["libcoap"], f"{cpu['few']:.1f} us, libcoap {cpu['libcoap']:.1f}")


def flood(server, count, rate):
    """Three times a third of it, each between quiet runs: other work on the machine comes and goes."""
    pairs = [(server.run("flood", 3000, 0), server.run("flood", count // 3, rate)) for _ in range(3)]
    share = statistics.median(busy["per_second"] / quiet["per_second"] for quiet, busy in pairs)
    quiet = {"slowest_ms": max(q["slowest_ms"] for q, _ in pairs)}
    busy = {k: sum(b[k] for _, b in pairs) for k in ("hellos", "handshakes", "failures", "cookies", "grown_kib")}
    busy |= {k: max(b[k] for _, b in pairs) for k in ("slowest_ms", "largest_answer", "hello_bytes")}
    name = f"3 x {count // 3} ClientHellos, {rate} a second"
    expect(name, busy["slowest_ms"] < 1000 and share >= 0.8 and busy["handshakes"] > 0 and busy["failures"] == 0,
           f"slowest of {busy['handshakes']} handshakes {busy['slowest_ms']:.0f} ms (quiet {quiet['slowest_ms']:.0f}), "
           f"throughput {share:.0%} of quiet")
    expect(name + ", memory", busy["grown_kib"] <= 256, f"{busy['grown_kib']:+.0f} KiB")
    expect(name + ", answers", busy["largest_answer"] <= busy["hello_bytes"] and busy["cookies"] <= busy["hellos"],
           f"{busy['hello_bytes']} bytes in, at most {busy['largest_answer']} out, {busy['cookies']} answers")


cost()
with Ours() as warm:
    warm.run("load", 32, 14)  # the memory of messages seen has its full size then
    flood(warm, 450, 1000)
    flood(warm, args.hellos, 1000)
print(f"{'failed: ' + ', '.join(failed) if failed else 'all as it should be'}")
sys.exit(1 if failed else 0)
