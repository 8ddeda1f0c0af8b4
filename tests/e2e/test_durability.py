"""Identical bytes for a repeated transaction, also after kill -9 (kills under load: tests/faults)."""
import signal
import unittest

import common
from coapclient import CBOR, CONTENT_FORMAT, POST, CoapClient, eg_request, eg_response, uint
from stack import install_code, random_eui64

CONFLICT = 12


def ask(client: CoapClient, message: bytes, timeout: float = 5):
    return client.request(POST, "mef/eg", [(CONTENT_FORMAT, uint(CBOR))], message, timeout=timeout)


class Repeated(common.StackTest):
    gateway = False

    def client(self) -> CoapClient:
        s = self.stack
        c = CoapClient(s.coaps, s.gw_credential["kpmId"], s.gw_credential["kpm"])
        self.addCleanup(c.close)
        return c

    def test_same_transaction_same_bytes(self):
        s, eui = self.stack, random_eui64()
        s.register_code(eui, install_code())
        message = eg_request(1000, s.gateway_eui, eui)
        c = self.client()
        first = ask(c, message)
        reason, frame = eg_response(first.payload)
        self.assertEqual((reason, len(frame)), (0, 62))
        before = s.database()
        self.assertEqual(ask(c, message).payload, first.payload)
        self.assertEqual(s.database(), before, "a repetition changed something")
        s.restart_mefd(signal.SIGKILL)
        c = self.client()
        self.assertEqual(ask(c, message).payload, first.payload, "after kill -9")
        reason, frame = eg_response(ask(c, eg_request(1000, s.gateway_eui, eui, short=0x2F2E)).payload)
        self.assertEqual((reason, frame), (CONFLICT, b""))
        s.restart_mefd(signal.SIGTERM)
        self.assertEqual(ask(self.client(), message).payload, first.payload, "after SIGTERM")

    def test_new_transaction_same_key_new_counter(self):
        s, eui, code = self.stack, random_eui64(), install_code()
        s.register_code(eui, code)
        c = self.client()
        keys, counters = set(), []
        for transaction in range(2000, 2004):
            reason, frame = eg_response(ask(c, eg_request(transaction, s.gateway_eui, eui)).payload)
            self.assertEqual(reason, 0)
            key, counter = common.open_transport_key(frame, code, eui)
            keys.add(key)
            counters.append(counter)
            if transaction == 2001:
                s.restart_mefd(signal.SIGKILL)
                c = self.client()
        self.assertEqual(len(keys), 1, "repeats carry the same key")
        self.assertEqual(counters, sorted(set(counters)), "counters only go up")


if __name__ == "__main__":
    unittest.main()
