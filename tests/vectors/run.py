#!/usr/bin/env python3
"""Every vector of zigbee.json through `mefctl zigbee`: frames byte for byte and back, refusals by name, install codes,
labels. The primitives and the counter rules have no verb: the unit test `test_zigbee` runs those, and is run here. So does
`test_vault_derive` with onem2m.json, which is computed again here.

usage: run.py BUILD-DIR        exit status 0 only if nothing differs
"""
import json
import os
import pathlib
import subprocess
import sys

import onem2m

HERE = pathlib.Path(__file__).resolve().parent
VECTORS = json.loads((HERE / "zigbee.json").read_text())
DECODED = {"gateway_eui64_text", "gateway_short", "device_eui64_text", "device_short", "nwk_seq", "nwk_radius",
           "nwk_dst64", "nwk_src64", "nwk_discover_route", "nwk_frame_counter", "nwk_key_seq", "aps_counter",
           "aps_key_id", "aps_frame_counter", "aps_ack_request", "key_type", "transported_key", "key_seq",
           "partner_eui64_text", "initiator", "tunnel"}


class Count:
    passed = failed = 0

    def check(self, name, got, want):
        if got == want:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED {name}\n  got  {got}\n  want {want}")


def mefctl(build, verb, lines):
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    run = subprocess.run([build / "mef-plugin/mefctl/mefctl", "zigbee", verb], input=text, capture_output=True,
                         text=True, check=True)
    answers = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(answers) == len(lines), f"{verb}: {len(lines)} lines in, {len(answers)} out"
    return answers


def frames(count, build):
    vectors = VECTORS["frames"]
    for v, got in zip(vectors, mefctl(build, "forge", [{"kind": v["kind"], "inputs": v["inputs"]} for v in vectors])):
        count.check("forge " + v["name"], got, {k: v["expect"][k] for k in ("nwk_frame", "aps_frame")})
    lines = [{"nwk_frame": v["expect"]["nwk_frame"], "link_key": v["inputs"]["link_key"],
              "network_key": v["inputs"]["network_key"]} for v in vectors]
    for v, got in zip(vectors, mefctl(build, "decode", lines)):
        known = {k: v["inputs"][k] for k in v["inputs"] if k in DECODED and k in got}
        count.check("decode " + v["name"], {"ok": got.get("ok"), "kind": got.get("kind"), **{k: got[k] for k in known}},
                    {"ok": True, "kind": v["kind"], **known})
        # What cannot be read off the frame, by kind: the far side's IEEE address where nothing carries it.
        missing = (set(v["inputs"]) & DECODED) - set(got)
        may_miss = {"request-key": {"gateway_eui64_text"}, "verify-key": {"gateway_eui64_text"},
                    "tunnel": {"device_short"}, "transport-key-app": {"device_eui64_text"}}
        count.check("decode names " + v["name"], missing, may_miss.get(v["kind"], set()))
        again = dict(v["inputs"], **{k: x for k, x in got.items() if k not in ("ok", "kind")})
        back = mefctl(build, "forge", [{"kind": got.get("kind"), "inputs": again}])[0]
        count.check("forge of decode " + v["name"], back.get("nwk_frame"), v["expect"]["nwk_frame"])


def frames_invalid(count, build):
    vectors = VECTORS["frames_invalid"]
    for v, got in zip(vectors, mefctl(build, "decode", vectors)):
        got = {"ok": got["ok"], "error": got.get("error")}
        count.check("decode " + v["name"], got, {"ok": v["error"] is None, "error": v["error"]})


def install_codes(count, build):
    names = ("link_key", "key_transport_key", "key_load_key", "verify_key_hash")
    vectors = VECTORS["install_codes"]
    for v, got in zip(vectors, mefctl(build, "link-key", vectors)):
        count.check("install code " + v["name"], got, {n: v[n] for n in names})
    vectors = VECTORS["install_codes_invalid"]
    lines = [{"install_code": v.get("install_code", v.get("install_code_text"))} for v in vectors]
    for v, got in zip(vectors, mefctl(build, "link-key", lines)):
        count.check("install code " + v["name"], got, {"error": v["error"]})


def labels(count, build):
    for v, got in zip(VECTORS["qr"], mefctl(build, "label", VECTORS["qr"])):
        want = {"error": v["error"]} if "error" in v else {n: v[n] for n in ("eui64_text", "install_code")}
        count.check("label " + v["format"], got, want)


def complete(v, **changes):
    inputs = {**v["inputs"], **changes}
    return {"kind": v["kind"], "inputs": {k: x for k, x in inputs.items() if x != "absent"}}


def bad_lines(count, build):
    first = VECTORS["frames"][0]
    secured = next(v for v in VECTORS["frames"] if v["kind"] == "transport-key-nwk-update")
    tunnel = next(v for v in VECTORS["frames"] if v["kind"] == "tunnel")
    cases = [("", "bad-json"), ("{", "bad-json"), ("[]", "bad-json"), ("null", "bad-json"), ('{"kind":1}{}', "bad-json"),
             ('{"kind":"a\\u0000"}', "bad-json"), ("[" * 5000, "bad-json"), ({}, "bad-kind"), ({"kind": "no"}, "bad-kind"),
             ({"kind": "data"}, "missing:inputs"), ({"kind": "data", "inputs": 1}, "range:inputs"),
             ("x" * 65537, "line-too-long"), ("x" * 1000000, "line-too-long")]
    for name in ("transported_key", "gateway_eui64_text", "device_eui64_text", "device_short", "nwk_seq", "nwk_radius",
                 "aps_counter", "aps_frame_counter", "key_seq", "gateway_short"):
        cases += [(complete(first, **{name: x}), "missing:" + name) for x in ("absent", None)]
        cases += [(complete(first, **{name: x}), "range:" + name) for x in (-1, 1.5, 1 << 32, "zz", [], True)]
    cases += [(complete(first, link_key="absent", install_code="absent"), "missing:link_key"),
              (complete(first, aps_frame_counter=0xFFFFFFFF), "range:aps_frame_counter"),
              (complete(first, key_type=4), "range:key_type"), (complete(first, nwk_discover_route=4), "range:nwk_discover_route"),
              (complete(secured, network_key=None), "missing:network_key"),
              (complete(secured, nwk_frame_counter=None), "missing:nwk_frame_counter"),
              (complete(secured, nwk_key_seq="absent"), "missing:nwk_key_seq"), (complete(tunnel, tunnel="absent"), "missing:tunnel")]
    for (line, error), got in zip(cases, mefctl(build, "forge", [line for line, _ in cases])):
        count.check(f"forge {str(line)[:60]} wants {error}", got, {"error": error})
    # The code stands in for the key; and the last line needs no newline.
    got = mefctl(build, "forge", [complete(first, link_key=None)])[0]
    count.check("link key from the install code", got.get("nwk_frame"), first["expect"]["nwk_frame"])
    frame = {"nwk_frame": first["expect"]["nwk_frame"]}
    update = {"nwk_frame": secured["expect"]["nwk_frame"]}
    cases = [(frame, "no-key"), (update, "no-key"), ({**update, "link_key": secured["inputs"]["link_key"]}, "no-key"),
             ({**update, "network_key": secured["inputs"]["network_key"]}, "no-key"), ({}, "missing:nwk_frame"),
             ({"nwk_frame": "0"}, "malformed"), ({"nwk_frame": "00" * 200}, "malformed"),
             ({**frame, "link_key": "00"}, "range:link_key")]
    for (line, error), got in zip(cases, mefctl(build, "decode", [line for line, _ in cases])):
        count.check(f"decode {str(line)[:60]} wants {error}", got, {"ok": False, "error": error})


def dialogue(count, build):
    """An answer comes before the next line is asked for, and no argument is ever a key."""
    with subprocess.Popen([build / "mef-plugin/mefctl/mefctl", "zigbee", "link-key"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as p:
        for v in VECTORS["install_codes"]:
            p.stdin.write(json.dumps({"install_code": v["install_code"]}).encode() + b"\n")
            p.stdin.flush()
            count.check("dialogue " + v["name"], json.loads(p.stdout.readline()).get("link_key"), v["link_key"])
        p.stdin.close()
    count.check("dialogue exit status", p.returncode, 0)
    for args, status in (([], 2), (["zigbee"], 2), (["zigbee", "no"], 2), (["zigbee", "forge", "x"], 2), (["--help"], 0),
                         (["--version"], 0), (["zigbee", "--help"], 0), (["no"], 2)):
        run = subprocess.run([build / "mef-plugin/mefctl/mefctl", *args], input="", capture_output=True, text=True)
        count.check(f"mefctl {' '.join(args)}", run.returncode, status)


def unit(count, build):
    for program, name, file in (("test_zigbee", "ZIGBEE_VECTORS", "zigbee.json"),
                                ("test_vault_derive", "ONEM2M_VECTORS", "onem2m.json")):
        run = subprocess.run([build / "tests/unit" / program], capture_output=True, text=True,
                             env={**os.environ, name: str(HERE / file)})
        count.check(f"{program} with {file}\n" + (run.stderr if run.returncode else ""), run.returncode, 0)


def derivations(count, build):
    onem2m.check(count)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    count, build = Count(), pathlib.Path(sys.argv[1]).resolve()
    for part in (frames, frames_invalid, install_codes, labels, bad_lines, dialogue, unit, derivations):
        part(count, build)
    print(f"{count.passed} passed, {count.failed} failed")
    sys.exit(1 if count.failed or not count.passed else 0)


if __name__ == "__main__":
    main()
