#!/usr/bin/env python3
"""The CoAP endpoint measured: processor time a request at 32 and 10,000 sessions and beside libcoap's server, memory a
session. Medians of interleaved runs. Usage: coap.py BENCH_COAP [--runs N] [--sessions N]"""
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
args = parser.parse_args()
HOST, KEY = "127.0.0.1", "0123456789abcdef"
failed = []


class Ours:
    def __enter__(self):
        self.process = subprocess.Popen([args.bench, "server", HOST], stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def run(self, mode, *rest):
        out = subprocess.run([args.bench, mode, HOST, str(self.port), str(self.process.pid), *map(str, rest)], check=True,
                             capture_output=True, text=True, timeout=600)
        return json.loads(out.stdout)


class Libcoap(Ours):
    def __enter__(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.bind((HOST, 0))
            plain = s.getsockname()[1]
        self.port = plain + 1
        self.process = subprocess.Popen(["coap-server-openssl", "-A", HOST, "-p", str(plain), "-k", KEY, "-h", "", "-v", "1"],
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


cost()
print(f"{'failed: ' + ', '.join(failed) if failed else 'all as it should be'}")
sys.exit(1 if failed else 0)
