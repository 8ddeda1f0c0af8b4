"""The disk below mefd, by powercut.c: a power cut after kill -9, which takes back what was not synced yet; syncs that fail, or
are slow."""
import os
import struct
from pathlib import Path

HEAD = struct.Struct("=QQQ")


def launcher(build: Path) -> list:
    """What stands before mefd in its command line."""
    asan = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
    return ["/usr/bin/env", "--ignore-signal=XFSZ",    # a full disk is an error of write(), not a signal
            f"ASAN_OPTIONS={asan}", f"LD_PRELOAD={build / 'tests/faults/powercut.so'}"]


def _records(undo: Path) -> list:
    data, at, records = undo.read_bytes(), 0, []
    while at + HEAD.size <= len(data):
        offset, size, n = HEAD.unpack_from(data, at)
        at += HEAD.size + n
        if at > len(data):
            break  # the process ended before it wrote
        records.append((offset, size, data[at - n:at]))
    return records


def cut(folder: Path, rng) -> int:
    """Take back some of the newest unsynced writes of each file, all of them half of the times. Returns how many."""
    taken = 0
    for undo in folder.glob("mef.db*.undo"):
        file, records = undo.with_suffix(""), _records(undo)
        keep = 0 if rng.random() < 0.5 else rng.randrange(len(records) + 1)
        if file.exists():
            with open(file, "r+b") as f:
                for offset, size, old in reversed(records[keep:]):
                    os.pwrite(f.fileno(), old, offset)
                    f.truncate(size)
                    taken += 1
    return taken


def clear(folder: Path):
    """Before a start: what is on disk now is what there is."""
    for undo in folder.glob("mef.db*.undo"):
        undo.unlink()
    (folder / "fail-sync").unlink(missing_ok=True)


def fail_syncs(folder: Path):
    (folder / "fail-sync").touch()


def slow_syncs(folder: Path, seconds: float):
    (folder / "slow-sync").write_text(str(round(seconds * 1e3)))


def slowed(folder: Path) -> list:
    """When each slow sync began and ended, on the clock of time.monotonic()."""
    file = folder / "syncs"
    lines = file.read_text().splitlines() if file.exists() else []
    return [tuple(map(float, line.split())) for line in lines]
