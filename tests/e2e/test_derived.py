"""Keys of keys (TS-0003 10.3, 10.7) and who may have them, over both bindings and with both kinds of credential."""
import base64
import datetime
import json
import secrets
import subprocess
import sys
import time
import unittest
from pathlib import Path

import common
from coapclient import CBOR, CONTENT_FORMAT, FR, JSON, POST, RQI, RVI, TY, URI_PATH, encode, uint
from mmef import TY_CLIENT_REG, TY_KEY_REG, keying_material
from stack import ADMIN, set_option
from test_procedures import KV, SECOND, Clients, soon

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vectors"))
import onem2m  # noqa: E402

HARDWARE = "1.3.6.1.5.5.7.8.4"  # id-on-hardwareModuleName (RFC 4108 5)
USER_NAME = "1.3.6.1.4.1.311.20.2.3"


class Derived(Clients):
    @classmethod
    def prepare(cls):
        set_option(cls.stack.mefd_conf, "mef", "fetch-credentials", "yes")
        super().prepare()

    @staticmethod
    def fetch(client, ri: str, suid: object = 24, fqdn: str = "mef.example.org", **more):
        return client.ask("GET", f"fetchCredentials/{ri}@{fqdn}/{suid}", **more)

    def test_fetched_credentials(self):
        """TS-0003 8.3.2.1: each target has its own key, made of what the enrolee's session exported."""
        tag = secrets.token_hex(4)
        source, ae = self.client(registered=True), self.client(f"//example.org/cse{tag}/C1")
        cse, other = self.client(f"//example.org/cse{tag}/C2"), self.client()
        made = self.said(source.deposit([ae.id, cse.id]), 2001)
        ri, ke = made.pc["ri"], base64.b64decode(self.said(ae.ask("GET", made.location), 2000).pc["kv"])
        for client, name in ((ae, f"C1.cse{tag}.example.org"), (cse, f"C2.cse{tag}.example.org")):
            got = json.loads(self.said(self.fetch(client, ri.upper()), 2000).body)
            self.assertEqual(set(got), {"Status", "Credential", "EnroleeID", "Lifetime"})
            self.assertEqual(base64.b64decode(got["Credential"]), onem2m.kuc(ke, 24, name))
            self.assertEqual((got["Status"], got["EnroleeID"]), (True, source.id))
            left = datetime.datetime.strptime(made.pc["et"], "%Y%m%dT%H%M%S") - datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
            self.assertLessEqual(abs(left.total_seconds() - got["Lifetime"]), 5)
        self.assertIn(b"Credential", self.said(self.fetch(ae, ri, accept=CBOR), 2000).body)
        for answer, rsc in ((self.fetch(other, ri), 4103), (self.fetch(source, ri), 4103), (self.fetch(ae, ri, 25), 4103),
                            (self.fetch(ae, ri, 26), 4000), (self.fetch(ae, ri, "x"), 4000), (self.fetch(ae, "0" * 32), 4004),
                            (self.fetch(ae, ri, fqdn="mef2.example.org"), 4004), (self.fetch(ae, ri, origin=other.id), 4106)):
            self.said(answer, rsc)
            if rsc != 4106:
                self.assertEqual(set(json.loads(answer.body)), {"Status", "ErrorString"})
        for method in ("DELETE", "PUT"):
            self.said(ae.ask(method, f"fetchCredentials/{ri}@mef.example.org/24", content={"x": 1} if method == "PUT" else None), 4005)
        self.said(self.fetch(ae, self.said(source.deposit([ae.id], kv=KV), 2001).pc["ri"]), 4004)  # brought, not exported
        self.said(source.update(made, "sec:skr", tgis=[cse.id]), 2004)
        self.said(self.fetch(ae, ri), 4103)
        self.said(source.ask("DELETE", made.location), 2002)
        self.said(self.fetch(cse, ri), 4004)

    def test_fetched_by_another_stakeholders_client(self):
        """The same AE under another stakeholder learns not even that the key is there."""
        who = f"//example.org/in-cse/C{secrets.token_hex(6)}"
        source, theirs = self.client(registered=True), self.client(who, admin=SECOND)
        made = self.said(source.deposit([who]), 2001)
        there, absent = self.fetch(theirs, made.pc["ri"]), self.fetch(theirs, "0" * 32)
        self.assertEqual((there.rsc, there.code, there.body), (4004, absent.code, absent.body))

    def test_the_switch(self):
        """Off, as it is by default, there is nothing."""
        source = self.client(registered=True)
        ri = self.said(source.deposit([source.id]), 2001).pc["ri"]
        self.said(self.fetch(source, ri), 2000)
        try:
            set_option(self.stack.mefd_conf, "mef", "fetch-credentials", "no")
            self.stack.restart_mefd()
            source.reconnect()
            answer = self.fetch(source, ri)
            self.assertIn(answer.code, ("4.04", 404))
            self.assertNotIn(b"Status", answer.body)
        finally:
            set_option(self.stack.mefd_conf, "mef", "fetch-credentials", "yes")
            self.stack.restart_mefd()

    def test_nothing_outlives_its_credential(self):
        """What a session exports is Ke, and Ke ends with what the session was made of."""
        end = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) + datetime.timedelta(hours=1)
        when = end.strftime("%Y%m%dT%H%M%S")
        source, target = self.client(expires=end.strftime("%Y-%m-%dT%H:%M:%SZ"), registered=True), self.client()
        made = self.said(source.deposit([target.id]), 2001)
        self.assertEqual(made.pc["et"], when)
        self.assertEqual(self.said(source.update(made, "sec:skr", et="20991231T235959"), 2004).pc, {"et": when})
        sooner = soon(600)
        self.assertEqual(self.said(source.update(made, "sec:skr", et=sooner), 2004).pc, {"et": sooner})
        self.assertEqual(self.said(source.update(made, "sec:skr", et="20991231T235959"), 2004).pc, {"et": when})
        self.assertEqual(self.said(target.ask("GET", made.location), 2000).pc["et"], when)
        self.assertGreater(self.said(source.deposit([target.id], kv=KV), 2001).pc["et"], when)  # not derived


class ByCertificate:
    def test_names_in_certificates(self):
        """TS-0003 8.1.2: whom a certificate is for says which name it has to bear."""
        tag = secrets.token_hex(3)
        ae, cse, maf = f"//example.org/in-cse/C{tag}", f"//example.org/cse{tag}", f"maf{tag}.example.com"
        for who, right, wrong in ((ae, {"uris": [ae]}, {"dns": [f"C{tag}.in-cse.example.org"]}),
                                  (cse, {"dns": [f"cse{tag}.example.org"]}, {"uris": [cse]}),
                                  (maf, {"dns": [maf]}, {"dns": ["x." + maf]})):
            with self.subTest(who=who):
                status, made = self.stack.rest("POST", "/v1/credentials", {"for": who, "kind": "certificate"})
                self.assertEqual(status, 201, made)
                self.assertIn([made["san"]], list(right.values()))
                self.said(self.opened(who, self.shown(self.ca.issue(secrets.token_hex(4), **right))).ask("GET"), 2000)
                self.said(self.opened(who, self.shown(self.ca.issue(secrets.token_hex(4), **wrong))).ask("GET"), 4107)

    def test_devices_by_hardware_number(self):
        serial = secrets.token_bytes(4)
        der = b"\x30" + bytes([7 + len(serial)]) + b"\x06\x03\x2b\x06\x01\x04" + bytes([len(serial)]) + serial
        who = "//example.org/in-cse/C" + serial.hex()
        self.proof("certificate", who, ADMIN, san="hwm:1.3.6.1:" + serial.hex())
        self.said(self.opened(who, self.shown(self.ca.issue("hw", others=[(HARDWARE, der)]))).register(), 2001)
        among = [(USER_NAME, b"\x0c\x03a@b"), (HARDWARE, der)]  # other kinds of name say nothing here
        self.said(self.opened(who, self.shown(self.ca.issue("hw-among", others=among))).register(), 4117)
        oid, number = der[2:7], der[7:]
        long = b"\x04\x41" + b"s" * 65
        for other in [("1.3.6.1.5.5.7.8.5", der), (HARDWARE, b"\x05\0"), (HARDWARE, number)] + [
                (HARDWARE, b"\x30" + bytes([len(inner)]) + inner) for inner in
                (b"", oid, number, oid + oid, number + oid, oid + number + number, oid + b"\x04\0", oid + long, oid + b"\x04\x09s")]:
            self.refused(self.shown(self.ca.issue(secrets.token_hex(4), others=[other])))


class OverDtls:
    def test_exported_key_over_dtls(self):
        """openssl's own exporter says the same as the MEF."""
        c, target = self.client(), self.client()
        common_ones = {"et": "20991231T235959", "adfq": ADMIN}
        with open(self.folder / "exporter.log", "w+b") as log:
            child = subprocess.Popen(["openssl", "s_client", "-dtls1_2", "-nocommands", "-connect", f"127.0.0.1:{self.stack.coaps}",
                                      *c.proof, "-keymatexport", "EXPORTER-oneM2M-Bootstrap", "-keymatexportlen", "48"],
                                     stdin=subprocess.PIPE, stdout=log, stderr=subprocess.DEVNULL, bufsize=0)
            self.addCleanup(child.communicate)
            self.addCleanup(child.kill)
            end = time.monotonic() + 20
            while b"Keying material: " not in (said := (self.folder / "exporter.log").read_bytes()) and time.monotonic() < end:
                time.sleep(0.1)
            # Its answers are in the log, among its words; the requests only have to arrive.
            for mid, (ty, content) in enumerate(((TY_CLIENT_REG, {"sec:mecr": common_ones}),
                                                 (TY_KEY_REG, {"sec:skr": {**common_ones, "suid": 22, "tgis": [target.id]}})), 1):
                options = [(URI_PATH, b"mef"), (FR, c.id.encode()), (RQI, b"1"), (RVI, b"3"), (TY, uint(ty)), (CONTENT_FORMAT, uint(JSON))]
                child.stdin.write(encode(POST, mid, b"t", options, json.dumps(content).encode()))
                time.sleep(0.5)
            material = keying_material(said)
            got = self.said(target.ask("GET", "mef/" + material[:16].hex()), 2000).pc
            self.assertEqual(base64.b64decode(got["kv"]), material[16:])


class CoapsByPsk(Derived, OverDtls, common.StackTest):
    way = ("coaps", "psk")


class CoapsByCertificate(Derived, ByCertificate, OverDtls, common.StackTest):
    way = ("coaps", "certificate")


class HttpsByPsk(Derived, common.StackTest):
    way = ("https", "psk")


class HttpsByCertificate(Derived, ByCertificate, common.StackTest):
    way = ("https", "certificate")


if __name__ == "__main__":
    unittest.main()
