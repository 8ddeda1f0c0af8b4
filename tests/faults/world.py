"""One stack, its load and its faults: who is hit, how it comes back, and what has to hold then."""
import contextlib
import random
import resource
import secrets
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import power
from frames import Frames, Sniffer
from ledger import Enrolments, Ledger, Violation
from hall import REVOKED, Hall
from load import KEY_SCOPES, Ae, DirectGateway, Operator, Rest, Watcher, try_credential
from stack import AE_ID, Stack, http_get, install_code, random_eui64

OTHER_AE = "//example.org/in-cse/Cother"
READY_WITHIN, FLOWING_WITHIN, END_WITHIN = 5, 20, 15    # s: mefd serves; a device's frame came through; a process ended
AT_END_WITHIN = 120                                     # s: no more faults, and every device is enrolled and read
OPTIONS = {("eg", "key-rate"): 1000, ("eg", "key-burst"): 1000, ("eg", "ticket-rate"): 1000, ("eg", "ticket-burst"): 10000,
           ("eg", "stored-responses"): 256, ("daemon", "drain-seconds"): 2, ("daemon", "log-level"): "notice"}
STAY = (("0", None), ("0", None), ("4", "trust-centre"), ("6", "secured"), ("9", None))
DEVICE = ("--attempts", "1000000", "--again", "--report", "0x0402/0/s16/2150/0.25", "--linger", "0.1")
# reports of each device on the air before it comes back, and how; 0: it stays; None: after a reset


class World:
    def __init__(self, build: Path, folder: Path, seed: int, number: int):
        self.seed, self.round, self.rng = seed, number, random.Random(f"{seed}:{number}")
        self.gate, self.ending, self.generation, self.failure = threading.Event(), False, 0, None
        self.figures, self.longest, self.faults = Counter(), {}, 0
        self.stack = s = Stack(build, folder)
        s.launcher = power.launcher(build)
        s.ipe_options = "ack-timeout = 100\nkeepalive = 1\n"     # a session whose mefd is gone shows in half a second
        s.zbgwd_options = f"state-file = {s.folder / 'zbgwd.state'}\n"
        self.direct_gateway, self.other_ae = "00124b" + secrets.token_hex(5), OTHER_AE
        self.ledger = Ledger(s.folder / "journal.jsonl")
        self.enrolments = Enrolments(self.ledger)
        self.frames = Frames([s.gateway_eui, self.direct_gateway])
        self.codes, self.kpm_ids, self.kpms, self.workers, self.joiners = {}, {}, {}, [], []

    # --- beginning and end ----------------------------------------------------------------------------------------------

    def start(self):
        s = self.stack
        s.init(OPTIONS)
        s.start_mefd()
        s.make_credentials()
        if not (s.etc / "mef.db-wal.undo").exists():
            raise Violation("powercut.so sees no write of mefd")
        direct = s.must("POST", "/v1/credentials", {"for": f"gateway:{self.direct_gateway}", "kind": "psk"})
        other = s.must("POST", "/v1/credentials", {"for": OTHER_AE, "kind": "psk"})
        s.must("PUT", f"/v1/gateways/{self.direct_gateway}", {"identity": direct["kpmId"]})
        self.credentials = {"ae": s.ae, "other": other, "gateway": s.gw_credential, "direct": direct}
        self.fixed = {c["kpmId"] for c in self.credentials.values()}
        s.start_gateway()
        self.sniffer = Sniffer(s, self.frames)
        self.hall = Hall(self, self.rng.choice(KEY_SCOPES[1:]))
        self.hall.prepare()
        self.own = [self._join(*stay) for stay in STAY]
        self.on_air = [*self.own, *self.hall.euis]
        self.staying = {eui for eui, stay in zip(self.own, STAY) if stay[0] == "0"}
        s.wait_state(self.on_air[0], "enrolled", 30)
        self.follower = s.follow(self.on_air[0])
        if self.follower.wait_event(30, cluster=0x0402) is None:
            raise Violation(f"no reading before the first fault\n{self.follower.tail()}")
        virtual = [self._virtual() for _ in range(12)]
        self.rest, self.direct = Rest(s), DirectGateway(self, virtual)
        self.ae = Ae(self, self.on_air)
        self.workers = [Operator(self, "first", virtual[:6]), Operator(self, "second", virtual[6:]), self.direct, self.ae,
                        Watcher(self), self.hall]
        for w in self.workers:
            w.start()
        self.gate.set()

    def _virtual(self) -> str:
        eui = random_eui64()
        self.codes[eui] = [install_code(), install_code()]
        for code in self.codes[eui]:
            self.frames.learn_code(eui, code)
        return eui

    def register(self, **more) -> tuple[str, str]:
        eui, code = random_eui64(), install_code()
        self.stack.register_code(eui, code, **more)
        self.ledger.begin("install-code", eui, {"targets": [AE_ID], "gateways": []})
        self.ledger.acknowledged("install-code", eui)
        self.frames.learn_code(eui, code)
        return eui, code

    def _join(self, reports: str, rejoin: str | None) -> str:
        eui, code = self.register()
        self.joiners.append(self.stack.join(eui, code, *DEVICE, "--reports", reports, *(("--rejoin", rejoin) if rejoin else ())))
        return eui

    def fail(self, error: Exception):
        if self.failure is None and not self.ending:
            self.failure = error

    def raise_failure(self):
        if self.failure is not None:
            raise self.failure

    def rest_workers(self) -> contextlib.ExitStack:
        """Nobody asks anything until the result is closed."""
        self.gate.clear()
        held = contextlib.ExitStack()
        for w in self.workers:
            held.enter_context(w.busy)
        held.callback(self.gate.set)
        return held

    def stop(self):
        self.ending = True
        self.generation += 1
        self.gate.set()
        for w in self.workers:
            w.join(20)
        try:
            self.stack.stop()
        finally:
            self.ledger.close()

    # --- faults ----------------------------------------------------------------------------------------------------------

    def _process(self, name: str):
        return {"mefd": self.stack.mefd, "ipe-nid": self.stack.ipe, "zbgwd": self.stack.gateway}[name]

    def end(self, name: str, sig: int):
        """By SIGKILL or SIGTERM; a process that was asked to end has to, with status 0."""
        p = self._process(name)
        self.ledger.note("signal", process=name, signal=sig)
        if not p.running():
            raise Violation(f"{name} had ended by itself with {p.child.returncode}:\n{p.tail()}")
        status = p.stop(sig, END_WITHIN)
        if sig == signal.SIGTERM and status != 0:
            raise Violation(f"{name} ended with {status} on SIGTERM:\n{p.tail()}")
        self._gone(p, "kills of " if sig == signal.SIGKILL else "orderly ends of ")

    def _gone(self, p, what: str):
        self.generation += p is self.stack.mefd
        self.stack.processes.remove(p)
        self.figures[what + p.name] += 1
        self.ledger.sync()

    def begin(self, name: str):
        began = time.monotonic()
        if name == "mefd":
            power.clear(self.stack.etc)
            self.stack.start_mefd()
            self._took("mefd ready", began, READY_WITHIN)
        else:
            {"ipe-nid": self.stack.start_ipe, "zbgwd": self.stack.start_zbgwd}[name]()

    def _took(self, what: str, began: float, limit: float):
        took = time.monotonic() - began
        self.longest[what] = max(self.longest.get(what, 0), took)
        if took > limit:
            raise Violation(f"{what} after {took:.1f} s")

    def kill(self, *names: str):
        for name in names:
            self.end(name, signal.SIGKILL)
        if "mefd" in names and self.rng.random() < 0.5:
            self._cut_power()
        if "mefd" in names and self.rng.random() < 0.25:
            self._kill_in_start()
        for name in names:
            self.begin(name)

    def _kill_in_start(self):
        """Once more, while it starts: before, in or after recovery."""
        power.clear(self.stack.etc)
        self.stack.spawn_mefd()
        time.sleep(self.rng.uniform(0, 0.05))
        self.end("mefd", signal.SIGKILL)
        self.figures["kills in a start"] += 1
        if self.rng.random() < 0.5:
            self._cut_power()

    def _cut_power(self):
        """..of the machine that mefd was killed on: what it had not synced is gone."""
        self.figures["power cuts"] += 1
        self.figures["writes taken back by power cuts"] += power.cut(self.stack.etc, self.rng)

    def drain(self, *names: str):
        """Asked to end; killed in the middle of it, half of the times."""
        for name in names:
            p, kill = self._process(name), self.rng.random() < 0.5
            if kill:
                p.child.send_signal(signal.SIGTERM)
                time.sleep(self.rng.uniform(0, 0.02))
                p.stop(signal.SIGKILL)
                self._gone(p, "kills of ")
                self.figures["kills in a drain"] += 1
            else:
                self.end(name, signal.SIGTERM)
            self.begin(name)

    def stall(self, *names: str):
        """Stopped for a while, as by a debugger or a machine without memory; killed then, half of the times."""
        for name in names:
            p = self._process(name)
            p.child.send_signal(signal.SIGSTOP)
            time.sleep(self.rng.uniform(0.1, 1.2))
            if self.rng.random() < 0.5:
                p.child.send_signal(signal.SIGCONT)
                self.figures["stalls of " + name] += 1
            else:
                self.end(name, signal.SIGKILL)
                self.begin(name)

    def full_disk(self):
        """No file of mefd may be written beyond a limit below the write-ahead log's usual size: a commit fails, at once or soon,
        and mefd ends by itself, with status 1 and saying why."""
        p = self.stack.mefd
        limit = p.log.stat().st_size + 4096 + self.rng.randrange(200000)
        resource.prlimit(p.pid, resource.RLIMIT_FSIZE, (limit, limit))
        self._ends_by_itself(p, "a full disk")

    def failing_sync(self):
        """The disk does not take what was written; then the power goes."""
        power.fail_syncs(self.stack.etc)
        self._ends_by_itself(self.stack.mefd, "a failing sync")
        self._cut_power()

    def _ends_by_itself(self, p, why: str):
        end = time.monotonic() + END_WITHIN
        while p.running() and time.monotonic() < end:
            time.sleep(0.005)
        if p.running() or p.child.returncode != 1 or "host.fatal" not in p.tail():
            raise Violation(f"mefd with {why}: status {p.child.poll()}\n{p.tail()}")
        self._gone(p, f"ends by {why} of ")

    def one_fault(self):
        names = self.rng.choices([["mefd"], ["ipe-nid"], ["zbgwd"], ["mefd", "ipe-nid"], ["zbgwd", "ipe-nid", "mefd"]],
                                 [60, 14, 14, 6, 6])[0]
        how = self.rng.choices([self.kill, self.drain, self.stall], [80, 14, 6])[0]
        self.faults += 1
        certain = {3: self.full_disk, 6: self.failing_sync}.get(self.faults)  # one of each in a short run, too
        if certain is not None or (names == ["mefd"] and self.rng.random() < 0.06):
            names = ["mefd"]
            (certain or self.rng.choice([self.full_disk, self.failing_sync]))()
            self.begin("mefd")
        else:
            how(*names)
        return names

    # --- what has to hold ------------------------------------------------------------------------------------------------

    def uplinks(self) -> float:
        lines = [line for line in http_get(self.stack.status, "/metrics").splitlines() if line.startswith("eg_uplink_total ")]
        return float(lines[0].split()[1]) if lines else 0

    def wait_for_uplink(self, what: str):
        began, before = time.monotonic(), self.uplinks()
        while self.uplinks() <= before:
            self.raise_failure()
            self._took(what, began, FLOWING_WITHIN)
            time.sleep(0.02)
        self._took(what, began, FLOWING_WITHIN)

    def verify(self):
        """Everything acknowledged is there; what was not, is or is not, but not half. Then it counts as seen."""
        when = f"after kill {self.kills}"
        self.rest.close()  # of the mefd that was
        listed = {kind: self.rest.must(f"/v1/{kind}s{query}") for kind, query in
                  (("install-code", "?limit=1000"), ("gateway", ""), ("application", "?limit=1000"), ("credential", "?limit=1000"))}
        fixed = {self.stack.gateway_eui, self.direct_gateway}
        settle = self.ledger.settle_all
        settle("install-code", {o["eui64"]: {k: o[k] for k in ("targets", "gateways")} for o in listed["install-code"]}, when)
        settle("gateway", {o["eui64"]: {k: o.get(k) for k in ("identity", "name")} for o in listed["gateway"]
                           if o["eui64"] not in fixed}, when)
        settle("application", {o["name"]: {k: o[k] for k in ("keyScope", "members")} for o in listed["application"]}, when)
        own = [o for o in listed["credential"] if o["kpmId"] not in self.fixed]
        settle("credential", {o["for"]: {k: o[k] for k in ("kind", "role")} for o in own}, when)
        self.kpm_ids.update({o["for"]: o["kpmId"] for o in own})
        devices = {d["eui64"]: d for d in self.rest.must("/v1/devices?limit=1000")}
        gone = [{"eui64": eui, "state": "not there"} for eui in self.enrolments.current.keys() - devices.keys()]
        for d in (*devices.values(), *gone):  # without a registration, who fails in the exchange is forgotten
            self.enrolments.device(d, when, self.rest)
        revoked = {eui for eui, d in devices.items() if d["state"] == "revoked" and "rearmedUntil" not in d}
        settle("revocation", dict.fromkeys(revoked, REVOKED), when)
        self.direct.verify()
        self.direct.verify_code()
        self.ae.verify(revoked)
        tried = [o["for"] for o in own if o["for"] in self.kpms]
        if tried:
            try_credential(self, self.rng.choice(tried))
        self.figures["verifications"] += 1

    @property
    def kills(self) -> int:
        return sum(n for what, n in self.figures.items() if what.startswith("kills of "))

    def cycle(self):
        """Load, a fault, and mostly time to come back before the next one."""
        time.sleep(self.rng.uniform(0.02, 1.2))
        names = self.one_fault()
        self.raise_failure()
        if self.rng.random() < 0.2:
            return
        if "mefd" in names:
            with self.rest_workers():
                self.verify()
        self.wait_for_uplink("first uplink after " + "+".join(names))
        self.sniffer.check(self.on_air)
        self.raise_failure()

    # --- the end -----------------------------------------------------------------------------------------------------------

    def _wait_for_hall(self):
        began, self.hall.last = time.monotonic(), True
        while not self.hall.at_rest:
            self.raise_failure()
            if time.monotonic() - began > AT_END_WITHIN:
                raise Violation(f"the devices behind a router do not come up: {self.hall.told()}")
            time.sleep(0.1)

    def finish(self):
        """No more faults: all devices are enrolled, an AE opens two fresh readings of each, and the AE that has followed one
        through it all has them, too; nobody mended anything."""
        began = time.monotonic()
        self._wait_for_hall()
        for joiner in (*self.joiners, *self.hall.processes()):
            joiner.child.send_signal(signal.SIGUSR1)  # stay
        while not self.follower.events.empty():
            self.follower.events.get()
        followers = [(eui, self.stack.follow(eui)) for eui in self.on_air] + [(self.on_air[0], self.follower)]
        for eui, p in followers:
            for _ in range(2):
                if p.wait_event(60, eui64=eui, cluster=0x0402, value=21.5) is None:
                    raise Violation(f"no fresh reading of {eui}; it is {self.stack.device(eui)}\n{p.tail(3)}")
            p.stop()
        for eui in self.on_air:
            self.stack.wait_state(eui, "enrolled")
        self._took("all devices read at the end", began, AT_END_WITHIN)
        with self.rest_workers():
            self.verify()
        time.sleep(0.2)
        self.sniffer.check(self.on_air)
        for key_id, (eui, value) in self.enrolments.values.items():
            if bytes.fromhex(value) not in self.frames.network_keys.get(eui, []):
                raise Violation(f"key {key_id} is not one that {eui} was sent")
        self.raise_failure()
        for p in (self.stack.mefd, self.stack.ipe, self.stack.gateway):
            if not p.running():
                raise Violation(f"{p.name} ended by itself:\n{p.tail()}")
