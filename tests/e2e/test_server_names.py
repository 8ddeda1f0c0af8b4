"""Several MEF-FQDNs in one MEF (TS-0003 10.2.1): the server name that a client asks for (SNI) selects the authority, that is
whose client it can be and by which name the MEF goes."""
import re
import secrets
import subprocess
import unittest

import common
from coapclient import HandshakeRefused
from mmef import Client
from stack import ADMIN, AE_ID, FQDN, StackError, set_option
from test_procedures import KV, SECOND, Clients

OTHER = "mef.second.example.com"  # MEF-FQDN of the second stakeholder
UNKNOWN = "mef.third.example.com"


def asking(name: str | None) -> tuple:
    return ("-servername", name) if name else ("-noservername",)


class ServerNames(Clients):
    """A certificate goes for the first MEF-FQDN where no name, or an unknown one, is asked for; a KpmID tells its own."""

    @classmethod
    def prepare(cls):
        conf = cls.stack.mefd_conf
        set_option(conf, "stakeholder.second", "admin-fqdn", SECOND.upper())
        set_option(conf, "stakeholder.second", "mef-fqdn", OTHER)
        set_option(conf, "mef", "fetch-credentials", "yes")
        super().prepare()
        pair = cls.ca.issue("other", dns=[OTHER], server=True)
        for key, value in (("server-name", OTHER), ("certificate", pair.cert), ("private-key", pair.key)):
            set_option(conf, "certificate.other", key, str(value))
        cls.stack.restart_mefd()

    def named(self, admin: str, *names: str | None, registered: bool = False) -> list:
        """The same client, in a session for each name that it asks for."""
        who = f"//example.org/in-cse/C{secrets.token_hex(6)}"
        proof = self.proof(self.way[1], who, admin)
        clients = [self.opened(who, (*proof, *asking(name)), admin) for name in names]
        if registered:
            self.said(clients[0].register(), 2001)
        return clients

    def base(self, client) -> tuple:
        pc = self.said(client.ask("GET"), 2000).pc
        return pc["fq"], pc["adfq"]

    def same(self, one, other):
        self.assertEqual((one.rsc, one.code, one.body), (other.rsc, other.code, other.body))

    def test_base(self):
        for name in (FQDN, FQDN.upper(), UNKNOWN, "localhost", None):
            with self.subTest(name):
                self.assertEqual(self.base(*self.named(ADMIN, name)), (FQDN, ADMIN))
        for name in (OTHER, OTHER.title()):
            with self.subTest(name):
                self.assertEqual(self.base(*self.named(SECOND, name)), (OTHER, SECOND))

    def test_one_name_of_two_stakeholders(self):
        """What a client is, is asked of the authority that it came to; the other is not heard of."""
        who = f"//example.org/in-cse/C{secrets.token_hex(6)}"
        proofs = {admin: self.proof(self.way[1], who, admin) for admin in (ADMIN, SECOND)}
        for admin, name, fqdn in ((ADMIN, None, FQDN), (ADMIN, FQDN, FQDN), (SECOND, OTHER, OTHER)):
            client = self.opened(who, (*proofs[admin], *asking(name)), admin)
            self.assertEqual(self.base(client), (fqdn, admin))
            self.said(client.register(adfq=SECOND if admin == ADMIN else ADMIN), 4103)

    def test_keys_stay_with_their_authority(self):
        """What is the other's is answered as what was never there."""
        label, nothing = "room:" + secrets.token_hex(4), "mef/" + "0" * 32
        source, = self.named(ADMIN, FQDN, registered=True)
        theirs, = self.named(SECOND, OTHER, registered=True)
        key = self.said(source.deposit([source.id, theirs.id], kv=KV, lbl=[label]), 2001)
        self.assertEqual(source.found("lbl=" + label), [key.location])
        self.assertEqual(theirs.found("lbl=" + label), [])
        for method, content in (("GET", None), ("PUT", {"sec:skr": {"et": "20500101T000000"}}), ("DELETE", None)):
            self.same(*(theirs.ask(method, path, content=content) for path in (key.location, nothing)))
        self.said(source.ask("GET", key.location), 2000)

    def test_key_identifiers(self):
        """KeID = RelativeKeyID@FQDN (TS-0003 10.3.1, 8.3.2.1), of the authority that has the key."""
        for admin, name, other in ((ADMIN, FQDN, OTHER), (SECOND, OTHER, FQDN)):
            source, = self.named(admin, name, registered=True)
            target, = self.named(admin, name)
            ri = self.said(source.deposit([target.id]), 2001).pc["ri"]
            self.said(target.ask("GET", f"fetchCredentials/{ri}@{name}/24"), 2000)
            self.same(*(target.ask("GET", f"fetchCredentials/{key}@{other}/24") for key in (ri, "0" * 32)))
            self.same(*(target.ask("GET", f"fetchCredentials/{key}/24") for key in (f"{ri}@{other}", f"{'0' * 32}@{name}")))

    def test_commands_name_the_authority(self):
        for admin, header, name, other in ((ADMIN, None, FQDN, OTHER), (SECOND, self.second, OTHER, FQDN)):
            client, = self.named(admin, name, registered=True)
            registration = client.found()[0][4:]
            for fqdn, expected in ((name, 201), (other, 400)):
                command = {"cmdClassID": 2, "cmdArgs": {"devCfgCmdArgs": {"deviceConfigURI": f"1:https://{fqdn}/dm"}}}
                status, said = self.stack.rest("POST", f"/v1/registrations/{registration}/commands", command, header)
                self.assertEqual(status, expected, said)

    def test_nobody_is_the_mef(self):
        for fqdn in (FQDN, OTHER):
            status, said = self.stack.rest("POST", "/v1/credentials", {"for": fqdn, "kind": "psk"}, self.second)
            self.assertEqual((status, said["code"]), (400, "bad-value"))


class ByPsk(ServerNames):
    def test_a_kpm_id_ends_in_its_authority(self):
        for admin, header, fqdn in ((ADMIN, None, FQDN), (SECOND, self.second, OTHER)):
            _, made = self.stack.rest("POST", "/v1/credentials", {"for": "C1", "kind": "psk"}, header)
            self.assertRegex(made["kpmId"], rf"\A[0-9a-f]{{24}}@{re.escape(fqdn)}\Z")

    def test_a_kpm_id_under_another_name(self):
        for admin, name in ((ADMIN, OTHER), (SECOND, FQDN)):
            with self.assertRaises(HandshakeRefused):
                self.named(admin, name)

    def test_a_kpm_id_tells_where_no_name_does(self):
        for admin, fqdn in ((ADMIN, FQDN), (SECOND, OTHER)):
            for client in self.named(admin, None, UNKNOWN, fqdn):
                self.assertEqual(self.base(client), (fqdn, admin))


class ByCertificate(ServerNames):
    def test_a_certificate_of_another_authority(self):
        """It is answered like one that nobody knows."""
        for admin, *names in ((ADMIN, OTHER), (SECOND, FQDN, UNKNOWN, None)):
            for name in names:
                known, = self.named(admin, name)
                unknown = self.opened(known.id, (*self.shown(self.ca.issue(secrets.token_hex(4), uris=[known.id + "x"])), *asking(name)))
                for ask in (Client.register, lambda c: c.ask("GET"), lambda c: c.ask("GET", "mef/" + "0" * 32)):
                    one, other = map(ask, (known, unknown))
                    self.said(one, 4107)
                    self.same(one, other)


class CoapsByPsk(ByPsk, common.StackTest):
    way = ("coaps", "psk")


class CoapsByCertificate(ByCertificate, common.StackTest):
    way = ("coaps", "certificate")


class HttpsByPsk(ByPsk, common.StackTest):
    way = ("https", "psk")

    def test_tls_1_3(self):
        """There the external PSK is a resumed session to OpenSSL, and the name must come through nevertheless. A client whose
        PSK is refused goes on without, and is nobody."""
        who = f"//example.org/in-cse/C{secrets.token_hex(6)}"
        proof = self.proof("psk", who, SECOND)
        nobody = ("-psk_identity", "0" * 24 + "@" + FQDN, *proof[2:])
        for proof, name, status in ((proof, OTHER, 200), (proof, None, 200), (proof, FQDN, 403), (nobody, FQDN, 403)):
            done = subprocess.run(["openssl", "s_client", "-tls1_3", "-connect", f"127.0.0.1:{self.stack.https}", *proof, *asking(name),
                                   "-quiet", "-ign_eof"], capture_output=True, timeout=20,
                                  input=(f"GET /mef HTTP/1.1\r\nHost: {FQDN}\r\nX-M2M-Origin: {who}\r\nX-M2M-RI: 1\r\n"
                                         "X-M2M-RVI: 3\r\nConnection: close\r\n\r\n").encode())
            self.assertRegex(done.stdout, rf"\AHTTP/1.1 {status} ".encode(), done.stderr)


class HttpsByCertificate(ByCertificate, common.StackTest):
    way = ("https", "certificate")

    def test_the_host_field_chooses_nothing(self):
        client, = self.named(SECOND, OTHER)
        for host in (FQDN, OTHER, UNKNOWN):
            _, got, _ = client.session.said("GET", "/mef", {"Host": host, "X-M2M-RI": "1", "X-M2M-RVI": "3", "X-M2M-Origin": client.id}, b"")
            self.assertEqual(got["x-m2m-rsc"], "2000")


class Published(Clients, common.DevicesTest):
    """The stakeholder of a gateway, its devices and their AE has a MEF-FQDN of its own. None of them says a server name."""

    way = ("coaps", "psk")
    gateway = True
    first = "mef.operator.example.org"
    options = {**common.SHORT_CODES, ("mef", "fqdn"): first, ("mef", "sp-id"): "//example.org",
               ("stakeholder.ours", "admin-fqdn"): ADMIN, ("stakeholder.ours", "mef-fqdn"): FQDN}

    def test_a_published_key_is_of_the_authority(self):
        s = self.stack
        eui, _, joiner = self.enrol()
        self.command(eui, joiner)
        self.assertTrue(s.ae["kpmId"].endswith("@" + FQDN))
        ae = self.opened(AE_ID, ("-psk_identity", s.ae["kpmId"], "-psk", s.ae["kpm"]))
        pc = self.said(ae.ask("GET", "mef/" + s.device(eui)["keyId"]), 2000).pc
        self.assertEqual((pc["srci"], pc["adfq"]), (FQDN, ADMIN))
        self.assertEqual(self.said(ae.ask("GET"), 2000).pc["fq"], FQDN)
        self.assertEqual(self.said(self.client(admin=SECOND).ask("GET"), 2000).pc["fq"], self.first)


class Starting(Clients, common.StackTest):
    """What mefd says when names changed, or do not fit."""

    way = ("coaps", "psk")

    def start(self, **stakeholders) -> str:
        """mefd, anew, with these sections; what it then logs."""
        log, before = self.stack.mefd.log, len(self.stack.mefd.log.read_text())
        for name, (admin, fqdn) in stakeholders.items():
            set_option(self.stack.mefd_conf, f"stakeholder.{name}", "admin-fqdn", admin)
            set_option(self.stack.mefd_conf, f"stakeholder.{name}", "mef-fqdn", fqdn)
        self.stack.restart_mefd()
        return log.read_text()[before:]

    def setUp(self):
        before = self.stack.mefd_conf.read_text()
        self.addCleanup(self.start)
        self.addCleanup(lambda: self.stack.mefd_conf.write_text(before))

    def test_key_identifiers_of_another_name(self):
        """They work again when the name is as it was."""
        who = f"//example.org/in-cse/C{secrets.token_hex(6)}"
        proof, certificate = self.proof("psk", who, ADMIN), self.proof("certificate", who + "x", ADMIN)
        stored = sum(c["kind"] == "psk" for c in self.stack.must("GET", "/v1/credentials"))
        said = self.start(moved=(ADMIN, OTHER))
        self.assertRegex(said, rf"credential\.other-fqdn count={stored} ")
        for name in (None, FQDN, OTHER):
            self.refused((*proof, *asking(name)))
        client = self.opened(who + "x", (*certificate, *asking(OTHER)), way=("coaps", "certificate"))
        self.assertEqual(self.said(client.ask("GET"), 2000).pc["fq"], OTHER)
        made_there = self.proof("psk", who, ADMIN)
        self.assertTrue(made_there[1].endswith("@" + OTHER))
        self.assertIn("credential.other-fqdn count=1 ", self.start(moved=(ADMIN, FQDN)))
        self.refused(made_there)
        self.said(self.opened(who, proof).ask("GET"), 2000)

    def test_a_name_without_a_certificate(self):
        said = self.start(second=(SECOND, OTHER), third=("third.example.com", FQDN))
        self.assertEqual(re.findall(r"authority\.no-certificate mef-fqdn=(\S+)", said), [OTHER])

    def test_what_does_not_fit(self):
        s = self.stack
        for sections, reason in (({"a": (SECOND, OTHER), "b": (SECOND.upper(), FQDN)}, "second.example.com stands in two sections"),
                                 ({"a": (SECOND, "mef")}, "[stakeholder.a] mef-fqdn: not an FQDN")):
            with self.subTest(reason):
                with self.assertRaises(StackError):
                    self.start(**sections)
                self.assertIn(reason, s.mefd.tail())


if __name__ == "__main__":
    unittest.main()
