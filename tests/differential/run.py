#!/usr/bin/env python3
"""`mefctl zigbee` against code by others, on random frames:
  (a) python3-cryptography and python3-zigpy: every frame byte for byte, every install code, wrong keys refused;
  (b) tshark (link types 195 and 230) and npm's zigbee-on-host: each opens every frame and reads the same fields.
  (c) labels: what was printed comes out; npm's zigbee-herdsman and the shapes that ZHA takes read the same.
Prints the seed and lines a second, then 'N passed, N failed'.

usage: run.py BUILD-DIR
environment: MEF_TIER=short|long (short: 2,000 cases and 100 frames of each kind; long: 10,000 and 1,000),
  ZIGBEE_CASES, ZIGBEE_FRAMES (other counts), ZIGBEE_RATE (lines a second that forge must reach; lower it for a build
  with sanitizers), MEF_SEED, MEF_NPM (folder that holds node_modules)
"""
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time

import labels
import reference

HERE = pathlib.Path(__file__).resolve().parent
LONG = os.environ.get("MEF_TIER") == "long"
CASES = int(os.environ.get("ZIGBEE_CASES", 10000 if LONG else 2000))
FRAMES = int(os.environ.get("ZIGBEE_FRAMES", 1000 if LONG else 100))
RATE = int(os.environ.get("ZIGBEE_RATE", 20000))
KEYS_PER_CAPTURE = 10


class Count:
    passed = failed = 0

    def check(self, name, got, want, context=None):
        if got == want:
            self.passed += 1
            return
        self.failed += 1
        if isinstance(got, dict) and isinstance(want, dict):
            got, want = ({k: v for k, v in a.items() if b.get(k) != v} for a, b in ((got, want), (want, got)))
        if self.failed <= 10:
            print(f"FAILED {name}\n  got  {got}\n  want {want}\n  from {context}")


def mefctl(build, verb, lines):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    run = subprocess.run([build / "mef-plugin/mefctl/mefctl", "zigbee", verb], input=text, capture_output=True, text=True,
                         check=True)
    answers = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(answers) == len(lines), f"{verb}: {len(lines)} lines in, {len(answers)} out"
    return answers


def draw(rng, kind, number, keys=(None,)):
    """[(inputs, the reference's answer)]; keys: (network key, link key) pairs to draw from, None for a new pair each."""
    out = []
    for n in range(number):
        pair = keys[n % len(keys)] or (None, None)
        inputs = reference.random_inputs(rng, kind, *pair)
        out.append((inputs, reference.forge(kind, inputs)))
    return out


# --- (a) ---
def frames_by_python(count, build, rng):
    cases = []
    for n in range(CASES):
        kind = reference.KINDS[n % len(reference.KINDS)]
        cases += [(kind, *draw(rng, kind, 1)[0])]
    answers = mefctl(build, "forge", [{"kind": k, "inputs": i} for k, i, _ in cases])
    for (kind, inputs, want), got in zip(cases, answers):
        count.check("forge " + kind, got, {n: want[n] for n in ("nwk_frame", "aps_frame")}, inputs)
    lines = [{"nwk_frame": w["nwk_frame"], "link_key": i["link_key"], "network_key": i["network_key"]} for _, i, w in cases]
    for (kind, inputs, _), got in zip(cases, mefctl(build, "decode", lines)):
        back = {k: v for k, v in got.items() if k in inputs and k not in ("device_eui64_text", "device_short", "tunnel")}
        if not inputs["aps_key_id"] and inputs["aps_key_id"] != 0:
            back.pop("aps_frame_counter", None)
        count.check("decode " + kind, (got.get("kind"), back), (kind, {k: inputs[k] for k in back}), inputs)
    wrong = [{**line, "link_key": rng.randbytes(16).hex(), "network_key": rng.randbytes(16).hex()} for line in lines]
    for (kind, inputs, _), got in zip(cases, mefctl(build, "decode", wrong)):
        count.check("wrong key " + kind, got, {"ok": False, "error": "bad-mic"}, inputs)


def install_codes_by_zigpy(count, build, rng):
    from zigpy.util import convert_install_code
    codes = []
    for _ in range(CASES):
        code = bytearray(reference.install_code(rng))
        if rng.random() < 0.2:
            code[rng.randrange(len(code))] ^= 1 << rng.randrange(8)
        codes.append(bytes(code))
    for code, got in zip(codes, mefctl(build, "link-key", [{"install_code": c.hex()} for c in codes])):
        theirs = convert_install_code(code)
        want = {"error": "bad-crc"}
        if theirs is not None:
            key = theirs.serialize()
            want = {"link_key": key.hex(), "key_transport_key": reference.keyed_hash(key, b"\0").hex(),
                    "key_load_key": reference.keyed_hash(key, b"\2").hex(),
                    "verify_key_hash": reference.keyed_hash(key, b"\3").hex()}
        count.check("install code", got, want, code.hex())


# --- (b) ---
def fcs(frame):
    """CRC-16/KERMIT, as 802.15.4 has it."""
    register = 0
    for byte in frame:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ 0x8408 * (register & 1)
    return struct.pack("<H", register)


def write_pcap(path, link_type, frames):
    with open(path, "wb") as f:
        f.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link_type))
        for n, frame in enumerate(frames):
            data = frame + (fcs(frame) if link_type == 195 else b"")
            f.write(struct.pack("<IIII", 1 + n, 0, len(data), len(data)) + data)


def mac(inputs, nwk_frame):
    frame = bytes.fromhex(nwk_frame)
    dst, src = struct.unpack_from("<HH", frame, 2)
    dst = 0xFFFF if dst >= 0xFFF8 else dst
    control = 0x8841 if dst == 0xFFFF else 0x8861
    return struct.pack("<HBHHH", control, inputs["mac_seq"], inputs["pan_id"], dst, src) + frame


def colons(text):
    return ":".join(text[i:i + 2] for i in range(0, len(text), 2))


# What tshark is asked for; of a repeated field (two layers' counters, a tunnel's two commands) all occurrences come.
FIELDS = ("zbee_nwk.seqno", "zbee_nwk.radius", "zbee_nwk.src", "zbee_nwk.dst", "zbee_aps.counter", "zbee.sec.counter",
          "zbee_aps.cmd.id", "zbee_aps.cmd.key", "zbee_aps.cmd.seqno", "zbee_aps.cmd.src", "zbee_aps.cmd.dst",
          "zbee_aps.cmd.partner", "zbee_aps.cmd.init_flag", "zbee_aps.cmd.device", "zbee_aps.cmd.addr",
          "zbee_aps.cmd.update_status", "zbee_aps.cmd.status", "zbee_aps.cmd.key_hash", "zbee_aps.cmd.key_type",
          "zbee_aps.cluster", "zbee_aps.src", "zbee_aps.dst", "zbee_aps.profile", "data.data", "zbee_sec.encrypted_payload",
          "wpan.fcs_ok")
COMMANDS = {"request-key": 8, "switch-key": 9, "update-device": 6, "remove-device": 7, "verify-key": 15, "confirm-key": 16}


def expected_of_tshark(kind, i, link_type):
    """{field: values}; a field that is not here is not compared."""
    device, gateway = colons(i["device_eui64_text"]), colons(i["gateway_eui64_text"])
    counters = ([i["nwk_frame_counter"]] if i["network_key"] else []) + \
               ([i["aps_frame_counter"]] if i["aps_key_id"] is not None else [])
    want = {"zbee_nwk.seqno": [i["nwk_seq"]], "zbee_nwk.radius": [i["nwk_radius"]], "zbee.sec.counter": counters,
            "zbee_aps.counter": [i["aps_counter"]], "zbee_aps.cmd.id": [COMMANDS.get(kind, 5)],
            "zbee_sec.encrypted_payload": []}
    if link_type == 195:
        want["wpan.fcs_ok"] = [1]
    if kind == "tunnel":
        want["zbee_aps.counter"] = [i["tunnel"]["aps_counter"], i["aps_counter"]]
        want["zbee_aps.cmd.id"] = [14, 5]
        want["zbee_nwk.dst"] = [i["tunnel"]["parent_short"]]
    if kind.startswith("transport") or kind == "tunnel":
        want["zbee_aps.cmd.key"] = [i["transported_key"]]
    if kind.startswith("transport-key-nwk") or kind in ("tunnel", "switch-key"):
        want["zbee_aps.cmd.seqno"] = [i["key_seq"]]
    if kind in ("transport-key-nwk", "transport-key-nwk-update", "transport-key-tclk", "tunnel"):
        want["zbee_aps.cmd.src"] = [gateway]
        want["zbee_aps.cmd.dst"] = [device, device] if kind == "tunnel" else [device]
    if kind == "transport-key-app":
        want["zbee_aps.cmd.partner"] = [colons(i["partner_eui64_text"])]
        want["zbee_aps.cmd.init_flag"] = [i["initiator"]]
    if kind == "update-device":
        want["zbee_aps.cmd.device"] = [colons(i["updated_eui64_text"])]
        want["zbee_aps.cmd.addr"] = [i["updated_short"]]
        want["zbee_aps.cmd.update_status"] = [i["status"]]
    if kind == "remove-device":
        want["zbee_aps.cmd.device"] = [colons(i["target_eui64_text"])]
    if kind == "verify-key":
        want["zbee_aps.cmd.src"] = [device]
        want["zbee_aps.cmd.key_hash"] = [reference.keyed_hash(bytes.fromhex(i["link_key"]), b"\3").hex()]
    if kind == "confirm-key":
        want["zbee_aps.cmd.dst"] = [device]
        want["zbee_aps.cmd.status"] = [i["status"]]
    if kind == "data":
        del want["zbee_aps.cmd.id"]
        want |= {"zbee_aps.cluster": [i["cluster"]], "zbee_aps.profile": [i["profile"]], "data.data": [i["aps_payload"]],
                 "zbee_aps.src": [i["src_endpoint"]], "zbee_aps.dst": [i["dst_endpoint"]]}
    return want


def value(text):
    """A field of tshark's as a number where it is one."""
    if text in ("True", "False"):
        return int(text == "True")
    try:
        return int(text, 0) if text.startswith("0x") or len(text) < 11 else text
    except ValueError:
        return text


HEX = ("zbee_aps.cmd.key", "zbee_aps.cmd.key_hash", "data.data")


def tshark(pcap, keys, home):
    command = ["tshark", "-r", pcap, "-o", 'wpan.fcs_format:ITU-T CRC-16', "-T", "fields", "-E", "occurrence=a", "-E",
               "aggregator=;", "--disable-protocol", "zbee_zcl", "--disable-protocol", "zbee_zdp"]
    for pair in keys:
        for key in pair:
            command += ["-o", f'uat:zigbee_pc_keys:"{colons(key)}","Normal",""']
    for field in FIELDS:
        command += ["-e", field]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HOME": home, "XDG_CONFIG_HOME": home})
    if run.returncode != 0:
        raise SystemExit("tshark: " + run.stderr)
    for line in run.stdout.splitlines():
        texts = dict(zip(FIELDS, line.split("\t")))
        texts["data.data"] = texts["data.data"].split(";")[-1]  # it is shown twice
        yield {f: [t.replace(":", "") if f in HEX else value(t) for t in text.split(";")] if text else []
               for f, text in texts.items()}


def frames_by_tshark(count, kind, keys, drawn, answers, work):
    for link_type in (195, 230):
        pcap = work / f"{kind}-{link_type}.pcap"
        write_pcap(pcap, link_type, [mac(i, a["nwk_frame"]) for (i, _), a in zip(drawn, answers)])
        read = list(tshark(pcap, keys, str(work / "home")))
        count.check(f"tshark {kind}: number of frames", len(read), len(drawn))
        for (inputs, _), got in zip(drawn, read):
            want = expected_of_tshark(kind, inputs, link_type)
            count.check(f"tshark {link_type} {kind}", {f: got[f] for f in want}, want, inputs)


def frames_by_zigbee_on_host(count, kind, drawn, answers, npm):
    lines = "".join(json.dumps({"nwk_frame": a["nwk_frame"], "link_key": i["link_key"], "network_key": i["network_key"]})
                    + "\n" for (i, _), a in zip(drawn, answers))
    run = subprocess.run(["node", HERE / "zoh.js", npm], input=lines, capture_output=True, text=True, check=True)
    read = [json.loads(line) for line in run.stdout.splitlines()]
    count.check(f"zigbee-on-host {kind}: number of frames", len(read), len(drawn))
    for (inputs, want), got in zip(drawn, read):
        names = [n for n in got if n in inputs]
        expect = {n: inputs[n] for n in names} | {"plaintext": want["plaintext"]}
        count.check("zigbee-on-host " + kind, {n: got.get(n) for n in expect}, expect, (inputs, got))


def npm_folder(build):
    """Where zigbee-on-host and zigbee-herdsman are; installed into the build folder when nobody has yet."""
    for folder in filter(None, (os.environ.get("MEF_NPM"), HERE.parent.parent / "build/tools/differential", build / "npm")):
        if all((pathlib.Path(folder) / "node_modules" / name).is_dir() for name in ("zigbee-on-host", "zigbee-herdsman")):
            return pathlib.Path(folder).resolve()
    folder = build / "npm"
    folder.mkdir(exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, folder)
    subprocess.run(["npm", "ci", "--silent", "--ignore-scripts"], cwd=folder, check=True)
    return folder


def frames_by_others(count, build, rng):
    npm = npm_folder(build)
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        (work / "home").mkdir()
        for kind in reference.KINDS:
            keys = [(rng.randbytes(16).hex(), rng.randbytes(16).hex()) for _ in range(KEYS_PER_CAPTURE)]
            drawn = draw(rng, kind, FRAMES, keys)
            answers = mefctl(build, "forge", [{"kind": kind, "inputs": i} for i, _ in drawn])
            for (inputs, _), got in zip(drawn, answers):
                count.check("forge " + kind, "nwk_frame" in got, True, (inputs, got))
            if any("nwk_frame" not in a for a in answers):
                continue
            frames_by_tshark(count, kind, keys, drawn, answers, work)
            frames_by_zigbee_on_host(count, kind, drawn, answers, npm)
            print(f"{kind}: {count.passed} passed, {count.failed} failed so far", flush=True)


def bench(build):
    """Lines a second, the best of three: others may use the machine."""
    vectors = json.loads((HERE.parent / "vectors/zigbee.json").read_text())["frames"]
    lines = [json.dumps({"kind": v["kind"], "inputs": v["inputs"]}) + "\n" for v in vectors] * 10000
    with tempfile.TemporaryFile() as file:
        file.write("".join(lines).encode())
        best = 0
        for _ in range(3):
            file.seek(0)
            start = time.monotonic()
            subprocess.run([build / "mef-plugin/mefctl/mefctl", "zigbee", "forge"], stdin=file, stdout=subprocess.DEVNULL,
                           check=True)
            best = max(best, len(lines) / (time.monotonic() - start))
        return best


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    seed = int(os.environ.get("MEF_SEED", time.time_ns() % 2 ** 32))
    print(f"seed {seed}, {CASES} cases, {FRAMES} frames of each of {len(reference.KINDS)} kinds", flush=True)
    count, build, rng = Count(), pathlib.Path(sys.argv[1]).resolve(), random.Random(seed)
    frames_by_python(count, build, rng)
    install_codes_by_zigpy(count, build, rng)
    print(f"python: {count.passed} passed, {count.failed} failed", flush=True)
    labels.run(count, lambda lines: mefctl(build, "label", lines), npm_folder(build), rng, CASES)
    print(f"labels: {count.passed} passed, {count.failed} failed so far", flush=True)
    frames_by_others(count, build, rng)
    rate = bench(build)
    print(f"forge: {rate:.0f} lines a second (wanted: {RATE})")
    count.check("forge rate", rate >= RATE, True, rate)
    print(f"{count.passed} passed, {count.failed} failed")
    sys.exit(1 if count.failed or not count.passed else 0)


if __name__ == "__main__":
    main()
