#!/usr/bin/python3
"""Plants one defect at a time in a copy of the tree and asks the harness that guards the thing to fail.

usage: run.py [--long] [NAME-REGEX]      ends with 'N passed, N failed'; --long: also those that name Tier: long

Each *.patch here is a diff for `git apply`, under a head of these lines (a line that starts with a blank continues the last):
  Breaks:  what it breaks, in words
  Build:   a build of BUILDS below, or none for a check that reads the sources only
  Run:     the command that must fail, from the top of the tree; {build} is the build's folder
  Expect:  a regular expression (multi-line) found in the command's output: it must fail for the right reason
  Tier:    ci or long
The command must pass in the unpatched copy. The copy and its builds stay in build/planted/ and are brought up to date."""
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
HOME = ROOT / "build" / "planted"
TREE = HOME / "tree"
SANITIZE = "-Db_lundef=false"
BUILDS = {
    "release": ("gcc", ["-Dbuildtype=release"]),
    "asan": ("gcc", ["-Dbuildtype=debug", "-Db_sanitize=address,undefined", SANITIZE]),
    "tsan": ("gcc", ["-Dbuildtype=debugoptimized", "-Db_sanitize=thread", SANITIZE]),
    "fuzz": ("clang", ["-Dbuildtype=debugoptimized", "-Dfuzz=true", "-Db_sanitize=address,undefined", SANITIZE]),
    "secrets": ("gcc", ["-Dbuildtype=debug", "-Dtests=false", "-Dtest_secrets=true"]),
}
ENVIRONMENT = {
    "MEF_SEED": os.environ.get("MEF_SEED", "1"),
    "MEF_TIER": "short",  # a planted defect shows at once
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1",
    "PATH": f"{ROOT}/build/tools/bin:{os.environ['PATH']}",
}
LIMIT = 900  # seconds for a command


class Planted:
    """One patch and what its head says."""

    def __init__(self, path: Path):
        self.path, self.name = path, path.stem
        head = path.read_text().split("\ndiff --git ", 1)[0]
        fields = dict(re.findall(r"^([A-Z][a-z]+): +(.*(?:\n[ \t]+.*)*)", head, re.M))
        for field in ("Breaks", "Build", "Run", "Expect", "Tier"):
            if field not in fields:
                sys.exit(f"{path}: no {field}:")
        self.breaks, self.build, self.tier = (fields[f].strip() for f in ("Breaks", "Build", "Tier"))
        if self.build not in (*BUILDS, "none") or self.tier not in ("ci", "long"):
            sys.exit(f"{path}: Build: {self.build}, Tier: {self.tier}?")
        self.run = " ".join(fields["Run"].split()).replace("{build}", str(HOME / self.build))
        self.expect = re.compile(fields["Expect"].strip(), re.M)


def git(*args) -> subprocess.CompletedProcess:
    return subprocess.run(["git", *args], cwd=TREE, capture_output=True, text=True)


def files(folder: Path) -> set:
    listed = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], cwd=folder, check=True, capture_output=True)
    return {name for name in listed.stdout.decode().split("\0") if name and (folder / name).is_file()}


def update_copy():
    """TREE becomes what lies in the working tree; files that are the same keep their times, so builds are incremental."""
    (TREE / "build").mkdir(parents=True, exist_ok=True)
    if not (TREE / ".git").exists():
        git("init", "-q")
    wanted = files(ROOT)
    for name in wanted:
        source, target = ROOT / name, TREE / name
        if not target.is_file() or source.read_bytes() != target.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    for name in files(TREE) - wanted:
        (TREE / name).unlink()
    git("add", "-A")
    tools = TREE / "build" / "tools"
    if not tools.is_symlink():
        tools.symlink_to(ROOT / "build" / "tools")


def shell(command: str, **environment):
    """Exit status and output; a command that never ends has failed."""
    command = f"cd '{TREE}' && exec timeout -k 10 {LIMIT} sh -c {quote(command)}"
    done = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                          env={**os.environ, **ENVIRONMENT, **environment})
    return done.returncode, done.stdout.decode(errors="replace")


def quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def build(name: str) -> str:
    """What is wrong, or nothing."""
    if name == "none":
        return ""
    compiler, options = BUILDS[name]
    folder = HOME / name
    if not (folder / "build.ninja").exists():
        status, output = shell(f"meson setup '{folder}' {' '.join(options)}", CC=compiler)
        if status != 0:
            return f"meson setup {name}:\n{output[-2000:]}"
    status, output = shell(f"ninja -j2 -C '{folder}'")
    return "" if status == 0 else f"it does not build:\n{output[-2000:]}"


def unpatched_passes(planted: Planted, known: dict) -> str:
    if planted.run not in known:
        status, output = shell(planted.run)
        known[planted.run] = "" if status == 0 else f"{planted.run} fails without the patch:\n{output[-2000:]}"
    return known[planted.run]


def caught(planted: Planted) -> str:
    """Apply, build, run, reverse. What is wrong, or nothing."""
    applied = git("apply", "--whitespace=nowarn", str(planted.path))
    if applied.returncode != 0:
        return f"the patch no longer applies:\n{applied.stderr}"
    try:
        wrong = build(planted.build)
        if wrong:
            return wrong
        status, output = shell(planted.run)
    finally:
        git("apply", "--whitespace=nowarn", "-R", str(planted.path))
    if status == 0:
        return f"NOT CAUGHT: {planted.run} passes although it is broken: {planted.breaks}"
    if not planted.expect.search(output):
        return f"{planted.run} fails, but nothing it says matches {planted.expect.pattern!r}:\n{output[-3000:]}"
    return ""


def main() -> int:
    args = sys.argv[1:]
    everything = "--long" in args
    args = [a for a in args if a != "--long"]
    if len(args) > 1 or any(a.startswith("-") for a in args):
        print(__doc__, file=sys.stderr)
        return 2
    pattern = re.compile(args[0] if args else ".")
    chosen = [p for p in map(Planted, sorted(HERE.glob("*.patch")))
              if pattern.search(p.name) and (everything or args or p.tier == "ci")]
    update_copy()
    passed, bad, known = 0, [], {}
    for name in dict.fromkeys(p.build for p in chosen):
        wrong = build(name)
        for planted in (p for p in chosen if p.build == name):
            began = time.monotonic()
            said = wrong or unpatched_passes(planted, known) or caught(planted)
            passed += not said
            bad += [planted.name] if said else []
            print(f"{'FAILED' if said else 'caught'} {time.monotonic() - began:6.1f} s  {planted.name}: {said or planted.breaks}",
                  flush=True)
        wrong or build(name)  # the copy is whole again, and so is what was built of it
    print(f"seed {ENVIRONMENT['MEF_SEED']}")
    print(f"{passed} passed, {len(bad)} failed")
    return 0 if passed and not bad else 1


if __name__ == "__main__":
    sys.exit(main())
