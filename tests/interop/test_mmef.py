#!/usr/bin/env python3
"""A real mefd, spoken to by strangers only: curl for the whole REST, mmef_client.py for Mmef, openssl's own exporter.
Usage: MEFD PLUGIN"""
import base64
import contextlib
import json
import os
import pathlib
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]
import mmef_client as mmef  # noqa: E402
from stack import free_port  # noqa: E402

MEFD, PLUGIN = [os.path.abspath(p) for p in sys.argv[1:3]] if len(sys.argv) > 2 else (None, None)
EUI64, GATEWAY, CODE = "00124b0001020304", "00124b00aabbccdd", "83FE D340 7A93 9723 A5C6 39B2 6916 D505 C3B5"
KEY = bytes(range(16))


def private(path, data):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as f:
        f.write(data)


class Mefd:
    def __init__(self, home):
        self.home, self.coap, self.https = pathlib.Path(home), free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM)
        self.token = secrets.token_urlsafe(32)
        private(self.home / "kek", secrets.token_bytes(32))
        private(self.home / "ops.token", self.token.encode() + b"\n")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                        self.home / "key.pem", "-out", self.home / "cert.pem", "-days", "2", "-subj", "/CN=localhost", "-addext",
                        "subjectAltName=DNS:localhost"], check=True, capture_output=True)
        (self.home / "key.pem").chmod(0o600)
        private(self.home / "mefd.conf", f"""[daemon]
plugin = {PLUGIN}
[coap]
listen = 127.0.0.1:{self.coap}
[https]
listen = 127.0.0.1:{self.https}
certificate = cert.pem
private-key = key.pem
[status]
listen =
[store]
url = sqlite:{self.home}/mef.db
[vault]
kek = kek
[mef]
fqdn = mef.example.com
sp-id = //sp.example.com
[token.ops]
file = ops.token
admin-fqdn = sp.example.com
role = admin
""".encode())
        self.start()

    def start(self):
        with open(self.home / "mefd.log", "ab") as log:
            self.child = subprocess.Popen([MEFD, "--config", self.home / "mefd.conf"], stderr=log)
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.https), 1):
                return
            time.sleep(0.1)
        raise AssertionError((self.home / "mefd.log").read_text())

    def stop(self, how=signal.SIGTERM):
        self.child.send_signal(how)
        return self.child.wait(20)

    def curl(self, method, path, body=None, token=None):
        """(status, parsed body, Location)"""
        args = ["curl", "-sS", "--cacert", self.home / "cert.pem", "-X", method, "-w", "\n%{http_code} %header{location}", "-H",
                "Authorization: Bearer " + (token or self.token), f"https://localhost:{self.https}/v1/{path}"]
        if body is not None:
            args += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        text, _, status = subprocess.run(args, check=True, capture_output=True, text=True).stdout.rpartition("\n")
        code, _, location = status.partition(" ")
        return int(code), json.loads(text) if text else None, location

    def session(self, credential):
        return mmef.Session("127.0.0.1", str(self.coap), mmef.by_key(credential["kpmId"], credential["kpm"]), 20)


class Mmef(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.mefd = Mefd(cls.folder.name)

    @classmethod
    def tearDownClass(cls):
        status = cls.mefd.stop()
        cls.folder.cleanup()
        assert status == 0, "mefd ended with %d" % status

    def credential(self, who):
        status, body, location = self.mefd.curl("POST", "credentials", {"for": who, "kind": "psk"})
        self.assertEqual((status, location), (201, "/v1/credentials/" + body["kpmId"]))
        self.assertRegex(body["kpm"], "^[0-9a-f]{64}$")
        return body

    @contextlib.contextmanager
    def client(self, who):
        session = self.mefd.session(self.credential(who))
        try:
            yield mmef.Client(session, who, "mef")
        finally:
            session.close()

    def deposit(self, client, **more):
        body = {"et": "20991231T000000", "adfq": "sp.example.com", "suid": 24, **more}
        return client.ask(mmef.POST, (2001,), "mef", ty=60004, body={"sec:skr": body})["sec:skr"]

    def run_client(self, credential, who, eui64=EUI64):
        return subprocess.run([sys.executable, HERE / "mmef_client.py", "127.0.0.1", str(self.mefd.coap), credential["kpmId"], "-", "--from",
                               who, "--admin", "sp.example.com", "--eui64", eui64], input=credential["kpm"], capture_output=True, text=True)

    def test_three_calls_also_after_a_crash(self):
        reader = self.credential("C-reader")
        with self.client("C-source") as source:
            source.register("sp.example.com")
            self.deposit(source, tgis=["C-reader"], lbl=["eui64:" + EUI64], kv="AAECAwQFBgcICQoLDA0ODw==")
        for _ in range(2):
            got = self.run_client(reader, "C-reader")
            self.assertEqual((got.returncode, got.stdout), (0, KEY.hex() + "\n"), got.stderr)
            self.mefd.stop(signal.SIGKILL)
            self.mefd.start()
        stranger = self.run_client(self.credential("C-stranger"), "C-stranger")
        self.assertEqual((stranger.returncode, stranger.stdout), (1, ""))
        self.assertEqual(self.run_client(reader, "C-other").returncode, 1)
        self.assertEqual(self.mefd.curl("DELETE", "credentials/" + reader["kpmId"])[0], 204)
        self.assertEqual(self.run_client(reader, "C-reader").returncode, 1)

    def test_exported_key_is_the_clients(self):
        credential, path = self.credential("C-exporter"), self.folder.name + "/exporter.log"
        session = mmef.Session.__new__(mmef.Session)
        session.timeout, session.mid, session.waiting = 20, 1, b""
        with open(path, "wb") as log:
            session.child = subprocess.Popen(
                ["openssl", "s_client", "-dtls1_2", "-connect", f"127.0.0.1:{self.mefd.coap}", *mmef.by_key(credential["kpmId"], credential["kpm"]),
                 "-keymatexport", "EXPORTER-oneM2M-Bootstrap", "-keymatexportlen", "48"], stdin=subprocess.PIPE, stdout=log, stderr=subprocess.DEVNULL, bufsize=0)
        for _ in range(100):
            found = re.search(rb"Keying material: ([0-9A-F]{96})", pathlib.Path(path).read_bytes())
            if found:
                break
            time.sleep(0.1)
        material = bytes.fromhex(found.group(1).decode())
        # its answers are in the log, among its words; the requests only have to arrive
        client = mmef.Client(session, "C-exporter", "mef")
        for ty, body in ((60002, {"sec:mecr": {"et": "20991231T000000", "adfq": "sp.example.com"}}),
                         (60004, {"sec:skr": {"et": "20991231T000000", "adfq": "sp.example.com", "suid": 22, "tgis": ["C-peer"]}})):
            session.mid += 1
            session.send(mmef.encode(mmef.CON, mmef.POST, session.mid, b"t", client.options("mef", ty=ty), json.dumps(body).encode()))
            time.sleep(0.5)
        with self.client("C-peer") as peer:
            skr = peer.ask(mmef.GET, (2000,), "mef/" + material[:16].hex())["sec:skr"]
        session.close()
        self.assertEqual(skr["kv"], base64.b64encode(material[16:]).decode())

    def test_rest(self):
        curl = self.mefd.curl
        kpm_id = self.credential("gateway:hall")["kpmId"]
        lights = {"members": ["C-reader"]}
        code = {"installCode": CODE, "application": "lights", "gateways": [GATEWAY]}
        for method, path, body, wanted in (
                ("PUT", "applications/lights", lights, 201), ("PUT", "applications/lights", lights, 200), ("GET", "applications", None, 200),
                ("GET", "applications/lights", None, 200), ("PUT", "gateways/" + GATEWAY, {"identity": kpm_id, "name": "hall"}, 201),
                ("GET", "gateways", None, 200), ("GET", "gateways/" + GATEWAY, None, 200), ("PUT", "install-codes/" + EUI64, code, 201),
                ("PUT", "install-codes/" + EUI64, code, 200), ("GET", "install-codes/" + EUI64, None, 200),
                ("GET", "install-codes?limit=1", None, 200), ("PUT", "install-codes/" + EUI64, {"installCode": CODE[:-1] + "6"}, 400),
                ("PUT", "install-codes/" + EUI64, {"installCode": CODE, "colour": 1}, 400), ("GET", "devices", None, 200),
                ("GET", "devices/" + EUI64, None, 200), ("POST", f"devices/{EUI64}/rearm", None, 200),
                ("POST", f"devices/{EUI64}/rekey", None, 501), ("GET", "credentials", None, 200), ("GET", "credentials/" + kpm_id, None, 200),
                ("GET", "audit?limit=5", None, 200), ("GET", "events", None, 406), ("GET", "nothing", None, 404), ("PATCH", "devices", None, 405),
                ("DELETE", "install-codes/" + EUI64, None, 204), ("GET", "install-codes/" + EUI64, None, 404),
                ("DELETE", "gateways/" + GATEWAY, None, 204), ("DELETE", "applications/lights", None, 204),
                ("DELETE", "credentials/" + kpm_id, None, 204)):
            status, answer, _ = curl(method, path, body)
            self.assertEqual(status, wanted, (method, path, answer))
            self.assertNotIn(CODE.replace(" ", "")[:12], json.dumps(answer).upper())
            if status >= 400:
                self.assertEqual(answer["status"], status)
        self.assertEqual(curl("GET", "devices", token="x" * 40)[0], 401)

    def test_check_list_of_refusals(self):
        with self.client("C-first") as first, self.client("C-second") as second:
            for c in (first, second):
                c.register("sp.example.com")
            key = self.deposit(first, tgis=["C-first"], kv="AAECAwQFBgcICQoLDA0ODw==")["ri"]
            for client, rsc, arguments in (
                    (second, 4103, (mmef.GET, (2000,), "mef/" + key)), (second, 4004, (mmef.GET, (2000,), "mef/00")),
                    (second, 4005, (mmef.DELETE, (2002,), "mef")), (second, 4103, (mmef.DELETE, (2002,), "mef/" + key))):
                with self.assertRaisesRegex(mmef.Refused, "response status code %d" % rsc):
                    client.ask(*arguments)
            with self.assertRaisesRegex(mmef.Refused, "response status code 4000"):
                self.deposit(first, tgis=["C-first"], kv="AAEC")
            with self.assertRaisesRegex(mmef.Refused, "response status code 5001"):
                first.ask(mmef.POST, (2001,), "mef", ty=60099, body={"sec:mecc": {}})
            first.origin = "C-second"
            with self.assertRaisesRegex(mmef.Refused, "response status code 4106"):
                first.ask(mmef.GET, (2000,), "mef")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
