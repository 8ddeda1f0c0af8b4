"""Why a device does not join, as the operator is told by the REST, over the whole system."""
import json
import subprocess
import time
import unittest

import common
from stack import install_code, random_eui64


class Explained(common.StackTest):
    options = {("eg", "pending-seconds"): "9"}  # longer than a frame waits to be polled for (7.68 s)

    def rows(self, eui: str, action: str) -> list:
        return [r for r in self.stack.must("GET", "/v1/audit?limit=1000") if r["object"] == eui and r["action"] == action]

    def follow_events(self):
        s = self.stack
        argv = ["curl", "-sN", "--cacert", s.ca, "-H", f"@{s.token_header}", "-H", "Accept: text/event-stream", f"{s.https_uri}/v1/events"]
        p = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self.addCleanup(lambda: (p.kill(), p.wait(), p.stdout.close()))
        time.sleep(0.5)
        return p

    def test_a_wrong_code(self):
        """The gateway hears the device acknowledge the key; that it cannot open it shows by silence alone."""
        s, eui = self.stack, random_eui64()
        s.register_code(eui, install_code())
        self.assertEqual(s.device(eui)["awaits"], "association")
        joiner = s.join(eui, install_code(), "--attempts", "1")
        self.addCleanup(joiner.stop)
        self.assertEqual((joiner.wait_event(6, event="frame-refused") or {}).get("reason"), "bad MIC", joiner.tail())
        self.assertEqual(s.device(eui)["awaits"], "first-frame")
        device = s.wait_state(eui, "failed", 20)
        self.assertEqual(device["reason"], "first-key-not-opened")
        self.assertIn("install code is not the one of this device", device["explanation"])
        self.assertEqual(device["lastFailure"]["gateway"], s.gateway_eui)
        self.assertEqual([r["explanation"] for r in self.rows(eui, "device.pending-expired")], [device["explanation"]])
        listed = s.must("GET", f"/v1/devices?limit=1&after={int(eui, 16) - 1:016x}")
        self.assertEqual(listed, [device])

    def test_a_device_that_went_away(self):
        """It associates, and is switched off before the key comes."""
        s, eui, code = self.stack, random_eui64(), install_code()
        s.register_code(eui, code)
        joiner = s.join(eui, code, "--sleepy", "--attempts", "1", "--key-timeout", "0")
        self.addCleanup(joiner.stop)
        self.assertIsNotNone(joiner.wait_event(6, event="associated"), joiner.tail())
        joiner.stop()
        self.assertEqual(s.wait_state(eui, "failed", 20)["reason"], "first-key-not-delivered")

    def test_a_mistyped_eui64(self):
        s, eui, code = self.stack, random_eui64(), install_code()
        typed = eui[:-2] + eui[-1] + eui[-2] if eui[-1] != eui[-2] else eui[:-1] + f"{int(eui[-1], 16) ^ 1:x}"
        s.register_code(typed, code)
        events = self.follow_events()
        joiner = s.join(eui, code, "--attempts", "1")
        self.addCleanup(joiner.stop)
        self.assertIsNotNone(joiner.wait_event(6, event="associate-refused"), joiner.tail())
        status, problem = s.rest("GET", f"/v1/devices/{eui}")
        self.assertEqual((status, problem["code"]), (404, "unknown-device"))
        self.assertIn(f"the nearest registered EUI-64 is {typed}", problem["detail"])
        self.assertIn(f"at gateway {s.gateway_eui}", problem["detail"])
        device = s.device(typed)
        self.assertEqual((device["state"], device["reason"], device["lastFailure"]["asked"]), ("registered", "nearly-this", eui))
        row = self.rows(eui, "eg.refused")[0]
        self.assertEqual((row["outcome"], row["explanation"]),
                         (f"unknown-device nearest={typed}", "No install code is registered for this EUI-64."))
        for line in events.stdout:
            if line.startswith("data:") and json.loads(line[5:])["object"] == eui:
                self.assertEqual(json.loads(line[5:]), row)
                break
        self.assertEqual(s.rest("GET", f"/v1/devices/{random_eui64()}")[1]["code"], "not-found")

    def test_labels_as_scanned(self):
        s, eui, code = self.stack, random_eui64(), install_code()
        refused = {f"Z:{eui}$I:{code[:-1]}O": "bad-hex", f"{eui}|{code}|{code}": "two-codes", "hello": "unknown-format",
                   f"{eui}|{code[:-1]}{'0' if code[-1] != '0' else '1'}": "bad-crc"}
        for text, why in refused.items():
            status, problem = s.rest("POST", "/v1/install-codes", {"label": text})
            self.assertEqual((status, problem["code"], problem["field"]), (400, why, "label"), text)
            if why == "bad-hex":
                self.assertEqual(problem["detail"], f"character {len(text)} is no hexadecimal digit")
        made = s.must("POST", "/v1/install-codes", {"label": f"https://example.org/?q=Z%3A{eui}%24I%3A{code}\r\n"})
        self.assertEqual(made["eui64"], eui)


if __name__ == "__main__":
    unittest.main()
