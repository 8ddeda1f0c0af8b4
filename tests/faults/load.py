"""The load: operators over HTTPS, a gateway's messages over DTLS, AEs over CoAPs. Each worker is a thread of its own that
writes down what it asks before, and what was acknowledged after; while mefd is away it waits for it."""
import base64
import contextlib
import http.client
import json
import random
import secrets
import select
import ssl
import struct
import threading
import time

from coapclient import (ACCEPT, CBOR, CONTENT_FORMAT, DELETE, GET, JSON, OCTETS, POST, TY, URI_QUERY, CoapClient, HandshakeRefused,
                        eg_message, eg_request, eg_response, uint)
from ledger import Violation
from stack import ADMIN, AE_ID
from zbcodec import build_aps_data, seal_nwk

UPLINK = 3
UNKNOWN_DEVICE, RATE_LIMITED, UNAVAILABLE = 1, 7, 10
CLIENT_REGISTRATION, KEY_REGISTRATION = 60002, 60004
FAR = "20990101T000000"
KEY_SCOPES = ("device", "application", "network")
PATIENCE = 8            # s for an answer: longer than any stall that the harness makes


class Gone(Exception):
    """mefd went away; whether the request was carried out is not known."""


class NotSent(Gone):
    """..before the request left."""


class Session(CoapClient):
    """A CoAP session that ends with the mefd that it was opened to."""

    def __init__(self, world, credential: dict):
        self.world, self.generation = world, world.generation
        super().__init__(world.stack.coaps, credential["kpmId"], credential["kpm"], timeout=PATIENCE)

    def _receive(self, timeout: float):
        end = time.monotonic() + timeout
        while self.generation == self.world.generation and (left := end - time.monotonic()) > 0:
            if select.select([self.inbox], [], [], min(left, 0.05))[0]:
                return super()._receive(0)
        return None

    def ask(self, *request, **more):
        began = time.monotonic()
        answer = self.request(*request, timeout=PATIENCE, **more)
        if answer is not None:
            return answer
        if time.monotonic() - began >= PATIENCE and self.generation == self.world.generation:
            raise Violation(f"no answer in {PATIENCE} s to {request[1]}, and mefd runs")
        raise Gone


class Worker(threading.Thread):
    """Calls step() for ever. `busy` is held during a step: who holds it has the worker at rest."""

    def __init__(self, world, name: str):
        super().__init__(daemon=True, name=name)
        self.world, self.ledger = world, world.ledger
        self.rng = random.Random(f"{world.seed}:{world.round}:{name}")
        self.busy = threading.Lock()
        self.sessions = {}

    def run(self):
        while not self.world.ending:
            self.world.gate.wait()
            with self.busy:
                if self.world.gate.is_set() and not self.world.ending:
                    self._guarded_step()
            time.sleep(self.rng.uniform(0, 0.004))
        self.forget()

    def _guarded_step(self):
        try:
            self.step()
        except (Gone, HandshakeRefused):
            self.forget()
            time.sleep(0.01)
        except Exception as e:  # of another thread: the main one raises it
            self.world.fail(e)

    def session(self, who: str) -> Session:
        s = self.sessions.get(who)
        if s is None or s.generation != self.world.generation:
            if s is not None:
                s.close()
                del self.sessions[who]
            self.sessions[who] = s = Session(self.world, self.world.credentials[who])
        return s

    def forget(self):
        for s in self.sessions.values():
            s.close()
        self.sessions = {}

    def step(self):
        raise NotImplementedError


class Rest:
    """One kept connection to the operators' interface."""

    def __init__(self, stack):
        self.stack, self.connection = stack, None
        self.tls = ssl.create_default_context(cafile=str(stack.ca))
        self.tls.check_hostname = False
        self.head = {"Authorization": "Bearer " + stack.token(), "Content-Type": "application/json"}

    def ask(self, method: str, path: str, body=None) -> tuple[int, object]:
        fresh = self.connection is None
        try:
            if fresh:
                self.connection = http.client.HTTPSConnection("127.0.0.1", self.stack.https, timeout=PATIENCE, context=self.tls)
                self.connection.connect()
        except OSError as e:
            self.close()
            raise NotSent from e
        try:
            self.connection.request(method, path, json.dumps(body) if body is not None else None, self.head)
            answer = self.connection.getresponse()
            data = answer.read()
            return answer.status, json.loads(data) if data else None
        except TimeoutError as e:
            self.close()
            raise Violation(f"no answer in {PATIENCE} s to {method} {path}") from e
        except (OSError, http.client.HTTPException, ValueError) as e:
            self.close()
            raise Gone from e

    def must(self, path: str):
        status, answer = self.ask("GET", path)
        if status != 200:
            raise Violation(f"GET {path}: {status} {answer}")
        return answer

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class Desk(Worker):
    """A worker at the operators' interface."""

    def __init__(self, world, name: str):
        super().__init__(world, name)
        self.rest = Rest(world.stack)

    def change(self, kind: str, name: str, method: str, path: str, body, value):
        """value: what the object is afterwards; None: absent."""
        entry = self.ledger.entry(kind, name)
        may_be_absent = entry.value is None or None in entry.maybe
        self.ledger.begin(kind, name, value)
        try:
            status, answer = self.rest.ask(method, path, body)
        except NotSent:
            self.ledger.refused(kind, name)
            raise
        if status == 503:
            raise Gone  # mefd is ending: carried out or not
        if 200 <= status < 300:
            self.ledger.acknowledged(kind, name)
            return answer
        self.ledger.refused(kind, name)
        if method == "DELETE" and status == 404 and may_be_absent:
            return None
        raise Violation(f"{method} {path}: {status} {answer}; acknowledged: {entry.value}")

    def rearm(self, euis):
        for eui in euis:
            self.rest.ask("POST", f"/v1/devices/{eui}/rearm", {})

    def forget(self):
        super().forget()
        self.rest.close()


class Operator(Desk):
    """Registers, changes and deletes its own objects; nobody else touches them."""

    def __init__(self, world, name: str, euis: list):
        super().__init__(world, name)
        self.euis = euis
        self.own = {"install-code": euis, "gateway": [self._eui() for _ in range(4)],
                    "application": [f"{name}-{i}" for i in range(4)],
                    "credential": [f"//example.org/in-cse/C-{name}-{i}" for i in range(4)]}
        self.kinds = ["install-code"] * 3 + ["gateway", "application", "credential"]

    def _eui(self) -> str:
        return f"00124b{self.rng.randrange(1 << 40):010x}"

    def step(self):
        kind = self.rng.choice(self.kinds)
        name = self.rng.choice(self.own[kind])
        entry = self.ledger.entry(kind, name)
        if kind == "credential":
            self._credential(name, entry)
        elif self.rng.random() < 0.3:
            self.change(kind, name, "DELETE", f"/v1/{kind}s/{name}", None, None)
        else:
            body, value = getattr(self, "_" + kind.replace("-", "_"))(name)
            query = "?replace=true" if kind == "install-code" else ""
            self.change(kind, name, "PUT", f"/v1/{kind}s/{name}{query}", body, value)

    def _install_code(self, eui: str):
        """Which of the device's two codes shows in the targets: a registration is one or the other, never a mixture."""
        which = self.rng.randrange(2)
        targets = [AE_ID] + [f"//example.org/in-cse/C-{which}"]
        value = {"targets": targets, "gateways": self.rng.choice([[], [self.world.direct_gateway]])}
        return {"installCode": self.world.codes[eui][which], **value}, value

    def _gateway(self, name: str):
        value = {"identity": self.world.credentials["gateway"]["kpmId"], "name": f"name {self.rng.randrange(1000)}"}
        return value, value

    def _application(self, name: str):
        members = [f"//example.org/in-cse/C-{i}" for i in self.rng.sample(range(1000), self.rng.randrange(1, 5))]
        value = {"keyScope": self.rng.choice(KEY_SCOPES), "members": members}
        return value, value

    def _credential(self, name: str, entry):
        kpm_id = self.world.kpm_ids.get(name)
        if entry.value is None and not entry.maybe:
            kpm = self.world.kpms[name] = f"{self.rng.getrandbits(256):064x}"
            answer = self.change("credential", name, "POST", "/v1/credentials", {"for": name, "kind": "psk", "kpm": kpm},
                                 {"kind": "psk", "role": "client"})
            self.world.kpm_ids[name] = answer["kpmId"]
        elif kpm_id is not None and not entry.maybe:
            self.change("credential", name, "DELETE", f"/v1/credentials/{kpm_id}", None, None)


class Watcher(Desk):
    """An operator who looks at the devices, and lets those of the gateway's own begin anew when they were reset."""

    def __init__(self, world):
        super().__init__(world, "watcher")
        self.rearm_next = 0

    def step(self):
        status, devices = self.rest.ask("GET", "/v1/devices?limit=1000")
        if status == 503:
            raise Gone
        for d in devices:
            self.world.enrolments.device(d, "under load", self.rest)
        self.ledger.count("device list read")
        if time.monotonic() >= self.rearm_next:
            self.rearm(self.world.own)
            self.rearm_next = time.monotonic() + 1
        time.sleep(0.05)


class DirectGateway(Worker):
    """A gateway's EG messages without a gateway: new transactions, repeated ones, proofs of keys."""

    KEPT, NEW = 40, 100  # transactions that are repeated, and how many back they may have begun; together fewer than mefd stores

    def __init__(self, world, euis: list):
        super().__init__(world, "direct-gateway")
        self.euis, self.gateway = euis, world.direct_gateway
        self.transaction = self.rng.getrandbits(62)
        self.answered, self.open = {}, []       # message -> bytes; messages without an answer
        self.keys, self.counters = {}, {}

    def step(self):
        dice = self.rng.random()
        if dice < 0.25 and self.answered:
            self.repeat(self.rng.choice(list(self.answered)))
        elif dice < 0.40 and self.keys:
            self.prove(self.rng.choice(list(self.keys)))
        else:
            self.ask_for_key(self.rng.choice(self.euis))

    def ask_for_key(self, eui: str):
        self.transaction += 1
        message = eg_request(self.transaction, self.gateway, eui, short=self.euis.index(eui) + 0x100)
        self.open = [*self.open, (message, eui, self.transaction)][-4:]
        self.send(message, eui, self.transaction)

    def send(self, message: bytes, eui: str, transaction: int) -> int:
        answer = self.session("direct").ask(POST, "mef/eg", [(CONTENT_FORMAT, uint(CBOR))], message)
        self.open = [o for o in self.open if o[0] != message]
        if answer.code >= 5 << 5:
            return UNAVAILABLE
        reason, frame = eg_response(answer.payload)
        if reason == 0:
            self.ledger.note("response", transaction=transaction, device=eui, bytes=answer.payload.hex())
            self.keys[eui], _ = self.world.frames.returned(self.gateway, transaction, eui, frame)
            if transaction > self.transaction - self.NEW:  # mefd may have answered it long ago, unheard
                self.remember(message, answer.payload)
            self.ledger.count("EgRequest answered")
        elif reason not in (UNKNOWN_DEVICE, UNAVAILABLE):
            raise Violation(f"EgRequest for {eui} refused with reason {reason}")
        return reason

    def remember(self, message: bytes, payload: bytes):
        self.answered.pop(message, None)
        self.answered[message] = payload
        while len(self.answered) > self.KEPT:
            del self.answered[next(iter(self.answered))]

    def repeat(self, message: bytes):
        answer = self.session("direct").ask(POST, "mef/eg", [(CONTENT_FORMAT, uint(CBOR))], message)
        if answer.code >= 5 << 5:
            return
        if answer.payload != self.answered[message]:
            raise Violation(f"a repeated transaction has other bytes: {answer.payload.hex()}, "
                            f"before {self.answered[message].hex()}")
        self.ledger.count("EgRequest repeated")

    def prove(self, eui: str):
        """A reading of the device under the key that it was sent last."""
        counter = self.counters[eui] = self.counters.get(eui, 0) + 1
        short = self.euis.index(eui) + 0x100
        header = struct.pack("<HHHBB", 0x0248, 0, short, 30, counter & 0xFF)
        aps = build_aps_data(0, 1, 0x0402, 0x0104, 1, counter & 0xFF, b"\x18\x01\x0a\x00\x00\x29\x66\x08")
        frame = seal_nwk(self.keys[eui], header, counter, int(eui, 16), 0, aps)
        message = eg_message(UPLINK, counter, self.gateway, eui, [short, 0xFF, frame])
        self.session("direct").ask(POST, "mef/eg", [(CONTENT_FORMAT, uint(CBOR))], message)
        self.ledger.count("UplinkFrame answered")

    def verify(self):
        """After a crash: what was answered is repeated with the same bytes; what was not, is answered now."""
        for message in list(self.answered)[-12:]:
            self.repeat(message)
        for message, eui, transaction in list(self.open):
            self.send(message, eui, transaction)

    def verify_code(self):
        """The code in force is the one that the registration's visible part says."""
        eui = self.rng.choice(self.euis)
        value = self.ledger.entry("install-code", eui).value
        self.transaction += 1
        message = eg_request(self.transaction, self.gateway, eui)
        answer = self.session("direct").ask(POST, "mef/eg", [(CONTENT_FORMAT, uint(CBOR))], message)
        reason, frame = eg_response(answer.payload)
        if (reason == 0) != (value is not None):
            raise Violation(f"EgRequest for {eui}: reason {reason}, though its registration is {value}")
        if reason == 0:
            self.keys[eui], link_key = self.world.frames.returned(self.gateway, self.transaction, eui, frame)
            if link_key != self.world.frames.link_keys[eui][int(value["targets"][1][-1])]:
                raise Violation(f"{eui} was sent a key under another code than the registered one")


class Ae(Worker):
    """Two AEs: one finds and gets keys, takes tickets, sends commands and deposits keys for the other."""

    def __init__(self, world, euis: list):
        super().__init__(world, "ae")
        self.euis, self.deposits, self.ids, self.serial = euis, [f"deposit-{i}" for i in range(6)], {}, 0
        self.registered = False

    def call(self, who: str, code: int, path: str, options=(), body=None):
        origin = AE_ID if who == "ae" else self.world.other_ae
        payload = json.dumps(body).encode() if body is not None else b""
        head = [(CONTENT_FORMAT, uint(JSON))] if body is not None else []
        answer = self.session(who).ask(code, path, [*head, (ACCEPT, uint(JSON)), *options], payload, origin=origin)
        if answer.code == 5 << 5 | 3:
            raise Gone
        return answer

    def step(self):
        time.sleep(0.01)
        if not self.registered:
            self.register()
        elif self.rng.random() < 0.3:
            self.deposit(self.rng.choice(self.deposits))
        else:
            self.use(self.rng.choice(self.euis))

    def register(self):
        answer = self.call("ae", POST, "mef", [(TY, uint(CLIENT_REGISTRATION))], {"sec:mecr": {"et": FAR, "adfq": ADMIN}})
        if answer.rsc not in (2001, 4117):
            raise Violation(f"registration: {answer.dotted} {answer.payload}")
        self.registered = True
        self.ledger.count("client registered")

    # --- a device's key -------------------------------------------------------------------------------------------------

    def find(self, who: str, label: str) -> list:
        answer = self.call(who, GET, "mef", [(URI_QUERY, b"fu=1"), (URI_QUERY, b"lbl=" + label.encode())])
        if answer.dotted != "2.05":
            raise Violation(f"find {label}: {answer.dotted} {answer.payload}")
        return [path.rpartition("/")[2] for path in json.loads(answer.payload)["m2m:uril"]]

    def get(self, who: str, key_id: str) -> bytes | None:
        answer = self.call(who, GET, "mef/" + key_id)
        if answer.dotted == "4.04":
            return None
        if answer.dotted != "2.05":
            raise Violation(f"get {key_id}: {answer.dotted} {answer.payload}")
        return base64.b64decode(json.loads(answer.payload)["sec:skr"]["kv"])

    def key_of(self, eui: str) -> tuple[str, bytes] | None:
        ids = self.find("ae", "eui64:" + eui)
        key = self.get("ae", ids[0]) if ids else None
        if key is None:
            return None
        self.world.enrolments.key(eui, ids[0], key.hex(), "retrieved")
        return ids[0], key

    def use(self, eui: str):
        """A ticket is of the key that the device had before and after it was granted."""
        found = self.key_of(eui)
        if found is None:
            return
        count = self.rng.randrange(1, 5)
        answer = self.call("ae", POST, f"mef/eg/devices/{eui}/ticket", body={"count": count})
        if answer.dotted not in ("2.05", "2.01", "2.04"):
            return  # the gateway is away
        ticket = json.loads(answer.payload)
        self.ledger.count("ticket granted")
        if eui not in self.world.staying and self.key_of(eui) != found:
            return
        self.serial += 1
        self.ledger.note("ticket", device=eui, key=found[0], **ticket)
        self.world.frames.ticket(eui, found[1], ticket["source"], ticket["first"], ticket["count"], self.serial)
        for counter in range(ticket["first"], ticket["first"] + self.rng.randrange(0, ticket["count"] + 1)):
            self.command(eui, found[1], ticket, counter)

    def command(self, eui: str, key: bytes, ticket: dict, counter: int):
        """An On/Off toggle, sealed under one number of the ticket; sent once, whatever becomes of it: the answer waits for the
        gateway's, which may be gone."""
        answer = self.call("ae", GET, f"mef/eg/devices/{eui}")
        short = json.loads(answer.payload).get("nwkAddress") if answer.dotted == "2.05" else None
        if short is None:
            return
        header = struct.pack("<HHHBB", 0x0248, short, 0, 30, counter & 0xFF)
        aps = build_aps_data(0, 1, 0x0006, 0x0104, 1, counter & 0xFF, bytes([0x01, counter & 0xFF, 0x02]))
        frame = seal_nwk(key, header, counter, int(ticket["source"], 16), ticket["keySeq"], aps)
        answer = self.session("ae").request(POST, f"mef/eg/frames/{eui}", [(CONTENT_FORMAT, uint(OCTETS))], frame, origin=AE_ID,
                                            timeout=0.5)
        if answer is not None and answer.dotted == "2.04":
            self.ledger.count("downlink taken")

    # --- keys of their own ----------------------------------------------------------------------------------------------

    def deposit(self, name: str):
        entry = self.ledger.entry("deposited key", name)
        if entry.maybe:
            return  # known again after the next verification
        if entry.value is None:
            value = secrets.token_hex(16)
            body = {"et": FAR, "adfq": ADMIN, "suid": 24, "tgis": [self.world.other_ae], "lbl": [name],
                    "kv": base64.b64encode(bytes.fromhex(value)).decode()}
            answer = self._change(name, value, POST, "mef", [(TY, uint(KEY_REGISTRATION))], {"sec:skr": body})
            self.ids[name] = json.loads(answer.payload)["sec:skr"]["ri"]
        else:
            self._change(name, None, DELETE, "mef/" + self.ids[name], [], None)

    def _change(self, name: str, value, code: int, path: str, options: list, body):
        session = self.session("ae")  # what fails here was not sent
        self.ledger.begin("deposited key", name, value)
        if session.generation != self.world.generation:
            self.ledger.refused("deposited key", name)
            raise NotSent
        answer = self.call("ae", code, path, options, body)
        if answer.code >> 5 != 2:
            raise Violation(f"{'deposit' if value else 'deletion of'} {name}: {answer.dotted} {answer.payload}")
        self.ledger.acknowledged("deposited key", name)
        return answer

    def verify(self, revoked: set):
        for name in self.deposits:
            ids = self.find("other", name)
            self.ids.update({name: ids[0]} if ids else {})
            key = self.get("other", ids[0]) if ids else None
            if len(ids) > 1 or (ids and key is None):
                raise Violation(f"{name} is half there: {ids}")
            self.ledger.settle("deposited key", name, key.hex() if key else None, "after a crash")
        for eui in self.euis:
            if self.key_of(eui) is not None and eui in revoked:
                raise Violation(f"{eui} is revoked, and an AE was told its key")


def try_credential(world, name: str):
    """One that was acknowledged opens a session."""
    with contextlib.closing(CoapClient(world.stack.coaps, world.kpm_ids[name], world.kpms[name], timeout=PATIENCE)):
        world.ledger.count("credential tried")
