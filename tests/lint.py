#!/usr/bin/python3
"""What a reviewer forgets: boundaries between rooms, banned calls, what a program links. Usage: lint.py BUILD_DIR"""
import ast
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build/release")
problems, checks = [], 0


def check(name, bad):
    """One rule: `bad` lists what breaks it."""
    global checks
    checks += 1
    bad = list(bad)
    print(("ok   " if not bad else "FAIL ") + name)
    for b in bad[:10]:
        print("     " + str(b))
    if bad:
        problems.append(name)


def tracked(*patterns):
    out = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=ROOT, check=True, capture_output=True).stdout
    return [ROOT / p for p in out.decode().split("\0") if p]


def code(path):
    """Source text without comments, line numbers kept."""
    text = path.read_text(errors="replace")
    blank = lambda m: re.sub(r"[^\n]", " ", m.group(0))
    return re.sub(r"/\*.*?\*/|//[^\n]*", blank, text, flags=re.S)


def grep(regex, paths, strip_strings=False):
    for p in paths:
        for n, line in enumerate(code(p).split("\n"), 1):
            if strip_strings:
                line = re.sub(r'"(\\.|[^"\\])*"', '""', line)
            if re.search(regex, line):
                yield f"{p.relative_to(ROOT)}:{n}: {line.strip()[:120]}"


def run(*cmd):
    return subprocess.run(cmd, check=True, capture_output=True, text=True).stdout


def needed(program):
    return re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-d", str(program)))


def find(name):
    found = [p for p in BUILD.rglob(name) if p.is_file() and "tests" not in p.parts]
    if not found:
        check(f"{name} is built", [f"no {name} below {BUILD}"])
        return None
    return found[0]


def functions(path):
    """(name, first line, lines) of each; a C function begins where a line begins with its name's and ends at a bare '}'."""
    text = path.read_text()
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield node.name, node.lineno, node.end_lineno - node.lineno + 1
        return
    for m in re.finditer(r"^[A-Za-z_][^;={}]*?(\w+)\([^;{}]*\)\n\{\n.*?^\}$", text, re.M | re.S):
        yield m[1], text.count("\n", 0, m.start()) + 1, m[0].count("\n") + 1


product = tracked("cse-shim/*.[ch]", "mef-plugin/*.[ch]", "ipe-ni/*.[ch]", "ae-client/*.[ch]")
in_room = lambda *rooms: [p for p in product if any(str(p.relative_to(ROOT)).startswith(r) for r in rooms)]
outside = lambda *rooms: [p for p in product if not any(str(p.relative_to(ROOT)).startswith(r) for r in rooms)]

check("no unbounded or ambient C calls", grep(r"\b(strcpy|strcat|sprintf|vsprintf|gets|atoi|atol|rand|srand|system|popen|alloca)\s*\(", product))
check("no run-time assertion in the product", grep(r"\bassert\s*\(", product))
check("secrets are compared in constant time", grep(r"\bmemcmp\s*\([^;]*(key|mac|mic|psk|token|secret|kpm)", outside("cse-shim/base/bytes.h"), True))
check("ESData and Mmef spellings stand in config/names.h only", grep(r'"(sec:|adfq|tgis|aski|srci)', product))
check("oneM2M's own short names stand in cse-shim/m2m_names.h only",
      grep(r'"(m2m:[a-z]+|ty|ri|rn|pi|ct|lt|lbl|et|fr|rt|rcn|fu|lim)["=]', outside("cse-shim/m2m_names.h")))
check("the vault is asked for key bytes in few places",
      grep(r"\bvault_release\w*\s*\(", outside("mef-plugin/vault/", "mef-plugin/mef/")))
check("Zigbee key functions are called by the vault, mefctl and the AE only",
      grep(r"\bzb_(derive|install_code_key|nwk_seal|nwk_open|aps_seal|aps_open|ccm_\w+|crypto_new)\s*\(",
           outside("mef-plugin/zigbee/", "mef-plugin/vault/", "mef-plugin/mefctl/", "ae-client/")))
check("the host knows neither MEF nor Zigbee", grep(r'#include "(mef-plugin|config)/|\bzb_|\bvault_|\bmef_\w+\(', in_room("cse-shim/")))
check("the plugin opens no socket", grep(r"\b(socket|bind|listen|accept4?|connect)\s*\(", in_room("mef-plugin/")))
check("ipe-ni includes neither zigbee nor vault", grep(r'#include "mef-plugin/(zigbee|vault|mef|eg|store)/', in_room("ipe-ni/")))
check("the codec has no I/O, clock or RNG", grep(r"\b(RAND_\w+|time|clock_gettime|fopen|read|write|printf)\s*\(", in_room("mef-plugin/zigbee/", "mef-plugin/egp/")))
# ipe-ni has neither host nor OpenSSL: the kernel gives it transaction numbers, short addresses and jitter.
check("random numbers come from the host, OpenSSL or, in ipe-ni, the kernel",
      [*grep(r"(?<![>.])\b(random|drand48)\s*\(", outside("mef-plugin/vault/")),
       *grep(r"\bgetrandom\s*\(", outside("mef-plugin/vault/", "ipe-ni/"))])
text_files = [p for p in tracked() if p.suffix not in (".bin", ".png") and "corpus" not in p.parts and p.name != "lint.py"]
check("no path of this machine and no package registry's address in the tree",
      (f"{p.relative_to(ROOT)}:{n}: {l.strip()[:100]}" for p in text_files if p.is_file()
       for n, l in enumerate(p.read_text(errors="replace").split("\n"), 1)
       if str(ROOT) + "/" in l or re.search(r"://(registry|deb|snapshot|security|ftp|files)[.]", l)))
check("every public header explains itself",
      (str(p.relative_to(ROOT)) for p in product if p.suffix == ".h" and not p.read_text().lstrip().startswith("/*")))

sources = tracked("*.c", "*.h", "*.py")
check("no file is longer than 600 lines",
      (f"{p.relative_to(ROOT)}: {n}" for p in sources if (n := p.read_text().count("\n")) > 600))
check("no function is longer than a screen, 60 lines",
      (f"{p.relative_to(ROOT)}:{line}: {name}: {n}" for p in sources for name, line, n in functions(p) if n > 60))

plugin, zbgwd, ipe = find("mef-plugin.so"), find("zbgwd"), find("ipe-nid")
if plugin:
    exported = [l.split()[-1] for l in run("nm", "-D", "--defined-only", str(plugin)).splitlines() if l.split()[-1] not in ("_init", "_fini")]
    check("mef-plugin.so exports one symbol", [s for s in exported if s != "cse_plugin"] + ([] if "cse_plugin" in exported else ["cse_plugin missing"]))
    hand_over = re.search(r'getenv\("(\w+)"\)', (ROOT / "tests/secrecy/reveal.c").read_text())[1].encode()
    check("mef-plugin.so hands its secrets to nobody: it is not a test build",
          [s for s in (hand_over, b"__wrap_", b"__real_") if s in plugin.read_bytes()])
if zbgwd:
    check("zbgwd links no cryptography", [n for n in needed(zbgwd) if re.match(r"lib(crypto|ssl|gnutls|mbed)", n)])
for name, program in (("zbgwd", zbgwd), ("ipe-nid", ipe)):
    if program:
        symbols = run("nm", str(program)).split()
        check(f"{name} holds no symbol of zigbee/ or vault/", [s for s in symbols if re.match(r"(zb_|vault_)", s)])
for name in ("mefd", "ipe-nid", "zbgwd", "mefctl", "mefkey"):
    program = find(name)
    if program:
        dyn, head = run("readelf", "-d", str(program)), run("readelf", "-lh", str(program))
        check(f"{name} is hardened (PIE, RELRO, BIND_NOW, no executable stack)",
              [w for w, ok in (("PIE", "DYN" in head), ("BIND_NOW", "BIND_NOW" in dyn or "NOW" in dyn), ("RELRO", "GNU_RELRO" in head),
                               ("stack", not re.search(r"GNU_STACK.*\n.*RWE", head))) if not ok])

print(f"{checks - len(problems)} passed, {len(problems)} failed")
sys.exit(1 if problems else 0)
