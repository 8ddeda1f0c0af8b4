#!/usr/bin/python3
"""The simulated devices at the level of MAC frames: which parent they take, and whose answers they believe."""
import pathlib
import random
import socket
import struct
import sys
import threading
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]
from joiner import Joiner, arguments  # noqa: E402
from radio import BROADCAST, DATA_REQUEST, FRAME_ACK, FRAME_COMMAND, MacFrame, Radio  # noqa: E402
from router import Router  # noqa: E402
from stack import GROUP, free_port  # noqa: E402
from zbcodec import eui_bytes  # noqa: E402

DEVICE, PARENT, PAN, CHANNEL = 0x00158D0000000001, 0x00124B0000000002, 0x1A62, 15
ASSOCIATION_REQUEST, ASSOCIATION_RESPONSE, BEACON_REQUEST = 0x01, 0x02, b"\x07"


class Medium(unittest.TestCase):
    def setUp(self):
        self.port = free_port(socket.SOCK_DGRAM)

    def on_air(self, r: Radio, short: int) -> Radio:
        self.addCleanup(r.rx.close)
        self.addCleanup(r.tx.close)
        r.pan, r.short = PAN, short
        return r

    def radio(self, eui: int, short: int = BROADCAST) -> Radio:
        return self.on_air(Radio(GROUP, self.port, CHANNEL, eui, random.Random(1)), short)

    def device(self, kind, eui: int, short: int = BROADCAST):
        d = kind(arguments(["--eui64", f"{eui:016x}", "--medium", f"{GROUP}:{self.port}", "--seed", "1"]), bytes(16))
        self.on_air(d.radio, short)
        return d

    def meanwhile(self, act):
        t = threading.Thread(target=act, daemon=True)
        t.start()
        self.addCleanup(t.join, 10)


class TestRadio(Medium):
    def test_acknowledgement_of_another(self):
        """One with the same number that came before we sent is not ours."""
        ours, another = self.radio(DEVICE), self.radio(PARENT)
        seq = ours.next_seq()
        another._emit(struct.pack("<HB", FRAME_ACK, seq))
        self.assertIsNone(ours.send(struct.pack("<HBHHH", 0x8861, seq, PAN, 0x1234, 0x5678)))

    def test_own_acknowledgement(self):
        ours, another = self.radio(DEVICE), self.radio(PARENT, 0x1234)
        self.meanwhile(lambda: another.receive(5))
        self.assertIsNotNone(ours.send(struct.pack("<HBHHH", 0x8861, ours.next_seq(), PAN, 0x1234, 0x5678)))


class TestJoiner(Medium):
    @staticmethod
    def answer(r: Radio, short: int):
        r._emit(struct.pack("<HBH", 0xCC63, r.next_seq(), PAN) + eui_bytes(DEVICE) + eui_bytes(PARENT) +
                struct.pack("<BHB", ASSOCIATION_RESPONSE, short, 0))

    def test_answer_to_an_earlier_request(self):
        """It came while the receiver was off: the address in it is one that the parent has taken back."""
        joiner, parent = self.device(Joiner, DEVICE), self.radio(PARENT, 0x0000)
        parent.waits_for = lambda address: True

        def play():
            while (f := parent.receive(5)) is not None:
                if f.payload[:1] == bytes([ASSOCIATION_REQUEST]):
                    self.answer(parent, 0x1111)
                elif f.payload == DATA_REQUEST:
                    self.answer(parent, 0x2222)
                    return
        self.meanwhile(play)
        self.assertEqual(joiner.associate(PAN, 0x0000), PARENT)
        self.assertEqual(joiner.radio.short, 0x2222)

    def test_nearest_parent(self):
        """Whose beacon comes first is chance; the fewest hops count."""
        joiner, others = self.device(Joiner, DEVICE), self.radio(PARENT, 0x4444)

        def play():
            while (f := others.receive(5)) is not None:
                if f.payload == BEACON_REQUEST:
                    for short, depth in ((0x4444, 2), (0x5555, 1), (0x6666, 1), (0x7777, 3)):
                        others._emit(struct.pack("<HBHHHBBBH", 0x8000, others.next_seq(), PAN, short, 0x8FFF, 0, 0, 0,
                                                 0x8422 | depth << 11) + bytes(8) + b"\xff\xff\xff\0")
                    return
        self.meanwhile(play)
        self.assertEqual(joiner.scan(), (PAN, 0x5555))
        self.assertEqual(joiner.depth, 2)


class TestRouter(Medium):
    def test_association_before_what_waits(self):
        """A child that was reset polls by its EUI-64: the frames that wait for its short address are not for that."""
        router, child, said = self.device(Router, PARENT, 0x4444), self.radio(DEVICE, 0xFFFE), []
        router.update_device = lambda c, status: said.append("update-device")
        c = router.add_child(DEVICE, 0x2222, 0x80)
        c.alive()
        router.leave_waiting(c, lambda: said.append("frame") or True)
        router.associate_child(DEVICE, 0x80)
        self.assertTrue(router.radio.waits_for(DEVICE))
        heard = []
        self.meanwhile(lambda: heard.append(child.receive(5)))
        poll = MacFrame(struct.pack("<HBHH", 0xC863, 1, PAN, 0x4444) + eui_bytes(DEVICE) + DATA_REQUEST)
        poll.awake_until = time.monotonic() + 60
        router.hear_mac(poll)
        self.assertEqual(said, ["update-device"])
        router.hear_mac(poll)
        self.assertEqual(said, ["update-device", "frame"])
        self.assertFalse(router.radio.waits_for(DEVICE))
        end = time.monotonic() + 5
        while not heard and time.monotonic() < end:
            time.sleep(0.01)
        self.assertEqual((heard[0].type, heard[0].payload), (FRAME_COMMAND, struct.pack("<BHB", ASSOCIATION_RESPONSE, 0x2222, 0)))

    def test_poll_of_who_sleeps_again(self):
        """Nothing waited when the poll was acknowledged, so its sender is off: what comes then waits for the next one."""
        router, child, sent = self.device(Router, PARENT, 0x4444), self.radio(DEVICE, 0x2222), []
        c = router.add_child(DEVICE, 0x2222, 0x80)
        c.alive()

        def poll():
            heard = []
            self.meanwhile(lambda: heard.append(router.radio.receive(5)))
            ack = child.send(struct.pack("<HBHHHB", 0x8863, child.next_seq(), PAN, 0x4444, 0x2222, 0x04))
            while not heard:
                time.sleep(0.01)
            return ack, heard[0]

        ack, early = poll()
        self.assertFalse(ack.pending)
        router.leave_waiting(c, lambda: sent.append(router.radio.waits_for(0x2222)) or True)
        router.hear_mac(early)
        self.assertEqual(sent, [])
        ack, late = poll()
        self.assertTrue(ack.pending)
        router.hear_mac(late)
        self.assertEqual(sent, [True])  # another poll meanwhile is told to stay awake, too
        self.assertFalse(router.radio.waits_for(0x2222))


if __name__ == "__main__":
    unittest.main()
