"""A stakeholder's rules, asked at each request, over both bindings."""
import secrets
import time
import unittest

import common
from coapclient import CONTENT_FORMAT, JSON, POST, CoapClient, uint
from mmef import TY_KEY_REG
from stack import ADMIN, AE_ID, set_option
from test_commands import CERT_PROV, DEV_CFG, MAY_WAIT, MO_NODE, NO_MORE, changed
from test_procedures import KV, SECOND, Clients, soon

NAMES = ("register", "deposit", "retrieve", "command", "ticket")
NEXT_HOUR = 3600


class Rules(Clients):
    """Rules are about the ids of the test that makes them, so that tests do not meet."""

    def rule(self, effect: str, *what: str, name: str | None = None, admin: str = ADMIN, status: int = 201, **more):
        """A rule, until the test ends."""
        path, header = f"/v1/policies/{name or secrets.token_hex(8)}", self.second if admin == SECOND else None
        code, answer = self.stack.rest("PUT", path, {"effect": effect, "what": what, **more}, header)
        self.assertEqual(code, status, answer)
        self.addCleanup(self.stack.rest, "DELETE", path, None, header)
        return path

    def no(self, answer, field: str | None = None):
        self.said(answer, 4103)
        self.assertIn(b"rule of the administrating stakeholder", answer.body)


class Policies(Rules):
    def test_no_rule_no_change(self):
        c = self.client()
        self.rule("deny", *NAMES, ids=["//example.org/in-cse/Cnobody"])
        self.rule("deny", *NAMES, admin=SECOND)
        made = self.said(c.register(), 2001)
        key = self.said(c.deposit([c.id], kv=KV), 2001)
        self.said(c.ask("GET", key.location), 2000)
        self.assertGreater(made.pc["et"], soon(300 * 86400))

    def test_register(self):
        c = self.client()
        path = self.rule("deny", "register", ids=[c.id])
        self.no(c.register())
        self.stack.must("DELETE", path)
        made = self.said(c.register(), 2001)
        self.rule("deny", "register", ids=[c.id])
        self.no(c.update(made, "sec:mecr", lbl=["x"]))
        self.said(c.ask("GET", made.location), 2000)
        self.said(c.deposit([c.id], kv=KV), 2001)
        self.said(c.ask("DELETE", made.location), 2002)  # to leave is always allowed

    def test_lifetimes(self):
        c = self.client()
        self.rule("allow", "register", "deposit", ids=[c.id], lifetime=NEXT_HOUR)
        made, key = self.said(c.register(), 2001), self.said(c.deposit([c.id], kv=KV), 2001)
        for answer, root in ((made, "sec:mecr"), (key, "sec:skr")):
            updated = self.said(c.update(answer, root, et="20991231T235959"), 2004)
            for et in (answer.pc["et"], updated.pc["et"]):
                self.assertLess(soon(NEXT_HOUR - 60), et)
                self.assertLessEqual(et, soon(NEXT_HOUR + 1))
            self.assertEqual(self.said(c.update(answer, root, et=soon(60)), 2004).pc["et"][:12], soon(60)[:12])

    def test_order_and_beginnings(self):
        c, lot = self.client(), secrets.token_hex(6)
        ours = self.client(f"//example.org/{lot}/Cours")
        self.rule("deny", "register", name="20" + lot, ids=[f"//example.org/{lot}/*", c.id])
        self.rule("allow", "register", name="10" + lot, ids=[ours.id])
        self.no(self.client(f"//example.org/{lot}/Cother").register())
        self.no(c.register())
        self.said(ours.register(), 2001)
        self.rule("deny", "register", name="05" + lot, ids=[ours.id])
        self.no(ours.register())
        away = self.client(f"//example.org/{lot}x/C1")
        path = self.rule("deny", "register", ids=[f"//Example.ORG/{lot}x/*"])  # host names are the same in either case
        self.assertEqual(self.stack.must("GET", path)["ids"], [f"//example.org/{lot}x/*"])
        self.no(away.register())
        for wrong in ("//example.org/a b*", "//example.org/a?*", "//exam_ple.org/*", "//example.org*/C1*"):
            self.rule("deny", "register", ids=[wrong], status=400)

    def test_labels(self):
        c, label = self.client(), "guest:" + secrets.token_hex(6)
        self.rule("deny", "deposit", labels=[label])
        self.rule("allow", "register", labels=[label], lifetime=NEXT_HOUR)
        made = self.said(c.register(lbl=["x", label]), 2001)
        self.assertLess(made.pc["et"], soon(NEXT_HOUR + 2))
        self.no(c.deposit([c.id], kv=KV))
        self.said(c.update(made, "sec:mecr", lbl=["x"]), 2004)
        self.said(c.deposit([c.id], kv=KV), 2001)

    def test_labels_that_come_later(self):
        """A rule that refuses a registration its labels refuses them also in an update."""
        c, label = self.client(), "staff:" + secrets.token_hex(6)
        self.rule("deny", "register", labels=[label])
        self.no(c.register(lbl=["x", label]))
        made = self.said(c.register(lbl=["x"]), 2001)
        self.no(c.update(made, "sec:mecr", lbl=["x", label]))
        self.assertEqual(self.said(c.ask("GET", made.location), 2000).pc["lbl"], ["x"])
        self.said(c.update(made, "sec:mecr", lbl=["x", "y"]), 2004)
        self.rule("deny", "register", name="1" + c.id[-12:], labels=["y"], ids=[c.id])
        self.no(c.update(made, "sec:mecr", et=soon(60)))
        self.said(c.update(made, "sec:mecr", lbl=None), 2004)  # as it could leave and come again

    def test_targets(self):
        c, friend, other = self.client(registered=True), self.client(), self.client()
        key = self.said(c.deposit([friend.id, other.id], kv=KV), 2001)
        self.rule("allow", "deposit", ids=[c.id], targets=[friend.id])
        self.no(c.deposit([other.id], kv=KV))
        self.no(c.deposit([friend.id, other.id], kv=KV))
        made = self.said(c.deposit([friend.id], kv=KV), 2001)
        self.no(c.update(made, "sec:skr", tgis=[friend.id, other.id]))
        self.said(other.ask("GET", made.location), 4103)
        self.said(friend.ask("GET", made.location), 2000)
        self.said(other.ask("GET", key.location), 2000)  # what was given before stays
        self.said(c.update(key, "sec:skr", tgis=[friend.id]), 2004)
        self.said(other.ask("GET", key.location), 4103)

    def test_targets_of_the_stakeholder(self):
        """Who names none leaves it to the rule; without one a key is for nobody, and refused."""
        c, friend, maf = self.client(registered=True), self.client(), "maf.example.com"
        bare = lambda suid=24: self.ask_without_targets(c, suid)
        self.said(bare(), 4000)
        name = c.id[-12:]
        self.rule("allow", "deposit", name=name, ids=[c.id], targets=[friend.id, maf])
        made = self.said(bare(), 2001)
        self.assertEqual(made.pc["tgis"], [friend.id])
        self.said(friend.ask("GET", made.location), 2000)
        self.assertEqual(self.said(bare(22), 2001).pc["tgis"], [friend.id])
        self.assertEqual(self.said(bare(21), 2001).pc["tgis"], [maf])
        self.said(c.deposit([], kv=KV), 4000)  # none is not the same as not said
        self.rule("allow", "deposit", name=name, status=200, ids=[c.id], targets=[friend.id, c.id])
        self.assertEqual(self.said(bare(), 2001).pc["tgis"], [friend.id, c.id])
        self.said(bare(22), 4000)  # takes one
        self.said(bare(21), 4000)

    @staticmethod
    def ask_without_targets(c, suid: int):
        return c.ask("POST", ty=TY_KEY_REG, content={"sec:skr": {"et": "20991231T235959", "adfq": c.admin, "suid": suid, "kv": KV}})

    def test_commands(self):
        """Neither told nor reported on while the rule holds; what waited or was issued is told afterwards."""
        c = self.client()
        uri = self.said(c.register(), 2001).pc["ch"][0]["val"]
        orders = f"/v1/registrations/{uri.split('/')[1]}/commands"
        ids = [self.stack.must("POST", orders, DEV_CFG)["id"] for _ in range(2)]
        report = lambda cmd: c.ask("PUT", uri, content={"sec:mecc": {"cmi": cmd, "cmst": 20}})
        told = lambda answer, rsc: (lambda pc: (pc["cmi"], pc["cmst"]))(self.said(answer, rsc).pc)
        states = lambda: [o["state"] for o in self.stack.must("GET", orders)]
        rule = self.rule("deny", "command", ids=[c.id])
        refused = c.ask("GET", uri)
        self.no(refused)
        self.assertNotIn(b"devCfgCmdArgs", refused.body)
        self.assertEqual(states(), ["waiting", "waiting"])
        self.stack.must("DELETE", rule)
        self.assertEqual(told(c.ask("GET", uri), 2000), (ids[0], 10))
        rule = self.rule("deny", "command", ids=[c.id])
        self.no(report(ids[0]))
        self.no(c.ask("GET", uri))
        configured = uri.removesuffix("/cmd") + "/cfg"
        self.no(c.ask("GET", configured))  # whether there is one or not
        self.stack.must("PUT", orders.replace("/commands", "/configuration"), {"fqdn": "mef.example.org", "adminFQDN": "secret." + ADMIN})
        self.assertNotIn(b"secret", c.ask("GET", configured).body)
        self.no(c.ask("GET", configured))
        self.assertEqual(states(), ["issued", "waiting"])
        trail = lambda: {(e["action"], e["outcome"]) for e in self.stack.must("GET", "/v1/audit?limit=100") if e["actor"] == c.id}
        end = time.monotonic() + 5  # those of one second are noted together, at its end
        while ("command.issue", "policy") not in trail() and time.monotonic() < end:
            time.sleep(0.1)
        self.assertIn(("command.issue", "policy"), trail())
        self.said(c.ask("GET", uri.removesuffix("/cmd")), 2000)
        self.stack.must("DELETE", rule)
        self.assertEqual(told(report(ids[0]), 2004), (ids[1], 10))
        self.assertEqual(self.said(c.ask("GET", configured), 2000).pc["ccfg"]["adminFQDN"], "secret." + ADMIN)

    def test_commands_to_issue(self):
        """What the rule has for a client that registers: told in that order before what the operator posts; once, however often
        it registers; again when it comes back; as many as may wait."""
        c, name = self.client(), secrets.token_hex(8)
        self.rule("allow", "register", name=name, ids=[c.id], commands=[DEV_CFG, CERT_PROV, DEV_CFG])
        self.assertEqual(self.stack.must("GET", "/v1/policies/" + name)["commands"], [DEV_CFG, CERT_PROV])
        told = lambda answer, rsc: (lambda pc: (pc["cmi"], pc["cmst"], pc["cmds"]))(self.said(answer, rsc).pc)
        for _ in range(2):
            made = self.said(c.register(), 2001)
            orders, uri = f"/v1/registrations/{made.pc['ri']}/commands", made.pc["ch"][0]["val"]
            self.said(c.register(), 4117)
            self.said(c.update(made, "sec:mecr", lbl=["x"]), 2004)
            self.assertEqual([(o["id"], o["state"], o["description"]) for o in self.stack.must("GET", orders)],
                             [("1", "waiting", DEV_CFG), ("2", "waiting", CERT_PROV)])
            self.assertEqual(self.stack.must("POST", orders, MO_NODE)["id"], "3")
            self.assertEqual(told(c.ask("GET", uri), 2000), ("1", 10, DEV_CFG))
            for n, then in enumerate((CERT_PROV, MO_NODE), 1):
                report = c.ask("PUT", uri, content={"sec:mecc": {"cmi": str(n), "cmst": 20}})
                self.assertEqual(told(report, 2004), (str(n + 1), 10, then))
            self.said(c.ask("DELETE", made.location), 2002)
        trail = [(e["actor"], e["object"]) for e in self.stack.must("GET", "/v1/audit?limit=100") if e["action"] == "command.create"]
        self.assertEqual([o for a, o in trail if a == "policy:" + name][:2], [f"{made.pc['ri']}/{n}" for n in (2, 1)])
        many = [changed(DEV_CFG, deviceConfigURI=f"3:coaps://mef.example.org/{n}") for n in range(MAY_WAIT)]
        self.rule("allow", "register", name=name, status=200, ids=[c.id], commands=many)
        made = self.said(c.register(), 2001)
        orders = f"/v1/registrations/{made.pc['ri']}/commands"
        self.assertEqual([o["description"] for o in self.stack.must("GET", orders)], many)
        self.assertEqual(self.stack.rest("POST", orders, DEV_CFG)[0], 429)
        self.stack.restart_mefd()
        c.reconnect()
        self.assertEqual(told(c.ask("GET", made.pc["ch"][0]["val"]), 2000), ("1", 10, many[0]))
        self.assertEqual(self.stack.must("GET", "/v1/policies/" + name)["commands"], many)

    def test_no_commands_of_other_rules(self):
        """Of the rule that decides, and of the client's own stakeholder; a rule that refuses has none."""
        c, far, lot = self.client(), self.client(admin=SECOND), secrets.token_hex(6)
        self.rule("allow", "register", name="1" + lot, ids=[c.id], labels=["x"])
        self.rule("allow", "register", name="2" + lot, ids=[c.id, far.id], commands=[DEV_CFG])
        for who, lbl, have in ((c, ["x"], []), (c, ["y"], [DEV_CFG]), (far, ["y"], [])):
            made = self.said(who.register(lbl=lbl), 2001)
            orders = self.stack.rest("GET", f"/v1/registrations/{made.pc['ri']}/commands", None, self.second if who is far else None)
            self.assertEqual((orders[0], [o["description"] for o in orders[1]]), (200, have))
            self.said(who.ask("DELETE", made.location), 2002)
        path = "/v1/policies/3" + lot
        for effect, what, commands, field in (("deny", "register", [DEV_CFG], "commands"), ("allow", "deposit", [DEV_CFG], "commands"),
                                              ("allow", "register", [], "commands"), ("allow", "register", [DEV_CFG, NO_MORE], "cmdClassID"),
                                              ("allow", "register", [changed(DEV_CFG, deviceConfigURI="3:coaps://other.example.org/")],
                                               "deviceConfigURI")):
            status, said = self.stack.rest("PUT", path, {"effect": effect, "what": [what], "commands": commands})
            self.assertEqual((status, said["code"], said["field"]), (400, "bad-value", field))
        self.assertEqual(self.stack.rest("GET", path)[0], 404)

    def test_networks(self):
        c = self.client(registered=True)
        key = self.said(c.deposit([c.id], kv=KV), 2001)
        self.rule("deny", "retrieve", name="1" + c.id[-12:], ids=[c.id], networks=["192.0.2.0/24", "2001:db8::/32", "127.0.1.0/24"])
        self.said(c.ask("GET", key.location), 2000)
        self.rule("deny", "retrieve", name="0" + c.id[-12:], ids=[c.id], networks=["127.0.0.0/24"])
        refused = c.ask("GET", key.location)
        self.no(refused)
        self.assertNotIn(KV.encode(), refused.body)
        self.rule("allow", "retrieve", name="0" + c.id[-12:], status=200, ids=[c.id], networks=["127.0.0.1/32"])
        self.said(c.ask("GET", key.location), 2000)

    def test_a_network_of_ipv6_holds_no_ipv4(self):
        c = self.client(registered=True)
        name = c.id[-12:]
        for networks, refused in ((["::/0"], False), (["::ffff:127.0.0.0/104"], True), (["0.0.0.0/0"], True), (["::/0", "127.0.0.1/32"], True)):
            path = self.rule("deny", "deposit", name=name, ids=[c.id], networks=networks)
            answer = c.deposit([c.id], kv=KV)
            self.no(answer) if refused else self.said(answer, 2001)
            self.stack.must("DELETE", path)

    # --- tried by the operator ----------------------------------------------------------------------------------------

    def verdict(self, c, what: str, status: int = 200, **facts) -> dict:
        header = self.second if c.admin == SECOND else None
        code, said = self.stack.rest("POST", "/v1/verdicts", {"what": what, "id": c.id, **facts}, header)
        self.assertEqual(code, status, said)
        return said

    def test_verdicts(self):
        """What the operator is told is what happens, and which rule it is; the try does nothing."""
        c, far, lot = self.client(), self.client(admin=SECOND), secrets.token_hex(6)
        self.assertEqual(self.verdict(c, "register"), {"effect": "allow"})
        guests = {"effect": "allow", "lifetime": 60, "targets": ["//example.org/in-cse/Cdesk"], "commands": [DEV_CFG]}
        self.rule("allow", "register", "deposit", name="1" + lot, ids=[c.id], labels=["guest"],
                  **{k: v for k, v in guests.items() if k != "effect"})
        self.rule("deny", "register", name="2" + lot, ids=[c.id, far.id], networks=["127.0.0.0/8"], days=["mon"], **{"from": "22:00", "to": "06:00"})
        self.rule("deny", "ticket", name="3" + lot, ids=[c.id], gateways=["00124b0000000001"])
        guests["rule"], nights, hall = "1" + lot, {"effect": "deny", "rule": "2" + lot}, {"effect": "deny", "rule": "3" + lot}
        here, monday, tuesday = {"address": "127.0.0.1"}, "2026-11-23T22:00:00Z", "2026-11-24T05:59:59.999Z"
        for what, facts, said in (("register", {"labels": ["x", "guest"]}, guests), ("register", {"labels": []}, {"effect": "allow"}),
                                  ("register", {**here, "at": monday}, nights), ("register", {**here, "at": tuesday}, nights),
                                  ("register", {**here, "at": "2026-11-24T06:00:00Z"}, {"effect": "allow"}),
                                  ("register", {"address": "::ffff:127.0.0.1", "at": monday}, nights), ("register", {"at": monday}, {"effect": "allow"}),
                                  ("register", {"address": "::1", "at": monday}, {"effect": "allow"}), ("deposit", {}, {"effect": "allow"}),
                                  ("ticket", {"gateway": "00:12:4b:00:00:00:00:01"}, hall), ("ticket", {}, {"effect": "allow"})):
            self.assertEqual(self.verdict(c, what, **facts), said, (what, facts))
        self.assertEqual(self.verdict(far, "register", **here, at=monday), {"effect": "allow"})  # it is another stakeholder's rule
        made = self.said(c.register(lbl=["guest"]), 2001)
        self.assertEqual(self.verdict(c, "deposit"), guests)  # it has the labels of its registration
        self.said(c.update(made, "sec:mecr", lbl=["x"]), 2004)
        self.assertEqual(self.verdict(c, "deposit"), {"effect": "allow"})
        self.assertEqual(len(self.stack.must("GET", f"/v1/registrations/{made.pc['ri']}/commands")), 1)
        for field, value in (("what", "fly"), ("id", "a b"), ("address", "127.0.0.1:5684"), ("address", "fe80::1%eth0"), ("gateway", "1"),
                             ("at", "22:00"), ("labels", "x")):
            self.assertEqual(self.verdict(c, **{"what": "register", field: value}, status=400)["field"] if field != "id" else
                             self.stack.rest("POST", "/v1/verdicts", {"what": "register", "id": value})[1]["field"], field)

    def test_times(self):
        c = self.client(registered=True)
        clock = lambda hours: time.strftime("%H:%M", time.gmtime(time.time() + hours * 3600))
        day = time.strftime("%a", time.gmtime(time.time() - 2 * 3600)).lower()  # on which the window began
        name = c.id[-12:]
        self.rule("deny", "deposit", name=name, ids=[c.id], **{"from": clock(-2), "to": clock(2)}, days=[day])
        self.no(c.deposit([c.id], kv=KV))
        days = [d for d in ("mon", "tue", "wed", "thu", "fri", "sat", "sun") if d != day]
        for more in ({"from": clock(2), "to": clock(-2)}, {"from": clock(-2), "to": clock(2), "days": days}):
            self.rule("deny", "deposit", name=name, status=200, ids=[c.id], **more)
            self.said(c.deposit([c.id], kv=KV), 2001)

    def test_they_outlive_a_restart(self):
        c = self.client()
        path = self.rule("deny", "register", ids=[c.id], networks=["127.0.0.0/8"], gateways=["00124b0000000001"], targets=["Cx"])
        self.rule("deny", "register", ids=[c.id], networks=["127.0.0.0/8"])
        shown = self.stack.must("GET", path)
        self.stack.restart_mefd()
        c.reconnect()
        self.assertEqual(self.stack.must("GET", path), shown)
        self.no(c.register())


class CoapsByPsk(Policies, common.StackTest):
    way = ("coaps", "psk")


class HttpsByCertificate(Policies, common.StackTest):
    way = ("https", "certificate")


class Shares(Clients, common.StackTest):
    """Of what all share one stakeholder may have half, and so the other always has its own."""
    way = ("https", "psk")

    @classmethod
    def prepare(cls):
        for key, value in (("max-registrations", 8), ("max-credentials", 12), ("max-applications", 4), ("stakeholder-share", 50)):
            set_option(cls.stack.mefd_conf, "mef", key, str(value))
        super().prepare()

    def rest(self, admin: str, method: str, path: str, body=None) -> tuple[int, dict]:
        return self.stack.rest(method, path, body, self.second if admin == SECOND else None)

    def test_applications(self):
        put = lambda admin, name: self.rest(admin, "PUT", f"/v1/applications/{name}", {"members": []})[0]
        for restarted in range(2):
            self.assertEqual([put(ADMIN, name) for name in "abc"], [201 - restarted, 201 - restarted, 429])
            self.stack.restart_mefd()
        self.assertEqual([put(SECOND, name) for name in "abc"], [201, 201, 429])
        self.assertEqual([put(ADMIN, name) for name in "ca"], [429, 200])  # what there is can be changed
        self.assertEqual(self.rest(ADMIN, "DELETE", "/v1/applications/a")[0], 204)
        self.assertEqual([put(SECOND, "c"), put(ADMIN, "c"), put(ADMIN, "d")], [429, 201, 429])

    def test_registrations_and_credentials(self):
        ours, theirs = self.client(registered=True), self.client(admin=SECOND, registered=True)
        key = self.said(ours.deposit([ours.id], kv=KV), 2001)
        for _ in range(2):
            self.said(ours.deposit([ours.id], kv=KV), 2001)
        full = ours.deposit([ours.id], kv=KV)
        self.assertIn(b"as many registrations as it may", self.said(full, 4103).body)
        self.said(self.client().register(), 4103)
        for _ in range(3):
            self.said(theirs.deposit([theirs.id], kv=KV), 2001)
        self.said(theirs.deposit([theirs.id], kv=KV), 4103)
        self.stack.restart_mefd()
        ours.reconnect()
        self.said(ours.deposit([ours.id], kv=KV), 4103)
        self.said(ours.ask("DELETE", key.location), 2002)
        self.said(ours.deposit([ours.id], kv=KV), 2001)
        self.said(ours.deposit([ours.id], kv=KV), 4103)
        new = lambda admin: self.rest(admin, "POST", "/v1/credentials", {"for": "C1", "kind": "psk"})
        count = lambda admin: len(self.rest(admin, "GET", "/v1/credentials")[1])
        for admin in (ADMIN, SECOND):
            for _ in range(6 - count(admin)):
                self.assertEqual(new(admin)[0], 201)
            status, said = new(admin)
            self.assertEqual((status, said["code"]), (429, "max-credentials"))
        self.assertEqual(self.rest(ADMIN, "DELETE", f"/v1/credentials/{self.rest(ADMIN, 'GET', '/v1/credentials')[1][0]['id']}")[0], 204)
        self.assertEqual([new(SECOND)[0], new(ADMIN)[0], new(ADMIN)[0]], [429, 201, 429])


class OfDevices(Rules, common.DevicesTest):
    """What is of a gateway: the key that the EG published, and its counters."""
    way = ("coaps", "psk")

    @classmethod
    def prepare(cls):
        super().prepare()
        cls.stack.start_gateway()

    def test_gateways(self):
        s = self.stack
        eui, key, _ = self.enrol()
        ae = CoapClient(s.coaps, s.ae["kpmId"], s.ae["kpm"])
        self.addCleanup(ae.close)
        ticket = lambda: ae.request(POST, f"mef/eg/devices/{eui}/ticket", [(CONTENT_FORMAT, uint(JSON))], b'{"count":1}')
        elsewhere = "00124b" + secrets.token_hex(5)
        self.rule("deny", "ticket", "retrieve", name="1", ids=[AE_ID], gateways=[elsewhere])
        self.assertEqual(ticket().dotted, "2.05")
        self.assertEqual(s.mefkey("get", eui, "--stdout")[1], key)
        self.rule("deny", "ticket", "retrieve", name="2", ids=[AE_ID], gateways=[elsewhere, s.gateway_eui])
        self.assertEqual(ticket().dotted, "4.03")
        refused = ("eg.ticket-refused", AE_ID, eui, "policy")
        told = lambda: {(e["action"], e["actor"], e["object"], e["outcome"]) for e in s.must("GET", "/v1/audit?limit=100")}
        end = time.monotonic() + 5  # at the end of the second
        while refused not in told() and time.monotonic() < end:
            time.sleep(0.1)
        self.assertIn(refused, told())
        status, out, err = s.mefkey("get", eui, "--stdout")
        self.assertEqual((status, out), (5, ""))
        self.assertIn("4103", err)
        c = self.client(AE_ID, registered=True)  # its own keys are of no gateway
        made = self.said(c.deposit([AE_ID], kv=KV, lbl=["gw:" + s.gateway_eui]), 2001)
        self.said(c.ask("GET", made.location), 2000)


if __name__ == "__main__":
    unittest.main()
