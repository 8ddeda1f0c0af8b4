"""The devices of a schedule over real sockets: mefd, ipe-nid and zbgwd, the simulated radio medium and joiner, with a
relay between ipe-nid and mefd that loses, doubles and delays as the schedule says, and mefd killed while they join; in some
with an attacker near the radio, who speaks in the name of each of them."""
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for folder in ("tests/e2e", "tests/interop", "tests/sim"):
    sys.path.insert(0, str(ROOT / folder))
from relay import Relay  # noqa: E402
from stack import AE_ID, Stack, StackError  # noqa: E402

EXPIRES_SECONDS = 2  # whole seconds are told
JOIN_SECONDS = 75
ATTEMPTS = 120  # a joiner's, of half a second each: the session to mefd, too, must first come through the relay
EXPECTED = {"stranger": "unknown-device", "foreign": "unknown-device", "expired": "code-expired", "elsewhere": "gateway-not-allowed"}
GATEWAY = "0000"
ELSEWHERE = "00124b00ffffffff"
BUSY_LOSS = 50  # at most so many of 1,000 datagrams are lost where there is an attacker or a router: all that goes up waits its turn


class RelayedStack(Stack):
    """ipe-nid reaches mefd through the relay; everyone else directly."""

    relay = None
    HELLO_SECONDS = 90  # a handshake whose flights are lost three times takes 15 s by DTLS's timers alone

    def start_ipe(self):
        port, self.coaps = self.coaps, self.relay.port
        try:
            super().start_ipe()
        finally:
            self.coaps = port


def register(s: Stack, d: dict):
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + EXPIRES_SECONDS))
    more = {"expired": {"expiresAt": soon}, "elsewhere": {"gateways": [ELSEWHERE]}}.get(d["kind"], {})
    if d["application"]:
        more["application"] = d["application"]
    if d["kind"] not in ("stranger", "foreign"):  # another stakeholder's device is a stranger here
        s.register_code(d["eui64"], d["wrong"] if d["kind"] == "wrong-code" else d["code"], **more)


def joiner(s: Stack, d: dict, parent: str):
    options = ["--attempts", ATTEMPTS, "--key-timeout", d["keyTimeout"], "--counter", d["counter"],
               "--report", "0x0402/0/s16/2150/4.0", "--key-out", s.folder / f"{d['eui64']}.key"]
    options += ["--sleepy"] if d["sleepy"] else []
    options += ["--picky"] if d["picky"] else []
    options += ["--revision", 20] if d["old"] else []
    return s.join(d["eui64"], d["code"], "--parent", parent, *options, program="router" if d["router"] else "joiner")


def expected(d: dict, devices: list) -> str | None:
    """The reason why it does not join; None: it has the wrong code, and nobody knows. A good one joins: ""."""
    if d["kind"] == "good":
        elsewhere = d["parent"] >= 0 and devices[d["parent"]]["application"] != d["application"]
        return "parent-key-domain" if elsewhere else ""
    return EXPECTED.get(d["kind"])


def start(s: Stack, devices: list) -> list:
    """(device, its process) at their places among the devices; parents first, each where it wants to be. None: below a router
    that is refused there is no network to join."""
    joiners = []
    for d in devices:
        parent = GATEWAY
        if d["parent"] >= 0:
            router = joiners[d["parent"]][1]
            if router is None or expected(devices[d["parent"]], devices) != "":
                joiners.append((d, None))
                continue
            opened = next((e for e in router.history if e["event"] == "open"), None)
            opened = opened or router.wait_event(2 * JOIN_SECONDS, event="open")  # its exchange included
            if opened is None:
                raise StackError(f"{devices[d['parent']]['eui64']} did not open its network\n{router.tail()}")
            parent = opened["short"]
        joiners.append((d, joiner(s, d, parent)))
    return joiners


def refusals(s: Stack, eui64: str) -> set:
    trail = s.must("GET", "/v1/audit?limit=1000")
    return {row["outcome"].split(" ")[0] for row in trail if row["object"] == eui64 and row["action"] == "eg.refused"}


def has_joined(process) -> bool:
    """In what was read of its events already."""
    return any(e.get("event") == "joined" for e in process.history)


def check(s: Stack, d: dict, process, reason: str | None):
    """Enrolled with the device's own key, or not joined for the right reason; else StackError."""
    if reason == "":
        patience = JOIN_SECONDS * (1 if d["parent"] < 0 else 3)  # nobody repeats what a router tells and is told
        if not has_joined(process) and process.wait_event(patience, event="joined") is None:
            raise StackError(f"{d['eui64']} did not join\n{process.tail()}")
        s.wait_state(d["eui64"], "enrolled", patience)
        out = s.folder / f"{d['eui64']}.ae"
        code, _, err = s.mefkey("get", d["eui64"], "--out", out)
        if code != 0 or out.read_text().strip() != (s.folder / f"{d['eui64']}.key").read_text().strip():
            raise StackError(f"{d['eui64']}: the AE has another key than the device: {err}")
        return
    if has_joined(process) or process.wait_event(0.1, event="joined") is not None:
        raise StackError(f"{d['eui64']} ({d['kind']}) has joined")
    state = s.rest("GET", f"/v1/devices/{d['eui64']}")[1].get("state", "absent")
    if state == "enrolled":
        raise StackError(f"{d['eui64']} ({d['kind']}) is enrolled")
    end = time.monotonic() + JOIN_SECONDS
    while reason is not None and reason not in refusals(s, d["eui64"]) and time.monotonic() < end:
        time.sleep(0.5)
    if reason is not None and reason not in refusals(s, d["eui64"]):
        raise StackError(f"{d['eui64']} ({d['kind']}): the audit trail does not say {reason}")


def schedule(build: Path, folder: Path, seed: int, attacked: bool):
    plan = json.loads(subprocess.run([build / "tests/schedules/schedules", "--plan", "--seed", str(seed)], check=True,
                                     capture_output=True, text=True, timeout=60).stdout)
    rng = random.Random(seed)
    s = RelayedStack(build, folder)
    busy = attacked or any(d["router"] for d in plan["devices"])
    loss = min(plan["loss"], BUSY_LOSS) if busy else plan["loss"]
    s.relay = Relay("127.0.0.1", s.coaps, seed, loss / 1000, plan["twice"] / 1000, plan["late"] / 1000)
    try:
        s.start({("eg", "allow-short-install-codes"): "yes"})
        for name in {d["application"] for d in plan["devices"]} - {""}:
            s.must("PUT", f"/v1/applications/{name}", {"keyScope": "application", "members": [AE_ID]})
        for d in plan["devices"]:
            register(s, d)
        if any(d["kind"] == "expired" for d in plan["devices"]):
            time.sleep(EXPIRES_SECONDS + 1)
        if attacked:
            s.attack([d["eui64"] for d in plan["devices"]], "--seed", seed, "--rate", rng.randrange(2, 12))
        joiners = [(d, process) for d, process in start(s, plan["devices"]) if process is not None]
        if rng.random() < 0.5:
            good = [j for d, j in joiners if d["kind"] == "good"] or [j for _, j in joiners]
            good[0].wait_event(rng.random() * 3, event="joined")
            s.restart_mefd(signal.SIGKILL)
        for d, process in sorted(joiners, key=lambda x: x[0]["kind"] != "good"):
            check(s, d, process, expected(d, plan["devices"]))
        unwanted = ['"counter-twice"'] + ([] if attacked else ['"replay"'])
        for log in s.logs.glob("*er.log"):
            if any(event in log.read_text() for event in unwanted):
                raise StackError(f"a counter came twice: {log}")
    finally:
        s.stop()
        s.relay.close()


def run(build: Path, seed: int, count: int, attacker: str) -> tuple[int, int]:
    """attacker: "all" schedules have one, "some" (those of even seeds), or "none"."""
    failed = 0
    for n in range(seed, seed + count):
        attacked = attacker == "all" or attacker == "some" and n % 2 == 0
        folder = Path(tempfile.mkdtemp(prefix="mef-schedule-"))
        try:
            schedule(build, folder, n, attacked)
            shutil.rmtree(folder, ignore_errors=True)
            print(f"real seed {n}: ok{', attacked' if attacked else ''}", flush=True)
        except (StackError, OSError, subprocess.SubprocessError) as e:
            failed += 1
            print(f"FAILED real seed {n}: {e}\n  its files are in {folder}", flush=True)
    return count - failed, failed
