#!/usr/bin/python3
"""The shell examples of README.md and docs/*.md, run: examples.py BUILD_DIR. A block marked ```sh, or a line that begins
with "$ ", is executed in a folder of its page, with a running mefd whose address stands in for that of the page; what
stands below a "$ " is compared with the output. `<!-- not run: REASON -->` above a block excuses it. A block whose first
line is "# with mefd stopped" is run without mefd. curl fails on every answer that is not a success."""
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

from common import DOCS, ROOT, main, output, program
from mmef import Client
from stack import Stack, set_option

FENCE = re.compile(r"(?:^<!-- not run: (?P<reason>.*?) -->\n)?^```(?P<kind>[^\n]*)\n(?P<text>.*?)^```$", re.M | re.S)
DIALOGUE = re.compile(r"^( *)\$ (.*\n(?:\1  .*\n)*)((?:\1[^ $\n].*\n)*)", re.M)
SHELL = re.compile(r"^(\$ |api |\./|(curl|mefctl|mefd|mefkey|openssl|meson|sqlite3|systemctl|cp|sudo) )", re.M)
COUNTER = bytes(24)


class Page:
    """A folder with the programs in PATH, and mefd running on the `etc` in it, once there is one."""

    def __init__(self, build: Path, folder: Path):
        self.stack = Stack(build, folder)
        self.stack.etc = folder / "etc"
        self.folder, self.build = folder, build
        self.path = folder / "bin"
        self.path.mkdir()
        plugin = next(build.glob("**/mef-plugin.so"))
        for name in ("mefctl", "mefkey", "ipe-nid", "zbgwd"):
            (self.path / name).symlink_to(program(build, name))
        self.script("mefd", f'exec {program(build, "mefd")} --plugin {plugin} "$@"')
        self.script("curl", f'exec {shutil.which("curl")} --fail-with-body "$@"')

    def script(self, name: str, text: str):
        (self.path / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.path / name).chmod(0o755)

    def start(self):
        """On free ports; the first time with a counter in the database."""
        s = self.stack
        if not (s.etc / "mefd.conf").exists() or s.mefd is not None:
            return
        s.mefd_conf = s.etc / "mefd.conf"
        for section, port in (("coap", s.coaps), ("https", s.https), ("status", s.status)):
            set_option(s.mefd_conf, section, "listen", f"127.0.0.1:{port}")
        set_option(s.mefd_conf, "daemon", "plugin", str(next(self.build.glob("**/mef-plugin.so"))))
        first = not (s.etc / "mef.db").exists()
        s.start_mefd()
        if first:
            self.stop()
            with sqlite3.connect(s.etc / "mef.db") as db:
                db.execute("INSERT INTO counter VALUES(?, ?)", (COUNTER, (7).to_bytes(4, "big")))
            db.close()
            s.start_mefd()

    def stop(self):
        if self.stack.mefd is not None:
            self.stack.stop()

    def init(self):
        """For pages that do not begin with `mefctl init`: the files they name."""
        output(program(self.build, "mefctl"), "init", "--fqdn", "mef.example.com", "--dir", self.stack.etc)
        self.start()
        shutil.copy(self.stack.etc / "server.pem", self.folder / "mefd-cert.pem")
        shutil.copy(self.stack.etc / "admin.token", self.folder / "admin.token")
        self.stack.token_header = self.folder / "authorization"
        self.stack.token_header.write_text(f"Authorization: Bearer {self.stack.token()}\n")
        self.kpm_id = self.stack.must("POST", "/v1/credentials", {"for": "gateway:example", "kind": "psk"})["kpmId"]

    def registration(self) -> str:
        """The resourceID of a client that registers itself."""
        made = self.stack.must("POST", "/v1/credentials", {"for": "C-example", "kind": "psk"})
        client = Client(self.stack, ("coaps", "psk"), made["for"], "", ("-psk_identity", made["kpmId"], "-psk", made["kpm"]))
        registered = client.register(adfq=client.ask("GET").pc["adfq"])
        client.close()
        return registered.pc["ri"]

    def run(self, text: str) -> tuple[int, str, str]:
        text = re.sub(r"https://(mef\.example\.com|localhost):8443", f"https://localhost:{self.stack.https}", text)
        text = text.replace("<kpmId>", getattr(self, "kpm_id", "<kpmId>"))
        if "/registrations/<id>" in text:
            text = text.replace("<id>", self.registration())
        whole = f"set -eu\n[ ! -e .functions ] || . ./.functions\n{text}\ndeclare -f > .functions\n"
        env = {"PATH": f"{self.path}:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(self.folder), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(["bash", "-c", whole], cwd=self.folder, env=env, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout, done.stderr


def without_blocks(text: str) -> str:
    return FENCE.sub("", text)


def run_page(c, path: Path, page: Page):
    text = path.read_text()
    name = str(path.relative_to(ROOT))
    blocks = list(FENCE.finditer(text))
    if any(b["kind"] == "sh" and not b["reason"] for b in blocks) and "mefctl init" not in text:
        page.init()
    for block in blocks:
        line = text[:block.start()].count("\n") + 1
        where = f"{name}:{line}"
        if block["kind"] != "sh":
            if SHELL.search(block["text"]) and block["kind"] == "":
                c.check(f"{where}: a shell example is marked sh", ["it is not"])
            continue
        if block["reason"]:
            print(f"not run {where}: {block['reason']}")
            continue
        stopped = block["text"].startswith("# with mefd stopped\n")
        page.stop() if stopped else page.start()
        status, out, err = page.run(block["text"])
        page.start()
        c.check(where, [] if status == 0 else [f"ends with {status}", *out.splitlines()[-5:], *err.splitlines()[-5:]])
    for dialogue in DIALOGUE.finditer(without_blocks(text)):
        status, out, err = page.run(dialogue[2].replace("\n" + dialogue[1], "\n"))
        expected = re.sub(rf"^{dialogue[1]}", "", dialogue[3], flags=re.M)
        wrong = [] if status == 0 and out == expected else [f"ends with {status}", out, err]
        c.check(f"{name}: $ {dialogue[2][:40]}", wrong)


def counter(page: Page) -> int:
    with sqlite3.connect(page.stack.etc / "mef.db") as db:
        rows = db.execute("SELECT v FROM counter WHERE k = ?", (COUNTER,)).fetchall()
    db.close()
    return int.from_bytes(rows[0][0], "big") if rows else 0


def run(c, build: Path):
    before = c.passed
    for path in [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]:
        folder = Path(tempfile.mkdtemp(prefix="mef-docs-"))
        page = Page(build, folder)
        try:
            run_page(c, path, page)
            page.stop()
            if path.name == "operations.md":
                wrong = [] if counter(page) == 7 + (1 << 20) else [f"it says {counter(page)}"]
                c.check("the restored database has its counters raised", wrong)
        finally:
            page.stop()
            shutil.rmtree(folder, ignore_errors=True)
    c.check("examples were run", [] if c.passed - before > 8 else [f"only {c.passed - before}"])


if __name__ == "__main__":
    sys.exit(main(run, __doc__))
