"""Devices behind routers: one key domain, joins, rejoins and removal through a parent, and what goes over the air."""
import json
import os
import re
import struct
import subprocess
import sys
import time
import unittest
from pathlib import Path

import common
from stack import AE_ID, LINK_KEY, ROOT, SIM, install_code, keys_by_tshark, random_eui64

sys.path.insert(0, str(SIM))
import zbcodec  # noqa: E402
from radio import FRAME_DATA, MacFrame  # noqa: E402

GATEWAY = 0x0000
TRANSPORT_KEY, REMOVE_DEVICE, TUNNEL, CONFIRM_KEY = 0x05, 0x07, 0x0E, 0x10
PATIENT = ("--key-timeout", "5000")  # as TI's devices: the test's machine is no radio


class RoutersTest(common.DevicesTest):
    """An application whose devices share a key, and another one."""

    @classmethod
    def prepare(cls):
        for name in ("hall", "cellar"):
            cls.stack.must("PUT", f"/v1/applications/{name}", {"keyScope": "application", "members": [AE_ID]})

    def tearDown(self):
        for log in self.stack.logs.glob("*er.log"):
            self.assertNotIn('"replay"', log.read_text(), log)
            self.assertNotIn('"counter-twice"', log.read_text(), log)

    def enrol_in(self, application: str, *options, **more):
        return self.enrol(*PATIENT, *options, registration={"application": application}, **more)

    def router(self, parent: str = "0000", application: str = "hall"):
        """(EUI-64, short address, key, process) of a router that has opened its network."""
        eui, key, process = self.enrol_in(application, "--parent", parent, program="router")
        opened = next((e for e in process.history if e["event"] == "open"), None) or process.wait_event(10, event="open")
        self.assertIsNotNone(opened, process.tail())
        return eui, opened["short"], key, process

    def refused(self, eui: str) -> set:
        trail = self.stack.must("GET", "/v1/audit?limit=1000")
        return {row["outcome"].split(" ")[0] for row in trail if row["object"] == eui and row["action"] == "eg.refused"}

    def wait_refused(self, eui: str, reason: str):
        end = time.monotonic() + 10
        while reason not in self.refused(eui):
            self.assertLess(time.monotonic(), end, self.refused(eui))
            time.sleep(0.2)


class Routers(RoutersTest):
    def joined_through(self, depth: int, *options):
        parent, keys = "0000", set()
        for _ in range(depth):
            _, parent, key, router = self.router(parent)
            keys.add(key)
        eui, key, joiner = self.enrol_in("hall", "--parent", parent, *options)
        self.assertEqual(keys, {key})
        self.assertTrue(any(e["event"] == "tunnel" and e["eui64"] == eui for e in self.events(router)), router.tail())
        self.command(eui, joiner)

    @staticmethod
    def events(process) -> list:
        process.wait_event(0.1, event="")
        return process.history

    def test_awake_child(self):
        self.joined_through(1)

    def test_sleepy_child_that_takes_only_the_plain_form(self):
        self.joined_through(1, "--sleepy", "--picky")

    def test_child_older_than_r21(self):
        self.joined_through(1, "--revision", "20")

    def test_awake_child_through_two_routers(self):
        self.joined_through(2)

    def test_sleepy_child_through_three_routers(self):
        self.joined_through(3, "--sleepy")

    def test_child_of_another_key_domain(self):
        _, parent, _, router = self.router()
        for registration in ({"application": "cellar"}, {}):
            with self.subTest(**registration):
                eui, code = random_eui64(), install_code()
                self.stack.register_code(eui, code, **registration)
                child = self.stack.join(eui, code, "--parent", parent, "--attempts", "1")
                self.addCleanup(child.stop)
                self.wait_refused(eui, "parent-key-domain")
                self.assertIsNone(child.wait_event(4, event="joined"))
                self.assertNotEqual(self.stack.device(eui)["state"], "enrolled")
                self.assertFalse(any(e["event"] == "tunnel" and e["eui64"] == eui for e in self.events(router)), router.tail())

    def test_stranger_and_wrong_code_behind_a_router(self):
        _, parent, _, _ = self.router()
        stranger = random_eui64()
        self.addCleanup(self.stack.join(stranger, install_code(), "--parent", parent, "--attempts", "1").stop)
        self.wait_refused(stranger, "unknown-device")
        eui = random_eui64()
        self.stack.register_code(eui, install_code(), application="hall")
        child = self.stack.join(eui, install_code(), "--parent", parent, "--attempts", "1", *PATIENT)
        self.addCleanup(child.stop)
        self.assertEqual((child.wait_event(8, event="frame-refused") or {}).get("reason"), "bad MIC", child.tail())
        self.assertNotEqual(self.stack.device(eui)["state"], "enrolled")

    def rejoined(self, how: str, new_parent: str | None, *options, parent: str):
        to = ("--rejoin-parent", new_parent) if new_parent else ()
        eui, _, joiner = self.enrol_in("hall", "--parent", parent, "--rejoin", how, "--rejoin-after", "6", *to, *options)
        self.assertIsNotNone(joiner.wait_event(15, event="rejoined"), joiner.tail())
        if how == "trust-centre":
            self.assertIsNotNone(joiner.wait_event(8, event="joined"), joiner.tail())
        for _ in range(2):  # by its first unicast the gateway learns the way to it
            self.assertIsNotNone(joiner.wait_event(8, event="reported", mac_ack=True), joiner.tail())
        follow = self.stack.follow(eui)
        self.addCleanup(follow.stop)
        self.assertIsNotNone(follow.wait_event(8, cluster=0x0402), follow.tail())
        self.assertEqual(self.stack.device(eui)["state"], "enrolled")
        self.command(eui, joiner)

    def test_trust_centre_rejoin(self):
        self.rejoined("trust-centre", None, parent=self.router()[1])

    def test_trust_centre_rejoin_of_a_sleepy_one(self):
        self.rejoined("trust-centre", None, "--sleepy", parent=self.router()[1])

    def test_secured_rejoin_to_another_parent(self):
        first, second = self.router()[1], self.router()[1]
        self.rejoined("secured", second, parent=first)

    def test_secured_rejoin_from_the_gateway_to_a_router(self):
        self.rejoined("secured", self.router()[1], parent="0000")

    def test_secured_rejoin_from_a_router_to_the_gateway(self):
        self.rejoined("secured", "0000", parent=self.router()[1])

    def test_child_revoked(self):
        s = self.stack
        _, parent, _, router = self.router()
        eui, _, joiner = self.enrol_in("hall", "--parent", parent)
        s.must("POST", f"/v1/devices/{eui}/revoke")
        self.assertIsNotNone(router.wait_event(8, event="remove-device", eui64=eui), router.tail())
        self.assertIsNotNone(joiner.wait_event(8, event="told-to-leave"), joiner.tail())
        self.assertEqual(s.device(eui)["state"], "revoked")
        again = s.join(eui, self.codes[eui], "--parent", parent, "--attempts", "1")
        self.addCleanup(again.stop)
        self.wait_refused(eui, "device-revoked")
        self.assertIsNone(again.wait_event(3, event="joined"))

    def test_router_revoked(self):
        s = self.stack
        router_eui, parent, _, router = self.router()
        s.must("POST", f"/v1/devices/{router_eui}/revoke")
        self.assertIsNotNone(router.wait_event(8, event="told-to-leave"), router.tail())
        self.assertEqual(s.device(router_eui)["state"], "revoked")

    def test_child_that_leaves(self):
        """It fails its exchange because it never takes an answer, and says so to its parent."""
        eui, code = random_eui64(), install_code()
        _, parent, _, router = self.router()
        self.stack.register_code(eui, code, application="hall")
        joiner = self.stack.join(eui, code, "--parent", parent, "--attempts", "1", "--answer-time", "0", *PATIENT)
        self.addCleanup(joiner.stop)
        self.assertIsNotNone(joiner.wait_event(10, event="left"), joiner.tail())
        self.assertIsNotNone(router.wait_event(5, event="child-gone", eui64=eui, why="left"), router.tail())
        end = time.monotonic() + 5
        while (state := self.stack.device(eui)["state"]) != "failed":
            self.assertLess(time.monotonic(), end, state)
            time.sleep(0.1)


class Air(RoutersTest):
    """What the gateway radiates for a router and its children, by those who know nothing of this project."""

    def capture(self) -> Path:
        pcap, (ready, listening) = self.folder / "air.pcap", os.pipe()
        os.set_inheritable(listening, True)
        self.sniffer = self.stack.sniff(pcap, listening)
        os.close(listening)
        self.assertEqual(os.read(ready, 1), b"\n")
        os.close(ready)
        return pcap

    @staticmethod
    def gateway_frames(pcap: Path) -> list[bytes]:
        """The NWK frames that the gateway radiated, repeats left out."""
        data, at, frames = pcap.read_bytes(), 24, []
        while at < len(data):
            size = struct.unpack_from("<8xI", data, at)[0]
            frame = MacFrame(data[at + 16:at + 16 + size - 2])
            if frame.type == FRAME_DATA and frame.src == GATEWAY:
                frames.append(frame.payload)
            at += 16 + size
        return list(dict.fromkeys(frames))

    def tshark(self, pcap: Path, link_keys: list[str]) -> list[list[str]]:
        """Command ids and what stays encrypted, of each data frame of the gateway's."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        argv = ["tshark", "-r", pcap, "-Y", f"wpan.frame_type == 1 && wpan.src16 == {GATEWAY}", "-T", "fields",
                "-e", "zbee_aps.cmd.id", "-e", "zbee_sec.encrypted_payload"]
        for key in link_keys:
            argv += ["-o", f'uat:zigbee_pc_keys:"{":".join(re.findall("..", key))}","Normal",""']
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True,
                              env={**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home)})
        return [line.split("\t") for line in done.stdout.splitlines()]

    @staticmethod
    def zigbee_on_host(frames: list[bytes], link_keys: list[str], network_key: str) -> list[list[dict]]:
        """What it reads of each frame under each link key."""
        lines = "".join(json.dumps({"nwk_frame": f.hex(), "link_key": k, "network_key": network_key}) + "\n"
                        for f in frames for k in link_keys)
        done = subprocess.run(["node", ROOT / "tests/differential/zoh.js", ROOT / "build/tools/differential"], input=lines,
                              capture_output=True, text=True, timeout=60, check=True)
        read = [json.loads(line) for line in done.stdout.splitlines()]
        return [read[i:i + len(link_keys)] for i in range(0, len(read), len(link_keys))]

    def test_every_frame_of_the_gateway_opens(self):
        s, pcap = self.stack, self.capture()
        _, parent, key, router = self.router()
        _, parent, _, _ = self.router(parent)
        eui, _, joiner = self.enrol_in("hall", "--parent", parent, "--sleepy")
        self.command(eui, joiner)
        s.must("POST", f"/v1/devices/{eui}/revoke")
        self.assertIsNotNone(joiner.wait_event(8, event="told-to-leave"), joiner.tail())
        time.sleep(0.5)
        self.sniffer.stop()
        codes = [s.link_key(code) for code in self.codes.values()]
        seen = self.tshark(pcap, codes)
        self.assertEqual([line for line in seen if line[1]], [])
        commands = {int(c, 0) for line in seen for c in line[0].split(",") if c}
        self.assertLessEqual({TRANSPORT_KEY, TUNNEL, CONFIRM_KEY, REMOVE_DEVICE}, commands)
        own = {key for code in codes for key in keys_by_tshark(pcap, code, self.folder / "home", LINK_KEY)}
        self.assertEqual(len(own), 3)
        frames = self.gateway_frames(pcap)
        for frame, read in zip(frames, self.zigbee_on_host(frames, [*codes, *own], key), strict=True):
            self.assertTrue(any("error" not in r for r in read), (frame.hex(), read[0]))
        self.check_counters(frames, bytes.fromhex(key))

    def check_counters(self, frames: list[bytes], key: bytes):
        used = {}
        for frame in frames:
            nwk = zbcodec.parse_nwk(frame)
            if nwk.secured:
                aux, secret = zbcodec.parse_aux(nwk.payload)
                zbcodec.open_secured(key, nwk.header, aux, secret)
                self.assertEqual(used.setdefault((aux.source, aux.counter), frame), frame)
        self.assertGreater(len(used), 10)


if __name__ == "__main__":
    unittest.main()
