#!/usr/bin/python3
"""Seeded schedules of the Enrolment Gateway: many in virtual time (main.c, world.c ..), frames opened by an independent
codec, and a share of the same over real sockets (real.py).

usage: run.py BUILD [--count N] [--real N] [--attacker none|some|all] [--seed N] [--jobs N]
A failing schedule prints its seed and its trace; `BUILD/tests/schedules/schedules --seed N --count 1 --verbose` is the
same again, and `run.py BUILD --count 0 --real 1 --seed N` for one over real sockets.
"""
import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/sim"))
import zbcodec  # noqa: E402

TIERS = {"short": (300, 3), "long": (10000, 50)}  # in virtual time, over real sockets
CHUNK = 25
FRAMES_EVERY = 10  # of the schedules, one has its frames opened


class Frames:
    """Each frame that left the plugin, opened by the simulated joiner's codec; no (key, source, counter) twice."""

    def __init__(self):
        self.opened = 0
        self.problems = []

    def schedule(self, frames: list):
        used = {}
        for f in frames:
            try:
                counter = self.open(f)
            except zbcodec.FrameError as e:
                self.problems.append(f"seed {f['seed']}: a {f['kind']} frame for {f['device']}: {e}")
                continue
            self.opened += 1
            same = (f["transaction"], f["nwk"])
            if used.setdefault((f["key"], f["source"], counter), same) != same:
                self.problems.append(f"seed {f['seed']}: counter {counter} of {f['source']} is used twice")

    @staticmethod
    def open(f: dict) -> int:
        frame, key = bytes.fromhex(f["nwk"]), bytes.fromhex(f["key"])
        if f["kind"] == "link-key":
            source = int(f["source"], 16)
            command, counter = zbcodec.open_aps_command(frame, key, zbcodec.KEY_LOAD, source, 0)
            zbcodec.parse_link_key(command, int(f["device"], 16), source, key)
            return counter
        if f["kind"] == "first-key":
            tk = zbcodec.open_first_key(frame, key, int(f["device"], 16), 0)
            if tk.source != int(f["source"], 16):
                raise zbcodec.FrameError("from another Trust Centre")
            return tk.counter
        nwk = zbcodec.parse_nwk(frame)
        aux, secret = zbcodec.parse_aux(nwk.payload)
        zbcodec.open_secured(key, nwk.header, aux, secret)
        if aux.source != int(f["source"], 16):
            raise zbcodec.FrameError("from another source")
        return aux.counter


def chunk(program: Path, folder: Path, seed: int, count: int) -> tuple[str, dict, Path]:
    dump = folder / f"{seed}.jsonl"
    argv = [program, "--seed", str(seed), "--count", str(count), "--dump", dump, "--dump-every", str(FRAMES_EVERY)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=900)
    lines = done.stdout.splitlines()
    try:
        sums = json.loads(lines[-1])
    except (IndexError, ValueError):
        said = done.stdout[-2000:] + done.stderr[-4000:]
        return f"FAILED seeds {seed}..{seed + count - 1}: ended with {done.returncode}\n{said}", {}, dump
    text = "\n".join(lines[:-1]) if sums["failed"] else ""
    return text + (done.stderr[-4000:] if done.returncode not in (0, 1) else ""), sums, dump


def virtual(build: Path, seed: int, count: int, jobs: int) -> tuple[int, int]:
    program = build / "tests/schedules/schedules"
    frames, total, broken, start = Frames(), {}, 0, time.monotonic()
    starts = range(seed, seed + count, CHUNK)
    with tempfile.TemporaryDirectory(prefix="mef-schedules-") as folder, concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        done = pool.map(lambda s: chunk(program, Path(folder), s, min(CHUNK, seed + count - s)), starts)
        for text, sums, dump in done:
            if text:
                print(text)
            broken += not sums
            for name, value in sums.items():
                total[name] = total.get(name, 0) + value
            by_seed = {}
            for line in dump.read_text().splitlines() if dump.exists() and sums else []:
                f = json.loads(line)
                by_seed.setdefault(f["seed"], []).append(f)
            for of_one in by_seed.values():
                frames.schedule(of_one)
            dump.unlink(missing_ok=True)
    total.pop("seconds", None)
    print(json.dumps({**total, "framesOpened": frames.opened, "wallSeconds": round(time.monotonic() - start, 1)}))
    for problem in frames.problems[:20]:
        print("FAILED", problem)
    if count and not frames.opened:
        frames.problems.append("no frame was opened")
        print("FAILED", frames.problems[-1])
    return total.get("passed", 0), total.get("failed", 0) + broken + len(frames.problems)


def main() -> int:
    tier = TIERS[os.environ.get("MEF_TIER", "short")]
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("build", type=Path)
    p.add_argument("--count", type=int, default=tier[0])
    p.add_argument("--real", type=int, default=tier[1])
    p.add_argument("--attacker", choices=("none", "some", "all"), default="some", help="near the radio, in those over real sockets")
    p.add_argument("--seed", type=int, default=int(os.environ.get("MEF_SEED", time.time())))
    p.add_argument("--jobs", type=int, default=2)
    args = p.parse_args()
    build = args.build.resolve()
    print(f"seed {args.seed}", flush=True)
    passed, failed = virtual(build, args.seed, args.count, args.jobs) if args.count else (0, 0)
    if args.real:
        import real
        done = real.run(build, args.seed, args.real, args.attacker)
        passed, failed = passed + done[0], failed + done[1]
    print(f"{passed} passed, {failed} failed")
    return 0 if failed == 0 and passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
