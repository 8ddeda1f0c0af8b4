"""Keys of keys (TS-0003 10.3, 10.7), over both bindings and with both kinds of credential."""
import datetime
import unittest

import common
from test_procedures import KV, Clients, soon


class Derived(Clients):
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


class CoapsByPsk(Derived, common.StackTest):
    way = ("coaps", "psk")


class CoapsByCertificate(Derived, common.StackTest):
    way = ("coaps", "certificate")


class HttpsByPsk(Derived, common.StackTest):
    way = ("https", "psk")


class HttpsByCertificate(Derived, common.StackTest):
    way = ("https", "certificate")


if __name__ == "__main__":
    unittest.main()
