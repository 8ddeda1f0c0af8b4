#!/usr/bin/python3
"""Line coverage by room, of a build with -Db_coverage=true after the suite has run on it.

usage: coverage.py BUILD OUT     writes OUT/rooms.txt and OUT/uncovered.txt; ends with 'N passed, N failed'

A room with a floor that lies below it has failed. A line counts once, however often it was compiled."""
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Room: the paths it is made of, and the least share of its lines in percent that the whole suite has to run.
ROOMS = {
    "zigbee": (["mef-plugin/zigbee/"], 95),
    "EG codec": (["mef-plugin/egp/", "mef-plugin/eg/records.c"], 95),
    "coap": (["cse-shim/coap/"], 95),
    "eg": (["mef-plugin/eg/"], 0),
    "vault": (["mef-plugin/vault/"], 0),
    "store": (["mef-plugin/store/"], 0),
    "audit": (["mef-plugin/audit/"], 0),
    "mef": (["mef-plugin/mef/"], 0),
    "admin": (["mef-plugin/admin/"], 0),
    "base, host, http, tls": (["cse-shim/base/", "cse-shim/host/", "cse-shim/http/", "cse-shim/tls/"], 0),
    "ipe-ni": (["ipe-ni/"], 0),
    "ae-client": (["ae-client/"], 0),
}
LISTED = ("zigbee", "EG codec", "coap", "eg", "vault", "store")


def measured(build: Path) -> dict:
    """{file: {line: how often it ran}} of the product's sources and headers."""
    done = subprocess.run(["gcovr", "--root", ".", "--object-directory", build, "--json", "-", "-j", "2",
                           *(f"--filter={room}/" for room in ("cse-shim", "mef-plugin", "ipe-ni", "ae-client"))],
                          cwd=ROOT, check=True, stdout=subprocess.PIPE)
    lines = {}
    for file in json.loads(done.stdout)["files"]:
        for line in file["lines"]:
            if not line.get("gcovr/noncode") and not line.get("gcovr/excluded"):
                of_file = lines.setdefault(file["file"], {})
                of_file[line["line_number"]] = of_file.get(line["line_number"], 0) + line["count"]
    return lines


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    lines, out = measured(Path(sys.argv[1]).resolve()), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    table, missing, passed, failed = [f"{'room':<24} {'lines':>6} {'run':>6} {'share':>8}  floor"], [], 0, 0
    for room, (paths, floor) in ROOMS.items():
        files = {f: counts for f, counts in sorted(lines.items()) if f.startswith(tuple(paths))}
        total = sum(len(counts) for counts in files.values())
        ran = sum(n > 0 for counts in files.values() for n in counts.values())
        share = 100 * ran / total if total else 0
        good = total > 0 and share >= floor
        passed, failed = passed + good, failed + (not good)
        table.append(f"{room:<24} {total:>6} {ran:>6} {share:>7.1f}%  {floor or '':>3} {'' if good else 'MISSED'}".rstrip())
        if room in LISTED:
            for file, counts in files.items():
                source = (ROOT / file).read_text().split("\n")
                missing += [f"{file}:{n}: {source[n - 1].strip()}" for n, ran in sorted(counts.items()) if ran == 0]
    (out / "rooms.txt").write_text("\n".join(table) + "\n")
    (out / "uncovered.txt").write_text("\n".join(dict.fromkeys(missing)) + "\n")
    print("\n".join(table))
    print(f"the lines that never ran: {out}/uncovered.txt")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
