#!/usr/bin/python3
"""Crash consistency: kill -9 and other faults under load, then: nothing acknowledged lost, no (key, source, counter) twice,
no manual repair.

Rounds of a hundred kills, each with a stack of its own. Finished rounds stand in a state file, so that an interrupted run
goes on with the next one. Ends with 'N passed, N failed': kills survived, rounds failed.
"""
import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]
from ledger import Violation  # noqa: E402
from world import World  # noqa: E402

ROUND = 100


def one_round(args, number: int, kills: int) -> dict | None:
    """The figures of a round, or None when something did not hold."""
    folder = Path(tempfile.mkdtemp(prefix="mef-faults-"))
    world, began, kept = World(args.build, folder, args.seed, number), time.monotonic(), False
    try:
        world.start()
        while world.kills < kills:
            world.cycle()
        world.finish()
    except Exception as e:
        kept = True
        print(f"FAILED round {number} after {world.kills} kills (--seed {args.seed} --first {number}): {type(e).__name__}: {e}")
        if not isinstance(e, Violation):
            traceback.print_exc()
    finally:
        try:
            world.stop()
        except Exception as e:
            print(f"FAILED round {number} (--seed {args.seed} --first {number}) at the end: {e}")
            kept = True
        if kept:
            print(f"logs, journal and frames are in {folder}", flush=True)
        elif not os.environ.get("MEF_KEEP"):
            shutil.rmtree(folder, ignore_errors=True)
    if kept:
        return None
    return {"seconds": time.monotonic() - began, "faults": world.figures, "acknowledged": world.ledger.counts,
            "frames": world.frames.checked, "longest": world.longest}


def add(total: dict, figures: dict):
    total["seconds"] = total.get("seconds", 0) + figures["seconds"]
    for part in ("faults", "acknowledged", "frames"):
        total[part] = dict(Counter(total.get(part, {})) + Counter(figures[part]))
    longest = total.setdefault("longest", {})
    for what, seconds in figures["longest"].items():
        longest[what] = max(longest.get(what, 0), seconds)


def kills_of(figures: dict) -> int:
    return sum(n for what, n in figures.get("faults", {}).items() if what.startswith("kills of "))


def show(total: dict):
    for part in ("faults", "acknowledged", "frames"):
        print(f"{part}: " + ", ".join(f"{what} {n}" for what, n in sorted(total[part].items())))
    print("longest, s: " + ", ".join(f"{what} {seconds:.2f}" for what, seconds in sorted(total["longest"].items())))
    print(f"{kills_of(total)} kills in {total['seconds']:.0f} s", flush=True)


def arguments():
    long = os.environ.get("MEF_TIER") == "long"
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("build", type=Path)
    p.add_argument("--kills", type=int, default=1000 if long else 10)
    p.add_argument("--seed", type=int, default=int(os.environ.get("MEF_SEED") or random.randrange(1 << 32)))
    p.add_argument("--first", type=int, default=0, metavar="ROUND", help="begin with this round")
    p.add_argument("--state", type=Path, help="remember finished rounds here (long tier: build/faults.json)")
    args = p.parse_args()
    if args.state is None and long:
        args.state = Path("build/faults.json")
    args.build = args.build.resolve()
    return args


def main() -> int:
    args = arguments()
    total, number = {}, args.first
    if args.state is not None and args.state.exists():
        saved = json.loads(args.state.read_text())
        if saved["seed"] == args.seed and kills_of(saved["total"]) < args.kills:
            total, number = saved["total"], saved["next"]
    print(f"seed {args.seed}, {args.kills} kills, from round {number} with {kills_of(total)} done", flush=True)
    while kills_of(total) < args.kills:
        figures = one_round(args, number, min(ROUND, args.kills - kills_of(total)))
        if figures is None:
            print(f"{kills_of(total)} passed, 1 failed")
            return 1
        add(total, figures)
        number += 1
        print(f"round {number - 1}: {kills_of(figures)} kills in {figures['seconds']:.0f} s", flush=True)
        if args.state is not None:
            args.state.parent.mkdir(parents=True, exist_ok=True)
            args.state.write_text(json.dumps({"seed": args.seed, "next": number, "total": total}))
    show(total)
    print(f"{kills_of(total)} passed, 0 failed")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; the same seed goes on after the last finished round")
