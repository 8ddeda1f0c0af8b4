"""What the coordinator answers above the MAC: a simulated device asks it everything, and code by others reads the answers."""
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import common
from stack import ROOT, SIM, install_code, random_eui64

sys.path.insert(0, str(SIM))
import asker  # noqa: E402

ZOH = ROOT / "tests/differential/zoh.js"
# What the answer to a request begins with, after its sequence number: status, then as the table says; None: no answer.
OK, NOT_FOUND, NOT_SUPPORTED = "00", "81", "84"
TIME_OUT_RESPONSE, REJOIN_RESPONSE = "0c0001", "07"


def npm_folder() -> Path | None:
    places = filter(None, (os.environ.get("MEF_NPM"), ROOT / "build/tools/differential", common.build() / "npm"))
    return next((Path(p).resolve() for p in places if (Path(p) / "node_modules/zigbee-on-host").is_dir()), None)


class Housekeeping(common.StackTest):
    """One device asks; the tests look at what it heard."""

    @classmethod
    def prepare(cls):
        s = cls.stack
        cls.eui, cls.code = random_eui64(), install_code()
        s.register_code(cls.eui, cls.code)
        cls.pcap = cls.folder / "air.pcap"
        sniffer = s.capture(cls.pcap)
        device = s.join(cls.eui, cls.code, "--router", "--linger", "17", "--key-out", cls.folder / "key", program="asker")
        if device.wait_event(90, event="done") is None:
            raise AssertionError(device.tail())
        sniffer.stop()
        cls.events = device.history
        cls.short = next(e["short"] for e in cls.events if e["event"] == "associated")
        cls.requests = asker.requests(int(cls.eui, 16), int(cls.short, 16), int(s.gateway_eui, 16))
        cls.key = (cls.folder / "key").read_text().strip()
        cls.link_key = s.link_key(cls.code)

    def said(self, event: str, **wanted) -> list[dict]:
        return [e for e in self.events if e["event"] == event and all(e.get(k) == v for k, v in wanted.items())]

    def expected(self) -> list[str | None]:
        """Of each request: the answer after its sequence number, or its beginning."""
        own, gateway = struct.pack("<Q", int(self.eui, 16)).hex(), struct.pack("<Q", int(self.stack.gateway_eui, 16)).hex()
        stranger, short = struct.pack("<Q", int(self.eui, 16) ^ 0xFF).hex(), struct.pack("<H", int(self.short, 16)).hex()
        us = gateway + "0000"
        node = "00408f" + "0000" + "52" + "5200" + "012c" + "5200" + "00"
        nothing = "0000000000000000"
        return [OK + us, OK + us + "0100" + short, NOT_FOUND + own + "0000", NOT_FOUND + stranger + "0000", OK + us, None,
                OK + us, OK + us + "0100" + short, NOT_FOUND + nothing + "7777",
                OK + "0000" + node, OK + "0000" + "10c1", "83" + "0000" + "00", OK + "0000" + "00", NOT_FOUND + short,
                "89" + "0000" + "00", None,
                OK + "0100", None, None,
                NOT_SUPPORTED, NOT_SUPPORTED,
                OK + "010001", OK + "000000", NOT_SUPPORTED + "000000", NOT_SUPPORTED,
                "8d", None, NOT_SUPPORTED + "00" * 9, NOT_SUPPORTED]

    def test_each_request_has_its_answer(self):
        expected = self.expected()
        self.assertEqual(len(expected), len(self.requests))
        for n, ((dst, cluster, payload), want) in enumerate(zip(self.requests, expected)):
            with self.subTest(cluster=f"{cluster:04x}", dst=f"{dst:04x}", payload=payload.hex()):
                answers = self.said("zdp", asked=n)
                self.assertEqual(len(answers), want is not None)
                if want is None:
                    continue
                self.assertEqual(answers[0]["cluster"], f"{cluster | 0x8000:04x}")
                got = answers[0]["payload"][2:]
                self.assertEqual(got[:len(want)] if cluster == 0x0031 else got, want)
        lqi = self.said("zdp", cluster="8031")[0]["payload"][2 + 8:]  # of one entry: 22 bytes
        own, short = struct.pack("<Q", int(self.eui, 16)).hex(), struct.pack("<H", int(self.short, 16)).hex()
        self.assertEqual((len(lqi), lqi[16:32], lqi[32:36], lqi[36:42]), (44, own, short, "350201"))

    def test_acknowledgements_and_repetitions(self):
        for asked, answers in ((-1, 1), (-2, 0)):
            acks = self.said("aps-ack", asked=asked)
            self.assertEqual(len(acks), 1)
            self.assertEqual(len(self.said("zdp", asked=asked)), answers)
        first, again = self.said("aps-ack")
        self.assertEqual(first["payload"], again["payload"])
        self.assertNotEqual(first["counter"], again["counter"])

    def test_nwk_commands(self):
        heard = [e["payload"] for e in self.said("nwk")]
        own, gateway = struct.pack("<Q", int(self.eui, 16)).hex(), struct.pack("<Q", int(self.stack.gateway_eui, 16)).hex()
        short = struct.pack("<H", int(self.short, 16)).hex()
        self.assertEqual([p for p in heard if p.startswith("0c")], [TIME_OUT_RESPONSE])
        self.assertEqual([p for p in heard if p.startswith("02")], ["023011" + short + "0000" + "00" + own + gateway])
        self.assertEqual([p for p in heard if p.startswith("07")], [REJOIN_RESPONSE + short + "00"])
        statuses = self.said("nwk", dst="fffc")
        self.assertEqual(len(statuses), 2)  # one at once, one a period later
        for status in statuses:
            self.assertRegex(status["payload"], rf"\A0861{short}2[1-7]\Z")
            self.assertEqual(status["mac_dst"], "ffff")

    def test_counters_are_of_one_allocator(self):
        counters = [e["counter"] for e in self.events if e["event"] in ("nwk", "zdp", "aps-ack")]
        self.assertGreater(len(counters), 25)
        self.assertEqual(counters, sorted(set(counters)))

    def test_zigbee_on_host_reads_the_same(self):
        npm = npm_folder()
        self.assertIsNotNone(npm, "zigbee-on-host is not installed: scripts/setup")
        heard = [e for e in self.events if e["event"] in ("nwk", "zdp", "aps-ack")]
        lines = "".join(json.dumps({"nwk_frame": e["frame"], "network_key": self.key, "link_key": self.link_key}) + "\n"
                        for e in heard)
        done = subprocess.run(["node", ZOH, npm], input=lines, capture_output=True, text=True, check=True, timeout=60)
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(len(answers), len(heard))
        for e, answer in zip(heard, answers):
            with self.subTest(e=e):
                self.assertEqual((answer.get("nwk_frame_counter"), answer.get("src")), (e["counter"], 0), answer)
                if e["event"] == "zdp":
                    self.assertEqual((f"{answer['cluster']:04x}", answer["profile"], answer["plaintext"]),
                                     (e["cluster"], 0, e["payload"]))
                elif e["event"] == "nwk":
                    self.assertEqual(answer["nwk_command"], e["payload"])
                else:
                    self.assertEqual(answer["aps_counter"], int(e["payload"][-2:], 16))

    def test_tshark_reads_the_same(self):
        """Given the install code's link key alone."""
        home = self.folder / "home"
        home.mkdir()
        fields = ("zbee.sec.counter", "zbee_aps.cluster", "zbee_zdp.seqno", "zbee_zdp.status", "zbee_nwk.cmd.id", "_ws.malformed")
        argv = ["tshark", "-r", self.pcap, "-o", f'uat:zigbee_pc_keys:"{":".join(re.findall("..", self.link_key))}","Normal","IC"',
                "-Y", "zbee_nwk.src == 0x0000 && zbee_nwk.security == 1", "-T", "fields", "-E", "occurrence=f"]
        for field in fields:
            argv += ["-e", field]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60,
                              env={**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home)})
        self.assertEqual(done.returncode, 0, done.stderr)
        read = {}
        for line in done.stdout.splitlines():
            row = dict(zip(fields, line.split("\t")))
            self.assertEqual(row["_ws.malformed"], "", row)
            read[int(row["zbee.sec.counter"], 0)] = row
        for e in self.events:
            if e["event"] not in ("nwk", "zdp"):
                continue
            row = read[e["counter"]]
            with self.subTest(e=e, row=row):
                if e["event"] == "nwk":
                    self.assertEqual(int(row["zbee_nwk.cmd.id"], 0), int(e["payload"][:2], 16))
                    continue
                self.assertEqual(int(row["zbee_zdp.seqno"], 0), int(e["payload"][:2], 16))
                if row["zbee_zdp.status"]:  # which it shows of the clusters that it knows
                    self.assertEqual(int(row["zbee_zdp.status"], 0), int(e["payload"][2:4], 16))


if __name__ == "__main__":
    unittest.main()
