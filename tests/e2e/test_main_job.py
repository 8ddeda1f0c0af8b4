"""The main job: the demonstration for every length of install code, and devices of several kinds."""
import contextlib
import json
import os
import shlex
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

import common
from stack import ROOT, SIM, Stack, install_code, keys_by_tshark, random_eui64

sys.path.insert(0, str(SIM))
import zbcodec  # noqa: E402
from zbcodec import AESCCM  # noqa: E402

FOLDER = tempfile.gettempdir()


class Demonstration(unittest.TestCase):
    def run_demo(self, *args, stdin: str = "") -> tuple[int, Path, str]:
        out = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="mef-demo-out-", dir=FOLDER))) / "out"
        done = subprocess.run(["/usr/bin/python3", ROOT / "tests/e2e/demo.py", "--build", common.build(), "--out", out, *args], input=stdin,
                              capture_output=True, text=True, timeout=60)
        return done.returncode, out, done.stdout + done.stderr

    def test_all_code_lengths(self):
        for length in (6, 8, 12, 16):
            with self.subTest(length=length):
                eui, code = random_eui64(), install_code(length)
                began, waited = time.monotonic(), common.stalled()
                status, out, text = self.run_demo("--eui64", eui, "--install-code", code)
                took, waited = time.monotonic() - began, common.stalled() - waited
                self.assertEqual(status, 0, text)
                self.assertLess(took - waited, 30, f"{took:.1f} s, in {waited:.1f} s of which something waited for a processor")
                for scene in ("sleeps and polls", "the nearest registered EUI-64 is", "revokes", "right install code: refused"):
                    self.assertIn(scene, (out / "transcript.log").read_text())
                key = (out / "ae-key.hex").read_text()
                self.assertRegex(key, r"\A[0-9a-f]{32}\Z")
                self.assertEqual((out / "ae-key.hex").stat().st_mode & 0o777, 0o600)
                link_key = Stack(common.build(), out / "tool").link_key(code)
                self.assertEqual(keys_by_tshark(out / "enrolment.pcap", link_key, out / "home"), {key})
                reading = json.loads((out / "reading.json").read_text())
                self.assertEqual(set(reading), {"eui64", "cluster", "attribute", "value", "unit", "nwk_frame"})
                self.assertEqual((reading["eui64"], reading["value"], reading["unit"]), (eui, 21.5, "°C"))
                self.assertIn(bytes.fromhex(reading["nwk_frame"]), (out / "enrolment.pcap").read_bytes())
                self.assertNotIn(code.lower(), (out / "transcript.log").read_text().lower())

    def test_code_from_standard_input(self):
        code = install_code()
        status, _, text = self.run_demo("--install-code", "-", "--application", "from-stdin", stdin=code[:8] + "-" + code[8:] + "\n")
        self.assertEqual(status, 0, text)

    def test_usage(self):
        for args in (("--eui64", "12"), ("--install-code", "zz"), ("--install-code", "00"), ("--nonsense",)):
            self.assertEqual(self.run_demo(*args)[0], 2, args)

    def test_bad_crc_fails(self):
        status, out, text = self.run_demo("--install-code", "83FED3407A939723A5C639B26916D505C3B6")
        self.assertEqual(status, 1, text)
        self.assertIn("bad-crc", text)

    def test_nothing_is_left_behind(self):
        with tempfile.TemporaryDirectory(prefix="mef-e2e-tmp-") as tmp:
            with mock.patch.dict(os.environ, TMPDIR=tmp):
                status, _, text = self.run_demo()
            self.assertEqual(status, 0, text)
            self.assertEqual(list(Path(tmp).iterdir()), [])
            for process in Path("/proc").iterdir():
                with contextlib.suppress(OSError):
                    self.assertNotIn(tmp.encode(), (process / "cmdline").read_bytes())


    def test_serve(self):
        out = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="mef-demo-out-", dir=FOLDER))) / "out"
        with subprocess.Popen(["/usr/bin/python3", ROOT / "tests/e2e/demo.py", "--build", common.build(), "--out", out, "--serve"],
                              stdout=subprocess.PIPE, text=True) as demo:
            try:
                lines = []
                while not (lines and "mefkey" in lines[-1] and "--follow" in lines[-1]):
                    lines.append(demo.stdout.readline())
                    self.assertNotEqual(lines[-1], "", "".join(lines))
                endpoints = json.loads((out / "endpoints.json").read_text())
                self.assertEqual((out / "endpoints.json").stat().st_mode & 0o777, 0o600)
                self.assertEqual(set(endpoints), {"coaps", "https", "ca", "token", "base", "ae", "gateway", "eui64", "egp", "medium",
                                                  "pids"})
                curl = subprocess.run(shlex.split(lines[-2]), capture_output=True, text=True, timeout=20)
                self.assertEqual(json.loads(curl.stdout)["state"], "enrolled", curl.stderr)
                mefkey = subprocess.run(shlex.split(lines[-1]) + ["--count", "1"], capture_output=True, text=True, timeout=20)
                self.assertEqual(json.loads(mefkey.stdout)["eui64"], endpoints["eui64"], mefkey.stderr)
            finally:
                demo.send_signal(signal.SIGINT)
            self.assertEqual(demo.wait(15), 0)
        for pid in endpoints["pids"].values():
            self.assertFalse(Path(f"/proc/{pid}").exists())


class Devices(common.DevicesTest):
    def test_awake_end_device(self):
        eui, _, joiner = self.enrol()
        self.command(eui, joiner)

    def test_sleepy_device_that_takes_only_the_plain_form(self):
        eui, _, joiner = self.enrol("--sleepy", "--picky")
        self.command(eui, joiner)

    def test_router(self):
        eui, _, joiner = self.enrol("--router", "--picky")
        self.command(eui, joiner)

    def rejoined(self, how: str, *options):
        """The AE that follows keeps reading, whatever the key is."""
        s, eui, code = self.stack, random_eui64(), install_code()
        s.register_code(eui, code)
        joiner = s.join(eui, code, "--report", "0x0402/0/s16/-512/0.5", "--rejoin", how, "--rejoin-after", "4", *options)
        self.addCleanup(joiner.stop)
        s.wait_state(eui, "enrolled")
        before = s.mefkey("find", eui)[1]
        follow = s.follow(eui)
        self.addCleanup(follow.stop)
        self.assertIsNotNone(joiner.wait_event(15, event="rejoined"), joiner.tail())
        if how == "trust-centre":
            self.assertEqual(joiner.wait_event(5, event="joined")["key_seq"], 1, joiner.tail())
        self.assertIsNotNone(joiner.wait_event(5, event="reported"), joiner.tail())
        self.assertIsNotNone(follow.wait_event(8, cluster=0x0402), follow.tail())
        self.assertEqual(s.mefkey("find", eui)[1] == before, how == "secured")
        self.assertEqual(s.device(eui)["state"], "enrolled")
        self.command(eui, joiner)

    def test_secured_rejoin(self):
        self.rejoined("secured")

    def test_a_device_that_lost_its_network_key(self):
        self.rejoined("trust-centre")

    def test_a_sleepy_device_that_lost_its_network_key(self):
        self.rejoined("trust-centre", "--sleepy")

    def test_a_device_older_than_r21(self):
        self.enrol("--revision", "20")

    def test_each_device_has_its_own_key(self):
        keys = {self.enrol()[1] for _ in range(3)}
        self.assertEqual(len(keys), 3)

    def test_device_with_another_code(self):
        s, eui = self.stack, random_eui64()
        s.register_code(eui, install_code())
        joiner = s.join(eui, install_code(), "--attempts", "1")
        self.assertEqual((joiner.wait_event(6, event="frame-refused") or {}).get("reason"), "bad MIC", joiner.tail())
        self.assertIsNone(joiner.wait_event(4, event="joined"))
        self.assertNotEqual(s.device(eui)["state"], "enrolled")

    def test_mefd_killed_while_an_ae_follows(self):
        s = self.stack
        eui, _, joiner = self.enrol()
        follow = s.follow(eui)
        self.assertIsNotNone(follow.wait_event(8, cluster=0x0402), follow.tail())
        s.restart_mefd()
        end = time.monotonic() + 1
        while time.monotonic() < end:
            follow.wait_event(0.2, cluster=-1)
        self.assertIsNotNone(follow.wait_event(60, cluster=0x0402), follow.tail())
        follow.stop()


class DevicesWithWorkers(Devices):
    """The same with CoAP in threads of its own."""
    options = {**Devices.options, ("coap", "workers"): "4"}


class Joiner(unittest.TestCase):
    """The simulated joiner's own code against the vectors: a wrong oracle is worse than none."""

    DEVICE, GATEWAY, COUNTER = 0x00158D0003123456, 0x00124B001CA1B2C3, 4096
    LINK_KEY = bytes.fromhex("66b6900981e1ee3ca4206b6b861c02bb")

    @classmethod
    def setUpClass(cls):
        cls.vectors = json.loads((ROOT / "tests/vectors/zigbee.json").read_text())

    def open(self, frame: bytes, next_counter: int = 0):
        return zbcodec.open_transport_key(zbcodec.parse_nwk(frame), self.LINK_KEY, self.DEVICE, next_counter)

    def test_vectors(self):
        frames = [v for v in self.vectors["frames"] if v["kind"] == "transport-key-nwk"]
        self.assertGreaterEqual(len(frames), 5)
        for v in frames:
            i = v["inputs"]
            tk = zbcodec.open_transport_key(zbcodec.parse_nwk(bytes.fromhex(v["expect"]["nwk_frame"])), bytes.fromhex(i["link_key"]),
                                            int(i["device_eui64_text"].replace(":", ""), 16), 0)
            self.assertEqual(tk.key.hex(), i["transported_key"])

    def test_invalid_frames(self):
        frames = [v for v in self.vectors["frames_invalid"] if v["error"] and v["link_key"] == self.LINK_KEY.hex()]
        self.assertGreaterEqual(len(frames), 15)
        for v in frames:
            with self.assertRaises(zbcodec.FrameError, msg=v["name"]):
                self.open(bytes.fromhex(v["nwk_frame"]))

    def seal(self, dst=DEVICE, src=GATEWAY, aux_source=GATEWAY, key_type=1, control=0x30, which=b"\x00", command=5, aps_fcf=0x21) -> bytes:
        """A first Transport-Key with one thing changed at a time, sealed properly."""
        key = zbcodec.keyed_hash(self.LINK_KEY, which)
        plain = bytes([command, key_type]) + bytes(range(16)) + b"\0" + zbcodec.eui_bytes(dst) + zbcodec.eui_bytes(src)
        aux = struct.pack("<BIQ", control, self.COUNTER, aux_source)
        aad = bytes([aps_fcf, 0x10, control | 5]) + aux[1:]
        nonce = struct.pack("<QIB", aux_source, self.COUNTER, control | 5)
        return bytes.fromhex("08002e1f00001e70") + bytes([aps_fcf, 0x10]) + aux + AESCCM(key, tag_length=4).encrypt(nonce, plain, aad)

    def test_strictness(self):
        """The mutations that real strict joiners refuse (and the unchanged frame, which they take)."""
        self.assertEqual(self.open(self.seal(), self.COUNTER).key, bytes(range(16)))
        mutations = [{"dst": self.DEVICE ^ 1}, {"src": self.GATEWAY ^ 1}, {"src": 0, "aux_source": 0},
                     {"src": (1 << 64) - 1, "aux_source": (1 << 64) - 1}, {"key_type": 5}, {"key_type": 4},
                     {"control": 0x38, "which": b"\x02"}, {"control": 0x20}, {"which": b"\x02"}, {"command": 9}, {"aps_fcf": 0x01}]
        for m in mutations:
            with self.assertRaises(zbcodec.FrameError, msg=m):
                self.open(self.seal(**m))
        with self.assertRaises(zbcodec.FrameError):
            self.open(self.seal(), self.COUNTER + 1)


if __name__ == "__main__":
    unittest.main()
