"""JSON and CBOR (TS-0004 8.4, 8.5): every body of every resource in both, each way, over both bindings and with both kinds of
credential; and of the operator's REST. What is one in JSON is one in CBOR."""
import base64
import itertools
import json
import re
import secrets
import unittest

import common
from coapclient import ACCEPT, CBOR, CONTENT_FORMAT, GET, JSON, POST, CoapClient, cbor, uint, uncbor
from mmef import SUITES, TY_CLIENT_REG, TY_KEY_REG, Https
from stack import ADMIN, FQDN, install_code, random_eui64, set_option
from test_commands import CERT_PROV, DEV_CFG, MO_NODE
from test_procedures import KEY, KV, Clients

FORMS = (JSON, CBOR)
MEDIA = {JSON: "application/json", CBOR: "application/cbor"}
CONFIGURATION = {"expirationTime": "20400101T000000", "labels": ["a", "b"], "fqdn": FQDN, "adminFQDN": ADMIN, "httpPort": 443,
                 "coapPort": 65535, "websocketPort": 1}
FORM_OF = re.compile(r"[+/](json|cbor)\b")


def said_form(answer) -> int | None:
    """What the answer says that it is."""
    if "content-type" in answer.options:
        return {"json": JSON, "cbor": CBOR}[FORM_OF.search(answer.options["content-type"])[1]]
    return int.from_bytes(answer.options[12][0], "big") if 12 in answer.options else None


class Formats(Clients):
    @classmethod
    def prepare(cls):
        set_option(cls.stack.mefd_conf, "mef", "fetch-credentials", "yes")
        super().prepare()

    def tree(self, answer, form: int):
        """The content, which is in this format, says so, and has nothing that JSON has not: no byte string, above all."""
        self.assertEqual(said_form(answer), form)
        value = json.loads(answer.body) if form == JSON else uncbor(answer.body)
        json.dumps(value)
        return value

    def both(self, client, rsc: int, method: str, path: str = "mef", **more) -> dict:
        """One answer in both formats."""
        one, other = (self.tree(self.said(client.ask(method, path, accept=form, **more), rsc), form) for form in FORMS)
        self.assertEqual(one, other)
        return one

    def test_every_resource(self):
        for form, accept in itertools.product(FORMS, FORMS):
            with self.subTest(form=form, accept=accept):
                source, target = self.client(), self.client()
                uri = self.registration(source, form, accept)
                self.key(source, target, form, accept)
                self.commands(source, uri, form, accept)
                self.configuration(source, uri)
                self.assertIn("sec:MEFB", self.both(source, 2000, "GET"))
                self.assertEqual(len(self.both(source, 2000, "GET", query=("fu=1",))["m2m:uril"]), 3)
                self.assertEqual(self.both(target, 2000, "GET", query=("fu=1", "lbl=nothing")), {"m2m:uril": []})

    def made(self, client, ty: int, root: str, attributes: dict, form: int, accept: int) -> tuple[str, dict]:
        content = {root: {"et": "20991231T235959", "adfq": ADMIN, **attributes}}
        answer = self.said(client.ask("POST", ty=ty, content=content, form=form, accept=accept), 2001)
        tree = self.tree(answer, accept)
        self.assertEqual(tree, self.both(client, 2000, "GET", answer.location))
        return answer.location, tree[root]

    def changed(self, client, uri: str, root: str, attributes: dict, form: int, accept: int):
        answer = self.said(client.ask("PUT", uri, content={root: attributes}, form=form, accept=accept), 2004)
        self.assertEqual(self.tree(answer, accept), {root: attributes})

    def registration(self, client, form, accept) -> str:
        uri, made = self.made(client, TY_CLIENT_REG, "sec:mecr", {"lbl": ["room:1", "Küche"]}, form, accept)
        self.assertEqual(made["lbl"], ["room:1", "Küche"])
        self.changed(client, uri, "sec:mecr", {"lbl": ["room:2"]}, form, accept)
        return uri

    def key(self, source, target, form, accept):
        """A key's bytes come as base64, or in CBOR as they are; they leave as base64, like all that is no number (8.4.2, 8.5.1)."""
        for kv in (KV, KEY) if form == CBOR else (KV,):
            uri, made = self.made(source, TY_KEY_REG, "sec:skr", {"suid": 24, "tgis": [target.id], "kv": kv, "lbl": ["x"]}, form, accept)
            self.assertEqual((made["suid"], made["tgis"]), (24, [target.id]))
            got = self.both(target, 2000, "GET", uri)["sec:skr"]
            self.assertEqual(got["kv"], KV)
            self.changed(source, uri, "sec:skr", {"tgis": [target.id, source.id], "lbl": []}, form, accept)
            self.said(source.ask("DELETE", uri, accept=accept), 2002)
        uri, made = self.made(source, TY_KEY_REG, "sec:skr", {"suid": 24, "tgis": [target.id]}, form, accept)
        key = base64.b64decode(self.both(target, 2000, "GET", uri)["sec:skr"]["kv"])
        self.assertEqual(len(key), 32)
        fetched = f"fetchCredentials/{made['ri']}@{FQDN}/24"
        one, other = (self.tree(self.said(target.ask("GET", fetched, accept=a), 2000), a) for a in FORMS)
        self.assertLessEqual(abs(one.pop("Lifetime") - other.pop("Lifetime")), 2)  # seconds, from two moments
        self.assertEqual(one, other)
        self.assertTrue(one["Status"])
        self.made(source, TY_KEY_REG, "sec:skr", {"suid": 25, "tgis": [target.id], "kv": kv}, form, accept)

    def commands(self, client, uri: str, form, accept):
        orders, where = f"/v1/registrations/{uri[4:]}/commands", uri + "/cmd"
        ids = [self.stack.must("POST", orders, description)["id"] for description in (CERT_PROV, DEV_CFG, MO_NODE)]
        told = self.tree(self.said(client.ask("GET", where, accept=accept), 2000), accept)["sec:mecc"]
        for description, cmi in zip((CERT_PROV, DEV_CFG, MO_NODE), ids):
            self.assertEqual((told["cmi"], told["cmds"], told["cmst"]), (cmi, description, 10))
            report = {"sec:mecc": {"cmi": cmi, "cmst": 20}}
            told = self.tree(self.said(client.ask("PUT", where, content=report, form=form, accept=accept), 2004), accept)["sec:mecc"]
        self.assertEqual(told["cmds"]["cmdClassID"], 0)
        self.assertEqual(self.both(client, 2000, "GET", where)["sec:mecc"]["cmds"], told["cmds"])
        self.assertEqual([r["result"] for r in self.stack.must("GET", orders)], [20, 20, 20])

    def configuration(self, client, uri: str):
        self.stack.must("PUT", f"/v1/registrations/{uri[4:]}/configuration", CONFIGURATION)
        self.assertEqual(self.both(client, 2000, "GET", uri + "/cfg")["sec:mecf"]["ccfg"], CONFIGURATION)

    def test_refusals(self):
        c = self.client(registered=True)
        for rsc, request in ((4004, ("GET", "mef/nothing")), (4005, ("DELETE", "mef")), (4000, ("PUT", "mef/" + "0" * 32))):
            self.assertEqual(set(self.both(c, rsc, *request)), {"m2m:dbg"})
        for body in (b"", b"\xff", b"\xa0", b"\xa1", b"\xbf", b"\xa1\x67sec:mecr\xa0x", b"\xa1\x67sec:mecr\xf7", b"\xa2\x01\x02\x03\x04",
                     cbor({"sec:mecr": {"et": b"20991231T235959", "adfq": ADMIN}}), cbor({"sec:mecr": {"et": "20991231T235959", "adfq": 1}}),
                     b"\xc0" + cbor({"sec:mecr": {"et": "20991231T235959", "adfq": ADMIN}})):
            with self.subTest(body=body):
                answer = self.said(c.ask("POST", ty=TY_CLIENT_REG, content=body, form=CBOR), 4000)
                self.assertEqual(set(self.tree(answer, CBOR if body else JSON)), {"m2m:dbg"})


class CoapsByPsk(Formats, common.StackTest):
    way = ("coaps", "psk")


class CoapsByCertificate(Formats, common.StackTest):
    way = ("coaps", "certificate")


class HttpsByPsk(Formats, common.StackTest):
    way = ("https", "psk")


class HttpsByCertificate(Formats, common.StackTest):
    way = ("https", "certificate")


class Rest(Clients, common.StackTest):
    """Of the operator: bodies and answers in both; problems are JSON (RFC 9457)."""
    way = ("https", "psk")

    def ask(self, method: str, path: str, body=None, form: int = JSON, accept: int = JSON):
        fields = {"Authorization": "Bearer " + self.stack.token(), "Accept": MEDIA[accept]}
        content = b"" if body is None else cbor(body) if form == CBOR else json.dumps(body).encode()
        status, head, said = self.session.said(method, "/v1/" + path, {**fields, "Content-Type": MEDIA[form]} if content else fields, content)
        kind = head.get("content-type")
        value = None if not said else uncbor(said) if kind == MEDIA[CBOR] else json.loads(said)
        self.assertEqual(kind, None if not said else "application/problem+json" if status >= 400 else MEDIA[accept], (method, path))
        return status, value

    def test_every_body(self):
        self.session = Https(self.stack.https, ("-cipher", SUITES["https", "certificate"]))
        self.addCleanup(self.session.close)
        eui, code = random_eui64(), install_code()
        registration = "registrations/" + self.said(self.client().register(), 2001).pc["ri"]
        gateway = self.stack.must("POST", "/v1/credentials", {"for": f"gateway:{eui}", "kind": "psk"})["id"]
        policy = {"effect": "deny", "what": ["ticket"], "networks": ["192.0.2.0/24"], "days": ["mon"], "from": "22:00", "to": "06:00"}
        bodies = [("applications/a", {"members": ["C1"], "lifetime": 3600}), ("policies/p", policy), (f"install-codes/{eui}", {"installCode": code}),
                  (f"gateways/{eui}", {"identity": gateway, "panIds": [1, 65534]}), (registration + "/configuration", CONFIGURATION)]
        for form, accept in itertools.product(FORMS, FORMS):
            for path, body in bodies:
                status, made = self.ask("PUT", path, body, form, accept)
                self.assertIn(status, (200, 201), made)
                shown = [self.ask("GET", path, accept=a) for a in FORMS]
                self.assertEqual(shown, [(200, made)] * 2)
                one, other = (self.ask("GET", path.split("/")[0], accept=a) for a in FORMS)
                self.assertEqual(one, other)
                for wrong in ({**body, "zap": 1}, []):
                    self.assertEqual(self.ask("PUT", path, wrong, form, accept)[0], 400)
            for path, body in (("credentials", {"for": "C" + secrets.token_hex(4), "kind": "psk"}), (registration + "/commands", DEV_CFG),
                               ("install-codes", {"label": f"{random_eui64()}|{code}"})):
                status, made = self.ask("POST", path, body, form, accept)
                self.assertEqual(status, 201, made)
                one, other = (self.ask("GET", path, accept=a) for a in FORMS)
                self.assertEqual(one, other)
                self.assertTrue(made.get("id") or made["eui64"])
            status, trail = self.ask("GET", "audit?limit=3", accept=accept)
            self.assertEqual((status, len(trail)), (200, 3))


class OfDevices(common.DevicesTest):
    """What an AE asks of its device: its state, and counters."""

    def test_a_devices_state_and_tickets(self):
        eui, _, _ = self.enrol()
        ae = CoapClient(self.stack.coaps, self.stack.ae["kpmId"], self.stack.ae["kpm"])
        self.addCleanup(ae.close)
        path, forms = f"mef/eg/devices/{eui}", {JSON: (json.dumps, json.loads), CBOR: (cbor, uncbor)}
        states = [forms[a][1](ae.request(GET, path, [(ACCEPT, uint(a))]).payload) for a in FORMS]
        self.assertEqual(states[0], states[1])
        following = None
        for form, accept in itertools.product(FORMS, FORMS):
            body = forms[form][0]({"count": 3})
            answer = ae.request(POST, path + "/ticket", [(CONTENT_FORMAT, uint(form)), (ACCEPT, uint(accept))],
                                body if isinstance(body, bytes) else body.encode())
            self.assertEqual((answer.dotted, said_form(answer)), ("2.05", accept))
            ticket = forms[accept][1](answer.payload)
            self.assertEqual((ticket["count"], ticket["source"]), (3, self.stack.gateway_eui))
            self.assertEqual(ticket["first"], following or ticket["first"])
            following = ticket["first"] + 3


if __name__ == "__main__":
    unittest.main()
