#!/usr/bin/python3
"""The main job as a story: install codes registered by REST lead to keys that only each device, the Enrolment Gateway and
the authorised AE hold; the AE opens the devices' own frames and commands one. A device that nobody registered is refused,
one that is revoked is locked out, and the operator is told why. What is left behind is about the first device."""
import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stack import AE_ID, ADMIN, LINK_KEY, NETWORK_KEY, StackError, Stack, install_code, keys_by_tshark, random_eui64, write_private

OK, FAILED, USAGE, SETUP = range(4)
ON_OFF, TEMPERATURE, HUMIDITY = 0x0006, 0x0402, 0x0405
GUEST_ID = "//example.org/in-cse/Cguest"  # for whoever tries --serve: a member of the application, not registered yet
FILES = ("enrolment.pcap", "ae-key.hex", "reading.json", "transcript.log", "endpoints.json")


class Story:
    """Prints what happens with times, and keeps the transcript."""

    def __init__(self, path: Path):
        self.start, self.file = time.monotonic(), open(path, "w", buffering=1)

    def tell(self, who: str, text: str):
        self.line(f"{time.monotonic() - self.start:6.2f} s  {who:<9} {text}")

    def line(self, text: str = ""):
        print(text, flush=True)
        self.file.write(text + "\n")


class DemoFailed(Exception):
    pass


def eui64(text: str) -> str:
    digits = re.sub(r"[:-]", "", text).lower()
    if not re.fullmatch(r"[0-9a-f]{16}", digits):
        raise argparse.ArgumentTypeError("want 16 hex digits")
    return digits


def code(text: str) -> str:
    digits = re.sub(r"[\s-]", "", text)
    if text != "-" and not (re.fullmatch(r"[0-9A-Fa-f]+", digits) and len(digits) in (16, 20, 28, 36)):
        raise argparse.ArgumentTypeError("want code and CRC, 16, 20, 28 or 36 hex digits, or - for standard input")
    return text if text == "-" else digits.upper()


def application(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
        raise argparse.ArgumentTypeError("want letters, digits, . _ -")
    return text


def arguments():
    p = argparse.ArgumentParser(prog="scripts/demo", description=__doc__, allow_abbrev=False,
                                epilog="Exit status: 0 the AE opened the device's own frame; 1 failed; 2 usage; 3 set-up failed.")
    p.add_argument("--eui64", type=eui64, metavar="HEX16", help="the device's (random)")
    p.add_argument("--install-code", type=code, metavar="HEX|-", help="code and CRC as printed (random); - reads standard input")
    p.add_argument("--application", type=application, default="demo", metavar="NAME")
    p.add_argument("--out", type=Path, default=Path("demo-out"), metavar="DIR", help="results (./demo-out); overwritten")
    p.add_argument("--serve", action="store_true", help="leave everything running until Ctrl-C")
    p.add_argument("--build", type=Path, default=Path("build/demo"), help=argparse.SUPPRESS)
    p.add_argument("--usage-only", action="store_true", help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.install_code == "-" and not args.usage_only:
        try:
            args.install_code = code(sys.stdin.readline().strip())
        except argparse.ArgumentTypeError as e:
            p.error(f"argument --install-code: {e}")
    return args


class Demo:
    def __init__(self, args, work: Path, story: Story):
        self.args, self.story, self.tell = args, story, story.tell
        self.eui, self.code = args.eui64 or random_eui64(), args.install_code or install_code()
        self.sleepy, self.sleepy_code = random_eui64(), install_code()
        self.stranger_eui = f"{int(self.sleepy, 16) ^ 0x40:016x}"  # of which somebody mistyped a digit
        self.stack = Stack(args.build.resolve(), work)
        self.key = None

    def check(self, good: bool, complaint: str):
        if not good:
            raise DemoFailed(complaint)

    def bring_up(self):
        s = self.stack
        s.start({("eg", "allow-short-install-codes"): "true"})
        self.tell("system", f"mefd on {s.mef_uri} and https port {s.https}; ipe-nid; zbgwd {s.gateway_eui} on PAN {s.pan:04x}")
        self.sniffer = s.capture(self.args.out / "enrolment.pcap")

    def operator(self):
        s, name = self.stack, self.args.application
        s.must("PUT", f"/v1/applications/{name}", {"keyScope": "device", "members": [AE_ID, GUEST_ID]})
        s.register_code(self.eui, self.code, application=name)
        self.tell("operator", f"registers by REST: device {self.eui} of application '{name}', its install code, target {AE_ID}")
        label = f"Z:{self.sleepy}$I:{self.sleepy_code}%M:1246".upper()
        s.must("POST", "/v1/install-codes", {"label": label, "application": name, "targets": [AE_ID]})
        self.tell("operator", f"registers a sleepy device by the text of its label: {self.sleepy}")

    def device(self):
        s = self.stack
        self.joiner = s.join(self.eui, self.code, "--report", "0x0402/0/s16/2150/1", "--report", "0x0405/0/u16/4025/5")
        found = self.joiner.wait_event(8, event="associated")
        self.check(found is not None, "the device did not associate:\n" + self.joiner.tail())
        self.tell("device", f"associates with {found['parent']} as {found['short']}")
        joined = self.joiner.wait_event(8, event="joined")
        self.check(joined is not None, "the device accepted no Transport-Key:\n" + self.joiner.tail())
        self.tell("device", f"accepts the Transport-Key that the EG forged {1000 * (joined['t'] - found['t']):.0f} ms after associating")
        verified = self.joiner.wait_event(8, event="link-key")
        self.check(verified is not None, "the device got no link key of its own:\n" + self.joiner.tail())
        self.tell("device", f"has exchanged a link key of its own {1000 * (verified['t'] - joined['t']):.0f} ms later")
        s.wait_state(self.eui, "enrolled")
        self.tell("EG", "has seen the device's proofs of both keys: enrolled; the install code is spent")
        self.sleeper = s.join(self.sleepy, self.sleepy_code, "--sleepy", "--report", "0x0405/0/u16/5510/0.5")
        self.unknown = self.knock(self.stranger_eui)

    def sleepy_device(self):
        """It was switched on a while ago, and takes its time: it hears only what it polls for."""
        s, joiner = self.stack, self.sleeper
        self.check(joiner.wait_event(10, event="link-key") is not None, "the sleepy device did not enrol:\n" + joiner.tail())
        device = s.wait_state(self.sleepy, "enrolled")
        self.tell("device 2", f"{self.sleepy} sleeps and polls, and has joined by polling as {device['nwkAddress']:04x}")
        follow = s.follow(self.sleepy)
        reading = follow.wait_event(8, cluster=HUMIDITY)
        self.check(reading is not None and reading["value"] == 55.1, "the AE opened no frame of it:\n" + follow.tail())
        self.tell("AE", f"opens its frame, too, under a key of its own: {reading['value']} {reading['unit']}")
        follow.stop()

    def knock(self, eui: str):
        """A device that will be refused at its association begins to ask."""
        return self.stack.join(eui, self.sleepy_code, "--attempts", "1")

    def refused(self, eui: str, joiner):
        refusal = joiner.wait_event(8, event="associate-refused")
        self.check(refusal is not None, f"{eui} was not refused:\n" + joiner.tail())
        joiner.stop()

    def stranger(self):
        s, eui = self.stack, self.stranger_eui
        self.refused(eui, self.unknown)
        self.tell("stranger", f"{eui} wants to join, and is refused: no key leaves")
        status, problem = s.rest("GET", f"/v1/devices/{eui}")
        detail = problem.get("detail", "")
        self.check(status == 404 and problem.get("code") == "unknown-device" and self.sleepy in detail, f"it is not explained: {problem}")
        self.tell("operator", f"asks why: \"{detail}\"")

    def revoked(self):
        s, path = self.stack, f"/v1/devices/{self.sleepy}"
        s.must("POST", f"{path}/revoke")
        self.tell("operator", f"revokes {self.sleepy}: its key is withdrawn at once")
        status, _, err = s.mefkey("get", self.sleepy, "--out", s.folder / "withdrawn.hex")
        self.check(status != 0, "the AE still gets its key")
        self.tell("AE", f"gets its key no more: {err.splitlines()[-1] if err else status}")
        self.sleeper.stop()
        self.refused(self.sleepy, self.knock(self.sleepy))
        device = s.device(self.sleepy)
        self.check((device["state"], device["reason"], device["lastFailure"]["reason"]) == ("revoked", "revoked", "device-revoked"),
                   f"it is not explained: {device}")
        self.tell("device 2", "is reset and comes back with the right install code: refused")
        self.tell("operator", f"asks why: \"{device['explanation']}\"")

    def ae(self, *args) -> str:
        status, out, err = self.stack.mefkey(*args)
        self.check(status == 0, f"mefkey {args[0]}: {err or status}")
        return out

    def application_entity(self):
        out = self.args.out
        registration = json.loads(self.ae("register", "--admin-fqdn", ADMIN))["mefClientReg"]
        self.tell("AE", f"registers with the MEF over CoAPs: {registration}")
        key_id = self.ae("find", self.eui)
        self.tell("AE", f"finds the device's key: RelativeKeyID {key_id}")
        self.ae("get", self.eui, "--out", out / "ae-key.hex")
        self.key = (out / "ae-key.hex").read_text().strip()
        self.tell("AE", "retrieves it as an ESData key (SUID 24) into ae-key.hex")
        follow = self.stack.follow(self.eui)
        reading = follow.wait_event(8, cluster=TEMPERATURE)
        self.check(reading is not None, "the AE opened no frame:\n" + follow.tail())
        (out / "reading.json").write_text(json.dumps(reading, ensure_ascii=False) + "\n")
        self.tell("AE", f"opens the device's frame: {reading['value']} {reading['unit']} (cluster 0x{reading['cluster']:04x})")
        self.check(reading["value"] == 21.5 and reading["eui64"] == self.eui, "that is not what the device measured")
        self.frame = bytes.fromhex(reading["nwk_frame"])
        self.command(follow)
        follow.stop()

    def command(self, follow):
        self.ae("send", self.eui, "--cluster", "0x0006", "--command", "1")
        self.check(self.joiner.wait_event(8, event="on-off", on=True) is not None, "the device did not obey:\n" + self.joiner.tail())
        self.tell("device", "opens the command that the AE sealed: on")
        answer = follow.wait_event(8, cluster=ON_OFF)
        self.check(answer is not None and answer["value"] is True, "the AE did not see the device switch on")
        self.tell("AE", "opens the device's report: on")

    def verify(self):
        s, pcap = self.stack, self.args.out / "enrolment.pcap"
        home = s.folder / "tshark-home"
        with ThreadPoolExecutor() as both:
            read = [both.submit(keys_by_tshark, pcap, s.link_key(self.code), home, kind) for kind in (NETWORK_KEY, LINK_KEY)]
        keys, link_keys = (r.result() for r in read)
        self.check(keys == {self.key}, f"tshark finds {len(keys)} keys in the capture, given the install code's link key; "
                                       "not the one that the AE got")
        self.check(len(link_keys) == 1 and link_keys != keys and s.link_key(self.code) not in link_keys,
                   f"tshark finds {len(link_keys)} new link keys")
        self.check(self.frame in pcap.read_bytes(), "the frame that the AE opened is not in the capture")
        self.tell("check", "tshark, given only the install code's link key, finds the same key in enrolment.pcap, and the new link key")
        logs = b"".join(p.read_bytes() for p in s.logs.iterdir()).lower()
        self.check(self.key.encode() not in logs and bytes.fromhex(self.key) not in logs, "the key is in a log")
        self.tell("check", "the frame is in the capture; no log holds the key")

    def serve(self):
        s = self.stack
        guest = s.must("POST", "/v1/credentials", {"for": GUEST_ID, "kind": "psk"})
        endpoints = {
            "coaps": s.mef_uri, "https": s.https_uri, "ca": str(s.ca), "token": s.token(), "base": "mef",
            "ae": {"id": GUEST_ID, "kpmId": guest["kpmId"], "kpm": guest["kpm"]},
            "gateway": {"eui64": s.gateway_eui, "kpmId": s.gw_credential["kpmId"], "kpm": s.gw_credential["kpm"]},
            "eui64": self.eui, "egp": s.egp, "medium": {"group": s.medium.split(":")[0], "port": s.medium_port, "channel": s.channel},
            "pids": {p.name: p.pid for p in s.processes if p.running()},
        }
        write_private(self.args.out / "endpoints.json.new", json.dumps(endpoints, indent=1) + "\n").rename(self.args.out / "endpoints.json")
        self.story.line()
        self.tell("serve", f"all goes on until Ctrl-C; {self.args.out / 'endpoints.json'} says where. Try:")
        self.story.line(f"  curl --cacert {s.ca} -H @{s.token_header} {s.https_uri}/v1/devices/{self.eui}")
        self.story.line("  " + " ".join(s.mefkey_argv("open", self.eui, "--follow", credential=guest, ae_id=GUEST_ID)))
        while True:
            time.sleep(0.5)
            dead = [p.name for p in (s.mefd, s.ipe, s.gateway) if not p.running()]
            self.check(not dead, f"{', '.join(dead)} ended")

    def run(self) -> int:
        code_ = SETUP
        try:
            self.bring_up()
            code_ = FAILED
            self.operator()
            self.device()
            self.application_entity()
            self.sleepy_device()
            self.stranger()
            self.revoked()
            self.verify()
            self.tell("done", f"results in {self.args.out}")
            code_ = OK
            if self.args.serve:
                self.serve()
        except KeyboardInterrupt:
            self.tell("stop", "interrupted")
            return OK if code_ == OK else FAILED
        except (DemoFailed, StackError, OSError, ValueError) as e:
            self.tell("FAILED", str(e))
            return code_ or FAILED
        return code_


def interrupt(*_):
    raise KeyboardInterrupt


def main() -> int:
    args = arguments()
    if args.usage_only:
        return OK
    for sig in (signal.SIGINT, signal.SIGTERM):  # also where a shell started us in the background, with SIGINT ignored
        signal.signal(sig, interrupt)
    work = None
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (args.out / name).unlink(missing_ok=True)
        work = Path(tempfile.mkdtemp(prefix="mef-demo-"))
        story = Story(args.out / "transcript.log")
    except OSError as e:
        print(f"scripts/demo: {e}", file=sys.stderr)
        return SETUP
    demo = Demo(args, work, story)
    status = FAILED
    try:
        status = demo.run()
    finally:
        for sig in (signal.SIGINT, signal.SIGTERM):
            signal.signal(sig, signal.SIG_IGN)
        try:
            demo.stack.stop()
        except StackError as e:
            story.tell("FAILED", str(e))
            status = status or FAILED
        if status not in (OK, USAGE):
            shutil.copytree(demo.stack.logs, args.out / "logs", dirs_exist_ok=True)
            story.line(f"the programs' logs are in {args.out / 'logs'}")
        shutil.rmtree(work, ignore_errors=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
