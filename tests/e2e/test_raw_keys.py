"""Clients by raw public key (TS-0003 10.1.2; RFC 7250, RFC 6920), over both bindings. OpenSSL has them since 3.2: with an older
one they are refused with the reason, at the credential and in the configuration."""
import base64
import hashlib
import secrets
import signal
import ssl
import subprocess
import time
import unittest

import common
from stack import set_option
from test_procedures import KV, Clients

SERVED = ssl.OPENSSL_VERSION_INFO >= (3, 2)  # Python and mefd share the system's


class RawKeys(Clients):
    def pair(self):
        """A key, its certificate that nobody issued, and its name."""
        pair = self.stranger.issue(secrets.token_hex(4), uris=["urn:x"])
        pem = subprocess.run(["openssl", "x509", "-in", pair.cert, "-noout", "-pubkey"], capture_output=True, check=True).stdout
        der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=pem, capture_output=True, check=True).stdout
        pair.pem = pem
        pair.name = "ni:///sha-256;" + base64.urlsafe_b64encode(hashlib.sha256(der).digest()).decode().rstrip("=")
        pair.proof = (*self.shown(pair), "-enable_client_rpk")
        return pair

    def trust(self, *pairs):
        """From now on these keys are the trusted ones."""
        file = self.folder / "keys.pem"
        file.write_bytes(b"".join(p.pem for p in pairs))
        for section in ("coap", "https"):
            set_option(self.stack.mefd_conf, section, "raw-public-keys", str(file))

    def bind(self, who: str, san: str):
        return self.stack.rest("POST", "/v1/credentials", {"for": who, "kind": "rpk", "san": san})

    def test_raw_keys(self):
        if SERVED:
            self.served()
        else:
            self.not_served()

    def not_served(self):
        one = self.pair()
        status, answer = self.bind("//example.org/in-cse/C1", one.name)
        self.assertEqual((status, answer["code"], answer["field"]), (501, "not-implemented", "kind"))
        conf = self.folder / "raw.conf"
        conf.write_text(self.stack.mefd_conf.read_text())
        (self.folder / "keys.pem").write_bytes(one.pem)
        set_option(conf, "coap", "raw-public-keys", str(self.folder / "keys.pem"))
        done = subprocess.run([self.stack.program("mefd"), "--check-config", "--config", conf], capture_output=True, text=True)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("3.2", done.stderr)

    def served(self):
        one, two, unknown = self.pair(), self.pair(), self.pair()
        who = "//example.org/in-cse/C" + secrets.token_hex(6)
        self.trust(one, two)
        self.stack.restart_mefd()
        status, made = self.bind(who, one.name)
        self.assertEqual((status, made["kind"], made["san"]), (201, "rpk", one.name))
        c = self.opened(who, one.proof)
        self.assertEqual(self.said(c.register(), 2001).pc["srci"], who)
        key = self.said(c.deposit([who]), 2001)  # also exported
        self.said(c.ask("GET", key.location), 2000)
        self.said(c.deposit([who], kv=KV), 2001)
        self.said(self.opened(who, two.proof).ask("GET"), 4107)  # trusted, but nobody's
        self.refused(unknown.proof)
        self.refused(self.shown(one))  # its certificate is of no authority
        # A certificate that bears the key's name is not the key.
        self.said(self.opened(who, self.shown(self.ca.issue("sham", uris=[one.name]))).ask("GET"), 4107)
        self.trust(two)
        self.stack.mefd.child.send_signal(signal.SIGHUP)
        end = time.monotonic() + 20
        while "daemon.reloaded" not in self.stack.mefd.log.read_text() and time.monotonic() < end:
            time.sleep(0.1)
        self.refused(one.proof)
        with self.assertRaises((TimeoutError, EOFError, OSError)):  # nor goes on what was open
            c.ask("GET")
        self.said(self.opened(who, two.proof).ask("GET"), 4107)

    @unittest.skipUnless(SERVED, "OpenSSL is older than 3.2")
    def test_names_of_raw_keys(self):
        good = self.pair().name
        for san in (None, "", "x", good[:-1], good + "A", good[:-1] + "=", good[:-1] + "+", good.replace("256", "512"), "ni://x/sha-256;" + good[14:]):
            body = {"for": "C1", "kind": "rpk", **({} if san is None else {"san": san})}
            status, answer = self.stack.rest("POST", "/v1/credentials", body)
            self.assertEqual((status, answer["field"]), (400, "san"))
        status, answer = self.stack.rest("POST", "/v1/credentials", {"for": "C1", "kind": "certificate", "san": good})
        self.assertEqual((status, answer["field"]), (400, "san"))


class Coaps(RawKeys, common.StackTest):
    way = ("coaps", "certificate")


class Https(RawKeys, common.StackTest):
    way = ("https", "certificate")


if __name__ == "__main__":
    unittest.main()
