"""The whole system in one folder with free ports: mefd, ipe-nid, zbgwd and, on the simulated medium, joiners.

Used by the demonstration and by the tests. Standard library only; the product is driven as a user would drive it: by
its programs, its REST (through curl) and the air.
"""
import contextlib
import ctypes
import json
import os
import queue
import re
import secrets
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SIM = ROOT / "tests" / "sim"
PYTHON = "/usr/bin/python3"
GROUP = "224.0.0.116"
FQDN = "mef.example.org"
ADMIN = FQDN            # `mefctl init` makes the MEF's own FQDN the first adminFQDN
AE_ID = "//example.org/in-cse/Cthermo"


class StackError(Exception):
    """Something the stack needs did not come up, or said no."""


def free_on(address: str, kind: int, port: int) -> bool:
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as s:
            s.bind((address, port))
        return True
    except OSError:
        return False


def ipv6() -> bool:
    return free_on("::1", socket.SOCK_DGRAM, 0)


def free_port(kind: int) -> int:
    """Free on both loopback addresses, where there are both, and below those that the kernel gives to clients: one might
    take it while a server is being restarted."""
    end = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = 10000 + secrets.randbelow(max(end, 20000) - 10000)
        if free_on("127.0.0.1", kind, port) and (not ipv6() or free_on("::1", kind, port)):
            return port


def write_private(path: Path, text: str) -> Path:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as f:
        f.write(text)
    return path


def install_code(length: int = 16) -> str:
    """A random install code of `length` bytes and its CRC-16/X-25, as printed on labels."""
    code, crc = secrets.token_bytes(length), 0xFFFF
    for byte in code:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0x8408 if crc & 1 else crc >> 1
    return (code + (crc ^ 0xFFFF).to_bytes(2, "little")).hex().upper()


def random_eui64() -> str:
    return "00158d" + secrets.token_hex(5)


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Process:
    """A child whose output goes to a log file, and for those that speak JSON also to a queue of events."""

    def __init__(self, name: str, argv: list, log: Path, events: bool = False, stdin: str | None = None,
                 pass_fds: tuple = ()):
        self.name, self.log, self.events = name, log, queue.Queue() if events else None
        self.history = []
        with open(log, "ab") as out:
            self.child = subprocess.Popen([str(a) for a in argv], stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                                          stdout=subprocess.PIPE if events else out, stderr=out, pass_fds=pass_fds,
                                          start_new_session=True, preexec_fn=_die_with_parent)
        if stdin is not None:
            self.child.stdin.write(stdin.encode())
            self.child.stdin.close()
        if events:
            threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.child.stdout:
            with open(self.log, "ab") as out:
                out.write(line)
            try:
                self.events.put(json.loads(line))
            except ValueError:
                pass
        self.events.put(None)

    @property
    def pid(self) -> int:
        return self.child.pid

    def running(self) -> bool:
        return self.child.poll() is None

    def wait_event(self, timeout: float, **wanted) -> dict | None:
        """The next event that has all wanted members with these values; None when the process ends or time runs out."""
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            try:
                event = self.events.get(timeout=left)
            except queue.Empty:
                return None
            if event is None:
                self.events.put(None)
                return None
            self.history.append(event)
            if all(event.get(k) == v for k, v in wanted.items()):
                return event
        return None

    def stop(self, sig: int = signal.SIGTERM, timeout: float = 10) -> int:
        if self.running():
            self.child.send_signal(sig)
        try:
            return self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            raise StackError(f"{self.name} did not end on signal {sig}; see {self.log}") from None

    def tail(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Stack:
    """One system below `folder`. Nothing runs before start()."""

    HELLO_SECONDS = 10

    def __init__(self, build: Path, folder: Path):
        self.build, self.folder = Path(build), Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.logs = self.folder / "logs"
        self.logs.mkdir(exist_ok=True)
        self.processes = []
        self.mefd = self.ipe = self.gateway = None
        self.gateway_eui = "00124b" + secrets.token_hex(5)
        self.pan, self.channel = 0x1A62, 15
        self.coaps, self.https, self.status = (free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM),
                                               free_port(socket.SOCK_STREAM))
        self.egp_port, self.medium_port = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
        self.etc = self.folder / "mef"
        self.ae = self.gw_credential = self.gw_certificate = None
        self.launcher = []                          # what stands before mefd in its command line
        self.ipe_options = self.zbgwd_options = ""  # further lines of [mef] and of [gateway]

    def program(self, name: str) -> Path:
        places = {"mefd": "cse-shim/host", "mefctl": "mef-plugin/mefctl", "ipe-nid": "ipe-ni", "zbgwd": "ipe-ni", "mefkey": "ae-client"}
        path = self.build / places[name] / name
        if path.is_file():
            return path
        raise StackError(f"{name} is not in {self.build}")

    # --- configuration -------------------------------------------------------------------------------------------------

    def init(self, extra: dict | None = None):
        """mefctl init, then our ports; extra: {(section, key): value} for mefd.conf."""
        subprocess.run([self.program("mefctl"), "init", "--fqdn", FQDN, "--dir", self.etc], check=True, capture_output=True,
                       text=True, timeout=30)
        self.mefd_conf = self.etc / "mefd.conf"
        coap, https = (f"127.0.0.1:{port}" + (f", [::1]:{port}" if ipv6() else "") for port in (self.coaps, self.https))
        changes = {("daemon", "plugin"): self.build / "mef-plugin" / "mef-plugin.so", ("coap", "listen"): coap,
                   ("https", "listen"): https,
                   ("status", "listen"): f"127.0.0.1:{self.status}", **(extra or {})}
        for (section, key), value in changes.items():
            set_option(self.mefd_conf, section, key, str(value))
        self.token_header = write_private(self.folder / "authorization", "Authorization: Bearer " + self.token() + "\n")

    def token(self) -> str:
        return (self.etc / "admin.token").read_text().strip()

    @property
    def ca(self) -> Path:
        return self.etc / "server.pem"

    @property
    def mef_uri(self) -> str:
        return f"coaps://127.0.0.1:{self.coaps}"

    @property
    def medium(self) -> str:
        return f"{GROUP}:{self.medium_port}"

    @property
    def https_uri(self) -> str:
        return f"https://127.0.0.1:{self.https}"

    @property
    def egp(self) -> str:
        return f"tcp:127.0.0.1:{self.egp_port}"

    @property
    def ipe_line(self) -> str:
        return f"tcp-listen:127.0.0.1:{self.egp_port}"

    # --- processes -----------------------------------------------------------------------------------------------------

    def spawn(self, name: str, argv: list, **more) -> Process:
        p = Process(name, argv, self.logs / f"{name}.log", **more)
        self.processes.append(p)
        return p

    def spawn_mefd(self):
        self.mefd = self.spawn("mefd", [*self.launcher, self.program("mefd"), "--config", self.mefd_conf])

    def start_mefd(self) -> Process:
        self.spawn_mefd()
        self._until(lambda: http_status(self.status, "/readyz") == 200, self.mefd, "mefd is not ready")
        return self.mefd

    def restart_mefd(self, sig: int = signal.SIGKILL):
        """End mefd with a signal and start it again on the same configuration and database."""
        self.mefd.stop(sig)
        self.processes.remove(self.mefd)
        self.start_mefd()

    def start_zbgwd(self):
        conf = self.folder / "zbgwd.conf"
        conf.write_text(f"[gateway]\neui64 = {self.gateway_eui}\npan-id = {self.pan:04x}\nchannel = {self.channel}\n"
                        f"{self.zbgwd_options}[radio]\ndriver = udp:{self.medium}\n[egp]\nline = {self.egp}\n")
        self.gateway = self.spawn("zbgwd", [self.program("zbgwd"), "--config", conf])

    def start_ipe(self):
        """By certificate if gw_certificate says how: {option: value}; else by PSK."""
        credential = self.gw_certificate
        if credential is None:
            psk = write_private(self.folder / "gateway.psk", self.gw_credential["kpm"] + "\n")
            credential = {"identity": self.gw_credential["kpmId"], "psk-file": psk}
        conf = self.folder / "ipe-nid.conf"
        conf.write_text(f"[egp]\nline = {self.ipe_line}\n[mef]\nuri = {self.mef_uri}\n" +
                        "".join(f"{key} = {value}\n" for key, value in credential.items()) + self.ipe_options)
        self.ipe = self.spawn("ipe-nid", [self.program("ipe-nid"), "--config", conf])
        if self.ipe_line.startswith("tcp-listen:"):
            self._until(lambda: tcp_listening(self.egp_port), self.ipe, "ipe-nid does not listen")

    def start_gateway(self):
        """zbgwd and ipe-nid, until the Enrolment Gateway has heard of them; the gateway's credential must exist."""
        self.start_ipe()
        self.start_zbgwd()
        self.wait_gateway()

    def wait_gateway(self):
        self._until(lambda: self.must("GET", f"/v1/gateways/{self.gateway_eui}").get("connected"), self.gateway,
                    "the gateway's Hello did not arrive", self.HELLO_SECONDS)

    def start(self, extra: dict | None = None):
        """Everything: configuration, mefd, credentials, gateway."""
        self.init(extra)
        self.start_mefd()
        self.make_credentials()
        self.start_gateway()

    def stop(self):
        """End every process, the last started first; complain about one that had died by itself."""
        dead = [p for p in (self.mefd, self.ipe, self.gateway) if p is not None and not p.running()]
        errors = [f"{p.name} had ended with {p.child.returncode}:\n{p.tail()}" for p in dead]
        for p in reversed(self.processes):
            try:
                status = p.stop()
                if status != 0 and p in (self.mefd, self.ipe, self.gateway) and p not in dead:
                    errors.append(f"{p.name} ended with {status} on SIGTERM:\n{p.tail()}")
            except StackError as e:
                errors.append(str(e))
        self.processes, self.mefd, self.ipe, self.gateway = [], None, None, None
        if errors:
            raise StackError("\n".join(errors))

    def _until(self, condition, process: Process, complaint: str, timeout: float = 10):
        end = time.monotonic() + timeout
        while not condition():
            if not process.running():
                raise StackError(f"{complaint}: {process.name} ended with {process.child.returncode}\n{process.tail()}")
            if time.monotonic() > end:
                raise StackError(f"{complaint} after {timeout} s\n{process.tail()}")
            time.sleep(0.02)

    # --- the operator's REST, by curl ------------------------------------------------------------------------------------

    def rest(self, method: str, path: str, body=None, token_header: Path | None = None) -> tuple[int, dict]:
        """One request; (HTTP status, JSON body or {}). Secrets go by file and standard input, never by argv."""
        argv = ["curl", "-sS", "--cacert", str(self.ca), "-X", method,
                "-H", f"@{token_header or self.token_header}", "-w", "\n%{http_code}", self.https_uri + path]
        if body is not None:
            argv += ["-H", "Content-Type: application/json", "--data-binary", "@-"]
        text = body if isinstance(body, str) else json.dumps(body) if body is not None else None
        done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=30)
        if done.returncode != 0:
            raise StackError(f"curl: {done.stderr.strip()}")
        self.answered(method, path, done.stdout)
        payload, _, code = done.stdout.rpartition("\n")
        try:
            return int(code), json.loads(payload) if payload.strip() else {}
        except ValueError:
            return int(code), {"text": payload}

    def answered(self, method: str, path: str, text: str):
        """Hears every answer as it came."""

    def must(self, method: str, path: str, body=None) -> dict:
        code, answer = self.rest(method, path, body)
        if not 200 <= code < 300:
            raise StackError(f"{method} {path}: {code} {json.dumps(answer)}")
        return answer

    def make_credentials(self):
        """One for the AE, one for the gateway, and the gateway's binding."""
        self.ae = self.must("POST", "/v1/credentials", {"for": AE_ID, "kind": "psk"})
        self.gw_credential = self.must("POST", "/v1/credentials", {"for": f"gateway:{self.gateway_eui}", "kind": "psk"})
        self.must("PUT", f"/v1/gateways/{self.gateway_eui}", {"identity": self.gw_credential["kpmId"], "name": "demo gateway"})

    def register_code(self, eui64: str, code: str, **more) -> dict:
        return self.must("PUT", f"/v1/install-codes/{eui64}", {"installCode": code, "targets": [AE_ID], **more})

    def device(self, eui64: str) -> dict:
        return self.must("GET", f"/v1/devices/{eui64}")

    def wait_state(self, eui64: str, state: str, timeout: float = 10) -> dict:
        end = time.monotonic() + timeout
        while (device := self.device(eui64)).get("state") != state:
            if time.monotonic() > end:
                raise StackError(f"{eui64} is {device.get('state')}, not {state}")
            time.sleep(0.05)
        return device

    def metric(self, name: str) -> float:
        text = http_get(self.status, "/metrics")
        values = [float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(rf"{name}(\{{.*\}})? ", line)]
        return sum(values)

    def database(self) -> dict:
        """Every row, read from a copy: {(table, key): value}. Not the audit trail, and not which session speaks for a gateway."""
        copy = self.folder / "copy.db"
        for suffix in ("", "-wal"):
            source = self.etc / f"mef.db{suffix}"
            if source.exists():
                shutil.copyfile(source, f"{copy}{suffix}")
            else:
                Path(f"{copy}{suffix}").unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(copy)) as db:
            tables = {t for (t,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            tables -= {"audit", "gateway_epoch"}
            return {(t, bytes(k)): bytes(v) for t in tables for k, v in db.execute(f'SELECT k, v FROM "{t}"')}

    # --- the device and the AE -----------------------------------------------------------------------------------------

    def join(self, eui64: str, code: str, *options, program: str = "joiner") -> Process:
        return self.spawn(program, [PYTHON, SIM / f"{program}.py", "--eui64", eui64, "--medium", self.medium, "--channel", self.channel,
                                     *options], events=True, stdin=code + "\n")

    def attack(self, euis: list, *options) -> Process:
        """Somebody near the radio, in the name of these."""
        named = [x for eui in euis for x in ("--eui64", eui)]
        return self.spawn("attacker", [PYTHON, SIM / "attacker.py", "--medium", self.medium, "--channel", self.channel, "--pan",
                                       f"{self.pan:04x}", *named, *options], events=True)

    def mefkey_argv(self, *args, credential: dict | None = None, ae_id: str = AE_ID) -> list:
        c = credential or self.ae
        psk = self.folder / (re.sub(r"[^A-Za-z0-9.-]", "_", c["kpmId"]) + ".psk")
        if not psk.exists():
            write_private(psk, c["kpm"] + "\n")
        return [str(a) for a in (self.program("mefkey"), *args, "--mef", self.mef_uri, "--id", c["kpmId"], "--psk-file", psk,
                                 "--ae-id", ae_id)]

    def mefkey(self, *args, timeout: float = 30, **who) -> tuple[int, str, str]:
        """Run mefkey as the AE; (exit code, standard output, standard error)."""
        done = subprocess.run(self.mefkey_argv(*args, **who), capture_output=True, text=True, timeout=timeout)
        return done.returncode, done.stdout.strip(), done.stderr.strip()

    def follow(self, eui64: str, *options, **who) -> Process:
        return self.spawn("mefkey-open", self.mefkey_argv("open", eui64, "--follow", *options, **who), events=True)

    def sniff(self, pcap: Path, ready_fd: int) -> Process:
        return self.spawn("sniffer", [PYTHON, SIM / "sniffer.py", "--medium", self.medium, "--channel", self.channel, "--ready-fd",
                                      ready_fd, pcap], pass_fds=(ready_fd,))

    def capture(self, pcap: Path) -> Process:
        """sniff(), which listens when this returns."""
        ready, listening = os.pipe()
        os.set_inheritable(listening, True)
        sniffer = self.sniff(pcap, listening)
        os.close(listening)
        with os.fdopen(ready, "rb") as inlet:
            if inlet.read(1) != b"\n":
                raise StackError("the sniffer does not listen")
        return sniffer

    def link_key(self, code: str) -> str:
        done = subprocess.run([self.program("mefctl"), "zigbee", "link-key"], input=json.dumps({"install_code": code}) + "\n",
                              capture_output=True, text=True, timeout=30)
        return json.loads(done.stdout)["link_key"]


def set_option(path: Path, section: str, key: str, value: str):
    """Set one option of an INI file, keeping everything else."""
    lines, out, inside, done = path.read_text().splitlines(), [], False, False
    for line in lines:
        head = re.match(r"\s*\[([^\]]+)\]", line)
        if head:
            if inside and not done:
                out.append(f"{key} = {value}")
                done = True
            inside = head[1] == section
        if inside and re.match(rf"\s*{re.escape(key)}\s*=", line):
            if not done:
                out.append(f"{key} = {value}")
            done = True
            continue
        out.append(line)
    if not done:
        out += ([] if inside else [f"[{section}]"]) + [f"{key} = {value}"]
    mode = stat.S_IMODE(path.stat().st_mode)
    path.write_text("\n".join(out) + "\n")
    path.chmod(mode)


def http_get(port: int, path: str) -> str:
    """Plain HTTP/1.1 on loopback, for health and metrics; "" when nobody answers."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
            s.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            data = b""
            while chunk := s.recv(65536):
                data += chunk
    except OSError:
        return ""
    return data.decode(errors="replace")


def http_status(port: int, path: str) -> int:
    answer = re.match(r"HTTP/1\.1 (\d+)", http_get(port, path))
    return int(answer[1]) if answer else 0


def tcp_listening(port: int) -> bool:
    """Is someone listening? Looked up without connecting: a serial-like server takes one client."""
    wanted = f"0100007F:{port:04X}"
    with open("/proc/net/tcp") as table:
        return any(f[1] in (wanted, f"00000000:{port:04X}") and f[3] == "0A" for f in map(str.split, table) if len(f) > 3)


NETWORK_KEY, LINK_KEY = 0x01, 0x04  # what a Transport-Key carries


def keys_by_tshark(pcap: Path, link_key: str, home: Path, kind: int = NETWORK_KEY) -> set[str]:
    """The keys of a kind that tshark finds transported in a capture given only a link key."""
    home.mkdir(parents=True, exist_ok=True)
    colons = ":".join(re.findall("..", link_key))
    env = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home)}
    done = subprocess.run(["tshark", "-r", str(pcap), "-o", f'uat:zigbee_pc_keys:"{colons}","Normal","IC"', "-Y",
                           f"zbee_aps.cmd.key_type == {kind}", "-T", "fields", "-e", "zbee_aps.cmd.key"], capture_output=True, text=True, env=env, timeout=60)
    if done.returncode != 0:
        raise StackError(f"tshark: {done.stderr.strip()}")
    return {line.replace(":", "").strip().lower() for line in done.stdout.splitlines() if line.strip()}
