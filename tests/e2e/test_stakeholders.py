"""Two stakeholders on one MEF: neither sees or names the other's objects, in any response, error or discovery, by AE or by
operator. Whatever the second asks of an object of the first is answered as if it asked of one that does not exist, byte by
byte but for the ids that it sent itself."""
import itertools
import json
import re
import secrets
import subprocess
import time
import unittest

import common
from coapclient import HELLO, JSON, OCTETS, CoapClient, POST, CONTENT_FORMAT, CBOR, eg_message, eg_request, uint
from mmef import SUITES, TY_CLIENT_CMD, TY_CLIENT_REG, TY_KEY_REG, Https
from stack import ADMIN, AE_ID, FQDN, StackError, install_code, random_eui64, set_option, write_private
from test_commands import DEV_CFG
from test_procedures import KV, SECOND, Clients

WAYS = [(binding, kind) for binding in ("coaps", "https") for kind in ("psk", "certificate")]
DESK, COUNTER = "desk.second.example.com", "counter.second.example.com"  # operators of the second, by certificate
CONFIGURATION = {"fqdn": FQDN, "adminFQDN": ADMIN}
OWN_OPTIONS = {279, 283}                                 # From, Request Identifier: of the request itself
OWN_FIELDS = {"date", "x-m2m-ri", "x-m2m-origin"}
MADE = re.compile(rb"[0-9a-f]{24,64}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|\d{8}T\d{6}(,\d+)?")  # ids, keys and times


def beside(name: str) -> str:
    """The name with another last digit: in a list it would stand in the same place."""
    rel, at, fqdn = name.partition("@")
    return rel[:-1] + ("0" if rel[-1] == "f" else "9" if rel[-1] == "a" else chr(ord(rel[-1]) ^ 1)) + at + fqdn


class Stakeholders(Clients, common.DevicesTest):
    way = ("coaps", "psk")

    @classmethod
    def prepare(cls):
        s = cls.stack
        for name, role in (("desk", "admin"), ("counter", "viewer")):
            for key, value in (("san", f"{name}.{SECOND}"), ("admin-fqdn", SECOND), ("role", role)):
                set_option(s.mefd_conf, f"operator.{name}", key, value)
        for role in ("installer", "viewer"):
            token = write_private(cls.folder / f"{role}.token", role[0] * 40 + "\n")
            for key, value in (("file", token), ("admin-fqdn", SECOND), ("role", role)):
                set_option(s.mefd_conf, f"token.{role}", key, str(value))
        super().prepare()
        s.start_gateway()

    def setUp(self):
        """Every kind of object, of the first stakeholder; and of the second an AE by each way, and its operators."""
        s = self.stack
        self.label = "room:" + secrets.token_hex(6)
        self.ours = self.client(registered=True)
        self.key = self.said(self.ours.deposit([self.ours.id], kv=KV, lbl=[self.label]), 2001).location
        self.registration = next(uri for uri in self.ours.found() if uri != self.key)
        s.must("POST", f"/v1/registrations/{self.registration[4:]}/commands", DEV_CFG)
        s.must("PUT", f"/v1/registrations/{self.registration[4:]}/configuration", CONFIGURATION)
        self.app = "app" + secrets.token_hex(6)
        s.must("PUT", f"/v1/applications/{self.app}", {"members": [AE_ID]})
        self.eui, _, _ = self.enrol(registration={"application": self.app})
        self.waiting = random_eui64()
        s.register_code(self.waiting, install_code())
        self.published = s.device(self.eui)["keyId"]
        self.rule = "rule" + secrets.token_hex(6)
        s.must("PUT", f"/v1/policies/{self.rule}", {"effect": "deny", "what": ["ticket"], "ids": [self.ours.id]})
        self.san = f"//example.org/in-cse/C{secrets.token_hex(6)}"
        self.credential = s.must("POST", "/v1/credentials", {"for": self.san, "kind": "certificate"})["id"]
        self.kpm = s.ae["kpmId"]
        self.aes = [self.client(admin=SECOND, way=way, registered=True) for way in WAYS]

    # --- asking ---------------------------------------------------------------------------------------------------------

    def operators(self) -> list:
        """[(name, session, header fields)] of the second stakeholder."""
        cipher = ("-cipher", SUITES["https", "certificate"])
        made = [(role, cipher, {"Authorization": "Bearer " + letter * 40}) for role, letter in
                (("admin", "s"), ("installer", "i"), ("viewer", "v"))]
        made += [(san, (*self.shown(self.ca.issue(secrets.token_hex(4), dns=[san])), *cipher), {}) for san in (DESK, COUNTER)]
        for name, proof, fields in made:
            session = Https(self.stack.https, proof)
            self.addCleanup(session.close)
            yield name, session, fields

    def rest(self, operator: tuple, method: str, path: str, body=None) -> tuple[int, dict, bytes]:
        _, session, fields = operator
        text = b"" if body is None else json.dumps(body).encode()
        return session.said(method, path, {**fields, **({"Content-Type": "application/json"} if text else {})}, text)

    def same(self, one: tuple, other: tuple, asked: dict, what):
        """Two whole answers are one, when each word of `asked` in the first is what stands for it in the second, and what a
        success has made is left aside."""
        plain = []
        for answer, words in ((one, asked), (other, {v: v for v in asked.values()})):
            said = b"".join(part if isinstance(part, bytes) else repr(part).encode() for part in answer)
            for word, stands_for in words.items():
                said = said.replace(word.encode(), stands_for.encode())
            plain.append(MADE.sub(b"*", said) if answer[0] in (200, 201, "2.01", "2.04") else said)
        self.assertEqual(plain[0], plain[1], what)

    def whole(self, answer) -> tuple:
        """What came, but for what the request itself decides."""
        left = {k: v for k, v in answer.options.items() if k not in OWN_OPTIONS | OWN_FIELDS}
        return answer.code, answer.rsc, sorted(left.items(), key=str), answer.body

    # --- AEs ------------------------------------------------------------------------------------------------------------

    def names(self) -> dict:
        """Of each name of the first stakeholder, the next one like it, which nobody has."""
        s = self.stack
        return {name: beside(name) for name in (self.key[4:], self.registration[4:], self.published, self.eui, self.waiting, s.gateway_eui,
                                                self.app, self.label, self.rule, self.credential, self.kpm, self.ours.id, self.san)}

    def test_aes(self):
        names = {**self.names(), ADMIN: "fem" + ADMIN[3:]}
        resources = [self.key, self.registration, "mef/" + self.published]
        contents = [{"sec:skr": {"et": "20500101T000000"}}, {"sec:skr": {"tgis": [AE_ID]}}, {"sec:mecr": {"lbl": ["x"]}}, {},
                    b"{", {"sec:skr": {"kv": KV}}]
        asks = [("GET", p, {}) for p in resources] + [("DELETE", p, {}) for p in resources]
        asks += [("GET", p, {"query": (q,)}) for p in resources for q in ("rcn=1", "rcn=6", "fu=1", "x=1")]
        asks += [("PUT", p, {"content": c}) for p in resources for c in contents]
        asks += [("POST", p, {"ty": ty, "content": c}) for p in resources for c in contents for ty in (TY_CLIENT_CMD, TY_KEY_REG, 2)]
        children = [p + child for p in resources for child in ("/cmd", "-cmd", "/cfg", "-cfg", "/x")]
        asks += [(method, p, {}) for p in children for method in ("GET", "DELETE")]
        asks += [("PUT", p, {"content": c}) for p in children for c in ({}, {"sec:mecc": {"cmi": "1", "cmst": 20}})]
        asks += [("GET", p.upper()[:4].lower() + p[4:].upper(), {}) for p in resources]
        for eui in (self.eui, self.waiting):
            asks += [("GET", f"mef/eg/{kind}/{eui}", {"accept": form}) for kind, form in (("devices", JSON), ("frames", OCTETS))]
            asks += [("POST", f"mef/eg/devices/{eui}/ticket", {"content": {"count": 1}}), ("DELETE", f"mef/eg/devices/{eui}", {}),
                     ("POST", f"mef/eg/frames/{eui}", {"content": b"\x08\x00", "form": OCTETS})]
        labels = [self.label, "eui64:" + self.eui, "eui64:" + self.waiting, "gw:" + self.stack.gateway_eui]
        asks += [("GET", "mef", {"query": ("fu=1", "lbl=" + label)}) for label in labels]
        for adfq in (ADMIN, ADMIN.upper()):
            asks += [("POST", "mef", {"ty": TY_CLIENT_REG, "content": {"sec:mecr": {"et": "20990101T000000", "adfq": adfq}}}),
                     ("POST", "mef", {"ty": TY_KEY_REG, "content": {"sec:skr": {"et": "20990101T000000", "adfq": adfq, "suid": 24,
                                                                               "tgis": [self.ours.id], "kv": KV}}})]
        asks += [("POST", "mef", {"ty": TY_KEY_REG, "content": {"sec:skr": {"et": "20990101T000000", "adfq": SECOND, "suid": 24,
                                                                           "tgis": [who], "kv": KV}}}) for who in (self.ours.id, AE_ID)]
        asks += [("GET", "mef", {"origin": who}) for who in (self.ours.id, self.san)]
        for ae in self.aes:
            for method, path, more in asks:
                with self.subTest(way=ae.way, method=method, path=path, **more):
                    self.asked(ae, method, path, more, names)

    def asked(self, ae, method, path, more, names):
        upper = {k.upper(): v.upper() for k, v in names.items()}
        there = self.whole(ae.ask(method, path, **more))
        text = json.dumps([path, {k: v.hex() if isinstance(v, bytes) else v for k, v in more.items()}])
        for word, stands_for in {**names, **upper}.items():
            text = text.replace(word, stands_for)
        path, other = json.loads(text)
        other = {k: bytes.fromhex(v) if isinstance(more[k], bytes) else v for k, v in other.items()}
        nowhere = self.whole(ae.ask(method, path, **other))
        self.same(there, nowhere, {**names, **upper}, (method, path, more))

    def test_discovery_and_base(self):
        """What nobody asks for by name is not told either."""
        names = [name.encode() for name in self.names()]
        for ae in self.aes:
            mine = {uri for uri in ae.found()}
            self.assertEqual(len(mine), 1, mine)
            for query in ((), ("fu=1",), ("fu=1", "lim=1000"), ("fu=1", "lbl=use:zigbee-nwk"), ("fu=1", "lbl=keyseq:0")):
                said = ae.ask("GET", query=query).body
                self.assertEqual([n for n in names if n in said], [], query)
            self.assertIn(SECOND.encode(), ae.ask("GET").body)

    def test_the_comparison_sees_differences(self):
        """The control for the others: to the first stakeholder's own AE its objects are not what nobody has."""
        for path in (self.key, self.registration, self.registration + "/cmd", self.registration + "-cfg"):
            with self.assertRaises(AssertionError):
                self.asked(self.ours, "GET", path, {}, self.names())
        for path in (f"devices/{self.eui}", f"applications/{self.app}", f"credentials/{self.kpm}",
                     f"registrations/{self.registration[4:]}", f"registrations/{self.registration[4:]}/commands",
                     f"registrations/{self.registration[4:]}/configuration"):
            operator = ("ours", Https(self.stack.https, ("-cipher", SUITES["https", "certificate"])),
                        {"Authorization": "Bearer " + self.stack.token()})
            self.addCleanup(operator[1].close)
            with self.assertRaises(AssertionError):
                self.asked_by_operator(operator, "GET", f"/v1/{path}", None, self.names())

    # --- operators ------------------------------------------------------------------------------------------------------

    def test_operators(self):
        names, gw, code = self.names(), self.stack.gateway_eui, install_code()
        own = random_eui64()
        names |= {name: beside(name) for name in (own, self.stack.gw_credential["kpmId"])}
        asks = []
        for kind, some in (("install-codes", (self.eui, self.waiting)), ("devices", (self.eui, self.waiting)), ("gateways", (gw,)),
                           ("applications", (self.app,)), ("policies", (self.rule,)), ("credentials", (self.credential, self.kpm)),
                           ("registrations", (self.registration[4:],))):
            for name in some:
                asks += [(method, f"/v1/{kind}/{name}", None) for method in ("GET", "DELETE", "POST", "PUT")]
                asks += [("GET", f"/v1/{kind}/{name}?limit=1", None), ("GET", f"/v1/{kind}?after={name}", None),
                         ("GET", f"/v1/{kind}?limit=1000", None)]
        for eui in (self.eui, self.waiting):
            asks += [("POST", f"/v1/devices/{eui}/{act}", None) for act in ("rekey", "revoke", "rearm", "forget")]
        ours = f"/v1/registrations/{self.registration[4:]}"
        asks += [(method, ours + path, body) for method in ("GET", "PUT", "POST", "DELETE") for body in ({}, DEV_CFG, CONFIGURATION)
                 for path in ("/commands", "/commands/1", "/configuration")]
        bad = ({}, {"installCode": code[:-1] + "x"}, {"installCode": code, "zap": 1}, {"identity": self.kpm})
        asks += [("PUT", f"/v1/{path}", body) for path in (f"install-codes/{self.eui}", f"install-codes/{self.waiting}", f"gateways/{gw}")
                 for body in bad]
        asks += [("PUT", f"/v1/applications/{self.app}", {}), ("PUT", f"/v1/policies/{self.rule}", {}),
                 ("POST", "/v1/verdicts", {"what": "ticket", "id": self.ours.id, "gateway": gw}), ("GET", "/v1/events?limit=1", None), ("GET", "/v1/audit?limit=0", None)]
        made = [("PUT", f"/v1/applications/{self.app}", {"members": [self.ours.id]}), ("DELETE", f"/v1/applications/{self.app}", None),
                ("PUT", f"/v1/policies/{self.rule}", {"effect": "deny", "what": ["retrieve"], "ids": [self.ours.id], "gateways": [gw]}),
                ("DELETE", f"/v1/policies/{self.rule}", None),
                ("PUT", f"/v1/install-codes/{own}", {"installCode": code, "application": self.app, "targets": [self.ours.id]}),
                ("PUT", f"/v1/install-codes/{own}?replace=true", {"installCode": code, "gateways": [gw]}),
                ("GET", f"/v1/devices/{own}", None), ("DELETE", f"/v1/install-codes/{own}", None),
                ("PUT", f"/v1/gateways/{own}", {"identity": self.kpm}),
                ("PUT", f"/v1/gateways/{own}", {"identity": self.stack.gw_credential["kpmId"]}),
                ("POST", "/v1/credentials", {"for": self.ours.id, "kind": "psk"}),
                ("POST", "/v1/credentials", {"for": self.san, "kind": "certificate"}),
                ("POST", "/v1/credentials", {"for": "C1", "kind": "certificate", "san": self.kpm})]
        operators = list(self.operators())
        for some in (asks, made):  # what is made is in the lists
            for operator, (method, path, body) in itertools.product(operators, some):
                with self.subTest(operator=operator[0], method=method, path=path, body=body):
                    self.asked_by_operator(operator, method, path, body, names)

    def asked_by_operator(self, operator, method, path, body, names):
        there = self.rest(operator, method, path, body)
        text = json.dumps([path, body])
        for word, stands_for in names.items():
            text = text.replace(word, stands_for)
        nowhere = self.rest(operator, method, *json.loads(text))
        there, nowhere = ((a[0], sorted((k, v) for k, v in a[1].items() if k not in OWN_FIELDS), a[2]) for a in (there, nowhere))
        self.same(there, nowhere, names, (method, path))

    def test_lists_and_trails(self):
        """Lists, the trail and the feed of the one are without the other, whatever the other tries."""
        s, names = self.stack, self.names()
        feed = subprocess.Popen(["curl", "-sN", "--cacert", s.ca, "-H", f"@{self.second}", "-H", "Accept: text/event-stream",
                                 f"{s.https_uri}/v1/events"], stdout=subprocess.PIPE, text=True)
        self.addCleanup(lambda: (feed.kill(), feed.wait(), feed.stdout.close()))
        time.sleep(0.5)
        s.must("POST", f"/v1/devices/{self.eui}/rearm")
        s.must("DELETE", f"/v1/applications/{self.app}")
        self.said(self.ours.ask("GET", self.key), 2000)
        gateway = self.proof("psk", "gateway:" + secrets.token_hex(4), SECOND)
        carrier = CoapClient(s.coaps, gateway[1], gateway[3])
        self.addCleanup(carrier.close)
        for message in (eg_message(HELLO, 1, s.gateway_eui, "0" * 16, [0, 15]), eg_request(2, s.gateway_eui, self.waiting)):
            self.assertEqual(carrier.request(POST, "mef/eg", [(CONTENT_FORMAT, uint(CBOR))], message).dotted[:2], "4.")
        for ae in self.aes:
            self.said(ae.ask("GET", self.key), 4004)
        self.assertEqual(s.rest("PUT", "/v1/applications/mine", {"members": []}, self.second)[0], 201)
        heard = ""
        while "v1/applications/mine" not in heard and '"mine"' not in heard:
            heard += feed.stdout.readline()
        said = heard
        operators = [o for o in self.operators() if o[0] in ("admin", "viewer", DESK, COUNTER)]
        for operator in operators:
            for path in ("install-codes", "devices", "gateways", "applications", "policies", "credentials", "registrations", "audit"):
                status, _, body = self.rest(operator, "GET", f"/v1/{path}?limit=1000" if path != "gateways" else "/v1/gateways")
                self.assertEqual(status, 200, body)
                said += body.decode()
        self.assertEqual([n for n in names if n in said], [])
        theirs = [ae.id for ae in self.aes] + [gateway[1]]
        trail = json.dumps(s.must("GET", "/v1/audit?limit=1000"))
        self.assertIn('"not-bound"', trail)
        self.assertEqual([n for n in theirs if n in trail], [])

    def test_an_eui64_has_one_owner(self):
        """A device can be joined once, so the second to register it is refused, and told no more than that."""
        for path, body in ((f"install-codes/{self.eui}", {"installCode": install_code()}),
                           (f"install-codes/{self.waiting}", {"installCode": install_code()}),
                           (f"gateways/{self.stack.gateway_eui}", {"identity": self.proof("psk", "node:7", SECOND)[1]})):
            status, problem = self.stack.rest("PUT", "/v1/" + path, body, self.second)
            self.assertEqual((status, problem["code"]), (409, "exists"))
            self.assertNotRegex(json.dumps(problem), "expires|enrolled|" + ADMIN.replace(".", "\\."))

    # --- one client, two stakeholders -------------------------------------------------------------------------------------

    def test_a_client_of_both(self):
        """TS-0003 8.3.5.1: a client registers for each. By certificate it is the same client to both."""
        for binding in ("coaps", "https"):
            with self.subTest(binding=binding):
                who = f"//example.org/in-cse/C{secrets.token_hex(6)}"
                proof = self.proof("certificate", who, ADMIN)
                c = self.opened(who, proof, way=(binding, "certificate"))
                self.assertEqual(c.ask("GET").pc["adfq"], ADMIN)
                self.said(c.register(adfq=SECOND), 4103)
                self.proof("certificate", who, SECOND)
                self.assertNotIn("adfq", c.ask("GET").pc)
                made = [self.said(c.register(adfq=admin), 2001) for admin in (ADMIN, SECOND)]
                keys = [self.said(c.deposit([who], kv=KV, adfq=admin), 2001) for admin in (ADMIN, SECOND)]
                self.assertEqual([k.pc["adfq"] for k in keys], [ADMIN, SECOND])
                self.assertEqual(set(c.found()), {a.location for a in made + keys})
                for answer in made + keys:
                    self.said(c.ask("GET", answer.location), 2000)
                self.said(c.register(adfq=SECOND), 4117)
                self.said(c.register(adfq="third.example.com"), 4103)
                self.said(c.ask("DELETE", made[0].location), 2002)
                self.said(c.deposit([who], kv=KV, adfq=ADMIN), 4103)
                self.said(c.deposit([who], kv=KV, adfq=SECOND), 2001)

    def test_a_client_that_was_of_both(self):
        """The one is not told that it asks for the other."""
        who = f"//example.org/in-cse/C{secrets.token_hex(6)}"
        c = self.opened(who, self.proof("certificate", who, ADMIN), way=("https", "certificate"))
        for ty, root, more in ((TY_CLIENT_REG, "sec:mecr", {}), (TY_KEY_REG, "sec:skr", {"suid": 24, "tgis": [who], "kv": KV})):
            attributes = {"et": "20991231T235959", "adfq": SECOND, **more}
            self.said(c.ask("POST", ty=ty, content={root: attributes}), 4103)
        ours = lambda: [e for e in self.stack.must("GET", "/v1/audit?limit=1000") if e["actor"] == who]
        end = time.monotonic() + 5  # at the end of the second
        while len(ours()) < 2 and time.monotonic() < end:
            time.sleep(0.1)
        self.assertEqual({(e["action"], e["outcome"]) for e in ours()},
                         {(action, "other-stakeholder") for action in ("registration.create", "key.create")})
        self.assertNotIn(SECOND, json.dumps(ours()))


if __name__ == "__main__":
    unittest.main()
