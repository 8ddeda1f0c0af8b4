#!/usr/bin/python3
"""docs/conformance.md, and what its rows rest on: conformance.py BUILD_DIR [--write | --passed FILE].

Beside the code that obeys a clause stands, on a line of its own, one of

    /* Conformance: ITEM | CLAUSE | shown by: FILE:TEST */   a test of it, over real sockets
    /* Conformance: ITEM | CLAUSE | ours: TEXT */            a choice that the public texts leave to us
    /* Conformance: ITEM | CLAUSE | missing: TEXT */         what is not there yet; it stands where it would be

ITEM is one of conformance.txt, or several. An item may have several lines; one that misses something is not conformant. FILE is unique below tests/;
TEST is a method, a cmocka test or the name of a hostile request. --write makes the tables of the page. --passed, the last
step of scripts/test, looks for each test in the log of its step; FILE names the steps that have passed on this very tree."""
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from common import DOCS, ROOT, Checks, block, main, test_exists

PAGE, ITEMS = DOCS / "conformance.md", Path(__file__).with_suffix(".txt")
LOGS = ROOT / "build" / "test-logs"
NAMES = ROOT / "config" / "names.h"
PRODUCT = ("cse-shim", "mef-plugin")
ANNOTATION = re.compile(r" */\* Conformance: ([A-Z]-\d+(?: [A-Z]-\d+)*) \| ([^|]+) \| (shown by|ours|missing): ([^|]+) \*/")


@dataclass
class Item:
    group: str
    text: str
    clauses: list = field(default_factory=list)
    files: list = field(default_factory=list)
    said: dict = field(default_factory=lambda: {"shown by": [], "ours": [], "missing": []})

    @property
    def status(self) -> str:
        if self.said["missing"] or not self.said["shown by"]:
            return "no: " + ("; ".join(self.said["missing"]) or "no test shows it")
        return "ours: " + "; ".join(self.said["ours"]) if self.said["ours"] else "yes"

    def add(self, file: str, clause: str, kind: str, text: str):
        for to, what in ((self.clauses, clause), (self.files, file), (self.said[kind], text)):
            if what not in to:
                to.append(what)


def read_items() -> dict:
    items, group = {}, None
    for line in ITEMS.read_text().splitlines():
        if line.startswith("## "):
            group = line[3:]
        elif line and line[0] != "#":
            name, text = line.split(" ", 1)
            items[name] = Item(group, text)
    return items


def read_code(items: dict) -> list:
    """Gives the items what the code says of them. Returns the lines that say nothing."""
    wrong = []
    for path in sorted(p for folder in PRODUCT for p in (ROOT / folder).rglob("*.[ch]")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if "Conformance:" not in line:
                continue
            said, file = ANNOTATION.fullmatch(line), str(path.relative_to(ROOT))
            names = said[1].split() if said else []
            if not names or set(names) - items.keys():
                wrong.append(f"{file}:{number}: {line.strip()}")
                continue
            for name in names:
                items[name].add(file, *said.groups()[1:])
    return wrong


def tests(items: dict) -> list:
    return sorted({t for i in items.values() for t in i.said["shown by"]})


# --- the page -------------------------------------------------------------------------------------------------------

def rows(items: dict) -> str:
    out, group = [], None
    for name, i in items.items():
        if i.group != group:
            group = i.group
            out += ["", f"### {group}", "| Item | Asked for | Clause | Code | Shown by | Status |", "|---|---|---|---|---|---|"]
        code, shown = (" ".join(f"`{x}`" for x in xs) for xs in (i.files, i.said["shown by"]))
        out.append(f"| {name} | {i.text} | {', '.join(i.clauses)} | {code} | {shown} | {i.status} |")
    count = [sum(i.status.startswith(s) for i in items.values()) for s in ("yes", "ours", "no")]
    return "\n".join([f"{len(items)} items: {count[0]} yes, {count[1]} ours, {count[2]} no."] + out)


def spellings() -> str:
    """Of each name in config/names.h: what it is called on the wire, and what kind of name its comment says it is."""
    out, kind = ["| Name | On the wire | Is |", "|---|---|---|"], None
    for line in NAMES.read_text().splitlines():
        if m := re.match(r"/\* (.+?)\.? \*/", line):
            kind = m[1]
        elif (m := re.match(r'#define (MEF_\w+) "?([^"\s]+)"?', line)) and "ours" in kind:
            out.append(f"| `{m[1]}` | `{m[2]}` | {kind} |")
    return "\n".join(out)


def tables(items: dict) -> dict:
    return {"rows": rows(items), "spellings": spellings()}


# --- whether a test has passed ----------------------------------------------------------------------------------------

def in_meson(log: str, file: str, name: str) -> bool:
    """In every run of the program in a log of meson's: by cmocka or by Python's unittest."""
    runs = [r for r in re.split(r"^=+ \d+/\d+ =+$", log, flags=re.M) if re.search(rf"^command: .*/{file}(\.py)?\b", r, re.M)]
    good = re.compile(rf"^\[ +OK \] {name}$|^{name} \(\S+\)(\n.*)? \.\.\. ok$", re.M)
    return bool(runs) and all(good.search(r) for r in runs)


def in_lines(log: str, file: str, name: str) -> bool:
    return re.search(rf"^ok +[\d.]+ s +{file}\.\w+\.{name}$", log, re.M) is not None


def in_rows(log: str, _file: str, name: str) -> bool:
    return re.search(rf"^ok +\S+ +\S+ +{re.escape(name)}$", log, re.M) is not None


STEPS = {  # the folder of a test: the step of scripts/test that runs it, and how its log says that a test has passed
    "tests/e2e": ("e2e", in_lines),
    "tests/hostile": ("hostile", in_rows),
    "tests/interop": ("unit-asan", in_meson),
    "tests/unit": ("unit-asan", in_meson),
}
REAL = re.compile(r"test_\w+\.py|\w+_rows\.py|test_host_\w+\.c")  # they speak to programs, and call nothing of the product's


def folder(test: str) -> str:
    name = test.split(":", 1)[0]
    return str(next((ROOT / "tests").rglob(name)).parent.relative_to(ROOT))


def has_passed(test: str, steps: set) -> bool:
    file, name = test.split(":", 1)
    step, said = STEPS[folder(test)]
    log = LOGS / f"{step}.log"
    return step in steps and log.exists() and said(log.read_text(errors="replace"), file.rsplit(".", 1)[0], name)


# --- checks -----------------------------------------------------------------------------------------------------------

def run(c: Checks, _build: Path):
    items = read_items()
    c.check("what the code says of conformance can be read, and is of an item", read_code(items))
    c.check("every item has its place in the code", [n for n, i in items.items() if not i.clauses])
    c.check("every item that is there has a test",
            [n for n, i in items.items() if not i.said["shown by"] and not i.said["missing"]])
    named = tests(items)
    missing = [t for t in named if ":" not in t or not test_exists(t)]
    c.check(f"the {len(named)} tests that are named exist", missing if named else ["none is named"])
    c.check("they speak over real sockets, and scripts/test runs them", [
        t for t in named if t not in missing and not (REAL.fullmatch(t.split(":")[0]) and folder(t) in STEPS)])
    text = PAGE.read_text()
    for name, table in tables(items).items():
        found = block(name).search(text)
        c.check(f"the {name} are as generated (--write does it)", [] if found and found[2] == table else ["differs"])


def evidence(passed: Path):
    def look(c: Checks, _build: Path):
        items, steps = read_items(), set(passed.read_text().split()) if passed.exists() else set()
        read_code(items)
        for test in tests(items):
            c.check(test, [] if has_passed(test, steps) else [
                "has not passed: " + " ".join(n for n, i in items.items() if test in i.said["shown by"])])
    return look


def write():
    text, items = PAGE.read_text(), read_items()
    read_code(items)
    for name, table in tables(items).items():
        text = block(name).sub(lambda m, table=table: m[1] + table + "\n<!-- end -->", text)
    PAGE.write_text(text)


if __name__ == "__main__":
    if sys.argv[2:] == ["--write"]:
        write()
        sys.exit(0)
    check = run
    if sys.argv[2:3] == ["--passed"] and len(sys.argv) == 4:
        check = evidence(Path(sys.argv[3]))
        del sys.argv[2:]
    sys.exit(main(check, __doc__))
