#!/usr/bin/python3
"""docs/threat-model.md: threat_model.py BUILD_DIR. Every test that it names exists; and what no other test shows is shown
here, on a system in which a device has joined: no key on disk, in a log or in the memory of a gateway; no core; one TLS
stack."""
import os
import re
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from common import DOCS, ROOT, main, output, program, test_exists
from stack import AE_ID, Stack, install_code, random_eui64

sys.path.insert(0, str(ROOT / "tests" / "secrecy"))
from needles import Secret  # noqa: E402
from search import Search  # noqa: E402

CODEC = re.compile(r"coap_(delete_pdu|get_data|opt_\w+|option_\w+|pdu_init|pdu_parse|set_log_\w+)")


def compare_references(c, text: str):
    references = re.findall(r"`((?:[\w-]+\.(?:c|py)):[^`]+)`", text)
    missing = [r for r in references if not test_exists(r)] if references else ["none is named"]
    c.check(f"the {len(references)} tests that are named exist", missing)
    lines = [r for r in re.findall(r"^\|.*\|$", text, re.M) if "Shown by" not in r and "---" not in r]
    rows = [r.strip("| ").rsplit(" | ", 1) for r in lines]
    shown = [r for r in rows if len(r) == 2 and not re.match(r"\d ", r[0]) and not r[0].startswith("Boundary")]
    c.check("every claim names a test, or says that there is none",
            [r[0][:60] for r in shown if not re.search(r"`[\w-]+\.(c|py):|not shown: ", r[1])])


def look(c, what: str, search: Search, targets: dict):
    finds = search.look(targets)
    c.check(f"no key in {what}", [str(f) for f in search.leaks(finds)])
    c.check("..and the search finds what is there", search.unseen(finds, targets))


def no_key_at_rest(c, stack, search):
    search.add(Secret("AE-ID", AE_ID.encode(), {"*"}, {"file:mef/mef.db"}))
    places = [p for p in stack.folder.rglob("*") if p.is_file() and p.name != "kek" and p.suffix != ".psk"]
    look(c, f"{len(places)} files: database, logs, configuration", search, {f"file:{p.relative_to(stack.folder)}": f"file:{p}" for p in places})


def no_key_in_memory(c, stack, search):
    search.add(Secret("gateway-EUI-64", bytes.fromhex(stack.gateway_eui), {"*"}, {"memory:zbgwd", "memory:ipe-nid"}),
               Secret("KEK", (stack.etc / "kek").read_bytes(), {"memory:mefd"}, {"memory:mefd"}))
    look(c, "the memory of zbgwd, ipe-nid and mefd", search,
         {f"memory:{p.name}": f"mem:{p.pid}" for p in (stack.gateway, stack.ipe, stack.mefd)})


def no_core(c, stack):
    limits = Path(f"/proc/{stack.mefd.pid}/limits").read_text()
    wrong = [] if re.search(r"^Max core file size +0 +0 ", limits, re.M) else ["core size is not 0"]
    # An undumpable process's files in /proc belong to root, whoever runs it: the owner tells unless we are root.
    wrong += ["dumpable"] if os.geteuid() and os.stat(f"/proc/{stack.mefd.pid}/mem").st_uid == os.geteuid() else []
    c.check("mefd writes no core", wrong)


def one_tls_stack(c, build):
    for name in ("mefd", "ipe-nid", "mefkey"):
        used = re.findall(r" U ((?:coap|gnutls)_\w+)", output("nm", "-D", "--undefined-only", program(build, name)))
        wrong = [s for s in used if not CODEC.fullmatch(s)] if used else ["nothing found"]
        c.check(f"{name} uses libcoap as codec, GnuTLS not at all", wrong)


def joined(stack) -> list:
    """A device joins; what is secret from now on."""
    eui, code = random_eui64(), install_code()
    stack.start()
    stack.register_code(eui, code)
    joiner = stack.join(eui, code)
    stack.wait_state(eui, "enrolled", 30)
    joiner.stop(signal.SIGKILL)
    status, out, err = stack.mefkey("get", eui, "--stdout")
    key = re.search(r"[0-9a-f]{32}", out)
    if status != 0 or key is None:
        raise AssertionError(f"mefkey get: {status} {err}")
    return [Secret("network-key", bytes.fromhex(key[0])), Secret("install-code", bytes.fromhex(code[:32])),
            Secret("link-key", bytes.fromhex(stack.link_key(code))), Secret("AE-Kpm", bytes.fromhex(stack.ae["kpm"]))]


def run(c, build: Path):
    compare_references(c, (DOCS / "threat-model.md").read_text())
    one_tls_stack(c, build)
    folder = Path(tempfile.mkdtemp(prefix="mef-docs-"))
    stack = Stack(build, folder)
    try:
        search = Search(build / "tests" / "secrecy" / "secrecy-scan")
        search.add(*joined(stack))
        no_core(c, stack)
        if os.geteuid() == 0:
            no_key_in_memory(c, stack, search)
        else:
            print("memory of other processes is looked into by root only")
        stack.stop()
        for log in stack.logs.glob("joiner*"):
            log.unlink()  # the simulated device's own
        no_key_at_rest(c, stack, search)
    finally:
        stack.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(run, __doc__))
