#!/usr/bin/python3
"""The product measured: processor microseconds of the server for each operation, and its ratio to bare libraries in the same
run. Medians of repetitions that take turns; the load generator is not counted. docs/performance.md explains the figures."""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import subjects

HERE = Path(__file__).resolve().parent


@dataclass
class Target:
    limit: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def text(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}"


TARGETS = {
    "forge": Target(1.4),
    "forge in the vault": Target(1.4),
    "CoAP endpoint": Target(1.0),
    "memory of a session": Target(1.0),
    "key retrieval": Target(1.0),
    "key retrieval, many sessions": Target(1.25),
    "handshake, retrieval, close": Target(1.5),
    "PSK round": Target(1.5),
    "certificate round": Target(1.5),
    "enrolment rate": Target(0.4, at_least=True),
    "memory": Target(1.0),
    "look-up": Target(1.25),
    "joins: EgRequest in mefd": Target(1.0),
    "joins: first key": Target(1.0),
}
FULL = dict(repetitions=5, seconds=2, sessions=10000, cycles=2000, rounds=2000, enrolments=10000, codes=(1000, 100000, 1000000),
            frames=10000, puts=500, joins=(256, 8, 10, 3))
QUICK = dict(repetitions=2, seconds=0.5, sessions=1000, cycles=300, rounds=300, enrolments=2000, codes=(1000, 5000, 20000),
             frames=5000, puts=50, joins=(32, 4, 3, 1))


def summary(samples: list) -> dict:
    return {"median": statistics.median(samples), "min": min(samples), "max": max(samples), "samples": samples}


def machine() -> dict:
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown")
    openssl = subprocess.run(["openssl", "version"], capture_output=True, text=True).stdout.strip()
    return {"processor": model, "cores": os.cpu_count(), "kernel": platform.release(), "openssl": openssl}


def report(results: subjects.Results, plan: dict) -> dict:
    ratios = {}
    for name, samples in results.ratios.items():
        ratios[name] = summary(samples)
        if name in TARGETS:
            ratios[name] |= {"target": TARGETS[name].text(), "met": TARGETS[name].met(ratios[name]["median"])}
    return {"machine": machine(), "plan": plan, "figures": {n: summary(s) for n, s in results.figures.items()}, "ratios": ratios}


def spread(f: dict) -> str:
    return f"{f['min']:.4g} .. {f['max']:.4g}"


def print_table(out: dict):
    print(f"\n{'figure (server processor time, us, unless it says otherwise)':<62} {'median':>9}  spread")
    for name, f in out["figures"].items():
        print(f"{name:<62} {f['median']:>9.4g}  {spread(f)}")
    print(f"\n{'ratio':<42} {'median':>7}  {'spread':<18} {'target':<8} met")
    for name, f in out["ratios"].items():
        met = {True: "yes", False: "NO"}.get(f.get("met"), "-")
        print(f"{name:<42} {f['median']:>7.3f}  {spread(f):<18} {f.get('target', '-'):<8} {met}")


def baseline_of(out: dict) -> dict:
    return {"tolerance": 0.25, "ratios": {name: round(f["median"], 3) for name, f in out["ratios"].items()}}


def regressions(out: dict, baseline: dict):
    """Ratios that are worse than the baseline's by more than the tolerance."""
    for name, was in baseline["ratios"].items():
        f = out["ratios"].get(name)
        at_least = name in TARGETS and TARGETS[name].at_least
        bound = was * (1 - baseline["tolerance"]) if at_least else was * (1 + baseline["tolerance"])
        if f is not None and not Target(bound, at_least).met(f["median"]):
            yield f"{name}: {f['median']:.3f}, baseline {was:.3f}, tolerance {baseline['tolerance']:.0%}"


def arguments():
    p = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    p.add_argument("--quick", action="store_true", help="a smoke run of less than two minutes; its figures mean little")
    p.add_argument("--only", choices=subjects.SUBJECTS, action="append", help="this part; may be given again")
    p.add_argument("--check", action="store_true", help="exit 1 when a ratio is worse than the baseline beyond its tolerance")
    p.add_argument("--baseline", type=Path, default=HERE / "baseline.json", help="(tests/bench/baseline.json)")
    p.add_argument("--write-baseline", action="store_true", help="make this run the baseline")
    p.add_argument("--out", type=Path, default=Path("bench.json"), help="the JSON file (bench.json)")
    p.add_argument("--folder", type=Path, default=Path("."), help="where databases are put: the disk that is measured (.)")
    p.add_argument("--build", type=Path, default=Path("build/bench"), help=argparse.SUPPRESS)
    return p.parse_args()


def main() -> int:
    args = arguments()
    plan = QUICK if args.quick else FULL
    results = subjects.Results()
    for name in args.only or subjects.SUBJECTS:
        began = time.monotonic()
        subjects.SUBJECTS[name](subjects.Plan(args.build.resolve(), args.folder.resolve(), **plan), results)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        out = report(results, plan)
        args.out.write_text(json.dumps(out, indent=1) + "\n")  # what there is, should a later part fail
    print_table(out)
    if args.write_baseline:
        args.baseline.write_text(json.dumps(baseline_of(out), indent=1) + "\n")
    worse = list(regressions(out, json.loads(args.baseline.read_text()))) if args.check else []
    for line in worse:
        print("worse than the baseline: " + line)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
