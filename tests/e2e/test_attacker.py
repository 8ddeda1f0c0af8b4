"""An attacker near the radio who knows every EUI-64 and no key, over real sockets: it breaks nothing."""
import os
import signal
import time
import unittest

import common
from stack import AE_ID, install_code, random_eui64

PENDING_SECONDS = 2
ATTEMPTS = 60  # of a joiner: some are spoilt, as by a jammer
SEED = int(os.environ.get("MEF_SEED", "1"))


class Attacker(common.StackTest):
    options = {**common.SHORT_CODES, ("eg", "pending-seconds"): str(PENDING_SECONDS)}

    def joining(self, *options, eui=None, program="joiner", **registration):
        """(EUI-64, joiner) of a registered device that begins to join."""
        s, eui, code = self.stack, eui or random_eui64(), install_code()
        s.register_code(eui, code, **registration)
        joiner = s.join(eui, code, "--attempts", ATTEMPTS, "--report", "0x0402/0/s16/-512/0.4", *options, program=program)
        self.addCleanup(lambda: joiner.running() and joiner.stop())
        return eui, joiner

    def enrolled(self, *options, eui=None):
        eui, joiner = self.joining(*options, eui=eui)
        self.stack.wait_state(eui, "enrolled", 20)
        return eui, joiner

    def attack(self, euis, *options):
        attacker = self.stack.attack(euis, "--seed", SEED, *options)
        self.addCleanup(lambda: attacker.running() and attacker.stop())
        return attacker

    def end(self, attacker) -> dict:
        attacker.stop()
        did = attacker.wait_event(5, event="attacked")
        self.assertIsNotNone(did, attacker.tail())
        return did

    def works(self, eui, joiner):
        """Readings arrive, and commands: one may fall to a frame that was radiated with its number, not three."""
        follow = self.stack.follow(eui)
        self.addCleanup(follow.stop)
        for _ in range(2):
            self.assertIsNotNone(follow.wait_event(8, cluster=0x0402), follow.tail() + joiner.tail())
        for on in (1, 0):
            for _ in range(3):
                self.assertEqual(self.stack.mefkey("send", eui, "--cluster", "0x0006", "--command", str(on))[0], 0)
                if joiner.wait_event(8, event="on-off", on=bool(on)) is not None:
                    break
            else:
                self.fail(f"{eui} obeys no command\n{joiner.tail(30)}\n{self.stack.gateway.tail(30)}")
        self.assertEqual(self.stack.device(eui)["state"], "enrolled")
        self.assertTrue(joiner.running())

    def works_in_the_end(self, eui, joiner):
        """Who forges acknowledgements can make a device miss its Confirm-Key. It leaves, its code is spent, and the operator,
        who is told so, lets it in again."""
        try:
            self.works(eui, joiner)
        except AssertionError:
            trail = self.stack.must("GET", "/v1/audit?limit=1000")
            if not any(row["object"] == eui and row["outcome"] == "code-spent" for row in trail):
                raise
            self.stack.must("POST", f"/v1/devices/{eui}/rearm")
            self.assertIsNotNone(joiner.wait_event(60, event="joined"), joiner.tail())
            self.stack.wait_state(eui, "enrolled", 60)
            self.works(eui, joiner)

    def test_enrolled_devices_go_on(self):
        devices = [self.enrolled(), self.enrolled("--sleepy"), self.enrolled("--router"), self.enrolled("--revision", "20")]
        before = [self.stack.mefkey("find", eui)[1] for eui, _ in devices]
        attacker = self.attack([eui for eui, _ in devices], "--rate", 60, "--responses")
        time.sleep(3)
        for eui, joiner in devices:
            self.works(eui, joiner)
        did = self.end(attacker)
        self.assertGreater(did["frames"], 200)
        self.assertEqual([self.stack.mefkey("find", eui)[1] for eui, _ in devices], before)

    def test_devices_join_meanwhile(self):
        kinds = ((), ("--sleepy",), ("--router",), ("--picky", "--sleepy"))
        enrolled, enrolled_joiner = self.enrolled()
        euis = [random_eui64() for _ in kinds]
        attacker = self.attack([enrolled, *euis], "--rate", 20)
        time.sleep(1)
        for eui, joiner in [self.joining(*options, eui=eui) for eui, options in zip(euis, kinds)]:
            self.stack.wait_state(eui, "enrolled", 60)
            self.works_in_the_end(eui, joiner)
        self.works(enrolled, enrolled_joiner)
        self.end(attacker)

    def test_behind_a_router(self):
        """In whose name the gateway hears frames from elsewhere all the time: it is reached through its parent."""
        self.stack.must("PUT", "/v1/applications/hall", {"keyScope": "application", "members": [AE_ID]})
        _, router = self.joining(application="hall", program="router")
        opened = router.wait_event(20, event="open")
        self.assertIsNotNone(opened, router.tail())
        eui = random_eui64()
        attacker = self.attack([eui], "--rate", 15)
        time.sleep(1)
        _, child = self.joining("--parent", opened["short"], "--revision", "20", "--sleepy", eui=eui, application="hall")
        self.stack.wait_state(eui, "enrolled", 60)
        self.works(eui, child)
        self.end(attacker)

    def test_a_device_comes_back_meanwhile(self):
        """By its link key, in spite of others who say that they are it."""
        eui, joiner = self.enrolled("--rejoin", "trust-centre", "--rejoin-after", "4")
        attacker = self.attack([eui], "--rate", 30)
        self.assertIsNotNone(joiner.wait_event(40, event="rejoined"), joiner.tail())
        self.assertEqual(joiner.wait_event(20, event="joined")["trust_centre"], self.stack.gateway_eui)
        self.works(eui, joiner)
        self.end(attacker)

    def test_nothing_is_kept_but_the_trail(self):
        s, euis = self.stack, [random_eui64() for _ in range(4)]
        waiting = euis[2]
        s.register_code(waiting, install_code())
        attacker = self.attack(euis, "--rate", 100, "--seconds", 12, "--wait")
        for eui, options in zip(euis[:2], ((), ("--sleepy",))):
            self.enrolled(*options, eui=eui)[1].stop()
        time.sleep(1)  # from now on nobody speaks but the attacker
        before = s.database()
        limited, sent = s.metric("eg_refused_rate_limited_total"), s.metric("eg_keys_sent_total")
        attacker.child.send_signal(signal.SIGUSR1)
        self.assertIsNotNone(attacker.wait_event(25, event="attacked"), attacker.tail())
        self.assertGreater(s.metric("eg_refused_rate_limited_total"), limited)
        self.assertGreater(s.metric("eg_refused_code_spent_total"), 0)
        self.assertGreater(s.metric("eg_refused_unknown_device_total"), 0)
        self.assertGreater(s.metric("eg_keys_sent_total"), sent)  # to where they were asked for, opened by nobody
        end = time.monotonic() + PENDING_SECONDS + 10
        while any(s.device(eui)["pending"] for eui in euis[:3]) and time.monotonic() < end:
            time.sleep(0.2)
        for eui, state in zip(euis, ("enrolled", "enrolled", "failed")):
            self.assertEqual(s.device(eui)["state"], state)
        after = s.database()
        self.unchanged(before, after, waiting)

    def unchanged(self, before: dict, after: dict, waiting: str):
        """Numbers only rise, answers are kept to be repeated, and of a device that never came it is said that somebody asked."""
        tables = {table for table, _ in {**before, **after}}
        counters, answers = (next(table for table in tables if word in table) for word in ("counter", "transaction"))
        allowed = {("device", bytes.fromhex(waiting)), ("meta", b"vault.next-id")}
        for name in {**before, **after}:
            if name[0] == counters and name in before:
                self.assertGreaterEqual(after[name][-4:], before[name][-4:], name)
            elif name[0] not in (counters, answers) and name not in allowed:
                self.assertEqual(after.get(name), before.get(name), name)


if __name__ == "__main__":
    unittest.main()
