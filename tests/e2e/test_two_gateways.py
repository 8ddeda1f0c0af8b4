"""Two gateways of one mefd, each with a radio medium of its own: a device that is reset and joins at the other one."""
import unittest

import common
from stack import Stack, install_code, random_eui64


class TwoGateways(common.StackTest):
    @classmethod
    def prepare(cls):
        cls.other = cls.beside(cls.stack)

    @classmethod
    def beside(cls, s: Stack) -> Stack:
        """Another gateway, by the same operator's REST."""
        other = Stack(common.build(), cls.folder / "other")
        other.etc, other.coaps, other.https, other.status = s.etc, s.coaps, s.https, s.status
        other.token_header, other.ae, other.pan = s.token_header, s.ae, s.pan ^ 0x0101
        cls.addClassCleanup(other.stop)
        other.gw_credential = s.must("POST", "/v1/credentials", {"for": f"gateway:{other.gateway_eui}", "kind": "psk"})
        s.must("PUT", f"/v1/gateways/{other.gateway_eui}", {"identity": other.gw_credential["kpmId"], "name": "the other one"})
        other.start_gateway()
        return other

    def join(self, at: Stack, eui: str, code: str, *options):
        joiner = at.join(eui, code, "--report", "0x0402/0/s16/-512/0.5", *options)
        self.addCleanup(lambda: joiner.running() and joiner.stop())
        return joiner

    def told(self, at: Stack, eui: str, state: str) -> bool:
        return f"eui64={eui} state={state}" in at.gateway.log.read_text()

    def reads(self, eui: str):
        follow = self.stack.follow(eui, "--count", "1")
        self.addCleanup(lambda: follow.running() and follow.stop())
        self.assertEqual((follow.wait_event(10, cluster=0x0402) or {}).get("value"), -5.12, follow.tail())

    def refusals(self, eui: str) -> set:
        trail = self.stack.must("GET", "/v1/audit?limit=1000")
        return {(r["actor"], r["outcome"]) for r in trail if r["object"] == eui and r["action"] == "eg.refused"}

    def test_reset_at_another_gateway(self):
        here, there, eui, code = self.stack, self.other, random_eui64(), install_code()
        here.register_code(eui, code)
        first = self.join(here, eui, code)
        here.wait_state(eui, "enrolled")
        self.reads(eui)
        key = here.mefkey("find", eui)[1]
        first.stop()

        stranger = self.join(there, eui, code, "--attempts", "2")
        self.assertIsNotNone(stranger.wait_event(15, event="failed"), stranger.tail())
        self.assertEqual(self.refusals(eui), {(there.gw_credential["kpmId"], "code-spent")})
        self.assertNotIn("joined", [e["event"] for e in stranger.history])
        device = here.device(eui)
        self.assertEqual((device["state"], device["gateway"], device["pending"]), ("enrolled", here.gateway_eui, False))
        self.assertEqual(here.mefkey("find", eui)[1], key)

        here.must("POST", f"/v1/devices/{eui}/rearm", {})
        moved = self.join(there, eui, code)
        joined = moved.wait_event(15, event="joined")
        self.assertEqual((joined or {}).get("trust_centre"), there.gateway_eui, moved.tail())
        self.assertIsNotNone(moved.wait_event(15, event="link-key", verified=True), moved.tail())
        device = here.wait_state(eui, "enrolled")
        self.assertEqual(device["gateway"], there.gateway_eui)
        self.assertNotEqual(here.mefkey("find", eui)[1], key)
        self.reads(eui)
        status, _, err = here.mefkey("send", eui, "--cluster", "0x0006", "--command", "1")
        self.assertEqual(status, 0, err)
        self.assertIsNotNone(moved.wait_event(5, event="on-off", on=True), moved.tail())
        self.assertTrue(self.told(here, eui, "registered"), here.gateway.tail())
        self.assertTrue(self.told(there, eui, "enrolled"), there.gateway.tail())

    def test_a_code_that_names_its_gateways(self):
        here, there, eui, code = self.stack, self.other, random_eui64(), install_code()
        here.register_code(eui, code, gateways=[there.gateway_eui])
        stranger = self.join(here, eui, code, "--attempts", "1")
        self.assertIsNotNone(stranger.wait_event(10, event="failed"), stranger.tail())
        self.assertEqual(self.refusals(eui), {(here.gw_credential["kpmId"], "gateway-not-allowed")})
        self.join(there, eui, code)
        self.assertEqual(here.wait_state(eui, "enrolled")["gateway"], there.gateway_eui)


if __name__ == "__main__":
    unittest.main()
