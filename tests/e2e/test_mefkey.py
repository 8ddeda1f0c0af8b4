"""mefkey as a program: exit codes, error text in the protocol's terms, where keys may go, and a key that changes."""
import json
import os
import subprocess
import unittest

import common
from stack import ADMIN, AE_ID, install_code, ipv6, random_eui64, write_private


class Mefkey(common.StackTest):
    @classmethod
    def prepare(cls):
        s = cls.stack
        cls.eui, cls.code = random_eui64(), install_code()
        s.register_code(cls.eui, cls.code)
        cls.joiner = s.join(cls.eui, cls.code, "--report", "0x0402/0/s16/2150/0.5", "--report", "0x0001/0x21/u8/173/0.7")
        assert cls.joiner.wait_event(8, event="reported"), cls.joiner.tail()
        s.wait_state(cls.eui, "enrolled")

    def run_bare(self, *args, **env) -> tuple[int, str, str]:
        done = subprocess.run([self.stack.program("mefkey"), *args], capture_output=True, text=True, timeout=30,
                              env={**os.environ, "HOME": str(self.folder), **env})
        return done.returncode, done.stdout, done.stderr

    def test_usage(self):
        for args in ((), ("nonsense",), ("find",), ("find", self.eui, "more"), ("find", self.eui, "--nonsense")):
            self.assertEqual(self.run_bare(*args)[0], 2, args)
        self.assertIn("Exit status", self.run_bare("--help")[1])
        self.assertRegex(self.run_bare("--version")[1], r"\Amefkey \d+\.\d+\.\d+\n\Z")
        self.assertEqual(self.stack.mefkey("find", "xyz")[0], 2)
        self.assertEqual(self.stack.mefkey("get", self.eui)[0], 2)
        self.assertEqual(self.stack.mefkey("send", self.eui, "--cluster", "6")[0], 2)

    def test_configuration(self):
        s = self.stack
        self.assertEqual(self.run_bare("find", self.eui)[0], 3)
        psk = write_private(self.folder / "kpm", s.ae["kpm"] + "\n")
        text = f"[mefkey]\nmef = {s.mef_uri}\nid = {s.ae['kpmId']}\npsk-file = {psk.name}\nae-id = {AE_ID}\n"
        (self.folder / ".config").mkdir(exist_ok=True)
        config = self.folder / ".config" / "mefkey.conf"
        config.write_text(text)  # psk-file is relative to this file's folder
        self.assertEqual(self.run_bare("--check-config")[0], 3)
        psk.rename(config.parent / "kpm")
        self.assertEqual(self.run_bare("--check-config")[0], 0)
        status, out, err = self.run_bare("find", self.eui)
        self.assertEqual(status, 0, err)
        other = self.folder / "other.conf"
        other.write_text(text + "nonsense = 1\n")
        status, _, err = self.run_bare("find", self.eui, "--config", str(other))
        self.assertEqual(status, 3)
        self.assertIn("other.conf:6", err)
        config.unlink()

    @unittest.skipUnless(ipv6(), "no IPv6 here")
    def test_ipv6(self):
        s = self.stack
        psk = write_private(self.folder / "kpm6", s.ae["kpm"])
        status, out, err = self.run_bare("find", self.eui, "--mef", f"coaps://[::1]:{s.coaps}", "--id", s.ae["kpmId"],
                                         "--psk-file", str(psk), "--ae-id", AE_ID)
        self.assertEqual(status, 0, err)
        self.assertEqual(out.strip(), s.mefkey("find", self.eui)[1])

    def test_not_found(self):
        status, _, err = self.stack.mefkey("find", random_eui64())
        self.assertEqual(status, 4)
        self.assertIn("4004", err)
        self.assertEqual(self.stack.mefkey("get", "00" * 16, "--stdout")[0], 4)

    def test_refused(self):
        self.assertEqual(self.stack.mefkey("register", "--admin-fqdn", ADMIN)[0], 0)
        status, _, err = self.stack.mefkey("register", "--admin-fqdn", ADMIN)
        self.assertEqual(status, 5)
        self.assertIn("4117", err)
        status, _, err = self.stack.mefkey("find", self.eui, ae_id="//example.org/in-cse/Csomeone")
        self.assertEqual(status, 5)
        self.assertIn("4106", err)

    def test_no_answer(self):
        wrong = {"kpmId": "nobody@" + ADMIN, "kpm": "11" * 32}
        status, _, err = self.stack.mefkey("find", self.eui, "--timeout", "2", credential=wrong)
        self.assertEqual(status, 6)
        self.assertIn("DTLS", err)

    def test_key_goes_where_it_is_told(self):
        out = self.folder / "key"
        out.write_text("something longer than a key, which has to be gone afterwards")
        out.chmod(0o644)
        status, printed, _ = self.stack.mefkey("get", self.eui, "--out", out)
        self.assertEqual((status, printed), (0, ""))
        self.assertEqual(out.stat().st_mode & 0o777, 0o600)
        self.assertRegex(out.read_text(), r"\A[0-9a-f]{32}\Z")
        self.assertEqual(self.stack.mefkey("get", self.eui, "--stdout")[1], out.read_text())

    def test_readings_of_two_clusters(self):
        follow = self.stack.follow(self.eui)
        self.addCleanup(follow.stop)
        battery = follow.wait_event(8, cluster=1)
        self.assertEqual((battery["attribute"], battery["value"], battery["unit"]), (0x21, 86.5, "%"))
        temperature = follow.wait_event(8, cluster=0x0402)
        self.assertEqual((temperature["value"], temperature["unit"]), (21.5, "°C"))

    def test_tickets_are_never_granted_twice(self):
        counters = set()
        for count in (1, 16, 3):
            ticket = json.loads(self.stack.mefkey("ticket", self.eui, "--count", str(count))[1])
            granted = set(range(ticket["counter"], ticket["counter"] + ticket["count"]))
            self.assertEqual(len(granted), count)
            self.assertFalse(granted & counters)
            counters |= granted
        self.assertEqual(self.stack.mefkey("ticket", self.eui, "--count", "17")[0], 2)

    def test_zz_a_new_key_while_following(self):
        """The device is reset and joins again: a new key, and the AE that follows finds it by itself."""
        s = self.stack
        follow = s.follow(self.eui)
        self.addCleanup(follow.stop)
        self.assertIsNotNone(follow.wait_event(8, cluster=0x0402), follow.tail())
        before = s.mefkey("find", self.eui)[1]
        self.joiner.stop()
        s.must("POST", f"/v1/devices/{self.eui}/rearm")
        again = s.join(self.eui, self.code, "--report", "0x0402/0/s16/2275/0.5")
        self.assertIsNotNone(again.wait_event(8, event="joined"), again.tail())
        self.assertIsNotNone(follow.wait_event(8, cluster=0x0402, value=22.75), follow.tail())
        self.assertNotEqual(s.mefkey("find", self.eui)[1], before)


if __name__ == "__main__":
    unittest.main()
