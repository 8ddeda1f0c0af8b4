#!/usr/bin/python3
"""Are secrets only where they may be? run.py BUILD [--runs N] [--first N] [--keep]

BUILD is a test build (-Dtest_secrets=true). A run is one story with random codes and keys: story.py. MEF_SEED and the run's
number give its codes; mefd's own keys are its own. MEF_TIER=long: 50 runs, and the same seed on the same build goes on where
it was stopped; else 3. Ends with 'N passed, N failed'."""
import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = {"long": 50, "short": 3}
LIMIT = 600  # seconds for a run, on a machine with much else to do
FIGURES = ("moments", "bytes", "legitimate", "planted")


def one(build: Path, seed: str) -> int:
    """In a process of its own: one story; its figures as the last line."""
    from story import Story
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    story = Story(build, Path.cwd(), seed)
    story.run()
    for complaint in (*story.leaks, *story.blind):
        print(complaint)
    print(json.dumps({"moments": story.moments, "bytes": sum(story.search.scanned.values()), "legitimate": story.legitimate,
                      "planted": story.planted, "leaks": len(story.leaks), "blind": len(story.blind), "control": story.control}))
    return 1 if story.leaks or story.blind else 0


def run(build: Path, number: int, seed: str, keep: bool) -> dict | None:
    began = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix="mef-secrecy-"))
    try:
        done = subprocess.run([sys.executable, __file__, build, "--one", seed], cwd=work, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=LIMIT)
        status, text = done.returncode, done.stdout
    except subprocess.TimeoutExpired as e:
        status, text = 1, f"{(e.stdout or b'').decode(errors='replace')}\nno end after {LIMIT} s"
    lines = text.strip().splitlines() or ["it said nothing"]
    good = status == 0 and lines[-1].startswith("{")
    figures = json.loads(lines[-1]) if lines[-1].startswith("{") else {}
    told = ", ".join(f"{name} {figures[name]}" for name in figures)
    print(f"{'ok' if good else 'FAILED':<6} {time.monotonic() - began:6.1f} s  run {number}, seed {seed}: {told}", flush=True)
    if not good:
        print("\n".join("       " + line for line in (lines[:-1] if figures else lines)[-60:]), flush=True)
    if good or not keep:
        shutil.rmtree(work, ignore_errors=True)
    else:
        print(f"       its files are in {work}")
    return figures if good else None


class Progress:
    """Which runs of this seed and this build have passed."""

    def __init__(self, build: Path, seed: str, resumable: bool):
        plugin = build / "mef-plugin" / "mef-plugin.so"
        self.path, self.key = build / "secrecy-progress.json", [seed, plugin.stat().st_mtime_ns]
        self.done = {}
        if resumable and self.path.exists():
            kept = json.loads(self.path.read_text())
            self.done = kept["done"] if kept["key"] == self.key else {}

    def passed(self, number: int, figures: dict):
        self.done[str(number)] = figures
        self.path.write_text(json.dumps({"key": self.key, "done": self.done}))


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("build", type=Path)
    p.add_argument("--runs", type=int, default=RUNS[os.environ.get("MEF_TIER", "short")])
    p.add_argument("--first", type=int, default=1)
    p.add_argument("--keep", action="store_true", help="keep the files of a run that failed")
    p.add_argument("--one", metavar="SEED", help=argparse.SUPPRESS)
    args = p.parse_args()
    if os.geteuid() != 0:  # the memory of processes that may not be traced is root's
        kept = [f"{name}={os.environ[name]}" for name in ("PATH", "MEF_SEED", "MEF_TIER") if name in os.environ]
        os.execvp("sudo", ["sudo", "-n", "env", *kept, sys.executable, *sys.argv])
    build = args.build.resolve()
    if args.one is not None:
        return one(build, args.one)
    seed = os.environ.get("MEF_SEED", "1")
    print(f"seed {seed}, {args.runs} runs", flush=True)
    progress, failed = Progress(build, seed, args.runs > RUNS["short"]), 0
    for number in range(args.first, args.first + args.runs):
        if str(number) in progress.done:
            continue
        figures = run(build, number, f"{seed}:{number}", args.keep)
        failed += figures is None
        if figures is not None:
            progress.passed(number, figures)
    passed = list(progress.done.values())
    print(", ".join(f"{name} {sum(f[name] for f in passed)}" for name in FIGURES) + "; planted ones missed 0, leaks 0 in these")
    if passed and not all(f["control"] for f in passed):
        print("note: no core is written here even by a program that does not mind; that the others write none shows little")
    print(f"{len(passed)} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
