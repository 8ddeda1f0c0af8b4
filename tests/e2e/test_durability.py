"""Acknowledged is durable: identical bytes for a repeated transaction, also after kill -9; twenty kills in the middle of
registrations and joins lose nothing that was acknowledged."""
import os
import random
import signal
import threading
import time
import unittest

import common
from coapclient import CBOR, CONTENT_FORMAT, POST, CoapClient, HandshakeRefused, eg_request, eg_response, uint
from stack import AE_ID, StackError, install_code, random_eui64

CONFLICT = 12
KILLS = 20


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


class Kills(common.StackTest):
    """Registrations by REST and joins by EgRequest go on while mefd is killed at random times."""

    gateway = False
    options = {**common.SHORT_CODES, ("eg", "stored-responses"): "1024"}

    def test_twenty_kills_lose_nothing_acknowledged(self):
        rng = random.Random(int(os.environ.get("MEF_SEED", "1")))
        self.codes, self.answers, self.counters, self.lock = {}, {}, {}, threading.Lock()
        self.transaction, self.errors = 1 << 20, []
        for kill in range(KILLS):
            stop = threading.Event()
            workers = [threading.Thread(target=self.guarded, args=(w, stop)) for w in (self.register, self.join)]
            for w in workers:
                w.start()
            time.sleep(rng.uniform(0.15, 0.6))
            self.stack.mefd.stop(signal.SIGKILL)
            stop.set()
            for w in workers:
                w.join()
            self.assertEqual(self.errors, [])
            self.stack.processes.remove(self.stack.mefd)
            self.stack.start_mefd()
            self.verify(kill)
        print(f"{KILLS} kills: {len(self.codes)} registrations and {len(self.answers)} EgResponses acknowledged, none lost", flush=True)
        self.assertGreater(len(self.codes), KILLS)
        self.assertGreater(len(self.answers), KILLS)

    def guarded(self, work, stop):
        try:
            work(stop)
        except Exception as e:  # of another thread: shown by the test's own
            self.errors.append(repr(e))

    def register(self, stop):
        while not stop.is_set():
            eui, code = random_eui64(), install_code()
            try:
                status, _ = self.stack.rest("PUT", f"/v1/install-codes/{eui}", {"installCode": code, "targets": [AE_ID]})
            except StackError:
                continue  # curl met the kill: not acknowledged
            if status in (200, 201):
                with self.lock:
                    self.codes[eui] = code

    def join(self, stop):
        s = self.stack
        try:
            client = CoapClient(s.coaps, s.gw_credential["kpmId"], s.gw_credential["kpm"], timeout=2)
        except HandshakeRefused:
            return
        while not stop.is_set():
            with self.lock:
                eui = random.choice(list(self.codes)) if self.codes else None
            if eui is None:
                time.sleep(0.01)
                continue
            self.transaction += 1
            message = eg_request(self.transaction, s.gateway_eui, eui)
            answer = ask(client, message, timeout=0.5)
            if answer is not None and eg_response(answer.payload)[0] == 0:
                self.answers[message] = answer.payload
                self.note_counter(eui, eg_response(answer.payload)[1])
        client.close()

    def note_counter(self, eui: str, frame: bytes):
        _, counter = common.open_transport_key(frame, self.codes[eui], eui)
        self.assertGreater(counter, self.counters.get(eui, -1), "a counter was used twice")
        self.counters[eui] = counter

    def verify(self, kill: int):
        s = self.stack
        known = set()
        after = ""
        while page := s.must("GET", f"/v1/install-codes?limit=100{after}"):
            items = page if isinstance(page, list) else page.get("items", [])
            known |= {i["eui64"] for i in items}
            if not items:
                break
            after = f"&after={items[-1]['eui64']}"
        self.assertEqual(set(self.codes) - known, set(), f"registrations lost at kill {kill}")
        client = CoapClient(s.coaps, s.gw_credential["kpmId"], s.gw_credential["kpm"])
        try:
            for message, payload in list(self.answers.items())[-40:]:
                self.assertEqual(ask(client, message).payload, payload, f"a transaction's bytes changed at kill {kill}")
        finally:
            client.close()


if __name__ == "__main__":
    unittest.main()
