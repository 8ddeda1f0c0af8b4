"""What must be refused, each with the protocol's own clear error; nothing changes in the database, no counter moves, all
processes go on, and afterwards a device still joins."""
import json
import socket
import subprocess
import time
import unittest
from datetime import datetime, timedelta, timezone

import common
from coapclient import (ACCEPT, BLOCK1, CBOR, CONTENT_FORMAT, GET, JSON, OCTETS, POST, TY, CoapClient, HandshakeRefused, eg_message,
                        eg_request, eg_response, uint)
from stack import AE_ID, ADMIN, install_code, random_eui64

OTHER_AE = "//example.org/in-cse/Cother"
UNKNOWN_DEVICE, CODE_EXPIRED, NOT_BOUND, CONFLICT = 1, 2, 11, 12
MEBIBYTE = 1 << 20


class Hostile(common.StackTest):
    """One enrolled device, one registered AE, one AE that is no target."""

    @classmethod
    def prepare(cls):
        s = cls.stack
        cls.eui, cls.code = random_eui64(), install_code()
        s.register_code(cls.eui, cls.code)
        joiner = s.join(cls.eui, cls.code, "--report", "0x0402/0/s16/2150/1", "--reports", "1", "--linger", "0")
        assert joiner.wait_event(8, event="reported"), joiner.tail()
        s.wait_state(cls.eui, "enrolled")
        cls.key_id = s.mefkey("find", cls.eui)[1]
        assert cls.key_id, s.mefkey("find", cls.eui)
        cls.other = s.must("POST", "/v1/credentials", {"for": OTHER_AE, "kind": "psk"})
        time.sleep(0.3)

    def setUp(self):
        self.before = self.stack.database()

    def tearDown(self):
        s = self.stack
        for p in (s.mefd, s.ipe, s.gateway):
            self.assertTrue(p.running(), f"{p.name} ended:\n{p.tail()}")
        self.assertEqual(self.changes(), [], "the database changed")

    def changes(self) -> list:
        after = self.stack.database()
        return sorted((table, key.hex()) for table, key in self.before.keys() | after.keys()
                      if self.before.get((table, key)) != after.get((table, key)))

    def client(self, credential: dict) -> CoapClient:
        c = CoapClient(self.stack.coaps, credential["kpmId"], credential["kpm"])
        self.addCleanup(c.close)
        return c

    def post_eg(self, client: CoapClient, message: bytes):
        return client.request(POST, "mef/eg", [(CONTENT_FORMAT, uint(CBOR))], message)

    def test_the_comparison_sees_changes(self):
        """The control for all the others: what is accepted does show, a counter too."""
        self.stack.register_code(random_eui64(), install_code())
        self.assertIn("install_code", {table for table, _ in self.changes()})
        self.assertEqual(self.stack.mefkey("ticket", self.eui)[0], 0)
        self.assertIn("counter", {table for table, _ in self.changes()})
        self.before = self.stack.database()

    # --- who are you ----------------------------------------------------------------------------------------------------

    def test_wrong_psk(self):
        with self.assertRaises(HandshakeRefused):
            CoapClient(self.stack.coaps, self.stack.ae["kpmId"], "00" * 32, timeout=2)

    def test_unknown_identity(self):
        with self.assertRaises(HandshakeRefused) as refused:
            CoapClient(self.stack.coaps, "nobody@" + ADMIN, "00" * 32, timeout=2)
        self.assertIn("alert", str(refused.exception))

    def test_from_is_not_the_authenticated_identity(self):
        answer = self.client(self.other).request(GET, "mef/" + self.key_id, [(ACCEPT, uint(JSON))], origin=AE_ID)
        self.assertEqual((answer.dotted, answer.rsc), ("4.03", 4106))
        self.assertNotIn(b"kv", answer.payload)

    def test_without_from(self):
        answer = self.client(self.stack.ae).request(GET, "mef/" + self.key_id, [(ACCEPT, uint(JSON))])
        self.assertEqual(answer.dotted, "4.00")

    # --- what may you ---------------------------------------------------------------------------------------------------

    def test_ae_that_is_no_target(self):
        c = self.client(self.other)
        eui = self.eui
        answer = c.request(GET, "mef/" + self.key_id, [(ACCEPT, uint(JSON))], origin=OTHER_AE)
        self.assertEqual((answer.dotted, answer.rsc), ("4.03", 4103))
        for path in (f"mef/eg/frames/{eui}", f"mef/eg/devices/{eui}"):
            answer = c.request(GET, path, [(ACCEPT, uint(OCTETS if "frames" in path else JSON))], origin=OTHER_AE)
            self.assertIn(answer.dotted, ("4.03", "4.04"), path)
        answer = c.request(POST, f"mef/eg/devices/{eui}/ticket", [(CONTENT_FORMAT, uint(JSON))], b'{"count":1}', origin=OTHER_AE)
        self.assertIn(answer.dotted, ("4.03", "4.04"))
        status, out, err = self.stack.mefkey("get", self.key_id, "--stdout", credential=self.other, ae_id=OTHER_AE)
        self.assertEqual((status, out), (5, ""))
        self.assertIn("4103", err)

    def test_ae_posts_an_eg_request(self):
        s = self.stack
        answer = self.post_eg(self.client(s.ae), eg_request(77, s.gateway_eui, self.eui))
        self.assertEqual(answer.dotted, "4.03")
        self.assertEqual(eg_response(answer.payload), (NOT_BOUND, b""))

    def test_gateway_of_another_eui64(self):
        answer = self.post_eg(self.client(self.stack.gw_credential), eg_request(78, "00124b00deadbeef", self.eui))
        self.assertEqual(answer.dotted, "4.03")
        self.assertEqual(eg_response(answer.payload), (NOT_BOUND, b""))

    def test_gateway_asks_for_a_key(self):
        s = self.stack
        c = self.client(s.gw_credential)
        for origin in (f"gateway:{s.gateway_eui}", AE_ID):
            answer = c.request(GET, "mef/" + self.key_id, [(ACCEPT, uint(JSON))], origin=origin)
            self.assertGreaterEqual(answer.code, 4 << 5)
            self.assertNotIn(b"kv", answer.payload)

    # --- which device ----------------------------------------------------------------------------------------------------

    def test_unregistered_device(self):
        s = self.stack
        answer = self.post_eg(self.client(s.gw_credential), eg_request(79, s.gateway_eui, random_eui64()))
        self.assertEqual(eg_response(answer.payload), (UNKNOWN_DEVICE, b""))

    def test_unregistered_device_on_the_air(self):
        joiner = self.stack.join(random_eui64(), install_code(), "--attempts", "1")
        self.assertIsNone(joiner.wait_event(6, event="joined"))
        self.assertEqual(joiner.stop(), 1)

    def test_bad_crc(self):
        code = install_code()
        bad = code[:-1] + ("0" if code[-1] != "0" else "1")
        status, answer = self.stack.rest("PUT", f"/v1/install-codes/{random_eui64()}", {"installCode": bad, "targets": [AE_ID]})
        self.assertEqual((status, answer.get("code"), answer.get("field")), (400, "bad-crc", "installCode"))
        self.assertNotIn(bad[:16].lower(), json.dumps(answer).lower())

    # --- what is that -----------------------------------------------------------------------------------------------------

    def test_truncated_eg_request(self):
        s = self.stack
        c = self.client(s.gw_credential)
        whole = eg_request(80, s.gateway_eui, self.eui)
        for n in range(1, len(whole)):
            self.assertEqual(self.post_eg(c, whole[:n]).dotted, "4.00", f"{n} bytes")

    def test_mangled_eg_request(self):
        s = self.stack
        c = self.client(s.gw_credential)
        whole = eg_request(81, s.gateway_eui, random_eui64())
        for n in range(len(whole)):
            answer = self.post_eg(c, whole[:n] + bytes([whole[n] ^ 0x80]) + whole[n + 1:])
            self.assertTrue(answer.code >= 4 << 5 or eg_response(answer.payload)[1] == b"", f"byte {n}: {answer.dotted}")

    def test_body_of_one_mebibyte_by_rest(self):
        status, _ = self.stack.rest("PUT", f"/v1/install-codes/{random_eui64()}", '{"installCode":"' + "0" * MEBIBYTE + '"}')
        self.assertEqual(status, 413)

    def test_body_of_one_mebibyte_by_coap(self):
        c = self.client(self.stack.ae)
        for number in range(MEBIBYTE // 1024):
            more = 8 if number < MEBIBYTE // 1024 - 1 else 0
            answer = c.request(POST, "mef", [(CONTENT_FORMAT, uint(JSON)), (BLOCK1, uint(number << 4 | more | 6)), (TY, uint(60002))],
                               b"x" * 1024, origin=AE_ID, rqi="large")
            if answer.code != 0x5F:  # 2.31 Continue
                break
        self.assertEqual(answer.dotted, "4.13")
        self.assertLess(number, 128)

    def test_deep_and_broken_json(self):
        c = self.client(self.stack.ae)
        for body in (b"{", b"[" * 2000, b"\xff\xfe", b'{"sec:mecr":{"et":1}}', b'{"sec:mecr":{},"sec:mecr":{}}', b"null"):
            answer = c.request(POST, "mef", [(CONTENT_FORMAT, uint(JSON)), (TY, uint(60002))], body, origin=AE_ID)
            self.assertEqual((answer.dotted, answer.rsc), ("4.00", 4000), body[:30])

    def test_garbage_on_the_uart(self):
        """To ipe-nid as its peer, then to zbgwd as its peer; both find back to each other (test_zz)."""
        s = self.stack
        noise = bytes(range(256)) * 40 + b"\x7e" * 20 + b"\x7e\x7d\x7e" + b"\x7e" + b"A" * 5000 + b"\x7e"
        with socket.create_connection(("127.0.0.1", s.egp_port), timeout=5) as line:
            line.sendall(noise)
            time.sleep(0.3)
        s.ipe.stop()
        s.processes.remove(s.ipe)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("127.0.0.1", s.egp_port))
            server.listen(1)
            server.settimeout(20)
            line, _ = server.accept()
            line.sendall(noise)
            time.sleep(0.3)
            line.close()
        s.start_ipe()

    def test_second_mefd_on_one_database(self):
        done = subprocess.run([self.stack.program("mefd"), "--config", self.stack.mefd_conf], capture_output=True, text=True, timeout=20)
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stderr, r"(?i)lock|in use|another")

    def test_zz_a_device_still_joins(self):
        """Last by name: after all that, the main job."""
        s, eui, code = self.stack, random_eui64(), install_code()
        s.register_code(eui, code)
        joiner = s.join(eui, code, "--report", "0x0402/0/s16/2150/0.5", "--attempts", "10")
        self.assertIsNotNone(joiner.wait_event(12, event="joined"), joiner.tail())
        s.wait_state(eui, "enrolled")
        follow = s.follow(eui, "--count", "1")
        self.assertEqual(follow.wait_event(8, cluster=0x0402)["value"], 21.5)
        joiner.stop()
        self.before = s.database()


class Expired(common.StackTest):
    def test_expired_code(self):
        s, eui = self.stack, random_eui64()
        ends = (datetime.now(timezone.utc) + timedelta(seconds=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
        s.register_code(eui, install_code(), expiresAt=ends)
        time.sleep(2.5)
        before = s.database()
        c = CoapClient(s.coaps, s.gw_credential["kpmId"], s.gw_credential["kpm"])
        self.addCleanup(c.close)
        answer = c.request(POST, "mef/eg", [(CONTENT_FORMAT, uint(CBOR))], eg_request(90, s.gateway_eui, eui))
        self.assertEqual(eg_response(answer.payload), (CODE_EXPIRED, b""))
        self.assertEqual(s.database(), before)


if __name__ == "__main__":
    unittest.main()
