"""Commands of the MEF to its clients (TS-0003 8.3.4.6, 8.3.9), over both bindings and with both kinds of credential."""
import time
import unittest

import common
from coapclient import CBOR, JSON
from mmef import TY_CLIENT_CFG, TY_CLIENT_CMD, TY_CLIENT_REG
from stack import ADMIN, set_option
from test_procedures import KV, SECOND, Clients

ISSUED, REISSUED, OK = 10, 11, 20
NO_MORE = {"cmdClassID": 0, "cmdArgs": {"noMoreCmdArgs": {"retryDuration": "PT7S"}}}
CERT_PROV = {"cmdClassID": 1, "cmdArgs": {"certProvCmdArgs": {
    "certProvProtocolID": 1, "URI": "https://mef.example.org/est", "certSubjectType": 3, "certSubjectID": "//example.org/in-cse/C1"}}}
DEV_CFG = {"cmdClassID": 2, "cmdArgs": {"devCfgCmdArgs": {"deviceConfigURI": "3:coaps://mef.example.org:5684/dm"}}}
MO_NODE = {"cmdClassID": 3, "cmdArgs": {"MONodeCmdArgs": {
    "objectPath": "./auth/1", "objectTypeID": 1, "objectTypeSpecifcArgs": {"SUID": 22}}}}
MAY_WAIT, KEPT = 16, 16


def changed(description: dict, **members) -> dict:
    """With other members (...: without) in its arguments."""
    (name, args), = description["cmdArgs"].items()
    return {**description, "cmdArgs": {name: {k: v for k, v in {**args, **members}.items() if v is not ...}}}


class Commands(Clients):
    @classmethod
    def prepare(cls):
        set_option(cls.stack.mefd_conf, "mef", "retry-duration", "7")
        super().prepare()

    def commanded(self, **more):
        """A registered client, and the URI of its commands as the registration names it."""
        c = self.client(**more)
        made = self.said(c.register(), 2001)
        return c, made.pc["ch"][0]["val"]

    def report(self, c, uri: str, cmd: str, status: int, **more):
        return c.ask("PUT", uri, content={"sec:mecc": {"cmi": cmd, "cmst": status}}, **more)

    def orders(self, uri: str, method: str = "GET", body=None, which: str = "", header=None):
        return self.stack.rest(method, f"/v1/registrations/{uri.split('/')[1]}/commands{which}", body, header)

    def order(self, uri: str, *descriptions: dict, status: int = 201, **more) -> list:
        """By the operator. Their ids."""
        ids = []
        for description in descriptions:
            answer, made = self.orders(uri, "POST", description, **more)
            self.assertEqual(answer, status, made)
            ids.append(made.get("id"))
        return ids

    def told(self, answer, rsc: int, cmd: str | None, description: dict, status: int) -> str:
        """What the client is told: this. The cmdID."""
        got = self.said(answer, rsc).pc
        self.assertEqual((got["cmds"], got["cmst"]), (description, status))
        if cmd is not None:
            self.assertEqual(got["cmi"], cmd)
        return got["cmi"]

    # --- what holds without any ---------------------------------------------------------------------------------------

    def test_registration_refers_to_its_commands(self):
        c = self.client()
        made = self.said(c.register(), 2001)
        uri = made.location + "/cmd"
        self.assertEqual(made.pc["ch"], [{"nm": "cmd", "typ": TY_CLIENT_CMD, "val": uri}])
        self.assertEqual(self.said(c.ask("GET", made.location), 2000).pc["ch"], made.pc["ch"])
        got = self.said(c.ask("GET", uri), 2000).pc
        self.assertEqual(set(got), {"ty", "ri", "rn", "pi", "ct", "lt", "et", "cmi", "cmds", "cmst"})
        self.assertEqual((got["ty"], got["rn"], got["pi"], got["et"]), (TY_CLIENT_CMD, "cmd", made.pc["ri"], made.pc["et"]))
        self.assertEqual(self.said(c.ask("GET", "mef/" + got["ri"]), 2000).pc, got)

    def test_no_more_commands(self):
        """It holds until there are some: the client may ask as often as it likes, and report what it makes of it."""
        c, uri = self.commanded()
        got = self.said(c.ask("GET", uri), 2000).pc
        self.assertEqual((got["cmds"], got["cmst"]), (NO_MORE, ISSUED))
        self.assertEqual(self.said(c.ask("GET", uri), 2000).pc, got)
        after = self.said(self.report(c, uri, got["cmi"], 41), 2004).pc
        self.assertEqual((after["cmds"], after["cmst"], int(after["cmi"])), (NO_MORE, ISSUED, int(got["cmi"]) + 1))
        for wrong in (43, 100, 201, 300):  # of other classes
            self.said(self.report(c, uri, after["cmi"], wrong), 4000)
        self.assertEqual(self.said(c.ask("GET", uri), 2000).pc, after)

    def test_update_that_is_none(self):
        c, uri = self.commanded()
        got = self.said(c.ask("GET", uri), 2000).pc
        cmi = got["cmi"]
        for wrong in ({}, {"cmi": cmi}, {"cmst": OK}, {"cmi": cmi, "cmst": "20"}, {"cmi": int(cmi), "cmst": OK},
                      {"cmi": "", "cmst": OK}, {"cmi": cmi, "cmst": OK, "cmds": NO_MORE}, {"cmi": cmi, "cmst": OK, "et": got["et"]},
                      {"cmi": cmi, "cmst": None}, {"cmi": cmi, "cmst": 20.5}, {"cmi": cmi, "cmst": -1}, {"cmi": cmi, "cmst": OK, "x": 1},
                      *({"cmi": cmi, "cmst": n} for n in (0, 1, ISSUED, REISSUED, 21, 44, 99, 102, 200, 203, 299, 306, 999, 1000))):
            self.said(c.ask("PUT", uri, content={"sec:mecc": wrong}), 4000)
        self.said(c.ask("PUT", uri, content={"sec:mecr": {"cmi": cmi, "cmst": OK}}), 4000)
        self.said(c.ask("PUT", uri, content=b"{"), 4000)
        self.assertEqual(self.said(c.ask("GET", uri), 2000).pc, got)

    def test_commands_are_the_mefs(self):
        c, uri = self.commanded()
        registration = uri.removesuffix("/cmd")
        content = {"sec:mecc": {"cmi": "1", "cmst": OK}}
        self.said(c.ask("POST", registration, ty=TY_CLIENT_CMD, content=content), 4005)
        self.said(c.ask("POST", uri, ty=TY_CLIENT_CMD, content=content), 4108)
        self.said(c.ask("POST", ty=TY_CLIENT_CMD, content=content), 4108)
        self.said(c.ask("POST", uri, ty=TY_CLIENT_REG, content={"sec:mecr": {"et": "20991231T235959", "adfq": ADMIN}}), 4108)
        self.said(c.ask("DELETE", uri), 4005)
        self.said(c.ask("GET", uri), 2000)

    def test_commands_of_others(self):
        c, uri = self.commanded()
        got = self.said(c.ask("GET", uri), 2000).pc
        near, far = self.client(registered=True), self.client(admin=SECOND, registered=True)
        for other, rsc in ((near, 4103), (far, 4004)):
            for answer in (other.ask("GET", uri), self.report(other, uri, got["cmi"], OK), other.ask("DELETE", uri)):
                self.assertNotIn(got["cmi"].encode(), self.said(answer, rsc).body)
        absent = far.ask("GET", f"mef/{'0' * 32}/cmd")
        self.assertEqual(far.ask("GET", uri).body, self.said(absent, 4004).body)
        self.assertEqual(self.said(c.ask("GET", uri), 2000).pc, got)

    def test_commands_end_with_the_registration(self):
        c, uri = self.commanded()
        before = self.said(c.ask("GET", uri), 2000).pc
        self.said(self.report(c, uri, before["cmi"], 42), 2004)
        self.said(c.ask("DELETE", uri.removesuffix("/cmd")), 2002)
        self.said(c.ask("GET", uri), 4004)
        self.said(self.report(c, uri, before["cmi"], OK), 4004)
        again = self.said(c.register(), 2001).pc["ch"][0]["val"]
        self.assertNotEqual(again, uri)
        self.assertEqual(self.said(c.ask("GET", again), 2000).pc["cmi"], before["cmi"])

    # --- their order --------------------------------------------------------------------------------------------------

    def test_a_command_without_a_report_is_issued_again(self):
        c, uri = self.commanded()
        waits = self.told(c.ask("GET", uri), 2000, None, NO_MORE, ISSUED)
        one, two = self.order(uri, CERT_PROV, DEV_CFG)
        self.assertLess(int(waits), int(one))
        self.told(c.ask("GET", uri), 2000, one, CERT_PROV, ISSUED)
        for _ in range(2):
            self.told(c.ask("GET", uri), 2000, one, CERT_PROV, REISSUED)
            c.reconnect()
        self.told(self.report(c, uri, one, OK), 2004, two, DEV_CFG, ISSUED)
        self.told(c.ask("GET", uri), 2000, two, DEV_CFG, REISSUED)

    def test_the_answer_to_an_update_is_the_next_command(self):
        c, uri = self.commanded()
        ids = self.order(uri, CERT_PROV, DEV_CFG, MO_NODE)
        self.assertEqual(sorted(ids, key=int), ids)
        self.told(c.ask("GET", uri), 2000, ids[0], CERT_PROV, ISSUED)
        self.told(self.report(c, uri, ids[0], OK), 2004, ids[1], DEV_CFG, ISSUED)
        self.told(self.report(c, uri, ids[0], OK), 2004, ids[1], DEV_CFG, REISSUED)  # sent again, as its answer was lost
        self.told(self.report(c, uri, ids[1], 202, form=CBOR, accept=JSON), 2004, ids[2], MO_NODE, ISSUED)
        last = self.told(self.report(c, uri, ids[2], OK), 2004, None, NO_MORE, ISSUED)
        self.assertGreater(int(last), int(ids[2]))
        status, rows = self.orders(uri)
        self.assertEqual((status, [(r["id"], r["state"], r["result"], r["description"]) for r in rows]),
                         (200, [(ids[0], "done", OK, CERT_PROV), (ids[1], "done", 202, DEV_CFG), (ids[2], "done", OK, MO_NODE)]))
        more, = self.order(uri, DEV_CFG)  # NO_MORE_COMMANDS was not the last word
        self.told(c.ask("GET", uri), 2000, more, DEV_CFG, ISSUED)

    def test_an_update_of_another_command(self):
        c, uri = self.commanded()
        one, two = self.order(uri, DEV_CFG, MO_NODE)
        self.told(c.ask("GET", uri), 2000, one, DEV_CFG, ISSUED)
        for other in (two, "0", "0" + one, "x", str(10 ** 20)):
            self.told(self.report(c, uri, other, OK), 2004, one, DEV_CFG, REISSUED)
        self.assertEqual([r["state"] for r in self.orders(uri)[1]], ["issued", "waiting"])
        self.told(self.report(c, uri, one, 201), 2004, two, MO_NODE, ISSUED)
        self.assertEqual([r.get("result") for r in self.orders(uri)[1]], [201, None])

    def test_each_status_code(self):
        c, uri = self.commanded()
        codes = {1: (CERT_PROV, (100, 101)), 2: (DEV_CFG, (201, 202)), 3: (MO_NODE, (300, 301, 302, 303, 304, 305))}
        every = {OK, 40, 41, 42, 43, *(n for _, of in codes.values() for n in of)}
        done = 0
        for description, of in codes.values():
            fit = {OK, 40, 41, 42, 43, *of}
            for n in sorted(fit):
                cmd, = self.order(uri, description)
                self.told(c.ask("GET", uri), 2000, cmd, description, ISSUED)
                for other in every - fit:
                    self.said(self.report(c, uri, cmd, other), 4000)
                self.told(self.report(c, uri, cmd, n), 2004, None, NO_MORE, ISSUED)
                row = self.orders(uri)[1][-1]
                self.assertEqual((row["id"], row["state"], row["result"]), (cmd, "done", n))
                done += 1
        self.assertEqual((done, len(self.orders(uri)[1])), (25, KEPT))

    # --- what the operator may order ----------------------------------------------------------------------------------

    def test_a_uri_names_the_mef(self):
        c, uri = self.commanded()
        for rest in ("mef.example.org", "MEF.Example.ORG/", "mef.example.org:8443/est/x?y=1"):
            for description in (changed(CERT_PROV, URI="https://" + rest), changed(DEV_CFG, deviceConfigURI="4:http://" + rest)):
                cmd, = self.order(uri, description)
                self.told(c.ask("GET", uri), 2000, cmd, description, ISSUED)
                self.report(c, uri, cmd, OK)
        for wrong in ("https://evil.example.org/est", "https://mef.example.org.evil.com", "https://mef.example.org@evil.example.org",
                      "https:mef.example.org", "https://127.0.0.1/"):
            for description, field in ((changed(CERT_PROV, URI=wrong), "URI"),
                                       (changed(DEV_CFG, deviceConfigURI="1:" + wrong), "deviceConfigURI")):
                status, said = self.orders(uri, "POST", description)
                self.assertEqual((status, said.get("code"), said.get("field")), (400, "bad-value", field), wrong)
        self.told(c.ask("GET", uri), 2000, None, NO_MORE, ISSUED)

    def test_as_many_as_may_wait(self):
        c, uri = self.commanded()
        ids = self.order(uri, *[DEV_CFG] * MAY_WAIT)
        self.order(uri, DEV_CFG, status=429)
        self.told(c.ask("GET", uri), 2000, ids[0], DEV_CFG, ISSUED)
        self.order(uri, DEV_CFG, status=429)  # the one issued counts
        self.told(self.report(c, uri, ids[0], OK), 2004, ids[1], DEV_CFG, ISSUED)
        last, = self.order(uri, MO_NODE)
        self.assertGreater(int(last), int(ids[-1]))

    def test_a_withdrawn_command(self):
        c, uri = self.commanded()
        one, two, three = self.order(uri, CERT_PROV, DEV_CFG, MO_NODE)
        self.told(c.ask("GET", uri), 2000, one, CERT_PROV, ISSUED)
        for cmd, status in ((two, 204), (one, 204), (one, 404), ("0", 404), ("x", 404), ("0" + three, 404)):
            self.assertEqual(self.orders(uri, "DELETE", which="/" + cmd)[0], status)
        self.told(self.report(c, uri, one, OK), 2004, three, MO_NODE, ISSUED)  # too late: it counts for nothing
        self.told(self.report(c, uri, three, OK), 2004, None, NO_MORE, ISSUED)
        self.assertEqual(self.orders(uri, "DELETE", which="/" + three)[0], 404)
        self.assertEqual([r["id"] for r in self.orders(uri)[1]], [three])

    def test_an_operator_orders_its_own_clients_only(self):
        c, uri = self.commanded()
        one, = self.order(uri, DEV_CFG)
        nothing = "mef/" + "0" * 32
        for method, body, which in (("GET", None, ""), ("POST", DEV_CFG, ""), ("DELETE", None, "/" + one)):
            theirs, absent = (self.orders(of, method, body, which, self.second) for of in (uri, nothing))
            self.assertEqual((theirs[0], theirs), (404, absent))
        ri = uri.split("/")[1]
        self.assertEqual(self.stack.rest("GET", f"/v1/registrations/{ri}")[1]["client"], c.id)
        self.assertEqual(self.stack.rest("GET", f"/v1/registrations/{ri}", None, self.second)[0], 404)
        self.assertIn(ri, [r["id"] for r in self.stack.rest("GET", "/v1/registrations?limit=1000")[1]])
        self.assertNotIn(ri, [r["id"] for r in self.stack.rest("GET", "/v1/registrations?limit=1000", None, self.second)[1]])
        self.told(c.ask("GET", uri), 2000, one, DEV_CFG, ISSUED)

    def test_commands_end_with_the_credential(self):
        """With the last one of the client that has not expired its registration is gone: nobody could ask for them, and who
        proves to be it later may be another. The other stakeholder's word on it counts for nothing, its keys stay."""
        c, uri = self.commanded()
        one, = self.order(uri, DEV_CFG)
        key = self.said(c.deposit([c.id], kv=KV), 2001).location
        credentials = [r for r in self.stack.must("GET", "/v1/credentials?limit=1000") if r["for"] == c.id]
        brief = {"for": c.id, "kind": "psk", "expiresAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))}
        self.stack.must("POST", "/v1/credentials", brief)
        self.stack.rest("POST", "/v1/credentials", {"for": c.id, "kind": "psk"}, self.second)
        spare = self.stack.must("POST", "/v1/credentials", {"for": c.id, "kind": "psk"})
        self.stack.must("DELETE", f"/v1/credentials/{spare['id']}")
        self.told(c.ask("GET", uri), 2000, one, DEV_CFG, ISSUED)
        time.sleep(2.1)
        for credential in credentials:
            self.stack.must("DELETE", f"/v1/credentials/{credential['id']}")
        self.said(c.ask("GET", uri), 4107)
        self.assertEqual(self.orders(uri)[0], 404)
        self.assertIn(("operator:admin", "registration.delete", uri.split("/")[1]),
                      [(e["actor"], e["action"], e["object"]) for e in self.stack.must("GET", "/v1/audit?limit=50")])
        again = self.opened(c.id, self.proof(self.way[1], c.id, ADMIN))
        self.said(again.ask("GET", uri), 4004)
        self.said(again.ask("GET", key), 2000)
        self.told(again.ask("GET", self.said(again.register(), 2001).pc["ch"][0]["val"]), 2000, None, NO_MORE, ISSUED)

    def test_commands_outlive_a_credential_that_expires(self):
        """The next one for this client goes on with its registration."""
        c, uri = self.commanded(expires=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3)))
        one, two = self.order(uri, DEV_CFG, MO_NODE)
        self.told(c.ask("GET", uri), 2000, one, DEV_CFG, ISSUED)
        time.sleep(3.1)
        self.said(self.report(c, uri, one, OK), 4107)
        self.assertEqual([r["state"] for r in self.orders(uri)[1]], ["issued", "waiting"])
        body = {"for": c.id, "kind": "psk"}  # a certificate's name is bound once: by the one that has expired
        made = self.stack.must("POST", "/v1/credentials", body)
        again = self.opened(c.id, ("-psk_identity", made["kpmId"], "-psk", made["kpm"]), way=(self.way[0], "psk"))
        self.told(again.ask("GET", uri), 2000, one, DEV_CFG, REISSUED)
        self.told(self.report(again, uri, one, OK), 2004, two, MO_NODE, ISSUED)

    # --- configuration ------------------------------------------------------------------------------------------------

    def test_configuration(self):
        c = self.client()
        made = self.said(c.register(), 2001)
        uri, rest = made.location + "/cfg", f"/v1/registrations/{made.pc['ri']}/configuration"
        absent = self.said(c.ask("GET", uri), 4004)
        self.assertEqual(absent.body, c.ask("GET", "mef/nothing").body)
        self.assertEqual(self.stack.rest("GET", rest)[0], 404)
        given = {"expirationTime": "20400101T000000", "labels": ["room:1"], "fqdn": "mef.example.org", "adminFQDN": ADMIN,
                 "httpPort": 8443, "coapPort": 5684}
        for body, status in ((given, 201), ({**given, "coapPort": 65535}, 200)):
            self.assertEqual(self.stack.rest("PUT", rest, body), (status, body))
            got = self.said(c.ask("GET", uri), 2000).pc
            self.assertEqual(set(got), {"ty", "ri", "rn", "pi", "ct", "lt", "et", "ccfg"})
            self.assertEqual((got["ty"], got["rn"], got["ccfg"]), (TY_CLIENT_CFG, "cfg", body))
            self.assertEqual(self.said(c.ask("GET", "mef/" + got["ri"]), 2000).pc, got)
        for status, header in ((404, self.second), (200, None)):
            self.assertEqual(self.stack.rest("GET", rest, None, header)[0], status)
        shown = self.said(c.ask("GET", made.location), 2000).pc["ch"]
        self.assertEqual([(ref["nm"], ref["typ"]) for ref in shown], [("cmd", TY_CLIENT_CMD), ("cfg", TY_CLIENT_CFG)])
        near, far = self.client(registered=True), self.client(admin=SECOND, registered=True)
        for other, rsc in ((near, 4103), (far, 4004)):
            self.assertNotIn(b"room:1", self.said(other.ask("GET", uri), rsc).body)
        content = {"sec:mecf": {"ccfg": given}}
        for answer in (c.ask("PUT", uri, content=content), c.ask("DELETE", uri),
                       c.ask("POST", made.location, ty=TY_CLIENT_CFG, content=content)):
            self.said(answer, 4005)
        self.said(c.ask("GET", uri), 2000)
        for status in (204, 404):
            self.assertEqual(self.stack.rest("DELETE", rest)[0], status)
        self.said(c.ask("GET", uri), 4004)
        self.assertEqual(self.stack.rest("PUT", rest, given)[0], 201)
        self.said(c.ask("DELETE", made.location), 2002)
        self.assertEqual(self.stack.rest("GET", rest)[0], 404)
        again = self.said(c.register(), 2001).location
        self.said(c.ask("GET", again + "/cfg"), 4004)


class CoapsByPsk(Commands, common.StackTest):
    way = ("coaps", "psk")


class CoapsByCertificate(Commands, common.StackTest):
    way = ("coaps", "certificate")


class HttpsByPsk(Commands, common.StackTest):
    way = ("https", "psk")


class HttpsByCertificate(Commands, common.StackTest):
    way = ("https", "certificate")


if __name__ == "__main__":
    unittest.main()
