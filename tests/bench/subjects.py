"""What scripts/bench measures: each function takes the plan and returns figures and ratios, one sample a repetition. The sides
of a ratio take turns within a repetition, so that other work on the machine meets both."""
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))
from joins import KEY_TIME_MS, OWN_TIME_MS, measure, put_codes  # noqa: E402
from pki import Authority  # noqa: E402
from stack import AE_ID, FQDN, Stack, free_port, http_status, install_code, random_eui64, set_option  # noqa: E402

KEY = "30313233343536373839616263646566"  # of servers that are measured against
GATEWAYS = 16
CLIENTS = 33  # of rounds; the last one is their target
RSS_LIMIT_KIB = 32 * 1024
SESSION_LIMIT_KIB = 48


@dataclass
class Plan:
    build: Path
    folder: Path        # on the disk that is measured
    repetitions: int
    seconds: float      # of requests, a run
    sessions: int       # the many
    cycles: int
    rounds: int
    enrolments: int
    codes: tuple        # few, some (memory, start), many
    frames: int
    puts: int
    joins: tuple        # devices, gateways, seconds, runs at most


@dataclass
class Results:
    figures: dict = field(default_factory=dict)  # name: samples
    ratios: dict = field(default_factory=dict)   # name: samples

    def add(self, name: str, value: float):
        self.figures.setdefault(name, []).append(value)

    def ratio(self, name: str, value: float):
        self.ratios.setdefault(name, []).append(value)


def cpu_seconds(pid: int) -> float:
    """Processor time of all threads of a process: its CPU clock, as clock_getcpuclockid() names it."""
    return time.clock_gettime((~pid << 3) | 2)


def resident_kib(pid: int) -> int:
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError("no VmRSS")


def run_json(argv: list, text: str | None = None) -> dict:
    done = subprocess.run([str(a) for a in argv], input=text, capture_output=True, text=True, timeout=900)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, argv))}: {done.returncode} {done.stdout} {done.stderr}")
    return json.loads(done.stdout)


class Server:
    """A server on loopback and the load generator against it."""

    def __init__(self, plan: Plan, port: int, pid: int, credentials: list):
        self.plan, self.port, self.pid = plan, port, pid
        self.credentials = "".join(" ".join(c) + "\n" for c in credentials)

    def load(self, mode: str, *rest) -> dict:
        return run_json([self.plan.build / "tests/bench/bench_load", mode, self.port, self.pid, *rest], self.credentials)


@contextlib.contextmanager
def started(argv: list, port: int | None = None):
    """A server program, which prints its port unless that is given: (port, pid)."""
    child = subprocess.Popen([str(a) for a in argv], stdout=subprocess.PIPE if port is None else subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, text=True)
    try:
        time.sleep(0.5)
        yield (port or int(child.stdout.readline())), child.pid
    finally:
        child.kill()
        child.wait()


@contextlib.contextmanager
def stack(plan: Plan, **options):
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=plan.folder))
    s = Stack(plan.build, folder)
    try:
        s.init({("daemon", "log-level"): "warning", **options.get("extra", {})})
        yield s
    finally:
        s.stop()
        shutil.rmtree(folder, ignore_errors=True)


# --- forging -------------------------------------------------------------------------------------------------------------


def forge(plan: Plan, r: Results):
    samples = run_json([plan.build / "tests/bench/bench_forge", 3 * plan.repetitions, plan.frames])
    for codec, vault, bare, unsealing in zip(*(samples[k] for k in ("codec", "vault", "bare", "bare_unsealing"))):
        r.add("forge frame", codec)
        r.add("forge frame in the vault", vault)
        r.add("bare: its primitives", bare)
        r.add("bare: its primitives, two keys unsealed", unsealing)
        r.ratio("forge", codec / bare)
        r.ratio("forge in the vault", vault / unsealing)


# --- DTLS ----------------------------------------------------------------------------------------------------------------


def enrolled_key(s: Stack) -> str:
    """A device joins by radio, and the AE is told of its key: the path to retrieve it by."""
    eui, code = random_eui64(), install_code()
    s.register_code(eui, code)
    s.join(eui, code, "--report", "0x0402/0/s16/2150/1", "--reports", "1")
    s.wait_state(eui, "enrolled")
    status, out, err = s.mefkey("find", eui)
    if status != 0:
        raise RuntimeError(err)
    return "mef/" + out.split()[0]


def retrieval(plan: Plan, r: Results, mefd: Server, libcoap: Server, endpoint: Server, path: str):
    few, echo = mefd.load("get", 32, plan.seconds, path, AE_ID), libcoap.load("get", 32, plan.seconds, "time")
    alone = endpoint.load("get", 32, plan.seconds, "time")
    many = mefd.load("get", plan.sessions, plan.seconds, path, AE_ID)
    r.add("key retrieval, 32 sessions", few["cpu_us"])
    r.add(f"key retrieval, {plan.sessions} sessions", many["cpu_us"])
    r.add("bare: libcoap's answer, 32 sessions", echo["cpu_us"])
    r.add("our CoAP endpoint's answer, 32 sessions", alone["cpu_us"])
    if "memory of a session, KiB" not in r.figures:  # later ones use what the first ones left
        r.add("memory of a session, KiB", many["kib_a_session"])
        r.ratio("memory of a session", many["kib_a_session"] / SESSION_LIMIT_KIB)
    r.ratio("CoAP endpoint", alone["cpu_us"] / echo["cpu_us"])
    r.ratio("key retrieval", few["cpu_us"] / echo["cpu_us"])
    r.ratio("key retrieval, many sessions", many["cpu_us"] / few["cpu_us"])


def handshake(plan: Plan, r: Results, mefd: Server, bare: Server, path: str):
    whole, least = mefd.load("cycle", plan.cycles, path, AE_ID), bare.load("cycle", plan.cycles, "echo")
    only, least_only = mefd.load("cycle", plan.cycles), bare.load("cycle", plan.cycles)
    r.add("handshake, retrieval, close", whole["cpu_us"])
    r.add("bare: handshake, echo, close", least["cpu_us"])
    r.add("handshake, close", only["cpu_us"])
    r.add("bare: handshake, close", least_only["cpu_us"])
    r.ratio("handshake, retrieval, close", whole["cpu_us"] / least["cpu_us"])
    r.ratio("handshake, close", only["cpu_us"] / least_only["cpu_us"])


def rest_put(plan: Plan, r: Results, s: Stack):
    """Over one kept connection, one after the other: nothing to batch."""
    codes = {random_eui64(): install_code() for _ in range(plan.puts)}
    before = cpu_seconds(s.mefd.pid)
    put_codes(s, codes)
    r.add("REST PUT of an install code", (cpu_seconds(s.mefd.pid) - before) / plan.puts * 1e6)


def dtls(plan: Plan, r: Results):
    plain = free_port(socket.SOCK_DGRAM)
    libcoap_argv = ["coap-server-openssl", "-A", "127.0.0.1", "-p", plain, "-k", bytes.fromhex(KEY).decode(), "-h", "", "-v", "1"]
    with stack(plan, extra={("coap", "max-sessions"): "20000"}) as s, \
            started(libcoap_argv, plain + 1) as libcoap, started([plan.build / "tests/bench/dtls_server", KEY]) as bare, \
            started([plan.build / "tests/bench/bench_coap", "server"]) as endpoint:
        s.start_mefd()
        s.make_credentials()
        s.start_gateway()
        path = enrolled_key(s)
        mefd = Server(plan, s.coaps, s.mefd.pid, [(s.ae["kpmId"], s.ae["kpm"])])
        servers = [Server(plan, *which, [("bench", KEY)]) for which in (libcoap, bare, endpoint)]
        for _ in range(plan.repetitions):
            retrieval(plan, r, mefd, servers[0], servers[2], path)
            handshake(plan, r, mefd, servers[1], path)
            rest_put(plan, r, s)


# --- enrolment -----------------------------------------------------------------------------------------------------------


def make_gateways(s: Stack) -> list:
    out = []
    for i in range(GATEWAYS):
        eui = f"00124b{i:010x}"
        c = s.must("POST", "/v1/credentials", {"for": f"gateway:{eui}", "kind": "psk"})
        s.must("PUT", f"/v1/gateways/{eui}", {"identity": c["kpmId"]})
        out.append((c["kpmId"], c["kpm"], eui))
    return out


class Database:
    """The database as it is now, to come back to."""

    def __init__(self, s: Stack):
        self.path = s.etc / "mef.db"
        self.saved = s.folder / "saved.db"
        if (s.etc / "mef.db-wal").exists():
            raise RuntimeError("the database was not closed")
        shutil.copyfile(self.path, self.saved)

    def restore(self, to: Path | None = None) -> Path:
        to = to or self.path
        for suffix in ("-wal", "-shm"):
            Path(f"{to}{suffix}").unlink(missing_ok=True)
        shutil.copyfile(self.saved, to)
        to.chmod(0o600)
        return to


class Codes:
    """bench_codes on the stack's database, while mefd is not running."""

    def __init__(self, plan: Plan, s: Stack):
        conf = s.folder / "codes.conf"
        conf.write_text(f"[mef]\nfqdn = {FQDN}\n[store]\nurl = sqlite:{s.etc}/mef.db\n[vault]\nkek = {s.etc}/kek\n"
                        f"[token.admin]\nfile = {s.etc}/admin.token\nadmin-fqdn = {FQDN}\nrole = admin\n")
        self.child = subprocess.Popen([plan.build / "tests/bench/bench_codes", plan.build / "mef-plugin/mef-plugin.so", conf,
                                       s.etc / "admin.token"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, command: str) -> dict:
        self.child.stdin.write(command + "\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())

    def close(self):
        self.child.stdin.close()
        if self.child.wait(120) != 0:
            raise RuntimeError("bench_codes failed")


@contextlib.contextmanager
def codes(plan: Plan, s: Stack):
    c = Codes(plan, s)
    try:
        yield c
        c.close()
    finally:
        c.child.kill()


def stop_mefd(s: Stack):
    s.mefd.stop()
    s.processes.remove(s.mefd)
    s.mefd = None


def load_once(plan: Plan, s: Stack, credentials: list, *load, **environment) -> dict:
    """mefd is started for it, and ended."""
    os.environ.update(environment)
    try:
        s.start_mefd()
    finally:
        for name in environment:
            del os.environ[name]
    result = Server(plan, s.coaps, s.mefd.pid, credentials).load(*load)
    stop_mefd(s)
    return result


def load_recorded(plan: Plan, s: Stack, credentials: list, *load) -> Path:
    """What mefd told SQLite meanwhile."""
    record = s.folder / "record.sql"
    load_once(plan, s, credentials, *load, LD_PRELOAD=str(plan.build / "tests/bench/sql_record.so"), SQL_RECORD=str(record))
    return record


def enrolment(plan: Plan, r: Results):
    with stack(plan) as s:
        s.start_mefd()
        gateways = make_gateways(s)
        stop_mefd(s)
        with codes(plan, s) as c:
            c.ask(f"fill {plan.enrolments}")
        database, how = Database(s), ("enrol", plan.enrolments, 0)
        record = load_recorded(plan, s, gateways, *how)
        for _ in range(plan.repetitions):
            database.restore()
            ours = load_once(plan, s, gateways, *how)
            bare = run_json([plan.build / "tests/bench/bench_replay", database.restore(s.folder / "bare.db"), record])
            r.add("EgRequest to durable EgResponse", ours["cpu_us"])
            r.add("bare: its statements in SQLite", bare["cpu_us"])
            r.add("enrolments a second", ours["per_second"])
            r.add("bare: its statements, a second", bare["per_second"])
            r.ratio("enrolment rate", ours["per_second"] / bare["per_second"])
            r.ratio("enrolment processor time", ours["cpu_us"] / bare["cpu_us"])


# --- rounds of MEF clients ----------------------------------------------------------------------------------------------


def make_clients(s: Stack, kind: str) -> tuple:
    """(Their credentials for the load generator, arguments of the bare server, its one credential.)"""
    names = [f"//example.org/in-cse/C{i}" for i in range(CLIENTS)]
    made = [s.must("POST", "/v1/credentials", {"for": name, "kind": kind}) for name in names]
    if kind == "psk":
        return [(c["kpmId"], c["kpm"]) for c in made], [KEY], [("bench", KEY)]
    ca = Authority(s.folder, "clients")
    server = ca.issue("server", dns=[FQDN], ips=["127.0.0.1"], server=True)
    for key, file in (("certificate", server.cert), ("private-key", server.key), ("trust-anchors", ca.file)):
        set_option(s.mefd_conf, "coap", key, str(file))
    pairs = [ca.issue(f"client{i}", uris=[name]) for i, name in enumerate(names)]
    clients = [("certificate", str(p.cert), str(p.key), str(ca.file)) for p in pairs]
    return clients, [server.cert, server.key, ca.file], clients


def rounds(plan: Plan, r: Results, kind: str):
    name = {"psk": "PSK", "certificate": "certificate"}[kind]
    with stack(plan) as s:
        s.start_mefd()
        clients, bare_arguments, bare_clients = make_clients(s, kind)
        stop_mefd(s)
        database, how = Database(s), ("round", plan.rounds)
        record = load_recorded(plan, s, clients, *how)
        recorded = record.read_text().count('DELETE FROM "client_reg"')  # one a round
        with started([plan.build / "tests/bench/dtls_server", *bare_arguments]) as bare:
            for _ in range(plan.repetitions):
                database.restore()
                ours = load_once(plan, s, clients, *how)
                shaken = Server(plan, *bare, bare_clients).load("cycle", plan.rounds)
                replayed = run_json([plan.build / "tests/bench/bench_replay", database.restore(s.folder / "bare.db"), record, "commits"])
                commits = replayed["cpu_us"] * replayed["n"] / recorded
                r.add(f"{name} round", ours["cpu_us"])
                r.add(f"{name} rounds a second", ours["per_second"])
                r.add(f"bare: handshake by {name}, close", shaken["cpu_us"])
                r.add(f"bare: commits of a {name} round", commits)
                r.ratio(f"{name} round", ours["cpu_us"] / (shaken["cpu_us"] + commits))


def round_psk(plan: Plan, r: Results):
    rounds(plan, r, "psk")


def round_cert(plan: Plan, r: Results):
    rounds(plan, r, "certificate")


# --- many install codes -----------------------------------------------------------------------------------------------------


def start(plan: Plan, r: Results, s: Stack, n: int):
    began = time.monotonic()
    s.mefd = s.spawn("mefd", [s.program("mefd"), "--config", s.mefd_conf])
    while http_status(s.status, "/readyz") != 200:
        if not s.mefd.running() or time.monotonic() > began + 120:
            raise RuntimeError("mefd does not start: " + s.mefd.tail())
        time.sleep(0.002)
    r.add(f"start with {n} codes, ms", (time.monotonic() - began) * 1e3)
    r.add(f"start with {n} codes, processor ms", cpu_seconds(s.mefd.pid) * 1e3)
    r.add(f"resident with {n} codes, MiB", resident_kib(s.mefd.pid) / 1024)
    resident = resident_kib(s.mefd.pid)
    stop_mefd(s)
    return resident


def install_codes(plan: Plan, r: Results):
    few, some, many = plan.codes
    with stack(plan) as small, stack(plan) as large:
        with codes(plan, large) as c:
            c.ask(f"fill {some}")
        for _ in range(plan.repetitions):
            r.ratio("memory", start(plan, r, large, some) / RSS_LIMIT_KIB)
        with codes(plan, small) as a, codes(plan, large) as b:
            a.ask(f"fill {few}")
            b.ask(f"have {some}")
            r.add("registration without a network", b.ask(f"fill {many}")["cpu_us"])
            for _ in range(plan.repetitions):
                one, other = a.ask(f"lookup {few * 20}")["cpu_us"], b.ask(f"lookup {few * 20}")["cpu_us"]
                r.add(f"look-up among {few} codes", one)
                r.add(f"look-up among {many} codes", other)
                r.ratio("look-up", other / one)
        start(plan, r, large, many)


# --- many joins -----------------------------------------------------------------------------------------------------------


def joins(plan: Plan, r: Results):
    """The ratios are those of the best run, to what is allowed."""
    runs = measure(plan.build, plan.folder, *plan.joins, int(time.time()))
    for run in runs:
        r.add("joins: devices not enrolled", len(run.failed))
        r.add("joins: 99 of 100 EgRequests in mefd, ms at most", run.own_ms)
        r.add("joins: 99 of 100 first keys radiated after, ms", run.key_ms)
        r.add("joins: 99 of 100 enrolled after, ms", run.enrolled_ms)
        r.add("joins: longest stall of the machine, ms", run.stalls["longest"])
    best = min(runs, key=lambda run: (not run.met(), run.key_ms))
    r.ratio("joins: EgRequest in mefd", best.own_ms / OWN_TIME_MS)
    r.ratio("joins: first key", best.key_ms / KEY_TIME_MS)


SUBJECTS = {"forge": forge, "dtls": dtls, "round-psk": round_psk, "round-cert": round_cert, "enrolment": enrolment,
            "codes": install_codes, "joins": joins}
