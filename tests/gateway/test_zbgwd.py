#!/usr/bin/python3
"""zbgwd alone: simulated radios on one side, an EG made of nothing but zbgwd_case.py on the other.
Usage: test_zbgwd.py ZBGWD"""
import os
import pathlib
import random
import re
import select
import signal
import struct
import subprocess
import tempfile
import time
import unittest

from zbgwd_case import (CHANNEL, GATEWAY, HERE, NETWORK_KEY, PAN, ZBGWD, Peer, ZbgwdCase, approve, egp, eui_bytes,
                        first_key, refuse, seal_nwk, sealed_frame)

JOINING, ENROLLED, REVOKED = 1, 3, 5  # DeviceState


class ZbgwdTest(ZbgwdCase):
    # --- joining ---
    def test_awake_device_joins_and_reports(self):
        eg = self.eg(approve)
        r = self.join()
        self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
        result = eg.wait(lambda m: m.type == egp.TX_RESULT)
        request = eg.all(egp.REQUEST)[0]
        self.assertEqual((result.transaction, result.body[0]), (request.transaction, 0))
        self.assertEqual(request.body[0::2][:2] + [request.body[3], request.body[5]], [0, PAN, 0, 0])
        up = eg.wait(lambda m: m.type == egp.UPLINK)
        self.assertEqual((up.device, up.body[0]), (request.device, request.body[1]))

    def test_sleepy_device_joins_and_reports(self):
        self.eg(approve)
        r = self.join("--sleepy")
        self.assertEqual(r.returncode, 0, r.stdout + r.stderr)

    def test_refused_device_is_told_so(self):
        eg = self.eg(refuse(1))
        p = Peer(self.medium, 0x00158D0003AAAA02)
        p.associate()
        eg.wait(lambda m: m.type == egp.REQUEST)
        time.sleep(0.1)
        f = p.poll(2)
        self.assertEqual(f[-4:], bytes.fromhex("02ffff02"))

    def test_request_is_repeated_unchanged_until_answered(self):
        seen = []

        def third_time(m):
            if m.type == egp.REQUEST:
                seen.append(m.raw)
            return approve(m) if len(seen) == 3 else None
        self.eg(third_time)
        r = self.join("--key-timeout", "5000")
        self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
        self.assertEqual(len(set(seen)), 1)

    def test_second_answer_is_ignored(self):
        eg = self.eg(approve)
        p, short = self.joined_peer(eg)
        request = eg.all(egp.REQUEST)[0]
        eg.write(egp.frame(approve(request)))
        time.sleep(0.2)
        self.assertIsNone(p.poll(9, short))

    def test_repeated_association_frame_asks_once(self):
        eg = self.eg()
        p = Peer(self.medium, 0x00158D0003AAAA03)
        p.associate(seq=7)
        p.associate(seq=7)
        time.sleep(0.2)
        self.assertEqual(len(eg.all(egp.REQUEST)), 1)
        p.associate(seq=8)  # another one, which the same answer will be for
        time.sleep(0.8)
        self.assertEqual(len({m.raw for m in eg.all(egp.REQUEST)}), 1)
        eg.write(egp.frame(refuse(7)(eg.all(egp.REQUEST)[0])))
        time.sleep(0.2)
        p.associate(seq=9)
        eg.wait(lambda m: m.type == egp.REQUEST and m.transaction != eg.all(egp.REQUEST)[0].transaction)
        shorts = {m.body[1] for m in eg.all(egp.REQUEST)}
        self.assertEqual(len(shorts), 1)

    def test_beacon_is_the_configured_one(self):
        self.eg()
        p = Peer(self.medium, 1)
        p.emit(bytes.fromhex("030864ffffffff07"))
        f = p.next(lambda b: b[0] & 7 == 0)
        self.assertEqual(f[3:], bytes.fromhex("621a0000ffcf0000002284ddddddddddddddddffffff00"))

    # --- downlink ---
    def test_poll_by_either_address_and_pending_bit_is_exact(self):
        eg = self.eg(approve)
        p, short = self.joined_peer(eg)
        self.assertIsNone(p.poll(10, short))
        for i, by in enumerate((short, None)):
            eg.send(egp.DOWNLINK, 77 + i, GATEWAY, p.eui, egp.TO_GATEWAY, [short, True, sealed_frame(short, 100 + i)])
            time.sleep(0.1)
            if by is None:  # the frame that follows an extended poll is still addressed by short
                p.emit(bytes.fromhex("63c814") + struct.pack("<HH", PAN, 0) + eui_bytes(p.eui) + b"\x04")
                self.assertTrue(p.ack_of(0x14))
                f = p.next(lambda b: b[0] & 7 == 1)
                p.acknowledge(f)
            else:
                f = p.poll(11 + i, by)
            self.assertEqual(f[9:], sealed_frame(short, 100 + i))
            self.assertEqual(eg.wait(lambda m: m.type == egp.TX_RESULT and m.transaction == 77 + i).body[0], 0)
        self.assertIsNone(p.poll(20, short))

    def test_frames_leave_in_counter_order_and_late_ones_are_stale(self):
        eg = self.eg(approve)
        p, short = self.joined_peer(eg)
        for counter in (203, 201, 202):
            eg.send(egp.DOWNLINK, counter, GATEWAY, p.eui, egp.TO_GATEWAY, [short, True, sealed_frame(short, counter)])
        time.sleep(0.1)
        got = [struct.unpack("<I", p.poll(30 + i, short)[9 + 9:9 + 13])[0] for i in range(3)]
        self.assertEqual(got, [201, 202, 203])
        eg.send(egp.DOWNLINK, 900, GATEWAY, p.eui, egp.TO_GATEWAY, [short, True, sealed_frame(short, 202)])
        stale = eg.wait(lambda m: m.type == egp.STALE)
        self.assertEqual((stale.transaction, stale.body), (900, [202, 203]))
        self.assertIsNone(p.poll(40, short))

    def test_first_key_overtakes_and_takes_nothing_away(self):
        """Anybody may have associated in the device's name; what was proved, the EG tells."""
        eg = self.eg(approve)
        p, short = self.joined_peer(eg)
        eg.send(egp.DEVICE_STATE, 20, GATEWAY, p.eui, egp.TO_GATEWAY, [ENROLLED, 0, short])
        eg.send(egp.DOWNLINK, 1, GATEWAY, p.eui, egp.TO_GATEWAY, [short, True, sealed_frame(short, 500)])
        eg.send(egp.DOWNLINK, 2, GATEWAY, p.eui, egp.TO_GATEWAY, [short, True, sealed_frame(short, 501)])
        p.associate(10)
        time.sleep(0.6)
        self.assertIsNotNone(p.poll(50))  # the association response
        self.assertEqual(p.poll(51, short)[9:], first_key(p.eui, short, 4096))
        self.assertEqual(p.poll(52, short)[9:], sealed_frame(short, 500))
        eg.send(egp.DEVICE_STATE, 21, GATEWAY, p.eui, egp.TO_GATEWAY, [JOINING, 0, short])
        self.assertEqual(eg.wait(lambda m: m.type == egp.TX_RESULT and m.transaction == 2).body, [2, 0])
        eg.send(egp.DOWNLINK, 3, GATEWAY, p.eui, egp.TO_GATEWAY, [short, True, sealed_frame(short, 1)])
        eg.send(egp.DEVICE_STATE, 22, GATEWAY, p.eui, egp.TO_GATEWAY, [JOINING, 0, short])  # once is enough
        time.sleep(0.1)
        self.assertEqual(p.poll(53, short)[9:], sealed_frame(short, 1))

    # --- spoofed requests ---
    def bare_rejoin(self, eui, short, capability=0x80, seq=1):
        """From anywhere, in the device's name."""
        nwk = struct.pack("<HHHBB", 0x1009, 0x0000, short, 1, seq) + eui_bytes(eui) + bytes([0x06, capability])
        Peer(self.medium, 9).emit(struct.pack("<HBHHH", 0x8861, seq, PAN, 0x0000, short) + nwk)

    def test_refused_rejoin_does_nothing_to_an_association(self):
        eg = self.eg(lambda m: refuse(13)(m) if m.type == egp.REQUEST and m.body[5] == 2 else approve(m))
        p = Peer(self.medium, 0x00158D0003AAAA04)
        p.associate()
        short = eg.wait(lambda m: m.type == egp.REQUEST).body[1]
        self.bare_rejoin(p.eui, short)
        eg.wait(lambda m: m.type == egp.REQUEST and m.body[5] == 2)
        time.sleep(0.2)
        self.assertEqual(p.poll(2)[-4:], b"\x02" + struct.pack("<H", short) + b"\x00")
        self.assertEqual(p.poll(3, short)[9:], first_key(p.eui, short, 4096))

    def test_claims_of_an_address_keep_nobody_from_it(self):
        """zbgwd knows none of the devices: two claim an address, then the EG says whose it is."""
        eg = self.eg()
        real, other, short = 0x00158D0003AAAA05, 0x00158D0003AAAA06, 0x2345
        for seq, eui in ((1, other), (2, real)):
            self.bare_rejoin(eui, short, seq=seq)
            self.assertEqual(eg.wait(lambda m: m.type == egp.REQUEST and m.device == eui).body[1], short)
        eg.send(egp.DEVICE_STATE, 20, GATEWAY, real, egp.TO_GATEWAY, [ENROLLED, 0, short])
        eg.send(egp.DOWNLINK, 1, GATEWAY, real, egp.TO_GATEWAY, [short, True, sealed_frame(short, 7)])
        time.sleep(0.1)
        p = Peer(self.medium, real)
        p.emit(bytes.fromhex("63c809") + struct.pack("<HH", PAN, 0) + eui_bytes(real) + b"\x04")
        self.assertTrue(p.ack_of(9))  # known by its extended address, too
        self.assertEqual(p.next(lambda b: b[0] & 7 == 1)[9:], sealed_frame(short, 7))
        asked = len(eg.all(egp.REQUEST))
        self.bare_rejoin(real, 0x2346, seq=4)
        time.sleep(1.2)  # longer than between two repetitions of a request
        self.assertEqual({m.body[1] for m in eg.all(egp.REQUEST)[asked:]}, {short})

    def test_requests_in_both_ways_are_answered_in_both(self):
        """Somebody says of a device that polls that it hears, and of one that hears that it polls."""
        answer = []
        eg = self.eg(lambda m: approve(m) if answer else None)
        for n, (real, claimed) in enumerate(((0x80, 0x8c), (0x8c, 0x80))):
            answer.clear()
            p = Peer(self.medium, 0x00158D0003AAAA10 + n)
            p.associate(seq=1, capability=claimed)
            p.associate(seq=2, capability=real)
            short = eg.wait(lambda m: m.type == egp.REQUEST and m.device == p.eui).body[1]
            answer.append(True)
            time.sleep(0.7)
            self.assertIsNotNone(p.poll(3))
            direct = p.next(lambda b: b[0] & 7 == 1 and b[5:7] == struct.pack("<H", short))
            self.assertEqual(direct[9:], first_key(p.eui, short, 4096))
            if real == 0x8c:
                p.acknowledge(direct)
            else:
                time.sleep(0.4)
                self.assertEqual(p.poll(4, short)[9:], first_key(p.eui, short, 4096))
            self.assertEqual(eg.wait(lambda m: m.type == egp.TX_RESULT and m.device == p.eui).body[0], 0)

    def test_commands_of_the_mac_that_only_a_parent_or_a_child_may_send(self):
        """Disassociation, orphan and coordinator realignment, beacons, acknowledgements out of place."""
        eg = self.eg(approve)
        p, short = self.joined_peer(eg)
        eg.send(egp.DOWNLINK, 1, GATEWAY, p.eui, egp.TO_GATEWAY, [short, True, sealed_frame(short, 500)])
        eui, pan = eui_bytes(p.eui), struct.pack("<H", PAN)
        gateway = eui_bytes(GATEWAY)
        for payload in (b"\x03\x01", b"\x03\x02", b"\x06", b"\x08" + pan + b"\0\0\x0f" + struct.pack("<H", short), b"\x05"):
            p.emit(b"\x63\xcc\x30" + pan + gateway + eui + payload)
            p.emit(b"\x63\x88\x31" + pan + b"\0\0" + struct.pack("<H", short) + payload)
            p.emit(b"\x03\xc8\x32\xff\xff\xff\xff" + pan + eui + payload)
        p.emit(b"\x00\x80\x33" + pan + b"\0\0" + bytes.fromhex("ffcf0000002284ddddddddddddddddffffff01"))
        for seq in range(256):
            p.emit(bytes([2, 0, seq]))
        time.sleep(0.1)
        self.assertEqual(Peer(self.medium, p.eui).poll(40, short)[9:], sealed_frame(short, 500))
        self.assertEqual(len(eg.all(egp.REQUEST)), 1)
        self.assertEqual(eg.all(egp.UPLINK), [])

    def test_key_of_a_rejoin_overtakes_and_takes_nothing_away(self):
        """Anybody may have asked for it; counters go on under it."""
        eg = self.eg(approve)
        p, short = self.joined_peer(eg)
        eg.send(egp.DOWNLINK, 1, GATEWAY, p.eui, egp.TO_GATEWAY, [short, True, sealed_frame(short, 500)])
        eg.send(egp.DOWNLINK, 2, GATEWAY, p.eui, egp.TO_GATEWAY, [short, True, first_key(p.eui, short, 4097)])
        time.sleep(0.1)
        self.assertEqual(p.poll(50, short)[9:], first_key(p.eui, short, 4097))
        self.assertEqual(p.poll(51, short)[9:], sealed_frame(short, 500))

    def test_unacknowledged_indirect_frame_waits_for_next_poll(self):
        eg = self.eg(approve)
        p, short = self.joined_peer(eg)
        eg.send(egp.DOWNLINK, 5, GATEWAY, p.eui, egp.TO_GATEWAY, [short, True, sealed_frame(short, 300)])
        time.sleep(0.1)
        self.assertIsNotNone(p.poll(60, short, acknowledge=False))
        time.sleep(0.4)
        self.assertEqual(eg.all(egp.TX_RESULT)[1:], [])
        self.assertIsNotNone(p.poll(61, short))
        self.assertEqual(eg.wait(lambda m: m.type == egp.TX_RESULT and m.transaction == 5).body, [0, 5])

    def test_direct_frame_without_acknowledgement_is_reported(self):
        eg = self.eg()
        eg.send(egp.DOWNLINK, 6, GATEWAY, 0, egp.TO_GATEWAY, [0x4321, False, sealed_frame(0x4321, 1)])
        self.assertEqual(eg.wait(lambda m: m.type == egp.TX_RESULT).body, [1, 4])

    def test_queue_is_bounded(self):
        eg = self.eg(approve)
        p, short = self.joined_peer(eg)
        for i in range(5):
            eg.send(egp.DOWNLINK, 100 + i, GATEWAY, p.eui, egp.TO_GATEWAY, [short, True, sealed_frame(short, 600 + i)])
        self.assertEqual(eg.wait(lambda m: m.type == egp.TX_RESULT and m.transaction == 104).body, [2, 0])

    def test_revoked_device_loses_its_queue_and_is_refused(self):
        revoked = False
        eg = self.eg(lambda m: approve(m) if not revoked else None)
        p, short = self.joined_peer(eg)
        eg.send(egp.DOWNLINK, 7, GATEWAY, p.eui, egp.TO_GATEWAY, [short, True, sealed_frame(short, 700)])
        leave = seal_nwk(NETWORK_KEY, struct.pack("<HHHBB", 0x0209, short, 0, 1, 1), 701, GATEWAY, 0, b"\x04\x40")
        eg.send(egp.DOWNLINK, 9, GATEWAY, p.eui, egp.TO_GATEWAY, [short, True, leave])
        revoked = True
        eg.send(egp.DEVICE_STATE, 8, GATEWAY, p.eui, egp.TO_GATEWAY, [REVOKED, 5, short])
        self.assertEqual(eg.wait(lambda m: m.type == egp.TX_RESULT and m.transaction == 7).body, [2, 0])
        self.assertEqual(p.poll(70, short)[9:], leave)
        p.associate(seq=70)
        self.assertEqual(p.poll(71)[-4:], bytes.fromhex("02ffff02"))

    # --- robustness ---
    def test_garbage_on_the_line_and_in_the_air(self):
        eg = self.eg(approve)
        rng = random.Random(1)
        p = Peer(self.medium, 2)
        for _ in range(200):
            eg.write(rng.randbytes(rng.randrange(1, 900)))
            p.socket.setblocking(True)
            junk = bytes([CHANNEL]) + rng.randbytes(rng.randrange(0, 140))
            p.radio.tx.sendto(junk, ("224.0.0.116", self.medium))
            p.emit(rng.randbytes(rng.randrange(3, 120)))
        eg.send(egp.DOWNLINK, 9, GATEWAY, 0, egp.TO_GATEWAY, [0x4321, False, b"\x08\x00"])
        self.assertEqual(eg.wait(lambda m: m.type == egp.TX_RESULT and m.transaction == 9).body, [1, 0])
        r = self.join()
        self.assertEqual(r.returncode, 0, r.stdout + r.stderr)

    def test_line_comes_back(self):
        first = self.eg()
        first.close()
        self.egs.remove(first)
        eg = self.eg(approve)
        self.assertEqual(eg.wait(lambda m: m.type == egp.HELLO).body,
                         [PAN, CHANNEL, bytes.fromhex("dddddddddddddddd"), 0])
        self.assertEqual(self.join().returncode, 0)

    def test_restart_gives_no_address_twice(self):
        eg = self.eg(approve)
        p, short = self.joined_peer(eg)
        self.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.process.wait(5), 0)
        self.assertEqual((pathlib.Path(self.dir.name) / "devices").read_text(), f"{p.eui:016x} {short:04x}\n")
        self.begin()
        eg = self.eg(approve)
        p.associate(seq=99)
        self.assertEqual(eg.wait(lambda m: m.type == egp.REQUEST).body[1], short)

    def test_capture_holds_good_frames(self):
        self.eg(approve)
        self.assertEqual(self.join().returncode, 0)
        try:
            out = subprocess.run(["tshark", "-r", self.pcap, "-o", "wpan.fcs_format:ITU-T CRC-16", "-T", "fields", "-e",
                                  "wpan.fcs_ok", "-e", "zbee_aps.cmd.id", "-e", "wpan.frame_type"], check=True,
                                 capture_output=True, text=True, env=dict(os.environ, HOME=self.dir.name)).stdout
        except FileNotFoundError:
            self.skipTest("no tshark")
        rows = [line.split("\t") for line in out.splitlines()]
        self.assertGreater(len(rows), 10)
        self.assertTrue(all(r[0] in ("1", "True") for r in rows), out)


class ConfigTest(unittest.TestCase):
    def check(self, text):
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as f:
            f.write(text)
            f.flush()
            return subprocess.run([ZBGWD, "--check-config", "--config", f.name], capture_output=True, text=True)

    def test_sample_is_right_with_and_without_its_comments(self):
        sample = (HERE.parent.parent / "config" / "zbgwd.conf").read_text()
        for text in (sample, re.sub(r"(?m)^#([a-z-]+ = )", r"\1", sample)):
            r = self.check(text)
            self.assertEqual(r.returncode, 0, r.stderr)

    def test_errors_name_their_place(self):
        sample = (HERE.parent.parent / "config" / "zbgwd.conf").read_text()
        for a, b, word in (("eui64 = 00124b", "eui64 = 00124", "eui64"), ("pan-id = 1a62", "pan-id = ffff", "pan-id"),
                           ("driver = udp", "driver = smoke", "driver"), ("line = pty", "line = carrier", "line"),
                           ("#channel = 15", "channel = 27", "channel"), ("#channel = 15", "chanel = 15", "chanel")):
            r = self.check(sample.replace(a, b))
            self.assertEqual(r.returncode, 3, b)
            self.assertIn(word, r.stderr)


class PtyTest(ZbgwdTest):
    line_form = "pty"


for name in [n for n in dir(ZbgwdTest) if n.startswith("test_")]:
    if name not in ("test_awake_device_joins_and_reports", "test_garbage_on_the_line_and_in_the_air"):
        setattr(PtyTest, name, None)  # these two say enough about the line


class ManyTest(ZbgwdCase):
    def test_many_devices_at_once(self):
        eg = self.eg(approve)
        peers = [Peer(self.medium, 0x00158D0004000000 + i) for i in range(40)]
        for p in peers:
            p.emit(bytes.fromhex("23c801") + struct.pack("<HHH", PAN, 0, 0xFFFF) + eui_bytes(p.eui) + b"\x01\x80")
        for p in peers:
            eg.wait(lambda m, p=p: m.type == egp.REQUEST and m.device == p.eui)
        shorts = {m.body[1] for m in eg.all(egp.REQUEST)}
        self.assertEqual(len(shorts), len(peers))
        for p in peers:
            while select.select([p.socket], [], [], 0)[0]:
                p.socket.recv(200)
            f = p.poll(2)
            self.assertIsNotNone(f)
            self.assertEqual(f[-1], 0)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
