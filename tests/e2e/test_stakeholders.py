"""Two stakeholders on one MEF: neither sees or names the other's objects, in any response, error or discovery, by AE, by
gateway or by operator. Whatever the second asks of an object of the first is answered as if it asked of one that does not
exist, byte by byte but for the ids that it sent itself. A route, or a member of a request, that no row here has is a failure."""
import itertools
import json
import re
import secrets
import subprocess
import time
import unittest

import yaml

import common
from coapclient import ACCEPT, CBOR, CONTENT_FORMAT, EG_REQUEST, GET, HELLO, JSON, OCTETS, POST, CoapClient, eg_message, eg_request, uint
from mmef import SUITES, TY_CLIENT_CFG, TY_CLIENT_CMD, TY_CLIENT_REG, TY_KEY_REG, Https
from stack import ADMIN, AE_ID, FQDN, ROOT, install_code, random_eui64, set_option, write_private
from test_commands import DEV_CFG
from test_procedures import KV, SECOND, Clients
from test_raw_keys import SERVED

WAYS = [(binding, kind) for binding in ("coaps", "https") for kind in ("psk", "certificate")]
DESK, COUNTER = "desk.second.example.com", "counter.second.example.com"  # operators of the second, by certificate
CONFIGURATION = {"fqdn": FQDN, "adminFQDN": ADMIN}
NOBODY = "fem.example.org"                               # as long as ADMIN
UPLINK, TX_RESULT, STALE, OBSERVE = 3, 5, 6, 6
# Members of requests that name no object, nor bring anything that an object could be known by.
PLAIN = {"expiresAt", "firstKeyForm", "keyScope", "lifetime", "kind", "effect", "what", "networks", "days", "from", "to", "cmdClassID",
         "cmdArgs", "expirationTime", "fqdn", "httpPort", "coapPort", "websocketPort"}
OWN_OPTIONS = {279, 283}                                 # From, Request Identifier: of the request itself
OWN_FIELDS = {"date", "x-m2m-ri", "x-m2m-origin"}
MADE = re.compile(rb"[0-9a-f]{24,64}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|\d{8}T\d{6}(,\d+)?"
                  rb'|commands/\d+|"id":"\d+"')  # ids, keys and times


def beside(name: str) -> str:
    """The name with another last digit: in a list it would stand in the same place."""
    rel, at, fqdn = name.partition("@")
    return rel[:-1] + ("0" if rel[-1] == "f" else "9" if rel[-1] == "a" else chr(ord(rel[-1]) ^ 1)) + at + fqdn


class Stakeholders(Clients, common.DevicesTest):
    way = ("coaps", "psk")

    @classmethod
    def prepare(cls):
        s = cls.stack
        set_option(s.mefd_conf, "mef", "fetch-credentials", "yes")
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
        self.own = {}  # what an operator of the second has made, and beside it
        self.label = "room:" + secrets.token_hex(6)
        self.ours = self.client()
        self.registration = self.said(self.ours.register(), 2001).location
        self.key = self.said(self.ours.deposit([self.ours.id], kv=KV, lbl=[self.label]), 2001).location
        self.exported = self.said(self.ours.deposit([self.ours.id]), 2001).location
        s.must("POST", f"/v1/registrations/{self.registration[4:]}/commands", DEV_CFG)
        s.must("PUT", f"/v1/registrations/{self.registration[4:]}/configuration", CONFIGURATION)
        self.app = "app" + secrets.token_hex(6)
        s.must("PUT", f"/v1/applications/{self.app}", {"members": [AE_ID], "keyScope": "application"})
        self.eui, _, _ = self.enrol(registration={"application": self.app})
        self.waiting, self.code = random_eui64(), install_code()
        s.register_code(self.waiting, self.code)
        self.published = s.device(self.eui)["keyId"]
        self.rule = "rule" + secrets.token_hex(6)
        s.must("PUT", f"/v1/policies/{self.rule}", {"effect": "deny", "what": ["ticket"], "ids": [self.ours.id]})
        self.san, self.node = f"//example.org/in-cse/C{secrets.token_hex(6)}", "node:" + secrets.token_hex(6)
        self.raw = "ni:///sha-256;" + secrets.token_hex(21) + "E"
        self.kpm = s.ae["kpmId"]
        made = [{"for": self.san, "kind": "certificate"}, {"for": self.node, "kind": "psk", "actsFor": [self.ours.id]}]
        made += [{"for": self.ours.id, "kind": "rpk", "san": self.raw}] if SERVED else []
        self.credentials = [s.must("POST", "/v1/credentials", body)["id"] for body in made] + [self.kpm, s.gw_credential["kpmId"]]
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
        return {name: beside(name) for name in (
            self.key[4:], self.exported[4:], self.registration[4:], self.published, self.eui, self.waiting, s.gateway_eui, self.app,
            self.label, self.rule, *self.credentials, self.ours.id, self.san, self.node, self.raw)}

    def asks(self) -> list:
        """[(method, path, what else)] of a client that knows everything's name."""
        keys = [self.key, self.exported, "mef/" + self.published]
        resources = [*keys, self.registration]
        contents = [{"sec:skr": {"et": "20500101T000000"}}, {"sec:skr": {"tgis": [AE_ID]}}, {"sec:mecr": {"lbl": ["x"]}}, {},
                    b"{", {"sec:skr": {"kv": KV}}, {"sec:mecf": {"ccfg": CONFIGURATION}}]
        asks = [(method, p, {}) for p in resources for method in ("GET", "DELETE")]
        asks += [("GET", p, {"query": (q,)}) for p in resources for q in ("rcn=1", "rcn=6", "fu=1", "x=1")]
        asks += [("GET", p, {"accept": CBOR}) for p in resources]
        asks += [("PUT", p, {"content": c}) for p in resources for c in contents]
        asks += [("POST", p, {"ty": ty, "content": c}) for p in resources for c in contents
                 for ty in (60001, TY_CLIENT_REG, TY_CLIENT_CMD, TY_KEY_REG, TY_CLIENT_CFG, 2)]
        children = [p + child for p in resources for child in ("/cmd", "-cmd", "/cfg", "-cfg", "/x")]
        asks += [(method, p, {}) for p in children for method in ("GET", "DELETE")]
        asks += [("PUT", p, {"content": c}) for p in children for c in ({}, {"sec:mecc": {"cmi": "1", "cmst": 20}})]
        asks += [("GET", p.upper()[:4].lower() + p[4:].upper(), {}) for p in resources]
        fetched = [f"fetchCredentials/{p[4:]}@{FQDN}/{usage}" for p in resources for usage in (24, 22, 20)]
        asks += [(method, p, more) for p in fetched for method, more in (("GET", {}), ("PUT", {"content": {}}), ("POST", {"content": {}}),
                                                                         ("DELETE", {}))]
        asks += self.eg_asks()
        labels = [self.label, "eui64:" + self.eui, "eui64:" + self.waiting, "gw:" + self.stack.gateway_eui]
        asks += [("GET", "mef", {"query": ("fu=1", *more, "lbl=" + label)}) for label in labels for more in ((), ("lim=1",), ("lbl=x",))]
        key = {"et": "20990101T000000", "adfq": SECOND, "suid": 24, "tgis": [AE_ID], "kv": KV}
        for adfq in (ADMIN, ADMIN.upper()):
            asks += [("POST", "mef", {"ty": TY_CLIENT_REG, "content": {"sec:mecr": {"et": "20990101T000000", "adfq": adfq}}}),
                     ("POST", "mef", {"ty": TY_KEY_REG, "content": {"sec:skr": {**key, "adfq": adfq}}})]
        asks += [("POST", "mef", {"ty": TY_KEY_REG, "content": {"sec:skr": {**key, "tgis": [who]}}})
                 for who in (self.ours.id, AE_ID, self.san, self.node)]
        asks += [("POST", "mef", {"ty": TY_KEY_REG, "content": {"sec:skr": {**key, "lbl": [label]}}}) for label in labels]
        asks += [("POST", "mef", {"ty": TY_KEY_REG, "content": {"sec:skr": {**key, "aski": p[4:] + "@" + FQDN}}}) for p in keys]
        return asks + [("GET", p, {"origin": who}) for who in (self.ours.id, self.san, self.node) for p in ("mef", self.key)]

    def eg_asks(self) -> list:
        asks = []
        for eui in (self.eui, self.waiting):
            asks += [("GET", f"mef/eg/{kind}/{eui}", {"accept": form})
                     for kind, form in (("devices", JSON), ("devices", CBOR), ("frames", OCTETS))]
            asks += [("POST", f"mef/eg/devices/{eui}/ticket", {"content": {"count": n}}) for n in (1, 17)]
            asks += [("POST", f"mef/eg/frames/{eui}", {"content": b"\x08\x00", "form": OCTETS})]
            asks += [(method, f"mef/eg/{rest}", {}) for rest in (f"devices/{eui}", f"devices/{eui}/ticket", f"frames/{eui}")
                     for method in ("GET", "DELETE")]
        return asks

    def test_every_resource_is_asked_for(self):
        asks = self.asks()
        text = (ROOT / "mef-plugin/eg/eg.c").read_text()
        routes = [before + "{}" + behind for before, behind in re.findall(r'^    {"(\w+/)", "([^"]*)", \w+_FORMAT', text, re.M)]
        paths = {re.sub(self.eui, "{}", path) for _, path, _ in asks}
        self.assertEqual([r for r in routes if "mef/eg/" + r not in paths] or len(routes), 3)
        types = re.findall(r"#define MEF_TY_\w+ (\d+)", (ROOT / "config/names.h").read_text())
        self.assertEqual({int(ty) for ty in types} - {more.get("ty") for _, _, more in asks}, set())

    def test_aes(self):
        names, asks = self.names(), self.asks()
        for ae in self.aes:
            for method, path, more in asks:
                with self.subTest(way=ae.way, method=method, path=path, **more):
                    self.asked(ae, method, path, more, names)

    def test_nodes(self):
        """A node of the second acts for one that bears the name of the first's AE, and for one whose name nobody bears."""
        asks = [(method, path, {**more, "origin": self.ours.id}) for method, path, more in self.asks() if "origin" not in more]
        for binding in ("coaps", "https"):
            body = {"for": "node:" + secrets.token_hex(6), "kind": "psk", "actsFor": [self.ours.id, beside(self.ours.id)]}
            status, made = self.stack.rest("POST", "/v1/credentials", body, self.second)
            self.assertEqual(status, 201, made)
            node = self.opened(self.ours.id, ("-psk_identity", made["kpmId"], "-psk", made["kpm"]), SECOND, (binding, "psk"))
            for method, path, more in asks:
                with self.subTest(binding=binding, method=method, path=path, **more):
                    self.asked(node, method, path, more, self.names())

    def test_observers(self):
        for ae in self.aes:
            for path, form in ((f"mef/eg/{kind}/{eui}", form) for eui in (self.eui, self.waiting)
                               for kind, form in (("frames", OCTETS), ("devices", JSON))):
                if ae.way[0] == "coaps":
                    said = [ae.session.client.request(GET, p, [(OBSERVE, b""), (ACCEPT, uint(form))])
                            for p in (path, path[:-16] + beside(path[-16:]))]
                    self.assertEqual(*((a.dotted, a.payload, a.options) for a in said), path)
                    self.assertEqual(said[0].dotted, "4.04")

    def test_gateways(self):
        """A gateway of the second, in its own name and in that of the first's, about the first's devices."""
        s, mine = self.stack, random_eui64()
        proof = self.proof("psk", f"gateway:{mine}", SECOND)
        self.assertEqual(s.rest("PUT", f"/v1/gateways/{mine}", {"identity": proof[1]}, self.second)[0], 201)
        carrier = CoapClient(s.coaps, proof[1], proof[3])
        self.addCleanup(carrier.close)
        names, nowhere = self.names(), "0" * 16
        for number, (gateway, device) in enumerate(itertools.product((s.gateway_eui, mine), (nowhere, self.eui, self.waiting)), 1):
            frame = b"\x48\x02" + b"\x00\x00\x2e\x1f" + b"\x1e\x01\x28" + bytes(4) + bytes.fromhex(device)[::-1] + bytes(25)
            for kind, body in ((HELLO, [s.pan, 15, bytes(8), 0]), (EG_REQUEST, [0, 0x1F2E, s.pan, 0, 0x80, 0, b""]),
                               (UPLINK, [0x1F2E, 200, frame]), (TX_RESULT, [0, 1]), (STALE, [5, 3])):
                said = []
                for swap in ({}, names):
                    at, of = swap.get(gateway, gateway), swap.get(device, device)
                    inner = [part.replace(bytes.fromhex(device)[::-1], bytes.fromhex(of)[::-1]) if isinstance(part, bytes) and
                             device != nowhere else part for part in body]
                    a = carrier.request(POST, "mef/eg", [(CONTENT_FORMAT, uint(CBOR))], eg_message(kind, number, at, of, inner))
                    plain = a.payload.replace(bytes.fromhex(at), b"gateway").replace(bytes.fromhex(of), b"device")
                    said.append((a.dotted, a.options, plain))
                with self.subTest(gateway=gateway == mine, device=device, kind=kind):
                    self.assertEqual(*said)
        for operator in self.operators():  # of the strangers at its gateway the second hears
            for eui in (self.eui, self.waiting):
                self.asked_by_operator(operator, "GET", f"/v1/devices/{eui}", None, names)
        self.assertEqual(s.device(self.eui)["state"], "enrolled")
        self.assertTrue(s.must("GET", f"/v1/gateways/{s.gateway_eui}")["connected"])

    def asked(self, ae, method, path, more, names):
        there = self.whole(ae.ask(method, path, **more))
        text = json.dumps([path, {k: v.hex() if isinstance(v, bytes) else v for k, v in more.items()}])
        if f'"adfq": "{ADMIN}'.upper() in text.upper():
            names = {**names, ADMIN: NOBODY}
        upper = {k.upper(): v.upper() for k, v in names.items()}
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
        s, registration = self.stack, f"registrations/{self.registration[4:]}"
        ae = self.opened(AE_ID, ("-psk_identity", s.ae["kpmId"], "-psk", s.ae["kpm"]))
        asks = [(self.ours, path) for path in (self.key, self.registration, self.registration + "/cmd", self.registration + "-cfg",
                                               f"fetchCredentials/{self.exported[4:]}@{FQDN}/24")]
        for client, path in (*asks, (ae, f"mef/eg/devices/{self.eui}"), (ae, "mef/" + self.published)):
            with self.assertRaises(AssertionError):
                self.asked(client, "GET", path, {}, self.names())
        operator = ("ours", Https(s.https, ("-cipher", SUITES["https", "certificate"])), {"Authorization": "Bearer " + s.token()})
        self.addCleanup(operator[1].close)
        for path in (f"devices/{self.eui}", f"install-codes/{self.waiting}", f"gateways/{s.gateway_eui}", f"applications/{self.app}",
                     f"policies/{self.rule}", *(f"credentials/{c}" for c in self.credentials), registration, registration + "/commands",
                     registration + "/configuration"):
            with self.assertRaises(AssertionError):
                self.asked_by_operator(operator, "GET", f"/v1/{path}", None, self.names())

    # --- operators ------------------------------------------------------------------------------------------------------

    def reads(self) -> list:
        """[(method, path, body)] of what changes nothing when the object is not there."""
        gw, ours = self.stack.gateway_eui, f"/v1/registrations/{self.registration[4:]}"
        asks = []
        for kind, some in (("install-codes", (self.eui, self.waiting)), ("devices", (self.eui, self.waiting)), ("gateways", (gw,)),
                           ("applications", (self.app,)), ("policies", (self.rule,)),
                           ("credentials", (*self.credentials, self.raw, self.san)),
                           ("registrations", (self.registration[4:], self.key[4:], self.published))):
            for name in some:
                asks += [(method, f"/v1/{kind}/{name.replace('/', '%2F')}", None) for method in ("GET", "DELETE", "POST", "PUT")]
                asks += [("GET", f"/v1/{kind}/{name}?limit=1", None), ("GET", f"/v1/{kind}?after={name}", None),
                         ("GET", f"/v1/{kind}?limit=1000", None)]
        for eui in (self.eui, self.waiting, gw):
            asks += [("POST", f"/v1/devices/{eui}/{act}", None) for act in ("rekey", "revoke", "rearm", "forget")]
        asks += [(method, ours + path, body) for method in ("GET", "PUT", "POST", "DELETE") for body in ({}, DEV_CFG, CONFIGURATION)
                 for path in ("/commands", "/commands/1", "/commands/2", "/configuration")]
        bad = ({}, {"installCode": self.code[:-1] + "x"}, {"installCode": self.code, "zap": 1}, {"identity": self.kpm})
        euis = (f"install-codes/{self.eui}", f"install-codes/{self.waiting}", f"gateways/{gw}")
        asks += [("PUT", f"/v1/{path}{query}", body) for path in euis for body in bad for query in ("", "?replace=true")]
        asks += [("POST", "/v1/install-codes", {"label": f"{eui}|{self.code[:-1]}x"}) for eui in (self.eui, self.waiting)]
        asks += [("PUT", f"/v1/applications/{self.app}", {}), ("PUT", f"/v1/policies/{self.rule}", {}), ("GET", "/v1/events?limit=1", None),
                 ("POST", "/v1/verdicts", {"what": "ticket", "id": self.ours.id, "gateway": gw, "address": "::1", "labels": [self.label],
                                           "at": "2026-11-28T02:00:00Z"}),
                 ("GET", "/v1/audit?limit=0", None)]
        return asks

    def changes(self) -> list:
        """[(method, path, body, what else is the first's in it: {word: one like it})] of what comes to be."""
        s, gw = self.stack, self.stack.gateway_eui
        own, mine, code = random_eui64(), random_eui64(), install_code()
        self.own[own] = beside(own)
        identity = self.proof("psk", f"gateway:{mine}", SECOND)[1]
        self.assertEqual(s.rest("PUT", f"/v1/gateways/{mine}", {"identity": identity}, self.second)[0], 201)
        registration = f"/v1/registrations/{self.said(self.client(admin=SECOND).register(), 2001).pc['ri']}"
        self.assertEqual(s.rest("PUT", registration + "/configuration", CONFIGURATION, self.second)[0], 201)
        there, rule = f"/v1/install-codes/{own}", {"effect": "deny", "what": ["retrieve"]}
        rows = [("PUT", f"/v1/applications/{self.app}", {"members": [self.ours.id]}, {}),
                ("DELETE", f"/v1/applications/{self.app}", None, {}),
                ("PUT", f"/v1/policies/{self.rule}", {**rule, "ids": [self.ours.id], "gateways": [gw], "labels": [self.label],
                                                      "targets": [self.san]}, {}),
                ("PUT", f"/v1/policies/{self.rule}", {"effect": "allow", "what": ["register"], "ids": [self.ours.id],
                                                      "commands": [{**DEV_CFG, "targetID": self.ours.id}]}, {}),
                ("DELETE", f"/v1/policies/{self.rule}", None, {})]
        key, like = s.link_key(self.code), s.link_key(code)
        rows += [("PUT", there + "?replace=true", body, words) for body, words in (
            ({"installCode": code, "application": self.app, "targets": [self.ours.id]}, {}), ({"installCode": code, "gateways": [gw]}, {}),
            ({"installCode": self.code}, {self.code: code}), ({"linkKey": key}, {key: like}))]
        rows += [("GET", f"/v1/devices/{own}", None, {}), ("DELETE", there, None, {})]
        label = {"targets": [self.ours.id], "application": self.app, "gateways": [gw]}
        rows += [("POST", "/v1/install-codes", {"label": f"{own}|{code}", **label}, {}), ("DELETE", there, None, {})]
        rows += [("PUT", f"/v1/gateways/{own}", {"identity": who}, {}) for who in self.credentials]
        rows += [("PUT", f"/v1/gateways/{mine}", {"identity": identity, **more}, words) for more, words in (
            ({"applications": [self.app]}, {}), ({"name": "demo gateway"}, {"demo": "home"}),
            ({"panIds": [s.pan]}, {f"[{s.pan}]": f"[{s.pan ^ 1}]"}))]
        rows += [("POST", "/v1/credentials", body, {}) for body in (
            {"for": self.ours.id, "kind": "psk"}, {"for": self.san, "kind": "certificate"},
            {"for": "C1", "kind": "certificate", "san": self.kpm},
            {"for": self.node, "kind": "psk", "actsFor": [self.ours.id, self.san]}, {"for": f"gateway:{gw}", "kind": "psk"},
            {"for": self.san, "kind": "rpk", "san": self.raw})]
        rows += [("POST", "/v1/credentials", {"for": "C1", "kind": "psk", "kpm": s.ae["kpm"]}, {s.ae["kpm"]: secrets.token_hex(32)}),
                 ("POST", registration + "/commands", {**DEV_CFG, "targetID": self.ours.id}, {})]
        rows += [("PUT", registration + "/configuration", {"fqdn": "maf.example.net", "adminFQDN": SECOND, **more}, words)
                 for more, words in (({"adminFQDN": ADMIN}, {ADMIN: NOBODY}), ({"labels": [self.label]}, {}))]
        return rows

    def test_every_route_is_asked_for(self):
        """By the document of the REST, which tests/docs compares with the program's table."""
        document = yaml.safe_load((ROOT / "docs/rest-api.yaml").read_text())
        rows = [row[:3] for row in self.reads() + self.changes()]
        templates = {path: re.compile(re.sub(r"\{\w+\}", "[^/]+", path)) for path in document["paths"] if path.startswith("/v1/")}
        asked = {(method.lower(), path) for method, at, _ in rows for path, pattern in templates.items()
                 if pattern.fullmatch(at.split("?")[0])}
        routes = {(method, path) for path in templates for method in document["paths"][path] if method != "parameters"}
        self.assertEqual(routes - asked, set())
        self.assertGreater(len(routes), 30)
        members = set()
        for method, path in routes:
            for media in document["paths"][path][method].get("requestBody", {}).get("content", {}).values():
                members |= set(document["components"]["schemas"][media["schema"]["$ref"].split("/")[-1]]["properties"])
        named = {member for _, _, body in rows if body for member in body}
        self.assertEqual(members - PLAIN - named, set())
        self.assertEqual(PLAIN - members, set())

    def test_operators(self):
        names, reads = self.names(), [(*row, {}) for row in self.reads()]
        operators = list(self.operators())
        for rows in (lambda: reads, self.changes):  # what is made is in the lists
            for operator in operators:
                for method, path, body, words in rows():
                    with self.subTest(operator=operator[0], method=method, path=path, body=body):
                        self.asked_by_operator(operator, method, path, body, {**names, **self.own, **words})

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

    def test_no_trace(self):
        """The numbers in the trail are of all: what one asks for of another's is in nobody's trail, or the gap would tell."""
        operator = next(self.operators())

        def number() -> int:
            self.assertIn(self.rest(operator, "PUT", "/v1/applications/mark", {"members": []})[0], (200, 201))
            return json.loads(self.rest(operator, "GET", "/v1/audit?limit=1")[2])[0]["seq"]
        number()
        before = number()
        for ae in self.aes:
            for method, path, more in self.asks():
                if path != "mef" and "origin" not in more:
                    self.assertIn(ae.ask(method, path, **more).rsc, (4004, 4005, 4000, 0))
        for method, path, body in self.reads():
            self.rest(operator, method, path, body)
        self.assertEqual(number(), before + 1)

    def test_an_eui64_has_one_owner(self):
        """A device can be joined once, so the second to register it is refused, and told no more than that."""
        codes = [("PUT", f"install-codes/{eui}{query}", {"installCode": install_code()}) for eui in (self.eui, self.waiting)
                 for query in ("", "?replace=true")]
        for method, path, body in (*codes, ("POST", "install-codes", {"label": f"{self.waiting}|{install_code()}"}),
                                   ("PUT", f"gateways/{self.stack.gateway_eui}", {"identity": self.proof("psk", "node:7", SECOND)[1]})):
            status, problem = self.stack.rest(method, "/v1/" + path, body, self.second)
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
