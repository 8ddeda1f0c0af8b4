"""What was acknowledged. Every object has one writer, so its state is known but for requests whose answer a crash took."""
import json
import os
import threading
from collections import Counter
from pathlib import Path


class Violation(Exception):
    """A guarantee is broken."""


class Entry:
    """value: as last acknowledged, None when absent. maybe: what requests without an answer would have made of it."""

    def __init__(self):
        self.value, self.maybe = None, []


class Ledger:
    """Objects by (kind, id). Each step is a line of a journal, in the order in which the harness learned it; the journal
    holds test credentials, hence its mode."""

    def __init__(self, journal: Path):
        self.lock, self.objects, self.counts, self.seq = threading.RLock(), {}, Counter(), 0
        self.fd = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def close(self):
        os.close(self.fd)

    def note(self, what: str, **fields):
        with self.lock:
            self.seq += 1
            os.write(self.fd, (json.dumps({"n": self.seq, "what": what, **fields}) + "\n").encode())

    def sync(self):
        os.fsync(self.fd)

    def count(self, what: str, n: int = 1):
        with self.lock:
            self.counts[what] += n

    def entry(self, kind: str, name: str) -> Entry:
        with self.lock:
            return self.objects.setdefault((kind, name), Entry())

    def names(self, kind: str) -> list:
        with self.lock:
            return [name for k, name in self.objects if k == kind]

    def begin(self, kind: str, name: str, value):
        """A request leaves that would make the object so."""
        self.note("begin", kind=kind, name=name, value=value)
        self.entry(kind, name).maybe.append(value)

    def acknowledged(self, kind: str, name: str):
        """The last one begun was answered with success."""
        e = self.entry(kind, name)
        self.note("ack", kind=kind, name=name)
        self.count(f"{kind} {'deleted' if e.maybe[-1] is None else 'written'}")
        e.value, e.maybe = e.maybe[-1], []

    def refused(self, kind: str, name: str):
        """The last one begun was never sent, or was answered with a refusal."""
        self.note("refused", kind=kind, name=name)
        self.entry(kind, name).maybe.pop()

    def settle(self, kind: str, name: str, seen, when: str):
        """The object was read: it has to be as acknowledged, or as an unanswered request would have left it."""
        e = self.entry(kind, name)
        self.note("seen", kind=kind, name=name, value=seen)
        if seen != e.value and seen not in e.maybe:
            raise Violation(f"{when}: {kind} {name} is {seen}; acknowledged {e.value}, unanswered {e.maybe}")
        e.value, e.maybe = seen, []

    def settle_all(self, kind: str, seen: dict, when: str):
        for name in seen.keys() - set(self.names(kind)):
            raise Violation(f"{when}: {kind} {name} was never registered")
        for name in self.names(kind):
            self.settle(kind, name, seen.get(name), when)


class Enrolments:
    """What was shown of each device: an enrolled one stays so unless it leaves, fails in the exchange or is revoked, its key's
    identifier never goes back to an earlier one, and a key has one value that the device was sent."""

    GONE = ("left", "no-second-exchange", "link-key-not-verified", "revoked")
    BEGINS, ENDS = ("device.key-proved", "device.enrolled"), ("device.failed", "device.left", "device.revoke")

    def __init__(self, ledger: Ledger):
        self.ledger, self.current, self.past, self.values = ledger, {}, {}, {}

    def device(self, shown: dict, when: str, rest):
        eui, key, known = shown["eui64"], shown.get("keyId"), self.current.get(shown["eui64"])
        if key == known:
            return
        ended = key is None and (shown.get("reason") in self.GONE or self._ended(eui, rest))
        if ended is None:
            return
        with self.ledger.lock:
            if ended:
                del self.current[eui]
                self.ledger.count("enrolment ended")
                return
            if key is None:
                raise Violation(f"{when}: {eui} was enrolled with key {known} and is {shown['state']}")
            if key in self.past.setdefault(eui, set()):
                raise Violation(f"{when}: {eui} has key {key} again, after {known}")
            self.past[eui].add(key)
            self.current[eui] = key
        self.ledger.note("enrolled", eui64=eui, key=key)
        self.ledger.count("enrolment shown")

    def _ended(self, eui: str, rest) -> bool | None:
        """..and was sent another key before anybody looked: the audit trail has the end. None: mefd ends, too; look again."""
        status, rows = rest.ask("GET", "/v1/audit?limit=1000")
        if status == 503:
            return None
        trail = (row["action"] for row in rows if row["object"] == eui)
        return next((a for a in trail if a in self.BEGINS + self.ENDS), None) in self.ENDS

    def key(self, eui: str, key: str, value: str, when: str):
        with self.ledger.lock:
            before = self.values.setdefault(key, (eui, value))
        if before != (eui, value):
            raise Violation(f"{when}: key {key} of {eui} is not the one retrieved before")
        self.ledger.count("key retrieved")
