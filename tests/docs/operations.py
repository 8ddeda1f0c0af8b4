#!/usr/bin/python3
"""docs/operations.md against the program: operations.py BUILD_DIR [--write]. The configuration reference is generated
from the option tables (--write puts it there); metrics, log events, audit actions and reasons are compared with the
source and, the metrics, with /metrics of a running system. The words of docs/eg-protocol.md and .cddl, too."""
import re
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from common import DOCS, ROOT, Checks, block, main, output, program, sources
from stack import Stack, http_get, set_option

PAGE = DOCS / "operations.md"
OPTION = re.compile(r'\{"([a-z.*]+)", "([a-z0-9-]+)", CONF_(\w+), (NULL|"[^"]*"), (-?\d+), (-?\d+),'
                    r'\s*((?:"[^"]*"\s*)+)\}')


def row(section, key, default, help_text):
    return f"| `[{section}] {key}` | {default} | {help_text} |"


def mefd_rows(build: Path) -> list:
    """From `mefd --print-config`."""
    section, help_text, out = None, None, []
    plugin = next(build.glob("**/mef-plugin.so"))
    for line in output(program(build, "mefd"), "--print-config", "--plugin", plugin).splitlines():
        if m := re.fullmatch(r"\[(.+)\]", line):
            section = m[1]
        elif m := re.fullmatch(r"# (.+)", line):
            help_text = m[1]
        elif m := re.fullmatch(r"#([a-z-]+) = ?(.*)", line):
            state = re.search(r" \((required|no default)\)$", help_text)
            default = "**required**" if state and state[1] == "required" else f"`{m[2]}`" if m[2] else ""
            out.append(row(section, m[1], default, re.sub(r" \((required|no default)\)$", "", help_text)))
    return out


def table_rows(*files) -> list:
    """From the option tables in the source, as C writes them."""
    out, source = [], "\n".join((ROOT / f).read_text() for f in files)
    for section, key, kind, default, low, high, text in OPTION.findall(source):
        shown = "**required**" if default == '"!"' else "" if default == "NULL" else "`" + default.strip('"') + "`"
        extent = f" ({low} to {high})" if kind == "INT" else " (yes or no)" if kind == "BOOL" else ""
        out.append(row(section, key, shown, "".join(re.findall(r'"([^"]*)"', text)) + extent))
    return out


def reference(build: Path) -> dict:
    rows = {"mefd": mefd_rows(build), "ipe-nid": table_rows("ipe-ni/main.c", "ipe-ni/daemon.c"),
            "zbgwd": table_rows("ipe-ni/gateway/main.c", "ipe-ni/daemon.c")}
    return {name: "\n".join(["| Option | Default | Meaning |", "|---|---|---|", *r]) for name, r in rows.items()}


def section(text: str, title: str) -> str:
    """What stands below a heading, down to the next one of its rank."""
    level = re.search(rf"^(#+) {re.escape(title)}$", text, re.M)
    rest = text[level.end():]
    end = re.search(rf"^#{{1,{len(level[1])}}} ", rest, re.M)
    return rest[:end.start()] if end else rest


def first_cells(text: str) -> list:
    return [token for line in re.findall(r"^\| (`.*?) \|", text, re.M) for token in re.findall(r"`([^`]+)`", line)]


def reasons(path: str, table: str) -> list:
    names = re.search(rf"{table}\[\w+\] = \{{(.*?)\}};", (ROOT / path).read_text(), re.S)[1]
    return re.findall(r'\[\w+\] = \{?"([a-z-]+)"', names)


def explanations() -> list:
    """The reasons of the one table of sentences; what is above its second comment is no reason."""
    table = (ROOT / "mef-plugin/eg/explain.c").read_text()
    steps, rest = table.split("/* how an attempt ended", 1)
    return ["older-than-r21"] * ('{"older-than-r21"' in steps) + re.findall(r'^    \{"([a-z0-9-]+)",', rest.split("};")[0], re.M)


def compare_metrics(c, text: str, build: Path, eg: list):
    rows = re.findall(r"^\| (`.*?) \| ([a-z, ]+) \|", section(text, "Metrics"), re.M)
    documented = {}
    for names, kinds in rows:
        names, kinds = re.findall(r"`([^`]+)`", names), kinds.split(", ")
        for i, name in enumerate(names):
            for reason in eg if "{reason}" in name else [""]:
                documented[name.replace("{reason}", reason.replace("-", "_"))] = kinds[min(i, len(kinds) - 1)]
    named = r'"((?:coap|https?|host|mef|eg|store|vault|audit)_[a-z_]+)"'
    known = set(re.findall(named, sources("cse-shim", "mef-plugin")))
    live = live_metrics(c, build)
    c.differ("metrics are those of the source and of /metrics", documented, known | set(live))
    c.check("metrics of a running system: their types",
            [f"{n} is a {live[n]}" for n in live if documented.get(n) != live[n]])
    c.check("a running system has metrics", [] if len(live) > 20 else [str(live)])


def live_metrics(c, build: Path) -> dict:
    """What /metrics has and of which type. On the way: SIGHUP takes over the log level, in host and plugin."""
    folder = Path(tempfile.mkdtemp(prefix="mef-docs-"))
    stack = Stack(build, folder)
    try:
        stack.init({("daemon", "log-level"): "error"})
        stack.start_mefd()
        stack.make_credentials()
        set_option(stack.mefd_conf, "daemon", "log-level", "info")
        stack.mefd.child.send_signal(signal.SIGHUP)
        stack.start_gateway()
        events = re.findall(r"Z \w+ ([a-z.]+)", stack.mefd.log.read_text())
        c.check("SIGHUP takes over the log level", {"daemon.reloaded", "eg.gateway"} - set(events) or
                {"daemon.ready"} & set(events))
        return dict(re.findall(r"^# TYPE (\w+) (\w+)\r?$", http_get(stack.status, "/metrics"), re.M))
    finally:
        stack.stop()
        shutil.rmtree(folder, ignore_errors=True)


def logged() -> set:
    calls = re.findall(r"log_event\(\s*LOG_\w+,\s*([^,]*),", sources("cse-shim", "mef-plugin", "ipe-ni"))
    return {event for call in calls for event in re.findall(r'"([a-z0-9.-]+)"', call)}


def compare_protocol(c, words):
    """The numbered words of the EG protocol; `words`: of the EG's reasons, in their order."""
    rows = re.findall(r"^\| (\d+) \| `([a-z-]+)` \|", (DOCS / "eg-protocol.md").read_text(), re.M)
    c.differ("reasons of eg-protocol.md", rows, [(str(i), word) for i, word in enumerate(words)])
    grammar = (DOCS / "eg-protocol.cddl").read_text()
    for name, real in (("reason", words), ("state", reasons("mef-plugin/egp/egp.c", "state_names"))):
        rule = re.search(rf"^{name} = (0\.\.\d+) ((?: *; [a-z -]+\n)+)", grammar, re.M)
        written = [rule[1], *re.findall(r"[a-z-]+", rule[2])] if rule else []
        c.check(f"{name}s of eg-protocol.cddl", [] if written == [f"0..{len(real) - 1}", *real] else [" ".join(written)])


def audited() -> set:
    """Texts with a dot that are neither log events nor parts of the configuration."""
    text = sources("mef-plugin/eg", "mef-plugin/mef", "mef-plugin/admin", "mef-plugin/audit")
    text = re.sub(r"log_event\(\s*LOG_\w+,\s*[^,]*,|#include.*", "", text)
    return set(re.findall(r'"([a-z-]+\.[a-z-]+)"', text)) - {"device.rekey"}  # answered 501 so far


def run(c: Checks, build: Path):
    text = PAGE.read_text()
    for name, table in reference(build).items():
        found = block(name).search(text)
        c.differ(f"configuration reference of {name}", found[2].splitlines() if found else [], table.splitlines())
        same = found is not None and found[2] == table
        c.check(f"configuration reference of {name} is as generated (--write does it)", [] if same else ["differs"])
    words = reasons("mef-plugin/egp/egp.c", "reason_names")
    compare_protocol(c, words)
    eg = [r for r in words if r != "ok"]
    compare_metrics(c, text, build, eg)
    c.differ("log events", first_cells(section(text, "Log")), logged())
    c.differ("audit actions", first_cells(section(text, "Audit trail")), audited())
    explained = explanations()
    c.differ("reasons, each with what to do", first_cells(section(text, "What the operator sees")), explained)
    c.differ("reasons in the REST's schema", re.findall(r"[a-z0-9-]+", re.search(
        r"\n    Reason:.*?enum: \[(.*?)\]", (ROOT / "docs/rest-api.yaml").read_text(), re.S)[1]), explained)
    c.check("reasons have a sentence", set(eg + reasons("mef-plugin/eg/records.c", "reasons")) - set(explained))
    options = set(re.findall(r"^\| `\[([^\]]+)\] ([a-z-]+)` ", text, re.M))
    cells = re.findall(r"^\| (.*?) \|", section(text, "Limits"), re.M)
    named = {k for cell in cells for k in re.findall(r"`(?:\[[a-z]+\] )?([a-z]+-[a-z-]+)`", cell)}
    c.check("limits name options", named - {key for _, key in options} - {"ipe-nid"})


def write(build: Path):
    text = PAGE.read_text()
    for name, table in reference(build).items():
        text = block(name).sub(lambda m, table=table: m[1] + table + "\n<!-- end -->", text)
    PAGE.write_text(text)


if __name__ == "__main__":
    if sys.argv[2:] == ["--write"]:
        write(Path(sys.argv.pop(1)).resolve())
        sys.exit(0)
    sys.exit(main(run, __doc__))
