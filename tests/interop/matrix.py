#!/usr/bin/python3
"""Our CoAP endpoint against libcoap, node-coap, node-dtls-client and GnuTLS, both ways, over IPv4 and IPv6; plain, PSK and
certificate: bodies from 1 byte to 100 KiB, observations, separate answers, NON, every datagram twice, and a relay that
loses a fifth. Every transfer has to be byte-equal.
    matrix.py BUILD NODE-MODULES [REGEX]     only blocks whose name matches; ends with 'N passed, N failed'"""
import contextlib
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from relay import Relay  # noqa: E402

LONG = os.environ.get("MEF_TIER") == "long"
SEED = int(os.environ.get("MEF_SEED", "1"))
HOSTS = ("127.0.0.1", "::1")
PATIENCE = 170 if LONG else 45  # seconds of libcoap's client, which repeats after two at the earliest
IDENTITY, KEY, SAN = "alice", "secretPSK0123456", "C-ae7"


@dataclass(frozen=True)
class Security:
    """How each peer's command is told what to use, and by which name our server then knows the client."""
    name: str
    server: tuple = ()           # cep_tool
    client: tuple = ()           # cep_tool
    libcoap_server: tuple = ()
    libcoap_client: tuple = ()
    gnutls: tuple = ()           # gnutls-cli: its options, and the key exchange
    known_as: bytes = b""


def securities(folder: Path) -> tuple:
    ca = issue(folder)
    hexkey = KEY.encode().hex()
    return (Security("plain"),
            Security("PSK", (IDENTITY, KEY), (IDENTITY, KEY), ("-k", KEY, "-h", ""), ("-u", IDENTITY, "-k", KEY),
                     (("--pskusername", IDENTITY, "--pskkey", hexkey), "PSK"), IDENTITY.encode()),
            Security("certificate", (f"@{ca}", folder / "server"), (f"@{ca}", folder / "client"),
                     ("-c", folder / "server.crt", "-j", folder / "server.key", "-C", ca),
                     ("-c", folder / "client.crt", "-j", folder / "client.key", "-C", ca),
                     (("--x509cafile", ca, "--x509certfile", folder / "client.crt", "--x509keyfile", folder / "client.key"),
                      "ECDHE-ECDSA"), SAN.encode()))


def issue(folder: Path) -> Path:
    """A P-256 authority, and of it the certificates of a server and a client."""
    def openssl(*argv):
        subprocess.run(["openssl", *map(str, argv)], check=True, capture_output=True)
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    ca = folder / "ca.crt"
    openssl("req", "-x509", *key, "-keyout", folder / "ca.key", "-out", ca, "-subj", "/CN=CA", "-days", 2)
    for name, san in (("server", "DNS:localhost,IP:127.0.0.1,IP:::1"), ("client", f"URI:{SAN}")):
        at = folder / name
        openssl("req", "-new", *key, "-keyout", f"{at}.key", "-out", f"{at}.csr", "-subj", f"/CN={name}")
        at.with_suffix(".ext").write_text(f"subjectAltName={san}\n")
        openssl("x509", "-req", "-in", f"{at}.csr", "-CA", ca, "-CAkey", folder / "ca.key", "-CAcreateserial", "-days", 2,
                "-out", f"{at}.crt", "-extfile", f"{at}.ext")
    return ca


def sizes(host: str) -> tuple:
    """Bytes of the bodies; over IPv6, but for the long tier, the ends and the edge of a block."""
    return (1, 16, 1023, 1024, 1025, 4096, 65536, 102400) if LONG or host == HOSTS[0] else (1, 1025, 102400)


def free_pair(host: str) -> int:
    """A port that is free, and so is the next one."""
    while True:
        with contextlib.ExitStack() as stack:
            one, two = (stack.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM))
                        for _ in range(2))
            one.bind((host, 0))
            port = one.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                two.bind((host, port + 1))
                return port


def counted(lines, count: int) -> bool:
    """So many numbers, or more, each larger than the one before."""
    numbers = [int(n) for n in (lines or b"").split()]
    return len(numbers) >= count and numbers == sorted(set(numbers))


class Matrix:
    def __init__(self, build: Path, modules: Path, folder: Path):
        self.tool, self.folder, self.passed, self.failed = build / "tests/interop/cep_tool", folder, 0, 0
        self.env = {**os.environ, "NODE_PATH": str(modules / "node_modules")}
        self.children, self.random, self.began = [], random.Random(SEED), time.monotonic()

    def check(self, name: str, good, why=""):
        self.passed, self.failed = self.passed + bool(good), self.failed + (not good)
        print(f"{'ok' if good else 'FAILED':<7} {time.monotonic() - self.began:6.1f} s  {name} {'' if good else why}", flush=True)

    # --- commands -----------------------------------------------------------------------------------------------------

    def run(self, *argv, data=b"", timeout=60, fast=False):
        """What it says; None when it fails. `fast`: our endpoint repeats soon, and more often."""
        env = {**self.env, **({"CEP_ACK_MS": "50"} if fast else {})}
        try:
            done = subprocess.run([str(a) for a in argv], input=data, capture_output=True, timeout=timeout, env=env)
        except subprocess.TimeoutExpired:
            return None
        return done.stdout if done.returncode == 0 else None

    def serve(self, *argv) -> int:
        child = subprocess.Popen([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                 env={**self.env, "CEP_ACK_MS": "50"})
        self.children.append(child)
        return int(child.stdout.readline())

    def serve_libcoap(self, host, how: Security) -> int:
        port = free_pair(host)
        argv = ["coap-server-openssl", "-A", host, "-p", port, "-d", 10, *how.libcoap_server]
        self.children.append(subprocess.Popen([str(a) for a in argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        time.sleep(0.5)
        return port + bool(how.libcoap_server)  # DTLS is one above

    def libcoap(self, method, host, port, path, how: Security, body=None, *more):
        out, given = self.folder / "out", self.folder / "in"
        out.write_bytes(b"")
        where = f"{'coaps' if how.libcoap_client else 'coap'}://{f'[{host}]' if ':' in host else host}:{port}/{path}"
        argv = ["coap-client-openssl", "-B", PATIENCE, *more, "-o", out, "-m", method, *how.libcoap_client]
        if body is not None:
            given.write_bytes(body)
            argv += ["-f", given]
        return out.read_bytes() if self.run(*argv, where, timeout=PATIENCE + 10) is not None else None

    def persistent(self, host, port, path, how: Security, body: bytes) -> bool:
        """libcoap's client gives up after four repeats of a datagram, which a bad road makes likely over many blocks, and
        writes a piece twice that comes twice, from its own server too. It may begin anew, as long as no piece is wrong."""
        pieces = {body[i:i + 16] for i in range(0, len(body), 16)}
        for _ in range(6):
            said = self.libcoap("get", host, port, path, how) or b""
            if said == body:
                return True
            if any(said[i:i + 16] not in pieces for i in range(0, len(said), 16)):
                break
        return False

    def node(self, *argv, data=b""):
        return self.run("node", HERE / "strangers.js", *argv, data=data)

    def ours(self, host, port, method, path, how: Security, data=b"", fast=False):
        return self.run(self.tool, "client", host, port, method, path, *how.client, data=data, fast=fast)

    def watch(self, host, port, path, how: Security, count=3, fast=False):
        return self.run(self.tool, "observe", host, port, count, path, *how.client, fast=fast)

    @staticmethod
    def again(ask, *args):
        """Over a bad road a handshake may not come about in the thirty seconds that it has: then anew, as users do."""
        for _ in range(3):
            said = ask(*args, fast=True)
            if said is not None:
                break
        return said

    # --- strangers against our server ---------------------------------------------------------------------------------

    def our_server(self, host: str, how: Security):
        kind = f"libcoap client, {how.name} {host}"
        port = self.serve(self.tool, "server", host, 0, *how.server)
        for size in sizes(host):
            body = self.random.randbytes(size)
            self.libcoap("put", host, port, "kept", how, body)
            self.check(f"{kind}: PUT and GET {size}", self.libcoap("get", host, port, "kept", how) == body)
        for size in (1, 1025, len(body)):
            body = self.random.randbytes(size)
            self.libcoap("put", host, port, "kept", how, body, "-N")
            self.check(f"{kind}: NON PUT and GET {size}", self.libcoap("get", host, port, "kept", how, None, "-N") == body)
        self.check(f"{kind}: separate", self.libcoap("get", host, port, "slow", how) == b"slow")
        seen = self.libcoap("get", host, port, "state", how, None, "-s", "2")
        self.check(f"{kind}: observe", counted(seen, 5), seen)
        self.check(f"{kind}: known by name", self.libcoap("get", host, port, "whoami", how) == how.known_as)
        if not how.server:
            self.node_client(host, port)
        else:
            self.gnutls(host, port, how)
        if how.name == "PSK":
            said = self.node("dtls-get", host, port, "whoami", IDENTITY, KEY)
            self.check(f"node-dtls-client, PSK {host}: CCM_8 and GET", said == how.known_as, said)

    def node_client(self, host, port):
        kind = f"node-coap client, plain {host}"
        for size in sizes(host):
            body = self.random.randbytes(size)
            self.node("put", host, port, "kept", data=body)
            self.check(f"{kind}: PUT and GET {size}", self.node("get", host, port, "kept") == body)
        self.check(f"{kind}: NON", self.node("get-non", host, port, "kept") == body)
        self.check(f"{kind}: separate", self.node("get", host, port, "slow") == b"slow")
        said = self.node("observe", host, port, "state")
        self.check(f"{kind}: observe", counted(said, 3), said)

    def gnutls(self, host, port, how: Security):
        """gnutls-cli sends what it reads as lines: a NON GET of /whoami whose payload is the line's end."""
        options, exchange = how.gnutls
        for cipher in ("AES-128-CCM-8", "AES-128-CCM", "AES-128-GCM"):
            argv = ["timeout", 10, "gnutls-cli", "--udp", "--port", port, host, *options, "--priority",
                    f"NORMAL:-KX-ALL:+{exchange}:-CIPHER-ALL:+{cipher}:-VERS-ALL:+VERS-DTLS1.2"]
            child = subprocess.Popen([str(a) for a in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT)
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(b"\x51\x01AB\x01\xb6whoami\xff\n")
                child.stdin.flush()
            time.sleep(1)
            said = child.communicate()[0]
            self.check(f"gnutls-cli, {how.name} {host}: {cipher} and GET",
                       b"Handshake was completed" in said and b"\xff" + how.known_as in said, said[-200:])

    # --- our client against strangers ---------------------------------------------------------------------------------

    def our_client(self, host: str, how: Security):
        port = self.serve_libcoap(host, how)
        self.transfers(f"libcoap server, {how.name} {host}", host, port, how)
        said = self.ours(host, port, "GET", "async?1", how)
        self.check(f"libcoap server, {how.name} {host}: separate", said == b"done", said)
        if not how.server:
            self.transfers(f"node-coap server, plain {host}", host, self.serve("node", HERE / "strangers.js", "serve", host), how)

    def transfers(self, kind, host, port, how):
        for size in sizes(host):
            body = self.random.randbytes(size)
            self.ours(host, port, "PUT", "kept", how, body)
            self.check(f"{kind}: PUT and GET {size}", self.ours(host, port, "GET", "kept", how) == body)
        self.check(f"{kind}: observe", self.watch(host, port, "time", how, 3))

    # --- a bad road ---------------------------------------------------------------------------------------------------

    def bad_road(self, host: str, how: Security):
        kind = f"{how.name} {host}"
        port, theirs = self.serve(self.tool, "server", host, 0, *how.server), self.serve_libcoap(host, how)
        relay, other = Relay(host, port, SEED), Relay(host, theirs, SEED + 1)
        some = (4096, 102400) if host == HOSTS[0] and not how.server else (4096,)
        for size in (1, 4096, 102400) if LONG else some:
            body = self.random.randbytes(size)
            self.put(f"bad road, ours, {kind}", host, relay.port, port, how, body)
            self.check(f"bad road, ours, {kind}: GET {size}",
                       self.again(self.ours, host, relay.port, "GET", "kept", how) == body)
        for size in (1, 256, 4096, 102400) if LONG else (256,):
            body = self.random.randbytes(size)
            # libcoap's server acts on a request as often as it comes, and then takes the last piece for the whole; behind a
            # bad road our pieces have 256 bytes.
            self.put(f"bad road, libcoap server, {kind}", host, other.port if size <= 256 else theirs, theirs, how, body)
            self.check(f"bad road, libcoap server, {kind}: GET {size}",
                       self.again(self.ours, host, other.port, "GET", "kept", how) == body)
        seen = self.again(self.watch, host, relay.port, "state", how, 5)
        self.check(f"bad road, ours, {kind}: observe", counted(seen, 5), seen)
        said = self.again(self.ours, host, relay.port, "GET", "slow", how)
        self.check(f"bad road, ours, {kind}: separate", said == b"slow", said)
        body = self.random.randbytes(16384 if LONG else 2000)
        self.ours(host, port, "PUT", "kept", how, body)
        if LONG or host == HOSTS[0]:
            self.check(f"bad road, libcoap client, {kind}: GET {len(body)}",
                       self.persistent(host, relay.port, "kept", how, body))
        self.check(f"bad road, {kind}: it was bad", relay.lost + other.lost > 2)
        relay.close()
        other.close()

    def put(self, kind, host, port, direct, how, body):
        """Over `port`, and read back over `direct`."""
        sent = self.again(self.ours, host, port, "PUT", "kept", how, body)
        self.check(f"{kind}: PUT {len(body)}", sent is not None and self.ours(host, direct, "GET", "kept", how) == body)

    def twice(self, host: str, how: Security):
        """Every datagram of either side comes twice, and is acted on once."""
        kind = f"every datagram twice, {how.name} {host}"
        port, theirs = self.serve(self.tool, "server", host, 0, *how.server), self.serve_libcoap(host, how)
        relay, other = (Relay(host, p, SEED, loss=0, double=1, late=0) for p in (port, theirs))
        hits = [self.ours(host, relay.port, "POST", "hits", how, fast=True) for _ in range(3)]
        hits += [self.libcoap("post", host, relay.port, "hits", how) for _ in range(2)]
        self.check(f"{kind}: done once", hits == [b"%d\n" % n for n in range(1, 6)], hits)
        body = self.random.randbytes(5000)
        self.libcoap("put", host, relay.port, "kept", how, body)
        self.check(f"{kind}, libcoap client: PUT and GET", self.libcoap("get", host, relay.port, "kept", how) == body)
        if not how.server:  # as above, but for what DTLS has seen
            body = body[:256]
        self.ours(host, other.port, "PUT", "kept", how, body)
        self.check(f"{kind}, libcoap server: PUT and GET", self.ours(host, other.port, "GET", "kept", how) == body)
        seen = self.watch(host, relay.port, "state", how, 5)
        self.check(f"{kind}: observe", counted(seen, 5), seen)
        relay.close()
        other.close()

    def stop(self):
        for child in self.children:
            child.kill()
            child.communicate()
        self.children = []


def main() -> int:
    if len(sys.argv) not in (3, 4):
        print(__doc__, file=sys.stderr)
        return 2
    print(f"seed {SEED}")
    wanted = re.compile(sys.argv[3] if len(sys.argv) > 3 else ".")
    with tempfile.TemporaryDirectory(prefix="mef-interop-") as name:
        folder = Path(name)
        m = Matrix(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), folder)
        for host in HOSTS:
            for how in securities(folder):
                for block in (m.our_server, m.our_client, m.bad_road, m.twice):
                    title, began = f"{block.__name__} {how.name} {host}", time.monotonic()
                    if not wanted.search(title):
                        continue
                    with contextlib.ExitStack() as stack:
                        stack.callback(m.stop)
                        block(host, how)
                    print(f"-- {title}: {time.monotonic() - began:.1f} s", flush=True)
    print(f"{m.passed} passed, {m.failed} failed")
    return 0 if m.passed and not m.failed else 1


if __name__ == "__main__":
    sys.exit(main())
