"""Certificates end to end: a gateway and AEs that prove themselves by one, server names, and lists of revoked ones, over
CoAPs and HTTPS."""
import re
import signal
import socket
import ssl
import subprocess
import time
import unittest

import common
from pki import HOUR, Authority
from stack import ADMIN, AE_ID, FQDN, http_get, install_code, random_eui64, set_option

OTHER_AE = "//example.org/in-cse/Cother"
SECOND = "second.example.org"
GATEWAY = "gw1.example.org"


class Certificates(common.StackTest):
    gateway = False

    @classmethod
    def prepare(cls):
        """mefd runs already, by PSK; give it certificates by SIGHUP, and start the gateway by certificate."""
        s = cls.stack
        cls.pki = s.folder / "pki"
        cls.pki.mkdir()
        cls.ca = Authority(cls.pki, "clients")
        cls.stranger = Authority(cls.pki, "strangers")
        cls.server = cls.ca.issue("server", dns=[FQDN], ips=["127.0.0.1"], server=True)
        cls.second = cls.ca.issue("second", dns=[SECOND], server=True)
        cls.ae = cls.ca.issue("ae", uris=[AE_ID])
        cls.other = cls.ca.issue("other", uris=[OTHER_AE])
        cls.gw = cls.ca.issue("gw", dns=[GATEWAY])
        cls.lists = cls.pki / "lists.pem"
        cls.lists.write_bytes(cls.ca.revoke())
        for listener in ("coap", "https"):
            cls.set(listener, "trust-anchors", cls.ca.file)
            cls.set(listener, "revocation-lists", cls.lists)
        cls.set("coap", "certificate", cls.server.cert)
        cls.set("coap", "private-key", cls.server.key)
        cls.desk = cls.ca.issue("desk", dns=["desk.example.org"])
        for key, value in (("san", "desk.example.org"), ("admin-fqdn", ADMIN), ("role", "installer")):
            cls.set("operator.desk", key, value)
        for key, value in (("server-name", SECOND), ("certificate", cls.second.cert), ("private-key", cls.second.key)):
            cls.set("certificate.second", key, value)
        cls.reload()
        s.must("POST", "/v1/credentials", {"for": AE_ID, "kind": "certificate"})
        s.must("POST", "/v1/credentials", {"for": "Cother", "kind": "certificate", "san": OTHER_AE})
        cls.bound = s.must("POST", "/v1/credentials", {"for": f"gateway:{s.gateway_eui}", "kind": "certificate", "san": GATEWAY})
        s.must("PUT", f"/v1/gateways/{s.gateway_eui}", {"identity": GATEWAY})
        s.gw_certificate = {"certificate": cls.gw.cert, "private-key": cls.gw.key, "trust-anchors": cls.ca.file,
                            "revocation-lists": cls.lists, "server-name": FQDN}
        s.start_gateway()

    @classmethod
    def set(cls, section: str, key: str, value):
        set_option(cls.stack.mefd_conf, section, key, str(value))

    @classmethod
    def reload(cls, outcome: str = "daemon.reloaded") -> str:
        """SIGHUP; what mefd logged until it had an outcome."""
        log = cls.stack.mefd.log
        before = len(log.read_text())
        cls.stack.mefd.child.send_signal(signal.SIGHUP)
        end = time.monotonic() + 10
        while not (said := re.search(r"daemon\.reload\w*(-failed)?", log.read_text()[before:])):
            if time.monotonic() > end:
                raise AssertionError("mefd does not reload:\n" + cls.stack.mefd.tail())
            time.sleep(0.02)
        if said[0] != outcome:
            raise AssertionError(cls.stack.mefd.tail())
        return log.read_text()[before:]

    def said(self, text: str, before: int, timeout: float = 5) -> bool:
        end = time.monotonic() + timeout
        while text not in (log := self.stack.mefd.log.read_text()[before:]) and time.monotonic() < end:
            time.sleep(0.05)
        return text in log

    def setUp(self):
        self.addCleanup(self.reload)
        self.addCleanup(lambda: self.lists.write_bytes(self.ca.revoke()))
        self.logged = len(self.stack.mefd.log.read_text())

    # --- clients ---------------------------------------------------------------------------------------------------------

    def mefkey(self, pair, *args, ae_id: str = AE_ID, **more) -> tuple[int, str, str]:
        given = {"certificate": pair.cert, "private-key": pair.key, "trust-anchors": self.ca.file, "server-name": FQDN,
                 "mef": self.stack.mef_uri, "ae-id": ae_id, "timeout": "4", **more}
        argv = [self.stack.program("mefkey"), *args] + [str(a) for k, v in given.items() if v for a in (f"--{k}", v)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, env={"HOME": str(self.pki)})
        return done.returncode, done.stdout.strip(), done.stderr.strip()

    def curl(self, pair, origin: str = AE_ID, path: str = "/mef", more: tuple = ()) -> tuple[int, str]:
        """GET, the MEFBase as a primitive unless path says otherwise; (HTTP status or 0, body or what curl said)."""
        argv = ["curl", "-sS", "--cacert", self.stack.ca, "-H", f"X-M2M-Origin: {origin}", "-H", "X-M2M-RI: 1", "-H",
                "X-M2M-RVI: 3", "-w", "\n%{http_code}", self.stack.https_uri + path, *more]
        argv += ["--cert", pair.cert, "--key", pair.key] if pair else []
        done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, timeout=30)
        body, _, code = done.stdout.rpartition("\n")
        return (int(code), body) if done.returncode == 0 else (0, done.stderr)

    def shown(self, name: str | None, dtls: bool) -> str:
        """The names in the certificate that a server shows to a client that asks for `name`."""
        s = self.stack
        argv = ["openssl", "s_client", "-connect", f"127.0.0.1:{s.coaps if dtls else s.https}"]
        argv += ["-dtls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"] if dtls else []
        argv += ["-servername", name] if name else ["-noservername"]
        argv += ["-cert", str(self.ae.cert), "-key", str(self.ae.key)]
        done = subprocess.run(argv, input="Q\n", capture_output=True, text=True, timeout=20)
        pem = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", done.stdout, re.S)
        self.assertIsNotNone(pem, done.stdout + done.stderr)
        return subprocess.run(["openssl", "x509", "-noout", "-ext", "subjectAltName"], input=pem[0], capture_output=True,
                              text=True, timeout=20).stdout

    # --- who gets in -----------------------------------------------------------------------------------------------------

    def test_a_device_through_a_gateway_with_a_certificate(self):
        s, eui, code = self.stack, random_eui64(), install_code()
        self.connect_gateway()
        s.register_code(eui, code)
        joiner = s.join(eui, code, "--report", "0x0402/0/s16/2150/0.5")
        self.addCleanup(joiner.stop)
        self.assertIsNotNone(joiner.wait_event(10, event="reported"), joiner.tail())
        s.wait_state(eui, "enrolled")
        status, key, err = self.mefkey(self.ae, "get", eui, "--stdout")
        self.assertEqual(status, 0, err)
        self.assertRegex(key, r"\A[0-9a-f]{32}\Z")
        self.assertEqual(self.mefkey(self.other, "get", eui, "--stdout", ae_id=OTHER_AE)[0], 4)  # sees none

    def test_an_ae_is_who_its_certificate_says(self):
        status, _, err = self.mefkey(self.ae, "find", random_eui64())
        self.assertEqual(status, 4, err)
        status, _, err = self.mefkey(self.ae, "find", random_eui64(), ae_id=OTHER_AE)
        self.assertEqual(status, 5)
        self.assertIn("4106", err)
        status, _, err = self.mefkey(self.gw, "find", random_eui64())  # a gateway is no AE
        self.assertEqual(status, 5, err)
        unknown = self.ca.issue("unknown", uris=["//example.org/in-cse/Cunknown"])
        status, _, err = self.mefkey(unknown, "find", random_eui64(), ae_id="//example.org/in-cse/Cunknown")
        self.assertEqual(status, 5)
        self.assertIn("4107", err)

    def test_https(self):
        self.assertEqual(self.curl(self.ae)[0], 200)
        self.assertEqual(self.curl(self.ae, origin=OTHER_AE)[0], 403)
        self.assertEqual(self.curl(self.other, origin=OTHER_AE)[0], 200)
        self.assertEqual(self.curl(None)[0], 403)  # no certificate: nobody
        self.assertEqual(self.stack.rest("GET", "/v1/devices")[0], 200)  # but a token still does
        self.assertEqual(self.curl(self.stranger.issue("stranger", uris=[AE_ID]))[0], 0)
        self.assertEqual(self.curl(self.ca.issue("wild", dns=["*.example.org"]))[0], 0)
        self.assertEqual(self.curl(self.server)[0], 0)  # made for a server

    def test_key_usage(self):
        """It has to allow signatures, if the certificate has one."""
        for signs, good in ((True, True), (None, True), (False, False)):
            with self.subTest(signs=signs):
                pair = self.ca.issue(f"usage-{signs}", uris=[AE_ID], signs=signs)
                for through in (lambda: self.curl(pair)[0] == 200, lambda: self.mefkey(pair, "find", random_eui64())[0] == 4):
                    before = len(self.stack.mefd.log.read_text())
                    self.assertEqual(through(), good)
                    refused = self.said("certificate.refused", before, 5 if not good else 0)
                    self.assertEqual(refused, not good)

    def test_https_by_psk_beside_certificates(self):
        """A client with a PSK is not asked for a certificate, in TLS 1.2 and 1.3."""
        s = self.stack
        for version, more in (("-tls1_2", ["-cipher", "PSK-AES128-GCM-SHA256"]), ("-tls1_3", [])):
            with self.subTest(version):
                done = subprocess.run(["openssl", "s_client", version, *more, "-connect", f"127.0.0.1:{s.https}", "-psk_identity",
                                       s.ae["kpmId"], "-psk", s.ae["kpm"], "-quiet", "-ign_eof"], capture_output=True,
                                      input=(f"GET /mef HTTP/1.1\r\nHost: x\r\nX-M2M-Origin: {AE_ID}\r\nX-M2M-RI: 1\r\n"
                                             "X-M2M-RVI: 3\r\nConnection: close\r\n\r\n").encode(), timeout=20)
                self.assertIn(b"HTTP/1.1 200", done.stdout, done.stderr)

    def test_an_operator_by_certificate(self):
        path = "/v1/devices"
        self.assertEqual(self.curl(self.desk, path=path)[0], 200)
        self.assertEqual(self.curl(self.desk, path="/v1/credentials")[0], 403)  # not an installer's
        self.assertEqual(self.curl(self.desk)[0], 403)  # and no AE
        for pair in (self.ae, self.gw, None):
            self.assertEqual(self.curl(pair, path=path)[0], 401)
        self.assertEqual(self.curl(self.desk, path=path, more=("-H", "Authorization: Bearer nonsense-nonsense"))[0], 401)
        # what a browser has asked by another site is not its user's wish
        for argv in (("-H", "Origin: https://evil.example"), ("-H", "Origin: null")):
            self.assertEqual(self.curl(self.desk, path=path, more=argv)[0], 401)
            self.assertEqual(self.curl(self.ae, more=argv)[0], 403)
        self.lists.write_bytes(self.ca.revoke(self.desk.serial))
        self.reload()
        self.assertEqual(self.curl(self.desk, path=path)[0], 0)

    def test_server_names(self):
        for dtls in (True, False):
            own = FQDN
            with self.subTest(dtls=dtls):
                self.assertIn(f"DNS:{SECOND}\n", self.shown(SECOND, dtls))
                self.assertIn(f"DNS:{SECOND}\n", self.shown(SECOND.upper(), dtls))
                self.assertIn(f"DNS:{own}", self.shown(own, dtls))
                self.assertIn(f"DNS:{own}", self.shown("nobody.example.org", dtls))
                self.assertIn(f"DNS:{own}", self.shown(None, dtls))
        self.assertEqual(self.mefkey(self.ae, "find", random_eui64(), **{"server-name": SECOND})[0], 4)
        status, _, err = self.mefkey(self.ae, "find", random_eui64(), **{"server-name": "third.example.org"})
        self.assertEqual(status, 6, err)
        self.assertIn("hostname mismatch", err)

    # --- revocation ------------------------------------------------------------------------------------------------------

    def refused(self, pair, origin: str, reason: str):
        status, _, err = self.mefkey(pair, "find", random_eui64(), ae_id=origin)
        self.assertEqual(status, 6, err)
        self.assertTrue(self.said(f'reason="{reason}"', self.logged), self.stack.mefd.tail())
        self.logged = len(self.stack.mefd.log.read_text())
        self.assertEqual(self.curl(pair, origin)[0], 0)
        self.assertTrue(self.said(f'reason="{reason}"', self.logged), self.stack.mefd.tail())
        self.logged = len(self.stack.mefd.log.read_text())

    def test_revoked(self):
        self.lists.write_bytes(self.ca.revoke(self.other.serial))
        self.assertEqual(self.curl(self.other, OTHER_AE)[0], 200)  # before SIGHUP
        self.reload()
        self.refused(self.other, OTHER_AE, "certificate revoked")
        self.assertEqual(self.mefkey(self.ae, "find", random_eui64())[0], 4)
        self.assertEqual(self.curl(self.ae)[0], 200)
        self.lists.write_bytes(self.ca.revoke())
        self.reload()
        self.assertEqual(self.curl(self.other, OTHER_AE)[0], 200)

    def test_no_current_list(self):
        """Fail closed: out of date, missing, or of somebody else; and PSK goes on."""
        for lists, reason in ((self.ca.revoke(life=-HOUR), "CRL has expired"),
                              (self.stranger.revoke(), "unable to get certificate CRL")):
            with self.subTest(reason):
                self.lists.write_bytes(lists)
                said = self.reload()
                if "expired" in reason:
                    self.assertIn("certificate.expired listener=coap what=revocation-list", said)
                self.refused(self.ae, AE_ID, reason)
                self.assertEqual(self.stack.mefkey("find", random_eui64())[0], 4)
                self.assertEqual(self.stack.rest("GET", "/v1/devices")[0], 200)

    def test_bad_lists_change_nothing(self):
        self.lists.write_text("nothing\n")
        said = self.reload("daemon.reload-failed")
        self.assertIn("lists.pem", said)
        self.assertEqual(self.curl(self.ae)[0], 200)

    def test_an_authority_below(self):
        """Each authority of the chain needs its list, and one below can be revoked."""
        below = Authority(self.pki, "below", issuer=self.ca)
        pair = below.issue("leaf", uris=[AE_ID])
        self.refused(pair, AE_ID, "unable to get certificate CRL")
        self.lists.write_bytes(self.ca.revoke() + below.revoke())
        self.reload()
        self.assertEqual(self.curl(pair)[0], 200)
        self.assertEqual(self.mefkey(pair, "find", random_eui64())[0], 4)
        self.lists.write_bytes(self.ca.revoke(below.certificate.serial_number) + below.revoke())
        self.reload()
        self.refused(pair, AE_ID, "certificate revoked")

    def test_open_sessions_of_a_revoked_certificate_end(self):
        s = self.stack
        open_ones = []
        for pair in (self.other, self.ae):
            context = ssl.create_default_context(cafile=str(s.ca))
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # since 3.13 on, and more than a self-signed one meets
            context.load_cert_chain(pair.cert, pair.key)
            conn = context.wrap_socket(socket.create_connection(("127.0.0.1", s.https)), server_hostname="localhost")
            self.addCleanup(conn.close)
            conn.settimeout(5)
            open_ones.append(conn)
        self.connect_gateway()
        gateway_log = len(s.ipe.log.read_text())
        self.lists.write_bytes(self.ca.revoke(self.other.serial, self.gw.serial))
        self.reload()
        self.assertEqual(open_ones[0].recv(1), b"")
        open_ones[1].sendall(b"GET /mef HTTP/1.1\r\nHost: x\r\nX-M2M-Origin: " + AE_ID.encode() +
                             b"\r\nX-M2M-RI: 1\r\nX-M2M-RVI: 3\r\n\r\n")
        self.assertIn(b"200 OK", open_ones[1].recv(100))
        self.until(lambda: "mef.lost" in s.ipe.log.read_text()[gateway_log:])
        self.lists.write_bytes(self.ca.revoke())
        self.reload()
        self.connect_gateway()

    def connect_gateway(self):
        """Now, and not when ipe-nid tries again by itself: other tests revoke its certificate, too."""
        s = self.stack
        before = len(s.ipe.log.read_text())
        s.ipe.child.send_signal(signal.SIGHUP)
        self.until(lambda: "mef.connected" in s.ipe.log.read_text()[before:])

    def until(self, condition, timeout: float = 10):
        end = time.monotonic() + timeout
        while not condition():
            self.assertLess(time.monotonic(), end, self.stack.ipe.tail())
            time.sleep(0.05)

    def test_a_client_looks_at_lists_too(self):
        lists = self.pki / "clients-view.pem"
        lists.write_bytes(self.ca.revoke())
        self.assertEqual(self.mefkey(self.ae, "find", random_eui64(), **{"revocation-lists": lists})[0], 4)
        lists.write_bytes(self.ca.revoke(self.server.serial))
        status, _, err = self.mefkey(self.ae, "find", random_eui64(), **{"revocation-lists": lists})
        self.assertEqual(status, 6)
        self.assertIn("certificate revoked", err)

    # --- configuration ---------------------------------------------------------------------------------------------------

    def check(self, name: str, text: str) -> tuple[int, str]:
        conf = self.pki / f"check-{name}.conf"
        conf.write_text(text)
        done = subprocess.run([self.stack.program(name), "--config", conf, "--check-config"], capture_output=True, text=True, timeout=20,
                              env={"HOME": str(self.pki)})
        return done.returncode, done.stderr

    def test_configuration_of_mefd(self):
        whole = self.stack.mefd_conf.read_text().replace("kek = kek", f"kek = {self.stack.etc}/kek").replace(
            "= server.", f"= {self.stack.etc}/server.").replace("= admin.token", f"= {self.stack.etc}/admin.token")
        self.assertEqual(self.check("mefd", whole)[0], 0, self.check("mefd", whole)[1])
        third = "[certificate.third]\nserver-name = third.example.org\ncertificate = {0.cert}\nprivate-key = {0.key}\n"
        for text, complaint in ((third.format(self.second), "third.example.org is not in the certificate"),
                                (third.format(self.second).replace("third.example", "second.example"), "has another certificate"),
                                ("[certificate.third]\nserver-name = x\n", "[certificate.third] certificate is missing"),
                                ("[operator.two]\nsan = x\n", "[operator.two] admin-fqdn is missing"),
                                ("[certificate.third]\ncolour = x\n", "unknown key colour"),
                                (f"[certificate.second]\nserver-name = {SECOND}\n", "is set twice"),
                                (third.format(self.second).replace("third.example.org", SECOND).replace("second.key", "ae.key"),
                                 "private key")):
            status, err = self.check("mefd", whole + text)
            self.assertEqual(status, 3, text)
            self.assertIn(complaint, err)

    def test_configuration_of_ipe_nid(self):
        base = f"[egp]\nline = tcp-listen:127.0.0.1:1\n[mef]\nuri = {self.stack.mef_uri}\n"
        own = f"certificate = {self.gw.cert}\nprivate-key = {self.gw.key}\n"
        anchors = f"trust-anchors = {self.ca.file}\n"
        self.assertEqual(self.check("ipe-nid", base + own + anchors)[0], 0)
        for text in ("", own, anchors, own + anchors + "identity = x\n", f"server-name = {FQDN}\n",
                     own + f"trust-anchors = {self.gw.key}\n", own.replace("gw.key", "ae.key") + anchors):
            self.assertEqual(self.check("ipe-nid", base + text)[0], 3, text)

    def test_configuration_of_mefkey(self):
        base = f"[mefkey]\nmef = {self.stack.mef_uri}\n"
        own = f"certificate = {self.ae.cert}\nprivate-key = {self.ae.key}\n"
        anchors = f"trust-anchors = {self.ca.file}\n"
        self.assertEqual(self.check("mefkey", base + own + anchors)[0], 0)
        for text in ("", own, anchors, own + anchors + "id = x\n", own + f"trust-anchors = {self.ae.key}\n"):
            self.assertEqual(self.check("mefkey", base + text)[0], 3, text)

    def test_what_runs_out_is_seen(self):
        page = http_get(self.stack.status, "/metrics")
        for name, days in (("coap_certificate_days_left", 0), ("coap_revocation_list_days_left", 0),
                           ("https_certificate_days_left", 0)):
            value = re.search(rf"^{name} (-?\d+)$", page, re.M)
            self.assertIsNotNone(value, page)
            self.assertEqual(int(value[1]), days)
        self.assertIn("certificate.expires listener=https what=certificate", self.stack.mefd.log.read_text())
        self.second.key.chmod(0o644)
        self.addCleanup(self.second.key.chmod, 0o600)
        said = self.reload()
        self.assertIn(f"certificate.key-readable file={self.second.key}", said)
        self.assertIn("certificate.expires-soon listener=coap what=certificate", said)


if __name__ == "__main__":
    unittest.main()
