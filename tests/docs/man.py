#!/usr/bin/python3
"""Each manual page against its program's --help, and the pages' markup: man.py BUILD_DIR."""
import re
import shutil
import subprocess
import sys
from pathlib import Path

from common import DOCS, main, output, program

# Program, the arguments whose usage together is its help, and the names of its commands in that help.
PROGRAMS = {"mefd": ([], None), "ipe-nid": ([], None), "zbgwd": ([], None),
            "mefctl": ([["init"], ["zigbee"]], r"^  ([a-z][a-z-]*) +\S"), "mefkey": ([], r"^  ([a-z]+)\s+\S")}


def page_of(name: str) -> Path:
    return next((DOCS / "man").glob(f"{name}.[18]"))


def exit_codes(text: str) -> set:
    """Of the last sentence "Exit codes: 0 .., 1 .., 2 .."."""
    sentence = re.findall(r"Exit[^:]*:(.*)", text)[-1]
    return set(re.findall(r"(?:^|[,;]) *(\d) ", sentence))


def compare(c, build: Path, name: str):
    deeper, commands = PROGRAMS[name]
    prog, page = program(build, name), page_of(name).read_text()
    usage = "".join(output(prog, *args, "--help") for args in [[], *deeper])
    c.differ(f"{name}: options", set(re.findall(r"Fl -([a-z-]+)", page)), set(re.findall(r"--([a-z][a-z-]*)", usage)))
    c.differ(f"{name}: exit codes", set(re.findall(r"^\.It (\d)$", page, re.M)), exit_codes(usage))
    if commands:
        listed = set(re.findall(commands, usage, re.M)) - {"init", "zigbee"}
        c.differ(f"{name}: commands", set(re.findall(r"^\.It Cm ([a-z-]+)", page, re.M)), listed)
    version = output(prog, "--version")
    c.check(f"{name}: --version", [] if re.fullmatch(rf"{name} \d+\.\d+\.\d+\n", version) else [version])


def markup(path: Path) -> list:
    """What mandoc, or without it groff by way of man, complains of."""
    if shutil.which("mandoc"):
        done = subprocess.run(["mandoc", "-Tlint", "-Wwarning", path], capture_output=True, text=True, timeout=30)
        return done.stdout.splitlines()
    done = subprocess.run(["man", "--warnings", "-l", "-Tutf8", path], capture_output=True, text=True, timeout=30)
    return done.stderr.splitlines() + ([] if done.returncode == 0 else [f"man ends with {done.returncode}"])


def run(c, build: Path):
    for name in PROGRAMS:
        compare(c, build, name)
        c.check(f"{name}: markup", markup(page_of(name)))
    pages = {p.name for p in (DOCS / "man").glob("*.[1-9]")}
    installed = re.findall(r"'([\w-]+\.\d)'", (DOCS / "man" / "meson.build").read_text())
    c.differ("meson installs every page", pages, installed)
    c.differ("each program has its page", {p.rsplit(".", 1)[0] for p in pages}, PROGRAMS)


if __name__ == "__main__":
    sys.exit(main(run, __doc__))
