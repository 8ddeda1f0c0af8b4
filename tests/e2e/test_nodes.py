"""A node in the name of the AEs on it (TS-0003 8.3.9.4), over both bindings and with both kinds of credential."""
import base64
import secrets
import unittest

import common
from stack import ADMIN
from test_commands import DEV_CFG
from test_procedures import KEY, KV, SECOND, Clients


class Nodes(Clients):
    def node(self, *ids: str, admin: str = ADMIN):
        """A session of a node that acts for these; it speaks as the first. `ask` and the rest take another name as `id`."""
        name, kind = "node:urn:gsma:imei:" + secrets.token_hex(6), self.way[1]
        body = {"for": name, "kind": kind, "actsFor": list(ids)}
        status, made = self.stack.rest("POST", "/v1/credentials", body, self.second if admin != ADMIN else None)
        self.assertEqual((status, made.get("role"), made.get("actsFor")), (201, "node", list(ids)), made)
        self.name, self.credential = name, made["id"]
        proof = ("-psk_identity", made["kpmId"], "-psk", made["kpm"]) if kind == "psk" else self.shown(
            self.ca.issue(secrets.token_hex(4), uris=[made["san"]]))
        return self.opened(ids[0], proof, admin)

    @staticmethod
    def ids(n: int) -> list:
        return [f"//example.org/in-cse/C{secrets.token_hex(6)}" for _ in range(n)]

    def test_a_node_acts_for_its_aes(self):
        """What it makes is the AE's whom it names: as if the AE had asked itself."""
        one, two = self.ids(2)
        node, itself = self.node(one, two), self.client(two)
        made = self.said(node.register(), 2001)
        self.assertEqual(made.pc["srci"], one)
        self.said(node.register(), 4117)
        key = self.said(node.deposit([two], kv=KV), 2001)
        self.assertEqual(key.pc["srci"], one)
        self.assertEqual(base64.b64decode(self.said(itself.ask("GET", key.location), 2000).pc["kv"]), KEY)
        node.id = two
        self.assertEqual(base64.b64decode(self.said(node.ask("GET", key.location), 2000).pc["kv"]), KEY)
        self.assertEqual(node.found(), [key.location])
        self.said(node.update(key, "sec:skr", lbl=["x"]), 4103)
        self.said(node.ask("GET", made.location), 4103)
        self.assertEqual(self.said(node.register(), 2001).pc["srci"], two)
        self.said(itself.register(), 4117)
        self.said(node.deposit([one]), 2001)
        node.id = one
        self.said(node.deposit([two]), 4105)  # the session exports once, in whose name soever
        self.said(node.ask("DELETE", key.location), 2002)
        self.said(node.ask("DELETE", made.location), 2002)
        status, trail = self.stack.rest("GET", "/v1/audit?limit=1")
        self.assertEqual((status, trail[0]["actor"], trail[0]["action"]), (200, self.name, "registration.delete"))

    def test_nobody_elses_name(self):
        mine, other = self.client(registered=True), self.client(registered=True)
        node = self.node(*self.ids(1))
        key = self.said(other.deposit([mine.id], kv=KV), 2001)
        for name in (mine.id, other.id, "//example.org/in-cse", "//example.org/in-cse/C", node.id + "x", node.id.lower(), "mef.example.org", "?"):
            with self.subTest(name=name):
                for answer in (node.ask("GET", key.location, origin=name), node.ask("GET", origin=name),
                               node.ask("POST", ty=60002, content={"sec:mecr": {"et": "20991231T235959", "adfq": ADMIN}}, origin=name)):
                    self.said(answer, 4106)
        self.said(node.ask("GET", origin=None), 4000)
        self.said(node.ask("GET", key.location), 4103)
        # Itself it may look, but is no MEF client.
        node.id = self.name
        self.said(node.ask("GET"), 2000)
        self.said(node.register(), 4103)
        self.assertEqual(node.found(), [])

    def test_the_list_is_of_one_stakeholder(self):
        who = self.ids(1)[0]
        ours, theirs = self.client(who, registered=True), self.node(who, admin=SECOND)
        key = self.said(ours.deposit([who], kv=KV), 2001)
        self.said(theirs.ask("GET", key.location), 4004)
        self.said(theirs.register(adfq=ADMIN), 4103)
        self.said(theirs.register(), 2001)

    def test_a_list_ends_with_its_credential(self):
        node = self.node(*self.ids(1))
        self.said(node.register(), 2001)
        self.assertEqual(self.stack.rest("DELETE", "/v1/credentials/" + self.credential)[0], 204)
        self.said(node.ask("GET"), 4107)

    def test_commands_of_its_aes(self):
        """Told to the node in the AE's name; nothing is, once no credential speaks for the AE."""
        one = self.ids(1)[0]
        node, itself = self.node(one), self.client(one)
        uri = self.said(node.register(), 2001).pc["ch"][0]["val"]
        orders, credentials = f"/v1/registrations/{uri.split('/')[1]}/commands", "/v1/credentials?limit=1000"
        self.stack.must("POST", orders, DEV_CFG)
        self.assertEqual(self.said(node.ask("GET", uri), 2000).pc["cmst"], 10)
        told = self.stack.must("GET", "/v1/audit?limit=1")[0]
        self.assertEqual((told["action"], told["actor"]), ("command.issue", self.name))
        self.assertEqual(self.said(itself.ask("GET", uri), 2000).pc["cmst"], 11)
        own = next(c["id"] for c in self.stack.must("GET", credentials) if c["for"] == one)
        self.stack.must("DELETE", "/v1/credentials/" + own)
        self.assertEqual([o["state"] for o in self.stack.must("GET", orders)], ["issued"])
        self.stack.must("DELETE", "/v1/credentials/" + self.credential)
        self.assertEqual(self.stack.rest("GET", orders)[0], 404)  # they end with the AE's registration

    def test_a_node_with_aes_is_no_gateway(self):
        node, eui = self.node(*self.ids(1)), secrets.token_hex(8)
        identity = node.proof[1] if self.way[1] == "psk" else self.name[5:]
        status, answer = self.stack.rest("PUT", "/v1/gateways/" + eui, {"identity": identity})
        self.assertGreaterEqual(status, 400, answer)
        for who in (self.ids(1)[0], "gateway:" + eui, eui):
            status, answer = self.stack.rest("POST", "/v1/credentials", {"for": who, "kind": "psk", "actsFor": self.ids(1)})
            self.assertEqual((status, answer["field"]), (400, "actsFor"))


class CoapsByPsk(Nodes, common.StackTest):
    way = ("coaps", "psk")


class CoapsByCertificate(Nodes, common.StackTest):
    way = ("coaps", "certificate")


class HttpsByPsk(Nodes, common.StackTest):
    way = ("https", "psk")


class HttpsByCertificate(Nodes, common.StackTest):
    way = ("https", "certificate")


if __name__ == "__main__":
    unittest.main()
