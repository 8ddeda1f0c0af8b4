#!/usr/bin/python3
"""ipe-nid alone: a scripted gateway on its line, a scripted MEF on its session.
Usage: test_ipe_nid.py IPE_NID MEF_PEER ZBGWD"""
import os
import pathlib
import pty
import queue
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "interop")]
import egp  # noqa: E402
from relay import Relay  # noqa: E402

IPE_NID, MEF_PEER, ZBGWD = (sys.argv.pop(1) for _ in range(3))
KEY, IDENTITY = "00112233445566778899aabbccddeeff", "gateway-1"
GATEWAY, DEVICE = 0x00124B001CA1B2C3, 0x00158D0003123456
C204, C403, C503, C400 = 0x44, 0x83, 0xA3, 0x80


def hello(transaction=1):
    return egp.message(egp.HELLO, transaction, GATEWAY, 0, egp.TO_EG, [0x1A62, 15, bytes(7) + b"\x01", 0])


def uplink(transaction, device=DEVICE, frame=b"\x08\x02" + bytes(20)):
    return egp.message(egp.UPLINK, transaction, GATEWAY, device, egp.TO_EG, [0x1F2E, 255, frame])


def request(transaction, device=DEVICE):
    return egp.message(egp.REQUEST, transaction, GATEWAY, device, egp.TO_EG, [0, 0x1F2E, 0x1A62, 0, 0x80, 0, b""])


def downlink(transaction=5):
    return egp.message(egp.DOWNLINK, transaction, GATEWAY, DEVICE, egp.TO_GATEWAY, [0x1F2E, False, b"\x08\x02" + bytes(20)])


class Mef:
    def __init__(self, port=0, key=KEY):
        self.process = subprocess.Popen([MEF_PEER, IDENTITY, key, str(port)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.port = int(self.expect("port")[0])

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.split())

    def expect(self, word, timeout=8.0):
        """Arguments of the next such line; others before it are skipped."""
        end = time.monotonic() + timeout
        while True:
            try:
                line = self.lines.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no '{word}' from the MEF's side") from None
            if line[0] == word:
                return line[1:]

    def none(self, word, seconds):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                if self.lines.get(timeout=left)[0] == word:
                    return False
            except queue.Empty:
                break
        return True

    def request(self):
        """Take a request and accept it."""
        self.respond(self.raw()[0])

    def raw(self, timeout=8.0):
        id_, body = self.expect("req", timeout)
        return id_, bytes.fromhex(body)

    def respond(self, id_, code=C204, body=b""):
        self.say(f"rsp {id_} {code} {body.hex() or '-'}")

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def close(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait()
        self.process.stdin.close()


class IpeNidTest(unittest.TestCase):
    extra = ""

    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.d = pathlib.Path(self.dir.name)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(5)
        self.line_spec = f"tcp:127.0.0.1:{self.listener.getsockname()[1]}"
        self.mef = Mef()
        self.process, self.deframer, self.sock = None, egp.Deframer(), None

    def begin(self, mef_port=None, key=KEY, extra=""):
        (self.d / "psk").write_text(key + "\n")
        os.chmod(self.d / "psk", 0o600)
        self.config = self.d / "ipe-nid.conf"
        self.config.write_text(f"[egp]\nline = {self.line_spec}\n[mef]\nuri = coaps://127.0.0.1:{mef_port or self.mef.port}\n"
                               f"identity = {IDENTITY}\npsk-file = psk\nack-timeout = 200\n{extra}")
        self.log = open(self.d / "log", "w+")
        self.process = subprocess.Popen([IPE_NID, "--config", self.config, "--pcap", self.d / "egp.pcap"], stderr=self.log)
        if self.line_spec.startswith("tcp:"):
            self.accept()

    def accept(self):
        self.sock, _ = self.listener.accept()
        self.sock.settimeout(5)

    def tearDown(self):
        if self.process is not None:
            alive = self.process.poll() is None
            self.process.send_signal(signal.SIGTERM)
            code = self.process.wait(6)
            self.log.seek(0)
            text = self.log.read()
            self.log.close()
            self.assertNotIn(KEY, text)
        self.mef.close()
        if self.sock:
            self.sock.close()
        self.listener.close()
        self.dir.cleanup()
        if self.process is not None:
            self.assertTrue(alive and code == 0, f"ipe-nid ended with {code}: {text}")

    def up(self, *messages):
        for m in messages:
            self.sock.sendall(egp.frame(m))

    def down(self):
        """The next message on the line."""
        while True:
            for m in self.deframer.feed(self.sock.recv(4096)):
                return m

    def quiet(self, seconds=0.4):
        self.sock.settimeout(seconds)
        try:
            return list(self.deframer.feed(self.sock.recv(4096))) == []
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(5)

    def test_request_goes_up_and_its_answer_comes_down(self):
        self.begin()
        self.up(hello(), request(7))
        id_, body = self.mef.raw()
        self.assertEqual(body, hello())
        self.mef.respond(id_)
        id_, body = self.mef.raw()
        self.assertEqual(body, request(7))
        answer = egp.message(egp.RESPONSE, 7, GATEWAY, DEVICE, egp.TO_GATEWAY, [1, 0, False, b""])
        self.mef.respond(id_, C204, answer)
        self.assertEqual(self.down(), answer)

    def test_refusal_with_a_body_is_passed_down(self):
        self.begin()
        self.up(request(7))
        id_, _ = self.mef.raw()
        answer = egp.message(egp.RESPONSE, 7, GATEWAY, DEVICE, egp.TO_GATEWAY, [11, 0, False, b""])
        self.mef.respond(id_, C403, answer)
        self.assertEqual(self.down(), answer)

    def test_downlink_is_accepted_and_wrong_ones_refused(self):
        self.begin()
        self.up(hello())
        self.mef.request()
        self.mef.say(f"send 1 {downlink().hex()}")
        self.assertEqual(self.mef.expect("ans"), ["1", str(C204)])
        self.assertEqual(self.down(), downlink())
        self.mef.say(f"send 2 {uplink(1).hex()}")
        self.assertEqual(self.mef.expect("ans"), ["2", str(C400)])
        self.mef.say(f"send 3 {downlink().hex()[:-4]}")
        self.assertEqual(self.mef.expect("ans"), ["3", str(C400)])
        self.assertTrue(self.quiet())

    def test_downlink_without_a_gateway_is_unavailable(self):
        self.begin()
        self.up(hello())
        self.mef.request()
        self.sock.close()
        self.listener.close()
        time.sleep(0.2)
        self.mef.say(f"send 1 {downlink().hex()}")
        self.assertEqual(self.mef.expect("ans"), ["1", str(C503)])

    def test_garbage_on_the_line_goes_nowhere(self):
        self.begin()
        rng = random.Random(3)
        for _ in range(100):
            self.sock.sendall(rng.randbytes(rng.randrange(1, 900)))
            self.sock.sendall(egp.frame(rng.randbytes(rng.randrange(1, 500))))
        self.up(downlink())  # wrong way
        self.up(egp.dumps([[2, 0, 1, bytes(8), bytes(8), 0, 15, 0], b""]))  # another version
        self.up(uplink(9))
        self.assertEqual(self.mef.raw()[1], uplink(9))

    def test_requests_overtake_uplinks(self):
        self.begin()
        self.up(hello())
        self.mef.request()
        for i in range(20):
            self.up(uplink(100 + i, DEVICE + i))
        first = [self.mef.raw() for _ in range(6)]  # eight places, two kept
        self.assertTrue(self.mef.none("req", 0.3))
        self.up(request(7), request(8, DEVICE + 1))
        self.assertEqual({self.mef.raw()[1], self.mef.raw()[1]}, {request(7), request(8, DEVICE + 1)})
        for id_, _ in first:
            self.mef.respond(id_)
        self.assertEqual(egp.Message(self.mef.raw()[1]).transaction, 106)

    def test_uplinks_of_one_device_keep_their_order(self):
        self.begin()
        self.up(*(uplink(100 + i) for i in range(30)))
        got = []
        for _ in range(30):
            id_, body = self.mef.raw()
            self.assertTrue(self.mef.none("req", 0.01))
            got.append(egp.Message(body).transaction)
            self.mef.respond(id_)
        self.assertEqual(got, [100 + i for i in range(30)])

    def test_oldest_uplink_makes_room(self):
        self.begin(extra="queue = 8\nkeepalive = 3600\n")
        self.up(hello())
        self.mef.request()
        self.up(*(uplink(100 + i) for i in range(20)))
        time.sleep(0.3)
        self.up(request(7))
        seen = []
        for _ in range(8):
            id_, body = self.mef.raw()
            seen.append(egp.Message(body).transaction)
            self.mef.respond(id_)
        self.assertEqual(seen, [100, 7] + list(range(114, 120)))

    def test_mef_restarts_and_hello_is_replayed(self):
        self.begin()
        self.up(hello())
        self.mef.request()
        port = self.mef.port
        self.mef.close(signal.SIGKILL)
        self.mef = Mef(port)
        self.up(request(7))
        bodies = [self.mef.raw(15)[1] for _ in range(2)]
        self.assertEqual(set(bodies), {hello(), request(7)})

    def test_nothing_is_lost_while_the_mef_is_away(self):
        port = self.mef.port
        self.mef.close()
        self.begin(port)
        self.up(*(uplink(100 + i) for i in range(10)))
        time.sleep(0.5)
        self.mef = Mef(port)
        got = []
        for _ in range(10):
            id_, body = self.mef.raw(15)
            got.append(egp.Message(body).transaction)
            self.mef.respond(id_)
        self.assertEqual(got, list(range(100, 110)))

    def test_a_lost_message_ends_no_session_in_which_others_are_answered(self):
        relay = Relay("127.0.0.1", self.mef.port, 5, loss=0, double=0, late=0)
        self.addCleanup(relay.close)
        self.begin(relay.port)
        self.up(hello())
        self.mef.request()
        relay.loss = 0.2
        self.up(*(uplink(100 + i, DEVICE + i) for i in range(80)))
        got = set()
        while len(got) < 60:  # the last ones have nobody beside them
            id_, body = self.mef.raw(15)
            got.add(body)
            self.mef.respond(id_)
        self.assertGreater(relay.lost, 10)
        self.log.seek(0)
        self.assertNotIn("mef.lost", self.log.read())

    def test_line_comes_back(self):
        self.begin()
        self.sock.close()
        self.accept()
        self.up(uplink(1))
        self.assertEqual(self.mef.raw()[1], uplink(1))

    def test_wrong_key_never_connects_but_stays(self):
        self.begin(key="ff" * 16)
        self.up(uplink(1))
        self.assertTrue(self.mef.none("req", 1.5))
        (self.d / "psk").write_text(KEY)
        self.process.send_signal(signal.SIGHUP)
        self.assertEqual(self.mef.raw(20)[1], uplink(1))

    def test_capture_holds_both_directions(self):
        self.begin()
        self.up(hello())
        self.mef.request()
        self.mef.say(f"send 1 {downlink().hex()}")
        self.mef.expect("ans")
        data = (self.d / "egp.pcap").read_bytes()
        self.assertEqual(int.from_bytes(data[20:24], "little"), 147)
        self.assertIn(hello(), data)
        self.assertIn(downlink(), data)

    def test_pty_line(self):
        master, slave = pty.openpty()
        self.line_spec = "pty:" + os.ttyname(slave)
        self.begin()
        os.set_blocking(master, True)
        time.sleep(0.3)
        os.write(master, egp.frame(uplink(3)))
        self.assertEqual(self.mef.raw()[1], uplink(3))
        os.close(slave)
        os.close(master)

    def test_with_zbgwd_over_its_pty_whoever_starts_first(self):
        conf, link = self.d / "zbgwd.conf", self.d / "egp"
        conf.write_text(f"[gateway]\neui64 = {GATEWAY:016x}\npan-id = 1a62\n[radio]\ndriver = udp:224.0.0.116:45991\n"
                        f"[egp]\nline = pty:{link}\n")
        self.line_spec = f"pty:{link}"
        self.begin()
        for _ in range(2):  # the second time ipe-nid finds the line again by itself
            gateway = subprocess.Popen([ZBGWD, "--config", conf], stderr=subprocess.DEVNULL)
            m = self.mef.raw()
            self.assertEqual(egp.Message(m[1]).type, egp.HELLO)
            self.mef.respond(m[0])
            gateway.terminate()
            self.assertEqual(gateway.wait(5), 0)
            self.assertFalse(link.exists())

    def test_configuration_errors_have_their_code(self):
        (self.d / "psk").write_text(KEY)
        os.chmod(self.d / "psk", 0o644)
        good = f"[egp]\nline = tcp:127.0.0.1:1\n[mef]\nuri = coaps://127.0.0.1\nidentity = a\npsk-file = psk\n"
        cases = {"": "mode 0600", "bogus = 1\n": "bogus", "in-flight = 1\n": "in-flight"}
        for extra, word in cases.items():
            (self.d / "c").write_text(good + extra)
            r = subprocess.run([IPE_NID, "--check-config", "--config", self.d / "c"], capture_output=True, text=True)
            self.assertEqual(r.returncode, 3, r.stderr)
            self.assertIn(word, r.stderr)
        os.chmod(self.d / "psk", 0o600)
        sample = (pathlib.Path(__file__).resolve().parents[2] / "config" / "ipe-nid.conf").read_text()
        for text in (sample, re.sub(r"(?m)^#([a-z-]+ = )", r"\1", sample)):
            (self.d / "c").write_text(text.replace("gateway.psk", "psk"))
            r = subprocess.run([IPE_NID, "--check-config", "--config", self.d / "c"], capture_output=True, text=True)
            self.assertEqual(r.returncode, 0, r.stderr)
        (self.d / "c").write_text(good)
        self.assertEqual(subprocess.run([IPE_NID, "--check-config", "--config", self.d / "c"]).returncode, 0)
        self.assertEqual(subprocess.run([IPE_NID, "--nonsense"], capture_output=True).returncode, 2)
        self.assertIn(b"0.", subprocess.run([IPE_NID, "--version"], capture_output=True).stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
