"""Commands of the MEF to its clients (TS-0003 8.3.4.6, 8.3.9), over both bindings and with both kinds of credential."""
import unittest

import common
from mmef import TY_CLIENT_CMD, TY_CLIENT_REG
from stack import ADMIN, set_option
from test_procedures import SECOND, Clients

ISSUED, REISSUED, OK = 10, 11, 20
NO_MORE = {"cmdClassID": 0, "cmdArgs": {"noMoreCmdArgs": {"retryDuration": "PT7S"}}}


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
