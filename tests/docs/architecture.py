#!/usr/bin/python3
"""docs/architecture.md against the source: architecture.py BUILD_DIR. Every room is in its table and includes what the
table allows, and no more; where to change what names files that exist and words that are in them; it is one page."""
import re
import subprocess
import sys
from pathlib import Path

from common import DOCS, ROOT, Checks, main

PAGE = DOCS / "architecture.md"
PAGE_LINES = 90  # the picture among them
FILE = r"`([\w.-]+(?:/[\w.-]*)+)`"


def section(text: str, title: str) -> str:
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.M | re.S)[1]


def cells(text: str) -> list:
    rows = [re.split(r" *\| *", line.strip("| ")) for line in text.splitlines() if line.startswith("| `")]
    return [row + [""] * (4 - len(row)) for row in rows]


class Rooms:
    """The table of rooms: whose a file is, and what its room may include."""

    def __init__(self, text: str):
        self.uses = {re.match(r"`([^`]+)`", row[0])[1]: row[2] for row in cells(text)}

    def of(self, path: str) -> str | None:
        return max((r for r in self.uses if path.startswith(r)), key=len, default=None)

    def allowed(self, room: str) -> set:
        """Beginnings of what the room may include; "X and what it uses": also what X may."""
        out = {room, "cse-shim/base/"}
        for name, more in re.findall(r"`([^`]+[/h])`( and what (?:it|they) uses?)?", self.uses[room]):
            target = name if (ROOT / name).exists() else next((r for r in self.uses if r.endswith("/" + name)), "?" + name)
            out |= self.allowed(target) if more else {target}
        return out


def product() -> list:
    listed = subprocess.run(["git", "ls-files", "cse-shim", "mef-plugin", "ipe-ni", "ae-client"], cwd=ROOT, check=True,
                            capture_output=True, text=True).stdout.split()
    return [f for f in listed if re.search(r"/.*\.[ch]$", f)]


def includes(file: str) -> list:
    return re.findall(r'^#include "([^"]+)"', (ROOT / file).read_text(), re.M)


def compare_rooms(c, rooms: Rooms):
    files = [f for f in product() if f != "mef-plugin/plugin.c"]  # which puts the rooms together
    c.check("every file is in a room", [f for f in files if rooms.of(f) is None])
    c.check("every room is there", [r for r in rooms.uses if not (ROOT / r).exists()])
    c.check("rooms include what the table allows",
            [f"{f}: {i}" for f in files if rooms.of(f) for i in includes(f)
             if not i.startswith(tuple(rooms.allowed(rooms.of(f))))])
    c.check("nobody includes another room's internal.h",
            [f"{f}: {i}" for f in files for i in includes(f) if i.endswith("/internal.h") and rooms.of(i) != rooms.of(f)])


def compare_places(c, text: str):
    """A file, and in parentheses behind it words of it."""
    wrong = []
    for name, words in re.findall(FILE + r"(?: \(([^)]*)\))?", text):
        path = ROOT / name
        if not path.exists():
            wrong.append(f"{name} is not there")
        elif path.is_file():
            wrong += [f"{w} is not in {name}" for w in re.findall(r"`(\w+)`", words)
                      if not re.search(rf"\b{w}\b", path.read_text())]
    c.check("where to change what", wrong)


def run(c: Checks, _build: Path):
    text = PAGE.read_text()
    compare_rooms(c, Rooms(section(text, "Rooms")))
    compare_places(c, section(text, "Where to change what"))
    lines = len(text.splitlines())
    c.check("it is one page", [f"{lines} lines"] if lines > PAGE_LINES else [])


if __name__ == "__main__":
    sys.exit(main(run, __doc__))
