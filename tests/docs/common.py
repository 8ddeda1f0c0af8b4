"""What the tests of the documents share: counting, the build under test, the system of tests/e2e."""
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
sys.path.insert(0, str(ROOT / "tests" / "e2e"))


class Checks:
    """Named checks, each passed or failed, one line each."""

    def __init__(self):
        self.passed, self.failed = 0, 0

    def check(self, name: str, wrong=()):
        """`wrong` lists what breaks the rule; empty: passed."""
        wrong = list(wrong)
        print(("ok     " if not wrong else "FAILED ") + name, flush=True)
        for line in wrong[:20]:
            print(f"       {line}", flush=True)
        self.passed += not wrong
        self.failed += bool(wrong)

    def differ(self, name: str, documented, real):
        """Two sets that must be one."""
        documented, real = set(documented), set(real)
        self.check(name, [f"documented, but not there: {x}" for x in sorted(documented - real, key=str)] +
                   [f"there, but not documented: {x}" for x in sorted(real - documented, key=str)])


def program(build: Path, name: str) -> Path:
    from stack import Stack
    return Stack.program(_Built(build), name)


class _Built:
    """As much of a Stack as finding a program needs."""

    def __init__(self, build: Path):
        self.build = build


def output(*argv) -> str:
    return subprocess.run([str(a) for a in argv], check=True, capture_output=True, text=True, timeout=30).stdout


def sources(*folders) -> str:
    return "\n".join(p.read_text() for f in folders for p in sorted((ROOT / f).rglob("*.c")))


def block(name: str) -> re.Pattern:
    """What is generated in a page: between these comments."""
    return re.compile(rf"(<!-- generated: {name} -->\n)(.*?)(\n?<!-- end -->)", re.S)


def _literal(text: str, name: str, before: str = "") -> bool:
    """Is the name a text in the source, as it is or with what its braces stand for?"""
    return f'{before}"{name}"' in text or any(
        re.fullmatch(re.sub(r"\\\{.+?\\\}", ".+", re.escape(t)), name) for t in re.findall(rf'{re.escape(before)}f"([^"]*)"', text))


def test_exists(reference: str) -> bool:
    """FILE:NAME, where FILE is unique below tests/ and NAME is a test in it."""
    name, test = reference.split(":", 1)
    files = list((ROOT / "tests").rglob(name))
    if len(files) != 1:
        return False
    text = files[0].read_text()
    if name == "lint.py":
        return _literal(text, test, "check(")
    if name.endswith("_rows.py"):
        return _literal(text, test)
    pattern = rf"^ *def {test}\(" if name.endswith(".py") else rf"(T|cmocka_unit_test\w*)\({test}\b"
    return re.search(pattern, text, re.M) is not None


def main(run, doc: str) -> int:
    """run(checks, build) from `SCRIPT BUILD_DIR`."""
    if len(sys.argv) != 2 or not os.path.isdir(sys.argv[1]):
        print(doc, file=sys.stderr)
        return 2
    checks = Checks()
    run(checks, Path(sys.argv[1]).resolve())
    print(f"{checks.passed} passed, {checks.failed} failed")
    return 0 if checks.passed and not checks.failed else 1
