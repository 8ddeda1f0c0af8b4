"""A router and a sleepy child behind it, which share a key. Under load they are revoked, locked out, reset and rearmed; the child
rejoins, leaves when its exchange fails, and comes back."""
import signal
import time

from ledger import Violation
from load import Desk
from stack import AE_ID, http_get

REVOKED = "revoked"
REJOINS = (("--rejoin", "secured"), ("--rejoin", "trust-centre"), ())   # after each ten reports; (): a reset
IMPATIENT = ("--attempts", "1", "--answer-time", "0")                   # its exchange fails, so that it leaves
COUNTERS = 1 << 20  # between two starts of a device's process: a reset loses no counter (Zig 4.3.4)


class Member:
    """A device: its registration, and the process that plays it."""

    def __init__(self, world, program: str, application: str):
        self.world, self.program, self.starts, self.process = world, program, 0, None
        self.eui, self.code = world.register(application=application)

    def start(self, *options):
        self.starts += 1
        self.process = self.world.stack.join(self.eui, self.code, "--attempts", "1000000", "--key-timeout", "5000", "--report",
                                             "0x0402/0/s16/2150/0.25", "--linger", "0.1", "--counter", self.starts * COUNTERS,
                                             *options, program=self.program)

    def stop(self):
        if self.process is not None:
            self.process.stop(signal.SIGKILL)
            self.world.stack.processes.remove(self.process)
            self.process = None

    def running(self) -> bool:
        return self.process is not None and self.process.running()

    def said(self, event: str) -> dict | None:
        """The last event of this kind since it was started."""
        if self.process is None:
            return None
        while self.process.wait_event(0.001) is not None:
            pass
        return next((e for e in reversed(self.process.history) if e["event"] == event), None)

    def is_up(self) -> bool:
        return self.running() and self.said("link-key") is not None


class Hall(Desk):
    def __init__(self, world, scope: str):
        super().__init__(world, "hall")
        self.scope, self.turn, self.until, self.rearm_next, self.turns = scope, self.keep, None, 0, 0
        self.victims, self.last, self.at_rest, self.leaves = [], False, False, False

    def prepare(self):
        """Applications and registrations, while nobody hurts mefd. In a network, devices of all applications share the key."""
        names = ("hall", "hall" if self.scope == "application" else "annex")
        for name in set(names):
            value = {"keyScope": self.scope, "members": [AE_ID]}
            self.change("application", name, "PUT", f"/v1/applications/{name}", value, value)
        self.router, self.child = (Member(self.world, p, name) for p, name in zip(("router", "joiner"), names))
        self.members = (self.router, self.child)
        self.euis = [m.eui for m in self.members]
        self.world.frames.family.update(self.euis)
        self.ledger.count(f"round with a key of scope {self.scope}")

    def processes(self) -> list:
        return [m.process for m in self.members if m.running()]

    def told(self) -> str:
        """For who reads of a failure."""
        members = [f"{m.eui}, {m.program}: {self.world.stack.device(m.eui)}\n{m.process.tail() if m.process else ''}"
                   for m in self.members]
        counts = [c for c in http_get(self.world.stack.status, "/metrics").splitlines() if c.startswith("eg_")]
        return "\n".join([*members, *counts])

    def step(self):
        self.turn()
        time.sleep(0.05)

    def wait(self, least: float, most: float, turn):
        self.until, self.turn = time.monotonic() + self.rng.uniform(least, most), turn

    # --- turns: each is done again until it is through -------------------------------------------------------------------

    def keep(self):
        """Everybody on the air and enrolled, for a while. In the end: for good, after one revocation of each at least."""
        self.start_again()
        if time.monotonic() >= self.rearm_next:
            self.rearm(self.euis)
            self.rearm_next = time.monotonic() + 1
        if not all(m.is_up() and self.shown(m)["state"] == "enrolled" for m in self.members):
            self.until = None
        elif self.until is None:
            self.wait(0.2, 3, self.keep)
        elif self.last and self.turns >= len(self.members):
            self.at_rest = True
        elif time.monotonic() >= self.until:
            self.choose()

    def start_again(self):
        """Those that were reset, or have left. A router that joins anew has another address, so its child begins anew, too."""
        if not self.router.running():
            self.child.stop()
            self.router.start()
        opened = self.router.said("open")
        if opened is not None and not self.child.running():
            self.child.stop()
            how = IMPATIENT if self.leaves else ("--again", "--reports", "10", *self.rng.choice(REJOINS))
            self.leaves = False
            self.child.start("--sleepy", "--parent", opened["short"], *how)

    def shown(self, m: Member) -> dict:
        status, device = self.rest.ask("GET", f"/v1/devices/{m.eui}")
        return device if status == 200 else {"state": None}

    def choose(self):
        self.turns += 1
        self.victims = [self.child] if self.turns == 1 else [self.router] if self.turns == 2 else \
            self.rng.choice(([self.child], [self.router], [self.router, self.child], []))
        self.turn = self.revoke if self.victims else self.let_leave

    def let_leave(self):
        self.child.stop()
        self.leaves, self.turn, self.until = True, self.keep, None

    def revoke(self):
        for m in self.victims:
            self.change("revocation", m.eui, "POST", f"/v1/devices/{m.eui}/revoke", {}, REVOKED)
        self.wait(0.2, 2, self.lock_out)

    def lock_out(self):
        """They are reset, and try to come back."""
        if time.monotonic() < self.until:
            return
        for m in self.victims:
            if m.said("told-to-leave") is not None:
                self.ledger.count("told to leave")
            m.stop()
        self.start_again()
        self.wait(0.2, 2, self.let_in)

    def let_in(self):
        if time.monotonic() < self.until:
            return
        for m in self.victims:
            if m.said("joined") is not None:
                raise Violation(f"{m.eui} is revoked, and has joined")
            self.change("revocation", m.eui, "POST", f"/v1/devices/{m.eui}/rearm", {}, None)
        self.turn, self.until = self.keep, None
