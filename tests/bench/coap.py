#!/usr/bin/env python3
"""How the CoAP endpoint stands floods of ClientHellos: newcomers' handshakes, throughput, memory. Medians of interleaved
runs. What it costs otherwise is in scripts/bench. Usage: coap.py BENCH_COAP BENCH_LOAD [--hellos N]"""
import argparse
import json
import statistics
import subprocess
import sys

parser = argparse.ArgumentParser()
parser.add_argument("bench")
parser.add_argument("load")
parser.add_argument("--hellos", type=int, default=30000)
args = parser.parse_args()
CREDENTIAL = "bench " + b"0123456789abcdef".hex() + "\n"
failed = []


class Ours:
    def __enter__(self):
        self.process = subprocess.Popen([args.bench, "server"], stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def run(self, program, mode, *rest):
        out = subprocess.run([program, mode, str(self.port), str(self.process.pid), *map(str, rest)], check=True,
                             input=CREDENTIAL, capture_output=True, text=True, timeout=600)
        return json.loads(out.stdout)


def expect(name, ok, text):
    print(f"{'ok  ' if ok else 'FAIL'} {name}: {text}", flush=True)
    if not ok:
        failed.append(name)


def flood(server, count, rate):
    """Three times a third of it, each between quiet runs: other work on the machine comes and goes."""
    pairs = [(server.run(args.bench, "flood", 3000, 0), server.run(args.bench, "flood", count // 3, rate)) for _ in range(3)]
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


with Ours() as warm:
    warm.run(args.load, "get", 32, 14, "time")  # the memory of messages seen has its full size then
    flood(warm, 450, 1000)
    flood(warm, args.hellos, 1000)
print(f"{'failed: ' + ', '.join(failed) if failed else 'all as it should be'}")
sys.exit(1 if failed else 0)
