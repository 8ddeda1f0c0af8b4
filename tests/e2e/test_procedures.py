"""Mmef, procedure by procedure (TS-0003 8.3.5), over both bindings and with both kinds of credential. docs/conformance.md
names these tests."""
import base64
import json
import secrets
import subprocess
import time
import unittest

import common
from coapclient import CBOR, GET, JSON, RQI, RVI, HandshakeRefused
from mmef import SUITES, TY_CLIENT_CMD, TY_CLIENT_REG, TY_KEY_REG, Client, keying_material
from pki import HOUR, Authority
from stack import ADMIN, set_option, write_private

SECOND = "second.example.com"
KEY = bytes(range(16))
KV = base64.b64encode(KEY).decode()
XML = 41
CRITICAL = 2049  # an option of nobody's; as its number is odd, who does not know it must not go on (RFC 7252 5.4.1)


def soon(seconds: int) -> str:
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime(time.time() + seconds))


class Clients:
    """Makes clients of two stakeholders, by PSK and by certificate; `way` is of the class."""

    gateway = False
    way: tuple

    @classmethod
    def prepare(cls):
        s = cls.stack
        cls.ca, cls.stranger = Authority(cls.folder, "clients"), Authority(cls.folder, "strangers")
        server = cls.ca.issue("server", dns=["mef.example.org"], ips=["127.0.0.1"], server=True)
        for section, key, value in (("coap", "certificate", server.cert), ("coap", "private-key", server.key),
                                    ("coap", "trust-anchors", cls.ca.file), ("https", "trust-anchors", cls.ca.file),
                                    ("token.second", "admin-fqdn", SECOND), ("token.second", "role", "admin"),
                                    ("token.second", "file", write_private(cls.folder / "second.token", "s" * 40 + "\n"))):
            set_option(s.mefd_conf, section, key, str(value))
        cls.second = write_private(cls.folder / "second.header", "Authorization: Bearer " + "s" * 40 + "\n")
        s.restart_mefd()

    # --- clients ------------------------------------------------------------------------------------------------------

    def proof(self, kind: str, who: str, admin: str, san: str | None = None, expires: str | None = None) -> tuple:
        """What openssl needs to be `who`."""
        body = {"for": who, "kind": kind, **({"san": san} if san else {}), **({"expiresAt": expires} if expires else {})}
        status, made = self.stack.rest("POST", "/v1/credentials", body, self.second if admin == SECOND else None)
        self.assertEqual(status, 201, made)
        if kind == "psk":
            return "-psk_identity", made["kpmId"], "-psk", made["kpm"]
        name = {"dns": [san]} if san else {"uris": [who]}
        return self.shown(self.ca.issue(secrets.token_hex(4), **name))

    @staticmethod
    def shown(pair) -> tuple:
        return "-cert", str(pair.cert), "-key", str(pair.key)

    def opened(self, who: str, proof: tuple, admin: str = ADMIN, way: tuple | None = None) -> Client:
        client = Client(self.stack, way or self.way, who, admin, proof)
        self.addCleanup(client.close)
        return client

    def client(self, who: str | None = None, admin: str = ADMIN, way: tuple | None = None, registered: bool = False,
               expires: str | None = None) -> Client:
        who, way = who or f"//example.org/in-cse/C{secrets.token_hex(6)}", way or self.way
        c = self.opened(who, self.proof(way[1], who, admin, expires=expires), admin, way)
        if registered:
            self.said(c.register(), 2001)
        return c

    def said(self, answer, rsc: int):
        self.assertEqual(answer.rsc, rsc, answer.body)
        return answer

    def refused(self, proof: tuple):
        with self.assertRaises(HandshakeRefused):
            self.opened("//example.org/in-cse/Cnobody", proof)


class Procedures(Clients):
    """Each test makes its own clients."""

    # --- handshake ----------------------------------------------------------------------------------------------------

    def test_suite(self):
        """The client offers one suite: the mandated one."""
        self.said(self.client().ask("GET"), 2000)

    def test_a_client_is_its_credential(self):
        c, other = self.client(), self.client()
        self.said(c.ask("GET", origin=other.id), 4106)
        self.said(c.ask("GET", origin=None), 4000)

    # --- client registration ------------------------------------------------------------------------------------------

    def test_registration(self):
        c = self.client()
        made = self.said(c.register(lbl=["room:1"]), 2001)
        self.assertEqual(set(made.pc), {"ty", "ri", "rn", "pi", "ct", "lt", "et", "lbl", "adfq", "srci", "ch"})
        self.assertEqual((made.pc["ty"], made.pc["srci"], made.pc["adfq"], made.pc["lbl"]), (TY_CLIENT_REG, c.id, ADMIN, ["room:1"]))
        self.assertLess(made.pc["et"], "20991231T235959")  # no longer than the MEF allows
        self.assertEqual(made.location, "mef/" + made.pc["ri"])
        self.assertEqual(self.said(c.ask("GET", made.location), 2000).pc, made.pc)
        self.said(c.register(), 4117)
        self.said(self.client().register(adfq="other.example.com"), 4103)

    def test_two_stakeholders(self):
        """What is another's is answered as what is not there."""
        label = "room:" + secrets.token_hex(4)
        ours, theirs = self.client(registered=True), self.client(admin=SECOND, registered=True)
        key = self.said(ours.deposit([ours.id, theirs.id], kv=KV, lbl=[label]), 2001)
        self.assertEqual(ours.found("lbl=" + label), [key.location])
        self.assertEqual(theirs.found("lbl=" + label), [])
        self.assertNotIn(key.location, theirs.found())
        nothing = "mef/" + "0" * 32
        registration = next(uri for uri in ours.found() if uri != key.location)
        for path in (key.location, registration):
            for method, content in (("GET", None), ("PUT", {"sec:skr": {"et": "20500101T000000"}}), ("DELETE", None)):
                asked, absent = (theirs.ask(method, p, content=content) for p in (path, nothing))
                self.assertEqual((asked.rsc, asked.code, asked.body), (4004, absent.code, absent.body))
        self.said(theirs.register(adfq=ADMIN), 4103)
        self.said(theirs.deposit([ours.id], kv=KV, adfq=ADMIN), 4103)
        self.said(ours.ask("GET", key.location), 2000)

    def test_update_of_a_registration(self):
        c = self.client()
        made = self.said(c.register(lbl=["a"]), 2001)
        et = soon(3600)
        self.assertEqual(self.said(c.update(made, "sec:mecr", et=et), 2004).pc, {"et": et})
        self.assertEqual(self.said(c.update(made, "sec:mecr", lbl=["b", "c"]), 2004).pc, {"lbl": ["b", "c"]})
        for wrong in ({}, {"adfq": ADMIN}, {"et": soon(-10)}):
            self.said(c.update(made, "sec:mecr", **wrong), 4000)
        now = self.said(c.ask("GET", made.location), 2000).pc
        self.assertEqual((now["et"], now["lbl"], now["ct"]), (et, ["b", "c"], made.pc["ct"]))

    def test_deregistration(self):
        c, target = self.client(), self.client()
        made = self.said(c.register(), 2001)
        key = self.said(c.deposit([target.id], kv=KV), 2001)
        self.said(c.ask("DELETE", made.location), 2002)
        self.said(c.ask("GET", made.location), 4004)
        self.said(c.deposit([target.id], kv=KV), 4103)
        self.said(target.ask("GET", key.location), 2000)  # it is a resource of its own, until it expires
        again = self.said(c.register(), 2001)
        self.assertNotEqual(again.location, made.location)

    def test_expired(self):
        c, keeper = self.client(), self.client(registered=True)
        made = self.said(c.register(et=soon(2)), 2001)
        key = self.said(keeper.deposit([keeper.id], kv=KV, et=soon(2)), 2001)
        self.said(keeper.ask("GET", key.location), 2000)
        time.sleep(2.1)
        self.said(c.ask("GET", made.location), 4004)
        self.said(c.update(made, "sec:mecr", et="20300101T000000"), 4004)
        self.said(c.deposit([c.id], kv=KV), 4103)
        self.said(keeper.ask("GET", key.location), 4004)
        self.assertNotIn(key.location, keeper.found())
        self.said(c.register(), 2001)

    def test_another_clients_registration(self):
        c, other = self.client(), self.client(registered=True)
        made = self.said(c.register(), 2001)
        self.said(other.ask("GET", made.location), 4103)
        self.said(other.update(made, "sec:mecr", lbl=["x"]), 4103)
        self.said(other.ask("DELETE", made.location), 4103)
        self.assertEqual(self.said(c.ask("GET", made.location), 2000).pc, made.pc)

    # --- keys ---------------------------------------------------------------------------------------------------------

    def test_key_by_value(self):
        source, target, other = self.client(registered=True), self.client(), self.client(registered=True)
        made = self.said(source.deposit([target.id], kv=KV, lbl=["x"]), 2001)
        common_ones = {"ty", "ri", "rn", "pi", "ct", "lt", "et", "lbl", "adfq", "srci", "suid"}
        self.assertEqual(set(made.pc), common_ones | {"tgis"})
        self.assertEqual((made.pc["ty"], made.pc["srci"], made.pc["tgis"]), (TY_KEY_REG, source.id, [target.id]))
        got = self.said(target.ask("GET", made.location), 2000).pc
        self.assertEqual(set(got), common_ones | {"kv"})
        self.assertEqual(base64.b64decode(got["kv"]), KEY)
        self.assertEqual(self.said(source.ask("GET", made.location), 2000).pc, made.pc)
        refused = self.said(other.ask("GET", made.location), 4103)
        self.assertNotIn(KV.encode(), refused.body)

    def test_update_of_targets(self):
        source, one, two = self.client(registered=True), self.client(), self.client()
        made = self.said(source.deposit([one.id], kv=KV), 2001)
        self.said(two.ask("GET", made.location), 4103)
        self.assertEqual(self.said(source.update(made, "sec:skr", tgis=[one.id, two.id]), 2004).pc, {"tgis": [one.id, two.id]})
        self.said(two.ask("GET", made.location), 2000)
        self.said(source.update(made, "sec:skr", tgis=[two.id]), 2004)
        self.said(one.ask("GET", made.location), 4103)
        self.said(two.ask("GET", made.location), 2000)
        for wrong in ({}, {"kv": KV}, {"suid": 24}, {"tgis": []}):
            self.said(source.update(made, "sec:skr", **wrong), 4000)
        self.said(two.update(made, "sec:skr", tgis=[one.id]), 4103)

    def test_discovery_is_newest_first(self):
        """Each once, also when labels came later."""
        c, a, b = self.client(registered=True), secrets.token_hex(6), secrets.token_hex(6)
        old = self.said(c.deposit([c.id], kv=KV, lbl=[a]), 2001)
        new = self.said(c.deposit([c.id], kv=KV, lbl=[a, b]), 2001)
        self.said(c.update(old, "sec:skr", lbl=[a]), 2004)
        for query in (["lbl=" + a], ["lbl=" + a, "lbl=" + b]):
            self.assertEqual(c.found(*query), [new.location, old.location])
        self.assertEqual(c.found("lbl=" + a, "lim=1"), [new.location])

    def test_delete_of_a_key(self):
        source, target = self.client(registered=True), self.client()
        made = self.said(source.deposit([target.id], kv=KV), 2001)
        self.said(target.ask("DELETE", made.location), 4103)
        self.said(target.ask("GET", made.location), 2000)
        self.said(source.ask("DELETE", made.location), 2002)
        for c in (source, target):
            self.said(c.ask("GET", made.location), 4004)

    def test_usages(self):
        source = self.client(registered=True)
        maf, ae, cse = "maf.example.com", "//example.org/in-cse/Cx", "//example.org/in-cse"
        one, several = [[ae], [cse]], [[ae], [cse], [ae, cse]]
        for suid, good in ((21, [[maf]]), (22, one), (23, one), (24, several), (25, several)):
            for targets in ([maf], [ae], [cse], [ae, cse], [maf, "maf2.example.com"], [maf, ae], []):
                with self.subTest(suid=suid, targets=targets):
                    self.said(source.deposit(targets, suid, kv=KV), 2001 if targets in good else 4000)
        for suid in (0, 10, 20, 26, 31, 32, 44):
            self.said(source.deposit([ae], suid, kv=KV), 4000)

    def test_source_must_be_registered(self):
        c = self.client()
        self.said(c.deposit([c.id], kv=KV), 4103)
        self.said(c.register(), 2001)
        self.said(c.deposit([c.id], kv=KV), 2001)

    def test_a_key_id_is_never_used_again(self):
        c = self.client(registered=True)
        made = self.said(c.deposit([c.id]), 2001)  # exported: a session has one key
        self.said(c.deposit([c.id]), 4105)
        self.said(c.ask("DELETE", made.location), 2002)
        self.said(c.deposit([c.id]), 4105)
        self.said(c.deposit([c.id], kv=KV), 2001)
        c.reconnect()
        ids = {self.said(c.deposit([c.id]), 2001).pc["ri"], made.pc["ri"]}
        ids |= {self.said(c.deposit([c.id], kv=KV), 2001).pc["ri"] for _ in range(20)}
        self.assertEqual(len(ids), 22)

    def test_the_other_binding(self):
        """Registered here, in CBOR; fetched there, in JSON."""
        there = ("https" if self.way[0] == "coaps" else "coaps", self.way[1])
        source, target = self.client(registered=True), self.client(way=there)
        made = self.said(source.deposit([target.id], kv=KEY, form=CBOR, accept=JSON), 2001)
        self.assertEqual(base64.b64decode(self.said(target.ask("GET", made.location), 2000).pc["kv"]), KEY)
        exported = self.said(source.deposit([target.id]), 2001)
        self.assertEqual(len(base64.b64decode(self.said(target.ask("GET", exported.location), 2000).pc["kv"])), 32)

    # --- bindings -----------------------------------------------------------------------------------------------------

    def test_status_codes(self):
        """TS-0008 Table 6.2.4-1, TS-0009 Table 6.3.2-1."""
        c, other = self.client(), self.client(registered=True)
        made = c.register()
        key = other.deposit([other.id], kv=KV)
        other.deposit([other.id])
        content = {"sec:mecr": {"et": "20991231T235959", "adfq": ADMIN}}
        for answer, rsc, coap, http in (
                (made, 2001, "2.01", 201), (c.ask("GET"), 2000, "2.05", 200),
                (c.update(made, "sec:mecr", lbl=["x"]), 2004, "2.04", 200),
                (c.ask("DELETE", made.location), 2002, "2.02", 200),
                (c.ask("GET", query=("zz=1",)), 4000, "4.00", 400), (c.ask("GET", "mef/nothing"), 4004, "4.04", 404),
                (c.ask("DELETE"), 4005, "4.05", 405),
                (c.ask("POST", ty=TY_CLIENT_REG, content=b"<a/>", form=XML), 4015, "4.15", 415),
                (c.ask("GET", key.location), 4103, "4.03", 403),
                (other.deposit([other.id]), 4105, "4.03", 409), (c.ask("GET", origin=other.id), 4106, "4.03", 403),
                (c.ask("POST", ty=2, content=content), 4108, "4.03", 403), (other.register(), 4117, "4.03", 403),
                (c.ask("POST", ty=TY_CLIENT_CMD + 100, content=content), 5001, "5.01", 501),
                (c.ask("GET", accept=XML), 5207, "4.06", 406)):
            with self.subTest(rsc=rsc):
                self.said(answer, rsc)
                self.assertEqual(answer.code, coap if self.way[0] == "coaps" else http)
                self.assertNotEqual(answer.rqi, "")

    def test_what_is_repeated(self):
        """Request identifier and release version, also in a refusal; what is not known does no harm, unless it is critical."""
        c, rqi = self.client(), "né " + secrets.token_hex(4)
        for path in ("mef", "mef/nothing"):
            if self.way[0] == "coaps":
                a = c.session.client.request(GET, path, origin=c.id, rqi=rqi)
                self.assertEqual((a.options[RQI], a.options[RVI]), ([rqi.encode()], [b"3"]))
                bad = c.session.client.request(GET, path, [(CRITICAL, b"x")], origin=c.id, rqi=rqi)
                self.assertEqual(bad.dotted, "4.02")
                good = c.session.client.request(GET, path, [(CRITICAL + 1, b"x")], origin=c.id, rqi=rqi)
                self.assertEqual((good.dotted, good.payload), (a.dotted, a.payload))
            else:
                fields = {"X-M2M-Origin": c.id, "X-M2M-RI": rqi[3:], "X-M2M-RVI": "3", "X-Nobodys": "x"}
                _, got, _ = c.session.said("GET", "/" + path, fields, b"")
                self.assertEqual((got["x-m2m-ri"], got["x-m2m-rvi"]), (rqi[3:], "3"))

    def test_formats(self):
        c = self.client(registered=True)
        for form in (JSON, CBOR):
            for accept in (JSON, CBOR):
                with self.subTest(form=form, accept=accept):
                    made = self.said(c.deposit([c.id], kv=KV, form=form, accept=accept), 2001)
                    self.assertEqual(made.body[:8], b'{"sec:sk' if accept == JSON else b"\xa1\x67sec:sk")
        self.said(c.ask("POST", ty=TY_KEY_REG, content=b"\xa1\x67sec:skr", form=CBOR), 4000)

    def test_large_contents(self):
        c, labels = self.client(), [letter * 250 for letter in "abcdefghijkl"]
        made = self.said(c.register(lbl=labels), 2001)
        self.assertEqual(self.said(c.ask("GET", made.location), 2000).pc["lbl"], labels)


class ByPsk:
    def test_wrong_keys(self):
        who = "//example.org/in-cse/C" + secrets.token_hex(6)
        good = self.proof("psk", who, ADMIN)
        self.refused((*good[:3], "00" * 32))
        self.refused(("-psk_identity", "nobody@mef.example.org", *good[2:]))
        self.said(self.opened(who, good).ask("GET"), 2000)


class ByCertificate:
    def test_wrong_certificates(self):
        who = "//example.org/in-cse/C" + secrets.token_hex(6)
        good = self.proof("certificate", who, ADMIN)
        for pair in (self.stranger.issue("of-others", uris=[who]), self.ca.issue("old", uris=[who], life=-HOUR / 2),
                     self.ca.issue("wild", dns=["*.example.org"]), self.ca.issue("nameless", ips=["127.0.0.1"])):
            self.refused(self.shown(pair))
        near = self.opened(who, self.shown(self.ca.issue("near", uris=[who + "x"])))
        self.said(near.ask("GET"), 4107)
        self.said(self.opened(who, good).ask("GET"), 2000)

    def test_a_cse_is_its_domain_name(self):
        cse = "//example.org/cse" + secrets.token_hex(4)
        c = self.opened(cse, self.proof("certificate", cse, ADMIN, san=cse[14:] + ".example.org"))
        self.assertEqual(self.said(c.register(), 2001).pc["srci"], cse)


class OverTls:
    def test_exported_key(self):
        """openssl's own exporter says the same as the MEF."""
        c, target = self.client(), self.client()
        common_ones = {"et": "20991231T235959", "adfq": ADMIN}
        said = b""
        with subprocess.Popen(["openssl", "s_client", "-tls1_2", "-nocommands", "-connect", f"127.0.0.1:{self.stack.https}", *c.proof,
                               "-keymatexport", "EXPORTER-oneM2M-Bootstrap", "-keymatexportlen", "48"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
            for ty, content in ((TY_CLIENT_REG, {"sec:mecr": common_ones}),
                                (TY_KEY_REG, {"sec:skr": {**common_ones, "suid": 22, "tgis": [target.id]}})):
                body = json.dumps(content)
                last = "Connection: close\r\n" if ty == TY_KEY_REG else ""
                child.stdin.write(f"POST /mef HTTP/1.1\r\nHost: x\r\nX-M2M-Origin: {c.id}\r\nX-M2M-RI: 1\r\nX-M2M-RVI: 3\r\n"
                                  f"Content-Type: application/json; ty={ty}\r\n{last}Content-Length: {len(body)}\r\n\r\n{body}".encode())
                child.stdin.flush()
            while more := child.stdout.read1():
                said += more
        material = keying_material(said)
        got = self.said(target.ask("GET", "mef/" + material[:16].hex()), 2000).pc
        self.assertEqual(base64.b64decode(got["kv"]), material[16:])

    def test_without_a_credential(self):
        cipher = ("-cipher", SUITES["https", "certificate"])
        nobody = self.opened("//example.org/in-cse/Cnobody", cipher, way=("https", "certificate"))
        self.said(nobody.ask("GET"), 4107)
        self.said(nobody.register(), 4107)


class CoapsByPsk(Procedures, ByPsk, common.StackTest):
    way = ("coaps", "psk")


class CoapsByCertificate(Procedures, ByCertificate, common.StackTest):
    way = ("coaps", "certificate")


class HttpsByPsk(Procedures, ByPsk, OverTls, common.StackTest):
    way = ("https", "psk")


class HttpsByCertificate(Procedures, ByCertificate, OverTls, common.StackTest):
    way = ("https", "certificate")


if __name__ == "__main__":
    unittest.main()
